"""Every field of every filter, alone and together, against the world's truth."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from resolvers.vocabulary import node_id
from sources.ports.common import Ref
from sources.sandbox.world import Account, Contact, Document, Invoice, Ticket, World
from tests.door import Door
from tests.resolvers.conftest import Caller, Callers

Fits = Callable[[Any, World], bool]
Case = tuple[dict[str, Any], Fits]

UTF8_AND_SIGNS = [
    "東雲 ß ñ 🙂",
    '"',
    "'",
    "\\",
    '" OR status:new',
    "x*",
    "a AND b",
    "((",
    "%",
    "-",
    "a:b",
    "<script>",
    "\u202e",
    'x") OR Type=="ACCPAY',
]
"""Texts that could mean something to a search language."""


async def found(caller: Caller, kind: str, account: str, given: dict[str, Any]) -> set[str]:
    """The ids of all rows of one account's list, by pages of 100."""
    name = f"{kind.lower()}s"
    query = f"""query Filtered($id: ID!, $filter: {kind}Filter, $after: String) {{
      account(id: $id) {{ {name}(first: 100, after: $after, filter: $filter) {{ nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }} }}
    }}"""
    ids: list[str] = []
    after = None
    while True:
        page = (await caller.ask(query, id=account, filter=given, after=after))["account"][name]
        ids += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            assert len(ids) == len(set(ids))
            return set(ids)
        after = page["pageInfo"]["endCursor"]


def some(wanted: set[str], of: int) -> None:
    """A filter that lets everything or nothing through would prove little."""
    assert 0 < len(wanted) < of


# -- invoices -------------------------------------------------------------------------------------------------------

STATUS = {"AUTHORISED": "OPEN", "PAID": "PAID", "VOIDED": "VOID", "DRAFT": "DRAFT", "SUBMITTED": "DRAFT"}
DAY = date(2026, 7, 1)

INVOICES: dict[str, Case] = {
    "one status": ({"status": ["OPEN"]}, lambda row, world: row.status == "AUTHORISED"),
    "two statuses": ({"status": ["PAID", "VOID"]}, lambda row, world: row.status in ("PAID", "VOIDED")),
    "a status twice": ({"status": ["VOID", "VOID"]}, lambda row, world: row.status == "VOIDED"),
    "due from": ({"due": {"from": str(DAY)}}, lambda row, world: row.due_date >= DAY),
    "due to": ({"due": {"to": str(DAY)}}, lambda row, world: row.due_date <= DAY),
    "issued between": (
        {"issued": {"from": "2026-01-01", "to": str(DAY)}},
        lambda row, world: date(2026, 1, 1) <= row.issue_date <= DAY,
    ),
    "overdue": (
        {"overdue": True},
        lambda row, world: row.status == "AUTHORISED" and row.due_date < world.today and row.amount_due > 0,
    ),
    "at least": ({"total": {"from": "1000"}}, lambda row, world: row.total >= 1000),
    "at most": ({"total": {"to": "999.99"}}, lambda row, world: row.total <= Decimal("999.99")),
    "between": (
        {"total": {"from": "500", "to": "2000.5"}},
        lambda row, world: 500 <= row.total <= Decimal("2000.5"),
    ),
    "all together": (
        {
            "status": ["PAID", "OPEN"],
            "due": {"from": "2026-01-01", "to": "2026-11-30"},
            "issued": {"to": "2026-10-01"},
            "total": {"from": "100"},
        },
        lambda row, world: (
            row.status in ("PAID", "AUTHORISED")
            and date(2026, 1, 1) <= row.due_date <= date(2026, 11, 30)
            and row.issue_date <= date(2026, 10, 1)
            and row.total >= 100
        ),
    ),
    "overdue and since when": (
        {"overdue": True, "due": {"to": "2026-10-15"}, "status": ["OPEN", "PAID"]},
        lambda row, world: (
            row.status == "AUTHORISED" and row.due_date <= date(2026, 10, 15) and row.amount_due > 0
        ),
    ),
}


def invoice_ids(rows: list[Invoice]) -> set[str]:
    return {node_id("Invoice", Ref("xero", row.id)) for row in rows}


