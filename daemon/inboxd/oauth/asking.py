"""One request to a provider: sent over TLS that is verified, under a deadline, its answer bounded and read as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aiohttp

from inboxd import net
from inboxd.consents import checked_url
from inboxd.errors import TokenUnavailable
from inboxd.oauth.refusals import PASSING, refusal

ANSWER_SECONDS: Final = 15.0
_ANSWER_BYTES: Final = 64 << 10
_TOO_MANY: Final = 429
_SECRET: Final = ("client_secret", "refresh_token", "code", "code_verifier", "device_code", "assertion")
Answer = dict[str, Any]


async def post(url: str, form: Mapping[str, str]) -> Answer:
    """What the provider answered to a form.

    ConsentRefused when it refuses, TokenUnavailable when it cannot be reached, is in trouble, or answers with nothing
    that can be read. Neither holds anything of what was sent.
    """
    secrets = tuple(form[name] for name in _SECRET if form.get(name))
    return await _ask("POST", url, secrets, data=dict(form))


async def get(url: str, bearer: str) -> Answer:
    """As `post`, for a question asked in the name of a token."""
    return await _ask("GET", url, (bearer,), headers={"Authorization": f"Bearer {bearer}"})


async def _ask(method: str, url: str, secrets: tuple[str, ...], **sent: Any) -> Answer:
    host = urlsplit(checked_url("url", url)).hostname or ""
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "User-Agent": "inboxd"},
                auto_decompress=False,
                skip_auto_headers=(aiohttp.hdrs.ACCEPT_ENCODING,),
            ) as session,
            session.request(method, url, ssl=net.web_context(verify=True), allow_redirects=False, **sent) as response,
        ):
            return _read(host, response.status, await _body(host, response), secrets)
    except TimeoutError:
        raise TokenUnavailable("token", f"{host} did not answer within {ANSWER_SECONDS:g} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise TokenUnavailable("token", str(net.tls_failure(host, error.certificate_error))) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise TokenUnavailable("token", f"{host} cannot be asked for a token ({_reason(error)})") from None


async def _body(host: str, response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) <= _ANSWER_BYTES:
        some = await response.content.read(_ANSWER_BYTES + 1 - len(body))
        if not some:
            return body
        body += some
    raise TokenUnavailable("token", f"the answer of {host} has no end")


def _read(host: str, status: int, body: bytes, secrets: tuple[str, ...]) -> Answer:
    """The JSON object; a status alone says nothing to rely on, for some refuse with 200.

    A refusal repeats none of the `secrets`, should the provider do so.
    """
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    answer = cast("Answer", found) if isinstance(found, dict) else None
    if status >= 500 or status == _TOO_MANY or (answer is not None and answer.get("error") in PASSING):
        raise TokenUnavailable("token", f"{host} gives no tokens now (HTTP status {status})")
    if answer is not None and answer.get("error"):
        raise refusal({name: _without(secrets, value) for name, value in answer.items()})
    if answer is None or not 200 <= status < 300:
        raise TokenUnavailable("token", f"{host} did not answer as an OAuth2 provider does (HTTP status {status})")
    return answer


def _without(secrets: tuple[str, ...], value: object) -> object:
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, "***")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or type(error.os_error).__name__
    return type(error).__name__
