"""The pure functions on IMAP's wire forms: round trips, second implementations, and hostile octets."""

from __future__ import annotations

import binascii
import re
import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inboxd.errors import Invalid
from inboxd.imap.lines import (
    continued_literal_size,
    decode_utf7,
    encode_utf7,
    internal_date,
    literal_size,
    mailbox_argument,
    printable,
    quoted,
    response_code,
    search_date,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ATOM = st.text(string.ascii_letters + string.digits + "$\\_-.+!#:;'<>?@^|~=&,/`[]*%{}", min_size=1)
OCTETS = st.binary(max_size=200)
LINE_OCTETS = OCTETS.map(lambda octets: octets.replace(b"\n", b"?").replace(b"\r", b"?"))


# --- quoting and names -----------------------------------------------------------------------------------------------


def utf7(name: str) -> str:
    """Modified UTF-7 one character at a time, as the grammar of RFC 3501 §5.1.3 reads."""
    out, pending = "", ""
    for character in [*name, None]:
        if character is None or " " <= character <= "~":
            if pending:
                packed = binascii.b2a_base64(pending.encode("utf-16-be"), newline=False).decode()
                out += "&" + packed.replace("/", ",").rstrip("=") + "-"
                pending = ""
            out += "&-" if character == "&" else character or ""
        else:
            pending += character
    return out


@given(TEXT)
@example("Entwürfe & Co")
@example("&")
@example("~peter/mail/台北/日本語")
@example("🎉&🎉")
def test_mailbox_names_are_modified_utf7(name: str) -> None:
    assert encode_utf7(name) == utf7(name)


@given(TEXT)
def test_encoded_names_are_printable_ascii_and_decode_to_themselves(name: str) -> None:
    encoded = encode_utf7(name)
    assert all(" " <= character <= "~" for character in encoded)
    assert decode_utf7(encoded) == name


@given(TEXT)
def test_what_is_shifted_is_what_pythons_utf7_reads(name: str) -> None:
    runs = re.findall("[^\x20-\x7e]+", name)
    shifted = re.findall("&([^-]+)-", encode_utf7(name))
    assert [f"+{run.replace(',', '/')}-".encode().decode("utf-7") for run in shifted] == runs


def test_the_examples_of_the_rfc_come_out_as_printed() -> None:
    assert encode_utf7("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert decode_utf7("~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"


@given(st.text("&-+,ABCabc019/ \xfc", max_size=30))
@example("&")
@example("&AAA-")
@example("&A-")
def test_what_cannot_be_decoded_is_left_as_it_is(name: str) -> None:
    decoded = decode_utf7(name)
    if "&" not in name:
        assert decoded == name


def unquoted(text: str) -> str:
    """The content of a quoted string, read by the grammar of RFC 3501 §9."""
    assert text[0] == text[-1] == '"'
    out, rest = "", text[1:-1]
    while rest:
        assert rest[0] not in '"\r\n\0'
        if rest[0] == "\\":
            assert rest[1] in '"\\'
            rest = rest[1:]
        out += rest[0]
        rest = rest[1:]
    return out


@given(TEXT)
def test_quoting_round_trips_or_refuses(text: str) -> None:
    if any(character in text for character in "\r\n\0"):
        with pytest.raises(Invalid, match=r"^password: "):
            quoted(text, "password")
    else:
        assert unquoted(quoted(text, "password")) == text


@given(TEXT)
@example('My "Folder"')
@example("back\\slash")
@example("a\r\nA1 LOGOUT")
def test_any_mailbox_name_is_one_quoted_ascii_argument(name: str) -> None:
    if any(character in name for character in "\r\n\0"):
        with pytest.raises(Invalid, match=r"^folder: "):
            mailbox_argument(name)
        return
    argument = mailbox_argument(name)
    assert argument.isascii()
    assert decode_utf7(unquoted(argument)) == name


# --- status texts and literals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"[UIDVALIDITY 17] UIDs valid", ("UIDVALIDITY", "17")),
        (b" [uidnext 5] predicted", ("UIDNEXT", "5")),
        (b"[ALERT] look out", ("ALERT", "")),
        (b"[PERMANENTFLAGS (\\Deleted \\*)] Limited", ("PERMANENTFLAGS", "(\\Deleted \\*)")),
        (b"[AUTHENTICATIONFAILED] no", ("AUTHENTICATIONFAILED", "")),
        (b"[BADCHARSET ({5}", ("", "")),
        (b"no code [ALERT] at the beginning", ("", "")),
        (b"[] empty", ("", "")),
        (b"[UNSEEN \xff] odd", ("UNSEEN", "\ufffd")),
        (b"", ("", "")),
    ],
)
def test_a_status_text_gives_its_response_code(text: bytes, code: tuple[str, str]) -> None:
    assert response_code(text) == code


