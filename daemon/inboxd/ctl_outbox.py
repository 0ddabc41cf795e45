"""`inboxctl outbox …`: the mails on their way out, and what is decided about them: list, show, retry, cancel, drop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from inboxd.ctl_client import Client, Failure, Refused, Row, checked_id
from inboxd.ctl_command import Control, Group, complete_connector, find_connector, label, offered, pass_control
from inboxd.ctl_print import (
    GAP,
    Column,
    ago,
    local_time,
    neutral,
    parse_moment,
    print_json_line,
    print_record,
    print_table,
    say,
    size,
    text_of,
)

F = TypeVar("F", bound=Callable[..., Any])
_WAITING = ("queued", "deferred")
_ON_THEIR_WAY = (*_WAITING, "sending")
_STYLES = {
    "queued": "yellow",
    "sending": "cyan",
    "deferred": "yellow",
    "sent": "green",
    "failed": "red",
    "unknown": "bold magenta",
    "cancelled": "dim",
}
STATES = tuple(_STYLES)
_COLUMNS = (
    Column("WHEN"),
    Column("STATE", styles=_STYLES),
    Column("TO / SUBJECT", flex=True),
    Column("TRIES", right=True),
    Column("NEXT / REPLY", flex=True),
    Column("ID", below="TO / SUBJECT"),
)
_RECIPIENT_COLUMNS = (
    Column("RECIPIENT", flex=True),
    Column(
        "STATE",
        styles={
            "pending": "yellow",
            "deferred": "yellow",
            "accepted": "green",
            "refused": "red",
            "unknown": "bold magenta",
            "bounced": "red",
        },
    ),
    Column("WHEN"),
    Column("THE SERVER'S WORDS", flex=True),
)
# What is still done for a mail after its sending.
_CHORES: dict[str, str] = {
    "file": "put a copy into the Sent mailbox",
    "resolve": "look in the mailbox whether it arrived",
    "answer": "mark the mail it answers",
}


# The states that wait for a person, and what there is to know about them.
_RESTING = {
    "unknown": ("It was handed over whole, and the server's answer was lost: its recipients may have it or not.",),
    "failed": (),
}


@click.group(cls=Group)
def outbox() -> None:
    """Mails on their way out.

    A mail is queued, sending, deferred (tried again by itself), sent, failed, cancelled or unknown: handed over whole,
    and the server's answer was lost. An unknown one is not sent again by itself.
    """


@outbox.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES), help="Only mails in this state; may be repeated."
)
@click.option("--connector", "name", metavar="NAME", shell_complete=complete_connector, help="Only this connector's.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="At most so many.")
@pass_control
def list_mails(control: Control, states: tuple[str, ...], name: str | None, limit: int) -> None:
    """The newest mails, whatever became of them."""
    client = control.client
    connector_id = None if name is None else find_connector(client, name)["id"]
    page = client.page("/control/outbox", limit, sort="DESC", state=states or None, connectorId=connector_id)
    control.tell(page, lambda found: _print_list(found["content"], found["totalElements"]))


def _print_list(rows: list[Row], total: int) -> None:
    lines = [
        (ago(row["createdAt"]), row["state"], _title(row), row["attempts"], _outlook(row), row["id"]) for row in rows
    ]
    print_table(_COLUMNS, lines, empty="no mails")
    if len(rows) < total and sys.stdout.isatty():
        say(f"{len(rows)} of {total}; --limit shows more", dim=True)


def _title(row: Row) -> str:
    return f"{text_of(row['to'])}: {row.get('subject') or '(no subject)'}"


def _outlook(row: Row) -> str:
    """When the next try is, for a mail that waits, and what was said last."""
    said = row.get("reply") or ""
    if row["state"] not in _WAITING:
        return said
    return f"{_next_try(row)}: {said}" if said else _next_try(row)


def _next_try(row: Row) -> str:
    when = ago(row["dueAt"])
    return when if when.startswith("in ") else "now"


def _complete_id(
    states: tuple[str, ...], ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """The ids of the newest mails, in these states if any are named."""
    page: Row = offered(ctx, "/control/outbox", size=100, state=states or None) or {"content": []}
    given: tuple[str, ...] = ctx.params.get("mail_ids") or ()
    return [
        CompletionItem(row["id"], help=neutral(f"{row['state']} {_title(row)}"))
        for row in page["content"]
        if row["id"].startswith(incomplete) and row["id"] not in given
    ]


@outbox.command("show")
@click.argument("mail_id", metavar="ID", shell_complete=partial(_complete_id, ()))
@pass_control
def show(control: Control, mail_id: str) -> None:
    """One mail: each recipient and each try, in the server's words."""
    client = control.client
    control.tell(client.get(_route(mail_id)), lambda mail: _print_mail(mail, _connector(client, mail)))


def _connector(client: Client, mail: Row) -> str:
    """What to call the connector that a mail goes through."""
    connector_id = mail.get("connectorId")
    return label(client.get(f"/connectors/{connector_id}")) if connector_id else "deleted"


