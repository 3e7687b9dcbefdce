"""Every connection, in every ordering and both directions: its pages cover the list once and agree with the world."""

import base64
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from resolvers.vocabulary import node_id
from sources.ports.common import Ref
from sources.sandbox.world import Account, Contact, Document, Invoice, Ticket, World
from tests.door import Door
from tests.resolvers.conftest import Caller, Callers

UNISSUED = {"DRAFT", "SUBMITTED", "DELETED"}
PRIORITIES = [None, "low", "normal", "high", "urgent"]


@dataclass(frozen=True)
class Listing:
    """A connection of the graph, as one persona sees it."""

    name: str
    persona: str
    before: str
    """The query down to the connection's name; ``$id`` is there for it."""
    path: tuple[str, ...]
    order: str | None = None
    """The GraphQL name of the ordering's field."""
    filter: str = ""
    forwards_only: bool = False
    arguments: str = ""

    def query(self, direction: str | None) -> str:
        order = f"orderBy: {{field: {self.order}, direction: {direction}}}" if self.order else ""
        backward = "" if self.forwards_only else "last: $last, before: $before,"
        variables = "$first: Int, $after: String" + (
            "" if self.forwards_only else ", $last: Int, $before: String"
        )
        needs_id = ", $id: ID!" if "$id" in self.before else ""
        arguments = f"first: $first, after: $after, {backward} {order} {self.filter} {self.arguments}"
        return (
            f"query Page({variables}{needs_id}) {{ {self.before}({arguments}) {{ "
            "edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } "
            + "}" * (self.before.count("{") + 1)
            + " }"
        )


async def page_of(
    callers: Callers, listing: Listing, parent: str | None, direction: str | None, **window: Any
) -> dict[str, Any]:
    found: Any = await callers[listing.persona].ask(
        listing.query(direction), **({"id": parent} if "$id" in listing.before else {}), **window
    )
    for part in listing.path:
        found = found[part]
    return dict(found)


async def walked(
    callers: Callers, listing: Listing, parent: str | None, direction: str | None, size: int, backwards: bool
) -> list[str]:
    """The ids of all pages in the list's order; what each page says of itself is checked on the way."""
    ids: list[str] = []
    cursor: str | None = None
    for _ in range(2_000):
        window = {"last": size, "before": cursor} if backwards else {"first": size, "after": cursor}
        page = await page_of(callers, listing, parent, direction, **window)
        edges, info = page["edges"], page["pageInfo"]
        assert len(edges) <= size
        assert info["startCursor"] == (edges[0]["cursor"] if edges else None)
        assert info["endCursor"] == (edges[-1]["cursor"] if edges else None)
        here = [edge["node"]["id"] for edge in edges]
        ids = [*here, *ids] if backwards else [*ids, *here]
        towards, behind = (
            ("hasPreviousPage", "hasNextPage") if backwards else ("hasNextPage", "hasPreviousPage")
        )
        assert info[behind] == (cursor is not None)
        if not info[towards]:
            return ids
        assert len(edges) == size
        cursor = info["startCursor"] if backwards else info["endCursor"]
    raise AssertionError("the list does not end")


# -- the truth ------------------------------------------------------------------------------------------------------

Key = Callable[[Any], Any]


