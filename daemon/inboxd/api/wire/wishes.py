"""What a request wishes of a connection, and what becomes of it: a new connection, or a stored one changed.

A stored password is only ever sent where its owner pointed it: whoever changes host, port or user name, or weakens
TLS, brings the password anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

from inboxd.errors import Invalid
from inboxd.model import Connection, ConnectorId, Kind, ProxyKind, Secret, Tls, utc_now

_IMPLICIT_PORTS: Final = frozenset({465, 993})
_CLEAR_START_PORTS: Final = frozenset({25, 143, 587, 2525})
_DEFAULT_PORTS: Final = {
    (Kind.IMAP, Tls.IMPLICIT): 993,
    (Kind.IMAP, Tls.STARTTLS): 143,
    (Kind.IMAP, Tls.NONE): 143,
    (Kind.SMTP, Tls.IMPLICIT): 465,
    (Kind.SMTP, Tls.STARTTLS): 587,
    (Kind.SMTP, Tls.NONE): 25,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of a connection, alike for IMAP and SMTP. None: it does not say; empty text: none wanted."""

    kind: Kind
    host: str | None
    port: int | None
    ssl: bool | None
    start_tls: bool | None
    username: str | None
    password: Secret | None
    mechanisms: list[str] | None
    local_host_name: str | None
    ssl_trust: str | None
    ssl_protocols: list[str] | None
    enabled: bool | None
    select_folder: str | None = None
    search_terms: str | None = None
    folders: list[str] | None = None
    mirror: bool | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    password_source: str | None = None
    proxy_enabled: bool | None = None
    proxy_kind: ProxyKind | None = None
    proxy_host: str | None = None
    proxy_port: int | None = None
    proxy_username: str | None = None
    proxy_password: Secret | None = None


def secured(wish: Wish) -> Tls:
    """The TLS mode of MailSlurp's two booleans. Neither given: what the port stands for, else implicit TLS."""
    if wish.ssl is None and wish.start_tls is None:
        return Tls.STARTTLS if wish.port in _CLEAR_START_PORTS else Tls.IMPLICIT
    if wish.ssl and wish.start_tls:
        return Tls.IMPLICIT if wish.port is None or wish.port in _IMPLICIT_PORTS else Tls.STARTTLS
    if wish.ssl:
        return Tls.IMPLICIT
    return Tls.STARTTLS if wish.start_tls else Tls.NONE


def fresh(wish: Wish, connector_id: ConnectorId) -> Connection:
    """A new connection without its password; Invalid when it names no host."""
    if not wish.host:
        raise Invalid(f"{wish.kind.value}Host", "is required: the host name of the mail server")
    tls = secured(wish)
    return Connection(
        id=uuid4(),
        connector_id=connector_id,
        kind=wish.kind,
        created_at=utc_now(),
        enabled=wish.enabled is not False,
        host=wish.host,
        port=wish.port or _DEFAULT_PORTS[wish.kind, tls],
        tls=tls,
        username=wish.username or None,
        mechanisms=tuple(wish.mechanisms or ()),
        local_host_name=wish.local_host_name or None,
        ssl_trust=wish.ssl_trust or None,
        ssl_protocols=tuple(wish.ssl_protocols or ()),
        select_folder=wish.select_folder or None,
        search_terms=wish.search_terms or None,
        folders=tuple(wish.folders or ()),
        mirror=wish.mirror is True,
        ca_file=wish.ca_file or None,
        client_certificate=wish.client_certificate or None,
        client_key=wish.client_key or None,
        password_source=_source(wish, None),
        **_proxy(wish, None),
    )


def merged(wish: Wish, stored: Connection) -> Connection:
    """The stored connection with what was given; Invalid when that would send its password elsewhere."""
    port = wish.port or stored.port
    changed = replace(
        stored,
        enabled=stored.enabled if wish.enabled is None else wish.enabled,
        host=wish.host or stored.host,
        port=port,
        tls=_merged_tls(wish, stored, port),
        username=_merged_text(wish.username, stored.username),
        mechanisms=stored.mechanisms if wish.mechanisms is None else tuple(wish.mechanisms),
        local_host_name=_merged_text(wish.local_host_name, stored.local_host_name),
        ssl_trust=_merged_text(wish.ssl_trust, stored.ssl_trust),
        ssl_protocols=stored.ssl_protocols if wish.ssl_protocols is None else tuple(wish.ssl_protocols),
        select_folder=_merged_text(wish.select_folder, stored.select_folder),
        search_terms=_merged_text(wish.search_terms, stored.search_terms),
        folders=stored.folders if wish.folders is None else tuple(wish.folders),
        mirror=stored.mirror if wish.mirror is None else wish.mirror,
        ca_file=_merged_text(wish.ca_file, stored.ca_file),
        client_certificate=_merged_text(wish.client_certificate, stored.client_certificate),
        client_key=_merged_text(wish.client_key, stored.client_key),
        password_source=_source(wish, stored.password_source),
        **_proxy(wish, stored),
    )
    _refuse_astray(wish, stored, changed)
    return changed if changed.password_source is None else replace(changed, sealed_password=None)


