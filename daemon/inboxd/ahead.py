"""New mail of a mailbox whose first load is under way, ahead of the load: on a connection of its own.

The load's own connection hears of new mail, but can take none before the end of a window, which is about a second.
Where no second connection is to be had, or the server has no IDLE, that is what new mail waits for.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, final

from inboxd import logs, metrics, providers, sync
from inboxd.backoff import Backoff
from inboxd.budgets import Budgets, Purpose
from inboxd.dial import dial
from inboxd.errors import CommandRefused, InboxdError, MailServerError, NoRoom
from inboxd.imap.places import gives_way
from inboxd.imap.session import Session
from inboxd.model import Account
from inboxd.passes import Pass
from inboxd.settings import Settings
from inboxd.tokens import Tokens

_AFTER_SECONDS: Final = 1.0  # a load that is over by then has kept no mail waiting for long
_NO_ROOM_SECONDS: Final = 5.0
_LOG_LINES: Final = 60
_VAIN_LOOKS: Final = 3  # in a row, each for a push that brought nothing: such a server is left to the load

Told = Callable[[Pass, deque[str]], Awaitable[None]]


@asynccontextmanager
async def ahead_of(
    loading: Pass,
    account: Account,
    settings: Settings,
    budgets: Budgets,
    group: asyncio.TaskGroup,
    told: Told,
    tokens: Tokens | None = None,
) -> AsyncGenerator[Callable[[], bool]]:
    """A task of `group` that stores new mail until the block ends; whether it does so at the moment.

    While it does, nobody else need look. `told` is given each pass that is done, with its transcript.
    """
    ahead = _Ahead(loading, account, settings, budgets, told, tokens)
    task = group.create_task(ahead.run())
    try:
        yield lambda: ahead.listening
    finally:
        task.cancel()
        await asyncio.wait([task])


@final
class _Ahead:
    def __init__(
        self,
        loading: Pass,
        account: Account,
        settings: Settings,
        budgets: Budgets,
        told: Told,
        tokens: Tokens | None,
    ) -> None:
        self.listening = False
        self._loading = loading
        self._account = account
        self._settings = settings
        self._limits = settings.imap
        self._budgets = budgets
        self._told = told
        self._tokens = tokens
        self._opened = False
        self._hurried = True  # until a server could not take it
        self._transcript: deque[str] = deque(maxlen=_LOG_LINES)
        self._log = logs.logger("ahead").bind(connector=str(loading.target.connector_id))

    async def run(self) -> None:
        """Until cancelled, or no connection is to be had: one that was refused is not asked for again, one that was
        lost is, and one that there is no room for. Whatever goes wrong does the load no harm.
        """
        await asyncio.sleep(_AFTER_SECONDS)
        backoff = Backoff(self._limits.retry_first_seconds, self._limits.retry_most_seconds)
        while (failure := await self._try()) is not None:
            if isinstance(failure, NoRoom):
                self._log.info("ahead_waits", reason=str(failure))
                await asyncio.sleep(backoff.next_seconds(at_least=_NO_ROOM_SECONDS))
                continue
            self._log.warning("ahead_ended", reason=str(failure))
            metrics.DISCONNECTS.labels(failure.reason if isinstance(failure, MailServerError) else "error").inc()
            if not self._opened or not failure.retry:
                return
            self._opened = False
            await asyncio.sleep(backoff.next_seconds())

    async def _try(self) -> InboxdError | None:
        """What ended a connection; None when there is no use in another."""
        try:
            await self._hold_session()
        except InboxdError as error:
            return error
        # As in the supervisor: whatever goes wrong with one account must never end the others'.
        except Exception as error:  # noqa: BLE001
            self._log.exception("ahead_crashed")
            return MailServerError("internal", f"internal error ({type(error).__name__})")
        finally:
            self.listening = False
        return None

    async def _hold_session(self) -> None:
        place = self._loading.place
        self._transcript.clear()
        note = self._transcript.append
        async with dial(self._account, self._settings, self._budgets, Purpose.AHEAD, note, self._tokens) as session:
            self._opened = True
            if "IDLE" not in session.capabilities:
                return
            if (await session.examine(place.mailbox)).uidvalidity != place.uidvalidity:
                return
            self._log.info("ahead_began", mailbox=place.mailbox)
            self.listening = True
            try:
                await self._listen(session)
            except CommandRefused as error:
                self._log.warning("ahead_refused", reason=error.reply)
            finally:
                self._hurried = self._hurried and not session.outran_done

    async def _listen(self, session: Session) -> None:
        vain_looks = 0
        pushed_at: float | None = None
        while vain_looks <= _VAIN_LOOKS:
            seen = session.pushes
            run = await sync.take_live(self._loading, session, self._account.search_terms, pushed_at)
            await self._told(run, self._transcript)
            self._transcript.clear()
            vain_looks = 0 if run.stored or pushed_at is None else vain_looks + 1
            pushed_at = session.pushed_at if session.pushes != seen else await self._idle(session, seen)
            if await gives_way(session):
                raise NoRoom("connect", "another connection needs the place")

    async def _idle(self, session: Session, seen: int) -> float | None:
        jitter = random.uniform(-1, 1) * self._limits.idle_jitter_seconds  # noqa: S311
        longest = min(self._limits.idle_seconds + jitter, providers.longest_idle_seconds(self._account.host))
        return await session.idle(max(longest, 0.05), seen, hurried=self._hurried)
