"""The reader under made-up streams: where they are cut changes nothing; what it keeps and does for them is bounded."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inboxd.errors import ConnectionLost, ProtocolError
from inboxd.imap import asked as asked_module
from inboxd.imap import protocol as protocol_module
from inboxd.imap import sasl
from inboxd.imap.asked import Asked
from inboxd.imap.idling import Idle
from inboxd.imap.lines import Part, Skipped
from inboxd.imap.protocol import Protocol
from inboxd.imap.stream import Fetch
from inboxd.mails import Fetched
from inboxd.model import Secret
from servers.sessions import wired

LITERAL_BYTES: Final = 1 << 20
IN_PLACE: Final = bytes(range(256)) * 400  # long enough to be received in place
SECRET: Final = Secret("p")


def _idle(protocol: Protocol) -> Asked:
    return Idle(protocol)


COMMANDS: Final[Mapping[str, tuple[str, Callable[[Protocol], Asked]]]] = {
    "NOOP": ("SELECTED", lambda p: Asked("NOOP", p.new_tag())),
    "SEARCH": ("SELECTED", lambda p: Asked("SEARCH", p.new_tag(), "ALL", prefix="UID")),
    "FETCH": ("SELECTED", lambda p: Fetch(p, "1:5", 1 << 14)),
    "IDLE": ("SELECTED", _idle),
    "STARTTLS": ("NONAUTH", lambda p: Asked("STARTTLS", p.new_tag())),
    "LOGIN": ("NONAUTH", lambda p: sasl.command("LOGIN", p.new_tag(), "ö", SECRET, initial_response=False)[0]),
    "CRAM-MD5": ("NONAUTH", lambda p: sasl.command("CRAM-MD5", p.new_tag(), "u", SECRET, initial_response=False)[0]),
    "PLAIN": ("NONAUTH", lambda p: sasl.command("PLAIN", p.new_tag(), "u", SECRET, initial_response=False)[0]),
}
NOBODY: Final = "nobody"
TAG: Final = b"TAG0"


@asynccontextmanager
async def reading(name: str, trace: list[str] | None = None) -> AsyncGenerator[tuple[Protocol, Asked | None]]:
    """A protocol on a real transport with a command sent, always under the same tag; or, for NOBODY, with none."""
    protocol = Protocol(trace.append if trace is not None else None, 0)
    protocol.tagpre = "TAG"
    with await wired(protocol):
        command = None
        if name != NOBODY:
            state, make = COMMANDS[name]
            protocol.greeting, protocol.state = b"OK", state
            command = make(protocol)
            protocol.begin(command)
        try:
            yield protocol, command
        finally:
            protocol.abort(ConnectionLost("closed", "the test is over"))
            await asyncio.sleep(0)


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


FEEDS: Final = (feed_data, feed_buffer)
Feed = Callable[[Protocol, bytes], None]


def pieces(octets: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`octets` cut at the given places."""
    places = [0, *sorted({min(cut, len(octets)) for cut in cuts}), len(octets)]
    return [octets[a:b] for a, b in pairwise(places) if a < b]


def plain(response: list[Part]) -> list[bytes | Skipped]:
    """A response with its literals as they would be written."""
    return [part if isinstance(part, Skipped) else bytes(part) for part in response]


# --- valid streams ---------------------------------------------------------------------------------------------------

