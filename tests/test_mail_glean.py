"""Looking into bodies: lines, links, elements, images, parts; and hostile HTML, which stays within its bounds."""

from __future__ import annotations

import base64
from contextlib import suppress
from email.message import EmailMessage

import pytest

from inboxd.errors import Invalid, NotFound, Unparsable
from inboxd.mail import confined, glean, parse, parts

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
PNG_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("<p>Hel<b>lo</b> <i>you</i></p><div>there</div>", ["Hello you", "there"]),
        ("one<br>two<br/>three<hr>four", ["one", "two", "three", "four"]),
        ("<ul><li>a</li><li>b\n  c</li></ul>", ["a", "b c"]),
        ("<table><tr><th>Total</th><td>5 &euro;</td></tr><tr><td>x</td></tr></table>", ["Total 5 €", "x"]),
        ("<style>p{}</style><title>no</title><script>alert(1)</script><!-- no -->yes", ["yes"]),
        ("<pre>a\n  b</pre>c\nd", ["a", "b", "c d"]),
        ("<p>1 &lt; 2 &amp;&nbsp;3</p>", ["1 < 2 & 3"]),
        ("a < b", ["a < b"]),
        ("<p>open <a href='x", ["open"]),
        ("", []),
        ("<p></p> &nbsp; <br>", []),
    ],
)
def test_lines_of_html_are_what_people_see(source: str, lines: list[str]) -> None:
    assert glean.lines_of_html(source) == lines


def test_character_references_stay_and_lines_end_where_wished() -> None:
    assert glean.lines_of_html("<p>a &amp; b</p>", decode=False) == ["a &amp; b"]
    assert glean.lines_of_html("<p>a;b</p><p>c</p>", separator=";") == ["a", "b c"]
    assert glean.lines_of_text("a\r\n\r\n  b   c \n&lt;") == ["a", "b c", "&lt;"]
    assert glean.lines_of_text("&lt;", decode=True) == ["<"]
    assert glean.lines_of_text("a--b\n--c", separator="--") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("Go to https://example.org/a?b=c&d=1#e.", ["https://example.org/a?b=c&d=1#e"]),
        ("(see http://example.org/x), or <https://y.example/>!", ["http://example.org/x", "https://y.example/"]),
        ("https://example.org/wiki/A_(b)", ["https://example.org/wiki/A_(b)"]),
        ("(https://example.org/wiki/A_(b)).", ["https://example.org/wiki/A_(b)"]),
        ("write to mailto:ada@example.org?subject=x;", ["mailto:ada@example.org?subject=x"]),
        ('"HTTPS://EXAMPLE.ORG/", x', ["HTTPS://EXAMPLE.ORG/"]),
        ("https://example.org/é/日本?", ["https://example.org/é/日本"]),
        ("nohttps://x and https:// and ftp://y", []),
    ],
)
def test_links_of_text_end_before_punctuation(text: str, links: list[str]) -> None:
    assert glean.links_of_text(text) == links


PAGE = """<html><body><a href=" https://a.example/?x=1&amp;y=2 ">a</a><a name="anchor">no</a><a href="">no</a>
<map><area href="/area"></map><div id="main" class="c"><p>one <b>two</b></p><A HREF="mailto:b@example.org">b</A>
<div class="c"><a href="#top">c</a></div></div><script>"<a href='no'>"</script><!-- <a href="no"> --></body></html>"""


@pytest.mark.parametrize(
    ("selector", "links"),
    [
        (None, ["https://a.example/?x=1&y=2", "/area", "mailto:b@example.org", "#top"]),
        ("#main", ["mailto:b@example.org", "#top"]),
        (".c", ["mailto:b@example.org", "#top"]),
        ("#main a:not([href^=http])", ["mailto:b@example.org", "#top"]),
        ("table", []),
    ],
)
def test_links_of_html_are_as_written_and_each_comes_once(selector: str | None, links: list[str]) -> None:
    assert confined.links(PAGE, selector) == links


