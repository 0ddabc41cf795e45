"""Between bytes and models: the one place where the rest of the api meets pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from multidict import MultiMapping
from pydantic import ValidationError
from pydantic.alias_generators import to_snake
from pydantic_core import from_json, to_json

from inboxd.api.wire.shapes import Request


class MisfitError(Exception):
    """What was given does not fit the model; the message names each field and what would do, never what was given.

    `unusable`: fields and types are right, but some value cannot be used.
    """

    def __init__(self, message: str, *, unusable: bool) -> None:
        super().__init__(message)
        self.unusable = unusable


def write(content: object) -> bytes:
    """The JSON of models, or of lists and dicts of them, under their wire names."""
    return to_json(content, by_alias=True)


def parse(raw: bytes) -> Any:
    """The value of a JSON text; ValueError says where it is not one, too deep, or not UTF-8."""
    return from_json(raw, allow_inf_nan=False)


def read(model: type[Request], given: object) -> Request:
    """`given` as `model`, or MisfitError."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        unusable = all(mistake["type"] == "value_error" for mistake in error.errors(include_url=False))
        raise MisfitError(_explain(error), unusable=unusable) from None


def read_query(model: type[Request], query: MultiMapping[str]) -> Request:
    """The query as `model`, or MisfitError. Empty values do not count; repeated keys make a list."""
    given: dict[str, object] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if values := [value for value in query.getall(key, ()) if value]:
            given[key] = values if get_origin(field.annotation) is list else values[0]
    return read(model, given)


def argument_names(values: Mapping[str, object]) -> dict[str, object]:
    """The same under the names of Python."""
    return {to_snake(name): value for name, value in values.items()}


def _explain(error: ValidationError) -> str:
    """One clause a mistake."""
    clauses: list[str] = []
    for mistake in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in mistake["loc"])
        what = "is required" if mistake["type"] == "missing" else mistake["msg"].removeprefix("Value error, ")
        clauses.append(f"{where}: {what}" if where else what)
    return "; ".join(dict.fromkeys(clauses))
