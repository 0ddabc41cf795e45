"""Why a provider refused, in its words and in ours, with what helps.

Sources: RFC 6749 §4.1.2.1 and §5.2, RFC 8628 §3.5, OpenID Connect Core §3.1.2.6; Microsoft's codes (AADSTS…):
learn.microsoft.com/entra/identity-platform/reference-error-codes, 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from inboxd.errors import ConsentRefused

_MOST_WORDS: Final = 300
_MICROSOFT_CODE: Final = re.compile(r"AADSTS(\d{4,8})")
# Microsoft appends the request's ids and the time, which help nobody here and make every message another one.
_TRACE: Final = re.compile(r"\s*(Trace ID|Correlation ID|Timestamp): .*", re.DOTALL)

PENDING: Final = "authorization_pending"
SLOW_DOWN: Final = "slow_down"
# A consent that ended: only a person can give another one.
ENDED: Final = frozenset({"invalid_grant", "interaction_required", "consent_required", "login_required"})
# The provider's own trouble, whatever status it comes with.
PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})

_MEANINGS: Final = {
    "invalid_grant": "the consent, or the code that stands for it, is no longer valid",
    "invalid_client": "the provider does not know the client, or its secret is wrong or has expired: check both",
    "unauthorized_client": "the provider does not let this client do that: check what it was registered for",
    "invalid_scope": "the provider does not give what was asked for: check the scopes, and those of the application",
    "unsupported_grant_type": "the provider does not know this flow: choose another one with --flow",
    "invalid_request": "the provider does not understand the request: check client, secret and endpoints",
    "access_denied": "the consent was refused, or an administrator has to allow the application first",
    "expired_token": "nobody typed the code in in time: begin anew",
    "bad_verification_code": "the provider does not know the code: begin anew",
    "interaction_required": "the provider wants the person to sign in again",
    "login_required": "the provider wants the person to sign in again",
    "consent_required": "the person has not consented to all that is asked for",
    "redirect_uri_mismatch": "the address to lead back to is not registered for this client: give --redirect-uri",
}
_MICROSOFT: Final = {
    "50011": "the address to lead back to is not registered: add http://localhost to the application as a redirect of "
    "the kind for mobile and desktop",
    "50034": "there is no such account in this directory: check --tenant",
    "50076": "the provider wants a second factor: the person has to sign in again",
    "50079": "the provider wants a second factor set up: the person has to sign in again",
    "50105": "an administrator has to assign the person to the application first",
    "50126": "the user name or password is wrong",
    "50173": "the password was changed since: the person has to sign in again",
    "53003": "a Conditional Access policy of the tenant blocks this way to sign in; device codes are often blocked: "
    "use --flow code, or ask the administrator",
    "530036": "a Conditional Access policy of the tenant blocks device codes: use --flow code",
    "65001": "nobody has consented to what the application asks for: sign in again, or ask the administrator",
    "70008": "the consent has expired for want of use: the person has to sign in again",
    "700016": "there is no such application in this directory: check --client-id and --tenant",
    "700025": "this client is registered as public, and takes no secret: leave --client-secret-file out",
    "700082": "the consent has expired for want of use: the person has to sign in again",
    "70011": "the application may not ask for these scopes",
    "7000215": "the client secret is wrong: give its value, not its id, with --client-secret-file",
    "7000218": "the client needs its secret (--client-secret-file), or 'Allow public client flows' switched on",
    "7000222": "the client secret has expired: make a new one and give it with --client-secret-file",
    "90002": "there is no such tenant: check --tenant",
    "90094": "an administrator has to consent to the application first",
}


def refusal(answer: Mapping[str, object]) -> ConsentRefused:
    """The error in an answer that has one."""
    code = said(answer.get("error"))[:80] or "invalid_request"
    described = said(answer.get("error_description"))
    number = _MICROSOFT_CODE.search(described)
    meaning = _MICROSOFT.get(number[1]) if number else None
    words = meaning or _MEANINGS.get(code, "the provider refuses")
    return ConsentRefused(code, words, reply=f"{code}: {described}" if described else code)


def said(value: object) -> str:
    """A provider's words on one line, without control characters, bounded; nothing where it has none."""
    text = _TRACE.sub("", value) if isinstance(value, str) else ""
    line = " ".join("".join(mark if mark.isprintable() else " " for mark in text[: 4 * _MOST_WORDS]).split())
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 1] + "…"
