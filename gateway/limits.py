"""What a request may be at most: its size, its shape, and an estimate of the rows and calls that it would cost."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_object_type,
    parse,
    validate,
)

from gateway.coordinates import Asked, Coordinates
from gateway.execution.mentions import mentioned
from gateway.freshness import Paths, directed, paths_of
from permissions.policy import Policy
from resolvers.vocabulary import DEFAULT_PAGE
from sources.layers.cache.freshness import Demand
from sources.ports.common import PAGE_CAP

MAX_BODY_BYTES = 256 * 1024
MAX_TOKENS = 4000
MAX_DEPTH = 16
"""Fields inside fields; introspection has a limit of graphql-core's own."""
MAX_ALIASES = 50
"""With every fragment written out."""
MAX_ROWS = 20_000
"""Of all connections together, were every page full."""
MAX_CALLS_PER_ROW = 200
"""Of all fields that have no batch at their source (``batched(call_per_row=True)``), were every page full."""

CACHED_LENGTH = 8_000
"""Of the longest document that is kept."""
CACHED_BYTES = 64 << 20
"""Of all documents that are kept together, as estimated."""
DOCUMENT_BYTES, TOKEN_BYTES = 15_000, 650
"""That a document takes, and more for each of its tokens: a token, a node, and where it stands."""


class LimitExceeded(GraphQLError):
    """More than a request may be or cost; the message names the limit."""

    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": "LIMIT_EXCEEDED"})


_SIZES = ("first", "last", "ids")
"""Arguments that say how many rows a field gives."""


def prepare(schema: GraphQLSchema, text: str) -> "Prepared":
    """A document parsed and validated within the limits, once for all its requests. Raises GraphQLError where the text is
    no document."""
    key = schema, text
    known = _documents.kept.get(key)
    if known is None:
        prepared = Prepared(schema, text)
        # Those that are longer are prepared anew each time: they are few.
        return prepared if len(text) > CACHED_LENGTH else _documents.add(key, prepared)
    _documents.kept.move_to_end(key)
    return known


