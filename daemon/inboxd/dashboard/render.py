"""Templates to HTML: escaped, strict about what they are given, with the words for times, sizes and states."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from inboxd.model import utc_now

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
_MULTIPLES: Final = ("KB", "MB", "GB", "TB")
_JUST_NOW_SECONDS: Final = 5
NONE: Final = "\N{EN DASH}"
_LINK: Final = re.compile(r"(?<![\w@/.-])((?:[\w-]+\.){2,}(?:com|net|org)(?:/[\w/-]+)?)")
_COMMAND: Final = re.compile(r"[;,:]? (?:give one|mend it) with: inboxctl .*")


def page(template: str, values: Mapping[str, Any]) -> str:
    """The template's HTML."""
    return _ENVIRONMENT.get_template(template).render(values)


def duration(seconds: float | None) -> str:
    """A span of time in its largest unit: 40 s, 3 min, 5 h, 12 d."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def took(span: timedelta | None) -> str:
    """How long something lasted, likewise: 90 ms, 2.4 s, 3 min; nothing is known of what is None."""
    seconds = None if span is None else span.total_seconds()
    return f"{seconds:.1f} s" if seconds is not None and 1 <= seconds < 9.95 else duration(seconds)


def size(count: float) -> str:
    """A number of bytes: 812 B, 4.2 KB, 17 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    unit = 0
    while (count := count / 1000) >= 1000 and unit < len(_MULTIPLES) - 1:
        unit += 1
    return f"{count:.1f} {_MULTIPLES[unit]}" if count < 10 else f"{count:.0f} {_MULTIPLES[unit]}"


def number(count: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{count:,.0f}".replace(",", "\u202f")


def ago(moment: datetime | None) -> str:
    """How long ago that was, as a time element that names the moment."""
    if moment is None:
        return "never"
    seconds = (utc_now() - moment).total_seconds()
    words = "just now" if seconds < _JUST_NOW_SECONDS else f"{duration(seconds)} ago"
    return _time(moment, words)


def span(moment: datetime | None) -> str:
    """How long it has been so since then, likewise."""
    return NONE if moment is None else _time(moment, f"for {duration(max((utc_now() - moment).total_seconds(), 1))}")


def until(moment: datetime | None) -> str:
    """How long it is until then, likewise."""
    if moment is None:
        return NONE
    seconds = (moment - utc_now()).total_seconds()
    return _time(moment, f"in {duration(seconds)}" if seconds >= 1 else "now")


def clock(moment: datetime | None) -> str:
    """The moment itself, in UTC."""
    return NONE if moment is None else _time(moment, moment.strftime("%Y-%m-%d %H:%M:%S"))


def brief(moment: datetime | None) -> str:
    """For lists: the time of today's, the day of this year's, else the date."""
    if moment is None:
        return NONE
    now = utc_now()
    if now - moment < timedelta(hours=20):
        return _time(moment, moment.strftime("%H:%M"))
    return _time(moment, moment.strftime("%-d %b" if moment.year == now.year else "%Y-%m-%d"))


def _time(moment: datetime, words: str) -> str:
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(stamp, stamp[:-1].replace("T", " "), words)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 message`, `2 messages`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def sh(word: str) -> str:
    """The word as a shell is to be given it."""
    return shlex.quote(word)


def told(text: str) -> str:
    """Our own words with `…` as code, and the sites they name as links, to which we are not told."""
    made = Markup()
    for at, piece in enumerate(text.split("`")):
        if at % 2:
            made += Markup("<code>{}</code>").format(piece)
            continue
        for turn, words in enumerate(_LINK.split(piece)):
            link = Markup('<a href="https://{0}" rel="noreferrer" target="_blank">{0}</a>')
            made += link.format(words) if turn % 2 else words
    return made


def without_command(reason: str) -> str:
    """Why a connector waits, without the command that mends it: beside a button that does."""
    return _COMMAND.sub("", reason)


def bars(counts: Sequence[float], width: int = 120, height: int = 28) -> str:
    """A small bar chart of one row of numbers, as inline SVG; a hundred of them make no large page."""
    most = max(counts, default=0) or 1
    step = width / max(len(counts), 1)
    made = "".join(
        f"M{at * step:.4g} {height}v-{tall:.3g}h{max(step - 1, 0.5):.3g}v{tall:.3g}z"
        for at, count in enumerate(counts)
        if (tall := max(count / most * height, 1.5)) and count
    )
    return _chart("bars", f"M0 {height}v-.5h{width}v.5z{made}", width, height)


def curve(values: Sequence[float], width: int = 80, height: int = 28) -> str:
    """A small line through one row of numbers, likewise; from 0 up."""
    most = max(values, default=0) or 1
    step = width / max(len(values) - 1, 1)
    points = [f"{at * step:.4g} {height - 1 - value / most * (height - 2):.3g}" for at, value in enumerate(values)]
    return _chart("curve", f"M{points[0]}L{' '.join(points[1:]) or f'{width} {points[0].split()[1]}'}", width, height)


def _chart(kind: str, drawn: str, width: int, height: int) -> str:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" aria-hidden="true"><path d="{}"/></svg>').format(
        kind, width, height, drawn
    )


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("inboxd", "dashboard/templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_FILTERS: Final[tuple[Callable[..., str], ...]] = (
    duration, took, size, number, ago, span, until, clock, brief, plural, sh, told, without_command, bars, curve,
)  # fmt: skip
_ENVIRONMENT.filters |= {one.__name__: one for one in _FILTERS}  # pyright: ignore[reportAttributeAccessIssue]
