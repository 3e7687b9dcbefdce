"""What the directives on one element of a schema say."""

from typing import Any, NamedTuple

from permissions.directives import (
    Authenticated,
    OrganisationScoped,
    Part,
    Personal,
    Public,
    RequiresScopes,
    Reveals,
)
from permissions.rules import AUTHENTICATED, PUBLIC, Rule, rule_of


class Declared(NamedTuple):
    """Everything that is declared on a type, field, argument, input field or enum value."""

    rules: tuple[Rule, ...] = ()
    """More than one is a fault."""
    scoped_by: str | None = None
    part: bool = False
    reveals: tuple[str, ...] | None = None
    """Coordinates; None: it does not say."""
    personal: str | None = None
    fetched: bool = False
    """Is it a field that reads more than its parent, through a loader (``batched``)?"""

    @property
    def rule(self) -> Rule | None:
        """None: it does not say."""
        return self.rules[0] if self.rules else None

    @property
    def public(self) -> bool:
        """Is it open to anyone?"""
        return self.rule == PUBLIC


def declared(element: Any) -> Declared:
    """Of a graphql-core element that Strawberry made."""
    definition = element.extensions.get("strawberry-definition")
    rules: list[Rule] = []
    found = Declared(fetched=bool((getattr(definition, "metadata", None) or {}).get("batched")))
    for directive in getattr(definition, "directives", None) or ():
        match directive:
            case Public():
                rules.append(PUBLIC)
            case Authenticated():
                rules.append(AUTHENTICATED)
            case RequiresScopes():
                rules.append(rule_of(directive.scopes))
            case OrganisationScoped():
                found = found._replace(scoped_by=directive.by)
            case Part():
                found = found._replace(part=True)
            case Reveals():
                found = found._replace(reveals=(*(found.reveals or ()), *directive.fields))
            case Personal():
                found = found._replace(personal=directive.category)
    return found._replace(rules=tuple(rules))
