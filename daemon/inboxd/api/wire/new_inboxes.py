"""InboxController: what a new or changed inbox may be, and the address it gets."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID, uuid4

from pydantic import AfterValidator, Field

from inboxd.api.wire.connectors import LOCAL_DOMAIN
from inboxd.api.wire.shapes import Date, Line, MailAddress, Request, one_line
from inboxd.errors import Invalid
from inboxd.model import Inbox, InboxId, InboxType, utc_now

_HUNDRED_YEARS: Final = timedelta(days=36_525) // timedelta(milliseconds=1)
NO_DOMAINS: Final = "domains are not supported; leave it out"
_ATOMS: Final = re.compile(r"[\w+-]+(?:\.[\w+-]+)*", re.ASCII)
_LABELS: Final = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?)*")
# RFC 5321 §4.5.3.1.1 allows 64 octets before the @; 36 of them are a UUID and one is the hyphen.
_MOST_PREFIX: Final = 27
_SHORT_ADDRESS: Final = 30
_SHORT_NAME: Final = 8


def _ahead(moment: datetime) -> datetime:
    if moment <= utc_now():
        raise ValueError("must be in the future")
    return moment


def _prefix(text: str) -> str:
    if text and not _ATOMS.fullmatch(text):
        raise ValueError("use letters, digits, hyphens and underscores")
    return text


def _domain(text: str) -> str:
    if text and not _LABELS.fullmatch(text):
        raise ValueError("write a domain name, for example example.com")
    return text


def _distinct(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tag for tag in tags if tag))


Expiry = Annotated[Date, AfterValidator(_ahead)]
Duration = Annotated[int, Field(ge=1, le=2**63 - 1), AfterValidator(lambda given: min(given, _HUNDRED_YEARS))]
Prose = Annotated[str, Field(max_length=4_096)]
Tag = Annotated[str, Field(max_length=255), AfterValidator(one_line)]
Tags = Annotated[list[Tag], Field(max_length=100), AfterValidator(_distinct)]
Prefix = Annotated[str, Field(max_length=_MOST_PREFIX), AfterValidator(_prefix)]
Domain = Annotated[str, Field(max_length=253), AfterValidator(_domain)]


class CreateInboxDto(Request):
    """A new inbox, as a body or as a query. Without `email_address` it gets a fresh one, which receives nothing.

    `expires_at` goes before `expires_in`, which is in milliseconds. `use_domain_pool` and `allow_team_access` are
    accepted and without effect.
    """

    email_address: MailAddress | None = None
    domain_name: Domain | None = None
    domain_id: UUID | None = None
    name: Line | None = None
    description: Prose | None = None
    use_domain_pool: bool = False
    tags: Tags = Field(default_factory=list[str])
    expires_at: Expiry | None = None
    favourite: bool = False
    expires_in: Duration | None = None
    allow_team_access: bool = False
    inbox_type: InboxType = InboxType.HTTP_INBOX
    virtual_inbox: bool = False
    use_short_address: bool = False
    prefix: Prefix | None = None

    def inbox(self) -> Inbox:
        """The inbox it asks for; Invalid when there cannot be such a one."""
        if self.domain_id is not None:
            raise Invalid("domainId", NO_DOMAINS)
        identity, now = InboxId(uuid4()), utc_now()
        lasting = None if self.expires_in is None else now + timedelta(milliseconds=self.expires_in)
        return Inbox(
            id=identity,
            email_address=self.email_address or self._fresh_address(identity),
            created_at=now,
            name=self.name or None,
            description=self.description or None,
            favourite=self.favourite,
            tags=tuple(self.tags),
            expires_at=self.expires_at or lasting,
            inbox_type=self.inbox_type,
            virtual=self.virtual_inbox,
        )

    def _fresh_address(self, identity: UUID) -> str:
        before = f"{self.prefix}-" if self.prefix else ""
        after = f"@{self.domain_name or LOCAL_DOMAIN}"
        if not self.use_short_address:
            return f"{before}{identity}{after}"
        if len(before) + _SHORT_NAME + len(after) > _SHORT_ADDRESS:
            what = f"would be longer than {_SHORT_ADDRESS} characters; shorten prefix or domainName, or leave this out"
            raise Invalid("useShortAddress", what)
        return f"{before}{base64.b32encode(identity.bytes).decode().lower()[:_SHORT_NAME]}{after}"


class UpdateInboxOptions(Request):
    """Changes of an inbox: what is absent keeps its value, empty text and an empty list clear it."""

    name: Line | None = None
    description: Prose | None = None
    tags: Tags | None = None
    expires_at: Expiry | None = None
    favourite: bool | None = None

    def changed(self, stored: Inbox) -> Inbox:
        """The stored inbox with what was given."""
        return replace(
            stored,
            name=stored.name if self.name is None else self.name or None,
            description=stored.description if self.description is None else self.description or None,
            tags=stored.tags if self.tags is None else tuple(self.tags),
            expires_at=self.expires_at or stored.expires_at,
            favourite=stored.favourite if self.favourite is None else self.favourite,
        )


class SetInboxFavouritedOptions(Request):
    state: bool

    def changed(self, stored: Inbox) -> Inbox:
        """The stored inbox as a favourite or none."""
        return replace(stored, favourite=self.state)
