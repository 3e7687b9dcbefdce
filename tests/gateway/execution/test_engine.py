"""What the engine keeps, what it leaves to graphql-core, and what it does when things go wrong on the way."""

import asyncio
import enum
import gc
import tracemalloc
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Annotated, Any, Union

import msgspec
import pytest
import strawberry
from aiodataloader import DataLoader
from graphql import parse
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exception_handlers import ExceptionHandler

from gateway.errors import formatted
from gateway.execution import engine as engine_module
from gateway.execution import plan as plan_module
from gateway.execution.columns import Block, Column
from gateway.execution.engine import Engine
from gateway.execution.policy import PolicyExecutor
from gateway.limits import MAX_DEPTH
from sources.ports.errors import SourceBadResponse
from tests.gateway.execution.asking import Schema, ask, context, planned, said, shown

RULE = (frozenset({"some:scope"}),)


class Log(list[str]):
    """What the resolvers did, in order."""


@strawberry.type
class Leaf:
    """An object whose fields are attributes."""

    name: str | None
    must: str


@strawberry.input
class Words:
    """An input object."""

    text: str = "none"


@strawberry.type
class Branch:
    """An object with all kinds of fields."""

    number: int

    @strawberry.field
    def leaves(self) -> list[Leaf | None]:
        """A list with something missing."""
        return [SimpleNamespace(name=f"leaf {self.number}", must="so"), None]  # type: ignore[list-item]

    @strawberry.field
    async def late(self, info: strawberry.Info, words: Words | None = None) -> str | None:
        """Awaits."""
        info.context.log.append(f"late {self.number}")
        await info.context.wait(self.number)
        return f"{self.number} {words.text if words else ''}"

    @strawberry.field
    def loaded(self, info: strawberry.Info) -> str | None:
        """From a loader."""
        return info.context.loader.load(self.number)  # type: ignore[no-any-return]

    @strawberry.field
    def query(self) -> "Query":
        """The root again."""
        return Query()


@strawberry.interface
class Shown:
    """An interface."""

    title: str | None

    @classmethod
    def resolve_type(cls, value: Any, info: Any, type_: Any) -> str:
        """By its kind."""
        return str(value.kind)


@strawberry.type
class Page(Shown):
    """One of it."""

    query: Annotated["Query", strawberry.lazy("tests.gateway.execution.test_engine")]

    @classmethod
    def is_type_of(cls, value: Any, info: Any) -> bool:
        """By its kind."""
        return bool(value.kind == "Page")


@strawberry.type
class Poster(Shown):
    """Another."""

    title: str | None

    @classmethod
    def is_type_of(cls, value: Any, info: Any) -> bool:
        """By its kind, and never when it is torn."""
        return value.kind == "Poster" and value.title != "torn"

    @strawberry.field
    async def price(self) -> int | None:
        """Awaits."""
        return 5


@strawberry.type
class Query:
    """The root."""

    @strawberry.field
    def branches(self, first: int = 3) -> list[Branch]:
        """As many as asked."""
        return [Branch(number=number) for number in range(first)]

    @strawberry.field
    def echo(self, text: str | None = None) -> str | None:
        """What was given."""
        return text

    @strawberry.field
    def shown(self, info: strawberry.Info) -> list[Shown | None]:
        """Pages and posters."""
        return list(info.context.shown)

    @strawberry.field
    def root(self, info: strawberry.Info) -> str:
        """Is the root value given to resolvers?"""
        return repr(info.root_value)

    @strawberry.field
    def broken(self) -> str:
        """Nulls the answer."""
        return None  # type: ignore[return-value]


