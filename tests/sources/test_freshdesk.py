"""What is particular to Freshdesk: its key, its own statuses and fields, its limits, its notes and its knowledge base."""

import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import jsonschema
import msgspec
import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sources.ledger.book import Ledger
from sources.ports.common import Condition, Criterion, CustomField, Page, Ref, Scalar, Window
from sources.ports.errors import InvalidRequest, SourceBadResponse, SourceRateLimited, SourceRejected
from sources.ports.helpdesk import ArticleQuery, CommentQuery, TicketPriority, TicketQuery, TicketStatus
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.http import Answer
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.freshdesk import sandbox as emulator
from sources.vendors.freshdesk import sandbox_rows as rows
from sources.vendors.freshdesk.errors import explain
from sources.vendors.freshdesk.helpdesk import Freshdesk, connect
from sources.vendors.freshdesk.limits import readings
from sources.vendors.freshdesk.settings import Settings

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
FIELDS = (
    CustomField("Ticket", "units", "cf_units", Scalar.INT, "How many."),
    CustomField("Ticket", "cost", "cf_cost", Scalar.DECIMAL, "What it cost."),
    CustomField("Ticket", "visit", "cf_visit", Scalar.DATE, "When somebody came."),
    CustomField("Ticket", "urgent", "cf_urgent", Scalar.BOOLEAN, "In a hurry."),
)


class Desk:
    def __init__(self, box: emulator.FreshdeskSandbox, port: Freshdesk, url: str, ledger: Ledger) -> None:
        self.box, self.port, self.url, self.ledger = box, port, url, ledger
        self.account = box.desk

    def another(self, **settings: Any) -> Freshdesk:
        port = connect(
            msgspec.structs.replace(emulator.settings_for(self.url), **settings),
            Wiring(self.ledger.tokens, FIELDS, Network(guarded=False), self.ledger.mirrors),
        )
        assert isinstance(port, Freshdesk)
        return port

    async def sync(self) -> None:
        assert await self.port.mirror.catch_up(patient=False, everything=True)


@pytest_asyncio.fixture
async def desk(ledger: Ledger) -> AsyncIterator[Desk]:
    box = emulator.sandbox(World.build(scale=0.05), calls_per_minute=None, lists_per_minute=None)
    async with serve(box) as running:
        desk = Desk(box, None, running.url, ledger)  # type: ignore[arg-type]
        desk.port = desk.another()
        await desk.sync()
        box.log.clear()
        yield desk
        await desk.port.close()


def ref(id_: int | str) -> Ref:
    return Ref("freshdesk", str(id_))


def test_statuses_are_named_by_number() -> None:
    with pytest.raises(ValueError, match="number"):
        Settings(base_url="https://a.freshdesk.com", api_key="k", statuses={"Waiting": "pending"})


def test_an_own_field_is_named_by_its_key() -> None:
    field = CustomField("Ticket", "region", "360001", Scalar.STRING, "Where.")
    with pytest.raises(InvalidRequest, match="cf_region"):
        connect(emulator.settings_for("http://127.0.0.1:1"), Wiring(None, (field,)))  # type: ignore[arg-type]


