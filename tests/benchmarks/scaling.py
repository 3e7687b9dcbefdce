"""``python -m tests.benchmarks --scaling``: a dashboard's cost by its size, and a document's cost the first time that it is seen.
In one process, without HTTP: rows are decoded from the upstreams' bytes, run through the engine, and encoded.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, cast

import msgspec
import orjson
from graphql import parse, validate
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from gateway.collector import spare_the_collector
from gateway.execution.engine import Engine
from gateway.limits import Prepared
from gateway.operations import encoded
from tests.benchmarks.company import ACCOUNTS
from tests.benchmarks.comparison import rows, stub
from tests.benchmarks.comparison.graph import Schema
from tests.benchmarks.comparison.server import Anyone, Context
from tests.benchmarks.comparison.workload import DASHBOARD, HOME, TINY

SIZES = (5, 50, 100, 200, 442)
"""Accounts of a dashboard: 226 leaves each, so that the last has 99,892."""
LEAVES = 226
DOCUMENTS = {"P": HOME, "D": DASHBOARD, "T": TINY}
VARIABLES: dict[str, dict[str, Any]] = {"P": {"id": "1"}, "D": {"offset": 0}, "T": {}}
WAYS = ("graphql-core", "first seen", "seen again", "planned")


class Bytes:
    """Upstreams that answer at once, always with the same bytes; as many accounts as asked for."""

    def __init__(self) -> None:
        self._decoded: dict[str, msgspec.json.Decoder[list[Any]]] = {
            "accounts": msgspec.json.Decoder(list[rows.AccountRow]),
            "contacts": msgspec.json.Decoder(list[rows.ContactRow]),
            "invoices": msgspec.json.Decoder(list[rows.InvoiceRow]),
            "tickets": msgspec.json.Decoder(list[rows.TicketRow]),
            "documents": msgspec.json.Decoder(list[rows.DocumentRow]),
        }
        accounts = list(stub.accounts().values())
        own = {kind: list(some.values()) for kind, some in stub.owned().items()}
        self._rows: dict[int, dict[str, bytes]] = {}
        for count in (1, *SIZES):
            # More accounts than the stub has are its own again, under other ids.
            turns = [(turn, place) for turn in range(-(-count // ACCOUNTS)) for place in range(ACCOUNTS)][
                :count
            ]
            self._rows[count] = {
                "accounts": orjson.dumps([_again(accounts[p], "id", t) for t, p in turns])
            } | {
                kind: orjson.dumps([_again(row, "accountId", t) for t, p in turns for row in some[p]])
                for kind, some in own.items()
            }
        self.count = 1

    def _read(self, kind: str) -> list[Any]:
        return self._decoded[kind].decode(self._rows[self.count][kind])

    async def page(self, limit: int, offset: int) -> list[Any]:
        """As many as this dashboard has."""
        return self._read("accounts")

    async def accounts(self, ids: Sequence[str]) -> list[Any]:
        """The first, whoever is asked for."""
        return [self._read("accounts")[0] for _ in ids]

    def __getattr__(self, kind: str) -> Any:
        async def read(accounts: Sequence[str]) -> list[list[Any]]:
            return rows.by_owner(self._read(kind), accounts)

        return read


class Bench:
    """The graph, its engine and a caller."""

    def __init__(self) -> None:
        self.schema, self.upstreams = Schema(), Bytes()
        self.engine = Engine(self.schema)
        self._caller = cast(Any, Anyone())._principal

    def context(self) -> Any:
        """For one request."""
        return Context(self._caller, self.schema.policy, cast(Any, self.upstreams))

    async def ask(self, text: str, prepared: Prepared, variables: dict[str, Any]) -> bytes:
        """Its answer. Raises RuntimeError where it has errors."""
        context = self.context()
        try:
            result = await self.engine.execute(text, prepared.document, context, variables)
        finally:
            context.release()
        if result.errors:
            raise RuntimeError(str(result.errors[0]))
        return encoded({"data": result.data})

    async def by_graphql_core(self, text: str, variables: dict[str, Any]) -> bytes:
        """The same by graphql-core alone, as if it were its first time."""
        document = parse(text)
        if errors := validate(self.schema.graphql, document):
            raise RuntimeError(str(errors[0]))
        context = self.context()
        executor: Any = StrawberryGraphQLCoreExecutionContext.build(
            self.schema.graphql, document, context_value=context, raw_variable_values=variables
        )
        result = executor.execute_operation()
        result = await result if executor.is_awaitable(result) else result
        context.release()
        return orjson.dumps({"data": result.data})


def run(quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of processor time: of a dashboard by accounts, and of each document by the way it went."""
    return asyncio.run(_run(3 if quick else 7, say))


