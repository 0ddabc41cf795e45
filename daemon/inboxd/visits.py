"""Logins at OAuth2 providers that somebody has begun: kept in memory until they are done, or nobody finishes them."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Final, final

from inboxd.consents import Application, DeviceCode
from inboxd.errors import Conflict, NotFound
from inboxd.model import ConnectorId
from inboxd.oauth.flows import Visit

_MOST: Final = 100
VISIT_SECONDS: Final = 1800.0


@final
@dataclass(slots=True)
class Underway:
    """A login that a person is busy with: a page to come back from, or a code to type in. Times are monotonic."""

    connector_id: ConnectorId
    application: Application
    other_mailbox: bool
    ends_at: float
    visit: Visit | None = None
    code: DeviceCode | None = None
    look_at: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@final
class Visits:
    """The logins under way, by ids that cannot be guessed."""

    def __init__(self) -> None:
        self._underway: dict[str, Underway] = {}

    def add(self, login: Underway) -> str:
        """Keep it; its id. Conflict when too many are under way."""
        now = time.monotonic()
        self._underway = {key: one for key, one in self._underway.items() if one.ends_at > now}
        if len(self._underway) >= _MOST:
            raise Conflict(f"{_MOST} logins are under way; finish one, or wait until they have expired")
        key = secrets.token_urlsafe(16)
        self._underway[key] = login
        return key

    def get(self, key: str) -> Underway:
        """The login under way; NotFound when there is none, or nobody finished it in time."""
        found = self._underway.get(key)
        if found is None or found.ends_at <= time.monotonic():
            raise NotFound("this login is not under way any more: begin anew with inboxctl oauth login")
        return found

    def end(self, key: str) -> None:
        """It is done, or came to nothing."""
        self._underway.pop(key, None)
