"""`inboxd`: run the daemon, check its configuration, or try the demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import uvloop

from inboxd import __version__, logs
from inboxd.errors import InboxdError, SettingsError
from inboxd.settings import DEMO_VARIABLE, Settings, in_force, load
from inboxd.vault import PREVIOUS_FILE

T = TypeVar("T")

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


@command.command("rotate-key")
@CONFIG
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The new key (base64 of 32 bytes), instead of a fresh one.",
)
def rotate_key(config: Path | None, key_file: Path | None) -> None:
    """Encrypt the stored secrets anew under another key. Stop the daemon before."""
    settings = _load(config)
    logs.set_up("error", settings.log.format)
    from inboxd.rotation import rotate_key as rotate

    done = _to_the_end(rotate(settings, key_file))
    click.echo(f"{done.count} stored secrets are encrypted anew.")
    if settings.vault.key is not None:
        click.echo("Take vault.previous_key away now; key files left in the state folder are needed no more, either.")
    else:
        old = settings.state_dir / PREVIOUS_FILE
        click.echo(f"The old key is {old}: delete it when you need no backup from before any more.")
    for place in done.unreadable:
        click.echo(f"inboxd: {place}: no key opens it; it stays as it is", err=True)
    sys.exit(1 if done.unreadable else 0)


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


def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    try:
        return uvloop.run(work)
    except SettingsError as error:
        _complain(error.lines)
    except InboxdError as error:
        click.echo(f"inboxd: {error}", err=True)
        sys.exit(1 if error.retry else os.EX_CONFIG)


def _complain(lines: list[str]) -> NoReturn:
    for line in lines:
        click.echo(f"inboxd: {line}", err=True)
    sys.exit(USAGE_STATUS)
