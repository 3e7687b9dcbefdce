"""How long a request may take and how urgent its calls are: by the settings, by who asks, and by what the client asks for.

A client may ask for less time (``X-Request-Timeout: 1.5``, in seconds) and to be served later than others (``Priority:
u=6``, RFC 9218), never for more; and for fresher or older data than usual (``Cache-Control``).
"""

import re
from time import monotonic

import msgspec

from gateway.freshness import demanded
from gateway.http import RequestHeaders
from gateway.settings import Door
from permissions.principal import Principal
from sources.layers.cache.freshness import ANY, Demand
from sources.transport.caller import Caller, Urgency
from sources.transport.deadline import Deadline, deadline

TIMEOUT, PRIORITY = "x-request-timeout", "priority"
_WISHES = {TIMEOUT.encode(), PRIORITY.encode(), b"cache-control"}

# Once: an enum looks its members up in Python (CPython 3.11).
_INTERACTIVE, _DASHBOARD = Urgency.INTERACTIVE, Urgency.DASHBOARD

_URGENCY = re.compile(r"(?:^|,)\s*u=([0-7])\s*(?:$|[,;])")


class Wishes(msgspec.Struct, frozen=True):
    """What the client asks for."""

    began: float
    """By ``time.monotonic``: the time runs from here."""
    seconds: float | None = None
    urgency: Urgency = _INTERACTIVE
    freshness: Demand = ANY


class BadWish(ValueError):
    """A header that cannot be understood; the message names it."""


def wishes(headers: RequestHeaders) -> Wishes:
    """Raises BadWish for a time that is none. A priority that cannot be read is ignored, as its RFC wants it."""
    began = monotonic()
    if _WISHES.isdisjoint(headers.first):
        return Wishes(began)
    text, priority = headers.get(TIMEOUT), headers.get(PRIORITY)
    freshness = demanded(headers)
    seconds = None
    if text is not None:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text.strip()) or not float(text):
            raise BadWish("X-Request-Timeout: a number of seconds above 0, such as 2.5")
        seconds = float(text)
    return Wishes(began, seconds, _urgency(priority or ""), freshness)


def signing_in(door: Door, wished: Wishes) -> Deadline:
    """The same for what is done before anybody knows which operation it is for."""
    seconds = door.deadline if wished.seconds is None else min(door.deadline, wished.seconds)
    return deadline(seconds, wished.began)


def terms(
    door: Door, principal: Principal, operation: str | None, wished: Wishes | None
) -> tuple[Deadline, Caller]:
    """When what is done must have ended, and for whom its calls are. ``operation``: its name."""
    seconds, organisation = door.deadline, principal.organisation
    urgency = _DASHBOARD if organisation is None else _INTERACTIVE
    if operation is not None:
        seconds = door.deadlines.get(operation, seconds)
        if operation in door.priorities:
            urgency = max(urgency, Urgency[door.priorities[operation].upper()])
    if wished is None:
        return deadline(seconds), (urgency, organisation)
    hurried = seconds if wished.seconds is None else min(seconds, wished.seconds)
    return deadline(hurried, wished.began, seconds), (max(urgency, wished.urgency), organisation)


def _urgency(priority: str) -> Urgency:
    """Browsers send up to u=3 of their own accord, for what a page waits for."""
    found = _URGENCY.search(priority)
    wanted = int(found[1]) if found else 3
    if wanted <= 3:
        return _INTERACTIVE
    return _DASHBOARD if wanted <= 5 else Urgency.BACKGROUND
