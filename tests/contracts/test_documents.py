"""What every document store must do, whichever vendor fills the port."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC
from typing import Any, NamedTuple, cast

import pytest

from sources.ports.common import Criterion, Direction, Page, Ref, Window
from sources.ports.documents import (
    DocumentKind,
    DocumentOrder,
    DocumentQuery,
    DocumentRecord,
    Documents,
)
from sources.ports.errors import (
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.tokens import TokenStore
from sources.registry import REGISTRY, Kind, Row
from sources.sandbox.facts import Account, Document
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.deadline import deadline
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring

ROWS = [row for row in REGISTRY if row.kind is Kind.DOCUMENTS]

CALLS: dict[str, Callable[[int], int]] = {"s3": lambda customers: customers}
"""The fewest calls that a vendor's API allows for the documents of so many small customers."""

KINDS = {
    "contracts": DocumentKind.CONTRACT,
    "certificates": DocumentKind.CERTIFICATE,
    "guides": DocumentKind.GUIDE,
    "reports": DocumentKind.REPORT,
    "invoices": DocumentKind.INVOICE,
    "statements": DocumentKind.STATEMENT,
}

NEWEST = DocumentQuery(Window(first=10))
EVERYTHING = DocumentQuery(Window(first=100))


class Store(NamedTuple):
    """A connector, the sandbox that it speaks to, and the truth behind that."""

    vendor: str
    port: Documents
    sandbox: Sandbox
    world: World

    async def folder(self, account: Account) -> Ref:
        [[customer]] = await self.port.customers_by(Criterion.NUMBER, [account.account_number])
        return customer.ref

    async def pages(self, accounts: Sequence[Account], query: DocumentQuery) -> list[Page[DocumentRecord]]:
        answers = await self.port.documents_of([await self.folder(account) for account in accounts], query)
        assert not [answer for answer in answers if isinstance(answer, SourceError)]
        return cast("list[Page[DocumentRecord]]", list(answers))

    async def rows(self, account: Account, query: DocumentQuery = EVERYTHING) -> Sequence[DocumentRecord]:
        [page] = await self.pages([account], query)
        return page.rows

    def truth(self, account: Account) -> dict[str, Document]:
        """By file name, which is unique within an account."""
        return {document.file_name: document for document in self.world.documents_by_account[account.index]}


async def opened(row: Row, world: World) -> AsyncIterator[Store]:
    sandbox = row.sandbox.sandbox(world)
    async with serve(sandbox) as running:
        wiring = Wiring(tokens=cast(TokenStore, None), network=Network(guarded=False))
        port = row.connect(row.sandbox.settings_for(running.url), wiring)
        yield Store(row.vendor, port, sandbox, world)
        await port.close()


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.vendor)
async def running(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Store]:
    async for store in opened(request.param, world):
        yield store


@pytest.fixture
async def store(running: Store) -> AsyncIterator[Store]:
    running.sandbox.log.clear()
    yield running
    running.sandbox.faults.clear()


async def test_customers_are_found_by_their_number_in_the_order_asked(store: Store) -> None:
    numbers = [store.world.accounts[i].account_number for i in (7, 0, 7)]

    answers = await store.port.customers_by(Criterion.NUMBER, [*numbers, "../C-10001", ""])

    assert [[customer.number for customer in found] for found in answers] == [[n] for n in numbers] + [[], []]


async def test_a_customer_that_was_found_can_be_read_again(store: Store) -> None:
    [[found]] = await store.port.customers_by(Criterion.NUMBER, ["C-10001"])

    assert await store.port.customers([found.ref, Ref("elsewhere", found.ref.id), found.ref]) == [
        found,
        None,
        found,
    ]


async def test_nobody_is_found_by_an_e_mail_domain_that_nobody_has(store: Store) -> None:
    assert await store.port.customers_by(Criterion.EMAIL_DOMAIN, ["nobody.example"]) == [[]]