@strawberry.type
class Mutation:
    """Changes, one after the other."""

    @strawberry.mutation
    async def change(self, info: strawberry.Info, to: str, fails: bool = False) -> Leaf | None:
        """A change whose result may not fit."""
        info.context.log.append(f"begin {to}")
        await asyncio.sleep(0)
        info.context.log.append(f"end {to}")
        return SimpleNamespace(name=to, must=None if fails else "so")  # type: ignore[return-value]

    @strawberry.mutation
    def must_change(self, info: strawberry.Info, to: str, fails: bool = False) -> Leaf:
        """A change whose failure nulls the answer."""
        info.context.log.append(f"must {to}")
        return SimpleNamespace(name=to, must=None if fails else "so")  # type: ignore[return-value]


@strawberry.type
class Subscription:
    """A stream; its one field as a resolver of an event."""

    @strawberry.subscription
    async def tick(self) -> AsyncIterator[int]:
        """Counts."""
        yield 1


schema = Schema(query=Query, mutation=Mutation, types=[Page, Poster])


def working(**more: Any) -> Any:
    """A context with a log, a loader, and waiting that ends at once."""

    async def at_once(number: int) -> None:
        await asyncio.sleep(0)

    async def batch(keys: list[int]) -> list[str]:
        made.log.append(f"batch of {len(keys)}")
        return [f"loaded {key}" for key in keys]

    made = context(**{"log": Log(), "wait": at_once, "shown": [], **more})
    made.loader = DataLoader(batch)
    return made


async def both(text: str, variables: Any = None, **more: Any) -> tuple[Any, Any, Log, Log]:
    """What graphql-core and a plan answer, and what each called."""
    core, ours = working(**more), working(**more)
    executor: Any = PolicyExecutor.build(
        schema.graphql, parse(text), context_value=core, raw_variable_values=variables
    )
    expected = executor.execute_operation()
    if executor.is_awaitable(expected):
        expected = await expected
    engine = Engine(schema)
    await ask(engine, text, variables, context=working(**more))
    found = await ask(engine, text, variables, context=ours)
    return (expected.data, said(expected)), (found.data, said(found)), core.log, ours.log


# -- what is planned, and when ----------------------------------------------------------------------------------


async def test_a_document_runs_on_graphql_core_first_and_by_columns_from_the_second_time() -> None:
    engine = Engine(schema)
    answers = [await ask(engine, "{ branches { number } }") for _ in range(3)]
    assert [answer.data for answer in answers] == [
        {"branches": [{"number": 0}, {"number": 1}, {"number": 2}]}
    ] * 3
    assert engine.counts == {"first seen": 1, "columns": 2}


async def test_what_graphql_core_runs_alone_is_counted_with_its_reason() -> None:
    engine = Engine(schema)
    for text in (
        "{ __schema { queryType { name } } }",
        '{ __type(name: "Leaf") { name } }',
        "{ ... @defer { echo } }",
    ):
        for _ in range(2):
            await ask(engine, text)
    assert engine.counts == {"first seen": 3, "introspection": 2, "incremental delivery": 1}


async def test_a_subscription_is_not_planned() -> None:
    engine = Engine(Schema(query=Query, subscription=Subscription))
    for _ in range(2):
        await ask(engine, "subscription { tick }")
    assert engine.counts == {"first seen": 1, "subscription": 1}


async def test_a_long_document_is_never_kept() -> None:
    engine = Engine(schema)
    text = "{ echo }" + " " * engine_module.KEPT_LENGTH
    for _ in range(3):
        await ask(engine, text)
    assert engine.counts == {"too long to plan": 3}


async def test_documents_that_come_once_drive_out_none_that_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "SEEN_DOCUMENTS", 5)
    engine = Engine(schema)
    for _ in range(2):
        await ask(engine, "{ echo }")
    for number in range(20):
        await ask(engine, f'{{ echo(text: "{number}") }}')
    engine.counts.clear()
    await ask(engine, "{ echo }")
    assert engine.counts == {"columns": 1}
    assert len(engine._seen) == 5


