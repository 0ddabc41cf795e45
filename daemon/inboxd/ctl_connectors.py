"""`inboxctl connector …`: add, list, show, set, enable, disable, remove."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from inboxd.ctl_account import (
    ENABLED,
    HALVES,
    NAME,
    OAUTH,
    SYNC,
    Form,
    Passwords,
    account_options,
    form,
    in_options,
    new_connection_json,
    sync_json,
    tls_mode,
)
from inboxd.ctl_change import change, put
from inboxd.ctl_client import BadInput, Client, Row, inner
from inboxd.ctl_command import (
    Control,
    Group,
    connector_argument,
    find_connector,
    label,
    pass_control,
    refuse_taken,
)
from inboxd.ctl_discover import filled_in, servers_of, tell_found
from inboxd.ctl_follow import STATE_STYLES, follow_first_sync, shown_state
from inboxd.ctl_print import Column, ago, local_time, note, print_record, print_table, say, size

_OPTIONS_OF_HALF = {
    "imap": "createConnectorImapConnectionOptions",
    "smtp": "createConnectorSmtpConnectionOptions",
}
_OPTIONS_OF_SYNC = "createConnectorSyncSettingsOptions"
_WAY = {
    "passwordSource": "password from",
    "sslTrust": "trusting",
    "caFile": "authorities in",
    "clientCertificate": "showing",
}
_MOMENTS = (("since", "since"), ("next try", "retryAt"))
_PAUSES = (("load goes on", "restsUntil"),)
# What is used of what may be: its field, how it is written, and words after it.
_SHARES: dict[str, tuple[tuple[str, Callable[[int], str], str], ...]] = {
    "connections": (("connections", str, "open"),),
    "logins": (("logins", str, "in the last minute"),),
    "of a day": (("receivedBytes", size, "downloaded"),),
    "sent": (("sentInDay", str, "in a day"), ("sentInMinute", str, "in a minute")),
}
_LIST_COLUMNS = (
    Column("NAME", flex=True),
    Column("EMAIL", flex=True),
    Column("STATE", styles=STATE_STYLES),
    Column("MAILS", right=True),
    Column("LAST SYNC"),
    Column("ID", piped=True),
)


@click.group(cls=Group)
def connector() -> None:
    """External mailboxes linked to local inboxes."""


@connector.command("add")
@click.argument("name", required=False)
@account_options
@click.option("--inbox", metavar="ID", help="Put the mail into this inbox; by default a new one is made.")
@click.option("--oauth", is_flag=True, help="Log in by OAuth2, not by a password: inboxctl oauth login comes next.")
@click.option("--no-sync", is_flag=True, help="Fetch mail only when asked, not by itself.")
@click.option("--no-wait", is_flag=True, help="On a terminal: do not follow the first sync.")
@pass_control
def add(
    control: Control,
    name: str | None,
    toml: Path | None,
    password_stdin: bool,
    inbox: str | None,
    oauth: bool,
    no_sync: bool,
    no_wait: bool,
    **given: Any,
) -> None:
    """Link a mailbox.

    With --email alone its servers are found. The password is read from a file, from standard input, or asked for;
    never given as an argument.
    """
    filled = form({**given, "name": name, "sync": False if no_sync else None, "oauth": oauth or None}, toml)
    filled.setdefault(NAME.name, filled.get("email"))
    if not filled[NAME.name]:
        raise BadInput("what is it to be called? give NAME")
    if not _halves(filled) and "email" not in filled:
        raise BadInput("give --email, to have the servers found; else give --imap-host, --smtp-host or both")
    client = control.client
    refuse_taken(client, filled["name"])
    passwords = Passwords(filled, stdin=password_stdin, prompt=False)
    oauth = filled.get(OAUTH.name, False)
    if not _halves(filled):
        filled, only_oauth = _discovered(client, filled, named=passwords.named)
        oauth = oauth or only_oauth
    halves = _halves(filled)
    body = creation(filled, halves, None if oauth else passwords)
    with in_options():
        row: Row = client.call("POST", "/connectors/withOptions", body, query={"inboxId": inbox})
    control.tell(row, lambda made: _tell_added(made, has_imap="imap" in halves, oauth=oauth))
    watched = sys.stdout.isatty() and sys.stderr.isatty() and not (control.json or no_wait or oauth)
    if watched and _OPTIONS_OF_SYNC in body:
        follow_first_sync(client, row)


def _halves(filled: Form) -> list[str]:
    return [half for half in HALVES if f"{half}.host" in filled]


def _discovered(client: Client, filled: Form, *, named: bool) -> tuple[Form, bool]:
    """The form with the servers of its address, and whether they are to be logged in at by OAuth2.

    `named`: a password was, so that it is tried even where none is said to work.
    """
    found = servers_of(client, filled["email"])
    tell_found(found)
    if found["oauth2Only"] and named:
        note("warning: this provider is known to refuse passwords; the one given is stored all the same")
    return filled_in(filled, found), found["oauth2Only"] and not named


def creation(filled: Form, halves: list[str], passwords: Passwords | None) -> Row:
    """The request that makes the connector; BadInput when a password, or who logs in, is missing."""
    login = {"imap": filled.get("email"), "smtp": filled.get("imap.user") or filled.get("email")}
    body: Row = {
        "createConnectorOptions": {
            "name": filled["name"],
            "emailAddress": filled.get("email"),
            "enabled": filled.get(ENABLED.name, True),
        }
    }
    for half in halves:
        body[_OPTIONS_OF_HALF[half]] = new_connection_json(filled, half, login[half], passwords)
    if "imap" in halves and filled.get(SYNC.name, True):
        body[_OPTIONS_OF_SYNC] = sync_json(filled.get("interval"))
    return body


def _tell_added(row: Row, *, has_imap: bool, oauth: bool) -> None:
    quoted = shlex.quote(label(row))
    say(f"added {label(row)}; its mail goes to inbox {row['inboxId']}")
    if oauth:
        say(f"now have its mailbox consented to: inboxctl oauth login {quoted}")
        return
    say(f"see whether it works: inboxctl test {quoted}" + (f"; inboxctl watch {quoted}" if has_imap else ""))


@connector.command("list")
@pass_control
def list_connectors(control: Control) -> None:
    """All connectors and what each is doing."""
    client = control.client
    control.tell(client.page("/connectors"), lambda page: _print_list(client, page["content"]))


def _print_list(client: Client, rows: list[Row]) -> None:
    states = {state["id"]: state for state in client.get("/control/status")["connectors"]}
    lines: list[tuple[object, ...]] = []
    for row in rows:
        state = states.get(row["id"], {})
        lines.append(
            (
                row.get("name"),
                row.get("emailAddress"),
                shown_state(state),
                state.get("messages"),
                ago(state.get("lastSyncAt")),
                row["id"],
            )
        )
    print_table(_LIST_COLUMNS, lines, empty="no connectors yet; add one with: inboxctl connector add")


@connector.command("show")
@connector_argument
@pass_control
def show(control: Control, name: str) -> None:
    """Everything known about one connector, except its passwords."""
    client = control.client
    control.tell(_whole(client, find_connector(client, name)), _print_whole)


def _whole(client: Client, row: Row) -> Row:
    """The connector with its connections, its sync settings and what it is doing; null where there is none."""
    parts = {part: client.get(f"/connectors/{row['id']}/{part}") for part in (*HALVES, "sync-settings")}
    states = client.get("/control/status")["connectors"]
    return {
        "connector": row,
        "imap": parts["imap"].get("result"),
        "smtp": parts["smtp"].get("result"),
        "syncSettings": parts["sync-settings"].get("result"),
        "usage": client.get(f"/control/connectors/{row['id']}/usage"),
        "status": next((state for state in states if state["id"] == row["id"]), None),
    }


def _print_whole(whole: Row) -> None:
    row, settings, state = whole["connector"], whole["syncSettings"], inner(whole, "status")
    usage = inner(whole, "usage")
    pairs: list[tuple[str, object]] = [
        ("name", row.get("name")),
        ("email", row.get("emailAddress")),
        ("id", row["id"]),
        ("inbox", row["inboxId"]),
        ("created", local_time(row["createdAt"])),
        ("enabled", row["enabled"]),
        *([("declared", state["declared"])] if state.get("declared") else []),
        *((half, _connection_line(whole[half], half)) for half in HALVES),
    ]
    if imap := whole["imap"]:
        followed = [("folders", ", ".join(imap["folders"]))] if imap.get("folders") else []
        pairs += [
            ("folder", imap.get("selectFolder") or "INBOX"),
            *followed,
            ("search", imap.get("searchTerms") or "everything"),
            *([("mirror", "deletes what is deleted there")] if imap.get("mirror") else []),
        ]
    pairs += [
        ("sync", _sync_line(settings)),
        ("state", shown_state(state)),
        *((name, ago(state[field])) for name, field in _MOMENTS if state.get(field)),
        *([("reason", state["reason"])] if state.get("reason") else []),
        ("mails", state.get("messages")),
        ("last sync", ago(state.get("lastSyncAt"))),
        ("server heard", ago(state.get("lastServerActivityAt"))),
        *((name, line) for name, shares in _SHARES.items() if (line := _used(usage, shares))),
        *((name, ago(usage[field])) for name, field in _PAUSES if usage.get(field)),
    ]
    print_record(pairs)


def _used(usage: Row, shares: Iterable[tuple[str, Callable[[int], str], str]]) -> str:
    """How much is used, and of what where that is limited; empty where nothing is counted."""
    said: list[str] = []
    for field, shown, words in shares:
        if share := usage.get(field):
            most = "" if share["limit"] is None else f" of {shown(share['limit'])}"
            said.append(f"{shown(share['used'])}{most} {words}")
    return ", ".join(said)


def _connection_line(row: Row | None, half: str) -> str | None:
    if row is None:
        return None
    port = f":{row[f'{half}Port']}" if row.get(f"{half}Port") else ""
    line = f"{row[f'{half}Host']}{port}, {tls_mode(row, half)}, as {row.get(f'{half}Username') or 'nobody'}"
    line += "".join(f", {word} {row[field]}" for field, word in _WAY.items() if row.get(field))
    if row.get("proxyEnabled"):
        line += f", through the proxy {row.get('proxyHost')}"
    return line if row.get("enabled") is not False else f"{line} (disabled)"


def _sync_line(settings: Row | None) -> str:
    if settings is None or not settings["syncEnabled"]:
        return "only when asked"
    minutes = settings.get("syncInterval")
    return f"by itself, at least every {minutes} min" if minutes else "by itself"


@connector.command("set")
@connector_argument
@click.option("--name", "new_name", metavar="NAME", help="Rename it.")
@account_options
@click.option("--password-prompt", is_flag=True, help="Ask for a new password.")
@click.option("--sync/--no-sync", default=None, help="Fetch new mail by itself, or only when asked.")
@pass_control
def set_options(
    control: Control,
    name: str,
    new_name: str | None,
    toml: Path | None,
    password_stdin: bool,
    password_prompt: bool,
    **given: Any,
) -> None:
    """Change a connector; what is not given stays as it is.

    A new password is also SMTP's when both log in under the same name.
    """
    filled = form({**given, "name": new_name}, toml)
    passwords = Passwords(filled, stdin=password_stdin, prompt=password_prompt)
    if not filled and not passwords.named:
        raise BadInput("nothing to change; inboxctl connector set --help lists what can be")
    client = control.client
    row = find_connector(client, name)
    if NAME.name in filled and filled[NAME.name] != row.get("name"):
        refuse_taken(client, filled[NAME.name])
    changed = change(client, row, filled, passwords)
    if control.json:
        control.tell(_whole(client, find_connector(client, row["id"])), _print_whole)
    else:
        say(f"{label(row)}: changed {', '.join(changed)}" if changed else f"{label(row)}: was so already")


@connector.command("enable")
@connector_argument
@pass_control
def enable(control: Control, name: str) -> None:
    """Switch a connector on."""
    _switch(control, name, enabled=True)


@connector.command("disable")
@connector_argument
@pass_control
def disable(control: Control, name: str) -> None:
    """Switch a connector off; its settings and mails stay."""
    _switch(control, name, enabled=False)


def _switch(control: Control, name: str, *, enabled: bool) -> None:
    client = control.client
    changed = put(client, find_connector(client, name), enabled=enabled)
    control.tell(changed, lambda row: say(f"{label(row)} is {'enabled' if enabled else 'disabled'}"))


@connector.command("remove")
@connector_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_control
def remove(control: Control, name: str, yes: bool) -> None:
    """Unlink a mailbox. The inbox and the mails in it stay; nothing is touched at the mail server."""
    client = control.client
    row = find_connector(client, name)
    if not yes and not sys.stdin.isatty():
        raise BadInput("nobody here to confirm it; say --yes")
    if not yes:
        click.confirm(f"Remove {label(row)} ({row['id']}) with its passwords and events?", abort=True, err=True)
    client.call("DELETE", f"/connectors/{row['id']}")
    answer = {"id": row["id"], "removed": True}
    control.tell(answer, lambda _: say(f"removed {label(row)}; its mails stay in inbox {row['inboxId']}"))
