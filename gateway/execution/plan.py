"""What an operation asks of the schema, worked out once: which fields, read how, completed as what.

A plan holds nothing of a request: names, types and document nodes only. Selections below are planned when they are first
reached and kept with the plan.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from enum import Enum
from inspect import Parameter, iscoroutinefunction, unwrap
from operator import attrgetter
from types import CodeType
from typing import Annotated, Any

import msgspec
from graphql import (
    BooleanValueNode,
    EnumValueNode,
    FloatValueNode,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLString,
    IntValueNode,
    NullValueNode,
    OperationType,
    StringValueNode,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetails, collect_fields, collect_subfields
from graphql.execution.executor import Executor

from gateway.execution.shape import Part, Shape
from permissions.arguments import Guard
from permissions.policy import Denied
from permissions.rules import Rule
from resolvers.by_column import ByColumn

Guards = Mapping[tuple[str, str], Guard]

MAX_FIELDS = 2_000
"""Of one plan. Fragments spread in many places make a short document large."""
FIELD_BYTES, SELECTION_BYTES = 1_300, 4_500
"""What they take of the memory, about: a selection has classes of its own for its rows."""
MAX_DEPTH = 40
"""Objects in objects: each takes about ten frames of Python's stack."""


class NotPlannable(Exception):
    """The operation has something that only graphql-core runs; the message is the metric's label."""


class Leaf:
    """A scalar or enum. ``usual`` are the Python types that need no conversion; ``names`` has the graph's name of each
    member of ``enum`` by the member's own name, which hashes faster than the member. ``as_it_is`` is the type, as msgspec
    knows types, of what the encoder writes as the scalar would; None where there is none.

    Of every node: ``shown`` are the Python types of values that stand in the answer as they are, where nothing else about
    them matters, and ``usual`` types whose values are neither awaited nor null nor errors."""

    __slots__ = ("as_it_is", "by_column", "coerce", "enum", "names", "nonnull", "shown", "usual", "within")

    def __init__(self, type_: Any, nonnull: bool) -> None:
        self.nonnull = nonnull
        self.coerce: Callable[[Any], Any] = type_.coerce_output_value
        self.usual, self.within = _USUAL.get(type_, (_converted(self.coerce), None))
        self.enum = _enum_class(type_)
        self.names = {member.name: type_.coerce_output_value(member) for member in self.enum or ()}
        self.as_it_is = _AS_IT_IS.get(type_, _as_it_is(self))
        self.shown = self.usual if self.within is None else frozenset()
        if self.shown and not nonnull:
            self.shown |= {type(None)}
        self.by_column: ByColumn | None = getattr(self.coerce, "by_column", None)


class ListOf:
    """A list of anything."""

    __slots__ = ("item", "nonnull")

    shown: frozenset[type] = frozenset()
    usual: frozenset[type] = frozenset({list})

    def __init__(self, item: "Node", nonnull: bool) -> None:
        self.item, self.nonnull = item, nonnull


class Objects:
    """Objects of one type, or of the types of an interface or union."""

    __slots__ = ("abstract", "asked", "depth", "details", "nonnull", "selections", "type", "usual")

    shown: frozenset[type] = frozenset()

    def __init__(self, type_: Any, nonnull: bool, details: list[FieldDetails], depth: int) -> None:
        self.type, self.nonnull, self.details, self.depth = type_, nonnull, details, depth
        self.abstract = bool(is_abstract_type(type_))
        record: type | None = getattr(getattr(type_, "is_type_of", None), "record", None)
        self.usual: frozenset[type] = frozenset({record} if record else ())
        """The one class whose instances are of the type, where the type's ``is_type_of`` says so by attribute."""
        self.asked = getattr(type_, "is_type_of", None) is not None
        """Does the type say itself what its objects are?"""
        self.selections: dict[str, Selection] = {}
        """What is asked of objects of each type that came so far."""

    def select(self, type_: GraphQLObjectType, plan: "Plan", executor: Executor[Any]) -> "Selection":
        """Plans what is asked of objects of a type. Raises NotPlannable, or GraphQLError where it cannot be collected."""
        grouped, _, _ = collect_subfields(
            executor.schema,
            executor.fragments,
            executor.variable_values,
            executor.operation,
            type_,
            self.details,
            executor.hide_suggestions,
        )
        found = self.selections[type_.name] = plan.select(type_, grouped, executor, self.depth + 1)
        return found