async def test_kept_documents_variants_and_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "KEPT_DOCUMENTS", 4)
    monkeypatch.setattr(engine_module, "KEPT_VARIANTS", 2)
    engine = Engine(schema)
    for number in range(9):
        for _ in range(2):
            await ask(engine, f'{{ echo(text: "{number}") }}')
    assert len(engine._kept) == 4
    text = "query ($a: Boolean!, $b: Boolean!) { echo @skip(if: $a) root @include(if: $b) }"
    for a in (True, False):
        for b in (True, False):
            for _ in range(2):
                await ask(engine, text, {"a": a, "b": b})
    assert len(engine._kept[text].plans) == 2
    monkeypatch.setattr(engine_module, "KEPT_BYTES", 50_000)
    monkeypatch.setattr(engine_module, "GARBAGE_BYTES", 100_000)
    for first in range(9):
        for _ in range(2):
            await ask(engine, f"{{ branches(first: {first + 1}) {{ number leaves {{ name must }} }} }}")
    assert 0 < engine.bytes <= 50_000
    assert engine.bytes == sum(kept.size for kept in engine._kept.values())


async def test_plans_take_no_more_memory_than_is_counted() -> None:
    engine = Engine(schema)
    texts = [
        "{ "
        + " ".join(f"a{n}_{k}: branches {{ b{n}_{k}: leaves {{ c{n}_{k}: name }} }}" for k in range(12))
        + " }"
        for n in range(21)
    ]
    for _ in range(3):
        await ask(engine, texts[0])
    counted = engine.bytes
    gc.collect()
    tracemalloc.start()
    for text in texts[1:]:
        for _ in range(3):
            await ask(engine, text)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert engine.counts["columns"] == 42
    assert taken < engine.bytes - counted < 3 * taken


