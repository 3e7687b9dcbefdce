"""What any helpdesk connector gives, whichever vendor is behind it: every helpdesk of the registry passes this."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.common import (
    Condition,
    Criterion,
    CustomerRecord,
    CustomField,
    Direction,
    Key,
    Page,
    Ref,
    Scalar,
    Window,
)
from sources.ports.errors import (
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.helpdesk import (
    OPEN_STATUSES,
    ArticleQuery,
    CommentQuery,
    Helpdesk,
    TicketOrder,
    TicketPriority,
    TicketQuery,
    TicketRecord,
    TicketStatus,
)
from sources.registry import REGISTRY, Kind, Row
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import INTERNAL_MARK, REGION_FIELD_ID, Ticket, World
from sources.transport.deadline import deadline
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from tests.conftest import fresh_database

FEWEST_CALLS = {
    # What is mirrored costs none.
    "freshdesk": dict.fromkeys(
        (
            "home",
            "dashboard",
            "crowded dashboard",
            "customers",
            "tickets",
            "open count",
            "open counts",
            "crowded open counts",
        ),
        0,
    ),
    "zendesk": {
        "home": 1,
        "dashboard": 2,
        "crowded dashboard": 3,
        "customers": 2,
        "tickets": 2,
        "open count": 1,
        "open counts": 2,
        "crowded open counts": 4,
    },
}
"""Per vendor: what the pages of the portal cost, given its id lists and page sizes."""

STATUS_OF = {
    "new": TicketStatus.NEW,
    "open": TicketStatus.OPEN,
    "pending": TicketStatus.PENDING,
    "hold": TicketStatus.ON_HOLD,
    "solved": TicketStatus.SOLVED,
    "closed": TicketStatus.CLOSED,
}
PRIORITIES = (TicketPriority.LOW, TicketPriority.NORMAL, TicketPriority.HIGH, TicketPriority.URGENT)
REGION = CustomField("Ticket", "region", str(REGION_FIELD_ID), Scalar.STRING, "Where the customer is.")
REGION_PROPERTY = {"freshdesk": "cf_region", "zendesk": str(REGION_FIELD_ID)}
SOURCE_WORDS = {"freshdesk": ("7", {"low": "1", "normal": "2", "high": "3", "urgent": "4"})}
"""Per vendor that has words of its own: for a ticket on hold, and for the priorities."""
HOSTILE = (
    '"',
    '" organization:360000100000 "',
    "organization:360000100000",
    "* OR 1=1",
    "-status:closed",
    "a,b",
    "1,2",
    "1/../2",
    "%22",
    "\x00",
    "١٢٣",
    "99999999999999999999999",
    "0",
    "",
)
"""Nothing of this may be taken for a record, a keyword or an operator."""


class Desk:
    """A connector, the emulator that it talks to and the truth behind both."""

    def __init__(self, vendor: str, sandbox: Sandbox, port: Helpdesk, world: World) -> None:
        self.vendor, self.sandbox, self.port, self.world = vendor, sandbox, port, world
        self.mirrored = hasattr(port, "mirror")
        self.region = msgspec.structs.replace(REGION, property=REGION_PROPERTY[vendor])
        self.customers = [account for account in world.accounts if account.zendesk_org_id is not None]

    def ref(self, id_: int | str) -> Ref:
        return Ref(self.vendor, str(id_))

    def customer(self, index: int) -> Ref:
        organisation = self.world.accounts[index].zendesk_org_id
        assert organisation is not None
        return self.ref(organisation)

    def first(self, count: int) -> list[Ref]:
        return [self.ref(str(account.zendesk_org_id)) for account in self.customers[:count]]

    def tickets(self, customer: Ref) -> list[Ticket]:
        return self.world.tickets_by_zendesk_org.get(int(customer.id), [])

    def calls(self) -> int:
        return self.sandbox.log.count()

    def own(self, query: TicketQuery) -> TicketQuery:
        """With the vendor's name for the firm's own field."""
        conditions = tuple(
            msgspec.structs.replace(condition, field=self.region) for condition in query.conditions
        )
        return msgspec.structs.replace(query, conditions=conditions)

    async def page(self, customer: Ref, query: TicketQuery) -> Page[TicketRecord]:
        [answer] = await self.port.tickets_of([customer], self.own(query))
        if isinstance(answer, SourceError):
            raise answer
        return answer

    async def walk(
        self, customer: Ref, backwards: bool, size: int, **query: Any
    ) -> tuple[list[TicketRecord], list[Page[TicketRecord]]]:
        """Every page from one end of the list to the other, and all rows in the order asked for."""
        rows: list[TicketRecord] = []
        pages: list[Page[TicketRecord]] = []
        key: Key | None = None
        while True:
            window = Window(last=size, before=key) if backwards else Window(first=size, after=key)
            page = await self.page(customer, TicketQuery(window, **query))
            pages.append(page)
            rows = [*page.rows, *rows] if backwards else [*rows, *page.rows]
            if not (page.has_previous if backwards else page.has_next):
                return rows, pages
            key = page.keys[0 if backwards else -1]


def ids(records: Sequence[Any]) -> list[str]:
    return [record.ref.id for record in records]


def place(order: TicketOrder) -> Callable[[TicketRecord], Any]:
    """What a list in this order is sorted by."""
    match order:
        case TicketOrder.CREATED_AT:
            return lambda ticket: ticket.created_at
        case TicketOrder.UPDATED_AT:
            return lambda ticket: ticket.updated_at
    return lambda ticket: PRIORITIES.index(ticket.priority) if ticket.priority else -1


@asynccontextmanager
async def opened(row: Row, world: World, postgres: str) -> AsyncIterator[Desk]:
    """Rates are not limited here; how many calls may run at once is. What is mirrored has been read."""
    sandbox = row.sandbox.sandbox(world)
    for limit in sandbox.limits.limits():
        sandbox.limits.set(limit.name, concurrent=limit.concurrent)
    region = msgspec.structs.replace(REGION, property=REGION_PROPERTY[row.vendor])
    async with fresh_database(postgres) as url, serve(sandbox) as running:
        ledger = await Ledger.open(url)
        await ledger.migrate()
        wiring = Wiring(ledger.tokens, (region,), Network(guarded=False), ledger.mirrors)
        port = row.connect(row.sandbox.settings_for(running.url), wiring)
        try:
            if hasattr(port, "mirror"):
                assert await port.mirror.catch_up(patient=False)
            yield Desk(row.vendor, sandbox, port, world)
        finally:
            await port.close()
            await ledger.close()


@pytest.fixture(
    scope="session", params=[row for row in REGISTRY if row.kind is Kind.HELPDESK], ids=lambda row: row.vendor
)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


@pytest_asyncio.fixture(scope="session")
async def company(row: Row, world: World, postgres: str) -> AsyncIterator[Desk]:
    async with opened(row, world, postgres) as desk:
        yield desk


@pytest_asyncio.fixture
async def desk(company: Desk) -> AsyncIterator[Desk]:
    company.sandbox.log.clear()
    yield company
    company.sandbox.faults.clear()


@pytest_asyncio.fixture(scope="session")
async def crowded_company(row: Row, postgres: str) -> AsyncIterator[Desk]:
    """One customer has 10,000 tickets."""
    world = World.build(scale=0.3).with_large_account(1, invoices=0, tickets=10_000)
    async with opened(row, world, postgres) as desk:
        yield desk


@pytest_asyncio.fixture
async def crowded(crowded_company: Desk) -> Desk:
    crowded_company.sandbox.log.clear()
    return crowded_company


# Customers


async def test_customers_come_in_the_order_asked_with_none_for_the_unknown(desk: Desk) -> None:
    known = [desk.customer(index) for index in (5, 0, 2)]
    found = await desk.port.customers([known[0], desk.ref(123), known[1], known[0], known[2]])
    assert [record and record.ref for record in found] == [known[0], None, known[1], known[0], known[2]]


async def test_a_customer_says_what_matching_compares(desk: Desk) -> None:
    account = desk.world.accounts[0]
    [record] = await desk.port.customers([desk.customer(0)])
    assert record == CustomerRecord(
        ref=desk.customer(0),
        name=account.helpdesk_name,
        external_id=account.zendesk_external_id,
        domains=account.zendesk_domains,
    )


async def test_customers_are_read_by_the_hundred(desk: Desk) -> None:
    asked = desk.first(120)
    found = await desk.port.customers(asked)
    assert [record and record.ref for record in found] == asked
    assert desk.calls() == FEWEST_CALLS[desk.vendor]["customers"]


async def test_customers_are_found_by_the_id_that_the_firm_gave_them(desk: Desk) -> None:
    known = [account for account in desk.customers if account.zendesk_external_id][:3]
    values = [known[2].zendesk_external_id, "C-99999", known[0].zendesk_external_id]
    found = await desk.port.customers_by(Criterion.EXTERNAL_ID, [str(value) for value in values])
    assert [ids(records) for records in found] == [
        [str(known[2].zendesk_org_id)],
        [],
        [str(known[0].zendesk_org_id)],
    ]


async def test_customers_are_found_by_domain_with_all_that_share_it(desk: Desk) -> None:
    accounts = desk.world.accounts
    duplicate = desk.world.duplicate_organisations[0]
    found = await desk.port.customers_by(
        Criterion.EMAIL_DOMAIN, [accounts[2].domain.upper(), "nobody.example", accounts[5].domain]
    )
    assert [sorted(ids(records)) for records in found] == [
        sorted([desk.customer(2).id, desk.customer(4).id]),
        [],
        sorted([desk.customer(5).id, str(duplicate.zendesk_org_id)]),
    ]


async def test_a_number_that_is_not_configured_finds_nobody(desk: Desk) -> None:
    assert list(await desk.port.customers_by(Criterion.NUMBER, ["C-10001", ""])) == [[], []]


@pytest.mark.parametrize("criterion", Criterion)
async def test_hostile_values_find_nobody(desk: Desk, criterion: Criterion) -> None:
    assert list(await desk.port.customers_by(criterion, HOSTILE)) == [[] for _ in HOSTILE]


# Tickets


async def test_a_ticket_is_told_as_it_is(desk: Desk) -> None:
    truth = next(
        ticket
        for ticket in desk.world.tickets
        if ticket.status == "hold" and ticket.due_at and ticket.priority and ticket.tags
    )
    [record] = await desk.port.tickets([desk.ref(truth.id)])
    on_hold, priorities = SOURCE_WORDS.get(desk.vendor, ("hold", {truth.priority: truth.priority}))
    assert record == TicketRecord(
        ref=desk.ref(truth.id),
        customer=desk.ref(truth.zendesk_org_id),
        number=str(truth.id),
        subject=truth.subject,
        status=TicketStatus.ON_HOLD,
        source_status=on_hold,
        priority=TicketPriority(truth.priority),
        source_priority=priorities[truth.priority],
        type=truth.type,
        tags=truth.tags,
        created_at=truth.created_at,
        updated_at=truth.updated_at,
        due_at=truth.due_at,
        custom={desk.region.property: truth.custom_fields[REGION_FIELD_ID]},
    )


async def test_a_ticket_without_a_priority_has_none(desk: Desk) -> None:
    truth = next(ticket for ticket in desk.world.tickets if ticket.priority is None)
    [record] = await desk.port.tickets([desk.ref(truth.id)])
    assert record is not None
    assert (record.priority, record.source_priority) == (None, None)


async def test_ids_beyond_a_float_are_exact(desk: Desk) -> None:
    large = [ticket.id for ticket in desk.world.tickets if ticket.id > 2**53]
    assert large
    found = await desk.port.tickets([desk.ref(id_) for id_ in large])
    assert [record and record.ref.id for record in found] == [str(id_) for id_ in large]


async def test_tickets_come_in_the_order_asked_with_none_for_the_unknown(desk: Desk) -> None:
    known = [desk.ref(ticket.id) for ticket in desk.world.tickets[:150]]
    asked = [known[7], desk.ref(42), *reversed(known)]
    found = await desk.port.tickets(asked)
    assert [record and record.ref for record in found] == [known[7], None, *reversed(known)]
    assert desk.calls() == FEWEST_CALLS[desk.vendor]["tickets"]


async def test_nothing_asked_costs_nothing(desk: Desk) -> None:
    window = Window(first=10)
    assert list(await desk.port.customers([])) == []
    assert list(await desk.port.customers_by(Criterion.EMAIL_DOMAIN, [])) == []
    assert list(await desk.port.tickets([])) == []
    assert list(await desk.port.tickets_of([], TicketQuery(window))) == []
    assert list(await desk.port.open_counts_of([])) == []
    assert list(await desk.port.comments_of([], CommentQuery(window))) == []
    assert desk.calls() == 0


async def test_ids_of_another_form_are_no_records_and_cost_no_call(desk: Desk) -> None:
    refs = [desk.ref(id_) for id_ in HOSTILE]
    nothing = [Page([], []) for _ in refs]
    assert list(await desk.port.customers(refs)) == [None for _ in refs]
    assert list(await desk.port.tickets(refs)) == [None for _ in refs]
    assert list(await desk.port.tickets_of(refs, TicketQuery(Window(first=5)))) == nothing
    assert list(await desk.port.open_counts_of(refs)) == [0 for _ in refs]
    assert list(await desk.port.comments_of(refs, CommentQuery(Window(first=5)))) == nothing
    assert [await desk.port.attachment(ref, "1", True) for ref in refs] == [None for _ in refs]
    assert [await desk.port.attachment(desk.ref(1), id_, True) for id_ in HOSTILE] == [None for _ in HOSTILE]
    assert desk.calls() == 0


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("order", TicketOrder)
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
async def test_pages_cover_everything_exactly_once_and_in_order(
    desk: Desk, order: TicketOrder, direction: Direction, backwards: bool
) -> None:
    customer = desk.customer(0)
    rows, pages = await desk.walk(customer, backwards, 4, order=order, direction=direction)
    assert sorted(ids(rows)) == sorted(str(ticket.id) for ticket in desk.tickets(customer))
    places = [place(order)(row) for row in rows]
    assert places == sorted(places, reverse=direction is Direction.DESC)
    outer = [page.has_next if backwards else page.has_previous for page in pages]
    assert outer == [False, *(True for _ in pages[1:])]


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
async def test_pages_of_many_customers_cover_everything_exactly_once(desk: Desk, backwards: bool) -> None:
    customers = desk.first(30)
    found: dict[str, list[str]] = {customer.id: [] for customer in customers}
    keys: dict[Key | None, list[Ref]] = {None: customers}
    rounds = 0
    while keys:
        rounds += 1
        following: dict[Key | None, list[Ref]] = {}
        for key, some in keys.items():
            window = Window(last=20, before=key) if backwards else Window(first=20, after=key)
            for customer, page in zip(
                some, await desk.port.tickets_of(some, TicketQuery(window)), strict=True
            ):
                assert isinstance(page, Page)
                found[customer.id] += ids(page.rows)
                if page.has_previous if backwards else page.has_next:
                    following.setdefault(page.keys[0 if backwards else -1], []).append(customer)
        keys = following
    assert rounds > 1
    for customer in customers:
        assert sorted(found[customer.id]) == sorted(str(ticket.id) for ticket in desk.tickets(customer))


async def test_both_ends_of_a_window_hold(desk: Desk) -> None:
    customer = desk.customer(0)
    whole = await desk.page(customer, TicketQuery(Window(first=100)))
    between = Window(first=100, after=whole.keys[3], before=whole.keys[9])
    assert ids((await desk.page(customer, TicketQuery(between))).rows) == ids(whole.rows[4:9])


async def test_a_page_of_nothing_still_tells_whether_there_is_more(desk: Desk) -> None:
    page = await desk.page(desk.customer(0), TicketQuery(Window(first=0)))
    assert (list(page.rows), page.has_next) == ([], True)


async def test_every_row_names_the_customer_that_the_vendor_names(desk: Desk) -> None:
    customers = desk.first(12)
    for customer, page in zip(
        customers, await desk.port.tickets_of(customers, TicketQuery(Window(first=50))), strict=True
    ):
        assert isinstance(page, Page)
        assert {row.customer for row in page.rows} <= {customer}
        assert len(page.rows) == len(desk.tickets(customer))


async def test_customers_may_repeat_and_may_be_unknown(desk: Desk) -> None:
    one, other = desk.customer(0), desk.customer(1)
    pages = await desk.port.tickets_of([one, desk.ref(77), other, one], TicketQuery(Window(first=3)))
    assert pages[0] == pages[3]
    assert pages[1] == Page([], [])
    assert [len(page.rows) for page in pages if isinstance(page, Page)] == [3, 0, 3, 3]


FILTERS: dict[str, tuple[dict[str, Any], Callable[[Ticket, World], bool]]] = {
    "open": (
        {"statuses": OPEN_STATUSES},
        lambda ticket, world: STATUS_OF[ticket.status] in OPEN_STATUSES,
    ),
    "closed": (
        {"statuses": (TicketStatus.CLOSED, TicketStatus.UNKNOWN)},
        lambda ticket, world: ticket.status == "closed",
    ),
    "unknown status": ({"statuses": (TicketStatus.UNKNOWN,)}, lambda ticket, world: False),
    "high or urgent": (
        {"priorities": (TicketPriority.HIGH, TicketPriority.URGENT)},
        lambda ticket, world: ticket.priority in ("high", "urgent"),
    ),
    "unknown priority": ({"priorities": (TicketPriority.UNKNOWN,)}, lambda ticket, world: False),
    "updated since": (
        {"updated_since": 60},
        lambda ticket, world: ticket.updated_at >= moment(world, 60),
    ),
    "created since": (
        {"created_since": 90},
        lambda ticket, world: ticket.created_at >= moment(world, 90),
    ),
    "a word of the subject": ({"text": "Invoice"}, lambda ticket, world: "Invoice" in ticket.subject),
    "some words of the subject": (
        {"text": "  wrong   vat number "},
        lambda ticket, world: "wrong VAT number" in ticket.subject,
    ),
    "blank text": ({"text": "  "}, lambda ticket, world: True),
    "a firm's own field": (
        {"conditions": (Condition(REGION, equals=("emea", "apac")),)},
        lambda ticket, world: ticket.custom_fields[REGION_FIELD_ID] in ("emea", "apac"),
    ),
    "none of a firm's own field": (
        {"conditions": (Condition(REGION, equals=()),)},
        lambda ticket, world: False,
    ),
    "several at once": (
        {
            "statuses": (TicketStatus.CLOSED, TicketStatus.SOLVED),
            "priorities": (TicketPriority.NORMAL,),
            "created_since": 300,
        },
        lambda ticket, world: (
            ticket.status in ("closed", "solved")
            and ticket.priority == "normal"
            and ticket.created_at >= moment(world, 300)
        ),
    ),
}


def moment(world: World, days: int) -> Any:
    """The creation of a ticket about so many days ago, so that the bound's own row is at stake."""
    latest = max(ticket.created_at for ticket in world.tickets)
    return min(
        (ticket.created_at for ticket in world.tickets_by_account[0]),
        key=lambda created: abs(latest - created - timedelta(days=days)),
    )


