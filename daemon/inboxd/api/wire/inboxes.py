"""InboxController: the lists of one inbox."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inboxd.api.wire.shapes import MOST_MAILS, MailSize, Milliseconds, Sort, Span
from inboxd.model import Window


class InboxEmailsQuery(Span):
    """The newest-or-oldest mails of an inbox. With `min_count` the answer waits until there are so many."""

    size: MailSize | None = None
    limit: MailSize | None = None
    unread_only: bool = False
    min_count: Annotated[int, Field(ge=0, le=MOST_MAILS)] = 0
    retry_timeout: Milliseconds | None = None
    delay_timeout: Milliseconds | None = None

    def window(self) -> Window:
        """The rows it asks for; `size` goes before `limit`."""
        return Window(0, self.size or self.limit or MOST_MAILS, self.sort is Sort.ASC, self.since, self.before)