async def test_a_document_that_grows_by_its_fragments_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MAX_FIELDS", 50)
    spreads = " ".join(f"a{number}: branches {{ ...F }}" for number in range(20))
    text = f"{{ {spreads} }} fragment F on Branch {{ number again: number leaves {{ name must }} }}"
    engine = Engine(schema)
    answers = [await ask(engine, text) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert engine.counts == {"first seen": 1, "replayed": 1, "too many fields": 1}


async def test_one_text_has_a_plan_for_each_caller_and_each_choice_of_skip_and_include() -> None:
    text = "query ($short: Boolean!) { branches(first: 1) { number late @skip(if: $short) } }"
    engine = Engine(schema)
    denied = {("Branch", "late"): RULE}
    for _ in range(2):
        full = await ask(engine, text, {"short": False}, context=working())
        short = await ask(engine, text, {"short": True}, context=working())
        refused = await ask(engine, text, {"short": False}, context=working(denied=denied))
    assert full.data == {"branches": [{"number": 0, "late": "0 "}]}
    assert short.data == {"branches": [{"number": 0}]}
    assert refused.data == {"branches": [{"number": 0, "late": None}]}
    assert said(refused) == [("Branch.late needs some:scope", ["branches", 0, "late"])]


async def test_plans_hold_nothing_of_a_request() -> None:
    class Marked(str):
        """A value that can be found again."""

    marked = Marked("marked value")
    engine = Engine(schema)
    ok = "query ($t: String, $w: Words) { echo(text: $t) branches { late(words: $w) leaves { name } } }"
    refused = "query ($t: String) { echo(text: $t) __schema { queryType { name } } }"
    failing = "query ($t: String, $s: Boolean = true) { echo(text: $t) branches { number @skip(if: $s) } }"
    nulled = "query ($t: String) { echo(text: $t) broken }"
    asking = working(marked=marked)
    for _ in range(3):
        await ask(engine, ok, {"t": marked, "w": {"text": marked}}, context=asking)
        await ask(engine, refused, {"t": marked}, context=asking)
        await ask(engine, failing, {"t": marked, "s": None}, context=asking)
        await ask(engine, nulled, {"t": marked}, context=asking)
    assert engine.counts["columns"]
    assert engine.counts["replayed"]
    assert engine.counts["introspection"]
    assert not any(found is marked or found is asking for found in reachable(engine))


def reachable(start: Any) -> Iterator[Any]:
    """All objects that this one keeps alive, short of modules, classes and what functions merely name."""
    seen: set[int] = set()
    todo = deque([start])
    while todo:
        found = todo.popleft()
        kind = type(found)  # a proxy may say that it is something else, or refuse to say
        if id(found) in seen or issubclass(kind, type | ModuleType):
            continue
        seen.add(id(found))
        yield found
        if kind is FunctionType:
            todo.extend((found.__closure__, found.__defaults__, found.__kwdefaults__))
        else:
            todo.extend(gc.get_referents(found))


# -- what is found out late -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{ branches { number leaves { name } query { branches { number } } } }", None),
        ("{ branches { late loaded } __schema { queryType { name } } }", None),
        ("{ branches(first: 1) { late } }", None),
        ("{ echo broken }", None),
        ("query ($skip: Boolean = true) { branches { late @skip(if: $skip) } }", {"skip": None}),
        ("query ($first: Int!) { branches(first: $first) { number } }", {"first": "no number"}),
        ('mutation { a: change(to: "1") { name } b: mustChange(to: "2", fails: true) { must } }', None),
    ],
    ids=["planned", "not planned", "failed", "nulled", "replayed", "refused", "mutation"],
)
async def test_a_request_that_is_answered_is_let_go_of_at_once(
    text: str, variables: Any, request: pytest.FixtureRequest
) -> None:
    async def failing(number: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(number)

    engine, more = Engine(schema), {"wait": failing} if request.node.callspec.id == "failed" else {}
    for _ in range(3):  # as it is seen first, planned, and planned before
        ours = working(**more)
        log = weakref.ref(ours.log)
        gc.collect()
        gc.disable()
        try:
            formatted((await ask(engine, text, variables, context=ours)).errors or (), "id")
            ours.loader = None  # its batch knows the context
            del ours
            await asyncio.sleep(0)
            assert log() is None
            assert {Block, Column}.isdisjoint(map(type, gc.get_objects()))
        finally:
            gc.enable()


async def test_introspection_below_an_interface_is_found_late_and_left_to_graphql_core_from_then_on() -> None:
    text = "{ shown { title ... on Page { query { __schema { queryType { name } } } } ... on Poster { price } } }"
    engine = Engine(schema)
    only_posters = working(shown=[SimpleNamespace(kind="Poster", title="p")])
    page = SimpleNamespace(kind="Page", title="q", query=Query())
    mixed = working(shown=[SimpleNamespace(kind="Poster", title="p"), page])
    for _ in range(2):
        await ask(engine, text, context=only_posters)
    assert engine.counts == {"first seen": 1, "columns": 1}
    for _ in range(2):
        answer = await ask(engine, text, context=mixed)
        assert answer.errors is None
        assert answer.data == {
            "shown": [
                {"title": "p", "price": 5},
                {"title": "q", "query": {"__schema": {"queryType": {"name": "Query"}}}},
            ]
        }
    assert engine.counts == {"first seen": 1, "columns": 1, "replayed": 1, "introspection": 1}


async def test_when_a_second_type_does_not_fit_the_first_ones_fields_are_not_left_unawaited(
    recwarn: pytest.WarningsRecorder,
) -> None:
    shown = [SimpleNamespace(kind="Poster", title="p"), SimpleNamespace(kind="Page", title="q")]
    shown.append(SimpleNamespace(kind="Poster", title="torn"))
    text = "{ shown { __typename ... on Page { title } ... on Poster { price } } }"
    gc.collect()  # what other tests left behind is not ours
    recwarn.clear()
    expected, found, _, _ = await both(text, shown=shown)
    assert found == expected
    assert len(found[1]) == 1
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


async def test_a_null_for_skip_is_an_error_of_the_field_above() -> None:
    text = "query ($s: Boolean = true) { branches { number @skip(if: $s) } echo }"
    expected, found, _, _ = await both(text, {"s": None})
    assert found == expected
    assert found[1]


async def test_resolvers_that_run_after_a_failure_are_given_the_real_root_value() -> None:
    expected, found, _, _ = await both("{ broken root }")
    assert found == expected
    text = 'mutation { a: mustChange(to: "1", fails: true) { must } }'
    expected, found, _, _ = await both(text)
    assert found == expected


# -- mutations --------------------------------------------------------------------------------------------------


async def test_mutations_run_one_after_the_other() -> None:
    text = (
        'mutation { a: change(to: "1") { name } b: change(to: "2") { name } c: mustChange(to: "3") { name } }'
    )
    expected, found, core, ours = await both(text)
    assert found == expected
    assert ours == core == ["begin 1", "end 1", "begin 2", "end 2", "must 3"]


async def test_a_mutation_whose_failure_stays_its_own_stops_none_behind_it_and_none_runs_twice() -> None:
    text = """mutation {
      a: change(to: "1") { name } b: change(to: "2", fails: true) { name must }
      c: change(to: "3", fails: true) { must } d: mustChange(to: "4") { name }
    }"""
    expected, found, core, ours = await both(text)
    assert found == expected
    assert found[0] == {"a": {"name": "1"}, "b": None, "c": None, "d": {"name": "4"}}
    assert ours == core == ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3", "must 4"]


async def test_a_mutation_that_nulls_the_answer_stops_those_behind_it() -> None:
    text = """mutation {
      a: change(to: "1") { name } b: mustChange(to: "2", fails: true) { name must } c: change(to: "3") { name }
    }"""
    expected, found, core, ours = await both(text)
    assert found == expected
    assert found[0] is None
    assert ours == core == ["begin 1", "end 1", "must 2"]


# -- cancelling and interleaving --------------------------------------------------------------------------------


async def test_a_cancelled_request_leaves_no_task_and_no_unseen_exception() -> None:
    begun, never = asyncio.Event(), asyncio.Event()
    ended: list[int] = []

    async def wait(number: int) -> None:
        if number == 2:
            begun.set()
        try:
            if number == 1:
                raise ValueError("early")
            await never.wait()
        finally:
            ended.append(number)

    text = "{ branches { number late } also: branches { late leaves { name } } }"
    engine = Engine(schema)
    await ask(engine, text, context=working())
    unseen: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, problem: unseen.append(problem))
    before = asyncio.all_tasks()
    try:
        request = asyncio.create_task(ask(engine, text, context=working(wait=wait)))
        await begun.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert sorted(ended) == [0, 0, 1, 1, 2, 2]
        assert asyncio.all_tasks() == before
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert unseen == []