@pytest.mark.parametrize("order", TicketOrder)
@pytest.mark.parametrize("name", FILTERS)
async def test_filters_agree_with_the_truth(desk: Desk, name: str, order: TicketOrder) -> None:
    asked, fits = FILTERS[name]
    query = {
        key: moment(desk.world, value) if key.endswith("_since") else value for key, value in asked.items()
    }
    customers = desk.first(8)
    pages = await desk.port.tickets_of(
        customers, desk.own(TicketQuery(Window(first=100), order=order, **query))
    )
    for customer, page in zip(customers, pages, strict=True):
        assert isinstance(page, Page)
        assert sorted(ids(page.rows)) == sorted(
            str(ticket.id) for ticket in desk.tickets(customer) if fits(ticket, desk.world)
        )


async def test_text_does_not_look_into_internal_notes(desk: Desk) -> None:
    page = await desk.page(desk.customer(0), TicketQuery(Window(first=100), text=INTERNAL_MARK))
    assert list(page.rows) == []


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_finds_nothing_or_is_refused(desk: Desk, text: str) -> None:
    if not text.strip():
        return
    try:
        page = await desk.page(desk.customer(1), TicketQuery(Window(first=100), text=text))
    except InvalidRequest:
        return
    assert list(page.rows) == []


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_hostile_value_of_a_firms_own_field_finds_nothing_or_is_refused(
    desk: Desk, value: str
) -> None:
    condition = Condition(REGION, equals=(value,))
    try:
        page = await desk.page(desk.customer(1), TicketQuery(Window(first=100), conditions=(condition,)))
    except InvalidRequest:
        return
    assert list(page.rows) == []