def _second(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


INVOICE_KEYS: dict[str, Key] = {
    "ISSUE_DATE": lambda row: (row.issue_date, row.id),
    "DUE_DATE": lambda row: (row.due_date, row.id),
    "TOTAL": lambda row: (row.total, row.id),
}
TICKET_KEYS: dict[str, Key] = {
    "CREATED_AT": lambda row: (_second(row.created_at), str(row.id)),
    "UPDATED_AT": lambda row: (_second(row.updated_at), str(row.id)),
    "PRIORITY": lambda row: (PRIORITIES.index(row.priority), _second(row.created_at), str(row.id)),
}
CONTACT_KEYS: dict[str, Key] = {
    "ADDED": lambda row: int(row.hubspot_id),
    "NAME": lambda row: (f"{row.last_name}\x1f{row.first_name}".casefold(), row.hubspot_id),
}
TITLE: Key = lambda row: (  # noqa: E731
    unicodedata.normalize("NFC", row.file_name.rpartition(".")[0]).casefold(),
    row.key,
)
ACCOUNT_KEYS: dict[str, Key] = {
    "CREATED_AT": lambda row: (int(row.created_at.timestamp() * 1000), row.hubspot_id),
    "UPDATED_AT": lambda row: (int(row.updated_at.timestamp() * 1000), row.hubspot_id),
}


def ids(kind: str, source: str, rows: Sequence[Any]) -> list[str]:
    """Their node ids."""
    names: dict[type, Callable[[Any], str]] = {
        Invoice: lambda row: row.id,
        Ticket: lambda row: str(row.id),
        Contact: lambda row: row.hubspot_id,
        Account: lambda row: row.hubspot_id,
        Document: lambda row: row.key,
    }
    return [node_id(kind, Ref(source, names[type(row)](row))) for row in rows]


def ordered(rows: Sequence[Any], key: Key, direction: str) -> list[Any]:
    return sorted(rows, key=key, reverse=direction == "DESC")


def issued(world: World, account: int) -> list[Invoice]:
    return [row for row in world.invoices_by_account[account] if row.status not in UNISSUED]


BOTH = pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
SIZES = pytest.mark.parametrize("size", [3, 7, 100])
WAYS = pytest.mark.parametrize("direction", ["ASC", "DESC"])


@SIZES
@WAYS
@BOTH
@pytest.mark.parametrize("order", INVOICE_KEYS)
async def test_invoices(
    callers: Callers, door: Door, order: str, direction: str, backwards: bool, size: int
) -> None:
    listing = Listing(
        "invoices", "owner-harbour", "account(id: $id) { invoices", ("account", "invoices"), order
    )

    found = await walked(callers, listing, door.account_id(0), direction, size, backwards)

    assert found == ids("Invoice", "xero", ordered(issued(door.world, 0), INVOICE_KEYS[order], direction))


@SIZES
@WAYS
@BOTH
@pytest.mark.parametrize("order", TICKET_KEYS)
async def test_tickets(
    callers: Callers, door: Door, order: str, direction: str, backwards: bool, size: int
) -> None:
    listing = Listing("tickets", "owner-harbour", "account(id: $id) { tickets", ("account", "tickets"), order)

    found = await walked(callers, listing, door.account_id(0), direction, size, backwards)

    rows = door.world.tickets_by_account[0]
    assert found == ids("Ticket", "zendesk", ordered(rows, TICKET_KEYS[order], direction))


@SIZES
@WAYS
@BOTH
@pytest.mark.parametrize("order", CONTACT_KEYS)
async def test_contacts(
    callers: Callers, door: Door, order: str, direction: str, backwards: bool, size: int
) -> None:
    listing = Listing(
        "contacts", "owner-harbour", "account(id: $id) { contacts", ("account", "contacts"), order
    )

    found = await walked(callers, listing, door.account_id(0), direction, size, backwards)

    there = [person for person in door.world.contacts_by_account[0] if not person.archived]
    assert found == ids("Contact", "hubspot", ordered(there, CONTACT_KEYS[order], direction))


@SIZES
@WAYS
@BOTH
async def test_documents_by_title(
    callers: Callers, door: Door, direction: str, backwards: bool, size: int
) -> None:
    listing = Listing(
        "documents", "owner-harbour", "account(id: $id) { documents", ("account", "documents"), "TITLE"
    )

    found = await walked(callers, listing, door.account_id(0), direction, size, backwards)

    assert found == ids("Document", "s3", ordered(door.world.documents_by_account[0], TITLE, direction))


@SIZES
@WAYS
@BOTH
async def test_documents_by_time(
    callers: Callers, door: Door, direction: str, backwards: bool, size: int
) -> None:
    listing = Listing(
        "d", "owner-harbour", "account(id: $id) { documents", ("account", "documents"), "UPDATED_AT"
    )

    found = await walked(callers, listing, door.account_id(0), direction, size, backwards)

    # The store says when it took each file in: the world does not know.
    stored = {
        node["id"]: node["updatedAt"]
        for node in (
            await callers["owner-harbour"].ask(
                "query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Document { updatedAt } } }", ids=found
            )
        )["nodes"]
    }
    assert sorted(found) == sorted(ids("Document", "s3", door.world.documents_by_account[0]))
    times = [stored[id] for id in found]
    assert times == sorted(times, reverse=direction == "DESC")


def _talk(ticket: Ticket, internal: bool) -> list[str]:
    said = sorted(ticket.comments, key=lambda comment: (_second(comment.created_at), str(comment.id)))
    return [f"{ticket.id}/{comment.id}" for comment in said if comment.public or internal]


@pytest.mark.parametrize("size", [1, 3, 100])
@BOTH
@pytest.mark.parametrize(("persona", "internal"), [("owner-harbour", False), ("support", True)])
async def test_comments(
    callers: Callers, door: Door, persona: str, internal: bool, backwards: bool, size: int
) -> None:
    listing = Listing("comments", persona, "ticket(id: $id) { comments", ("ticket", "comments"))
    longest = max(door.world.tickets_by_account[0], key=lambda ticket: len(ticket.comments))
    assert any(not comment.public for comment in longest.comments)

    (id,) = ids("Ticket", "zendesk", [longest])
    found = await walked(callers, listing, id, None, size, backwards)

    assert found == _talk(longest, internal)


SOME = ', filter: {country: "DE"}'


@pytest.mark.parametrize(
    ("size", "only", "countries"), [(3, SOME, {"DE"}), (7, SOME, {"DE"}), (100, "", None)]
)
@WAYS
@BOTH
@pytest.mark.parametrize("order", ACCOUNT_KEYS)
async def test_accounts_for_staff(
    callers: Callers,
    door: Door,
    order: str,
    direction: str,
    backwards: bool,
    size: int,
    only: str,
    countries: set[str] | None,
) -> None:
    listing = Listing("accounts", "support", "accounts", ("accounts",), order, only)

    found = await walked(callers, listing, None, direction, size, backwards)

    rows = [row for row in door.world.accounts if countries is None or row.country in countries]
    assert found == ids("Account", "hubspot", ordered(rows, ACCOUNT_KEYS[order], direction))


@pytest.mark.parametrize(
    ("size", "only", "countries"), [(3, SOME, {"DE"}), (7, SOME, {"DE"}), (100, "", None)]
)
@WAYS
@BOTH
async def test_accounts_by_name_in_the_crms_own_order(
    callers: Callers,
    door: Door,
    direction: str,
    backwards: bool,
    size: int,
    only: str,
    countries: set[str] | None,
) -> None:
    listing = Listing("accounts", "support", "accounts", ("accounts",), "NAME", only)

    found = await walked(callers, listing, None, direction, size, backwards)

    rows = [row for row in door.world.accounts if countries is None or row.country in countries]
    names = {id: row.crm_name.lower() for id, row in zip(ids("Account", "hubspot", rows), rows, strict=True)}
    assert sorted(found) == sorted(names)
    assert [names[id] for id in found] == sorted(names.values(), reverse=direction == "DESC")


@pytest.mark.parametrize("persona", ["support", "owner-harbour"])
@BOTH
async def test_the_viewers_accounts_are_those_they_see(
    callers: Callers, door: Door, persona: str, backwards: bool
) -> None:
    listing = Listing("viewer", persona, "viewer { accounts", ("viewer", "accounts"))

    found = await walked(callers, listing, None, None, 100, backwards)

    seen = door.world.accounts if persona == "support" else door.world.accounts[:1]
    assert found == ids("Account", "hubspot", ordered(seen, ACCOUNT_KEYS["CREATED_AT"], "ASC"))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_articles_are_read_forwards_and_drafts_never_given(
    callers: Callers, door: Door, size: int
) -> None:
    listing = Listing(
        "articles",
        "owner-harbour",
        "searchArticles",
        ("searchArticles",),
        forwards_only=True,
        arguments='text: "battery"',
    )

    found = await walked(callers, listing, None, None, size, False)

    known = {str(article.id): article for article in door.world.articles}
    assert len(set(found)) == len(found) > 1
    assert all(not known[id].draft for id in found)
    assert {
        id for id, article in known.items() if "battery" in article.title.lower() and not article.draft
    } <= set(found)


# -- the orders that nobody asked for -------------------------------------------------------------------------------


async def test_without_an_ordering_lists_come_as_their_descriptions_say(owner: Caller, door: Door) -> None:
    account = (
        await owner.ask(
            """query($id: ID!) { account(id: $id) {
              contacts { nodes { id } } invoices { nodes { id } } tickets { nodes { id } } documents(first: 100) { nodes { updatedAt } }
            } }""",
            id=door.account_id(0),
        )
    )["account"]

    world = door.world
    people = [person for person in world.contacts_by_account[0] if not person.archived]
    assert [node["id"] for node in account["contacts"]["nodes"]] == ids(
        "Contact", "hubspot", ordered(people, CONTACT_KEYS["ADDED"], "ASC")
    )
    assert [node["id"] for node in account["invoices"]["nodes"]] == ids(
        "Invoice", "xero", ordered(issued(world, 0), INVOICE_KEYS["ISSUE_DATE"], "DESC")
    )[:20]
    assert [node["id"] for node in account["tickets"]["nodes"]] == ids(
        "Ticket", "zendesk", ordered(world.tickets_by_account[0], TICKET_KEYS["CREATED_AT"], "DESC")
    )[:20]
    times = [node["updatedAt"] for node in account["documents"]["nodes"]]
    assert times == sorted(times, reverse=True)


# -- edges ----------------------------------------------------------------------------------------------------------

LISTS = [
    Listing("contacts", "owner-harbour", "account(id: $id) { contacts", ("account", "contacts")),
    Listing("invoices", "owner-harbour", "account(id: $id) { invoices", ("account", "invoices")),
    Listing("tickets", "owner-harbour", "account(id: $id) { tickets", ("account", "tickets")),
    Listing("documents", "owner-harbour", "account(id: $id) { documents", ("account", "documents")),
    Listing("accounts", "support", "accounts", ("accounts",)),
    Listing("names", "support", "accounts", ("accounts",), "NAME"),
]
EVERY = pytest.mark.parametrize("listing", LISTS, ids=lambda listing: listing.name)


@EVERY
async def test_a_page_of_nothing_has_no_cursors_but_knows_of_more(
    callers: Callers, door: Door, listing: Listing
) -> None:
    first = await page_of(callers, listing, door.account_id(0), "ASC", first=0)
    last = await page_of(callers, listing, door.account_id(0), "ASC", last=0)

    nothing = {"startCursor": None, "endCursor": None}
    assert first == {"edges": [], "pageInfo": {"hasNextPage": True, "hasPreviousPage": False, **nothing}}
    assert last == {"edges": [], "pageInfo": {"hasNextPage": False, "hasPreviousPage": True, **nothing}}


@EVERY
async def test_between_two_cursors_lies_what_lies_between(
    callers: Callers, door: Door, listing: Listing
) -> None:
    whole = (await page_of(callers, listing, door.account_id(0), "ASC", first=5))["edges"]
    assert len(whole) == 5
    marks = {"after": whole[0]["cursor"], "before": whole[4]["cursor"]}

    async def between(**window: Any) -> list[Any]:
        return list((await page_of(callers, listing, door.account_id(0), "ASC", **window))["edges"])

    assert await between(first=10, **marks) == whole[1:4]
    assert await between(last=10, **marks) == whole[1:4]
    assert await between(first=2, **marks) == whole[1:3]
    assert await between(last=2, **marks) == whole[2:4]
    assert await between(last=2, after=whole[1]["cursor"], before=whole[3]["cursor"]) == whole[2:3]
    assert await between(first=3, after=whole[4]["cursor"], before=whole[0]["cursor"]) == []


@EVERY
async def test_behind_the_last_there_is_nothing(callers: Callers, door: Door, listing: Listing) -> None:
    last = (await page_of(callers, listing, door.account_id(0), "ASC", last=1))["edges"][0]["cursor"]
    first = (await page_of(callers, listing, door.account_id(0), "ASC", first=1))["edges"][0]["cursor"]

    behind = await page_of(callers, listing, door.account_id(0), "ASC", first=3, after=last)
    ahead = await page_of(callers, listing, door.account_id(0), "ASC", last=3, before=first)

    nothing = {"startCursor": None, "endCursor": None}
    assert behind == {"edges": [], "pageInfo": {"hasNextPage": False, "hasPreviousPage": True, **nothing}}
    assert ahead == {"edges": [], "pageInfo": {"hasNextPage": True, "hasPreviousPage": False, **nothing}}


async def test_lists_without_rows_are_empty_pages(admin: Caller, door: Door) -> None:
    world = door.world
    bare = next(row.index for row in world.accounts if not world.documents_by_account[row.index])

    account = (
        await admin.ask(
            """query($id: ID!, $none: ContactFilter) { account(id: $id) {
              documents { edges { cursor } nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } }
              contacts(filter: $none) { edges { cursor } nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } }
            } }""",
            id=door.account_id(bare),
            none={"text": "nobody of this name"},
        )
    )["account"]

    nothing = {
        "edges": [],
        "nodes": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }
    assert account == {"documents": nothing, "contacts": nothing}


async def test_a_cursor_stays_good_for_another_page_size_and_another_accounts_list(
    admin: Caller, door: Door
) -> None:
    query = """query($id: ID!, $first: Int, $after: String) {
      account(id: $id) { invoices(first: $first, after: $after) { edges { cursor node { issueDate } } } }
    }"""
    mine = await admin.ask(query, id=door.account_id(0), first=5)
    edge = mine["account"]["invoices"]["edges"][4]

    other = await admin.ask(query, id=door.account_id(1), first=100, after=edge["cursor"])

    dates = [edge["node"]["issueDate"] for edge in other["account"]["invoices"]["edges"]]
    later = [
        str(row.issue_date)
        for row in door.world.invoices_by_account[1]
        if str(row.issue_date) < edge["node"]["issueDate"]
    ]
    assert set(later) <= set(dates)
    assert all(day <= edge["node"]["issueDate"] for day in dates)


# -- arguments that cannot be used ----------------------------------------------------------------------------------

ALL_LISTS = [
    *LISTS,
    Listing("viewer", "owner-harbour", "viewer { accounts", ("viewer", "accounts")),
    Listing("comments", "owner-harbour", "ticket(id: $id) { comments", ("ticket", "comments")),
    Listing(
        "articles",
        "owner-harbour",
        "searchArticles",
        ("searchArticles",),
        forwards_only=True,
        arguments='text: "battery"',
    ),
]
WHEREVER = pytest.mark.parametrize("listing", ALL_LISTS, ids=lambda listing: listing.name)


async def refused(
    callers: Callers, door: Door, listing: Listing, direction: str = "ASC", **window: Any
) -> str:
    """The message of the one error, which must be at the connection's own place."""
    id = (
        ids("Ticket", "zendesk", door.world.tickets_by_account[0][:1])[0]
        if listing.name == "comments"
        else door.account_id(0)
    )
    ((path, code, message),) = await callers[listing.persona].refusals(
        listing.query(direction), **({"id": id} if "$id" in listing.before else {}), **window
    )
    assert (path, code) == (".".join(listing.path), "BAD_USER_INPUT")
    return message


SIZES_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"first": -1}, "first must be from 0 to 100"),
    ({"first": 101}, "first must be from 0 to 100"),
    ({"last": -1}, "last must be from 0 to 100"),
    ({"last": 2_000_000_000}, "last must be from 0 to 100"),
    ({"first": 1, "last": 1}, "give first or last, not both"),
]


