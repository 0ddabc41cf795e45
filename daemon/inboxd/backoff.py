"""Exponential back-off with full jitter: many clients cut off together do not come back together."""

from __future__ import annotations

import random


class Backoff:
    """Seconds to wait before the next try: uniform in [ceiling / 2, ceiling], ceiling doubling from `first` to `most`.

    Half the ceiling is fixed so that the wait really grows; the other half spreads the crowd. A floor asked for by the
    server raises both ends, so that the crowd does not meet on the floor either.
    """

    def __init__(self, first_seconds: float = 1.0, most_seconds: float = 600.0) -> None:
        self.first_seconds = first_seconds
        self.most_seconds = most_seconds
        self.failures = 0

    def reset(self) -> None:
        """Start small again; called once a session has proven stable, not merely opened."""
        self.failures = 0

    def next_seconds(self, *, at_least: float = 0.0) -> float:
        """The wait before the next try, never under `at_least` seconds (what the server asked for)."""
        ceiling = min(self.most_seconds, self.first_seconds * 2.0 ** min(self.failures, 32))
        self.failures += 1
        low = max(ceiling / 2, at_least)
        return random.uniform(low, max(ceiling, low * 1.25))  # noqa: S311
