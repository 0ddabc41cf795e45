"""A mail's leaves in MIME order, whichever parser found them, and the records made of them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from inboxd.errors import NotFound
from inboxd.mail import addresses, excerpts, headers
from inboxd.mail.charsets import clean_line, decode
from inboxd.mail.headers import Headers
from inboxd.mails import Attachment, Body, Digest
from inboxd.model import AttachmentId

MAX_PARTS = 1_000
MAX_NAME = 255
MAX_CONTENT_ID = 998
MAX_IMAGES = 8 << 20
MAX_SHOWN = 20

_BODY_TYPES = frozenset({"text/plain", "text/html"})
_ENDINGS = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "message/delivery-status": ".txt",
    "message/rfc822": ".eml",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
}
# Pixels alone: an SVG may hold scripts.
_IMAGES = frozenset(
    {"image/apng", "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/jpg", "image/png", "image/webp"}
)
_FOLDERS = re.compile(r".*[/\\]", re.DOTALL)
_ORDERING = re.compile(
    r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)  # UAX #9: marks, embeddings, overrides, isolates


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of the MIME tree, transfer-decoded. A message/rfc822 part is a leaf: what it holds is not looked into.

    `content_type` is lower-cased type/subtype; `type_field` and `disposition_field` are the header fields as written.
    """

    content_type: str
    content: bytes
    type_field: str | None = None
    disposition_field: str | None = None
    content_id: str | None = None

    @property
    def is_attachment(self) -> bool:
        """True for everything but text/plain and text/html that is not marked as an attachment (RFC 2183)."""
        return self.content_type not in _BODY_TYPES or self._disposition == "attachment"

    @property
    def _disposition(self) -> str:
        return (self.disposition_field or "")[:255].partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """The charset the part claims."""
        return headers.parameters(self.type_field).get("charset") if self.type_field else None

    def text(self, most_bytes: int | None = None) -> str:
        """The decoded text, of the first `most_bytes` octets if given."""
        return decode(self.content[:most_bytes], self.charset)

    def file_name(self, position: int) -> str:
        """A name to show: the sender's without any folders, or one made from the type. Never a path to write to.

        Its ending is where it is seen: no marks that show it in another order than it is in, no spaces before it.
        """
        stated = headers.parameters(self.disposition_field).get("filename")
        stated = stated or headers.parameters(self.type_field).get("name") or ""
        name = " ".join(_ORDERING.sub("", clean_line(_FOLDERS.sub("", stated), headers.MAX_LINE)).split()).rstrip(". ")
        if name.strip(". "):
            return _shortened(name)
        return f"attachment-{position + 1}{_ENDINGS.get(self.content_type, '')}"


def digest_of(raw: bytes, parts: Sequence[Part]) -> Digest:
    """What a mail with these leaves is about."""
    fields = Headers(raw)
    subject = fields.first("Subject")
    reply_to = addresses.read(fields.all("Reply-To"))
    sender = addresses.read(fields.all("From")) or addresses.read(fields.all("Sender"))
    words = _words(parts)
    return Digest(
        subject=headers.decode_words(subject) if subject is not None else None,
        sender=sender[0] if sender else None,
        to=addresses.read(fields.all("To")),
        cc=addresses.read(fields.all("Cc")),
        bcc=addresses.read(fields.all("Bcc")),
        reply_to=reply_to[0].address if reply_to else None,
        header_message_id=headers.message_id(fields.first("Message-ID")),
        in_reply_to=headers.message_id(fields.first("In-Reply-To")),
        date=headers.date(fields.first("Date")),
        excerpt=excerpts.excerpt_of(words),
        words=words,
        part_types=tuple(part.content_type for part in parts[:MAX_PARTS]),
        attachments=tuple(_described(position, part) for position, part in enumerate(_attachments(parts))),
    )


def body_of(raw: bytes, parts: Sequence[Part]) -> Body:
    """The readable content of a mail with these leaves: its text parts joined, its HTML parts joined."""
    texts = [part for part in parts[:MAX_PARTS] if not part.is_attachment]
    plain = [part for part in texts if part.content_type == "text/plain"]
    rich = [part for part in texts if part.content_type == "text/html"]
    shown = rich or plain
    return Body(
        text="\n".join(part.text() for part in plain) if plain else None,
        html="\n".join(part.text() for part in rich) if rich else None,
        headers=Headers(raw).decoded(),
        charset=clean_line(shown[0].charset or "", 40) or None if shown else None,
    )


def attachment_of(parts: Sequence[Part], position: int) -> bytes:
    """The bytes of the attachment that the digest lists at `position`; NotFound when there is none."""
    found = _attachments(parts)
    if not 0 <= position < len(found):
        raise NotFound(f"the mail has {len(found)} attachments, none at position {position}")
    return found[position].content


def part_of(parts: Sequence[Part], content_type: str, index: int, strict: bool) -> str:
    """The text of the part at `index` (from 0) among those of a content type; NotFound when there is none.

    `strict`: the type and subtype are given, and nothing else; otherwise parameters and case do not count, and the
    beginning of a type is enough.
    """
    wanted = content_type if strict else content_type.partition(";")[0].strip().lower()
    known = parts[:MAX_PARTS]
    found = [part for part in known if part.content_type == wanted]
    if not found and not strict and wanted:
        found = [part for part in known if part.content_type.startswith(wanted)]
    if index >= len(found):
        kinds = ", ".join(dict.fromkeys(part.content_type for part in known[:MAX_SHOWN]))
        raise NotFound(f"the mail has {len(found)} such parts, none at index {index}; it has parts of: {kinds}")
    return found[index].text()


def images_of(parts: Sequence[Part]) -> dict[str, str]:
    """The images that HTML may show, as data URIs by Content-ID; at most 8 MiB of them."""
    found: dict[str, str] = {}
    left = MAX_IMAGES
    for part in parts[:MAX_PARTS]:
        content_id = _content_id(part)
        if part.content_type in _IMAGES and content_id and content_id not in found and len(part.content) <= left:
            left -= len(part.content)
            found[content_id] = f"data:{part.content_type};base64,{b64encode(part.content).decode()}"
    return found


def _content_id(part: Part) -> str | None:
    return clean_line(part.content_id or "", MAX_CONTENT_ID).strip("<> ") or None


def _attachments(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts[:MAX_PARTS] if part.is_attachment]


def _described(position: int, part: Part) -> Attachment:
    return Attachment(
        id=AttachmentId(uuid4()),
        position=position,
        name=part.file_name(position),
        content_type=part.content_type,
        size_bytes=len(part.content),
        content_id=_content_id(part),
    )


def _words(parts: Sequence[Part]) -> str:
    """The first words of the first text part that has any, else of the first HTML part that has any."""
    texts = [part for part in parts[:MAX_PARTS] if not part.is_attachment]
    for kind, most, read in (
        ("text/plain", excerpts.MAX_TEXT, excerpts.words_of_text),
        ("text/html", excerpts.MAX_HTML, excerpts.words_of_html),
    ):
        for part in texts:
            if part.content_type == kind and (words := read(part.text(most))):
                return words
    return ""


def _shortened(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    stem, dot, ending = name.rpartition(".")
    keep = dot + ending if stem and len(ending) <= 16 else ""
    return name[: MAX_NAME - len(keep)] + keep
