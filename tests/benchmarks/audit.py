"""``python -m tests.benchmarks --audit``: what recording every operation costs the gateway's processor, on the home query."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from sources.ledger.book import Ledger
from tests.benchmarks import load
from tests.benchmarks.contenders import Server, running

CONTENDERS = ("gateway", "unaudited")
SETTLE_SECONDS = 1.0
"""Until the last records are written: their cost counts, too."""
CONNECTIONS = 16


async def measured(
    folder: Path, database_url: str, own: set[int], rounds: int, requests: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Processor milliseconds per request of both, round by round, and how many records were written."""
    async with running(folder, database_url, own, say, CONTENDERS) as bench:
        home = bench.questions[0]
        asked = bench.requests(home, 100)
        for server in bench.servers.values():
            say(f"warming up {server.name}")
            await load.drive(server.port, asked, 4 * CONNECTIONS * 10, CONNECTIONS)
        cells: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        before = await _records(database_url)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            # In turns, so that neither is always the first.
            for name in CONTENDERS if number % 2 else CONTENDERS[::-1]:
                cells[name].append(await _cost(bench.servers[name], asked, requests))
        written = await _records(database_url) - before
    return {"cpuMs": cells, "requests": rounds * requests, "records": written}


def table(results: dict[str, Any]) -> str:
    """For people."""
    with_it, without = (results["cpuMs"][name] for name in CONTENDERS)
    ratios = [audited / unaudited for audited, unaudited in zip(with_it, without, strict=True)]
    return "\n".join(
        [
            "| portal home | CPU ms per request |",
            "|---|---|",
            f"| without the audit trail | {median(without):.3f} |",
            f"| with it, its writing included | {median(with_it):.3f} |",
            "",
            f"It costs {100 * (median(ratios) - 1):.1f}% (median of {len(ratios)} rounds; a quarter of them below "
            f"{100 * (quantiles(ratios)[0] - 1):.1f}%, a quarter above {100 * (quantiles(ratios)[2] - 1):.1f}%); "
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
