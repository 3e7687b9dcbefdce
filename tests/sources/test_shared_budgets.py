"""Several processes that draw on one vendor's limits through a real Redis."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sources.ports.errors import SourceError, SourceRateLimited
from sources.ports.trace import Trace
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.caller import Urgency, calling_for
from sources.transport.deadline import deadline
from sources.transport.http import HttpClient, NoAuth
from sources.transport.limits import Limit, SourceSettings
from sources.transport.shared import SharedBudgets
from sources.transport.traffic import Network
from sources.vendors.xero.sandbox import sandbox as xero_sandbox
from tests.redis_server import RedisServer, redis_server

PROCESSES = 4

CLIENT = """
import asyncio, json, sys
import structlog
from sources.ports.common import Ref
from sources.ports.errors import SourceError
from sources.registry import Kind, row
from sources.transport.caller import Urgency, calling_for
from sources.transport.deadline import deadline
from sources.transport.shared import SharedBudgets
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main(redis, xero, contact):
    network = Network(SharedBudgets(redis, 4, patience=10))
    found = row(Kind.ERP, "xero")
    erp = found.connect(found.sandbox.settings_for(xero), Wiring(None, network=network))

    async def ask(urgency, organisation):
        with deadline(3), calling_for(urgency, organisation):
            try:
                await erp.customers([Ref("xero", contact)])
                return "answered"
            except SourceError as error:
                return [error.code, error.retry_after]

    for line in sys.stdin:
        urgency, organisations, each = json.loads(line)
        outcomes = await asyncio.gather(
            *(ask(Urgency[urgency], one) for _ in range(each) for one in organisations)
        )
        print(json.dumps(outcomes), flush=True)
    await erp.close()
    await network.close()

asyncio.run(main(*sys.argv[1:]))
"""


class Processes:
    """Of the gateway's transport, each with its own connector to the same Xero."""

    def __init__(self, running: Sequence[asyncio.subprocess.Process]) -> None:
        self._running = running

    async def ask(self, urgency: Urgency, organisations: Sequence[str], each: int) -> list[Any]:
        """All of them, at the same time, so many calls for each organisation."""
        line = json.dumps([urgency.name, organisations, each]).encode() + b"\n"
        for one in self._running:
            assert one.stdin is not None
            one.stdin.write(line)
        outcomes: list[Any] = []
        for one in self._running:
            assert one.stdout is not None
            outcomes += json.loads(await one.stdout.readline())
        return outcomes


@asynccontextmanager
async def processes(redis: str, xero: str, contact: str) -> AsyncIterator[Processes]:
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, redis, xero, contact,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    try:
        yield Processes(running)
    finally:
        for one in running:
            assert one.stdin is not None
            one.stdin.close()
        await asyncio.gather(*(one.wait() for one in running))


async def test_four_processes_stay_within_xeros_limits_and_the_urgent_come_first(world: World) -> None:
    xero = xero_sandbox(world)  # limited as Xero is: 60 a minute, 5 at a time
    contact = next(account.xero_contact_id for account in world.accounts if account.xero_contact_id)
    async with (
        redis_server() as redis,
        serve(xero) as running,
        processes(redis.url, running.url, contact) as clients,
    ):
        began = time.monotonic()
        night = await clients.ask(Urgency.BACKGROUND, ["firm"], 40)
        loop = await clients.ask(Urgency.INTERACTIVE, ["loop"], 20)
        pages = await clients.ask(Urgency.INTERACTIVE, ["loop", "harbour", "moeller"], 20)
        seconds = time.monotonic() - began

    calls = xero.log.calls("GET", "/api.xro")
    answered = [batch.count("answered") for batch in (night, loop, pages)]
    assert seconds < 60, "the minute was over before all had asked"
    assert {call.status for call in calls} == {200}
    assert len(calls) == sum(answered) <= 60
    assert answered[0] <= 30, "what nobody waits for leaves half of the minute to those who wait"
    assert answered[1] <= 20, "one customer in a loop leaves the reserve to others"
    assert answered[2] >= 10, "so other customers are served"
    assert sum(answered) == 60, "and what is there is used"
    refused = [one for batch in (night, loop, pages) for one in batch if one != "answered"]
    assert {code for code, _ in refused} == {"SOURCE_RATE_LIMITED"}
    assert all(0 < wait <= 65 for _, wait in refused)


# -- Redis that is away -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


class Replicas:
    """Connections of several networks to one vendor, in this process."""

    def __init__(self, url: str, networks: Sequence[Network], limits: Sequence[Limit]) -> None:
        settings = SourceSettings(private_addresses=("127.0.0.1",))
        self.networks = networks
        self.clients = [
            HttpClient(
                "vendor",
                url,
                auth=NoAuth(),
                traffic=network.traffic("vendor", settings, parallel=50, limits=limits, account="one"),
            )
            for network in networks
        ]

    async def ask(self, each: int, seconds: float = 3.0) -> Mapping[str, int]:
        """So many calls by each replica, interleaved; how many ended how."""

        async def one(client: HttpClient) -> str:
            with deadline(seconds), calling_for(Urgency.INTERACTIVE):
                try:
                    await client.call("GET", "/")
                    return "answered"
                except SourceError as error:
                    return error.code

        outcomes = await asyncio.gather(*(one(client) for _ in range(each) for client in self.clients))
        return {word: outcomes.count(word) for word in set(outcomes)}


