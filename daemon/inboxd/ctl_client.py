"""The daemon's control socket, spoken to as plain HTTP/1.1: answers, streams of NDJSON, and every way it can fail."""

from __future__ import annotations

import errno
import grp
import http.client
import json
import os
import pwd
import re
import shutil
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import quote, urlencode

import click

from inboxd.ctl_print import neutral

Row = dict[str, Any]
SYSTEM_SOCKET = Path("/run/inboxd/control.sock")
ANSWER_SECONDS = 120.0
# The daemon waits up to outbox.confirm_seconds, at most an hour, for what comes of a mail.
SEND_SECONDS = 3700.0
STREAM_SILENCE_SECONDS = 600.0
PAGE_SIZE = 100
_HOW_TO_START = "start it with: systemctl start inboxd, or: inboxd run"
_STOPPING = "inboxd is stopping"
_BAD_INPUT = frozenset({400, 413})
_NO_SHELLS = frozenset({"nologin", "false", "sync", "halt", "shutdown"})
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ERROR_FIELDS = frozenset({"message", "status", "error", "path", "timestamp", "field"})


class Failure(click.ClickException):
    """The operation failed; `inboxctl: …` on standard error and exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """One line, whatever foreign words are in it."""
        click.echo(f"inboxctl: {neutral(self.format_message())}", file=file, err=file is None)


class BadInput(Failure):
    """What the caller gave cannot be used; exit status 2."""

    exit_code = 2


class DaemonAway(Failure):
    """Nobody answers at the control socket; exit status 3."""

    exit_code = 3


class Refused(Failure):
    """The daemon answered with an error; the message is its own."""


class InputRefused(Refused):
    """The daemon blames what was given; exit status 2."""

    exit_code = 2


def find_socket(named: Path | None = None) -> Path:
    """Where the daemon should be listening; nobody has looked yet whether it does.

    `named`, `$INBOXD_CONTROL__SOCKET`, the runtime folder of a service, the state folder when `$INBOXD_STATE_DIR` asks
    for one, the system's daemon when its socket is there, else the user's state folder.
    """
    given = named or os.environ.get("INBOXD_CONTROL__SOCKET")
    if given:
        return Path(given)
    folder = _granted("RUNTIME_DIRECTORY") or os.environ.get("INBOXD_STATE_DIR")
    if not folder and _is_there(SYSTEM_SOCKET):
        return SYSTEM_SOCKET
    return Path(folder or _granted("STATE_DIRECTORY") or _user_state_folder()) / "control.sock"


def _granted(variable: str) -> str:
    """The first of the folders systemd granted under that name."""
    return os.environ.get(variable, "").split(":")[0]


def _user_state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "inboxd"


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def is_id(text: str) -> bool:
    """Whether it is written as a UUID, as every id of MailSlurp's is."""
    return _UUID.fullmatch(text) is not None


def checked_id(text: str, what: str) -> str:
    """`text` if it is an id, else BadInput: nothing but an id may become part of a route."""
    if not is_id(text):
        raise BadInput(f"{text!r} is not the id of {what}; ids look like 3f0c2c0e-7b0e-4b63-9d25-8d1b2f5a9f11")
    return text


def inner(row: Row, field: str) -> Row:
    """The object under `field`; an empty one when that is null or missing."""
    found: Row | None = row.get(field)
    return found or {}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience_seconds: float) -> None:
        super().__init__("inboxd", timeout=patience_seconds)
        self._path = path

    def connect(self) -> None:
        unconnected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            unconnected.settimeout(self.timeout)
            unconnected.connect(str(self._path))
        except BaseException:
            unconnected.close()
            raise
        self.sock = unconnected


