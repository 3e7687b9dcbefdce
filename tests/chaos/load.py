"""A steady load: each customer opens the home page again and again, whether the one before has been answered or not."""

import asyncio

import aiohttp
import msgspec

from tests.chaos.portal import Customer, Portal
from tests.door import Answer

PACE = 0.45
"""Seconds between one page and the next of each customer, where the machine is not busy with other things."""

TICK = 0.005
LONG_STALL = 0.2


class Asked(msgspec.Struct):
    """A page that was asked for. Times are the loop's."""

    customer: Customer
    began: float
    ended: float = 0.0
    answer: Answer | None = None
    failure: str = ""
    """Why there is none."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Load:
    """Runs from ``start`` to ``stop``; everything asked since the last ``start`` is in ``asked``."""

    def __init__(self, portal: Portal, session: aiohttp.ClientSession) -> None:
        self._portal, self._session = portal, session
        self.pace = PACE
        self.asked: list[Asked] = []
        self.most_under_way = 0
        """Pages at once, since there is this load."""
        self.stalls: list[tuple[float, float]] = []
        """When this loop, in which all of it runs, was late, and by how many seconds."""
        self._tokens = {one.persona: portal.door.issuer.token(one.persona) for one in portal.customers}
        self._turns: list[asyncio.Task[None]] = []
        self._open: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self.asked, self.stalls = [], []
        self._turns = [asyncio.create_task(self._watch(), name="load")]
        for place, customer in enumerate(self._portal.customers):
            delay = self.pace * place / len(self._portal.customers)
            self._turns.append(asyncio.create_task(self._keep_asking(customer, delay), name="load"))

    async def stop(self) -> None:
        """Returns when everything asked is answered."""
        watching, *asking = self._turns
        for turn in asking:
            turn.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.gather(*self._open)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    def under_way(self) -> int:
        return sum(not asked.ended for asked in self.asked)

    @property
    def disturbed(self) -> bool:
        """Was this machine so busy with other things that what was late may not have been late here?"""
        took = self.asked[-1].ended - self.asked[0].began
        lost = [late for _, late in self.stalls]
        return max(lost, default=0.0) > LONG_STALL or sum(lost) > took / 3

    def slow_down(self) -> None:
        self.pace *= 1.5

    def stalled(self, since: float, until: float) -> float:
        """Seconds that this machine, not the gateway, lost meanwhile."""
        return sum(late for at, late in self.stalls if since <= at <= until)

    async def ask(self, customer: Customer) -> Asked:
        asked = Asked(customer, asyncio.get_running_loop().time())
        self.asked.append(asked)
        self.most_under_way = max(self.most_under_way, self.under_way())
        door = self._portal.door
        try:
            async with self._session.post(
                f"{door.url}/graphql",
                json={"query": self._portal.home, "variables": {"id": customer.account}},
                headers={"Authorization": f"Bearer {self._tokens[customer.persona]}"},
            ) as response:
                body = await response.json(content_type=None)
                asked.answer = Answer(response.status, dict(response.headers), body)
        except (aiohttp.ClientError, ValueError) as error:
            asked.failure = type(error).__name__
        asked.ended = asyncio.get_running_loop().time()
        return asked

    async def _keep_asking(self, customer: Customer, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            task = asyncio.create_task(self._ask(customer), name="load")
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            await asyncio.sleep(self.pace)

    async def _ask(self, customer: Customer) -> None:
        await self.ask(customer)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + TICK
            await asyncio.sleep(TICK)
            late = clock() - due
            if late > TICK / 5:
                self.stalls.append((clock(), late))
