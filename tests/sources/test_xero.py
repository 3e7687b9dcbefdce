"""What is particular to Xero: signing in with tokens that are used once, its refusals, its filters and its dates."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from sources.ports.common import (
    Condition,
    Criterion,
    CustomField,
    Direction,
    Key,
    Money,
    Page,
    Ref,
    Scalar,
    Window,
)
from sources.ports.erp import InvoiceDetails, InvoiceOrder, InvoiceQuery, InvoiceRecord, InvoiceStatus
from sources.ports.errors import (
    ConsentNeeded,
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
)
from sources.ports.later import Alone
from sources.ports.tokens import Tokens
from sources.sandbox.server import Running, serve
from sources.transport.deadline import deadline
from sources.transport.fanin import Span
from sources.transport.http import Answer
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.xero import where
from sources.vendors.xero.erp import Settings, connect
from sources.vendors.xero.refusals import explain
from sources.vendors.xero.rows import Customers, OwnFields, calendar_date, instant, invoices
from sources.vendors.xero.sandbox import (
    TENANT,
    WEB_APP,
    XeroSandbox,
    consented_settings_for,
    sandbox,
    settings_for,
)
from sources.vendors.xero.sandbox_query import QueryParseError, predicate

OPEN = (InvoiceStatus.OPEN,)
ALL = (InvoiceStatus.DRAFT, InvoiceStatus.OPEN, InvoiceStatus.PAID, InvoiceStatus.VOID)


class MemoryTokens:
    """A token store whose lock is real and which tells what was saved while the sandbox had seen how much."""

    def __init__(self) -> None:
        self.tokens: dict[str, Tokens] = {}
        self.saves: list[Tokens] = []
        self._lock = asyncio.Lock()

    def require_key(self, connection: str) -> None:
        return None

    async def load(self, connection: str) -> Tokens | None:
        return self.tokens.get(connection)

    @asynccontextmanager
    async def hold(self, connection: str) -> AsyncIterator["Held"]:
        async with self._lock:
            yield Held(self, connection)


class Held:
    def __init__(self, store: MemoryTokens, connection: str) -> None:
        self._store, self._connection = store, connection
        self.tokens = store.tokens.get(connection)

    async def save(self, tokens: Tokens) -> None:
        self.tokens = self._store.tokens[self._connection] = tokens
        self._store.saves.append(tokens)


class Place:
    """A running sandbox and what connects to it."""

    def __init__(self, xero: XeroSandbox, running: Running) -> None:
        self.xero, self.url = xero, running.url
        self._opened: list[Any] = []

    def connect(self, settings: Settings | None = None, *custom: CustomField, tokens: Any = None) -> Any:
        erp = connect(
            settings or settings_for(self.url),
            Wiring(tokens=tokens, custom=custom, network=Network(guarded=False)),
        )
        self._opened.append(erp)
        return erp

    async def close(self) -> None:
        for erp in self._opened:
            await erp.close()

    def token_calls(self) -> int:
        return self.xero.log.count("POST", "/connect/token")

    def wheres(self) -> list[str]:
        return [call.params["where"] for call in self.xero.log.calls() if "where" in call.params]


@pytest_asyncio.fixture
async def place(world) -> AsyncIterator[Place]:
    xero = sandbox(
        world, per_minute=None, per_day=None, contact_numbers={0: "crm-0", 1: "CRM-1"}, record_bodies=True
    )
    async with serve(xero) as running:
        opened = Place(xero, running)
        yield opened
        await opened.close()


@pytest.fixture
def first(world) -> Ref:
    return Ref("xero", world.accounts[0].xero_contact_id)


def newest(*conditions: Condition, **more: Any) -> InvoiceQuery:
    return InvoiceQuery(Window(first=50), more.pop("statuses", ALL), conditions=conditions, **more)


# Signing in


async def test_a_custom_connection_signs_in_once_for_many_calls(place, first):
    erp = place.connect()

    await asyncio.gather(*(erp.customers([first]) for _ in range(5)))

    assert place.token_calls() == 1


async def test_a_custom_connection_needs_no_tenant(place, first):
    erp = place.connect(msgspec.structs.replace(settings_for(place.url), tenant_id=""))

    assert (await erp.customers([first]))[0].ref == first


async def test_an_expired_access_token_is_renewed_in_the_same_request(place, first):
    erp = place.connect()
    await erp.customers([first])
    place.xero.expire_access_tokens()

    assert (await erp.customers([first]))[0].ref == first
    assert place.token_calls() == 2


async def test_two_connections_that_refresh_at_once_use_the_refresh_token_once(place, first):
    tokens = MemoryTokens()
    one = place.connect(consented_settings_for(place.url), tokens=tokens)
    other = place.connect(consented_settings_for(place.url), tokens=tokens)

    answers = await asyncio.gather(*(erp.customers([first]) for erp in (one, other) * 5))

    assert {records[0].ref for records in answers} == {first}
    assert place.token_calls() == 1


async def test_two_connections_outlive_many_rotations(place, first):
    tokens = MemoryTokens()
    one = place.connect(consented_settings_for(place.url), tokens=tokens)
    other = place.connect(consented_settings_for(place.url), tokens=tokens)

    for _ in range(4):
        await asyncio.gather(one.customers([first]), other.customers([first]))
        place.xero.expire_access_tokens()

    assert place.token_calls() == 4
    assert len({saved.refresh_token for saved in tokens.saves}) == 4


async def test_the_new_refresh_token_is_saved_before_the_access_token_is_used(place, first):
    api_calls_at_save: list[int] = []

    class Watching(Held):
        async def save(self, tokens: Tokens) -> None:
            api_calls_at_save.append(place.xero.log.count("GET"))
            await super().save(tokens)

    class WatchingTokens(MemoryTokens):
        @asynccontextmanager
        async def hold(self, connection: str) -> AsyncIterator[Held]:
            async with super().hold(connection):
                yield Watching(self, connection)

    tokens = WatchingTokens()
    await place.connect(consented_settings_for(place.url), tokens=tokens).customers([first])

    assert api_calls_at_save == [0]
    assert tokens.saves[0].refresh_token != consented_settings_for(place.url).refresh_token


async def test_a_token_that_could_not_be_saved_is_not_used(place, first):
    class Full(Held):
        async def save(self, tokens: Tokens) -> None:
            raise OSError("no space left")

    class FullTokens(MemoryTokens):
        @asynccontextmanager
        async def hold(self, connection: str) -> AsyncIterator[Held]:
            yield Full(self, connection)

    with pytest.raises(OSError, match="no space left"):
        await place.connect(consented_settings_for(place.url), tokens=FullTokens()).customers([first])

    assert place.xero.log.count("GET") == 0


async def test_a_refresh_goes_on_when_the_request_that_needed_it_gives_up(place, first):
    tokens = MemoryTokens()
    erp = place.connect(consented_settings_for(place.url), tokens=tokens)
    place.xero.faults.add("hang", "/connect/token", times=1)

    with deadline(0.2), pytest.raises(SourceTimeout):
        await erp.customers([first])
    place.xero.faults.clear()

    assert (await erp.customers([first]))[0].ref == first
    assert place.token_calls() == 1


async def test_a_refresh_goes_on_when_the_request_that_needed_it_is_cancelled(place, first):
    tokens = MemoryTokens()
    erp = place.connect(consented_settings_for(place.url), tokens=tokens)
    place.xero.faults.add("hang", "/connect/token", times=1)
    asking = asyncio.create_task(erp.customers([first]))
    while not place.token_calls():
        await asyncio.sleep(0)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    place.xero.faults.clear()

    assert (await erp.customers([first]))[0].ref == first
    assert place.token_calls() == 1


async def test_a_spent_refresh_token_asks_for_consent_and_is_never_tried_again(place, first):
    tokens = MemoryTokens()
    erp = place.connect(consented_settings_for(place.url), tokens=tokens)
    place.xero.disconnect()

    for _ in range(3):
        with pytest.raises(ConsentNeeded, match="authorise the connection again"):
            await erp.customers([first])
    restarted = place.connect(consented_settings_for(place.url), tokens=tokens)
    with pytest.raises(ConsentNeeded):
        await restarted.customers([first])

    assert place.token_calls() == 1
    assert tokens.tokens["xero"].consent_needed


async def test_a_newly_configured_refresh_token_ends_the_need_for_consent(place, first):
    tokens = MemoryTokens()
    settings = consented_settings_for(place.url)
    place.xero.disconnect()
    with pytest.raises(ConsentNeeded):
        await place.connect(settings, tokens=tokens).customers([first])

    signed_in = await consent(place.url)
    erp = place.connect(
        msgspec.structs.replace(settings, refresh_token=signed_in["refresh_token"]), tokens=tokens
    )

    assert (await erp.customers([first]))[0].ref == first


SIGNED = {"Authorization": aiohttp.encode_basic_auth(*WEB_APP)}


async def consent(url: str) -> dict[str, Any]:
    """What a person's browser and the web app do."""
    query = {
        "response_type": "code",
        "client_id": WEB_APP[0],
        "redirect_uri": "http://localhost/back",
        "scope": "offline_access accounting.contacts.read accounting.transactions.read",
        "state": "s1",
    }
    async with aiohttp.ClientSession() as session:
        async with session.get(
            f"{url}/identity/connect/authorize", params=query, allow_redirects=False
        ) as answer:
            back = parse_qs(urlsplit(answer.headers["Location"]).query)
        assert back["state"] == ["s1"]
        form = {
            "grant_type": "authorization_code",
            "code": back["code"][0],
            "redirect_uri": "http://localhost/back",
        }
        async with session.post(f"{url}/connect/token", data=form, headers=SIGNED) as answer:
            tokens = await answer.json()
        async with session.post(f"{url}/connect/token", data=form, headers=SIGNED) as answer:
            assert (answer.status, await answer.json()) == (400, {"error": "invalid_grant"})
    return tokens


