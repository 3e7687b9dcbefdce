"""The areas of graphql-core's published executor tests, as cases of our own with answers written by hand.

docs/executor-cases.md says for each of its files which part applies, and where it is tested.
"""

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any, NewType, Union

import pytest
import strawberry
from graphql import GraphQLError, parse, validate
from strawberry.schema.config import StrawberryConfig

from gateway.execution.engine import Engine
from tests.gateway.execution.asking import Schema, ask, context, located, planned, said

ASYNC = pytest.mark.parametrize("awaited", [False, True], ids=["at once", "awaited"])


def given(value: Any, awaited: bool) -> Any:
    """The value, or something to await that gives it; exceptions are raised."""
    if awaited:
        return _later(value)
    if isinstance(value, Exception):
        raise value
    return value


async def _later(value: Any) -> Any:
    await asyncio.sleep(0)
    if isinstance(value, Exception):
        raise value
    return value


def one_field(annotation: Any, resolve: Callable[..., Any], **options: Any) -> Schema:
    """A schema with the query field ``it``."""

    def resolver(info: strawberry.Info):  # type: ignore[no-untyped-def]
        return resolve()

    field = strawberry.field(resolver=resolver, graphql_type=annotation)
    query = strawberry.type(type("Query", (), {"it": field}))
    return Schema(query=query, **options)


# -- executor: the basic tasks ----------------------------------------------------------------------------------


@strawberry.type
class Picture:
    """With an argument's value in it."""

    url: str


@strawberry.type
class Person:
    """Attributes, arguments, something to await, and persons again."""

    name: str
    age: int | None

    @strawberry.field
    def picture(self, size: int = 50, kind: str | None = None) -> Picture:
        """As large as asked."""
        return Picture(url=f"{self.name} {size} {kind}")

    @strawberry.field
    async def friends(self) -> list["Person | None"]:
        """Two, one of them missing."""
        return [Person(name=f"{self.name}'s friend", age=None), None]


@strawberry.type
class People:
    """The root."""

    @strawberry.field
    def ada(self) -> Person:
        """Ada."""
        return Person(name="Ada", age=36)

    @strawberry.field
    async def later(self) -> Person | None:
        """Somebody who comes later."""
        await asyncio.sleep(0.001)
        return Person(name="Grace", age=85)

    @strawberry.field
    def arguments(
        self, info: strawberry.Info, a: int | None = strawberry.UNSET, b: int | None = strawberry.UNSET
    ) -> str:
        """Which arguments were given."""
        return ", ".join(
            f"{name}={value}" for name, value in (("a", a), ("b", b)) if value != strawberry.UNSET
        )


people = Schema(query=People)


async def test_fields_arguments_aliases_and_what_is_awaited_come_in_the_querys_order() -> None:
    found = await planned(
        people,
        """query ($size: Int!) {
          later { age name } first: ada { name small: picture(size: $size) { url } picture { url } }
          ada { friends { name __typename } }
        }""",
        {"size": 10},
    )
    assert found.errors is None
    assert list(found.data or ()) == ["later", "first", "ada"]
    assert found.data == {
        "later": {"age": 85, "name": "Grace"},
        "first": {"name": "Ada", "small": {"url": "Ada 10 None"}, "picture": {"url": "Ada 50 None"}},
        "ada": {"friends": [{"name": "Ada's friend", "__typename": "Person"}, None]},
    }


async def test_the_selections_of_fragments_are_merged_at_the_first_ones_place() -> None:
    found = await planned(
        people,
        """{ ada { name ...A } ...B ada { friends { name } } }
        fragment A on Person { picture { url } ...C } fragment B on People { ada { age ...C } }
        fragment C on Person { friends { age } name }""",
    )
    assert found.errors is None
    assert found.data == {
        "ada": {
            "name": "Ada",
            "picture": {"url": "Ada 50 None"},
            "friends": [{"age": None, "name": "Ada's friend"}, None],
            "age": 36,
        }
    }
    assert list((found.data or {})["ada"]) == ["name", "picture", "friends", "age"]


async def test_resolvers_are_told_what_the_operation_is() -> None:
    @strawberry.type
    class Query:
        @strawberry.field
        def what(self, info: strawberry.Info) -> list[str]:
            raw = info._raw_info
            return [raw.field_name, raw.parent_type.name, str(raw.return_type), raw.operation.name.value]

        @strawberry.field
        def asked(self, info: strawberry.Info, n: int) -> str:
            return f"{info.field_name} {info.python_name} {info.variable_values} {info.context.who}"

    found = await planned(
        Schema(query=Query),
        "query Named($n: Int!) { w: what asked(n: $n) }",
        {"n": 3},
        context=context(who="me"),
    )
    assert found.data == {"w": ["what", "Query", "[String!]!", "Named"], "asked": "asked asked {'n': 3} me"}


