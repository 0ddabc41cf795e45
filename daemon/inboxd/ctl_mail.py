"""Commands about mails: `emails`, `email`, `send`."""

from __future__ import annotations

import base64
import io
import mimetypes
import sys
from pathlib import Path

import click

from inboxd.ctl_client import SEND_SECONDS, BadInput, Client, Row, checked_id, inner
from inboxd.ctl_command import Command, Control, connector_argument, find_connector, pass_control
from inboxd.ctl_html import readable
from inboxd.ctl_outbox import on_its_way
from inboxd.ctl_print import Column, ago, local_time, neutral, note, print_record, print_table, say, size, text_of

STDIN = "-"
_NOTICES = {"SUCCESS", "FAILURE", "DELAY"}
# How the line about a mail begins, by its state.
_OUTCOMES = {"sent": "sent", "queued": "accepted, on its way", "sending": "accepted, on its way"}
_COLUMNS = (
    Column("WHEN"),
    Column("NEW", styles={"●": "cyan"}),
    Column("FROM", flex=True),
    Column("SUBJECT", flex=True),
    Column("SIZE", right=True),
    Column("ID", below="SUBJECT"),
)


@click.command(cls=Command)
@connector_argument
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="At most so many.")
@click.option("--unread", is_flag=True, help="Only mails nobody has opened.")
@click.option("--search", metavar="Q", help="Only mails with this in their addresses or subject.")
@pass_control
def emails(control: Control, name: str, limit: int, unread: bool, search: str | None) -> None:
    """The newest mails of a connector's inbox."""
    client = control.client
    inbox_id = find_connector(client, name)["inboxId"]
    if unread or search:
        narrowed = {"inboxId": inbox_id, "unreadOnly": unread or None, "searchFilter": search}
        page = client.page("/emails", limit, sort="DESC", **narrowed)
    else:
        page = client.page(f"/inboxes/{inbox_id}/emails/paginated", limit, sort="DESC")
    control.tell(page, lambda found: _print_emails(found["content"], found["totalElements"]))


def _print_emails(rows: list[Row], total: int) -> None:
    lines = [
        (
            ago(row["createdAt"]),
            "" if row["read"] else "●",
            _sender(row),
            row.get("subject"),
            size(row.get("sizeBytes")),
            row["id"],
        )
        for row in rows
    ]
    print_table(_COLUMNS, lines, empty="no mails")
    if len(rows) < total and sys.stdout.isatty():
        say(f"{len(rows)} of {total}; --limit shows more", dim=True)


def _sender(row: Row) -> str | None:
    return inner(row, "sender").get("name") or row.get("from")


@click.command(cls=Command)
@click.argument("email_id", metavar="ID")
@click.option("--raw", is_flag=True, help="The mail as the server handed it over, byte for byte.")
@click.option("--delete", is_flag=True, help="Delete it from the local inbox; the mail server keeps it.")
@pass_control
def email(control: Control, email_id: str, raw: bool, delete: bool) -> None:
    """Read one mail."""
    route = f"/emails/{checked_id(email_id, 'a mail')}"
    if raw and (delete or control.json):
        raise BadInput("--raw goes neither with --delete nor with --json")
    client = control.client
    if raw:
        _print_raw(client, f"{route}/raw")
    elif delete:
        client.call("DELETE", route)
        control.tell({"id": email_id, "deleted": True}, lambda _: say(f"deleted {email_id}"))
    else:
        place: Row = client.get(f"/control{route}")
        mail: Row = client.get(route)
        control.tell(mail | {name: place[name] for name in ("mailbox", "flags", "labels")}, _print_email)


