"""Tokens are renewed ahead of their end, once for all who ask, and kept before they are used; on both databases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.accounts import open_account
from inboxd.consents import Application, Endpoints, Flow, Grant, Issued
from inboxd.errors import AuthRefused, NeedsReauth, StoreError, TokenUnavailable
from inboxd.model import Account, Bearer, Connector, Kind, Tls, Window, utc_now
from inboxd.oauth import flows
from inboxd.store import connectors, events, grants
from inboxd.store.engine import Store
from inboxd.tokens import Tokens, open_tokens, place_of, sealed, way_of
from inboxd.vault import Vault
from servers.oauth import AWAY, CLIENT, OauthServer
from servers.stores import make_connection, make_connector, make_inbox

VAULT = Vault(b"k" * 32)
USER = "user@example.test"


@dataclass
class Bench:
    """A connector with a grant of the provider's, and its tokens."""

    store: Store
    provider: OauthServer
    connector: Connector
    account: Account
    tokens: Tokens

    async def grant(self) -> Grant:
        found = await grants.find(self.store, self.connector.id)
        assert found is not None
        return found

    async def give(self, left_seconds: float = 3600.0) -> Grant:
        """A consent whose access token, made to live an hour, has so much of it left."""
        asking = Application("other", Flow.DEVICE, CLIENT, None, endpoints(self.provider), ("mail",))
        code = await flows.begin_device(asking)
        self.provider.consent(code.user_code, USER)
        issued = await flows.poll_device(asking, code)
        assert isinstance(issued, Issued)
        self.provider.asked.clear()
        now = utc_now()
        grant = Grant(
            id=uuid4(), connector_id=self.connector.id, created_at=now, provider="other", flow=Flow.DEVICE,
            client_id=CLIENT, token_url=asking.endpoints.token, authorize_url=None, device_url=None, identity_url=None,
            scopes=("mail",), subject=None, mailbox=USER, hosts=(way_of(self.account),), sealed_client_secret=None,
            sealed_refresh_token=None, sealed_access_token=b"",
            obtained_at=now - timedelta(seconds=3600 - left_seconds), expires_at=now + timedelta(seconds=left_seconds),
        )  # fmt: skip
        grant = sealed(VAULT, grant, issued)
        await grants.put(self.store, grant)
        connection = await connectors.connection(self.store, self.connector.id, Kind.IMAP)
        assert connection is not None
        self.account = open_account(VAULT, connection)
        return grant

    async def token(self, refused: Bearer | None = None) -> Bearer:
        dressed = await self.tokens.dressed(self.account, refused=refused)
        assert dressed.bearer is not None
        return dressed.bearer


def endpoints(provider: OauthServer) -> Endpoints:
    urls = provider.endpoints
    return Endpoints(urls["tokenUrl"], urls["authorizeUrl"], urls["deviceUrl"])


@pytest_asyncio.fixture
async def bench(store: Store, provider: OauthServer) -> AsyncGenerator[Bench]:
    inbox = make_inbox()
    connector = make_connector(inbox, "my work")
    connection = replace(make_connection(connector.id), sealed_password=None)
    await connectors.add(store, connector, inbox=inbox, connections=(connection,))
    async with open_tokens(store, VAULT) as tokens:
        yield Bench(store, provider, connector, open_account(VAULT, connection), tokens)


async def test_many_who_ask_at_once_make_one_renewal_that_is_kept_before_it_is_used(bench: Bench) -> None:
    bench.provider.rotates = True
    before = await bench.give(left_seconds=0.5)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(bench.token()) for _ in range(20)]
    assert len({task.result().token for task in asked}) == 1
    assert len(bench.provider.asked) == 1
    after = await bench.grant()
    assert (after.id, after.version, after.refused) == (before.id, before.version + 1, None)
    kept = VAULT.open(after.sealed_access_token, place_of(after.id, "access_token"))
    assert kept == asked[0].result().token
    assert after.sealed_refresh_token is not None
    assert VAULT.open(after.sealed_refresh_token, place_of(after.id, "refresh_token")).reveal().startswith("refresh-")
    assert await bench.token() == asked[0].result()
    assert len(bench.provider.asked) == 1
    assert not await grants.renew(bench.store, replace(after, version=after.version))  # as another daemon would, late