@pytest.mark.parametrize("order", TicketOrder)
async def test_a_forged_key_is_refused(desk: Desk, order: TicketOrder) -> None:
    forged = Key('2026-01-01T00:00:00Z organization:360000100000 "', "1")
    with pytest.raises(InvalidRequest):
        await desk.page(desk.customer(1), TicketQuery(Window(first=5, after=forged), order=order))
    assert desk.calls() == 0


async def test_a_range_over_text_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="region"):
        await desk.page(
            desk.customer(1),
            TicketQuery(Window(first=5), conditions=(Condition(REGION, minimum="a"),)),
        )


# Calls


async def test_the_home_page_costs_the_fewest_calls(desk: Desk) -> None:
    page = await desk.page(desk.customer(0), TicketQuery(Window(first=10)))
    assert len(page.rows) == 10
    assert desk.calls() == FEWEST_CALLS[desk.vendor]["home"]


@pytest.mark.parametrize("order", TicketOrder)
async def test_the_dashboard_costs_the_fewest_calls(desk: Desk, order: TicketOrder) -> None:
    customers = desk.first(50)
    pages = await desk.port.tickets_of(customers, TicketQuery(Window(first=10), order=order))
    for customer, page in zip(customers, pages, strict=True):
        assert isinstance(page, Page)
        assert len(page.rows) == min(10, len(desk.tickets(customer)))
        assert page.has_next == (len(desk.tickets(customer)) > 10)
    assert desk.calls() == FEWEST_CALLS[desk.vendor]["dashboard"]


