"""The OpenAPI 3.1 document of all that is served on TCP, made of the route table and the wire models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from inboxd import __version__
from inboxd.api.answers import JSON, OCTETS, File
from inboxd.api.confines import CONFINED
from inboxd.api.examples import EXAMPLES
from inboxd.api.intake import ONCE_HEADER, ONCE_PATTERN
from inboxd.api.route import Route
from inboxd.api.wire import schemas
from inboxd.api.wire.schemas import Schema, Schemas
from inboxd.api.wire.shapes import Answer, Request
from inboxd.model import Scope

_ABOUT: Final = (
    "inboxd links external IMAP and SMTP mailboxes to local inboxes and answers the operations of MailSlurp's clients. "
    "In requests null and, in a query, an empty value are the same as absent, an empty body is an empty object, and "
    "unknown fields are ignored. "
    "Unknown paths answer 404, operations of MailSlurp's other products 501, wrong methods 405: always with an `Error`."
)
_ABOUT_KEYS: Final = (
    "An API key of `inboxctl key create`, good for the scopes `read`, `send` and `manage` or some of them, and for all "
    "inboxes or one. An operation names the scopes it needs; `x-one-inbox-key`: whether a key of one inbox opens it."
)
_SECURITY: Final = {
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": _ABOUT_KEYS},
    "query": {"type": "apiKey", "in": "query", "name": "apiKey", "description": "The same, for links in a browser."},
}
# Whether a key that is good for one inbox only opens the operation.
ONE_INBOX: Final = "x-one-inbox-key"
_ERROR: Final[Schema] = {
    "type": "object",
    "description": "Every refusal.",
    "properties": {
        "message": {"type": "string", "description": "What is wrong and what to do, in a sentence."},
        "status": {"type": "integer"},
        "error": {"type": "string", "description": "The name of the status."},
        "path": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
    },
    "required": ["message", "status", "error", "path", "timestamp"],
}
_IDENTITY: Final[Schema] = {"type": "string", "format": "uuid"}
_ONCE: Final = {
    "name": ONCE_HEADER,
    "in": "header",
    "description": (
        "Makes it safe to ask again: as long as the key is remembered (setting `outbox.keep_keys_seconds`), the same "
        "request with it sends nothing more and is answered with what became of its mail; another request with it is "
        "refused with 409"
    ),
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": ONCE_PATTERN},
}


def _has_deadline(row: Route) -> bool:
    models = [model for model in (row.query, row.body) if model is not None and not issubclass(model, bytes)]
    return row.held and any(name.startswith("timeout") for model in models for name in model.model_fields)


def _only_declared(_row: Route) -> bool:
    return False


# When an operation can refuse so, unless its row declares it anyway; and what it means.
_REFUSALS: Final[Mapping[HTTPStatus, tuple[Callable[[Route], bool], str]]] = {
    HTTPStatus.BAD_REQUEST: (
        lambda row: row.query is not None or row.body is not None,
        "A value cannot be used; `message` names the field and what would do.",
    ),
    HTTPStatus.UNAUTHORIZED: (lambda row: not row.is_open, "The API key is missing, unknown or revoked."),
    HTTPStatus.FORBIDDEN: (
        lambda row: not row.is_open,
        "The API key lacks a scope that this needs, or is good for one inbox only and this is not.",
    ),
    HTTPStatus.NOT_FOUND: (lambda row: "{" in row.path, "There is nothing with this id."),
    HTTPStatus.REQUEST_TIMEOUT: (_has_deadline, "What was waited for did not come in time."),
    HTTPStatus.CONFLICT: (
        lambda row: row.status == HTTPStatus.CREATED or row.wants_once,
        f"The present state forbids it; or the `{ONCE_HEADER}` belongs to another request.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (lambda row: row.body is not None, "The body is larger than allowed."),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        lambda row: row.body is not None,
        "The body is compressed; send it as it is. Its Content-Type does not matter.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        lambda row: not row.is_open,
        "This API key is wrong, like too many before it from the same address. `Retry-After`: seconds to wait.",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        _only_declared,
        "The mail account or the mail is at fault: the same request cannot work until one of them is changed.",
    ),
    HTTPStatus.BAD_GATEWAY: (_only_declared, "The mail server, or the way to it, failed."),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        lambda row: not row.is_open,
        "It does not work now: the database or a mail server refuses for the moment, or inboxd is stopping.",
    ),
    HTTPStatus.GATEWAY_TIMEOUT: (_only_declared, "The mail server did not answer in time."),
}


@cache
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The document of the rows that are served on TCP. Not to be changed by whoever gets it."""
    served = [row for row in routes if not row.socket_only]
    found = schemas.describe(*_models(served))
    bodies = {row.body for row in served}
    queries = {schemas.name_of(found.references[row.query]) for row in served if row.query and row.query not in bodies}
    paths: dict[str, dict[str, Any]] = {}
    for row in served:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "inboxd", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _SECURITY],
        "tags": [{"name": name} for name in dict.fromkeys(row.controller for row in served)],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "responses": {str(status.value): _refusal(words) for status, (_can, words) in _REFUSALS.items()},
            "schemas": {name: _exemplified(name, found) for name in sorted(found.components) if name not in queries}
            | {"Error": _ERROR},
        },
    }


