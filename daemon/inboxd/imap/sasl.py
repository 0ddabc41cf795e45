"""How a session proves who it is: SASL PLAIN and CRAM-MD5, else the LOGIN command; OAUTHBEARER or XOAUTH2 with a token.

XOAUTH2: developers.google.com/workspace/gmail/imap/xoauth2-protocol. OAUTHBEARER: RFC 7628.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import final

from inboxd.bearing import BEARER_MECHANISMS, Bearing
from inboxd.errors import AuthRefused, Insecure, Invalid, ProtocolError
from inboxd.imap.asked import Asked
from inboxd.imap.lines import quoted
from inboxd.model import Secret

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")
_SHORTEST_HIDDEN = 4  # a shorter password is part of too many honest words


@final
class Authenticate(Asked):
    """AUTHENTICATE whose answers to challenges come from `answers`, one each."""

    def __init__(self, tag: str, mechanism: str, answers: list[Callable[[bytes], bytes]], initial: str = "") -> None:
        super().__init__("AUTHENTICATE", tag, *filter(None, (mechanism, initial)))
        self._answers = answers
        self._cancelled = False

    def proceed(self, challenge: bytes) -> bytes | None:
        """The next answer in base64; `*` cancels when the server asks more than the mechanism has to say.

        ProtocolError when it goes on asking: a server that does not read either would have us collect answers for it.
        """
        if not self._answers:
            if self._cancelled:
                raise ProtocolError("login", "the server asks on after the login was cancelled")
            self._cancelled = True
            return b"*"
        return base64.b64encode(self._answers.pop(0)(challenge))


@final
class Present(Asked):
    """AUTHENTICATE with a token. `complaint` is what the server says of it before its NO (RFC 7628 §3.2.3)."""

    def __init__(self, tag: str, bearing: Bearing, *, initial_response: bool) -> None:
        first = base64.b64encode(bearing.message)
        super().__init__(
            "AUTHENTICATE", tag, *filter(None, (bearing.mechanism, first.decode() if initial_response else ""))
        )
        self._bearing = bearing
        self._answers = [*([] if initial_response else [first]), bearing.acknowledgement]
        self.complaint = ""

    def proceed(self, challenge: bytes) -> bytes | None:
        """The token, then the acknowledgement of a complaint; ProtocolError when the server goes on asking."""
        if not self._answers:
            raise ProtocolError("login", "the server asks on after it refused the token")
        if len(self._answers) == 1:
            self.complaint = self._bearing.complaint(challenge)
        return self._answers.pop(0)


@final
class LoginLiterals(Asked):
    """LOGIN with both arguments as literals, for what a quoted string may not carry (RFC 3501 §4.3)."""

    def __init__(self, tag: str, user: bytes, password: bytes) -> None:
        super().__init__("LOGIN", tag, f"{{{len(user)}}}")
        self._lines = [user + b" {%d}" % len(password), password]

    def proceed(self, _challenge: bytes) -> bytes | None:
        return self._lines.pop(0) if self._lines else None


def choose(capabilities: frozenset[str], allowed: tuple[str, ...]) -> str:
    """The mechanism to use: what the server offers and the connector allows, PLAIN first; else LOGIN the command.

    AuthRefused when nothing is left; Insecure when the server forbids LOGIN on this connection.
    """
    permitted = allowed or MECHANISMS
    for mechanism in ("PLAIN", "CRAM-MD5"):
        if mechanism in permitted and f"AUTH={mechanism}" in capabilities:
            return mechanism
    if "LOGIN" not in permitted:
        offered = ", ".join(sorted(name[5:] for name in capabilities if name.startswith("AUTH="))) or "none"
        raise AuthRefused("login", f"the server offers no allowed mechanism (offered: {offered})")
    if "LOGINDISABLED" in capabilities:
        raise Insecure("login", "the server takes no password on this connection: use TLS or STARTTLS")
    return "LOGIN"


def choose_bearer(capabilities: frozenset[str], allowed: tuple[str, ...]) -> str:
    """The mechanism for a token that the server offers and the connector allows; AuthRefused when there is none."""
    for mechanism in BEARER_MECHANISMS:
        if (not allowed or mechanism in allowed) and f"AUTH={mechanism}" in capabilities:
            return mechanism
    offered = ", ".join(sorted(name[5:] for name in capabilities if name.startswith("AUTH="))) or "none"
    raise AuthRefused("login", f"the server offers no allowed mechanism for OAuth2 tokens (offered: {offered})")


def spellings(user: str, password: Secret) -> tuple[bytes, ...]:
    """How a server might repeat the password: as it is, quoted, and inside PLAIN's base64."""
    secret = password.reveal()
    if len(secret) < _SHORTEST_HIDDEN:
        return ()
    plain = f"\0{user}\0{secret}".encode()
    quoted_secret = secret.replace("\\", "\\\\").replace('"', '\\"')
    return secret.encode(), quoted_secret.encode(), base64.b64encode(secret.encode()), base64.b64encode(plain)


def command(mechanism: str, tag: str, user: str, password: Secret, *, initial_response: bool) -> tuple[Asked, str]:
    """The login command and how a trace may show it."""
    name, secret = user.encode(), password.reveal().encode()
    if b"\0" in name + secret:
        raise Invalid("username" if b"\0" in name else "password", "must not contain NUL")
    if mechanism == "PLAIN":
        plain = b"\0" + name + b"\0" + secret
        if initial_response:
            sent = Authenticate(tag, "PLAIN", [], base64.b64encode(plain).decode())
            return sent, f"{tag} AUTHENTICATE PLAIN ***"
        return Authenticate(tag, "PLAIN", [lambda _: plain]), f"{tag} AUTHENTICATE PLAIN"
    if mechanism == "CRAM-MD5":
        return Authenticate(tag, "CRAM-MD5", [lambda c: _cram_md5(name, secret, c)]), f"{tag} AUTHENTICATE CRAM-MD5"
    if (user + password.reveal()).isascii():
        arguments = quoted(user, "username"), quoted(password.reveal(), "password")
        return Asked("LOGIN", tag, *arguments), f"{tag} LOGIN *** ***"
    return LoginLiterals(tag, name, secret), f"{tag} LOGIN *** ***"


def _cram_md5(user: bytes, secret: bytes, challenge: bytes) -> bytes:
    try:
        text = base64.b64decode(challenge, validate=True)
    except ValueError as error:
        raise ProtocolError("login", "the server's CRAM-MD5 challenge is not base64") from error
    digest = hmac.new(secret, text, hashlib.md5).hexdigest()
    return user + b" " + digest.encode()
