"""Xero's JSON as structs with the elements that are read, and the mapping of each to a record."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast

import msgspec

from sources.ports.common import CustomerRecord, CustomField, Money, Ref, Scalar
from sources.ports.custom import custom_value
from sources.ports.erp import (
    InvoiceCredit,
    InvoiceDetails,
    InvoiceLine,
    InvoicePayment,
    InvoiceRecord,
    InvoiceStatus,
)
from sources.ports.errors import UNREADABLE, SourceBadResponse
from sources.ports.later import Alone, Later
from sources.transport.rows import Pages, Rows

NAME = "xero"

SALE = "ACCREC"
DELETED = "DELETED"

STATUSES = {
    "DRAFT": InvoiceStatus.DRAFT,
    "SUBMITTED": InvoiceStatus.DRAFT,
    "AUTHORISED": InvoiceStatus.OPEN,
    "PAID": InvoiceStatus.PAID,
    "VOIDED": InvoiceStatus.VOID,
}

_NO_STATUS = InvoiceStatus.UNKNOWN
"""Taken from the enum once: looking a member up by its name is Python, for each invoice."""

_TAX_INCLUDED = {"Inclusive": True, "Exclusive": False, "NoTax": False}
_DATE = re.compile(r"/Date\((-?\d{1,15})(?:[+-]\d{4})?\)/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _element(name: str) -> str:
    """Xero's spelling: ``invoice_id`` is InvoiceID, ``updated_date_utc`` UpdatedDateUTC."""
    return "".join(part.upper() if part in ("id", "utc") else part.title() for part in name.split("_"))


class ContactPersonRow(msgspec.Struct, rename=_element, gc=False):
    email_address: str | None = None


class ContactRow(msgspec.Struct, rename=_element, gc=False):
    contact_id: str
    name: str | None = None
    contact_number: str | None = None
    account_number: str | None = None
    contact_status: str | None = None
    email_address: str | None = None
    contact_persons: list[ContactPersonRow] = []
    merged_to_contact_id: str | None = msgspec.field(default=None, name="MergedToContactID")


class InvoiceContactRow(msgspec.Struct, rename=_element, gc=False):
    contact_id: str


class LineRow(msgspec.Struct, rename=_element, gc=False):
    line_item_id: str | None = None
    description: str | None = None
    quantity: Decimal | None = None
    unit_amount: Decimal | None = None
    tax_amount: Decimal | None = None
    line_amount: Decimal | None = None
    item_code: str | None = None


class PaymentRow(msgspec.Struct, rename=_element, gc=False):
    payment_id: str
    date: str | None = None
    amount: Decimal | None = None
    reference: str | None = None
    status: str | None = None


class CreditNoteRow(msgspec.Struct, rename=_element, gc=False):
    credit_note_id: str
    credit_note_number: str | None = None
    date: str | None = None
    applied_amount: Decimal | None = None


class InvoiceRow(msgspec.Struct, rename=_element, kw_only=True, gc=False):
    """What lists show, in Xero's order: msgspec looks for the next element behind the last one it found."""

    type: str
    invoice_id: str
    invoice_number: str | None = None
    contact: InvoiceContactRow
    date: str | None = None
    due_date: str | None = None
    status: str | None = None
    total: Decimal | None = None
    currency_code: str | None = None


class DetailsRow(msgspec.Struct, rename=_element, kw_only=True, gc=False):
    """The rest of an invoice, and the currency of its lines."""

    invoice_id: str
    reference: str | None = None
    line_amount_types: str | None = None
    sub_total: Decimal | None = None
    total_tax: Decimal | None = None
    amount_due: Decimal | None = None
    amount_paid: Decimal | None = None
    amount_credited: Decimal | None = None
    currency_code: str | None = None
    updated_date_utc: str | None = None
    payments: tuple[PaymentRow, ...] = ()
    credit_notes: tuple[CreditNoteRow, ...] = ()
    line_items: tuple[LineRow, ...] = ()


class OwedRow(msgspec.Struct, rename=_element, kw_only=True, gc=False):
    """What a balance is made of."""

    invoice_id: str
    contact: InvoiceContactRow
    due_date: str | None = None
    currency_code: str | None = None
    amount_due: Decimal | None = None


class Pagination(msgspec.Struct, rename="camel"):
    page: int
    page_count: int
    item_count: int


class InvoicesAnswer(msgspec.Struct):
    """A page of invoices: without ``pagination`` it would be the unpaged form, which leaves lines out."""

    invoices: list[InvoiceRow] = msgspec.field(name="Invoices")
    pagination: Pagination


