"""How old an answer is, for its ``extensions`` and its headers; and how old a client lets it be.

A top-level field's sources follow from the types that are asked for below it, which is worked out once per document: what
was read of a type, the oldest of it, counts for each field that asks for it.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any

import msgspec
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    get_directive_values,
    get_named_type,
    get_variable_values,
    is_abstract_type,
)

from permissions.schema_rules import SchemaRules
from sources.layers.cache.freshness import ANY, Demand, Note, Reading
from sources.layers.cache.lifetimes import KIND_OF

_DIRECTIVE = re.compile(r'([a-z-]+)(?:="?([0-9]{1,9})"?)?')


class Paths(msgspec.Struct, frozen=True):
    """Of one operation."""

    types: tuple[tuple[str, frozenset[str]], ...]
    """By the top-level fields' names in the answer, the types with a source that are asked for below."""
    of_sources_alone: bool
    """Is nothing else in the answer, such as what the gateway's own books say?"""


def paths_of(
    schema: GraphQLSchema, rules: SchemaRules, document: DocumentNode, operation: OperationDefinitionNode
) -> Paths:
    """For a valid document. What ``@skip`` and ``@include`` leave out counts as well."""
    walk = _Walk(schema, rules, document)
    root = schema.get_root_type(operation.operation)
    fields: dict[str, list[FieldNode]] = {}
    walk.fields_of(operation.selection_set, fields)
    types: list[tuple[str, frozenset[str]]] = []
    for key, nodes in fields.items():
        walk.types = set()
        walk.spread = set()
        for node in nodes:
            walk.field(root, node)
        types.append((key, frozenset(walk.types)))
    return Paths(tuple(types), walk.pure and all(found for _, found in types))


def shown(reading: Reading, paths: Paths) -> list[dict[str, Any]]:
    """``extensions.freshness``: an entry per top-level field, in the answer's order, and source, by name."""
    entries: list[dict[str, Any]] = []
    if not reading.notes:
        return entries
    for key, types in paths.types:
        by_source: dict[str, Note] = {}
        for (source, type_name), note in reading.notes.items():
            if type_name in types:
                known = by_source.get(source)
                if known is None:
                    by_source[source] = msgspec.structs.replace(note)
                else:
                    known.read_at = min(known.read_at, note.read_at)
                    known.verdict = max(known.verdict, note.verdict)
        for source, note in sorted(by_source.items(), key=lambda pair: pair[0]):
            entries.append(
                {
                    "path": [key],
                    "source": source,
                    "readAt": datetime.fromtimestamp(note.read_at, UTC),
                    "verdict": note.verdict.name,
                }
            )
    return entries


def headers(reading: Reading, paths: Paths, now: float) -> dict[str, str] | None:
    """``Age`` and ``Cache-Control`` by RFC 9111 for an answer without errors, for the caller's own cache alone. None where
    it may not be kept: something of it is not from the sources, or is stale, or lasts no longer."""
    notes = reading.notes.values()
    if not notes or not paths.of_sources_alone:
        return None
    age = max(0, int(now - min(note.read_at for note in notes)))
    lasts = int(min((note.lasts for note in notes), default=-inf))
    if lasts < 1:
        return None
    # Whoever is signed in otherwise, or acts for another organisation, gets nothing of it.
    return {
        "Age": str(age),
        "Cache-Control": f"private, max-age={age + lasts}",
        "Vary": "Authorization, Cookie, X-Organisation, X-View-As, Accept",
    }


def demanded(headers: Mapping[str, str]) -> Demand:
    """``Cache-Control`` of a request by RFC 9111: ``max-age``, ``max-stale`` and ``no-cache``. What cannot be read is
    ignored, as the RFC wants it."""
    text = headers.get("cache-control")
    if not text:
        return ANY
    found: dict[str, str | None] = {}
    for part in text.lower().split(","):
        if matched := _DIRECTIVE.fullmatch(part.strip()):
            found[matched[1]] = matched[2]
    max_age: float | None = None
    if "no-cache" in found or "no-store" in found:
        max_age = 0.0
    elif (age := found.get("max-age")) is not None:
        max_age = float(age)
    stale = 0.0
    if "max-stale" in found:
        seconds = found["max-stale"]
        stale = 1e9 if seconds is None else float(seconds)
    return Demand(max_age, stale)


def directed(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> Demand | None:
    """What the operation itself asks for with ``@fresh``; None where it does not. Raises GraphQLError for what is no age."""
    directive = schema.get_directive("fresh")
    assert directive is not None
    coerced = get_variable_values(schema, operation.variable_definitions or (), dict(variables))
    if isinstance(coerced, list):
        return None  # it will not run, and says why
    found = get_directive_values(directive, operation, coerced)
    if found is None:
        return None
    ages = {name: value for name, value in found.items() if value is not None}
    for name, value in ages.items():
        if not isinstance(value, int) or value < 0:
            raise GraphQLError(f"@fresh: {name} is a whole number of seconds, not below 0", operation)
    return Demand(ages.get("maxAge"), ages.get("maxStale", 0))


class _Walk:
    def __init__(self, schema: GraphQLSchema, rules: SchemaRules, document: DocumentNode) -> None:
        self._schema, self._rules = schema, rules
        self._fragments: Mapping[str, FragmentDefinitionNode] = {
            found.name.value: found
            for found in document.definitions
            if isinstance(found, FragmentDefinitionNode)
        }
        self.types: set[str] = set()
        self.spread: set[tuple[str, str]] = set()
        self.pure = True

    def fields_of(self, selections: SelectionSetNode, fields: dict[str, list[FieldNode]]) -> None:
        """The operation's own, by their names in the answer."""
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                fields.setdefault((selection.alias or selection.name).value, []).append(selection)
            elif isinstance(selection, FragmentSpreadNode):
                self.fields_of(self._fragments[selection.name.value].selection_set, fields)
            else:
                self.fields_of(selection.selection_set, fields)  # type: ignore[attr-defined]

    def field(self, parent: Any, node: FieldNode) -> None:
        name = node.name.value
        field = self._schema.get_field(parent, name)
        if field is None or name.startswith("__"):
            return
        declared = self._rules.of_field.get((parent.name, name))
        for coordinate in (declared.reveals if declared else None) or ():
            self._met(coordinate.partition(".")[0])
        if node.selection_set:
            type_ = get_named_type(field.type)
            self._object(type_)
            self._below(type_, node.selection_set)

    def _below(self, parent: Any, selections: SelectionSetNode) -> None:
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                self.field(parent, selection)
                continue
            fragment: Any = selection
            if isinstance(selection, FragmentSpreadNode):
                if (selection.name.value, parent.name) in self.spread:
                    continue
                self.spread.add((selection.name.value, parent.name))
                fragment = self._fragments[selection.name.value]
            condition = fragment.type_condition
            type_ = self._schema.type_map[condition.name.value] if condition else parent
            self._object(type_)
            self._below(type_, fragment.selection_set)

    def _object(self, type_: Any) -> None:
        type_ = self._rules.pages.get(type_.name, type_)
        if is_abstract_type(type_):
            for possible in self._schema.get_possible_types(type_):
                self._met(possible.name)
            return
        self._met(type_.name)
        if type_.name not in KIND_OF and not self._rules.is_part(type_) and type_.name != "PageInfo":
            self.pure = False

    def _met(self, type_name: str) -> None:
        if type_name in KIND_OF:
            self.types.add(type_name)
