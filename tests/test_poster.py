"""What is posted to webhooks: each thing at least once, in order, whatever the receiver and the daemon do."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from api_site import MAIL, Site, database_bytes, open_site
from inboxd import __version__, poster
from inboxd.api.wire.payloads import write_payload
from inboxd.errors import PostFailed
from inboxd.outward import is_forbidden
from inboxd.post import EXTRACT_BYTES, open_client
from inboxd.sections import WebhookSettings
from inboxd.store import deliveries, webhooks
from inboxd.webhooks import WebhookId
from servers.certs import Certificates
from webhook_receiver import Receiver, open_receiver, until

WITH_FILES = (
    b'From: a@example.com\r\nTo: b@example.com\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n'
    b'Content-Type: text/plain\r\nContent-Disposition: attachment; filename="one.txt"\r\n\r\n1\r\n--x\r\n'
    b'Content-Type: image/png\r\nContent-Disposition: attachment; filename="two.png"\r\n\r\n22\r\n--x--\r\n'
)


@pytest_asyncio.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Site]:
    monkeypatch.setenv("INBOXD_WEBHOOKS__RETRY_FIRST_SECONDS", "0.02")
    monkeypatch.setenv("INBOXD_WEBHOOKS__RETRY_MOST_SECONDS", "0.05")
    async with open_site(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with open_receiver() as opened:
        yield opened


@asynccontextmanager
async def posting(site: Site) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        worker = group.create_task(poster.run(site.services, write_payload))
        yield
        worker.cancel()


async def hook(site: Site, made: dict[str, Any], url: str, **options: object) -> dict[str, Any]:
    reply = await site.ask("POST", f"/inboxes/{made['inboxId']}/webhooks", {"url": url, **options})
    assert reply.status == 201, reply.json
    return reply.json


async def results(site: Site, webhook: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The webhook's results, as soon as there are so many."""
    path = f"/webhooks/{webhook['id']}/results"

    async def there() -> bool:
        return (await site.ask("GET", path)).json["totalElements"] >= count

    await until(there)
    return (await site.ask("GET", path)).json["content"]


async def all_posted(site: Site) -> None:
    async def none() -> bool:
        return await deliveries.count(site.services.store) == 0

    await until(none)


@pytest.mark.parametrize("event", ["NEW_EMAIL", "EMAIL_RECEIVED"])
async def test_new_mail_is_posted_field_by_field(site: Site, receiver: Receiver, event: str) -> None:
    made = await site.new_connector()
    webhook = await hook(site, made, f"{receiver.url}/in?x=1", eventName=event, name="my hook")
    async with posting(site):
        (mail,) = await site.deliver(made, MAIL)
        posted = await receiver.next()
        (result,) = await results(site, webhook, 1)
    assert (posted.method, posted.path) == ("POST", "/in")
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.headers["User-Agent"] == f"inboxd/{__version__}"
    assert posted.headers["X-Event"] == event
    assert set(posted.headers) == {"Host", "Content-Type", "Content-Length", "User-Agent", "X-Event"}
    shown = posted.json
    assert UUID(shown.pop("messageId")) == UUID(result["messageId"])
    assert shown.pop("createdAt").endswith("Z")
    assert shown == {
        "webhookId": webhook["id"], "eventName": event, "webhookName": "my hook", "inboxId": made["inboxId"],
        "domainId": None, "emailId": str(mail.id), "to": ["bob@example.com", "carl@example.com"],
        "from": "ada@example.com", "cc": ["dora@example.com"], "bcc": [], "subject": "Hello café",
        "attachmentMetaDatas": [],
    }  # fmt: skip


async def test_each_attachment_is_posted_by_itself(site: Site, receiver: Receiver) -> None:
    made = await site.new_connector()
    webhook = await hook(site, made, receiver.url, eventName="NEW_ATTACHMENT")
    await hook(site, made, f"{receiver.url}/whole", eventName="NEW_EMAIL")
    async with posting(site):
        (mail,) = await site.deliver(made, WITH_FILES)
        posted = [await receiver.next() for _ in range(3)]
    whole = next(one for one in posted if one.path == "/whole").json
    files = [one.json for one in posted if one.path != "/whole"]
    sizes = [attachment.size_bytes for attachment in mail.digest.attachments]
    assert [meta["id"] for meta in whole["attachmentMetaDatas"]] == [file["attachmentId"] for file in files]
    for file in files:
        assert file.pop("messageId")
        assert file.pop("attachmentId")
    same = {"webhookId": webhook["id"], "webhookName": None, "eventName": "NEW_ATTACHMENT"}
    assert files == [
        {**same, "name": "one.txt", "contentType": "text/plain", "contentLength": sizes[0]},
        {**same, "name": "two.png", "contentType": "image/png", "contentLength": sizes[1]},
    ]


