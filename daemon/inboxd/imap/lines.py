"""Pure functions on IMAP's wire forms (RFC 3501): quoting, mailbox names, FETCH answers, sets of UIDs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, final

from inboxd.errors import Invalid, ProtocolError
from inboxd.mails import Spooled
from inboxd.uids import MAX_UID, UidSet

_UNSAFE = re.compile(r"[\x00\r\n]")
_CODE = re.compile(rb" *\[([A-Za-z0-9.-]+)(?: ([^\]]*))?\]")
_LITERAL = re.compile(rb"\{(\d{1,20})\+?\}$")
_TEXT_ONLY = re.compile(rb"\* (?:OK|NO|BAD|BYE|PREAUTH)\b", re.IGNORECASE)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS: Final = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}
_DATE = re.compile(rb" ?(\d{1,2})-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_FLAG = re.compile(r"\\?[A-Za-z0-9!#$&'+,./:;<=>?@^_`|~-]{1,100}")
# A quote or parenthesis that is never closed reaches to the end: searching on from each would be quadratic.
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)|([()])|([^\s()"]+)', re.DOTALL)
_ALL = re.compile(rb"(?:^|\s)ALL\s+(\S+)", re.IGNORECASE)
_ASIDE = re.compile(rb"\([^)]*(?:\)|\Z)")
_MOST_TOKENS: Final = 10_000  # of a FETCH response: a message's flags, mostly


def quoted(text: str, field: str) -> str:
    """`text` as a quoted string; Invalid (naming `field`) on NUL, CR or LF, which no quoting can carry."""
    _check_safe(text, field)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check_safe(text: str, field: str) -> None:
    if _UNSAFE.search(text):
        raise Invalid(field, "must not contain line breaks or NUL")


def mailbox_argument(name: str) -> str:
    """A mailbox name as it goes on the wire: modified UTF-7 (RFC 3501 §5.1.3), quoted.

    Invalid on NUL, CR or LF: the encoding would carry them, but Dovecot 2.3 repeats them bare in its answer.
    """
    _check_safe(name, "folder")
    return quoted(encode_utf7(name), "folder")


def encode_utf7(name: str) -> str:
    """Modified UTF-7: `&` shifts, base64 of UTF-16BE with `,` for `/` and no padding."""
    out: list[str] = []
    for run in re.findall(r"[\x20-\x7e]+|[^\x20-\x7e]+", name):
        if " " <= run[0] <= "~":
            out.append(run.replace("&", "&-"))
        else:
            packed = base64.b64encode(run.encode("utf-16-be", "surrogatepass")).decode()
            out.append("&" + packed.rstrip("=").replace("/", ",") + "-")
    return "".join(out)


def decode_utf7(name: str) -> str:
    """The mailbox name behind its modified UTF-7; what cannot be decoded stays as it is."""

    def open_shift(shift: re.Match[str]) -> str:
        packed = shift.group(1)
        if not packed:
            return "&"
        try:
            padded = packed.replace(",", "/") + "=" * (-len(packed) % 4)
            return base64.b64decode(padded, validate=True).decode("utf-16-be")
        except ValueError:
            return shift.group(0)

    return re.sub(r"&([A-Za-z0-9+,]*)-", open_shift, name)


def response_code(text: bytes) -> tuple[str, str]:
    """The response code a status text begins with, for example ("UIDVALIDITY", "17"); ("", "") when it has none.

    The name is in capitals (RFC 3501 §7.1).
    """
    found = _CODE.match(text)
    if found is None:
        return "", ""
    return found.group(1).decode().upper(), (found.group(2) or b"").decode("utf-8", "replace")


def literal_size(line: bytes) -> int | None:
    """The octets of the literal a response line announces at its end, None when it announces none.

    Status responses are text to their end, so `{3}` in one is not a literal.
    """
    if not line.endswith(b"}") or not line.startswith(b"* ") or _TEXT_ONLY.match(line):
        return None
    found = _LITERAL.search(line)
    return int(found.group(1)) if found else None


def continued_literal_size(line: bytes) -> int | None:
    """As `literal_size`, for a line that continues a response after a literal."""
    found = _LITERAL.search(line) if line.endswith(b"}") else None
    return int(found.group(1)) if found else None


def internal_date(text: bytes) -> datetime | None:
    """INTERNALDATE in UTC; None when it is absent, malformed or impossible."""
    found = _DATE.match(text)
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    try:
        number = _MONTH_NUMBERS[month.lower()]
        local = datetime(int(year), number, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC)
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        return local - offset if sign == b"+" else local + offset
    except (KeyError, ValueError, OverflowError):
        return None


def search_date(moment: datetime) -> str:
    """A date for SEARCH SINCE, one day early: servers compare dates in their own zone (RFC 3501 §6.4.4).

    No day is before 1970: there is no such mail, and servers need four digits for the year.
    """
    day = datetime.fromtimestamp(max(0.0, moment.timestamp() - 86_400), UTC)
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year}"


def store_item(flag: str, *, on: bool) -> str:
    """What STORE is to do with one flag (RFC 3501 §6.4.6), the others left as they are; Invalid when it is no flag."""
    return f"{'+' if on else '-'}FLAGS.SILENT {flag_list([flag])}"


def flag_list(flags: Sequence[str]) -> str:
    """Flags as STORE and APPEND take them; Invalid when one is no flag."""
    if not all(map(_FLAG.fullmatch, flags)):
        raise Invalid("flags", "must be IMAP flags, for example \\Seen")
    return f"({' '.join(flags)})"


def date_time(moment: datetime) -> str:
    """A moment for APPEND, which becomes the message's INTERNALDATE (RFC 3501 §9), quoted."""
    utc = moment.astimezone(UTC)
    month = _MONTHS[utc.month - 1].title()
    return f'"{utc.day:02}-{month}-{utc.year:04} {utc:%H:%M:%S} +0000"'


