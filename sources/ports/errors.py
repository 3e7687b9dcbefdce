"""What a source can answer instead of data, by what the caller can do about it.

    SourceError
    |-- SourceUnavailable      down, refused, 5xx: try later
    |   `-- SourceTimeout      no answer before the request's deadline
    |-- SourceRateLimited      too many calls; ``retry_after`` says when
    |-- SourceRejected         credentials or permissions: the operator must mend a setting
    |   `-- ConsentNeeded      a refresh token is spent: someone must sign in to the vendor again
    |-- SourceBadResponse      an answer that is not what the vendor's description promises
    |-- InvalidRequest         the vendor refuses what was asked
    |-- Unmatched              the account has no known counterpart in this system
    `-- AmbiguousMatch         several counterparts are possible and none is confirmed

Messages name the source and what to do; they carry no records and no secrets. Ports return a SourceError in place of
one row's answer and raise it when the whole batch failed.
"""

import re

import msgspec

_WORD = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}|[A-Za-z][A-Za-z_' ]{0,59}")


def word(said: object) -> str | None:
    """What a vendor calls an error or a request by, as far as it looks like that: anything else may quote somebody, and these
    reach logs."""
    return said if isinstance(said, str) and _WORD.fullmatch(said) else None


UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What decoding a body raises that is cut off, no text, of another form, or nested without end."""


class SourceError(Exception):
    """Something a named source could not give. ``code`` is the graph's error code."""

    code = "SOURCE_UNAVAILABLE"

    def __init__(
        self,
        source: str,
        message: str,
        *,
        retry_after: float | None = None,
        vendor_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source
        self.retry_after = retry_after
        self.vendor_code = word(vendor_code)
        self.request_id = word(request_id)


class SourceUnavailable(SourceError):
    """Down, unreachable or failing on its side."""


class SourceTimeout(SourceUnavailable):
    """No answer before the deadline."""

    code = "SOURCE_TIMEOUT"


class SourceRateLimited(SourceError):
    """Over the vendor's limit. ``retry_after`` in seconds where the vendor says."""

    code = "SOURCE_RATE_LIMITED"


class SourceRejected(SourceError):
    """The vendor refuses our credentials or our permissions."""


class ConsentNeeded(SourceRejected):
    """The stored authorisation is spent; an operator must connect the source again."""


class SourceBadResponse(SourceError):
    """Not the answer that the vendor's description promises."""

    code = "SOURCE_BAD_RESPONSE"


class InvalidRequest(SourceError):
    """The vendor refuses the request itself: a filter it cannot take, an id of the wrong form."""

    code = "BAD_USER_INPUT"


class Unmatched(SourceError):
    """No counterpart of this account is known in this system."""

    code = "ACCOUNT_NOT_LINKED"


class AmbiguousMatch(SourceError):
    """Several counterparts are possible; staff must confirm one (``gateway links``)."""

    code = "ACCOUNT_LINK_AMBIGUOUS"
