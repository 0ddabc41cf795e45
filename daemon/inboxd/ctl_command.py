"""What every command of inboxctl shares: --socket and --json on either side of its name, connectors found by NAME."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from inboxd.ctl_client import BadInput, Client, Failure, Row, find_socket, is_id
from inboxd.ctl_print import neutral, print_json

T = TypeVar("T")
_COMPLETION_SECONDS = 1.0


@dataclass(slots=True)
class Control:
    """How this call was asked to reach the daemon and to answer."""

    socket: Path | None = None
    json: bool = False

    @property
    def client(self) -> Client:
        """The daemon this call talks to."""
        return Client(find_socket(self.socket))

    def tell(self, answer: T, render: Callable[[T], None]) -> None:
        """The answer as JSON when asked for, else the way `render` shows it to people."""
        if self.json:
            print_json(answer)
        else:
            render(answer)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    control = ctx.ensure_object(Control)
    if value:
        setattr(control, str(param.name), value)


def shared_options() -> list[click.Parameter]:
    """The options that may stand before and after a command's name."""
    return [
        click.Option(
            ["--socket"],
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Control socket of the daemon.",
            expose_value=False,
            callback=_remember,
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="Print the daemon's answer as JSON (streams: one object a line).",
            expose_value=False,
            callback=_remember,
        ),
    ]


class Command(click.Command):
    """A command that takes the shared options too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shared_options()


class Group(click.Group):
    """Commands under one name."""

    command_class = Command
    group_class = type


pass_control = click.make_pass_decorator(Control, ensure=True)


def find_connector(client: Client, name: str) -> Row:
    """The connector with that name, email address or id.

    Failure names similar ones when there is none, BadInput the ids when several go by that name.
    """
    if is_id(name):
        found: Row = client.get(f"/connectors/{name}")
        return found
    rows: list[Row] = client.page("/connectors")["content"]
    named = [row for row in rows if row.get("name") == name]
    matching = named or [row for row in rows if str(row.get("emailAddress") or "").lower() == name.lower()]
    if len(matching) > 1:
        ids = ", ".join(row["id"] for row in matching)
        raise BadInput(f"{len(matching)} connectors go by {name!r}; say which by its id: {ids}")
    if not matching:
        raise Failure(f"there is no connector {name!r}{_similar(rows, name)}")
    return matching[0]


def refuse_taken(client: Client, name: str) -> None:
    """Failure when a connector has that name already."""
    if client.get("/connectors/by-name", name=name)["present"]:
        raise Failure(f"there is a connector {name!r} already; change it with: inboxctl connector set")


def _similar(rows: list[Row], name: str) -> str:
    from difflib import get_close_matches

    names = [row["name"] for row in rows if row.get("name")]
    close = get_close_matches(name, names, n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are: {', '.join(names[:10])}" if names else "; add one with: inboxctl connector add"


def label(row: Row) -> str:
    """What to call a connector in a sentence."""
    return neutral(str(row.get("name") or row.get("emailAddress") or row["id"]))


def offered(ctx: click.Context, route: str, **query: object) -> Any:
    """The daemon's answer for the shell to choose from; None when it is away or slow."""
    control = ctx.ensure_object(Control)
    try:
        return Client(find_socket(control.socket), _COMPLETION_SECONDS).get(route, **query)
    except Failure:
        return None


def complete_connector(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names the shell offers; none when the daemon is away."""
    page: Row = offered(ctx, "/connectors", size=100) or {"content": []}
    rows: list[Row] = page["content"]
    names = [str(row.get("name") or row["id"]) for row in rows]
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name == neutral(name)]


connector_argument = click.argument("name", shell_complete=complete_connector)
