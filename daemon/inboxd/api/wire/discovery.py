"""The control socket's answer to: which servers has this address?"""

from __future__ import annotations

from typing import Literal, Self

from inboxd.api.wire.shapes import Answer, Line, Request
from inboxd.discover.found import Endpoint, Found, Offer
from inboxd.providers import Wanted


class DiscoverQuery(Request):
    email_address: Line


class ServerDto(Answer):
    """A server, always with TLS. `password`, `oauth2`: what it takes."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    username: str
    password: bool
    oauth2: bool

    @classmethod
    def of(cls, server: Endpoint) -> Self:
        """The wire form of a server."""
        return cls(
            host=server.host,
            port=server.port,
            tls=server.tls.value,
            username=server.username,
            password=server.password,
            oauth2=server.oauth2,
        )


class OfferDto(Answer):
    """What one source says. `where`: the URL, the DNS name or the row it says it in."""

    source: str
    where: str
    imap: ServerDto | None
    smtp: ServerDto | None

    @classmethod
    def of(cls, offer: Offer) -> Self:
        """The wire form of an offer."""
        return cls(
            source=offer.source.value,
            where=offer.where,
            imap=ServerDto.of(offer.imap) if offer.imap is not None else None,
            smtp=ServerDto.of(offer.smtp) if offer.smtp is not None else None,
        )


class VainDto(Answer):
    """A source that had nothing, and why."""

    source: str
    reason: str


class Discovery(OfferDto):
    """The settings to use. `secret`: what the provider wants, `how`: how to get it, where that is known.

    `oauth2_only`: no password opens this mailbox. `notes`: what to know before the secret goes there.
    """

    email_address: str
    provider: str | None
    secret: str
    how: str | None
    oauth2_only: bool
    notes: list[str]
    alternatives: list[OfferDto]
    vain: list[VainDto]

    @classmethod
    def found(cls, found: Found) -> Self:
        """The wire form of what was found."""
        provider = found.provider
        fallback = Wanted.OAUTH2 if found.oauth2_only else Wanted.ACCOUNT
        return cls(
            **dict(OfferDto.of(found.offer)),
            email_address=found.address,
            provider=provider.title if provider is not None else None,
            secret=(provider.wanted if provider is not None else fallback).value,
            how=provider.how if provider is not None else None,
            oauth2_only=found.oauth2_only,
            notes=list(found.notes),
            alternatives=[OfferDto.of(offer) for offer in found.alternatives],
            vain=[VainDto(source=one.source.value, reason=one.words) for one in found.vain],
        )
