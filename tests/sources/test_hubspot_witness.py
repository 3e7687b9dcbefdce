"""Witnesses from outside: HubSpot's own client against the sandbox, and HubSpot's own description of its API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

import hubspot.crm.associations.v4 as associations_v4
import hubspot.crm.companies as companies
import hubspot.crm.contacts as contacts
import msgspec
import pytest
from hubspot import HubSpot
from openapi_schema_validator import OAS30Validator
from openapi_schema_validator import oas30_format_checker as formats

from sources.ports.common import Condition, CustomField, Key, Ref, Scalar, Window
from sources.ports.crm import AccountOrder, AccountQuery, ContactOrder, ContactQuery, Crm
from sources.ports.errors import SourceError
from sources.ports.tokens import TokenStore
from sources.sandbox.server import Call, Sandbox, ServerThread, serve
from sources.sandbox.world import World
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.hubspot.crm import connect
from sources.vendors.hubspot.sandbox import (
    CLIENT_ID,
    CLIENT_SECRET,
    CODE,
    REFRESH_TOKEN,
    TOKEN,
    sandbox,
    settings_for,
)

UNDESCRIBED = {
    "/account-info/v3/details": "account information has a description of its own, which is not at hand",
    "/oauth/v1/token": "the endpoint that the client still uses; the description has v3 only",
}
"""Paths that are called here although no description has them, and why."""


# -- HubSpot's own client -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator(world: World) -> Sandbox:
    return sandbox(world, burst=None, searches=None, daily=None, record_bodies=True)


@pytest.fixture(scope="module")
def url(emulator: Sandbox) -> Iterator[str]:
    with ServerThread(emulator) as running:
        yield running.url


@pytest.fixture(scope="module")
def client(url: str) -> HubSpot:
    return HubSpot(access_token=TOKEN, host=url)


def companies_read(*ids: str) -> Any:
    return companies.BatchReadInputSimplePublicObjectId(
        inputs=[companies.SimplePublicObjectId(id=one) for one in ids],
        properties=["name", "account_number", "renewal_date", "nonsense"],
        properties_with_history=[],
    )


def test_the_client_reads_companies_in_a_batch(client: HubSpot, world: World) -> None:
    account = world.accounts[0]
    answer = client.crm.companies.batch_api.read(companies_read(account.hubspot_id))
    [row] = answer.results
    assert (row.id, row.archived, row.created_at) == (account.hubspot_id, False, account.created_at)
    assert row.created_at.tzinfo is not None
    assert row.created_at.astimezone(UTC) == account.created_at
    assert row.properties["name"] == account.crm_name
    assert account.renewal_date is not None
    assert row.properties["renewal_date"] == account.renewal_date.isoformat()
    assert "nonsense" not in row.properties


def test_the_client_is_told_which_companies_do_not_exist(client: HubSpot, world: World) -> None:
    answer = client.crm.companies.batch_api.read(companies_read(world.accounts[0].hubspot_id, "4711"))
    assert [row.id for row in answer.results] == [world.accounts[0].hubspot_id]
    assert answer.num_errors == 1
    assert (answer.errors[0].category, answer.errors[0].context) == ("OBJECT_NOT_FOUND", {"ids": ["4711"]})


def test_the_client_gets_the_survivor_of_a_merge(client: HubSpot, world: World) -> None:
    account = next(one for one in world.accounts if one.merged_hubspot_ids)
    answer = client.crm.companies.batch_api.read(companies_read(account.merged_hubspot_ids[0]))
    assert [row.id for row in answer.results] == [account.hubspot_id]


@pytest.mark.parametrize(
    ("token", "status", "category"),
    [("wrong", 401, "INVALID_AUTHENTICATION"), (TOKEN, 400, "VALIDATION_ERROR")],
)
def test_the_client_is_refused_as_hubspot_refuses(url: str, token: str, status: int, category: str) -> None:
    refused = HubSpot(access_token=token, host=url)
    with pytest.raises(companies.ApiException) as caught:
        refused.crm.companies.batch_api.read(companies_read(*map(str, range(1, 102))))
    assert caught.value.status == status
    assert json.loads(caught.value.body)["category"] == category


def test_the_client_follows_associations(client: HubSpot, world: World) -> None:
    account = world.accounts[0]
    wanted = [person.hubspot_id for person in world.contacts_by_account[0]]
    many = client.crm.associations.v4.batch_api.get_page(
        "companies",
        "contacts",
        associations_v4.BatchInputPublicFetchAssociationsBatchRequest(
            inputs=[associations_v4.PublicFetchAssociationsBatchRequest(id=account.hubspot_id)]
        ),
    )
    assert [str(one.to_object_id) for one in many.results[0].to] == wanted
    first = client.crm.associations.v4.basic_api.get_page(
        "companies", account.hubspot_id, "contacts", limit=2
    )
    following = client.crm.associations.v4.basic_api.get_page(
        "companies", account.hubspot_id, "contacts", limit=500, after=first.paging.next.after
    )
    assert [str(one.to_object_id) for one in (*first.results, *following.results)] == wanted


def test_the_client_searches_and_turns_pages(client: HubSpot, world: World) -> None:
    def asked(after: str) -> Any:
        return companies.PublicObjectSearchRequest(
            filter_groups=[
                {"filters": [{"propertyName": "customer_tier", "operator": "EQ", "value": "gold"}]}
            ],
            sorts=[{"propertyName": "createdate", "direction": "DESCENDING"}],
            properties=["name"],
            limit=20,
            after=after,
        )

    found: list[str] = []
    after: str | None = "0"
    while after:
        page = client.crm.companies.search_api.do_search(asked(after))
        found += [row.id for row in page.results]
        after = page.paging.next.after if page.paging else None
    gold = sorted((one for one in world.accounts if one.tier == "gold"), key=lambda one: one.created_at)
    assert found == [one.hubspot_id for one in reversed(gold)]
    assert page.total == len(gold)


def test_the_client_reads_contacts_one_by_one_by_mail_and_all(client: HubSpot, world: World) -> None:
    person = world.contacts[0]
    one = client.crm.contacts.basic_api.get_by_id(
        person.email, id_property="email", properties=["lastname"], associations=["companies"]
    )
    assert (one.id, one.properties["lastname"]) == (person.hubspot_id, person.last_name)
    assert one.associations["companies"].results[0].id == world.accounts[0].hubspot_id
    everyone = client.crm.contacts.get_all(properties=["email"])
    assert {row.id for row in everyone} == {one.hubspot_id for one in world.contacts if not one.archived}
    with pytest.raises(contacts.ApiException) as caught:
        client.crm.contacts.basic_api.get_by_id("4711")
    assert caught.value.status == 404


def test_the_client_signs_in_by_oauth(url: str, world: World) -> None:
    anonymous = HubSpot(host=url)
    token = anonymous.oauth.tokens_api.create(
        grant_type="authorization_code", code=CODE, client_id=CLIENT_ID, client_secret=CLIENT_SECRET
    )
    again = anonymous.oauth.tokens_api.create(
        grant_type="refresh_token",
        refresh_token=token.refresh_token,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
    )
    assert again.refresh_token == token.refresh_token
    signed_in = HubSpot(access_token=again.access_token, host=url)
    page = signed_in.crm.companies.basic_api.get_page(limit=3)
    assert len(page.results) == 3


# -- HubSpot's own description --------------------------------------------------------------------------------------


class Description:
    """Requests and answers by path, as the vendor's OpenAPI files describe them."""

    def __init__(self, folder: Path) -> None:
        self._operations: list[tuple[re.Pattern[str], str, dict[str, Any], dict[str, Any]]] = []
        for file in sorted(folder.glob("hubspot-*.json")):
            document = _as_lived(json.loads(file.read_text()))
            for path, operations in document["paths"].items():
                pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))
                for method, operation in operations.items():
                    self._operations.append((pattern, method.upper(), operation, document))
        # A path without parameters is meant before one with.
        self._operations.sort(key=lambda entry: entry[0].pattern.count("[^/]+"))

    def faults(self, call: Call) -> list[str] | None:
        """What is wrong with the call; None where no description has its path."""
        for pattern, method, operation, document in self._operations:
            if method == call.method and pattern.fullmatch(call.path):
                return [
                    *_request_faults(call, operation, document),
                    *_answer_faults(call, operation, document),
                ]
        return None