class _Documents:
    """The documents that were asked for last."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[GraphQLSchema, str], Prepared] = OrderedDict()
        """The one that was asked for last at the end."""
        self._bytes = 0

    def add(self, key: tuple[GraphQLSchema, str], prepared: "Prepared") -> "Prepared":
        """The same, kept in the place of those that were not asked for the longest."""
        self.kept[key] = prepared
        self._bytes += prepared.bytes
        while self._bytes > CACHED_BYTES:
            _, forgotten = self.kept.popitem(last=False)
            self._bytes -= forgotten.bytes
        return prepared


_documents = _Documents()


# -- the document -----------------------------------------------------------------------------------------------


class Prepared:
    """A parsed document, and why it must not run."""

    def __init__(self, schema: GraphQLSchema, text: str) -> None:
        self._schema = schema
        self.document = parse(text, max_tokens=MAX_TOKENS)
        self.bytes = DOCUMENT_BYTES + TOKEN_BYTES * _unlinked(self.document)
        """That it takes, as estimated."""
        operations = _operations(self.document)
        self._several = len(operations) > 1
        self.directed = any(operation.directives for operation in operations)
        """May one of its operations say itself how old what it is given may be?"""
        self._operations: dict[str | None, OperationDefinitionNode] = {}
        """By name; without one the first."""
        for operation in operations:
            self._operations.setdefault(None, operation)
            if operation.name is not None:
                self._operations.setdefault(operation.name.value, operation)
        try:
            # First, as validation itself takes the longer the larger the document is.
            self._errors = _too_large(self.document) or validate(schema, self.document)
        except RecursionError:
            self._errors = [LimitExceeded("the document's fragments are nested too deeply")]
        # Not by a method of its own: then it would hold itself, and wait for the garbage collector when it is forgotten.
        self._too_dear = lru_cache(maxsize=16)(partial(_estimated, schema, self.document, self._operations))
        self._sizing = _sizing(self.document)
        self._always_run: set[tuple[str | None, bool, bool]] = set()
        """Operations that no variables could make too dear: by name, ``only_query`` and ``streaming``."""
        self._coordinates: dict[str | None, Coordinates] = {}
        self._paths: dict[str | None, Paths] = {}

    def refusals(
        self,
        operation_name: str | None,
        variables: Mapping[str, Any],
        only_query: bool,
        streaming: bool = False,
    ) -> list[GraphQLError]:
        """None of them: it may run. ``only_query``: nothing that changes something. ``streaming``: the way to the client
        carries more than one answer."""
        key = (operation_name, only_query, streaming)
        if key in self._always_run:
            return []
        if self._errors:
            return list(self._errors)
        if operation_name is None and self._several:
            return [GraphQLError("the document has several operations: say which one as operationName")]
        operation = self._operations.get(operation_name)
        if operation is None:
            return [GraphQLError("the document has no such operation: check operationName")]
        if only_query and operation.operation is OperationType.MUTATION:
            return [GraphQLError("GET only reads: send this operation by POST")]
        if operation.operation is OperationType.SUBSCRIPTION and not streaming:
            return [
                GraphQLError(
                    "a subscription has many answers: ask with Accept: text/event-stream, or over a WebSocket "
                    "with the protocol graphql-transport-ws"
                )
            ]
        if operation.directives:
            try:
                directed(self._schema, operation, variables)
            except GraphQLError as error:
                return [error]
        sizes = self._sizes(variables) if self._sizing and variables else ()
        refusals = list(self._too_dear(operation_name, sizes))
        if not (refusals or self._sizing or operation.directives):
            self._always_run.add(key)
        return refusals

    def demand(self, operation_name: str | None, variables: Mapping[str, Any]) -> Demand | None:
        """How old what it is given may be, where the operation says so itself. For one that may run."""
        operation = self._operations[operation_name]
        return directed(self._schema, operation, variables) if operation.directives else None

    def kind(self, operation_name: str | None) -> OperationType | None:
        """None where there is no such operation, or several and no name."""
        if operation_name is None and self._several:
            return None
        operation = self._operations.get(operation_name)
        return None if operation is None else operation.operation

    def is_public(self, operation_name: str | None, policy: Policy) -> bool:
        """May who has not signed in run it: is it a query, of fields that are all @public?"""
        operation = self._operations.get(operation_name)
        if self._errors or operation is None or self.kind(operation_name) is not OperationType.QUERY:
            return False
        return policy.mentions(mentioned(self._schema, self.document, operation)).public

    def asked(
        self, operation_name: str | None, policy: Policy, held: frozenset[str], variables: Mapping[str, Any]
    ) -> Asked | None:
        """The fields that an operation asks for of a caller who holds these. None where it must not run anyway."""
        coordinates = self._coordinates.get(operation_name)
        if coordinates is None:
            operation = self._operations.get(operation_name)
            if self._errors or operation is None:
                return None
            coordinates = Coordinates(self._schema, self.document, operation, policy)
            self._coordinates[operation_name] = coordinates
        return coordinates.asked(held, variables)

    def paths(self, operation_name: str | None, policy: Policy) -> Paths:
        """Of an operation that may run: what its answer's freshness is told by."""
        paths = self._paths.get(operation_name)
        if paths is None:
            operation = self._operations[operation_name]
            paths = paths_of(self._schema, policy.rules, self.document, operation)
            self._paths[operation_name] = paths
        return paths

    def _sizes(self, variables: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
        """What the estimate depends on, and nothing else that changes from one request to the next."""
        return tuple(
            (name, size)
            for name in self._sizing
            if name in variables and (size := _size_of(variables[name])) is not None
        )


def _unlinked(document: DocumentNode) -> int:
    """How many tokens a new document has. They know each other in both directions, so that a forgotten document would
    wait for the garbage collector's rarest round, and a flood of them could fill the memory until then."""
    count = 0
    token = document.loc.start_token if document.loc else None
    while token is not None:
        following, token.prev, token.next = token.next, None, None
        token = following
        count += 1
    return count


def _estimated(
    schema: GraphQLSchema,
    document: DocumentNode,
    operations: Mapping[str | None, OperationDefinitionNode],
    operation_name: str | None,
    sizes: tuple[tuple[str, int], ...],
) -> list[GraphQLError]:
    return _too_dear(schema, document, operations[operation_name], dict(sizes))


def _too_large(document: DocumentNode) -> list[GraphQLError]:
    fragments = _fragments(document)
    known: dict[str, tuple[int, int]] = {}
    shapes = [_shape(operation.selection_set, fragments, known) for operation in _operations(document)]
    depth, aliases = max((depth for depth, _ in shapes), default=0), sum(aliases for _, aliases in shapes)
    errors: list[GraphQLError] = []
    if depth > MAX_DEPTH:
        errors.append(LimitExceeded(f"the document is {depth} fields deep; at most {MAX_DEPTH}"))
    if aliases > MAX_ALIASES:
        shown = aliases if aliases < 10**6 else "more than a million"
        errors.append(LimitExceeded(f"the document has {shown} aliases; at most {MAX_ALIASES}"))
    return errors


def _shape(
    selection_set: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    known: dict[str, tuple[int, int]],
) -> tuple[int, int]:
    """Depth and aliases. Each fragment is looked at once, however often it is spread."""
    depth = aliases = 0
    for selection in selection_set.selections:
        below = (0, 0)
        if isinstance(selection, FragmentSpreadNode):
            name = selection.name.value
            if name not in known:
                known[name] = (0, 0)  # a fragment that spreads itself is validation's to refuse
                if name in fragments:
                    known[name] = _shape(fragments[name].selection_set, fragments, known)
            below = known[name]
        elif inner := _inside(selection):
            below = _shape(inner, fragments, known)
        if isinstance(selection, FieldNode):
            below = (
                0 if selection.name.value.startswith("__") else below[0] + 1,
                below[1] + (selection.alias is not None),
            )
        depth, aliases = max(depth, below[0]), aliases + below[1]
    return depth, aliases


def _inside(selection: SelectionNode) -> SelectionSetNode | None:
    found: SelectionSetNode | None = getattr(selection, "selection_set", None)
    return found


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [found for found in document.definitions if isinstance(found, OperationDefinitionNode)]


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {
        found.name.value: found for found in document.definitions if isinstance(found, FragmentDefinitionNode)
    }


# -- the estimate -----------------------------------------------------------------------------------------------


def _sizing(document: DocumentNode) -> tuple[str, ...]:
    """The variables that say how many rows are asked for."""
    found: set[str] = set()
    todo = [
        definition.selection_set for definition in (*_operations(document), *_fragments(document).values())
    ]
    while todo:
        for selection in todo.pop().selections:
            for argument in getattr(selection, "arguments", None) or ():
                if argument.name.value in _SIZES and isinstance(argument.value, VariableNode):
                    found.add(argument.value.name.value)
            if inner := _inside(selection):
                todo.append(inner)
    return tuple(sorted(found))


def _size_of(value: Any) -> int | None:
    """Of a variable's value: the number, or how long a list is; None where validation will refuse it."""
    if value is None:
        return DEFAULT_PAGE
    if isinstance(value, int):
        return int(value)
    return len(value) if isinstance(value, list) else None


def _too_dear(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    sizes: Mapping[str, int],
) -> list[GraphQLError]:
    """For a valid document. What ``@skip`` and ``@include`` leave out counts as well."""
    root = schema.get_root_type(operation.operation)
    assert root is not None
    defaults = {
        variable.variable.name.value: int(variable.default_value.value)
        for variable in operation.variable_definitions or ()
        if isinstance(variable.default_value, IntValueNode)
    }
    estimate = _Estimate(schema, _fragments(document), {**defaults, **sizes})
    rows, calls = estimate.of(root, [operation.selection_set])
    errors: list[GraphQLError] = []
    if rows > MAX_ROWS:
        errors.append(
            LimitExceeded(f"this could read {rows:,} rows; at most {MAX_ROWS:,}: ask for smaller pages")
        )
    if calls.total() > MAX_CALLS_PER_ROW:
        errors.append(
            LimitExceeded(
                f"{' and '.join(sorted(calls))} could cost {calls.total():,} calls, one per row; "
                f"at most {MAX_CALLS_PER_ROW}: ask for it on fewer rows"
            )
        )
    return errors


class _Estimate:
    """Collects fields as an executor does, with every page full."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Mapping[str, int],
    ) -> None:
        self._schema, self._fragments, self._variables = schema, fragments, variables

    def of(self, type_: Any, sets: Iterable[SelectionSetNode]) -> tuple[int, Counter[str]]:
        """Rows, and calls by coordinate, below one value of this type; of an abstract type the dearest."""
        rows, calls = 0, Counter[str]()
        if is_abstract_type(type_):
            for possible in self._schema.get_possible_types(type_):
                some_rows, some_calls = self.of(possible, sets)
                rows, calls = max(rows, some_rows), calls | some_calls
            return rows, calls
        for nodes in self._fields(type_, sets).values():
            name = nodes[0].name.value
            field: GraphQLField | None = type_.fields.get(name)
            if field is None:
                continue  # introspection
            size = self._size(field, nodes[0])
            rows += size or 0
            if _calls_per_row(field):
                calls[f"{type_.name}.{name}"] += 1
            target = get_named_type(field.type)
            if is_object_type(target) or is_abstract_type(target):
                some_rows, some_calls = self.of(
                    target, [node.selection_set for node in nodes if node.selection_set]
                )
                many = 1 if size is None else size
                rows += many * some_rows
                calls.update({coordinate: many * count for coordinate, count in some_calls.items()})
        return rows, calls

    def _fields(self, type_: Any, sets: Iterable[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        found: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        todo = list(sets)
        while todo:
            for selection in todo.pop().selections:
                if isinstance(selection, FieldNode):
                    found.setdefault((selection.alias or selection.name).value, []).append(selection)
                    continue
                fragment: Any = selection
                if isinstance(selection, FragmentSpreadNode):
                    if selection.name.value in spread:
                        continue
                    spread.add(selection.name.value)
                    fragment = self._fragments[selection.name.value]
                condition = fragment.type_condition
                if condition is None or self._covers(condition.name.value, type_):
                    todo.append(fragment.selection_set)
        return found

    def _covers(self, condition: str, type_: Any) -> bool:
        named: Any = self._schema.type_map[condition]
        return named is type_ or (is_abstract_type(named) and self._schema.is_sub_type(named, type_))

    def _size(self, field: GraphQLField, node: FieldNode) -> int | None:
        """How many rows; None for what is no list of its own."""
        if "first" not in field.args and "ids" not in field.args:
            return None
        asked = []
        for argument in node.arguments or ():
            if argument.name.value in _SIZES:
                value = argument.value
                if isinstance(value, IntValueNode):
                    asked.append(int(value.value))
                elif isinstance(value, ListValueNode):
                    asked.append(len(value.values))
                elif isinstance(value, VariableNode):
                    asked.append(self._variables.get(value.name.value, DEFAULT_PAGE))
        return min(PAGE_CAP, max(0, *asked)) if asked else DEFAULT_PAGE


def _calls_per_row(field: GraphQLField) -> bool:
    definition = field.extensions.get("strawberry-definition")
    return definition is not None and bool(definition.metadata.get("call_per_row"))
