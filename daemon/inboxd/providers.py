"""What is known of mail providers: one row each, with its source and date."""

from __future__ import annotations

from dataclasses import dataclass

from inboxd.model import Tls


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider's servers. `source` says where the row comes from and when it was read."""

    name: str
    imap_host: str
    imap_port: int
    imap_tls: Tls
    smtp_host: str
    smtp_port: int
    smtp_tls: Tls
    source: str


GOOGLE = Provider(
    name="GOOGLE",
    imap_host="imap.gmail.com",
    imap_port=993,
    imap_tls=Tls.IMPLICIT,
    smtp_host="smtp.gmail.com",
    smtp_port=465,
    smtp_tls=Tls.IMPLICIT,
    source="developers.google.com/workspace/gmail/imap/imap-smtp, 2026-11",
)
MICROSOFT = Provider(
    name="MICROSOFT",
    imap_host="outlook.office365.com",
    imap_port=993,
    imap_tls=Tls.IMPLICIT,
    smtp_host="smtp-mail.outlook.com",
    smtp_port=587,
    smtp_tls=Tls.STARTTLS,
    source="support.microsoft.com: POP, IMAP, and SMTP settings for Outlook.com, 2026-11",
)
PROVIDERS: tuple[Provider, ...] = (GOOGLE, MICROSOFT)


@dataclass(frozen=True, slots=True)
class Habits:
    """What an SMTP service does and allows for one account; None where there is no limit known.

    `files_copy`: it puts what it sends into the Sent mailbox itself.
    """

    files_copy: bool = False
    connections: int | None = None
    per_minute: int | None = None
    per_day: int | None = None


# support.google.com/mail/answer/22839 (500 a day) and support.google.com/a/answer/166852 (2,000), 2026-11
_GMAIL = Habits(files_copy=True, per_day=500)
_WORKSPACE = Habits(files_copy=True, per_day=2_000)
# learn.microsoft.com: improvements in the SMTP authenticated submission client protocol, 2026-11
_MICROSOFT = Habits(files_copy=True, connections=3, per_minute=30, per_day=10_000)
_UNKNOWN = Habits()
_HABITS: dict[str, Habits] = {
    "smtp.gmail.com": _WORKSPACE,
    "smtp.googlemail.com": _WORKSPACE,
    "smtp.office365.com": _MICROSOFT,
    "smtp-mail.outlook.com": _MICROSOFT,
    "outlook.office365.com": _MICROSOFT,
}


# No source for a provider's limit of logins a second was found; this is a careful guess, not a measurement.
_LOGINS_PER_SECOND: dict[str, float] = dict.fromkeys(
    ("imap.gmail.com", "imap.googlemail.com", "outlook.office365.com", "imap-mail.outlook.com"), 5.0
)


def logins_per_second(imap_host: str) -> float | None:
    """How many IMAP logins a second a provider is to see from us at most; None where it is not known to be large."""
    return _LOGINS_PER_SECOND.get(imap_host.lower())


def habits(smtp_host: str, address: str | None) -> Habits:
    """What is known of the service at this host, for an account with this mail address."""
    found = _HABITS.get(smtp_host.lower().rstrip("."), _UNKNOWN)
    if found is _WORKSPACE and (address or "").lower().endswith(("@gmail.com", "@googlemail.com")):
        return _GMAIL
    return found


# support.google.com/a/answer/1071518: Gmail's bandwidth limits, 2,500 MB of download over IMAP a day, 2026-11
_DOWNLOAD_BYTES_PER_DAY: dict[str, int] = dict.fromkeys(("imap.gmail.com", "imap.googlemail.com"), 2_500_000_000)


def download_bytes_per_day(imap_host: str) -> int | None:
    """How much of one account's mail a provider gives out over IMAP in a day; None where no limit is known."""
    return _DOWNLOAD_BYTES_PER_DAY.get(imap_host.lower())
