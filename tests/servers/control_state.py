"""What the stand-in for the daemon remembers: connectors, mails, events, keys, and every request it was asked."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Row = dict[str, Any]
USER_ID = "7d0c9c7e-2f4b-4a57-8a07-5f0c3f6d1a11"
RAW_MAIL = b"From: a@example.com\r\nSubject: raw\r\n\r\nbytes \xff\x00\x1b[2J kept\r\n"


def moment(seconds_ago: float = 0.0) -> str:
    """An ISO date-time as the daemon writes it."""
    then = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return then.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


class RefusalError(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request as it arrived. `query` holds the last value of each key, `repeated` all; `headers` have small names."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    repeated: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class StandIn:
    """The daemon's state, open to the tests; `asked` lists every request."""

    socket: Path
    asked: list[Asked] = field(default_factory=list[Asked])
    connectors: dict[str, Row] = field(default_factory=dict[str, Row])
    parts: dict[tuple[str, str], Row] = field(default_factory=dict[tuple[str, str], Row])
    emails: list[Row] = field(default_factory=list[Row])
    events: list[Row] = field(default_factory=list[Row])
    outbox: list[Row] = field(default_factory=list[Row])
    keys: list[Row] = field(default_factory=list[Row])
    states: dict[str, Row] = field(default_factory=dict[str, Row])
    lines: list[Row | None] = field(default_factory=list[Row | None])
    """What the streaming routes send; None is a keep-alive."""
    hold: threading.Event = field(default_factory=threading.Event)
    """Streaming routes end after their lines once this is set; it is from the start unless a test clears it."""
    discovery: Row | None = None
    """What is found for every address; None: nothing is."""
    refuse: str = ""
    """The complaint every change of a connection is answered with."""
    stages: list[Row] = field(default_factory=list[Row])
    """What the newest connector is doing, one a status; the last one stays."""
    cut: bool = False
    """Streaming routes break off in the middle."""
    becomes: str = "sent"
    """The state of a mail that is waited for."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """The recipients that the server refuses while it takes the mail, and its words."""

    def add_connector(self, name: str, **state: Any) -> Row:
        """A connector with both connections and sync settings."""
        row: Row = {
            "id": str(uuid.uuid4()),
            "name": name,
            "enabled": True,
            "emailAddress": f"{name}@example.com",
            "userId": USER_ID,
            "inboxId": str(uuid.uuid4()),
            "createdAt": moment(3600),
        }
        self.connectors[row["id"]] = row
        for half, port in (("imap", 993), ("smtp", 465)):
            self.parts[row["id"], half] = {
                "id": str(uuid.uuid4()),
                "connectorId": row["id"],
                f"{half}Host": f"{half}.example.com",
                f"{half}Port": port,
                f"{half}Username": row["emailAddress"],
                f"{half}Password": None,
                f"{half}Ssl": True,
                "startTls": False,
                "enabled": True,
                "createdAt": moment(3600),
            }
        self.parts[row["id"], "imap"] |= {"selectFolder": None, "searchTerms": None, "folders": [], "mirror": False}
        self.parts[row["id"], "sync-settings"] = {
            "id": str(uuid.uuid4()),
            "userId": USER_ID,
            "connectorId": row["id"],
            "syncEnabled": True,
            "syncScheduleType": "INTERVAL",
            "syncInterval": 5,
        }
        self.states[row["id"]] = {"state": "idle", **state}
        return row

    def add_email(self, connector: Row, subject: str, sender: str = "Alice", **fields: Any) -> Row:
        """A mail in the connector's inbox."""
        row: Row = {
            "id": str(uuid.uuid4()),
            "userId": USER_ID,
            "inboxId": connector["inboxId"],
            "subject": subject,
            "to": [connector["emailAddress"]],
            "from": "alice@example.org",
            "sender": {
                "rawValue": f"{sender} <alice@example.org>",
                "emailAddress": "alice@example.org",
                "name": sender,
            },
            "cc": [],
            "bcc": [],
            "createdAt": moment(120 + len(self.emails)),
            "updatedAt": moment(120),
            "read": False,
            "attachments": [],
            "body": "Hello\nthere",
            "isHTML": False,
            "sizeBytes": 12_345,
            "teamAccess": False,
            **fields,
        }
        self.emails.append(row)
        return row

    def add_event(self, connector: Row, **fields: Any) -> Row:
        """An event of the connector's, with a log."""
        row: Row = {
            "id": str(uuid.uuid4()),
            "connectorId": connector["id"],
            "eventType": "SYNC",
            "status": "SUCCESS",
            "size": 3,
            "message": "3 new mails",
            "seen": False,
            "logs": "S: * OK ready\nC: A1 LOGIN *** ***",
            "createdAt": moment(60),
            "seconds": 0.456,
            **fields,
        }
        self.events.append(row)
        return row

    def add_mail(self, connector: Row, state: str, **fields: Any) -> Row:
        """A mail in the outbox, one try behind it."""
        address = "bob@example.org"
        row: Row = {
            "id": str(uuid.uuid4()),
            "connectorId": connector["id"],
            "relay": False,
            "state": state,
            "createdAt": moment(60 * (len(self.outbox) + 2)),
            "dueAt": moment(-90.5),
            "expiresAt": moment(-400_000),
            "attempts": 1,
            "kind": "SendDeferred",
            "stage": "rcpt",
            "reply": "451 4.7.1 try again later",
            "subject": "Invoice",
            "from": connector["emailAddress"],
            "to": [address],
            "messageId": "made-up@example.com",
            "sizeBytes": 2_345,
            "recipients": [
                {
                    "address": address,
                    "state": "deferred",
                    "reply": "451 4.7.1 try again later",
                    "updatedAt": moment(100),
                }
            ],
            "tries": [
                {
                    "beganAt": moment(101),
                    "endedAt": moment(100),
                    "host": "smtp.example.com",
                    "stage": "rcpt",
                    "kind": "SendDeferred",
                    "reply": "451 4.7.1 try again later",
                }
            ],
            "chores": [],
            **fields,
        }
        self.outbox.append(row)
        return row

    def bodies(self, method: str, path: str) -> list[Any]:
        """The bodies of all requests to a route."""
        return [asked.body for asked in self.asked if (asked.method, asked.path) == (method, path)]