@pytest.mark.parametrize(("given", "fits"), INVOICES.values(), ids=INVOICES)
@pytest.mark.parametrize("persona", ["owner-harbour", "admin"])
async def test_invoices(
    callers: Callers, door: Door, persona: str, given: dict[str, Any], fits: Fits
) -> None:
    seen = {"AUTHORISED", "PAID", "VOIDED"} | ({"DRAFT", "SUBMITTED"} if persona == "admin" else set())
    rows = [row for row in door.world.invoices_by_account[0] if row.status in seen]
    wanted = invoice_ids([row for row in rows if fits(row, door.world)])
    some(wanted, len(rows))

    assert await found(callers[persona], "Invoice", door.account_id(0), given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"overdue": False},
        {"overdue": None},
        {"status": None},
        {"due": None},
        {"due": {}},
        {"total": {"from": None}},
    ],
)
async def test_what_is_left_open_filters_no_invoice(owner: Caller, door: Door, given: dict[str, Any]) -> None:
    rows = [
        row for row in door.world.invoices_by_account[0] if row.status in ("AUTHORISED", "PAID", "VOIDED")
    ]

    assert await found(owner, "Invoice", door.account_id(0), given) == invoice_ids(rows)


@pytest.mark.parametrize(
    "given",
    [
        {"status": []},
        {"status": ["UNKNOWN"]},
        {"status": ["PAID"], "overdue": True},
        {"due": {"from": "2026-05-02", "to": "2026-05-01"}},
        {"issued": {"from": "9999-12-31"}},
        {"issued": {"to": "0001-01-01"}},
        {"total": {"from": "2", "to": "1"}},
        {"total": {"from": "999999999999999"}},
        {"total": {"to": "-1"}},
    ],
)
async def test_filters_that_no_invoice_fits_give_an_empty_page(
    owner: Caller, door: Door, given: dict[str, Any]
) -> None:
    assert await found(owner, "Invoice", door.account_id(0), given) == set()


async def test_drafts_are_for_staff(callers: Callers, door: Door) -> None:
    rows = [row for row in door.world.invoices_by_account[0] if STATUS.get(row.status) == "DRAFT"]

    assert (
        await found(callers["owner-harbour"], "Invoice", door.account_id(0), {"status": ["DRAFT"]}) == set()
    )
    assert await found(callers["admin"], "Invoice", door.account_id(0), {"status": ["DRAFT"]}) == invoice_ids(
        rows
    )


async def test_an_amount_that_no_invoice_can_have_is_refused(owner: Caller, door: Door) -> None:
    query = "query($f: InvoiceFilter) { viewer { account { invoices(filter: $f) { nodes { id } } } } }"

    ((_, code, message),) = await owner.refusals(query, f={"total": {"from": "1E+40"}})

    assert (code, message) == ("BAD_USER_INPUT", "xero: cannot filter by a number of this size")


# -- tickets --------------------------------------------------------------------------------------------------------

WORDS = {
    "new": "NEW",
    "open": "OPEN",
    "pending": "PENDING",
    "hold": "ON_HOLD",
    "solved": "SOLVED",
    "closed": "CLOSED",
}
SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)


def words_of(text: str) -> str:
    return " " + " ".join(text.lower().replace("-", " ").split()) + " "


TICKETS: dict[str, Case] = {
    "one status": ({"status": ["CLOSED"]}, lambda row, world: row.status == "closed"),
    "open ones": (
        {"status": ["NEW", "OPEN", "PENDING", "ON_HOLD"]},
        lambda row, world: row.status in ("new", "open", "pending", "hold"),
    ),
    "one priority": ({"priority": ["HIGH"]}, lambda row, world: row.priority == "high"),
    "two priorities": ({"priority": ["LOW", "URGENT"]}, lambda row, world: row.priority in ("low", "urgent")),
    "updated since": ({"updatedSince": SINCE.isoformat()}, lambda row, world: row.updated_at >= SINCE),
    "updated since, in another zone": (
        {"updatedSince": SINCE.astimezone(tz=None).isoformat()},
        lambda row, world: row.updated_at >= SINCE,
    ),
    "created since": ({"createdSince": "2026-03-01T12:00:00Z"}, lambda row, world: row.created_at >= SINCE),
    "text": ({"text": "gateway offline"}, lambda row, world: " gateway offline " in words_of(row.subject)),
    "all together": (
        {
            "status": ["SOLVED", "CLOSED", "OPEN"],
            "priority": ["NORMAL", "HIGH"],
            "createdSince": "2025-06-01T00:00:00Z",
            "updatedSince": "2025-07-01T00:00:00Z",
        },
        lambda row, world: (
            row.status in ("solved", "closed", "open")
            and row.priority in ("normal", "high")
            and row.created_at >= datetime(2025, 6, 1, tzinfo=UTC)
            and row.updated_at >= datetime(2025, 7, 1, tzinfo=UTC)
        ),
    ),
    "unknown beside a known one": (
        {"status": ["UNKNOWN", "CLOSED"], "priority": ["UNKNOWN", "HIGH"]},
        lambda row, world: row.status == "closed" and row.priority == "high",
    ),
}


