"""The first visible words of a body, in a few bounded passes."""

from __future__ import annotations

import html
import re
from typing import Final

MAX_EXCERPT: Final = 250
MAX_WORDS: Final = 8_000
MAX_TEXT: Final = 32_768
MAX_HTML: Final = 65_536
# Enough of most HTML. What was cut in two at its end, a character reference perhaps, must not be among the words.
_FIRST_HTML: Final = 16_384
_TORN: Final = 128

# Whatever is left open takes the rest, which keeps each pass linear (html.parser is quadratic on some inputs).
_HIDDEN = re.compile(
    r"<(?:!--.*?(?:-->|\Z)|(script|style|template|title)\b(?:.*?</\1[^>]*(?:>|\Z)|.*\Z))", re.IGNORECASE | re.DOTALL
)
# a abbr acronym b bdi bdo big cite code dfn em font i ins kbd mark o:p q s samp small span strike strong sub sup tt u
# var wbr. This runs over each new mail: few branches are fast.
_INLINE = re.compile(
    r"</?(?:a(?:bbr|cronym)?|s(?:pan|trong|mall|u[bp]|amp|trike)?|b(?:ig|d[io])?|font|i(?:ns)?|em|u|c(?:it|od)e|o:p"
    r"|mark|kbd|tt|q|dfn|var|wbr)(?![a-z0-9:-])[^>]*(?:>|\Z)",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[a-z!?/][^>]*(?:>|\Z)", re.IGNORECASE)
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def from_text(text: str) -> str | None:
    """The first 250 characters of plain text, white space collapsed; None when there are none."""
    return excerpt_of(words_of_text(text))


def from_html(source: str) -> str | None:
    """The first 250 visible characters among the first 64 KiB of HTML; None when there are none."""
    return excerpt_of(words_of_html(source))


def excerpt_of(words: str) -> str | None:
    """The first 250 characters of collapsed text; None when it is empty."""
    return words[:MAX_EXCERPT].strip() or None


def words_of_text(text: str) -> str:
    """The first 8,000 characters among the first 32 KiB of plain text, white space collapsed."""
    first = text[: MAX_WORDS + MAX_WORDS // 4]
    words = _collapse(first)
    return words if len(words) == MAX_WORDS or len(first) == len(text) else _collapse(text[:MAX_TEXT])


def words_of_html(source: str) -> str:
    """The first 8,000 visible characters among the first 64 KiB of HTML, white space collapsed."""
    for most in (_FIRST_HTML, MAX_HTML):
        words = _collapse(html.unescape(without_markup(source[:most], " ")), MAX_WORDS + _TORN)
        if len(words) > MAX_WORDS + _TORN // 2 or len(source) <= most:
            break
    return words[:MAX_WORDS].rstrip()


def without_markup(source: str, mark: str) -> str:
    """The text of HTML that people see, character references as written; `mark` stands where a block began or ended."""
    return _TAG.sub(mark, _INLINE.sub("", _HIDDEN.sub("", source)))


def _collapse(text: str, most: int = MAX_WORDS) -> str:
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    return " ".join(text.replace("\0", "").split())[:most].rstrip()
