"""inboxctl connector set: it changes what is given and nothing else, and moves no password unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctl_calls import call, changes, on_terminal, stand_in
from servers.control_state import Row, StandIn

PASSWORD = "pa ss'\"\\wörd "


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    return path


def change(daemon: StandIn, *args: str, stdin: str | None = None) -> list[tuple[str, str, Any]]:
    """What a call that must succeed changed."""
    result = call(daemon, "connector", "set", "work", *args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return changes(daemon)


def test_set_changes_only_what_is_given(daemon: StandIn) -> None:
    daemon.add_connector("work")
    assert change(daemon, "--imap-folder", "Archive") == [
        ("PATCH", "imap", {"imapHost": "imap.example.com", "selectFolder": "Archive"})
    ]


def test_set_changes_the_folders_followed_and_shows_them(daemon: StandIn) -> None:
    daemon.add_connector("work")
    assert change(daemon, "--folder", "*", "--folder", "-Lists/*") == [
        ("PATCH", "imap", {"imapHost": "imap.example.com", "folders": ["*", "-Lists/*"]})
    ]
    assert "folders       *, -Lists/*" in call(daemon, "connector", "show", "work").stdout
    assert change(daemon, "--folder", "")[1:] == [("PATCH", "imap", {"imapHost": "imap.example.com", "folders": []})]
    assert "folders" not in call(daemon, "connector", "show", "work").stdout


def test_set_switches_the_mirror_and_shows_it(daemon: StandIn) -> None:
    daemon.add_connector("work")
    assert "mirror" not in call(daemon, "connector", "show", "work").stdout
    assert change(daemon, "--mirror", "true") == [("PATCH", "imap", {"imapHost": "imap.example.com", "mirror": True})]
    assert "mirror        deletes what is deleted there" in call(daemon, "connector", "show", "work").stdout


def test_set_renames_and_keeps_the_rest(daemon: StandIn) -> None:
    daemon.add_connector("work")
    assert change(daemon, "--name", "job") == [
        ("PUT", "", {"name": "job", "emailAddress": "work@example.com", "enabled": True})
    ]


def test_set_moves_a_connection_with_its_password(daemon: StandIn, secret: Path) -> None:
    daemon.add_connector("work")
    moved = change(daemon, "--smtp-host", "new.example.com", "--smtp-tls", "starttls", "--password-file", str(secret))
    assert moved == [
        ("PATCH", "imap", {"imapHost": "imap.example.com", "imapPassword": PASSWORD}),
        (
            "PATCH",
            "smtp",
            {"smtpHost": "new.example.com", "smtpSsl": False, "startTls": True, "smtpPassword": PASSWORD},
        ),
    ]


@pytest.mark.parametrize(
    "moved", [("--smtp-host", "new.example.com"), ("--smtp-port", "25"), ("--smtp-user", "x"), ("--smtp-tls", "none")]
)
def test_moving_a_connection_without_its_password_changes_nothing_at_all(
    daemon: StandIn, moved: tuple[str, ...]
) -> None:
    daemon.add_connector("work")
    result = call(daemon, "connector", "set", "work", "--name", "job", "--imap-folder", "A", *moved)
    assert (result.exit_code, changes(daemon)) == (2, [])
    assert "this needs the password" in result.stderr


def test_tls_that_is_not_weakened_needs_no_password(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    assert change(daemon, "--imap-tls", "starttls") == [
        ("PATCH", "imap", {"imapHost": "imap.example.com", "imapSsl": False, "startTls": True})
    ]
    plain = {"imapSsl": False, "startTls": False}
    daemon.parts[row["id"], "imap"] |= plain
    assert change(daemon, "--imap-tls", "none", "--imap-folder", "A")[1:] == [
        ("PATCH", "imap", {"imapHost": "imap.example.com", "selectFolder": "A"})
    ]


def test_what_only_the_daemon_finds_wrong_is_said_in_its_words(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.refuse = "searchTerms: close every quote"
    result = call(daemon, "connector", "set", row["id"], "--search", 'FROM "x')
    assert (result.exit_code, result.stderr) == (2, "inboxctl: --search: close every quote\n")


def test_a_new_password_is_not_sent_to_an_smtp_account_of_another_name(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.parts[row["id"], "smtp"]["smtpUsername"] = "sender"
    assert change(daemon, "--password-stdin", stdin="new") == [
        ("PATCH", "imap", {"imapHost": "imap.example.com", "imapPassword": "new"})
    ]


def test_a_new_smtp_password_alone_leaves_imap_untouched(daemon: StandIn, secret: Path) -> None:
    daemon.add_connector("work")
    assert change(daemon, "--smtp-password-file", str(secret)) == [
        ("PATCH", "smtp", {"smtpHost": "smtp.example.com", "smtpPassword": PASSWORD})
    ]


def test_set_adds_a_missing_connection(daemon: StandIn, secret: Path) -> None:
    row = daemon.add_connector("work")
    del daemon.parts[row["id"], "smtp"]
    result = call(daemon, "connector", "set", "work", "--smtp-port", "25")
    assert (result.exit_code, changes(daemon)) == (2, [])
    assert "give --smtp-host too" in result.stderr
    added = change(daemon, "--smtp-host", "smtp.example.com", "--smtp-password-file", str(secret))
    assert added == [
        (
            "POST",
            "smtp",
            {
                "smtpUsername": "work@example.com",
                "smtpHost": "smtp.example.com",
                "smtpPassword": PASSWORD,
                "enabled": True,
            },
        )
    ]


def test_set_switches_sync_and_keeps_its_interval(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    on: Row = {"syncEnabled": True, "syncScheduleType": "INTERVAL", "syncInterval": 5}
    assert change(daemon, "--sync") == []
    daemon.parts[row["id"], "sync-settings"]["syncEnabled"] = False
    assert change(daemon, "--sync") == [("POST", "sync-settings", on)]
    assert change(daemon, "--interval", "9")[1:] == [("POST", "sync-settings", on | {"syncInterval": 9})]
    assert change(daemon, "--no-sync")[2:] == [("DELETE", "sync-settings", None)]
    assert change(daemon, "--no-sync")[3:] == []


def test_an_interval_alone_does_not_switch_sync_on(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    del daemon.parts[row["id"], "sync-settings"]
    off: Row = {"syncEnabled": False, "syncScheduleType": "INTERVAL", "syncInterval": 9}
    assert change(daemon, "--interval", "9") == [("POST", "sync-settings", off)]


def test_set_applies_a_toml_file_and_only_its_differences(daemon: StandIn, tmp_path: Path) -> None:
    row = daemon.add_connector("work")
    toml = tmp_path / "connector.toml"
    toml.write_text('name = "work"\nemail = "new@example.com"\n[imap]\nport = 993\nfolder = "A"\n', encoding="utf-8")
    result = call(daemon, "connector", "set", "work", "--file", str(toml))
    assert result.stdout == "work: changed IMAP folder, email\n"
    assert [method for method, _, _ in changes(daemon)] == ["PATCH", "PUT"]
    again = call(daemon, "connector", "set", "work", "--file", str(toml))
    assert again.stdout == "work: was so already\n"
    whole = json.loads(call(daemon, "connector", "set", "work", "--imap-folder", "B", "--json").stdout)
    assert whole["imap"]["selectFolder"] == "B"
    assert whole["connector"]["id"] == row["id"]


def test_on_a_terminal_a_moved_server_asks_for_the_password_again(daemon: StandIn) -> None:
    daemon.add_connector("work")
    args = ("connector", "set", "work", "--imap-host", "new.example.com")
    status, shown = on_terminal(daemon, args, {"Password": "again"})
    assert status == 0, shown
    assert changes(daemon) == [("PATCH", "imap", {"imapHost": "new.example.com", "imapPassword": "again"})]


PIN = "sha256:" + "0a" * 32


def test_set_says_both_halves_what_both_have(daemon: StandIn, secret: Path) -> None:
    daemon.add_connector("work")
    done = change(
        daemon, "--proxy", "http://me@proxy.example:3128", "--proxy-password-file", str(secret), "--ca-file",
        "/etc/ca.pem", "--mechanism", "PLAIN", "--tls-protocol", "TLSv1.3", "--local-name", "here.example",
    )  # fmt: skip
    way = {
        "proxyHost": "http://proxy.example",
        "proxyPort": 3128,
        "proxyUsername": "me",
        "proxyEnabled": True,
        "proxyPassword": PASSWORD,
        "caFile": "/etc/ca.pem",
        "sslProtocols": ["TLSv1.3"],
        "localHostName": "here.example",
    }
    assert done[0] == ("PATCH", "imap", {"imapHost": "imap.example.com", "mechanisms": ["PLAIN"]} | way)


def test_set_takes_a_source_in_the_passwords_place_and_along_when_the_server_moves(daemon: StandIn) -> None:
    daemon.add_connector("work")
    source = {"imapHost": "imap.example.com", "passwordSource": "credential:work"}
    assert change(daemon, "--password-from", "credential:work")[0] == ("PATCH", "imap", source)
    assert "password from credential:work" in call(daemon, "connector", "show", "work").stdout
    moved = {"imapHost": "new.example.com", "passwordSource": "credential:work"}
    assert change(daemon, "--imap-host", "new.example.com")[-1] == ("PATCH", "imap", moved)


def test_set_brings_the_password_for_another_trust(daemon: StandIn) -> None:
    """A pin decides who gets it, like a host name."""
    daemon.add_connector("work")
    wanted = {"imapHost": "imap.example.com", "sslTrust": PIN, "imapPassword": "pw"}
    assert change(daemon, "--trust", PIN, "--password-stdin", stdin="pw\n")[0] == ("PATCH", "imap", wanted)


@pytest.mark.parametrize("url", ["proxy.example", "ftp://proxy.example", "socks5://me:secret@proxy.example", "http://"])
def test_a_proxy_that_is_none_or_shows_its_password_is_refused(daemon: StandIn, url: str) -> None:
    daemon.add_connector("work")
    result = call(daemon, "connector", "set", "work", "--proxy", url)
    assert result.exit_code == 2
    assert "socks5://USER@HOST:PORT" in result.stderr
    assert "secret" not in result.output
    assert not changes(daemon)
