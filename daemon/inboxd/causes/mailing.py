"""What goes wrong after the login: mailboxes, searches, and a mail that is sent to oneself.

Microsoft's codes: learn.microsoft.com, "Non-delivery reports in Exchange Online", 2026-11. Others: RFC 3463, RFC 5530.
"""

from __future__ import annotations

from typing import Final

from inboxd.causes.record import Diagnosis
from inboxd.errors import CommandRefused, ConnectionLost, Invalid, MailboxRefused, SendUnknown, Stalled, Throttled

_SELECT: Final = ("select",)
_SENDING: Final = ("accepted",)

_MAILBOXES: Final = (
    Diagnosis(
        "mailbox_name_unusable",
        "the mailbox's name cannot be sent to a server",
        "correct selectFolder",
        _SELECT,
        (Invalid,),
    ),
    Diagnosis(
        "mailbox_forbidden",
        "the mailbox exists, but this user may not read it",
        "have its owner or the administrator share it, or choose another",
        _SELECT,
        words=("[noperm]", "permission denied", "access denied", "[noaccess]"),
    ),
    Diagnosis(
        "mailbox_missing",
        "there is no mailbox {folder}; most like it: {near}",
        "correct selectFolder; the name is as the server has it, with the levels above it",
        _SELECT,
        (MailboxRefused,),
    ),
    Diagnosis(
        "mailbox_busy",
        "the server does not open the mailbox now",
        "try again later, or choose another folder",
        _SELECT,
        (CommandRefused, Throttled),
    ),
    Diagnosis(
        "search_terms",
        "the server does not understand the search terms",
        "correct the search terms, or remove them; they are IMAP's SEARCH keys (RFC 3501, section 6.4.4)",
        ("search",),
        (CommandRefused, Invalid, MailboxRefused),
    ),
)
_MAILS: Final = (
    Diagnosis(
        "sender_not_allowed",
        "the server does not let this login send as that address",
        "set the connector's address to the one of the mailbox, or have the server allow it as an alias",
        _SENDING,
        words=(
            "5.7.60", "send as", "sendasdenied", "not owned by user", "sender address rejected", "sender denied",
            "envelope-from", "not allowed to send",
        ),
    ),
    Diagnosis(
        "relay_denied",
        "the server takes no mail for others from us: it wants a login, or is not the one for this address",
        "set user name and password; use the provider's submission server (465, 587)",
        _SENDING,
        words=("relay", "authentication required", "must authenticate", "not authenticated"),
    ),
    Diagnosis(
        "mail_too_large",
        "the server does not take mails of this size",
        "send less, or ask for a larger limit (SIZE)",
        _SENDING,
        words=("5.3.4", "too large", "size exceeds", "message size"),
    ),
    Diagnosis(
        "mailbox_full",
        "the mailbox is full",
        "delete mail, or have its quota raised",
        _SENDING,
        words=("4.2.2", "5.2.2", "over quota", "overquota", "mailbox full", "mailbox is full"),
    ),
    Diagnosis(
        "recipient_unknown",
        "the server does not know the connector's own address",
        "correct the connector's address",
        _SENDING,
        words=("5.1.1", "user unknown", "no such user", "does not exist", "mailbox unavailable"),
    ),
    Diagnosis(
        "greylisted",
        "the server takes the first mail of a stranger only at a second try (greylisting)",
        "wait five minutes and try again; real sends are repeated by themselves",
        _SENDING,
        words=("greylist", "graylist", "try again in"),
    ),
    Diagnosis(
        "sending_limit",
        "the account sent as much as it may for now",
        "wait; the provider's limit is per minute, hour or day",
        _SENDING,
        words=("rate limit", "limit exceeded", "sending limit", "5.4.5", "4.3.2", "5.1.90", "too many"),
    ),
    Diagnosis(
        "taken_for_spam",
        "the server refuses the mail as unwanted",
        "read its words; check SPF, DKIM and DMARC of the address's domain",
        _SENDING,
        words=("spam", "5.7.1", "policy", "unsolicited", "dmarc", "spf", "dkim", "5.7.26"),
    ),
    Diagnosis(
        "acceptance_unknown",
        "the connection ended after the whole mail was sent: it may come or not",
        "look into the mailbox, then try again",
        _SENDING,
        (SendUnknown, ConnectionLost, Stalled),
    ),
    Diagnosis(
        "mail_refused",
        "the server does not take the mail",
        "read its words; try again later if it is only for now (4xx)",
        _SENDING,
    ),
    Diagnosis(
        "delivered_as_spam",
        "the mail was delivered, into the folder for unwanted mail",
        "mark it there as wanted; check SPF, DKIM and DMARC of the address's domain",
        ("delivered",),
        words=("junk",),
    ),
    Diagnosis(
        "not_stored",
        "the mail is in its mailbox, and was not brought here: the connector does not read it, or its search terms"
        " leave the mail out",
        "inboxctl status shows what the connector does; check folder and search terms",
        ("detected",),
    ),
    Diagnosis(
        "not_delivered",
        "the server took the mail and has not delivered it: it waits in a queue, a rule moved it, or the address is"
        " another mailbox's",
        "look into the web mail, all folders; check that the connector's address is the one of its mailbox",
        ("delivered",),
    ),
)  # fmt: skip
MAILING: Final = (*_MAILBOXES, *_MAILS)
