"""A small OAuth2 provider with the real ones' answers: device code, code with PKCE, refresh, app-only, service account.

It also says whom a token is for: to Dovecot's oauth2 passdb, and as OpenID Connect's userinfo.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import threading
import time
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from servers import LOOPBACK, abort_connections, free_port
from servers.dovecot import Dovecot

CLIENT, CLIENT_SECRET = "11111111-2222-3333-4444-555555555555", "client-secret-canary-41"
Refusal = tuple[int, dict[str, Any]]
# As Microsoft writes it: learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
PENDING: Refusal = (
    400,
    {
        "error": "authorization_pending",
        "error_description": "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending. Continue polling.\r\n"
        "Trace ID: 0f1b\r\nCorrelation ID: 9c1f\r\nTimestamp: 2026-11-27 10:00:00Z",
        "error_codes": [70016],
    },
)
SLOW_DOWN: Refusal = (400, {"error": "slow_down"})
# As Google writes it.
REVOKED: Refusal = (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
BLOCKED: Refusal = (
    400,
    {
        "error": "access_denied",
        "error_description": "AADSTS53003: Access has been blocked by Conditional Access policies. The access policy "
        "does not allow token issuance.\r\nTrace ID: 0f1b\r\nCorrelation ID: 9c1f\r\nTimestamp: 2026-11-27 10:00:00Z",
        "error_codes": [53003],
    },
)
AWAY: Refusal = (503, {"error": "temporarily_unavailable"})


@dataclass(slots=True)
class Login:
    """When a mail server asked about a token, and whether it was good."""

    token: str
    user: str
    at: float
    expires_at: float
    ok: bool


@dataclass(slots=True)
class _Code:
    user: str | None
    challenge: str = ""
    redirect_uri: str = ""


@dataclass(slots=True)
class _State:
    access: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    refresh: dict[str, str] = field(default_factory=dict[str, str])
    codes: dict[str, _Code] = field(default_factory=dict[str, _Code])


class OauthServer:
    """What a test sees of the provider.

    `life_seconds` of the tokens from now on; `rotates`: each refresh gives a new refresh token and ends the old one;
    `names_user`: ID tokens say whom they are for; `secret`: what the client must know. `answers` are given first, in
    turn, instead of what /token would do; `away`: for now it has nothing but excuses; `hold`: its answers wait for
    that, and `held` says that one does. `asked` are the forms that came to /token; `logins` what mail servers asked.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.port = port
        self.life_seconds = 3600.0
        self.rotates = False
        self.names_user = True
        self.secret: str | None = None
        self.app_user = ""
        self.interval_seconds = 0.05
        self.answers: deque[Refusal] = deque()
        self.away = False
        self.hold: threading.Event | None = None
        self.held = threading.Event()
        self.asked: list[dict[str, str]] = []
        self.logins: list[Login] = []
        self.refused: set[str] = set()
        self._state = _State()
        self._numbers = itertools.count(1)

    @property
    def endpoints(self) -> dict[str, str]:
        """The endpoints as a login request names them."""
        names = {"tokenUrl": "token", "authorizeUrl": "authorize", "deviceUrl": "device"}
        return {name: f"{self.url}/{path}" for name, path in names.items()}

    @property
    def options(self) -> list[str]:
        """The same as options of inboxctl."""
        flags = {"tokenUrl": "--token-url", "authorizeUrl": "--authorize-url", "deviceUrl": "--device-url"}
        return [word for name, url in self.endpoints.items() for word in (flags[name], url)]

    def consent(self, user_code: str, user: str) -> None:
        """The person types the code in, signed in as `user`."""
        self._state.codes[f"device-{user_code}"].user = user

    def visit(self, page: str, user: str) -> str:
        """The person opens the page and consents; the address that a browser is led to."""
        request = urllib.request.Request(f"{page}&login={urllib.parse.quote(user)}")
        with urllib.request.build_opener(_Stay()).open(request, timeout=15) as answer:
            return str(answer.headers["Location"])

    def revoke(self) -> None:
        """Every refresh token is of no use from now on."""
        self._state.refresh.clear()

    def spoil(self) -> None:
        """No mail server takes the access tokens given until now."""
        self.refused |= set(self._state.access)

    def issue(self, user: str) -> str:
        """An access token for this user, as if somebody had consented."""
        return str(self._issue(user, refresh=False)[1]["access_token"])

    def bears(self, user: str, token: str) -> bool:
        """Whether a token is this user's, for a mail server."""
        owner, expires_at = self._state.access.get(token, ("", 0.0))
        ok = owner == user and time.time() < expires_at and token not in self.refused
        self.logins.append(Login(token, user, time.time(), expires_at, ok))
        return ok

    # --- what it answers ------------------------------------------------------------------------------------------

    def application(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.router.add_post("/device", self._device)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_post("/introspect", self._introspect)
        app.router.add_get("/userinfo", self._userinfo)
        return app

    async def _device(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["client_id"] == CLIENT
        user_code = f"ABCD{next(self._numbers):04}"
        self._state.codes[f"device-{user_code}"] = _Code(None)
        return web.json_response(
            {
                "device_code": f"device-{user_code}",
                "user_code": user_code,
                "verification_uri": f"{self.url}/devicelogin",
                "expires_in": 900,
                "interval": self.interval_seconds,
                "message": "To sign in, use a web browser",
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.query
        assert query["client_id"] == CLIENT
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{next(self._numbers)}"
        self._state.codes[code] = _Code(query["login"], query["code_challenge"], query["redirect_uri"])
        back = urllib.parse.urlencode({"code": code, "state": query["state"]})
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}/?{back}"})

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        kinds: dict[str, Callable[[dict[str, str]], Refusal]] = {
            "urn:ietf:params:oauth:grant-type:device_code": self._for_device,
            "urn:ietf:params:oauth:grant-type:jwt-bearer": lambda _: self._issue(self.app_user, refresh=False),
            "authorization_code": self._for_code,
            "refresh_token": self._for_refresh,
            "client_credentials": lambda _: self._issue(self.app_user, refresh=False),
        }
        if self.answers:
            status, body = self.answers.popleft()
        elif self.away:
            status, body = AWAY
        elif self.secret is not None and form.get("client_secret") != self.secret:
            status, body = (
                401,
                {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."},
            )
        else:
            status, body = kinds[form["grant_type"]](form)
        if self.hold is not None:
            self.held.set()
            await asyncio.to_thread(self.hold.wait, 30)
        return web.json_response(body, status=status)

    def _for_device(self, form: dict[str, str]) -> Refusal:
        user = self._state.codes[form["device_code"]].user
        return PENDING if user is None else self._issue(user)

    def _for_code(self, form: dict[str, str]) -> Refusal:
        code = self._state.codes.pop(form["code"], None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if code is None or code.user is None or digest != code.challenge or form["redirect_uri"] != code.redirect_uri:
            return 400, {"error": "invalid_grant", "error_description": "Malformed auth code."}
        return self._issue(code.user)

    def _for_refresh(self, form: dict[str, str]) -> Refusal:
        user = self._state.refresh.get(form["refresh_token"])
        if user is None:
            return REVOKED
        if self.rotates:
            del self._state.refresh[form["refresh_token"]]
        return self._issue(user, refresh=self.rotates)

    def _issue(self, user: str, *, refresh: bool = True) -> Refusal:
        number = next(self._numbers)
        access = f"access-canary-{number}"
        self._state.access[access] = (user, time.time() + self.life_seconds)
        body: dict[str, Any] = {"token_type": "Bearer", "access_token": access, "expires_in": self.life_seconds}
        if refresh:
            body["refresh_token"] = f"refresh-canary-{number}"
            self._state.refresh[body["refresh_token"]] = user
            if self.names_user:
                body["id_token"] = ".".join(
                    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                    for part in ({"alg": "RS256"}, {"preferred_username": user}, "signature")
                )
        return 200, body

    async def _introspect(self, request: web.Request) -> web.Response:
        form = await request.post()
        token = str(form.get("token", ""))
        owner = self._state.access.get(token, ("", 0.0))[0]
        ok = self.bears(owner, token)
        return web.json_response({"active": ok, "username": owner} if ok else {"active": False})

    async def _userinfo(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        owner, _ = self._state.access.get(token, ("", 0.0))
        if not owner:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"sub": "1", "email": owner, "email_verified": True})


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the answer itself is looked at."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:  # noqa: ARG002
        return fp


@contextmanager
def oauth_server(port: int | None = None) -> Generator[OauthServer]:
    """A provider until the block ends, in a thread of its own."""
    server = OauthServer(port or free_port())
    ready, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, server.port, reuse_address=True).start()
        ready.set()
        await asyncio.to_thread(ended.wait)
        await runner.cleanup()
        await abort_connections()

    thread = threading.Thread(target=asyncio.run, args=[serve()], name="oauth", daemon=True)
    thread.start()
    try:
        assert ready.wait(15), "the OAuth2 server did not start"
        yield server
    finally:
        if server.hold is not None:
            server.hold.set()
        ended.set()
        thread.join(15)
    assert not thread.is_alive(), "the OAuth2 server did not stop"


@pytest.fixture
def oauth(dovecot: Dovecot) -> Generator[OauthServer]:
    """The provider whom `dovecot` asks about tokens."""
    with oauth_server(dovecot.oauth_port) as server:
        yield server


@pytest.fixture
def provider() -> Generator[OauthServer]:
    """A provider that no mail server knows."""
    with oauth_server() as server:
        yield server
