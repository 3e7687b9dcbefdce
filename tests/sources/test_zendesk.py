"""What is particular to Zendesk: its credentials, its search language, its error spellings and its two kinds of paging."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sources.ledger.book import Ledger
from sources.ports.common import (
    Condition,
    Criterion,
    CustomField,
    Direction,
    Key,
    Page,
    Ref,
    Scalar,
    Window,
)
from sources.ports.errors import (
    ConsentNeeded,
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceUnavailable,
)
from sources.ports.helpdesk import (
    ArticleQuery,
    CommentQuery,
    Helpdesk,
    TicketOrder,
    TicketPriority,
    TicketQuery,
    TicketStatus,
)
from sources.ports.trace import Trace
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.http import Answer
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.zendesk import sandbox as emulator
from sources.vendors.zendesk.errors import explain
from sources.vendors.zendesk.helpdesk import Settings, connect
from sources.vendors.zendesk.query import filters, quoted
from sources.vendors.zendesk.rows import plain_text

NO_TOKENS = Wiring(tokens=None, network=Network(guarded=False))  # type: ignore[arg-type]
FIRST = TicketQuery(Window(first=5))


@asynccontextmanager
async def account(
    sandbox: Sandbox, settings: Callable[[str], Settings] = emulator.settings_for, wiring: Wiring = NO_TOKENS
) -> AsyncIterator[Helpdesk]:
    async with serve(sandbox) as running:
        port = connect(settings(running.url), wiring)
        try:
            yield port
        finally:
            await port.close()


@pytest_asyncio.fixture
async def sandbox(world: World) -> Sandbox:
    return emulator.sandbox(world, record_bodies=True)


def organisation(world: World, index: int = 0) -> Ref:
    return Ref("zendesk", str(world.accounts[index].zendesk_org_id))


def some_ticket(world: World) -> Ref:
    return Ref("zendesk", str(world.tickets[0].id))


# Credentials


@pytest.mark.parametrize(
    "wrong",
    [{"api_token": "other"}, {"email": "someone@else.example"}],
    ids=["token", "email"],
)
async def test_a_wrong_api_token_is_rejected(sandbox: Sandbox, wrong: dict[str, str]) -> None:
    def settings(url: str) -> Settings:
        return msgspec.structs.replace(emulator.settings_for(url), **wrong)

    async with account(sandbox, settings) as port:
        with pytest.raises(SourceRejected, match="api_token"):
            await port.tickets([Ref("zendesk", "1")])
        assert not (await port.probe()).allowed


async def test_an_access_token_that_does_not_expire_is_enough(sandbox: Sandbox, world: World) -> None:
    async with account(
        sandbox,
        lambda url: Settings(
            base_url=url, access_token=emulator.ACCESS_TOKEN, private_addresses=("127.0.0.1",)
        ),
    ) as port:
        assert (await port.probe()).allowed


async def test_a_refresh_token_is_spent_once_and_its_successor_kept(
    sandbox: Sandbox, world: World, ledger: Ledger
) -> None:
    wiring = Wiring(tokens=ledger.tokens, network=Network(guarded=False))
    async with serve(sandbox) as running:
        for _ in range(2):  # the second process starts from what the first one stored
            port = connect(emulator.oauth_settings_for(running.url), wiring)
            assert await port.customers([organisation(world)]) != [None]
            await port.close()
    assert sandbox.log.count("POST", "/oauth/tokens") == 1
    kept = await ledger.tokens.load("zendesk")
    assert kept is not None
    assert kept.refresh_token != emulator.REFRESH_TOKEN


async def test_the_token_request_is_json_with_the_client_in_it(sandbox: Sandbox, ledger: Ledger) -> None:
    async with account(
        sandbox, emulator.oauth_settings_for, Wiring(tokens=ledger.tokens, network=Network(guarded=False))
    ) as port:
        assert (await port.probe()).allowed
    [call] = sandbox.log.calls("POST", "/oauth/tokens")
    assert msgspec.json.decode(call.request_body) == {
        "grant_type": "refresh_token",
        "refresh_token": emulator.REFRESH_TOKEN,
        "client_id": emulator.CLIENT_ID,
        "client_secret": emulator.CLIENT_SECRET,
    }
    assert "authorization" not in dict(call.request_headers)


async def test_a_token_that_another_process_replaced_is_read_again(
    sandbox: Sandbox, world: World, ledger: Ledger
) -> None:
    wiring = Wiring(tokens=ledger.tokens, network=Network(guarded=False))
    async with serve(sandbox) as running:
        one, other = (connect(emulator.oauth_settings_for(running.url), wiring) for _ in range(2))
        assert (await one.probe()).allowed
        assert (await other.probe()).allowed
        sandbox.faults.add("fail", "/api/v2/users/me", status=401, times=1)
        assert (await other.probe()).allowed  # refreshes, which ends the token that `one` holds
        assert (await one.probe()).allowed
        await one.close()
        await other.close()
    assert sandbox.log.count("POST", "/oauth/tokens") == 2


async def test_a_spent_refresh_token_needs_consent_and_is_not_tried_again(
    sandbox: Sandbox, ledger: Ledger
) -> None:
    def settings(url: str) -> Settings:
        return msgspec.structs.replace(emulator.oauth_settings_for(url), refresh_token="spent")

    async with account(
        sandbox, settings, Wiring(tokens=ledger.tokens, network=Network(guarded=False))
    ) as port:
        for _ in range(2):
            with pytest.raises(ConsentNeeded):
                await port.tickets([Ref("zendesk", "1")])
    assert sandbox.log.count("POST", "/oauth/tokens") == 1


async def test_tokens_without_an_expiry_are_used_until_refused(world: World, ledger: Ledger) -> None:
    sandbox = emulator.sandbox(world, token_seconds=None)
    async with account(
        sandbox, emulator.oauth_settings_for, Wiring(tokens=ledger.tokens, network=Network(guarded=False))
    ) as port:
        assert (await port.probe()).allowed
    kept = await ledger.tokens.load("zendesk")
    assert kept is not None
    assert kept.expires_at is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"email": "a@b.example"},
        {"api_token": "x"},
        {"email": "a@b.example", "api_token": "x", "access_token": "y"},
        {"client_id": "a", "client_secret": "b"},
        {"access_token": "y", "organisations_per_search": 0},
        {"access_token": "y", "export_page_size": 5000},
    ],
)
def test_settings_that_do_not_make_one_credential_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"base_url": "https://acme.zendesk.com", **given}, Settings)


def test_a_firms_own_field_must_be_a_ticket_fields_number() -> None:
    field = CustomField("Ticket", "region", 'region"', Scalar.STRING, "Where the customer is.")
    with pytest.raises(InvalidRequest, match=r"Ticket\.region: property"):
        connect(
            Settings(base_url="http://127.0.0.1:1", access_token="x"),
            Wiring(tokens=None, custom=(field,), network=Network(guarded=False)),  # type: ignore[arg-type]
        )


async def test_the_help_centre_is_asked_without_credentials(sandbox: Sandbox) -> None:
    async with account(sandbox) as port:
        await port.search_articles(ArticleQuery("invoice", Window(first=5)))
        await port.probe()
    articles, probe = sandbox.log.calls()
    assert "authorization" not in dict(articles.request_headers)
    assert "authorization" in dict(probe.request_headers)


# The search language


def field(scalar: Scalar, **more: Any) -> CustomField:
    return CustomField("Ticket", "extra", "360002", scalar, "", **more)


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ({"statuses": (TicketStatus.ON_HOLD, TicketStatus.NEW)}, ["status:hold", "status:new"]),
        (
            {"updated_since": datetime(2026, 5, 1, 10, 0, 0, 500, tzinfo=UTC)},
            ["updated>=2026-05-01T10:00:01Z"],
        ),
        ({"created_since": datetime(2026, 5, 1, 10, tzinfo=UTC)}, ["created>=2026-05-01T10:00:00Z"]),
        ({"text": 'late" status:open'}, ['subject:"late status:open"']),
        ({"text": "Größe -zwölf*"}, ['subject:"Größe -zwölf"']),
        ({"conditions": (Condition(field(Scalar.STRING), equals=("a b",)),)}, ['custom_field_360002:"a b"']),
        ({"conditions": (Condition(field(Scalar.BOOLEAN), equals=(True,)),)}, ["custom_field_360002:true"]),
        ({"conditions": (Condition(field(Scalar.STRING), equals=(None,)),)}, ["custom_field_360002:none"]),
        (
            {"conditions": (Condition(field(Scalar.DECIMAL), minimum=Decimal("1E+3"), maximum=2000),)},
            ["custom_field_360002>=1000", "custom_field_360002<=2000"],
        ),
        (
            {"conditions": (Condition(field(Scalar.DATE), minimum=date(2026, 5, 1)),)},
            ["custom_field_360002>=2026-05-01"],
        ),
        (
            {
                "conditions": (
                    Condition(field(Scalar.ENUM, values=(("tier_gold", "GOLD"),)), equals=("GOLD",)),
                )
            },
            ['custom_field_360002:"tier_gold"'],
        ),
    ],
)
def test_filters_become_terms(query: dict[str, Any], terms: list[str]) -> None:
    assert filters(TicketQuery(Window(first=1), **query)) == terms


@pytest.mark.parametrize("text", ['"', "“”", "* *", '\\"', "\x00", "-:<>"])
def test_text_without_letters_or_digits_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        quoted(text)


@pytest.mark.parametrize("text", ['a" OR "b', "a“b”c", "a\\", "a*", "a\nb", 'x"organization:1'])
def test_nothing_gets_out_of_a_phrase(text: str) -> None:
    phrase = quoted(text)
    assert (phrase[0], phrase[-1]) == ('"', '"')
    assert not set(phrase[1:-1]) & set('"“”\\*\n')


async def test_text_cannot_reach_another_organisation(sandbox: Sandbox, world: World) -> None:
    hostile = f'" organization:{organisation(world, 1).id} subject:"'
    async with account(sandbox) as port:
        [page] = await port.tickets_of([organisation(world)], TicketQuery(Window(first=100), text=hostile))
    assert page == Page([], [])
    [call] = sandbox.log.calls()
    assert call.params["query"].count('"') == 2


async def test_a_search_names_what_it_wants(sandbox: Sandbox, world: World) -> None:
    query = TicketQuery(
        Window(last=3),
        statuses=(TicketStatus.OPEN,),
        priorities=(TicketPriority.HIGH,),
        order=TicketOrder.UPDATED_AT,
        direction=Direction.DESC,
    )
    async with account(sandbox) as port:
        await port.tickets_of([organisation(world), organisation(world, 1)], query)
    [call] = sandbox.log.calls()
    assert call.query == (
        (
            "query",
            f"type:ticket organization:{organisation(world).id} organization:{organisation(world, 1).id} "
            "status:open priority:high",
        ),
        ("sort_by", "updated_at"),
        ("sort_order", "asc"),
        ("per_page", "25"),
        ("page", "1"),
    )


async def test_addresses_stay_short(sandbox: Sandbox, world: World) -> None:
    customers = [
        Ref("zendesk", str(account.zendesk_org_id)) for account in world.accounts if account.zendesk_org_id
    ]
    async with account(sandbox) as port:
        await port.tickets_of(customers, TicketQuery(Window(first=100), statuses=tuple(TicketStatus)))
    lengths = [
        sum(len(name) + len(value) * 1.2 for name, value in call.query) for call in sandbox.log.calls()
    ]
    assert max(lengths) < 2000


# The two searches


async def test_a_vendor_that_exports_the_oldest_first_is_searched_instead(world: World) -> None:
    """The order of an export is not stated by the vendor, only shown by an example."""
    exported = 0

    async def export(request: Request) -> Response:
        nonlocal exported
        exported += 1
        rows = [
            {
                "id": n,
                "organization_id": 1,
                "created_at": f"2026-01-{n:02}T00:00:00Z",
                "updated_at": f"2026-01-{n:02}T00:00:00Z",
            }
            for n in range(1, 11)
        ]
        return answer({"results": rows, "meta": {"has_more": True, "after_cursor": "x"}})

    async def search(request: Request) -> Response:
        assert request.query_params["sort_order"] == "desc"
        rows = [
            {
                "id": n,
                "organization_id": 1,
                "created_at": f"2026-01-{n:02}T00:00:00Z",
                "updated_at": f"2026-01-{n:02}T00:00:00Z",
            }
            for n in range(28, 0, -1)
        ]
        return answer({"results": rows, "next_page": None})

    stand_in = Sandbox("zendesk", [Route("/api/v2/search/export", export), Route("/api/v2/search", search)])
    async with account(stand_in) as port:
        [page] = await port.tickets_of([Ref("zendesk", "1")], TicketQuery(Window(first=100)))
    assert isinstance(page, Page)
    assert [row.ref.id for row in page.rows] == [str(n) for n in range(28, 0, -1)]
    assert exported == 1


async def test_ties_that_a_search_cannot_reach_past_are_an_error(world: World) -> None:
    async def search(request: Request) -> Response:
        page, size = int(request.query_params["page"]), int(request.query_params["per_page"])
        rows = [
            {
                "id": page * 1000 + n,
                "organization_id": 1,
                "created_at": "2026-01-01T00:00:00Z",
                "updated_at": "2026-01-01T00:00:00Z",
            }
            for n in range(size)
        ]
        return answer({"results": rows, "next_page": "more"})

    sandbox = Sandbox("zendesk", [Route("/api/v2/search", search)])
    async with account(sandbox) as port:
        [page] = await port.tickets_of(
            [Ref("zendesk", "1")], TicketQuery(Window(first=5), order=TicketOrder.UPDATED_AT)
        )
    assert isinstance(page, SourceBadResponse)


async def test_ties_longer_than_an_export_page_are_read_by_its_cursor(world: World) -> None:
    rows = [
        {
            "id": n,
            "organization_id": 1 + n // 250,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }
        for n in range(300)
    ]

    async def export(request: Request) -> Response:
        start = int(request.query_params.get("page[after]", "0"))
        end = start + int(request.query_params["page[size]"])
        meta = {"has_more": end < len(rows), "after_cursor": str(end)}
        return answer({"results": rows[start:end], "meta": meta})

    def settings(url: str) -> Settings:
        return msgspec.structs.replace(emulator.settings_for(url), export_page_size=100)

    sandbox = Sandbox("zendesk", [Route("/api/v2/search/export", export)])
    async with account(sandbox, settings) as port:
        pages = await port.tickets_of(
            [Ref("zendesk", "1"), Ref("zendesk", "2")], TicketQuery(Window(first=60))
        )
    assert [len(page.rows) for page in pages if isinstance(page, Page)] == [60, 50]


async def test_rows_of_organisations_that_were_not_asked_for_are_dropped(world: World) -> None:
    async def search(request: Request) -> Response:
        times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
        rows = [{"id": 1, "organization_id": 2, **times}, {"id": 2, "organization_id": None, **times}]
        return answer({"results": rows, "next_page": None})

    async with account(Sandbox("zendesk", [Route("/api/v2/search", search)])) as port:
        [page] = await port.tickets_of([Ref("zendesk", "1")], FIRST)
    assert page == Page([], [])


async def test_an_order_by_priority_asks_by_priority_where_a_page_does_not_hold_all(world: World) -> None:
    crowded = World.build(scale=0.05).with_large_account(1, invoices=0, tickets=400)
    sandbox = emulator.sandbox(crowded)
    query = TicketQuery(Window(first=20), order=TicketOrder.PRIORITY, statuses=())
    async with account(sandbox) as port:
        await port.tickets_of([organisation(crowded, 1)], query)
    asked = [
        call.params["query"].partition(" organization:")[2].partition(" ")[2] for call in sandbox.log.calls()
    ]
    assert asked == ["", "priority:urgent"]


async def test_ties_of_priority_and_creation_are_read_page_by_page() -> None:
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    rows = [{"id": n, "organization_id": 1, "priority": "urgent", **times} for n in range(100, 350)]

    async def search(request: Request) -> Response:
        end = int(request.query_params["page"]) * 100
        return answer({"results": rows[end - 100 : end], "next_page": "more" if end < len(rows) else None})

    async with account(Sandbox("zendesk", [Route("/api/v2/search", search)])) as port:
        query = TicketQuery(Window(first=50), order=TicketOrder.PRIORITY, priorities=(TicketPriority.URGENT,))
        [page] = await port.tickets_of([Ref("zendesk", "1")], query)
    assert isinstance(page, Page)
    assert [row.ref.id for row in page.rows] == [str(n) for n in range(349, 299, -1)]


async def test_a_forged_key_of_an_order_by_priority_is_refused(sandbox: Sandbox, world: World) -> None:
    async with account(sandbox) as port:
        for value in ("9 2026-01-01T00:00:00Z", "٣ 2026-01-01T00:00:00Z", "2", "2 now", ""):
            query = TicketQuery(Window(first=5, after=Key(value, "1")), order=TicketOrder.PRIORITY)
            [page] = await port.tickets_of([organisation(world)], query)
            assert isinstance(page, InvalidRequest)
    assert sandbox.log.count() == 0


# Statuses, priorities, fields


async def test_words_that_are_new_to_us_are_kept(world: World) -> None:
    async def show_many(request: Request) -> Response:
        row = {
            "id": 9007199254740993,
            "status": "parked",
            "priority": "apocalyptic",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "custom_fields": [{"id": 360002, "value": ["a", "b"]}],
        }
        return answer({"tickets": [row]})

    wiring = Wiring(tokens=None, custom=(field(Scalar.STRING),), network=Network(guarded=False))  # type: ignore[arg-type]
    sandbox = Sandbox("zendesk", [Route("/api/v2/tickets/show_many", show_many)])
    async with account(sandbox, wiring=wiring) as port:
        [record] = await port.tickets([Ref("zendesk", "9007199254740993")])
    assert record is not None
    assert (record.status, record.source_status) == (TicketStatus.UNKNOWN, "parked")
    assert (record.priority, record.source_priority) == (TicketPriority.UNKNOWN, "apocalyptic")
    assert (record.customer, record.subject, record.tags) == (None, None, ())
    assert record.custom == {"360002": "a, b"}


async def test_custom_fields_are_only_read_where_the_firm_shows_some() -> None:
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    rows = [{"id": 1, **times, "custom_fields": "?"}, {"id": 2, **times, "custom_fields": []}]

    async def show_many(request: Request) -> Response:
        return answer({"tickets": rows})

    found = []
    for custom in ((), (field(Scalar.STRING),)):
        wiring = Wiring(tokens=None, custom=custom, network=Network(guarded=False))  # type: ignore[arg-type]
        sandbox = Sandbox("zendesk", [Route("/api/v2/tickets/show_many", show_many)])
        async with account(sandbox, wiring=wiring) as port:
            records = await port.tickets([Ref("zendesk", "1"), Ref("zendesk", "2")])
        found.append([record and record.custom for record in records])
    # A row with fields that do not fit is dropped alone.
    assert found == [[{}, {}], [None, {"360002": None}]]


# Customers


async def test_numbers_are_matched_in_the_organisation_field_that_the_settings_name(
    sandbox: Sandbox, world: World
) -> None:
    def settings(url: str) -> Settings:
        return msgspec.structs.replace(emulator.settings_for(url), number_field="customer_number")

    async with account(sandbox, settings) as port:
        found = await port.customers_by(Criterion.NUMBER, ["c-10001", "C-0"])
    assert [[(record.ref, record.number) for record in records] for records in found] == [
        [(organisation(world), "C-10001")],
        [],
    ]


async def test_an_external_id_with_a_comma_is_not_asked_for(sandbox: Sandbox) -> None:
    async with account(sandbox) as port:
        assert list(await port.customers_by(Criterion.EXTERNAL_ID, ["C-10001,C-10002", ""])) == [[], []]
    assert sandbox.log.count() == 0


async def test_all_organisations_are_read_once_for_many_domains(sandbox: Sandbox, world: World) -> None:
    domains = [account.domain for account in world.accounts if account.zendesk_org_id][:40]
    async with account(sandbox) as port:
        found = await port.customers_by(Criterion.EMAIL_DOMAIN, domains)
    assert all(found)
    organisations = sum(a.zendesk_org_id is not None for a in world.accounts) + len(
        world.duplicate_organisations
    )
    assert sandbox.log.count() == -(-organisations // 100)


# Comments and attachments


def comments_of(*comments: dict[str, Any]) -> Callable[[Request], Any]:
    async def comments_page(request: Request) -> Response:
        return answer({"comments": comments, "users": [{"id": 88, "name": "Ann"}]})

    return comments_page


async def test_a_comment_without_the_flag_is_internal_and_its_text_is_the_plain_one(world: World) -> None:
    when = "2026-05-01T10:00:00Z"
    sandbox = Sandbox(
        "zendesk",
        [
            Route(
                "/api/v2/tickets/1/comments",
                comments_of(
                    {
                        "id": 1,
                        "author_id": 88,
                        "body": "raw",
                        "plain_body": "plain",
                        "public": True,
                        "created_at": when,
                    },
                    {"id": 2, "author_id": 99, "body": "unflagged", "created_at": when},
                    {"id": 3, "body": "null flag", "public": None, "created_at": when},
                ),
            )
        ],
    )
    async with account(sandbox) as port:
        [public] = await port.comments_of([Ref("zendesk", "1")], CommentQuery(Window(first=9)))
        [whole] = await port.comments_of([Ref("zendesk", "1")], CommentQuery(Window(first=9), internal=True))
    assert isinstance(public, Page)
    assert isinstance(whole, Page)
    assert [(row.ref.id, row.body, row.author_name) for row in public.rows] == [("1/1", "plain", "Ann")]
    assert [row.public for row in whole.rows] == [True, False, False]


async def test_a_deleted_attachment_is_not_there() -> None:
    file = {"id": 5, "file_name": "a.txt", "content_url": "http://127.0.0.1/x", "deleted": True}
    comment = {"id": 1, "public": True, "created_at": "2026-05-01T10:00:00Z", "attachments": [file]}
    async with account(
        Sandbox("zendesk", [Route("/api/v2/tickets/1/comments", comments_of(comment))])
    ) as port:
        [page] = await port.comments_of([Ref("zendesk", "1")], CommentQuery(Window(first=5)))
        assert await port.attachment(Ref("zendesk", "1"), "5", False) is None
    assert isinstance(page, Page)
    assert page.rows[0].attachments == ()


async def test_a_long_conversation_is_read_to_its_end(sandbox: Sandbox, world: World) -> None:
    when = "2026-05-01T10:00:00Z"

    async def conversation(request: Request) -> Response:
        start = int(request.query_params.get("page[after]", "0"))
        size = int(request.query_params["page[size]"])
        rows = [
            {"id": n, "body": str(n), "public": n == 249, "created_at": when}
            for n in range(start, min(250, start + size))
        ]
        return answer(
            {
                "comments": rows,
                "users": [],
                "meta": {"has_more": start + size < 250, "after_cursor": str(start + size)},
            }
        )

    long = Sandbox("zendesk", [Route("/api/v2/tickets/1/comments", conversation)])
    async with account(long) as port:
        [page] = await port.comments_of([Ref("zendesk", "1")], CommentQuery(Window(first=5)))
    assert isinstance(page, Page)
    assert [row.body for row in page.rows] == ["249"]
    assert long.log.count() == 3


@asynccontextmanager
async def attached(
    content_url: str, elsewhere: Sandbox, hosts: tuple[str, ...] = (), moved_to: str = ""
) -> AsyncIterator[tuple[Helpdesk, Sandbox]]:
    """A ticket with one attachment at ``content_url``, in which {home} and {elsewhere} stand for the two hosts."""
    home_url = other_url = ""

    async def comments_page(request: Request) -> Response:
        file = {
            "id": 5,
            "file_name": "a b.txt",
            "content_url": content_url.format(home=home_url, elsewhere=other_url),
        }
        comment = {"id": 1, "public": True, "created_at": "2026-05-01T10:00:00Z", "attachments": [file]}
        return answer({"comments": [comment], "users": []})

    async def moved(request: Request) -> Response:
        return RedirectResponse(moved_to.format(home=home_url, elsewhere=other_url))

    home = Sandbox(
        "zendesk",
        [Route("/api/v2/tickets/1/comments", comments_page), Route("/moved", moved)],
        record_bodies=True,
    )
    async with serve(elsewhere) as other, serve(home) as running:
        home_url, other_url = running.url, other.url
        listed = tuple(host.format(elsewhere=f"127.0.0.1:{other.port}") for host in hosts)
        port = connect(
            msgspec.structs.replace(emulator.settings_for(running.url), attachment_hosts=listed), NO_TOKENS
        )
        try:
            yield port, home
        finally:
            await port.close()


def file_host() -> Sandbox:
    async def file(request: Request) -> Response:
        return Response(f"seen {request.url.query}")

    return Sandbox("files", [Route("/file", file)], record_bodies=True)


@pytest.mark.parametrize(
    ("content_url", "moved_to"),
    [("{elsewhere}/file?name=a%20b", ""), ("{home}/moved", "{elsewhere}/file?name=a%20b")],
    ids=["at once", "by redirect"],
)
async def test_an_attachment_on_a_listed_host_is_fetched_without_credentials(
    content_url: str, moved_to: str
) -> None:
    files = file_host()
    trace = Trace(trace_id=1, told_to=frozenset(("zendesk",)))
    async with attached(content_url, files, ("{elsewhere}",), moved_to) as (port, home):
        with trace.begin("operation", "x"):
            content = await port.attachment(Ref("zendesk", "1"), "5", False)
    assert content is not None
    assert (content.body, content.media_type, content.file_name) == (
        b"seen name=a%20b",
        "application/octet-stream",
        "a b.txt",
    )
    [call] = files.log.calls()
    assert dict(call.request_headers).keys().isdisjoint(("authorization", "traceparent"))
    assert all("traceparent" in dict(call.request_headers) for call in home.log.calls())


@pytest.mark.parametrize(
    ("content_url", "moved_to"),
    [("{elsewhere}/file", ""), ("{home}/moved", "{elsewhere}/file")],
    ids=["at once", "by redirect"],
)
async def test_an_attachment_on_any_other_host_is_not_fetched(content_url: str, moved_to: str) -> None:
    files = file_host()
    async with attached(content_url, files, ("files.example", ".zdusercontent.com"), moved_to) as (port, _):
        with pytest.raises(SourceBadResponse, match="attachment_hosts"):
            await port.attachment(Ref("zendesk", "1"), "5", False)
    assert files.log.count() == 0


@pytest.mark.parametrize(
    "content_url",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.1/x", "/moved", "not an address", "http://[", ""],
)
async def test_an_attachment_at_no_real_address_is_a_bad_response(content_url: str) -> None:
    async with attached(content_url, file_host()) as (port, _):
        with pytest.raises(SourceBadResponse):
            await port.attachment(Ref("zendesk", "1"), "5", False)


async def test_redirects_in_a_circle_end() -> None:
    async with attached("{home}/moved", file_host(), (), "{home}/moved") as (port, home):
        with pytest.raises(SourceBadResponse, match="redirect"):
            await port.attachment(Ref("zendesk", "1"), "5", False)
    assert home.log.count(path_prefix="/moved") == 3


# Errors


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (401, b'{"error":"Couldn\'t authenticate you"}', SourceRejected, "Couldn't authenticate you"),
        (403, b'{"error":{"title":"Forbidden","message":"Ann Smith"}}', SourceRejected, "Forbidden"),
        (403, b"<html>Forbidden</html>", SourceRejected, None),
        (404, b'{"error":{"title":"No help desk at acme.zendesk.com"}}', SourceRejected, None),
        (409, b'{"error":"Conflict"}', InvalidRequest, "Conflict"),
        (
            422,
            b'{"error":"RecordInvalid","description":"Ann Smith","details":{}}',
            InvalidRequest,
            "RecordInvalid",
        ),
        (422, b'{"error":"unavailable","description":"Ann Smith"}', SourceUnavailable, "unavailable"),
        (
            400,
            b'{"errors":[{"code":"InvalidValue","title":"Ann Smith","detail":"Ann Smith"}]}',
            InvalidRequest,
            "InvalidValue",
        ),
        (429, b"Number of allowed API requests per minute exceeded", SourceRateLimited, None),
        (429, b'{"error":"APIRateLimitExceeded"}', SourceRateLimited, "APIRateLimitExceeded"),
        (503, b'{"errors":[{"code":"TooManyRequests","title":"x"}]}', SourceRateLimited, "TooManyRequests"),
        (503, b"\xff\xfe", SourceUnavailable, None),
        (500, b"[]", SourceUnavailable, None),
        (500, b'{"errors":[]}', SourceUnavailable, None),
    ],
)
def test_every_spelling_of_an_error_is_understood_and_its_text_not_repeated(
    status: int, body: bytes, expected: type[SourceError], code: str | None
) -> None:
    error = explain(Answer(status, {"x-request-id": "r1", "retry-after": "7"}, body))
    assert type(error) is expected
    assert (error.vendor_code, error.request_id) == (code, "r1")
    assert "Ann Smith" not in str(error)
    if expected in (SourceRateLimited, SourceUnavailable):
        assert error.retry_after == 7


async def test_a_helpdesk_that_counts_calls_says_when_to_come_back(world: World) -> None:
    sandbox = emulator.sandbox(world, calls_per_minute=2)
    async with account(sandbox) as port:
        await port.probe()
        await port.probe()
        with pytest.raises(SourceRateLimited) as refused:
            await port.probe()
    assert refused.value.retry_after is not None
    assert 1 <= refused.value.retry_after <= 60


async def test_an_end_users_credentials_are_not_enough() -> None:
    async def me(request: Request) -> Response:
        return answer({"user": {"id": 5, "name": "Ann", "role": "end-user"}})

    async with account(Sandbox("zendesk", [Route("/api/v2/users/me", me)])) as port:
        probe = await port.probe()
    assert not probe.allowed
    assert "agent" in probe.detail


# Snippets


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("Read your in<em>voice</em>s &amp; more", "Read your invoices & more"),
        ("<p>One</p><p>two</p>\n three<br>four", "One two three four"),
        ("a<script>alert(1)</script>b<style>x</style>", "a b"),
        ("1 < 2 &lt;b", "1 < 2 <b"),
        ("", ""),
    ],
)
def test_snippets_become_plain_text(html: str, text: str) -> None:
    assert plain_text(html) == text


def answer(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
