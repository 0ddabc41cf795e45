"""Where a provider's page leads back to: a listener on this machine alone, or the address pasted on standard input."""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit

from inboxd.ctl_client import Failure

_LOOPBACK: Final = "127.0.0.1"
_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
_REQUEST_BYTES: Final = 32_768
_CLIENT_SECONDS: Final = 2.0
_TARGET: Final = re.compile(rb"GET (\S+) HTTP/1\.[01]\r\n")
_PAGE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Security-Policy: default-src 'none'\r\n"
    b"Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
    b"<!doctype html><title>inboxd</title><p>inboxctl has the answer and goes on. You can close this page."
)
_NOTHING: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Redirect:
    """The two ways back. `port` is None where nobody listens."""

    def __init__(self, listener: socket.socket | None) -> None:
        self._listener = listener
        self._typed = b""
        self._stdin: int | None = 0 if sys.stdin is not None and not sys.stdin.closed else None

    @property
    def port(self) -> int | None:
        """Where a browser on this machine can come back to."""
        return self._listener.getsockname()[1] if self._listener is not None else None

    def wait(self, seconds: float) -> str:
        """The address that the page led to; Failure when none comes in time, or there is no way for it to come."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            sources = [one for one in (self._listener, self._stdin) if one is not None]
            if not sources:
                break
            ready, _, _ = select.select(sources, [], [], left)
            for source in ready:
                found = self._read_line() if source == self._stdin else self._serve()
                if found:
                    return found
        raise Failure("nobody consented; begin anew with: inboxctl oauth login")

    def close(self) -> None:
        """Listen no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _read_line(self) -> str | None:
        """A line typed or pasted, as soon as it is whole."""
        some = os.read(0, _REQUEST_BYTES)
        if not some:
            self._stdin = None
        self._typed = (self._typed + some)[-_REQUEST_BYTES:]
        line, end, rest = self._typed.partition(b"\n")
        if not end and self._stdin is not None:
            return None
        self._typed = rest
        return line.decode(errors="replace").strip() or None

    def _serve(self) -> str | None:
        """Answer one request; the address it came to if that is an answer of the provider's."""
        assert self._listener is not None
        with suppress(OSError):
            browser, _ = self._listener.accept()
            with browser:
                browser.settimeout(_CLIENT_SECONDS)
                found = _TARGET.match(_request(browser))
                target = found[1].decode(errors="replace") if found else ""
                is_answer = "state" in parse_qs(urlsplit(target).query)
                browser.sendall(_PAGE if is_answer else _NOTHING)
                return f"http://{_LOOPBACK}{target}" if is_answer else None
        return None


def _request(browser: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and len(request) < _REQUEST_BYTES:
        some = browser.recv(_REQUEST_BYTES)
        if not some:
            break
        request += some
    return request


@contextmanager
def listening(redirect_uri: str | None) -> Generator[Redirect]:
    """A listener at a port of its own, or at that of a `redirect_uri` on this machine; none where that is elsewhere."""
    redirect = Redirect(_listener(redirect_uri))
    try:
        yield redirect
    finally:
        redirect.close()


def _listener(redirect_uri: str | None) -> socket.socket | None:
    port = 0
    if redirect_uri is not None:
        try:
            parts = urlsplit(redirect_uri)
            host, named = parts.hostname, parts.port
        except ValueError:
            return None
        if parts.scheme != "http" or host not in _NAMES or not named:
            return None
        port = named
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen()
    except OSError:
        listener.close()
        return None
    return listener
