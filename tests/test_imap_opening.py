"""From a connected socket to a logged-in session, on a real Dovecot: each way in, and each way of being refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from inboxd import net
from inboxd.errors import (
    AuthRefused,
    Insecure,
    MailServerError,
    ProtocolError,
    Stalled,
    TlsFailed,
    TlsMissing,
)
from inboxd.imap.opening import open_session
from inboxd.model import Account, Tls
from servers import LOOPBACK, Listener
from servers.certs import Certificates
from servers.dovecot import Dovecot, User
from servers.proxy import proxy
from servers.scripted import Conversation, scripted
from servers.sessions import BOTH_LOOPS, LIMITS, account, account_on, examined, limits, session, settled

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS

WAYS_IN: dict[Tls, Callable[[Dovecot], Listener]] = {
    Tls.NONE: lambda server: server.starttls,
    Tls.STARTTLS: lambda server: server.strict,
    Tls.IMPLICIT: lambda server: server.tls,
}
AWKWARD = [
    'with "quotes"',
    "back\\slash\\",
    " leading and trailing ",
    "pässwörd €",
    "🎉",
    "{5}",
    "{5+}",
    'both "ä" and \\',
    "%u*(){]",
    "&AOQ-",
    "x" * 200,
]


async def refused(to: Account, kind: type[MailServerError], trace: list[str] | None = None) -> MailServerError:
    """The error a session ends with before it begins; no word of the password is in it or in the trace."""
    lines: list[str] = [] if trace is None else trace
    with pytest.raises(kind) as told:
        async with session(to, trace=lines.append):
            raise AssertionError("logged in")
    assert type(told.value) is kind
    assert to.password.reveal() not in str(told.value) + repr(told.value) + "\n".join(lines)
    return told.value


@pytest.mark.parametrize("tls", WAYS_IN, ids=lambda tls: tls.value)
async def test_every_way_in_leads_to_a_mailbox(dovecot: Dovecot, trusted: Certificates, tls: Tls) -> None:
    user = dovecot.user()
    dovecot.append(user, b"Subject: hello\r\n\r\nbody\r\n")
    async with session(account(WAYS_IN[tls](dovecot), user, tls)) as opened:
        assert opened.tls == (None if tls is Tls.NONE else "TLSv1.3")
        assert "IDLE" in opened.capabilities
        assert "UIDPLUS" in opened.capabilities, "the capabilities are those after the login"
        assert (await opened.examine("INBOX")).exists == 1
        await opened.log_out()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("password", AWKWARD)
async def test_awkward_passwords_arrive_as_they_are(dovecot: Dovecot, mechanism: str, password: str) -> None:
    user = dovecot.user(password=password)
    trace: list[str] = []
    async with session(account(dovecot.starttls, user, mechanisms=(mechanism,)), trace=trace.append) as opened:
        await opened.log_out()
    assert password not in "\n".join(trace)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("name", ['a "b" c', "back\\slash", "jörg", "{5}"])
async def test_awkward_user_names_arrive_as_they_are(dovecot: Dovecot, mechanism: str, name: str) -> None:
    user = dovecot.user(name)
    async with session(account(dovecot.starttls, user, mechanisms=(mechanism,))) as opened:
        await opened.log_out()


async def test_a_wrong_password_is_refused_in_the_servers_words(dovecot: Dovecot) -> None:
    user = dovecot.user()
    for mechanism in ("PLAIN", "LOGIN"):
        wrong = account(dovecot.starttls, User(user.name, "wrong-canary", user.home), mechanisms=(mechanism,))
        error = await refused(wrong, AuthRefused)
        assert error.stage == "login"
        assert error.reply == "[AUTHENTICATIONFAILED] Authentication failed."
        assert not error.retry


# --- TLS -------------------------------------------------------------------------------------------------------------


async def test_missing_starttls_is_refused_before_any_secret_is_sent(dovecot: Dovecot, trusted: Certificates) -> None:
    user = dovecot.user(password="secret-canary")
    trace: list[str] = []
    error = await refused(account(dovecot.no_tls, user, Tls.STARTTLS), TlsMissing, trace)
    assert error.stage == "starttls"
    sent = [line for line in trace if line.startswith("C: ")]
    assert [line.split()[-1] for line in sent] == ["CAPABILITY"]


@pytest.mark.parametrize(
    ("place", "words"),
    [("expired", "certificate has expired"), ("wrong_name", "is not valid for '127.0.0.5'")],
)
async def test_a_bad_certificate_is_named(dovecot: Dovecot, trusted: Certificates, place: str, words: str) -> None:
    listener: Listener = getattr(dovecot, place)
    error = await refused(account(listener, dovecot.user(), Tls.IMPLICIT), TlsFailed)
    assert words in str(error)
    assert listener.host in str(error)
    assert error.stage == "tls"


@pytest.mark.parametrize("tls", [Tls.IMPLICIT, Tls.STARTTLS], ids=lambda tls: tls.value)
async def test_an_unknown_authority_is_refused(dovecot: Dovecot, tls: Tls) -> None:
    error = await refused(account(WAYS_IN[tls](dovecot), dovecot.user(), tls), TlsFailed)
    assert "unable to get local issuer certificate" in str(error)


@pytest.mark.parametrize("trust", ["*", "127.0.0.4", "mail.example.com, 127.0.0.4", " 127.0.0.4 ,x"])
async def test_a_trusted_host_may_show_any_certificate(dovecot: Dovecot, trust: str) -> None:
    async with session(account(dovecot.expired, dovecot.user(), Tls.IMPLICIT, ssl_trust=trust)) as opened:
        assert opened.tls is not None


@pytest.mark.parametrize("trust", ["", "mail.example.com", "127.0.0.40", "127.0.0", ",", None])
async def test_trust_in_another_host_is_none_in_this_one(dovecot: Dovecot, trust: str | None) -> None:
    await refused(account(dovecot.expired, dovecot.user(), Tls.IMPLICIT, ssl_trust=trust), TlsFailed)


async def test_the_tls_versions_may_be_narrowed(dovecot: Dovecot, trusted: Certificates) -> None:
    for version in net.TLS_PROTOCOLS:
        to = account(dovecot.tls, dovecot.user(), Tls.IMPLICIT, ssl_protocols=(version,))
        async with session(to) as opened:
            assert opened.tls == version


async def test_tls_spoken_to_a_plain_port_is_told_apart(dovecot: Dovecot, trusted: Certificates) -> None:
    error = await refused(account(dovecot.starttls, dovecot.user(), Tls.IMPLICIT), TlsFailed)
    assert "the port may not speak TLS" in str(error)


async def test_plain_words_to_a_tls_port_end_with_a_hint(dovecot: Dovecot) -> None:
    to = account(dovecot.tls, dovecot.user())
    with pytest.raises(Stalled, match="use implicit TLS"):
        async with session(to, limits(connect_seconds=0.3)):
            raise AssertionError("logged in")


@pytest.mark.parametrize("tls", [Tls.IMPLICIT, Tls.STARTTLS], ids=lambda tls: tls.value)
async def test_without_a_context_there_is_no_falling_back_to_plain(tls: Tls) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        to = account_on(listener.getsockname()[1], tls)
        sock = await net.connect(to.host, to.port, 5)
        with pytest.raises(Insecure):
            async with open_session(sock, to, LIMITS, None):
                raise AssertionError("logged in")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(100) == b""


async def test_a_handshake_that_ends_early_is_a_tls_failure(dovecot: Dovecot, trusted: Certificates) -> None:
    async with proxy(dovecot.tls) as through:
        to = account(Listener(through.host, through.port), dovecot.user(), Tls.IMPLICIT)
        for reset in (False, True):
            through.cut_after(100, reset=reset)
            error = await refused(to, TlsFailed)
            assert "TLS" in str(error)


async def test_a_frozen_handshake_ends_at_the_deadline(dovecot: Dovecot, trusted: Certificates) -> None:
    async with proxy(dovecot.tls) as through:
        through.freeze()
        to = account(Listener(through.host, through.port), dovecot.user(), Tls.IMPLICIT)
        with pytest.raises(Stalled):
            async with session(to, limits(connect_seconds=0.3)):
                raise AssertionError("logged in")


# --- what stays behind -----------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_fifty_sessions_leave_no_descriptor_open(dovecot: Dovecot, trusted: Certificates) -> None:
    user = dovecot.user()
    dovecot.append(user, b"Subject: hello\r\n\r\nbody\r\n")
    ways = [
        *(account(WAYS_IN[tls](dovecot), user, tls) for tls in WAYS_IN),
        account(dovecot.expired, user, Tls.IMPLICIT),
        account(dovecot.wrong_name, user, Tls.IMPLICIT),
        account(dovecot.no_tls, user, Tls.STARTTLS),
        account(dovecot.starttls, user, Tls.IMPLICIT),
    ]

    async def visit(number: int) -> None:
        to = ways[number % len(ways)]
        with suppress(MailServerError):
            async with examined(to) as opened:
                if number % 2:
                    with opened.fetch("1:*") as stream:
                        await stream.take(1000, 10, 0)
                if number % 3:
                    await opened.log_out()

    for number in range(len(ways)):
        await visit(number)
    before = await settled(descriptors)
    for number in range(50):
        await visit(number)
    assert await settled(descriptors) <= before


async def test_a_banner_of_another_protocol_is_told() -> None:
    for banner in (b"220 mail.example.test ESMTP\r\n", b"+OK POP3 ready\r\n", b"* HELLO\r\n", b"\r\nHTTP/1.1 400\r\n"):

        async def script(conversation: Conversation, banner: bytes = banner) -> None:
            await conversation.send(banner)
            await conversation.closed()

        async with scripted(script) as port:
            error = await refused(account_on(port), ProtocolError)
            assert "not an IMAP server" in str(error)
