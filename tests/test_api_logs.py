"""Every decision taken over the API leaves one line in the log, and no secret."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest_asyncio
from structlog.testing import capture_logs

from api_site import MAIL, PASSWORD, Site, open_site

_IMAP = {"imapHost": "127.0.0.1", "imapPort": 1, "imapSsl": False, "imapUsername": "me", "imapPassword": PASSWORD}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def _logged(site: Site, method: str, path: str, body: object = None) -> list[dict[str, Any]]:
    """The room's lines of one request."""
    with capture_logs() as lines:
        await site.ask_control(method, path, body)
    assert PASSWORD not in str(lines)
    return [dict(line) for line in lines if line.get("room") == "api"]


async def test_each_decision_on_a_connector_is_logged_once(site: Site) -> None:
    made = await site.new_connector(name="Work")
    path, same = f"/connectors/{made['id']}", {"room": "api", "log_level": "info", "connector": made["id"]}
    imap = same | {"kind": "imap"}
    for method, tail, body, expected in (
        ("PUT", "", {"enabled": False}, {"event": "connector_changed", "name": "Work", "enabled": False} | same),
        ("POST", "/imap", _IMAP, {"event": "connection_changed"} | imap),
        ("PATCH", "/imap", {"enabled": False}, {"event": "connection_changed"} | imap),
        ("DELETE", "/imap", None, {"event": "connection_deleted"} | imap),
        (
            "POST", "/sync-settings", {"syncInterval": 5},
            {"event": "sync_settings_changed", "enabled": True, "interval_minutes": 5} | same,
        ),
        ("DELETE", "/sync-settings", None, {"event": "sync_settings_deleted"} | same),
        ("POST", "/sync", None, {"event": "sync_asked"} | same),
        ("POST", "/send", {"to": ["a@example.org"]}, {"event": "send_asked"} | same | {"log_level": "debug"}),
        ("DELETE", "", None, {"event": "connector_deleted"} | same),
    ):  # fmt: skip
        assert await _logged(site, method, path + tail, body) == [expected]


async def test_what_changed_nothing_is_not_logged(site: Site) -> None:
    made = await site.new_connector()
    for method, tail, body in (
        ("DELETE", "/imap", None),
        ("DELETE", "/sync-settings", None),
        ("PATCH", "/smtp", {"smtpHost": "h"}),
        ("POST", "/imap", {"imapPort": 0}),
        ("GET", "", None),
    ):
        assert await _logged(site, method, f"/connectors/{made['id']}{tail}", body) == []


async def test_a_connector_made_whole_is_one_line(site: Site) -> None:
    options = {
        "createConnectorOptions": {"name": "Work"},
        "createConnectorImapConnectionOptions": _IMAP,
        "createConnectorSyncSettingsOptions": {},
    }
    (line,) = await _logged(site, "POST", "/connectors/withOptions", options)
    assert (line["event"], line["name"], line["connections"], line["sync"]) == (
        "connector_created", "Work", ["imap"], True,
    )  # fmt: skip
    (line,) = await _logged(site, "POST", "/connectors", {"name": "Bare"})
    assert (line["event"], line["name"], line["connections"], line["sync"]) == ("connector_created", "Bare", [], False)
    assert [line["event"] for line in await _logged(site, "DELETE", "/connectors")] == ["connector_deleted"] * 2


async def test_control_requests_are_logged_alike(site: Site) -> None:
    made = await site.new_connector()
    path = f"/control/connectors/{made['id']}"
    assert [line["event"] for line in await _logged(site, "POST", f"{path}/sync")] == ["sync_asked"]
    mail = {"to": ["a@example.org"], "text": "x"}
    assert [line["event"] for line in await _logged(site, "POST", f"{path}/send", mail)] == ["send_asked"]


async def test_keys_are_logged_by_id_and_name_alone(site: Site) -> None:
    (line,) = await _logged(site, "POST", "/control/keys", {"name": "ci"})
    assert set(line) == {"event", "room", "log_level", "id", "name", "scopes", "inbox"}
    assert (line["event"], line["name"]) == ("api_key_created", "ci")
    (revoked,) = await _logged(site, "DELETE", f"/control/keys/{line['id']}")
    assert revoked == {name: line[name] for name in line if name not in {"scopes", "inbox"}} | {
        "event": "api_key_revoked"
    }


async def test_a_deleted_mail_is_logged(site: Site) -> None:
    (stored,) = await site.deliver(await site.new_connector(), MAIL)
    (line,) = await _logged(site, "DELETE", f"/emails/{stored.id}")
    assert (line["event"], line["email"]) == ("email_deleted", str(stored.id))
