"""Writing answers: JSON, bytes as they are, and streams of JSON lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from inboxd.api.gate import Refusal
from inboxd.api.wire import codec
from inboxd.api.wire.shapes import Answer

JSON: Final = "application/json; charset=utf-8"
LINES: Final = "application/x-ndjson; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
OCTETS: Final = "application/octet-stream"
_PIECE_BYTES: Final = 256 << 10
# Answers hold mail and are never to be guessed at or kept by whatever lies between.
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
# Mail is hostile: whatever a browser shows of it runs no script, loads nothing and belongs to no origin.
_SANDBOX: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-DNS-Prefetch-Control": "off",
}
_SHOWN: Final = frozenset({"document", "iframe", "frame", "embed", "object"})

Emit = Callable[[Answer | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class File:
    """Bytes to be saved under a name."""

    content: bytes
    content_type: str
    name: str


@dataclass(frozen=True, slots=True)
class Page:
    """HTML of our own, with the Content-Security-Policy it was written for."""

    content: str
    policy: str


def is_shown(headers: Mapping[str, str]) -> bool:
    """Whether a browser asks for something to be shown as a page, as no program does, and no script on a page.

    By Sec-Fetch-Dest, or, as browsers keep that from servers elsewhere without TLS, by what they accept for a page.
    """
    what = headers.get("Sec-Fetch-Dest")
    return what in _SHOWN if what is not None else "application/xhtml+xml" in headers.get("Accept", "")


def whole(status: int, content: object, content_type: str) -> web.Response:
    """The answer in one piece: None is empty, text, bytes and files go as they are, everything else as JSON."""
    if content is None:
        return web.Response(status=status, headers=_HEADERS)
    headers = _HEADERS | {"Content-Type": content_type} | (_SANDBOX if content_type == HTML else {})
    if isinstance(content, File):
        headers |= _SANDBOX | {
            "Content-Type": content.content_type,
            "Content-Disposition": _saved_as(content.name),
        }
        body = content.content
    elif isinstance(content, Page):
        headers["Content-Security-Policy"] = content.policy
        body = content.content.encode()
    elif isinstance(content, bytes):
        body = content
    elif content_type == JSON:
        body = codec.write(content)
    else:
        body = str(content).encode(errors="replace")
    return web.Response(status=status, body=_Piecemeal(body) if len(body) > _PIECE_BYTES else body, headers=headers)


def _saved_as(name: str) -> str:
    """The Content-Disposition of a download (RFC 6266), its name for old and for new clients."""
    plain = "".join(mark if mark.isascii() and mark.isprintable() and mark not in '"\\%' else "_" for mark in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


@final
class _Piecemeal(Payload):
    """Octets sent some at a time: the transport copies what the socket does not take at once."""

    _autoclose = True

    def __init__(self, octets: bytes) -> None:
        super().__init__(octets)
        self._octets = octets
        self._size = len(octets)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """What aiohttp would log."""
        return self._octets.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send them all."""
        for at in range(0, len(self._octets), _PIECE_BYTES):
            await writer.write(self._octets[at : at + _PIECE_BYTES])


class ClientGoneError(Exception):
    """The client hung up: nobody reads the answer."""


@final
class LineStream:
    """A stream of JSON lines. It starts with the first line, so that a failure before it is an ordinary refusal."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.response: web.StreamResponse | None = None

    async def emit(self, line: Answer | None) -> None:
        """Send a line; None is an empty one, which keeps the connection alive. ClientGoneError when nobody reads."""
        await self.write(b"" if line is None else codec.write(line))

    async def write(self, line: bytes) -> None:
        """Send a line of JSON; ClientGoneError when nobody reads."""
        try:
            if self.response is None:
                self.response = web.StreamResponse(headers={**_HEADERS, "Content-Type": LINES})
                await self.response.prepare(self._request)
            await self.response.write(line + b"\n")
        except ConnectionResetError as error:
            raise ClientGoneError from error

    async def finish(self) -> web.StreamResponse:
        """The complete answer, also when there was no line at all."""
        if self.response is None:
            return web.Response(headers={**_HEADERS, "Content-Type": LINES})
        try:
            await self.response.write_eof()
        except ConnectionResetError as error:
            raise ClientGoneError from error
        return self.response


@final
class Held:
    """The requests that may take long: they end with 503 when the daemon stops, instead of holding it up."""

    def __init__(self) -> None:
        self._scopes: set[asyncio.Timeout] = set()
        self._stopping = False

    @asynccontextmanager
    async def until_stop(self) -> AsyncGenerator[None]:
        """Run the block; Refusal 503 when the daemon stops before its end."""
        scope = asyncio.timeout(0 if self._stopping else None)
        try:
            async with scope:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "inboxd is stopping; ask again later") from error

    async def stop(self, _application: web.Application) -> None:
        """End what is held now, and whatever comes later at once."""
        self._stopping = True
        for scope in self._scopes:
            scope.reschedule(asyncio.get_running_loop().time())


@asynccontextmanager
async def while_client_waits(request: web.BaseRequest) -> AsyncGenerator[None]:
    """Run the block; ClientGoneError when the client hangs up before its end.

    aiohttp tells a handler of this only by cancelling it, and then the handlers of all requests. So a witness stands
    before its protocol for as long.
    """
    transport = request.transport
    if transport is None:
        raise ClientGoneError
    protocol = request.protocol
    scope = asyncio.timeout(None)
    witness = _Witness(protocol, scope)
    try:
        async with scope:
            transport.set_protocol(witness)
            try:
                yield
            finally:
                if not witness.lost:
                    transport.set_protocol(protocol)
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise ClientGoneError from error


@final
class _Witness(asyncio.Protocol):
    """Hands everything on to a connection's own protocol, and ends a scope with the connection."""

    def __init__(self, protocol: asyncio.Protocol, scope: asyncio.Timeout) -> None:
        self.lost = False
        self._scope = scope
        self._protocol = protocol
        self.data_received = protocol.data_received
        self.eof_received = protocol.eof_received
        self.pause_writing = protocol.pause_writing
        self.resume_writing = protocol.resume_writing

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._scope.reschedule(asyncio.get_running_loop().time())
        self._protocol.connection_lost(exc)
