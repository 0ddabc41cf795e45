"""What a connector's account has downloaded of what it may in a day, for those who look: status, metrics, words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import final

from inboxd import metrics
from inboxd.budgets import Budgets
from inboxd.model import Connection, DayBudget, utc_now
from inboxd.traffic import Traffic


@final
class Quota:
    """One connector's. `resting` says whether a first load of it was left for later."""

    def __init__(self, budgets: Budgets, connection: Connection, label: str, resting: Callable[[], bool]) -> None:
        self._budgets = budgets
        self._connection = connection
        self._resting = resting
        metrics.BACKFILL_RESTS.labels(label).set_function(lambda: float(self._resumes_at() is not None))
        if self._traffic is not None:
            metrics.DOWNLOAD_RATIO.labels(label).set_function(self._ratio)

    def now(self) -> DayBudget | None:
        """As of now; None where nothing limits it."""
        traffic = self._traffic
        return DayBudget(traffic.used_bytes, traffic.limit_bytes, self._resumes_at()) if traffic is not None else None

    @property
    def _traffic(self) -> Traffic | None:
        """Asked for each time: a budget that nobody uses is forgotten."""
        return self._budgets.of(self._connection.host, self._connection.username or "").traffic

    def _ratio(self) -> float:
        traffic = self._traffic
        return traffic.used_bytes / traffic.limit_bytes if traffic is not None else 0.0

    def _resumes_at(self) -> datetime | None:
        traffic = self._traffic
        seconds = traffic.rest_seconds() if traffic is not None and self._resting() else 0.0
        return utc_now() + timedelta(seconds=seconds) if seconds else None


def rest_words(budget: DayBudget) -> str | None:
    """Why a first load rests, and until when; None when none does."""
    if budget.resumes_at is None:
        return None
    used, limit = (f"{count / 1e6:,.0f}" for count in (budget.used_bytes, budget.limit_bytes))
    return (
        f"the first load rests until {budget.resumes_at:%Y-%m-%d %H:%M} UTC, new mail is fetched:"
        f" {used} of the {limit} MB that may be downloaded in a day are used"
    )
