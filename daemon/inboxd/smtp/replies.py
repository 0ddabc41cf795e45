"""What a server says: replies made of lines (RFC 5321 §4.2), in plain words, and the errors they mean."""

from __future__ import annotations

import re
from collections import deque
from typing import Final, final

from aiosmtplib import SMTPResponse, SMTPResponseException

from inboxd import errors
from inboxd.errors import MailServerError, ProtocolError, SendRefused

MAX_REPLY: Final = 500
UNEXPECTED: Final = "the answer is not one of those expected"
CLOSING: Final = 421

# Generous over any real EHLO, which has a few KB.
_LINE_BYTES = 8_192
_REPLY_BYTES = 32_768
_UNASKED_MOST = 4
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")
_LINE = re.compile(rb"([0-9]{3})(?:([ \t-])(.*))?", re.DOTALL)
_MALFORMED = 500


@final
class Replies:
    """The replies of a server in their order, however their octets are cut; bounded, whatever it sends.

    `due` counts the replies that were asked for and not yet taken. What comes after a flaw is not read.
    """

    def __init__(self) -> None:
        self.due = 0
        self._whole: deque[SMTPResponse] = deque()
        self._texts: list[bytes] = []
        self._texts_bytes = 0
        self._rest = b""
        self._flaw: SMTPResponseException | None = None

    @property
    def begun(self) -> bool:
        """Whether anything was said that is not yet taken, be it half a reply."""
        return bool(self._whole or self._rest or self._texts or self._flaw)

    def feed(self, octets: bytes) -> None:
        """Read what came."""
        if self._flaw is not None:
            return
        *lines, self._rest = (self._rest + octets).split(b"\n")
        flaw = next((flaw for line in lines if (flaw := self._read(line))), "")
        if not flaw and len(self._rest) > _LINE_BYTES:
            flaw = "the line is too long"
        if flaw:
            self._flaw = SMTPResponseException(_MALFORMED, flaw)
            self._rest, self._texts = b"", []

    def _read(self, line: bytes) -> str:
        """Take a line into account; what is wrong with it, or nothing."""
        match = _LINE.fullmatch(line.rstrip(b" \t\r")) if len(line) <= _LINE_BYTES else None
        if match is None:
            return line[: 2 * MAX_REPLY].decode("utf-8", "replace") or "an empty line"
        self._texts.append((match[3] or b"").strip(b" \t"))
        self._texts_bytes += len(line)
        if self._texts_bytes > _REPLY_BYTES:
            return "the reply is too long"
        if match[2] != b"-":
            if len(self._whole) >= self.due + _UNASKED_MOST:
                return "there are more replies than commands"
            text = b"\n".join(self._texts).decode("utf-8", "surrogateescape")
            self._whole.append(SMTPResponse(int(match[1]), text))
            self._texts, self._texts_bytes = [], 0
        return ""

    def take(self) -> SMTPResponse | None:
        """The oldest whole reply, None while there is none; SMTPResponseException once nothing but a flaw is left."""
        if self._whole:
            self.due = max(0, self.due - 1)
            return self._whole.popleft()
        if self._flaw is not None:
            raise self._flaw
        return None

    def forget(self) -> None:
        """Throw away what was said and is not yet taken."""
        self.__init__()


def clean(text: str) -> str:
    """A server's words on one line, without control characters, at most 500 characters."""
    return _CONTROLS.sub(" ", text[: 2 * MAX_REPLY]).replace("\n", " | ")[:MAX_REPLY]


def words(reply: SMTPResponse) -> str:
    """A reply in one line: its code and the text."""
    return f"{reply.code} {clean(reply.message)}".rstrip()


def meaning(stage: str, code: int, said: str) -> MailServerError:
    """The error that a reply means where another one was hoped for. 421 at MAIL turns us away, not the mail."""
    ours = stage in {"greeting", "ehlo"} or (code == CLOSING and stage in {"starttls", "mail"})
    kind, message = _MEANING.get((code // 100, ours), (ProtocolError, UNEXPECTED))
    return kind(stage, message, reply=said)


_MEANING: dict[tuple[int, bool], tuple[type[MailServerError], str]] = {
    (4, True): (errors.Throttled, "the server does not want us now"),
    (4, False): (errors.SendDeferred, "the server does not take the mail now"),
    (5, True): (errors.CommandRefused, "the server does not want us"),
    (5, False): (SendRefused, "the server refused the mail"),
}
