"""SMTP sessions: against a real server, and against false ones for what a real one will not do."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import traceback

import pytest

from inboxd import errors
from inboxd.errors import Invalid, MailServerError
from inboxd.model import Account, Tls
from inboxd.outbox import Refusal
from inboxd.sections import SmtpSettings
from inboxd.smtp.opening import open_session
from inboxd.smtp.session import Receipt
from servers.certs import Certificate, Certificates
from servers.scripted import Conversation, Script, scripted
from servers.smtp import PASSWORD, USER, Fault, smtp_server
from smtp_talks import FORMS, HURRIED, LIMITS, MAIL, Talk, account, on_both_loops, session

EHLO = b"250-mail.example.test\r\n250-AUTH PLAIN LOGIN\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"


async def failing(
    script: Script, who: Account | None = None, context: ssl.SSLContext | None = None, limits: SmtpSettings = LIMITS
) -> MailServerError:
    """The error of opening a session with a scripted server and sending a mail."""
    trace: list[str] = []
    with pytest.raises(MailServerError) as caught:
        async with (
            scripted(script) as port,
            session(port, who or account(), context, limits=limits, trace=trace) as opened,
        ):
            await opened.send("a@example.org", ["b@example.org"], MAIL)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + "".join(trace)
    assert not any(form in shown for form in FORMS), shown
    return caught.value


def until(stage: str, rest: Talk) -> Script:
    """A server that is good up to `stage`, where `rest` takes over; the command of that stage has been read."""
    replies = {"EHLO": EHLO, "AUTH": b"235 ok\r\n", "MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n"}

    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 mail.example.test ESMTP\r\n")
        while True:
            command = (await conversation.line()).decode().partition(" ")[0].upper()
            if command == stage:
                return await rest(conversation)
            await conversation.send(replies[command])
            if command == "DATA":
                while await conversation.line() != b".":
                    pass
                return await rest(conversation)

    return script


def saying(reply: bytes) -> Talk:
    async def talk(conversation: Conversation) -> None:
        await conversation.send(reply)
        await conversation.closed()

    return talk


async def dropping(conversation: Conversation) -> None:
    conversation.close()


async def staying_silent(conversation: Conversation) -> None:
    await conversation.closed()


@pytest.mark.parametrize("tls", list(Tls))
@on_both_loops
async def test_mail_is_sent_after_login(certificates: Certificates, tls: Tls) -> None:
    server_side = None if tls is Tls.NONE else certificates.good.server_context()
    client_side = None if tls is Tls.NONE else certificates.client_context()
    raw = b"Subject: dots\r\n\r\n.\r\n..two\r\nend\r\n"
    trace: list[str] = []
    with smtp_server(tls, context=server_side, users={USER: PASSWORD}) as server:
        async with session(server.port, account(tls, user=USER), client_side, trace=trace) as opened:
            receipt = await opened.send("a@example.org", ["b@example.org", "c@example.org"], raw)
            again = await opened.send("a@example.org", ["b@example.org"], MAIL)
            assert "mail.example.test" in opened.banner
            assert opened.size_limit == server.max_bytes
            assert (opened.tls or "").startswith("TLSv1") is (tls is not Tls.NONE)
            assert "secret" not in repr(opened)
        first, second = server.received
    assert receipt == Receipt("250 2.0.0 OK: queued", {})
    assert again == receipt
    assert (first.mail_from, first.rcpt_tos, first.content) == (
        "a@example.org",
        ("b@example.org", "c@example.org"),
        raw,
    )
    assert (first.login, first.secured) == (USER, tls is not Tls.NONE)
    assert second.content == MAIL
    assert "C: AUTH PLAIN ***" in trace or "C: ***" in trace
    assert not any("dots" in line for line in trace)


@on_both_loops
async def test_name_of_this_machine_is_not_told(certificates: Certificates) -> None:
    with smtp_server() as server:
        async with session(server.port, account()):
            pass
        async with session(server.port, account(local_host_name="client.example.org")):
            pass
        assert server.commands == ["EHLO localhost.localdomain", "EHLO client.example.org"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "login"])
@on_both_loops
async def test_mechanisms_are_restricted(mechanism: str) -> None:
    trace: list[str] = []
    with smtp_server(users={USER: PASSWORD}) as server:
        async with session(server.port, account(user=USER, mechanisms=(mechanism,)), trace=trace):
            pass
        assert next(line for line in trace if line.startswith("C: AUTH")).startswith(f"C: AUTH {mechanism.upper()}")
        with pytest.raises(errors.AuthRefused) as refused:
            async with session(server.port, account(user=USER, mechanisms=("CRAM-MD5",))):
                pass
        assert refused.value.stage == "auth"


@on_both_loops
async def test_accounts_that_cannot_be_used_are_refused_unheard(certificates: Certificates) -> None:
    for who, kind in (
        (account(user=USER, mechanisms=("XOAUTH2",)), Invalid),
        (account(user="a\0b"), Invalid),
        (account(local_host_name="a b\r\nMAIL"), Invalid),
        (account(Tls.STARTTLS, user=USER), errors.Insecure),
        (account(Tls.IMPLICIT), errors.Insecure),
    ):
        ours, theirs = socket.socketpair()
        with theirs, pytest.raises(kind):
            async with open_session(ours, who, LIMITS, None, print):
                pass
        assert ours.fileno() == -1


@on_both_loops
async def test_cram_md5_proves_the_password_without_sending_it() -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.send(b"334 " + base64.b64encode(b"<1.2@host>") + b"\r\n")
        answer = base64.b64decode(await conversation.line())
        assert answer.startswith(USER.encode() + b" ")
        assert len(answer.rpartition(b" ")[2]) == 32
        await conversation.send(b"235 ok\r\n")
        await conversation.closed()

    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(b"250-hi\r\n250 AUTH CRAM-MD5 PLAIN\r\n")
        await conversation.expect("AUTH CRAM-MD5$")
        await talk(conversation)

    async with scripted(script) as port, session(port, account(user=USER), limits=HURRIED):
        pass


@on_both_loops
async def test_wrong_password_is_refused_once_with_the_servers_words() -> None:
    with smtp_server(users={USER: PASSWORD}) as server:
        with pytest.raises(errors.AuthRefused) as refused:
            async with session(server.port, account(user=USER, password="wrong password")):
                pass
        assert server.commands.count("AUTH") == 1
    assert refused.value.stage == "auth"
    assert refused.value.reply.startswith("535 5.7.8")
    assert "wrong password" not in repr(refused.value)


@on_both_loops
async def test_login_in_clear_needs_the_callers_word(certificates: Certificates) -> None:
    with smtp_server(users={USER: PASSWORD}) as server:
        with pytest.raises(errors.Insecure):
            async with session(server.port, account(user=USER), certificates.client_context()):
                pass
        assert "AUTH" not in server.commands


@on_both_loops
async def test_some_recipients_may_be_refused() -> None:
    with smtp_server() as server:
        server.answers["RCPT no@example.org"] = "550 5.1.1 no such user"
        server.answers["RCPT later@example.org"] = "450 4.2.0 greylisted"
        async with session(server.port, account()) as opened:
            receipt = await opened.send("a@example.org", ["no@example.org", "b@example.org", "later@example.org"], MAIL)
            assert receipt.refused == {
                "no@example.org": Refusal(550, "550 5.1.1 no such user"),
                "later@example.org": Refusal(450, "450 4.2.0 greylisted"),
            }
            assert server.received[0].rcpt_tos == ("b@example.org",)
            with pytest.raises(errors.SendRefused) as refused:
                await opened.send("a@example.org", ["no@example.org"], MAIL)
            with pytest.raises(errors.SendDeferred):
                await opened.send("a@example.org", ["no@example.org", "later@example.org"], MAIL)
            await opened.send("a@example.org", ["b@example.org"], MAIL)
    assert (refused.value.stage, refused.value.reply) == ("rcpt", "550 5.1.1 no such user")
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("stage", "answer", "kind"),
    [
        ("MAIL", "550 5.7.1 no", errors.SendRefused),
        ("MAIL", "451 4.3.0 later", errors.SendDeferred),
        ("RCPT", "421 4.3.2 closing", errors.SendDeferred),
        ("DATA", "554 5.5.1 no", errors.SendRefused),
        ("DOT", "554 5.6.0 spam", errors.SendRefused),
        ("DOT", "452 4.3.1 full", errors.SendDeferred),
        ("MAIL", Fault.DROP, errors.ConnectionLost),
        ("RCPT", Fault.DROP, errors.ConnectionLost),
        ("DATA", Fault.DROP, errors.ConnectionLost),
        ("DOT", Fault.DROP, errors.SendUnknown),
        ("MAIL", Fault.STALL, errors.Stalled),
        ("DATA", Fault.STALL, errors.Stalled),
        ("DOT", Fault.STALL, errors.SendUnknown),
    ],
)
@on_both_loops
async def test_answers_and_silence_mean_what_they_mean_at_each_stage(
    stage: str, answer: str | Fault, kind: type[MailServerError]
) -> None:
    with smtp_server() as server:
        server.answers[stage] = answer
        limits = HURRIED if answer is Fault.STALL else LIMITS
        with pytest.raises(MailServerError) as caught:
            async with session(server.port, account(), limits=limits) as opened:
                await opened.send("a@example.org", ["b@example.org"], MAIL)
    assert type(caught.value) is kind
    assert caught.value.stage == ("data" if stage == "DOT" else stage.lower())
    if isinstance(answer, str):
        assert caught.value.reply == answer


@on_both_loops
async def test_too_large_mail_is_refused_before_it_is_sent() -> None:
    with smtp_server(max_bytes=100) as server:
        async with session(server.port, account()) as opened:
            with pytest.raises(errors.SendRefused) as refused:
                await opened.send("a@example.org", ["b@example.org"], MAIL + b"x" * 100)
        assert server.commands == ["EHLO localhost.localdomain"]
    assert "no more than 100" in str(refused.value)


@on_both_loops
async def test_eight_bit_mail_and_foreign_addresses_are_announced() -> None:
    with smtp_server() as server:
        async with session(server.port, account()) as opened:
            await opened.send("jürgen@example.org", ["b@example.org"], MAIL + "ü\r\n".encode())
            await opened.send("a@example.org", ["b@example.org"], MAIL)
        first, second = server.received
    assert first.mail_from == "jürgen@example.org"
    assert {"BODY=8BITMIME", "SMTPUTF8"} <= set(first.mail_options)
    assert not {"BODY=8BITMIME", "SMTPUTF8"} & set(second.mail_options)


@on_both_loops
async def test_what_the_server_cannot_carry_is_refused_before_mail() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(b"250 hi\r\n")
        await conversation.expect("QUIT")

    async with scripted(script) as port, session(port, account()) as opened:
        with pytest.raises(errors.SendRefused, match="SMTPUTF8"):
            await opened.send("jürgen@example.org", ["b@example.org"], MAIL)
        with pytest.raises(errors.SendRefused, match="8BITMIME"):
            await opened.send("a@example.org", ["b@example.org"], MAIL + "ü".encode())


@on_both_loops
async def test_line_ends_are_mended_and_nothing_is_smuggled() -> None:
    with smtp_server() as server:
        async with session(server.port, account()) as opened:
            for raw in (b"A: b\n\nx\n.\nMAIL FROM:<x@y>\n", b"A: b\r\n\r\nx\r.\rDATA", b"", b"."):
                await opened.send("a@example.org", ["b@example.org"], raw)
    assert [mail.content for mail in server.received] == [
        b"A: b\r\n\r\nx\r\n.\r\nMAIL FROM:<x@y>\r\n",
        b"A: b\r\n\r\nx\r\n.\r\nDATA\r\n",
        b"\r\n",
        b".\r\n",
    ]


@on_both_loops
async def test_large_mail_keeps_every_dot_at_every_block_border() -> None:
    raw = b"A: b\r\n\r\n" + b"".join(b"." * (number % 5) + b"\r\n" for number in range(500_000))
    with smtp_server() as server:
        async with session(server.port, account()) as opened:
            await opened.send("a@example.org", ["b@example.org"], raw)
    assert server.received[0].content == raw


@pytest.mark.parametrize("address", ["a@b>\r\nDATA", "a b@example.org", "a@b\0", "<a@b>", "a@b\ud800"])
@on_both_loops
async def test_addresses_cannot_inject_commands(address: str) -> None:
    with smtp_server() as server:
        async with session(server.port, account()) as opened:
            for sender, recipients in ((address, ["b@example.org"]), ("a@example.org", [address])):
                with pytest.raises(Invalid):
                    await opened.send(sender, recipients, MAIL)
            with pytest.raises(Invalid):
                await opened.send("a@example.org", [], MAIL)
    assert server.commands == ["EHLO localhost.localdomain"]


@pytest.mark.parametrize("tls", [Tls.IMPLICIT, Tls.STARTTLS])
@pytest.mark.parametrize(
    ("wrong", "words"), [("expired", "expired"), ("wrong_name", "mismatch"), (None, "self-signed|unable")]
)
@on_both_loops
async def test_wrong_certificates_are_refused_with_the_reason(
    certificates: Certificates, tls: Tls, wrong: str | None, words: str
) -> None:
    shown: Certificate = getattr(certificates, wrong) if wrong else certificates.good
    client_side = certificates.client_context() if wrong else ssl.create_default_context()
    with smtp_server(tls, context=shown.server_context(), users={USER: PASSWORD}) as server:
        with pytest.raises(errors.TlsFailed, match=f"(?i){words}"):
            async with session(server.port, account(tls, user=USER), client_side):
                pass
        assert "AUTH" not in server.commands


@on_both_loops
async def test_starttls_that_is_not_offered_is_an_error_and_nothing_follows(certificates: Certificates) -> None:
    seen: list[bytes] = []

    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(EHLO)
        seen.extend([await conversation.line()])

    error = await failing(script, account(Tls.STARTTLS, user=USER), certificates.client_context())
    assert isinstance(error, errors.TlsMissing)
    assert seen == []


@on_both_loops
async def test_starttls_that_is_refused_is_an_error(certificates: Certificates) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(b"250-hi\r\n250 STARTTLS\r\n")
        await conversation.expect("STARTTLS")
        await conversation.send(b"454 4.7.0 TLS not available\r\n")
        await conversation.closed()

    error = await failing(script, account(Tls.STARTTLS, user=USER), certificates.client_context())
    assert isinstance(error, errors.TlsFailed)
    assert "TLS not available" in error.reply


@on_both_loops
async def test_octets_injected_before_the_handshake_are_forgotten(certificates: Certificates) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        await conversation.expect("EHLO")
        await conversation.send(b"250-hi\r\n250-SIZE 7\r\n250 STARTTLS\r\n")
        await conversation.expect("STARTTLS")
        await conversation.send(b"220 go\r\n250-evil\r\n250-SIZE 1\r\n250 AUTH PLAIN\r\n")
        await conversation.start_tls(certificates.good.server_context())
        await conversation.expect("EHLO")
        await conversation.send(b"250-hi\r\n250 SIZE 9\r\n")
        await conversation.expect("QUIT")
        await conversation.send(b"221 bye\r\n")

    async with scripted(script) as port, session(port, account(Tls.STARTTLS), certificates.client_context()) as opened:
        assert opened.extensions == {"SIZE": "9"}
        assert opened.tls is not None


@on_both_loops
async def test_tls_on_a_clear_port_is_said_in_plain_words(certificates: Certificates) -> None:
    with smtp_server() as server, pytest.raises((errors.TlsFailed, errors.ConnectionLost)) as caught:
        async with session(server.port, account(Tls.IMPLICIT), certificates.client_context()):
            pass
    assert caught.value.stage == "tls"


async def greeting(line: bytes) -> MailServerError:
    async def script(conversation: Conversation) -> None:
        await conversation.send(line)
        await conversation.closed()

    return await failing(script, limits=HURRIED)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"421 4.7.0 too many connections\r\n", errors.Throttled),
        (b"554 5.7.1 go away\r\n", errors.CommandRefused),
        (b"HTTP/1.1 400 Bad Request\r\n", errors.ProtocolError),
        (b"220-" + b"x" * 100_000 + b"\r\n", errors.ProtocolError),
        (b"", errors.Stalled),
        (b"220-half", errors.Stalled),
    ],
)
@on_both_loops
async def test_greetings_that_are_no_welcome(line: bytes, kind: type[MailServerError]) -> None:
    error = await greeting(line)
    assert type(error) is kind
    assert error.stage == "greeting"
    assert len(error.reply) < 600


@pytest.mark.parametrize(
    ("stage", "rest", "kind"),
    [
        ("EHLO", staying_silent, errors.Stalled),
        ("EHLO", dropping, errors.ConnectionLost),
        ("AUTH", dropping, errors.ConnectionLost),
        ("AUTH", saying(b"454 4.7.0 temporary\r\n"), errors.Throttled),
        ("AUTH", saying(b"421 4.7.0 bye\r\n"), errors.Throttled),
        ("AUTH", saying(b"535 no: " + FORMS[2].encode() + b" " + FORMS[0].encode() + b"\r\n"), errors.AuthRefused),
        ("AUTH", saying(FORMS[0].encode() + b"\r\n"), errors.ProtocolError),
        ("MAIL", saying(b"\x1b[31mred\r\n"), errors.ProtocolError),
        ("SENT", dropping, errors.SendUnknown),
        ("SENT", staying_silent, errors.SendUnknown),
        ("SENT", saying(b"nonsense\r\n"), errors.SendUnknown),
        ("SENT", saying(b"350 more\r\n"), errors.SendUnknown),
    ],
)
@on_both_loops
async def test_false_servers_get_the_right_error(stage: str, rest: Talk, kind: type[MailServerError]) -> None:
    error = await failing(until(stage, rest), account(user=USER), limits=HURRIED)
    assert type(error) is kind, error
    assert error.stage == ("data" if stage == "SENT" else stage.lower())


@on_both_loops
async def test_password_that_a_server_echoes_is_not_shown() -> None:
    echo = saying(b"535 5.7.8 what is " + FORMS[0].encode() + b"\r\n")
    error = await failing(until("AUTH", echo), account(user=USER))
    assert error.reply == "535 5.7.8 what is ***"


@on_both_loops
async def test_refusal_in_the_middle_of_the_mail_is_heard() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        for answer in (b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await conversation.line()
            await conversation.send(answer)
        await conversation.exactly(100_000)
        await conversation.send(b"552 5.3.4 too big\r\n")
        await conversation.closed()

    with pytest.raises(errors.SendRefused) as refused:
        async with scripted(script) as port, session(port, account()) as opened:
            await opened.send("a@example.org", ["b@example.org"], b"x" * 70 + b"\r\n" * 20_000_000)
    assert refused.value.reply == "552 5.3.4 too big"


@on_both_loops
async def test_server_that_stops_reading_is_left() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"220 hi\r\n")
        for answer in (b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await conversation.line()
            await conversation.send(answer)
        await asyncio.Event().wait()

    with pytest.raises(errors.Stalled) as caught:
        async with scripted(script) as port, session(port, account(), limits=HURRIED) as opened:
            await opened.send("a@example.org", ["b@example.org"], b"\r\n" * 40_000_000)
    assert caught.value.stage == "data"


@on_both_loops
async def test_cancelling_a_send_ends_the_connection() -> None:
    reached = asyncio.Event()
    left = asyncio.Event()

    async def rest(conversation: Conversation) -> None:
        reached.set()
        await conversation.closed()
        left.set()

    async def send(port: int) -> None:
        async with session(port, account()) as opened:
            await opened.send("a@example.org", ["b@example.org"], MAIL)

    async with scripted(until("RCPT", rest)) as port, asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(send(port))
        await reached.wait()
        task.cancel()
        await left.wait()
    assert task.cancelled()
