"""A proxy for tests: SOCKS5 (RFC 1928, 1929) and HTTP's CONNECT, with names that it alone knows."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from inboxd.model import Secret
from inboxd.ways import Proxy, ProxyKind
from servers import LOOPBACK, Listener


@dataclass
class Tunnels:
    """What a test sees of the proxy. `asked` holds what it was asked to connect to, as it was written.

    `login`: the one user name and password it takes. `answer`: octets said instead of carrying a request out.
    """

    kind: ProxyKind
    names: Mapping[str, Listener]
    login: tuple[str, str] | None = None
    answer: bytes | None = None
    port: int = 0
    asked: list[str] = field(default_factory=list[str])
    writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])

    def proxy(self, username: str = "", password: str = "") -> Proxy:
        """How a client reaches it."""
        return Proxy(self.kind, LOOPBACK, self.port, username, Secret(password))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to its end."""
        self.writers.append(writer)
        speak = self._socks5 if self.kind is ProxyKind.SOCKS5 else self._http
        with suppress(OSError, EOFError):
            there = await speak(reader, writer)
            if there is not None:
                await _join(reader, writer, *there)
        writer.close()

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Streams | None:
        offered = await reader.readexactly((await reader.readexactly(2))[1])
        if self.login is not None:
            writer.write(b"\x05\x02" if 2 in offered else b"\x05\xff")
            name = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            right = (name.decode(), password.decode()) == self.login
            writer.write(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return None
        else:
            writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        if self.answer is not None:
            writer.write(self.answer)
            return None
        there = await self._reach(host, port)
        # A name for the bound address: servers may, and few clients expect it.
        writer.write(b"\x05\x04\x00\x01" + bytes(6) if there is None else b"\x05\x00\x00\x03\x04here\x00\x01")
        return there

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Streams | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ")[1]
        self.asked.append(target)
        if self.answer is not None:
            writer.write(self.answer)
            return None
        if self.login is not None:
            basic = base64.b64encode(":".join(self.login).encode()).decode()
            if f"\r\nProxy-Authorization: Basic {basic}\r\n" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return None
        host, _, port = target.rpartition(":")
        there = await self._reach(host.strip("[]"), int(port))
        if there is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 tests\r\n\r\n")
        return there

    async def _reach(self, host: str, port: int) -> _Streams | None:
        at = self.names.get(host, Listener(host, port))
        try:
            streams = await asyncio.open_connection(at.host, at.port)
        except OSError:
            return None
        self.writers.append(streams[1])
        return streams


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_pour(reader, far_writer))
        group.create_task(_pour(far_reader, writer))


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65_536):
            sink.write(piece)
            await sink.drain()
    sink.close()


@asynccontextmanager
async def tunnels(
    kind: ProxyKind,
    names: Mapping[str, Listener] | None = None,
    *,
    login: tuple[str, str] | None = None,
    answer: bytes | None = None,
) -> AsyncGenerator[Tunnels]:
    """A proxy on the test's own loop, until the block ends."""
    proxy = Tunnels(kind, names or {}, login, answer)
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(run, LOOPBACK, 0)
    proxy.port = int(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=5)
        for writer in proxy.writers:
            writer.transport.abort()
        for _ in range(3):  # the loop closes their sockets
            await asyncio.sleep(0)
