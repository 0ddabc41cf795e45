"""Tokens shown to mail servers: both mechanisms on IMAP and SMTP, and the words with which one is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest

from inboxd import net
from inboxd.bearing import BEARER_MECHANISMS, bearing
from inboxd.budgets import Budgets
from inboxd.dial import dial
from inboxd.errors import AuthRefused, Invalid
from inboxd.imap.protocol import Trace
from inboxd.model import Account, Bearer, Kind, Secret, Tls, utc_now
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session
from servers import LOOPBACK, Listener
from servers.dovecot import Dovecot
from servers.oauth import OauthServer
from servers.scripted import Conversation, imap, scripted
from servers.smtp import SmtpServer, smtp_server

SETTINGS = Settings()


def account(kind: Kind, server: Listener | SmtpServer, user: str, token: str, *mechanisms: str) -> Account:
    bearer = Bearer(Secret(token), utc_now(), utc_now() + timedelta(hours=1))
    way = Account(None, kind, server.host, server.port, Tls.NONE, user, Secret(""), mechanisms=mechanisms)
    return replace(way, bearer=bearer)


async def look(way: Account, trace: Trace | None = None) -> float:
    """Log in; for how long the session may last."""
    async with dial(way, SETTINGS, Budgets(SETTINGS.imap), trace=trace) as session:
        return session.left_seconds


@pytest.mark.parametrize("mechanism", BEARER_MECHANISMS)
async def test_dovecot_takes_the_token_and_names_what_is_wrong_with_another(
    dovecot: Dovecot, oauth: OauthServer, mechanism: str
) -> None:
    user = dovecot.user()
    good, lines = account(Kind.IMAP, dovecot.no_tls, user.name, oauth.issue(user.name), mechanism), list[str]()
    assert 3000 < await look(good, lines.append) < 3600
    assert f"AUTHENTICATE {mechanism} ***" in "\n".join(lines)
    with pytest.raises(AuthRefused, match=r"status (401|invalid_token)") as refused:
        await look(account(Kind.IMAP, dovecot.no_tls, user.name, "bad", mechanism))
    assert refused.value.stage == "login"
    assert not any(secret in "\n".join(lines) + str(refused.value) for secret in spelt(good))


@pytest.mark.parametrize("mechanism", BEARER_MECHANISMS)
@pytest.mark.parametrize("length", [40, 450])  # the longer one has no room beside AUTH, and is asked for
async def test_smtp_takes_the_token_and_names_what_is_wrong_with_another(mechanism: str, length: int) -> None:
    token = "t" * length
    with smtp_server(bears=lambda user, shown: (user, shown) == ("a=b,c@example.test", token)) as server:
        good, lines = account(Kind.SMTP, server, "a=b,c@example.test", token, mechanism), list[str]()
        await log_in(good, lines)
        with pytest.raises(AuthRefused, match=r"535 .*\(status 401, schemes bearer mac"):
            await log_in(replace(good, username="other@example.test"), lines)
        with pytest.raises(Invalid, match="none of PLAIN logs in by an OAuth2 token"):
            await log_in(replace(good, mechanisms=("PLAIN",)), lines)
    assert not any(secret in "\n".join(lines) for secret in spelt(good))


async def log_in(way: Account, lines: list[str]) -> None:
    sock = await net.connect_account(way, 5, allow_plaintext=True)
    async with open_session(sock, way, SETTINGS.smtp, None, lines.append):
        pass


def spelt(way: Account) -> list[str]:
    assert way.bearer is not None
    return [form.decode() for name in BEARER_MECHANISMS for form in bearing(name, way, way.bearer).spellings]


async def test_a_server_without_initial_responses_is_answered_when_it_asks() -> None:
    complaint = base64.b64encode(b'{"status":"400","schemes":"Bearer"}')
    heard: list[bytes] = []

    async def refuse(conversation: Conversation, tag: str) -> None:
        await conversation.send(b"+ \r\n")
        heard.append(await conversation.line())
        await conversation.send(b"+ " + complaint + b"\r\n")
        heard.append(await conversation.line())
        await conversation.send(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\r\n".encode())

    offer = b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\r\n"
    async with scripted(imap({"CAPABILITY": offer, "AUTHENTICATE XOAUTH2$": refuse})) as port:
        way = account(Kind.IMAP, Listener(LOOPBACK, port), "user@example.test", "token")
        with pytest.raises(AuthRefused, match=r"Invalid credentials \(Failure\) \(status 400, schemes Bearer\)"):
            await look(way)
    assert heard == [base64.b64encode(b"user=user@example.test\x01auth=Bearer token\x01\x01"), b""]


@pytest.mark.parametrize("user", ["", "a\x01auth=Bearer x", "a\r\nb"])
def test_a_user_name_cannot_change_the_message(user: str) -> None:
    for mechanism in BEARER_MECHANISMS:
        way = account(Kind.IMAP, Listener("127.0.0.1", 1), user, "token")
        assert way.bearer is not None
        with pytest.raises(Invalid, match="username"):
            bearing(mechanism, way, way.bearer)
