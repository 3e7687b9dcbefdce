"""What Xero allows an app per organisation, and how its answers tell."""

from collections.abc import Sequence

from sources.ports.errors import SourceError, SourceRateLimited
from sources.transport.http import Answer
from sources.transport.limits import Limit, Reading, number

LIMITS = (
    Limit("concurrent", concurrent=5),
    Limit("minute", calls=60, seconds=60),
    Limit("day", calls=5000, seconds=86_400),
)

_REMAINING = {"minute": "x-minlimit-remaining", "day": "x-daylimit-remaining"}


def readings(endpoint: str, answer: Answer, error: SourceError | None) -> Sequence[Reading]:
    """A refusal names its limit: concurrent, minute, day or appminute, the last for all organisations of the app."""
    if isinstance(error, SourceRateLimited) and error.vendor_code in _REMAINING:
        wait = 1.0 if error.retry_after is None else error.retry_after
        return [Reading(error.vendor_code, remaining=0, resets_in=wait)]
    told = answer.headers.get
    return [
        Reading(limit, remaining=number(left))
        for limit, header in _REMAINING.items()
        if (left := told(header)) is not None
    ]
