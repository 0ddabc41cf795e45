"""What people read: tables, records, times, sizes. What came out of a mail or a server is disarmed before it is shown.

On a terminal tables fit its width and have colours; piped they are plain, one line a row, nothing cut off. rich costs
100 ms to load, so it is imported only where a terminal needs it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

GAP = "  "
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
# Directional marks (U+200E, U+200F) stay: they cannot turn strong characters around, and Hebrew and Arabic use them.
_BIDI = "\u202a-\u202e\u2066-\u2069"
_UNSAFE_IN_LINES = re.compile(f"[{_CONTROLS}{_BIDI}\u2028\u2029\ud800-\udfff]")
_UNSAFE = re.compile(f"[{_CONTROLS}\n{_BIDI}\u2028\u2029\ud800-\udfff]")
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_AGO_AS_DATE_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. `flex`: it gives way on a narrow terminal. `below`: on a terminal its cells stand in grey under
    those of that column. `piped`: shown only when the output is no terminal. `styles`: rich style by cell value.
    """

    title: str
    flex: bool = False
    right: bool = False
    piped: bool = False
    below: str | None = None
    styles: Mapping[str, str] = field(default_factory=dict[str, str])


def neutral(text: str, *, lines: bool = False) -> str:
    """`text` with everything made visible that could steer a terminal or turn the reading direction.

    Control characters become their pictures (ESC is ␛), the C1 set, bidi embeddings and line separators `<U+202E>`.
    With `lines`, line ends and tabs stay; otherwise a tab becomes a space and a line end is made visible too.
    """
    if lines:
        return _UNSAFE_IN_LINES.sub(_visible, text.replace("\r\n", "\n"))
    return _UNSAFE.sub(_visible, text.replace("\t", " "))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"<U+{code:04X}>"


def size(count_bytes: int | None) -> str:
    """Bytes for people, in decimal units: `999 B`, `1.2 kB`, `35 MB`; `-` when unknown."""
    if count_bytes is None:
        return "-"
    value, power = float(count_bytes), 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.{1 if power and value < 9.95 else 0}f} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """A span of time in its two largest units: `12 s`, `3 min 5 s`, `2 d 4 h`."""
    rest = round(seconds)
    parts: list[str] = []
    for length, unit in _SPANS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"


def ago(moment: str | None, now: datetime | None = None) -> str:
    """An ISO moment seen from now: `2 min ago`, `just now`, `in a moment`, `in 12 s`, a date when long past.

    `never` for None.
    """
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - parse_moment(moment)).total_seconds()
    if seconds > _AGO_AS_DATE_SECONDS:
        return f"{parse_moment(moment).astimezone():%Y-%m-%d}"
    if abs(seconds) < 1:
        return "just now" if seconds >= 0 else "in a moment"
    length, unit = next(span for span in _SPANS if abs(seconds) >= span[0])
    count = int(abs(seconds) // length)
    return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"


def parse_moment(moment: str) -> datetime:
    """An ISO date-time of the daemon's, aware; one without a zone is UTC."""
    parsed = datetime.fromisoformat(moment)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def local_time(moment: str | None) -> str:
    """An ISO moment on the reader's clock, `2026-11-22 17:51:03`; `-` for None."""
    return "-" if moment is None else f"{parse_moment(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def text_of(value: object) -> str:
    """Any JSON value as one cell: `-` for null and empty, yes and no, lists joined by commas."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    return str(value)


def say(line: str = "", **style: Any) -> None:
    """One line of our own words on standard output; foreign parts of it must have passed `neutral`."""
    click.echo(click.style(line, **style) if style else line)


def note(line: str) -> None:
    """One line beside the result, on standard error."""
    click.echo(line, err=True)


def print_json(answer: object) -> None:
    """A whole answer as indented JSON. ASCII only, so that no mail can steer the terminal this way either."""
    click.echo(json.dumps(answer, indent=2))


def print_json_line(answer: object) -> None:
    """One answer of a stream, as a line of NDJSON, at once."""
    click.echo(json.dumps(answer))
    sys.stdout.flush()


def print_record(pairs: Iterable[tuple[str, object]]) -> None:
    """Labelled values, one a line, the values aligned."""
    rows = [(label, neutral(text_of(value))) for label, value in pairs]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        say(f"{click.style(label.ljust(width), dim=True)}{GAP}{value}")


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table with a header; `empty` is said on standard error when there are no rows."""
    cells = [[neutral(text_of(value)) for value in row] for row in rows]
    if not cells:
        note(empty)
    elif sys.stdout.isatty():
        _print_on_terminal(columns, cells)
    else:
        _print_plain(columns, cells)


def _print_plain(columns: Sequence[Column], rows: list[list[str]]) -> None:
    lines = [[column.title for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        say(GAP.join(cells).rstrip())


def _print_on_terminal(columns: Sequence[Column], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, highlight=False, emoji=False)
    shown = [index for index, column in enumerate(columns) if not column.piped and column.below is None]
    under = {column.below: index for index, column in enumerate(columns) if column.below is not None}
    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold")
    for index, width in zip(shown, _widths(columns, rows, shown, console.width), strict=True):
        justify = "right" if columns[index].right else "left"
        table.add_column(columns[index].title, justify=justify, overflow="ellipsis", no_wrap=True, width=width)
    for row in rows:
        cells: list[Text] = []
        for index in shown:
            cell = Text(row[index], style=columns[index].styles.get(row[index], ""))
            if columns[index].title in under:
                cell.append("\n" + row[under[columns[index].title]], style="dim")
            cells.append(cell)
        table.add_row(*cells)
    console.print(table)


def _widths(columns: Sequence[Column], rows: list[list[str]], shown: list[int], available: int) -> list[int]:
    """The width of each column shown; of those that give way, the widest gives way first."""
    from rich.cells import cell_len

    below = {column.below: max(cell_len(row[index]) for row in rows) for index, column in enumerate(columns)}
    widths = [max(cell_len(columns[index].title), *(cell_len(row[index]) for row in rows)) for index in shown]
    least = [
        max(len(columns[index].title), below.get(columns[index].title, 0)) if columns[index].flex else width
        for index, width in zip(shown, widths, strict=True)
    ]
    widths = [max(pair) for pair in zip(widths, least, strict=True)]
    excess = sum(widths) + len(GAP) * (len(shown) - 1) - available
    while excess > 0 and (given := [place for place, width in enumerate(widths) if width > least[place]]):
        widths[max(given, key=widths.__getitem__)] -= 1
        excess -= 1
    return widths
