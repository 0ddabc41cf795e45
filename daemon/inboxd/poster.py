"""Posting what waits to the webhooks: in order and one at a time for each, so that a dead receiver delays no other.

A delivery is taken out of the store after its receiver took it, and not before: whatever ends the daemon in between,
it is posted again, under the same id and with the same body.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, final
from uuid import uuid4

from inboxd import logs, metrics, receiver
from inboxd.backoff import Backoff
from inboxd.bus import Hint
from inboxd.errors import PostFailed, SecretUnreadable, StoreError
from inboxd.model import utc_now
from inboxd.post import Client, open_client
from inboxd.services import Services
from inboxd.store import deliveries
from inboxd.webhooks import Delivery, Result, ResultType, Webhook, WebhookId

# Without a hint; what is due later than that is looked for when it is due.
_LOOK_SECONDS: Final = 5.0
_PRUNE_SECONDS: Final = 600.0
_log = logs.logger("poster")

Write = Callable[[Delivery], bytes]


async def run(services: Services, write: Write) -> None:
    """Post for ever. `write` makes the body of a delivery, the same each time."""
    async with open_client(services.settings.webhooks) as client:
        with services.bus.subscribe() as hint:
            async with asyncio.TaskGroup() as group:
                await _Poster(services, write, client, group, hint).run()


@final
class _Lane:
    """One webhook's posts. After a failure it rests, longer each time, until then or until the webhook is changed."""

    def __init__(self, backoff: Backoff) -> None:
        self.busy = False
        self.changed_at: datetime | None = None
        self._backoff = backoff
        self._rests_until = 0.0

    def rest(self) -> None:
        """A post failed."""
        self._rests_until = time.monotonic() + self._backoff.next_seconds()

    def recover(self) -> None:
        """A post was taken, or the webhook is another now."""
        self._backoff.reset()
        self._rests_until = 0.0

    def rest_seconds(self) -> float:
        """How long it rests yet."""
        return self._rests_until - time.monotonic()


