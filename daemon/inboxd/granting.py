"""A connector's OAuth2 grant, from the first question to the stored consent: begun, finished, proved, put in place.

What is stored before stays in use until the new consent is known to open the connector's own mailbox.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, final
from uuid import uuid4

from inboxd import consents, logs
from inboxd.accounts import open_account
from inboxd.consents import ANY_TENANT, OTHER, Application, Endpoints, Flow, Grant, Issued, Provider, checked_url
from inboxd.dial import dial, dial_smtp
from inboxd.errors import (
    AnotherMailbox,
    AuthRefused,
    Conflict,
    ConsentRefused,
    Invalid,
    MailServerError,
    NotFound,
    TokenUnavailable,
)
from inboxd.model import Bearer, Connection, Connector, ConnectorId, Kind, Secret, utc_now
from inboxd.oauth import flows
from inboxd.outbox import WORK
from inboxd.services import Services
from inboxd.store import connectors, grants
from inboxd.tokens import application_of, forget_refusal, place_of, sealed, way_of
from inboxd.visits import VISIT_SECONDS, Underway

LOOK_SECONDS: Final = 20.0  # how long one call waits for a person to type a code in
_log = logs.logger("granting")


@final
@dataclass(frozen=True, slots=True)
class Wish:
    """What a login is asked to be; None: as the grant in place has it, else what the provider stands for."""

    provider: str | None = None
    flow: Flow | None = None
    client_id: str | None = None
    secret: Secret | None = None
    tenant: str | None = None
    scopes: tuple[str, ...] = ()
    subject: str | None = None
    token_url: str | None = None
    authorize_url: str | None = None
    device_url: str | None = None
    identity_url: str | None = None
    redirect_uri: str | None = None
    redirect_port: int | None = None
    other_mailbox: bool = False


@final
@dataclass(frozen=True, slots=True)
class Begun:
    """What is to be done next: nothing if there is a `grant`, else to open a page, or to type a code in at one."""

    login: str | None = None
    page: str | None = None
    user_code: str | None = None
    ends_in_seconds: float = 0.0
    grant: Grant | None = None


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """The connector that a grant is for, its connections, and the grant it has."""

    connector: Connector
    connections: tuple[Connection, ...]
    grant: Grant | None

    @property
    def login(self) -> str:
        """Who logs in."""
        return next((one.username for one in self.connections if one.username), self.connector.email_address or "")

    @property
    def names(self) -> frozenset[str]:
        """All that its mailbox goes by, in small letters."""
        names = [one.username for one in self.connections] + [self.connector.email_address]
        return frozenset(name.casefold() for name in [*names, self.grant.mailbox if self.grant else None] if name)


async def begin(services: Services, connector_id: ConnectorId, wish: Wish) -> Begun:
    """Begin a login. A flow without a person is done at once.

    Invalid names what is missing or wrong; Conflict, NotFound; ConsentRefused, TokenUnavailable.
    """
    place = await _place(services, connector_id)
    application = _application(services, place, wish)
    ends_at = time.monotonic() + VISIT_SECONDS
    login = Underway(connector_id, application, wish.other_mailbox, ends_at)
    if application.flow in (Flow.CLIENT_CREDENTIALS, Flow.SERVICE_ACCOUNT):
        return Begun(grant=await _accept(services, login, await flows.act(application)))
    if application.flow is Flow.DEVICE:
        code = login.code = await flows.begin_device(application)
        login.look_at = time.monotonic() + code.interval_seconds
        login.ends_at = min(ends_at, time.monotonic() + code.life_seconds)
        page, user_code = code.verification_uri, code.user_code
    else:
        known = consents.PROVIDERS.get(application.provider)
        redirect_uri = checked_url("redirectUri", wish.redirect_uri or _loopback(known, wish.redirect_port))
        hint = place.login if "@" in place.login else place.connector.email_address
        login.visit = flows.visit(application, redirect_uri, known.extras if known else (), hint)
        page, user_code = login.visit.url, None
    _log.info("login_begun", connector=str(connector_id), provider=application.provider, flow=application.flow.value)
    ends_in = login.ends_at - time.monotonic()
    return Begun(services.visits.add(login), page, user_code, ends_in)


def _loopback(known: Provider | None, port: int | None) -> str:
    """Where a page can lead back to on the machine of whoever opens it (RFC 8252 §7.3)."""
    host = (known or consents.GOOGLE).loopback
    return f"http://{host}:{port}" if port else f"http://{host}"


async def finish(services: Services, key: str, answer: str | None, *, once: bool = False) -> Grant | None:
    """The grant, once the person has consented: by the address that the page led to, or by the code typed in.

    None: not yet, ask again; the provider is asked for a while, or `once`, as soon as it may be. Invalid for an address
    of another login, after which the right one may follow; whatever else goes wrong ends the login, and leaves the
    connector as it was.
    """
    login = services.visits.get(key)
    async with login.turn:
        services.visits.get(key)  # another call may have ended it meanwhile
        try:
            issued = await _issued(login, answer, once=once)
            grant = None if issued is None else await _accept(services, login, issued)
        except (Invalid, TokenUnavailable):
            raise
        except Exception:
            services.visits.end(key)
            raise
        if grant is not None:
            services.visits.end(key)
        return grant


async def _issued(login: Underway, answer: str | None, *, once: bool) -> Issued | None:
    if login.visit is not None:
        if not answer:
            raise Invalid("answer", "is required: the address that the provider's page led to")
        return await flows.redeem(login.application, login.visit, answer)
    assert login.code is not None
    until = time.monotonic() + LOOK_SECONDS
    until = min(login.look_at, until) if once else until
    while login.look_at <= until:
        await asyncio.sleep(max(0.0, login.look_at - time.monotonic()))
        found = await flows.poll_device(login.application, login.code)
        if isinstance(found, Issued):
            return found
        login.code = found
        login.look_at = time.monotonic() + found.interval_seconds
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    return None


async def remove(services: Services, connector_id: ConnectorId) -> None:
    """Forget the connector's grant; NotFound when it has none. What the provider keeps of it, it keeps."""
    place = await _place(services, connector_id)
    if place.grant is None:
        raise NotFound(f"connector {place.connector.name or connector_id} has no OAuth2 grant")
    await grants.remove(services.store, place.grant.id)
    forget_refusal(connector_id)
    _log.info("grant_removed", connector=str(connector_id))
    services.roster.refresh(connector_id)