async def test_a_document_is_what_the_world_says_it_is(store: Store) -> None:
    account = store.world.accounts[0]
    folder, truth = await store.folder(account), store.truth(account)

    rows = await store.rows(account)

    assert {row.file_name for row in rows} == set(truth)
    for row in rows:
        document = truth[row.file_name]
        assert (row.customer, row.kind, row.source_kind) == (folder, KINDS[document.kind], document.kind)
        assert (row.tags, row.title) == (document.tags, document.file_name.rsplit(".", 1)[0])
        assert (row.size, row.media_type) == (len(document.versions[-1].content), document.content_type)
        assert row.updated_at is not None
        assert row.updated_at.tzinfo is UTC


async def test_documents_come_in_the_order_asked_and_missing_ones_are_none(store: Store) -> None:
    a, b, *_ = await store.rows(store.world.accounts[0])
    missing = Ref(a.ref.source, a.ref.id + "x")

    assert await store.port.documents([b.ref, missing, a.ref, b.ref]) == [b, None, a, b]


async def test_nothing_asked_costs_nothing(store: Store) -> None:
    assert list(await store.port.documents([])) == []
    assert list(await store.port.documents_of([], NEWEST)) == []
    assert list(await store.port.versions_of([])) == []
    assert list(await store.port.customers([])) == []
    assert list(await store.port.customers_by(Criterion.NUMBER, [])) == []
    assert store.sandbox.log.count() == 0


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("order", DocumentOrder)
async def test_pages_cover_everything_once_forwards_and_backwards(
    store: Store, order: DocumentOrder, direction: Direction
) -> None:
    account = store.world.accounts[0]
    count = len(store.truth(account))

    def asked(window: Window) -> DocumentQuery:
        return DocumentQuery(window, order=order, direction=direction)

    [whole] = await store.pages([account], asked(Window(first=100)))
    forwards: list[DocumentRecord] = []
    backwards: list[DocumentRecord] = []
    window = Window(first=4)
    while True:
        [page] = await store.pages([account], asked(window))
        forwards += page.rows
        assert page.has_previous == (len(forwards) > len(page.rows))
        assert page.has_next == (len(forwards) < count)
        if not page.has_next:
            break
        window = Window(first=4, after=page.keys[-1])
    window = Window(last=7)
    while True:
        [page] = await store.pages([account], asked(window))
        backwards[:0] = page.rows
        assert page.has_previous == (len(backwards) < count)
        if not page.has_previous:
            break
        window = Window(last=7, before=page.keys[0])

    assert len(whole.rows) == count
    assert forwards == whole.rows == backwards
    values = [
        row.updated_at if order is DocumentOrder.UPDATED_AT else row.title.casefold() for row in forwards
    ]
    assert values == sorted(cast("list[Any]", values), reverse=direction is Direction.DESC)


async def test_documents_of_the_same_moment_are_neither_lost_nor_doubled(store: Store) -> None:
    def ties(page: Page[DocumentRecord]) -> int:
        return max(Counter(row.updated_at for row in page.rows).values(), default=0)

    pages = await store.pages(store.world.accounts, EVERYTHING)
    index = max(range(len(pages)), key=lambda i: ties(pages[i]))
    assert ties(pages[index]) > 1, "the world has no two documents of one moment at one customer"

    seen: list[DocumentRecord] = []
    window = Window(first=1)
    while True:
        [page] = await store.pages([store.world.accounts[index]], DocumentQuery(window))
        seen += page.rows
        if not page.has_next:
            break
        window = Window(first=1, after=page.keys[-1])

    assert seen == pages[index].rows


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"kinds": (DocumentKind.CONTRACT,)}, lambda d: d.kind == "contracts"),
        (
            {"kinds": (DocumentKind.GUIDE, DocumentKind.REPORT)},
            lambda d: d.kind in ("guides", "reports"),
        ),
        ({"kinds": (DocumentKind.OTHER,)}, lambda d: False),
        ({"tags": ("signed",)}, lambda d: "signed" in d.tags),
        ({"tags": ("2025", "signed")}, lambda d: {"2025", "signed"} <= set(d.tags)),
        ({"text": "statement +"}, lambda d: "statement +" in d.file_name.casefold()),
        ({"text": "CONFORMITÉ"}, lambda d: "conformité" in d.file_name.casefold()),
        (
            {"kinds": (DocumentKind.STATEMENT,), "tags": ("2024",), "text": "Reminders"},
            lambda d: d.kind == "statements" and "2024" in d.tags and "reminders" in d.file_name,
        ),
    ],
    ids=lambda value: "agrees" if callable(value) else str(value),
)
async def test_filters_agree_with_the_world(
    store: Store, wanted: dict[str, Any], fits: Callable[[Document], bool]
) -> None:
    accounts = store.world.accounts[:40]

    pages = await store.pages(accounts, DocumentQuery(Window(first=100), **wanted))

    assert [{row.file_name for row in page.rows} for page in pages] == [
        {name for name, document in store.truth(account).items() if fits(document)} for account in accounts
    ]