async def test_a_crowded_customer_neither_starves_the_others_nor_is_read_to_its_end(crowded: Desk) -> None:
    customers = crowded.first(50)
    pages = await crowded.port.tickets_of(customers, TicketQuery(Window(first=10)))
    for customer, page in zip(customers, pages, strict=True):
        assert isinstance(page, Page)
        newest = sorted(crowded.tickets(customer), key=lambda ticket: ticket.created_at, reverse=True)
        assert [row.created_at for row in page.rows] == [ticket.created_at for ticket in newest[:10]]
    assert crowded.calls() == FEWEST_CALLS[crowded.vendor]["crowded dashboard"]


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("order", TicketOrder)
async def test_the_first_and_the_last_of_10_000_are_a_few_calls_away(
    crowded: Desk, order: TicketOrder, direction: Direction
) -> None:
    customer = crowded.customer(1)
    truth = sorted(
        (place(order)(record) for record in map(as_record, crowded.tickets(customer))),
        reverse=direction is Direction.DESC,
    )
    first = await crowded.page(customer, TicketQuery(Window(first=20), order=order, direction=direction))
    last = await crowded.page(customer, TicketQuery(Window(last=20), order=order, direction=direction))
    assert [place(order)(row) for row in first.rows] == truth[:20]
    assert [place(order)(row) for row in last.rows] == truth[-20:]
    assert (first.has_next, last.has_previous) == (True, True)
    assert crowded.calls() <= 10