async def test_a_status_that_nobody_explained_is_unknown_and_not_open(desk: Desk) -> None:
    id_ = min(desk.account.tickets)
    company = desk.account.tickets[id_]["company_id"]
    desk.account.change(id_, NOON, status=99, priority=9)
    await desk.sync()
    [ticket] = await desk.port.tickets([ref(id_)])
    assert ticket is not None
    assert (ticket.status, ticket.source_status) == (TicketStatus.UNKNOWN, "99")
    assert (ticket.priority, ticket.source_priority) == (TicketPriority.UNKNOWN, "9")
    [page] = await desk.port.tickets_of(
        [ref(company)], TicketQuery(Window(first=100), statuses=(TicketStatus.OPEN,))
    )
    assert isinstance(page, Page)
    assert ref(id_) not in [row.ref for row in page.rows]


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        (Condition(FIELDS[0], minimum=2, maximum=10), [2, 10]),
        (Condition(FIELDS[0], equals=(9, 10)), [10]),
        (Condition(FIELDS[0], equals=(None,)), [None]),
        (Condition(FIELDS[1], equals=(Decimal("2.5"),)), [2]),
        (Condition(FIELDS[1], minimum=Decimal("2.5")), [2, 10]),
        (Condition(FIELDS[2], minimum=date(2026, 2, 1), maximum=date(2026, 9, 30)), [2]),
        (Condition(FIELDS[3], equals=(True,)), [10]),
    ],
)
async def test_own_fields_are_filtered_as_what_they_are(
    desk: Desk, condition: Condition, fits: list[int | None]
) -> None:
    own: dict[int | None, dict[str, Any]] = {
        None: {"cf_units": None, "cf_cost": "n/a", "cf_visit": None, "cf_urgent": None},
        2: {"cf_units": 2, "cf_cost": "2.50", "cf_visit": "2026-09-30", "cf_urgent": False},
        10: {"cf_units": 10, "cf_cost": 11, "cf_visit": "2026-10-01", "cf_urgent": True},
    }
    company = desk.account.world.accounts[0].zendesk_org_id
    assert company is not None
    of_company = [id_ for id_, row in desk.account.tickets.items() if row["company_id"] == company][:3]
    for id_, fields in zip(of_company, own.values(), strict=True):
        desk.account.change(id_, NOON, custom_fields=fields, subject="counted")
    await desk.sync()
    [page] = await desk.port.tickets_of(
        [ref(company)], TicketQuery(Window(first=100), text="counted", conditions=(condition,))
    )
    assert isinstance(page, Page)
    assert sorted((row.custom["cf_units"] for row in page.rows), key=str) == sorted(fits, key=str)


async def test_customers_are_found_by_number_where_a_field_is_named(desk: Desk) -> None:
    account = next(account for account in desk.account.world.accounts if account.zendesk_external_id)
    number = account.zendesk_external_id
    assert number is not None
    port = desk.another(number_field="cf_customer_number", external_id_field=None)
    # Companies are kept in another form then: they are read again, tickets are not.
    desk.box.log.clear()
    await port.mirror.catch_up(patient=False)
    assert {call.path for call in desk.box.log.calls()} == {"/api/v2/companies"}
    [found] = await port.customers_by(Criterion.NUMBER, [number.lower()])
    assert [(record.ref, record.number, record.external_id) for record in found] == [
        (ref(account.zendesk_org_id or 0), number, None)
    ]
    await port.close()


async def test_a_note_is_internal_unless_freshdesk_says_that_it_is_not_private(desk: Desk) -> None:
    asked = []

    async def ticket(request: Request) -> Response:
        asked.append(request.url.path)
        said = [
            {"id": 1, "body_text": "public", "private": False, "created_at": "2026-05-01T10:00:00Z"},
            {"id": 2, "body_text": "private", "private": True, "created_at": "2026-05-01T10:00:01Z"},
            {"id": 3, "body_text": "unsaid", "created_at": "2026-05-01T10:00:02Z"},
        ]
        id_ = int(request.path_params["id"])
        whole = {**desk.account.tickets[id_], "description_text": "", "conversations": said}
        return Response(json.dumps(whole), media_type="application/json")

    async with serve(Sandbox("odd", [Route("/api/v2/tickets/{id}", ticket)])) as odd:
        port = desk.another(base_url=odd.url)
        port.mirror = desk.port.mirror
        [page] = await port.comments_of([ref(min(desk.account.tickets))], CommentQuery(Window(first=9)))
        [whole] = await port.comments_of(
            [ref(min(desk.account.tickets))], CommentQuery(Window(first=9), internal=True)
        )
        await port.close()
    assert isinstance(page, Page)
    assert isinstance(whole, Page)
    assert [row.body for row in page.rows] == ["public"]
    assert [(row.body, row.public) for row in whole.rows] == [
        ("public", True),
        ("private", False),
        ("unsaid", False),
    ]


