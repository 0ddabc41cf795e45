"""What a webhook may be given: where it posts, of what, and with which secrets."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pydantic import AfterValidator, Field, SecretStr

from inboxd.api.wire.shapes import Line, Request, one_line
from inboxd.errors import Invalid
from inboxd.model import InboxId, Secret, utc_now
from inboxd.webhooks import FIRING, Credentials, Webhook, WebhookEvent, WebhookId

_MOST_HEADERS: Final = 50
_MOST_TAGS: Final = 100
_MASK = re.compile(r"[*•]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}", re.ASCII)  # RFC 9110 §5.6.2
_URL = re.compile(r"[^\s\x00-\x20\x7f]{1,2048}")
# What frames the request, and what it always says.
_OURS: Final = frozenset(
    ("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "upgrade",
     "expect", "te", "trailer", "keep-alive", "x-event")
)  # fmt: skip


def _web_url(text: str) -> str:
    problem = "write an absolute http:// or https:// URL, for example https://example.com/hook"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise ValueError(problem) from error
    if not usable or not _URL.fullmatch(text):
        raise ValueError(problem)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password; give them as basicAuth")
    return text


def _header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError("is not the name of an HTTP header")
    if text.lower() in _OURS:
        raise ValueError(f"{text} is set by this server")
    return text


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) > 4_096 or any(mark < " " and mark != "\t" for mark in text) or "\x7f" in text:
        raise ValueError("must be one line of at most 4096 characters")
    return value


def _username(text: str) -> str:
    if ":" in one_line(text):
        raise ValueError("must not hold a colon (RFC 7617)")
    return text


Url = Annotated[str, AfterValidator(_web_url)]


class BasicAuthOptions(Request):
    username: Annotated[str, Field(max_length=1_000), AfterValidator(_username)]
    password: Annotated[SecretStr, AfterValidator(_header_value)]


class WebhookHeaderNameValue(Request):
    """A header of every post. Values are secrets: a stored one is shown as a mask, and a mask keeps it."""

    name: Annotated[str, AfterValidator(_header_name)]
    value: Annotated[SecretStr, AfterValidator(_header_value)]


class WebhookHeaders(Request):
    headers: Annotated[list[WebhookHeaderNameValue], Field(max_length=_MOST_HEADERS)]


class WebhookOptions(Request):
    """What a webhook may be given beside its URL; absent fields keep their value when it is changed."""

    basic_auth: BasicAuthOptions | None = None
    name: Line | None = None
    event_name: WebhookEvent | None = None
    include_headers: WebhookHeaders | None = None
    request_body_template: str | None = None
    ai_transform_id: UUID | None = None
    use_static_ip_range: bool | None = None
    ignore_insecure_ssl_certificates: bool | None = None
    tags: Annotated[list[Line], Field(max_length=_MOST_TAGS)] | None = None
    enabled: bool | None = None

    def merged(self, stored: Webhook) -> Webhook:
        """The stored webhook with what was given, its secrets aside; Invalid when it asks for what cannot be."""
        self._check()
        ignore = self.ignore_insecure_ssl_certificates
        return replace(
            stored,
            updated_at=utc_now(),
            event=self.event_name or stored.event,
            name=stored.name if self.name is None else self.name or None,
            verify_tls=stored.verify_tls if ignore is None else not ignore,
            use_static_ip_range=_or(self.use_static_ip_range, stored.use_static_ip_range),
            tags=stored.tags if self.tags is None else tuple(self.tags),
            enabled=_or(self.enabled, stored.enabled),
            username=self.basic_auth.username if self.basic_auth else stored.username,
        )

    def credentials(self, stored: Credentials) -> Credentials:
        """The secrets: what was given, else what is stored. Invalid for a mask that stands for nothing."""
        password, headers = stored.password, stored.headers
        if self.basic_auth is not None:
            password = Secret(self.basic_auth.password.get_secret_value())
            if _MASK.fullmatch(password.reveal()):
                password = _unmasked("basicAuth", stored.password)
        if self.include_headers is not None:
            known = {name.lower(): value for name, value in stored.headers}
            headers = tuple((header.name, _value(header, known)) for header in self.include_headers.headers)
        return Credentials(password, headers)

    def _check(self) -> None:
        if self.event_name is not None and self.event_name not in FIRING:
            possible = ", ".join(event.value for event in FIRING)
            raise Invalid("eventName", f"{self.event_name.value} never happens on this server; use one of {possible}")
        if self.request_body_template:
            raise Invalid("requestBodyTemplate", "is not supported; leave it out to be posted the event's own payload")
        if self.ai_transform_id is not None:
            raise Invalid("aiTransformId", "is not supported; leave it out")


class CreateWebhookOptions(WebhookOptions):
    """A new webhook; `event_name` is EMAIL_RECEIVED unless given. `use_static_ip_range` has no effect."""

    url: Url

    def webhook(self, inbox_id: InboxId | None) -> Webhook:
        """The new webhook, of every inbox when `inbox_id` is None, without its secrets; Invalid."""
        now = utc_now()
        bare = Webhook(WebhookId(uuid4()), now, now, self.url, WebhookEvent.EMAIL_RECEIVED, inbox_id)
        return replace(self.merged(bare), updated_at=now)


class UpdateWebhookOptions(WebhookOptions):
    """A change of a webhook."""

    url: Url | None = None

    def changed(self, stored: Webhook) -> Webhook:
        """The stored webhook with what was given, its secrets aside; Invalid when it asks for what cannot be."""
        return replace(self.merged(stored), url=self.url or stored.url)


def check_way(stored: Webhook, webhook: Webhook, known: Credentials, credentials: Credentials) -> None:
    """Invalid when a stored secret would now go where its owner did not send it, or with less protection."""
    weaker = stored.verify_tls and not webhook.verify_tls
    if _origin(stored.url) == _origin(webhook.url) and not weaker:
        return
    words = "the posts would go elsewhere, or unverified, with the stored secret; give it again"
    if credentials.password is not None and credentials.password is known.password:
        raise Invalid("basicAuth", f"{words}, or overrideAuth=true to have none")
    if {id(value) for _, value in credentials.headers} & {id(value) for _, value in known.headers}:
        raise Invalid("includeHeaders", f"{words}, or an empty list to have none")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _or(given: bool | None, stored: bool) -> bool:
    return stored if given is None else given


def _value(header: WebhookHeaderNameValue, known: dict[str, Secret]) -> Secret:
    given = header.value.get_secret_value()
    return _unmasked("includeHeaders", known.get(header.name.lower())) if _MASK.fullmatch(given) else Secret(given)


def _unmasked(field: str, stored: Secret | None) -> Secret:
    if stored is None:
        raise Invalid(field, "is only the mask of a secret; give the secret itself")
    return stored
