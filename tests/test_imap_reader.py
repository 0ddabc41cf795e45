"""Octets to responses: any cut gives the same, nothing a server sends raises into the loop, everything is bounded."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inboxd.errors import ConnectionLost, InboxdError, ProtocolError, ServerSaidBye, Stalled
from inboxd.imap import sasl
from inboxd.imap.asked import Asked
from inboxd.imap.lines import Part, Skipped
from inboxd.imap.link import Link
from inboxd.imap.protocol import Protocol
from inboxd.imap.stream import Fetch
from inboxd.model import Secret
from servers.sessions import BOTH_LOOPS, wired

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MEBIBYTE = 1 << 20
LARGE = bytes(range(256)) * 600  # longer than what is received in place


@asynccontextmanager
async def asking(name: str = "NOOP", state: str = "SELECTED", literal_bytes: int = 0) -> AsyncGenerator[Protocol]:
    """A protocol on a real transport, with a command sent."""
    protocol = Protocol(None, literal_bytes)
    with await wired(protocol):
        protocol.greeting, protocol.state = b"OK", state
        protocol.begin(COMMANDS[name](protocol))
        try:
            yield protocol
        finally:
            protocol.abort(ConnectionLost("closed", "the test is over"))
            await asyncio.sleep(0)


COMMANDS: dict[str, Callable[[Protocol], Asked]] = {
    "NOOP": lambda p: Asked("NOOP", p.new_tag()),
    "IDLE": lambda p: Asked("IDLE", p.new_tag()),
    "SEARCH": lambda p: Asked("SEARCH", p.new_tag(), "ALL", prefix="UID"),
    "FETCH": lambda p: Fetch(p, "1:*", 1 << 16),
    "LOGIN": lambda p: sasl.command("LOGIN", p.new_tag(), "jörg", Secret("p"), initial_response=False)[0],
    "CRAM-MD5": lambda p: sasl.command("CRAM-MD5", p.new_tag(), "u", Secret("p"), initial_response=False)[0],
    "PLAIN": lambda p: sasl.command("PLAIN", p.new_tag(), "u", Secret("p"), initial_response=False)[0],
    "STARTTLS": lambda p: Asked("STARTTLS", p.new_tag()),
}
STATES = {"LOGIN": "NONAUTH", "CRAM-MD5": "NONAUTH", "PLAIN": "NONAUTH", "STARTTLS": "NONAUTH"}


def feed_data(protocol: Protocol, octets: bytes) -> None:
    """As uvloop hands over what it read."""
    protocol.data_received(octets)


def feed_buffer(protocol: Protocol, octets: bytes) -> None:
    """As asyncio does: into the buffer we offer, as much as fits."""
    while octets:
        buffer = protocol.get_buffer(-1)
        count = min(len(buffer), len(octets))
        buffer[:count] = octets[:count]
        protocol.buffer_updated(count)
        octets = octets[count:]


def pieces(octets: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`octets` cut at the given places."""
    places = [0, *sorted({min(cut, len(octets)) for cut in cuts}), len(octets)]
    return [octets[a:b] for a, b in pairwise(places) if a < b]


TRANSCRIPT = (
    b"* OK still here {3}\r\n"
    b"* 1 FETCH (UID 1 BODY[] {0}\r\n)\r\n"
    b"* 2 FETCH (UID 2 BODY[] {5}\r\n* 9 \r FLAGS () X {2}\r\n\r\n)\r\n"
    b"* 3 FETCH (UID 3 BODY[] {%d}\r\n%b)\r\n" % (len(LARGE), LARGE) + b"* 4 FETCH (UID 4 BODY[] ~{3}\r\n\r\n\0 )\r\n"
    b"* 5 EXISTS\n"
    b"* \xff\xfe\r\n"
    b"\r\n"
    b'* 6 FETCH (UID 6 BODY[] "a\rb")\r\n'
)
RESPONSES: list[list[Part]] = [
    [b"* OK still here {3}"],
    [b"* 1 FETCH (UID 1 BODY[] {0}", b"", b")"],
    [b"* 2 FETCH (UID 2 BODY[] {5}", b"* 9 \r", b" FLAGS () X {2}", b"\r\n", b")"],
    [b"* 3 FETCH (UID 3 BODY[] {%d}" % len(LARGE), LARGE, b")"],
    [b"* 4 FETCH (UID 4 BODY[] ~{3}", b"\r\n\0", b" )"],
    [b"* 5 EXISTS"],
    [b"* \xff\xfe"],
    [b'* 6 FETCH (UID 6 BODY[] "a\rb")'],
]


async def read(cuts: Iterable[int], feed: Callable[[Protocol, bytes], None]) -> list[list[Part]]:
    """What a command collects of the transcript."""
    async with asking() as protocol:
        command = protocol.pending
        assert command is not None
        for piece in pieces(TRANSCRIPT + f"{command.tag} OK done\r\n".encode(), cuts):
            feed(protocol, piece)
        assert command.done
        assert protocol.failure is None
        assert protocol.patience.received_bytes == len(TRANSCRIPT) + len(f"{command.tag} OK done\r\n")
        return command.responses


