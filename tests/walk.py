"""Queries that ask for everything the schema has, made from the schema, and what an answer gives away when read closely."""

import base64
import binascii
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    is_required_argument,
)

from resolvers.vocabulary import node_id
from sources.ports.common import Ref
from sources.sandbox.world import World

SHORTEST = 4
"""Shorter texts say nothing about whose they are."""


def selection(schema: GraphQLSchema, type_: Any, first: int, above: tuple[str, ...] = ()) -> str:
    """All fields of a type with all fields below them; a type inside itself gives only its own values."""
    named = get_named_type(type_)
    if is_leaf_type(named):
        return ""
    if is_abstract_type(named):
        return "{ __typename id }"
    asked = [
        f"{name}{_page(field, first)} {selection(schema, field.type, first, (*above, named.name))}"
        for name, field in named.fields.items()
        if not any(map(is_required_argument, field.args.values()))
        and (is_leaf_type(get_named_type(field.type)) or named.name not in above)
    ]
    return "{ __typename " + " ".join(asked) + " }"


def walks(schema: GraphQLSchema, text: str, first: int = 3) -> Iterator[tuple[str, str]]:
    """(type, query) for all of Query. By-id fields take ``$id``, a list of ids ``$ids``, of the type named; interfaces are
    asked type by type. Raises KeyError for a new root argument that nothing here knows how to fill."""
    assert schema.query_type
    known = {
        "id": ("$id: ID!", "id: $id"),
        "ids": ("$ids: [ID!]!", "ids: $ids"),
        "text": ("", f'text: "{text}"'),
    }
    for name, field in schema.query_type.fields.items():
        needed = [known[argument] for argument, one in field.args.items() if is_required_argument(one)]
        given = [value for _, value in needed] + ([f"first: {first}"] if "first" in field.args else [])
        variables = ", ".join(declared for declared, _ in needed if declared)
        head = f"query Walk({variables})" if variables else "query Walk"
        arguments = f"({', '.join(given)})" if given else ""
        for type_name, body in _bodies(schema, field, first):
            yield type_name, f"{head} {{ {name}{arguments} {body} }}"


def _bodies(schema: GraphQLSchema, field: GraphQLField, first: int) -> Iterator[tuple[str, str]]:
    named = get_named_type(field.type)
    if not is_abstract_type(named):
        yield named.name, selection(schema, field.type, first)
        return
    for possible in schema.get_possible_types(named):
        yield possible.name, f"{{ __typename ... on {possible.name} {selection(schema, possible, first)} }}"


def _page(field: GraphQLField, first: int) -> str:
    return f"(first: {first})" if "first" in field.args else ""


def connections(schema: GraphQLSchema, type_name: str) -> dict[str, str]:
    """The connection fields of a type, each with all fields of its nodes."""
    type_ = schema.type_map[type_name]
    assert isinstance(type_, GraphQLObjectType)
    found = {}
    for name, field in type_.fields.items():
        connection = get_named_type(field.type)
        if "after" in field.args and isinstance(connection, GraphQLObjectType):
            found[name] = selection(schema, connection.fields["nodes"].type, 2, (type_name,))
    return found


def texts(answer: Any) -> Iterator[str]:
    """Every text in an answer, and what ids, cursors and links hold when they are taken apart."""
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(answer, list | tuple):
        for value in answer:
            yield from texts(value)
    elif isinstance(answer, str):
        yield answer
        yield from _inside(answer)


def _inside(text: str) -> Iterator[str]:
    if "/files/" in text:
        text = text.rpartition("/files/")[2].split(".")[1] if text.count(".") >= 2 else text
    clear = _clear(text)
    if clear is None:
        return
    yield clear
    try:
        yield from texts(json.loads(clear))
    except ValueError:
        if clear.count(":") >= 2:
            yield clear.split(":", 2)[2]


def _clear(text: str) -> str | None:
    if " " in text:
        return None
    try:
        clear = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return clear if clear.isprintable() and len(clear) >= SHORTEST else None


def facts(world: World, account: int) -> set[str]:
    """Every text that the invented company holds of one account, in any system."""
    return {
        text
        for rows in (
            [world.accounts[account]],
            world.contacts_by_account[account],
            world.invoices_by_account[account],
            world.bills_by_account[account],
            world.credit_notes_by_account[account],
            world.tickets_by_account[account],
            world.documents_by_account[account],
        )
        for row in rows
        for text in _texts_of(row)
        if len(text) >= SHORTEST
    }


def _texts_of(row: Any) -> Iterator[str]:
    if dataclasses.is_dataclass(row):
        for field in dataclasses.fields(row):
            value = getattr(row, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and field.name.endswith("id"):
                yield str(value)
            else:
                yield from _texts_of(value)
    elif isinstance(row, str):
        yield row
    elif isinstance(row, Mapping):
        for value in row.values():
            yield from _texts_of(value)
    elif isinstance(row, list | tuple):
        for value in row:
            yield from _texts_of(value)


def public(world: World) -> set[str]:
    """What anybody may read: help articles and who wrote answers."""
    return {text for row in (*world.articles, *world.agents) for text in _texts_of(row)}


def ids_of(world: World, account: int) -> dict[str, str]:
    """One node id of each type."""
    invoice = next(i for i in world.invoices_by_account[account] if i.status in ("AUTHORISED", "PAID"))
    return {
        "Account": node_id("Account", Ref("hubspot", world.accounts[account].hubspot_id)),
        "Contact": node_id("Contact", Ref("hubspot", world.contacts_by_account[account][0].hubspot_id)),
        "Document": node_id("Document", Ref("s3", world.documents_by_account[account][0].key)),
        "Invoice": node_id("Invoice", Ref("xero", invoice.id)),
        "Ticket": node_id("Ticket", Ref("zendesk", str(world.tickets_by_account[account][0].id))),
    }


NOWHERE = {
    "Account": node_id("Account", Ref("hubspot", "9123456789")),
    "Contact": node_id("Contact", Ref("hubspot", "9123456780")),
    "Document": node_id("Document", Ref("s3", "accounts/C-10002/contract/nothing.pdf")),
    "Invoice": node_id("Invoice", Ref("xero", "11111111-2222-4333-8444-555555555555")),
    "Ticket": node_id("Ticket", Ref("zendesk", "199999")),
}
"""Well-formed ids of nothing."""