@pytest.mark.parametrize("order", TicketOrder)
async def test_pages_deep_inside_10_000_follow_one_another(crowded: Desk, order: TicketOrder) -> None:
    customer = crowded.customer(1)
    seen: Counter[str] = Counter()
    key: Key | None = None
    last: Any = None
    for _ in range(12):
        page = await crowded.page(customer, TicketQuery(Window(first=100, after=key), order=order))
        places = [place(order)(row) for row in page.rows]
        assert places == sorted(places, reverse=True)
        assert last is None or places[0] <= last
        last, key = places[-1], page.keys[-1]
        seen.update(ids(page.rows))
    assert (len(seen), set(seen.values())) == (1200, {1})


def as_record(ticket: Ticket) -> Any:
    class Record:
        created_at, updated_at = ticket.created_at, ticket.updated_at
        priority = TicketPriority(ticket.priority) if ticket.priority else None

    return Record


# Counts


async def test_open_tickets_are_counted(desk: Desk) -> None:
    customers = [*desk.first(40), desk.ref(77), desk.customer(0)]
    counts = await desk.port.open_counts_of(customers)
    assert list(counts) == [
        sum(STATUS_OF[ticket.status] in OPEN_STATUSES for ticket in desk.tickets(customer))
        for customer in customers
    ]
    assert desk.calls() == FEWEST_CALLS[desk.vendor]["open counts"]


