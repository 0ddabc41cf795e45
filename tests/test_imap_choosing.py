"""Which mailboxes a connector's `folders` stand for, on accounts of all kinds."""

from __future__ import annotations

import unicodedata

import pytest

from inboxd.imap.choosing import USES, chosen, first_of, problem_of
from inboxd.imap.folders import Folder


def folders(*rows: str) -> list[Folder]:
    """Each row: a name, and behind a bar its attributes."""
    parts = [row.partition("|") for row in rows]
    return [Folder(name, frozenset(attributes.lower().split()), "/") for name, _, attributes in parts]


DOVECOT = folders(
    "Archive|\\Archive", "Drafts|\\Drafts", "Trash|\\Trash", "Junk|\\Junk", "Sent|\\Sent", "Lists|\\Noselect",
    "Lists/python", "Lists/python/dev", "Work", "INBOX",
)  # fmt: skip
GMAIL = folders(
    "INBOX", "[Gmail]|\\Noselect", "[Gmail]/All Mail|\\All", "[Gmail]/Drafts|\\Drafts", "[Gmail]/Important|\\Important",
    "[Gmail]/Sent Mail|\\Sent", "[Gmail]/Spam|\\Junk", "[Gmail]/Starred|\\Flagged", "[Gmail]/Trash|\\Trash", "receipts",
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ([], []),
        ([""], []),
        (["INBOX"], ["INBOX"]),
        (["inbox", "INBOX"], ["INBOX"]),
        (["Work", "INBOX"], ["INBOX", "Work"]),
        (["work"], ["work"]),
        (["*"], ["INBOX", "Archive", "Sent", "Lists/python", "Lists/python/dev", "Work"]),
        (["*", "Trash"], ["INBOX", "Archive", "Trash", "Sent", "Lists/python", "Lists/python/dev", "Work"]),
        (["*", "\\Junk"], ["INBOX", "Archive", "Junk", "Sent", "Lists/python", "Lists/python/dev", "Work"]),
        (["*", "-Lists/*", "-\\Archive", "-Work"], ["INBOX", "Sent"]),
        (["-Lists/*"], ["INBOX", "Archive", "Sent", "Work"]),
        (["-\\SENT", "*", "-inbox"], ["Archive", "Lists/python", "Lists/python/dev", "Work"]),
        (["Work", "-Work"], []),
        (["Lists/*"], ["Lists/python", "Lists/python/dev"]),
        (["*/dev", "L*s/*y*n"], ["Lists/python", "Lists/python/dev"]),
        (["*k"], ["Work"]),
        (["\\sent", "\\Flagged"], ["Sent"]),
        (["Gone", "Lists"], ["Lists", "Gone"]),
    ],
)
def test_what_is_wanted_is_found(wanted: list[str], names: list[str]) -> None:
    assert chosen(DOVECOT, wanted) == names


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["*"], ["[Gmail]/All Mail"]),
        (["*", "\\Junk", "\\Trash"], ["[Gmail]/All Mail", "[Gmail]/Spam", "[Gmail]/Trash"]),
        (["-\\Junk"], ["[Gmail]/All Mail"]),
        (["INBOX", "receipts"], ["INBOX", "receipts"]),
        (["*", "-\\All"], []),
        (["[Gmail]/*"], ["[Gmail]/All Mail", "[Gmail]/Sent Mail"]),
    ],
)
def test_of_labels_that_are_mailboxes_all_mail_is_enough(wanted: list[str], names: list[str]) -> None:
    assert chosen(GMAIL, wanted) == names


@pytest.mark.parametrize(
    "name",
    [
        "Trash", "DELETED ITEMS", "INBOX/Trash", "Papierkorb", "Gelöschte Elemente", "Spam", "Junk E-mail",
        unicodedata.normalize("NFD", "Gelöschte Elemente"), "Entwürfe", "Brouillons", "Drafts",
    ],
)  # fmt: skip
def test_without_marks_the_usual_names_are_left_out(name: str) -> None:
    assert chosen(folders("INBOX", name), ["*"]) == ["INBOX"]
    assert chosen(folders("INBOX", name), ["*", name]) == ["INBOX", name]


def test_a_mark_takes_the_meaning_from_a_usual_name() -> None:
    account = folders("INBOX", "Bin 2|\\Trash", "Trash", "Old/Trash")
    assert chosen(account, ["*"]) == ["INBOX", "Trash", "Old/Trash"]
    assert chosen(account, ["\\Trash"]) == ["Bin 2"]


def test_sent_mail_is_found_without_a_mark() -> None:
    assert chosen(folders("INBOX", "Gesendet"), ["\\Sent"]) == ["Gesendet"]


def test_signs_other_than_a_star_mean_themselves() -> None:
    odd = folders("a.b", "axb", "[x]", "x", "50%", "a*b", "back\\slash")
    assert chosen(odd, ["a.b*"]) == ["a.b"]
    assert chosen(odd, ["[x]*", "50%*", "*k\\s*"]) == ["[x]", "50%", "back\\slash"]
    assert chosen(odd, ["a*b"]) == ["a.b", "axb", "a*b"]


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert chosen(folders("a" * 4000), ["*a" * 1000 + "b"]) == []


@pytest.mark.parametrize("key", ["-", "\\Spam", "-\\nonsense", "\\"])
def test_what_means_nothing_is_said_so(key: str) -> None:
    assert problem_of(key)


@pytest.mark.parametrize("key", ["*", "-*", "a\\b", "-Work", "\\Sent", "-\\JUNK", "", *sorted(USES)])
def test_what_means_something_is_not(key: str) -> None:
    assert problem_of(key) is None or not key


def test_the_preferred_mailbox_is_listened_to_when_it_is_there() -> None:
    assert first_of(["INBOX", "Work"], "Work") == "Work"
    assert first_of(["Archive", "Work"], "INBOX") == "Archive"
    assert first_of([], "INBOX") is None