async def test_two_requests_of_one_plan_do_not_mix() -> None:
    text = "query ($w: Words, $first: Int!) { branches(first: $first) { number late(words: $w) loaded } }"
    engine = Engine(schema)
    for _ in range(2):
        await ask(engine, text, {"first": 1}, context=working())
    turns = [asyncio.Event(), asyncio.Event()]

    async def ping(_: int) -> None:
        turns[1].set()
        await turns[0].wait()

    async def pong(_: int) -> None:
        turns[0].set()
        await turns[1].wait()

    one, other = await asyncio.gather(
        ask(engine, text, {"first": 2, "w": {"text": "one"}}, context=working(wait=ping)),
        ask(engine, text, {"first": 3, "w": {"text": "other"}}, context=working(wait=pong)),
    )
    assert one.errors is other.errors is None
    assert one.data == {
        "branches": [{"number": n, "late": f"{n} one", "loaded": f"loaded {n}"} for n in range(2)]
    }
    assert other.data == {
        "branches": [{"number": n, "late": f"{n} other", "loaded": f"loaded {n}"} for n in range(3)]
    }
    assert engine.counts["columns"] == 3


async def test_a_loader_is_asked_once_for_all_rows() -> None:
    _, found, _, log = await both("{ branches(first: 50) { loaded } }")
    assert found[1] == []
    assert log == ["batch of 50"]


