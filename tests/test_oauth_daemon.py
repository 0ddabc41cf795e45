"""OAuth2 as an operator lives with it: inboxctl, the daemon, a provider, and mail servers that take its tokens."""

from __future__ import annotations

import collections
import itertools
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

import pytest

import corpus
from inboxd.ctl_client import Refused
from servers.daemon import Daemon
from servers.dovecot import Dovecot, User
from servers.oauth import CLIENT, CLIENT_SECRET, Login, OauthServer
from servers.smtp import SmtpServer, smtp_server

DISCONNECTS = "inboxd_imap_disconnects_total"
SUFFERED = ("lost", "bye", "auth", "token", "needs_reauth", "error", "stalled", "protocol")


def add(daemon: Daemon, dovecot: Dovecot, user: User, smtp: SmtpServer | None = None) -> dict[str, Any]:
    """A connector `work` that waits for its consent."""
    place = ("--imap-host", dovecot.no_tls.host, "--imap-port", str(dovecot.no_tls.port), "--imap-tls", "none")
    if smtp is not None:
        place += ("--smtp-host", smtp.host, "--smtp-port", str(smtp.port), "--smtp-tls", "none")
    daemon.ctl("connector", "add", "work", "--email", user.name, "--oauth", *place)
    row: dict[str, Any] = daemon.client.page("/connectors")["content"][0]
    return row


