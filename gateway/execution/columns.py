"""Running a plan column by column: every field is read for all its parents at once, level below level.

This pass is optimistic. An exception at a nullable place is settled here, null and its error. Anything that could reach
further (a null where none may be, a value that does not fit its type) only marks the run as failed; ``replay`` then makes
graphql-core complete the very values that were read here, so that nothing is fetched or called twice.
"""

import asyncio
from asyncio import Future
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterator, Sequence
from enum import Enum
from itertools import accumulate, chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
from graphql import GraphQLError, located_error
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path, Undefined, is_iterable
from strawberry.types.arguments import convert_arguments

from gateway.execution.plan import FieldPlan, How, Leaf, ListOf, Node, NotPlannable, Objects, Plan, Selection
from gateway.execution.policy import Refusals, Refused
from resolvers.errors import Forbidden

if TYPE_CHECKING:
    from gateway.execution.request import Request

NOTHING = type(None)

_FUTURES = {Future}
_LISTS = {list, tuple, NOTHING}
_NO_LEAF = {NOTHING, type(Undefined)}
_UNCHANGING = (str, int, float, Enum, NOTHING)
_NAME = attrgetter("_name_")

# Once: an enum looks its members up in Python (CPython 3.11), and each field would ask for two.
_ATTRIBUTE, _COLUMN, _RESOLVER, _TYPENAME = How.ATTRIBUTE, How.COLUMN, How.RESOLVER, How.TYPENAME


class Failed:
    """An exception in a value's place."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Broken:
    """A list that raised while it was read: the items that came, then the error."""

    __slots__ = ("_error", "_items")

    def __init__(self, items: list[Any], error: Exception) -> None:
        self._items, self._error = items, error

    def __iter__(self) -> Iterator[Any]:
        yield from self._items
        raise self._error


class Block(msgspec.Struct, eq=False):
    """Objects of one type at one place of the answer's shape."""

    selection: Selection
    sources: Sequence[Any]
    above: "Column | None"
    """The column that they are the values of."""
    places: list[int] | None
    """Where in it they stand; None: they are all of it."""
    columns: "dict[str, Column | list[Any]]"
    """By response key; of what was read or is being read. Of values that stand in the answer as they are, these alone."""

    def path(self, row: int) -> list[str | int]:
        """The answer's path of one of the objects."""
        if self.above is None:
            return []
        return self.above.path(row if self.places is None else self.places[row])

    def column(self, key: str) -> "Column | None":
        """What was read of a field."""
        column = self.columns.get(key)
        if isinstance(column, list):
            field = next(field for field in self.selection.fields if field.key == key)
            column = self.columns[key] = Column(field, self, column)
        return column


class Column(msgspec.Struct, eq=False):
    """The values of one field for all objects of a block, or the items of such values."""

    field: FieldPlan
    block: Block
    values: list[Any]
    """After the run what was read, awaited, exceptions as Failed."""
    of: "Column | None" = None
    """The column whose values these are the items of."""
    given: list[Any] | None = None
    """The values before they were awaited; None where nothing was."""
    items: "Column | None" = None
    """For lists: the column of all items, and each list's length (None for what is no list)."""
    lengths: Sequence[int | None] = ()
    blocks: Sequence[Block] = ()
    """For objects: the block of each type."""
    rows: list[Any] | None = None
    """The values as replay sees them; made when needed."""
    ends: list[int] | None = None
    """For items: where each list ends; made when needed."""

    def path(self, place: int) -> list[str | int]:
        """The answer's path of one of the values."""
        if self.of is None:
            return [*self.block.path(place), self.field.key]
        if self.ends is None:
            self.ends = list(accumulate(length or 0 for length in self.of.lengths))
        ends = self.ends
        owner = bisect_right(ends, place)
        return [*self.of.path(owner), place - (ends[owner - 1] if owner else 0)]


Done = list[Any] | Coroutine[Any, Any, list[Any]]
"""Completed values, at once where nothing had to be awaited."""


