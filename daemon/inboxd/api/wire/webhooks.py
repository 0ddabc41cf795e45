"""WebhookController: webhooks, their lists, their test, and how their posts ended."""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, SecretStr

from inboxd.api.wire.payloads import schema_of
from inboxd.api.wire.shapes import Answer, Date, PageOf, PageQuery, Request, Sort, SortOrder
from inboxd.api.wire.webhook_options import WebhookHeaderNameValue, WebhookHeaders
from inboxd.errors import Invalid
from inboxd.model import AttachmentId, InboxId, MessageId
from inboxd.webhooks import Result, ResultFilter, ResultType, Webhook, WebhookEvent, WebhookFilter

_METHOD = Literal["POST"]


class Health(enum.Enum):
    """Whether the last posts were taken."""

    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


class UpdateWebhookQuery(Request):
    """`inbox_id`: the inbox it is of from now on. `override_auth`: without a `basicAuth` there is none any more."""

    inbox_id: UUID | None = None
    ai_transformer_id: UUID | None = None
    phone_number_id: UUID | None = None
    override_auth: bool = False

    def check(self) -> None:
        """Invalid when it names what is not here."""
        _refuse(aiTransformerId=self.ai_transformer_id, phoneNumberId=self.phone_number_id)


class InboxWebhooksQuery(PageQuery):
    """A page of an inbox's webhooks."""

    search_filter: str | None = None
    health: Health | None = None
    event_type: WebhookEvent | None = None
    include_account_wide: bool = False

    def of_inbox(self, inbox_id: InboxId | None, url: str | None = None) -> WebhookFilter:
        """The filter it asks for."""
        healthy = None if self.health is None else self.health is Health.HEALTHY
        return WebhookFilter(inbox_id, self.include_account_wide, self.search_filter, healthy, self.event_type, url)


class AllWebhooksQuery(InboxWebhooksQuery):
    """A page of all webhooks, newest first."""

    sort: SortOrder = Sort.DESC
    inbox_id: UUID | None = None
    ai_transformer_id: UUID | None = None
    phone_id: UUID | None = None
    url: str | None = None
    event_type_source: Literal["INBOX", "PHONE", "AI_TRANSFORMER"] | None = None

    def filter(self) -> WebhookFilter:
        """The filter it asks for; Invalid when no webhook can be what it asks for."""
        source = self.event_type_source
        _refuse(
            aiTransformerId=self.ai_transformer_id,
            phoneId=self.phone_id,
            eventTypeSource=None if source == "INBOX" else source,
        )
        return self.of_inbox(InboxId(self.inbox_id) if self.inbox_id else None, self.url)


class ResultsQuery(PageQuery):
    """A page of a webhook's results. All are unseen: there is nothing here that marks them as seen."""

    search_filter: str | None = None
    unseen_only: bool = False
    result_type: ResultType | None = None
    event_name: WebhookEvent | None = None
    min_status_code: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_status_code: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    inbox_id: UUID | None = None
    sms_id: UUID | None = None
    attachment_id: UUID | None = None
    email_id: UUID | None = None
    phone_id: UUID | None = None
    ai_transformer_id: UUID | None = None

    def filter(self) -> ResultFilter:
        """The filter it asks for; Invalid when no result can be what it asks for."""
        _refuse(smsId=self.sms_id, phoneId=self.phone_id, aiTransformerId=self.ai_transformer_id)
        return ResultFilter(
            search=self.search_filter,
            type=self.result_type,
            event=self.event_name,
            least_status=self.min_status_code,
            most_status=self.max_status_code,
            inbox_id=InboxId(self.inbox_id) if self.inbox_id else None,
            message_id=MessageId(self.email_id) if self.email_id else None,
            attachment_id=AttachmentId(self.attachment_id) if self.attachment_id else None,
        )


def _refuse(**unsupported: object) -> None:
    for field, given in unsupported.items():
        if given is not None:
            raise Invalid(field, "phones and AI transformers are not supported; leave it out")