@final
class _Poster:
    """Starts a lane for each webhook that something is due for."""

    def __init__(self, services: Services, write: Write, client: Client, group: asyncio.TaskGroup, hint: Hint) -> None:
        self._store = services.store
        self._vault = services.vault
        self._limits = services.settings.webhooks
        self._write = write
        self._client = client
        self._group = group
        self._hint = hint
        self._turns = asyncio.Semaphore(self._limits.at_once)
        self._lanes: dict[WebhookId, _Lane] = {}
        self._count_at = self._prune_at = 0.0

    async def run(self) -> None:
        """Look, and look again at every hint, when something is due, and every few seconds; for ever."""
        while True:
            pause = _LOOK_SECONDS
            try:
                pause = self._begin(await deliveries.waiting(self._store))
                await self._keep_house()
            except StoreError as error:
                _log.error("deliveries_unreadable", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hint.wait()

    def _begin(self, waiting: list[tuple[WebhookId, datetime, datetime]]) -> float:
        """Start the lanes that have something to do; the seconds until another has."""
        there = {webhook_id for webhook_id, _, _ in waiting}
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.busy or key in there}
        now, pause = utc_now(), _LOOK_SECONDS
        for webhook_id, changed_at, due_at in waiting:
            lane = self._lanes.setdefault(webhook_id, _Lane(self._backoff()))
            if lane.changed_at != changed_at:
                lane.changed_at = changed_at
                lane.recover()
            seconds = max((due_at - now).total_seconds(), lane.rest_seconds())
            if seconds > 0:
                pause = min(pause, seconds)
            elif not lane.busy:
                lane.busy = True
                self._group.create_task(self._drain(webhook_id, lane))
        return pause

    async def _keep_house(self) -> None:
        clock = time.monotonic()
        if clock >= self._count_at:
            self._count_at = clock + _LOOK_SECONDS
            metrics.WEBHOOK_BACKLOG.set(await deliveries.count(self._store))
        if clock >= self._prune_at:
            self._prune_at = clock + _PRUNE_SECONDS
            await deliveries.prune(self._store, utc_now() - timedelta(seconds=self._limits.keep_seconds))

    async def _drain(self, webhook_id: WebhookId, lane: _Lane) -> None:
        """Post what is due for one webhook, until nothing is or a post fails."""
        try:
            while await self._post_next(webhook_id, lane):
                lane.recover()
        except StoreError as error:
            lane.rest()
            _log.error("delivery_unsettled", webhook=str(webhook_id), reason=str(error))
        finally:
            lane.busy = False
            self._hint.ring()

    async def _post_next(self, webhook_id: WebhookId, lane: _Lane) -> bool:
        """Whether something was due, and was taken."""
        async with self._turns:
            job = await deliveries.next_due(self._store, webhook_id, utc_now())
            if job is None:
                return False
            outcome = await self._post(*job)
        if outcome is not ResultType.SUCCESS:
            lane.rest()
        return outcome is ResultType.SUCCESS

    async def _post(self, webhook: Webhook, delivery: Delivery) -> ResultType:
        """How the try ended, once that is stored."""
        body, began = self._write(delivery), time.monotonic()
        try:
            reply = await receiver.post(self._client, self._vault, webhook, delivery.event, body)
            outcome = ResultType.SUCCESS if reply.ok else ResultType.BAD_RESPONSE
            status, extract = reply.status, reply.extract
        except (PostFailed, SecretUnreadable) as error:
            outcome, status, extract = ResultType.EXCEPTION, None, str(error)
        seconds, retry_at = time.monotonic() - began, None
        if outcome is not ResultType.SUCCESS:
            outcome, retry_at = self._after_failure(outcome, delivery)
        result = _result(webhook, delivery, outcome, status, round(seconds * 1000), extract)
        await deliveries.settle(self._store, result, retry_at, ok=outcome is ResultType.SUCCESS)
        metrics.WEBHOOK_POSTS.labels(outcome.value.lower()).inc()
        metrics.WEBHOOK_SECONDS.observe(seconds)
        _tell(result, delivery)
        return outcome

    def _after_failure(self, type: ResultType, delivery: Delivery) -> tuple[ResultType, datetime | None]:
        """What the failure is called, and when the next try is, if there is one."""
        now = utc_now()
        if now - delivery.created_at >= timedelta(seconds=self._limits.give_up_seconds):
            return ResultType.EXHAUSTED, None
        backoff = self._backoff()
        backoff.failures = delivery.attempts
        return type, now + timedelta(seconds=backoff.next_seconds())

    def _backoff(self) -> Backoff:
        return Backoff(self._limits.retry_first_seconds, self._limits.retry_most_seconds)


def _result(
    webhook: Webhook, delivery: Delivery, type: ResultType, status: int | None, milliseconds: int, extract: str
) -> Result:
    return Result(
        id=uuid4(),
        webhook_id=webhook.id,
        delivery_id=delivery.id,
        created_at=utc_now(),
        type=type,
        event=delivery.event,
        url=webhook.url,
        status=status,
        milliseconds=milliseconds,
        extract=extract,
        inbox_id=delivery.inbox_id,
        message_id=delivery.message_id,
        attachment_id=delivery.attachment_id,
    )


def _tell(result: Result, delivery: Delivery) -> None:
    """The receiver's words stay out of the log: they may repeat the mail."""
    names = {"webhook": str(result.webhook_id), "delivery": str(result.delivery_id), "attempt": delivery.attempts + 1}
    if result.type is ResultType.SUCCESS:
        _log.debug("delivery_posted", **names, status=result.status)
    else:
        reason = {} if result.status is not None else {"reason": result.extract}
        _log.warning("delivery_failed", **names, type=result.type.value, status=result.status, **reason)
