"""Schemathesis asks every operation for what its document allows and forbids; every answer is as documented.

Not checked: that all allowed data is accepted, since some rules are no JSON Schema's (what this server does not do, how
a host name looks), nor that all other data is refused, since every client's spelling of a number or boolean is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from copy import deepcopy
from typing import Any, Final, cast
from urllib.parse import quote
from uuid import UUID

import pytest
import schemathesis.openapi
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode

from api_seeds import Seeds, Threaded, sow, threaded_site
from api_site import KEY
from inboxd.api.openapi import document
from inboxd.api.routes import ROUTES
from inboxd.model import Tls
from servers import LOOPBACK, free_port
from servers.smtp import SmtpServer, smtp_server

_EXAMPLES: Final = 10
# Longer request lines are the HTTP parser's to refuse.
_LONGEST_LINE: Final = 8_000
_DEADLINES: Final = frozenset({"timeout", "timeoutMillis", "retryTimeout"})
_HOSTS: Final = frozenset({"imapHost", "smtpHost", "proxyHost"})
_PORTS: Final = frozenset({"imapPort", "smtpPort", "proxyPort"})
_DOCUMENT: Final = document(ROUTES)
_OPERATIONS: Final[dict[str, tuple[str, str]]] = {
    operation["operationId"]: (path, method)
    for path, methods in _DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
_schema = schemathesis.openapi.from_dict(
    deepcopy(_DOCUMENT),
    config=schemathesis.Config.from_dict(
        {
            "checks": {
                # A 500 is our mistake, the others are a mail server's.
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "502", "503", "504"]},
                "positive_data_acceptance": {"enabled": False},
                "negative_data_rejection": {"enabled": False},
            }
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
            address = given[1] if event == "socket.connect" else given
            if isinstance(address, tuple) and address[0] not in (LOOPBACK, None):
                self.astray.append(address)
                raise ConnectionRefusedError(f"{address!r} is not on this machine")


_guard = Guard()
sys.addaudithook(_guard.watch)


@pytest.fixture(scope="module")
def smtp_of_all() -> Generator[SmtpServer]:
    with smtp_server(Tls.NONE) as server:
        yield server


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Threaded]:
    with threaded_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", _OPERATIONS)
def test_every_answer_is_as_documented(
    operation: str, mode: GenerationMode, threaded: Threaded, smtp_of_all: SmtpServer
) -> None:
    path, method = _OPERATIONS[operation]
    if mode.is_negative and not _takes_anything(path, method):
        return
    port = free_port()
    seeds = threaded.run(sow(threaded.site, smtp_of_all.port, port))

    @given(case=_schema[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=_EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case[Any]) -> None:
        _aim(case, seeds, port)
        if len(quote(f"{case.formatted_path}{case.query}")) < _LONGEST_LINE:
            case.call_and_validate(base_url=threaded.site.url, headers={"x-api-key": KEY})

    _guard.on, _guard.astray = True, []
    try:
        ask()
    finally:
        _guard.on = False
    assert not _guard.astray


def _takes_anything(path: str, method: str) -> bool:
    operation = _DOCUMENT["paths"][path][method]
    return bool(operation["parameters"] or "requestBody" in operation)


def _aim(case: Case[Any], seeds: Seeds, closed_port: int) -> None:
    """Let the request name what exists, wait for nothing, and reach nothing but this machine."""
    case.path_parameters = _aimed(case.path_parameters, seeds.in_path(case.path), closed_port)
    case.query = _aimed(case.query, seeds.names, closed_port) | _unsaid(case.query, _parameters_of(case))
    case.body = _aimed(case.body, seeds.names, closed_port)
    if isinstance(case.body, dict):
        case.body |= _unsaid(cast("dict[str, Any]", case.body), _fields_of(case))


def _parameters_of(case: Case[Any]) -> set[str]:
    return {given["name"] for given in _operation_of(case)["parameters"] if given["in"] == "query"}


def _fields_of(case: Case[Any]) -> set[str]:
    schema = _operation_of(case)["requestBody"]["content"].get("application/json", {}).get("schema", {})
    return set(_DOCUMENT["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {"properties": ()})["properties"])


def _operation_of(case: Case[Any]) -> dict[str, Any]:
    return _DOCUMENT["paths"][case.path][case.operation.method]


def _unsaid(given: Mapping[str, Any], possible: set[str]) -> dict[str, int]:
    """Deadlines of nothing, where the request leaves it to the server."""
    return {name: 0 for name in _DEADLINES & possible if given.get(name) is None}


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
    if name in _DEADLINES and str(given).isdecimal():
        return 0
    return ids[name] if name in ids and _is_identity(given) else given


def _is_identity(given: object) -> bool:
    try:
        return isinstance(given, str) and bool(UUID(given))
    except ValueError:
        return False
