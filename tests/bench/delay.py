"""A proxy that hands everything on half a round trip later, each way, as a long line does: HOST PORT MILLISECONDS.

Prints the port it listens on. What is on its way is bounded by far more than a line of 10 Gbit/s holds.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from servers import LOOPBACK

_READ_BYTES = 256 << 10
_MOST_READS = 256


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    clock = asyncio.get_running_loop()
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_READS)

    async def arrive() -> None:
        while True:
            due, octets = await line.get()
            await asyncio.sleep(due - clock.time())
            if not octets:
                sink.close()
                return
            sink.write(octets)
            await sink.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(arrive())
        octets = b"-"
        while octets:
            octets = await source.read(_READ_BYTES)
            await line.put((clock.time() + seconds, octets))


async def _serve(
    host: str, port: int, seconds: float, client: asyncio.StreamReader, back: asyncio.StreamWriter
) -> None:
    server, forth = await asyncio.open_connection(host, port, limit=_READ_BYTES)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(client, forth, seconds))
            group.create_task(_carry(server, back, seconds))
    except* ConnectionError:
        pass  # one side went without a word
    finally:
        forth.close()
        back.close()


async def main() -> None:
    """Serve until killed."""
    host, port, milliseconds = sys.argv[1:]
    serve = partial(_serve, host, int(port), float(milliseconds) / 2000)
    async with await asyncio.start_server(serve, LOOPBACK, 0, limit=_READ_BYTES) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
