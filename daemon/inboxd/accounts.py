"""Connections and their secrets: the one place where the store's rows meet the vault."""

from __future__ import annotations

from uuid import UUID

from inboxd.errors import Conflict
from inboxd.model import Account, Connection, ConnectorId, Kind, Proxy, Secret
from inboxd.proxies import DEFAULT_PORTS
from inboxd.store import connectors
from inboxd.store.engine import Store
from inboxd.vault import Vault

DEFAULT_MAILBOX = "INBOX"


def place_of_password(connection_id: UUID) -> str:
    """Where a connection's password lives: its ciphertext opens nowhere else."""
    return f"connection/{connection_id}/password"


def seal_password(vault: Vault, connection_id: UUID, password: Secret) -> bytes:
    """The ciphertext to store with the connection."""
    return vault.seal(password, place_of_password(connection_id))


def place_of_proxy_password(connection_id: UUID) -> str:
    """Where the password at a connection's proxy lives."""
    return f"connection/{connection_id}/proxy_password"


def seal_proxy_password(vault: Vault, connection_id: UUID, password: Secret) -> bytes:
    """The ciphertext to store with the connection."""
    return vault.seal(password, place_of_proxy_password(connection_id))


def open_account(vault: Vault, connection: Connection) -> Account:
    """A stored connection with its password in clear, for the worker that logs in."""
    password = Secret("")
    if connection.sealed_password is not None:
        password = vault.open(connection.sealed_password, place_of_password(connection.id))
    return Account(
        connector_id=connection.connector_id,
        kind=connection.kind,
        host=connection.host,
        port=connection.port,
        tls=connection.tls,
        username=connection.username or "",
        password=password,
        mechanisms=connection.mechanisms,
        local_host_name=connection.local_host_name,
        ssl_trust=connection.ssl_trust,
        ssl_protocols=connection.ssl_protocols,
        select_folder=connection.select_folder or DEFAULT_MAILBOX,
        search_terms=connection.search_terms,
        folders=connection.folders,
        mirror=connection.mirror,
        ca_file=connection.ca_file,
        client_certificate=connection.client_certificate,
        client_key=connection.client_key,
        password_source=connection.password_source,
        proxy=_proxy_of(vault, connection),
        grant_id=connection.grant_id,
    )


def _proxy_of(vault: Vault, connection: Connection) -> Proxy | None:
    kind, host = connection.proxy_kind, connection.proxy_host
    if not connection.proxy_enabled or kind is None or host is None:
        return None
    password = Secret("")
    if connection.sealed_proxy_password is not None:
        password = vault.open(connection.sealed_proxy_password, place_of_proxy_password(connection.id))
    port = connection.proxy_port or DEFAULT_PORTS[kind]
    return Proxy(kind, host, port, connection.proxy_username or "", password)


def mail_of(connection: Connection) -> tuple[str | None, ...]:
    """What decides which mails a connection shows."""
    return (connection.host, connection.username, connection.select_folder, connection.search_terms)


async def account_of(store: Store, vault: Vault, connector_id: ConnectorId, kind: Kind) -> Account:
    """The connector's IMAP or SMTP account; Conflict when it has none, NotFound when there is no such connector."""
    connector = await connectors.get(store, connector_id)
    connection = await connectors.connection(store, connector.id, kind)
    if connection is None:
        raise Conflict(f"connector {connector.name or connector.id} has no {kind.value.upper()} connection")
    if not connection.enabled:
        raise Conflict(f"the {kind.value.upper()} connection of connector {connector.name or connector.id} is disabled")
    return open_account(vault, connection)
