"""Mails accepted into the outbox, once each, and claimed by whoever sends them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd.errors import Conflict, NotFound
from inboxd.model import ConnectorId, MessageId, SentState, Window, utc_now
from inboxd.outbox import RELAY, Chore, Delivery, Dsn, Job, Once, RouteId
from inboxd.store import connectors, outbox, outbox_list, sent
from inboxd.store.engine import Store
from inboxd.store.schema_outbox import CHORES, IDEMPOTENCY, OUTBOX, RECIPIENTS, TRIES
from servers.orders import (
    BOB,
    CY,
    OWNER,
    accept,
    bring,
    claim,
    make_order,
    make_try,
    make_verdict,
    route_of,
    rows_of,
    told,
)
from servers.stores import Linked, link, make_inbox

ONCE = Once("key-1", b"f" * 32)


async def test_accepted_mail_is_kept_whole(store: Store, linked: Linked) -> None:
    order = make_order(linked, BOB, "bob@EXAMPLE.com")
    accepted = await outbox.accept(store, replace(order, sent=replace(order.sent, state=SentState.SENT)))
    assert (accepted.id, accepted.fresh) == (order.sent.id, True)
    assert await sent.get(store, order.sent.id) == order.sent
    assert await sent.raw(store, order.sent.id) == order.raw
    record = await outbox_list.get(store, order.sent.id)
    assert record.entry.state is SentState.QUEUED
    assert record.entry.due_at == record.entry.created_at == order.sent.created_at
    assert (record.entry.attempts, record.entry.kind, record.entry.stage, record.entry.reply) == (0, "", "", None)
    assert (record.entry.route, record.entry.connector_id) == (order.route, linked.connector.id)
    assert (record.entry.expires_at, record.entry.sender) == (order.expires_at, "ann@example.com")
    assert (record.entry.subject, record.entry.size_bytes) == (order.sent.subject, 11)
    assert record.entry.header_message_id == order.sent.header_message_id
    assert [(one.address, one.state, one.reply) for one in record.recipients] == [
        (BOB, Delivery.PENDING, None),
        ("bob@EXAMPLE.com", Delivery.PENDING, None),
    ]
    assert (record.tries, record.chores) == ((), ())


async def test_mail_of_a_removed_connector_is_accepted_without_it(store: Store, linked: Linked) -> None:
    order = make_order(linked)
    gone = replace(order, sent=replace(order.sent, connector_id=ConnectorId(uuid4())))
    await outbox.accept(store, gone)
    assert (await outbox_list.entry(store, order.sent.id)).connector_id is None
    assert (await sent.get(store, order.sent.id)).connector_id is None


async def test_mail_of_a_removed_inbox_leaves_nothing(store: Store, linked: Linked) -> None:
    order = make_order(linked)
    lost = replace(order, sent=replace(order.sent, inbox_id=make_inbox().id))
    with pytest.raises(Conflict):
        await outbox.accept(store, lost, ONCE)
    for table in (OUTBOX, RECIPIENTS, IDEMPOTENCY):
        assert await rows_of(store, table) == []
    assert (await outbox.accept(store, order, ONCE)).fresh


async def test_a_key_keeps_one_mail(store: Store, linked: Linked) -> None:
    first = await outbox.accept(store, make_order(linked), ONCE)
    again = await outbox.accept(store, make_order(linked), ONCE)
    assert (again.id, again.fresh) == (first.id, False)
    other = await outbox.accept(store, make_order(linked), Once("key-2", ONCE.fingerprint))
    assert other.fresh
    assert (await sent.page(store, Window())).total == 2


async def test_a_key_of_another_mail_is_refused(store: Store, linked: Linked) -> None:
    await outbox.accept(store, make_order(linked), ONCE)
    with pytest.raises(Conflict, match="Idempotency-Key came with another mail"):
        await outbox.accept(store, make_order(linked), Once(ONCE.key, b"g" * 32))
    assert len(await rows_of(store, OUTBOX)) == 1


async def test_a_key_never_sends_a_deleted_mail_again(store: Store, linked: Linked) -> None:
    mail_id = (await outbox.accept(store, make_order(linked), ONCE)).id
    await outbox_list.cancel(store, mail_id)
    await sent.remove(store, mail_id)
    with pytest.raises(Conflict, match="Idempotency-Key was deleted"):
        await outbox.accept(store, make_order(linked), ONCE)
    assert await rows_of(store, OUTBOX) == []


async def test_a_hundred_at_once_with_one_key_are_one_mail(store: Store, linked: Linked) -> None:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(outbox.accept(store, make_order(linked), ONCE)) for _ in range(100)]
    results = [task.result() for task in made]
    assert len({result.id for result in results}) == 1
    assert sum(result.fresh for result in results) == 1
    assert len(await rows_of(store, OUTBOX)) == len(await rows_of(store, IDEMPOTENCY)) == 1


async def test_keys_are_forgotten_after_their_time(store: Store, linked: Linked) -> None:
    before = utc_now()
    first = await outbox.accept(store, make_order(linked), ONCE)
    assert await outbox_list.prune_keys(store, before) == 0
    assert await outbox_list.prune_keys(store, utc_now() + timedelta(seconds=1)) == 1
    second = await outbox.accept(store, make_order(linked), ONCE)
    assert second.fresh
    assert second.id != first.id


async def test_routes_are_due_when_their_first_mail_is(store: Store, linked: Linked) -> None:
    assert await outbox.due(store, utc_now()) == []
    other = await link(store, "other")
    deferred = await bring(store, linked, SentState.DEFERRED, bob=(Delivery.DEFERRED, "451"))
    later = (await outbox_list.entry(store, deferred)).due_at
    await accept(store, other)
    await accept(store, other)
    await accept(store, other, route=RELAY)
    for state in (SentState.SENDING, SentState.FAILED, SentState.UNKNOWN, SentState.CANCELLED, SentState.SENT):
        await bring(store, await link(store, state.value), state)
    now = utc_now()
    assert set(await outbox.due(store, now)) == {(route_of(linked), later), (route_of(other), now), (RELAY, now)}
    assert (await outbox.due(store, now))[-1] == (route_of(linked), later)
    much_later = later + timedelta(hours=1)
    assert (route_of(linked), much_later) in await outbox.due(store, much_later)


async def test_claimed_mail_is_the_owners(store: Store, linked: Linked) -> None:
    order = make_order(linked, use_fallback=True, dsn=Dsn(("FAILURE", "DELAY"), whole=True), answers=MessageId(uuid4()))
    await outbox.accept(store, order)
    (job,) = await claim(store, linked)
    assert job == Job(
        id=order.sent.id,
        connector_id=linked.connector.id,
        route=order.route,
        sender=order.sender,
        recipients=(BOB, CY),
        raw=order.raw,
        attempts=0,
        created_at=order.sent.created_at,
        expires_at=order.expires_at,
        use_fallback=True,
        dsn=order.dsn,
        answers=order.answers,
    )
    entry = await outbox_list.entry(store, job.id)
    assert (entry.state, entry.attempts) == (SentState.SENDING, 1)
    assert await claim(store, linked, "run-2") == []
    assert await outbox.due(store, utc_now()) == []


@pytest.mark.parametrize("dsn", [None, Dsn(("NEVER",)), Dsn((), whole=True)])
async def test_what_notices_are_asked_for_is_kept(store: Store, linked: Linked, dsn: Dsn | None) -> None:
    await accept(store, linked, dsn=dsn)
    assert [job.dsn for job in await claim(store, linked)] == [dsn]


async def test_claims_are_of_one_route_and_of_what_is_due(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    await accept(store, other)
    await bring(store, linked, SentState.DEFERRED)
    assert await claim(store, linked) == []
    mine = await accept(store, linked)
    assert [job.id for job in await claim(store, linked)] == [mine]


async def test_claims_begin_with_what_is_due_longest(store: Store, linked: Linked) -> None:
    now = utc_now()
    orders = [make_order(linked) for _ in range(4)]
    moments = (now, now - timedelta(minutes=2), now, now - timedelta(minutes=1))
    for order, moment in zip(orders, moments, strict=True):
        await outbox.accept(store, replace(order, sent=replace(order.sent, created_at=moment)))
    first, second, third, fourth = (order.sent.id for order in orders)
    assert [job.id for job in await claim(store, linked, most_count=1)] == [second]
    assert [job.id for job in await claim(store, linked)] == [fourth, first, third]


async def test_claims_stop_before_too_many_bytes(store: Store, linked: Linked) -> None:
    sizes = (900, 60, 40, 1, 2000, 1)
    ids = [await accept(store, linked, size_bytes=size) for size in sizes]

    async def some() -> list[int]:
        now = utc_now()
        route, until = route_of(linked), now + timedelta(minutes=1)
        jobs = await outbox.claim(store, OWNER, route, now, most_count=9, most_bytes=100, lease_until=until)
        return [ids.index(job.id) for job in jobs]

    assert [await some() for _ in range(5)] == [[0], [1, 2], [3], [4], [5]]


async def test_later_tries_are_for_those_not_reached_yet(store: Store, linked: Linked) -> None:
    states = {
        "a": (Delivery.ACCEPTED, "250"), "d": (Delivery.DEFERRED, "451"), "r": (Delivery.REFUSED, "550"),
        "u": (Delivery.UNKNOWN, "gone"), "b": (Delivery.BOUNCED, "5.1.1"),
    }  # fmt: skip
    mail_id = await accept(store, linked, "p@example.com", *(f"{name}@example.com" for name in states))
    await claim(store, linked)
    again = replace(
        make_verdict(mail_id, SentState.DEFERRED, make_try(kind="SendDeferred"), **states), due_at=utc_now()
    )
    await outbox.settle(store, OWNER, [again])
    (job,) = await claim(store, linked)
    assert job.recipients == ("p@example.com", "d@example.com", "u@example.com")
    assert (job.attempts, job.partly) == (1, True)


@pytest.mark.parametrize("owners", [2, 8])
async def test_no_mail_is_claimed_twice(store: Store, linked: Linked, owners: int) -> None:
    ids = {await accept(store, linked, BOB) for _ in range(40)}

    async def work(owner: str) -> list[Job]:
        jobs: list[Job] = []
        while some := await claim(store, linked, owner, most_count=3):
            jobs += some
        return jobs

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work(f"run-{number}")) for number in range(owners)]
    claimed = [job.id for task in working for job in task.result()]
    # Whoever looks while others have locked what is due goes home early; what was theirs is claimed all the same.
    claimed += [job.id for job in await claim(store, linked)]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == ids


async def test_mails_of_a_removed_connector_are_still_claimed_by_their_route(store: Store, linked: Linked) -> None:
    mail_id = await accept(store, linked)
    await connectors.remove(store, linked.connector.id)
    assert [route for route, _ in await outbox.due(store, utc_now())] == [route_of(linked)]
    assert [(job.id, job.connector_id) for job in await claim(store, linked)] == [(mail_id, None)]


async def test_what_is_to_be_sent_is_not_deleted(store: Store, linked: Linked) -> None:
    ids = {state: await bring(store, await link(store, state.value), state) for state in SentState}
    busy = {SentState.QUEUED, SentState.DEFERRED, SentState.SENDING}
    for state in busy:
        with pytest.raises(Conflict, match=f"inboxctl outbox cancel {ids[state]}"):
            await sent.remove(store, ids[state])
    await sent.remove(store, ids[SentState.SENT])
    with pytest.raises(NotFound):
        await sent.remove(store, ids[SentState.SENT])
    assert await sent.remove_all(store) == len(SentState) - 1 - len(busy)
    left = (await sent.page(store, Window())).rows
    assert {mail.id for mail in left} == {ids[state] for state in busy}


async def test_mails_may_be_deleted_while_others_are_settled(store: Store, linked: Linked) -> None:
    ids = [await accept(store, linked, BOB) for _ in range(24)]
    await claim(store, linked)
    verdicts = [make_verdict(mail_id, SentState.FAILED, bob=(Delivery.REFUSED, "550")) for mail_id in ids]
    async with asyncio.TaskGroup() as tasks:
        settling = [tasks.create_task(outbox.settle(store, OWNER, verdicts[n : n + 3])) for n in range(0, 24, 3)]
        removing = [tasks.create_task(sent.remove_all(store)) for _ in range(4)]
    assert [mail_id for task in settling for mail_id in task.result()] == ids
    left = (await sent.page(store, Window(size=99))).total
    assert sum(task.result() for task in removing) == 24 - left


async def test_settling_bears_with_a_connector_that_goes_meanwhile(store: Store) -> None:
    for number in range(5):
        some = await link(store, f"box{number}")
        ids = [await accept(store, some) for _ in range(4)]
        await claim(store, some)
        verdicts = [
            replace(make_verdict(one, SentState.SENT, bob=(Delivery.ACCEPTED, "250")), chores=(Chore.FILE,))
            for one in ids
        ]
        async with asyncio.TaskGroup() as tasks:
            settling = [tasks.create_task(outbox.settle(store, OWNER, [verdict])) for verdict in verdicts[:2]]
            tasks.create_task(connectors.remove(store, some.connector.id))
            settling += [tasks.create_task(outbox.settle(store, OWNER, [verdict])) for verdict in verdicts[2:]]
        assert [task.result() for task in settling] == [[one] for one in ids]
    assert await told(store) == []
    assert await rows_of(store, CHORES) == []


async def test_deleted_mail_takes_all_about_it_along(store: Store, linked: Linked) -> None:
    mail_id = await accept(store, linked)
    await claim(store, linked)
    verdict = make_verdict(mail_id, SentState.SENT, bob=(Delivery.ACCEPTED, "250"))
    await outbox.settle(store, OWNER, [replace(verdict, chores=(Chore.FILE,))])
    await sent.remove(store, mail_id)
    for table in (OUTBOX, RECIPIENTS, TRIES, CHORES):
        assert await rows_of(store, table) == [], table.name


async def test_mails_sent_before_there_was_an_outbox_are_not_in_it(store: Store, linked: Linked) -> None:
    mail = make_order(linked).sent
    await sent.add(store, mail, b"raw")
    with pytest.raises(NotFound, match="in the outbox"):
        await outbox_list.entry(store, mail.id)
    assert await outbox.due(store, utc_now()) == []
    assert (
        await outbox.claim(store, OWNER, RouteId(uuid4()), utc_now(), most_count=1, most_bytes=1, lease_until=utc_now())
        == []
    )
    await sent.remove(store, mail.id)
