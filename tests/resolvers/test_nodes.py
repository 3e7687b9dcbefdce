"""node and nodes: any record by its id, in the order asked, and nothing for what is not an id."""

import base64

import pytest

from resolvers.vocabulary import node_id, parse_node_id
from sources.ports.common import Ref
from sources.sandbox.world import World
from tests.door import Door
from tests.resolvers.conftest import Caller, Callers

NODES = """query Nodes($ids: [ID!]!) {
  nodes(ids: $ids) {
    __typename
    id
    ... on Account { name }
    ... on Contact { email }
    ... on Invoice { number }
    ... on Ticket { subject }
    ... on Document { fileName }
  }
}"""


def some_of_each(world: World) -> list[tuple[str, str, str, str]]:
    """(type, id, the field that tells, its value) of records of the first customer."""
    person = next(person for person in world.contacts_by_account[0] if not person.archived)
    invoice = next(row for row in world.invoices_by_account[0] if row.status == "PAID")
    ticket, document = world.tickets_by_account[0][0], world.documents_by_account[0][0]
    return [
        (
            "Account",
            node_id("Account", Ref("hubspot", world.accounts[0].hubspot_id)),
            "name",
            world.accounts[0].crm_name,
        ),
        ("Contact", node_id("Contact", Ref("hubspot", person.hubspot_id)), "email", person.email),
        ("Invoice", node_id("Invoice", Ref("xero", invoice.id)), "number", invoice.number),
        ("Ticket", node_id("Ticket", Ref("zendesk", str(ticket.id))), "subject", ticket.subject),
        ("Document", node_id("Document", Ref("s3", document.key)), "fileName", document.file_name),
    ]


async def test_each_type_is_found_by_its_id_and_by_its_own_field(owner: Caller, door: Door) -> None:
    for type_, id, field, value in some_of_each(door.world):
        node = await owner.ask(
            f"query($id: ID!) {{ node(id: $id) {{ __typename id ... on {type_} {{ {field} }} }} }}", id=id
        )
        assert node == {"node": {"__typename": type_, "id": id, field: value}}
        if type_ != "Contact":
            name = type_.lower()
            own = await owner.ask(f"query($id: ID!) {{ {name}(id: $id) {{ __typename id {field} }} }}", id=id)
            assert own == {name: node["node"]}


async def test_mixed_ids_keep_their_order_and_repeat_as_asked(owner: Caller, door: Door) -> None:
    some = some_of_each(door.world)
    asked = [*reversed(some), *some[1:3], some[2]]

    for _ in range(3):
        nodes = (await owner.ask(NODES, ids=[id for _, id, _, _ in asked]))["nodes"]
        assert nodes == [{"__typename": type_, "id": id, field: value} for type_, id, field, value in asked]


async def test_nodes_of_one_kind_cost_one_call(door: Door) -> None:
    world = door.world
    ids = [node_id("Ticket", Ref("zendesk", str(row.id))) for row in world.tickets_by_account[0][:20]]

    answer = await door.ask("owner-harbour", NODES, {"ids": ids + ids[:5]})

    assert [node["id"] for node in answer.data["nodes"]] == ids + ids[:5]
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 1, "s3": 0}


async def test_no_ids_are_no_nodes(owner: Caller) -> None:
    assert await owner.ask(NODES, ids=[]) == {"nodes": []}


