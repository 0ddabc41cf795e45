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
from inboxd.ctl_follow import STATE_STYLES, day_budget, remark, shown_state
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
from inboxd.model import Scope

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
_BUDGET_COLUMN = Column("OF A DAY'S BYTES", right=True)
_EVENT_COLUMNS = (
    Column("WHEN"),
    Column("TYPE"),
    Column("STATUS", styles={"SUCCESS": "green", "CONNECTION_ERROR": "red", "INTERNAL_ERROR": "red"}),
    Column("MAILS", right=True),
    Column("TOOK", right=True),
    Column("MESSAGE", flex=True),
    Column("ID", below="MESSAGE"),
)
_KEY_COLUMNS = (
    Column("NAME", flex=True),
    Column("ID"),
    Column("SCOPES"),
    Column("CREATED"),
    Column("LAST USED"),
    Column("REVOKED"),
    Column("INBOX", below="NAME"),
)


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
            *(("passed over", f"{one['file']}: {one['message']}") for one in answer.get("mistakes", [])),
        ]
    )
    rows = answer["connectors"]
    if not rows:
        return
    say()
    limited = any(row.get("budget") for row in rows)
    lines = [
        (
            row.get("name") or row.get("emailAddress") or row["id"],
            shown_state(row),
            ago(row.get("since")),
            ago(row.get("lastSyncAt")),
            ago(row.get("lastServerActivityAt")),
            row.get("messages"),
            *([day_budget(row)] if limited else []),
        )
        for row in rows
    ]
    print_table((*_STATUS_COLUMNS, *([_BUDGET_COLUMN] if limited else [])), lines, empty="")
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
        control.tell(client.page(f"/control/connectors/{row['id']}/events", limit, sort="DESC"), _print_events)
        return
    event = client.get(f"/control/events/{checked_id(event_id, 'an event')}")
    if event["connectorId"] != row["id"]:
        raise Failure(f"event {event_id} is not one of {label(row)}'s")
    control.tell(event, _print_event)


def _print_events(page: Row) -> None:
    lines = [
        (
            ago(row["createdAt"]),
            row["eventType"],
            row["status"],
            row["size"],
            _took(row),
            row.get("message"),
            row.get("id"),
        )
        for row in page["content"]
    ]
    print_table(_EVENT_COLUMNS, lines, empty="no events yet")


def _took(event: Row) -> str | None:
    seconds: float | None = event.get("seconds")
    if seconds is None:
        return None
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def _print_event(event: Row) -> None:
    print_record(
        [
            ("event", event["id"]),
            ("when", f"{local_time(event['createdAt'])} ({ago(event['createdAt'])})"),
            ("type", event["eventType"]),
            ("status", event["status"]),
            ("mails", event["size"]),
            ("took", _took(event)),
            ("message", event.get("message")),
        ]
    )
    if logs := event.get("logs"):
        say()
        say(neutral(logs, lines=True).rstrip())


@click.group(cls=Group)
def key() -> None:
    """Keys for the HTTP API (header x-api-key)."""


def _scopes(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """The scopes named, each once, whether one by one or with commas between them."""
    names = [name.strip().lower() for text in given for name in text.split(",")]
    known = [scope.value for scope in Scope]
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}.")
    return [name for name in known if name in names]


@key.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    callback=_scopes,
    metavar="SCOPES",
    help="What it may be used for: read, send, manage, with commas between them.  [default: all]",
)
@click.option("--inbox", "inbox_id", metavar="ID", help="The one inbox it is good for.  [default: all]")
@click.option("--quiet", "-q", is_flag=True, help="Print the key and nothing else.")
@pass_control
def create(control: Control, name: str, scopes: list[str], inbox_id: str | None, quiet: bool) -> None:
    """Make a key. It is shown only now: the daemon keeps nothing but its hash."""
    wanted: Row = {"name": name} | ({"scopes": scopes} if scopes else {})
    if inbox_id is not None:
        wanted["inboxId"] = checked_id(inbox_id, "an inbox")
    answer = control.client.call("POST", "/control/keys", wanted)
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
            ",".join(row["scopes"]),
            ago(row["createdAt"]),
            ago(row.get("lastUsedAt")),
            text_of(row.get("revokedAt") and ago(row["revokedAt"])),
            row["inboxId"] and f"inbox {row['inboxId']} only",
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