def _as_lived(document: dict[str, Any]) -> dict[str, Any]:
    """The description as HubSpot's own service keeps it, in the places where the two are known to differ."""
    schemas = document["components"]["schemas"]
    for name in ("SimplePublicObject", "SimplePublicObjectWithAssociations"):
        if name in schemas:
            # An unset property is null; the description knows text only.
            schemas[name]["properties"]["properties"]["additionalProperties"]["nullable"] = True
    if "PublicObjectSearchRequest" in schemas:
        # The guide to CRM search, the client's own readme and live accounts sort by an object.
        schemas["PublicObjectSearchRequest"]["properties"]["sorts"]["items"] = {
            "type": "object",
            "required": ["propertyName", "direction"],
            "additionalProperties": False,
            "properties": {
                "propertyName": {"type": "string"},
                "direction": {"type": "string", "enum": ["ASCENDING", "DESCENDING"]},
            },
        }
    if "StandardError" in schemas:
        # Live answers name the subcategory in words: "crm.associations.NO_ASSOCIATIONS_FOUND".
        schemas["StandardError"]["properties"]["subCategory"] = {"type": "string"}
    return document


def _request_faults(call: Call, operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    if "requestBody" not in operation:
        return []
    [(media_type, content)] = operation["requestBody"]["content"].items()
    sent = dict(call.request_headers).get("content-type", "")
    if not sent.startswith(media_type):
        return [f"request: {sent} instead of {media_type}"]
    body = call.request_body.decode()
    value = json.loads(body) if media_type == "application/json" else dict(parse_qsl(body))
    return _misfits("request", value, content["schema"], document)


def _answer_faults(call: Call, operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    responses = operation["responses"]
    described = responses.get(str(call.status)) or responses["default"]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
    if not call.response_body:
        return []
    [content] = described["content"].values()
    return _misfits("answer", json.loads(call.response_body), content["schema"], document)


def _misfits(where: str, value: Any, schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    validator = OAS30Validator({**schema, "components": document["components"]}, format_checker=formats)
    return [f"{where} {error.json_path}: {error.message}" for error in validator.iter_errors(value)]


@pytest.fixture(scope="module")
def description(specs: Path) -> Description:
    return Description(specs)


def judged(description: Description, calls: list[Call]) -> set[str]:
    """Fails with everything that does not fit; gives the paths that were judged."""
    seen: set[str] = set()
    wrong: list[str] = []
    for call in calls:
        assert not call.truncated
        faults = description.faults(call)
        if faults is None:
            assert call.path in UNDESCRIBED, f"{call.method} {call.path} is not in the descriptions"
        else:
            seen.add(call.path)
            wrong += [f"{call.method} {call.path} {call.status} {fault}" for fault in faults]
    assert wrong == []
    return seen


class _NoTokens:
    def require_key(self, connection: str) -> None:
        return None

    @asynccontextmanager
    async def hold(self, connection: str) -> AsyncIterator[Any]:
        self.tokens = None
        yield self

    async def save(self, tokens: Any) -> None:
        return None


async def everything(crm: Crm, world: World) -> None:
    """Every kind of call that the connector makes, with odd ids among them."""
    tier = CustomField("Account", "tier", "customer_tier", Scalar.ENUM, "")
    renewal = CustomField("Account", "renewalDate", "renewal_date", Scalar.DATE, "")
    refs = [Ref("hubspot", account.hubspot_id) for account in world.accounts[:20]] + [Ref("hubspot", "4711")]
    await crm.probe()
    await crm.accounts(refs)
    await crm.contacts([Ref("hubspot", person.hubspot_id) for person in world.contacts[:30]])
    for order in ContactOrder:
        await crm.contacts_of(refs, ContactQuery(Window(last=3), order=order))
    for account_order in AccountOrder:
        mark: Key | None = None
        for _ in range(3):
            page = await crm.find_accounts(
                AccountQuery(
                    Window(first=7, after=mark),
                    text="ltd",
                    country="GB",
                    updated_since=world.accounts[0].created_at,
                    conditions=(
                        Condition(tier, equals=("gold", "silver", "bronze")),
                        Condition(renewal, minimum=world.today),
                    ),
                    order=account_order,
                )
            )
            mark = page.keys[-1]
    await crm.accounts_sharing("number", [account.account_number for account in world.accounts[:5]])


@pytest.mark.parametrize("api", ["v3", "2026-03"])
async def test_connector_and_sandbox_keep_to_the_description(
    description: Description, world: World, api: str
) -> None:
    emulator = sandbox(world, burst=None, searches=None, daily=None, association_page=3, record_bodies=True)
    async with serve(emulator) as running:
        settings = msgspec.structs.replace(settings_for(running.url), api=api)
        crm = connect(settings, Wiring(tokens=cast(TokenStore, None), network=Network(guarded=False)))
        await everything(crm, world)
        await crm.close()
    seen = judged(description, emulator.log.calls())
    assert len(seen) == 5
    assert 207 in {call.status for call in emulator.log.calls()}


async def test_refusals_keep_to_the_description(description: Description, world: World) -> None:
    emulator = sandbox(world, scopes=("oauth",), burst=None, daily=None, record_bodies=True)
    async with serve(emulator) as running:
        wiring = Wiring(tokens=cast(TokenStore, _NoTokens()), network=Network(guarded=False))
        good = settings_for(running.url)
        oauth = msgspec.structs.replace(
            good,
            token=None,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            refresh_token=REFRESH_TOKEN,
            token_url=f"{running.url}/oauth/v3/token",
        )
        for settings in (
            good,
            msgspec.structs.replace(good, token="wrong"),
            oauth,
            msgspec.structs.replace(oauth, refresh_token="wrong"),
        ):
            crm = connect(settings, wiring)
            for ask in _ASKING:
                with pytest.raises(SourceError):
                    await ask(crm)
            await crm.close()
        crm = connect(good, wiring)
        for status in (400, 404, 423, 500):
            emulator.faults.add("fail", status=status, times=1)
            with pytest.raises(SourceError):
                await crm.accounts([Ref("hubspot", "1")])
        emulator.limits.set("search", calls=1, seconds=60)
        for _ in range(2):
            with pytest.raises(SourceError):
                await crm.find_accounts(AccountQuery(Window(first=1)))
        await crm.close()
    judged(description, emulator.log.calls())
    assert {200, 400, 401, 403, 404, 423, 429, 500} <= {call.status for call in emulator.log.calls()}


_ASKING: list[Callable[[Crm], Any]] = [
    lambda crm: crm.accounts([Ref("hubspot", "1")]),
    lambda crm: crm.contacts_of([Ref("hubspot", "1")], ContactQuery(Window(first=1))),
    lambda crm: crm.find_accounts(AccountQuery(Window(first=1))),
]


async def test_what_the_client_was_answered_keeps_to_the_description(
    description: Description, emulator: Sandbox, url: str, world: World
) -> None:
    """The client's calls above; here once more where they did not run first."""
    client = HubSpot(access_token=TOKEN, host=url)
    await asyncio.to_thread(client.crm.companies.batch_api.read, companies_read("4711"))
    await asyncio.to_thread(client.crm.companies.basic_api.get_page, limit=5, associations=["contacts"])
    calls = [call for call in emulator.log.calls() if call.path != "/oauth/v1/token"]
    assert judged(description, calls)
