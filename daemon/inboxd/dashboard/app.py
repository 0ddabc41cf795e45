"""The dashboard's door: every page and action is a row; who is not signed in is asked to, and failures are pages."""

from __future__ import annotations

import hashlib
import math
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from importlib.resources import files
from typing import Final, final
from urllib.parse import quote, urlsplit

from aiohttp import web

from inboxd import logs
from inboxd.api.answers import Held
from inboxd.api.gate import Refusal, is_trusted, known, status_of, still_good
from inboxd.api.guesses import Guesses
from inboxd.dashboard import guard, render
from inboxd.dashboard.counts import Counts
from inboxd.dashboard.page import Answered, Moved, Row, Shown, Visit
from inboxd.dashboard.pages import ROWS
from inboxd.dashboard.sessions import INVITATION, Session, Sessions
from inboxd.dashboard.signing import is_answer
from inboxd.errors import InboxdError
from inboxd.model import KeyId, Scope, utc_now
from inboxd.sections import host_port
from inboxd.services import Services

COOKIE: Final = "inboxd_session"
SIGN_IN: Final = "/ui/sign-in"
_CHECK_EVERY: Final = timedelta(minutes=1)
_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - what is listened on, not listening
_LEAST_COMPRESSED: Final = 1_000  # bytes
_TOO_OLD: Final = "this form is too old: go back, load the page anew, and repeat"
_log = logs.logger("dashboard")


def mount(application: web.Application, services: Services, sessions: Sessions) -> None:
    """Put the pages into an application, before its own routes."""
    door = _Door(services, sessions)
    router = application.router
    router.add_get("/ui/static/{name}", door.guarded(_static))
    router.add_get(SIGN_IN, door.guarded(door.ask))
    router.add_post(SIGN_IN, door.guarded(door.sign_in))
    router.add_get("/ui/enter", door.guarded(door.enter), allow_head=False)
    router.add_post("/ui/invite", door.invite)
    router.add_post("/ui/sign-out", door.guarded(door.sign_out))
    for row in ROWS:
        router.add_route(row.method, row.path, door.guarded(door.page(row)))
    router.add_route("*", "/ui{rest:(/.*)?}", door.guarded(_nowhere))
    application.on_shutdown.append(door.held.stop)


@final
@dataclass(frozen=True, slots=True)
class _File:
    """A file of ours: asked for with every page, sent once."""

    content: bytes
    kind: str
    tag: str


def _read_files() -> Mapping[str, _File]:
    found: dict[str, _File] = {}
    for one in (files("inboxd.dashboard") / "static").iterdir():
        content, kind = one.read_bytes(), mimetypes.guess_type(one.name)[0] or "application/octet-stream"
        kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        found[one.name] = _File(content, kind, hashlib.sha256(content).hexdigest()[:16])
    return found


_FILES: Final = _read_files()


async def _static(request: web.Request) -> web.StreamResponse:
    """A file by its name alone; nothing when the browser has it already."""
    file = _FILES.get(request.match_info["name"])
    if file is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no file {request.match_info['name']}")
    had = any(tag.value == file.tag for tag in request.if_none_match or ())
    response = web.Response(status=HTTPStatus.NOT_MODIFIED) if had else web.Response(body=file.content)
    response.etag = file.tag
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Vary"] = "Accept-Encoding"
    if not had:
        response.headers["Content-Type"] = file.kind
        response.enable_compression()
    return response


async def _nowhere(request: web.Request) -> web.StreamResponse:
    raise Refusal(HTTPStatus.NOT_FOUND, f"there is no page at {request.path}")


