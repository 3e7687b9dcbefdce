"""``python -m tests.benchmarks --bytecodes``: where a request's Python runs, by room and by function, counted by the interpreter.

A count repeats exactly, and names functions, which ``--instructions`` cannot. It knows nothing of what C does: decoding, encoding,
libcurl. As a command, it runs another and counts in it between two signals.
"""

import asyncio
import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from tests.benchmarks.contenders import TOP, Server
from tests.benchmarks.counted import CONTENDERS

BEGIN, END = signal.SIGUSR1, signal.SIGUSR2
SHOWN = 25
"""Functions of each question."""

ROOMS = (
    ("upstream calls", ("sources/transport/", "sources/ports/histogram")),
    ("audit and counts", ("gateway/audit", "gateway/requests", "sources/ledger/", "sources/layers/touched")),
    ("connectors, mapping", ("sources/vendors/", "sources/ports/", "tests/benchmarks/comparison/rows")),
    ("scope, matching", ("sources/layers/",)),
    ("executor", ("gateway/execution/", "graphql/", "strawberry/")),
    ("loaders, resolvers", ("resolvers/", "aiodataloader/", "tests/benchmarks/comparison/")),
    ("sign-in, limits", ("gateway/signin/", "gateway/limits", "gateway/terms")),
    ("way in and out", ("gateway/",)),
    ("server", ("uvicorn/",)),
)
"""By the beginning of a module's path, the first that fits."""
REST = "the standard library and others"
_LIBRARY = f"{Path(asyncio.__file__).parents[1]}/"


class Function(msgspec.Struct):
    """What was counted of it, per request."""

    name: str
    path: str
    """Below the project or below where packages are."""
    bytecodes: float = 0.0
    calls: float = 0.0

    @property
    def room(self) -> str:
        return next((room for room, paths in ROOMS if self.path.startswith(paths)), REST)


class Bytecodes:
    """Counted by the server itself, which leaves them in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def under(self) -> Sequence[str]:
        """The beginning of a command whose bytecodes are to be counted."""
        return (sys.executable, "-m", "tests.benchmarks.bytecodes", str(self._folder))

    async def begin(self, server: Server) -> None:
        os.kill(server.pid, BEGIN)

    async def end(self, server: Server, requests: int) -> Sequence[Function]:
        left = _left(self._folder, server.pid)
        os.kill(server.pid, END)
        async with asyncio.timeout(60):
            while not left.exists():
                await asyncio.sleep(0.05)
        functions = msgspec.json.decode(left.read_bytes(), type=list[Function])
        left.unlink()
        for one in functions:
            one.bytecodes /= requests
            one.calls /= requests
        return functions


def table(results: Mapping[str, Any]) -> str:
    """For people: bytecodes per request by room, then the functions with the most of them."""
    blocks = []
    for question, counts in results["bytecodes"].items():
        sums = {name: sum(one.bytecodes for one in functions) for name, functions in counts.items()}
        rooms = Counter[str]()
        for one in counts["gateway"]:
            rooms[one.room] += one.bytecodes  # type: ignore[assignment]  # not whole ones, per request
        said = ", ".join(f"{name} {sums[name]:,.0f}" for name in CONTENDERS)
        lines = [
            f"{question}: {said} bytecodes per request",
            "",
            "| room | bytecodes | share |",
            "|---|---|---|",
        ]
        lines += [f"| {room} | {n:,.0f} | {n / sums['gateway']:.0%} |" for room, n in rooms.most_common()]
        lines += ["", "| function | bytecodes | calls |", "|---|---|---|"]
        most = sorted(counts["gateway"], key=lambda one: -one.bytecodes)[:SHOWN]
        lines += [f"| `{one.path}` {one.name} | {one.bytecodes:,.0f} | {one.calls:,.1f} |" for one in most]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


# -- in the server ------------------------------------------------------------------------------------------------


def _left(folder: Path, pid: int) -> Path:
    return folder / f"bytecodes.{pid}.json"


def _count(left: Path) -> None:
    """From the one signal to the other."""
    found: dict[Any, Function] = {}

    def called(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        function = found.get(code)
        if function is None:
            function = found[code] = Function(code.co_qualname, _below(code.co_filename))
        function.calls += event == "call"
        frame.f_trace_opcodes, frame.f_trace_lines = True, False

        def stepped(_: FrameType, event: str, __: object) -> Any:
            function.bytecodes += event == "opcode"
            return stepped

        return stepped

    def begin(*_: object) -> None:
        found.clear()
        sys.settrace(called)

    def end(*_: object) -> None:
        sys.settrace(None)
        whole = left.with_suffix(".part")
        whole.write_bytes(msgspec.json.encode(list(found.values())))
        whole.rename(left)

    signal.signal(BEGIN, begin)
    signal.signal(END, end)


def _below(path: str) -> str:
    return path.rpartition("site-packages/")[2].removeprefix(f"{TOP}/").removeprefix(_LIBRARY)


if __name__ == "__main__":
    # This one, the folder, the interpreter, -m, a module, its arguments.
    _, folder, _, _, module, *arguments = sys.argv
    _count(_left(Path(folder), os.getpid()))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
