"""The invented company's ledger in Xero's JSON, each record with the typed values that a filter sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

import msgspec

from sources.sandbox.world import Account, CreditNote, Invoice, InvoiceLine, Payment, World
from sources.vendors.xero.sandbox_query import Values

_SPACE = UUID("6f1a1d7e-3a52-4b0c-9c55-6d1f6c7e2a10")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JSON = msgspec.json.Encoder(decimal_format="number")

ORGANISATION_ID = str(uuid5(_SPACE, "organisation"))
ORGANISATION_NAME = "Northquay Trading"
BRANDING = (str(uuid5(_SPACE, "branding/standard")), str(uuid5(_SPACE, "branding/export")))
BASE_CURRENCY = "GBP"

_RATES = {"EUR": "1.17", "USD": "1.27", "JPY": "191.5", "KWD": "0.391"}
_PEOPLE_SHOWN = 5

_AMOUNTS = ("SubTotal", "TotalTax", "Total")
_INVOICE_ELEMENTS = {
    **dict.fromkeys(
        ("Type", "InvoiceNumber", "Reference", "Status", "LineAmountTypes", "CurrencyCode", "Contact.Name"),
        "String",
    ),
    **dict.fromkeys(("InvoiceID", "BrandingThemeID", "Contact.ContactID"), "Guid"),
    **dict.fromkeys((*_AMOUNTS, "AmountDue", "AmountPaid", "AmountCredited", "CurrencyRate"), "Decimal"),
    **dict.fromkeys(("SentToContact", "HasAttachments"), "Boolean"),
    **dict.fromkeys(
        ("Date", "DueDate", "ExpectedPaymentDate", "PlannedPaymentDate", "FullyPaidOnDate", "UpdatedDateUTC"),
        "DateTime",
    ),
}
_CONTACT_ELEMENTS = {
    **dict.fromkeys(("Name", "ContactNumber", "AccountNumber", "ContactStatus", "EmailAddress"), "String"),
    **dict.fromkeys(("ContactID", "MergedToContactID"), "Guid"),
    **dict.fromkeys(("IsSupplier", "IsCustomer"), "Boolean"),
    "UpdatedDateUTC": "DateTime",
}
_CREDIT_NOTE_ELEMENTS = {
    **dict.fromkeys(("Type", "CreditNoteNumber", "Reference", "Status", "CurrencyCode"), "String"),
    **dict.fromkeys(("CreditNoteID", "Contact.ContactID"), "Guid"),
    **dict.fromkeys((*_AMOUNTS, "RemainingCredit"), "Decimal"),
    **dict.fromkeys(("Date", "UpdatedDateUTC"), "DateTime"),
}
_PAYMENT_ELEMENTS = {
    **dict.fromkeys(("Reference", "Status", "PaymentType"), "String"),
    **dict.fromkeys(("PaymentID", "Invoice.InvoiceID", "Invoice.Contact.ContactID"), "Guid"),
    "Amount": "Decimal",
    **dict.fromkeys(("Date", "UpdatedDateUTC"), "DateTime"),
}
_CURRENCY_ELEMENTS = {"Code": "String", "Description": "String"}


@dataclass(slots=True)
class Row:
    """A record: what filters see and its JSON, short (as in unpaged lists) or full, made when first asked for."""

    id: str
    values: Values
    contact_id: str
    _document: Callable[[bool, int], Mapping[str, Any]]
    _made: dict[tuple[bool, int], msgspec.Raw] = field(default_factory=dict)

    def json(self, full: bool, unit_places: int) -> msgspec.Raw:
        made = self._made.get((full, unit_places))
        if made is None:
            made = msgspec.Raw(_JSON.encode(self._document(full, unit_places)))
            self._made[full, unit_places] = made
        return made


@dataclass(frozen=True)
class Resource:
    """A kind of record. ``rows`` are in the order that Xero gives when none is asked for: oldest change first."""

    name: str
    type_name: str
    elements: Mapping[str, str]
    rows: Sequence[Row]
    number: str | None = None
    """The element that names a record in a path besides its id."""

    @cached_property
    def by_id(self) -> dict[str, Row]:
        return {row.id: row for row in self.rows}

    @cached_property
    def by_number(self) -> dict[str, Row]:
        return {row.values[self.number]: row for row in self.rows} if self.number else {}

    @cached_property
    def by_contact(self) -> dict[str, list[Row]]:
        grouped: dict[str, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.contact_id, []).append(row)
        return grouped


class Books:
    """Everything in the organisation, made when first asked for."""

    def __init__(self, world: World, contact_numbers: Mapping[int, str]) -> None:
        self._world = world
        self._numbers = contact_numbers
        self._suppliers = {bill.account for bill in world.bills}
        self._resources: dict[str, Resource] = {}

    def resource(self, name: str) -> Resource | None:
        """By the name in the path, in any case."""
        makers: dict[str, Callable[[], Resource]] = {
            "contacts": self._contacts,
            "invoices": self._invoices,
            "creditnotes": self._credit_notes,
            "payments": self._payments,
            "currencies": self._currencies,
            "organisation": self._organisation,
        }
        key = name.lower()
        if key not in self._resources and key in makers:
            self._resources[key] = makers[key]()
        return self._resources.get(key)

    def _contacts(self) -> Resource:
        rows: list[Row] = []
        for account in self._world.accounts:
            if account.xero_contact_id is None:
                continue
            rows.append(self._contact(account))
            for old in account.merged_xero_contacts:
                rows.append(
                    _row(
                        old.xero_contact_id,
                        {
                            "ContactID": old.xero_contact_id,
                            "ContactStatus": "ARCHIVED",
                            "Name": old.name,
                            "EmailAddress": old.email,
                            "MergedToContactID": account.xero_contact_id,
                            "IsSupplier": False,
                            "IsCustomer": False,
                        },
                        old.updated_at,
                        _CONTACT_ELEMENTS,
                        lambda full: {
                            "Addresses": [],
                            "Phones": [],
                            "ContactGroups": [],
                            "ContactPersons": [],
                        },
                    )
                )
        return Resource("Contacts", "Contact", _CONTACT_ELEMENTS, _oldest_first(rows))

    def _contact(self, account: Account) -> Row:
        scalars = {
            "ContactID": account.xero_contact_id,
            "ContactNumber": self._numbers.get(account.index),
            "AccountNumber": account.xero_account_number,
            "ContactStatus": "ACTIVE",
            "Name": account.erp_name,
            "EmailAddress": account.xero_email,
            "IsSupplier": account.index in self._suppliers,
            "IsCustomer": True,
        }

        def more(full: bool) -> dict[str, Any]:
            street = {
                "AddressType": "STREET",
                "AddressLine1": account.street,
                "City": account.city,
                "PostalCode": account.postcode,
                "Country": account.country,
            }
            people = [
                {
                    "FirstName": person.first_name,
                    "LastName": person.last_name,
                    "EmailAddress": person.email,
                    "IncludeInEmails": False,
                }
                for person in self._world.contacts_by_account[account.index]
                if not person.archived
            ]
            return {
                "Addresses": [street],
                "Phones": [{"PhoneType": "DEFAULT", "PhoneNumber": account.phone or ""}],
                "ContactGroups": [],
                "ContactPersons": people[:_PEOPLE_SHOWN] if full else [],
                "DefaultCurrency": account.currency,
                "HasAttachments": False,
                "HasValidationErrors": False,
            }

        return _row(str(account.xero_contact_id), scalars, account.updated_at, _CONTACT_ELEMENTS, more)

    def _invoices(self) -> Resource:
        rows = [self._invoice(invoice) for invoice in (*self._world.invoices, *self._world.bills)]
        return Resource("Invoices", "Invoice", _INVOICE_ELEMENTS, _oldest_first(rows), "InvoiceNumber")

    def _invoice(self, invoice: Invoice) -> Row:
        account = self._world.accounts[invoice.account]
        sale = invoice.type == "ACCREC"
        approved = invoice.status not in ("DRAFT", "SUBMITTED", "DELETED")
        # A quarter of the open ones carry the day on which the money is expected.
        promised: date | None = None
        if invoice.status == "AUTHORISED" and invoice.due_date and int(invoice.id[0], 16) % 4 == 0:
            promised = invoice.due_date + timedelta(days=7)
        settled = [paid.date for paid in invoice.payments] + [note.date for note in invoice.credit_notes]
        zero = Decimal(0)
        scalars = {
            "Type": invoice.type,
            "InvoiceID": invoice.id,
            "InvoiceNumber": invoice.number,
            "Reference": invoice.reference,
            "AmountDue": zero if invoice.status in ("VOIDED", "DELETED") else invoice.amount_due,
            "AmountPaid": invoice.amount_paid,
            "AmountCredited": invoice.amount_credited,
            "SentToContact": approved and int(invoice.id[1], 16) % 3 > 0,
            "CurrencyRate": Decimal(_RATES.get(invoice.currency, "1")),
            "HasAttachments": False,
            "BrandingThemeID": BRANDING[account.country != "GB"],
            "ExpectedPaymentDate": promised if sale else None,
            "PlannedPaymentDate": None if sale else promised,
            "FullyPaidOnDate": max(settled) if invoice.status == "PAID" and settled else None,
            "Date": invoice.issue_date,
            "DueDate": invoice.due_date,
            "Status": invoice.status,
            "LineAmountTypes": "Exclusive",
            "SubTotal": invoice.sub_total,
            "TotalTax": invoice.total_tax,
            "Total": invoice.total,
            "CurrencyCode": invoice.currency,
        }

        def document(full: bool, unit_places: int) -> dict[str, Any]:
            return {
                "HasErrors": False,
                "IsDiscounted": False,
                "Contact": _brief_contact(account),
                "Prepayments": [],
                "Overpayments": [],
                "Payments": [
                    {
                        "PaymentID": paid.id,
                        "Date": _json_date(paid.date),
                        "Amount": paid.amount,
                        "Reference": paid.reference,
                        "CurrencyRate": scalars["CurrencyRate"],
                        "HasAccount": False,
                        "HasValidationErrors": False,
                    }
                    for paid in invoice.payments
                ],
                "CreditNotes": [
                    {
                        "CreditNoteID": note.credit_note_id,
                        "CreditNoteNumber": note.number,
                        "ID": note.credit_note_id,
                        "HasErrors": False,
                        "AppliedAmount": note.amount,
                        "DateString": f"{note.date}T00:00:00",
                        "Date": _json_date(note.date),
                        "LineItems": [],
                    }
                    for note in invoice.credit_notes
                ],
                "LineItems": [_line(line, unit_places) for line in invoice.lines] if full else [],
            }

        return _row(
            invoice.id,
            scalars,
            invoice.updated_at,
            _INVOICE_ELEMENTS,
            document,
            contact=account,
        )

    def _credit_notes(self) -> Resource:
        rows = [self._credit_note(note) for note in self._world.credit_notes]
        return Resource(
            "CreditNotes", "CreditNote", _CREDIT_NOTE_ELEMENTS, _oldest_first(rows), "CreditNoteNumber"
        )

    def _credit_note(self, note: CreditNote) -> Row:
        account = self._world.accounts[note.account]
        scalars = {
            "CreditNoteID": note.id,
            "CreditNoteNumber": note.number,
            "Type": "ACCRECCREDIT",
            "Reference": note.reference,
            "RemainingCredit": note.remaining,
            "Date": note.date,
            "Status": note.status,
            "SubTotal": note.sub_total,
            "TotalTax": note.total_tax,
            "Total": note.total,
            "CurrencyCode": note.currency,
        }

        def document(full: bool, unit_places: int) -> dict[str, Any]:
            return {
                "ID": note.id,
                "CurrencyRate": Decimal(_RATES.get(note.currency, "1")),
                "HasAttachments": False,
                "Contact": _brief_contact(account),
                "LineAmountTypes": "Exclusive",
                "LineItems": [_line(line, unit_places) for line in note.lines] if full else [],
                "Payments": [],
                "Allocations": [
                    {
                        "Amount": part.amount,
                        "Date": _json_date(part.date),
                        "Invoice": {"InvoiceID": part.invoice_id, "InvoiceNumber": part.invoice_number},
                    }
                    for part in note.allocations
                ],
            }

        return _row(note.id, scalars, note.updated_at, _CREDIT_NOTE_ELEMENTS, document, contact=account)

    def _payments(self) -> Resource:
        rows = [
            self._payment(paid, invoice)
            for invoice in (*self._world.invoices, *self._world.bills)
            for paid in invoice.payments
        ]
        return Resource("Payments", "Payment", _PAYMENT_ELEMENTS, _oldest_first(rows))

    def _payment(self, paid: Payment, invoice: Invoice) -> Row:
        account = self._world.accounts[invoice.account]
        scalars = {
            "PaymentID": paid.id,
            "Date": paid.date,
            "Amount": paid.amount,
            "Reference": paid.reference,
            "PaymentType": f"{invoice.type}PAYMENT",
            "Status": "AUTHORISED",
        }

        def document(full: bool, unit_places: int) -> dict[str, Any]:
            brief = {
                "Type": invoice.type,
                "InvoiceID": invoice.id,
                "InvoiceNumber": invoice.number,
                "CurrencyCode": invoice.currency,
                "Contact": _brief_contact(account),
                "LineItems": [],
            }
            return {"Invoice": brief, "HasAccount": True, "IsReconciled": False}

        row = _row(paid.id, scalars, invoice.updated_at, _PAYMENT_ELEMENTS, document, contact=account)
        named = {"Invoice.InvoiceID": invoice.id, "Invoice.Contact.ContactID": account.xero_contact_id}
        row.values = {**row.values, **named}
        return row

    def _currencies(self) -> Resource:
        codes = sorted({BASE_CURRENCY, *(invoice.currency for invoice in self._world.invoices)})
        return Resource("Currencies", "Currency", _CURRENCY_ELEMENTS, [_currency(code) for code in codes])

    def _organisation(self) -> Resource:
        document = {
            "OrganisationID": ORGANISATION_ID,
            "Name": ORGANISATION_NAME,
            "LegalName": f"{ORGANISATION_NAME} Ltd",
            "PaysTax": True,
            "Version": "UK",
            "OrganisationType": "COMPANY",
            "BaseCurrency": BASE_CURRENCY,
            "CountryCode": "GB",
            "IsDemoCompany": False,
            "OrganisationStatus": "ACTIVE",
            "Timezone": "GMTSTANDARDTIME",
        }
        row = Row(ORGANISATION_ID, {}, "", lambda full, unit_places: document)
        return Resource("Organisations", "Organisation", {}, [row])


def _row(
    record_id: str,
    scalars: Mapping[str, Any],
    updated_at: datetime,
    elements: Mapping[str, str],
    more: Callable[..., Mapping[str, Any]],
    contact: Account | None = None,
) -> Row:
    """``scalars`` as Python values; what is None is left out of the JSON, as Xero does."""
    values = dict.fromkeys(elements) | {
        name: datetime(value.year, value.month, value.day) if isinstance(value, date) else value
        for name, value in scalars.items()
        if name in elements
    }
    values["UpdatedDateUTC"] = updated_at.astimezone(UTC).replace(tzinfo=None)
    if contact is not None:
        values |= {
            name: value
            for name, value in (
                ("Contact.ContactID", contact.xero_contact_id),
                ("Contact.Name", contact.erp_name),
            )
            if name in elements
        }

    def document(full: bool, unit_places: int) -> Mapping[str, Any]:
        shown: dict[str, Any] = {}
        for name, value in scalars.items():
            if isinstance(value, date):
                shown[name] = _json_date(value)
                if name in ("Date", "DueDate"):
                    shown[f"{name}String"] = f"{value}T00:00:00"
            elif value is not None:
                shown[name] = value
        shown["UpdatedDateUTC"] = _json_instant(updated_at)
        return {**shown, **(more(full) if contact is None else more(full, unit_places))}

    return Row(record_id, values, str(contact.xero_contact_id) if contact else record_id, document)


def _currency(code: str) -> Row:
    values = {"Code": code, "Description": code}
    return Row(code, values, "", lambda full, unit_places: values)


def _oldest_first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.values["UpdatedDateUTC"], row.id))


def _brief_contact(account: Account) -> dict[str, Any]:
    return {
        "ContactID": account.xero_contact_id,
        "Name": account.erp_name,
        "Addresses": [],
        "Phones": [],
        "ContactGroups": [],
        "ContactPersons": [],
        "HasValidationErrors": False,
    }


def _line(line: InvoiceLine, unit_places: int) -> dict[str, Any]:
    smallest = Decimal(1).scaleb(-unit_places)
    shown = {
        "LineItemID": line.id,
        "Description": line.description,
        "Quantity": line.quantity,
        "UnitAmount": line.unit_amount.quantize(smallest, ROUND_HALF_UP),
        "TaxType": line.tax_type,
        "TaxAmount": line.tax_amount,
        "LineAmount": line.line_amount,
        "AccountCode": line.account_code,
        "Tracking": [],
    }
    return shown if line.item_code is None else {**shown, "ItemCode": line.item_code}


def _json_date(day: date) -> str:
    return _json_instant(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _json_instant(moment: datetime) -> str:
    return f"/Date({(moment - _EPOCH) // timedelta(milliseconds=1)}+0000)/"
