"""`inboxctl`: the daemon's remote control for people and scripts, over its Unix control socket.

Exit status: 0 done, 1 the operation failed, 2 the call cannot be understood or its input not be used, 3 nobody answers
at the socket.
"""

from __future__ import annotations

import io
import sys

import click
from click.shell_completion import get_completion_class

from inboxd import __version__
from inboxd.ctl_command import Control, Group, pass_control, shared_options
from inboxd.ctl_connectors import connector
from inboxd.ctl_daemon import events, key, status
from inboxd.ctl_mail import email, emails, send
from inboxd.ctl_runs import sync, test, watch

PROGRAM = "inboxctl"
_COMPLETE_VARIABLE = "_INBOXCTL_COMPLETE"


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


for command in (connector, test, sync, send, emails, email, watch, status, events, key):
    cli.add_command(command)


def main() -> None:
    """The entry point of `inboxctl`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    cli.main(prog_name=PROGRAM, complete_var=_COMPLETE_VARIABLE)


if __name__ == "__main__":
    main()
