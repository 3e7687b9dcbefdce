"""The firm's own fields: typed, filterable, guarded by their scope, and fetched with the record."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from graphql import GraphQLEnumType, GraphQLSchema, get_named_type

from resolvers.own_fields import FILTERS, TYPES, OwnFieldError
from resolvers.schema import build_schema
from resolvers.vocabulary import node_id
from sources.ports.common import CustomField, Ref, Scalar
from sources.sandbox.world import REGION_FIELD_ID, World
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.resolvers.conftest import Caller, Callers


def field(type_: str, name: str, scalar: Scalar = Scalar.STRING, **options: Any) -> CustomField:
    given = {"property": name, "description": f"The firm's {name}.", **options}
    return CustomField(type=type_, name=name, scalar=scalar, **given)


# -- in the schema --------------------------------------------------------------------------------------------------

FILTER_TYPES = {
    Scalar.STRING: "[String!]",
    Scalar.INT: "DecimalRange",
    Scalar.FLOAT: "DecimalRange",
    Scalar.BOOLEAN: "Boolean",
    Scalar.DECIMAL: "DecimalRange",
    Scalar.DATE: "DateRange",
    Scalar.DATETIME: "DateTimeRange",
}


def graphql_of(*fields: CustomField) -> GraphQLSchema:
    found: GraphQLSchema = build_schema(fields).graphql
    return found


@pytest.mark.parametrize("scalar", [scalar for scalar in Scalar if scalar is not Scalar.ENUM])
@pytest.mark.parametrize("type_", sorted(TYPES))
def test_a_field_of_each_scalar_on_each_type(type_: str, scalar: Scalar) -> None:
    schema = graphql_of(field(type_, "extra", scalar))

    shown = schema.type_map[type_].fields["extra"]  # type: ignore[attr-defined]
    assert (str(shown.type), shown.description) == (scalar.value, "The firm's extra.")
    if type_ in FILTERS:
        taken = schema.type_map[FILTERS[type_]].fields["extra"]  # type: ignore[attr-defined]
        assert (str(taken.type), taken.description) == (FILTER_TYPES[scalar], "The firm's extra.")


@pytest.mark.parametrize("type_", sorted(TYPES))
def test_an_enum_has_the_declared_values_and_unknown(type_: str) -> None:
    schema = graphql_of(
        field(type_, "level", Scalar.ENUM, values=(("1", "LOW"), ("2", "LOW"), ("3", "HIGH")))
    )

    enum = get_named_type(schema.type_map[type_].fields["level"].type)  # type: ignore[attr-defined]
    assert isinstance(enum, GraphQLEnumType)
    assert (enum.name, list(enum.values)) == (f"{type_}Level", ["LOW", "HIGH", "UNKNOWN"])
    assert all(value.description for value in enum.values.values())


def test_without_own_fields_nothing_of_them_shows() -> None:
    printed = build_schema().as_str()

    assert "ownFields" not in printed
    assert "JSON" not in printed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([field("Account", "name")], "Account.name: the graph has a field of this name"),
        (
            [field("Account", "openTicketCount")],
            "Account.openTicketCount: the graph has a field of this name",
        ),
        ([field("Account", "invoices")], "Account.invoices: the graph has a field of this name"),
        ([field("Account", "text")], "AccountFilter.text: the graph has a field of this name"),
        ([field("Invoice", "issued")], "InvoiceFilter.issued: the graph has a field of this name"),
        ([field("Ticket", "status")], "Ticket.status: the graph has a field of this name"),
        ([field("Contact", "id")], "Contact.id: the graph has a field of this name"),
        ([field("Account", "ownFields")], "ownFields: the graph has a field of this name"),
        (
            [field("Account", "vip"), field("Account", "vip")],
            "Account.vip: the graph has a field of this name",
        ),
        (
            [field("Account", "level", property="p"), field("Account", "tier", property="p")],
            "Account.tier: Account.level is the same property, p",
        ),
        (
            [field("Account", "orderField", Scalar.ENUM, values=(("a", "A"),))],
            "Account.orderField: the graph has a type AccountOrderField",
        ),
        (
            [field("Account", "link", Scalar.ENUM, values=(("a", "A"),))],
            "Account.link: the graph has a type AccountLink",
        ),
        ([field("Document", "owner")], "Document.owner: own fields go on Account, Contact, Invoice, Ticket"),
        ([field("Money", "cents")], "Money.cents: own fields go on Account, Contact, Invoice, Ticket"),
    ],
)
def test_a_name_that_is_taken_is_refused(fields: list[CustomField], message: str) -> None:
    with pytest.raises(OwnFieldError) as caught:
        build_schema(fields)

    assert message in str(caught.value)


def test_the_same_name_on_two_types_is_no_clash() -> None:
    schema = graphql_of(
        field("Account", "region", Scalar.ENUM, values=(("a", "A"),)),
        field("Ticket", "region", Scalar.ENUM, values=(("b", "B"),)),
    )

    assert {"AccountRegion", "TicketRegion"} <= set(schema.type_map)


# -- the demo's two -------------------------------------------------------------------------------------------------


async def test_the_demos_fields_are_typed_and_true(admin: Caller, door: Door) -> None:
    query = "query($a: String) { accounts(first: 100, after: $a) { nodes { name tier renewalDate } pageInfo { endCursor } } }"

    first = (await admin.ask(query))["accounts"]
    second = (await admin.ask(query, a=first["pageInfo"]["endCursor"]))["accounts"]

    shown = [(row["name"], row["tier"], row["renewalDate"]) for row in [*first["nodes"], *second["nodes"]]]
    assert sorted(map(str, shown)) == sorted(
        str((row.crm_name, row.tier.upper(), row.renewal_date and row.renewal_date.isoformat()))
        for row in door.world.accounts
    )
    account = admin.schema.type_map["Account"]
    assert str(account.fields["renewalDate"].type) == "Date"  # type: ignore[attr-defined]
    assert str(account.fields["tier"].type) == "AccountTier"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ("{ accounts(first: 50%s) { nodes { name %s } } }", 1),
        ("{ viewer { account { name %s } } }", 1),
    ],
)
async def test_own_fields_cost_no_call_of_their_own(door: Door, query: str, calls: int) -> None:
    for extra, given in (
        ("", ""),
        ("tier renewalDate", ', filter: {tier: [GOLD], renewalDate: {from: "2026-01-01"}}'),
    ):
        door.forget_calls()
        text = query % (given, extra) if query.count("%s") == 2 else query % extra
        answer = await door.ask("support" if "accounts" in text else "owner-harbour", text)

        assert answer.errors == []
        assert door.calls() == {"hubspot": calls, "xero": 0, "zendesk": 0, "s3": 0}


@pytest.mark.parametrize(
    "given", ["tier: null", "renewalDate: null", "renewalDate: {}", "renewalDate: {from: null}"]
)
async def test_what_is_left_open_filters_no_account(callers: Callers, door: Door, given: str) -> None:
    for persona, index in (("owner-harbour", 0), ("owner-moeller", 1)):
        found = (await callers[persona].ask(f"{{ accounts(filter: {{{given}}}) {{ nodes {{ name }} }} }}"))[
            "accounts"
        ]
        assert found == {"nodes": [{"name": door.world.accounts[index].crm_name}]}
    staff = (
        await callers["support"].ask(f"{{ accounts(first: 100, filter: {{{given}}}) {{ nodes {{ id }} }} }}")
    )["accounts"]
    assert len(staff["nodes"]) == 100


# -- a firm of many wishes ------------------------------------------------------------------------------------------

FIELDS = (
    field("Account", "band", Scalar.ENUM, property="customer_tier", values=(("gold", "TOP"),)),
    field("Account", "line", property="industry", scope="tickets:internal"),
    field("Account", "renewal", Scalar.DATE, property="renewal_date", scope="links:read"),
    field("Account", "since", Scalar.DATETIME, property="createdate"),
    field("Account", "customerNumber", Scalar.INT, property="account_number"),
    field("Contact", "role", property="jobtitle"),
    field("Contact", "stage", Scalar.ENUM, property="lifecyclestage", values=(("customer", "CUSTOMER"),)),
    field("Invoice", "orderNumber", property="Reference"),
    field("Ticket", "region", Scalar.ENUM, property=str(REGION_FIELD_ID), values=(("emea", "EMEA"), ("amer", "AMERICAS"))),
    field("Ticket", "secretRegion", property="360002", scope="accounts:all"),
)  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def wishes(postgres: str) -> AsyncIterator[Door]:
    """A small world whose firm declared these fields."""
    async with fresh_database(postgres) as url, open_door(World.build(0.05), url, own_fields=FIELDS) as door:
        yield door


async def test_each_types_fields_are_read_and_unlisted_values_are_unknown(wishes: Door) -> None:
    world = wishes.world
    query = """query($id: ID!) { account(id: $id) {
      band line renewal since customerNumber
      contacts(first: 100) { nodes { email role stage } }
      invoices(first: 100) { nodes { number orderNumber } }
      tickets(first: 100) { nodes { number region } }
    } }"""

    account = (await wishes.ask("admin", query, {"id": wishes.account_id(0)})).data["account"]
    other = (await wishes.ask("admin", query, {"id": wishes.account_id(8)})).data["account"]

    truth = world.accounts[0]
    assert truth.renewal_date is not None
    assert account["band"] == "TOP"
    assert other["band"] == ("TOP" if world.accounts[8].tier == "gold" else "UNKNOWN")
    assert account["line"] == truth.industry
    assert account["renewal"] == truth.renewal_date.isoformat()
    assert account["since"] == truth.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    assert account["customerNumber"] is None  # a number with letters fits no Int
    assert {(n["email"], n["role"], n["stage"]) for n in account["contacts"]["nodes"]} == {
        (p.email, p.job_title, "CUSTOMER") for p in world.contacts_by_account[0] if not p.archived
    }
    assert {(n["number"], n["orderNumber"]) for n in account["invoices"]["nodes"]} == {
        (row.number, row.reference or None) for row in world.invoices_by_account[0] if row.status != "DELETED"
    }
    names = {"emea": "EMEA", "amer": "AMERICAS", "apac": "UNKNOWN", None: None}
    assert {(n["number"], n["region"]) for n in account["tickets"]["nodes"]} == {
        (str(row.id), names[row.custom_fields[REGION_FIELD_ID]]) for row in world.tickets_by_account[0]
    }
    far = next(row for row in world.tickets if row.custom_fields[REGION_FIELD_ID] == "apac")
    ticket = node_id("Ticket", Ref("zendesk", str(far.id)))
    answer = await wishes.ask("admin", "query($id: ID!) { ticket(id: $id) { region } }", {"id": ticket})
    assert answer.data == {"ticket": {"region": "UNKNOWN"}}


async def test_filters_on_own_fields_are_the_vendors(wishes: Door) -> None:
    world = wishes.world
    wanted_reference = next(row.reference for row in world.invoices_by_account[0] if row.reference)
    query = """query($id: ID!, $i: InvoiceFilter, $t: TicketFilter) { account(id: $id) {
      invoices(first: 100, filter: $i) { nodes { number } } tickets(first: 100, filter: $t) { nodes { number } }
    } }"""

    account = (
        await wishes.ask(
            "admin",
            query,
            {
                "id": wishes.account_id(0),
                "i": {"orderNumber": [wanted_reference]},
                "t": {"region": ["EMEA"]},
            },
        )
    ).data["account"]

    assert {n["number"] for n in account["invoices"]["nodes"]} == {
        row.number
        for row in world.invoices_by_account[0]
        if row.reference == wanted_reference and row.status != "DELETED"
    }
    assert {n["number"] for n in account["tickets"]["nodes"]} == {
        str(row.id) for row in world.tickets_by_account[0] if row.custom_fields[REGION_FIELD_ID] == "emea"
    }


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_field_is_denied_without_its_scope_and_the_rest_is_there(wishes: Door, times: int) -> None:
    query = "{ viewer { account { name line band renewal tickets(first: 3) { nodes { number secretRegion } } } } }"

    for _ in range(times):
        answer = await wishes.ask("owner-harbour", query)

    account = answer.data["viewer"]["account"]
    assert (account["name"], account["band"]) == (wishes.world.accounts[0].crm_name, "TOP")
    assert (account["line"], account["renewal"]) == (None, None)
    assert all(node["number"] and node["secretRegion"] is None for node in account["tickets"]["nodes"])
    assert sorted(
        (error["extensions"]["code"], error["extensions"]["coordinate"]) for error in answer.errors
    ) == [
        ("FORBIDDEN", "Account.line"),
        ("FORBIDDEN", "Account.renewal"),
        ("FORBIDDEN", "Ticket.secretRegion"),
    ]


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ('{ accounts(filter: {line: ["x"]}) { nodes { id } } }', "accounts", "AccountFilter.line needs tickets:internal"),
        ('{ viewer { accounts(filter: {renewal: {from: "2026-01-01"}}) { nodes { id } } } }', "viewer.accounts", "AccountFilter.renewal needs links:read"),
        ('{ viewer { account { tickets(filter: {secretRegion: ["emea"]}) { nodes { id } } } } }', "viewer.account.tickets", "TicketFilter.secretRegion needs accounts:all"),
    ],
)  # fmt: skip
async def test_filtering_by_a_field_takes_the_scope_of_reading_it(
    wishes: Door, query: str, path: str, message: str
) -> None:
    answer = await wishes.ask("owner-harbour", query)

    assert answer.codes() == [(path, "FORBIDDEN")]
    assert answer.errors[0]["message"] == f"{message}"


async def test_a_text_that_a_vendors_language_cannot_hold_is_refused(wishes: Door) -> None:
    query = """query($id: ID!) { account(id: $id) { invoices(filter: {orderNumber: ["a\\"b"]}) { nodes { id } } } }"""

    answer = await wishes.ask("admin", query, {"id": wishes.account_id(0)})

    assert answer.codes() == [("account.invoices", "BAD_USER_INPUT")]
    assert "cannot filter by text with quotation marks" in answer.errors[0]["message"]
