"""Reading requests: path ids, queries and bodies become typed arguments, or a refusal that says what to change."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from uuid import UUID

from aiohttp import web
from multidict import MultiMapping

from inboxd.api.answers import ClientGoneError
from inboxd.api.gate import KEY_ID, Refusal
from inboxd.api.wire import codec
from inboxd.api.wire.codec import MisfitError
from inboxd.api.wire.shapes import Request
from inboxd.errors import Invalid
from inboxd.outbox import Once

ONCE_HEADER: Final = "Idempotency-Key"
# As it can stand in a header: no blank at either end.
ONCE_PATTERN: Final = "^[!-~](?:[ -~]{0,253}[!-~])?$"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)

_LOGIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _identity(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is nothing with the id {text[:60]!r}: ids are UUIDs")
    return UUID(text)


def _key_id(text: str) -> str:
    if not KEY_ID.fullmatch(text):
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no API key {text[:60]!r}")
    return text


def _login(text: str) -> str:
    if not _LOGIN.fullmatch(text):
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such login under way")
    return text


# What stands in braces in a route's path, and how it is read.
PATH_PARAMETERS: Final[Mapping[str, Callable[[str], object]]] = {
    "id": _identity,
    "inboxId": _identity,
    "emailId": _identity,
    "attachmentId": _identity,
    "webhookId": _identity,
    "key": _key_id,
    "login": _login,
}


def read_path(values: Mapping[str, str]) -> dict[str, object]:
    """The path's parameters by their Python names; malformed ids are 404."""
    return codec.argument_names({name: PATH_PARAMETERS[name](text) for name, text in values.items()})


def read_query(model: type[Request], query: MultiMapping[str]) -> Request:
    """The query as `model`; 400 when it does not fit."""
    try:
        return codec.read_query(model, query)
    except MisfitError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None


async def read_body(model: type[Request], request: web.BaseRequest) -> Request:
    """The JSON body as `model`, whatever its Content-Type; no body is an empty object.

    400: not JSON, or something in it that cannot be used; 413 and 415.
    ClientGoneError when the client hung up before its end.
    """
    raw = await read_bytes(request)
    try:
        return codec.read(model, _parse(raw) if raw else {})
    except MisfitError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None


async def read_bytes(request: web.BaseRequest) -> bytes:
    """The body as it came. Refusal 400 when it ended early, 415 when it is encoded; ClientGoneError."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the body as it is: Content-Encoding {encoding[:40]!r}")
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body ended before it was complete") from error
    except ConnectionResetError as error:
        raise ClientGoneError from error


async def read_once(operation: str, arguments: Mapping[str, object], headers: MultiMapping[str]) -> Once | None:
    """The idempotency key of a request for `operation` with these arguments; Invalid when it cannot be one."""
    given = headers.getall(ONCE_HEADER, [])
    if not given:
        return None
    if len(given) > 1 or not re.fullmatch(ONCE_PATTERN, given[0], re.ASCII):
        raise Invalid(ONCE_HEADER, "give it once, with 1 to 255 printable ASCII characters")
    # In a thread, since a mail with its attachments may be large.
    return Once(given[0], await asyncio.to_thread(codec.fingerprint, [operation, arguments]))


def _parse(raw: bytes) -> object:
    try:
        return codec.parse(raw)
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
