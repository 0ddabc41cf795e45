"""Handlers of OAuth2 logins, on the control socket."""

from __future__ import annotations

from inboxd import granting
from inboxd.api.wire.oauth import FinishedLogin, GrantDto, LoginDto, NewLogin
from inboxd.errors import NotFound
from inboxd.model import ConnectorId
from inboxd.services import Services
from inboxd.store import connectors, grants


async def begin_login(services: Services, id: ConnectorId, body: NewLogin) -> LoginDto:
    """Begin to have the connector's mailbox consented to."""
    return LoginDto.of(await granting.begin(services, id, body.wish()))


async def finish_login(services: Services, login: str, body: FinishedLogin) -> LoginDto:
    """The grant, once a person has consented; without one it is to be asked again."""
    grant = await granting.finish(services, login, body.answer)
    return LoginDto(login=login) if grant is None else LoginDto(grant=GrantDto.of(grant))


async def get_grant(services: Services, id: ConnectorId) -> GrantDto:
    """The connector's grant."""
    connector = await connectors.get(services.store, id)
    grant = await grants.find(services.store, connector.id)
    if grant is None:
        raise NotFound(f"connector {connector.name or connector.id} has no OAuth2 grant")
    return GrantDto.of(grant)


async def get_grants(services: Services) -> list[GrantDto]:
    """All grants, oldest first."""
    return [GrantDto.of(grant) for grant in await grants.every(services.store)]


async def remove_grant(services: Services, id: ConnectorId) -> None:
    """Forget the connector's grant."""
    await granting.remove(services, id)
