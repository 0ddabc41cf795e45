"""The control socket's models of OAuth2 logins: secrets go in and never come out."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field

from inboxd.api.wire.shapes import Answer, Date, Line, Request
from inboxd.consents import Flow, Grant
from inboxd.granting import Begun, Wish
from inboxd.model import Secret

_Word = Annotated[Line, Field(min_length=1, max_length=2000)]


class NewLogin(Request):
    """How a connector's mailbox is to be consented to; what is missing is as in its grant, or as the provider has it.

    `client_secret` is a service account's whole key file for that flow. `redirect_port`: where somebody listens on the
    machine of the browser. `other_mailbox`: whoever consents may be another than the mailbox.
    """

    provider: Annotated[str | None, Field(max_length=100)] = None
    flow: Literal["device", "code", "client-credentials", "service-account"] | None = None
    client_id: _Word | None = None
    client_secret: Annotated[str | None, Field(min_length=1, max_length=16_384)] = None
    tenant: Annotated[str | None, Field(max_length=200)] = None
    scopes: Annotated[list[_Word], Field(max_length=50)] = Field(default_factory=list[str])
    subject: _Word | None = None
    token_url: _Word | None = None
    authorize_url: _Word | None = None
    device_url: _Word | None = None
    identity_url: _Word | None = None
    redirect_uri: _Word | None = None
    redirect_port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    other_mailbox: bool = False

    def wish(self) -> Wish:
        """The same as the daemon takes it."""
        return Wish(
            provider=self.provider,
            flow=Flow(self.flow) if self.flow is not None else None,
            client_id=self.client_id,
            secret=Secret(self.client_secret) if self.client_secret is not None else None,
            tenant=self.tenant,
            scopes=tuple(self.scopes),
            subject=self.subject,
            token_url=self.token_url,
            authorize_url=self.authorize_url,
            device_url=self.device_url,
            identity_url=self.identity_url,
            redirect_uri=self.redirect_uri,
            redirect_port=self.redirect_port,
            other_mailbox=self.other_mailbox,
        )


class FinishedLogin(Request):
    """The address that the provider's page led to; nothing for a code that is typed in there."""

    answer: Annotated[str | None, Field(max_length=16_384)] = None


class GrantDto(Answer):
    """A connector's grant without its secrets. `reason` says why it needs a new consent."""

    connector_id: UUID
    provider: str
    flow: Flow
    client_id: str
    mailbox: str
    scopes: list[str]
    state: Literal["ok", "needs_reauth"]
    reason: str | None
    created_at: Date
    obtained_at: Date
    expires_at: Date

    @classmethod
    def of(cls, grant: Grant) -> Self:
        """The wire form of a grant."""
        return cls(
            connector_id=grant.connector_id,
            provider=grant.provider,
            flow=grant.flow,
            client_id=grant.client_id,
            mailbox=grant.mailbox,
            scopes=list(grant.scopes),
            state="ok" if grant.refused is None else "needs_reauth",
            reason=grant.refused,
            created_at=grant.created_at,
            obtained_at=grant.obtained_at,
            expires_at=grant.expires_at,
        )


class LoginDto(Answer):
    """A login under way, or done: then there is a `grant`. `user_code` is typed in at the `page`."""

    login: str | None = None
    page: str | None = None
    user_code: str | None = None
    ends_in_seconds: float | None = None
    grant: GrantDto | None = None

    @classmethod
    def of(cls, begun: Begun) -> Self:
        """The wire form of what is to be done next."""
        return cls(
            login=begun.login,
            page=begun.page,
            user_code=begun.user_code,
            ends_in_seconds=begun.ends_in_seconds if begun.login else None,
            grant=GrantDto.of(begun.grant) if begun.grant else None,
        )
