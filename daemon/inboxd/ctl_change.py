"""What `inboxctl connector set` does: only the requests that the form's differences from the stored state call for."""

from __future__ import annotations

from dataclasses import dataclass

from inboxd.ctl_account import HALVES, Form, Passwords, connection_json, in_options, new_connection_json, sync_json
from inboxd.ctl_client import BadInput, Client, Row, inner
from inboxd.ctl_command import label


def change(client: Client, row: Row, filled: Form, passwords: Passwords) -> list[str]:
    """Bring the connector to what the form says; the names of what was changed, in words."""
    with in_options():
        return [
            *_change_connections(client, row, filled, passwords),
            *_change_sync(client, row, filled),
            *_change_connector(client, row, filled),
        ]


def _change_connector(client: Client, row: Row, filled: Form) -> list[str]:
    wanted = {"name": filled.get("name"), "emailAddress": filled.get("email"), "enabled": filled.get("enabled")}
    fresh = {field: value for field, value in wanted.items() if value is not None and value != row.get(field)}
    if fresh:
        put(client, row, **fresh)
    return ["email" if field == "emailAddress" else field for field in fresh]


def put(client: Client, row: Row, **fresh: object) -> Row:
    """The connector with some of its own fields changed."""
    kept = {field: row.get(field) for field in ("name", "emailAddress", "enabled")}
    changed: Row = client.call("PUT", f"/connectors/{row['id']}", kept | fresh)
    return changed


def _change_sync(client: Client, row: Row, filled: Form) -> list[str]:
    route = f"/connectors/{row['id']}/sync-settings"
    stored = inner(client.get(route), "result")
    enabled = filled.get("sync", stored.get("syncEnabled", False))
    wanted = sync_json(filled.get("interval", stored.get("syncInterval")), enabled=enabled)
    if not ({"sync", "interval"} & filled.keys()) or wanted.items() <= stored.items():
        return []
    if enabled or "interval" in filled:
        client.call("POST", route, wanted)
    elif stored:
        client.call("DELETE", route)
    return ["sync"] if enabled or stored or "interval" in filled else []


@dataclass(frozen=True, slots=True)
class _Request:
    """A change of a connection, ready to be sent, and what it changes in words."""

    method: str
    half: str
    body: Row
    words: tuple[str, ...]


def _change_connections(client: Client, row: Row, filled: Form, passwords: Passwords) -> list[str]:
    """All is worked out, and every password asked for, before anything is changed."""
    stored: Row = {half: client.get(f"/connectors/{row['id']}/{half}").get("result") for half in HALVES}
    said = {half: connection_json(filled, half) for half in HALVES}
    same_login = len({_login(half, said[half], inner(stored, half)) for half in HALVES if stored[half]}) < 2
    planned: list[_Request] = []
    for half in HALVES:
        if stored[half] is not None:
            planned += _updated(half, said[half], stored[half], passwords, shared=half == "imap" or same_login)
        elif f"{half}.host" in filled:
            login = filled.get("email") or row.get("emailAddress")
            body = new_connection_json(filled, half, login, passwords)
            planned.append(_Request("POST", half, body, (f"{half.upper()} (new)",)))
        elif any(key.startswith(f"{half}.") for key in filled):
            raise BadInput(f"{label(row)} has no {half.upper()} connection yet: give --{half}-host too")
    for request in planned:
        client.call(request.method, f"/connectors/{row['id']}/{request.half}", request.body)
    return [word for request in planned for word in request.words]


def _login(half: str, said: Row, stored: Row) -> str | None:
    return said.get(f"{half}Username") or stored.get(f"{half}Username")


def _updated(half: str, said: Row, stored: Row, passwords: Passwords, *, shared: bool) -> list[_Request]:
    """The request that makes the stored connection what was said, if it is not so already.

    `shared`: the account's password is this half's too. A stored password goes only where its owner pointed it, so a
    connection that is moved, or loses its TLS, takes its password along.
    """
    fresh = {field: value for field, value in said.items() if not _is_so(value, stored.get(field))}
    moved = any(f"{half}{field}" in fresh for field in ("Host", "Port", "Username"))
    moved = moved or bool(fresh.get("sslTrust") and stored.get("sslTrust") != "*")
    flags = {f"{half}Ssl", "startTls"}
    bared = bool(flags & fresh.keys()) and not any(said[flag] for flag in flags)
    given = (shared and passwords.named) or (half == "smtp" and passwords.smtp_named)
    if (moved or bared or given) and not fresh.get("passwordSource"):
        if stored.get("passwordSource") and not given and "passwordSource" not in fresh:
            fresh["passwordSource"] = stored["passwordSource"]
        else:
            fresh[f"{half}Password"] = passwords.of(half)
    if not fresh:
        return []
    words = dict.fromkeys(f"{half.upper()} {_word(field, half)}" for field in fresh)
    return [_Request("PATCH", half, {f"{half}Host": stored[f"{half}Host"]} | fresh, tuple(words))]


def _word(field: str, half: str) -> str:
    word = field.removeprefix(half).removeprefix("select").removesuffix("Terms").lower()
    return "proxy" if word.startswith("proxy") else _WORDS.get(word, word)


_WORDS = {
    "ssl": "TLS",
    "starttls": "TLS",
    "username": "user",
    "ssltrust": "trust",
    "sslprotocols": "TLS protocols",
    "cafile": "CA file",
    "clientcertificate": "client certificate",
    "clientkey": "client key",
    "localhostname": "local name",
    "passwordsource": "password source",
}


def _is_so(value: object, stored: object) -> bool:
    """Whether it is stored that way; an empty text takes away what is not there."""
    return value == stored or (value == "" and stored is None)
