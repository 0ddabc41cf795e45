"""What goes over the wire: one mail is one mail for every reader, and its parameters say what it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inboxd.errors import Invalid, SendRefused
from inboxd.outbox import Dsn
from inboxd.smtp.content import Content, framed
from inboxd.smtp.envelope import Envelope
from inboxd.smtp.wire import BLOCK_BYTES
from servers.scripted import scripted
from smtp_talks import ALICE, BOB, MAIL, account, on_both_loops, serving, session

PIECES = [b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"a", b"\0", b"\x85", b"\xff", b"\x0b"]
RAW = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join) | st.binary(max_size=200)
# Every end of a mail that some server is known to believe in (SMTP smuggling, 2023), and those it might.
ENDS = re.compile(rb"(?:\r\n|\n|\r|^)\.(?:\r\n|\n|\r)")
ALL = {"SIZE": "1000000", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""}


def read(octets: bytes) -> tuple[bytes, bytes]:
    """The mail as RFC 5321 §4.5.2 reads it, and what follows it. Lines end with CRLF and with nothing else."""
    mail = b""
    while octets:
        line, end, octets = octets.partition(b"\r\n")
        assert end, "the mail has no end"
        if line == b".":
            return mail, octets
        mail += line.removeprefix(b".") + end
    raise AssertionError("the mail has no end")


@given(raw=RAW)
@example(raw=b"a\n.\nMAIL FROM:<x@example.org>\n")
@example(raw=b"a\r\n.\rb\r.\r\nc\n.\r\n")
@example(raw=b"")
@example(raw=b".")
@settings(max_examples=500)
def test_every_reader_finds_the_same_one_end(raw: bytes) -> None:
    made = framed(raw)
    mail, rest = read(made.framed)
    assert rest == b""
    assert re.findall(rb"\r(?!\n)|(?<!\r)\n", made.framed) == []
    ends = list(ENDS.finditer(made.framed))
    assert [end.end() for end in ends] == [len(made.framed)]
    assert made.size_bytes == len(mail)
    assert made.eight_bit is any(octet > 127 for octet in raw)
    lines = re.split(rb"\r\n|\r|\n", raw)
    assert mail == b"\r\n".join(lines) + (b"" if lines[-1] == b"" and len(lines) > 1 else b"\r\n")


@given(raw=RAW)
def test_mail_with_right_line_ends_arrives_as_it_is(raw: bytes) -> None:
    right = read(framed(raw).framed)[0]
    assert read(framed(right).framed)[0] == right


@pytest.mark.parametrize("short", range(12))
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_only_the_last_block_holds_any_part_of_the_end(blocks: int, short: int) -> None:
    made = framed(b"x" * (blocks * BLOCK_BYTES - short) + b"\r\n")
    first = list(made.first_blocks())
    assert b"".join(first) + made.last_block == made.framed
    assert {len(block) for block in first} <= {BLOCK_BYTES}
    assert not any(b"\r" in block or b"." in block for block in first)
    assert made.last_block.endswith(b"\r\n.\r\n")
    assert len(made.last_block) <= BLOCK_BYTES + 5


def test_small_mail_is_one_block() -> None:
    for raw in (b"", MAIL, b"x" * (BLOCK_BYTES - 5)):
        made = framed(raw)
        assert list(made.first_blocks()) == []
        assert made.last_block is made.framed


def command(raw: bytes = MAIL, extensions: dict[str, str] = ALL, sender: str = ALICE, dsn: Dsn | None = None) -> str:
    return Envelope(sender, (BOB,), dsn).mail(framed(raw), extensions).decode()


def test_parameters_say_what_the_mail_is() -> None:
    assert command(b"A: b\n\n.\n") == f"MAIL FROM:<{ALICE}> SIZE=11"
    assert command(b"A: b\n\n\xff\n") == f"MAIL FROM:<{ALICE}> SIZE=11 BODY=8BITMIME"
    assert command(b"A: \xc3\xbc\n\n") == f"MAIL FROM:<{ALICE}> SIZE=9 BODY=8BITMIME SMTPUTF8"
    assert command(b"A: \xc3\xbc") == f"MAIL FROM:<{ALICE}> SIZE=7 BODY=8BITMIME SMTPUTF8"
    assert command(sender="ü@example.org") == f"MAIL FROM:<ü@example.org> SIZE={len(MAIL)} SMTPUTF8"
    assert command(extensions={}) == f"MAIL FROM:<{ALICE}>"


@pytest.mark.parametrize(
    ("sender", "raw", "missing", "words"),
    [
        ("jürgen@example.org", MAIL, "SMTPUTF8", "the address jürgen@example.org needs SMTPUTF8"),
        (ALICE, b"A: \xff\r\n\r\n", "SMTPUTF8", "the mail's header needs SMTPUTF8"),
        (ALICE, MAIL + b"\xff", "8BITMIME", "the mail needs 8BITMIME"),
        (ALICE, MAIL + b"x" * 1_000_000, "", "takes no more than 1000000"),
    ],
)
def test_what_the_server_cannot_carry_is_named(sender: str, raw: bytes, missing: str, words: str) -> None:
    with pytest.raises(SendRefused, match=words) as caught:
        command(raw, {name: value for name, value in ALL.items() if name != missing}, sender)
    assert caught.value.stage == "mail"


def test_delivery_notices_are_asked_for_in_the_words_of_rfc_3461() -> None:
    raw = b"Message-ID:\r\n <one+two=3@example.org>\r\n\r\n"
    dsn = Dsn(("SUCCESS", "FAILURE"))
    envelope = Envelope(ALICE, ("a+b=c@example.org", "ü@example.org"), dsn)
    name = "one+2Btwo+3D3@example.org"
    assert envelope.mail(framed(raw), {"DSN": "", "SMTPUTF8": ""}).decode().endswith(f" RET=HDRS ENVID={name}")
    assert [line.decode() for line in envelope.rcpts(ALL)] == [
        "RCPT TO:<a+b=c@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb+3Dc@example.org",
        "RCPT TO:<ü@example.org> NOTIFY=SUCCESS,FAILURE",
    ]
    assert command(dsn=Dsn(("NEVER",), whole=True)) == f"MAIL FROM:<{ALICE}> SIZE={len(MAIL)} RET=FULL"
    assert envelope.rcpts({}) == [f"RCPT TO:<{address}>".encode() for address in envelope.recipients]


@pytest.mark.parametrize("name", [b"", b"<>", b"<a b>", b"<" + b"x" * 101 + b">", b"<" + b"+" * 40 + b">", b"<\xff>"])
def test_message_id_that_cannot_name_the_envelope_is_left_out(name: bytes) -> None:
    made = command(b"Message-ID: " + name + b"\r\n\r\n<y@z>\r\n", dsn=Dsn(("DELAY",)))
    assert "ENVID" not in made
    assert "RET=HDRS" in made


@pytest.mark.parametrize("notify", [("NEVER", "DELAY"), ("success",), ("DELAY\r\nDATA",), ("",)])
def test_notices_that_are_none_are_refused(notify: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        Envelope(ALICE, (BOB,), Dsn(notify)).check()
    assert caught.value.field == "notify"


@pytest.mark.parametrize("offered", [True, False])
@on_both_loops
async def test_notices_are_asked_for_where_they_are_offered(offered: bool) -> None:
    mails: list[bytes] = []
    trace: list[str] = []
    script = serving("PIPELINING", *(["DSN"] if offered else []), mails=mails)
    async with scripted(script) as port, session(port, account(), trace=trace) as opened:
        await opened.send(ALICE, [BOB], MAIL, dsn=Dsn(("FAILURE",)))
    assert mails == [MAIL]
    options = " NOTIFY=FAILURE ORCPT=rfc822;b@example.org" if offered else ""
    assert f"C: RCPT TO:<{BOB}>{options}" in trace
    assert any("DSN is not offered" in line for line in trace) is not offered


def test_content_of_a_header_alone() -> None:
    assert framed(b"A: b\r\n").header == b"A: b\r\n.\r\n"
    assert framed(b"\r\nbody\r\n\r\n").header == b""
    assert Content(b"", 0, eight_bit=False).header == b""