async def test_a_resolvers_path_says_the_type_of_each_field_on_the_way() -> None:
    @strawberry.interface
    class Place:
        @strawberry.field
        def where(self, info: strawberry.Info) -> list[str]:
            found, path = [], info.path
            while path is not None:
                found.append(f"{path.typename}.{path.key}" if path.typename else str(path.key))
                path = path.prev  # type: ignore[assignment]
            return found[::-1]

    @strawberry.type
    class Street(Place):
        pass

    @strawberry.type
    class Town(Place):
        streets: list[list[Street]]

    town = Town(streets=[[Street()], [Street(), Street()]])
    schema = one_field(list[Place | None], lambda: [None, town], types=[Town, Street])
    found = await planned(schema, "{ all: it { ... on Town { streets { here: where } } } }")
    assert found.errors is None
    assert (found.data or {})["all"][1]["streets"][1][1] == {
        "here": ["Query.all", "1", "Town.streets", "1", "1", "Street.here"]
    }


async def test_arguments_that_were_not_given_are_not_passed() -> None:
    found = await planned(
        people, "query ($a: Int, $b: Int) { arguments(a: $a, b: $b) also: arguments(b: null) }", {"b": 5}
    )
    assert found.data == {"arguments": "b=5", "also": "b=None"}


@ASYNC
async def test_an_error_nulls_its_field_and_says_where(awaited: bool) -> None:
    @strawberry.type
    class Query:
        @strawberry.field
        def good(self, info: strawberry.Info) -> str:
            return given("good", awaited)  # type: ignore[no-any-return]

        @strawberry.field
        def raises(self, info: strawberry.Info) -> str | None:
            return given(ValueError("raised"), awaited)  # type: ignore[no-any-return]

        @strawberry.field
        def gives(self, info: strawberry.Info) -> str | None:
            return ValueError("given")  # type: ignore[return-value]

        @strawberry.field
        def rows(self, info: strawberry.Info) -> list[str | None]:
            return ["a", ValueError("in a row"), "c"]  # type: ignore[list-item]

        @strawberry.field
        def own(self, info: strawberry.Info) -> str | None:
            return given(GraphQLError("own", extensions={"code": "MINE"}), awaited)  # type: ignore[no-any-return]

    found = await planned(Schema(query=Query), "{ good raises\n  gives rows own }")
    assert found.data == {
        "good": "good",
        "raises": None,
        "gives": None,
        "rows": ["a", None, "c"],
        "own": None,
    }
    assert said(found) == [
        ("given", ["gives"]),
        ("in a row", ["rows", 1]),
        ("own", ["own"]),
        ("raised", ["raises"]),
    ]
    by_message = {error.message: error for error in found.errors or ()}
    assert located(by_message["raised"]) == (1, 8)
    assert located(by_message["given"]) == (2, 3)
    assert by_message["own"].extensions == {"code": "MINE"}
    assert isinstance(by_message["raised"].original_error, ValueError)


@strawberry.type
class Deep:
    """More of itself in lists of lists."""

    @strawberry.field
    def bad(self) -> int | None:
        """Raises."""
        raise ValueError("deep")

    @strawberry.field
    def matrix(self) -> "list[list[Deep]]":
        """An empty row and one of two."""
        return [[], [Deep(), Deep()]]


async def test_the_path_of_an_error_counts_list_positions_and_uses_aliases() -> None:
    deep = Deep()
    found = await planned(one_field(list[Deep], lambda: [deep]), "{ a: it { b: matrix { c: bad } } }")
    assert said(found) == [
        ("deep", ["a", 0, "b", 1, 0, "c"]),
        ("deep", ["a", 0, "b", 1, 1, "c"]),
    ]


async def test_operations_are_chosen_by_name() -> None:
    text = "query One { ada { name } } query Other { ada { age } }"
    assert (await planned(people, text, operation="One")).data == {"ada": {"name": "Ada"}}
    assert (await planned(people, text, operation="Other")).data == {"ada": {"age": 36}}
    engine = Engine(people)
    for operation, message in (
        (None, "Must provide operation name if query contains multiple operations."),
        ("Third", "Unknown operation named 'Third'."),
        ("", "Unknown operation named ''."),
    ):
        found = await ask(engine, text, operation=operation)
        assert (found.data, said(found)) == (None, [(message, None)])
    found = await ask(engine, "fragment F on People { ada { name } }")
    assert said(found) == [("Must provide an operation.", None)]


