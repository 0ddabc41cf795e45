"""What the outbox is asked again and again reads what waits, whatever else is in it, on both databases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from inboxd.mails import Bounce
from inboxd.model import SentState, Window, utc_now
from inboxd.store import bounces, chores, outbox, outbox_list
from inboxd.store.engine import Store
from servers.orders import OWNER, accept, bring, claim, route_of
from servers.stores import Linked
from test_store_plans import plans

Work = Callable[[Store, Linked], Awaitable[object]]
# The index of the first query of each; what follows reads rows of known numbers.
ASKED: dict[str, tuple[Work, str]] = {
    "what is due": (lambda store, _: outbox.due(store, utc_now()), "ix_outbox_waiting"),
    "a claim": (claim, "ix_outbox_waiting"),
    "what is held": (lambda store, _: outbox.held(store), "ix_outbox_held"),
    "an owner's": (lambda store, _: outbox.held(store, owners=[OWNER]), "ix_outbox_held"),
    "what is too old": (lambda store, _: outbox.expire(store, utc_now()), "ix_outbox_expiring"),
    "a route's": (lambda store, linked: outbox.fail_route(store, route_of(linked), "gone"), "ix_outbox_waiting"),
    "the limits": (
        lambda store, linked: outbox.handed_over_since(store, route_of(linked), utc_now() - timedelta(days=1)),
        "ix_tries_handed_over",
    ),
    "what was used of them": (
        lambda store, linked: outbox_list.handed_over(
            store, route_of(linked), utc_now() - timedelta(days=1), utc_now()
        ),
        "ix_tries_handed_over",
    ),
    "the census": (lambda store, _: outbox_list.census(store), "ix_outbox_undone"),
    "what is to be done": (lambda store, _: chores.due(store, utc_now()), "ix_chores_due"),
    "a connector's chores": (
        lambda store, linked: chores.take(store, linked.connector.id, utc_now(), 5),
        "ix_chores_due",
    ),
}


@pytest.mark.parametrize("name", ASKED)
async def test_each_reads_its_index_in_order(store: Store, linked: Linked, name: str) -> None:
    await bring(store, linked, SentState.SENT)
    await bring(store, linked, SentState.SENDING)
    await accept(store, linked)
    work, index = ASKED[name]
    way = (await plans(store, lambda: work(store, linked)))[0]
    assert index in way
    assert "SCAN outbox\n" not in f"{way}\n"
    assert "TEMP B-TREE" not in way
    assert "Sort" not in way


@pytest.mark.parametrize("window", [Window(), Window(ascending=False), Window(1, 1), Window(before=utc_now())])
@pytest.mark.parametrize("states", [(), (SentState.SENT,), (SentState.SENT, SentState.CANCELLED)])
@pytest.mark.parametrize("own", [True, False])
async def test_count_and_page_come_from_an_index(
    store: Store, linked: Linked, window: Window, states: tuple[SentState, ...], own: bool
) -> None:
    for _ in range(3):
        await bring(store, linked, SentState.SENT)
    connector_id = linked.connector.id if own else None
    work = outbox_list.page(store, window, states=states, connector_id=connector_id)
    counted, paged = (await plans(store, lambda: work))[:2]
    for way in (counted, paged):
        assert ("COVERING INDEX" in way) or ("Index Only Scan" in way), way
    assert ("ix_outbox_of_connector" if own else "ix_outbox_of_all") in paged
    assert "TEMP B-TREE" not in paged
    assert "Sort" not in paged


async def test_a_notices_mail_is_found_by_its_message_id(store: Store, linked: Linked) -> None:
    await bring(store, linked, SentState.SENT)
    notice = Bounce("1@example.com", "bob@example.com", "failed", "5.1.1", "no such user")
    ways = await plans(
        store, lambda: store.write(lambda connection: bounces.note(connection, linked.connector.id, [notice]))
    )
    assert "ix_sent_header_message_id" in ways[0]
