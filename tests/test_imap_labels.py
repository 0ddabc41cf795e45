"""Gmail's labels: asked for where X-GM-EXT-1 is offered, read in every form, kept with the mail, followed and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from inboxd.api.wire.control import Arrival, MailPlace
from inboxd.imap.labels import listed, named
from inboxd.mails import Message
from inboxd.model import MessageFilter, Window
from inboxd.store import events, messages
from inboxd.store.engine import Store
from servers.mailbox import Bench, Linked, Mailbox, make_bench, serving
from servers.scripted import Conversation, scripted
from servers.sessions import account_on, examined, take_all

GMAIL = "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS SPECIAL-USE AUTH=PLAIN SASL-IR"
# As imap.gmail.com lists them: special uses unasked for, and each label a mailbox.
LIST = (
    b'* LIST (\\HasNoChildren) "/" "INBOX"\r\n* LIST (\\HasChildren \\Noselect) "/" "[Gmail]"\r\n'
    b'* LIST (\\All \\HasNoChildren) "/" "[Gmail]/Alle Nachrichten"\r\n'
    b'* LIST (\\HasNoChildren \\Trash) "/" "[Gmail]/Papierkorb"\r\n'
    b'* LIST (\\HasNoChildren \\Junk) "/" "[Gmail]/Spam"\r\n'
    b'* LIST (\\HasNoChildren \\Important) "/" "[Gmail]/Wichtig"\r\n'
    b'* LIST (\\HasNoChildren) "/" "R&AOkA5w-us"\r\n'
)
ALL_MAIL = "[Gmail]/Alle Nachrichten"
LABELS = {
    1: b'"\\\\Inbox" "\\\\Important" "R&AOkA5w-us"',
    2: b'"\\\\Sent" [Mailbox] Work/2026 "two \\"odd\\" words (here)"',
    3: b"",
    4: b'{13}\r\na "label" {3} "\\\\Starred" {0}\r\n plain',
    5: b"&Jjo- &- \\\\Draft \\Inbox \\Inbox",
}
NAMES = {
    1: ("Inbox", "Important", "Réçus"),
    2: ("Sent", "[Mailbox]", "Work/2026", 'two "odd" words (here)'),
    3: (),
    4: ('a "label" {3}', "Starred", "plain"),
    5: ("☺", "&", "Draft", "Inbox"),
}


class Gmail(Mailbox):
    """A mailbox that answers FETCH as Gmail does, its own items first."""

    asked: str = ""
    labels: Mapping[int, bytes] = LABELS

    def response(self, uid: int, raw: bytes, section: str = "") -> bytes:
        """As Gmail's: X-GM-LABELS only when it was asked for."""
        labels = b"X-GM-LABELS (%b) " % self.labels.get(uid, b"") if "X-GM-LABELS" in self.asked else b""
        place = sorted(self.held).index(uid) + 1
        head = b'UID %d RFC822.SIZE %d INTERNALDATE "04-May-2026 08:30:00 +0000" FLAGS (\\Seen)' % (uid, len(raw))
        return b"* %d FETCH (%b%b BODY[%b] {%d}\r\n%b)\r\n" % (place, labels, head, section.encode(), len(raw), raw)

    async def answer(self, conversation: Conversation, tag: str, name: str, arguments: str) -> None:
        """As the others, and LIST."""
        if name == "LIST":
            await conversation.send(LIST, f"{tag} OK Success\r\n".encode())
            return
        if name == "UID FETCH":
            self.asked = arguments
        await super().answer(conversation, tag, name, arguments)


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inboxd.db'}"


@pytest_asyncio.fixture
async def bench(store: Store, tmp_path: Path) -> Bench:
    return await make_bench(store, tmp_path)


async def kept(linked: Linked) -> dict[int, Message]:
    """What the store holds of a connector's mail, by UID."""
    page = await messages.page(linked.bench.store, MessageFilter((linked.connector.inbox_id,)), Window(size=100))
    return {row.uid or 0: row for row in page.rows}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        *((LABELS[uid], NAMES[uid]) for uid in (1, 2, 3, 5)),
        (b'"&" "&Jjo" "&2AA-"', ("&", "&Jjo", "&2AA-")),  # what cannot be decoded stays
        (b'"\\\\" "" \\', ()),
        (b'"a\x00b\x7f" \xff', ("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}")),
        (b"x" * 100_000, ("x" * 500,)),
    ],
)
def test_labels_are_what_people_call_them(content: bytes, names: tuple[str, ...]) -> None:
    assert listed(content) == names
    assert len(named(b"%d" % number for number in range(5000))) == 1000


