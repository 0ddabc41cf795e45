"""The staged test of a connection: whatever fails, its step says so with cause and fix, and never the password."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inboxd.model import Account, Kind, Secret, Step, Tls
from inboxd.probe import probe
from inboxd.sections import ImapSettings, SmtpSettings
from inboxd.settings import Settings
from servers import LOOPBACK, free_port
from servers.certs import Certificates
from servers.dovecot import Dovecot
from servers.mailbox import serving
from servers.scripted import Conversation, Reply, imap, scripted
from servers.sessions import account
from servers.smtp import PASSWORD as SMTP_PASSWORD
from servers.smtp import USER as SMTP_USER
from servers.smtp import Fault, SmtpServer

PASSWORD = 'c4nary "pass\\word'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path,
        imap=ImapSettings(connect_seconds=0.6, command_seconds=0.4),
        smtp=SmtpSettings(connect_seconds=0.6, command_seconds=0.4),
    )


def on_port(port: int, tls: Tls = Tls.NONE, **changed: Any) -> Account:
    return replace(Account(None, Kind.IMAP, LOOPBACK, port, tls, "user", Secret(PASSWORD)), **changed)


async def probed(to: Account, settings: Settings) -> list[Step]:
    """All steps of a test; at most the last one failed, and none shows the password."""
    trace: list[str] = []
    async with asyncio.timeout(20):
        steps = [step async for step in probe(to, settings, trace.append)]
    assert all(step.ok for step in steps[:-1])
    assert all(step.seconds >= 0 for step in steps)
    password = to.password.reveal()
    plain = base64.b64encode(f"\0{to.username}\0{password}".encode()).decode()
    shown = "\n".join([repr(steps), *(step.detail for step in steps), *trace])
    for secret in (password, password.replace("\\", "\\\\").replace('"', '\\"'), plain):
        assert secret not in shown
    return steps


def failed(steps: list[Step]) -> Step:
    """The step that failed, which says what to do."""
    step = steps[-1]
    assert not step.ok
    assert step.detail
    assert step.cause
    assert step.fix
    return step


def says(answer: bytes) -> Reply:
    async def reply(conversation: Conversation, tag: str) -> None:
        await conversation.send(answer.replace(b"TAG", tag.encode()))

    return reply


async def drop(conversation: Conversation, _tag: str = "") -> None:
    conversation.close()


async def stall(conversation: Conversation, _tag: str = "") -> None:
    await conversation.closed()


# --- IMAP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "tls", "names"),
    [
        ("tls", Tls.IMPLICIT, ["tls", "greeting"]),
        ("starttls", Tls.STARTTLS, ["greeting", "tls"]),
        ("no_tls", Tls.NONE, ["greeting"]),
    ],
)
async def test_every_step_of_a_good_connection_is_shown(
    dovecot: Dovecot, trusted: Certificates, tmp_path: Path, listener: str, tls: Tls, names: list[str]
) -> None:
    user = dovecot.user(password=PASSWORD)
    steps = await probed(account(getattr(dovecot, listener), user, tls), Settings(state_dir=tmp_path))
    assert [step.name for step in steps] == ["resolve", "connect", *names, "capabilities", "login", "select", "idle"]
    assert all(step.ok and not step.cause and not step.fix and not step.diagnosis for step in steps)
    told = {step.name: step.detail for step in steps}
    assert told["resolve"] == getattr(dovecot, listener).host
    if tls is not Tls.NONE:
        assert told["tls"].startswith("TLSv1.3; certificate of ")
        assert told["tls"].endswith(trusted.good.pin)
    assert "IMAP4REV1" in told["capabilities"]
    assert told["login"] == "PLAIN"
    assert told["select"] == "INBOX: 0 messages, about 0 bytes"
    assert told["idle"] == "offered: IDLE, NOTIFY, CONDSTORE, QRESYNC"


@pytest.mark.parametrize(
    ("listener", "tls", "changed", "name", "words"),
    [
        ("tls", Tls.IMPLICIT, {"host": "no-such-host.invalid"}, "resolve", "does not resolve"),
        ("expired", Tls.IMPLICIT, {}, "tls", "expired"),
        ("wrong_name", Tls.IMPLICIT, {}, "tls", "mismatch"),
        ("starttls", Tls.IMPLICIT, {}, "tls", "TLS"),
        ("no_tls", Tls.STARTTLS, {}, "tls", "STARTTLS"),
        ("starttls", Tls.STARTTLS, {"password": Secret("wr0ng canary")}, "login", "AUTHENTICATIONFAILED"),
        ("starttls", Tls.STARTTLS, {"mechanisms": ("CRAM-MD5",)}, "login", "mechanism"),
        ("strict", Tls.NONE, {}, "login", ""),
        ("starttls", Tls.STARTTLS, {"select_folder": "Nowhere"}, "select", "Nowhere"),
        ("starttls", Tls.STARTTLS, {"select_folder": "No\r\nwhere"}, "select", "line breaks"),
    ],
)
async def test_each_mistake_fails_at_its_own_step(
    dovecot: Dovecot,
    trusted: Certificates,
    tmp_path: Path,
    listener: str,
    tls: Tls,
    changed: dict[str, Any],
    name: str,
    words: str,
) -> None:
    user = dovecot.user(password=PASSWORD)
    to = account(getattr(dovecot, listener), user, tls, **changed)
    step = failed(await probed(to, Settings(state_dir=tmp_path)))
    assert step.name == name
    assert words in step.detail


async def test_closed_port_fails_at_connect(settings: Settings) -> None:
    assert failed(await probed(on_port(free_port()), settings)).name == "connect"


@pytest.mark.parametrize(
    ("greeting", "tls"),
    [(b"* BYE too many connections\r\n", Tls.NONE), (b"220 mail ESMTP\r\n", Tls.NONE), (b"* PREAUTH hi\r\n", Tls.NONE)],
)
async def test_strange_greeting_fails_at_the_greeting(settings: Settings, greeting: bytes, tls: Tls) -> None:
    async with scripted(imap({}, greeting=greeting)) as port:
        assert failed(await probed(on_port(port, tls), settings)).name == "greeting"


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.IMPLICIT])
@pytest.mark.parametrize("fault", [drop, stall])
async def test_port_that_says_nothing_fails_at_the_greeting_or_tls(settings: Settings, fault: Any, tls: Tls) -> None:
    async with scripted(fault) as port:
        assert failed(await probed(on_port(port, tls), settings)).name in ("greeting", "tls")


@pytest.mark.parametrize("fault", [drop, stall, says(b"* 1 EXISTS\r\nTAG WHAT\r\n"), says(b"TAG BAD what\r\n")])
@pytest.mark.parametrize(
    ("command", "name"), [("CAPABILITY", "capabilities"), ("AUTHENTICATE", "login"), ("EXAMINE", "select")]
)
async def test_server_that_breaks_off_fails_at_the_step_under_way(
    settings: Settings, command: str, name: str, fault: Reply
) -> None:
    async with serving(1) as (mailbox, port):
        mailbox.answers[command] = fault
        assert failed(await probed(on_port(port), settings)).name == name


async def test_server_without_idle_passes_and_is_said_to_be_polled(settings: Settings) -> None:
    async with serving(1, capabilities="IMAP4rev1 AUTH=PLAIN") as (_, port):
        steps = await probed(on_port(port), settings)
    assert steps[-1].ok
    assert "polled" in steps[-1].detail


async def test_size_of_a_mailbox_is_counted_by_the_server(
    dovecot: Dovecot, trusted: Certificates, tmp_path: Path
) -> None:
    user = dovecot.user(password=PASSWORD)
    await asyncio.to_thread(dovecot.append, user, b"Subject: a\r\n\r\n" + b"x" * 200_000 + b"\r\n")
    steps = await probed(account(dovecot.starttls, user, Tls.STARTTLS), Settings(state_dir=tmp_path))
    assert steps[-2].detail == "INBOX: 1 message, about 0.2 MB"


async def test_size_of_a_mailbox_is_estimated_from_its_newest_mails(settings: Settings) -> None:
    async with serving(*range(1, 301)) as (mailbox, port):
        mailbox.answers["FETCH"] = says(
            b"* 300 FETCH (RFC822.SIZE 2000)\r\n* 299 FETCH (RFC822.SIZE 4000)\r\nTAG OK x\r\n"
        )
        steps = await probed(on_port(port), settings)
    assert "FETCH 201:300 (RFC822.SIZE)" in mailbox.lines
    assert steps[-2].detail == "INBOX: 300 messages, about 0.9 MB"


async def test_steps_are_told_while_the_test_goes_on(settings: Settings) -> None:
    """The greeting is shown before the login, which hangs, is over."""
    async with serving(1) as (mailbox, port):
        mailbox.answers["AUTHENTICATE"] = stall
        async for step in probe(on_port(port), settings, lambda _line: None):
            if step.name == "capabilities":
                assert mailbox.open == 1
                break
        else:
            raise AssertionError("it was not told")


async def test_probe_that_is_left_early_closes_its_connection(settings: Settings) -> None:
    async with serving(1) as (mailbox, port):
        async for step in probe(on_port(port), settings, lambda _line: None):
            if step.name == "login":
                break
        async with asyncio.timeout(5):
            while mailbox.open:  # noqa: ASYNC110  # the server's side announces nothing
                await asyncio.sleep(0)


# --- SMTP ------------------------------------------------------------------------------------------------------------


def smtp_account(server: SmtpServer, **changed: Any) -> Account:
    to = Account(None, Kind.SMTP, server.host, server.port, Tls.STARTTLS, SMTP_USER, Secret(SMTP_PASSWORD))
    return replace(to, **changed)


async def test_good_smtp_connection_passes(smtp: SmtpServer, trusted: Certificates, settings: Settings) -> None:
    steps = await probed(smtp_account(smtp), settings)
    names = ["resolve", "connect", "greeting", "ehlo", "tls", "login", "size"]
    assert [(step.name, step.ok) for step in steps] == [(name, True) for name in names]
    assert "50000000" in steps[3].detail
    assert steps[4].detail.startswith("TLSv1")
    assert steps[4].detail.endswith(trusted.good.pin)
    assert steps[5].detail.startswith("PLAIN: 235")
    assert steps[6].detail == "mails of up to 50.0 MB"


@pytest.mark.parametrize(
    ("changed", "answers", "name"),
    [
        ({"password": Secret("wr0ng canary")}, {}, "login"),
        ({"tls": Tls.IMPLICIT}, {}, "tls"),
        ({"local_host_name": "not a name\r\n"}, {}, "ehlo"),
        ({"mechanisms": ("NONSENSE",)}, {}, "login"),
        ({"username": "nul\0"}, {}, "login"),
        ({}, {"EHLO": "554 5.7.1 go away"}, "ehlo"),
        ({}, {"EHLO": Fault.DROP}, "ehlo"),
        ({}, {"STARTTLS": "454 4.7.0 not now"}, "tls"),
        ({}, {"STARTTLS": Fault.STALL}, "tls"),
        ({}, {"AUTH": "535 5.7.8 no"}, "login"),
        ({}, {"AUTH": Fault.DROP}, "login"),
    ],
)
async def test_each_mistake_with_smtp_fails_at_its_own_step(
    smtp: SmtpServer,
    trusted: Certificates,
    settings: Settings,
    changed: dict[str, Any],
    answers: dict[str, str | Fault],
    name: str,
) -> None:
    smtp.answers |= answers
    assert failed(await probed(smtp_account(smtp, **changed), settings)).name == name


async def test_wrong_certificate_of_an_smtp_server_fails_at_tls(smtp: SmtpServer, settings: Settings) -> None:
    step = failed(await probed(smtp_account(smtp), settings))
    assert (step.name, "certificate" in step.detail) == ("tls", True)


async def test_imap_server_that_repeats_the_password_is_not_quoted(settings: Settings) -> None:
    async def repeat(conversation: Conversation, tag: str) -> None:
        await conversation.send(f"{tag} NO I do not know ".encode(), conversation.received[-1], b"\r\n")

    for capabilities in ("IMAP4rev1", "IMAP4rev1 AUTH=PLAIN SASL-IR"):
        async with serving(1, capabilities=capabilities) as (mailbox, port):
            mailbox.answers |= {"LOGIN": repeat, "AUTHENTICATE": repeat}
            assert failed(await probed(on_port(port), settings)).name == "login"
