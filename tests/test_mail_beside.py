"""Mails parsed in processes of their own: the same digests, whatever becomes of a process."""

from __future__ import annotations

import hashlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest

import corpus
from delivery_notices import GMAIL, POSTFIX
from inboxd.mail import beside, parse
from inboxd.mail.beside import Parsers
from inboxd.mail.worker import MAX_MAIL_BYTES, SHARED_BYTES
from inboxd.mails import Digest
from inboxd.model import AttachmentId

NO_ID = AttachmentId(UUID(int=0))


def as_here(mail: bytes | bytearray) -> tuple[Digest, bytes]:
    return same_ids(parse.digest(mail)), hashlib.sha256(mail).digest()


def same_ids(made: Digest) -> Digest:
    return replace(made, attachments=tuple(replace(each, id=NO_ID) for each in made.attachments))


def beside_us(parsers: Parsers, mails: list[bytes]) -> list[tuple[Digest, bytes]]:
    return [(same_ids(made), content_hash) for made, content_hash in parsers.digests(mails)]


def test_digests_are_those_made_here_for_ordinary_malformed_and_suspicious_mail() -> None:
    suspicious = b"Subject: s\r\n\r\n" + b"--\r\n" * 1500
    mails = [*corpus.messages(150), *corpus.malformed().values(), GMAIL, POSTFIX, suspicious, b"", b"\xff" * 300]
    with Parsers() as parsers:
        made = beside_us(parsers, mails)
    assert made == [as_here(mail) for mail in mails]


def test_a_batch_larger_than_what_is_mapped_and_a_mail_too_large_are_read_all_the_same() -> None:
    mails = [b"Subject: %d\r\n\r\n" % n + b"x" * size for n, size in enumerate((SHARED_BYTES, MAX_MAIL_BYTES + 1, 10))]
    with Parsers() as parsers:
        assert beside_us(parsers, mails) == [as_here(mail) for mail in mails]
        assert beside_us(parsers, mails[2:]) == [as_here(mails[2])]


def test_a_process_that_was_killed_is_replaced() -> None:
    mails = list(corpus.messages(3, small=True))
    with Parsers() as parsers:
        parsers.digests(mails)
        (first,) = parsers.resting
        os.kill(first, signal.SIGKILL)
        assert beside_us(parsers, mails) == [as_here(mail) for mail in mails]
        assert parsers.resting != [first]


def test_processes_that_always_die_leave_each_mail_to_a_process_with_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_START", "raise SystemExit")
    mails = list(corpus.messages(2, small=True))
    with Parsers() as parsers:
        assert beside_us(parsers, mails) == [as_here(mail) for mail in mails]
        assert parsers.resting == []


@pytest.mark.parametrize(
    "answer",
    ["", "[]", "{}", "7", "[1, 2]", '[["00", [1]], ["00", []]]', '[["no hash", null], 7]', "what?", "[" * 9999],
)
def test_answers_that_make_no_sense_are_not_believed(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(beside, "_START", f"import sys; sys.stdin.readline(); print({answer!r}, flush=True)")
    mails = list(corpus.messages(2, small=True))
    with Parsers() as parsers:
        assert beside_us(parsers, mails) == [as_here(mail) for mail in mails]


def test_no_more_processes_run_than_there_may_be_and_all_end_with_the_block() -> None:
    mails = list(corpus.messages(20, small=True))

    def ask(_: int) -> list[tuple[Digest, bytes]]:
        return beside_us(parsers, mails)

    with Parsers(2) as parsers, ThreadPoolExecutor(6) as threads:
        made = list(threads.map(ask, range(12)))
        processes = parsers.resting
    assert made == [[as_here(mail) for mail in mails]] * 12
    assert 1 <= len(processes) <= 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
