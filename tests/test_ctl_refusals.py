"""inboxctl when it cannot do what was asked: names that fit several, refusals in the user's words, full disks."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctl_calls import PROGRAM, call, changes, environment, stand_in
from inboxd.ctl_account import as_options
from inboxd.ctl_client import sudo_call
from servers.control_state import Row, StandIn


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.mark.parametrize("args", [("connector", "remove", "--yes"), ("connector", "disable"), ("emails",), ("sync",)])
def test_a_name_of_several_connectors_is_refused_with_their_ids(daemon: StandIn, args: tuple[str, ...]) -> None:
    twins = [daemon.add_connector("work"), daemon.add_connector("work")]
    for name in ("work", "Work@Example.com"):
        result = call(daemon, *args, name)
        assert result.exit_code == 2
        assert f"2 connectors go by {name!r}" in result.stderr
        assert all(row["id"] in result.stderr for row in twins)
    assert changes(daemon) == []
    assert call(daemon, "connector", "disable", twins[1]["id"]).exit_code == 0


def test_a_name_wins_over_the_address_of_another(daemon: StandIn) -> None:
    daemon.add_connector("work")
    named = daemon.add_connector("other")
    named["name"] = "work@example.com"
    assert call(daemon, "connector", "disable", "work@example.com").exit_code == 0
    assert not named["enabled"]


def test_names_are_looked_up_on_every_page(daemon: StandIn) -> None:
    for number in range(120):
        daemon.add_connector(f"c{number}")
    assert call(daemon, "connector", "disable", "c119").exit_code == 0


def test_set_refuses_the_name_of_another_connector(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.add_connector("shop")
    result = call(daemon, "connector", "set", "work", "--name", "shop", "--imap-folder", "A")
    assert (result.exit_code, changes(daemon)) == (1, [])
    assert "there is a connector 'shop' already" in result.stderr
    assert call(daemon, "connector", "set", "work", "--name", "work").stdout == "work: was so already\n"


@pytest.mark.parametrize(
    ("wire", "typed"),
    [
        ("createConnectorImapConnectionOptions.imapHost: is no host name", "--imap-host: is no host name"),
        ("createConnectorSmtpConnectionOptions.smtpPort: too high; imapUsername: too long",
         "--smtp-port: too high; --imap-user: too long"),
        ("createConnectorImapConnectionOptions.selectFolder: no", "--imap-folder: no"),
        ("createConnectorSyncSettingsOptions.syncInterval: too long", "--interval: too long"),
        ("createConnectorOptions.emailAddress: no", "--email: no"),
        ("createConnectorOptions.name: too long", "name: too long"),
        ("createConnectorImapConnectionOptions.startTls: no; imapSsl: no", "TLS: no; --imap-tls: no"),
        ("imapHost: changed; send imapPassword along", "--imap-host: changed; send the IMAP password along"),
        ("there is no connector imapHostess", "there is no connector imapHostess"),
    ],
)  # fmt: skip
def test_refusals_name_the_options_that_were_typed(wire: str, typed: str) -> None:
    assert as_options(wire) == typed


def test_a_connection_that_is_refused_is_told_in_options(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.refuse = "imapPort: is not a port"
    result = call(daemon, "connector", "set", "work", "--search", "ALL")
    assert (result.exit_code, result.stderr) == (2, "inboxctl: --imap-port: is not a port\n")


@pytest.mark.parametrize(("status", "exit_code"), [(400, 2), (413, 2), (404, 1), (422, 1), (503, 1)])
def test_the_exit_status_tells_bad_input_from_a_failure(daemon: StandIn, status: int, exit_code: int) -> None:
    daemon.add_connector("work")
    refusal: Row = {"message": "the answer", "status": status}
    daemon.lines = [refusal]
    result = call(daemon, "sync", "work")
    assert (result.exit_code, result.stderr) == (exit_code, "inboxctl: the answer\n")


@pytest.mark.parametrize(
    "args", [("status",), ("status", "--json"), ("email", "3f0c2c0e-7b0e-4b63-9d25-8d1b2f5a9f11", "--raw"), ("--help",)]
)
def test_an_output_that_takes_nothing_is_one_line_and_status_1(daemon: StandIn, args: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*PROGRAM, *args], stdout=full, stderr=subprocess.PIPE, env=environment(daemon), timeout=30, check=False
        )
    assert (result.returncode, result.stderr) == (
        1,
        b"inboxctl: input or output failed: No space left on device\n",
    )


def account(uid: int, shell: str) -> pwd.struct_passwd:
    return pwd.struct_passwd(("ann", "x", uid, uid, "", "/home/ann", shell))


def test_sudo_becomes_root_unless_the_owner_is_a_person() -> None:
    assert sudo_call(account(1000, "/bin/bash")) == "sudo -u ann inboxctl"
    for owner in (None, account(0, "/bin/bash"), account(990, "/usr/sbin/nologin"), account(991, "/bin/false")):
        assert sudo_call(owner) == "sudo inboxctl"


# --- completion -------------------------------------------------------------------------------------------------------

IN_BASH = r"""
eval "$(inboxctl completion bash)"
COMP_WORDS=("${@}") COMP_CWORD=$(($# - 1))
_inboxctl_completion inboxctl
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"""


def completed_by_bash(daemon: StandIn, folder: Path, *words: str) -> list[str]:
    """What bash puts in the place of the last word."""
    script = folder / "inboxctl"
    script.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", IN_BASH, "bash", "inboxctl", *words],
        capture_output=True, env=environment(daemon, PATH=path), timeout=30, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode().splitlines()


def test_bash_completes_names_as_they_must_be_typed(daemon: StandIn, tmp_path: Path) -> None:
    for name in ("my shop", "my $HOME*'\"", "plain,er"):
        daemon.add_connector(name)
    escaped = ["my\\ shop", "my\\ \\$HOME\\*\\'\\\""]
    assert completed_by_bash(daemon, tmp_path, "emails", "my") == escaped
    assert completed_by_bash(daemon, tmp_path, "emails", "my\\ s") == ["my\\ shop"]
    assert completed_by_bash(daemon, tmp_path, "emails", '"my s') == ["my shop"]
    assert completed_by_bash(daemon, tmp_path, "emails", '"my $') == ["my \\$HOME*'\\\""]
    assert completed_by_bash(daemon, tmp_path, "emails", "'my $") == ["my $HOME*'\\''\""]
    assert completed_by_bash(daemon, tmp_path, "emails", "p") == ["plain,er"]
    assert completed_by_bash(daemon, tmp_path, "em") == ["email", "emails"]


def test_revoke_completes_the_ids_of_working_keys(daemon: StandIn, tmp_path: Path) -> None:
    for name in ("old", "ci"):
        call(daemon, "key", "create", name)
    call(daemon, "key", "revoke", "k1")
    assert completed_by_bash(daemon, tmp_path, "key", "revoke", "k") == ["k2"]
