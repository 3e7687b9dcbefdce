"""The portal's home page in one query: every field true to the world."""

from typing import Any

import pytest

from gateway.demo import ARTICLES, DASHBOARD, PORTAL_HOME, VIEWER
from sources.sandbox.world import INTERNAL_MARK
from tests.door import Door
from tests.resolvers.conftest import Caller, Callers


async def test_the_sample_home_query_shows_what_the_back_offices_hold(owner: Caller, door: Door) -> None:
    account = (await owner.ask(PORTAL_HOME, id=door.account_id(0)))["account"]

    world, truth = door.world, door.world.accounts[0]
    assert {name: account[name] for name in ("name", "number", "tier", "renewalDate", "address")} == {
        "name": truth.crm_name,
        "number": truth.account_number,
        "tier": "GOLD",
        "renewalDate": str(truth.renewal_date),
        "address": {"city": truth.city, "country": truth.country},
    }
    people = {
        (p.first_name, p.last_name, p.email, p.phone, p.job_title)
        for p in world.contacts_by_account[0]
        if not p.archived
    }
    assert {tuple(node.values()) for node in account["contacts"]["nodes"]} == people
    assert [len(account[name]["nodes"]) for name in ("contacts", "invoices", "tickets", "documents")] == [
        5,
        20,
        10,
        10,
    ]
    assert account["invoices"]["pageInfo"]["hasNextPage"]
    tickets = {str(row.id): row for row in world.tickets_by_account[0]}
    for node in account["tickets"]["nodes"]:
        row = tickets[node["number"]]
        assert (node["subject"], node["priority"]) == (row.subject, row.priority and row.priority.upper())
    for node in account["documents"]["nodes"]:
        assert node["content"]["url"].startswith("/files/")
    assert account["openTicketCount"] == sum(t.status not in ("solved", "closed") for t in tickets.values())


PROFILE = """query($id: ID!) { account(id: $id) {
  id name number domain website phone industry createdAt updatedAt
  address { street city postcode region country }
  contacts(first: 100) { nodes { firstName lastName email phone mobile jobTitle createdAt updatedAt } }
  documents(first: 100) { nodes { title fileName kind sourceKind tags mediaType size } }
} }"""

KINDS = {
    "contracts": "CONTRACT",
    "certificates": "CERTIFICATE",
    "guides": "GUIDE",
    "reports": "REPORT",
    "invoices": "INVOICE",
    "statements": "STATEMENT",
}


def moment(value: Any) -> str:
    return str(value.isoformat()).replace("+00:00", "Z")


@pytest.mark.parametrize("index", [0, 1, 3, 6, 8, 10])
async def test_a_profile_is_the_crms_and_documents_are_the_stores(
    admin: Caller, door: Door, index: int
) -> None:
    world, truth = door.world, door.world.accounts[index]

    account = (await admin.ask(PROFILE, id=door.account_id(index)))["account"]

    assert account == {
        "id": door.account_id(index),
        "name": truth.crm_name,
        "number": truth.account_number,
        "domain": truth.domain,
        "website": f"https://www.{truth.domain}",
        "phone": truth.phone,
        "industry": truth.industry,
        "createdAt": moment(truth.created_at),
        "updatedAt": moment(truth.updated_at),
        "address": {
            "street": truth.street,
            "city": truth.city,
            "postcode": truth.postcode,
            "region": None,
            "country": truth.country,
        },
        "contacts": {
            "nodes": [
                {
                    "firstName": p.first_name,
                    "lastName": p.last_name,
                    "email": p.email,
                    "phone": p.phone,
                    "mobile": p.mobile,
                    "jobTitle": p.job_title,
                    "createdAt": moment(p.created_at),
                    "updatedAt": moment(p.updated_at),
                }
                for p in sorted(world.contacts_by_account[index], key=lambda p: int(p.hubspot_id))
                if not p.archived
            ]
        },
        "documents": account["documents"],
    }
    assert sorted(account["documents"]["nodes"], key=lambda node: node["fileName"]) == [
        {
            "title": row.file_name.rpartition(".")[0],
            "fileName": row.file_name,
            "kind": KINDS[row.kind],
            "sourceKind": row.kind,
            "tags": list(row.tags),
            "mediaType": row.content_type,
            "size": len(row.versions[-1].content),
        }
        for row in sorted(world.documents_by_account[index], key=lambda row: row.file_name)
    ]


TALK = """query($id: ID!) { account(id: $id) { tickets(first: 100) { nodes {
  number subject status sourceStatus priority type tags createdAt updatedAt dueAt
  comments(first: 100) { nodes { body authorName createdAt internal attachments { id fileName mediaType size } } }
} } } }"""