def _source(wish: Wish, stored: str | None) -> str | None:
    """Where the password comes from; a password given takes its place. Invalid when both are given."""
    if wish.password is not None and wish.password_source:
        raise Invalid("passwordSource", "a password is given, too: give one of them")
    return None if wish.password is not None else _merged_text(wish.password_source, stored)


def _proxy(wish: Wish, stored: Connection | None) -> dict[str, Any]:
    """The proxy's columns but for its password. A host that is given is used, unless the wish says otherwise."""
    host = _merged_text(wish.proxy_host, stored.proxy_host if stored is not None else None)
    enabled = wish.proxy_enabled
    if enabled is None:
        enabled = bool(wish.proxy_host) or (stored is not None and stored.proxy_enabled)
    if host is None:
        if wish.proxy_enabled:
            raise Invalid("proxyHost", "is required: the host name of the proxy")
        nothing = dict.fromkeys(("proxy_kind", "proxy_host", "proxy_port", "proxy_username", "sealed_proxy_password"))
        return nothing | {"proxy_enabled": False}
    kind = wish.proxy_kind or (stored.proxy_kind if stored is not None else None)
    same = stored is not None and (kind, host) == (stored.proxy_kind, stored.proxy_host)
    return {
        "proxy_enabled": enabled,
        "proxy_kind": kind,
        "proxy_host": host,
        "proxy_port": wish.proxy_port or (stored.proxy_port if stored is not None and same else None),
        "proxy_username": _merged_text(wish.proxy_username, stored.proxy_username if stored is not None else None),
    }


def _refuse_astray(wish: Wish, stored: Connection, changed: Connection) -> None:
    """Invalid when a stored password, or what is read in its place, would be sent elsewhere, or less well guarded."""
    kept = stored.sealed_password is not None or stored.password_source is not None
    if kept and wish.password is None and not wish.password_source:
        for field, astray in _redirections(stored, changed):
            if astray:
                password = f"{stored.kind.value}Password"
                raise Invalid(field, f"changing it changes where the stored password goes; send {password} along")
    if changed.sealed_proxy_password is not None and wish.proxy_password is None:
        for field, old, new in _proxy_parts(stored, changed):
            if old != new:
                words = "changing it changes where the proxy's stored password goes; send proxyPassword along"
                raise Invalid(field, words)


def _proxy_parts(old: Connection, new: Connection) -> tuple[tuple[str, object, object], ...]:
    return (
        ("proxyHost", (old.proxy_kind, old.proxy_host), (new.proxy_kind, new.proxy_host)),
        ("proxyPort", old.proxy_port, new.proxy_port),
        ("proxyUsername", old.proxy_username, new.proxy_username),
    )


def _merged_text(given: str | None, stored: str | None) -> str | None:
    return stored if given is None else given or None


def _merged_tls(wish: Wish, stored: Connection, port: int) -> Tls:
    if wish.ssl is None and wish.start_tls is None:
        return stored.tls
    return secured(
        replace(
            wish,
            port=port,
            ssl=stored.tls is Tls.IMPLICIT if wish.ssl is None else wish.ssl,
            start_tls=stored.tls is Tls.STARTTLS if wish.start_tls is None else wish.start_tls,
        )
    )


def _redirections(old: Connection, new: Connection) -> tuple[tuple[str, bool], ...]:
    prefix = old.kind.value
    return (
        (f"{prefix}Host", new.host.lower() != old.host.lower()),
        (f"{prefix}Port", new.port != old.port),
        (f"{prefix}Username", new.username != old.username),
        (f"{prefix}Ssl", new.tls is Tls.NONE and old.tls is not Tls.NONE),
        ("proxyHost", _shown_to_proxy(new) and _on_the_way(old) != _on_the_way(new)),
        ("sslTrust", not _trusted(new) <= _trusted(old) and "*" not in _trusted(old)),
    )


def _on_the_way(connection: Connection) -> tuple[object, ...]:
    """Which proxy sees what is sent, if any."""
    if not connection.proxy_enabled:
        return ()
    return (connection.proxy_kind, connection.proxy_host, connection.proxy_port)


def _shown_to_proxy(connection: Connection) -> bool:
    """Whether a proxy could read the password: there is one, and no TLS that shows who is at its other end."""
    unproved = connection.tls is Tls.NONE or bool(_trusted(connection) & {"*", connection.host.lower()})
    return connection.proxy_enabled and unproved


def _trusted(connection: Connection) -> frozenset[str]:
    return frozenset((connection.ssl_trust or "").lower().split(",")) - {""}
