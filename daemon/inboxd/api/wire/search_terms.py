"""IMAP SEARCH keys (RFC 3501 §6.4.4 and §9) as text: checked against the grammar, so that no server has to."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, final

MOST_NESTED: Final = 50
_MOST_SHOWN: Final = 40
_GREATEST: Final = 2**32 - 1
_TOKEN = re.compile(r'[ ()]|"(?:[^"\\]|\\["\\])*"|[^ ()"{\\]+')
_ATOM = re.compile(r'[^ (){%*"\\\]]+')
_ASTRING = re.compile(r'"[^\r\n]*"|[^ (){%*"\\]+')
_DATE = re.compile(r'(?P<quote>"?)(?P<day>\d{1,2})-(?P<month>[A-Za-z]{3})-(?P<year>\d{4})(?P=quote)')
_RANGE = re.compile(r"(?:\*|[1-9]\d*)(?::(?:\*|[1-9]\d*))?")
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _is_string(token: str) -> bool:
    return _ASTRING.fullmatch(token) is not None


def _is_keyword(token: str) -> bool:
    return _ATOM.fullmatch(token) is not None


def _is_number(token: str) -> bool:
    return len(token) <= 10 and token.isdecimal() and int(token) <= _GREATEST


def _is_seconds(token: str) -> bool:
    return _is_number(token) and token[0] != "0"


def _is_date(token: str) -> bool:
    parts = _DATE.fullmatch(token)
    if parts is None or parts["month"].upper() not in _MONTHS:
        return False
    try:
        date(int(parts["year"]), _MONTHS.index(parts["month"].upper()) + 1, int(parts["day"]))
    except ValueError:
        return False
    return True


def _is_sequence_set(token: str) -> bool:
    ranges = token.split(",")
    numbers = re.findall(r"\d+", token)
    return all(map(_RANGE.fullmatch, ranges)) and all(map(_is_number, numbers))


@dataclass(frozen=True, slots=True)
class _Argument:
    """What may follow a key, in words and as a test of its token."""

    words: str
    fits: Callable[[str], bool]


@final
class _Key(enum.Enum):
    """An argument that is a search key itself."""

    NESTED = enum.auto()


_STRING: Final = (_Argument("a word or a text in quotes", _is_string),)
_DAY: Final = (_Argument("a date such as 31-Jan-2026", _is_date),)
_SIZE: Final = (_Argument("a number of bytes", _is_number),)
_SECONDS: Final = (_Argument("a number of seconds", _is_seconds),)
_KEYWORD: Final = (_Argument("a keyword", _is_keyword),)
_SET: Final = (_Argument("numbers such as 1:5,9", _is_sequence_set),)
_NAME: Final = (_Argument("the name of a header field", _is_string),)

# RFC 3501 §6.4.4; OLDER and YOUNGER from RFC 5032 §3; X-GM-RAW is Gmail's.
_KEYS: Final[Mapping[str, tuple[_Argument | _Key, ...]]] = {
    **dict.fromkeys(("ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN"), ()),
    **dict.fromkeys(("UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN"), ()),
    **dict.fromkeys(("BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO", "X-GM-RAW"), _STRING),
    **dict.fromkeys(("BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE"), _DAY),
    **dict.fromkeys(("LARGER", "SMALLER"), _SIZE),
    **dict.fromkeys(("OLDER", "YOUNGER"), _SECONDS),
    **dict.fromkeys(("KEYWORD", "UNKEYWORD"), _KEYWORD),
    "UID": _SET,
    "HEADER": _NAME + _STRING,
    "NOT": (_Key.NESTED,),
    "OR": (_Key.NESTED, _Key.NESTED),
}


def check_terms(text: str) -> str:
    """`text` without white space around it, empty or search keys with one space between; ValueError says what is wrong.

    Literals are refused: the text goes into a command as it stands.
    """
    text = text.strip(" ")
    if not text.isascii() or not text.isprintable():
        raise ValueError("use printable ASCII characters on one line")
    if text:
        _Terms(text).check()
    return text


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None and text[position] == "{":
            raise ValueError("write texts in quotes; literals such as {5} cannot be used here")
        if token is None:
            raise ValueError("close every quote, and escape quotes and backslashes inside with a backslash")
        yield token[0]
        position = token.end()


@final
class _Terms:
    """The tokens, read from the left."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), ""]
        self._position = 0

    def check(self) -> None:
        """ValueError unless they are search keys to the last one."""
        self._read_keys(0)
        if self._tokens[self._position]:
            raise ValueError(f"there is no search key, or no space, before {self._shown()}")

    def _read_keys(self, depth: int) -> None:
        self._read_key(depth)
        while self._skip(" "):
            self._read_key(depth)

    def _read_key(self, depth: int) -> None:
        if depth > MOST_NESTED:
            raise ValueError(f"search keys are nested more than {MOST_NESTED} deep")
        if self._skip("("):
            self._read_keys(depth + 1)
            if not self._skip(")"):
                raise ValueError("close every parenthesis")
            return
        token = self._tokens[self._position]
        if token in ("", " ", ")"):
            raise ValueError(f"a search key is missing at {self._shown()}; write one space between two keys")
        if token[0] not in "*123456789" or not _is_sequence_set(token):
            self._read_arguments(token.upper(), depth)
            return
        self._position += 1

    def _read_arguments(self, key: str, depth: int) -> None:
        """The key at this place with its arguments."""
        if key not in _KEYS:
            raise ValueError(f"{self._shown()} is not an IMAP search key")
        self._position += 1
        for argument in _KEYS[key]:
            if not self._skip(" "):
                words = "a search key" if isinstance(argument, _Key) else argument.words
                raise ValueError(f"{key} must be followed by {words}")
            if isinstance(argument, _Key):
                self._read_key(depth + 1)
            elif argument.fits(self._tokens[self._position]):
                self._position += 1
            else:
                raise ValueError(f"{key} must be followed by {argument.words}, not by {self._shown()}")

    def _skip(self, token: str) -> bool:
        found = self._tokens[self._position] == token
        self._position += found
        return found

    def _shown(self) -> str:
        token = self._tokens[self._position][:_MOST_SHOWN]
        return {"": "the end", " ": "a space"}.get(token, token)