async def test_an_operation_that_the_schema_has_not_is_refused() -> None:
    engine = Engine(people)
    for text, kind in (("mutation { x }", "mutation"), ("subscription { x }", "subscription")):
        for _ in range(2):
            found = await ask(engine, text)
            assert (found.data, said(found)) == (
                None,
                [(f"Schema is not configured to execute {kind} operation.", None)],
            )


async def test_fields_that_the_type_has_not_are_left_out() -> None:
    found = await planned(people, "{ ada { name nothing } none }")
    assert found.data == {"ada": {"name": "Ada"}}


async def test_a_fragment_that_spreads_itself_is_spread_once() -> None:
    found = await planned(people, "{ ada { ...F } } fragment F on Person { name ...F age ...F }")
    assert (found.data, found.errors) == ({"ada": {"name": "Ada", "age": 36}}, None)


async def test_a_value_that_a_custom_scalar_makes_nothing_of_is_an_error() -> None:
    Odd = NewType("Odd", str)
    scalar = strawberry.scalar(name="Odd", serialize=lambda value: None if value == "none" else f"<{value}>")
    schema = one_field(
        list[Odd | None], lambda: ["a", "none"], config=StrawberryConfig(scalar_map={Odd: scalar})
    )  # type: ignore[valid-type]
    found = await planned(schema, "{ it }")
    assert found.data == {"it": ["<a>", None]}
    ((message, path),) = said(found)
    assert path == ["it", 1]
    assert "to return non-nullable value" in message


async def test_definitions_that_are_not_executed_are_no_hindrance() -> None:
    found = await planned(people, "{ ada { name } } type People { more: String } directive @odd on FIELD")
    assert (found.data, found.errors) == ({"ada": {"name": "Ada"}}, None)


async def test_what_needs_no_selection_is_an_empty_object_without_one() -> None:
    found = await planned(people, "{ ada { friends { nothing } } }")
    assert found.data == {"ada": {"friends": [{}, None]}}


# -- lists ------------------------------------------------------------------------------------------------------


class Countdown:
    """An iterable of its own kind."""

    def __iter__(self) -> Iterator[str]:
        return iter(("b", "a"))


@ASYNC
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ({"a"}, ["a"]),
        (Countdown(), ["b", "a"]),
        ([], []),
        ([None, "a"], [None, "a"]),
        (None, None),
    ],
    ids=["list", "tuple", "set", "iterable", "empty", "with null", "null"],
)
async def test_any_iterable_is_a_list(value: Any, expected: Any, awaited: bool) -> None:
    found = await planned(one_field(list[str | None] | None, lambda: given(value, awaited)), "{ it }")
    assert found.errors is None
    assert found.data == {"it": expected}


async def test_a_generator_is_a_list_and_is_read_once() -> None:
    found = await planned(one_field(list[int], lambda: (n for n in range(3))), "{ it }")
    assert (found.data, found.errors) == ({"it": [0, 1, 2]}, None)


@pytest.mark.parametrize("value", [{"a": 1}, "letters", 7], ids=["dict", "str", "int"])
async def test_dicts_strings_and_numbers_are_no_lists(value: Any) -> None:
    found = await planned(one_field(list[str] | None, lambda: value), "{ it }")
    assert found.data == {"it": None}
    assert said(found) == [
        ("Expected Iterable, but did not find one for field 'Query.it'.", ["it"]),
    ]


async def test_an_iterator_that_raises_fails_as_a_whole_after_the_errors_of_what_came() -> None:
    def items() -> Iterator[Any]:
        yield "a"
        yield ValueError("an item")
        raise ValueError("broke off")

    found = await planned(one_field(list[str | None] | None, items), "{ it }")
    assert found.data == {"it": None}
    assert said(found) == [("an item", ["it", 1]), ("broke off", ["it"])]


@pytest.mark.parametrize("kind", ["generator", "items awaited"])
async def test_items_may_come_later(kind: str) -> None:
    async def items() -> AsyncIterator[str | None]:
        for item in ("a", None, "c"):
            await asyncio.sleep(0)
            yield item

    def resolve() -> Any:
        return items() if kind == "generator" else [_later("a"), None, _later("c")]

    found = await planned(one_field(list[str | None], resolve), "{ it }")
    assert (found.data, found.errors) == ({"it": ["a", None, "c"]}, None)


async def test_an_async_generator_that_raises_is_the_lists_error() -> None:
    async def items() -> AsyncIterator[str]:
        yield "a"
        raise ValueError("broke off")

    found = await planned(one_field(list[str] | None, items), "{ it }")
    assert (found.data, said(found)) == ({"it": None}, [("broke off", ["it"])])


