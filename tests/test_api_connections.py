"""IMAP and SMTP connections: TLS by MailSlurp's booleans, and passwords that never leave nor go astray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, PASSWORD, SDK, Site, database_bytes, open_site
from inboxd.accounts import account_of
from inboxd.api.connections import create_imap
from inboxd.api.wire.connections import CreateConnectorImapConnectionOptions
from inboxd.mails import Place
from inboxd.model import Account, ConnectorId, InboxId, Kind
from inboxd.sections import NetworkSettings
from inboxd.store import connectors, messages
from servers.dovecot import Dovecot

IMAP = {
    "imapHost": "imap.example.com",
    "imapPort": 993,
    "imapSsl": True,
    "imapUsername": "me",
    "imapPassword": PASSWORD,
}
SMTP = {
    "smtpHost": "smtp.example.com",
    "smtpPort": 587,
    "startTls": True,
    "smtpUsername": "me",
    "smtpPassword": PASSWORD,
}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def _account(site: Site, connector: dict[str, Any], kind: Kind = Kind.IMAP) -> Account:
    return await account_of(site.services.store, site.services.vault, ConnectorId(UUID(connector["id"])), kind)


async def _with_imap(site: Site, **more: object) -> tuple[dict[str, Any], str]:
    made = await site.new_connector(name="x")
    path = f"/connectors/{made['id']}/imap"
    assert (await site.ask("POST", path, IMAP | more)).status == 201
    return made, path


@pytest.mark.parametrize(
    ("given", "port", "ssl", "start_tls"),
    [
        ({}, 993, True, False),
        ({"imapSsl": True}, 993, True, False),
        ({"imapSsl": True, "startTls": True}, 993, True, False),
        ({"imapSsl": True, "startTls": True, "imapPort": 993}, 993, True, False),
        ({"imapSsl": True, "startTls": True, "imapPort": 143}, 143, False, True),
        ({"imapSsl": True, "startTls": True, "imapPort": 1993}, 1993, False, True),
        ({"startTls": True}, 143, False, True),
        ({"imapSsl": False, "startTls": True}, 143, False, True),
        ({"imapSsl": False, "startTls": False}, 143, False, False),
        ({"imapSsl": False}, 143, False, False),
        ({"imapPort": 143}, 143, False, True),
        ({"imapPort": 993}, 993, True, False),
        ({"imapPort": 4993, "imapSsl": True}, 4993, True, False),
    ],
)
async def test_tls_and_port_follow_the_booleans(
    site: Site, given: dict[str, object], port: int, ssl: bool, start_tls: bool
) -> None:
    made = await site.new_connector()
    answer = (await site.ask("POST", f"/connectors/{made['id']}/imap", {"imapHost": "h.example"} | given)).json
    assert (answer["imapPort"], answer["imapSsl"], answer["startTls"]) == (port, ssl, start_tls)


@pytest.mark.parametrize(
    ("given", "port", "ssl", "start_tls"),
    [
        ({}, 465, True, False),
        ({"smtpSsl": True, "startTls": True, "smtpPort": 465}, 465, True, False),
        ({"smtpSsl": True, "startTls": True, "smtpPort": 587}, 587, False, True),
        ({"startTls": True}, 587, False, True),
        ({"smtpSsl": False, "startTls": False}, 25, False, False),
        ({"smtpPort": 587}, 587, False, True),
    ],
)
async def test_smtp_tls_and_port_follow_the_booleans(
    site: Site, given: dict[str, object], port: int, ssl: bool, start_tls: bool
) -> None:
    made = await site.new_connector()
    answer = (await site.ask("POST", f"/connectors/{made['id']}/smtp", {"smtpHost": "h.example"} | given)).json
    assert (answer["smtpPort"], answer["smtpSsl"], answer["startTls"]) == (port, ssl, start_tls)


async def test_the_sdk_makes_reads_changes_and_deletes_connections(site: Site) -> None:
    made = await site.new_connector()

    def walk(client: Any) -> None:
        api = SDK.ConnectorControllerApi(client)
        imap = SDK.CreateConnectorImapConnectionOptions(
            imap_host="imap.example.com", imap_password=PASSWORD, mechanisms=["plain"], ssl_protocols=["TLSv1.3"],
            ssl_trust="a.example, b.example", local_host_name="me.example", search_terms='UNSEEN FROM "a"',
        )  # fmt: skip
        stored = api.create_connector_imap_connection(made["id"], imap)
        assert (stored.mechanisms, stored.ssl_protocols) == (["PLAIN"], ["TLSv1.3"])
        assert (stored.ssl_trust, stored.local_host_name) == ("a.example,b.example", "me.example")
        assert (stored.proxy_enabled, stored.imap_password, stored.enabled) == (False, None, True)
        patch = SDK.CreateConnectorImapConnectionOptions(imap_host="imap.example.com", select_folder="Archive")
        changed = api.update_connector_imap_connection(made["id"], patch)
        assert (changed.select_folder, changed.search_terms, changed.id) == ("Archive", 'UNSEEN FROM "a"', stored.id)
        smtp = SDK.CreateConnectorSmtpConnectionOptions(smtp_host="smtp.example.com", smtp_mechanisms=["LOGIN"])
        assert api.create_connector_smtp_connection(made["id"], smtp).smtp_mechanisms == ["LOGIN"]
        disabled = SDK.CreateConnectorSmtpConnectionOptions(smtp_host="smtp.example.com", enabled=False)
        assert api.update_connector_smtp_connection(made["id"], disabled).enabled is False
        for delete in (api.delete_connector_imap_connection, api.delete_connector_smtp_connection) * 2:
            delete(made["id"])
        assert api.get_connector_imap_connection(made["id"]).present is False
        assert api.get_connector_smtp_connection(made["id"]).present is False

    await site.sdk(walk)
    assert (await site.ask("GET", f"/connectors/{made['id']}/imap")).json == {"present": False}


async def test_a_password_is_kept_sealed_and_opens_for_the_worker(site: Site, tmp_path: Path) -> None:
    made, _ = await _with_imap(site)
    assert (await _account(site, made)).password.reveal() == PASSWORD
    assert PASSWORD.encode() not in database_bytes(tmp_path)


async def test_no_answer_holds_a_password(site: Site) -> None:
    made, path = await _with_imap(site)
    smtp = f"/connectors/{made['id']}/smtp"
    answers = [await site.ask("POST", path, IMAP), await site.ask("POST", smtp, SMTP | {"smtpHost": "127.0.0.1"})]
    answers += [await site.ask("PATCH", where, {"enabled": True}) for where in (path, smtp)]
    answers += [await site.ask("POST", f"{smtp}/test"), await site.ask("POST", f"/connectors/{made['id']}/sync")]
    for where in (path, smtp, f"/connectors/{made['id']}", "/connectors", "/connectors/events", "/control/status"):
        answers.append(await site.ask_control("GET", where))
    for event in (await site.ask("GET", "/connectors/events")).json["content"]:
        answers.append(await site.ask("GET", f"/connectors/events/{event['id']}"))
    assert {answer.status for answer in answers} <= {200, 201}
    assert all(PASSWORD.encode() not in answer.body for answer in answers)


@pytest.mark.parametrize("secret", [None, "", "***", "********", "••••••"])
async def test_a_masked_or_absent_password_keeps_the_stored_one(site: Site, secret: str | None) -> None:
    made, path = await _with_imap(site)
    answer = await site.ask("PATCH", path, {"imapHost": "imap.example.com", "imapPassword": secret, "enabled": False})
    assert (answer.status, answer.json["imapPassword"], answer.json["enabled"]) == (200, None, False)
    await site.ask("PATCH", path, {"enabled": True})
    assert (await _account(site, made)).password.reveal() == PASSWORD


async def test_a_new_password_replaces_the_stored_one(site: Site) -> None:
    made, path = await _with_imap(site)
    await site.ask("PATCH", path, {"imapPassword": "another"})
    assert (await _account(site, made)).password.reveal() == "another"


_ASTRAY = [
    ({"imapHost": "evil.example"}, "imapHost"),
    ({"imapPort": 1993}, "imapPort"),
    ({"imapUsername": "other"}, "imapUsername"),
    ({"imapUsername": ""}, "imapUsername"),
    ({"imapSsl": False}, "imapSsl"),
    ({"sslTrust": "*"}, "sslTrust"),
    ({"sslTrust": "evil.example"}, "sslTrust"),
]


@pytest.mark.parametrize(("change", "field"), _ASTRAY)
async def test_a_stored_password_does_not_follow_to_another_place(
    site: Site, change: dict[str, object], field: str
) -> None:
    made, path = await _with_imap(site)
    for method, where in (("PATCH", path), ("POST", f"{path}/test")):
        refused = await site.ask(method, where, change)
        assert refused.status == 400
        assert refused.json["message"].startswith(f"{field}: ")
        assert "imapPassword" in refused.json["message"]
    stored = (await site.ask("GET", path)).json["result"]
    assert (stored["imapHost"], stored["imapPort"], stored["imapUsername"]) == ("imap.example.com", 993, "me")
    assert (await site.ask("PATCH", path, change | {"imapPassword": "fresh"})).status == 200
    assert (await _account(site, made)).password.reveal() == "fresh"


async def test_smtp_passwords_do_not_follow_either(site: Site) -> None:
    made = await site.new_connector()
    path = f"/connectors/{made['id']}/smtp"
    await site.ask("POST", path, SMTP)
    refused = await site.ask("PATCH", path, {"smtpHost": "evil.example"})
    assert (refused.status, refused.json["message"].split(":")[0]) == (400, "smtpHost")
    assert (await site.ask("PATCH", path, {"startTls": False})).status == 400
    assert (await site.ask("PATCH", path, {"smtpHost": "SMTP.example.com", "smtpPort": 587})).status == 200


async def test_without_a_stored_password_everything_may_change(site: Site) -> None:
    made = await site.new_connector()
    path = f"/connectors/{made['id']}/imap"
    await site.ask("POST", path, {"imapHost": "one.example"})
    assert (await site.ask("PATCH", path, {"imapHost": "two.example", "imapSsl": False})).json["imapPort"] == 993


async def test_strengthening_tls_needs_no_password(site: Site) -> None:
    _, path = await _with_imap(site, imapSsl=False, imapPort=143)
    answer = (await site.ask("PATCH", path, {"startTls": True})).json
    assert (answer["startTls"], answer["imapSsl"], answer["imapPort"]) == (True, False, 143)


async def test_empty_texts_and_lists_clear_what_was_stored(site: Site) -> None:
    _, path = await _with_imap(site, selectFolder="A", searchTerms="UNSEEN", mechanisms=["PLAIN"], localHostName="h")
    empty: dict[str, Any] = {
        "selectFolder": "",
        "searchTerms": "",
        "mechanisms": [],
        "localHostName": "",
        "sslTrust": "",
    }
    answer = (await site.ask("PATCH", path, empty)).json
    assert (answer["selectFolder"], answer["searchTerms"], answer["localHostName"]) == (None, None, None)
    assert answer["mechanisms"] == []


async def test_creating_again_replaces_everything(site: Site) -> None:
    made, path = await _with_imap(site, selectFolder="A")
    await site.ask("POST", path, {"imapHost": "two.example"})
    account = await _account(site, made)
    assert (account.host, account.username, account.password.reveal(), account.select_folder) == (
        "two.example", "", "", "INBOX",
    )  # fmt: skip


async def test_changing_what_is_read_begins_the_mailbox_anew(site: Site) -> None:
    made, path = await _with_imap(site, searchTerms="UNSEEN")
    await site.deliver(made, MAIL, first_uid=40)
    connector_id = ConnectorId(UUID(made["id"]))
    await site.ask("PATCH", path, {"enabled": True})
    cursor = await messages.cursor(site.services.store, connector_id, "INBOX")
    assert cursor is not None
    assert cursor.last_uid == 40
    await site.ask("PATCH", path, {"searchTerms": ""})
    cursor = await messages.cursor(site.services.store, connector_id, "INBOX")
    assert cursor is not None
    assert (cursor.last_uid, cursor.uidvalidity) == (0, 7)
    assert set(await messages.considered(site.services.store, Place(connector_id, "INBOX", 7), 0)) == {40}


async def test_several_folders_are_kept_changed_and_cleared(site: Site) -> None:
    made, path = await _with_imap(site, folders=["*", "-Lists/*", "\\Junk"])
    assert (await site.ask("GET", path)).json["result"]["folders"] == ["*", "-Lists/*", "\\Junk"]
    assert (await _account(site, made)).folders == ("*", "-Lists/*", "\\Junk")
    assert (await site.ask("PATCH", path, {"selectFolder": "Work"})).json["folders"] == ["*", "-Lists/*", "\\Junk"]
    assert (await site.ask("PATCH", path, {"folders": ["INBOX", "Räume"]})).json["folders"] == ["INBOX", "Räume"]
    assert (await site.ask("PATCH", path, {"folders": []})).json["folders"] == []
    assert (await _account(site, made)).folders == ()


async def test_the_mirror_is_off_until_it_is_asked_for_and_kept_until_it_is_not(site: Site) -> None:
    made, path = await _with_imap(site)
    assert (await site.ask("GET", path)).json["result"]["mirror"] is False
    assert (await site.ask("PATCH", path, {"mirror": True})).json["mirror"] is True
    assert (await site.ask("PATCH", path, {"selectFolder": "Work"})).json["mirror"] is True
    assert (await _account(site, made)).mirror is True
    assert (await site.ask("PATCH", path, {"mirror": False})).json["mirror"] is False
    assert (await site.ask("PATCH", path, {"mirror": "perhaps"})).status == 400


@pytest.mark.parametrize("folders", [[""], ["-"], ["\\Spam"], ["a\r\nb"], "INBOX", ["x"] * 1001])
async def test_folders_that_mean_nothing_are_refused(site: Site, folders: object) -> None:
    made = await site.new_connector()
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", IMAP | {"folders": folders})
    assert (answer.status, "folders" in answer.json["message"]) == (400, True)


async def test_changing_what_is_read_begins_every_mailbox_anew(site: Site) -> None:
    made, path = await _with_imap(site, folders=["INBOX", "Work"])
    connector_id = ConnectorId(UUID(made["id"]))
    for mailbox in ("INBOX", "Work"):
        await messages.set_cursor(site.services.store, Place(connector_id, mailbox, 7), 40)
    await site.ask("PATCH", path, {"folders": ["*"]})
    cursors = [await messages.cursor(site.services.store, connector_id, name) for name in ("INBOX", "Work")]
    assert [cursor.last_uid for cursor in cursors if cursor] == [40, 40]
    await site.ask("PATCH", path, {"searchTerms": "UNSEEN"})
    cursors = [await messages.cursor(site.services.store, connector_id, name) for name in ("INBOX", "Work")]
    assert [(cursor.uidvalidity, cursor.last_uid) for cursor in cursors if cursor] == [(7, 0), (7, 0)]


async def test_unknown_connectors_and_connections_are_404(site: Site) -> None:
    made = await site.new_connector()
    for kind, host in (("imap", "imapHost"), ("smtp", "smtpHost")):
        assert (await site.ask("PATCH", f"/connectors/{made['id']}/{kind}", {host: "h"})).status == 404
        for method, tail in (("POST", ""), ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test")):
            answer = await site.ask(method, f"/connectors/{uuid4()}/{kind}{tail}", {host: "h"})
            assert answer.status == 404, (method, kind, tail)


async def test_testing_without_a_connection_is_a_failed_test(site: Site) -> None:
    made = await site.new_connector()
    for kind in ("imap", "smtp"):
        answer = await site.ask("POST", f"/connectors/{made['id']}/{kind}/test", data=b"")
        assert (answer.status, answer.json["success"]) == (200, False)
        assert kind.upper() in answer.json["error"]


async def test_a_connection_is_tested_stored_overridden_and_before_storing(site: Site, dovecot: Dovecot) -> None:
    user, server = dovecot.user(), dovecot.starttls
    options: dict[str, Any] = {
        "imap_host": server.host, "imap_port": server.port, "imap_ssl": False, "start_tls": False,
        "imap_username": user.name, "imap_password": user.password,
    }  # fmt: skip
    made = await site.new_connector()

    def walk(client: Any) -> list[Any]:
        api = SDK.ConnectorControllerApi(client)
        good = SDK.CreateConnectorImapConnectionOptions(**options)
        wrong = SDK.CreateConnectorImapConnectionOptions(**options | {"imap_password": "wrong"})
        folder = SDK.CreateConnectorImapConnectionOptions(imap_host=server.host, select_folder="Nowhere")
        api.create_connector_imap_connection(made["id"], good)
        return [
            api.test_connector_imap_connection_options(good),
            api.test_connector_imap_connection(made["id"]),
            api.test_connector_imap_connection_options(wrong),
            api.test_connector_imap_connection(made["id"], create_connector_imap_connection_options=wrong),
            api.test_connector_imap_connection(made["id"], create_connector_imap_connection_options=folder),
        ]

    before, stored, wrong, overridden, folder = await site.sdk(walk)
    for good in (before, stored):
        assert (good.success, good.error) == (True, None)
        assert "connect" in good.message
        assert "login" in good.message
        assert any("CAPABILITY" in line for line in good.logs)
        steps = [line.split()[1] for line in good.logs if line.startswith("step ")]
        assert steps == ["resolve:", "connect:", "greeting:", "capabilities:", "login:", "select:", "idle:"]
    for bad in (wrong, overridden):
        assert bad.success is False
        assert bad.error.startswith("login: ")
        assert "likely cause: wrong user name or password" in bad.error
        assert "app password" in bad.error
        assert any(line.startswith("step login: failed after ") for line in bad.logs)
    assert folder.error.startswith("select: ")
    assert user.password not in "".join(before.logs + stored.logs)


async def test_a_direct_sync_stores_logs_and_counts(site: Site, dovecot: Dovecot) -> None:
    user, server = dovecot.user(), dovecot.starttls
    for _ in range(3):
        await asyncio.to_thread(dovecot.append, user, MAIL)
    made, _ = await _with_imap(
        site, imapHost=server.host, imapPort=server.port, imapSsl=False, imapUsername=user.name,
        imapPassword=user.password,
    )  # fmt: skip

    def sync(client: Any) -> Any:
        return SDK.ConnectorControllerApi(client).sync_connector(made["id"], logging=True)

    result = await site.sdk(sync)
    assert result.exception is None
    assert result.sync_result.email_sync_count == 3
    assert any("CAPABILITY" in line for line in result.sync_result.logs)
    page = await site.ask("GET", f"/inboxes/{made['inboxId']}/emails/paginated")
    assert {row["id"] for row in page.json["content"]} == set(result.sync_result.email_ids)
    event = (await site.ask("GET", f"/connectors/events/{result.event_id}")).json
    assert (event["status"], event["size"]) == ("SUCCESS", 3)
    again = (await site.ask("POST", f"/connectors/{made['id']}/sync")).json
    assert again["syncResult"] == {"emailSyncCount": 0, "logs": [], "emailIds": []}
    assert user.password not in str(result) + event["logs"]


async def test_reading_with_sync_connectors_syncs_first(site: Site, dovecot: Dovecot) -> None:
    user, server = dovecot.user(), dovecot.starttls
    await asyncio.to_thread(dovecot.append, user, MAIL)
    made, _ = await _with_imap(
        site, imapHost=server.host, imapPort=server.port, imapSsl=False, imapUsername=user.name,
        imapPassword=user.password,
    )  # fmt: skip
    path = f"/inboxes/{made['inboxId']}/emails/paginated"
    assert (await site.ask("GET", path)).json["totalElements"] == 0
    assert (await site.ask("GET", f"{path}?syncConnectors=True")).json["totalElements"] == 1
    await asyncio.to_thread(dovecot.append, user, MAIL)
    assert (await site.ask("GET", "/emails?syncConnectors=true")).json["totalElements"] == 2
    other = await site.new_connector()
    await asyncio.to_thread(dovecot.append, user, MAIL)
    await site.ask("GET", f"/emails?syncConnectors=true&inboxId={other['inboxId']}")
    assert await site.count(made) == 2


async def test_a_disabled_connector_is_not_synced_on_read(site: Site, dovecot: Dovecot) -> None:
    user, server = dovecot.user(), dovecot.starttls
    await asyncio.to_thread(dovecot.append, user, MAIL)
    made, _ = await _with_imap(
        site, imapHost=server.host, imapPort=server.port, imapSsl=False, imapUsername=user.name,
        imapPassword=user.password,
    )  # fmt: skip
    stored = await connectors.get(site.services.store, ConnectorId(UUID(made["id"])))
    await connectors.update(
        site.services.store, replace(stored, enabled=False, inbox_id=InboxId(UUID(made["inboxId"])))
    )
    assert (await site.ask("GET", "/emails?syncConnectors=true")).json["totalElements"] == 0


_FAR = ("8.8.8.8", "2001:4860:4860::8888", "[2001:4860:4860::8888]", "::ffff:8.8.8.8")
_NEAR = ("127.0.0.1", "10.1.2.3", "::1", "[fd00::1]", "mail.example.com")


@pytest.mark.parametrize("host", _FAR)
async def test_plaintext_to_a_public_address_is_refused_at_once(site: Site, host: str) -> None:
    made, path = await _with_imap(site)
    clear = {"imapHost": host, "imapSsl": False, "startTls": False, "imapPassword": PASSWORD}
    smtp = {"smtpHost": host, "smtpSsl": False}
    whole = {"createConnectorOptions": {}, "createConnectorImapConnectionOptions": clear}
    for method, where, options, field in (
        ("POST", path, clear, "imapHost"),
        ("PATCH", path, clear, "imapHost"),
        ("POST", f"/connectors/{made['id']}/smtp", smtp, "smtpHost"),
        ("POST", "/connectors/connections/imap/test", clear, "imapHost"),
        ("POST", "/connectors/connections/smtp/test", smtp, "smtpHost"),
        ("POST", "/connectors/withOptions", whole, "imapHost"),
    ):
        refused = await site.ask(method, where, options)
        assert refused.status == 400, where
        assert refused.json["message"].startswith(f"{field}: ")
        assert "public address" in refused.json["message"]
    assert (await site.ask("GET", path)).json["result"]["imapHost"] == "imap.example.com"
    assert await site.connector_count() == 1
    assert (await site.ask("PATCH", path, clear | {"startTls": True})).status == 200


@pytest.mark.parametrize("host", _NEAR)
async def test_plaintext_to_near_addresses_and_names_is_taken(site: Site, host: str) -> None:
    made = await site.new_connector()
    answer = await site.ask("POST", f"/connectors/{made['id']}/imap", {"imapHost": host, "imapSsl": False})
    assert answer.status == 201


async def test_the_operator_may_allow_plaintext_everywhere(site: Site) -> None:
    made = await site.new_connector()
    allowed = NetworkSettings(allow_plaintext=True)
    services = replace(site.services, settings=site.services.settings.model_copy(update={"network": allowed}))
    options = CreateConnectorImapConnectionOptions(imap_host="8.8.8.8", imap_ssl=False)
    assert (await create_imap(services, ConnectorId(UUID(made["id"])), options)).imap_host == "8.8.8.8"
