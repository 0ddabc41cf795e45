"""Column types: what a database cell is in Python. Both databases store the same values."""

# ruff: noqa: ARG002 - every decorator is handed the dialect, and none of these cares

from __future__ import annotations

import enum
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, final
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Dialect, Enum, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from inboxd.mails import Address, Attachment
from inboxd.model import AttachmentId, Scope

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _TICK
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _TICK

# SQLite makes only INTEGER PRIMARY KEY the row's own number.
SERIAL = BigInteger().with_variant(Integer(), "sqlite")


def clean(text: str) -> str:
    """`text` as both databases can hold it: NUL and lone surrogates, which hostile mail contains, become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def microseconds_of(value: datetime) -> int:
    """A moment as it is kept."""
    return min(max((value - _EPOCH) // _TICK, _EARLIEST), _LATEST)


@final
class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970 UTC; out of range after the shift to UTC: the nearest."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else microseconds_of(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _TICK


@final
class Span(TypeDecorator[timedelta]):
    """How long something lasted, kept as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        return None if value is None else value // _TICK

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:
        return None if value is None else value * _TICK


@final
class CleanText(TypeDecorator[str]):
    """Text of any origin, cleaned on the way in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


@final
class Strings(TypeDecorator[tuple[str, ...]]):
    """A tuple of strings, kept as a JSON array."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> list[str] | None:
        return None if value is None else [clean(item) for item in value]

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(value)


@final
class Scopes(TypeDecorator[frozenset[Scope]]):
    """What an API key may do, kept as a JSON array."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: frozenset[Scope] | None, dialect: Dialect) -> list[str] | None:
        return None if value is None else [scope.value for scope in Scope if scope in value]

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> frozenset[Scope] | None:
        return None if value is None else frozenset(map(Scope, value))


@final
class Mailbox(TypeDecorator[Address]):
    """One address, kept as a JSON object; None is SQL NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Address | None, dialect: Dialect) -> dict[str, str | None] | None:
        return None if value is None else _written(value)

    def process_result_value(self, value: dict[str, Any] | None, dialect: Dialect) -> Address | None:
        return None if value is None else Address(**value)


@final
class Mailboxes(TypeDecorator[tuple[Address, ...]]):
    """A tuple of addresses, kept as a JSON array of objects."""

    impl = JSON
    cache_ok = True

    def process_bind_param(
        self, value: tuple[Address, ...] | None, dialect: Dialect
    ) -> list[dict[str, str | None]] | None:
        return None if value is None else [_written(address) for address in value]

    def process_result_value(self, value: list[dict[str, Any]] | None, dialect: Dialect) -> tuple[Address, ...] | None:
        return None if value is None else tuple(Address(**address) for address in value)


@final
class Attachments(TypeDecorator[tuple[Attachment, ...]]):
    """A tuple of attachments' descriptions, kept as a JSON array of objects."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Attachment, ...] | None, dialect: Dialect) -> list[dict[str, Any]] | None:
        return None if value is None else [_described(attachment) for attachment in value]

    def process_result_value(
        self, value: list[dict[str, Any]] | None, dialect: Dialect
    ) -> tuple[Attachment, ...] | None:
        if value is None:
            return None
        return tuple(Attachment(id=AttachmentId(UUID(one.pop("id"))), **one) for one in value)


def one_of(kind: type[enum.Enum]) -> TypeEngine[Any]:
    """An enum, kept as the text of its value."""
    return Enum(kind, native_enum=False, length=32, values_callable=_values)


def _values(kind: type[enum.Enum]) -> list[str]:
    return [str(member.value) for member in kind]


def _written(address: Address) -> dict[str, str | None]:
    name = None if address.name is None else clean(address.name)
    return {"raw": clean(address.raw), "address": clean(address.address), "name": name}


def _described(attachment: Attachment) -> dict[str, Any]:
    """Everything but the id is text of a mail, or a number."""
    described = {field.name: getattr(attachment, field.name) for field in fields(attachment)}
    text = {name: clean(value) for name, value in described.items() if isinstance(value, str)}
    return {**described, **text, "id": str(attachment.id)}
