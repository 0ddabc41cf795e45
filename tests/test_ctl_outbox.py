"""inboxctl and the outbox, against a daemon's stand-in: what waits is shown, and what is decided is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from uuid import uuid4

import pytest

from ctl_calls import call, on_terminal, spawn, stand_in
from servers.control_state import Row, StandIn, moment

SEND = ("send", "work", "--to", "bob@example.org", "--subject", "hi", "--text", "hello")
HOSTILE = "\x1b]0;owned\x07\u202egnp.exe\nFrom: forged"


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@pytest.fixture
def work(daemon: StandIn) -> Row:
    return daemon.add_connector("work")


def shown(daemon: StandIn, *args: str) -> str:
    """What a call that must succeed prints on standard output."""
    result = call(daemon, *args)
    assert result.exit_code == 0, result.output
    return result.stdout


# --- list and show ---------------------------------------------------------------------------------------------------


def test_the_list_has_a_line_a_mail_with_the_next_try_or_the_last_words(daemon: StandIn, work: Row) -> None:
    waiting = daemon.add_mail(work, "deferred", attempts=3)
    unknown = daemon.add_mail(work, "unknown", reply="the answer was lost", subject=None, to=["a@x.org", "b@x.org"])
    fresh = daemon.add_mail(work, "queued", reply=None, attempts=0, dueAt=moment(1))
    header, *rows = shown(daemon, "outbox", "list").splitlines()
    assert header.split("  ")[0] == "WHEN"
    assert [title for title in ("STATE", "TO / SUBJECT", "TRIES", "NEXT / REPLY", "ID") if title not in header] == []
    first, second, third = rows
    assert "2 min ago" in first
    assert "deferred  bob@example.org: Invoice" in first
    assert "3  in 1 min: 451 4.7.1 try again later" in first
    assert first.endswith(waiting["id"])
    assert "unknown   a@x.org, b@x.org: (no subject)" in second
    assert "1  the answer was lost" in second
    assert second.endswith(unknown["id"])
    assert third.split()[-3:] == ["0", "now", fresh["id"]]


def test_the_list_is_narrowed_by_states_connector_and_number(daemon: StandIn, work: Row) -> None:
    other = daemon.add_connector("other")
    for state in ("queued", "deferred", "sent", "unknown"):
        daemon.add_mail(work, state)
        daemon.add_mail(other, state)
    args = ("outbox", "list", "--state", "unknown", "--state", "deferred", "--connector", "work", "--json")
    page = json.loads(shown(daemon, *args))
    assert {(row["state"], row["connectorId"]) for row in page["content"]} == {
        ("unknown", work["id"]), ("deferred", work["id"]),
    }  # fmt: skip
    assert daemon.asked[-1].repeated["state"] == ["unknown", "deferred"]
    assert daemon.asked[-1].query["sort"] == "DESC"
    assert len(shown(daemon, "outbox", "list", "--limit", "3").splitlines()) == 4
    assert "3 of 8; --limit shows more" in on_terminal(daemon, ["outbox", "list", "--limit", "3"])[1]


def test_an_empty_outbox_and_bad_words_are_said(daemon: StandIn) -> None:
    result = call(daemon, "outbox", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no mails\n")
    assert call(daemon, "outbox", "list", "--state", "lost").exit_code == 2
    assert call(daemon, "outbox", "list", "--connector", "nobody").exit_code == 1
    for command in ("show", "retry", "cancel", "drop"):
        assert call(daemon, "outbox", command, "../keys").exit_code == 2
        assert call(daemon, "outbox", command).exit_code == 2
        assert call(daemon, "outbox", command, str(uuid4())).exit_code == 1
    assert not [asked for asked in daemon.asked if ".." in asked.path]


def test_a_terminal_gets_colours_and_the_id_below(daemon: StandIn, work: Row) -> None:
    mail = daemon.add_mail(work, "unknown")
    status, text = on_terminal(daemon, ["outbox", "list"])
    assert status == 0
    assert "\x1b[1;35munknown" in text
    assert max(len(line) for line in _plain(text).splitlines()) <= 80
    assert mail["id"] in _plain(text)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_show_tells_recipients_and_tries_in_the_servers_words(daemon: StandIn, work: Row) -> None:
    mail = daemon.add_mail(work, "deferred", relay=True, chores=["file"])
    mail["recipients"].append({"address": "c@x.org", "state": "accepted", "reply": "250 ok", "updatedAt": moment(100)})
    mail["tries"].append(mail["tries"][0] | {"kind": "", "stage": "data", "reply": "250 2.0.0 taken"})
    text = shown(daemon, "outbox", "show", mail["id"])
    for words in (
        "deferred", "Invoice", "work@example.com", mail["id"], "<made-up@example.com>", "the relay", "2.3 kB",
        "in 1 min", "gives up", "put a copy into the Sent mailbox",
    ):  # fmt: skip
        assert words in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "bob@example.org deferred 1 min ago 451 4.7.1 try again later" in lines
    assert "c@x.org accepted 1 min ago 250 ok" in lines
    first, second = (line for line in lines if line.startswith("try "))
    assert first.endswith("smtp.example.com SendDeferred at rcpt after 1.0 s")
    assert second.endswith("smtp.example.com taken after 1.0 s")
    assert "250 2.0.0 taken" in lines
    assert "outbox retry" not in text
    assert json.loads(shown(daemon, "outbox", "show", mail["id"], "--json")) == mail


def test_show_says_what_can_be_done_about_a_mail_that_rests(daemon: StandIn, work: Row) -> None:
    unknown, failed = daemon.add_mail(work, "unknown"), daemon.add_mail(work, "failed", tries=[], connectorId=None)
    text = shown(daemon, "outbox", "show", unknown["id"])
    advice = (
        f"inboxctl outbox retry {unknown['id']}  sends it again",
        f"inboxctl outbox drop {unknown['id']}   lets it rest",
    )
    assert all(f"  {line}\n" in text for line in advice)
    assert "may have it or not" in text
    assert "connector   work\n" in text
    text = shown(daemon, "outbox", "show", failed["id"])
    assert f"inboxctl outbox retry {failed['id']}" in text
    assert "connector   deleted\n" in text


def test_nothing_foreign_steers_the_terminal(daemon: StandIn, work: Row) -> None:
    mail = daemon.add_mail(work, "deferred", subject=HOSTILE, to=[HOSTILE], reply=HOSTILE)
    mail["recipients"][0]["reply"] = mail["tries"][0]["reply"] = mail["tries"][0]["host"] = HOSTILE
    for args in (("list",), ("show", mail["id"]), ("retry", mail["id"])):
        text = shown(daemon, "outbox", *args)
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert not any(line.startswith("From: forged") for line in text.splitlines())


# --- decisions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"), [("retry", "is tried now"), ("cancel", "is not sent"), ("drop", "rests")]
)
def test_a_decision_is_asked_for_each_mail_and_told_in_a_line(
    daemon: StandIn, work: Row, command: str, words: str
) -> None:
    first, second = daemon.add_mail(work, "unknown"), daemon.add_mail(work, "failed")
    lines = shown(daemon, "outbox", command, first["id"], second["id"]).splitlines()
    assert lines == [f"{mail['id']}  {words}  bob@example.org: Invoice" for mail in (first, second)]
    assert [(asked.method, asked.path) for asked in daemon.asked] == [
        ("POST", f"/control/outbox/{mail['id']}/{command}") for mail in (first, second)
    ]
    lines = shown(daemon, "outbox", command, first["id"], second["id"], "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [first["id"], second["id"]]


def test_a_refused_decision_does_not_keep_the_others_from_being_carried_out(daemon: StandIn, work: Row) -> None:
    sent, waiting = daemon.add_mail(work, "sent"), daemon.add_mail(work, "queued")
    result = call(daemon, "outbox", "cancel", sent["id"], waiting["id"])
    assert (result.exit_code, waiting["state"]) == (1, "cancelled")
    assert result.stdout.startswith(waiting["id"])
    assert result.stderr.splitlines() == [
        f"inboxctl: mail {sent['id']}: it was sent already",
        "inboxctl: 1 of 2 mails could not be changed",
    ]
    alone = call(daemon, "outbox", "retry", sent["id"])
    assert (alone.exit_code, alone.stderr) == (1, f"inboxctl: mail {sent['id']}: it was sent already\n")


def test_a_mistyped_id_is_found_before_anything_is_decided(daemon: StandIn, work: Row) -> None:
    waiting = daemon.add_mail(work, "queued")
    assert call(daemon, "outbox", "cancel", waiting["id"], "x").exit_code == 2
    assert (daemon.asked, waiting["state"]) == ([], "queued")


# --- send and status -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("becomes", "flags", "words"),
    [
        ("sent", (), "sent to bob@example.org"),
        ("queued", (), "accepted, on its way to bob@example.org"),
        ("sending", (), "accepted, on its way to bob@example.org"),
        ("sent", ("--no-wait",), "accepted, on its way to bob@example.org"),
    ],
)
def test_send_says_what_became_of_the_mail(
    daemon: StandIn, work: Row, becomes: str, flags: tuple[str, ...], words: str
) -> None:
    daemon.becomes = becomes
    first, *others = shown(daemon, *SEND, *flags).splitlines()
    assert first == f"{words} as <made-up@example.com>"
    (mail,) = daemon.outbox
    assert others == ([] if words.startswith("sent") else [f"see how far it is: inboxctl outbox show {mail['id']}"])
    answer = json.loads(shown(daemon, *SEND, *flags, "--json"))
    assert (answer["id"], answer["state"]) == (daemon.outbox[1]["id"], daemon.outbox[1]["state"])


def test_send_tells_who_does_not_get_the_mail(daemon: StandIn, work: Row) -> None:
    daemon.refused["eve@example.org"] = "550 5.1.1 no such \x1buser"
    args = (*SEND, "--cc", "eve@example.org")
    result = call(daemon, *args)
    assert (result.exit_code, result.stdout) == (0, "sent to bob@example.org as <made-up@example.com>\n")
    assert result.stderr == "refused for eve@example.org: 550 5.1.1 no such ␛user\n"
    assert json.loads(shown(daemon, *args, "--json"))["refused"] == daemon.refused


def test_send_passes_on_key_notices_and_fallback(daemon: StandIn, work: Row) -> None:
    shown(daemon, *SEND, "--idempotency-key", "order 42", "--dsn", "success, Delay", "--use-fallback", "--no-wait")
    sent, plain = next(asked for asked in daemon.asked if asked.method == "POST"), ("dsn", "useFallback", "wait")
    assert sent.headers["idempotency-key"] == "order 42"
    assert [sent.body[name] for name in plain] == [{"notify": ["SUCCESS", "DELAY"]}, True, False]
    shown(daemon, *SEND)
    sent = [asked for asked in daemon.asked if asked.method == "POST"][-1]
    assert "idempotency-key" not in sent.headers
    assert [sent.body[name] for name in plain] == [None, False, True]
    shown(daemon, *SEND, "--dsn", "never")
    assert daemon.bodies("POST", sent.path)[-1]["dsn"] == {"notify": ["NEVER"]}


@pytest.mark.parametrize(
    "flags",
    [
        ("--dsn", "sometimes"),
        ("--dsn", ""),
        ("--dsn", "never,success"),
        ("--idempotency-key", ""),
        ("--idempotency-key", "x" * 256),
        ("--idempotency-key", " x"),
        ("--idempotency-key", "a\r\nX-Evil: 1"),
        ("--idempotency-key", "schlüssel"),
    ],
)
def test_send_refuses_what_cannot_be_asked_for(daemon: StandIn, work: Row, flags: tuple[str, ...]) -> None:
    assert call(daemon, *SEND, *flags).exit_code == 2
    assert not daemon.outbox


def test_status_has_a_line_about_the_outbox_when_something_is_in_it(daemon: StandIn, work: Row) -> None:
    daemon.add_mail(work, "sent")
    daemon.add_mail(work, "failed")
    assert "outbox" not in shown(daemon, "status")
    daemon.add_mail(work, "deferred")
    daemon.add_mail(work, "sending")
    assert "outbox      2 on the way (the oldest from 4 min ago)\n" in shown(daemon, "status")
    daemon.add_mail(work, "unknown")
    assert "4 min ago); 1 unknown, see: inboxctl outbox list --state unknown\n" in shown(daemon, "status")
    assert json.loads(shown(daemon, "status", "--json"))["outbox"]["counts"]["unknown"] == 1


# --- completion ------------------------------------------------------------------------------------------------------


def completed(daemon: StandIn, words: str) -> set[str]:
    """What bash is offered for the last of the words."""
    count = str(len(words.split(" ")) - 1)
    result = spawn(daemon, _INBOXCTL_COMPLETE="bash_complete", COMP_WORDS="\n".join(words.split(" ")), COMP_CWORD=count)
    return {line.partition(",")[2] for line in result.stdout.decode().splitlines()}


def test_the_shell_completes_states_connectors_and_fitting_ids(daemon: StandIn, work: Row) -> None:
    mails = {state: daemon.add_mail(work, state)["id"] for state in ("queued", "sent", "unknown", "failed")}
    assert completed(daemon, "inboxctl outbox list --state un") == {"unknown"}
    assert completed(daemon, "inboxctl outbox list --connector w") == {"work"}
    assert completed(daemon, "inboxctl outbox show ") == set(mails.values())
    assert completed(daemon, "inboxctl outbox cancel ") == {mails["queued"]}
    assert completed(daemon, "inboxctl outbox drop ") == {mails["unknown"], mails["failed"]}
    assert completed(daemon, f"inboxctl outbox drop {mails['unknown']} ") == {mails["failed"]}
