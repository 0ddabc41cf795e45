"""The open store: readers beside one writer, whole transactions that no cancellation can cut in half."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, final

from sqlalchemy import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import StoreError
from inboxd.flights import Flights
from inboxd.store.database import AtOnce, Database, connect
from inboxd.store.revisions import upgrade
from inboxd.store.translation import translated

T = TypeVar("T")
Item = TypeVar("Item")
Work = Callable[[AsyncConnection], Awaitable[T]]
_HURRY_SECONDS: Final = 10.0  # after a write of somebody who waits for it


def ignore(_seconds: float) -> None:
    """Observe nothing."""


@final
class _Outcome(Generic[T]):
    """Carries what a block made, or the error that ended it, from the task that ran it to the one that waits."""

    def __init__(self) -> None:
        self._value: list[T] = []
        self._error: Exception | None = None

    def __enter__(self) -> _Outcome[T]:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: TracebackType | None) -> bool:
        self._error = error if isinstance(error, Exception) else None
        return self._error is not None

    def put(self, value: T) -> None:
        self._value.append(value)

    def take(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._value.pop()


@final
class Store:
    """Reads and writes run as tasks of the store's own group, so a caller that is cancelled leaves them to finish.

    A caller cancelled before its turn leaves nothing behind; one cancelled later cannot know whether its write was
    committed. Both raise StoreError (Conflict for a broken unique or foreign key) and whatever `fn` raises. `fn` must
    await nothing but the connection it is given, which is gone when it returns.
    """

    def __init__(self, database: Database, tasks: asyncio.TaskGroup, observe: Callable[[float], None]) -> None:
        self._database = database
        self._tasks = tasks
        self._observe = observe
        self._read_turns = asyncio.Semaphore(database.readers)
        self._write_turns = asyncio.Semaphore(database.writers)
        self._bulk_turns = asyncio.Semaphore(max(1, database.writers - 1))
        self._hurried_at = float("-inf")
        self._checkpoints_often: bool | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._flights = Flights()
        self._waiting: dict[object, list[Any]] = {}

    @property
    def dialect(self) -> Dialect:
        """What SQLAlchemy knows of the database."""
        return self._database.writer.dialect

    async def read(self, fn: Work[T]) -> T:
        """What `fn` makes of one consistent view of the database. Reads do not wait for writes."""
        return await self._run(self._read_turns, partial(self._look, fn))

    async def write(self, fn: Work[T]) -> T:
        """What `fn` returns, once the transaction it ran in is committed; any error in it rolls everything back."""
        return await self._run(self._write_turns, partial(self._transact, fn))

    async def write_at_once(self, fn: Work[T], *, bulk: bool = False) -> T:
        """As `write`, in less time: nothing else can happen between the statements. `fn` must do little beside them.

        Of the writes in `bulk` only some wait for their turn together with the others, on SQLite one: the rest wait
        behind those. A write that is none makes `hurried` true for a while.
        """
        work = partial(self._transact, fn, self._database.at_once)
        if bulk:
            async with self._bulk_turns:
                return await self._run(self._write_turns, work)
        self._hurried_at = asyncio.get_running_loop().time()
        return await self._run(self._write_turns, work)

    @property
    def hurried(self) -> bool:
        """Whether somebody who will not wait for a bulk of writes came lately, and may come again."""
        return asyncio.get_running_loop().time() - self._hurried_at < _HURRY_SECONDS

    async def write_together(self, work: Callable[[AsyncConnection, list[Item]], Awaitable[None]], item: Item) -> None:
        """As `write`; what waits for the same `work` goes in one transaction, whose StoreError reaches all of them.

        `work` must bear to be given an item again that it has written.
        """
        waiting = self._waiting.setdefault(work, [])
        waiting.append(item)

        async def flush() -> None:
            taken = waiting[:]
            waiting.clear()
            try:
                await self.write(lambda connection: work(connection, taken))
            except asyncio.CancelledError:
                waiting[:0] = taken  # the next of those who wait writes them
                raise

        await self._flights.share(work, flush)

    async def close(self) -> None:
        """Refuse new work and wait for what is running."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)

    async def _run(self, turns: asyncio.Semaphore, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await turns.acquire()
        if self._closed:
            turns.release()
            raise StoreError("the store is closed")
        outcome = _Outcome[T]()
        task = self._tasks.create_task(_carry_out(work, outcome))
        self._running.add(task)
        task.add_done_callback(partial(self._end, turns))
        await asyncio.shield(task)
        return outcome.take()

    def _end(self, turns: asyncio.Semaphore, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        turns.release()

    async def _look(self, fn: Work[T]) -> T:
        with translated(self._database.reader.url):
            async with self._database.reader.connect() as connection:
                return await fn(connection)

    async def _transact(self, fn: Work[T], at_once: AtOnce | None = None) -> T:
        with translated(self._database.writer.url):
            async with self._database.writer.connect() as connection:
                if (often := self.hurried) is not self._checkpoints_often:
                    await self._database.checkpoint(connection, often=often)
                    self._checkpoints_often = often
                begun = time.perf_counter()
                work = _in_transaction(fn, connection)
                value = await (at_once(connection, work) if at_once else work)
                self._observe(time.perf_counter() - begun)
                return value


async def _in_transaction(fn: Work[T], connection: AsyncConnection) -> T:
    async with connection.begin():
        return await fn(connection)


async def _carry_out(work: Callable[[], Coroutine[Any, Any, T]], outcome: _Outcome[T]) -> None:
    with outcome:
        outcome.put(await work())


@asynccontextmanager
async def open_store(url: str, *, observe: Callable[[float], None] = ignore) -> AsyncGenerator[Store]:
    """The store at `url` (`sqlite:///path` or `postgresql://…`), its schema brought up to date.

    `observe` gets the seconds from begin to commit of each committed write. StoreError says in one line why the
    database cannot be used; StoreNewer that a newer inboxd wrote it, StoreCorrupt that it is damaged. Closing waits for
    what is still running.
    """
    # A task group would wrap whatever the caller's block raises into a group of its own.
    block = _Outcome[None]()
    async with connect(url) as database, asyncio.TaskGroup() as tasks:
        store = Store(database, tasks, observe)
        with block:
            try:
                await store.write(upgrade)
                yield store
                block.put(None)
            finally:
                await store.close()
    block.take()
