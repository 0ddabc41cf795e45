"""Every page and action of the dashboard, one row each."""

from __future__ import annotations

from typing import Final

from inboxd.dashboard import live, overview, system
from inboxd.dashboard.page import Row

ROWS: Final = (
    Row("GET", "/", overview.show),
    Row("GET", "/ui/live", live.stream),
    Row("GET", "/ui/system", system.show),
)