@ASYNC
@pytest.mark.parametrize(
    ("annotation", "null_list", "null_item", "bad_item"),
    [
        (list[int | None] | None, {"it": None}, {"it": [1, None]}, {"it": [1, None]}),
        (list[int | None], None, {"it": [1, None]}, {"it": [1, None]}),
        (list[int] | None, {"it": None}, {"it": None}, {"it": None}),
        (list[int], None, None, None),
    ],
    ids=["[Int]", "[Int]!", "[Int!]", "[Int!]!"],
)
async def test_nulls_in_lists_reach_as_far_as_the_type_says(
    annotation: Any, null_list: Any, null_item: Any, bad_item: Any, awaited: bool
) -> None:
    for value, expected, errors in (
        ([1, 2], {"it": [1, 2]}, []),
        (None, null_list, ["it"]),
        ([1, None], null_item, ["it", 1]),
        ([1, ValueError("bad")], bad_item, ["it", 1]),
    ):
        found = await planned(one_field(annotation, lambda value=value: given(value, awaited)), "{ it }")
        assert found.data == expected
        if found.errors:
            assert [error.path for error in found.errors] == [errors]


# -- non-null ---------------------------------------------------------------------------------------------------


@strawberry.type
class Nest:
    """Each way to fail, and more of itself, nullable or not, at once or awaited."""

    @strawberry.field
    def fine(self) -> str:
        """Always there."""
        return "fine"

    @strawberry.field
    def null(self, info: strawberry.Info) -> str | None:
        """What is null in the test."""
        return info.context.gives()  # type: ignore[no-any-return]

    @strawberry.field
    def must(self, info: strawberry.Info) -> str:
        """What must not be null."""
        return info.context.gives()  # type: ignore[no-any-return]

    @strawberry.field
    def nest(self, info: strawberry.Info) -> "Nest | None":
        """More, or null."""
        return info.context.more(Nest())  # type: ignore[no-any-return]

    @strawberry.field
    def must_nest(self, info: strawberry.Info) -> "Nest":
        """More, for certain."""
        return info.context.more(Nest())  # type: ignore[no-any-return]

    @strawberry.field
    def nests(self, info: strawberry.Info) -> "list[Nest | None]":
        """Two."""
        return info.context.more([Nest(), Nest()])  # type: ignore[no-any-return]


nested = Schema(query=Nest)


@ASYNC
@pytest.mark.parametrize("failure", [None, ValueError("raised")], ids=["null", "raises"])
@pytest.mark.parametrize(
    ("text", "expected", "paths"),
    [
        ("{ fine null }", {"fine": "fine", "null": None}, [["null"]]),
        ("{ fine nest { fine must } }", {"fine": "fine", "nest": None}, [["nest", "must"]]),
        (
            "{ nest { null nest { must } fine } }",
            {"nest": {"null": None, "nest": None, "fine": "fine"}},
            [["nest", "nest", "must"], ["nest", "null"]],
        ),
        (
            "{ fine nest { mustNest { mustNest { mustNest { must } } } } }",
            {"fine": "fine", "nest": None},
            [["nest", "mustNest", "mustNest", "mustNest", "must"]],
        ),
        ("{ nests { fine must } }", {"nests": [None, None]}, [["nests", 0, "must"], ["nests", 1, "must"]]),
        (
            "{ nests { fine nest { must } } }",
            {"nests": [{"fine": "fine", "nest": None}] * 2},
            [["nests", 0, "nest", "must"], ["nests", 1, "nest", "must"]],
        ),
        ("{ fine must }", None, [["must"]]),
        ("{ fine mustNest { mustNest { must } } }", None, [["mustNest", "mustNest", "must"]]),
    ],
)
async def test_a_null_goes_up_to_the_next_place_that_may_be_null(
    text: str, expected: Any, paths: Any, failure: Any, awaited: bool
) -> None:
    found = await planned(
        nested,
        text,
        context=context(gives=lambda: given(failure, awaited), more=lambda value: given(value, awaited)),
    )
    assert found.data == expected
    if failure is None:
        paths = [path for path in paths if path[-1] == "must"]
        message = "Cannot return null for non-nullable field Nest.must."
    else:
        message = "raised"
    assert said(found) == [(message, path) for path in paths]


async def test_below_one_null_at_least_one_error_is_left() -> None:
    found = await planned(
        nested,
        "{ fine nest { a: must b: must nest { must } } }",
        context=context(gives=lambda: None, more=lambda value: value),
    )
    assert found.data == {"fine": "fine", "nest": None}
    assert ("Cannot return null for non-nullable field Nest.must.", ["nest", "a"]) in said(found)


