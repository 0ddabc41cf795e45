"""Messages that lie whole in what was read are taken at once, and are the same as those read line by line."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from inboxd.errors import ConnectionLost
from inboxd.imap.protocol import Protocol
from inboxd.imap.stream import Fetch
from inboxd.mails import Fetched
from servers.sessions import wired

LABELS = st.lists(
    st.sampled_from(
        [
            b'"\\\\Inbox"',
            b"[Mailbox]",
            b"\\Sent",
            b'"a \\"b\\" (c)"',
            b"R&AOk-ponses",
            b'"{3}"',
            b"&Jjo",
            b'""',
            b"x\x0by",
        ]
    ),
    max_size=4,
).map(b" ".join)
FLAGS = st.lists(st.sampled_from([b"\\Seen", b"$Junk", b"\xffodd", b"\x0b", b"a\xc2\xa0b"]), max_size=3).map(b" ".join)
DATES = st.sampled_from([b"22-Nov-2026 10:00:00 +0130", b" 1-Jan-1970 00:00:00 +0000", b"31-Feb-2020", b""])
LIKE_AN_ANSWER = b")\r\n* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n"
BODIES = st.one_of(st.binary(max_size=40), st.just(LIKE_AN_ANSWER), st.just(b"x" * 3000))
BESIDE = st.sampled_from(
    [b"* 9 EXISTS\r\n", b"* OK [ALERT] x\r\n", b"* 1 FETCH (UID 3 FLAGS ())\r\n", b"* BAD\r\n", b""]
)
ASKED = 5


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers to a FETCH, one more than were asked for at times: items in any order, or missing; others in between."""
    octets = b""
    for number in range(draw(st.integers(1, ASKED + 1))):
        body = draw(BODIES)
        items = [
            b"UID %d" % draw(st.sampled_from([number, number + 1, 5_000_000_000])),
            b"FLAGS (%b)" % draw(FLAGS),
            b'INTERNALDATE "%b"' % draw(DATES),
            b"RFC822.SIZE %d" % len(body),
            b"MODSEQ (77)",
            b"X-GM-LABELS (%b)" % draw(LABELS),
        ]
        chosen = draw(st.permutations(items))[: draw(st.integers(0, len(items)))]
        head = b" ".join([*chosen, b"BODY[] {%d}" % len(body)])
        tail = draw(st.sampled_from([b")", b" FLAGS (late))"]))
        octets += b"* %d FETCH (%b\r\n%b%b\r\n" % (number + 1, head, body, tail) + draw(BESIDE)
    return octets


async def taken(
    octets: bytes, piece_bytes: int, *, labelled: bool = False
) -> tuple[list[Fetched], list[str], list[object]]:
    """The messages, the trace, and what else came of octets in pieces of a size."""
    trace: list[str] = []
    protocol = Protocol(trace.append, 0)
    with await wired(protocol):
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        command = Fetch(protocol, f"1:{ASKED}", 1 << 20, labelled=labelled)
        protocol.begin(command)
        trace.clear()
        for start in range(0, len(octets), piece_bytes):
            protocol.data_received(octets[start : start + piece_bytes])
        beside: list[object] = [protocol.pushes, protocol.alerts, protocol.disturbed, protocol.news.is_set()]
        protocol.abort(ConnectionLost("closed", "the test is over"))
        return list(command.queue), trace, beside


@given(answers(), st.integers(1, 60), st.booleans())
@settings(deadline=None)
def test_a_message_is_the_same_whole_and_in_pieces(octets: bytes, piece_bytes: int, labelled: bool) -> None:
    whole = asyncio.run(taken(octets, len(octets), labelled=labelled))
    assert whole == asyncio.run(taken(octets, piece_bytes, labelled=labelled))
    assert [message.labels for message in whole[0]] == [
        message.labels for message in asyncio.run(taken(octets, len(octets), labelled=not labelled))[0]
    ]


def test_the_usual_form_comes_to_what_it_says() -> None:
    octets = b'* 1 FETCH (UID 3 FLAGS (\\Seen a) INTERNALDATE "22-Nov-2026 10:00:00 +0130" RFC822.SIZE 5 BODY[] {5}\r\n'
    messages, trace, _ = asyncio.run(taken(octets + b"hello)\r\n", 1 << 20))
    (message,) = messages
    assert (message.uid, message.raw, message.size_bytes, message.flags) == (3, b"hello", 5, ("\\Seen", "a"))
    assert str(message.received_at) == "2026-11-22 08:30:00+00:00"
    assert trace == [f"S: {octets.decode().strip()}", "S: )"]


def test_labels_cost_no_detour() -> None:
    octets = b'* 1 FETCH (X-GM-LABELS ("\\\\Inbox" [a] "b \\"c") UID 3 FLAGS () BODY[] {5}\r\nhello)\r\n'

    async def take() -> tuple[int, Fetched]:
        protocol = Protocol(None, 0)
        command = Fetch(protocol, "3", 1 << 20, labelled=True)
        return command.take_whole(octets, 0), command.queue[0]

    taken_bytes, message = asyncio.run(take())
    assert taken_bytes == len(octets)
    assert message.labels == ("Inbox", "[a]", 'b "c')
