"""A message arrives: the whole way from a real Dovecot through the running daemon to whoever asks for it."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

import corpus
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User

SIMPLE = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: hello\r\n\r\nhello\r\n"


def assert_same_as_server(daemon: Daemon, connector: dict[str, object], dovecot: Dovecot, user: User) -> None:
    """Every message of the mailbox is stored once, byte for byte, and nothing else is."""
    held = Counter(hashlib.sha256(raw).digest() for raw in dovecot.fetch_all(user).values())
    stored = Counter(hashlib.sha256(daemon.raw(row["id"])).digest() for row in daemon.emails(connector))
    assert stored == held


@pytest.mark.timeout(180)
def test_first_sync_of_a_mixed_mailbox_is_byte_exact(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, corpus.messages(2000 - len(corpus.malformed()), small=True))
    dovecot.bulk_load(user, corpus.malformed().values())
    daemon.start()
    connector = daemon.connect(user, dovecot.tls, tls="implicit")
    daemon.await_count(connector, 2000, seconds=90)
    daemon.await_state(connector, "idle")
    assert_same_as_server(daemon, connector, dovecot, user)
    assert daemon.metric("inboxd_messages_stored_total") == 2000


def test_mail_arriving_while_idle_is_stored_and_nothing_is_marked_read(
    daemon: Daemon, dovecot: Dovecot, store_url: str
) -> None:
    user = dovecot.user()
    daemon.settings["INBOXD_STORE__URL"] = store_url
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls, tls="starttls")
    daemon.await_state(connector, "idle")
    for number in range(1, 4):
        dovecot.append(user, SIMPLE)
        daemon.await_count(connector, number)
    with dovecot.session(user) as client:
        client.select("INBOX", readonly=True)
        assert client.search(None, "SEEN") == ("OK", [b""])
    assert daemon.metric("inboxd_push_to_stored_seconds_count") == 3
    assert daemon.metric("inboxd_message_detection_latency_seconds_count") == 3


def test_messages_of_an_empty_mailbox_and_of_a_named_one_are_read(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    with dovecot.session(user) as client:
        client.create('"Archiv &- B&APw-cher"')
    daemon.start()
    empty = daemon.connect(user, dovecot.starttls)
    daemon.await_state(empty, "idle")
    named = daemon.connect(user, dovecot.starttls, selectFolder="Archiv & Bücher")
    daemon.await_state(named, "idle")
    dovecot.append(user, SIMPLE, mailbox="Archiv & Bücher")
    daemon.await_count(named, 1)
    assert daemon.count(empty) == 0


def test_connector_reads_on_after_its_server_was_killed_and_started_again(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.append(user, SIMPLE)
    daemon.start()
    connector = daemon.connect(user, dovecot.tls, tls="implicit")
    daemon.await_state(connector, "idle")
    dovecot.stop(kill=True)
    assert "connect" in str(daemon.await_state(connector, "waiting")["reason"]) or daemon.status(connector)["failures"]
    dovecot.start()
    daemon.await_state(connector, "idle")
    dovecot.append(user, SIMPLE.replace(b"hello", b"after"))
    daemon.await_count(connector, 2)
    assert_same_as_server(daemon, connector, dovecot, user)


def test_renumbered_mailbox_brings_no_message_twice_and_loses_none(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, corpus.messages(50, small=True))
    daemon.start()
    connector = daemon.connect(user, dovecot.tls, tls="implicit")
    daemon.await_count(connector, 50)
    daemon.await_state(connector, "idle")
    ids = {row["id"] for row in daemon.emails(connector)}
    dovecot.renumber(user)
    dovecot.append(user, SIMPLE)
    daemon.await_count(connector, 51)
    daemon.until(lambda: daemon.metric("inboxd_uidvalidity_resets_total") == 1, "the renumbering to be noticed")
    daemon.await_state(connector, "idle")
    daemon.until(lambda: daemon.metric("inboxd_messages_remapped_total") == 50, "50 messages to be recognised")
    assert daemon.count(connector) == 51
    assert ids < {row["id"] for row in daemon.emails(connector)}
    assert_same_as_server(daemon, connector, dovecot, user)


@pytest.mark.timeout(180)
def test_daemon_killed_in_the_middle_of_a_sync_loses_and_doubles_nothing(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    total = 3000
    dovecot.bulk_load(user, corpus.messages(total, seed=7, small=True))
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls)
    cuts: list[int] = []
    for share in (0, total // 5, total // 2):
        daemon.until(lambda share=share: daemon.count(connector) > share, "some of the mail")
        daemon.stop(signal.SIGKILL)
        daemon.start()
        cuts.append(daemon.count(connector))
    assert 0 < cuts[0] < total
    daemon.await_count(connector, total, seconds=90)
    daemon.await_state(connector, "idle")
    assert_same_as_server(daemon, connector, dovecot, user)


@pytest.mark.timeout(180)
def test_daemon_killed_in_the_middle_of_a_first_load_has_the_newest_mail_and_fetches_only_the_rest(
    daemon: Daemon, dovecot: Dovecot
) -> None:
    user = dovecot.user()
    total = 3000
    dovecot.bulk_load(user, corpus.messages(total, seed=11, small=True))
    held = dovecot.fetch_all(user)
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls)
    daemon.until(lambda: daemon.count(connector) > 0, "some of the mail")
    daemon.stop(signal.SIGKILL)
    dovecot.stop()
    daemon.start()
    kept = [daemon.raw(row["id"]) for row in daemon.emails(connector)]
    assert 0 < len(kept) < total
    assert kept[-1] == held[max(held)]
    assert held[min(held)] not in kept
    dovecot.start()
    dovecot.append(user, SIMPLE)
    daemon.await_count(connector, total + 1, seconds=90)
    daemon.await_state(connector, "idle")
    raws = [daemon.raw(row["id"]) for row in daemon.emails(connector)]
    assert raws == [*(held[uid] for uid in sorted(held)), SIMPLE]
    rest_bytes = sum(map(len, raws)) - sum(map(len, kept))
    assert daemon.metric("inboxd_imap_bytes_total", direction="in") < rest_bytes + 200 * (total - len(kept)) + 20_000


def test_messages_expunged_while_a_sync_runs_are_neither_stored_empty_nor_waited_for(
    daemon: Daemon, dovecot: Dovecot
) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, corpus.messages(1500, seed=3, small=True))
    uids = sorted(dovecot.fetch_all(user))
    expunged = threading.Thread(target=dovecot.expunge, args=(user, *uids[900::2]))
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls)
    daemon.until(lambda: daemon.count(connector) > 0, "the first messages")
    expunged.start()
    expunged.join()
    daemon.await_state(connector, "idle", seconds=50)
    held = set(dovecot.fetch_all(user).values())
    stored = [daemon.raw(row["id"]) for row in daemon.emails(connector)]
    assert held <= set(stored)
    assert b"" not in stored
    dovecot.append(user, SIMPLE)
    daemon.await_count(connector, len(stored) + 1)


def test_deleted_mail_does_not_come_back_with_the_next_sync(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.bulk_load(user, corpus.messages(3, small=True))
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls, sync=False)
    sync = f"/connectors/{connector['id']}/sync"
    daemon.http("POST", sync)
    gone = daemon.emails(connector)[1]["id"]
    assert daemon.http("DELETE", f"/emails/{gone}") == (204, None)
    status, result = daemon.http("POST", f"{sync}?since=2001-01-01T00:00:00Z")
    assert (status, result["syncResult"]["emailSyncCount"]) == (200, 0)
    dovecot.renumber(user)
    assert daemon.http("POST", sync)[1]["syncResult"]["emailSyncCount"] == 0
    assert daemon.count(connector) == 2


def test_sync_since_a_date_hides_no_older_mail_from_the_next_sync(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls, sync=False)
    for year in (2019, 2021, 2023):
        dovecot.append(user, SIMPLE.replace(b"hello", str(year).encode()), date=datetime(year, 6, 1, tzinfo=UTC))
    sync = f"/connectors/{connector['id']}/sync"
    _, result = daemon.http("POST", f"{sync}?since=2022-01-01T00:00:00Z")
    assert result["syncResult"]["emailSyncCount"] == 1
    _, result = daemon.http("POST", sync)
    assert result["syncResult"]["emailSyncCount"] == 2
    assert sorted(row["subject"] for row in daemon.emails(connector)) == ["2019", "2021", "2023"]


def test_hostile_mails_are_kept_raw_and_stop_nothing_behind_them(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    hostile = dict(corpus.hostile())
    dovecot.bulk_load(user, [*hostile.values(), SIMPLE])
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls)
    daemon.await_count(connector, len(hostile) + 1, seconds=50)
    daemon.await_state(connector, "idle")
    assert_same_as_server(daemon, connector, dovecot, user)
    assert "hello" in {row["subject"] for row in daemon.emails(connector)}


def test_message_over_the_limit_is_kept_as_its_header(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    large = SIMPLE.replace(b"Subject: hello", b"Subject: large") + b"x" * 78 * 1000 + b"\r\n"
    large = large.replace(b"x" * 78, b"x" * 76 + b"\r\n")
    dovecot.bulk_load(user, [SIMPLE, large * 60, SIMPLE])
    daemon.settings["INBOXD_IMAP__MAX_MESSAGE_BYTES"] = "2000000"
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls)
    daemon.await_count(connector, 3)
    daemon.await_state(connector, "idle")
    (kept,) = [row for row in daemon.emails(connector) if row["subject"] == "large"]
    assert kept["sizeBytes"] == len(large * 60)
    assert (
        daemon.raw(kept["id"])
        == SIMPLE.replace(b"Subject: hello", b"Subject: large").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    )
    assert daemon.metric("inboxd_messages_defective_total") == 1


def test_state_folder_holds_no_password_and_is_closed_to_others(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user(password='s3cr3t-canary-äß\\"x')
    dovecot.append(user, SIMPLE)
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls)
    daemon.await_count(connector, 1)
    assert daemon.stop() == 0
    files = [path for path in Path(daemon.state_dir).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert b"s3cr3t-canary" not in path.read_bytes(), path
        assert path.stat().st_mode & 0o077 == 0, path