async def test_one_customers_open_tickets_are_counted_in_one_call(desk: Desk) -> None:
    [count] = await desk.port.open_counts_of([desk.customer(0)])
    assert count == sum(
        STATUS_OF[ticket.status] in OPEN_STATUSES for ticket in desk.tickets(desk.customer(0))
    )
    assert desk.calls() == FEWEST_CALLS[desk.vendor]["open count"]


async def test_open_tickets_are_counted_beside_a_crowded_customer(crowded: Desk) -> None:
    customers = crowded.first(40)
    counts = await crowded.port.open_counts_of(customers)
    assert list(counts) == [
        sum(STATUS_OF[ticket.status] in OPEN_STATUSES for ticket in crowded.tickets(customer))
        for customer in customers
    ]
    assert crowded.calls() <= FEWEST_CALLS[crowded.vendor]["crowded open counts"]


# Comments and attachments


async def test_comments_come_oldest_first_and_without_internal_ones(desk: Desk) -> None:
    tickets = desk.world.tickets_by_account[0]
    pages = await desk.port.comments_of(
        [desk.ref(ticket.id) for ticket in tickets], CommentQuery(Window(first=50))
    )
    for ticket, page in zip(tickets, pages, strict=True):
        assert isinstance(page, Page)
        said = [(row.body, row.author_name, row.created_at, row.public) for row in page.rows]
        assert sorted(said) == sorted(
            (comment.body, comment.author_name, comment.created_at, True)
            for comment in ticket.comments
            if comment.public
        )
        assert [row.created_at for row in page.rows] == sorted(row.created_at for row in page.rows)
        assert {row.ticket for row in page.rows} <= {desk.ref(ticket.id)}


