"""MailSlurp's match options as a predicate on mails, without I/O. Regular expressions may take time: use a thread."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inboxd import patterns
from inboxd.mails import Address, Digest

Test = Callable[[Sequence[str]], bool]


class Part(enum.Enum):
    """The part of a mail that a rule looks at."""

    SUBJECT = "SUBJECT"
    TO = "TO"
    BCC = "BCC"
    CC = "CC"
    FROM = "FROM"
    HEADERS = "HEADERS"


class Should(enum.Enum):
    """How a part is compared: MATCH searches a regular expression, CONTAIN ignores case, EQUAL ignores outer spaces."""

    MATCH = "MATCH"
    CONTAIN = "CONTAIN"
    EQUAL = "EQUAL"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing a mail must have; made by `rule`."""

    part: Part
    should: Should
    value: str
    test: Test = field(compare=False, repr=False)


def rule(name: str, part: Part, should: Should, value: str) -> Rule:
    """The rule that `part` should be like `value`; Invalid naming `name` when `value` is no usable expression."""
    return Rule(part, should, value, _TESTS[should](name, value))


@dataclass(frozen=True, slots=True)
class Wishes:
    """Rules a mail must all meet. `attachments` says whether it must have any, once for each condition given."""

    rules: tuple[Rule, ...] = ()
    attachments: tuple[bool, ...] = ()

    @property
    def looks_at(self) -> frozenset[str]:
        """The names of those fields of a digest that `fits` looks at."""
        fields = {_PARTS[one.part][0] for one in self.rules if one.part in _PARTS}
        return frozenset(fields | {"attachments"} if self.attachments else fields)

    @property
    def need_headers(self) -> bool:
        """Whether `fits` alone does not decide."""
        return any(one.part is Part.HEADERS for one in self.rules)

    def fits(self, digest: Digest) -> bool:
        """Whether the mail meets every rule but those on its headers. Invalid when an expression takes too long."""
        has = bool(digest.attachments)
        return all(wanted is has for wanted in self.attachments) and all(
            one.test(_PARTS[one.part][1](digest)) for one in self.rules if one.part in _PARTS
        )

    def fits_headers(self, headers: Mapping[str, Sequence[str]]) -> bool:
        """Whether header fields, decoded and under their names, meet the rules on them. Invalid as in `fits`."""
        pairs = [(name, value) for name, values in headers.items() for value in values]
        lines = [f"{name}: {value}" for name, value in pairs]
        texts = {Should.EQUAL: [*lines, *(value for _, value in pairs)]}
        return all(one.test(texts.get(one.should, lines)) for one in self.rules if one.part is Part.HEADERS)


def _subject(digest: Digest) -> list[str]:
    return [digest.subject or ""]


def _sender(digest: Digest) -> list[str]:
    return _written([digest.sender] if digest.sender else [])


def _written(addresses: Iterable[Address]) -> list[str]:
    """Each address bare, as its sender wrote it, and the name beside it."""
    return [text for one in addresses for text in (one.address, one.raw, one.name) if text]


# The field of the digest that a part is in, and its texts.
_PARTS: Final[Mapping[Part, tuple[str, Callable[[Digest], list[str]]]]] = {
    Part.SUBJECT: ("subject", _subject),
    Part.FROM: ("sender", _sender),
    Part.TO: ("to", lambda digest: _written(digest.to)),
    Part.CC: ("cc", lambda digest: _written(digest.cc)),
    Part.BCC: ("bcc", lambda digest: _written(digest.bcc)),
}


def _match(name: str, value: str) -> Test:
    """The texts are searched as the lines of one, so that a mail with many costs one search; ^ and $ are their ends."""
    pattern = patterns.compile(name, f"(?m){value}")
    return lambda texts: bool(texts) and patterns.search(pattern, "\n".join(texts)) is not None


def _contain(_name: str, value: str) -> Test:
    part = value.casefold()
    return lambda texts: any(part in text.casefold() for text in texts)


def _equal(_name: str, value: str) -> Test:
    whole = value.strip()
    return lambda texts: any(text.strip() == whole for text in texts)


_TESTS: Final[Mapping[Should, Callable[[str, str], Test]]] = {
    Should.MATCH: _match,
    Should.CONTAIN: _contain,
    Should.EQUAL: _equal,
}
