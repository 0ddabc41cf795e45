"""The aiohttp application: every request goes through one door, finds its row in the table, and is answered by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final, final
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from inboxd import logs, metrics
from inboxd.api import answers
from inboxd.api.answers import ClientGoneError, Held, LineStream, while_client_waits
from inboxd.api.confines import confine
from inboxd.api.gate import Gate, Refusal, error_body, is_trusted, status_of
from inboxd.api.intake import read_body, read_bytes, read_once, read_path, read_query
from inboxd.api.products import OTHER_PRODUCTS
from inboxd.api.route import Route
from inboxd.api.routes import ROUTES
from inboxd.api.scopes import check
from inboxd.api.wire.shapes import Request
from inboxd.errors import InboxdError, Invalid
from inboxd.mail import glean
from inboxd.model import InboxId
from inboxd.services import Services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CLIENT_CLOSED_REQUEST: Final = 499
_log = logs.logger("api")


def build(services: Services, first: Callable[[web.Application], None] | None = None) -> web.Application:
    """The application, to be served on the control socket (trusted) and on TCP (behind API keys).

    `first` may add routes of other faces, which go before the API's.
    """
    door = Door(services)
    application = web.Application(client_max_size=services.settings.api.max_body_bytes)
    if first is not None:
        first(application)
    application.router.add_route("*", "/{path:.*}", door.answer)
    application.middlewares.append(door.refuse)
    application.on_shutdown.append(door.held.stop)
    return application


@final
class Node:
    """A path segment and what may follow it; a fixed segment goes before a parameter."""

    def __init__(self) -> None:
        self.fixed: dict[str, Node] = {}
        self.parameter: Node | None = None
        self.routes: dict[str, Route] = {}

    def plant(self, segments: list[str], route: Route) -> None:
        """Add a route below this node."""
        if not segments:
            self.routes[route.method] = route
        elif segments[0].startswith("{"):
            self.parameter = self.parameter or Node()
            self.parameter.plant(segments[1:], route)
        else:
            self.fixed.setdefault(segments[0], Node()).plant(segments[1:], route)

    def find(self, segments: list[str]) -> Node | None:
        """The node of a requested path."""
        if not segments:
            return self if self.routes else None
        child = self.fixed.get(segments[0])
        found = child.find(segments[1:]) if child is not None else None
        if found is None and self.parameter is not None:
            found = self.parameter.find(segments[1:])
        return found


@final
class Door:
    """Answers requests by the route table."""

    def __init__(self, services: Services, routes: tuple[Route, ...] = ROUTES) -> None:
        self.held = Held()
        self._services = services
        self._gate = Gate(services)
        self._tree = Node()
        for route in routes:
            self._tree.plant(_segments(route.path), route)

    @web.middleware
    async def refuse(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn every failure into its JSON answer, and count the answers."""
        try:
            response = await handler(request)
        except InboxdError as error:
            response = _refusal(status_of(error), str(error), request, getattr(error, "headers", {}))
        except web.HTTPException as error:
            response = _refusal(HTTPStatus(error.status), _reason(self._services, error), request)
        except ClientGoneError:
            response = web.Response(status=_CLIENT_CLOSED_REQUEST)
        except Exception as error:  # noqa: BLE001 - one request's bug must not show internals nor hurt the others
            _log.error("request_failed", method=request.method, path=request.path, exc_info=error)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            response = _refusal(status, "something went wrong inside inboxd; its log says what", request)
        metrics.API_REQUESTS.labels(f"{response.status // 100}xx").inc()
        return response

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The answer of the request's route."""
        trusted = is_trusted(request)
        segments = _segments(request.rel_url.raw_path)
        node = self._tree.find(segments)
        is_open = node is not None and all(route.is_open for route in node.routes.values())
        key = None if trusted or is_open else await self._gate.admit(request)
        routes = (
            {} if node is None else {m: route for m, route in node.routes.items() if trusted or not route.socket_only}
        )
        if not routes:
            raise _nowhere(request, segments)
        if request.method == "OPTIONS":
            return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(_allowed(routes))})
        route = routes.get("GET" if request.method == "HEAD" else request.method)
        if route is None or (request.method == "HEAD" and route.lines is not None):
            message = f"{request.method} is not possible here; use {', '.join(_allowed(routes))}"
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, message, {"Allow": ", ".join(_allowed(routes))})
        if request.method == "HEAD" and route.head is not None:
            route = replace(route, handler=route.head)
        if key is not None and not route.is_open:
            check(key, route)
        return await self._carry_out(route, request, _parameters(route, segments), key and key.inbox_id)

    async def _carry_out(
        self, route: Route, request: web.Request, path: Mapping[str, str], inbox_id: InboxId | None
    ) -> web.StreamResponse:
        """`inbox_id`: the one that the request must stay in."""
        arguments = read_path(path)
        if route.query is not None:
            # Headers have no case, and some clients and proxies write them all small.
            both = CIMultiDict([*request.query.items(), *request.headers.items()]) if route.in_headers else None
            arguments["query"] = read_query(route.query, request.query if both is None else both)
        if route.body is not None:
            read = read_bytes(request) if issubclass(route.body, bytes) else read_body(route.body, request)
            arguments["body"] = body = await read
            if isinstance(body, Request) and body.local_fields() and not is_trusted(request):
                field = body.local_fields()[0]
                raise Invalid(field, "names something on the daemon's machine: only its operator may, with inboxctl")
        if inbox_id is not None and not route.is_open:
            route = await confine(self._services, route, arguments, inbox_id)
        if route.wants_once:
            arguments["once"] = await read_once(route.operation, arguments, request.headers)
        if route.wants_origin:
            arguments["origin"] = str(request.url.origin())
        if route.lines is not None:
            return await self._stream(route, request, arguments)
        if not route.held:
            return await _whole(route, request, await route.handler(self._services, **arguments))
        async with self.held.until_stop(), while_client_waits(request):
            content = await route.handler(self._services, **arguments)
        return await _whole(route, request, content)

    async def _stream(self, route: Route, request: web.Request, arguments: dict[str, object]) -> web.StreamResponse:
        """A failure after the first line becomes the last line."""
        stream = LineStream(request)
        try:
            async with self.held.until_stop():
                await route.handler(self._services, **arguments, emit=stream.emit)
        except InboxdError as error:
            if stream.response is None:
                raise
            await stream.write(error_body(status_of(error), str(error), request.path))
        return await stream.finish()


