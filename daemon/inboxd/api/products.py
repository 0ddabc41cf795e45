"""MailSlurp's other products, which this server does not have: their operations answer 501 instead of 404."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Where MailSlurp's other products begin, by the first segment of their paths, and what they are.
OTHER_PRODUCTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("agent", "ai", "ai-transformers", "waitForAIMessage", "waitForAIMessages"), "AI"),
    **dict.fromkeys(("phone", "sms", "missed-sms", "waitForSms", "waitForLatestSms"), "phone numbers and SMS"),
    **dict.fromkeys(("bounce", "missed-emails", "spam-emails"), "records of bounced, missed and spam mails"),
    **dict.fromkeys(("domains", "domain-monitor"), "domains"),
    **dict.fromkeys(("email-audits", "email-verification", "tools"), "checks of addresses and mails"),
    **dict.fromkeys(("campaign-probe", "device-preview-targets", "inbox-placement-tests"), "campaign tests"),
    **dict.fromkeys(("guest-portal", "scim", "auth", "mfa", "audit-logs", "consent"), "accounts and sign-in"),
    **dict.fromkeys(("imap", "mail-server"), "hosted mail servers"),
    **dict.fromkeys(("mcp", ".well-known"), "MCP"),
    **dict.fromkeys(("rulesets", "forwarders", "repliers"), "rules, forwarders and repliers"),
    "aliases": "aliases",
    "bulk": "bulk actions",
    "contacts": "contacts",
    "expired": "expired inboxes",
    "export": "exports",
    "forms": "forms",
    "groups": "groups",
    "sending-connections": "sending connections",
    "templates": "templates",
    "test": "deliverability tests",
    "tracking": "tracking pixels",
}
