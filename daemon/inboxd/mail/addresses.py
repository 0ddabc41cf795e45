"""Mail addresses: a forgiving reader of address fields, and a strict check of what we put on an envelope."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from inboxd.errors import Invalid
from inboxd.mail.charsets import clean_line
from inboxd.mail.headers import decode_words
from inboxd.mails import Address

MAX_ADDRESSES = 1_000
MAX_ADDRESS = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets (RFC 3696 errata 1690)
MAX_SHOWN = 1_000

# Whatever is left open takes the rest, which keeps the scan linear.
_TOKEN = re.compile(
    r"""(?P<quoted>"(?:[^"\\]|\\.)*(?:"|\\?\Z))|(?P<angle><[^<>]*(?:>|\Z))|(?P<literal>\[[^\]]*(?:\]|\Z))"""
    r"""|(?P<mark>[(),:;])|(?P<text>[^"<(\[),:;]+)""",
    re.DOTALL,
)
# What most mailboxes look like: nothing that the scan would take apart but a phrase, perhaps quoted, and an address.
_PLAIN = re.compile(
    r'(?:([^"<>()\[\],:;]*)|\s*"([^"\\]*)"\s*)<([A-Za-z0-9_.!#$%&\'*+/?^`{|}~=-]+@[A-Za-z0-9_.-]+)>\s*|\s*([A-Za-z0-9_.+-]+@[A-Za-z0-9_.-]+)\s*'
)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
# A phrase and one angle-addr (RFC 5322 §3.4): nothing that would make it two mailboxes, a group or a comment.
_NAMED = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^"<>()\[\],:;\\])*<[^<>]*>\Z')
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PHRASE = re.compile(r"[\w!#$%&'*+/=?^`{|}~ -]+\Z")
_NEEDS_PAIR = re.compile(r"([\\\"])")
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f<>()\[\],;:\\\"\u2028\u2029]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\Z", re.IGNORECASE)


@final
@dataclass(slots=True)
class _Mailbox:
    """One mailbox while it is read."""

    start: int
    words: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    comments: list[str] = field(default_factory=list[str])
    angle: str | None = None

    def finish(self, raw: str) -> Address | None:
        """The mailbox as a record, or None when there is nothing in it."""
        comment = " ".join(self.comments).strip()
        if self.angle is not None:
            address = _without_route(self.angle)
            name = decode_words("".join(_unquoted(kind, text) for kind, text in self.words))
        else:
            address, name = _bare("".join(text for _, text in self.words))
        if not address:
            return None
        return Address(
            raw=decode_words(raw), address=clean_line(address, MAX_SHOWN), name=name or decode_words(comment) or None
        )


def read(values: Sequence[str]) -> tuple[Address, ...]:
    """The mailboxes of address fields, groups flattened (RFC 5322 §3.4), at most 1,000. Garbage yields what it can."""
    found: list[Address] = []
    for value in values:
        plain = [_PLAIN.fullmatch(part) for part in value.split(",")] if len(value) < MAX_SHOWN else [None]
        if None in plain:
            _read_field(value, found)
        else:
            found += [_plain(one) for one in plain if one is not None]
    return tuple(found[:MAX_ADDRESSES])


def _plain(found: re.Match[str]) -> Address:
    name, quoted, angle, bare = found.groups()
    return Address(raw=decode_words(found[0]), address=angle or bare, name=decode_words(name or quoted or "") or None)


def _read_field(value: str, found: list[Address]) -> None:
    mailbox = _Mailbox(0)
    depth = 0
    for token in _TOKEN.finditer(value):
        kind, text = token.lastgroup or "", token[0]
        if depth or text == "(":
            depth += {"(": 1, ")": -1}.get(text, 0)
            mailbox.comments.append(text if text not in "()" else " ")
        elif kind == "angle":
            mailbox.angle = text.strip("<>").strip()
        elif text in {",", ";"}:
            _finish(mailbox, value[mailbox.start : token.start()], found)
            mailbox = _Mailbox(token.end())
            if len(found) >= MAX_ADDRESSES:
                return
        elif text == ":":
            mailbox = _Mailbox(token.end())
        elif text != ")":
            mailbox.words.append((kind, text))
    _finish(mailbox, value[mailbox.start :], found)


def _finish(mailbox: _Mailbox, raw: str, found: list[Address]) -> None:
    if (address := mailbox.finish(raw)) is not None:
        found.append(address)


def _unquoted(kind: str, text: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", text[1:].removesuffix('"')) if kind == "quoted" else text


def _without_route(text: str) -> str:
    """The address of an angle-addr; a source route (RFC 5322 §4.4) is dropped."""
    return text.rpartition(":")[2].strip() if text.startswith("@") and ":" in text else text


def _bare(text: str) -> tuple[str, str]:
    """The address and name of a mailbox written without angle brackets."""
    text = text.strip()
    words = text.split()
    if len(words) < 2 or text.startswith('"'):
        return text, ""
    chosen = next((word for word in reversed(words) if "@" in word), None)
    return (chosen, decode_words(" ".join(word for word in words if word is not chosen))) if chosen else (text, "")


def mailbox(name: str, text: str) -> Address:
    """The one mailbox of `name@example.com` or `Name <name@example.com>`; Invalid naming the field `name` otherwise.

    Its address is fit for an envelope, as by `validate`.
    """
    text = text.strip(" ")
    if _CONTROLS.search(text):
        raise Invalid(name, "must not hold line breaks, NUL or other control characters")
    if "<" not in text:
        return Address(raw=text, address=validate(name, text))
    found = read([text]) if _NAMED.match(text) else ()
    if len(found) != 1:
        raise Invalid(name, f"{_shown(text)} is not a mailbox; write it as name@domain or Name <name@domain>")
    return Address(raw=text, address=validate(name, found[0].address), name=found[0].name)


def written(display_name: str | None, address: str) -> str:
    """A mailbox as a person writes it: nothing encoded, the name quoted where it must be (RFC 5322 §3.4)."""
    if not display_name:
        return address
    phrase = display_name if _PHRASE.match(display_name) else '"' + _NEEDS_PAIR.sub(r"\\\1", display_name) + '"'
    return f"{phrase} <{address}>"


def validate(name: str, address: str) -> str:
    """`address` fit for an envelope, its domain in ASCII (IDNA); Invalid naming the field `name` otherwise.

    A non-ASCII local part passes: it needs SMTPUTF8 (RFC 6531). Quoted local parts and address literals are refused.
    """
    local, at, domain = address.partition("@")
    if not at or not local or not domain or "@" in domain:
        raise Invalid(name, f"{_shown(address)} is not a mail address; write it as name@domain")
    if _FORBIDDEN.search(address) or local[0] == "." or local[-1] == "." or ".." in local:
        raise Invalid(name, f"{_shown(address)} holds characters that a mail address must not have")
    result = f"{local}@{_ascii_domain(name, domain)}"
    if len(result.encode()) > MAX_ADDRESS:
        raise Invalid(name, f"{_shown(address)} is longer than a mail address may be ({MAX_ADDRESS} octets)")
    return result


def _ascii_domain(name: str, domain: str) -> str:
    try:
        encoded = domain.encode("idna").decode("ascii") if not domain.isascii() else domain
    except UnicodeError as error:
        raise Invalid(name, f"{_shown(domain)} is not a domain name") from error
    if len(encoded) > 253 or not all(len(label) <= 63 and _LABEL.match(label) for label in encoded.split(".")):
        raise Invalid(name, f"{_shown(domain)} is not a domain name")
    return encoded


def _shown(text: str) -> str:
    return ascii(text[:80])
