"""The four ports, read through the cache. What matching asks, and files, are always asked of the source itself."""

from collections.abc import Sequence
from datetime import date
from typing import Generic, TypeVar

from sources.layers.cache.core import Cache
from sources.layers.cache.second import Number, Several
from sources.ports.common import Content, Criterion, CustomerRecord, Page, Probe, Ref
from sources.ports.crm import AccountQuery, AccountRecord, ContactQuery, ContactRecord, Crm
from sources.ports.documents import DocumentQuery, DocumentRecord, Documents, DocumentVersion
from sources.ports.erp import Balance, Erp, InvoiceQuery, InvoiceRecord
from sources.ports.errors import SourceError
from sources.ports.helpdesk import (
    ArticleQuery,
    ArticleRecord,
    CommentQuery,
    CommentRecord,
    Helpdesk,
    TicketQuery,
    TicketRecord,
)

P = TypeVar("P", Erp, Helpdesk, Documents)


class CachedCrm:
    """Fills Crm."""

    def __init__(self, port: Crm, cache: Cache) -> None:
        self._port, self._cache, self.name = port, cache, port.name

    async def accounts(self, refs: Sequence[Ref]) -> Sequence[AccountRecord | None]:
        return await self._cache.records(self.name, "Account", refs, self._port.accounts)

    async def find_accounts(self, query: AccountQuery) -> Page[AccountRecord]:
        async def fetch(_: Sequence[object]) -> Sequence[Page[AccountRecord]]:
            return [await self._port.find_accounts(query)]

        page: Page[AccountRecord] = await self._cache.listing(self.name, "Account", query, fetch)
        return page

    async def accounts_sharing(
        self, attribute: str, values: Sequence[str]
    ) -> Sequence[Sequence[AccountRecord]]:
        return await self._port.accounts_sharing(attribute, values)

    async def contacts(self, refs: Sequence[Ref]) -> Sequence[ContactRecord | None]:
        return await self._cache.records(self.name, "Contact", refs, self._port.contacts)

    async def contacts_of(
        self, accounts: Sequence[Ref], query: ContactQuery
    ) -> Sequence[Page[ContactRecord] | SourceError]:
        return await self._cache.lists(
            self.name, "Contact", query, accounts, lambda missing: self._port.contacts_of(missing, query)
        )

    async def probe(self) -> Probe:
        return await self._port.probe()

    async def close(self) -> None:
        await self._port.close()


class _OfCustomers(Generic[P]):
    """What the systems share that know customers of their own."""

    def __init__(self, port: P, cache: Cache) -> None:
        self._port: P = port
        self._cache = cache
        self.name = port.name

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]:
        return await self._port.customers(refs)

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]:
        return await self._port.customers_by(criterion, values)

    async def probe(self) -> Probe:
        return await self._port.probe()

    async def close(self) -> None:
        await self._port.close()


class CachedErp(_OfCustomers[Erp]):
    """Fills Erp."""

    async def invoices(self, refs: Sequence[Ref]) -> Sequence[InvoiceRecord | None]:
        return await self._cache.records(self.name, "Invoice", refs, self._port.invoices)

    async def invoices_of(
        self, customers: Sequence[Ref], query: InvoiceQuery
    ) -> Sequence[Page[InvoiceRecord] | SourceError]:
        return await self._cache.lists(
            self.name, "Invoice", query, customers, lambda missing: self._port.invoices_of(missing, query)
        )

    async def balances_of(
        self, customers: Sequence[Ref], today: date
    ) -> Sequence[Sequence[Balance] | SourceError]:
        return await self._cache.lists(
            self.name,
            "Balance",
            Several("balances", today),
            customers,
            lambda missing: self._port.balances_of(missing, today),
        )

    async def invoice_pdf(self, ref: Ref) -> Content | None:
        return await self._port.invoice_pdf(ref)


class CachedHelpdesk(_OfCustomers[Helpdesk]):
    """Fills Helpdesk."""

    async def tickets(self, refs: Sequence[Ref]) -> Sequence[TicketRecord | None]:
        return await self._cache.records(self.name, "Ticket", refs, self._port.tickets)

    async def tickets_of(
        self, customers: Sequence[Ref], query: TicketQuery
    ) -> Sequence[Page[TicketRecord] | SourceError]:
        return await self._cache.lists(
            self.name, "Ticket", query, customers, lambda missing: self._port.tickets_of(missing, query)
        )

    async def open_counts_of(self, customers: Sequence[Ref]) -> Sequence[int | SourceError]:
        return await self._cache.lists(
            self.name, "Ticket", Number("open"), customers, self._port.open_counts_of
        )

    async def comments_of(
        self, tickets: Sequence[Ref], query: CommentQuery
    ) -> Sequence[Page[CommentRecord] | SourceError]:
        return await self._cache.lists(
            self.name, "Comment", query, tickets, lambda missing: self._port.comments_of(missing, query)
        )

    async def attachment(self, ticket: Ref, attachment_id: str, internal: bool) -> Content | None:
        return await self._port.attachment(ticket, attachment_id, internal)

    async def search_articles(self, query: ArticleQuery) -> Page[ArticleRecord]:
        async def fetch(_: Sequence[object]) -> Sequence[Page[ArticleRecord]]:
            return [await self._port.search_articles(query)]

        page: Page[ArticleRecord] = await self._cache.listing(self.name, "Article", query, fetch)
        return page


class CachedDocuments(_OfCustomers[Documents]):
    """Fills Documents."""

    async def documents(self, refs: Sequence[Ref]) -> Sequence[DocumentRecord | None]:
        return await self._cache.records(self.name, "Document", refs, self._port.documents)

    async def documents_of(
        self, customers: Sequence[Ref], query: DocumentQuery
    ) -> Sequence[Page[DocumentRecord] | SourceError]:
        return await self._cache.lists(
            self.name, "Document", query, customers, lambda missing: self._port.documents_of(missing, query)
        )

    async def versions_of(
        self, documents: Sequence[Ref]
    ) -> Sequence[Sequence[DocumentVersion] | SourceError]:
        return await self._cache.lists(
            self.name, "DocumentVersion", Several("versions"), documents, self._port.versions_of
        )

    async def content(self, document: Ref, version_id: str | None = None) -> Content | None:
        return await self._port.content(document, version_id)
