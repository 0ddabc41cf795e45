"""MailSlurp's Python client, unmodified, with a running daemon, a connector and a mailbox to try it on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar, cast

import mailslurp_client
import pytest
from mailslurp_client.exceptions import ApiException

from inboxd.api.route import Route
from inboxd.api.routes import ROUTES
from servers import LOOPBACK
from servers.accounts import rich_mailbox
from servers.certs import Certificates
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot, User
from servers.smtp import SmtpServer

Test = TypeVar("Test", bound=Callable[..., object])
SDK: Any = mailslurp_client  # generated without usable annotations
SERVED: Final = tuple(route for route in ROUTES if not route.socket_only and not route.is_open)
_OPERATIONS: Final = {(route.method, route.path): route.operation for route in SERVED}
_WORD_BEGINS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Client:
    """The SDK at a URL, and its controllers; `asked` are the operations that went through it."""

    def __init__(self, url: str, key: str = KEY) -> None:
        configuration = SDK.Configuration(host=url)
        configuration.api_key["x-api-key"] = key
        self.asked: set[str] = set()
        self.api = SDK.ApiClient(configuration)
        real = self.api.call_api

        def call_api(path: str, method: str, *arguments: Any, **options: Any) -> Any:
            self.asked.add(_OPERATIONS[method, path])
            return real(path, method, *arguments, **options)

        self.api.call_api = call_api
        self.connectors = SDK.ConnectorControllerApi(self.api)
        self.inboxes = SDK.InboxControllerApi(self.api)
        self.emails = SDK.EmailControllerApi(self.api)
        self.attachments = SDK.AttachmentControllerApi(self.api)
        self.sent = SDK.SentEmailsControllerApi(self.api)
        self.waits = SDK.WaitForControllerApi(self.api)
        self.webhooks = SDK.WebhookControllerApi(self.api)
        self.common = SDK.CommonActionsControllerApi(self.api)
        self.users = SDK.UserControllerApi(self.api)

    def method(self, route: Route) -> Callable[..., Any]:
        """The SDK's method for an operation."""
        controller = getattr(SDK, f"{route.controller}Api")(self.api)
        return getattr(controller, _WORD_BEGINS.sub("_", route.operation).lower())


@dataclass
class Walk:
    """What a test walks through: the client, the daemon behind it, and the mailbox of its connector."""

    client: Client
    daemon: Daemon
    dovecot: Dovecot
    smtp: SmtpServer
    user: User

    @property
    def url(self) -> str:
        """Where the daemon answers."""
        return f"http://{LOOPBACK}:{self.daemon.api_port}"

    @cached_property
    def connector(self) -> dict[str, Any]:
        """A connector on the mailbox that is synced only when asked, made without the client."""
        return self.daemon.connect(self.user, self.dovecot.starttls, smtp=self.smtp, sync=False)

    @property
    def inbox_id(self) -> str:
        """The connector's inbox."""
        return str(self.connector["inboxId"])

    def sync(self) -> list[str]:
        """The ids of the mails that a sync brought, asked without the client."""
        status, result = self.daemon.http("POST", f"/connectors/{self.connector['id']}/sync")
        assert status == 200, result
        return result["syncResult"]["emailIds"]

    @cached_property
    def rich(self) -> str:
        """The id of the rich mail, synced."""
        (email_id,) = self.sync()
        return email_id

    def arrives(self, raw: bytes) -> str:
        """The id of a mail that came after the rich one, synced."""
        assert self.rich
        self.dovecot.append(self.user, raw.replace(b"\n", b"\r\n"))
        (email_id,) = self.sync()
        return email_id


def walks(*operations: str) -> Callable[[Test], Test]:
    """Declares the operations that a test asks through `walk`; it fails when it asks others, or not all of them."""

    def declare(test: Test) -> Test:
        cast("Any", test).operations = frozenset(operations)
        return test

    return declare


def refused(status: int, call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The message in the JSON of the refusal that the call meets; AssertionError when its status is another."""
    with pytest.raises(ApiException) as caught:
        call(*arguments, **options)
    error = cast("Any", caught.value)
    assert error.status == status, f"{error.status} {error.body}"
    assert error.headers["Content-Type"] == "application/json; charset=utf-8"
    body = json.loads(error.body)
    assert body["status"] == status
    assert body["message"]
    return str(body["message"])


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Generator[Daemon]:
    """One running daemon for all walks of a test process."""
    daemon = Daemon(tmp_path_factory.mktemp("served"), certificates.ca_file).start()
    assert daemon.process is not None
    try:
        yield daemon
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
    finally:
        daemon.process.kill()
        daemon.process.wait(15)


@pytest.fixture
def walk(request: pytest.FixtureRequest, served: Daemon, dovecot: Dovecot, smtp: SmtpServer) -> Generator[Walk]:
    """The client on a daemon that has nothing in its store."""
    _clear(served)
    walk = Walk(Client(f"http://{LOOPBACK}:{served.api_port}"), served, dovecot, smtp, rich_mailbox(dovecot, smtp))
    yield walk
    assert walk.client.asked == request.function.operations


def _clear(daemon: Daemon) -> None:
    _, webhooks = daemon.http("GET", "/webhooks/paginated?size=100")
    paths = [f"/webhooks/{webhook['id']}" for webhook in webhooks["content"]]
    for path in (*paths, "/connectors", "/inboxes", "/sent", "/attachments"):
        status, answer = daemon.http("DELETE", path)
        assert status in (200, 204), answer
