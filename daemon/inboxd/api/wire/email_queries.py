"""EmailController: what is asked of received mails beyond one page of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.emails import EmailsQuery, refuse_plus_address
from inboxd.api.wire.shapes import MOST_PAGE, MOST_ROWS, Answer, Date, MailSize, Milliseconds, Request, Sort, SortOrder
from inboxd.api.wire.waits import WaitQuery
from inboxd.model import InboxId, MessageFilter, MessageId, Window

_MOST_INBOXES = 1_000


class EmailsOffsetQuery(EmailsQuery):
    """Which mails are wanted; those of `include` are so whatever else is asked."""

    include: Annotated[list[UUID], Field(max_length=MOST_ROWS)] = Field(default_factory=list[UUID])

    def filter(self) -> MessageFilter:
        """The filter it asks for; Invalid when no mail can have what it asks for."""
        return replace(super().filter(), include=tuple(map(MessageId, self.include)))


class SearchEmailsQuery(Request):
    """What a search says in its query."""

    sync_connectors: bool = False
    favourited: bool = False
    plus_address_id: UUID | None = None


class SearchEmailsOptions(Request):
    """What a search says in its body: which mails of which inboxes, of all when none is named."""

    inbox_ids: Annotated[list[UUID], Field(max_length=_MOST_INBOXES)] = Field(default_factory=list[UUID])
    page_index: Annotated[int, Field(ge=0, le=MOST_PAGE)] = 0
    page_size: MailSize = 20
    sort_direction: SortOrder = Sort.ASC
    unread_only: bool = False
    search_filter: str | None = None
    since: Date | None = None
    before: Date | None = None

    def filter(self, query: SearchEmailsQuery) -> MessageFilter:
        """The filter both ask for; Invalid when no mail can have what they ask for."""
        refuse_plus_address(query.plus_address_id)
        inboxes = tuple(map(InboxId, self.inbox_ids))
        return MessageFilter(inboxes, self.unread_only, query.favourited, self.search_filter)

    def window(self) -> Window:
        """The rows it asks for."""
        ascending = self.sort_direction is Sort.ASC
        return Window(self.page_index, self.page_size, ascending, self.since, self.before)


class LatestQuery(Request):
    """The inboxes whose newest mail is wanted; all when none is named."""

    inbox_ids: list[UUID] = Field(default_factory=list[UUID])

    def filter(self) -> MessageFilter:
        """The filter it asks for."""
        return MessageFilter(tuple(map(InboxId, self.inbox_ids)))


class LatestWaitQuery(Request):
    """The inbox whose newest mail is wanted, and how long to wait when it has none."""

    inbox_id: UUID
    timeout_millis: Milliseconds

    def waiting(self) -> WaitQuery:
        """The same in the words of WaitForController."""
        return WaitQuery(inbox_id=self.inbox_id, timeout=self.timeout_millis)


class AnyInboxQuery(Request):
    """One inbox, or all."""

    inbox_id: UUID | None = None

    @property
    def inbox(self) -> InboxId | None:
        """The inbox, or None for all."""
        return InboxId(self.inbox_id) if self.inbox_id else None

    def filter(self, *, unread_only: bool = False) -> MessageFilter:
        """The filter it asks for."""
        return MessageFilter((self.inbox,) if self.inbox else (), unread_only)


class ReadQuery(Request):
    read: bool = True


class ReadAllQuery(AnyInboxQuery):
    read: bool = True


class FavouriteQuery(Request):
    favourited: bool


class CreatedQuery(Request):
    """When the mails were created."""

    created_at_since: Date | None = None
    created_at_before: Date | None = None


class UnreadCount(Answer):
    count: int


class EmailPreviewUrls(Answer):
    """Where a browser sees the mail; it adds `?apiKey=`."""

    raw_smtp_message_url: str
    plain_html_body_url: str
    origin: str
