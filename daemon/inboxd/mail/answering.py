"""A received mail answered or passed on: what its header fields and its content add to a draft of ours.

All of it blocks and belongs in a worker thread. Everything taken from the mail is hostile.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from email.utils import format_datetime
from typing import Final

from inboxd.errors import Conflict, Invalid, Unparsable
from inboxd.mail import addresses, confined, headers, parse
from inboxd.mail.build import CONTENT_TYPE, OCTETS
from inboxd.mail.charsets import clean_line
from inboxd.mail.headers import Headers
from inboxd.mail.parts import attachment_of
from inboxd.mails import Address, Attachment, Digest, Draft

# Whoever wrote the mail chooses where its reply goes: no more than a small group.
MAX_ANSWERED: Final = 20
MAX_REFERENCES: Final = 2_000
MAX_ATTACHMENTS: Final = 100
_MAX_SHOWN: Final = 100
_MAX_NAME: Final = 200
_TITLE: Final = "---------- Forwarded message ----------"

_ID = re.compile(r"<((?:(?!=\?)[!-;=?-~]){1,800})>")
_ANSWER = re.compile(r"\s*re\s*(?:\[\d{1,4}\])?\s*:", re.IGNORECASE)
_PASSED_ON = re.compile(r"\s*fwd?\s*:", re.IGNORECASE)
_SPECIALS = re.compile(r'(["\\])')
_BODY_TAG = re.compile(r"<body\b", re.IGNORECASE)


def reply(draft: Draft, raw: bytes) -> Draft:
    """`draft` as the reply to a mail: its recipients, subject and place in the conversation (RFC 5322 §3.6.4, §3.6.5).

    It goes to Reply-To, else to From; Conflict when neither holds a mail address. The body is the draft's own.
    """
    fields = Headers(raw)
    answered = next(_ids(fields.all("Message-ID")), None)
    return replace(
        draft,
        to=_answered(fields),
        subject=_prefixed("Re:", _ANSWER, headers.decode_words(fields.first("Subject") or "")),
        in_reply_to=answered,
        references=_references(fields, answered),
    )


def forward(draft: Draft, digest: Digest, raw: bytes) -> Draft:
    """`draft` with a mail passed on in it: who wrote it to whom, its text and its HTML, and its attachments as files.

    The subject is the draft's own, if it has one. Unparsable; Conflict when there are too many attachments.
    """
    if digest.defect is not None:
        raise Unparsable(f"the mail cannot be forwarded: {digest.defect}")
    body, shown = parse.body(raw), list(_shown(digest))
    text = "\n".join([_TITLE, *(f"{name}: {value}" for name, value in shown), "", body.text or ""])
    return replace(
        draft,
        subject=draft.subject or _prefixed("Fwd:", _PASSED_ON, digest.subject or ""),
        text=text if body.text is not None or body.html is None else None,
        html=_below(shown, body.html) if body.html is not None else None,
        attachments=_attachments(raw, digest.attachments),
        attachment_ids=tuple(str(attachment.id) for attachment in digest.attachments),
    )


def _answered(fields: Headers) -> tuple[str, ...]:
    for name in ("Reply-To", "From", "Sender"):
        if found := tuple(_usable(addresses.read(fields.all(name)))):
            return found[:MAX_ANSWERED]
    raise Conflict("the mail names nobody who could be answered: it has no address in Reply-To or From")


def _usable(given: Sequence[Address]) -> Iterator[str]:
    for address in given:
        name = _SPECIALS.sub(r"\\\1", clean_line(address.name or "", _MAX_NAME))
        written = f'"{name}" <{address.address}>' if name else address.address
        try:
            yield addresses.mailbox("to", written).raw
        except Invalid:
            continue


def _prefixed(prefix: str, there: re.Pattern[str], subject: str) -> str:
    return subject if there.match(subject) else f"{prefix} {subject}".rstrip()


def _ids(values: Sequence[str]) -> Iterator[str]:
    return (found[1] for value in values for found in _ID.finditer(value))


def _references(fields: Headers, answered: str | None) -> tuple[str, ...]:
    """The conversation so far, the mail answered last; of a long one its beginning and what came last."""
    before = list(_ids(fields.all("References")))
    if not before:
        parents = list(_ids(fields.all("In-Reply-To")))
        before = parents if len(parents) == 1 else []
    ids = [one for one in dict.fromkeys(before) if one != answered] + ([answered] if answered else [])
    room = MAX_REFERENCES - sum(map(len, ids[:1]))
    late: list[str] = []
    for one in reversed(ids[1:]):
        room -= len(one)
        if room < 0:
            break
        late.append(one)
    return (*ids[:1], *reversed(late))


def _shown(digest: Digest) -> Iterator[tuple[str, str]]:
    if digest.sender is not None:
        yield "From", _line([digest.sender])
    if digest.date is not None:
        yield "Date", format_datetime(digest.date)
    yield "Subject", clean_line(digest.subject or "", headers.MAX_LINE)
    if digest.to:
        yield "To", _line(digest.to[:_MAX_SHOWN])


def _line(people: Sequence[Address]) -> str:
    named = (f"{one.name} <{one.address}>" if one.name else one.address for one in people)
    return ", ".join(clean_line(one, headers.MAX_LINE) for one in named)


def _below(shown: Sequence[tuple[str, str]], content: str) -> str:
    """The HTML with the block at its beginning. No quotation marks in it: it may end up in an attribute."""
    lines = (f"<b>{name}:</b> {html.escape(value)}<br>" for name, value in shown)
    block = f"<div>{_TITLE}<br>{''.join(lines)}<br></div>"
    body = _BODY_TAG.search(content)
    at = content.find(">", body.end()) + 1 if body is not None else 0
    return content[:at] + block + content[at:]


def _attachments(raw: bytes, listed: Sequence[Attachment]) -> tuple[tuple[str, str, bytes], ...]:
    """Name, type and bytes of each, the mail parsed once unless it looks hostile."""
    if len(listed) > MAX_ATTACHMENTS:
        raise Conflict(f"the mail has {len(listed)} attachments; at most {MAX_ATTACHMENTS} can be forwarded")
    if not listed:
        return ()

    def confine(mail: bytes) -> list[bytes]:
        return [confined.attachment(mail, one.position) for one in listed]

    contents = (
        confine(raw)
        if parse.is_suspicious(raw)
        else parse.in_order(raw, lambda _, parts: [attachment_of(parts, one.position) for one in listed], confine)
    )
    return tuple((one.name, _kind(one), content) for one, content in zip(listed, contents, strict=True))


def _kind(attachment: Attachment) -> str:
    return attachment.content_type if CONTENT_TYPE.match(attachment.content_type) else OCTETS