async def test_many_customers_cost_the_fewest_calls_and_the_same_one_twice_costs_once(store: Store) -> None:
    folders = [await store.folder(account) for account in store.world.accounts[:50]]
    store.sandbox.log.clear()

    pages = await store.port.documents_of([*folders, folders[0]], NEWEST)

    assert store.sandbox.log.count() == CALLS[store.vendor](50)
    assert pages[-1] == pages[0]
    assert all(row.customer == folders[i] for i in range(50) for row in cast(Any, pages[i]).rows)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.vendor)
async def test_a_customer_of_thousands_takes_nothing_from_its_neighbours(row: Row) -> None:
    small = World.build(scale=0.05)
    large = small.with_large_account(0, invoices=2, documents=10_000)
    everybody = large.accounts

    async for store in opened(row, small):
        before = await store.pages(everybody[1:], NEWEST)
    async for store in opened(row, large):
        [first, *others] = await store.pages(everybody, NEWEST)
        assert others == before
        assert len(first.rows) == 10
        assert first.has_next


async def test_versions_are_the_worlds_newest_first_with_the_current_one_at_the_head(store: Store) -> None:
    account = store.world.accounts[0]
    rows, truth = await store.rows(account), store.truth(account)

    histories = await store.port.versions_of([row.ref for row in rows])

    assert max(len(document.versions) for document in truth.values()) > 1
    for row, history in zip(rows, histories, strict=True):
        assert not isinstance(history, SourceError)
        contents = [version.content for version in reversed(truth[row.file_name].versions)]
        assert [version.size for version in history] == [len(content) for content in contents]
        assert [version.current for version in history] == [True] + [False] * (len(contents) - 1)
        assert (history[0].updated_at, history[0].document) == (row.updated_at, row.ref)
        times = [version.updated_at for version in history]
        assert times == sorted(cast("list[Any]", times), reverse=True)


async def test_versions_asked_one_by_one_or_together_are_the_same(store: Store) -> None:
    refs = [row.ref for row in await store.rows(store.world.accounts[1])]

    together = await store.port.versions_of([*refs, refs[0], Ref(refs[0].source, refs[0].id + "x")])

    assert list(together) == [
        *[(await store.port.versions_of([ref]))[0] for ref in refs],
        together[0],
        [],
    ]


async def test_content_is_the_current_versions_or_the_named_ones_bytes(store: Store) -> None:
    account = store.world.accounts[0]
    truth = store.truth(account)
    row = next(row for row in await store.rows(account) if len(truth[row.file_name].versions) > 1)
    document = truth[row.file_name]
    [history] = await store.port.versions_of([row.ref])
    assert not isinstance(history, SourceError)

    current = await store.port.content(row.ref)
    oldest = await store.port.content(row.ref, history[-1].id)

    assert current is not None
    assert (current.body, current.file_name) == (document.versions[-1].content, document.file_name)
    assert current.media_type == document.content_type
    assert oldest is not None
    assert oldest.body == document.versions[0].content


async def test_content_that_is_not_there_is_none(store: Store) -> None:
    [row, *_] = await store.rows(store.world.accounts[0])

    assert await store.port.content(Ref(row.ref.source, row.ref.id + "x")) is None
    assert await store.port.content(row.ref, "0" * 32) is None
    assert await store.port.content(row.ref, "no\r\nversion") is None
    assert await store.port.content(Ref("elsewhere", row.ref.id)) is None


