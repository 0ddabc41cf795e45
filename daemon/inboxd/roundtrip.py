"""A mail from a connector to itself, timed: until its server took it, until it was delivered, until it was here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime, timedelta
from typing import Final, final
from uuid import uuid4

from inboxd.accounts import account_of
from inboxd.bus import Hint
from inboxd.causes import Failure, diagnose
from inboxd.dial import dial, dial_smtp
from inboxd.errors import Conflict, InboxdError, Late, MailboxRefused, MailServerError
from inboxd.imap.choosing import chosen
from inboxd.imap.session import Session
from inboxd.mail.build import Built, build
from inboxd.mails import Draft, Message
from inboxd.model import Account, Connector, ConnectorId, Kind, MessageFilter, State, Step, Window, utc_now
from inboxd.probe import Tell, Trace, step_at, told
from inboxd.services import Services
from inboxd.store import connectors, messages

_TEXT: Final = "This mail was sent by inboxd to see how long mail takes to come back. You may delete it."
# How often the mailbox itself is looked into: seldom beside a connector that runs, which is to be first.
_BESIDE_SECONDS: Final = 5.0
_ALONE_SECONDS: Final = 1.0
_RUNNING: Final = frozenset({State.CONNECTING, State.SYNCING, State.IDLE, State.POLLING})
_CLOCKS_DIFFER: Final = timedelta(days=1)


async def roundtrip(services: Services, id: ConnectorId, trace: Trace, seconds: float) -> AsyncIterator[Step]:
    """Send the connector a mail of its own and wait for it, `seconds` at most: steps connect, accepted, delivered,
    detected.

    The stored copy is deleted again; the mailbox keeps the mail. Conflict, before anything is sent, when the connector
    has no IMAP or no SMTP connection, or no address. What a server does is told as a step and not raised.
    """
    connector = await connectors.get(services.store, id)
    imap = await account_of(services.store, services.vault, id, Kind.IMAP)
    smtp = await account_of(services.store, services.vault, id, Kind.SMTP)
    address = own_address(connector, smtp)
    if address is None:
        raise Conflict(f"connector {connector.name or id} has no mail address to send to; set one")
    trip = _Trip(services, connector, imap, smtp, address, trace, seconds)
    async with aclosing(told(trip.go)) as steps:
        async for step in steps:
            yield step


def own_address(connector: Connector, smtp: Account) -> str | None:
    """Where the connector's mail to itself goes; None when it has no address."""
    address = connector.email_address or smtp.username
    return address if "@" in address else None


