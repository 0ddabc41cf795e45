"""MailSlurp's Python client through received mails: lists, counts, one mail, its marks, and deleting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import corpus
from servers.python import SDK, Walk, refused, walks

PLAIN = b"From: bob@example.com\nTo: me@example.com\nSubject: plain\nMessage-ID: <plain@example.com>\n\nOnly text\n"
ADD, REMOVE, SET = "ADD_FLAGS", "REMOVE_FLAGS", "SET_FLAGS"


def subjects(page: Any) -> list[str]:
    """The subjects of a page."""
    return [email.subject for email in page.content]


@walks(
    "getEmails", "getInboxEmailsPaginated", "getEmailsPaginated", "getEmailsOffsetPaginated",
    "getOrganizationEmailsPaginated", "searchEmails",
)  # fmt: skip
def test_lists_sync_before_they_are_read_when_asked_to(walk: Walk) -> None:
    inboxes, emails, inbox_id = walk.client.inboxes, walk.client.emails, walk.inbox_id
    assert inboxes.get_inbox_emails_paginated(inbox_id, sync_connectors=False).total_elements == 0
    (first,) = inboxes.get_inbox_emails_paginated(inbox_id, sync_connectors=True).content
    assert (first.subject, first.read, first._from, first.to) == ("rich", False, "ada@example.com", ["me@example.com"])
    assert (first.sender.name, first.sender.email_address) == ("Ada Lovelace", "ada@example.com")
    assert first.recipients.to[0].raw_value == "me@example.com"
    assert (first.message_id, len(first.attachments)) == ("rich@example.com", 2)
    for number, synced in enumerate(
        (
            emails.get_emails_paginated,
            emails.get_emails_offset_paginated,
            emails.get_organization_emails_paginated,
            partial(emails.search_emails, SDK.SearchEmailsOptions()),
        ),
        2,
    ):
        walk.dovecot.append(walk.user, PLAIN)
        assert synced(sync_connectors=False).total_elements == number - 1
        assert synced(sync_connectors=True).total_elements == number
    assert [email.subject for email in inboxes.get_emails(inbox_id, size=1, limit=3)] == ["rich"]
    assert len(inboxes.get_emails(inbox_id, limit=2, sort="DESC", min_count=5, retry_timeout=1_000)) == 2
    assert len(inboxes.get_emails(inbox_id, min_count=6, retry_timeout=50, delay_timeout=10)) == 5
    assert "limit" in refused(400, inboxes.get_emails, inbox_id, limit=0)
    assert "syncConnectors" in refused(400, inboxes.get_inbox_emails_paginated, inbox_id, sync_connectors="perhaps")


@walks(
    "getEmailsPaginated", "getEmailsOffsetPaginated", "getOrganizationEmailsPaginated", "searchEmails",
    "setEmailFavourited", "markAsRead", "getInboxEmailsPaginated",
)  # fmt: skip
def test_lists_are_filtered_sorted_and_paged(walk: Walk) -> None:
    emails, inbox_id, rich, plain = walk.client.emails, walk.inbox_id, walk.rich, walk.arrives(PLAIN)
    emails.mark_as_read(rich)
    assert emails.set_email_favourited(plain, True) is None
    elsewhere, epoch = str(uuid4()), datetime(1970, 1, 1, tzinfo=UTC)
    for listing in (
        emails.get_emails_paginated,
        emails.get_emails_offset_paginated,
        emails.get_organization_emails_paginated,
    ):
        assert subjects(listing(inbox_id=[inbox_id, elsewhere], sort="DESC")) == ["plain", "rich"]
        assert subjects(listing(inbox_id=[elsewhere])) == []
        assert subjects(listing(inbox_id=[])) == ["rich", "plain"]
        assert (listing(page=1, size=1).content[0].id, listing(page=2, size=1).empty) == (plain, True)
        assert (subjects(listing(unread_only=True)), subjects(listing(unread_only=False))) == (
            ["plain"],
            ["rich", "plain"],
        )
        assert subjects(listing(favourited=True)) == ["plain"]
        assert subjects(listing(search_filter="PDF inside")) == ["rich"]
        assert subjects(listing(search_filter="in none of them")) == []
        assert (subjects(listing(since=epoch)), subjects(listing(before=epoch))) == (["rich", "plain"], [])
        assert "inboxId" in refused(400, listing, inbox_id=["nonsense"])
        assert "unreadOnly" in refused(400, listing, unread_only="perhaps")
        assert "plusAddressId" in refused(400, listing, plus_address_id=elsewhere)
    (row,) = emails.get_emails_paginated(search_filter="rich").content
    assert (row.read, row.team_access, row.favourite) == (True, False, False)
    assert (row._from, row.imap_uid, row.size_bytes > 0) == ("ada@example.com", 1, True)
    assert "PDF inside" in row.text_excerpt
    options = SDK.SearchEmailsOptions(
        inbox_ids=[inbox_id], page_index=0, page_size=1, sort_direction="DESC", search_filter="EXAMPLE", since=epoch
    )
    found = emails.search_emails(options, favourited=True)
    assert (subjects(found), found.total_elements) == (["plain"], 1)
    assert subjects(emails.search_emails(SDK.SearchEmailsOptions(unread_only=True))) == ["plain"]
    assert "inboxIds" in refused(400, emails.search_emails, SDK.SearchEmailsOptions(inbox_ids=["nonsense"]))
    previews = walk.client.inboxes.get_inbox_emails_paginated(inbox_id, page=0, size=1, sort="DESC", since=epoch)
    assert (subjects(previews), previews.total_pages) == (["plain"], 2)


@walks("getEmailCount", "getUnreadEmailCount", "getInboxEmailCount", "markAsRead", "markAllAsRead", "getEmailSummary")
def test_mails_are_counted_and_marked(walk: Walk) -> None:
    emails, inbox_id, rich, plain = walk.client.emails, walk.inbox_id, walk.rich, walk.arrives(PLAIN)
    assert walk.client.inboxes.get_inbox_email_count(inbox_id).total_elements == 2
    assert (emails.get_email_count().total_elements, emails.get_email_count(inbox_id=inbox_id).total_elements) == (2, 2)
    assert emails.get_email_count(inbox_id=str(uuid4())).total_elements == 0
    assert emails.get_unread_email_count(inbox_id=inbox_id).count == 2
    assert emails.mark_as_read(rich).read is True
    assert emails.get_email_summary(rich, decode=True).read is True
    assert (emails.mark_as_read(rich, read=False).read, emails.mark_as_read(rich, read=True).read) == (False, True)
    assert emails.get_unread_email_count().count == 1
    assert emails.mark_all_as_read() is None
    assert emails.get_unread_email_count().count == 0
    emails.mark_all_as_read(read=False, inbox_id=inbox_id)
    assert emails.get_unread_email_count(inbox_id=inbox_id).count == 2
    assert (emails.get_email_summary(plain).subject, emails.get_email_summary(plain).read) == ("plain", False)
    refused(404, emails.mark_all_as_read, inbox_id=str(uuid4()))
    assert "read" in refused(400, emails.mark_as_read, rich, read="perhaps")
    for count in (emails.get_email_count, emails.get_unread_email_count, emails.mark_all_as_read):
        assert "inboxId" in refused(400, count, inbox_id="nonsense")


@walks("getEmail", "getEmailSummary", "getLatestEmail", "getLatestEmailInInbox", "getLatestEmailInInbox1", "markAsRead")
def test_whole_mails_are_read_from_then_on(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    assert emails.get_email_summary(rich).read is False
    email = emails.get_email(rich)
    assert (email.subject, email.read, email.team_access) == ("rich", True, False)
    assert (email.is_html, email.html) == (True, True)
    assert (email.inbox_id, email._from, email.sender.name) == (walk.inbox_id, "ada@example.com", "Ada Lovelace")
    assert (email.body[:14], email.charset, email.external_id) == ("<h1>Hello</h1>", "utf-8", "1")
    assert email.text_excerpt.startswith("Hello, there is")
    assert (email.headers["Subject"], email.headers_map["Subject"]) == ("rich", ["rich"])
    assert datetime.now(UTC) - email.created_at < timedelta(minutes=5)
    for latest in (
        lambda: emails.get_latest_email(inbox_ids=[walk.inbox_id, str(uuid4())]),
        emails.get_latest_email,
        lambda: emails.get_latest_email_in_inbox1(walk.inbox_id),
        lambda: walk.client.inboxes.get_latest_email_in_inbox(walk.inbox_id, 1_000),
    ):
        emails.mark_as_read(rich, read=False)
        assert (latest().id, emails.get_email_summary(rich).read) == (rich, True)
    plain = walk.arrives(PLAIN)
    newest = emails.get_latest_email()
    assert (newest.id, newest.is_html, newest.body.strip(), newest.attachments) == (plain, False, "Only text", [])
    refused(404, emails.get_latest_email, inbox_ids=[str(uuid4())])
    assert "inboxIds" in refused(400, emails.get_latest_email, inbox_ids=["nonsense"])


@walks("setEmailFavourited", "getEmailSummary")
def test_mails_become_favourites(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    for favourite in (True, False):
        assert emails.set_email_favourited(rich, favourite) is None
        assert emails.get_email_summary(rich).favourite is favourite
    assert "favourited" in refused(400, emails.set_email_favourited, rich, "perhaps")


@walks("applyImapFlagOperation", "getEmailSummary")
def test_seen_is_changed_in_the_mailbox_too(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich

    def seen() -> bool:
        with walk.dovecot.session(walk.user) as session:
            session.select(readonly=True)
            return session.search(None, "SEEN")[1] == [b"1"]

    for operation, read in ((ADD, True), (REMOVE, False), (SET, True)):
        options = SDK.ImapFlagOperationOptions(flag_operation=operation, flags=["\\Seen"])
        assert emails.apply_imap_flag_operation(rich, options).read is read
        assert (seen(), emails.get_email_summary(rich).read) == (read, read)
    deleted = SDK.ImapFlagOperationOptions(flag_operation=ADD, flags=["\\Deleted"])
    assert "flags" in refused(400, emails.apply_imap_flag_operation, rich, deleted)
    assert "flagOperation" in refused(400, emails.apply_imap_flag_operation, rich, {"flags": ["\\Seen"]})


@walks("deleteEmail", "deleteAllEmails", "deleteAllInboxEmails", "emptyInbox", "getEmailCount", "getEmail")
def test_deleted_mails_stay_away(walk: Walk) -> None:
    emails, rich = walk.client.emails, walk.rich
    assert emails.delete_email(rich) is None
    refused(404, emails.delete_email, rich)
    refused(404, emails.get_email, rich)
    assert walk.sync() == []
    for delete in (
        emails.delete_all_emails,
        lambda: emails.delete_all_emails(created_at_since=datetime(2020, 1, 1)),  # noqa: DTZ001 as users do
        lambda: walk.client.inboxes.delete_all_inbox_emails(walk.inbox_id),
        lambda: walk.client.common.empty_inbox(walk.inbox_id),
    ):
        walk.arrives(PLAIN)
        emails.delete_all_emails(created_at_before=datetime(2020, 1, 1, tzinfo=UTC))
        assert emails.get_email_count().total_elements == 1
        assert delete() is None
        assert emails.get_email_count().total_elements == 0
    assert "createdAtBefore" in refused(400, emails.delete_all_emails, created_at_before="yesterday")


@walks(
    "getEmail", "getEmailSummary", "getEmailsPaginated", "getInboxEmailsPaginated", "getRawEmailJson", "getEmailHTML",
    "getEmailHTMLJson", "getEmailLinks", "getEmailTextLines", "getEmailAttachments", "waitForNthEmail",
)  # fmt: skip
def test_malformed_mails_come_back_in_every_model(walk: Walk) -> None:
    emails, waits, inbox_id = walk.client.emails, walk.client.waits, walk.inbox_id
    for raw in (*corpus.malformed().values(), b"x", b"From: @\nTo: ,\nSubject: =?x?b?=\n\n"):
        walk.dovecot.append(walk.user, raw)
    identities = walk.sync()
    assert [email.id for email in emails.get_emails_paginated(size=100).content] == identities
    previews = walk.client.inboxes.get_inbox_emails_paginated(inbox_id, size=100).content
    assert [email.id for email in previews] == identities
    for number, identity in enumerate(identities):
        assert emails.get_email(identity).id == emails.get_email_summary(identity).id == identity
        assert waits.wait_for_nth_email(inbox_id=inbox_id, index=number, timeout=1).id == identity
        assert emails.get_raw_email_json(identity).content
        assert isinstance(emails.get_email_html(identity), str)
        for read in (emails.get_email_html_json, emails.get_email_links, emails.get_email_text_lines):
            assert isinstance(read(identity).body, str)
        for attachment in emails.get_email_attachments(identity):
            assert attachment.name


@walks("getEmail", "getEmailSummary", "getEmailsPaginated")
def test_mail_without_anything_lacks_nothing_that_the_client_insists_on(walk: Walk) -> None:
    emails, nothing = walk.client.emails, walk.arrives(b"\n")
    email = emails.get_email(nothing)
    assert (email.to, email.cc, email.bcc, email._from, email.sender) == ([], [], [], None, None)
    assert (email.attachments, email.message_id, email.recipients.to) == ([], None, [])
    assert (emails.get_email_summary(nothing).to, emails.get_emails_paginated(page=1, size=1).content[0].to) == ([], [])
