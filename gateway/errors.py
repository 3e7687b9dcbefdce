"""Any exception becomes ``{message, path, extensions: {code}}``; what is not meant for clients is masked and logged."""

from collections.abc import Sequence
from typing import Any

import structlog
from graphql import GraphQLError

from resolvers.errors import GraphError
from sources.ports.errors import (
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)

log = structlog.get_logger()

_MASKED: tuple[tuple[type[SourceError], str], ...] = (
    (SourceTimeout, "no answer in time"),
    (SourceUnavailable, "not available at the moment"),
    (SourceRejected, "not available at the moment"),
    (SourceRateLimited, "asked too often at the moment"),
    (SourceBadResponse, "gave an answer that cannot be used"),
)
"""What clients read of a source's failure. Why it failed names hosts and settings, which are the operator's: it is
logged. What the client can mend (a filter, a link that staff must confirm) is shown as it is."""

_TOO_MUCH = ("Parsing aborted.", "Validation aborted.", "introspection depth exceeded")
"""How graphql-core's words end when it gives a document up."""


def formatted(errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
    """For the answer's ``errors``, in the order of the executor."""
    log_sources([error.original_error for error in errors])
    shown = [_formatted(error, request_id) for error in errors]
    _let_go_of_frames(errors)
    return shown


def _let_go_of_frames(errors: Sequence[GraphQLError]) -> None:
    """Exceptions know the frames that they came through, and these the request with its exceptions: a circle, by which all
    that a failed request has read would wait for the garbage collector. What is to be logged of them has been."""
    todo: list[BaseException | None] = [*errors]
    seen: set[int] = set()
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        error.__traceback__ = None
        todo += (error.__cause__, error.__context__, getattr(error, "original_error", None))


def of_source(error: SourceError) -> dict[str, Any]:
    """A source's failure as an entry of ``errors``, without a path."""
    extensions: dict[str, Any] = {"code": error.code, "source": error.source}
    if error.retry_after is not None:
        extensions["retryAfter"] = error.retry_after
    masked = next((words for family, words in _MASKED if isinstance(error, family)), None)
    return {"message": f"{error.source}: {masked}" if masked else str(error), "extensions": extensions}


def log_sources(errors: Sequence[BaseException | None]) -> None:
    """Once per source and reason, however many calls failed for it and however many fields that left empty."""
    failures = {
        (error.source, error.code, str(error), error.request_id): error
        for error in errors
        if isinstance(error, SourceError)
    }
    for error in failures.values():
        if any(isinstance(error, family) for family, _ in _MASKED):
            log.warning(
                "source_error",
                source=error.source,
                code=error.code,
                reason=str(error),
                vendor_code=error.vendor_code,
                vendor_request_id=error.request_id,
            )


def _formatted(error: GraphQLError, request_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": error.message}
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path is not None:
        shown["path"] = error.path
    cause = error.original_error
    if isinstance(cause, SourceError):
        return shown | of_source(cause)
    shown["extensions"] = extensions = _extensions(error)
    if extensions["code"] == "INTERNAL":
        shown["message"] = f"internal error; quote request {request_id}"
        log.error("internal_error", path=_pattern(error.path), exc_info=error.original_error or error)
    return shown


def _extensions(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    if isinstance(cause, GraphError):
        return {"code": cause.code, **_detail(cause)}
    if cause is None and error.extensions and "code" in error.extensions:
        return {"code": error.extensions["code"]}
    if cause is None and error.path is None and error.message.endswith(_TOO_MUCH):
        return {"code": "LIMIT_EXCEEDED"}
    if cause is None or isinstance(cause, GraphQLError):
        # graphql-core's own words about the document, its variables and its arguments.
        return {"code": "BAD_USER_INPUT"} if error.path is None or _is_input(error) else {"code": "INTERNAL"}
    return {"code": "INTERNAL"}


def _detail(cause: GraphError) -> dict[str, Any]:
    return {
        name: getattr(cause, name)
        for name in ("coordinate", "requires", "missing")
        if getattr(cause, name, None) is not None
    }


def _is_input(error: GraphQLError) -> bool:
    return error.message.startswith(("Argument", "Variable", "Expected"))


def _pattern(path: Sequence[str | int] | None) -> str:
    """The path without list positions."""
    return ".".join(str(part) for part in path or () if isinstance(part, str))
