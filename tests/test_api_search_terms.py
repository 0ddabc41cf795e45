"""IMAP SEARCH keys are checked against the grammar before any server sees them."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.api.wire.search_terms import MOST_NESTED, check_terms

_PLAIN = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='(){%*"\\')
_WORD = st.text(_PLAIN, min_size=1, max_size=8)
_ATOM = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='(){%*"\\]'), min_size=1)
_QUOTED = st.lists(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\') | st.sampled_from([r"\"", r"\\"]),
    max_size=8,
).map(lambda parts: f'"{"".join(parts)}"')
_STRING = _WORD | _QUOTED
_NUMBER = st.integers(0, 2**32 - 1).map(str)
_SEQUENCE_NUMBER = st.integers(1, 2**32 - 1).map(str) | st.just("*")
_RANGE = st.builds("{}:{}".format, _SEQUENCE_NUMBER, _SEQUENCE_NUMBER) | _SEQUENCE_NUMBER
_SET = st.lists(_RANGE, min_size=1, max_size=4).map(",".join)
_DAY = st.dates().map(
    lambda day: f"{day.day}-{'JanFebMarAprMayJunJulAugSepOctNovDec'[day.month * 3 - 3 : day.month * 3]}-{day.year:04}"
)
_DATE = _DAY | _DAY.map('"{}"'.format) | _DAY.map(str.lower)
_FLAGS = [
    "ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN",
    "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN",
]  # fmt: skip


def _with(keys: str, argument: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{} {}".format, st.sampled_from(keys.split()), argument)


_LEAF = st.one_of(
    st.sampled_from(_FLAGS) | st.sampled_from(_FLAGS).map(str.lower),
    _with("BCC BODY CC FROM SUBJECT TEXT TO X-GM-RAW x-gm-raw", _STRING),
    _with("BEFORE ON SINCE SENTBEFORE SENTON SENTSINCE since", _DATE),
    _with("LARGER SMALLER", _NUMBER),
    _with("OLDER YOUNGER", st.integers(1, 2**32 - 1).map(str)),
    _with("KEYWORD UNKEYWORD", _ATOM),
    _with("UID", _SET),
    _SET,
    st.builds("HEADER {} {}".format, _STRING, _STRING),
)
_KEYS = st.recursive(
    _LEAF,
    lambda keys: st.one_of(
        keys.map("NOT {}".format),
        st.builds("OR {} {}".format, keys, keys),
        st.lists(keys, min_size=1, max_size=3).map(lambda several: f"({' '.join(several)})"),
    ),
    max_leaves=12,
)


@given(st.lists(_KEYS, min_size=1, max_size=4))
def test_every_valid_expression_is_taken_as_it_is(keys: list[str]) -> None:
    text = " ".join(keys)
    assert check_terms(text) == text
    assert check_terms(f" {text} ") == text


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*_FLAGS, "OR", "NOT", "HEADER", "UID", "(", ")", " ", '"', "1:*", "{5}", "x"])).map(
        "".join
    )
)
def test_any_text_is_taken_or_refused_in_words(text: str) -> None:
    with suppress(ValueError):
        taken = check_terms(text)
        assert taken == text.strip(" ")
        assert taken.isascii()
        assert taken.isprintable()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FOO", "FOO is not an IMAP search key"),
        ("UNSEEN FOO", "FOO is not an IMAP search key"),
        ('"SEEN"', '"SEEN" is not an IMAP search key'),
        ("CHARSET UTF-8 ALL", "CHARSET is not an IMAP search key"),
        ("0", "0 is not an IMAP search key"),
        ("1:0", "1:0 is not an IMAP search key"),
        ("1,", "1, is not an IMAP search key"),
        ("4294967296", "4294967296 is not an IMAP search key"),
        ("FROM", "FROM must be followed by a word or a text in quotes"),
        ("FROM ", "FROM must be followed by a word or a text in quotes"),
        ("FROM (x)", "FROM must be followed by a word or a text in quotes, not by ("),
        ("FROM a*", "FROM must be followed by a word or a text in quotes, not by a*"),
        ("HEADER X-A", "HEADER must be followed by a word or a text in quotes"),
        ("SINCE yesterday", "SINCE must be followed by a date such as 31-Jan-2026, not by yesterday"),
        ("SINCE 30-Feb-2026", "SINCE must be followed by a date such as 31-Jan-2026, not by 30-Feb-2026"),
        ("SINCE 2026-01-31", "SINCE must be followed by a date such as 31-Jan-2026, not by 2026-01-31"),
        ('SINCE "1-Jan-2026', "close every quote"),
        ("LARGER x", "LARGER must be followed by a number of bytes, not by x"),
        ("LARGER 4294967296", "LARGER must be followed by a number of bytes"),
        ("YOUNGER 0", "YOUNGER must be followed by a number of seconds, not by 0"),
        ('KEYWORD "x"', 'KEYWORD must be followed by a keyword, not by "x"'),
        ("KEYWORD a]", "KEYWORD must be followed by a keyword"),
        ("UID x", "UID must be followed by numbers such as 1:5,9, not by x"),
        ("NOT", "NOT must be followed by a search key"),
        ("OR SEEN", "OR must be followed by a search key"),
        ("NOT ", "NOT must be followed by a search key"),
        ("SEEN  UNSEEN", "one space"),
        ("()", "a search key is missing at )"),
        ("(SEEN", "close every parenthesis"),
        ("(SEEN ", "close every parenthesis"),
        ("SEEN)", "before )"),
        ("SEEN(UNSEEN)", "before ("),
        ('FROM "a"b', "before b"),
        ("FROM {5}", "literals such as {5} cannot be used"),
        ("FROM {5+}", "literals such as {5} cannot be used"),
        ("FROM \\x", "escape quotes and backslashes"),
        ("FROM é", "printable ASCII"),
        ("ALL\r\nA2 LOGOUT", "on one line"),
        ("ALL\x00", "on one line"),
        ("FROM \x7f", "printable"),
        ("FOO" * 1_000, "FOOFOOFOO"),
        ("NOT " * 1_000 + "SEEN", f"more than {MOST_NESTED} deep"),
        ("(" * 2_000 + "SEEN" + ")" * 2_000, f"more than {MOST_NESTED} deep"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        check_terms(text)
    assert len(str(refused.value)) < 200


def test_nothing_is_no_search() -> None:
    assert check_terms("") == check_terms("  ") == ""


def test_nesting_has_its_limit_and_no_sooner() -> None:
    assert check_terms("(" * MOST_NESTED + "SEEN" + ")" * MOST_NESTED)
    with pytest.raises(ValueError, match="deep"):
        check_terms("NOT " * (MOST_NESTED + 1) + "SEEN")
