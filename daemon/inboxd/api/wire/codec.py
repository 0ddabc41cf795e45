"""Between bytes and models: the one place where the rest of the api meets pydantic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_origin

from multidict import MultiMapping
from pydantic import ValidationError
from pydantic.alias_generators import to_snake
from pydantic_core import ErrorDetails, from_json, to_json, to_jsonable_python

from inboxd.api.wire.shapes import FOUL_TEXT, Request

_AN_OBJECT: Final = "must be a JSON object"
_A_NUMBER: Final = "must be a whole number"
_A_CHOICE: Final = "must be one of {expected}"
_EMPTY: Final = "must not be empty"
# pydantic's kinds of mistake (https://docs.pydantic.dev/latest/errors/validation_errors/); the names in braces are
# those of its context.
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "string_type": "must be text",
    "string_unicode": "must be UTF-8 text",
    "string_too_short": _EMPTY,
    "string_too_long": "must not be longer than {max_length} characters",
    "list_type": "must be a list",
    "too_short": _EMPTY,
    "too_long": "must not be longer than {max_length}",
    "dict_type": _AN_OBJECT,
    "model_type": _AN_OBJECT,
    "model_attributes_type": _AN_OBJECT,
    "int_type": _A_NUMBER,
    "int_parsing": _A_NUMBER,
    "int_from_float": _A_NUMBER,
    "int_parsing_size": "is too large a number",
    "greater_than_equal": "must not be less than {ge}",
    "less_than_equal": "must not be greater than {le}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "uuid_type": "is not a UUID",
    "uuid_parsing": "is not a UUID",
    "enum": _A_CHOICE,
    "literal_error": _A_CHOICE,
    "value_error": "{error}",
    FOUL_TEXT: "must not hold NUL or bytes that are not UTF-8",
}
_UNKNOWN: Final = "cannot be used"
_MOST_SHOWN: Final = 60


class MisfitError(Exception):
    """What was given does not fit the model; the message names each field by its path in JSON and what would do."""


def write(content: object) -> bytes:
    """The JSON of models, or of lists and dicts of them, under their wire names."""
    return to_json(content, by_alias=True)


def fingerprint(content: object) -> bytes:
    """The SHA-256 of models, ids, lists and dicts: the same for the same values, however they were spelt."""
    plain = to_jsonable_python(content, bytes_mode="base64")
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()


def parse(raw: bytes) -> Any:
    """The value of a JSON text; ValueError says where it is not one, too deep, or not UTF-8."""
    return from_json(raw, allow_inf_nan=False)


def read(model: type[Request], given: object) -> Request:
    """`given` as `model`, or MisfitError."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        mistakes = error.errors(include_input=False, include_url=False)
        raise MisfitError("; ".join(dict.fromkeys(map(_explain, mistakes)))) from None


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


def _explain(mistake: ErrorDetails) -> str:
    """The field and what is wrong with it."""
    context = mistake.get("ctx", {})
    if "expected" in context:
        context = context | {"expected": context["expected"].replace("'", "").replace(" or ", ", ")}
    where = ".".join(_path(mistake["loc"], context))
    return f"{where or 'the body'}: {_WORDS.get(mistake['type'], _UNKNOWN).format_map(context)}"


def _path(location: tuple[int | str, ...], context: Mapping[str, Any]) -> Iterator[str]:
    """The steps to the field. `[key]` is pydantic's mark for the name, not the value, of a field in a dict."""
    for step in (*location, *context.get("path", ())):
        if step != "[key]":
            text = str(step)[:_MOST_SHOWN]
            yield text if text.isprintable() else ascii(text)
