"""Reading what is shipped: Markdown's code, links and tables, and the commands people are told to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("inboxd", "inboxctl")
EVERYWHERE = frozenset({"--help", "-h"})
ENDS = re.compile(r"\s(?:\||&&|\|\||;|#|>|2>|<)(?=\s|$)|[;…]")
BEFORE = re.compile(r"^(?:\$|#|sudo|exec|[A-Z_]+=\S*)$")


def markdown_files() -> list[Path]:
    """Every Markdown file of the project itself."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")]
    return sorted(path for path in found if "node_modules" not in path.parts)


def code_lines(path: Path) -> list[str]:
    """What stands in code blocks, continued lines joined, and in code spans."""
    lines: list[str] = []
    for token in _tokens(path):
        if token.type in ("fence", "code_block"):
            lines += re.sub(r"\\\n\s*", " ", token.content).splitlines()
        elif token.type == "code_inline":
            lines.append(token.content)
    return lines


def links_in(path: Path) -> list[str]:
    """Where the links lead."""
    return [str(token.attrs["href"]) for token in _tokens(path) if token.type == "link_open"]


def slugs_of(path: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table(path: Path, first_column: str) -> list[dict[str, str]]:
    """The rows of the one table whose first column has that title."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    titles = _cells(lines[start])
    rows: list[dict[str, str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(titles, _cells(line), strict=True)))
    return rows


def commands_in(lines: Iterable[str]) -> Iterator[list[str]]:
    """The calls of our programs, as words from the program's name on."""
    for line in lines:
        for call in ENDS.split(line):
            words = _words(call)
            while words and BEFORE.fullmatch(words[0]):
                words = words[1:]
            if len(words) > 1 and PurePath(words[0]).name in PROGRAMS:
                yield [PurePath(words[0]).name, *words[1:]]


def mistake_in(programs: Mapping[str, click.Command], words: list[str]) -> str | None:
    """What is wrong with a call: a command or an option that does not exist."""
    command = programs[words[0]]
    known = _options(command)
    for word in words[1:]:
        word = word.strip("[]")
        if word.startswith("-") and len(word) > 1:
            if word.split("=")[0] not in known | _options(command):
                return f"{command.name} has no option {word}"
        elif isinstance(command, click.Group) and word.isascii() and not word.isupper():
            for name in word.split("|"):
                if name not in command.commands:
                    return f"{command.name} has no command {name}"
            command = command.commands[word.split("|")[0]]
    return None


def _options(command: click.Command) -> set[str]:
    spelt = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return spelt | EVERYWHERE


def _words(call: str) -> list[str]:
    try:
        return shlex.split(call)
    except ValueError:
        return call.split()


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _tokens(path: Path) -> Iterator[Token]:
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()