@pytest.mark.parametrize("persona", ["owner-harbour", "support"])
async def test_tickets_and_what_was_said_on_them(callers: Callers, door: Door, persona: str) -> None:
    nodes = (await callers[persona].ask(TALK, id=door.account_id(0)))["account"]["tickets"]["nodes"]

    staff = persona == "support"
    tickets = {str(row.id): row for row in door.world.tickets_by_account[0]}
    assert {node["number"] for node in nodes} == set(tickets)
    for node in nodes:
        row = tickets[node["number"]]
        assert node == {
            "number": str(row.id),
            "subject": row.subject,
            "status": "ON_HOLD" if row.status == "hold" else row.status.upper(),
            "sourceStatus": row.status,
            "priority": row.priority and row.priority.upper(),
            "type": row.type,
            "tags": list(row.tags),
            "createdAt": moment(row.created_at),
            "updatedAt": moment(row.updated_at),
            "dueAt": row.due_at and moment(row.due_at),
            "comments": {
                "nodes": [
                    {
                        "body": said.body,
                        "authorName": said.author_name,
                        "createdAt": moment(said.created_at),
                        "internal": not said.public,
                        "attachments": [
                            {
                                "id": str(a.id),
                                "fileName": a.file_name,
                                "mediaType": a.content_type,
                                "size": a.size,
                            }
                            for a in said.attachments
                        ],
                    }
                    for said in row.comments
                    if said.public or staff
                ]
            },
        }
    assert (INTERNAL_MARK in str(nodes)) == staff


VERSIONS = """query($id: ID!) { account(id: $id) { documents(first: 100) { nodes {
  fileName versions { id current size content { url } }
} } } }"""


async def test_documents_list_all_their_versions_newest_first(owner: Caller, door: Door) -> None:
    nodes = (await owner.ask(VERSIONS, id=door.account_id(0)))["account"]["documents"]["nodes"]

    truth = {row.file_name: row for row in door.world.documents_by_account[0]}
    assert {node["fileName"] for node in nodes} == set(truth)
    assert max(len(row.versions) for row in truth.values()) > 1
    for node in nodes:
        versions = truth[node["fileName"]].versions
        assert [version["size"] for version in node["versions"]] == [
            len(v.content) for v in reversed(versions)
        ]
        assert [version["current"] for version in node["versions"]] == [True] + [False] * (len(versions) - 1)
        assert len({version["content"]["url"] for version in node["versions"]}) == len(versions)


@pytest.mark.parametrize(
    ("persona", "query", "variables"),
    [
        ("owner-harbour", VIEWER, {}),
        ("finance-harbour", VIEWER, {}),
        ("support", VIEWER, {}),
        ("owner-harbour", ARTICLES, {"text": "invoice"}),
    ],
)
async def test_the_other_samples_run_as_they_stand(
    callers: Callers, persona: str, query: str, variables: dict[str, Any]
) -> None:
    assert await callers[persona].ask(query, **variables)


async def test_the_sample_dashboard_runs_and_says_of_each_hole_why(door: Door) -> None:
    after = None
    for _ in range(4):
        answer = await door.ask("admin", DASHBOARD, {"after": after})
        accounts = answer.data["accounts"]
        holes = {
            f"accounts.nodes.{place}.{name}"
            for place, node in enumerate(accounts["nodes"])
            for name in ("invoices", "tickets")
            if node[name] is None
        }
        assert {path for path, _ in answer.codes()} == holes
        assert {code for _, code in answer.codes()} <= {"ACCOUNT_NOT_LINKED", "ACCOUNT_LINK_AMBIGUOUS"}
        after = accounts["pageInfo"]["endCursor"]


async def test_who_is_asking(callers: Callers, door: Door) -> None:
    query = "{ viewer { id name email roles scopes organisation { id name } organisations { id name } account { id } } }"

    owner = (await callers["owner-harbour"].ask(query))["viewer"]
    staff = (await callers["support"].ask(query))["viewer"]

    organisation = {"id": "harbour", "name": door.world.accounts[0].crm_name}
    assert (owner["roles"], owner["organisation"], owner["organisations"]) == (
        ["owner"],
        organisation,
        [organisation],
    )
    assert owner["account"] == {"id": door.account_id(0)}
    assert "accounts:all" not in owner["scopes"]
    assert (staff["roles"], staff["organisation"], staff["organisations"], staff["account"]) == (
        ["support"],
        None,
        [],
        None,
    )
    assert "accounts:all" in staff["scopes"]
