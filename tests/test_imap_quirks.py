"""What aioimaplib 2.0.3 does to a session's bytes, shown on its own class, and that ours does not.

Each test asserts both, so it fails if our reader were replaced by the stock one, and when a new aioimaplib is mended.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any, cast

import pytest
from aioimaplib import aioimaplib

from inboxd.errors import ConnectionLost, MailServerError, ProtocolError
from inboxd.imap.asked import Asked
from inboxd.imap.lines import Part, parse_fetch
from inboxd.imap.link import Link
from inboxd.imap.protocol import Protocol
from servers.sessions import wired

READ_BYTES = 64 << 10
library = cast("Any", aioimaplib)  # it is annotated in parts only


def stock_client() -> Any:
    """The library's own protocol, with a mailbox open."""
    made = library.IMAP4ClientProtocol(asyncio.get_running_loop())
    made.state = "SELECTED"
    return made


async def our_client() -> tuple[Protocol, socket.socket]:
    """Ours on a real transport, with a mailbox open; and the server's end."""
    protocol = Protocol(None, 1 << 20)
    peer = await wired(protocol)
    protocol.greeting, protocol.state = b"OK", "SELECTED"
    return protocol, peer


@asynccontextmanager
async def ours_asking(name: str = "NOOP", *arguments: str) -> AsyncGenerator[tuple[Protocol, Asked]]:
    """Ours with a command sent."""
    protocol, peer = await our_client()
    with peer:
        command = Asked(name, protocol.new_tag(), *arguments)
        protocol.begin(command)
        try:
            yield protocol, command
        finally:
            protocol.abort(ConnectionLost("closed", "the test is over"))
            await settle()


def stock_asking(name: str = "NOOP") -> tuple[Any, Any]:
    """The stock protocol with an asynchronous command under way, as its `execute` leaves it."""
    protocol = stock_client()
    tag = protocol.new_tag()
    command = library.FetchCommand(tag, "1:*") if name == "FETCH" else library.Command(name, tag)
    protocol.pending_async_commands[command.untagged_resp_name] = command
    return protocol, command


async def settle(turns: int = 20) -> None:
    """Let the loop run what is ready."""
    for _ in range(turns):
        await asyncio.sleep(0)


def ok(command: Any) -> bytes:
    """The tagged answer that ends a command."""
    return f"{command.tag} OK done\r\n".encode()


def lines_of(command: Asked) -> list[Part]:
    """The first lines of the responses a command collected."""
    return [response[0] for response in command.responses]


class Shown(bytes):
    """Octets that count how often somebody formats them."""

    times = 0

    def __repr__(self) -> str:
        Shown.times += 1
        return super().__repr__()

    __str__ = __repr__


async def test_received_chunks_are_not_formatted_for_a_log_nobody_reads() -> None:
    chunk = Shown(b"* 1 FETCH (FLAGS (\\Seen))\r\n")
    Shown.times = 0
    stock_client().data_received(chunk)
    assert Shown.times > 0

    Shown.times = 0
    async with ours_asking() as (protocol, command):
        protocol.data_received(chunk)
        assert lines_of(command) == [b"* 1 FETCH (FLAGS (\\Seen))"]
    assert Shown.times == 0


async def test_any_number_of_lines_in_one_read_is_taken() -> None:
    burst = b"".join(b"* %d EXPUNGE\r\n" % number for number in range(5000))
    stock, _ = stock_asking()
    with pytest.raises(RecursionError):
        stock.data_received(burst)

    async with ours_asking() as (protocol, command):
        protocol.data_received(burst + ok(command))
        assert command.done
        assert len(command.responses) == 5000