@pytest.mark.parametrize(
    ("selector", "lines"),
    [
        ("p", ["one two"]),
        ("p b, area", ["two"]),
        ("#main", ["one two", "b", "c"]),
        ("div", ["one two", "b", "c", "c"]),
        ("p:nth-child(1) > b", ["two"]),
        ("td", []),
    ],
)
def test_elements_are_found_by_selector(selector: str, lines: list[str]) -> None:
    assert [line for line in confined.lines(PAGE, selector) if line] == lines


@pytest.mark.parametrize("selector", ["((", "a[", ",", "//a", "a{b}", ":nope", "é("])
def test_unusable_selectors_are_refused_naming_the_field(selector: str) -> None:
    with pytest.raises(Invalid, match="htmlSelector: is not a CSS selector; write one such as"):
        confined.lines(PAGE, selector)
    with pytest.raises(Invalid) as refusal:
        confined.links(PAGE, selector)
    assert refusal.value.field == "selector"


def test_selectors_may_hold_any_letters() -> None:
    assert confined.lines('<p class="größe">XL "\'</p>', '.größe, [title="\U0001f600\\""]') == ["XL \"'"]


HOSTILE_HTML = {
    "a tag nested 100,000 times": "<div>" * 100_000,
    "formatting that is opened again for each paragraph": "".join(f"<font a{n}><p>" for n in range(5_000)),
    "30,000 attributes": "<p " + " ".join(f"a{n}=1" for n in range(30_000)) + ">x",
    "an attribute of 4 MB": '<a href="' + "x" * 4_000_000 + '">x</a>',
    "nothing but NUL": "\0" * 1_000_000,
    "open comments": "<!--" * 250_000,
    "halves of characters in references": "<a href='&#xD800;&#xDFFF;&#0;'>&#xD800;</a>" * 1_000,
}


@pytest.mark.parametrize("source", HOSTILE_HTML.values(), ids=HOSTILE_HTML.keys())
def test_hostile_html_is_read_or_refused(source: str) -> None:
    found: list[str] = []
    with suppress(Unparsable):
        found = confined.links(source, "a, p, div, font")
    assert len(found) <= glean.MAX_FOUND
    "".join(glean.lines_of_html(source)).encode()
    assert glean.with_images(source, {}) == source


def test_formatting_that_explodes_is_refused_by_the_child_alone() -> None:
    with pytest.raises(Unparsable):
        confined.lines(HOSTILE_HTML["formatting that is opened again for each paragraph"], "p")


def test_what_is_found_is_bounded() -> None:
    assert len(confined.links("<a href=x>" * 30_000, None)) == glean.MAX_FOUND
    assert len(confined.lines("<p>x" * 30_000, "p")) == glean.MAX_FOUND
    assert len(glean.links_of_text("https://x " * 30_000)) == glean.MAX_FOUND


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ('<img src="cid:logo@x">', '<img src="DATA">'),
        ("<img src='CID:logo@x'>", "<img src='DATA'>"),
        ("<img src=cid:logo@x>", "<img src=DATA>"),
        ('<img src = " cid:logo@x">', '<img src = " DATA">'),
        ('<img src="cid:logo%40x">', '<img src="DATA">'),
        ('<img src="cid:<logo@x>">', '<img src="DATA">'),
        ('<img src="cid:%3Clogo@x%3E">', '<img src="DATA">'),
        ('<img src="cid:&lt;logo@x&gt;">', '<img src="DATA">'),
        ('<td background="cid:logo@x">', '<td background="DATA">'),
        ('<img srcset="cid:logo@x 2x">', '<img srcset="DATA 2x">'),
        ("<p style=\"background: url('cid:logo@x') no-repeat\">", "<p style=\"background: url('DATA') no-repeat\">"),
        ('<p style="background: url(&quot;cid:logo@x&quot;)">', '<p style="background: url(&quot;DATA&quot;)">'),
        ("<style>p{background:url(cid:logo@x)}</style>", "<style>p{background:url(DATA)}</style>"),
        ('<img src="cid:unknown@x">', '<img src="cid:unknown@x">'),
        ("<p>write cid:logo@x here</p>", "<p>write cid:logo@x here</p>"),
        ('<a href="cid:logo@x">', '<a href="cid:logo@x">'),
    ],
)
def test_images_stand_where_their_content_id_stood(source: str, shown: str) -> None:
    assert glean.with_images(source, {"logo@x": "DATA"}) == shown


