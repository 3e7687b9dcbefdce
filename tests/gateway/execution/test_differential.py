"""The same answers as graphql-core, on generated schemas, queries and faulty data.

Data must be equal, in the same order, and errors must be equal as a set of path, message and cause. There is one exception:
once an error has nulled a position, graphql-core drops the errors that come later from below it, so with values that are
awaited, its own set depends on which came first. There each side must have at least one error of the position, and only such
that some order of awaiting can give. A denied field is told once per place, at whichever row came first; where that row
is nulled, it may be dropped in the same way.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
from graphql import (
    ExecutionResult,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
    is_object_type,
    is_required_argument,
    is_union_type,
    parse,
)
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from gateway.execution.engine import Engine
from gateway.execution.policy import PolicyExecutor
from resolvers.errors import Forbidden
from tests.gateway.execution.asking import shown
from tests.gateway.execution.family import Member, World, member

SCHEMAS = 24
QUERIES = int(os.environ.get("DIFFERENTIAL_QUERIES", "800"))
"""More by hand: DIFFERENTIAL_QUERIES=50000 DIFFERENTIAL_RANDOM=1."""
FAULTS = (0, 1, 4, 15)
"""Each query is asked of as many worlds."""
ORDERS = 100
"""In which graphql-core's values may come: what it says below a null depends on that. One was found that takes the 31st."""
RULE = (frozenset({"some:scope"}),)

