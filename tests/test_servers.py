"""The tests' own servers do what the tests believe they do."""

from __future__ import annotations

import asyncio
import imaplib
import smtplib
import ssl
from datetime import UTC, datetime

import pytest

import corpus
from inboxd.model import Tls
from servers import LOOPBACK, Listener
from servers.certs import Certificates
from servers.dovecot import Dovecot
from servers.proxy import Direction, proxy
from servers.scripted import Conversation, imap, scripted
from servers.smtp import PASSWORD, USER, Fault, SmtpServer, smtp_server

AWKWARD = 'pä "quoted" \\back\\ {5} % : 日本'
MAIL = b"Subject: one\r\n\r\nhello\r\n.\r\n..two\r\n"


def test_dovecot_offers_each_way_of_securing_a_session(dovecot: Dovecot, certificates: Certificates) -> None:
    with imaplib.IMAP4(dovecot.no_tls.host, dovecot.no_tls.port) as client:
        assert "STARTTLS" not in client.capabilities
    with imaplib.IMAP4(dovecot.strict.host, dovecot.strict.port) as client:
        assert {"STARTTLS", "LOGINDISABLED"} <= set(client.capabilities)
        client.starttls(certificates.client_context())
        assert "LOGINDISABLED" not in client.capabilities
    with imaplib.IMAP4_SSL("localhost", dovecot.tls.port, ssl_context=certificates.client_context()) as client:
        assert client.login(dovecot.user().name, "correct horse")[0] == "OK"


@pytest.mark.parametrize(
    ("listener", "words"),
    [("expired", "certificate has expired"), ("wrong_name", "IP address mismatch")],
)
def test_dovecot_shows_bad_certificates(
    dovecot: Dovecot, certificates: Certificates, listener: str, words: str
) -> None:
    place: Listener = getattr(dovecot, listener)
    with pytest.raises(ssl.SSLCertVerificationError, match=words):
        imaplib.IMAP4_SSL(place.host, place.port, ssl_context=certificates.client_context())


def test_dovecot_takes_awkward_names_and_passwords_and_refuses_wrong_ones(dovecot: Dovecot) -> None:
    user = dovecot.user('DOMAIN\\a "b"%é', AWKWARD)
    assert dovecot.append(user, MAIL) == 1
    changed = dovecot.set_password(user, "another")
    assert dovecot.fetch_all(changed) == {1: MAIL}
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        dovecot.fetch_all(user)


def test_dovecot_keeps_mail_byte_exact_over_restarts(dovecot: Dovecot) -> None:
    user = dovecot.user()
    moment = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    mails = [MAIL, *(mail for mail in corpus.messages(50, small=True) if _is_kept(mail))]
    dovecot.append(user, mails[0], flags=["\\Seen"], date=moment)
    dovecot.bulk_load(user, mails[1:])
    held = dovecot.fetch_all(user)
    assert held == dict(enumerate(mails, 1))
    for kill in (False, True):
        dovecot.restart(kill=kill)
        assert dovecot.fetch_all(user) == held
    with dovecot.session(user) as client:
        client.select(readonly=True)
        answer = client.fetch("1", "(FLAGS INTERNALDATE)")[1][0]
    assert isinstance(answer, bytes)
    assert b"\\Seen" in answer
    assert b"03-Feb-2001 04:05:06 +0000" in answer


def test_dovecot_renumbers_expunges_and_kicks(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, [b"Subject: %d\r\n\r\nx\r\n" % number for number in range(5)])
    dovecot.expunge(user, 1, 2)
    assert sorted(dovecot.fetch_all(user)) == [3, 4, 5]
    before = dovecot.uidvalidity(user)
    dovecot.renumber(user)
    assert dovecot.uidvalidity(user) > before
    assert sorted(dovecot.fetch_all(user)) == [1, 2, 3]
    with dovecot.session(user) as client:
        dovecot.kick(user)
        with pytest.raises(imaplib.IMAP4.abort):
            _ask_on(client)


def _ask_on(client: imaplib.IMAP4) -> None:
    """A session that was kicked may answer before it is told."""
    for _ in range(10_000):
        client.noop()


def test_dovecot_keeps_mail_in_mailboxes_with_foreign_names(dovecot: Dovecot) -> None:
    user = dovecot.user()
    name = 'Entwürfe & "日本"/unter'
    dovecot.doveadm("mailbox", "create", "-u", user.name, name)
    dovecot.append(user, MAIL, name)
    assert dovecot.fetch_all(user, name) == {1: MAIL}


def test_smtp_demands_starttls_and_login(smtp: SmtpServer, certificates: Certificates) -> None:
    with smtplib.SMTP(smtp.host, smtp.port) as client:
        client.ehlo()
        assert client.mail("a@example.org")[0] == 530
        client.starttls(context=certificates.client_context())
        client.ehlo()
        assert client.mail("a@example.org")[0] == 530
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "wrong")
        client.login(USER, PASSWORD)
        client.sendmail("a@example.org", ["b@example.org"], MAIL)
    (mail,) = smtp.received
    assert (mail.mail_from, mail.rcpt_tos, mail.content) == ("a@example.org", ("b@example.org",), MAIL)
    assert (mail.login, mail.secured) == (USER, True)


