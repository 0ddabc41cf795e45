"""Which messages a filter chooses, but for its search, which has a way of its own to count and to page."""

from __future__ import annotations

from sqlalchemy import Text, cast, exists, or_

from inboxd.model import MessageFilter
from inboxd.store.rows import Condition
from inboxd.store.schema import ATTACHMENTS, MESSAGES


def marks(chosen: MessageFilter) -> list[Condition]:
    """What the chosen messages meet, their text apart."""
    conditions: list[Condition] = []
    if chosen.inbox_ids:
        conditions.append(MESSAGES.c.inbox_id.in_(chosen.inbox_ids))
    if chosen.unread_only:
        conditions.append(MESSAGES.c.read.is_(False))
    if chosen.favourite_only:
        conditions.append(MESSAGES.c.favourite.is_(True))
    if chosen.attached_only:
        conditions.append(exists().where(ATTACHMENTS.c.message_seq == MESSAGES.c.seq))
    conditions += [
        or_(*(cast(MESSAGES.c[name], Text).icontains(words, autoescape=True) for name in names))
        for words, names in (
            (chosen.sender, ("sender",)),
            (chosen.recipient, ("to", "cc", "bcc")),
            (chosen.subject, ("subject",)),
        )
        if words
    ]
    return conditions
