"""Who is let in, how requests are found their way, and how every refusal looks."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from api_site import KEY, MAX_BODY_BYTES, SDK, Site, database_bytes, open_site
from inboxd import errors, metrics
from inboxd.api.gate import STATUSES, status_of
from inboxd.api.products import OTHER_PRODUCTS
from inboxd.api.routes import ROUTES
from inboxd.model import KeyId
from inboxd.store import keys


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def _failures() -> float:
    return metrics.REGISTRY.get_sample_value("inboxd_api_requests_total", {"status": "5xx"}) or 0.0


async def _status_with(site: Site, headers: dict[str, str], path: str = "/connectors") -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(site.url + path, headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": "wrong"}, {"x-api-key": "inboxd_0_x"}, {"x-api-key": "inboxd__"}, {"x-api-key": "é"}]
)
async def test_missing_and_wrong_keys_are_401_and_say_how_to_make_one(site: Site, headers: dict[str, str]) -> None:
    status, body = await _status_with(site, headers)
    assert (status, body["status"], body["error"], body["path"]) == (401, 401, "Unauthorized", "/connectors")
    assert "inboxctl key create" in body["message"]


async def test_without_any_key_tcp_says_so_and_the_socket_works(tmp_path: Path) -> None:
    async with open_site(tmp_path, key=None) as site:
        refused = await site.ask("GET", "/connectors")
        assert refused.status == 401
        assert refused.json["message"].startswith("no API key exists yet; ")
        assert (await site.ask_control("GET", "/connectors")).status == 200


async def test_the_key_of_the_setting_is_accepted_in_header_and_query(site: Site) -> None:
    assert (await _status_with(site, {"x-api-key": KEY}))[0] == 200
    assert (await _status_with(site, {}, f"/connectors?apiKey={KEY}"))[0] == 200


async def test_a_created_key_works_until_it_is_revoked(site: Site) -> None:
    made = (await site.ask_control("POST", "/control/keys", {"name": "ci"})).json
    assert made["key"].startswith(f"inboxd_{made['id']}_")
    assert (await _status_with(site, {"x-api-key": made["key"]}))[0] == 200
    assert (await _status_with(site, {"x-api-key": made["key"][:-1]}))[0] == 401
    listed = await site.ask_control("GET", "/control/keys")
    assert [(row["id"], row["name"], row["revokedAt"]) for row in listed.json] == [(made["id"], "ci", None)]
    assert listed.json[0]["lastUsedAt"] is not None
    assert made["key"] not in listed.body.decode()
    assert (await site.ask_control("DELETE", f"/control/keys/{made['id']}")).status == 204
    assert (await _status_with(site, {"x-api-key": made["key"]}))[0] == 401
    assert (await site.ask_control("DELETE", "/control/keys/nothing")).status == 404


async def test_only_a_hash_of_a_key_is_stored(site: Site, tmp_path: Path) -> None:
    made = (await site.ask_control("POST", "/control/keys", {"name": "ci"})).json
    secret = made["key"].split("_", 2)[2]
    found = await keys.find(site.services.store, KeyId(made["id"]))
    assert found is not None
    assert secret.encode() not in found[1]
    assert secret.encode() not in database_bytes(tmp_path)


async def test_control_operations_do_not_exist_on_tcp(site: Site) -> None:
    for method, path in (("GET", "/control/status"), ("POST", "/control/keys"), ("GET", "/control/watch")):
        answer = await site.ask(method, path)
        assert (answer.status, answer.json["status"]) == (404, 404)
    assert (await site.ask_control("GET", "/control/status")).status == 200


async def test_unknown_routes_are_404_json(site: Site) -> None:
    for path in ("/", "/nope", "/connectors/events/x/y", "/connectors/a/b/c/d", "/%00", "/%ff/%2f"):
        answer = await site.ask("GET", path)
        assert answer.status == 404, path
        assert set(answer.json) == {"message", "status", "error", "path", "timestamp"}


@pytest.mark.parametrize("path", sorted(OTHER_PRODUCTS))
async def test_operations_of_other_products_are_501_and_say_so(site: Site, path: str) -> None:
    for method, target in (("GET", f"/{path}"), ("POST", f"//{path}/{uuid4()}/x")):
        answer = await site.ask(method, target)
        assert (answer.status, answer.json["error"]) == (501, "Not Implemented")
        assert OTHER_PRODUCTS[path] in answer.json["message"]


async def test_the_sdk_is_told_that_other_products_are_not_here(site: Site) -> None:
    def walk(client: Any) -> list[Callable[[], Any]]:
        return [
            SDK.SmsControllerApi(client).get_all_sms_messages,
            SDK.AliasControllerApi(client).get_aliases,
            SDK.InboxForwarderControllerApi(client).get_inbox_forwarders,
        ]

    for number in range(3):
        with pytest.raises(SDK.ApiException) as refused:
            await site.sdk(lambda client, number=number: walk(client)[number]())
        assert refused.value.status == 501


async def test_operations_that_this_product_may_get_are_404(site: Site) -> None:
    routed = {route.path.split("/")[1] for route in ROUTES}
    own = routed | {"inboxes", "sent", "attachments", "webhooks", "user", "waitForNthEmail", "emptyInbox", "sendEmail"}
    assert not own & set(OTHER_PRODUCTS)
    for path in sorted(own):
        assert (await site.ask("GET", f"/{path}/a/b/c/d/e")).status == 404


async def test_other_products_need_a_key_too(site: Site) -> None:
    assert (await _status_with(site, {}, "/sms"))[0] == 401


async def test_refused_keys_are_logged_once_a_second_for_each_address(site: Site) -> None:
    with capture_logs() as logged:
        for key in ("wrong", "", "inboxd_0_secret"):
            assert (await _status_with(site, {"x-api-key": key}))[0] == 401
    refused = [line for line in logged if line["event"] == "request_refused"]
    assert [(line["log_level"], line["peer"], line["room"]) for line in refused] == [("warning", "127.0.0.1", "api")]
    assert "wrong" not in str(logged)


async def test_an_address_is_logged_again_after_a_second(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inboxd.api.gate._LOG_EVERY_SECONDS", 0.0)
    with capture_logs() as logged:
        for _ in range(2):
            await _status_with(site, {})
    assert [line["event"] for line in logged] == ["request_refused"] * 2


async def test_wrong_methods_are_405_json_and_name_the_right_ones(site: Site) -> None:
    answer = await site.ask("PATCH", "/connectors")
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD, POST, OPTIONS")
    assert "PATCH is not possible here" in answer.json["message"]
    assert (await site.ask_control("HEAD", "/control/watch")).status == 405


async def test_head_and_options_are_answered(site: Site) -> None:
    head = await site.ask("HEAD", "/connectors")
    assert (head.status, head.body) == (200, b"")
    options = await site.ask("OPTIONS", "/connectors")
    assert (options.status, options.headers["Allow"]) == (204, "DELETE, GET, HEAD, POST, OPTIONS")


async def test_double_and_trailing_slashes_do_not_count(site: Site) -> None:
    async with site.tcp.get(f"{site.url}//connectors/") as response:
        assert response.status == 200
    connectors = await site.sdk(lambda client: SDK.ConnectorControllerApi(client).get_connectors(), base_path="/")
    assert connectors.content == []


async def test_fixed_segments_go_before_ids(site: Site) -> None:
    assert "googleSettings" in (await site.ask("GET", "/connectors/provider-settings")).json
    assert "content" in (await site.ask("GET", "/connectors/events")).json
    assert (await site.ask("POST", "/connectors/connections/imap/test", {})).status == 400


@pytest.mark.parametrize(
    ("body", "where"),
    [(b"{", "line 1 column 1"), (b'{"name": }', "line 1 column 10"), (b'{"name": NaN}', "line 1"), (b"\xff", "line 1")],
)
async def test_what_is_not_json_is_400_with_its_position(site: Site, body: bytes, where: str) -> None:
    answer = await site.ask("POST", "/connectors", data=body)
    assert answer.status == 400
    assert where in answer.json["message"]


async def test_deeply_nested_json_is_refused(site: Site) -> None:
    assert (await site.ask("POST", "/connectors", data=b"[" * 100_000)).status == 400


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"5", b"true"])
async def test_json_that_is_no_object_is_400(site: Site, body: bytes) -> None:
    answer = await site.ask("POST", "/connectors", data=body)
    assert (answer.status, answer.json["message"]) == (400, "the body: must be a JSON object")


async def test_an_empty_body_counts_as_an_empty_object_whatever_its_type(site: Site) -> None:
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        answer = await site.ask("POST", "/connectors", data=b"", headers={"Content-Type": content_type})
        assert answer.status == 201


async def test_the_content_type_does_not_matter(site: Site) -> None:
    answer = await site.ask("POST", "/connectors", data=b'{"name": "n"}', headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.json["name"]) == (201, "n")


async def test_large_bodies_are_413_and_name_the_limit(site: Site) -> None:
    answer = await site.ask("POST", "/connectors", data=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status == 413
    assert str(MAX_BODY_BYTES) in answer.json["message"]


async def test_compressed_bodies_are_415(site: Site) -> None:
    packed = gzip.compress(b"{}")
    answer = await site.ask("POST", "/connectors", data=packed, headers={"Content-Encoding": "gzip"})
    assert answer.status == 415
    assert "gzip" in answer.json["message"]


@pytest.mark.parametrize(
    ("target", "header"),
    [
        (b"/\xff", b""),
        (b"/connectors?since=\xff", b""),
        (b"/connectors/by-name?name=\xff\xfe", b""),
        (b"/emails?searchFilter=a%00\xff", b""),
        (b"/connectors/\xff", b""),
        (b"/connectors", b"x-api-key: inboxd_\xff_\xff\r\n"),
        (b"/connectors?apiKey=inboxd_%00_x", b""),
        (b"*", b""),
        (b"http://elsewhere/connectors", b""),
    ],
)
async def test_bytes_that_are_no_text_are_4xx_json_or_harmless(site: Site, target: bytes, header: bytes) -> None:
    before = _failures()
    for key in (b"x-api-key: " + KEY.encode() + b"\r\n", b""):
        host, port = site.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + (header or key) + b"\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.split()[1][:1] in (b"2", b"4"), answer
    assert _failures() == before


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_harms_nobody(site: Site) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    before = _failures()
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /connectors HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\nContent-Length: 9\r\n\r\n{{".encode())
    await writer.drain()
    writer.transport.abort()
    assert (await site.ask("GET", "/connectors")).status == 200
    await site.runner.cleanup()
    assert _failures() == before


async def test_answers_are_neither_cached_nor_guessed_at(site: Site) -> None:
    for answer in (await site.ask("GET", "/connectors"), await site.ask("GET", "/nope")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_a_failure_inside_is_500_without_internals_and_counted(site: Site) -> None:
    before = _failures()
    site.services.roster.status = _break  # type: ignore[method-assign]
    await site.new_connector(name="x")
    answer = await site.ask_control("GET", "/control/status")
    assert answer.status == 500
    assert "secret detail" not in answer.body.decode()
    assert _failures() == before + 1


def _break(_connector: object) -> Any:
    raise ZeroDivisionError("secret detail")


async def test_a_closed_store_is_503(site: Site) -> None:
    await site.services.store.close()
    assert (await site.ask("GET", "/connectors")).status == 503


def test_every_error_has_a_status() -> None:
    assert status_of(errors.Invalid("field", "is wrong")) == HTTPStatus.BAD_REQUEST
    assert status_of(errors.StoreNewer("newer")) == HTTPStatus.SERVICE_UNAVAILABLE
    assert status_of(errors.ConnectionLost("fetch", "lost")) == HTTPStatus.BAD_GATEWAY
    assert status_of(errors.AuthRefused("login", "no")) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert status_of(errors.SendDeferred("data", "later")) == HTTPStatus.SERVICE_UNAVAILABLE
    assert all(issubclass(kind, errors.InboxdError) for kind in STATUSES)


async def test_malformed_ids_are_404_never_500(site: Site) -> None:
    for given in ("x", "1", f"{{{uuid4()}}}", uuid4().hex, f"urn:uuid:{uuid4()}", "%00", "é", "a" * 5_000):
        for path in (
            f"/connectors/{given}",
            f"/connectors/{given}/imap",
            f"/emails/{given}",
            f"/inboxes/{given}/emails",
        ):
            answer = await site.ask("GET", path)
            assert answer.status == 404, path
            assert answer.json["message"]
