"""The book of copies: its questions, each one query, and the turn of the process that writes it."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import (
    ColumnElement,
    Numeric,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    extract,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, given, lock_key, storable
from sources.ledger.tables import mirror_rows as rows
from sources.ledger.tables import mirror_streams as streams
from sources.ports.common import Direction, Key, Page
from sources.ports.mirror import (
    Between,
    Bookmark,
    Copied,
    CopiedCounts,
    CopiedPages,
    Copy,
    Lag,
    MirrorQuery,
    MirrorRow,
    MirrorTurn,
    OneOf,
    Phrase,
    Standing,
    TurnLost,
)

_AGE = extract("epoch", func.clock_timestamp() - streams.c.as_of)
_BODY = cast(rows.c.body, Text)
_TEXTS = ARRAY(Text(collation="C"))
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"


class Mirrors:
    """Fills MirrorStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def turn(self, source: str) -> AsyncIterator[MirrorTurn | None]:
        async with self._database.alone() as connection:
            taken = await connection.execute(select(func.pg_try_advisory_lock(lock_key(f"mirror:{source}"))))
            # The lock ends with the connection, however this process ends.
            yield Turn(self._database) if taken.scalar_one() else None

    async def rows(self, copy: Copy, ids: Sequence[str]) -> Copied:
        wanted = rows.c.id == func.any(bindparam("wanted", type_=_TEXTS))
        return await self._found(copy, wanted, [id_ for id_ in ids if storable([id_])], by_key=False)

    async def rows_by_key(self, copy: Copy, keys: Sequence[str]) -> Copied:
        wanted = rows.c["keys"].overlap(bindparam("wanted", type_=_TEXTS))
        return await self._found(copy, wanted, [key for key in keys if storable([key])], by_key=True)

    async def _found(
        self, copy: Copy, wanted: ColumnElement[bool], asked: list[str], *, by_key: bool
    ) -> Copied:
        joined = streams.outerjoin(rows, and_(_same_stream(), wanted))
        query = (
            select(_AGE.label("age"), rows.c.id, rows.c["keys"].label("named"), _BODY.label("body"))
            .select_from(joined)
            .where(*_this(copy))
            .order_by(rows.c.id)
        )
        found: dict[str, list[bytes]] = defaultdict(list)
        age = None
        async with self._database.reading() as connection:
            for row in await connection.execute(query, {"wanted": asked}):
                age = row.age
                if row.id is not None and age is not None:
                    for key in row.named if by_key else (row.id,):
                        found[key].append(row.body.encode())
        return Copied(None if age is None else float(age), found)

    async def pages(self, copy: Copy, parents: Sequence[str], query: MirrorQuery) -> CopiedPages:
        asked = [parent for parent in dict.fromkeys(parents) if storable([parent])]
        if not _storable(query):
            # Nothing has it; how old the copy is must be said all the same.
            counted = await self.counts(copy, asked, ())
            return CopiedPages(counted.age, {parent: Page([], []) for parent in asked})
        window = query.window
        descending = (query.direction is Direction.DESC) != window.backwards
        place = rows.c.places[query.place + 1]
        here = tuple_(place, rows.c.id)
        bounds = [
            here < _mark(key) if earlier else here > _mark(key)
            for key, earlier in (
                (window.after, query.direction is Direction.DESC),
                (window.before, query.direction is Direction.ASC),
            )
            if key is not None
        ]
        wanted = given("parent")
        of_parent = (
            select(rows.c.id, place.label("place"), _BODY.label("body"))
            .where(
                _same_stream(),
                rows.c.parent == wanted.c.parent,
                *(rows.c.marks.overlap(_texts(group)) for group in query.marks),
                *(rows.c.places[number + 1] >= value for number, value in query.since),
                *map(_condition, query.conditions),
                *bounds,
            )
            .order_by(*(each.desc() if descending else each.asc() for each in (place, rows.c.id)))
            .limit(window.size + 1)
            .lateral("found")
        )
        statement = (
            select(_AGE.label("age"), wanted.c.parent, of_parent.c.id, of_parent.c.place, of_parent.c.body)
            .select_from(streams.join(wanted, true()).outerjoin(of_parent, true()))
            .where(*_this(copy))
        )
        taken: dict[str, list[tuple[Key, bytes]]] = {parent: [] for parent in asked}
        age = None
        async with self._database.reading() as connection:
            for row in await connection.execute(statement, {"parent": asked}):
                age = row.age
                if row.id is not None:
                    taken[row.parent].append((Key(row.place, row.id), row.body.encode()))
        if age is None:
            return CopiedPages(None)
        return CopiedPages(float(age), {parent: _page(found, query) for parent, found in taken.items()})

    async def counts(self, copy: Copy, parents: Sequence[str], marks: Sequence[str]) -> CopiedCounts:
        asked = [parent for parent in dict.fromkeys(parents) if storable([parent])]
        wanted = given("parent")
        joined = streams.join(wanted, true()).outerjoin(
            rows,
            and_(_same_stream(), rows.c.parent == wanted.c.parent, rows.c.marks.overlap(_texts(marks))),
        )
        query = (
            select(_AGE.label("age"), wanted.c.parent, func.count(rows.c.id).label("counted"))
            .select_from(joined)
            .where(*_this(copy))
            .group_by(streams.c.as_of, wanted.c.parent)
        )
        counts: dict[str, int] = {}
        age = None
        async with self._database.reading() as connection:
            for row in await connection.execute(query, {"parent": asked}):
                age = row.age
                counts[row.parent] = row.counted
        return CopiedCounts(None) if age is None else CopiedCounts(float(age), counts)

    async def lags(self, copies: Sequence[Copy]) -> Sequence[Lag]:
        counted = (
            select(func.count()).where(_same_stream()).select_from(rows).correlate(streams).scalar_subquery()
        )
        query = select(streams, _AGE.label("age"), counted.label("rows")).where(
            or_(*(and_(*_this(copy)) for copy in copies))
        )
        async with self._database.reading() as connection:
            found = {(row.source, row.stream): row for row in await connection.execute(query)}
        return [
            Lag(copy.stream, None, None, 0, 0, None)
            if (row := found.get((copy.source, copy.stream))) is None
            else Lag(
                copy.stream,
                row.as_of,
                None if row.age is None else float(row.age),
                row.rows,
                row.dropped,
                row.failure,
            )
            for copy in copies
        ]


