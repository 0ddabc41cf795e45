"""Regular expressions of strangers on mails of strangers: bounded in size, time and memory. Blocks: use a thread.

The syntax is Java's (java.util.regex.Pattern) as far as the regex library has it: named groups, possessive quantifiers,
atomic groups, `\\p{…}`, `&&` in sets, inline flags in the middle, `\\Q…\\E`, `\\k<name>`, `\\x{…}`. Different: `\\Z` is
the very end, `(?i)` knows all of Unicode; missing: the flags `(?d)` and `(?U)`, properties named `java…`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import regex

from inboxd.errors import Invalid

MAX_PATTERN: Final = 1_000
MAX_TEXT: Final = 1_000_000
MAX_COPIES: Final = 100_000  # a compiled copy of an atom takes about 280 octets
SEARCH_SECONDS: Final = 2.0

_ESCAPES: Final = re.compile(
    r"\\(?:Q(?P<quoted>.*?)(?:\\E|\Z)|k<(?P<name>\w+)>|x\{(?P<code>[0-9A-Fa-f]{1,6})\}|.)", re.DOTALL
)
# {n} after a plain atom copies that alone; after anything else it may copy a whole group.
_REPEATS: Final = re.compile(r"(?<=[\w.\]])\{\s*(?P<single>\d+)|\{\s*(?P<group>\d+)")
_RECURSION: Final = re.compile(r"\(\?(?:R|[+-]?\d|&|P>)")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled regular expression and the name of the field it was given in."""

    field: str
    compiled: regex.Pattern[str]


def compile(field: str, pattern: str) -> Pattern:  # noqa: A001
    """`pattern` ready for searching; Invalid naming `field` when it is malformed, too long, or repeats too much."""
    if len(pattern) > MAX_PATTERN:
        raise Invalid(field, f"must not be longer than {MAX_PATTERN} characters")
    if _RECURSION.search(pattern):
        raise Invalid(field, "must not call its own groups, as (?R) and (?1) do")
    if _copies(pattern) > MAX_COPIES:
        raise Invalid(field, f"repeats too much: the counts in {{}} must not multiply to more than {MAX_COPIES}")
    try:
        return Pattern(field, regex.compile(_ESCAPES.sub(_translated, pattern), regex.VERSION1))
    except (RecursionError, MemoryError) as error:
        raise Invalid(field, "is nested too deeply; make it simpler") from error
    except (regex.error, ValueError) as error:
        raise Invalid(field, f"is not a regular expression: {error}") from error


def search(pattern: Pattern, text: str) -> list[str] | None:
    """The first match and its groups ("" for one that took no part), or None when there is no match.

    Only the first million characters are searched. Invalid naming the pattern's field when it takes over 2 s.
    """
    try:
        found = pattern.compiled.search(text[:MAX_TEXT], timeout=SEARCH_SECONDS, concurrent=True)
    except TimeoutError as error:
        raise Invalid(pattern.field, f"takes more than {SEARCH_SECONDS:g} s on this text; make it simpler") from error
    except MemoryError as error:
        raise Invalid(pattern.field, "takes too much memory on this text; make it simpler") from error
    return None if found is None else [found[0], *(group or "" for group in found.groups())]


def _translated(escape: re.Match[str]) -> str:
    """An escape of Java's as the library writes it; all others as they are."""
    if escape["quoted"] is not None:
        return regex.escape(escape["quoted"], special_only=True)
    if escape["name"]:
        return f"(?P={escape['name']})"
    return f"\\U{escape['code']:0>8}" if escape["code"] else escape[0]


def _copies(pattern: str) -> int:
    """How many atoms the compiled pattern holds at most: the library writes a{3} out as aaa."""
    found = list(_REPEATS.finditer(pattern))
    singles = sum(int(repeat["single"]) for repeat in found if repeat["single"])
    return (len(pattern) + singles) * math.prod(max(1, int(repeat["group"])) for repeat in found if repeat["group"])
