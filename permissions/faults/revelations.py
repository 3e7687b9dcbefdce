"""Faults in what an answer tells beside what is read: filters, orderings, counts, sums, lookups and hits."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from graphql import (
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    Undefined,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
)

from permissions.declared import Declared, declared
from permissions.rules import PUBLIC, Rule, both, implies, lists, missing
from permissions.schema_rules import PAGING, SchemaRules

SAY = "write @reveals(fields: [...]) with what it tells of, an empty list where that is nothing"

_OF_A_PAGE = frozenset({"cursor", "edges", "node", "nodes", "pageInfo"})
"""What tells nothing beside the records: Relay's own."""


def faults_of_revelations(rules: SchemaRules) -> Iterator[str]:
    """All of this topic."""
    yield from _pages(rules)
    yield from _hits(rules)
    yield from _values(rules)
    yield from _arguments(rules)
    yield from _defaults(rules)


def _pages(rules: SchemaRules) -> Iterator[str]:
    """Counts and pages tell how many records there are, so they take what any of them takes."""
    for page, record in rules.pages.items():
        if not rules.is_abstract(record) and record.name not in rules.types:
            yield (
                f"{page}: counts and pages of {record.name} tell how many there are, but the type has no rule; "
                f"write it on {record.name}, beside those of its fields"
            )
        type_ = rules.schema.type_map[page]
        for name in sorted(type_.fields.keys() - _OF_A_PAGE):  # type: ignore[attr-defined]
            if rules.of_field[page, name].reveals is None:
                yield f"{page}.{name}: {SAY}"


def _hits(rules: SchemaRules) -> Iterator[str]:
    """A hit of a type that is closed to the caller tells that there is one. A loader refuses to read such a type; what is
    given without one has to take what each of the types takes."""
    for type_, name, field, said in rules.each_field():
        if not rules.is_abstract(field.type) or type_.name in rules.pages:
            continue
        takes = rules.fields.get((type_.name, name), PUBLIC)
        named = get_named_type(field.type)
        for possible in rules.schema.get_possible_types(rules.pages.get(named.name, named)):
            needed = rules.types.get(possible.name, PUBLIC)
            if not said.fetched and not implies(takes, needed):
                yield (
                    f"{type_.name}.{name}: may be a {possible.name}, which takes {missing(needed)}; "
                    "read it through a loader, declared with batched(), or write that on the field"
                )


def _values(rules: SchemaRules) -> Iterator[str]:
    """A count or a sum tells of the records that went into it."""
    mutations = rules.schema.mutation_type
    for type_, name, field, said in rules.each_field():
        coordinate = f"{type_.name}.{name}"
        worked_out = said.fetched or type_.name in rules.roots
        if said.reveals is None and worked_out and type_ is not mutations and rules.tells_alone(field.type):
            yield f"{coordinate}: works out something of other records; {SAY}"
        yield from _told(rules, coordinate, said, rules.fields.get((type_.name, name), PUBLIC))


# -- what is asked with -------------------------------------------------------------------------------------------


class _Use(NamedTuple):
    """A field of the graph, and what using some of its arguments takes in all."""

    field: str
    takes: Rule
    non_null: bool
    told: bool
    """Has it been said what it tells? Arguments of a mutation say what to write, not what to look for."""
    looks_up: str | None
    """The interface whose types are asked for by id through a loader, where the field gives one."""


def _arguments(rules: SchemaRules) -> Iterator[str]:
    for type_, name, field, said in rules.each_field():
        named = get_named_type(field.type)
        use = _Use(
            f"{type_.name}.{name}",
            rules.fields.get((type_.name, name), PUBLIC),
            non_null=isinstance(field.type, GraphQLNonNull),
            told=type_ is rules.schema.mutation_type,
            looks_up=named.name if is_interface_type(named) and said.fetched else None,
        )
        for argument, definition in field.args.items():
            if not (argument in PAGING and named.name in rules.pages):
                place = f"{use.field}({argument}:)"
                yield from _asked(rules, place, declared(definition), definition.type, use, frozenset())


def _asked(
    rules: SchemaRules, place: str, said: Declared, type_: Any, use: _Use, within: frozenset[str]
) -> Iterator[str]:
    """An argument, an input's field or an enum's value: what it says of itself, else what it is made of says."""
    if said.rules and use.non_null:
        yield f"{place}: restricted, but {use.field} is non-null and could not be refused; make its type nullable"
    takes = both(use.takes, *said.rules)
    assert takes is not None
    use = use._replace(takes=takes)
    if said.reveals is not None:
        yield from _told(rules, place, said, use.takes, use.looks_up, use.field)
        use = use._replace(told=True)
    named = get_named_type(type_)
    if is_input_object_type(named):
        if named.name not in within:
            for name, field in named.fields.items():
                inner = f"{named.name}.{name}"
                yield from _asked(rules, inner, declared(field), field.type, use, within | {named.name})
    elif is_enum_type(named):
        for name, value in named.values.items():
            yield from _asked(rules, f"{named.name}.{name}", declared(value), None, use, within)
    elif not use.told:
        yield f"{place}: asked with in {use.field}; {SAY}"


def _told(
    rules: SchemaRules,
    place: str,
    said: Declared,
    takes: Rule,
    looks_up: str | None = None,
    field: str | None = None,
) -> Iterator[str]:
    """Does it take what reading each of the fields takes that it reveals?"""
    for coordinate in said.reveals or ():
        found = rules.coordinate(coordinate)
        if found is None:
            yield f"{place}: reveals {coordinate}, which the schema does not have; name it as Type.field"
            continue
        type_, name = found
        if type_.name == looks_up:
            continue  # its loader refuses the types that are closed to the caller
        for needed in _readings(rules, type_, name):
            if not implies(takes, needed):
                in_field = f" in {field}" if field and not place.startswith(field) else ""
                more = ", ".join(
                    f"[{', '.join(repr(s).replace(chr(39), chr(34)) for s in way)}]" for way in lists(needed)
                )
                yield (
                    f"{place}: reveals {coordinate}, which takes {missing(needed)}, but using it{in_field} takes "
                    f"{missing(takes)}; write @requiresScopes(scopes: [{more}]) on it"
                )


def _readings(rules: SchemaRules, type_: Any, name: str) -> Iterable[Rule]:
    if isinstance(type_, GraphQLObjectType):
        return [rules.fields.get((type_.name, name), PUBLIC)]
    return [
        rules.fields.get((possible.name, name), PUBLIC) for possible in rules.schema.get_possible_types(type_)
    ]


def _defaults(rules: SchemaRules) -> Iterator[str]:
    """What is used although nobody asked for it can't be refused."""
    places: list[tuple[str, Any]] = [
        (f"{type_.name}.{name}({argument}:)", definition)
        for type_, name, field, _ in rules.each_field()
        for argument, definition in _arguments_of(field)
    ]
    for input_ in rules.inputs:
        places += [(f"{input_.name}.{name}", field) for name, field in input_.fields.items()]
    for place, definition in places:
        default = definition.default_value
        if declared(definition).rules and (
            default not in (None, Undefined) or isinstance(definition.type, GraphQLNonNull)
        ):
            yield f"{place}: restricted, but everyone has to use it; make it nullable, without a default"
        named = get_named_type(definition.type)
        for name, value in named.values.items() if is_enum_type(named) else ():
            if declared(value).rules and value.value in (default, getattr(default, "value", Undefined)):
                yield f"{place}: its default {named.name}.{name} is restricted; choose another default"


def _arguments_of(field: GraphQLField) -> Iterator[tuple[str, Any]]:
    yield from field.args.items()
