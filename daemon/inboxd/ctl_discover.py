"""`inboxctl discover`, and what `connector add` fills in by itself: a mail address's servers, found by the daemon."""

from __future__ import annotations

import click

from inboxd.ctl_account import HALVES, Form, in_options
from inboxd.ctl_client import Client, Row
from inboxd.ctl_command import Command, Control, pass_control
from inboxd.ctl_print import neutral, note, print_record

_TLS_WORDS = {"implicit": "implicit TLS", "starttls": "STARTTLS"}
# Who changes one of the two and not the other means the daemon's own pairing, not half of what was found.
_PAIRED = (("port", "tls"), ("tls", "port"))


@click.command(cls=Command)
@click.argument("address")
@pass_control
def discover(control: Control, address: str) -> None:
    """Find the servers of a mail address, and what its provider wants for a password.

    Nothing is changed, and no password is needed.
    """
    control.tell(_ask(control.client, address), lambda found: print_record(_pairs(found)))


def servers_of(client: Client, address: str) -> Row:
    """What the daemon finds for the address of --email; Refused when it finds nothing."""
    with in_options():
        return _ask(client, address)


def _ask(client: Client, address: str) -> Row:
    found: Row = client.get("/control/discover", emailAddress=address)
    return found


def filled_in(filled: Form, found: Row) -> Form:
    """The form with what was found below what was said."""
    offered = {
        f"{half}.{key}": found[half][field]
        for half in HALVES
        if found[half]
        for key, field in (("host", "host"), ("port", "port"), ("tls", "tls"), ("user", "username"))
    }
    for half in HALVES:
        for said, other in _PAIRED:
            if f"{half}.{said}" in filled:
                offered.pop(f"{half}.{other}", None)
    if "imap.user" in filled:
        offered.pop("smtp.user", None)
    return offered | filled


def tell_found(found: Row) -> None:
    """What was found, on standard error: before the secret is asked for."""
    servers = [(half.upper(), _server(found[half])) for half in HALVES if found[half]]
    note(f"found by {neutral(_origin(found))}:")
    for name, words in servers:
        note(f"  {name}  {neutral(words)}")
    for line in found["notes"]:
        note(f"  note: {neutral(line)}")
    note(f"wanted: {neutral(_secret(found))}")


def _pairs(found: Row) -> list[tuple[str, object]]:
    return [
        ("address", found["emailAddress"]),
        ("provider", found["provider"]),
        ("found by", _origin(found)),
        *((half, _server(found[half])) for half in HALVES),
        ("secret", _secret(found)),
        *(("note", line) for line in found["notes"]),
        *(("or", f"{_origin(row)}: {_both(row)}") for row in found["alternatives"]),
        *(("nothing by", f"{row['source']}: {row['reason']}") for row in found["vain"]),
    ]


def _origin(row: Row) -> str:
    return f"{row['source']} ({row['where']})"


def _both(row: Row) -> str:
    return "; ".join(f"{half} {_server(row[half])}" for half in HALVES if row[half])


def _server(server: Row | None) -> str:
    if server is None:
        return "-"
    return f"{server['host']}:{server['port']}, {_TLS_WORDS[server['tls']]}, as {server['username']}"


def _secret(found: Row) -> str:
    return f"{found['secret']}: {found['how']}" if found["how"] else str(found["secret"])
