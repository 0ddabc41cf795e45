"""Mails of every kind with pieces changed, left out or doubled: always a digest, always within its bounds."""

from __future__ import annotations

import random
import time
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

import corpus
from inboxd.mail import confined, parse
from inboxd.mails import Digest

MAILS: Final = [
    *(corpus.message(number, profile=corpus.Profile(2_000, 0.8, 12_000)) for number in range(60)),
    *corpus.malformed().values(),
]
PIECES: Final = st.sampled_from(
    [
        b"", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\0", b"\xff\xfe", b":", b";", b'"', b"\\", b"<", b">",
        b"=", b"=?utf-8?b?", b"=?x?q?=", b"?=", b"--", b"%", b"&#", b"<!--", b"<script", b"(" * 50, b"=?" * 50,
        b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: text/html; charset=\xf0\r\n", b"\r\n--b\r\n",
        b"Content-Type: message/rfc822\r\n", b"Content-Transfer-Encoding: base64\r\n", b"charset=utf-7",
        b"charset=rot13", b"charset*0*=x''%", b"filename*1=", b"Date: 99 Foo 99999 99:99:99 +9999\r\n",
        b"Message-ID: <\r\n", b"\xed\xa0\x80", "\u202e".encode(), b"begin 644 x\n", b"9" * 5000,
        b"@", b"," * 50, b"charset=idna", b"To: a:b;,;\r\n",
    ]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A mail of some kind, damaged in a few places, its header more often than its body."""
    mail = bytearray(draw(st.sampled_from(MAILS)))
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(1, 6))):
        reach = len(mail) if rng.random() < 0.5 else min(len(mail), 800)
        at = rng.randrange(reach + 1)
        kind = rng.randrange(3)
        if kind == 0:
            mail[at : at + rng.randrange(40)] = draw(PIECES)
        elif kind == 1:
            start = rng.randrange(len(mail) + 1)
            mail[at:at] = mail[start : start + rng.randrange(400)]
        elif mail:
            mail[min(at, len(mail) - 1)] ^= 1 << rng.randrange(8)
    return bytes(mail)


def assert_bounded(made: Digest, raw: bytes) -> None:
    """As the store and its columns rely on."""
    assert max(map(len, (made.to, made.cc, made.bcc, made.part_types, made.attachments))) <= 1_000
    assert len(made.subject or "") <= 4_096
    assert len(made.excerpt or "") <= 250
    assert len(made.words) <= 8_000
    texts = [
        made.subject,
        made.reply_to,
        made.header_message_id,
        made.in_reply_to,
        made.excerpt,
        made.words,
        made.defect,
    ]
    addresses = [each for each in (made.sender, *made.to, *made.cc, *made.bcc) if each is not None]
    texts += [text for each in addresses for text in (each.name, each.raw, each.address)]
    texts += [*made.part_types, *(each.name for each in made.attachments)]
    for text in filter(None, texts):
        assert "\0" not in text
        text.encode()
    assert all(0 <= each.size_bytes <= len(raw) * 2 for each in made.attachments)


@given(damaged())
@settings(max_examples=2000, deadline=None)
def test_a_damaged_mail_has_a_digest_within_bounds(raw: bytes) -> None:
    began = time.monotonic()
    assert_bounded(parse.digest(raw), raw)
    assert time.monotonic() - began < 2 * confined.WALL_SECONDS


@given(damaged())
@settings(max_examples=800, deadline=None)
def test_a_damaged_mail_can_be_opened_and_its_attachments_too(raw: bytes) -> None:
    parse.body(raw)
    for position, _ in enumerate(parse.digest(raw).attachments[:3]):
        assert isinstance(parse.attachment(raw, position), bytes)
