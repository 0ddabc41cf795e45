"""Schemathesis asks every operation for what its document allows and forbids; every answer is as documented.

Not checked: that all allowed data is accepted, since some rules are no JSON Schema's (what this server does not do, how
a host name looks), nor that all other data is refused, since every client's spelling of a number or boolean is taken.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any, Final, cast
from urllib.parse import quote
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from api_seeds import Seeds, Threaded, sow, threaded_site
from api_site import KEY
from inboxd.api.guesses import Guesses
from inboxd.api.openapi import document
from inboxd.api.routes import ROUTES
from inboxd.model import Tls
from servers import LOOPBACK, free_port
from servers.smtp import SmtpServer, smtp_server

# Longer request lines are the HTTP parser's to refuse.
_LONGEST_LINE: Final = 8_000
_DEADLINES: Final = frozenset({"timeout", "timeoutMillis", "retryTimeout"})
_HOSTS: Final = frozenset({"imapHost", "smtpHost", "proxyHost"})
_PORTS: Final = frozenset({"imapPort", "smtpPort", "proxyPort"})
# What the examples ask for, where it is no id of what exists.
_SAMPLES: Final = {
    "contentType": "text/html",
    "count": 1,
    "emailAddress": "me@example.com",
    "favourited": True,
    "htmlSelector": "p",
    "name": "seed",
    "to": "ada@example.com",
}
# There are several connectors, so a mail's sender must be named.
_ALSO: Final = {"sendEmailQuery": {"senderId"}, "sendEmailSourceOptional": {"inboxId"}}
# The inbox has a connector, and nothing listens where its IMAP server ought to.
_REFUSED: Final = {"applyImapFlagOperation": "502", "deleteEmailAddress": "409", "deleteInbox": "409"}
# What these have put into the outbox is to be sent before the next request is made up.
_SENDING: Final = {route.operation for route in ROUTES if route.wants_once}
_DOCUMENT: Final = document(ROUTES)
_OPERATIONS: Final[dict[str, tuple[str, str]]] = {
    operation["operationId"]: (path, method)
    for path, methods in _DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
# Much of schemathesis carries no types.
SCHEMATHESIS: Any = schemathesis
_FEW: Final = settings(
    max_examples=8,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
_schema: Any = SCHEMATHESIS.openapi.from_dict(
    deepcopy(_DOCUMENT),
    config=SCHEMATHESIS.Config.from_dict(
        {
            "generation": {"allow-x00": False},
            "checks": {
                # A 500 is our mistake, the others are a mail server's.
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "502", "503", "504"]},
                "positive_data_acceptance": {"enabled": False},
                "negative_data_rejection": {"enabled": False},
            },
        }
    ),
)


class Guard:
    """Refuses every connection that would leave this machine, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.astray: list[object] = []

    def watch(self, event: str, given: tuple[Any, ...]) -> None:
        """Python's audit hook: `socket.connect` gets a socket and an address, `socket.getaddrinfo` a host first."""
        if self.on and event in ("socket.connect", "socket.getaddrinfo"):
            address: Any = given[1] if event == "socket.connect" else given
            if not isinstance(address, str | bytes) and address[0] not in (LOOPBACK, None):
                self.astray.append(address)
                raise ConnectionRefusedError(f"{address!r} is not on this machine")

    @contextmanager
    def at_home(self) -> Generator[None]:
        """Nothing leaves this machine while the block runs, or it fails."""
        self.on, self.astray = True, []
        try:
            yield
        finally:
            self.on = False
        assert not self.astray


_guard = Guard()
sys.addaudithook(_guard.watch)


@pytest.fixture(scope="module")
def smtp_of_all() -> Generator[SmtpServer]:
    with smtp_server(Tls.NONE) as server:
        yield server


def _forget(_guesses: Guesses, _peer: str) -> bool:
    return False


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Threaded]:
    with threaded_site(tmp_path_factory.mktemp("site")) as opened, pytest.MonkeyPatch.context() as patch:
        # Every operation is tried with wrong keys, which are to be refused as such.
        patch.setattr(Guesses, "note", _forget)
        yield opened
    # What schemathesis keeps is much, and stays to the end: no later collection of garbage is to walk through it.
    gc.collect()
    gc.freeze()


def test_what_would_leave_this_machine_fails() -> None:
    with socket.socket() as away:
        away.setblocking(False)
        with pytest.raises(AssertionError), _guard.at_home(), suppress(ConnectionRefusedError):
            away.connect(("192.0.2.1", 9))
    assert _guard.astray == [("192.0.2.1", 9)]