class OwedAnswer(msgspec.Struct):
    invoices: list[OwedRow] = msgspec.field(name="Invoices")
    pagination: Pagination


class ContactsAnswer(msgspec.Struct):
    contacts: list[ContactRow] = msgspec.field(name="Contacts")
    pagination: Pagination


class ConnectionRow(msgspec.Struct, rename="camel"):
    tenant_id: str
    tenant_name: str | None = None
    tenant_type: str | None = None


CONTACTS = Pages(ContactsAnswer, Rows("contacts", "customer", "contact_id"))
OWED = Pages(OwedAnswer, Rows("invoices", "invoice", "invoice_id"))


_NO_VALUES: dict[str, Any] = {}


class OwnFields:
    """The firm's own fields on Invoice: elements at the top of Xero's invoice, read in the same answer."""

    def __init__(self, fields: Sequence[CustomField]) -> None:
        known = {field.encode_name: field.name for field in msgspec.structs.fields(InvoiceRow)}
        added: list[tuple[str, Any, Any]] = []
        self._attributes: list[tuple[CustomField, str]] = []
        for field in fields:
            if field.type != "Invoice":
                raise ValueError(
                    f"{NAME}: a field of the firm's own can be on Invoice only, not on {field.type}"
                )
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]{0,63}", field.property):
                raise ValueError(
                    f"{NAME}: {field.name}: {field.property!r} is not the name of an invoice element"
                )
            if field.property not in known:
                known[field.property] = f"own_{len(added)}"
                default = msgspec.field(default=None, name=field.property)
                added.append((known[field.property], Any, default))
            self._attributes.append((field, known[field.property]))
        row = msgspec.defstruct("InvoiceRow", added, bases=(InvoiceRow,))
        answer = msgspec.defstruct(
            "InvoicesAnswer",
            [("invoices", list[row], msgspec.field(name="Invoices")), ("pagination", Pagination)],  # type: ignore[valid-type]
        )
        self.pages = cast(
            "Pages[InvoicesAnswer]",
            Pages(answer, Rows("invoices", "invoice", "invoice_id"), float_hook=Decimal),
        )

    @property
    def named(self) -> bool:
        """Has the firm any?"""
        return bool(self._attributes)

    def values(self, row: InvoiceRow) -> dict[str, Any]:
        """By property, of each scalar's Python type."""
        return {
            field.property: custom_value(field, _plain(field.scalar, getattr(row, attribute)))
            for field, attribute in self._attributes
        }


class Customers(dict[str, Ref]):
    """The Ref of each customer's id, made once for the many invoices of one."""

    def __missing__(self, contact_id: str) -> Ref:
        ref = self[contact_id] = Ref(NAME, contact_id)
        return ref


class PageDetails(Later[InvoiceDetails]):
    """Of the invoices of a page. The page's text is held until one of them is asked for."""

    __slots__ = ("_body", "_by_id")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._by_id: dict[str, Alone[InvoiceDetails]] | None = None

    def of(self, id_: str) -> InvoiceDetails:
        return self.alone(id_).value

    def alone(self, id_: str) -> Alone[InvoiceDetails]:
        if self._by_id is None:
            # What does not fit was told of when the page was read, and nobody asks for it.
            page, _ = _TEXTS.read(self._body, lambda kind, record_id: None)
            self._by_id = {row.invoice_id: Alone(_ENCODE(row), details) for row in page.invoices}
            self._body = b""
        return self._by_id[id_]


def _texts() -> Pages[Any]:
    """A page's details undecoded: each is read for itself, and what does not fit is nobody else's."""
    texts = [
        (
            field.name,
            msgspec.Raw | msgspec.UnsetType,
            msgspec.field(name=field.encode_name, default=msgspec.UNSET),
        )
        for field in msgspec.structs.fields(DetailsRow)
        if field.name != "invoice_id"
    ]
    text = msgspec.defstruct(
        "DetailsText", [("invoice_id", str, msgspec.field(name="InvoiceID")), *texts], gc=False
    )
    page = msgspec.defstruct("Texts", [("invoices", list[text], msgspec.field(name="Invoices"))])  # type: ignore[valid-type]
    return Pages(page, Rows("invoices", "invoice", "invoice_id"))


_TEXTS = _texts()
_ENCODE = msgspec.json.Encoder().encode
_DETAILS = msgspec.json.Decoder(DetailsRow)


