"""Real servers, and the few false ones, that the tests talk to."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass

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
