"""What people look for in a body: its lines, its addresses, its HTML with the mail's own images in it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from inboxd.mail.excerpts import without_markup

MAX_HTML: Final = 1 << 20
MAX_FOUND: Final = 10_000
MAX_INLINED: Final = 16 << 20

_SPACES = re.compile(r"(<pre\b.*?(?:</pre\s*>|\Z))|\s+", re.IGNORECASE | re.DOTALL)
_BESIDE = re.compile(r"</?(?:td|th|img)(?![a-z0-9:-])[^>]*(?:>|\Z)", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?://|mailto:)[^\s<>\"`{}|\\^]+", re.IGNORECASE)
_AFTER_URL = ".,;:!?'*_~)]"
_CID = r"cid:(?P<open><|%3C|&lt;)?(?P<cid>(?:(?!%3E|&gt;|&quot;|&#0*39;)[^\s\"'<>()]){1,998})(?(open)(?:>|%3E|&gt;))"
_REFERENCE = re.compile(
    r"(?P<before>\b(?:src|background|poster)\s*=\s*[\"']?\s*|\bsrcset\s*=\s*[\"']\s*|\burl\(\s*(?:[\"']|&quot;|&#0*39;)?\s*)"
    + _CID,
    re.IGNORECASE,
)

# Chromium connects to the server of a link with rel=preconnect whatever the policy says, and to that of a frame before
# it refuses to load it. As text, for what is no tag to one parser may be one to another; a meta means nothing there.
_LINK_TAG = re.compile(r"<link(?=[\s/>])", re.IGNORECASE)
_FRAME_TAG = re.compile(r"(</?)((?:i|fenced)?frame|frameset|portal|object)(?=[\s/>])", re.IGNORECASE)


def disarmed(source: str) -> str:
    """HTML without the elements for whose sake a browser connects to a server before it asks the policy."""
    return _FRAME_TAG.sub(r"\1no-\2", _LINK_TAG.sub("<meta", source))


def lines_of_html(source: str, *, decode: bool = True, separator: str = "\n") -> list[str]:
    """The lines of visible text among the first million characters of HTML, without empty ones.

    Block elements and line breaks of `pre` end a line, cells of a table do not. `decode`: character references are
    decoded. `separator`: where the text is split.
    """
    flat = _SPACES.sub(lambda space: space[1] or " ", source[:MAX_HTML])
    text = without_markup(_BESIDE.sub(" ", flat), "\n")
    return lines_of_text(text, decode=decode, separator=separator)


def lines_of_text(text: str, *, decode: bool = False, separator: str = "\n") -> list[str]:
    """The lines of plain text, without empty ones; runs of white space are one space."""
    text = html.unescape(text) if decode else text
    parts = text.splitlines() if separator == "\n" else text.split(separator)
    return [line for line in (" ".join(part.split()) for part in parts) if line]


def links_of_text(text: str) -> list[str]:
    """The first 10,000 http, https and mailto URLs in plain text, without the punctuation after them."""
    found = _URL.finditer(text)
    return [_without_punctuation(url[0]) for url, _ in zip(found, range(MAX_FOUND), strict=False)]


def _without_punctuation(url: str) -> str:
    """A bracket that was opened within the URL belongs to it."""
    bare = url.rstrip(_AFTER_URL)
    after = url[len(bare) : len(bare) + 1]
    opening = {")": "(", "]": "["}.get(after)
    return bare + after if opening and bare.count(opening) > bare.count(after) else bare


def html_of_text(text: str) -> str:
    """Plain text as HTML that shows it and nothing else."""
    return f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>' if text else ""


def with_images(source: str, images: Mapping[str, str]) -> str:
    """The HTML with `cid:` URLs (RFC 2392) replaced by the data URIs of `images`, which go by Content-ID.

    Unknown ones stay, and so do those that would bring the URIs to more than 16 MiB altogether.
    """
    left = MAX_INLINED

    def replace(reference: re.Match[str]) -> str:
        nonlocal left
        uri = images.get(unquote(html.unescape(reference["cid"])))
        if uri is None or len(uri) > left:
            return reference[0]
        left -= len(uri)
        return reference["before"] + uri

    return _REFERENCE.sub(replace, source)
