"""Posting to webhooks' receivers. The addresses it connects to are checked when it does (`outward`)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlsplit

import aiohttp

from inboxd import net, outward
from inboxd.errors import PostFailed
from inboxd.sections import WebhookSettings

EXTRACT_BYTES: Final = 4_096
# The status is there by then: a receiver that is slow with the rest has all the same taken, or refused, the post.
_EXTRACT_SECONDS: Final = 2.0
_FORBIDDEN: Final = "its address is one that nothing is posted to (setting webhooks.allow_private; link-local never)"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answered: its status and the beginning of its body, at most EXTRACT_BYTES of it."""

    status: int
    extract: str

    @property
    def ok(self) -> bool:
        """Whether the post was taken."""
        return 200 <= self.status < 300


@final
class Client:
    """Posts, each with a deadline. Redirects are not followed, cookies not kept, proxies not used."""

    def __init__(self, session: aiohttp.ClientSession, timeout_seconds: float) -> None:
        self._session = session
        self._seconds = timeout_seconds

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, verify: bool) -> Reply:
        """The receiver's answer, whatever its status; PostFailed when there is none."""
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._session.post(
                    url, data=body, headers=headers, ssl=net.web_context(verify=verify), allow_redirects=False
                ) as response,
            ):
                return Reply(response.status, await _extract(response))
        except TimeoutError as error:
            raise PostFailed(f"{_host(url)} did not answer within {self._seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PostFailed(_words(_host(url), error)) from error


@asynccontextmanager
async def open_client(settings: WebhookSettings) -> AsyncGenerator[Client]:
    """A client with the connections it keeps, until the block ends."""
    async with outward.open_session(_FORBIDDEN, allow_private=settings.allow_private) as session:
        yield Client(session, settings.timeout_seconds)


async def _extract(response: aiohttp.ClientResponse) -> str:
    extract = b""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_EXTRACT_SECONDS):
            while len(extract) < EXTRACT_BYTES and (some := await response.content.read(EXTRACT_BYTES - len(extract))):
                extract += some
    return extract.decode(errors="replace")


def _host(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or "the receiver"
    return "the receiver"


def _words(host: str, error: Exception) -> str:
    """Why there was no answer; never the URL, which may hold a secret."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(net.tls_failure(host, error.certificate_error))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return str(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ssl.SSLError):
            return str(net.tls_failure(host, error.os_error))
        return f"cannot connect to {host} ({_reason(error.os_error)})"
    if isinstance(error, aiohttp.InvalidURL):
        return f"{host} is no host that can be posted to; change the webhook's URL"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return f"{host} closed the connection without an answer"
    return f"{host} did not answer as an HTTP server does ({type(error).__name__})"


def _reason(error: OSError) -> str:
    # Several addresses, each with an error of its own, come as one error without a number.
    return os.strerror(error.errno) if error.errno else str(error)
