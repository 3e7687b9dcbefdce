"""``python -m tests.benchmarks --instructions``: how many instructions a request takes in its server, counted by valgrind.

A count repeats to a few in a thousand whatever else the machine does, so that it shows what a change of one part does where
times only tell of the whole. It knows no system calls and no waiting for memory: the figure to be judged by is the time.
"""

import asyncio
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Server
from tests.benchmarks.counted import CONTENDERS

_TOTAL = re.compile(rb"^totals: (\d+)", re.MULTILINE)


class NoValgrind(Exception):
    """It is not installed."""


class Instructions:
    """Counted by valgrind, which keeps its dumps in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises NoValgrind."""
        for needed in ("valgrind", "callgrind_control"):
            if shutil.which(needed) is None:
                raise NoValgrind("install valgrind: it counts the instructions")
        self._folder = folder

    @property
    def under(self) -> Sequence[str]:
        """The beginning of a command whose instructions are to be counted."""
        kept = f"--callgrind-out-file={self._folder}/counted.%p"
        return ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", kept)

    async def begin(self, server: Server) -> None:
        await _control(server, "--instr=on")

    async def end(self, server: Server, requests: int) -> float:
        await _control(server, "--dump")
        await _control(server, "--instr=off")
        return await asyncio.to_thread(self._last, server) / requests

    def _last(self, server: Server) -> int:
        """What the latest of its dumps counted."""
        dumps = self._folder.glob(f"counted.{server.pid}.*")
        latest = max(dumps, key=lambda path: int(path.suffix.removeprefix(".")))
        total = _TOTAL.search(latest.read_bytes())
        if total is None:
            raise RuntimeError(f"{server.name}: nothing was counted")
        return int(total[1])


def table(results: Mapping[str, Any]) -> str:
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
