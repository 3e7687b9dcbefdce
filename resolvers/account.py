"""Accounts: the customer companies that everything else hangs on."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, TypeVar

import strawberry

from permissions.directives import PART, requires, reveals, scoped
from resolvers.contact import Contact, ContactFilter, ContactOrdering, contact_query
from resolvers.context import Info
from resolvers.document import Document, DocumentFilter, DocumentOrdering, document_query
from resolvers.freshness import AccountSync, fresh
from resolvers.invoice import Balance, Invoice, InvoiceFilter, InvoiceOrdering, invoice_query
from resolvers.own_fields import conditions
from resolvers.ticket import Ticket, TicketFilter, TicketOrdering, ticket_query
from resolvers.vocabulary import (
    After,
    Before,
    Connection,
    First,
    Last,
    Node,
    OrderDirection,
    OwnFields,
    accepts_nothing,
    batched,
    described,
    identified,
    ordering,
    shown_from,
    window,
)
from sources.ports.common import Direction, Window
from sources.ports.crm import AccountOrder, AccountQuery, AccountRecord, ContactOrder
from sources.ports.documents import DocumentOrder
from sources.ports.erp import InvoiceOrder
from sources.ports.helpdesk import TicketOrder
from sources.ports.links import Link
from sources.ports.links import LinkState as State

F = TypeVar("F", bound=Enum)

AccountOrderField = ordering(
    AccountOrder,
    "AccountOrderField",
    "Account",
    "What accounts may be ordered by.",
    CREATED_AT=("When the CRM first held the account.", ["createdAt"]),
    UPDATED_AT=("When the CRM last changed the account.", ["updatedAt"]),
    NAME=("The name, whatever the case.", ["name"]),
)
LinkState = described(
    State,
    "How sure a link between systems is.",
    MATCHED="Found by a rule, alone on both sides.",
    CONFIRMED="Chosen by staff.",
    AMBIGUOUS="Several are possible; staff must confirm one.",
    UNMATCHED="No rule found any.",
    ABSENT="Staff say that there is none.",
)


@strawberry.type(description="A postal address.", directives=[PART])
class Address:
    street: str | None = strawberry.field(description="Street and number.")
    city: str | None = strawberry.field(description="Town.")
    postcode: str | None = strawberry.field(description="Postal code.")
    region: str | None = strawberry.field(description="State, county or province.")
    country: str | None = strawberry.field(description="As the CRM holds it: a name or an ISO 3166 code.")


@strawberry.type(
    description="How an account was found in another system.",
    directives=[requires("links:read"), scoped(by="account")],
)
class AccountLink:
    source: str = strawberry.field(description="The other system.")
    state: LinkState = strawberry.field(description="How sure it is.")  # type: ignore[valid-type]
    evidence: str | None = strawberry.field(description="The rule that decided.")

    @strawberry.field(description="The counterpart's id in the other system.")
    def counterpart_id(root: strawberry.Parent[Any]) -> str | None:
        link: Link = root
        return link.counterpart.id if link.counterpart else None


@strawberry.type(
    description="A customer company, from the CRM.",
    directives=[requires("accounts:read"), scoped(by="id"), fresh("Account")],
)
class Account(Node):
    id: strawberry.ID = identified("Account")
    number: str | None = strawberry.field(description="The firm's own customer number.")
    name: str | None = strawberry.field(description="The company's name.")
    domain: str | None = strawberry.field(description="The company's e-mail and web domain.")
    website: str | None = strawberry.field(description="The company's site.")
    phone: str | None = strawberry.field(description="Telephone as the CRM holds it.")
    industry: str | None = strawberry.field(description="The CRM's word for the line of business.")
    address: Address | None = strawberry.field(description="Where the company is.")
    created_at: datetime | None = strawberry.field(description="When the CRM first held the account.")
    updated_at: datetime | None = strawberry.field(description="When the CRM last changed the account.")

    @batched(description="People at the account.", directives=[requires("contacts:read")])
    def contacts(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[ContactFilter | None, strawberry.argument(description="Which ones.")] = None,
        order_by: Annotated[
            ContactOrdering | None, strawberry.argument(description="In which order.")
        ] = None,
    ) -> Connection[Contact] | None:
        field, direction, order = _ordered("contacts", order_by, ContactOrder.ADDED, Direction.ASC)
        query = contact_query(window(first, after, last, before, order), filter, field, direction)
        return info.context.page(info.context.sources.contacts_of, query, order, root.ref)  # type: ignore[return-value]

    @batched(
        description="Invoices, newest first unless asked otherwise.", directives=[requires("invoices:read")]
    )
    def invoices(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[InvoiceFilter | None, strawberry.argument(description="Which ones.")] = None,
        order_by: Annotated[
            InvoiceOrdering | None, strawberry.argument(description="In which order.")
        ] = None,
    ) -> Connection[Invoice] | None:
        field, direction, order = _ordered("invoices", order_by, InvoiceOrder.ISSUE_DATE, Direction.DESC)
        query = invoice_query(
            window(first, after, last, before, order), filter, field, direction, info.context.today
        )
        return info.context.page(info.context.sources.invoices_of, query, order, root.ref)  # type: ignore[return-value]

    @batched(
        description="What the account owes, one entry per currency with open invoices.",
        directives=[requires("invoices:read")],
    )
    def balances(root: strawberry.Parent[Any], info: Info) -> list[Balance] | None:
        return info.context.balances(root.ref)  # type: ignore[return-value]

    @batched(
        description="Requests for help, newest first unless asked otherwise.",
        directives=[requires("tickets:read")],
    )
    def tickets(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[TicketFilter | None, strawberry.argument(description="Which ones.")] = None,
        order_by: Annotated[TicketOrdering | None, strawberry.argument(description="In which order.")] = None,
    ) -> Connection[Ticket] | None:
        field, direction, order = _ordered("tickets", order_by, TicketOrder.CREATED_AT, Direction.DESC)
        query = ticket_query(window(first, after, last, before, order), filter, field, direction)
        if filter and accepts_nothing(filter.status, filter.priority):
            return info.context.nothing(order)  # type: ignore[return-value]
        return info.context.page(info.context.sources.tickets_of, query, order, root.ref)  # type: ignore[return-value]

    @batched(
        description="How many tickets are neither solved nor closed.",
        directives=[requires("tickets:read"), reveals("Ticket.status")],
    )
    def open_ticket_count(root: strawberry.Parent[Any], info: Info) -> int | None:
        return info.context.value(info.context.sources.open_ticket_counts_of, root.ref)  # type: ignore[return-value]

    @batched(
        call_per_row=True,
        description=(
            "Files, newest first unless asked otherwise. The document store has no batch for it: one call per account."
        ),
        directives=[requires("documents:read")],
    )
    def documents(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[DocumentFilter | None, strawberry.argument(description="Which ones.")] = None,
        order_by: Annotated[
            DocumentOrdering | None, strawberry.argument(description="In which order.")
        ] = None,
    ) -> Connection[Document] | None:
        field, direction, order = _ordered("documents", order_by, DocumentOrder.UPDATED_AT, Direction.DESC)
        query = document_query(window(first, after, last, before, order), filter, field, direction)
        if filter and accepts_nothing(filter.kind):
            return info.context.nothing(order)  # type: ignore[return-value]
        return info.context.page(info.context.sources.documents_of, query, order, root.ref)  # type: ignore[return-value]

    @batched(
        description="How the account was found in the other systems.", directives=[requires("links:read")]
    )
    def links(root: strawberry.Parent[Any], info: Info) -> list[AccountLink] | None:
        return info.context.value(info.context.sources.links_of, root.ref)  # type: ignore[return-value]

    @batched(
        description="How its data comes from each connected system. For staff.",
        directives=[requires("sources:read")],
    )
    def sync(root: strawberry.Parent[Any], info: Info) -> list[AccountSync] | None:
        return info.context.value(info.context.sources.sync_of, root.ref)  # type: ignore[return-value]

    is_type_of = shown_from(AccountRecord)


@strawberry.input(description="An ordering of accounts.")
class AccountOrdering:
    field: AccountOrderField = strawberry.field(description="By what.")  # type: ignore[valid-type]
    direction: OrderDirection = strawberry.field(  # type: ignore[valid-type]
        default=Direction.ASC, description="Which way.", directives=[reveals()]
    )


@strawberry.input(
    description="Which accounts; all that is given must hold. The CRM filters for staff; a customer's few are filtered here."
)
class AccountFilter:
    text: str | None = strawberry.field(
        default=None,
        description="Words in the name, domain or telephone.",
        directives=[reveals("Account.name", "Account.domain", "Account.phone")],
    )
    country: str | None = strawberry.field(
        default=None,
        description="As the CRM holds it, exactly.",
        directives=[reveals("Account.address")],
    )
    updated_since: datetime | None = strawberry.field(
        default=None, description="Changed then or later.", directives=[reveals("Account.updatedAt")]
    )
    own_fields: OwnFields = strawberry.field(default=None, description="Replaced by the firm's own fields.")


def account_query(
    window: Window, filter: AccountFilter | None, order: AccountOrder, direction: Direction
) -> AccountQuery:
    """The port's question; who is asking is added further down."""
    asked = filter or AccountFilter()
    return AccountQuery(
        window,
        text=asked.text or None,
        country=asked.country or None,
        updated_since=asked.updated_since,
        conditions=conditions(asked.own_fields),
        order=order,
        direction=direction,
    )


def accounts_page(
    info: Info,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    filter: AccountFilter | None,
    order_by: AccountOrdering | None,
) -> Any:
    """The accounts that the caller sees; the same question in one request is asked once."""
    field, direction, order = _ordered("accounts", order_by, AccountOrder.CREATED_AT, Direction.ASC)
    query = account_query(window(first, after, last, before, order), filter, field, direction)
    return info.context.listing(info.context.sources.find_accounts, query, order)


def _ordered(name: str, asked: Any, field: F, direction: Direction) -> tuple[F, Direction, str]:
    """What the caller asked for, else this field and direction; and the ordering's name, which its cursors carry."""
    if asked is not None:
        field, direction = asked.field, asked.direction
    # An enum's property ``value`` is Python, and a page of accounts asks this for each account.
    return field, direction, f"{name}:{field._value_}:{direction._value_}"
