"""Signing a connector's mailbox in at its OAuth2 provider: what to fill in, the provider's code or page, and the end.

What was given, secrets with it, and the login under way wait in the session; an address holds a token of the session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, cast, final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from aiohttp import web

from inboxd import granting
from inboxd.api import oauth
from inboxd.api.wire import codec
from inboxd.api.wire.codec import MisfitError
from inboxd.api.wire.oauth import FinishedLogin, LoginDto, NewLogin
from inboxd.consents import ANY_TENANT, GOOGLE, MICROSOFT, OTHER, PROVIDERS, Flow, Grant
from inboxd.dashboard import consent, guidance, overview
from inboxd.dashboard.connectors import id_of
from inboxd.dashboard.consent import Standing
from inboxd.dashboard.guidance import Advice
from inboxd.dashboard.page import Answered, Moved, Shown, Visit
from inboxd.errors import AnotherMailbox, InboxdError, Invalid, NotFound, TokenUnavailable
from inboxd.model import Connection, Connector, ConnectorId, Kind, utc_now
from inboxd.store import connectors

Given = dict[str, str]
_LONGEST_KEY_BYTES: Final = 16_384
# The form's fields by their names in the API, which are in the messages too, and as the page calls them.
_FIELDS: Final = {
    "provider": ("provider", "Provider"),
    "flow": ("flow", "How to sign in"),
    "client_id": ("clientId", "Client id"),
    "client_secret": ("clientSecret", "Client secret"),
    "tenant": ("tenant", "Directory"),
    "scopes": ("scopes", "Scopes"),
    "subject": ("subject", "Acts for"),
    "token_url": ("tokenUrl", "Token endpoint"),
    "authorize_url": ("authorizeUrl", "Page to consent at"),
    "device_url": ("deviceUrl", "Device endpoint"),
    "identity_url": ("identityUrl", "Userinfo endpoint"),
    "redirect_uri": ("redirectUri", "Redirect address"),
}
_TICKS: Final = ("other_mailbox", "no_secret")
_UNDERWAY: Final = ("login", "page", "user_code", "ends_at", "state", "connector", "led", "mistake", "stranger", "done")
# By which names of this machine providers lead back to any port of it; of others nobody knows.
_LED_BACK: Final = {GOOGLE.name: ("127.0.0.1", "localhost"), MICROSOFT.name: ("localhost",)}
_OWN: Final = ("token_url", "authorize_url", "device_url", "identity_url")
_LABELS: Final = dict(_FIELDS.values()) | {"keyFile": "Key file", "answer": "Address"}
_NAMED: Final = re.compile(rf"(?:^|(?<=; ))({'|'.join(_LABELS)}):( (?:is|are|must|belongs)\b)?")
# What messages say in inboxctl's words.
_COMMANDS: Final = {
    "--flow code": f"“{guidance.TITLES[Flow.CODE]}”",
    "--flow": "“How to sign in”",
    "--client-secret-file": "“Client secret”",
    "--client-id": "“Client id”",
    "--tenant": "“Directory”",
    "--redirect-uri": "a “Redirect address” that is, under More",
    "say --other-mailbox": "confirm it below",
    "begin anew with inboxctl oauth login": "begin anew",
}
_COMMAND: Final = re.compile("|".join(map(re.escape, _COMMANDS)))
_GONE: Final = "This sign-in is over, or was begun in another session: begin anew."
_TENANT: Final = re.compile(re.escape(MICROSOFT.endpoints.token).replace(r"\{tenant\}", "([^/]+)"))


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """The connector to be signed in, and how it stands."""

    connector: Connector
    connections: tuple[Connection, ...]
    standing: Standing

    @property
    def path(self) -> str:
        return f"/ui/connectors/{self.connector.id}"

    @property
    def grant(self) -> Grant | None:
        return self.standing.grant

    @property
    def mailbox(self) -> str:
        """Who is to sign in."""
        names = [one.username for one in self.connections] + [self.connector.email_address]
        return next((name for name in names if name), overview.called(self.connector))

    def advice(self, name: str | None = None) -> Advice:
        return guidance.advice([one.host for one in self.connections], name)


async def home(visit: Visit) -> Answered:
    """The overview, or the last step of a sign-in whose provider led the browser back to this server."""
    if not is_answer(visit.request):
        return await overview.show(visit)
    token = visit.session.find_aside("state", visit.given("state"))
    kept = visit.session.take_up(token) if token else None
    if token is None or kept is None:
        raise NotFound("no sign-in of this session is waiting for this answer of a provider: begin anew")
    place = await _place(visit, ConnectorId(UUID(kept["connector"])))
    address = f"{kept['led']}/?{visit.request.rel_url.raw_query_string}"
    return _waiting(place, token, kept, address=address)


def is_answer(request: web.Request) -> bool:
    """Whether a provider leads a browser back here (RFC 6749 §4.1.2)."""
    return request.path == "/" and "state" in request.query and bool({"code", "error"} & request.query.keys())


async def show(visit: Visit) -> Answered:
    """The form, or what is to be done at the provider's page for a login under way."""
    place, kept = await _place(visit, id_of(visit)), _kept(visit)
    if kept is not None and kept.get("done"):
        return Moved(place.path)
    if kept is None:
        return _form(visit, place, _before(place), _GONE if visit.given("draft") else "")
    if kept.get("login"):
        return _waiting(place, visit.given("draft"), kept)
    return _form(visit, place, kept, kept.get("mistake", ""))


