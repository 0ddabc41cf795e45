"""MailSlurp's JavaScript client, unmodified, in every operation against the running daemon and real mail servers."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from inboxd.api.route import Route
from inboxd.api.routes import ROUTES
from servers.accounts import rich_mailbox
from servers.daemon import Daemon
from servers.dovecot import Dovecot
from servers.javascript import walk
from servers.smtp import SmtpServer


def operation(line: str) -> str:
    """The operation that a request was for."""
    method, path = line.split()
    fits = [route for route in ROUTES if route.method == method and _pattern(route).fullmatch(path)]
    return min(fits, key=lambda route: route.path.count("{")).operation


def _pattern(route: Route) -> re.Pattern[str]:
    return re.compile(re.sub(r"{\w+}", "[^/]+", route.path))


@pytest.fixture
def daemons(tmp_path: Path, certificates: Any) -> Generator[Callable[[], Daemon]]:
    """Makes fresh daemons, started; whatever runs of them at the end is killed."""
    made: list[Daemon] = []

    def make() -> Daemon:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Daemon(folder, certificates.ca_file))
        return made[-1].start()

    yield make
    for daemon in made:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.stop(signal.SIGKILL)


@pytest.mark.timeout(180)
def test_every_operation_is_walked(daemons: Callable[[], Daemon], dovecot: Dovecot, smtp: SmtpServer) -> None:
    asked: set[str] = set()
    for script in ("connectors.ts", "inboxes.ts", "emails.ts", "sending.ts"):
        daemon, user = daemons(), rich_mailbox(dovecot, smtp)
        asked |= {operation(line) for line in walk(script, daemon, user, dovecot, smtp).splitlines()}
        assert daemon.stop() == 0
    assert {route.operation for route in ROUTES if not route.socket_only and not route.is_open} <= asked
