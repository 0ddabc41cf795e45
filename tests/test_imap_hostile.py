"""Servers that mean harm, through whole sessions: a clear error, a closed connection, a bounded cost."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from inboxd import sync
from inboxd.errors import MailServerError, ProtocolError, Stalled
from inboxd.imap import asked as asked_module
from inboxd.imap import protocol as protocol_module
from inboxd.model import State, Tls, Trigger
from inboxd.sections import ImapSettings
from inboxd.store.engine import Store
from servers.certs import Certificates
from servers.mailbox import Bench, make_bench, serving
from servers.scripted import Conversation, Script, imap, scripted
from servers.sessions import BOTH_LOOPS, LIMITS, account_on, eventually, examined, limits, session, take_all
from servers.stores import blank_sqlite

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
MEBIBYTE: Final = 1 << 20

# What a server says first, and what it then repeats for as long as we listen.
ATTACKS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "a line without end": (b"* OK ", b"x" * 65_536),
    "a list without end": (b"* SEARCH", b" 4294967295" * 6000),
    "a literal larger than can be": (b"* 1 FETCH (UID 1 BODY[] {99999999999999}\r\n", b"x" * 65_536),
    "literals too large to keep": (b"", b"* 1 FETCH (UID 1 BODY[] {1500000}\r\n" + bytes(1_500_000) + b")\r\n"),
    "a response without end": (b"* 1 FETCH (", b"X {3}\r\nabc " * 3000),
    "lines within a response": (b"* 1 FETCH (", b"X" * 65_536 + b" {3}\r\nabc "),
    "a million answers": (b"", b"* OK still here\r\n" * 4000),
    "mail announced": (b"", b"* 1 EXISTS\r\n" * 5000),
    "a mailbox that breathes": (b"", b"* 4294967295 EXISTS\r\n* 0 EXISTS\r\n" * 2000),
    "numbers out of all bounds": (b"", b"* 99999999999999999999 EXISTS\r\n* 4294967296 EXPUNGE\r\n" * 2000),
    "flags": (b"", b"* 1 FETCH (FLAGS (\\Seen))\r\n" * 3000),
    "mails never asked for": (b"", b"* 7 FETCH (UID 777 BODY[] {3}\r\nabc)\r\n" * 2000),
    "one mail again and again": (b"", b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n" * 2000),
    "deep parentheses": (b"", b"* 1 FETCH (UID 1 X " + b"(" * 100_000 + b"\r\n"),
    "open quotes": (b"", b"* 1 FETCH (UID 1 X " + b'"\\' * 50_000 + b"\r\n"),
    "continuations": (b"", b"+ go on\r\n" * 5000),
    "challenges": (b"", b"+ YQ==\r\n" * 5000),
    "empty lines": (b"", b"\r\n" * 20_000),
    "alerts": (b"", b"* OK [ALERT] look here\r\n" * 3000),
    "an answer to nothing": (b"ZZ99 OK done\r\n", b"* OK still here\r\n" * 4000),
    "noise": (b"", bytes(range(256)) * 256),
}
STAGES: Final = ("greeting", "AUTHENTICATE", "UID SEARCH", "UID FETCH", "IDLE", "NOOP", "LOGOUT")
OFFERED: Final = b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN\r\n"


@contextmanager
def low_limits() -> Generator[None]:
    """The reader's limits for the amount of things lowered to what is quickly sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol_module, "_LIST_LINE_BYTES", MEBIBYTE)
        for module in (asked_module, protocol_module):
            patch.setattr(module, "ANSWER_BYTES", MEBIBYTE)
        yield


async def pour(conversation: Conversation, first: bytes, again: bytes, pause_seconds: float) -> None:
    """Say it until the client is gone."""
    await conversation.send(first, chunk=MEBIBYTE)  # never a second time whole in this process
    while again:
        await conversation.send(again)
        await asyncio.sleep(pause_seconds)
    await conversation.closed()


@asynccontextmanager
async def attacking(
    stage: str, first: bytes, again: bytes, pause_seconds: float = 0
) -> AsyncGenerator[tuple[int, asyncio.Event]]:
    """The port of a server that behaves up to a command, and an event for the end of that connection."""
    closed = asyncio.Event()

    async def attack(conversation: Conversation, _tag: str = "") -> None:
        await conversation.send(b"+ idling\r\n" if stage == "IDLE" else b"")
        try:
            with suppress(RuntimeError):  # uvloop's word for a client that is gone
                await pour(conversation, first, again, pause_seconds)
        finally:
            closed.set()

    replies = {"CAPABILITY": OFFERED, "EXAMINE": b"* 3 EXISTS\r\n", "UID SEARCH": b"* SEARCH 1 2 3\r\n"}
    script: Script = attack if stage == "greeting" else imap({stage: attack, **replies})
    if stage in replies:
        script = imap({**replies, stage: attack})
    async with scripted(script) as port:
        yield port, closed