async def test_reading_a_mail_is_posted_once(site: Site, receiver: Receiver) -> None:
    made = await site.new_connector()
    webhook = await hook(site, made, receiver.url, eventName="EMAIL_READ")
    (mail,) = await site.deliver(made, MAIL)
    async with posting(site):
        for _ in range(2):
            await site.ask("GET", f"/emails/{mail.id}")
        shown = (await receiver.next()).json
        await all_posted(site)
    assert receiver.posted.empty()
    assert shown.pop("messageId")
    assert shown.pop("createdAt")
    assert shown == {
        "webhookId": webhook["id"], "webhookName": None, "eventName": "EMAIL_READ", "emailId": str(mail.id),
        "inboxId": made["inboxId"], "emailIsRead": True,
    }  # fmt: skip


async def test_bad_answer_is_tried_again_with_the_same_body(site: Site, receiver: Receiver) -> None:
    receiver.answers.extend([500, 302, 404])
    made = await site.new_connector()
    webhook = await hook(site, made, receiver.url)
    async with posting(site):
        await site.deliver(made, MAIL)
        bodies = {(await receiver.next()).body for _ in range(4)}
        told = await results(site, webhook, 4)
    assert len(bodies) == 1
    assert [one["resultType"] for one in told] == ["BAD_RESPONSE"] * 3 + ["SUCCESS"]
    assert [one["responseStatus"] for one in told] == [500, 302, 404, 200]
    assert len({one["messageId"] for one in told}) == 1
    assert {one["responseBodyExtract"] for one in told} == {"thanks"}
    assert (await site.ask("GET", f"/webhooks/{webhook['id']}")).json["healthStatus"] == "HEALTHY"


