"""Adding and editing a connector: an address, the servers found for it, a test of everything, and only then a start.

What was given, the password with it, waits in the session between the test and the start, not in the page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, cast
from uuid import UUID

from inboxd.accounts import open_account
from inboxd.api import connections as connection_handlers
from inboxd.api import connectors as handlers
from inboxd.api.wire import codec
from inboxd.api.wire.codec import MisfitError
from inboxd.api.wire.connections import (
    CreateConnectorImapConnectionOptions,
    CreateConnectorSmtpConnectionOptions,
)
from inboxd.api.wire.connectors import CreateConnectorOptions, CreateConnectorWithOptions, InboxQuery
from inboxd.api.wire.wishes import Wish
from inboxd.dashboard import render, staged
from inboxd.dashboard.connectors import id_of
from inboxd.dashboard.guidance import advice
from inboxd.dashboard.page import Answered, Moved, Shown, Visit
from inboxd.discover.found import Endpoint, Found, Source
from inboxd.discover.search import discover
from inboxd.errors import Conflict, Invalid, NotFound
from inboxd.model import Account, Connection, Connector, ConnectorId, Kind, Step
from inboxd.store import connectors, grants

TLS: Final = (("implicit", "TLS"), ("starttls", "STARTTLS"), ("none", "none"))
_SOURCES: Final = {
    Source.TABLE: "the list of providers that comes with inboxd",
    Source.AUTOCONFIG: "the domain's own settings file",
    Source.WELL_KNOWN: "the domain's own settings file",
    Source.ISPDB: "Thunderbird's list of providers",
    Source.SRV: "the domain's DNS, service records",
    Source.MX: "the domain's DNS, mail exchangers",
    Source.GUESS: "trying what is usual, where a server answered",
}
_FIELDS: Final = (
    "name", "email", "password",
    "imap_host", "imap_port", "imap_tls", "imap_user",
    "smtp_host", "smtp_port", "smtp_tls", "smtp_user", "smtp_password",
    "folders", "search_terms", "ssl_trust", "local_host_name",
)  # fmt: skip
_MODELS: Final = {Kind.IMAP: CreateConnectorImapConnectionOptions, Kind.SMTP: CreateConnectorSmtpConnectionOptions}
_NOBODY: Final = ConnectorId(UUID(int=0))


async def ask(visit: Visit) -> Shown:
    """The first question: whose mailbox."""
    return _form(
        visit, dict.fromkeys(_FIELDS, "") | {"email": visit.given("email")}, manual=visit.given("manual") == "1"
    )


async def answer(visit: Visit) -> Answered:
    """Find the servers, test them, or start, as the button says."""
    given = _given(visit)
    try:
        match visit.given("do"):
            case "find":
                return await _find(visit, given)
            case "test":
                return await _test(visit, given)
            case "start":
                return await _start(visit, given)
            case "oauth":
                return await _start_unsigned(visit, given)
            case _:
                return _form(visit, given, manual=True)
    except (MisfitError, Invalid, NotFound, Conflict) as error:
        return _form(visit, given, mistake=str(error), manual=visit.given("do") != "find")


async def edit(visit: Visit) -> Shown:
    """The settings of a connector; a password left empty stays as it is."""
    connector = await connectors.get(visit.services.store, id_of(visit))
    given = dict.fromkeys(_FIELDS, "") | {"name": connector.name or "", "email": connector.email_address or ""}
    for kind in Kind:
        stored = await connectors.connection(visit.services.store, connector.id, kind)
        if stored is not None:
            given |= _shown(stored)
    return _form(visit, given, connector=connector)


async def change(visit: Visit) -> Answered:
    """Test the changed settings, or keep them."""
    connector = await connectors.get(visit.services.store, id_of(visit))
    given = _given(visit)
    try:
        if visit.given("do") == "test":
            return await _test(visit, given, connector)
        if visit.given("do") == "start":
            return await _keep(visit, given, connector)
        return _form(visit, given, connector=connector)
    except (MisfitError, Invalid, NotFound, Conflict) as error:
        return _form(visit, given, mistake=str(error), connector=connector)


# --- the steps -------------------------------------------------------------------------------------------------------


async def _find(visit: Visit, given: dict[str, str]) -> Shown:
    found = await discover(given["email"], visit.services.settings.discovery)
    given["name"] = given["name"] or given["email"]
    for kind, server in (("imap", found.offer.imap), ("smtp", found.offer.smtp)):
        if server is not None:
            given |= _of_server(kind, server)
    return _form(visit, given, found=found, manual=True)


async def _test(visit: Visit, given: dict[str, str], connector: Connector | None = None) -> Answered:
    """A page that grows with the steps; its last words are what comes next."""
    accounts = await _accounts(visit, given, connector)
    token = visit.session.put_aside(given)

    async def pieces() -> AsyncIterator[str]:
        outcome: list[Step] = []
        async for piece in staged.steps(visit, accounts, outcome):
            yield piece
        values = {
            "good": bool(outcome) and all(step.ok for step in outcome),
            "token": token,
            "connector": connector,
            "csrf": visit.session.token(),
            "action": visit.request.path,
            "mailbox": next((step.detail for step in outcome if step.name == "select" and step.ok), ""),
        }
        yield render.page("setup_next.html", values)

    values = {"connector": connector, "name": given["name"] or given["email"]}
    return await staged.streamed(visit, "setup_test.html", values, pieces())


async def _start(visit: Visit, given: dict[str, str]) -> Answered:
    made = await _make(visit, given)
    visit.session.tell(f"{given['name'] or given['email']} is connected: its mail is being fetched, newest first.")
    return Moved(f"/ui/connectors/{made}")


async def _start_unsigned(visit: Visit, given: dict[str, str]) -> Answered:
    """Keep it without a password, so that nothing is tried before somebody signed in.

    Whoever came back to this from the page that follows means the same connector, not a second one.
    """
    login, store = given["imap_user"] or given["email"], visit.services.store
    given = given | {"password": "", "smtp_password": "", "smtp_user": given["smtp_user"] or login}
    before = await connectors.find(store, name=given["name"]) if given["name"] else None
    if before is not None and before.id in await grants.awaited(store):
        await _keep(visit, given, before)
        return Moved(f"/ui/connectors/{before.id}/sign-in")
    return Moved(f"/ui/connectors/{await _make(visit, given)}/sign-in")


async def _make(visit: Visit, given: dict[str, str]) -> UUID:
    """The new connector's id."""
    options = {kind: _options(given, kind) for kind in Kind}
    whole = {
        "createConnectorOptions": _own(given),
        "createConnectorImapConnectionOptions": options[Kind.IMAP],
        "createConnectorSmtpConnectionOptions": options[Kind.SMTP],
        "createConnectorSyncSettingsOptions": {"syncEnabled": True} if options[Kind.IMAP] else None,
    }
    body = cast("CreateConnectorWithOptions", codec.read(CreateConnectorWithOptions, whole))
    if not body.wishes():
        raise Invalid("imap_host", "write the host name of an IMAP server, an SMTP server, or both")
    made = await handlers.create_with_options(visit.services, InboxQuery(), body)
    return made.id


