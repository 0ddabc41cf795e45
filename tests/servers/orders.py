"""Mails on their way out for the tests: orders, and the verdicts that servers make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import Event, SentId, SentState, Window, utc_now
from inboxd.outbox import Delivery, Job, Order, RouteId, Try, Verdict
from inboxd.store import events, outbox, outbox_list
from inboxd.store.engine import Store
from servers.stores import Linked, make_sent

BOB, CY = "bob@example.com", "cy@example.com"
OWNER = "run-1"


def route_of(linked: Linked) -> RouteId:
    """The connector's own way out."""
    return RouteId(linked.connector.id)


def make_order(linked: Linked, *recipients: str, size_bytes: int = 11, **changed: object) -> Order:
    """A mail that is not accepted yet, by default to two; what `changed` names of the order is changed."""
    now = utc_now()
    mail = replace(
        make_sent(linked),
        id=SentId(uuid4()),
        created_at=now,
        state=SentState.QUEUED,
        header_message_id=f"{uuid4().hex}@example.com",
        size_bytes=size_bytes,
        sent_at=None,
        reply=None,
    )
    made = Order(
        mail, b"x" * size_bytes, "ann@example.com", recipients or (BOB, CY), now + timedelta(days=5), route_of(linked)
    )
    return replace(made, **changed)  # pyright: ignore[reportArgumentType]


async def accept(store: Store, linked: Linked, *recipients: str, **changed: object) -> SentId:
    """A mail in the outbox."""
    return (await outbox.accept(store, make_order(linked, *recipients, **changed))).id  # pyright: ignore[reportArgumentType]


async def claim(store: Store, linked: Linked, owner: str = OWNER, most_count: int = 100) -> list[Job]:
    """All that is due by the connector's own way."""
    now = utc_now()
    until = now + timedelta(minutes=5)
    return await outbox.claim(
        store, owner, route_of(linked), now, most_count=most_count, most_bytes=1 << 30, lease_until=until
    )


def make_try(reply: str = "250 ok", kind: str = "", *, stage: str = "data", minutes: int = 0) -> Try:
    """A try that has just ended, or has `minutes` ago."""
    ended_at = utc_now() - timedelta(minutes=minutes)
    return Try(ended_at - timedelta(seconds=1), ended_at, "smtp.example.com", stage, kind, reply)


def make_verdict(
    mail_id: SentId, state: SentState, tried: Try | None = None, **recipients: tuple[Delivery, str]
) -> Verdict:
    """A verdict in which each recipient is named by what is before the @."""
    told = {f"{name}@example.com": said for name, said in recipients.items()}
    return Verdict(mail_id, state, tried or make_try(), told, logs="C: DATA\nS: 354 go")


async def bring(
    store: Store, linked: Linked, state: SentState, *recipients: str, **learnt: tuple[Delivery, str]
) -> SentId:
    """A new mail that is in this state, and its recipients where the verdict put them."""
    mail_id = await accept(store, linked, *recipients)
    if state is SentState.QUEUED:
        return mail_id
    if state is SentState.CANCELLED:
        await outbox_list.cancel(store, mail_id)
        return mail_id
    jobs = await claim(store, linked)
    rest = [Verdict(job.id, SentState.QUEUED, make_try()) for job in jobs if job.id != mail_id]
    assert len(await outbox.settle(store, OWNER, rest)) == len(rest)
    if state is not SentState.SENDING:
        kinds = {SentState.DEFERRED: "SendDeferred", SentState.FAILED: "SendRefused", SentState.UNKNOWN: "SendUnknown"}
        tried = make_try(f"the words of {state.value}", kinds.get(state, ""))
        verdict = replace(make_verdict(mail_id, state, tried, **learnt), due_at=utc_now() + timedelta(hours=1))
        assert await outbox.settle(store, OWNER, [verdict]) == [mail_id]
    return mail_id


async def told(store: Store) -> list[Event]:
    """All events, oldest first, with their logs."""
    listed = (await events.page(store, Window(size=1000))).rows
    return [await events.get(store, event.id) for event in listed]


async def messages_told(store: Store) -> list[str | None]:
    """What all events say, oldest first."""
    return [event.message for event in await told(store)]


async def rows_of(store: Store, table: Table) -> Sequence[object]:
    """All rows of a table."""

    async def look(connection: AsyncConnection) -> Sequence[object]:
        return (await connection.execute(select(table))).all()

    return await store.read(look)
