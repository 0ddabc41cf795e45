"""Commands that follow the daemon while it works: `test`, `sync`, `watch`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta

import click

from inboxd.ctl_client import Client, DaemonAway, Failure, Row, inner
from inboxd.ctl_command import (
    Command,
    Control,
    complete_connector,
    connector_argument,
    find_connector,
    label,
    pass_control,
)
from inboxd.ctl_follow import progress_bar
from inboxd.ctl_print import GAP, duration, neutral, note, parse_moment, print_json_line, say, size

_TITLES = {"roundtrip": "ROUND TRIP"}
_MARKS = {True: ("✓", "green"), False: ("✗", "red")}
_BACK = re.compile(r"(\d{1,5})\s*(min|[mhdw])")
_BACK_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.command(cls=Command)
@connector_argument
@click.option("--imap", is_flag=True, help="Test receiving only.")
@click.option("--smtp", is_flag=True, help="Test sending only.")
@click.option("--roundtrip", is_flag=True, help="Then send a mail to the connector itself, and time its way back.")
@click.option(
    "--seconds", type=click.FloatRange(1, 3600), metavar="SECONDS", help="Wait for it so long; 60 by default."
)
@pass_control
def test(control: Control, name: str, imap: bool, smtp: bool, roundtrip: bool, seconds: float | None) -> None:
    """Try a connector's servers step by step.

    What fails is shown in the server's words, with the likely cause and what to do about it. The mail of a round trip
    stays in the mailbox; the copy stored here is deleted again.
    """
    if roundtrip and imap != smtp:
        raise click.UsageError("a round trip needs both halves: leave --imap and --smtp out")
    if seconds is not None and not roundtrip:
        raise click.UsageError("--seconds says how long a --roundtrip may take")
    client = control.client
    row = find_connector(client, name)
    kind = "both" if imap == smtp else ("imap" if imap else "smtp")
    steps: list[Row] = []
    asked = {"kind": kind, "roundtrip": roundtrip or None, "seconds": seconds}
    for step in client.stream("POST", f"/control/connectors/{row['id']}/test", **asked):
        if control.json:
            print_json_line(step)
        else:
            if not steps or steps[-1]["kind"] != step["kind"]:
                say(_TITLES.get(step["kind"]) or str(step["kind"]).upper(), bold=True)
            _print_step(step)
        steps.append(step)
    if not steps:
        raise Failure(f"{label(row)} has no {'mail' if kind == 'both' else kind.upper()} server to test")
    if failed := sum(not step["ok"] for step in steps):
        raise Failure(f"{label(row)}: {failed} of {len(steps)} steps failed")
    if not control.json:
        say(f"{label(row)} works: {len(steps)} steps in {sum(step['seconds'] for step in steps):.1f} s")


def _print_step(step: Row) -> None:
    sign, colour = _MARKS[bool(step["ok"])]
    detail = neutral(step.get("detail") or "")
    mark = click.style(sign, fg=colour)
    say(f"  {mark} {neutral(step['name']):<13}{step['seconds']:7.2f} s{GAP}{detail}".rstrip())
    for word in ("cause", "fix"):
        if step.get(word):
            say(f"      {click.style(f'{word:<5}', bold=True)}{GAP}{neutral(step[word])}")


class Moment(click.ParamType[str]):
    """A point in the past as the daemon reads it: from a date, a date and time (local unless said), or `90m`, `7d`."""

    name = "date"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The moment in ISO 8601, UTC."""
        if back := _BACK.fullmatch(value.strip()):
            span = timedelta(**{_BACK_UNITS[back[2]]: int(back[1])})
            return _iso(datetime.now(UTC) - span)
        try:
            return _iso(datetime.fromisoformat(value.strip()))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no date; write 2026-11-22, 2026-11-22T08:00 or 7d", param, ctx)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@click.command(cls=Command)
@connector_argument
@click.option("--since", type=Moment(), metavar="DATE", help="Only mail since then: 2026-11-22, or 7d for a week back.")
@click.option("--folder", metavar="FOLDER", help="Another folder than the connector's own.")
@click.option("--log", "with_log", is_flag=True, help="Print the conversation with the server.")
@pass_control
def sync(control: Control, name: str, since: str | None, folder: str | None, with_log: bool) -> None:
    """Fetch new mail now."""
    client = control.client
    row = find_connector(client, name)
    began = time.monotonic()
    wanted = {"since": since, "folder": folder, "logging": with_log or None}
    lines = client.stream("POST", f"/control/connectors/{row['id']}/sync", **wanted)
    if control.json and not with_log:
        lines = map(_without_logs, lines)
    result, received_bytes = _follow(lines, control, label(row))
    if with_log and not control.json:
        for line in _logs(client, result):
            say(neutral(line))
    if error := result.get("exception"):
        raise Failure(f"{label(row)}: {error}")
    if not control.json:
        count = result["syncResult"]["emailSyncCount"]
        seconds = time.monotonic() - began
        took = duration(seconds) if seconds > 60 else f"{seconds:.1f} s"
        say(f"{label(row)}: {count} new {'mail' if count == 1 else 'mails'}, {size(received_bytes)} in {took}")


def _logs(client: Client, result: Row) -> list[str]:
    """The conversation with the server; that of a failed sync is kept with its event."""
    if lines := inner(result, "syncResult").get("logs"):
        return lines
    event: Row = client.get(f"/connectors/events/{result['eventId']}") if result.get("eventId") else {}
    return str(event.get("logs") or "").splitlines()


def _without_logs(line: Row) -> Row:
    """The line of a sync's stream as it is without the conversation with the server."""
    inner(inner(line, "result"), "syncResult").pop("logs", None)
    return line


def _follow(lines: Iterable[Row], control: Control, title: str) -> tuple[Row, int]:
    """The result at the stream's end and the bytes received until then; progress is shown on the way."""
    received_bytes = 0
    result: Row | None = None
    with nullcontext(print_json_line) if control.json else progress_bar(title) as report:
        for line in lines:
            report(line)
            received_bytes = inner(line, "progress").get("receivedBytes", received_bytes)
            result = line.get("result", result)
    if result is None:
        raise DaemonAway("the daemon ended before the sync did; what it has stored stays")
    return result, received_bytes


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_connector)
@pass_control
def watch(control: Control, name: str | None) -> None:
    """A line for each mail as it is stored, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        client = control.client
        row = find_connector(client, name) if name is not None else None
        if sys.stderr.isatty():
            note(f"watching {label(row) if row else 'all connectors'}; Ctrl-C ends it")
        for mail in client.stream("GET", "/control/watch", connectorId=row and row["id"]):
            if control.json:
                print_json_line(mail)
            else:
                _print_arrival(mail)
        raise DaemonAway(f"the daemon at {client.path} has stopped")


def _print_arrival(mail: Row) -> None:
    stored = mail.get("storedAt")
    clock = f"{parse_moment(stored).astimezone():%H:%M:%S}" if stored else "--:--:--"
    name = click.style(neutral(str(mail.get("connectorName") or "-")), fg="cyan")
    sender, subject = (neutral(str(mail.get(field) or "-")) for field in ("from", "subject"))
    tail = click.style(f"{size(mail.get('sizeBytes'))}{GAP}{mail['id']}", dim=True)
    say(GAP.join((clock, name, sender, click.style(subject, bold=True), tail)))
    sys.stdout.flush()
