"""An accounting system: customers, their invoices and what they owe."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from sources.ports.common import (
    Condition,
    Content,
    Criterion,
    CustomerRecord,
    Direction,
    Money,
    Page,
    Probe,
    Ref,
    Window,
    Word,
)
from sources.ports.errors import SourceError
from sources.ports.later import Later


class InvoiceStatus(Word):
    """Where an invoice stands. Overdue is not a status: it is OPEN with a due date in the past."""

    DRAFT = "draft"
    OPEN = "open"
    PAID = "paid"
    VOID = "void"
    UNKNOWN = "unknown"


class InvoiceLine(msgspec.Struct, frozen=True, gc=False):
    """One line; values in the invoice's ``currency``. ``amount`` is quantity times unit price less discount, before or
    after tax as ``InvoiceRecord.amounts_include_tax`` says."""

    id: str | None
    currency: str | None = None
    description: str | None = None
    quantity: Decimal | None = None
    unit_price_value: Decimal | None = None
    tax_value: Decimal | None = None
    amount_value: Decimal | None = None
    item_code: str | None = None

    @property
    def unit_price(self) -> Money | None:
        """Of one."""
        return Money.of(self.unit_price_value, self.currency)

    @property
    def tax(self) -> Money | None:
        """On this line."""
        return Money.of(self.tax_value, self.currency)

    @property
    def amount(self) -> Money | None:
        """Of the line."""
        return Money.of(self.amount_value, self.currency)


class InvoicePayment(msgspec.Struct, frozen=True, gc=False):
    """Money received against an invoice."""

    id: str
    date: date | None
    amount: Money | None
    reference: str | None = None


class InvoiceCredit(msgspec.Struct, frozen=True, gc=False):
    """A credit note applied to an invoice, and how much of it."""

    id: str
    number: str | None
    date: date | None
    applied: Money | None


class InvoiceDetails(msgspec.Struct, frozen=True, gc=False):
    """What an invoice says beside what lists of invoices mostly show. Amounts are the vendor's numbers."""

    reference: str | None = None
    net_value: Decimal | None = None
    tax_value: Decimal | None = None
    due_value: Decimal | None = None
    paid_value: Decimal | None = None
    credited_value: Decimal | None = None
    amounts_include_tax: bool | None = None
    updated_at: datetime | None = None
    lines: tuple[InvoiceLine, ...] = ()
    payments: tuple[InvoicePayment, ...] = ()
    credits: tuple[InvoiceCredit, ...] = ()


class InvoiceRecord(msgspec.Struct, frozen=True, gc=False):
    """A sales invoice. ``customer`` is the accounting system's own customer.

    A dashboard shows a few fields of thousands of invoices: those are held, the others are read from the answer when they are
    asked for, and raise SourceBadResponse where the vendor sent what does not fit. Amounts become Money then.
    """

    ref: Ref
    customer: Ref
    number: str | None
    status: InvoiceStatus
    source_status: str | None
    """The vendor's own word."""
    details: Later[InvoiceDetails]
    issue_date: date | None = None
    due_date: date | None = None
    currency: str | None = None
    total_value: Decimal | None = None
    custom: dict[str, Any] = {}

    def alone(self) -> "InvoiceRecord":
        """The same, to be kept: it holds on to nothing of the answer that it came in."""
        return msgspec.structs.replace(self, details=self.details.alone(self.ref.id))

    @property
    def total(self) -> Money | None:
        """With tax."""
        return Money.of(self.total_value, self.currency)

    @property
    def net(self) -> Money | None:
        """Without tax."""
        return Money.of(self._details.net_value, self.currency)

    @property
    def tax(self) -> Money | None:
        """Tax alone."""
        return Money.of(self._details.tax_value, self.currency)

    @property
    def amount_due(self) -> Money | None:
        """Still to pay."""
        return Money.of(self._details.due_value, self.currency)

    @property
    def amount_paid(self) -> Money | None:
        """Paid so far."""
        return Money.of(self._details.paid_value, self.currency)

    @property
    def amount_credited(self) -> Money | None:
        """Credited so far."""
        return Money.of(self._details.credited_value, self.currency)

    @property
    def reference(self) -> str | None:
        """The customer's order number or the like."""
        return self._details.reference

    @property
    def amounts_include_tax(self) -> bool | None:
        """Are the lines' amounts with tax?"""
        return self._details.amounts_include_tax

    @property
    def updated_at(self) -> datetime | None:
        """When the vendor last changed it."""
        return self._details.updated_at

    @property
    def lines(self) -> tuple[InvoiceLine, ...]:
        """What was sold, in the vendor's order."""
        return self._details.lines

    @property
    def payments(self) -> tuple[InvoicePayment, ...]:
        """Money received."""
        return self._details.payments

    @property
    def credits(self) -> tuple[InvoiceCredit, ...]:
        """Credit notes applied."""
        return self._details.credits

    @property
    def _details(self) -> InvoiceDetails:
        return self.details.of(self.ref.id)


class InvoiceOrder(Word):
    """What invoices may be sorted by."""

    ISSUE_DATE = "issue_date"
    DUE_DATE = "due_date"
    TOTAL = "total"


class InvoiceQuery(msgspec.Struct, frozen=True):
    """Which invoices of each customer. All bounds are inclusive. Deleted documents and supplier bills never count."""

    window: Window
    statuses: tuple[InvoiceStatus, ...]
    """Any of these; never empty."""
    due_from: date | None = None
    due_to: date | None = None
    issued_from: date | None = None
    issued_to: date | None = None
    overdue_on: date | None = None
    """Only those OPEN, with something due, whose due date is before this day."""
    total_min: Decimal | None = None
    total_max: Decimal | None = None
    conditions: tuple[Condition, ...] = ()
    order: InvoiceOrder = InvoiceOrder.ISSUE_DATE
    direction: Direction = Direction.DESC


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What a customer owes in one currency."""

    outstanding: Money
    """The sum still to pay on open invoices."""
    overdue: Money
    """The part of it whose due date has passed."""
    open_invoices: int
    overdue_invoices: int


class Erp(Protocol):
    """The port. Batches answer in the order asked; N customers cost the vendor's minimum number of calls, and one very
    large customer neither starves the others nor is read to its end."""

    name: str

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]: ...

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]:
        """All customers that fit each value; archived and merged ones included, marked."""

    async def invoices(self, refs: Sequence[Ref]) -> Sequence[InvoiceRecord | None]:
        """None where there is no such sales invoice (a supplier bill or a deleted one is none either)."""

    async def invoices_of(
        self, customers: Sequence[Ref], query: InvoiceQuery
    ) -> Sequence[Page[InvoiceRecord] | SourceError]: ...

    async def balances_of(
        self, customers: Sequence[Ref], today: date
    ) -> Sequence[Sequence[Balance] | SourceError]:
        """Per customer one Balance per currency with open invoices, by currency code; none when nothing is open."""

    async def invoice_pdf(self, ref: Ref) -> Content | None:
        """The invoice as the accounting system prints it."""

    async def probe(self) -> Probe: ...

    async def close(self) -> None: ...
