"""A certificate authority for the tests, and certificates that are right or wrong in one known way."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

INSIDE = "mail.inside.test"
NAMES = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1", INSIDE)
WRONG_NAME = "mail.elsewhere.example"
YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate chain and private key, each as a PEM file."""

    chain: Path
    key: Path

    def server_context(self, *, clients: Path | None = None) -> ssl.SSLContext:
        """A fresh context for a server that shows this certificate, and demands one of the authority in `clients`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @property
    def pin(self) -> str:
        """The SHA-256 of the first certificate, as sslTrust has it."""
        der = ssl.PEM_cert_to_DER_cert(self.chain.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----")
        return f"sha256:{hashlib.sha256(der).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Certificates:
    """`good` names localhost and the loopback addresses; `expired` ended a day ago; `wrong_name` names another host;
    `client` is a person's.

    All are signed by the authority in `ca_file`, which no client trusts by itself, but for `self_signed`.
    """

    ca_file: Path
    good: Certificate
    expired: Certificate
    wrong_name: Certificate
    client: Certificate
    self_signed: Certificate

    def client_context(self) -> ssl.SSLContext:
        """A verifying client context that trusts the authority."""
        return ssl.create_default_context(cafile=str(self.ca_file))


def issue(folder: Path) -> Certificates:
    """A new authority and its certificates, written below `folder`."""
    authority = trustme.CA(organization_name="inboxd tests")
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    now = datetime.now(UTC)
    return Certificates(
        ca_file=ca_file,
        good=_write(folder, "good", authority.issue_cert(*NAMES)),
        expired=_write(
            folder,
            "expired",
            authority.issue_cert(*NAMES, not_before=now - timedelta(days=30), not_after=now - timedelta(days=1)),
        ),
        wrong_name=_write(folder, "wrong_name", authority.issue_cert(WRONG_NAME)),
        client=_write(folder, "client", authority.issue_cert("someone@example.test")),
        self_signed=_sign_itself(folder / "self_signed.pem", folder / "self_signed.key"),
    )


def _sign_itself(chain: Path, key_file: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + YEAR)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    chain.write_bytes(signed.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Certificate(chain, key_file)


def _write(folder: Path, name: str, leaf: trustme.LeafCert) -> Certificate:
    certificate = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(certificate.chain, append=number > 0)
    leaf.private_key_pem.write_to_path(certificate.key)
    return certificate


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for the whole run."""
    return issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """The certificates, with the authority trusted by every default context made in this test and its children."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    return certificates
