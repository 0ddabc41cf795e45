"""What goes wrong is told apart by what servers really say: each diagnosis, from the test of a connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from inboxd.causes import DIAGNOSES, Failure, diagnose
from inboxd.errors import (
    AuthRefused,
    ConnectionLost,
    ConsentRefused,
    InboxdError,
    Insecure,
    Invalid,
    Late,
    NeedsReauth,
    SendDeferred,
    SendRefused,
    SendUnknown,
    Stalled,
    TlsFailed,
    TokenUnavailable,
    Unreachable,
)
from inboxd.model import Account, Kind, Secret, Step, Tls
from inboxd.net import tls_failure
from inboxd.probe import probe
from inboxd.sections import CredentialSettings, ImapSettings, NetworkSettings, SmtpSettings
from inboxd.settings import Settings
from inboxd.ways import ProxyKind
from servers import LOOPBACK, Listener, free_port
from servers.certs import Certificates
from servers.dovecot import Dovecot, dovecot_of_its_own
from servers.scripted import Conversation, Script, scripted
from servers.sessions import account
from servers.tunnels import tunnels

PASSWORD: Final = "canary-of-causes"
ANYWHERE: Final = "mail.example.test"
GMAIL, GMAIL_SMTP = "imap.gmail.com", "smtp.gmail.com"
OFFICE, OFFICE_SMTP = "outlook.office365.com", "smtp.office365.com"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """In clear, so that a server of any name can be played without a certificate for it."""
    return Settings(
        state_dir=tmp_path,
        imap=ImapSettings(connect_seconds=0.5, command_seconds=0.5),
        smtp=SmtpSettings(connect_seconds=0.5, command_seconds=0.5, greeting_seconds=0.5),
        network=NetworkSettings(allow_plaintext=True),
        credentials=CredentialSettings(folders=str(tmp_path), allow_commands=True),
    )


async def last(to: Account, settings: Settings) -> Step:
    """The step that failed, which shows no password."""
    steps = [step async for step in probe(to, settings, lambda _line: None)]
    assert not steps[-1].ok, steps
    assert all(step.ok for step in steps[:-1])
    assert PASSWORD not in repr(steps)
    assert "{" not in steps[-1].cause + steps[-1].fix
    return steps[-1]


@dataclass(frozen=True)
class Said:
    """A server's words, and what is to be made of them. `at`: the command they answer, or GREETING."""

    diagnosis: str
    at: str
    words: str
    fix: str = ""
    host: str = ANYWHERE
    kind: Kind = Kind.IMAP
    user: str = "someone@example.test"
    changed: dict[str, Any] = field(default_factory=dict[str, Any])
    offers: str = ""

    def __str__(self) -> str:
        return f"{self.diagnosis}: {self.words}"


def mail(diagnosis: str, at: str, words: str, fix: str = "", host: str = ANYWHERE, **more: Any) -> Said:
    """The same over SMTP."""
    return Said(diagnosis, at, words, fix, host, Kind.SMTP, **more)


def play(said: Said) -> Script:
    """The server that says it."""
    return _play_smtp(said) if said.kind is Kind.SMTP else _play_imap(said)


def _play_imap(said: Said) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.send((said.words if said.at == "GREETING" else "* OK ready").encode() + b"\r\n")
        while True:
            tag, _, command = (await conversation.line()).decode().partition(" ")
            name = command.split(" ")[0].upper()
            if name == said.at:
                await conversation.send(f"{tag} {said.words}\r\n".encode())
                continue
            untagged = {
                "CAPABILITY": f"* CAPABILITY {said.offers or 'IMAP4rev1 AUTH=PLAIN SASL-IR IDLE'}\r\n",
                "LIST": '* LIST () "/" INBOX\r\n* LIST () "/" Invoices\r\n* LIST (\\Noselect) "/" Invoice\r\n',
            }
            await conversation.send(untagged.get(name, "").encode(), f"{tag} OK done\r\n".encode())

    return script


