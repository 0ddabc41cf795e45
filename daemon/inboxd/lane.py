"""One route's mails: claimed a few at a time, handed over on a connection that is kept, and settled in the store."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, final

from inboxd import logs, metrics, verdicts
from inboxd.allowance import Allowance
from inboxd.backoff import Backoff
from inboxd.dial import dial_smtp
from inboxd.errors import (
    AuthRefused,
    ConnectionLost,
    Invalid,
    MailServerError,
    NotFound,
    SecretUnreadable,
    SendDeferred,
    SendRefused,
    Stalled,
    StoreError,
    Throttled,
)
from inboxd.handover import Journal
from inboxd.model import Account, SentState, utc_now
from inboxd.outbox import RELAY, WORK, Job, Refusal, RouteId, Try, Verdict
from inboxd.providers import habits
from inboxd.services import Services
from inboxd.smtp.session import Receipt, Session
from inboxd.store import outbox
from inboxd.verdicts import Choices

_CLAIM_SECONDS: Final = 0.2  # of mails are claimed at a time, as fast as they went last
_FIRST_SECONDS: Final = 0.02  # what a mail is taken to need before one was sent
_MOST_CLAIMED: Final = 128
_AHEAD: Final = 3  # the next ones are claimed when a third of them is left
_MOST_BYTES: Final = 4 << 20
_SETTLE_SECONDS: Final = 0.08  # between two commits of verdicts, while there is more to send
_STORE_AGAIN_SECONDS: Final = 1.0
_LOGIN_AGAIN_SECONDS: Final = 600.0  # servers lock accounts after a few refused logins
_LOSSES: Final = 3  # connections lost in a row, before a route rests
_LINES: Final = 200
_LOST: Final = "the whole mail was handed over, then inboxd ended before the answer came"
_log = logs.logger("outbox")


@final
class Route:
    """What is known of a route: how fast its server is, how many mails may go, and until when it rests, and why."""

    def __init__(self, id: RouteId, backoff: Backoff) -> None:
        self.id = id
        self.lanes = 0
        self.account: Account | None = None
        self.allowance: Allowance | None = None
        self.seconds_a_mail = _FIRST_SECONDS
        self.rests_until: datetime | None = None
        self.failure: tuple[MailServerError, Try] | None = None
        self._backoff = backoff
        self._losses = 0

    def rest(self, error: MailServerError, tried: Try) -> datetime:
        """No mail goes this way for a while, longer each time; until when."""
        least = _LOGIN_AGAIN_SECONDS if isinstance(error, AuthRefused) else error.pause_seconds
        least = min(least, self._backoff.most_seconds)
        self.rests_until = tried.ended_at + timedelta(seconds=self._backoff.next_seconds(at_least=least))
        self.failure = (error, tried)
        return self.rests_until

    def lose(self) -> bool:
        """A connection was lost with a mail half handed over; whether it is time to rest."""
        self._losses += 1
        return self._losses >= _LOSSES

    def recover(self) -> None:
        """A mail was taken or refused, or the account is another now."""
        if self.rests_until is not None or self._losses:
            self._backoff.reset()
            self._losses = 0
            self.rests_until = self.failure = None

    def is_resting(self, now: datetime) -> bool:
        """Whether nothing is to be tried now."""
        return self.rests_until is not None and self.rests_until > now

    def note_pace(self, seconds: float) -> None:
        """How long a mail took."""
        self.seconds_a_mail += 0.5 * (seconds - self.seconds_a_mail)


@final
class Lane:
    """Sends what is due for a route, until nothing is, the route rests, or `stop` was called."""

    def __init__(
        self, services: Services, route: Route, account: Account, journal: Journal, address: str | None
    ) -> None:
        self._services = services
        self._settings = services.settings.outbox
        self._route = route
        self._account = account
        self._journal = journal
        self._address = address
        self._stopping = self._over = False
        self._jobs: deque[Job] = deque()
        self._claiming: asyncio.Task[None] | None = None
        self._verdicts: list[Verdict] = []
        self._fresh, self._idle = asyncio.Event(), asyncio.Event()
        self._transcript: deque[str] = deque(maxlen=_LINES)

    def stop(self) -> None:
        """Finish the mail that is on its way and send no other."""
        self._stopping = True

    async def run(self) -> None:
        """Until there is nothing to do. Cancelled, it leaves the mail on its way as unknown if it was handed over."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write())
                await self._send_all(group)
                self._over = True
                self._tell_writer()
        except asyncio.CancelledError:
            self._stopping = True
            raise
        finally:
            self._release()
            with suppress(StoreError):
                await self._settle()  # nothing is added any more

    async def _send_all(self, group: asyncio.TaskGroup) -> None:
        await self._claim()
        while self._jobs and not self._stopping and not self._route.is_resting(utc_now()):
            await self._connect_and_send(group)

    async def _write(self) -> None:
        """Settle what is done while the next mails are sent: some at a time, at once when there is nothing to send."""
        while not self._over or self._verdicts:
            await self._fresh.wait()
            self._fresh.clear()
            await self._settle()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_SECONDS):
                    await self._idle.wait()

    def _tell_writer(self) -> None:
        self._idle.set()
        self._fresh.set()

    async def _connect_and_send(self, group: asyncio.TaskGroup) -> None:
        began = utc_now()
        self._transcript.clear()
        async with AsyncExitStack() as stack:
            try:
                session = await stack.enter_async_context(self._connected())
            except MailServerError as error:
                self._rest(error, began)
                return
            await self._use(session, group)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Session]:
        opening = partial(dial_smtp, settings=self._services.settings, trace=self._transcript.append)
        async with AsyncExitStack() as stack:
            if (tokens := self._services.tokens) is None:
                yield await stack.enter_async_context(opening(self._account))
                return
            try:
                session = await tokens.enter(stack, self._account, opening)
            except (StoreError, SecretUnreadable, NotFound) as error:
                raise MailServerError("token", str(error)) from error
            yield session

    async def _use(self, session: Session, group: asyncio.TaskGroup) -> None:
        """Send on this connection while it stands and there is something to send."""
        fresh = True
        while self._jobs and session.usable and not self._stopping:
            job = self._jobs.popleft()
            began = utc_now()
            error = await self._carry(session, job, began, fresh=fresh)
            if error is not None and not fresh and _is_stale(error):
                self._jobs.appendleft(job)
                return
            fresh = False
            if isinstance(error, ConnectionLost | Stalled) and self._route.lose():
                self._rest(error, began)
                return
            if len(self._jobs) == self._most() // _AHEAD and self._claiming is None:
                self._claiming = group.create_task(self._claim())
            if not self._jobs:
                await self._refill(linger=session.usable)

    # --- one mail -----------------------------------------------------------------------------------------------------

    async def _carry(self, session: Session, job: Job, began: datetime, *, fresh: bool) -> MailServerError | None:
        """Hand one mail over and keep the verdict on it; what went wrong. A stale connection leaves no verdict."""
        clock = time.perf_counter()
        choices = self._choices(job)
        lost: Verdict | None = None
        failure: MailServerError | None = None

        def handing_over(refused: Mapping[str, Refusal]) -> None:
            nonlocal lost
            lost = verdicts.lost(job, self._tried(began, "data", "SendUnknown", _LOST), refused, choices)
            self._journal.note(lost)

        try:
            receipt = await session.send(job.sender, job.recipients, job.raw, dsn=job.dsn, handing_over=handing_over)
            verdict = verdicts.taken(job, self._tried(began, "data", "", _words(receipt)), receipt.refused, choices)
        except MailServerError as error:
            failure = error
            if not fresh and _is_stale(error):
                return failure
            if isinstance(error, SendDeferred | SendRefused):
                self._route.recover()
            verdict = verdicts.failed(job, error, self._tried_of(began, error), choices)
        except Invalid as error:  # an address that this version takes for none, accepted by another
            failure = SendRefused("mail", str(error))
            verdict = verdicts.failed(job, failure, self._tried_of(began, failure), choices)
        except asyncio.CancelledError:
            self._keep(lost or self._untouched(job), lost)
            raise
        # One of three broad catches: a mail that no code was ready for must not end the sending of all others.
        except Exception as error:  # noqa: BLE001
            _log.exception("send_crashed", sent=str(job.id))
            failure = MailServerError("internal", f"internal error ({type(error).__name__})")
            verdict = lost or verdicts.failed(job, failure, self._tried_of(began, failure), choices)
        else:
            self._route.recover()
        self._keep(verdict, lost)
        self._route.note_pace(time.perf_counter() - clock)
        return failure

    def _untouched(self, job: Job) -> Verdict:
        return verdicts.untouched(job, self._tried(utc_now(), "", "", ""), job.created_at)

    def _keep(self, verdict: Verdict, lost: Verdict | None) -> None:
        """Note it in the journal where the mail may be gone; it is settled with the next ones."""
        if lost is not None and verdict is not lost:
            with suppress(OSError):  # the journal says "unknown", then, which is true as well
                self._journal.note(verdict)
        self._verdicts.append(replace(verdict, logs="\n".join(self._transcript)))
        self._transcript.clear()
        self._fresh.set()

    def _choices(self, job: Job) -> Choices:
        settings, now = self._settings, utc_now()
        backoff = Backoff(settings.retry_first_seconds, settings.retry_most_seconds)
        backoff.failures = job.attempts
        files_copy = job.route != RELAY and habits(self._account.host, self._address).files_copy
        return Choices(
            due_at=now + timedelta(seconds=backoff.next_seconds()),
            relay=bool(self._services.settings.relay.host),
            copy=settings.sent_copy == "always" or (settings.sent_copy == "auto" and not files_copy),
            chores_due_at=now + timedelta(seconds=settings.copy_delay_seconds),
        )

    def _tried(self, began: datetime, stage: str, kind: str, reply: str) -> Try:
        return Try(began, utc_now(), self._account.host, stage, kind, reply)

    def _tried_of(self, began: datetime, error: MailServerError) -> Try:
        return self._tried(began, error.stage, type(error).__name__, str(error))

    # --- claims, verdicts, rests --------------------------------------------------------------------------------------

    def _most(self) -> int:
        """As many mails as go in a fifth of a second, and leave some to the route's other connections."""
        most = min(_MOST_CLAIMED, int(_CLAIM_SECONDS / max(self._route.seconds_a_mail, 1e-6)))
        return max(1, most // self._settings.connections)

    async def _claim(self) -> None:
        """Take what is due, as far as it may go now. Not to be cancelled but with the lane: what it took would be lost
        to this run, which gives it back at its end.
        """
        now, most = utc_now(), self._most()
        allowance = self._route.allowance
        if allowance is not None:
            most, _ = allowance.free(now, most)
        if self._stopping or most == 0:
            return
        try:
            jobs = await outbox.claim(
                self._services.store,
                self._journal.owner,
                self._route.id,
                now,
                most_count=most,
                most_bytes=_MOST_BYTES,
                lease_until=now + timedelta(seconds=self._settings.lease_seconds),
            )
        except StoreError as error:  # the sender looks again soon
            _log.error("outbox_unreadable", route=str(self._route.id), reason=str(error))
            return
        if allowance is not None:
            allowance.spend(now, len(jobs))
        self._jobs.extend(jobs)

    async def _refill(self, *, linger: bool) -> None:
        """What is due next; an open connection is kept for a while in case something comes."""
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
            self._claiming = None
        if self._jobs:
            return
        self._tell_writer()
        deadline = asyncio.get_running_loop().time() + self._services.settings.smtp.reuse_seconds
        with self._services.sends.subscribe(self._route.id) as hint, suppress(TimeoutError):
            await self._claim()
            while not self._jobs and linger and not self._stopping:
                async with asyncio.timeout_at(deadline):
                    await hint.wait()
                await self._claim()
        self._idle.clear()

    def _rest(self, error: MailServerError, began: datetime) -> None:
        """The way itself is closed: the first mail, and those that may take another way, have had their try."""
        tried = self._tried_of(began, error)
        until = self._route.rest(error, tried)
        _log.warning("route_rests", route=str(self._route.id), stage=error.stage, reason=str(error), until=until)
        relays = bool(self._services.settings.relay.host)
        for number, job in enumerate(tuple(self._jobs)):
            if number == 0 or (job.use_fallback and relays):
                self._jobs.remove(job)
                choices = Choices(until, relay=relays, closed=True)
                self._keep(verdicts.failed(job, error, tried, choices), None)
        self._release()

    def _release(self) -> None:
        self._verdicts += [self._untouched(job) for job in self._jobs]
        self._jobs.clear()
        self._fresh.set()

    async def _settle(self) -> None:
        """Into the store with the verdicts of now, however long that takes: the journal holds what must not be lost."""
        batch = list(self._verdicts)
        while batch:
            try:
                settled = await outbox.settle(self._services.store, self._journal.owner, batch)
            except StoreError as error:
                if self._stopping:
                    raise
                _log.error("verdicts_unwritten", mails=len(batch), reason=str(error))
                await asyncio.sleep(_STORE_AGAIN_SECONDS)
                continue
            break
        else:
            return
        del self._verdicts[: len(batch)]
        self._journal.forget([verdict.id for verdict in batch])
        for verdict in batch:
            tell(verdict, self._services.sends.publish)
        if missing := len(batch) - len(settled):
            _log.warning("verdicts_too_late", mails=missing)


def tell(verdict: Verdict, publish: Callable[..., None]) -> None:
    """Count and announce what the store has committed."""
    publish(verdict.id)
    if verdict.due_at is not None or verdict.chores:
        publish(WORK)
    tried, state = verdict.tried, verdict.state
    if state is SentState.QUEUED and verdict.route is None:
        return
    metrics.SEND_ATTEMPTS.labels(state.value).inc()
    metrics.SEND_SECONDS.observe((tried.ended_at - tried.began_at).total_seconds())
    if state.value in metrics.SEND_OUTCOMES:
        metrics.SENDS.labels(state.value).inc()
    note = _log.info if state is SentState.SENT else _log.warning
    note("send_tried", sent=str(verdict.id), state=state.value, stage=tried.stage, reply=tried.reply)


def _is_stale(error: MailServerError) -> bool:
    """Whether a kept connection had died before the mail began: it goes out on a new one at once."""
    return error.stage == "mail" and isinstance(error, ConnectionLost | Stalled | Throttled)


def _words(receipt: Receipt) -> str:
    refused = "; ".join(f"{address}: {refusal.words}" for address, refusal in receipt.refused.items())
    return f"{receipt.reply} (refused: {refused})" if refused else receipt.reply
