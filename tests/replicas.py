"""Several gateways, each ``gateway serve`` in a process of its own, over one PostgreSQL, one Redis and the same sandboxes."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway.demo import personas_of, sandboxes, save_organisations, settings_file, settings_for
from gateway.demo_issuer import DemoIssuer
from gateway.matching import match_all
from gateway.office import Office
from resolvers.vocabulary import node_id
from sources.layers.cache.lifetimes import Lifetimes
from sources.ports.common import Ref
from sources.sandbox.server import Sandbox
from sources.sandbox.world import World
from tests.commands import serving
from tests.door import Answer
from tests.redis_server import RedisServer

Change = Callable[[dict[str, Any]], None]
"""Of the tables of gateway.toml."""


class Replicas:
    """Each at its own address."""

    def __init__(
        self,
        urls: Sequence[str],
        config: Path,
        boxes: Mapping[str, Sandbox],
        issuer: DemoIssuer,
        world: World,
        session: aiohttp.ClientSession,
    ) -> None:
        self.urls, self.config, self.boxes = urls, config, boxes
        self.world = world
        self._issuer, self._session = issuer, session

    def account_id(self, index: int) -> str:
        """The node id of an account of the world."""
        return node_id("Account", Ref("hubspot", self.world.accounts[index].hubspot_id))

    async def ask(
        self,
        replica: int,
        persona: str,
        query: str,
        variables: Mapping[str, Any] | None = None,
        **headers: str,
    ) -> Answer:
        """POST /graphql of one of them."""
        sent = {"Authorization": f"Bearer {self._issuer.token(persona)}", **headers}
        async with self._session.post(
            f"{self.urls[replica]}/graphql", json={"query": query, "variables": variables or {}}, headers=sent
        ) as response:
            return Answer(response.status, dict(response.headers), await response.json(content_type=None))

    async def health(self, replica: int) -> dict[str, Any]:
        """What it says at /health/ready."""
        async with self._session.get(f"{self.urls[replica]}/health/ready") as response:
            said: dict[str, Any] = await response.json()
            return said


@asynccontextmanager
async def replicas(
    world: World,
    database_url: str,
    redis: RedisServer,
    folder: Path,
    *,
    count: int = 4,
    change: Change = lambda tables: None,
    ready: Callable[[Mapping[str, Sandbox]], None] = lambda boxes: None,
) -> AsyncIterator[Replicas]:
    """They begin once all accounts are matched and ``ready`` has made of the sandboxes what the test needs."""
    issuer = DemoIssuer(personas_of(world))
    async with (
        sandboxes(world, issuer, quotas=False) as running,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        AsyncExitStack() as stack,
    ):
        settings = settings_for(running.urls)
        silent = msgspec.structs.replace(settings, cache=Lifetimes(enabled=False))
        async with Office(silent, database_url) as office:
            accounts = tuple((account.hubspot_id, account.crm_name) for account in world.accounts[:2])
            await save_organisations(office.ledger, accounts)
            await match_all(office.backoffice)
        tables = tomllib.loads(settings_file(settings, database_url).decode())
        tables["redis"] = {"url": redis.url, "replicas": count, "patience": 5.0}
        change(tables)
        config = folder / "gateway.toml"
        config.write_bytes(msgspec.toml.encode(tables))
        ready(running.running)
        for box in running.running.values():
            box.log.clear()
        started = await asyncio.gather(
            *(stack.enter_async_context(serving(database_url, config)) for _ in range(count))
        )
        yield Replicas([url for _, url in started], config, running.running, issuer, world, session)
