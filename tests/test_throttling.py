"""Servers that want less of us: told from wrong passwords and full mailboxes, waited for, and never parked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inboxd.connector import Supervisor
from inboxd.errors import AuthRefused, CommandRefused, MailServerError, ServerSaidBye, Throttled
from inboxd.imap import throttling
from inboxd.model import State, Status
from inboxd.store.engine import Store
from servers.mailbox import Bench, make_bench, sample, serving
from servers.scripted import Conversation, Reply
from servers.sessions import account_on, eventually, session
from servers.stores import blank_sqlite
from test_supervisor import alive

pytest_plugins = ("servers.stores", "servers.sessions")

SUGGESTED = "Request is throttled. Suggested Backoff Time: 92415 milliseconds"


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


def says(answer: str) -> Reply:
    async def reply(conversation: Conversation, tag: str) -> None:
        await conversation.send(answer.replace("TAG", tag).encode())

    return reply


@pytest.mark.parametrize(
    ("answer", "kind", "crowded"),
    [
        ("TAG NO [LIMIT] Maximum number of connections from user+IP exceeded", Throttled, True),
        ("TAG NO [UNAVAILABLE] Temporary authentication failure", Throttled, False),
        ("TAG NO [INUSE] mailbox locked", Throttled, False),
        ("TAG NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)", Throttled, False),
        ("TAG NO [ALERT] Too many simultaneous connections. (Failure)", Throttled, True),
        ("TAG NO " + SUGGESTED, Throttled, False),
        ("TAG BAD Request is throttled", Throttled, False),
        ("TAG NO 432 4.3.2 Concurrent connections limit exceeded", Throttled, True),
        ("* BYE Too many connections from your address", Throttled, True),
        ("* BYE [OVERQUOTA] Account exceeded command or bandwidth limits", Throttled, False),
        ("* BYE Server shutting down", ServerSaidBye, False),
        ("TAG NO [AUTHENTICATIONFAILED] Too many wrong passwords, try again", AuthRefused, False),
        ("TAG NO Invalid credentials", AuthRefused, False),
    ],
)
async def test_a_refused_login_is_a_wrong_password_only_when_that_is_what_it_says(
    answer: str, kind: type[MailServerError], crowded: bool
) -> None:
    async with serving() as (mailbox, port):
        mailbox.answers["AUTHENTICATE"] = says(answer + "\r\n")
        refused = sample("inboxd_imap_logins_total", result="refused")
        with pytest.raises(MailServerError) as raised:
            async with session(account_on(port)):
                pass
    error = raised.value
    assert type(error) is kind
    assert getattr(error, "crowded", False) is crowded
    assert answer.partition(" ")[2].partition(" ")[2] in str(error)
    assert sample("inboxd_imap_logins_total", result="refused") - refused == (kind is AuthRefused)


@pytest.mark.parametrize(
    ("command", "reply", "throttles"),
    [
        ("FETCH", "[OVERQUOTA] Account exceeded command or bandwidth limits.", True),
        ("APPEND", "[OVERQUOTA] Mailbox is full", False),
        ("STORE", "[OVERQUOTA] Mailbox is full", False),
        ("APPEND", "[THROTTLED] slow down", True),
        ("EXAMINE", SUGGESTED, True),
        ("EXAMINE", "[INUSE] another program has locked it", False),
        ("STORE", "[LIMIT] too many flags in this mailbox", False),
        ("EXAMINE", "[UNAVAILABLE] its disk is away", False),
        ("EXAMINE", "[NONEXISTENT] no such mailbox", False),
    ],
)
def test_a_refused_command_throttles_only_when_it_is_about_the_whole_account(
    command: str, reply: str, throttles: bool
) -> None:
    assert throttling.throttles(command, reply) is throttles


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (SUGGESTED, 92.415),
        ("[LIMIT] Please try again in 5 minutes", 300.0),
        ("too busy, retry after 30 seconds", 30.0),
        ("retry-after: 12s", 12.0),
        ("try again later", None),
        ("wait for 7 messages", None),
    ],
)
def test_a_wait_is_read_off_the_servers_words(reply: str, seconds: float | None) -> None:
    assert throttling.hint_seconds(reply) == seconds


async def test_a_throttled_command_ends_the_session_and_a_refused_one_does_not() -> None:
    async with serving(1) as (mailbox, port), session(account_on(port)) as opened:
        mailbox.answers["EXAMINE"] = says("TAG NO [SERVERBUG] out of order\r\n")
        with pytest.raises(CommandRefused, match="out of order"):
            await opened.examine("INBOX")
        mailbox.answers["EXAMINE"] = says(f"TAG NO {SUGGESTED}\r\n")
        with pytest.raises(Throttled, match="Suggested Backoff"):
            await opened.examine("INBOX")
        assert opened.link.protocol.failure is not None


@pytest.mark.parametrize("command", ["AUTHENTICATE", "EXAMINE"])
async def test_a_throttled_connector_waits_as_long_as_it_is_told_and_recovers(
    bench: Bench, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., None] = vars(Supervisor)["_enter"]
    seen: list[Status] = []

    def enter(self: Supervisor, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more)
        seen.append(self.status)

    monkeypatch.setattr(Supervisor, "_enter", enter)
    async with serving(1) as (mailbox, port):
        mailbox.answers[command] = says("TAG NO Request is throttled. Suggested Backoff Time: 300 milliseconds\r\n")
        linked = await bench.link(port)
        supervisor = linked.supervisor()
        async with alive(supervisor):
            await eventually(lambda: supervisor.status.state is State.THROTTLED)
            assert sample("inboxd_connectors", state="throttled") == 1
            assert "Request is throttled" in (supervisor.status.reason or "")
            del mailbox.answers[command]
            await linked.until_stored(1)
            await eventually(lambda: supervisor.status.state is State.IDLE)
            assert supervisor.status.reason is None
    (throttled,) = [status for status in seen if status.state is State.THROTTLED]
    assert throttled.retry_at is not None
    assert (throttled.retry_at - throttled.since).total_seconds() >= 0.3
    assert not [status for status in seen if status.state in (State.PARKED, State.WAITING)]
