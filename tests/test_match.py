"""MailSlurp's match options: what fits, and what cannot be used."""

from __future__ import annotations

from uuid import uuid4

import pytest

from inboxd.errors import Invalid
from inboxd.mails import Address, Attachment, Digest
from inboxd.match import Part, Should, Wishes, rule
from inboxd.model import AttachmentId

DIGEST = Digest(
    subject=" Your Straße code: 1234 ",
    sender=Address("Ada L <Ada@Example.com>", "Ada@Example.com", "Ada L"),
    to=(Address("bob@example.com", "bob@example.com"), Address("Carl <carl@example.org>", "carl@example.org", "Carl")),
    cc=(Address("dora@example.com", "dora@example.com"),),
)
HEADERS = {"Subject": ["code"], "X-Ticket": ["A 17", "B 18"], "Received": ["from a by b"]}


def fits(part: Part, should: Should, value: str) -> bool:
    wishes = Wishes((rule("matches.0.value", part, should, value),))
    return wishes.fits_headers(HEADERS) if wishes.need_headers else wishes.fits(DIGEST)


@pytest.mark.parametrize(
    ("part", "should", "value"),
    [
        (Part.SUBJECT, Should.CONTAIN, "STRASSE"),
        (Part.SUBJECT, Should.CONTAIN, "code: 1"),
        (Part.SUBJECT, Should.EQUAL, "Your Straße code: 1234"),
        (Part.SUBJECT, Should.MATCH, r"code: (\d{4})\s*$"),
        (Part.SUBJECT, Should.MATCH, r"(?i)YOUR"),
        (Part.FROM, Should.EQUAL, "Ada@Example.com"),
        (Part.FROM, Should.EQUAL, "Ada L <Ada@Example.com>"),
        (Part.FROM, Should.EQUAL, "Ada L"),
        (Part.FROM, Should.CONTAIN, "@example.COM"),
        (Part.TO, Should.EQUAL, "carl@example.org"),
        (Part.TO, Should.MATCH, "^carl@.*org$"),
        (Part.TO, Should.CONTAIN, "carl <"),
        (Part.CC, Should.CONTAIN, "dora"),
        (Part.HEADERS, Should.CONTAIN, "x-ticket: b"),
        (Part.HEADERS, Should.EQUAL, "B 18"),
        (Part.HEADERS, Should.EQUAL, "X-Ticket: A 17"),
        (Part.HEADERS, Should.MATCH, r"^X-Ticket: A \d+$"),
    ],
)
def test_what_fits(part: Part, should: Should, value: str) -> None:
    assert fits(part, should, value)


@pytest.mark.parametrize(
    ("part", "should", "value"),
    [
        (Part.SUBJECT, Should.CONTAIN, "code:1234"),
        (Part.SUBJECT, Should.EQUAL, "your straße code: 1234"),
        (Part.SUBJECT, Should.EQUAL, "code"),
        (Part.SUBJECT, Should.MATCH, "CODE"),
        (Part.SUBJECT, Should.MATCH, r"\d{5}"),
        (Part.FROM, Should.EQUAL, "ada@example.com"),
        (Part.TO, Should.CONTAIN, "dora"),
        (Part.CC, Should.MATCH, "bob"),
        (Part.BCC, Should.CONTAIN, "@"),
        (Part.BCC, Should.MATCH, ""),
        (Part.HEADERS, Should.EQUAL, "x-ticket: B 18"),
        (Part.HEADERS, Should.CONTAIN, "17 B"),
        (Part.HEADERS, Should.MATCH, r"^Ticket"),
    ],
)
def test_what_does_not_fit(part: Part, should: Should, value: str) -> None:
    assert not fits(part, should, value)


def test_a_mail_has_to_meet_every_rule() -> None:
    code = rule("", Part.SUBJECT, Should.CONTAIN, "code")
    bob, eve = (rule("", Part.TO, Should.CONTAIN, name) for name in ("bob", "eve"))
    ticket, other = (rule("", Part.HEADERS, Should.CONTAIN, name) for name in ("X-Ticket", "X-Other"))
    assert Wishes().fits(Digest())
    assert Wishes((code, bob, other)).fits(DIGEST)
    assert not Wishes((code, eve)).fits(DIGEST)
    assert Wishes((ticket, eve)).fits_headers(HEADERS)
    assert not Wishes((ticket, other)).fits_headers(HEADERS)
    assert not Wishes((ticket,)).fits_headers({})


def test_attachments_are_there_or_not() -> None:
    file = Attachment(AttachmentId(uuid4()), 0, "a.txt", "text/plain", 1)
    for digest, has in ((Digest(), False), (Digest(attachments=(file,)), True)):
        assert Wishes(attachments=(has,)).fits(digest)
        assert not Wishes(attachments=(not has,)).fits(digest)
        assert not Wishes(attachments=(True, False)).fits(digest)


def test_only_what_is_looked_at_is_asked_for() -> None:
    rules = tuple(rule("", part, Should.CONTAIN, "x") for part in (Part.FROM, Part.SUBJECT, Part.HEADERS))
    assert Wishes(rules).looks_at == {"sender", "subject"}
    assert Wishes(rules[:1], (True,)).looks_at == {"sender", "attachments"}
    assert Wishes().looks_at == frozenset()


def test_the_same_rules_are_equal_however_often_they_are_made() -> None:
    one, same, other = (rule("", Part.SUBJECT, Should.MATCH, value) for value in ("a+", "a+", "b"))
    assert hash(Wishes((one,))) == hash(Wishes((same,)))
    assert one == same != other


@pytest.mark.parametrize("value", ["(", "a{100000}{100000}", "*", "[a", "(?R)"])
def test_expressions_that_cannot_be_used_name_their_field(value: str) -> None:
    with pytest.raises(Invalid, match=r"matches\.3\.value"):
        rule("matches.3.value", Part.SUBJECT, Should.MATCH, value)
    rule("matches.3.value", Part.SUBJECT, Should.CONTAIN, value)


def test_a_mail_without_a_subject_has_an_empty_one() -> None:
    assert Wishes((rule("", Part.SUBJECT, Should.MATCH, "^$"),)).fits(Digest())
    assert not Wishes((rule("", Part.FROM, Should.MATCH, "^$"),)).fits(Digest())
