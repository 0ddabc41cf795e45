"""What is to be done over IMAP after a send: due, taken, put off, done, and what the look for a lost mail decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from inboxd.model import EventStatus, MessageFilter, MessageId, SentId, SentState, Window, utc_now
from inboxd.outbox import Chore, Delivery, Task
from inboxd.store import chores, connectors, messages, outbox, outbox_list, sent
from inboxd.store.engine import Store
from inboxd.store.schema_outbox import CHORES
from servers.orders import BOB, CY, OWNER, accept, bring, claim, make_try, make_verdict, rows_of, told
from servers.stores import Linked, add_mails, link

LOST = (Delivery.UNKNOWN, "lost")
OK = (Delivery.ACCEPTED, "250")


async def settled(
    store: Store, linked: Linked, *wanted: Chore, state: SentState = SentState.SENT, due_at: datetime | None = None,
    answers: MessageId | None = None, to: tuple[str, ...] = (BOB, CY), **learnt: tuple[Delivery, str],
) -> SentId:  # fmt: skip
    """A mail that was tried, and after which these are to be done."""
    mail_id = await accept(store, linked, *to, answers=answers)
    assert [job.id for job in await claim(store, linked)] == [mail_id]
    kind = "SendUnknown" if state is SentState.UNKNOWN else ""
    verdict = make_verdict(mail_id, state, make_try("the words", kind, minutes=3), **learnt)
    await outbox.settle(store, OWNER, [replace(verdict, chores=wanted, chores_due_at=due_at)])
    return mail_id


async def taken(store: Store, linked: Linked, most: int = 99) -> list[Task]:
    return await chores.take(store, linked.connector.id, utc_now(), most)


async def deliveries(store: Store, mail_id: SentId) -> list[Delivery]:
    return [one.state for one in (await outbox_list.get(store, mail_id)).recipients]


async def test_connectors_are_due_when_their_first_chore_is(store: Store, linked: Linked) -> None:
    assert await chores.due(store, utc_now()) == []
    other = await link(store, "other")
    later = utc_now() + timedelta(minutes=5)
    await settled(store, linked, Chore.FILE, due_at=later)
    await settled(store, linked, Chore.FILE, due_at=later + timedelta(minutes=1))
    await settled(store, other, Chore.ANSWER, due_at=later)
    now = utc_now()
    assert await chores.due(store, now) == [(other.connector.id, now), (linked.connector.id, later)]


async def test_what_is_due_is_taken_longest_due_first(store: Store, linked: Linked) -> None:
    now = utc_now()
    second = await settled(store, linked, Chore.FILE, due_at=now - timedelta(minutes=1))
    first = await settled(store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, due_at=now - timedelta(minutes=2))
    await settled(store, linked, Chore.FILE, due_at=now + timedelta(minutes=5))
    await settled(store, await link(store, "other"), Chore.FILE)
    tasks = await taken(store, linked)
    assert [(task.sent_id, task.chore) for task in tasks] == [(first, Chore.RESOLVE), (second, Chore.FILE)]
    assert await taken(store, linked, 1) == tasks[:1]
    assert await taken(store, linked) == tasks


async def test_a_task_knows_its_mail(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 7)
    (message,) = (await messages.page(store, MessageFilter(), Window())).rows
    before = utc_now()
    mail_id = await settled(store, linked, Chore.ANSWER, answers=message.id)
    entry = await outbox_list.entry(store, mail_id)
    (task,) = await taken(store, linked)
    assert before <= task.created_at <= utc_now()
    assert task == Task(
        sent_id=mail_id,
        connector_id=linked.connector.id,
        chore=Chore.ANSWER,
        attempts=0,
        created_at=task.created_at,
        header_message_id=entry.header_message_id,
        smtp_host="smtp.example.com",
        sent_after=entry.created_at,
        self_addressed=False,
        answers=("INBOX", 1000, 7),
        ambiguous=False,
    )


async def test_an_answered_mail_that_is_gone_is_left_out(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 7)
    (message,) = (await messages.page(store, MessageFilter(), Window())).rows
    await settled(store, linked, Chore.ANSWER, answers=message.id)
    await messages.remove(store, message.id)
    await settled(store, linked, Chore.ANSWER, answers=MessageId(uuid4()))
    assert [task.answers for task in await taken(store, linked)] == [None, None]


async def test_an_answered_mail_in_another_connectors_mailbox_is_left_out(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    await add_mails(store, other, 7)
    (message,) = (await messages.page(store, MessageFilter(), Window())).rows
    assert message.connector_id == other.connector.id
    await settled(store, linked, Chore.ANSWER, answers=message.id)
    assert [task.answers for task in await taken(store, linked)] == [None]


@pytest.mark.parametrize(
    ("to", "own"), [((BOB, "WORK@Example.com"), True), ((BOB, "work@example.org"), False), ((BOB,), False)]
)
async def test_mails_to_the_connectors_own_address_are_known(
    store: Store, linked: Linked, to: tuple[str, ...], own: bool
) -> None:
    await settled(store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, to=to)
    assert [task.self_addressed for task in await taken(store, linked)] == [own]


@pytest.mark.parametrize(
    ("bob", "cy", "ambiguous"),
    [(OK, LOST, True), (LOST, LOST, False), (OK, OK, False), ((Delivery.REFUSED, ""), LOST, False)],
)
async def test_a_mail_that_some_got_earlier_is_ambiguous(
    store: Store, linked: Linked, bob: tuple[Delivery, str], cy: tuple[Delivery, str], ambiguous: bool
) -> None:
    await settled(store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, bob=bob, cy=cy)
    assert [task.ambiguous for task in await taken(store, linked)] == [ambiguous]


async def test_a_chore_that_is_done_is_gone_and_no_other(store: Store, linked: Linked) -> None:
    first = await settled(store, linked, Chore.FILE, Chore.ANSWER)
    second = await settled(store, linked, Chore.FILE)
    await chores.done(store, first, Chore.FILE)
    await chores.done(store, first, Chore.FILE)
    await chores.done(store, SentId(uuid4()), Chore.FILE)
    left = {(task.sent_id, task.chore) for task in await taken(store, linked)}
    assert left == {(first, Chore.ANSWER), (second, Chore.FILE)}


async def test_a_chore_that_failed_is_due_later_and_counted(store: Store, linked: Linked) -> None:
    mail_id = await settled(store, linked, Chore.FILE)
    later = utc_now() + timedelta(minutes=5)
    await chores.again(store, mail_id, Chore.FILE, later, "NO over quota")
    await chores.again(store, mail_id, Chore.ANSWER, later, "not there")
    assert await taken(store, linked) == []
    assert await chores.due(store, utc_now()) == [(linked.connector.id, later)]
    (task,) = await chores.take(store, linked.connector.id, later, 9)
    assert (task.attempts, task.chore) == (1, Chore.FILE)
    assert (await outbox_list.get(store, mail_id)).chores == (Chore.FILE,)


async def test_chores_go_with_their_connector(store: Store, linked: Linked) -> None:
    mail_id = await settled(store, linked, Chore.FILE)
    await connectors.remove(store, linked.connector.id)
    assert await rows_of(store, CHORES) == []
    assert await taken(store, linked) == []
    assert (await outbox_list.entry(store, mail_id)).state is SentState.SENT


async def test_a_mail_that_was_found_is_sent(store: Store, linked: Linked) -> None:
    refused = (Delivery.REFUSED, "550")
    to = (BOB, CY, "dora@example.com")
    mail_id = await settled(
        store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, to=to, bob=LOST, cy=refused, dora=LOST
    )
    assert await chores.resolved(store, mail_id, "found in Sent")
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.entry.reply, record.chores) == (SentState.SENT, "found in Sent", ())
    assert await deliveries(store, mail_id) == [Delivery.ACCEPTED, Delivery.REFUSED, Delivery.ACCEPTED]
    row = await sent.get(store, mail_id)
    assert (row.state, row.reply, row.sent_at) == (SentState.SENT, "found in Sent", record.tries[-1].ended_at)
    event = (await told(store))[-1]
    assert (event.status, event.size, event.message) == (EventStatus.SUCCESS, 1, "sent: found in Sent")
    assert not await chores.resolved(store, mail_id, "found again")
    assert len(await told(store)) == 2


async def test_a_mail_not_found_stays_unknown(store: Store, linked: Linked) -> None:
    mail_id = await settled(store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, bob=LOST, cy=LOST)
    assert await chores.unresolved(store, mail_id, "not in Sent", resend_at=None)
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.entry.reply, record.chores) == (SentState.UNKNOWN, "not in Sent", ())
    assert await deliveries(store, mail_id) == [Delivery.UNKNOWN] * 2
    row = await sent.get(store, mail_id)
    assert (row.state, row.reply, row.sent_at) == (SentState.UNKNOWN, "not in Sent", None)
    event = (await told(store))[-1]
    assert (event.status, event.size, event.message) == (EventStatus.CONNECTION_ERROR, 0, "unknown: not in Sent")
    assert await chores.unresolved(store, mail_id, "still not", resend_at=None)


async def test_a_mail_not_found_is_sent_again_where_that_is_wanted(store: Store, linked: Linked) -> None:
    mail_id = await settled(store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, bob=LOST, cy=OK)
    at = utc_now()
    assert await chores.unresolved(store, mail_id, "not in Sent", resend_at=at)
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.entry.due_at, record.chores) == (SentState.QUEUED, at, ())
    assert (await sent.get(store, mail_id)).state is SentState.QUEUED
    assert (await told(store))[-1].message == "queued: not in Sent"
    assert [job.recipients for job in await claim(store, linked)] == [(BOB,)]
    again = make_verdict(mail_id, SentState.UNKNOWN, make_try("lost", "SendUnknown"), bob=LOST)
    await outbox.settle(store, OWNER, [replace(again, chores=(Chore.RESOLVE,))])
    assert [(task.chore, task.attempts, task.ambiguous) for task in await taken(store, linked)] == [
        (Chore.RESOLVE, 0, True)
    ]


@pytest.mark.parametrize("state", [state for state in SentState if state is not SentState.UNKNOWN])
async def test_only_unknown_mails_are_resolved(store: Store, linked: Linked, state: SentState) -> None:
    mail_id = await bring(store, linked, state)
    before, events = await outbox_list.get(store, mail_id), len(await told(store))
    assert not await chores.resolved(store, mail_id, "found")
    assert not await chores.unresolved(store, mail_id, "not found", resend_at=utc_now())
    assert await outbox_list.get(store, mail_id) == before
    assert len(await told(store)) == events


async def test_nothing_is_resolved_that_is_gone(store: Store, linked: Linked) -> None:
    assert not await chores.resolved(store, SentId(uuid4()), "found")
    assert not await chores.unresolved(store, SentId(uuid4()), "not found", resend_at=None)


async def test_a_mail_without_a_connector_is_resolved_without_an_event(store: Store, linked: Linked) -> None:
    mail_id = await settled(store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, bob=LOST)
    await connectors.remove(store, linked.connector.id)
    assert await chores.resolved(store, mail_id, "found")
    assert (await outbox_list.entry(store, mail_id)).state is SentState.SENT
    assert await told(store) == []


async def test_a_mail_found_to_be_sent_marks_what_it_answers(store: Store, linked: Linked) -> None:
    await add_mails(store, linked, 7)
    (message,) = (await messages.page(store, MessageFilter(), Window())).rows
    mail_id = await settled(
        store, linked, Chore.RESOLVE, state=SentState.UNKNOWN, answers=message.id, bob=LOST, cy=LOST
    )
    assert await chores.resolved(store, mail_id, "found")
    assert [task.chore for task in await taken(store, linked)] == [Chore.ANSWER]
