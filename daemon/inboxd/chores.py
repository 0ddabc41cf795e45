"""What is done over IMAP after a send: the copy filed, a mail of unknown outcome looked for, \\Answered set.

A chore stays in the store until it was done, or given up because of its age: whatever ends the daemon in between, it is
done then. Each begins by looking, so that doing it twice changes nothing. None of them changes whether a mail was sent,
but the search for one of which nobody knows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, final

from inboxd import flags, logs, metrics
from inboxd.accounts import account_of
from inboxd.backoff import Backoff
from inboxd.budgets import Purpose
from inboxd.bus import Hint
from inboxd.dial import dial
from inboxd.errors import (
    CommandRefused,
    Conflict,
    Invalid,
    MailboxRefused,
    MailServerError,
    NotFound,
    SecretUnreadable,
    StoreError,
)
from inboxd.imap.folders import Folder, find_all_mail, find_sent
from inboxd.imap.session import Session
from inboxd.mails import Place
from inboxd.model import Account, ConnectorId, Kind, utc_now
from inboxd.outbox import WORK, Chore, Task
from inboxd.services import Services
from inboxd.store import chores, messages, sent

# Without a hint; what is due later than that is looked for when it is due.
_LOOK_SECONDS: Final = 5.0
_TAKEN_AT_ONCE: Final = 100
# A session waits a little for the chores of the next mails: providers count logins.
_LINGER_SECONDS: Final = 5.0
_LINGER_LOOK_SECONDS: Final = 1.0
_RETRY_FIRST_SECONDS: Final = 5.0
_RETRY_MOST_SECONDS: Final = 3600.0
# Between looks for a mail of unknown outcome; the last one over and over.
_RESOLVE_AFTER_SECONDS: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
_log = logs.logger("chores")


async def run(services: Services) -> None:
    """Do what is due, for ever: a lane for each connector, so that a broken one delays no other."""
    with services.sends.subscribe(WORK) as hint:
        async with asyncio.TaskGroup() as group:
            await _Chores(services, group, hint).run()


@final
class _Lane:
    """One connector's chores. After a failure of its server it rests, longer each time."""

    def __init__(self) -> None:
        self.busy = False
        self.trouble = ""
        self.rests_until: datetime | None = None
        self._backoff = Backoff(_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS)

    def rest(self, trouble: str, at_least_seconds: float = 0.0) -> datetime:
        """Its server failed in these words; until when it rests."""
        self.trouble = trouble
        self.rests_until = utc_now() + timedelta(seconds=self._backoff.next_seconds(at_least=at_least_seconds))
        return self.rests_until

    def recover(self) -> None:
        """Its server did as it was asked."""
        self._backoff.reset()
        self.rests_until = None

    @property
    def resting(self) -> bool:
        """Whether it rests now."""
        return self.rests_until is not None and utc_now() < self.rests_until


