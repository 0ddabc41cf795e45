"""What a key must be good for to use an operation. What no rule here knows, no key opens."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from inboxd import metrics
from inboxd.api.confines import CONFINED
from inboxd.api.gate import Refusal
from inboxd.api.route import Route
from inboxd.model import ApiKey, Scope

_BY_METHOD: Final = {
    "GET": Scope.READ,
    "POST": Scope.MANAGE,
    "PUT": Scope.MANAGE,
    "PATCH": Scope.MANAGE,
    "DELETE": Scope.MANAGE,
}
# Looking that takes a body; and what looking does all the same: reading a mail marks it as read, reading a list syncs.
_READS: Final = frozenset(
    {
        "searchInboxes", "searchEmails", "getEmailContentMatch", "waitForMatchingEmails", "waitForMatchingFirstEmail",
        "waitFor", "markAsRead", "markAllAsRead", "syncConnector",
    }
)  # fmt: skip
# Beside everything that takes an idempotency key.
_SENDS: Final = frozenset({"canSend", "uploadAttachment", "uploadAttachmentBytes"})
# What they send is mail that is here.
_READS_TO_SEND: Final = frozenset({"replyToEmail", "forwardEmail"})
NAMED: Final = _READS | _SENDS | _READS_TO_SEND


def scopes_of(row: Route) -> frozenset[Scope]:
    """The scopes that a key needs for the operation: all of them."""
    if row.operation in _READS_TO_SEND:
        return frozenset({Scope.READ, Scope.SEND})
    if row.operation in _READS:
        return frozenset({Scope.READ})
    if row.operation in _SENDS or row.wants_once:
        return frozenset({Scope.SEND})
    return frozenset({_BY_METHOD[row.method]})


def check(key: ApiKey, route: Route) -> None:
    """Refuse with 403, naming what the key lacks, unless it is good for the operation."""
    if not route.scopes:
        raise _forbidden("scope", f"no API key opens {route.operation}")
    if missing := route.scopes - key.scopes:
        wanted = ",".join(scope.value for scope in Scope if scope in route.scopes)
        lacks = " and ".join(scope.value for scope in Scope if scope in missing)
        how = f"make one with: inboxctl key create NAME --scope {wanted}"
        raise _forbidden("scope", f"{route.operation} needs an API key with the scope {lacks}; {how}")
    if key.inbox_id is not None and route.operation not in CONFINED:
        what = "which this API key is not for: it is good for one inbox only"
        raise _forbidden("inbox", f"{route.operation} reaches beyond a single inbox, {what}")


def _forbidden(reason: str, message: str) -> Refusal:
    metrics.API_KEYS_REFUSED.labels(reason).inc()
    return Refusal(HTTPStatus.FORBIDDEN, message)
