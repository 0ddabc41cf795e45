"""Listening: what is heard, what ends it, and that a lost server is noticed at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from inboxd.errors import CommandRefused, ConnectionLost, MailServerError, ProtocolError, ServerSaidBye, Stalled
from inboxd.imap.session import Session
from inboxd.sections import ImapSettings
from servers import Listener
from servers.dovecot import Dovecot
from servers.proxy import Direction, proxy
from servers.scripted import Conversation, Reply, imap, scripted
from servers.sessions import BOTH_LOOPS, LIMITS, account, account_on, eventually, examined, limits

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
HELLO = b"Subject: hello\r\n\r\nbody\r\n"
MEBIBYTE = 1 << 20


def says(*pieces: bytes, then_done: bytes = b"TAG OK done\r\n") -> Reply:
    """Answer IDLE with these octets and, after DONE, with `then_done`; TAG replaced. Nothing waits if that is empty."""

    async def reply(conversation: Conversation, tag: str) -> None:
        await conversation.send(*(piece.replace(b"TAG", tag.encode()) for piece in pieces))
        if then_done:
            await conversation.expect("DONE$")
            await conversation.send(then_done.replace(b"TAG", tag.encode()))

    return reply


@asynccontextmanager
async def idling_with(reply: Reply, within: ImapSettings = LIMITS) -> AsyncGenerator[Session]:
    """A session on a server that answers IDLE so; its mailbox holds two messages."""
    async with (
        scripted(imap({"IDLE": reply, "EXAMINE": b"* 2 EXISTS\r\n"})) as port,
        examined(account_on(port), within) as opened,
    ):
        yield opened


# --- a real server ---------------------------------------------------------------------------------------------------


async def test_an_append_is_heard(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with examined(account(dovecot.starttls, user)) as opened:
        for count in range(1, 4):
            seen, arrivals = opened.pushes, opened.arrivals
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(opened.idle(20, seen))
                await asyncio.to_thread(dovecot.append, user, HELLO)
            assert listening.result() == opened.pushed_at
            assert opened.pushes > seen
            assert opened.arrivals == arrivals + 1
            assert list(await opened.search()) == list(range(1, count + 1))


async def test_an_append_before_the_idle_is_heard_at_once(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with examined(account(dovecot.starttls, user)) as opened:
        seen = opened.pushes
        await asyncio.to_thread(dovecot.append, user, HELLO)
        async with asyncio.timeout(5):
            assert await opened.idle(60, seen) is not None


async def test_an_idle_ends_at_its_deadline_and_the_session_goes_on(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with examined(account(dovecot.starttls, user)) as opened:
        for _ in range(3):
            assert await opened.idle(0.05, opened.pushes) is None
        assert not await opened.search()


async def test_the_end_of_a_long_idle_is_given_its_own_time(dovecot: Dovecot) -> None:
    """The longest an answer may take is counted from DONE: an IDLE lasts longer than any command."""
    async with examined(account(dovecot.starttls, dovecot.user()), limits(done_seconds=0.15)) as opened:
        assert await opened.idle(1.7, opened.pushes) is None
        assert not await opened.search()


async def test_a_kicked_session_is_told_goodbye(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with examined(account(dovecot.starttls, user)) as opened, asyncio.TaskGroup() as tasks:
        ended = tasks.create_task(end_of(opened))
        await asyncio.to_thread(dovecot.kick, user)
        assert type(await ended) is ServerSaidBye


async def test_a_killed_server_is_noticed_within_a_second(dovecot: Dovecot) -> None:
    async with examined(account(dovecot.starttls, dovecot.user())) as opened, asyncio.TaskGroup() as tasks:
        ended = tasks.create_task(end_of(opened))
        await asyncio.to_thread(dovecot.stop, kill=True)
        async with asyncio.timeout(1):
            assert isinstance(await ended, ConnectionLost)


async def end_of(opened: Session, seconds: float = 60) -> MailServerError:
    """What an IDLE ends with."""
    with pytest.raises(MailServerError) as told:
        await opened.idle(seconds, opened.pushes)
    return told.value


@pytest.mark.parametrize("reset", [False, True])
async def test_a_dropped_connection_is_noticed_within_a_second(dovecot: Dovecot, reset: bool) -> None:
    async with proxy(dovecot.starttls) as relay:
        to = account(Listener(relay.host, relay.port), dovecot.user())
        async with examined(to) as opened, asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(end_of(opened))
            await asyncio.sleep(0)
            relay.drop(reset=reset)
            async with asyncio.timeout(1):
                assert type(await ended) is ConnectionLost


async def test_a_dead_path_is_noticed_when_the_idle_is_refreshed(dovecot: Dovecot) -> None:
    async with proxy(dovecot.starttls) as relay:
        to = account(Listener(relay.host, relay.port), dovecot.user())
        async with examined(to, limits(done_seconds=0.2)) as opened, asyncio.TaskGroup() as tasks:
            before = relay.passed[Direction.DOWN]
            ended = tasks.create_task(end_of(opened, 0.3))
            await eventually(lambda: relay.passed[Direction.DOWN] > before)
            relay.freeze()
            async with asyncio.timeout(2):
                assert type(await ended) is Stalled


# --- servers that speak out of turn ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [b"", b"* OK Still here\r\n", b"* 2 RECENT\r\n* OK [HIGHESTMODSEQ 1] x\r\n* FLAGS ()\r\n", b"* 1 EXPUNGE\r\n"],
)
@pytest.mark.parametrize("plus", [b"+ idling\r\n", b"+\r\n", b"+ \r\n", b"+ {5}\r\n"])
async def test_lines_before_the_continuation_are_accepted(before: bytes, plus: bytes) -> None:
    async with idling_with(says(before, plus)) as opened:
        assert await opened.idle(0.05, opened.pushes) is None


@pytest.mark.parametrize(
    ("answer", "then_done"),
    [
        ([b"* 3 EXISTS\r\n+ idling\r\n"], b"TAG OK\r\n"),
        ([b"+ idling\r\n* 3 EXISTS\r\n"], b"TAG OK\r\n"),
        ([b"+ idling\r\n"], b"* 3 EXISTS\r\nTAG OK\r\n"),
        ([b"+ idling\r\n* 3 EXISTS\r\nTAG OK\r\n"], b""),
        ([b"* 3 EXISTS\r\nTAG OK\r\n"], b""),
    ],
)
async def test_a_push_anywhere_in_the_answer_is_heard(answer: list[bytes], then_done: bytes) -> None:
    async with idling_with(says(*answer, then_done=then_done)) as opened:
        seen, arrivals = opened.pushes, opened.arrivals
        assert await opened.idle(0.2, seen) == opened.pushed_at
        assert (opened.pushes, opened.arrivals) == (seen + 1, arrivals + 1)


async def test_a_push_behind_the_tagged_answer_is_not_lost() -> None:
    async with idling_with(says(b"+ idling\r\n", then_done=b"TAG OK\r\n* 3 EXISTS\r\n")) as opened:
        seen = opened.pushes
        await opened.idle(0.05, seen)
        assert opened.pushes == seen + 1


async def test_a_push_with_the_answer_to_a_search_is_not_lost() -> None:
    replies = {"UID SEARCH": b"* SEARCH 1\r\n* 3 EXISTS\r\n", "EXAMINE": b"* 2 EXISTS\r\n"}
    async with scripted(imap(replies)) as port, examined(account_on(port)) as opened:
        seen = opened.pushes
        assert list(await opened.search()) == [1]
        assert opened.pushes == seen + 1
        assert await opened.rest(20, seen) == opened.pushed_at


async def test_an_idle_the_server_ends_by_itself_is_over() -> None:
    async with idling_with(says(b"+ idling\r\nTAG OK enough\r\n", then_done=b"")) as opened:
        assert await opened.idle(60, opened.pushes) is None
        assert not await opened.search()


@pytest.mark.parametrize("word", [b"NO", b"BAD"])
async def test_a_refused_idle_leaves_the_session_usable(word: bytes) -> None:
    async with idling_with(says(b"TAG " + word + b" not here\r\n", then_done=b"")) as opened:
        with pytest.raises(CommandRefused, match="not here"):
            await opened.idle(60, opened.pushes)
        assert not await opened.search()
        assert await opened.rest(0.05, opened.pushes) is None


@pytest.mark.parametrize("word", [b"NO", b"BAD"])
async def test_trouble_reported_while_listening_ends_the_session(word: bytes) -> None:
    async with idling_with(says(b"+ idling\r\n* " + word + b" Internal error {3}\r\n")) as opened:
        assert type(await end_of(opened)) is ProtocolError
        with pytest.raises(MailServerError):
            await opened.search()


async def test_a_bye_while_listening_ends_the_session_though_the_server_stays() -> None:
    async with idling_with(says(b"+ idling\r\n* BYE shutting down\r\n")) as opened:
        async with asyncio.timeout(1):
            assert type(await end_of(opened)) is ServerSaidBye


async def test_a_server_that_never_takes_up_the_idle_is_dropped() -> None:
    async def fall_silent(conversation: Conversation, _tag: str) -> None:
        await conversation.closed()

    async with idling_with(fall_silent, limits(command_seconds=0.2)) as opened:
        assert type(await end_of(opened)) is Stalled


async def test_an_idle_may_hear_any_amount() -> None:
    async def flood(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ idling\r\n")
        for _ in range(130):
            await conversation.send(b"* 1 FETCH (X {%d}\r\n%b)\r\n" % (MEBIBYTE, bytes(MEBIBYTE)))
        await conversation.send(b"* 3 EXISTS\r\n")
        await conversation.expect("DONE$")
        await conversation.send(f"{tag} OK\r\n".encode())

    async with idling_with(flood) as opened:
        assert await opened.idle(8, opened.pushes) is not None


# --- in a hurry ------------------------------------------------------------------------------------------------------


async def test_what_follows_a_push_is_sent_right_behind_done() -> None:
    async def both(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ idling\r\n* 3 EXISTS\r\n")
        await conversation.expect("DONE$")
        following = await conversation.command("UID SEARCH")
        await conversation.send(f"* 3 FETCH (FLAGS ())\r\n{tag} OK idled\r\n* 4 EXISTS\r\n".encode())
        await conversation.send(f"* SEARCH 1 2 3\r\n{following} OK found\r\n".encode())

    async with idling_with(both) as opened:
        seen = opened.pushes
        assert await opened.idle(60, seen, hurried=True) == opened.pushed_at
        assert list(await opened.search()) == [1, 2, 3]
        assert (opened.pushes, opened.outran_done) == (seen + 2, False)
        assert await opened.rest(20, seen)


async def test_a_hurried_idle_without_a_push_is_ended_at_once() -> None:
    async with idling_with(says(b"+ idling\r\n")) as opened:
        assert await opened.idle(0.05, opened.pushes, hurried=True) is None
        assert not await opened.search()


async def test_a_real_server_takes_a_command_behind_done(dovecot: Dovecot) -> None:
    user = dovecot.user()
    async with examined(account(dovecot.starttls, user)) as opened:
        for count in (1, 2):
            seen = opened.pushes
            await asyncio.to_thread(dovecot.append, user, HELLO)
            assert await opened.idle(60, seen, hurried=True) is not None
            assert len(await opened.search()) == count
        assert not opened.outran_done


@pytest.mark.parametrize("answer", [b"TAG BAD DONE was expected\r\n", b"* BYE what is this\r\n", b""])
async def test_a_server_that_takes_no_command_behind_done_is_known_by_that(answer: bytes) -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ idling\r\n* 3 EXISTS\r\n")
        await conversation.line()
        await conversation.send(answer.replace(b"TAG", tag.encode()))
        conversation.close()

    async with idling_with(refuse) as opened:
        await opened.idle(60, opened.pushes, hurried=True)
        with pytest.raises(MailServerError):
            await opened.search()
        assert opened.outran_done


async def test_alerts_are_kept_for_people() -> None:
    async with idling_with(says(b"+ idling\r\n* OK [ALERT] quota \x1b[2Jnearly full\r\n")) as opened:
        assert await opened.idle(0.05, opened.pushes) is None
        assert opened.alerts == ["[ALERT] quota \ufffd[2Jnearly full"]


# --- without IDLE ----------------------------------------------------------------------------------------------------


async def test_resting_asks_with_noop_and_hears_of_mail() -> None:
    replies = {"NOOP": b"* 3 EXISTS\r\n", "EXAMINE": b"* 2 EXISTS\r\n"}
    async with scripted(imap(replies)) as port, examined(account_on(port)) as opened:
        assert await opened.rest(0.01, opened.pushes) == opened.pushed_at


async def test_resting_ends_at_once_when_mail_is_announced(dovecot: Dovecot) -> None:
    async with idling_with(says()) as opened, asyncio.timeout(5):
        assert await opened.rest(60, opened.pushes - 1) == opened.pushed_at


async def test_trouble_reported_while_resting_ends_the_session_instead_of_asking_without_a_pause() -> None:
    replies = {"NOOP": b"* NO trouble\r\n"}
    async with scripted(imap(replies)) as port, examined(account_on(port)) as opened:
        with pytest.raises(ProtocolError):
            await opened.rest(0.01, opened.pushes)
        with pytest.raises(MailServerError):
            await opened.search()


async def test_a_lost_connection_ends_the_rest(dovecot: Dovecot) -> None:
    async with proxy(dovecot.starttls) as relay:
        to = account(Listener(relay.host, relay.port), dovecot.user())
        async with examined(to) as opened, asyncio.TaskGroup() as tasks:
            resting = tasks.create_task(lost_at_rest(opened))
            await eventually(lambda: relay.connections)
            relay.drop()
            async with asyncio.timeout(1):
                await resting


async def lost_at_rest(opened: Session) -> None:
    with pytest.raises(ConnectionLost):
        await opened.rest(60, opened.pushes)


# --- good-bye --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"* BYE so long\r\nTAG OK\r\n", b"* BYE so long\r\n", b"TAG OK\r\n", b"TAG BAD what\r\n", b"X OK\r\n", b""],
)
async def test_logging_out_never_fails_and_never_lasts(answer: bytes) -> None:
    async def leave(conversation: Conversation, tag: str) -> None:
        await conversation.send(answer.replace(b"TAG", tag.encode()))
        await conversation.closed()

    async with scripted(imap({"LOGOUT": leave})) as port, examined(account_on(port)) as opened:
        async with asyncio.timeout(4):
            await opened.log_out()
