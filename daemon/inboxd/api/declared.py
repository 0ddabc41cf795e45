"""Handlers of connectors declared in files: what applying them would do, and doing it."""

from __future__ import annotations

from contextlib import aclosing

from inboxd.accounts import open_account
from inboxd.api.answers import Emit
from inboxd.api.wire.declared import (
    ApplyQuery,
    ChangeDto,
    DeclaredDto,
    FolderDto,
    LoadDto,
    MistakeDto,
    PlanLine,
    PlanQuery,
)
from inboxd.declared import Change, Declarations
from inboxd.errors import Conflict, InboxdError
from inboxd.model import Account, Kind
from inboxd.services import Services
from inboxd.survey import look, seconds_for


async def plan(services: Services, query: PlanQuery, emit: Emit) -> None:
    """Lines of what `apply` would do, each change that reads mail with what that is; nothing is fetched or stored."""
    found = await _declarations(services).plan(prune=query.prune)
    for mistake in found.mistakes:
        await emit(PlanLine(mistake=MistakeDto.of(mistake)))
    for change in found.changes:
        await emit(PlanLine(change=ChangeDto.of(change)))
        account = _account(services, change) if query.survey else None
        if account is not None:
            await _survey(services, account, emit)


async def apply(services: Services, query: ApplyQuery) -> DeclaredDto:
    """Read the files again and bring the connectors to what they say; a second time does nothing."""
    return DeclaredDto.of(await _declarations(services).apply(prune=query.prune))


def _declarations(services: Services) -> Declarations:
    if services.declarations is None:
        raise Conflict("this daemon reads no connectors from files")
    return services.declarations


def _account(services: Services, change: Change) -> Account | None:
    """Whose mail would be fetched that was not before; None when there is none."""
    imap = change.whole.connection(Kind.IMAP) if change.wanted is not None and change.shows_other_mail else None
    switched_on = imap is not None and imap.enabled and change.whole.connector.enabled
    return open_account(services.vault, imap) if imap is not None and switched_on else None


async def _survey(services: Services, account: Account, emit: Emit) -> None:
    messages, size_bytes, error = 0, 0, None
    try:
        async with aclosing(look(account, services.settings, services.budgets, services.tokens)) as folders:
            async for folder in folders:
                messages, size_bytes = messages + folder.messages, size_bytes + folder.size_bytes
                await emit(PlanLine(folder=FolderDto.of(folder)))
    except InboxdError as failed:
        error = str(failed)
    seconds = seconds_for(account.host, messages, size_bytes)
    await emit(PlanLine(load=LoadDto(messages=messages, size_bytes=size_bytes, seconds=seconds, error=error)))
