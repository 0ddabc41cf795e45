"""Connectors declared in files: what a folder of them says, set against what is stored, and the store brought to it.

A file is a connector, and says all of it: what it leaves out is at its default. What has no file was made by hand and
is never touched; a file whose name for its connector is taken by one of those is a mistake. A mistake in a file is
told, and leaves that file's connector as it is. A connector whose file is gone is disabled, and deleted when that is
asked for; as long as the folder itself is missing, or cannot be read, nothing happens at all.
"""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, final

from inboxd import logs
from inboxd.accounts import mail_of, open_account
from inboxd.errors import InboxdError, SecretUnreadable, SettingsError
from inboxd.model import Account, Connection, ConnectorId, Inbox, Kind, Secret, SyncSettings
from inboxd.roster import Roster
from inboxd.store import connectors, messages
from inboxd.store.connectors import Whole
from inboxd.store.engine import Store
from inboxd.vault import Vault

_RETRY_SECONDS: Final = 5.0
_ASIDE: Final = frozenset({"connector_id", "kind", "tls"})
_OF_IMAP: Final = frozenset({"select_folder", "search_terms", "folders", "mirror"})
# Fields whose keys in a file have other names.
_KEYS: Final = {
    "username": "user",
    "select_folder": "folder",
    "search_terms": "search",
    "ssl_trust": "trust",
    "ssl_protocols": "tls_protocols",
    "local_host_name": "local_name",
    "password_source": "password_from",
}
_SHOWS: Final = frozenset(f"imap.{key}" for key in ("host", "port", "user", "folder", "folders", "search", "enabled"))
_log = logs.logger("declared")


class Action(enum.Enum):
    """What becomes of a declared connector."""

    CREATE = "create"
    CHANGE = "change"
    DISABLE = "disable"
    DELETE = "delete"
    NOTHING = "unchanged"


@final
@dataclass(frozen=True, slots=True)
class Declared:
    """What a file says, as the connector that would be made of it, under new ids; and the inbox made with it."""

    file: str
    whole: Whole
    inbox: Inbox


@final
@dataclass(frozen=True, slots=True)
class Mistake:
    """Why a file, or the folder, is passed over."""

    file: str
    message: str


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose value is not as declared; None: not set. Of secrets only that there is one is said."""

    key: str
    old: str | None
    new: str | None


@final
@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done about one connector. `wanted` is None when its file is gone, `held` when it is new."""

    action: Action
    differences: tuple[Difference, ...] = ()
    wanted: Declared | None = None
    held: Whole | None = None

    @property
    def whole(self) -> Whole:
        """The connector as declared, or as it is when nothing declares it any more."""
        chosen = self.wanted.whole if self.wanted is not None else self.held
        assert chosen is not None
        return chosen

    @property
    def connector_id(self) -> ConnectorId | None:
        """The stored connector; None before it is made."""
        return self.held.connector.id if self.held is not None else None

    @property
    def shows_other_mail(self) -> bool:
        """Whether other mail is fetched than before."""
        return self.action is Action.CREATE or any(difference.key in _SHOWS for difference in self.differences)


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that bring the store to what the files say. `folder` is None while there is none."""

    folder: Path | None = None
    changes: tuple[Change, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


def compare(
    wanted: Sequence[Declared],
    held: Sequence[Whole],
    vault: Vault,
    *,
    spared: frozenset[str] = frozenset(),
    prune: bool = False,
) -> list[Change]:
    """What is to be done, in the order of the files, then for the connectors whose files are gone.

    `spared` are files with a mistake. A connector follows its file; one whose file is gone, a new file of its name.
    """
    by_file = {one.connector.declared: one for one in held}
    present = {one.file for one in wanted} | spared
    gone = [one for one in held if one.connector.declared not in present]
    changes: list[Change] = []
    for one in wanted:
        known = by_file.get(one.file)
        if known is None:
            name = one.whole.connector.name
            known = next((other for other in gone if other.connector.name == name), None)
            gone = [other for other in gone if other is not known]
        changes.append(_change(one, known, vault))
    return changes + [_farewell(one, prune=prune) for one in gone]


def _change(wanted: Declared, held: Whole | None, vault: Vault) -> Change:
    new = _facts(wanted.whole, vault)
    if held is None:
        return Change(Action.CREATE, _differences({}, new), wanted)
    differences = _differences(_facts(held, vault), new)
    return Change(Action.CHANGE if differences else Action.NOTHING, differences, wanted, held)


def _farewell(held: Whole, *, prune: bool) -> Change:
    if prune:
        return Change(Action.DELETE, held=held)
    if not held.connector.enabled:
        return Change(Action.NOTHING, held=held)
    return Change(Action.DISABLE, (Difference("enabled", "true", "false"),), held=held)


def _differences(old: dict[str, object], new: dict[str, object]) -> tuple[Difference, ...]:
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    return tuple(Difference(key, _said(old.get(key)), _said(new.get(key))) for key in keys)


def _said(value: object) -> str | None:
    """A value as a file would have it; a secret stays one."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
    return None if value is None else str(value)


