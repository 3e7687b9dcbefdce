"""What a request does and how long each part takes, noted where it happens; where nobody looks, nothing is noted.

Names are ours and numbers are counts: no id of a record, no question, nothing that is anybody's goes into a span.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from sources.ports.errors import SourceError

MOST_SPANS = 500
"""Of one trace; those beyond are counted."""

Number = str | int | float | bool | None
"""What a span may say: a count, a time, or a word of ours."""


class Link:
    """A span of another trace, by the ids that it leaves the process under."""

    __slots__ = ("span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int) -> None:
        self.trace_id, self.span_id = trace_id, span_id


class Span:
    """One part of the work, under way until its block is left. Times are ``perf_counter``'s."""

    __slots__ = (
        "_token",
        "began",
        "ended",
        "error",
        "id",
        "kind",
        "link",
        "name",
        "numbers",
        "parent",
        "trace",
    )

    def __init__(self, trace: "Trace", id_: int, parent: int | None, kind: str, name: str) -> None:
        self.trace, self.id, self.parent, self.kind, self.name = trace, id_, parent, kind, name
        self.numbers: dict[str, Number] = {}
        self.began = time.perf_counter()
        self.ended: float | None = None
        self.error: str | None = None
        self.link: Link | None = None
        self._token: Token[Span | None] | None = None

    def note(self, **numbers: Number) -> None:
        """More about it."""
        self.numbers.update(numbers)

    def spent(self, source: str, points: int = 1) -> None:
        """So much of a vendor's allowance."""
        self.trace.cost[source] += points

    def failed(self, error: BaseException | str) -> None:
        """With one of our codes, never with words."""
        self.error = error if isinstance(error, str) else code_of(error)

    @property
    def external_id(self) -> int:
        """Under which it leaves the process: 64 bits, never 0."""
        return (self.trace.seed + self.id) & (2**64 - 1) or 1

    @property
    def outside(self) -> Link | None:
        """As others may refer to it; None where it does not leave the process."""
        return None if self.trace.trace_id is None else Link(self.trace.trace_id, self.external_id)

    def traceparent_to(self, source: str) -> str | None:
        """What a call names it by (W3C Trace Context); None where the source is not told."""
        if self.trace.trace_id is None or source not in self.trace.told_to:
            return None
        return f"00-{self.trace.trace_id:032x}-{self.external_id:016x}-01"

    def __enter__(self) -> Self:
        self._token = _here.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = time.perf_counter()
        if error is not None and self.error is None:
            self.failed(error)
        if self._token is not None:
            token, self._token = self._token, None
            with suppress(ValueError):  # left in another context than entered: a generator that was given up
                _here.reset(token)


class _Unseen(Span):
    """In a span's place where nobody looks, or where there are too many."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def note(self, **numbers: Number) -> None:
        return None

    def spent(self, source: str, points: int = 1) -> None:
        return None

    def failed(self, error: BaseException | str) -> None:
        return None

    def traceparent_to(self, source: str) -> str | None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


UNSEEN: Span = _Unseen()


class Trace:
    """Of one request. What is begun after it was closed, by work that outlives it, is not noted."""

    __slots__ = (
        "_closed",
        "began_at",
        "cost",
        "dropped",
        "outer",
        "said",
        "seed",
        "spans",
        "told_to",
        "trace_id",
    )

    def __init__(
        self,
        trace_id: int | None = None,
        outer: int | None = None,
        told_to: frozenset[str] = frozenset(),
    ) -> None:
        """``trace_id``: under which it leaves this process, None where it stays. ``outer``: the caller's span that it is a
        part of. ``told_to``: the sources whose calls name it."""
        self.trace_id, self.outer, self.told_to = trace_id, outer, told_to
        self.seed = random.getrandbits(64) if trace_id is not None else 0
        self.began_at = time.time() - time.perf_counter()
        """Unix time at which ``perf_counter`` was 0."""
        self.spans: list[Span] = []
        self.cost: Counter[str] = Counter()
        """What vendors were asked for, by source, in calls or in the vendor's own points."""
        self.said: dict[str, object] = {}
        """Of the operation as a whole."""
        self.dropped = 0
        """Spans beyond the bound."""
        self._closed = False

    def begin(self, kind: str, name: str, parent: Span | None = None) -> Span:
        """Under way from now on; entered by whoever wants what is done inside to be a part of it."""
        if self._closed:
            return UNSEEN
        if len(self.spans) >= MOST_SPANS:
            self.dropped += 1
            return UNSEEN
        span = Span(self, len(self.spans) + 1, parent.id if parent is not None else None, kind, name)
        self.spans.append(span)
        return span

    @property
    def closed(self) -> bool:
        """Is its request answered?"""
        return self._closed

    def close(self) -> list[Span]:
        """All its spans, which it lets go of: contexts that outlive the request hold on to the trace."""
        self._closed = True
        spans, self.spans = self.spans, []
        return spans


_here: ContextVar[Span | None] = ContextVar("span", default=None)

here = _here.get
"""The span that is under way; None: nobody looks."""


def span(kind: str, name: str, **numbers: Number) -> Span:
    """A part of what is under way, to be entered."""
    at = _here.get()
    if at is None:
        return UNSEEN
    begun = at.trace.begin(kind, name, at)
    if numbers:
        begun.note(**numbers)
    return begun


@contextmanager
def unseen() -> Iterator[None]:
    """What is begun inside belongs to no request: nobody waits for it."""
    token = _here.set(None)
    try:
        yield
    finally:
        _here.reset(token)


def code_of(error: BaseException) -> str:
    """Ours for a failure, whatever it says of itself."""
    if isinstance(error, SourceError):
        return error.code
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"
