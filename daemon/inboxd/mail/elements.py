"""Elements of HTML by CSS selector. For the confined child alone: lexbor takes 3 GB for 64 KB of `<font a1><p>…`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from inboxd.errors import Invalid, Unparsable
from inboxd.mail.glean import MAX_FOUND, MAX_HTML, lines_of_html

_LINKS = "a[href], area[href]"


def links(source: str, selector: str | None) -> list[str]:
    """The first 10,000 link targets as written, in order, within elements that match `selector` where it is given.

    Invalid naming the selector, or Unparsable.
    """
    tree = _parsed(source)
    within = [node for node in (tree.root,) if node] if selector is None else _matches(tree, selector, "selector")
    found = {link.mem_id: link.attributes.get("href") for node in within for link in node.css(_LINKS)}
    targets = (target.strip() for target in found.values() if target)
    return list(islice((target for target in targets if target), MAX_FOUND))


def lines(source: str, selector: str) -> list[str]:
    """The first 10,000 lines of visible text of each element that matches; Invalid naming the selector, or Unparsable.

    An element within a matching one is shown for itself too.
    """
    return list(islice(_lines(_matches(_parsed(source), selector, "htmlSelector")), MAX_FOUND))


def _lines(nodes: list[LexborNode]) -> Iterator[str]:
    for node in nodes:
        yield from lines_of_html(node.html or "")


def _parsed(source: str) -> LexborHTMLParser:
    try:
        return LexborHTMLParser(source[:MAX_HTML])
    except SelectolaxError as error:
        raise Unparsable("the HTML cannot be parsed in the memory there is for it") from error


def _matches(tree: LexborHTMLParser, selector: str, field: str) -> list[LexborNode]:
    try:
        return tree.css(selector)
    except SelectolaxError as error:
        raise Invalid(field, "is not a CSS selector; write one such as: table td.code, a[href]") from error