def invoices(
    rows: Sequence[InvoiceRow], details: Later[InvoiceDetails], own: OwnFields, customers: Customers
) -> list[InvoiceRecord]:
    """In their order. Raises SourceBadResponse where a date of one of them is none."""
    values = own.values if own.named else None
    # In the record's order and without names, which takes half as long.
    return [
        InvoiceRecord(
            Ref(NAME, row.invoice_id),
            customers[row.contact.contact_id],
            row.invoice_number or None,
            STATUSES.get(row.status or "", _NO_STATUS),
            row.status,
            details,
            _DAYS[row.date],
            _DAYS[row.due_date],
            row.currency_code,
            row.total,
            values(row) if values else _NO_VALUES,
        )
        for row in rows
    ]


def details(text: bytes) -> InvoiceDetails:
    """Raises SourceBadResponse where any of them does not fit."""
    try:
        row = _DETAILS.decode(text)
    except UNREADABLE as error:
        # msgspec's message names the place and the type, never a value.
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "not valid JSON"
        raise SourceBadResponse(NAME, f"unexpected answer: {reason}") from error
    currency = row.currency_code
    return InvoiceDetails(
        row.reference or None,
        row.sub_total,
        row.total_tax,
        row.amount_due,
        row.amount_paid,
        row.amount_credited,
        _TAX_INCLUDED.get(row.line_amount_types or ""),
        instant(row.updated_date_utc),
        tuple([_line(line, currency) for line in row.line_items]),
        tuple([_payment(paid, currency) for paid in row.payments if paid.status != DELETED]),
        tuple([_credit(note, currency) for note in row.credit_notes]),
    )


def customer(row: ContactRow) -> CustomerRecord:
    addresses = [row.email_address, *(person.email_address for person in row.contact_persons)]
    domains = [
        address.rpartition("@")[2].strip().lower() for address in addresses if address and "@" in address
    ]
    return CustomerRecord(
        ref=Ref(NAME, row.contact_id),
        name=row.name or None,
        external_id=row.contact_number or None,
        number=row.account_number or None,
        domains=tuple(dict.fromkeys(filter(None, domains))),
        merged_into=Ref(NAME, row.merged_to_contact_id) if row.merged_to_contact_id else None,
        archived=row.contact_status not in (None, "ACTIVE"),
    )


@lru_cache(maxsize=4096)
def instant(text: str | None) -> datetime | None:
    """A true instant in UTC from ``/Date(1775037600123+0000)/``: the offset is decoration, the number counts."""
    if text is None:
        return None
    match = _DATE.fullmatch(text)
    if match is None:
        raise SourceBadResponse(NAME, "unexpected answer: a date that is not of the form /Date(...)/")
    try:
        return _EPOCH + timedelta(milliseconds=int(match[1]))
    except OverflowError as error:
        raise SourceBadResponse(NAME, "unexpected answer: a date outside the calendar") from error


class _Days(dict[str | None, date | None]):
    """The day of each text, made once for the many invoices of a day."""

    def __missing__(self, text: str | None) -> date | None:
        # Dates are the organisation's own calendar, written as midnight "UTC": take the date, never shift it by a zone.
        moment = instant(text)
        if len(self) >= _MOST_DAYS:
            self.clear()
        day = self[text] = moment.date() if moment else None
        return day


_MOST_DAYS = 4096
_DAYS = _Days()


def calendar_date(text: str | None) -> date | None:
    """Raises SourceBadResponse where it is none."""
    return _DAYS[text]


def _line(row: LineRow, currency: str | None) -> InvoiceLine:
    return InvoiceLine(
        row.line_item_id,
        currency,
        row.description or None,
        row.quantity,
        row.unit_amount,
        row.tax_amount,
        row.line_amount,
        row.item_code or None,
    )


def _payment(row: PaymentRow, currency: str | None) -> InvoicePayment:
    return InvoicePayment(
        id=row.payment_id,
        date=calendar_date(row.date),
        amount=Money.of(row.amount, currency),
        reference=row.reference or None,
    )


def _credit(row: CreditNoteRow, currency: str | None) -> InvoiceCredit:
    return InvoiceCredit(
        id=row.credit_note_id,
        number=row.credit_note_number or None,
        date=calendar_date(row.date),
        applied=Money.of(row.applied_amount, currency),
    )


def _plain(scalar: Scalar, raw: Any) -> Any:
    """What ``custom_value`` reads: dates as ISO text, no lists or objects."""
    if isinstance(raw, str) and _DATE.fullmatch(raw):
        moment = instant(raw) if scalar is Scalar.DATETIME else calendar_date(raw)
        return moment.isoformat() if moment else None
    if isinstance(raw, bool) and scalar in (Scalar.STRING, Scalar.ENUM):
        return str(raw).lower()
    return raw if isinstance(raw, str | bool | int | Decimal) else None
