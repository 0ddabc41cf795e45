"""WaitForController: holding a request until mail is there."""

from __future__ import annotations

from uuid import UUID

from inboxd.api.wire.shapes import Milliseconds, Sort, SortOrder, Span
from inboxd.model import InboxId, MessageFilter, Window

DEFAULT_MILLISECONDS = 60_000


class WaitQuery(Span):
    """Which mail of which inbox is awaited and for how long; the wait is cut to 299,999 ms.

    `delay` is accepted and without effect: nothing polls, the commit of a mail wakes the wait.
    """

    inbox_id: UUID
    timeout: Milliseconds = DEFAULT_MILLISECONDS
    unread_only: bool = False
    delay: Milliseconds | None = None
    sort: SortOrder = Sort.DESC

    def filter(self) -> MessageFilter:
        """The filter it asks for."""
        return MessageFilter((InboxId(self.inbox_id),), unread_only=self.unread_only)

    def window(self) -> Window:
        """The order and span it asks for."""
        return Window(0, 1, self.sort is Sort.ASC, self.since, self.before)
