"""A source that fails for a while: left alone, told of where operators look, and used again soon after."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import cast

import pytest
import pytest_asyncio

from gateway.check import check_redis, check_running
from gateway.settings import RedisSettings
from sources.layers.cache.lifetimes import Lifetimes
from sources.sandbox.world import World
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.redis_server import redis_server

HOME = """query($id: ID!) { account(id: $id) {
  name invoices(first: 5) { nodes { number } } tickets(first: 5) { nodes { subject } } documents(first: 5) { nodes { title } }
} }"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def breaking(world: World, postgres: str) -> AsyncIterator[Door]:
    async with fresh_database(postgres) as url, open_door(world, url, breakers=True) as door:
        yield door


async def home(door: Door) -> Answer:
    return await door.ask("owner-harbour", HOME, {"id": door.account_id(0)})


async def ready(door: Door) -> tuple[int, dict[str, object]]:
    async with door.session.get(f"{door.url}/health/ready") as response:
        return response.status, await response.json()


async def test_a_source_that_fails_is_left_alone_and_told_of_and_used_again_within_five_seconds(
    breaking: Door,
) -> None:
    assert await ready(breaking) == (200, {"status": "ready", "degraded": {}})
    assert (await check_running(breaking.url)).ok

    breaking.boxes["xero"].faults.add("fail", status=503)
    async with asyncio.timeout(20):
        while not (await ready(breaking))[1]["degraded"]:
            answer = await home(breaking)
            assert answer.codes() == [("account.invoices", "SOURCE_UNAVAILABLE")]
    breaking.forget_calls()
    answer = await home(breaking)
    assert answer.errors[0]["extensions"]["retryAfter"] > 0
    assert answer.data["account"]["tickets"]["nodes"]
    assert breaking.calls()["xero"] == 0
    status, body = await ready(breaking)
    assert (status, body["status"], list(body["degraded"])) == (200, "ready", ["xero"])  # type: ignore[call-overload]
    finding = await check_running(breaking.url)
    assert (finding.ok, "xero: failing: circuit " in finding.detail) == (False, True)

    breaking.heal()
    healed = time.monotonic()
    while (await home(breaking)).errors:
        assert time.monotonic() - healed < 5
        await asyncio.sleep(0.05)
    assert await ready(breaking) == (200, {"status": "ready", "degraded": {}})


async def test_with_all_sources_down_pages_are_served_and_each_is_named(world: World, postgres: str) -> None:
    async with fresh_database(postgres) as url, open_door(world, url, breakers=True) as door:
        assert (await home(door)).errors == []
        sources = ["xero", "zendesk", "s3", "hubspot"]
        for source in sources:  # the CRM last: without an account nobody asks the others for anything
            door.boxes[source].faults.add("fail")
        for group in (sources[:3], sources):
            door.boxes["hubspot"].faults.clear()
            if group == sources:
                door.boxes["hubspot"].faults.add("fail")
            async with asyncio.timeout(60):
                while not set(group) <= (await ready(door))[1]["degraded"].keys():  # type: ignore[attr-defined]
                    assert (await home(door)).status == 200
        status, body = await ready(door)
        assert (status, body["status"]) == (200, "ready")
        assert (await door.fetch(None, "/health/live"))[0] == 200
        for trouble in body["degraded"].values():  # type: ignore[attr-defined]
            assert trouble.startswith("failing")
        said = (await check_running(door.url)).detail
        assert all(f"{source}: failing" in said for source in sources)


async def test_no_gateway_at_the_public_address_is_no_fault_of_the_settings() -> None:
    finding = await check_running("http://127.0.0.1:1")

    assert (finding.ok, finding.detail) == (None, "no gateway answers at http://127.0.0.1:1")


async def test_redis_is_checked_where_it_is_configured() -> None:
    async with redis_server() as redis:
        there = await check_redis(RedisSettings(url=redis.url))
        await redis.stop()
        away = await check_redis(RedisSettings(url=redis.url))

    assert ((await check_redis(None)).ok, there.ok, away.ok) == (None, True, False)
    assert "see [redis] url" in away.detail


LINES = """query($id: ID!) { account(id: $id) { invoices(first: 20) { nodes { number total { amount } lines { quantity } } } } }"""


@pytest.mark.parametrize("cache", [None, Lifetimes()], ids=["live", "remembered"])
async def test_a_line_that_does_not_fit_is_the_error_of_its_invoices_lines_alone(
    world: World, postgres: str, cache: Lifetimes | None
) -> None:
    issued = [row for row in world.invoices_by_account[0] if row.status in ("AUTHORISED", "PAID")]
    bad = max(issued, key=lambda row: row.issue_date)
    line = replace(bad.lines[0], quantity=cast("Decimal", "many"))
    spoiled = tuple(replace(row, lines=(line,)) if row is bad else row for row in world.invoices)
    async with (
        fresh_database(postgres) as url,
        open_door(replace(world, invoices=spoiled), url, cache=cache) as door,
    ):
        for _ in range(2):
            answer = await door.ask("owner-harbour", LINES, {"id": door.account_id(0)})
            nodes = answer.data["account"]["invoices"]["nodes"]
            (place,) = [place for place, node in enumerate(nodes) if node["number"] == bad.number]
            assert answer.codes() == [(f"account.invoices.nodes.{place}.lines", "SOURCE_BAD_RESPONSE")]
            assert (nodes[place]["lines"], bool(nodes[place]["total"])) == (None, True)
            assert all(node["lines"] for node in nodes if node["number"] != bad.number)