async def test_errors_need_not_reach_further_than_their_field_where_the_operation_says_so() -> None:
    found = await planned(
        nested,
        "query @experimental_disableErrorPropagation { fine must nest { must } }",
        context=context(gives=lambda: given(ValueError("raised"), False), more=lambda value: value),
    )
    assert found.data == {"fine": "fine", "must": None, "nest": {"must": None}}
    assert said(found) == [("raised", ["must"]), ("raised", ["nest", "must"])]


# -- directives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directives", "shown"),
    [
        ("", True),
        ("@include(if: true)", True),
        ("@include(if: false)", False),
        ("@skip(if: false)", True),
        ("@skip(if: true)", False),
        ("@include(if: true) @skip(if: false)", True),
        ("@include(if: true) @skip(if: true)", False),
        ("@include(if: false) @skip(if: false)", False),
    ],
)
@pytest.mark.parametrize("by_variable", [False, True], ids=["literal", "variable"])
@pytest.mark.parametrize(
    "place",
    [
        "{ name age %s }",
        "{ name ... on Person %s { age } }",
        "{ name ... %s { age } }",
        "{ name ...F %s }",
    ],
    ids=["field", "inline fragment", "anonymous fragment", "spread"],
)
async def test_skip_and_include(place: str, directives: str, shown: bool, by_variable: bool) -> None:
    fragment = " fragment F on Person { age }" if "...F" in place else ""
    if by_variable:
        directives = directives.replace("if: true", "if: $yes").replace("if: false", "if: $no")
    text = "query ($yes: Boolean! = true, $no: Boolean!) { ada " + place % directives + " }" + fragment
    found = await planned(people, text, {"no": False})
    assert found.errors is None
    assert found.data == {"ada": {"name": "Ada", **({"age": 36} if shown else {})}}


# -- mutations --------------------------------------------------------------------------------------------------


@strawberry.type
class Number:
    """The number, as it is when it is read."""

    @strawberry.field
    async def now(self, info: strawberry.Info) -> int:
        """Read late."""
        await asyncio.sleep(0)
        return info.context.number  # type: ignore[no-any-return]


@strawberry.type
class Changes:
    """Changes to one number."""

    @strawberry.mutation
    def at_once(self, info: strawberry.Info, to: int) -> Number | None:
        """Changes it."""
        info.context.number = to
        return Number()

    @strawberry.mutation
    async def later(self, info: strawberry.Info, to: int) -> Number | None:
        """Changes it after a while."""
        await asyncio.sleep(0.001)
        info.context.number = to
        return Number()

    @strawberry.mutation
    async def fails(self, to: int) -> Number | None:
        """Does not."""
        raise ValueError(f"cannot be {to}")


changing = Schema(query=People, mutation=Changes)


async def test_each_mutation_is_answered_before_the_next_begins_also_after_a_failed_one() -> None:
    found = await planned(
        changing,
        """mutation { a: atOnce(to: 1) { now } b: later(to: 2) { now } c: fails(to: 3) { now }
        ...M d: atOnce(to: 5) { now } } fragment M on Changes { e: later(to: 4) { now } }""",
        context=context(number=0),
    )
    assert found.data == {
        "a": {"now": 1},
        "b": {"now": 2},
        "c": None,
        "e": {"now": 4},
        "d": {"now": 5},
    }
    assert said(found) == [("cannot be 3", ["c"])]


async def test_mutations_that_the_schema_has_not_are_left_out() -> None:
    found = await planned(changing, "mutation { none(to: 1) }", context=context(number=0))
    assert (found.data, found.errors) == ({}, None)


# -- interfaces and unions --------------------------------------------------------------------------------------


@strawberry.interface
class Living:
    """Whatever lives."""

    name: str | None


@strawberry.type
class Dog(Living):
    """Barks."""

    barks: bool

    @classmethod
    def is_type_of(cls, value: Any, info: Any) -> bool:
        """By what it does; some cannot be told."""
        if getattr(value, "unclear", False):
            raise ValueError("what is it?")
        return hasattr(value, "barks")


@strawberry.type
class Cat(Living):
    """Meows."""

    meows: bool

    @classmethod
    def is_type_of(cls, value: Any, info: Any) -> bool:
        """By what it does."""
        return hasattr(value, "meows")


Pet = Annotated[Union[Dog, Cat], strawberry.union("Pet")]  # noqa: UP007


@strawberry.type
class Owner(Living):
    """Has pets."""

    pets: list[Pet | None]
    alive: list[Living | None]

    @classmethod
    def is_type_of(cls, value: Any, info: Any) -> bool:
        """By what it has."""
        return hasattr(value, "pets")


rex, tom = SimpleNamespace(name="Rex", barks=True), SimpleNamespace(name="Tom", meows=False)
john = SimpleNamespace(name="John", pets=[tom, None, rex], alive=[rex, tom])
john.alive.append(SimpleNamespace(name="Liz", pets=[], alive=[]))