def _play_smtp(said: Said) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.send((said.words if said.at == "GREETING" else "220 ready").encode() + b"\r\n")
        while True:
            name = (await conversation.line()).decode().split(" ")[0].upper()
            if name == said.at or (said.at == "EHLO" and name == "HELO"):
                await conversation.send(said.words.replace("\n", "\r\n").encode() + b"\r\n")
            elif name == "EHLO":
                await conversation.send(f"250-here\r\n250 {said.offers or 'AUTH PLAIN'}\r\n".encode())
            else:
                await conversation.send(b"235 2.7.0 in\r\n")

    return script


@asynccontextmanager
async def played(said: Said) -> AsyncGenerator[Account]:
    """An account at that server, by its own name: a proxy knows where it is."""
    async with scripted(play(said)) as port, tunnels(ProxyKind.SOCKS5, {said.host: Listener(LOOPBACK, port)}) as far:
        to = Account(None, said.kind, said.host, 993, Tls.NONE, said.user, Secret(PASSWORD), proxy=far.proxy())
        yield replace(to, **said.changed)


LOGIN, SELECT, NO = "AUTHENTICATE", "EXAMINE", "NO [AUTHENTICATIONFAILED] "
SAID: Final = (
    # Google
    Said("app_password_needed", LOGIN, "NO [ALERT] Application-specific password required: https://support.google.com/"
         "accounts/answer/185833 (Failure)", "myaccount.google.com/apppasswords", GMAIL),
    Said("app_password_wanted", LOGIN, NO + "Invalid credentials (Failure)", "apppasswords", GMAIL),
    Said("imap_off_google", LOGIN, "NO [ALERT] Your account is not enabled for IMAP use. Please visit your Gmail"
         " settings page and enable your account for IMAP access. (Failure)", "Enable IMAP", GMAIL),
    Said("google_web_login", LOGIN, "NO [ALERT] Please log in via your web browser: https://support.google.com/mail/"
         "accounts/answer/78754 (Failure)", "browser", GMAIL),
    Said("too_many_connections", LOGIN, "NO [ALERT] Too many simultaneous connections. (Failure)", "close", GMAIL),
    Said("google_bandwidth", SELECT, "NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)",
         "24 hours", GMAIL),
    mail("app_password_needed", "AUTH", "534-5.7.9 Application-specific password required. For more information, go"
         " to\n534 5.7.9 https://support.google.com/mail/?p=InvalidSecondFactor x - gsmtp", "apppasswords", GMAIL_SMTP),
    mail("app_password_wanted", "AUTH", "535-5.7.8 Username and Password not accepted. For more information, go to\n"
         "535 5.7.8 https://support.google.com/mail/?p=BadCredentials x - gsmtp", "apppasswords", GMAIL_SMTP),
    mail("google_web_login", "AUTH", "534-5.7.14 <https://accounts.google.com/signin/continue?x> Please log in via your"
         " web browser and\n534 5.7.14 then try again. x - gsmtp", "browser", GMAIL_SMTP),
    # Microsoft
    Said("basic_auth_off", LOGIN, "NO AUTHENTICATE failed.", "OAuth2", OFFICE),
    Said("basic_auth_off", LOGIN, "NO LogonDenied-BasicAuthBlocked-10001", "OAuth2"),
    Said("microsoft_not_connected", SELECT, "BAD User is authenticated but not connected.", "primary address", OFFICE),
    mail("basic_auth_off", "AUTH", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled."
         " [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]", "OAuth2", OFFICE_SMTP),
    mail("smtp_auth_off_tenant", "AUTH", "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled"
         " for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.", "Set-CASMailbox someone@",
         OFFICE_SMTP),
    mail("smtp_auth_off_mailbox", "AUTH", "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is"
         " disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.", "Set-CASMailbox",
         OFFICE_SMTP),
    mail("security_defaults", "AUTH", "535 5.7.139 Authentication unsuccessful, user is locked by your organization's"
         " security defaults policy. Contact your administrator.", "administrator", OFFICE_SMTP),
    mail("basic_auth_off", "AUTH", "535 5.7.3 Authentication unsuccessful", "OAuth2", OFFICE_SMTP),
    mail("too_many_connections", "AUTH", "432 4.3.2 Concurrent connections limit exceeded. Visit"
         " https://aka.ms/concurrent_sending for more information.", "close", OFFICE_SMTP),
    # Other providers
    Said("app_password_wanted", LOGIN, NO + "(#AUTH007) Invalid credentials", "app password", "imap.mail.yahoo.com"),
    mail("app_password_wanted", "AUTH", "535 5.7.0 Authentication failed", "app password", "smtp.aol.com"),
    mail("too_many_bad_logins", "AUTH", "535 5.7.0 (#AUTH005) Too many bad auth attempts.", "pause",
         "smtp.mail.yahoo.com"),
    Said("user_name_local_part", LOGIN, NO + "Authentication Failed", "user name to someone", "imap.mail.me.com",
         user="someone@icloud.com"),
    Said("user_name_whole_address", LOGIN, NO + "Incorrect username or password", "address", "imap.fastmail.com",
         user="someone"),
    Said("app_password_wanted", LOGIN, NO + "Incorrect username, password or access token", "app password",
         "imap.fastmail.com"),
    Said("imap_maybe_off", LOGIN, "NO authentication failed", "IMAP was switched on", "imap.gmx.net",
         user="someone@gmx.net"),
    Said("imap_maybe_off", LOGIN, "NO authentication failed", "IMAP was switched on", "imap.web.de", user="someone"),
    Said("mail_password_wanted", LOGIN, NO + "Authentication failed.", "e-mail password", "secureimap.t-online.de"),
    Said("authorisation_code_needed", LOGIN, "NO Login fail. Account is abnormal, service is not open, password is"
         " incorrect, login frequency limited, or system is busy.", "authorisation code", "imap.qq.com"),
    Said("authorisation_code_needed", LOGIN, "NO LOGIN Login error or password error", "authorisation code",
         "imap.163.com"),
    Said("authorisation_code_needed", LOGIN, NO + "denied", "authorisation code", "imap.126.com"),
    Said("unsafe_login", SELECT, "NO EXAMINE Unsafe Login. Please contact kefu@188.com for help", "ID command",
         "imap.163.com"),
    Said("imap_off", LOGIN, "NO [ALERT] You are yet to enable IMAP for your account. Please contact your administrator"
         " (Failure)", "switch IMAP access on", "imap.zoho.eu"),
    Said("imap_maybe_off", LOGIN, NO + "Invalid credentials(Failure)", "switch IMAP access on", "imap.zoho.com"),
    Said("imap_off_yandex", LOGIN, NO + "LOGIN invalid credentials or IMAP is disabled sc=cYXlpv732Cg1",
         "imap.yandex.com", "imap.yandex.ru"),
    mail("app_password_needed", "AUTH", "535 5.7.0 NEOBHODIM parol prilozheniya https://help.mail.ru/mail/security/"
         "protection/external / Application password is REQUIRED", "app password", "smtp.mail.ru"),
    Said("bridge_password_wanted", LOGIN, "NO no such user", "Bridge", LOOPBACK, changed={"port": 1143}),
    # Anybody's
    Said("wrong_password", LOGIN, NO + "Authentication failed.", "web mail"),
    mail("wrong_password", "AUTH", "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", "web mail"),
    Said("account_locked", LOGIN, "NO Account is locked", "web site"),
    Said("password_expired", LOGIN, "NO [EXPIRED] That password isn't valid any more", "new password"),
    Said("no_permission", LOGIN, "NO [AUTHORIZATIONFAILED] No such authorization-ID", "administrator"),
    Said("too_many_connections", LOGIN, "NO [LIMIT] Maximum number of connections from user+IP exceeded"
         " (mail_max_userip_connections=10)", "close"),
    Said("login_throttled", LOGIN, "NO [UNAVAILABLE] Temporary authentication failure.", "wait"),
    mail("too_many_bad_logins", "AUTH", "454 4.7.0 Too many login attempts, please try again later. x - gsmtp", "pause",
         GMAIL_SMTP),
    mail("login_throttled", "AUTH", "454 4.7.0 Temporary authentication failure", "wait"),
    Said("tls_before_login", LOGIN, "NO [PRIVACYREQUIRED] Plaintext authentication disallowed", "implicit TLS"),
    Said("tls_before_login", LOGIN, "", "STARTTLS", offers="IMAP4rev1 LOGINDISABLED"),
    Said("no_common_mechanism", LOGIN, "", "mechanisms", changed={"mechanisms": ("CRAM-MD5",)}),
    Said("oauth2_only", LOGIN, "", "OAuth2", offers="IMAP4rev1 AUTH=XOAUTH2", changed={"mechanisms": ("PLAIN",)}),
    mail("oauth2_only", "AUTH", "", "OAuth2", offers="AUTH XOAUTH2"),
    mail("tls_before_login", "AUTH", "", "STARTTLS", offers="SIZE 1000"),
    mail("mechanism_unknown", "AUTH", "", "field", changed={"mechanisms": ("NONSENSE",)}),
    # Greetings and names
    Said("connections_used_up", "GREETING", "* BYE Too many connections", "close"),
    Said("server_busy", "GREETING", "* BYE Come again", "wait"),
    Said("pop3_port", "GREETING", "+OK POP3 ready", "993"),
    Said("smtp_port", "GREETING", "220 mail.example.test ESMTP Postfix", "993"),
    Said("http_port", "GREETING", "HTTP/1.1 400 Bad Request", "993"),
    Said("unknown_protocol", "GREETING", "SSH-2.0-OpenSSH_9.2", "993"),
    mail("imap_port", "GREETING", "* OK Dovecot ready.", "465"),
    mail("blocklisted", "GREETING", "554 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org",
         "list"),
    mail("greylisted_at_connect", "GREETING", "450 4.3.2 Greylisted, come back later", "five minutes"),
    mail("server_busy", "GREETING", "421 4.3.0 closing", "wait"),
    mail("connection_unwanted", "GREETING", "554 5.0.0 no service here", "words"),
    mail("local_name_refused", "EHLO", "550 5.7.1 EHLO argument does not match", "localHostName"),
    mail("local_name_unusable", "EHLO", "", "mail.example.org", changed={"local_host_name": "not a name"}),
    # Mailboxes
    Said("mailbox_missing", SELECT, "NO [NONEXISTENT] Mailbox doesn't exist: Invoice", "selectFolder",
         changed={"select_folder": "Invoice"}),
    Said("mailbox_forbidden", SELECT, "NO [NOPERM] Permission denied", "share"),
    Said("mailbox_busy", SELECT, "NO [SERVERBUG] Internal error", "later"),
    Said("mailbox_name_unusable", SELECT, "", "selectFolder", changed={"select_folder": "No\r\nwhere"}),
    Said("search_terms", "UID", "BAD Unknown argument NONSENSE", "search", changed={"search_terms": "NONSENSE"}),
)  # fmt: skip


