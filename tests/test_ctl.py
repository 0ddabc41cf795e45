"""inboxctl against a daemon's stand-in: what each command asks for, shows to people, and gives to scripts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ctl_calls import call, changes, stand_in
from servers.control_state import RAW_MAIL, Row, StandIn, moment

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202egnp.exe\nFrom: forged\x00"
STEPS: list[Row] = [
    {"kind": "imap", "name": "resolve", "ok": True, "seconds": 0.012, "detail": "192.0.2.1", "cause": "", "fix": ""},
    {
        "kind": "imap",
        "name": "login",
        "ok": False,
        "seconds": 0.5,
        "detail": "NO [AUTHENTICATIONFAILED] Invalid credentials",
        "cause": "the password is wrong",
        "fix": "make an app password",
    },
]


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


def shown(daemon: StandIn, *args: str) -> str:
    """What a call that must succeed prints on standard output."""
    result = call(daemon, *args)
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(daemon: StandIn, *args: str) -> Any:
    return json.loads(shown(daemon, *args, "--json"))


def test_status_shows_the_daemon_and_every_connector(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.add_connector("shop", state="parked", reason="NO [AUTHENTICATIONFAILED] bad password")
    daemon.add_connector(
        "slow", state="waiting", reason="connection refused", failures=4, retryAt=moment(-30.5), lastSyncAt=None
    )
    daemon.add_connector("big", state="syncing", progress={"done": 120, "total": 2000, "receivedBytes": 12_600_000})
    text = shown(daemon, "status")
    assert "0.1.0, process 4242, up 1 d 2 h" in text
    assert "127.0.0.1:9464" in text
    assert "4 (1 idle, 1 parked, 1 waiting, 1 syncing)" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert rows["NAME"].split() == ["NAME", "STATE", "SINCE", "LAST", "SYNC", "SERVER", "HEARD", "MAILS"]
    assert "shop is parked: NO [AUTHENTICATIONFAILED] bad password" in text
    assert "slow is waiting after 4 failures: connection refused; next try in 30 s" in text
    assert "never" in text
    assert "big: 120/2000 mails, 13 MB" in text
    assert "\x1b" not in text


def test_status_shows_how_much_of_a_days_bytes_is_used_where_they_are_limited(daemon: StandIn) -> None:
    budget = {"usedBytes": 2_010_000_000, "limitBytes": 2_500_000_000, "resumesAt": moment(-3600)}
    daemon.add_connector("free")
    daemon.add_connector("big", budget=budget, reason="the first load rests until 14:00 UTC")
    text = shown(daemon, "status")
    head, free, big = text.split("\n\n")[1].splitlines()
    assert head.endswith("OF A DAY'S BYTES")
    assert big.endswith("2.0 GB of 2.5 GB")
    assert "GB" not in free
    assert "big is idle: the first load rests until 14:00 UTC" in text
    whole = re.sub(" +", " ", shown(daemon, "connector", "show", "big"))
    for line in ("of a day 2.0 GB of 2.5 GB downloaded", "load goes on in 59 min", "connections 2 of 5 open"):
        assert f"\n{line}\n" in whole
    assert "\nsent 12 of 500 in a day, 1 in a minute\n" in whole
    assert "logins" not in whole


def test_status_json_is_the_daemons_answer(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    answer = as_json(daemon, "status")
    assert answer["pid"] == 4242
    assert answer["connectors"][0]["id"] == row["id"]
    assert answer["connectors"][0]["progress"] is None


def test_json_is_taken_on_either_side_of_the_command(daemon: StandIn) -> None:
    assert json.loads(shown(daemon, "--json", "status")) | {"connectors": []} == as_json(daemon, "status")


def test_list_has_one_line_a_connector_with_its_state(daemon: StandIn) -> None:
    work = daemon.add_connector("work")
    off = daemon.add_connector("off", state="off")
    off["enabled"] = False
    daemon.add_email(work, "hello")
    header, first, second = shown(daemon, "connector", "list").splitlines()
    assert header.split() == ["NAME", "EMAIL", "STATE", "MAILS", "LAST", "SYNC", "ID"]
    assert first.split() == ["work", "work@example.com", "idle", "1", "2", "min", "ago", work["id"]]
    assert second.split()[2] == "disabled"
    assert [row["name"] for row in as_json(daemon, "connector", "list")["content"]] == ["work", "off"]


def test_list_reads_every_page(daemon: StandIn) -> None:
    for number in range(230):
        daemon.add_connector(f"c{number:03}")
    answer = as_json(daemon, "connector", "list")
    assert len({row["name"] for row in answer["content"]}) == answer["numberOfElements"] == 230
    assert answer["last"]


def test_an_empty_list_says_what_to_do_next(daemon: StandIn) -> None:
    result = call(daemon, "connector", "list")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "inboxctl connector add" in result.stderr


def test_a_connector_is_found_by_name_address_and_id(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    for name in ("work", "work@example.com", row["id"]):
        assert as_json(daemon, "connector", "show", name)["connector"]["id"] == row["id"]


def test_an_unknown_name_fails_and_names_similar_ones(daemon: StandIn) -> None:
    daemon.add_connector("work")
    result = call(daemon, "connector", "show", "wrok")
    assert result.exit_code == 1
    assert result.stderr == "inboxctl: there is no connector 'wrok'; did you mean work?\n"
    assert call(daemon, "connector", "show", str(uuid4())).exit_code == 1


def test_show_tells_all_but_the_passwords(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.parts[row["id"], "smtp"] |= {"smtpPort": 587, "smtpSsl": False, "startTls": True}
    text = shown(daemon, "connector", "show", "work")
    assert "imap.example.com:993, implicit TLS, as work@example.com" in text
    assert "smtp.example.com:587, STARTTLS, as work@example.com" in text
    assert "by itself, at least every 5 min" in text
    assert row["inboxId"] in text
    whole = as_json(daemon, "connector", "show", "work")
    assert whole.keys() == {"connector", "imap", "smtp", "syncSettings", "usage", "status"}
    del daemon.parts[row["id"], "smtp"]
    assert as_json(daemon, "connector", "show", "work")["smtp"] is None


def test_test_shows_each_step_with_cause_and_fix_and_fails(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.lines = [*STEPS]
    result = call(daemon, "test", "work")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "IMAP",
        "  ✓ resolve         0.01 s  192.0.2.1",
        "  ✗ login           0.50 s  NO [AUTHENTICATIONFAILED] Invalid credentials",
        "      cause  the password is wrong",
        "      fix    make an app password",
    ]
    assert result.stderr == "inboxctl: work: 1 of 2 steps failed\n"
    assert daemon.asked[-1].path == f"/control/connectors/{row['id']}/test"


@pytest.mark.parametrize(
    ("flags", "kind"), [([], "both"), (["--imap"], "imap"), (["--smtp"], "smtp"), (["--imap", "--smtp"], "both")]
)
def test_test_asks_for_the_wanted_half(daemon: StandIn, flags: list[str], kind: str) -> None:
    daemon.add_connector("work")
    daemon.lines = [STEPS[0]]
    assert call(daemon, "test", "work", *flags).exit_code == 0
    assert daemon.asked[-1].query == {"kind": kind}


def test_a_test_that_goes_well_is_summed_up(daemon: StandIn) -> None:
    daemon.add_connector("work")
    trip = STEPS[0] | {"kind": "roundtrip", "name": "accepted", "seconds": 1.5}
    daemon.lines = [STEPS[0], trip]
    result = call(daemon, "test", "work", "--roundtrip", "--seconds", "90")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[2:] == [
        "ROUND TRIP",
        "  ✓ accepted        1.50 s  192.0.2.1",
        "work works: 2 steps in 1.5 s",
    ]
    assert daemon.asked[-1].query == {"kind": "both", "roundtrip": "true", "seconds": "90.0"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--roundtrip", "--imap"], "both halves"), (["--seconds", "9"], "--roundtrip"), (["--seconds", "0"], "range")],
)
def test_a_round_trip_that_makes_no_sense_is_refused(daemon: StandIn, flags: list[str], words: str) -> None:
    daemon.add_connector("work")
    result = call(daemon, "test", "work", *flags)
    assert (result.exit_code, words in result.stderr) == (2, True)


def test_a_test_without_steps_is_a_failure(daemon: StandIn) -> None:
    daemon.add_connector("work")
    result = call(daemon, "test", "work", "--smtp")
    assert result.exit_code == 1
    assert "work has no SMTP server to test" in result.stderr


def test_test_json_is_a_line_a_step(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = [None, *STEPS]
    result = call(daemon, "test", "work", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == STEPS
    assert result.exit_code == 1


def sync_lines(**result: Any) -> list[Row | None]:
    """A sync's stream: two reports, a keep-alive, the result."""
    done = {"progress": {"done": 2, "total": 2, "receivedBytes": 3_400_000}}
    return [{"progress": {"done": 0, "total": 2, "receivedBytes": 0}}, None, done, {"result": result}]


