"""OAuth2 access tokens for whoever logs in: renewed ahead of their end, by one at a time for each grant.

A renewed grant is committed before its token is used, so that a refresh token which the provider has replaced is never
the only one that is known. Should the daemon be killed between the provider's answer and the commit, the old one is
tried again: Google and Microsoft still take it; where it is good for one use, the consent has ended (`NeedsReauth`).
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar, final
from uuid import UUID, uuid4

from inboxd import logs, metrics
from inboxd.consents import Application, Grant, Issued
from inboxd.errors import AuthRefused, ConsentRefused, InboxdError, NeedsReauth, TokenUnavailable
from inboxd.model import (
    Account,
    Bearer,
    Connection,
    ConnectorId,
    Event,
    EventId,
    EventStatus,
    EventType,
    Secret,
    Tls,
    utc_now,
)
from inboxd.oauth import flows
from inboxd.store import connectors, grants
from inboxd.store.engine import Store
from inboxd.vault import Vault

S = TypeVar("S")
# A token with less than this of its life left, or a fifth of it if that is less, is renewed before it is used.
_FRESH_SECONDS: Final = 600.0
_FRESH_PART: Final = 0.2
# A session ends so long before its token does, or a tenth of the token's life if that is less.
_SPARE_SECONDS: Final = 60.0
_SPARE_PART: Final = 0.1
_ROUNDS: Final = 3  # renewals that another daemon was quicker with, before it is left for later
_log = logs.logger("tokens")


@final
class Tokens:
    """The tokens of one daemon's grants. Renewals run as tasks of their own: no caller's cancellation loses one."""

    def __init__(self, store: Store, vault: Vault, tasks: asyncio.TaskGroup) -> None:
        self._store = store
        self._vault = vault
        self._tasks = tasks
        self._flights: dict[UUID, _Flight] = {}
        self._unwritten: dict[UUID, Grant] = {}

    async def enter(
        self, stack: AsyncExitStack, account: Account, opening: Callable[[Account], AbstractAsyncContextManager[S]]
    ) -> S:
        """The session that `opening` makes, with a token if the account has a grant.

        A token that is refused though it looked fresh is renewed, and tried once more. As `dressed`, and what
        `opening` raises.
        """
        dressed = await self.dressed(account)
        try:
            return await stack.enter_async_context(opening(dressed))
        except AuthRefused:
            if dressed.bearer is None:
                raise
            dressed = await self.dressed(account, refused=dressed.bearer)
            return await stack.enter_async_context(opening(dressed))

    async def dressed(self, account: Account, *, refused: Bearer | None = None) -> Account:
        """The account with a token that is good for a while, and not the `refused` one; itself without a grant.

        NeedsReauth when only a person can help, TokenUnavailable when the provider gives none now, AuthRefused when the
        grant is not for this server; StoreError, SecretUnreadable.
        """
        if account.grant_id is None or account.connector_id is None:
            await self._check_password(account)
            return account
        for _ in range(_ROUNDS):
            grant = await grants.find(self._store, account.connector_id)
            if grant is None:
                return replace(account, grant_id=None)
            await self._check(grant, account)
            bearer = self._bearer(grant)
            if _is_fresh(bearer) and (refused is None or bearer.token != refused.token):
                metrics.TOKEN_EXPIRY.labels(str(grant.connector_id)).set(bearer.expires_at.timestamp())
                return replace(account, grant_id=grant.id, bearer=bearer)
            await self._renewed(grant)
        raise TokenUnavailable("token", "the tokens change faster than they can be read")

    async def _check_password(self, account: Account) -> None:
        if account.connector_id is None or not account.username or account.password.reveal():
            return
        name = await self._name(account.connector_id)
        raise AuthRefused(
            "token", f"there is neither a password nor an OAuth2 consent; give one with: inboxctl oauth login {name}"
        )

    async def _name(self, connector_id: ConnectorId) -> str:
        connector = await connectors.get(self._store, connector_id)
        return shlex.quote(connector.name or str(connector.id))

    async def _check(self, grant: Grant, account: Account) -> None:
        if grant.refused is not None:
            raise NeedsReauth(
                "token", await self._cure(grant, f"the mailbox's owner has to consent anew ({grant.refused})")
            )
        if (way := way_of(account)) not in grant.hosts:
            words = f"the consent is for {', '.join(grant.hosts)} and not for {way}"
            raise AuthRefused("token", await self._cure(grant, words))

    async def _cure(self, grant: Grant, words: str) -> str:
        """The words, and the one line that mends it."""
        return f"{words}; mend it with: inboxctl oauth login {await self._name(grant.connector_id)}"

    # --- renewing -----------------------------------------------------------------------------------------------------

    async def _renewed(self, grant: Grant) -> None:
        """Return once the grant was renewed, by this call or one under way; raise what came of that."""
        flight = self._flights.get(grant.id)
        if flight is None:
            flight = self._flights[grant.id] = _Flight()
            flight.task = self._tasks.create_task(self._fly(flight, grant))
        assert flight.task is not None
        await asyncio.shield(flight.task)
        if flight.error is not None:
            raise flight.error

    async def _fly(self, flight: _Flight, grant: Grant) -> None:
        try:
            await self._renew(grant)
        except InboxdError as error:
            flight.error = error
        # As in the supervisor: whatever is wrong with one provider's answers must never end the other grants' tasks.
        except Exception as error:  # noqa: BLE001
            _log.exception("renewal_crashed", connector=str(grant.connector_id))
            flight.error = TokenUnavailable("token", f"internal error ({type(error).__name__})")
        finally:
            del self._flights[grant.id]

    async def _renew(self, grant: Grant) -> None:
        current = await grants.find(self._store, grant.connector_id)
        if current is None or (current.id, current.version) != (grant.id, grant.version):
            return  # it was renewed, or replaced, since it was read
        unwritten = self._unwritten.get(grant.id)
        renewed = unwritten if unwritten is not None and unwritten.version == grant.version + 1 else None
        if renewed is None:
            renewed = self._unwritten[grant.id] = await self._ask(grant)
        await grants.renew(self._store, renewed)  # a StoreError leaves it for the next call
        self._unwritten.pop(grant.id, None)

    async def _ask(self, grant: Grant) -> Grant:
        asked_at = utc_now()
        try:
            issued = await self._next(grant)
        except ConsentRefused as error:
            metrics.OAUTH_REFRESHES.labels("refused").inc()
            raise await self._refuse(grant, error) from error
        except TokenUnavailable as error:
            metrics.OAUTH_REFRESHES.labels("failed").inc()
            _log.warning("token_unavailable", connector=str(grant.connector_id), reason=str(error))
            raise
        metrics.OAUTH_REFRESHES.labels("ok").inc()
        rotated = issued.refresh is not None
        _log.info(
            "token_renewed", connector=str(grant.connector_id), seconds=round(issued.life_seconds), rotated=rotated
        )
        dated = replace(
            grant,
            version=grant.version + 1,
            obtained_at=asked_at,
            expires_at=asked_at + timedelta(seconds=issued.life_seconds),
        )
        return sealed(self._vault, dated, issued)

    async def _next(self, grant: Grant) -> Issued:
        application = application_of(self._vault, grant)
        if grant.sealed_refresh_token is None:
            return await flows.act(application)
        token = self._vault.open(grant.sealed_refresh_token, place_of(grant.id, "refresh_token"))
        return await flows.refresh(application, token)

    async def _refuse(self, grant: Grant, error: ConsentRefused) -> InboxdError:
        """Keep the refusal, with an event; what to raise for it."""
        reason = str(error)
        words = await self._cure(grant, f"the mailbox's owner has to consent anew ({reason})")
        event = Event(
            EventId(uuid4()), grant.connector_id, EventType.SYNC, EventStatus.CONNECTION_ERROR, 0, utc_now(), words
        )
        if not await grants.refuse(self._store, grant, reason, event):
            return TokenUnavailable("token", "the grant was changed while its token was asked for")
        metrics.CONNECTOR_PARKED.labels(str(grant.connector_id), NeedsReauth.reason).set(1)
        _log.error("grant_refused", connector=str(grant.connector_id), reason=reason)
        return NeedsReauth("token", words)

    def _bearer(self, grant: Grant) -> Bearer:
        token = self._vault.open(grant.sealed_access_token, place_of(grant.id, "access_token"))
        return Bearer(token, grant.obtained_at, grant.expires_at)


class _Flight:
    """A renewal under way, and what went wrong with it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.error: InboxdError | None = None


