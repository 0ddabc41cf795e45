"""Looking into mails over the API, and as the SDK does: HTML, bodies, links, lines, elements, matches and parts."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, open_site

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
HTML = (
    '<html><body><p>Hello <b>Ada</b> &amp; all</p><p>Your code is <span class="code">123456</span></p>'
    '<a href="https://example.org/?a=1&amp;b=2">confirm</a><div id="foot"><a href="mailto:x@example.org">x</a></div>'
    '<img src="cid:logo@x"></body></html>'
)
TEXT = b"Subject: text\r\n\r\nSee https://example.org/x.\r\n\r\n<script> 1 &amp; 2\r\n"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def _rich() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Both kinds"
    message.set_content("Hello Ada\n")
    message.add_alternative(HTML, subtype="html", cte="base64")
    message.add_attachment(PNG, "image", "png", cid="<logo@x>", disposition="inline")
    return message.as_bytes()


async def _deliver(site: Site, raw: bytes) -> str:
    (message,) = await site.deliver(await site.new_connector(), raw)
    return str(message.id)


async def _ask(site: Site, raw: bytes, what: str, **query: str) -> Any:
    answer = await site.ask("GET", f"/emails/{await _deliver(site, raw)}/{what}", params=query)
    assert answer.status == 200, answer.body
    return answer.json


async def test_html_is_shown_as_it_is_and_harmless(site: Site) -> None:
    answer = await site.ask("GET", f"/emails/{await _deliver(site, _rich())}/html")
    assert answer.body.decode().strip() == HTML
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


_LINKED = b"<link rel=preconnect href=https://out.example><iframe src=https://out.example></iframe><p>Hi</p>"


@pytest.mark.parametrize(
    ("headers", "armed"),
    [
        ({}, True),
        ({"Accept": "text/html;charset=utf-8"}, True),
        ({"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, False),
        ({"Sec-Fetch-Dest": "empty", "Accept": "*/*"}, True),
        ({"Sec-Fetch-Dest": "iframe"}, False),
    ],
)
async def test_html_goes_out_as_it_is_but_to_a_browser_that_shows_it(
    site: Site, headers: dict[str, str], armed: bool
) -> None:
    mail = await _deliver(site, b"Content-Type: text/html\r\n\r\n" + _LINKED)
    body = (await site.ask("GET", f"/emails/{mail}/html", headers=headers)).body
    assert (b"<link" in body, b"<iframe" in body) == (armed, armed)
    assert b"<p>Hi</p>" in body
    assert not armed or body.strip() == _LINKED


async def test_html_of_a_text_mail_is_its_text_and_nothing_else(site: Site) -> None:
    answer = await site.ask("GET", f"/emails/{await _deliver(site, TEXT)}/html")
    assert b"&lt;script&gt; 1 &amp;amp; 2" in answer.body
    assert b"<script" not in answer.body


async def test_html_holds_the_mails_images_if_asked_for(site: Site) -> None:
    email_id = await _deliver(site, _rich())
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    answer = await site.ask("GET", f"/emails/{email_id}/html?replaceCidImages=true")
    assert answer.body.decode().strip() == HTML.replace("cid:logo@x", uri)
    in_json = (await site.ask("GET", f"/emails/{email_id}/html/json?replaceCidImages=true")).json
    assert in_json["subject"] == "Both kinds"
    assert uri in in_json["body"]


async def test_looking_does_not_mark_as_read(site: Site) -> None:
    made = await site.new_connector()
    (message,) = await site.deliver(made, _rich())
    paths = "html html/json body body-bytes links textLines htmlQuery?htmlSelector=p contentPart?contentType=text/plain"
    for path in paths.split():
        assert (await site.ask("GET", f"/emails/{message.id}/{path}")).status == 200
    await site.ask("POST", f"/emails/{message.id}/contentMatch", {"pattern": "x"})
    assert (await site.ask("GET", f"/emails?inboxId={made['inboxId']}")).json["content"][0]["read"] is False


async def test_body_is_html_else_text(site: Site) -> None:
    rich, text = await _deliver(site, _rich()), await _deliver(site, MAIL)
    body = await site.ask("GET", f"/emails/{rich}/body")
    assert (body.body.decode().strip(), body.headers["Content-Type"]) == (HTML, "text/plain; charset=utf-8")
    octets = await site.ask("GET", f"/emails/{text}/body-bytes")
    assert octets.body == "Good morning é\r\n".encode()
    assert octets.headers["Content-Type"] == "application/octet-stream"


async def test_links_are_found_in_html_and_text(site: Site) -> None:
    both = ["https://example.org/?a=1&b=2", "mailto:x@example.org"]
    found = await _ask(site, _rich(), "links")
    assert found["links"] == both
    assert found["body"].strip() == HTML
    assert (await _ask(site, _rich(), "links", selector="#foot"))["links"] == both[1:]
    assert (await _ask(site, TEXT, "links"))["links"] == ["https://example.org/x"]
    assert await _ask(site, b"Subject: nothing\r\n\r\n", "links") == {"links": [], "body": ""}


async def test_text_lines_are_those_people_see(site: Site) -> None:
    lines = ["Hello Ada & all", "Your code is 123456", "confirm", "x"]
    assert (await _ask(site, _rich(), "textLines"))["lines"] == lines
    raw_lines = (await _ask(site, _rich(), "textLines", decodeHtmlEntities="false"))["lines"]
    assert raw_lines[0] == "Hello Ada &amp; all"
    assert (await _ask(site, _rich(), "textLines", lineSeparator="code is"))["lines"][1] == "123456 confirm x"
    assert (await _ask(site, TEXT, "textLines"))["lines"] == ["See https://example.org/x.", "<script> 1 &amp; 2"]
    decoded = await _ask(site, TEXT, "textLines", decodeHtmlEntities="true")
    assert decoded["lines"][1] == "<script> 1 & 2"


async def test_elements_are_found_by_selector(site: Site) -> None:
    found = await _ask(site, _rich(), "htmlQuery", htmlSelector="p")
    assert found["lines"] == ["Hello Ada & all", "Your code is 123456"]
    assert found["body"].strip() == HTML
    assert (await _ask(site, _rich(), "htmlQuery", htmlSelector="td.none"))["lines"] == []


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (r'code is <span class="code">(?<code>\d{6})</span>', ['code is <span class="code">123456</span>', "123456"]),
        (r"(Hello)|(Goodbye)", ["Hello", "Hello", ""]),
        (r"\Qno match\E", []),
    ],
)
async def test_content_is_matched(site: Site, pattern: str, matches: list[str]) -> None:
    path = f"/emails/{await _deliver(site, _rich())}/contentMatch"
    assert (await site.ask("POST", path, {"pattern": pattern})).json == {"pattern": pattern, "matches": matches}


async def test_parts_are_given_by_type_and_index(site: Site) -> None:
    email_id = await _deliver(site, _rich())
    part = f"/emails/{email_id}/contentPart"
    assert (await site.ask("GET", f"{part}?contentType=text/html&strict=true")).json["content"].strip() == HTML
    raw = await site.ask("GET", f"{part}/raw?contentType=text&index=0")
    assert raw.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (
        await site.ask("GET", f"{part}/raw", params={"contentType": "Text/Plain; x=y"})
    ).body.strip() == b"Hello Ada"


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("links?selector=((", 400, "selector: is not a CSS selector"),
        ("htmlQuery", 400, "htmlSelector: is required"),
        ("htmlQuery?htmlSelector=a[", 400, "htmlSelector: is not a CSS selector"),
        (f"htmlQuery?htmlSelector={'x' * 1_001}", 400, "htmlSelector: must not be longer than 1000 characters"),
        ("contentPart", 400, "contentType: is required"),
        ("contentPart?contentType=text/html&index=-1", 400, "index: must not be less than 0"),
        ("contentPart?contentType=text/html&strict=maybe", 400, "strict: must be true or false"),
        ("contentPart?contentType=text/html&index=1", 404, "the mail has 1 such parts, none at index 1"),
        ("contentPart/raw?contentType=video/mp4", 404, "it has parts of: text/plain, text/html, image/png"),
        ("textLines?decodeHtmlEntities=x", 400, "decodeHtmlEntities: must be true or false"),
        ("html?replaceCidImages=x", 400, "replaceCidImages: must be true or false"),
    ],
)
async def test_mistakes_are_named(site: Site, what: str, status: int, words: str) -> None:
    answer = await site.ask("GET", f"/emails/{await _deliver(site, _rich())}/{what}")
    assert answer.status == status
    assert words in answer.json["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "pattern: is required"),
        ({"pattern": 5}, "pattern: must be text"),
        ({"pattern": "("}, "pattern: is not a regular expression: missing )"),
        ({"pattern": "x" * 1_001}, "pattern: must not be longer than 1000 characters"),
        ({"pattern": r"(a{9999}){9999}"}, "pattern: repeats too much"),
        ({"pattern": r"(\w+\s?)+$"}, "pattern: takes more than 2 s on this text"),
    ],
)
async def test_unusable_patterns_are_named(site: Site, body: dict[str, object], words: str) -> None:
    raw = b"Subject: slow\r\n\r\n" + b"a" * 5_000 + b"!\r\n"
    answer = await site.ask("POST", f"/emails/{await _deliver(site, raw)}/contentMatch", body)
    assert answer.status == 400
    assert words in answer.json["message"]


@pytest.mark.parametrize("what", ["htmlQuery?htmlSelector=p", "links?selector=p"])
async def test_a_selector_needs_html(site: Site, what: str) -> None:
    answer = await site.ask("GET", f"/emails/{await _deliver(site, TEXT)}/{what}")
    assert (answer.status, answer.json["message"][:20]) == (404, "the mail has no HTML")


async def test_html_that_explodes_is_refused(site: Site) -> None:
    raw = b"Content-Type: text/html\r\n\r\n" + "".join(f"<font a{n}><p>" for n in range(5_000)).encode()
    answer = await site.ask("GET", f"/emails/{await _deliver(site, raw)}/links")
    assert (answer.status, answer.json["status"]) == (422, 422)


_UNKNOWN = "html html/json body body-bytes links textLines htmlQuery?htmlSelector=p contentPart?contentType=text"


@pytest.mark.parametrize("what", [*_UNKNOWN.split(), "contentPart/raw?contentType=text"])
async def test_unknown_mails_are_404(site: Site, what: str) -> None:
    for identity in (uuid4(), "no-uuid"):
        answer = await site.ask("GET", f"/emails/{identity}/{what}")
        assert answer.status == 404
        assert answer.json["message"]
    assert (await site.ask("POST", f"/emails/{uuid4()}/contentMatch", {"pattern": "x"})).status == 404


async def test_the_sdk_reads_every_answer(site: Site) -> None:
    email_id = await _deliver(site, _rich())

    def look(client: Any) -> list[Any]:
        api = SDK.EmailControllerApi(client)
        return [
            api.get_email_html(email_id, replace_cid_images=True),
            api.get_email_html_json(email_id).subject,
            api.download_body(email_id).strip(),
            api.download_body_bytes(email_id).strip(),
            api.get_email_links(email_id, selector="#foot").links,
            api.get_email_text_lines(email_id, decode_html_entities=True, line_separator="\n").lines[0],
            api.get_email_html_query(email_id, "span.code").lines,
            api.get_email_content_match(email_id, SDK.ContentMatchOptions(pattern=r"(\d)\d+")).matches,
            api.get_email_content_part(email_id, "text/plain", strict=True, index=0).content.strip(),
            api.get_email_content_part_content(email_id, "text/plain").strip(),
        ]

    html, *rest = await site.sdk(look)
    assert "data:image/png;base64," in html
    assert rest == [
        "Both kinds", HTML, HTML, ["mailto:x@example.org"], "Hello Ada & all", ["123456"], ["123456", "1"],
        "Hello Ada", "Hello Ada",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "more", "status", "words"),
    [
        ("get_email_html", {"email_id": str(uuid4())}, 404, "message"),
        ("get_email_html_json", {"email_id": str(uuid4())}, 404, "message"),
        ("download_body", {"email_id": str(uuid4())}, 404, "message"),
        ("download_body_bytes", {"email_id": str(uuid4())}, 404, "message"),
        ("get_email_text_lines", {"email_id": "x"}, 404, "UUIDs"),
        ("get_email_links", {"selector": "(("}, 400, "selector: "),
        ("get_email_html_query", {"html_selector": "(("}, 400, "htmlSelector: "),
        ("get_email_content_match", {"content_match_options": {"pattern": "("}}, 400, "pattern: "),
        ("get_email_content_part", {"content_type": "text/plain", "index": 7}, 404, "index 7"),
        ("get_email_content_part_content", {"content_type": "a/b"}, 404, "such parts"),
    ],
)
async def test_the_sdk_raises_with_our_words(
    site: Site, call: str, more: dict[str, Any], status: int, words: str
) -> None:
    given = {"email_id": await _deliver(site, _rich())} | more
    with pytest.raises(SDK.ApiException) as refusal:
        await site.sdk(lambda client: getattr(SDK.EmailControllerApi(client), call)(**given))
    assert refusal.value.status == status
    assert words in refusal.value.body