class ColumnRun(msgspec.Struct, eq=False):
    """One execution of a plan, for a request whose variables are coerced."""

    _plan: Plan
    _request: "Request"
    failed: bool = False
    root: Block | None = None
    _blocks: list[Block] = []
    _lists: list[Column] = []
    _errors: list[tuple[Exception, FieldPlan, Column, int]] = []
    _denied: list[tuple[FieldPlan, list[str | int], Refused]] = []

    async def run(self) -> Any:
        """The answer's data, for msgspec to encode. Meaningless when ``failed`` is set afterwards."""
        block = self.root = Block(self._plan.root, [None], None, None, {})
        self._blocks.append(block)
        done = await self._serially(block) if self._plan.serial else self._block(block)
        rows = done if type(done) is list else await done  # type: ignore[misc]
        return rows[0]

    def errors(self) -> list[GraphQLError]:
        """What was settled here, with paths."""
        if not self._errors and not self._denied:
            return []
        errors, refusals = [], Refusals(self._request.context)
        for error, field, column, place in self._errors:
            path = column.path(place)
            if not isinstance(error, Forbidden) or refusals.first_of_its_place(error, path):
                errors.append(located_error(error, field.nodes, path))
        # graphql-core comes to the rows in their order, also where they are of different types.
        for field, path, refused in sorted(self._denied, key=_positions):
            denial = refusals.error(*refused)
            if refusals.first_of_its_place(denial, path):
                errors.append(located_error(denial, field.nodes, path))
        return errors

    def release(self) -> None:
        """Lets go of all that was read, when the answer is complete. Blocks and columns know each other, so without this
        the records of a large answer would wait for the garbage collector."""
        self.root = None
        self._errors.clear()
        for block in self._blocks:
            block.columns.clear()
            block.above = None
        for column in self._lists:
            column.items = None

    # -- objects ------------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> Done:
        selection = block.selection
        # Of one object a few attributes cost less than the way in.
        if selection.shape.copies and len(block.sources) != 1:
            copied = selection.shape.of_records(block.sources)
            if copied is not None:
                return copied
        columns: list[Any] = []
        pending: list[int] = []
        for field in selection.fields:
            done = self._field(field, block)
            if type(done) is not list:
                pending.append(len(columns))
            columns.append(done)
        if pending:
            return self._awaited(block, columns, pending)
        return selection.shape.of_columns(columns, len(block.sources))

    async def _awaited(self, block: Block, columns: list[Any], pending: list[int]) -> list[Any]:
        if len(pending) == 1:
            columns[pending[0]] = await columns[pending[0]]
        else:
            done = await _together([columns[place] for place in pending])
            for place, values in zip(pending, done, strict=True):
                columns[place] = values
        return block.selection.shape.of_columns(columns, len(block.sources))

    async def _serially(self, block: Block) -> list[Any]:
        columns = []
        for field in block.selection.fields:
            done = self._field(field, block)
            columns.append(done if isinstance(done, list) else await done)
            if self.failed:
                # A mutation that nulls the whole answer stops the ones behind it: replay decides, and runs them or not.
                return [{}]
        return block.selection.shape.of_columns(columns, len(block.sources))

    # -- one field ----------------------------------------------------------------------------------------------

    def _field(self, field: FieldPlan, block: Block) -> Done:
        how, sources = field.how, block.sources
        if how is _ATTRIBUTE:
            values = _attributes(field.get, sources)
        elif how is _COLUMN:
            values = _at_once(field, sources)
        elif how is _TYPENAME:
            return [block.selection.type.name] * len(sources)
        elif (refused := self._refused(field)) is not None:
            if sources:
                self._denied.append((field, [*block.path(0), field.key], refused))
                self.failed |= field.node.nonnull
            return [None] * len(sources)
        elif how is _RESOLVER:
            values = self._resolved(field, sources)
        else:
            values = self._general(field, block)
        node = field.node
        kinds = {type(values[0])} if len(values) == 1 else set(map(type, values))
        if kinds <= node.shown:
            block.columns[field.key] = values
            return values
        column = block.columns[field.key] = Column(field, block, values)
        return self._complete(node, values, kinds, column)

    def _refused(self, field: FieldPlan) -> Refused | None:
        if field.guard is None:
            return field.refused
        # Only what has arguments, so no attribute.
        return field.guard.refusal(field.nodes[0].arguments or (), self._request.variables.sources)

    def _resolved(self, field: FieldPlan, sources: Sequence[Any]) -> list[Any]:
        resolver = field.resolver
        assert resolver is not None
        request = self._request
        try:
            kwargs = field.fixed
            info: Any = None
            if resolver.info is not None or kwargs is None:
                config = request.schema.config
                info = config.info_class(request.info(field), resolver.declared)
            if kwargs is None:
                kwargs = convert_arguments(
                    self._arguments(field),
                    resolver.arguments,
                    scalar_registry=request.schema.schema_converter.scalar_registry,
                    config=config,
                    info=info,
                )
                if field.literal and all(isinstance(value, _UNCHANGING) for value in kwargs.values()):
                    field.fixed = kwargs
        except Exception as error:  # any failure of the arguments is the field's error, for every row
            return [Failed(error) for _ in sources]
        call = resolver.call
        values: list[Any] = []
        if resolver.of_parent_and_info and not kwargs:
            if field.by_column is not None:
                try:
                    return field.by_column.give(sources, info)
                except Exception:  # one of them is not as usual: each by itself
                    values.clear()
            for source in sources:
                try:
                    values.append(call(source, info))
                except Exception as error:
                    values.append(Failed(error))
            return values
        kwargs = kwargs.copy()
        if resolver.info is not None:
            kwargs[resolver.info] = info
        root = resolver.root
        for source in sources:
            try:
                if root is not None:
                    kwargs[root] = source
                values.append(call(source, **kwargs) if resolver.positional else call(**kwargs))
            except Exception as error:
                values.append(Failed(error))
        return values

    def _general(self, field: FieldPlan, block: Block) -> list[Any]:
        executor = self._request.executor
        resolve = field.definition.resolve or executor.field_resolver
        values: list[Any] = []
        for row, source in enumerate(block.sources):
            try:
                path = _linked(block, row, field.key)
                info = executor.build_resolve_info(field.definition, field.nodes, field.parent_type, path)
                values.append(resolve(source, info, **self._arguments(field)))
            except Exception as error:
                values.append(Failed(error))
        return values

    def _arguments(self, field: FieldPlan) -> dict[str, Any]:
        if not field.definition.args and not field.nodes[0].arguments:
            return {}
        arguments: dict[str, Any] = get_argument_values(
            field.definition, field.nodes[0], self._request.variables
        )
        return arguments

    # -- completion ---------------------------------------------------------------------------------------------

    def _complete(
        self, node: Node, values: list[Any], kinds: set[type], column: Column, awaited: bool = False
    ) -> Done:
        """``kinds`` are the types of the values. ``awaited``: they are what awaiting gave, and are not awaited again."""
        if not kinds <= node.usual:
            odd = 0
            for kind in kinds:
                odd |= _ODD[kind]
            if odd & _AWAITABLE and not awaited:
                return self._settled(node, values, kinds, column)
            if odd & _ERROR:
                values = self._blamed(node, values, column)
                kinds = set(map(type, values))
            if node.nonnull and NOTHING in kinds:
                self.failed = True
                return [None] * len(values)
        if isinstance(node, Leaf):
            return self._leaves(node, values, kinds)
        if isinstance(node, ListOf):
            return self._listed(node, values, kinds, column)
        return self._objects(node, values, kinds, column)

    async def _settled(self, node: Node, values: list[Any], kinds: set[type], column: Column) -> list[Any]:
        column.given = started = values
        if kinds != _FUTURES:
            started = [
                value
                if isinstance(value, Future) or not awaits(type(value))
                else asyncio.ensure_future(value)
                for value in values
            ]
        values = column.values = started.copy()
        try:
            for place, value in enumerate(started):
                if isinstance(value, Future):
                    try:
                        values[place] = await value
                    except Exception as error:
                        values[place] = Failed(error)
        except BaseException:  # the request is cancelled: nothing of it goes on
            left = [value for value in started if isinstance(value, Future)]
            for value in left:
                value.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise
        done = self._complete(node, values, set(map(type, values)), column, awaited=True)
        return done if isinstance(done, list) else await done

    def _blamed(self, node: Node, values: list[Any], column: Column) -> list[Any]:
        """The values with None for every exception, which is the error of its own place where that may be null, and for
        what is left out."""
        kept: list[Any] = []
        for place, value in enumerate(values):
            error = value.error if isinstance(value, Failed) else value
            if isinstance(error, Exception):
                if node.nonnull:
                    self.failed = True
                else:
                    self._errors.append((error, column.field, column, place))
                kept.append(None)
            else:
                kept.append(None if value is Undefined else value)
        return kept

    def _leaves(self, node: Leaf, values: list[Any], kinds: set[type]) -> list[Any]:
        nulls = NOTHING in kinds
        plain = kinds - {NOTHING} if nulls else kinds
        if not plain:
            return values
        if plain <= node.usual:
            if node.within is None or node.within([v for v in values if v is not None] if nulls else values):
                return values
        elif plain == {node.enum}:
            names = node.names
            try:
                if nulls:
                    return [None if v is None else names[v._name_] for v in values]
                return list(map(names.__getitem__, map(_NAME, values)))
            except KeyError:
                pass  # flags put together: the type's own words below
        there = [value for value in values if value is not None] if nulls else values
        shown = _coerced(node, there, plain)
        if shown is not None:
            return _among_nulls(shown, values) if nulls else shown
        coerce = node.coerce
        done: list[Any] = []
        for value in values:
            if value is None:
                done.append(None)
                continue
            try:
                leaf = coerce(value)
            except Exception:  # replay asks again, where the error is made
                leaf = None
            if leaf is None or leaf is Undefined:
                self.failed = True
                leaf = None
            done.append(leaf)
        return done

    def _listed(self, node: ListOf, values: list[Any], kinds: set[type], column: Column) -> Done:
        for place, value in enumerate(() if kinds <= _LISTS else values):
            if value is not None and not isinstance(value, list | tuple):
                if not is_iterable(value) or self._request.executor.is_async_iterable(value):
                    self.failed = True
                    return [None] * len(values)
                items: list[Any] = []
                values[place] = column.values[place] = items
                try:
                    items.extend(value)
                except Exception as error:
                    column.values[place] = Broken(items, error)
                    self.failed = True
                    return [None] * len(values)
        if NOTHING in kinds:
            column.lengths = [None if value is None else len(value) for value in values]
            flat = list(chain.from_iterable(value for value in values if value is not None))
        elif len(values) == 1:
            column.lengths = [len(values[0])]
            flat = list(values[0])
        else:
            column.lengths = list(map(len, values))
            flat = list(chain.from_iterable(values))
        column.items = Column(column.field, column.block, flat, column)
        self._lists.append(column)
        kinds = set(map(type, flat))
        done = flat if kinds <= node.item.shown else self._complete(node.item, flat, kinds, column.items)
        if isinstance(done, list):
            return _split(done, column.lengths)
        return _split_later(done, column.lengths)

    def _objects(self, node: Objects, values: list[Any], kinds: set[type], column: Column) -> Done:
        places: list[int] | None = None
        sources = values
        if kinds != node.usual:
            if NOTHING in kinds:
                places = [place for place, value in enumerate(values) if value is not None]
                sources = [values[place] for place in places]
            if not sources:
                return values
            if node.abstract:
                return self._abstract(node, values, sources, places, column)
            if node.asked and kinds - {NOTHING} != node.usual and not self._are(node.type, sources, column):
                self.failed = True
                return [None] * len(values)
        done = self._descend(node, node.type, sources, column, places)
        if places is None:
            return done
        if isinstance(done, list):
            return _spread(done, places, len(values))
        return _spread_later(done, places, len(values))

    def _abstract(
        self, node: Objects, values: list[Any], sources: list[Any], places: list[int] | None, column: Column
    ) -> Done:
        resolve = node.type.resolve_type or self._request.executor.type_resolver
        schema, info = self._request.schema.graphql, self._request.info(column.field)
        groups: dict[str, list[int]] = {}
        for row, source in enumerate(sources):
            try:
                name = resolve(source, info, node.type)
            except Exception:  # replay asks again, where the error is made
                name = None
            if not isinstance(name, str):
                self._request.executor.track_async_work([name])
                self.failed = True
                return [None] * len(values)
            groups.setdefault(name, []).append(row if places is None else places[row])
        found: list[tuple[Any, list[Any], list[int]]] = []
        for name, members in groups.items():
            type_ = schema.get_type(name)
            objects = [values[place] for place in members]
            if type_ not in schema.get_possible_types(node.type) or not self._are(type_, objects, column):
                self.failed = True
                return [None] * len(values)
            found.append((type_, objects, members))
        parts = [
            (members, self._descend(node, type_, objects, column, members))
            for type_, objects, members in found
        ]
        if all(isinstance(done, list) for _, done in parts):
            return _merged(parts, len(values))  # type: ignore[arg-type]
        return _merged_later(parts, len(values))

    def _descend(
        self, node: Objects, type_: Any, sources: list[Any], column: Column, places: list[int] | None
    ) -> Done:
        selection = node.selections.get(type_.name)
        if selection is None:
            try:
                selection = node.select(type_, self._plan, self._request.executor)
            except (
                NotPlannable,
                GraphQLError,
                RecursionError,
            ) as error:  # replay makes these rows from here on
                error.__traceback__ = None  # its frames know the request, and some of them the error
                self.failed = True
                return [None] * len(sources)
        block = Block(selection, sources, column, places, {})
        self._blocks.append(block)
        column.blocks = [*column.blocks, block]
        return self._block(block)

    def _are(self, type_: Any, sources: list[Any], column: Column) -> bool:
        """Are these objects of the type, as it says itself?"""
        is_type_of = type_.is_type_of
        if is_type_of is None:
            return True
        info = self._request.info(column.field)
        try:
            return all(is_type_of(source, info) is True for source in sources)
        except Exception:  # replay asks again, where the error is made
            return False


