"""`inboxctl discover` and `connector add --email`: what is shown, what is filled in, what an option changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ctl_calls import call, changes, on_terminal, stand_in
from servers.control_state import Row, StandIn

ADDRESS = "ann@example.com"
ADD = ("connector", "add", "--email", ADDRESS)


def server(host: str, port: int, tls: str, username: str) -> Row:
    return {"host": host, "port": port, "tls": tls, "username": username, "password": True, "oauth2": False}


FOUND: Row = {
    "source": "autoconfig",
    "where": "https://autoconfig.example.com/mail/config-v1.1.xml",
    "imap": server("imap.example.com", 993, "implicit", "ann"),
    "smtp": server("smtp.example.com", 587, "starttls", ADDRESS),
    "provider": "Example Mail",
    "secret": "app password",
    "how": "make one in the settings",
    "oauth2Only": False,
    "notes": ["beware \x1b[31mof this"],
    "alternatives": [
        {
            "source": "SRV",
            "where": "example.com",
            "imap": server("other.example.com", 143, "starttls", "a"),
            "smtp": None,
        }
    ],
    "vain": [{"source": "well-known", "reason": "example.com answered 404"}],
}


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        running.discovery = dict(FOUND)
        yield running


def created(daemon: StandIn) -> Row:
    """The one body a connector was created with."""
    (body,) = daemon.bodies("POST", "/connectors/withOptions")
    return body


def test_what_was_found_is_shown_with_its_source(daemon: StandIn) -> None:
    shown = call(daemon, "discover", ADDRESS)
    assert shown.exit_code == 0, shown.output
    for words in (
        "autoconfig (https://autoconfig.example.com/mail/config-v1.1.xml)",
        "imap.example.com:993, implicit TLS, as ann",
        "smtp.example.com:587, STARTTLS, as ann@example.com",
        "app password: make one in the settings",
        "SRV (example.com): imap other.example.com:143, STARTTLS, as a",
        "well-known: example.com answered 404",
        "beware \u241b[31mof this",
    ):
        assert words in shown.stdout
    assert json.loads(call(daemon, "discover", ADDRESS, "--json").stdout) == FOUND | {"emailAddress": ADDRESS}
    assert changes(daemon) == []


def test_add_needs_nothing_but_the_address_and_the_secret(daemon: StandIn) -> None:
    result = call(daemon, *ADD, "--password-stdin", stdin="pw\n")
    assert result.exit_code == 0, result.output
    assert created(daemon) == {
        "createConnectorOptions": {"name": ADDRESS, "emailAddress": ADDRESS, "enabled": True},
        "createConnectorImapConnectionOptions": {
            "imapHost": "imap.example.com", "imapPort": 993, "imapSsl": True, "startTls": False,
            "imapUsername": "ann", "imapPassword": "pw", "enabled": True,
        },
        "createConnectorSmtpConnectionOptions": {
            "smtpHost": "smtp.example.com", "smtpPort": 587, "smtpSsl": False, "startTls": True,
            "smtpUsername": ADDRESS, "smtpPassword": "pw", "enabled": True,
        },
        "createConnectorSyncSettingsOptions": {
            "syncEnabled": True, "syncScheduleType": "INTERVAL", "syncInterval": None,
        },
    }  # fmt: skip
    assert "IMAP  imap.example.com:993, implicit TLS, as ann" in result.stderr
    assert "wanted: app password: make one in the settings" in result.stderr
    assert "\x1b" not in result.stderr
    assert f"added {ADDRESS}" in result.stdout


def test_on_a_terminal_the_secret_is_asked_for_after_what_was_found(daemon: StandIn) -> None:
    status, shown = on_terminal(daemon, (*ADD, "--no-wait"), {"Password": "s3cret word"})
    assert status == 0, shown
    assert shown.index("wanted: app password") < shown.index("Password")
    assert created(daemon)["createConnectorSmtpConnectionOptions"]["smtpPassword"] == "s3cret word"
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("options", "half", "wanted"),
    [
        (("--imap-port", "143"), "Imap", {"imapPort": 143, "imapHost": "imap.example.com", "imapUsername": "ann"}),
        (("--imap-tls", "starttls"), "Imap", {"imapSsl": False, "startTls": True, "imapHost": "imap.example.com"}),
        (("--imap-user", "login"), "Imap", {"imapUsername": "login", "imapPort": 993}),
        (("--imap-user", "login"), "Smtp", {"smtpUsername": "login", "smtpPort": 587}),
        (("--smtp-user", "other"), "Smtp", {"smtpUsername": "other"}),
        (("--imap-port", "993", "--imap-tls", "none"), "Imap", {"imapPort": 993, "imapSsl": False, "startTls": False}),
    ],
)
def test_what_is_said_goes_before_what_was_found(
    daemon: StandIn, options: tuple[str, ...], half: str, wanted: dict[str, Any]
) -> None:
    assert call(daemon, *ADD, "--password-stdin", *options, stdin="pw").exit_code == 0
    body = created(daemon)[f"createConnector{half}ConnectionOptions"]
    assert {key: body.get(key) for key in wanted} == wanted
    if "--imap-port" in options and "--imap-tls" not in options:
        assert "imapSsl" not in body, "the mode found belongs to the port found"
    if options[0] == "--imap-tls":
        assert "imapPort" not in body


def test_a_host_that_is_said_is_not_looked_for(daemon: StandIn) -> None:
    assert call(daemon, *ADD, "--smtp-host", "s.example.com", "--password-stdin", stdin="pw").exit_code == 0
    assert not any(asked.path == "/control/discover" for asked in daemon.asked)
    assert created(daemon)["createConnectorOptions"]["name"] == ADDRESS


def test_where_only_oauth2_helps_no_password_is_asked_for(daemon: StandIn) -> None:
    daemon.discovery = FOUND | {"oauth2Only": True, "secret": "OAuth2", "how": "sign in"}
    result = call(daemon, *ADD)
    assert result.exit_code == 0, result.output
    assert "imapPassword" not in created(daemon)["createConnectorImapConnectionOptions"]
    assert "wanted: OAuth2: sign in" in result.stderr
    assert f"inboxctl oauth login {ADDRESS}" in result.stdout


def test_a_password_given_all_the_same_is_kept_with_a_warning(daemon: StandIn) -> None:
    daemon.discovery = FOUND | {"oauth2Only": True}
    result = call(daemon, *ADD, "--password-stdin", stdin="pw")
    assert result.exit_code == 0, result.output
    assert created(daemon)["createConnectorImapConnectionOptions"]["imapPassword"] == "pw"
    assert "known to refuse passwords" in result.stderr


def test_nothing_is_created_when_nothing_was_found(daemon: StandIn) -> None:
    daemon.discovery = None
    result = call(daemon, *ADD, "--password-stdin", stdin="pw")
    assert (result.exit_code, changes(daemon)) == (1, [])
    assert "no settings were found for example.com" in result.stderr
    result = call(daemon, "connector", "add", "work", "--email", "nonsense", "--password-stdin", stdin="pw")
    assert result.exit_code == 2
    assert result.stderr == "inboxctl: --email: write a mail address with a domain, for example name@example.com\n"
