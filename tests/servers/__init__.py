"""Real servers, and the few false ones, that the tests talk to."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from dataclasses import dataclass
from typing import Any, cast

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral ports, so that no outgoing connection takes a port while its server is stopped.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens."""

    host: str
    port: int


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port on `host` that nothing listens on now, and that the kernel does not hand out by itself."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port


def await_listener(listener: Listener, seconds: float = 15.0) -> None:
    """Return once `listener` accepts a connection; TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((listener.host, listener.port), timeout=seconds).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {listener.host}:{listener.port}") from error
            time.sleep(0.01)
        else:
            return


async def stop_accepting(server: asyncio.Server) -> None:
    """Take what is under way, and nothing more: asyncio leaks a connection accepted just before its server closes."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(3):
        await asyncio.sleep(0)


async def abort_connections() -> None:
    """Close at once every connection of the running loop (asyncio's own), whoever made it.

    One still in its TLS handshake, or waiting for the client's end of TLS, is known to the loop alone; left open
    when the loop ends, it would warn in the middle of another test.
    """
    transports = cast("Any", asyncio.get_running_loop())._transports
    seen: set[Any] = set()
    for _ in range(10):
        for transport in tuple(transports.values()):
            seen.add(transport)
            transport.abort()
        await asyncio.sleep(0)
    for transport in seen:
        if transport._sock is not None:
            transport._sock.close()
            transport._sock = None