Node = Leaf | ListOf | Objects


class How(Enum):
    """How a field's values are had from its parents."""

    TYPENAME = "typename"
    DENIED = "denied"
    ATTRIBUTE = "attribute"
    COLUMN = "column"
    """By a resolver of the parent alone that says how it is had for all parents at once."""
    RESOLVER = "resolver"
    GENERAL = "general"
    """By graphql-core's own calling convention, with the row's path: whatever Strawberry wraps around a resolver."""


class FieldPlan:
    """One field of one type, with all its document nodes merged."""

    __slots__ = (
        "attribute",
        "by_column",
        "definition",
        "details",
        "fixed",
        "get",
        "guard",
        "how",
        "key",
        "literal",
        "name",
        "node",
        "nodes",
        "parent_type",
        "refused",
        "resolver",
    )

    def __init__(
        self,
        key: str,
        parent_type: GraphQLObjectType,
        field: GraphQLField | None,
        details: list[FieldDetails],
        denied: Denied,
        guards: Guards,
        depth: int,
    ) -> None:
        self.key, self.parent_type, self.details = key, parent_type, details
        self.nodes = [detail.node for detail in details]
        self.name = self.nodes[0].name.value
        self.definition: GraphQLField = field  # type: ignore[assignment]
        self.get: Callable[[Any], Any] = attrgetter("__class__")
        self.by_column: ByColumn | None = None
        """How it is had of all parents at once."""
        self.attribute: str | None = None
        """That it gives unchanged."""
        self.resolver: Resolver | None = None
        self.refused: tuple[str, Rule] | None = None
        """Its coordinate and rule, where the caller may not read it."""
        self.guard: Guard | None = None
        """Of what the caller may not use of its arguments; a request may use it or not."""
        self.literal = all(isinstance(given.value, _ATOMS) for given in self.nodes[0].arguments or ())
        """Are its arguments written in the document, and so the same in every request?"""
        self.fixed: dict[str, Any] | None = None
        """Then, once a request has converted them: the resolver's arguments, where no request can change them."""
        if field is None or self.name == "__typename":
            self.how, self.node = How.TYPENAME, _node(GraphQLNonNull(GraphQLString), details, depth)
            return
        self.node = _node(field.type, details, depth)
        place = (parent_type.name, self.name)
        if place in denied:
            self.how, self.refused = How.DENIED, (".".join(place), denied[place])
            return
        self.guard = guards.get(place)
        declared = field.extensions.get("strawberry-definition")
        if declared is not None and _turns_exceptions(field):
            declared = None
        if declared is not None and declared.is_basic_field and declared.default_resolver is getattr:
            self.how, self.get = How.ATTRIBUTE, attrgetter(declared.python_name)
            self.attribute = declared.python_name
        elif declared is not None and (resolver := Resolver.of(declared)):
            if resolver.of_parent_alone or resolver.of_parent_and_info:
                self.by_column = getattr(resolver.call, "by_column", None)
            if resolver.of_parent_alone:
                self.how = How.ATTRIBUTE if self.by_column is None else How.COLUMN
                self.get = resolver.call
            else:
                self.how, self.resolver = How.RESOLVER, resolver
                self.fixed = None if resolver.arguments else {}
        else:
            self.how = How.GENERAL


_ATOMS = (BooleanValueNode, EnumValueNode, FloatValueNode, IntValueNode, NullValueNode, StringValueNode)


