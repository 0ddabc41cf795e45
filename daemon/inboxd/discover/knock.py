"""Guessed hosts are taken only where a mail server answers with a certificate of that name.

Only the ports of implicit TLS are tried (RFC 8314 §3): what answers there has proved its name before it says a word.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Final

from inboxd import net
from inboxd.discover.found import Endpoint, Nothing
from inboxd.discover.hosts import addresses
from inboxd.model import Tls
from inboxd.outward import Lookup

_GREETING_BYTES: Final = 1_024
_GREETINGS: Final = {993: (b"* OK", b"* PREAUTH"), 465: (b"220",)}
_HOSTS: Final = (("imap", 993), ("mail", 993), ("smtp", 465), ("mail", 465))
Pair = tuple[Endpoint | None, Endpoint | None]


async def guess(domain: str, username: str, lookup: Lookup, seconds: float, *, allow_private: bool) -> Pair:
    """The first host of each that greets within `seconds`; Nothing when none of IMAP's does."""
    guesses = [Endpoint(f"{name}.{domain}", port, Tls.IMPLICIT, username) for name, port in _HOSTS]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_greets(one, lookup, seconds, allow_private=allow_private)) for one in guesses]
    greeted = [one for one, task in zip(guesses, tasks, strict=True) if task.result()]
    imap, smtp = (next((one for one in greeted if one.port == port), None) for port in _GREETINGS)
    if imap is None:
        raise Nothing(f"no mail server answers at imap.{domain} or mail.{domain} with a certificate of that name")
    return imap, smtp


async def _greets(server: Endpoint, lookup: Lookup, seconds: float, *, allow_private: bool) -> bool:
    """Whether a server of that name says hello in the right protocol."""
    with suppress(Nothing, TimeoutError):
        async with asyncio.timeout(seconds):
            for place in await addresses(server.host, server.port, lookup, allow_private=allow_private):
                with suppress(OSError, ssl.SSLError, ValueError):
                    return (await _greeting(place, server.host)).startswith(_GREETINGS[server.port])
    return False


async def _greeting(place: net.AddressInfo, host: str) -> bytes:
    at = place[4]
    reader, writer = await asyncio.open_connection(
        at[0], at[1], ssl=net.web_context(verify=True), server_hostname=host, limit=_GREETING_BYTES
    )
    try:
        return await reader.readline()
    finally:
        writer.transport.abort()
