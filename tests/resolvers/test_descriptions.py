"""The printed schema explains itself and keeps Relay's conventions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
)

from gateway.demo import OWN_FIELDS
from resolvers.schema import build_schema as build_graph

PRINTED = Path(__file__).parents[2] / "schema.graphql"


@pytest.fixture(scope="module", params=["committed", "with own fields"])
def schema(request: pytest.FixtureRequest) -> GraphQLSchema:
    """As a client reads it: from its text."""
    text = PRINTED.read_text() if request.param == "committed" else build_graph(OWN_FIELDS).as_str()
    return build_schema(text)


def described(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Everything that can have a description, by its coordinate."""
    for type_ in schema.type_map.values():
        if is_introspection_type(type_) or is_specified_scalar_type(type_):
            continue
        yield type_.name, type_.description
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field.description
                for argument, value in getattr(field, "args", {}).items():
                    yield f"{type_.name}.{name}({argument}:)", value.description
        if isinstance(type_, GraphQLEnumType):
            for name, value in type_.values.items():
                yield f"{type_.name}.{name}", value.description
    for directive in schema.directives:
        if directive.name not in ("include", "skip", "deprecated", "specifiedBy", "oneOf"):
            yield f"@{directive.name}", directive.description


def test_everything_is_described_in_sentences(schema: GraphQLSchema) -> None:
    places = dict(described(schema))

    assert len(places) > 250
    assert [place for place, text in places.items() if not text] == []
    assert [place for place, text in places.items() if text and text.rstrip()[-1] not in ".?!"] == []
    assert [place for place, text in places.items() if text and text != text.strip()] == []


def test_every_scalar_says_where_it_is_specified(schema: GraphQLSchema) -> None:
    scalars = [
        type_
        for type_ in schema.type_map.values()
        if isinstance(type_, GraphQLScalarType) and not is_specified_scalar_type(type_)
    ]

    assert {scalar.name for scalar in scalars} == {
        "ByteCount",
        "CurrencyCode",
        "Date",
        "DateTime",
        "Decimal",
        "URL",
    }
    assert all(
        scalar.specified_by_url and scalar.specified_by_url.startswith("https://") for scalar in scalars
    )


def test_enums_of_what_a_back_office_says_have_room_for_the_unknown(schema: GraphQLSchema) -> None:
    for name in ("InvoiceStatus", "TicketStatus", "TicketPriority"):
        assert "UNKNOWN" in schema.type_map[name].values  # type: ignore[attr-defined]


def connections(schema: GraphQLSchema) -> list[GraphQLObjectType]:
    return [
        type_
        for name, type_ in schema.type_map.items()
        if name.endswith("Connection") and isinstance(type_, GraphQLObjectType)
    ]


def test_connections_have_relays_shape(schema: GraphQLSchema) -> None:
    found = connections(schema)

    assert {type_.name for type_ in found} == {
        f"{kind}Connection"
        for kind in (
            "Account",
            "Article",
            "AuditEntry",
            "Comment",
            "Contact",
            "Document",
            "Invitation",
            "Invoice",
            "Member",
            "ServiceAccount",
            "Ticket",
        )
    }
    for connection in found:
        kind = connection.name.removesuffix("Connection")
        assert {name: str(field.type) for name, field in connection.fields.items()} == {
            "edges": f"[{kind}Edge!]",
            "nodes": f"[{kind}]",
            "pageInfo": "PageInfo!",
        }
        edge: Any = schema.type_map[f"{kind}Edge"]
        assert {name: str(field.type) for name, field in edge.fields.items()} == {
            "node": kind,
            "cursor": "String!",
        }


def test_page_info_and_node_have_relays_shape(schema: GraphQLSchema) -> None:
    def shape(name: str) -> dict[str, str]:
        type_: Any = schema.type_map[name]
        return {name: str(field.type) for name, field in type_.fields.items()}

    assert shape("PageInfo") == {
        "hasNextPage": "Boolean!",
        "hasPreviousPage": "Boolean!",
        "startCursor": "String",
        "endCursor": "String",
    }
    assert shape("Node") == {"id": "ID!"}
    node: Any = schema.type_map["Node"]
    assert {type_.name for type_ in schema.get_possible_types(node)} == {
        "Account",
        "Contact",
        "Document",
        "Invoice",
        "Ticket",
    }
    assert schema.query_type is not None
    root = schema.query_type.fields
    assert (str(root["node"].type), str(root["nodes"].type)) == ("Node", "[Node]")


def test_every_field_that_gives_a_connection_takes_relays_arguments(schema: GraphQLSchema) -> None:
    names = {type_.name for type_ in connections(schema)}
    fields = {
        f"{type_.name}.{name}": {argument: str(value.type) for argument, value in field.args.items()}
        for type_ in schema.type_map.values()
        if isinstance(type_, GraphQLObjectType)
        for name, field in type_.fields.items()
        if str(field.type) in names
    }
    forwards = {"first": "Int", "after": "String"}
    both = {**forwards, "last": "Int", "before": "String"}

    assert set(fields) == {
        "Account.contacts",
        "Account.documents",
        "Account.invoices",
        "Account.tickets",
        "Organisation.invitations",
        "Organisation.members",
        "Organisation.serviceAccounts",
        "Query.accounts",
        "Query.auditLog",
        "Query.searchArticles",
        "Query.serviceAccounts",
        "Ticket.comments",
        "Viewer.accounts",
    }
    for place, arguments in fields.items():
        expected = forwards if place == "Query.searchArticles" else both
        assert {name: type_ for name, type_ in arguments.items() if name in both} == expected


def test_what_a_back_office_feeds_is_nullable(schema: GraphQLSchema) -> None:
    """One system that is down must not blank the page: nothing that is fetched is non-null."""
    fetched = {
        "contacts",
        "invoices",
        "tickets",
        "documents",
        "balances",
        "openTicketCount",
        "links",
        "comments",
        "versions",
        "account",
    }
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType):
            for name, field in type_.fields.items():
                if name in fetched or type_ is schema.query_type:
                    assert not isinstance(field.type, GraphQLNonNull), f"{type_.name}.{name}"


def test_no_list_has_holes_but_those_of_nodes(schema: GraphQLSchema) -> None:
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not is_introspection_type(type_):
            for name, field in type_.fields.items():
                inner = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
                if isinstance(inner, GraphQLList) and name != "nodes":
                    assert isinstance(inner.of_type, GraphQLNonNull), f"{type_.name}.{name}"


def test_the_committed_schema_is_the_codes() -> None:
    assert PRINTED.read_text() == build_graph().as_str() + "\n"
