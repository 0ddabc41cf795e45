"""The handler of discovery: a mail address's servers before there is a connector."""

from __future__ import annotations

from inboxd.api.wire.discovery import DiscoverQuery, Discovery
from inboxd.discover.search import discover
from inboxd.services import Services


async def discover_settings(services: Services, query: DiscoverQuery) -> Discovery:
    """The IMAP and SMTP settings for a mail address, with their source, and what the provider wants for a secret."""
    return Discovery.found(await discover(query.email_address, services.settings.discovery))