@pytest.mark.parametrize("said", SAID, ids=str)
async def test_servers_words_lead_to_cause_and_fix(settings: Settings, said: Said) -> None:
    async with played(said) as to:
        step = await last(to, settings)
    assert (step.diagnosis, said.fix in step.fix) == (said.diagnosis, True), step


async def test_a_missing_mailbox_is_told_with_those_named_most_alike(settings: Settings) -> None:
    said = Said("", SELECT, "NO [NONEXISTENT] no", changed={"select_folder": "Invoice"})
    async with played(said) as to:
        step = await last(to, settings)
    assert "most like it: Invoices" in step.cause
    assert "Invoice," not in step.cause  # listed, but nothing that can be opened


# --- certificates, and which TLS a port speaks ------------------------------------------------------------------------


async def greet(conversation: Conversation) -> None:
    await conversation.send(b"* OK ready\r\n")
    await conversation.closed()


async def web(conversation: Conversation) -> None:
    """A web server: silent until it was asked."""
    await conversation.line()
    await conversation.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@dataclass(frozen=True)
class Port:
    """How a port is served, how it is spoken to, and what is to be made of it. `shows`: a certificate's name."""

    diagnosis: str
    shows: str = ""
    tls: Tls = Tls.IMPLICIT
    fix: str = ""
    script: Script = greet
    changed: dict[str, Any] = field(default_factory=dict[str, Any])
    trusted: bool = True


