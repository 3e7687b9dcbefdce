"""Any exception becomes ``{message, path, extensions: {code}}``; what is not meant for clients is masked and logged."""

from collections.abc import Sequence
from typing import Any

import structlog
from graphql import GraphQLError

from resolvers.errors import GraphError
from sources.ports.errors import SourceError

log = structlog.get_logger()


def formatted(errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
    """For the answer's ``errors``, in the order of the executor."""
    return [_formatted(error, request_id) for error in errors]


def _formatted(error: GraphQLError, request_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": error.message}
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path is not None:
        shown["path"] = error.path
    shown["extensions"] = extensions = _extensions(error)
    if extensions["code"] == "INTERNAL":
        shown["message"] = f"internal error; quote request {request_id}"
        log.error("internal_error", path=_pattern(error.path), exc_info=error.original_error or error)
    return shown


def _extensions(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    if isinstance(cause, SourceError):
        extensions: dict[str, Any] = {"code": cause.code, "source": cause.source}
        if cause.retry_after is not None:
            extensions["retryAfter"] = cause.retry_after
        return extensions
    if isinstance(cause, GraphError):
        return {"code": cause.code, **_detail(cause)}
    if cause is None or isinstance(cause, GraphQLError):
        # graphql-core's own words about the document, its variables and its arguments.
        return {"code": "BAD_USER_INPUT"} if error.path is None or _is_input(error) else {"code": "INTERNAL"}
    return {"code": "INTERNAL"}


def _detail(cause: GraphError) -> dict[str, Any]:
    return {
        name: getattr(cause, name)
        for name in ("coordinate", "requires")
        if getattr(cause, name, None) is not None
    }


def _is_input(error: GraphQLError) -> bool:
    return error.message.startswith(("Argument", "Variable", "Expected"))


def _pattern(path: Sequence[str | int] | None) -> str:
    """The path without list positions."""
    return ".".join(str(part) for part in path or () if isinstance(part, str))
