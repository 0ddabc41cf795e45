"""How many bytes an account has downloaded within a day, by the hour: what providers limit, and lock out for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final, final

LOAD_SHARE: Final = 0.8  # of a day's bytes: what is left is for new mail
KEPT_HOURS: Final = 24  # beside the one that runs: no limit of a day is passed, wherever the provider's day begins
_HOUR_SECONDS: Final = 3600
Clock = Callable[[], float]


@final
class Traffic:
    """What one account has downloaded, of so many bytes that it may in 24 hours. Nothing is ever stopped by it but
    first loads, by whoever asks `rest_seconds`.
    """

    def __init__(self, limit_bytes: int, clock: Clock = time.time) -> None:
        self.limit_bytes = limit_bytes
        self._clock = clock
        self._hours: Counter[int] = Counter()
        self._fresh: Counter[int] = Counter()
        self._meters: dict[object, tuple[Callable[[], int], int]] = {}

    @contextmanager
    def metered(self, received_bytes: Callable[[], int]) -> Generator[None]:
        """Count what a connection has received; it is asked when somebody wants to know, and at the end."""
        meter = object()
        self._meters[meter] = (received_bytes, 0)
        try:
            yield
        finally:
            self._settle()
            del self._meters[meter]

    @property
    def used_bytes(self) -> int:
        """In the hour that runs and the 24 before."""
        self._settle()
        return self._hours.total()

    @property
    def idle(self) -> bool:
        """Whether nothing is known of it that is worth keeping."""
        return not self._meters and not self._fresh and not self.used_bytes

    def rest_seconds(self) -> float:
        """For how long first loads rest; 0: they may go on."""
        left, most = self.used_bytes, LOAD_SHARE * self.limit_bytes
        if left < most:
            return 0.0
        for hour in sorted(self._hours):
            left -= self._hours[hour]
            if left < most:
                return max(1.0, (hour + KEPT_HOURS + 1) * _HOUR_SECONDS - self._clock())
        return 0.0

    def restore(self, hours: Mapping[int, int]) -> None:
        """What was counted before this program began: bytes by the hour, counted from 1970."""
        self._hours.update(hours)

    def take_fresh(self) -> dict[int, int]:
        """What was counted since this was called last, to be kept."""
        self._settle()
        fresh, self._fresh = self._fresh, Counter()
        return dict(fresh)

    def put_back(self, hours: Mapping[int, int]) -> None:
        """That could not be kept: it is fresh again."""
        self._fresh.update(hours)

    def _settle(self) -> None:
        hour = this_hour(self._clock)
        for meter, (received_bytes, counted) in self._meters.items():
            now = received_bytes()
            if now > counted:
                self._hours[hour] += now - counted
                self._fresh[hour] += now - counted
                self._meters[meter] = (received_bytes, now)
        for old in [each for each in self._hours if each < hour - KEPT_HOURS]:
            del self._hours[old]


def this_hour(clock: Clock = time.time) -> int:
    """The hour that runs, counted from 1970."""
    return int(clock() // _HOUR_SECONDS)
