"""Delivery notices read (RFC 3464 and 6522, internationalised RFC 6533): which recipients of which mail, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from inboxd.mail import headers
from inboxd.mail.charsets import clean_line
from inboxd.mail.headers import Headers
from inboxd.mail.parts import MAX_PARTS, Part
from inboxd.mails import Bounce

MAX_RECIPIENTS: Final = 100
MAX_WORDS: Final = 500
MAX_REPORT_BYTES: Final = 1 << 18
MAX_FIELD: Final = 4_096
MAX_ADDRESS: Final = 320

_STATUS_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
_RETURNED_TYPES: Final = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers"}
)
_ACTIONS: Final = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})
# What a status means where the action is left out, by its first digit (RFC 3463 §2).
_MEANT: Final = {"5": "failed", "4": "delayed", "2": "delivered"}
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_TYPED = re.compile(r"\s*([A-Za-z0-9-]{1,40})\s*;(.*)", re.DOTALL)
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_BLANK = re.compile(rb"\n[ \t]*\n\s*")


def bounces(raw: bytes, parts: Sequence[Part]) -> tuple[Bounce, ...]:
    """What a mail with these leaves says of at most 100 recipients of another mail; () when it is no delivery notice.

    Never raises. That it is a multipart/report has to stand at its top: a forwarded notice is none.
    """
    report = next((part for part in parts[:MAX_PARTS] if _kind(part) in _STATUS_TYPES), None)
    if report is None:
        return ()
    fields = Headers(raw)
    if not _is_report(fields.first("Content-Type")):
        return ()
    blocks = _blocks(report.content)
    message_id = _message_id(fields, blocks, parts)
    if message_id is None:
        return ()
    found = (bounce for block in blocks if (bounce := _bounce(message_id, block)) is not None)
    return tuple(islice(found, MAX_RECIPIENTS))


def _kind(part: Part) -> str:
    """The type as written: the parsers call every enclosed mail message/rfc822."""
    return headers.media_type(part.type_field, part.content_type)


def _is_report(content_type: str | None) -> bool:
    if headers.media_type(content_type, "") != "multipart/report":
        return False
    return headers.parameters(content_type).get("report-type", "delivery-status").lower() == "delivery-status"


def _blocks(content: bytes) -> list[Headers]:
    """The groups of fields: one about the mail as a whole, then one a recipient, parted by blank lines."""
    octets = content[:MAX_REPORT_BYTES].replace(b"\r\n", b"\n").replace(b"\r", b"\n").strip(b"\n")
    return [Headers(block) for block in _BLANK.split(octets, 2 * MAX_RECIPIENTS)]


def _message_id(fields: Headers, blocks: Sequence[Headers], parts: Sequence[Part]) -> str | None:
    """Whose delivery is told of: as the returned mail says, else as Gmail says aside, else what the notice answers."""
    returned = next((part for part in parts[:MAX_PARTS] if _kind(part) in _RETURNED_TYPES), None)
    stated = (
        Headers(returned.content).first("Message-ID") if returned else None,
        blocks[0].first("X-Original-Message-ID"),
        fields.first("In-Reply-To"),
    )
    return next((found for value in stated if (found := headers.message_id(value and value[:MAX_FIELD]))), None)


def _bounce(message_id: str, block: Headers) -> Bounce | None:
    """What a group of fields says of its recipient; None when it says nothing of any."""
    recipient = _address(block.first("Original-Recipient")) or _address(block.first("Final-Recipient"))
    status = _STATUS.search((block.first("Status") or "")[:MAX_FIELD])
    stated = clean_line((block.first("Action") or "")[:MAX_FIELD], MAX_FIELD).lower()
    action = re.split(r"[\s(;]", stated, maxsplit=1)[0] or (_MEANT[status[1][0]] if status else "")
    if recipient is None or action not in _ACTIONS:
        return None
    return Bounce(message_id, recipient, action, status[1] if status else "", _words(block.first("Diagnostic-Code")))


def _words(diagnostic: str | None) -> str:
    """The diagnostic on one line, without the name of what speaks it: `smtp; 550 no such user`."""
    value = (diagnostic or "")[:MAX_FIELD]
    typed = _TYPED.match(value)
    text = headers.decode_words(typed[2] if typed else value)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_WORDS]


def _address(value: str | None) -> str | None:
    """The address behind its type; None for other things than addresses of mailboxes."""
    typed = _TYPED.match((value or "")[:MAX_FIELD])
    kind, text = (typed[1].lower(), typed[2]) if typed else ("rfc822", (value or "")[:MAX_FIELD])
    text = clean_line(text, MAX_FIELD).strip("<> ")
    if kind == "utf-8":
        text = clean_line(_UNICODE.sub(_character, text), MAX_FIELD)
    if kind not in ("rfc822", "utf-8") or not text.isprintable() or not 3 <= len(text) <= MAX_ADDRESS:
        return None
    return _without_xtext(text) if "@" in text[1:-1] else None


def _character(escaped: re.Match[str]) -> str:
    """A character of RFC 6533's `\\x{1F4EC}`; what is none stays as it is."""
    number = int(escaped[1], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else escaped[0]


def _without_xtext(address: str) -> str:
    """The address behind xtext (RFC 3461 §4), which some servers leave in place and others have undone already.

    Only what xtext must write so is taken for it: `bob+42@example.org` is Bob's tag 42, `bob+2B42@example.org` too.
    """
    found = [int(code, 16) for code in _XTEXT.findall(address)]
    needed = all(code in (0x2B, 0x3D) or not 0x21 <= code <= 0x7E for code in found)
    if not found or len(found) != address.count("+") or not needed or not address.isascii():
        return address
    octets = _XTEXT.sub(lambda code: chr(int(code[1], 16)), address)
    try:
        undone = octets.encode("latin-1").decode("utf-8")
    except ValueError:
        return address
    return undone if undone.isprintable() else address
