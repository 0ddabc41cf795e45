"""The dashboard's door: every page and action is a row; who is not signed in is asked to, and failures are pages."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from importlib.resources import files
from typing import Final, final
from urllib.parse import quote, urlsplit

from aiohttp import web

from inboxd import logs
from inboxd.api.answers import Held
from inboxd.api.gate import Refusal, is_trusted, key_of, status_of, still_good
from inboxd.dashboard import guard, render
from inboxd.dashboard.page import Answered, Moved, Row, Shown, Visit
from inboxd.dashboard.pages import ROWS
from inboxd.dashboard.sessions import Session, Sessions
from inboxd.errors import InboxdError
from inboxd.model import utc_now
from inboxd.services import Services

COOKIE: Final = "inboxd_session"
SIGN_IN: Final = "/ui/sign-in"
_CHECK_EVERY: Final = timedelta(minutes=1)
_STATIC: Final = files("inboxd.dashboard") / "static"
_log = logs.logger("dashboard")


def mount(application: web.Application, services: Services, sessions: Sessions) -> None:
    """Put the pages into an application, before its own routes."""
    door = _Door(services, sessions)
    router = application.router
    router.add_get("/ui/static/{name}", door.guarded(_static))
    router.add_get(SIGN_IN, door.guarded(door.ask))
    router.add_post(SIGN_IN, door.guarded(door.sign_in))
    router.add_get("/ui/enter", door.guarded(door.enter))
    router.add_post("/ui/sign-out", door.guarded(door.sign_out))
    for row in ROWS:
        router.add_route(row.method, row.path, door.guarded(door.page(row)))
    router.add_route("*", "/ui{rest:(/.*)?}", door.guarded(_nowhere))
    application.on_shutdown.append(door.held.stop)


async def _static(request: web.Request) -> web.StreamResponse:
    """A file of ours, by its name alone."""
    name = request.match_info["name"]
    known = {one.name: one for one in _STATIC.iterdir()}
    if name not in known:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no file {name}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return web.Response(body=known[name].read_bytes(), headers={"Content-Type": kind})


async def _nowhere(request: web.Request) -> web.StreamResponse:
    raise Refusal(HTTPStatus.NOT_FOUND, f"there is no page at {request.path}")


@final
class _Door:
    def __init__(self, services: Services, sessions: Sessions) -> None:
        self.held = Held()
        self._services = services
        self._sessions = sessions

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
            visit = Visit(self._services, session, request)
            if request.method == "POST":
                form = await request.clone(client_max_size=row.large_bytes).post()
                token = form.get("csrf") or request.headers.get("X-CSRF", "")
                if not isinstance(token, str) or not session.agrees(token):
                    raise Refusal(HTTPStatus.FORBIDDEN, "this form is too old: go back, load the page anew, and repeat")
                visit = Visit(self._services, session, request, form)
            async with self.held.until_stop():
                answered = await row.handler(visit)
            response = self._written(request, session, answered)
            if request.get("token"):
                self._keep(request, response, request["token"])
            return response

        return handle

    def _written(self, request: web.Request, session: Session | None, answered: Answered) -> web.StreamResponse:
        if isinstance(answered, Moved):
            return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": answered.path})
        if isinstance(answered, Shown):
            # A page's script that looks for what is new does not show notices, and so must not take them.
            common = {
                "path": request.path,
                "session": session,
                "notices": session.take_notices() if session is not None and "X-Live" not in request.headers else [],
                "csrf": session.csrf if session is not None else "",
            }
            html = render.page(answered.template, common | dict(answered.values))
            return web.Response(status=answered.status, text=html, content_type="text/html", charset="utf-8")
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
        wanted = "" if request.path == "/" else f"?next={quote(request.path_qs, safe='')}"
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": SIGN_IN + wanted})

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """The page that asks for an API key."""
        values = {"wrong": False, "next": _inside(request.query.get("next", ""))}
        return self._written(request, None, Shown("sign_in.html", values))

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Begin a session by an API key."""
        form = await request.post()
        given, wanted = form.get("key"), form.get("next")
        wanted = _inside(wanted if isinstance(wanted, str) else "")
        key_id = await key_of(self._services, given.strip()) if isinstance(given, str) else None
        if key_id is None:
            _log.warning("sign_in_refused", peer=request.remote)
            values = {"wrong": True, "next": wanted}
            return self._written(request, None, Shown("sign_in.html", values, HTTPStatus.UNAUTHORIZED))
        token, _ = self._sessions.begin(key_id)
        _log.info("signed_in", peer=request.remote, key=key_id)
        return self._keep(request, self._written(request, None, Moved(wanted)), token)

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Begin a session by a link of `inboxctl dashboard`."""
        if not self._sessions.redeem(request.query.get("code", "")):
            raise Refusal(
                HTTPStatus.FORBIDDEN, "this link was used or is too old: ask for another (inboxctl dashboard)"
            )
        token, _ = self._sessions.begin(None)
        _log.info("signed_in", peer=request.remote, key=None)
        return self._keep(request, self._written(request, None, Moved("/")), token)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session."""
        self._sessions.end(request.cookies.get(COOKIE, ""))
        response = self._written(request, None, Moved(SIGN_IN))
        response.del_cookie(COOKIE, path="/")
        return response

    def _keep(self, request: web.Request, response: web.StreamResponse, token: str) -> web.StreamResponse:
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="Strict", secure=secure)
        return response


def _inside(wanted: str) -> str:
    """A path of the dashboard, never another site's."""
    parts = urlsplit(wanted)
    fine = wanted.startswith("/") and not parts.scheme and not parts.netloc and wanted.isprintable()
    return wanted if fine and "\\" not in wanted and not wanted.startswith("//") else "/"
