"""Replies out of octets: the same however they are cut, and never more than can be kept."""

from __future__ import annotations

import itertools

import pytest
from aiosmtplib import SMTPResponse, SMTPResponseException
from hypothesis import given
from hypothesis import strategies as st

from inboxd.smtp.replies import Replies, clean


def kept(replies: Replies) -> int:
    """How many replies there are before the flaw."""
    for number in range(100):
        try:
            replies.take()
        except SMTPResponseException:
            return number
    raise AssertionError("there is no flaw")


LINES = st.tuples(st.integers(200, 599), st.lists(st.text("ab -ü", max_size=8), min_size=1, max_size=4))


def fed(*chunks: bytes, due: int = 10) -> Replies:
    replies = Replies()
    replies.due = due
    for chunk in chunks:
        replies.feed(chunk)
    return replies


def octets(code: int, texts: list[str]) -> bytes:
    marks = ["-"] * (len(texts) - 1) + [" "]
    return "".join(f"{code}{mark}{text}\r\n" for mark, text in zip(marks, texts, strict=True)).encode()


@given(said=st.lists(LINES, max_size=5), cuts=st.lists(st.integers(0, 200), max_size=10))
def test_replies_are_the_same_however_they_are_cut(said: list[tuple[int, list[str]]], cuts: list[int]) -> None:
    whole = b"".join(octets(code, texts) for code, texts in said)
    borders = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    replies = fed(*(whole[start:end] for start, end in itertools.pairwise(borders)))
    for left, (code, texts) in zip(range(len(said), 0, -1), said, strict=True):
        assert replies.begun
        assert replies.due == 10 - len(said) + left
        assert replies.take() == SMTPResponse(code, "\n".join(text.strip(" ") for text in texts))
    assert replies.take() is None
    assert not replies.begun


@pytest.mark.parametrize("line", [b"250\r\n", b"250 \r\n", b"250 ok\n", b"250\tok\r\n", b"250-\r\n250\r\n"])
def test_replies_that_are_written_carelessly_are_understood(line: bytes) -> None:
    reply = fed(line).take()
    assert reply is not None
    assert reply.code == 250


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"2_5 ok\r\n",
        b"+25 ok\r\n",
        b" 250 ok\r\n",
        b"ok\r\n",
        "२५० ok\r\n".encode(),
    ],
)
def test_what_is_no_reply_is_a_flaw_behind_the_replies_before_it(line: bytes) -> None:
    replies = fed(b"421 bye\r\n" + line + b"250 ok\r\n", b"250 ok\r\n")
    assert replies.take() == SMTPResponse(421, "bye")
    for _ in range(2):
        with pytest.raises(SMTPResponseException):
            replies.take()


@pytest.mark.parametrize(
    "chunks",
    [
        [b"250 " + b"x" * 9_000],
        [b"250 " + b"x" * 9_000 + b"\r\n"],
        [b"250-" + b"x" * 5_000 + b"\r\n"] * 8,
        [b"2"] * 10_000,
        [b"250 ok\r\n" * 20],
    ],
)
def test_server_that_does_not_stop_is_not_listened_to(chunks: list[bytes]) -> None:
    replies = fed(*chunks, due=1)
    assert replies.begun
    assert kept(replies) <= 5


def test_words_are_shown_without_what_controls_a_terminal() -> None:
    assert clean("a\x1b[31mb\nc\x85d\ud800e") == "a [31mb | c d e"
    assert len(clean("\n" * 10_000)) == 500
