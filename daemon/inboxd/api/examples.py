"""An example of each request body, by the name of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_INBOX: Final = "7b4f1c52-0b0e-4d7f-9a53-2f6d1c0e8a11"
_IMAP: Final = {
    "imapHost": "imap.example.com",
    "imapPort": 993,
    "imapSsl": True,
    "imapUsername": "ada@example.com",
    "imapPassword": "an app password",
}
_SMTP: Final = {
    "smtpHost": "smtp.example.com",
    "smtpPort": 465,
    "smtpSsl": True,
    "smtpUsername": "ada@example.com",
    "smtpPassword": "an app password",
}
_CONNECTOR: Final = {"name": "Ada", "emailAddress": "ada@example.com"}
_SYNC: Final = {"syncEnabled": True, "syncInterval": 5}
_MATCH: Final = {"field": "SUBJECT", "should": "CONTAIN", "value": "Welcome"}

EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "ContentMatchOptions": {"pattern": "code: ([0-9]{6})"},
    "CreateConnectorImapConnectionOptions": _IMAP,
    "CreateConnectorOptions": _CONNECTOR,
    "CreateConnectorSmtpConnectionOptions": _SMTP,
    "CreateConnectorSyncSettingsOptions": _SYNC,
    "CreateConnectorWithOptions": {
        "createConnectorOptions": _CONNECTOR,
        "createConnectorImapConnectionOptions": _IMAP,
        "createConnectorSmtpConnectionOptions": _SMTP,
        "createConnectorSyncSettingsOptions": _SYNC,
    },
    "CreateInboxDto": {"name": "Sign-up tests", "tags": ["tests"]},
    "CreateWebhookOptions": {"url": "https://example.com/hooks/mail", "eventName": "NEW_EMAIL"},
    "ForwardEmailOptions": {"to": ["grace@example.com"]},
    "ImapFlagOperationOptions": {"flagOperation": "ADD_FLAGS", "flags": ["\\Seen"]},
    "MatchOptions": {"matches": [_MATCH]},
    "ReplyToEmailOptions": {"body": "Thank you!", "isHTML": False},
    "SearchEmailsOptions": {"searchFilter": "invoice", "pageSize": 20},
    "SearchInboxesOptions": {"search": "tests", "pageSize": 20},
    "SendEmailOptions": {"to": ["grace@example.com"], "subject": "Hello", "body": "Good morning"},
    "SetInboxFavouritedOptions": {"state": True},
    "SimpleSendEmailOptions": {
        "senderId": _INBOX,
        "to": "grace@example.com",
        "subject": "Hello",
        "body": "Good morning",
    },
    "UpdateInboxOptions": {"name": "Sign-up tests", "favourite": True},
    "UpdateWebhookOptions": {"name": "Sign-ups", "eventName": "NEW_EMAIL"},
    "UploadAttachmentOptions": {"filename": "hello.txt", "contentType": "text/plain", "base64Contents": "aGVsbG8="},
    "WaitForConditions": {"inboxId": _INBOX, "count": 1, "timeout": 60_000, "matches": [_MATCH]},
}
