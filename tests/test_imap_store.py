"""A mailbox opened for changes, and a flag changed in it, on a real Dovecot; a script for what Dovecot will not do."""

from __future__ import annotations

import asyncio

import pytest

from inboxd.errors import Invalid, MailboxRefused
from inboxd.imap.lines import store_item
from servers.dovecot import Dovecot, User
from servers.scripted import Conversation, imap, scripted
from servers.sessions import BOTH_LOOPS, account, account_on, session

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
HELLO = b"Subject: hello\r\n\r\nbody\r\n"


def flags_on_server(dovecot: Dovecot, user: User, uid: int) -> set[str]:
    """The flags another client sees."""
    with dovecot.session(user) as other:
        other.select("INBOX", readonly=True)
        _, (answer,) = other.uid("FETCH", str(uid), "(FLAGS)")
    assert isinstance(answer, bytes)
    return set(answer.decode().partition("FLAGS (")[2].partition(")")[0].split()) - {"\\Recent"}


async def test_a_flag_is_set_and_taken_away_and_the_others_stay(dovecot: Dovecot) -> None:
    user = dovecot.user()
    for _ in range(2):
        dovecot.append(user, HELLO, flags=["\\Flagged", "$Work"])
    async with session(account(dovecot.starttls, user)) as opened:
        mailbox = await opened.select("INBOX")
        assert (mailbox.exists, mailbox.uidvalidity) == (2, dovecot.uidvalidity(user))
        for on in (True, True, False, False):
            flags = await opened.store_flag(2, "\\Seen", on=on)
            wanted = {"\\Flagged", "$Work", *(["\\Seen"] if on else [])}
            assert set(flags or ()) - {"\\Recent"} == wanted
            assert await asyncio.to_thread(flags_on_server, dovecot, user, 2) == wanted
    assert flags_on_server(dovecot, user, 1) == {"\\Flagged", "$Work"}


async def test_a_message_that_is_gone_is_told_from_one_that_is_there(dovecot: Dovecot) -> None:
    user = dovecot.user()
    for _ in range(2):
        dovecot.append(user, HELLO)
    async with session(account(dovecot.starttls, user)) as opened:
        await opened.select("INBOX")
        await asyncio.to_thread(dovecot.expunge, user, 1)
        assert await opened.store_flag(1, "\\Seen", on=True) is None
        assert await opened.store_flag(99, "\\Seen", on=True) is None
        assert "\\Seen" in (await opened.store_flag(2, "\\Seen", on=True) or ())


async def test_a_mailbox_opened_to_read_cannot_be_changed(dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.append(user, HELLO)
    async with session(account(dovecot.starttls, user)) as opened:
        with pytest.raises(MailboxRefused):
            await opened.select("Missing")
        await opened.examine("INBOX")
        assert "\\Seen" not in (await opened.store_flag(1, "\\Seen", on=True) or ()), "Dovecot says OK and does nothing"
    assert flags_on_server(dovecot, user, 1) == set()


async def test_a_mailbox_that_opens_for_reading_alone_is_refused() -> None:
    async def read_only(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"* 1 EXISTS\r\n", f"{tag} OK [READ-ONLY] only look\r\n".encode())

    async with scripted(imap({"SELECT": read_only})) as port, session(account_on(port)) as opened:
        with pytest.raises(MailboxRefused, match="only look"):
            await opened.select("Shared")


async def test_answers_about_other_messages_are_not_taken_for_this_one() -> None:
    others = b"* 1 FETCH (UID 6 FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS (\\Seen))\r\n"
    async with (
        scripted(imap({"SELECT": b"* 2 EXISTS\r\n", "UID STORE": others, "UID FETCH": others})) as port,
        session(account_on(port)) as opened,
    ):
        await opened.select("INBOX")
        assert await opened.store_flag(7, "\\Seen", on=True) is None


@pytest.mark.parametrize("flag", ["", "\\", "\\Seen)", "a b", "a\r\nA1 LOGOUT", "\\Seen\\", "ü", '"', "x" * 101])
def test_what_is_no_flag_is_not_sent(flag: str) -> None:
    with pytest.raises(Invalid):
        store_item(flag, on=True)


def test_a_flag_is_changed_alone() -> None:
    assert store_item("\\Seen", on=True) == "+FLAGS.SILENT (\\Seen)"
    assert store_item("$Work", on=False) == "-FLAGS.SILENT ($Work)"
