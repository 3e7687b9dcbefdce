"""What any accounting connector gives, whichever vendor is behind it: every ERP of the registry passes this."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from sources.ports.common import Criterion, Direction, Key, Money, Page, Ref, Window
from sources.ports.erp import Balance, Erp, InvoiceOrder, InvoiceQuery, InvoiceStatus
from sources.ports.errors import (
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.registry import REGISTRY, Kind, Row
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import Invoice, World
from sources.transport.deadline import deadline
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring

FEWEST_CALLS = {"xero": {"home": 1, "dashboard": 2, "crowded dashboard": 3, "balances": 2, "customers": 2}}
"""Per vendor: what the pages of the portal cost, given its id lists and page sizes."""

EVERY_STATUS = (InvoiceStatus.DRAFT, InvoiceStatus.OPEN, InvoiceStatus.PAID, InvoiceStatus.VOID)
STATUS_OF = {
    "DRAFT": InvoiceStatus.DRAFT,
    "SUBMITTED": InvoiceStatus.DRAFT,
    "AUTHORISED": InvoiceStatus.OPEN,
    "PAID": InvoiceStatus.PAID,
    "VOIDED": InvoiceStatus.VOID,
}
NOWHERE = "00000000-0000-4000-8000-000000000000"
HOSTILE = (
    '"',
    '" OR 1==1 OR "',
    "\\",
    "x' OR '1'='1",
    "a,b",
    "a b",
    "../Invoices",
    "%22",
    "\x00",
    "é\u2028",
    "",
)


class Books:
    """A connector, the emulator that it talks to and the truth behind both."""

    def __init__(self, vendor: str, sandbox: Sandbox, erp: Erp, world: World) -> None:
        self.vendor, self.sandbox, self.erp, self.world = vendor, sandbox, erp, world
        self.customers = [account for account in world.accounts if account.xero_contact_id]

    def customer(self, index: int) -> Ref:
        return Ref(self.vendor, str(self.world.accounts[index].xero_contact_id))

    def first(self, count: int) -> list[Ref]:
        return [Ref(self.vendor, str(account.xero_contact_id)) for account in self.customers[:count]]

    def truth(self, customer: Ref, query: InvoiceQuery) -> list[str]:
        """The ids of all invoices that fit, in the order asked for."""
        account = self.world.accounts_by_xero_id[customer.id]
        fitting = [
            invoice for invoice in self.world.invoices_by_account[account.index] if _fits(invoice, query)
        ]
        return [
            invoice.id
            for invoice in sorted(
                fitting,
                key=lambda invoice: (_place(invoice, query.order), invoice.id),
                reverse=query.direction is Direction.DESC,
            )
        ]

    async def page(self, customer: Ref, query: InvoiceQuery) -> Page[Any]:
        [answer] = await self.erp.invoices_of([customer], query)
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def calls(self) -> int:
        return self.sandbox.log.count()


def _place(invoice: Invoice, order: InvoiceOrder) -> tuple[bool, Any]:
    value = {
        InvoiceOrder.ISSUE_DATE: invoice.issue_date,
        InvoiceOrder.DUE_DATE: invoice.due_date,
        InvoiceOrder.TOTAL: invoice.total,
    }[order]
    return value is not None, value


def _fits(invoice: Invoice, query: InvoiceQuery) -> bool:
    due, issued = invoice.due_date, invoice.issue_date
    status = STATUS_OF.get(invoice.status)
    late = query.overdue_on is None or (
        status is InvoiceStatus.OPEN and invoice.amount_due > 0 and due is not None and due < query.overdue_on
    )
    return (
        status in query.statuses
        and late
        and (query.due_from is None or (due is not None and due >= query.due_from))
        and (query.due_to is None or (due is not None and due <= query.due_to))
        and (query.issued_from is None or issued >= query.issued_from)
        and (query.issued_to is None or issued <= query.issued_to)
        and (query.total_min is None or invoice.total >= query.total_min)
        and (query.total_max is None or invoice.total <= query.total_max)
    )


def newest(first: int = 20, **more: Any) -> InvoiceQuery:
    return InvoiceQuery(Window(first=first), more.pop("statuses", EVERY_STATUS), **more)


@asynccontextmanager
async def opened(row: Row, world: World) -> AsyncIterator[Books]:
    """Rates are not limited here; how many calls may run at once is."""
    sandbox = row.sandbox.sandbox(world)
    for limit in sandbox.limits.limits():
        sandbox.limits.set(limit.name, concurrent=limit.concurrent)
    async with serve(sandbox) as running:
        erp = row.connect(
            row.sandbox.settings_for(running.url), Wiring(tokens=None, network=Network(guarded=False))
        )  # type: ignore[arg-type]
        try:
            yield Books(row.vendor, sandbox, erp, world)
        finally:
            await erp.close()


@pytest.fixture(
    scope="session", params=[row for row in REGISTRY if row.kind is Kind.ERP], ids=lambda row: row.vendor
)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


@pytest_asyncio.fixture(scope="session")
async def company(row: Row, world: World) -> AsyncIterator[Books]:
    async with opened(row, world) as books:
        yield books


@pytest_asyncio.fixture
async def books(company: Books) -> AsyncIterator[Books]:
    """Signed in, with an empty log and no faults."""
    await company.erp.probe()
    company.sandbox.log.clear()
    yield company
    company.sandbox.faults.clear()


@pytest_asyncio.fixture(scope="session")
async def tied(row: Row, world: World) -> AsyncIterator[Books]:
    """The same company after a chaotic year: many invoices share a date or a total, and drafts have no due date."""
    days = [world.today - timedelta(days=30 * month) for month in range(4)]
    invoices = tuple(
        dataclasses.replace(
            invoice,
            issue_date=days[number % 4],
            due_date=None if invoice.status in ("DRAFT", "SUBMITTED") else days[number % 3],
            total=Decimal(100 + number % 5),
        )
        for number, invoice in enumerate(world.invoices)
        if invoice.account < 3
    )
    async with opened(row, dataclasses.replace(world, invoices=invoices, credit_notes=())) as books:
        yield books


@pytest_asyncio.fixture(scope="session")
async def crowded(row: Row, world: World) -> AsyncIterator[Books]:
    """Account 3 has 10,000 invoices."""
    async with opened(row, world.with_large_account(3)) as books:
        await books.erp.probe()
        yield books


async def test_customers_come_in_the_order_asked_and_none_where_there_is_no_such(books):
    known = books.first(60)
    asked = [known[5], Ref(books.vendor, NOWHERE), known[2], known[5], *known]

    found = await books.erp.customers(asked)

    assert [record and record.ref for record in found] == [known[5], None, known[2], known[5], *known]
    assert books.calls() == FEWEST_CALLS[books.vendor]["customers"]


async def test_a_merged_customer_tells_who_survived(books):
    account = next(account for account in books.customers if account.merged_xero_contacts)
    gone = Ref(books.vendor, account.merged_xero_contacts[0].xero_contact_id)

    [record] = await books.erp.customers([gone])

    assert (record.archived, record.merged_into) == (True, books.customer(account.index))


async def test_customers_are_found_by_domain_in_any_case_with_merged_ones_marked(books):
    account = next(account for account in books.customers if account.merged_xero_contacts)

    [found, nobody] = await books.erp.customers_by(
        Criterion.EMAIL_DOMAIN, [account.domain.upper(), "nobody.example"]
    )

    assert {record.ref.id: record.archived for record in found} == {
        account.xero_contact_id: False,
        account.merged_xero_contacts[0].xero_contact_id: True,
    }
    assert nobody == []


async def test_a_domain_that_two_customers_share_gives_both(books):
    sharing = {
        account.xero_contact_id
        for account in books.customers
        if account.domain == books.world.accounts[2].domain
    }

    [found] = await books.erp.customers_by(Criterion.EMAIL_DOMAIN, [books.world.accounts[2].domain])

    assert len(sharing) > 1
    assert {record.ref.id for record in found} == sharing


async def test_a_domain_is_not_found_by_its_end_alone(books):
    domain = books.world.accounts[0].domain

    assert await books.erp.customers_by(Criterion.EMAIL_DOMAIN, [domain[1:]]) == [[]]


async def test_customers_are_found_by_number_and_only_the_exact_one(books):
    numbered = [account for account in books.customers if account.xero_account_number]
    asked = [*(account.xero_account_number for account in numbered), numbered[0].xero_account_number.lower()]

    *found, lower = await books.erp.customers_by(Criterion.NUMBER, asked)

    assert [[record.ref.id for record in records] for records in found] == [
        [account.xero_contact_id] for account in numbered
    ]
    assert lower == []


async def test_asking_for_nothing_costs_nothing(books):
    answers = [
        await books.erp.customers([]),
        await books.erp.customers_by(Criterion.NUMBER, []),
        await books.erp.invoices([]),
        await books.erp.invoices_of([], newest()),
        await books.erp.balances_of([], books.world.today),
    ]

    assert [list(answer) for answer in answers] == [[], [], [], [], []]
    assert books.calls() == 0


async def test_invoices_come_in_the_order_asked_and_none_where_there_is_no_such(books):
    ids = [invoice.id for invoice in books.world.invoices if invoice.status != "DELETED"][:90]
    asked = [ids[7], NOWHERE, ids[3], ids[7], *ids]

    found = await books.erp.invoices([Ref(books.vendor, id_) for id_ in asked])

    assert [record and record.ref.id for record in found] == [ids[7], None, ids[3], ids[7], *ids]


async def test_bills_and_deleted_invoices_are_no_invoices(books):
    deleted = next(invoice.id for invoice in books.world.invoices if invoice.status == "DELETED")

    found = await books.erp.invoices([Ref(books.vendor, books.world.bills[0].id), Ref(books.vendor, deleted)])

    assert list(found) == [None, None]


async def test_every_amount_date_and_line_is_exact(books):
    wanted = [invoice for invoice in books.world.invoices if invoice.status in STATUS_OF]
    wanted = [
        next(i for i in wanted if i.currency == currency) for currency in ("GBP", "EUR", "JPY", "KWD")
    ] + wanted[:80]

    records = await books.erp.invoices([Ref(books.vendor, invoice.id) for invoice in wanted])

    for invoice, record in zip(wanted, records, strict=True):

        def money(amount: Decimal, currency: str = invoice.currency) -> Money | None:
            return Money.of(amount, currency)

        assert record.customer == books.customer(invoice.account)
        assert (record.number, record.reference) == (invoice.number, invoice.reference or None)
        assert (record.status, record.source_status) == (STATUS_OF[invoice.status], invoice.status)
        assert (record.issue_date, record.due_date) == (invoice.issue_date, invoice.due_date)
        assert record.updated_at == invoice.updated_at
        assert [record.net, record.tax, record.total, record.amount_paid, record.amount_credited] == [
            money(invoice.sub_total),
            money(invoice.total_tax),
            money(invoice.total),
            money(invoice.amount_paid),
            money(invoice.amount_credited),
        ]
        assert record.amount_due == money(Decimal(0) if invoice.status == "VOIDED" else invoice.amount_due)
        assert record.amounts_include_tax is False
        assert [(line.id, line.description, line.item_code, line.quantity) for line in record.lines] == [
            (line.id, line.description, line.item_code, line.quantity) for line in invoice.lines
        ]
        assert [(line.unit_price, line.tax, line.amount) for line in record.lines] == [
            (money(line.unit_amount), money(line.tax_amount), money(line.line_amount))
            for line in invoice.lines
        ]
        assert [(paid.id, paid.date, paid.amount, paid.reference) for paid in record.payments] == [
            (paid.id, paid.date, money(paid.amount), paid.reference) for paid in invoice.payments
        ]
        assert [(note.id, note.number, note.date, note.applied) for note in record.credits] == [
            (note.credit_note_id, note.number, note.date, money(note.amount)) for note in invoice.credit_notes
        ]


async def walk(
    books: Books, customer: Ref, order: InvoiceOrder, direction: Direction, backwards: bool
) -> list[str]:
    """Every id, page by page, from the list's start or its end."""
    seen: list[str] = []
    mark: Key | None = None
    while True:
        window = Window(last=7, before=mark) if backwards else Window(first=7, after=mark)
        page = await books.page(
            customer, InvoiceQuery(window, EVERY_STATUS, order=order, direction=direction)
        )
        ids = [record.ref.id for record in page.rows]
        assert ids == [key.id for key in page.keys]
        seen = ids + seen if backwards else seen + ids
        if not (page.has_previous if backwards else page.has_next):
            return seen
        mark = page.keys[0 if backwards else -1]


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("direction", list(Direction), ids=lambda direction: direction.value)
@pytest.mark.parametrize("order", list(InvoiceOrder), ids=lambda order: order.value)
@pytest.mark.parametrize("kind", ["company", "tied"])
async def test_pages_cover_everything_once_in_order(kind, order, direction, backwards, company, tied):
    books = {"company": company, "tied": tied}[kind]
    customer = books.customer(1)

    seen = await walk(books, customer, order, direction, backwards)

    assert seen == books.truth(customer, newest(order=order, direction=direction))
    assert len(seen) > 21


