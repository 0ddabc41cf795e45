"""The kinds and states that records speak of; import them from `model`."""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """Which half of a mailbox a connection serves."""

    IMAP = "imap"
    SMTP = "smtp"


class EventType(enum.Enum):
    """MailSlurp's two kinds of connector event."""

    SYNC = "SYNC"
    SEND = "SEND"


class EventStatus(enum.Enum):
    """MailSlurp's outcomes of a connector event."""

    SUCCESS = "SUCCESS"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SUBSCRIPTION_ERROR = "SUBSCRIPTION_ERROR"
    CONNECTION_ERROR = "CONNECTION_ERROR"
    NOT_FOUND = "NOT_FOUND"


class State(enum.Enum):
    """Where a connector's supervisor stands. PARKED waits for a person; WAITING for its back-off.

    THROTTLED waits as well, because its server wants fewer connections, logins or bytes of it for a while.
    NEEDS_REAUTH is PARKED until somebody consents anew to its OAuth2 grant.
    """

    OFF = "off"
    CONNECTING = "connecting"
    SYNCING = "syncing"
    IDLE = "idle"
    POLLING = "polling"
    WAITING = "waiting"
    THROTTLED = "throttled"
    PARKED = "parked"
    NEEDS_REAUTH = "needs_reauth"


class InboxType(enum.Enum):
    """MailSlurp's two kinds of inbox; here they do not differ."""

    HTTP_INBOX = "HTTP_INBOX"
    SMTP_INBOX = "SMTP_INBOX"


class InboxFunction(enum.Enum):
    """What MailSlurp uses an inbox for; here CONNECTOR is the only one that ever is."""

    ALIAS = "ALIAS"
    THREAD = "THREAD"
    CATCH_ALL = "CATCH_ALL"
    CONNECTOR = "CONNECTOR"
    ACCOUNT = "ACCOUNT"
    GUIDED_TOUR = "GUIDED_TOUR"
    GUEST = "GUEST"
    OAUTH_CONNECTION_GMAIL = "OAUTH_CONNECTION_GMAIL"


class Scope(enum.Enum):
    """What an API key may be used for: to look and wait, to send, and to change what is there."""

    READ = "read"
    SEND = "send"
    MANAGE = "manage"