BEGINNINGS = st.sampled_from(
    [b"* 1 FETCH (X ", b'* LIST () "/" ', b"* X-ODD ", b"* SEARCH 1 2 ", b"* 7 FETCH (UID 3 BODY[] ", b"* ", b"* OKAY "]
)
TEXTS = st.lists(
    st.sampled_from(
        [b'"a \\" {3}"', b'":("', b"{3} ", b"{3}x", b"{}", b"{+}", b"}", b"((((", b")))", b"\0", b"\xff\xfe", b"\r",
         b" ", b"NIL", b"9" * 40, b'"', b"\\", b"+ ", b"* ", b"TAG0 OK ", b"~{1", b"\x80"]
    ),
    max_size=6,
).map(b"".join)  # fmt: skip
ENDS = st.sampled_from([b")", b'"{5}"', b"{+}", b"{5} ", b"{5}}x", b"\0", b"{-1}", b"{99999999999999999999999}", b"."])
NEWLINES = st.sampled_from([b"\r\n", b"\n"])
LITERALS = st.one_of(
    st.just(b""),
    st.binary(max_size=40),
    st.sampled_from(
        [b"\r\n", b"TAG0 OK done\r\n", b")\r\n* 1 EXISTS\r\n", b"* BYE\r\n", b"+ x\r\n", b"{9}\r\n", IN_PLACE]
    ),
)
MARKS = st.sampled_from([b"{%d}", b"{%d+}", b"~{%d}", b"{000%d}"])
STATUSES = st.sampled_from([b"* OK done {3}", b"* NO [ALERT] quota {5}", b"* BAD {0}", b"* ok {3+}", b"* PREAUTH {1}"])


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A response on the wire, and the lines and literals it consists of."""
    newline = draw(NEWLINES)
    if draw(st.integers(0, 4)) == 0:
        status = draw(STATUSES)
        return status + newline, [status]
    line = draw(BEGINNINGS)
    wire, parts = b"", list[bytes]()
    for literal in draw(st.lists(LITERALS, max_size=3)):
        line += draw(TEXTS) + draw(MARKS) % len(literal)
        wire += line + newline + literal
        parts += [line, literal]
        line = b""
    line += draw(TEXTS) + draw(ENDS)
    return wire + line + newline, [*parts, line]


async def collected(octets: bytes, cuts: Iterable[int], feed: Feed) -> list[list[bytes | Skipped]]:
    """What a command collects of valid responses."""
    async with reading("NOOP") as (protocol, command):
        assert command is not None
        for piece in pieces(octets + TAG + b" OK done\r\n", cuts):
            feed(protocol, piece)
        assert protocol.failure is None
        assert command.done
        return [plain(response) for response in command.responses]


@given(
    st.lists(responses(), max_size=6),
    st.lists(st.integers(0, 3000), max_size=10),
    st.sampled_from(FEEDS),
)
@settings(max_examples=300, deadline=None)
def test_cuts_of_valid_responses_give_their_lines_and_literals(
    made: list[tuple[bytes, list[bytes]]], cuts: list[int], feed: Feed
) -> None:
    octets = b"".join(wire for wire, _ in made)
    expected = [parts for _, parts in made]

    async def scenario() -> None:
        assert await collected(octets, cuts, feed) == expected
        if len(octets) < 2000:
            assert await collected(octets, range(len(octets) + 20), feed) == expected
        else:
            assert await collected(octets, [len(octets) - cut for cut in cuts], feed) == expected

    asyncio.run(scenario())


# --- any stream ------------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b" ", b"* ", b"*", b"+ ", b"+\r\n", b"* BYE ", b"* OK ", b"* NO ", b"[ALERT] ", b"1 ",
        b"FETCH (", b"UID 3 ", b"BODY[] ", b"NIL", b"{0}\r\n", b"{3}\r\n", b"{4+}\r\n", b"~{2}\r\n", b"{70000}\r\n",
        b"{2000000}\r\n", b"{99999999999999}\r\n", b"{99999999999999999999}\r\n", b"(", b")", b'"', b"\\", b'\\"',
        b"SEARCH ", b"ESEARCH ", b"ALL ", b"* SEARCH 1 2", b"* 3 EXISTS\r\n", b"* 4294967296 EXISTS\r\n",
        b"\0", b"EXPUNGE\r\n", b"9" * 300, b"\xff", TAG + b" OK ",
        TAG + b" NO ", TAG + b" BAD\r\n", TAG + b" ", b"ZZ9 OK\r\n", b"+ !!!!\r\n",
        b"+ YQ==\r\n", b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n", b"* 1 FETCH (UID 9 FLAGS (\\Seen) BODY[] \"x\")\r\n",
        b"* 2 FETCH (FLAGS ())\r\n", b"* OK [ALERT] look\r\n", b"FLAGS (" + b"a " * 100 + b")",
    ]
)  # fmt: skip
STREAMS = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=8)), max_size=25).map(b"".join)
MAILS: Final = b"".join(
    b'* %d FETCH (UID %d FLAGS (\\Seen) INTERNALDATE "04-May-2026 08:30:00 +0000" RFC822.SIZE %d BODY[] {%d}\r\n%b)\r\n'
    % (uid, uid, len(body), len(body), body)
    for uid, body in enumerate((b"", b")\r\n* 1 EXISTS\r\n", b"abc", b"{3}\r\n"), 1)
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Mails as a server hands them over, with a few octets changed, left out or put in."""
    octets = bytearray(MAILS)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"9", b")", b"\r\n", b" ", b'"', b"{2}", b"\0"])
        )
    return bytes(octets)


