"""What a request may be at most."""

from collections.abc import Callable, Sequence
from typing import Any

from strawberry.extensions import (
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    SchemaExtension,
    ValidationCache,
)

MAX_BODY_BYTES = 256 * 1024
MAX_TOKENS = 4000
MAX_DEPTH = 16
MAX_ALIASES = 50
CACHED_DOCUMENTS = 1000


def extensions() -> Sequence[type[SchemaExtension] | Callable[[], Any]]:
    """Strawberry's own limiters, and its caches of parsed and validated documents."""
    return (
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        lambda: MaxAliasesLimiter(max_alias_count=MAX_ALIASES),
        lambda: QueryDepthLimiter(max_depth=MAX_DEPTH),
        lambda: ParserCache(maxsize=CACHED_DOCUMENTS),
        lambda: ValidationCache(maxsize=CACHED_DOCUMENTS),
    )