@final
class _Chores:
    """Starts a lane for each connector that something is due for."""

    def __init__(self, services: Services, group: asyncio.TaskGroup, hint: Hint) -> None:
        self._services = services
        self._store = services.store
        self._group = group
        self._hint = hint
        self._lanes: dict[ConnectorId, _Lane] = {}

    async def run(self) -> None:
        """Look, and look again at every hint, when something is due, and every few seconds; for ever."""
        while True:
            pause = _LOOK_SECONDS
            try:
                pause = self._begin(await chores.due(self._store, utc_now()))
            except StoreError as error:
                _log.error("chores_unreadable", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hint.wait()

    def _begin(self, waiting: list[tuple[ConnectorId, datetime]]) -> float:
        """Start the lanes that have something to do; the seconds until another has."""
        there = {connector_id for connector_id, _ in waiting}
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.busy or key in there}
        now, pause = utc_now(), _LOOK_SECONDS
        for connector_id, due_at in waiting:
            lane = self._lanes.setdefault(connector_id, _Lane())
            seconds = (due_at - now).total_seconds()
            if seconds > 0:
                pause = min(pause, seconds)
            elif not lane.busy:
                lane.busy = True
                self._group.create_task(self._drain(connector_id, lane))
        return pause

    async def _drain(self, connector_id: ConnectorId, lane: _Lane) -> None:
        """Do, or put off, what is due for one connector, until nothing is."""
        try:
            while tasks := await self._due(connector_id):
                await self._work(connector_id, lane, tasks)
        except StoreError as error:
            _log.error("chores_unsettled", connector=str(connector_id), reason=str(error))
            await asyncio.sleep(_LOOK_SECONDS)
        finally:
            lane.busy = False
            self._hint.ring()

    async def _due(self, connector_id: ConnectorId) -> list[Task]:
        return await chores.take(self._store, connector_id, utc_now(), _TAKEN_AT_ONCE)

    async def _work(self, connector_id: ConnectorId, lane: _Lane, tasks: Sequence[Task]) -> None:
        """Leave none of these tasks due."""
        if lane.resting:
            await self._put_off(tasks, lane.trouble, lane.rests_until)
            return
        try:
            account = await account_of(self._store, self._services.vault, connector_id, Kind.IMAP)
        except (Conflict, NotFound) as error:
            for task in tasks:
                await _end_without_imap(self._services, task, f"no IMAP connection: {error}")
        except SecretUnreadable as error:
            await self._put_off(tasks, str(error), lane.rest(str(error)))
        else:
            await self._do(account, lane, tasks)

    async def _do(self, account: Account, lane: _Lane, tasks: Sequence[Task]) -> None:
        """All that is due in one session; what is left when that fails is put off."""
        left = deque(tasks)
        try:
            async with dial(
                account,
                self._services.settings,
                self._services.budgets,
                Purpose.CHORE,
                tokens=self._services.tokens,
            ) as session:
                errand = _Errand(self._services, account, session)
                while left:
                    await errand.do(left[0])
                    left.popleft()
                    lane.recover()
                    left.extend([] if left else await self._more(errand.connector_id))
                await session.log_out()
            return
        except StoreError:
            raise
        except MailServerError as error:
            trouble, pause_seconds = str(error), error.pause_seconds
        # A server whose answers no code was ready for must not end the chores of all others.
        except Exception as error:  # noqa: BLE001
            trouble, pause_seconds = f"internal error ({type(error).__name__})", 0.0
            _log.exception("chore_crashed", connector=str(account.connector_id))
        _log.warning("chores_put_off", connector=str(account.connector_id), left=len(left), reason=trouble)
        await self._put_off(left, trouble, lane.rest(trouble, pause_seconds))

    async def _more(self, connector_id: ConnectorId) -> list[Task]:
        """What else is due by now or within a few seconds."""
        end = time.monotonic() + _LINGER_SECONDS
        with self._services.sends.subscribe(WORK) as hint:
            while not (tasks := await self._due(connector_id)) and time.monotonic() < end:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_LOOK_SECONDS):
                        await hint.wait()
        return tasks

    async def _put_off(self, tasks: Sequence[Task], words: str, until: datetime | None) -> None:
        for task in tasks:
            await _put_off(self._services, task, words, until)


@final
class _Errand:
    """One session's chores."""

    def __init__(self, services: Services, account: Account, session: Session) -> None:
        self._services = services
        self._store = services.store
        self._account = account
        self._session = session
        self._folders: list[Folder] | None = None
        self._kinds = {Chore.FILE: self._file, Chore.RESOLVE: self._resolve, Chore.ANSWER: self._answer}

    @property
    def connector_id(self) -> ConnectorId:
        """Whose chores they are."""
        assert self._account.connector_id is not None
        return self._account.connector_id

    async def do(self, task: Task) -> None:
        """Do it, or put it off when the server refuses; MailServerError when the session is of no more use."""
        try:
            await self._kinds[task.chore](task)
        except (CommandRefused, MailboxRefused, Invalid) as error:
            await _put_off(self._services, task, str(error))

    async def _mailboxes(self) -> list[Folder]:
        if self._folders is None:
            self._folders = await self._session.mailboxes()
        return self._folders

    async def _holds(self, mailbox: str, task: Task) -> bool:
        """Whether the mail is in this mailbox."""
        await self._session.examine(mailbox)
        return len(await self._session.find_message_id(task.header_message_id, task.sent_after)) > 0

    # --- the copy -----------------------------------------------------------------------------------------------------

    async def _file(self, task: Task) -> None:
        mailbox = find_sent(await self._mailboxes())
        if mailbox is None:
            await _end_filing(self._services, task, "no_mailbox")
        elif await self._holds(mailbox, task):
            await _end_filing(self._services, task, "found")
        else:
            with suppress(NotFound):  # the mail was deleted here meanwhile, its chores with it
                row = await sent.get(self._store, task.sent_id)
                raw = await sent.raw(self._store, task.sent_id)
                date = row.sent_at or row.created_at
                await self._session.append(mailbox, raw, flags=(flags.SEEN,), date=date)
                await _end_filing(self._services, task, "filed")

    # --- a mail of unknown outcome ------------------------------------------------------------------------------------

    async def _resolve(self, task: Task) -> None:
        if task.ambiguous:
            await _end_unresolved(
                self._services, task, "some recipients have the mail from an earlier try, so that a copy proves nothing"
            )
            return
        looked_in: list[str] = []
        for mailbox in await self._places(task):
            with suppress(MailboxRefused, CommandRefused):
                if await self._holds(mailbox, task):
                    await self._end_resolved(task, f"found in the mailbox {mailbox!r}: the server took the mail")
                    return
                looked_in.append(mailbox)
        where = ", ".join(map(repr, looked_in)) or "any mailbox: there is none that would hold it"
        await _put_off(self._services, task, f"not found in {where}")

    async def _places(self, task: Task) -> list[str]:
        """Where a mail that was taken by the server shows itself."""
        folders = await self._mailboxes()
        own = self._account.select_folder if task.self_addressed else None
        return [name for name in dict.fromkeys((find_sent(folders), find_all_mail(folders), own)) if name]

    async def _end_resolved(self, task: Task, words: str) -> None:
        if await chores.resolved(self._store, task.sent_id, words):
            metrics.SENDS_RESOLVED.labels("found").inc()
            _log.info("unknown_send_found", **_names(task), reason=words)
            self._services.sends.publish(task.sent_id)

    # --- \\Answered ---------------------------------------------------------------------------------------------------

    async def _answer(self, task: Task) -> None:
        if task.answers is not None:
            mailbox, uidvalidity, uid = task.answers
            kept: tuple[str, ...] | None = None
            with suppress(MailboxRefused):  # gone, or may only be read
                kept = await flags.mark_answered(self._session, mailbox, uidvalidity, uid)
            if kept is not None:
                await self._keep_flags(Place(self.connector_id, mailbox, uidvalidity), uid, kept)
            _log.debug("answered_flag_set" if kept is not None else "answered_mail_gone", **_names(task))
        await chores.done(self._store, task.sent_id, task.chore)

    async def _keep_flags(self, place: Place, uid: int, kept: tuple[str, ...]) -> None:
        inbox_id = await messages.set_flags_at(self._store, place, uid, kept)
        if inbox_id is not None:
            self._services.bus.publish(inbox_id)


