"""What a row of the route table says; the models of query, body and answer are read off the handler's signature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from inspect import getdoc
from typing import Any, get_type_hints

from inboxd.api.answers import JSON
from inboxd.api.wire.shapes import Answer, Request
from inboxd.model import Scope

Handler = Callable[..., Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation: called as `handler(services, path ids by name, query=…, body=…, origin=…, once=…)`, with what it
    declares.

    `origin` is the scheme, host and port the client asked at; a `body` declared as bytes is handed over as it came;
    `once` is the request's idempotency key, None when it has none.
    `status`: of a good answer. `lines`: the handler gets `emit` too, and answers with a stream of such JSON lines.
    `held`: it may wait long, and is ended when the daemon stops. `socket_only`: it does not exist on TCP. `is_open`: it
    needs no API key. `head`: called for HEAD where GET leaves a trace. `in_headers`: what the query lacks is looked for
    in headers of the same names. `controller`: MailSlurp's name for the group it belongs to. `refuses`: statuses of
    refusals that do not follow from the above. `scopes`: what an API key must be good for, all of it; none opens a row
    without any.
    """

    operation: str
    method: str
    path: str
    handler: Handler
    status: int = 200
    content_type: str = JSON
    lines: type[Answer] | None = None
    held: bool = False
    socket_only: bool = False
    is_open: bool = False
    head: Handler | None = None
    in_headers: bool = False
    controller: str = ""
    refuses: frozenset[HTTPStatus] = frozenset()
    scopes: frozenset[Scope] = frozenset()

    @property
    def query(self) -> type[Request] | None:
        """The model of the query, as the handler declares it."""
        return _declared(self.handler).get("query")

    @property
    def body(self) -> type[Request | bytes] | None:
        """The model of the body, as the handler declares it; bytes where it is no JSON."""
        return _declared(self.handler).get("body")

    @property
    def words(self) -> tuple[str, str]:
        """What the handler's docstring says: its first line, and the rest of it."""
        first, _, rest = (getdoc(self.handler) or "").partition("\n")
        return first.removesuffix("."), " ".join(rest.split())

    @property
    def wants_origin(self) -> bool:
        """Whether the handler builds URLs."""
        return "origin" in _declared(self.handler)

    @property
    def wants_once(self) -> bool:
        """Whether it takes an idempotency key."""
        return "once" in _declared(self.handler)

    @property
    def answer(self) -> Any:
        """What the handler declares to return: a model, a list of models, str, bytes, File, or NoneType."""
        return _declared(self.handler)["return"]


@cache
def _declared(handler: Handler) -> dict[str, Any]:
    return get_type_hints(handler)
