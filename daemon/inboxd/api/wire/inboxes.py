"""InboxController and UserController: inboxes and their lists, the lists of one inbox, the one user."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.connectors import LOCAL_DOMAIN
from inboxd.api.wire.new_inboxes import NO_DOMAINS
from inboxd.api.wire.shapes import (
    MOST_MAILS,
    MOST_PAGE,
    MOST_ROWS,
    Answer,
    Date,
    MailSize,
    Milliseconds,
    PageOf,
    PageQuery,
    Request,
    Size,
    Sort,
    SortOrder,
    Span,
)
from inboxd.errors import Invalid
from inboxd.model import Inbox, InboxFilter, InboxFunction, InboxId, InboxType, Window


class InboxChoice(Request):
    """Which inboxes are wanted. `favourite` filters when true."""

    favourite: bool = False
    search: str | None = None
    tag: str | None = None
    inbox_type: InboxType | None = None
    inbox_function: InboxFunction | None = None
    domain_id: UUID | None = None

    def filter(self) -> InboxFilter:
        """The filter it asks for; Invalid when no inbox can have what it asks for."""
        if self.domain_id is not None:
            raise Invalid("domainId", NO_DOMAINS)
        return InboxFilter(self.favourite, self.search, self.tag or None, self.inbox_type, self.inbox_function)


class InboxesQuery(PageQuery, InboxChoice):
    """Which page of inboxes is wanted. `team_access` is accepted and without effect: there is one user."""

    team_access: bool | None = None


class SearchInboxesOptions(InboxChoice):
    """The same as a body."""

    page_index: Annotated[int, Field(ge=0, le=MOST_PAGE)] = 0
    page_size: Size = 20
    sort_direction: SortOrder = Sort.ASC
    since: Date | None = None
    before: Date | None = None

    def window(self) -> Window:
        """The rows it asks for."""
        return Window(self.page_index, self.page_size, self.sort_direction is Sort.ASC, self.since, self.before)


class InboxListQuery(Span):
    """The first inboxes in order, and those to include whatever comes first. There are no catch-all inboxes."""

    size: Size = 100
    exclude_catch_all_inboxes: bool = False
    include: Annotated[list[UUID], Field(max_length=MOST_ROWS)] = Field(default_factory=list[UUID])

    def window(self) -> Window:
        """The rows it asks for."""
        return Window(0, self.size, self.sort is Sort.ASC, self.since, self.before)


class DeleteInboxesQuery(Request):
    """The inboxes to delete: those created from `created_at_since` on and before `created_at_before`."""

    created_at_since: Date | None = None
    created_at_before: Date | None = None


class InboxIdQuery(Request):
    inbox_id: UUID


class InboxAddressQuery(Request):
    """`allow_catch_all`, `ip_address` and `sender` are accepted and without effect."""

    email_address: str
    allow_catch_all: bool = False
    ip_address: str | None = None
    sender: str | None = None


class InboxNameQuery(Request):
    name: str


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


class InboxPreview(Answer):
    """An inbox in a list."""

    id: UUID
    user_id: UUID
    domain_id: UUID | None = None
    email_address: str
    created_at: Date
    favourite: bool
    name: str | None
    description: str | None
    tags: list[str]
    team_access: bool = False
    inbox_type: InboxType
    virtual_inbox: bool
    expires_at: Date | None
    functions_as: InboxFunction | None

    @classmethod
    def of(cls, inbox: Inbox, user_id: UUID) -> Self:
        """The wire form of an inbox."""
        return cls(**_fields(inbox), user_id=user_id)


class PageInboxProjection(PageOf[InboxPreview]):
    pass


class InboxDto(Answer):
    """An inbox."""

    id: UUID
    user_id: UUID
    created_at: Date
    name: str | None
    domain_id: UUID | None = None
    description: str | None
    email_address: str
    expires_at: Date | None
    favourite: bool
    tags: list[str]
    inbox_type: InboxType
    read_only: bool = False
    virtual_inbox: bool
    functions_as: InboxFunction | None
    local_part: str
    domain: str

    @classmethod
    def of(cls, inbox: Inbox, user_id: UUID) -> Self:
        """The wire form of an inbox."""
        local_part, _, domain = inbox.email_address.rpartition("@")
        return cls(**_fields(inbox), user_id=user_id, local_part=local_part, domain=domain)


def _fields(inbox: Inbox) -> dict[str, Any]:
    return {
        "id": inbox.id,
        "email_address": inbox.email_address,
        "created_at": inbox.created_at,
        "favourite": inbox.favourite,
        "name": inbox.name,
        "description": inbox.description,
        "tags": list(inbox.tags),
        "inbox_type": inbox.inbox_type,
        "virtual_inbox": inbox.virtual,
        "expires_at": inbox.expires_at,
        "functions_as": InboxFunction.CONNECTOR if inbox.connected else None,
    }


class InboxFound(Answer):
    """Whether there is such an inbox, and which."""

    inbox_id: UUID | None
    exists: bool

    @classmethod
    def of(cls, inbox: Inbox | None) -> Self:
        """The answer to a search that found this."""
        return cls(inbox_id=None if inbox is None else inbox.id, exists=inbox is not None)


class InboxByEmailAddressResult(InboxFound):
    pass


class InboxByNameResult(InboxFound):
    pass


class InboxExistsDto(Answer):
    exists: bool
    soft_bounce: bool | None = None
    hard_bounce: bool | None = None


class InboxIdItem(Answer):
    id: UUID
    email_address: str


class InboxIdsResult(Answer):
    inbox_ids: list[InboxIdItem]

    @classmethod
    def of(cls, addresses: list[tuple[InboxId, str]]) -> Self:
        """The wire form of inboxes' addresses."""
        return cls(inbox_ids=[InboxIdItem(id=identity, email_address=address) for identity, address in addresses])


class CountDto(Answer):
    total_elements: int


class UserInfoDto(Answer):
    """The one user of this installation, who has no subscription and no mailbox."""

    id: UUID
    email_address: str = f"inboxd@{LOCAL_DOMAIN}"
    account_state: Literal["ACTIVE"] = "ACTIVE"
    subscription_type: None = None
    account_type: Literal["SOLO"] = "SOLO"
    created_at: Date