def _names(task: Task) -> dict[str, str]:
    return {"connector": str(task.connector_id), "sent": str(task.sent_id)}


async def _put_off(services: Services, task: Task, words: str, until: datetime | None = None) -> None:
    """Try again later, not before `until`; or, when the chore's time is over, end it undone."""
    settings, now = services.settings.outbox, utc_now()
    resolves = task.chore is Chore.RESOLVE
    lasts_seconds = settings.resolve_seconds if resolves else settings.copy_give_up_seconds
    end = task.created_at + timedelta(seconds=lasts_seconds)
    if now >= end:
        await _give_up(services, task, words)
        return
    if resolves:
        seconds = _RESOLVE_AFTER_SECONDS[min(task.attempts, len(_RESOLVE_AFTER_SECONDS) - 1)]
    else:
        backoff = Backoff(_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS)
        backoff.failures = task.attempts
        seconds = backoff.next_seconds()
    due_at = max(now + timedelta(seconds=seconds), until or now)
    await chores.again(services.store, task.sent_id, task.chore, min(due_at, end), words)
    _log.debug("chore_put_off", **_names(task), chore=task.chore.value, reason=words)


async def _give_up(services: Services, task: Task, words: str) -> None:
    if task.chore is Chore.RESOLVE:
        await _end_unresolved(services, task, words)
    elif task.chore is Chore.FILE:
        _log.warning("sent_copy_given_up", **_names(task), reason=words)
        await _end_filing(services, task, "given_up")
    else:
        _log.warning("answered_flag_given_up", **_names(task), reason=words)
        await chores.done(services.store, task.sent_id, task.chore)


async def _end_without_imap(services: Services, task: Task, words: str) -> None:
    if task.chore is Chore.RESOLVE:
        await _end_unresolved(services, task, words)
    elif task.chore is Chore.FILE:
        await _end_filing(services, task, "no_mailbox")
    else:
        await chores.done(services.store, task.sent_id, task.chore)


async def _end_filing(services: Services, task: Task, result: str) -> None:
    await chores.done(services.store, task.sent_id, task.chore)
    metrics.SENT_COPIES.labels(result).inc()
    _log.info("sent_copy_settled", **_names(task), result=result)


async def _end_unresolved(services: Services, task: Task, words: str) -> None:
    """Nobody will know any more; as the settings say it stays so, or it is sent once more."""
    resends = services.settings.outbox.unknown == "resend" and not task.ambiguous
    if not await chores.unresolved(services.store, task.sent_id, words, resend_at=utc_now() if resends else None):
        return
    metrics.SENDS_RESOLVED.labels("resent" if resends else "not_found").inc()
    _log.warning("unknown_send_unresolved", **_names(task), resends=resends, reason=words)
    services.sends.publish(task.sent_id)
    if resends:
        services.sends.publish(WORK)
