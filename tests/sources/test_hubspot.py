"""What is HubSpot's own: its two ways of signing in, its spellings of errors, its partial answers and paths."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sources.ports.common import Condition, CustomField, Direction, Key, Page, Ref, Scalar, Window
from sources.ports.crm import AccountOrder, AccountQuery, ContactOrder, ContactQuery, Crm
from sources.ports.errors import (
    ConsentNeeded,
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceUnavailable,
)
from sources.ports.tokens import Tokens, TokenStore
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import Account, World
from sources.transport.http import Answer
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.hubspot.api import explain
from sources.vendors.hubspot.crm import Settings, connect
from sources.vendors.hubspot.sandbox import oauth_settings_for, sandbox, settings_for


class TokensInMemory:
    """A TokenStore for one process."""

    def __init__(self) -> None:
        self.tokens: Tokens | None = None
        self._lock = asyncio.Lock()

    def require_key(self, connection: str) -> None:
        return None

    async def load(self, connection: str) -> Tokens | None:
        return self.tokens

    @asynccontextmanager
    async def hold(self, connection: str) -> AsyncIterator[TokensInMemory]:
        async with self._lock:
            yield self

    async def save(self, tokens: Tokens) -> None:
        self.tokens = tokens


@asynccontextmanager
async def connected(
    emulator: Sandbox,
    settings: Callable[[str], Settings] = settings_for,
    *,
    tokens: TokensInMemory | None = None,
    custom: tuple[CustomField, ...] = (),
    **changed: Any,
) -> AsyncIterator[Crm]:
    async with serve(emulator) as running:
        crm = connect(
            msgspec.structs.replace(settings(running.url), **changed),
            Wiring(
                tokens=cast(TokenStore, tokens or TokensInMemory()),
                custom=custom,
                network=Network(guarded=False),
            ),
        )
        yield crm
        await crm.close()


def unlimited(world: World, **options: Any) -> Sandbox:
    return sandbox(world, burst=None, searches=None, daily=None, **options)


def ref(account: Account) -> Ref:
    return Ref("hubspot", account.hubspot_id)


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"client_id": "a", "client_secret": "b"},
        {"token": "t", "client_id": "a", "client_secret": "b", "refresh_token": "c"},
        {"token": "t", "api": "v4"},
        {"token": "t", "api": "2026-03/../x"},
        {"token": "t", "batch_size": 101},
        {"token": "t", "tokn": "t"},
    ],
)
def test_settings_that_cannot_work_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Settings)


def test_a_token_is_all_that_must_be_set() -> None:
    settings = msgspec.convert({"token": "t"}, Settings)
    assert (settings.base_url, settings.api) == ("https://api.hubapi.com", "v3")


# -- signing in -----------------------------------------------------------------------------------------------------


async def test_concurrent_calls_share_one_refresh_and_the_token_is_kept(world: World) -> None:
    emulator, tokens = unlimited(world), TokensInMemory()
    async with connected(emulator, oauth_settings_for, tokens=tokens) as crm:
        found = await asyncio.gather(*(crm.accounts([ref(account)]) for account in world.accounts[:5]))
    assert all(records[0] for records in found)
    assert emulator.log.count("POST", "/oauth/v3/token") == 1
    assert tokens.tokens is not None
    assert tokens.tokens.access_token is not None
    assert tokens.tokens.expires_at is not None


async def test_a_token_about_to_expire_is_renewed_before_it_is_refused(world: World) -> None:
    emulator = unlimited(world, access_token_seconds=30)
    async with connected(emulator, oauth_settings_for) as crm:
        await crm.accounts([ref(world.accounts[0])])
        await crm.accounts([ref(world.accounts[0])])
    assert emulator.log.count("POST", "/oauth/v3/token") == 2
    assert {call.status for call in emulator.log.calls()} == {200}


async def test_a_token_that_was_revoked_early_is_renewed_once_and_the_call_repeated(world: World) -> None:
    emulator = unlimited(world)
    async with connected(emulator, oauth_settings_for) as crm:
        await crm.accounts([ref(world.accounts[0])])
        emulator.faults.add("fail", "/crm", status=401, times=1)
        [found] = await crm.accounts([ref(world.accounts[0])])
    assert found is not None
    assert emulator.log.count("POST", "/oauth/v3/token") == 2


async def test_a_spent_refresh_token_asks_for_consent_and_is_not_tried_again(world: World) -> None:
    emulator, tokens = unlimited(world), TokensInMemory()
    async with connected(emulator, oauth_settings_for, tokens=tokens, refresh_token="revoked") as crm:
        for _ in range(2):
            with pytest.raises(ConsentNeeded):
                await crm.accounts([ref(world.accounts[0])])
        probe = await crm.probe()
    assert not probe.allowed
    assert "refresh token" in probe.detail
    assert emulator.log.count() == 1
    assert tokens.tokens is not None
    assert tokens.tokens.consent_needed


async def test_a_wrong_client_secret_is_not_mistaken_for_lost_consent(world: World) -> None:
    tokens = TokensInMemory()
    async with connected(unlimited(world), oauth_settings_for, tokens=tokens, client_secret="wrong") as crm:
        with pytest.raises(SourceRejected) as caught:
            await crm.accounts([ref(world.accounts[0])])
    assert not isinstance(caught.value, ConsentNeeded)
    assert tokens.tokens is None
    assert "wrong" not in str(caught.value)


async def test_a_wrong_token_is_named_by_the_probe(world: World) -> None:
    async with connected(unlimited(world), token="pat-wrong") as crm:
        probe = await crm.probe()
    assert not probe.allowed
    assert probe.detail == (
        "hubspot: the access token was refused (INVALID_AUTHENTICATION); check the source's token"
    )


async def test_a_missing_scope_is_named(world: World) -> None:
    emulator = unlimited(world, scopes=("oauth", "crm.objects.companies.read"))
    async with connected(emulator) as crm:
        assert (await crm.accounts([ref(world.accounts[0])]))[0] is not None
        with pytest.raises(SourceRejected, match=r"grant the app crm\.objects\.contacts\.read") as caught:
            await crm.contacts_of([ref(world.accounts[0])], ContactQuery(Window(first=1)))
    assert caught.value.vendor_code == "MISSING_SCOPES"
    assert caught.value.request_id


# -- spellings of errors --------------------------------------------------------------------------------------------


def told(status: int, body: Any, **headers: str) -> SourceError | None:
    return explain(
        Answer(
            status,
            {name.replace("_", "-"): value for name, value in headers.items()},
            json.dumps(body).encode(),
        )
    )


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "retry_after", "code"),
    [
        (429, {"errorType": "RATE_LIMIT", "policyName": "SECONDLY"}, {}, SourceRateLimited, 1.0, "SECONDLY"),
        (
            429,
            {"errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"},
            {"x_hubspot_ratelimit_interval_milliseconds": "10000"},
            SourceRateLimited,
            4.0,
            "TEN_SECONDLY_ROLLING",
        ),
        (429, {"policyName": "DAILY"}, {}, SourceRateLimited, 3600.0, "DAILY"),
        (429, {"policyName": "DAILY"}, {"retry_after": "60"}, SourceRateLimited, 60.0, "DAILY"),
        (429, {"category": "RATE_LIMITS"}, {}, SourceRateLimited, None, "RATE_LIMITS"),
        (400, {"category": "RATE_LIMITS"}, {}, SourceRateLimited, None, "RATE_LIMITS"),
        (401, {"category": "EXPIRED_AUTHENTICATION"}, {}, SourceRejected, None, "EXPIRED_AUTHENTICATION"),
        (404, {"category": "OBJECT_NOT_FOUND"}, {}, SourceRejected, None, "OBJECT_NOT_FOUND"),
        (423, {"category": "LOCKED"}, {"retry_after": "2"}, SourceUnavailable, 2.0, "LOCKED"),
        (477, {"category": "MIGRATION"}, {"retry_after": "86400"}, SourceUnavailable, 86400.0, "MIGRATION"),
        (502, {"message": "bad gateway"}, {}, SourceUnavailable, None, None),
        (
            400,
            {"category": "VALIDATION_ERROR", "errors": [{"code": "PROPERTY_DOESNT_EXIST"}]},
            {},
            InvalidRequest,
            None,
            "PROPERTY_DOESNT_EXIST",
        ),
        (409, {"category": "CONFLICT", "subCategory": "X.Y"}, {}, InvalidRequest, None, "X.Y"),
        (400, {"category": 7, "errors": "no list of objects", "context": []}, {}, InvalidRequest, None, None),
    ],
)
def test_every_spelling_of_an_error_is_understood(
    status: int,
    body: dict[str, Any],
    headers: dict[str, str],
    error: type[SourceError],
    retry_after: float | None,
    code: str | None,
) -> None:
    found = told(status, {"message": "jane@example.com is secret", "correlationId": "c-1", **body}, **headers)
    assert type(found) is error
    assert (found.retry_after, found.vendor_code, found.request_id) == (retry_after, code, "c-1")
    assert "jane" not in str(found)


@pytest.mark.parametrize(
    "context",
    [
        {"context": {"missingScopes": ["a.read"]}},
        {"errors": [{"context": {"requiredGranularScopes": ["a.read"]}}]},
        {"errors": [{"context": {"requiredScopes": ["a.read", 5]}}, {"context": None}]},
    ],
)
def test_scopes_are_found_wherever_they_stand(context: dict[str, Any]) -> None:
    assert "grant the app a.read" in str(told(403, {"category": "MISSING_SCOPES", **context}))


@pytest.mark.parametrize("body", [b"", b"<html>Just a moment...</html>", b"[1]", b"\xff"])
def test_a_body_that_is_not_hubspots_is_left_to_the_status(body: bytes) -> None:
    assert explain(Answer(429, {}, body)) is None


async def test_the_search_limit_says_when_to_come_back(world: World) -> None:
    emulator = sandbox(world)
    emulator.limits.set("search", calls=1, seconds=60)
    async with connected(emulator) as crm:
        query = AccountQuery(Window(first=1))
        await crm.find_accounts(query)
        with pytest.raises(SourceRateLimited) as caught:
            await crm.find_accounts(query)
        assert (await crm.accounts([ref(world.accounts[0])]))[0]
    assert (caught.value.vendor_code, caught.value.retry_after) == ("SECONDLY", 1.0)


async def test_the_burst_limit_does_not_count_searches(world: World) -> None:
    emulator = sandbox(world, searches=None)
    emulator.limits.set("burst", calls=2, seconds=60)
    async with connected(emulator) as crm:
        for _ in range(3):
            await crm.find_accounts(AccountQuery(Window(first=1)))
        await crm.accounts([ref(world.accounts[0])])
        await crm.accounts([ref(world.accounts[0])])
        with pytest.raises(SourceRateLimited) as caught:
            await crm.accounts([ref(world.accounts[0])])
    assert (caught.value.vendor_code, caught.value.retry_after) == ("TEN_SECONDLY_ROLLING", 4.0)


# -- answers that are odd -------------------------------------------------------------------------------------------


def canned(path: str, document: dict[str, Any], status: int = 200) -> Sandbox:
    async def answer(_: Request) -> Response:
        return JSONResponse(document, status)

    return Sandbox("hubspot", [Route(path, answer, methods=["POST"])])


async def test_a_partial_answer_that_lacks_more_than_missing_records_is_not_taken_for_whole() -> None:
    emulator = canned(
        "/crm/v3/objects/companies/batch/read",
        {"status": "COMPLETE", "results": [], "errors": [{"category": "INTERNAL_ERROR"}]},
        207,
    )
    async with connected(emulator) as crm:
        with pytest.raises(SourceBadResponse) as caught:
            await crm.accounts([Ref("hubspot", "1")])
    assert caught.value.vendor_code == "INTERNAL_ERROR"


@pytest.mark.parametrize("document", [{}, {"status": "error"}, {"results": [{"id": 5}]}, {"results": None}])
async def test_an_error_that_comes_as_success_is_a_bad_response(document: dict[str, Any]) -> None:
    async with connected(canned("/crm/v3/objects/companies/batch/read", document)) as crm:
        with pytest.raises(SourceBadResponse):
            await crm.accounts([Ref("hubspot", "1")])


async def test_a_half_empty_company_has_none_where_hubspot_has_nothing() -> None:
    row = {
        "id": "1",
        "createdAt": "2026-01-02T03:04:05.678Z",
        "updatedAt": "2026-01-02T03:04:05.678Z",
        "archived": False,
        "properties": {
            "name": "",
            "domain": "Example.COM",
            "renewal_date": "1777593600000",
            "createdate": None,
        },
    }
    renewal = CustomField("Account", "renewalDate", "renewal_date", Scalar.DATE, "")
    emulator = canned("/crm/v3/objects/companies/batch/read", {"status": "COMPLETE", "results": [row]})
    async with connected(emulator, custom=(renewal,)) as crm:
        [found] = await crm.accounts([Ref("hubspot", "1")])
    assert found is not None
    assert (found.name, found.number, found.address, found.declared) == (None, None, None, {})
    assert found.domain == "example.com"
    assert str(found.custom["renewal_date"]) == "2026-05-01"
    assert str(found.created_at) == "2026-01-02 03:04:05.678000+00:00"


# -- paths and associations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [False, True], ids=["ids as text", "ids as numbers"])
@pytest.mark.parametrize("api", ["v3", "2026-03"])
async def test_both_families_of_paths_give_the_same(world: World, api: str, numbers: bool) -> None:
    emulator = unlimited(world, numeric_object_ids=numbers)
    async with connected(emulator, api=api) as crm:
        [account] = await crm.accounts([ref(world.accounts[0])])
        [page] = await crm.contacts_of([ref(world.accounts[0])], ContactQuery(Window(first=3)))
        found = await crm.find_accounts(AccountQuery(Window(first=1)))
    assert account is not None
    assert isinstance(page, Page)
    assert [len(page.rows), len(found.rows)] == [3, 1]
    paths = {call.path.split("/")[2 if api == "v3" else 3] for call in emulator.log.calls()}
    assert paths == ({"v3", "v4"} if api == "v3" else {"2026-03"})


@pytest.mark.parametrize("order", ContactOrder)
@pytest.mark.parametrize("direction", Direction)
async def test_long_lists_of_ids_are_followed_to_where_the_page_ends(
    world: World, order: ContactOrder, direction: Direction
) -> None:
    accounts = [ref(account) for account in world.accounts[:20]]
    query = ContactQuery(Window(first=4), order=order, direction=direction)
    async with connected(unlimited(world)) as crm:
        whole = await crm.contacts_of(accounts, query)
    emulator = unlimited(world, association_page=2)
    async with connected(emulator) as crm:
        paged = await crm.contacts_of(accounts, query)
    assert emulator.log.count("POST", "/crm/v4/associations") > 1
    assert paged == whole


async def test_a_contact_names_all_of_its_accounts(world: World) -> None:
    person = world.contacts_by_account[4][0]
    parent = world.accounts[2]
    emulator = unlimited(world, also={person.hubspot_id: [parent.hubspot_id]}, association_page=1)
    async with connected(emulator) as crm:
        [found] = await crm.contacts([Ref("hubspot", person.hubspot_id)])
        pages = await crm.contacts_of([ref(parent), ref(world.accounts[4])], ContactQuery(Window(first=50)))
    assert found is not None
    assert set(found.accounts) == {ref(parent), ref(world.accounts[4])}
    for page in pages:
        assert isinstance(page, Page)
        assert found.ref in [row.ref for row in page.rows]


async def test_a_page_that_archived_contacts_left_short_is_filled_up(world: World) -> None:
    first = world.contacts_by_account[3][0]
    people = tuple(
        dataclasses.replace(first, hubspot_id=str(600_000 + number), archived=number not in (0, 150, 151))
        for number in range(160)
    )
    contacts = tuple(one for one in world.contacts if one.account != 3) + people
    emulator = unlimited(dataclasses.replace(world, contacts=contacts))
    async with connected(emulator) as crm:
        [page] = await crm.contacts_of([ref(world.accounts[3])], ContactQuery(Window(first=2)))
        calls = emulator.log.count()
        assert isinstance(page, Page)
        [rest] = await crm.contacts_of(
            [ref(world.accounts[3])], ContactQuery(Window(first=2, after=page.keys[-1]))
        )
    assert [row.ref.id for row in page.rows] == ["600000", "600150"]
    assert page.has_next
    assert calls <= 7
    assert isinstance(rest, Page)
    assert ([row.ref.id for row in rest.rows], rest.has_next) == (["600151"], False)


async def test_associations_out_of_order_are_put_in_order() -> None:
    turned = {"results": [{"from": {"id": "1"}, "to": [{"toObjectId": one} for one in (9, 7, 8)]}]}

    async def associations(_: Request) -> Response:
        return JSONResponse(turned)

    async def contacts(request: Request) -> Response:
        inputs = (await request.json())["inputs"]
        return JSONResponse({"results": [{"id": one["id"], "properties": {}} for one in inputs]})

    emulator = Sandbox(
        "hubspot",
        [
            Route("/crm/v4/associations/companies/contacts/batch/read", associations, methods=["POST"]),
            Route("/crm/v3/objects/contacts/batch/read", contacts, methods=["POST"]),
        ],
    )
    async with connected(emulator) as crm:
        [page] = await crm.contacts_of([Ref("hubspot", "1")], ContactQuery(Window(first=5)))
    assert isinstance(page, Page)
    assert [row.ref.id for row in page.rows] == ["7", "8", "9"]


# -- the list by name -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", Direction)
async def test_a_place_by_name_is_found_again_after_the_list_has_changed(
    world: World, direction: Direction
) -> None:
    """Accounts came and went, the cursor's own among them: the page goes on behind the cursor's name."""
    by_name = sorted(
        world.accounts, key=lambda one: one.crm_name.casefold(), reverse=direction is Direction.DESC
    )
    query = AccountQuery(Window(first=50), order=AccountOrder.NAME, direction=direction)
    async with connected(unlimited(world)) as crm:
        mark = (await crm.find_accounts(query)).keys[-1]
    onwards = msgspec.structs.replace(query, window=Window(first=5, after=mark))
    backwards = msgspec.structs.replace(query, window=Window(last=5, before=mark))
    for gone in (by_name[:10], by_name[40:50]):
        rest = tuple(one for one in world.accounts if one not in gone)
        kept = [one.hubspot_id for one in by_name if one not in gone]
        behind = kept.index(by_name[50].hubspot_id)
        ahead = behind - 1 if by_name[49] in rest else behind
        async with connected(unlimited(dataclasses.replace(world, accounts=rest))) as crm:
            page = await crm.find_accounts(onwards)
            before = await crm.find_accounts(backwards)
        assert [row.ref.id for row in page.rows] == kept[behind : behind + 5]
        assert [row.ref.id for row in before.rows] == kept[ahead - 5 : ahead]


async def test_more_accounts_than_search_pages_through_are_refused_by_name_but_not_by_time(
    world: World,
) -> None:
    one = world.accounts[0]
    many = tuple(
        dataclasses.replace(one, index=0, hubspot_id=str(1_000_000 + number), crm_name=f"Firm {number:05d}")
        for number in range(10_020)
    )
    async with connected(unlimited(dataclasses.replace(world, accounts=many))) as crm:
        with pytest.raises(InvalidRequest, match="narrow the search"):
            await crm.find_accounts(AccountQuery(Window(last=10), order=AccountOrder.NAME))
        first = await crm.find_accounts(AccountQuery(Window(first=2), order=AccountOrder.NAME))
    assert [row.name for row in first.rows] == ["Firm 00000", "Firm 00001"]
    assert first.has_next


# -- requests that cannot be made -----------------------------------------------------------------------------------


async def test_what_hubspot_cannot_be_asked_is_refused_without_a_call(world: World) -> None:
    tier = CustomField("Account", "tier", "customer_tier", Scalar.STRING, "")
    numbers = [CustomField("Account", f"n{i}", f"n{i}", Scalar.INT, "") for i in range(6)]
    first = Window(first=1)
    refused = [
        AccountQuery(first, conditions=(Condition(tier, minimum="a"),)),
        AccountQuery(first, conditions=(Condition(tier, equals=(None,)),)),
        AccountQuery(first, text="x" * 3_001),
        AccountQuery(first, country="GB", conditions=tuple(Condition(n, minimum=1) for n in numbers)),
        AccountQuery(Window(first=1, after=Key("2026-01-01", "1"))),
    ]
    emulator = unlimited(world)
    async with connected(emulator, custom=(tier, *numbers)) as crm:
        for query in refused:
            with pytest.raises(InvalidRequest):
                await crm.find_accounts(query)
        with pytest.raises(InvalidRequest):
            await crm.accounts_sharing("declared:sage", ["1"])
        with pytest.raises(InvalidRequest):
            await crm.accounts_sharing("name", ["1"])
        for mark in ("", "1'", "²", "9" * 40):
            with pytest.raises(InvalidRequest):
                await crm.contacts_of(
                    [ref(world.accounts[0])], ContactQuery(Window(first=1, after=Key("x", mark)))
                )
    assert emulator.log.count() == 0