def test_sync_says_how_many_mails_came(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    synced = {"emailSyncCount": 2, "logs": ["S: * OK \x1b[31mready"], "emailIds": [str(uuid4())] * 2}
    daemon.lines = sync_lines(syncResult=synced, eventId=str(uuid4()))
    assert re.fullmatch(r"work: 2 new mails, 3\.4 MB in \d\.\d s\n", shown(daemon, "sync", "work"))
    assert daemon.asked[-1].query == {}
    text = shown(daemon, "sync", "work", "--log", "--folder", "Räume & mehr", "--since", "2026-01-02T03:04:05+01:00")
    assert text.startswith("S: * OK ␛[31mready\n")
    assert daemon.asked[-1].path == f"/control/connectors/{row['id']}/sync"
    assert daemon.asked[-1].query == {"since": "2026-01-02T02:04:05Z", "folder": "Räume & mehr", "logging": "true"}


def test_a_failed_sync_fails_in_the_servers_words_and_shows_its_log(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    event = daemon.add_event(row, status="CONNECTION_ERROR")
    daemon.lines = sync_lines(exception="login: NO \x1b[2Jbad password", eventId=event["id"])
    result = call(daemon, "sync", "work", "--log")
    assert result.exit_code == 1
    assert result.stdout == "S: * OK ready\nC: A1 LOGIN *** ***\n"
    assert result.stderr == "inboxctl: work: login: NO ␛[2Jbad password\n"


def test_sync_json_is_the_stream_itself(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = sync_lines(syncResult={"emailSyncCount": 0, "logs": [], "emailIds": []})
    lines = shown(daemon, "sync", "work", "--json", "--log").splitlines()
    assert [json.loads(line) for line in lines] == [line for line in daemon.lines if line is not None]


def test_an_error_line_ends_a_stream_as_a_failure(daemon: StandIn) -> None:
    daemon.add_connector("work")
    daemon.lines = [{"progress": {"done": 0, "total": 1, "receivedBytes": 0}}, {"message": "the store is full"}]
    result = call(daemon, "sync", "work")
    assert (result.exit_code, result.stderr) == (1, "inboxctl: the store is full\n")


@pytest.mark.parametrize(("given", "back"), [("7d", timedelta(days=7)), ("90m", timedelta(minutes=90))])
def test_since_may_look_back_from_now(daemon: StandIn, given: str, back: timedelta) -> None:
    daemon.add_connector("work")
    daemon.lines = sync_lines(syncResult={"emailSyncCount": 0, "logs": [], "emailIds": []})
    shown(daemon, "sync", "work", "--since", given)
    asked = datetime.fromisoformat(daemon.asked[-1].query["since"])
    assert abs(datetime.now(UTC) - back - asked) < timedelta(seconds=30)


def test_a_since_that_is_no_date_is_bad_input(daemon: StandIn) -> None:
    result = call(daemon, "sync", "work", "--since", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is no date" in result.stderr


def test_emails_come_newest_first_up_to_the_limit(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    for number in range(150):
        daemon.add_email(row, f"mail {number}", read=number > 0)
    header, newest, *others = shown(daemon, "emails", "work").splitlines()
    assert header.split() == ["WHEN", "NEW", "FROM", "SUBJECT", "SIZE", "ID"]
    assert newest.split() == ["2", "min", "ago", "●", "Alice", "mail", "0", "12", "kB", daemon.emails[0]["id"]]
    assert len(others) == 19
    many = as_json(daemon, "emails", "work", "--limit", "130")
    assert [mail["subject"] for mail in many["content"]] == [f"mail {number}" for number in range(130)]
    assert many["totalElements"] == 150


def test_emails_can_be_narrowed(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    daemon.add_email(row, "order 1", read=True)
    daemon.add_email(row, "order 2")
    daemon.add_email(row, "other")
    found = as_json(daemon, "emails", "work", "--unread", "--search", "order")["content"]
    assert [mail["subject"] for mail in found] == ["order 2"]
    assert daemon.asked[-1].query["inboxId"] == row["inboxId"]


def test_email_shows_headers_and_text(daemon: StandIn) -> None:
    mail = daemon.add_email(daemon.add_connector("work"), "Über uns", attachments=["a", "b"])
    text = shown(daemon, "email", mail["id"])
    assert "Alice <alice@example.org>" in text
    assert "Über uns" in text
    assert "Attachments  2" in text
    assert "[Gmail]/All Mail" in text
    assert "Inbox, Réçus" in text
    assert text.endswith("\n\nHello\nthere\n")
    there = {"mailbox": "[Gmail]/All Mail", "flags": ["\\Seen"], "labels": ["Inbox", "Réçus"]}
    assert as_json(daemon, "email", mail["id"]) == mail | there


def test_an_html_mail_is_shown_as_text(daemon: StandIn) -> None:
    html = "<head><title>x</title></head><p>Hi&nbsp;you</p><a href='https://e.org/?a=1'>go</a>\x1b[2J"
    mail = daemon.add_email(daemon.add_connector("work"), "s", body=html, isHTML=True)
    assert shown(daemon, "email", mail["id"]).endswith("\n\nHi you\n\ngo <https://e.org/?a=1>␛[2J\n")


def test_email_raw_is_byte_exact(daemon: StandIn) -> None:
    result = call(daemon, "email", str(uuid4()), "--raw")
    assert (result.exit_code, result.stdout_bytes) == (0, RAW_MAIL)
    assert call(daemon, "email", str(uuid4()), "--raw", "--json").exit_code == 2


def test_email_delete_deletes_it(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    first, second = daemon.add_email(row, "one"), daemon.add_email(row, "two")
    assert shown(daemon, "email", first["id"], "--delete") == f"deleted {first['id']}\n"
    assert as_json(daemon, "email", second["id"], "--delete") == {"id": second["id"], "deleted": True}
    assert daemon.emails == []


@pytest.mark.parametrize("word", ["", "..", "../connectors", "*", "1"])
def test_only_an_id_ever_becomes_part_of_a_route(daemon: StandIn, word: str) -> None:
    for args in (("email", word, "--delete"), ("key", "revoke", f"{word}/")):
        result = call(daemon, *args)
        assert result.exit_code == 2
        assert "is not the id of" in result.stderr
    assert daemon.asked == []


def test_send_carries_everything_given(daemon: StandIn, tmp_path: Path) -> None:
    row = daemon.add_connector("work")
    (tmp_path / "Bericht.pdf").write_bytes(b"%PDF\x00")
    (tmp_path / "odd.zzzz").write_bytes(b"?")
    result = call(
        daemon, "send", "work", "--to", "Bob <bob@example.org>", "--to", "c@example.org", "--cc", "d@example.org",
        "--bcc", "e@example.org", "--reply-to", "f@example.org", "--subject", "Grüße", "--text", "-", "--html", "<p>x",
        "--attach", str(tmp_path / "Bericht.pdf"), "--attach", str(tmp_path / "odd.zzzz"), stdin="from a pipe\n",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        "sent to Bob <bob@example.org>, c@example.org, d@example.org, e@example.org as <made-up@example.com>\n"
    )
    assert daemon.bodies("POST", f"/control/connectors/{row['id']}/send") == [
        {
            "to": ["Bob <bob@example.org>", "c@example.org"],
            "cc": ["d@example.org"],
            "bcc": ["e@example.org"],
            "replyTo": "f@example.org",
            "subject": "Grüße",
            "text": "from a pipe\n",
            "html": "<p>x",
            "attachments": [
                {
                    "name": "Bericht.pdf",
                    "contentType": "application/pdf",
                    "base64": base64.b64encode(b"%PDF\x00").decode(),
                },
                {"name": "odd.zzzz", "contentType": "application/octet-stream", "base64": "Pw=="},
            ],
            "dsn": None,
            "useFallback": False,
            "wait": True,
        }
    ]


def test_a_refused_send_fails_in_the_servers_words(daemon: StandIn) -> None:
    daemon.add_connector("work")
    result = call(daemon, "send", "work", "--to", "nobody@example.org", "--subject", "s", "--text", "t")
    assert result.exit_code == 1
    assert result.stderr == "inboxctl: the server refused the mail: 550 5.1.1 no such user ␛[31mnobody\n"


@pytest.mark.parametrize("args", [[], ["--text", "-", "--html", "-"], ["--text", "t", "--attach", "/nonexistent/file"]])
def test_a_send_that_cannot_be_meant_is_bad_input(daemon: StandIn, args: list[str]) -> None:
    daemon.add_connector("work")
    assert call(daemon, "send", "work", "--to", "a@example.org", "--subject", "s", *args).exit_code == 2


def test_events_list_and_show_one_with_its_log(daemon: StandIn) -> None:
    row = daemon.add_connector("work")
    event = daemon.add_event(row)
    daemon.add_event(
        row, eventType="SEND", status="CONNECTION_ERROR", size=0, message="550 no", createdAt=moment(5), seconds=None
    )
    header, newest, oldest = shown(daemon, "events", "work").splitlines()
    assert header.split() == ["WHEN", "TYPE", "STATUS", "MAILS", "TOOK", "MESSAGE", "ID"]
    assert "SEND  CONNECTION_ERROR      0       -  550 no" in newest
    assert "3  0.46 s  3 new mails" in oldest
    assert oldest.endswith(event["id"])
    assert shown(daemon, "events", "work", "--id", event["id"]).endswith(f"\n\n{event['logs']}\n")
    assert as_json(daemon, "events", "work", "--id", event["id"]) == event
    assert as_json(daemon, "events", "work", "--limit", "1")["content"][0]["eventType"] == "SEND"


def test_an_event_of_another_connector_is_not_shown(daemon: StandIn) -> None:
    daemon.add_connector("work")
    event = daemon.add_event(daemon.add_connector("shop"))
    result = call(daemon, "events", "work", "--id", event["id"])
    assert result.exit_code == 1
    assert "is not one of work's" in result.stderr


def test_a_key_is_printed_once_and_alone_when_quiet(daemon: StandIn) -> None:
    result = call(daemon, "key", "create", "ci")
    assert result.stdout == "inboxd_k1_c2VjcmV0\n"
    assert "ci (k1) is shown only this once" in result.stderr
    result = call(daemon, "key", "create", "ci", "--quiet")
    assert (result.stdout, result.stderr) == ("inboxd_k1_c2VjcmV0\n", "")
    assert as_json(daemon, "key", "create", "other")["id"] == "k3"


def test_keys_are_listed_and_revoked(daemon: StandIn) -> None:
    call(daemon, "key", "create", "ci")
    assert shown(daemon, "key", "revoke", "k1") == "revoked k1\n"
    assert shown(daemon, "key", "list").splitlines()[1].split()[:2] == ["ci", "k1"]
    assert as_json(daemon, "key", "list") == daemon.keys
    assert call(daemon, "key", "revoke", "k9").exit_code == 1


def test_a_key_is_made_for_less_than_everything(daemon: StandIn) -> None:
    inbox = "7b4f1c52-0b0e-4d7f-9a53-2f6d1c0e8a11"
    call(daemon, "key", "create", "ci", "--scope", "send,read", "--scope", "READ", "--inbox", inbox)
    call(daemon, "key", "create", "all")
    assert [body for _method, _path, body in changes(daemon)] == [
        {"name": "ci", "scopes": ["read", "send"], "inboxId": inbox},
        {"name": "all"},
    ]
    lines = shown(daemon, "key", "list").splitlines()
    assert "read,send" in lines[1]
    assert f"inbox {inbox} only" in lines[1]
    assert "read,send,manage" in lines[2]
    for wrong in (("--scope", "all"), ("--scope", ""), ("--inbox", "shop")):
        assert call(daemon, "key", "create", "ci", *wrong).exit_code == 2, wrong
    assert len(daemon.keys) == 2


def test_nothing_out_of_a_mail_can_steer_the_terminal(daemon: StandIn) -> None:
    row = daemon.add_connector(f"work{HOSTILE}", reason=HOSTILE, state="parked")
    mail = daemon.add_email(row, HOSTILE, sender=HOSTILE, body=HOSTILE, to=[HOSTILE], replyTo=HOSTILE)
    event = daemon.add_event(row, message=HOSTILE, logs=HOSTILE)
    daemon.lines = [{**STEPS[1], "name": HOSTILE, "detail": HOSTILE, "cause": HOSTILE, "fix": HOSTILE}]
    for args in (
        ("status",), ("connector", "list"), ("connector", "show", row["id"]), ("emails", row["id"]),
        ("email", mail["id"]), ("events", row["id"]), ("events", row["id"], "--id", event["id"]),
        ("test", row["id"]), ("connector", "disable", row["id"]), ("connector", "show", HOSTILE),
        ("emails", row["id"], "--json"), ("status", "--json"),
    ):  # fmt: skip
        result = call(daemon, *args)
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\x00"} & set(result.output), args
        assert "\nFrom: forged" not in result.output or args[0] == "email" or "--id" in args, args
