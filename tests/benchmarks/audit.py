"""``python -m tests.benchmarks --audit``: what recording every operation costs the gateway's processor, on the home query."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec

from sources.ledger.book import Ledger
from tests.benchmarks import load
from tests.benchmarks.contenders import Server, running

CONTENDERS = ("gateway", "unaudited")
SETTLE_SECONDS = 1.0
"""Until the last records are written: their cost counts, too."""
CONNECTIONS = 16


class Effort(msgspec.Struct, frozen=True):
    """How long to measure."""

    starts: int
    """Of both processes: where one lies in memory makes it a few per cent faster or slower for as long as it lives."""
    rounds: int
    """Of each start, short: what else a machine does falls on both alike."""
    requests: int
    """Of each round and contender."""


async def measured(
    folder: Path, database_url: str, own: set[int], effort: Effort, say: Callable[[str], None]
) -> dict[str, Any]:
    """Processor milliseconds per request of both, round by round, and how many records were written."""
    cells: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    written = 0
    for start in range(effort.starts):
        place = folder / str(start)
        place.mkdir(mode=0o755)
        async with running(place, database_url, own, say, CONTENDERS) as bench:
            asked = bench.requests(bench.questions[0], 100)
            for server in bench.servers.values():
                say(f"warming up {server.name}")
                await load.drive(server.port, asked, 40 * CONNECTIONS, CONNECTIONS)
            await asyncio.sleep(SETTLE_SECONDS)
            before = await _records(database_url)
            for number in range(effort.rounds):
                say(f"start {start + 1} of {effort.starts}, round {number + 1} of {effort.rounds}")
                # In turns, so that neither is always the first.
                for name in CONTENDERS if number % 2 else CONTENDERS[::-1]:
                    cells[name].append(await _cost(bench.servers[name], asked, effort.requests))
            written += await _records(database_url) - before
    requests = effort.starts * effort.rounds * effort.requests
    return {"starts": effort.starts, "cpuMs": cells, "requests": requests, "records": written}


def table(results: dict[str, Any]) -> str:
    """For people."""
    with_it, without = (results["cpuMs"][name] for name in CONTENDERS)
    rounds = len(with_it) // results["starts"]
    ratios = [
        sum(with_it[first : first + rounds]) / sum(without[first : first + rounds])
        for first in range(0, len(with_it), rounds)
    ]
    return "\n".join(
        [
            "| portal home | CPU ms per request |",
            "|---|---|",
            f"| without the audit trail | {mean(without):.3f} |",
            f"| with it, its writing included | {mean(with_it):.3f} |",
            "",
            f"It costs {100 * (mean(with_it) / mean(without) - 1):.1f}% (each start: "
            f"{', '.join(f'{100 * (ratio - 1):+.1f}%' for ratio in ratios)}); "
            f"{results['records']:,} records of {results['requests']:,} requests were written.",
        ]
    )


async def _cost(server: Server, asked: list[bytes], requests: int) -> float:
    before = server.cpu_seconds()
    await load.drive(server.port, asked, requests, CONNECTIONS)
    await asyncio.sleep(SETTLE_SECONDS)
    return (server.cpu_seconds() - before) * 1000 / requests


async def _records(database_url: str) -> int:
    ledger = await Ledger.open(database_url)
    try:
        return (await ledger.audit.head()).sequence
    finally:
        await ledger.close()