async def test_a_ticket_with_many_conversations_is_read_to_its_end(desk: Desk) -> None:
    ticket = next(iter(desk.account.world.tickets))
    comment = ticket.comments[-1]
    many = [dataclasses.replace(comment, id=number + 1, attachments=()) for number in range(130)]
    desk.account.world.tickets_by_id[ticket.id] = dataclasses.replace(ticket, comments=tuple(many))
    [first] = await desk.port.comments_of([ref(ticket.id)], CommentQuery(Window(first=100), internal=True))
    assert isinstance(first, Page)
    [rest] = await desk.port.comments_of(
        [ref(ticket.id)], CommentQuery(Window(first=100, after=first.keys[-1]), internal=True)
    )
    assert isinstance(rest, Page)
    assert (len(first.rows), len(rest.rows)) == (100, 30)


async def test_a_ticket_that_was_deleted_since_says_nothing(desk: Desk) -> None:
    id_ = min(desk.account.tickets)
    desk.account.delete(id_, NOON)
    [page] = await desk.port.comments_of([ref(id_)], CommentQuery(Window(first=9)))
    assert page == Page([], [])


async def test_no_description_name_or_address_is_copied(desk: Desk, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    bodies = [row["body"] for row in await connection.fetch("SELECT body::text AS body FROM mirror_rows")]
    await connection.close()
    people = [person.email for person in desk.account.world.contacts]
    said = {ticket.description for ticket in desk.account.world.tickets}
    assert not [body for body in bodies if any(text in body for text in (*people, *said))]


async def test_articles_for_agents_or_for_who_has_signed_in_are_not_found(desk: Desk) -> None:
    everything = await desk.port.search_articles(ArticleQuery("you", Window(first=100)))
    hidden, half = sorted({article.section_id for article in desk.account.world.articles})[:2]
    desk.account.folders[hidden] = 3
    desk.account.folders[half] = 2
    page = await desk.port.search_articles(ArticleQuery("you", Window(first=100)))
    by_id = desk.account.world.articles_by_id
    assert {by_id[int(row.ref.id)].section_id for row in everything.rows} >= {hidden, half}
    assert {by_id[int(row.ref.id)].section_id for row in page.rows}.isdisjoint({hidden, half})


async def test_attachments_on_other_hosts_are_fetched_without_the_key_and_only_where_listed(
    desk: Desk,
) -> None:
    keys: list[str | None] = []

    async def file(request: Request) -> Response:
        keys.append(request.headers.get("authorization"))
        return Response(b"elsewhere", media_type="text/plain")

    async def moved(request: Request) -> Response:
        return RedirectResponse(f"{storage.url}/file")

    world = desk.account.world
    ticket, attachment = next(
        (ticket, attachment)
        for ticket in world.tickets
        for comment in ticket.comments
        if comment.public
        for attachment in comment.attachments
    )
    for route in desk.box._vendor.routes:  # type: ignore[attr-defined]
        if getattr(route, "path", "").startswith("/attachments/"):
            route.app = Route("/", moved).app
    async with serve(Sandbox("storage", [Route("/file", file)])) as storage:
        with pytest.raises(SourceBadResponse, match="attachment_hosts"):
            await desk.port.attachment(ref(ticket.id), str(attachment.id), False)
        host = storage.url.removeprefix("http://")
        port = desk.another(attachment_hosts=(host,))
        content = await port.attachment(ref(ticket.id), str(attachment.id), False)
        await port.close()
    assert content is not None
    assert content.body == b"elsewhere"
    assert keys == [None]


def test_errors_are_told_by_status_and_code() -> None:
    def of(status: int, body: bytes = b"", **headers: str) -> Any:
        return explain(Answer(status, headers, body))

    limited = of(429, **{"retry-after": "30"})
    assert isinstance(limited, SourceRateLimited)
    assert limited.retry_after == 30
    refused = of(401, b'{"code":"invalid_credentials","message":"You have to be logged in"}')
    assert isinstance(refused, SourceRejected)
    assert refused.vendor_code == "invalid_credentials"
    invalid = of(
        400, b'{"description":"Validation failed","errors":[{"field":"page","code":"invalid_value"}]}'
    )
    assert isinstance(invalid, InvalidRequest)
    assert invalid.vendor_code == "invalid_value"
    assert "logged in" not in str(refused)
    assert isinstance(of(404), SourceRejected)


def test_what_the_answers_say_of_the_limit_is_believed() -> None:
    headers = {"x-ratelimit-total": "700", "x-ratelimit-remaining": "650"}
    [reading] = readings("", Answer(200, headers, b""), None)
    assert (reading.limit, reading.calls, reading.remaining) == ("account", 700, 650)
    # Refused although calls remain: it was the list's own limit, of which these headers say nothing.
    assert (
        list(readings("tickets_list", Answer(429, headers, b""), SourceRateLimited("freshdesk", "x"))) == []
    )


async def test_lists_have_the_vendors_limits_and_defaults(desk: Desk) -> None:
    headers = {"Authorization": aiohttp.encode_basic_auth(emulator.API_KEY, "X")}
    async with aiohttp.ClientSession(headers=headers, base_url=desk.url) as session:

        async def get(path: str, **params: Any) -> tuple[int, Any, Any]:
            async with session.get(path, params=params) as answer:
                return answer.status, await answer.json(content_type=None), answer.headers

        assert (await get("/api/v2/tickets", per_page=101))[0] == 400
        assert (await get("/api/v2/tickets", page=301))[0] == 400
        status, month, _ = await get("/api/v2/tickets", per_page=100)
        assert status == 200
        assert all(row["created_at"] > "2026-10-02" for row in month)
        assert all("description" not in row for row in month)
        _, _, headers = await get("/api/v2/tickets", per_page=1, updated_since="2020-01-01T00:00:00Z")
        assert 'rel="next"' in headers["link"]
        assert (await get("/api/v2/tickets/424242"))[:2] == (404, None)


async def test_the_emulators_rows_are_as_the_description_has_them(desk: Desk, specs: Path) -> None:
    """A third party's description, as the vendor publishes none."""
    schemas = json.loads((specs / "freshdesk.thirdparty.json").read_text())["components"]["schemas"]
    schemas = _with_nulls(schemas)
    world, account = desk.account.world, desk.account
    samples = {
        # Its statuses are only the four that every account has, and every ticket has a priority.
        "Ticket": [row for row in account.tickets.values() if row["status"] < 6 and row["priority"]],
        "Company": list(account.companies.values()),
        "Conversation": [
            {**row, "updated_at": row["created_at"]}
            for ticket in world.tickets[:60]
            for row in rows.conversations("https://a.example", ticket)
        ],
        "SolutionArticle": [rows.article(article, "text") for article in world.articles],
    }
    for name, found in samples.items():
        assert found
        for row in found:
            jsonschema.validate(row, {**schemas[name], "components": {"schemas": schemas}})
            assert set(row) - {"language", "company_id"} <= set(schemas[name]["properties"]), name


def _with_nulls(value: Any) -> Any:
    """OpenAPI 3.0's ``nullable`` in JSON Schema's words; a date that is not set is null."""
    if isinstance(value, list):
        return [_with_nulls(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_nulls(inner) for key, inner in value.items()}
    if isinstance(changed.get("type"), str) and (
        changed.get("nullable") or changed.get("format") == "date-time" or "enum" not in changed
    ):
        changed["type"] = [changed["type"], "null"]
    return changed
