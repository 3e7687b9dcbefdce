"""Invoices, what was paid and credited on them, and what is owed in all."""

from collections.abc import Sequence
from datetime import date as CalendarDate
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from permissions.directives import requires, reveals, scoped
from resolvers.by_column import by_column
from resolvers.context import Info
from resolvers.freshness import fresh
from resolvers.own_fields import conditions
from resolvers.vocabulary import (
    CurrencyCode,
    DateRange,
    DecimalRange,
    FileLink,
    Money,
    Node,
    OrderDirection,
    OwnFields,
    batched,
    described,
    identified,
    node_id,
    ordering,
    shown_from,
)
from sources.ports.common import Direction, Window
from sources.ports.common import Money as Amount
from sources.ports.erp import InvoiceOrder, InvoiceQuery, InvoiceRecord
from sources.ports.erp import InvoiceStatus as Status

if TYPE_CHECKING:
    from resolvers.account import Account

InvoiceStatus = described(
    Status,
    "Where an invoice stands. Overdue is not a status: it is OPEN with a due date in the past.",
    DRAFT="Not issued yet; staff only.",
    OPEN="Issued and not paid in full.",
    PAID="Nothing left to pay.",
    VOID="Cancelled.",
    UNKNOWN="The accounting system uses a word that the graph does not know; see sourceStatus.",
)
InvoiceOrderField = ordering(
    InvoiceOrder,
    "InvoiceOrderField",
    "Invoice",
    "What invoices may be ordered by; the accounting system does it.",
    ISSUE_DATE=("The day of issue.", ["issueDate"]),
    DUE_DATE=("The day by which it is to be paid.", ["dueDate"]),
    TOTAL=("The amount with tax, whatever its currency.", ["total"]),
)

_EVERY, _OPEN = tuple(Status), Status.OPEN
"""Made once: going through an enum is Python, and so is looking a member up by its name; a page of accounts asks for each
account's invoices."""
_OF_AN_INVOICE = [requires("invoices:read"), scoped(by="invoice")]


@strawberry.type(description="One line of an invoice.", directives=_OF_AN_INVOICE)
class InvoiceLine:
    description: str | None = strawberry.field(description="What was sold.")
    quantity: Decimal | None = strawberry.field(description="How much of it.")
    unit_price: Money | None = strawberry.field(
        description="Price of one, sometimes finer than the minor unit."
    )
    tax: Money | None = strawberry.field(description="Tax on this line.")
    amount: Money | None = strawberry.field(
        description="The line's amount; with tax or without as the invoice's amountsIncludeTax says."
    )
    item_code: str | None = strawberry.field(description="The accounting system's code of the item.")


@strawberry.type(description="Money received against an invoice.", directives=_OF_AN_INVOICE)
class InvoicePayment:
    id: strawberry.ID = strawberry.field(description="The accounting system's own id; not a node.")
    date: CalendarDate | None = strawberry.field(description="The day it was booked.")
    amount: Money | None = strawberry.field(description="How much.")
    reference: str | None = strawberry.field(description="What the payer or bookkeeper wrote.")


@strawberry.type(
    description="A credit note and the part of it that was applied to this invoice.",
    directives=_OF_AN_INVOICE,
)
class InvoiceCreditNote:
    id: strawberry.ID = strawberry.field(description="The accounting system's own id; not a node.")
    number: str | None = strawberry.field(description="The credit note's number.")
    date: CalendarDate | None = strawberry.field(description="The day of the credit note.")
    applied: Money | None = strawberry.field(description="How much of it went to this invoice.")


def _totals(records: Sequence[InvoiceRecord]) -> list[Any]:
    return Amount.of_many([record.total_value for record in records], [record.currency for record in records])


@by_column(_totals)
def _total(root: strawberry.Parent[Any]) -> Money | None:
    record: InvoiceRecord = root
    return record.total  # type: ignore[return-value]


def _all_overdue(records: Sequence[InvoiceRecord], info: Info) -> list[bool | None]:
    today = info.context.today
    return [
        None if record.due_date is None else record.status is _OPEN and record.due_date < today
        for record in records
    ]


