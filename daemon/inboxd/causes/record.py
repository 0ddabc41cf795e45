"""What a failed step of a test is known by, and what a diagnosis of it says."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from inboxd import providers
from inboxd.errors import InboxdError, MailServerError
from inboxd.model import Account, Kind
from inboxd.providers import Provider
from inboxd.ways import ServerCertificate

_MOST_NAMES: Final = 8
# Where Proton Mail Bridge listens unless told otherwise; no provider of that name is known by the loopback address.
_BRIDGE_PORTS: Final = frozenset({1143, 1025})
_IMPLICIT_PORT: Final = {Kind.IMAP: 993, Kind.SMTP: 465}
_STARTTLS_PORT: Final = {Kind.IMAP: 143, Kind.SMTP: 587}
# How inboxctl's options begin for each half.
_OPTION: Final = {Kind.IMAP: "--", Kind.SMTP: "--smtp-"}


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed, and what was found out about it afterwards.

    `certificate`: the one the server shows. `spoken`: the first words of the port when nobody begins TLS. `begins_tls`:
    the port turned out to expect TLS from the start. `near`: mailboxes of the account, those named most alike first.
    """

    step: str
    error: InboxdError
    account: Account
    certificate: ServerCertificate | None = None
    spoken: str = ""
    begins_tls: bool = False
    near: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What was said, by us and by the server, in lower case."""
        return str(self.error).lower()

    @property
    def answer(self) -> str:
        """The server's own words, as far as it spoke."""
        return self.spoken or (self.error.reply if isinstance(self.error, MailServerError) else "")

    @property
    def is_bridge(self) -> bool:
        """Whether the account is where Proton Mail Bridge listens."""
        return self.account.port in _BRIDGE_PORTS and _is_loopback(self.account.host)

    @property
    def provider(self) -> Provider | None:
        """Whose server it is, if that is known."""
        if self.is_bridge:
            return next(row for row in providers.PROVIDERS if row.name == "PROTON")
        return providers.by_host(self.account.host)

    @property
    def facts(self) -> dict[str, object]:
        """What the sentences of a diagnosis may name."""
        account, seen, provider = self.account, self.certificate, self.provider
        return {
            "host": account.host,
            "port": account.port,
            "user": account.username,
            "local": account.username.partition("@")[0],
            "folder": account.select_folder,
            "near": ", ".join(self.near) or "none that can be listed",
            "implicit_port": _IMPLICIT_PORT[account.kind],
            "starttls_port": _STARTTLS_PORT[account.kind],
            "option": _OPTION[account.kind],
            "protocol": account.kind.value.upper(),
            "pin": seen.pin if seen is not None else "sha256:…",
            "subject": (seen.subject if seen is not None else "") or "nobody",
            "issuer": (seen.issuer if seen is not None else "") or "an unnamed authority",
            "names": (", ".join(seen.names[:_MOST_NAMES]) if seen is not None else "") or "no name at all",
            "since": _day(seen, "valid_until"),
            "begins": _day(seen, "valid_from"),
            "title": provider.title if provider is not None else account.host,
            "how": provider.how if provider is not None else "ask whoever runs the server",
        }


def _day(seen: ServerCertificate | None, field: str) -> str:
    moment = getattr(seen, field, None)
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment is not None else "an unknown date"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@final
@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that goes wrong: its name, what causes it and what mends it, and the failures it fits.

    A failure fits when it is at one of `steps`, its error one of `kinds`, one of `words` (in lower case) is in what was
    said, the server is one of `providers`, and `when` holds; what is left out fits all. `cause` and `fix` may name the
    facts of the failure in braces.
    """

    name: str
    cause: str
    fix: str
    steps: tuple[str, ...] = ()
    kinds: tuple[type[InboxdError], ...] = ()
    words: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    when: Callable[[Failure], bool] | None = None

    def fits(self, failure: Failure) -> bool:
        """Whether this is what went wrong."""
        provider = failure.provider
        return (
            (not self.steps or failure.step in self.steps)
            and (not self.kinds or isinstance(failure.error, self.kinds))
            and (not self.words or any(word in failure.words for word in self.words))
            and (not self.providers or (provider is not None and provider.name in self.providers))
            and (self.when is None or self.when(failure))
        )
