"""The outbox listed, counted, and what people decide about the mails in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd.errors import Conflict, NotFound
from inboxd.model import SentId, SentState, Window, utc_now
from inboxd.outbox import RELAY, SETTLED, WAITING, Chore, Delivery, Entry
from inboxd.store import connectors, outbox, outbox_list, sent
from inboxd.store.engine import Store
from servers.orders import OWNER, accept, bring, claim, make_order, make_try, make_verdict, told
from servers.stores import MORNING, Linked, link

Decision = Callable[[Store, SentId], Awaitable[Entry]]
DAY = timedelta(days=1)


async def retry(store: Store, mail_id: SentId) -> Entry:
    now = utc_now()
    return await outbox_list.retry(store, mail_id, now, now + DAY)


async def unknown(store: Store, linked: Linked, **learnt: tuple[Delivery, str]) -> SentId:
    """A mail of unknown outcome that is to be resolved."""
    mail_id = await bring(store, linked, SentState.SENDING, *(f"{name}@example.com" for name in learnt))
    verdict = make_verdict(mail_id, SentState.UNKNOWN, make_try("lost", "SendUnknown"), **learnt)
    await outbox.settle(store, OWNER, [replace(verdict, chores=(Chore.RESOLVE, Chore.ANSWER))])
    return mail_id


async def recipients(store: Store, mail_id: SentId) -> dict[str, Delivery]:
    return {one.address.partition("@")[0]: one.state for one in (await outbox_list.get(store, mail_id)).recipients}


async def test_pages_are_of_states_a_connector_a_span_and_an_order(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    made: list[SentId] = []
    for number in range(6):
        order = make_order(linked if number < 4 else other)
        mail = replace(order.sent, created_at=MORNING + timedelta(minutes=number), subject=f"mail {number}")
        made.append((await outbox.accept(store, replace(order, sent=mail))).id)
    for number in (1, 4):
        await outbox_list.cancel(store, made[number])

    async def listed(window: Window, *states: SentState, of: Linked | None = None) -> tuple[list[int], int]:
        connector_id = of.connector.id if of else None
        page = await outbox_list.page(store, window, states=states, connector_id=connector_id)
        for row in page.rows:
            assert row.subject == f"mail {made.index(row.id)}"
            assert row == await outbox_list.entry(store, row.id)
        return [made.index(row.id) for row in page.rows], page.total

    assert await listed(Window()) == ([0, 1, 2, 3, 4, 5], 6)
    assert await listed(Window(1, 2, ascending=False)) == ([3, 2], 6)
    assert await listed(Window(2, 2)) == ([4, 5], 6)
    assert await listed(Window(9, 2)) == ([], 6)
    assert await listed(Window(), SentState.CANCELLED) == ([1, 4], 2)
    assert await listed(Window(), SentState.CANCELLED, SentState.SENT, of=other) == ([4], 1)
    assert await listed(Window(), of=other) == ([4, 5], 2)
    assert await listed(Window(), SentState.FAILED) == ([], 0)
    span = Window(since=MORNING + timedelta(minutes=1), before=MORNING + timedelta(minutes=4))
    assert await listed(span, SentState.QUEUED) == ([2, 3], 2)


async def test_mails_stay_listed_without_their_connector(store: Store, linked: Linked) -> None:
    mail_id = await accept(store, linked)
    await connectors.remove(store, linked.connector.id)
    (row,) = (await outbox_list.page(store, Window())).rows
    assert (row.id, row.connector_id) == (mail_id, None)
    assert (await outbox_list.page(store, Window(), connector_id=linked.connector.id)).total == 0


async def test_the_census_counts_all_that_is_not_over(store: Store, linked: Linked) -> None:
    empty = await outbox_list.census(store)
    assert empty.oldest_waiting is None
    assert empty.counts == {state: 0 for state in SentState if state not in (SentState.SENT, SentState.CANCELLED)}
    for state in SentState:
        await bring(store, await link(store, state.value), state)
    deferred = await bring(store, await link(store, "again"), SentState.DEFERRED)
    order = make_order(linked)
    old = replace(order.sent, created_at=MORNING)
    await outbox.accept(store, replace(order, sent=old))
    counts = dict.fromkeys(empty.counts, 1) | {SentState.DEFERRED: 2, SentState.QUEUED: 2}
    census = await outbox_list.census(store)
    assert (census.counts, census.oldest_waiting) == (counts, MORNING)
    await outbox_list.cancel(store, old.id)
    await outbox_list.cancel(store, deferred)
    assert (await outbox_list.census(store)).counts == dict.fromkeys(empty.counts, 1)


@pytest.mark.parametrize("state", sorted(WAITING, key=str))
async def test_a_waiting_mail_is_due_at_once_when_asked(store: Store, linked: Linked, state: SentState) -> None:
    mail_id = await bring(store, linked, state, bob=(Delivery.DEFERRED, "451"))
    before = await outbox_list.get(store, mail_id)
    now = utc_now()
    entry = await outbox_list.retry(store, mail_id, now, now + DAY)
    assert entry == replace(before.entry, due_at=now)
    assert await outbox_list.get(store, mail_id) == replace(before, entry=entry)
    assert [job.id for job in await claim(store, linked)] == [mail_id]


async def test_a_mail_given_up_goes_to_those_who_have_not_got_it(store: Store, linked: Linked) -> None:
    learnt = {state.value: (state, "said") for state in Delivery}
    mail_id = await unknown(store, linked, **learnt)
    now = utc_now()
    entry = await outbox_list.retry(store, mail_id, now, now + DAY)
    assert (entry.state, entry.due_at, entry.expires_at) == (SentState.QUEUED, now, now + DAY)
    assert await recipients(store, mail_id) == {
        "pending": Delivery.PENDING,
        "deferred": Delivery.PENDING,
        "accepted": Delivery.ACCEPTED,
        "refused": Delivery.PENDING,
        "unknown": Delivery.PENDING,
        "bounced": Delivery.BOUNCED,
    }
    assert (await outbox_list.get(store, mail_id)).chores == (Chore.ANSWER,)
    assert (await sent.get(store, mail_id)).state is SentState.QUEUED
    (job,) = await claim(store, linked)
    assert job.recipients == tuple(f"{name}@example.com" for name in ("pending", "deferred", "refused", "unknown"))


@pytest.mark.parametrize("state", [SentState.FAILED, SentState.CANCELLED, SentState.UNKNOWN])
async def test_what_is_over_can_be_sent_again(store: Store, linked: Linked, state: SentState) -> None:
    mail_id = await bring(store, linked, state)
    assert (await retry(store, mail_id)).state is SentState.QUEUED
    assert [job.id for job in await claim(store, linked)] == [mail_id]


@pytest.mark.parametrize("state", [SentState.SENDING, SentState.SENT])
async def test_what_is_sent_is_not_sent_again(store: Store, linked: Linked, state: SentState) -> None:
    mail_id = await bring(store, linked, state)
    with pytest.raises(Conflict, match="it is being sent at this moment" if state is SentState.SENDING else "already"):
        await retry(store, mail_id)
    assert (await outbox_list.entry(store, mail_id)).state is state


async def test_a_mail_that_has_reached_everybody_is_not_sent_again(store: Store, linked: Linked) -> None:
    learnt = {"bob": (Delivery.ACCEPTED, "250"), "cy": (Delivery.BOUNCED, "5.1.1")}
    mail_id = await unknown(store, linked, **learnt)
    with pytest.raises(Conflict, match="each of its recipients"):
        await retry(store, mail_id)
    assert (await outbox_list.get(store, mail_id)).chores == (Chore.ANSWER, Chore.RESOLVE)


async def test_a_mail_without_a_connector_is_only_sent_again_by_the_relay(store: Store, linked: Linked) -> None:
    own, relayed = await accept(store, linked), await accept(store, linked, route=RELAY)
    for mail_id in (own, relayed):
        await outbox_list.cancel(store, mail_id)
    await connectors.remove(store, linked.connector.id)
    with pytest.raises(Conflict, match="its connector was deleted"):
        await retry(store, own)
    assert (await retry(store, relayed)).state is SentState.QUEUED


@pytest.mark.parametrize(
    ("decide", "able", "words"),
    [
        (outbox_list.cancel, WAITING, "cancelled"),
        (outbox_list.drop, {SentState.UNKNOWN, SentState.FAILED}, "dropped by the operator"),
    ],
)
@pytest.mark.parametrize("state", SentState)
async def test_decisions_are_carried_out_or_refused_by_state(
    store: Store, linked: Linked, decide: Decision, able: set[SentState], words: str, state: SentState
) -> None:
    mail_id = await bring(store, linked, state)
    before = await outbox_list.get(store, mail_id)
    if state not in able:
        with pytest.raises(Conflict, match=f"mail {mail_id}: .*(sent|failed|taken|given up|waits)"):
            await decide(store, mail_id)
        assert await outbox_list.get(store, mail_id) == before
        return
    entry = await decide(store, mail_id)
    assert entry == replace(before.entry, state=SentState.CANCELLED, reply=words)
    row = await sent.get(store, mail_id)
    assert (row.state, row.reply, row.sent_at) == (SentState.CANCELLED, words, None)
    assert await claim(store, linked) == []


async def test_a_dropped_mail_is_not_looked_for_any_more(store: Store, linked: Linked) -> None:
    mail_id = await unknown(store, linked, bob=(Delivery.UNKNOWN, "lost"))
    events = len(await told(store))
    await outbox_list.drop(store, mail_id)
    assert (await outbox_list.get(store, mail_id)).chores == (Chore.ANSWER,)
    assert len(await told(store)) == events


@pytest.mark.parametrize("decide", [retry, outbox_list.cancel, outbox_list.drop, outbox_list.get, outbox_list.entry])
async def test_what_is_not_in_the_outbox_is_not_found(store: Store, linked: Linked, decide: Decision) -> None:
    with pytest.raises(NotFound, match="in the outbox"):
        await decide(store, SentId(uuid4()))


async def test_a_mail_is_either_cancelled_or_claimed(store: Store, linked: Linked) -> None:
    ids = [await accept(store, linked) for _ in range(20)]
    cancelled: set[SentId] = set()

    async def cancel(mail_id: SentId) -> None:
        try:
            await outbox_list.cancel(store, mail_id)
            cancelled.add(mail_id)
        except Conflict:
            pass

    async with asyncio.TaskGroup() as tasks:
        claims = [tasks.create_task(claim(store, linked, most_count=2)) for _ in range(5)]
        for mail_id in reversed(ids):
            tasks.create_task(cancel(mail_id))
        claims += [tasks.create_task(claim(store, linked, most_count=2)) for _ in range(5)]
    claimed = {job.id for task in claims for job in task.result()}
    assert not claimed & cancelled
    assert claimed | cancelled == set(ids)
    for mail_id in ids:
        state = SentState.CANCELLED if mail_id in cancelled else SentState.SENDING
        assert (await outbox_list.entry(store, mail_id)).state is state


async def test_settled_and_waiting_are_apart(store: Store, linked: Linked) -> None:
    assert SETTLED | WAITING | {SentState.SENDING} == set(SentState)
