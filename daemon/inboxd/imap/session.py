"""A logged-in IMAP session: mailboxes examined, searched, fetched, and listened to. One task owns it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, final

from inboxd import metrics
from inboxd.certificates import shown
from inboxd.errors import CommandMalformed, CommandRefused, Invalid, MailboxRefused, MailServerError, ProtocolError
from inboxd.imap.asked import Asked
from inboxd.imap.changes import Changes, modseq_of
from inboxd.imap.deflate import Line
from inboxd.imap.filing import append
from inboxd.imap.folders import Folder, folders_in
from inboxd.imap.idling import Idle
from inboxd.imap.labels import OFFER
from inboxd.imap.lines import (
    first_line,
    is_fetch,
    mailbox_argument,
    parse_fetch,
    parse_search,
    quoted,
    response_code,
    search_date,
    store_item,
)
from inboxd.imap.link import Link, check
from inboxd.imap.mailbox import Mailbox
from inboxd.imap.stream import Fetch, Stream
from inboxd.sections import ImapSettings
from inboxd.uids import UidSet
from inboxd.ways import ServerCertificate

_LOGOUT_SECONDS: Final = 2.0
_HEADER_ASIDE_BYTES: Final = 2 << 20  # what may come beside the largest header there is room for
_MOST_MESSAGES: Final = 20_000_000  # a range costs a server nothing; we have to go through it
_GONE_CODES: Final = frozenset({"NONEXISTENT", "NOPERM", "TRYCREATE", "CANNOT"})
_MISSING_CODES: Final = frozenset({"NONEXISTENT", "TRYCREATE"})
_GONE_WORDS: Final = ("doesn't exist", "does not exist", "not found", "unknown mailbox", "no such mailbox")


@final
class Session:
    """An open IMAP session. `capabilities` are in capitals; `tls` is the version, None when not encrypted.

    `ends_at`: when, on the loop's clock, its owner is to end it, because what it logged in with ends soon; None: never.
    """

    def __init__(self, link: Link, limits: ImapSettings, capabilities: frozenset[str], tls: str | None) -> None:
        self._link = link
        self._protocol = link.protocol
        self._limits = limits
        self.capabilities = capabilities
        self.tls = tls
        self.tells_vanished: bool | None = None  # whether QRESYNC is on; None: not asked for yet
        self._counts_changes = bool({"CONDSTORE", "QRESYNC"} & capabilities)
        self._line = Line(link.round_trip_seconds)
        self._compressible = "COMPRESS=DEFLATE" in capabilities
        self.ends_at: float | None = None

    @property
    def certificate(self) -> ServerCertificate | None:
        """The certificate the server showed; None when not encrypted."""
        return shown(self._protocol.transport.get_extra_info("ssl_object"))

    @property
    def left_seconds(self) -> float:
        """How long it is to last from now on; infinite without `ends_at`."""
        return math.inf if self.ends_at is None else self.ends_at - asyncio.get_running_loop().time()

    @property
    def link(self) -> Link:
        """The connection, for this room's other modules."""
        return self._link

    @property
    def pushes(self) -> int:
        """How often the server has said EXISTS: a change since a remembered value means look again."""
        return self._protocol.pushes

    @property
    def arrivals(self) -> int:
        """By how many messages those EXISTS have grown the mailbox."""
        return self._protocol.arrivals

    @property
    def changes(self) -> int:
        """How often the server has said anything of messages known before: new flags, or that they are gone."""
        return self._protocol.changes

    @property
    def exists(self) -> int:
        """How many messages the open mailbox holds, as far as the server has said."""
        return self._protocol.exists

    @property
    def pushed_at(self) -> float:
        """When it last did, on the loop's clock."""
        return self._protocol.pushed_at

    @property
    def last_received(self) -> float:
        """When the last byte came, on the loop's clock."""
        return self._protocol.patience.last_received

    @property
    def alerts(self) -> list[str]:
        """What the server marked [ALERT]: users must be shown it (RFC 3501 §7.1)."""
        return self._protocol.alerts

    async def log_out(self) -> None:
        """Say good-bye, briefly; what the server makes of it does not matter any more."""
        command = Asked("LOGOUT", self._link.tag())
        with suppress(MailServerError, TimeoutError), self._link.owning():
            self._protocol.begin(command)
            async with asyncio.timeout(_LOGOUT_SECONDS):
                await self._link.until(lambda: command.done)

    # --- compression --------------------------------------------------------------------------------------------------

    async def compress(self) -> None:
        """Have both directions compressed from here on, if the server can do that and will."""
        if self._compressible:
            self._compressible = False
            with suppress(CommandRefused):
                await self._link.run(Asked("COMPRESS", self._link.tag(), "DEFLATE"))

    async def suit_line(self) -> None:
        """Compress, unless the settings say otherwise, when what was fetched so far shows that it would pay.

        For whoever has much to fetch: a connection that is compressed stays so, and holds 40 KB for it.
        """
        if self._limits.compress == "auto" and self._line.is_slow:
            await self.compress()

    # --- mailboxes ----------------------------------------------------------------------------------------------------

    async def examine(self, name: str) -> Mailbox:
        """Open a mailbox read-only, so that reading changes nothing there. MailboxRefused when there is no such one.

        Where the server can, it counts changes from then on (CONDSTORE), and names the messages that go (QRESYNC).
        """
        self._protocol.state = "AUTH"
        if self.tells_vanished is None:
            self.tells_vanished = "QRESYNC" in self.capabilities and await self._enable_qresync()
        if self.tells_vanished or not self._counts_changes:
            return (await self._open("EXAMINE", name))[0]
        try:
            return (await self._open("EXAMINE", name, "(CONDSTORE)"))[0]
        except CommandMalformed:
            self._counts_changes = False
            return (await self._open("EXAMINE", name))[0]

    async def _enable_qresync(self) -> bool:
        try:
            command = await self._link.run(Asked("ENABLE", self._link.tag(), "QRESYNC"))
        except CommandRefused:
            return False
        return any(
            line[:10].upper() == b"* ENABLED " and b"QRESYNC" in line[:200].upper().split()
            for line in map(first_line, command.responses)
        )

    async def select(self, name: str) -> Mailbox:
        """Open a mailbox for changes. MailboxRefused when there is no such one, or it may only be read."""
        mailbox, answer = await self._open("SELECT", name)
        if response_code(answer.encode())[0] == "READ-ONLY":
            raise MailboxRefused("select", f"the mailbox {name!r} may be read but not changed", reply=answer)
        return mailbox

    async def mailboxes(self) -> list[Folder]:
        """Every mailbox there is, with its special uses where the server knows of any (RFC 6154)."""
        everything = ('""', '"*"')
        if {"LIST-EXTENDED", "SPECIAL-USE"} <= self.capabilities:
            with suppress(CommandRefused):
                asked = Asked("LIST", self._link.tag(), *everything, "RETURN (SPECIAL-USE)")
                return folders_in((await self._link.run(asked)).responses)
        return folders_in((await self._link.run(Asked("LIST", self._link.tag(), *everything))).responses)

    async def append(self, mailbox: str, raw: bytes, *, flags: tuple[str, ...], date: datetime) -> None:
        """File a message under its flags and date; whatever else is open stays open.

        MailboxRefused when there is no such mailbox; CommandRefused, with the server's words, for any other reason it
        gives (a quota, a limit); Stalled, ConnectionLost: then it may have been filed all the same.
        """
        try:
            await append(self._link, self.capabilities, mailbox, raw, flags=flags, date=date)
        except CommandRefused as error:
            if response_code(error.reply.encode())[0] in _MISSING_CODES:
                raise MailboxRefused("append", f"there is no mailbox {mailbox!r}", reply=error.reply) from error
            raise

    async def _open(self, how: str, name: str, *options: str) -> tuple[Mailbox, str]:
        """The mailbox, and the words of the tagged answer."""
        self._protocol.state = "AUTH"
        self._protocol.exists = 0
        try:
            command = await self._link.run(Asked(how, self._link.tag(), mailbox_argument(name), *options))
        except CommandRefused as error:
            code, words = response_code(error.reply.encode())[0], error.reply.lower()
            if code in _GONE_CODES or any(word in words for word in _GONE_WORDS):
                raise MailboxRefused("select", f"the mailbox {name!r} cannot be opened", reply=error.reply) from error
            raise
        self._protocol.state = "SELECTED"
        self._protocol.disturbed = False
        codes = dict(
            response_code(first_line(r)[4:].lstrip())
            for r in command.responses
            if first_line(r)[:5].upper() == b"* OK "
        )
        mailbox = Mailbox(
            name=name,
            exists=self._protocol.exists,
            uidvalidity=_count(codes.get("UIDVALIDITY")),
            uidnext=_count(codes.get("UIDNEXT")),
            modseq=modseq_of(codes.get("HIGHESTMODSEQ")),
        )
        return mailbox, command.words

    async def search(
        self, *, above: int = 0, below: int | None = None, terms: str | None = None, since: datetime | None = None
    ) -> UidSet:
        """The UIDs between `above` and `below` that match `terms` (SEARCH keys) and arrived since a moment, by day.

        Invalid when `terms` cannot be sent; CommandRefused when the server does not understand them.
        """
        if below is not None and below <= above + 1:
            return UidSet()
        keys = [f"UID {above + 1}:{'*' if below is None else below - 1}"]
        if since is not None:
            keys.append(f"SINCE {search_date(since)}")
        if terms:
            if not terms.isprintable() or not terms.isascii():
                raise Invalid("search terms", "must be printable ASCII on one line")
            keys.append(f"({terms})")
        uids = (await self._search(keys)).above(above)
        if len(uids) > _MOST_MESSAGES:
            raise ProtocolError("search", f"the server lists {len(uids)} messages")
        return uids

    async def find_message_id(self, message_id: str, since: datetime | None = None) -> UidSet:
        """The UIDs of the open mailbox's messages with this Message-ID, of those that arrived since a moment, by day.

        Angle brackets may be left out. Invalid when no command can carry the id; CommandRefused.
        """
        if not message_id.isascii() or not message_id.isprintable():
            raise Invalid("message_id", "must be printable ASCII on one line")
        keys = [f"HEADER Message-ID {quoted('<' + message_id.strip('<>') + '>', 'message_id')}"]
        if since is not None:
            keys.append(f"SINCE {search_date(since)}")
        return await self._search(keys)

    async def still_there(self, uids: UidSet) -> UidSet:
        """Those of the messages that the open mailbox still holds."""
        asked = list(uids.chunks(len(uids)))
        return UidSet.joined([await self._search([f"UID {some}"]) for some in asked])

    async def changed(self, uids: str, since: int | None = None) -> Changes:
        """The flags, and Gmail's labels, of the messages of a sequence-set of UIDs.

        `since`: of those changed after that mod-sequence alone.
        With QRESYNC also which of them are gone since then (RFC 7162 §3.2.6). CommandRefused.
        """
        note = self._protocol.note_line
        vanished = since is not None and bool(self.tells_vanished)
        labelled = OFFER in self.capabilities
        command = Changes(self._link.tag(), uids, since, vanished=vanished, labelled=labelled, note=note)
        return await self._link.run(command)

    async def _search(self, keys: list[str]) -> UidSet:
        """What a UID SEARCH finds, in whichever form the server says it best."""
        if "ESEARCH" in self.capabilities:
            keys = ["RETURN (ALL)", *keys]
        command = await self._link.run(Asked("SEARCH", self._link.tag(), *keys, prefix="UID"))
        return UidSet.joined(uids for r in command.responses if (uids := parse_search(first_line(r))) is not None)

    @contextmanager
    def fetch(self, uids: str) -> Generator[Stream]:
        """Stream the messages of a sequence-set of UIDs; see `Stream.take`. Leaving early drops the connection."""
        command = Fetch(self._protocol, uids, self._limits.buffer_bytes, labelled=OFFER in self.capabilities)
        self._protocol.begin(command)
        stream = Stream(command, self._link.until)
        try:
            with metrics.COMMAND_SECONDS.labels("FETCH").time():
                yield stream
        finally:
            self._line.note(*self._protocol.patience.answered)
            if not stream.finished:
                self._link.abort()

    async def header(self, uid: int) -> bytes:
        """The header of one message, for those too large to keep; empty when it is gone."""
        room_bytes = self._limits.max_message_bytes + _HEADER_ASIDE_BYTES
        items = "(UID BODY.PEEK[HEADER])"
        asked = Asked("FETCH", self._link.tag(), str(uid), items, prefix="UID", room_bytes=room_bytes)
        command = await self._link.run(asked)
        answers = [parse_fetch(r) for r in command.responses if is_fetch(first_line(r))]
        bodies = [bytes(a.body) for a in answers if a.uid == uid and isinstance(a.body, bytes)]
        return bodies[0] if bodies else b""

    async def store_flag(self, uid: int, flag: str, *, on: bool) -> tuple[str, ...] | None:
        """Set a flag of one message, or take it away, in a mailbox opened by `select`; what flags it has then.

        None when the message is gone, which is no mistake to a server (RFC 3501 §6.4.8). CommandRefused.
        """
        item = store_item(flag, on=on)
        await self._link.run(Asked("STORE", self._link.tag(), str(uid), item, prefix="UID", answer="FETCH"))
        asked = Asked("FETCH", self._link.tag(), str(uid), "(UID FLAGS)", prefix="UID")
        answers = [parse_fetch(r) for r in (await self._link.run(asked)).responses if is_fetch(first_line(r))]
        return next((answer.flags for answer in reversed(answers) if answer.uid == uid), None)

    # --- listening ----------------------------------------------------------------------------------------------------

    async def idle(
        self,
        seconds: float,
        seen_pushes: int,
        *,
        seen_changes: int | None = None,
        settle_seconds: float = 0.0,
        hurried: bool = False,
    ) -> float | None:
        """Listen until mail is announced, or `seconds` passed; when it was (on the loop's clock), or None.

        A session that is dismissed stops at once (`places`).
        An EXISTS since the caller remembered `seen_pushes` counts as announced at once. With `seen_changes`, listening
        ends so long after other `changes` than those, too: they come in bursts. Raises CommandRefused when the
        server refuses to IDLE, ConnectionLost and its kin when the connection ends, Stalled when DONE goes unanswered.

        When `hurried`, an IDLE that heard of mail is left to the next command, which is sent right behind its DONE:
        that saves a round trip. A server that cannot take that is cut off, and then `outran_done`.
        """
        command = Idle(self._protocol)
        with self._link.owning():
            self._protocol.begin(command)
            await self._link.until(lambda: command.started or command.done)
            pushed_at = await self._hear(seconds, seen_pushes, command, seen_changes, settle_seconds)
            if pushed_at is None or not hurried or command.done or self._protocol.disturbed:
                await self._end_idle(command)
        return pushed_at or (self.pushed_at if self.pushes != seen_pushes else None)

    async def _end_idle(self, command: Idle) -> None:
        command.make_way()
        await self._link.until(lambda: command.done, silence_seconds=self._limits.done_seconds)
        check(command)
        self._check_undisturbed("idle")

    @property
    def outran_done(self) -> bool:
        """Whether the server has left a DONE unanswered that the next command was sent behind."""
        return self._protocol.leaving is not None

    async def rest(self, seconds: float, seen_pushes: int) -> float | None:
        """Wait without IDLE for servers that lack it, then ask with NOOP; when mail was announced, or None."""
        with self._link.owning():
            await self._hear(seconds, seen_pushes, None)
            await self._link.run(Asked("NOOP", self._link.tag()))
            self._check_undisturbed("noop")
        return self.pushed_at if self.pushes != seen_pushes else None

    def _check_undisturbed(self, stage: str) -> None:
        if self._protocol.disturbed:
            raise ProtocolError(stage, "the server reported trouble with the open mailbox")

    async def _hear(
        self,
        seconds: float,
        seen_pushes: int,
        command: Asked | None,
        seen_changes: int | None = None,
        settle_seconds: float = 0.0,
    ) -> float | None:
        def called() -> bool:
            if self.pushes != seen_pushes or self._protocol.disturbed or self._link.dismissed:
                return True
            return command is not None and command.done

        def stirred() -> bool:
            return called() or (seen_changes is not None and self.changes != seen_changes)

        clock = self._protocol.clock
        ends_at = clock.time() + seconds
        try:
            async with asyncio.timeout_at(ends_at) as limit:
                await self._link.until(stirred, watched=False)
                limit.reschedule(min(ends_at, clock.time() + settle_seconds))
                await self._link.until(called, watched=False)
        except TimeoutError:
            return None
        return self.pushed_at if self.pushes != seen_pushes else None


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) <= 10 else 0
