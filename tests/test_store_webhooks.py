"""Webhooks in the store: what is to be posted is put in with what happened, and leaves when it was posted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd.errors import NotFound
from inboxd.mails import Address, Attachment, Digest
from inboxd.model import AttachmentId, InboxId, MessageFilter, MessageId, Window, utc_now
from inboxd.store import connectors, deliveries, inboxes, marks, messages, webhooks
from inboxd.store.engine import Store
from inboxd.webhooks import (
    UNHEALTHY_AFTER,
    Delivery,
    Result,
    ResultFilter,
    ResultType,
    Webhook,
    WebhookEvent,
    WebhookFilter,
    WebhookId,
)
from servers.stores import Linked, link, make_incoming

FILE = Attachment(AttachmentId(uuid4()), 0, "a\x00.txt", "text/plain", 3, "cid")
IMAGE = Attachment(AttachmentId(uuid4()), 1, "b.png", "image/png", 9)
ADA = Address("Ada <ada@example.com>", "ada@example.com", "Ada")
BOB = Address("bob@example.com", "bob@example.com")
WITH_FILES = Digest(subject="two \ud800 files", sender=ADA, to=(BOB,), cc=(ADA,), attachments=(FILE, IMAGE))


def make_webhook(inbox_id: InboxId | None, event: WebhookEvent = WebhookEvent.NEW_EMAIL, name: str = "hook") -> Webhook:
    now = utc_now()
    return Webhook(
        WebhookId(uuid4()), now, now, f"http://127.0.0.1:9/{name}", event, inbox_id, name, sealed_password=b"\x01\xff"
    )


async def add(
    store: Store, inbox_id: InboxId | None, event: WebhookEvent = WebhookEvent.NEW_EMAIL, name: str = "hook"
) -> Webhook:
    webhook = make_webhook(inbox_id, event, name)
    await webhooks.add(store, webhook)
    return webhook


async def due(store: Store, webhook: Webhook) -> list[Delivery]:
    """What is due for the webhook, in order; all of it is taken out."""
    found: list[Delivery] = []
    while (job := await deliveries.next_due(store, webhook.id, utc_now())) is not None:
        found.append(job[1])
        await deliveries.settle(store, make_result(*job), None, ok=True)
    return found


def make_result(
    webhook: Webhook, delivery: Delivery, type: ResultType = ResultType.SUCCESS, status: int | None = 200
) -> Result:
    return Result(
        uuid4(), webhook.id, delivery.id, utc_now(), type, delivery.event, webhook.url, status, 12, "words",
        delivery.inbox_id, delivery.message_id, delivery.attachment_id,
    )  # fmt: skip


async def deliver(store: Store, linked: Linked, *digests: Digest | None, first: int = 1) -> list[MessageId]:
    batch = [make_incoming(uid, digest=digest) for uid, digest in enumerate(digests, first)]
    outcome = await messages.add_batch(store, linked.place, linked.inbox.id, batch, last_uid=first + len(batch) - 1)
    return [stored.id for stored in outcome.stored]


async def test_webhook_comes_back_as_it_was_put_in(store: Store, linked: Linked) -> None:
    webhook = replace(
        make_webhook(linked.inbox.id), username="me", header_names=("X-A",), sealed_headers=b"\x00", verify_tls=False,
        tags=("t",), use_static_ip_range=True,
    )  # fmt: skip
    await webhooks.add(store, webhook)
    assert await webhooks.get(store, webhook.id) == webhook


async def test_each_new_mail_waits_for_each_webhook_of_its_inbox_and_of_all(store: Store, linked: Linked) -> None:
    own, wide = await add(store, linked.inbox.id), await add(store, None, WebhookEvent.EMAIL_RECEIVED)
    other = await add(store, (await link(store, "other")).inbox.id)
    ids = await deliver(store, linked, None, WITH_FILES, None)
    for webhook in (own, wide):
        found = await due(store, webhook)
        assert [one.message_id for one in found] == ids
        assert {one.event for one in found} == {webhook.event}
        assert len({one.id for one in found}) == 3
    assert await due(store, other) == []
    assert await deliveries.count(store) == 0


async def test_delivery_is_a_snapshot_of_the_mail(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    (message_id,) = await deliver(store, linked, WITH_FILES)
    await messages.remove(store, message_id)
    await webhooks.change(store, replace(webhook, name="renamed"))
    (found,) = await due(store, webhook)
    assert (found.webhook_name, found.inbox_id, found.message_id) == ("hook", linked.inbox.id, message_id)
    assert (found.sender, found.to, found.cc, found.bcc) == (
        "ada@example.com", ("bob@example.com",), ("ada@example.com",), ()
    )  # fmt: skip
    assert found.subject == "two \ufffd files"
    assert found.attachments == (replace(FILE, name="a\ufffd.txt"), IMAGE)


async def test_each_attachment_waits_by_itself(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id, WebhookEvent.NEW_ATTACHMENT)
    await deliver(store, linked, None, WITH_FILES)
    found = await due(store, webhook)
    assert [one.attachment_id for one in found] == [FILE.id, IMAGE.id]
    assert len({one.id for one in found}) == 2


async def test_what_was_there_already_is_not_announced_again(store: Store, linked: Linked) -> None:
    await deliver(store, linked, None)
    webhook = await add(store, linked.inbox.id)
    await deliver(store, linked, None)
    batch = [make_incoming(1)]
    renumbered = replace(linked.place, uidvalidity=2000)
    assert (await messages.add_batch(store, renumbered, linked.inbox.id, batch)).remapped == 1
    assert await due(store, webhook) == []


async def test_nothing_waits_for_a_disabled_webhook(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await deliver(store, linked, None)
    await webhooks.change(store, replace(webhook, enabled=False))
    assert await deliveries.waiting(store) == []
    assert await deliveries.next_due(store, webhook.id, utc_now()) is None
    await deliver(store, linked, None, first=2)
    await webhooks.change(store, replace(webhook, enabled=True))
    assert len(await due(store, webhook)) == 1


async def test_mail_of_a_batch_that_fails_is_not_announced(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await connectors.remove(store, linked.connector.id)
    with pytest.raises(NotFound):
        await deliver(store, linked, None)
    assert await due(store, webhook) == []


async def test_only_the_change_to_read_is_announced(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id, WebhookEvent.EMAIL_READ)
    (message_id,) = await deliver(store, linked, None)
    for read in (False, True, True, False, True):
        assert (await messages.mark_read(store, message_id, read=read)).read is read
    assert [one.message_id for one in await due(store, webhook)] == [message_id] * 2


async def test_marking_all_announces_each_that_was_unread(store: Store, linked: Linked) -> None:
    own = await add(store, linked.inbox.id, WebhookEvent.EMAIL_READ)
    wide = await add(store, None, WebhookEvent.EMAIL_READ)
    other = await link(store, "other")
    first, second = await deliver(store, linked, None, None)
    (third,) = await deliver(store, other, None)
    await messages.mark_read(store, first, read=True)
    assert len(await due(store, own)) == len(await due(store, wide)) == 1
    await marks.mark_all_read(store, read=True)
    await marks.mark_all_read(store, read=False)
    assert [one.message_id for one in await due(store, own)] == [second]
    assert {one.message_id for one in await due(store, wide)} == {second, third}


async def test_failed_try_is_due_later_and_counted(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await deliver(store, linked, None, None)
    job = await deliveries.next_due(store, webhook.id, utc_now())
    assert job is not None
    later = utc_now() + timedelta(hours=1)
    await deliveries.settle(store, make_result(*job, ResultType.BAD_RESPONSE, 500), later, ok=False)
    assert [one.message_id for one in await due(store, webhook)] != [job[1].message_id]
    assert await deliveries.waiting(store) == [(webhook.id, webhook.updated_at, later)]
    again = await deliveries.next_due(store, webhook.id, later)
    assert again is not None
    assert again[1] == replace(job[1], due_at=later, attempts=1)


async def test_changed_webhook_is_healthy_and_due_at_once(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await deliver(store, linked, None)
    for _ in range(UNHEALTHY_AFTER):
        job = await deliveries.next_due(store, webhook.id, utc_now() + timedelta(days=9))
        assert job is not None
        later = utc_now() + timedelta(days=1)
        await deliveries.settle(store, make_result(*job, ResultType.EXCEPTION, None), later, ok=False)
    assert not (await webhooks.get(store, webhook.id)).healthy
    changed = await webhooks.change(store, replace(webhook, updated_at=utc_now()))
    assert changed.healthy
    assert await webhooks.get(store, webhook.id) == changed
    assert len(await due(store, webhook)) == 1


async def test_one_good_try_makes_healthy(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await webhooks.add(store, replace(make_webhook(None), failures=UNHEALTHY_AFTER))
    await deliver(store, linked, None)
    assert (await webhooks.page(store, WebhookFilter(healthy=False), Window())).total == 1
    assert (await webhooks.page(store, WebhookFilter(healthy=True), Window())).rows == (webhook,)
    (sick,) = (await webhooks.page(store, WebhookFilter(healthy=False), Window())).rows
    await due(store, sick)
    assert (await webhooks.page(store, WebhookFilter(healthy=False), Window())).total == 0


async def test_settling_for_a_removed_webhook_does_nothing(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await deliver(store, linked, None)
    job = await deliveries.next_due(store, webhook.id, utc_now())
    assert job is not None
    await webhooks.remove(store, webhook.id)
    await deliveries.settle(store, make_result(*job), utc_now(), ok=False)
    assert await deliveries.count(store) == 0
    with pytest.raises(NotFound):
        await webhooks.results(store, webhook.id, ResultFilter(), Window())


async def test_webhooks_go_with_their_inbox(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    await deliver(store, linked, None)
    await connectors.remove(store, linked.connector.id)
    await inboxes.remove(store, linked.inbox.id)
    assert await deliveries.count(store) == 0
    with pytest.raises(NotFound):
        await webhooks.get(store, webhook.id)


async def test_removing_by_another_inbox_is_not_found(store: Store, linked: Linked) -> None:
    webhook, wide = await add(store, linked.inbox.id), await add(store, None)
    other = await link(store, "other")
    for webhook_id, inbox_id in ((webhook.id, other.inbox.id), (wide.id, linked.inbox.id)):
        with pytest.raises(NotFound):
            await webhooks.remove(store, webhook_id, inbox_id)
    await webhooks.remove(store, webhook.id, linked.inbox.id)
    with pytest.raises(NotFound):
        await webhooks.remove(store, webhook.id)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (WebhookFilter(), ["one", "two", "wide"]),
        (WebhookFilter(search="TWO"), ["two"]),
        (WebhookFilter(search="%"), []),
        (WebhookFilter(event=WebhookEvent.EMAIL_READ), ["two"]),
        (WebhookFilter(event=WebhookEvent.BOUNCE), []),
        (WebhookFilter(url="http://127.0.0.1:9/one"), ["one"]),
        (WebhookFilter(url="http://127.0.0.1:9"), []),
    ],
)
async def test_lists_are_filtered(store: Store, linked: Linked, chosen: WebhookFilter, names: list[str]) -> None:
    await add(store, linked.inbox.id, name="one")
    await add(store, linked.inbox.id, WebhookEvent.EMAIL_READ, "two")
    await add(store, None, name="wide")
    assert [one.name for one in (await webhooks.page(store, chosen, Window())).rows] == names


async def test_lists_of_an_inbox_may_hold_those_of_all(store: Store, linked: Linked) -> None:
    await add(store, linked.inbox.id, name="one")
    await add(store, (await link(store, "other")).inbox.id, name="other")
    await add(store, None, name="wide")
    for wide, names in ((False, ["one"]), (True, ["one", "wide"])):
        page = await webhooks.page(store, WebhookFilter(linked.inbox.id, account_wide=wide), Window())
        assert [one.name for one in page.rows] == names


async def test_results_are_filtered_and_pruned(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id, WebhookEvent.NEW_ATTACHMENT)
    (message_id,) = await deliver(store, linked, WITH_FILES)
    await due(store, webhook)
    chosen = {
        ResultFilter(): 2,
        ResultFilter(attachment_id=FILE.id): 1,
        ResultFilter(message_id=message_id): 2,
        ResultFilter(message_id=MessageId(uuid4())): 0,
        ResultFilter(inbox_id=linked.inbox.id): 2,
        ResultFilter(type=ResultType.SUCCESS): 2,
        ResultFilter(type=ResultType.EXCEPTION): 0,
        ResultFilter(event=WebhookEvent.NEW_EMAIL): 0,
        ResultFilter(least_status=200, most_status=200): 2,
        ResultFilter(least_status=201): 0,
        ResultFilter(most_status=199): 0,
        ResultFilter(search="WORD"): 2,
        ResultFilter(search="_"): 0,
    }
    for wanted, total in chosen.items():
        assert (await webhooks.results(store, webhook.id, wanted, Window())).total == total, wanted
    assert await deliveries.prune(store, utc_now() - timedelta(hours=1)) == 0
    assert await deliveries.prune(store, utc_now()) == 2
    assert (await webhooks.results(store, webhook.id, ResultFilter(), Window())).total == 0


async def test_large_batches_wait_whole_and_in_order(store: Store, linked: Linked) -> None:
    webhook = await add(store, linked.inbox.id)
    ids = await deliver(store, linked, *[None] * 230)
    assert await deliveries.count(store) == 230
    for expected in ids[:3]:
        job = await deliveries.next_due(store, webhook.id, utc_now())
        assert job is not None
        assert job[1].message_id == expected
        await deliveries.settle(store, make_result(*job), None, ok=True)
    assert await messages.count(store, MessageFilter((linked.inbox.id,))) == 230