def _facts(whole: Whole, vault: Vault) -> dict[str, object]:
    """All that a file decides, by its key; what is empty or not there is left out."""
    connector, sync = whole.connector, whole.sync
    facts: dict[str, object] = {
        "file": connector.declared,
        "name": connector.name,
        "email": connector.email_address,
        "enabled": connector.enabled,
        "sync": sync is not None and sync.enabled,
        "interval": sync.interval_minutes if sync is not None else None,
    }
    for connection in whole.connections:
        half = connection.kind.value
        facts |= {f"{half}.{key}": value for key, value in _way(connection, vault).items()}
    return {key: value for key, value in facts.items() if value not in (None, "", ())}


def _way(connection: Connection, vault: Vault) -> dict[str, object]:
    account = _opened(connection, vault)
    facts: dict[str, object] = {"enabled": connection.enabled, "tls": connection.tls.value}
    aside = _ASIDE if connection.kind is Kind.IMAP else _ASIDE | _OF_IMAP
    for name in (field.name for field in fields(Account) if field.name not in aside):
        value = getattr(account, name)
        facts[_KEYS.get(name, name)] = None if value == Secret("") else value
    return facts


def _opened(connection: Connection, vault: Vault) -> Account:
    """With its secrets; without them when the key is no longer theirs, so that they are put there anew."""
    try:
        return open_account(vault, connection)
    except SecretUnreadable:
        bare = {field.name: None for field in fields(connection) if field.name.startswith("sealed_")}
        return open_account(vault, replace(connection, **bare))