async def test_the_replay_of_a_used_refresh_token_is_refused_by_the_sandbox(place):
    form = {"grant_type": "refresh_token", "refresh_token": (await consent(place.url))["refresh_token"]}
    async with aiohttp.ClientSession(headers=SIGNED) as session:
        answers = []
        for _ in range(2):
            async with session.post(f"{place.url}/connect/token", data=form) as answer:
                answers.append((answer.status, sorted(await answer.json())))

    assert answers == [
        (200, ["access_token", "expires_in", "refresh_token", "scope", "token_type"]),
        (400, ["error"]),
    ]


async def test_a_wrong_secret_is_a_setting_to_mend_and_appears_nowhere(place, first):
    erp = place.connect(msgspec.structs.replace(settings_for(place.url), client_secret="hunter2"))

    with pytest.raises(SourceRejected) as refusal:
        await erp.customers([first])

    assert "client id and secret" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tenant_id": "00000000-0000-4000-8000-000000000000"}, "tenant_id"),
        ({"scope": "accounting.transactions.read"}, "scope"),
    ],
)
async def test_a_refused_connection_says_which_setting_to_mend(place, first, change, words):
    erp = place.connect(msgspec.structs.replace(settings_for(place.url), **change))

    with pytest.raises(SourceRejected, match=words) as refusal:
        await erp.customers([first])

    assert refusal.value.vendor_code in ("AuthenticationUnsuccessful", "AuthorizationUnsuccessful")
    assert refusal.value.request_id


