"""`inboxctl plan` and `inboxctl apply`: connectors declared in files."""

from __future__ import annotations

import sys
from collections import Counter

import click

from inboxd.ctl_client import BadInput, Client, Failure, Row, inner
from inboxd.ctl_command import Command, Control, label, pass_control
from inboxd.ctl_print import GAP, duration, neutral, note, print_json, print_json_line, say, size

DIFFERENT_STATUS = 4
_UNCHANGED = "unchanged"
_MARKS = {
    "create": ("+", "green"),
    "change": ("~", "yellow"),
    "disable": ("-", "yellow"),
    "delete": ("-", "red"),
    _UNCHANGED: (" ", None),
}
_DONE = {"create": "created", "change": "changed", "disable": "disabled", "delete": "deleted", _UNCHANGED: _UNCHANGED}
# Not worth a line where a connector is new.
_OBVIOUS = {
    ("enabled", "true"),
    ("sync", "true"),
    ("imap.enabled", "true"),
    ("smtp.enabled", "true"),
    ("imap.mirror", "false"),
}
_PRUNE = click.option("--prune", is_flag=True, help="Delete connectors whose files are gone; their mails stay.")
_NOTHING = "no connector is declared; the setting connectors.folder says where their files are looked for"


@click.command(cls=Command)
@_PRUNE
@click.option("--no-survey", is_flag=True, help="Do not ask the servers what would be fetched.")
@pass_control
def plan(control: Control, prune: bool, no_survey: bool) -> None:
    """What `apply` would do to the connectors declared in files.

    Nothing is changed or fetched; of what is new the folders, mails, bytes and time are shown. Exit status 4 says that
    there are differences, 1 that a file has a mistake.
    """
    lines: list[Row] = []
    for line in control.client.stream("GET", "/control/declared/plan", prune=prune, survey=not no_survey):
        if control.json:
            print_json_line(line)
        else:
            _print_line(line)
        lines.append(line)
    changes = [line["change"] for line in lines if "change" in line]
    mistakes = [line["mistake"] for line in lines if "mistake" in line]
    if not lines:
        note(_NOTHING)
    elif not control.json:
        say(f"to do: {_census(changes, {action: action for action in _MARKS}) or 'nothing'}")
    _fail_by(mistakes)
    if any(change["action"] != _UNCHANGED for change in changes):
        sys.exit(DIFFERENT_STATUS)


@click.command(cls=Command)
@_PRUNE
@click.option("--yes", is_flag=True, help="Do not ask before connectors are deleted.")
@pass_control
def apply(control: Control, prune: bool, yes: bool) -> None:
    """Read the files again and bring their connectors to what they say.

    A second time does nothing. Exit status 1 says that a file has a mistake; the others are applied all the same.
    """
    client = control.client
    if prune and not yes:
        _confirm(client)
    answer: Row = client.call("POST", "/control/declared/apply", query={"prune": prune})
    if control.json:
        print_json(answer)
    else:
        for mistake in answer["mistakes"]:
            _print_mistake(mistake)
        for change in answer["changes"]:
            if change["action"] != _UNCHANGED:
                _print_change(change)
        done = _census(answer["changes"], _DONE)
        say(done) if done else note(_NOTHING)
    _fail_by(answer["mistakes"])


def _confirm(client: Client) -> None:
    lines = client.stream("GET", "/control/declared/plan", prune=True, survey=False)
    doomed = [line["change"] for line in lines if inner(line, "change").get("action") == "delete"]
    if not doomed:
        return
    if not sys.stdin.isatty():
        raise BadInput("nobody here to confirm what is deleted; say --yes")
    names = ", ".join(_called(change) for change in doomed)
    click.confirm(f"Delete {names} with their passwords and events?", abort=True, err=True)


def _fail_by(mistakes: list[Row]) -> None:
    if mistakes:
        count = len(mistakes)
        raise Failure(
            f"{count} {'file has a mistake and was' if count == 1 else 'files have mistakes and were'} passed over"
        )


def _census(changes: list[Row], words: dict[str, str]) -> str:
    counts = Counter(change["action"] for change in changes)
    return ", ".join(f"{counts[action]} {word}" for action, word in words.items() if counts[action])


def _print_line(line: Row) -> None:
    for part, render in _RENDERERS.items():
        if part in line:
            render(line[part])


def _print_mistake(mistake: Row) -> None:
    say(f"{click.style('✗', fg='red')} {neutral(mistake['file'])}{GAP}{neutral(mistake['message'])}")


def _print_change(change: Row) -> None:
    sign, colour = _MARKS[change["action"]]
    where = f"{change['file']}, which is gone" if change["gone"] else str(change["file"])
    say(f"{click.style(sign, fg=colour)} {_called(change)}{GAP}{change['action']}{GAP}({neutral(where)})")
    is_new = change["action"] == "create"
    for difference in change["differences"]:
        if not (is_new and (difference["key"], difference["new"]) in _OBVIOUS | {("file", change["file"])}):
            say(f"    {_difference(difference, is_new=is_new)}")


def _difference(difference: Row, *, is_new: bool) -> str:
    key, old, new = (neutral(str(difference[part])) if difference[part] else None for part in ("key", "old", "new"))
    if old == new:  # of secrets nothing else is said
        return f"{key}: another one"
    return f"{key}: {new}" if is_new else f"{key}: {old or 'not set'} → {new or 'not set'}"


def _called(change: Row) -> str:
    return label({"name": change["name"], "id": change["connectorId"] or change["file"]})


def _mails(row: Row) -> str:
    return f"{row['messages']} {'mail' if row['messages'] == 1 else 'mails'}"


def _print_folder(folder: Row) -> None:
    about = "about " if folder["estimated"] else ""
    told = folder.get("error") or f"{_mails(folder)}, {about}{size(folder['sizeBytes'])}"
    say(f"    {click.style('folder', dim=True)} {neutral(folder['name'])}{GAP}{neutral(told)}")


def _print_load(load: Row) -> None:
    if error := load.get("error"):
        say(f"    {click.style('✗', fg='red')} its server could not be asked: {neutral(error)}")
        return
    took = f"about {duration(max(load['seconds'], 1))}, at an assumed rate"
    say(f"    {click.style('to fetch', dim=True)} {_mails(load)}, {size(load['sizeBytes'])}, {took}")


_RENDERERS = {"mistake": _print_mistake, "change": _print_change, "folder": _print_folder, "load": _print_load}
