"""Reading mail: what a digest says, and that both parsers say the same."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus
from inboxd.errors import NotFound
from inboxd.mail import addresses, confined, excerpts, fast, headers, lenient, parse
from inboxd.mail.parts import digest_of
from inboxd.mails import Address, Digest
from inboxd.model import AttachmentId

SYNTAX = (
    "Content-Type: ", "multipart/mixed", "message/rfc822", "text/html", "; boundary=", "b", "\r\n", "\r\n\r\n", "--b",
    "--", "base64", "Content-Transfer-Encoding: ", "=?utf-8?q?", "?=", '"', "<", ">", ",", "(", "\0", "é", "=", ";",
    "From: ", "To: ", "Subject: ", "Date: ", "charset=", "filename*0*=", "''", "%ff", "x@y", " ", "name=", ":",
)  # fmt: skip
NO_ID = AttachmentId(UUID(int=0))


def mail(*fields: str, body: str = "hello\r\n") -> bytes:
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + body.encode()


def mixed(*parts: bytes) -> bytes:
    content = b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts)
    return b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n" + content + b"--cut--\r\n"


def same_ids(made: Digest) -> Digest:
    return dataclasses.replace(
        made, attachments=tuple(dataclasses.replace(each, id=NO_ID) for each in made.attachments)
    )


def test_header_fields_are_decoded() -> None:
    made = parse.digest(
        mail(
            'From: =?utf-8?q?Doe=2C_J=C3=B6rg?= <j@example.org>, "Second, Sender" <s@example.org>',
            "To: team: a@example.org (Al), b@example.org;, <@relay.example:c@example.org>",
            "Cc: undisclosed-recipients:;",
            "Reply-To: Answers <answers@example.org>",
            "Subject: =?utf-8?q?gr=C3?=",
            " =?utf-8?q?=BC=C3=9Fe?= and =?iso-8859-1?b?6Q==?=",
            "Message-ID: <one@example.org>",
            "In-Reply-To: <zero@example.org> <other@example.org>",
            "Date: Mon, 1 Jan 2024 01:00:00 +0100",
        )
    )
    assert made.sender == Address("Doe, Jörg <j@example.org>", "j@example.org", "Doe, Jörg")
    assert [(each.address, each.name) for each in made.to] == [
        ("a@example.org", "Al"),
        ("b@example.org", None),
        ("c@example.org", None),
    ]
    assert made.cc == ()
    assert made.reply_to == "answers@example.org"
    assert made.subject == "grüße and é"
    assert made.header_message_id == "one@example.org"
    assert made.in_reply_to == "zero@example.org"
    assert made.date == datetime(2024, 1, 1, tzinfo=UTC)
    assert made.excerpt == "hello"
    assert made.defect is None


@pytest.mark.parametrize(
    "stated",
    [
        "yesterday",
        "Mon, 1 Jan 0300 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 99 Jan 2024 99:99:99 +0000",
        "Thu, 1 Jan 1970 00:00:00 +0000",
        "1 Jan 2024 00:00:00 +99999999999999",
        "",
    ],
)
def test_absurd_dates_are_none(stated: str) -> None:
    assert parse.digest(mail(f"Date: {stated}")).date is None


def test_attachments_are_described_and_readable() -> None:
    enclosed = b"Subject: inner\r\nContent-Type: text/html\r\n\r\n<p>x</p>"
    raw = mixed(
        b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nh=E9llo",
        b"Content-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Disposition: inline\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nAAEC",
        b"Content-Type: text/plain\r\nContent-Disposition: attachment; filename*0*=utf-8''%e2%82%ac;\r\n"
        b' filename*1=" notes.txt"\r\n\r\nnotes',
        b"Content-Type: message/rfc822\r\n\r\n" + enclosed,
        b'Content-Type: application/pdf; name="=?utf-8?b?w7wucGRm?="\r\n\r\npdf',
        b"Content-Type: text/calendar; name=invite.ics\r\n\r\nBEGIN:VCALENDAR",
    )
    made = parse.digest(raw)
    assert made.part_types == (
        "text/plain",
        "image/png",
        "text/plain",
        "message/rfc822",
        "application/pdf",
        "text/calendar",
    )
    assert [
        (each.position, each.name, each.content_type, each.size_bytes, each.content_id) for each in made.attachments
    ] == [
        (0, "attachment-1.png", "image/png", 3, "logo@x"),
        (1, "€ notes.txt", "text/plain", 5, None),
        (2, "attachment-3.eml", "message/rfc822", len(enclosed), None),
        (3, "ü.pdf", "application/pdf", 3, None),
        (4, "invite.ics", "text/calendar", 15, None),
    ]
    assert [parse.attachment(raw, position) for position in range(5)] == [
        b"\0\1\2",
        b"notes",
        enclosed,
        b"pdf",
        b"BEGIN:VCALENDAR",
    ]
    assert parse.body(raw).text == "héllo"
    assert parse.body(raw).charset == "iso-8859-1"
    with pytest.raises(NotFound):
        parse.attachment(raw, 5)
    with pytest.raises(NotFound):
        parse.attachment(raw, -1)


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        (r"C:\\Users\\x\\a.doc", "a.doc"),
        ("..", "attachment-1.pdf"),
        ("/", "attachment-1.pdf"),
        ("a=?utf-8?q?=00=0D=0A?=b.pdf", "a b.pdf"),
        ("x" * 400 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_file_names_are_never_paths(stated: str, shown: str) -> None:
    made = parse.digest(mail("Content-Type: application/pdf", f'Content-Disposition: attachment; filename="{stated}"'))
    assert made.attachments[0].name == shown


def test_bodies_of_text_and_html_are_both_given() -> None:
    message = EmailMessage()
    message["Subject"] = "both"
    message.set_content("plain wörds\n")
    message.add_alternative("<p>rich <b>wör</b>ds</p>", subtype="html")
    body = parse.body(message.as_bytes())
    assert body.text == "plain wörds\n" or body.text == "plain wörds\r\n"
    assert body.html is not None
    assert body.html.startswith("<p>rich")
    assert body.headers["Subject"] == ["both"]
    assert parse.digest(message.as_bytes()).excerpt == "plain wörds"


def test_header_map_keeps_every_value_under_one_name() -> None:
    body = parse.body(mail("Received: one", "received: two", "Subject: =?utf-8?q?=C3=BC?="))
    assert body.headers == {"Received": ["one", "two"], "Subject": ["ü"]}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<p>Hel<b>lo</b> <i>you</i></p><div>there</div>", "Hello you there"),
        ("<style>p{color:red}</style><script>alert('x')</script><!-- no -->yes &amp; &eacute;", "yes & é"),
        ("<title>no</title><p title='a'>yes", "yes"),
        ("<style>never closed", None),
        ("a < b", "a < b"),
        ("", None),
        ("<p>" + "word " * 100, ("word " * 50).strip()),
    ],
)
def test_excerpt_of_html_is_what_people_see(source: str, words: str | None) -> None:
    assert excerpts.from_html(source) == words
    assert parse.digest(mail("Content-Type: text/html", body=source)).excerpt == words


def test_excerpt_skips_leading_space_and_ends_at_250() -> None:
    assert excerpts.from_text("\r\n " * 3000 + "late") == "late"
    assert len(excerpts.from_text("x y" * 1000) or "") == 250


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("gb2312", "中文".encode("gb18030"), "中文"),
        ("windows-1251", "Привет".encode("cp1251"), "Привет"),
        ("iso-8859-1", b"\x93quoted\x94", "“quoted”"),
        ("us-ascii", "ü".encode(), "ü"),
        ("no-such-charset", b"\xfc", "ü"),
        ("punycode", b"\xfc", "ü"),
        ("base64", b"\xfc", "ü"),
        ("utf-7", b"+2AA-x", "\ufffdx"),
        ("iso-2022-jp", "日本".encode("iso2022_jp"), "日本"),
    ],
)
def test_charsets_mean_what_senders_mean(charset: str, octets: bytes, text: str) -> None:
    raw = f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + octets
    assert parse.body(raw).text == text


def test_address_reader_makes_the_best_of_garbage() -> None:
    read = addresses.read(['"open <a@example.org>', "x@y (never closed", "<z@example.org", ",,;;,", "no address"])
    assert [each.address for each in read] == ['"open <a@example.org>', "x@y", "z@example.org", "no address"]
    assert [each.address for each in addresses.read(["Old Style old@example.org"])] == ["old@example.org"]
    assert len(addresses.read([", ".join(["a@b"] * 3000)])) == 1000


def test_text_is_fit_for_any_database() -> None:
    raw = b"Subject: a\0b =?utf-7?q?+2AA-?=\r\nFrom: a\0@b\r\nTo: \xff\xfe <x@y>\r\n\r\nte\0xt \xed\xa0\x80"
    made, body = parse.digest(raw), parse.body(raw)
    for text in (made.subject, made.excerpt, body.text, *(value for field in body.headers.values() for value in field)):
        assert text is not None
        assert "\0" not in text
        text.encode()
    assert made.to[0].name == "ÿþ"


def test_parsers_agree_on_well_formed_mail() -> None:
    malformed = set(corpus.malformed())
    compared = 0
    for number, raw in enumerate(corpus.messages(400, seed=7, small=True)):
        try:
            leaves = fast.read(raw)
        except fast.ParseError:
            continue  # malformed ones: the lenient parser's alone
        others = lenient.read(raw)
        if b"\r\n--cut%d--" % number in raw or b"boundary" not in raw:
            assert leaves == others, raw[:600]
            compared += 1
    assert compared > 300, malformed


def test_parsers_agree_on_enclosed_and_opaque_parts() -> None:
    raw = mixed(
        b"Content-Type: message/delivery-status\r\n\r\nStatus: 5.1.1\r\n\r\nFinal-Recipient: x",
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\n--in--",
        b"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: x\r\n\r\ny\r\n--d--",
    )
    assert fast.read(raw) == lenient.read(raw)
    assert [part.content_type for part in fast.read(raw)] == [
        "message/delivery-status",
        "message/rfc822",
        "message/rfc822",
    ]


def test_a_boundary_that_begins_with_another_is_read_right() -> None:
    parts = b"--cut-1\r\n\r\nfirst\r\n--cut-1\r\n\r\nsecond\r\n--cut-1--"
    inner = b"Content-Type: multipart/alternative; boundary=cut-1\r\n\r\n" + parts
    raw = mixed(inner, b"Content-Type: image/gif\r\n\r\nGIF")
    assert parse.digest(raw).part_types == ("text/plain", "text/plain", "image/gif")
    assert parse.attachment(raw, 0) == b"GIF"


def test_child_gives_what_the_parsers_here_give() -> None:
    for raw in (*list(corpus.messages(3, seed=3, small=True)), mixed(b"Content-Type: image/gif\r\n\r\nGIF")):
        assert same_ids(confined.digest(raw)) == same_ids(parse.digest(raw))
        assert confined.body(raw) == parse.body(raw)
    assert confined.attachment(mixed(b"Content-Type: image/gif\r\n\r\nGIF"), 0) == b"GIF"
    with pytest.raises(NotFound):
        confined.attachment(b"Subject: none\r\n\r\n", 0)


def test_bytearrays_are_read_alike() -> None:
    raw = mixed(b"Content-Type: image/gif\r\n\r\nGIF")
    assert same_ids(parse.digest(bytearray(raw))) == same_ids(parse.digest(raw))


@given(st.binary(max_size=400))
def test_no_octets_defeat_the_digest(octets: bytes) -> None:
    for raw in (octets, b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + octets):
        made = parse.digest(raw)
        parse.body(raw)
        for attached in made.attachments:
            assert len(parse.attachment(raw, attached.position)) == attached.size_bytes


@given(st.lists(st.sampled_from(SYNTAX), max_size=60))
def test_no_assembly_of_mail_syntax_defeats_the_digest(pieces: list[str]) -> None:
    raw = "".join(pieces).encode()
    made = parse.digest(raw)
    assert made.defect is None
    for attached in made.attachments:
        assert len(parse.attachment(raw, attached.position)) == attached.size_bytes
    assert len(digest_of(raw, lenient.read(raw)).part_types) >= 1


@given(st.text(max_size=300))
def test_header_readers_never_fail(text: str) -> None:
    headers.decode_words(text)
    headers.parameters(text)
    headers.date(text)
    headers.message_id(text)
    addresses.read([text])
