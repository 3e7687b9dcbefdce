"""A gateway whose helpdesk is a mirrored Freshdesk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from gateway.matching import match_all
from gateway.settings import Source
from sources.layers.cache.lifetimes import Lifetimes
from sources.layers.matching import MatchingRules
from sources.layers.mirror import MirrorSettings
from sources.registry import Kind, row
from sources.sandbox.server import serve
from sources.sandbox.world import World
from sources.vendors.freshdesk import sandbox as emulator
from tests.conftest import fresh_database
from tests.door import Door, open_door


@asynccontextmanager
async def open_mirrored(
    postgres: str, mirror: MirrorSettings, cache: Lifetimes | None = None
) -> AsyncIterator[tuple[Door, emulator.FreshdeskSandbox, str]]:
    """Its first copy is complete and accounts are matched. The last is the database's address."""
    world = World.build(scale=0.1)
    box = emulator.sandbox(world, calls_per_minute=None, lists_per_minute=None)
    async with fresh_database(postgres) as url, serve(box) as running:
        settings = msgspec.structs.replace(
            emulator.settings_for(running.url),
            limits={"account": "unlimited", "tickets_list": "unlimited"},
            mirror=mirror,
        )
        source = Source(row(Kind.HELPDESK, "freshdesk"), settings, MatchingRules())
        async with open_door(
            world, url, matched=False, own_fields=(), sources={Kind.HELPDESK: source}, cache=cache
        ) as door:
            [copies] = door.office.mirrors
            while any(lag.age is None for lag in await copies.lag()):
                await asyncio.sleep(0.05)
            await match_all(door.office.backoffice)
            yield door, box, url