def test_smtp_over_tls_delivers_into_dovecot(certificates: Certificates, dovecot: Dovecot) -> None:
    user = dovecot.user()
    context = certificates.good.server_context()
    with (
        smtp_server(Tls.IMPLICIT, context=context, deliver=lambda mail: dovecot.append(user, mail.content)) as server,
        smtplib.SMTP_SSL(server.host, server.port, context=certificates.client_context()) as client,
    ):
        client.sendmail("a@example.org", [user.name], MAIL)
    assert dovecot.fetch_all(user) == {1: MAIL}


def test_smtp_refuses_and_drops_where_told() -> None:
    with smtp_server() as server:
        server.answers = {"RCPT no@example.org": "550 5.1.1 no such user"}
        with smtplib.SMTP(server.host, server.port) as client:
            assert set(client.sendmail("a@b.org", ["yes@example.org", "no@example.org"], MAIL)) == {"no@example.org"}
            for stage, answer in (("MAIL", "451 4.7.1 later"), ("DATA", "554 no"), ("DOT", "452 4.3.1 full")):
                server.answers = {stage: answer}
                with pytest.raises(smtplib.SMTPResponseException) as refused:
                    client.sendmail("a@b.org", ["yes@example.org"], MAIL)
                assert refused.value.smtp_code == int(answer[:3])
                client.rset()
            server.answers = {"DOT": Fault.DROP}
            with pytest.raises(smtplib.SMTPServerDisconnected):
                client.sendmail("a@b.org", ["yes@example.org"], MAIL)
        assert len(server.wait_for(2)) == 2


async def test_smtp_stalls_and_still_stops() -> None:
    with smtp_server() as server:
        server.answers = {"MAIL": Fault.STALL}
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"EHLO me\r\nMAIL FROM:<a@b.org>\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.readuntil(b"2.1.0")
    writer.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_proxy_cuts_after_so_many_bytes_once(dovecot: Dovecot, reset: bool) -> None:
    async with proxy(dovecot.starttls) as through:
        through.cut_after(10, reset=reset)
        reader, writer = await asyncio.open_connection(through.host, through.port)
        got = bytearray()
        try:
            while octets := await reader.read(100):
                got += octets
            assert not reset
        except ConnectionResetError:
            assert reset
        assert bytes(got) == b"* OK [CAPA"[: len(got)]
        await through.cut_done()
        writer.close()
        reader, writer = await asyncio.open_connection(through.host, through.port)
        assert (await reader.readline()).startswith(b"* OK")
        writer.close()
        assert through.connections == 2


async def test_proxy_freezes_thaws_and_splits(dovecot: Dovecot) -> None:
    async with proxy(dovecot.starttls) as through:
        reader, writer = await asyncio.open_connection(through.host, through.port)
        await reader.readline()
        through.freeze()
        through.chunk_bytes = 1
        writer.write(b"a NOOP\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readline()
        through.thaw()
        assert (await reader.readline()).startswith(b"a OK")
        assert through.passed[Direction.UP] == len(b"a NOOP\r\n")
        through.chunk_bytes, through.coalesce_bytes = None, 10_000
        writer.write(b"b NOOP\r\n")
        assert (await reader.readline()).startswith(b"b OK")
        writer.close()


async def test_a_script_converses_over_tls_in_pieces(certificates: Certificates) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.send(b"* OK hello\r\n", chunk=1)
        tag = await conversation.command("STARTTLS")
        await conversation.send(f"{tag} OK go on\r\n".encode())
        await conversation.start_tls(certificates.good.server_context())
        await conversation.ok("LOGIN .*", b"* CAPABILITY IMAP4rev1")
        await conversation.closed()

    async with scripted(script) as port:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        assert await reader.readline() == b"* OK hello\r\n"
        writer.write(b"1 STARTTLS\r\n")
        assert await reader.readline() == b"1 OK go on\r\n"
        await writer.start_tls(certificates.client_context(), server_hostname="localhost")
        writer.write(b"2 login a b\r\n")
        assert await reader.readline() == b"* CAPABILITY IMAP4rev1\r\n"
        assert await reader.readline() == b"2 OK done\r\n"
        writer.close()


async def test_a_script_that_is_disappointed_fails_the_test() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.expect("LOGIN")

    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="got b'LOGOUT'")):
        async with scripted(script) as port:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(b"LOGOUT\r\n")
            await reader.read()
            writer.close()


async def test_a_table_of_replies_is_a_server() -> None:
    async def silent(conversation: Conversation, _tag: str) -> None:
        await conversation.closed()

    async with scripted(imap({"SELECT": b"* 3 EXISTS\r\n", "IDLE": silent})) as port:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        assert (await reader.readline()).startswith(b"* OK")
        writer.write(b"1 SELECT INBOX\r\n2 NOOP\r\n3 IDLE\r\n")
        for expected in (b"* 3 EXISTS\r\n", b"1 OK done\r\n", b"2 OK done\r\n"):
            assert await reader.readline() == expected
        writer.close()


def test_corpus_is_the_same_each_time_and_stays_within_its_profile() -> None:
    mails = list(corpus.messages(300, seed=7, small=True))
    assert mails[:100] == list(corpus.messages(100, seed=7, small=True))
    assert mails != list(corpus.messages(300, seed=8, small=True))
    assert len(set(mails)) == len(mails)
    assert max(map(len, mails)) < 400_000


def _is_kept(mail: bytes) -> bool:
    """Whether a server has nothing to change: CRLF line ends and no NUL."""
    return b"\0" not in mail and mail.count(b"\n") == mail.count(b"\r\n")
