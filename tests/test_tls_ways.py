"""TLS in all its forms, over IMAP and SMTP: what stands in for an authority, and what a server may demand of us."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from inboxd import certificates as pins
from inboxd import net
from inboxd.budgets import Budgets
from inboxd.dial import dial, shown_certificate
from inboxd.errors import Invalid, MailServerError, PinRefused, TlsFailed
from inboxd.imap.session import Session as ImapSession
from inboxd.model import Account, Kind, Secret, Tls
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session as open_smtp
from inboxd.smtp.session import Session as SmtpSession
from inboxd.ways import ServerCertificate
from servers import LOOPBACK, Listener
from servers.certs import Certificate, Certificates
from servers.dovecot import Dovecot, dovecot_of_its_own
from servers.sessions import BOTH_LOOPS, account
from servers.smtp import PASSWORD, USER, SmtpServer, smtp_server

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
WRONG_PIN = "sha256:" + "ab" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def dialled(to: Account, settings: Settings) -> AbstractAsyncContextManager[ImapSession]:
    return dial(to, settings, Budgets(settings.imap))


async def open_and_close(to: Account, settings: Settings) -> None:
    async with dialled(to, settings):
        pass


async def certificate_over_smtp(to: Account, settings: Settings, trace: list[str]) -> ServerCertificate | None:
    """What a logged-in SMTP session was shown."""
    sock = await net.connect_account(to, 5, allow_plaintext=False)
    async with open_smtp(sock, to, settings.smtp, net.tls_context(to), trace.append) as session:
        opened: SmtpSession = session
        return opened.certificate


def smtp_account(server: SmtpServer, **changed: Any) -> Account:
    made = Account(None, Kind.SMTP, server.host, server.port, server.tls, USER, Secret(PASSWORD))
    return replace(made, **changed)


# --- pins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "shown", "tls"),
    [
        ("tls", "good", Tls.IMPLICIT),
        ("starttls", "good", Tls.STARTTLS),
        ("expired", "expired", Tls.IMPLICIT),
        ("wrong_name", "wrong_name", Tls.IMPLICIT),
    ],
)
async def test_a_pin_stands_in_for_authority_date_and_name(
    dovecot: Dovecot, certificates: Certificates, settings: Settings, listener: str, shown: str, tls: Tls
) -> None:
    certificate: Certificate = getattr(certificates, shown)
    server: Listener = getattr(dovecot, listener)
    to = account(server, dovecot.user(), tls, ssl_trust=f"{WRONG_PIN},{certificate.pin}")
    async with dialled(to, settings) as session:
        assert session.tls
        seen = session.certificate
    assert seen is not None
    assert seen.pin == certificate.pin
    async with dialled(replace(to, ssl_trust=seen.key_pin), settings) as session:
        assert session.certificate == seen


@pytest.mark.parametrize(("listener", "tls"), [("tls", Tls.IMPLICIT), ("starttls", Tls.STARTTLS)])
async def test_a_wrong_pin_ends_the_connection_before_the_login_and_says_what_was_seen(
    dovecot: Dovecot, trusted: Certificates, settings: Settings, listener: str, tls: Tls
) -> None:
    user = dovecot.user()
    to = account(getattr(dovecot, listener), user, tls, ssl_trust=WRONG_PIN)
    with pytest.raises(PinRefused, match=trusted.good.pin) as told:
        await open_and_close(to, settings)
    assert told.value.stage == "tls"
    assert told.value.retry
    assert user.name not in dovecot.log


@pytest.mark.parametrize("tls", [Tls.IMPLICIT, Tls.STARTTLS])
async def test_smtp_is_pinned_alike(certificates: Certificates, settings: Settings, tls: Tls) -> None:
    """By a certificate nobody signed but itself."""
    own = certificates.self_signed
    with smtp_server(tls, context=own.server_context(), users={USER: PASSWORD}) as server:
        to = smtp_account(server)
        with pytest.raises(TlsFailed, match="self-signed"):
            await certificate_over_smtp(to, settings, [])
        seen = await certificate_over_smtp(replace(to, ssl_trust=own.pin), settings, [])
        assert seen is not None
        assert seen.pin == own.pin
        assert "AUTH" in server.commands
        server.commands.clear()
        with pytest.raises(PinRefused, match=own.pin):
            await certificate_over_smtp(replace(to, ssl_trust=WRONG_PIN), settings, [])
        assert not [command for command in server.commands if command.startswith("AUTH")]
        assert await shown_certificate(to, settings) == seen


async def test_the_certificate_of_a_server_nobody_trusts_can_be_looked_at(
    dovecot: Dovecot, certificates: Certificates, settings: Settings
) -> None:
    user = dovecot.user()
    for listener, tls in ((dovecot.expired, Tls.IMPLICIT), (dovecot.starttls, Tls.STARTTLS)):
        seen = await shown_certificate(account(listener, user, tls), settings)
        expected = certificates.expired if tls is Tls.IMPLICIT else certificates.good
        assert seen.pin == expected.pin
        assert seen.tls == "TLSv1.3"
        assert "inboxd tests" in seen.issuer
        assert {"localhost", "127.0.0.1"} <= set(seen.names)
        assert seen.valid_until is not None
        assert (seen.valid_until < datetime.now(UTC)) is (tls is Tls.IMPLICIT)
        assert abs(seen.valid_until - datetime.now(UTC)) > timedelta(hours=1)
    with pytest.raises(MailServerError, match="uses no TLS"):
        await shown_certificate(account(dovecot.no_tls, user), settings)
    assert user.name not in dovecot.log


@pytest.mark.parametrize("spelling", ["{0}", "{1}", "sha256:{2}", "SHA256:{3}"])
def test_a_pin_may_be_written_as_tools_print_it(certificates: Certificates, spelling: str) -> None:
    pin = certificates.good.pin
    digest = bytes.fromhex(pin.removeprefix("sha256:"))
    colons, base64 = ":".join(f"{byte:02X}" for byte in digest), pins.base64.b64encode(digest).decode()
    assert pins.pin_in(spelling.format(pin, pin.upper(), colons, base64)) == pin


@pytest.mark.parametrize("text", ["sha256:", "sha256:00ff", "sha256:" + "g" * 64, "sha256:" + "A" * 43, "sha256:é"])
def test_what_is_no_digest_is_no_pin(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        pins.pin_in(text)


# --- the authority's file ---------------------------------------------------------------------------------------------


async def test_a_file_of_authorities_verifies_and_is_read_again_when_it_changes(
    dovecot: Dovecot, certificates: Certificates, settings: Settings, tmp_path: Path
) -> None:
    """Also over what sslTrust says: the stricter one counts."""
    own = tmp_path / "authority.pem"
    shutil.copyfile(certificates.self_signed.chain, own)
    to = account(dovecot.tls, dovecot.user(), Tls.IMPLICIT, ca_file=str(own), ssl_trust="*")
    with pytest.raises(TlsFailed, match=r"certificate of 127\.0\.0\.1 was refused"):
        await open_and_close(to, settings)
    shutil.copyfile(certificates.ca_file, own)
    async with dialled(to, settings) as session:
        assert session.tls
    for listener, words in ((dovecot.expired, "expired"), (dovecot.wrong_name, "mismatch")):
        with pytest.raises(TlsFailed, match=words):
            await open_and_close(replace(to, host=listener.host), settings)
    own.unlink()
    with pytest.raises(TlsFailed, match=r"caFile.*No such file"):
        await open_and_close(to, settings)


async def test_the_servers_own_certificate_will_do_for_an_authority(
    certificates: Certificates, settings: Settings
) -> None:
    own = certificates.self_signed
    with smtp_server(Tls.IMPLICIT, context=own.server_context(), users={USER: PASSWORD}) as server:
        assert await certificate_over_smtp(smtp_account(server, ca_file=str(own.chain)), settings, [])


# --- the client's certificate -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demanding(certificates: Certificates) -> Generator[Dovecot]:
    """A Dovecot that lets nobody in without a certificate of the tests' authority."""
    demand = "ssl_ca = <$ca\nssl_require_crl = no\nssl_verify_client_cert = yes\nauth_ssl_require_client_cert = yes\n"
    with dovecot_of_its_own(certificates, more=demand) as server:
        yield server


