"""How fast something goes, and how long it will take."""

from __future__ import annotations

from collections import deque
from typing import Final, final

SPAN_SECONDS: Final = 10.0


@final
class Pace:
    """Messages and bytes a second over the last 10 s, or a little more where nothing came in between."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int, int]] = deque()

    def note(self, now: float, messages: int, received_bytes: int) -> None:
        """So many messages and bytes are done in all at this moment of a steady clock."""
        self._notes.append((now, messages, received_bytes))
        while len(self._notes) > 2 and self._notes[1][0] <= now - SPAN_SECONDS:
            self._notes.popleft()

    @property
    def messages_per_second(self) -> float:
        """0 when unknown."""
        return self._rate(1)

    @property
    def bytes_per_second(self) -> float:
        """0 when unknown."""
        return self._rate(2)

    def seconds_for(self, messages: int) -> float | None:
        """How long so many messages more will take; None when unknown."""
        rate = self.messages_per_second
        return messages / rate if rate > 0 else None

    def _rate(self, which: int) -> float:
        if len(self._notes) < 2 or self._notes[-1][0] <= self._notes[0][0]:
            return 0.0
        first, last = self._notes[0], self._notes[-1]
        return (last[which] - first[which]) / (last[0] - first[0])