def ticket_ids(rows: list[Ticket]) -> set[str]:
    return {node_id("Ticket", Ref("zendesk", str(row.id))) for row in rows}


@pytest.mark.parametrize(("given", "fits"), TICKETS.values(), ids=TICKETS)
async def test_tickets(owner: Caller, door: Door, given: dict[str, Any], fits: Fits) -> None:
    rows = door.world.tickets_by_account[0]
    wanted = ticket_ids([row for row in rows if fits(row, door.world)])
    some(wanted, len(rows))

    assert await found(owner, "Ticket", door.account_id(0), given) == wanted


async def test_a_ticket_that_changed_just_then_counts(owner: Caller, door: Door) -> None:
    row = door.world.tickets_by_account[0][3]

    then = await found(owner, "Ticket", door.account_id(0), {"updatedSince": row.updated_at.isoformat()})
    later = await found(
        owner,
        "Ticket",
        door.account_id(0),
        {"updatedSince": (row.updated_at + timedelta(milliseconds=1)).isoformat()},
    )

    assert then - later == ticket_ids([row])


@pytest.mark.parametrize(
    "given", [{}, {"status": None}, {"text": ""}, {"text": "  "}, {"createdSince": None}]
)
async def test_what_is_left_open_filters_no_ticket(owner: Caller, door: Door, given: dict[str, Any]) -> None:
    assert await found(owner, "Ticket", door.account_id(0), given) == ticket_ids(
        door.world.tickets_by_account[0]
    )


@pytest.mark.parametrize(
    "given",
    [
        {"status": []},
        {"priority": []},
        {"status": ["UNKNOWN"]},
        {"priority": ["UNKNOWN"]},
        {"createdSince": "2999-01-01T00:00:00Z"},
        {"text": "no such words anywhere"},
    ],
)
async def test_filters_that_no_ticket_fits_give_an_empty_page(
    owner: Caller, door: Door, given: dict[str, Any]
) -> None:
    assert await found(owner, "Ticket", door.account_id(0), given) == set()


# -- documents ------------------------------------------------------------------------------------------------------

DOCUMENTS: dict[str, Case] = {
    "one kind": ({"kind": ["CONTRACT"]}, lambda row, world: row.kind == "contracts"),
    "two kinds": ({"kind": ["GUIDE", "REPORT"]}, lambda row, world: row.kind in ("guides", "reports")),
    "a tag": ({"tags": ["signed"]}, lambda row, world: "signed" in row.tags),
    "text": ({"text": "INVOICE"}, lambda row, world: "invoice" in row.file_name.lower()),
    "text beyond ascii": ({"text": "FÜR GERÄTE"}, lambda row, world: "für geräte" in row.file_name.lower()),
    "all together": (
        {"kind": ["INVOICE", "STATEMENT"], "tags": ["2026"], "text": "o"},
        lambda row, world: (
            row.kind in ("invoices", "statements") and "2026" in row.tags and "o" in row.file_name.lower()
        ),
    ),
}


def document_ids(rows: list[Document]) -> set[str]:
    return {node_id("Document", Ref("s3", row.key)) for row in rows}


@pytest.mark.parametrize(("given", "fits"), DOCUMENTS.values(), ids=DOCUMENTS)
async def test_documents(owner: Caller, door: Door, given: dict[str, Any], fits: Fits) -> None:
    rows = door.world.documents_by_account[0]
    wanted = document_ids([row for row in rows if fits(row, door.world)])
    some(wanted, len(rows))

    assert await found(owner, "Document", door.account_id(0), given) == wanted


