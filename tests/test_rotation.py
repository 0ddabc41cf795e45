"""Another key for the vault: every secret is sealed anew, and at no moment is one out of reach."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import LargeBinary, select

from inboxd import receiver
from inboxd.accounts import open_account, seal_password, seal_proxy_password
from inboxd.cli import command
from inboxd.consents import Flow, Grant
from inboxd.errors import Conflict, SecretUnreadable, SettingsError, StoreBusy
from inboxd.model import ConnectorId, Kind, Secret, Window, utc_now
from inboxd.resealing import Resealed, finish, vault_of
from inboxd.rotation import rotate_key
from inboxd.sections import StoreSettings, VaultSettings
from inboxd.serve import locked
from inboxd.settings import Settings
from inboxd.store import connectors, grants, webhooks
from inboxd.store.engine import Store, open_store
from inboxd.store.schema import TABLES
from inboxd.store.sealed import SEALED
from inboxd.tokens import place_of
from inboxd.vault import KEY_FILE, NEXT_FILE, PREVIOUS_FILE, Vault
from inboxd.webhooks import Credentials, Webhook, WebhookEvent, WebhookFilter, WebhookId
from servers.stores import link, make_connection

pytestmark = pytest.mark.usefixtures("logs_as_before")
_ALL, _EVERY = Window(), WebhookFilter()
PASSWORD = Secret("correct horse")
CREDENTIALS = Credentials(Secret("battery"), (("X-Token", Secret("staple")),))
# Rotates again and again in children that are killed, each at a later step than the last, and leaves their folders.
KILLED = """
import asyncio, os, pathlib, shutil, sys
from inboxd.rotation import rotate_key
from inboxd.settings import Settings
from inboxd.vault import Vault

def die_at(step):
    count = 0
    def met(event, _arguments=()):
        nonlocal count
        if event in ("os.link", "os.rename", "os.remove", "reseal"):
            count += 1
            if count == step:
                os.kill(os.getpid(), 9)
    sys.addaudithook(met)
    fresh = Vault.reseal
    Vault.reseal = lambda *given: (met("reseal"), fresh(*given))[1]

origin, copies, step = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 0
while True:
    step += 1
    folder = copies / str(step)
    shutil.copytree(origin, folder)
    child = os.fork()
    if not child:
        settings = Settings(state_dir=folder)
        die_at(step)
        asyncio.run(rotate_key(settings, None))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def _settings(folder: Path, url: str = "", **vault: str) -> Settings:
    return Settings(state_dir=folder, store=StoreSettings(url=url), vault=VaultSettings.model_validate(vault))


def _new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


async def _fill(store: Store, vault: Vault) -> None:
    """One secret in every column that holds some."""
    linked = await link(store)
    for kind in Kind:
        connection = make_connection(linked.connector.id, kind)
        sealed = replace(
            connection,
            sealed_password=seal_password(vault, connection.id, PASSWORD),
            sealed_proxy_password=seal_proxy_password(vault, connection.id, PASSWORD),
        )
        await connectors.put_connection(store, sealed)
    now = utc_now()
    await grants.put(store, make_grant(vault, linked.connector.id))
    webhook = Webhook(
        WebhookId(uuid4()), now, now, "https://example.com/", WebhookEvent.NEW_EMAIL, linked.inbox.id, username="u"
    )
    await webhooks.add(store, receiver.sealed(vault, webhook, CREDENTIALS))


def make_grant(vault: Vault, connector_id: ConnectorId) -> Grant:
    """A grant with everything that a grant has sealed."""
    key, now = uuid4(), utc_now()
    client_secret, refresh_token, access_token = (
        vault.seal(PASSWORD, place_of(key, field)) for field in ("client_secret", "refresh_token", "access_token")
    )
    return Grant(
        key, connector_id, now, "other", Flow.CODE, "id", "https://login.example/token", None, None, None, (), None,
        "you@example.com", (), client_secret, refresh_token, access_token, now, now,
    )  # fmt: skip


async def _columns(store: Store) -> list[bytes]:
    async def look(connection: Any) -> list[bytes]:
        found: list[bytes] = []
        for column, _place in SEALED:
            rows = [bytes(value) for value in await connection.scalars(select(column).where(column.is_not(None)))]
            assert rows, f"the test seals nothing in {column}"
            found += rows
        return found

    return await store.read(look)


async def _assert_opens(store: Store, vault: Vault) -> None:
    """Whoever uses a secret gets it."""
    (connector,) = (await connectors.page(store, _ALL)).rows
    for kind in Kind:
        connection = await connectors.connection(store, connector.id, kind)
        assert connection is not None
        assert open_account(vault, connection).password == PASSWORD
    grant = await grants.find(store, connector.id)
    assert grant is not None
    assert grant.sealed_refresh_token is not None
    assert vault.open(grant.sealed_refresh_token, place_of(grant.id, "refresh_token")) == PASSWORD
    assert vault.open(grant.sealed_access_token, place_of(grant.id, "access_token")) == PASSWORD
    (webhook,) = (await webhooks.page(store, _EVERY, _ALL)).rows
    assert receiver.opened(vault, webhook) == CREDENTIALS


def test_every_column_of_ciphertext_is_sealed_anew() -> None:
    named = {
        str(column)
        for table in TABLES.tables.values()
        for column in table.columns
        if column.name.startswith("sealed_") and isinstance(column.type, LargeBinary)
    }
    assert {str(column) for column, _place in SEALED} == named