@pytest.mark.parametrize("first", [0, 1, 100])
async def test_a_page_is_as_long_as_asked_and_says_whether_more_follows(books, first):
    customer = books.customer(0)
    everything = books.truth(customer, newest())

    page = await books.page(customer, newest(first))

    assert [record.ref.id for record in page.rows] == everything[:first]
    assert page.has_next is (len(everything) > first)


async def test_a_page_between_two_marks_has_only_what_lies_between(books):
    customer = books.customer(0)
    everything = books.truth(customer, newest())
    whole = await books.page(customer, newest(100))

    window = Window(first=50, after=whole.keys[4], before=whole.keys[15])
    page = await books.page(customer, InvoiceQuery(window, EVERY_STATUS))

    assert [record.ref.id for record in page.rows] == everything[5:15]


TODAY = date(2026, 11, 2)
FILTERS: dict[str, dict[str, Any]] = {
    "open": {"statuses": (InvoiceStatus.OPEN,)},
    "draft or void": {"statuses": (InvoiceStatus.DRAFT, InvoiceStatus.VOID)},
    "due from": {"due_from": TODAY - timedelta(days=30)},
    "due to": {"due_to": TODAY},
    "issued within": {"issued_from": TODAY - timedelta(days=200), "issued_to": TODAY - timedelta(days=20)},
    "overdue": {"overdue_on": TODAY},
    "overdue among paid": {"overdue_on": TODAY, "statuses": (InvoiceStatus.PAID,)},
    "amount": {"total_min": Decimal("605.16"), "total_max": Decimal("9573.84")},
    "overdue and large by due date": {
        "overdue_on": TODAY,
        "total_min": Decimal("1000"),
        "order": InvoiceOrder.DUE_DATE,
        "direction": Direction.ASC,
    },
    "unknown": {"statuses": (InvoiceStatus.UNKNOWN,)},
}