async def test_the_probe_names_the_organisation_and_its_id(place):
    assert (await place.connect().probe()).detail == f"Northquay Trading ({TENANT})"


async def test_the_probe_lists_the_organisations_when_the_tenant_is_not_one_of_them(place):
    settings = msgspec.structs.replace(consented_settings_for(place.url), tenant_id="")

    probe = await place.connect(settings, tokens=MemoryTokens()).probe()

    assert not probe.allowed
    assert (
        f"tenant_id is not one of the connected organisations: Northquay Trading ({TENANT})" == probe.detail
    )


async def test_the_probe_says_that_consent_is_needed(place):
    place.xero.disconnect()

    probe = await place.connect(consented_settings_for(place.url), tokens=MemoryTokens()).probe()

    assert not probe.allowed
    assert "authorise the connection again" in probe.detail


@pytest.mark.parametrize(
    "change",
    [{"parallel": 0}, {"page_size_max": 0}, {"contact_ids_per_call": 51}, {"contact_ids_per_call": 0}],
)
def test_settings_that_cannot_work_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings(client_id="a", client_secret="b", **change)


# Refusals


def answered(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


REFUSALS = {
    "token expired": (
        answered(
            401,
            b'{"Type":null,"Title":"Unauthorized","Status":401,"Detail":"TokenExpired: token expired at x"}',
        ),
        (SourceRejected, "TokenExpired", None),
    ),
    "old front door": (
        answered(403, b'{"title":"Forbidden","status":403,"detail":"AuthenticationUnsuccessful"}'),
        (SourceRejected, "AuthenticationUnsuccessful", None),
    ),
    "form encoded": (
        answered(401, b"oauth_problem=token_expired&oauth_problem_advice=The%20token%20has%20expired"),
        (SourceRejected, "token_expired", None),
    ),
    "empty 401": (answered(401), (SourceRejected, None, None)),
    "day limit": (
        answered(429, x_rate_limit_problem="Daily", retry_after="7200"),
        (SourceRateLimited, "daily", 7200.0),
    ),
    "bare 429": (answered(429), (SourceRateLimited, None, None)),
    "rate limit as 503": (
        answered(503, b"oauth_problem=rate%20limit%20exceeded&oauth_problem_advice=please+wait"),
        (SourceRateLimited, None, None),
    ),
    "validation": (
        answered(
            400, b'{"ErrorNumber":10,"Type":"ValidationException","Message":"Northwind owes 5","Elements":[]}'
        ),
        (InvalidRequest, "ValidationException", None),
    ),
    "query": (
        answered(400, b'{"ErrorNumber":16,"Type":"QueryParseException","Message":"Syntax error"}'),
        (InvalidRequest, "QueryParseException", None),
    ),
    "400 without a body": (answered(400), (InvalidRequest, None, None)),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_every_spelling_of_a_refusal_is_understood(name):
    answer, expected = REFUSALS[name]

    error = explain(answer)

    assert (type(error), error.vendor_code, error.retry_after) == expected
    assert "Northwind" not in str(error)


@pytest.mark.parametrize("status", [404, 500, 502, 503])
def test_what_the_status_alone_tells_is_left_to_it(status):
    assert explain(answered(status, b"The resource you're looking for cannot be found")) is None


def test_a_refusal_carries_the_correlation_id():
    assert explain(answered(403, xero_correlation_id="c0ffee")).request_id == "c0ffee"


async def test_the_minute_limit_is_told_with_its_name_and_wait(world, first):
    xero = sandbox(world, per_minute=2)
    async with serve(xero) as running:
        erp = connect(
            settings_for(running.url), Wiring(tokens=MemoryTokens(), network=Network(guarded=False))
        )
        for _ in range(2):
            await erp.customers([first])
        with pytest.raises(SourceRateLimited, match="minute limit") as refusal:
            await erp.customers([first])
        await erp.close()

    assert 0 < refusal.value.retry_after <= 60


async def test_no_more_calls_run_at_once_than_configured(world):
    xero = sandbox(world, concurrent=2, per_minute=None, per_day=None)
    customers = [
        Ref("xero", account.xero_contact_id) for account in world.accounts if account.xero_contact_id
    ]
    async with serve(xero) as running:
        settings = msgspec.structs.replace(settings_for(running.url), parallel=2, contact_ids_per_call=5)
        erp = connect(settings, Wiring(tokens=MemoryTokens(), network=Network(guarded=False)))
        found = await erp.customers(customers)
        await erp.close()

    assert [record.ref for record in found] == customers
    assert {call.status for call in xero.log.calls()} == {200}


async def test_a_few_customers_are_one_call_whatever_dates_and_places_they_are_asked_by(world):
    xero = sandbox(world)
    day, customers = date(2026, 12, 31), [Ref("xero", str(uuid4())) for _ in range(25)]
    window = Window(first=1, after=Key("2026-12-31", "a"), before=Key("2026-12-31", "b"))
    days = dict.fromkeys(("due_from", "due_to", "issued_from", "issued_to"), day)
    async with serve(xero) as running:
        erp = connect(
            settings_for(running.url), Wiring(tokens=MemoryTokens(), network=Network(guarded=False))
        )
        for more in ({"overdue_on": day}, {"order": InvoiceOrder.DUE_DATE}):
            query = InvoiceQuery(window, tuple(InvoiceStatus), **days, **more)
            assert await erp.invoices_of(customers, query) == [Page([], [], has_previous=True)] * 25
        await erp.close()

    # A longer address would have been answered 404.
    assert [call.status for call in xero.log.calls()] == [200, 200, 200]  # the first for a token


# Filters


def test_a_list_of_invoices_is_filtered_in_xeros_own_language():
    query = InvoiceQuery(
        Window(first=1),
        OPEN,
        due_from=date(2026, 4, 1),
        issued_to=date(2026, 5, 9),
        overdue_on=date(2026, 6, 1),
        total_min=Decimal("1E+2"),
        total_max=Decimal("123.450"),
    )

    assert where.invoices(query, Span(Direction.DESC, start="2026-05-01", end="2026-03-31")) == (
        'Type=="ACCREC" AND DueDate<DateTime(2026,06,01) AND AmountDue>0 AND DueDate>=DateTime(2026,04,01)'
        " AND Date<=DateTime(2026,05,09) AND Total>=100 AND Total<=123.450"
        " AND Date>=DateTime(2026,03,31) AND Date<=DateTime(2026,05,01)"
    )


@pytest.mark.parametrize(
    ("direction", "start", "end", "terms"),
    [
        (Direction.DESC, "2026-05-01", None, "(DueDate<=DateTime(2026,05,01) OR DueDate==null)"),
        (Direction.DESC, "", None, "DueDate==null"),
        (Direction.ASC, "", None, None),
        (Direction.ASC, "2026-05-01", None, "DueDate>=DateTime(2026,05,01)"),
        (Direction.ASC, None, "", "DueDate==null"),
        (Direction.DESC, None, "", None),
    ],
)
def test_drafts_without_a_due_date_stand_before_every_date(direction, start, end, terms):
    query = InvoiceQuery(Window(first=1), ALL, order=InvoiceOrder.DUE_DATE)

    assert where.invoices(query, Span(direction, start, end)) == " AND ".join(
        filter(None, ('Type=="ACCREC"', terms))
    )


async def test_statuses_and_customers_travel_in_their_own_parameters(place, first):
    await place.connect().invoices_of([first], newest(statuses=(InvoiceStatus.DRAFT,)))

    params = place.xero.log.calls("GET")[0].params
    assert (params["Statuses"], params["ContactIDs"], params["order"]) == (
        "DRAFT,SUBMITTED",
        first.id,
        "Date DESC",
    )


@pytest.mark.parametrize("value", ['a"b', "a\\", '\\" OR 1==1 OR Name==\\"', "a\nb", "a\x7fb", "\u2028"])
def test_text_that_could_leave_its_quotation_marks_is_never_written(value):
    with pytest.raises(InvalidRequest):
        where.text(value)


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+400000"), Decimal("1E-400000")]
)
def test_numbers_that_no_amount_can_be_are_refused(value):
    with pytest.raises(InvalidRequest):
        where.number(value)


async def test_a_long_filter_leaves_room_for_fewer_customers_in_one_call(place, world):
    customers = [
        Ref("xero", account.xero_contact_id) for account in world.accounts if account.xero_contact_id
    ][:40]
    field = own("Reference")
    references = tuple(f"PO {number:05}" for number in range(30))

    pages = await place.connect(None, field).invoices_of(customers, newest(Condition(field, references)))

    assert not any(isinstance(page, SourceError) for page in pages)
    assert len(place.wheres()) == 3


async def test_a_filter_longer_than_any_url_is_refused(place, first):
    field = own("Reference")

    with pytest.raises(InvalidRequest, match="too long"):
        await place.connect(None, field).invoices_of(
            [first], newest(Condition(field, tuple(map(str, range(500)))))
        )


async def test_customers_are_found_by_the_exact_external_id(place, world):
    found = await place.connect().customers_by(Criterion.EXTERNAL_ID, ["crm-0", "crm-1", "CRM-1"])

    assert [[record.ref.id for record in records] for records in found] == [
        [world.accounts[0].xero_contact_id],
        [],
        [world.accounts[1].xero_contact_id],
    ]


async def test_many_domains_are_looked_for_in_short_filters(place, world):
    domains = sorted({account.domain for account in world.accounts})[:50]

    found = await place.connect().customers_by(Criterion.EMAIL_DOMAIN, domains)

    assert [{record.domains for record in records} for records in found] == [
        {(domain,)} if any(a.domain == domain and a.xero_contact_id for a in world.accounts) else set()
        for domain in domains
    ]
    assert len(place.wheres()) == 3
    assert place.wheres()[0].startswith('EmailAddress!=null AND (EmailAddress.EndsWith("@')


async def test_a_domain_with_more_contacts_than_a_page_holds_is_read_to_its_end(world):
    accounts = tuple(
        dataclasses.replace(account, xero_email=account.xero_contact_id and f"a{account.index}@group.example")
        for account in world.accounts
    )
    xero = sandbox(dataclasses.replace(world, accounts=accounts))
    async with serve(xero) as running:
        erp = connect(
            settings_for(running.url), Wiring(tokens=MemoryTokens(), network=Network(guarded=False))
        )
        [found] = await erp.customers_by(Criterion.EMAIL_DOMAIN, ["group.example"])
        await erp.close()

    assert len(found) == sum(account.xero_contact_id is not None for account in accounts) > 100


# The firm's own fields


def own(
    element: str, scalar: Scalar = Scalar.STRING, values: tuple[tuple[str, str], ...] = ()
) -> CustomField:
    return CustomField(
        "Invoice", element[0].lower() + element[1:], element, scalar, "A field.", values=values
    )


def test_own_fields_are_read_as_their_scalars():
    fields = (
        own("Reference"),
        own("SentToContact", Scalar.BOOLEAN),
        own("CurrencyRate", Scalar.DECIMAL),
        own("ExpectedPaymentDate", Scalar.DATE),
        own("UpdatedDateUTC", Scalar.DATETIME),
        own("LineAmountTypes", Scalar.ENUM, (("Exclusive", "WITHOUT_TAX"),)),
        own("Contact"),
        own("Url"),
    )
    reader = OwnFields(fields)
    answer, _ = reader.pages.read(
        b'{"pagination":{"page":1,"pageSize":1,"pageCount":1,"itemCount":1},"Invoices":[{"InvoiceID":"i",'
        b'"Type":"ACCREC","Contact":{"ContactID":"c"},"Reference":"PO 7","SentToContact":true,"CurrencyRate":1.17,'
        b'"ExpectedPaymentDate":"/Date(1775001600000+0000)/","UpdatedDateUTC":"/Date(1775037600123+0000)/",'
        b'"LineAmountTypes":"Exclusive"}]}',
        no_drop,
    )

    assert reader.values(answer.invoices[0]) == {
        "Reference": "PO 7",
        "SentToContact": True,
        "CurrencyRate": Decimal("1.17"),
        "ExpectedPaymentDate": date(2026, 4, 1),
        "UpdatedDateUTC": datetime(2026, 4, 1, 10, 0, 0, 123000, UTC),
        "LineAmountTypes": "WITHOUT_TAX",
        "Contact": None,
        "Url": None,
    }


@pytest.mark.parametrize("element", ["", "Contact.Name", "where", 'A"', "Ä"])
def test_what_cannot_be_an_element_is_refused_at_the_start(element):
    field = CustomField("Invoice", "x", element, Scalar.STRING, "A field.")

    with pytest.raises(ValueError, match="not the name of an invoice element"):
        OwnFields((field,))


def test_fields_on_other_types_are_refused_at_the_start():
    with pytest.raises(ValueError, match="Invoice only"):
        OwnFields((CustomField("InvoiceLine", "x", "AccountCode", Scalar.STRING, "A field."),))


SENT = own("SentToContact", Scalar.BOOLEAN)
EXPECTED = own("ExpectedPaymentDate", Scalar.DATE)
RATE = own("CurrencyRate", Scalar.DECIMAL)
REFERENCE = own("Reference")
BRANDING = own("BrandingThemeID")


async def test_own_fields_cost_no_further_call_and_are_filtered_by_xero(place, world):
    customers = [
        Ref("xero", account.xero_contact_id) for account in world.accounts if account.xero_contact_id
    ][:30]
    erp = place.connect(None, SENT, EXPECTED, RATE, REFERENCE, BRANDING)
    everything = [record for page in await erp.invoices_of(customers, newest()) for record in page.rows]
    theme = everything[0].custom["BrandingThemeID"]
    cases = (
        (Condition(SENT, (True,)), lambda custom: custom["SentToContact"] is True),
        (
            Condition(EXPECTED, minimum=date(2026, 10, 1), maximum=date(2026, 11, 30)),
            lambda custom: (
                custom["ExpectedPaymentDate"] is not None
                and date(2026, 10, 1) <= custom["ExpectedPaymentDate"] <= date(2026, 11, 30)
            ),
        ),
        (Condition(RATE, minimum=Decimal("1.17")), lambda custom: custom["CurrencyRate"] >= Decimal("1.17")),
        (
            Condition(REFERENCE, (everything[0].custom["Reference"] or "PO 1", "Bestellung 167/ä")),
            lambda custom: (
                custom["Reference"] in (everything[0].custom["Reference"] or "PO 1", "Bestellung 167/ä")
            ),
        ),
        (Condition(BRANDING, (theme,)), lambda custom: custom["BrandingThemeID"] == theme),
    )
    for condition, fits in cases:
        place.xero.log.clear()
        pages = await erp.invoices_of(customers, newest(condition))
        assert {record.ref for page in pages for record in page.rows} >= {
            record.ref for record in everything if fits(record.custom)
        }
        assert all(fits(record.custom) for page in pages for record in page.rows)
        assert any(page.rows for page in pages)
        assert len(place.wheres()) == 1


@pytest.mark.parametrize(
    "condition",
    [
        Condition(REFERENCE, ('a"b',)),
        Condition(REFERENCE, minimum="a"),
        Condition(BRANDING, ("not a uuid",)),
        Condition(SENT, ("true",)),
        Condition(RATE, (True,)),
        Condition(EXPECTED, ("2026-04-01",)),
    ],
)
async def test_a_filter_that_xero_cannot_take_is_refused_before_any_call(place, first, condition):
    with pytest.raises(InvalidRequest):
        await place.connect(None, condition.field).invoices_of([first], newest(condition))

    assert place.xero.log.count() == 0


async def test_a_choice_of_nothing_finds_nothing_without_a_call(place, first):
    [page] = await place.connect(None, REFERENCE).invoices_of([first], newest(Condition(REFERENCE, ())))

    assert (list(page.rows), place.xero.log.count()) == ([], 0)


async def test_an_element_that_xero_does_not_have_is_named_in_the_refusal(place, first):
    field = own("NoSuchThing")

    [answer] = await place.connect(None, field).invoices_of([first], newest(Condition(field, ("x",))))

    assert isinstance(answer, InvalidRequest)
    assert "there is no element NoSuchThing" in str(answer)


# Dates and words


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("/Date(1775001600000+0000)/", date(2026, 4, 1)),
        ("/Date(1775001600000+1300)/", date(2026, 4, 1)),
        ("/Date(1775001600000)/", date(2026, 4, 1)),
        ("/Date(-86400000+0000)/", date(1969, 12, 31)),
        (None, None),
    ],
)
def test_a_date_is_taken_as_it_stands_and_never_shifted(text, day):
    assert calendar_date(text) == day


