"""A TCP proxy that breaks connections on purpose."""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from servers import LOOPBACK, Listener

_RESET = struct.pack("ii", 1, 0)


class Direction(enum.Enum):
    """Which way bytes go."""

    UP = "client to server"
    DOWN = "server to client"


class Proxy:
    """Passes everything on until told otherwise. Changes concern open connections too.

    `chunk_bytes`: what comes from the server leaves in pieces this small, each its own segment.
    `coalesce_bytes`: what comes from the server is held until so much is there, or none came for 50 ms.
    """

    def __init__(self, target: Listener) -> None:
        self.host = LOOPBACK
        self.port = 0
        self.target = target
        self.connections = 0
        self.passed = {Direction.UP: 0, Direction.DOWN: 0}
        self.chunk_bytes: int | None = None
        self.coalesce_bytes: int | None = None
        self.refusing = False
        self._cut: tuple[Direction, int, bool] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut_done = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    def cut_after(self, octets: int, direction: Direction = Direction.DOWN, *, reset: bool = False) -> None:
        """From now on let so many more bytes through, then close that connection (FIN, or RST) and go on as before."""
        self._cut = (direction, octets, reset)
        self._cut_done.clear()

    async def cut_done(self) -> None:
        """Until the cut ordered last has happened."""
        await self._cut_done.wait()

    def freeze(self) -> None:
        """Pass nothing on, and close nothing: a dead network path."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on again, what was held included."""
        self._flowing.set()

    def drop(self, *, reset: bool = True) -> None:
        """Close every connection now."""
        for writer in tuple(self._open):
            _close(writer, reset=reset)

    async def relay(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Serve one client until either side ends."""
        self.connections += 1
        if self.refusing:
            _close(back, reset=True)
            return
        try:
            server, forth = await asyncio.open_connection(self.target.host, self.target.port)
        except OSError:
            _close(back, reset=True)
            return
        self._open |= {back, forth}
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(client, forth, back, Direction.UP))
                pumps.create_task(self._pump(server, back, forth, Direction.DOWN))
        finally:
            self._open -= {back, forth}
            for writer in (back, forth):
                writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, other: asyncio.StreamWriter, way: Direction
    ) -> None:
        with suppress(ConnectionError):
            while octets := await source.read(65536):
                if way is Direction.DOWN and self.coalesce_bytes:
                    octets += await _more(source, self.coalesce_bytes - len(octets))
                await self._flowing.wait()
                allowed = self._allowance(way, len(octets))
                await self._pass_on(octets[:allowed], sink, way)
                if allowed < len(octets) or self._spent(way):
                    await self._execute_cut(sink, other)
                    return
            await self._flowing.wait()
        sink.close()

    def _allowance(self, way: Direction, octets: int) -> int:
        return min(octets, self._cut[1]) if self._cut and self._cut[0] is way else octets

    def _spent(self, way: Direction) -> bool:
        return self._cut is not None and self._cut[0] is way and self._cut[1] <= 0

    async def _pass_on(self, octets: bytes, sink: asyncio.StreamWriter, way: Direction) -> None:
        size = (self.chunk_bytes if way is Direction.DOWN else None) or len(octets) or 1
        for start in range(0, len(octets), size):
            sink.write(octets[start : start + size])
            await sink.drain()
            if size < len(octets):
                await asyncio.sleep(0)
        self.passed[way] += len(octets)
        if self._cut and self._cut[0] is way:
            self._cut = (way, self._cut[1] - len(octets), self._cut[2])

    async def _execute_cut(self, *writers: asyncio.StreamWriter) -> None:
        assert self._cut is not None
        reset = self._cut[2]
        self._cut = None
        for writer in writers:
            _close(writer, reset=reset)
        self._cut_done.set()


async def _more(source: asyncio.StreamReader, wanted: int) -> bytes:
    held = b""
    with suppress(TimeoutError):
        while len(held) < wanted:
            async with asyncio.timeout(0.05):
                octets = await source.read(wanted - len(held))
            if not octets:
                break
            held += octets
    return held


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if not reset or writer.is_closing():
        writer.close()
        return
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def proxy(target: Listener) -> AsyncGenerator[Proxy]:
    """A proxy to `target` until the block ends; its connections are then dropped."""
    through = Proxy(target)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await through.relay(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    through.port = int(server.sockets[0].getsockname()[1])
    try:
        yield through
    finally:
        server.close()
        through.drop()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=5)
