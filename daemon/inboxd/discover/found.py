"""What discovery finds, and where."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from inboxd.model import Tls
from inboxd.providers import Provider, Wanted


class Source(enum.Enum):
    """Where settings come from; in this order they are believed."""

    TABLE = "table"
    AUTOCONFIG = "autoconfig"
    WELL_KNOWN = "well-known"
    ISPDB = "ISPDB"
    SRV = "SRV"
    MX = "MX"
    GUESS = "guess"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to log in at, always with TLS, and what it takes: passwords, OAuth2, or both."""

    host: str
    port: int
    tls: Tls
    username: str
    password: bool = True
    oauth2: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What one source says; one of both at least. `where`: the URL, the DNS name or the row it says it in."""

    source: Source
    where: str
    imap: Endpoint | None
    smtp: Endpoint | None
    provider: Provider | None = None


@dataclass(frozen=True, slots=True)
class Vain:
    """A source that has nothing to say, and why."""

    source: Source
    words: str


@dataclass(frozen=True, slots=True)
class Found:
    """The settings for an address: the first offer in the order of the sources.

    `provider`: whose servers they are, when that is known. `notes`: what a person should know before the secret goes
    there. `alternatives`: what other sources say that differs. `vain`: the sources that had nothing.
    """

    address: str
    offer: Offer
    provider: Provider | None
    notes: tuple[str, ...]
    alternatives: tuple[Offer, ...]
    vain: tuple[Vain, ...]

    @property
    def oauth2_only(self) -> bool:
        """Whether no password opens this mailbox."""
        if self.provider is not None:
            return self.provider.wanted is Wanted.OAUTH2
        server = self.offer.imap or self.offer.smtp
        return server is not None and not server.password


class Nothing(Exception):
    """A source has nothing to say; the words are the reason. It does not leave this room."""
