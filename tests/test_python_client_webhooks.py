"""MailSlurp's Python client through webhooks, with a receiver that is posted to."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from servers import LOOPBACK, free_port
from servers.python import SDK, Walk, refused, walks


class Receiver(ThreadingHTTPServer):
    """Takes posts and answers `status` to them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Answer)
        self.posted: queue.Queue[tuple[dict[str, str], Any]] = queue.Queue()
        self.status = 200
        self.url = f"http://{LOOPBACK}:{self.server_port}/hook"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Take a post."""
        assert isinstance(self.server, Receiver)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.put((dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Generator[Receiver]:
    """A receiver that answers until the test ends."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def options(**wanted: Any) -> Any:
    """The options of a webhook for new mail that nobody receives."""
    return SDK.CreateWebhookOptions(**({"url": f"http://{LOOPBACK}:9/hook", "event_name": "NEW_EMAIL"} | wanted))


@walks("createWebhook", "createAccountWebhook", "getWebhook", "updateWebhook")
def test_webhooks_are_created_and_changed(walk: Walk) -> None:
    webhooks, inbox_id = walk.client.webhooks, walk.inbox_id
    basic = SDK.BasicAuthOptions(username="u", password="secret-p")
    header = SDK.WebhookHeaders(headers=[SDK.WebhookHeaderNameValue(name="X-Token", value="secret-t")])
    made = webhooks.create_webhook(
        inbox_id, options(name="made", basic_auth=basic, include_headers=header, ignore_insecure_ssl_certificates=True)
    )
    assert (made.inbox_id, made.name, made.event_name, made.method) == (inbox_id, "made", "NEW_EMAIL", "POST")
    assert (made.basic_auth, made.enabled, made.health_status) == (True, True, "HEALTHY")
    assert (made.ignore_insecure_ssl_certificates, made.phone_id) == (True, None)
    assert json.loads(made.payload_json_schema)["type"] == "object"
    (shown,) = made.request_headers.headers
    assert (shown.name, "secret" in shown.value) == ("X-Token", False)
    assert webhooks.get_webhook(made.id) == made
    account = webhooks.create_account_webhook(options(event_name="EMAIL_READ", use_static_ip_range=False))
    assert (account.inbox_id, account.event_name, account.basic_auth) == (None, "EMAIL_READ", False)
    assert account.user_id == made.user_id

    renamed = webhooks.update_webhook(made.id, options(name="renamed"))
    assert (renamed.name, renamed.basic_auth, renamed.url) == ("renamed", True, made.url)
    moved = webhooks.update_webhook(account.id, options(), inbox_id=inbox_id)
    assert moved.inbox_id == inbox_id
    bare = webhooks.update_webhook(made.id, options(), override_auth=True)
    assert bare.basic_auth is False

    for create in (
        webhooks.create_account_webhook,
        partial(webhooks.create_webhook, inbox_id),
        partial(webhooks.update_webhook, made.id),
    ):
        assert "url" in refused(400, create, options(url="ftp://example.com/"))
        assert "eventName" in refused(400, create, {"url": made.url, "eventName": "NEW_FAX"})
        assert "requestBodyTemplate" in refused(400, create, options(request_body_template="{}"))
    with pytest.raises(ValueError, match="event_name"):
        options(event_name="NEW_FAX")
    assert "overrideAuth" in refused(400, webhooks.update_webhook, made.id, options(), override_auth="perhaps")
    refused(404, webhooks.update_webhook, made.id, options(), inbox_id=str(uuid4()))


@walks("createWebhook", "createAccountWebhook", "getWebhooks", "getInboxWebhooksPaginated", "getAllWebhooks")
def test_webhooks_are_listed(walk: Walk) -> None:
    webhooks, inbox_id = walk.client.webhooks, walk.inbox_id
    basic = SDK.BasicAuthOptions(username="u", password="secret-p")
    first = webhooks.create_webhook(inbox_id, options(name="first", basic_auth=basic))
    second = webhooks.create_webhook(inbox_id, options(name="second", event_name="NEW_ATTACHMENT"))
    account = webhooks.create_account_webhook(options(name="account", event_name="EMAIL_READ"))
    rows = webhooks.get_webhooks(inbox_id, page=0, size=5, sort="ASC")
    assert [(row.id, row.username, row.password) for row in rows] == [(first.id, "u", None), (second.id, None, None)]

    def of_inbox(**query: object) -> list[str]:
        return [row.name for row in webhooks.get_inbox_webhooks_paginated(inbox_id, **query).content]

    def everywhere(**query: object) -> list[str]:
        return [row.name for row in webhooks.get_all_webhooks(**query).content]

    assert (of_inbox(), of_inbox(sort="DESC", size=1)) == (["first", "second"], ["second"])
    assert of_inbox(include_account_wide=True) == ["first", "second", "account"]
    assert (of_inbox(event_type="NEW_ATTACHMENT"), of_inbox(health="UNHEALTHY")) == (["second"], [])
    assert everywhere() == ["account", "second", "first"]
    assert everywhere(sort="ASC", page=1, size=2) == ["account"]
    assert everywhere(search_filter="SECO", health="HEALTHY", event_type_source="INBOX") == ["second"]
    assert everywhere(inbox_id=inbox_id, include_account_wide=False) == ["second", "first"]
    assert everywhere(since=account.created_at + timedelta(days=1)) == []
    assert everywhere(before=datetime(2020, 1, 1, tzinfo=UTC)) == []
    for listing in (
        webhooks.get_all_webhooks,
        partial(webhooks.get_inbox_webhooks_paginated, inbox_id),
    ):
        assert "health" in refused(400, listing, health="ILL")
        assert "eventType" in refused(400, listing, event_type="NEW_FAX")
        assert "includeAccountWide" in refused(400, listing, include_account_wide="perhaps")
    assert "phoneId" in refused(400, webhooks.get_all_webhooks, phone_id=str(uuid4()))
    assert "size" in refused(400, webhooks.get_webhooks, inbox_id, size=0)