@final
@dataclass(frozen=True, slots=True)
class Skipped:
    """A literal too large to be kept: its octets were read and dropped."""

    size: int


Part = bytes | Skipped | Spooled


@final
@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """One FETCH response. `body` is None when it carried none, or NIL: the message is gone (or was not asked for).

    `labels` are None, and `modseq` 0, where the server said nothing of them.
    """

    uid: int | None
    flags: tuple[str, ...]
    received_at: datetime | None
    size: int | None
    body: Part | None
    labels: tuple[bytes, ...] | None = None
    modseq: int = 0


@lru_cache(maxsize=256)
def flags_in(listed: bytes) -> tuple[str, ...]:
    """The flags in what stands between the parentheses: the same few combinations come again and again."""
    return tuple(flag.decode("utf-8", "replace") for flag in listed.split())


def first_line(response: Sequence[Part]) -> bytes:
    """The line a response begins with."""
    line = response[0]
    assert isinstance(line, bytes)
    return line


def is_fetch(line: bytes) -> bool:
    """Whether an untagged response line begins a FETCH response."""
    number, _, rest = line[2:].partition(b" ")
    return number.isdigit() and rest[:7].upper() == b"FETCH ("


def parse_fetch(parts: Sequence[Part]) -> FetchAnswer:
    """A whole FETCH response: lines and literals alternate, and the items come in the server's own order.

    `parts` begins with a line of which `is_fetch` holds. ProtocolError when it consists of too many words.
    """
    items: dict[str, Part | list[bytes]] = {}
    tokens = tokens_of(parts)
    for name, bare in tokens:
        if not bare or not isinstance(name, bytes) or name == b")":
            continue
        value, bare = next(tokens, (b"NIL", True))
        if bare and value == b"(":
            value = list_in(tokens)
        if not (bare and isinstance(value, bytes) and value.upper() == b"NIL"):
            items[name.decode("ascii", "replace").upper()] = value
    return _answer(items)


def list_in(tokens: Iterator[tuple[Part, bool]]) -> list[bytes]:
    """What stands in a list up to its own closing parenthesis, without the lists in it."""
    found: list[bytes] = []
    depth = 1
    for token, bare in tokens:
        if bare and token in (b"(", b")"):
            depth += 1 if token == b"(" else -1
            if depth == 0:
                break
        elif depth == 1 and isinstance(token, bytes):
            found.append(token)
    return found


def _answer(items: dict[str, Part | list[bytes]]) -> FetchAnswer:
    flags = items.get("FLAGS")
    received = items.get("INTERNALDATE")
    body = next((items[name] for name in ("BODY[]", "BODY[HEADER]") if name in items), None)
    return FetchAnswer(
        uid=uid if (uid := _number(items.get("UID"))) is not None and 0 < uid <= MAX_UID else None,
        flags=tuple(flag.decode("utf-8", "replace") for flag in flags) if isinstance(flags, list) else (),
        received_at=internal_date(received) if isinstance(received, bytes) else None,
        size=_number(items.get("RFC822.SIZE")),
        body=body if isinstance(body, bytes | Skipped | Spooled) else None,
        labels=tuple(labels) if isinstance(labels := items.get("X-GM-LABELS"), list) else None,
        modseq=_number(modseq[0]) or 0 if isinstance(modseq := items.get("MODSEQ"), list) and modseq else 0,
    )


def _number(value: Part | list[bytes] | None) -> int | None:
    return int(value) if isinstance(value, bytes) and value.isdigit() and len(value) <= 20 else None


def tokens_of(parts: Sequence[Part]) -> Iterator[tuple[Part, bool]]:
    """The tokens behind a response's first parenthesis, and whether each stood bare, as an atom or a parenthesis."""
    room = _MOST_TOKENS
    for index, part in enumerate(parts):
        if index % 2 or not isinstance(part, bytes):
            yield part, False
            continue
        line = _LITERAL.sub(b"", part)
        for found in _TOKEN.finditer(line, line.index(b"(") + 1 if index == 0 else 0):
            room -= 1
            if room < 0:
                raise ProtocolError("fetch", "the server described one message in too many words")
            if found.group(1) is not None:
                yield re.sub(rb"\\(.)", rb"\1", found.group(1)), False
            else:
                yield found.group(2) or found.group(3), True


def parse_search(line: bytes) -> UidSet | None:
    """The UIDs of a SEARCH or ESEARCH response (RFC 4731); None when the line is neither."""
    name = line[2:30].split(b" ", 1)[0].upper()
    if name == b"SEARCH" or line[2:30].strip().upper() == b"SEARCH":
        return UidSet.parse_words(_ASIDE.sub(b"", line), 9)  # CONDSTORE appends (MODSEQ n)
    if name == b"ESEARCH":
        found = _ALL.search(_ASIDE.sub(b"", line[10:]))
        return UidSet.parse(found.group(1)) if found else UidSet()
    return None


def printable(text: bytes, limit: int = 500) -> str:
    """A server's words for logs and people: one line, no control characters, bounded."""
    shown = text[: limit * 4].decode("utf-8", "replace")
    if len(shown) <= limit and shown.isprintable():
        return shown
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
