"""A stand-in for the daemon: a real HTTP server on a Unix socket, with the routes of inboxctl in memory."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from servers.control_routes import route
from servers.control_state import Asked, RefusalError, Row, StandIn


@contextmanager
def serve(path: Path) -> Generator[StandIn]:
    """A stand-in listening on `path` until the block ends."""
    daemon = StandIn(path)
    daemon.hold.set()
    with _Server(str(path), daemon) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield daemon
        finally:
            daemon.hold.set()
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, daemon: StandIn) -> None:
        super().__init__(path, _Handler)
        self.daemon = daemon

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up whenever it likes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _daemon(self) -> StandIn:
        return cast("_Server", self.server).daemon

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        payload = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(payload) if payload else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, unquote(url.path), query, body, parse_qs(url.query), headers)
        self._daemon.asked.append(asked)
        try:
            status, content = route(self._daemon, asked)
        except RefusalError as error:
            status, content = error.status, {"message": str(error)}
        if isinstance(content, Iterator):
            self._stream(cast("Iterator[Row | None]", content))
        else:
            self._whole(status, content)

    def _whole(self, status: int, content: Any) -> None:
        payload = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self, lines: Iterator[Row | None]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            chunk = (json.dumps(line).encode() if line is not None else b"") + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self._daemon.hold.wait()
        if self._daemon.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{method}", _Handler.answer)
