"""Sends what is in the outbox: a lane for each route with something due, recovered from whatever ended the last run."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, final

from inboxd import handover, logs, metrics
from inboxd.accounts import account_of
from inboxd.allowance import Allowance
from inboxd.backoff import Backoff
from inboxd.bus import Hint
from inboxd.errors import Conflict, MailServerError, NotFound, SecretUnreadable, StoreError
from inboxd.handover import Journal, Left
from inboxd.lane import Lane, Route, tell
from inboxd.model import Account, ConnectorId, Kind, SentId, SentState, utc_now
from inboxd.outbox import RELAY, WORK, Chore, Delivery, RouteId, Try, Verdict
from inboxd.providers import Habits, habits
from inboxd.services import Services
from inboxd.store import connectors, outbox, outbox_list

# Without a hint; what is due later than that is looked for when it is due.
_LOOK_SECONDS: Final = 5.0
# A server that is away is asked more often than for one mail, and after a refused login not more often than this.
_REST_FIRST_SECONDS: Final = 5.0
_REST_MOST_SECONDS: Final = 600.0
_PRUNE_SECONDS: Final = 600.0
_DAY_SECONDS: Final = 86_400.0
_VANISHED: Final = "the daemon, or its machine, ended while the mail may have been under way"
_RELAY_MISSING: Final = "the relay that this mail was to go through is no longer configured (setting relay.host)"
_log = logs.logger("outbox")


async def run(services: Services) -> None:
    """Send for ever. Cancelled, it lets the mails that are on their way end, for at most `outbox.stop_seconds`."""
    with handover.open_journal(services.settings.state_dir) as journal, services.sends.subscribe(WORK) as hint:
        sender = _Sender(services, journal, hint)
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await sender.run(group)
                except asyncio.CancelledError:
                    await sender.drain()
                    raise
        finally:
            await sender.give_back()


@final
class _Sender:
    def __init__(self, services: Services, journal: Journal, hint: Hint) -> None:
        self._services = services
        self._store = services.store
        self._settings = services.settings.outbox
        self._journal = journal
        self._hint = hint
        self._routes: dict[RouteId, Route] = {}
        self._lanes: dict[Lane, asyncio.Task[None]] = {}
        self._count_at = self._renew_at = self._recover_at = self._prune_at = 0.0

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Look, and look again at every hint, when something is due, and every few seconds; for ever."""
        while True:
            pause = _LOOK_SECONDS
            try:
                await self._keep_house()
                pause = await self._look(group)
            except StoreError as error:
                _log.error("outbox_unreadable", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hint.wait()

    async def drain(self) -> None:
        """Claim nothing any more, and give what is on its way a little time."""
        for lane in self._lanes:
            lane.stop()
        for route_id in self._routes:
            self._services.sends.publish(route_id)
        if self._lanes:
            await asyncio.wait(self._lanes.values(), timeout=self._settings.stop_seconds)

    async def give_back(self) -> None:
        """At the end nothing is this run's any more: what a lane was cut off from is settled, or back in the queue."""
        now, noted = utc_now(), self._journal.open
        with suppress(StoreError):
            for sent_id, owner, _ in await outbox.held(self._store, owners=[self._journal.owner]):
                untouched = Verdict(sent_id, SentState.QUEUED, Try(now, now, "", "", "", ""), due_at=now)
                await outbox.recover(self._store, sent_id, owner, noted.get(sent_id, untouched))
            self._journal.forget(noted)

    # --- routes -------------------------------------------------------------------------------------------------------

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Start lanes for what is due; the seconds until something else is."""
        now, pause = utc_now(), _LOOK_SECONDS
        for route_id, due_at in await outbox.due(self._store, now):
            seconds = (due_at - now).total_seconds()
            pause = min(pause, seconds if seconds > 0 else await self._begin(route_id, now, group))
        return max(pause, 0.0)

    async def _begin(self, route_id: RouteId, now: datetime, group: asyncio.TaskGroup) -> float:
        """Something is due on this route: have it sent, or say when to look again."""
        route = self._routes.get(route_id)
        if route is None:
            first, most = self._settings.retry_first_seconds, self._settings.retry_most_seconds
            backoff = Backoff(min(first, _REST_FIRST_SECONDS), min(most, _REST_MOST_SECONDS))
            route = self._routes[route_id] = Route(route_id, backoff)
        if route.lanes:
            self._services.sends.publish(route_id)
            return _LOOK_SECONDS
        account, address = await self._account(route, now)
        if account is None:
            return _LOOK_SECONDS
        if account != route.account:
            await self._learn(route, account, address, now)
        if route.rests_until is not None and route.is_resting(now) and route.failure is not None:
            await self._postpone(route, now, route.rests_until, route.failure[1])
            return _LOOK_SECONDS
        if route.allowance is not None:
            free, seconds = route.allowance.free(now, 1)
            if not free:
                return max(seconds, 0.01)
        for _ in range(self._most_lanes(account, address)):
            lane = Lane(self._services, route, account, self._journal, address)
            route.lanes += 1
            self._lanes[lane] = group.create_task(self._drive(route, lane))
        return _LOOK_SECONDS

    async def _drive(self, route: Route, lane: Lane) -> None:
        try:
            await lane.run()
        finally:
            route.lanes -= 1
            del self._lanes[lane]
            self._hint.ring()

    async def _account(self, route: Route, now: datetime) -> tuple[Account | None, str | None]:
        """How the route's server is reached, and the address mails go out from; None when there is no such way now."""
        services = self._services
        if route.id == RELAY:
            account = _relay(services)
            if account is None:
                await self._hold(route, now, _RELAY_MISSING)
            return account, None
        connector_id = ConnectorId(route.id)
        try:
            connector = await connectors.get(self._store, connector_id)
            account = await account_of(self._store, services.vault, connector_id, Kind.SMTP)
        except NotFound:
            for sent_id in await outbox.fail_route(self._store, route.id, "its connector was deleted"):
                services.sends.publish(sent_id)
            self._routes.pop(route.id, None)
            return None, None
        except (Conflict, SecretUnreadable) as error:
            await self._hold(route, now, str(error))
            return None, None
        return account, connector.email_address

    async def _learn(self, route: Route, account: Account, address: str | None, now: datetime) -> None:
        """The account is new, or another than last time: whatever closed the way may be mended."""
        route.recover()
        route.account = account
        limits = self._limits(_habits(account, address))
        past: list[datetime] = []
        if limits:
            since = now - timedelta(seconds=max(seconds for _, seconds in limits))
            past = await outbox.handed_over_since(self._store, route.id, since)
        route.allowance = Allowance(limits, past) if limits else None

    def _limits(self, known: Habits) -> list[tuple[int, float]]:
        """The operator's limits where given, else the provider's."""
        settings = self._settings
        pairs = ((settings.per_minute or known.per_minute, 60.0), (settings.per_day or known.per_day, _DAY_SECONDS))
        return [(most, seconds) for most, seconds in pairs if most]

    def _most_lanes(self, account: Account, address: str | None) -> int:
        return min(self._settings.connections, _habits(account, address).connections or self._settings.connections)

    async def _hold(self, route: Route, now: datetime, words: str) -> None:
        """No way to send until somebody changes something; it is looked at again when the mails are due again."""
        error = MailServerError("connect", words)
        tried = Try(now, now, "", error.stage, type(error).__name__, words)
        until = now + timedelta(seconds=self._settings.retry_first_seconds)
        await self._postpone(route, now, until, tried)

    async def _postpone(self, route: Route, now: datetime, until: datetime, tried: Try) -> None:
        relays = bool(self._services.settings.relay.host) and route.id != RELAY
        postponed = await outbox.postpone(self._store, route.id, now, until, tried, relays=relays)
        for sent_id in postponed:
            self._services.sends.publish(sent_id)
        if relays and postponed:
            self._hint.ring()

    # --- keeping house ------------------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        clock = time.monotonic()
        if clock >= self._recover_at:
            await self._recover()
            self._recover_at = clock + self._settings.lease_seconds / 2
        if self._lanes and clock >= self._renew_at:
            self._renew_at = clock + self._settings.lease_seconds / 4
            until = utc_now() + timedelta(seconds=self._settings.lease_seconds)
            await outbox.renew(self._store, self._journal.owner, until)
        if clock >= self._count_at:
            self._count_at = clock + _LOOK_SECONDS
            for sent_id in await outbox.expire(self._store, utc_now()):
                metrics.SENDS.labels(SentState.FAILED.value).inc()
                self._services.sends.publish(sent_id)
            await self._count()
        if clock >= self._prune_at:
            self._prune_at = clock + _PRUNE_SECONDS
            await outbox_list.prune_keys(self._store, utc_now() - timedelta(seconds=self._settings.keep_keys_seconds))

    async def _count(self) -> None:
        census = await outbox_list.census(self._store)
        for state in metrics.OUTBOX_STATES:
            metrics.OUTBOX.labels(state).set(census.counts.get(SentState(state), 0))
        oldest = census.oldest_waiting
        metrics.OUTBOX_AGE.set((utc_now() - oldest).total_seconds() if oldest is not None else 0.0)

    async def _recover(self) -> None:
        """Settle what other runs had claimed: exactly where their journal tells, as unknown where nothing does.

        SQLite has one daemon, so whoever claimed before is dead; elsewhere its lease has to be over.
        """
        state_dir, mine = self._services.settings.state_dir, self._journal.owner
        left = {one.owner: one for one in await asyncio.to_thread(handover.left_behind, state_dir, mine)}
        alone = self._services.settings.store_url.startswith("sqlite")
        now = utc_now()
        for sent_id, owner, leased_until in await outbox.held(self._store):
            if owner == mine or not (alone or owner in left or leased_until <= now):
                continue
            verdict = await self._verdict(sent_id, left.get(owner))
            if await outbox.recover(self._store, sent_id, owner, verdict):
                _log.warning("send_recovered", sent=str(sent_id), state=verdict.state.value)
                tell(verdict, self._services.sends.publish)
        for owner in left:
            await asyncio.to_thread(handover.remove, state_dir, owner)

    async def _verdict(self, sent_id: SentId, left: Left | None) -> Verdict:
        now = utc_now()
        nothing = Try(now, now, "", "", "", "")
        if left is not None and left.trusted:
            return left.verdicts.get(sent_id) or Verdict(sent_id, SentState.QUEUED, nothing, due_at=now)
        record = await outbox_list.get(self._store, sent_id)
        tried = replace(nothing, stage="data", kind="SendUnknown", reply=_VANISHED)
        open_ones = [one for one in record.recipients if one.state in (Delivery.PENDING, Delivery.DEFERRED)]
        told = {one.address: (Delivery.UNKNOWN, _VANISHED) for one in open_ones}
        return Verdict(sent_id, SentState.UNKNOWN, tried, told, chores=(Chore.RESOLVE,))


def _habits(account: Account, address: str | None) -> Habits:
    return habits(account.host, address) if account.connector_id is not None else Habits()


def _relay(services: Services) -> Account | None:
    """The operator's relay, if there is one."""
    relay = services.settings.relay
    if not relay.host:
        return None
    return Account(None, Kind.SMTP, relay.host, relay.port, relay.tls, relay.username, relay.secret)
