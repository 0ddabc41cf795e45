"""Tokens shown to mail servers: both mechanisms on IMAP and SMTP, and the words with which one is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest

from inboxd import net
from inboxd.bearing import BEARER_MECHANISMS, bearing
from inboxd.dial import dial
from inboxd.errors import AuthRefused, Invalid
from inboxd.model import Account, Bearer, Kind, Secret, Tls, utc_now
from inboxd.settings import Settings
from inboxd.smtp.opening import open_session
from servers import Listener
from servers.dovecot import Dovecot
from servers.oauth import OauthServer
from servers.scripted import Scripted
from servers.smtp import SmtpServer, smtp_server


def account(kind: Kind, server: Listener | SmtpServer, user: str, token: str, *mechanisms: str) -> Account:
    bearer = Bearer(Secret(token), utc_now(), utc_now() + timedelta(hours=1))
    way = Account(None, kind, server.host, server.port, Tls.NONE, user, Secret(""), mechanisms=mechanisms)
    return replace(way, bearer=bearer)


@pytest.mark.parametrize("mechanism", BEARER_MECHANISMS)
async def test_dovecot_takes_the_token_and_names_what_is_wrong_with_another(
    dovecot: Dovecot, oauth: OauthServer, mechanism: str
) -> None:
    user = dovecot.user()
    good, lines = account(Kind.IMAP, dovecot.no_tls, user.name, oauth.issue(user.name), mechanism), list[str]()
    async with dial(good, Settings(), lines.append) as session:
        assert 3000 < session.left_seconds < 3600
    assert f"AUTHENTICATE {mechanism} ***" in "\n".join(lines)
    with pytest.raises(AuthRefused, match="status (401|invalid_token)") as refused:
        async with dial(replace(good, bearer=account(Kind.IMAP, dovecot.no_tls, "", "bad").bearer), Settings()):
            pass
    assert refused.value.stage == "login"
    assert not any(secret in "\n".join(lines) + str(refused.value) for secret in spelt(good))


@pytest.mark.parametrize("mechanism", BEARER_MECHANISMS)
@pytest.mark.parametrize("length", [40, 900])  # the longer one has no room beside AUTH, and is asked for
async def test_smtp_takes_the_token_and_names_what_is_wrong_with_another(mechanism: str, length: int) -> None:
    token = "t" * length
    with smtp_server(bears=lambda user, shown: (user, shown) == ("a=b,c@example.test", token)) as server:
        good, lines = account(Kind.SMTP, server, "a=b,c@example.test", token, mechanism), list[str]()
        await log_in(good, lines)
        with pytest.raises(AuthRefused, match=r"535 .*\(status 401, schemes bearer mac"):
            await log_in(replace(good, username="other@example.test"), lines)
        with pytest.raises(AuthRefused, match="the server offers only"):
            await log_in(replace(good, mechanisms=("PLAIN",)), lines)
    assert not any(secret in "\n".join(lines) for secret in spelt(good))


async def log_in(way: Account, lines: list[str]) -> None:
    sock = await net.connect_account(way, 5, allow_plaintext=True)
    async with open_session(sock, way, Settings().smtp, None, lines.append):
        pass


def spelt(way: Account) -> list[str]:
    assert way.bearer is not None
    return [form.decode() for name in BEARER_MECHANISMS for form in bearing(name, way, way.bearer).spellings]


async def test_a_server_without_initial_responses_is_answered_when_it_asks() -> None:
    complaint = base64.b64encode(b'{"status":"400","schemes":"Bearer"}').decode()
    script = [
        "* OK ready",
        ("CAPABILITY", "* CAPABILITY IMAP4rev1 AUTH=XOAUTH2", "{tag} OK done"),
        ("AUTHENTICATE XOAUTH2", "+ "),
        ("dXNlcj1", f"+ {complaint}"),
        ("", "{tag} NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"),
    ]
    async with Scripted(script) as server:
        with pytest.raises(AuthRefused, match=r"Invalid credentials \(Failure\) \(status 400, schemes Bearer\)"):
            async with dial(account(Kind.IMAP, server, "user@example.test", "token"), Settings()):
                pass


@pytest.mark.parametrize("user", ["", "a\x01auth=Bearer x", "a\r\nb"])
def test_a_user_name_cannot_change_the_message(user: str) -> None:
    for mechanism in BEARER_MECHANISMS:
        way = account(Kind.IMAP, Listener("127.0.0.1", 1), user, "token")
        assert way.bearer is not None
        with pytest.raises(Invalid, match="username"):
            bearing(mechanism, way, way.bearer)