async def answer(visit: Visit) -> Answered:
    """Begin a login, with what the form says or as it was before; or finish the one under way."""
    place, kept = await _place(visit, id_of(visit)), _kept(visit)
    match visit.given("do"):
        case "begin":
            return await _begin(visit, place, _given(visit, kept or {}))
        case "again":
            return await _begin(visit, place, _before(place))
        case "other" if kept is not None:
            return await _begin(visit, place, _plain(kept) | {"other_mailbox": "1"})
        case "back" if kept is not None:
            return _later(visit, place, _plain(kept), "")
        case "finish" if kept is not None and kept.get("login"):
            return await _finish(visit, place, kept)
        case "finish" if kept is not None and kept.get("done"):
            return Moved(place.path)
        case _:
            return _form(visit, place, _before(place), _GONE)


async def sign_out(visit: Visit) -> Moved:
    """Forget the consent."""
    place = await _place(visit, id_of(visit))
    await oauth.remove_grant(visit.services, place.connector.id)
    visit.session.tell(
        f"The consent for {overview.called(place.connector)} is forgotten here. The provider keeps its own."
    )
    return Moved(place.path)


# --- the steps --------------------------------------------------------------------------------------------------------


async def _begin(visit: Visit, place: _Place, given: Given) -> Moved:
    led = "" if given["redirect_uri"] else _led_back(visit, given["provider"])
    try:
        body = cast("NewLogin", codec.read(NewLogin, _said(given, place) | ({"redirectUri": led} if led else {})))
        begun = await oauth.begin_login(visit.services, place.connector.id, body)
    except (MisfitError, InboxdError) as error:
        return _failed(visit, place, given, error)
    if begun.grant is not None:
        return _done(visit, place, begun.grant.mailbox)
    return Moved(f"{place.path}/sign-in?draft={visit.session.put_aside(given | _underway(place, begun, led))}")


def _led_back(visit: Visit, provider: str) -> str:
    """Where the provider can lead the browser straight back to this server: only if that is where it found it."""
    name, _, port = visit.request.host.rpartition(":")
    return f"http://{name}:{port}" if name in _LED_BACK.get(provider, ()) and port.isdecimal() else ""


def _underway(place: _Place, begun: LoginDto, led: str) -> Given:
    ends_at = utc_now() + timedelta(seconds=begun.ends_in_seconds or 0)
    return {
        "connector": str(place.connector.id),
        "led": led,
        "state": parse_qs(urlsplit(begun.page or "").query).get("state", [""])[0],
        "login": begun.login or "",
        "page": begun.page or "",
        "user_code": begun.user_code or "",
        "ends_at": ends_at.isoformat(),
    }


async def _finish(visit: Visit, place: _Place, kept: Given) -> Answered:
    token = visit.given("draft")
    try:
        body = cast("FinishedLogin", codec.read(FinishedLogin, {"answer": visit.given("answer") or None}))
        grant = await granting.finish(visit.services, kept["login"], body.answer, once=True)
    except (MisfitError, Invalid) as error:
        return _waiting(place, token, kept, worded(str(error)), HTTPStatus.BAD_REQUEST)
    except TokenUnavailable as error:
        return _waiting(place, token, kept, worded(str(error)), HTTPStatus.BAD_GATEWAY)
    except InboxdError as error:
        if (visit.session.take_up(token) or {}).get("done"):  # the page itself asked at the same time, and was quicker
            return Moved(place.path)
        return _failed(visit, place, _plain(kept), error)
    if grant is None:
        return _waiting(place, token, kept, waited=True)
    visit.session.put_aside({"done": "1"}, token)
    return _done(visit, place, grant.mailbox)


def _done(visit: Visit, place: _Place, mailbox: str) -> Moved:
    visit.session.tell(f"{overview.called(place.connector)} is signed in by {mailbox}; the consent is used at once.")
    return Moved(place.path)


def _failed(visit: Visit, place: _Place, given: Given, error: Exception) -> Moved:
    stranger = {"stranger": "1"} if isinstance(error, AnotherMailbox) else {}
    return _later(visit, place, given | stranger, worded(str(error)))


def _later(visit: Visit, place: _Place, given: Given, mistake: str) -> Moved:
    """The form, with what was given and what is wrong with it; secrets stay in the session."""
    return Moved(f"{place.path}/sign-in?draft={visit.session.put_aside(given | {'mistake': mistake})}")


def worded(message: str) -> str:
    """What went wrong, in the words of this page instead of the API's and inboxctl's."""
    plain = _COMMAND.sub(lambda found: _COMMANDS[found[0]], message)
    words = _NAMED.sub(lambda found: _LABELS[found[1]] + (found[2] or ":"), plain)
    return words[:1].upper() + words[1:]


