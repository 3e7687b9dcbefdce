"""Asking the engine: twice where the answer shall be a planned one."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

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


def context(denied: Mapping[tuple[str, str], Any] | None = None, **more: Any) -> Any:
    """As the executor's, with what a test's resolvers want."""
    return SimpleNamespace(
        policy=SimpleNamespace(denied=lambda scopes: denied or {}),
        principal=SimpleNamespace(scopes=frozenset()),
        **more,
    )


async def ask(
    engine: Engine,
    text: str,
    variables: Mapping[str, Any] | None = None,
    operation: str | None = None,
    context: Any = context(),  # noqa: B008  (it holds nothing)
) -> ExecutionResult:
    """Once."""
    return await engine.execute(text, parse(text), context, variables, operation)


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
