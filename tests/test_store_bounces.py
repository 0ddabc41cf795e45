"""What delivery notices say of sent mails, kept by the transaction that stores the notices."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from inboxd.mails import Bounce, Digest
from inboxd.model import EventId, EventStatus, MessageFilter, SentId, SentState, Window
from inboxd.outbox import Chore, Delivery
from inboxd.store import connectors, messages, outbox, outbox_list, sent
from inboxd.store.engine import Store
from servers.orders import BOB, CY, OWNER, accept, bring, claim, make_try, make_verdict, messages_told, told
from servers.stores import Linked, link, make_incoming

OK = (Delivery.ACCEPTED, "250")
LOST = (Delivery.UNKNOWN, "lost")
NO_USER = "550 5.1.1 no such user"


async def bounce_of(
    store: Store, mail_id: SentId, recipient: str = BOB, action: str = "failed", status: str = "5.1.1"
) -> Bounce:
    message_id = (await sent.get(store, mail_id)).header_message_id
    return Bounce(message_id, recipient, action, status, NO_USER)


async def arrive(store: Store, linked: Linked, *bounces: Bounce, uid: int = 1) -> None:
    """A notice with these comes in as any mail does."""
    mail = make_incoming(uid, None, Digest(subject="Undelivered", bounces=bounces))
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, [mail])
    assert len(outcome.stored) + outcome.known == 1


async def sent_mail(store: Store, linked: Linked) -> SentId:
    return await bring(store, linked, SentState.SENT, bob=OK, cy=OK)


async def recipients(store: Store, mail_id: SentId) -> dict[str, tuple[Delivery, str | None]]:
    record = await outbox_list.get(store, mail_id)
    return {one.address: (one.state, one.reply) for one in record.recipients}


async def test_a_recipient_who_failed_has_bounced(store: Store, linked: Linked) -> None:
    mail_id, other = await sent_mail(store, linked), await sent_mail(store, linked)
    await arrive(store, linked, await bounce_of(store, mail_id))
    assert await recipients(store, mail_id) == {BOB: (Delivery.BOUNCED, NO_USER), CY: OK}
    assert await recipients(store, other) == {BOB: OK, CY: OK}
    assert (await outbox_list.entry(store, mail_id)).state is SentState.SENT
    event = (await told(store))[-1]
    assert (event.connector_id, event.status, event.size) == (linked.connector.id, EventStatus.NOT_FOUND, 0)
    assert event.message == f"bounced: {BOB}: {NO_USER}"


@pytest.mark.parametrize(
    ("action", "status", "state", "told_as", "words"),
    [
        ("failed", "5.1.10", Delivery.BOUNCED, EventStatus.NOT_FOUND, "bounced"),
        ("failed", "5.2.2", Delivery.BOUNCED, EventStatus.CONNECTION_ERROR, "bounced"),
        ("failed", "4.4.7", Delivery.BOUNCED, EventStatus.CONNECTION_ERROR, "bounced"),
        ("failed", "", Delivery.BOUNCED, EventStatus.CONNECTION_ERROR, "bounced"),
        ("delayed", "4.4.1", Delivery.ACCEPTED, EventStatus.CONNECTION_ERROR, "delayed"),
        ("delivered", "2.0.0", Delivery.ACCEPTED, EventStatus.SUCCESS, "delivered"),
        ("relayed", "2.0.0", Delivery.ACCEPTED, EventStatus.SUCCESS, "relayed"),
        ("expanded", "2.0.0", Delivery.ACCEPTED, EventStatus.SUCCESS, "expanded"),
    ],
)
async def test_actions_decide_what_is_kept_and_told(
    store: Store, linked: Linked, action: str, status: str, state: Delivery, told_as: EventStatus, words: str
) -> None:
    mail_id = await sent_mail(store, linked)
    await arrive(store, linked, await bounce_of(store, mail_id, BOB, action, status))
    assert (await recipients(store, mail_id))[BOB][0] is state
    event = (await told(store))[-1]
    assert (event.status, event.message) == (told_as, f"{words}: {BOB}: {NO_USER}")


async def test_addresses_are_compared_in_one_case(store: Store, linked: Linked) -> None:
    mail_id = await accept(store, linked, "Bob@Example.com", "Grüße@example.com")
    await claim(store, linked)
    verdict = make_verdict(mail_id, SentState.SENT, make_try())
    both = {"Bob@Example.com": OK, "Grüße@example.com": OK}
    await outbox.settle(store, OWNER, [replace(verdict, recipients=both)])
    notices = [await bounce_of(store, mail_id, address) for address in ("bOB@eXAMPLE.com", "GRÜSSE@example.com")]
    await arrive(store, linked, *notices)
    assert {state for state, _ in (await recipients(store, mail_id)).values()} == {Delivery.BOUNCED}


async def test_repeats_change_nothing(store: Store, linked: Linked) -> None:
    mail_id = await sent_mail(store, linked)
    bounce = await bounce_of(store, mail_id)
    await arrive(store, linked, bounce, bounce)
    before, events = await outbox_list.get(store, mail_id), await told(store)
    await arrive(store, linked, bounce)
    await arrive(store, linked, replace(bounce, words="again", recipient=BOB.upper()), uid=2)
    await arrive(store, linked, replace(bounce, action="delivered"), uid=3)
    assert await outbox_list.get(store, mail_id) == before
    assert await told(store) == events


async def test_a_notice_that_is_stored_already_is_not_read_again(store: Store, linked: Linked) -> None:
    mail_id = await sent_mail(store, linked)
    bounce = await bounce_of(store, mail_id, action="delayed")
    for _ in range(2):
        await arrive(store, linked, bounce)
    assert (await messages_told(store))[1:] == [f"delayed: {BOB}: {NO_USER}"]


async def test_what_a_notice_does_not_concern_stays(store: Store, linked: Linked) -> None:
    other = await link(store, "other")
    mail_id, elsewhere = await sent_mail(store, linked), await sent_mail(store, other)
    events = await told(store)
    bounce = await bounce_of(store, mail_id)
    await arrive(
        store,
        linked,
        replace(bounce, message_id="unknown@example.com"),
        replace(bounce, message_id=bounce.message_id.upper()),
        replace(bounce, recipient="nobody@example.com"),
        await bounce_of(store, elsewhere),
    )
    assert await recipients(store, mail_id) == await recipients(store, elsewhere) == {BOB: OK, CY: OK}
    assert await told(store) == events
    assert await messages.count(store, MessageFilter()) == 1


@pytest.mark.parametrize("state", [Delivery.PENDING, Delivery.DEFERRED, Delivery.REFUSED, Delivery.BOUNCED])
async def test_only_who_was_thought_to_have_it_can_bounce(store: Store, linked: Linked, state: Delivery) -> None:
    mail_id = await bring(store, linked, SentState.DEFERRED, bob=(state, "words"), cy=OK)
    await arrive(store, linked, await bounce_of(store, mail_id), await bounce_of(store, mail_id, CY))
    assert await recipients(store, mail_id) == {BOB: (state, "words"), CY: (Delivery.BOUNCED, NO_USER)}
    assert (await outbox_list.entry(store, mail_id)).state is SentState.DEFERRED


async def unknown(store: Store, linked: Linked, **learnt: tuple[Delivery, str]) -> SentId:
    mail_id = await accept(store, linked)
    await claim(store, linked)
    verdict = make_verdict(mail_id, SentState.UNKNOWN, make_try("lost", "SendUnknown"), **learnt)
    await outbox.settle(store, OWNER, [replace(verdict, chores=(Chore.RESOLVE,))])
    return mail_id


@pytest.mark.parametrize(
    ("action", "state", "words"),
    [("failed", Delivery.BOUNCED, "bounced"), ("delivered", Delivery.ACCEPTED, "delivered")],
)
async def test_a_notice_shows_that_an_unknown_mail_was_taken(
    store: Store, linked: Linked, action: str, state: Delivery, words: str
) -> None:
    mail_id = await unknown(store, linked, bob=LOST, cy=LOST)
    await arrive(store, linked, await bounce_of(store, mail_id, BOB, action))
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.chores) == (SentState.SENT, ())
    assert [one.state for one in record.recipients] == [state, Delivery.ACCEPTED]
    row = await sent.get(store, mail_id)
    assert (row.state, row.sent_at) == (SentState.SENT, record.tries[-1].ended_at)
    assert (await messages_told(store))[1:] == [
        "sent: a delivery notice shows that the server took the mail",
        f"{words}: {BOB}: {NO_USER}",
    ]


async def test_a_notice_about_an_earlier_try_shows_nothing_of_the_last(store: Store, linked: Linked) -> None:
    mail_id = await unknown(store, linked, bob=OK, cy=LOST)
    await arrive(store, linked, await bounce_of(store, mail_id))
    record = await outbox_list.get(store, mail_id)
    assert (record.entry.state, record.chores) == (SentState.UNKNOWN, (Chore.RESOLVE,))
    assert [one.state for one in record.recipients] == [Delivery.BOUNCED, Delivery.UNKNOWN]


async def test_a_notice_and_its_mail_are_stored_together(store: Store, linked: Linked) -> None:
    ids = [await sent_mail(store, linked) for _ in range(3)]
    batch = [
        make_incoming(uid, None, Digest(bounces=(await bounce_of(store, mail_id),)))
        for uid, mail_id in enumerate(ids, 1)
    ]
    event_id = EventId(uuid4())
    await messages.add_batch(store, linked.place, linked.inbox.id, batch, last_uid=3, event_id=event_id)
    for mail_id in ids:
        assert (await recipients(store, mail_id))[BOB] == (Delivery.BOUNCED, NO_USER)
    (message, *_) = (await messages.page(store, MessageFilter(), Window())).rows
    assert message.digest.bounces == ()


async def test_more_notices_than_a_query_takes_are_all_read(store: Store, linked: Linked) -> None:
    mail_id = await sent_mail(store, linked)
    bounce = await bounce_of(store, mail_id)
    others = [replace(bounce, message_id=f"{number}@example.com") for number in range(2500)]
    await arrive(store, linked, *others[:2200], bounce, *others[2200:])
    assert (await recipients(store, mail_id))[BOB][0] is Delivery.BOUNCED


async def test_a_deleted_mail_has_no_notices(store: Store, linked: Linked) -> None:
    mail_id = await sent_mail(store, linked)
    bounce = await bounce_of(store, mail_id)
    await sent.remove(store, mail_id)
    await arrive(store, linked, bounce)
    assert len(await told(store)) == 1


async def test_a_mail_of_a_removed_connector_is_nobodys(store: Store, linked: Linked) -> None:
    mail_id = await sent_mail(store, linked)
    bounce = await bounce_of(store, mail_id)
    await connectors.remove(store, linked.connector.id)
    await arrive(store, await link(store, "other"), bounce)
    assert (await recipients(store, mail_id))[BOB] == OK