@asynccontextmanager
async def replicas(
    redis: str, *limits: Limit, gate: asyncio.Event | None = None
) -> AsyncIterator[tuple[Replicas, Sandbox]]:
    async def fine(request: Request) -> Response:
        if gate is not None:
            await gate.wait()
        return JSONResponse({})

    sandbox = Sandbox("vendor", [Route("/", fine)])
    networks = [Network(SharedBudgets(redis, PROCESSES, patience=10)) for _ in range(PROCESSES)]
    async with serve(sandbox) as running:
        group = Replicas(running.url, networks, limits)
        try:
            yield group, sandbox
        finally:
            for client in group.clients:
                await client.close()
            for network in networks:
                await network.close()


async def test_while_redis_is_away_each_process_takes_its_part_and_nobody_hangs(redis: RedisServer) -> None:
    async with replicas(redis.url, Limit("minute", calls=40)) as (group, sandbox):
        await redis.stop()
        began = time.monotonic()
        outcomes = await group.ask(30)
        seconds = time.monotonic() - began

        assert outcomes == {"answered": 40, "SOURCE_RATE_LIMITED": 80}
        assert sandbox.log.count() == 40
        assert seconds < 3.0
        assert all(network.redis_away for network in group.networks)


async def test_calls_made_while_redis_was_away_count_when_it_is_back(redis: RedisServer) -> None:
    async with replicas(redis.url, Limit("minute", calls=40)) as (group, sandbox):
        await redis.stop()
        assert (await group.ask(5))["answered"] == 20
        await redis.start()
        async with asyncio.timeout(20):
            while any(network.redis_away for network in group.networks):
                await group.ask(1)
                await asyncio.sleep(0.2)
        await group.ask(20)

        assert sandbox.log.count() == 40


async def test_one_process_that_is_refused_stops_the_others(redis: RedisServer) -> None:
    async with replicas(redis.url, Limit("minute", calls=40)) as (group, sandbox):
        sandbox.faults.add("rate_limit", retry_after=30)
        await group.ask(1)
        refused = sandbox.log.count()
        assert refused <= PROCESSES
        sandbox.faults.clear()

        assert await group.ask(5) == {"SOURCE_RATE_LIMITED": 20}

    assert sandbox.log.count() == refused


async def test_places_at_a_time_are_shared_and_given_back(redis: RedisServer) -> None:
    gate = asyncio.Event()
    async with replicas(redis.url, Limit("concurrent", concurrent=3), gate=gate) as (group, sandbox):
        asking = asyncio.create_task(group.ask(10, seconds=20))
        while sandbox.log.count() < 3:
            await asyncio.sleep(0.01)
        most = 0
        gate.set()
        assert await asking == {"answered": 40}
        most = max(most, _most_at_once(sandbox))

    assert most == 3


async def test_asking_redis_is_a_part_of_the_trace_also_where_it_is_away(redis: RedisServer) -> None:
    async with replicas(redis.url, Limit("minute", calls=40)) as (group, _):
        seen = []
        for _ in ("there", "away", "known to be away"):
            trace = Trace()
            with trace.begin("operation", "x"):
                await group.clients[0].call("GET", "/", route="things")
            seen.append([(one.kind, one.name, one.error) for one in trace.close()[1:]])
            await redis.stop()

    asking, call = ("redis", "vendor budget", None), ("call", "GET things", None)
    assert seen == [[asking, call]] * 3


async def test_each_process_tells_what_all_have_used_as_of_its_last_call(redis: RedisServer) -> None:
    async with replicas(redis.url, Limit("minute", calls=40)) as (group, _):
        for client in group.clients:  # the last one last
            for _ in range(3):
                with deadline(3.0), calling_for(Urgency.INTERACTIVE):
                    await client.call("GET", "/")
        used = [
            {limit.limit: limit.used for limit in network.states()["vendor"][0].limits}["minute"]
            for network in group.networks
        ]

    assert used == [3, 6, 9, 12]


async def test_limits_of_two_accounts_are_two(redis: RedisServer) -> None:
    settings = SourceSettings(private_addresses=("127.0.0.1",))
    network = Network(SharedBudgets(redis.url, 1))
    calls = 0
    for account in ("one", "two"):
        traffic = network.traffic(
            "vendor", settings, parallel=5, limits=[Limit("minute", calls=4)], account=account
        )
        client = HttpClient("vendor", "http://127.0.0.1:1", auth=NoAuth(), traffic=traffic)
        for _ in range(6):
            with deadline(0.5), calling_for(Urgency.INTERACTIVE):
                try:
                    await client.call("POST", "/")
                except SourceRateLimited:
                    pass
                except SourceError:
                    calls += 1
        await client.close()
    await network.close()

    assert calls == 8


def _most_at_once(sandbox: Sandbox) -> int:
    edges = []
    for call in sandbox.log.calls():
        assert call.seconds is not None
        edges += [(call._started, 1), (call._started + call.seconds, -1)]
    now = most = 0
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0"])
async def test_a_redis_that_was_never_there_keeps_nobody_waiting(url: str) -> None:
    async with replicas(url, Limit("minute", calls=40)) as (group, sandbox):
        assert await group.ask(2) == {"answered": 8}

    assert sandbox.log.count() == 8