def opaque(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


GARBAGE = [
    "",
    "garbage",
    "🙂",
    "!!!!",
    "A" * 5_000,
    opaque("Account:hubspot:"),
    opaque("Account:hubspot:0"),
    opaque("Account:hubspot:99999999999999999999999"),
    opaque("Account:hubspot:1 OR 1=1"),
    opaque("Account:xero:1000"),
    opaque("Money:xero:1"),
    opaque("Query:x:1"),
    opaque("account:hubspot:1000"),
    opaque("Invoice:xero:00000000-0000-0000-0000-000000000000"),
    opaque("Invoice:xero:../Contacts"),
    opaque("Ticket:zendesk:1/comments"),
    opaque("Ticket:zendesk:9007199254740993"),
    opaque("Document:s3:../../etc/passwd"),
    opaque("Document:s3:customers/"),
    opaque("Contact:hubspot:x"),
    opaque("Contact:hubspot:1\n2"),
]


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize("persona", ["owner-harbour", "admin"])
async def test_what_is_no_record_is_null_with_not_found(
    callers: Callers, door: Door, persona: str, text: str
) -> None:
    (type_, good, field, value), *_ = some_of_each(door.world)

    data, errors = await callers[persona].partly(NODES, ids=[good, text, good])
    single, single_errors = await callers[persona].partly("query($id: ID!) { node(id: $id) { id } }", id=text)

    there = {"__typename": type_, "id": good, field: value}
    assert data == {"nodes": [there, None, there]}
    assert errors == [("nodes.1", "NOT_FOUND")]
    assert (single, single_errors) == ({"node": None}, [("node", "NOT_FOUND")])


@pytest.mark.parametrize("name", ["account", "invoice", "ticket", "document"])
async def test_an_id_of_another_type_is_not_found(owner: Caller, door: Door, name: str) -> None:
    for type_, id, _, _ in some_of_each(door.world):
        query = f"query($id: ID!) {{ {name}(id: $id) {{ id }} }}"
        if type_.lower() == name:
            assert (await owner.ask(query, id=id))[name] == {"id": id}
        else:
            assert await owner.refusals(query, id=id) == [(name, "NOT_FOUND", f"no such {name}")]


async def test_a_hundred_ids_are_taken_and_one_more_is_refused(owner: Caller, door: Door) -> None:
    id = door.account_id(0)

    assert len((await owner.ask(NODES, ids=[id] * 100))["nodes"]) == 100
    assert await owner.refusals(NODES, ids=[id] * 101) == [
        ("nodes", "BAD_USER_INPUT", "at most 100 ids at once")
    ]


async def test_what_a_role_may_not_see_leaves_the_rest_of_nodes_alone(callers: Callers, door: Door) -> None:
    some = some_of_each(door.world)

    data, errors = await callers["standard-harbour"].partly(NODES, ids=[id for _, id, _, _ in some])

    assert [node and node["__typename"] for node in data["nodes"]] == [
        "Account",
        "Contact",
        None,
        "Ticket",
        "Document",
    ]
    assert errors == [("nodes.2", "FORBIDDEN")]


async def test_another_customers_records_read_as_if_they_were_not_there(callers: Callers, door: Door) -> None:
    ids = [id for _, id, _, _ in some_of_each(door.world)]

    data, errors = await callers["owner-moeller"].partly(NODES, ids=ids)

    assert data == {"nodes": [None] * 5}
    assert errors == [(f"nodes.{place}", "NOT_FOUND") for place in range(5)]


async def test_a_merged_away_id_answers_with_the_record_that_survived(admin: Caller, door: Door) -> None:
    survivor = next(account for account in door.world.accounts if account.merged_hubspot_ids)
    old = node_id("Account", Ref("hubspot", survivor.merged_hubspot_ids[0]))

    account = (await admin.ask("query($id: ID!) { account(id: $id) { id name } }", id=old))["account"]

    assert account == {"id": door.account_id(survivor.index), "name": survivor.crm_name}


async def test_fragments_on_the_interface_and_its_types(owner: Caller, door: Door) -> None:
    query = """query($id: ID!) { node(id: $id) { ...A ... on Node { again: id } ... on Ticket { number } ... on Document { title } } }
      fragment A on Account { __typename name }"""

    node = (await owner.ask(query, id=door.account_id(0)))["node"]

    name = door.world.accounts[0].crm_name
    assert node == {"__typename": "Account", "name": name, "again": door.account_id(0)}


async def test_every_list_gives_ids_that_node_takes(owner: Caller, door: Door) -> None:
    query = """query($id: ID!) { account(id: $id) { id
      contacts(first: 100) { nodes { id } } invoices(first: 100) { nodes { id } }
      tickets(first: 100) { nodes { id account { id } } } documents(first: 100) { nodes { id account { id } } }
    } }"""
    account = (await owner.ask(query, id=door.account_id(0)))["account"]

    for name in ("contacts", "invoices", "tickets", "documents"):
        ids = [node["id"] for node in account[name]["nodes"]]
        assert [node["id"] for node in (await owner.ask(NODES, ids=ids))["nodes"]] == ids
    for name in ("tickets", "documents"):
        assert {node["account"]["id"] for node in account[name]["nodes"]} == {account["id"]}


def test_an_id_can_hold_any_reference() -> None:
    for ref in (
        Ref("s3", "customers/10001/contracts/Übersicht: 1:2.pdf"),
        Ref("zendesk", "9007199254740993"),
        Ref("x", "東"),
    ):
        assert parse_node_id(node_id("Document", ref)) == ("Document", ref)
