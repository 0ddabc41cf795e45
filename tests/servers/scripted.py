"""A server that does what it is told: for what a real server will not do (lie, stall, answer in pieces)."""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from servers import LOOPBACK

GREETING = b"* OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] ready\r\n"


class Conversation:
    """One client's connection, as the script sees it. `received` holds every line read, without its CRLF.

    Reading raises EOFError once the client is gone; `scripted` takes that for the script's end, not for a failure.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._inflater: Any = None
        self._deflater: Any = None
        self._inflated = b""
        self.received: list[bytes] = []

    async def line(self) -> bytes:
        """The next line, without its CRLF."""
        line = await (self._reader.readline() if self._inflater is None else self._inflated_line())
        if not line.endswith(b"\n"):
            raise EOFError
        self.received.append(line.rstrip(b"\r\n"))
        return self.received[-1]

    async def _inflated_line(self) -> bytes:
        while b"\n" not in self._inflated and (octets := await self._reader.read(65536)):
            self._inflated += self._inflater.decompress(octets)
        line, end, self._inflated = self._inflated.partition(b"\n")
        return line + end

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes: a client's literal."""
        return await self._reader.readexactly(count)

    async def expect(self, pattern: str) -> re.Match[bytes]:
        """The next line, which must match `pattern` (from its start, any case)."""
        line = await self.line()
        match = re.match(pattern.encode(), line, re.IGNORECASE)
        assert match, f"expected {pattern!r}, got {line!r}"
        return match

    async def command(self, pattern: str) -> str:
        """The next line must be an IMAP command whose part after the tag matches `pattern`. Returns the tag."""
        return (await self.expect(rf"(\S+) (?:{pattern})"))[1].decode()

    async def ok(self, pattern: str, *untagged: bytes) -> str:
        """Answer the next command, which must match `pattern`, with `untagged` responses and OK. Returns its tag."""
        tag = await self.command(pattern)
        await self.send(*(response + b"\r\n" for response in untagged), f"{tag} OK done\r\n".encode())
        return tag

    async def send(self, *pieces: bytes, chunk: int | None = None) -> None:
        """Send the pieces joined, in one write; or in writes of `chunk` bytes, each let out before the next."""
        octets = b"".join(pieces)
        if self._deflater is not None:
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        size = chunk or len(octets) or 1
        for start in range(0, len(octets), size):
            self._writer.write(octets[start : start + size])
            await self._writer.drain()
            if chunk:
                await asyncio.sleep(0)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Turn the connection into TLS; call it after the answer to STARTTLS."""
        await self._writer.start_tls(context)

    def start_deflate(self, level: int = 6) -> None:
        """Compress what is sent from here on, and take lines compressed; call it after the answer to COMPRESS."""
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflater = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)

    async def raw(self, octets: bytes) -> None:
        """Send octets as they are, compression or not."""
        self._writer.write(octets)
        await self._writer.drain()

    async def closed(self) -> None:
        """Until the client closes, reading and forgetting what it still sends."""
        while await self._reader.read(65536):
            pass

    def close(self) -> None:
        """Close in order (FIN), after what was sent."""
        self._writer.close()

    def reset(self) -> None:
        """Close at once; unread bytes make it a RST."""
        self._writer.transport.abort()


Script = Callable[[Conversation], Awaitable[None]]
Reply = Callable[[Conversation, str], Awaitable[None]]


def imap(replies: Mapping[str, Reply | bytes], *, greeting: bytes = GREETING) -> Script:
    """A script that greets, then answers each command by the first pattern that matches it after its tag.

    A reply is either the untagged responses to send before OK, or a function given the conversation and the tag.
    Without a match: OK, and for LOGOUT a BYE and the end.
    """

    async def script(conversation: Conversation) -> None:
        await conversation.send(greeting)
        while True:
            tag, _, command = (await conversation.line()).decode(errors="replace").partition(" ")
            found = (reply for pattern, reply in replies.items() if re.match(pattern, command, re.IGNORECASE))
            reply = next(found, b"* BYE until later\r\n" if command.upper() == "LOGOUT" else b"")
            if isinstance(reply, bytes):
                await conversation.send(reply, f"{tag} OK done\r\n".encode())
            else:
                await reply(conversation, tag)
            if command.upper() == "LOGOUT":
                return

    return script


@asynccontextmanager
async def scripted(script: Script, *, context: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Run `script` for each connection to the yielded port; with `context`, inside TLS.

    A script that fails makes the block fail when it ends. The client's leaving ends a script quietly.
    """
    failures: list[Exception] = []
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        conversation = Conversation(reader, writer)
        try:
            await script(conversation)
        except (EOFError, ConnectionError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            conversation.reset()
        except Exception as error:  # noqa: BLE001  # kept for the end of the block
            failures.append(error)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(run, LOOPBACK, 0, ssl=context, limit=2**24)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=5)
    if failures:
        raise ExceptionGroup("the script failed", failures)