# --- who asks ---------------------------------------------------------------------------------------------------------


async def _place(services: Services, connector_id: ConnectorId) -> _Place:
    connector = await connectors.get(services.store, connector_id)
    found = [await connectors.connection(services.store, connector_id, kind) for kind in Kind]
    connections = tuple(one for one in found if one is not None)
    if not connections:
        raise Conflict(f"connector {connector.name or connector_id} has neither an IMAP nor an SMTP connection yet")
    return _Place(connector, connections, await grants.find(services.store, connector_id))


def _application(services: Services, place: _Place, wish: Wish) -> Application:
    """Who is to ask, by the wish, the grant in place and the provider, in this order."""
    hosts = [one.host for one in place.connections]
    before: Application | None = None
    if place.grant is not None and wish.provider in (None, place.grant.provider):
        before = application_of(services.vault, place.grant)
    name = wish.provider or (before.provider if before is not None else None)
    known = _known(name, hosts)
    if known is None and name is None:
        raise Invalid("provider", f"is required for {hosts[0]}: google, microsoft, or other with its endpoints")
    flow = wish.flow or (before.flow if before is not None else None) or (known.flows[0] if known else Flow.CODE)
    if known is not None and flow not in known.flows:
        offered = ", ".join(one.value for one in known.flows)
        raise Invalid("flow", f"{known.name} gives mail to these flows: {offered}")
    if before is not None and before.flow is not flow:
        # Another flow asks for other scopes; the client and its secret may well be the same.
        before = replace(before, flow=flow, scopes=())
    return _checked(_merged(wish, before, known, flow, place.login))


