"""Bytes of unknown honesty to text that any store accepts: no NUL, no lone surrogates, never an error."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

# What senders mean by a label (WHATWG Encoding Standard §4.2, read 2026-11): the superset their software really used.
_MEANT = {
    "ascii": "utf-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "johab": "cp949",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
_ALIASES = {
    "iso-8859-8-i": "iso-8859-8",
    "ks_c_5601-1987": "cp949",
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "x-gbk": "gb18030",
    "x-sjis": "cp932",
    "x-unknown": "utf-8",
    "unknown-8bit": "utf-8",
}
# Python codecs that are no charsets; punycode is quadratic besides.
_NOT_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def decode(octets: bytes, charset: str | None) -> str:
    """The text of `octets`: in `charset` where it is known, else UTF-8, else Windows-1252; what fits none is U+FFFD."""
    name = _codec(charset)
    if name == "utf-7":
        return clean(octets.decode(name, "replace"))  # the one codec here that makes lone surrogates
    if name is not None and name != "utf-8":
        return _without_nul(octets.decode(name, "replace"))
    try:
        return _without_nul(octets.decode("utf-8"))
    except UnicodeDecodeError:
        return _without_nul(octets.decode("utf-8" if name else "cp1252", "replace"))


def decode_unlabelled(octets: bytes) -> str:
    """The text of octets that carry no charset, such as raw 8-bit header fields: UTF-8, else Windows-1252."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def clean(text: str) -> str:
    """`text` without NUL, lone surrogates replaced by U+FFFD."""
    text = _without_nul(text)
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def clean_line(text: str, most: int) -> str:
    """`text` on one line: runs of control characters and line separators become a space; at most `most` characters."""
    if not text.isprintable():
        text = _CONTROLS.sub(" ", clean(text[: most * 2]))
    return text.strip()[:most]


def _without_nul(text: str) -> str:
    return text.replace("\0", "") if "\0" in text else text


@lru_cache(maxsize=256)
def _codec(charset: str | None) -> str | None:
    if not charset:
        return None
    label = charset.strip().strip("'\"").lower()[:40]
    try:
        name = codecs.lookup(_ALIASES.get(label, label)).name
        b"x".decode(name, "replace")  # some Python codecs are no charsets and say so only now
    except (LookupError, ValueError, UnicodeError):
        return None
    return None if name in _NOT_CHARSETS else _MEANT.get(name, name)
