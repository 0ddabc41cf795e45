"""FETCH and SEARCH answers read back: items in any order, nested oddities, and hostile octets."""

from __future__ import annotations

import string
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inboxd.errors import ProtocolError
from inboxd.imap.lines import FetchAnswer, Part, Skipped, is_fetch, parse_fetch, parse_search
from inboxd.uids import MAX_UID

ATOM = st.text(string.ascii_letters + string.digits + "$\\_-.+!#:;'<>?@^|~=&,/`[]*%{}", min_size=1)
OCTETS = st.binary(max_size=200)

# --- FETCH -----------------------------------------------------------------------------------------------------------

UIDS = st.integers(1, MAX_UID)
BODIES = st.one_of(st.none(), st.binary(), st.binary().map(bytearray), st.integers(0, 2**40).map(Skipped))
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))


def written(items: list[tuple[str, object]]) -> list[Part]:
    """A FETCH response with these items in this order: bytes quoted, bytearrays and Skipped as literals."""
    parts: list[Part] = []
    line = b"* 12 FETCH ("
    for number, (name, value) in enumerate(items):
        line += (b" " if number else b"") + name.encode() + b" "
        if isinstance(value, bytearray | Skipped):
            size = value.size if isinstance(value, Skipped) else len(value)
            parts += [line + b"{%d}" % size, value if isinstance(value, Skipped) else bytes(value)]
            line = b""
        elif isinstance(value, bytes):
            line += b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        else:
            line += b"NIL" if value is None else str(value).encode()
    return [*parts, line + b")"]


@given(st.data(), UIDS, st.lists(ATOM), MOMENTS, st.integers(0, 2**62), BODIES)
def test_fetch_items_are_found_in_any_order(
    draw: st.DataObject, uid: int, flags: list[str], received_at: datetime, size: int, body: bytearray | Part | None
) -> None:
    if isinstance(body, bytes):
        body = body.replace(b"\r", b"").replace(b"\n", b"")
    items: list[tuple[str, object]] = [
        (draw.draw(st.sampled_from(["UID", "uid"])), uid),
        ("FLAGS", f"({' '.join(flags)})"),
        ("INTERNALDATE", f"{received_at:%d-%b-}{received_at.year:04}{received_at: %H:%M:%S} +0000".encode()),
        ("RFC822.SIZE", size),
        (draw.draw(st.sampled_from(["BODY[]", "body[]", "BODY[HEADER]"])), body),
        ("X-GM-OTHER", '("a" (\\Inbox "(") NIL)'),
        ("ENVELOPE", '("UID 7)" (("UID" NIL "7" "x")) NIL (UID 8))'),
        ("PREVIEW", None),
        ("EMAILID", "(M1)"),
    ]
    answer = parse_fetch(written(draw.draw(st.permutations(items))))
    kept = bytes(body) if isinstance(body, bytearray) else body
    assert answer == FetchAnswer(uid=uid, flags=tuple(flags), received_at=received_at, size=size, body=kept)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"* 1 FETCH (UID 5 BODY[] NIL)", None),
        (b"* 1 FETCH (UID 5 BODY[] nil)", None),
        (b'* 1 FETCH (UID 5 BODY[] "NIL")', b"NIL"),
        (b'* 1 FETCH (UID 5 BODY[] "")', b""),
        (b'* 1 FETCH (UID 5 BODY[] ":(")', b":("),
        (b'* 1 FETCH (UID 5 BODY[] "a\\"b\\\\c")', b'a"b\\c'),
        (b"* 1 FETCH (UID 5)", None),
    ],
)
def test_an_absent_body_is_told_from_an_empty_one(line: bytes, body: bytes | None) -> None:
    answer = parse_fetch([line])
    assert (answer.uid, answer.body) == (5, body)


@pytest.mark.parametrize("uid", [b"0", b"4294967296", b"-1", b"x", b'"x"5', b"9" * 5000, b"(5)", b"NIL"])
def test_a_fetch_answer_with_an_impossible_uid_has_none(uid: bytes) -> None:
    assert parse_fetch([b"* 1 FETCH (UID " + uid + b" RFC822.SIZE 9)"]).uid is None


@pytest.mark.parametrize("nested", [b'(("a") UID 7)', b"((()) UID 7 ())", b'("(" (UID 8) UID 7)'])
def test_what_stands_in_a_list_is_never_an_item(nested: bytes) -> None:
    assert parse_fetch([b"* 1 FETCH (UID 5 X " + nested + b" FLAGS (a))"]).uid == 5
    assert parse_fetch([b"* 1 FETCH (UID 5 X " + nested + b" FLAGS (a))"]).flags == ("a",)


def test_a_quoted_word_is_never_an_items_name() -> None:
    assert parse_fetch([b'* 1 FETCH (UID 5 "UID" 7)']).uid == 5