async def live(port: int, within: ImapSettings, stage: str) -> None:
    """Everything a session does, up to a stage."""
    async with session(account_on(port), within) as opened:
        await opened.examine("INBOX")
        await opened.search()
        await take_all(opened, "1:3")
        if stage == "IDLE":
            await opened.idle(0.05, opened.pushes)
            await opened.idle(0.05, opened.pushes)
        await opened.rest(0.01, opened.pushes)
        await opened.log_out()
        assert stage == "LOGOUT", "nothing happened"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_at_any_stage_ends_in_a_protocol_error_and_a_closed_connection(attack: str, stage: str) -> None:
    with low_limits():
        async with attacking(stage, *ATTACKS[attack]) as (port, closed), asyncio.timeout(10):
            if stage == "LOGOUT":
                await live(port, LIMITS, stage)
            else:
                with pytest.raises(ProtocolError) as told:
                    await live(port, LIMITS, stage)
                assert len(str(told.value)) < 700
            await closed.wait()


# --- slowness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("first", [b"* OK ", b"* 1 FETCH (UID 1 BODY[] {1000000}\r\n"], ids=["a line", "a literal"])
async def test_single_octets_for_ever_end_at_a_deadline(stage: str, first: bytes) -> None:
    within = limits(command_seconds=0.04, done_seconds=0.04, connect_seconds=2)
    async with attacking(stage, first, b"x", 0.005) as (port, closed), asyncio.timeout(10):
        if stage == "LOGOUT":
            await live(port, within, stage)
        else:
            with pytest.raises(Stalled):
                await live(port, within, stage)
        await closed.wait()


# --- what it costs ---------------------------------------------------------------------------------------------------

PEAK_BYTES: Final = 200 * MEBIBYTE


def _status_bytes(name: str) -> int:
    """A figure of this process, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


@contextmanager
def measured() -> Generator[list[int]]:
    """By how much the process's resident memory has at most grown, afterwards the only element."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, grown = _status_bytes("VmRSS"), list[int]()
    yield grown
    grown.append(_status_bytes("VmHWM") - before)


def sparse_list() -> bytes:
    """A SEARCH answer as long as is taken, of UIDs of which no two touch."""
    return b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(1_000_000, 9_000_000, 2))[: 31 * MEBIBYTE] + b"0\r\n"


def words_of(start: bytes) -> Callable[[], bytes]:
    """A list as long as is taken, of the shortest words."""
    return lambda: start + b" 1" * (15 * MEBIBYTE) + b"\r\n"


LINES: Final = b"* OK\r\n" * 5000
COSTLY: Final[Mapping[str, tuple[str, Callable[[], bytes], bytes]]] = {
    "a list without end": ("UID SEARCH", lambda: b"* SEARCH", b" 4294967295" * 6000),
    "a list of ones": ("UID SEARCH", words_of(b"* SEARCH"), LINES),
    "a list of words": ("UID SEARCH", words_of(b"* ESEARCH"), LINES),
    "a list with gaps": ("UID SEARCH", sparse_list, LINES),
    "capabilities": ("CAPABILITY", bytes, b"* CAPABILITY" + b" A1 B2 C3 D4" * 20_000 + b"\r\n"),
    "a million answers": ("NOOP", bytes, b"* OK still here\r\n" * 4000),
    "mail announced": ("IDLE", bytes, b"* 1 EXISTS\r\n" * 5000),
    "many flags": ("UID FETCH", bytes, b"* 1 FETCH (UID 1 FLAGS (" + b"a " * 4000 + b") BODY[] {0}\r\n)\r\n"),
    "deep parentheses": ("UID FETCH", bytes, ATTACKS["deep parentheses"][1]),
    "announced and not sent": ("UID FETCH", lambda: b"* 1 FETCH (UID 1 BODY[] {99999999}\r\n", b""),
    "challenges to one who does not listen": ("AUTHENTICATE", bytes, b"+ YQ==\r\n" * 5000),
}