async def test_a_token_refused_while_it_looks_fresh_is_renewed_once_for_all(bench: Bench) -> None:
    await bench.give()
    stale = await bench.token()
    assert not bench.provider.asked
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(bench.token(stale)) for _ in range(5)]
    assert all(task.result().token != stale.token for task in asked)
    assert len(bench.provider.asked) == 1


async def test_who_is_cancelled_loses_no_rotated_refresh_token(bench: Bench) -> None:
    bench.provider.rotates = True
    await bench.give(left_seconds=0.5)
    bench.provider.hold = threading.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(bench.token())
        await asyncio.to_thread(bench.provider.held.wait, 10)
        asking.cancel()
    bench.provider.hold.set()
    bench.provider.hold = None
    await bench.token()
    assert len(bench.provider.asked) == 1
    assert (await bench.grant()).version == 2


async def test_tokens_that_could_not_be_kept_are_kept_before_any_other_is_asked_for(bench: Bench) -> None:
    bench.provider.rotates = True
    await bench.give(left_seconds=0.5)

    async def rename(connection: AsyncConnection, name: str, other: str) -> None:
        await connection.execute(text(f"ALTER TABLE grants RENAME COLUMN {name} TO {other}"))

    bench.provider.hold = threading.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(failure(bench))
        await asyncio.to_thread(bench.provider.held.wait, 10)
        await bench.store.write(lambda connection: rename(connection, "sealed_refresh_token", "gone"))
        bench.provider.hold.set()
    assert isinstance(asking.result(), StoreError)
    await bench.store.write(lambda connection: rename(connection, "gone", "sealed_refresh_token"))
    await bench.token()
    assert len(bench.provider.asked) == 1


async def failure(bench: Bench) -> Exception:
    try:
        await bench.token()
    except (StoreError, AuthRefused, TokenUnavailable) as error:
        return error
    raise AssertionError("there was a token")


async def test_an_ended_consent_is_told_once_and_asked_for_no_more(bench: Bench) -> None:
    await bench.give(left_seconds=0.5)
    bench.provider.revoke()
    told = {str(await failure(bench)) for _ in range(3)}
    assert len(told) == 1
    assert told.pop().endswith("; mend it with: inboxctl oauth login 'my work'")
    assert len(bench.provider.asked) == 1
    page = await events.page(bench.store, Window(), connector_id=bench.connector.id)
    assert [event.message is not None and "invalid_grant" in event.message for event in page.rows] == [True]
    assert isinstance(await failure(bench), NeedsReauth)
    await bench.give()
    assert await bench.token()


async def test_a_provider_that_is_away_changes_nothing(bench: Bench) -> None:
    before = await bench.give(left_seconds=0.5)
    bench.provider.answers.append(AWAY)
    assert isinstance(await failure(bench), TokenUnavailable)
    assert await bench.grant() == before
    assert await bench.token()


async def test_a_token_goes_to_no_other_server_and_on_no_other_way(bench: Bench) -> None:
    await bench.give()
    host = bench.account.host
    for changed, way in (
        ({"host": "mail.attacker.example"}, "mail.attacker.example"),
        ({"tls": Tls.NONE}, f"{host} in clear"),
        ({"ssl_trust": f"other.example, {host}"}, f"{host} unverified"),
    ):
        account = replace(bench.account, **changed)
        with pytest.raises(AuthRefused, match=f"the consent is for {host} and not for {way}; mend it with"):
            await bench.tokens.dressed(account)


async def test_a_sealed_token_opens_at_its_own_place_alone(bench: Bench) -> None:
    grant = await bench.give()
    stolen = replace(grant, id=uuid4())
    with pytest.raises(Exception, match="was changed or belongs to another row"):
        VAULT.open(stolen.sealed_access_token, place_of(stolen.id, "access_token"))
    assert b"canary" not in grant.sealed_access_token
    await connectors.remove(bench.store, bench.connector.id)
    assert await grants.every(bench.store) == []


async def test_those_are_awaited_who_have_neither_a_password_nor_its_source_nor_a_consent(bench: Bench) -> None:
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"sealed_password": None, "password_source": "file:/x"},
        {"sealed_password": None, "username": None},
    )
    for at, way in enumerate(ways):
        connector = make_connector(inbox := make_inbox(), f"other {at}")
        connection = replace(make_connection(connector.id), **way)
        await connectors.add(bench.store, connector, inbox=inbox, connections=(connection,))
    assert await grants.awaited(bench.store) == {bench.connector.id}
    await bench.give()
    assert await grants.awaited(bench.store) == frozenset()