WRONG_PIN: Final = "sha256:" + "ab" * 32
PORTS: Final = (
    Port("certificate_expired", "expired", fix="renewed"),
    Port("certificate_name", "wrong_name", fix="one of these names"),
    Port("certificate_not_yet", "early", fix="clock"),
    Port("certificate_self_signed", "self_signed", fix="--trust PIN"),
    Port("certificate_authority", "good", trusted=False, fix="--ca-file"),
    Port("pin_changed", "good", fix="--trust PIN", changed={"ssl_trust": WRONG_PIN}),
    Port("pin_changed", "good", fix="--smtp-trust PIN", changed={"ssl_trust": WRONG_PIN, "kind": Kind.SMTP}),
    Port("tls_file", "good", fix="path", changed={"ca_file": "/nowhere.pem"}),
    Port("tls_from_the_start", "good", Tls.STARTTLS, fix="implicit TLS on this port"),
    Port("tls_from_the_start", "good", Tls.NONE, fix="implicit TLS on this port", changed={"kind": Kind.SMTP}),
    Port("no_tls_on_port", fix="STARTTLS on this port"),
    Port("http_port", fix="993", script=web),
    Port("http_port", tls=Tls.STARTTLS, fix="993", script=web),
    Port("greeting_silent", tls=Tls.NONE, fix="993", script=Conversation.closed),
    Port("tls_failed", fix="993", script=Conversation.closed),
)


