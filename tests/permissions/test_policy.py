"""The rules that the schema states are the rules that run."""

from typing import Any

import msgspec
import pytest
import strawberry
from graphql import get_named_type, is_object_type

from gateway.demo import OWN_FIELDS
from permissions import rules
from permissions.directives import AUTHENTICATED, PART, PUBLIC, requires, reveals, scoped
from permissions.policy import Policy, PolicyError
from permissions.rules import SIGNED_IN, missing, rule_of
from permissions.scopes import SCOPES
from resolvers.schema import build_schema
from tests.door import Door
from tests.walk import NOWHERE, ids_of


def policy(query: Any, *types: Any) -> Policy:
    return Policy(strawberry.Schema(query=query, types=types)._schema, {})


def held(*scopes: str) -> frozenset[str]:
    return frozenset(scopes) | {SIGNED_IN}


def shop(field: Any = None, of_type: Any = None, optional: bool = True) -> Any:
    """A schema with one restricted field and one restricted type."""

    @strawberry.type(directives=[of_type, scoped("caller")] if of_type else [PART])
    class Thing:
        name: str | None = strawberry.field(description="x")

    annotation = Thing | None if optional else Thing

    @strawberry.type
    class Query:
        @strawberry.field(directives=[field or AUTHENTICATED, reveals()], graphql_type=annotation)
        def thing(self) -> Any:
            return None

        open: int | None = strawberry.field(default=None, directives=[PUBLIC, reveals()])

    return Query


# -- what is compiled ------------------------------------------------------------------------------------------------


def test_a_field_is_denied_without_all_scopes_of_one_of_its_lists() -> None:
    rule = type(requires())(scopes=[["invoices:read", "accounts:read"], ["accounts:all"]])
    compiled = policy(shop(rule))

    for scopes, denied in (
        ((), True),
        (("invoices:read",), True),
        (("accounts:read", "tickets:read"), True),
        (("accounts:read", "invoices:read"), False),
        (("accounts:all",), False),
    ):
        assert (("Query", "thing") in compiled.denied(held(*scopes))) is denied, scopes
        assert ("Query", "open") not in compiled.denied(held(*scopes))


def test_a_types_rule_holds_for_every_field_that_gives_the_type() -> None:
    compiled = policy(shop(of_type=requires("tickets:read")))

    rule = rule_of([["tickets:read"]])
    assert compiled.denied(held()) == {("Query", "thing"): rule, ("Thing", "name"): rule}
    assert compiled.denied(held("tickets:read")) == {}


def test_a_fields_rule_and_its_types_rule_hold_together() -> None:
    compiled = policy(shop(requires("invoices:read"), requires("tickets:read")))

    assert ("Query", "thing") in compiled.denied(held("invoices:read"))
    assert ("Query", "thing") in compiled.denied(held("tickets:read"))
    assert compiled.denied(held("invoices:read", "tickets:read")) == {}


def test_an_own_field_with_an_unknown_scope_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"Account\.renewalDate: unknown scope contracts:read"):
        build_schema([msgspec.structs.replace(OWN_FIELDS[0], scope="contracts:read")])


# -- the gateway's own schema ------------------------------------------------------------------------------------------


def test_no_field_gives_a_restricted_type_to_whom_the_type_is_closed() -> None:
    schema = build_schema(OWN_FIELDS)
    restricted = schema.policy.types
    assert {"Account", "Contact", "Document", "Invoice", "Ticket", "InvoiceConnection"} <= set(restricted)
    for type_ in filter(is_object_type, schema.graphql.type_map.values()):
        for name, field in type_.fields.items():
            rule = restricted.get(get_named_type(field.type).name)
            if rule and rule != rules.PUBLIC:
                assert (type_.name, name) in schema.policy.denied(frozenset()), f"{type_.name}.{name}"


def test_scopes_are_areas_and_actions_each_described() -> None:
    for scope, description in SCOPES.items():
        area, _, action = scope.partition(":")
        assert area.isalpha()
        assert action.replace("-", "").isalpha()
        assert description.endswith(".")


def test_a_rule_reads_as_words() -> None:
    assert missing(rule_of([["b:read", "a:read"], ["c:read"]])) == "a:read and b:read, or c:read"


# -- through the door ------------------------------------------------------------------------------------------------


async def test_a_denied_field_reads_null_with_one_error_and_nothing_is_fetched_for_it(door: Door) -> None:
    answer = await door.ask(
        "finance-harbour",
        "query Q($id: ID!) { account(id: $id) { name tickets { nodes { subject } } openTicketCount } }",
        {"id": door.account_id(0)},
    )

    assert answer.data["account"] == {
        "name": door.world.accounts[0].crm_name, "tickets": None, "openTicketCount": None,
    }  # fmt: skip
    assert [(e["path"], e["message"], e["extensions"]) for e in answer.errors] == [
        (
            ["account", name],
            f"Account.{name} needs tickets:read",
            {
                "code": "FORBIDDEN",
                "coordinate": f"Account.{name}",
                "requires": [["tickets:read"]],
                "missing": [["tickets:read"]],
            },
        )
        for name in ("tickets", "openTicketCount")
    ]
    assert door.calls() == {"hubspot": 1, "xero": 0, "zendesk": 0, "s3": 0}


async def test_a_field_denied_on_many_rows_is_told_once(door: Door) -> None:
    answer = await door.ask(
        None,
        "{ viewer { account { invoices(first: 10) { nodes { number account { name links { source } } } } } } }",
        token=door.issuer.token("owner-harbour"),
    )

    assert len(answer.data["viewer"]["account"]["invoices"]["nodes"]) == 10
    assert [e["extensions"]["coordinate"] for e in answer.errors] == ["Account.links"]


@pytest.mark.parametrize(
    ("role", "type_"),
    [("finance", "Ticket"), ("standard", "Invoice"), ("partner", "Document"), ("partner", "Invoice")],
)
async def test_a_type_that_is_closed_to_the_caller_is_closed_by_id_too(
    door: Door, role: str, type_: str
) -> None:
    token = door.issuer.token("owner-harbour", roles=[role])
    query = f"query Q($id: ID!) {{ node(id: $id) {{ id }} nodes(ids: [$id]) {{ id }} {type_.lower()}(id: $id) {{ id }} }}"
    answers = [
        await door.ask(None, query, {"id": ids[type_]}, token=token)
        for ids in (ids_of(door.world, 0), NOWHERE)
    ]

    assert answers[0].body == answers[1].body
    assert {code for _, code in answers[0].codes()} == {"FORBIDDEN"}
    assert answers[0].data["node"] is None
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_a_caller_without_any_scope_reads_only_who_they_are(door: Door) -> None:
    token = door.issuer.token("owner-harbour", roles=[])
    answer = await door.ask(
        None,
        """query Q($id: ID!) { viewer { id scopes account { id } accounts { nodes { id } } }
        account(id: $id) { id } accounts { nodes { id } } searchArticles(text: "invoice") { nodes { title } } }""",
        {"id": door.account_id(0)},
        token=token,
    )

    assert answer.data == {
        "viewer": {"id": "owner-harbour", "scopes": [], "account": None, "accounts": None},
        "account": None,
        "accounts": None,
        "searchArticles": None,
    }
    assert {code for _, code in answer.codes()} == {"FORBIDDEN"}
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}
