"""What STATUS says of mailboxes, and what servers announce of them without being asked."""

from __future__ import annotations

import pytest

from inboxd.errors import CommandRefused
from inboxd.imap.lines import Part, Skipped
from inboxd.imap.watching import Counts, Watch, counts_in
from servers.scripted import Conversation, imap, scripted
from servers.sessions import BOTH_LOOPS, account_on, session

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
FULL = b"(MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7)"


@pytest.mark.parametrize(
    ("response", "counts"),
    [
        ([b'* STATUS "Work" ' + FULL], {"Work": Counts(3, 9, 7)}),
        ([b"* status inbox (uidvalidity 7 MESSAGES 3 UIDNEXT 9)"], {"INBOX": Counts(3, 9, 7)}),
        ([b'* STATUS "a \\"b\\" \\\\c"  (MESSAGES 0)'], {'a "b" \\c': Counts(0)}),
        ([b"* STATUS R&AOQ-ume ()"], {"Räume": Counts()}),
        ([b"* STATUS {4}", b"a(b)", b" " + FULL], {"a(b)": Counts(3, 9, 7)}),
        ([b"* STATUS {9}", Skipped(9), b" " + FULL], {}),
        ([b'* STATUS "x" (UIDNEXT 99999999999 HIGHESTMODSEQ 17 MESSAGES 1)'], {"x": Counts(1, modseq=17)}),
        ([b"* STATUS"], {}),
        ([b'* STATUS "never closed'], {}),
        ([b'* LIST () "/" "Work"'], {}),
    ],
)
def test_what_a_line_says(response: list[Part], counts: dict[str, Counts]) -> None:
    assert counts_in([response]) == counts


def capable(*more: str) -> dict[str, bytes]:
    return {"CAPABILITY": f"* CAPABILITY IMAP4rev1 {' '.join(more)}\r\n".encode()}


async def test_a_list_with_counts_is_one_command_where_the_server_can() -> None:
    answer = b'* LIST () "/" A\r\n* STATUS A ' + FULL + b'\r\n* LIST (\\Noselect) "/" B\r\n'
    plain = b'* LIST () "/" A\r\n'
    for capabilities, replies, counts in (
        (("LIST-STATUS", "SPECIAL-USE"), {"LIST .* RETURN \\(SPECIAL-USE STATUS": answer}, {"A": Counts(3, 9, 7)}),
        (("LIST-STATUS",), {"LIST .* RETURN \\(STATUS": answer}, {"A": Counts(3, 9, 7)}),
        ((), {'LIST "" "\\*"$': plain}, {}),
    ):
        async with scripted(imap(capable(*capabilities) | replies)) as port, session(account_on(port)) as opened:
            folders, found = await Watch(opened).survey()
            assert (folders[0].name, found) == ("A", counts)


async def test_a_server_that_refuses_what_it_offered_is_asked_plainly() -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} BAD what\r\n".encode())

    replies = capable("LIST-STATUS", "NOTIFY") | {"LIST .* RETURN": refuse, "NOTIFY": refuse}
    replies |= {"LIST": b'* LIST () "/" A\r\n', "STATUS": refuse}
    async with scripted(imap(replies)) as port, session(account_on(port)) as opened:
        watch = Watch(opened)
        assert (await watch.survey())[1] == {}
        assert (await watch.subscribe(["A"]), watch.announces) == (False, False)
        with pytest.raises(CommandRefused, match="what"):
            await watch.status("A")


async def test_announcements_are_heard_between_commands_and_among_their_answers() -> None:
    async def announce(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} OK\r\n".encode(), b'* STATUS "A" (MESSAGES 1)\r\n')
        tag = await conversation.command("EXAMINE")
        await conversation.send(b'* STATUS "B" (UIDNEXT 2)\r\n* 1 EXISTS\r\n', f"{tag} OK\r\n".encode())

    async with (
        scripted(
            imap(capable("NOTIFY") | {"NOTIFY SET \\(mailboxes": announce, "STATUS": b"* STATUS A ()\r\n"})
        ) as port,
        session(account_on(port)) as opened,
    ):
        watch = Watch(opened)
        assert await watch.subscribe(["A", "B"])
        assert await watch.wait(5) == {"A"}
        await opened.examine("INBOX")
        await watch.close()
        await watch.status("A")
        assert await watch.wait(5) == {"B"}, "an answer is no announcement"
        assert await watch.wait(0.01) == set()
        assert await watch.subscribe(["A", "B"]) is False, "it is asked for once"


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["A", "B"], 'NOTIFY SET (mailboxes ("A" "B") (MessageNew MessageExpunge))'),
        (["Räume"], "NOTIFY SET (personal (MessageNew MessageExpunge))"),
        (["x" * 500 for _ in range(20)], "NOTIFY SET (personal (MessageNew MessageExpunge))"),
    ],
)
async def test_what_is_to_be_announced_is_named_as_long_as_that_is_understood(names: list[str], asked: str) -> None:
    lines: list[str] = []

    async with scripted(imap(capable("NOTIFY"))) as port, session(account_on(port), trace=lines.append) as opened:
        assert await Watch(opened).subscribe(names)
    assert any(line.endswith(asked) for line in lines)


async def test_a_server_that_gives_up_announcing_is_asked_again() -> None:
    async def overflow(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} OK\r\n* OK [NOTIFICATIONOVERFLOW] too much\r\n* STATUS A ()\r\n".encode())

    async with (
        scripted(imap(capable("NOTIFY") | {"NOTIFY": overflow})) as port,
        session(account_on(port)) as opened,
    ):
        watch = Watch(opened)
        await watch.subscribe(["A"])
        await watch.wait(5)
        assert watch.announces is False
        assert await watch.subscribe(["A"])


async def test_a_server_that_counts_changes_is_asked_for_them_unless_it_refuses() -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} BAD what\r\n".encode())

    told = b"* STATUS A (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 HIGHESTMODSEQ 715194045007)\r\n"
    for refused, answered, modseq in (
        ({}, {"STATUS .*HIGHESTMODSEQ": told, "NOTIFY .*FlagChange": b""}, 715194045007),
        (
            {"STATUS .*HIGHESTMODSEQ": refuse, "NOTIFY .*FlagChange": refuse},
            {"STATUS": b"* STATUS A " + FULL + b"\r\n", "NOTIFY": b""},
            0,
        ),
    ):
        replies = capable("CONDSTORE", "NOTIFY") | refused | answered | {"STATUS": refuse, "NOTIFY": refuse} | answered
        async with scripted(imap(replies)) as port, session(account_on(port)) as opened:
            watch = Watch(opened)
            assert await watch.status("A") == Counts(3, 9, 7, modseq)
            assert await watch.subscribe(["A"])
            assert watch.announces
