"""What a page's handler is given, and what it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from aiohttp import web
from multidict import MultiDict, MultiDictProxy

from inboxd.dashboard.counts import Counts
from inboxd.dashboard.sessions import Session
from inboxd.services import Services

MOST_PAGES: Final = 1_000_000
MAX_FORM_BYTES: Final = 1 << 20


@final
@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in; `form` is empty but for a POST. `counts` are what every page shows."""

    services: Services
    session: Session
    request: web.Request
    counts: Counts
    form: MultiDictProxy[Any] = field(default_factory=lambda: MultiDictProxy(MultiDict[Any]()))

    def given(self, name: str) -> str:
        """A field of the form or else of the address, without the space around it; empty when it is missing."""
        value = self.form.get(name, self.request.query.get(name, ""))
        return value.strip() if isinstance(value, str) else ""


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """A page: its template and what the template is given."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: int = 200


@final
@dataclass(frozen=True, slots=True)
class Moved:
    """Another page is to be loaded: what a form answers with when it was right."""

    path: str


def page_number(visit: Visit) -> int:
    """The page asked for, counted from 0; whatever is no page is the first."""
    asked = visit.given("page")
    return min(max(int(asked), 1), MOST_PAGES) - 1 if asked.isdecimal() and len(asked) < 9 else 0


Answered = Shown | Moved | web.StreamResponse
Handler = Callable[[Visit], Awaitable[Answered]]


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A page or an action. `large`: how large a form it takes, for files.

    A GET changes nothing; a POST comes with the session's token, or never reaches its handler.
    """

    method: str
    path: str
    handler: Handler
    large_bytes: int = MAX_FORM_BYTES