@asynccontextmanager
async def open_tokens(store: Store, vault: Vault) -> AsyncGenerator[Tokens]:
    """The tokens, until the block ends; a renewal under way is waited for, since its answer may be the only one."""
    failed: list[BaseException] = []
    async with asyncio.TaskGroup() as tasks:
        # A task group would wrap whatever the caller's block raises into a group of its own.
        try:
            yield Tokens(store, vault, tasks)
        except Exception as error:  # noqa: BLE001 - raised again below
            failed.append(error)
    if failed:
        raise failed[0]


def way_of(way: Account | Connection) -> str:
    """Where a token is sent: the host, and whether others could read it on the way, which is another place then."""
    host = way.host.lower()
    trusted = {name.strip().lower() for name in (way.ssl_trust or "").split(",")}
    return f"{host} in clear" if way.tls is Tls.NONE else f"{host} unverified" if trusted & {"*", host} else host


def place_of(grant_id: UUID, field: str) -> str:
    """Where a grant's secret lives: its ciphertext opens nowhere else."""
    return f"grant/{grant_id}/{field}"


def sealed(vault: Vault, grant: Grant, issued: Issued) -> Grant:
    """The grant with these tokens; it keeps its refresh token where no new one came."""
    kept = grant.sealed_refresh_token
    if issued.refresh is not None:
        kept = vault.seal(issued.refresh, place_of(grant.id, "refresh_token"))
    access = vault.seal(issued.access, place_of(grant.id, "access_token"))
    return replace(grant, sealed_access_token=access, sealed_refresh_token=kept)


def application_of(vault: Vault, grant: Grant) -> Application:
    """Who asked for the grant, its secret opened."""
    secret: Secret | None = None
    if grant.sealed_client_secret is not None:
        secret = vault.open(grant.sealed_client_secret, place_of(grant.id, "client_secret"))
    return Application(
        grant.provider, grant.flow, grant.client_id, secret, grant.endpoints, grant.scopes, grant.subject
    )


def forget_refusal(connector_id: ConnectorId) -> None:
    """The connector waits for nobody any more: a person consented."""
    metrics.CONNECTOR_PARKED.remove_by_labels({"connector": str(connector_id), "reason": NeedsReauth.reason})


def usable_seconds(bearer: Bearer) -> float:
    """For how long a session that logs in with it now may last."""
    return _left_seconds(bearer) - min(_SPARE_SECONDS, _SPARE_PART * _life_seconds(bearer))


def _is_fresh(bearer: Bearer) -> bool:
    return _left_seconds(bearer) > min(_FRESH_SECONDS, _FRESH_PART * _life_seconds(bearer))


def _left_seconds(bearer: Bearer) -> float:
    return (bearer.expires_at - utc_now()).total_seconds()


def _life_seconds(bearer: Bearer) -> float:
    return (bearer.expires_at - bearer.obtained_at).total_seconds()