def _known(name: str | None, hosts: Sequence[str]) -> Provider | None:
    if name is None:
        return next((one for host in hosts if (one := consents.provider_at(host)) is not None), None)
    if name != OTHER and name not in consents.PROVIDERS:
        raise Invalid("provider", f"is one of {', '.join(consents.PROVIDERS)}, {OTHER}")
    return consents.PROVIDERS.get(name)


def _merged(wish: Wish, before: Application | None, known: Provider | None, flow: Flow, login: str) -> Application:
    endpoints = before.endpoints if before is not None else Endpoints("")
    if known is not None and (before is None or wish.tenant is not None or not before.endpoints.token):
        endpoints = _in_tenant(known.endpoints, wish.tenant or ANY_TENANT)
    endpoints = Endpoints(
        wish.token_url or endpoints.token,
        wish.authorize_url or endpoints.authorize,
        wish.device_url or endpoints.device,
        wish.identity_url or endpoints.identity,
    )
    # A secret is for one client at one provider: whoever names either anew says it anew.
    is_same = before is not None and wish.client_id is None and wish.token_url is None
    secret = wish.secret or (before.secret if before is not None and is_same else None)
    client_id = wish.client_id or (before.client_id if before is not None else "")
    if flow is Flow.SERVICE_ACCOUNT:
        client_id = flows.key_file(secret).email
    scopes = wish.scopes or (before.scopes if before is not None else ()) or (known.scopes[flow] if known else ())
    subject = (wish.subject or login) if flow is Flow.SERVICE_ACCOUNT else None
    return Application(known.name if known else OTHER, flow, client_id, secret, endpoints, scopes, subject)


def _in_tenant(endpoints: Endpoints, tenant: str) -> Endpoints:
    if not tenant or not all(mark.isascii() and (mark.isalnum() or mark in ".-") for mark in tenant):
        raise Invalid("tenant", "is a directory's id or domain, for example contoso.onmicrosoft.com")
    token, *others = (
        url and url.replace("{tenant}", tenant)
        for url in (endpoints.token, endpoints.authorize, endpoints.device, endpoints.identity)
    )
    return Endpoints(token or "", *others)


def _checked(application: Application) -> Application:
    """The application; Invalid names what it lacks."""
    if not application.client_id:
        raise Invalid("clientId", "is required: the id of the application registered with the provider")
    if application.flow is Flow.CLIENT_CREDENTIALS:
        if application.secret is None:
            raise Invalid("clientSecret", "is required for this flow: give it by --client-secret-file")
        if f"/{ANY_TENANT}/" in application.endpoints.token:
            raise Invalid("tenant", "is required for this flow: the directory's id or domain")
    urls = application.endpoints
    if not urls.token:
        raise Invalid("tokenUrl", "is required: the provider's token endpoint")
    named = {"tokenUrl": urls.token, "authorizeUrl": urls.authorize, "deviceUrl": urls.device}
    for field, url in (named | {"identityUrl": urls.identity}).items():
        if url is not None:
            checked_url(field, url)
    if any(not scope or not scope.isprintable() or " " in scope for scope in application.scopes):
        raise Invalid("scopes", "are words without spaces")
    return application


# --- what was given ---------------------------------------------------------------------------------------------------


