"""Regular expressions: Java's syntax as far as it goes, refusals in plain words, and bounds that hold."""

from __future__ import annotations

import asyncio
import threading

import pytest

from inboxd import patterns
from inboxd.errors import Invalid


def _search(pattern: str, text: str) -> list[str] | None:
    return patterns.search(patterns.compile("pattern", pattern), text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"code is (\d{6})", "Your code is 123456.", ["code is 123456", "123456"]),
        (r"(?<year>\d{4})-(?<month>\d\d)", "on 2026-11-22", ["2026-11", "2026", "11"]),
        (r"(?<quote>['\"]).*?\k<quote>", "say 'a\"b' now", ["'a\"b'", "'"]),
        (r"a++b", "aaab", ["aaab"]),
        (r"(?>a|ab)c", "abc", None),
        (r"\p{Lu}\p{L}+", "le Été", ["Été"]),
        (r"\p{IsCyrillic}+", "это да", ["это"]),
        (r"[a-z&&[^aeiou]]+", "aeixyz", ["xyz"]),
        (r"\Q1.5 (a+b)*\E!", "1.5 (a+b)*!", ["1.5 (a+b)*!"]),
        (r"\Qa\b", r"a\b", [r"a\b"]),
        (r"\x{1F600}\u0041\x42", "\U0001f600AB", ["\U0001f600AB"]),
        (r"\\Qx\\k<y>", r"\Qx\k<y>", [r"\Qx\k<y>"]),
        (r"x(?i)hello(?-i)Y", "xHELLOY", ["xHELLOY"]),
        (r"(?s)a.b", "a\nb", ["a\nb"]),
        (r"(?m)^b$", "a\nb\nc", ["b"]),
        (r"(?<=id=)\w+(?=;)", "id=abc;", ["abc"]),
        (r"(a)|(b)", "b", ["b", "", "b"]),
        (r"nothing", "something", None),
        ("", "", [""]),
        (r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}", "00:1B:44:11:3A:B7", ["00:1B:44:11:3A:B7"]),
        (r".{0,2000}end", "the end", ["the end"]),
    ],
)
def test_patterns_match_as_in_java(pattern: str, text: str, found: list[str] | None) -> None:
    assert _search(pattern, text) == found


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "is not a regular expression: missing ) at position 1"),
        ("*a", "is not a regular expression: nothing to repeat at position 0"),
        (r"\p{Nonsense}", "is not a regular expression: unknown property"),
        ("(?V0)a", "is not a regular expression"),
        ("a" * 1_001, "must not be longer than 1000 characters"),
        ("(" * 400 + ")" * 400, "is nested too deeply"),
        ("(?R)", "must not call its own groups"),
        ("(a(?1)?)b", "must not call its own groups"),
        ("(?<x>a(?&x)?)b", "must not call its own groups"),
    ],
)
def test_what_cannot_be_used_is_refused_naming_the_field(pattern: str, words: str) -> None:
    with pytest.raises(Invalid) as refusal:
        patterns.compile("theField", pattern)
    assert refusal.value.field == "theField"
    assert str(refusal.value).startswith(f"theField: {words}")


@pytest.mark.parametrize(
    "pattern",
    [
        "a{4000000}",
        "(?:a{1000}){1000}",
        "(?:a|b){400000,}",
        "((a{60}){60}){60}",
        "(?x)(?:a{1000}) {1000}",
        "(?x)(?:a{1000}) # x]\n{1000}",
        "(?x)(?:a{1000})(?#x){ 1000}",
        "(?:" * 20 + "a{2}" + "){2}" * 20,
        "(?<=a{60000})" * 50,
    ],
)
def test_patterns_that_would_fill_the_memory_are_refused(pattern: str) -> None:
    with pytest.raises(Invalid, match="pattern: repeats too much"):
        patterns.compile("pattern", pattern)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(?:a|aa)+$", r"(.*?),(.*?),(.*?),x"])
def test_a_search_without_end_is_cut_off_naming_the_field(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCH_SECONDS", 0.2)  # the API's test waits as long as its callers would
    slow = patterns.compile("theField", pattern)
    with pytest.raises(Invalid, match=r"theField: takes more than 0.2 s on this text; make it simpler"):
        patterns.search(slow, "a," * 100_000 + "a" * 100_000 + "b, x")


async def test_a_long_search_lets_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCH_SECONDS", 0.5)
    slow = patterns.compile("pattern", r"(a+)+$")
    others: list[str] = []

    def run() -> None:
        try:
            patterns.search(slow, "a" * 100_000 + "b")
        except Invalid:
            others.append("search")

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(others.append, "another")
    thread.join()
    assert others == ["another", "search"]


def test_only_the_first_million_characters_are_searched() -> None:
    found = patterns.compile("pattern", "end")
    assert patterns.search(found, "a" * (patterns.MAX_TEXT - 3) + "end") == ["end"]
    assert patterns.search(found, "a" * (patterns.MAX_TEXT - 2) + "end") is None