# -- depth ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [MAX_DEPTH // 2, 15, 25, 35])
async def test_deep_documents_answer_as_on_graphql_core(depth: int) -> None:
    text = "{ branches(first: 1) { query " * depth + "{ echo }" + " } }" * depth
    expected, found, _, _ = await both(text)
    assert found[1] == []
    assert found == expected


async def test_a_document_deeper_than_pythons_stack_is_an_error_and_no_crash() -> None:
    text = "{ branches(first: 1) { query " * 90 + "{ echo }" + " } }" * 90
    _, found, _, _ = await both(text)
    assert found[0] is None
    assert len(found[1]) == 1


async def test_fragments_too_deep_to_collect_are_refused_in_graphql_cores_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "KEPT_LENGTH", 100_000)
    chain = " ".join(f"fragment F{number} on Query {{ ...F{number + 1} }}" for number in range(1500))
    text = f"{{ ...F0 }} {chain} fragment F1500 on Query {{ echo }}"
    engine = Engine(schema)
    answers = [await ask(engine, text) for _ in range(2)]
    assert engine.counts == {"first seen": 1, "cannot be collected": 1}
    assert said(answers[0]) == said(answers[1])
    assert answers[0].data is None


# -- what Strawberry wraps around resolvers ---------------------------------------------------------------------


async def test_exception_handlers_of_the_schema_make_results_of_exceptions() -> None:
    @strawberry.type
    class Problem:
        text: str

    @strawberry.type
    class Fine:
        text: str

    class Refused(Exception):
        pass

    class Refusals(ExceptionHandler[Refused, Problem]):
        def handle(self, exception: Refused, *, field: Any, info: Any) -> Problem:
            return Problem(text=str(exception))

    Answer = Annotated[Union[Fine, Problem], strawberry.union("Answer")]  # noqa: N806, UP007

    @strawberry.type
    class Root:
        @strawberry.field
        def answer(self) -> Answer:  # type: ignore[valid-type]
            raise Refused("not today")

    handled = Schema(query=Root, exception_handlers=[Refusals()])
    found = await planned(handled, "{ answer { ... on Problem { text } ... on Fine { text } } }")
    assert found.errors is None
    assert found.data == {"answer": {"text": "not today"}}


async def test_a_resolver_that_asks_for_its_path_anywhere_in_its_code_is_given_it() -> None:
    @strawberry.type
    class Root:
        @strawberry.field
        def places(self, info: strawberry.Info) -> list[str]:
            return [str(info.path.key) for _ in range(1)]

    found = await planned(Schema(query=Root), "{ here: places }")
    assert found.errors is None
    assert found.data == {"here": ["here"]}


async def test_an_attribute_that_raises_stop_iteration_is_one_rows_error() -> None:
    class Row:
        def __init__(self, values: list[str]) -> None:
            self._values = values

        @property
        def name(self) -> str:
            return next(iter(self._values))

    @strawberry.type
    class Named:
        name: str | None

    @strawberry.type
    class Root:
        @strawberry.field
        def rows(self) -> list[Named]:
            return [Row(["a"]), Row([]), Row(["c"])]  # type: ignore[list-item]

    found = await planned(Schema(query=Root), "{ rows { name } }")
    assert found.data == {"rows": [{"name": "a"}, {"name": None}, {"name": "c"}]}
    assert said(found) == [("", ["rows", 1, "name"])]