@pytest.mark.parametrize("name", FILTERS)
async def test_filters_agree_with_the_truth(books, name):
    query = newest(100, **FILTERS[name])
    customers = books.first(30)

    pages = await books.erp.invoices_of(customers, query)

    assert [[record.ref.id for record in page.rows] for page in pages] == [
        books.truth(customer, query) for customer in customers
    ]


async def test_bounds_are_inclusive(books):
    invoice = books.world.invoices_by_account[0][20]
    customer = books.customer(0)
    for bounds in (
        {"due_from": invoice.due_date, "due_to": invoice.due_date},
        {"issued_from": invoice.issue_date, "issued_to": invoice.issue_date},
        {"total_min": invoice.total, "total_max": invoice.total},
    ):
        page = await books.page(customer, newest(100, **bounds))
        assert invoice.id in [record.ref.id for record in page.rows]


async def test_drafts_without_a_due_date_come_before_every_date(tied):
    customer = tied.customer(0)
    query = newest(100, order=InvoiceOrder.DUE_DATE, direction=Direction.ASC)

    page = await tied.page(customer, query)

    assert [record.ref.id for record in page.rows] == tied.truth(customer, query)
    assert page.rows[0].due_date is None


async def test_a_customer_without_invoices_or_unknown_has_an_empty_page(books):
    pages = await books.erp.invoices_of(
        [Ref(books.vendor, NOWHERE), Ref(books.vendor, "not an id"), books.customer(0)], newest(2)
    )

    assert [len(page.rows) for page in pages] == [0, 0, 2]


