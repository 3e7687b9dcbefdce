"""One deadline per request; every wait inside takes from it."""

from asyncio import AbstractEventLoop, CancelledError, Task, TimerHandle, current_task, get_running_loop
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from time import monotonic

DEFAULT_SECONDS = 5.0
"""For work that no request's deadline covers, such as the start-up's own calls."""


ANSWER_PART = 0.25
"""Of the time that is left, what a wait must leave for the call itself and for what is asked because of its answer."""


class _Deadline:
    """``over``: what it was for has ended, so that it binds nobody who still has it in a copied context: work that goes on,
    and a connection's next request, whose reading a server may resume in the context of the one before. No generator, as
    each request and call has one."""

    __slots__ = ("_loop", "_timer", "_token", "_waits", "ends_at", "over", "unhurried")

    def __init__(self, ends_at: float, unhurried: float, over: bool = False) -> None:
        self.ends_at, self.unhurried, self.over = ends_at, unhurried, over
        self._loop: AbstractEventLoop | None = None
        """Known once somebody waits: asking for it is a system call each time (CPython 3.11)."""
        self._timer: TimerHandle | None = None
        """None while nobody has waited yet, and once it has gone off."""
        self._waits: set[in_time] = set()

    def __enter__(self) -> None:
        self._token = _deadline.set(self)

    def __exit__(self, *error: object) -> None:
        self.over = True
        _deadline.reset(self._token)
        self._let_go()

    def begin(self, wait: "in_time") -> "Task[object]":
        """The task that waits."""
        if self._loop is None:
            self._loop = get_running_loop()
        if self._timer is None:
            self._timer = self._loop.call_later(max(0.0, self.ends_at - monotonic()), self._passed)
        task = current_task(self._loop)
        assert task is not None, "only a task can be stopped"
        self._waits.add(wait)
        return task

    def end(self, wait: "in_time") -> None:
        self._waits.discard(wait)
        if self.over:
            self._let_go()

    def _let_go(self) -> None:
        if self._timer is not None and not self._waits:
            self._timer.cancel()
            self._timer = None

    def _passed(self) -> None:
        self._timer = None
        for wait in self._waits:
            wait.stop()


_deadline: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


class in_time:  # noqa: N801 - said as ``with in_time()``
    """What is awaited inside ends with TimeoutError when the deadline passes, as it would in ``asyncio.timeout``. All that
    wait for one deadline share its timer: one of their own each would cost a twelfth of a call."""

    __slots__ = ("_cancelling", "_deadline", "_stopped", "_task")

    def __enter__(self) -> None:
        current = _deadline.get()
        if current is None or current.over:
            ends_at = monotonic() + DEFAULT_SECONDS
            current = _Deadline(ends_at, ends_at, over=True)  # nobody else's
        self._deadline, self._stopped = current, False
        self._task = current.begin(self)
        self._cancelling = self._task.cancelling()

    def stop(self) -> None:
        """The deadline has passed."""
        self._stopped = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._deadline.end(self)
        # Somebody else may have wanted the task to end at the same time: then it ends.
        if self._stopped and self._task.uncancel() <= self._cancelling and kind is CancelledError:
            raise TimeoutError from error


def deadline(
    seconds: float, since: float | None = None, unhurried: float | None = None
) -> AbstractContextManager[None]:
    """All calls made inside must be answered within ``seconds`` from now, or from ``since`` by ``time.monotonic``; an outer,
    earlier deadline stays. ``unhurried``: the seconds that it would be had the client not asked for less."""
    began = monotonic() if since is None else since
    ends_at, others = began + seconds, began + (seconds if unhurried is None else unhurried)
    outer = _deadline.get()
    if outer is not None and not outer.over:
        ends_at, others = min(ends_at, outer.ends_at), min(others, outer.unhurried)
    return _Deadline(ends_at, others)


def shared_deadline() -> AbstractContextManager[None]:
    """For a call that others may wait for as well: one client's hurry does not end it, but whoever asked first has no
    more than the gateway gives."""
    outer, now = _deadline.get(), monotonic()
    ends_at = now + DEFAULT_SECONDS if outer is None or outer.over else outer.unhurried
    return _Deadline(ends_at, ends_at)


@contextmanager
def no_deadline() -> Iterator[None]:
    """What is begun inside is bound by none but its own."""
    token = _deadline.set(None)
    try:
        yield
    finally:
        _deadline.reset(token)


def overrun() -> float:
    """Seconds since the deadline passed; negative before, and where there is none."""
    current = _deadline.get()
    if current is None or current.over:
        return -DEFAULT_SECONDS
    return monotonic() - current.ends_at


def remaining() -> float:
    """Seconds left, never negative."""
    current = _deadline.get()
    if current is None or current.over:
        return DEFAULT_SECONDS
    return max(0.0, current.ends_at - monotonic())


def longest_wait() -> float:
    """Seconds that may pass before a call is made; whoever would wait longer is better told so at once."""
    return remaining() * (1.0 - ANSWER_PART)
