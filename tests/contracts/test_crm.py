"""What any CRM connector gives, whichever vendor is behind it: every CRM of the registry passes this."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio

from sources.ports.common import Condition, CustomField, Direction, Key, Page, Ref, Scalar, Window
from sources.ports.crm import (
    AccountOrder,
    AccountQuery,
    AccountRecord,
    Address,
    ContactOrder,
    ContactQuery,
    ContactRecord,
    Crm,
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
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import Account, Contact, World
from sources.transport.deadline import deadline
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring

FEWEST_CALLS = {"hubspot": {"home": 3, "contacts of 30": 2, "contacts by id": 2, "250 accounts": 3}}
"""Per vendor: what the pages of the portal cost, given its batch sizes."""

TIER = CustomField(
    "Account",
    "tier",
    "customer_tier",
    Scalar.ENUM,
    "The customer's tier.",
    values=(("gold", "GOLD"), ("silver", "SILVER")),
)
RENEWAL = CustomField("Account", "renewalDate", "renewal_date", Scalar.DATE, "When the contract ends.")
HOSTILE = (
    '"',
    '"}]},{"x":"',
    "' OR '1'='1",
    "9999900000,9999907919",
    "../contacts",
    "%2e%2e",
    "\x00",
    "९९९९९००००००",
    "-1",
    "0",
    "9" * 40,
    "",
)
BOTH_WAYS = [(order, direction) for order in AccountOrder for direction in Direction]


class Customers:
    """A connector, the emulator that it talks to and the truth behind both."""

    def __init__(self, vendor: str, sandbox: Sandbox, crm: Crm, world: World) -> None:
        self.vendor, self.sandbox, self.crm, self.world = vendor, sandbox, crm, world

    def ref(self, record: Account | Contact) -> Ref:
        return Ref(self.vendor, record.hubspot_id)

    def people(self, account: Account, order: ContactOrder = ContactOrder.ADDED) -> list[str]:
        """The ids of those that are not archived, first to last."""

        def place(person: Contact) -> Any:
            if order is ContactOrder.NAME:
                return person.last_name.casefold(), person.first_name.casefold(), person.hubspot_id
            return int(person.hubspot_id)

        people = [one for one in self.world.contacts_by_account[account.index] if not one.archived]
        return [person.hubspot_id for person in sorted(people, key=place)]

    async def page_of(self, account: Account, query: ContactQuery) -> Page[ContactRecord]:
        [page] = await self.crm.contacts_of([self.ref(account)], query)
        assert not isinstance(page, SourceError)
        return page


@asynccontextmanager
async def opened(row: Row, world: World) -> AsyncIterator[Customers]:
    sandbox = row.sandbox.sandbox(world)
    for limit in sandbox.limits.limits():
        sandbox.limits.set(limit.name)
    async with serve(sandbox) as running:
        wiring = Wiring(tokens=cast(TokenStore, None), custom=(TIER, RENEWAL), network=Network(guarded=False))
        crm = row.connect(row.sandbox.settings_for(running.url), wiring)
        yield Customers(row.vendor, sandbox, crm, world)
        await crm.close()


CRMS = [pytest.param(row, id=row.vendor) for row in REGISTRY if row.kind is Kind.CRM]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=CRMS)
async def running(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Customers]:
    async with opened(request.param, world) as customers:
        yield customers


@pytest_asyncio.fixture
async def customers(running: Customers) -> Customers:
    running.sandbox.faults.clear()
    running.sandbox.log.clear()
    return running


def as_record(account: Account, vendor: str) -> AccountRecord:
    return AccountRecord(
        ref=Ref(vendor, account.hubspot_id),
        name=account.crm_name,
        number=account.account_number,
        domain=account.domain,
        website=f"https://www.{account.domain}",
        phone=account.phone,
        industry=account.industry,
        address=Address(account.street, account.city, account.postcode, None, account.country),
        created_at=account.created_at,
        updated_at=account.updated_at,
        merged_ids=account.merged_hubspot_ids,
        declared={"xero": account.declared_xero_id} if account.declared_xero_id else {},
        custom={
            "customer_tier": {"gold": "GOLD", "silver": "SILVER"}.get(account.tier, "UNKNOWN"),
            "renewal_date": account.renewal_date,
        },
    )


def as_contact(person: Contact, account: Account, vendor: str) -> ContactRecord:
    return ContactRecord(
        ref=Ref(vendor, person.hubspot_id),
        accounts=(Ref(vendor, account.hubspot_id),),
        first_name=person.first_name,
        last_name=person.last_name,
        email=person.email,
        phone=person.phone,
        mobile=person.mobile,
        job_title=person.job_title,
        created_at=person.created_at,
        updated_at=person.updated_at,
    )


# -- accounts by id -------------------------------------------------------------------------------------------------


async def test_an_account_is_what_the_world_says_with_the_firms_own_fields(customers: Customers) -> None:
    accounts = customers.world.accounts
    found = await customers.crm.accounts([customers.ref(account) for account in accounts])
    assert list(found) == [as_record(account, customers.vendor) for account in accounts]


async def test_accounts_come_in_the_order_asked_twice_if_asked_twice_and_none_where_there_is_none(
    customers: Customers,
) -> None:
    a, b = customers.ref(customers.world.accounts[3]), customers.ref(customers.world.accounts[0])
    nobody, elsewhere = Ref(customers.vendor, "123456789"), Ref("elsewhere", b.id)
    found = await customers.crm.accounts([a, nobody, b, elsewhere, a])
    assert [one and one.ref for one in found] == [a, None, b, None, a]


async def test_a_merged_away_id_answers_with_the_survivor(customers: Customers) -> None:
    account = next(one for one in customers.world.accounts if one.merged_hubspot_ids)
    survivor, old = customers.ref(account), Ref(customers.vendor, account.merged_hubspot_ids[0])
    other = customers.ref(customers.world.accounts[0])
    for asked in ([old], [old, other, survivor], [survivor, old]):
        found = await customers.crm.accounts(asked)
        assert [one and one.ref for one in found] == [survivor if ref == old else ref for ref in asked]
        assert all(one and (one.ref == other or old.id in one.merged_ids) for one in found)


async def test_nothing_asked_costs_nothing(customers: Customers) -> None:
    crm = customers.crm
    window = Window(first=5)
    assert list(await crm.accounts([])) == []
    assert list(await crm.contacts([])) == []
    assert list(await crm.contacts_of([], ContactQuery(window))) == []
    assert list(await crm.accounts_sharing("number", [])) == []
    assert (await crm.find_accounts(AccountQuery(window, within=()))).rows == []
    assert customers.sandbox.log.count() == 0


async def test_the_portal_pages_cost_the_fewest_calls(customers: Customers) -> None:
    fewest, log, world = FEWEST_CALLS[customers.vendor], customers.sandbox.log, customers.world
    [home] = await customers.crm.accounts([customers.ref(world.accounts[0])])
    assert home is not None
    await customers.crm.contacts_of([home.ref], ContactQuery(Window(first=20)))
    assert log.count() == fewest["home"]

    log.clear()
    thirty = [customers.ref(account) for account in world.accounts[:30]]
    assert sum(len(world.contacts_by_account[index]) for index in range(30)) <= 100
    await customers.crm.contacts_of(thirty, ContactQuery(Window(first=10)))
    assert log.count() == fewest["contacts of 30"]

    log.clear()
    await customers.crm.contacts([customers.ref(person) for person in world.contacts[:90]] * 2)
    assert log.count() == fewest["contacts by id"]

    log.clear()
    everyone = [customers.ref(account) for account in world.accounts]
    nobody = [Ref(customers.vendor, str(5_000 + number)) for number in range(50)]
    await customers.crm.accounts(everyone + nobody + everyone)
    assert log.count() == fewest["250 accounts"]


async def test_ids_that_no_vendor_would_give_are_nobodys_and_cost_nothing(customers: Customers) -> None:
    refs = [Ref(customers.vendor, text) for text in HOSTILE]
    assert list(await customers.crm.accounts(refs)) == [None] * len(refs)
    assert list(await customers.crm.contacts(refs)) == [None] * len(refs)
    pages = await customers.crm.contacts_of(refs, ContactQuery(Window(first=5)))
    assert [cast(Page[ContactRecord], page).rows for page in pages] == [()] * len(refs)
    assert customers.sandbox.log.count() == 0


# -- lists of accounts ----------------------------------------------------------------------------------------------


def place_of(order: AccountOrder) -> Callable[[Account], Any]:
    return {
        AccountOrder.CREATED_AT: lambda account: account.created_at,
        AccountOrder.UPDATED_AT: lambda account: account.updated_at,
        AccountOrder.NAME: lambda account: account.crm_name.casefold(),
    }[order]


async def turned(
    read: Callable[[Window], Awaitable[Page[Any]]], size: int, backwards: bool
) -> list[list[str]]:
    """Every page's ids, read to the end; the pages of a list read backwards are put in the list's order."""
    pages: list[list[str]] = []
    mark: Key | None = None
    while True:
        window = Window(last=size, before=mark) if backwards else Window(first=size, after=mark)
        page = await read(window)
        assert len(page.rows) == len(page.keys)
        assert page.has_next == (mark is not None) if backwards else page.has_previous == (mark is not None)
        pages.append([row.ref.id for row in page.rows])
        if not (page.has_previous if backwards else page.has_next):
            return pages[::-1] if backwards else pages
        assert len(page.rows) == size
        mark = page.keys[0] if backwards else page.keys[-1]


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("order", "direction"), BOTH_WAYS)
async def test_pages_of_accounts_cover_everything_once_in_order(
    customers: Customers, order: AccountOrder, direction: Direction, backwards: bool
) -> None:
    async def read(window: Window) -> Page[AccountRecord]:
        return await customers.crm.find_accounts(AccountQuery(window, order=order, direction=direction))

    pages = await turned(read, 45, backwards)
    truth = sorted(customers.world.accounts, key=place_of(order), reverse=direction is Direction.DESC)
    assert [one for page in pages for one in page] == [account.hubspot_id for account in truth]


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(("order", "direction"), BOTH_WAYS)
async def test_pages_of_a_customers_few_accounts_are_ordered_alike(
    customers: Customers, order: AccountOrder, direction: Direction, backwards: bool
) -> None:
    accounts = customers.world.accounts[:9]
    within = tuple(customers.ref(account) for account in accounts)

    async def read(window: Window) -> Page[AccountRecord]:
        query = AccountQuery(window, within=within, order=order, direction=direction)
        return await customers.crm.find_accounts(query)

    pages: list[list[str]] = []
    mark: Key | None = None
    while True:
        page = await read(Window(last=2, before=mark) if backwards else Window(first=2, after=mark))
        pages.append([row.ref.id for row in page.rows])
        if not (page.has_previous if backwards else page.has_next):
            break
        mark = page.keys[0] if backwards else page.keys[-1]
    found = [one for page in (pages[::-1] if backwards else pages) for one in page]
    truth = sorted(accounts, key=place_of(order), reverse=direction is Direction.DESC)
    assert found == [account.hubspot_id for account in truth]


@pytest.mark.parametrize("row", CRMS)
@pytest.mark.parametrize(("order", "direction"), BOTH_WAYS)
async def test_accounts_that_tie_are_neither_lost_nor_doubled(
    row: Row, world: World, order: AccountOrder, direction: Direction
) -> None:
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    tied = tuple(
        dataclasses.replace(
            account,
            created_at=moments[account.index // 70],
            updated_at=moments[account.index % 3],
            crm_name=f"Name {account.index // 70}",
        )
        for account in world.accounts
    )
    async with opened(row, dataclasses.replace(world, accounts=tied)) as customers:
        for backwards in (False, True):
            pages = await turned(
                lambda window: customers.crm.find_accounts(
                    AccountQuery(window, order=order, direction=direction)
                ),
                31,
                backwards,
            )
            seen = Counter(one for page in pages for one in page)
            assert seen == Counter(account.hubspot_id for account in tied)


async def test_a_page_between_two_places_holds_what_lies_between(customers: Customers) -> None:
    for order, direction in BOTH_WAYS:

        def asking(
            window: Window, order: AccountOrder = order, direction: Direction = direction
        ) -> AccountQuery:
            return AccountQuery(window, order=order, direction=direction)

        page = await customers.crm.find_accounts(asking(Window(first=12)))
        ids = [row.ref.id for row in page.rows]
        after, before = page.keys[2], page.keys[8]
        head = await customers.crm.find_accounts(asking(Window(first=4, after=after, before=before)))
        tail = await customers.crm.find_accounts(asking(Window(last=4, after=after, before=before)))
        assert [row.ref.id for row in head.rows] == ids[3:7]
        assert [row.ref.id for row in tail.rows] == ids[4:8]
        none = await customers.crm.find_accounts(asking(Window(first=0)))
        assert (list(none.rows), none.has_next) == ([], True)


def median(moments: Sequence[datetime]) -> datetime:
    return sorted(moments)[len(moments) // 2]


FILTERS: list[tuple[str, Callable[[World], dict[str, Any]], Callable[[Account, World], bool]]] = [
    ("country", lambda w: {"country": "de"}, lambda a, w: a.country == "DE"),
    (
        "words",
        lambda w: {"text": "harb PROVI"},
        lambda a, w: a.crm_name == "Harbour & Vale Provisions Ltd",
    ),
    ("unicode", lambda w: {"text": "žižkov"}, lambda a, w: a.crm_name.startswith("Žižkov")),
    (
        "updated since",
        lambda w: {"updated_since": median([a.updated_at for a in w.accounts])},
        lambda a, w: a.updated_at >= median([one.updated_at for one in w.accounts]),
    ),
    (
        "own enum",
        lambda w: {"conditions": (Condition(TIER, equals=("gold", "silver")),)},
        lambda a, w: a.tier in ("gold", "silver"),
    ),
    (
        "own date",
        lambda w: {
            "conditions": (Condition(RENEWAL, minimum=w.today, maximum=w.today + timedelta(days=90)),)
        },
        lambda a, w: a.renewal_date is not None and w.today <= a.renewal_date <= w.today + timedelta(days=90),
    ),
    (
        "all at once",
        lambda w: {
            "country": "GB",
            "text": "ltd",
            "updated_since": min(a.updated_at for a in w.accounts),
            "conditions": (Condition(TIER, equals=("silver",)), Condition(RENEWAL, minimum=w.today)),
        },
        lambda a, w: (
            a.country == "GB"
            and a.crm_name.endswith("Ltd")
            and a.tier == "silver"
            and a.renewal_date is not None
            and a.renewal_date >= w.today
        ),
    ),
    (
        "an own field without values",
        lambda w: {"conditions": (Condition(TIER, equals=()),)},
        lambda a, w: False,
    ),
]


@pytest.mark.parametrize("limited", [False, True], ids=["the CRM filters", "filtered here"])
@pytest.mark.parametrize(("wanted", "fits"), [row[1:] for row in FILTERS], ids=[row[0] for row in FILTERS])
async def test_filters_agree_with_the_world(
    customers: Customers,
    wanted: Callable[[World], dict[str, Any]],
    fits: Callable[[Account, World], bool],
    limited: bool,
) -> None:
    world = customers.world
    within = tuple(customers.ref(account) for account in world.accounts) if limited else None
    for order in AccountOrder:
        pages = await turned(
            lambda window, order=order: customers.crm.find_accounts(  # type: ignore[misc]
                AccountQuery(window, within=within, order=order, **wanted(world))
            ),
            40,
            False,
        )
        truth = {account.hubspot_id for account in world.accounts if fits(account, world)}
        assert sorted(one for page in pages for one in page) == sorted(truth)


@pytest.mark.parametrize(
    "text", [text for text in HOSTILE if text.strip() and not any(map(str.isalnum, text))]
)
async def test_punctuation_in_a_search_is_no_query(customers: Customers, text: str) -> None:
    page = await customers.crm.find_accounts(AccountQuery(Window(first=3), text=f"{text} nosuchword"))
    assert list(page.rows) == []


async def test_hostile_values_match_nobody(customers: Customers) -> None:
    for text in HOSTILE:
        if text:
            page = await customers.crm.find_accounts(AccountQuery(Window(first=3), country=text))
            assert list(page.rows) == []
    answers = await customers.crm.accounts_sharing("number", HOSTILE)
    assert list(answers) == [[] for _ in HOSTILE]


# -- accounts by what they share ------------------------------------------------------------------------------------


async def test_accounts_are_found_by_number_domain_and_declared_id(customers: Customers) -> None:
    world, crm = customers.world, customers.crm
    a, group = world.accounts[0], [world.accounts[2], world.accounts[4]]
    assert group[0].domain == group[1].domain

    numbers = await crm.accounts_sharing("number", ["C-0", a.account_number, a.account_number.lower()])
    assert [[row.ref for row in rows] for rows in numbers] == [[], [customers.ref(a)], [customers.ref(a)]]

    domains = await crm.accounts_sharing("domain", [group[0].domain.upper(), a.domain, " "])
    assert [{row.ref for row in rows} for rows in domains] == [
        {customers.ref(account) for account in group},
        {customers.ref(a)},
        set(),
    ]

    assert a.declared_xero_id is not None
    declared = await crm.accounts_sharing("declared:xero", [a.declared_xero_id])
    assert [[row.ref for row in rows] for rows in declared] == [[customers.ref(a)]]


async def test_every_customers_number_is_looked_up_in_few_calls(customers: Customers) -> None:
    world = customers.world
    answers = await customers.crm.accounts_sharing("number", [a.account_number for a in world.accounts])
    assert [[row.ref for row in rows] for rows in answers] == [[customers.ref(a)] for a in world.accounts]
    assert customers.sandbox.log.count() <= math.ceil(len(world.accounts) / 100)


@pytest.mark.parametrize("row", CRMS)
async def test_a_value_that_very_many_share_does_not_hide_the_others(row: Row, world: World) -> None:
    alike = tuple(
        account if account.index < 5 else dataclasses.replace(account, domain="shared.example")
        for account in world.accounts
    )
    async with opened(row, dataclasses.replace(world, accounts=alike)) as customers:
        wanted = ["shared.example", alike[0].domain, alike[3].domain]
        answers = await customers.crm.accounts_sharing("domain", wanted)
        assert [len(rows) for rows in answers] == [3, 1, 1]
        assert customers.sandbox.log.count() <= 2


# -- contacts -------------------------------------------------------------------------------------------------------


async def test_a_contact_is_what_the_world_says_and_an_archived_one_is_none(customers: Customers) -> None:
    world = customers.world
    refs = [customers.ref(person) for person in world.contacts]
    found = await customers.crm.contacts([Ref(customers.vendor, "7"), *refs[::-1], refs[0]])
    truth = [
        None if person.archived else as_contact(person, world.accounts[person.account], customers.vendor)
        for person in world.contacts
    ]
    assert any(person.archived for person in world.contacts)
    assert list(found) == [None, *truth[::-1], truth[0]]


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("order", ContactOrder)
async def test_pages_of_contacts_cover_everyone_once_without_the_archived(
    customers: Customers, order: ContactOrder, direction: Direction, backwards: bool
) -> None:
    world = customers.world
    archived = next(one for one in world.contacts if one.archived)
    for account in (world.accounts[0], world.accounts[archived.account]):
        found: list[str] = []
        mark: Key | None = None
        while True:
            window = Window(last=2, before=mark) if backwards else Window(first=2, after=mark)
            page = await customers.page_of(account, ContactQuery(window, order=order, direction=direction))
            ids = [row.ref.id for row in page.rows]
            found = ids + found if backwards else found + ids
            if not (page.has_previous if backwards else page.has_next):
                break
            mark = page.keys[0] if backwards else page.keys[-1]
        truth = customers.people(account, order)
        assert found == (truth[::-1] if direction is Direction.DESC else truth)


async def test_contacts_of_many_accounts_come_in_the_order_asked_and_say_whose_they_are(
    customers: Customers,
) -> None:
    accounts = [customers.world.accounts[index] for index in (7, 0, 100, 7, 3)]
    nobody = Ref(customers.vendor, "424242")
    refs = [customers.ref(account) for account in accounts]
    pages = await customers.crm.contacts_of([*refs, nobody], ContactQuery(Window(first=50)))
    for account, page in zip(accounts, pages, strict=False):
        assert isinstance(page, Page)
        assert [row.ref.id for row in page.rows] == customers.people(account)
        assert {row.accounts for row in page.rows} == {(customers.ref(account),)}
    assert isinstance(pages[-1], Page)
    assert list(pages[-1].rows) == []


async def test_contacts_are_searched_by_name_and_by_e_mail(customers: Customers) -> None:
    account = customers.world.accounts[0]
    people = [one for one in customers.world.contacts_by_account[0] if not one.archived]
    person = people[1]
    for text in (person.last_name.upper(), person.name, person.email):
        page = await customers.page_of(account, ContactQuery(Window(first=50), text=text))
        truth = [
            one.hubspot_id
            for one in people
            if text.casefold() in one.name.casefold() or text.casefold() in one.email.casefold()
        ]
        assert person.hubspot_id in truth
        assert [row.ref.id for row in page.rows] == truth


@pytest.mark.parametrize("row", CRMS)
async def test_one_account_with_10_000_contacts_neither_starves_the_others_nor_is_read_to_its_end(
    row: Row, world: World
) -> None:
    first = world.contacts_by_account[0][0]
    crowd = tuple(
        dataclasses.replace(first, hubspot_id=str(5_000_000 + number), email=f"{number}@harbourvale.example")
        for number in range(10_000)
    )
    async with opened(row, dataclasses.replace(world, contacts=world.contacts + crowd)) as customers:
        accounts = world.accounts[:10]
        refs = [customers.ref(account) for account in accounts]
        pages = await customers.crm.contacts_of(refs, ContactQuery(Window(first=3)))
        for account, page in zip(accounts, pages, strict=True):
            assert isinstance(page, Page)
            assert [one.ref.id for one in page.rows] == customers.people(account)[:3]
        assert customers.sandbox.log.count() <= 3

        customers.sandbox.log.clear()
        [newest, *_] = await customers.crm.contacts_of(refs, ContactQuery(Window(last=3)))
        assert isinstance(newest, Page)
        assert [one.ref.id for one in newest.rows] == ["5009997", "5009998", "5009999"]
        assert customers.sandbox.log.count() < 25

        customers.sandbox.log.clear()
        by_name = await customers.crm.contacts_of(
            refs, ContactQuery(Window(first=3), order=ContactOrder.NAME)
        )
        assert isinstance(by_name[0], SourceError)
        assert all(isinstance(page, Page) for page in by_name[1:])
        assert customers.sandbox.log.count() < 25


# -- failures -------------------------------------------------------------------------------------------------------


ASKING: list[tuple[str, Callable[[Customers], Awaitable[object]]]] = [
    ("accounts", lambda c: c.crm.accounts([c.ref(c.world.accounts[0])])),
    ("find_accounts", lambda c: c.crm.find_accounts(AccountQuery(Window(first=5)))),
    ("by name", lambda c: c.crm.find_accounts(AccountQuery(Window(first=5), order=AccountOrder.NAME))),
    ("accounts_sharing", lambda c: c.crm.accounts_sharing("number", ["C-10001"])),
    ("contacts", lambda c: c.crm.contacts([c.ref(c.world.contacts[0])])),
    (
        "contacts_of",
        lambda c: c.crm.contacts_of([c.ref(c.world.accounts[0])], ContactQuery(Window(first=5))),
    ),
]
asking = pytest.mark.parametrize("ask", [row[1] for row in ASKING], ids=[row[0] for row in ASKING])


@asking
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "fail", "status": 401}, SourceRejected),
        ({"kind": "fail", "status": 403}, SourceRejected),
        ({"kind": "fail", "status": 404}, SourceError),
        ({"kind": "fail", "status": 500}, SourceUnavailable),
        ({"kind": "fail", "status": 503}, SourceUnavailable),
        ({"kind": "rate_limit", "retry_after": 7}, SourceRateLimited),
        ({"kind": "garbage"}, SourceBadResponse),
        ({"kind": "drop"}, SourceUnavailable),
    ],
    ids=lambda value: str(value.get("status", value["kind"])) if isinstance(value, dict) else "",
)
async def test_what_goes_wrong_at_the_vendor_becomes_our_error(
    customers: Customers,
    ask: Callable[[Customers], Awaitable[object]],
    fault: dict[str, Any],
    error: type[SourceError],
) -> None:
    customers.sandbox.faults.add(**fault)
    with pytest.raises(error) as caught:
        await ask(customers)
    assert caught.value.source == customers.vendor
    assert str(caught.value).startswith(f"{customers.vendor}: ")
    if error is SourceRateLimited:
        assert caught.value.retry_after == 7


@asking
async def test_a_vendor_that_hangs_is_left_at_the_deadline(
    customers: Customers, ask: Callable[[Customers], Awaitable[object]]
) -> None:
    customers.sandbox.faults.add("hang")
    with deadline(0.1), pytest.raises(SourceTimeout):
        await ask(customers)


async def test_a_failed_batch_is_an_error_for_its_accounts_only(customers: Customers) -> None:
    """More contacts than fit one read: the accounts whose contacts were in the read that failed say so."""
    accounts = customers.world.accounts[:100]
    refs = [customers.ref(account) for account in accounts]
    await customers.crm.contacts_of(refs, ContactQuery(Window(first=50)))
    last = customers.sandbox.log.calls()[-1]
    customers.sandbox.faults.add("fail", last.path, times=1)
    pages = await customers.crm.contacts_of(refs, ContactQuery(Window(first=50)))
    failed = [page for page in pages if isinstance(page, SourceError)]
    assert 0 < len(failed) < len(refs)
    for account, page in zip(accounts, pages, strict=True):
        if isinstance(page, Page):
            assert [row.ref.id for row in page.rows] == customers.people(account)


async def test_the_probe_names_the_account_or_what_to_mend(customers: Customers) -> None:
    found = await customers.crm.probe()
    assert found.allowed
    assert any(map(str.isdigit, found.detail))
    assert customers.sandbox.log.count() == 1

    customers.sandbox.faults.add("fail", status=401, times=1)
    refused = await customers.crm.probe()
    assert not refused.allowed
    assert "token" in refused.detail

    customers.sandbox.faults.add("fail", status=503, times=1)
    with pytest.raises(SourceUnavailable):
        await customers.crm.probe()