async def test_the_portals_home_page_costs_the_fewest_calls(books):
    page = await books.page(books.customer(0), newest())

    assert len(page.rows) == 20
    assert books.calls() == FEWEST_CALLS[books.vendor]["home"]


async def test_ten_times_the_same_customer_costs_what_one_costs(books):
    pages = await books.erp.invoices_of([books.customer(0)] * 10, newest())

    assert len({tuple(record.ref for record in page.rows) for page in pages}) == 1
    assert books.calls() == FEWEST_CALLS[books.vendor]["home"]


async def test_fifty_customers_cost_the_fewest_calls(books):
    customers = books.first(50)

    pages = await books.erp.invoices_of(customers, newest())

    assert [[record.ref.id for record in page.rows] for page in pages] == [
        books.truth(customer, newest())[:20] for customer in customers
    ]
    assert books.calls() == FEWEST_CALLS[books.vendor]["dashboard"]


async def test_a_very_large_customer_neither_starves_the_others_nor_is_read_to_its_end(crowded):
    customers = crowded.first(50)
    crowded.sandbox.log.clear()

    pages = await crowded.erp.invoices_of(customers, newest())

    assert [[record.ref.id for record in page.rows] for page in pages] == [
        crowded.truth(customer, newest())[:20] for customer in customers
    ]
    assert crowded.calls() == FEWEST_CALLS[crowded.vendor]["crowded dashboard"]


