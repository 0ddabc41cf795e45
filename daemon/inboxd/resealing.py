"""Secrets that another key sealed are sealed anew under the vault's present one; then that key takes its place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from inboxd import logs
from inboxd.settings import Settings
from inboxd.store import sealed
from inboxd.store.engine import Store
from inboxd.vault import Vault, open_vault, promote_next

_log = logs.logger("vault")


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many secrets were sealed anew, and where those lie that no key opens."""

    count: int = 0
    unreadable: tuple[str, ...] = ()


def vault_of(settings: Settings) -> Vault:
    """The vault that the settings and the state folder hold the keys of; SettingsError, SecretUnreadable."""
    key, previous = (
        None if key is None else key.get_secret_value() for key in (settings.vault.key, settings.vault.previous_key)
    )
    return open_vault(key, settings.state_dir, previous)


async def finish(settings: Settings, store: Store, vault: Vault) -> Resealed:
    """Seal anew whatever the vault's first key did not seal, and put that key in its place in the state folder.

    Interrupted at any moment, the same call goes on: until the end all keys concerned are there. What no key opens is
    left, and logged.
    """
    if not vault.has_older:
        return Resealed()
    resealed = Resealed(*await sealed.reseal(store, vault.mark, vault.reseal))
    if resealed.count:
        _log.info("secrets_resealed", count=resealed.count)
    for place in resealed.unreadable:
        _log.warning("secret_unreadable", place=place)
    if settings.vault.key is None:
        await asyncio.to_thread(promote_next, settings.state_dir)
    return resealed