def test_a_change_is_a_true_instant():
    assert instant("/Date(1775037600123+0000)/") == datetime(2026, 4, 1, 10, 0, 0, 123000, UTC)


@pytest.mark.parametrize("text", ["2026-04-01", "/Date(x)/", "/Date(999999999999999)/", ""])
def test_a_date_of_another_form_is_a_bad_answer(text):
    with pytest.raises(SourceBadResponse):
        calendar_date(text)


def test_a_status_that_nobody_knows_yet_keeps_its_own_word():
    own_fields = OwnFields(())
    answer, _ = own_fields.pages.read(
        b'{"pagination":{"page":1,"pageSize":1,"pageCount":1,"itemCount":1},"Invoices":[{"InvoiceID":"i",'
        b'"Type":"ACCREC","Contact":{"ContactID":"c"},"Status":"HELD","CurrencyCode":"GBP","Total":48,'
        b'"Payments":[{"PaymentID":"p","Status":"DELETED","Amount":5.0}]}]}',
        no_drop,
    )

    details = Alone(InvoiceDetails())
    assert invoices(answer.invoices, details, own_fields, Customers()) == [
        InvoiceRecord(
            ref=Ref("xero", "i"),
            customer=Ref("xero", "c"),
            number=None,
            status=InvoiceStatus.UNKNOWN,
            source_status="HELD",
            currency="GBP",
            total_value=Decimal("48"),
            details=details,
        )
    ]


