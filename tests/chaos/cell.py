"""One source and one fault: the load before, during and after it, and what was found."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Any

import aiohttp
import msgspec

from sources.layers.cache.lifetimes import Lifetimes
from tests.chaos.faults import Fault
from tests.chaos.judge import GRACE, Trouble, fit, fit_from_memory, shown, stale
from tests.chaos.leaks import idle, leaks, settled, sockets, tasks
from tests.chaos.load import PACE, Asked, Load
from tests.chaos.portal import DEADLINE, Customer, Portal, open_portal

BEFORE = 0.2
"""Seconds of the load until the fault begins."""
RECOVERY = 5.0
"""Seconds after its end in which all must be right again."""
AMPLIFICATION = 1.2
"""Of the calls that the same pages cost when all is well."""
TRIES = 4
"""Where the machine was busy with other things, what was found says nothing: with fewer pages, once more."""


class Found(msgspec.Struct, frozen=True):
    """What a fault did."""

    source: str
    fault: Fault
    pages: int
    late: float
    """The worst, in seconds beyond the deadline; negative where all were before it."""
    amplification: float
    """Calls to the vendor, as a part of what the same pages cost when all is well."""
    recovery: float
    """Seconds from the fault's end until the first page after which all are right."""
    complaints: tuple[str, ...]
    """What should not be; empty where all holds."""


class Made(msgspec.Struct, frozen=True):
    """Calls so far, as either side counts them: a connection that is refused leaves no trace on the road, and of a request
    that its HTTP client sends once more the gateway does not know."""

    by_gateway: int
    on_road: int