async def _keep(visit: Visit, given: dict[str, str], connector: Connector) -> Answered:
    own = cast("CreateConnectorOptions", codec.read(CreateConnectorOptions, _own(given)))
    wishes = {kind: _wish(given, kind) for kind in Kind}
    await _accounts(visit, given, connector)  # a mistake in one half changes nothing in the other
    for kind, wish in wishes.items():
        await _keep_connection(visit, connector.id, kind, wish)
    await handlers.update(visit.services, connector.id, own)
    visit.session.tell("The changes are kept, and in use from now on.")
    return Moved(f"/ui/connectors/{connector.id}")


async def _keep_connection(visit: Visit, id: ConnectorId, kind: Kind, wish: Wish | None) -> None:
    stored = await connectors.connection(visit.services.store, id, kind)
    if wish is None:
        remove = connection_handlers.delete_imap if kind is Kind.IMAP else connection_handlers.delete_smtp
        await remove(visit.services, id)
    else:
        await connection_handlers.keep(visit.services, id, wish, stored)


async def _accounts(visit: Visit, given: Mapping[str, str], connector: Connector | None) -> list[Account]:
    """What is to be tested; MisfitError and Invalid name the field that is wrong."""
    accounts: list[Account] = []
    for kind in Kind:
        wish = _wish(given, kind)
        if wish is None:
            continue
        stored = None
        if connector is not None:
            stored = await connectors.connection(visit.services.store, connector.id, kind)
        if stored is not None:
            made = await connection_handlers.changed(visit.services, wish, stored)
        else:
            owner = connector.id if connector else _NOBODY
            made = await connection_handlers.created(visit.services, wish, owner)
        accounts.append(open_account(visit.services.vault, made))
    return accounts


