"""How a session proves who it is (RFC 4954)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Final

from aiosmtplib import SMTPResponse, SMTPResponseException
from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode

from inboxd import errors
from inboxd.bearing import BEARER_MECHANISMS, Bearing, bearing
from inboxd.errors import Invalid, ProtocolError
from inboxd.model import Account
from inboxd.smtp.link import Link
from inboxd.smtp.replies import MAX_REPLY, words

# A refusal that speaks of the mechanism, not of the password: the next mechanism may do (RFC 4954 §6, RFC 5321 §4.2.4).
_TRY_NEXT: Final = frozenset({500, 501, 502, 504, 538})
# What answers the server's challenges in turn, given the first of them.
_MECHANISMS: Final[dict[str, Callable[[Account, str], Sequence[bytes]]]] = {
    "PLAIN": lambda account, _: [auth_plain_encode(account.username, account.password.reveal())],
    "LOGIN": lambda account, _: auth_login_encode(account.username, account.password.reveal()),
    "CRAM-MD5": lambda account, given: [auth_crammd5_verify(account.username, account.password.reveal(), given)],
}
_LONGEST_LINE: Final = 510  # RFC 5321 §4.5.3.1.4, without its end: AUTH is no exception (RFC 4954 §4)
_KNOWN: Final = (*_MECHANISMS, *BEARER_MECHANISMS)
# Inside TLS first what every server does; in clear first what does not show the password.
_PREFERRED: Final = {True: ("PLAIN", "LOGIN", "CRAM-MD5"), False: ("CRAM-MD5", "PLAIN", "LOGIN")}


def allowed(account: Account) -> frozenset[str]:
    """The mechanisms the account allows, of those for what it has, a password or a token.

    Invalid for one that this client does not know, or when none of them is for that.
    """
    fitting = frozenset(_MECHANISMS if account.bearer is None else BEARER_MECHANISMS)
    chosen = frozenset(mechanism.strip().upper() for mechanism in account.mechanisms)
    if unknown := chosen.difference(_KNOWN):
        raise Invalid("mechanisms", f"{', '.join(sorted(unknown))[:80]!a} is none of {', '.join(_KNOWN)}")
    if chosen and not chosen & fitting:
        secret = "a password" if account.bearer is None else "an OAuth2 token"
        raise Invalid("mechanisms", f"none of {', '.join(sorted(chosen))} logs in by {secret}")
    return chosen & fitting or fitting


async def log_in(link: Link, account: Account, offer: str, *, in_clear: bool) -> None:
    """AUTH by the first mechanism that is allowed, in EHLO's `offer` and not refused as such; in clear only if told so.

    Insecure, AuthRefused, Throttled, and what `Link.ask` raises.
    """
    if link.tls is None and not in_clear:
        raise errors.Insecure("auth", "the password would cross the network in clear")
    offered = set(offer.upper().split())
    preferred = _PREFERRED[link.tls is not None] if account.bearer is None else BEARER_MECHANISMS
    usable = [name for name in preferred if name in allowed(account) & offered]
    for mechanism in usable:
        reply = await _authenticate(link, account, mechanism)
        if reply.code == 235:
            return
        if reply.code // 100 == 4:
            raise errors.Throttled("auth", "the server does not log in now", reply=words(reply))
        if reply.code not in _TRY_NEXT or mechanism == usable[-1]:
            raise errors.AuthRefused("auth", "the server refused the login", reply=words(reply))
    choice = f"only {', '.join(sorted(offered))}"[:MAX_REPLY] if offered else "no way"
    raise errors.AuthRefused("auth", f"the server offers {choice} to log in{'' if link.tls else ' without TLS'}")


async def _authenticate(link: Link, account: Account, mechanism: str) -> SMTPResponse:
    """One exchange (RFC 4954 §4); returns the server's verdict."""
    if account.bearer is not None:
        return await _present(link, bearing(mechanism, account, account.bearer))
    respond = _MECHANISMS[mechanism]
    command = b"AUTH " + mechanism.encode()
    if mechanism == "PLAIN":
        return await link.ask("auth", command + b" " + respond(account, "")[0], shown="AUTH PLAIN ***")
    reply = await link.ask("auth", command)
    try:
        lines = respond(account, reply.message) if reply.code == 334 else ()
    except SMTPResponseException:
        raise ProtocolError("auth", "the server's challenge is not base64") from None
    for line in lines:
        if reply.code == 334:
            reply = await link.ask("auth", line, shown="***")
    return reply


async def _present(link: Link, shown: Bearing) -> SMTPResponse:
    """The exchange with a token; a refusal's verdict comes with the server's complaint (RFC 7628 §3.2.3)."""
    message = base64.b64encode(shown.message)
    command = b"AUTH " + shown.mechanism.encode()
    if len(command) + 1 + len(message) <= _LONGEST_LINE:
        reply = await link.ask("auth", command + b" " + message, shown=f"AUTH {shown.mechanism} ***")
    else:
        reply = await link.ask("auth", command)
        if reply.code == 334:
            reply = await link.ask("auth", message, shown="***")
    if reply.code != 334:
        return reply
    complaint = shown.complaint(reply.message.encode())
    verdict = await link.ask("auth", shown.acknowledgement, shown="(complaint acknowledged)")
    return SMTPResponse(verdict.code, f"{verdict.message} ({complaint})" if complaint else verdict.message)