@final
class Declarations:
    """The folder of one daemon. `read` makes a file's connector, or raises SettingsError.

    Without a folder, or where it does not exist, nothing is declared. `latest` is what was found by the last `apply`.
    """

    def __init__(
        self,
        folder: Path | None,
        store: Store,
        vault: Vault,
        roster: Roster,
        read: Callable[[Path], Awaitable[Declared]],
    ) -> None:
        self.folder = folder
        self._store = store
        self._vault = vault
        self._roster = roster
        self._read = read
        self._lock = asyncio.Lock()
        self._rung = asyncio.Event()
        self.latest = Plan()

    async def run(self) -> None:
        """Apply the files now, and whenever they are to be read again, until cancelled."""
        while True:
            self._rung.clear()
            try:
                await self.apply()
            except InboxdError as error:
                _log.error("declared_not_applied", reason=str(error))
                if error.retry:
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
            await self._rung.wait()

    def read_again(self) -> None:
        """Have `run` apply the files as they are now."""
        self._rung.set()

    async def plan(self, *, prune: bool = False) -> Plan:
        """What `apply` would do now. StoreError."""
        folder = self.folder
        if folder is None:
            return Plan()
        try:
            names = await asyncio.to_thread(os.listdir, folder)  # Path.glob would take one it may not read for empty
        except FileNotFoundError:
            return Plan()
        except OSError as error:
            return Plan(folder, mistakes=(Mistake(str(folder), f"cannot be read: {error.strerror}"),))
        wanted, mistakes = await self._read_all(folder, sorted(names))
        held = await connectors.declared(self._store)
        by_hand = await connectors.undeclared_names(self._store)
        wanted, clashes = _without_clashes(wanted, held, by_hand, {mistake.file for mistake in mistakes})
        mistakes = sorted([*mistakes, *clashes], key=lambda mistake: mistake.file)
        spared = frozenset(mistake.file for mistake in mistakes)
        changes = await asyncio.to_thread(compare, wanted, held, self._vault, spared=spared, prune=prune)
        return Plan(folder, tuple(changes), tuple(mistakes))

    async def _read_all(self, folder: Path, names: list[str]) -> tuple[list[Declared], list[Mistake]]:
        wanted: list[Declared] = []
        mistakes: list[Mistake] = []
        for name in names:
            if name.endswith(".toml") and not name.startswith("."):
                if not name.isprintable():  # the database could not keep it as it is
                    mistakes.append(Mistake(ascii(name), "its name cannot be used: rename it, to plain text"))
                    continue
                try:
                    wanted.append(await self._read(folder / name))
                except SettingsError as error:
                    mistakes.append(Mistake(name, str(error)))
        return wanted, mistakes

    async def apply(self, *, prune: bool = False) -> Plan:
        """Do it, each connector in a transaction of its own; what was done. StoreError, NotFound: the rest was not.

        What is as declared goes on undisturbed, so a second time does nothing.
        """
        async with self._lock:
            plan = await self.plan(prune=prune)
            for mistake in plan.mistakes:
                _log.warning("connector_file_passed_over", file=mistake.file, reason=mistake.message)
            for change in plan.changes:
                if change.action is not Action.NOTHING:
                    await self._apply(change)
            self.latest = plan
            return plan

    async def _apply(self, change: Change) -> None:
        connector = change.whole.connector
        if change.held is None:
            await self._create(change)
        elif change.action is Action.DELETE:
            await connectors.remove(self._store, connector.id)
            self._roster.forget(connector.id)
        elif change.action is Action.DISABLE:
            await connectors.update(self._store, replace(connector, enabled=False))
            self._roster.refresh(connector.id)
        else:
            await self._change(change.held, _taken_over(change.held, change.whole, self._vault))
        _log.info(
            "connector_declared",
            action=change.action.value,
            connector=str(change.connector_id or connector.id),
            name=connector.name,
            file=connector.declared,
            keys=[difference.key for difference in change.differences],
        )

    async def _create(self, change: Change) -> None:
        whole, wanted = change.whole, change.wanted
        await connectors.add(
            self._store,
            whole.connector,
            inbox=wanted.inbox if wanted is not None else None,
            connections=whole.connections,
            sync=whole.sync,
        )
        self._roster.refresh(whole.connector.id)

    async def _change(self, held: Whole, wanted: Whole) -> None:
        await connectors.put_whole(self._store, wanted)
        connector_id = held.connector.id
        self._roster.refresh(connector_id)
        before, after = held.connection(Kind.IMAP), wanted.connection(Kind.IMAP)
        # Once the old supervisor was told to stop, it cannot move the cursor on; the new one may have read it already.
        moved = after is not None and (before is None or mail_of(before) != mail_of(after))
        if moved and await messages.rewind(self._store, connector_id):
            self._roster.refresh(connector_id)


def _without_clashes(
    wanted: Sequence[Declared], held: Sequence[Whole], by_hand: set[str], broken: set[str]
) -> tuple[list[Declared], list[Mistake]]:
    """Those whose names are free, and what to say of the others.

    Of several alike that one has it whose connector goes by the name already, else the first; a connector whose file is
    broken keeps its own.
    """
    names = {one.connector.declared: one.connector.name for one in held}
    owners = {name: str(file) for file, name in names.items() if file in broken}
    mistakes: list[Mistake] = []
    for one in sorted(wanted, key=lambda one: names.get(one.file) != one.whole.connector.name):
        name = one.whole.connector.name
        if name in by_hand:
            fix = "remove that one (its mails stay), or give another name here"
            mistakes.append(Mistake(one.file, f"name: a connector {name!r} was made by hand; {fix}"))
        elif (owner := owners.setdefault(name, one.file)) != one.file:
            mistakes.append(Mistake(one.file, f"name: {owner} declares {name!r} already; give another name here"))
    clashing = {mistake.file for mistake in mistakes}
    return [one for one in wanted if one.file not in clashing], mistakes


def _taken_over(held: Whole, wanted: Whole, vault: Vault) -> Whole:
    """The wanted connector under the ids of the one that is held; its connections keep theirs where they are alike."""
    connector = replace(
        wanted.connector,
        id=held.connector.id,
        inbox_id=held.connector.inbox_id,
        created_at=held.connector.created_at,
    )
    connections = [_kept(held, one, vault) or replace(one, connector_id=connector.id) for one in wanted.connections]
    return Whole(connector, tuple(connections), _of(connector.id, wanted.sync))


def _kept(held: Whole, wanted: Connection, vault: Vault) -> Connection | None:
    known = held.connection(wanted.kind)
    return known if known is not None and _way(known, vault) == _way(wanted, vault) else None


def _of(connector_id: ConnectorId, sync: SyncSettings | None) -> SyncSettings | None:
    return replace(sync, connector_id=connector_id) if sync is not None else None
