"""Xero as an ERP: an invoice is an Invoice of type ACCREC, a customer is a Contact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TypeVar

import msgspec

from sources.ports.common import Content, Criterion, CustomerRecord, Direction, Key, Money, Page, Probe, Ref
from sources.ports.erp import Balance, Erp, InvoiceOrder, InvoiceQuery, InvoiceRecord
from sources.ports.errors import InvalidRequest, SourceBadResponse, SourceError, SourceRejected
from sources.transport.consent import Consent, Tenant
from sources.transport.fanin import Slice, Span, windows_of
from sources.transport.http import Auth, HeaderAuth, HttpClient, in_query
from sources.transport.limits import SourceSettings
from sources.transport.oauth import ClientCredentials, StoredRefreshToken, TokenEndpoint
from sources.transport.rows import sifted
from sources.transport.traffic import Traffic
from sources.transport.wiring import Wiring
from sources.vendors.xero import where
from sources.vendors.xero.limits import LIMITS, readings
from sources.vendors.xero.refusals import explain
from sources.vendors.xero.rows import (
    CONTACTS,
    DELETED,
    NAME,
    OWED,
    SALE,
    ConnectionRow,
    ContactRow,
    Customers,
    InvoiceRow,
    OwedRow,
    OwnFields,
    PageDetails,
    calendar_date,
    customer,
    invoices,
)

T = TypeVar("T")

_MOST_QUERY_BYTES = 2048
"""Xero answers 404 to a longer query string (XeroAPI/Xero-Java issue 328: 52 encoded ids pass, 53 do not)."""

_MOST_IDS = 50
_ID_BYTES = 37
"""A UUID and its comma."""

_FEW_IDS = 25
"""Have room in any URL whose filter has no numbers and no fields of the firm's own."""

_MOST_ALTERNATIVES = 20
"""ORs in one filter: Xero asks to keep filters short, long ones time out."""

_SMALLEST_PAGE = 50
"""Room for days with many invoices: a page that ends amid equal dates costs another call."""

_CONTACT_PAGE = 100
_LONGEST_NUMBER = 50
"""Characters that ContactNumber and AccountNumber hold."""

_SEARCHED = {Criterion.EXTERNAL_ID: "ContactNumber", Criterion.NUMBER: "AccountNumber"}

_CONNECTIONS = msgspec.json.Decoder(list[ConnectionRow])