async def test_internal_comments_count_in_pages_only_where_they_are_asked_for(desk: Desk) -> None:
    ticket = next(
        ticket
        for ticket in desk.world.tickets
        if not ticket.comments[-1].public and sum(comment.public for comment in ticket.comments) == 2
    )
    refs = [desk.ref(ticket.id)]
    [public] = await desk.port.comments_of(refs, CommentQuery(Window(first=2)))
    [everything] = await desk.port.comments_of(refs, CommentQuery(Window(first=2), internal=True))
    assert isinstance(public, Page)
    assert isinstance(everything, Page)
    assert (len(public.rows), public.has_next) == (2, False)
    assert (len(everything.rows), everything.has_next) == (2, True)


async def test_internal_comments_say_that_they_are(desk: Desk) -> None:
    tickets = desk.world.tickets_by_account[0]
    pages = await desk.port.comments_of(
        [desk.ref(ticket.id) for ticket in tickets], CommentQuery(Window(first=50), internal=True)
    )
    rows = [row for page in pages if isinstance(page, Page) for row in page.rows]
    assert any(not row.public for row in rows)
    assert {row.public is (INTERNAL_MARK not in (row.body or "")) for row in rows} == {True}


async def test_pages_of_comments_cover_everything_exactly_once(desk: Desk) -> None:
    ticket = max(desk.world.tickets, key=lambda ticket: len(ticket.comments))
    found: list[str] = []
    window = Window(last=2)
    while True:
        [page] = await desk.port.comments_of([desk.ref(ticket.id)], CommentQuery(window, internal=True))
        assert isinstance(page, Page)
        found = [*ids(page.rows), *found]
        if not page.has_previous:
            break
        window = Window(last=2, before=page.keys[0])
    assert len(found) == len(set(found)) == len(ticket.comments)


async def test_a_ticket_that_does_not_exist_has_no_comments(desk: Desk) -> None:
    [page] = await desk.port.comments_of([desk.ref(42)], CommentQuery(Window(first=5)))
    assert page == Page([], [])


async def test_an_attachment_gives_its_bytes(desk: Desk) -> None:
    for ticket in desk.world.tickets[:400]:
        for comment in ticket.comments:
            for attachment in comment.attachments:
                content = await desk.port.attachment(desk.ref(ticket.id), str(attachment.id), True)
                assert content is not None
                assert (content.body, content.media_type, content.file_name) == (
                    attachment.content,
                    attachment.content_type,
                    attachment.file_name,
                )


async def test_an_attachment_of_an_internal_comment_is_none_to_a_customer(desk: Desk) -> None:
    ticket, attachment = next(
        (ticket, attachment)
        for ticket in desk.world.tickets
        for comment in ticket.comments
        if not comment.public
        for attachment in comment.attachments
    )
    assert await desk.port.attachment(desk.ref(ticket.id), str(attachment.id), False) is None


async def test_an_attachment_is_none_on_another_ticket(desk: Desk) -> None:
    attachment = next(iter(desk.world.attachments_by_id))
    other = next(
        ticket for ticket in desk.world.tickets if not any(comment.attachments for comment in ticket.comments)
    )
    assert await desk.port.attachment(desk.ref(other.id), str(attachment), True) is None


# Articles


async def test_articles_are_found_without_drafts(desk: Desk) -> None:
    page = await desk.port.search_articles(ArticleQuery("invoice", Window(first=50)))
    assert page.rows
    published = {str(article.id): article for article in desk.world.articles if not article.draft}
    for row in page.rows:
        article = published[row.ref.id]
        assert (row.title, row.locale, row.updated_at) == (article.title, article.locale, article.updated_at)
        assert row.url is not None
        assert row.url.endswith(article.url_path) or row.url.endswith(f"/articles/{article.id}")
        assert row.snippet is not None
        assert "<" not in row.snippet


async def test_articles_are_found_in_the_language_asked_for(desk: Desk) -> None:
    page = await desk.port.search_articles(ArticleQuery("you", Window(first=50), locale="de"))
    assert {row.locale for row in page.rows} == {"de"}


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_pages_of_articles_cover_every_hit_in_both_directions(desk: Desk, size: int) -> None:
    whole = await desk.port.search_articles(ArticleQuery("you", Window(first=100)))
    assert len(whole.rows) > size
    forward: list[str] = []
    backward: list[str] = []
    window = Window(first=size)
    while True:
        page = await desk.port.search_articles(ArticleQuery("you", window))
        forward += ids(page.rows)
        assert page.has_previous == (window.after is not None)
        if not page.has_next:
            break
        window = Window(first=size, after=page.keys[-1])
    window = Window(last=size)
    while True:
        page = await desk.port.search_articles(ArticleQuery("you", window))
        backward = [*ids(page.rows), *backward]
        assert page.has_next == (window.before is not None)
        if not page.has_previous:
            break
        window = Window(last=size, before=page.keys[0])
    assert forward == backward == ids(whole.rows)


