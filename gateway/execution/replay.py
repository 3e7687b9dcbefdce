"""The precise pass: graphql-core completes the values that a column run has read, and makes the errors.

Objects go through graphql-core as ``Row``: which row of which block they are. A field that the run has read gives the
value read; one that it never came to is executed now, for the first time.
"""

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from typing import Any

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetails
from graphql.pyutils import Path

from gateway.execution.columns import Block, Column, Failed, awaits
from gateway.execution.plan import Leaf, ListOf, Node
from gateway.execution.policy import PolicyExecutor


class Row:
    """An object that a column run has read."""

    __slots__ = ("block", "place")

    def __init__(self, block: Block, place: int) -> None:
        self.block, self.place = block, place

    @property
    def source(self) -> Any:
        """The object itself."""
        return self.block.sources[self.place]


class Given:
    """A value that was awaited. It is awaited again, since which errors are left below a null depends on it."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, Any]:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value
        yield  # makes it a generator


class ReplayExecutor(PolicyExecutor):
    """graphql-core over what was read already. Without a ``root`` it executes as ever."""

    root: Row | None = None

    def execute_root_grouped_field_set(
        self,
        root_type: GraphQLObjectType,
        root_value: Any,
        grouped_field_set: Mapping[str, list[FieldDetails]],
        serially: bool,
        position_context: Any,
    ) -> Any:
        """From the row that was read; resolvers that ask for the root value get the real one."""
        return super().execute_root_grouped_field_set(
            root_type,
            root_value if self.root is None else self.root,
            grouped_field_set,  # type: ignore[arg-type]
            serially,
            position_context,
        )

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: list[FieldDetails],
        path: Path,
        position_context: Any,
    ) -> Any:
        """As graphql-core's, with the value that was read in the resolver's place."""
        if not isinstance(source, Row):
            return super().execute_field(parent_type, source, field_details_list, path, position_context)
        block = source.block
        column = block.column(str(path.key))
        if column is None:
            return super().execute_field(
                parent_type, source.source, field_details_list, path, position_context
            )
        definition = column.field.definition
        try:
            value = _seen(column)[source.place]
            info = self.build_resolve_info(definition, column.field.nodes, parent_type, path)
            if isinstance(value, Given):
                return self.complete_awaitable_value(
                    definition.type, field_details_list, info, path, value, position_context
                )
            completed = self.complete_value(
                definition.type, field_details_list, info, path, value, position_context
            )
            if self.is_awaitable(completed):
                return self._later(completed, definition.type, field_details_list, path)
        except Exception as error:  # as graphql-core: any failure is the field's error
            self.handle_field_error(error, definition.type, field_details_list, path)
            return None
        return completed

    async def _later(self, completed: Any, type_: Any, details: list[FieldDetails], path: Path) -> Any:
        try:
            return await completed
        except Exception as error:
            self.handle_field_error(error, type_, details, path)
            return None

    def complete_abstract_value(
        self, return_type: Any, details: Any, info: Any, path: Any, result: Any, context: Any
    ) -> Any:
        """A row's type was found out when it was read."""
        if not isinstance(result, Row):
            return super().complete_abstract_value(return_type, details, info, path, result, context)
        return self.complete_object_value(result.block.selection.type, details, info, path, result, context)

    def complete_object_value(
        self, return_type: Any, details: Any, info: Any, path: Any, result: Any, context: Any
    ) -> Any:
        """A row is of its type."""
        if not isinstance(result, Row):
            return super().complete_object_value(return_type, details, info, path, result, context)
        return self.collect_and_execute_subfields(return_type, details, path, result, context)


def _seen(column: Column) -> list[Any]:
    """The column's values, with Rows for the objects that were descended into; exceptions as graphql-core takes them."""
    if column.rows is None:
        column.rows = _rows(column.field.node, column)
    return column.rows


def _rows(node: Node, column: Column) -> list[Any]:
    rows = _plain_rows(node, column)
    if column.given is None:
        return rows
    return [Given(row) if awaits(type(given)) else row for row, given in zip(rows, column.given, strict=True)]


def _plain_rows(node: Node, column: Column) -> list[Any]:
    values = [value.error if isinstance(value, Failed) else value for value in column.values]
    if isinstance(node, Leaf):
        return values
    if isinstance(node, ListOf):
        if column.items is None:
            return values
        items: Iterator[Any] = iter(_rows(node.item, column.items))
        lengths = iter(column.lengths)
        return [
            value if (length := next(lengths)) is None else list(islice(items, length)) for value in values
        ]
    rows = list(values)
    for block in column.blocks:
        places = block.places if block.places is not None else range(len(rows))
        for place_in_block, place in enumerate(places):
            rows[place] = Row(block, place_in_block)
    return rows
