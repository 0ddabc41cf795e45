"""Small documents over HTTPS from hosts that somebody else named."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, final

import aiohttp
from yarl import URL

from inboxd import net, outward
from inboxd.discover.found import Nothing
from inboxd.outward import Lookup
from inboxd.sections import DiscoverySettings

DOCUMENT_BYTES: Final = 65_536
_REDIRECTS: Final = 3
_FORBIDDEN: Final = "its address is private or reserved (setting discovery.allow_private; link-local never)"


@final
class Web:
    """Fetches documents: verified TLS alone, no cookies, no proxies, nothing compressed, few redirects."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str) -> bytes:
        """The document; Nothing when there is none to be had. It has no deadline of its own."""
        here = URL(url)
        for _ in range(_REDIRECTS + 1):
            answer = await self._ask(here, {443, here.port})
            if isinstance(answer, bytes):
                return answer
            here = answer
        raise Nothing(f"{here.host} redirects more than {_REDIRECTS} times")

    async def _ask(self, url: URL, ports: set[int | None]) -> bytes | URL:
        """The document, or where it is instead."""
        try:
            async with self._session.get(url, ssl=net.web_context(verify=True), allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308):
                    return _next(url, response.headers.get("Location", ""), ports)
                if response.status != 200:
                    raise Nothing(f"{url.host} answered {response.status}")
                return await _body(url, response)
        except aiohttp.ClientConnectorCertificateError as error:
            raise Nothing(str(net.tls_failure(str(url.host), error.certificate_error))) from error
        except aiohttp.ClientConnectorError as error:
            raise Nothing(f"cannot connect to {url.host} ({error.os_error.strerror or error.os_error})") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Nothing(f"{url.host} did not answer as a web server does ({type(error).__name__})") from error


@asynccontextmanager
async def open_web(settings: DiscoverySettings, lookup: Lookup) -> AsyncGenerator[Web]:
    """A client until the block ends."""
    async with outward.open_session(_FORBIDDEN, allow_private=settings.allow_private, lookup=lookup) as session:
        yield Web(session)


async def _body(url: URL, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while some := await response.content.read(DOCUMENT_BYTES + 1 - len(body)):
        body += some
        if len(body) > DOCUMENT_BYTES:
            raise Nothing(f"{url.host} answered with more than {DOCUMENT_BYTES} bytes")
    return bytes(body)


def _next(url: URL, location: str, ports: set[int | None]) -> URL:
    """Where a redirect leads; Nothing unless that is HTTPS without a login, on the port asked or the usual one."""
    try:
        there = url.join(URL(location))
    except ValueError as error:
        raise Nothing(f"{url.host} redirects to what is no URL") from error
    if there.scheme != "https" or there.user is not None or there.password is not None or there.port not in ports:
        raise Nothing(f"{url.host} redirects to {there.scheme}, port {there.port}: only HTTPS is followed")
    return there