class Scene:
    """A portal under one load, for one fault after another."""

    def __init__(self, portal: Portal, load: Load, remembers: bool) -> None:
        self.portal, self._load, self._remembers = portal, load, remembers
        self._right: dict[str, Any] = {}
        """Each customer's page when all is well."""
        self._usual = 0.0
        """The longest that a page took when all was well."""
        self._pages, self._seconds, self._calls = 0, 0.0, Counter[str]()
        """Calls by vendor for so many pages, in so many seconds, when all was well."""
        self._tasks = Counter[str]()

    async def _whole(self, customer: Customer) -> Asked:
        """A page without errors. The first ones of a gateway that has just begun may take too long on a busy machine."""
        async with asyncio.timeout(30):
            while True:
                asked = await self._load.ask(customer)
                if asked.answer is not None and not asked.answer.errors:
                    return asked

    async def prepare(self, seconds: float = 1.5) -> None:
        """Learns what is right, what it costs and how long it takes."""
        for customer in self.portal.customers:
            asked = await self._whole(customer)
            assert asked.answer is not None
            self._right[customer.persona] = asked.answer.data
        pages = list(self._right.values())
        for vendor in self.portal.roads:
            # Else one customer's could be taken for another's without anybody's noticing.
            assert all(
                shown(one, vendor) != shown(other, vendor)
                for i, one in enumerate(pages)
                for other in pages[:i]
            )
        clock = asyncio.get_running_loop().time
        for _ in range(TRIES):
            began = clock()
            before = {vendor: self._made(vendor) for vendor in self.portal.roads}
            self._load.start()
            await asyncio.sleep(seconds)
            await self._load.stop()
            if all(map(self._is_right, self._load.asked)):
                break
            self._load.slow_down()
        assert all(map(self._is_right, self._load.asked))
        self._pages, self._seconds = len(self._load.asked), clock() - began
        for vendor, calls in before.items():
            self._calls[vendor] = self._made(vendor).on_road - calls.on_road
        self._usual = max(one.seconds for one in self._load.asked)
        await idle(self.portal.roads, self.portal.mirrored)
        self._tasks = tasks()

    async def suffer(self, vendor: str, fault: Fault, seconds: float | None = None) -> Found:
        """The load, and this fault for so many ``seconds`` in the middle of it; once more where this machine was busy."""
        for _ in range(TRIES):
            found = await self._suffer(vendor, fault, (seconds or fault.seconds) + self._load.pace - PACE)
            if not found.complaints or not self._load.disturbed:
                break
            self._load.slow_down()
        return found

    async def _suffer(self, vendor: str, fault: Fault, seconds: float) -> Found:
        load, portal, clock = self._load, self.portal, asyncio.get_running_loop().time
        load.start()
        await asyncio.sleep(BEFORE)

        began, under_way, at_first = clock(), load.under_way(), self._made(vendor)
        await fault.begin(portal, vendor)
        await asyncio.sleep(seconds)
        trouble, at_last = Trouble(vendor, fault, began, clock()), self._made(vendor)
        complaints = await self._lag(vendor, seconds)
        await fault.end(portal, vendor)

        await settled(lambda: self._well_since(trouble.ended), RECOVERY + DEADLINE)
        await load.stop()
        complaints += self._unfit(trouble)
        recovery = self._recovery(trouble)
        if recovery > RECOVERY:
            complaints.append(f"not back {RECOVERY:.0f} s after the fault's end")
        pages = under_way + sum(began <= one.began < trouble.ended for one in load.asked)
        made = max(at_last.by_gateway - at_first.by_gateway, at_last.on_road - at_first.on_road)
        share = pages / self._pages
        if vendor in portal.mirrored:
            # A mirror reads by the clock, however few pages a busy machine gives.
            share = max(share, (trouble.ended - trouble.began) / self._seconds)
        usual = self._calls[vendor] * share
        if made > AMPLIFICATION * usual:
            complaints.append(f"{made} calls where {usual:.0f} are usual")
        most = {name: load.most_under_way * ceil(calls / self._pages) for name, calls in self._calls.items()}
        complaints += await leaks(portal.roads, portal.mirrored, most, self._tasks)
        return Found(
            vendor,
            fault,
            len(load.asked),
            max(one.seconds for one in load.asked) - DEADLINE,
            made / usual,
            recovery,
            tuple(dict.fromkeys(complaints)),
        )

    def _unfit(self, trouble: Trouble) -> list[str]:
        complaints, said = [], set()
        judge = fit_from_memory if self._remembers else fit
        for one in self._load.asked:
            complaints += judge(one, self._right[one.customer.persona], trouble)
            late = one.seconds - DEADLINE
            if late > GRACE + self._usual + self._load.stalled(one.began + DEADLINE, one.ended):
                complaints.append(f"{late:.3f} s past the deadline")
            if one.answer is not None:
                said |= {error["extensions"]["code"] for error in one.answer.errors}
        if not self._remembers and not said & trouble.fault.may_say:
            complaints.append(f"nothing said {trouble.fault.codes()}")
        return complaints

    def _recovery(self, trouble: Trouble) -> float:
        after = [one for one in self._load.asked if one.began > trouble.ended]
        wrong = max((one.began for one in after if not self._is_right(one)), default=trouble.ended)
        ends = [one.ended for one in after if one.began > wrong]
        return min(ends) - trouble.ended if ends else 2 * RECOVERY

    def _well_since(self, moment: float) -> bool:
        """Is the last page of every customer right, and asked for since then?"""
        since = [one for one in self._load.asked if one.began > moment and one.ended]
        last = since[-len(self.portal.customers) :]
        return len({one.customer.persona for one in last}) == len(self.portal.customers) and all(
            map(self._is_right, last)
        )

    def _is_right(self, one: Asked) -> bool:
        return (
            one.answer is not None
            and one.answer.body.get("data") == self._right[one.customer.persona]
            and not stale(one)
        )

    def _made(self, vendor: str) -> Made:
        return Made(self.portal.calls_made(vendor), len(self.portal.roads[vendor].calls))

    async def _lag(self, vendor: str, seconds: float) -> list[str]:
        """What staff are told of a source that is shown from its copy while it fails."""
        door = self.portal.door
        if vendor not in self.portal.mirrored:
            return []
        answer = await door.ask("admin", "{ sources { name lagSeconds } }")
        [lag] = [source["lagSeconds"] for source in answer.data["sources"] if source["name"] == vendor]
        return (
            [] if lag is not None and lag > seconds / 2 else [f"a lag of {lag} s after {seconds} s of fault"]
        )


@asynccontextmanager
async def open_scene(
    postgres: str, helpdesk: str = "zendesk", cache: Lifetimes | None = None
) -> AsyncIterator[Scene]:
    """Ready for faults. When it is over nothing may be connected to any vendor."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with open_portal(postgres, helpdesk, cache) as portal:
            scene = Scene(portal, Load(portal, session), cache is not None)
            await scene.prepare()
            yield scene
            roads = list(portal.roads.values())
        assert not any(map(sockets, roads))
