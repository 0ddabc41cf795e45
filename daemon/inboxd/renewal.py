"""A session that ends by plan, before the token that it logged in with does."""

from __future__ import annotations

import asyncio
from typing import Final

from inboxd import logs
from inboxd.errors import SecretUnreadable, SessionSpent, StoreError, TokenUnavailable
from inboxd.imap.session import Session
from inboxd.model import Account
from inboxd.tokens import Tokens

_TOKEN_AGAIN_SECONDS: Final = 5.0
_log = logs.logger("connector")


async def end_by_plan(tokens: Tokens, session: Session, account: Account) -> None:
    """End a session whose token ends soon, once there is another one (SessionSpent); it lasts while there is none.

    What comes in between is announced to nobody: the next session begins by looking for it.
    """
    try:
        await tokens.dressed(account)
    except (TokenUnavailable, SecretUnreadable, StoreError) as error:
        _log.warning("session_kept", connector=str(account.connector_id), reason=str(error))
        session.ends_at = asyncio.get_running_loop().time() + _TOKEN_AGAIN_SECONDS
        return
    await session.log_out()
    raise SessionSpent("login", "the session ends before its token does")