@strawberry.type(
    description="A sales invoice, from the accounting system.",
    directives=[requires("invoices:read"), scoped(by="account"), fresh("Invoice")],
)
class Invoice(Node):
    id: strawberry.ID = identified("Invoice")
    number: str | None = strawberry.field(description="As printed on the invoice.")
    status: InvoiceStatus = strawberry.field(description="Where it stands.")  # type: ignore[valid-type]
    source_status: str | None = strawberry.field(
        description="The accounting system's own word for the status."
    )
    reference: str | None = strawberry.field(description="The customer's order number or the like.")
    issue_date: CalendarDate | None = strawberry.field(description="The day of issue.")
    due_date: CalendarDate | None = strawberry.field(description="The day by which it is to be paid.")
    currency: CurrencyCode | None = strawberry.field(description="The currency of all its amounts.")
    net: Money | None = strawberry.field(description="Without tax.")
    tax: Money | None = strawberry.field(description="Tax alone.")
    total: Money | None = strawberry.field(resolver=_total, description="With tax.")
    amount_due: Money | None = strawberry.field(description="Still to pay.")
    amount_paid: Money | None = strawberry.field(description="Paid so far.")
    amount_credited: Money | None = strawberry.field(description="Credited so far.")
    amounts_include_tax: bool | None = strawberry.field(description="Do the lines' amounts include tax?")
    updated_at: datetime | None = strawberry.field(description="When the accounting system last changed it.")
    lines: list[InvoiceLine] | None = strawberry.field(description="What was sold, in the invoice's order.")
    payments: list[InvoicePayment] | None = strawberry.field(description="Money received.")

    @strawberry.field(description="Credit notes applied to it.")
    def credit_notes(root: strawberry.Parent[Any]) -> list[InvoiceCreditNote] | None:
        record: InvoiceRecord = root
        return record.credits  # type: ignore[return-value]

    @strawberry.field(
        description="Is it open with a due date in the past, by the firm's calendar?",
        directives=[reveals("Invoice.status", "Invoice.dueDate")],
    )
    @by_column(_all_overdue)
    def overdue(root: strawberry.Parent[Any], info: Info) -> bool | None:
        record: InvoiceRecord = root
        if record.due_date is None:
            return None
        return record.status is _OPEN and record.due_date < info.context.today

    @strawberry.field(description="The invoice as the accounting system prints it.")
    def pdf(root: strawberry.Parent[Any], info: Info) -> FileLink | None:
        record: InvoiceRecord = root
        return info.context.file_link("invoice-pdf", node_id("Invoice", record.ref))  # type: ignore[return-value]

    @batched(
        description="The account that it was sent to; null where the link between the systems is not known."
    )
    def account(
        root: strawberry.Parent[Any], info: Info
    ) -> Annotated["Account", strawberry.lazy("resolvers.account")] | None:
        record: InvoiceRecord = root
        return info.context.owner(record.customer)  # type: ignore[return-value]

    is_type_of = shown_from(InvoiceRecord)


@strawberry.type(
    description="What an account owes in one currency, over all its open invoices.",
    directives=[requires("invoices:read"), scoped(by="account"), fresh("Balance")],
)
class Balance:
    outstanding: Money = strawberry.field(description="Still to pay.")
    overdue: Money = strawberry.field(description="The part of it whose due date has passed.")
    open_invoices: int = strawberry.field(description="How many invoices are open.")
    overdue_invoices: int = strawberry.field(description="How many of them are overdue.")


@strawberry.input(description="An ordering of invoices.")
class InvoiceOrdering:
    field: InvoiceOrderField = strawberry.field(description="By what.")  # type: ignore[valid-type]
    direction: OrderDirection = strawberry.field(  # type: ignore[valid-type]
        default=Direction.DESC, description="Which way.", directives=[reveals()]
    )


@strawberry.input(
    description="Which invoices; all that is given must hold. The accounting system does the filtering."
)
class InvoiceFilter:
    status: list[InvoiceStatus] | None = strawberry.field(  # type: ignore[valid-type]
        default=None,
        description="Any of these; an empty list fits nothing.",
        directives=[reveals("Invoice.status")],
    )
    due: DateRange | None = strawberry.field(
        default=None, description="The due date.", directives=[reveals("Invoice.dueDate")]
    )
    issued: DateRange | None = strawberry.field(
        default=None, description="The day of issue.", directives=[reveals("Invoice.issueDate")]
    )
    overdue: bool | None = strawberry.field(
        default=None,
        description="True: only open ones with a due date in the past. False says nothing.",
        directives=[reveals("Invoice.overdue")],
    )
    total: DecimalRange | None = strawberry.field(
        default=None,
        description="The amount with tax, whatever its currency.",
        directives=[reveals("Invoice.total")],
    )
    own_fields: OwnFields = strawberry.field(default=None, description="Replaced by the firm's own fields.")


def invoice_query(
    window: Window,
    filter: InvoiceFilter | None,
    order: InvoiceOrder,
    direction: Direction,
    today: CalendarDate,
) -> InvoiceQuery:
    """The port's question. Statuses that the caller may not see are taken out further down."""
    if filter is None:
        return InvoiceQuery(window, statuses=_EVERY, order=order, direction=direction)
    due, issued, total = (
        filter.due or DateRange(),
        filter.issued or DateRange(),
        filter.total or DecimalRange(),
    )
    return InvoiceQuery(
        window,
        statuses=_EVERY if filter.status is None else tuple(dict.fromkeys(filter.status)),
        due_from=due.from_,
        due_to=due.to,
        issued_from=issued.from_,
        issued_to=issued.to,
        overdue_on=today if filter.overdue else None,
        total_min=total.from_,
        total_max=total.to,
        conditions=conditions(filter.own_fields),
        order=order,
        direction=direction,
    )
