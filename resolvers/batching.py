"""The start-up check that nothing below a list is fetched row by row."""

from collections.abc import Iterator
from types import CodeType
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLSchema,
    get_named_type,
    is_interface_type,
    is_list_type,
    is_object_type,
    is_union_type,
)


class UnbatchedField(Exception):
    """A field below a list whose resolver would be awaited once per row; one line per field."""


def refuse_unbatched(schema: GraphQLSchema) -> None:
    """Every field that can occur more than once in an answer is either read from its record or marked ``batched``.

    A resolver that awaits by itself (``async def``) is always refused; one that reaches for the sources or the loaders,
    or hands its ``info`` on, must be declared with ``batched``. Connections count as lists. Raises UnbatchedField.
    """
    faults = [
        f"{type_name}.{name}: below a list and not batched; return a loader's answer and declare it with batched()"
        for type_name, name, field in _below_lists(schema)
        if _fetches(field)
    ]
    if faults:
        raise UnbatchedField("\n".join(faults))


def _below_lists(schema: GraphQLSchema) -> Iterator[tuple[str, str, GraphQLField]]:
    assert schema.query_type is not None
    todo = [(schema.query_type.name, False)]
    seen = set()
    while todo:
        name, many = todo.pop()
        if (name, many) in seen:
            continue
        seen.add((name, many))
        type_ = schema.type_map[name]
        if is_union_type(type_) or is_interface_type(type_):
            todo += [(possible.name, many) for possible in schema.get_possible_types(type_)]
        elif is_object_type(type_):
            for field_name, field in type_.fields.items():
                if many:
                    yield name, field_name, field
                target = get_named_type(field.type)
                todo.append((target.name, many or _is_list(field.type)))


def _is_list(type_: Any) -> bool:
    while type_ is not None:
        if is_list_type(type_):
            return True
        type_ = getattr(type_, "of_type", None)
    return False


_READS = frozenset({"balances", "listing", "load", "owner", "page", "record", "sources", "value"})
"""What a resolver calls on its context when it wants more than its own record."""


def _fetches(field: GraphQLField) -> bool:
    definition = field.extensions.get("strawberry-definition")
    if definition is None or definition.base_resolver is None:
        return False
    if definition.is_async:
        return True
    code = definition.base_resolver.wrapped_func.__code__
    names = set(_names(code))
    # Handing the whole info on hides what becomes of it.
    reads = bool(_READS & names) or ("info" in code.co_varnames and "context" not in names)
    return reads and not definition.metadata.get("batched")


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
