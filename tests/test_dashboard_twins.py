"""Every command that a page shows exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from inboxd import cli, ctl, dashboard
from shipped import commands_in, mistake_in

TEMPLATES = sorted((Path(dashboard.__file__).parent / "templates").glob("*.html"))
PROGRAMS = {"inboxd": cli.command, "inboxctl": ctl.cli}
# Pages in which nothing is shown or done that inboxctl could do.
WITHOUT = {"base.html", "parts.html", "failure.html", "setup_next.html", "signing_back.html"}
UNKNOWN = "NAME"


def readings(node: nodes.Node) -> Iterator[str]:
    """What an expression may become; NAME for whatever only the page's visit decides."""
    if isinstance(node, nodes.Const):
        yield str(node.value)
    elif isinstance(node, nodes.CondExpr):
        yield from readings(node.expr1)
        yield from readings(node.expr2) if node.expr2 is not None else ()
    elif isinstance(node, nodes.Concat):
        yield from ("".join(parts) for parts in product(*(tuple(readings(one)) for one in node.nodes)))
    else:
        yield UNKNOWN


def twins(path: Path) -> list[str]:
    """Every command the template may show."""
    text = path.read_text(encoding="utf-8")
    calls = Environment(autoescape=True).parse(text).find_all(nodes.Call)
    made = [c for c in calls if isinstance(c.node, nodes.Name) and c.node.name == "twin"]
    shown = [line for call in made for argument in call.args for line in readings(argument)]
    return [*shown, *re.findall(r"<code>(inbox(?:d|ctl) [^<{]+)</code>", text)]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_commands_on_a_page_exist(path: Path) -> None:
    lines = twins(path)
    calls = list(commands_in(lines))
    assert len(calls) == len([line for line in lines if line])
    assert [mistake for words in calls if (mistake := mistake_in(PROGRAMS, words))] == []
    is_page = '{% extends "base.html" %}' in path.read_text(encoding="utf-8")
    assert bool(calls) == (is_page and path.name not in WITHOUT)


def test_commands_that_do_not_exist_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('{{ twin("inboxctl " ~ ("status" if well else "panic") ~ " " ~ name|sh) }}')
    mistakes = [mistake_in(PROGRAMS, words) for words in commands_in(twins(page))]
    assert mistakes == [None, "cli has no command panic"]
