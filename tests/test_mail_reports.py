"""What delivery notices say, as mail servers write them; and that no mail makes reading them fail or slow."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_notices import DOVECOT, EXCHANGE, GLOBAL, GMAIL, POSTFIX
from inboxd.mail import confined, parse, reports
from inboxd.mails import Bounce

ID = "7f3a@example.com"


def read(mail: bytes) -> tuple[Bounce, ...]:
    """What is read of a mail on the wire, by the parser here and by the one in the child alike."""
    wire = mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    made = parse.digest(wire)
    assert made.defect is None
    assert parse.digest(mail).bounces == made.bounces, "bare line feeds change nothing"
    return made.bounces


def notice(
    *blocks: str, returned: str = f"Message-ID: <{ID}>\n", kind: str = "multipart/report; report-type=delivery-status"
) -> bytes:
    """A notice of these groups of fields."""
    told = "\n\n".join(("Reporting-MTA: dns; mx.example.net", *blocks))
    parts = f"--b\nContent-Type: message/delivery-status\n\n{told}\n\n"
    parts += f"--b\nContent-Type: text/rfc822-headers\n\n{returned}\n--b--\n"
    return f"From: a@example.net\nContent-Type: {kind}; boundary=b\n\n{parts}".encode("utf-8", "surrogateescape")


def only(*lines: str) -> Bounce:
    """What a notice about one recipient says."""
    (bounce,) = read(notice("\n".join(lines)))
    return bounce


# --- as servers write them --------------------------------------------------------------------------------------------


def test_postfix() -> None:
    assert read(POSTFIX) == (
        Bounce(
            ID, "bob@example.org", "failed", "5.1.1",
            "550 5.1.1 <bob@example.org>: Recipient address rejected: User unknown",
        ),
        Bounce(
            ID, "cy@example.org", "failed", "4.4.1",
            "connect to mail.example.org[192.0.2.7]:25: Connection timed out",
        ),
    )  # fmt: skip


def test_exchange_online() -> None:
    words = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient bob@example.org not found by SMTP address lookup"
    assert read(EXCHANGE) == (Bounce(ID, "bob@example.org", "failed", "5.1.10", words),)


def test_gmail() -> None:
    (bounce,) = read(GMAIL)
    assert (bounce.message_id, bounce.recipient, bounce.action, bounce.status) == (
        ID, "bob@example.org", "delayed", "4.4.1",
    )  # fmt: skip
    assert bounce.words.startswith("The recipient server did not accept")
    assert bounce.words.endswith("[mail.example.org. 192.0.2.7: timed out]")


def test_dovecot() -> None:
    assert read(DOVECOT) == (Bounce(ID, "bob@example.org", "failed", "5.2.2", ""),)


def test_internationalised() -> None:
    assert read(GLOBAL) == (
        Bounce(ID, "jürgen@bücher.example", "failed", "5.1.1", "550 5.1.1 Empfänger unbekannt"),
        Bounce(ID, "📬@example.org", "delivered", "2.0.0", ""),
    )


@pytest.mark.parametrize("sample", [POSTFIX, EXCHANGE, GMAIL, DOVECOT, GLOBAL])
def test_the_child_reads_the_same(sample: bytes) -> None:
    assert confined.digest(sample).bounces == parse.digest(sample).bounces != ()


def test_a_report_in_base64_is_read() -> None:
    told = b"Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; bob@example.org\nAction: failed\nStatus: 5.0.0\n"
    encoded = b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(told) + b"\n--b\nContent-Type: text/rfc822"
    mail = notice().partition(b"message/delivery-status\n")
    rest = mail[2].partition(b"--b\nContent-Type: text/rfc822")[2]
    assert read(mail[0] + mail[1] + encoded + rest) == (Bounce(ID, "bob@example.org", "failed", "5.0.0", ""),)


# --- what is none -----------------------------------------------------------------------------------------------------

RECIPIENT = "Final-Recipient: rfc822; bob@example.org\nAction: failed\nStatus: 5.1.1"


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/mixed", "multipart/report; report-type=disposition-notification", "multipart/alternative",
        "multipart/report; report-type=feedback-report",
    ],
)  # fmt: skip
def test_other_mails_say_nothing(kind: str) -> None:
    assert read(notice(RECIPIENT, kind=kind)) == ()


def test_a_report_without_its_type_is_one() -> None:
    assert read(notice(RECIPIENT, kind="Multipart/Report"))[0].recipient == "bob@example.org"


def test_a_forwarded_notice_is_none() -> None:
    enclosed = b"Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: message/rfc822\n\n" + POSTFIX
    assert read(enclosed + b"--m--\n") == ()
    inside = b"Content-Type: multipart/mixed; boundary=m\n\n--m\n" + notice(RECIPIENT).partition(b"\n")[2]
    assert read(inside + b"--m--\n") == ()


def test_a_notice_is_about_a_mail() -> None:
    assert read(notice(RECIPIENT, returned="Subject: no id\n")) == ()
    assert read(b"In-Reply-To: <7f3a@example.com>\n" + notice(RECIPIENT, returned="")) != ()
    aside = "X-Original-Message-ID: <7f3a@example.com>\n\n" + RECIPIENT
    assert read(notice().replace(b"net\n\n--b\nContent-Type: text", f"net\n{aside}\n\n--b\nContent-Type: x".encode()))


# --- its fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "final", "recipient"),
    [
        ("rfc822;bob+2Btag@example.org", "rfc822;x@example.org", "bob+tag@example.org"),
        ("rfc822;bob+2B42@example.org", "rfc822;x@example.org", "bob+42@example.org"),
        ("rfc822;bob+42@example.org", "rfc822;x@example.org", "bob+42@example.org"),
        ("rfc822;bob+tag@example.org", "rfc822;x@example.org", "bob+tag@example.org"),
        ("rfc822;a+3Db+2Bc@example.org", "rfc822;x@example.org", "a=b+c@example.org"),
        ("rfc822;a+2Bb+c@example.org", "rfc822;x@example.org", "a+2Bb+c@example.org"),
        ("rfc822;a+0Ab@example.org", "rfc822;x@example.org", "a+0Ab@example.org"),
        ("RFC822 ; <bob@example.org>", "rfc822;x@example.org", "bob@example.org"),
        ("unknown;bob", "rfc822; x@example.org", "x@example.org"),
        ("x400; /c=de/@", "rfc822; x@example.org", "x@example.org"),
        ("rfc822;", "x@example.org", "x@example.org"),
        ("", "<x@example.org>", "x@example.org"),
        ("utf-8; \\x{D800}\\x{FFFFFF}@example.org", "", "\\x{D800}\\x{FFFFFF}@example.org"),
    ],
)
def test_the_recipient_is_who_the_sender_named(original: str, final: str, recipient: str) -> None:
    made = only(f"Original-Recipient: {original}", f"Final-Recipient: {final}", "Action: failed", "Status: 5.1.1")
    assert made.recipient == recipient


@pytest.mark.parametrize(
    ("action", "status", "made"),
    [
        ("FAILED", "5.1.1", ("failed", "5.1.1")),
        ("failed (bad luck)", "5.1.1 (unknown)", ("failed", "5.1.1")),
        ("relayed", "2.1.9", ("relayed", "2.1.9")),
        ("expanded", "", ("expanded", "")),
        ("failed", "550", ("failed", "")),
        ("failed", "5.1.1.1", ("failed", "")),
        ("", "5.7.26", ("failed", "5.7.26")),
        ("", "4.2.2", ("delayed", "4.2.2")),
        ("", "2.0.0", ("delivered", "2.0.0")),
    ],
)
def test_action_and_status(action: str, status: str, made: tuple[str, str]) -> None:
    bounce = only("Final-Recipient: rfc822;bob@example.org", f"Action: {action}", f"Status: {status}")
    assert (bounce.action, bounce.status) == made


@pytest.mark.parametrize(
    "block",
    ["Action: failed\nStatus: 5.1.1", "Final-Recipient: rfc822;bob@example.org", RECIPIENT.replace("failed", "lost")],
)
def test_a_group_without_recipient_or_action_is_left_out(block: str) -> None:
    assert [bounce.recipient for bounce in read(notice(block, RECIPIENT))] == ["bob@example.org"]


def test_words_are_one_bounded_line() -> None:
    assert only(RECIPIENT, "Diagnostic-Code: smtp; 550\x07 no\n\tsuch \x00 user").words == "550 no such user"
    assert only(RECIPIENT, "Diagnostic-Code: 550 no such; user").words == "550 no such; user"
    assert only(RECIPIENT, "Diagnostic-Code: smtp; =?utf-8?q?gr=C3=BCn?=").words == "grün"
    assert len(only(RECIPIENT, "Diagnostic-Code: smtp; " + "x" * 100_000).words) == reports.MAX_WORDS


def test_at_most_a_hundred_recipients_are_read() -> None:
    many = [RECIPIENT.replace("bob", f"bob{number}") for number in range(500)]
    made = read(notice(*many))
    assert [bounce.recipient for bounce in made] == [f"bob{number}@example.org" for number in range(100)]


# --- torture ----------------------------------------------------------------------------------------------------------


def sane(made: tuple[Bounce, ...]) -> bool:
    """Whether everything is within its bounds."""
    return len(made) <= reports.MAX_RECIPIENTS and all(
        len(bounce.words) <= reports.MAX_WORDS
        and bounce.words.isprintable()
        and len(bounce.recipient) <= reports.MAX_ADDRESS
        and 0 < len(bounce.message_id) <= 998
        and bounce.action in ("failed", "delayed", "delivered", "relayed", "expanded")
        for bounce in made
    )


@pytest.mark.parametrize("sample", [POSTFIX, EXCHANGE, GMAIL, DOVECOT, GLOBAL])
def test_a_notice_cut_anywhere_is_read_as_far_as_it_goes(sample: bytes) -> None:
    whole = parse.digest(sample).bounces
    for end in range(0, len(sample), 7):
        made = parse.digest(sample[:end]).bounces
        assert sane(made)
        assert len(made) <= len(whole)


HUGE = [
    ("blank_lines", notice("\n" * 3_000_000)),
    ("spaces", notice("\n" + " " * 3_000_000 + "x")),
    ("spaced_lines", notice(" \n\t\n" * 500_000)),
    ("one_field", notice("Final-Recipient: rfc822;" + "a" * 3_000_000)),
    ("semicolons", notice("Final-Recipient: " + ";" * 3_000_000)),
    ("folds", notice(RECIPIENT + "\nDiagnostic-Code: smtp;" + "\n x" * 500_000)),
    ("pluses", notice(f"Original-Recipient: rfc822;{'+2B' * 500_000}@example.org\nAction: failed")),
    ("braces", notice("Original-Recipient: utf-8;" + "\\x{" * 500_000 + "@x\nAction: failed")),
    ("digits", notice(RECIPIENT.replace("5.1.1", "5." * 500_000))),
    ("ids", notice(RECIPIENT, returned="Message-ID: " + "<" * 2_000_000)),
    ("encoded_words", notice(RECIPIENT + "\nDiagnostic-Code: smtp;" + " =?utf-8?q?a?=" * 4_000)),
    ("types", notice(RECIPIENT, kind="multipart/report" + '; a="b' * 50_000)),
    ("recipients", notice(*[RECIPIENT] * 20_000)),
    ("parts", notice(RECIPIENT).replace(b"--b--", b"--b\nContent-Type: message/rfc822\n\nX: y\n\n" * 900)),
]


@pytest.mark.parametrize("mail", [mail for _, mail in HUGE], ids=[name for name, _ in HUGE])
def test_a_huge_notice_costs_little(mail: bytes) -> None:
    parse.digest(POSTFIX)
    began = time.process_time()
    made = parse.digest(mail)
    assert time.process_time() - began < 3
    assert sane(made.bounces)


def test_reports_in_reports_are_read_once() -> None:
    mail = RECIPIENT.encode()
    for depth in range(60):
        mark = b"b%d" % depth
        mail = (
            b"Content-Type: multipart/report; report-type=delivery-status; boundary=" + mark + b"\n\n--" + mark
            + b"\nContent-Type: message/delivery-status\n\n" + RECIPIENT.encode() + b"\n\n--" + mark + b"\n" + mail
            + b"\n--" + mark + b"--\n"
        )  # fmt: skip
    made = parse.digest(b"In-Reply-To: <7f3a@example.com>\n" + mail)
    assert sane(made.bounces)
    assert len(made.bounces) == 1


FIELDS = st.sampled_from(
    [
        "Final-Recipient:", "Original-Recipient:", "Action:", "Status:", "Diagnostic-Code:", "rfc822;", "utf-8;",
        "smtp;", "bob@example.org", "failed", "5.1.1", "\n", "\n\n", "\r\n", " ", ";", "+2B", "\\x{41}",
        "=?utf-8?q?=00?=", "--b", "\x00", "\udcff", "ü", "=?utf-7?q?+2AA-?=",
    ]
)  # fmt: skip


@given(st.lists(FIELDS | st.text(max_size=12), max_size=60))
def test_any_groups_of_fields_are_read_within_bounds(pieces: list[str]) -> None:
    text = "".join(pieces).encode("utf-8", "replace").decode()
    assert sane(parse.digest(notice(text)).bounces)
    assert sane(parse.digest(notice(RECIPIENT, returned=text)).bounces)


@given(st.data(), st.sampled_from([POSTFIX, EXCHANGE, GMAIL, DOVECOT, GLOBAL]))
def test_a_notice_with_anything_in_its_midst_is_read_within_bounds(data: st.DataObject, sample: bytes) -> None:
    at = data.draw(st.integers(0, len(sample)))
    to = data.draw(st.integers(at, min(len(sample), at + 80)))
    assert sane(parse.digest(sample[:at] + data.draw(st.binary(max_size=80)) + sample[to:]).bounces)
