"""Handlers of webhooks."""

from __future__ import annotations

from dataclasses import replace

from inboxd import logs, receiver
from inboxd.api.wire.payloads import sample_of, write_payload
from inboxd.api.wire.shapes import PageQuery
from inboxd.api.wire.webhook_options import CreateWebhookOptions, UpdateWebhookOptions, check_way
from inboxd.api.wire.webhooks import (
    AllWebhooksQuery,
    InboxWebhooksQuery,
    PageWebhookProjection,
    PageWebhookResult,
    ResultsQuery,
    UpdateWebhookQuery,
    WebhookDto,
    WebhookProjection,
    WebhookResultDto,
    WebhookTestRequest,
    WebhookTestResponse,
    WebhookTestResult,
)
from inboxd.errors import PostFailed
from inboxd.model import InboxId, Page, Window
from inboxd.post import open_client
from inboxd.services import Services
from inboxd.store import inboxes, webhooks
from inboxd.webhooks import Credentials, Webhook, WebhookFilter, WebhookId

_log = logs.logger("api")


async def create(services: Services, inbox_id: InboxId, body: CreateWebhookOptions) -> WebhookDto:
    """Create a webhook that is told of what happens in one inbox."""
    await inboxes.get(services.store, inbox_id)
    return await _create(services, inbox_id, body)


async def create_account_wide(services: Services, body: CreateWebhookOptions) -> WebhookDto:
    """Create a webhook that is told of what happens in every inbox."""
    return await _create(services, None, body)


async def get_of_inbox(services: Services, inbox_id: InboxId, query: PageQuery) -> list[WebhookProjection]:
    """The webhooks of an inbox, a page of them."""
    await inboxes.get(services.store, inbox_id)
    page = await webhooks.page(services.store, WebhookFilter(inbox_id), query.window())
    return [WebhookProjection.of(webhook, services.user_id) for webhook in page.rows]


async def get_inbox_page(services: Services, inbox_id: InboxId, query: InboxWebhooksQuery) -> PageWebhookProjection:
    """A page of an inbox's webhooks, with those of no inbox if asked for."""
    await inboxes.get(services.store, inbox_id)
    window = query.window()
    return _page(services, window, await webhooks.page(services.store, query.of_inbox(inbox_id), window))


async def get_page(services: Services, query: AllWebhooksQuery) -> PageWebhookProjection:
    """A page of all webhooks."""
    window = query.window()
    return _page(services, window, await webhooks.page(services.store, query.filter(), window))


async def get(services: Services, webhook_id: WebhookId) -> WebhookDto:
    """One webhook."""
    return WebhookDto.of(await webhooks.get(services.store, webhook_id), services.user_id)


async def update(
    services: Services, webhook_id: WebhookId, query: UpdateWebhookQuery, body: UpdateWebhookOptions
) -> WebhookDto:
    """Change what was given of a webhook. It counts as healthy again, and what waits is posted now."""
    query.check()
    stored = await webhooks.get(services.store, webhook_id)
    webhook, known = body.changed(stored), receiver.opened(services.vault, stored)
    if query.inbox_id is not None:
        webhook = replace(webhook, inbox_id=(await inboxes.get(services.store, InboxId(query.inbox_id))).id)
    kept = known
    if query.override_auth and body.basic_auth is None:
        webhook, kept = replace(webhook, username=None), replace(known, password=None)
    credentials = body.credentials(kept)
    check_way(stored, webhook, known, credentials)
    changed = await webhooks.change(services.store, receiver.sealed(services.vault, webhook, credentials))
    _log.info("webhook_changed", webhook=str(webhook_id))
    services.bus.publish(webhook_id)
    return WebhookDto.of(changed, services.user_id)


async def delete_of_inbox(services: Services, inbox_id: InboxId, webhook_id: WebhookId) -> None:
    """Delete a webhook of an inbox; what waits is not posted."""
    await webhooks.remove(services.store, webhook_id, inbox_id)
    _log.info("webhook_deleted", webhook=str(webhook_id))


async def delete(services: Services, webhook_id: WebhookId) -> None:
    """Delete a webhook; what waits is not posted."""
    await webhooks.remove(services.store, webhook_id)
    _log.info("webhook_deleted", webhook=str(webhook_id))


async def test(services: Services, webhook_id: WebhookId) -> WebhookTestResult:
    """Post a sample of the webhook's event now, once; what became of it is told and not kept."""
    webhook = await webhooks.get(services.store, webhook_id)
    body = write_payload(sample_of(webhook))
    async with open_client(services.settings.webhooks) as client:
        try:
            reply = await receiver.post(client, services.vault, webhook, webhook.event, body)
            message = None if reply.ok else f"the receiver answered {reply.status}; posts need a status of 2xx"
            response = WebhookTestResponse(status_code=reply.status, message=reply.extract)
        except PostFailed as error:
            message = str(error)
            response = WebhookTestResponse(status_code=None, message=message)
    headers = receiver.shown_headers(webhook, webhook.event)
    request = WebhookTestRequest(url=webhook.url, headers=headers, payload=body.decode())
    return WebhookTestResult(message=message, response=response, request=request)


async def get_results(services: Services, webhook_id: WebhookId, query: ResultsQuery) -> PageWebhookResult:
    """A page of how the webhook's posts ended, each try by itself."""
    window = query.window()
    page = await webhooks.results(services.store, webhook_id, query.filter(), window)
    return PageWebhookResult.of(window, page, lambda result: WebhookResultDto.of(result, services.user_id))


async def _create(services: Services, inbox_id: InboxId | None, body: CreateWebhookOptions) -> WebhookDto:
    bare = body.webhook(inbox_id)
    webhook = receiver.sealed(services.vault, bare, body.credentials(Credentials()))
    await webhooks.add(services.store, webhook)
    _log.info("webhook_created", webhook=str(webhook.id), told_of=webhook.event.value)
    return WebhookDto.of(webhook, services.user_id)


def _page(services: Services, window: Window, page: Page[Webhook]) -> PageWebhookProjection:
    return PageWebhookProjection.of(window, page, lambda webhook: WebhookProjection.of(webhook, services.user_id))
