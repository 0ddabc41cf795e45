"""A login from the first question to the stored grant, over the control socket: what is asked for, refused, proved."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from api_site import Reply, Site, open_site
from inboxd.accounts import account_of
from inboxd.model import ConnectorId, Kind
from inboxd.store import grants
from inboxd.tokens import open_tokens
from servers import free_port
from servers.dovecot import Dovecot, User
from servers.oauth import CLIENT, CLIENT_SECRET, OauthServer


@dataclass
class Bench:
    """A connector that nobody has consented to, and its provider."""

    site: Site
    oauth: OauthServer
    user: User
    connector: dict[str, Any]

    @property
    def id(self) -> ConnectorId:
        return ConnectorId(UUID(self.connector["id"]))

    async def begin(self, **said: object) -> Reply:
        return await self.site.ask_control("POST", f"/control/connectors/{self.connector['id']}/oauth", said)

    async def by_device(self, user: str | None = None, **said: object) -> Reply:
        """A whole login with a code that `user` types in."""
        wish = {"provider": "other", "flow": "device", "clientId": CLIENT, **self.oauth.endpoints, **said}
        begun = await self.begin(**wish)
        assert begun.status == 200, begun.json
        self.oauth.consent(begun.json["userCode"], user or self.user.name)
        return await self.site.ask_control("POST", f"/control/oauth/{begun.json['login']}", {})

    async def stored(self) -> bool:
        return await grants.find(self.site.services.store, self.id) is not None


@pytest_asyncio.fixture
async def bench(tmp_path: Path, dovecot: Dovecot, oauth: OauthServer) -> AsyncGenerator[Bench]:
    async with open_site(tmp_path) as site:
        user = dovecot.user()
        made = await site.new_connector(name="work", emailAddress=user.name)
        way = {"imapHost": dovecot.no_tls.host, "imapPort": dovecot.no_tls.port, "imapSsl": False, "startTls": False}
        await site.ask("POST", f"/connectors/{made['id']}/imap", way | {"imapUsername": user.name})
        yield Bench(site, oauth, user, made)


async def test_an_application_opens_the_mailbox_by_its_secret_alone(bench: Bench) -> None:
    bench.oauth.secret, bench.oauth.app_user = CLIENT_SECRET, bench.user.name
    said = {"provider": "other", "flow": "client-credentials", "clientId": CLIENT, "scopes": [".default"]}
    begun = await bench.begin(**said, **bench.oauth.endpoints, clientSecret=CLIENT_SECRET)
    assert begun.json["grant"]["mailbox"] == bench.user.name
    assert b"canary" not in begun.body
    services = bench.site.services
    async with open_tokens(services.store, services.vault) as tokens:
        account = await account_of(services.store, services.vault, bench.id, Kind.IMAP)
        first = (await tokens.dressed(account)).bearer
        second = (await tokens.dressed(account, refused=first)).bearer
    assert first is not None
    assert second is not None
    assert first.token != second.token
    assert [form["grant_type"] for form in bench.oauth.asked] == ["client_credentials"] * 2
    again = await bench.begin()  # all is as it was said before
    assert again.json["grant"]["flow"] == "client-credentials"
    for moved in ({"clientId": "another"}, {"tokenUrl": f"{bench.oauth.url}/elsewhere"}):
        assert "clientSecret: is required" in (await bench.begin(**moved)).json["message"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "provider: is required for 127.0.0.2"),
        ({"provider": "yahoo"}, "provider: is one of google, microsoft, other"),
        ({"provider": "google", "flow": "device", "clientId": "x"}, "google gives mail to these flows: code, service-"),
        ({"provider": "microsoft"}, "clientId: is required"),
        ({"provider": "microsoft", "clientId": "x", "tenant": "a/b"}, "tenant: is a directory's id or domain"),
        ({"provider": "microsoft", "flow": "client-credentials", "clientId": "x"}, "clientSecret: is required"),
        (
            {"provider": "microsoft", "flow": "client-credentials", "clientId": "x", "clientSecret": "y"},
            "tenant: is required for this flow",
        ),
        ({"provider": "google", "flow": "service-account", "clientSecret": "{}"}, "keyFile: is not the JSON key"),
        ({"provider": "other", "clientId": "x"}, "tokenUrl: is required"),
        ({"provider": "other", "clientId": "x", "tokenUrl": "https://a.example/t"}, "authorizeUrl: is needed"),
        ({"provider": "other", "clientId": "x", "tokenUrl": "http://a.example/t"}, "tokenUrl: must begin with https:"),
        ({"provider": "google", "clientId": "x", "redirectUri": "http://b.example/"}, "redirectUri: must begin with"),
        ({"provider": "google", "clientId": "x", "scopes": ["a b"]}, "scopes: are words without spaces"),
    ],
)
async def test_what_is_missing_is_named(bench: Bench, said: dict[str, object], words: str) -> None:
    refused = await bench.begin(**said)
    assert refused.status == 400
    assert words in refused.json["message"]
    assert not bench.oauth.asked


async def test_a_page_is_the_providers_own_and_names_the_mailbox(bench: Bench) -> None:
    page = (await bench.begin(provider="microsoft", flow="code", clientId="x", redirectPort=4711)).json["page"]
    assert page.startswith("https://login.microsoftonline.com/common/oauth2/v2.0/authorize?response_type=code")
    for part in ("localhost%3A4711&", "IMAP.AccessAsUser.All", "offline_access", "code_challenge_method=S256"):
        assert part in page
    assert f"login_hint={bench.user.name.replace('@', '%40')}" in page


async def test_half_a_consent_is_none(bench: Bench) -> None:
    token = {"access_token": bench.oauth.issue(bench.user.name), "expires_in": "3600"}
    bench.oauth.answers.append((200, token))
    refused = await bench.by_device()
    assert (refused.status, "no refresh token" in refused.json["message"]) == (409, True)
    begun = await bench.begin(provider="google", flow="code", clientId=CLIENT, **bench.oauth.endpoints)
    bench.oauth.answers.append((200, token | {"refresh_token": "r", "scope": "openid email"}))
    back = bench.oauth.visit(begun.json["page"], bench.user.name)
    refused = await bench.site.ask_control("POST", f"/control/oauth/{begun.json['login']}", {"answer": back})
    assert "did not consent to https://mail.google.com/" in refused.json["message"]
    again = await bench.site.ask_control("POST", f"/control/oauth/{begun.json['login']}", {"answer": back})
    assert again.status == 404
    assert not await bench.stored()


async def test_whose_consent_it_is_is_asked_where_nothing_says_it(bench: Bench) -> None:
    bench.oauth.names_user = False
    identity = f"{bench.oauth.url}/userinfo"
    refused = await bench.by_device("stranger@example.test", identityUrl=identity)
    assert "given by stranger@example.test" in refused.json["message"]
    given = await bench.by_device(identityUrl=identity)
    assert given.json["grant"]["mailbox"] == bench.user.name


async def test_a_mail_server_that_is_away_proves_nothing_and_is_no_harm_to_a_known_owner(bench: Bench) -> None:
    away = {"imapHost": "127.0.0.1", "imapPort": free_port(), "imapSsl": False, "startTls": False}
    await bench.site.ask("POST", f"/connectors/{bench.connector['id']}/imap", away | {"imapUsername": bench.user.name})
    bench.oauth.names_user = False
    assert (await bench.by_device()).status == 502
    assert not await bench.stored()
    bench.oauth.names_user = True
    assert (await bench.by_device()).json["grant"]["state"] == "ok"


async def test_a_grant_shows_no_secret_and_only_on_the_control_socket(bench: Bench) -> None:
    await bench.by_device()
    path = f"/control/connectors/{bench.connector['id']}/oauth"
    shown = await bench.site.ask_control("GET", path)
    assert (shown.json["state"], shown.json["clientId"]) == ("ok", CLIENT)
    assert "canary" not in json.dumps((await bench.site.ask_control("GET", "/control/oauth")).json)
    assert (await bench.site.ask("GET", path)).status == 404
    assert (await bench.site.ask_control("DELETE", path)).status == 204
    assert (await bench.site.ask_control("DELETE", path)).status == 404
    assert not await bench.stored()