@walks("createWebhook", "sendTestData")
def test_sample_is_posted_and_its_answer_told(walk: Walk, receiver: Receiver) -> None:
    webhooks = walk.client.webhooks
    basic = SDK.BasicAuthOptions(username="u", password="secret-p")
    hook = webhooks.create_webhook(walk.inbox_id, options(url=receiver.url, basic_auth=basic))
    tested = webhooks.send_test_data(hook.id)
    headers, body = receiver.posted.get(timeout=30)
    assert (tested.response.status_code, tested.message) == (200, None)
    assert (tested.request.url, tested.request.method) == (receiver.url, "POST")
    assert json.loads(tested.request.payload) == body
    assert (body["webhookId"], body["eventName"]) == (hook.id, "NEW_EMAIL")
    assert headers["Authorization"].startswith("Basic ")
    assert "secret" not in str(tested.request.headers)
    receiver.status = 503
    failed = webhooks.send_test_data(hook.id)
    assert (failed.response.status_code, bool(failed.message)) == (503, True)
    receiver.server_close()
    gone = webhooks.send_test_data(hook.id)
    assert (gone.response.status_code, bool(gone.message)) == (None, True)


@walks("createWebhook", "createAccountWebhook", "getWebhookResults", "getEmail")
def test_events_are_posted_and_their_results_kept(walk: Walk, receiver: Receiver) -> None:
    webhooks = walk.client.webhooks
    hook = webhooks.create_webhook(walk.inbox_id, options(url=receiver.url, name="arrivals"))
    rich = walk.rich
    _, arrived = receiver.posted.get(timeout=30)
    assert (arrived["webhookId"], arrived["emailId"], arrived["subject"]) == (hook.id, rich, "rich")
    assert [file["name"] for file in arrived["attachmentMetaDatas"]] == ["picture.png", "report.pdf"]
    reader = webhooks.create_account_webhook(options(url=receiver.url, event_name="EMAIL_READ"))
    walk.client.emails.get_email(rich)
    _, read = receiver.posted.get(timeout=30)
    assert (read["webhookId"], read["emailId"], read["emailIsRead"]) == (reader.id, rich, True)
    for identity, event in ((hook.id, "NEW_EMAIL"), (reader.id, "EMAIL_READ")):
        (result,) = walk.daemon.until(lambda of=identity: webhooks.get_webhook_results(of).content, "the result")
        assert (result.webhook_id, result.webhook_event, result.webhook_url) == (identity, event, receiver.url)
        assert (result.result_type, result.response_status, result.seen) == ("SUCCESS", 200, False)
        assert (result.http_method, result.response_time_millis >= 0) == ("POST", True)
        assert (result.email_id, result.inbox_id) == (rich, walk.inbox_id)

    def results(**query: object) -> int:
        return webhooks.get_webhook_results(hook.id, **query).total_elements

    assert results(result_type="SUCCESS", min_status_code=200, max_status_code=299, unseen_only=True, sort="DESC") == 1
    assert (results(result_type="EXCEPTION"), results(min_status_code=300)) == (0, 0)
    assert (results(event_name="EMAIL_READ"), results(event_name="NEW_EMAIL")) == (0, 1)
    assert (results(email_id=rich, inbox_id=walk.inbox_id), results(email_id=str(uuid4()))) == (1, 0)
    assert (results(search_filter="hook"), results(before=datetime(2020, 1, 1, tzinfo=UTC))) == (1, 0)
    assert "resultType" in refused(400, webhooks.get_webhook_results, hook.id, result_type="FINE")
    assert "minStatusCode" in refused(400, webhooks.get_webhook_results, hook.id, min_status_code="many")
    assert "smsId" in refused(400, webhooks.get_webhook_results, hook.id, sms_id=str(uuid4()))


@walks("createWebhook", "getWebhookResults", "getWebhook")
def test_results_of_failed_posts_come_back_too(walk: Walk, receiver: Receiver) -> None:
    webhooks = walk.client.webhooks
    receiver.status = 500
    failing = webhooks.create_webhook(walk.inbox_id, options(url=receiver.url)).id
    deaf = webhooks.create_webhook(walk.inbox_id, options(url=f"http://{LOOPBACK}:{free_port()}/")).id
    assert walk.rich
    for identity, kind, status in ((failing, "BAD_RESPONSE", 500), (deaf, "EXCEPTION", None)):
        found = walk.daemon.until(lambda of=identity: webhooks.get_webhook_results(of).content, "a result")
        assert {(result.result_type, result.response_status) for result in found} == {(kind, status)}
        assert webhooks.get_webhook_results(identity, result_type=kind).total_elements >= 1
        assert webhooks.get_webhook(identity).enabled is True


@walks("createWebhook", "deleteWebhook", "deleteWebhookById", "getAllWebhooks", "createInbox")
def test_webhooks_are_deleted(walk: Walk) -> None:
    webhooks, other = walk.client.webhooks, walk.client.inboxes.create_inbox().id
    first, second = (webhooks.create_webhook(walk.inbox_id, options()).id for _ in range(2))
    refused(404, webhooks.delete_webhook, other, first)
    assert webhooks.delete_webhook(walk.inbox_id, first) is None
    refused(404, webhooks.delete_webhook, walk.inbox_id, first)
    content, status, _ = webhooks.delete_webhook_by_id_with_http_info(second)
    assert (content, status) == (None, 200)
    refused(404, webhooks.delete_webhook_by_id, second)
    assert webhooks.get_all_webhooks().total_elements == 0
