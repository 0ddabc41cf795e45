"""Which connectors are supervised: starts, stops and restarts supervisors as the store says, each on its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import final

from inboxd import logs
from inboxd.bus import Bus
from inboxd.connector import Supervisor
from inboxd.errors import NotFound, StoreError
from inboxd.logins import Logins
from inboxd.mail.beside import Parsers
from inboxd.model import ConnectorId, Kind, State, Status, utc_now
from inboxd.settings import Settings
from inboxd.store import connectors
from inboxd.store.engine import Store
from inboxd.sync import Target
from inboxd.vault import Vault

_RETRY_SECONDS = 5.0
_log = logs.logger("roster")


@final
class Roster:
    """The supervisors of one daemon. `run` owns them; the other methods may be called from anywhere on the loop."""

    def __init__(
        self, settings: Settings, store: Store, vault: Vault, bus: Bus, parsers: Parsers | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._vault = vault
        self._bus = bus
        self._parsers = parsers
        self._logins = Logins(settings.imap)
        self._locks: defaultdict[ConnectorId, dict[str, asyncio.Lock]] = defaultdict(dict)
        self._supervisors: dict[ConnectorId, Supervisor] = {}
        self._left: dict[ConnectorId, Status] = {}
        self._tasks: defaultdict[ConnectorId, set[asyncio.Task[None]]] = defaultdict(set)
        self._ending: set[asyncio.Task[None]] = set()
        self._changed: asyncio.Queue[ConnectorId] = asyncio.Queue()

    async def run(self) -> None:
        """Supervise every runnable connector until cancelled; then all sessions are closed."""
        async with asyncio.TaskGroup() as group:
            for known in await connectors.synced(self._store):
                self._begin_anew(known.connector.id, group, known)
                await asyncio.sleep(0)  # thousands begin one by one, and whoever asks meanwhile is answered
            while True:
                self._begin_anew(await self._changed.get(), group)

    def refresh(self, connector_id: ConnectorId) -> None:
        """Something about the connector changed: what runs for it is stopped, and begun anew if it still should."""
        self._changed.put_nowait(connector_id)

    def forget(self, connector_id: ConnectorId) -> None:
        """The connector was deleted."""
        self.refresh(connector_id)

    def status(self, connector_id: ConnectorId) -> Status:
        """What the connector's supervisor is doing; OFF when there is none."""
        supervisor = self._supervisors.get(connector_id)
        if supervisor is not None:
            return supervisor.current()
        return self._left.get(connector_id) or Status(State.OFF, utc_now())

    def history(self, connector_id: ConnectorId) -> tuple[Status, ...]:
        """Its last changes of state, the newest last, since its supervisor was last replaced."""
        supervisor = self._supervisors.get(connector_id)
        return tuple(supervisor.history) if supervisor is not None else ()

    def delays(self, connector_id: ConnectorId) -> tuple[float, ...]:
        """Its last seconds from a push to the mail being committed, likewise."""
        supervisor = self._supervisors.get(connector_id)
        return supervisor.delays if supervisor is not None else ()

    @contextmanager
    def overhear(self, connector_id: ConnectorId, listener: Callable[[str], None]) -> Generator[None]:
        """Hand each line of the connector's masked protocol to `listener`, until its supervisor is replaced."""
        supervisor = self._supervisors.get(connector_id)
        if supervisor is not None:
            supervisor.listeners.add(listener)
        try:
            yield
        finally:
            if supervisor is not None:
                supervisor.listeners.discard(listener)

    def lock(self, connector_id: ConnectorId, mailbox: str) -> asyncio.Lock:
        """Held by whoever reads this mailbox of the connector into the store, so that two never do the same work."""
        return self._locks[connector_id].setdefault(mailbox, asyncio.Lock())

    def _begin_anew(
        self, connector_id: ConnectorId, group: asyncio.TaskGroup, known: connectors.Synced | None = None
    ) -> None:
        tasks = self._tasks[connector_id]
        before = tuple(tasks)
        for task in before:
            if task not in self._ending:  # a second time would cut its ending short
                self._ending.add(task)
                task.cancel()
        task = group.create_task(self._replace(connector_id, before, known))
        tasks.add(task)
        task.add_done_callback(partial(self._drop, connector_id))

    def _drop(self, connector_id: ConnectorId, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self._tasks[connector_id].discard(task)
        if not self._tasks[connector_id]:
            del self._tasks[connector_id]

    async def _replace(
        self, connector_id: ConnectorId, before: tuple[asyncio.Task[None], ...], known: connectors.Synced | None
    ) -> None:
        """`before` are all that have not ended yet: one of them may be cancelled while it waits for another.

        What is `known` was read at the start; a change since then has asked for a refresh, which ends this one.
        """
        if before:
            await asyncio.wait(before)
        supervisor: Supervisor | None = None
        try:
            supervisor = self._supervise(known) if known is not None else await self._make(connector_id)
            if supervisor is not None:
                self._supervisors[connector_id] = supervisor
                _log.info("supervision_began", connector=str(connector_id))
                await supervisor.run()
                await asyncio.Event().wait()  # parked: the status stays until the connector changes
        finally:
            if supervisor is not None:
                self._supervisors.pop(connector_id, None)
                self._left[connector_id] = supervisor.leave()
                _log.info("supervision_ended", connector=str(connector_id))

    async def _make(self, connector_id: ConnectorId) -> Supervisor | None:
        while True:
            try:
                return await self._read(connector_id)
            except NotFound:
                self._locks.pop(connector_id, None)
                self._left.pop(connector_id, None)
                return None
            except StoreError as error:
                _log.error("connector_unreadable", connector=str(connector_id), reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, connector_id: ConnectorId) -> Supervisor | None:
        connector = await connectors.get(self._store, connector_id)
        connection = await connectors.connection(self._store, connector_id, Kind.IMAP)
        interval = await connectors.sync_settings(self._store, connector_id)
        if connection is None or interval is None:
            return None
        if not (connector.enabled and connection.enabled and interval.enabled):
            return None
        return self._supervise(connectors.Synced(connector, connection, interval))

    def _supervise(self, known: connectors.Synced) -> Supervisor:
        connector = known.connector
        return Supervisor(
            connector,
            known.connection,
            known.interval,
            Target(self._store, self._bus, connector.id, connector.inbox_id, self._parsers),
            self._settings,
            self._vault,
            self._logins,
            partial(self.lock, connector.id),
        )
