"""What a caller is denied is decided before anything runs, however the operation is written, on every way through the
executor."""

from collections.abc import Mapping
from typing import Any

import pytest

from permissions.rules import SIGNED_IN
from sources.ports.common import CustomField, Scalar
from sources.sandbox.world import World
from tests.benchmarks import rules
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.walk import ids_of

NO_CALLS = {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def both_ways(
    door: Door, token: str, query: str, variables: Mapping[str, Any] | None = None
) -> tuple[Answer, Mapping[str, int]]:
    """The answer by graphql-core, which a document's first request takes; the same as by columns, which the next takes."""
    # A comment makes the text one that was never seen.
    text = f"# {both_ways.seen}\n{query}"
    both_ways.seen += 1
    counts = door.office.engine.counts
    door.forget_calls()
    before = counts["first seen"]
    first = await door.ask(None, text, variables, token=token)
    calls = door.calls()
    assert counts["first seen"] == before + 1
    planned = counts["columns"] + counts["replayed"]
    again = await door.ask(None, text, variables, token=token)
    assert counts["columns"] + counts["replayed"] == planned + 1
    assert again.body == first.body
    return first, calls


both_ways.seen = 0  # type: ignore[attr-defined]


def token(door: Door, role: str) -> str:
    return door.issuer.token("owner-harbour", roles=[role])


def told(answer: Answer) -> list[tuple[str, str]]:
    """(path pattern, coordinate) of each error, which are all FORBIDDEN."""
    assert {e["extensions"]["code"] for e in answer.errors} <= {"FORBIDDEN"}
    return [
        (".".join(part for part in e["path"] if isinstance(part, str)), e["extensions"]["coordinate"])
        for e in answer.errors
    ]


async def test_aliases_and_fragments_of_every_kind_are_denied_alike(door: Door) -> None:
    answer, calls = await both_ways(
        door,
        token(door, "finance"),
        """query Q($id: ID!) {
          plain: account(id: $id) { name tickets { nodes { id } } }
          aliased: account(id: $id) { name other: tickets { nodes { id } } }
          spread: account(id: $id) { ...Everything }
          inline: account(id: $id) { ... on Account { name tickets { nodes { id } } } }
          node(id: $id) { ... on Account { name tickets { nodes { id } } } ...Everything }
          nodes(ids: [$id]) { id ...Everything }
        }
        fragment Everything on Account { name ...Tickets }
        fragment Tickets on Account { openTicketCount tickets { nodes { id } } }""",
        {"id": door.account_id(0)},
    )

    name = door.world.accounts[0].crm_name
    closed = {"name": name, "tickets": None, "openTicketCount": None}
    assert answer.data == {
        "plain": {"name": name, "tickets": None},
        "aliased": {"name": name, "other": None},
        "spread": closed,
        "inline": {"name": name, "tickets": None},
        "node": closed,
        "nodes": [{"id": door.account_id(0), **closed}],
    }
    assert sorted(told(answer)) == sorted(
        [
            ("plain.tickets", "Account.tickets"),
            ("aliased.other", "Account.tickets"),
            ("inline.tickets", "Account.tickets"),
            *((f"{at}.tickets", "Account.tickets") for at in ("spread", "node", "nodes")),
            *((f"{at}.openTicketCount", "Account.openTicketCount") for at in ("spread", "node", "nodes")),
        ]
    )
    assert (calls["zendesk"], calls["xero"], calls["s3"]) == (0, 0, 0)


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_a_variable_leaves_out_is_not_told_of(door: Door, wanted: bool) -> None:
    answer, _ = await both_ways(
        door,
        token(door, "finance"),
        """query Q($id: ID!, $yes: Boolean!) { account(id: $id) {
          name
          tickets @include(if: $yes) { nodes { id } }
          ... on Account @skip(if: $yes) { openTicketCount }
        } }""",
        {"id": door.account_id(0), "yes": wanted},
    )

    assert told(answer) == [
        ("account.tickets", "Account.tickets")
        if wanted
        else ("account.openTicketCount", "Account.openTicketCount")
    ]


@pytest.mark.parametrize("type_", ["Ticket", "Invoice", "Document"])
async def test_node_and_nodes_are_closed_as_their_type_is_and_told_once(door: Door, type_: str) -> None:
    id_ = ids_of(door.world, 0)[type_]
    answer, calls = await both_ways(
        door,
        token(door, "partner"),
        "query Q($id: ID!, $ids: [ID!]!) { node(id: $id) { id } nodes(ids: $ids) { id __typename } }",
        {"id": id_, "ids": [id_] * 30},
    )

    assert answer.data == {"node": None, "nodes": [None] * 30}
    assert told(answer) == [("node", type_), ("nodes", type_)]
    assert calls == NO_CALLS


async def test_errors_say_what_is_taken_and_what_is_missing(door: Door) -> None:
    answer, _ = await both_ways(
        door, token(door, "partner"), "{ viewer { account { balances { openInvoices } links { source } } } }"
    )

    assert [
        (e["message"], e["extensions"]["requires"], e["extensions"]["missing"]) for e in answer.errors
    ] == [
        ("Account.balances needs invoices:read", [["invoices:read"]], [["invoices:read"]]),
        ("Account.links needs links:read", [["links:read"]], [["links:read"]]),
    ]


async def test_introspection_tells_everyone_the_same(door: Door) -> None:
    query = '{ __schema { types { name fields { name } } } __type(name: "Ticket") { fields { name } } }'
    answers = [
        await door.ask(None, query, token=door.issuer.token("owner-harbour", roles=roles))
        for roles in ([], ["partner"], ["owner"])
    ]

    assert answers[0].errors == []
    assert answers[0].body == answers[1].body == answers[2].body


@pytest.mark.parametrize("directive", ["@defer", "@stream(initialCount: 0)"])
async def test_incremental_delivery_is_refused_before_anything_is_read(door: Door, directive: str) -> None:
    field = "contacts { nodes { id } }"
    asked = (
        f"... {directive} {{ {field} }}"
        if directive == "@defer"
        else f"contacts {{ nodes {directive} {{ id }} }}"
    )
    answer = await door.ask(
        "owner-harbour",
        f"query Q($id: ID!) {{ account(id: $id) {{ name {asked} }} }}",
        {"id": door.account_id(0)},
    )

    assert "data" not in answer.body
    assert [e["message"] for e in answer.errors] == [f"Unknown directive '{directive.partition('(')[0]}'."]
    assert door.calls() == NO_CALLS


async def test_a_denied_mutation_is_not_executed(door: Door) -> None:
    answer = await door.ask(
        None,
        """mutation { inviteMember(input: { idempotencyKey: "denied", email: "a@b.example", roles: ["standard"] }) {
          invitation { id } userErrors { code } } }""",
        token=token(door, "read-only"),
    )

    assert answer.data == {"inviteMember": None}
    assert told(answer) == [("inviteMember", "Mutation.inviteMember")]
    seen = await door.ask(
        "owner-harbour", "{ viewer { organisation { invitations(last: 100) { nodes { email } } } } }"
    )
    assert "a@b.example" not in str(seen.body)


async def test_callers_of_different_scopes_share_a_plan_only_where_the_operation_treats_them_alike(
    door: Door,
) -> None:
    query = "query Shared { viewer { account { name tickets(first: 1) { nodes { id } } } } }"
    answers = {}
    for _ in range(3):
        for role in ("owner", "finance", "partner", "standard", "read-only"):
            answers[role] = await door.ask(None, query, token=token(door, role))
            account = answers[role].data["viewer"]["account"]
            assert (account["tickets"] is None) is (role in ("finance", "partner")), role
    kept = next(kept for text, kept in door.office.engine._kept.items() if text == query)

    assert kept.decides == {SIGNED_IN, "accounts:read", "tickets:read"}
    assert len(kept.plans) == 2


async def test_the_benchmarks_contenders_give_the_same_rows() -> None:
    await rules.measured(0, lambda _: None)


# -- restricted arguments ---------------------------------------------------------------------------------------------

SECRET = CustomField(
    "Account", "rating", "customer_tier", Scalar.STRING, "How good a customer it is.", scope="links:read"
)
FILTERED = [
    ('{ accounts(filter: {rating: ["gold"]}) { nodes { id } } }', {}),
    ("query($f: AccountFilter) { accounts(filter: $f) { nodes { id } } }", {"f": {"rating": ["gold"]}}),
    ("query($r: [String!]) { accounts(filter: {rating: $r}) { nodes { id } } }", {"r": ["gold"]}),
    ('query($r: String! = "gold") { accounts(filter: {rating: [$r]}) { nodes { id } } }', {}),
    ('query($f: AccountFilter = {rating: ["gold"]}) { accounts(filter: $f) { nodes { id } } }', {}),
    ('{ accounts(filter: {rating: "gold"}) { nodes { id } } }', {}),
]
UNFILTERED = [
    ("{ accounts(filter: {rating: null}) { nodes { id } } }", {}),
    ("{ accounts(filter: {}) { nodes { id } } }", {}),
    ("query($f: AccountFilter) { accounts(filter: $f) { nodes { id } } }", {"f": {"rating": None}}),
    ('query($f: AccountFilter = {rating: ["gold"]}) { accounts(filter: $f) { nodes { id } } }', {"f": {}}),
    ("query($r: [String!]) { accounts(filter: {rating: $r}) { nodes { id } } }", {}),
]


@pytest.fixture(scope="module")
async def rated(world: World, postgres: str) -> Any:
    """A gateway whose accounts have a field that only staff may read."""
    async with fresh_database(postgres) as url, open_door(world, url, own_fields=[SECRET]) as door:
        yield door


@pytest.mark.parametrize(("query", "variables"), FILTERED)
async def test_using_a_restricted_argument_takes_its_scope_however_it_is_given(
    rated: Door, query: str, variables: dict[str, Any]
) -> None:
    answer, calls = await both_ways(rated, token(rated, "owner"), query, variables)

    assert answer.data == {"accounts": None}
    assert told(answer) == [("accounts", "AccountFilter.rating")]
    assert answer.errors[0]["extensions"]["missing"] == [["links:read"]]
    assert calls == NO_CALLS


@pytest.mark.parametrize(("query", "variables"), UNFILTERED)
async def test_what_is_not_used_is_not_refused(rated: Door, query: str, variables: dict[str, Any]) -> None:
    answer, _ = await both_ways(rated, token(rated, "owner"), query, variables)

    assert answer.errors == []
    assert len(answer.data["accounts"]["nodes"]) == 1


@pytest.mark.parametrize(("query", "variables"), FILTERED)
async def test_who_holds_the_scope_filters(rated: Door, query: str, variables: dict[str, Any]) -> None:
    answer, _ = await both_ways(rated, rated.issuer.token("support"), query, variables)

    assert answer.errors == []
    assert answer.data["accounts"] is not None


async def test_one_caller_who_may_filter_opens_it_to_no_other(rated: Door) -> None:
    query = 'query Turns { accounts(filter: {rating: ["gold"]}) { nodes { id } } }'
    staff, owner = rated.issuer.token("support"), token(rated, "owner")
    for _ in range(3):
        assert (await rated.ask(None, query, token=staff)).errors == []
        assert told(await rated.ask(None, query, token=owner)) == [("accounts", "AccountFilter.rating")]


# -- who has not signed in ----------------------------------------------------------------------------------------------

SIGN_IN = "{ signIn { issuers { issuer name } signInUrl } }"


@pytest.mark.parametrize(
    "query", [SIGN_IN, "query Q { __typename ...F } fragment F on Query { signIn { __typename } }"]
)
async def test_what_is_public_needs_no_credentials(door: Door, query: str) -> None:
    for _ in range(3):
        answer = await door.ask(None, query)
        assert (answer.status, answer.errors) == (200, [])
    assert door.calls() == NO_CALLS


async def test_who_has_signed_in_reads_what_is_public_too(door: Door) -> None:
    assert (await door.ask("owner-harbour", SIGN_IN)).data == (await door.ask(None, SIGN_IN)).data


@pytest.mark.parametrize(
    "query",
    [
        "{ viewer { id } }",
        "{ __typename }",
        "{ signIn { signInUrl } viewer { id } }",
        "{ signIn { signInUrl } viewer @skip(if: true) { id } }",
        "{ signIn { signInUrl } ...F } fragment F on Query { accounts { nodes { id } } }",
        "{ signIn { signInUrl } __schema { types { name } } }",
        '{ signIn { signInUrl } node(id: "x") { id } }',
        "query A { signIn { signInUrl } } query B { viewer { id } }",
        'mutation { leaveOrganisation(input: {idempotencyKey: "x"}) { leftOrganisationId } }',
        "subscription { viewer { id } }",
        "{ signIn { nothing } }",
        "{ not graphql",
        "{ signIn { signInUrl } } #" + "x" * 2_000,
    ],
)
async def test_everything_else_takes_credentials_and_tells_nothing_more(door: Door, query: str) -> None:
    answer = await door.ask(None, query)

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.body == {
        "errors": [
            {
                "message": "a bearer token is needed: Authorization: Bearer <token>",
                "extensions": {"code": "UNAUTHENTICATED"},
            }
        ]
    }
    assert door.calls() == NO_CALLS


@pytest.mark.parametrize("sent", ["Bearer", "Bearer nonsense", "Basic eDp5", ""])
async def test_credentials_that_are_not_believed_open_nothing_public(door: Door, sent: str) -> None:
    answer = await door.ask(None, SIGN_IN, headers={"Authorization": sent})

    assert answer.status == 401


async def test_strangers_write_nothing_into_the_audit_trail_and_keep_no_documents(door: Door) -> None:
    before = await door.ask("owner-harbour", "{ auditLog(last: 1) { nodes { id } } }")
    for number in range(5):
        await door.ask(None, f"query Stranger{number} {SIGN_IN}")
    after = await door.ask("owner-harbour", "{ auditLog(last: 1) { nodes { name } } }")

    assert before.errors == after.errors == []
    assert "Stranger" not in str(after.body)
