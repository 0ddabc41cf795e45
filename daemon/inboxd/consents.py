"""OAuth2 as far as it is data: the providers' endpoints and scopes, and what is kept of a consent once it was given."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from inboxd.errors import Invalid
from inboxd.model import ConnectorId, Secret

OTHER: Final = "other"
ANY_TENANT: Final = "common"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Flow(enum.Enum):
    """How a consent is come by. The first two need a person, once; the others a secret that an administrator made.

    DEVICE: a code typed in at the provider's page (RFC 8628). CODE: a page that leads back here, or to an address to
    paste (RFC 6749 §4.1, RFC 7636, RFC 8252). CLIENT_CREDENTIALS: the application itself (RFC 6749 §4.4).
    SERVICE_ACCOUNT: Google's, which may act for the mailboxes of its Workspace (RFC 7523).
    """

    DEVICE = "device"
    CODE = "code"
    CLIENT_CREDENTIALS = "client-credentials"
    SERVICE_ACCOUNT = "service-account"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is asked. `identity` says whom a token is for (OpenID Connect's userinfo)."""

    token: str
    authorize: str | None = None
    device: str | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of a provider. Its endpoints may hold `{tenant}`; the first flow is the one for most people.

    `scopes`: what each flow asks for. `needed`: without them a consent is of no use. `extras`: what its authorisation
    page wants beside the standard's. `loopback`: how it spells this machine in a redirect. `hosts`: its mail servers.
    """

    name: str
    endpoints: Endpoints
    flows: tuple[Flow, ...]
    scopes: dict[Flow, tuple[str, ...]]
    needed: tuple[str, ...] = ()
    extras: tuple[tuple[str, str], ...] = ()
    loopback: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    source: str = ""


_GMAIL: Final = "https://mail.google.com/"
_OUTLOOK: Final = (
    "offline_access",
    "openid",
    "email",
    "profile",
    "https://outlook.office.com/IMAP.AccessAsUser.All",
    "https://outlook.office.com/SMTP.Send",
)
GOOGLE: Final = Provider(
    name="google",
    # Google's device flow does not give the scope for mail.
    endpoints=Endpoints(
        token="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
        authorize="https://accounts.google.com/o/oauth2/v2/auth",
        identity="https://openidconnect.googleapis.com/v1/userinfo",
    ),
    flows=(Flow.CODE, Flow.SERVICE_ACCOUNT),
    scopes={Flow.CODE: (_GMAIL, "openid", "email"), Flow.SERVICE_ACCOUNT: (_GMAIL,)},
    needed=(_GMAIL,),
    # Without these two there is no refresh token from the second consent on.
    extras=(("access_type", "offline"), ("prompt", "consent")),
    hosts=("imap.gmail.com", "smtp.gmail.com", "imap.googlemail.com", "smtp.googlemail.com"),
    source="developers.google.com/identity/protocols/oauth2/native-app and …/service-account, 2026-11",
)
MICROSOFT: Final = Provider(
    name="microsoft",
    endpoints=Endpoints(
        token="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",  # noqa: S106 - an address
        authorize="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
        device="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
    ),
    flows=(Flow.DEVICE, Flow.CODE, Flow.CLIENT_CREDENTIALS),
    scopes={
        Flow.DEVICE: _OUTLOOK,
        Flow.CODE: _OUTLOOK,
        Flow.CLIENT_CREDENTIALS: ("https://outlook.office365.com/.default",),
    },
    # A registered http://localhost stands for all its ports; an IP address does not.
    loopback="localhost",
    hosts=("outlook.office365.com", "imap-mail.outlook.com", "smtp.office365.com", "smtp-mail.outlook.com"),
    source="learn.microsoft.com: authenticate an IMAP, POP or SMTP connection using OAuth, 2026-11",
)
PROVIDERS: Final = {one.name: one for one in (GOOGLE, MICROSOFT)}


def provider_at(host: str) -> Provider | None:
    """The provider whose mail server this is."""
    return next((one for one in PROVIDERS.values() if host.lower().rstrip(".") in one.hosts), None)


@dataclass(frozen=True, slots=True)
class Application:
    """Who asks: an application registered with a provider, what it asks for, and where.

    `secret` is the client's secret, or a service account's key file; `subject` whom a service account acts for.
    """

    provider: str
    flow: Flow
    client_id: str
    secret: Secret | None
    endpoints: Endpoints
    scopes: tuple[str, ...]
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """What a provider answered with: an access token for some seconds, and what came with it.

    `scopes` is empty when it did not say; `names` are the addresses an ID token gives for whom it is.
    """

    access: Secret
    life_seconds: float
    refresh: Secret | None = None
    scopes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person is told to open and to type in, and how the provider is then asked whether that was done."""

    device_code: Secret
    user_code: str
    verification_uri: str
    interval_seconds: float
    life_seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A connector's consent. What is sealed is ciphertext (see vault); `version` counts the changes of its tokens.

    `mailbox` is whom it was given for, `hosts` where its tokens may be sent
    (see `tokens.way_of`). `refused` says, in the provider's words,
    why it is of no use any more; None while it is. A grant without a refresh token gets the next token by its secret.
    """

    id: UUID
    connector_id: ConnectorId
    created_at: datetime
    provider: str
    flow: Flow
    client_id: str
    token_url: str
    authorize_url: str | None
    device_url: str | None
    identity_url: str | None
    scopes: tuple[str, ...]
    subject: str | None
    mailbox: str
    hosts: tuple[str, ...]
    sealed_client_secret: bytes | None
    sealed_refresh_token: bytes | None
    sealed_access_token: bytes
    obtained_at: datetime
    expires_at: datetime
    refused: str | None = None
    version: int = 1

    @property
    def endpoints(self) -> Endpoints:
        """Where its provider is asked."""
        return Endpoints(self.token_url, self.authorize_url, self.device_url, self.identity_url)


def checked_url(field: str, url: str) -> str:
    """`url` if secrets may be sent there: HTTPS, or HTTP to this very machine; else Invalid."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Invalid(field, "is not a URL") from None
    if parts.scheme not in ("https", "http") or not host or parts.username is not None or parts.fragment:
        raise Invalid(field, "must look like https://login.example.org/oauth2/token")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise Invalid(field, "must begin with https:// (http is for this machine alone)")
    if not url.isascii() or any(mark.isspace() or not mark.isprintable() for mark in url):
        raise Invalid(field, "must hold neither spaces nor other letters than a URL's")
    return url
