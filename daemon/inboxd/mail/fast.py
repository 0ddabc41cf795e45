"""The first parser: fast-mail-parser (Rust, nesting capped at 256, the GIL released)."""

from __future__ import annotations

from itertools import pairwise

from fast_mail_parser import ParseError, PyMimePart, parse_email, parse_email_tree

from inboxd.mail import headers
from inboxd.mail.parts import MAX_PARTS, Part

__all__ = ["ParseError", "encloses_mail", "read"]

MAX_WORDS = 200


def read(raw: bytes) -> list[Part]:
    """The leaves in MIME order, at most 1,000; ParseError for what this parser refuses or is known to misread."""
    leaves: list[Part] = []
    boundaries: list[str] = []
    nodes = [(parse_email_tree(_trimmed(raw)), False)]
    while nodes and len(leaves) < MAX_PARTS:
        node, enclosed = nodes.pop()
        if node.content is None:
            boundaries.append(_boundary(node))
        elif not enclosed:
            leaves.append(_part(node))
        nodes += [(child, enclosed or node.is_message) for child in reversed(node.children)]
    _refuse_ambiguous(boundaries)
    return leaves


def encloses_mail(raw: bytes) -> bool:
    """Whether the mail has other mails attached, found without decoding or entering them."""
    try:
        found = parse_email(_trimmed(raw), mode="metadata").attachments
    except ParseError:
        return False
    return any(attached.mimetype.lower().startswith("message/") for attached in found)


def _trimmed(raw: bytes) -> bytes:
    """The mail without header fields full of encoded words: this parser is quadratic in them and need not see them."""
    return headers.without_text(raw) if raw.count(b"=?", 0, headers.block_end(raw)) > MAX_WORDS else raw


def _part(node: PyMimePart) -> Part:
    fields = {name.lower(): values[0] for name, values in node.headers.items() if values}
    stated = fields.get("content-type")
    return Part(
        content_type=headers.media_type(stated, "text/plain") if not node.is_message else "message/rfc822",
        content=node.content or b"",
        type_field=stated,
        disposition_field=fields.get("content-disposition"),
        content_id=fields.get("content-id"),
    )


def _boundary(node: PyMimePart) -> str:
    """The boundary of a container; ParseError when nothing was found in it: its text would be lost."""
    if not node.children:
        raise ParseError("a multipart without parts")
    fields = {name.lower(): values[0] for name, values in node.headers.items() if values}
    return headers.parameters(fields.get("content-type")).get("boundary", "")


def _refuse_ambiguous(boundaries: list[str]) -> None:
    """mailparse 0.16 takes `--b10` for a delimiter of boundary `b1`: such mails go to the other parser."""
    ordered = sorted(set(boundaries))
    for short, long in pairwise(ordered):
        if long.startswith(short):
            raise ParseError("one boundary begins with another")
