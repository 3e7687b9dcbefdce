"""The three questions over the plain graph; account ids and offsets rotate."""

from typing import Any

import msgspec

from tests.benchmarks.workload import Question

HOME = """query PortalHome($id: ID!) {
  account(id: $id) {
    id number name segment city country creditLimit createdAt
    contacts { id firstName lastName email phone role }
    invoices { id number status issueDate dueDate currency grossTotal paid }
    tickets { id number subject status priority openedAt }
    documents { id title kind sizeBytes createdAt }
  }
}"""

DASHBOARD = """query Dashboard($offset: Int!) {
  accounts(first: 50, offset: $offset) {
    id number name segment city country
    invoices { id number status issueDate dueDate currency grossTotal paid }
    tickets { id number subject status priority openedAt }
  }
}"""

TINY = "query Tiny { viewer { account { name } } }"


def questions() -> tuple[Question, ...]:
    """Portal home, dashboard and tiny, all asked by one person."""
    homes = tuple(_body("PortalHome", HOME, {"id": str(number)}) for number in range(1, 101))
    pages = tuple(_body("Dashboard", DASHBOARD, {"offset": offset}) for offset in range(50))
    return (
        Question("P", "portal home", 308, homes, True),
        Question("D", "dashboard", 11_300, pages, True),
        Question("T", "tiny", 1, (_body("Tiny", TINY, {}),), True),
    )


def _body(name: str, query: str, variables: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"query": query, "operationName": name, "variables": variables})
