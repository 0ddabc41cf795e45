"""Header fields as they were written (RFC 5322, 2047, 2231), read in one bounded pass that never fails.

Both parsers get their header fields from here, so that they agree on them.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from inboxd.mail.charsets import clean_line, decode, decode_unlabelled

MAX_BLOCK_BYTES = 1 << 20
MAX_FIELDS = 2_000
MAX_VALUE = 262_144
MAX_ENCODED = 32_768
MAX_PARAMETERS = 8_192
MAX_LINE = 4_096
MAX_ID = 998

_ENDS = {True: (b"\n\r\n", b"\n\n", b"\r\r"), False: (b"\n\n", b"\n\r\n", b"\r\r")}
_NAME = re.compile(rb"[!-9;-~]+[ \t]*\Z")
_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
# An unterminated quote takes the rest, which keeps the scan linear.
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)(?:"|\\?\Z)|([^;]*))', re.DOTALL)
_CONTINUED = re.compile(r"(.+?)\*(\d{1,3})(\*?)\Z")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_ID = re.compile(r"<([^<>]+)>")
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class Headers:
    """The header fields at the top of a mail, unfolded, in order; looked up without regard to case."""

    __slots__ = ("_fields",)

    def __init__(self, raw: bytes) -> None:
        self._fields: dict[bytes, tuple[str, list[bytes]]] = {}
        for name, value in _fields(raw):
            self._fields.setdefault(name.lower(), (name.decode("ascii"), []))[1].append(value)

    def all(self, name: str) -> list[str]:
        """Every value of a field, undecoded."""
        _, values = self._fields.get(name.lower().encode("ascii"), ("", []))
        return [_text(value) for value in values]

    def first(self, name: str) -> str | None:
        """The first value of a field, undecoded; None when the field is missing."""
        _, values = self._fields.get(name.lower().encode("ascii"), ("", []))
        return _text(values[0]) if values else None

    def decoded(self) -> dict[str, list[str]]:
        """Every field under its name as first written, encoded words decoded."""
        return {
            name: [decode_words(_text(value), most=MAX_VALUE) for value in values]
            for name, values in self._fields.values()
        }


def block_end(raw: bytes) -> int:
    """Where the header block at the top of a mail ends, its last line break not counted; at most 1 MiB in."""
    if raw[:1] in {b"\n", b"\r"}:
        return 0
    end = most = min(len(raw), MAX_BLOCK_BYTES)
    first = raw.find(b"\n", 0, most)
    # The likely one first: the search for the others then ends where it was found.
    for mark in _ENDS[first > 0 and raw[first - 1] == 0x0D]:
        found = raw.find(mark, 0, min(end + len(mark), most))
        if 0 <= found < end:
            end = found
    return end - 1 if end < most and raw[end] == 0x0A and raw[end - 1] == 0x0D else end


def without_text(raw: bytes) -> bytes:
    """The mail with nothing but its Content fields at the top: all that a parser of its body has to know."""
    kept = (name + b": " + value + b"\r\n" for name, value in _fields(raw) if name[:8].lower() == b"content-")
    return b"".join(kept) + raw[block_end(raw) :].removeprefix(b"\r\n")


def _text(value: bytes) -> str:
    return decode_unlabelled(value[:MAX_VALUE])


def _fields(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    block = raw[: block_end(raw)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    unfolded = block.replace(b"\n ", b" ").replace(b"\n\t", b"\t")
    count = 0
    for line in unfolded.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and _NAME.match(name):
            yield name.rstrip(), value.strip()
            count += 1
        if count == MAX_FIELDS:
            return


def decode_words(value: str, *, most: int = MAX_LINE) -> str:
    """`value` on one line, its encoded words decoded (RFC 2047), at most `most` characters.

    Neighbouring words of one charset are joined before decoding, because many senders split characters between them.
    """
    if "=?" not in value:
        return clean_line(value, most)
    value = value[:MAX_ENCODED]
    pieces: list[str] = []
    pending: tuple[str, bytes] | None = None
    position = 0
    for word in _WORD.finditer(value):
        gap = value[position : word.start()]
        charset, octets = word[1].lower(), _octets(word[2], word[3])
        if octets is None:
            continue
        if pending is not None and gap.strip():
            pieces.append(decode(pending[1], pending[0]))
            pending = None
        if pending is None:
            pieces.append(gap)
            pending = (charset, octets)
        elif pending[0] == charset:
            pending = (charset, pending[1] + octets)
        else:
            pieces.append(decode(pending[1], pending[0]))
            pending = (charset, octets)
        position = word.end()
    if pending is not None:
        pieces.append(decode(pending[1], pending[0]))
    return clean_line("".join(pieces) + value[position:], most)


def _octets(encoding: str, payload: str) -> bytes | None:
    """The octets of an encoded word, or None when it is no such thing: then it stays as it stands."""
    try:
        octets = payload.encode("ascii")
        if encoding in "qQ":
            return binascii.a2b_qp(octets, header=True)
        return binascii.a2b_base64(octets + b"=" * (-len(octets) % 4))
    except ValueError:
        return None


def media_type(value: str | None, default: str) -> str:
    """The type/subtype of a Content-Type; `default` when missing, text/plain when malformed (RFC 2045 §5.2)."""
    if not value:
        return default
    kind = clean_line(value[:255], 255).partition(";")[0].strip().lower()
    return kind if kind.count("/") == 1 and kind[0] != "/" and kind[-1] != "/" and " " not in kind else "text/plain"


def parameters(value: str | None) -> dict[str, str]:
    """The parameters of a structured field: names lower-cased, values decoded (RFC 2231, RFC 2047)."""
    found: dict[str, str] = {}
    split: dict[str, dict[int, tuple[bool, str]]] = {}
    for match in _PARAMETER.finditer((value or "")[:MAX_PARAMETERS]):
        name = match[1].lower()
        text = _QUOTED_PAIR.sub(r"\1", match[2]) if match[2] is not None else match[3].strip()
        if continued := _CONTINUED.match(name):
            section = split.setdefault(continued[1], {})
            section.setdefault(int(continued[2]), (continued[3] == "*", text))
        elif name.endswith("*"):
            split.setdefault(name[:-1], {}).setdefault(0, (True, text))
        else:
            found.setdefault(name, decode_words(text))
    return found | {name: _joined(sections) for name, sections in split.items()}


def _joined(sections: dict[int, tuple[bool, str]]) -> str:
    charset = None
    octets: list[bytes] = []
    for number, (extended, text) in sorted(sections.items()):
        if extended and number == 0 and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        octets.append(unquote_to_bytes(text) if extended else text.encode("utf-8", "surrogateescape"))
    return clean_line(decode(b"".join(octets), charset), MAX_LINE)


def message_id(value: str | None) -> str | None:
    """The first message id in `value`, without its angle brackets; the text itself when it has none."""
    if value is None:
        return None
    bracketed = _ID.search(value)
    return clean_line(bracketed[1] if bracketed else value, MAX_ID).strip("<>") or None


def date(value: str | None) -> datetime | None:
    """The instant of a Date field in UTC; None for what is no date, or lies outside the years 1971 to 2199."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(clean_line(value, 200))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if _EARLIEST <= moment < _LATEST else None
