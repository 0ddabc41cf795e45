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
