"""What may not be left when nobody asks any more: tasks, and connections."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import psutil

from tests.chaos.road import Road

SETTLES = 8.0
"""Seconds: longer than anything that goes on by itself may wait for a vendor."""


async def settled(wanted: Callable[[], bool], seconds: float = SETTLES) -> bool:
    """Does it become true before long?"""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not wanted():
                await asyncio.sleep(0.02)
    return wanted()


async def idle(roads: Mapping[str, Road], behind: Collection[str]) -> None:
    """Once nobody waits for a vendor. ``behind``: those whose mirrors read one page at a time, and wait a minute for it."""
    await settled(lambda: not any(_owed(name, road, behind) for name, road in roads.items()))


async def leaks(
    roads: Mapping[str, Road], behind: Collection[str], most: Mapping[str, int], before: Counter[str]
) -> list[str]:
    """In words. ``most``: connections to each vendor that could have been used at once; ``before``: tasks that belong."""
    complaints = []
    await idle(roads, behind)
    for name, road in roads.items():
        if owed := _owed(name, road, behind):
            complaints.append(f"{owed} connections to {name} on which an answer is owed")
        if road.connections > most[name]:
            complaints.append(f"{road.connections} connections to {name}; {most[name]} could be used at once")
        if not await settled(lambda road=road: _all_arrived(road)):  # type: ignore[misc]
            complaints.append(f"to {name} {dict(sockets(road))}, of which {road.connections} arrived")
    if not await settled(lambda: not tasks() - before):
        complaints.append(f"tasks left: {dict(tasks() - before)}")
    return complaints


def _owed(name: str, road: Road, behind: Collection[str]) -> int:
    return max(0, road.busy - (name in behind))


def _all_arrived(road: Road) -> bool:
    return sockets(road) == Counter({"ESTABLISHED": road.connections})


def tasks() -> Counter[str]:
    """Those of the gateway and of the sandboxes, by what they do; not whoever asks."""
    return Counter(
        getattr(task.get_coro(), "__qualname__", task.get_name())
        for task in asyncio.all_tasks()
        if task.get_name() not in ("load", "road") and task is not asyncio.current_task()
    )


def sockets(road: Road) -> Counter[str]:
    """This process's connections to a vendor, by how they stand."""
    return Counter(
        one.status
        for one in psutil.Process(os.getpid()).net_connections("tcp4")
        if one.raddr and one.raddr.port == road.port
    )
