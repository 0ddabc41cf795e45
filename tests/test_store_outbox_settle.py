"""What the owner of claimed mails, its successor, and time make of them, in all the tables that tell of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd.model import EventStatus, EventType, SentId, SentState, utc_now
from inboxd.outbox import RELAY, WAITING, Chore, Delivery, RouteId, Try, Verdict
from inboxd.store import connectors, inboxes, outbox, outbox_list, sent
from inboxd.store.engine import Store
from inboxd.store.schema_outbox import CHORES, OUTBOX, TRIES
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
    messages_told,
    route_of,
    rows_of,
    told,
)
from servers.stores import Linked, link

OK = (Delivery.ACCEPTED, "250 ok")
REFUSED = (Delivery.REFUSED, "550 no such user")
LATER = (Delivery.DEFERRED, "451 later")


async def states_of(store: Store, mail_id: SentId) -> dict[str, tuple[Delivery, str | None]]:
    record = await outbox_list.get(store, mail_id)
    return {one.address: (one.state, one.reply) for one in record.recipients}


async def claimed(store: Store, linked: Linked) -> SentId:
    mail_id = await accept(store, linked)
    assert mail_id in [job.id for job in await claim(store, linked)]
    return mail_id


async def test_sent_mail_is_told_everywhere(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    tried = make_try("250 queued as 7")
    verdict = make_verdict(mail_id, SentState.SENT, tried, bob=OK, cy=OK)
    assert await outbox.settle(store, OWNER, [verdict]) == [mail_id]
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.entry.attempts) == (SentState.SENT, 1)
    assert (record.entry.kind, record.entry.stage, record.entry.reply) == ("", "data", "250 queued as 7")
    assert record.tries == (tried,)
    assert await states_of(store, mail_id) == {BOB: OK, CY: OK}
    row = await sent.get(store, mail_id)
    assert (row.state, row.sent_at, row.reply) == (SentState.SENT, tried.ended_at, "250 queued as 7")
    (event,) = await told(store)
    assert (event.connector_id, event.type, event.status) == (linked.connector.id, EventType.SEND, EventStatus.SUCCESS)
    assert (event.size, event.message, event.logs) == (1, "sent: 250 queued as 7", verdict.logs)
    assert event.duration == tried.ended_at - tried.began_at > timedelta()


async def test_who_was_refused_is_named_with_the_mail(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    await outbox.settle(store, OWNER, [make_verdict(mail_id, SentState.SENT, bob=OK, cy=REFUSED)])
    words = "250 ok (refused: cy@example.com: 550 no such user)"
    assert (await sent.get(store, mail_id)).reply == words
    assert await messages_told(store) == [f"sent: {words}"]
    assert (await outbox_list.entry(store, mail_id)).reply == "250 ok"
    assert await states_of(store, mail_id) == {BOB: OK, CY: REFUSED}


async def test_who_was_refused_earlier_is_named_too(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    first = make_verdict(mail_id, SentState.DEFERRED, make_try("451", "SendDeferred"), bob=LATER, cy=REFUSED)
    await outbox.settle(store, OWNER, [replace(first, due_at=utc_now())])
    assert [job.recipients for job in await claim(store, linked)] == [(BOB,)]
    await outbox.settle(store, OWNER, [make_verdict(mail_id, SentState.SENT, bob=OK)])
    assert (await sent.get(store, mail_id)).reply == "250 ok (refused: cy@example.com: 550 no such user)"
    assert await messages_told(store) == [
        "deferred: 451",
        "sent: 250 ok (refused: cy@example.com: 550 no such user)",
    ]


@pytest.mark.parametrize("state", [SentState.FAILED, SentState.UNKNOWN, SentState.DEFERRED])
async def test_mail_not_sent_shows_why(store: Store, linked: Linked, state: SentState) -> None:
    mail_id = await claimed(store, linked)
    tried = make_try("550 spam", "SendRefused", stage="rcpt")
    due_at = utc_now() + timedelta(minutes=9)
    verdict = make_verdict(mail_id, state, tried, bob=REFUSED, cy=REFUSED)
    assert await outbox.settle(store, OWNER, [replace(verdict, due_at=due_at)]) == [mail_id]
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.entry.due_at) == (state, due_at)
    assert (record.entry.kind, record.entry.stage, record.entry.reply) == ("SendRefused", "rcpt", "550 spam")
    assert record.tries == (tried,)
    row = await sent.get(store, mail_id)
    assert (row.state, row.sent_at, row.reply) == (state, None, "550 spam")
    (event,) = await told(store)
    assert (event.status, event.size, event.message) == (
        EventStatus.CONNECTION_ERROR,
        0,
        f"{state.value}: 550 spam",
    )


async def test_mail_released_untouched_is_as_before_its_claim(store: Store, linked: Linked) -> None:
    mail_id = await accept(store, linked)
    before = await outbox_list.get(store, mail_id)
    await claim(store, linked)
    assert await outbox.settle(store, OWNER, [Verdict(mail_id, SentState.QUEUED, make_try())]) == [mail_id]
    assert await outbox_list.get(store, mail_id) == before
    assert await told(store) == []
    assert (await sent.get(store, mail_id)).state is SentState.QUEUED
    due_at = utc_now() + timedelta(minutes=1)
    await claim(store, linked)
    await outbox.settle(store, OWNER, [Verdict(mail_id, SentState.QUEUED, make_try(), due_at=due_at)])
    assert (await outbox_list.entry(store, mail_id)).due_at == due_at


async def test_deferred_mail_released_untouched_is_shown_as_queued(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    first = make_verdict(mail_id, SentState.DEFERRED, make_try("451", "SendDeferred"), bob=LATER, cy=LATER)
    await outbox.settle(store, OWNER, [replace(first, due_at=utc_now())])
    await claim(store, linked)
    await outbox.settle(store, OWNER, [Verdict(mail_id, SentState.QUEUED, make_try())])
    entry = await outbox_list.entry(store, mail_id)
    assert (entry.state, entry.attempts, entry.reply) == (SentState.QUEUED, 1, "451")
    row = await sent.get(store, mail_id)
    assert (row.state, row.reply) == (SentState.QUEUED, "451")


async def test_mail_that_goes_on_by_another_route_has_had_its_try(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    tried = make_try("535 bad password", "AuthRefused", stage="auth")
    verdict = replace(make_verdict(mail_id, SentState.QUEUED, tried), route=RELAY, due_at=utc_now())
    assert await outbox.settle(store, OWNER, [verdict]) == [mail_id]
    assert await claim(store, linked) == []
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.entry.route, record.tries) == (SentState.QUEUED, RELAY, (tried,))
    assert await messages_told(store) == ["queued: 535 bad password"]
    now = utc_now()
    (job,) = await outbox.claim(store, OWNER, RELAY, now, most_count=9, most_bytes=99, lease_until=now)
    assert (job.id, job.route, job.attempts, job.connector_id) == (mail_id, RELAY, 1, linked.connector.id)


async def test_only_the_owner_settles_and_only_once(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    verdict = make_verdict(mail_id, SentState.SENT, bob=OK)
    before = await outbox_list.get(store, mail_id)
    for stale in ("run-2", ""):
        assert await outbox.settle(store, stale, [replace(verdict, chores=(Chore.FILE,))]) == []
    assert await outbox_list.get(store, mail_id) == before
    assert (await sent.get(store, mail_id)).state is SentState.QUEUED
    assert await told(store) == []
    assert await outbox.settle(store, OWNER, [verdict, verdict]) == [mail_id]
    assert await outbox.settle(store, OWNER, [replace(verdict, state=SentState.FAILED)]) == []
    assert len(await told(store)) == len(await rows_of(store, TRIES)) == 1
    assert await outbox.settle(store, OWNER, []) == []


async def test_verdicts_on_what_is_gone_do_nothing(store: Store, linked: Linked) -> None:
    gone = await claimed(store, linked)
    await connectors.remove(store, linked.connector.id)
    await inboxes.remove(store, linked.inbox.id)
    other = await link(store, "other")
    here = await claimed(store, other)
    verdicts = [make_verdict(mail_id, SentState.SENT, bob=OK) for mail_id in (gone, here, SentId(uuid4()))]
    assert await outbox.settle(store, OWNER, verdicts) == [here]


async def test_without_a_connector_there_is_neither_event_nor_chore(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    await connectors.remove(store, linked.connector.id)
    verdict = replace(make_verdict(mail_id, SentState.SENT, bob=OK), chores=(Chore.FILE, Chore.ANSWER))
    assert await outbox.settle(store, OWNER, [verdict]) == [mail_id]
    assert (await outbox_list.get(store, mail_id)).chores == ()
    assert await told(store) == []
    assert (await sent.get(store, mail_id)).state is SentState.SENT


async def test_chores_begin_with_the_verdict(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    later = utc_now() + timedelta(minutes=1)
    verdict = make_verdict(mail_id, SentState.SENT, bob=OK)
    await outbox.settle(store, OWNER, [replace(verdict, chores=(Chore.FILE, Chore.ANSWER), chores_due_at=later)])
    assert (await outbox_list.get(store, mail_id)).chores == (Chore.ANSWER, Chore.FILE)
    assert len(await rows_of(store, CHORES)) == 2


async def test_many_are_settled_at_once_each_in_its_way(store: Store, linked: Linked) -> None:
    ids = [await accept(store, linked) for _ in range(40)]
    await claim(store, linked)
    states = [(SentState.SENT, SentState.FAILED, SentState.DEFERRED, SentState.QUEUED)[n % 4] for n in range(40)]
    verdicts = [
        replace(make_verdict(mail_id, state, make_try(f"words {n}"), bob=OK), due_at=utc_now())
        for n, (mail_id, state) in enumerate(zip(ids, states, strict=True))
    ]
    assert set(await outbox.settle(store, OWNER, verdicts)) == set(ids)
    for n, (mail_id, state) in enumerate(zip(ids, states, strict=True)):
        entry = await outbox_list.entry(store, mail_id)
        released = state is SentState.QUEUED
        assert (entry.state, entry.reply, entry.attempts) == (
            state,
            None if released else f"words {n}",
            0 if released else 1,
        )
        assert (await sent.get(store, mail_id)).state is state
    assert len(await told(store)) == 30


async def test_a_lease_is_renewed_by_its_owner(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    first, second = await accept(store, linked), await accept(store, other)
    await accept(store, await link(store, "third"))
    await claim(store, linked, "run-1")
    await claim(store, other, "run-2")
    until = utc_now() + timedelta(hours=3)
    await outbox.renew(store, "run-1", until)
    held = await outbox.held(store)
    assert [(mail_id, owner) for mail_id, owner, _ in held] == [(first, "run-1"), (second, "run-2")]
    assert held[0][2] == until > held[1][2]
    assert [mail_id for mail_id, _, _ in await outbox.held(store, owners=["run-2", "run-9"])] == [second]
    assert await outbox.held(store, owners=[]) == []


async def test_what_an_owner_left_is_recovered_once(store: Store, linked: Linked) -> None:
    mail_id = await claimed(store, linked)
    verdict = replace(
        make_verdict(mail_id, SentState.UNKNOWN, make_try("lost", "SendUnknown")), chores=(Chore.RESOLVE,)
    )
    assert not await outbox.recover(store, mail_id, "run-2", verdict)
    async with asyncio.TaskGroup() as tasks:
        tries = [tasks.create_task(outbox.recover(store, mail_id, OWNER, verdict)) for _ in range(5)]
    assert sorted(one.result() for one in tries) == [False] * 4 + [True]
    assert (await outbox_list.get(store, mail_id)).chores == (Chore.RESOLVE,)
    assert await outbox.held(store) == []
    assert await messages_told(store) == ["unknown: lost"]


async def test_a_route_at_rest_puts_off_what_is_due(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    elsewhere = await accept(store, other)
    deferred = await bring(store, linked, SentState.DEFERRED)
    sending = await bring(store, linked, SentState.SENDING)
    waiting = [await accept(store, linked) for _ in range(3)]
    now = utc_now()
    until = now + timedelta(minutes=5)
    count = len(await told(store))
    tried = make_try("connection refused", "Unreachable", stage="connect")
    assert set(await outbox.postpone(store, route_of(linked), now, until, tried)) == set(waiting)
    for mail_id in waiting:
        record = await outbox_list.get(store, mail_id)
        entry = record.entry
        assert (entry.state, entry.due_at, entry.attempts, record.tries) == (SentState.DEFERRED, until, 0, ())
        assert (entry.kind, entry.stage, entry.reply) == ("Unreachable", "connect", "connection refused")
        row = await sent.get(store, mail_id)
        assert (row.state, row.reply) == (SentState.DEFERRED, "connection refused")
    assert len(await told(store)) == count
    assert (await outbox_list.entry(store, elsewhere)).state is SentState.QUEUED
    assert (await outbox_list.entry(store, sending)).state is SentState.SENDING
    assert (await outbox_list.entry(store, deferred)).reply == "the words of deferred"
    assert await outbox.postpone(store, route_of(linked), now, until, tried) == []


async def test_putting_off_until_now_ends(store: Store, linked: Linked) -> None:
    mail_id = await accept(store, linked)
    now = utc_now()
    assert await outbox.postpone(store, route_of(linked), now, now, make_try("a", "b")) == [mail_id]
    assert await outbox.postpone(store, route_of(linked), now, now, make_try("a", "b")) == []


async def test_at_rest_those_that_may_go_by_the_relay(store: Store, linked: Linked) -> None:
    stays, goes = await accept(store, linked), await accept(store, linked, use_fallback=True)
    now = utc_now()
    until, tried = now + timedelta(minutes=5), make_try("535", "AuthRefused")
    assert set(await outbox.postpone(store, route_of(linked), now, until, tried, relays=True)) == {stays, goes}
    assert set(await outbox.due(store, now)) == {(route_of(linked), until), (RELAY, now)}
    assert await outbox.postpone(store, RELAY, now, until, tried, relays=True) == [goes]
    entry = await outbox_list.entry(store, goes)
    assert (entry.route, entry.due_at) == (RELAY, until)


async def test_mails_whose_time_is_over_fail(store: Store, linked: Linked) -> None:
    fresh = await accept(store, linked)
    order = make_order(linked)
    now = utc_now()
    old = replace(order.sent, created_at=now - timedelta(days=5))
    await outbox.accept(store, replace(order, sent=old, expires_at=now))
    partly = await bring(store, linked, SentState.DEFERRED, bob=OK, cy=LATER)
    assert await outbox.expire(store, now) == [old.id]
    record = await outbox_list.get(store, old.id)
    words = "given up after 5 days"
    assert (record.entry.state, record.entry.reply, record.tries) == (SentState.FAILED, words, ())
    assert await states_of(store, old.id) == dict.fromkeys((BOB, CY), (Delivery.REFUSED, words))
    row = await sent.get(store, old.id)
    assert (row.state, row.reply, row.sent_at) == (SentState.FAILED, words, None)
    event = (await told(store))[-1]
    assert (event.status, event.size, event.message) == (EventStatus.CONNECTION_ERROR, 0, f"failed: {words}")
    later = now + timedelta(days=6, minutes=1)
    assert set(await outbox.expire(store, later)) == {fresh, partly}
    words = "given up after 6 days: the words of deferred"
    assert await states_of(store, partly) == {BOB: OK, CY: (Delivery.REFUSED, words)}
    assert (await outbox_list.entry(store, partly)).kind == "SendDeferred"
    assert await outbox.expire(store, later) == []


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-5), "0 seconds"),
        (timedelta(seconds=119), "119 seconds"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(hours=48), "2 days"),
    ],
)
async def test_how_long_it_took_is_said_in_its_unit(store: Store, linked: Linked, age: timedelta, words: str) -> None:
    order, now = make_order(linked), utc_now()
    await outbox.accept(store, replace(order, sent=replace(order.sent, created_at=now - age), expires_at=now))
    await outbox.expire(store, now)
    assert (await outbox_list.entry(store, order.sent.id)).reply == f"given up after {words}"


async def test_time_leaves_alone_what_does_not_wait(store: Store, linked: Linked) -> None:
    settled = {state: await bring(store, linked, state) for state in SentState if state not in WAITING}
    assert await outbox.expire(store, utc_now() + timedelta(days=99)) == []
    for state, mail_id in settled.items():
        assert (await outbox_list.entry(store, mail_id)).state is state


async def test_what_waits_for_a_removed_connector_fails(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    elsewhere = await accept(store, other)
    deferred = await bring(store, linked, SentState.DEFERRED)
    sending = await bring(store, linked, SentState.SENDING)
    queued = await accept(store, linked)
    await connectors.remove(store, linked.connector.id)
    failed = await outbox.fail_route(store, route_of(linked), "its connector was deleted")
    assert set(failed) == {queued, deferred}
    assert (await sent.get(store, queued)).reply == "its connector was deleted"
    assert set(await states_of(store, queued)) == {BOB, CY}
    for mail_id, state in (
        (deferred, SentState.FAILED),
        (sending, SentState.SENDING),
        (elsewhere, SentState.QUEUED),
    ):
        assert (await outbox_list.entry(store, mail_id)).state is state
    assert await outbox.fail_route(store, route_of(linked), "again") == []
    assert await outbox.fail_route(store, RouteId(uuid4()), "nothing") == []


async def test_a_mail_that_somebody_has_already_is_sent_when_the_rest_is_given_up(store: Store, linked: Linked) -> None:
    accepted, deferred = (Delivery.ACCEPTED, "250"), (Delivery.DEFERRED, "450")
    mail_id = await bring(store, linked, SentState.DEFERRED, bob=accepted, cy=deferred)
    assert await outbox.fail_route(store, route_of(linked), "gone") == [mail_id]
    row = await sent.get(store, mail_id)
    assert (row.state, row.reply) == (SentState.SENT, "gone")
    assert row.sent_at is not None
    assert await states_of(store, mail_id) == {BOB: (Delivery.ACCEPTED, "250"), CY: (Delivery.REFUSED, "gone")}


async def test_more_are_given_up_than_fit_into_a_transaction(store: Store, linked: Linked) -> None:
    order = make_order(linked, BOB)
    ids = [SentId(uuid4()) for _ in range(1001)]
    async with asyncio.TaskGroup() as tasks:
        for mail_id in ids:
            mail = replace(order, sent=replace(order.sent, id=mail_id))
            tasks.create_task(outbox.accept(store, mail))
    now = utc_now()
    postponed = await outbox.postpone(store, route_of(linked), now, now + timedelta(hours=1), make_try("x", "y"))
    assert set(postponed) == set(ids)
    assert set(await outbox.fail_route(store, route_of(linked), "gone")) == set(ids)
    assert len(await rows_of(store, OUTBOX)) == 1001
    assert (await outbox_list.census(store)).counts[SentState.FAILED] == 1001


async def test_what_was_handed_over_counts_against_the_limits(store: Store, linked: Linked) -> None:
    async def end(minutes: int, kind: str, via: Linked = linked) -> Try:
        mail_id = await claimed(store, via)
        state = SentState.FAILED if kind else SentState.SENT
        tried = make_try("words", kind, minutes=minutes)
        await outbox.settle(store, OWNER, [make_verdict(mail_id, state, tried)])
        return tried

    newer, older = await end(1, "SendUnknown"), await end(5, "")
    await end(2, "SendRefused")
    await end(90, "")
    await end(1, "", await link(store, "other"))
    since = utc_now() - timedelta(hours=1)
    assert await outbox.handed_over_since(store, route_of(linked), since) == [older.ended_at, newer.ended_at]
    assert await outbox.handed_over_since(store, route_of(linked), newer.ended_at) == [newer.ended_at]
    assert await outbox.handed_over_since(store, RELAY, since) == []
    assert await outbox_list.handed_over(store, route_of(linked), since, newer.ended_at) == (2, 1)
    assert await outbox_list.handed_over(store, RELAY, since, since) == (0, 0)