def _route(mail_id: str) -> str:
    return f"/control/outbox/{checked_id(mail_id, 'a mail in the outbox')}"


def _print_mail(mail: Row, connector: str) -> None:
    waits = mail["state"] in _WAITING
    pairs: list[tuple[str, object]] = [
        ("state", mail["state"]),
        ("subject", mail.get("subject")),
        ("from", mail["from"]),
        ("id", mail["id"]),
        ("Message-ID", f"<{mail['messageId'].strip('<>')}>"),
        ("connector", connector),
        *([("through", "the relay")] if mail["relay"] else []),
        ("size", size(mail["sizeBytes"])),
        ("accepted", _moment(mail["createdAt"])),
        ("tries", mail["attempts"]),
        *([("next try", _next_try(mail)), ("gives up", _moment(mail["expiresAt"]))] if waits else []),
        *([("reply", mail["reply"])] if mail.get("reply") else []),
        *(
            [("still to do", "; ".join(_CHORES.get(chore, chore) for chore in map(str, mail["chores"])))]
            if mail["chores"]
            else []
        ),
    ]
    print_record(pairs)
    say()
    recipients = [(row["address"], row["state"], ago(row["updatedAt"]), row.get("reply")) for row in mail["recipients"]]
    print_table(_RECIPIENT_COLUMNS, recipients, empty="no recipients")
    for number, tried in enumerate(mail["tries"], 1):
        if number == 1:
            say()
        _print_try(number, tried)
    for line in _advice(mail):
        say(line)


def _moment(moment: str) -> str:
    return f"{local_time(moment)} ({ago(moment)})"


def _print_try(number: int, tried: Row) -> None:
    seconds = (parse_moment(tried["endedAt"]) - parse_moment(tried["beganAt"])).total_seconds()
    outcome = f"{tried['kind']} at {tried['stage']}" if tried["kind"] else "taken"
    head = f"try {number}{GAP}{local_time(tried['beganAt'])}{GAP}{neutral(tried['host'])}{GAP}{outcome}"
    say(f"{head} after {seconds:.1f} s")
    if tried["reply"]:
        say(f"       {neutral(tried['reply'])}")


def _advice(mail: Row) -> list[str]:
    """What the reader may do about a mail that rests."""
    if mail["state"] not in _RESTING:
        return []
    return [
        "",
        *_RESTING[mail["state"]],
        f"  inboxctl outbox retry {mail['id']}{GAP}sends it again",
        f"  inboxctl outbox drop {mail['id']}{GAP} lets it rest",
    ]


def _mails_argument(*states: str) -> Callable[[F], F]:
    """The ids of one or more mails; the shell offers those in `states`."""
    complete = partial(_complete_id, states)
    return click.argument("mail_ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete)


@outbox.command("retry")
@_mails_argument("deferred", "unknown", "failed", "cancelled")
@pass_control
def retry(control: Control, mail_ids: tuple[str, ...]) -> None:
    """Try mails now, also failed and unknown ones.

    Whoever has a mail for certain does not get it again; whoever may have an unknown one may get it twice.
    """
    _decide(control, "retry", "is tried now", mail_ids)


@outbox.command("cancel")
@_mails_argument(*_WAITING)
@pass_control
def cancel(control: Control, mail_ids: tuple[str, ...]) -> None:
    """Do not send mails that still wait."""
    _decide(control, "cancel", "is not sent", mail_ids)


@outbox.command("drop")
@_mails_argument("unknown", "failed")
@pass_control
def drop(control: Control, mail_ids: tuple[str, ...]) -> None:
    """Let failed and unknown mails rest."""
    _decide(control, "drop", "rests", mail_ids)


def _decide(control: Control, decision: str, done: str, mail_ids: tuple[str, ...]) -> None:
    """A line for each mail; Failure at the end when the daemon refused one of several."""
    client = control.client
    routes = [f"{_route(mail_id)}/{decision}" for mail_id in mail_ids]
    refused = 0
    for route in routes:
        try:
            row: Row = client.call("POST", route)
        except Refused as error:
            if len(routes) == 1:
                raise
            refused += 1
            error.show()
        else:
            if control.json:
                print_json_line(row)
            else:
                say(GAP.join((row["id"], done, neutral(_title(row)))))
    if refused:
        raise Failure(f"{refused} of {len(routes)} mails could not be changed")


def outbox_line(census: Row) -> str:
    """What waits or is unknown, in one line; empty when nothing does."""
    counts: dict[str, int] = census["counts"]
    waiting = sum(counts.get(state, 0) for state in _ON_THEIR_WAY)
    since = f" (the oldest from {ago(census['oldestWaiting'])})" if census.get("oldestWaiting") else ""
    unknown = counts.get("unknown", 0)
    parts = [
        *([f"{waiting} on the way{since}"] if waiting else []),
        *([f"{unknown} unknown, see: inboxctl outbox list --state unknown"] if unknown else []),
    ]
    return "; ".join(parts)


def on_its_way(row: Row) -> bool:
    """Whether the daemon still works on a mail."""
    return row["state"] in _ON_THEIR_WAY
