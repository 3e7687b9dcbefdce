"""A vendor's rate limits: so many calls in so many seconds, so many at a time, per whatever the vendor counts by."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from starlette.types import Scope


def everyone(scope: Scope) -> str:
    """One bucket for all callers."""
    return ""


def by_header(name: str) -> Callable[[Scope], str]:
    """A bucket per value of a request header, such as authorization or xero-tenant-id."""
    wanted = name.lower().encode()

    def bucket(scope: Scope) -> str:
        return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")

    return bucket


@dataclass(frozen=True, slots=True)
class Limit:
    """`calls` per `seconds`, or `concurrent` at a time, or both; None switches that part off."""

    name: str
    calls: int | None = None
    seconds: float = 1.0
    concurrent: int | None = None
    bucket: Callable[[Scope], str | None] = everyone
    """What the vendor counts by; None where this limit does not count the request."""
    fixed: bool = False
    """A window that starts with its first call and empties at once, rather than one that slides."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a caller stands with one limit, this request counted."""

    limit: Limit
    remaining: int | None
    """None where calls are not limited."""
    resets_in: float
    """Seconds until a call (or, in a fixed window, every call) is given back."""


@dataclass(frozen=True, slots=True)
class OverLimit:
    limit: Limit | None
    """None where a fault demanded the refusal rather than a limit."""
    retry_after: float | None
    """Seconds; None where it is concurrency that ran out, or where the fault does not say."""


class RateLimits:
    """A refused request is not counted. Settings may be changed from any thread while requests run."""

    def __init__(self, limits: Iterable[Limit] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = {limit.name: limit for limit in limits}
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], deque[float]] = {}
        self._running: dict[tuple[str, str], int] = {}

    def limits(self) -> list[Limit]:
        return list(self._limits.values())

    def set(
        self, name: str, calls: int | None = None, seconds: float | None = None, concurrent: int | None = None
    ) -> None:
        """Replaces that limit's numbers and forgets what was counted; None switches off. KeyError if unknown."""
        with self._lock:
            limit = self._limits[name]
            self._limits[name] = replace(
                limit, calls=calls, seconds=seconds or limit.seconds, concurrent=concurrent
            )
            for key in [key for key in self._calls if key[0] == name]:
                del self._calls[key]

    def set_from_json(self, document: object) -> None:
        """{"name": ..., "calls": ..., "seconds": ..., "concurrent": ...}. ValueError says what is wrong."""
        if not isinstance(document, Mapping) or document.get("name") not in self._limits:
            raise ValueError(f"name one of the limits: {', '.join(self._limits) or 'this sandbox has none'}")
        numbers = {name: value for name, value in document.items() if name != "name"}
        if unknown := set(numbers) - {"calls", "seconds", "concurrent"}:
            raise ValueError(f"a limit has no {', '.join(sorted(unknown))}")
        for name, value in numbers.items():
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
            ):
                raise ValueError(f"limit {name}: {value!r} is not a number above 0")
        self.set(document["name"], **numbers)

    def enter(self, scope: Scope) -> tuple[OverLimit | None, list[tuple[str, str]], list[Allowance]]:
        """The refusal if any, else the slots to give to `leave`, and how the caller stands with every limit."""
        if not self._limits:
            return None, [], []
        with self._lock:
            now = self._clock()
            counted = [
                (limit, (limit.name, bucket))
                for limit in self._limits.values()
                if (bucket := limit.bucket(scope)) is not None
            ]
            for limit, key in counted:
                if limit.concurrent is not None and self._running.get(key, 0) >= limit.concurrent:
                    return OverLimit(limit, None), [], []
                calls = self._in_window(limit, key, now)
                if limit.calls is not None and len(calls) >= limit.calls:
                    return OverLimit(limit, max(0.0, calls[0] + limit.seconds - now)), [], []
            standing: list[Allowance] = []
            for limit, key in counted:
                self._running[key] = self._running.get(key, 0) + 1
                calls = self._in_window(limit, key, now)
                if limit.calls is None:
                    standing.append(Allowance(limit, None, 0.0))
                    continue
                calls.append(now)
                standing.append(Allowance(limit, limit.calls - len(calls), calls[0] + limit.seconds - now))
            return None, [key for _, key in counted], standing

    def leave(self, slots: Iterable[tuple[str, str]]) -> None:
        with self._lock:
            for key in slots:
                self._running[key] -= 1

    def _in_window(self, limit: Limit, key: tuple[str, str], now: float) -> deque[float]:
        """When the counted calls came, without those that no longer count."""
        calls = self._calls.setdefault(key, deque())
        if limit.fixed:
            if calls and calls[0] <= now - limit.seconds:
                calls.clear()
        else:
            while calls and calls[0] <= now - limit.seconds:
                calls.popleft()
        return calls