async def _run(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    bench = Bench()
    spare_the_collector()
    sizes: dict[int, list[float]] = {size: [] for size in SIZES}
    prepared = Prepared(bench.schema.graphql, DASHBOARD)
    for turn in range(rounds + 1):
        say(f"round {turn} of {rounds}: dashboards of {SIZES[0]} to {SIZES[-1]} accounts")
        for size in SIZES:
            bench.upstreams.count = size
            times = max(3, 500 // size)
            started = time.process_time()
            for _ in range(times):
                await bench.ask(DASHBOARD, prepared, {"offset": 0})
            if turn:  # the first is for the plan, and to warm up
                sizes[size].append((time.process_time() - started) * 1000 / times)
    documents = {name: await _documents(bench, name, rounds, say) for name in DOCUMENTS}
    return {"sizes": {size: median(took) for size, took in sizes.items()}, "documents": documents}


async def _documents(bench: Bench, name: str, rounds: int, say: Callable[[str], None]) -> dict[str, float]:
    variables = VARIABLES[name]
    bench.upstreams.count = 50 if name == "D" else 1
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    times = 20 if name != "D" else 4
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}: documents like {name}, first seen and again")
        texts = [f"{DOCUMENTS[name]} # {name}{turn}.{number}" for number in range(times)]
        known = [Prepared(bench.schema.graphql, text) for text in texts]

        async def core(texts: list[str] = texts) -> None:
            for text in texts:
                await bench.by_graphql_core(text, variables)

        async def first(texts: list[str] = texts) -> None:
            for text in texts:
                await bench.ask(text, Prepared(bench.schema.graphql, text), variables)

        async def again(texts: list[str] = texts, known: list[Prepared] = known) -> None:
            for text, document in zip(texts, known, strict=True):
                await bench.ask(text, document, variables)

        for way, asking in zip(WAYS, (core, first, again, again), strict=True):
            gc.collect()
            started = time.process_time()
            await asking()
            took[way].append((time.process_time() - started) * 1000 / times)
    return {way: median(some) for way, some in took.items()}


def _again(row: dict[str, Any], id_: str, turn: int) -> dict[str, Any]:
    return row if turn == 0 else {**row, id_: f"{row[id_]}.{turn}"}


def table(results: dict[str, Any]) -> str:
    """As Markdown."""
    lines = ["| accounts | leaves | CPU ms | microseconds per leaf |", "|---|---|---|---|"]
    for size, took in results["sizes"].items():
        leaves = size * LEAVES
        lines.append(f"| {size} | {leaves:,} | {took:.3g} | {took * 1000 / leaves:.3f} |")
    lines += [
        "",
        "| document | graphql-core: parse, validate, run | first seen | x | seen again, planned now | planned before |",
        "|---|---|---|---|---|---|",
    ]
    for name, took in results["documents"].items():
        core, first, again, planned = (took[way] for way in WAYS)
        lines.append(
            f"| {name} | {core:.3g} ms | {first:.3g} | {first / core:.2f} | {again:.3g} | {planned:.3g} |"
        )
    return "\n".join(lines)
