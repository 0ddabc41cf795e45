"""Who is signed in: sessions kept in memory, and links that sign in once. A restart signs everybody out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, final

from inboxd.model import KeyId, utc_now

IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
INVITATION: Final = timedelta(minutes=2)
MOST: Final = 1000
_MOST_ASIDE: Final = 8
_TOKEN_BYTES: Final = 24


@final
@dataclass(slots=True)
class Session:
    """A browser that is signed in. `key_id`: by which API key, None by a link or over the control socket.

    `notices` are shown on the next page, once.
    """

    key_id: KeyId | None
    since: datetime
    seen: datetime
    checked: datetime
    _csrf: bytes = field(default_factory=lambda: secrets.token_bytes(_TOKEN_BYTES), repr=False)
    notices: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _aside: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]], repr=False)

    def tell(self, message: str, kind: str = "good") -> None:
        """Show this on the next page; `kind`: good or bad."""
        self.notices.append((kind, message))

    def take_notices(self) -> list[tuple[str, str]]:
        """What is to be shown now."""
        taken, self.notices = self.notices, []
        return taken

    def put_aside(self, given: dict[str, str], token: str = "") -> str:
        """Keep what a form held until it is asked for by this token; only the last few are kept.

        With the token of what was put aside before: in its place.
        """
        token = token or secrets.token_urlsafe(12)
        self._aside.pop(token, None)
        while len(self._aside) >= _MOST_ASIDE:
            del self._aside[next(iter(self._aside))]
        self._aside[token] = dict(given)
        return token

    def take_up(self, token: str) -> dict[str, str] | None:
        """What was put aside, None when it is gone."""
        kept = self._aside.get(token)
        return None if kept is None else dict(kept)

    def find_aside(self, name: str, value: str) -> str | None:
        """The token of what was put aside with this value of a field."""
        return next((token for token, kept in self._aside.items() if kept.get(name) == value), None)

    def once(self) -> str:
        """A token for a form that is to count once."""
        return secrets.token_urlsafe(12)

    def token(self) -> str:
        """What goes with every form: a secret of this session under a mask that is never the same twice.

        So the size of a compressed page tells nothing of it (breachattack.com, "masking secrets").
        """
        mask = secrets.token_bytes(_TOKEN_BYTES)
        return base64.urlsafe_b64encode(mask + _masked(self._csrf, mask)).decode()

    def agrees(self, token: str) -> bool:
        """Whether a form came with a token of this session."""
        try:
            given = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return False
        mask, masked = given[:_TOKEN_BYTES], given[_TOKEN_BYTES:]
        return len(masked) == _TOKEN_BYTES and hmac.compare_digest(self._csrf, _masked(masked, mask))


@final
class Sessions:
    """Tokens are kept as hashes; the oldest session makes room when there are too many."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._open: dict[bytes, Session] = {}
        self._invited: dict[bytes, datetime] = {}

    def begin(self, key_id: KeyId | None) -> tuple[str, Session]:
        """A new session, and the token for its cookie."""
        now, token = self._clock(), secrets.token_urlsafe(32)
        self._forget_old(now)
        while len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        session = self._open[_hash(token)] = Session(key_id, now, now, now)
        return token, session

    def find(self, token: str) -> Session | None:
        """The session of a cookie, None when it is over."""
        now = self._clock()
        session = self._open.get(_hash(token))
        if session is None or now - session.seen > IDLE or now - session.since > LONGEST:
            return None
        session.seen = now
        return session

    def end(self, token: str) -> None:
        """Sign out."""
        self._open.pop(_hash(token), None)

    def invite(self) -> str:
        """A code that signs in once, within two minutes."""
        now, code = self._clock(), secrets.token_urlsafe(24)
        self._forget_old(now)
        while len(self._invited) >= MOST:
            del self._invited[next(iter(self._invited))]
        self._invited[_hash(code)] = now
        return code

    def redeem(self, code: str) -> bool:
        """Whether the code was good; it is no more."""
        invited = self._invited.pop(_hash(code), None)
        return invited is not None and self._clock() - invited <= INVITATION

    def _forget_old(self, now: datetime) -> None:
        self._open = {t: s for t, s in self._open.items() if now - s.seen <= IDLE and now - s.since <= LONGEST}
        self._invited = {code: at for code, at in self._invited.items() if now - at <= INVITATION}


def _masked(secret: bytes, mask: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(secret, mask, strict=True))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
