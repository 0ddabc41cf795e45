"""The page at /docs: complete, at rest without scripts or anything from elsewhere, and closed to hostile words."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import AsyncGenerator
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from api_site import Site, open_site
from inboxd import __version__
from inboxd.api import reference
from inboxd.api.openapi import document
from inboxd.api.routes import ROUTES

DOCUMENT: Final[dict[str, Any]] = document(ROUTES)
PAGE: Final = reference.page(DOCUMENT)
SERVED: Final = [route for route in ROUTES if not route.socket_only]
_VOID: Final = frozenset({"meta", "wbr"})


class Outline(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag begins."""
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """A tag ends."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text inside the innermost tag, and those around it."""
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def values(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _tag, attribute, value in self.attributes if attribute == name]


OUTLINE: Final = Outline(PAGE.content)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def test_it_is_served_without_a_key_under_its_own_policy(site: Site) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{site.url}/docs") as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
        assert await answer.text() == PAGE.content
        assert answer.headers["Content-Security-Policy"] == PAGE.policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    (style,) = OUTLINE.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = dict(rule.split(" ", maxsplit=1) for rule in PAGE.policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_it_needs_no_script_and_nothing_from_elsewhere() -> None:
    assert not {"script", "img", "link", "iframe", "form", "object"} & set(OUTLINE.tags)
    assert not [name for _tag, name, _value in OUTLINE.attributes if name.startswith("on") or name in ("src", "style")]
    assert not re.search(r"url\(|@import", OUTLINE.texts["style"][0])
    assert {link for link in OUTLINE.values("href") if not link.startswith("#")} == {"/openapi.json"}


def test_it_is_for_phones_and_for_the_dark() -> None:
    assert "width=device-width, initial-scale=1" in OUTLINE.values("content")
    assert "light dark" in OUTLINE.values("content")
    assert "prefers-color-scheme: dark" in OUTLINE.texts["style"][0]
    assert OUTLINE.values("lang") == ["en"]


def test_every_link_leads_somewhere_and_every_place_is_one() -> None:
    places = OUTLINE.values("id")
    assert len(places) == len(set(places))
    assert {link[1:] for link in OUTLINE.values("href") if link.startswith("#")} <= set(places)
    assert set(OUTLINE.values("aria-labelledby")) <= set(places)


def test_every_operation_and_model_has_its_place() -> None:
    places = set(OUTLINE.values("id"))
    assert {route.operation for route in SERVED} <= places
    assert set(DOCUMENT["components"]["schemas"]) <= places
    assert {tag["name"] for tag in DOCUMENT["tags"]} <= places
    for route in SERVED:
        assert f"{route.method} {route.path}" in OUTLINE.texts["p"]
    assert any(text == f"inboxd {__version__}" for text in OUTLINE.texts["p"])


def test_parameters_bodies_and_answers_are_told() -> None:
    article = _article("searchEmails")
    for word in ("syncConnectors", "query", "SearchEmailsOptions", "PageEmailProjection", "default false", "400"):
        assert word in article
    assert '<a href="#SearchEmailsOptions">' in article
    assert "<b>required</b>" in _article("getConnector")
    assert "Needs no API key" in _article("getReference")
    assert "the scope <code>read</code> and <code>send</code>; one of a single inbox will do." in _article(
        "replyToEmail"
    )
    assert "Needs an API key with the scope <code>manage</code>." in _article("createInbox")


def _article(operation: str) -> str:
    (found,) = re.findall(rf'<article aria-labelledby="{operation}">.*?</article>', PAGE.content, re.DOTALL)
    return found


@pytest.mark.parametrize("route", SERVED, ids=lambda route: route.operation)
def test_the_example_is_a_command_that_asks_for_the_operation(route: Any) -> None:
    (example,) = [text for text in OUTLINE.texts["pre"] if _asks_for(text, route)]
    words = shlex.split(example)
    assert ("x-api-key: $KEY" in words) == (not route.is_open)
    if "Content-Type: application/json" in words:
        assert json.loads(words[words.index("-d") + 1]) is not None


def _asks_for(example: str, route: Any) -> bool:
    address = re.escape(route.path).replace(r"\{", "{").replace(r"\}", "}")
    place = re.sub(r"{\w+}", "[A-Z_]+", address)
    method = "" if route.method == "GET" else f"-X {route.method} "
    return re.match(rf'curl {method}"\$URL{place}[?"]', example) is not None


def test_hostile_words_stay_words() -> None:
    hostile = deepcopy(DOCUMENT)
    words = "</style><script>alert(1)</script>`<img src=x onerror=alert(1)>`"
    operation = hostile["paths"]["/connectors"]["get"]
    operation["summary"] = operation["description"] = operation["parameters"][0]["description"] = words
    hostile["info"]["description"] = words
    hostile["components"]["schemas"]["Email"]["examples"] = [{"subject": words}]
    outline = Outline(reference.page(hostile).content)
    assert not {"script", "img"} & set(outline.tags)
    assert any("alert(1)" in text for text in outline.texts["p"])
