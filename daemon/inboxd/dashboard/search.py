"""What people write into the search box: words, and operators such as `from:ada is:unread after:2026-01-31`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final, final

from inboxd.model import MessageFilter

OPERATORS: Final = ("from:", "to:", "subject:", "is:unread", "is:favourite", "has:attachment", "after:", "before:")
_TERM: Final = re.compile(r'(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)
_FIELDS: Final = {"from": "sender", "to": "recipient", "subject": "subject"}
_MARKS: Final = {
    ("is", "unread"): "unread_only",
    ("is", "favourite"): "favourite_only",
    ("is", "favorite"): "favourite_only",
    ("is", "starred"): "favourite_only",
    ("has", "attachment"): "attached_only",
}


@final
@dataclass(frozen=True, slots=True)
class Search:
    """The filter a search stands for, its span of time, and what in it was not understood."""

    chosen: MessageFilter
    since: datetime | None = None
    before: datetime | None = None
    mistakes: tuple[str, ...] = field(default=())


def read(written: str, chosen: MessageFilter) -> Search:
    """What was written, on top of a filter. Whatever is no operator is looked for as it stands."""
    words: list[str] = []
    found = Search(chosen)
    for term in _TERM.finditer(written[:1000]):
        operator, value = (term[1] or "").lower(), term[2] if term[2] is not None else term[3]
        understood = _operator(found, operator, value.strip()) if operator else None
        if understood is None:
            words.append(f"{term[1]}:{value}" if operator else value)
        else:
            found = understood
    text = " ".join(words).strip()
    # The index of texts narrows down what the fields are then looked through for.
    narrowing = text or max((getattr(found.chosen, name) or "" for name in _FIELDS.values()), key=len)
    return replace(found, chosen=replace(found.chosen, search=narrowing or None))


def _operator(found: Search, operator: str, value: str) -> Search | None:
    if operator in _FIELDS:
        return replace(found, chosen=replace(found.chosen, **{_FIELDS[operator]: value or None}))
    if mark := _MARKS.get((operator, value.lower())):
        return replace(found, chosen=replace(found.chosen, **{mark: True}))
    if operator in ("is", "has"):
        return _mistaken(found, f"{operator}:{value} means nothing; there are is:unread, is:favourite, has:attachment")
    if operator in ("after", "before"):
        moment = _day(value)
        if moment is None:
            return _mistaken(found, f"{operator}:{value} is no day; write it as {operator}:2026-01-31")
        if operator == "after":
            return replace(found, since=moment + timedelta(days=1))
        return replace(found, before=moment)
    return None


def _mistaken(found: Search, words: str) -> Search:
    return replace(found, mistakes=(*found.mistakes, words))


def _day(value: str) -> datetime | None:
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if 1970 <= day.year < 2200 else None
