"""Through a proxy: it resolves the name, every failure says whose it is, and nothing of its login is shown."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from inboxd import net
from inboxd.budgets import Budgets
from inboxd.dial import dial, shown_certificate
from inboxd.errors import Insecure, MailServerError, ProxyFailed, ProxyRefused, Stalled, TlsFailed, Unreachable
from inboxd.model import Account, Kind, Secret, Tls
from inboxd.probe import probe
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session as open_smtp
from inboxd.ways import Proxy, ProxyKind
from servers import LOOPBACK, Listener, free_port
from servers.certs import INSIDE, Certificates
from servers.dovecot import Dovecot
from servers.scripted import Conversation, scripted
from servers.sessions import BOTH_LOOPS, account
from servers.smtp import PASSWORD, USER, smtp_server
from servers.tunnels import tunnels

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
LOGIN = ("someone", "pr0xy-canary")
KINDS = list(ProxyKind)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def inside(proxy: Proxy, tls: Tls = Tls.IMPLICIT, host: str = INSIDE, kind: Kind = Kind.IMAP) -> Account:
    """A server that nobody but the proxy can name."""
    return Account(None, kind, host, 993, tls, "user", Secret("secret-canary"), proxy=proxy)


async def refused(to: Account, seconds: float = 5, *, allow_plaintext: bool = False) -> MailServerError:
    """What connecting ends with; it holds nothing of the login."""
    with pytest.raises(MailServerError) as told:
        (await net.connect_account(to, seconds, allow_plaintext=allow_plaintext)).close()
    assert not any(secret in str(told.value) for secret in (LOGIN[1], "c29tZW9uZTpw", "secret-canary"))
    return told.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("login", [None, LOGIN])
async def test_imap_is_reached_by_a_name_that_the_proxy_alone_knows(
    dovecot: Dovecot, trusted: Certificates, settings: Settings, kind: ProxyKind, login: tuple[str, str] | None
) -> None:
    """With the certificate checked for that name; implicit TLS and STARTTLS, whose greeting follows at once."""
    user = dovecot.user()
    for listener, tls in ((dovecot.tls, Tls.IMPLICIT), (dovecot.starttls, Tls.STARTTLS)):
        async with tunnels(kind, {INSIDE: listener}, login=login) as far:
            to = account(Listener(INSIDE, 993), user, tls, proxy=far.proxy(*login or ()))
            async with dial(to, settings, Budgets(settings.imap)) as session:
                assert (await session.examine("INBOX")).exists == 0
            assert far.asked == [f"{INSIDE}:993"]
            assert (await shown_certificate(to, settings)).pin == trusted.good.pin
    async with tunnels(kind, {INSIDE: dovecot.wrong_name}) as far:
        with pytest.raises(TlsFailed, match="mismatch"):
            await _open_and_close(inside(far.proxy()), settings)


async def _open_and_close(to: Account, settings: Settings) -> None:
    async with dial(to, settings, Budgets(settings.imap)):
        pass


@pytest.mark.parametrize("kind", KINDS)
async def test_smtp_is_reached_alike(trusted: Certificates, settings: Settings, kind: ProxyKind) -> None:
    context = trusted.good.server_context()
    with smtp_server(Tls.STARTTLS, context=context, users={USER: PASSWORD}) as server:
        async with (
            tunnels(kind, {INSIDE: Listener(server.host, server.port)}, login=LOGIN) as far,
            AsyncExitStack() as on,
        ):
            to = Account(None, Kind.SMTP, INSIDE, 587, Tls.STARTTLS, USER, Secret(PASSWORD), proxy=far.proxy(*LOGIN))
            sock = await net.connect_account(to, 5, allow_plaintext=False)
            opening = open_smtp(sock, to, settings.smtp, net.tls_context(to), lambda _: None)
            session = await on.enter_async_context(opening)
            await session.send(USER, ["ada@example.test"], b"Subject: through\r\n\r\nhello\r\n")
        assert [mail.login for mail in server.received] == [USER]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
async def test_an_address_is_asked_for_as_one(kind: ProxyKind, host: str) -> None:
    async with tunnels(kind, answer=b"") as far:
        await refused(inside(far.proxy(), host=host))
    shown = f"[{host}]" if kind is ProxyKind.HTTP and ":" in host else host
    assert far.asked == [f"{shown}:993"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_login_is_the_proxys_refusal(kind: ProxyKind) -> None:
    async with tunnels(kind, login=LOGIN) as far:
        for login in (("someone", "wrong"), ("", "")):
            error = await refused(inside(far.proxy(*login)))
            assert type(error) is ProxyRefused
            assert error.stage == "proxy"
            assert "user name" in str(error)


@pytest.mark.parametrize(
    ("kind", "answer", "words", "error"),
    [
        (ProxyKind.SOCKS5, b"\x05\x02\x00\x01" + bytes(6), "not allowed by its rules", ProxyRefused),
        (ProxyKind.SOCKS5, b"\x05\x05\x00\x01" + bytes(6), "connection refused", ProxyFailed),
        (ProxyKind.SOCKS5, b"\x05\xee\x00\x01" + bytes(6), "reply 238", ProxyFailed),
        (ProxyKind.SOCKS5, b"\x04\x00\x00\x01" + bytes(6), "does not speak SOCKS5", ProxyFailed),
        (ProxyKind.SOCKS5, b"\x05\x00\x00", "closed the connection", ProxyFailed),
        (ProxyKind.HTTP, b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden", ProxyRefused),
        (ProxyKind.HTTP, b"HTTP/1.0 503 \x1b[2J\r\n\r\n", r"503 \?\[2J", ProxyFailed),
        (ProxyKind.HTTP, b"* OK this is IMAP\r\n\r\n", "does not speak HTTP", ProxyFailed),
        (ProxyKind.HTTP, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, "does not speak HTTP", ProxyFailed),
        (ProxyKind.HTTP, b"HTTP/1.1 200 OK\r\n", "closed the connection", ProxyFailed),
    ],
)
async def test_what_a_proxy_refuses_is_told(
    kind: ProxyKind, answer: bytes, words: str, error: type[MailServerError]
) -> None:
    async with tunnels(kind, answer=answer) as far:
        with pytest.raises(error, match=words) as told:
            await net.connect_account(inside(far.proxy()), 5, allow_plaintext=False)
    assert told.value.stage == "proxy"
    assert str(told.value).isprintable()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_behind_the_proxy_that_is_not_there_is_told(kind: ProxyKind) -> None:
    closed = Listener(LOOPBACK, free_port())
    async with tunnels(kind, {INSIDE: closed}) as far:
        error = await refused(inside(far.proxy()))
    assert type(error) is ProxyFailed
    assert f"does not connect to {INSIDE} port 993" in str(error)


async def test_a_proxy_that_is_not_there_is_told() -> None:
    for host, words in ((LOOPBACK, "Connection refused"), ("no-such-proxy.invalid", "does not resolve")):
        error = await refused(inside(Proxy(ProxyKind.SOCKS5, host, free_port())))
        assert type(error) is ProxyFailed
        assert words in str(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_silent_proxy_stalls_at_the_deadline(kind: ProxyKind) -> None:
    async def silence(conversation: Conversation) -> None:
        await conversation.closed()

    async with scripted(silence) as port:
        error = await refused(inside(Proxy(kind, LOOPBACK, port)), 0.2)
    assert type(error) is Stalled
    assert error.stage == "proxy"


async def test_nothing_is_sent_in_clear_to_a_name_that_only_the_proxy_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async with tunnels(ProxyKind.SOCKS5, answer=b"") as far:
        for host in (INSIDE, "8.8.8.8"):
            assert type(await refused(inside(far.proxy(), Tls.NONE, host))) is Insecure
        assert not far.asked
        for to, allowed in ((inside(far.proxy(), Tls.NONE, LOOPBACK), False), (inside(far.proxy(), Tls.NONE), True)):
            assert type(await refused(to, allow_plaintext=allowed)) is ProxyFailed
        assert len(far.asked) == 2
    async with tunnels(ProxyKind.HTTP, login=LOGIN, answer=b"") as far:
        monkeypatch.setattr(net, "_NEAR", ())
        error = await refused(inside(far.proxy(*LOGIN)))
        assert type(error) is Insecure
        assert "proxy" in str(error)
        assert not far.asked


@pytest.mark.parametrize("kind", KINDS)
async def test_a_host_that_is_none_never_reaches_the_proxy(kind: ProxyKind) -> None:
    async with tunnels(kind) as far:
        for host in ("a\r\nX: y", "two words", "x" * 300, "", "\0", "a/b", "\ud800"):
            assert type(await refused(inside(far.proxy(), host=host))) is Unreachable, host
        assert not far.asked


async def test_a_login_that_socks_has_no_room_for_is_told() -> None:
    async with tunnels(ProxyKind.SOCKS5, login=LOGIN) as far:
        error = await refused(inside(far.proxy("someone", "x" * 256)))
        assert "proxyPassword: SOCKS5 has room for" in str(error)


async def test_an_international_name_is_asked_for_in_ascii() -> None:
    async with tunnels(ProxyKind.SOCKS5, answer=b"") as far:
        await refused(inside(far.proxy(), host="bücher.example"))
        assert far.asked == ["xn--bcher-kva.example:993"]


async def test_the_staged_test_names_the_proxy(settings: Settings) -> None:
    async with tunnels(ProxyKind.HTTP, login=LOGIN) as far:
        to = replace(inside(far.proxy()), proxy=far.proxy("someone", "wrong"))
        steps = [step async for step in probe(to, settings, lambda _: None)]
    assert [(step.name, step.ok) for step in steps] == [("proxy", False)]
    assert "proxy" in steps[0].cause
