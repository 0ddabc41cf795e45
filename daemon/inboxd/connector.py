"""One connector's life: a session is opened, read, and listened to until it ends; then the loop decides what next.

A temporary error waits its back-off and tries again, for ever; a permanent one (password, missing mailbox) parks the
connector with its reason until a person changes something. Only a session that lived long resets the back-off.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, final

from inboxd import logs, metrics, providers, sync
from inboxd.accounts import open_account
from inboxd.ahead import ahead_of
from inboxd.backoff import Backoff
from inboxd.budgets import Budgets, Purpose
from inboxd.dial import dial
from inboxd.errors import CommandRefused, InboxdError, MailServerError, NeedsReauth, SessionSpent, Throttled
from inboxd.following import Follower
from inboxd.imap.places import gives_way, rest_seconds
from inboxd.imap.session import Session
from inboxd.model import (
    Account,
    Connection,
    Connector,
    Progress,
    State,
    Status,
    SyncSettings,
    Trigger,
    utc_now,
)
from inboxd.quota import Quota, rest_words
from inboxd.renewal import end_by_plan
from inboxd.settings import Settings
from inboxd.sweep import Sweep, followed, note_failure
from inboxd.tokens import Tokens
from inboxd.vault import Vault

LOG_LINES: Final = 60
_KEPT_STATES: Final = 20
_BRIEF_IDLE_SECONDS: Final = 1.0
_VAIN_LOOKS: Final = 3  # in a row, each for a push that brought nothing, before a pause


@final
class Supervisor:
    """Keeps one connector's IMAP session open. `status` is what it is doing now; `run` ends when it parks.

    `history` are its last changes of state, syncs apart; `listeners` hear the masked protocol line by line.
    """

    def __init__(
        self,
        connector: Connector,
        connection: Connection,
        interval: SyncSettings,
        target: sync.Target,
        settings: Settings,
        vault: Vault,
        budgets: Budgets,
        locks: Callable[[str], asyncio.Lock],
        tokens: Tokens | None = None,
    ) -> None:
        self.status = Status(State.OFF, utc_now())
        self._label = str(connector.id)
        self._connection = connection
        self._target = target
        self._settings = settings
        self._limits = settings.imap
        self._vault = vault
        self._budgets = budgets
        self._locks = locks
        self._idle_seconds = providers.longest_idle_seconds(connection.host)
        self._tokens = tokens
        self._interval_seconds = 60.0 * (interval.interval_minutes or 60)
        self._transcript: deque[str] = deque(maxlen=LOG_LINES)
        self.history: deque[Status] = deque(maxlen=_KEPT_STATES)
        self.listeners: set[Callable[[str], None]] = set()
        self._session: Session | None = None
        self._opened_at: float | None = None
        self._read_at: datetime | None = None
        self._group: asyncio.TaskGroup | None = None
        self._hurried = True  # until a server could not take it
        most = self._limits.retry_most_seconds
        self._throttling = Backoff(min(Throttled.pause_seconds, most), most)
        self._load_rests = False
        self._sweep: Sweep | None = None
        if connection.folders:
            self._sweep = Sweep(target, settings, budgets, locks, self._account, self._note_complete, tokens)
        self._log = logs.logger("connector").bind(connector=self._label, name=connector.name)
        metrics.CONNECTORS.labels(State.OFF.value).inc()
        metrics.CONNECTOR_UP.labels(self._label).set(0)
        metrics.BACKFILL_REMAINING.labels(self._label).set(0)
        metrics.LAST_ACTIVITY.labels(self._label).set_function(self._last_activity)
        self._quota = Quota(budgets, connection, self._label, self._rests)

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the connector parks; cancellation closes the session and leaves the state OFF."""
        backoff = Backoff(self._limits.retry_first_seconds, self._limits.retry_most_seconds)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                beside = group.create_task(self._sweep.run()) if self._sweep is not None else None
                while await self._live_once(backoff):
                    pass
                if beside is not None:
                    beside.cancel()
        finally:
            if self.status.state not in (State.PARKED, State.NEEDS_REAUTH):
                self._enter(State.OFF)
            metrics.CONNECTOR_UP.labels(self._label).set(0)

    async def _live_once(self, backoff: Backoff) -> bool:
        self._opened_at = None
        try:
            await self._hold_session()
        except InboxdError as error:
            failure = error
        except asyncio.CancelledError:
            metrics.DISCONNECTS.labels("stopped").inc()
            raise
        # One of three broad catches: whatever goes wrong with one account must never end the others' supervisors.
        except Exception as error:  # noqa: BLE001
            self._log.exception("session_crashed")
            failure = MailServerError("internal", f"internal error ({type(error).__name__})")
        else:
            return True
        now = asyncio.get_running_loop().time()
        if self._opened_at is not None and now - self._opened_at >= self._limits.stable_seconds:
            backoff.reset()
            self._throttling.reset()
        if isinstance(failure, SessionSpent):
            metrics.DISCONNECTS.labels(failure.reason).inc()
            self._log.debug("session_renewed")
            return True
        return await self._decide(failure, backoff)

    async def _decide(self, failure: InboxdError, backoff: Backoff) -> bool:
        """Wait and go on (True), or park (False)."""
        reason = failure.reason if isinstance(failure, MailServerError) else "error"
        metrics.DISCONNECTS.labels(reason).inc()
        metrics.CONNECTOR_UP.labels(self._label).set(0)
        if isinstance(failure, MailServerError) and failure.reply:
            self.status = replace(self.status, last_activity_at=utc_now())
        failures = backoff.failures + self._throttling.failures + 1
        metrics.FAILURES.labels(self._label).set(failures)
        if failures == 1 and not isinstance(failure, NeedsReauth):  # whose event is the grant's
            await note_failure(self._target, failure, self._transcript, self._log)
        if not failure.retry:
            metrics.CONNECTOR_PARKED.labels(self._label, reason).set(1)
            state = State.NEEDS_REAUTH if isinstance(failure, NeedsReauth) else State.PARKED
            self._enter(state, str(failure))
            self._log.error("connector_parked", reason=str(failure))
            return False
        state = State.THROTTLED if isinstance(failure, Throttled) else State.WAITING
        used = self._throttling if state is State.THROTTLED else backoff
        wait = used.next_seconds(at_least=self._least_seconds(failure))
        self._enter(state, str(failure), failures=failures, wait_seconds=wait)
        self._log.warning("session_ended", reason=str(failure), retry_seconds=round(wait, 1))
        await asyncio.sleep(wait)
        return True

    def _least_seconds(self, failure: InboxdError) -> float:
        """What the server asks for is kept to, however long the settings would wait at most."""
        if isinstance(failure, Throttled) and failure.hint_seconds is not None:
            return failure.hint_seconds
        least = failure.pause_seconds if isinstance(failure, MailServerError) else 0.0
        return min(least, self._limits.retry_most_seconds)

    # --- one session --------------------------------------------------------------------------------------------------

    async def _hold_session(self) -> None:
        account = self._account()
        self._transcript.clear()
        self._enter(State.CONNECTING)
        async with dial(account, self._settings, self._budgets, Purpose.LISTEN, self._note, self._tokens) as session:
            self._session, self._opened_at = session, asyncio.get_running_loop().time()
            try:
                await self._read(session, account)
            finally:
                self._hurried = self._hurried and not session.outran_done
                self._last_activity()
                self._session = None

    def _account(self) -> Account:
        return open_account(self._vault, self._connection)

    async def _read(self, session: Session, account: Account) -> None:
        """Until the connection ends, or another one needs its place."""
        main, *_ = await followed(session, account)
        mailbox = await session.examine(main)
        if self._sweep is not None:
            self._sweep.begin(mailbox.name)
        metrics.CONNECTOR_UP.labels(self._label).set(1)
        self._log.info("session_opened", mailbox=mailbox.name, messages=mailbox.exists, tls=session.tls)
        seen, arrivals = session.pushes, session.arrivals
        self._enter(State.SYNCING)
        run = await sync.begin(self._target, session, mailbox, Trigger.START, report=self._report)
        follower = Follower(run, mailbox, self._limits, self._transcript, mirror=account.mirror)
        await self._look(run, account)
        await self._follow(follower, run)
        metrics.FAILURES.labels(self._label).set(0)
        idles = "IDLE" in session.capabilities
        vain_looks = 0
        while True:
            pushed_at: float | None = session.pushed_at
            if session.pushes == seen:
                pushed_at, idles = await self._listen(session, seen, follower, idles=idles)
                if await gives_way(session):
                    self._log.info("gave_way")
                    metrics.CONNECTOR_UP.labels(self._label).set(0)
                    return
            grew = session.arrivals != arrivals
            seen, arrivals = session.pushes, session.arrivals
            run = run.again(Trigger.PUSH if grew else Trigger.POLL, pushed_at)
            loads = run.load is not None
            await self._look(run, account)
            if run.stored and not loads and idles and pushed_at is None and session.pushes == seen:
                metrics.MISSED_PUSHES.inc()
                self._log.warning("push_missed", messages=run.stored)
            await self._follow(follower, run)
            if self._tokens is not None and session.left_seconds <= 0:
                await end_by_plan(self._tokens, session, account)
            vain_looks = 0 if run.stored or pushed_at is None else vain_looks + 1
            await self._pause(vain_looks)

    async def _follow(self, follower: Follower, run: sync.Pass) -> None:
        async with self._locks(run.place.mailbox):
            await follower.look(run)

    async def _listen(
        self, session: Session, seen: int, follower: Follower, *, idles: bool
    ) -> tuple[float | None, bool]:
        """Wait for a push, a change or the deadline; also whether the server still lets us IDLE."""
        if idles:
            self._enter(State.IDLE)
            jitter = random.uniform(-1, 1) * self._limits.idle_jitter_seconds  # noqa: S311
            most = min(self._limits.idle_seconds + jitter, self._interval_seconds, self._idle_seconds)
            rest = rest_seconds(session) if self._load_rests else math.inf
            longest = min(most, follower.rest_seconds, session.left_seconds, rest)
            clock = asyncio.get_running_loop()
            brief = clock.time() + min(_BRIEF_IDLE_SECONDS, longest / 2)
            try:
                pushed_at = await session.idle(
                    max(longest, 0.05),
                    seen,
                    seen_changes=follower.noted,
                    settle_seconds=follower.pause_seconds,
                    hurried=self._hurried,
                )
            except CommandRefused as error:
                self._log.warning("idle_refused", reason=error.reply)
            else:
                if pushed_at is not None or session.changes != follower.noted or clock.time() >= brief:
                    return pushed_at, True
                self._log.warning("idle_ended_at_once")
        self._enter(State.POLLING)
        pause = min(self._limits.poll_seconds, self._interval_seconds, max(session.left_seconds, 0.05))
        return await session.rest(pause, seen), False

    async def _pause(self, vain_looks: int) -> None:
        """Some servers say EXISTS with every answer: where that never brings anything, they are polled, ever slower."""
        if vain_looks > _VAIN_LOOKS:
            self._enter(State.POLLING)
            await asyncio.sleep(min(0.1 * 2.0 ** min(vain_looks - _VAIN_LOOKS, 16), self._limits.poll_seconds))

    async def _look(self, run: sync.Pass, account: Account) -> None:
        """One pass; the messages it stored are committed and announced when this returns."""
        async with self._locks(run.place.mailbox):
            try:
                new_alone = run.load is None and not account.search_terms
                if run.trigger is Trigger.PUSH and new_alone and run.place.uidvalidity:
                    await sync.take_pushed(run)
                else:
                    await sync.catch_up(
                        run, terms=account.search_terms, told=self._tell_on_the_way, beside=self._beside(account)
                    )
            except BaseException:
                metrics.SYNCS.labels(run.trigger.value, "failed").inc()
                raise
        await self._finish(run)

    def _beside(self, account: Account) -> sync.Beside | None:
        """What listens during a first load, if the connector may have one more connection."""
        most = self._budgets.of(account.host, account.username).connections
        if self._group is None or most <= 1 + (self._sweep is not None):
            return None
        return partial(
            ahead_of,
            account=account,
            settings=self._settings,
            budgets=self._budgets,
            group=self._group,
            tokens=self._tokens,
            told=self._tell,
        )

    async def _tell_on_the_way(self, run: sync.Pass) -> None:
        await self._tell(run, self._transcript)

    async def _tell(self, run: sync.Pass, transcript: deque[str]) -> None:
        """What arrived while the first load goes on."""
        metrics.SYNCS.labels(run.trigger.value, "ok").inc()
        if run.stored:
            await sync.write_event(run, list(transcript))
            self._log.info("messages_stored", count=run.stored, trigger=run.trigger.value)

    async def _finish(self, run: sync.Pass) -> None:
        now = self._read_at = utc_now()
        self._load_rests = run.load is not None and run.load.left > 0
        metrics.SYNCS.labels(run.trigger.value, "ok").inc()
        metrics.BACKFILL_REMAINING.labels(self._label).set(run.backfill_remaining)
        self.status = replace(self.status, last_activity_at=now, progress=None)
        self._note_complete()
        if run.stored:
            await sync.write_event(run, list(self._transcript))
            self._log.info("messages_stored", count=run.stored, trigger=run.trigger.value)
        self._transcript.clear()

    # --- what others see ----------------------------------------------------------------------------------------------

    def _report(self, progress: Progress) -> None:
        self.status = replace(self.status, progress=progress)
        if progress.backfill:
            metrics.BACKFILL_REMAINING.labels(self._label).set(progress.total - progress.done)

    def _enter(self, state: State, reason: str | None = None, *, failures: int = 0, wait_seconds: float = 0.0) -> None:
        now = utc_now()
        metrics.CONNECTORS.labels(self.status.state.value).dec()
        metrics.CONNECTORS.labels(state.value).inc()
        self.status = replace(
            self.status,
            state=state,
            since=now,
            reason=reason,
            failures=failures,
            retry_at=now + timedelta(seconds=wait_seconds) if wait_seconds else None,
            progress=self.status.progress if state is State.SYNCING else None,
        )
        if state is not State.SYNCING and (not self.history or self.history[-1].state is not state):
            self.history.append(self.status)

    def current(self) -> Status:
        """The status, with the server's last sign of life as of now, and what is wrong with the other mailboxes."""
        self._last_activity()
        budget = self._quota.now()
        rests = rest_words(budget) if budget is not None else None
        trouble = self._sweep.trouble if self._sweep is not None else None
        reason = self.status.reason or "; ".join(words for words in (rests, trouble) if words) or None
        return replace(self.status, reason=reason, budget=budget)

    def _rests(self) -> bool:
        return self._load_rests or (self._sweep is not None and self._sweep.rests)

    @property
    def delays(self) -> tuple[float, ...]:
        """The last seconds from a push to its mail being committed, the newest last."""
        return tuple(self._target.delays)

    def leave(self) -> Status:
        """Take this supervisor out of the metrics; it will not run again. What remains known of its connector."""
        metrics.CONNECTORS.labels(self.status.state.value).dec()
        metrics.forget(self._label)
        last = self.current()
        return Status(State.OFF, utc_now(), last_sync_at=last.last_sync_at, last_activity_at=last.last_activity_at)

    def _note_complete(self) -> None:
        """The connector is as current as the mailbox that was looked at longest ago."""
        moments = [self._read_at]
        if self._sweep is not None:
            moments.append(self._sweep.complete_at)
            metrics.LEFT_OUT.labels(self._label).set(self._sweep.left_out)
        known = [moment for moment in moments if moment is not None]
        if len(known) == len(moments):
            metrics.LAST_SYNC.labels(self._label).set(min(known).timestamp())
            self.status = replace(self.status, last_sync_at=min(known))

    def _note(self, line: str) -> None:
        self._transcript.append(line)
        for listener in tuple(self.listeners):
            listener(line)

    def _last_activity(self) -> float:
        if self._session is not None:
            ago = asyncio.get_running_loop().time() - self._session.last_received
            moment = utc_now() - timedelta(seconds=ago)
            self.status = replace(self.status, last_activity_at=moment)
        seen = self.status.last_activity_at
        return seen.timestamp() if seen is not None else 0.0
