"""Faults in whose records are whose: types without an owner, and reads that could run without the caller's scope."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from graphql import GraphQLObjectType, get_named_type

from permissions.schema_rules import SchemaRules

NODE = "Node"
"""The interface of what can be asked for by id alone."""

CALLER, ID, ORGANISATION = "caller", "id", "organisation"


class Read(Protocol):
    """A mark on a coroutine of the scope layer."""

    @property
    def gives(self) -> str | None: ...

    @property
    def by(self) -> str | None: ...


Reads = Mapping[str, Read | None]
"""Every public coroutine of the scope layer by its name."""


def faults_of_ownership(rules: SchemaRules, reads: Reads) -> Iterator[str]:
    """All of this topic."""
    yield from _nodes(rules)
    yield from _owners(rules)
    yield from _reads(rules, reads)
    yield from _unread(rules, reads)


def _nodes(rules: SchemaRules) -> Iterator[str]:
    """``node`` gives any of them to whoever has an id."""
    for type_ in rules.objects:
        if not any(interface.name == NODE for interface in type_.interfaces):
            continue
        if type_.name not in rules.types:
            yield f"{type_.name}: a node without a rule; node(id:) would give it to anyone: write @requiresScopes on the type"
        said = rules.of_type[type_.name]
        if said.scoped_by is None and not said.public:
            yield f"{type_.name}: a node without organisation scope; write @organisationScoped(by: ...) on the type"


def _owners(rules: SchemaRules) -> Iterator[str]:
    for type_ in rules.objects:
        said = rules.of_type[type_.name]
        if said.scoped_by is not None and (said.public or said.part):
            other = "@public" if said.public else "@part"
            yield f"{type_.name}: {other} and @organisationScoped contradict each other; write one of them"
        if said.scoped_by is not None and said.scoped_by not in _known(rules):
            yield (
                f'{type_.name}: @organisationScoped(by: "{said.scoped_by}") names no owner; '
                f"there are {', '.join(sorted(_known(rules)))}"
            )
        inside = type_.name in rules.roots or type_.name in rules.pages
        if said.scoped_by is None and not said.public and not said.part and not inside:
            yield (
                f"{type_.name}: whose records are these? write @organisationScoped(by: ...); @public where they are "
                "nobody's; @part where they are a value of what gives them"
            )


def _known(rules: SchemaRules) -> set[str]:
    return {CALLER, ID, ORGANISATION} | {
        _word(name) for name, said in rules.of_type.items() if said.scoped_by is not None
    }


def _word(type_name: str) -> str:
    return type_name[:1].lower() + type_name[1:]


def _reads(rules: SchemaRules, reads: Reads) -> Iterator[str]:
    for name, read in reads.items():
        if read is None:
            yield f"{name}: could run without a scope; mark it @scoped_by(owner, gives=type), @changes(owner) or @nobodys(gives=type)"
            continue
        if read.gives is None:
            if read.by not in _known(rules):
                yield f"{name}: kept by {read.by}, which is no owner; there are {', '.join(sorted(_known(rules)))}"
            continue
        said = rules.of_type.get(read.gives)
        if said is None or not isinstance(rules.schema.type_map[read.gives], GraphQLObjectType):
            yield f"{name}: gives {read.gives}, which is no type of the schema; name the type"
        elif read.by is None and not said.public:
            yield f"{name}: gives {read.gives} to any caller, but the type is not @public; mark it @scoped_by"
        elif read.by is not None and read.by != said.scoped_by:
            yield f'{read.gives}: {name} keeps it by {read.by}; write @organisationScoped(by: "{read.by}")'


def _unread(rules: SchemaRules, reads: Reads) -> Iterator[str]:
    """A scoped type comes from a read that is scoped so, or from the record that it hangs on and from nowhere else."""
    given = {read.gives for read in reads.values() if read is not None}
    for type_ in rules.objects:
        by = rules.of_type[type_.name].scoped_by
        if by is None or by == CALLER or type_.name in given or by not in _known(rules):
            continue
        for other, name, target in _givers(rules):
            if target is not type_ or other is type_ or _word(other.name) == by:
                continue
            yield (
                f"{other.name}.{name}: gives {type_.name}, for which no read of the scope layer is marked "
                f'@scoped_by("{by}", gives="{type_.name}"); read it through one'
            )


def _givers(rules: SchemaRules) -> Iterator[tuple[GraphQLObjectType, str, Any]]:
    """Every field and the type of record that it gives; pages and edges are looked through."""
    for type_, name, field, _ in rules.each_field():
        if type_.name not in rules.pages:
            named = get_named_type(field.type)
            yield type_, name, rules.pages.get(named.name, named)
