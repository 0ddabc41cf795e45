"""inboxctl connector add, set, enable, disable, remove: what reaches the daemon, and where passwords come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import click
import pytest

from ctl_calls import call, changes, on_terminal, stand_in
from inboxd.ctl import cli
from servers.control_state import Row, StandIn

PASSWORD = "pa ss'\"\\wörd "
ADD = ("connector", "add", "work", "--email", "me@example.com", "--imap-host", "imap.example.com")
TOML = """
name = "work"
email = "me@example.com"
password_file = "secrets/imap"
interval = 15

[imap]
host = "imap.example.com"
port = 1143
tls = "starttls"
folder = "Räume"
folders = ["*", "-Räume/*", ""]
search = 'UNSEEN FROM "shop"'
mirror = true

[smtp]
host = "smtp.example.com"
tls = "none"
user = "sender"
password_file = "smtp"
"""


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    return path


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "imap").write_text("imap secret", encoding="utf-8")
    (tmp_path / "smtp").write_text("smtp secret\r\n", encoding="utf-8")
    path = tmp_path / "connector.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


def created(daemon: StandIn) -> Row:
    """The one body a connector was created with."""
    (body,) = daemon.bodies("POST", "/connectors/withOptions")
    return body


def test_add_links_imap_and_smtp_with_sync_on(daemon: StandIn, secret: Path) -> None:
    inbox = str(uuid4())
    result = call(
        daemon, *ADD, "--imap-port", "1993", "--imap-tls", "implicit", "--imap-folder", "INBOX/x", "--search", "UNSEEN",
        "--smtp-host", "smtp.example.com", "--smtp-port", "587", "--smtp-tls", "starttls", "--smtp-user", "sender",
        "--interval", "7", "--inbox", inbox, "--password-file", str(secret),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert created(daemon) == {
        "createConnectorOptions": {"name": "work", "emailAddress": "me@example.com", "enabled": True},
        "createConnectorImapConnectionOptions": {
            "enabled": True,
            "imapHost": "imap.example.com",
            "imapPort": 1993,
            "imapSsl": True,
            "startTls": False,
            "imapUsername": "me@example.com",
            "imapPassword": PASSWORD,
            "selectFolder": "INBOX/x",
            "searchTerms": "UNSEEN",
        },
        "createConnectorSmtpConnectionOptions": {
            "enabled": True,
            "smtpHost": "smtp.example.com",
            "smtpPort": 587,
            "smtpSsl": False,
            "startTls": True,
            "smtpUsername": "sender",
            "smtpPassword": PASSWORD,
        },
        "createConnectorSyncSettingsOptions": {
            "syncEnabled": True,
            "syncScheduleType": "INTERVAL",
            "syncInterval": 7,
        },
    }
    assert daemon.asked[-1].query == {"inboxId": inbox}
    assert f"added work; its mail goes to inbox {inbox}" in result.stdout
    assert "inboxctl test work" in result.stdout
    assert PASSWORD not in result.output


def test_add_leaves_ports_and_tls_to_the_daemon_and_may_leave_sync_off(daemon: StandIn) -> None:
    result = call(daemon, *ADD, "--no-sync", "--password-stdin", "--json", stdin="pw\n")
    assert json.loads(result.stdout)["name"] == "work"
    body = created(daemon)
    assert body["createConnectorImapConnectionOptions"] == {
        "imapUsername": "me@example.com",
        "imapHost": "imap.example.com",
        "imapPassword": "pw",
        "enabled": True,
    }
    assert body.keys() == {"createConnectorOptions", "createConnectorImapConnectionOptions"}


def test_smtp_logs_in_as_imap_does_unless_told(daemon: StandIn, secret: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other", encoding="utf-8")
    call(
        daemon, *ADD, "--imap-user", "login", "--smtp-host", "smtp.example.com", "--password-file", str(secret),
        "--smtp-password-file", str(tmp_path / "other"),
    )  # fmt: skip
    smtp = created(daemon)["createConnectorSmtpConnectionOptions"]
    assert (smtp["smtpUsername"], smtp["smtpPassword"]) == ("login", "other")


def test_a_sending_connector_needs_no_imap_and_gets_no_sync(daemon: StandIn, secret: Path) -> None:
    result = call(
        daemon, "connector", "add", "out", "--email", "me@example.com", "--smtp-host", "smtp.example.com",
        "--smtp-password-file", str(secret),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert created(daemon).keys() == {"createConnectorOptions", "createConnectorSmtpConnectionOptions"}


def test_add_reads_a_toml_file_and_options_win(daemon: StandIn, toml: Path) -> None:
    result = call(daemon, "connector", "add", "--file", str(toml), "--imap-port", "143", "--no-sync")
    assert result.exit_code == 0, result.output
    body = created(daemon)
    assert body["createConnectorImapConnectionOptions"] == {
        "imapUsername": "me@example.com",
        "imapHost": "imap.example.com",
        "imapPort": 143,
        "imapSsl": False,
        "startTls": True,
        "selectFolder": "Räume",
        "folders": ["*", "-Räume/*"],
        "mirror": True,
        "searchTerms": 'UNSEEN FROM "shop"',
        "imapPassword": "imap secret",
        "enabled": True,
    }
    smtp = body["createConnectorSmtpConnectionOptions"]
    assert (smtp["smtpPassword"], smtp["smtpUsername"]) == ("smtp secret", "sender")
    assert (smtp["smtpSsl"], smtp["startTls"]) == (False, False)
    assert "createConnectorSyncSettingsOptions" not in body


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("imap.hots = 'x'", "there is no key 'imap.hots'"),
        ("smtp.password = 'x'", "smtp.password: a password never stands here"),
        ("password = 'x'", "password: a password never stands here"),
        ("imap = 3", "there is no key 'imap'"),
        ("imap.port = '993'", "imap.port must be a whole number"),
        ("imap.port = true", "imap.port must be a whole number"),
        ("imap.port = 70000", "imap.port: 70000 is not in the range"),
        ("imap.tls = 'ssl'", "imap.tls: 'ssl' is not one of"),
        ("imap.folders = 'INBOX'", "imap.folders must be a list of texts"),
        ("imap.folders = ['INBOX', 1]", "imap.folders must be a list of texts"),
        ("imap.mirror = 'yes'", "imap.mirror must be true or false"),
        ("interval = 0", "interval: 0 is not in the range"),
        ("sync = 'yes'", "sync must be true or false"),
        ("email = 1", "email must be text in quotes"),
        ("email = ", "is not TOML"),
    ],
)
def test_a_toml_file_is_refused_by_the_name_of_its_mistake(
    daemon: StandIn, tmp_path: Path, line: str, complaint: str
) -> None:
    path = tmp_path / "connector.toml"
    path.write_text(line, encoding="utf-8")
    result = call(daemon, "connector", "add", "work", "--file", str(path))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"inboxctl: {path}: ")
    assert complaint in result.stderr
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no password"),
        (b"\n", "holds no password"),
        (b"one\ntwo\n", "a password is one line"),
        (b"a\x00b", "a password is one line"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_password_source_holds_exactly_one_line(
    daemon: StandIn, tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    for args, stdin in ((("--password-file", str(path)), None), (("--password-stdin",), content)):
        result = call(daemon, *ADD, *args, stdin=stdin)
        assert result.exit_code == 2
        assert complaint in result.stderr
    assert daemon.bodies("POST", "/connectors/withOptions") == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("connector", "add", "work"), "give --imap-host, --smtp-host or both"),
        (("connector", "add", "--imap-host", "h"), "what is it to be called"),
        ((*ADD, "--password-file", "/nonexistent"), "/nonexistent: No such file"),
        ((*ADD, "--password-file", "f", "--password-stdin"), "one of --password-file and --password-stdin"),
        ((*ADD,), "needs the password: give --password-file or --password-stdin"),
        (("connector", "add", "w", "--imap-host", "h", "--password-stdin"), "give --imap-user or --email"),
        ((*ADD, "--imap-port", "0"), "is not in the range"),
        ((*ADD, "--password", "secret"), "No such option"),
        ((*ADD, "--file", "/nonexistent.toml"), "/nonexistent.toml: No such file"),
        (("connector", "set", "work"), "nothing to change"),
        (("connector", "set", "work", "--file", "/nonexistent.toml"), "/nonexistent.toml: No such file"),
        (("connector", "remove", "work"), "say --yes"),
    ],
)
def test_what_cannot_be_used_is_bad_input(daemon: StandIn, args: tuple[str, ...], complaint: str) -> None:
    daemon.add_connector("work" if args[1] != "add" else "other")
    result = call(daemon, *args, stdin="pw" if "--password-stdin" in args else None)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert changes(daemon) == []


def test_what_the_daemon_blames_on_the_input_is_bad_input(daemon: StandIn, secret: Path) -> None:
    result = call(daemon, *ADD, "--email", "nonsense", "--password-file", str(secret))
    assert result.exit_code == 2
    assert result.stderr == "inboxctl: --email: write a mail address, for example name@example.com\n"


def test_a_name_in_use_is_not_added_twice(daemon: StandIn, secret: Path) -> None:
    daemon.add_connector("work")
    result = call(daemon, *ADD, "--password-file", str(secret))
    assert result.exit_code == 1
    assert "there is a connector 'work' already" in result.stderr
    assert changes(daemon) == []


def test_no_option_anywhere_takes_a_password() -> None:
    def options(command: click.Command) -> Iterator[click.Parameter]:
        yield from command.params
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield from options(inner)

    for option in options(cli):
        if "password" in str(option.name) and not str(option.name).endswith("password_from"):  # that names its place
            assert isinstance(option, click.Option)
            assert option.is_flag or isinstance(option.type, click.Path), option.name


def test_enable_and_disable_touch_nothing_else(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    assert call(daemon, "connector", "disable", "work").stdout == "work is disabled\n"
    assert not row["enabled"]
    answer = json.loads(call(daemon, "connector", "enable", "work", "--json").stdout)
    assert answer == row
    assert answer["enabled"]


def test_remove_needs_a_yes(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    status, shown = on_terminal(daemon, ("connector", "remove", "work"), {"Remove work": "n"})
    assert (status, changes(daemon)) == (1, [])
    assert row["id"] in shown
    status, shown = on_terminal(daemon, ("connector", "remove", "work"), {"Remove work": "y"})
    assert status == 0
    assert f"removed work; its mails stay in inbox {row['inboxId']}" in shown
    row = daemon.add_connector("work")
    answer = json.loads(call(daemon, "connector", "remove", "work", "--yes", "--json").stdout)
    assert answer == {"id": row["id"], "removed": True}


def test_on_a_terminal_the_password_is_asked_for_and_not_shown(daemon: StandIn) -> None:
    status, shown = on_terminal(daemon, ADD, {"Password": "s3cret word"})
    assert status == 0, shown
    assert created(daemon)["createConnectorImapConnectionOptions"]["imapPassword"] == "s3cret word"
    assert "s3cret" not in shown


def test_add_asks_for_no_password_that_the_daemon_reads_itself(daemon: StandIn) -> None:
    call(daemon, *ADD, "--smtp-host", "smtp.example.com", "--password-from", "file:/p", "--smtp-mechanism", "LOGIN")
    body = created(daemon)
    for half in ("Imap", "Smtp"):
        options = body[f"createConnector{half}ConnectionOptions"]
        assert options["passwordSource"] == "file:/p"
        assert f"{half.lower()}Password" not in options
    assert body["createConnectorSmtpConnectionOptions"]["smtpMechanisms"] == ["LOGIN"]
    assert "mechanisms" not in body["createConnectorImapConnectionOptions"]