def calls(work: Callable[[], object]) -> int:
    """How many C functions were called."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


async def test_the_work_for_a_batch_grows_with_its_size_not_with_its_square() -> None:
    def answer(number: int) -> bytes:
        return b"* %d FETCH (UID %d FLAGS () BODY[] {4}\r\nbody)\r\n" % (number, number)

    def stock_calls(count: int) -> int:
        stock, _ = stock_asking("FETCH")
        return calls(lambda: [stock.data_received(answer(number)) for number in range(count)])

    async def our_calls(count: int) -> int:
        async with ours_asking("FETCH", "1:*", "(UID BODY.PEEK[])") as (protocol, command):
            made = calls(lambda: [protocol.data_received(answer(number)) for number in range(count)])
            assert len(command.responses) == count
        return made

    assert stock_calls(400) > 3.5 * stock_calls(200)
    assert await our_calls(400) < 2.2 * await our_calls(200)


async def test_an_asterisk_within_a_line_stays() -> None:
    line = b'* LIST () "/" "Star* Wars * 3"'
    stock, stock_list = stock_asking("LIST")
    stock.data_received(line + b"\r\n")
    assert stock_list.response.lines == [b'() "/" "StarWars 3"']

    async with ours_asking() as (protocol, command):
        protocol.data_received(line + b"\r\n")
        assert command.responses == [[line]]


async def test_a_literal_of_no_octets_is_an_empty_body() -> None:
    """The one point here on which 2.0.3 does as ours."""
    answer = b"* 1 FETCH (UID 7 BODY[] {0}\r\n FLAGS ())\r\n"
    stock, stock_command = stock_asking("FETCH")
    stock.data_received(answer + ok(stock_command))
    assert bytearray() in stock_command.response.lines

    async with ours_asking("FETCH", "7", "(BODY.PEEK[])") as (protocol, command):
        protocol.data_received(answer + ok(command))
        assert command.responses == [[b"* 1 FETCH (UID 7 BODY[] {0}", b"", b" FLAGS ())"]]
        assert parse_fetch(command.responses[0]).body == b""


def _set(event: asyncio.Event, _reason: Exception | None) -> None:
    event.set()


async def test_a_lost_connection_wakes_the_command_under_way() -> None:
    for name in ("NOOP", "IDLE"):
        stock, gone = stock_client(), asyncio.Event()
        peer = await wired(stock)
        stock.state, stock.capabilities, stock.conn_lost_cb = "SELECTED", {"IDLE"}, partial(_set, gone)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(stock.idle() if name == "IDLE" else stock.simple_command("NOOP"))
            await settle()
            peer.close()
            await gone.wait()
            await settle()
            assert not waiting.done()
            waiting.cancel()

        protocol, peer = await our_client()
        async with asyncio.TaskGroup() as tasks:
            link = Link(protocol, "here", 30)
            ours = tasks.create_task(outcome(link.run(Asked(name, protocol.new_tag()))))
            await settle()
            peer.close()
        assert type(ours.result()) is ConnectionLost


async def outcome(work: Any) -> MailServerError | None:
    """What a command ended with."""
    try:
        await work
    except MailServerError as error:
        return error
    return None


async def test_exists_in_the_middle_of_another_answer_is_not_lost() -> None:
    for name in ("SEARCH", "FETCH"):
        stock, command = stock_asking(name)
        stock.data_received(b"* 5 EXISTS\r\n* SEARCH 1\r\n" + ok(command))
        assert not any(b"EXISTS" in line for line in command.response.lines)
        assert stock.idle_queue.empty()

        async with ours_asking(name) as (protocol, asked):
            protocol.data_received(b"* 5 EXISTS\r\n* SEARCH 1\r\n" + ok(asked))
            assert (protocol.pushes, protocol.arrivals, protocol.exists) == (1, 5, 5)


async def test_an_unknown_tag_ends_the_connection_and_raises_nothing_into_the_loop() -> None:
    for late in (b"ZZ99 OK late\r\n", b"ZZ99 NO\r\n", b"nonsense\r\n"):
        async with ours_asking() as (protocol, command):
            protocol.data_received(late)
            assert isinstance(command.failure, ProtocolError)
            assert protocol.transport.is_closing()
    stock, _ = stock_asking()
    with pytest.raises(aioimaplib.Abort):
        stock.data_received(b"ZZ99 OK late\r\n")


async def test_a_brace_at_the_end_of_a_status_text_is_not_a_literal() -> None:
    for text in (b"* NO quota {300}\r\n", b"* OK [ALERT] read {300}\r\n"):
        stock, stock_command = stock_asking()
        stock.data_received(text + ok(stock_command))
        assert stock.pending_async_commands, "the answer was eaten as the literal"

        async with ours_asking() as (protocol, command):
            protocol.data_received(text + ok(command))
            assert command.done
    async with ours_asking() as (protocol, command):
        protocol.data_received(f"{command.tag} NO no such mailbox {{3}}\r\n".encode())
        assert (command.result, command.words) == ("NO", "no such mailbox {3}")


async def test_a_parenthesis_in_a_quoted_string_does_not_swallow_the_next_message() -> None:
    answers = b'* 1 FETCH (UID 1 X ":(")\r\n* 2 FETCH (UID 2 X "b")\r\n'
    stock, stock_command = stock_asking("FETCH")
    stock.data_received(answers + ok(stock_command))
    assert stock_command.response.lines[1] == b'* 2 FETCH (UID 2 X "b")', "taken for a part of the first answer"

    async with ours_asking("FETCH", "1:2", "(UID X)") as (protocol, command):
        protocol.data_received(answers + ok(command))
        assert [parse_fetch(response).uid for response in command.responses] == [1, 2]


async def test_a_line_without_end_is_cut_off() -> None:
    stock = stock_client()
    for _ in range(64):
        stock.data_received(b"* " + b"x" * READ_BYTES)
    assert len(stock.incomplete_line) > 64 * READ_BYTES

    async with ours_asking() as (protocol, command):
        for _ in range(5):
            protocol.data_received(b"* " + b"x" * READ_BYTES)
        assert isinstance(command.failure, ProtocolError)


async def test_octets_that_are_no_text_do_not_end_the_connection() -> None:
    stock, _ = stock_asking()
    with pytest.raises(UnicodeDecodeError):
        stock.data_received(b"* \xff\xfe odd\r\n")

    async with ours_asking() as (protocol, command):
        protocol.data_received(b"* \xff\xfe odd\r\n" + ok(command))
        assert command.done
        assert protocol.failure is None
