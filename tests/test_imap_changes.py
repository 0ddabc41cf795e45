"""Flags and deletions on the wire: what answers say, how many there may be, and what a session asks."""

from __future__ import annotations

import time

import pytest

from inboxd.errors import ProtocolError
from inboxd.imap.changes import MAX_MODSEQ, Changes, gone_count, modseq_of
from inboxd.imap.lines import Part, UidSet
from servers.scripted import Conversation, Reply, imap, scripted
from servers.sessions import BOTH_LOOPS, account_on, session

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS


def heard(*responses: list[Part], labelled: bool = False) -> Changes:
    """A command that received these."""
    command = Changes("A1", "1:*", 5, vanished=True, labelled=labelled)
    for response in responses:
        command.receive(response)
    return command


def flags_of(command: Changes) -> dict[int, tuple[str, ...]]:
    return {uid: tags.flags for some in command.tagged(1) for uid, tags in some.items()}


@pytest.mark.parametrize(
    ("line", "flags", "modseq"),
    [
        (b"* 1 FETCH (UID 4 MODSEQ (17) FLAGS (\\Seen $x))", {4: ("\\Seen", "$x")}, 17),
        (b"* 1 fetch (flags () uid 4)", {4: ()}, 0),
        (b"* 1 FETCH (FLAGS (\\Recent \\Seen) UID 4)", {4: ("\\Seen",)}, 0),
        (b"* 1 FETCH (UID 4 MODSEQ (99999999999999999999) FLAGS (a))", {4: ("a",)}, 0),
        (b"* 1 FETCH (UID 4 MODSEQ (9999999999999999999) FLAGS (a))", {4: ("a",)}, MAX_MODSEQ),
        (b"* 1 FETCH (UID 4 MODSEQ (17))", {}, 17),
        (b"* 1 FETCH (FLAGS (\\Seen))", {}, 0),
        (b"* 1 FETCH (UID 0 FLAGS (\\Seen))", {}, 0),
        (b"* 1 FETCH (UID 4294967296 FLAGS (\\Seen))", {}, 0),
        (b"* 1 EXPUNGE", {}, 0),
    ],
)
async def test_an_answer_is_the_same_by_either_way(line: bytes, flags: dict[int, tuple[str, ...]], modseq: int) -> None:
    slow = heard([line])
    assert (flags_of(slow), slow.modseq) == (flags, modseq)
    quick = Changes("A1", "1:*", 5, vanished=True)
    if taken := quick.take_whole(line + b"\r\n", 0):
        assert (taken, flags_of(quick), quick.modseq) == (len(line) + 2, flags, modseq)


async def test_labels_are_read_with_the_flags_whatever_stands_in_them() -> None:
    command = heard(
        [b'* 1 FETCH (X-GM-LABELS ("\\\\Inbox" "MODSEQ (99)" "x) FLAGS (y") UID 4 MODSEQ (17) FLAGS (a))'],
        [b"* 2 FETCH (UID 5 X-GM-LABELS ({13}", b"UID 7 FLAGS (", b" b) FLAGS (c) MODSEQ (18))"],
        [b"* 3 FETCH (UID 6 FLAGS (d) X-GM-LABELS ())"],
        [b"* 4 FETCH (UID 7 FLAGS (e))"],
        labelled=True,
    )
    assert {uid: tags for some in command.tagged(9) for uid, tags in some.items()} == {
        4: (("a",), ("Inbox", "MODSEQ (99)", "x) FLAGS (y")),
        5: (("c",), ("UID 7 FLAGS (", "b")),
        6: (("d",), ()),
        7: (("e",), None),
    }
    assert command.modseq == 18


async def test_what_is_said_later_counts_and_what_is_gone_is_kept_as_ranges() -> None:
    command = heard(
        [b"* 1 FETCH (UID 4 FLAGS (b))"],
        [b"* 2 FETCH (UID 5 FLAGS (a))"],
        [b"* 1 FETCH (UID 4 FLAGS (a))"],
        [b"* VANISHED (EARLIER) 1:4294967295"],
        [b"* VANISHED 7,9"],
        [b"* 1 FETCH (UID 4 FLAGS (b))"],
    )
    assert flags_of(command) == {4: ("b",), 5: ("a",)}
    assert command.vanished.ranges == [(1, 4294967295)]
    assert (command.heard, len(command)) == (5, 4)
    with pytest.raises(ProtocolError):
        heard([b"* VANISHED (EARLIER) 1:x"])


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (b"* 3 EXPUNGE", 1),
        (b"* VANISHED 1:4294967295", 4294967295),
        (b"* vanished 3,5:7", 4),
        (b"* VANISHED (EARLIER) 1:9", None),
        (b"* VANISHED", None),
        (b"* 3 EXISTS", None),
    ],
)
def test_how_many_messages_a_line_takes_away(line: bytes, count: int | None) -> None:
    assert gone_count(line) == count


