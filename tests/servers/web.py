"""An HTTPS server with many names on one port of loopback, in threads of its own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from servers import LOOPBACK


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers. `first` runs before it does, and may block."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    first: Callable[[], object] = lambda: None


class Site:
    """What a test sees of it: `answers` by host and path (without its query), `asked` the URLs as they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []


@contextmanager
def https_site(context: ssl.SSLContext) -> Generator[Site]:
    """A site until the block ends; what it does not know is 404."""
    with _Server((LOOPBACK, 0), _Handler) as server:
        server.site = Site(server.server_port)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="https")
        thread.start()
        try:
            yield server.site
        finally:
            server.shutdown()
            thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    site: Site

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may refuse the certificate, or hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        site = cast("_Server", self.server).site
        url = f"{self.headers['Host']}{self.path}"
        site.asked.append(url)
        site.headers.append(dict(self.headers))
        answer = site.answers.get(url.partition("?")[0], Answer(status=404))
        answer.first()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)