async def test_all_tags_must_be_there(owner: Caller, door: Door) -> None:
    row = next(row for row in door.world.documents_by_account[0] if len(row.tags) == 2)
    both = {"tags": list(reversed(row.tags))}

    assert await found(owner, "Document", door.account_id(0), both) == document_ids(
        [one for one in door.world.documents_by_account[0] if set(row.tags) <= set(one.tags)]
    )


@pytest.mark.parametrize("given", [{}, {"tags": []}, {"kind": None}, {"text": ""}])
async def test_what_is_left_open_filters_no_document(
    owner: Caller, door: Door, given: dict[str, Any]
) -> None:
    assert await found(owner, "Document", door.account_id(0), given) == document_ids(
        door.world.documents_by_account[0]
    )


@pytest.mark.parametrize(
    "given", [{"kind": []}, {"kind": ["OTHER"]}, {"tags": ["signed", "nothing"]}, {"text": "zzz"}]
)
async def test_filters_that_no_document_fits_give_an_empty_page(
    owner: Caller, door: Door, given: dict[str, Any]
) -> None:
    assert await found(owner, "Document", door.account_id(0), given) == set()


# -- contacts -------------------------------------------------------------------------------------------------------


async def test_contacts_by_a_part_of_name_or_address(admin: Caller, door: Door) -> None:
    people = [person for person in door.world.contacts_by_account[0] if not person.archived]

    def wanted(text: str) -> set[str]:
        part = text.casefold()
        return contact_ids([p for p in people if part in p.name.casefold() or part in p.email.casefold()])

    for text in (people[0].last_name.upper(), people[1].first_name[:3], people[2].email, people[0].name, "a"):
        found_here = await found(admin, "Contact", door.account_id(0), {"text": text})
        assert found_here == wanted(text) != set()
    assert await found(admin, "Contact", door.account_id(0), {"text": ""}) == contact_ids(people)


def contact_ids(rows: list[Contact]) -> set[str]:
    return {node_id("Contact", Ref("hubspot", row.hubspot_id)) for row in rows}


# -- accounts -------------------------------------------------------------------------------------------------------

CHANGED = datetime(2026, 9, 1, tzinfo=UTC)

ACCOUNTS: dict[str, Case] = {
    "country": ({"country": "DE"}, lambda row, world: row.country == "DE"),
    "updated since": ({"updatedSince": CHANGED.isoformat()}, lambda row, world: row.updated_at >= CHANGED),
    "a word": (
        {"text": "foods"},
        lambda row, world: any(word.startswith("foods") for word in re.findall(r"\w+", f"{row.crm_name} {row.domain}".lower())),
    ),
    "tier": ({"tier": ["GOLD"]}, lambda row, world: row.tier == "gold"),
    "two tiers": ({"tier": ["SILVER", "BRONZE"]}, lambda row, world: row.tier in ("silver", "bronze")),
    "renewal": (
        {"renewalDate": {"from": "2026-12-01", "to": "2027-03-31"}},
        lambda row, world: row.renewal_date is not None and date(2026, 12, 1) <= row.renewal_date <= date(2027, 3, 31),
    ),
    "renewal from": (
        {"renewalDate": {"from": "2027-01-01"}},
        lambda row, world: row.renewal_date is not None and row.renewal_date >= date(2027, 1, 1),
    ),
    "all together": (
        {"country": "GB", "tier": ["GOLD", "SILVER"], "renewalDate": {"to": "2027-06-30"}, "updatedSince": "2026-01-01T00:00:00Z"},
        lambda row, world: (
            row.country == "GB"
            and row.tier in ("gold", "silver")
            and row.renewal_date is not None
            and row.renewal_date <= date(2027, 6, 30)
            and row.updated_at >= datetime(2026, 1, 1, tzinfo=UTC)
        ),
    ),
}  # fmt: skip


async def accounts_found(caller: Caller, given: dict[str, Any]) -> set[str]:
    query = """query Filtered($filter: AccountFilter, $after: String) {
      accounts(first: 100, after: $after, filter: $filter) { nodes { id } pageInfo { hasNextPage endCursor } }
    }"""
    ids: set[str] = set()
    after = None
    while True:
        page = (await caller.ask(query, filter=given, after=after))["accounts"]
        ids |= {node["id"] for node in page["nodes"]}
        if not page["pageInfo"]["hasNextPage"]:
            return ids
        after = page["pageInfo"]["endCursor"]