@pytest.mark.asyncio(loop_factories=["uvloop"])  # the daemon's own; what is kept is the reader's choice on either
@pytest.mark.parametrize("name", COSTLY)
async def test_an_attack_takes_no_more_than_so_much_memory(name: str) -> None:
    stage, first, again = COSTLY[name]
    async with attacking(stage, first(), again) as (port, closed), asyncio.timeout(30):
        with measured() as grown, pytest.raises(MailServerError):
            await live(port, limits(command_seconds=1), stage)
        await closed.wait()
    assert grown[0] < PEAK_BYTES


# --- what others notice of it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "attack"), [("NOOP", "a million answers"), ("UID FETCH", "deep parentheses")])
async def test_another_session_hears_its_mail_meanwhile(stage: str, attack: str) -> None:
    over = asyncio.Event()
    heard = 0

    async def listen(port: int) -> None:
        nonlocal heard
        async with examined(account_on(port)) as opened:
            while not over.is_set():
                seen = opened.pushes
                async with asyncio.TaskGroup() as tasks:
                    listening = tasks.create_task(opened.idle(5, seen))
                    await eventually(lambda: mailbox.idlers)
                    await mailbox.deliver(len(mailbox.held) + 1)
                assert listening.result() is not None
                heard += 1

    async with serving() as (mailbox, port), asyncio.timeout(40), asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(port))
        await eventually(lambda: heard > 3)
        async with attacking(stage, *ATTACKS[attack]) as (hostile, closed):
            before = heard
            with pytest.raises(ProtocolError):
                await live(hostile, LIMITS, stage)
            await closed.wait()
        assert heard > before + 3
        over.set()


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return blank_sqlite(tmp_path)


@pytest.mark.parametrize("stage", ["UID SEARCH", "UID FETCH", "IDLE"])
@pytest.mark.parametrize("attack", ["a million answers", "a mailbox that breathes", "mails never asked for", "noise"])
async def test_a_connector_under_attack_waits_with_its_reason_and_the_other_goes_on(
    bench: Bench, attack: str, stage: str
) -> None:
    with low_limits():
        async with serving(1) as (mailbox, port), attacking(stage, *ATTACKS[attack]) as (hostile, closed):
            good, bad = await bench.link(port, "good"), await bench.link(hostile, "bad")
            ours, theirs = good.supervisor(), bad.supervisor(retry_first_seconds=60.0, retry_most_seconds=60.0)
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                living = [tasks.create_task(each.run()) for each in (ours, theirs)]
                await closed.wait()
                await eventually(lambda: theirs.status.state is State.WAITING)
                assert "the server" in (theirs.status.reason or "")
                assert "internal" not in (theirs.status.reason or "")
                await eventually(lambda: mailbox.idlers)
                await mailbox.deliver(2)
                await good.until_stored(1, 2)
                assert ours.status.state in (State.IDLE, State.SYNCING)
                for task in living:
                    task.cancel()
            ours.leave()
            theirs.leave()


async def test_an_attack_within_tls_ends_likewise(trusted: Certificates) -> None:
    async def attack(conversation: Conversation, _tag: str) -> None:
        with suppress(RuntimeError):
            await pour(conversation, *ATTACKS["mail announced"], 0)

    script = imap({"CAPABILITY": OFFERED, "EXAMINE": attack})
    with low_limits(), pytest.raises(ProtocolError):
        async with (
            scripted(script, context=trusted.good.server_context()) as port,
            session(account_on(port, Tls.IMPLICIT)) as opened,
            asyncio.timeout(10),
        ):
            await opened.examine("INBOX")


async def test_a_mailbox_of_messages_that_are_never_handed_over_is_given_up(bench: Bench) -> None:
    async def list_all(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"* ESEARCH UID ALL 1:20000000\r\n{tag} OK done\r\n".encode())

    async def hand_nothing(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} OK done\r\n".encode())

    capabilities = "IMAP4rev1 IDLE ESEARCH AUTH=PLAIN SASL-IR"
    answers = {"UID SEARCH": list_all, "UID FETCH": hand_nothing}
    async with serving(capabilities=capabilities, answers=answers) as (mailbox, port):
        linked = await bench.link(port)
        async with examined(linked.account) as opened, asyncio.timeout(20):
            run = await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)
            with pytest.raises(ProtocolError, match="ever more"):
                await sync.catch_up(run)
        assert mailbox.count("UID FETCH") < 100