async def _whole(route: Route, request: web.Request, content: object) -> web.StreamResponse:
    """A mail's HTML goes out as it is, but to a browser that is to show it: no header keeps that from connecting to
    whom it names.
    """
    if route.content_type == answers.HTML and isinstance(content, str) and answers.is_shown(request.headers):
        content = await asyncio.to_thread(glean.disarmed, content)
    return answers.whole(route.status, content, route.content_type)


def _segments(raw_path: str) -> list[str]:
    """The path's segments, decoded; empty ones do not count, because SDKs with a trailing slash in their base URL
    ask for `//connectors`.
    """
    return [unquote(segment) for segment in raw_path.split("/") if segment]


def _nowhere(request: web.Request, segments: list[str]) -> Refusal:
    product = OTHER_PRODUCTS.get(segments[0]) if segments else None
    if product is not None:
        words = f"this server does not do {product}: it links mailboxes, and reads and sends their mail"
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, words)
    return Refusal(HTTPStatus.NOT_FOUND, f"there is no operation at {request.path}")


def _parameters(route: Route, segments: list[str]) -> dict[str, str]:
    pairs = zip(_segments(route.path), segments, strict=True)
    return {template[1:-1]: text for template, text in pairs if template.startswith("{")}


def _allowed(routes: Mapping[str, Route]) -> tuple[str, ...]:
    return (*sorted({*routes, *(("HEAD",) if "GET" in routes else ())}), "OPTIONS")


def _refusal(
    status: HTTPStatus, message: str, request: web.BaseRequest, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    response = answers.whole(status, error_body(status, message, request.path), answers.JSON)
    response.headers.update(headers or {})
    return response


def _reason(services: Services, error: web.HTTPException) -> str:
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"the body is larger than {services.settings.api.max_body_bytes} bytes (setting api.max_body_bytes)"
    return error.reason