@contextmanager
def login(daemon: Daemon, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """`inboxctl oauth login`, with which a test talks as a person does."""
    command = [sys.executable, "-c", "from inboxd.ctl import main; main()", "--socket", str(daemon.socket)]
    with subprocess.Popen(
        [*command, "oauth", "login", "work", *arguments],
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(stream: IO[str] | None, wanted: str) -> str:
    """The next line that holds `wanted`, without blanks around it."""
    assert stream is not None
    return next(line.strip() for line in stream if wanted in line)


def consent(daemon: Daemon, oauth: OauthServer, connector: dict[str, Any], user: str, **said: object) -> dict[str, Any]:
    """A login with a code that `user` types in, over the control socket; the grant."""
    wish = {"provider": "other", "flow": "device", "clientId": CLIENT, **oauth.endpoints, "scopes": ["mail"], **said}
    begun = daemon.client.call("POST", f"/control/connectors/{connector['id']}/oauth", wish)
    oauth.consent(begun["userCode"], user)
    grant: dict[str, Any] = daemon.client.call("POST", f"/control/oauth/{begun['login']}", {})["grant"]
    return grant


def refusal(daemon: Daemon, oauth: OauthServer, connector: dict[str, Any], user: str, **said: object) -> str:
    """The words with which such a login is refused."""
    with pytest.raises(Refused) as refused:
        consent(daemon, oauth, connector, user, **said)
    return refused.value.message


def test_a_code_typed_in_elsewhere_opens_the_mailbox_both_ways(
    oauth: OauthServer, dovecot: Dovecot, daemon: Daemon
) -> None:
    user = dovecot.user()
    with smtp_server(bears=oauth.bears) as smtp:
        daemon.start()
        connector = add(daemon, dovecot, user, smtp)
        parked = daemon.await_state(connector, "parked")
        assert parked["reason"].endswith("give one with: inboxctl oauth login work")
        options = ("--provider", "other", "--flow", "device", "--client-id", CLIENT, "--scope", "mail")
        with login(daemon, *options, *oauth.options) as process:
            oauth.consent(said(process.stderr, "ABCD"), user.name)
            assert user.name in process.communicate(timeout=60)[0]
        daemon.await_state(connector, "idle")
        dovecot.append(user, corpus.message(1))
        daemon.await_count(connector, 1)
        daemon.ctl("send", "work", "--to", "you@example.test", "--subject", "hello", "--text", "hello")
        assert smtp.wait_for(1)[0].login == user.name
        assert "work" in daemon.ctl("oauth", "status")
        daemon.ctl("test", "work")
        daemon.ctl("oauth", "logout", "work")
        daemon.await_state(connector, "parked")


def test_a_page_leads_back_to_inboxctl_or_its_address_is_pasted(
    oauth: OauthServer, dovecot: Dovecot, daemon: Daemon
) -> None:
    user, oauth.secret = dovecot.user(), CLIENT_SECRET
    secret_file = daemon.folder / "secret"
    secret_file.write_text(f"{CLIENT_SECRET}\n")
    daemon.start()
    connector = add(daemon, dovecot, user)
    flow = ("--flow", "code", "--client-id", CLIENT, "--client-secret-file", str(secret_file))
    with login(daemon, "--provider", "other", *flow, *oauth.options) as process:
        back = oauth.visit(said(process.stderr, f"{oauth.url}/authorize"), user.name)
        with urllib.request.urlopen(back, timeout=15) as answer:
            assert b"You can close this page" in answer.read()
        assert user.name in process.communicate(timeout=60)[0]
    daemon.await_state(connector, "idle")
    with login(daemon) as process:  # what was said before need not be said again
        back = oauth.visit(said(process.stderr, f"{oauth.url}/authorize"), user.name)
        assert process.stdin is not None
        process.stdin.write(back.replace("state=", "state=x") + "\n")
        process.stdin.flush()
        assert "belongs to another login" in said(process.stderr, "state")
        out, err = process.communicate(back + "\n", timeout=60)
        assert user.name in out, err
    assert all(form["client_secret"] == CLIENT_SECRET for form in oauth.asked)
    assert no_secret_in(daemon, oauth)


def no_secret_in(daemon: Daemon, oauth: OauthServer) -> bool:
    """Whether no token or client secret is to be found where it must not be."""
    texts = [daemon.log, daemon.scrape(), *(str(page) for page in daemon.client.page("/connectors/events")["content"])]
    files = [path for path in daemon.state_dir.rglob("*") if path.is_file()]
    assert any(b"SQLite format" in path.read_bytes()[:16] for path in files)
    texts += [path.read_bytes().decode("latin-1") for path in files]
    found = [one for one in ("canary", CLIENT_SECRET) if any(one in text for text in texts)]
    return bool(oauth.asked) and not found


def test_an_ended_consent_is_asked_for_once_and_given_anew_by_one_line(
    oauth: OauthServer, dovecot: Dovecot, daemon: Daemon
) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, dovecot.no_tls, password="")
    oauth.life_seconds = 2.0
    consent(daemon, oauth, connector, user.name)
    oauth.revoke()
    status = daemon.await_state(connector, "needs_reauth")
    assert "invalid_grant: Token has been expired or revoked." in status["reason"]
    line = status["reason"].rpartition("inboxctl ")[2]
    assert line == f"oauth login {connector['name']}"
    asked = len(oauth.asked)
    assert daemon.metric("inboxd_connector_parked", reason="needs_reauth") == 1
    assert daemon.metric("inboxd_oauth_refreshes_total", result="refused") == 1
    told = [event["message"] for event in daemon.client.page("/connectors/events")["content"]]
    assert sum("invalid_grant" in (message or "") for message in told) == 1
    daemon.stop()
    daemon.start()
    daemon.await_state(connector, "needs_reauth")
    assert daemon.client.get("/control/oauth")[0]["state"] == "needs_reauth"
    _, result = daemon.http("POST", f"/connectors/{connector['id']}/sync")
    assert "inboxctl oauth login" in result["exception"]
    assert len(oauth.asked) == asked
    oauth.life_seconds = 3600.0
    consent(daemon, oauth, connector, user.name)
    dovecot.append(user, corpus.message(1))
    daemon.await_count(connector, 1)
    assert daemon.metric("inboxd_connector_parked") == 0


def test_another_mailbox_takes_no_connectors_place(oauth: OauthServer, dovecot: Dovecot, daemon: Daemon) -> None:
    user, other = dovecot.user(), dovecot.user("other")
    daemon.start()
    connector = daemon.connect(user, dovecot.no_tls, password="")
    consent(daemon, oauth, connector, user.name)
    stranger = refusal(daemon, oauth, connector, other.name)
    assert f"given by {other.name}, and this connector is for {user.name}" in stranger
    oauth.names_user = False  # then the mailbox itself has to tell
    assert f"does not open {user.name}" in refusal(daemon, oauth, connector, other.name)
    oauth.names_user = True
    assert f"does not open {user.name}" in refusal(daemon, oauth, connector, other.name, otherMailbox=True)
    assert daemon.client.get(f"/control/connectors/{connector['id']}/oauth")["mailbox"] == user.name
    dovecot.append(user, corpus.message(1))
    daemon.await_count(connector, 1)


def start(login: Login) -> float:
    """When it was."""
    return login.at


def test_mail_keeps_coming_while_tokens_live_for_seconds(oauth: OauthServer, dovecot: Dovecot, daemon: Daemon) -> None:
    user = dovecot.user()
    daemon.start()
    dovecot.doveadm("mailbox", "create", "-u", user.name, "Other")
    connector = daemon.connect(user, dovecot.no_tls, password="", folders=["*"])
    oauth.life_seconds, oauth.rotates = 6.0, True
    consent(daemon, oauth, connector, user.name)
    daemon.await_state(connector, "idle")
    before = {reason: daemon.metric(DISCONNECTS, reason=reason) for reason in SUFFERED}
    for number in range(25):
        dovecot.append(user, corpus.message(number), ("INBOX", "Other")[number % 2])
        time.sleep(0.6)  # the pace of the mail, not a wait for anything
    daemon.await_count(connector, 25, oauth.life_seconds + 3)
    logins = [one for one in oauth.logins if one.ok][1:]  # without the one that proved the consent
    by_token = collections.Counter(one.token for one in logins)
    assert len(by_token) >= 3
    assert max(by_token.values()) <= 3, by_token  # one session for each of the two connections, no more than by plan
    first_of = {one.token: one for one in reversed(logins)}
    lives = [one.expires_at - after.at for one, after in itertools.pairwise(sorted(first_of.values(), key=start))]
    assert min(lives) > 0, f"a token ended before the next one was used: {lives}"
    assert daemon.metric(DISCONNECTS, reason="renewed") >= 4
    assert before == {reason: daemon.metric(DISCONNECTS, reason=reason) for reason in SUFFERED}
    oauth.away = True
    daemon.until(lambda: "session_kept" in daemon.log, "the session to outlast its time")
    dovecot.append(user, corpus.message(99))
    daemon.await_count(connector, 26)
    assert daemon.metric("inboxd_oauth_refreshes_total", result="refused") == 0


def test_a_kill_between_the_answer_and_the_commit_loses_no_consent(
    oauth: OauthServer, dovecot: Dovecot, daemon: Daemon
) -> None:
    user = dovecot.user()
    daemon.start()
    connector = daemon.connect(user, dovecot.no_tls, password="")
    oauth.life_seconds = 2.0
    consent(daemon, oauth, connector, user.name)
    oauth.held.clear()
    oauth.hold = threading.Event()
    assert oauth.held.wait(20)  # the provider has made the next tokens, and nobody has heard of them
    daemon.stop(signal.SIGKILL)
    oauth.hold.set()
    oauth.hold = None
    oauth.life_seconds = 3600.0
    daemon.start()
    dovecot.append(user, corpus.message(1))
    daemon.await_count(connector, 1)
    assert daemon.metric("inboxd_oauth_refreshes_total", result="ok") == 1