async def test_nothing_is_found_for_blank_text(desk: Desk) -> None:
    assert await desk.port.search_articles(ArticleQuery("  ", Window(first=5))) == Page([], [])
    assert desk.calls() == 0


async def test_a_locale_of_another_form_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="locale"):
        await desk.port.search_articles(ArticleQuery("invoice", Window(first=5), locale="en&draft=1"))


# When the vendor misbehaves

TROUBLE: dict[str, tuple[dict[str, Any], type[SourceError]]] = {
    "refuses the credentials": ({"kind": "fail", "status": 401}, SourceRejected),
    "refuses permission": ({"kind": "fail", "status": 403}, SourceRejected),
    "is not there": ({"kind": "fail", "status": 404}, SourceRejected),
    "fails": ({"kind": "fail", "status": 500}, SourceUnavailable),
    "is down": ({"kind": "fail", "status": 503}, SourceUnavailable),
    "hangs up": ({"kind": "drop"}, SourceUnavailable),
    "talks nonsense": ({"kind": "garbage"}, SourceBadResponse),
    "limits the rate": ({"kind": "rate_limit", "retry_after": 7}, SourceRateLimited),
}


@pytest.mark.parametrize("name", TROUBLE)
async def test_trouble_becomes_an_error_of_ours(desk: Desk, name: str) -> None:
    fault, expected = TROUBLE[name]
    settings = dict(fault)
    desk.sandbox.faults.add(settings.pop("kind"), **settings)
    customer = desk.customer(0)
    ticket = desk.ref(desk.world.tickets[0].id)
    [page] = await desk.port.tickets_of([customer], TicketQuery(Window(first=5)))
    [count] = await desk.port.open_counts_of([customer])
    if desk.mirrored:
        # What is mirrored is there whatever the vendor does; what is read live is not.
        assert isinstance(page, Page)
        assert isinstance(count, int)
        assert [record and record.ref for record in await desk.port.customers([customer])] == [customer]
        [said] = await desk.port.comments_of([ticket], CommentQuery(Window(first=5)))
        if name == "is not there":
            assert said == Page([], [])
        else:
            assert isinstance(said, expected)
        return
    assert isinstance(page, expected)
    assert isinstance(count, expected)
    with pytest.raises(expected) as raised:
        await desk.port.tickets([ticket])
    assert raised.value.source == desk.vendor
    assert expected is not SourceRateLimited or raised.value.retry_after == 7
    with pytest.raises(expected):
        await desk.port.customers([customer])


async def test_silence_ends_at_the_deadline(desk: Desk) -> None:
    desk.sandbox.faults.add("hang")
    with deadline(0.2):
        [page] = await desk.port.tickets_of([desk.customer(0)], TicketQuery(Window(first=5)))
        [comments] = await desk.port.comments_of(
            [desk.ref(desk.world.tickets[0].id)], CommentQuery(Window(first=5))
        )
    assert isinstance(page, Page if desk.mirrored else SourceTimeout)
    assert isinstance(comments, SourceTimeout)


async def test_one_part_that_fails_leaves_the_others(desk: Desk) -> None:
    desk.sandbox.faults.add("fail", status=500, times=1)
    pages = await desk.port.tickets_of(desk.first(50), TicketQuery(Window(first=10)))
    failed = [isinstance(page, SourceError) for page in pages]
    assert sum(failed) < len(pages)
    assert any(failed) != desk.mirrored


async def test_one_ticket_whose_comments_fail_leaves_the_others(desk: Desk) -> None:
    desk.sandbox.faults.add("fail", status=500, times=1)
    refs = [desk.ref(ticket.id) for ticket in desk.world.tickets[:3]]
    pages = await desk.port.comments_of(refs, CommentQuery(Window(first=5)))
    assert sorted(type(page).__name__ for page in pages) == ["Page", "Page", "SourceUnavailable"]


async def test_a_probe_says_whose_credentials_these_are(desk: Desk) -> None:
    probe = await desk.port.probe()
    assert probe.allowed
    assert desk.calls() == 1


async def test_a_probe_with_refused_credentials_says_what_to_mend(desk: Desk) -> None:
    desk.sandbox.faults.add("fail", status=401)
    probe = await desk.port.probe()
    assert not probe.allowed
    assert "check" in probe.detail


async def test_a_probe_of_a_vendor_that_is_down_raises(desk: Desk) -> None:
    desk.sandbox.faults.add("fail", status=503)
    with pytest.raises(SourceUnavailable):
        await desk.port.probe()
