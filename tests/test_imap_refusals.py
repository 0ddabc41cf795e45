"""Servers that lie, stall or turn us away before the login: nothing secret is sent, and the reason is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from inboxd.errors import (
    AuthRefused,
    CommandMalformed,
    ConnectionLost,
    Insecure,
    MailServerError,
    ProtocolError,
    ServerSaidBye,
    Stalled,
    Throttled,
    TlsFailed,
    TlsMissing,
)
from inboxd.model import Account, Tls
from inboxd.sections import ImapSettings
from servers.certs import Certificates
from servers.scripted import Conversation, Reply, Script, imap, scripted
from servers.sessions import BOTH_LOOPS, LIMITS, account_on, limits, session

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
OFFERS_TLS = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\n"}


def says(*pieces: bytes, then_close: bool = False) -> Reply:
    """Answer a command with these octets, TAG replaced, instead of OK."""

    async def reply(conversation: Conversation, tag: str) -> None:
        await conversation.send(*(piece.replace(b"TAG", tag.encode()) for piece in pieces))
        if then_close:
            raise EOFError

    return reply


async def opened(to: Account, within: ImapSettings = LIMITS) -> None:
    async with session(to, within):
        raise AssertionError("logged in")


async def failure_of(script: Script, tls: Tls = Tls.NONE, within: ImapSettings = LIMITS) -> MailServerError:
    """How opening a session against `script` ends; fails when a word of the password was sent."""
    received: list[bytes] = []

    async def listening(conversation: Conversation) -> None:
        conversation.received = received
        await script(conversation)

    async with scripted(listening) as port:
        with pytest.raises(MailServerError) as told:
            await opened(account_on(port, tls), within)
    assert not any(line.partition(b" ")[2][:5].upper() in (b"LOGIN", b"AUTHE") for line in received), received
    assert b"canary" not in b"\n".join(received)
    return told.value


async def test_a_greeting_of_bye_is_throttled_with_its_text() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"* BYE [UNAVAILABLE] Too many connections\r\n")

    error = await failure_of(script)
    assert type(error) is Throttled
    assert error.reply == "[UNAVAILABLE] Too many connections"


async def test_a_bye_right_behind_the_greeting_is_told() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"* OK hello\r\n* BYE overloaded\r\n")

    error = await failure_of(script)
    assert type(error) is ServerSaidBye
    assert error.reply == "overloaded"


async def test_a_greeting_that_never_comes_ends_at_the_deadline() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.closed()

    assert type(await failure_of(script, within=limits(connect_seconds=0.2))) is Stalled
    assert type(await failure_of(script, within=limits(command_seconds=0.2))) is Stalled


async def test_a_greeting_in_single_octets_ends_at_the_deadline() -> None:
    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.send(b"x")
            await asyncio.sleep(0.01)

    assert type(await failure_of(script, within=limits(connect_seconds=0.3))) is Stalled


async def test_a_connection_closed_at_once_is_lost() -> None:
    async def script(conversation: Conversation) -> None:
        conversation.close()

    assert type(await failure_of(script)) is ConnectionLost


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS], ids=lambda tls: tls.value)
async def test_a_login_claimed_on_a_plain_connection_is_refused(tls: Tls) -> None:
    error = await failure_of(imap(OFFERS_TLS, greeting=b"* PREAUTH welcome\r\n"), tls)
    assert type(error) is Insecure


async def test_a_login_claimed_inside_tls_is_taken(trusted: Certificates) -> None:
    script = imap({}, greeting=b"* PREAUTH welcome\r\n")
    async with (
        scripted(script, context=trusted.good.server_context()) as port,
        session(account_on(port, Tls.IMPLICIT)) as ours,
    ):
        assert (await ours.examine("INBOX")).exists == 0


async def test_starttls_not_offered_is_refused() -> None:
    assert type(await failure_of(imap({}), Tls.STARTTLS)) is TlsMissing


@pytest.mark.parametrize("word", [b"NO", b"BAD"])
async def test_starttls_turned_down_is_refused(word: bytes) -> None:
    replies = {**OFFERS_TLS, "STARTTLS": says(b"TAG " + word + b" not now\r\n")}
    error = await failure_of(imap(replies), Tls.STARTTLS)
    assert type(error) is TlsMissing
    assert error.reply == "not now"


@pytest.mark.parametrize(
    "injected",
    [b"x", b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", b"* PREAUTH\r\n", b"\x16\x03\x01", b"A OK\r\n", b"\n"],
)
async def test_octets_behind_the_answer_to_starttls_are_refused(trusted: Certificates, injected: bytes) -> None:
    replies = {**OFFERS_TLS, "STARTTLS": says(b"TAG OK go ahead\r\n" + injected)}
    error = await failure_of(imap(replies), Tls.STARTTLS)
    assert type(error) is ProtocolError
    assert error.stage == "starttls"


async def test_octets_sent_apart_before_the_handshake_are_refused(trusted: Certificates) -> None:
    async def inject(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} OK go ahead\r\n".encode())
        await conversation.send(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
        await conversation.closed()

    error = await failure_of(imap({**OFFERS_TLS, "STARTTLS": inject}), Tls.STARTTLS)
    assert type(error) in (ProtocolError, TlsFailed)


async def test_a_server_that_leaves_during_starttls_is_told() -> None:
    replies = {**OFFERS_TLS, "STARTTLS": says(b"TAG OK go ahead\r\n", then_close=True)}
    assert type(await failure_of(imap(replies), Tls.STARTTLS)) in (TlsFailed, ProtocolError, ConnectionLost)


async def test_a_silent_handshake_after_starttls_ends_at_the_deadline() -> None:
    async def fall_silent(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} OK go ahead\r\n".encode())
        await conversation.closed()

    script = imap({**OFFERS_TLS, "STARTTLS": fall_silent})
    assert type(await failure_of(script, Tls.STARTTLS, limits(connect_seconds=0.3))) is Stalled


async def test_what_was_said_before_tls_is_forgotten(trusted: Certificates) -> None:
    async def upgrade(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"* OK [ALERT] call this number\r\n* NO trouble\r\n{tag} OK go ahead\r\n".encode())
        await conversation.start_tls(trusted.good.server_context())
        await imap({"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\n"}, greeting=b"")(conversation)

    before = b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=CRAM-MD5 X-FORGED\r\n"
    async with (
        scripted(imap({"CAPABILITY": before, "STARTTLS": upgrade})) as port,
        session(account_on(port, Tls.STARTTLS)) as ours,
    ):
        assert ours.capabilities == {"IMAP4REV1"}
        assert ours.alerts == []
        assert ours.tls == "TLSv1.3"


async def test_a_server_that_forbids_the_login_command_is_sent_no_password() -> None:
    replies = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\n"}
    assert type(await failure_of(imap(replies))) is Insecure


async def test_no_mechanism_in_common_is_refused_with_those_offered() -> None:
    replies = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=GSSAPI AUTH=XOAUTH2\r\n"}
    async with scripted(imap(replies)) as port:
        with pytest.raises(AuthRefused, match="GSSAPI, XOAUTH2"):
            await opened(replace(account_on(port), mechanisms=("PLAIN",)))


async def test_capabilities_refused_are_told() -> None:
    error = await failure_of(imap({"CAPABILITY": says(b"TAG BAD what\r\n")}))
    assert type(error) is CommandMalformed


# --- the login -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"TAG NO [LIMIT] Maximum number of connections exceeded\r\n", Throttled),
        (b"TAG NO [UNAVAILABLE] Temporary authentication failure\r\n", Throttled),
        (b"TAG NO [THROTTLED] slow down\r\n", Throttled),
        (b"TAG NO Too many simultaneous connections\r\n", Throttled),
        (b"TAG NO [AUTHENTICATIONFAILED] too many failures: temporarily locked\r\n", AuthRefused),
        (b"TAG NO invalid credentials\r\n", AuthRefused),
        (b"TAG BAD what\r\n", AuthRefused),
        (b"* BYE go away\r\nTAG NO invalid credentials\r\n", AuthRefused),
        (b"* BYE go away\r\n", ServerSaidBye),
        (b"TAG OK", Stalled),
        (b"OTHER OK done\r\n", ProtocolError),
        (b"TAG MAYBE\r\n", ProtocolError),
    ],
)
async def test_each_answer_to_the_login_is_understood(answer: bytes, kind: type[MailServerError]) -> None:
    async with scripted(imap({"LOGIN": says(answer)})) as port:
        with pytest.raises(MailServerError) as told:
            await opened(account_on(port), limits(command_seconds=0.3))
    assert type(told.value) is kind
    assert "canary" not in str(told.value)


async def test_a_server_that_asks_more_than_the_mechanism_says_is_refused() -> None:
    async def insist(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ \r\n")
        await conversation.line()
        await conversation.send(b"+ bW9yZQ==\r\n")
        assert await conversation.line() == b"*"
        await conversation.send(f"{tag} BAD cancelled\r\n".encode())

    replies = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", "AUTHENTICATE": insist}
    async with scripted(imap(replies)) as port:
        with pytest.raises(AuthRefused):
            await opened(account_on(port))


async def test_names_outside_ascii_go_as_literals_where_only_login_is_offered() -> None:
    sent: list[bytes] = []

    async def take(conversation: Conversation, tag: str) -> None:
        for size in ("jörg".encode(), b"gehe{im}"):
            await conversation.send(b"+ go\r\n")
            sent.append(await conversation.exactly(len(size)))
            sent.append(await conversation.line())
        await conversation.send(f"{tag} OK\r\n".encode())

    async with (
        scripted(imap({r"LOGIN \{5\}": take})) as port,
        session(account_on(port, username="jörg", password="gehe{im}")),
    ):
        assert sent == ["jörg".encode(), b" {8}", b"gehe{im}", b""]


async def test_a_server_that_repeats_the_password_puts_it_into_no_error_and_no_trace() -> None:
    secret = 'echoed "secret" word'

    async def echo(talk: Conversation, tag: str) -> None:
        await talk.send(f"* NO saw {secret}\r\n{tag} NO [AUTHENTICATIONFAILED] not {secret}\r\n".encode())

    trace: list[str] = []
    script = imap({"CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n", "AUTHENTICATE": echo})
    async with scripted(script) as port:
        with pytest.raises(AuthRefused) as refused:
            async with session(account_on(port, password=secret), trace=trace.append):
                pass
    assert "not ***" in str(refused.value)
    assert secret not in repr((refused.value, refused.value.__cause__, trace))