def test_a_mod_sequence_is_a_number_of_63_bits() -> None:
    assert [modseq_of(text) for text in ("17", None, "", "-1", "9" * 30, str(2**63), str(2**63 - 1))] == [
        17, 0, 0, 0, 0, 0, 2**63 - 1,
    ]  # fmt: skip


async def test_a_mailbox_all_marked_as_read_takes_little_and_an_answer_of_ever_new_flags_ends() -> None:
    answer = b"".join(b"* %d FETCH (UID %d MODSEQ (7) FLAGS (\\Seen))\r\n" % (uid, uid) for uid in range(1, 50_001))
    command = Changes("A1", "1:*", 5, vanished=True)
    began = time.process_time()
    assert command.take_whole(answer, 0) == len(answer)
    assert time.process_time() - began < 1.0
    assert len(command) == 50_000
    assert sum(map(len, command.tagged(1000))) == 50_000
    with pytest.raises(ProtocolError, match="has no end"):
        _tell_without_end(command)


def _tell_without_end(command: Changes) -> None:
    for number in range(10**6):
        command.receive([b"* 1 FETCH (UID 1 FLAGS (f%d %s))" % (number, b"x" * 5000)])


async def test_a_session_asks_for_qresync_once_and_counts_what_is_said_of_known_messages() -> None:
    async def speak(conversation: Conversation, tag: str) -> None:
        await conversation.send(
            b"* 5 EXISTS\r\n* OK [UIDVALIDITY 3] ok\r\n* OK [HIGHESTMODSEQ 715194045007] ok\r\n",
            b"* VANISHED (EARLIER) 1:9\r\n",
            f"{tag} OK [READ-ONLY] in\r\n".encode(),
        )

    async def noise(conversation: Conversation, tag: str) -> None:
        await conversation.send(
            b"* 1 FETCH (UID 3 FLAGS (\\Seen))\r\n* VANISHED 5,8\r\n* VANISHED 1:4294967295\r\n",
            f"* SEARCH 7 9\r\n{tag} OK done\r\n".encode(),
        )

    lines: list[str] = []

    async def enable(conversation: Conversation, tag: str) -> None:
        lines.append(conversation.received[-1].decode().partition(" ")[2])
        await conversation.send(f"* ENABLED QRESYNC\r\n{tag} OK on\r\n".encode())

    replies: dict[str, Reply | bytes] = {
        "CAPABILITY": b"* CAPABILITY IMAP4rev1 ENABLE CONDSTORE QRESYNC\r\n",
        "ENABLE": enable,
    }
    script = imap(replies | {'EXAMINE "\\w+"$': speak, "UID SEARCH": noise})
    async with scripted(script) as port, session(account_on(port)) as opened:
        for _ in range(2):
            mailbox = await opened.examine("INBOX")
            assert (mailbox.exists, mailbox.modseq, opened.changes) == (5, 715194045007, 0)
        assert (await opened.still_there(UidSet.of([7, 9, 11]))).ranges == [(7, 7), (9, 9)]
        assert (opened.exists, opened.changes) == (0, 3)
    assert lines == ["ENABLE QRESYNC"]


async def test_a_server_that_refuses_what_it_offered_is_asked_plainly() -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} BAD what\r\n".encode())

    replies: dict[str, Reply | bytes] = {"CAPABILITY": b"* CAPABILITY IMAP4rev1 ENABLE CONDSTORE QRESYNC\r\n"}
    replies |= {"ENABLE": refuse, "EXAMINE .*CONDSTORE": refuse, "EXAMINE": b"* 2 EXISTS\r\n"}
    async with scripted(imap(replies)) as port, session(account_on(port)) as opened:
        assert (await opened.examine("INBOX")).exists == 2
        assert (await opened.examine("INBOX")).exists == 2
        assert opened.tells_vanished is False
