"""``make bench``: processor time per request of the gateway, the limit and plain Strawberry, on interleaved rounds."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop

from sources.ledger.embedded import EmbeddedPostgres
from tests.benchmarks import audit, bytecodes, counted, instructions, load, rules, scaling
from tests.benchmarks.contenders import Bench, NoCores, Server, cores, running, running_plain
from tests.benchmarks.workload import Question, leaves

CONNECTIONS = 16
MANY_LEAVES = 10_000
"""Answers of that size are warmed up with one per connection."""

LIMIT = "limit"
SHAPES = ("vendors", "plain")
"""What the upstreams are like: HubSpot, Xero, Zendesk and S3, or with rows as the graph shows them."""
TITLES = {
    "limit": "by hand: Starlette, aiohttp, orjson",
    "gateway": "the gateway",
    "plain": "plain Strawberry",
    "hubspot": "HubSpot",
    "xero": "Xero",
    "zendesk": "Zendesk",
    "s3": "S3",
    "crm": "CRM",
    "erp": "ERP",
}


class Cell(msgspec.Struct):
    """What was measured of one contender with one question; a list has one figure per round."""

    cpu_ms: list[float]
    per_second: list[float]
    multiples: list[float]
    """Of the limit's time in the same round."""
    calls: dict[str, float]
    """To each upstream, per request."""


class Effort(msgspec.Struct, frozen=True):
    """How long to measure."""

    rounds: int
    seconds: float
    """Per contender, question and round, about."""
    variants: int
    """Of each question, asked in turn."""


