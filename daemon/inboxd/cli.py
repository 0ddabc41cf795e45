"""`inboxd`: run the daemon, check its configuration, or try the demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click
import uvloop

from inboxd import __version__, logs
from inboxd.errors import InboxdError, SettingsError
from inboxd.settings import DEMO_VARIABLE, Settings, in_force, load

USAGE_STATUS = 2
CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file; INBOXD_… variables override it."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="inboxd")
def command() -> None:
    """Link external IMAP/SMTP mailboxes to local inboxes. Control the running daemon with inboxctl."""


@command.command()
@CONFIG
def run(config: Path | None) -> None:
    """Run the daemon in the foreground until SIGTERM."""
    settings = _load(config)
    logs.set_up(settings.log.level, settings.log.format)
    from inboxd.serve import serve

    _to_the_end(serve(settings, lambda: load(config)))


@command.command("check-config")
@CONFIG
def check_config(config: Path | None) -> None:
    """Print the settings in force, secrets masked; or one line per mistake."""
    click.echo(in_force(_load(config)))


@command.command()
@click.option("--seconds", type=float, envvar=DEMO_VARIABLE, help="End by itself after this long.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep the demo's files.")
def demo(seconds: float | None, folder: Path | None) -> None:
    """Show mail arriving: an embedded mail server, the real daemon, one connector."""
    from inboxd.demo import show

    try:
        sys.exit(uvloop.run(show(seconds, folder)))
    except* BrokenPipeError:  # `inboxd demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The console script."""
    command()


def _load(config: Path | None) -> Settings:
    try:
        return load(config)
    except SettingsError as error:
        _complain(error.lines)


def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    try:
        uvloop.run(work)
    except SettingsError as error:
        _complain(error.lines)
    except InboxdError as error:
        click.echo(f"inboxd: {error}", err=True)
        sys.exit(1 if error.retry else os.EX_CONFIG)


def _complain(lines: list[str]) -> NoReturn:
    for line in lines:
        click.echo(f"inboxd: {line}", err=True)
    sys.exit(USAGE_STATUS)
