"""Handlers of IMAP and SMTP connections and of their tests."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from inboxd import logs, net, sources
from inboxd.accounts import mail_of, open_account, seal_password, seal_proxy_password
from inboxd.api.wire.connections import (
    ConnectorImapConnectionDto,
    ConnectorImapConnectionTestResult,
    ConnectorSmtpConnectionDto,
    ConnectorSmtpConnectionTestResult,
    CreateConnectorImapConnectionOptions,
    CreateConnectorSmtpConnectionOptions,
    OptionalConnectorImapConnectionDto,
    OptionalConnectorSmtpConnectionDto,
)
from inboxd.api.wire.wishes import Wish, fresh, merged
from inboxd.errors import Invalid, NotFound
from inboxd.model import Account, Connection, ConnectorId, Kind, Step, Tls
from inboxd.probe import probe
from inboxd.services import Services
from inboxd.store import connectors, messages

_LOG_LINES = 500
_log = logs.logger("api")


async def create_imap(
    services: Services, id: ConnectorId, body: CreateConnectorImapConnectionOptions
) -> ConnectorImapConnectionDto:
    """Make this the connector's IMAP connection, in place of another; effective at once."""
    return ConnectorImapConnectionDto.of(await _create(services, id, body.wish()))


async def create_smtp(
    services: Services, id: ConnectorId, body: CreateConnectorSmtpConnectionOptions
) -> ConnectorSmtpConnectionDto:
    """Make this the connector's SMTP connection, in place of another."""
    return ConnectorSmtpConnectionDto.of(await _create(services, id, body.wish()))


async def get_imap(services: Services, id: ConnectorId) -> OptionalConnectorImapConnectionDto:
    """The connector's IMAP connection, if it has one."""
    stored = await _find(services, id, Kind.IMAP)
    if stored is None:
        return OptionalConnectorImapConnectionDto(present=False)
    return OptionalConnectorImapConnectionDto(present=True, result=ConnectorImapConnectionDto.of(stored))


async def get_smtp(services: Services, id: ConnectorId) -> OptionalConnectorSmtpConnectionDto:
    """The connector's SMTP connection, if it has one."""
    stored = await _find(services, id, Kind.SMTP)
    if stored is None:
        return OptionalConnectorSmtpConnectionDto(present=False)
    return OptionalConnectorSmtpConnectionDto(present=True, result=ConnectorSmtpConnectionDto.of(stored))


async def update_imap(
    services: Services, id: ConnectorId, body: CreateConnectorImapConnectionOptions
) -> ConnectorImapConnectionDto:
    """Change what was given of the IMAP connection; effective at once."""
    return ConnectorImapConnectionDto.of(await _update(services, id, body.wish()))


async def update_smtp(
    services: Services, id: ConnectorId, body: CreateConnectorSmtpConnectionOptions
) -> ConnectorSmtpConnectionDto:
    """Change what was given of the SMTP connection."""
    return ConnectorSmtpConnectionDto.of(await _update(services, id, body.wish()))


async def delete_imap(services: Services, id: ConnectorId) -> None:
    """Delete the IMAP connection; there need not have been one."""
    await _delete(services, id, Kind.IMAP)


async def delete_smtp(services: Services, id: ConnectorId) -> None:
    """Delete the SMTP connection; there need not have been one."""
    await _delete(services, id, Kind.SMTP)


async def test_imap(
    services: Services, id: ConnectorId, body: CreateConnectorImapConnectionOptions
) -> ConnectorImapConnectionTestResult:
    """Test the stored IMAP connection, changed as the options say."""
    account = await _account(services, id, body.wish())
    if account is None:
        return ConnectorImapConnectionTestResult(success=False, error=_nothing(Kind.IMAP), logs=[])
    return ConnectorImapConnectionTestResult.of(*await _probe(services, account))


async def test_smtp(
    services: Services, id: ConnectorId, body: CreateConnectorSmtpConnectionOptions
) -> ConnectorSmtpConnectionTestResult:
    """Test the stored SMTP connection, changed as the options say."""
    account = await _account(services, id, body.wish())
    if account is None:
        return ConnectorSmtpConnectionTestResult(success=False, error=_nothing(Kind.SMTP), logs=[])
    return ConnectorSmtpConnectionTestResult.of(*await _probe(services, account))


async def test_imap_options(
    services: Services, body: CreateConnectorImapConnectionOptions
) -> ConnectorImapConnectionTestResult:
    """Test an IMAP connection before it is stored."""
    return ConnectorImapConnectionTestResult.of(*await _probe(services, await _unstored(services, body.wish())))


async def test_smtp_options(
    services: Services, body: CreateConnectorSmtpConnectionOptions
) -> ConnectorSmtpConnectionTestResult:
    """Test an SMTP connection before it is stored."""
    return ConnectorSmtpConnectionTestResult.of(*await _probe(services, await _unstored(services, body.wish())))


