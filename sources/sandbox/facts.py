"""The records of the invented company: vendor-neutral truth, plus the id each system knows it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sources.sandbox.papers import attachment_content

REGION_FIELD_ID = 360001
"""The helpdesk's custom ticket field that holds the customer's region: emea, amer or apac."""

INTERNAL_MARK = "INTERNAL"
"""In the body of every internal note and of nothing else, so that a leak can be searched for."""


@dataclass(frozen=True, slots=True)
class MergedXeroContact:
    """An ARCHIVED contact whose MergedToContactID is its account's xero_contact_id."""

    xero_contact_id: str
    name: str
    email: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DuplicateOrganisation:
    """A second helpdesk organisation for the customer: same domain, no external id, some of its tickets."""

    zendesk_org_id: int
    account: int
    name: str
    domains: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    index: int
    account_number: str
    crm_name: str
    erp_name: str
    helpdesk_name: str
    domain: str
    """Shared by two accounts where they are subsidiaries of one group."""
    phone: str | None
    city: str
    country: str
    street: str
    postcode: str
    industry: str
    currency: str
    """What it is usually billed in; some accounts have invoices in a second currency too."""
    tier: str
    renewal_date: date | None
    created_at: datetime
    updated_at: datetime
    hubspot_id: str
    """Digits, of differing length: their order as text is not their order as numbers."""
    xero_contact_id: str | None
    zendesk_org_id: int | None
    s3_prefix: str
    declared_xero_id: str | None
    """What the CRM property says. Account 7's is out of date: it names the contact that was merged away."""
    xero_account_number: str | None
    xero_email: str | None
    zendesk_external_id: str | None
    zendesk_domains: tuple[str, ...]
    merged_hubspot_ids: tuple[str, ...]
    """Merged-away CRM ids that still answer, with this account."""
    merged_xero_contacts: tuple[MergedXeroContact, ...]


@dataclass(frozen=True, slots=True)
class Contact:
    hubspot_id: str
    account: int
    first_name: str
    last_name: str
    email: str
    phone: str | None
    mobile: str | None
    job_title: str | None
    archived: bool
    created_at: datetime
    updated_at: datetime
    zendesk_user_id: int | None

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    id: str
    description: str
    quantity: Decimal
    unit_amount: Decimal
    tax_amount: Decimal
    line_amount: Decimal
    """Without tax."""
    account_code: str
    tax_type: str
    item_code: str | None


@dataclass(frozen=True, slots=True)
class Payment:
    id: str
    date: date
    amount: Decimal
    reference: str


@dataclass(frozen=True, slots=True)
class AppliedCredit:
    credit_note_id: str
    number: str
    date: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Invoice:
    """Exact in minor units; amount_due is total less paid less credited, whatever the status."""

    id: str
    type: str
    """ACCREC, or ACCPAY for a supplier's bill."""
    number: str
    account: int
    reference: str
    issue_date: date
    due_date: date
    status: str
    currency: str
    lines: tuple[InvoiceLine, ...]
    sub_total: Decimal
    total_tax: Decimal
    total: Decimal
    amount_due: Decimal
    amount_paid: Decimal
    amount_credited: Decimal
    payments: tuple[Payment, ...]
    credit_notes: tuple[AppliedCredit, ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Allocation:
    invoice_id: str
    invoice_number: str
    date: date
    amount: Decimal


@dataclass(frozen=True, slots=True)
class CreditNote:
    id: str
    number: str
    account: int
    reference: str
    date: date
    status: str
    """PAID once nothing remains, AUTHORISED before."""
    currency: str
    lines: tuple[InvoiceLine, ...]
    sub_total: Decimal
    total_tax: Decimal
    total: Decimal
    remaining: Decimal
    allocations: tuple[Allocation, ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Attachment:
    id: int
    file_name: str
    content_type: str
    size: int

    @property
    def content(self) -> bytes:
        """The same bytes every time; exactly `size` of them."""
        return attachment_content(self.id, self.file_name, self.content_type)


@dataclass(frozen=True, slots=True)
class Comment:
    id: int
    author_id: int
    """A helpdesk user id: a contact's or an agent's."""
    author_name: str
    by_agent: bool
    body: str
    public: bool
    created_at: datetime
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class Ticket:
    id: int
    """Above 2^53 for a few, where a client that reads numbers as floats goes wrong."""
    account: int
    zendesk_org_id: int
    requester: Contact
    assignee: Agent | None
    subject: str
    description: str
    """The body of the first comment, even where that one is internal, as the helpdesk has it."""
    status: str
    priority: str | None
    type: str | None
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    custom_fields: Mapping[int, str | None]
    comments: tuple[Comment, ...]
    """Oldest first; never empty."""


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    number: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Document:
    key: str
    account: int
    kind: str
    tags: tuple[str, ...]
    file_name: str
    content_type: str
    versions: tuple[DocumentVersion, ...]
    """Oldest first; the last one is current."""


@dataclass(frozen=True, slots=True)
class Agent:
    zendesk_user_id: int
    name: str
    email: str
    role: str
    """agent or admin."""


@dataclass(frozen=True, slots=True)
class Article:
    id: int
    title: str
    body: str
    """HTML."""
    locale: str
    section: str
    section_id: int
    author_id: int
    labels: tuple[str, ...]
    draft: bool
    """A draft is not for customers."""
    created_at: datetime
    updated_at: datetime
    url_path: str
