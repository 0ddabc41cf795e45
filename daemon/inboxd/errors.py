"""One error tree. Foreign exceptions are translated into it at the door of the room that met them.

`retry` says whether trying the same again later may help: a supervisor loops on True and parks on False.
Every message is a sentence a person can act on; it never holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from inboxd.outbox import Refusal
    from inboxd.ways import ServerCertificate

_LONGEST_HINT_SECONDS: Final = 3600.0


class InboxdError(Exception):
    """The root of every error this program raises on purpose."""

    retry: ClassVar[bool] = False


class Invalid(InboxdError):
    """Somebody gave a value that cannot be used. `field` names it; the message says what would do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotFound(InboxdError):
    """The thing asked for by id or name does not exist."""


class Conflict(InboxdError):
    """The request cannot be carried out on the present state."""


class AnotherMailbox(Conflict):
    """An OAuth2 consent was given by somebody else than the connector's mailbox; a person may say that it is meant."""


class SettingsError(InboxdError):
    """The configuration cannot be used. `lines` holds one sentence per mistake."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class InUse(InboxdError):
    """Something this program needs is taken by another one, or out of reach, at this moment."""

    retry = True


class StoreError(InboxdError):
    """The database cannot be used, or failed. Mostly that passes: a lock, a full disk, a server restarting."""

    retry = True


class StoreNewer(StoreError):
    """The database was written by a newer inboxd than this one."""

    retry = False


class StoreCorrupt(StoreError):
    """The database file is damaged, or is no database: only a backup helps."""

    retry = False


class StoreBusy(InUse):
    """Another inboxd holds the same state folder."""


class SecretUnreadable(InboxdError):
    """A stored secret cannot be decrypted: wrong key, or the row was tampered with."""


class MailServerError(InboxdError):
    """A mail server, or the way to it, failed.

    `stage` says where: token, credential, proxy, resolve, connect, tls, greeting, starttls, login, select, search,
    fetch, idle, list, append, store, ehlo, auth, mail, rcpt, data, or how the connection itself failed: answer, read,
    command, connection, bye, closed.
    `reply` holds the server's own words where it spoke; `refused` what it said to single recipients of a mail.
    """

    retry: ClassVar[bool] = True
    pause_seconds: float = 0.0
    reason: ClassVar[str] = "error"

    def __init__(self, stage: str, message: str, *, reply: str = "") -> None:
        super().__init__(f"{message}: {reply}" if reply else message)
        self.stage = stage
        self.reply = reply
        self.refused: Mapping[str, Refusal] = {}


class Unreachable(MailServerError):
    """The name does not resolve, or nothing answers there in time."""

    reason = "unreachable"


class TlsFailed(MailServerError):
    """TLS could not be agreed on, or the certificate was refused. Nobody but the server's owner can mend it."""

    pause_seconds = 900.0
    reason = "tls"


class PinRefused(TlsFailed):
    """The server shows a certificate that none of the connection's pins is for; `seen` is that certificate."""

    def __init__(self, stage: str, message: str, seen: ServerCertificate) -> None:
        super().__init__(stage, message)
        self.seen = seen


class TlsMissing(MailServerError):
    """The connector asks for STARTTLS and the server does not offer it: nothing is sent in clear instead."""

    pause_seconds = 900.0
    reason = "tls"


class Insecure(MailServerError):
    """A password would have to cross the network in clear."""

    retry = False
    reason = "insecure"


class AuthRefused(MailServerError):
    """The server refused the user name, the password or the mechanism."""

    retry = False
    reason = "auth"


class PasswordStale(AuthRefused):
    """The server refused a password that is kept outside: whoever keeps it may be about to change it."""

    retry = True
    pause_seconds = 900.0


class CredentialFailed(MailServerError):
    """The password could not be read where it is kept: no such file for now, or a command that failed."""

    pause_seconds = 60.0
    reason = "credential"


class CredentialRefused(CredentialFailed):
    """The settings do not allow that place, or it can never hold a password."""

    retry = False