ANYBODY = st.sampled_from([NOBODY, *COMMANDS])
LIMITS: Final = {
    "_LINE_BYTES": 1024,
    "_LIST_LINE_BYTES": 4096,
    "_PARTS": 64,
    "_LITERAL_ALWAYS_BYTES": 4096,
    "_ALERTS": 4,
}
ANSWER_BYTES: Final = 16_384


@pytest.fixture(scope="module")
def low_limits() -> Any:
    """The reader's limits lowered, so that a short stream reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIMITS.items():
            patch.setattr(protocol_module, name, value)
        for module in (asked_module, protocol_module):
            patch.setattr(module, "ANSWER_BYTES", ANSWER_BYTES)
        yield


async def outcome(name: str, octets: bytes, cuts: Iterable[int], feed: Feed) -> tuple[object, ...]:
    """All that can be seen of a reader that was fed."""
    trace: list[str] = []
    async with reading(name, trace) as (protocol, command):
        for piece in pieces(octets, cuts):
            feed(protocol, piece)
        heard = [plain(response) for response in command.responses] if command is not None else []
        queue = list(command.queue) if isinstance(command, Fetch) else []
        ended = (command.done, command.result, command.words, repr(command.failure)) if command is not None else ()
        return (
            heard, queue, ended, protocol.greeting, protocol.pushes, protocol.arrivals, protocol.exists,
            protocol.disturbed, protocol.alerts, repr(protocol.bye), repr(protocol.failure), trace,
        )  # fmt: skip


@given(ANYBODY, st.one_of(STREAMS, damaged()), st.lists(st.integers(0, 400), max_size=10), st.integers(1, 3))
@example("NOOP", b"* " + b"x" * 1100 + b"\r\n", [1090], 1)
@example("NOOP", b"* 1 FETCH (X {1}\r\nx" + b"y" * 1010 + b"\r\n", [], 1)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("low_limits")
def test_cuts_of_any_stream_change_nothing_that_can_be_seen(
    name: str, octets: bytes, cuts: list[int], repeated: int
) -> None:
    octets *= repeated

    async def scenario() -> None:
        whole = await outcome(name, octets, [], feed_data)
        assert await outcome(name, octets, cuts, feed_buffer) == whole
        assert await outcome(name, octets, range(len(octets)), feed_data) == whole
        assert await outcome(name, octets, range(0, len(octets), 7), feed_buffer) == whole

    asyncio.run(scenario())


# --- bounds ----------------------------------------------------------------------------------------------------------

OBJECT_BYTES: Final = 50  # what holding a few octets takes beside them
# A line, a response with its literals, the alerts and the greeting; and beside them what the command keeps.
READER_BYTES: Final = 4096 + 1024 + 2 * 4096 + 6 * 600 + 100 * OBJECT_BYTES
COMMAND_BYTES: Final[Mapping[str, int]] = {"FETCH": (1 << 14) + 65_536, NOBODY: 0, "IDLE": 0}


def kept(thing: object) -> int:
    """Octets and elements held, whatever the attribute is called."""
    if isinstance(thing, bytes | bytearray | str):
        return OBJECT_BYTES + len(thing)
    if isinstance(thing, list | tuple | deque | set | frozenset):
        return sum(8 + kept(each) for each in cast("Iterable[object]", thing))
    if isinstance(thing, dict):
        return sum(8 + kept(each) for each in cast("Mapping[object, object]", thing).values())
    if isinstance(thing, Fetched):
        return len(thing.raw) + kept(thing.flags)
    if isinstance(thing, Protocol | Asked):
        return sum(kept(value) for name, value in vars(thing).items() if name not in ("_protocol", "trace"))
    return 0


@given(ANYBODY, STREAMS, st.integers(1, 700))
@example("FETCH", b"* 1 FETCH (UID 1 FLAGS (" + b"a " * 400 + b") BODY[] {0}\r\n)\r\n", 700)
@example(NOBODY, b"* 1 FETCH (X " + (b"y" * 1000 + b" {0}\r\n") * 30 + b"\r\n", 500)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("low_limits")
def test_what_is_kept_of_an_endless_stream_is_bounded(name: str, unit: bytes, size: int) -> None:
    stream = unit * (1 + 100_000 // max(1, len(unit))) if unit else b""

    async def scenario() -> None:
        async with reading(name) as (protocol, command):
            for number, piece in enumerate(pieces(stream, range(0, len(stream), size))):
                feed_data(protocol, piece)
                if number * size % 5000 < size:
                    assert kept(protocol) <= READER_BYTES + COMMAND_BYTES.get(name, ANSWER_BYTES)
                if isinstance(command, Fetch) and not protocol.transport.is_reading() and protocol.failure is None:
                    command.drain(1 << 30, 1 << 30)

    asyncio.run(scenario())


ENDLESS: Final = {
    "nothing": b"\r\n",
    "EXISTS": b"* 1 EXISTS\r\n",
    "EXISTS up and down": b"* 4294967295 EXISTS\r\n* 0 EXISTS\r\n",
    "flags": b"* 1 FETCH (FLAGS (\\Seen))\r\n",
    "mails never asked": b"* 1 FETCH (UID 77 BODY[] {3}\r\nabc)\r\n",
    "one mail again": b"* 1 FETCH (UID 1 BODY[] {0}\r\n)\r\n",
    "continuations": b"+ \r\n",
    "challenges": b"+ YQ==\r\n",
    "alerts": b"* OK [ALERT] look here\r\n",
    "odd words": b"* \xff\0\r\n",
    "octets": b"x",
    "a response": b"* 1 FETCH (X {1}\r\nx ",
    "a list": b"* SEARCH ",
    "other tags": b"ZZ9 OK\r\n",
    "huge literal": b"* 1 FETCH (X {99999999999999}\r\n",
    "large literals": b"* 1 FETCH (UID 1 BODY[] {5000}\r\n" + bytes(5000) + b")\r\n",
}


@pytest.mark.parametrize("name", [NOBODY, *COMMANDS])
@pytest.mark.parametrize("unit", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.usefixtures("low_limits")
async def test_a_stream_without_end_is_ended_by_us(unit: bytes, name: str) -> None:
    async with reading(name) as (protocol, command):
        for _ in range(20_000):
            feed_data(protocol, unit)
            if protocol.failure is not None:
                break
            if isinstance(command, Fetch) and not protocol.transport.is_reading():
                command.drain(1 << 30, 1 << 30)
        assert isinstance(protocol.failure, ProtocolError)
        assert protocol.transport.is_closing()


def work(job: Callable[[], object]) -> int:
    """How much was done: calls made, and the octets of whatever they were methods of."""
    done = 0

    def note(_frame: object, event: str, argument: object) -> None:
        nonlocal done
        if event in ("call", "c_call"):
            done += 1
            subject = getattr(argument, "__self__", None)
            if isinstance(subject, bytes | bytearray):
                done += len(subject)

    sys.setprofile(note)
    try:
        job()
    finally:
        sys.setprofile(None)
    return done


@given(ANYBODY, STREAMS, st.integers(1, 50), st.sampled_from(FEEDS))
@example("NOOP", b"x", 1, feed_data)
@example("NOOP", b"* 1 FETCH (X " + b"{1}\r\nx" * 200 + b"\r\n", 50, feed_data)
@settings(max_examples=100, deadline=None)
def test_the_work_grows_no_faster_than_the_stream(name: str, unit: bytes, size: int, feed: Feed) -> None:
    once = unit * (1 + 3000 // max(1, len(unit))) if unit else b""

    async def done(stream: bytes) -> int:
        async with reading(name) as (protocol, _):
            cut = pieces(stream, range(0, len(stream), size))
            return work(lambda: [feed(protocol, piece) for piece in cut])

    async def scenario() -> None:
        assert await done(once * 2) <= 2.3 * await done(once) + 2000

    asyncio.run(scenario())