def owners(owner: Any = john) -> Schema:
    """A schema whose ``it`` is an owner."""
    return one_field(Owner | None, lambda: owner, types=[Dog, Cat, Owner])


@ASYNC
async def test_unions_and_interfaces_give_each_object_its_own_fields(awaited: bool) -> None:
    text = """{ it {
      pets { __typename ... on Dog { name barks } ... on Cat { meows name } }
      alive { name ... on Dog { barks } ...C ... on Living { __typename } ... on Owner { pets { __typename } } }
    } } fragment C on Cat { meows }"""
    schema = one_field(Owner | None, lambda: given(john, awaited), types=[Dog, Cat, Owner])
    assert validate(schema.graphql, parse(text)) == []
    found = await planned(schema, text)
    assert found.errors is None
    assert found.data == {
        "it": {
            "pets": [
                {"__typename": "Cat", "meows": False, "name": "Tom"},
                None,
                {"__typename": "Dog", "name": "Rex", "barks": True},
            ],
            "alive": [
                {"name": "Rex", "barks": True, "__typename": "Dog"},
                {"name": "Tom", "meows": False, "__typename": "Cat"},
                {"name": "Liz", "__typename": "Owner", "pets": []},
            ],
        }
    }
    assert [list(pet) for pet in (found.data or {})["it"]["pets"] if pet] == [
        ["__typename", "meows", "name"],
        ["__typename", "name", "barks"],
    ]


async def test_fragments_may_be_on_abstract_types_inside_abstract_types() -> None:
    found = await planned(
        owners(), "{ it { pets { ... on Living { ... on Pet { ... on Dog { barks } } name } } } }"
    )
    assert found.data == {"it": {"pets": [{"name": "Tom"}, None, {"barks": True, "name": "Rex"}]}}


async def test_an_object_of_no_possible_type_is_an_error_in_its_row() -> None:
    ghost = SimpleNamespace(name="?")
    found = await planned(
        owners(SimpleNamespace(name="X", pets=[rex, ghost], alive=[])), "{ it { pets { __typename } } }"
    )
    assert found.data == {"it": {"pets": [{"__typename": "Dog"}, None]}}
    assert [path for _, path in said(found)] == [["it", "pets", 1]]


async def test_an_is_type_of_that_raises_is_an_error_in_its_row() -> None:
    unclear = SimpleNamespace(name="?", unclear=True)
    owner = SimpleNamespace(name="X", pets=[], alive=[unclear, tom])
    found = await planned(owners(owner), "{ it { alive { name } } }")
    assert found.data == {"it": {"alive": [None, {"name": "Tom"}]}}
    assert said(found) == [("what is it?", ["it", "alive", 0])]


async def test_an_object_that_is_not_of_its_fields_type_is_an_error() -> None:
    found = await planned(owners(rex), "{ it { name } }")
    assert found.data == {"it": None}
    ((message, path),) = said(found)
    assert message.startswith("Expected value of type 'Owner' but got: ")
    assert path == ["it"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "Nobody",
            "Abstract type 'Named' was resolved to a type 'Nobody' that does not exist inside the schema.",
        ),
        ("String", "Abstract type 'Named' was resolved to a non-object type 'String'."),
        ("Query", "Runtime Object type 'Query' is not a possible type for 'Named'."),
        (None, "Abstract type 'Named' must resolve to an Object type at runtime for field 'Query.it'."),
        (7, "which is not a valid Object type name."),
        (ValueError("cannot say"), "cannot say"),
    ],
)
async def test_a_resolve_type_that_gives_no_possible_type_is_an_error(answer: Any, message: str) -> None:
    @strawberry.interface
    class Named:
        name: str | None

        @classmethod
        def resolve_type(cls, value: Any, info: Any, type_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    @strawberry.type
    class Thing(Named):
        pass

    found = await planned(one_field(Named | None, lambda: tom, types=[Thing]), "{ it { name } }")
    assert found.data == {"it": None}
    ((words, path),) = said(found)
    assert message in words
    assert path == ["it"]


async def test_types_that_are_awaited_are_left_to_graphql_core_and_answered() -> None:
    @strawberry.interface
    class Named:
        name: str | None

    @strawberry.type
    class Thing(Named):
        @classmethod
        async def is_type_of(cls, value: Any, info: Any) -> bool:
            return True

    engine = Engine(one_field(Named | None, lambda: tom, types=[Thing]))
    for _ in range(2):
        found = await ask(engine, "{ it { name __typename } }")
        assert (found.data, found.errors) == ({"it": {"name": "Tom", "__typename": "Thing"}}, None)
    assert engine.counts == {"first seen": 1, "types that are awaited": 1}


# -- leaves -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 2**31 - 1, 2**31 - 1),
        (int, -(2**31), -(2**31)),
        (int, True, 1),
        (int, 3.0, 3),
        (int, "3", 3),
        (int, 2**31, "Int cannot represent non 32-bit signed integer value: 2147483648"),
        (int, 1.5, "Int cannot represent non-integer value: 1.5"),
        (int, float("nan"), "Int cannot represent non-integer value: nan"),
        (float, 2, 2.0),
        (float, float("nan"), "Float cannot represent non numeric value: nan"),
        (float, float("-inf"), "Float cannot represent non numeric value: -inf"),
        (float, "x", "Float cannot represent non numeric value: 'x'"),
        (str, 5, "5"),
        (str, True, "true"),
        (str, [], "String cannot represent value: []"),
        (bool, 0, False),
        (bool, "yes", "Boolean cannot represent a non boolean value: 'yes'"),
        (strawberry.ID, 7, "7"),
        (strawberry.ID, 1.5, "ID cannot represent value: 1.5"),
    ],
)
async def test_leaves_are_what_their_type_makes_of_them(annotation: Any, value: Any, expected: Any) -> None:
    found = await planned(one_field(list[annotation | None], lambda: [None, value]), "{ it }")
    if isinstance(expected, str) and "cannot" in expected:
        assert (found.data, said(found)) == ({"it": [None, None]}, [(expected, ["it", 1])])
    else:
        assert found.errors is None
        assert repr(found.data) == repr({"it": [None, expected]})


