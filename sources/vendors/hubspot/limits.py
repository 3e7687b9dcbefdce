"""What HubSpot allows an app per account, and how its answers tell."""

from collections.abc import Sequence

from sources.ports.errors import SourceError, SourceRateLimited
from sources.transport.http import Answer
from sources.transport.limits import Limit, Reading, number

SEARCH = "search"
"""The endpoint class of searches."""

LIMITS = (
    # Without paid tiers (2026): 190 and 250 per 10 s, 650,000 and 1,000,000 a day with them, as the answers tell.
    Limit("burst", calls=100, seconds=10, endpoints=("",)),
    Limit("day", calls=250_000, seconds=86_400, endpoints=("",)),
    Limit("search", calls=4, seconds=1, endpoints=(SEARCH,)),
)

_POLICIES = {"TEN_SECONDLY_ROLLING": "burst", "DAILY": "day", "SECONDLY": "search"}


def readings(endpoint: str, answer: Answer, error: SourceError | None) -> Sequence[Reading]:
    """Searches carry no such headers."""
    said = []
    if isinstance(error, SourceRateLimited) and error.vendor_code in _POLICIES:
        # The window may be all ours: it rests for as long as HubSpot says, or for a second.
        wait = 1.0 if error.retry_after is None else error.retry_after
        said.append(Reading(_POLICIES[error.vendor_code], remaining=0, resets_in=wait))
    told = answer.headers.get
    if (remaining := told("x-hubspot-ratelimit-remaining")) is not None:
        said.append(Reading("burst", number(told("x-hubspot-ratelimit-max")), number(remaining)))
    if (remaining := told("x-hubspot-ratelimit-daily-remaining")) is not None:
        said.append(Reading("day", number(told("x-hubspot-ratelimit-daily")), number(remaining)))
    return said
