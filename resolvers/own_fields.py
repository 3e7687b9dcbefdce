"""The firm's own fields: what gateway.toml declares becomes typed fields and filters of the schema.

A field is read from ``record.custom``; a filter arrives in the filter's ``own_fields`` and leaves as Conditions. One
schema object is built per set of declarations; the type families know nothing of it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import strawberry
from strawberry.annotation import StrawberryAnnotation
from strawberry.exceptions import DuplicatedTypeName
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver

from permissions.directives import requires, reveals
from resolvers.vocabulary import DateRange, DateTimeRange, DecimalRange
from sources.ports.common import Condition, CustomField, Scalar
from sources.ports.custom import UNKNOWN

FILTERS = {"Account": "AccountFilter", "Invoice": "InvoiceFilter", "Ticket": "TicketFilter"}
"""Types whose lists the vendor can filter by an own field, and the filter's name."""

TYPES = frozenset({*FILTERS, "Contact"})
"""Types that can have own fields. A listing of documents has no properties, so Document is not among them."""

_PYTHON: Mapping[Scalar, type] = {
    Scalar.STRING: str,
    Scalar.INT: int,
    Scalar.FLOAT: float,
    Scalar.BOOLEAN: bool,
    Scalar.DECIMAL: Decimal,
    Scalar.DATE: date,
    Scalar.DATETIME: datetime,
}
_RANGES: Mapping[Scalar, type] = {
    Scalar.DATE: DateRange,
    Scalar.DATETIME: DateTimeRange,
    Scalar.DECIMAL: DecimalRange,
    Scalar.FLOAT: DecimalRange,
    Scalar.INT: DecimalRange,
}


class OwnFieldError(Exception):
    """A declaration that cannot be put into the schema; the message says what to mend."""


class OwnFieldsOf:
    """The fields and filters that a set of declarations adds to a schema."""

    def __init__(self, declared: Sequence[CustomField]) -> None:
        self._outputs: dict[str, list[StrawberryField]] = {}
        self._inputs: dict[str, list[StrawberryField]] = {}
        self._by_filter: dict[str, dict[str, CustomField]] = {}
        self._enums: dict[str, CustomField] = {}
        properties: dict[tuple[str, str], str] = {}
        for field in declared:
            if field.type not in TYPES:
                raise OwnFieldError(f"{field.type}.{field.name}: own fields go on {', '.join(sorted(TYPES))}")
            # A record holds each property once, as one scalar.
            other = properties.setdefault((field.type, field.property), field.name)
            if other != field.name:
                raise OwnFieldError(
                    f"{field.type}.{field.name}: {field.type}.{other} is the same property, {field.property}"
                )
            values = _enum(field) if field.scalar is Scalar.ENUM else None
            if values:
                self._enums[values.__name__] = field
            self._outputs.setdefault(field.type, []).append(_output(field, values))
            filter_name = FILTERS.get(field.type)
            if filter_name:
                self._inputs.setdefault(filter_name, []).append(_input(field, values))
                self._by_filter.setdefault(filter_name, {})[field.name] = field

    def fields(self, definition: StrawberryObjectDefinition) -> list[StrawberryField]:
        """The type's own fields and those declared on it. Raises OwnFieldError when a name is taken."""
        added = (self._inputs if definition.is_input else self._outputs).get(definition.name, [])
        kept = [field for field in definition.fields if field.python_name != "own_fields"]
        taken = {field.python_name for field in definition.fields}
        for field in added:
            if _snake(field.python_name) in taken:
                raise OwnFieldError(
                    f"{definition.name}.{field.python_name}: the graph has a field of this name"
                )
            taken.add(_snake(field.python_name))
        return kept + added

    def clash(self, error: DuplicatedTypeName) -> OwnFieldError | None:
        """What to say when two types have one name; None when no enum of an own field is one of them."""
        for name in self._enums.keys() & error.message.split():
            field = self._enums[name]
            return OwnFieldError(f"{field.type}.{field.name}: the graph has a type {name}")
        return None

    def gather(self, filter_name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """For a filter's coerced value: puts the own fields' values where Strawberry passes them on."""
        declared = self._by_filter.get(filter_name, {})

        def out(value: dict[str, Any]) -> dict[str, Any]:
            own = {name: value.pop(name) for name in declared if name in value}
            given = {name: asked for name, asked in own.items() if asked is not None}
            if given:
                value["ownFields"] = tuple(_condition(declared[name], asked) for name, asked in given.items())
            return value

        return out


def conditions(own_fields: Any) -> tuple[Condition, ...]:
    """What ``gather`` put there."""
    return tuple(own_fields or ())


def _output(field: CustomField, values: type[Enum] | None) -> StrawberryField:
    annotation = values or _PYTHON[field.scalar]

    def read(root: strawberry.Parent[Any]) -> Any:
        value = root.custom.get(field.property)
        return values[value] if values and value is not None else value

    return _field(
        field, annotation | None, directives=[requires(field.scope)] if field.scope else [], resolver=read
    )


def _input(field: CustomField, values: type[Enum] | None) -> StrawberryField:
    annotation: Any = _RANGES.get(field.scalar)
    if annotation is None:
        annotation = bool if field.scalar is Scalar.BOOLEAN else list[values or str]  # type: ignore[misc]
    told = [reveals(f"{field.type}.{field.name}"), *([requires(field.scope)] if field.scope else [])]
    return _field(field, annotation | None, default=None, directives=told)


def _field(field: CustomField, annotation: Any, resolver: Any = None, **options: Any) -> StrawberryField:
    made = StrawberryField(
        python_name=field.name,
        graphql_name=field.name,
        type_annotation=StrawberryAnnotation(annotation),
        description=field.description,
        base_resolver=StrawberryResolver(resolver, type_override=annotation) if resolver else None,
        **options,
    )
    return made


def _enum(field: CustomField) -> type[Enum]:
    names = list(dict.fromkeys(name for _, name in field.values))
    name = f"{field.type}{field.name[:1].upper()}{field.name[1:]}"
    plain = Enum(name, [(value, value) for value in [*names, UNKNOWN]])  # type: ignore[misc]
    made: Any = strawberry.enum(plain, description=f"Values of {field.type}.{field.name}.")
    for value in made.__strawberry_definition__.values:
        value.description = (
            "The CRM or other owner holds a value that is not declared."
            if value.name == UNKNOWN
            else f"The owner's value {next(raw for raw, shown in field.values if shown == value.name)!r}."
        )
    graph: type[Enum] = made
    return graph


def _condition(field: CustomField, given: Any) -> Condition:
    if field.scalar in _RANGES:
        return Condition(field, minimum=given.get("from"), maximum=given.get("to"))
    if field.scalar is Scalar.BOOLEAN:
        return Condition(field, equals=(given,))
    if field.scalar is Scalar.ENUM:
        chosen = {getattr(value, "value", value) for value in given}
        return Condition(field, equals=tuple(raw for raw, shown in field.values if shown in chosen))
    return Condition(field, equals=tuple(given))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