# --- what was given ---------------------------------------------------------------------------------------------------


async def _place(visit: Visit, id: ConnectorId) -> _Place:
    services, connector = visit.services, await connectors.get(visit.services.store, id)
    found = [await connectors.connection(services.store, connector.id, kind) for kind in Kind]
    return _Place(
        connector,
        tuple(one for one in found if one is not None),
        await consent.standing(services, connector.id, found),
    )


def _kept(visit: Visit) -> Given | None:
    """What the session holds by the token in the form or the address."""
    return visit.session.take_up(visit.given("draft")) if visit.given("draft") else None


def _plain(kept: Given) -> Given:
    """What was filled in, without what became of it."""
    return {name: value for name, value in kept.items() if name not in _UNDERWAY}


def _before(place: _Place) -> Given:
    """The form as the consent in place has it, without its secret; where there is none, as the provider has it."""
    empty = dict.fromkeys((*_FIELDS, *_TICKS), "")
    grant, advice = place.grant, place.advice()
    if grant is None:
        return empty | {"provider": advice.provider, "flow": advice.ways[0].flow.value}
    tenant = _TENANT.fullmatch(grant.token_url) if grant.provider == MICROSOFT.name else None
    known = PROVIDERS.get(grant.provider)
    return empty | {
        "provider": grant.provider,
        "flow": grant.flow.value,
        "client_id": grant.client_id if grant.flow is not Flow.SERVICE_ACCOUNT else "",
        "tenant": tenant[1] if tenant is not None and tenant[1] != ANY_TENANT else "",
        "scopes": " ".join(grant.scopes) if known is None or grant.scopes != known.scopes.get(grant.flow) else "",
        "subject": grant.subject or "",
        **({name: getattr(grant, name) or "" for name in _OWN} if known is None else {}),
    }


def _given(visit: Visit, kept: Mapping[str, str]) -> Given:
    """The form's fields. A secret left empty is the one given before, in this sign-in."""
    given = {name: visit.given(name) for name in (*_FIELDS, *_TICKS)}
    file = visit.form.get("key_file")
    if isinstance(file, web.FileField) and file.filename:
        content: bytes = file.file.read(_LONGEST_KEY_BYTES + 1)
        given["client_secret"] = content.decode(errors="replace")
    given["client_secret"] = given["client_secret"] or kept.get("client_secret", "")
    return given


def _said(given: Mapping[str, str], place: _Place) -> dict[str, Any]:
    """The request: what differs from the consent in place. What is as it was is not said anew, and keeps its secret."""
    before = _before(place) if place.grant is not None and given["provider"] == place.grant.provider else {}
    said: dict[str, Any] = {
        wire: given[name] for name, (wire, _) in _FIELDS.items() if given[name] and given[name] != before.get(name)
    }
    if before.get("tenant") and not given["tenant"]:
        said["tenant"] = ANY_TENANT
    if given["no_secret"]:
        said.pop("clientSecret", None)
        said["clientId"] = given["client_id"]
    if "scopes" in said:
        said["scopes"] = given["scopes"].split()
    return said | {"otherMailbox": bool(given["other_mailbox"])}


# --- the pages --------------------------------------------------------------------------------------------------------


def _form(visit: Visit, place: _Place, given: Given, mistake: str) -> Shown:
    advice = place.advice(given["provider"])
    grant = place.grant
    values = {
        "given": {name: value for name, value in given.items() if name != "client_secret"},
        "has_secret": bool(given["client_secret"]) or (grant is not None and grant.sealed_client_secret is not None),
        "draft": visit.given("draft") if given["client_secret"] or given.get("stranger") else "",
        "mistake": mistake,
        "stranger": bool(given.get("stranger")),
        "advice": advice,
        "providers": (*PROVIDERS, OTHER),
        "chosen": given["flow"] if given["flow"] in {one.flow.value for one in advice.ways} else "",
    }
    return _shown(place, "signing.html", values)


def _waiting(
    place: _Place,
    token: str,
    kept: Given,
    mistake: str = "",
    status: HTTPStatus = HTTPStatus.OK,
    *,
    waited: bool = False,
    address: str = "",
) -> Shown:
    values = {
        "page": kept["page"],
        "user_code": kept["user_code"],
        "ends_at": datetime.fromisoformat(kept["ends_at"]),
        "redirect": kept["led"] or kept["redirect_uri"] or place.advice(kept["provider"]).redirect,
        "comes_back": bool(kept["led"]),
        "address": address,
        "draft": token,
        "mistake": mistake,
        "waited": waited,
    }
    return _shown(place, "signing_wait.html", values, status.value)


def _shown(place: _Place, template: str, values: Mapping[str, Any], status: int = 200) -> Shown:
    common = {
        "here": place.path,
        "name": overview.called(place.connector),
        "mailbox": place.mailbox,
        "standing": place.standing,
        "grant": place.grant,
    }
    return Shown(template, common | dict(values), status)
