"""Who a mail is from and for, as MAIL and RCPT say it, with the parameters that the server's extensions ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inboxd.errors import Invalid, SendRefused
from inboxd.outbox import Dsn
from inboxd.smtp.content import Content

_UNSAFE = re.compile(r"[\s\x00-\x20\x7f<>\ud800-\udfff]")
_NOTICES: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")
_ENVID_MOST = 100  # RFC 3461 §5.4
_ORCPT_MOST = 500


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sender, its recipients, each once, and the delivery notices that are asked for."""

    sender: str
    recipients: tuple[str, ...]
    dsn: Dsn | None = None

    def check(self) -> None:
        """Invalid for what cannot stand in a command."""
        for field, address in (("sender", self.sender), *(("to", recipient) for recipient in self.recipients)):
            if _UNSAFE.search(address):
                raise Invalid(field, f"{address[:80]!a} cannot stand on an envelope")
        if not self.recipients:
            raise Invalid("to", "name at least one recipient")
        notify = self.dsn.notify if self.dsn else ()
        if notify != ("NEVER",) and not _NOTICES.issuperset(notify):
            raise Invalid("notify", f"takes {', '.join(sorted(_NOTICES))}, or NEVER alone")

    def mail(self, content: Content, extensions: Mapping[str, str]) -> bytes:
        """The MAIL command; SendRefused when the mail needs what the server does not offer."""
        most = size_limit(extensions)
        if most is not None and content.size_bytes > most:
            raise SendRefused(
                "mail", f"the mail has {content.size_bytes} bytes and the server takes no more than {most}"
            )
        options = [f"SIZE={content.size_bytes}"] if "SIZE" in extensions else []
        foreign = self._foreign(content)
        needs = ((bool(content.eight_bit), "the mail", "8BITMIME"), (bool(foreign), foreign, "SMTPUTF8"))
        for needed, what, extension in needs:
            if needed and extension not in extensions:
                raise SendRefused("mail", f"{what} needs {extension} and the server does not offer it")
            options += [_OPTIONS[extension]] if needed else []
        return " ".join((f"MAIL FROM:<{self.sender}>", *options, *self._notices(content, extensions))).encode()

    def _foreign(self, content: Content) -> str:
        """What needs SMTPUTF8 (RFC 6531), or nothing."""
        for address in (self.sender, *self.recipients):
            if not address.isascii():
                return f"the address {address}"
        return "the mail's header" if content.eight_bit and not content.header.isascii() else ""

    def _notices(self, content: Content, extensions: Mapping[str, str]) -> list[str]:
        if self.dsn is None or "DSN" not in extensions:
            return []
        whole = "FULL" if self.dsn.whole else "HDRS"
        name = _xtext(content.message_id)
        return [f"RET={whole}", *([f"ENVID={name}"] if 0 < len(name) <= _ENVID_MOST else [])]

    def rcpts(self, extensions: Mapping[str, str]) -> list[bytes]:
        """The RCPT command of each recipient."""
        return [
            " ".join((f"RCPT TO:<{recipient}>", *self._asked_of(recipient, extensions))).encode()
            for recipient in self.recipients
        ]

    def _asked_of(self, recipient: str, extensions: Mapping[str, str]) -> list[str]:
        if self.dsn is None or "DSN" not in extensions:
            return []
        name = f"rfc822;{_xtext(recipient)}"
        known = recipient.isascii() and len(name) <= _ORCPT_MOST
        notify = ",".join(self.dsn.notify)
        return [*([f"NOTIFY={notify}"] if notify else []), *([f"ORCPT={name}"] if known else [])]


_OPTIONS: Final = {"8BITMIME": "BODY=8BITMIME", "SMTPUTF8": "SMTPUTF8"}


def size_limit(extensions: Mapping[str, str]) -> int | None:
    """The largest mail the server takes (RFC 1870); None when it does not say, or says 0."""
    stated = extensions.get("SIZE", "").split(" ")[0]
    return int(stated) or None if stated.isdecimal() and len(stated) < 20 else None


def _xtext(text: str) -> str:
    """Printable ASCII but for + and =, everything else as + and two hex digits (RFC 3461 §4)."""
    return _NOT_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", text)