async def test_receiver_that_comes_later_gets_everything(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = await site.new_connector()
    webhook = await hook(site, made, f"http://127.0.0.1:{port}")
    async with posting(site):
        stored = await site.deliver(made, MAIL, MAIL, MAIL)
        told = await results(site, webhook, 3)
        assert {one["resultType"] for one in told} == {"EXCEPTION"}
        assert {one["responseStatus"] for one in told} == {None}
        assert "refused" in told[0]["responseBodyExtract"]
        async with open_receiver(port=port) as receiver:
            posted = {(await receiver.next()).json["emailId"] for _ in range(3)}
            await all_posted(site)
    assert posted == {str(mail.id) for mail in stored}


async def test_worker_that_ends_in_the_middle_of_a_post_posts_again(site: Site, receiver: Receiver) -> None:
    receiver.gate.clear()
    made = await site.new_connector()
    webhook = await hook(site, made, receiver.url)
    async with posting(site):
        await site.deliver(made, MAIL)
        first = await receiver.next()
    receiver.gate.set()
    async with posting(site):
        second = await receiver.next()
        assert len(await results(site, webhook, 1)) == 1
    assert first.body == second.body


async def test_mails_are_posted_in_order_and_one_at_a_time(site: Site, receiver: Receiver) -> None:
    made = await site.new_connector()
    await hook(site, made, receiver.url)
    stored = await site.deliver(made, *[MAIL] * 12)
    async with posting(site):
        posted = [(await receiver.next()).json["emailId"] for _ in stored]
        await all_posted(site)
    assert posted == [str(mail.id) for mail in stored]
    assert receiver.most_at_once == 1


async def test_receiver_that_never_answers_holds_up_no_other(site: Site, receiver: Receiver) -> None:
    made = await site.new_connector()
    async with open_receiver() as silent:
        silent.gate.clear()
        await hook(site, made, silent.url)
        await hook(site, made, receiver.url)
        async with posting(site):
            await site.deliver(made, MAIL, MAIL)
            for _ in range(2):
                await receiver.next()
            await silent.next()
    assert silent.most_at_once == 1


async def test_silent_receiver_is_given_up_after_the_deadline(receiver: Receiver) -> None:
    receiver.gate.clear()
    async with open_client(WebhookSettings(timeout_seconds=0.1)) as client:
        with pytest.raises(PostFailed, match=r"127\.0\.0\.1 did not answer within 0\.1 s"):
            await client.post(receiver.url, b"{}", {}, verify=True)


async def test_old_posts_are_given_up_after_one_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setenv("INBOXD_WEBHOOKS__GIVE_UP_SECONDS", "0")
    monkeypatch.setenv("INBOXD_WEBHOOKS__RETRY_FIRST_SECONDS", "0.02")
    receiver.answers.extend([500] * 3)
    async with open_site(tmp_path) as site:
        made = await site.new_connector()
        webhook = await hook(site, made, receiver.url)
        async with posting(site):
            await site.deliver(made, MAIL, MAIL, MAIL)
            told = await results(site, webhook, 3)
            await all_posted(site)
        assert [one["resultType"] for one in told] == ["EXHAUSTED"] * 3
        assert (await site.ask("GET", f"/webhooks/{webhook['id']}")).json["healthStatus"] == "UNHEALTHY"


async def test_changed_webhook_is_tried_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setenv("INBOXD_WEBHOOKS__RETRY_FIRST_SECONDS", "500")
    receiver.answers.append(500)
    async with open_site(tmp_path) as site:
        made = await site.new_connector()
        webhook = await hook(site, made, f"{receiver.url}/wrong")
        async with posting(site):
            await site.deliver(made, MAIL)
            assert (await receiver.next()).path == "/wrong"
            await results(site, webhook, 1)
            await site.ask("PATCH", f"/webhooks/{webhook['id']}", {"url": f"{receiver.url}/right"})
            assert (await receiver.next()).path == "/right"


async def test_disabled_webhook_is_posted_nothing(site: Site, receiver: Receiver) -> None:
    made = await site.new_connector()
    off = await hook(site, made, f"{receiver.url}/off")
    await hook(site, made, f"{receiver.url}/on")
    await site.ask("PATCH", f"/webhooks/{off['id']}", {"enabled": False})
    async with posting(site):
        await site.deliver(made, MAIL)
        assert (await receiver.next()).path == "/on"
        await all_posted(site)
    assert receiver.posted.empty()


async def test_secrets_are_posted_and_kept_sealed(site: Site, receiver: Receiver, tmp_path: Path) -> None:
    made = await site.new_connector()
    headers = {"headers": [{"name": "X-Token", "value": "tok-7351"}]}
    auth = {"username": "mé", "password": "pass-9148"}
    webhook = await hook(site, made, receiver.url, includeHeaders=headers, basicAuth=auth)
    async with posting(site):
        await site.deliver(made, MAIL)
        posted = await receiver.next()
        shown = await results(site, webhook, 1)
    assert posted.headers["X-Token"] == "tok-7351"
    assert posted.headers["Authorization"] == "Basic " + base64.b64encode("mé:pass-9148".encode()).decode()
    stored = repr(await webhooks.get(site.services.store, WebhookId(UUID(webhook["id"]))))
    kept = database_bytes(tmp_path)
    for secret in ("tok-7351", "pass-9148"):
        assert secret not in stored + str(shown) + str(webhook)
        assert secret.encode() not in kept


@pytest.mark.parametrize("certificate", ["good", "expired", "wrong_name"])
async def test_certificates_are_verified_unless_told_otherwise(trusted: Certificates, certificate: str) -> None:
    async with (
        open_receiver(getattr(trusted, certificate).server_context()) as receiver,
        open_client(WebhookSettings()) as client,
    ):
        assert (await client.post(receiver.url, b"{}", {}, verify=False)).ok
        if certificate == "good":
            assert (await client.post(receiver.url, b"{}", {}, verify=True)).ok
        else:
            with pytest.raises(PostFailed, match=r"the certificate of 127\.0\.0\.1 was refused"):
                await client.post(receiver.url, b"{}", {}, verify=True)


async def test_redirects_are_not_followed_and_answers_cut(receiver: Receiver) -> None:
    receiver.answers.append(307)
    receiver.headers = {"Location": f"{receiver.url}/elsewhere"}
    receiver.body = b"\xff" + b"x" * 1_000_000
    async with open_client(WebhookSettings()) as client:
        reply = await client.post(receiver.url, b"{}", {}, verify=True)
    assert (reply.status, reply.ok) == (307, False)
    assert reply.extract == "\ufffd" + "x" * (EXTRACT_BYTES - 1)
    assert receiver.posted.qsize() == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_refused_where_they_are_connected_to(receiver: Receiver, host: str) -> None:
    url = receiver.url.replace("127.0.0.1", host)
    async with open_client(WebhookSettings(allow_private=False)) as client:
        with pytest.raises(PostFailed, match="nothing is posted to"):
            await client.post(url, b"{}", {}, verify=True)
    assert receiver.posted.empty()


@pytest.mark.parametrize(
    "url", ["http://nowhere.invalid/x", "http://169.254.169.254/latest", "http://[fe80::1]/", "http://1/"]
)
async def test_unreachable_and_forbidden_receivers_are_said_to_be(url: str) -> None:
    async with open_client(WebhookSettings()) as client:
        with pytest.raises(PostFailed, match=r"does not resolve|no host|nothing is posted to"):
            await client.post(url, b"{}", {}, verify=True)


@pytest.mark.parametrize(
    ("address", "always", "public_only"),
    [
        ("8.8.8.8", False, False), ("2606:4700::1", False, False),
        ("127.0.0.1", False, True), ("10.1.2.3", False, True), ("::1", False, True), ("fc00::1", False, True),
        ("0.0.0.0", False, True), ("100.64.0.1", False, True), ("::ffff:10.0.0.1", False, True),
        ("64:ff9b::7f00:1", False, True), ("2002:7f00:1::", False, True),
        ("169.254.169.254", True, True), ("fe80::1%eth0", True, True), ("::ffff:169.254.0.1", True, True),
        ("64:ff9b::a9fe:a9fe", True, True), ("2002:a9fe:a9fe::1", True, True), ("::169.254.169.254", True, True),
        ("224.0.0.1", True, True), ("ff02::1", True, True),
        ("100.100.100.200", True, True), ("fd00:ec2::254", True, True),
    ],
)  # fmt: skip
def test_addresses_that_nothing_is_posted_to(address: str, always: bool, public_only: bool) -> None:
    assert is_forbidden(address, allow_private=True) is always
    assert is_forbidden(address, allow_private=False) is public_only
