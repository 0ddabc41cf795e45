"""What is read the short way comes to the same as what is read the long way."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from inboxd.mail import addresses, headers, parse
from inboxd.mails import Address

_PIECES = (
    "Ada", "a.b", "x@y", "O'Neill", "-", ".", " ", "\t", "<", ">", "<a@b>", "<x+y@z-q.org>", "a@b.c", ",", "Ü", "_",
    "=?utf-8?q?a=2Cb?=", "=?utf-8?b?w5w=?=", '"Q q"', '"a, b"', '"', "(c)", ":", ";", "[", "\\", "@a:b@c", "\0",
    "\r\n ", ", ",
)  # fmt: skip
_END = re.compile(rb"\r?\n\r?\n|\r\r")
_LETTERS = st.lists(st.sampled_from([b"\r", b"\n", b"a", b"=", b"?", b"-"])).map(b"".join)


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))
def test_an_address_field_is_read_alike_at_a_glance_and_token_by_token(value: str) -> None:
    scanned: list[Address] = []
    addresses._read_field(value, scanned)  # pyright: ignore[reportPrivateUsage]
    assert addresses.read([value]) == tuple(scanned)


@given(_LETTERS)
@example(b"a\r\r\n\r\n")
@example(b"a\n\nb\r\n\r\n")
def test_the_header_block_ends_at_the_first_empty_line_whatever_its_line_ends(raw: bytes) -> None:
    found = _END.search(raw)
    expected = 0 if raw[:1] in {b"\r", b"\n"} else found.start() if found else len(raw)
    assert headers.block_end(raw) == expected


@given(_LETTERS, st.sampled_from([b"\n--", b"=?"]), st.integers(0, 4))
def test_markers_are_counted_whatever_lies_between_them(mail: bytes, marker: bytes, most: int) -> None:
    assert parse._exceeds(mail, marker, most) == (mail.count(marker) > most)  # pyright: ignore[reportPrivateUsage]
