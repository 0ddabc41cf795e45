"""The mailboxes of an account listed, the one for sent mail among them, and a mail found by its Message-ID."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest

from inboxd.errors import CommandRefused, Invalid
from inboxd.imap.folders import MOST_FOLDERS, Folder, find_all_mail, find_sent, folders_in
from inboxd.imap.lines import Part, Skipped, encode_utf7
from servers.dovecot import Dovecot, User, quoted
from servers.scripted import Conversation, imap, scripted
from servers.sessions import BOTH_LOOPS, account, account_on, examined, session

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS
ODD_NAMES = [
    'Say "hi"', "Back\\slash", "R&D", "&", "&-", "Entwürfe", "Éléments envoyés", "日本語", "📬 mail", "a&😀&b",
    "(parens) {3}", "percent %", "star *", " padded", "per.iod/below", "tab-less ~ tilde",
]  # fmt: skip


def create(dovecot: Dovecot, user: User, *names: str) -> None:
    """Make mailboxes as another client does."""
    with dovecot.session(user) as other:
        for name in names:
            assert other.create(quoted(name))[0] == "OK", name


def listed(*responses: list[Part]) -> list[Folder]:
    return folders_in(responses)


def names(*rows: tuple[str, str], delimiter: str | None = "/") -> list[Folder]:
    """Folders, each by its attributes and its name."""
    return [Folder(name, frozenset(attributes.lower().split()), delimiter) for attributes, name in rows]


# --- LIST -------------------------------------------------------------------------------------------------------------


async def test_names_of_any_kind_are_listed_and_open_under_them(dovecot: Dovecot) -> None:
    user = dovecot.user()
    made = [name for name in ODD_NAMES if name != "per.iod/below"]  # a maildir's levels are parted by periods
    create(dovecot, user, *made, "up/down")
    async with session(account(dovecot.starttls, user)) as opened:
        folders = await opened.mailboxes()
        assert {folder.name for folder in folders} == {*made, "INBOX", "up", "up/down"}
        assert {folder.delimiter for folder in folders} == {"/"}
        for folder in folders:
            if folder.selectable:
                assert (await opened.examine(folder.name)).exists == 0
        assert [folder.name for folder in folders if not folder.selectable] == ["up"]


async def test_mailboxes_are_listed_whatever_is_open(dovecot: Dovecot) -> None:
    async with examined(account(dovecot.starttls, dovecot.user())) as opened:
        assert [folder.name for folder in await opened.mailboxes()] == ["INBOX"]
        assert (await opened.examine("INBOX")).exists == 0


SPECIAL = b'* LIST (\\HasNoChildren \\Sent) "/" "Ausgang"\r\n* LIST (\\HasNoChildren) "/" "Sent"\r\n'
PLAIN = b'* LIST (\\HasNoChildren) "/" "Sent"\r\n'


@pytest.mark.parametrize(
    ("capabilities", "command", "sent"),
    [
        ("LIST-EXTENDED SPECIAL-USE", 'LIST "" "\\*" RETURN \\(SPECIAL-USE\\)$', "Ausgang"),
        ("SPECIAL-USE", 'LIST "" "\\*"$', "Ausgang"),
        ("LIST-EXTENDED", 'LIST "" "\\*"$', "Ausgang"),
        ("", 'LIST "" "\\*"$', "Ausgang"),
    ],
)
async def test_special_uses_are_asked_for_where_the_server_knows_how(
    capabilities: str, command: str, sent: str
) -> None:
    capability = f"* CAPABILITY IMAP4rev1 {capabilities}\r\n".encode()
    async with (
        scripted(imap({"CAPABILITY": capability, command: SPECIAL})) as port,
        session(account_on(port)) as opened,
    ):
        assert find_sent(await opened.mailboxes()) == sent


async def test_a_server_that_promises_more_than_it_does_is_asked_plainly() -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} BAD what is RETURN\r\n".encode())

    capability = b"* CAPABILITY IMAP4rev1 LIST-EXTENDED SPECIAL-USE\r\n"
    replies = {"CAPABILITY": capability, 'LIST "" "\\*" RETURN': refuse, "LIST": PLAIN}
    async with scripted(imap(replies)) as port, session(account_on(port)) as opened:
        assert [folder.name for folder in await opened.mailboxes()] == ["Sent"]


async def test_a_refused_list_is_said_so() -> None:
    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} NO not now\r\n".encode())

    async with scripted(imap({"LIST": refuse})) as port, session(account_on(port)) as opened:
        with pytest.raises(CommandRefused, match="not now"):
            await opened.mailboxes()


async def test_names_come_as_literals_too() -> None:
    answer = (
        b'* LIST (\\Noselect) NIL {8}\r\nSay "hi"\r\n* 3 EXISTS\r\n* LIST () "." {4}\r\nR&-D ("CHILDINFO" ("X"))\r\n'
    )
    async with scripted(imap({"LIST": answer})) as port, session(account_on(port)) as opened:
        first, second = await opened.mailboxes()
    assert (first.name, first.delimiter, first.selectable) == ('Say "hi"', None, False)
    assert (second.name, second.delimiter, second.selectable) == ("R&D", ".", True)


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        (b'* LIST (\\NonExistent \\Sent) "/" Sent', Folder("Sent", frozenset({"\\nonexistent", "\\sent"}), "/")),
        (b'* list () "\\\\" inbox', Folder("INBOX", frozenset(), "\\")),
        (b'* LIST  () "/" "a \\"b\\\\c"', Folder('a "b\\c', frozenset(), "/")),
        (b'* LIST () "/" Entw&APw-rfe', Folder("Entwürfe", frozenset(), "/")),
        (b'* LIST () "/" "&bad"', Folder("&bad", frozenset(), "/")),
        (b'* LIST () "/" "&AAo-"', None),
        (b'* LIST () "/" ""', None),
        (b'* LIST () "/"', None),
        (b"* LIST ()", None),
        (b"* LIST (", None),
        (b"* LIST", None),
        (b'* LSUB () "/" x', None),
        (b"* LIST nonsense", None),
    ],
)
def test_what_a_line_says(line: bytes, folder: Folder | None) -> None:
    assert listed([line]) == ([folder] if folder else [])


def test_a_name_too_large_to_keep_is_left_out() -> None:
    assert listed([b'* LIST () "/" {999}', Skipped(999), b""]) == []


def test_a_name_counts_once_and_their_number_is_bounded() -> None:
    twice: list[list[Part]] = [[b'* LIST (\\Sent) "/" Sent'], [b'* LIST () "/" Sent']]
    assert listed(*twice) == [Folder("Sent", frozenset({"\\sent"}), "/")]
    many: list[list[Part]] = [[b'* LIST () "/" %d' % number] for number in range(MOST_FOLDERS + 5)]
    assert len(listed(*many)) == MOST_FOLDERS


# --- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Sent", "SENT", "Sent Items", "Sent Messages", "INBOX/Sent", "[Gmail]/Sent Mail", "[Google Mail]/Gesendet",
        "Gesendete Elemente", "Gesendete Objekte", "Envoyés", "Éléments envoyés", "éléments ENVOYÉS", "Enviados",
        "Elementos enviados", "Inviata", "Posta inviata", "Verzonden", "Verzonden items", "Skickat", "Sendt", "Wysłane",
        "Отправленные", "已发送", "送信済み", unicodedata.normalize("NFD", "Éléments envoyés"),
    ],
)  # fmt: skip
def test_a_usual_name_is_taken_for_the_sent_mailbox(name: str) -> None:
    assert find_sent(names(("", "INBOX"), ("", "Archive"), ("", name))) == name


@pytest.mark.parametrize("name", ["Projects/Sent", "INBOX/Old/Sent", "Sentinel", "Not Sent", "INBOX.Sent"])
def test_other_names_are_not(name: str) -> None:
    assert find_sent(names(("", "INBOX"), ("", name))) is None


def test_levels_are_parted_as_the_server_says() -> None:
    assert find_sent(names(("", "INBOX.Sent"), delimiter=".")) == "INBOX.Sent"
    assert find_sent(names(("", "Work.Sent"), delimiter=".")) is None
    assert find_sent(names(("", "Sent"), delimiter=None)) == "Sent"
    assert find_sent(names(("", "INBOX/Sent"), delimiter=None)) is None


def test_the_marked_mailbox_wins_and_the_likeliest_name_after_it() -> None:
    assert find_sent(names(("", "Sent"), ("\\Sent", "Work/Ausgang"))) == "Work/Ausgang"
    assert find_sent(names(("\\Sent \\Noselect", "Gone"), ("", "Sent Items"), ("", "Sent"))) == "Sent"
    assert find_sent(names(("\\NonExistent", "Sent"), ("", "Gesendet"))) == "Gesendet"
    assert find_sent([]) is None


def test_all_mail_is_found_by_its_mark_alone() -> None:
    folders = names(("\\Noselect", "[Gmail]"), ("\\HasNoChildren \\All", "[Gmail]/Alle Nachrichten"))
    assert find_all_mail(folders) == "[Gmail]/Alle Nachrichten"
    assert find_all_mail(names(("", "[Gmail]/All Mail"), ("\\All \\Noselect", "x"))) is None


def test_every_name_goes_back_as_it_came() -> None:
    for name in ODD_NAMES:
        line = b'* LIST () "/" "%s"' % encode_utf7(name).replace("\\", "\\\\").replace('"', '\\"').encode()
        assert [folder.name for folder in listed([line])] == [name]


# --- a mail by its Message-ID -----------------------------------------------------------------------------------------


def letter(message_id: str) -> bytes:
    return f"Subject: hello\r\nMessage-ID: <{message_id}>\r\n\r\nbody\r\n".encode()


async def test_a_mail_is_found_by_its_message_id(dovecot: Dovecot) -> None:
    user = dovecot.user()
    for message_id in ("one@example.org", 'quote"d\\@example.org', "one@example.org", "someone@example.org.uk"):
        dovecot.append(user, letter(message_id))
    async with examined(account(dovecot.starttls, user)) as opened:
        assert list(await opened.find_message_id("one@example.org")) == [1, 3]
        assert list(await opened.find_message_id("<one@example.org>")) == [1, 3]
        assert list(await opened.find_message_id('quote"d\\@example.org')) == [2]
        assert list(await opened.find_message_id("nobody@example.org")) == []


async def test_older_mails_than_asked_for_are_not_found(dovecot: Dovecot) -> None:
    user, now = dovecot.user(), datetime.now(UTC)
    dovecot.append(user, letter("old@example.org"), date=now - timedelta(days=5))
    dovecot.append(user, letter("new@example.org"), date=now - timedelta(hours=1))
    async with examined(account(dovecot.starttls, user)) as opened:
        assert not len(await opened.find_message_id("old@example.org", now))
        assert list(await opened.find_message_id("old@example.org", now - timedelta(days=5))) == [1]
        assert list(await opened.find_message_id("new@example.org", now)) == [2], "a day is allowed for zones"


async def test_servers_of_every_age_are_understood() -> None:
    for capability, asked, answer in (
        (b"IMAP4rev1", "UID SEARCH HEADER", b"* SEARCH 4 7\r\n"),
        (b"IMAP4rev1 ESEARCH", "UID SEARCH RETURN", b'* ESEARCH (TAG "x") UID ALL 4,7\r\n'),
    ):
        replies = {"CAPABILITY": b"* CAPABILITY %s\r\n" % capability, asked: answer}
        async with scripted(imap(replies)) as port, examined(account_on(port)) as opened:
            assert list(await opened.find_message_id("x@y")) == [4, 7]


@pytest.mark.parametrize("message_id", ["a\r\nA1 LOGOUT", "a\nb", "a\0b", "ü@example.org", "a\tb", "a\x7fb"])
async def test_an_id_that_no_command_can_carry_is_refused(message_id: str) -> None:
    async with scripted(imap({})) as port, examined(account_on(port)) as opened:
        with pytest.raises(Invalid):
            await opened.find_message_id(message_id)
        assert list(await opened.find_message_id("still@fine")) == []