def _owed(books: Books, index: int) -> list[Balance]:
    owed: dict[str, list[Invoice]] = {}
    for invoice in books.world.invoices_by_account[index]:
        if invoice.status == "AUTHORISED" and invoice.amount_due > 0:
            owed.setdefault(invoice.currency, []).append(invoice)
    balances = []
    for currency, invoices in sorted(owed.items()):
        late = [invoice for invoice in invoices if invoice.due_date < books.world.today]
        balances.append(
            Balance(
                Money.of(sum(invoice.amount_due for invoice in invoices), currency),
                Money.of(sum((invoice.amount_due for invoice in late), Decimal(0)), currency),
                len(invoices),
                len(late),
            )
        )
    return balances


async def test_balances_add_up_per_currency(books):
    indices = [account.index for account in books.customers[:60]]
    customers = [books.customer(index) for index in indices]

    balances = await books.erp.balances_of([*customers, Ref(books.vendor, NOWHERE)], books.world.today)

    assert [list(answer) for answer in balances] == [*(_owed(books, index) for index in indices), []]
    assert [balance.outstanding.currency for balance in balances[1]] == ["EUR", "KWD"]
    assert books.calls() == FEWEST_CALLS[books.vendor]["balances"]


async def test_the_balance_of_a_very_large_customer_counts_every_open_invoice(crowded):
    [balances] = await crowded.erp.balances_of([crowded.customer(3)], crowded.world.today)

    assert list(balances) == _owed(crowded, 3)
    assert sum(balance.open_invoices for balance in balances) > 1000


async def test_an_invoice_can_be_printed(books):
    content = await books.erp.invoice_pdf(Ref(books.vendor, books.world.invoices[0].id))

    assert (content.media_type, content.body[:5]) == ("application/pdf", b"%PDF-")
    assert content.file_name.endswith(".pdf")


