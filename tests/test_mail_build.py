"""Building mail: valid, injection-proof, and read back as it was meant."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inboxd.errors import Invalid
from inboxd.mail import addresses, parse
from inboxd.mail.build import Built, build
from inboxd.mails import Draft

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DRAFT = Draft(sender="ada@example.org", to=("bob@example.org",), subject="hello", text="hi\n")
REFUSED_NAMES = (
    "From", "to", "CC", "Bcc", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "content-x", "Sender",
    "Return-Path", "Received", "X Space", "X:Colon", "", "Ünicode", "X" * 100,
)  # fmt: skip
REFUSED_ADDRESSES = (
    "", "x", "@example.org", "x@", "a@b@c", "a b@example.org", "a@exa mple.org", "a@-", "a@b..c",
    "a,b@example.org", ".a@example.org", "a@" + "x" * 64 + ".org", "x" * 250 + "@example.org", "a\x7f@b.c", "a@[::1]",
    "a@b.c <", "<a@b.c", "a@b.c>", "<>", "x <>", "A <a@b.c> B", "A <a@b.c> <d@e.f>", "A, B <a@b.c>", "A: B <a@b.c>",
    '"A <a@b.c>', "A (b) <a@b.c>", "A\tB <a@b.c>", "A\x1b[2J <a@b.c>", "A\u2028B <a@b.c>", "A\x85 <a@b.c>",
    "<a@b.c>, d@e.f", '"A" \\" <a@b.c>', "A <a b@c.d>",
)  # fmt: skip
BREAKS = st.sampled_from(["\r", "\n", "\0", "\r\n", "\r\nBcc: x@example.org", "\n\n"])
ORDERING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # is not kept in the name of a file
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=120)


def made(**changes: object) -> Built:
    return build(dataclasses.replace(DRAFT, **changes), message_id="id@example.org", date=NOON)  # type: ignore[arg-type]


def well_formed(built: Built) -> None:
    assert b"\r" not in built.raw.replace(b"\r\n", b"")
    assert b"\n" not in built.raw.replace(b"\r\n", b"")
    assert max(map(len, built.raw.split(b"\r\n"))) <= 998
    assert built.needs_smtputf8 or built.raw.isascii()


def test_plain_mail_has_its_fields_and_nothing_else() -> None:
    built = made(sender_name="Ada", cc=("cc@example.org",), bcc=("bcc@example.org",), reply_to="re@example.org")
    assert built.recipients == ("bob@example.org", "cc@example.org", "bcc@example.org")
    assert built.message_id == "id@example.org"
    assert built.raw.decode().splitlines() == [
        "From: Ada <ada@example.org>",
        "To: bob@example.org",
        "Cc: cc@example.org",
        "Reply-To: re@example.org",
        "Subject: hello",
        "Date: Mon, 01 Jan 2024 12:00:00 +0000",
        "Message-ID: <id@example.org>",
        'Content-Type: text/plain; charset="utf-8"',
        "Content-Transfer-Encoding: 7bit",
        "MIME-Version: 1.0",
        "",
        "hi",
    ]
    assert b"bcc" not in built.raw.lower()


def test_same_arguments_give_the_same_bytes() -> None:
    rich = {"html": "<p>hi</p>", "attachments": (("ä.txt", "text/plain", b"x"),)}
    assert made(**rich) == made(**rich)
    assert build(DRAFT).message_id != build(DRAFT).message_id
    assert build(DRAFT).message_id.endswith("@example.org")


def test_everything_is_read_back() -> None:
    long_name = "ü" * 60 + ".pdf"
    built = made(
        sender="ada@bücher.example",
        sender_name='Ada "Countess" Löve, x',
        subject="Grüße " * 30,
        text="grüße\n.\nFrom here\n" + "x" * 3000 + "\n",
        html="<p>grüße</p>\n",
        headers={"X-Tag": "t" * 400 + " " + "u" * 400, "In-Reply-To": "<zero@example.org>"},
        attachments=(
            (long_name, "application/pdf", bytes(range(256)) * 10),
            ("mail.eml", "message/rfc822", b"Subject: x\n\ny"),
            ('we"ird\\.txt', "text/plain; charset=utf-8", b"line\rline"),
        ),
    )
    well_formed(built)
    seen, body = parse.digest(built.raw), parse.body(built.raw)
    assert seen.sender is not None
    assert (seen.sender.name, seen.sender.address) == ('Ada "Countess" Löve, x', "ada@xn--bcher-kva.example")
    assert seen.subject == ("Grüße " * 30).strip()
    assert seen.in_reply_to == "zero@example.org"
    assert body.headers["X-Tag"] == ["t" * 400 + " " + "u" * 400]
    assert body.text is not None
    assert body.text.replace("\r\n", "\n") == "grüße\n.\nFrom here\n" + "x" * 3000 + "\n"
    assert body.html is not None
    assert body.html.strip() == "<p>grüße</p>"
    assert [(each.name, each.content_type) for each in seen.attachments] == [
        (long_name, "application/pdf"),
        ("mail.eml", "application/octet-stream"),
        ('we"ird\\.txt'.rpartition("\\")[2], "text/plain"),
    ]
    assert parse.attachment(built.raw, 0) == bytes(range(256)) * 10
    assert parse.attachment(built.raw, 2) == b"line\rline"


@given(WORDS, WORDS, st.text(max_size=400), st.binary(max_size=300), WORDS)
def test_any_draft_survives_the_round_trip(subject: str, name: str, text: str, content: bytes, file_name: str) -> None:
    shown = re.sub(f"[{ORDERING}]", "", file_name)
    assume(not re.search(r"[/\\]", file_name) and shown.strip().strip(". ") == shown != "")
    assume(not re.search("[\ud800-\udfff]", text))
    built = made(
        subject=subject, sender_name=name, text=text, attachments=((file_name, "application/x-test", content),)
    )
    well_formed(built)
    seen = parse.digest(built.raw)
    assert seen.subject == subject.strip()
    assert seen.sender is not None
    assert seen.sender.address == "ada@example.org"
    assert (seen.sender.name or "") == name.strip()
    assert parse.attachment(built.raw, 0) == content
    assert "".join(seen.attachments[0].name.split()) == "".join(shown.split())
    body = parse.body(built.raw).text or ""
    wanted = re.sub(r"\r\n?", "\n", text.replace("\0", ""))
    assert body.replace("\r\n", "\n").rstrip("\n") == wanted.rstrip("\n")


@given(WORDS, BREAKS, WORDS)
def test_line_breaks_in_any_header_value_are_refused(before: str, breaking: str, after: str) -> None:
    value = before + breaking + after
    for field, changes in {
        "subject": {"subject": value},
        "sender_name": {"sender_name": value},
        "sender": {"sender": f"a{value}@example.org"},
        "to": {"to": (f"{value}@example.org",)},
        "cc": {"cc": (f"x@{value}.org",)},
        "bcc": {"bcc": (f"x@example.org{value}",)},
        "reply_to": {"reply_to": f"x@example.org{value}"},
        "headers.X-A": {"headers": {"X-A": value}},
        "headers": {"headers": {f"X-{value}": "a"}},
        "attachments": {"attachments": ((value, "text/plain", b""),)},
    }.items():
        with pytest.raises(Invalid) as refused:
            made(**changes)
        assert refused.value.field == field


@pytest.mark.parametrize("name", REFUSED_NAMES)
def test_structural_and_malformed_header_names_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        made(headers={name: "x"})
    assert refused.value.field == "headers"


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(Invalid) as refused:
        made(to=(address,))
    assert refused.value.field == "to"


def test_a_mail_needs_a_recipient() -> None:
    with pytest.raises(Invalid) as refused:
        made(to=())
    assert refused.value.field == "to"
    assert made(to=(), bcc=("b@example.org",)).recipients == ("b@example.org",)


def test_only_a_foreign_local_part_needs_smtputf8() -> None:
    assert not made(to=("a@bücher.example",)).needs_smtputf8
    built = made(to=("jürgen@bücher.example",))
    assert built.needs_smtputf8
    assert built.recipients == ("jürgen@xn--bcher-kva.example",)
    assert parse.digest(built.raw).to[0].address == "jürgen@xn--bcher-kva.example"


def test_recipients_keep_their_names_in_the_header_and_none_on_the_envelope() -> None:
    built = made(
        to=("Jürgen <ada@example.org>", '"Doe, \\"J\\" John" <doe@bücher.example>', "bare@example.org"),
        cc=('=?utf-8?q?Gr=C3=BC=C3=9Fe?= "x" <cc@example.org>', "<ada@example.org>"),
        bcc=("Hidden <bcc@example.org>",),
        reply_to="Ré <re@example.org>",
    )
    well_formed(built)
    seen = parse.digest(built.raw)
    assert built.recipients == (
        "ada@example.org", "doe@xn--bcher-kva.example", "bare@example.org", "cc@example.org", "bcc@example.org",
    )  # fmt: skip
    assert [(each.name, each.address) for each in seen.to] == [
        ("Jürgen", "ada@example.org"), ('Doe, "J" John', "doe@xn--bcher-kva.example"), (None, "bare@example.org"),
    ]  # fmt: skip
    assert [(each.name, each.address) for each in seen.cc] == [
        ("Grüße x", "cc@example.org"),
        (None, "ada@example.org"),
    ]
    assert parse.body(built.raw).headers["Reply-To"] == ["Ré <re@example.org>"]
    assert b"To: =?utf-8?b?SsO8cmdlbg==?=\r\n <ada@example.org>,\r\n" in built.raw
    assert b"Hidden" not in built.raw


@given(WORDS)
def test_any_name_of_a_recipient_is_read_back(name: str) -> None:
    quoted = re.sub(r'(["\\])', r"\\\1", name)
    assume("=?" not in name)
    built = made(to=(f'"{quoted}" <bob@example.org>',))
    well_formed(built)
    (seen,) = parse.digest(built.raw).to
    assert ((seen.name or ""), seen.address) == (name.strip(), "bob@example.org")


@given(WORDS)
def test_any_name_is_written_so_that_it_is_read_back(name: str) -> None:
    assume("=?" not in name)
    (seen,) = addresses.read([addresses.written(name, "bob@example.org")])
    assert ((seen.name or ""), seen.address) == (name.strip(), "bob@example.org")


@given(st.text(max_size=60))
def test_any_text_is_a_recipient_or_refused(text: str) -> None:
    with suppress(Invalid):
        built = made(to=("bob@example.org",), cc=(f"{text} <x@example.org>",))
        well_formed(built)
        seen = parse.digest(built.raw)
        assert (seen.subject, [each.address for each in seen.to]) == ("hello", ["bob@example.org"])
        assert [each.address for each in seen.cc] == list(built.recipients[1:])


def test_recipients_are_named_once() -> None:
    assert made(to=("a@b.c", "a@b.c"), cc=("a@b.c",)).recipients == ("a@b.c",)


def test_wrong_content_types_are_refused() -> None:
    with pytest.raises(Invalid) as refused:
        made(attachments=(("a", "text/plain\r\nX: y", b""),))
    assert refused.value.field == "attachments"
