"""What goes wrong with TLS: certificates, pins, versions, STARTTLS.

The words are this program's own and OpenSSL's (crypto/x509/x509_txt.c, ssl/ssl_err.c of 3.x).
"""

from __future__ import annotations

from typing import Final

from inboxd.causes.record import Diagnosis
from inboxd.errors import PinRefused, TlsFailed, TlsMissing

_CERTIFICATES: Final = (
    Diagnosis(
        "pin_changed",
        "the server shows another certificate than the pinned one: it was renewed, or somebody is in between",
        "if whoever runs the server confirms the new one, pin it: {option}trust {pin}",
        kinds=(PinRefused,),
    ),
    Diagnosis(
        "certificate_expired",
        "the server's certificate expired, on {since}",
        "have it renewed by whoever runs the server; if this machine's clock is wrong, set it",
        kinds=(TlsFailed,),
        words=("certificate has expired", "certificate expired"),
    ),
    Diagnosis(
        "certificate_not_yet",
        "the server's certificate is valid only from {begins} on",
        "set this machine's clock, which is probably slow; else have the certificate mended",
        kinds=(TlsFailed,),
        words=("not yet valid",),
    ),
    Diagnosis(
        "certificate_name",
        "the certificate is not for {host}, but for {names}",
        "use one of these names as the host, or pin the certificate: {option}trust {pin}",
        kinds=(TlsFailed,),
        words=("mismatch",),
    ),
    Diagnosis(
        "bridge_certificate",
        "Proton Mail Bridge signs its certificate itself",
        "pin it: {option}trust {pin}",
        kinds=(TlsFailed,),
        words=("self-signed", "self signed"),
        when=lambda failure: failure.is_bridge,
    ),
    Diagnosis(
        "certificate_self_signed",
        "the certificate is signed by itself, or by an authority of its own that this machine does not know: {issuer}",
        "if it is the right server, pin the certificate: {option}trust {pin}; or give the authority: {option}ca-file",
        kinds=(TlsFailed,),
        words=("self-signed", "self signed"),
    ),
    Diagnosis(
        "certificate_authority",
        "the certificate is from {issuer}, which this machine does not know; or the server leaves out a certificate"
        " in between",
        "have the server send its whole chain, or give the authority: {option}ca-file; or pin it: {option}trust {pin}",
        kinds=(TlsFailed,),
        words=("issuer", "unable to verify", "chain"),
    ),
    Diagnosis(
        "certificate_weak",
        "the certificate's key or signature is too weak to be trusted",
        "have it renewed with a key of at least 2048 bits (RSA) and SHA-256",
        kinds=(TlsFailed,),
        words=("too weak", "too small"),
    ),
    Diagnosis(
        "client_certificate_wanted",
        "the server wants to see a certificate of ours",
        "give it with {option}client-certificate and {option}client-key",
        kinds=(TlsFailed,),
        words=("certificate required",),
    ),
    Diagnosis(
        "tls_refused",
        "the server refuses our TLS and does not say why: it wants a client certificate, or other versions or ciphers",
        "give a certificate if whoever runs the server issued one ({option}client-certificate); else have it updated",
        kinds=(TlsFailed,),
        words=("handshake failure",),
    ),
    Diagnosis(
        "client_certificate_refused",
        "the server does not accept our client certificate: expired, or of an authority it does not know",
        "have one issued by whoever runs the server",
        kinds=(TlsFailed,),
        words=("client certificate",),
    ),
    Diagnosis(
        "tls_file",
        "a file of certificates that the connection names cannot be used",
        "mend the file or its path",
        kinds=(TlsFailed,),
        words=("cafile:", "clientcertificate:", "clientkey:"),
    ),
    Diagnosis(
        "certificate_refused",
        "the certificate cannot be verified; it is for {names}, from {issuer}",
        "mend the certificate; if it is the right server, pin it: {option}trust {pin}",
        kinds=(TlsFailed,),
        words=("certificate of",),
    ),
)
_SECURING: Final = (
    Diagnosis(
        "tls_version",
        "the server speaks only versions of TLS that are not allowed here: it is too old, or sslProtocols too strict",
        "have the server updated to TLS 1.2 or newer; allow TLSv1.2 in sslProtocols",
        kinds=(TlsFailed,),
        words=("protocol version", "unsupported protocol"),
    ),
    Diagnosis(
        "starttls_missing",
        "the server offers no STARTTLS on port {port}; nothing was sent in clear",
        "use implicit TLS on port {implicit_port}",
        kinds=(TlsMissing,),
    ),
    Diagnosis(
        "starttls_refused",
        "the server offers STARTTLS but does not begin it now: its certificate may be missing",
        "use implicit TLS on port {implicit_port}, or ask whoever runs the server",
        steps=("tls",),
        words=("refuses it", "not available"),
    ),
    Diagnosis(
        "tls_failed",
        "TLS could not be agreed on: most often the wrong TLS mode for the port",
        "use implicit TLS on port {implicit_port}, STARTTLS on port {starttls_port}",
        steps=("tls",),
    ),
)
SECURING: Final = (*_CERTIFICATES, *_SECURING)