class Resolver:
    """A Strawberry resolver that is called as it is written, with one Info for all parents. ``of_parent_alone``: it takes
    the parent and nothing else, so that it reads like an attribute. ``of_parent_and_info``: these two are its first."""

    __slots__ = (
        "arguments",
        "call",
        "declared",
        "info",
        "of_parent_alone",
        "of_parent_and_info",
        "positional",
        "root",
    )

    def __init__(self, declared: Any) -> None:
        resolver = declared.base_resolver
        self.declared = declared
        self.call: Callable[..., Any] = resolver.wrapped_func
        self.positional = resolver.self_parameter is not None
        root = resolver.parent_parameter or resolver.root_parameter
        self.root: str | None = root.name if root else None
        self.info: str | None = resolver.info_parameter.name if resolver.info_parameter else None
        self.arguments = declared.arguments
        parameters = list(resolver.signature.parameters.values())
        first = [parameter.name for parameter in parameters[:2] if parameter.kind in _BY_PLACE]
        of_parent = bool(first) and (self.root == first[0] if self.root else self.positional)
        self.of_parent_alone = of_parent and len(parameters) == 1
        self.of_parent_and_info = of_parent and first[1:] == [self.info]

    @classmethod
    def of(cls, declared: Any) -> "Resolver | None":
        """None where Strawberry does more than calling it (extensions, permission classes), or where the resolver looks
        at its place in the answer."""
        resolver = declared.base_resolver
        if resolver is None or declared.extensions:
            return None
        code = getattr(unwrap(resolver.wrapped_func), "__code__", None)
        if code is None or not _PLACE.isdisjoint(_names(code)):
            return None
        return cls(declared)


_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_PLACE = frozenset({"_raw_info", "path", "selected_fields"})


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _turns_exceptions(field: GraphQLField) -> bool:
    """Has the schema handlers that make a result of this field's exceptions? They live in what Strawberry wraps around
    the resolver."""
    wrapped: Any = field.resolve
    names = getattr(getattr(wrapped, "__code__", None), "co_freevars", ())
    if "field_exception_handlers" not in names:
        return False
    return bool(wrapped.__closure__[names.index("field_exception_handlers")].cell_contents)


class Selection:
    """The fields asked of one type, in the answer's order."""

    __slots__ = ("fields", "shape", "type")

    def __init__(self, type_: GraphQLObjectType, fields: list[FieldPlan]) -> None:
        self.type, self.fields = type_, fields
        self.shape = Shape([field.key for field in fields], [_part(field, type_) for field in fields])


def _part(field: FieldPlan, type_: GraphQLObjectType) -> Part:
    """How a row has the field. A denied one is null in every row."""
    if field.how is How.TYPENAME:
        return Part(constant=type_.name)
    if field.attribute and isinstance(field.node, Leaf) and field.node.as_it_is is not None:
        as_it_is = field.node.as_it_is
        return Part(field.attribute, as_it_is if field.node.nonnull else as_it_is | None)
    return Part()


class Plan:
    """An operation under one set of denied fields and one choice of its @skip and @include."""

    __slots__ = ("_denied", "_guards", "_selections", "refusal", "root", "serial", "size")

    def __init__(self, executor: Executor[Any], denied: Denied, guards: Guards) -> None:
        """From an executor that was built for the operation; only its document and its Boolean variables are looked at.
        Raises NotPlannable."""
        operation = executor.operation
        if operation.operation is OperationType.SUBSCRIPTION:
            raise NotPlannable("subscription")
        if any(fragment.variable_signatures for fragment in executor.fragments.values()):
            raise NotPlannable("fragment variables")
        self._denied, self._guards = denied, guards
        self.size = self._selections = 0
        """Fields planned so far."""
        self.refusal: str | None = None
        """Why graphql-core must run it after all, found below."""
        self.serial = operation.operation is OperationType.MUTATION
        root_type = executor.schema.get_root_type(operation.operation)
        if root_type is None:
            raise NotPlannable("no root type")
        grouped, _, _ = collect_fields(
            executor.schema,
            executor.fragments,
            executor.variable_values,
            root_type,
            operation,
            executor.hide_suggestions,
        )
        self.root = self.select(root_type, grouped, executor, 0)

    @property
    def bytes(self) -> int:
        """That it takes, as estimated."""
        return FIELD_BYTES * self.size + SELECTION_BYTES * self._selections

    def select(
        self,
        type_: GraphQLObjectType,
        grouped: Mapping[str, list[FieldDetails]],
        executor: Executor[Any],
        depth: int,
    ) -> Selection:
        """The fields that graphql-core collected, planned. Raises NotPlannable."""
        try:
            return self._select(type_, grouped, executor, depth)
        except NotPlannable as reason:
            self.refusal = str(reason)
            raise

    def _select(
        self,
        type_: GraphQLObjectType,
        grouped: Mapping[str, list[FieldDetails]],
        executor: Executor[Any],
        depth: int,
    ) -> Selection:
        if depth > MAX_DEPTH:
            raise NotPlannable("too deep")
        self.size += len(grouped)
        self._selections += 1
        if self.size > MAX_FIELDS:
            raise NotPlannable("too many fields")
        fields = []
        for key, details in grouped.items():
            name = details[0].node.name.value
            if name in ("__schema", "__type"):
                raise NotPlannable("introspection")
            field = executor.schema.get_field(type_, name)
            if field is not None:  # as graphql-core: what the type does not have is left out
                _refuse_awaited_types(field, executor.schema)
                fields.append(FieldPlan(key, type_, field, details, self._denied, self._guards, depth))
        return Selection(type_, fields)


