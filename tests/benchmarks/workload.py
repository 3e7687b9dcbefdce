"""The three questions, as HTTP requests that rotate over accounts and pages."""

from datetime import UTC, datetime

import msgspec

from resolvers.vocabulary import cursor, node_id
from sources.ports.common import Direction, Key, Ref
from sources.ports.crm import AccountOrder
from sources.registry import REGISTRY
from sources.sandbox.facts import Account
from sources.sandbox.world import World

HOME = """query Home($id: ID!) {
  account(id: $id) {
    id number name industry address { city country } website createdAt
    contacts(first: 5) { nodes { id firstName lastName email phone jobTitle } }
    invoices(first: 20) { nodes { id number status issueDate dueDate total { amount currency } overdue } }
    tickets(first: 10) { nodes { id number subject status priority createdAt } }
    documents(first: 10) { nodes { id title kind size updatedAt } }
  }
}"""

DASHBOARD = """query Dashboard($after: String) {
  accounts(first: 50, after: $after) {
    nodes {
      id number name industry address { city country }
      invoices(first: 20) { nodes { id number status issueDate dueDate total { amount currency } overdue } }
      tickets(first: 10) { nodes { id number subject status priority createdAt } }
    }
  }
}"""

TINY = "query Tiny { viewer { account { name } } }"

SYSTEMS = [row for row in REGISTRY if row.vendor in ("hubspot", "s3", "xero", "zendesk")]
"""What the firm of the workload runs."""

PAGES = 50
"""Dashboards that are asked for: the first page, and those that begin behind each of the first 49 accounts."""


class Question(msgspec.Struct, frozen=True):
    """One of the queries. ``bodies`` are asked in turn; the one at ``i`` by the owner of account ``i``, or by staff."""

    name: str
    title: str
    leaves: int
    bodies: tuple[bytes, ...]
    staff: bool = False


def questions(world: World) -> tuple[Question, ...]:
    """Portal home, dashboard and tiny."""
    homes = [{"id": node_id("Account", _ref(account))} for account in world.accounts]
    pages = [{"after": None}, *({"after": _place(account)} for account in world.accounts[: PAGES - 1])]
    return (
        Question("P", "portal home", 308, tuple(_body("Home", HOME, one) for one in homes)),
        Question("D", "dashboard", 11_300, tuple(_body("Dashboard", DASHBOARD, one) for one in pages), True),
        Question("T", "tiny", 1, (_body("Tiny", TINY, {}),)),
    )


def leaves(value: object) -> int:
    """How many scalars a JSON value holds."""
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list) else 1


def _body(name: str, query: str, variables: dict[str, str] | dict[str, None]) -> bytes:
    return msgspec.json.encode({"query": query, "operationName": name, "variables": variables})


def _place(account: Account) -> str:
    milliseconds = round((account.created_at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    order = f"accounts:{AccountOrder.CREATED_AT.value}:{Direction.ASC.value}"
    return cursor(order, Key(f"{milliseconds:019d}", account.hubspot_id))


def _ref(account: Account) -> Ref:
    return Ref("hubspot", account.hubspot_id)
