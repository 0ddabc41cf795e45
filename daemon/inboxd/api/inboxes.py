"""Handlers of inboxes, of the common actions on them, and of the user."""

from __future__ import annotations

import asyncio
from functools import partial

from inboxd import logs
from inboxd.api.wire.inboxes import (
    CountDto,
    DeleteInboxesQuery,
    InboxAddressQuery,
    InboxByEmailAddressResult,
    InboxByNameResult,
    InboxDto,
    InboxesQuery,
    InboxExistsDto,
    InboxIdQuery,
    InboxIdsResult,
    InboxListQuery,
    InboxNameQuery,
    InboxPreview,
    PageInboxProjection,
    SearchInboxesOptions,
    UserInfoDto,
)
from inboxd.api.wire.new_inboxes import CreateInboxDto, SetInboxFavouritedOptions, UpdateInboxOptions
from inboxd.model import InboxId
from inboxd.services import Services
from inboxd.store import inboxes, installation

_log = logs.logger("api")


async def create(services: Services, query: CreateInboxDto) -> InboxDto:
    """Make a local inbox; 409 when another one has the address asked for."""
    inbox = query.inbox()
    await inboxes.add(services.store, inbox, sole_address=True)
    _log.info("inbox_created", inbox=str(inbox.id), name=inbox.name, expires=inbox.expires_at is not None)
    return InboxDto.of(inbox, services.user_id)


async def create_with_options(services: Services, body: CreateInboxDto) -> InboxDto:
    """Make a local inbox; 409 when another one has the address asked for."""
    return await create(services, body)


async def create_with_defaults(services: Services) -> InboxDto:
    """Make a local inbox with a fresh address."""
    return await create(services, CreateInboxDto())


async def get(services: Services, inbox_id: InboxId) -> InboxDto:
    """One inbox."""
    return InboxDto.of(await inboxes.get(services.store, inbox_id), services.user_id)


async def get_first(services: Services, query: InboxListQuery) -> list[InboxDto]:
    """The first inboxes, and those to include."""
    found = await inboxes.first(services.store, query.window(), query.include)
    return [InboxDto.of(inbox, services.user_id) for inbox in found]


async def get_page(services: Services, query: InboxesQuery) -> PageInboxProjection:
    """A page of the chosen inboxes."""
    return await _page(services, query)


async def search(services: Services, body: SearchInboxesOptions) -> PageInboxProjection:
    """A page of the chosen inboxes."""
    return await _page(services, body)


async def _page(services: Services, asked: InboxesQuery | SearchInboxesOptions) -> PageInboxProjection:
    window = asked.window()
    page = await inboxes.page(services.store, window, asked.filter())
    return PageInboxProjection.of(window, page, partial(InboxPreview.of, user_id=services.user_id))


async def update(services: Services, inbox_id: InboxId, body: UpdateInboxOptions) -> InboxDto:
    """Change what was given; 409 when it shall expire and a connector delivers into it."""
    inbox = await inboxes.change(services.store, inbox_id, body.changed)
    _log.info("inbox_changed", inbox=str(inbox_id), name=inbox.name, expires=inbox.expires_at is not None)
    return InboxDto.of(inbox, services.user_id)


async def set_favourite(services: Services, inbox_id: InboxId, body: SetInboxFavouritedOptions) -> InboxDto:
    """Make an inbox a favourite, or no longer."""
    inbox = await inboxes.change(services.store, inbox_id, body.changed)
    _log.info("inbox_favoured", inbox=str(inbox_id), favourite=inbox.favourite)
    return InboxDto.of(inbox, services.user_id)


async def delete(services: Services, inbox_id: InboxId) -> None:
    """Delete an inbox with its mails; 409 while a connector delivers into it."""
    await inboxes.remove(services.store, inbox_id)
    _log.info("inbox_deleted", inbox=str(inbox_id))


async def delete_named(services: Services, query: InboxIdQuery) -> None:
    """Delete an inbox with its mails; 409 while a connector delivers into it."""
    await delete(services, InboxId(query.inbox_id))


async def delete_all(services: Services, query: DeleteInboxesQuery) -> None:
    """Delete all inboxes of a time span with their mails, but none that a connector delivers into."""
    since, before = query.created_at_since, query.created_at_before
    deleted = await inboxes.remove_all(services.store, since=since, before=before)
    _log.info("inboxes_deleted", count=deleted)


async def get_by_address(services: Services, query: InboxAddressQuery) -> InboxByEmailAddressResult:
    """The inbox with that address, in any case of its letters."""
    return InboxByEmailAddressResult.of(await inboxes.find(services.store, email_address=query.email_address))


async def get_by_name(services: Services, query: InboxNameQuery) -> InboxByNameResult:
    """The oldest inbox of that name."""
    return InboxByNameResult.of(await inboxes.find(services.store, name=query.name))


async def exists(services: Services, query: InboxAddressQuery) -> InboxExistsDto:
    """Whether an inbox has that address, in any case of its letters."""
    found = await inboxes.find(services.store, email_address=query.email_address)
    return InboxExistsDto(exists=found is not None)


async def get_ids(services: Services) -> InboxIdsResult:
    """The ids and addresses of all inboxes."""
    return await asyncio.to_thread(InboxIdsResult.of, await inboxes.addresses(services.store))


async def get_count(services: Services) -> CountDto:
    """How many inboxes there are."""
    return CountDto(total_elements=await inboxes.count(services.store))


async def get_user(services: Services) -> UserInfoDto:
    """The one user of this installation."""
    return UserInfoDto(id=services.user_id, created_at=await installation.created_at(services.store))