class Settings(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Xero organisation. Without ``refresh_token`` the connection is a custom connection (client credentials)."""

    client_id: str
    client_secret: str
    tenant_id: str = ""
    """The organisation, as ``GET /connections`` lists it. A custom connection has only one and needs none."""
    refresh_token: str | None = None
    """The first refresh token after consent. Each is used once: its successors are kept in the token store."""
    connected: bool = False
    """Instead of ``refresh_token``: the token store holds what ``gateway connect xero`` put there."""
    scope: str = "accounting.transactions.read accounting.contacts.read"
    """What a custom connection asks for; newer apps have finer names. A refresh token keeps the scopes of its
    consent, for which ``gateway connect`` asks these and ``offline_access``."""
    base_url: str = "https://api.xero.com/api.xro/2.0"
    connections_url: str = "https://api.xero.com/connections"
    authorize_url: str = "https://login.xero.com/identity/connect/authorize"
    token_url: str = "https://identity.xero.com/connect/token"  # noqa: S105
    contact_ids_per_call: int = 40
    """Ids of contacts or invoices in one URL, at most 50; fewer are sent where a long filter leaves less room."""
    page_size_max: int = 1000
    """The largest pageSize asked for. 1000 is unconfirmed: 100 where the organisation refuses it."""
    parallel: int = 3
    """Calls at once. Xero allows 5 per organisation, for all of its callers together."""

    @property
    def consented(self) -> bool:
        """By a person, and not a custom connection."""
        return self.connected or self.refresh_token is not None

    def __post_init__(self) -> None:
        if self.connected and self.refresh_token:
            raise ValueError("set connected or refresh_token, not both")
        for name in ("contact_ids_per_call", "page_size_max", "parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.contact_ids_per_call > _MOST_IDS:
            raise ValueError(f"contact_ids_per_call must be at most {_MOST_IDS}: Xero refuses longer URLs")


def connect(settings: Settings, wiring: Wiring) -> Erp:
    """Makes no call. Raises ValueError for a field of the firm's own that Xero cannot have."""
    auth: Auth
    addresses = settings.addresses
    if settings.consented:
        auth = StoredRefreshToken(
            NAME,
            settings.token_url,
            settings.client_id,
            settings.client_secret,
            store=wiring.tokens,
            first_refresh_token=settings.refresh_token,
            addresses=addresses,
            renewals=wiring.network.renewals,
        )
    else:
        auth = ClientCredentials(
            NAME,
            settings.token_url,
            settings.client_id,
            settings.client_secret,
            settings.scope or None,
            addresses=addresses,
            renewals=wiring.network.renewals,
        )
    return Xero(settings, auth, OwnFields(wiring.custom), wiring)


def consent(settings: Settings) -> Consent:
    """What somebody who may sign in to the organisation is asked for."""

    async def tenants(access_token: str) -> Sequence[Tenant]:
        http = HttpClient(
            NAME,
            settings.connections_url,
            auth=HeaderAuth(f"Bearer {access_token}"),
            traffic=Traffic(NAME, parallel=1, settings=msgspec.structs.replace(settings, limits={})),
            explain=explain,
            headers={"Accept": "application/json"},
        )
        try:
            connected = http.decode(await http.call("GET", "", route="connections"), _CONNECTIONS)
        finally:
            await http.close()
        return [Tenant(row.tenant_id, row.tenant_name) for row in connected]

    return Consent(
        source=NAME,
        authorize_url=settings.authorize_url,
        client_id=settings.client_id,
        scope=f"offline_access {settings.scope}",
        endpoint=TokenEndpoint(
            NAME,
            settings.token_url,
            settings.client_id,
            settings.client_secret,
            settings.addresses,
        ),
        first_refresh_token=settings.refresh_token,
        tenant_setting="tenant_id",
        tenant=settings.tenant_id,
        tenants=tenants,
    )


class Xero:
    """Fills the port."""

    name = NAME

    def __init__(self, settings: Settings, auth: Auth, own: OwnFields, wiring: Wiring) -> None:
        self._settings = settings
        self._violations, network = wiring.violations, wiring.network
        self._own = own
        self._http = HttpClient(
            NAME,
            settings.base_url,
            auth=auth,
            traffic=network.traffic(
                NAME,
                settings,
                parallel=settings.parallel,
                limits=LIMITS,
                account=f"{settings.base_url} {settings.client_id} {settings.tenant_id}",
                read=readings,
            ),
            explain=explain,
            headers={"Accept": "application/json", "xero-tenant-id": settings.tenant_id},
        )
        self._connections = HttpClient(
            NAME,
            settings.connections_url,
            auth=auth,
            traffic=network.traffic(NAME, msgspec.structs.replace(settings, limits={}), parallel=1),
            explain=explain,
            headers={"Accept": "application/json"},
        )

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]:
        """One call per 40."""
        ids = _distinct(refs)
        answers = await asyncio.gather(
            *(
                self._contacts([("IDs", ",".join(chunk)), ("includeArchived", "true")])
                for chunk in _chunks(ids, self._settings.contact_ids_per_call)
            )
        )
        found = {row.contact_id: customer(row) for rows in answers for row in rows}
        return [found.get(where.uuid(ref.id) or "") for ref in refs]

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]:
        """One call per 20 different values. Domains are looked for in the contact's own e-mail address; its people's
        addresses cannot be searched."""
        keys = [_search_key(criterion, value) for value in values]
        wanted = list(dict.fromkeys(key for key in keys if key))
        answers = await asyncio.gather(
            *(
                self._contacts([("where", _matching(criterion, chunk)), ("includeArchived", "true")])
                for chunk in _short_chunks(criterion, wanted)
            )
        )
        found: dict[str, dict[str, CustomerRecord]] = {key: {} for key in wanted}
        for row in (row for rows in answers for row in rows):
            record = customer(row)
            # Xero compares without case; a key is only the same when it is the same.
            for key in _keys_of(criterion, record):
                if key in found:
                    found[key][record.ref.id] = record
        return [list(found[key].values()) if key else [] for key in keys]

    async def invoices(self, refs: Sequence[Ref]) -> Sequence[InvoiceRecord | None]:
        """One call per 40, lines included."""
        answers = await asyncio.gather(
            *(
                self._http.call(
                    "GET",
                    "/Invoices",
                    params=[
                        ("IDs", ",".join(chunk)),
                        ("page", "1"),
                        ("pageSize", str(len(chunk))),
                        ("unitdp", "4"),
                    ],
                    route="Invoices",
                )
                for chunk in _chunks(_distinct(refs), self._settings.contact_ids_per_call)
            )
        )
        found: dict[str, InvoiceRecord] = {}
        customers = Customers()
        for answer in answers:
            page, _ = self._http.page(answer, self._own.pages)
            sales = [row for row in page.invoices if row.type == SALE and row.status != DELETED]
            for record in self._records(sales, answer.body, customers):
                found[record.ref.id] = record
        return [found.get(where.uuid(ref.id) or "") for ref in refs]

    async def invoices_of(
        self, customers: Sequence[Ref], query: InvoiceQuery
    ) -> Sequence[Page[InvoiceRecord] | SourceError]:
        """One call per 40 customers, and one more for those that a very large one crowded out."""
        for mark in (query.window.after, query.window.before):
            if mark is not None and not where.place_is_valid(query.order, mark.value):
                raise InvalidRequest(NAME, "the cursor does not belong to this list")
        statuses = where.statuses(query)
        ids = _distinct(customers)
        if not statuses or not ids or any(condition.equals == () for condition in query.conditions):
            return [Page([], []) for _ in customers]

        def params(span: Span, page: int, size: int) -> list[tuple[str, str]]:
            return [
                ("Statuses", ",".join(statuses)),
                ("where", where.invoices(query, span)),
                ("order", f"{where.ELEMENTS[query.order]} {span.direction.name}"),
                ("page", str(page)),
                ("pageSize", str(size)),
                ("unitdp", "4"),
            ]

        owners = Customers()

        async def fetch(parents: Sequence[str], span: Span, page: int, size: int) -> Slice[InvoiceRecord]:
            answer = await self._http.call(
                "GET",
                "/Invoices",
                params=[("ContactIDs", ",".join(parents)), *params(span, page, size)],
                route="Invoices",
            )
            rows, _ = self._http.page(answer, self._own.pages)
            # At once, and not when all is read: the rows make room for the next, and are still at hand.
            records = self._records(rows.invoices, answer.body, owners)
            return Slice(records, rows.pagination.page < rows.pagination.page_count)

        chunk = self._settings.contact_ids_per_call
        if len(ids) > _FEW_IDS or query.conditions or query.total_min or query.total_max:
            longest = "9" * 15 + ".0000" if query.order is InvoiceOrder.TOTAL else "9999-12-31"
            chunk = self._ids_beside(params(Span(Direction.DESC, longest, longest), 9999, 1000))
        pages = await windows_of(
            ids,
            query.window,
            query.direction,
            fetch=fetch,
            parents_of=lambda records: [record.customer.id for record in records],
            keys_of=_KEYS[query.order],
            chunk=chunk,
            page_sizes=(min(_SMALLEST_PAGE, self._settings.page_size_max), self._settings.page_size_max),
            sort=_amount if query.order is InvoiceOrder.TOTAL else str,
            astray=lambda rows: self._violations.record(NAME, "row", rows),
        )
        found = dict(zip(ids, pages, strict=True))
        return [found.get(where.uuid(ref.id) or "", _NO_INVOICES) for ref in customers]

    async def balances_of(
        self, customers: Sequence[Ref], today: date
    ) -> Sequence[Sequence[Balance] | SourceError]:
        """One call per 40 customers and 1,000 open invoices: Xero's own balances are in its base currency only."""
        chunks = _chunks(_distinct(customers), self._settings.contact_ids_per_call)
        answers = await asyncio.gather(
            *(self._balances(chunk, today) for chunk in chunks), return_exceptions=True
        )
        found: dict[str, Sequence[Balance] | SourceError] = {}
        for chunk, answer in zip(chunks, answers, strict=True):
            if isinstance(answer, SourceError):
                found.update(dict.fromkeys(chunk, answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.update(answer)
        return [found.get(where.uuid(ref.id) or "", ()) for ref in customers]

    async def invoice_pdf(self, ref: Ref) -> Content | None:
        """Whose invoice it is, and that it is one, is for the caller to know: the file does not say."""
        invoice_id = where.uuid(ref.id)
        if invoice_id is None:
            return None
        answer = await self._http.call(
            "GET",
            f"/Invoices/{invoice_id}",
            headers={"Accept": "application/pdf"},
            expect=(200, 404),
            endpoint="pdf",
            route="Invoices/{id}",
        )
        if answer.status == 404:
            return None
        if not answer.body.startswith(b"%PDF-"):
            raise SourceBadResponse(NAME, "the invoice's PDF is not a PDF")
        return Content(answer.body, "application/pdf", f"invoice-{invoice_id}.pdf")

    async def probe(self) -> Probe:
        try:
            answer = await self._connections.call("GET", "", route="connections")
        except SourceRejected as error:
            return Probe(False, str(error))
        connected = self._connections.decode(answer, _CONNECTIONS)
        known = ", ".join(f"{row.tenant_name} ({row.tenant_id})" for row in connected)
        wanted = self._settings.tenant_id.lower()
        if not connected:
            return Probe(False, "no organisation is connected; authorise the connection in Xero again")
        if not wanted and len(connected) == 1 and not self._settings.consented:
            return Probe(True, known)
        for row in connected:
            if row.tenant_id.lower() == wanted:
                return Probe(True, f"{row.tenant_name} ({row.tenant_id})")
        return Probe(False, f"tenant_id is not one of the connected organisations: {known}")

    async def close(self) -> None:
        await self._http.close()
        await self._connections.close()

    async def _contacts(self, params: list[tuple[str, str]]) -> list[ContactRow]:
        """All pages. Only the paged form carries the contact's people."""
        rows: list[ContactRow] = []
        page = 1
        while True:
            answer = await self._http.call(
                "GET",
                "/Contacts",
                params=[*params, ("page", str(page)), ("pageSize", str(_CONTACT_PAGE))],
                route="Contacts",
            )
            contacts, _ = self._http.page(answer, CONTACTS)
            rows += contacts.contacts
            if contacts.pagination.page >= contacts.pagination.page_count or not contacts.contacts:
                return rows
            page += 1

    def _records(self, rows: Sequence[InvoiceRow], body: bytes, owners: Customers) -> list[InvoiceRecord]:
        """Of rows of this page. One with a date that is none is dropped alone."""
        details, own = PageDetails(body), self._own
        try:
            return invoices(rows, details, own, owners)
        except Exception:  # one of them does not fit: each by itself
            made = sifted(rows, lambda row: invoices([row], details, own, owners), self._refused)
            return [record for records in made if records for record in records]

    def _refused(self, row: InvoiceRow | OwedRow) -> None:
        self._http.drop("invoice", row.invoice_id)

    async def _open_invoices(self, ids: Sequence[str]) -> AsyncIterator[tuple[OwedRow, date | None]]:
        """Each with the day by which it is to be paid."""
        seen: set[str] = set()
        page = 1
        while True:
            answer = await self._http.call(
                "GET",
                "/Invoices",
                params=[
                    ("ContactIDs", ",".join(ids)),
                    ("Statuses", "AUTHORISED"),
                    ("where", f'Type=="{SALE}" AND AmountDue>0'),
                    # An order that no payment changes, so that nothing moves between pages while they are read.
                    ("order", "InvoiceNumber ASC"),
                    ("page", str(page)),
                    ("pageSize", str(self._settings.page_size_max)),
                ],
                route="Invoices",
            )
            rows, _ = self._http.page(answer, OWED)
            dated = sifted(rows.invoices, lambda row: (row, calendar_date(row.due_date)), self._refused)
            for owed in dated:
                if owed is not None and owed[0].invoice_id not in seen:
                    seen.add(owed[0].invoice_id)
                    yield owed
            if rows.pagination.page >= rows.pagination.page_count or not rows.invoices:
                return
            page += 1

    async def _balances(self, ids: Sequence[str], today: date) -> dict[str, Sequence[Balance]]:
        owed: dict[str, dict[str, list[tuple[Decimal, bool]]]] = {customer_id: {} for customer_id in ids}
        strays = 0
        async for row, due in self._open_invoices(ids):
            by_currency = owed.get(row.contact.contact_id)
            if by_currency is None:
                strays += 1
                continue
            if not row.amount_due or not row.currency_code:
                continue
            by_currency.setdefault(row.currency_code, []).append(
                (row.amount_due, due is not None and due < today)
            )
        if strays:
            self._violations.record(NAME, "row", strays)
        return {
            customer_id: [_balance(currency, amounts) for currency, amounts in sorted(by_currency.items())]
            for customer_id, by_currency in owed.items()
        }

    def _ids_beside(self, params: Sequence[tuple[str, str]]) -> int:
        """How many contact ids the URL has room for beside these parameters."""
        words = [word for param in params for word in param]
        taken = len("ContactIDs=") + len(in_query("".join(words))) + len(words)  # a sign before each
        room = (_MOST_QUERY_BYTES - taken) // _ID_BYTES
        if room < 1:
            raise InvalidRequest(NAME, "the filter is too long for one call; ask for fewer values at once")
        return min(self._settings.contact_ids_per_call, room)


_NO_INVOICES: Page[InvoiceRecord] = Page([], [])


def _distinct(refs: Sequence[Ref]) -> list[str]:
    """The well-formed ids once each, in Xero's spelling; anything else names no record."""
    return list(dict.fromkeys(found for ref in refs if (found := where.uuid(ref.id))))


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _by_day(days: Sequence[date | None], records: Sequence[InvoiceRecord]) -> list[Key]:
    texts = msgspec.to_builtins(days)
    return [Key(text or "", record.ref.id) for text, record in zip(texts, records, strict=True)]


_KEYS: Mapping[InvoiceOrder, Callable[[Sequence[InvoiceRecord]], list[Key]]] = {
    InvoiceOrder.ISSUE_DATE: lambda records: _by_day([record.issue_date for record in records], records),
    InvoiceOrder.DUE_DATE: lambda records: _by_day([record.due_date for record in records], records),
    InvoiceOrder.TOTAL: lambda records: [
        Key("" if (total := record.total_value) is None else format(total, "f"), record.ref.id)
        for record in records
    ],
}


def _amount(text: str) -> Decimal:
    return Decimal(text or "-Infinity")


def _balance(currency: str, amounts: Sequence[tuple[Decimal, bool]]) -> Balance:
    late = [amount for amount, overdue in amounts if overdue]
    outstanding = Money.of(sum((amount for amount, _ in amounts), Decimal(0)), currency)
    overdue = Money.of(sum(late, Decimal(0)), currency)
    assert outstanding is not None
    assert overdue is not None
    return Balance(outstanding, overdue, len(amounts), len(late))


def _search_key(criterion: Criterion, value: str) -> str | None:
    """The value as it is looked for, None where no contact can have it."""
    if criterion is Criterion.EMAIL_DOMAIN:
        domain = value.strip().lower()
        longest, fits = 253, "@" not in domain and not any(letter.isspace() for letter in domain)
        return domain if domain and fits and len(domain) <= longest and where.quotable(domain) else None
    return value if value and len(value) <= _LONGEST_NUMBER and where.quotable(value) else None


def _keys_of(criterion: Criterion, record: CustomerRecord) -> Sequence[str | None]:
    match criterion:
        case Criterion.EXTERNAL_ID:
            return [record.external_id]
        case Criterion.NUMBER:
            return [record.number]
        case Criterion.EMAIL_DOMAIN:
            return record.domains


def _matching(criterion: Criterion, keys: Sequence[str]) -> str:
    if criterion is Criterion.EMAIL_DOMAIN:
        # Without the test for null Xero fails on the first contact that has no address.
        ends = where.either(f"EmailAddress.EndsWith({where.text('@' + key)})" for key in keys)
        return f"EmailAddress!=null AND {ends}"
    return where.either(f"{_SEARCHED[criterion]}=={where.text(key)}" for key in keys)


def _short_chunks(criterion: Criterion, keys: Sequence[str]) -> list[Sequence[str]]:
    """As many per call as the length of the URL and of the filter allow."""
    chunks: list[Sequence[str]] = []
    chunk: list[str] = []
    for key in keys:
        longer = [*chunk, key]
        taken = len(in_query(_matching(criterion, longer))) + 64
        if chunk and (len(longer) > _MOST_ALTERNATIVES or taken > _MOST_QUERY_BYTES):
            chunks.append(chunk)
            longer = [key]
        chunk = longer
    return [*chunks, chunk] if chunk else chunks