async def test_an_invoice_that_does_not_exist_cannot_be_printed(books):
    assert await books.erp.invoice_pdf(Ref(books.vendor, NOWHERE)) is None


async def test_the_probe_names_the_organisation(books):
    probe = await books.erp.probe()

    assert probe.allowed
    assert probe.detail


REFUSALS: dict[str, tuple[dict[str, Any], type[SourceError]]] = {
    "401": ({"kind": "fail", "status": 401}, SourceRejected),
    "403": ({"kind": "fail", "status": 403}, SourceRejected),
    "404": ({"kind": "fail", "status": 404}, InvalidRequest),
    "500": ({"kind": "fail", "status": 500}, SourceUnavailable),
    "503": ({"kind": "fail", "status": 503}, SourceUnavailable),
    "rate limit": ({"kind": "rate_limit", "retry_after": 7.0}, SourceRateLimited),
    "garbage": ({"kind": "garbage"}, SourceBadResponse),
    "hang": ({"kind": "hang"}, SourceTimeout),
    "hang up": ({"kind": "drop"}, SourceUnavailable),
}


async def data_path(books: Books) -> str:
    """Where this connector reads invoices, so that a fault leaves signing in alone."""
    await books.page(books.customer(0), newest(1))
    return books.sandbox.log.calls()[-1].path


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_goes_wrong_at_the_vendor_has_a_name_here(books, name):
    fault, expected = REFUSALS[name]
    books.sandbox.faults.add(path_prefix=await data_path(books), **fault)

    with deadline(0.3 if name == "hang" else 5.0):
        [answer] = await books.erp.invoices_of([books.customer(0)], newest())
        with pytest.raises(expected):
            await books.erp.invoices([Ref(books.vendor, books.world.invoices[0].id)])

    assert type(answer) is expected
    assert str(answer).startswith(f"{books.vendor}: ")
    assert answer.retry_after == (7.0 if name == "rate limit" else None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda books: books.erp.invoices_of(books.first(50), newest()),
        lambda books: books.erp.balances_of(books.first(50), books.world.today),
    ],
    ids=["invoices", "balances"],
)
async def test_one_failed_call_takes_only_its_own_customers_with_it(books, ask: Callable[[Books], Any]):
    books.sandbox.faults.add("fail", await data_path(books), times=1)

    answers = await ask(books)

    failed = [isinstance(answer, SourceError) for answer in answers]
    assert 0 < sum(failed) < 50


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_malformed_ids_name_no_record_and_cost_no_call(books, hostile):
    ref = Ref(books.vendor, hostile)

    assert list(await books.erp.customers([ref])) == [None]
    assert list(await books.erp.invoices([ref])) == [None]
    assert [list(page.rows) for page in await books.erp.invoices_of([ref], newest())] == [[]]
    assert [list(balances) for balances in await books.erp.balances_of([ref], books.world.today)] == [[]]
    assert await books.erp.invoice_pdf(ref) is None
    assert books.calls() == 0


@pytest.mark.parametrize("criterion", list(Criterion), ids=lambda criterion: criterion.value)
async def test_hostile_search_values_find_nobody(books, criterion):
    found = await books.erp.customers_by(criterion, HOSTILE)

    assert [list(records) for records in found] == [[] for _ in HOSTILE]


@pytest.mark.parametrize("order", list(InvoiceOrder), ids=lambda order: order.value)
@pytest.mark.parametrize("value", [*HOSTILE[:-1], "9" * 400, "1e99999", "NaN", "2026-13-01", "2026-W01-1"])
async def test_a_forged_cursor_is_refused_before_any_call(books, order, value):
    query = InvoiceQuery(Window(first=5, after=Key(value, NOWHERE)), EVERY_STATUS, order=order)

    with pytest.raises(InvalidRequest):
        await books.erp.invoices_of([books.customer(0)], query)

    assert books.calls() == 0