def _at_once(field: FieldPlan, sources: Sequence[Any]) -> list[Any]:
    assert field.by_column is not None
    try:
        return field.by_column.give(sources)
    except Exception:  # one of them is not as usual: each by itself
        return _attributes(field.get, sources)


def _attributes(get: Callable[[Any], Any], sources: Sequence[Any]) -> list[Any]:
    if len(sources) == 1:  # no iterators, which cost more than one attribute
        try:
            return [get(sources[0])]
        except Exception as error:
            return [Failed(error)]
    values: list[Any] = []
    waiting = iter(sources)
    while True:
        try:
            # On an exception the ones before it are kept, and the iterator stands behind the one that failed.
            values.extend(map(get, waiting))
            if len(values) == len(sources):
                return values
            values.append(Failed(StopIteration()))  # raised by an attribute, it ended map as if all were read
        except Exception as error:
            values.append(Failed(error))


def _coerced(node: Leaf, values: list[Any], kinds: set[type]) -> list[Any] | None:
    """None where one of them cannot be, or gives nothing."""
    try:
        if node.by_column is not None and kinds == {node.by_column.of}:
            return node.by_column.give(values)
        shown = list(map(node.coerce, values))
    except Exception:
        return None
    return shown if _NO_LEAF.isdisjoint(map(type, shown)) else None


