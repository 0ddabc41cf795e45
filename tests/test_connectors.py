"""Connectors as their operators meet them: refused, parked, changed, switched off; each disturbing no other."""

from __future__ import annotations

import asyncio
import base64

import pytest

from servers import LOOPBACK, Listener
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User
from servers.scripted import Conversation, imap, scripted
from servers.smtp import SmtpServer

SIMPLE = b"Subject: hello\r\n\r\nhello\r\n"
CANARY = 'c4nary "pass\\word {5}'


def test_wrong_password_parks_the_connector_with_the_servers_words(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls, password="wrong")
    parked = daemon.await_state(connector, "parked")
    assert "AUTHENTICATIONFAILED" in parked["reason"]
    assert daemon.metric("inboxd_connector_parked", reason="auth") == 1
    assert daemon.metric("inboxd_imap_logins_total", result="refused") == 1
    events = daemon.http("GET", f"/connectors/{connector['id']}/events")[1]["content"]
    assert [(e["status"], "AUTHENTICATIONFAILED" in e["message"]) for e in events] == [("CONNECTION_ERROR", True)]


def test_new_password_brings_a_parked_connector_back_at_once(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    dovecot.append(user, SIMPLE)
    daemon.start()
    connector = daemon.connect(user, dovecot.starttls, password="wrong")
    daemon.await_state(connector, "parked")
    change = {"imapHost": dovecot.starttls.host, "imapPassword": user.password}
    assert daemon.http("PATCH", f"/connectors/{connector['id']}/imap", change)[0] == 200
    daemon.await_count(connector, 1)
    assert daemon.metric("inboxd_connector_parked") == 0


def test_server_without_starttls_gets_no_password(daemon: Daemon, dovecot: Dovecot) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, dovecot.no_tls, tls="starttls")
    waiting = daemon.await_state(connector, "waiting")
    assert "STARTTLS" in waiting["reason"]
    assert daemon.metric("inboxd_imap_logins_total", result="ok") == 0


@pytest.mark.parametrize(("listener", "words"), [("expired", "expired"), ("wrong_name", "mismatch")])
def test_wrong_certificate_is_refused_with_its_reason(
    daemon: Daemon, dovecot: Dovecot, listener: str, words: str
) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, getattr(dovecot, listener), tls="implicit")
    waiting = daemon.await_state(connector, "waiting")
    assert "certificate" in waiting["reason"]
    assert words in waiting["reason"]


def test_missing_mailbox_parks_the_connector(daemon: Daemon, dovecot: Dovecot) -> None:
    daemon.start()
    connector = daemon.connect(dovecot.user(), dovecot.starttls, selectFolder="No such")
    assert "No such" in daemon.await_state(connector, "parked")["reason"]


def test_changing_one_connector_disturbs_no_other(daemon: Daemon, dovecot: Dovecot) -> None:
    first, second = dovecot.user(), dovecot.user()
    daemon.start()
    one = daemon.connect(first, dovecot.starttls)
    two = daemon.connect(second, dovecot.starttls)
    for connector in (one, two):
        daemon.await_state(connector, "idle")
    since = daemon.status(two)["since"]
    options = {"name": "renamed", "emailAddress": first.name, "enabled": False}
    assert daemon.http("PUT", f"/connectors/{one['id']}", options)[0] == 200
    daemon.await_state(one, "off")
    dovecot.append(first, SIMPLE)
    assert daemon.http("PUT", f"/connectors/{one['id']}", options | {"enabled": True})[0] == 200
    daemon.await_count(one, 1)
    assert daemon.http("DELETE", f"/connectors/{one['id']}")[0] == 204
    assert daemon.status(two)["since"] == since
    dovecot.append(second, SIMPLE)
    daemon.await_count(two, 1)
    assert daemon.http("GET", f"/connectors/{one['id']}")[0] == 404


def test_connector_without_sync_settings_is_never_synced_by_itself(daemon: Daemon, dovecot: Dovecot) -> None:
    quiet, watched = dovecot.user(), dovecot.user()
    dovecot.append(quiet, SIMPLE)
    dovecot.append(watched, SIMPLE)
    daemon.start()
    unsynced = daemon.connect(quiet, dovecot.starttls, sync=False)
    daemon.await_count(daemon.connect(watched, dovecot.starttls), 1)
    assert daemon.count(unsynced) == 0
    assert daemon.status(unsynced)["state"].lower() == "off"
    settings = {"syncEnabled": True, "syncInterval": 5}
    assert daemon.http("POST", f"/connectors/{unsynced['id']}/sync-settings", settings)[0] == 201
    daemon.await_count(unsynced, 1)


async def test_server_without_idle_is_polled(daemon: Daemon) -> None:

    looks = 0

    async def searched(talk: Conversation, tag: str) -> None:
        nonlocal looks
        looks += 1
        await talk.send(b"* SEARCH 1\r\n" if looks > 2 else b"* SEARCH\r\n", f"{tag} OK\r\n".encode())

    mail = base64.b64decode("U3ViamVjdDogcG9sbGVkDQoNCmhpDQo=")
    script = imap(
        {
            "CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n",
            "EXAMINE": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
            "UID SEARCH": searched,
            "UID FETCH": b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%s)\r\n" % (len(mail), mail),
        },
        greeting=b"* OK ready\r\n",
    )
    async with scripted(script) as port:
        daemon.settings["INBOXD_IMAP__POLL_SECONDS"] = "0.1"
        await asyncio.to_thread(daemon.start)
        user = User("polled@example.test", "x", daemon.folder)
        connector = await asyncio.to_thread(daemon.connect, user, Listener(LOOPBACK, port))
        await asyncio.to_thread(daemon.await_count, connector, 1)
        assert (await asyncio.to_thread(daemon.emails, connector))[0]["subject"] == "polled"
        assert (await asyncio.to_thread(daemon.await_state, connector, "polling"))["reason"] is None


