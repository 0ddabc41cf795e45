"""`inboxd rotate-key`: another key for the vault, while no daemon runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from inboxd.errors import SettingsError
from inboxd.resealing import Resealed, finish, vault_of
from inboxd.serve import locked
from inboxd.settings import Settings
from inboxd.store.engine import open_store
from inboxd.vault import prepare_next, read_key

_WHERE_IT_IS_SET: Final = [
    "vault.key: is set: change it where it is set (credential inboxd.vault.key, INBOXD_VAULT__KEY, or [vault] key):",
    "  1. make one: openssl rand -base64 32",
    "  2. set it as vault.key, and the present one as vault.previous_key (credential inboxd.vault.previous_key)",
    "  3. restart inboxd, which seals everything anew and logs secrets_resealed; or run this again before you start it",
    "  4. take vault.previous_key away",
]


async def rotate_key(settings: Settings, key_file: Path | None) -> Resealed:
    """Seal everything under a new key: a fresh one, the one in `key_file`, or the configured one.

    StoreBusy while a daemon runs on the state folder; SettingsError says what to set where when the key is a setting
    and is not changed yet; Conflict when a change to another key is unfinished; StoreError, SecretUnreadable.
    """
    with locked(settings.state_dir):
        if settings.vault.key is None:
            prepare_next(settings.state_dir, None if key_file is None else read_key(key_file))
        vault = vault_of(settings)
        if settings.vault.key is not None and (key_file is not None or not vault.has_older):
            raise SettingsError(_WHERE_IT_IS_SET)
        async with open_store(settings.store_url) as store:
            return await finish(settings, store, vault)
