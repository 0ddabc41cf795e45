"""In-process hints: "look again". Bounded and lossy on purpose, because the store is the truth."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from typing import final
from uuid import UUID


@final
class Hint:
    """A subscriber's flag. `wait` returns after the next publish on its topic; several publishes fold into one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the subscriber now or at its next wait."""
        self._event.set()

    @property
    def rung(self) -> bool:
        """Whether something happened since `wait` last returned."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Until something happened since the last return."""
        await self._event.wait()
        self._event.clear()


@final
class Bus:
    """Subscribe before the first look, look, wait, look again: no wake-up is lost."""

    def __init__(self) -> None:
        self._topics: defaultdict[UUID | None, set[Hint]] = defaultdict(set)

    @contextmanager
    def subscribe(self, topic: UUID | None = None, hint: Hint | None = None) -> Generator[Hint]:
        """A hint for one inbox, or for everything with None, until the block ends; `hint`: one that others ring too."""
        hint = hint or Hint()
        self._topics[topic].add(hint)
        try:
            yield hint
        finally:
            self._topics[topic].discard(hint)
            if not self._topics[topic]:
                del self._topics[topic]

    def publish(self, topic: UUID) -> None:
        """Something about `topic` was committed."""
        for key in (topic, None):
            for hint in self._topics.get(key, ()):
                hint.ring()