@given(OCTETS)
def test_no_octets_upset_response_code(octets: bytes) -> None:
    name, argument = response_code(octets)
    assert name == name.upper()
    assert name or not argument


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (b"* 1 FETCH (UID 1 BODY[] {342}", 342),
        (b"* 1 FETCH (UID 1 BODY[] {0}", 0),
        (b"* 1 FETCH (UID 1 BINARY[] ~{7}", 7),
        (b'* LIST () "/" {5+}', 5),
        (b"* OK look {3}", None),
        (b"* no quota {3}", None),
        (b"* BAD what {3}", None),
        (b"* BYE {3}", None),
        (b"* PREAUTH {3}", None),
        (b"A1 NO mailbox {3}", None),
        (b"+ {3}", None),
        (b"* 1 FETCH (UID 1 BODY[] {x}", None),
        (b"* 1 FETCH (UID 1 BODY[] {-1}", None),
        (b"* 1 FETCH (UID 1 BODY[] {" + b"9" * 21 + b"}", None),
        (b"* 1 FETCH (UID 1 BODY[] {5} ", None),
        (b"", None),
    ],
)
def test_only_data_responses_announce_literals(line: bytes, size: int | None) -> None:
    assert literal_size(line) == size


def test_a_line_after_a_literal_may_announce_another_whatever_it_begins_with() -> None:
    assert continued_literal_size(b" BODY[HEADER] {5}") == 5
    assert continued_literal_size(b")") is None


@given(OCTETS)
def test_no_octets_upset_the_literal_sizes(octets: bytes) -> None:
    for size in (literal_size(octets), literal_size(b"* " + octets), continued_literal_size(octets)):
        assert size is None or size >= 0


# --- dates -----------------------------------------------------------------------------------------------------------


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-24 * 60 + 1, 24 * 60 - 1),
    st.booleans(),
)
def test_internal_dates_come_back_in_utc(instant: datetime, minutes: int, spaced: bool) -> None:
    assume(1 < instant.year < 9999)
    moment = instant.replace(microsecond=0).astimezone(timezone(timedelta(minutes=minutes)))
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = (
        f"{moment.day:{'2' if spaced else '02'}}-{months[moment.month - 1]}-{moment.year:04}"
        f" {moment:%H:%M:%S} {sign}{hours:02}{rest:02}"
    )
    assert internal_date(text.encode()) == moment.astimezone(UTC)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NIL",
        b"32-Jan-2024 00:00:00 +0000",
        b"30-Feb-2024 00:00:00 +0000",
        b"00-Jan-2024 00:00:00 +0000",
        b"01-Foo-2024 00:00:00 +0000",
        b"01-Jan-0000 00:00:00 +0000",
        b"01-Jan-0001 00:00:00 +0001",
        b"31-Dec-9999 23:59:59 -0001",
        b"01-Jan-2024 24:00:00 +0000",
        b"01-Jan-2024 00:60:00 +0000",
        b"01-Jan-2024 00:00:00",
        b"01-Jan-2024 00:00:00 GMT",
        b"Mon, 01 Jan 2024 00:00:00 +0000",
        "01-Jän-2024 00:00:00 +0000".encode("latin-1"),
    ],
)
def test_impossible_internal_dates_are_none(text: bytes) -> None:
    assert internal_date(text) is None


def test_a_leap_second_is_not_lost() -> None:
    assert internal_date(b"30-Jun-2015 23:59:60 +0000") == datetime(2015, 6, 30, 23, 59, 59, tzinfo=UTC)


@given(OCTETS)
def test_no_octets_upset_internal_date(octets: bytes) -> None:
    found = internal_date(octets)
    assert found is None or found.tzinfo is UTC


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))))
@example(datetime.min.replace(tzinfo=timezone(timedelta(hours=14))))
@example(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))))
@example(datetime(33, 1, 1, tzinfo=UTC))
def test_a_search_date_is_a_day_early_and_in_the_grammar(moment: datetime) -> None:
    text = search_date(moment)
    found = internal_date(f"{text} 00:00:00 +0000".encode())
    assert found is not None
    assert text == f"{found.day}-{found:%b}-{found.year:04}"
    early = datetime(1970, 1, 1, tzinfo=UTC)
    if moment >= early + timedelta(days=1):
        assert timedelta(days=1) <= moment - found < timedelta(days=2)
    else:
        assert found == early


# --- words for people ------------------------------------------------------------------------------------------------


@given(st.binary(max_size=3000), st.integers(2, 500))
@example(b"\x1b[2J\x07\r\n\x00", 500)
@example("\u202eevil\u2066".encode(), 500)
@example(b"\xf0\x9f" * 2000, 500)
def test_a_servers_words_are_bounded_and_free_of_control_characters(text: bytes, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert all(character.isprintable() for character in shown)


@given(st.text(string.printable.strip() + " äöü日本🎉", max_size=500))
def test_printable_words_are_shown_unchanged(text: str) -> None:
    assert printable(text.encode()) == text
