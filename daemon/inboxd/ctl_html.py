"""HTML mails made readable on a terminal."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# Marks while the text is put together: a new line, and a new paragraph, wherever several blocks begin or end at once.
_LINE, _PARAGRAPH = "\x01", "\x02"
_BREAKS: dict[str, str] = {
    **dict.fromkeys(("div", "tr", "li", "section", "article"), _LINE),
    **dict.fromkeys(("p", "table", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "pre"), _PARAGRAPH),
    "blockquote": _PARAGRAPH,
}
_UNSEEN = frozenset(("style", "script", "head", "title"))
_GAP = re.compile(f"[ \n{_LINE}{_PARAGRAPH}]+")


class _Reader(HTMLParser):
    """Collects the text of an HTML mail; blocks begin a new line, links keep their target."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._unseen = 0
        self._target = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # The end of <head> may be left out, so <body> ends it too.
        self._unseen = 0 if tag == "body" else self._unseen + (tag in _UNSEEN)
        self.pieces.append("\n" if tag == "br" else _BREAKS.get(tag, ""))
        if tag == "li":
            self.pieces.append("- ")
        if tag == "a":
            self._target = dict(attrs).get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        self.pieces.append(_BREAKS.get(tag, ""))
        if tag == "a" and self._target.startswith(("http:", "https:", "mailto:")):
            self.pieces.append(f" <{self._target}>")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(re.sub(r"\s+", " ", data))


def readable(html: str) -> str:
    """An HTML mail as text; what is only layout, style or script is gone."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return _GAP.sub(_gap, "".join(reader.pieces)).strip()


def _gap(match: re.Match[str]) -> str:
    """What stands between two words, whatever number of blanks, breaks and block ends came together there."""
    if _PARAGRAPH in match[0] or match[0].count("\n") > 1:
        return "\n\n"
    return "\n" if _LINE in match[0] or "\n" in match[0] else " "
