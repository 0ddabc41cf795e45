"""Webhooks and how their posts ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.model import InboxId, Page, Window
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, page_in, record_of, row_of
from inboxd.store.schema import DELIVERIES, RESULTS, WEBHOOKS
from inboxd.webhooks import UNHEALTHY_AFTER, Result, ResultFilter, Webhook, WebhookFilter, WebhookId

_SEARCHED: Final = (WEBHOOKS.c.name, WEBHOOKS.c.url)


async def add(store: Store, webhook: Webhook) -> None:
    """Keep a new webhook; Conflict when its inbox is gone."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(WEBHOOKS.insert().values(columns_of(webhook)))

    await store.write(work)


async def get(store: Store, webhook_id: WebhookId) -> Webhook:
    """The webhook, or NotFound."""

    async def look(connection: AsyncConnection) -> Webhook:
        return record_of(Webhook, await row_of(connection, WEBHOOKS, webhook_id, "webhook"))

    return await store.read(look)


async def page(store: Store, chosen: WebhookFilter, window: Window) -> Page[Webhook]:
    """One page of the chosen webhooks."""

    async def look(connection: AsyncConnection) -> Page[Webhook]:
        return await page_in(connection, WEBHOOKS, Webhook, window, _conditions(chosen))

    return await store.read(look)


async def failing(store: Store, most: int) -> list[Webhook]:
    """The enabled webhooks whose last tries failed, the worst first; `most` at most."""
    failed = select(WEBHOOKS).where(WEBHOOKS.c.failures > 0, WEBHOOKS.c.enabled.is_(True))
    worst = failed.order_by(WEBHOOKS.c.failures.desc(), WEBHOOKS.c.seq).limit(most)

    async def look(connection: AsyncConnection) -> list[Webhook]:
        return [record_of(Webhook, row) for row in (await connection.execute(worst)).mappings()]

    return await store.read(look)


async def change(store: Store, webhook: Webhook) -> Webhook:
    """Put the webhook in place of the stored one, which begins anew: healthy, and what waits is due now.

    The webhook as it is stored then; NotFound; Conflict when its inbox is gone.
    """
    fresh = replace(webhook, failures=0)
    changed = update(WEBHOOKS).where(WEBHOOKS.c.id == webhook.id).values(columns_of(fresh))
    due = update(DELIVERIES).where(DELIVERIES.c.webhook_id == webhook.id, DELIVERIES.c.due_at > webhook.updated_at)

    async def work(connection: AsyncConnection) -> Webhook:
        if not (await connection.execute(changed)).rowcount:
            raise NotFound(f"there is no webhook {webhook.id}")
        await connection.execute(due.values(due_at=webhook.updated_at))
        return fresh

    return await store.write(work)


async def remove(store: Store, webhook_id: WebhookId, inbox_id: InboxId | None = None) -> None:
    """Delete the webhook, of this inbox where given, with its results and what waits to be posted; NotFound."""
    condition = WEBHOOKS.c.id == webhook_id
    if inbox_id is not None:
        condition &= WEBHOOKS.c.inbox_id == inbox_id

    async def work(connection: AsyncConnection) -> None:
        if not (await connection.execute(delete(WEBHOOKS).where(condition))).rowcount:
            raise NotFound(f"there is no webhook {webhook_id}" + (f" of inbox {inbox_id}" if inbox_id else ""))

    await store.write(work)


async def results(store: Store, webhook_id: WebhookId, chosen: ResultFilter, window: Window) -> Page[Result]:
    """One page of the chosen results of a webhook; NotFound when there is no such webhook."""
    conditions = [RESULTS.c.webhook_id == webhook_id, *_result_conditions(chosen)]

    async def look(connection: AsyncConnection) -> Page[Result]:
        await row_of(connection, WEBHOOKS, webhook_id, "webhook")
        return await page_in(connection, RESULTS, Result, window, conditions)

    return await store.read(look)


def _conditions(chosen: WebhookFilter) -> list[Condition]:
    conditions: list[Condition] = []
    if chosen.inbox_id is not None:
        of_inbox: ColumnElement[bool] = WEBHOOKS.c.inbox_id == chosen.inbox_id
        conditions.append(or_(of_inbox, WEBHOOKS.c.inbox_id.is_(None)) if chosen.account_wide else of_inbox)
    if chosen.search is not None:
        conditions.append(or_(*(column.icontains(chosen.search, autoescape=True) for column in _SEARCHED)))
    if chosen.healthy is not None:
        failed = WEBHOOKS.c.failures >= UNHEALTHY_AFTER
        conditions.append(~failed if chosen.healthy else failed)
    if chosen.event is not None:
        conditions.append(WEBHOOKS.c.event == chosen.event)
    if chosen.url is not None:
        conditions.append(WEBHOOKS.c.url == chosen.url)
    return conditions


def _result_conditions(chosen: ResultFilter) -> list[Condition]:
    conditions: list[Condition] = [
        column == value
        for column, value in (
            (RESULTS.c.type, chosen.type),
            (RESULTS.c.event, chosen.event),
            (RESULTS.c.inbox_id, chosen.inbox_id),
            (RESULTS.c.message_id, chosen.message_id),
            (RESULTS.c.attachment_id, chosen.attachment_id),
        )
        if value is not None
    ]
    if chosen.least_status is not None:
        conditions.append(RESULTS.c.status >= chosen.least_status)
    if chosen.most_status is not None:
        conditions.append(RESULTS.c.status <= chosen.most_status)
    if chosen.search is not None:
        conditions.append(
            or_(*(column.icontains(chosen.search, autoescape=True) for column in (RESULTS.c.url, RESULTS.c.extract)))
        )
    return conditions