@final
class _Trip:
    """One mail on its way."""

    def __init__(
        self,
        services: Services,
        connector: Connector,
        imap: Account,
        smtp: Account,
        address: str,
        trace: Trace,
        seconds: float,
    ) -> None:
        self._services = services
        self._connector = connector
        self._imap = imap
        self._smtp = smtp
        self._trace = trace
        self._seconds = seconds
        self._token = uuid4().hex
        self._mail: Built = build(
            Draft(sender=address, to=(address,), subject=f"inboxd round trip {self._token}", text=_TEXT)
        )
        self._runs = services.roster.status(connector.id).state in _RUNNING
        self._under_way = "connect"
        self._account = smtp
        self._accepted_at = utc_now()
        self._began = time.monotonic()

    async def go(self, tell: Tell) -> None:
        """Take the steps and tell each."""
        try:
            await self._hand_over(tell)
            async with AsyncExitStack() as stack:
                await self._await_it(stack, tell)
        except InboxdError as error:
            step = step_at(error, self._under_way)
            name, cause, fix = diagnose(Failure(step, error, self._account))
            spent = self._lap()
            tell(Step(step, ok=False, seconds=spent, detail=str(error), cause=cause, fix=fix, diagnosis=name))

    def _lap(self) -> float:
        now = time.monotonic()
        passed, self._began = now - self._began, now
        return passed

    async def _hand_over(self, tell: Tell) -> None:
        account = self._smtp
        if self._services.tokens is not None:
            account = await self._services.tokens.dressed(account)
        async with dial_smtp(account, self._services.settings, self._trace) as session:
            tell(Step("connect", ok=True, seconds=self._lap(), detail=f"logged in at {account.host}"))
            self._under_way = "accepted"
            receipt = await session.send(self._mail.sender, self._mail.recipients, self._mail.raw)
            self._accepted_at = utc_now()
            tell(Step("accepted", ok=True, seconds=self._lap(), detail=receipt.reply))
        self._under_way, self._account = "delivered", self._imap

    # --- its arrival --------------------------------------------------------------------------------------------------

    async def _await_it(self, stack: AsyncExitStack, tell: Tell) -> None:
        ends_at = self._began + self._seconds
        pause = _BESIDE_SECONDS if self._runs else _ALONE_SECONDS
        looks_at = self._began + pause
        look = _Look(self._services, self._imap, self._mail.message_id, self._accepted_at, stack)
        with self._services.bus.subscribe(self._connector.inbox_id) as hint:
            while (stored := await self._stored()) is None:
                now = time.monotonic()
                if now >= looks_at or now >= ends_at:
                    await look.again()
                    looks_at = time.monotonic() + pause
                    if self._is_over(look, late=now >= ends_at):
                        tell(Step("delivered", ok=True, seconds=self._lap(), detail=f"in {look.place}, seen there"))
                        detail = "not measured: the connector does not run, so nothing here listens for mail"
                        tell(Step("detected", ok=True, seconds=0.0, detail=detail))
                        return
                await _rest(hint, min(looks_at, ends_at) - time.monotonic())
        await self._tell_stored(stored, tell)

    def _is_over(self, look: _Look, *, late: bool) -> bool:
        """Whether the mail is where it should be, and nobody will bring it here. Late for what is not going to be."""
        if look.place is not None and look.is_junk:
            raise Late(f"it is in {look.place}, a folder for unwanted mail (junk)")
        if look.place is None:
            if late:
                raise Late(f"it is in no mailbox that was looked into {self._seconds:g} s after it was taken")
            return False
        if self._runs and late:
            self._under_way = "detected"
            raise Late(f"it is in {look.place}, and was not stored here within {self._seconds:g} s")
        return not self._runs

    async def _stored(self) -> Message | None:
        wanted = MessageFilter(inbox_ids=(self._connector.inbox_id,), subject=self._token)
        return await messages.nth(self._services.store, wanted, Window(size=1), 0)

    async def _tell_stored(self, stored: Message, tell: Tell) -> None:
        """The server's own clock says when it filed the mail, in whole seconds; ours bounds it."""
        whole = self._lap()
        filed = (stored.received_at - self._accepted_at).total_seconds() if stored.received_at is not None else 0.0
        delivered = min(max(filed, 0.0), whole)
        where = f"in {stored.mailbox or 'the mailbox'}"
        if stored.received_at is not None:
            where += f" at {stored.received_at:%H:%M:%S} UTC by the server's clock"
        tell(Step("delivered", ok=True, seconds=delivered, detail=where))
        await messages.remove(self._services.store, stored.id)
        self._services.bus.publish(self._connector.inbox_id)
        detail = f"stored {whole:.2f} s after the server took it; deleted here again, the mailbox keeps it"
        tell(Step("detected", ok=True, seconds=whole - delivered, detail=detail))


async def _rest(hint: Hint, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0.0)):
            await hint.wait()


@final
class _Look:
    """Looks for a mail in the mailbox itself, on a session of its own that begins with the first look.

    `place`: where it was found last; `is_junk`: whether that is for unwanted mail.
    """

    def __init__(
        self, services: Services, account: Account, message_id: str, since: datetime, stack: AsyncExitStack
    ) -> None:
        self._services = services
        self._account = account
        self._message_id = message_id
        self._since = since - _CLOCKS_DIFFER
        self._stack = stack
        self._session: Session | None = None
        self._names: list[str] = []
        self._junk: list[str] = []
        self.place: str | None = None

    @property
    def is_junk(self) -> bool:
        """Whether it was found among unwanted mail, and the connector does not read that by itself."""
        return self.place in self._junk and self.place != self._account.select_folder

    async def again(self) -> None:
        """Look once; what a server does not do now it may do at the next look."""
        try:
            session = self._session or await self._begin()
            for name in self._names:
                with suppress(MailboxRefused):
                    await session.examine(name)
                    if await session.find_message_id(self._message_id, self._since):
                        self.place = name
                        return
        except MailServerError:
            self._session = None

    async def _begin(self) -> Session:
        session = await self._stack.enter_async_context(
            dial(self._account, self._services.settings, self._services.budgets, tokens=self._services.tokens)
        )
        self._junk = chosen(await session.mailboxes(), ["\\Junk"])
        self._names = list(dict.fromkeys([self._account.select_folder, "INBOX", *self._junk]))
        self._session = session
        return session
