"""What a connector takes of what it may, as inboxctl shows it."""

from __future__ import annotations

from typing import Self

from inboxd.api.wire.shapes import Answer, Date
from inboxd.model import Share, Usage


class ShareDto(Answer):
    """So many of what may be used at most; the limit is null where none is known."""

    used: int
    limit: int | None

    @classmethod
    def of(cls, share: Share | None) -> Self | None:
        """The wire form of a share; None of what is not counted."""
        return None if share is None else cls(used=share.used, limit=share.limit)


class UsageDto(Answer):
    """What a connector takes of what it may: of its account at its IMAP server, connections open, logins in the last
    minute, bytes received in a day; mails that its SMTP server took in a day and in a minute. Null is not counted.
    """

    connections: ShareDto | None
    logins: ShareDto | None
    received_bytes: ShareDto | None
    sent_in_day: ShareDto | None
    sent_in_minute: ShareDto | None
    rests_until: Date | None
    throttled_until: Date | None

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """The wire form of a usage."""
        return cls(
            connections=ShareDto.of(usage.connections),
            logins=ShareDto.of(usage.logins),
            received_bytes=ShareDto.of(usage.received),
            sent_in_day=ShareDto.of(usage.sent_in_day),
            sent_in_minute=ShareDto.of(usage.sent_in_minute),
            rests_until=usage.rests_until,
            throttled_until=usage.throttled_until,
        )
