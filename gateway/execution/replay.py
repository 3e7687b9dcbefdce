"""The precise pass: graphql-core completes the values that a column run has read, and makes the errors.

Objects go through graphql-core as ``Row``: which row of which block they are. A field that the run has read gives the
value read; one that it never came to is executed now, for the first time.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from graphql import GraphQLObjectType
from graphql.execution.collect_fields import FieldDetails
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import Path

from gateway.execution.columns import Block, Column, Failed
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


class ReplayExecutor(PolicyExecutor):
    """graphql-core over what was read already. Given a plain root value it executes as ever."""

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
        column = block.columns[block.selection.index[path.key]] if path.key in block.selection.index else None
        if column is None or column.values == []:
            return super().execute_field(
                parent_type, source.source, field_details_list, path, position_context
            )
        definition = column.field.definition
        try:
            value = _seen(column)[source.place]
            info = self.build_resolve_info(definition, column.field.nodes, parent_type, path)
            if column.awaited:
                # In the same order as when it was awaited: which errors are left below a null depends on it.
                return self.complete_awaitable_value(
                    definition.type, field_details_list, info, path, _given(value), position_context
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

    def complete_value(
        self, return_type: Any, details: Any, info: Any, path: Any, result: Any, context: Any
    ) -> Any:
        """A failure in a list's item is raised where the item is completed."""
        if isinstance(result, Failed):
            raise result.error
        return super().complete_value(return_type, details, info, path, result, context)

    def complete_abstract_value(
        self, return_type: Any, details: Any, info: Any, path: Any, result: Any, context: Any
    ) -> Any:
        """The type is resolved from the object itself."""
        if not isinstance(result, Row):
            return super().complete_abstract_value(return_type, details, info, path, result, context)
        resolve = return_type.resolve_type or self.type_resolver
        name = resolve(result.source, info, return_type)
        type_ = self.ensure_valid_runtime_type(name, return_type, details, info, result.source)
        return self.complete_object_value(type_, details, info, path, result, context)

    def complete_object_value(
        self, return_type: Any, details: Any, info: Any, path: Any, result: Any, context: Any
    ) -> Any:
        """The object itself is asked whether it is of the type."""
        if not isinstance(result, Row):
            return super().complete_object_value(return_type, details, info, path, result, context)
        if return_type.is_type_of and not return_type.is_type_of(result.source, info):
            raise invalid_return_type_error(return_type, result.source, details)
        return self.collect_and_execute_subfields(return_type, details, path, result, context)


async def _given(value: Any) -> Any:
    if isinstance(value, Failed):
        raise value.error
    return value


def _seen(column: Column) -> list[Any]:
    """The column's values with Rows for the objects that were descended into."""
    if column.rows is None:
        column.rows = _rows(column.field.node, column)
    return column.rows


def _rows(node: Node, column: Column) -> list[Any]:
    values = column.values
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
