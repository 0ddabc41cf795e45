"""Gmail's labels (X-GM-EXT-1, https://developers.google.com/workspace/gmail/imap/imap-extensions) as readable names.

They are astrings in modified UTF-7; Gmail also writes brackets without quotes. A mailbox's answers leave out the label
whose mailbox it is itself, so that only All Mail shows them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Final

from inboxd.imap.lines import decode_utf7

OFFER: Final = "X-GM-EXT-1"
ITEM: Final = "X-GM-LABELS"
# A list of labels as it nearly always comes: no literal, no list within.
LISTED: Final = rb'X-GM-LABELS \(((?:[^()"{\r\n]|"(?:[^"\\\r\n]|\\.)*+")*+)\) '
_USUAL_BYTES: Final = 500
_MOST_LABELS: Final = 1000
_MOST_CHARACTERS: Final = 500  # Gmail allows 225
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*+)"|([^\s"]+)')


def listed(content: bytes) -> tuple[str, ...]:
    """The labels in what stands between the parentheses."""
    return _remembered(content) if len(content) <= _USUAL_BYTES else _read(content)


@lru_cache(maxsize=256)
def _remembered(content: bytes) -> tuple[str, ...]:
    """The same few combinations come again and again."""
    return _read(content)


def _read(content: bytes) -> tuple[str, ...]:
    found = _WORD.findall(content)
    return named(re.sub(rb"\\(.)", rb"\1", quoted) if quoted else bare for quoted, bare in found)


def named(words: Iterable[bytes]) -> tuple[str, ...]:
    """Labels by what a person calls them: `\\Inbox`, which is Gmail's own, is `Inbox`. Each once, at most 1,000."""
    names = dict.fromkeys(map(_name, islice(words, _MOST_LABELS)))
    return tuple(name for name in names if name)


def _name(word: bytes) -> str:
    name = decode_utf7(word[: 4 * _MOST_CHARACTERS].decode("utf-8", "replace")).lstrip("\\")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:_MOST_CHARACTERS])