@final
class _Door:
    def __init__(self, services: Services, sessions: Sessions) -> None:
        self.held = Held()
        self._services = services
        self._sessions = sessions
        self._guesses = Guesses()
        self._counts = Counts(services)

    def guarded(
        self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The same with the checks and headers that every answer has; failures become pages."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                guard.check_host(request.host, self._services.settings.dashboard.names)
                if request.method not in {"GET", "HEAD"}:
                    guard.check_origin(request.headers)
                response = await answer(request)
            except InboxdError as error:
                response = self._failure(request, status_of(error), str(error))
            except web.HTTPException as error:
                response = self._failure(request, HTTPStatus(error.status), error.reason)
            except Exception as error:  # noqa: BLE001 - one page's bug must not show internals nor hurt the others
                _log.error("page_failed", method=request.method, path=request.path, exc_info=error)
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                response = self._failure(request, status, "something went wrong inside inboxd; its log says what")
            if not response.prepared:
                for name, value in guard.HEADERS.items():
                    response.headers.setdefault(name, value)
            return response

        return handle

    def page(self, row: Row) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A row's handler for those who are signed in."""

        async def handle(request: web.Request) -> web.StreamResponse:
            session = await self._session(request)
            if session is None:
                return self._to_sign_in(request)
            visit = Visit(self._services, session, request, self._counts)
            if request.method == "POST":
                form = await request.clone(client_max_size=row.large_bytes).post()
                token = form.get("csrf") or request.headers.get("X-CSRF", "")
                if not isinstance(token, str) or not session.agrees(token):
                    raise Refusal(HTTPStatus.FORBIDDEN, _TOO_OLD)
                visit = Visit(self._services, session, request, self._counts, form)
            async with self.held.until_stop():
                answered = await row.handler(visit)
            if request.method == "POST":
                self._counts.forget()
            unread = await self._counts.unread() if isinstance(answered, Shown) else 0
            response = self._written(request, session, answered, unread)
            if request.get("token"):
                self._keep(request, response, request["token"])
            return response

        return handle

    def _written(
        self, request: web.Request, session: Session | None, answered: Answered, unread: int = 0
    ) -> web.StreamResponse:
        if isinstance(answered, Moved):
            return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": answered.path})
        if isinstance(answered, Shown):
            # A page's script that looks for what is new does not show notices, and so must not take them.
            common = {
                "path": request.path,
                "session": session,
                "notices": session.take_notices() if session is not None and "X-Live" not in request.headers else [],
                "csrf": session.token() if session is not None else "",
                "unread": unread,
            }
            html = render.page(answered.template, common | dict(answered.values))
            response = web.Response(status=answered.status, text=html, content_type="text/html", charset="utf-8")
            if len(html) > _LEAST_COMPRESSED:
                response.enable_compression()
            return response
        return answered

    def _failure(self, request: web.Request, status: HTTPStatus, words: str) -> web.StreamResponse:
        token = request.cookies.get(COOKIE, "")
        session = self._sessions.find(token) if token else None
        values = {"status": status.value, "phrase": status.phrase, "words": words}
        return self._written(request, session, Shown("failure.html", values, status.value))

    # --- signing in -------------------------------------------------------------------------------------------------

    async def _session(self, request: web.Request) -> Session | None:
        token = request.cookies.get(COOKIE, "")
        session = self._sessions.find(token) if token else None
        if session is None and is_trusted(request):
            request["token"], session = self._sessions.begin(None)
        if session is not None and session.key_id is not None and utc_now() - session.checked > _CHECK_EVERY:
            if not await still_good(self._services, session.key_id):
                self._sessions.end(token)
                return None
            session.checked = utc_now()
        return session

    def _to_sign_in(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            raise Refusal(HTTPStatus.UNAUTHORIZED, "your session is over: sign in again, and repeat what you did")
        if is_answer(request) and request.headers.get("Sec-Fetch-Site") == "cross-site":
            # The cookie stays at home when another site leads here; this page's own link brings it.
            again = f"/?{request.rel_url.raw_query_string}"
            return self._written(request, None, Shown("signing_back.html", {"again": again}))
        wanted = "" if request.path == "/" else f"?next={quote(request.path_qs, safe='')}"
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": SIGN_IN + wanted})

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """The page that asks for an API key."""
        values = {"mistake": "", "next": _inside(request.query.get("next", ""))}
        return self._written(request, None, Shown("sign_in.html", values))

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Begin a session by an API key."""
        form = await request.post()
        given, wanted = form.get("key"), form.get("next")
        wanted = _inside(wanted if isinstance(wanted, str) else "")
        mistake, key_id = await self._recognise(request.remote or "unknown", given if isinstance(given, str) else "")
        if key_id is None:
            _log.warning("sign_in_refused", peer=request.remote)
            values = {"mistake": mistake, "next": wanted}
            return self._written(request, None, Shown("sign_in.html", values, HTTPStatus.UNAUTHORIZED))
        token, _ = self._sessions.begin(key_id)
        _log.info("signed_in", peer=request.remote, key=key_id)
        return self._keep(request, self._written(request, None, Moved(wanted)), token)

    async def _recognise(self, peer: str, given: str) -> tuple[str, KeyId | None]:
        """The key's id, or what is wrong with it."""
        slowed_seconds = self._guesses.wait_seconds(peer)
        key = await known(self._services, given.strip(), slowed=slowed_seconds > 0)
        if key is None:
            self._guesses.note(peer)
            wait = f" Wait {math.ceil(slowed_seconds)} s before the next." if slowed_seconds else ""
            return f"This API key is unknown or revoked.{wait}", None
        if key.inbox_id is not None or set(key.scopes) != set(Scope):
            return "This API key may not do everything; the dashboard needs one without limits.", None
        return "", key.id

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Begin a session by a link of `inboxctl dashboard`."""
        if not self._sessions.redeem(request.query.get("code", "")):
            raise Refusal(
                HTTPStatus.FORBIDDEN, "this link was used or is too old: ask for another (inboxctl dashboard)"
            )
        token, _ = self._sessions.begin(None)
        _log.info("signed_in", peer=request.remote, key=None)
        return self._keep(request, self._written(request, None, Moved("/")), token)

    async def invite(self, request: web.Request) -> web.StreamResponse:
        """A link that signs in once, for whoever may use the control socket."""
        if not is_trusted(request):
            raise Refusal(HTTPStatus.NOT_FOUND, "links that sign in are made over the control socket alone")
        link = f"http://{_reached(self._services.settings.api.listen)}/ui/enter?code={self._sessions.invite()}"
        return web.json_response({"link": link, "seconds": INVITATION.total_seconds()}, headers=guard.HEADERS)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session."""
        cookie = request.cookies.get(COOKIE, "")
        session, given = self._sessions.find(cookie), (await request.post()).get("csrf")
        if session is not None and not (isinstance(given, str) and session.agrees(given)):
            raise Refusal(HTTPStatus.FORBIDDEN, _TOO_OLD)
        self._sessions.end(cookie)
        response = self._written(request, None, Moved(SIGN_IN))
        response.del_cookie(COOKIE, path="/")
        return response

    def _keep(self, request: web.Request, response: web.StreamResponse, token: str) -> web.StreamResponse:
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="Strict", secure=secure)
        return response


def _reached(listen: str) -> str:
    """The listen address as a browser on this machine may ask for it."""
    host, port = host_port(listen)
    host = "localhost" if host in _EVERY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"{host}:{port}"


def _inside(wanted: str) -> str:
    """A path of the dashboard, never another site's."""
    parts = urlsplit(wanted)
    fine = wanted.startswith("/") and not parts.scheme and not parts.netloc and wanted.isprintable()
    return wanted if fine and "\\" not in wanted and not wanted.startswith("//") else "/"