class ProxyFailed(MailServerError):
    """The proxy cannot be reached, breaks its protocol, or cannot reach the server."""

    reason = "proxy"


class ProxyRefused(ProxyFailed):
    """The proxy refused its login, or does not let this server be reached. Only people can mend either."""

    pause_seconds = 900.0


class ConsentRefused(AuthRefused):
    """An OAuth2 provider refused, in its own words; `code` is its error's name (RFC 6749 §5.2, RFC 8628 §3.5)."""

    def __init__(self, code: str, message: str, *, reply: str = "") -> None:
        super().__init__("token", message, reply=reply)
        self.code = code


class NeedsReauth(AuthRefused):
    """The connector's OAuth2 grant is of no use any more: a person has to consent anew."""

    reason = "needs_reauth"


class TokenUnavailable(MailServerError):
    """An OAuth2 provider could not be reached, or answered with nothing that can be used, for now."""

    reason = "token"


class SessionSpent(MailServerError):
    """The session was ended by plan: the token that it logged in with ends soon. The next one goes on where it was."""

    reason = "renewed"


class MailboxRefused(MailServerError):
    """The mailbox cannot be opened: it does not exist or may not be read."""

    retry = False
    reason = "mailbox"


class Throttled(MailServerError):
    """The server asks for fewer connections or commands for a while; the password is not to blame.

    `hint_seconds` is for how long, where it says so, an hour at most; `crowded`: it counts connections.
    """

    pause_seconds = 60.0
    reason = "throttled"

    def __init__(
        self,
        stage: str,
        message: str,
        *,
        reply: str = "",
        hint_seconds: float | None = None,
        crowded: bool = False,
    ) -> None:
        super().__init__(stage, message, reply=reply)
        self.hint_seconds = None if hint_seconds is None else min(hint_seconds, _LONGEST_HINT_SECONDS)
        if self.hint_seconds is not None:
            self.pause_seconds = self.hint_seconds
        self.crowded = crowded


class NoRoom(Throttled):
    """Not the server but this program's own budget for an account lets no connection begin at this moment."""


class ConnectionLost(MailServerError):
    """The connection ended before the answer came."""

    reason = "lost"


class ServerSaidBye(ConnectionLost):
    """The server announced that it closes the connection."""

    reason = "bye"


class Stalled(MailServerError):
    """The server did not answer within the deadline; the connection was dropped."""

    reason = "stalled"


class ProtocolError(MailServerError):
    """The server's answer does not follow the protocol, or breaks a limit; the connection was dropped."""

    reason = "protocol"


class CommandRefused(MailServerError):
    """The server answered NO or BAD to a command that ought to work."""

    reason = "refused"


class CommandMalformed(CommandRefused):
    """The server answered BAD: it does not understand the command."""


class SendRefused(MailServerError):
    """The server refused the mail, or every recipient, for good (5xx)."""

    retry = False
    reason = "refused"


class SendDeferred(MailServerError):
    """The server refused the mail for now (4xx)."""

    reason = "deferred"


class SendUnknown(MailServerError):
    """The connection ended after the whole mail was handed over: it may or may not have been accepted."""

    retry = False
    reason = "unknown"


class Late(InboxdError):
    """A mail that was on its way has not come where it should, in time."""

    retry = True


class Unparsable(InboxdError):
    """The bytes of a mail defeated every parser. The bytes are kept all the same."""


class PostFailed(InboxdError):
    """A webhook's receiver could not be reached, may not be reached, or gave no answer in time."""

    retry = True


def _with_kin(kind: type[MailServerError]) -> dict[str, type[MailServerError]]:
    kin = {kind.__name__: kind}
    for heir in kind.__subclasses__():
        kin |= _with_kin(heir)
    return kin


# By their names, under which the outbox remembers what ended a try.
MAIL_SERVER_ERRORS: dict[str, type[MailServerError]] = _with_kin(MailServerError)
