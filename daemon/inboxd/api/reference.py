"""The page at /docs: the OpenAPI document for people. It needs no script and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from inboxd.api.answers import Page
from inboxd.api.openapi import ONE_INBOX

_JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/"
_LIMITS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "like {}",
}
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("inboxd", "api"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of a type's description; `model` names the model it links to."""

    text: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: a parameter or a field."""

    name: str
    place: str
    kind: list[Word]
    required: bool
    notes: str


@dataclass(frozen=True, slots=True)
class Operation:
    """All that the page says of an operation."""

    name: str
    method: str
    path: str
    summary: str
    description: str
    needs: str
    rows: list[Row]
    body: list[Word]
    body_required: bool
    status: str
    answer: list[Word]
    refusals: list[str]
    curl: str


@dataclass(frozen=True, slots=True)
class Model:
    """A component: an object with fields, or a choice of words."""

    name: str
    description: str
    rows: list[Row]
    choices: list[str]
    example: str


def page(document: Mapping[str, Any]) -> Page:
    """The page of an OpenAPI document made by `openapi.document`."""
    style = _ENVIRONMENT.get_template("reference.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    operations = list(_operations(document))
    content = _ENVIRONMENT.get_template("reference.html").render(
        info=document["info"],
        refusals=document["components"]["responses"],
        style=style,
        groups={
            tag["name"]: [operation for controller, operation in operations if controller == tag["name"]]
            for tag in document["tags"]
        },
        models=[_model(name, schema) for name, schema in document["components"]["schemas"].items()],
    )
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Page(content, f"{policy}; frame-ancestors 'none'")


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, Operation]]:
    """Each operation after the name of its controller."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield operation["tags"][0], _operation(document, method.upper(), path, operation)


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> Operation:
    body = operation.get("requestBody", {})
    (status, answer), *_ = operation["responses"].items()
    _, *refusals = operation["responses"]
    return Operation(
        name=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        needs=_needs(operation),
        rows=[_row(given, given["in"], given["schema"], given["required"]) for given in operation["parameters"]],
        body=_content(body),
        body_required=body.get("required", False),
        status=status,
        answer=_content(answer),
        refusals=refusals,
        curl=_curl(document, method, path, operation),
    )


def _needs(operation: Mapping[str, Any]) -> str:
    """Which API key opens it. All ways to hand one over ask for the same."""
    if not operation["security"]:
        return "Needs no API key."
    (scopes,) = {tuple(scopes) for way in operation["security"] for scopes in way.values()}
    words = " and ".join(f"`{scope}`" for scope in scopes)
    also = "; one of a single inbox will do" if operation[ONE_INBOX] else ""
    return f"Needs an API key with the scope {words}{also}."


def _row(named: Mapping[str, Any], place: str, schema: Mapping[str, Any], required: bool) -> Row:
    notes = [words.format(schema[key]) for key, words in _LIMITS.items() if key in schema]
    if "default" in schema:
        notes.append(f"default {json.dumps(schema['default'], ensure_ascii=False)}")
    described = [named["description"]] if "description" in named else []
    return Row(named["name"], place, list(_words(schema)), required, "; ".join([*described, *notes]))


def _content(holder: Mapping[str, Any]) -> list[Word]:
    """The model of a body or of an answer; where it is no JSON, its content type."""
    for content_type, media in holder.get("content", {}).items():
        schema = media.get("schema", {})
        return list(_words(schema)) if content_type == _JSON and schema else [Word(content_type)]
    return []


def _words(schema: Mapping[str, Any]) -> Iterator[Word]:
    """The type a schema describes."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        yield Word(name, name)
    elif "anyOf" in schema:
        for number, choice in enumerate(schema["anyOf"]):
            yield from (Word(" or "),) if number else ()
            yield from _words(choice)
    elif "enum" in schema or "const" in schema:
        yield Word(" or ".join(map(str, schema.get("enum", [schema.get("const")]))))
    else:
        kinds: str | list[str] = schema.get("type", "anything")
        for number, kind in enumerate([kinds] if isinstance(kinds, str) else kinds):
            yield from (Word(" or "),) if number else ()
            yield from _plain_words(kind, schema)


def _plain_words(kind: str, schema: Mapping[str, Any]) -> Iterator[Word]:
    if kind == "array":
        yield Word("list of ")
        yield from _words(schema.get("items", {}))
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        yield Word("object of ")
        yield from _words(schema["additionalProperties"])
    else:
        yield Word(schema.get("format", kind) if kind == "string" else kind)


def _model(name: str, schema: Mapping[str, Any]) -> Model:
    required = schema.get("required", ())
    fields = schema.get("properties", {})
    return Model(
        name=name,
        description=schema.get("description", ""),
        rows=[_row({"name": field} | kind, "", kind, field in required) for field, kind in fields.items()],
        choices=[str(choice) for choice in schema.get("enum", ())],
        example="\n\n".join(_json(example) for example in schema.get("examples", ())),
    )


def _json(example: object) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)


def _curl(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    """A call of the operation with all it needs, for a shell where URL and KEY are set."""
    place = re.sub(r"{(\w+)}", lambda found: _placeholder(found[1]), path)
    query = [
        f"{given['name']}={_sample(given['name'], given['schema'])}"
        for given in operation["parameters"]
        if given["in"] == "query" and given["required"]
    ]
    address = f'"$URL{place}{"?" if query else ""}{"&".join(query)}"'
    parts = ["curl", *(("-X", method) if method != "GET" else ()), address]
    lines = [" ".join(parts), *(() if not operation["security"] else ('-H "x-api-key: $KEY"',))]
    return " \\\n  ".join([*lines, *_curl_body(document, operation)])


def _curl_body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[str]:
    for content_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"-H 'Content-Type: {content_type}'"
        if content_type != _JSON:
            yield "--data-binary @FILE"
            return
        model = document["components"]["schemas"][media["schema"]["$ref"].removeprefix(_SCHEMAS)]
        yield f"-d {shlex.quote(_json(model.get('examples', [{}])[0]))}"


def _placeholder(name: str) -> str:
    return _WORD.sub("_", name).upper()


def _sample(name: str, schema: Mapping[str, Any]) -> object:
    """A value for a required parameter."""
    plain = {"integer": 1, "boolean": "true"}
    return plain.get(schema.get("type", ""), _placeholder(name))