async def test_flags_put_together_are_no_member_of_their_enum() -> None:
    @strawberry.enum
    class Access(enum.Flag):
        READ = 1
        WRITE = 2

    @strawberry.type
    class Root:
        @strawberry.field
        def access(self) -> list[Access | None]:
            return [Access.READ, Access.READ | Access.WRITE]

    found = await planned(Schema(query=Root), "{ access }")
    assert found.data == {"access": ["READ", None]}
    assert [path for _, path in said(found)] == [["access", 1]]


async def test_a_schema_that_reads_items_instead_of_attributes() -> None:
    @strawberry.type
    class Named:
        name: str

    @strawberry.type
    class Root:
        @strawberry.field
        def rows(self) -> list[Named]:
            return [{"name": "a"}]  # type: ignore[list-item]

    by_item = StrawberryConfig(default_resolver=lambda row, name: row[name])
    found = await planned(Schema(query=Root, config=by_item), "{ rows { name } }")
    assert found.data == {"rows": [{"name": "a"}]}


async def test_errors_in_many_rows_of_many_lists_cost_no_more_than_their_number() -> None:
    @strawberry.type
    class Inner:
        @strawberry.field
        def bad(self) -> int | None:
            raise ValueError("bad")

    @strawberry.type
    class Outer:
        @strawberry.field
        def inners(self) -> list[Inner]:
            return [Inner(), Inner()]

    @strawberry.type
    class Root:
        @strawberry.field
        def outers(self) -> list[Outer]:
            return [Outer() for _ in range(3000)]

    found = await planned(Schema(query=Root), "{ outers { inners { bad } } }")
    assert found.errors is not None
    assert [error.path for error in found.errors] == [
        ["outers", outer, "inners", inner, "bad"] for outer in range(3000) for inner in range(2)
    ]


async def test_a_denied_field_below_several_types_is_told_at_the_first_row_that_has_it() -> None:
    shown = [
        SimpleNamespace(kind="Poster", title="p"),
        SimpleNamespace(kind="Page", title="q", query=Query()),
        SimpleNamespace(kind="Poster", title="r"),
    ]
    denied = {("Page", "title"): RULE, ("Query", "echo"): RULE}
    text = "{ shown { title ... on Page { query { echo } } } }"
    expected, found, _, _ = await both(text, shown=shown, denied=denied)
    assert found == expected
    assert [path for _, path in found[1]] == [["shown", 1, "title"], ["shown", 1, "query", "echo"]]


# -- attributes that are worked out on reading ------------------------------------------------------------------


class LateRecord(msgspec.Struct, frozen=True, gc=False):
    """A record whose amount is made of the vendor's words when it is read."""

    number: int
    words: str
    read: list[int]

    @property
    def amount(self) -> int:
        """Not every word is a number."""
        self.read.append(self.number)
        try:
            return int(self.words)
        except ValueError as error:
            raise SourceBadResponse("erp", "an amount that is no number") from error


@strawberry.type
class Late:
    """As the graph shows it."""

    number: int | None
    amount: int | None


@strawberry.type
class LateQuery:
    """Its root."""

    @strawberry.field
    def rows(self, info: strawberry.Info) -> list[Late | None] | None:
        """Of the context."""
        return list(info.context.rows)


async def test_an_attribute_that_cannot_be_read_nulls_its_own_place_with_the_error_of_its_source() -> None:
    read: list[int] = []
    rows = [LateRecord(number, words, read) for number, words in enumerate(["5", "five", "6"])]
    answer = await planned(Schema(query=LateQuery), "{ rows { number amount } }", context=context(rows=rows))
    assert shown(answer.data)["rows"] == [
        {"number": 0, "amount": 5},
        {"number": 1, "amount": None},
        {"number": 2, "amount": 6},
    ]
    (error,) = formatted(answer.errors or (), "id")
    assert (error["path"], error["extensions"]["code"]) == (["rows", 1, "amount"], "SOURCE_BAD_RESPONSE")
    assert read == [0, 1, 2] * 2  # once by graphql-core, when the document came first, and once by columns
