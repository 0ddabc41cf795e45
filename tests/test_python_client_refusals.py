"""MailSlurp's Python client refused: every operation with unknown and malformed ids, and asked by a stranger."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mailslurp_client.exceptions import ApiException

from inboxd.api.route import Route
from servers import LOOPBACK
from servers.daemon import Daemon
from servers.python import SDK, SERVED, Client, Walk, refused, walks

IDS = ("id", "inbox_id", "email_id", "attachment_id", "webhook_id")
IMAP = {"imapHost": LOOPBACK, "imapPort": 1, "imapSsl": False}
SMTP = {"smtpHost": LOOPBACK, "smtpPort": 1, "smtpSsl": False}
MAIL = {"to": ["me@example.com"], "body": "Hello", "isHTML": False}
# What the SDK's methods want beside ids, by the names it has for it.
WANTED: dict[str, object] = {
    "name": "nobody",
    "email_address": "nobody@example.com",
    "timeout_millis": 10,
    "count": 1,
    "favourited": True,
    "html_selector": "p",
    "content_type": "text/plain",
    "to": "me@example.com",
    "create_connector_options": {},
    "create_connector_with_options": {"createConnectorOptions": {}},
    "create_connector_imap_connection_options": IMAP,
    "create_connector_smtp_connection_options": SMTP,
    "create_connector_sync_settings_options": {"syncEnabled": False},
    "send_email_options": MAIL,
    "simple_send_email_options": {"to": "me@example.com"},
    "reply_to_email_options": MAIL,
    "forward_email_options": MAIL,
    "create_inbox_dto": {},
    "update_inbox_options": {"name": "other"},
    "search_inboxes_options": {},
    "search_emails_options": {},
    "set_inbox_favourited_options": {"state": True},
    "content_match_options": {"pattern": "x"},
    "imap_flag_operation_options": {"flagOperation": "ADD_FLAGS", "flags": ["\\Seen"]},
    "upload_attachment_options": {"base64Contents": "eA=="},
    "match_options": {},
    "wait_for_conditions": {"inboxId": "", "timeout": 10},
    "create_webhook_options": {"url": f"http://{LOOPBACK}:1/"},
}
# A question whether there is one is answered, not refused.
ANSWERED = {"getConnectorByInboxId"}


def names(method: Callable[..., Any]) -> list[str]:
    """The arguments the SDK's method cannot do without."""
    return [name for name in inspect.signature(method).parameters if name != "kwargs"]


def arguments(method: Callable[..., Any], identity: str) -> list[object]:
    """Arguments that are right but for the ids."""
    return [identity if name in IDS else WANTED[name] for name in names(method)]


def with_ids() -> list[Route]:
    """The operations that cannot be asked without an id."""
    return [row for row in SERVED if set(IDS) & set(names(Client("").method(row)))]


@pytest.fixture
def stranger(served: Daemon) -> Client:
    """A client without a key: with a wrong one it would soon be slowed down."""
    keyless = Client(f"http://{LOOPBACK}:{served.api_port}")
    keyless.api.configuration.api_key.clear()
    return keyless


@pytest.fixture
def client(served: Daemon) -> Client:
    """A client whose requests leave no trace."""
    return Client(f"http://{LOOPBACK}:{served.api_port}")


@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.operation)
def test_without_a_key_it_is_unauthorized(stranger: Client, row: Route) -> None:
    method = stranger.method(row)
    message = refused(401, method, *arguments(method, str(uuid4())))
    assert "an API key is missing" in message
    assert stranger.asked == {row.operation}


def test_wrong_key_is_unauthorized(served: Daemon) -> None:
    stranger = Client(f"http://{LOOPBACK}:{served.api_port}", key="wrong")
    assert "this API key is unknown" in refused(
        401, stranger.method(SERVED[0]), *arguments(stranger.method(SERVED[0]), str(uuid4()))
    )


@pytest.mark.parametrize("row", [row for row in with_ids() if row.operation not in ANSWERED], ids=lambda r: r.operation)
def test_unknown_id_is_not_found(client: Client, row: Route) -> None:
    method, identity = client.method(row), str(uuid4())
    assert refused(404, method, *arguments(method, identity))


@pytest.mark.parametrize("row", with_ids(), ids=lambda row: row.operation)
def test_malformed_id_is_refused(client: Client, row: Route) -> None:
    method = client.method(row)
    in_path = "{" in row.path
    for malformed in ("nonsense", "../connectors", "é\r\nx: y", "%00", "1" * 3_000):
        refused(404 if in_path else 400, method, *arguments(method, malformed))


def test_missing_key_is_unauthorized(served: Daemon) -> None:
    client = Client(f"http://{LOOPBACK}:{served.api_port}")
    client.api.configuration.api_key.clear()
    assert "x-api-key" in refused(401, client.connectors.get_connectors)


def test_operations_of_other_products_are_refused_in_json(client: Client) -> None:
    aliases = SDK.AliasControllerApi(SDK.ApiClient(client.api.configuration))
    assert refused(501, aliases.get_aliases)


def test_daemon_that_is_gone_is_an_error_of_the_transport(served: Daemon) -> None:
    client = Client(f"http://{LOOPBACK}:1")
    with pytest.raises(Exception, match="Max retries") as caught:
        client.users.get_user_info()
    assert not isinstance(caught.value, ApiException)


@walks("getConnectors", "getUserInfo", "createInbox", "getInboxes")
def test_trailing_slashes_of_the_host_do_no_harm(walk: Walk) -> None:
    for slashes in ("/", "//"):
        client = Client(walk.url + slashes)
        client.asked = walk.client.asked
        assert client.connectors.get_connectors().total_elements == 0
        assert client.users.get_user_info().account_state == "ACTIVE"
    inbox = client.inboxes.create_inbox(name="behind slashes")
    assert [found.id for found in client.inboxes.get_inboxes()] == [inbox.id]


def test_every_operation_is_walked_by_some_test() -> None:
    walked: set[str] = set()
    for file in Path(__file__).parent.glob("test_python_client_*.py"):
        module = importlib.import_module(file.stem)
        walked |= {name for test in vars(module).values() for name in getattr(test, "operations", ())}
    assert walked == {row.operation for row in SERVED}
