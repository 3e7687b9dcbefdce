"""Asking the engine: twice where the answer shall be a planned one."""

from collections.abc import Mapping
from datetime import date
from enum import Enum
from types import SimpleNamespace
from typing import Any

import msgspec
import strawberry
from graphql import ExecutionResult, GraphQLError, parse

from gateway.execution.engine import Engine

PLANNED = ("columns", "replayed")


class Schema(strawberry.Schema):
    """As the gateway's."""

    @property
    def graphql(self) -> Any:
        """The graphql-core schema."""
        return self._schema


class Everything:
    """As a set that everything is in."""

    def __rand__(self, held: frozenset[str]) -> frozenset[str]:
        return held


def caller(denied: Mapping[tuple[str, str], Any] | None = None) -> dict[str, Any]:
    """What an executor asks of a context, for somebody who is denied these fields."""
    return {
        "policy": SimpleNamespace(
            denied=lambda held: denied or {},
            guards=lambda held: {},
            mentions=lambda places: SimpleNamespace(held=Everything()),
        ),
        "principal": SimpleNamespace(held=frozenset(f"not {place}" for place in denied or ())),
    }


def context(denied: Mapping[tuple[str, str], Any] | None = None, **more: Any) -> Any:
    """As the executor's, with what a test's resolvers want."""
    return SimpleNamespace(**caller(denied), **more)


async def ask(
    engine: Engine,
    text: str,
    variables: Mapping[str, Any] | None = None,
    operation: str | None = None,
    context: Any = context(),  # noqa: B008  (it holds nothing)
) -> ExecutionResult:
    """Once."""
    result = await engine.execute(text, parse(text), context, variables, operation)
    return (
        ExecutionResult(shown(result.data), result.errors) if isinstance(result, ExecutionResult) else result
    )


def shown(data: Any) -> Any:
    """The data as it is encoded: rows are objects by their response keys, in order."""
    if isinstance(data, msgspec.Struct):
        names = zip(data.__struct_encode_fields__, data.__struct_fields__, strict=True)
        return {key: shown(getattr(data, name)) for key, name in names}
    if isinstance(data, dict):
        return {key: shown(value) for key, value in data.items()}
    if isinstance(data, list):
        return [shown(value) for value in data]
    if isinstance(data, Enum):
        return data.value
    return data.isoformat() if type(data) is date else data


async def planned(
    schema: Any,
    text: str,
    variables: Mapping[str, Any] | None = None,
    operation: str | None = None,
    context: Any = context(),  # noqa: B008
) -> ExecutionResult:
    """The answer by a plan; fails where none was made."""
    engine = Engine(schema)
    await ask(engine, text, variables, operation, context)
    engine.counts.clear()
    result = await ask(engine, text, variables, operation, context)
    assert sum(engine.counts[way] for way in PLANNED) == 1, engine.counts
    return result


def said(result: ExecutionResult) -> list[tuple[str, list[str | int] | None]]:
    """The errors' messages and paths."""
    return sorted((error.message, error.path) for error in result.errors or ())


def located(error: GraphQLError) -> tuple[int, int]:
    """Where in the document."""
    assert error.locations
    return error.locations[0].line, error.locations[0].column