def sealed(services: Services, wish: Wish, connection: Connection) -> Connection:
    """The connection with the passwords wished for under the vault's key; without one it keeps what it has."""
    if wish.password is not None:
        connection = replace(connection, sealed_password=seal_password(services.vault, connection.id, wish.password))
    if wish.proxy_password is not None:
        password = seal_proxy_password(services.vault, connection.id, wish.proxy_password)
        connection = replace(connection, sealed_proxy_password=password)
    return connection


async def created(services: Services, wish: Wish, connector_id: ConnectorId) -> Connection:
    """The new connection wished for, its passwords sealed; Invalid as in `fresh` and `check_way`."""
    return sealed(services, wish, await check_way(services, wish, fresh(wish, connector_id)))


async def check_way(services: Services, wish: Wish, connection: Connection) -> Connection:
    """The connection that comes of the wish, itself; Invalid when its password would surely cross a public network in
    clear, when a file that is wished for will not do, or the settings do not allow the source of its password.

    What a host name stands for shows when it is connected to.
    """
    if wish.password_source:
        sources.check(wish.password_source, services.settings.credentials)
    if wish.ca_file or wish.client_certificate or wish.client_key:
        files = (connection.ca_file, connection.client_certificate, connection.client_key)
        await asyncio.to_thread(net.check_tls_files, *files)
    return _check_clear(services, connection)


def _check_clear(services: Services, connection: Connection) -> Connection:
    if connection.tls is not Tls.NONE or services.settings.network.allow_plaintext:
        return connection
    with suppress(ValueError):
        address = str(ipaddress.ip_address(connection.host))
        if not net.is_near(address):
            kind = connection.kind.value
            message = f"{address} is a public address: set {kind}Ssl or startTls, so that the password is encrypted"
            raise Invalid(f"{kind}Host", message)
    return connection


async def _find(services: Services, id: ConnectorId, kind: Kind) -> Connection | None:
    """NotFound when there is no such connector."""
    connector = await connectors.get(services.store, id)
    return await connectors.connection(services.store, connector.id, kind)


async def _create(services: Services, id: ConnectorId, wish: Wish) -> Connection:
    stored = await _find(services, id, wish.kind)
    return await _put(services, stored, await created(services, wish, id))


async def changed(services: Services, wish: Wish, stored: Connection) -> Connection:
    """The stored connection as wished for, its passwords sealed; Invalid as in `merged` and `check_way`."""
    return sealed(services, wish, await check_way(services, wish, merged(wish, stored)))


async def keep(services: Services, id: ConnectorId, wish: Wish, stored: Connection | None) -> Connection:
    """Make the connection as wished for, or change the stored one; Invalid as in `created` and `merged`."""
    if stored is None:
        return await _put(services, None, await created(services, wish, id))
    return await _put(services, stored, await changed(services, wish, stored))


async def _update(services: Services, id: ConnectorId, wish: Wish) -> Connection:
    stored = await _find(services, id, wish.kind)
    if stored is None:
        raise NotFound(f"connector {id} has no {wish.kind.value.upper()} connection yet; create it with POST")
    return await keep(services, id, wish, stored)


async def _put(services: Services, stored: Connection | None, connection: Connection) -> Connection:
    await connectors.put_connection(services.store, connection)
    _log.info("connection_changed", connector=str(connection.connector_id), kind=connection.kind.value)
    services.roster.refresh(connection.connector_id)
    if connection.kind is Kind.IMAP and (stored is None or mail_of(stored) != mail_of(connection)):
        await _read_anew(services, connection)
    return connection


async def _read_anew(services: Services, connection: Connection) -> None:
    """Begin the mailboxes from their first UID: the cursors passed over mails that the connection now shows.

    The old supervisor was stopped before, so that it cannot move the cursor on; the new one may have read it already.
    """
    if await messages.rewind(services.store, connection.connector_id):
        services.roster.refresh(connection.connector_id)


async def _delete(services: Services, id: ConnectorId, kind: Kind) -> None:
    await connectors.get(services.store, id)
    with suppress(NotFound):
        await connectors.remove_connection(services.store, id, kind)
        _log.info("connection_deleted", connector=str(id), kind=kind.value)
    services.roster.refresh(id)


async def _account(services: Services, id: ConnectorId, wish: Wish) -> Account | None:
    """The account to test; None when none is stored and none was given. Invalid as in `merged`."""
    stored = await _find(services, id, wish.kind)
    if stored is None:
        return await _unstored(services, wish) if wish.host else None
    return open_account(services.vault, await changed(services, wish, stored))


async def _unstored(services: Services, wish: Wish) -> Account:
    account = open_account(services.vault, await created(services, wish, ConnectorId(UUID(int=0))))
    return replace(account, connector_id=None)


async def _probe(services: Services, account: Account) -> tuple[list[Step], list[str]]:
    logs: deque[str] = deque(maxlen=_LOG_LINES)
    steps: list[Step] = []
    walk = probe(account, services.settings, logs.append, services.tokens, services.budgets)
    async for step in walk:
        steps.append(step)
        logs.append(f"step {step.name}: {'ok' if step.ok else 'failed'} after {step.seconds:.2f} s: {step.detail}")
    return steps, list(logs)


def _nothing(kind: Kind) -> str:
    return f"the connector has no {kind.value.upper()} connection; create one, or send the options to test"