class Turn:
    """Fills MirrorTurn. Whoever took a stream over last is its holder: a process that lost its lock without knowing
    stores nothing any more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = str(uuid4())

    async def standing(self, copy: Copy) -> Standing:
        named = (streams.c.source == copy.source, streams.c.stream == copy.stream)
        # Patiently: forgetting another account's copy may take longer than a request lasts.
        async with self._database.writing(patient=True, forgets=False) as connection:
            await connection.execute(delete(streams).where(*named, streams.c.account != copy.account))
            mine = {"account": copy.account, "holder": self._holder}
            found = await connection.execute(
                insert(streams)
                .values(source=copy.source, stream=copy.stream, **mine, sweep=0, dropped=0)
                .on_conflict_do_update(index_elements=["source", "stream"], set_=mine)
                .returning(streams, func.clock_timestamp().label("now"))
            )
            row = found.one()
        bookmark = None if row.bookmark is None else msgspec.convert(row.bookmark, Bookmark)
        return Standing(row.now, bookmark, row.run_at is not None, row.as_of, row.swept_at)

    async def begin(self, copy: Copy, bookmark: Bookmark) -> None:
        async with self._database.writing(forgets=False) as connection:
            await self._note(
                connection,
                copy,
                bookmark,
                run_at=func.clock_timestamp(),
                sweep=streams.c.sweep + int(bookmark.whole),
            )

    async def save(
        self, copy: Copy, rows: Sequence[MirrorRow], gone: Sequence[str], dropped: int, bookmark: Bookmark
    ) -> None:
        async with self._database.writing(forgets=False) as connection:
            sweep = await self._note(
                connection, copy, bookmark, dropped=streams.c.dropped + dropped, failure=None
            )
            if rows:
                await connection.execute(_UPSERT, [_stored(copy, row, sweep) for row in rows])
            if gone:
                await connection.execute(delete(_rows).where(*_of(copy), _rows.c.id.in_(list(gone))))

    async def complete(self, copy: Copy, bookmark: Bookmark) -> None:
        swept = {"swept_at": func.clock_timestamp()} if bookmark.whole else {}
        async with self._database.writing(patient=True, forgets=False) as connection:
            sweep = await self._note(
                connection, copy, bookmark, as_of=streams.c.run_at, run_at=None, failure=None, **swept
            )
            if bookmark.whole:
                await connection.execute(delete(_rows).where(*_of(copy), _rows.c.sweep < sweep - 1))

    async def fail(self, copy: Copy, failure: str) -> None:
        async with self._database.writing(forgets=False) as connection:
            await connection.execute(update(streams).where(*self._own(copy)).values(failure=failure))

    async def _note(self, connection: AsyncConnection, copy: Copy, bookmark: Bookmark, **values: Any) -> int:
        """The number of the last whole run."""
        found = await connection.execute(
            update(streams)
            .where(*self._own(copy))
            .values(bookmark=msgspec.to_builtins(bookmark), **values)
            .returning(streams.c.sweep)
        )
        sweep: int | None = found.scalar_one_or_none()
        if sweep is None:
            raise TurnLost(copy.source)
        return sweep

    def _own(self, copy: Copy) -> tuple[ColumnElement[bool], ...]:
        return (*_this(copy), streams.c.holder == self._holder)


_rows = rows
_inserted = insert(rows).values(
    {
        **{column: bindparam(column) for column in ("source", "stream", "id", "parent", "sweep")},
        **{column: bindparam(column, type_=_TEXTS) for column in ("places", "marks", "keys")},
        "body": cast(bindparam("body", type_=Text), JSONB),
    }
)
_UPSERT = _inserted.on_conflict_do_update(
    index_elements=["source", "stream", "id"],
    set_={
        column: _inserted.excluded[column]
        for column in ("parent", "places", "marks", "keys", "body", "sweep")
    },
)


def _stored(copy: Copy, row: MirrorRow, sweep: int) -> dict[str, Any]:
    return {
        "source": copy.source,
        "stream": copy.stream,
        "id": row.id,
        "parent": row.parent,
        "places": list(row.places),
        "marks": list(row.marks),
        "keys": list(row.keys),
        "body": row.body.decode(),
        "sweep": sweep,
    }


def _this(copy: Copy) -> tuple[ColumnElement[bool], ...]:
    return (
        streams.c.source == copy.source,
        streams.c.stream == copy.stream,
        streams.c.account == copy.account,
    )


def _of(copy: Copy) -> tuple[ColumnElement[bool], ...]:
    return (rows.c.source == copy.source, rows.c.stream == copy.stream)


def _same_stream() -> ColumnElement[bool]:
    return and_(rows.c.source == streams.c.source, rows.c.stream == streams.c.stream)


def _mark(key: Key) -> ColumnElement[Any]:
    return tuple_(literal(key.value, Text(collation="C")), literal(key.id, Text(collation="C")))


def _texts(values: Sequence[str]) -> ColumnElement[Any]:
    return cast(array(list(values), type_=Text), _TEXTS)


def _storable(query: MirrorQuery) -> bool:
    texts = [text for key in (query.window.after, query.window.before) if key for text in (key.value, key.id)]
    for condition in query.conditions:
        match condition:
            case Phrase(words=words):
                texts += words
            case OneOf(values=values):
                texts += [value for value in values if value is not None]
            case Between(low=low, high=high):
                texts += [bound for bound in (low, high) if bound is not None]
    return storable(texts)


def _condition(condition: Phrase | OneOf | Between) -> ColumnElement[bool]:
    value: ColumnElement[Any] = rows.c.body[condition.path].astext
    match condition:
        case Phrase(words=words):
            phrase = r"\s+".join(map(_literally, words))
            return value.op("~*")(rf"(^|\W){phrase}(\W|$)")
        case OneOf(values=values, numeric=numeric):
            named = [_bound(each, numeric) for each in values if each is not None]
            one = _compared(value, numeric).in_(named)
            return or_(one, value.is_(None)) if None in values else one
        case Between(low=low, high=high, numeric=numeric):
            compared = _compared(value, numeric)
            bounds = [compared >= _bound(low, numeric)] if low is not None else []
            bounds += [compared <= _bound(high, numeric)] if high is not None else []
            return and_(true(), *bounds)


def _compared(value: ColumnElement[Any], numeric: bool) -> ColumnElement[Any]:
    # What is no number equals none and is in no range; a bare cast would fail on it.
    return case((value.op("~")(_NUMBER), cast(value, Numeric))) if numeric else value


def _bound(text: str, numeric: bool) -> ColumnElement[Any]:
    return cast(literal(text, Text), Numeric) if numeric else literal(text, Text(collation="C"))


def _literally(word: str) -> str:
    return "".join(
        character if character.isalnum() or not character.isascii() else f"\\{character}"
        for character in word
    )


def _page(found: list[tuple[Key, bytes]], query: MirrorQuery) -> Page[bytes]:
    window = query.window
    descending = query.direction is Direction.DESC
    found.sort(key=lambda row: (row[0].value, row[0].id), reverse=descending != window.backwards)
    more = len(found) > window.size
    kept = found[: window.size]
    if window.backwards:
        kept.reverse()
    return Page(
        [body for _, body in kept],
        [key for key, _ in kept],
        has_next=window.before is not None if window.backwards else more or window.before is not None,
        has_previous=more or window.after is not None if window.backwards else window.after is not None,
    )