def _print_raw(client: Client, route: str) -> None:
    """The bytes as they are into a pipe or file; on a terminal as text that cannot steer it."""
    if not sys.stdout.isatty():
        client.copy(route, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    raw = io.BytesIO()
    client.copy(route, raw)
    say(neutral(raw.getvalue().decode(errors="replace"), lines=True))


def _print_email(mail: Row) -> None:
    headers: list[tuple[str, object]] = [
        ("From", inner(mail, "sender").get("rawValue") or mail.get("from")),
        ("To", mail.get("to")),
        ("Cc", mail.get("cc")),
        ("Reply-To", mail.get("replyTo")),
        ("Subject", mail.get("subject")),
        ("Received", f"{local_time(mail['createdAt'])} ({ago(mail['createdAt'])})"),
        ("Folder", mail.get("mailbox")),
        ("Labels", mail.get("labels")),
        ("Size", size(mail.get("sizeBytes"))),
        ("Attachments", len(mail.get("attachments") or ())),
    ]
    print_record([(name, value) for name, value in headers if value or name in ("From", "Subject")])
    body = mail.get("body") or ""
    say()
    say(neutral(readable(body) if mail.get("isHTML") else body, lines=True).rstrip())


class Notices(click.ParamType[list[str]]):
    """When delivery notices are wanted (RFC 3461), as the daemon reads it: from words with commas between them."""

    name = "notices"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """The words in capitals."""
        words = [word.strip().upper() for word in value.split(",")]
        if not set(words) <= _NOTICES and words != ["NEVER"]:
            self.fail(f"{value!r}: write success, failure, delay with commas between them, or never", param, ctx)
        return words


@click.command(cls=Command)
@connector_argument
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="Recipient; may be repeated.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="Copy to; may be repeated.")
@click.option("--bcc", multiple=True, metavar="ADDRESS", help="Blind copy to; may be repeated.")
@click.option("--reply-to", metavar="ADDRESS", help="Where answers go.")
@click.option("--subject", required=True, metavar="TEXT")
@click.option("--text", metavar="TEXT", help="The body; - reads it from standard input.")
@click.option("--html", metavar="HTML", help="The body in HTML; - reads it from standard input.")
@click.option("--attach", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="May be repeated.")
@click.option("--idempotency-key", metavar="KEY", help="However often it is sent under this key, it goes out once.")
@click.option("--dsn", type=Notices(), metavar="WHEN", help="Ask for notices: success,failure,delay; or never.")
@click.option("--use-fallback", is_flag=True, help="Through the relay when the connector's own server cannot be used.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the server: the daemon sends it as soon as it can.")
@pass_control
def send(
    control: Control,
    name: str,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    bcc: tuple[str, ...],
    reply_to: str | None,
    subject: str,
    text: str | None,
    html: str | None,
    attach: tuple[Path, ...],
    idempotency_key: str | None,
    dsn: list[str] | None,
    use_fallback: bool,
    no_wait: bool,
) -> None:
    """Send a mail through a connector's own SMTP server.

    Once it is accepted the daemon tries until the server takes or refuses it; inboxctl outbox shows how far it is.
    """
    if text is None and html is None:
        raise BadInput("the mail needs a body: give --text or --html")
    if text == html == STDIN:
        raise BadInput("only one of --text and --html can be read from standard input")
    mail: Row = {
        "to": list(to),
        "cc": list(cc),
        "bcc": list(bcc),
        "replyTo": reply_to,
        "subject": subject,
        "text": _body(text),
        "html": _body(html),
        "attachments": [_attachment(path) for path in attach],
        "dsn": {"notify": dsn} if dsn else None,
        "useFallback": use_fallback,
        "wait": not no_wait,
    }
    client = control.client
    route = f"/control/connectors/{find_connector(client, name)['id']}/send"
    headers = {} if idempotency_key is None else {"Idempotency-Key": _header_value(idempotency_key)}
    sent: Row = client.call("POST", route, mail, headers=headers, patience_seconds=SEND_SECONDS)
    mail: Row = client.get(f"/control/outbox/{sent['id']}")
    refused = {one["address"]: one["reply"] for one in mail["recipients"] if one["state"] == "refused"}
    control.tell(sent | {"state": mail["state"], "refused": refused}, _print_sent)


def _header_value(key: str) -> str:
    if not 0 < len(key) < 256 or any(not " " <= mark <= "~" for mark in key) or key != key.strip():
        raise BadInput("--idempotency-key takes 1 to 255 printable ASCII characters, none of the outer ones a blank")
    return key


def _body(given: str | None) -> str | None:
    return sys.stdin.read() if given == STDIN else given


def _attachment(path: Path) -> Row:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    return {
        "name": path.name,
        "contentType": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        "base64": base64.b64encode(content).decode(),
    }


def _print_sent(sent: Row) -> None:
    refused: dict[str, str] = sent["refused"]
    recipients = [one for field in ("to", "cc", "bcc") for one in sent.get(field) or () if one not in refused]
    whom, what = neutral(text_of(recipients)), neutral(text_of(sent.get("messageId")).strip("<>"))
    say(f"{_OUTCOMES.get(sent['state'], sent['state'])} to {whom} as <{what}>")
    for address, words in refused.items():
        note(f"refused for {neutral(address)}: {neutral(words)}")
    if on_its_way(sent):
        say(f"see how far it is: inboxctl outbox show {sent['id']}")