async def test_a_new_key_seals_everything_and_the_old_one_is_kept(store_url: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path, store_url)
    old = vault_of(settings)
    async with open_store(store_url) as store:
        await _fill(store, old)
        count = len(await _columns(store))
    old_key = (tmp_path / KEY_FILE).read_bytes()
    assert await rotate_key(settings, None) == Resealed(count)
    assert (tmp_path / PREVIOUS_FILE).read_bytes() == old_key
    assert not (tmp_path / NEXT_FILE).exists()
    fresh = Vault(base64.b64decode((tmp_path / KEY_FILE).read_bytes()))
    async with open_store(store_url) as store:
        assert {sealed[: len(fresh.mark)] for sealed in await _columns(store)} == {fresh.mark}
        await _assert_opens(store, fresh)
        assert await finish(settings, store, vault_of(settings)) == Resealed(0)
    (tmp_path / PREVIOUS_FILE).unlink()
    assert not vault_of(settings).has_older


async def test_killed_at_any_step_it_leaves_everything_readable_and_goes_on(tmp_path: Path) -> None:
    origin, copies = tmp_path / "origin", tmp_path / "copies"
    origin.mkdir()
    settings = _settings(origin)
    async with open_store(settings.store_url) as store:
        await _fill(store, vault_of(settings))
        count = len(await _columns(store))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    rotate = [sys.executable, "-c", KILLED, str(origin), str(copies)]
    await asyncio.to_thread(subprocess.run, rotate, check=True, env=environment)
    folders = sorted(copies.iterdir(), key=lambda folder: int(folder.name))
    # A key is made, each value sealed, the old key copied; then two names change.
    assert len(folders) > count + 5
    for folder in folders:
        cut = _settings(folder)
        async with open_store(cut.store_url) as store:
            vault = vault_of(cut)
            await _assert_opens(store, vault)
            # The daemon finishes at its start what was begun.
            await finish(cut, store, vault)
            await _assert_opens(store, vault_of(cut))
            (folder / PREVIOUS_FILE).unlink(missing_ok=True)
            await _assert_opens(store, vault_of(cut))
        assert not (folder / NEXT_FILE).exists()


async def test_a_configured_key_gives_way_to_another_with_both_known(tmp_path: Path) -> None:
    first, second = _new_key(), _new_key()
    before, after = _settings(tmp_path, key=first), _settings(tmp_path, key=second, previous_key=first)
    async with open_store(before.store_url) as store:
        await _fill(store, vault_of(before))
    with pytest.raises(SettingsError) as refused:
        await rotate_key(before, None)
    assert "inboxd.vault.previous_key" in "\n".join(refused.value.lines)
    resealed = await rotate_key(after, None)
    assert (resealed.count > 0, resealed.unreadable) == (True, ())
    async with open_store(before.store_url) as store:
        await _assert_opens(store, vault_of(_settings(tmp_path, key=second)))
    assert not (tmp_path / KEY_FILE).exists()


async def test_a_configured_key_takes_over_from_the_one_in_the_state_folder(tmp_path: Path) -> None:
    before, after = _settings(tmp_path), _settings(tmp_path, key=_new_key())
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(before.store_url))
        await _fill(store, vault_of(before))
        await finish(after, store, vault_of(after))
        (tmp_path / KEY_FILE).unlink()
        await _assert_opens(store, vault_of(after))


async def test_what_no_key_opens_is_named_and_left(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    async with open_store(settings.store_url) as store:
        await _fill(store, vault_of(settings))
        (connector,) = (await connectors.page(store, _ALL)).rows
        broken = make_connection(connector.id)
        stored = await connectors.connection(store, connector.id, Kind.IMAP)
        assert stored is not None
        await connectors.put_connection(store, replace(stored, sealed_password=broken.sealed_password))
    resealed = await rotate_key(settings, None)
    assert resealed.unreadable == (f"connection/{stored.id}/password",)
    async with open_store(settings.store_url) as store:
        kept = await connectors.connection(store, connector.id, Kind.IMAP)
        assert kept is not None
        assert kept.sealed_password == broken.sealed_password


async def test_it_refuses_while_a_daemon_runs(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StoreBusy, match="another inboxd is running"):
        await rotate_key(_settings(tmp_path), None)
    assert not (tmp_path / NEXT_FILE).exists()


async def test_a_given_key_is_taken_and_an_unfinished_change_to_another_is_not_forgotten(tmp_path: Path) -> None:
    settings, given = _settings(tmp_path), tmp_path / "mine"
    given.write_text("no key")
    with pytest.raises(SecretUnreadable, match="is not base64 of 32 bytes"):
        await rotate_key(settings, given)
    given.write_text(_new_key())
    await rotate_key(settings, given)
    assert base64.b64decode((tmp_path / KEY_FILE).read_bytes()) == base64.b64decode(given.read_bytes())
    (tmp_path / NEXT_FILE).write_text(_new_key())
    with pytest.raises(Conflict, match="not finished"):
        await rotate_key(settings, given)


def test_the_command_says_where_the_old_key_is_and_what_else_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INBOXD_STATE_DIR", str(tmp_path))
    done = CliRunner().invoke(command, ["rotate-key"])
    assert (done.exit_code, "0 stored secrets" in done.output) == (0, True)
    assert str(tmp_path / PREVIOUS_FILE) in done.output
    monkeypatch.setenv("INBOXD_VAULT__KEY", _new_key())
    shutil.rmtree(tmp_path)
    refused = CliRunner().invoke(command, ["rotate-key"])
    assert (refused.exit_code, "set it as vault.key" in refused.output) == (2, True)
