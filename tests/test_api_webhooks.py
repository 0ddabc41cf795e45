"""Webhooks over the API, asked as people and MailSlurp's own client ask."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, open_site
from inboxd.api.wire.payloads import WebhookEmailReadPayload, WebhookNewAttachmentPayload, WebhookNewEmailPayload
from webhook_receiver import Receiver, open_receiver

URL = "http://127.0.0.1:9/hook"
SECRETS: dict[str, Any] = {
    "basicAuth": {"username": "me", "password": "pass-9148"},
    "includeHeaders": {"headers": [{"name": "X-Token", "value": "tok-7351"}]},
}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with open_receiver() as opened:
        yield opened


async def create(site: Site, inbox_id: str | None = None, **options: object) -> dict[str, Any]:
    path = "/webhooks" if inbox_id is None else f"/inboxes/{inbox_id}/webhooks"
    reply = await site.ask("POST", path, {"url": URL, **options})
    assert reply.status == 201, reply.json
    return reply.json


async def names(site: Site, path: str, **query: str) -> list[str]:
    reply = await site.ask("GET", path, params=query)
    assert reply.status == 200, reply.json
    shown: Any = reply.json
    content: list[dict[str, Any]] = shown if path.endswith("/webhooks") else shown["content"]
    return [one["name"] for one in content]


async def test_new_webhook_is_shown_whole_and_without_secrets(site: Site) -> None:
    made = await site.new_connector()
    shown = await create(site, made["inboxId"], name="my hook", tags=["a"], useStaticIpRange=True, **SECRETS)
    assert await create(site, made["inboxId"]) | {"id": 0, "createdAt": 0, "updatedAt": 0, "payloadJsonSchema": 0} == {
        "id": 0, "createdAt": 0, "updatedAt": 0, "payloadJsonSchema": 0, "userId": made["userId"], "basicAuth": False,
        "name": None, "phoneId": None, "inboxId": made["inboxId"], "requestBodyTemplate": None, "url": URL,
        "method": "POST", "eventName": "EMAIL_RECEIVED", "requestHeaders": None, "aiTransformId": None,
        "ignoreInsecureSslCertificates": False, "useStaticIpRange": False, "healthStatus": "HEALTHY", "enabled": True,
    }  # fmt: skip
    assert (shown["basicAuth"], shown["useStaticIpRange"], shown["name"]) == (True, True, "my hook")
    assert shown["requestHeaders"] == {"headers": [{"name": "X-Token", "value": "**********"}]}
    assert (await site.ask("GET", f"/webhooks/{shown['id']}")).json == shown
    listed = (await site.ask("GET", "/webhooks/paginated")).json["content"][1]
    assert (listed["username"], listed["password"]) == ("me", None)
    assert "pass-9148" not in f"{shown}{listed}"
    assert "tok-7351" not in f"{shown}{listed}"


@pytest.mark.parametrize(
    ("event", "model"),
    [
        ("EMAIL_RECEIVED", WebhookNewEmailPayload),
        ("NEW_EMAIL", WebhookNewEmailPayload),
        ("NEW_ATTACHMENT", WebhookNewAttachmentPayload),
        ("EMAIL_READ", WebhookEmailReadPayload),
    ],
)
async def test_test_posts_a_sample_that_fits_the_schema(
    site: Site, receiver: Receiver, event: str, model: type[WebhookNewEmailPayload]
) -> None:
    webhook = await create(site, url=f"{receiver.url}/x", eventName=event, **SECRETS)
    reply = await site.ask("POST", f"/webhooks/{webhook['id']}/test")
    posted = await receiver.next()
    schema = json.loads(webhook["payloadJsonSchema"])
    assert set(posted.json) == set(schema["properties"]) == set(schema["required"]) | {"domainId"} & set(posted.json)
    assert model.model_validate(posted.json).event_name.value == event
    assert (posted.json["webhookId"], posted.json["eventName"]) == (webhook["id"], event)
    assert posted.headers["X-Token"] == "tok-7351"
    assert reply.status == 201
    assert reply.json["response"] == {"statusCode": 200, "message": "thanks"}
    assert reply.json["message"] is None
    assert reply.json["request"]["payload"].encode() == posted.body
    shown = reply.json["request"]["headers"]
    assert (shown["X-Token"], shown["Authorization"], shown["X-Event"]) == ("***", "***", event)
    assert (await site.ask("GET", f"/webhooks/{webhook['id']}/results")).json["totalElements"] == 0


async def test_test_tells_of_a_receiver_that_does_not_take_it(site: Site, receiver: Receiver) -> None:
    receiver.answers.append(418)
    webhook = await create(site, url=receiver.url)
    reply = (await site.ask("POST", f"/webhooks/{webhook['id']}/test")).json
    assert reply["response"]["statusCode"] == 418
    assert "418" in reply["message"]
    nobody = await create(site, url="http://127.0.0.1:9/")
    reply = (await site.ask("POST", f"/webhooks/{nobody['id']}/test")).json
    assert reply["response"]["statusCode"] is None
    assert "cannot connect to 127.0.0.1" in reply["message"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"url": None}, "url: is required"),
        ({"url": "example.com/hook"}, "url: write an absolute"),
        ({"url": "ftp://example.com/"}, "url: write an absolute"),
        ({"url": "http://"}, "url: write an absolute"),
        ({"url": "http://a b/"}, "url: write an absolute"),
        ({"url": "http://a:99999/"}, "url: write an absolute"),
        ({"url": "http://a/\r\nX: y"}, "url: write an absolute"),
        ({"url": "http://me:secret@a/"}, "url: must not hold a user name or password; give them as basicAuth"),
        ({"eventName": "NEW_SMS"}, "eventName: NEW_SMS never happens on this server; use one of EMAIL_RECEIVED, NEW_"),
        ({"eventName": "BOUNCE"}, "eventName: BOUNCE never happens"),
        ({"eventName": "x"}, "eventName: must be one of EMAIL_RECEIVED, "),
        ({"requestBodyTemplate": "{{x}}"}, "requestBodyTemplate: is not supported"),
        ({"aiTransformId": str(uuid4())}, "aiTransformId: is not supported"),
        ({"basicAuth": {"username": "a:b", "password": "x"}}, "basicAuth.username: must not hold a colon"),
        ({"basicAuth": {"username": "a"}}, "basicAuth.password: is required"),
        ({"basicAuth": {"username": "a", "password": "x\ny"}}, "basicAuth.password: must be one line"),
        ({"basicAuth": {"username": "a", "password": "***"}}, "basicAuth: is only the mask"),
        ({"includeHeaders": {"headers": [{"name": "Host", "value": "x"}]}}, "headers.0.name: Host is set by this"),
        ({"includeHeaders": {"headers": [{"name": "a b", "value": "x"}]}}, "headers.0.name: is not the name"),
        ({"includeHeaders": {"headers": [{"name": "a", "value": "x\r\ny"}]}}, "headers.0.value: must be one line"),
        ({"includeHeaders": {"headers": [{"name": "a", "value": "****"}]}}, "includeHeaders: is only the mask"),
        ({"includeHeaders": {}}, "includeHeaders.headers: is required"),
    ],
)
async def test_what_cannot_be_is_400_in_plain_words(site: Site, wrong: dict[str, object], message: str) -> None:
    webhook = await create(site)
    for method, path in (("POST", "/webhooks"), ("PATCH", f"/webhooks/{webhook['id']}")):
        reply = await site.ask(method, path, {"url": URL} | wrong)
        if method == "PATCH" and wrong == {"url": None}:
            assert reply.status == 200
            continue
        assert reply.status == 400, reply.json
        assert message in reply.json["message"]
        assert "secret" not in reply.json["message"].replace("mask of a secret; give the secret", "")
    assert (await site.ask("GET", "/webhooks/paginated")).json["totalElements"] == 1


async def test_unknown_ids_are_404(site: Site) -> None:
    made, other = await site.new_connector(), await site.new_connector()
    webhook, wide = await create(site, made["inboxId"]), await create(site)
    nobody = str(uuid4())
    for method, path in (
        ("POST", f"/inboxes/{nobody}/webhooks"),
        ("GET", f"/inboxes/{nobody}/webhooks"),
        ("GET", f"/inboxes/{nobody}/webhooks/paginated"),
        ("DELETE", f"/inboxes/{other['inboxId']}/webhooks/{webhook['id']}"),
        ("DELETE", f"/inboxes/{made['inboxId']}/webhooks/{wide['id']}"),
        ("GET", f"/webhooks/{nobody}"),
        ("PATCH", f"/webhooks/{nobody}"),
        ("PATCH", f"/webhooks/{webhook['id']}?inboxId={nobody}"),
        ("DELETE", f"/webhooks/{nobody}"),
        ("POST", f"/webhooks/{nobody}/test"),
        ("GET", f"/webhooks/{nobody}/results"),
        ("GET", "/webhooks/nonsense"),
    ):
        reply = await site.ask(method, path, {"url": URL} if method in ("POST", "PATCH") else None)
        assert reply.status == 404, (method, path, reply.json)
    assert (await site.ask("GET", "/webhooks/paginated")).json["totalElements"] == 2


async def test_change_keeps_what_was_not_given(site: Site) -> None:
    made = await site.new_connector()
    webhook = await create(site, name="one", **SECRETS)
    path = f"/webhooks/{webhook['id']}"
    masked = {"headers": [*webhook["requestHeaders"]["headers"], {"name": "X-More", "value": "v"}]}
    changed = (await site.ask("PATCH", path, {"eventName": "EMAIL_READ", "includeHeaders": masked})).json
    assert (changed["name"], changed["url"], changed["basicAuth"]) == ("one", URL, True)
    assert changed["eventName"] == "EMAIL_READ"
    assert "emailIsRead" in changed["payloadJsonSchema"]
    assert [one["name"] for one in changed["requestHeaders"]["headers"]] == ["X-Token", "X-More"]
    moved = await site.ask("PATCH", f"{path}?inboxId={made['inboxId']}&overrideAuth=true", {"name": ""})
    assert (moved.json["inboxId"], moved.json["basicAuth"], moved.json["name"]) == (made["inboxId"], False, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://127.0.0.2:9/"}, "basicAuth"),
        ({"url": "https://127.0.0.1:9/"}, "basicAuth"),
        ({"url": "http://127.0.0.1:10/"}, "basicAuth"),
        ({"ignoreInsecureSslCertificates": True}, "basicAuth"),
        ({"url": "http://elsewhere/", "basicAuth": SECRETS["basicAuth"]}, "includeHeaders"),
    ],
)
async def test_stored_secrets_go_nowhere_else(site: Site, change: dict[str, object], field: str) -> None:
    webhook = await create(site, **SECRETS)
    path = f"/webhooks/{webhook['id']}"
    reply = await site.ask("PATCH", path, change)
    assert reply.status == 400
    assert reply.json["message"].startswith(f"{field}: ")
    assert (await site.ask("GET", path)).json == webhook
    assert (await site.ask("PATCH", path, {"url": "http://127.0.0.1:9/other?path"})).status == 200
    assert (await site.ask("PATCH", path, SECRETS | change)).status == 200


async def test_lists_are_filtered_and_sorted(site: Site) -> None:
    made, other = await site.new_connector(), await site.new_connector()
    for name, inbox_id in (
        ("one", made["inboxId"]),
        ("two", made["inboxId"]),
        ("else", other["inboxId"]),
        ("all", None),
    ):
        await create(site, inbox_id, name=name, eventName="EMAIL_READ" if name == "two" else "NEW_EMAIL")
    own = f"/inboxes/{made['inboxId']}/webhooks"
    assert await names(site, own) == ["one", "two"]
    assert await names(site, own, sort="DESC", size="1") == ["two"]
    assert await names(site, f"{own}/paginated") == ["one", "two"]
    assert await names(site, f"{own}/paginated", includeAccountWide="true") == ["one", "two", "all"]
    assert await names(site, f"{own}/paginated", eventType="EMAIL_READ", health="HEALTHY") == ["two"]
    assert await names(site, "/webhooks/paginated") == ["all", "else", "two", "one"]
    assert await names(site, "/webhooks/paginated", inboxId=made["inboxId"], sort="ASC") == ["one", "two"]
    assert await names(site, "/webhooks/paginated", searchFilter="TW", eventTypeSource="INBOX") == ["two"]
    assert await names(site, "/webhooks/paginated", health="UNHEALTHY") == []
    assert await names(site, "/webhooks/paginated", url="http://nowhere/") == []
    assert await names(site, "/webhooks/paginated", before="2001-01-01T00:00:00Z") == []
    for field in ("phoneId", "aiTransformerId"):
        reply = await site.ask("GET", f"/webhooks/paginated?{field}={uuid4()}")
        assert (reply.status, reply.json["message"].split(":")[0]) == (400, field)


async def test_deleting_answers_as_each_operation_does(site: Site) -> None:
    made = await site.new_connector()
    first, second = await create(site, made["inboxId"]), await create(site, made["inboxId"])
    reply = await site.ask("DELETE", f"/inboxes/{made['inboxId']}/webhooks/{first['id']}")
    assert (reply.status, reply.body) == (204, b"")
    reply = await site.ask("DELETE", f"/webhooks/{second['id']}")
    assert (reply.status, reply.body) == (200, b"")
    assert await names(site, "/webhooks/paginated") == []


async def test_mailslurps_client_manages_webhooks(site: Site, receiver: Receiver) -> None:
    made = await site.new_connector()
    await site.deliver(made, MAIL)

    def walk(client: Any) -> Any:
        api = SDK.WebhookControllerApi(client)
        auth = SDK.BasicAuthOptions(username="me", password="x")
        headers = SDK.WebhookHeaders(headers=[SDK.WebhookHeaderNameValue(name="X-A", value="b")])
        options = SDK.CreateWebhookOptions(
            url=receiver.url, name="hook", event_name="NEW_EMAIL", basic_auth=auth, include_headers=headers
        )
        webhook = api.create_webhook(made["inboxId"], options)
        wide = api.create_account_webhook(SDK.CreateWebhookOptions(url=receiver.url))
        assert wide.event_name == "EMAIL_RECEIVED"
        assert wide.inbox_id is None
        assert api.get_webhook(webhook.id).basic_auth is True
        assert [one.id for one in api.get_webhooks(made["inboxId"])] == [webhook.id]
        assert api.get_inbox_webhooks_paginated(made["inboxId"], include_account_wide=True).total_elements == 2
        assert [one.id for one in api.get_all_webhooks().content] == [wide.id, webhook.id]
        renamed = api.update_webhook(webhook.id, SDK.CreateWebhookOptions(url=receiver.url, name="renamed"))
        assert renamed.name == "renamed"
        tested = api.send_test_data(webhook.id)
        assert tested.response.status_code == 200
        assert tested.request.headers["X-A"] == "***"
        assert api.get_webhook_results(webhook.id, result_type="SUCCESS").total_elements == 0
        api.delete_webhook(made["inboxId"], webhook.id)
        api.delete_webhook_by_id(wide.id)
        with pytest.raises(SDK.ApiException) as refused:
            api.get_webhook(webhook.id)
        return refused.value.status

    assert await site.sdk(walk) == 404