async def test_enums_are_shown_by_name_and_what_is_no_member_is_an_error() -> None:
    @strawberry.enum
    class Way(enum.Enum):
        NORTH = "n"
        SOUTH = strawberry.enum_value("s", name="DOWN")

    found = await planned(
        one_field(list[Way | None], lambda: [Way.NORTH, Way.SOUTH, "n", "north", [], None]), "{ it }"
    )
    assert found.data == {"it": ["NORTH", "DOWN", "NORTH", None, None, None]}
    assert said(found) == [
        ("Enum 'Way' cannot represent value: 'north'", ["it", 3]),
        ("Enum 'Way' cannot represent value: []", ["it", 4]),
    ]


# -- variables and inputs ---------------------------------------------------------------------------------------


@strawberry.input
class Inner:
    """Nested."""

    must: str


@strawberry.input
class Asked:
    """An input object."""

    a: int | None = None
    b: list[str | None] | None = None
    c: str = "c"
    inner: Inner | None = None


@strawberry.input(one_of=True)
class Either:
    """One of two."""

    text: str | None = strawberry.UNSET
    number: int | None = strawberry.UNSET


@strawberry.enum
class Mood(enum.Enum):
    """An enum to be given."""

    GOOD = 1
    BAD = 2


@strawberry.type
class Inputs:
    """Shows what it was given."""

    @strawberry.field
    def object(self, given: Asked | None = None) -> str | None:
        """An object."""
        return repr(given and (given.a, given.b, given.c, given.inner and given.inner.must))

    @strawberry.field
    def text(self, given: str | None = None) -> str | None:
        """A nullable."""
        return repr(given)

    @strawberry.field
    def default(self, given: str | None = "a default") -> str | None:
        """With a default."""
        return repr(given)

    @strawberry.field
    def must(self, given: str) -> str | None:
        """Needed."""
        return repr(given)

    @strawberry.field
    def list(self, given: list[str] | None = None) -> str | None:
        """A list."""
        return repr(given)

    @strawberry.field
    def mood(self, given: Mood | None = None) -> str | None:
        """An enum."""
        return repr(given and given.name)

    @strawberry.field
    def either(self, given: Either | None = None) -> str | None:
        """One of two."""
        return repr(given and (given.text, given.number))


