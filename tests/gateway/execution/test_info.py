"""What a resolver learns from its Info is the same by columns, where nothing of it is made before it is asked for."""

from typing import Any

import pytest
import strawberry

from gateway.execution.engine import Engine
from tests.gateway.execution.asking import Schema, ask, context, planned, said, shown


def _fragments(info: strawberry.Info) -> list[str]:
    return sorted(info._raw_info.fragments)


def _operation(info: strawberry.Info) -> str:
    name = info.operation.name
    return name.value if name else ""


ASKED = {
    "argument": lambda info: info.get_argument_definition("what").python_name,
    "context": lambda info: info.context.word,
    "extensions": lambda info: info.input_extensions,
    "field": lambda info: (info.field_name, info.python_name),
    "fragments": _fragments,
    "operation": _operation,
    "query": lambda info: info.query,
    "return type": lambda info: info.return_type,
    "root": lambda info: info.root_value,
    "schema": lambda info: info.schema is schema,
    "variables": lambda info: info.variable_values,
    "unknown": lambda info: info.unknown,
}
"""Outside of the resolvers, so that they are not run by graphql-core's own convention."""


@strawberry.type
class Row:
    """One of several objects that share an Info."""

    number: int

    @strawberry.field
    def told(self, info: strawberry.Info, what: str) -> str | None:
        """What the Info says."""
        return f"{self.number} {ASKED[what](info)!r}"

    @strawberry.field
    def word(self, info: strawberry.Info) -> str | None:
        """Of the context; every second row has none."""
        if self.number % 2:
            raise ValueError(f"no word at {self.number}")
        return str(info.context.word)


@strawberry.type
class Query:
    """The root."""

    @strawberry.field
    def rows(self) -> list[Row]:
        """Three."""
        return [Row(number=number) for number in range(3)]


schema = Schema(query=Query)
ASKING = "query Asking($what: String!) { rows { ...told } } fragment told on Row { told(what: $what) }"


@pytest.mark.parametrize("what", sorted(ASKED))
async def test_an_info_says_the_same_of_a_column_as_of_a_row(what: str) -> None:
    engine, known = Engine(schema), context(word="hello")
    by_core = await ask(engine, ASKING, {"what": what}, "Asking", known)
    by_columns = await planned(schema, ASKING, {"what": what}, "Asking", known)
    assert (shown(by_columns.data), said(by_columns)) == (by_core.data, said(by_core))
    assert ("unknown" in what) == bool(by_core.errors)


async def test_a_resolver_that_raises_at_some_rows_fails_there_alone_and_is_called_once_for_each() -> None:
    answer = await planned(schema, "{ rows { number word } }", context=context(word="hello"))
    words: list[Any] = [row["word"] for row in shown(answer.data)["rows"]]
    assert words == ["hello", None, "hello"]
    assert said(answer) == [("no word at 1", ["rows", 1, "word"])]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "Asking"),
        ({"what": None}, "Asking"),
        ({"what": ["a", "b"]}, "Asking"),
        ({"what": "field"}, "Other"),
        ({"what": "field"}, ""),
        ({"what": "field"}, None),
        (None, None),
    ],
)
async def test_what_is_wrong_with_a_request_reads_the_same_whether_its_document_is_planned_or_not(
    variables: Any, name: str | None
) -> None:
    engine, known = Engine(schema), context(word="hello")
    by_core = await ask(engine, ASKING, variables, name, known)
    for _ in range(2):
        await ask(engine, ASKING, {"what": "field"}, "Asking", known)
    assert engine.counts["columns"]
    again = await ask(engine, ASKING, variables, name, known)
    assert (shown(again.data), said(again)) == (by_core.data, said(by_core))