# Details, which are read when they are asked for


def a_page(*rows: str) -> Answer:
    """A page of invoices, each with an id, a type and a contact beside what is given."""
    whole = ",".join(
        f'{{"InvoiceID":"{place}","Type":"ACCREC","Contact":{{"ContactID":"c"}},{row}}}'
        for place, row in enumerate(rows)
    )
    pages = '"pagination":{"page":1,"pageSize":9,"pageCount":1,"itemCount":9}'
    return Answer(200, {}, f'{{{pages},"Invoices":[{whole}]}}'.encode())


def records_of(place: Place, answer: Answer) -> list[InvoiceRecord]:
    erp = place.connect()
    page, _ = erp._http.page(answer, erp._own.pages)
    return erp._records(page.invoices, answer.body, Customers())


@pytest.mark.parametrize(
    "wrong",
    [
        '"LineItems":{"a":1}',
        '"LineItems":[{"Quantity":"many"}]',
        '"AmountDue":"twelve"',
        '"UpdatedDateUTC":"yesterday"',
        '"Payments":[{"PaymentID":"p","Date":"soon"}]',
    ],
)
async def test_details_that_do_not_fit_are_an_error_where_they_are_read_and_nowhere_else(place, wrong):
    line = '"CurrencyCode":"GBP","Total":12,"AmountDue":12,"LineItems":[{"Description":"Support","LineAmount":12}]'

    bad, good = records_of(place, a_page(f'"InvoiceNumber":"INV-1",{wrong}', line))

    assert bad.number == "INV-1"
    for record in (bad, bad.alone()):
        with pytest.raises(SourceBadResponse) as failure:
            assert record.lines
        assert "twelve" not in str(failure.value)
        with pytest.raises(SourceBadResponse):
            assert record.amount_due
    for record in (good, good.alone()):
        assert (record.total, record.amount_due) == (Money(Decimal("12.00"), "GBP"),) * 2
        assert [(one.description, one.amount) for one in record.lines] == [("Support", record.total)]