# --- between the form and the models ---------------------------------------------------------------------------------


def _given(visit: Visit) -> dict[str, str]:
    """The form's fields, those put aside before the test where the form only points at them."""
    aside = visit.session.take_up(visit.given("draft")) if visit.given("draft") else None
    return aside if aside is not None else {name: str(visit.form.get(name, "")).strip() for name in _FIELDS}


def _own(given: Mapping[str, str]) -> dict[str, Any]:
    return {"name": given["name"], "emailAddress": given["email"] or None}


def _options(given: Mapping[str, str], kind: Kind) -> dict[str, Any] | None:
    """What the API's model is read from; None when no server is named."""
    half = kind.value
    if not given[f"{half}_host"]:
        return None
    tls = given[f"{half}_tls"]
    user = given[f"{half}_user"] or (given["email"] if kind is Kind.IMAP else "")
    password = given["password"] if kind is Kind.IMAP else given["smtp_password"] or given["password"]
    options: dict[str, Any] = {
        f"{half}Host": given[f"{half}_host"],
        f"{half}Port": given[f"{half}_port"] or None,
        f"{half}Ssl": tls == "implicit" if tls else None,
        "startTls": tls == "starttls" if tls else None,
        f"{half}Username": user,
        f"{half}Password": password or None,
        "sslTrust": given["ssl_trust"],
        "localHostName": given["local_host_name"],
    }
    if kind is Kind.IMAP:
        options |= {"searchTerms": given["search_terms"], "folders": given["folders"].splitlines()}
    return options


def _wish(given: Mapping[str, str], kind: Kind) -> Wish | None:
    options = _options(given, kind)
    if options is None:
        return None
    return cast("_Wishing", codec.read(_MODELS[kind], options)).wish()


_Wishing = CreateConnectorImapConnectionOptions | CreateConnectorSmtpConnectionOptions


def _shown(stored: Connection) -> dict[str, str]:
    half = stored.kind.value
    shown = {
        f"{half}_host": stored.host,
        f"{half}_port": str(stored.port),
        f"{half}_tls": stored.tls.value,
        f"{half}_user": stored.username or "",
        "ssl_trust": stored.ssl_trust or "",
        "local_host_name": stored.local_host_name or "",
    }
    if stored.kind is Kind.IMAP:
        shown |= {"folders": "\n".join(stored.folders), "search_terms": stored.search_terms or ""}
    return shown


def _of_server(half: str, server: Endpoint) -> dict[str, str]:
    return {
        f"{half}_host": server.host,
        f"{half}_port": str(server.port),
        f"{half}_tls": server.tls.value,
        f"{half}_user": server.username,
    }


def _form(
    visit: Visit,
    given: dict[str, str],
    *,
    mistake: str = "",
    manual: bool = False,
    found: Found | None = None,
    connector: Connector | None = None,
) -> Shown:
    values = {
        "given": given,
        "mistake": mistake,
        "manual": manual or connector is not None,
        "found": found,
        "connector": connector,
        "tls": TLS,
        "sources": _SOURCES,
        "advice": advice((given["imap_host"], given["smtp_host"])),
        "action": visit.request.path,
    }
    return Shown("setup.html", values, 400 if mistake else 200)
