"""Flags of a mail changed where it came from: in the external mailbox first, then in the store."""

from __future__ import annotations

from typing import Final

from inboxd import logs
from inboxd.accounts import account_of
from inboxd.dial import dial
from inboxd.errors import Conflict, MailboxRefused
from inboxd.imap.session import Session
from inboxd.mails import Message
from inboxd.model import ConnectorId, Kind
from inboxd.services import Services
from inboxd.store import messages

SEEN: Final = "\\Seen"
ANSWERED: Final = "\\Answered"
_log = logs.logger("flags")


async def mark_seen(services: Services, message: Message, *, seen: bool) -> Message:
    """Set \\Seen in the mail's external mailbox, or take it away, in a session of its own; the mail as it is then.

    Conflict when its connector or its place there is gone; MailServerError, MailboxRefused when it may not be changed.
    Nothing changes here unless it did there.
    """
    if message.connector_id is None or message.mailbox is None or message.uid is None:
        raise Conflict("the mail's connector was deleted: there is no mailbox to change its flags in")
    flags = await _write_through(services, message.connector_id, message.mailbox, message, seen=seen)
    await messages.set_flags(services.store, message.id, flags)
    marked = await messages.mark_read(services.store, message.id, read=seen)
    _log.info("flags_changed", email=str(message.id), connector=str(message.connector_id), seen=seen)
    services.bus.publish(message.inbox_id)
    return marked


async def mark_answered(session: Session, mailbox: str, uidvalidity: int, uid: int) -> tuple[str, ...] | None:
    """Set \\Answered of a mail in an external mailbox; what flags it has then.

    None when it is no longer there under this UID. MailboxRefused when the mailbox is gone or may not be changed.
    """
    opened = await session.select(mailbox)
    return await session.store_flag(uid, ANSWERED, on=True) if opened.uidvalidity == uidvalidity else None


async def _write_through(
    services: Services, connector_id: ConnectorId, name: str, message: Message, *, seen: bool
) -> tuple[str, ...]:
    account = await account_of(services.store, services.vault, connector_id, Kind.IMAP)
    async with dial(account, services.settings, services.budgets, tokens=services.tokens) as session:
        mailbox = await session.select(name)
        if mailbox.uidvalidity != message.uidvalidity:
            raise Conflict(f"the server has renumbered the mailbox {name!r}: sync the connector, then try again")
        flags = await _stored(session, name, message.uid or 0, seen=seen)
        await session.log_out()
    return flags


async def _stored(session: Session, name: str, uid: int, *, seen: bool) -> tuple[str, ...]:
    flags = await session.store_flag(uid, SEEN, on=seen)
    if flags is None:
        raise Conflict(f"the mail is no longer in the mailbox {name!r} on its server; it is kept here alone")
    if seen is not (SEEN.lower() in map(str.lower, flags)):
        raise MailboxRefused("store", f"the server did not keep the change of {SEEN} in the mailbox {name!r}")
    return flags
