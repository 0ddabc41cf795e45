"""How a token is shown to a mail server: the messages of XOAUTH2 and OAUTHBEARER, and what it says when it refuses one.

XOAUTH2: developers.google.com/workspace/gmail/imap/xoauth2-protocol. OAUTHBEARER: RFC 7628 §3.1, RFC 5801 §4.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Final, cast

from inboxd.errors import Invalid
from inboxd.model import Account, Bearer

BEARER_MECHANISMS: Final = ("OAUTHBEARER", "XOAUTH2")  # the standard first
_SEPARATORS: Final = re.compile("[\\x00-\\x1f\\x7f]")
_MOST_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Bearing:
    """A mechanism's message, and what a client answers to the complaint about it, as it goes on the wire."""

    mechanism: str
    message: bytes
    acknowledgement: bytes

    def __repr__(self) -> str:
        return f"Bearing({self.mechanism})"

    @property
    def spellings(self) -> tuple[bytes, ...]:
        """How a server might repeat the token: by itself, and inside the message."""
        token = self.message.rpartition(b"Bearer ")[2].rstrip(b"\x01")
        return token, base64.b64encode(self.message)

    def complaint(self, challenge: bytes) -> str:
        """What the server says of the token, by its JSON in base64; nothing where it says nothing."""
        token = self.spellings[0].decode()
        return _words(challenge).replace(token, "***")


def bearing(mechanism: str, account: Account, bearer: Bearer) -> Bearing:
    """The message that logs the account in; Invalid when its user name cannot be part of it."""
    user, token = account.username, bearer.token.reveal()
    if not user or _SEPARATORS.search(user):
        raise Invalid("username", "must be the mailbox's address, without control characters")
    if mechanism == "XOAUTH2":
        return Bearing(mechanism, f"user={user}\x01auth=Bearer {token}\x01\x01".encode(), b"")
    name = user.replace("=", "=3D").replace(",", "=2C")
    way = f"host={account.host}\x01port={account.port}\x01auth=Bearer {token}"
    return Bearing(mechanism, f"n,a={name},\x01{way}\x01\x01".encode(), base64.b64encode(b"\x01"))


def _words(challenge: bytes) -> str:
    try:
        found: object = json.loads(base64.b64decode(challenge.strip(), validate=True))
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    said = [f"{name} {value}" for name, value in cast("dict[str, object]", found).items() if isinstance(value, str)]
    return "".join(mark if mark.isprintable() else " " for mark in ", ".join(said)[:_MOST_WORDS])
