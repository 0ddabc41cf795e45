"""What is being handed to SMTP servers now: a journal that outlives the process, though not the machine.

Its lines are appended without a sync. What was written belongs to the kernel, so it survives `kill -9` at the price of
a few microseconds a mail; a loss of power may take it, so a journal counts only within the boot that wrote it. Each
line is the verdict on a mail should the daemon die at that moment; the last one about a mail is in force.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final
from uuid import UUID, uuid4

from inboxd import logs
from inboxd.errors import StoreError
from inboxd.model import SentId, SentState
from inboxd.outbox import Chore, Delivery, RouteId, Try, Verdict

_FOLDER: Final = "handover"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_COMPACT_BYTES: Final = 1 << 20
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_log = logs.logger("handover")


@final
class Journal:
    """One run's journal. Its methods do not wait: they append to the page cache, or replace a file of a few kB."""

    def __init__(self, path: Path, owner: str) -> None:
        self.owner = owner
        self._path = path
        self._header = _line({"owner": owner, "boot": _boot()})
        self._open: dict[SentId, tuple[bytes, Verdict]] = {}
        self._file = -1
        self._bytes = 0
        self._begin()

    def note(self, verdict: Verdict) -> None:
        """From now on this is what became of the mail, should the daemon die. OSError when it cannot be written."""
        line = _line(_written(verdict))
        try:
            _append(self._file, line)
        except OSError:
            with suppress(OSError):
                self._begin()  # half a line may be there
            raise
        self._open[verdict.id] = line, verdict
        self._bytes += len(line)

    @property
    def open(self) -> dict[SentId, Verdict]:
        """What is noted and not known to the store."""
        return {sent_id: verdict for sent_id, (_, verdict) in self._open.items()}

    def forget(self, ids: Collection[SentId]) -> None:
        """The store knows what became of these."""
        for sent_id in ids:
            self._open.pop(sent_id, None)
        if self._bytes > _COMPACT_BYTES:
            with suppress(OSError):
                self._begin()

    def close(self) -> None:
        """Remove the file, unless it holds what the store does not know."""
        os.close(self._file)
        if not self._open:
            self._path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """A new file with what is open; the old one stays until it is complete."""
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        content = b"".join((self._header, *(line for line, _ in self._open.values())))
        try:
            _append(file, content)
            fresh.rename(self._path)
        except OSError:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._bytes = file, len(content)


@dataclass(frozen=True, slots=True)
class Left:
    """A journal that an earlier run left behind. Only a `trusted` one tells what was not handed over, too."""

    owner: str
    trusted: bool
    verdicts: dict[SentId, Verdict]


@contextmanager
def open_journal(state_dir: Path) -> Generator[Journal]:
    """A new run's journal; StoreError when it cannot be made."""
    owner = uuid4().hex
    try:
        (state_dir / _FOLDER).mkdir(mode=0o700, exist_ok=True)
        journal = Journal(state_dir / _FOLDER / owner, owner)
    except OSError as error:
        raise StoreError(f"{state_dir / _FOLDER}: cannot be written: {error.strerror}") from error
    try:
        yield journal
    finally:
        journal.close()


def left_behind(state_dir: Path, but: str) -> list[Left]:
    """The journals of earlier runs; `but` is the owner of the present one. Blocks."""
    return [_read(file) for file in _files(state_dir) if file.name != but]


def remove(state_dir: Path, owner: str) -> None:
    """What an earlier run's journal held is in the store."""
    (state_dir / _FOLDER / owner).unlink(missing_ok=True)


def _files(state_dir: Path) -> list[Path]:
    folder = state_dir / _FOLDER
    return [file for file in sorted(folder.iterdir()) if file.suffix != ".new"] if folder.is_dir() else []


def _read(file: Path) -> Left:
    """A last line without its end was not written to its end, so what it speaks of had not happened."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
        head = json.loads(lines[0])
        trusted = head == {"owner": file.name, "boot": _boot()}
        verdicts = {verdict.id: verdict for verdict in _verdicts(lines[1:])} if trusted else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        _log.error("journal_unreadable", owner=file.name, reason=type(error).__name__)
        return Left(file.name, trusted=False, verdicts={})
    return Left(file.name, trusted, verdicts)


def _append(file: int, content: bytes) -> None:
    if os.write(file, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _boot() -> str:
    """This boot's name; one that no other has where the kernel gives none."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return uuid4().hex


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _line(content: dict[str, Any]) -> bytes:
    return _encode(content).encode() + b"\n"


def _written(verdict: Verdict) -> dict[str, Any]:
    tried = verdict.tried
    return {
        "id": verdict.id.hex,
        "state": verdict.state.value,
        "began": tried.began_at.timestamp(),
        "ended": tried.ended_at.timestamp(),
        "host": tried.host,
        "stage": tried.stage,
        "kind": tried.kind,
        "reply": tried.reply,
        "recipients": {address: (state.value, words) for address, (state, words) in verdict.recipients.items()},
        "due": verdict.due_at.timestamp() if verdict.due_at else None,
        "route": verdict.route.hex if verdict.route is not None else None,
        "chores": [chore.value for chore in verdict.chores],
    }


def _verdicts(lines: list[bytes]) -> Iterator[Verdict]:
    for line in lines:
        row = json.loads(line)
        yield Verdict(
            id=SentId(UUID(row["id"])),
            state=SentState(row["state"]),
            tried=Try(
                began_at=_moment(row["began"]),
                ended_at=_moment(row["ended"]),
                host=row["host"],
                stage=row["stage"],
                kind=row["kind"],
                reply=row["reply"],
            ),
            recipients={address: (Delivery(state), words) for address, (state, words) in row["recipients"].items()},
            due_at=_moment(row["due"]) if row["due"] else None,
            route=RouteId(UUID(row["route"])) if row["route"] else None,
            chores=tuple(Chore(chore) for chore in row["chores"]),
        )
