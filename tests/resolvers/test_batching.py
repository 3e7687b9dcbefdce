"""The start-up check refuses what would be fetched row by row, one line per field, and accepts the graph."""

from collections.abc import Callable
from typing import Any

import pytest
import strawberry

from resolvers.batching import UnbatchedField, refuse_unbatched
from resolvers.schema import build_schema
from resolvers.vocabulary import Connection, batched
from sources.ports.common import CustomField, Scalar

Info = strawberry.Info[Any, None]


def elsewhere(info: Any) -> str:
    """A helper that may reach anything."""
    return str(info)


@strawberry.interface
class Named:
    name: str | None

    @strawberry.field
    def shared(self, info: Info) -> str | None:
        return info.context.value(None, self)  # type: ignore[no-any-return]


@strawberry.type
class Leaf(Named):
    plain: str | None

    @strawberry.field
    async def awaits(self) -> str | None:
        return None

    @batched
    async def awaits_though_marked(self) -> str | None:
        return None

    @strawberry.field
    def loads(self, info: Info) -> str | None:
        return info.context.page(None, None, "", self)  # type: ignore[no-any-return]

    @strawberry.field
    def reaches_sources(self, info: Info) -> str | None:
        return info.context.sources  # type: ignore[no-any-return]

    @strawberry.field
    def hides_it_in_a_function(self, info: Info) -> str | None:
        def read() -> Any:
            return info.context.record("", None, None)

        return read()  # type: ignore[no-any-return]

    @strawberry.field
    def hands_on(self, info: Info) -> str | None:
        return elsewhere(info)

    @strawberry.field
    def harmless(self, info: Info) -> str | None:
        return str(info.context.today)

    @batched
    def marked(self, info: Info) -> str | None:
        return info.context.value(None, self)  # type: ignore[no-any-return]


FAULTS = [
    "awaits",
    "awaitsThoughMarked",
    "handsOn",
    "hidesItInAFunction",
    "loads",
    "reachesSources",
    "shared",
]


def lines(query: type) -> list[str]:
    """The faults, in the order of their names."""
    with pytest.raises(UnbatchedField) as caught:
        refuse_unbatched(strawberry.Schema(query, types=[Leaf])._schema)
    return sorted(str(caught.value).splitlines())


def fault(field: str) -> str:
    return (
        f"Leaf.{field}: below a list and not batched; return a loader's answer and declare it with batched()"
    )


@strawberry.type
class ByList:
    leaves: list[Leaf]


@strawberry.type
class ByConnection:
    leaves: Connection[Leaf]


@strawberry.type
class Between:
    leaf: Leaf | None


@strawberry.type
class FarBelow:
    between: list[Between | None] | None


@strawberry.type
class ByInterface:
    named: list[Named] | None


@strawberry.type
class ByNestedList:
    leaves: list[list[Leaf] | None] | None


@pytest.mark.parametrize("query", [ByList, ByConnection, FarBelow, ByInterface, ByNestedList])
def test_each_field_below_a_list_that_fetches_by_itself_is_one_line(query: type) -> None:
    assert lines(query) == [fault(name) for name in FAULTS]


def test_what_is_read_once_may_fetch_by_itself() -> None:
    refuse_unbatched(strawberry.Schema(Between)._schema)


def test_the_graph_is_accepted_with_and_without_own_fields() -> None:
    build_schema()
    build_schema([CustomField("Account", "tier", "tier", Scalar.STRING, "A level.")])


def test_a_list_of_the_graph_whose_mark_is_taken_away_is_found() -> None:
    schema = build_schema().graphql
    definition = schema.type_map["Account"].fields["invoices"].extensions["strawberry-definition"]
    metadata = definition.metadata
    definition.metadata = {}
    try:
        with pytest.raises(UnbatchedField, match=r"^Account\.invoices: below a list"):
            refuse_unbatched(schema)
    finally:
        definition.metadata = metadata


def test_the_whole_graph_below_lists_is_looked_at() -> None:
    from resolvers.batching import _below_lists

    looked_at = {(type_, field) for type_, field, _ in _below_lists(build_schema().graphql)}

    below: Callable[[str], set[str]] = lambda type_: {field for one, field in looked_at if one == type_}  # noqa: E731
    assert {"contacts", "invoices", "tickets", "documents", "balances", "openTicketCount", "links"} <= below(
        "Account"
    )
    assert {"comments", "account"} <= below("Ticket")
    assert {"versions", "account", "content"} <= below("Document")
    assert below("Viewer") == set()
