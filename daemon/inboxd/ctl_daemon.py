"""Commands about the daemon itself: `status`, `dashboard`, `events`, `key …`."""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from inboxd.ctl_client import BadInput, Failure, Row, checked_id
from inboxd.ctl_command import (
    Command,
    Control,
    Group,
    connector_argument,
    find_connector,
    label,
    offered,
    pass_control,
)
from inboxd.ctl_follow import STATE_STYLES, remark, shown_state
from inboxd.ctl_outbox import outbox_line
from inboxd.ctl_print import (
    Column,
    ago,
    duration,
    local_time,
    neutral,
    note,
    print_record,
    print_table,
    say,
    text_of,
)

_SITE = re.compile(r"https?://[^\s/?#@]+/?", re.IGNORECASE)
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STATUS_COLUMNS = (
    Column("NAME", flex=True),
    Column("STATE", styles=STATE_STYLES),
    Column("SINCE"),
    Column("LAST SYNC"),
    Column("SERVER HEARD"),
    Column("MAILS", right=True),
)
_EVENT_COLUMNS = (
    Column("WHEN"),
    Column("TYPE"),
    Column("STATUS", styles={"SUCCESS": "green", "CONNECTION_ERROR": "red", "INTERNAL_ERROR": "red"}),
    Column("MAILS", right=True),
    Column("MESSAGE", flex=True),
    Column("ID", below="MESSAGE"),
)
_KEY_COLUMNS = (Column("NAME", flex=True), Column("ID"), Column("CREATED"), Column("LAST USED"), Column("REVOKED"))


@click.command(cls=Command)
@pass_control
def status(control: Control) -> None:
    """Whether the daemon is well, and what each connector is doing."""
    control.tell(control.client.get("/control/status"), _print_status)


def _print_status(answer: Row) -> None:
    print_record(
        [
            ("inboxd", f"{answer['version']}, process {answer['pid']}, up {duration(answer['uptimeSeconds'])}"),
            ("API", answer["api"]),
            ("metrics", answer["metrics"]),
            ("state", answer["stateDir"]),
            ("store", answer["store"]),
            *([("outbox", line)] if (line := outbox_line(answer["outbox"])) else []),
            ("connectors", _summary(answer["connectors"])),
        ]
    )
    rows = answer["connectors"]
    if not rows:
        return
    say()
    lines = [
        (
            row.get("name") or row.get("emailAddress") or row["id"],
            shown_state(row),
            ago(row.get("since")),
            ago(row.get("lastSyncAt")),
            ago(row.get("lastServerActivityAt")),
            row.get("messages"),
        )
        for row in rows
    ]
    print_table(_STATUS_COLUMNS, lines, empty="")
    remarks = [line for line in map(remark, rows) if line]
    for line in ["", *remarks] if remarks else ():
        say(line)


def _summary(rows: list[Row]) -> str:
    states = Counter(str(shown_state(row)) for row in rows)
    return f"{len(rows)}" + (f" ({', '.join(f'{count} {state}' for state, count in states.items())})" if rows else "")


@click.command(cls=Command)
@click.option("--url", metavar="URL", help="Where your browser reaches it, when that is through a proxy or a tunnel.")
@pass_control
def dashboard(control: Control, url: str | None) -> None:
    """Print a link that signs your browser in to the dashboard, once, within two minutes."""
    if url is not None and not _SITE.fullmatch(url):
        raise BadInput(f"--url: {url!r} is no address of a site; write it like https://mail.example.org")
    answer = control.client.call("POST", "/ui/invite")
    if url is not None:
        link = urlsplit(str(answer["link"]))
        answer["link"] = f"{url.rstrip('/')}{link.path}?{link.query}"
    control.tell(answer, _print_link)


def _print_link(answer: Row) -> None:
    say(str(answer["link"]))
    note(f"It signs in once, within {duration(answer['seconds'])}.")


@click.command(cls=Command)
@connector_argument
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="At most so many.")
@click.option("--id", "event_id", metavar="EVENT", help="One event with its log.")
@pass_control
def events(control: Control, name: str, limit: int, event_id: str | None) -> None:
    """What a connector did last: syncs and sends, newest first."""
    client = control.client
    row = find_connector(client, name)
    if event_id is None:
        control.tell(client.page(f"/connectors/{row['id']}/events", limit, sort="DESC"), _print_events)
        return
    event = client.get(f"/connectors/events/{checked_id(event_id, 'an event')}")
    if event["connectorId"] != row["id"]:
        raise Failure(f"event {event_id} is not one of {label(row)}'s")
    control.tell(event, _print_event)


def _print_events(page: Row) -> None:
    lines = [
        (ago(row["createdAt"]), row["eventType"], row["status"], row["size"], row.get("message"), row.get("id"))
        for row in page["content"]
    ]
    print_table(_EVENT_COLUMNS, lines, empty="no events yet")


def _print_event(event: Row) -> None:
    print_record(
        [
            ("event", event["id"]),
            ("when", f"{local_time(event['createdAt'])} ({ago(event['createdAt'])})"),
            ("type", event["eventType"]),
            ("status", event["status"]),
            ("mails", event["size"]),
            ("message", event.get("message")),
        ]
    )
    if logs := event.get("logs"):
        say()
        say(neutral(logs, lines=True).rstrip())


@click.group(cls=Group)
def key() -> None:
    """Keys for the HTTP API (header x-api-key)."""


@key.command("create")
@click.argument("name")
@click.option("--quiet", "-q", is_flag=True, help="Print the key and nothing else.")
@pass_control
def create(control: Control, name: str, quiet: bool) -> None:
    """Make a key. It is shown only now: the daemon keeps nothing but its hash."""
    answer = control.client.call("POST", "/control/keys", {"name": name})
    control.tell(answer, lambda made: _print_key(made, quiet=quiet))


def _print_key(made: Row, *, quiet: bool) -> None:
    say(str(made["key"]))
    if not quiet:
        note(f"Key {neutral(str(made['name']))} ({made['id']}) is shown only this once. Use it as: x-api-key: <key>")


@key.command("list")
@pass_control
def list_keys(control: Control) -> None:
    """The keys made so far, without their secrets."""
    control.tell(control.client.get("/control/keys"), _print_keys)


def _print_keys(rows: list[Row]) -> None:
    lines = [
        (
            row["name"],
            row["id"],
            ago(row["createdAt"]),
            ago(row.get("lastUsedAt")),
            text_of(row.get("revokedAt") and ago(row["revokedAt"])),
        )
        for row in rows
    ]
    print_table(_KEY_COLUMNS, lines, empty="no keys yet; make one with: inboxctl key create NAME")


def _complete_key(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The ids of the keys that still open something."""
    rows: list[Row] = offered(ctx, "/control/keys") or []
    return [
        CompletionItem(row["id"], help=neutral(str(row["name"])))
        for row in rows
        if row["id"].startswith(incomplete) and not row["revokedAt"]
    ]


@key.command("revoke")
@click.argument("key_id", metavar="ID", shell_complete=_complete_key)
@pass_control
def revoke(control: Control, key_id: str) -> None:
    """Make a key useless at once."""
    if not _KEY_ID.fullmatch(key_id):
        raise BadInput(f"{key_id!r} is not the id of a key; inboxctl key list shows them")
    control.client.call("DELETE", f"/control/keys/{key_id}")
    control.tell({"id": key_id, "revoked": True}, lambda _: say(f"revoked {key_id}"))