def _split(done: list[Any], lengths: Sequence[int | None]) -> list[Any]:
    if len(lengths) == 1 and lengths[0] is not None:
        return [done]
    split: list[Any] = []
    end = 0
    for length in lengths:
        if length is None:
            split.append(None)
        else:
            start, end = end, end + length
            split.append(done[start:end])
    return split


async def _split_later(done: Coroutine[Any, Any, list[Any]], lengths: Sequence[int | None]) -> list[Any]:
    return _split(await done, lengths)


def _among_nulls(present: list[Any], values: list[Any]) -> list[Any]:
    following = iter(present)
    return [None if value is None else next(following) for value in values]


def _spread(done: list[Any], places: list[int], length: int) -> list[Any]:
    spread: list[Any] = [None] * length
    for place, value in zip(places, done, strict=True):
        spread[place] = value
    return spread


async def _spread_later(done: Coroutine[Any, Any, list[Any]], places: list[int], length: int) -> list[Any]:
    return _spread(await done, places, length)


def _merged(parts: list[tuple[list[int], list[Any]]], length: int) -> list[Any]:
    merged: list[Any] = [None] * length
    for places, done in parts:
        for place, value in zip(places, done, strict=True):
            merged[place] = value
    return merged


async def _merged_later(parts: list[tuple[list[int], Done]], length: int) -> list[Any]:
    later = iter(await _together([done for _, done in parts if not isinstance(done, list)]))
    return _merged(
        [(places, done if isinstance(done, list) else next(later)) for places, done in parts], length
    )


