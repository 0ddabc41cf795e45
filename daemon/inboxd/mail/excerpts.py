"""The first visible words of a body, in one bounded pass."""

from __future__ import annotations

import html
import re

MAX_EXCERPT = 250
MAX_TEXT = 16_384
MAX_HTML = 65_536

# Whatever is left open takes the rest, which keeps the scan linear (html.parser is quadratic on some inputs).
_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(?P<hidden>script|style|template|title)\b(?:.*?</(?P=hidden)[^>]*(?:>|\Z)|.*\Z)"
    r"|</?(?P<tag>[a-z][a-z0-9:-]*)[^>]*(?:>|\Z)"
    r"|<[!?/][^>]*(?:>|\Z)"
    r"|(?P<text>[^<]+|<)",
    re.IGNORECASE | re.DOTALL,
)
_INLINE = frozenset(
    {"a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "dfn", "em", "font", "i", "ins", "kbd", "mark"}
    | {"o:p", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr"}
)  # fmt: skip
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def from_text(text: str) -> str | None:
    """The first 250 characters of plain text, white space collapsed; None when there are none."""
    excerpt = _collapse(text[: 8 * MAX_EXCERPT])
    return excerpt if excerpt and len(excerpt) == MAX_EXCERPT else _collapse(text[:MAX_TEXT])


def from_html(source: str) -> str | None:
    """The first 250 visible characters among the first 64 KiB of HTML; None when there are none."""
    pieces: list[str] = []
    length = 0
    for token in _TOKEN.finditer(source[:MAX_HTML]):
        text = token["text"]
        if text is not None:
            pieces.append(text)
            length += len(text) if not text.isspace() else 0
        elif (token["tag"] or "").lower() not in _INLINE:
            pieces.append(" ")
        if length > 8 * MAX_EXCERPT:
            break
    return _collapse(html.unescape("".join(pieces)))


def _collapse(text: str) -> str | None:
    words = _INVISIBLE.sub("", text).replace("\0", "").split()
    return " ".join(words)[:MAX_EXCERPT].strip() or None
