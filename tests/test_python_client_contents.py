"""MailSlurp's Python client through what is in a mail, and the texts that it takes for JSON."""

from __future__ import annotations

import urllib.request
from urllib.parse import quote

import pytest

from servers.accounts import HTML, PNG
from servers.daemon import KEY
from servers.python import SDK, Walk, refused, walks

TEXT = "Hello, there is a PDF inside"


def mail(body: str) -> bytes:
    """A mail of that text alone."""
    return f"From: ada@example.com\nSubject: text\nContent-Type: text/plain; charset=utf-8\n\n{body}\n".encode()


@walks("getRawEmailContents", "getRawEmailJson", "getEmailPreviewURLs")
def test_raw_mail_is_had_in_json_or_before_it_is_decoded(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    raw = walk.daemon.raw(rich)
    assert emails.get_raw_email_contents(rich) is None
    undecoded = emails.get_raw_email_contents(rich, _preload_content=False)
    assert undecoded.data == raw
    assert undecoded.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert emails.get_raw_email_json(rich).content == raw.decode()
    urls = emails.get_email_preview_ur_ls(rich)
    assert urls.origin == walk.url
    for url in (urls.raw_smtp_message_url, urls.plain_html_body_url):
        with urllib.request.urlopen(f"{url}?apiKey={quote(KEY)}", timeout=30) as answer:
            assert b"<h1>Hello</h1>" in answer.read()


@walks("getEmailHTML", "getEmailHTMLJson")
def test_html_comes_with_and_without_its_images(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    assert emails.get_email_html(rich).strip() == HTML
    assert "cid:picture@example" in emails.get_email_html(rich, replace_cid_images=False)
    assert "data:image/png;base64," in emails.get_email_html(rich, replace_cid_images=True)
    whole = emails.get_email_html_json(rich)
    assert (whole.subject, whole.body.strip()) == ("rich", HTML)
    assert "data:image/png;base64," in emails.get_email_html_json(rich, replace_cid_images=True).body
    for read in (emails.get_email_html, emails.get_email_html_json):
        assert "replaceCidImages" in refused(400, read, rich, replace_cid_images="perhaps")


@walks("downloadBody", "downloadBodyBytes", "getEmailHTML")
def test_bodies_are_html_or_text(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    assert emails.download_body(rich).strip() == HTML
    assert emails.download_body_bytes(rich).strip() == HTML
    plain = walk.arrives(mail("Grüße & <b>"))
    assert emails.download_body(plain).strip() == "Grüße & <b>"
    assert emails.download_body_bytes(plain).strip() == "Grüße & <b>"
    assert "Grüße &amp; &lt;b&gt;" in emails.get_email_html(plain)


@walks("downloadBody", "downloadBodyBytes", "getEmailContentPartContent")
@pytest.mark.parametrize(
    ("body", "taken"), [("123", "123"), ("true", "True"), ('"quoted"', "quoted"), ("null", None), ("1e2", "100.0")]
)
def test_text_that_is_json_is_whole_only_before_it_is_decoded(walk: Walk, body: str, taken: str | None) -> None:
    emails, plain = walk.client.emails, walk.arrives(mail(body))
    for read, arguments in (
        (emails.download_body, (plain,)),
        (emails.download_body_bytes, (plain,)),
        (emails.get_email_content_part_content, (plain, "text/plain")),
    ):
        assert read(*arguments) == taken
        assert read(*arguments, _preload_content=False).data.decode().strip() == body


@walks("getEmailLinks", "getEmailTextLines", "getEmailHTMLQuery")
def test_links_and_lines_are_found(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    links = emails.get_email_links(rich)
    assert (links.links, links.body.strip()) == (["https://example.com/confirm?code=123456"], HTML)
    assert emails.get_email_links(rich, selector="h1").links == []
    lines = emails.get_email_text_lines(rich, decode_html_entities=True, line_separator="\n")
    assert (lines.lines, lines.body.strip()) == (["Hello", "confirm"], HTML)
    assert emails.get_email_html_query(rich, "p > a").lines == ["confirm"]
    assert emails.get_email_html_query(rich, "table").lines == []
    plain = walk.arrives(mail("one\n\ntwo http://example.com/ &amp;"))
    assert emails.get_email_text_lines(plain).lines == ["one", "two http://example.com/ &amp;"]
    assert emails.get_email_text_lines(plain, decode_html_entities=True).lines[1].endswith(" &")
    assert emails.get_email_links(plain).links == ["http://example.com/"]
    assert "htmlSelector" in refused(400, emails.get_email_html_query, rich, "[[")
    assert "selector" in refused(400, emails.get_email_links, rich, selector="[[")
    refused(404, emails.get_email_html_query, plain, "p")
    assert "decodeHtmlEntities" in refused(400, emails.get_email_text_lines, rich, decode_html_entities="perhaps")


@walks("getEmailContentMatch")
def test_patterns_match_in_the_body(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    pattern = r"code=(?<code>[0-9]{3})(\d+)"
    found = emails.get_email_content_match(rich, SDK.ContentMatchOptions(pattern=pattern))
    assert (found.pattern, found.matches) == (pattern, ["code=123456", "123", "456"])
    assert emails.get_email_content_match(rich, SDK.ContentMatchOptions(pattern="in none of them")).matches == []
    assert "pattern" in refused(400, emails.get_email_content_match, rich, SDK.ContentMatchOptions(pattern="("))
    assert "pattern" in refused(400, emails.get_email_content_match, rich, {})


@walks("getEmailContentPart", "getEmailContentPartContent")
def test_parts_are_had_by_content_type(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    assert emails.get_email_content_part(rich, "text/plain", strict=True, index=0).content.strip() == TEXT
    assert emails.get_email_content_part_content(rich, "TEXT/HTML; charset=utf-8", strict=False).strip() == HTML
    for read in (emails.get_email_content_part, emails.get_email_content_part_content):
        refused(404, read, rich, "text/calendar")
        refused(404, read, rich, "text/plain", index=1)
        assert "index" in refused(400, read, rich, "text/plain", index=-1)
        assert "strict" in refused(400, read, rich, "text/plain", strict="perhaps")


@walks("downloadBody", "downloadBodyBytes")
def test_bodies_of_bytes_that_are_no_text_can_be_decoded(walk: Walk) -> None:
    plain = walk.arrives(mail("x").replace(b"x", PNG))
    assert "PNG" in walk.client.emails.download_body(plain)
    assert "PNG" in walk.client.emails.download_body_bytes(plain)
