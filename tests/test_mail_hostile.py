"""Mail built to hurt: bounded in time and memory, and never an exception."""

from __future__ import annotations

import base64
import time
import tracemalloc

import pytest

import corpus
from inboxd.errors import Unparsable
from inboxd.mail import confined, parse

HOSTILE = corpus.hostile()
MORE = [
    ("half_words", b"Subject: " + b"=?a?q?" * 100_000 + b"\r\n\r\nx"),
    ("open_quotes", b"Content-Type: text/plain" + b';a="' * 200_000 + b"\r\n\r\nx"),
    ("angles", b"To: " + b"<" * 600_000 + b"\r\n\r\nx"),
    ("folds", b"Subject: a\r\n" + b" \r\n" * 300_000 + b"\r\n"),
    ("tags", b"Content-Type: text/html\r\n\r\n" + b"<a '" * 500_000),
    ("comments", b"Content-Type: text/html\r\n\r\n" + b"<!--" * 500_000),
    ("nothing", b""),
    ("nul", b"\0" * 100_000),
    ("bad_base64", b"Content-Transfer-Encoding: base64\r\n\r\n!" + b"QUJD" * 500_000),
]


@pytest.mark.parametrize("raw", [raw for _, raw in HOSTILE + MORE], ids=[name for name, _ in HOSTILE + MORE])
def test_hostile_mail_is_read_in_bounded_time(raw: bytes) -> None:
    began = time.monotonic()
    made = parse.digest(raw)
    parse.body(raw)
    assert time.monotonic() - began < 2 * confined.WALL_SECONDS
    assert len(made.to) <= 1_000
    assert len(made.part_types) <= 1_000
    assert len(made.subject or "") <= 4_096


def test_subject_of_20_000_encoded_words_is_cheap() -> None:
    raw = dict(HOSTILE)["encoded_words"]
    parse.digest(b"Subject: warm\r\n\r\n")
    tracemalloc.start()
    try:
        made = parse.digest(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.subject is not None
    assert made.subject.startswith("aaaa")
    assert peak < 8_000_000
    assert not parse.is_suspicious(raw)


def test_parts_hidden_in_base64_are_parsed_in_the_child() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 200_000
    raw = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(inner)
    assert parse.is_suspicious(raw)
    assert len(parse.digest(raw).attachments) <= 1


def test_mail_no_parser_can_read_is_a_defect_with_its_reason() -> None:
    raw = dict(HOSTILE)["deep_multipart"]
    made = parse.digest(raw)
    assert made.defect is not None
    assert "RecursionError" in made.defect
    assert made.part_types == ()
    assert parse.body(raw).headers["From"] == ["a@example.org"]
    with pytest.raises(Unparsable):
        parse.attachment(raw, 0)


def test_child_that_needs_too_much_is_stopped() -> None:
    parts = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 4_000_000
    made = parse.digest(parts)
    assert made.defect is not None
    assert "parsing needs more than" in made.defect or "MemoryError" in made.defect


def test_child_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "WALL_SECONDS", 0.001)
    made = parse.digest(dict(HOSTILE)["many_parts"])
    assert made.defect == "parsing took more than 0.001 s"
