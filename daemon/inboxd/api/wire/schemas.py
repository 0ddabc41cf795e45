"""JSON Schemas (2020-12) of the wire models, as the wire shows them: camelCase names, nulls and absences included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from inboxd.api.wire.shapes import Answer, Request, Sparse

Schema = dict[str, Any]

_PLACE: Final = "#/components/schemas/"
_NULL: Final[Schema] = {"type": "null"}
_NAME_IN_WORDS = re.compile(r"`([a-z_]+)`")


@dataclass(frozen=True, slots=True)
class Schemas:
    """`components`: the schema of each model and of what it holds, by name. `references`: what points to a model's."""

    components: Mapping[str, Schema]
    references: Mapping[type, Schema]

    def component(self, model: type) -> Schema:
        """The schema of one of the models asked for."""
        return self.components[name_of(self.references[model])]


def describe(requests: Iterable[type[Request]], answers: Iterable[type[Answer]]) -> Schemas:
    """The schemas of all that may be sent and of all that is answered."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in requests),
        *((model, "serialization") for model in answers),
    ]
    found, definitions = models_json_schema(
        wanted, ref_template=_PLACE + "{model}", schema_generator=_Generator, union_format="primitive_type_array"
    )
    components = {name: _less(schema, "title") for name, schema in definitions.get("$defs", {}).items()}
    return Schemas(components, {model: schema for (model, _mode), schema in found.items()})


def name_of(schema: Schema) -> str:
    """The name of the component a schema points to; empty when it is no reference."""
    return str(schema.get("$ref", "")).removeprefix(_PLACE)


def is_nullable(schema: Schema) -> bool:
    """Whether null is a value of it."""
    return "null" in schema.get("type", ()) or _NULL in schema.get("anyOf", ())


def without_null(schema: Schema) -> Schema:
    """The same schema, null no longer being a value: a query cannot say it."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        left = [kind for kind in cast("list[str]", kinds) if kind != "null"]
        return schema | {"type": left[0] if len(left) == 1 else left}
    choices = [choice for choice in schema.get("anyOf", ()) if choice != _NULL]
    more: Schema = {"anyOf": choices} if len(choices) > 1 else choices[0] if choices else {}
    return _less(schema, "anyOf") | more


def _with_null(schema: Schema) -> Schema:
    if is_nullable(schema):
        return schema
    kinds = schema.get("type")
    if isinstance(kinds, str) and not {"enum", "const"} & set(schema):
        return schema | {"type": [kinds, "null"]}
    kept = {key: schema[key] for key in ("default", "description") if key in schema}
    return {"anyOf": [{key: value for key, value in schema.items() if key not in kept}, _NULL]} | kept


@final
class _Generator(GenerateJsonSchema):
    """What pydantic writes, less its titles, and true to what `Request`, `Answer` and `Sparse` do."""

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002
        """As the models have it."""
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Never: a title would repeat the name."""
        return False

    def ser_schema(self, schema: Any) -> JsonSchemaValue | None:
        """The schema of a serializer; one that only leaves out nulls changes no field."""
        return None if schema["type"] == "function-wrap" else super().ser_schema(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of a model."""
        model: type[BaseModel] = schema["cls"]
        written = super().model_schema(schema)
        known = set(written.get("required", ()))
        fields = {name: _tidied(field) for name, field in written.get("properties", {}).items()}
        if issubclass(model, Request):
            fields = {name: field if name in known else _with_null(field) for name, field in fields.items()}
        elif issubclass(model, Sparse):
            known -= {name for name, field in fields.items() if is_nullable(field)}
            fields = {name: without_null(field) for name, field in fields.items()}
        else:
            known, fields = set(fields), {name: _less(field, "default") for name, field in fields.items()}
        described = {"description": _in_wire_names(model)} if written.get("description") else {}
        required = [name for name in fields if name in known]
        return {"type": "object"} | described | {"properties": fields} | ({"required": required} if required else {})


def _less(schema: Schema, keyword: str) -> Schema:
    return {key: value for key, value in schema.items() if key != keyword}


def _tidied(field: Schema) -> Schema:
    """The field without a default of null, and with one list of types instead of a choice between type and null."""
    plain = {key: value for key, value in field.items() if (key, value) != ("default", None)}
    return _with_null(without_null(plain)) if is_nullable(plain) else plain


def _in_wire_names(model: type[BaseModel]) -> str:
    """What the model's docstring says, its fields under the names of the wire."""
    names = {name: field.serialization_alias or field.alias or name for name, field in model.model_fields.items()}
    words = " ".join((model.__doc__ or "").split())
    return _NAME_IN_WORDS.sub(lambda found: f"`{names.get(found[1], found[1])}`", words)
