"""Totals of an account, exact to the minor unit, and the amounts of its invoices."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from sources.sandbox.world import World
from tests.door import Door
from tests.resolvers.conftest import Caller, Callers

PLACES = {"JPY": 0, "KWD": 3}

TOTALS = """query Totals($after: String) {
  accounts(first: 100, after: $after) {
    nodes { id balances { outstanding { amount currency } overdue { amount currency } openInvoices overdueInvoices } openTicketCount }
    pageInfo { endCursor }
  }
}"""


def shown(amount: Decimal, currency: str) -> dict[str, str]:
    return {"amount": f"{amount:.{PLACES.get(currency, 2)}f}", "currency": currency}


def balances(world: World, account: int) -> list[dict[str, Any]]:
    """By currency, as a bookkeeper would add them up."""
    owed: dict[str, list[Any]] = defaultdict(list)
    for row in world.invoices_by_account[account]:
        if row.status == "AUTHORISED" and row.amount_due > 0:
            owed[row.currency].append(row)
    return [
        {
            "outstanding": shown(sum((row.amount_due for row in rows), Decimal(0)), currency),
            "overdue": shown(
                sum((row.amount_due for row in rows if row.due_date < world.today), Decimal(0)), currency
            ),
            "openInvoices": len(rows),
            "overdueInvoices": sum(row.due_date < world.today for row in rows),
        }
        for currency, rows in sorted(owed.items())
    ]


async def test_the_totals_of_every_account_that_is_linked_are_exact(door: Door) -> None:
    rows: list[dict[str, Any]] = []
    after = None
    for _ in range(2):
        answer = await door.ask("admin", TOTALS, {"after": after})
        assert {code for _, code in answer.codes()} <= {"ACCOUNT_NOT_LINKED", "ACCOUNT_LINK_AMBIGUOUS"}
        rows += answer.data["accounts"]["nodes"]
        after = answer.data["accounts"]["pageInfo"]["endCursor"]

    world = door.world
    by_id = {door.account_id(account.index): account for account in world.accounts}
    assert {row["id"] for row in rows} == set(by_id)
    ledger = [row for row in rows if row["balances"] is not None]
    helpdesk = [row for row in rows if row["openTicketCount"] is not None]
    assert len(ledger) > 150
    assert len(helpdesk) > 120
    for row in ledger:
        assert row["balances"] == balances(world, by_id[row["id"]].index)
    for row in helpdesk:
        tickets = world.tickets_by_zendesk_org.get(by_id[row["id"]].zendesk_org_id or 0, [])
        assert row["openTicketCount"] == sum(t.status in ("new", "open", "pending", "hold") for t in tickets)
    currencies = {total["outstanding"]["currency"] for row in ledger for total in row["balances"]}
    assert currencies == {"GBP", "EUR", "USD", "JPY", "KWD"}


async def test_both_customers_owe_in_two_currencies(callers: Callers, door: Door) -> None:
    query = "{ viewer { account { balances { outstanding { amount currency } overdue { amount currency } openInvoices overdueInvoices } } } }"

    for index, persona in enumerate(("owner-harbour", "owner-moeller")):
        account = (await callers[persona].ask(query))["viewer"]["account"]
        assert account["balances"] == balances(door.world, index)
        assert len(account["balances"]) == 2


INVOICES = """query($id: ID!, $after: String) { account(id: $id) { invoices(first: 100, after: $after) {
  nodes {
    number status sourceStatus overdue currency issueDate dueDate reference
    net { amount currency } tax { amount currency } total { amount currency }
    amountDue { amount currency } amountPaid { amount currency } amountCredited { amount currency }
    lines { description quantity unitPrice { amount currency } tax { amount } amount { amount } itemCode }
    payments { id date amount { amount currency } reference }
    creditNotes { id number date applied { amount currency } }
  }
} } }"""


@pytest.mark.parametrize("currency", ["GBP", "EUR", "JPY", "KWD", "USD"])
async def test_every_amount_of_an_invoice_is_the_ledgers(admin: Caller, door: Door, currency: str) -> None:
    world = door.world
    index = next(
        account.index
        for account in world.accounts
        if (account.declared_xero_id or account.index < 2)
        and account.index != 7
        and any(row.currency == currency and row.payments for row in world.invoices_by_account[account.index])
    )
    nodes = (await admin.ask(INVOICES, id=door.account_id(index)))["account"]["invoices"]["nodes"]
    mine = {node["number"]: node for node in nodes if node["currency"] == currency}
    truth = [
        row
        for row in world.invoices_by_account[index]
        if row.currency == currency and row.status != "DELETED"
    ]

    assert set(mine) == {row.number for row in truth}
    for row in truth:
        node = mine[row.number]
        due = (
            Decimal(0) if row.status == "VOIDED" else row.amount_due
        )  # nothing is owed on what was cancelled
        assert [
            node[name] for name in ("net", "tax", "total", "amountDue", "amountPaid", "amountCredited")
        ] == [
            shown(amount, currency)
            for amount in (
                row.sub_total,
                row.total_tax,
                row.total,
                due,
                row.amount_paid,
                row.amount_credited,
            )
        ]
        assert [
            (line["description"], Decimal(line["quantity"]), Decimal(line["unitPrice"]["amount"]), line["tax"]["amount"], line["amount"]["amount"], line["itemCode"])
            for line in node["lines"]
        ] == [
            (line.description, line.quantity, line.unit_amount, shown(line.tax_amount, currency)["amount"], shown(line.line_amount, currency)["amount"], line.item_code)
            for line in row.lines
        ]  # fmt: skip
        assert sorted((p["id"], p["date"], p["amount"]["amount"]) for p in node["payments"]) == sorted(
            (p.id, p.date.isoformat(), shown(p.amount, currency)["amount"]) for p in row.payments
        )
        assert sorted((c["number"], c["applied"]["amount"]) for c in node["creditNotes"]) == sorted(
            (c.number, shown(c.amount, currency)["amount"]) for c in row.credit_notes
        )
        assert node["overdue"] == (row.status == "AUTHORISED" and row.due_date < world.today)
        assert (node["issueDate"], node["dueDate"]) == (row.issue_date.isoformat(), row.due_date.isoformat())
        assert node["sourceStatus"] == row.status


async def test_amounts_are_text_and_never_in_exponents(door: Door) -> None:
    query = "query($id: ID!) { account(id: $id) { invoices(first: 100) { nodes { total { amount } lines { quantity unitPrice { amount } } } } } }"

    answer = await door.ask("admin", query, {"id": door.account_id(1)})

    texts = [
        value
        for node in answer.data["account"]["invoices"]["nodes"]
        for value in [
            node["total"]["amount"],
            *(v for line in node["lines"] for v in (line["quantity"], line["unitPrice"]["amount"])),
        ]
    ]
    assert texts
    assert all(isinstance(text, str) and text.lstrip("-").replace(".", "", 1).isdigit() for text in texts)
