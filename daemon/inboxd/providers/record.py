"""What a row of the table of mail providers says."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from inboxd.model import Tls


class LoginName(enum.Enum):
    """What a server takes for the user name, made of a mail address."""

    ADDRESS = "address"
    LOCAL_PART = "local part"

    def of(self, address: str) -> str:
        """The user name for that address."""
        return address if self is LoginName.ADDRESS else address.rpartition("@")[0]


class Wanted(enum.Enum):
    """The secret a provider wants from a mail program."""

    ACCOUNT = "password"
    APP = "app password"
    MAIL = "mail password"
    BRIDGE = "bridge password"
    CODE = "authorisation code"
    OAUTH2 = "OAuth2"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a provider serves IMAP or SMTP, and who logs in there."""

    host: str
    port: int
    tls: Tls
    login: LoginName = LoginName.ADDRESS


@dataclass(frozen=True, slots=True)
class Habits:
    """What an SMTP service does and allows for one account; None where there is no limit known.

    `files_copy`: it puts what it sends into the Sent mailbox itself. None: sources disagree, or there is none; then the
    Sent mailbox is looked into before a copy is filed, as it always is.
    """

    files_copy: bool | None = None
    connections: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Quirks:
    """What an IMAP service allows one account and asks of it; None where nothing is known.

    `connections`: at the same time. `idle_seconds`: a longer IDLE may die in silence. `session_seconds`: after so long
    the server ends a connection. `bytes_per_day`: downloaded; who takes more is locked out for hours.
    `logins_per_second`: of all accounts together. `wants_id`: mailboxes open only after the ID command (RFC 2971).
    """

    connections: int | None = None
    idle_seconds: float | None = None
    session_seconds: float | None = None
    bytes_per_day: int | None = None
    logins_per_second: float | None = None
    wants_id: bool = False


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail provider: its servers, what it wants, what it does.

    `domains`: whose addresses are its own. `mx`: domains its mail exchangers are in, where it serves others' domains.
    `aliases`: further hosts of the same service. `how`: how to get the secret, one line. `oauth2`: taken as well.
    `source`: where the row comes from and when it was read.
    """

    name: str
    title: str
    domains: tuple[str, ...]
    imap: Server
    smtp: Server
    wanted: Wanted
    how: str
    source: str
    oauth2: bool = False
    mx: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    quirks: Quirks = Quirks()
    habits: Habits = Habits()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host it serves at."""
        return (self.imap.host, self.smtp.host, *self.aliases)
