"""``python -m tests.benchmarks --rules``: what the rules of 2,000 rows of five fields cost, against no rule at all, and what the
same costs with plain Strawberry's permission classes. In one process, on interleaved rounds."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

import msgspec
import strawberry
from graphql import parse
from strawberry.permission import BasePermission

from gateway.execution.engine import Engine
from permissions.directives import PART, requires, reveals, scoped
from permissions.policy import Policy
from permissions.principal import Principal

ROWS = 2_000
QUERY = "{ rows { a b c d e } }"
CALLER = Principal("x", None, None, (), frozenset({"invoices:read", "accounts:read"}), "harbour")
TITLES = {
    "engine": "the gateway's engine, planned",
    "engine, first seen": "the gateway's engine, a document's first request",
    "plain, sync": "plain Strawberry, permission classes",
    "plain, async": "plain Strawberry, async permission classes",
}
REPEATS = {"engine": 40, "engine, first seen": 3, "plain, sync": 2, "plain, async": 1}
"""Of one side in one round: each takes about as long."""


class Record(msgspec.Struct, frozen=True):
    """One row."""

    a: str
    b: str
    c: int
    d: int
    e: str


RECORDS = [Record(f"a{n}", f"b{n}", n, n * 2, f"e{n}") for n in range(ROWS)]


class Schema(strawberry.Schema):
    """As the gateway's."""

    @property
    def graphql(self) -> Any:
        """The graphql-core schema."""
        return self._schema


def _graph(of_type: list[Any], of_field: list[Any], classes: list[type[BasePermission]] | None = None) -> Any:
    def field() -> Any:
        return strawberry.field(directives=of_field, permission_classes=classes)

    @strawberry.type(directives=of_type)
    class Row:
        a: str | None = field()
        b: str | None = field()
        c: int | None = field()
        d: int | None = field()
        e: str | None = field()

        @staticmethod
        def is_type_of(value: Any, info: Any) -> bool:
            return type(value) is Record

    Row.is_type_of.record = Record  # type: ignore[attr-defined]

    @strawberry.type
    class Query:
        @strawberry.field(directives=[*of_field, reveals()], graphql_type=list[Row] | None)
        def rows(self) -> Any:
            return RECORDS

    return Schema(query=Query)


class _Free:
    """A policy without rules."""

    def denied(self, held: frozenset[str]) -> dict[Any, Any]:
        return _NOTHING

    def guards(self, held: frozenset[str]) -> dict[Any, Any]:
        return _NOTHING

    def mentions(self, places: Any) -> Any:
        return SimpleNamespace(held=frozenset())


_NOTHING: dict[Any, Any] = {}


class _Sync(BasePermission):
    message = "needs invoices:read"

    def has_permission(self, source: Any, info: Any, **_: Any) -> bool:
        return "invoices:read" in info.context.principal.scopes


class _Async(BasePermission):
    message = "needs invoices:read"

    async def has_permission(self, source: Any, info: Any, **_: Any) -> bool:
        return "invoices:read" in info.context.principal.scopes


Ask = Callable[[], Awaitable[Any]]


def _engine(schema: Any, policy: Any, anew: bool) -> Ask:
    engine, document = Engine(schema), parse(QUERY)
    context: Any = SimpleNamespace(policy=policy, principal=CALLER)
    number = 0

    async def ask() -> Any:
        nonlocal number
        number += anew
        # A text that was never seen, of one document: what parsing costs is not measured.
        return await engine.execute(f"{QUERY}#{number}" if anew else QUERY, document, context)

    return ask


def _plain(schema: Any) -> Ask:
    context = SimpleNamespace(principal=CALLER)

    async def ask() -> Any:
        return await schema.execute(QUERY, context_value=context)

    return ask


def contenders() -> dict[str, tuple[Ask, Ask]]:
    """By name: without any rule, and with one on every field."""
    rule = requires("invoices:read")
    free, ruled = _graph([PART], []), _graph([requires("accounts:read"), scoped("caller")], [rule])
    policy = Policy(ruled.graphql, {})
    return {
        "engine": (_engine(free, _Free(), False), _engine(ruled, policy, False)),
        "engine, first seen": (_engine(free, _Free(), True), _engine(ruled, policy, True)),
        "plain, sync": (_plain(free), _plain(_graph([], [], [_Sync]))),
        "plain, async": (_plain(free), _plain(_graph([], [], [_Async]))),
    }


async def measured(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Processor milliseconds per request, round by round. Raises RuntimeError where a rule changes an answer."""
    asked = contenders()
    rows = [{name: getattr(record, name) for name in "abcde"} for record in RECORDS]
    for name, sides in asked.items():
        for ask in sides:
            for _ in range(3):  # the third one by a plan, where there is one
                result = await ask()
            if result.errors or msgspec.to_builtins(result.data) != {"rows": rows}:
                raise RuntimeError(f"{TITLES[name]}: another answer")
    cells: dict[str, list[list[float]]] = {name: [[], []] for name in asked}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for name, sides in asked.items():
                spent = [0.0, 0.0]
                # Request by request in turns, so that a slow moment of the machine is both sides'.
                for turn in range(REPEATS[name]):
                    for side in (0, 1) if (turn + number) % 2 else (1, 0):
                        before = time.process_time()
                        await sides[side]()
                        spent[side] += time.process_time() - before
                for side in (0, 1):
                    cells[name][side].append(spent[side] * 1000 / REPEATS[name])
                gc.collect()
    finally:
        gc.enable()
    return {"cpuMs": cells, "rows": ROWS, "fields": 5}


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """With rules by without, the median of the rounds."""
    return {
        name: median(ruled / free for free, ruled in zip(*sides, strict=True))
        for name, sides in results["cpuMs"].items()
    }


def table(results: dict[str, Any]) -> str:
    """For people."""
    found = ratios(results)
    return "\n".join(
        [
            f"| {ROWS:,} rows x 5 fields | without a rule, CPU ms | with a rule on each field | ratio |",
            "|---|---|---|---|",
            *(
                f"| {TITLES[name]} | {median(free):.2f} | {median(ruled):.2f} | {found[name]:.3f} |"
                for name, (free, ruled) in results["cpuMs"].items()
            ),
        ]
    )


def run(quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """From outside an event loop."""
    return asyncio.run(measured(9 if quick else 21, say))
