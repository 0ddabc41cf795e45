"""Writing a mail: a new one, an answer, or one forwarded. What was written is never lost to a mistake in it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from aiohttp.web import FileField

from inboxd import accepting
from inboxd.api.outgoing import wire_names
from inboxd.dashboard.page import Answered, Moved, Shown, Visit
from inboxd.errors import Conflict, Invalid, NotFound
from inboxd.mail import answering, glean, parse
from inboxd.mails import Draft, Message
from inboxd.model import Connector, ConnectorId, MessageId
from inboxd.outbox import Once
from inboxd.store import connectors, messages

MOST_BYTES: Final = 40_000_000
_FIELDS: Final = ("connector", "to", "cc", "bcc", "subject", "text", "reply", "forward", "all")
_TOKEN: Final = re.compile(r"[\w-]{8,64}", re.ASCII)
_MOST_OUTLETS: Final = 500
_BETWEEN: Final = re.compile(r"[,;\n]+")


async def show(visit: Visit) -> Shown:
    """The form, filled in for an answer or a mail to be forwarded."""
    given = {name: visit.given(name) for name in _FIELDS}
    message = await _origin(visit)
    if message is not None:
        given |= await _begun(visit, message)
    return await _form(visit, given, message)


async def send(visit: Visit) -> Answered:
    """Put the mail into the outbox; with a mistake, the form again as it was."""
    given = {name: str(visit.form.get(name, "")) for name in _FIELDS}
    message = await _origin(visit)
    try:
        draft = await _draft(visit, given, message)
        once = await asyncio.to_thread(_once, visit.given("once"), given, draft)
        with wire_names():
            accepted = await accepting.accept(
                visit.services,
                _connector_id(given["connector"]),
                draft,
                once=once,
                answers=message.id if message is not None and given["reply"] else None,
            )
    except (Invalid, Conflict, NotFound) as error:
        return replace(await _form(visit, given, message, mistake=str(error)), status=400)
    visit.session.tell("The mail is in the outbox and on its way.")
    return Moved(f"/ui/outbox/{accepted.id}")


async def _draft(visit: Visit, given: dict[str, str], message: Message | None) -> Draft:
    files = [one for one in visit.form.getall("attachments", ()) if isinstance(one, FileField) and one.filename]
    attachments = [(one.filename, one.content_type, await asyncio.to_thread(one.file.read)) for one in files]
    draft = Draft(
        sender="",
        to=_addresses(given["to"]),
        cc=_addresses(given["cc"]),
        bcc=_addresses(given["bcc"]),
        subject=given["subject"],
        text=given["text"].replace("\r\n", "\n"),
        attachments=tuple(attachments),
    )
    if not draft.to and not draft.cc and not draft.bcc:
        raise Invalid("to", "write at least one recipient")
    if message is None:
        return draft
    raw = await messages.raw(visit.services.store, message.id)
    if given["reply"]:
        return await asyncio.to_thread(_answered, draft, raw)
    return await asyncio.to_thread(_passed_on, draft, message, raw)


def _answered(draft: Draft, raw: bytes) -> Draft:
    """As an answer belongs to its conversation, to whom and about what the form says."""
    return replace(answering.reply(draft, raw), to=draft.to, subject=draft.subject)


def _passed_on(draft: Draft, message: Message, raw: bytes) -> Draft:
    """With the mail in it below what was written."""
    made = answering.forward(replace(draft, text=None), message.digest, raw)
    note = draft.text or ""
    return replace(
        made,
        text=f"{note}\n\n{made.text}" if made.text is not None else note or None,
        html=glean.html_of_text(note) + made.html if made.html is not None else None,
        attachments=(*draft.attachments, *made.attachments),
    )


def _once(token: str, given: dict[str, str], draft: Draft) -> Once | None:
    """The same form sent twice is one mail."""
    if not _TOKEN.fullmatch(token):
        return None
    made = hashlib.sha256(repr(sorted(given.items())).encode(errors="replace"))
    for name, _, content in draft.attachments:
        made.update(name.encode(errors="replace") + hashlib.sha256(content).digest())
    return Once(f"dashboard-{token}", made.digest())


async def _begun(visit: Visit, message: Message) -> dict[str, str]:
    """What the form holds at the start of an answer, or of a mail to be forwarded."""
    digest = message.digest
    begun = {"connector": str(message.connector_id or "")}
    subject = digest.subject or ""
    if visit.given("forward"):
        return begun | {"subject": subject if subject.lower().startswith("fwd:") else f"Fwd: {subject}"}
    to = digest.reply_to or (digest.sender.address if digest.sender else "")
    begun |= {"to": to, "subject": subject if subject.lower().startswith("re:") else f"Re: {subject}"}
    if visit.given("all"):
        own = await _own_address(visit, message)
        others = [one.address for one in (*digest.to, *digest.cc) if one.address.lower() not in {own, to.lower()}]
        begun["cc"] = ", ".join(dict.fromkeys(others))
    raw = await messages.raw(visit.services.store, message.id)
    body = await asyncio.to_thread(parse.body, raw)
    quoted = "\n".join(f"> {line}".rstrip() for line in (body.text or digest.excerpt or "").splitlines()[:500])
    sender = (digest.sender.name or digest.sender.address) if digest.sender else "somebody"
    return begun | {"text": f"\n\n{sender} wrote:\n{quoted}\n"}


async def _own_address(visit: Visit, message: Message) -> str:
    if message.connector_id is None:
        return ""
    return ((await connectors.get(visit.services.store, message.connector_id)).email_address or "").lower()


async def _origin(visit: Visit) -> Message | None:
    """The mail that is answered or forwarded."""
    asked = visit.given("reply") or visit.given("forward")
    if not asked:
        return None
    try:
        return await messages.get(visit.services.store, MessageId(UUID(asked)))
    except ValueError as error:
        raise NotFound(f"there is no message {asked[:80]}") from error


async def _form(visit: Visit, given: dict[str, Any], message: Message | None, mistake: str = "") -> Shown:
    outlets = await connectors.sending(visit.services.store, most=_MOST_OUTLETS)
    return Shown(
        "compose.html",
        {
            "given": given,
            "message": message,
            "mistake": mistake,
            "outlets": [(str(one.id), _label(one)) for one in outlets],
            "once": visit.given("once") or visit.session.once(),
        },
    )


def _label(connector: Connector) -> str:
    name, address = connector.name, connector.email_address
    return f"{name} <{address}>" if name and address and name != address else name or address or str(connector.id)


def _connector_id(given: str) -> ConnectorId:
    try:
        return ConnectorId(UUID(given))
    except ValueError as error:
        raise Invalid("connector", "choose the mailbox to send from") from error


def _addresses(given: str) -> tuple[str, ...]:
    """Addresses as people separate them; a comma within quotes or before an angle bracket belongs to a name."""
    found: list[str] = []
    for part in _BETWEEN.split(given):
        if found and found[-1].count('"') % 2:
            found[-1] += "," + part
        elif part.strip():
            found.append(part)
    return tuple(one.strip() for one in found)