@pytest.mark.parametrize("operation", _OPERATIONS)
def test_every_answer_is_as_documented(operation: str, threaded: Threaded, smtp_of_all: SmtpServer) -> None:
    path, method = _OPERATIONS[operation]
    asked = _schema[path][method]
    seeds = threaded.run(sow(threaded.site, smtp_of_all.port, port := free_port()))

    def ask(case: Any) -> None:
        _aim(case, seeds, port)
        if len(quote(f"{case.formatted_path}{case.query}")) < _LONGEST_LINE:
            case.call_and_validate(base_url=threaded.site.url, headers={"x-api-key": KEY})
        if operation in _SENDING:
            threaded.run(threaded.site.at_rest())

    modes = list(GenerationMode) if _takes_anything(path, method) else [GenerationMode.POSITIVE]
    with _guard.at_home():
        for mode in modes:
            _FEW(given(case=asked.as_strategy(generation_mode=mode))(ask))()


@pytest.mark.parametrize("operation", _OPERATIONS)
def test_the_documented_example_is_answered_well(operation: str, threaded: Threaded, smtp_of_all: SmtpServer) -> None:
    path, method = _OPERATIONS[operation]
    seeds = threaded.run(sow(threaded.site, smtp_of_all.port, port := free_port()))
    documented = _DOCUMENT["paths"][path][method]
    named = {given["name"] for given in documented["parameters"] if given["in"] == "query" and given["required"]}
    more = {"body": _example_of(documented)} if "requestBody" in documented else {}
    case = _schema[path][method].Case(
        path_parameters=seeds.in_path(path),
        query={name: _SAMPLES.get(name, seeds.names.get(name)) for name in named | _ALSO.get(operation, set())},
        **more,
    )
    _aim(case, seeds, port)
    with _guard.at_home():
        answer = case.call_and_validate(base_url=threaded.site.url, headers={"x-api-key": KEY})
    good, *_ = documented["responses"]
    assert str(answer.status_code) == _REFUSED.get(operation, good), answer.text


def _example_of(operation: dict[str, Any]) -> object:
    schema = _body_schema(operation)
    return deepcopy(schema.get("examples", [{}])[0]) if schema else b"hello"


def _takes_anything(path: str, method: str) -> bool:
    operation = _DOCUMENT["paths"][path][method]
    return bool(operation["parameters"] or "requestBody" in operation)


def _aim(case: Any, seeds: Seeds, closed_port: int) -> None:
    """Let the request name what exists, wait for nothing, and reach nothing but this machine."""
    case.path_parameters = _aimed(case.path_parameters, seeds.in_path(case.path), closed_port)
    case.query = _aimed(_unwaiting(case.query, _parameters_of(case)), seeds.names, closed_port)
    case.body = _aimed(_unwaiting(case.body, _fields_of(case)), seeds.names, closed_port)


def _parameters_of(case: Any) -> set[str]:
    return {given["name"] for given in _operation_of(case)["parameters"] if given["in"] == "query"}


def _fields_of(case: Any) -> set[str]:
    return set(_body_schema(_operation_of(case)).get("properties", ()))


def _body_schema(operation: dict[str, Any]) -> dict[str, Any]:
    """The schema of a JSON body; empty where none is taken."""
    media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return _DOCUMENT["components"]["schemas"].get(name, {})


def _operation_of(case: Any) -> dict[str, Any]:
    return _DOCUMENT["paths"][case.path][case.operation.method]


def _unwaiting(given: Any, possible: set[str]) -> Any:
    """The same, with deadlines of nothing where it has none."""
    if not isinstance(given, dict):
        return given
    said = cast("dict[str, Any]", given)
    return said | dict.fromkeys(_DEADLINES & possible - set(said), 0)


def _aimed(given: Any, ids: Mapping[str, str], closed_port: int, name: str = "") -> Any:
    if isinstance(given, dict):
        pairs = cast("dict[Any, Any]", given).items()
        return {key: _aimed(value, ids, closed_port, str(key)) for key, value in pairs}
    if isinstance(given, list):
        return [_aimed(value, ids, closed_port, name) for value in cast("list[Any]", given)]
    if isinstance(given, str) and name in (*_HOSTS, "url"):
        return f"http://{LOOPBACK}:{closed_port}/" if name == "url" else LOOPBACK
    if isinstance(given, int) and name in _PORTS:
        return closed_port
    if name in _DEADLINES:
        return given if isinstance(given, str) and any(mark.isalpha() for mark in given) else 0
    return ids[name] if name in ids and _is_identity(given) else given


def _is_identity(given: object) -> bool:
    try:
        return isinstance(given, str) and bool(UUID(given))
    except ValueError:
        return False
