"""What delivery notices say of mails that were sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from uuid import uuid4

from sqlalchemy import RowMapping, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Bounce
from inboxd.model import ConnectorId, Event, EventId, EventStatus, EventType, SentState, utc_now
from inboxd.outbox import Chore, Delivery
from inboxd.store import chores, settling
from inboxd.store.schema import SENT
from inboxd.store.schema_outbox import OUTBOX

_KEYS_AT_ONCE = 1000
_FAILED = "failed"
# Its address does not exist, or takes no mail (RFC 3463 §3.2).
_NO_ADDRESS = "5.1."

_NAMED = (
    select(OUTBOX.c.id, SENT.c.header_message_id)
    .join(SENT, SENT.c.seq == OUTBOX.c.seq)
    .where(
        SENT.c.header_message_id.in_(bindparam("message_ids", expanding=True)),
        OUTBOX.c.connector_id == bindparam("of_connector"),
    )
)


async def note(connection: AsyncConnection, connector_id: ConnectorId, bounces: Sequence[Bounce]) -> None:
    """Inside the transaction that stores the notices, which holds the connector: keep what they say.

    Each is about a recipient, in any case of letters, of a mail that went through this connector; others are passed
    over. One who failed and was thought to have got the mail has BOUNCED; anything else becomes an event alone. Any
    notice about a recipient of unknown outcome shows that the server took the mail: it is SENT. Repeats change nothing.
    """
    said: defaultdict[str, dict[str, Bounce]] = defaultdict(dict)
    for bounce in bounces:
        said[bounce.message_id][bounce.recipient.casefold()] = bounce
    message_ids = iter(said)
    while some := list(islice(message_ids, _KEYS_AT_ONCE)):
        wanted = {"of_connector": connector_id, "message_ids": some}
        named = {row.id: row.header_message_id for row in await connection.execute(_NAMED, wanted)}
        for row in await settling.hold(connection, list(named)):
            await _note_of(connection, row, said[named[row["id"]]])


async def _note_of(connection: AsyncConnection, row: RowMapping, said: dict[str, Bounce]) -> None:
    """What the notices say of one mail, by recipient in one case of letters."""
    told = [
        (one, said[one["address"].casefold()])
        for one in await settling.recipients_of(connection, [row["seq"]])
        if one["address"].casefold() in said and one["state"] in (Delivery.ACCEPTED, Delivery.UNKNOWN)
    ]
    if row["state"] is SentState.UNKNOWN and any(one["state"] is Delivery.UNKNOWN for one, _ in told):
        await settling.end_chore(connection, row["seq"], Chore.RESOLVE)
        await chores.take_as_sent(connection, row, "a delivery notice shows that the server took the mail")
    now = utc_now()
    failed = [(one, bounce) for one, bounce in told if bounce.action == _FAILED]
    learnt = [(row["seq"], one["position"], Delivery.BOUNCED, bounce.words) for one, bounce in failed]
    await settling.learn(connection, learnt, now)
    await settling.tell(connection, [_event(row["connector_id"], one["address"], bounce, now) for one, bounce in told])


def _event(connector_id: ConnectorId, address: str, bounce: Bounce, now: datetime) -> Event:
    status = EventStatus.SUCCESS
    if bounce.action == _FAILED:
        status = EventStatus.NOT_FOUND if bounce.status.startswith(_NO_ADDRESS) else EventStatus.CONNECTION_ERROR
    elif bounce.action == "delayed":
        status = EventStatus.CONNECTION_ERROR
    action = "bounced" if bounce.action == _FAILED else bounce.action
    message = f"{action}: {address}: {bounce.words}"
    return Event(EventId(uuid4()), connector_id, EventType.SEND, status, 0, now, message)