@WHEREVER
async def test_page_sizes_that_cannot_be(callers: Callers, door: Door, listing: Listing) -> None:
    asked = [pair for pair in SIZES_REFUSED if not (listing.forwards_only and "last" in pair[0])]

    messages = [await refused(callers, door, listing, **window) for window, _ in asked]

    assert messages == [message for _, message in asked]


def forged(order: str, *key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, key]).encode()).decode().rstrip("=")


NO_CURSORS = {
    "empty": "",
    "garbage": "garbage",
    "emoji": "🙂",
    "signs": "!!!!",
    "null": "bnVsbA",
    "object": "e30",
    "no key": forged("invoices:issue_date:asc"),
    "oversized": "A" * 100_000,
    "oversized key": forged("x", "y" * 9_000, "z"),
}


@WHEREVER
@pytest.mark.parametrize("cursor", NO_CURSORS.values(), ids=NO_CURSORS)
async def test_what_is_no_cursor(callers: Callers, door: Door, listing: Listing, cursor: str) -> None:
    after = await refused(callers, door, listing, first=1, after=cursor)

    assert after == "after is not a cursor of this graph"
    if not listing.forwards_only:
        before = await refused(callers, door, listing, last=1, before=cursor)
        assert before == "before is not a cursor of this graph"


@EVERY
async def test_a_cursor_of_another_list_or_ordering(callers: Callers, door: Door, listing: Listing) -> None:
    other = {"accounts": "invoices", "names": "contacts"}.get(listing.name, "accounts")

    message = await refused(callers, door, listing, first=1, after=forged(f"{other}:name:asc", "a", "1"))

    assert message == "after is a cursor of another ordering; start again without it"