async def test_push_that_never_came_is_made_good_and_counted(daemon: Daemon) -> None:

    looks = 0

    async def searched(talk: Conversation, tag: str) -> None:
        nonlocal looks
        looks += 1
        await talk.send(b"* SEARCH 1\r\n" if looks > 1 else b"* SEARCH\r\n", f"{tag} OK\r\n".encode())

    async def deaf(talk: Conversation, tag: str) -> None:
        await talk.send(b"+ idling\r\n")
        await talk.expect("DONE")
        await talk.send(f"{tag} OK\r\n".encode())

    script = imap(
        {
            "CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR\r\n",
            "EXAMINE": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
            "UID SEARCH": searched,
            "IDLE": deaf,
            "UID FETCH": b"* 1 FETCH (UID 1 BODY[] {4}\r\n\r\nhi)\r\n",
        }
    )
    async with scripted(script) as port:
        daemon.settings |= {"INBOXD_IMAP__IDLE_SECONDS": "0.2", "INBOXD_IMAP__IDLE_JITTER_SECONDS": "0"}
        await asyncio.to_thread(daemon.start)
        user = User("deaf@example.test", "x", daemon.folder)
        connector = await asyncio.to_thread(daemon.connect, user, Listener(LOOPBACK, port))
        await asyncio.to_thread(daemon.await_count, connector, 1)
        await asyncio.to_thread(
            daemon.until, lambda: daemon.metric("inboxd_imap_missed_pushes_total") == 1, "the missed push"
        )


async def test_search_terms_the_server_does_not_know_park_the_connector(daemon: Daemon) -> None:
    async def searched(talk: Conversation, tag: str) -> None:
        await talk.send(f"{tag} BAD Unknown argument KEYWORD\r\n".encode())

    script = imap(
        {
            "CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR\r\n",
            "EXAMINE": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
            "UID SEARCH": searched,
        }
    )
    async with scripted(script) as port:
        await asyncio.to_thread(daemon.start)
        user = User("terms@example.test", "x", daemon.folder)
        server = Listener(LOOPBACK, port)
        connector = await asyncio.to_thread(lambda: daemon.connect(user, server, searchTerms="KEYWORD $Old"))
        parked = await asyncio.to_thread(daemon.await_state, connector, "parked")
        assert "search terms" in parked["reason"]
        assert "Unknown argument KEYWORD" in parked["reason"]


def test_what_was_known_of_a_connector_outlives_its_switching_off(daemon: Daemon, dovecot: Dovecot) -> None:
    daemon.start()
    connector = daemon.connect(dovecot.user(), dovecot.starttls)
    synced = daemon.await_state(connector, "idle")["lastSyncAt"]
    options = {"name": "off", "enabled": False}
    assert daemon.http("PUT", f"/connectors/{connector['id']}", options)[0] == 200
    off = daemon.await_state(connector, "off")
    assert off["lastSyncAt"] == synced
    assert off["lastServerActivityAt"]
    assert daemon.metric("inboxd_connector_up") == 0
    assert connector["id"] not in daemon.scrape()


def test_password_shows_nowhere_in_logs_events_answers_or_metrics(
    daemon: Daemon, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    user = dovecot.user(password=CANARY)
    smtp.users[user.name] = CANARY
    dovecot.append(user, SIMPLE)
    daemon.start()
    seen: list[object] = []
    good = daemon.connect(user, dovecot.tls, tls="implicit")
    bad = daemon.connect(user, dovecot.no_tls, password=CANARY + "x")
    connection = {
        "smtpHost": smtp.host,
        "smtpPort": smtp.port,
        "smtpUsername": user.name,
        "smtpPassword": CANARY,
        "startTls": True,
    }
    for connector in (good, bad):
        path = f"/connectors/{connector['id']}"
        seen.append(daemon.http("POST", f"{path}/smtp", connection))
        seen += [daemon.http("GET", f"{path}{tail}") for tail in ("", "/imap", "/smtp", "/sync-settings")]
        seen += [daemon.http("POST", f"{path}/{tail}") for tail in ("imap/test", "smtp/test", "sync?logging=true")]
        seen.append(daemon.http("POST", f"{path}/send", {"to": [user.name], "subject": "x", "body": "x"}))
        events = daemon.http("GET", f"{path}/events?size=100")[1]["content"]
        seen += [daemon.http("GET", f"/connectors/events/{event['id']}") for event in events]
    assert smtp.received
    daemon.await_state(bad, "parked")
    daemon.stop()
    shown = daemon.log + repr(seen)
    plain = base64.b64encode(f"\0{user.name}\0{CANARY}".encode()).decode()
    for secret in ("c4nary", plain, plain[30:-4], base64.b64encode(CANARY.encode()).decode()):
        assert secret not in shown