@pytest.mark.parametrize("feed", [feed_data, feed_buffer])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 65_536, 1 << 20])
async def test_pieces_of_any_size_give_the_same_responses(size: int, feed: Callable[[Protocol, bytes], None]) -> None:
    assert await read(range(size, len(TRANSCRIPT) + 100, size), feed) == RESPONSES


@given(st.lists(st.integers(0, len(TRANSCRIPT)), max_size=12), st.sampled_from([feed_data, feed_buffer]))
@settings(max_examples=60, deadline=None)
def test_cuts_anywhere_give_the_same_responses(cuts: list[int], feed: Callable[[Protocol, bytes], None]) -> None:
    assert asyncio.run(read(cuts, feed)) == RESPONSES


FRAGMENTS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b" ", b"* ", b"+ ", b"+", b"* BYE ", b"* OK ", b"* NO ", b"[ALERT] ", b"1 ", b"FETCH (",
        b"UID ", b"BODY[] ", b"NIL", b"{0}\r\n", b"{3}\r\n", b"{99999999999999999999}\r\n", b"(", b")", b'"', b"\\",
        b"SEARCH ", b"ESEARCH ", b"ALL ", b"* SEARCH 1 2", b"EXISTS\r\n", b"EXPUNGE\r\n", b"4294967296 ", b"9" * 5000,
        b"\xff", b"\0", b"TAG OK ", b"TAG NO ", b"TAG BAD\r\n", b"TAG ", b"A1 OK\r\n", b"+ !!!!\r\n", b"+ YQ==\r\n",
    ]
)  # fmt: skip


@given(st.sampled_from(sorted(COMMANDS)), st.lists(st.one_of(FRAGMENTS, st.binary(max_size=20)), max_size=30))
@example("CRAM-MD5", [b"+ !!!!\r\n"])
@example("CRAM-MD5", [b"+ a\r\n"])
@example("SEARCH", [b"* SEARCH ", b"9" * 5000, b"\r\n"])
@example("FETCH", [b"* 1 FETCH (UID ", b"9" * 5000, b")\r\n"])
@example("STARTTLS", [b"TAG OK ", b"\r\n", b"x"])
@settings(max_examples=300, deadline=None)
def test_nothing_a_server_sends_raises_into_the_loop(name: str, sent: list[bytes]) -> None:
    async def scenario() -> None:
        async with asking(name, STATES.get(name, "SELECTED")) as protocol:
            command = protocol.pending
            assert command is not None
            for feed in (feed_data, feed_buffer):
                for fragment in sent:
                    feed(protocol, fragment.replace(b"TAG", command.tag.encode()))
            assert protocol.failure is None or isinstance(protocol.failure, InboxdError)
            assert protocol.failure is None or protocol.transport.is_closing()

    asyncio.run(scenario())


