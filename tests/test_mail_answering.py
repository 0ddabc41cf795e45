"""Answers and forwards made of received mails, hostile ones among them."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from itertools import pairwise
from typing import Any

import pytest

import corpus
from inboxd.errors import Conflict, Unparsable
from inboxd.mail import answering
from inboxd.mail.build import build
from inboxd.mail.parse import digest
from inboxd.mails import Digest, Draft

BLANK = Draft(sender="me@example.com", to=(), text="yes")
ONWARD = Draft(sender="me@example.com", to=("bob@example.com",))


def mail(*fields: str, body: str = "hello\r\n") -> bytes:
    """A mail with these header fields."""
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + body.encode()


def written(draft: Draft) -> Any:
    """The draft as its receiver reads it."""
    return message_from_bytes(build(draft).raw, policy=default)


def forwarded(raw: bytes) -> Draft:
    return answering.forward(ONWARD, digest(raw), raw)


def multipart(*parts: str) -> bytes:
    joined = "".join(f"--b\r\n{part}\r\n" for part in parts)
    return mail("From: a@example.org", "Content-Type: multipart/mixed; boundary=b", body=f"{joined}--b--\r\n")


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "to"),
    [
        (["From: Ada <ada@example.org>"], ('"Ada" <ada@example.org>',)),
        (["From: a@example.org", "Reply-To: b@example.org"], ("b@example.org",)),
        (["From: a@example.org", "Reply-To: B <b@example.org>, c@example.org"],
         ('"B" <b@example.org>', "c@example.org")),
        (["From: a@example.org", "Reply-To: nobody at all"], ("a@example.org",)),
        (["Sender: s@example.org"], ("s@example.org",)),
        (['From: "A \\"B\\" <x@evil.example>" <a@example.org>'], ('"A \\"B\\" <x@evil.example>" <a@example.org>',)),
        (["From: =?utf-8?q?a=0d=0aBcc=3A_evil=40example.org?= <a@example.org>"],
         ('"a Bcc: evil@example.org" <a@example.org>',)),
    ],
)  # fmt: skip
def test_an_answer_goes_where_the_mail_asks(fields: list[str], to: tuple[str, ...]) -> None:
    draft = answering.reply(BLANK, mail(*fields))
    assert draft.to == to
    assert build(draft).recipients == tuple(address.rpartition("<")[2].rstrip(">") for address in to)


def test_an_answer_goes_to_few_whatever_the_mail_asks() -> None:
    many = ", ".join(f"{number}@example.org" for number in range(500))
    assert len(answering.reply(BLANK, mail(f"Reply-To: {many}")).to) == answering.MAX_ANSWERED


@pytest.mark.parametrize("fields", [[], ["From: "], ["From: undisclosed"], ["From: <>"], ["From: a@[1.2.3.4]"]])
def test_a_mail_from_nobody_cannot_be_answered(fields: list[str]) -> None:
    with pytest.raises(Conflict):
        answering.reply(BLANK, mail(*fields))


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("hello", "Re: hello"),
        ("Re: hello", "Re: hello"),
        ("RE : hello", "RE : hello"),
        ("re[2]: hello", "re[2]: hello"),
        ("Regarding: x", "Re: Regarding: x"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe=0d=0aBcc:_x?=", "Re: Grüße Bcc: x"),
        ("", "Re:"),
    ],
)
def test_a_subject_is_marked_as_an_answer_once(subject: str, answer: str) -> None:
    draft = answering.reply(BLANK, mail("From: a@example.org", f"Subject: {subject}"))
    assert draft.subject == answer
    assert written(draft)["Subject"] == answer


@pytest.mark.parametrize(
    ("fields", "in_reply_to", "references"),
    [
        (["Message-ID: <3@x>", "References: <1@x>\r\n <2@x>"], "3@x", ("1@x", "2@x", "3@x")),
        (["Message-ID: <3@x>", "In-Reply-To: <2@x>"], "3@x", ("2@x", "3@x")),
        (["Message-ID: <3@x>", "In-Reply-To: <1@x> <2@x>"], "3@x", ("3@x",)),
        (["Message-ID: <3@x>", "References: <3@x> <1@x> <1@x>"], "3@x", ("1@x", "3@x")),
        (["References: <1@x>"], None, ("1@x",)),
        (["Message-ID: bare@x"], None, ()),
        (["Message-ID: <a b@x>", "References: garbage <é@x> <=?utf-8?q?x?=>"], None, ()),
        ([f"Message-ID: <{'m' * 900}@x>"], None, ()),
        ([], None, ()),
    ],
)
def test_an_answer_finds_its_place_in_the_conversation(
    fields: list[str], in_reply_to: str | None, references: tuple[str, ...]
) -> None:
    draft = answering.reply(BLANK, mail("From: a@example.org", *fields))
    assert (draft.in_reply_to, draft.references) == (in_reply_to, references)
    read = written(draft)
    assert read["In-Reply-To"] == (f"<{in_reply_to}>" if in_reply_to else None)
    assert (read["References"] or "").split() == [f"<{one}>" for one in references]


def test_of_a_long_conversation_its_beginning_and_its_end_are_kept() -> None:
    ids = [f"{number}.{'x' * 60}@example.org" for number in range(2_000)]
    fields = ["From: a@example.org", "Message-ID: <last@x>", f"References: {' '.join(f'<{one}>' for one in ids)}"]
    found = answering.reply(BLANK, mail(*fields)).references
    assert (found[0], found[-2:]) == (ids[0], (ids[-1], "last@x"))
    assert sum(map(len, found)) <= answering.MAX_REFERENCES
    assert all(ids.index(a) + 1 == ids.index(b) for a, b in pairwise(found[1:-1])), (
        "the middle is left out, in one piece"
    )


# --- forwards --------------------------------------------------------------------------------------------------------


def test_text_stays_text_below_what_it_was() -> None:
    raw = mail("From: Ada <a@example.org>", "To: b@example.org, C <c@example.org>", "Subject: hi",
               "Date: Mon, 04 May 2026 10:30:00 +0200")  # fmt: skip
    draft = forwarded(raw)
    assert (draft.subject, draft.html, draft.attachments) == ("Fwd: hi", None, ())
    lines = (draft.text or "").splitlines()
    assert lines[1:] == [
        "From: Ada <a@example.org>", "Date: Mon, 04 May 2026 08:30:00 +0000", "Subject: hi",
        "To: b@example.org, C <c@example.org>", "", "hello",
    ]  # fmt: skip


@pytest.mark.parametrize("subject", ["Fwd: x", "FW: x", "fwd : x"])
def test_a_subject_is_marked_as_forwarded_once(subject: str) -> None:
    assert forwarded(mail(f"Subject: {subject}")).subject == subject


def test_text_and_html_are_both_passed_on() -> None:
    raw = multipart("Content-Type: text/plain\r\n\r\nplain", "Content-Type: text/html\r\n\r\n<p>rich</p>")
    draft = forwarded(raw)
    assert (draft.text or "").rstrip().endswith("plain")
    assert (draft.html or "").startswith("<div>")
    assert "<p>rich</p>" in (draft.html or "")


@pytest.mark.parametrize("page", ["<body onload='x'>", "<BODY\n>", "<body", "", "<p title='<body>'>"])
def test_what_the_header_says_is_never_markup(page: str) -> None:
    evil = "</div><img src=x onerror=alert(1)>\"'"
    raw = mail(f"Subject: {evil}", f"From: {evil} <a@example.org>", "Content-Type: text/html", body=f"{page}<p>x</p>")
    html = forwarded(raw).html or ""
    assert "<img" not in html
    assert "&lt;img src=x" in html
    block = html[html.index("<div>") : html.index("</div>")]
    assert not set(block) & {'"', "'"}, "the block may stand in an attribute"


def test_attachments_go_along_as_files() -> None:
    raw = multipart(
        "Content-Type: text/plain\r\n\r\nsee",
        "Content-Type: image/png; name=a.png\r\nContent-ID: <a>\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC",
        "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx",
        "Content-Type: x/y!(z\r\nContent-Disposition: attachment; filename=../../b\r\n\r\nb",
    )
    made = digest(raw)
    draft = answering.forward(ONWARD, made, raw)
    assert draft.attachment_ids == tuple(str(one.id) for one in made.attachments)
    files = [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
             for part in written(draft).iter_attachments()]  # fmt: skip
    assert files[0] == ("a.png", "image/png", b"\0\1\2")
    assert files[1][2].startswith(b"Subject: inner")
    assert files[2][:2] == ("b", "application/octet-stream")


def test_a_mail_with_too_many_attachments_is_not_forwarded() -> None:
    part = "Content-Type: image/png\r\n\r\nx"
    assert len(forwarded(multipart(*[part] * answering.MAX_ATTACHMENTS)).attachments) == answering.MAX_ATTACHMENTS
    with pytest.raises(Conflict):
        forwarded(multipart(*[part] * (answering.MAX_ATTACHMENTS + 1)))


def test_a_suspicious_mail_is_forwarded_with_its_attachments() -> None:
    filler = "Content-Type: text/plain\r\n\r\n" + "--no\r\n" * 1_100
    raw = multipart(filler, "Content-Type: application/pdf\r\n\r\nPDF", "Content-Type: image/png\r\n\r\nPNG")
    assert [content.strip() for _, _, content in forwarded(raw).attachments] == [b"PDF", b"PNG"]


def test_a_mail_nobody_can_read_is_not_forwarded() -> None:
    with pytest.raises(Unparsable):
        answering.forward(ONWARD, Digest(defect="broken"), b"x")


@pytest.mark.parametrize("name", sorted(corpus.malformed()))
def test_malformed_mails_are_answered_and_forwarded_or_refused(name: str) -> None:
    raw = corpus.malformed()[name]
    for make in (lambda: answering.reply(BLANK, raw), lambda: forwarded(raw)):
        try:
            draft = make()
        except (Conflict, Unparsable):
            continue
        assert build(draft).recipients
