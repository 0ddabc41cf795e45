"""The OpenAPI document: valid, complete, and true to the wire."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import aiohttp
import jsonschema_rs
import pytest
import pytest_asyncio
import schemathesis

from api_site import SDK, Site, open_site
from inboxd import __version__
from inboxd.api.examples import EXAMPLES
from inboxd.api.openapi import document
from inboxd.api.routes import ROUTES
from inboxd.model import Scope

SCHEMATHESIS: Any = schemathesis
DOCUMENT: Final = document(ROUTES)
SCHEMAS: Final[dict[str, dict[str, Any]]] = DOCUMENT["components"]["schemas"]
SERVED: Final = [route for route in ROUTES if not route.socket_only]
OPERATIONS: Final[dict[str, dict[str, Any]]] = {
    operation["operationId"]: operation for methods in DOCUMENT["paths"].values() for operation in methods.values()
}
# Fields of our own in MailSlurp's models.
OURS: Final = {
    ("CreateWebhookOptions", "enabled"),
    ("ConnectorImapConnectionDto", "folders"),
    ("CreateConnectorImapConnectionOptions", "folders"),
    ("ConnectorImapConnectionDto", "mirror"),
    ("CreateConnectorImapConnectionOptions", "mirror"),
    *(
        (model, field)
        for kind in ("Imap", "Smtp")
        for model in (f"Connector{kind}ConnectionDto", f"CreateConnector{kind}ConnectionOptions")
        for field in ("caFile", "clientCertificate", "clientKey", "passwordSource", "proxyPassword", "proxyUsername")
    ),
}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def validator(name: str) -> Any:
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    )


def refusals(operation: str) -> set[str]:
    _good, *others = OPERATIONS[operation]["responses"]
    return set(others)


def test_the_document_follows_its_standard() -> None:
    SCHEMATHESIS.openapi.from_dict(deepcopy(DOCUMENT)).validate()
    for name, schema in SCHEMAS.items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema)
        assert re.fullmatch(r"[A-Za-z0-9]+", name)


def test_a_broken_document_would_be_noticed() -> None:
    broken = deepcopy(DOCUMENT)
    broken["paths"]["/connectors"]["get"]["responses"]["200"] = {}
    with pytest.raises(jsonschema_rs.ValidationError):
        SCHEMATHESIS.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere() -> None:
    kinds = DOCUMENT["components"]
    for kind, name in re.findall(r"'#/components/(\w+)/(\w+)'", str(DOCUMENT)):
        assert name in kinds[kind]


def test_it_has_exactly_what_tcp_serves() -> None:
    places = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert places == {(route.path, route.method.lower()) for route in SERVED}
    assert set(OPERATIONS) == {route.operation for route in SERVED}
    assert {operation["tags"][0] for operation in OPERATIONS.values()} == {tag["name"] for tag in DOCUMENT["tags"]}
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", __version__)


@pytest.mark.parametrize("route", SERVED, ids=lambda route: route.operation)
def test_an_operation_says_what_its_row_says(route: Any) -> None:
    operation = OPERATIONS[route.operation]
    ids = [given["name"] for given in operation["parameters"] if given["in"] == "path"]
    assert ids == re.findall(r"{(\w+)}", route.path)
    assert operation["summary"]
    assert next(iter(operation["responses"])) == str(route.status)
    assert ("requestBody" in operation) == (route.body is not None)
    roles = [role for given in operation["security"] for role in given.values()]
    assert roles == ([] if route.is_open else [[scope.value for scope in Scope if scope in route.scopes]] * 2)
    content = operation["responses"][str(route.status)].get("content")
    assert (content is None) == (route.answer is type(None))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_models_have_the_fields_of_mailslurps(name: str) -> None:
    theirs = getattr(SDK, name, None)
    fields = set(SCHEMAS[name].get("properties", ()))
    if theirs is not None and fields:
        assert {field for field in fields if (name, field) not in OURS} <= set(theirs.attribute_map.values())


def test_names_are_those_of_the_wire() -> None:
    send, email = SCHEMAS["SendEmailOptions"]["properties"], SCHEMAS["Email"]["properties"]
    assert {"from", "fromName", "isHTML", "toContacts"} <= set(send)
    assert {"from", "isHTML", "bodyMD5Hash", "headersMap", "isXAmpHtml"} <= set(email)
    assert not [name for schema in SCHEMAS.values() for name in schema.get("properties", ()) if "_" in name]
    assert "`isHTML` wins over the older `html`" in SCHEMAS["SendEmailOptions"]["description"]


def test_requests_take_null_for_absent_and_answers_give_it() -> None:
    assert SCHEMAS["CreateConnectorOptions"]["properties"]["name"]["type"] == ["string", "null"]
    assert "required" not in SCHEMAS["CreateConnectorOptions"]
    assert SCHEMAS["CreateConnectorWithOptions"]["required"] == ["createConnectorOptions"]
    assert SCHEMAS["Email"]["required"] == list(SCHEMAS["Email"]["properties"])
    assert SCHEMAS["Email"]["properties"]["subject"]["type"] == ["string", "null"]
    assert SCHEMAS["Email"]["properties"]["createdAt"] == {"type": "string", "format": "date-time"}


def test_what_is_left_out_of_an_answer_is_not_required() -> None:
    optional = SCHEMAS["OptionalConnectorDto"]
    assert optional["required"] == ["present"]
    assert optional["properties"]["result"] == {"$ref": "#/components/schemas/ConnectorDto"}


def test_passwords_are_written_and_never_read() -> None:
    password = SCHEMAS["CreateConnectorImapConnectionOptions"]["properties"]["imapPassword"]
    assert (password["format"], password["writeOnly"]) == ("password", True)


def test_query_parameters_say_types_limits_and_defaults() -> None:
    given = {parameter["name"]: parameter for parameter in OPERATIONS["getEmailsPaginated"]["parameters"]}
    uuid = {"type": "string", "format": "uuid"}
    assert given["page"]["schema"] == {"type": "integer", "minimum": 0, "maximum": 1_000_000_000, "default": 0}
    assert given["sort"]["schema"] == {"$ref": "#/components/schemas/Sort", "default": "ASC"}
    assert given["since"]["schema"] == {"type": "string", "format": "date-time"}
    assert given["unreadOnly"]["schema"] == {"type": "boolean", "default": False}
    assert given["inboxId"]["schema"] == {"type": "array", "items": uuid}
    assert (given["inboxId"]["style"], given["inboxId"]["explode"], given["inboxId"]["required"]) == (
        "form",
        True,
        False,
    )
    (name,) = OPERATIONS["getConnectorByName"]["parameters"]
    assert (name["required"], name["schema"]) == (True, {"type": "string", "minLength": 1})


def test_what_may_stand_in_headers_is_there_too() -> None:
    places = [(given["name"], given["in"]) for given in OPERATIONS["uploadAttachmentBytes"]["parameters"]]
    assert {("filename", "query"), ("filename", "header"), ("contentType", "header")} <= set(places)
    assert OPERATIONS["uploadAttachmentBytes"]["requestBody"]["content"] == {"application/octet-stream": {}}


def test_what_sends_takes_an_idempotency_key_and_may_refuse_it() -> None:
    for route in SERVED:
        headers = [given for given in OPERATIONS[route.operation]["parameters"] if given["name"] == "Idempotency-Key"]
        assert bool(headers) == route.wants_once
        for header in headers:
            assert (header["in"], header["required"], "409" in header["description"]) == ("header", False, True)
            assert {"400", "409"} <= refusals(route.operation)
            pattern = header["schema"]["pattern"]
            good = ("x", "order 42", '"8e03978e-40d5-43e8-bc93-6894a57f9324"', "x" * 255)
            assert all(re.search(pattern, key) for key in good)
            assert not any(re.search(pattern, key) for key in ("", " x", "x ", "é", "a\nb", "x" * 256))


def test_bodies_are_required_where_a_field_of_theirs_is() -> None:
    assert OPERATIONS["createConnectorWithOptions"]["requestBody"]["required"]
    assert not OPERATIONS["testConnectorImapConnection"]["requestBody"]["required"]


def test_answers_have_their_content_types() -> None:
    def content(operation: str) -> dict[str, Any]:
        return next(iter(OPERATIONS[operation]["responses"].values())).get("content", {})

    preview = {"$ref": "#/components/schemas/EmailPreview"}
    assert content("getEmails") == {"application/json": {"schema": {"type": "array", "items": preview}}}
    assert content("uploadAttachment") == {
        "application/json": {"schema": {"type": "array", "items": {"type": "string"}}}
    }
    assert content("getRawEmailContents") == {"text/plain": {"schema": {"type": "string"}}}
    assert content("getEmailHTML") == {"text/html": {"schema": {"type": "string"}}}
    assert content("downloadAttachment") == {"*/*": {}}
    assert content("deleteEmail") == {}


def test_refusals_are_those_that_can_happen() -> None:
    assert refusals("getOpenApi") == set()
    assert refusals("getConnectors") == {"400", "401", "403", "429", "503"}
    assert refusals("deleteConnector") == {"401", "403", "404", "429", "503"}
    keyed = {"401", "403", "429", "503"}
    assert refusals("createConnectorImapConnection") == keyed | {"400", "404", "409", "413", "415"}
    assert refusals("waitForLatestEmail") == keyed | {"400", "404", "408"}
    assert refusals("getEmails") == keyed | {"400", "404"}
    assert refusals("sendEmailFromConnector") >= {"404", "409", "422", "502", "503", "504"}
    assert refusals("sendEmail") == keyed | {"400", "404", "409", "413", "415"}


async def test_it_is_served_without_a_key(site: Site) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == DOCUMENT


async def test_every_refusal_has_the_documented_shape(site: Site) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/connectors") as answer:
        validator("Error").validate(await answer.json())
    for path in ("/nowhere", "/phone/numbers", "/connectors/x", "/connectors?page=x"):
        validator("Error").validate((await site.ask("GET", path)).json)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_fit_their_models(name: str) -> None:
    validator(name).validate(EXAMPLES[name])


def test_every_body_has_an_example() -> None:
    bodies = [operation["requestBody"]["content"] for operation in OPERATIONS.values() if "requestBody" in operation]
    schemas = [body["application/json"]["schema"] for body in bodies if "application/json" in body]
    models = {schema["$ref"].rpartition("/")[2] for schema in schemas}
    assert models == set(EXAMPLES)