@given(st.lists(st.one_of(FRAGMENTS, st.binary(max_size=20)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_nothing_sent_instead_of_a_greeting_raises_into_the_loop(sent: list[bytes]) -> None:
    async def scenario() -> None:
        protocol = Protocol(None, 0)
        with await wired(protocol):
            for fragment in sent:
                protocol.data_received(fragment)
            protocol.abort(ConnectionLost("closed", "the test is over"))
            await asyncio.sleep(0)

    asyncio.run(scenario())


async def test_a_challenge_that_is_no_base64_is_a_protocol_error() -> None:
    async with asking("CRAM-MD5", "NONAUTH") as protocol:
        protocol.data_received(b"+ not base64!\r\n")
        assert isinstance(protocol.failure, ProtocolError)


async def test_cram_md5_answers_as_the_rfc_shows() -> None:
    command, _ = sasl.command("CRAM-MD5", "A1", "tim", Secret("tanstaaftanstaaf"), initial_response=False)
    challenge = b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    assert command.proceed(challenge) == b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
    assert command.proceed(base64.b64encode(b"one more")) == b"*"


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_a_literal_over_the_limit_is_read_and_dropped() -> None:
    async with asking(literal_bytes=MEBIBYTE) as protocol:
        command = protocol.pending
        assert command is not None
        for feed in (feed_data, feed_buffer):
            feed(protocol, b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % (MEBIBYTE + 1))
            feed(protocol, b"x" * (MEBIBYTE + 1) + b")\r\n")
        line = b"* 1 FETCH (UID 1 BODY[] {%d}" % (MEBIBYTE + 1)
        assert command.responses == [[line, Skipped(MEBIBYTE + 1), b")"]] * 2


async def test_the_literals_of_one_response_are_bounded_together() -> None:
    async with asking(literal_bytes=MEBIBYTE) as protocol:
        command = protocol.pending
        assert command is not None
        half = MEBIBYTE // 2
        protocol.data_received(b"* 1 FETCH (UID 1 A {%d}\r\n" % half)
        for name in (b"B", b"C"):
            protocol.data_received(b"x" * half + b" %b {%d}\r\n" % (name, half))
        protocol.data_received(b"x" * half + b")\r\n")
        assert [type(part) for part in command.responses[0][1::2]] == [bytes, bytes, Skipped]


async def test_a_response_of_too_many_literals_ends_the_connection() -> None:
    async with asking() as protocol:
        protocol.data_received(b"* 1 FETCH (UID 1 X {1}\r\n" + b"x {1}\r\n" * 1000)
        assert isinstance(protocol.failure, ProtocolError)


async def test_an_answer_without_end_ends_the_connection() -> None:
    response = b"* 1 FETCH (UID 1 X {%d}\r\n%b)\r\n" % (MEBIBYTE, bytes(MEBIBYTE))
    async with asking() as protocol:
        for _ in range(130):
            protocol.data_received(response)
        assert isinstance(protocol.failure, ProtocolError)


async def test_a_search_answer_of_ten_megabytes_on_one_line_is_read() -> None:
    uids = b" ".join(b"%d" % number for number in range(10_000_000, 11_200_000))
    async with asking("SEARCH") as protocol:
        command = protocol.pending
        assert command is not None
        for piece in pieces(b"* SEARCH " + uids + f"\r\n{command.tag} OK\r\n".encode(), range(0, len(uids), 256 << 10)):
            protocol.data_received(piece)
        assert command.done
        assert command.responses == [[b"* SEARCH " + uids]]


async def test_alerts_are_kept_up_to_a_number() -> None:
    async with asking() as protocol:
        protocol.data_received(b"".join(b"* OK [ALERT] %d\r\n" % number for number in range(1000)))
        assert len(protocol.alerts) == 100
        assert protocol.alerts[-1] == "[ALERT] 999"


# --- the watch over silence ------------------------------------------------------------------------------------------


async def test_octets_that_come_while_the_deadline_strikes_do_no_harm() -> None:
    async with asking() as protocol:
        clock = asyncio.get_running_loop()
        raised: list[object] = []
        clock.set_exception_handler(lambda _, context: raised.append(context))
        async with asyncio.timeout(60) as protocol.patience.watch:
            protocol.patience.watch.reschedule(clock.time() - 1)
            clock.call_soon(protocol.data_received, b"* 1 EXISTS\r\n")
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        protocol.patience.watch = None
        assert protocol.pushes == 1
        assert not raised


async def test_a_command_may_follow_a_long_silence() -> None:
    """Its time begins when it is sent, not when the connection did, or when the machine was started."""
    protocol = Protocol(None, 0)
    with await wired(protocol) as peer:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        link = Link(protocol, "here", 0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):  # more than the ten silences one command may take
                await link.until(lambda: False, watched=False)
        command = Asked("NOOP", protocol.new_tag())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(link.run(command))
            await asyncio.sleep(0)
            peer.sendall(f"{command.tag} OK\r\n".encode())
        link.abort()
        await asyncio.sleep(0)


async def test_the_time_a_connection_is_held_is_not_the_servers() -> None:
    protocol = Protocol(None, 0)
    with await wired(protocol) as peer:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        link = Link(protocol, "here", 0.1)
        command = Asked("NOOP", protocol.new_tag())
        protocol.begin(command)
        protocol.hold()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):  # more than the ten silences one command may take
                await link.until(lambda: False, watched=False)
        protocol.go_on()
        peer.sendall(f"* OK working\r\n{command.tag} OK\r\n".encode())
        await link.until(lambda: command.done)
        link.abort()
        await asyncio.sleep(0)


async def test_single_octets_do_not_keep_a_command_alive() -> None:
    protocol = Protocol(None, 0)
    with await wired(protocol) as peer:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        clock = asyncio.get_running_loop()

        async def drip() -> None:
            while not protocol.transport.is_closing():
                peer.send(b"x")
                await asyncio.sleep(0.01)

        began = clock.time()
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip())
            with pytest.raises(Stalled):
                await Link(protocol, "here", 0.05).run(Asked("NOOP", protocol.new_tag()))
            dripping.cancel()
        assert 0.4 < clock.time() - began < 2


async def test_a_bye_ends_the_wait_though_the_server_stays() -> None:
    protocol = Protocol(None, 0)
    with await wired(protocol) as peer:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        peer.sendall(b"* BYE enough\r\n")
        with pytest.raises(ServerSaidBye, match="enough"):
            await Link(protocol, "here", 30).run(Asked("NOOP", protocol.new_tag()))
        await asyncio.sleep(0)


async def test_what_a_server_says_before_its_bye_still_counts() -> None:
    protocol = Protocol(None, 0)
    with await wired(protocol) as peer:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        command = Asked("NOOP", protocol.new_tag())
        peer.sendall(f"* BYE enough\r\n{command.tag} OK\r\n".encode())
        assert (await Link(protocol, "here", 30).run(command)).result == "OK"
        protocol.abort(ConnectionLost("closed", "the test is over"))
        await asyncio.sleep(0)
