"""MailSlurp's Python client through the inboxes, the common actions on them, and the user."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest

from servers.python import SDK, Walk, refused, walks


@walks(
    "createInbox", "createInboxWithOptions", "createInboxWithDefaults", "createNewEmailAddress", "createRandomInbox",
    "getInbox", "getUserInfo",
)  # fmt: skip
def test_inboxes_are_created(walk: Walk) -> None:
    inboxes, common = walk.client.inboxes, walk.client.common
    user = walk.client.users.get_user_info()
    assert (user.account_state, user.account_type, user.subscription_type) == ("ACTIVE", "SOLO", None)
    assert "@" in user.email_address
    named = inboxes.create_inbox(
        email_address="walker@local.example", name="named", description="A description", favourite=True,
        tags=["blue", "light, green"], use_domain_pool=False, inbox_type="HTTP_INBOX",
    )  # fmt: skip
    assert (named.email_address, named.local_part, named.domain) == ("walker@local.example", "walker", "local.example")
    assert (named.name, named.description, named.favourite) == ("named", "A description", True)
    assert (named.tags, named.inbox_type) == (["blue", "light, green"], "HTTP_INBOX")
    assert (named.user_id, named.read_only, named.virtual_inbox, named.functions_as) == (user.id, False, False, None)
    assert inboxes.get_inbox(named.id) == named

    options = SDK.CreateInboxDto(name="optioned", expires_in=3_600_000, tags=["green"], favourite=False)
    optioned = inboxes.create_inbox_with_options(options)
    assert timedelta(minutes=59) < optioned.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    plain = inboxes.create_inbox_with_defaults()
    fresh = common.create_new_email_address(name="fresh", tags=["a", "b"])
    assert (fresh.name, fresh.tags) == ("fresh", ["a", "b"])
    random = common.create_random_inbox(favourite=True)
    assert random.favourite is True
    assert len({inbox.email_address for inbox in (named, optioned, plain, fresh, random)}) == 5

    refused(409, inboxes.create_inbox, email_address="Walker@local.example")
    assert "emailAddress" in refused(400, inboxes.create_inbox, email_address="nonsense")
    assert "favourite" in refused(400, common.create_random_inbox, favourite="perhaps")
    assert "inboxType" in refused(400, common.create_new_email_address, inbox_type="POP_INBOX")
    assert "expiresIn" in refused(400, inboxes.create_inbox_with_options, SDK.CreateInboxDto(expires_in=-1))
    with pytest.raises(ValueError, match="inbox_type"):
        SDK.CreateInboxDto(inbox_type="POP_INBOX")


@walks("createInbox", "createInboxWithOptions", "updateInbox")
def test_expiry_is_read_in_every_spelling_of_a_date(walk: Walk) -> None:
    inboxes = walk.client.inboxes
    moment = datetime(2100, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    spellings = (moment, moment.replace(tzinfo=None), moment.astimezone(timezone(timedelta(hours=-3, minutes=-30))))
    kept = moment.replace(microsecond=678_000)
    for spelling in spellings:
        assert inboxes.create_inbox(expires_at=spelling).expires_at == kept
        inbox = inboxes.create_inbox_with_options(SDK.CreateInboxDto(expires_at=spelling))
        assert inbox.expires_at == kept
        later = SDK.UpdateInboxOptions(expires_at=spelling + timedelta(days=1))
        assert inboxes.update_inbox(inbox.id, later).expires_at == kept + timedelta(days=1)
    assert inboxes.create_inbox(expires_at=moment.date()).expires_at == datetime(2100, 1, 2, tzinfo=UTC)
    assert "expiresAt" in refused(400, inboxes.create_inbox, expires_at="tomorrow")


@walks(
    "getInboxes", "getAllInboxes", "getAllInboxesOffsetPaginated", "searchInboxes", "getInboxIds", "getInboxCount",
    "createInbox",
)  # fmt: skip
def test_inboxes_are_listed(walk: Walk) -> None:
    inboxes = walk.client.inboxes
    linked = walk.inbox_id
    first = inboxes.create_inbox(name="first", description="A description", favourite=True, tags=["blue"])
    second = inboxes.create_inbox(name="second", tags=["green"])
    everyone = [linked, first.id, second.id]
    assert [inbox.id for inbox in inboxes.get_inboxes()] == everyone
    assert [inbox.id for inbox in inboxes.get_inboxes(size=1, sort="DESC")] == [second.id]
    included = inboxes.get_inboxes(size=1, include=[first.id, second.id], exclude_catch_all_inboxes=True)
    assert {inbox.id for inbox in included} == set(everyone)
    for listing in (inboxes.get_all_inboxes, inboxes.get_all_inboxes_offset_paginated):
        page = listing(page=1, size=2, sort="ASC", favourite=False, team_access=False)
        assert (page.total_elements, page.total_pages, page.number, page.last) == (3, 2, 1, True)
        assert (page.content[0].id, page.content[0].team_access) == (second.id, False)
        assert [inbox.id for inbox in listing(favourite=True).content] == [first.id]
        assert [inbox.id for inbox in listing(tag="green").content] == [second.id]
        assert [inbox.id for inbox in listing(search="SECO", inbox_type="HTTP_INBOX").content] == [second.id]
        assert [inbox.id for inbox in listing(inbox_function="CONNECTOR").content] == [linked]
        assert [inbox.id for inbox in listing(since=second.created_at - timedelta(days=1)).content] == everyone
        assert listing(before=datetime(2020, 1, 1)).content == []  # noqa: DTZ001 as users do
        assert "favourite" in refused(400, listing, favourite="perhaps")
        assert "domainId" in refused(400, listing, domain_id=str(uuid4()))
    options = SDK.SearchInboxesOptions(
        search="DESCRIP",
        page_index=0,
        page_size=5,
        sort_direction="DESC",
        favourite=True,
        since=datetime(2020, 1, 1),  # noqa: DTZ001
    )
    assert [inbox.id for inbox in inboxes.search_inboxes(options).content] == [first.id]
    assert inboxes.search_inboxes(SDK.SearchInboxesOptions(before=datetime(2020, 1, 1))).total_elements == 0  # noqa: DTZ001
    assert "pageIndex" in refused(400, inboxes.search_inboxes, SDK.SearchInboxesOptions(page_index=-1))
    ids = inboxes.get_inbox_ids().inbox_ids
    assert {item.id: item.email_address for item in ids}[second.id] == second.email_address
    assert len(ids) == inboxes.get_inbox_count().total_elements == 3


@walks("createInbox", "getInboxByEmailAddress", "getInboxByName", "doesInboxExist")
def test_inboxes_are_found(walk: Walk) -> None:
    inboxes = walk.client.inboxes
    inbox = inboxes.create_inbox(email_address="walker+tag@local.example", name="Ünamed & more")
    found = inboxes.get_inbox_by_email_address("WALKER+tag@local.example")
    assert (found.exists, found.inbox_id) == (True, inbox.id)
    nobody = inboxes.get_inbox_by_email_address("walker tag@local.example")
    assert (nobody.exists, nobody.inbox_id) == (False, None)
    named = inboxes.get_inbox_by_name("Ünamed & more")
    assert (named.exists, named.inbox_id) == (True, inbox.id)
    assert inboxes.get_inbox_by_name("nobody").exists is False
    assert inboxes.does_inbox_exist("walker+tag@local.example", allow_catch_all=True).exists is True
    assert inboxes.does_inbox_exist("nobody@local.example").exists is False
    for lookup in (inboxes.get_inbox_by_email_address, inboxes.get_inbox_by_name, inboxes.does_inbox_exist):
        assert "NUL" in refused(400, lookup, "walker\0@local.example")


@walks("createInbox", "updateInbox", "setInboxFavourited", "getInbox")
def test_inboxes_are_changed(walk: Walk) -> None:
    inboxes = walk.client.inboxes
    inbox = inboxes.create_inbox(name="old", tags=["kept"])
    changed = inboxes.update_inbox(inbox.id, SDK.UpdateInboxOptions(name="new", description="now described"))
    assert (changed.name, changed.description, changed.tags) == ("new", "now described", ["kept"])
    liked = inboxes.set_inbox_favourited(inbox.id, SDK.SetInboxFavouritedOptions(state=True))
    assert (liked.favourite, liked.name) == (True, "new")
    assert inboxes.get_inbox(inbox.id) == liked
    assert inboxes.set_inbox_favourited(inbox.id, SDK.SetInboxFavouritedOptions(state=False)).favourite is False
    assert "tags" in refused(400, inboxes.update_inbox, inbox.id, SDK.UpdateInboxOptions(tags="blue"))
    assert "state" in refused(400, inboxes.set_inbox_favourited, inbox.id, {"state": "perhaps"})
    soon = SDK.UpdateInboxOptions(expires_at=datetime.now(UTC) + timedelta(days=1))
    refused(409, inboxes.update_inbox, walk.inbox_id, soon)


@walks("createInbox", "deleteInbox", "deleteAllInboxes", "deleteEmailAddress", "getInboxIds")
def test_inboxes_are_deleted(walk: Walk) -> None:
    inboxes, common = walk.client.inboxes, walk.client.common
    first, second, _ = (inboxes.create_inbox() for _ in range(3))
    refused(409, inboxes.delete_inbox, walk.inbox_id)
    refused(409, common.delete_email_address, walk.inbox_id)
    assert inboxes.delete_inbox(first.id) is None
    refused(404, inboxes.delete_inbox, first.id)
    assert common.delete_email_address(second.id) is None
    refused(404, common.delete_email_address, second.id)
    past = datetime(2020, 1, 1)  # noqa: DTZ001 as users do
    assert inboxes.delete_all_inboxes(created_at_before=past) is None
    assert len(inboxes.get_inbox_ids().inbox_ids) == 2
    assert "createdAtSince" in refused(400, inboxes.delete_all_inboxes, created_at_since="yesterday")
    assert inboxes.delete_all_inboxes(created_at_since=past) is None
    assert [item.id for item in inboxes.get_inbox_ids().inbox_ids] == [walk.inbox_id]
    inboxes.delete_all_inboxes()
    assert [item.id for item in inboxes.get_inbox_ids().inbox_ids] == [walk.inbox_id]
