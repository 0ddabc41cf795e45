"""Who may come in, and how every refusal looks."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import socket
import time
from datetime import timedelta
from http import HTTPStatus
from typing import Final, final

from aiohttp import web

from inboxd import errors, logs
from inboxd.api.wire import codec
from inboxd.api.wire.shapes import write_date
from inboxd.model import ApiKey, KeyId, utc_now
from inboxd.services import Services
from inboxd.store import keys

KEY_PREFIX: Final = "inboxd"
HOW_TO_CREATE: Final = (
    "send an API key in the header x-api-key (or the query parameter apiKey); make one with: inboxctl key create NAME"
)
SETTING: Final = KeyId("setting")  # the key that the settings hold; those made have hexadecimal ids
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_KEY: Final = re.compile(rf"{KEY_PREFIX}_([A-Za-z0-9]{{1,64}})_([\w-]{{1,200}})", re.ASCII)
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
    """An answer with a status of its own. `allow` names the methods a 405 speaks of."""

    def __init__(self, status: HTTPStatus, message: str, *, allow: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.allow = allow


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
    """Lets in who has a key, and logs who has none: at most one line a second for each address."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._logged: dict[str, float] = {}

    async def admit(self, request: web.BaseRequest) -> None:
        """Let the request pass, or refuse it with 401. The key itself goes nowhere but into a hash."""
        services = self._services
        given = request.headers.get("x-api-key") or request.query.get("apiKey") or ""
        if given and await key_of(services, given) is not None:
            return
        what = "this API key is unknown or revoked" if given else "an API key is missing"
        if services.settings.api.key is None and not await keys.any_active(services.store):
            what = "no API key exists yet"
        if self._may_log(peer := request.remote or "unknown", time.monotonic()):
            _log.warning("request_refused", peer=peer, reason=what)
        raise Refusal(HTTPStatus.UNAUTHORIZED, f"{what}; {HOW_TO_CREATE}")

    def _may_log(self, peer: str, now: float) -> bool:
        recent = {address: at for address, at in self._logged.items() if now - at < _LOG_EVERY_SECONDS}
        self._logged = {peer: now} | recent
        return peer not in recent


async def key_of(services: Services, given: str) -> KeyId | None:
    """The id of an API key that is good; None for any other."""
    if _is_setting(services, given):
        return SETTING
    return await _created(services, given)


async def still_good(services: Services, key_id: KeyId) -> bool:
    """Whether a key that was good has not been revoked since."""
    if key_id == SETTING:
        return services.settings.api.key is not None
    found = await keys.find(services.store, key_id)
    return found is not None and found[0].revoked_at is None


def _is_setting(services: Services, given: str) -> bool:
    key = services.settings.api.key
    return key is not None and hmac.compare_digest(_hash(key.get_secret_value()), _hash(given))


async def _created(services: Services, given: str) -> KeyId | None:
    form = _KEY.fullmatch(given)
    found = await keys.find(services.store, KeyId(form[1])) if form is not None else None
    if form is None or found is None:
        return None
    key, key_hash = found
    if key.revoked_at is not None or not hmac.compare_digest(_hash(form[2]), key_hash):
        return None
    now = utc_now()
    if key.last_used_at is None or now - key.last_used_at > _TOUCH_EVERY:
        await keys.touch(services.store, key.id, now)
    return key.id


def _hash(secret: str) -> bytes:
    # Keys are 256 random bits: a fast hash is enough, there is nothing to guess. A client may send any bytes.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def new_key(name: str) -> tuple[ApiKey, str, bytes]:
    """A new key's record, the key as its user writes it, and the hash to store."""
    key = ApiKey(KeyId(secrets.token_hex(6)), name, utc_now())
    secret = secrets.token_urlsafe(32)
    return key, f"{KEY_PREFIX}_{key.id}_{secret}", _hash(secret)
