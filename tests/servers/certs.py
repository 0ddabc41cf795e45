"""A certificate authority for the tests, and certificates that are right or wrong in one known way."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

NAMES = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1")
WRONG_NAME = "mail.elsewhere.example"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate chain and private key, each as a PEM file."""

    chain: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """A fresh context for a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


@dataclass(frozen=True, slots=True)
class Certificates:
    """`good` names localhost and the loopback addresses; `expired` ended a day ago; `wrong_name` names another host.

    All are signed by the authority in `ca_file`, which no client trusts by itself.
    """

    ca_file: Path
    good: Certificate
    expired: Certificate
    wrong_name: Certificate

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
    )


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
