"""Substring search in the texts of `searched`, and the index behind it.

PostgreSQL keeps its index (pg_trgm, GIN) by itself. In SQLite that would cost each write more than all the rest of it,
so there `search_index` (FTS5, trigrams) follows: it holds the texts up to the number in `search_mark`, those above it
are scanned, and a search is complete at any time. A text that is removed leaves a copy in `search_removed`, because
FTS5 needs it once more to take it out of the index; until then its number is there and belongs to no message.
`search_terms` shows which trigrams there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    column,
    delete,
    exists,
    false,
    func,
    literal,
    select,
    table,
    text,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import Join

from inboxd.model import Window
from inboxd.store.columns import clean
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, paged
from inboxd.store.schema import MESSAGES, SEARCHED

_TRIGRAM: Final = 3
# The index is asked for no more than so many, the text itself for the rest.
_PHRASE_CHARACTERS: Final = 32
# To look at these takes less time than to count all messages.
_FEW: Final = 2000
# The time that FTS5 takes for alternatives grows with their square.
_MOST_TERMS: Final = 256
# With every wildcard escaped this stays below SQLite's limit for a LIKE pattern, 50,000 bytes.
_MOST_CHARACTERS: Final = 10_000
# A transaction that adds these to the index, or takes them out, takes 10 to 50 ms.
_CHARACTERS_AT_ONCE: Final = 30_000
_TEXTS_AT_ONCE: Final = 100
# One step of joining the index's segments into fewer, which searches are quicker with.
_PAGES_AT_ONCE: Final = 64

_INDEX = table("search_index", column("rowid"), column("text"))
_TERMS = table("search_terms", column("term"))
_MARK = table("search_mark", column("seq"))
_REMOVED = table("search_removed", column("seq"), column("text"))
_ADD = text(
    "INSERT INTO search_index (rowid, text) SELECT seq, text FROM searched WHERE seq > :above AND seq <= :up_to"
)
_TAKE_OUT = text(
    "INSERT INTO search_index (search_index, rowid, text)"
    " SELECT 'delete', seq, text FROM search_removed WHERE seq <= :up_to"
)
_MERGE = text("INSERT INTO search_index (search_index, rank) VALUES ('merge', :pages)")
_CHANGES = text("SELECT total_changes()")
# A plan for any words would read the whole index for those that are too short for it.
_PLAN_FOR_THESE_WORDS = text("SET LOCAL plan_cache_mode = force_custom_plan")


async def count(connection: AsyncConnection, words: str, where: Sequence[Condition]) -> int:
    """How many messages that meet `where` hold `words` in their recipients, sender, subject, id or text.

    In any case of letters; nothing in `words` has a meaning of its own. One character is not helped by an index, nor
    are two on PostgreSQL: every text is looked at. More than 10,000 are held by none.
    """
    return await _count(connection, await _hits(connection, clean(words).casefold()), where)


async def page(
    connection: AsyncConnection, words: str, window: Window, where: Sequence[Condition], count_to: int | None = None
) -> tuple[Sequence[int], int]:
    """The numbers of the messages on the window's page in its order, and how many `count` counts.

    `count_to` as in `messages.page`.
    """
    hits = await _hits(connection, clean(words).casefold())
    total = await _count(connection, hits, where, count_to)
    is_cut = count_to is not None and total > count_to
    last = (await connection.execute(select(func.max(MESSAGES.c.seq)))).scalar_one() or 0
    wanted = select(MESSAGES.c.seq).where(*where)
    before = min((window.page + 1) * window.size, total - window.page * window.size)
    ahead = before * last // max(total, 1)
    # About so many messages come before the end of the page. When they are fewer than all hits, they are looked at one
    # by one, in order, until the page is full, unless each message is a hit; else all hits are sorted.
    if ahead >= total:
        numbers = union_all(*(select(one.c.seq) for one in hits)).subquery()
        wanted = select(MESSAGES.c.seq).select_from(_messages_of(numbers)).where(*where)
    elif is_cut or ahead < _FEW or total < await _count_all(connection, where):
        wanted = wanted.where(holding(words))
    # From the end of those that were not counted there is no way to the page.
    reach = 2 * total if is_cut else total
    return (await connection.execute(paged(wanted, MESSAGES, window, reach))).scalars().all(), total


def holding(words: str) -> Condition:
    """Messages that hold `words`, each one looked at: a scalar, because PostgreSQL would turn an EXISTS into a join."""
    return select(_in_text(clean(words).casefold())).where(SEARCHED.c.seq == MESSAGES.c.seq).scalar_subquery()


async def _count(
    connection: AsyncConnection, hits: Sequence[FromClause], where: Sequence[Condition], most: int | None = None
) -> int:
    """How many there are; where that is above `most`, one more than that at the least."""
    total = 0
    for some in hits:
        wanted = select(literal(1).label("one")).select_from(_messages_of(some)).where(*where)
        if most is not None:
            wanted = wanted.limit(most + 1)
        total += (await connection.execute(select(func.count()).select_from(wanted.subquery()))).scalar_one()
    return total


async def _count_all(connection: AsyncConnection, where: Sequence[Condition]) -> int:
    return (await connection.execute(select(func.count()).select_from(MESSAGES).where(*where))).scalar_one()


async def _hits(connection: AsyncConnection, words: str) -> Sequence[FromClause]:
    """Where the numbers of texts with `words` come from."""
    looked_at = select(SEARCHED.c.seq).where(_in_text(words))
    if connection.dialect.name != "sqlite":
        await connection.execute(_PLAN_FOR_THESE_WORDS)
        return [looked_at.subquery()]
    phrases = await _phrases(connection, words)
    if phrases is None:
        return [looked_at.subquery()]
    indexed: Select[Any] = select(_INDEX.c.rowid.label("seq")).where(_INDEX.c.text.match(phrases))
    if len(words) > _PHRASE_CHARACTERS:
        indexed = indexed.where(exists().where(SEARCHED.c.seq == _INDEX.c.rowid, _in_text(words)))
    above = looked_at.where(SEARCHED.c.seq > select(_MARK.c.seq).scalar_subquery())
    return [indexed.subquery(), above.subquery()]


async def _phrases(connection: AsyncConnection, words: str) -> str | None:
    """What to ask FTS5 for; None when it cannot tell, or not quickly."""
    if len(words) >= _TRIGRAM:
        return _quoted(words[:_PHRASE_CHARACTERS])
    if len(words) < _TRIGRAM - 1:
        return None
    # Every text ends in two line ends, so that each two characters begin a trigram.
    beginning = [_TERMS.c.term >= words, _TERMS.c.term <= f"{words}\U0010ffff"]
    terms = (await connection.execute(select(_TERMS.c.term).where(*beginning).limit(_MOST_TERMS + 1))).scalars().all()
    return " OR ".join(map(_quoted, terms or [words])) if len(terms) <= _MOST_TERMS else None


def _quoted(words: str) -> str:
    return '"' + words.replace('"', '""') + '"'


def _in_text(words: str) -> ColumnElement[bool]:
    return SEARCHED.c.text.contains(words, autoescape=True) if len(words) <= _MOST_CHARACTERS else false()


def _messages_of(hits: FromClause) -> FromClause:
    return _FirstTheLeft(hits, MESSAGES, MESSAGES.c.seq == hits.c.seq)


@final
class _FirstTheLeft(Join):
    """A join that SQLite does not turn round: without statistics it would look each message up among the hits."""

    inherit_cache = True


@compiles(_FirstTheLeft)
def _join(join: Join, compiler: SQLCompiler, **options: Any) -> str:
    word = " CROSS JOIN " if compiler.dialect.name == "sqlite" else " JOIN "
    sides = (compiler.process(side, **options) for side in (join.left, join.right))
    condition = MESSAGES.c.seq == join.left.c.seq
    return f"{word.join(sides)} ON {compiler.process(condition, from_linter=options.get('from_linter'))}"


async def is_deferred(store: Store) -> bool:
    """Whether the index has to be brought up by `follow`."""

    async def look(connection: AsyncConnection) -> bool:
        return connection.dialect.name == "sqlite"

    return await store.read(look)


async def follow(store: Store) -> bool:
    """Bring the index nearer to the texts in one short transaction; False when there was nothing left to do."""
    return await store.write(_follow)


async def _follow(connection: AsyncConnection) -> bool:
    return await _take_out(connection) or await _add(connection) or await _merge(connection)


async def _take_out(connection: AsyncConnection) -> bool:
    up_to = await _reach(connection, _REMOVED, above=0)
    if up_to is None:
        return False
    await connection.execute(_TAKE_OUT, {"up_to": up_to})
    await connection.execute(delete(_REMOVED).where(_REMOVED.c.seq <= up_to))
    return True


async def _add(connection: AsyncConnection) -> bool:
    mark = (await connection.execute(select(_MARK.c.seq))).scalar_one()
    up_to = await _reach(connection, SEARCHED, above=mark)
    if up_to is None:
        return False
    await connection.execute(_ADD, {"above": mark, "up_to": up_to})
    await connection.execute(update(_MARK).values(seq=up_to))
    return True


async def _merge(connection: AsyncConnection) -> bool:
    """Whether anything was merged, which shows in two changed rows or more (FTS5's documentation, §6.9)."""
    before = (await connection.execute(_CHANGES)).scalar_one()
    await connection.execute(_MERGE, {"pages": _PAGES_AT_ONCE})
    return (await connection.execute(_CHANGES)).scalar_one() - before >= 2


async def _reach(connection: AsyncConnection, texts: FromClause, above: int) -> int | None:
    """The last of the texts after `above` that fit one transaction, at least the first; None when there is none."""
    wanted = select(texts.c.seq, func.length(texts.c.text)).where(texts.c.seq > above)
    room = _CHARACTERS_AT_ONCE
    up_to = None
    for seq, characters in await connection.execute(wanted.order_by(texts.c.seq).limit(_TEXTS_AT_ONCE)):
        room -= characters
        if up_to is not None and room < 0:
            break
        up_to = seq
    return up_to