def shown(certificates: Certificates, name: str, folder: Path) -> tuple[ssl.SSLContext | None, str]:
    """The server's side of TLS, and the pin of what it shows."""
    if not name:
        return None, ""
    if name == "early":
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "early.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        early = authority.issue_cert(LOOPBACK, not_before=tomorrow).private_key_and_cert_chain_pem
        early.write_to_path(folder / "shown.pem")
        context.load_cert_chain(folder / "shown.pem")
        return context, ""
    found = getattr(certificates, name, certificates.good)
    return found.server_context(), found.pin


@pytest.mark.parametrize("port", PORTS, ids=lambda port: f"{port.diagnosis}-{port.shows}-{port.tls.value}")
async def test_ways_tls_goes_wrong_are_told_apart(
    certificates: Certificates, settings: Settings, tmp_path: Path, port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, pin = shown(certificates, port.shows, tmp_path)
    if port.trusted:
        early = tmp_path / "early.pem"
        monkeypatch.setenv("SSL_CERT_FILE", str(early if early.exists() else certificates.ca_file))
    async with scripted(port.script, context=context) as at:
        to = Account(None, Kind.IMAP, LOOPBACK, at, port.tls, "someone", Secret(PASSWORD))
        step = await last(replace(to, **port.changed), settings)
    assert (step.diagnosis, port.fix.replace("PIN", pin) in step.fix) == (port.diagnosis, True), step


@contextmanager
def refusing(context: ssl.SSLContext) -> Generator[int]:
    """The port of a server whose TLS says why it ends the connection, as asyncio's does not."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as peer, context.wrap_socket(peer, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


@pytest.mark.parametrize(
    ("shows", "diagnosis", "fix"),
    [
        (None, "client_certificate_wanted", "--client-certificate"),
        ("stranger.pem", "client_certificate_refused", "issued"),
        ("", "tls_version", "TLS 1.2"),
    ],
)
async def test_what_a_server_demands_in_tls_is_told(
    trusted: Certificates, settings: Settings, tmp_path: Path, shows: str | None, diagnosis: str, fix: str
) -> None:
    trustme.CA().issue_cert("x@example.test").private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    context = trusted.good.server_context(clients=trusted.ca_file)
    to = Account(None, Kind.IMAP, LOOPBACK, 0, Tls.IMPLICIT, "someone", Secret(PASSWORD))
    if shows:
        to = replace(to, client_certificate=str(tmp_path / shows))
    if diagnosis == "tls_version":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        to = replace(to, ssl_protocols=("TLSv1.3",))
    with refusing(context) as port:
        step = await last(replace(to, port=port), settings)
    assert (step.diagnosis, fix in step.fix) == (diagnosis, True), step


async def test_bridges_certificate_is_told_with_its_pin(certificates: Certificates, settings: Settings) -> None:
    own = certificates.self_signed
    async with (
        scripted(greet, context=own.server_context()) as at,
        tunnels(ProxyKind.SOCKS5, {LOOPBACK: Listener(LOOPBACK, at)}) as far,
    ):
        to = Account(None, Kind.IMAP, LOOPBACK, 1143, Tls.IMPLICIT, "someone", Secret(PASSWORD), proxy=far.proxy())
        step = await last(to, settings)
    assert (step.diagnosis, step.fix) == ("bridge_certificate", f"pin it: --trust {own.pin}")


@pytest.mark.parametrize(
    ("listener", "tls", "diagnosis", "cause"),
    [
        ("expired", Tls.IMPLICIT, "certificate_expired", "expired, on 20"),
        ("wrong_name", Tls.IMPLICIT, "certificate_name", "but for mail.elsewhere.example"),
        ("no_tls", Tls.STARTTLS, "starttls_missing", "offers no STARTTLS"),
        ("starttls", Tls.IMPLICIT, "no_tls_on_port", "without TLS at the start"),
        ("tls", Tls.STARTTLS, "tls_from_the_start", "from the start"),
    ],
)
async def test_dovecots_ways_to_fail_are_told_apart(
    dovecot: Dovecot, trusted: Certificates, settings: Settings, listener: str, tls: Tls, diagnosis: str, cause: str
) -> None:
    to = account(getattr(dovecot, listener), dovecot.user(), tls)
    step = await last(to, settings)
    assert (step.diagnosis, cause in step.cause) == (diagnosis, True), step


async def test_a_connection_more_than_dovecot_allows_is_told(trusted: Certificates, settings: Settings) -> None:
    patient = settings.model_copy(update={"imap": ImapSettings()})
    with dovecot_of_its_own(trusted, more="mail_max_userip_connections = 2\n") as few:
        user = few.user()
        with few.session(user), few.session(user):
            step = await last(account(few.starttls, user, Tls.STARTTLS), patient)
    assert "mail_max_userip_connections=2" in step.detail
    assert step.diagnosis == "too_many_connections", step


async def test_starttls_that_is_refused_is_told(settings: Settings) -> None:
    said = mail("", "STARTTLS", "454 4.7.0 TLS not available due to local problem", offers="STARTTLS")
    async with played(replace(said, changed={"tls": Tls.STARTTLS})) as to:
        assert (await last(to, settings)).diagnosis == "starttls_refused"


async def test_a_login_claimed_before_tls_is_told(settings: Settings) -> None:
    async with played(Said("", "GREETING", "* PREAUTH welcome")) as to:
        assert (await last(to, settings)).diagnosis == "preauth_in_clear"


# --- on the way there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "step", "diagnosis"),
    [
        ({"host": "no-such-host.invalid"}, "resolve", "name_unknown"),
        ({}, "connect", "connection_refused"),
        ({"host": "127.0.0.9", "port": 1143}, "connect", "bridge_down"),
        ({"password_source": "file:/nowhere/at/all"}, "credential", "credential_not_allowed"),
        ({"password_source": "file:HERE/gone"}, "credential", "credential_missing"),
        ({"password_source": "file:HERE/empty"}, "credential", "credential_unreadable"),
        ({"password_source": "command:/bin/false"}, "credential", "credential_command_failed"),
    ],
)
async def test_what_fails_before_the_server_is_told(
    settings: Settings, tmp_path: Path, changed: dict[str, Any], step: str, diagnosis: str
) -> None:
    (tmp_path / "empty").touch(mode=0o600)
    to = Account(None, Kind.IMAP, LOOPBACK, free_port(), Tls.IMPLICIT, "someone", Secret(PASSWORD))
    changed = {name: value.replace("HERE", str(tmp_path)) if name == "password_source" else value
               for name, value in changed.items()}  # fmt: skip
    failed = await last(replace(to, **changed), settings)
    assert (failed.name, failed.diagnosis) == (step, diagnosis), failed


@pytest.mark.parametrize(
    ("kind", "answer", "login", "diagnosis"),
    [
        (ProxyKind.SOCKS5, None, ("someone", "else"), "proxy_login"),
        (ProxyKind.HTTP, None, ("someone", "else"), "proxy_login"),
        (ProxyKind.SOCKS5, b"\x05\x02\x00\x01" + bytes(6), None, "proxy_forbids"),
        (ProxyKind.HTTP, b"HTTP/1.1 403 Forbidden\r\n\r\n", None, "proxy_forbids"),
        (ProxyKind.SOCKS5, b"\x05\x05\x00\x01" + bytes(6), None, "proxy_cannot_reach"),
        (ProxyKind.HTTP, b"HTTP/1.1 502 Bad Gateway\r\n\r\n", None, "proxy_cannot_reach"),
        (ProxyKind.HTTP, b"SSH-2.0-x\r\n\r\n", None, "proxy_other_kind"),
        (None, None, None, "proxy_down"),
    ],
)
async def test_what_a_proxy_does_is_told(
    settings: Settings, kind: ProxyKind | None, answer: bytes | None, login: tuple[str, str] | None, diagnosis: str
) -> None:
    async with tunnels(kind or ProxyKind.SOCKS5, login=login, answer=answer) as far:
        proxy = far.proxy() if kind is not None else replace(far.proxy(), port=free_port())
        to = Account(None, Kind.IMAP, ANYWHERE, 993, Tls.IMPLICIT, "someone", Secret(PASSWORD), proxy=proxy)
        step = await last(to, settings)
    assert (step.name, step.diagnosis) == ("proxy", diagnosis), step


async def test_a_password_that_would_cross_a_network_in_clear_is_told(settings: Settings) -> None:
    strict = settings.model_copy(update={"network": NetworkSettings()})
    async with played(Said("", "GREETING", "* OK ready")) as to:
        assert (await last(to, strict)).diagnosis == "clear_text"


# --- what no server here can do ---------------------------------------------------------------------------------------


def handshake_failure() -> ssl.SSLError:
    """As Python raises it for the alert of that name."""
    error = ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)")
    error.reason = "SSLV3_ALERT_HANDSHAKE_FAILURE"
    return error


TOLD: Final[tuple[tuple[str, str, InboxdError], ...]] = (
    ("resolve", "name_server_down",
     Unreachable("resolve", "the host name 'x' does not resolve (Temporary failure in name resolution)")),
    ("connect", "network_unreachable", Unreachable("connect", "cannot connect to x port 993 (Network is unreachable)")),
    ("connect", "network_unreachable", Unreachable("connect", "cannot connect to x port 993 (No route to host)")),
    ("connect", "firewall", Stalled("connect", "x port 993 did not answer within 30 s")),
    ("connect", "connect_failed", Unreachable("connect", "x port 993 closed the connection at once")),
    ("tls", "certificate_weak", TlsFailed("tls", "the certificate of x was refused (EE certificate key too weak)")),
    ("tls", "certificate_refused", TlsFailed("tls", "the certificate of x was refused (certificate revoked)")),
    ("select", "broken_off", ConnectionLost("connection", "the server closed the connection")),
    ("tls", "tls_refused", tls_failure("x", handshake_failure())),
    ("login", "consent_ended", NeedsReauth("token", "the consent was taken back")),
    ("login", "consent_refused", ConsentRefused("unauthorized_client", "the provider refused")),
    ("login", "token_unavailable", TokenUnavailable("token", "the provider did not answer")),
    ("login", "oauth2_only", Insecure("login", "the server takes no password on this connection: use TLS or STARTTLS")),
    ("login", "no_login_offered", AuthRefused("auth", "the server offers no way to log in")),
    ("login", "password_in_clear", Insecure("auth", "the password would cross the network in clear")),
    ("accepted", "not_logged_in_for_sending",
     SendRefused("mail", "x", reply="530 5.7.57 Client not authenticated to send mail. [x]")),
    ("accepted", "sender_not_allowed",
     SendRefused("data", "x", reply="554 5.2.252 SendAsDenied; a@example.test not allowed to send as b@example.test")),
    ("accepted", "sender_not_allowed",
     SendRefused("rcpt", "x", reply="553 5.7.1 <a@example.test>: Sender address rejected: not owned by user b")),
    ("accepted", "relay_denied", SendRefused("rcpt", "x", reply="554 5.7.1 <a@example.test>: Relay access denied")),
    ("accepted", "mail_too_large",
     SendRefused("mail", "x", reply="552 5.3.4 Message size exceeds fixed limit")),
    ("accepted", "mailbox_full", SendDeferred("rcpt", "x", reply="452 4.2.2 The recipient's inbox is out of storage")),
    ("accepted", "recipient_unknown", SendRefused("rcpt", "x", reply="550 5.1.1 <a@example.test>: User unknown")),
    ("accepted", "greylisted",
     SendDeferred("rcpt", "x", reply="450 4.2.0 <a@example.test>: Recipient address rejected: Greylisted")),
    ("accepted", "sending_limit", SendRefused("data", "x", reply="550 5.4.5 Daily user sending limit exceeded.")),
    ("accepted", "taken_for_spam", SendRefused("data", "x", reply="550 5.7.26 Unauthenticated email is not accepted")),
    ("accepted", "acceptance_unknown", SendUnknown("data", "the whole mail was sent, then: nothing")),
    ("accepted", "mail_refused", SendRefused("data", "x", reply="554 Transaction failed")),
    ("delivered", "delivered_as_spam", Late("it is in Junk")),
    ("delivered", "not_delivered", Late("it is nowhere after 60 s")),
    ("detected", "not_stored", Late("it is in INBOX, and not stored after 60 s")),
)  # fmt: skip


@pytest.mark.parametrize(("step", "diagnosis", "error"), TOLD, ids=lambda value: str(value)[:60])
def test_errors_as_they_are_raised_are_told_apart(step: str, diagnosis: str, error: InboxdError) -> None:
    to = Account(None, Kind.SMTP, ANYWHERE, 465, Tls.IMPLICIT, "someone", Secret(PASSWORD))
    name, cause, fix = diagnose(Failure(step, error, to))
    assert name == diagnosis
    assert cause
    assert fix


def test_every_diagnosis_is_tested_and_fills_in_its_facts() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    names = [row.name for row in DIAGNOSES]
    assert len(set(names)) > 90
    assert [name for name in names if f'"{name}"' not in source] == []
    facts = Failure("login", Invalid("x", "y"), Account(None, Kind.IMAP, "h", 1, Tls.NONE, "u", Secret(""))).facts
    for row in DIAGNOSES:
        for sentence in (row.cause, row.fix):
            assert sentence.format_map(facts)
            assert not sentence.endswith(".")
