"""Webhooks of the real daemon, over its own death."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from servers.daemon import Daemon
from servers.dovecot import Dovecot

SIMPLE = b"Subject: hello\r\n\r\nhello\r\n"


class Blocking(ThreadingHTTPServer):
    """Takes posts, and answers none before `go` is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.posted: queue.Queue[bytes] = queue.Queue()
        self.go = threading.Event()


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Take a post."""
        assert isinstance(self.server, Blocking)
        self.server.posted.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.go.wait(30)
        try:
            self.send_response(204)
            self.end_headers()
        except OSError:
            pass  # the daemon was killed

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def blocking() -> Generator[Blocking]:
    with Blocking() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def test_killed_daemon_posts_again_what_was_under_way(daemon: Daemon, dovecot: Dovecot, blocking: Blocking) -> None:
    user = dovecot.user()
    daemon.start()
    status, webhook = daemon.http("POST", "/webhooks", {"url": f"http://127.0.0.1:{blocking.server_port}/"})
    assert status == 201
    connector = daemon.connect(user, dovecot.tls, tls="implicit")
    daemon.await_state(connector, "idle")
    dovecot.append(user, SIMPLE)
    first = blocking.posted.get(timeout=30)
    daemon.stop(signal.SIGKILL)
    blocking.go.set()
    daemon.start()
    assert blocking.posted.get(timeout=30) == first
    results = f"/webhooks/{webhook['id']}/results"
    daemon.until(lambda: daemon.http("GET", results)[1]["totalElements"] == 1, "the result")
    (result,) = daemon.http("GET", results)[1]["content"]
    assert (result["resultType"], result["responseStatus"]) == ("SUCCESS", 204)
    assert daemon.metric("inboxd_webhook_posts_total", result="success") == 1
    daemon.until(lambda: daemon.metric("inboxd_webhook_backlog") == 0, "an empty backlog")
    assert daemon.stop() == 0
    assert blocking.posted.empty()
    assert "Traceback" not in daemon.log