async def test_an_invoice_with_a_date_that_is_none_is_dropped_alone(place):
    records = records_of(place, a_page('"Date":"/Date(0)/"', '"DueDate":"tomorrow"', '"Date":null'))

    assert [(record.ref.id, record.issue_date) for record in records] == [
        ("0", date(1970, 1, 1)),
        ("2", None),
    ]


async def test_an_invoice_that_is_kept_holds_on_to_no_other(place):
    first, second = records_of(place, a_page('"Reference":"PO 1"', '"Reference":"PO 2"'))
    kept = first.alone()

    assert kept.details.given == b'{"InvoiceID":"0","Reference":"PO 1"}'
    assert (kept.reference, second.reference) == ("PO 1", "PO 2")
    assert kept.details.given == InvoiceDetails(reference="PO 1")


# The sandbox's own faithfulness


async def api(place: Place, path: str, **params: str) -> tuple[int, Any]:
    erp = place.connect()
    answer = await erp._http.call("GET", path, params=list(params.items()), expect=(200, 400, 404))
    return answer.status, msgspec.json.decode(answer.body) if answer.body.startswith(b"{") else answer.body


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('Type=="ACCREC', "Unterminated string literal"),
        ("Type=='ACCREC'", "Character literal must contain exactly one character"),
        ('Colour=="red"', "No property or field 'Colour' exists in type 'Invoice'"),
        ("Total>", "Expression expected"),
        ("(Total>1", "')' or operator expected"),
        ("Total>1 Date", "Syntax error"),
        ('Total=="1"', "Operator '==' incompatible with operand types 'Decimal' and 'String'"),
        ('InvoiceID=="x"', "Operator '==' incompatible with operand types 'Guid' and 'String'"),
        (
            "DueDate>=DateTime(2026,13,01)",
            "Year, Month, and Day parameters describe an un-representable DateTime",
        ),
        ("(" * 60 + "Total>1" + ")" * 60, "Expression is nested too deeply"),
    ],
)
async def test_the_sandbox_refuses_what_it_cannot_parse_in_xeros_form(place, text, message):
    status, body = await api(place, "/Invoices", where=text, page="1")

    assert (status, body) == (400, {"ErrorNumber": 16, "Type": "QueryParseException", "Message": message})


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('Name=="ab" AND Total>1.5', True),
        ("Total>1.5 OR 1", None),
        ('Name=="x" OR Name=="AB"', True),
        ('Name=="x" || Total==2 && Sent', True),
        ("!Sent", False),
        ("Sent==true and not (Total<>2)", True),
        ('Id==guid("00000000-0000-4000-8000-000000000000")', True),
        ("Due==null", True),
        ("Due<=DateTime(2026,1,1)", False),
        ('Name.StartsWith("A") && name.EndsWith("b")', True),
        ('Name=="a""b"', False),
        ("Total>-1", True),
    ],
)
def test_the_sandbox_evaluates_what_it_parses(text, fits):
    elements = {"Name": "String", "Total": "Decimal", "Sent": "Boolean", "Id": "Guid", "Due": "DateTime"}
    values = {
        "Name": "ab",
        "Total": Decimal(2),
        "Sent": True,
        "Id": "00000000-0000-4000-8000-000000000000",
        "Due": None,
    }
    if fits is None:
        with pytest.raises(QueryParseError):
            predicate(text, elements, "Thing")
    else:
        assert predicate(text, elements, "Thing")(values) is fits