@given(st.lists(OCTETS, min_size=1, max_size=6), st.booleans())
@example([b"UID"], False)
@example([b'"'], False)
@example([b"UID ("], True)
@example([b"BODY[] {3}", b"abc", b""], False)
def test_no_octets_upset_parse_fetch(pieces: list[bytes], skipped: bool) -> None:
    parts: list[Part] = [b"* 1 FETCH (" + pieces[0]]
    for number, piece in enumerate(pieces[1:]):
        parts.append(Skipped(len(piece)) if skipped and number % 2 == 0 else piece)
    assert is_fetch(b"* 1 FETCH (" + pieces[0])
    answer = parse_fetch(parts)
    assert answer.uid is None or 0 < answer.uid <= MAX_UID


@given(OCTETS)
def test_no_octets_upset_is_fetch(octets: bytes) -> None:
    if is_fetch(octets):
        parse_fetch([octets])


@pytest.mark.parametrize(
    "hostile",
    [b'\\"', b'"\\', b'"', b"(", b")", b"{", b"UID(", b'" ', b"\\"],
    ids=repr,
)
def test_a_line_as_long_as_allowed_is_parsed_in_linear_time(hostile: bytes) -> None:
    """Quadratic work on a line of 256 KiB takes minutes."""
    for line in (b'* 1 FETCH (UID 1 X "' + hostile * (250_000 // len(hostile)), b"* 1 FETCH (" + hostile * 125_000):
        before = time.process_time()
        with suppress(ProtocolError):
            parse_fetch([line])
        assert time.process_time() - before < 5


# --- SEARCH ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "uids"),
    [
        (b"* SEARCH 2 84 882", {2, 84, 882}),
        (b"* SEARCH", set[int]()),
        (b"* SEARCH ", set[int]()),
        (b"* search 5 3 3", {3, 5}),
        (b"* SEARCH 2 5 6 (MODSEQ 917162500)", {2, 5, 6}),
        (b"* SEARCH (MODSEQ 1)", set[int]()),
        (b'* ESEARCH (TAG "A282") UID ALL 2,10:11', {2, 10, 11}),
        (b'* ESEARCH (TAG "A282") UID MIN 2 MAX 5 ALL 2:5 COUNT 4', {2, 3, 4, 5}),
        (b'* ESEARCH (TAG "A282") UID', set[int]()),
        (b'* ESEARCH (TAG "ALL") UID all 5:3 MODSEQ 7', {3, 4, 5}),
        (b'* ESEARCH (TAG "A1") UID ALL 1:3,2:5,6', {1, 2, 3, 4, 5, 6}),
        (b"* ESEARCH UID ALL 4294967295", {MAX_UID}),
    ],
)
def test_search_answers_of_both_kinds_give_the_uids(line: bytes, uids: set[int]) -> None:
    found = parse_search(line)
    assert found is not None
    assert set(found) == uids


@pytest.mark.parametrize("line", [b"* 5 EXISTS", b"* OK SEARCH 1", b"* SEARCHES 1", b"* SORT 1", b"* "])
def test_other_responses_are_not_search_answers(line: bytes) -> None:
    assert parse_search(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b"* SEARCH x",
        b"* SEARCH 1,2",
        b"* SEARCH -1",
        b"* SEARCH 4294967296",
        b"* SEARCH " + b"9" * 5000,
        b"* ESEARCH UID ALL *",
        b"* ESEARCH UID ALL 1:*",
        b"* ESEARCH UID ALL 1:2:3",
        b"* ESEARCH UID ALL ,",
        b"* ESEARCH UID ALL 5000000000:6000000000",
        b"* ESEARCH UID ALL " + b"9" * 5000,
        "* SEARCH ٣".encode(),
    ],
)
def test_a_search_answer_that_names_no_uids_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_search(line)


@given(st.one_of(OCTETS, OCTETS.map(lambda o: b"* SEARCH " + o), OCTETS.map(lambda o: b"* ESEARCH UID ALL " + o)))
def test_no_octets_upset_parse_search(line: bytes) -> None:
    try:
        found = parse_search(line)
    except ProtocolError:
        return
    assert found is None or 0 <= len(found) <= MAX_UID + 1


@pytest.mark.parametrize("kind", [b"* SEARCH ", b"* ESEARCH "])
@pytest.mark.parametrize("hostile", [b"(", b")", b"()", b"1 ", b"ALL "], ids=repr)
def test_a_search_answer_of_a_megabyte_is_parsed_in_linear_time(kind: bytes, hostile: bytes) -> None:
    before = time.process_time()
    with suppress(ProtocolError):
        parse_search(kind + hostile * (1_000_000 // len(hostile)))
    assert time.process_time() - before < 5
