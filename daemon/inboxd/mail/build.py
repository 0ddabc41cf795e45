"""Drafts to bytes: everything about a mail is fixed here, before it is sent or stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import uuid4

from inboxd.errors import Invalid
from inboxd.mail import addresses, compose
from inboxd.mail.charsets import clean
from inboxd.mails import Address, Draft
from inboxd.model import utc_now

# 7bit: no server has to offer 8BITMIME for a mail of ours.
_POLICY = SMTP.clone(cte_type="7bit")
_OURS = frozenset(
    {"bcc", "cc", "date", "from", "message-id", "mime-version", "received", "return-path", "sender", "subject", "to"}
)
CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}\Z")
_MESSAGE_ID = re.compile(r"[!-;=?-~]{1,500}@[!-;=?-~]{1,300}\Z")
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Built:
    """A mail ready to be sent: bytes with CRLF and lines of at most 998 octets, 7-bit unless `needs_smtputf8`.

    `message_id` has no angle brackets. `recipients` are the addresses of To, Cc and Bcc, each once; Bcc is nowhere in
    `raw`. Addresses have their domains in ASCII.
    """

    raw: bytes
    message_id: str
    sender: str
    recipients: tuple[str, ...]
    needs_smtputf8: bool = False


def build(draft: Draft, *, message_id: str | None = None, date: datetime | None = None) -> Built:
    """The mail of a draft; Invalid names the field that cannot be used. The same arguments give the same bytes.

    `message_id` and `date` are made now unless given. Blocks for about 20 ms per MB of attachments.
    """
    sender = addresses.validate("sender", draft.sender)
    to, cc, bcc = (_mailboxes(name, getattr(draft, name)) for name in ("to", "cc", "bcc"))
    recipients = tuple(dict.fromkeys(mailbox.address for mailbox in (*to, *cc, *bcc)))
    if not recipients:
        raise Invalid("to", "name at least one recipient")
    identity = message_id or f"{uuid4().hex}@{sender.rpartition('@')[2]}"
    if not _MESSAGE_ID.match(identity):
        raise Invalid("message_id", f"{identity[:80]!a} cannot be a Message-ID")
    fields = [
        compose.address_field("From", [compose.mailbox(compose.check("sender_name", draft.sender_name or ""), sender)]),
        *(_written(name, group) for name, group in (("To", to), ("Cc", cc)) if group),
        *_reply_to(draft),
        compose.text_field("Subject", compose.check("subject", draft.subject)),
        f"Date: {format_datetime(date or utc_now())}\r\n",
        f"Message-ID: <{identity}>\r\n",
        *_thread(draft),
        *_custom(draft),
    ]
    head = "".join(fields)
    content = _content(draft, hashlib.sha256(identity.encode()).hexdigest()[:32])
    return Built(
        raw=head.encode() + content.as_bytes(policy=_POLICY),
        message_id=identity,
        sender=sender,
        recipients=recipients,
        needs_smtputf8=not (head.isascii() and sender.isascii() and all(map(str.isascii, recipients))),
    )


def _mailboxes(name: str, given: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(addresses.mailbox(name, text) for text in given)


def _written(name: str, group: tuple[Address, ...]) -> str:
    return compose.address_field(name, [compose.mailbox(mailbox.name, mailbox.address) for mailbox in group])


def _reply_to(draft: Draft) -> Iterator[str]:
    if draft.reply_to is not None:
        yield _written("Reply-To", _mailboxes("reply_to", (draft.reply_to,)))


def _thread(draft: Draft) -> Iterator[str]:
    """The place in a conversation (RFC 5322 §3.6.4)."""
    for name, ids in (("In-Reply-To", (draft.in_reply_to,)), ("References", draft.references)):
        if written := " ".join(f"<{one}>" for one in ids if one):
            yield compose.text_field(name, compose.check(name, written))


def _custom(draft: Draft) -> Iterator[str]:
    """The draft's own header fields; Invalid for those that this module writes."""
    ours = _OURS | {
        name
        for name, given in (
            ("reply-to", draft.reply_to),
            ("in-reply-to", draft.in_reply_to),
            ("references", draft.references),
        )
        if given
    }
    for name, value in draft.headers.items():
        compose.check_name("headers", name)
        lowered = name.lower()
        if lowered in ours or lowered.startswith("content-"):
            raise Invalid("headers", f"{name} is set by the mail itself; use the field made for it")
        yield compose.text_field(name, compose.check(f"headers.{name}", value))


def _content(draft: Draft, token: str) -> EmailMessage:
    """The body with its MIME fields; `token` makes the boundaries."""
    message = EmailMessage(policy=_POLICY)
    bodies = [(text, kind) for text, kind in ((draft.text, "plain"), (draft.html, "html")) if text is not None]
    text, kind = bodies[0] if bodies else ("", "plain")
    message.set_content(clean(text), subtype=kind, charset="utf-8")
    if len(bodies) > 1:
        message.make_alternative(boundary=f"=_alt_{token}")
        message.add_alternative(clean(bodies[1][0]), subtype="html", charset="utf-8")
    if draft.attachments:
        message.make_mixed(boundary=f"=_mix_{token}")
    for name, content_type, content in draft.attachments:
        _attach(message, compose.check("attachments", name), content_type, content)
    return message


def _attach(message: EmailMessage, name: str, content_type: str, content: bytes) -> None:
    """Attach `content` in base64. What base64 is forbidden for (RFC 2045 §6.4) goes as plain octets."""
    kind = content_type.partition(";")[0].strip().lower() or OCTETS
    if not CONTENT_TYPE.match(kind):
        raise Invalid("attachments", f"{content_type[:80]!a} is not a content type; write it as type/subtype")
    maintype, _, subtype = (OCTETS if kind.startswith(("message/", "multipart/")) else kind).partition("/")
    message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name or None)
