"""How much a mailbox holds: as the server says it, or as a sample of it tells; nothing is fetched."""

from __future__ import annotations

import pytest

from inboxd.errors import MailboxRefused
from inboxd.imap.sizing import Measure, measure
from servers.scripted import Conversation, Reply, imap, scripted
from servers.sessions import BOTH_LOOPS, account_on, session

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS


async def sized(replies: dict[str, Reply | bytes], *capabilities: str, terms: str | None = None) -> Measure:
    offered = f"* CAPABILITY IMAP4rev1 {' '.join(capabilities)}\r\n".encode()
    script = imap({"CAPABILITY": offered, **replies})
    async with scripted(script) as port, session(account_on(port)) as opened:
        return await measure(opened, "Räume", terms)


async def refuse(conversation: Conversation, tag: str) -> None:
    await conversation.send(f"{tag} NO [NONEXISTENT] there is none\r\n".encode())


def mailbox(exists: int) -> dict[str, Reply | bytes]:
    """One that holds messages of 1,000 octets, but for the first one's 3,000."""
    sizes = "".join(
        f"* {n} FETCH (RFC822.SIZE {3000 if n == 1 else 1000})\r\n" for n in range(1, exists + 1, max(1, exists // 200))
    )
    return {
        "EXAMINE": f"* {exists} EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n".encode(),
        "FETCH [0-9,]+ \\(RFC822.SIZE\\)": sizes.encode(),
    }


@pytest.mark.parametrize("capability", ["STATUS=SIZE", "IMAP4rev2"])
@pytest.mark.parametrize("name", [b'"R&AOQ-ume"', b"{9}\r\nR&AOQ-ume"])
async def test_server_that_knows_is_believed(capability: str, name: bytes) -> None:
    answer = b"* STATUS " + name + b" (SIZE 44421 MESSAGES 17)\r\n"
    replies: dict[str, Reply | bytes] = {'STATUS "R&AOQ-ume" \\(MESSAGES SIZE\\)': answer, "EXAMINE|FETCH": refuse}
    assert await sized(replies, capability) == Measure(17, 44_421)


@pytest.mark.parametrize(
    ("exists", "found"),
    [
        (0, Measure(0, 0)),
        (2, Measure(2, 4_000)),
        (200, Measure(200, 202_000)),
        (1_000, Measure(1_000, 1_010_000, estimated=True)),
    ],
)
async def test_elsewhere_a_sample_is_scaled_up(exists: int, found: Measure) -> None:
    assert await sized(mailbox(exists)) == found
    assert await sized(mailbox(exists) | {"STATUS": refuse}, "STATUS=SIZE") == found, "it said it could"


async def test_sample_is_spread_over_the_whole_mailbox_and_no_larger_than_needed() -> None:
    spread = ",".join(str(1 + place * 1_001 // 200) for place in range(200))
    sizes = b"* 1 FETCH (RFC822.SIZE 5)\r\n"
    assert await sized({f"FETCH {spread} \\(": sizes} | mailbox(1_001)) == Measure(1_001, 5_005, estimated=True)


async def test_of_a_search_its_hits_are_measured() -> None:
    replies = mailbox(9) | {
        "UID SEARCH UID 1:\\* \\(UNSEEN\\)": b"* SEARCH 4 8\r\n",
        "UID FETCH 4,8 \\(RFC822.SIZE\\)": b"* 2 FETCH (UID 4 RFC822.SIZE 10)\r\n* 3 FETCH (UID 8 RFC822.SIZE 20)\r\n",
    }
    assert await sized(replies, "STATUS=SIZE", terms="UNSEEN") == Measure(2, 30)


async def test_mailbox_that_is_not_there_is_told() -> None:
    with pytest.raises(MailboxRefused, match="there is none"):
        await sized({"EXAMINE|STATUS": refuse}, "STATUS=SIZE")
