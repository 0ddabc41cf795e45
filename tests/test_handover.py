"""The journal of mails on their way: what a killed daemon leaves behind, and what is believed of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from inboxd import handover
from inboxd.errors import StoreError
from inboxd.handover import Journal, left_behind, open_journal
from inboxd.model import SentId, SentState
from inboxd.outbox import RELAY, Chore, Delivery, Try, Verdict
from servers.stores import MORNING

TRIED = Try(MORNING, MORNING + timedelta(seconds=1), "smtp.example.com", "data", "SendUnknown", "gone \u00e9\n")


def verdict(state: SentState = SentState.UNKNOWN, sent_id: SentId | None = None) -> Verdict:
    told = {"b@example.com": (Delivery.UNKNOWN, "gone"), "c@example.com": (Delivery.REFUSED, "550 no")}
    return Verdict(sent_id or SentId(uuid4()), state, TRIED, told, chores=(Chore.RESOLVE,))


def abandoned(folder: Path, *verdicts: Verdict) -> Journal:
    """The journal of a run that noted these and then was killed."""
    (folder / "handover").mkdir(exist_ok=True)
    owner = uuid4().hex
    journal = Journal(folder / "handover" / owner, owner)
    for one in verdicts:
        journal.note(one)
    return journal


def test_the_last_note_about_a_mail_is_what_is_found(tmp_path: Path) -> None:
    first, other = verdict(), verdict()
    second = replace(first, state=SentState.QUEUED, due_at=MORNING, route=RELAY, chores=())
    journal = abandoned(tmp_path, first, other, second)
    (left,) = left_behind(tmp_path, but="mine")
    assert (left.owner, left.trusted) == (journal.owner, True)
    assert left.verdicts == {first.id: second, other.id: other}


def test_ones_own_journal_is_not_left_behind_and_a_clean_end_leaves_none(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        one = verdict()
        journal.note(one)
        assert left_behind(tmp_path, but=journal.owner) == []
        journal.forget([one.id])
    assert left_behind(tmp_path, but="mine") == []


def test_a_clean_end_keeps_what_the_store_does_not_know(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.note(one := verdict())
    (left,) = left_behind(tmp_path, but="mine")
    assert left.verdicts == {one.id: one}
    handover.remove(tmp_path, left.owner)
    assert left_behind(tmp_path, but="mine") == []


def test_a_line_cut_off_is_what_had_not_happened_yet(tmp_path: Path) -> None:
    journal = abandoned(tmp_path, first := verdict(), verdict())
    file = tmp_path / "handover" / journal.owner
    file.write_bytes(file.read_bytes()[:-7])
    (left,) = left_behind(tmp_path, but="mine")
    assert left.verdicts == {first.id: first}


def body_of(raw: bytes, line: bytes) -> bytes:
    return raw.partition(b"\n")[0] + b"\n" + line


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "another boot": lambda raw: raw.replace(b'"boot":"', b'"boot":"another-'),
    "empty": lambda raw: raw[:0],
    "no beginning": lambda raw: raw[10:],
    "zeros": lambda raw: b"\0" * len(raw),
    "another form": lambda raw: body_of(raw, b'{"id":1}\n'),
    "no object": lambda raw: body_of(raw, b"[]\n"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_journal_that_is_not_whole_or_of_another_boot_is_not_trusted(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    journal = abandoned(tmp_path, verdict())
    file = tmp_path / "handover" / journal.owner
    file.write_bytes(spoil(file.read_bytes()))
    (left,) = left_behind(tmp_path, but="mine")
    assert (left.trusted, left.verdicts) == (False, {})


def test_a_long_run_keeps_its_journal_small_and_loses_nothing_that_is_open(tmp_path: Path) -> None:
    journal = abandoned(tmp_path, still_open := verdict())
    for _ in range(8_000):
        journal.note(one := verdict())
        journal.forget([one.id])
    file = tmp_path / "handover" / journal.owner
    assert file.stat().st_size < (2 << 20)
    (left,) = left_behind(tmp_path, but="mine")
    assert left.verdicts[still_open.id] == still_open


def test_what_was_noted_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from test_handover import *\n"
        "journal = abandoned(Path(sys.argv[1]), verdict(), verdict())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": here}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=False, timeout=50)
    assert done.returncode == -signal.SIGKILL
    (left,) = left_behind(tmp_path, but="mine")
    assert len(left.verdicts) == 2
    assert json.dumps(sorted(one.state.value for one in left.verdicts.values())) == '["unknown", "unknown"]'


def test_a_disk_that_is_full_is_told_before_anything_is_handed_over(tmp_path: Path) -> None:
    owner = uuid4().hex
    (tmp_path / f"{owner}.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        Journal(tmp_path / owner, owner)
    with open_journal(tmp_path) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        try:
            with pytest.raises(OSError, match="No space left"):
                journal.note(verdict())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.note(one := verdict())
    (left,) = left_behind(tmp_path, but="mine")
    assert left.verdicts == {one.id: one}


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "handover").write_text("in the way")
    with pytest.raises(StoreError, match="handover"), open_journal(tmp_path):
        pass