async def test_the_sandbox_fails_on_a_missing_element_that_was_not_tested_for_null(place):
    status, body = await api(place, "/Contacts", where='ContactNumber.EndsWith("0")', page="1")

    assert (status, body["Type"]) == (400, "QueryParseException")


async def test_the_sandbox_leaves_lines_out_of_unpaged_lists(place, first):
    _, unpaged = await api(place, "/Invoices", ContactIDs=first.id)
    _, paged = await api(place, "/Invoices", ContactIDs=first.id, page="1", pageSize="1000")

    assert "pagination" not in unpaged
    assert all(invoice["LineItems"] == [] for invoice in unpaged["Invoices"])
    assert all(invoice["LineItems"] for invoice in paged["Invoices"])
    assert {invoice["Type"] for invoice in paged["Invoices"]} == {"ACCREC", "ACCPAY"}


async def test_the_sandbox_refuses_a_query_that_is_too_long_and_a_page_that_is_too_large(place, world):
    ids = ",".join(invoice.id for invoice in world.invoices[:60])

    assert (await api(place, "/Invoices", IDs=ids))[0] == 404
    assert (await api(place, "/Invoices", page="1", pageSize="1001"))[0] == 400
    assert (await api(place, "/Invoices", page="0"))[0] == 400


async def test_the_sandbox_gives_only_what_changed_since(place, world):
    erp = place.connect()
    since = world.today - timedelta(days=1)
    answer = await erp._http.call(
        "GET",
        "/Invoices",
        params=[("page", "1"), ("pageSize", "1000")],
        headers={"If-Modified-Since": f"{since}T00:00:00"},
    )

    changed = [
        i
        for i in (*world.invoices, *world.bills)
        if i.updated_at >= datetime(since.year, since.month, since.day, tzinfo=UTC)
    ]
    assert len(changed) > 10
    assert msgspec.json.decode(answer.body)["pagination"]["itemCount"] == len(changed)


async def test_the_sandbox_speaks_xml_to_those_who_do_not_ask_for_json(place):
    answer = await place.connect()._http.call("GET", "/Contacts", headers={"Accept": "*/*"})

    assert answer.headers["content-type"].startswith("text/xml")


def no_drop(kind: str, record_id: str | None) -> None:
    raise AssertionError(f"a {kind} was dropped")
