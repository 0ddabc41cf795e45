"""What a connector is doing: its state in words, and a sync's progress as a bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from inboxd.ctl_client import Client, Failure, Row
from inboxd.ctl_command import label
from inboxd.ctl_print import ago, duration, neutral, note, say, size

STATE_STYLES = {
    "idle": "green",
    "polling": "green",
    "syncing": "cyan",
    "connecting": "yellow",
    "waiting": "yellow",
    "throttled": "yellow",
    "parked": "red",
    "needs_reauth": "red",
    "off": "dim",
    "disabled": "dim",
}
_LOOK_SECONDS = 0.5
_START_SECONDS = 10.0
_LINE_SECONDS = 10.0
# What the bar says of a state as long as the number of mails is unknown.
_STAGES: dict[object, str] = {"connecting": "connecting…", "syncing": "looking…"}
Report = Callable[[Row], None]


def shown_state(state: Row) -> str | None:
    """A connector's state as one word: `disabled` rather than `off` when somebody switched it off."""
    return "disabled" if state.get("enabled") is False else state.get("state")


def remark(row: Row) -> str:
    """What a connector's line has no room for: why it waits, or how far its sync is."""
    if reason := row.get("reason"):
        retry = f"; next try {ago(row['retryAt'])}" if row.get("retryAt") else ""
        tries = f" after {row['failures']} failures" if (row.get("failures") or 0) > 1 else ""
        return f"{label(row)} is {shown_state(row)}{tries}: {neutral(str(reason))}{retry}"
    if progress := row.get("progress"):
        return f"{label(row)}: {how_far(progress)}"
    return ""


def how_far(progress: Row) -> str:
    """A sync's progress in words: `backfill 43 % · 1,234 mails/s · 2 min left` for the first load of a mailbox."""
    if not progress.get("backfill"):
        return f"{progress['done']}/{progress['total']} mails, {size(progress['receivedBytes'])}"
    parts = [f"backfill {100 * progress['done'] // max(progress['total'], 1)} %"]
    if rate := progress.get("messagesPerSecond"):
        parts.append(f"{rate:,.0f} mails/s" if rate >= 10 else f"{rate:.1f} mails/s")
    return " · ".join([*parts, *_left(progress)])


def day_budget(row: Row) -> str | None:
    """What a connector's account has downloaded in a day, of what it may; None where nothing limits it."""
    budget = row.get("budget")
    return f"{size(budget['usedBytes'])} of {size(budget['limitBytes'])}" if budget else None


def _left(progress: Row) -> list[str]:
    seconds = progress.get("etaSeconds")
    return [] if seconds is None else [f"{duration(seconds)} left"]


@contextmanager
def progress_bar(title: str) -> Generator[Report]:
    """Mails done of planned, bytes, rate, time left, on standard error: a bar on a terminal, else a line now and then.

    It is told by lines of a sync's stream or rows of the daemon's status: their `progress`, null until all is known.
    """
    if not sys.stderr.isatty():
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    began = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[stage]}", markup=False),
        TextColumn("{task.fields[received]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
        console=Console(stderr=True, markup=False, highlight=False, emoji=False),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None, stage=_STAGES["syncing"], received="", left="")

        def report(line: Row) -> None:
            progress = line.get("progress")
            if progress and progress["total"]:
                done, total, got = progress["done"], progress["total"], progress["receivedBytes"]
                rate = progress.get("bytesPerSecond") or got / max(time.monotonic() - began, 0.001)
                received, left = f"{size(got)} ({size(round(rate))}/s)", "".join(_left(progress))
                stage = f"{done}/{total} mails"
                bar.update(task, completed=done, total=total, stage=stage, received=received, left=left)
            elif stage := _STAGES.get(line.get("state")):
                bar.update(task, stage=stage)

        yield report


def _lines(title: str) -> Report:
    """A line for those who read it later, as seldom as they can bear."""
    told_at = time.monotonic()

    def report(line: Row) -> None:
        nonlocal told_at
        progress = line.get("progress")
        if progress and progress["total"] and time.monotonic() - told_at >= _LINE_SECONDS:
            told_at = time.monotonic()
            note(f"{title}: {how_far(progress)}")

    return report


def follow_first_sync(client: Client, row: Row) -> None:
    """The daemon's first sync of a new connector as a bar, until it listens or is in trouble; then a line about it.

    Ctrl-C ends the following alone.
    """
    state = row
    try:
        with progress_bar(label(row)) as report:
            for state in _states(client, row):
                report(state)
    except KeyboardInterrupt:
        note(f"{label(row)}: the daemon goes on with the sync; inboxctl status shows how far it is")
        return
    mails = f"{state['messages']} {'mail' if state['messages'] == 1 else 'mails'}"
    say(remark(state) or f"{label(state)} is {shown_state(state)}; its inbox holds {mails}")


def _states(client: Client, row: Row) -> Iterator[Row]:
    """The connector's rows in the daemon's status, the last one when it neither starts nor works any more."""
    patience = time.monotonic() + _START_SECONDS
    begun = False
    while True:
        rows = client.get("/control/status")["connectors"]
        state = next((each for each in rows if each["id"] == row["id"]), None)
        if state is None:
            raise Failure(f"{label(row)} was removed while its first sync ran")
        yield state
        begun = begun or state["state"] in _STAGES
        starting = state["state"] == "off" and not begun and time.monotonic() < patience
        if state["state"] not in _STAGES and not starting:
            return
        time.sleep(_LOOK_SECONDS)
