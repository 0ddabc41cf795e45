"""The second parser: the standard library's, policy compat32, for what the first refuses."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from typing import cast

from inboxd.mail import headers
from inboxd.mail.charsets import decode_unlabelled
from inboxd.mail.parts import MAX_PARTS, Part

# What the standard library is known to raise on hostile mail.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Opaque(Message):
    """A message whose message/* parts look like plain octets, so that the parser leaves them as they are."""

    def get_content_type(self) -> str:
        kind = super().get_content_type()
        return "application/octet-stream" if kind.startswith("message/") else kind


def read(raw: bytes) -> list[Part]:
    """The leaves of a mail in MIME order, at most the first 1,000; one of FAULTS when even this parser fails."""
    leaves: list[Part] = []
    nodes: list[Message] = [message_from_bytes(raw, _class=_Opaque, policy=compat32)]
    while nodes and len(leaves) < MAX_PARTS:
        node = nodes.pop()
        if node.is_multipart():
            nodes += reversed(cast("list[Message]", node.get_payload()))
        else:
            leaves.append(_part(node))
    return leaves


def _part(node: Message) -> Part:
    content = node.get_payload(decode=True)
    stated = _field(node, "Content-Type")
    kind = headers.media_type(stated, node.get_default_type())
    return Part(
        content_type="text/plain" if kind.startswith("multipart/") else kind,
        content=content if isinstance(content, bytes) else b"",
        type_field=stated,
        disposition_field=_field(node, "Content-Disposition"),
        content_id=_field(node, "Content-ID"),
    )


def _field(node: Message, name: str) -> str | None:
    """A field as written, unfolded; raw 8-bit octets decoded."""
    wanted = name.lower()
    for field, value in node.raw_items():
        if field.lower() == wanted:
            octets = str(value)[: headers.MAX_PARAMETERS].encode("utf-8", "surrogateescape")
            return decode_unlabelled(octets).replace("\r", "").replace("\n", "").strip()
    return None