async def _together(columns: list[Coroutine[Any, Any, list[Any]]]) -> list[list[Any]]:
    """All of them, each as soon as it can be; the last needs no task of its own."""
    tasks = [asyncio.create_task(column) for column in columns[:-1]]
    try:
        last = await columns[-1]
        return [*[await task for task in tasks], last]
    except BaseException:  # the request is cancelled: nothing of it goes on
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


_AWAITABLE, _ERROR = 1, 2


class _Odd(dict[type, int]):
    """What is unusual about values of a type: that they are awaited, that they are errors or left out, or both."""

    def __missing__(self, kind: type) -> int:
        if len(self) > 10_000:
            self.clear()
        wrong = kind is Failed or kind is type(Undefined) or issubclass(kind, Exception)
        odd = self[kind] = _AWAITABLE * hasattr(kind, "__await__") | _ERROR * wrong
        return odd


_ODD = _Odd()


def awaits(kind: type) -> bool:
    """Are values of this type awaited?"""
    return bool(_ODD[kind] & _AWAITABLE)


def _positions(denied: tuple[FieldPlan, list[str | int], Refused]) -> list[int]:
    return [part for part in denied[1] if isinstance(part, int)]


def _linked(block: Block, row: int, key: str) -> Path:
    """The path of a field of one of the objects as graphql-core links it: each key with the type that has the field."""
    types = []
    above: Block | None = block
    while above is not None:
        types.append(above.selection.type.name)
        above = above.above.block if above.above is not None else None
    linked: Path | None = None
    for part in (*block.path(row), key):
        linked = Path(linked, part, types.pop() if isinstance(part, str) else None)
    assert linked is not None
    return linked
