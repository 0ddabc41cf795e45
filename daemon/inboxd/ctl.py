"""`inboxctl`: the daemon's remote control for people and scripts, over its Unix control socket.

Exit status: 0 done, 1 the operation failed, 2 the call cannot be understood or its input not be used, 3 nobody answers
at the socket.
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from inboxd import __version__
from inboxd.ctl_command import Control, Group, pass_control, shared_options
from inboxd.ctl_connectors import connector
from inboxd.ctl_daemon import dashboard, events, key, status
from inboxd.ctl_discover import discover
from inboxd.ctl_mail import email, emails, send
from inboxd.ctl_outbox import outbox
from inboxd.ctl_runs import sync, test, watch

PROGRAM = "inboxctl"
_COMPLETE_VARIABLE = "_INBOXCTL_COMPLETE"


class QuotingBashComplete(BashComplete):
    """As click's, but what is offered is quoted for the command line it is put into."""

    source_template = BashComplete.source_template.replace("read type value", "read -r type value").replace(
        "+=($value)", '+=("$value")'
    )

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """`type,value`, the value escaped by what its word began with."""
        begun = os.environ["COMP_WORDS"].splitlines()
        number = int(os.environ["COMP_CWORD"])
        quote = begun[number][:1] if number < len(begun) else ""
        if quote == "'":
            value = item.value.replace("'", "'\\''")
        elif quote == '"':
            value = re.sub(r'([\\"$`])', r"\\\1", item.value)
        else:
            value = re.sub(r"([^\w@%+=:,./-])", r"\\\1", item.value)
        return f"{item.type},{value}"


add_completion_class(QuotingBashComplete)


@click.group(
    cls=Group,
    params=shared_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Control the inboxd daemon.

    NAME is a connector's name, email address or id. Every command takes --json and --socket.
    """


@cli.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_control
def completion(control: Control, shell: str) -> None:
    """Print a shell's completion script.

    bash: eval "$(inboxctl completion bash)", in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    script = kind(cli, {}, PROGRAM, _COMPLETE_VARIABLE).source()
    control.tell({"shell": shell, "script": script}, lambda answer: click.echo(answer["script"], nl=False))


for command in (connector, discover, test, sync, send, outbox, emails, email, watch, status, dashboard, events, key):
    cli.add_command(command)


def main() -> None:
    """The entry point of `inboxctl`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        cli.main(prog_name=PROGRAM, complete_var=_COMPLETE_VARIABLE)
    except OSError as error:
        # What is still in the buffers would fail once more at the interpreter's end.
        with suppress(OSError):
            click.echo(f"inboxctl: input or output failed: {error.strerror or error}", err=True)
        os._exit(1)


if __name__ == "__main__":
    main()