def _refuse_awaited_types(field: GraphQLField, schema: GraphQLSchema) -> None:
    type_ = get_named_type(field.type)
    asked: list[Any] = []
    if is_abstract_type(type_):
        asked = [type_.resolve_type, *(possible.is_type_of for possible in schema.get_possible_types(type_))]
    elif is_object_type(type_):
        asked = [type_.is_type_of]
    if any(map(iscoroutinefunction, asked)):
        raise NotPlannable("types that are awaited")


def _node(type_: GraphQLOutputType, details: list[FieldDetails], depth: int, nonnull: bool = False) -> Node:
    if isinstance(type_, GraphQLNonNull):
        return _node(type_.of_type, details, depth, True)
    if isinstance(type_, GraphQLList):
        return ListOf(_node(type_.of_type, details, depth), nonnull)
    if is_leaf_type(type_):
        return Leaf(type_, nonnull)
    assert is_object_type(type_) or is_abstract_type(type_)
    return Objects(type_, nonnull, details, depth)


def _enum_class(type_: Any) -> type[Enum] | None:
    """The Python class behind a Strawberry enum."""
    wrapped = getattr(type_, "wrapped_cls", None)
    if (
        not isinstance(type_, GraphQLEnumType)
        or not isinstance(wrapped, type)
        or not issubclass(wrapped, Enum)
    ):
        return None
    return wrapped


def _converted(coerce: Any) -> frozenset[type]:
    """What a scalar that is only ``str`` or ``int`` gives back as it came; dates are written so by the encoder."""
    if coerce == date.isoformat:
        return frozenset({date})
    return frozenset({coerce}) if coerce in (str, int) else frozenset()


def _as_it_is(leaf: Leaf) -> Any:
    if leaf.enum is not None:
        # The encoder writes a member's value.
        return leaf.enum if all(leaf.names[member.name] == member.value for member in leaf.enum) else None
    if leaf.coerce == date.isoformat:
        return date
    return leaf.coerce if leaf.usual == {leaf.coerce} else None


def _small(values: list[Any]) -> bool:
    return bool(min(values) >= -(2**31) and max(values) < 2**31)


def _finite(values: list[Any]) -> bool:
    # The sum of finite numbers may overflow, so a doubtful column is looked at one by one.
    return all(value - value == 0 for value in values)


_USUAL: Mapping[Any, tuple[frozenset[type], Callable[[list[Any]], bool] | None]] = {
    GraphQLString: (frozenset({str}), None),
    GraphQLID: (frozenset({str}), None),
    GraphQLBoolean: (frozenset({bool}), None),
    GraphQLInt: (frozenset({int}), _small),
    GraphQLFloat: (frozenset({float}), _finite),
}

_AS_IT_IS: Mapping[Any, Any] = {
    GraphQLString: str,
    GraphQLID: str,
    GraphQLBoolean: bool,
    GraphQLInt: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)],
}
