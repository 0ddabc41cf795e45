"""The real daemon in a process of its own, spoken to as its users do: control socket, TCP API, scrape, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from inboxd.ctl_client import Client
from servers import LOOPBACK, Listener, free_port
from servers.cradle import Cradle, Forked
from servers.dovecot import User
from servers.smtp import SmtpServer

T = TypeVar("T")
KEY = "test-key-0123456789"
QUICK = {"INBOXD_IMAP__RETRY_FIRST_SECONDS": "0.05", "INBOXD_IMAP__RETRY_MOST_SECONDS": "0.2"}


class Daemon:
    """One state folder and the daemon that runs on it, started and ended as often as a test likes."""

    def __init__(self, folder: Path, certificates: Path) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.socket = folder / "control.sock"
        self.log_file = folder / "daemon.log"
        self.api_port, self.metrics_port = free_port(), free_port()
        self.settings = QUICK | {"INBOXD_LOG__LEVEL": "debug"}
        self.cradle: Cradle | None = None  # where its processes come from, if they are not started from nothing
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.client = Client(self.socket)
        self._authorities = str(certificates)

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon is started with."""
        # Compiled anew at every start, its modules would take a fifth of the time that the start takes.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("INBOXD_", "PYTHONDONTWRITEBYTECODE"))}
        return (
            clean
            | {
                "SSL_CERT_FILE": self._authorities,
                "INBOXD_STATE_DIR": str(self.state_dir),
                "INBOXD_API__LISTEN": f"{LOOPBACK}:{self.api_port}",
                "INBOXD_API__KEY": KEY,
                "INBOXD_METRICS__LISTEN": f"{LOOPBACK}:{self.metrics_port}",
                "INBOXD_CONTROL__SOCKET": str(self.socket),
            }
            | self.settings
        )

    @property
    def log(self) -> str:
        """Everything the daemon has written to its standard error."""
        return self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""

    def start(self) -> Daemon:
        """Run it; returns when /readyz says so."""
        self.spawn()
        self.until(lambda: self.process_ended() or self.is_ready(), "the daemon to be ready")
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return self

    def spawn(self) -> subprocess.Popen[bytes] | Forked:
        """Run it without waiting."""
        if self.cradle is not None:
            self.process = self.cradle.spawn(self.environment, self.log_file)
            return self.process
        with self.log_file.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inboxd", "run"], env=self.environment, stdout=sink, stderr=sink
            )
        return self.process

    def process_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process is None or self.process.poll() is not None

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        try:
            return self.scrape("/readyz") != ""
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(15)

    def scrape(self, path: str = "/metrics") -> str:
        """A page of the metrics listener."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.metrics_port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; 0 when there is none."""
        for line in self.scrape().splitlines():
            found = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                return float(found[2])
        return 0.0

    def http(self, method: str, path: str, body: object = None, *, key: str | None = KEY) -> tuple[int, Any]:
        """A request to the TCP API: status and decoded JSON."""
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.api_port}{path}", method=method)
        if key is not None:
            request.add_header("x-api-key", key)
        payload = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, payload, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def ctl(self, *arguments: str, status: int = 0, stdin: str | None = None) -> str:
        """`inboxctl` as a user types it: its standard output, or its standard error when it must fail."""
        done = subprocess.run(
            [sys.executable, "-c", "from inboxd.ctl import main; main()", "--socket", str(self.socket), *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if status == 0 else done.stderr

    def until(self, met: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
        """The first true answer of `met`, asked often; AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            if found := met():
                return found
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{self.log[-6000:]}"
            time.sleep(0.02)

    # --- connectors -------------------------------------------------------------------------------------------------

    def connect(
        self,
        user: User,
        imap: Listener,
        *,
        tls: str = "none",
        smtp: SmtpServer | None = None,
        sync: bool = True,
        password: str | None = None,
        **imap_options: object,
    ) -> dict[str, Any]:
        """Create a connector over the API; its ConnectorDto."""
        secret = user.password if password is None else password
        body: dict[str, Any] = {
            "createConnectorOptions": {"name": user.name.split("@")[0], "emailAddress": user.name, "enabled": True},
            "createConnectorImapConnectionOptions": {
                "enabled": True,
                "imapHost": imap.host,
                "imapPort": imap.port,
                "imapUsername": user.name,
                "imapPassword": secret,
                "imapSsl": tls == "implicit",
                "startTls": tls == "starttls",
                **imap_options,
            },
        }
        if smtp is not None:
            body["createConnectorSmtpConnectionOptions"] = {
                "enabled": True,
                "smtpHost": smtp.host,
                "smtpPort": smtp.port,
                "smtpUsername": next(iter(smtp.users), None),
                "smtpPassword": next(iter(smtp.users.values()), None),
                "smtpSsl": smtp.tls.value == "implicit",
                "startTls": smtp.tls.value == "starttls",
            }
        if sync:
            body["createConnectorSyncSettingsOptions"] = {"syncEnabled": True, "syncInterval": 60}
        status, made = self.http("POST", "/connectors/withOptions", body)
        assert status == 201, made
        return made

    def status(self, connector: dict[str, Any]) -> dict[str, Any]:
        """The connector's row of `inboxctl status`."""
        rows = self.client.get("/control/status")["connectors"]
        return next(row for row in rows if row["id"] == connector["id"])

    def await_state(self, connector: dict[str, Any], state: str, seconds: float = 30.0) -> dict[str, Any]:
        """The connector's status once it is in `state`."""

        def reached() -> dict[str, Any] | None:
            row = self.status(connector)
            return row if row["state"].lower() == state else None

        return self.until(reached, f"state {state}", seconds)

    def emails(self, connector: dict[str, Any]) -> list[dict[str, Any]]:
        """Every mail of the connector's inbox, oldest first."""
        return list(self.client.page(f"/inboxes/{connector['inboxId']}/emails/paginated", sort="ASC")["content"])

    def count(self, connector: dict[str, Any]) -> int:
        """How many mails its inbox holds."""
        return int(self.client.get(f"/inboxes/{connector['inboxId']}/emails/paginated", size=1)["totalElements"])

    def raw(self, email_id: str) -> bytes:
        """A mail's bytes."""
        return self.octets(f"/emails/{email_id}/raw")

    def octets(self, path: str) -> bytes:
        """What the TCP API answers, as it is."""
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.api_port}{path}")
        request.add_header("x-api-key", KEY)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def await_count(self, connector: dict[str, Any], count: int, seconds: float = 40.0) -> None:
        """Until its inbox holds `count` mails; more is a failure at once."""

        def enough() -> bool:
            held = self.count(connector)
            assert held <= count, f"{held} mails instead of {count}"
            return held == count

        self.until(enough, f"{count} mails", seconds)


@pytest.fixture
def daemon(tmp_path: Path, certificates: Any, cradle: Cradle) -> Generator[Daemon]:
    """A daemon, not started yet; whatever runs of it at the end is killed."""
    made = Daemon(tmp_path, certificates.ca_file)
    made.cradle = cradle
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait(15)