async def test_a_server_that_demands_a_certificate_gets_it(
    demanding: Dovecot, trusted: Certificates, settings: Settings, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(trusted.client.chain.read_bytes() + trusted.client.key.read_bytes())
    to = account(demanding.tls, demanding.user(), Tls.IMPLICIT)
    with pytest.raises(MailServerError, match="certificate"):
        await open_and_close(to, settings)
    shown = {"client_certificate": str(trusted.client.chain), "client_key": str(trusted.client.key)}
    for files in (shown, {"client_certificate": str(both)}):
        async with dialled(replace(to, **files), settings) as session:
            assert (await session.examine("INBOX")).exists == 0


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


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_server_that_wants_a_certificate_is_understood(
    trusted: Certificates, settings: Settings, kind: Kind
) -> None:
    """In TLS 1.3 it says so only after the handshake."""
    with refusing(trusted.good.server_context(clients=trusted.ca_file)) as port:
        to = Account(None, kind, LOOPBACK, port, Tls.IMPLICIT, USER, Secret(PASSWORD))
        with pytest.raises(TlsFailed, match="wants a client certificate"):
            await (open_and_close(to, settings) if kind is Kind.IMAP else certificate_over_smtp(to, settings, []))


async def test_smtp_gets_the_certificate_it_demands(trusted: Certificates, settings: Settings) -> None:
    context = trusted.good.server_context(clients=trusted.ca_file)
    with smtp_server(Tls.IMPLICIT, context=context, users={USER: PASSWORD}) as server:
        files = {"client_certificate": str(trusted.client.chain), "client_key": str(trusted.client.key)}
        assert await certificate_over_smtp(smtp_account(server, **files), settings, [])


def test_files_that_will_not_do_are_named_by_their_field(certificates: Certificates, tmp_path: Path) -> None:
    chain, key = str(certificates.client.chain), str(certificates.client.key)
    junk, locked = tmp_path / "junk.pem", tmp_path / "locked.key"
    junk.write_text("junk")
    loaded = load_pem_private_key(Path(key).read_bytes(), None)
    locked.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")))
    net.check_tls_files(str(certificates.ca_file), chain, key)
    cases: list[tuple[tuple[str | None, str | None, str | None], str]] = [
        ((str(junk), None, None), "caFile: .*no certificate"),
        ((str(tmp_path / "none.pem"), None, None), "caFile: .*No such file"),
        (("ca.pem", None, None), "caFile: .*absolute"),
        ((str(tmp_path), None, None), "caFile: .*no file"),
        (("/dev/zero", None, None), "caFile: .*no file"),
        ((None, str(junk), key), "clientCertificate: .*no certificate"),
        ((None, chain, str(junk)), "clientKey: .*no private key"),
        ((None, chain, None), "clientCertificate: .*no private key"),
        ((None, None, key), "clientCertificate: is missing"),
        ((None, chain, str(certificates.good.key)), "clientKey: .*not the key of the certificate"),
        ((None, chain, str(locked)), "clientKey: .*encrypted"),
    ]
    for files, words in cases:
        with pytest.raises(Invalid, match=words):
            net.check_tls_files(*files)


def test_a_protocol_floor_is_kept(certificates: Certificates) -> None:
    to = Account(None, Kind.IMAP, "mail.example", 993, Tls.IMPLICIT, "u", Secret("p"), ssl_protocols=("TLSv1.3",))
    context = net.tls_context(replace(to, ca_file=str(certificates.ca_file)))
    assert context is not None
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
