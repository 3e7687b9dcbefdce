"""The rules as the schema shows them: what is printed in schema.graphql is what runs."""

from typing import Any

import strawberry
from strawberry.schema_directive import Location

_READ = [Location.FIELD_DEFINITION, Location.OBJECT]
_ASKED = [Location.ARGUMENT_DEFINITION, Location.INPUT_FIELD_DEFINITION, Location.ENUM_VALUE]


@strawberry.schema_directive(
    locations=_READ,
    description="Anyone may read this, also without signing in. On a type: its records are nobody's.",
)
class Public:
    """Nobody's."""


@strawberry.schema_directive(locations=_READ, description="Anyone may read this who has signed in.")
class Authenticated:
    """Whatever scopes they hold."""


@strawberry.schema_directive(
    locations=[*_READ, *_ASKED],
    description=(
        "Reading this takes all scopes of at least one of the lists. Without them the field is null and the answer has "
        "an error with code FORBIDDEN; nothing is fetched for it. On an argument, an input's field or an enum's value: "
        "so does using it."
    ),
)
class RequiresScopes:
    """Apollo's name and meaning: any of the lists, each of them whole."""

    scopes: list[list[str]]


@strawberry.schema_directive(
    locations=[Location.OBJECT],
    description=(
        "Records of this type belong to a customer and are only ever read within the caller's organisation. By what: "
        "id (it is the caller's own list that says), organisation, caller, or the scoped type that it hangs on."
    ),
)
class OrganisationScoped:
    """The scope layer's reads say the same of themselves; start-up compares the two."""

    by: str


@strawberry.schema_directive(
    locations=[Location.OBJECT],
    description=(
        "Part of whatever gives it: who may read the field that gives it may read it, save its fields with a rule of "
        "their own."
    ),
)
class Part:
    """A value without an identity: money, an address, a page's place, a mutation's payload."""


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION, *_ASKED],
    description=(
        "Beside what is read, this tells something of these fields: a filter or an ordering by what it compares, a count "
        "or a sum by what went into it. So it takes the scopes that reading each of them takes."
    ),
)
class Reveals:
    """Of no fields: it tells nothing more than what it is given on."""

    fields: list[str]


@strawberry.schema_directive(
    locations=_READ,
    description="Personal data in the sense of UK GDPR, article 4(1), of this category.",
)
class Personal:
    """Never public. The categories are in permissions/personal.py."""

    category: str


def requires(*scopes: str) -> RequiresScopes:
    """All of these scopes."""
    return RequiresScopes(scopes=[list(scopes)])


def scoped(by: str) -> OrganisationScoped:
    """Of one customer, by this."""
    return OrganisationScoped(by=by)


def reveals(*fields: str) -> Reveals:
    """Tells something of these fields, each as ``Type.field``; of none: it reveals nothing."""
    return Reveals(fields=list(fields))


def personal(category: str) -> Personal:
    """Somebody's, of this category."""
    return Personal(category=category)


PUBLIC = Public()
AUTHENTICATED = Authenticated()
PART = Part()

ALL: tuple[Any, ...] = (Public, Authenticated, RequiresScopes, OrganisationScoped, Part, Reveals, Personal)
