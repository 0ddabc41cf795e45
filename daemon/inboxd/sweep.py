"""The mailboxes of a connector beside the one that is listened to, kept current on one connection of their own.

Servers with NOTIFY say which mailbox has changed; the others are asked how full each is, every so often. Only a mailbox
that is otherwise than before is opened. One that cannot be is left out, with its reason, and stops none of the others.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final
from uuid import uuid4

from inboxd import logs, metrics, sync
from inboxd.backoff import Backoff
from inboxd.budgets import Budgets, Purpose
from inboxd.dial import dial
from inboxd.errors import (
    CommandRefused,
    InboxdError,
    MailboxRefused,
    MailServerError,
    NotFound,
    SessionSpent,
    StoreError,
)
from inboxd.following import Follower
from inboxd.imap.choosing import chosen, first_of
from inboxd.imap.places import gives_way, rest_seconds
from inboxd.imap.session import Session
from inboxd.imap.watching import Counts, Watch
from inboxd.model import Account, Event, EventId, EventStatus, EventType, Trigger, utc_now
from inboxd.settings import Settings
from inboxd.store import events, messages
from inboxd.tokens import Tokens

_LOG_LINES: Final = 60
_VAIN_ROUNDS: Final = 2  # in a row, before a mailbox that changes without new mail is left alone for a while


@final
@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: str
    again_at: float  # on the loop's clock


@final
class Sweep:
    """Keeps a connector's other mailboxes current. `complete_at`: when the store last held all that they hold."""

    def __init__(
        self,
        target: sync.Target,
        settings: Settings,
        budgets: Budgets,
        locks: Callable[[str], asyncio.Lock],
        account: Callable[[], Account],
        changed: Callable[[], None],
        tokens: Tokens | None = None,
    ) -> None:
        self.complete_at: datetime | None = None
        self._target = target
        self._settings = settings
        self._limits = settings.imap
        self._budgets = budgets
        self._locks = locks
        self._account = account
        self._changed = changed
        self._tokens = tokens
        self._clock = asyncio.get_running_loop()
        self._main = ""
        self._begun = asyncio.Event()
        self._seen: dict[str, Counts] = {}
        self._compared_until: dict[str, float] = {}  # on the loop's clock; where the server does not tell of changes
        self._refused: dict[str, _Refusal] = {}
        self._resting: set[str] = set()
        self._failure: str | None = None
        self._transcript: deque[str] = deque(maxlen=_LOG_LINES)
        self._log = logs.logger("sweep").bind(connector=str(target.connector_id))

    @property
    def left_out(self) -> int:
        """How many mailboxes cannot be opened."""
        return len(self._refused)

    @property
    def rests(self) -> bool:
        """Whether the first load of a mailbox rests."""
        return bool(self._resting)

    @property
    def trouble(self) -> str | None:
        """Why some of the mailboxes are not current, if that is so."""
        said = [f"other folders: {self._failure}"] if self._failure else []
        return "; ".join([*said, *(f"left out: {refusal.reason}" for refusal in self._refused.values())][:3]) or None

    def begin(self, main: str) -> None:
        """The connector can log in, and listens to `main`: the others can be looked at."""
        self._main = main
        self._begun.set()

    async def run(self) -> None:
        """From `begin` until cancelled. Whatever goes wrong is tried again: the main mailbox is read all the same."""
        await self._begun.wait()
        backoff = Backoff(self._limits.retry_first_seconds, self._limits.retry_most_seconds)
        while True:
            began_at = self._clock.time()
            failure = await self._try()
            if isinstance(failure, SessionSpent):
                metrics.DISCONNECTS.labels(failure.reason).inc()
                continue
            if self._clock.time() - began_at >= self._limits.stable_seconds:
                backoff.reset()
            self._failure = str(failure)
            self._changed()
            metrics.DISCONNECTS.labels(failure.reason if isinstance(failure, MailServerError) else "error").inc()
            if backoff.failures == 0:
                await note_failure(self._target, failure, self._transcript, self._log)
            least = failure.pause_seconds if isinstance(failure, MailServerError) else 0.0
            wait = backoff.next_seconds(at_least=min(least, self._limits.retry_most_seconds))
            self._log.warning("sweep_ended", reason=str(failure), retry_seconds=round(wait, 1))
            await asyncio.sleep(wait)

    async def _try(self) -> InboxdError:
        try:
            while True:
                await self._hold_session()
        except InboxdError as error:
            return error
        # As in the supervisor: whatever goes wrong with one account must never end the others'.
        except Exception as error:  # noqa: BLE001
            self._log.exception("sweep_crashed")
            return MailServerError("internal", f"internal error ({type(error).__name__})")

    async def _hold_session(self) -> None:
        """Until the connection ends, or another one needs its place."""
        account = self._account()
        self._transcript.clear()
        note = self._transcript.append
        async with dial(account, self._settings, self._budgets, Purpose.SWEEP, note, self._tokens) as session:
            self._log.info("sweep_began", notify="NOTIFY" in session.capabilities)
            watch = Watch(session)
            named: set[str] | None = None
            vain, due_at = 0, 0.0
            while True:
                looked, stored = await self._go_over(session, watch, account, named)
                vain = 0 if stored else vain + 1
                if looked and vain <= _VAIN_ROUNDS:
                    continue  # what came to a mailbox while it was open was announced to nobody
                if named is None:
                    self._failure, self.complete_at = None, utc_now()
                    self._changed()
                    due_at = self._clock.time() + self._pause_seconds(watch)
                self._transcript.clear()
                vain = 0
                if session.left_seconds <= 0:
                    await session.log_out()
                    raise SessionSpent("login", "the session ends before its token does")
                left_seconds = min(due_at - self._clock.time(), session.left_seconds)
                named = (await watch.wait(left_seconds) or None) if left_seconds > 0 else None
                if await gives_way(session):
                    self._log.info("gave_way")
                    return

    def _pause_seconds(self, watch: Watch) -> float:
        """A server that announces is asked all the same, as often as an IDLE is renewed."""
        return max(self._limits.sweep_seconds, self._limits.idle_seconds if watch.announces else 0.0)

    async def _go_over(
        self, session: Session, watch: Watch, account: Account, named: set[str] | None
    ) -> tuple[bool, bool]:
        """Look at the mailboxes that have changed, among the named ones or all; whether at any, and for any mail."""
        looked = stored = False
        names = await self._names(watch, account) if named is None else dict.fromkeys(named & self._seen.keys())
        for name, counted in names.items():
            counts = counted or await self._counts(watch, name)
            if counts is not None and await self._differs(session, name, counts):
                looked = True
                stored |= await self._look(session, watch, account, name, counts, pushed=named is not None)
        return looked, stored

    async def _names(self, watch: Watch, account: Account) -> dict[str, Counts | None]:
        """The mailboxes to keep current, with how full they are as far as that came with their list."""
        folders, counts = await watch.survey()
        names = [name for name in chosen(folders, account.folders) if name != self._main]
        if await watch.subscribe(names):  # what came before that was announced to nobody
            _, counts = await watch.survey()
        for gone in (self._seen.keys() | self._refused.keys()).difference(names):
            self._seen.pop(gone, None)
            self._compared_until.pop(gone, None)
            self._refused.pop(gone, None)
            self._resting.discard(gone)
        return {name: counts.get(name) for name in names}

    async def _counts(self, watch: Watch, name: str) -> Counts | None:
        if not self._is_due(name):
            return None
        try:
            return await watch.status(name)
        except CommandRefused as error:
            await self._refuse(name, error)
            return None

    def _is_due(self, name: str) -> bool:
        refusal = self._refused.get(name)
        return refusal is None or refusal.again_at <= self._clock.time()

    async def _differs(self, session: Session, name: str, counts: Counts) -> bool:
        """Whether there may be something new; a mailbox not seen before is compared with how far it was read."""
        if name in self._refused:
            return self._is_due(name)
        if name not in self._seen and await self._is_read(name, counts):
            self._seen[name] = counts
        if self._compared_until.get(name, math.inf) <= self._clock.time():
            return True
        if name in self._resting and not rest_seconds(session):
            return True
        return self._seen.get(name) != counts or not (counts.uidnext and counts.uidvalidity)

    async def _is_read(self, name: str, counts: Counts) -> bool:
        cursor = await messages.cursor(self._target.store, self._target.connector_id, name)
        if cursor is None:
            return counts.messages == 0 and counts.uidvalidity > 0
        if cursor.backfill_below is not None or not counts.uidnext or (cursor.modseq or 0) < counts.modseq:
            return False
        if not counts.modseq:
            age_seconds = math.inf if cursor.compared_at is None else (utc_now() - cursor.compared_at).total_seconds()
            self._compared_until[name] = self._clock.time() + self._limits.compare_seconds - age_seconds
        return cursor.uidvalidity == counts.uidvalidity and cursor.last_uid >= counts.uidnext - 1

    async def _look(
        self, session: Session, watch: Watch, account: Account, name: str, counts: Counts, *, pushed: bool
    ) -> bool:
        """Bring the store up to date with a mailbox; whether there was new mail."""
        trigger = Trigger.START if name not in self._seen else Trigger.PUSH if pushed else Trigger.POLL
        try:
            async with self._locks(name):
                mailbox = await session.examine(name)
                run = await sync.begin(self._target, session, mailbox, trigger)
                follower = Follower(run, mailbox, self._limits, self._transcript, mirror=account.mirror)
                await sync.catch_up(run, terms=account.search_terms)
        except (CommandRefused, MailboxRefused) as error:
            metrics.SYNCS.labels(trigger.value, "failed").inc()
            await self._refuse(name, error)
            await watch.close()
            return False
        except BaseException:
            metrics.SYNCS.labels(trigger.value, "failed").inc()
            raise
        self._seen[name] = counts
        if self._refused.pop(name, None) is not None:
            self._log.info("mailbox_opens_again", mailbox=name)
        metrics.SYNCS.labels(trigger.value, "ok").inc()
        if run.stored:
            await sync.write_event(run, list(self._transcript))
            self._log.info("messages_stored", count=run.stored, trigger=trigger.value, mailbox=name)
        self._transcript.clear()
        async with self._locks(name):
            await follower.look(run)
        rests = run.load is not None and run.load.left > 0
        (self._resting.add if rests else self._resting.discard)(name)
        self._compared_until[name] = self._clock.time() + follower.rest_seconds
        await watch.close()
        return bool(run.stored)

    async def _refuse(self, name: str, error: MailServerError) -> None:
        known = self._refused.get(name)
        again_at = self._clock.time() + self._limits.retry_most_seconds
        self._refused[name] = _Refusal(f"{name} ({error})", again_at)
        if known is None:
            self._log.warning("mailbox_left_out", mailbox=name, reason=str(error))
            await note_failure(self._target, error, self._transcript, self._log, f"{name} is left out: ")
        self._transcript.clear()


async def followed(session: Session, account: Account) -> list[str]:
    """The mailboxes an account's connector reads, the one to listen to first.

    MailboxRefused when the account has none of those wanted.
    """
    if not account.folders:
        return [account.select_folder]
    names = chosen(await session.mailboxes(), account.folders)
    main = first_of(names, account.select_folder)
    if main is None:
        raise MailboxRefused("select", f"the account has none of the folders {', '.join(account.folders)}")
    return [main, *(name for name in names if name != main)]


async def note_failure(
    target: sync.Target,
    failure: InboxdError,
    transcript: deque[str],
    log: logs.Logger,
    about: str = "",
) -> None:
    """Keep a failure as an event of its connector; that it could not be kept is only logged."""
    status = EventStatus.CONNECTION_ERROR if isinstance(failure, MailServerError) else EventStatus.INTERNAL_ERROR
    event = Event(
        EventId(uuid4()),
        target.connector_id,
        EventType.SYNC,
        status,
        0,
        utc_now(),
        message=f"{about}{failure}",
        logs="\n".join(transcript),
    )
    try:
        await events.add_soon(target.store, event)
    except (StoreError, NotFound) as error:
        log.error("event_lost", reason=str(error))  # noqa: TRY400 - the reason says it all
