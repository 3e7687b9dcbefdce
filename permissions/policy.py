"""Compiles the directives of a schema into what the executor asks: is this field denied to this caller?"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from graphql import GraphQLSchema

from permissions.arguments import Arguments, Guard, Place
from permissions.faults.ownership import Reads, faults_of_ownership
from permissions.faults.revelations import faults_of_revelations
from permissions.faults.rules import faults_of_rules
from permissions.mentions import Mentions, mentions_of
from permissions.principal import Principal
from permissions.rules import Rule, satisfied
from permissions.schema_rules import SchemaRules

KEPT_CALLERS = 512
"""Sets of scopes of which is known what they are denied."""

Denied = Mapping[Place, Rule]


class PolicyError(Exception):
    """The schema states a rule that cannot be enforced as it stands, or none where one is needed; one fault per line."""


class Policy:
    """The rules of one schema, by coordinate. Built once at start-up; raises PolicyError with every fault found.

    ``reads``: the marks of the scope layer's coroutines, by name.
    """

    def __init__(self, schema: GraphQLSchema, reads: Reads) -> None:
        self.rules = SchemaRules(schema)
        faults = [
            *faults_of_rules(self.rules),
            *faults_of_ownership(self.rules, reads),
            *faults_of_revelations(self.rules),
        ]
        if faults:
            raise PolicyError("\n".join(sorted(set(faults))))
        self.arguments = Arguments(self.rules)
        self.types, self.fields = self.rules.types, self.rules.fields
        self.denied = lru_cache(maxsize=KEPT_CALLERS)(self._denied)
        self.guards = lru_cache(maxsize=KEPT_CALLERS)(self._guards)

    def _denied(self, held: frozenset[str]) -> Denied:
        """The fields that a holder of exactly these may not read, with the rule to tell: the field's own where that is
        what they do not satisfy, as they would not see the field at all where it is its type's."""
        denied = {}
        for place, rule in self.fields.items():
            if not satisfied(rule, held):
                own = self.rules.beside.get(place)
                denied[place] = rule if own is None or satisfied(own, held) else own
        return denied

    def _guards(self, held: frozenset[str]) -> Mapping[Place, Guard]:
        """The fields of whose arguments a holder of exactly these may not use all."""
        return self.arguments.guards(held)

    def may_see(self, principal: Principal, type_name: str) -> bool:
        """May the caller be given a record of this type at all? A loader asks before it reads one."""
        rule = self.types.get(type_name)
        return rule is None or satisfied(rule, principal.held)

    def mentions(self, places: Iterable[Place]) -> Mentions:
        """What has to be known of a caller who asks for these fields."""
        return mentions_of(self.rules, self.arguments, places)