inputs = Schema(query=Inputs)


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ('{ object(given: {a: 1, b: ["x", null], inner: {must: "m"}}) }', {}, "(1, ['x', None], 'c', 'm')"),
        ('{ object(given: {b: "one", c: "d"}) }', {}, "(None, ['one'], 'd', None)"),
        ("{ object }", {}, "None"),
        ("query ($v: Asked) { object(given: $v) }", {"v": {"a": 5, "b": "one"}}, "(5, ['one'], 'c', None)"),
        ("query ($v: Asked) { object(given: $v) }", {"v": None}, "None"),
        ("query ($v: Asked) { object(given: $v) }", {}, "None"),
        ('query ($v: Asked = {c: "q"}) { object(given: $v) }', {}, "(None, None, 'q', None)"),
        ("query ($v: Int) { object(given: {a: $v}) }", {"v": 3}, "(3, None, 'c', None)"),
        ("query ($v: String!) { object(given: {inner: {must: $v}}) }", {"v": "m"}, "(None, None, 'c', 'm')"),
        ("{ text }", {}, "None"),
        ("query ($v: String) { text(given: $v) }", {"v": "x"}, "'x'"),
        ("{ default }", {}, "'a default'"),
        ("{ default(given: null) }", {}, "None"),
        ("query ($v: String) { default(given: $v) }", {}, "'a default'"),
        ("query ($v: String) { default(given: $v) }", {"v": None}, "None"),
        ('{ must(given: "x") }', {}, "'x'"),
        ('query ($v: String = "d") { must(given: $v) }', {}, "'d'"),
        ('query ($v: String! = "d") { must(given: $v) }', {"v": "given"}, "'given'"),
        ('{ list(given: "one") }', {}, "['one']"),
        ("query ($v: [String!]) { list(given: $v) }", {"v": ["a", "b"]}, "['a', 'b']"),
        ("query ($v: String!) { list(given: [$v, $v]) }", {"v": "a"}, "['a', 'a']"),
        ("{ mood(given: BAD) }", {}, "'BAD'"),
        ("query ($v: Mood!) { mood(given: $v) }", {"v": "GOOD"}, "'GOOD'"),
        ('{ either(given: {text: "x"}) }', {}, "('x', UNSET)"),
        ("query ($v: Either = {number: 4}) { either(given: $v) }", {}, "(UNSET, 4)"),
        ("query ($v: Either) { either(given: $v) }", {"v": {"text": "x"}}, "('x', UNSET)"),
        ("query ($v: Int!) { either(given: {number: $v}) }", {"v": 4}, "(UNSET, 4)"),
    ],
)
async def test_inputs_reach_the_resolver_coerced(text: str, variables: Any, expected: str) -> None:
    assert validate(inputs.graphql, parse(text)) == []
    found = await planned(inputs, text, variables)
    assert found.errors is None
    assert list((found.data or {}).values()) == [expected]


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("query ($v: String!) { must(given: $v) }", {}, "Variable '$v' has invalid value: Expected a value of non-null type 'String!' to be provided."),
        ("query ($v: String!) { must(given: $v) }", {"v": None}, "Variable '$v' has invalid value: Expected value of non-null type 'String!' not to be None."),
        ("query ($v: String!) { must(given: $v) }", {"v": [1]}, "Variable '$v' has invalid value: String cannot represent a non string value: [1]"),
        ("query ($v: Asked) { object(given: $v) }", {"v": {"inner": {}}}, "Variable '$v' has invalid value at .inner"),
        ("query ($v: Asked) { object(given: $v) }", {"v": {"more": 1}}, "Variable '$v' has invalid value"),
        ("query ($v: [String!]) { list(given: $v) }", {"v": ["a", None]}, "Variable '$v' has invalid value at [1]"),
        ("query ($v: Mood) { mood(given: $v) }", {"v": "SO_SO"}, "Variable '$v' has invalid value"),
        ("query ($v: Either) { either(given: $v) }", {"v": {"text": None}}, "Value for member field 'text' must be non-null"),
        ("query ($v: Either) { either(given: $v) }", {"v": {"text": "x", "number": 4}}, "OneOf Input Object 'Either' must specify exactly one key."),
        ("query ($v: Either) { either(given: $v) }", {"v": {}}, "OneOf Input Object 'Either' must specify exactly one key."),
    ],
)  # fmt: skip
async def test_variables_that_do_not_fit_refuse_the_operation(
    text: str, variables: Any, message: str
) -> None:
    engine = Engine(inputs)
    for _ in range(2):
        found = await ask(engine, text, variables)
        assert found.data is None
        ((words, path),) = said(found)
        assert words.startswith(message)
        assert path is None
    assert not engine.counts  # it never ran


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("{ must }", {}, "Argument 'given' of required type 'String!' was not provided."),
        ("{ must(given: null) }", {}, "Argument 'given'"),
        ("query ($v: String) { must(given: $v) }", {}, "Argument 'given'"),
        ('query ($v: String = "d") { must(given: $v) }', {"v": None}, "Argument 'given'"),
        ("{ mood(given: SO_SO) }", {}, "Argument 'given' has invalid value"),
        (
            '{ either(given: {text: "x", number: 4}) }',
            {},
            "OneOf Input Object 'Either' must specify exactly one key.",
        ),
    ],
)
async def test_arguments_that_do_not_fit_are_the_fields_error(
    text: str, variables: Any, message: str
) -> None:
    found = await planned(inputs, text, variables)
    ((words, path),) = said(found)
    assert words.startswith(message)
    assert list((found.data or {}).items()) == [((path or [None])[0], None)]
