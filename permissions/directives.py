"""The rules as the schema shows them: what is printed in schema.graphql is what runs."""

import strawberry
from strawberry.schema_directive import Location


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION, Location.OBJECT],
    description=(
        "Reading this takes all scopes of at least one of the lists. Without them the field is null and the answer has "
        "an error with code FORBIDDEN; nothing is fetched for it."
    ),
)
class RequiresScopes:
    """Apollo's name and meaning: any of the lists, each of them whole."""

    scopes: list[list[str]]


def requires(*scopes: str) -> RequiresScopes:
    """All of these scopes."""
    return RequiresScopes(scopes=[list(scopes)])