async def _accept(services: Services, login: Underway, issued: Issued) -> Grant:
    """Keep what was issued, once it is known to be for this connector's mailbox and to open it."""
    place = await _place(services, login.connector_id)
    application = login.application
    person = application.flow in (Flow.DEVICE, Flow.CODE)
    if person and issued.refresh is None:
        raise Conflict("the provider gave no refresh token: ask for offline access, mostly the scope offline_access")
    known = consents.PROVIDERS.get(application.provider)
    lacking = set(known.needed if known else ()) - set(issued.scopes or application.scopes)
    if lacking:
        raise Conflict(f"the person did not consent to {', '.join(sorted(lacking))}: log in again and tick all of it")
    names = await _names(application, issued) if person else ()
    mailbox = _owner(place, names, other_mailbox=login.other_mailbox)
    grant = _grant(services, place, application, issued, mailbox)
    await _prove(services, place, grant, issued, named=bool(names))
    await grants.put(services.store, grant)
    forget_refusal(login.connector_id)
    _log.info("grant_given", connector=str(login.connector_id), provider=grant.provider, flow=grant.flow.value)
    services.roster.refresh(login.connector_id)
    services.sends.publish(WORK)
    return grant


async def _names(application: Application, issued: Issued) -> tuple[str, ...]:
    """Whom the provider says it is for; nobody where it does not say, and the mailbox itself has to prove it."""
    if issued.names or application.endpoints.identity is None:
        return issued.names
    try:
        return await flows.identity(application.endpoints.identity, issued.access)
    except (ConsentRefused, TokenUnavailable) as error:
        _log.warning("identity_unknown", provider=application.provider, reason=str(error))
        return ()


def _owner(place: _Place, names: tuple[str, ...], *, other_mailbox: bool) -> str:
    """Whom the grant is for; AnotherMailbox when the provider names another than the connector's."""
    if not names:
        return place.login
    if other_mailbox:
        return names[0]
    found = next((name for name in names if name.casefold() in place.names), None)
    if found is None:
        raise AnotherMailbox(
            f"the consent was given by {' or '.join(names)}, and this connector is for {place.login}: sign in as that, "
            "or, if that person may open this mailbox, say --other-mailbox"
        )
    return found


def _grant(services: Services, place: _Place, application: Application, issued: Issued, mailbox: str) -> Grant:
    now, grant_id = utc_now(), uuid4()
    secret = application.secret
    known = consents.PROVIDERS.get(application.provider)
    grant = Grant(
        id=grant_id,
        connector_id=place.connector.id,
        created_at=now,
        provider=application.provider,
        flow=application.flow,
        client_id=application.client_id,
        token_url=application.endpoints.token,
        authorize_url=application.endpoints.authorize,
        device_url=application.endpoints.device,
        identity_url=application.endpoints.identity,
        scopes=application.scopes,
        subject=application.subject,
        mailbox=mailbox,
        hosts=tuple(dict.fromkeys([*map(way_of, place.connections), *(known.hosts if known else ())])),
        sealed_client_secret=services.vault.seal(secret, place_of(grant_id, "client_secret")) if secret else None,
        sealed_refresh_token=None,
        sealed_access_token=b"",
        obtained_at=now,
        expires_at=now + timedelta(seconds=issued.life_seconds),
    )
    return sealed(services.vault, grant, issued)


async def _prove(services: Services, place: _Place, grant: Grant, issued: Issued, *, named: bool) -> None:
    """Log in where the connector does; that a server is away is no harm where the provider has said whom it is for."""
    bearer = Bearer(issued.access, grant.obtained_at, grant.expires_at)
    connection = next((one for one in place.connections if one.enabled), place.connections[0])
    account = replace(open_account(services.vault, connection), grant_id=grant.id, bearer=bearer)
    try:
        async with AsyncExitStack() as stack:
            if connection.kind is Kind.IMAP:
                session = await stack.enter_async_context(dial(account, services.settings, services.budgets))
                await session.log_out()
                return
            await stack.enter_async_context(dial_smtp(account, services.settings))
    except AuthRefused as error:
        words = f"the consent was given, but does not open {account.username or 'the mailbox'} at {account.host}"
        raise Conflict(f"{words}: {error}; what was in place before stays") from error
    except MailServerError as error:
        if not named:
            raise
        _log.warning("grant_unproved", connector=str(grant.connector_id), reason=str(error))
