"""When a server's words mean that it wants less of us for a while, and for how long (pure)."""

from __future__ import annotations

import re
from typing import Final

from inboxd.errors import MailServerError, ServerSaidBye, Throttled
from inboxd.imap.lines import response_code

# At a login (RFC 5530 §3): the account's, or the server's trouble, and no word on the password. SERVERBUG and THROTTLED
# are Dovecot's and Gmail's own use.
_LOGIN_CODES: Final = frozenset({"UNAVAILABLE", "LIMIT", "INUSE", "THROTTLED", "SERVERBUG", "OVERQUOTA"})
_LOGIN_WORDS: Final = ("too many", "try again", "temporar", "throttl", "rate limit", "maximum number of connections")
# At another command LIMIT, INUSE and UNAVAILABLE speak of one mailbox or message; the account's are Gmail's "exceeded
# command or bandwidth limits", and what imapflow's lib/imap-flow.js knows of Exchange ("Request is throttled").
_CODES: Final = frozenset({"THROTTLED", "OVERQUOTA"})
_WORDS: Final = ("throttl", "rate limit", "bandwidth limit", "432 4.3.2")
_CROWDED_WORDS: Final = (
    "too many connections", "too many simultaneous", "too many concurrent", "simultaneous connections",
    "concurrent connections", "connection limit", "connections limit", "maximum number of connections",
)  # fmt: skip
# There OVERQUOTA means a full mailbox (RFC 5530 §3), which keeps nobody from reading.
_STORING: Final = frozenset({"APPEND", "STORE"})
_HINT: Final = re.compile(
    r"(?:back-?off time|retry[- ]after|again (?:in|after)|wait(?: for)?)\W{0,3}(\d{1,9})\s{0,3}"
    r"(milliseconds?|ms|minutes?|min|seconds?|secs?|s)\b",
    re.IGNORECASE,
)
_UNITS: Final = {"ms": 0.001, "milliseconds": 0.001, "millisecond": 0.001, "min": 60.0, "minute": 60.0, "minutes": 60.0}


def refuses_for_now(reply: str) -> bool:
    """Whether a NO to a login says that it may be well later, rather than that the password is wrong."""
    code = response_code(reply.encode())[0]
    return code in _LOGIN_CODES or (code != "AUTHENTICATIONFAILED" and _says(reply, (*_LOGIN_WORDS, *_WORDS)))


def throttles(command: str, reply: str) -> bool:
    """Whether a NO or BAD to a command other than a login is about all that this account does."""
    code = response_code(reply.encode())[0]
    if command in _STORING and code == "OVERQUOTA":
        return False
    return code in _CODES or _says(reply, (*_WORDS, *_CROWDED_WORDS))


def throttled(stage: str, message: str, reply: str) -> Throttled:
    """The error, with what the server says of how long, and whether it is about the number of connections."""
    crowded = response_code(reply.encode())[0] == "LIMIT" or _says(reply, _CROWDED_WORDS)
    return Throttled(stage, message, reply=reply, hint_seconds=hint_seconds(reply), crowded=crowded)


def bye(reply: str) -> MailServerError:
    """What ends a connection whose server has said BYE in these words."""
    message = "the server closes the connection"
    return throttled("bye", message, reply) if throttles("", reply) else ServerSaidBye("bye", message, reply=reply)


def hint_seconds(reply: str) -> float | None:
    """How long the server wants us to wait, when it says so in figures."""
    found = _HINT.search(reply)
    if found is None:
        return None
    return float(found[1]) * _UNITS.get(found[2].lower(), 1.0)


def _says(reply: str, words: tuple[str, ...]) -> bool:
    lowered = reply.lower()
    return any(word in lowered for word in words)
