"""How a connector's mailbox stands with OAuth2: the consent that opens it, or that it waits for somebody to sign in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from inboxd.consents import Grant, provider_at
from inboxd.dashboard.guidance import TITLES
from inboxd.model import Connection, ConnectorId
from inboxd.services import Services
from inboxd.store import grants


@final
@dataclass(frozen=True, slots=True)
class Standing:
    """`waits`: it has neither a consent nor a password. `offered`: its provider takes OAuth2, as is known."""

    grant: Grant | None
    waits: bool
    offered: bool

    @property
    def asks(self) -> bool:
        """Whether nothing comes of it before a person signs in."""
        return self.waits or (self.grant is not None and self.grant.refused is not None)

    @property
    def way(self) -> str:
        """How the consent was come by, in a page's words."""
        return TITLES[self.grant.flow] if self.grant is not None else ""


async def standing(services: Services, id: ConnectorId, connections: Iterable[Connection | None]) -> Standing:
    """That of a connector with these connections."""
    there = [one for one in connections if one is not None]
    grant = await grants.find(services.store, id)
    waits = grant is None and id in await grants.awaited(services.store)
    return Standing(grant, waits, any(provider_at(one.host) is not None for one in there))
