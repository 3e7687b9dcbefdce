"""What Zendesk allows an account, and how its answers tell."""

from collections.abc import Sequence

from sources.ports.errors import SourceError, SourceRateLimited
from sources.transport.http import Answer
from sources.transport.limits import Limit, Reading, number

SEARCH, EXPORT, HELP_CENTRE, ATTACHMENTS = "search", "search_export", "help_centre", "attachments"
"""The endpoint classes that fail, or are counted, apart from the others."""

LIMITS = (
    # The smallest plan's (2026); answers tell the account's own: up to 700 a minute on Enterprise, 2,500 with the add-on.
    Limit("account", calls=200, endpoints=("", SEARCH, EXPORT)),
    Limit("help_centre", calls=200, endpoints=(HELP_CENTRE,)),
    Limit("search_export", calls=100, endpoints=(EXPORT,)),
)


def readings(endpoint: str, answer: Answer, error: SourceError | None) -> Sequence[Reading]:
    """The same headers tell of the help centre's limit and of the rest's."""
    told = answer.headers.get
    if endpoint == ATTACHMENTS or (left := told("x-rate-limit-remaining")) is None:
        return ()
    resets = number(told("ratelimit-reset"))
    refused = isinstance(error, SourceRateLimited)
    remaining = number(left)
    if refused and remaining != 0:
        return ()  # another limit than the one that these headers are about
    if refused and error is not None and error.retry_after is not None:
        resets = round(error.retry_after) or 1
    return [
        Reading(
            HELP_CENTRE if endpoint == HELP_CENTRE else "account",
            calls=number(told("x-rate-limit")),
            remaining=remaining,
            resets_in=resets,
        )
    ]
