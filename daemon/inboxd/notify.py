"""Talking to the service supervisor: readiness, status and watchdog over `$NOTIFY_SOCKET` (sd_notify(3)).

Without the variable every call does nothing, so that a daemon started by hand needs no other path. Sends never wait:
the supervisor's socket being full costs one message, never a pause of the event loop.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import final

_STATUS_BYTES = 1024
_LONGEST_ADDRESS = 107


@final
class Notifier:
    """A supervisor's notification socket. Each call returns whether the supervisor's socket took the message."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None

    def ready(self) -> bool:
        """Start-up, or a reload begun with `reloading`, is done."""
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """One line for people, shown by `systemctl status`; control characters become blanks, the rest is cut off."""
        line = "".join(character if character.isprintable() else " " for character in text)
        return self._send("STATUS=" + line.encode(errors="replace")[:_STATUS_BYTES].decode(errors="ignore"))

    def reloading(self) -> bool:
        """A reload begins; it ends with `ready`."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self) -> bool:
        """The shutdown has begun."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """Still making progress. Due at least every `watchdog_seconds`; call it at half that."""
        return self._send("WATCHDOG=1")

    def close(self) -> None:
        """Release the socket; a later call opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> bool:
        if self._address is None:
            return False
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """The supervisor's watchdog interval, or None when it does not watch this process (sd_watchdog_enabled(3))."""
    interval = environment.get("WATCHDOG_USEC", "")
    watched = environment.get("WATCHDOG_PID", "")
    if not _is_count(interval) or int(interval) == 0 or (watched and watched != str(os.getpid())):
        return None
    return int(interval) / 1_000_000


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _address(variable: str) -> bytes | None:
    """The socket's address: a path, or with a leading `@` a name in Linux' abstract namespace."""
    address = os.fsencode(variable)
    if not address.startswith((b"/", b"@")) or not 1 < len(address) <= _LONGEST_ADDRESS:
        return None
    return b"\0" + address[1:] if address.startswith(b"@") else address