HOSTILE = (
    "",
    "/",
    ".",
    "..",
    "accounts/",
    "accounts//",
    "accounts/C-1000",
    "accounts/C-10001/../C-10002/",
    "accounts/C-10001/../C-10002/contracts/Renewal 006.pdf",
    "/accounts/C-10001/",
    "accounts/C-10001/\x00",
    "accounts/C-10001/\ncontracts/x.pdf",
    "*",
    "' or 1=1",
    "\ud800",
    "x" * 5000,
)


async def test_hostile_ids_name_nothing_and_are_not_sent(store: Store) -> None:
    refs = [Ref(store.port.name, text) for text in HOSTILE]

    assert list(await store.port.customers(refs)) == [None] * len(refs)
    assert list(await store.port.documents(refs)) == [None] * len(refs)
    assert [cast(Any, page).rows for page in await store.port.documents_of(refs, NEWEST)] == [[]] * len(refs)
    assert list(await store.port.versions_of(refs)) == [[]] * len(refs)
    assert [await store.port.content(ref) for ref in refs] == [None] * len(refs)
    for criterion in Criterion:
        assert [list(found) for found in await store.port.customers_by(criterion, HOSTILE)] == [[]] * len(
            refs
        )
    assert store.sandbox.log.count() == 0


async def test_filters_are_text_never_a_language(store: Store) -> None:
    query = DocumentQuery(Window(first=100), tags=("*",), text=".*' or '1'='1")

    assert list(await store.rows(store.world.accounts[0], query)) == []


async def test_a_probe_says_what_the_credentials_open(store: Store) -> None:
    probe = await store.port.probe()

    assert probe.allowed
    assert probe.detail
    assert store.sandbox.log.count() == 1


async def test_a_probe_with_refused_credentials_says_what_to_mend(store: Store) -> None:
    store.sandbox.faults.add("fail", status=403)

    probe = await store.port.probe()

    assert not probe.allowed
    assert store.vendor in probe.detail


FAULTS = [
    ("fail", {"status": 401}, SourceRejected),
    ("fail", {"status": 403}, SourceRejected),
    ("fail", {"status": 404}, SourceError),
    ("fail", {"status": 500}, SourceUnavailable),
    ("fail", {"status": 502}, SourceUnavailable),
    ("rate_limit", {"retry_after": 7}, SourceRateLimited),
    ("garbage", {}, SourceBadResponse),
    ("drop", {}, SourceUnavailable),
    ("hang", {}, SourceTimeout),
]


@pytest.mark.parametrize(("kind", "settings", "expected"), FAULTS, ids=str)
async def test_a_failing_vendor_becomes_our_error_for_each_customer(
    store: Store, kind: str, settings: dict[str, Any], expected: type[SourceError]
) -> None:
    folders = [await store.folder(account) for account in store.world.accounts[:2]]
    store.sandbox.faults.add(cast(Any, kind), **settings)

    with deadline(0.3):
        answers = await store.port.documents_of(folders, NEWEST)

    assert [isinstance(answer, expected) for answer in answers] == [True, True]
    assert all(cast(SourceError, answer).source == store.vendor for answer in answers)
    if kind == "rate_limit":
        assert [cast(SourceError, answer).retry_after for answer in answers] == [7, 7]


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [fault for fault in FAULTS if fault[1].get("status") not in (403, 404)],
    ids=str,
)
async def test_a_failing_vendor_never_reads_as_a_missing_document(
    store: Store, kind: str, settings: dict[str, Any], expected: type[SourceError]
) -> None:
    [row, *_] = await store.rows(store.world.accounts[0])
    store.sandbox.faults.add(cast(Any, kind), **settings)

    with deadline(0.3):
        with pytest.raises(expected):
            await store.port.documents([row.ref])
        [history] = await store.port.versions_of([row.ref])
        assert isinstance(history, expected)
        with pytest.raises(expected):
            await store.port.content(row.ref)


async def test_one_customer_failing_leaves_the_others(store: Store) -> None:
    folders = [await store.folder(account) for account in store.world.accounts[:5]]
    store.sandbox.faults.add("fail", status=500, times=1)

    answers = await store.port.documents_of(folders, NEWEST)

    assert sorted(isinstance(answer, SourceError) for answer in answers) == [False] * 4 + [True]
