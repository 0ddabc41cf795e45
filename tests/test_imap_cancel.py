"""A command cancelled at any moment: the connection is dropped, or its next answer is the right one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from inboxd.errors import MailServerError, ProtocolError
from inboxd.imap.session import Session
from servers.scripted import Conversation, Script, imap, scripted
from servers.sessions import BOTH_LOOPS, MANY, account_on, examined, take_all

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MEBIBYTE = 1 << 20


def answer(uid: int, body: bytes) -> bytes:
    """A FETCH response as Dovecot writes it."""
    return b"* %d FETCH (UID %d FLAGS () BODY[] {%d}\r\n%b)\r\n" % (uid, uid, len(body), body)


def truthful() -> Script:
    """A server whose every answer tells which question it belongs to: SEARCH n:* finds n, FETCH n brings mail n."""

    async def search(conversation: Conversation, tag: str) -> None:
        asked = re.search(rb"UID (\d+):", conversation.received[-1])
        assert asked
        await conversation.send(b"* SEARCH %b\r\n" % asked[1])
        await conversation.send(f"{tag} OK\r\n".encode())

    async def fetch(conversation: Conversation, tag: str) -> None:
        asked = re.search(rb"FETCH (\d+)", conversation.received[-1])
        assert asked
        for piece in (answer(int(asked[1]), b"mail " + asked[1]), f"{tag} OK\r\n".encode()):
            await conversation.send(piece[:20])
            await conversation.send(piece[20:])

    async def idle(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ idling\r\n")
        await conversation.send(b"* 5 EXISTS\r\n")
        await conversation.expect("DONE$")
        await conversation.send(f"{tag} OK\r\n".encode())

    return imap({"UID SEARCH": search, "UID FETCH": fetch, "IDLE": idle})


Work = Callable[[Session], Awaitable[None]]


async def search_one(opened: Session) -> None:
    assert list(await opened.search(above=16)) == [17]


async def fetch_one(opened: Session) -> None:
    assert [bytes(m.raw) for m in await take_all(opened, "17")] == [b"mail 17"]


async def linger_for_one(opened: Session) -> None:
    with opened.fetch("17") as stream:
        while await stream.take(MEBIBYTE, MANY, 5):
            pass


async def ask_header(opened: Session) -> None:
    await opened.header(17)


async def idle_once(opened: Session) -> None:
    assert await opened.idle(30, opened.pushes) is not None


@pytest.mark.parametrize("work", [search_one, fetch_one, linger_for_one, ask_header, idle_once])
async def test_a_cancellation_anywhere_never_leads_to_anothers_answer(
    work: Work,
) -> None:
    """One more turn of the loop each time, until the work is done before it is cancelled."""

    async def run(opened: Session) -> None:
        await work(opened)

    cancelled = 0
    async with scripted(truthful()) as port:
        for turns in range(500):
            async with examined(account_on(port)) as opened:
                async with asyncio.TaskGroup() as tasks:
                    task = tasks.create_task(run(opened))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    finished = task.done()
                    task.cancel()
                assert finished or task.cancelled(), "a cancellation was swallowed"
                if finished:
                    assert [bytes(m.raw) for m in await take_all(opened, "41")] == [b"mail 41"]
                    break
                cancelled += 1
                if turns and await is_alive(opened):
                    assert list(await opened.search(above=41)) == [42]
                    assert [bytes(m.raw) for m in await take_all(opened, "43")] == [b"mail 43"]
        else:
            raise AssertionError("the work never ended")
    assert cancelled > 2


async def is_alive(opened: Session) -> bool:
    """Whether the session still answers, and then rightly."""
    try:
        found = await opened.search(above=51)
    except MailServerError:
        return False
    assert list(found) == [52]
    return True


@pytest.mark.parametrize("work", [search_one, ask_header, idle_once])
async def test_a_cancelled_command_drops_the_connection(work: Work) -> None:
    silent = asyncio.Event()

    async def fall_silent(conversation: Conversation, _tag: str) -> None:
        silent.set()
        await conversation.closed()

    async def run(opened: Session) -> None:
        await work(opened)

    script = imap(dict.fromkeys(["UID SEARCH", "UID FETCH", "IDLE"], fall_silent))
    async with scripted(script) as port, examined(account_on(port)) as opened:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run(opened))
            await silent.wait()
            task.cancel()
        assert task.cancelled()
        with pytest.raises(MailServerError):
            await opened.search()


async def test_two_owners_are_one_too_many() -> None:
    async with scripted(truthful()) as port, examined(account_on(port)) as opened:
        with opened.fetch("17") as stream:
            with pytest.raises(ProtocolError):
                await opened.search()
            with pytest.raises(MailServerError):
                await stream.take(MEBIBYTE, MANY, 0)
