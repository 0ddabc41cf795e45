"""Connectors declared in files: what is read out of them, what differs, and what applying them does to the store."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd import survey
from inboxd.accounts import open_account
from inboxd.connector_files import read_file
from inboxd.declared import Change, Declarations, Declared
from inboxd.errors import SettingsError
from inboxd.mails import Place
from inboxd.model import Kind, Secret
from inboxd.settings import load
from inboxd.store import connectors, inboxes, messages
from inboxd.store.connectors import Whole
from inboxd.store.engine import Store
from inboxd.vault import open_vault
from servers.mailbox import Bench, make_bench
from servers.stores import blank_sqlite, link, make_incoming

WORK = 'email = "a@example.org"\npassword_file = "word"\n[imap]\nhost = "imap.example.org"\n'
BOTH = WORK + '[smtp]\nhost = "smtp.example.org"\nport = 587\n'


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "connectors.d"
    made.mkdir()
    (made / "word").write_text("s3cret\n")
    return made


@pytest.fixture
def declarations(bench: Bench, folder: Path) -> Declarations:
    return made_anew(bench, folder)


def made_anew(bench: Bench, folder: Path, **changed: Any) -> Declarations:
    services = replace(bench.services, **changed)

    async def read(path: Path) -> Declared:
        return await read_file(services, path)

    return Declarations(folder, services.store, services.vault, bench.roster, read)


def done(changes: tuple[Change, ...]) -> list[tuple[str, str | None]]:
    return [(change.action.value, change.whole.connector.name) for change in changes]


def keys(changes: tuple[Change, ...]) -> dict[str, tuple[str | None, str | None]]:
    (change,) = changes
    return {difference.key: (difference.old, difference.new) for difference in change.differences}


async def test_files_become_connectors_once(
    declarations: Declarations, folder: Path, store: Store, bench: Bench
) -> None:
    (folder / "work.toml").write_text(BOTH)
    (folder / "off.toml").write_text(f'name = "quiet"\nenabled = false\nsync = false\n{WORK}folders = ["*", "-Spam"]\n')
    planned = await declarations.plan()
    assert await connectors.declared(store) == [], "a plan changes nothing"
    assert done(planned.changes) == [("create", "quiet"), ("create", "work")]
    assert done((await declarations.apply()).changes) == done(planned.changes)
    quiet, work = await connectors.declared(store)
    assert done((await declarations.apply()).changes) == [("unchanged", "quiet"), ("unchanged", "work")]
    assert await connectors.declared(store) == [quiet, work], "the same rows, to the last byte"
    assert (quiet.connector.enabled, quiet.sync, work.connector.declared) == (False, None, "work.toml")
    assert (await inboxes.get(store, work.connector.inbox_id)).email_address == "a@example.org"
    account = open_account(bench.vault, work.connections[1])
    assert (account.host, account.port, account.username, account.password.reveal()) == (
        "smtp.example.org", 587, "a@example.org", "s3cret",
    )  # fmt: skip


async def test_what_differs_is_named_and_put_right(declarations: Declarations, folder: Path, store: Store) -> None:
    file = folder / "work.toml"
    file.write_text(BOTH)
    await declarations.apply()
    (before,) = await connectors.declared(store)
    (folder / "word").write_text("changed\n")
    file.write_text(BOTH.replace('email = "a@', 'interval = 5\nemail = "b@').replace("587", "465"))
    planned = await declarations.plan()
    assert keys(planned.changes) == {
        "email": ("a@example.org", "b@example.org"),
        "interval": (None, "5"),
        "imap.user": ("a@example.org", "b@example.org"),
        "imap.password": ("***", "***"),
        "smtp.port": ("587", "465"),
        "smtp.tls": ("starttls", "implicit"),
        "smtp.user": ("a@example.org", "b@example.org"),
        "smtp.password": ("***", "***"),
    }
    assert "changed" not in repr(planned)
    await declarations.apply()
    (after,) = await connectors.declared(store)
    assert (after.connector.id, after.connector.inbox_id) == (before.connector.id, before.connector.inbox_id)
    assert after.sync is not None
    assert after.sync.interval_minutes == 5
    assert done((await declarations.plan()).changes) == [("unchanged", "work")]


async def test_changes_made_by_hand_are_shown_and_taken_back(
    declarations: Declarations, folder: Path, store: Store
) -> None:
    (folder / "work.toml").write_text(WORK)
    await declarations.apply()
    (held,) = await connectors.declared(store)
    await connectors.update(store, replace(held.connector, enabled=False))
    await connectors.put_connection(store, replace(held.connections[0], select_folder="Archive", mirror=True))
    await connectors.remove_sync_settings(store, held.connector.id)
    assert keys((await declarations.apply()).changes) == {
        "enabled": ("false", "true"),
        "sync": ("false", "true"),
        "imap.folder": ("Archive", "INBOX"),
        "imap.mirror": ("true", "false"),
    }
    assert done((await declarations.plan()).changes) == [("unchanged", "work")]


async def test_mailbox_that_shows_other_mail_is_read_from_its_beginning(
    declarations: Declarations, folder: Path, store: Store
) -> None:
    (folder / "work.toml").write_text(WORK)
    await declarations.apply()
    (held,) = await connectors.declared(store)
    place = Place(held.connector.id, "INBOX", 1)
    await messages.add_batch(store, place, held.connector.inbox_id, [make_incoming(7)], last_uid=7)
    (folder / "work.toml").write_text(WORK + "mirror = true\n")
    assert not (await declarations.apply()).changes[0].shows_other_mail
    assert await last_uid(store, held) == 7
    (folder / "work.toml").write_text(WORK + 'search = "UNSEEN"\n')
    assert (await declarations.apply()).changes[0].shows_other_mail
    assert await last_uid(store, held) == 0


async def last_uid(store: Store, held: Whole) -> int | None:
    cursor = await messages.cursor(store, held.connector.id, "INBOX")
    return cursor.last_uid if cursor is not None else None


async def test_vanished_file_disables_and_prune_deletes(declarations: Declarations, folder: Path, store: Store) -> None:
    made_by_hand = await link(store, "hand")
    (folder / "work.toml").write_text(WORK)
    await declarations.apply()
    (held,) = await connectors.declared(store)
    (folder / "work.toml").unlink()
    assert done((await declarations.apply()).changes) == [("disable", "work")]
    assert not (await connectors.get(store, held.connector.id)).enabled
    assert done((await declarations.apply()).changes) == [("unchanged", "work")]
    (folder / "renamed.toml").write_text(f'name = "work"\n{WORK}')
    assert keys((await declarations.apply()).changes) == {
        "file": ("work.toml", "renamed.toml"),
        "enabled": ("false", "true"),
    }
    (folder / "renamed.toml").unlink()
    assert done((await declarations.apply(prune=True)).changes) == [("delete", "work")]
    assert await connectors.declared(store) == []
    assert await inboxes.get(store, held.connector.inbox_id), "its inbox stays"
    assert await connectors.get(store, made_by_hand.connector.id) == made_by_hand.connector


async def test_missing_folder_changes_nothing_and_an_unreadable_one_is_told(
    bench: Bench, folder: Path, store: Store, declarations: Declarations
) -> None:
    (folder / "work.toml").write_text(WORK)
    await declarations.apply()
    for place, told in ((folder / "nowhere", []), (folder / "word", [str(folder / "word")])):
        plan = await made_anew(bench, place).apply(prune=True)
        assert plan.changes == ()
        assert [mistake.file for mistake in plan.mistakes] == told
    assert len(await connectors.declared(store)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[imap\n", "is not TOML"),
        (f"pasword_file = 'word'\n{WORK}", "there is no key 'pasword_file'; known are name, enabled,"),
        (f'password = "s3cret"\n{WORK}', "password: a password never stands here; name the file that holds it"),
        (WORK.replace('"word"', '"nowhere"'), "nowhere: No such file or directory"),
        (WORK.replace('"word"', '"/dev/zero"'), "/dev/zero: is no ordinary file"),
        (WORK.replace("password_file", "#"), "where is the password? name the file that holds it: password_file"),
        (WORK.replace("email", "#"), "who logs in? give --imap-user or --email"),
        (WORK + 'port = "993"\n', "imap.port must be a whole number"),
        (WORK + 'search = "UNSEEN ("\n', "imap.search: "),
        (WORK + "folders = ['\\Nonsense']\n", "\\Nonsense is no special use"),
        (WORK.replace("imap.example.org", "192.0.2.1") + 'tls = "none"\n', "imap.host: 192.0.2.1 is a public address"),
        ('email = "a@example.org"\n', "no server is named: give host under [imap], [smtp] or both"),
        (f'name = "hand"\n{WORK}', "name: a connector 'hand' was made by hand; remove that one"),
        (f'name = "good"\n{WORK}', "name: a-good.toml declares 'good' already; give another name here"),
    ],
)
async def test_mistake_names_file_key_and_fix_and_stops_no_other(
    declarations: Declarations, folder: Path, store: Store, text: str, told: str
) -> None:
    await link(store, "hand")
    (folder / "b.toml").write_text(WORK)
    await declarations.apply()
    (folder / "b.toml").write_text(text)
    (folder / "a-good.toml").write_text(f'name = "good"\n{WORK}')
    plan = await declarations.apply()
    assert done(plan.changes) == [("create", "good")], "what b.toml declared before stays as it is"
    ((file, message),) = [(mistake.file, mistake.message) for mistake in plan.mistakes]
    assert file == "b.toml"
    assert told in message
    assert "s3cret" not in message
    assert declarations.latest == plan
    assert [whole.connector.enabled for whole in await connectors.declared(store)] == [True, True]


async def test_file_whose_name_is_no_text_is_told(declarations: Declarations, folder: Path, store: Store) -> None:
    (folder / os.fsdecode(b"w\xff.toml")).write_text(WORK)
    assert [mistake.file for mistake in (await declarations.apply()).mistakes] == ["'w\\udcff.toml'"]
    assert await connectors.declared(store) == []


async def test_name_stays_with_the_file_that_has_it(declarations: Declarations, folder: Path, store: Store) -> None:
    (folder / "work.toml").write_text(WORK)
    await declarations.apply()
    (folder / "an-early-one.toml").write_text(f'name = "work"\n{WORK}')
    for text in (WORK, "["):
        (folder / "work.toml").write_text(text)
        plan = await declarations.apply()
        assert "an-early-one.toml" in {mistake.file for mistake in plan.mistakes}
        assert len(await connectors.declared(store)) == 1


async def test_passwords_that_cannot_be_opened_any_more_are_sealed_anew(
    bench: Bench, declarations: Declarations, folder: Path, store: Store, tmp_path: Path
) -> None:
    (folder / "work.toml").write_text(WORK)
    await declarations.apply()
    other = tmp_path / "other"
    other.mkdir()
    vault = open_vault(None, other)
    renewed = made_anew(bench, folder, vault=vault)
    assert keys((await renewed.apply()).changes) == {"imap.password": (None, "***")}
    (held,) = await connectors.declared(store)
    assert open_account(vault, held.connections[0]).password == Secret("s3cret")


async def test_connector_is_checked_and_named_like_one_of_the_api(bench: Bench, folder: Path) -> None:
    (folder / "work.toml").write_text(WORK.replace("a@", "nonsense"))
    with pytest.raises(SettingsError, match="email: "):
        await read_file(bench.services, folder / "work.toml")
    (folder / "work.toml").write_text(WORK)
    read = await read_file(bench.services, folder / "work.toml")
    assert read.whole.connector.name == "work"
    assert [connection.kind for connection in read.whole.connections] == [Kind.IMAP]


def test_folder_beside_the_configuration_is_read_if_it_is_there(tmp_path: Path) -> None:
    config = tmp_path / "inboxd.toml"
    config.write_text("")
    assert load(config).connectors.folder is None
    (tmp_path / "connectors.d").mkdir()
    assert load(config).connectors.folder == tmp_path / "connectors.d"
    config.write_text('[connectors]\nfolder = "/srv/mailboxes"\n')
    assert load(config).connectors.folder == Path("/srv/mailboxes")


def test_time_of_a_first_load_keeps_to_what_the_provider_gives_out_a_day() -> None:
    assert survey.seconds_for("imap.example.org", 1_000, 2_000_000) == 10
    assert survey.seconds_for("imap.example.org", 10, 20_000_000) == 10
    assert survey.seconds_for("imap.gmail.com", 1, 2_500_000_000) == 1_250
    assert survey.seconds_for("imap.gmail.com", 1, 6_000_000_000) == 2 * 86_400 + 500
