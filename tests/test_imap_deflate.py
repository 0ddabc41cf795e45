"""COMPRESS=DEFLATE (RFC 4978): the same mail over fewer bytes, bounded, and only where it pays."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus
from inboxd import sync
from inboxd.errors import ConnectionLost, ProtocolError
from inboxd.imap import deflate
from inboxd.imap.asked import Asked
from inboxd.imap.deflate import Line, packed
from inboxd.imap.protocol import Protocol
from inboxd.imap.stream import Fetch
from inboxd.mails import Fetched
from inboxd.metrics import REGISTRY
from inboxd.model import Tls, Trigger
from inboxd.store.engine import Store
from servers.certs import Certificates
from servers.dovecot import Dovecot
from servers.mailbox import Mailbox, make_bench, serving
from servers.scripted import Conversation, Reply, imap, scripted
from servers.sessions import BOTH_LOOPS, account, account_on, examined, limits, session, take_all, wired

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MEBIBYTE = 1 << 20
ALWAYS = limits(compress="always")
OFFERED = "IMAP4rev1 IDLE AUTH=PLAIN SASL-IR COMPRESS=DEFLATE"
CAPABILITY = f"* CAPABILITY {OFFERED}\r\n".encode()


async def begin(conversation: Conversation, tag: str) -> None:
    """Agree to compress."""
    await conversation.send(f"{tag} OK now\r\n".encode())
    conversation.start_deflate()


def answer(uid: int, body: bytes) -> bytes:
    """A FETCH response as servers write it."""
    return b"* %d FETCH (UID %d FLAGS (\\Seen) BODY[] {%d}\r\n%b)\r\n" % (uid, uid, len(body), body)


# --- a real server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.IMPLICIT], ids=lambda tls: tls.value)
async def test_every_octet_arrives_over_fewer_on_the_wire(dovecot: Dovecot, trusted: Certificates, tls: Tls) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, corpus.messages(60, small=True))
    large = b"Subject: large\r\n\r\n" + b"the same line again\r\n" * 20_000
    trace: list[str] = []
    server = dovecot.tls if tls is Tls.IMPLICIT else dovecot.starttls
    async with examined(account(server, user, tls), ALWAYS, trace.append) as opened:
        await opened.append("INBOX", large, flags=(), date=datetime.now(UTC))
        before = REGISTRY.get_sample_value("inboxd_imap_bytes_total", {"direction": "in"}) or 0
        found = await take_all(opened, "1:*")
        after = REGISTRY.get_sample_value("inboxd_imap_bytes_total", {"direction": "in"}) or 0
        assert list(await opened.search()) == [mail.uid for mail in found]
        await opened.log_out()
    held = await asyncio.to_thread(dovecot.fetch_all, user)
    assert {mail.uid: bytes(mail.raw) for mail in found} == held
    assert large in held.values()
    assert after - before < 0.6 * sum(map(len, held.values())), "what is counted is what the wire carried"
    commands = [line.split()[2] for line in trace if line.startswith("C: ") and len(line.split()) > 2]
    assert commands.index("COMPRESS") > commands.index("AUTHENTICATE"), "nothing is compressed before the login"


# --- the stream, in any pieces ---------------------------------------------------------------------------------------

BODIES = st.lists(st.one_of(st.binary(max_size=60), st.just(b"x" * 70_000)), min_size=1, max_size=5)


async def taken(bodies: list[bytes], level: int, piece_bytes: int, flush_bytes: int) -> list[Fetched]:
    """The messages out of a compressed stream that begins in the same octets as the answer to COMPRESS."""
    protocol = Protocol(None, 0)
    with await wired(protocol) as server:
        protocol.greeting, protocol.state = b"OK", "SELECTED"
        compress = Asked("COMPRESS", protocol.new_tag(), "DEFLATE")
        protocol.begin(compress)
        plain = b"* OK [ALERT] now\r\n" + b"".join(answer(uid, body) for uid, body in enumerate(bodies, 1))
        deflater = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
        octets = f"{compress.tag} OK done\r\n".encode()
        ok_bytes = len(octets)
        octets += deflater.compress(plain[:20]) + deflater.flush(zlib.Z_SYNC_FLUSH)
        protocol.data_received(octets)
        assert compress.done
        assert protocol.alerts == ["[ALERT] now"], "what came with the answer to COMPRESS is compressed, and read"
        command = Fetch(protocol, f"1:{len(bodies)}", 1 << 20)
        protocol.begin(command)
        octets = b""
        for start in range(20, len(plain), flush_bytes):
            octets += deflater.compress(plain[start : start + flush_bytes])
            octets += deflater.flush(zlib.Z_FULL_FLUSH if start % 2 else zlib.Z_SYNC_FLUSH)
        for start in range(0, len(octets), piece_bytes):
            protocol.data_received(octets[start : start + piece_bytes])
        said = zlib.decompressobj(-zlib.MAX_WBITS).decompress(server.recv(65536).split(b"\r\n", 1)[1])
        assert said == f"{command.line}\r\n".encode()
        assert ok_bytes < protocol.patience.received_bytes < ok_bytes + len(octets) + 100
        protocol.abort(ConnectionLost("closed", "the test is over"))
        return list(command.queue)


@given(BODIES, st.sampled_from([0, 1, 9]), st.integers(1, 90_000), st.integers(10, 50_000))
@settings(max_examples=60)
def test_a_compressed_stream_in_any_pieces_is_the_same_mail(
    bodies: list[bytes], level: int, piece_bytes: int, flush_bytes: int
) -> None:
    found = asyncio.run(taken(bodies, level, piece_bytes, max(flush_bytes, sum(map(len, bodies)) // 500)))
    assert [(mail.uid, mail.raw, mail.flags) for mail in found] == [
        (uid, body, ("\\Seen",)) for uid, body in enumerate(bodies, 1)
    ]


def test_what_is_sent_is_one_stream_of_blocks_that_stand_alone() -> None:
    pieces = [b"a1 NOOP\r\n", b"", b"x" * 200_000, bytes(range(256)) * 300, b"a2 NOOP\r\n"]
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(b"".join(map(packed, pieces))) == b"".join(pieces)
    assert len(packed(pieces[0])) < len(pieces[0]) + 16


# --- servers that mean harm ------------------------------------------------------------------------------------------


async def test_a_bomb_is_made_no_faster_than_it_is_taken() -> None:
    """200 MB out of 200 KB: each message whole, few of them at a time, and others have their turn."""
    body = b"y" * (MEBIBYTE - 100)
    count, most, turns = 200, 0, 0

    async def explode(conversation: Conversation, tag: str) -> None:
        deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        octets = b"".join(deflater.compress(answer(uid, body)) for uid in range(1, count + 1))
        octets += deflater.compress(f"{tag} OK done\r\n".encode()) + deflater.flush(zlib.Z_SYNC_FLUSH)
        assert len(octets) < 2 * MEBIBYTE
        await conversation.raw(octets)
        await conversation.closed()

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    replies = {"CAPABILITY": CAPABILITY, "COMPRESS": begin, "UID FETCH": explode}
    within = limits(compress="always", buffer_bytes=2 * MEBIBYTE)
    async with (
        scripted(imap(replies)) as port,
        examined(account_on(port), within) as opened,
        asyncio.TaskGroup() as beside,
    ):
        turning = beside.create_task(turn())
        tracemalloc.start()
        try:
            with opened.fetch(f"1:{count}") as stream:
                uids: list[int] = []
                while batch := await stream.take(MEBIBYTE, 10, 0):
                    assert all(mail.raw == body for mail in batch)
                    uids += [mail.uid for mail in batch]
                    most = max(most, tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
            turning.cancel()
    assert uids == list(range(1, count + 1))
    assert turns > count / 2
    assert most < 20 * MEBIBYTE


ZEROS = packed(bytes(64 * MEBIBYTE))
BROKEN = {
    "a line without end": (ZEROS, "line without end"),
    "literals without end": (
        packed(b"* 1 FETCH (UID 1 BODY[] {99000000}\r\n") + ZEROS + ZEROS[: len(ZEROS) // 2],
        "announced|without end|did not answer|no end",
    ),
    "no deflate stream": (b"\xff" * 100, "stream is broken"),
    "plain text": (b"* OK all is well\r\n" * 50, "stream is broken"),
    "more after the end": (zlib.compressobj(wbits=-15).flush() + b"* OK", "after the end"),
}


@pytest.mark.parametrize("stream", BROKEN)
async def test_a_stream_that_is_none_or_has_no_end_closes_the_connection(stream: str) -> None:
    octets, words = BROKEN[stream]
    closed = asyncio.Event()

    async def attack(conversation: Conversation, _tag: str) -> None:
        try:
            for _ in range(20):
                await conversation.raw(octets)
            await conversation.closed()
        finally:
            closed.set()

    replies: dict[str, Reply | bytes] = {"CAPABILITY": CAPABILITY, "COMPRESS": begin, "EXAMINE": attack}
    async with scripted(imap(replies)) as port, asyncio.timeout(20), session(account_on(port), ALWAYS) as opened:
        with pytest.raises(ProtocolError, match=words):
            await opened.examine("INBOX")
        await closed.wait()


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "compress", "asked"),
    [
        (b"NO [COMPRESSIONACTIVE] DEFLATE active via TLS", "always", 1),
        (b"BAD unknown command", "always", 1),
        (b"NO later", "never", 0),
        (b"NO later", "auto", 0),
    ],
)
async def test_a_refusal_is_harmless_and_a_setting_is_kept(said: bytes, compress: str, asked: int) -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(tag.encode() + b" " + said + b"\r\n")

    async with serving(1, 2, capabilities=OFFERED, answers={"COMPRESS": refuse}) as (mailbox, port):
        async with examined(account_on(port), limits(compress=compress)) as opened:
            await opened.compress() if asked else None
            assert len(await take_all(opened, "1:*")) == 2
            await opened.suit_line()
        assert mailbox.count("COMPRESS") == asked


async def test_nothing_is_asked_of_a_server_that_offers_nothing() -> None:
    async with serving(1) as (mailbox, port), examined(account_on(port), ALWAYS) as opened:
        assert len(await take_all(opened, "1:*")) == 1
        assert mailbox.count("COMPRESS") == 0


@pytest.mark.parametrize(
    ("round_trip", "answers", "slow"),
    [
        (0.04, [(500_000, 0.6), (500_000, 0.6)], True),
        (0.04, [(500_000, 0.6)], False),  # not sure yet
        (0.04, [(100, 0.041)] * 1000, False),  # single mails: their time is the way
        (0.04, [(30_000_000, 1.2)], False),  # far, and fast
        (0.001, [(500_000, 1.2)] * 9, False),  # near: it is the server that is slow
    ],
)
def test_it_pays_on_a_slow_line_alone(round_trip: float, answers: list[tuple[int, float]], slow: bool) -> None:
    line = Line(round_trip)
    for count, seconds in answers:
        line.note(count, seconds)
    assert line.is_slow is slow


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


@pytest.mark.parametrize("slow", [True, False])
async def test_a_first_load_is_compressed_where_its_beginning_was_slow(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slow: bool
) -> None:
    if slow:
        monkeypatch.setattr(deflate.Line, "is_slow", True)
    linked_to = await make_bench(store, tmp_path)
    mailbox = Mailbox(capabilities=OFFERED, answers={"COMPRESS": begin})
    mailbox.put(*range(1, 301))
    async with scripted(mailbox.script) as port:
        linked = await linked_to.link(port)
        async with session(linked.account) as opened:
            run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
            await sync.catch_up(run)
    assert mailbox.count("COMPRESS") == slow
    assert await linked.stored() == mailbox.held


async def test_single_mails_leave_a_connection_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deflate.Line, "is_slow", True)
    linked_to = await make_bench(store, tmp_path)
    async with serving(capabilities=OFFERED, answers={"COMPRESS": begin}) as (mailbox, port):
        linked = await linked_to.link(port)
        async with session(linked.account) as opened:
            run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
            await sync.catch_up(run)
            for uid in (1, 2, 3):
                mailbox.put(uid)
                await opened.rest(0.01, opened.pushes)
                await sync.take_pushed(run)
                await sync.catch_up(run.again(Trigger.POLL, None))
        assert mailbox.count("COMPRESS") == 0
        assert await linked.stored() == mailbox.held
