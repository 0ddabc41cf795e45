"""The routes inboxctl uses, answered from memory with the JSON of the contract."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from servers.control_state import RAW_MAIL, USER_ID, Asked, RefusalError, Row, StandIn, moment

Answer = tuple[int, Any]
"""Status and content: JSON, bytes, None, or an iterator of lines to stream."""
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []
Handler = Callable[..., Answer]


def _on(method: str, pattern: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        _ROUTES.append((method, re.compile(pattern), handler))
        return handler

    return register


def route(daemon: StandIn, asked: Asked) -> Answer:
    for method, pattern, handler in _ROUTES:
        if method == asked.method and (match := pattern.fullmatch(asked.path)):
            return handler(daemon, asked, *match.groups())
    raise RefusalError(404, f"no such route: {asked.method} {asked.path}")


def _page(asked: Asked, rows: list[Row]) -> Answer:
    number, size = int(asked.query.get("page", 0)), min(int(asked.query.get("size", 20)), 100)
    ordered = sorted(rows, key=lambda row: row["createdAt"], reverse=asked.query.get("sort") == "DESC")
    content = ordered[number * size : (number + 1) * size]
    pages = -(-len(rows) // size)
    return 200, {
        "content": content,
        "totalPages": pages,
        "totalElements": len(rows),
        "size": size,
        "number": number,
        "numberOfElements": len(content),
        "first": number == 0,
        "last": number + 1 >= pages,
        "empty": not content,
    }


def _optional(row: Row | None) -> Answer:
    return 200, {"present": False} if row is None else {"present": True, "result": row}


def _known(daemon: StandIn, connector_id: str) -> Row:
    if connector_id not in daemon.connectors:
        raise RefusalError(404, f"there is no connector {connector_id}")
    return daemon.connectors[connector_id]


@_on("GET", "/connectors")
def _list(daemon: StandIn, asked: Asked) -> Answer:
    return _page(asked, list(daemon.connectors.values()))


@_on("GET", "/connectors/by-name")
def _by_name(daemon: StandIn, asked: Asked) -> Answer:
    return _optional(next((row for row in daemon.connectors.values() if row["name"] == asked.query["name"]), None))


@_on("GET", "/connectors/by-email-address")
def _by_address(daemon: StandIn, asked: Asked) -> Answer:
    address = asked.query["emailAddress"]
    return _optional(next((row for row in daemon.connectors.values() if row["emailAddress"] == address), None))


@_on("POST", "/connectors/withOptions")
def _create(daemon: StandIn, asked: Asked) -> Answer:
    options = asked.body["createConnectorOptions"]
    if "@" not in (options["emailAddress"] or "@"):
        raise RefusalError(400, "emailAddress: write a mail address, for example name@example.com")
    row = daemon.add_connector(options["name"])
    row |= {"emailAddress": options["emailAddress"], "inboxId": asked.query.get("inboxId", row["inboxId"])}
    return 201, row


@_on("GET", "(?:/control/events|/connectors/events)/([^/]+)")
def _event(daemon: StandIn, asked: Asked, event_id: str) -> Answer:
    found = next((row for row in daemon.events if row["id"] == event_id), None)
    if found is None:
        raise RefusalError(404, f"there is no event {event_id}")
    return 200, found


@_on("GET", "/connectors/([^/]+)")
def _get(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    return 200, _known(daemon, connector_id)


@_on("PUT", "/connectors/([^/]+)")
def _put(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    row = _known(daemon, connector_id)
    row |= asked.body
    return 200, row


@_on("DELETE", "/connectors/([^/]+)")
def _delete(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    _known(daemon, connector_id)
    del daemon.connectors[connector_id]
    return 204, None


@_on("GET", "/connectors/([^/]+)/(imap|smtp|sync-settings)")
def _part(daemon: StandIn, asked: Asked, connector_id: str, part: str) -> Answer:
    _known(daemon, connector_id)
    return _optional(daemon.parts.get((connector_id, part)))


@_on("POST", "/connectors/([^/]+)/(imap|smtp|sync-settings)")
def _new_part(daemon: StandIn, asked: Asked, connector_id: str, part: str) -> Answer:
    daemon.parts[connector_id, part] = {"id": str(uuid.uuid4()), "connectorId": connector_id, **asked.body}
    return 201, daemon.parts[connector_id, part]


@_on("PATCH", "/connectors/([^/]+)/(imap|smtp)")
def _patch_part(daemon: StandIn, asked: Asked, connector_id: str, part: str) -> Answer:
    stored = daemon.parts[connector_id, part]
    if daemon.refuse:
        raise RefusalError(400, daemon.refuse)
    stored |= asked.body | {f"{part}Password": None}
    return 200, stored


@_on("DELETE", "/connectors/([^/]+)/sync-settings")
def _no_sync(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    daemon.parts.pop((connector_id, "sync-settings"), None)
    return 204, None


@_on("GET", "/control/connectors/([^/]+)/usage")
def _usage(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    budget = daemon.states.get(connector_id, {}).get("budget")
    return 200, {
        "connections": {"used": 2, "limit": 5},
        "logins": None,
        "receivedBytes": budget and {"used": budget["usedBytes"], "limit": budget["limitBytes"]},
        "sentInDay": {"used": 12, "limit": 500},
        "sentInMinute": {"used": 1, "limit": None},
        "restsUntil": budget and budget["resumesAt"],
        "throttledUntil": None,
    }


@_on("GET", "/control/connectors/([^/]+)/events")
def _events(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    rows = [row for row in daemon.events if row["connectorId"] == connector_id]
    return _page(asked, [{key: value for key, value in row.items() if key != "logs"} for row in rows])


@_on("GET", "/inboxes/([^/]+)/emails/paginated")
def _inbox(daemon: StandIn, asked: Asked, inbox_id: str) -> Answer:
    return _page(asked, [row for row in daemon.emails if row["inboxId"] == inbox_id])


@_on("GET", "/emails")
def _search(daemon: StandIn, asked: Asked) -> Answer:
    rows = [row for row in daemon.emails if row["inboxId"] == asked.query["inboxId"]]
    if asked.query.get("unreadOnly") == "true":
        rows = [row for row in rows if not row["read"]]
    return _page(asked, [row for row in rows if asked.query.get("searchFilter", "") in row["subject"]])


@_on("GET", "/emails/([^/]+)/raw")
def _raw(daemon: StandIn, asked: Asked, email_id: str) -> Answer:
    return 200, RAW_MAIL


@_on("GET", "/emails/([^/]+)")
def _email(daemon: StandIn, asked: Asked, email_id: str) -> Answer:
    found = next((row for row in daemon.emails if row["id"] == email_id), None)
    if found is None:
        raise RefusalError(404, f"there is no mail {email_id}")
    return 200, found


@_on("DELETE", "/emails/([^/]+)")
def _delete_email(daemon: StandIn, asked: Asked, email_id: str) -> Answer:
    daemon.emails[:] = [row for row in daemon.emails if row["id"] != email_id]
    return 204, None


@_on("GET", "/control/status")
def _status(daemon: StandIn, asked: Asked) -> Answer:
    if daemon.stages:
        daemon.states[list(daemon.connectors)[-1]] = daemon.stages.pop(0)
    quiet: Row = {"reason": None, "retryAt": None, "failures": 0, "progress": None}
    times = {"since": moment(7200), "lastSyncAt": moment(125), "lastServerActivityAt": moment(3)}
    return 200, {
        "version": "0.1.0",
        "pid": 4242,
        "uptimeSeconds": 93_784.5,
        "api": "127.0.0.1:8025",
        "metrics": "127.0.0.1:9464",
        "stateDir": "/var/lib/inboxd",
        "store": "sqlite:////var/lib/inboxd/inboxd.db",
        "outbox": _census(daemon.outbox),
        "connectors": [
            {key: row[key] for key in ("id", "name", "emailAddress", "inboxId", "enabled")}
            | quiet
            | times
            | {"messages": sum(mail["inboxId"] == row["inboxId"] for mail in daemon.emails)}
            | daemon.states.get(row["id"], {})
            for row in daemon.connectors.values()
        ],
    }


@_on("GET", "/control/discover")
def _discover(daemon: StandIn, asked: Asked) -> Answer:
    address = asked.query["emailAddress"]
    if "@" not in address:
        raise RefusalError(400, "emailAddress: write a mail address with a domain, for example name@example.com")
    if daemon.discovery is None:
        raise RefusalError(404, "no settings were found for example.com (SRV: none)")
    return 200, {"emailAddress": address} | daemon.discovery


@_on("GET", "/control/watch")
@_on("POST", "/control/connectors/([^/]+)/(?:test|sync)")
def _stream(daemon: StandIn, asked: Asked, *_ids: str) -> Answer:
    return 200, iter(daemon.lines)


@_on("POST", "/control/connectors/([^/]+)/send")
def _send(daemon: StandIn, asked: Asked, connector_id: str) -> Answer:
    connector = _known(daemon, connector_id)
    if "nobody@example.org" in asked.body["to"]:
        raise RefusalError(502, "the server refused the mail: 550 5.1.1 no such user \x1b[31mnobody")
    kept = {"to": asked.body["to"], "subject": asked.body["subject"], "reply": None}
    mail = daemon.add_mail(connector, daemon.becomes if asked.body["wait"] else "queued", **kept)
    mail["recipients"] += [
        {"address": address, "state": "refused", "reply": words, "updatedAt": moment()}
        for address, words in daemon.refused.items()
    ]
    return 200, {
        "id": mail["id"],
        "userId": USER_ID,
        "inboxId": connector["inboxId"],
        "from": connector["emailAddress"],
        "messageId": "made-up@example.com",
        "sentAt": moment(),
        "createdAt": moment(),
        "transport": "PUBLIC_EMAIL",
        **{field: asked.body[field] for field in ("to", "cc", "bcc", "subject")},
    }


def _census(rows: list[Row]) -> Row:
    waiting = [row["createdAt"] for row in rows if row["state"] in ("queued", "deferred")]
    counts = Counter(row["state"] for row in rows)
    states = ("queued", "sending", "deferred", "failed", "unknown")
    return {"counts": {state: counts[state] for state in states}, "oldestWaiting": min(waiting, default=None)}


@_on("GET", "/control/emails/([^/]+)")
def _place(daemon: StandIn, asked: Asked, email_id: str) -> Answer:
    if all(mail["id"] != email_id for mail in daemon.emails):
        raise RefusalError(404, f"there is no message {email_id}")
    place = {"connectorId": None, "mailbox": "[Gmail]/All Mail", "uid": 7, "flags": ["\\Seen"]}
    return 200, {"id": email_id, **place, "labels": ["Inbox", "Réçus"]}


@_on("GET", "/control/outbox")
def _outbox(daemon: StandIn, asked: Asked) -> Answer:
    states = asked.repeated.get("state")
    connector_id = asked.query.get("connectorId")
    rows = [row for row in daemon.outbox if connector_id in (None, row["connectorId"])]
    details = ("recipients", "tries", "chores")
    return _page(
        asked,
        [
            {key: value for key, value in row.items() if key not in details}
            for row in rows
            if states is None or row["state"] in states
        ],
    )


def _mail(daemon: StandIn, mail_id: str) -> Row:
    found = next((row for row in daemon.outbox if row["id"] == mail_id), None)
    if found is None:
        raise RefusalError(404, f"there is no mail {mail_id} in the outbox")
    return found


@_on("GET", "/control/outbox/([^/]+)")
def _outbox_mail(daemon: StandIn, asked: Asked, mail_id: str) -> Answer:
    return 200, _mail(daemon, mail_id)


@_on("POST", "/control/outbox/([^/]+)/(retry|cancel|drop)")
def _decide(daemon: StandIn, asked: Asked, mail_id: str, decision: str) -> Answer:
    mail = _mail(daemon, mail_id)
    if mail["state"] == "sent":
        raise RefusalError(409, f"mail {mail_id}: it was sent already")
    mail["state"] = "queued" if decision == "retry" else "cancelled"
    return 200, mail


@_on("POST", "/control/keys")
def _new_key(daemon: StandIn, asked: Asked) -> Answer:
    row = {"id": f"k{len(daemon.keys) + 1}", "name": asked.body["name"], "createdAt": moment()}
    row |= {"scopes": asked.body.get("scopes", ["read", "send", "manage"]), "inboxId": asked.body.get("inboxId")}
    daemon.keys.append(row | {"lastUsedAt": None, "revokedAt": None})
    return 201, row | {"key": "inboxd_k1_c2VjcmV0"}


@_on("GET", "/control/keys")
def _keys(daemon: StandIn, asked: Asked) -> Answer:
    return 200, daemon.keys


@_on("DELETE", "/control/keys/([^/]+)")
def _revoke(daemon: StandIn, asked: Asked, key_id: str) -> Answer:
    for row in daemon.keys:
        if row["id"] == key_id:
            row["revokedAt"] = moment()
            return 204, None
    raise RefusalError(404, f"there is no key {key_id}")
