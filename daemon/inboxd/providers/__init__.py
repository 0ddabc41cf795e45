"""What is known of mail providers, looked up by domain, by mail exchanger, and by host."""

from __future__ import annotations

from dataclasses import replace

from inboxd.providers.record import Habits, LoginName, Provider, Quirks, Server, Wanted
from inboxd.providers.table import GOOGLE, MICROSOFT, PROVIDERS

__all__ = [
    "GOOGLE",
    "MICROSOFT",
    "PROVIDERS",
    "Habits",
    "LoginName",
    "Provider",
    "Quirks",
    "Server",
    "Wanted",
    "by_domain",
    "by_exchanger",
    "by_host",
    "habits",
    "logins_per_second",
    "longest_idle_seconds",
    "quirks",
]

# support.google.com/mail/answer/22839, 2026-11: a personal account sends less than one of a company.
_GMAIL_PER_DAY = 500
_GMAIL = ("@gmail.com", "@googlemail.com")
_BY_DOMAIN = {domain: provider for provider in PROVIDERS for domain in provider.domains}
_BY_EXCHANGER = {domain: provider for provider in PROVIDERS for domain in provider.mx}
# Where two share a host, the first of the table stands for both: what is asked for by host is the host's. What runs
# on the loopback address is anybody's.
_BY_HOST = {host: row for row in reversed(PROVIDERS) for host in row.hosts if not host.startswith("127.")}
_LONGEST_IDLE_SECONDS = 29 * 60.0  # RFC 2177: servers may end a session idle for 30 minutes
_NO_QUIRKS = Quirks()
_NO_HABITS = Habits()


def by_domain(domain: str) -> Provider | None:
    """The provider whose own addresses end in this domain."""
    return _BY_DOMAIN.get(_plain(domain))


def by_exchanger(host: str) -> Provider | None:
    """The provider that takes mail at this host for others' domains; a hint, for it may only forward or filter."""
    labels = _plain(host).split(".")
    names = (".".join(labels[at:]) for at in range(len(labels) - 1))
    return next((found for name in names if (found := _BY_EXCHANGER.get(name)) is not None), None)


def by_host(host: str) -> Provider | None:
    """The provider with a server of this name."""
    return _BY_HOST.get(_plain(host))


def longest_idle_seconds(imap_host: str) -> float:
    """After so long an IDLE at this host is to be begun anew."""
    return min(_LONGEST_IDLE_SECONDS, quirks(imap_host).idle_seconds or _LONGEST_IDLE_SECONDS)


def quirks(imap_host: str) -> Quirks:
    """What is known of the IMAP service at this host."""
    found = by_host(imap_host)
    return found.quirks if found is not None else _NO_QUIRKS


def logins_per_second(imap_host: str) -> float | None:
    """How many IMAP logins a second a provider is to see from us at most; None where it is not known to be large."""
    return quirks(imap_host).logins_per_second


def habits(smtp_host: str, address: str | None) -> Habits:
    """What is known of the service at this host, for an account with this mail address."""
    found = by_host(smtp_host)
    if found is not None and found is GOOGLE and (address or "").lower().endswith(_GMAIL):
        return replace(found.habits, per_day=_GMAIL_PER_DAY)
    return found.habits if found is not None else _NO_HABITS


def _plain(name: str) -> str:
    return name.lower().rstrip(".")
