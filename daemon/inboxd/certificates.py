"""Certificates: what a server's says, pins that stand for one, and the PEM files a connection names.

A pin is `sha256:` and the SHA-256 of the certificate (its DER: what `openssl x509 -fingerprint -sha256` prints), or of
its public key (its SubjectPublicKeyInfo, RFC 7469 §2.4), which stays when the certificate is renewed with the same
key. Either will do. A pin stands in for authorities, names and dates; it is compared right after the handshake, before
anything is said inside.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from inboxd.errors import Invalid, PinRefused
from inboxd.model import Account
from inboxd.ways import ServerCertificate

Seen = Callable[[ServerCertificate], None]
PREFIX: Final = "sha256:"
_MOST_BYTES: Final = 4 << 20  # a file of all the world's authorities has 300 KB
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def pin_in(text: str) -> str:
    """A pin as it is kept; ValueError when the text, behind `sha256:` in any case, is no SHA-256.

    Hexadecimal digits, with colons between them or without, or base64.
    """
    digits = text[len(PREFIX) :].replace(":", "").lower()
    if _HEX.fullmatch(digits):
        return PREFIX + digits
    try:
        digest = base64.b64decode(text[len(PREFIX) :], validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ValueError("a pin is sha256: and 64 hexadecimal digits, or base64 of 32 bytes")
    return PREFIX + digest.hex()


def pins_of(trust: str | None) -> frozenset[str]:
    """The pins of an `ssl_trust`."""
    entries = (entry.strip().lower() for entry in (trust or "").split(","))
    return frozenset(entry for entry in entries if entry.startswith(PREFIX))


def shown(channel: ssl.SSLObject | None) -> ServerCertificate | None:
    """The certificate the peer showed in the handshake; None in clear."""
    der = channel.getpeercert(binary_form=True) if channel is not None else None
    return _read(der, channel.version() or "") if channel is not None and der else None


def check_pin(account: Account, channel: ssl.SSLObject | None) -> None:
    """Return when the account has no pins, or one of them is the peer's; else PinRefused, with the one seen."""
    pins = pins_of(account.ssl_trust)
    if not pins or channel is None:
        return
    seen = shown(channel)
    if seen is None:
        raise PinRefused("tls", f"{account.host} showed no certificate", ServerCertificate("", ""))
    if not pins & {seen.pin, seen.key_pin}:
        raise PinRefused("tls", f"the certificate of {account.host} is not the pinned one; it shows {seen.pin}", seen)


def _read(der: bytes, tls: str) -> ServerCertificate:
    pin = PREFIX + hashlib.sha256(der).hexdigest()
    try:
        parsed = x509.load_der_x509_certificate(der)
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return ServerCertificate(
            tls=tls,
            pin=pin,
            key_pin=PREFIX + hashlib.sha256(key).hexdigest(),
            subject=_printable(parsed.subject.rfc4514_string()),
            issuer=_printable(parsed.issuer.rfc4514_string()),
            names=_names(parsed),
            valid_from=parsed.not_valid_before_utc,
            valid_until=parsed.not_valid_after_utc,
        )
    except Exception:  # noqa: BLE001  # foreign bytes: the parser names no bound to what it may raise
        return ServerCertificate(tls, pin)


def _names(parsed: x509.Certificate) -> tuple[str, ...]:
    try:
        found = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return tuple(_printable(name) for name in (*found.get_values_for_type(x509.DNSName), *addresses))


def _printable(text: str) -> str:
    """At most 500 signs, none of which moves a cursor."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:500])


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a connection as they are now: each path with a stamp that changes with its content."""

    authorities: tuple[str, object] | None
    certificate: tuple[str, object] | None
    key: tuple[str, object] | None

    @classmethod
    def of(cls, ca_file: str | None, client_certificate: str | None, client_key: str | None) -> TlsFiles:
        """The files as they stand; Invalid, naming the field, for one that is none or cannot be looked at."""
        if client_key and not client_certificate:
            raise Invalid("clientCertificate", "is missing: clientKey is the key of a certificate")
        return cls(
            _stamped("caFile", ca_file),
            _stamped("clientCertificate", client_certificate),
            _stamped("clientKey", client_key),
        )

    def load_into(self, context: ssl.SSLContext) -> None:
        """Use them: the authorities instead of the system's. Invalid, naming the field, for one that will not do."""
        if self.authorities is not None:
            _load_authorities(context, self.authorities[0])
        if self.certificate is not None:
            key = self.key[0] if self.key is not None else None
            _load_certificate(context, self.certificate[0], key)


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    """Trust what is in a PEM file, be it an authority or the server's own certificate."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise Invalid("caFile", f"{path} holds no certificate in PEM") from None
    except OSError as error:
        raise Invalid("caFile", f"{path} cannot be read: {error.strerror}") from error


def _load_certificate(context: ssl.SSLContext, path: str, key: str | None) -> None:
    """The client's certificate with its key, which may stand in the same file."""
    where = ("clientKey", key) if key is not None else ("clientCertificate", path)
    encrypted = False

    def ask() -> str:
        nonlocal encrypted
        encrypted = True
        return ""

    try:
        context.load_cert_chain(path, key, password=ask)
    except (ssl.SSLError, ValueError) as error:
        if encrypted:
            raise Invalid(where[0], f"{where[1]} is encrypted; store the key without a passphrase, mode 0400") from None
        if "MISMATCH" in str(getattr(error, "reason", "")):
            raise Invalid(where[0], f"{where[1]} is not the key of the certificate in {path}") from None
        raise Invalid(*_blamed(path, key)) from None
    except OSError as error:
        raise Invalid(where[0], f"{path} or {where[1]} cannot be read: {error.strerror}") from error


def _blamed(path: str, key: str | None) -> tuple[str, str]:
    """Which of the two files does not parse."""
    try:
        x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (ValueError, OSError):
        return "clientCertificate", f"{path} holds no certificate in PEM"
    return "clientKey" if key else "clientCertificate", f"{key or path} holds no private key in PEM"


def _stamped(field: str, path: str | None) -> tuple[str, object] | None:
    if not path:
        return None
    if not path.startswith("/"):
        raise Invalid(field, "must be an absolute path on the daemon's machine")
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        raise Invalid(field, f"{path[:200]!a} cannot be read: {getattr(error, 'strerror', 'no such path')}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
        raise Invalid(field, f"{path} is no file, or larger than {_MOST_BYTES} bytes")
    return path, (found.st_mtime_ns, found.st_size, found.st_ino)
