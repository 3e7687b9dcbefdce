"""``python -m tests.benchmarks --instructions``: how many instructions a request takes in its server, counted by valgrind.

A count repeats to a few in a thousand whatever else the machine does, so that it shows what a change of one part does where
times only tell of the whole. It knows no system calls and no waiting for memory: the figure to be judged by is the time.
"""

import asyncio
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.benchmarks import load
from tests.benchmarks.contenders import Bench, Server

CONTENDERS = ("limit", "gateway")
VARIANTS = 16
"""Of each question, asked in turn: few, so that all have been asked before."""
WARM = 3 * VARIANTS
"""Requests before: tokens, links and plans are known by then."""
LEAVES = 50_000
"""Of the answers that are counted, about: some fifty times slower than without valgrind."""
FEWEST, MOST = 48, 320
"""Requests that are counted."""

_TOTAL = re.compile(rb"^totals: (\d+)", re.MULTILINE)


class NoValgrind(Exception):
    """It is not installed."""


def counting(folder: Path) -> Sequence[str]:
    """The beginning of a command whose instructions are to be counted. Raises NoValgrind."""
    for needed in ("valgrind", "callgrind_control"):
        if shutil.which(needed) is None:
            raise NoValgrind("install valgrind: it counts the instructions")
    kept = f"--callgrind-out-file={folder}/counted.%p"
    return ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", kept)


async def measured(
    contenders: AbstractAsyncContextManager[Bench], folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Instructions per request of every contender and question."""
    counts: dict[str, dict[str, float]] = {}
    async with contenders as bench:
        for question in bench.questions:
            requests = bench.requests(question, VARIANTS)
            count = min(MOST, max(FEWEST, LEAVES // question.leaves))
            counts[question.name] = {}
            for server in bench.servers.values():
                say(f"{question.title}: {count} requests to {server.name}")
                # One at a time: deadlines hold under valgrind, too.
                await load.drive(server.port, requests, WARM, 1)
                await _control(server, "--instr=on")
                await load.drive(server.port, requests, count, 1)
                await _control(server, "--dump")
                await _control(server, "--instr=off")
                counts[question.name][server.name] = await asyncio.to_thread(_last, folder, server) / count
    return {"instructions": counts}


def table(results: dict[str, Any]) -> str:
    """For people."""
    lines = ["| query | contender | instructions per request | x limit |", "|---|---|---|---|"]
    for question, counts in results["instructions"].items():
        for name, count in counts.items():
            lines.append(
                f"| {question} | {name} | {count / 1e6:.3g} million | {count / counts[CONTENDERS[0]]:.2f} |"
            )
    return "\n".join(lines)


async def _control(server: Server, said: str) -> None:
    control = await asyncio.create_subprocess_exec(
        *("callgrind_control", said, str(server.pid)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await control.communicate()
    if control.returncode:
        raise RuntimeError(f"callgrind_control {said}: {complaint.decode(errors='replace')}")


def _last(folder: Path, server: Server) -> int:
    """What the latest of its dumps counted."""
    dumps = folder.glob(f"counted.{server.pid}.*")
    latest = max(dumps, key=lambda path: int(path.suffix.removeprefix(".")))
    total = _TOTAL.search(latest.read_bytes())
    if total is None:
        raise RuntimeError(f"{server.name}: nothing was counted")
    return int(total[1])
