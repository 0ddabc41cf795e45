"""Passwords kept outside: read at each login, from nowhere else than the operator allowed, and shown nowhere."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from inboxd import logs
from inboxd.budgets import Budgets
from inboxd.dial import dial
from inboxd.errors import CredentialFailed, CredentialRefused, Invalid, MailServerError, PasswordStale
from inboxd.model import Account, Kind, Secret, Tls
from inboxd.probe import probe
from inboxd.sections import CredentialSettings
from inboxd.settings import Settings
from inboxd.sources import check, with_password
from servers.dovecot import Dovecot
from servers.sessions import BOTH_LOOPS, account, eventually

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
CANARY = "secret-c4nary"


def rules(folder: Path | None = None, seconds: float = 5) -> CredentialSettings:
    folders = str(folder) if folder is not None else ""
    return CredentialSettings(folders=folders, allow_commands=True, command_seconds=seconds)


def kept(source: str) -> Account:
    return Account(None, Kind.IMAP, "mail.example", 993, Tls.IMPLICIT, "me", Secret(""), password_source=source)


async def read(source: str, by: CredentialSettings) -> str:
    return (await with_password(kept(source), by)).password.reveal()


async def refusal(source: str, by: CredentialSettings) -> MailServerError:
    """What reading ends with; it does not hold the secret."""
    with pytest.raises(CredentialFailed) as told:
        await read(source, by)
    assert told.value.stage == "credential"
    assert CANARY not in repr(told.value)
    assert str(told.value).isprintable()
    return told.value


def script(folder: Path, text: str) -> str:
    """The source of a shell script."""
    path = folder / "give-password"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return f"command:{path}"


# --- what is read -----------------------------------------------------------------------------------------------------


async def test_an_account_without_a_source_keeps_its_password() -> None:
    own = replace(kept("x"), password_source=None, password=Secret("own"))
    assert await with_password(own, rules()) is own


@pytest.mark.parametrize("content", ["pass wörd\n", "pass wörd", "pass wörd\r\nsecond line\n"])
async def test_the_first_line_is_the_password(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_text(content, newline="")
    assert await read(f"file:{tmp_path / 'password'}", rules(tmp_path)) == "pass wörd"
    assert await read(script(tmp_path, f"exec cat '{tmp_path}/password'"), rules()) == "pass wörd"


async def test_a_credential_of_the_service_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(await refusal("credential:work.password", rules())) is CredentialRefused
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert type(await refusal("credential:work.password", rules())) is CredentialFailed
    (tmp_path / "work.password").write_text(CANARY)
    assert await read("credential:work.password", rules()) == CANARY


async def test_a_command_runs_without_a_shell_and_without_the_daemons_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INBOXD_VAULT__KEY", CANARY)
    source = script(tmp_path, 'printf "%s|" "$@"; env | grep -c INBOXD_; pwd')
    assert await read(f"{source} 'one two' '$HOME' ';ls'", rules()) == "one two|$HOME|;ls|0"


# --- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "", "x", "file:", "command:", "credential:", "FILE:/etc/passwd", "file:relative", "file:/etc/passwd",
        "file:{0}/../outside", "file:{0}/link", "file:{0}", "file:{0}x/password", "file:{0}/inboxd.vault.key",
        "file:{0}/vault.key", "credential:inboxd.vault.key", "credential:../x", "credential:a/b", "credential:..",
        "command:cat x", "command:'", "command:/bin/true\n",
    ],
)  # fmt: skip
async def test_nothing_else_than_what_is_allowed_is_ever_opened(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "allowed"
    folder.mkdir()
    for name in ("inboxd.vault.key", "vault.key"):
        (folder / name).write_text(CANARY)
    (tmp_path / "outside").write_text(CANARY)
    (folder / "link").symlink_to(tmp_path / "outside")
    written = source.replace("{0}", str(folder))
    assert type(await refusal(written, rules(folder))) is CredentialRefused
    with pytest.raises(Invalid, match=r"^passwordSource: "):
        check(written, rules(folder))


async def test_without_settings_files_and_commands_are_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(CANARY)
    marker = tmp_path / "ran"
    for source in (f"file:{tmp_path}/password", script(tmp_path, f"touch {marker}; echo {CANARY}")):
        assert type(await refusal(source, CredentialSettings())) is CredentialRefused
    assert not marker.exists()


async def test_files_that_hold_no_password_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_text("\nnot the first line")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "nul").write_bytes(b"a\0b")
    (tmp_path / "huge").write_text(CANARY + "x" * 70_000)
    cases = {"pipe": "no ordinary file", "empty": "first line", "binary": "UTF-8", "nul": "first line"}
    for name, words in (cases | {"huge": "larger than", "gone": "No such file"}).items():
        assert words in str(await refusal(f"file:{tmp_path}/{name}", rules(tmp_path)))


async def test_a_password_that_everybody_may_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", "json")
    file = tmp_path / "password"
    for mode, warned in ((0o600, False), (0o644, True)):
        file.write_text(CANARY)
        file.chmod(mode)
        assert await read(f"file:{file}", rules(tmp_path)) == CANARY
        printed = "".join(capsys.readouterr())
        assert ("password_readable_by_all" in printed) is warned
        assert CANARY not in printed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"echo {CANARY}; echo 'no key\n\033[2J' >&2; exit 3", "status 3: no key"),
        (f"echo {CANARY}; kill -9 $$", "status -9"),
        ("exit 0", "first line"),
        (f"yes {CANARY}", "more than 65536 bytes"),
    ],
)
async def test_a_command_that_fails_says_why_and_not_what_it_printed(tmp_path: Path, text: str, words: str) -> None:
    error = await refusal(script(tmp_path, text), rules())
    assert type(error) is CredentialFailed
    assert words in str(error)


async def test_a_program_that_is_not_there_is_told() -> None:
    assert "No such file" in str(await refusal("command:/no/such/program", rules()))


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    source = script(tmp_path, f"sleep 1000 & echo $! > {child}; wait")
    error = await refusal(source, rules(seconds=3))
    assert "gave no password in 3 s" in str(error)
    await eventually(lambda: _gone(int(child.read_text())))


async def test_cancelling_kills_the_command(tmp_path: Path) -> None:
    child = tmp_path / "child"
    source = script(tmp_path, f"echo $$ > {child}.new; mv {child}.new {child}; sleep 1000")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(read(source, rules(seconds=60)))
        await eventually(child.exists)
        task.cancel()
    await eventually(lambda: _gone(int(child.read_text())))


async def test_what_a_command_leaves_behind_is_killed(tmp_path: Path) -> None:
    child = tmp_path / "child"
    assert await read(script(tmp_path, f"sleep 1000 & echo $! > {child}; echo {CANARY}"), rules()) == CANARY
    await eventually(lambda: _gone(int(child.read_text())))


def _gone(pid: int) -> bool:
    """Whether the process has ended; nobody here may collect it, so a dead one counts."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