def test_images_put_in_often_are_bounded_altogether() -> None:
    made = glean.with_images('<img src="cid:x">' * 40, {"x": "d" * (1 << 20)})
    assert made.count("cid:x") == 40 - glean.MAX_INLINED // (1 << 20)


def _mail() -> bytes:
    message = EmailMessage()
    message["Subject"] = "all"
    message.set_content("plain wörds\n", cte="base64")
    message.add_alternative("<p>first</p>", subtype="html")
    message.add_attachment(PNG, "image", "png", cid="<logo@x>", disposition="inline")
    message.add_attachment(b"<svg/>", "image", "svg+xml", cid="<vector@x>", disposition="inline")
    message.add_attachment(b"no id", "image", "png", disposition="inline")
    message.add_attachment("BEGIN:VCALENDAR", subtype="calendar")
    message.add_attachment("<p>second</p>", subtype="html", filename="x.html")
    return message.as_bytes()


# A mail with so many delimiters is read in the child.
_CONFINED = _mail() + b"\n--x" * (parse.MAX_DELIMITERS + 1)


@pytest.mark.parametrize("raw", [_mail(), _CONFINED], ids=["here", "in the child"])
def test_images_of_a_mail_are_pixels_with_a_content_id(raw: bytes) -> None:
    assert parse.is_suspicious(raw) == (raw is _CONFINED)
    assert parse.images(raw) == {"logo@x": PNG_URI}


def test_images_beyond_8_mib_stay_away() -> None:
    large = parts.Part("image/png", b"x" * (parts.MAX_IMAGES - 10), content_id="<a>")
    fits, exceeds = (parts.Part("image/gif", b"x" * size, content_id=f"<{size}>") for size in (10, 11))
    assert list(parts.images_of([large, exceeds, fits])) == ["a", "10"]


@pytest.mark.parametrize("raw", [_mail(), _CONFINED], ids=["here", "in the child"])
@pytest.mark.parametrize(
    ("wanted", "index", "strict", "content"),
    [
        ("text/plain", 0, True, "plain wörds"),
        ("text/html", 0, True, "<p>first</p>"),
        ("text/html", 1, True, "<p>second</p>"),
        ("TEXT/Html; charset=utf-8", 1, False, "<p>second</p>"),
        ("text", 2, False, "BEGIN:VCALENDAR"),
        ("text/cal", 0, False, "BEGIN:VCALENDAR"),
        ("image/svg+xml", 0, True, "<svg/>"),
    ],
)
def test_parts_are_found_by_type_and_index(raw: bytes, wanted: str, index: int, strict: bool, content: str) -> None:
    assert parse.part(raw, wanted, index, strict=strict).strip() == content


@pytest.mark.parametrize("raw", [_mail(), _CONFINED], ids=["here", "in the child"])
@pytest.mark.parametrize(
    ("wanted", "index", "strict"),
    [
        ("text/html", 2, True),
        ("text", 0, True),
        ("text/html; charset=utf-8", 0, True),
        ("Text/Html", 0, True),
        ("video", 0, False),
        (";", 0, False),
    ],
)
def test_a_part_that_is_not_there_is_not_found_and_what_is_is_named(
    raw: bytes, wanted: str, index: int, strict: bool
) -> None:
    with pytest.raises(NotFound, match=f"none at index {index}; it has parts of: text/plain, text/html, image/png"):
        parse.part(raw, wanted, index, strict=strict)


def test_words_for_searching_are_the_visible_text() -> None:
    html = b"Content-Type: text/html\r\n\r\n<style>p{}</style><p>Your code: <b>12</b>34</p>\r\n <p>caf&eacute;\0</p>"
    assert parse.digest(html).words == "Your code: 1234 café"
    assert parse.digest(_mail()).words == "plain wörds"
    assert parse.digest(b"Subject: x\r\n\r\n").words == ""
    long = parse.digest(b"\r\n" + b"word " * 20_000)
    assert len(long.words) == 7_999
    assert long.words.startswith(long.excerpt or "-")
    assert parse.digest(_CONFINED).words == "plain wörds"
