"""A file that declares a connector, read for the daemon: the same keys as `inboxctl connector add --file` takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from inboxd.api.connections import created
from inboxd.api.wire import codec
from inboxd.api.wire.connectors import CreateConnectorWithOptions
from inboxd.ctl_account import HALVES, NAME, OAUTH, Passwords, as_keys, read_toml
from inboxd.ctl_client import BadInput
from inboxd.ctl_connectors import creation
from inboxd.declared import Declared
from inboxd.errors import Invalid, SettingsError
from inboxd.services import Services
from inboxd.store.connectors import Whole


async def read_file(services: Services, path: Path) -> Declared:
    """The connector that the file declares; SettingsError says which key is wrong, and what would do.

    The connector is called after the file unless a `name` stands in it.
    """
    try:
        body = await asyncio.to_thread(declaration, path)
        options, sync = body.create_connector_options, body.create_connector_sync_settings_options
        inbox = options.inbox()
        connector = options.connector(inbox.id, declared=path.name)
        connections = tuple([await created(services, wish, connector.id) for wish in body.wishes()])
    except BadInput as error:
        raise SettingsError([error.message.removeprefix(f"{path}: ")]) from error
    except (codec.MisfitError, Invalid) as error:
        raise SettingsError([as_keys(str(error))]) from error
    whole = Whole(connector, connections, sync.sync_settings(connector.id) if sync is not None else None)
    return Declared(path.name, whole, inbox)


def declaration(path: Path) -> CreateConnectorWithOptions:
    """What the file asks for; BadInput, MisfitError. It blocks."""
    _check_ordinary(path)
    filled = {NAME.name: path.stem} | read_toml(path)
    for named in filled.values():
        if isinstance(named, Path):
            _check_ordinary(named)
    halves = [half for half in HALVES if f"{half}.host" in filled]
    if not halves:
        raise BadInput("no server is named: give host under [imap], [smtp] or both")
    passwords = None if filled.get(OAUTH.name) else Passwords(filled, stdin=False, prompt=False, ask=False)
    body = creation(filled, halves, passwords)
    return cast("CreateConnectorWithOptions", codec.read(CreateConnectorWithOptions, body))


def _check_ordinary(path: Path) -> None:
    """A pipe or a device would keep the daemon waiting."""
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: is no ordinary file")
