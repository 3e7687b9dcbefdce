"""Four gateways, each a process of its own, that share one vendor's limits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sources.sandbox.server import Sandbox
from sources.sandbox.world import World
from tests.redis_server import RedisServer, redis_server
from tests.replicas import Replicas, replicas

REPLICAS = range(4)
DEADLINE = 20

# One call to Xero each. "Nightly" is an operation in the background; staff that act for no customer are a dashboard.
PAGE = "query Page($id: ID!) { account(id: $id) { invoices(first: 3) { nodes { number } } } }"
CUSTOMERS = {"owner-harbour": 0, "owner-moeller": 1}
NIGHTLY = PAGE.replace("Page", "Nightly")


@pytest.fixture(scope="module")
def small() -> World:
    return World.build(scale=0.05)


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest_asyncio.fixture
async def group(
    small: World, database_url: str, redis: RedisServer, tmp_path: Path
) -> AsyncIterator[Replicas]:
    """Over a Xero that is limited as Xero is: 60 calls a minute, 5 at a time."""
    async with replicas(
        small, database_url, redis, tmp_path, change=_every_request_calls, ready=_limited
    ) as group:
        yield group


def _every_request_calls(tables: dict[str, Any]) -> None:
    tables["cache"] = {"enabled": False}
    tables["gateway"] |= {"deadline": DEADLINE, "priorities": {"Nightly": "background"}}
    del tables["sources"]["erp"]["limits"]


def _limited(boxes: Mapping[str, Sandbox]) -> None:
    boxes["xero"].limits.set("minute", calls=60, seconds=60)


class Asking:
    """Requests of one kind under way, as many at each replica."""

    def __init__(self, group: Replicas, persona: str, account: int, each: int, query: str = PAGE) -> None:
        self._tasks = [
            asyncio.create_task(group.ask(replica, persona, query, {"id": group.account_id(account)}))
            for replica in REPLICAS
            for _ in range(each)
        ]

    async def outcome(self) -> tuple[int, list[float]]:
        """How many were answered, and what the others were told to wait; nothing else may have happened to them."""
        answered, waits = 0, []
        for answer in await asyncio.gather(*self._tasks):
            if not answer.errors:
                answered += 1
                continue
            [error] = answer.errors
            assert error["extensions"]["code"] == "SOURCE_RATE_LIMITED", error
            assert error["extensions"]["source"] == "xero"
            waits.append(error["extensions"]["retryAfter"])
        return answered, waits


def statuses(group: Replicas) -> Counter[int | None]:
    return Counter(call.status for call in group.boxes["xero"].log.calls("GET", "/api.xro"))


async def queued(group: Replicas, calls: int) -> None:
    """Returns when so many calls wait for Xero, in all of them together."""
    query = "{ sources { name waiting } }"
    async with asyncio.timeout(30):
        while True:
            answers = [await group.ask(replica, "support", query) for replica in REPLICAS]
            waiting = [
                one["waiting"]
                for answer in answers
                for one in answer.data["sources"]
                if one["name"] == "xero"
            ]
            if sum(waiting) == calls:
                return
            await asyncio.sleep(0.05)


async def test_four_gateways_keep_xeros_minute_and_serve_customers_first(group: Replicas) -> None:
    xero = group.boxes["xero"]
    xero.faults.add("hang", "/api.xro")
    nightly = Asking(group, "support", 5, 8, NIGHTLY)
    dashboard = Asking(group, "support", 3, 8)
    # Of five places at a time these two may take four; the fifth is the customers'.
    await queued(group, 2 * 32 - 4)
    loop = Asking(group, "owner-harbour", 0, 10)
    other = Asking(group, "owner-moeller", 1, 3)
    await queued(group, 2 * 32 + 40 + 12 - 5)
    assert xero.log.count("GET", "/api.xro") == 5
    xero.faults.clear()
    (by_night, _), (on_dashboards, _), (in_loop, waits), (by_other, _) = [
        await one.outcome() for one in (nightly, dashboard, loop, other)
    ]
    assert statuses(group) == {200: by_night + on_dashboards + in_loop + by_other}
    assert sum(statuses(group).values()) <= 60
    assert by_other == 12, "one customer's loop takes nothing from another"
    assert in_loop <= 30, "nor more than half of the minute"
    assert by_night <= on_dashboards < in_loop, "who came last was served first"
    # Nobody was kept waiting for what could not come in time.
    assert all(0 < wait <= 65 for wait in waits)

    xero.faults.add("hang", "/api.xro")
    before = sum(statuses(group).values())
    async with asyncio.timeout(DEADLINE / 2):
        answered, waits = await Asking(group, "support", 3, 1).outcome()
    assert answered == 0
    assert len(waits) == len(REPLICAS)
    assert sum(statuses(group).values()) == before


async def test_redis_that_dies_and_comes_back_empty_gives_nobody_more_than_the_minute(
    group: Replicas, redis: RedisServer
) -> None:
    assert (await Asking(group, "owner-harbour", 0, 3).outcome())[0] == 12
    await redis.stop()
    without, _ = await Asking(group, "owner-moeller", 1, 20).outcome()
    assert without == 4 * 7, "each takes its part of the half that one customer may use"
    assert statuses(group) == {200: 12 + without}
    assert "redis" in (await group.health(0))["degraded"]

    await redis.start()
    async with asyncio.timeout(20):
        while any(["redis" in (await group.health(replica))["degraded"] for replica in REPLICAS]):
            await asyncio.sleep(0.1)
    late = [await Asking(group, who, account, 10).outcome() for who, account in CUSTOMERS.items()]
    assert statuses(group) == {200: 12 + without + sum(answered for answered, _ in late)}
    assert sum(statuses(group).values()) <= 60