def main() -> None:
    arguments = _arguments()
    effort = Effort(3, 3.5, 100)
    if arguments.quick:
        effort = Effort(3, 0.7, 10)
    # A plain end, so that the children are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        own, others = cores()
        os.sched_setaffinity(0, others)
        with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
            results, table = _results(arguments, Path(folder), own, effort)
    except (NoCores, instructions.NoValgrind) as reason:
        sys.exit(f"make bench: {reason}")
    except (RuntimeError, load.Refused) as reason:
        sys.exit(f"make bench: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(msgspec.to_builtins(results), indent=2) + "\n")


def _results(
    arguments: argparse.Namespace, folder: Path, own: set[int], effort: Effort
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """What was asked for, and how to show it."""
    if arguments.rules or arguments.scaling:
        os.sched_setaffinity(0, own)
        module = rules if arguments.rules else scaling
        return module.run(arguments.quick, _say), module.table
    if arguments.audit:
        return _audited(folder, own, arguments.quick), audit.table
    if arguments.instructions:
        counter = instructions.Instructions(folder)
        return {"instructions": _counted(counter, folder, own, arguments.shape)}, instructions.table
    if arguments.bytecodes:
        return {
            "bytecodes": _counted(bytecodes.Bytecodes(folder), folder, own, arguments.shape)
        }, bytecodes.table
    return _measured(folder, own, effort, arguments.shape, arguments.cache), _table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, less exact")
    parser.add_argument(
        "--shape", choices=SHAPES, default=SHAPES[0], help="what the upstreams' rows are like"
    )
    parser.add_argument(
        "--cache", action="store_true", help="the gateway may remember what it read ([cache])"
    )
    parser.add_argument("--audit", action="store_true", help="what recording every operation costs, instead")
    parser.add_argument("--rules", action="store_true", help="what the schema's rules cost, instead")
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="what up to 100,000 leaves cost, and a document that is first seen, instead",
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="how many instructions a request takes, by valgrind, instead",
    )
    parser.add_argument(
        "--bytecodes",
        action="store_true",
        help="where a request's Python runs, by room and function, instead",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser.parse_args()


def _measured(folder: Path, own: set[int], effort: Effort, shape: str, cache: bool) -> dict[str, Any]:
    if shape == "plain":
        return uvloop.run(_run(running_plain(folder, own, _starting), effort))
    folder.chmod(0o755)  # the embedded server may run as another user
    with EmbeddedPostgres() as postgres:
        _say("starting PostgreSQL ...")
        url = postgres.start(folder / "postgres")
        return uvloop.run(_run(running(folder, url, own, _starting, cache=cache), effort, cache))


def _audited(folder: Path, own: set[int], quick: bool) -> dict[str, Any]:
    folder.chmod(0o755)
    effort = audit.Effort(2, 4, 150) if quick else audit.Effort(6, 8, 200)
    with EmbeddedPostgres() as postgres:
        _say("starting PostgreSQL ...")
        url = postgres.start(folder / "postgres")
        return uvloop.run(audit.measured(folder, url, own, effort, _say))


def _counted(
    counter: instructions.Instructions | bytecodes.Bytecodes, folder: Path, own: set[int], shape: str
) -> Mapping[str, Any]:
    folder.chmod(0o755)
    if shape == "plain":
        plain = running_plain(folder, own, _starting, counter.under)
        return uvloop.run(counted.measured(plain, counter, _say))
    with EmbeddedPostgres() as postgres:
        _say("starting PostgreSQL ...")
        url = postgres.start(folder / "postgres")
        contenders = running(folder, url, own, _starting, counted.CONTENDERS, under=counter.under)
        return uvloop.run(counted.measured(contenders, counter, _say))


async def _run(
    contenders: AbstractAsyncContextManager[Bench], effort: Effort, cache: bool = False
) -> dict[str, Any]:
    async with contenders as bench:
        cells: dict[str, dict[str, Cell]] = {}
        counts: dict[tuple[str, str], int] = {}
        for question in bench.questions:
            _say(f"{question.title}: are the answers equal?")
            await _require_equal(bench, question, effort.variants, calls=not cache)
            cells[question.name] = {}
            for server in bench.servers.values():
                _say(f"{question.title}: warming up {server.name}")
                requests = bench.requests(question, effort.variants)
                warm = CONNECTIONS * (1 if question.leaves > MANY_LEAVES else 8)
                seconds = await load.drive(server.port, requests, warm, CONNECTIONS)
                counts[question.name, server.name] = max(CONNECTIONS, round(effort.seconds * warm / seconds))
                cells[question.name][server.name] = Cell([], [], [], {})
        for number in range(effort.rounds):
            for question in bench.questions:
                for server in bench.servers.values():
                    _say(f"round {number + 1} of {effort.rounds}: {question.title}, {server.name}")
                    count = counts[question.name, server.name]
                    await _measure(bench, question, server, count, effort, cells[question.name][server.name])
                limit = cells[question.name][LIMIT].cpu_ms[-1]
                for cell in cells[question.name].values():
                    cell.multiples.append(cell.cpu_ms[-1] / limit)
        return {
            "upstreams": bench.upstreams,
            "questions": {q.name: {"title": q.title, "leaves": q.leaves} for q in bench.questions},
            "requests": {f"{question}/{name}": count for (question, name), count in counts.items()},
            "cells": cells,
            "peakMegabytes": {name: server.peak_megabytes() for name, server in bench.servers.items()},
        }


async def _measure(
    bench: Bench, question: Question, server: Server, count: int, effort: Effort, cell: Cell
) -> None:
    requests = bench.requests(question, effort.variants)
    await bench.reset()
    before = server.cpu_seconds()
    seconds = await load.drive(server.port, requests, count, CONNECTIONS)
    spent = server.cpu_seconds() - before
    calls = await bench.calls()
    cell.cpu_ms.append(spent * 1000 / count)
    cell.per_second.append(count / seconds)
    cell.calls = {name: calls[name] / count for name in bench.upstreams}


async def _require_equal(bench: Bench, question: Question, variants: int, *, calls: bool) -> None:
    """Raises RuntimeError where two contenders disagree, or where they make different ``calls``."""
    requests = bench.requests(question, variants)
    first: list[bytes] = []
    different = 0
    for server in bench.servers.values():
        answers = [canonical(body) for body in await load.ask(server.port, requests)]
        if not first:
            first, different = answers, await bench.different_calls()
            if leaves(json.loads(first[0])) != question.leaves:
                raise RuntimeError(f"{question.title}: not {question.leaves} leaves")
        elif answers != first:
            raise RuntimeError(f"{question.title}: {server.name} answers otherwise than {LIMIT}")
    if calls and await bench.different_calls() != different:
        raise RuntimeError(f"{question.title}: {LIMIT} makes other calls than the rest")


def canonical(body: bytes) -> bytes:
    """An answer's data without the spaces that some encoders put; keys in the order in which they came."""
    return json.dumps(json.loads(body)["data"], ensure_ascii=False, separators=(",", ":")).encode()


def _table(results: dict[str, Any]) -> str:
    upstreams = results["upstreams"]
    called = ", ".join(TITLES.get(name, name) for name in upstreams)
    lines = [
        f"| query (leaves) | contender | CPU ms per request | x limit | requests per s | calls {called} |",
        "|---|---|---|---|---|---|",
    ]
    for name, about in results["questions"].items():
        cells: dict[str, Cell] = results["cells"][name]
        for contender, cell in cells.items():
            calls = ", ".join(f"{cell.calls[upstream]:.4g}" for upstream in upstreams)
            lines.append(
                f"| {name} {about['title']} ({about['leaves']:,}) | {TITLES[contender]} "
                f"| {median(cell.cpu_ms):.3g} | {median(cell.multiples):.2f} | {median(cell.per_second):.4g} | {calls} |"
            )
    memory = "; ".join(f"{name} {peak:.0f} MB" for name, peak in results["peakMegabytes"].items())
    return "\n".join([*lines, "", f"Peak memory over all three, {CONNECTIONS} connections: {memory}."])


_STARTED = time.monotonic()


def _starting(what: str) -> None:
    _say(f"starting {what}")


def _say(text: str) -> None:
    print(f"{time.monotonic() - _STARTED:5.0f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