def account_ids(rows: list[Account]) -> set[str]:
    return {node_id("Account", Ref("hubspot", row.hubspot_id)) for row in rows}


@pytest.mark.parametrize(("given", "fits"), ACCOUNTS.values(), ids=ACCOUNTS)
async def test_accounts_for_staff_and_for_customers(
    callers: Callers, door: Door, given: dict[str, Any], fits: Fits
) -> None:
    wanted = [row for row in door.world.accounts if fits(row, door.world)]
    some(account_ids(wanted), len(door.world.accounts))

    assert await accounts_found(callers["support"], given) == account_ids(wanted)
    # The CRM filters for staff; a customer's own are filtered here, by the same rules.
    for index, persona in enumerate(("owner-harbour", "owner-moeller")):
        own = [row for row in wanted if row.index == index]
        assert await accounts_found(callers[persona], given) == account_ids(own)


@pytest.mark.parametrize(
    "given",
    [
        {"country": "XX"},
        {"tier": []},
        {"tier": ["UNKNOWN"]},
        {"renewalDate": {"from": "2027-01-02", "to": "2027-01-01"}},
        {"text": "nobody is called this"},
        {"updatedSince": "2999-01-01T00:00:00Z"},
    ],
)
@pytest.mark.parametrize("persona", ["support", "owner-harbour"])
async def test_filters_that_no_account_fits_give_an_empty_page(
    callers: Callers, persona: str, given: dict[str, Any]
) -> None:
    assert await accounts_found(callers[persona], given) == set()


# -- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", UTF8_AND_SIGNS)
async def test_no_text_is_more_than_a_text(callers: Callers, door: Door, text: str) -> None:
    """It finds what holds it, or the answer says that it cannot be looked for; it never widens what is found."""
    query = """query Search($id: ID!, $text: String!) {
      account(id: $id) {
        contacts(filter: {text: $text}) { nodes { id } }
        tickets(filter: {text: $text}) { nodes { subject } }
        documents(filter: {text: $text, tags: [$text]}) { nodes { id } }
      }
      accounts(filter: {text: $text, country: $text}) { nodes { name } }
    }"""

    answer = await door.ask("support", query, {"id": door.account_id(0), "text": text})

    assert answer.status == 200
    assert {code for _, code in answer.codes()} <= {"BAD_USER_INPUT"}
    assert answer.data["accounts"] == {"nodes": []}
    account = answer.data["account"]
    assert account["documents"] == {"nodes": []}
    holding = [
        p for p in door.world.contacts_by_account[0] if not p.archived and text in f"{p.name} {p.email}"
    ]
    assert {node["id"] for node in account["contacts"]["nodes"]} == contact_ids(holding)
    for node in (account["tickets"] or {"nodes": []})["nodes"]:
        letters = "".join(character if character.isalnum() else " " for character in text.lower()).split()
        assert all(word in node["subject"].lower() for word in letters)


@pytest.mark.parametrize("text", UTF8_AND_SIGNS)
async def test_articles_are_looked_for_by_any_text(door: Door, text: str) -> None:
    answer = await door.ask(
        "owner-harbour", "query($t: String!) { searchArticles(text: $t) { nodes { title } } }", {"t": text}
    )

    assert answer.status == 200
    assert {code for _, code in answer.codes()} <= {"BAD_USER_INPUT"}


@pytest.mark.parametrize("text", ["", "   ", "\n"])
async def test_a_search_for_nothing_is_refused(owner: Caller, text: str) -> None:
    query = "query($t: String!) { searchArticles(text: $t) { nodes { title } } }"

    assert await owner.refusals(query, t=text) == [
        ("searchArticles", "BAD_USER_INPUT", "text must have at least one word")
    ]


async def test_articles_of_one_language(owner: Caller, door: Door) -> None:
    query = (
        'query($l: String) { searchArticles(text: "Was die", locale: $l, first: 50) { nodes { id locale } } }'
    )

    german = (await owner.ask(query, l="de"))["searchArticles"]["nodes"]
    refused = await owner.refusals(query, l="../de")

    assert {node["locale"] for node in german} <= {"de"}
    assert refused == [("searchArticles", "BAD_USER_INPUT", "zendesk: the locale must look like en-gb")]