async def test_a_cursor_of_the_other_direction(callers: Callers, door: Door) -> None:
    listing = Listing(
        "invoices", "owner-harbour", "account(id: $id) { invoices", ("account", "invoices"), "TOTAL"
    )
    page = await page_of(callers, listing, door.account_id(0), "ASC", first=1)

    message = await refused(callers, door, listing, "DESC", first=1, after=page["pageInfo"]["endCursor"])

    assert message == "after is a cursor of another ordering; start again without it"


@pytest.mark.parametrize(
    ("connection", "order"),
    [
        ("invoices", "ISSUE_DATE"),
        ("invoices", "TOTAL"),
        ("tickets", "CREATED_AT"),
        ("tickets", "PRIORITY"),
        ("contacts", "ADDED"),
        ("accounts", "CREATED_AT"),
    ],
)
@pytest.mark.parametrize(
    "value", ['2026-01-01") OR (Type=="ACCPAY', "0 OR 1=1", "created>2020", "٣", "9" * 400]
)
async def test_a_forged_place_is_refused_or_harmless(
    callers: Callers, door: Door, connection: str, order: str, value: str
) -> None:
    if connection == "accounts":
        listing = Listing("a", "support", "accounts", ("accounts",), order)
    else:
        listing = Listing(
            "a", "owner-harbour", f"account(id: $id) {{ {connection}", ("account", connection), order
        )
    cursor = forged(f"{connection}:{order.lower()}:asc", value, value)

    message = await refused(callers, door, listing, first=1, after=cursor)

    assert "cursor" in message
    assert value not in message


@pytest.mark.parametrize("value", ["", "x", "2", "9" * 30, "-1", "٣"])
async def test_a_forged_place_among_articles(callers: Callers, door: Door, value: str) -> None:
    listing = next(one for one in ALL_LISTS if one.name == "articles")
    cursor = forged("articles", value, "1")

    if value == "2":
        assert (await page_of(callers, listing, None, None, first=1, after=cursor))["edges"]
    else:
        assert "cursor" in await refused(callers, door, listing, first=1, after=cursor)
