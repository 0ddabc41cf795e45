"""How many mails may go now, where no more than so many may in so long: sliding windows over what went before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import final


@final
class Allowance:
    """`limits` are pairs of how many and in how many seconds; none means no limit. `past` is what went already."""

    def __init__(self, limits: Sequence[tuple[int, float]], past: Iterable[datetime] = ()) -> None:
        self._limits = [(most, timedelta(seconds=seconds)) for most, seconds in limits]
        self._past = deque(sorted(past))

    def spend(self, now: datetime, count: int = 1) -> None:
        """So many more went now."""
        if self._limits:
            self._past.extend([now] * count)

    def used(self, now: datetime, seconds: float) -> int:
        """How many went in the last so many seconds, no more than the longest window of a limit is known."""
        since = now - timedelta(seconds=seconds)
        return sum(at > since for at in self._past)

    def free(self, now: datetime, most: int) -> tuple[int, float]:
        """How many may go now, at most `most`; when that is 0, the seconds until one may."""
        longest = max((span for _, span in self._limits), default=timedelta())
        while self._past and self._past[0] <= now - longest:
            self._past.popleft()
        wait = 0.0
        for limit, span in self._limits:
            recent = [at for at in self._past if at > now - span]
            if len(recent) >= limit:
                frees_at = recent[len(recent) - limit] + span
                wait = max(wait, (frees_at - now).total_seconds())
            most = min(most, limit - len(recent))
        return max(most, 0), wait