@pytest.mark.parametrize("piece", [None, 1, 7])
async def test_every_form_of_a_label_is_read(piece: int | None) -> None:
    gmail = Gmail(capabilities=GMAIL)
    gmail.put(*LABELS)

    async def dribble(conversation: Conversation, tag: str) -> None:
        gmail.asked = "X-GM-LABELS"
        octets = b"".join(gmail.response(uid, raw) for uid, raw in gmail.held.items())
        await conversation.send(octets, f"{tag} OK Success\r\n".encode(), chunk=piece)

    gmail.answers["UID FETCH"] = dribble
    async with scripted(gmail.script) as port, examined(account_on(port)) as opened:
        found = await take_all(opened, "1:*")
    assert {mail.uid: mail.labels for mail in found} == NAMES
    assert all(bytes(mail.raw) == gmail.held[mail.uid] and mail.flags == ("\\Seen",) for mail in found)


async def test_other_servers_are_not_asked_for_labels() -> None:
    async with serving(1) as (mailbox, port), examined(account_on(port)) as opened:
        asked: list[str] = []

        async def note(conversation: Conversation) -> None:
            asked.append(conversation.received[-1].decode())

        mailbox.hooks["UID FETCH"] = note
        assert [mail.labels for mail in await take_all(opened, "1:*")] == [()]
    assert asked[0].endswith("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")


async def test_all_mail_is_read_once_with_its_labels(bench: Bench) -> None:
    gmail = Gmail(capabilities=GMAIL)
    gmail.put(*LABELS)
    opened: list[str] = []

    async def note(conversation: Conversation) -> None:
        opened.append(conversation.received[-1].decode().partition("EXAMINE ")[2])

    gmail.hooks["EXAMINE"] = note
    async with scripted(gmail.script) as port:
        linked = await bench.link(port, folders=("*",))
        supervisor = linked.supervisor()
        async with asyncio.TaskGroup() as group:
            living = group.create_task(supervisor.run())
            await linked.until_stored(*LABELS)
            gmail.labels = {**LABELS, 6: b'"\\\\Inbox" late'}
            await gmail.deliver(6)
            await linked.until_stored(*LABELS, 6)
            living.cancel()
    assert set(opened) == {f'"{ALL_MAIL}"'}
    stored = await kept(linked)
    assert {uid: mail.labels for uid, mail in stored.items()} == NAMES | {6: ("Inbox", "late")}
    assert {mail.mailbox for mail in stored.values()} == {ALL_MAIL}
    assert MailPlace.of(stored[1]).labels == Arrival.of(stored[1], None).labels == ["Inbox", "Important", "Réçus"]


async def test_labels_and_flags_follow_those_at_gmail(bench: Bench) -> None:
    gmail = Gmail(capabilities=f"{GMAIL} CONDSTORE", extra=b"* OK [HIGHESTMODSEQ 7] ok\r\n")
    gmail.put(*LABELS)
    changed = asyncio.Event()

    async def tell(conversation: Conversation, tag: str) -> None:
        line = gmail.lines[-1]
        if "CHANGEDSINCE" not in line:
            await gmail.answer(conversation, tag, "UID FETCH", line.removeprefix("UID FETCH "))
            return
        assert line == "UID FETCH 1:* (UID FLAGS X-GM-LABELS) (CHANGEDSINCE 7)"
        said = b'* 3 FETCH (UID 3 MODSEQ (9) X-GM-LABELS ("\\\\Inbox" {3}\r\nnew) FLAGS (\\Seen \\Flagged))\r\n'
        await conversation.send(said, f"{tag} OK Success\r\n".encode())
        changed.set()

    gmail.answers["UID FETCH"] = tell
    async with scripted(gmail.script) as port:
        linked = await bench.link(port, folders=(ALL_MAIL,))
        async with asyncio.TaskGroup() as group:
            living = group.create_task(linked.supervisor(compare_seconds=3600.0).run())
            await linked.until_stored(*LABELS)
            await gmail.say(b"* 3 FETCH (UID 3 MODSEQ (8) FLAGS (\\Seen \\Flagged))")
            with linked.bench.bus.subscribe(linked.connector.inbox_id) as hint:
                while (await kept(linked))[3].labels != ("Inbox", "new"):
                    await hint.wait()
            living.cancel()
    assert changed.is_set()
    assert (await kept(linked))[3].flags == ("\\Seen", "\\Flagged")
    told = await events.page(bench.store, Window(size=10), connector_id=linked.connector.id)
    words = "flags of 1 message changed, labels of 1 message changed in"
    assert [row.message for row in told.rows if words in (row.message or "")] == [f"{words} {ALL_MAIL}"]
