"""What a connector would fetch, before anything is: its folders, their messages and bytes, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, final

from inboxd import providers
from inboxd.budgets import Budgets
from inboxd.dial import dial
from inboxd.errors import CommandRefused, MailboxRefused
from inboxd.imap.choosing import chosen
from inboxd.imap.session import Session
from inboxd.imap.sizing import measure
from inboxd.model import Account
from inboxd.settings import Settings
from inboxd.tokens import Tokens

# Assumed: a careful guess for a server on the internet. Mails from a server nearby come several times as fast.
_MESSAGES_PER_SECOND: Final = 100.0
_BYTES_PER_SECOND: Final = 2_000_000.0
_DAY_SECONDS: Final = 86_400.0


@final
@dataclass(frozen=True, slots=True)
class FolderSize:
    """A folder that is followed. `estimated`: its bytes; `error`: why it cannot be looked into."""

    name: str
    messages: int = 0
    size_bytes: int = 0
    estimated: bool = False
    error: str | None = None


async def look(
    account: Account, settings: Settings, budgets: Budgets, tokens: Tokens | None = None
) -> AsyncGenerator[FolderSize]:
    """The folders that the account's connector would read; MailServerError when the server cannot be asked."""
    async with dial(account, settings, budgets, tokens=tokens) as session:
        names = [account.select_folder]
        if account.folders:
            names = chosen(await session.mailboxes(), account.folders)
        for name in names:
            yield await _look_into(session, name, account.search_terms)
        await session.log_out()


async def _look_into(session: Session, name: str, terms: str | None) -> FolderSize:
    try:
        found = await measure(session, name, terms)
    except (CommandRefused, MailboxRefused) as error:
        return FolderSize(name, error=str(error))
    return FolderSize(name, found.messages, found.size_bytes, found.estimated)


def seconds_for(host: str, messages: int, size_bytes: int) -> float:
    """How long a first load of so much will take: at an assumed rate, and by what the provider gives out a day."""
    seconds = max(messages / _MESSAGES_PER_SECOND, size_bytes / _BYTES_PER_SECOND)
    quota = providers.quirks(host).bytes_per_day
    if quota is None or size_bytes <= quota:
        return seconds
    return (math.ceil(size_bytes / quota) - 1) * _DAY_SECONDS + (size_bytes % quota or quota) / _BYTES_PER_SECOND
