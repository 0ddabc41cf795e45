"""WaitForController: holding a request until mail is there."""

from __future__ import annotations

import enum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.shapes import MOST_ROWS, Date, Milliseconds, Request, Sort, SortOrder, Span
from inboxd.errors import Invalid
from inboxd.match import Part, Should, Wishes, rule
from inboxd.matching import Goal
from inboxd.model import InboxId, MessageFilter, Window

DEFAULT_MILLISECONDS = 60_000
_MOST_MATCHES = 100
_Count = Annotated[int, Field(ge=1, le=MOST_ROWS)]


class InboxWait(Span):
    """Which mail of which inbox is awaited and for how long; the wait is cut to 299,999 ms.

    `delay` is accepted and without effect: nothing polls, the commit of a mail wakes the wait.
    """

    inbox_id: UUID
    timeout: Milliseconds = DEFAULT_MILLISECONDS
    unread_only: bool = False
    delay: Milliseconds | None = None

    def filter(self) -> MessageFilter:
        """The filter it asks for."""
        return MessageFilter((InboxId(self.inbox_id),), unread_only=self.unread_only)

    def window(self) -> Window:
        """The order and span it asks for."""
        return Window(0, 1, self.sort is Sort.ASC, self.since, self.before)


class WaitQuery(InboxWait):
    """The newest mail is awaited, unless `sort` says otherwise."""

    sort: SortOrder = Sort.DESC


class NthQuery(InboxWait):
    """`index` counts from 0, from the oldest mail on unless `sort` says otherwise."""

    index: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class CountQuery(InboxWait):
    """How many mails are awaited; so many are returned."""

    count: _Count


class MatchOption(Request):
    """What one part of a mail must be like."""

    field: Part
    should: Should
    value: Annotated[str, Field(min_length=1, max_length=4_096)]


class Condition(enum.Enum):
    """What MailSlurp can ask of a mail beside its text."""

    HAS_ATTACHMENTS = "HAS_ATTACHMENTS"


class Truth(enum.Enum):
    """MailSlurp's booleans among conditions."""

    TRUE = "TRUE"
    FALSE = "FALSE"


class ConditionOption(Request):
    """One condition on a mail."""

    condition: Condition
    value: Truth


class Matches(Request):
    """What a mail must match: all of it."""

    matches: Annotated[list[MatchOption], Field(max_length=_MOST_MATCHES)] = Field(default_factory=list[MatchOption])
    ai: Any = None

    def wishes(self, conditions: tuple[ConditionOption, ...] = ()) -> Wishes:
        """The predicate it asks for; Invalid names what cannot be used."""
        if self.ai is not None:
            raise Invalid("ai", "matching by a prompt is not supported; leave it out and use matches")
        rules = (
            rule(f"matches.{number}.value", option.field, option.should, option.value)
            for number, option in enumerate(self.matches)
        )
        return Wishes(tuple(rules), tuple(option.value is Truth.TRUE for option in conditions))


class MatchOptions(Matches):
    """MailSlurp's match options; none match every mail."""

    conditions: Annotated[list[ConditionOption], Field(max_length=_MOST_MATCHES)] = Field(
        default_factory=list[ConditionOption]
    )

    def goal(self, query: InboxWait, count: int) -> Goal:
        """What is awaited when `query` comes with these options; Invalid."""
        return Goal(query.filter(), query.window(), self.wishes(tuple(self.conditions)), count)


class CountType(enum.Enum):
    """Whether more mails than `count` will do."""

    EXACTLY = "EXACTLY"
    ATLEAST = "ATLEAST"


class WaitForConditions(Matches):
    """A wait with everything in its body."""

    inbox_id: UUID
    count: Annotated[int, Field(ge=0, le=MOST_ROWS)] = 1
    count_type: CountType = CountType.ATLEAST
    unread_only: bool = False
    sort_direction: SortOrder = Sort.ASC
    since: Date | None = None
    before: Date | None = None
    timeout: Milliseconds = DEFAULT_MILLISECONDS
    delay_timeout: Milliseconds | None = None

    def goal(self) -> Goal:
        """What is awaited; Invalid."""
        wanted = MessageFilter((InboxId(self.inbox_id),), unread_only=self.unread_only)
        window = Window(0, 1, self.sort_direction is Sort.ASC, self.since, self.before)
        return Goal(wanted, window, self.wishes(), self.count, exactly=self.count_type is CountType.EXACTLY)
