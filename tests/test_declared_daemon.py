"""Connectors declared in files, as an operator has them: the folder, `inboxctl plan`, `inboxctl apply`, SIGHUP."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from inboxd.ctl import cli
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User

MAIL = b"From: Bob <bob@example.test>\r\nTo: b@example.test\r\nSubject: a first mail\r\n\r\nhello\r\n"
Declare = Callable[..., User]


@pytest.fixture
def folder(daemon: Daemon, tmp_path: Path) -> Path:
    made = tmp_path / "connectors.d"
    made.mkdir()
    daemon.settings["INBOXD_CONNECTORS__FOLDER"] = str(made)
    return made


@pytest.fixture
def declare(dovecot: Dovecot, folder: Path) -> Declare:
    """Writes a file for a new account with `mails` mails; `top` and `imap` are more lines of it."""

    def write(name: str, mails: int = 1, top: str = "", imap: str = "") -> User:
        user = dovecot.user(name)
        for _ in range(mails):
            dovecot.append(user, MAIL)
        (folder / f"{name}.password").write_text(user.password + "\n")
        (folder / f"{name}.toml").write_text(
            f'email = "{user.name}"\npassword_file = "{name}.password"\n{top}\n'
            f'[imap]\nhost = "{dovecot.starttls.host}"\nport = {dovecot.starttls.port}\ntls = "starttls"\n{imap}\n'
        )
        return user

    return write


def call(daemon: Daemon, *arguments: str, status: int = 0) -> str:
    """What inboxctl says, on both streams."""
    done = click.testing.CliRunner().invoke(cli, ["--socket", str(daemon.socket), *arguments], prog_name="inboxctl")
    assert done.exit_code == status, done.output
    return done.output


def connector(daemon: Daemon, name: str) -> dict[str, Any]:
    found = daemon.client.get("/connectors/by-name", name=name)
    assert found["present"], name
    row: dict[str, Any] = found["result"]
    return row


def test_folder_is_planned_applied_and_read_again(
    daemon: Daemon, dovecot: Dovecot, folder: Path, declare: Declare
) -> None:
    declare("first", mails=2)
    daemon.start()
    daemon.until(lambda: daemon.client.get("/connectors/by-name", name="first")["present"], "the start's apply")
    first = connector(daemon, "first")
    daemon.await_state(first, "idle")
    daemon.await_count(first, 2)
    assert "declared" in call(daemon, "connector", "show", "first")

    user = declare("second", mails=3, imap='folders = ["*"]')
    with dovecot.session(user) as session:
        session.create("Lists")
    dovecot.append(user, MAIL, "Lists")
    said = call(daemon, "plan", status=4)
    size = len(MAIL)
    assert re.search(r"\+ second  create  \(second.toml\)", said)
    assert f"imap.user: {user.name}" in said
    assert "imap.password: ***" in said
    assert user.password not in said
    assert f"folder INBOX  3 mails, {3 * size} B" in said
    assert f"folder Lists  1 mail, {size} B" in said
    assert f"to fetch 4 mails, {4 * size} B, about 1 s, at an assumed rate" in said
    assert said.endswith("to do: 1 create, 1 unchanged\n")
    assert not daemon.client.get("/connectors/by-name", name="second")["present"]

    assert "1 created, 1 unchanged" in call(daemon, "apply")
    second = connector(daemon, "second")
    daemon.await_count(second, 4)
    assert call(daemon, "apply") == "2 unchanged\n"
    assert call(daemon, "plan").endswith("to do: 2 unchanged\n")
    assert daemon.log.count("supervision_began") == 2, "what is as declared keeps its session"

    call(daemon, "connector", "set", "second", "--folder", "INBOX")
    (folder / "first.toml").unlink()
    lines = [json.loads(line) for line in call(daemon, "plan", "--json", "--no-survey", status=4).splitlines()]
    changes = {line["change"]["name"]: line["change"] for line in lines}
    assert changes["second"]["differences"] == [{"key": "imap.folders", "old": "INBOX", "new": "*"}]
    assert (changes["first"]["action"], changes["first"]["gone"]) == ("disable", True)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    daemon.await_state(first, "off")
    daemon.until(lambda: daemon.client.get(f"/connectors/{second['id']}/imap")["result"]["folders"] == ["*"], "it")

    assert "say --yes" in call(daemon, "apply", "--prune", status=2)
    assert "- first  delete  (first.toml, which is gone)" in call(daemon, "apply", "--prune", "--yes")
    assert not daemon.client.get("/connectors/by-name", name="first")["present"]
    assert daemon.count(first) == 2, "its mails stay"
    assert daemon.stop() == 0


def test_mistakes_are_shown_everywhere_and_stop_nothing(
    daemon: Daemon, dovecot: Dovecot, folder: Path, declare: Declare
) -> None:
    by_hand = dovecot.user("hand")
    daemon.settings["INBOXD_CONNECTORS__FOLDER"] = str(folder / "later")
    daemon.start()
    made = daemon.connect(by_hand, dovecot.starttls, tls="starttls")
    assert "no connector is declared" in call(daemon, "plan")
    daemon.stop()
    daemon.settings["INBOXD_CONNECTORS__FOLDER"] = str(folder)
    declare("good")
    declare("typo", imap="prot = 993")
    declare("clash", top=f'name = "{made["name"]}"')
    declare("away", imap='search = "UNSEEN"')
    (folder / "away.password").write_text("not it\n")
    daemon.start()
    daemon.until(lambda: daemon.client.get("/connectors/by-name", name="good")["present"], "the good one")
    for shown in (call(daemon, "apply", status=1), call(daemon, "status"), daemon.log):
        assert "typo.toml" in shown
        assert "there is no key 'imap.prot'; known are" in re.sub(r"\s+", " ", shown)
        assert "clash.toml" in shown
    assert connector(daemon, str(made["name"]))["id"] == made["id"]
    (folder / "away.toml").write_text((folder / "away.toml").read_text().replace("UNSEEN", "SEEN"))
    said = call(daemon, "plan", status=1)
    assert "imap.search: UNSEEN → SEEN" in said
    assert "its server could not be asked" in said
    assert "AUTHENTICATIONFAILED" in said
    assert "2 files have mistakes and were passed over" in said
    assert "correct horse" not in daemon.log
    assert "not it" not in daemon.log
