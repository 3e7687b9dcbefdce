"""What Freshdesk allows an account, and how its answers tell."""

from collections.abc import Sequence

from sources.ports.errors import SourceError, SourceRateLimited
from sources.transport.http import Answer
from sources.transport.limits import Limit, Reading, number

TICKETS, ATTACHMENTS = "tickets_list", "attachments"
"""The endpoint classes that are counted, or fail, apart from the others."""

LIMITS = (
    # The Growth plan's (2026): Pro has 400 and 100, Enterprise 700 and 200. Answers tell the account's total only.
    Limit("account", calls=200, endpoints=("", TICKETS)),
    Limit("tickets_list", calls=20, endpoints=(TICKETS,)),
)


def readings(endpoint: str, answer: Answer, error: SourceError | None) -> Sequence[Reading]:
    """The headers tell of the account's limit alone."""
    told = answer.headers.get
    if endpoint == ATTACHMENTS or (left := told("x-ratelimit-remaining")) is None:
        return ()
    remaining = number(left)
    refused = isinstance(error, SourceRateLimited)
    if refused and remaining != 0:
        return ()  # another limit than the one that these headers are about
    return [
        Reading(
            "account",
            calls=number(told("x-ratelimit-total")),
            remaining=remaining,
            resets_in=error.retry_after if refused and error is not None else None,
        )
    ]