class WebhookDto(Answer):
    """A webhook. `request_headers` shows masks for values."""

    id: UUID
    user_id: UUID
    basic_auth: bool
    name: str | None
    phone_id: UUID | None = None
    inbox_id: UUID | None
    request_body_template: str | None = None
    url: str
    method: _METHOD = "POST"
    payload_json_schema: str
    created_at: Date
    updated_at: Date
    event_name: WebhookEvent
    request_headers: WebhookHeaders | None
    ai_transform_id: UUID | None = None
    ignore_insecure_ssl_certificates: bool
    use_static_ip_range: bool
    health_status: Health
    enabled: bool

    @classmethod
    def of(cls, webhook: Webhook, user_id: UUID) -> Self:
        """The wire form of a webhook."""
        return cls(
            id=webhook.id,
            user_id=user_id,
            basic_auth=webhook.sealed_password is not None,
            name=webhook.name,
            inbox_id=webhook.inbox_id,
            url=webhook.url,
            payload_json_schema=schema_of(webhook.event),
            created_at=webhook.created_at,
            updated_at=webhook.updated_at,
            event_name=webhook.event,
            request_headers=_masked(webhook.header_names),
            ignore_insecure_ssl_certificates=not webhook.verify_tls,
            use_static_ip_range=webhook.use_static_ip_range,
            health_status=_health(webhook),
            enabled=webhook.enabled,
        )


def _masked(names: tuple[str, ...]) -> WebhookHeaders | None:
    if not names:
        return None
    hidden = SecretStr("hidden")  # which is written as a mask
    return WebhookHeaders(headers=[WebhookHeaderNameValue(name=name, value=hidden) for name in names])


def _health(webhook: Webhook) -> Health:
    return Health.HEALTHY if webhook.healthy else Health.UNHEALTHY


class WebhookProjection(Answer):
    """A webhook in a list; its password never leaves."""

    name: str | None
    id: UUID
    event_name: WebhookEvent
    url: str
    password: None = None
    username: str | None
    user_id: UUID
    inbox_id: UUID | None
    enabled: bool
    created_at: Date
    updated_at: Date
    ai_transformer_id: UUID | None = None
    phone_number_id: UUID | None = None
    ai_transform_id: UUID | None = None
    health_status: Health

    @classmethod
    def of(cls, webhook: Webhook, user_id: UUID) -> Self:
        """The wire form of a webhook."""
        return cls(
            name=webhook.name,
            id=webhook.id,
            event_name=webhook.event,
            url=webhook.url,
            username=webhook.username,
            user_id=user_id,
            inbox_id=webhook.inbox_id,
            enabled=webhook.enabled,
            created_at=webhook.created_at,
            updated_at=webhook.updated_at,
            health_status=_health(webhook),
        )


class PageWebhookProjection(PageOf[WebhookProjection]):
    pass


class WebhookTestRequest(Answer):
    """What was posted, its secrets hidden."""

    url: str
    method: _METHOD = "POST"
    headers: dict[str, str]
    payload: str | None


class WebhookTestResponse(Answer):
    """What was answered; without a status when nothing was."""

    status_code: int | None
    message: str | None


class WebhookTestResult(Answer):
    message: str | None
    response: WebhookTestResponse
    request: WebhookTestRequest


class WebhookResultDto(Answer):
    """How one try ended. `response_body_extract` says why there was no answer, when there was none."""

    id: UUID
    user_id: UUID
    webhook_id: UUID
    webhook_url: str
    message_id: str
    redrive_id: UUID | None = None
    http_method: _METHOD = "POST"
    webhook_event: WebhookEvent
    response_status: int | None
    response_time_millis: int
    response_body_extract: str | None
    result_type: ResultType
    created_at: Date
    updated_at: Date
    seen: bool = False
    inbox_id: UUID | None
    email_id: UUID | None
    attachment_id: UUID | None
    phone_id: UUID | None = None
    sms_id: UUID | None = None
    ai_transformer_id: UUID | None = None

    @classmethod
    def of(cls, result: Result, user_id: UUID) -> Self:
        """The wire form of a result."""
        return cls(
            id=result.id,
            user_id=user_id,
            webhook_id=result.webhook_id,
            webhook_url=result.url,
            message_id=str(result.delivery_id),
            webhook_event=result.event,
            response_status=result.status,
            response_time_millis=result.milliseconds,
            response_body_extract=result.extract,
            result_type=result.type,
            created_at=result.created_at,
            updated_at=result.created_at,
            inbox_id=result.inbox_id,
            email_id=result.message_id,
            attachment_id=result.attachment_id,
        )


class PageWebhookResult(PageOf[WebhookResultDto]):
    pass