# --- logins -----------------------------------------------------------------------------------------------------------


async def test_a_changed_password_counts_from_the_next_login(dovecot: Dovecot, tmp_path: Path) -> None:
    """And one that is refused may be about to change: the connector does not wait for a person."""
    file = tmp_path / "password"
    settings = Settings(state_dir=tmp_path, credentials=rules(tmp_path))
    user = dovecot.user(password="first one")
    to = replace(account(dovecot.no_tls, user), password=Secret(""), password_source=f"file:{file}")
    for password in ("first one", "another"):
        file.write_text(password + "\n")
        user = dovecot.set_password(user, password)
        async with dial(to, settings, Budgets(settings.imap)) as session:
            assert (await session.examine("INBOX")).exists == 0
    dovecot.set_password(user, "a third")
    with pytest.raises(PasswordStale, match="read again") as told:
        await _open_and_close(to, settings)
    assert told.value.retry
    assert told.value.reply
    assert str(file) not in str(told.value)


async def _open_and_close(to: Account, settings: Settings) -> None:
    async with dial(to, settings, Budgets(settings.imap)):
        pass


async def test_the_staged_test_names_the_place_of_the_password(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, credentials=rules(tmp_path))
    steps = [step async for step in probe(kept(f"file:{tmp_path}/gone"), settings, lambda _: None)]
    assert [(step.name, step.ok) for step in steps] == [("credential", False)]
    assert "source" in steps[0].fix
