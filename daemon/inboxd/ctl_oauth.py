"""`inboxctl oauth …`: login, status, logout. A login walks a person through the provider's consent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from inboxd.consents import OTHER, PROVIDERS, Flow
from inboxd.ctl_account import read_secret
from inboxd.ctl_client import BadInput, Client, InputRefused, Refused, Row
from inboxd.ctl_command import (
    Control,
    Group,
    complete_connector,
    connector_argument,
    find_connector,
    label,
    pass_control,
)
from inboxd.ctl_print import Column, ago, local_time, neutral, note, print_record, print_table, say
from inboxd.ctl_redirect import Redirect, listening

_FILE = click.Path(path_type=Path)
_LONGEST_KEY_BYTES = 16_384
_OPTIONS = {
    "provider": "--provider",
    "flow": "--flow",
    "clientId": "--client-id",
    "clientSecret": "--client-secret-file",
    "keyFile": "--key-file",
    "tenant": "--tenant",
    "scopes": "--scope",
    "subject": "--subject",
    "tokenUrl": "--token-url",
    "authorizeUrl": "--authorize-url",
    "deviceUrl": "--device-url",
    "identityUrl": "--identity-url",
    "redirectUri": "--redirect-uri",
}
_FIELD = re.compile(rf"^(?:newLogin\.)?({'|'.join(_OPTIONS)})\b")
_STATES = {"ok": "green", "needs_reauth": "red"}
_COLUMNS = (
    Column("NAME", flex=True),
    Column("PROVIDER"),
    Column("FLOW"),
    Column("MAILBOX", flex=True),
    Column("STATE", styles=_STATES),
    Column("TOKEN UNTIL"),
)


@click.group(cls=Group)
def oauth() -> None:
    """OAuth2: mailboxes opened by a consent instead of a password."""


@oauth.command("login")
@connector_argument
@click.option("--provider", type=click.Choice([*PROVIDERS, OTHER]), help="By default the one of the mail server.")
@click.option(
    "--flow", type=click.Choice([flow.value for flow in Flow]), help="How to consent; each provider has its own."
)
@click.option("--client-id", metavar="ID", help="The application registered with the provider.")
@click.option("--client-secret-file", type=_FILE, metavar="FILE", help="File whose one line is the client's secret.")
@click.option("--client-secret-prompt", is_flag=True, help="Ask for the client's secret.")
@click.option("--key-file", type=_FILE, metavar="FILE", help="A Google service account's JSON key.")
@click.option("--tenant", metavar="ID", help="The Microsoft directory: its id or domain.")
@click.option("--subject", metavar="ADDRESS", help="Whom a service account acts for; by default the mailbox.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Ask for this instead. Repeat it for more.")
@click.option("--token-url", metavar="URL", help="Token endpoint of another provider.")
@click.option("--authorize-url", metavar="URL", help="Its page to consent at.")
@click.option("--device-url", metavar="URL", help="Its device authorisation endpoint.")
@click.option("--identity-url", metavar="URL", help="Its userinfo endpoint, which says whom a consent is from.")
@click.option("--redirect-uri", metavar="URL", help="The address to lead back to, where only a registered one will do.")
@click.option(
    "--other-mailbox", is_flag=True, help="Whoever consents may be another than the mailbox, e.g. a delegate."
)
@pass_control
def login(
    control: Control,
    name: str,
    client_secret_file: Path | None,
    client_secret_prompt: bool,
    key_file: Path | None,
    scopes: tuple[str, ...],
    redirect_uri: str | None,
    **given: Any,
) -> None:
    """Have a connector's mailbox consented to, for the first time or anew.

    What was said at the last login need not be said again. Without a browser on this machine, open the page on
    another one.
    """
    client = control.client
    row = find_connector(client, name)
    body = {_camel(field): value for field, value in given.items() if value is not None}
    secret = _secret(client_secret_file, key_file, prompt=client_secret_prompt)
    body |= {"clientSecret": secret, "scopes": list(scopes), "redirectUri": redirect_uri}
    with listening(redirect_uri) as redirect:
        begun: Row = _ask(client, f"/control/connectors/{row['id']}/oauth", body | {"redirectPort": redirect.port})
        grant = begun["grant"] or _walk_through(client, begun, redirect)
    control.tell(
        grant, lambda one: say(f"{label(row)}: consent given by {neutral(one['mailbox'])}; it is used at once")
    )


def _secret(secret_file: Path | None, key_file: Path | None, *, prompt: bool) -> str | None:
    if sum((secret_file is not None, key_file is not None, prompt)) > 1:
        raise BadInput("give one of --client-secret-file, --client-secret-prompt and --key-file")
    if key_file is not None:
        try:
            with key_file.open("rb") as file:
                return file.read(_LONGEST_KEY_BYTES).decode()
        except OSError as error:
            raise BadInput(f"{key_file}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise BadInput(f"{key_file}: is not the JSON key of a service account") from None
    if prompt:
        return str(click.prompt("Client secret", hide_input=True, err=True))
    return read_secret(secret_file) if secret_file is not None else None


def _walk_through(client: Client, begun: Row, redirect: Redirect) -> Row:
    """Say what is to be done, and follow it to its end; the grant."""
    route = f"/control/oauth/{begun['login']}"
    minutes = round(begun["endsInSeconds"] / 60)
    if begun["userCode"]:
        redirect.close()
        note(f"Open {neutral(begun['page'])} in a browser anywhere, within {minutes} min, and type in the code:")
        note("")
        note(f"    {neutral(begun['userCode'])}")
        note("")
        return _poll(client, route)
    note(f"Open this page in a browser, within {minutes} min:")
    note("")
    note(neutral(begun["page"]))
    note("")
    note("If the browser is on another machine it ends at an address it cannot open; paste that address here:")
    while True:
        try:
            return _ask(client, route, {"answer": redirect.wait(begun["endsInSeconds"])})["grant"]
        except InputRefused as error:
            note(neutral(error.message))


def _poll(client: Client, route: str) -> Row:
    while True:
        grant: Row | None = _ask(client, route, {})["grant"]
        if grant is not None:
            return grant


def _ask(client: Client, route: str, body: Row) -> Row:
    """The daemon's answer; what it refuses is told by the options the user typed."""
    try:
        answer: Row = client.call("POST", route, {key: value for key, value in body.items() if value is not None})
    except Refused as error:
        raise type(error)(_FIELD.sub(lambda field: _OPTIONS[field[1]], error.message)) from error
    return answer