class Client:
    """One daemon. Every call is a connection of its own and raises a Failure that says what went wrong."""

    def __init__(self, path: Path, patience_seconds: float = ANSWER_SECONDS) -> None:
        self.path = path
        self._patience_seconds = patience_seconds

    def get(self, route: str, **query: object) -> Any:
        """The decoded JSON answer; None when it was empty. Query values of None are left out, tuples repeated."""
        return self.call("GET", route, query=query)

    def call(
        self,
        method: str,
        route: str,
        body: object = None,
        *,
        query: Row | None = None,
        headers: dict[str, str] | None = None,
        patience_seconds: float | None = None,
    ) -> Any:
        """As `get`, with any method and a JSON body."""
        patience_seconds = patience_seconds or self._patience_seconds
        with self._answer(method, route, query, body, patience_seconds, headers) as answer:
            return _decoded(answer.read())

    def page(self, route: str, limit: int | None = None, **query: object) -> Row:
        """The first `limit` rows (all with None) of a paged list, in one envelope as if one page had held them."""
        count = min(limit or PAGE_SIZE, PAGE_SIZE)
        envelope: Row = self.get(route, page=0, size=count, **query)
        rows: list[Row] = envelope["content"]
        number, last = 0, envelope
        while last["content"] and not last["last"] and (limit is None or len(rows) < limit):
            number += 1
            last = self.get(route, page=number, size=count, **query)
            rows += last["content"]
        if number:
            rows[:] = rows[:limit]
            envelope |= {"numberOfElements": len(rows), "size": len(rows), "last": last["last"]}
        return envelope

    def stream(self, method: str, route: str, **query: object) -> Iterator[Row]:
        """The lines of an NDJSON answer as they come, keep-alives left out; an error line raises its Failure."""
        with self._answer(method, route, query, None, STREAM_SILENCE_SECONDS) as answer:
            for line in answer:
                if line.strip():
                    row: Row = _decoded(line)
                    if "message" in row and row.keys() <= _ERROR_FIELDS:
                        raise _refusal(str(row["message"]), row.get("status"))
                    yield row

    def copy(self, route: str, sink: BinaryIO) -> None:
        """The answer's bytes, as they are, into `sink`."""
        with self._answer("GET", route, None, None, self._patience_seconds) as answer:
            shutil.copyfileobj(answer, sink)

    @contextmanager
    def _answer(
        self,
        method: str,
        route: str,
        query: Row | None,
        body: object,
        patience_seconds: float,
        headers: dict[str, str] | None = None,
    ) -> Generator[http.client.HTTPResponse]:
        connection = _UnixConnection(self.path, patience_seconds)
        try:
            self._connect(connection)
            with self._reading():
                answer = _exchange(connection, method, _target(route, query or {}), body, headers or {})
                if answer.status >= 300:
                    raise _refusal(_complaint(answer), answer.status)
                yield answer
        finally:
            connection.close()

    def _connect(self, connection: _UnixConnection) -> None:
        try:
            connection.connect()
        except PermissionError as error:
            raise DaemonAway(f"{self.path}: permission denied; {_who_may(self.path)}") from error
        except OSError as error:
            raise DaemonAway(f"no daemon at {self.path} ({_why(error)}); {_HOW_TO_START}") from error

    @contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Failure(f"the daemon at {self.path} does not answer") from error
        except BrokenPipeError:
            raise
        except (http.client.HTTPException, ConnectionError) as error:
            raise DaemonAway(f"the daemon at {self.path} ended in the middle of its answer") from error


def _exchange(
    connection: _UnixConnection, method: str, target: str, body: object, headers: dict[str, str]
) -> http.client.HTTPResponse:
    payload = None if body is None else json.dumps(body).encode()
    headers = headers | ({"Content-Type": "application/json"} if payload is not None else {})
    # A daemon that refuses a body by its size answers and hangs up before it has read it all.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, target, payload, headers)
    return connection.getresponse()


def _target(route: str, query: Row) -> str:
    given = {key: str(value).lower() if isinstance(value, bool) else value for key, value in query.items()}
    tail = urlencode({key: value for key, value in given.items() if value is not None}, doseq=True)
    return quote(route) + (f"?{tail}" if tail else "")


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload.strip() else None
    except ValueError as error:
        raise Failure("the answer is not JSON: does something else than inboxd listen there?") from error


def _refusal(message: str, status: object) -> Failure:
    # 503 is also what a mail server's pause and a full disk are told by.
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE and message.startswith(_STOPPING):
        return DaemonAway(message)
    return InputRefused(message) if status in _BAD_INPUT else Refused(message)


def _complaint(answer: http.client.HTTPResponse) -> str:
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(answer.read())["message"])
    return f"the daemon answered {answer.status} {answer.reason}"


def _why(error: OSError) -> str:
    reasons = {errno.ENOENT: "no such socket", errno.ECONNREFUSED: "nobody listens on it"}
    return reasons.get(error.errno or 0, error.strerror or str(error))


def _who_may(path: Path) -> str:
    """Which user or group the socket, or the innermost folder on the way to it that can be seen, is open to."""
    for place in (path, *path.parents):
        with suppress(OSError):
            owner = place.stat()
            account, group = None, str(owner.st_gid)
            with suppress(KeyError):
                account = pwd.getpwuid(owner.st_uid)
            with suppress(KeyError):
                group = grp.getgrgid(owner.st_gid).gr_name
            user = account.pw_name if account is not None else owner.st_uid
            call = sudo_call(account)
            return f"{place} belongs to user {user} and group {group}: join that group, or use: {call}"
    return "ask the user who runs inboxd"


def sudo_call(owner: pwd.struct_passwd | None) -> str:
    """How to call inboxctl with the rights of a socket's owner; as root unless that is a person who can log in."""
    if owner is None or owner.pw_uid == 0 or Path(owner.pw_shell).name in _NO_SHELLS:
        return "sudo inboxctl"
    return f"sudo -u {owner.pw_name} inboxctl"
