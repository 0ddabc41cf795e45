"""What MailSlurp's Python client puts on the wire that others do not, and what it makes of answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from servers.python import SDK, Walk, refused, walks

INDIA = timezone(timedelta(hours=5, minutes=30))


@dataclass(frozen=True)
class Asked:
    """A request as the SDK hands it to its HTTP library."""

    method: str
    url: str
    body: object
    content_type: str
    query: Any


def recorded(walk: Walk) -> list[Asked]:
    """The client's requests from now on."""
    asked: list[Asked] = []
    pool_manager = walk.client.api.rest_client.pool_manager
    real = pool_manager.request

    def request(method: str, url: str, **options: Any) -> Any:
        content_type = options["headers"]["Content-Type"]
        asked.append(Asked(method, url, options.get("body"), content_type, options.get("fields")))
        return real(method, url, **options)

    pool_manager.request = request
    return asked


@walks(
    "getUserInfo", "createInboxWithDefaults", "syncConnector", "testConnectorImapConnection", "markAllAsRead",
    "deleteAllEmails", "deleteAllInboxes", "createInbox",
)  # fmt: skip
def test_nothing_is_sent_as_json_and_taken(walk: Walk) -> None:
    client, connector_id = walk.client, walk.connector["id"]
    asked = recorded(walk)
    assert client.users.get_user_info().account_state == "ACTIVE"
    client.inboxes.create_inbox_with_defaults()
    client.inboxes.create_inbox()
    assert client.connectors.sync_connector(connector_id).sync_result.email_sync_count == 1
    assert client.connectors.test_connector_imap_connection(connector_id).success
    client.emails.mark_all_as_read()
    client.emails.delete_all_emails()
    client.inboxes.delete_all_inboxes()
    assert {(request.content_type, request.body) for request in asked} == {("application/json", None)}
    assert {request.method for request in asked} == {"GET", "POST", "PATCH", "DELETE"}


@walks("getEmailsPaginated", "markAsRead", "createInbox", "createRandomInbox")
def test_booleans_of_python_are_read(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    asked = recorded(walk)
    assert emails.get_emails_paginated(unread_only=True).total_elements == 1
    assert asked[-1].query == [("unreadOnly", True)]
    assert emails.mark_as_read(rich, read=True).read is True
    assert asked[-1].url.endswith("?read=True")
    assert emails.get_emails_paginated(unread_only=True).total_elements == 0
    assert emails.get_emails_paginated(unread_only=False).total_elements == 1
    assert emails.mark_as_read(rich, read=False).read is False
    assert asked[-1].url.endswith("?read=False")
    for create in (walk.client.inboxes.create_inbox, walk.client.common.create_random_inbox):
        assert create(favourite=True).favourite is True
        assert create(favourite=False).favourite is False


@walks("getEmailsPaginated", "searchEmails", "getConnectors", "getInboxes", "searchInboxes")
def test_dates_of_python_are_read(walk: Walk) -> None:
    client, rich = walk.client, walk.rich
    now = datetime.now(UTC)
    for hours, found in ((-1, 1), (1, 0)):
        aware = (now + timedelta(hours=hours)).replace(microsecond=123_456)
        for since in (aware, aware.replace(tzinfo=None), aware.replace(microsecond=0), aware.astimezone(INDIA)):
            assert client.emails.get_emails_paginated(since=since).total_elements == found
            assert client.emails.get_emails_paginated(before=since).total_elements == 1 - found
            assert client.emails.search_emails(SDK.SearchEmailsOptions(since=since)).total_elements == found
            assert client.connectors.get_connectors(since=since).total_elements == found
            assert len(client.inboxes.get_inboxes(since=since)) == found
            assert client.inboxes.search_inboxes(SDK.SearchInboxesOptions(since=since)).total_elements == found
    (today,) = client.emails.get_emails_paginated(since=(now - timedelta(days=1)).date()).content
    assert (today.id, today.created_at.tzinfo is not None) == (rich, True)


@walks("getEmailsPaginated", "getLatestEmail", "createInbox", "getInboxes")
def test_lists_are_repeated_keys(walk: Walk) -> None:
    rich, inboxes = walk.rich, walk.client.inboxes
    asked = recorded(walk)
    empty = inboxes.create_inbox(tags=["one", "two, three", "four&five"])
    assert empty.tags == ["one", "two, three", "four&five"]
    assert asked[-1].url.count("tags=") == 3
    page = walk.client.emails.get_emails_paginated(inbox_id=[empty.id, walk.inbox_id])
    assert [email.id for email in page.content] == [rich]
    assert asked[-1].query == [("inboxId", empty.id), ("inboxId", walk.inbox_id)]
    assert walk.client.emails.get_latest_email(inbox_ids=[empty.id, walk.inbox_id]).id == rich
    assert {inbox.id for inbox in inboxes.get_inboxes(size=1, include=[empty.id])} == {walk.inbox_id, empty.id}


@walks("sendEmailAndConfirm", "getEmail")
def test_from_is_called_otherwise_in_python(walk: Walk) -> None:
    options = SDK.SendEmailOptions(to=[walk.user.name], _from=f"Ada <{walk.user.name}>", body="x")
    sent = walk.client.inboxes.send_email_and_confirm(walk.inbox_id, options)
    assert (sent._from, sent.sender.name, sent.sender.raw_value) == (
        walk.user.name, "Ada", f"Ada <{walk.user.name}>",
    )  # fmt: skip
    assert {walk.client.emails.get_email(email_id)._from for email_id in walk.sync()} == {
        "ada@example.com", walk.user.name,
    }  # fmt: skip
    foreign = SDK.SendEmailOptions(to=[walk.user.name], _from="nonsense", body="x")
    assert "from" in refused(400, walk.client.inboxes.send_email_and_confirm, walk.inbox_id, foreign)


@walks("sendEmailAndConfirm", "createInbox", "getEmail", "getAllInboxes", "getEmailsPaginated")
def test_fields_that_the_client_insists_on_are_there(walk: Walk) -> None:
    client = walk.client
    assert client.emails.get_email(walk.rich).team_access is False
    options = SDK.SendEmailOptions(to=[walk.user.name], body="x")
    sent = client.inboxes.send_email_and_confirm(walk.inbox_id, options)
    inbox = client.inboxes.create_inbox()
    assert sent.transport == "PUBLIC_EMAIL"
    assert inbox.user_id == sent.user_id
    assert {preview.team_access for preview in client.inboxes.get_all_inboxes().content} == {False}
    assert {mail.team_access for mail in client.emails.get_emails_paginated().content} == {False}
    with pytest.raises(ValueError, match="transport"):
        SDK.SentEmailDto(**(sent.to_dict() | {"transport": None}))
    with pytest.raises(ValueError, match="transport"):
        SDK.SentEmailDto(**(sent.to_dict() | {"transport": "PIGEON"}))
