"""Misbehaviour on demand: slow, hanging, failing, refusing, talking nonsense, spoiling answers or hanging up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, get_args

Spoiled = Literal[
    "html", "truncated", "nested", "malformed_row", "malformed_rows", "missing_id", "duplicate_row"
]
"""Faults of an answer's body: another page altogether, half of it, nothing but beginnings, or one row (or each) that is not as described."""

Kind = Literal["slow", "hang", "fail", "rate_limit", "garbage", "drop"] | Spoiled
KINDS = (*get_args(get_args(Kind)[0]), *get_args(Spoiled))


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    path_prefix: str = "/"
    seconds: float = 1.0
    """How long `slow` waits before it answers as usual."""
    status: int = 500
    """What `fail` answers, in the vendor's own error form."""
    times: int | None = None
    """For how many requests; None until cleared."""
    retry_after: float | None = None
    """What `rate_limit` tells the client, in the vendor's own way; None where it should not say."""
    method: str | None = None
    """Only for this method; None for any."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault kind {self.kind!r} is none of {', '.join(KINDS)}")

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Raises ValueError that names what is wrong with it."""
        if not isinstance(document, Mapping) or "kind" not in document:
            raise ValueError("a fault is a JSON object with at least a kind")
        known: dict[str, Any] = {
            "times": int,
            "status": int,
            "seconds": (int, float),
            "retry_after": (int, float),
        }
        for name, value in document.items():
            if name not in {field.name for field in fields(cls)}:
                raise ValueError(f"a fault has no {name!r}")
            nullable = name in ("times", "retry_after", "method")
            if not (value is None and nullable) and not isinstance(value, known.get(name, str)):
                raise ValueError(f"fault {name}: {value!r} is not usable")
        return cls(**document)


class Faults:
    """Set from any thread. The first fault that fits a request is the one that happens; others wait their turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._generation = 0
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def add(self, kind: Kind, path_prefix: str = "/", **settings: Any) -> None:
        """The settings are Fault's: seconds, status, times, retry_after, method."""
        self.put(Fault(kind, path_prefix, **settings))

    def put(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Requests that a fault holds back go on at once and are answered as usual."""
        with self._lock:
            self._faults.clear()
            self._generation += 1
            for event, loop in self._waiting.items():
                loop.call_soon_threadsafe(event.set)

    def active(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def take(self, method: str, path: str) -> tuple[Fault, int] | None:
        """The fault for this request, counted as used, with the generation that `held` wants to know."""
        if not self._faults:
            return None
        with self._lock:
            for position, fault in enumerate(self._faults):
                if path.startswith(fault.path_prefix) and fault.method in (None, method):
                    if fault.times is not None and fault.times <= 1:
                        del self._faults[position]
                    elif fault.times is not None:
                        self._faults[position] = replace(fault, times=fault.times - 1)
                    return fault, self._generation
            return None

    async def held(self, generation: int, seconds: float | None) -> None:
        """Until the faults are cleared, at most that many seconds; not at all if they were cleared meanwhile."""
        cleared = asyncio.Event()
        with self._lock:
            if generation != self._generation:
                return
            self._waiting[cleared] = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await cleared.wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                del self._waiting[cleared]