def _exemplified(name: str, found: Schemas) -> Schema:
    return found.components[name] | ({"examples": [EXAMPLES[name]]} if name in EXAMPLES else {})


def _statuses(row: Route) -> list[HTTPStatus]:
    """With what the operation may refuse."""
    return [status for status, (can, _words) in _REFUSALS.items() if can(row) or status in row.refuses]


def _models(rows: list[Route]) -> tuple[list[type[Request]], list[type[Answer]]]:
    """The models of all queries and bodies, and of all answers."""
    given = [model for row in rows for model in (row.query, row.body) if model is not None]
    shown = [_shown(row) for row in rows]
    return (
        list(dict.fromkeys(model for model in given if not issubclass(model, bytes))),
        list(dict.fromkeys(model for model in shown if issubclass(model, Answer))),
    )


def _shown(row: Route) -> type:
    """The model of an answer, or of its items."""
    return row.answer.__args__[0] if getattr(row.answer, "__origin__", None) is list else row.answer


def _operation(row: Route, found: Schemas) -> dict[str, Any]:
    summary, more = row.words
    body = {"requestBody": _body(row.body, found)} if row.body is not None else {}
    return {
        "tags": [row.controller],
        "operationId": row.operation,
        "summary": summary,
        **({"description": more} if more else {}),
        "parameters": [*_path_parameters(row), *_parameters(row, found), *((_ONCE,) if row.wants_once else ())],
        **body,
        "responses": {
            str(row.status): _answer(row, found),
            **{str(status.value): {"$ref": f"#/components/responses/{status.value}"} for status in _statuses(row)},
        },
        ONE_INBOX: row.operation in CONFINED,
        "security": [] if row.is_open else [{name: _roles(row)} for name in _SECURITY],
    }


def _roles(row: Route) -> list[str]:
    """The scopes that a key needs (OpenAPI 3.1: roles of a security scheme that is not OAuth2)."""
    return [scope.value for scope in Scope if scope in row.scopes]


def _path_parameters(row: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", row.path)
    return [{"name": name, "in": "path", "required": True, "schema": _IDENTITY} for name in names]


def _parameters(row: Route, found: Schemas) -> Iterator[dict[str, Any]]:
    """The parameters of the query, and the same again as headers where they may stand there."""
    if row.query is None:
        return
    schema = found.component(row.query)
    required = schema.get("required", ())
    for place in ("query", *(("header",) if row.in_headers else ())):
        for name, field in schema["properties"].items():
            yield _parameter(name, place, schemas.without_null(field), name in required and not row.in_headers)


def _parameter(name: str, place: str, field: Schema, required: bool) -> dict[str, Any]:
    # An empty value counts as absent.
    least = {"minLength": 1} if required and field.get("type") == "string" and "format" not in field else {}
    described = {"description": field["description"]} if "description" in field else {}
    repeated = {"style": "form", "explode": True} if place == "query" and field.get("type") == "array" else {}
    schema = {key: value for key, value in field.items() if key != "description"} | least
    return {"name": name, "in": place, **described, "required": required, **repeated, "schema": schema}


def _body(model: type[Request | bytes], found: Schemas) -> dict[str, Any]:
    if issubclass(model, bytes):
        return {"required": True, "content": {OCTETS: {}}}
    required = bool(found.component(model).get("required"))
    return {"required": required, "content": {_bare(JSON): {"schema": found.references[model]}}}


def _answer(row: Route, found: Schemas) -> dict[str, Any]:
    described = {"description": HTTPStatus(row.status).phrase}
    if row.answer is type(None):
        return described
    if row.answer is File:
        return described | {"content": {"*/*": {}}}
    content_type = _bare(row.content_type)
    schema = {"type": "string"} if content_type.startswith("text/") else _schema(row.answer, found)
    return described | {"content": {content_type: {"schema": schema} if schema else {}}}


def _schema(declared: Any, found: Schemas) -> Schema:
    """The schema of what a handler declares to return; that of bytes says nothing."""
    if getattr(declared, "__origin__", None) is list:
        return {"type": "array", "items": _schema(declared.__args__[0], found)}
    return {"type": "string"} if declared is str else found.references.get(declared, {})


def _refusal(words: str) -> dict[str, Any]:
    return {
        "description": words,
        "content": {_bare(JSON): {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _bare(content_type: str) -> str:
    """The content type without its parameters."""
    return content_type.partition(";")[0]
