"""The back offices as one caller may see them: every call carries the caller's reach, every row is checked again.

The graph has no other way to a port. Calls are by account; matching turns accounts into each system's own customers. A
row whose customer is not the one asked for is dropped, logged and counted. What is not the caller's reads as not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import date
from typing import Any, TypeVar

import msgspec

from sources.layers.cache.freshness import itemised
from sources.layers.matching import CustomerSource, Matcher
from sources.layers.reads import nobodys, scoped_by
from sources.layers.touched import Touched
from sources.ports.common import Content, Page, Ref
from sources.ports.crm import AccountQuery, AccountRecord, ContactQuery, ContactRecord, Crm
from sources.ports.documents import DocumentQuery, DocumentRecord, Documents, DocumentVersion
from sources.ports.erp import Balance, Erp, InvoiceQuery, InvoiceRecord, InvoiceStatus
from sources.ports.errors import SourceError, SourceUnavailable
from sources.ports.health import AccountSync, SourceHealth
from sources.ports.helpdesk import (
    ArticleQuery,
    ArticleRecord,
    CommentQuery,
    CommentRecord,
    Helpdesk,
    TicketQuery,
    TicketRecord,
)
from sources.ports.links import Link, LinkStore
from sources.ports.members import OrganisationStore
from sources.ports.violations import ViolationKind, Violations

T = TypeVar("T")
R = TypeVar("R")

UNISSUED = frozenset({InvoiceStatus.DRAFT, InvoiceStatus.UNKNOWN})
"""Invoices that no customer has been sent."""


class Backoffice(msgspec.Struct, frozen=True):
    """The connected ports, shared by all requests. A kind that is not configured is None."""

    crm: Crm
    matcher: Matcher
    links: LinkStore
    organisations: OrganisationStore
    erp: Erp | None = None
    helpdesk: Helpdesk | None = None
    documents: Documents | None = None
    health: Callable[[], Sequence[SourceHealth]] = tuple
    """How the systems behind the ports are doing."""


class Reach(msgspec.Struct, frozen=True):
    """How far one caller sees. ``accounts`` None: all of them."""

    accounts: frozenset[Ref] | None
    unissued_invoices: bool = False
    internal_notes: bool = False


class ScopedSources:
    """One per request. Methods answer in the order asked; a SourceError stands for a row that could not be had."""

    def __init__(
        self, backoffice: Backoffice, reach: Reach, violations: Violations, touched: Touched | None = None
    ) -> None:
        self._office = backoffice
        self._reach = reach
        self._violations = violations
        self.touched = touched or Touched()
        self._survivors: set[Ref] = set()
        """Accounts that the caller's own were merged into, as far as this request knows."""
        self._finding: asyncio.Task[dict[Ref, AccountRecord]] | None = None
        self._given: set[Ref] = set()
        """Tickets and documents that passed the check in this request: what hangs on them may be read."""
        self._listed: list[Sequence[Page[Any] | SourceError]] = []
        """Pages of more of them. Few requests ask for what hangs on these."""

    def release(self) -> None:
        """Lets go of the records, when the request is answered."""
        self._listed.clear()

    # -- the CRM ------------------------------------------------------------------------------------------------

    @scoped_by("id", gives="Account")
    async def accounts(self, refs: Sequence[Ref]) -> Sequence[AccountRecord | None]:
        """None where there is no such account, or where it is not the caller's: the calls that are made, for the
        caller's own accounts alone, do not tell which."""
        crm = self._office.crm
        asked = [ref for ref in dict.fromkeys(refs) if ref.source == crm.name]
        if self._reaches_all(asked):
            found = await self._read_accounts(asked)
        else:
            # It may be the survivor that one of the caller's own accounts was merged into.
            found = await self._own_accounts()
        return [found.get(ref) for ref in refs]

    @scoped_by("id", gives="Account")
    async def find_accounts(self, query: AccountQuery) -> Page[AccountRecord]:
        """A page of the accounts that the caller sees."""
        if self._reach.accounts is None:
            return await self._office.crm.find_accounts(query)
        within = tuple(sorted(self._reach.accounts))
        page = await self._office.crm.find_accounts(msgspec.structs.replace(query, within=within))
        await self._learn(record.ref for record in page.rows if self._merged_from(record))
        return self._kept(page, lambda row: self._reaches(row.ref), self._office.crm.name, "account")

    @scoped_by("account", gives="Contact")
    async def contacts(self, refs: Sequence[Ref]) -> Sequence[ContactRecord | None]:
        """None also for a contact of somebody else's account."""
        crm, items = self._office.crm, itemised()
        asked = [ref for ref in refs if ref.source == crm.name]
        with items.reading():
            found = dict(zip(asked, await crm.contacts(asked), strict=True)) if asked else {}

        def own() -> list[ContactRecord | None]:
            return [
                record if (record := found.get(ref)) and any(map(self._reaches, record.accounts)) else None
                for ref in refs
            ]

        if asked and None in own():
            await self._own_accounts()
            doubtful = [ref for ref, record in zip(refs, own(), strict=True) if record is None]
            if doubtful := [ref for ref in dict.fromkeys(doubtful) if items.remembered(ref)]:
                with items.live():
                    found.update(zip(doubtful, await crm.contacts(doubtful), strict=True))
        records = own()
        items.give(record.ref for record in records if record)
        return records

    @scoped_by("account", gives="Contact")
    async def contacts_of(
        self, accounts: Sequence[Ref], query: ContactQuery
    ) -> Sequence[Page[ContactRecord] | SourceError]:
        """One page of contacts per account."""
        self._require(accounts)
        crm = self._office.crm
        pages = await crm.contacts_of(accounts, query)
        return [
            page
            if isinstance(page, SourceError)
            else self._kept(page, lambda row, account=account: account in row.accounts, crm.name, "contact")  # type: ignore[misc]
            for account, page in zip(accounts, pages, strict=True)
        ]

    @scoped_by("account", gives="AccountLink")
    async def links_of(self, accounts: Sequence[Ref]) -> Sequence[Sequence[Link]]:
        """How each account was matched, per system in a fixed order; matching is not started by looking."""
        self._require(accounts)
        ports = [port for port in (self._office.erp, self._office.helpdesk, self._office.documents) if port]
        columns = [await self._office.links.links_of(accounts, port.name) for port in ports]
        return [[link for link in row if link] for row in zip(*columns, strict=True)]

    @scoped_by("account", gives="AccountSync")
    async def sync_of(self, accounts: Sequence[Ref]) -> Sequence[Sequence[AccountSync]]:
        """How each account stands in each system, the CRM first; matching is not started by looking."""
        self._require(accounts)
        systems = self.health()
        crm = self._office.crm.name
        columns = [
            [None] * len(accounts)
            if system.name == crm
            else await self._office.links.links_of(accounts, system.name)
            for system in systems
        ]
        return [
            [
                AccountSync(system, link.state if link else None)
                for system, link in zip(systems, row, strict=True)
            ]
            for row in zip(*columns, strict=True)
        ]

    def health(self) -> Sequence[SourceHealth]:
        """How the connected systems are doing: nothing of it is any customer's."""
        return self._office.health()

    # -- accounting ---------------------------------------------------------------------------------------------

    @scoped_by("account", gives="Invoice")
    async def invoices(self, refs: Sequence[Ref]) -> Sequence[InvoiceRecord | None]:
        """None also for somebody else's invoice, or one that was not issued yet."""
        erp = self._erp()
        records = await self._own(refs, erp, erp.invoices)
        return [record if record and self._issued(record.status) else None for record in records]

    @scoped_by("account", gives="Invoice")
    async def invoices_of(
        self, accounts: Sequence[Ref], query: InvoiceQuery
    ) -> Sequence[Page[InvoiceRecord] | SourceError]:
        """One page of invoices per account; without the right to drafts they do not exist, in counts of pages too."""
        statuses = tuple(status for status in query.statuses if self._issued(status))
        if not statuses:
            self._require(accounts)
            return [Page((), ()) for _ in accounts]
        erp = self._erp()
        issued = msgspec.structs.replace(query, statuses=statuses)
        return await self._pages(accounts, erp, lambda customers: erp.invoices_of(customers, issued))

    @scoped_by("account", gives="Balance")
    async def balances_of(
        self, accounts: Sequence[Ref], today: date
    ) -> Sequence[Sequence[Balance] | SourceError]:
        """What each account owes, per currency."""
        erp = self._erp()
        return await self._by_counterpart(accounts, erp, lambda c: erp.balances_of(c, today), ())

    @scoped_by("account", gives="Invoice")
    async def invoice_pdf(self, ref: Ref) -> Content | None:
        """None unless the caller may see the invoice, which is asked again."""
        (record,) = await self.invoices([ref])
        return await self._erp().invoice_pdf(ref) if record else None

    # -- the helpdesk -------------------------------------------------------------------------------------------

    @scoped_by("account", gives="Ticket")
    async def tickets(self, refs: Sequence[Ref]) -> Sequence[TicketRecord | None]:
        """None also for somebody else's ticket."""
        helpdesk = self._helpdesk()
        records = await self._own(refs, helpdesk, helpdesk.tickets)
        self._given.update(record.ref for record in records if record)
        return records

    @scoped_by("account", gives="Ticket")
    async def tickets_of(
        self, accounts: Sequence[Ref], query: TicketQuery
    ) -> Sequence[Page[TicketRecord] | SourceError]:
        """One page of tickets per account."""
        helpdesk = self._helpdesk()
        pages = await self._pages(accounts, helpdesk, lambda customers: helpdesk.tickets_of(customers, query))
        self._listed.append(pages)
        return pages

    @scoped_by("account", gives="Ticket")
    async def open_ticket_counts_of(self, accounts: Sequence[Ref]) -> Sequence[int | SourceError]:
        """How many tickets of each account are not solved."""
        helpdesk = self._helpdesk()
        return await self._by_counterpart(accounts, helpdesk, helpdesk.open_counts_of, 0)

    @scoped_by("ticket", gives="Comment")
    async def comments_of(
        self, tickets: Sequence[Ref], query: CommentQuery
    ) -> Sequence[Page[CommentRecord] | SourceError]:
        """One page of comments per ticket; internal notes only for those who may read them."""
        await self._check(tickets, self.tickets)
        query = msgspec.structs.replace(query, internal=self._reach.internal_notes)
        pages = await self._helpdesk().comments_of(tickets, query)
        return [
            page
            if isinstance(page, SourceError)
            else self._kept(
                page,
                lambda row, ticket=ticket: row.ticket == ticket and (row.public or query.internal),  # type: ignore[misc]
                ticket.source,
                "comment",
            )
            for ticket, page in zip(tickets, pages, strict=True)
        ]

    @scoped_by("comment", gives="Attachment")
    async def attachment(self, ticket: Ref, attachment_id: str) -> Content | None:
        """None unless the caller may see the comment that it hangs on."""
        (record,) = await self.tickets([ticket])
        if record is None:
            return None
        return await self._helpdesk().attachment(ticket, attachment_id, self._reach.internal_notes)

    @nobodys(gives="Article")
    async def search_articles(self, query: ArticleQuery) -> Page[ArticleRecord]:
        """Public help articles."""
        return await self._helpdesk().search_articles(query)

    # -- documents ----------------------------------------------------------------------------------------------

    @scoped_by("account", gives="Document")
    async def documents(self, refs: Sequence[Ref]) -> Sequence[DocumentRecord | None]:
        """None also for somebody else's document."""
        store = self._documents()
        records = await self._own(refs, store, store.documents)
        self._given.update(record.ref for record in records if record)
        return records

    @scoped_by("account", gives="Document")
    async def documents_of(
        self, accounts: Sequence[Ref], query: DocumentQuery
    ) -> Sequence[Page[DocumentRecord] | SourceError]:
        """One page of documents per account."""
        store = self._documents()
        pages = await self._pages(accounts, store, lambda customers: store.documents_of(customers, query))
        self._listed.append(pages)
        return pages

    @scoped_by("document", gives="DocumentVersion")
    async def versions_of(
        self, documents: Sequence[Ref]
    ) -> Sequence[Sequence[DocumentVersion] | SourceError]:
        """All versions of each document, newest first."""
        await self._check(documents, self.documents)
        store = self._documents()
        answers = []
        for document, versions in zip(documents, await store.versions_of(documents), strict=True):
            if not isinstance(versions, SourceError):
                kept = [version for version in versions if version.document == document]
                if strays := len(versions) - len(kept):
                    self._violations.record(store.name, "version", strays)
                versions = kept
            answers.append(versions)
        return answers

    @scoped_by("account", gives="Document")
    async def document_content(self, document: Ref, version_id: str | None) -> Content | None:
        """None unless the caller may see the document, which is asked again."""
        (record,) = await self.documents([document])
        return await self._documents().content(document, version_id) if record else None

    # -- whose is it --------------------------------------------------------------------------------------------

    @scoped_by("id", gives="Account")
    async def accounts_owning(self, customers: Sequence[Ref]) -> Sequence[AccountRecord | None]:
        """The accounts that these customers of other systems are, where a link is known and the caller sees them."""
        owners = await self._office.matcher.owners(customers)
        known = list(dict.fromkeys(owner for owner in owners if owner is not None))
        found = dict(zip(known, await self.accounts(known), strict=True)) if known else {}
        return [found.get(owner) if owner else None for owner in owners]

    # -- the checks ---------------------------------------------------------------------------------------------

    def _reaches(self, account: Ref) -> bool:
        reach = self._reach.accounts
        return reach is None or account in reach or account in self._survivors

    def _reaches_all(self, accounts: Collection[Ref]) -> bool:
        reach = self._reach.accounts
        return reach is None or reach.issuperset(accounts) or all(map(self._reaches, accounts))

    def _merged_from(self, record: AccountRecord) -> bool:
        reach = self._reach.accounts or frozenset()
        return any(Ref(record.ref.source, old) in reach for old in record.merged_ids)

    async def _read_accounts(self, refs: Sequence[Ref]) -> dict[Ref, AccountRecord]:
        """By the id asked for, and by the survivor's where that one was merged away."""
        if not refs:
            return {}
        crm = self._office.crm
        found: dict[Ref, AccountRecord] = {}
        for ref, record in zip(refs, await crm.accounts(refs), strict=True):
            if record is None:
                continue
            if record.ref == ref or ref.id in record.merged_ids:
                found[ref] = found[record.ref] = record
            else:
                self._violations.record(crm.name, "account")
        if not self._reaches_all(found):
            await self._learn(record.ref for record in found.values())
            return {ref: record for ref, record in found.items() if self._reaches(record.ref)}
        return found

    async def _learn(self, survivors: Iterable[Ref]) -> None:
        """A merged-away id of one's own account answers with the survivor, which is then one's own too, unless it
        belongs to another organisation: a merge in the CRM gives nobody somebody else's records."""
        new = [ref for ref in dict.fromkeys(survivors) if not self._reaches(ref)]
        if new:
            holders = await self._office.organisations.holders_of(new)
            self._survivors.update(ref for ref, holder in zip(new, holders, strict=True) if holder is None)

    async def _own_accounts(self) -> dict[Ref, AccountRecord]:
        """All that the caller reaches, and so all survivors. Read once per request, and whenever something is not the
        caller's, so that nothing follows from the call."""
        if self._finding is None:
            self._finding = asyncio.create_task(self._read_accounts(sorted(self._reach.accounts or ())))
        return await self._finding

    def _require(self, accounts: Collection[Ref]) -> None:
        """Calls are made for accounts that were read through this view; anything else is a fault of ours."""
        if not self._reaches_all(accounts):
            raise PermissionError("an account outside the caller's reach was asked for")

    async def _check(
        self, refs: Sequence[Ref], read: Callable[[Sequence[Ref]], Awaitable[Sequence[object | None]]]
    ) -> None:
        """Reads, and so checks, the parents that this request has not been given yet."""
        for pages in self._listed:
            self._given.update(row.ref for page in pages if isinstance(page, Page) for row in page.rows)
        self._listed.clear()
        unknown = [ref for ref in refs if ref not in self._given]
        if unknown and None in await read(unknown):
            raise PermissionError("a record outside the caller's reach was asked for")

    def _issued(self, status: InvoiceStatus) -> bool:
        return self._reach.unissued_invoices or status not in UNISSUED

    async def _own(
        self,
        refs: Sequence[Ref],
        port: CustomerSource,
        read: Callable[[Sequence[Ref]], Awaitable[Sequence[R | None]]],
    ) -> Sequence[R | None]:
        """Reads by id, then keeps what belongs to the caller's own counterparts. The same calls are made for a record
        that is somebody else's as for one that does not exist: whatever is remembered of either, its source is asked."""
        asked, items = [ref for ref in refs if ref.source == port.name], itemised()
        with items.reading():
            found = dict(zip(asked, await read(asked), strict=True)) if asked else {}
        if self._reach.accounts is None:
            items.give(asked)
            return [found.get(ref) for ref in refs]

        async def own(accounts: frozenset[Ref]) -> list[R | None]:
            counterparts = await self._office.matcher.counterparts(sorted(accounts), port)
            customers = {customer for customer in counterparts if isinstance(customer, Ref)}
            return [
                record if (record := found.get(ref)) is not None and _customer(record) in customers else None
                for ref in refs
            ]

        accounts = self._reach.accounts | self._survivors
        records = await own(accounts)
        if asked and None in records:
            await self._own_accounts()
            if (all_accounts := self._reach.accounts | self._survivors) != accounts:
                accounts = all_accounts
                records = await own(accounts)
            doubtful = [ref for ref, record in zip(refs, records, strict=True) if record is None]
            if doubtful := [ref for ref in dict.fromkeys(doubtful) if items.remembered(ref)]:
                with items.live():
                    found.update(zip(doubtful, await read(doubtful), strict=True))
                records = await own(accounts)
        items.give(ref for ref, record in zip(refs, records, strict=True) if record is not None)
        return records

    async def _pages(
        self,
        accounts: Sequence[Ref],
        port: CustomerSource,
        call: Callable[[Sequence[Ref]], Awaitable[Sequence[Page[R] | SourceError]]],
    ) -> Sequence[Page[R] | SourceError]:
        async def checked(customers: Sequence[Ref]) -> Sequence[Page[R] | SourceError]:
            pages = await call(customers)
            return [
                page
                if isinstance(page, SourceError) or _customers(page.rows).count(own) == len(page.rows)
                else self._kept(page, lambda row, own=own: _customer(row) == own, port.name, "row")  # type: ignore[misc]
                for own, page in zip(customers, pages, strict=True)
            ]

        empty: Page[R] = Page((), ())
        return await self._by_counterpart(accounts, port, checked, empty)

    async def _by_counterpart(
        self,
        accounts: Sequence[Ref],
        port: CustomerSource,
        call: Callable[[Sequence[Ref]], Awaitable[Sequence[T | SourceError]]],
        none: T,
    ) -> Sequence[T | SourceError]:
        """One call for the counterparts of all these accounts; ``none`` for accounts that have none by staff's word."""
        self._require(accounts)
        counterparts = await self._office.matcher.counterparts(accounts, port)
        customers = list(dict.fromkeys(customer for customer in counterparts if isinstance(customer, Ref)))
        answers = dict(zip(customers, await call(customers), strict=True)) if customers else {}
        return [
            answers[customer] if isinstance(customer, Ref) else customer or none for customer in counterparts
        ]

    def _kept(self, page: Page[R], allowed: Callable[[R], bool], source: str, kind: ViolationKind) -> Page[R]:
        if all(map(allowed, page.rows)):
            return page
        kept = [(row, key) for row, key in zip(page.rows, page.keys, strict=True) if allowed(row)]
        self._violations.record(source, kind, len(page.rows) - len(kept))
        return msgspec.structs.replace(page, rows=[row for row, _ in kept], keys=[key for _, key in kept])

    def _erp(self) -> Erp:
        return self._office.erp or _unconfigured("erp")

    def _helpdesk(self) -> Helpdesk:
        return self._office.helpdesk or _unconfigured("helpdesk")

    def _documents(self) -> Documents:
        return self._office.documents or _unconfigured("documents")


def _customers(rows: Sequence[Any]) -> list[Ref | None]:
    return [row.customer for row in rows]


def _customer(row: Any) -> Ref | None:
    customer: Ref | None = row.customer
    return customer


def _unconfigured(kind: str) -> Any:
    raise SourceUnavailable(kind, f"no such system is connected; add [sources.{kind}] to gateway.toml")