def _camel(field: str) -> str:
    first, *others = field.split("_")
    return first + "".join(word.capitalize() for word in others)


@oauth.command("status")
@click.argument("name", required=False, shell_complete=complete_connector)
@pass_control
def status(control: Control, name: str | None) -> None:
    """The consents there are, or one of them in full."""
    client = control.client
    if name is not None:
        row = find_connector(client, name)
        control.tell(client.get(f"/control/connectors/{row['id']}/oauth"), lambda one: _print_grant(row, one))
        return
    control.tell(client.get("/control/oauth"), lambda rows: _print_grants(client, rows))


def _print_grants(client: Client, rows: list[Row]) -> None:
    names = {row["id"]: label(row) for row in client.page("/connectors")["content"]} if rows else {}
    lines = [
        (
            names.get(row["connectorId"], row["connectorId"]),
            row["provider"],
            row["flow"],
            row["mailbox"],
            row["state"],
            local_time(row["expiresAt"]),
        )
        for row in rows
    ]
    print_table(_COLUMNS, lines, empty="no mailbox is opened by OAuth2; begin with: inboxctl oauth login")


def _print_grant(row: Row, grant: Row) -> None:
    print_record(
        [
            ("name", label(row)),
            ("provider", grant["provider"]),
            ("flow", grant["flow"]),
            ("client", grant["clientId"]),
            ("mailbox", grant["mailbox"]),
            ("scopes", ", ".join(grant["scopes"])),
            ("state", grant["state"]),
            *([("reason", grant["reason"])] if grant["reason"] else []),
            ("given", local_time(grant["createdAt"])),
            ("token from", ago(grant["obtainedAt"])),
            ("token until", local_time(grant["expiresAt"])),
        ]
    )


@oauth.command("logout")
@connector_argument
@pass_control
def logout(control: Control, name: str) -> None:
    """Forget a connector's consent; take it back at the provider's page as well if it should end there."""
    client = control.client
    row = find_connector(client, name)
    client.call("DELETE", f"/control/connectors/{row['id']}/oauth")
    answer = {"id": row["id"], "removed": True}
    control.tell(answer, lambda _: say(f"{label(row)}: its consent is forgotten here"))
