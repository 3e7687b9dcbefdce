"""What rules the fields mention that an operation asks for."""

from collections.abc import Iterable
from typing import NamedTuple

from permissions.arguments import Arguments, Place
from permissions.rules import PUBLIC, SIGNED_IN
from permissions.schema_rules import SchemaRules


class Mentions(NamedTuple):
    """Of an operation."""

    held: frozenset[str]
    """Two callers who hold the same of these are denied the same of it."""
    public: bool
    """Does every field of it say @public?"""


def mentions_of(rules: SchemaRules, arguments: Arguments, places: Iterable[Place]) -> Mentions:
    """For all fields that the operation mentions, whether or not its variables leave them out."""
    held = {SIGNED_IN}
    asked = [place for place in places if place[1] != "__typename"]
    public = bool(asked)
    for place in asked:
        rule = rules.fields.get(place)
        if rule is not None:
            held.update(*rule)
        # A part of something public is public; what is not public gives no parts of it to who has not signed in.
        inside = rule is None and place[0] in rules.of_type and rules.of_type[place[0]].part
        public &= rule == PUBLIC or inside
        for coordinate in arguments.reached.get(place, ()):
            held.update(*arguments.rules[coordinate])
    return Mentions(frozenset(held), public)
