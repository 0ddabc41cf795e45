"""Who may come in, and how every refusal looks."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Final, final

from aiohttp import web

from inboxd import errors, logs, metrics
from inboxd.api.guesses import MOST_GUESSES, PER_SECONDS, Guesses
from inboxd.api.wire import codec
from inboxd.api.wire.shapes import write_date
from inboxd.model import ApiKey, InboxId, KeyId, Scope, utc_now
from inboxd.services import Services
from inboxd.store import keys

KEY_PREFIX: Final = "inboxd"
HOW_TO_CREATE: Final = (
    "send an API key in the header x-api-key (or the query parameter apiKey); make one with: inboxctl key create NAME"
)
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_KEY: Final = re.compile(rf"{KEY_PREFIX}_([A-Za-z0-9]{{1,64}})_([\w-]{{1,200}})", re.ASCII)
# The id that the key of the setting goes by; no created one can have it.
SETTING_ID: Final = KeyId("api.key")
# A key of the setting that is shorter could be found by trying.
_GUESSABLE_BELOW: Final = 16
_NOBODYS_HASH: Final = bytes(32)
_TOUCH_EVERY: Final = timedelta(minutes=1)
_LOG_EVERY_SECONDS: Final = 1.0
_log = logs.logger("api")

# The most specific class decides. 422: the same request cannot work until somebody changes it or the mail account.
STATUSES: Final[dict[type[BaseException], HTTPStatus]] = {
    errors.InboxdError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.Invalid: HTTPStatus.BAD_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Unparsable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MailServerError: HTTPStatus.BAD_GATEWAY,
    errors.Insecure: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AuthRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MailboxRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SendRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SendDeferred: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Throttled: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Stalled: HTTPStatus.GATEWAY_TIMEOUT,
    errors.SendUnknown: HTTPStatus.GATEWAY_TIMEOUT,
}
# What may come of asking a mail server.
MAIL_SERVER_REFUSALS: Final = frozenset(
    status for kind, status in STATUSES.items() if issubclass(kind, errors.MailServerError)
)


class Refusal(errors.InboxdError):
    """An answer with a status of its own, and with headers where its status asks for some."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def status_of(error: errors.InboxdError) -> HTTPStatus:
    """The HTTP status that says what kind of failure it is."""
    if isinstance(error, Refusal):
        return error.status
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def error_body(status: HTTPStatus, message: str, path: str) -> bytes:
    """The JSON object every refusal carries."""
    return codec.write(
        {
            "message": _printable(message),
            "status": status.value,
            "error": status.phrase,
            "path": _printable(path),
            "timestamp": write_date(utc_now()),
        }
    )


def _printable(text: str) -> str:
    """The text with what was no UTF-8 in the request replaced."""
    return text.encode(errors="replace").decode()


def is_trusted(request: web.BaseRequest) -> bool:
    """Whether it came over the control socket, whose file permissions decide who may."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    return sock is not None and sock.family == socket.AF_UNIX


@final
class Gate:
    """Lets in who has a key, and logs who has none: at most one line a second for each address.

    From an address that wrong keys keep coming from, right ones pass, and all others are refused with 429.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._logged: dict[str, float] = {}
        self._guesses = Guesses()

    async def admit(self, request: web.BaseRequest) -> ApiKey:
        """The request's key, or a refusal, 401 or 429. The key itself goes nowhere but into a hash."""
        peer = request.remote or "unknown"
        given = request.headers.get("x-api-key") or request.query.get("apiKey") or ""
        slowed_seconds = self._guesses.wait_seconds(peer) if given else 0.0
        key = await known(self._services, given, slowed=slowed_seconds > 0) if given else None
        if key is not None:
            return key
        if slowed_seconds:
            raise _too_many(slowed_seconds)
        raise await self._unknown(peer, given)

    async def _unknown(self, peer: str, given: str) -> Refusal:
        services = self._services
        what = "this API key is unknown or revoked" if given else "an API key is missing"
        metrics.API_KEYS_REFUSED.labels("wrong" if given else "missing").inc()
        if given and self._guesses.note(peer):
            _log.warning("guesses_slowed", peer=peer, wrong_keys=MOST_GUESSES, seconds=PER_SECONDS)
        if services.settings.api.key is None and not await keys.any_active(services.store):
            what = "no API key exists yet"
        if self._may_log(peer, time.monotonic()):
            _log.warning("request_refused", peer=peer, reason=what)
        return Refusal(HTTPStatus.UNAUTHORIZED, f"{what}; {HOW_TO_CREATE}")

    def _may_log(self, peer: str, now: float) -> bool:
        recent = {address: at for address, at in self._logged.items() if now - at < _LOG_EVERY_SECONDS}
        self._logged = {peer: now} | recent
        return peer not in recent


async def still_good(services: Services, key_id: KeyId) -> bool:
    """Whether a key that was good has not been revoked since."""
    if key_id == SETTING_ID:
        return services.settings.api.key is not None
    found = await keys.find(services.store, key_id)
    return found is not None and found[0].revoked_at is None


async def known(services: Services, given: str, *, slowed: bool = False) -> ApiKey | None:
    """The key that somebody gave, if it is one that opens something; its use is noted.

    The time it takes tells nothing of how much of it is right. When `slowed`, keys that could be guessed are unknown.
    """
    setting = services.settings.api.key
    if setting is not None and _is_setting(setting.get_secret_value(), given, slowed=slowed):
        return ApiKey(SETTING_ID, "api.key", services.started_at)
    form = _KEY.fullmatch(given)
    found = await keys.find(services.store, KeyId(form[1])) if form is not None else None
    key, key_hash = found or (None, _NOBODYS_HASH)
    # Whether there is such a key or not, the secret is hashed and compared.
    right = hmac.compare_digest(_hash(form[2] if form is not None else given), key_hash)
    if not right or key is None or key.revoked_at is not None:
        return None
    now = utc_now()
    if key.last_used_at is None or now - key.last_used_at > _TOUCH_EVERY:
        await keys.touch(services.store, key.id, now)
    return key


def _is_setting(key: str, given: str, *, slowed: bool) -> bool:
    same = hmac.compare_digest(_hash(key), _hash(given))
    return same and not (slowed and len(key) < _GUESSABLE_BELOW)


def _too_many(wait_seconds: float) -> Refusal:
    metrics.API_KEYS_REFUSED.labels("slowed").inc()
    seconds = math.ceil(wait_seconds)
    message = (
        f"too many wrong API keys came from this address; with another wrong one wait {seconds} s; {HOW_TO_CREATE}"
    )
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, {"Retry-After": str(seconds)})


def _hash(secret: str) -> bytes:
    # Keys are 256 random bits: a fast hash is enough, there is nothing to guess. A client may send any bytes.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def new_key(name: str, scopes: frozenset[Scope], inbox_id: InboxId | None) -> tuple[ApiKey, str, bytes]:
    """A new key's record, the key as its user writes it, and the hash to store."""
    key = ApiKey(KeyId(secrets.token_hex(6)), name, utc_now(), scopes=scopes, inbox_id=inbox_id)
    secret = secrets.token_urlsafe(32)
    return key, f"{KEY_PREFIX}_{key.id}_{secret}", _hash(secret)