proven = settings(
    max_examples=QUERIES,
    deadline=None,
    derandomize="DIFFERENTIAL_RANDOM" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
cached_member = lru_cache(maxsize=None)(member)

# graphql-core itself leaves some of its coroutines behind when an error passes them.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


# -- queries ----------------------------------------------------------------------------------------------------

_ARGUMENTS = {
    ("n",): ("n: 4", "n: $n"),
    ("tag",): ('tag: "t"', "tag: $tag", "tag: null"),
    ("n", "tag", "where"): ("n: 5, where: {least: $n}", 'where: {tags: ["a", $tag]}', "where: $where"),
    ("where", "n"): (
        "where: {inner: {least: 1}}",
        "where: {}, n: $n",
        "where: {least: 0, tags: []}, n: null",
    ),
}
_DIRECTIVES = (
    "@skip(if: $yes)",
    "@include(if: $yes)",
    "@skip(if: $no)",
    "@include(if: true)",
    "@skip(if: true)",
)
_USUALLY_NONE = ("",) * 15
_DECLARED = {
    "$yes": "$yes: Boolean!",
    "$no": "$no: Boolean = false",
    "$n": "$n: Int! = 9",
    "$tag": '$tag: String! = "d"',
    "$where": "$where: Where",
}


class _Writer:
    """Draws an operation over a schema. A response key says its field and arguments, so that all keys can be merged."""

    def __init__(self, draw: Any, schema: Any) -> None:
        self._draw, self._schema = draw, schema
        self._fragments: list[tuple[str, str, str]] = []

    def document(self) -> str:
        """One or two operations, with their fragments."""
        kind = self._draw(st.sampled_from(("query", "query", "query", "mutation")))
        root = self._schema.query_type if kind == "query" else self._schema.mutation_type
        body = self._selections(root, 0)
        fragments = "".join(f" fragment {name} on {on} {text}" for name, on, text in self._fragments)
        declared = ", ".join(
            text for name, text in _DECLARED.items() if f"{name}" in _words(body + fragments)
        )
        other = self._draw(st.sampled_from(("", "query Other { __typename } ")))
        return f"{other}{kind} Asked{f'({declared})' if declared else ''} {body}{fragments}"

    def _selections(self, type_: Any, depth: int) -> str:
        count = self._draw(st.integers(1, 4 if depth < 3 else 2))
        return "{ " + " ".join(self._selection(type_, depth) for _ in range(count)) + " }"

    def _selection(self, type_: Any, depth: int) -> str:
        kind = self._draw(st.integers(0, 11))
        directive = self._draw(st.sampled_from((*_USUALLY_NONE, *_DIRECTIVES)))
        union = is_union_type(type_)
        if kind == 0 or (union and depth > 5):
            return f"__typename {directive}"
        if kind in (1, 2) or (union and kind != 3):
            on = self._draw(st.sampled_from(self._conditions(type_)))
            below = self._selections(on, depth + 1) if depth < 6 else "{ __typename }"
            return f"... {'' if on is type_ and kind == 1 else f'on {on.name}'} {directive} {below}"
        if kind == 3:
            fitting = [
                name for name, on, _ in self._fragments if on in {t.name for t in self._conditions(type_)}
            ]
            if fitting and self._draw(st.booleans()):
                return f"...{self._draw(st.sampled_from(fitting))} {directive}"
            on = self._draw(st.sampled_from(self._conditions(type_)))
            text = self._selections(on, depth + 1) if depth < 6 else "{ __typename }"
            self._fragments.append((f"F{len(self._fragments)}", on.name, text))
            return f"...F{len(self._fragments) - 1} {directive}"
        return self._field(type_, depth, directive)

    def _conditions(self, type_: Any) -> list[Any]:
        if is_object_type(type_):
            return [type_, *type_.interfaces]
        return [type_, *self._schema.get_possible_types(type_)]

    def _field(self, type_: Any, depth: int, directive: str) -> str:
        fields = dict(type_.fields)
        if depth > 4:
            fields = {
                name: field for name, field in fields.items() if is_leaf_type(get_named_type(field.type))
            } or fields
        name = self._draw(st.sampled_from(list(fields)))
        field = fields[name]
        key, arguments = name, ""
        texts = _ARGUMENTS.get(tuple(field.args), ())
        required = "where" in field.args and is_required_argument(field.args["where"])
        chosen = self._draw(st.integers(0 if required else -2, len(texts) - 1)) if texts else -1
        if chosen >= 0:
            key, arguments = f"{name}_{chosen}: {name}", f"({texts[chosen]})"
        elif self._draw(st.integers(0, 7)) == 0:
            key = f"also_{name}: {name}"
        target = get_named_type(field.type)
        below = ""
        if is_object_type(target) or is_abstract_type(target):
            below = self._selections(target, depth + 1) if depth < 6 else "{ __typename }"
        return f"{key}{arguments} {directive} {below}"


def _words(text: str) -> set[str]:
    for mark in ",:(){}[]":
        text = text.replace(mark, " ")
    return set(text.split())


@dataclass(frozen=True)
class Case:
    """A schema of the family, a query, its variables, what the caller is denied, and the data's seed."""

    of: Member
    text: str
    variables: dict[str, Any]
    denied: dict[tuple[str, str], Any]
    seed: int


@st.composite
def cases(draw: Any) -> Case:
    """A query and what it is asked of."""
    of = cached_member(draw(st.integers(0, SCHEMAS - 1)))
    text = _Writer(draw, of.schema.graphql).document()
    variables: dict[str, Any] = {"yes": draw(st.booleans())}
    for name, values in (
        ("no", (True, False, None)),
        ("n", (0, 5, "no number", None)),
        ("tag", ("x", None)),
        ("where", ({"least": 1}, {"inner": {"tags": ["q"]}}, {"more": 1}, None)),
    ):
        if draw(st.integers(0, 9)) == 9:
            variables[name] = draw(st.sampled_from(values))
    denied = {}
    if draw(st.integers(0, 2)) == 0:
        denied = dict.fromkeys(draw(st.lists(st.sampled_from(of.nullable), max_size=8)), RULE)
    return Case(of, text, variables, denied, draw(st.integers(0, 2**32)))


# -- comparing --------------------------------------------------------------------------------------------------


Seen = frozenset[tuple[Any, ...]]


def _errors(result: ExecutionResult) -> Seen:
    return frozenset(
        (
            tuple(error.path or ()),
            error.message,
            type(error.original_error).__name__,
            str(error.locations),
            str(error.extensions),
        )
        for error in result.errors or ()
        if not isinstance(error.original_error, Forbidden)
    )


def _denials(result: ExecutionResult, awaits: int) -> Counter[Any]:
    """With paths, or where something was awaited by place, without those that an order of awaiting may drop."""
    found = [
        (tuple(error.path or ()), error.message)
        for error in result.errors or ()
        if isinstance(error.original_error, Forbidden)
    ]
    if not awaits:
        return Counter(found)
    by_place = [(tuple(part for part in path if isinstance(part, str)), words) for path, words in found]
    return Counter((place, words) for place, words in by_place if not _null_above(result.data, place))


def _null_above(data: Any, place: tuple[str, ...]) -> bool:
    """Is any row of the place below a null?"""
    if isinstance(data, list):
        return any(_null_above(item, place) for item in data)
    if data is None or not place:
        return bool(place)
    return place[0] in data and _null_above(data[place[0]], place[1:])


def _position(data: Any, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path's part up to the first null."""
    for length, part in enumerate(path):
        if data is None:
            return path[:length]
        data = data[part]
    return path


def _by_position(data: Any, errors: Seen) -> dict[tuple[Any, ...], set[Any]]:
    grouped: dict[tuple[Any, ...], set[Any]] = {}
    for error in errors:
        grouped.setdefault(_position(data, error[0]), set()).add(error)
    return grouped


async def _on_core(case: Case, world: World) -> ExecutionResult:
    executor: Any = PolicyExecutor.build(
        case.of.schema.graphql,
        parse(case.text),
        context_value=case.of.context(world, case.denied),
        raw_variable_values=case.variables,
        operation_name="Asked",
    )
    if isinstance(executor, list):
        return ExecutionResult(None, executor)
    result = executor.execute_operation()
    return await result if executor.is_awaitable(result) else result


async def _differences(case: Case, counts: Counter[str]) -> list[str]:
    engine = Engine(case.of.schema)
    document = parse(case.text)

    async def on_engine(world: World) -> ExecutionResult:
        context = case.of.context(world, case.denied)
        result = await engine.execute(case.text, document, context, case.variables, "Asked")
        return ExecutionResult(shown(result.data), result.errors)

    await on_engine(World(case.of.shapes, case.seed, 0))
    differences: list[str] = []
    for faults in FAULTS:
        core, ours = (World(case.of.shapes, case.seed + faults, faults) for _ in range(2))
        expected, found = await _on_core(case, core), await on_engine(ours)
        if repr(found.data) != repr(shown(expected.data)):
            differences.append(f"data with {faults} faults\n  {expected.data}\n  {found.data}")
        elif _errors(found) != _errors(expected):
            differences += await _different_errors(case, core, expected, found)
        if _denials(found, core.awaits) != _denials(expected, core.awaits):
            differences.append(
                f"denials\n  {_denials(expected, core.awaits)}\n  {_denials(found, core.awaits)}"
            )
        if again := {place: n for place, n in ours.reads.items() if n > _keys_of(case.text, place)}:
            differences.append(f"read again: {again}")
        if "mutation Asked" in case.text and _root_calls(ours) != _root_calls(core):
            differences.append(f"called\n  {_root_calls(core)}\n  {_root_calls(ours)}")
    counts.update(engine.counts)
    return differences


async def _different_errors(
    case: Case, world: World, expected: ExecutionResult, found: ExecutionResult
) -> list[str]:
    data, ours = found.data, _by_position(found.data, _errors(found))
    theirs = _by_position(data, _errors(expected))
    possible = set(_errors(expected))
    if world.awaits:
        for order in (0, *range(2, ORDERS)):  # 1 was the first
            if _errors(found) <= possible:
                break
            other = World(world.shapes, world.seed, world.faults, order)
            possible |= _errors(await _on_core(case, other))
    return [
        f"errors of {position} with {world.faults} faults\n  {theirs.get(position)}\n  {ours.get(position)}"
        for position in ours.keys() | theirs.keys()
        if ours.get(position) != theirs.get(position)
        and not (world.awaits and position in ours and position in theirs and ours[position] <= possible)
    ]


def _root_calls(world: World) -> dict[str, int]:
    return {place: times for place, times in world.reads.items() if place.count("/") == 1}


def _keys_of(text: str, place: str) -> int:
    """Under how many keys a query may ask for a field at one place."""
    name = place.rsplit("/", 1)[1].partition("(")[0]
    words = _words(text)
    return sum(key in words for key in (name, f"also_{name}", *(f"{name}_{number}" for number in range(3))))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture(scope="module")
def counts() -> Counter[str]:
    """How the cases ran."""
    return Counter()


@proven
@given(case=cases())
def test_the_engine_answers_as_graphql_core_does(
    runner: asyncio.Runner, counts: Counter[str], case: Case
) -> None:
    note(f"{case.text}\nvariables {case.variables}, denied {list(case.denied)}, seed {case.seed}")
    differences = runner.run(_differences(case, counts))
    assert not differences, "\n".join(differences)


def test_most_of_them_ran_by_columns_and_many_were_replayed(counts: Counter[str]) -> None:
    if not counts:
        pytest.skip("the cases did not run here")
    assert counts["columns"] > QUERIES
    assert counts["replayed"] > QUERIES // 2
