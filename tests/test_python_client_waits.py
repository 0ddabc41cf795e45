"""MailSlurp's Python client through every way to wait for mail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from servers.python import SDK, Client, Walk, refused, walks

PLAIN = b"From: bob@example.com\nTo: me@example.com\nCc: cc@example.com\nSubject: plain *\nX-Order: 42\n\nOnly text\n"
TIMEOUT = 10_000


def matching(*wanted: tuple[str, str, str], **options: Any) -> Any:
    """Match options: field, how, value."""
    matches = [SDK.MatchOption(field=field, should=should, value=value) for field, should, value in wanted]
    return SDK.MatchOptions(matches=matches, **options)


def waits_of(client: Client, inbox_id: str, *, timeout: int = TIMEOUT, **query: Any) -> dict[str, Callable[[], Any]]:
    """Each way to wait for one mail of the inbox."""
    waits, rest = client.waits, {"timeout": timeout, **query}
    return {
        "latest": lambda: waits.wait_for_latest_email(inbox_id=inbox_id, **rest),
        "nth": lambda: waits.wait_for_nth_email(inbox_id=inbox_id, index=0, **rest),
        "count": lambda: waits.wait_for_email_count(inbox_id, 1, **rest),
        "matching": lambda: waits.wait_for_matching_emails(inbox_id, 1, SDK.MatchOptions(), **rest),
        "first": lambda: waits.wait_for_matching_first_email(inbox_id, SDK.MatchOptions(), **rest),
        "for": lambda: waits.wait_for(SDK.WaitForConditions(inbox_id=inbox_id, count=1, **rest)),
    }


ALL = (
    "waitForLatestEmail", "waitForNthEmail", "waitForEmailCount", "waitForMatchingEmails", "waitForMatchingFirstEmail",
    "waitFor",
)  # fmt: skip


@walks(*ALL, "markAllAsRead")
def test_mail_that_is_there_is_had_at_once(walk: Walk) -> None:
    waits, inbox_id, rich, plain = walk.client.waits, walk.inbox_id, walk.rich, walk.arrives(PLAIN)
    assert waits.wait_for_latest_email(inbox_id=inbox_id, timeout=TIMEOUT, unread_only=True).id == plain
    assert waits.wait_for_latest_email(inbox_id=inbox_id, timeout=TIMEOUT, unread_only=True).id == rich
    walk.client.emails.mark_all_as_read(read=False)
    oldest = waits.wait_for_latest_email(inbox_id=inbox_id, timeout=TIMEOUT, unread_only=False, sort="ASC", delay=10)
    assert (oldest.id, oldest.read) == (rich, True)
    assert [waits.wait_for_nth_email(inbox_id=inbox_id, index=index).id for index in (0, 1)] == [rich, plain]
    assert waits.wait_for_nth_email(inbox_id=inbox_id, index=0, sort="DESC").id == plain
    assert [email.id for email in waits.wait_for_email_count(inbox_id, 2)] == [rich, plain]
    (only,) = waits.wait_for_matching_emails(inbox_id, 1, matching(("SUBJECT", "CONTAIN", "PLAIN *")))
    assert (only.id, only.subject, only.read) == (plain, "plain *", True)
    first = waits.wait_for_matching_first_email(inbox_id, matching(("FROM", "EQUAL", "ada@example.com")))
    assert (first.id, first.is_html) == (rich, True)
    conditions = SDK.WaitForConditions(
        inbox_id=inbox_id, count=1, count_type="EXACTLY", timeout=TIMEOUT, unread_only=False, sort_direction="DESC",
        matches=[SDK.MatchOption(field="CC", should="MATCH", value=r"^cc@ex.mple\.com$")],
    )  # fmt: skip
    assert [email.id for email in waits.wait_for(conditions)] == [plain]


@walks("waitForMatchingFirstEmail")
def test_every_field_and_condition_matches(walk: Walk) -> None:
    waits, inbox_id, rich, plain = walk.client.waits, walk.inbox_id, walk.rich, walk.arrives(PLAIN)
    attached = [SDK.ConditionOption(condition="HAS_ATTACHMENTS", value="TRUE")]
    bare = [SDK.ConditionOption(condition="HAS_ATTACHMENTS", value="FALSE")]
    for options, found in (
        (matching(("TO", "EQUAL", "me@example.com"), ("CC", "CONTAIN", "CC@")), plain),
        (matching(("HEADERS", "CONTAIN", "X-Order: 42")), plain),
        (matching(("SUBJECT", "MATCH", r"pl\w+")), plain),
        (matching(conditions=attached), rich),
        (matching(conditions=bare), plain),
    ):
        assert waits.wait_for_matching_first_email(inbox_id, options, timeout=TIMEOUT).id == found
    both = matching(("SUBJECT", "CONTAIN", "plain"), conditions=attached)
    refused(408, waits.wait_for_matching_first_email, inbox_id, both, timeout=1)
    broken = matching(("SUBJECT", "MATCH", "("))
    assert "matches.0.value" in refused(400, waits.wait_for_matching_first_email, inbox_id, broken)
    strange = {"matches": [{"field": "BODY", "should": "MATCH", "value": "x"}]}
    assert "matches.0.field" in refused(400, waits.wait_for_matching_first_email, inbox_id, strange)
    for model in (
        lambda: SDK.MatchOption(field="BODY", should="MATCH", value="x"),
        lambda: SDK.MatchOption(field="TO", should="RESEMBLE", value="x"),
        lambda: SDK.ConditionOption(condition="HAS_PICTURES", value="TRUE"),
    ):
        with pytest.raises(ValueError, match="must be one of"):
            model()


@walks(*ALL)
def test_mail_that_arrives_ends_every_wait(walk: Walk) -> None:
    begun, pool_manager = threading.Semaphore(0), walk.client.api.rest_client.pool_manager
    real = pool_manager.request

    def request(*arguments: Any, **options: Any) -> Any:
        begun.release()
        return real(*arguments, **options)

    pool_manager.request = request
    ways = waits_of(walk.client, walk.inbox_id, timeout=30_000, since=datetime.now(UTC))
    with ThreadPoolExecutor(len(ways)) as pool:
        waiting = [pool.submit(way) for way in ways.values()]
        assert all(begun.acquire(timeout=30) for _ in ways)
        assert not any(future.done() for future in waiting)
        rich = walk.rich
        for future in waiting:
            found = future.result(30)
            email = cast("list[Any]", found)[0] if isinstance(found, list) else found
            assert email.id == rich


@walks(*ALL, "getLatestEmailInInbox", "createInbox")
def test_wait_in_vain_names_the_inbox(walk: Walk) -> None:
    empty = walk.client.inboxes.create_inbox().id
    for inbox_id, query in ((empty, {}), (walk.inbox_id, {"unread_only": True})):
        for ask in waits_of(walk.client, inbox_id, timeout=1, **query).values():
            message = refused(408, ask)
            assert message.startswith("Failed to satisfy email query for inbox")
            assert inbox_id in message
    assert empty in refused(408, walk.client.inboxes.get_latest_email_in_inbox, empty, 1)


@walks(*ALL)
def test_spans_are_read_in_every_spelling_of_a_date(walk: Walk) -> None:
    assert walk.rich
    now = datetime.now(UTC)
    for hours, status in ((-1, 200), (1, 408)):
        moment = now + timedelta(hours=hours)
        abroad = moment.astimezone(datetime.strptime("+0530", "%z").tzinfo)
        for since in (moment, moment.replace(tzinfo=None), moment.replace(microsecond=0), abroad):
            for ask in waits_of(walk.client, walk.inbox_id, timeout=1, since=since).values():
                if status == 200:
                    assert ask()
                else:
                    refused(status, ask)
    for ask in waits_of(walk.client, walk.inbox_id, timeout=1, before=now.replace(tzinfo=None) - timedelta(1)).values():
        refused(408, ask)


@walks(*ALL, "getLatestEmailInInbox")
def test_waits_that_cannot_be_are_refused(walk: Walk) -> None:
    waits = walk.client.waits
    unknown = str(uuid4())
    for ask in waits_of(walk.client, unknown, timeout=1).values():
        assert unknown in refused(404, ask)
    for ask in waits_of(walk.client, "nonsense", timeout=1).values():
        assert "inboxId" in refused(400, ask)
    for wait in (waits.wait_for_latest_email, waits.wait_for_nth_email):
        assert "inboxId" in refused(400, wait, timeout=1)
        assert "unreadOnly" in refused(400, wait, inbox_id=walk.inbox_id, unread_only="perhaps")
    assert "timeout" in refused(400, waits.wait_for_latest_email, inbox_id=walk.inbox_id, timeout=-1)
    assert "delay" in refused(400, waits.wait_for_nth_email, inbox_id=walk.inbox_id, delay=-1)
    walk.client.api.client_side_validation = False
    assert "index" in refused(400, waits.wait_for_nth_email, inbox_id=walk.inbox_id, index=-1)
    assert "count" in refused(400, waits.wait_for_email_count, walk.inbox_id, 0)
    assert "count" in refused(400, waits.wait_for_matching_emails, walk.inbox_id, "many", SDK.MatchOptions())
    assert "timeoutMillis" in refused(400, walk.client.inboxes.get_latest_email_in_inbox, walk.inbox_id, "soon")
    strange = {"inboxId": walk.inbox_id, "timeout": 1, "countType": "ABOUT"}
    assert "countType" in refused(400, waits.wait_for, strange)
    with pytest.raises(ValueError, match="count_type"):
        SDK.WaitForConditions(inbox_id=walk.inbox_id, timeout=1, count_type="ABOUT")
