"""HTTP connections to hosts that somebody else named: the address is checked where it is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, final
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from inboxd import net
from inboxd.errors import Unreachable

Lookup = Callable[[str, int], Awaitable[list[net.AddressInfo]]]
_SAID_BY_ITSELF: Final = (
    aiohttp.hdrs.ACCEPT_ENCODING, aiohttp.hdrs.ACCEPT, aiohttp.hdrs.USER_AGENT, aiohttp.hdrs.CONTENT_TYPE,
)  # fmt: skip
_CLOSING_TURNS: Final = 100  # of the loop: a handful is enough
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
# Where clouds answer with their machines' secrets, outside the link-local ranges.
_METADATA = (ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254"))


def is_forbidden(address: str, *, allow_private: bool) -> bool:
    """Whether nothing is sent to this IP address, or to one that hides in it (mapped, translated, tunnelled)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return any(
        one.is_link_local or one.is_multicast or one in _METADATA or not (allow_private or one.is_global)
        for one in (ip, *_hidden(ip))
    )


@asynccontextmanager
async def open_session(
    words: str, *, allow_private: bool, lookup: Lookup = net.resolve
) -> AsyncGenerator[aiohttp.ClientSession]:
    """A client that says nothing of itself and keeps no cookies, until the block ends; deadlines are the caller's.

    An OSError with `words` where an address is forbidden.
    """
    sockets = _Sockets(words, allow_private=allow_private)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Resolver(lookup), limit=0, socket_factory=sockets.make),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SAID_BY_ITSELF,
        ) as session:
            yield session
    finally:
        await sockets.close()


def _hidden(ip: _Address) -> Iterator[_Address]:
    if not isinstance(ip, ipaddress.IPv6Address):
        return
    if ip in _NAT64 or int(ip) >> 32 == 0:
        yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    yield from (one for one in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if one is not None)


@final
class _Sockets:
    """Makes the sockets to connect with: an address is checked where it is used, so that no name can change between."""

    def __init__(self, words: str, *, allow_private: bool) -> None:
        self._words = words
        self._allow_private = allow_private
        self._made = WeakSet[socket.socket]()

    def make(self, address: tuple[Any, ...]) -> socket.socket:
        """The socket for an address of getaddrinfo."""
        family, kind, protocol, _, place = address
        if is_forbidden(place[0], allow_private=self._allow_private):
            raise OSError(self._words)
        made = socket.socket(family, kind, protocol)
        self._made.add(made)
        return made

    async def close(self) -> None:
        """End what is still open: asyncio leaves a connection to itself whose maker is cancelled as TLS begins."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for _ in range(_CLOSING_TURNS):
            if not self._open:
                return
            await asyncio.sleep(0)

    @property
    def _open(self) -> list[socket.socket]:
        return [one for one in self._made if one.fileno() >= 0]


@final
class _Resolver(AbstractResolver):
    """Names by the daemon's own lookups, of which a silent name server holds up none but its own."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 aiohttp names them
    ) -> list[ResolveResult]:
        """What aiohttp wants to know of a name."""
        try:
            found = await self._lookup(host, port)
        except Unreachable as error:
            raise OSError(str(error)) from error
        return [
            ResolveResult(
                hostname=host, host=address[0], port=address[1], family=family, proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for family, _, protocol, _, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """There is nothing to close."""
