"""One deadline per request; every wait inside takes from it."""

import threading
from asyncio import AbstractEventLoop, CancelledError, TimerHandle, current_task, get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from math import inf
from time import monotonic

import msgspec

DEFAULT_SECONDS = 5.0
"""For work that no request's deadline covers, such as the start-up's own calls."""


ANSWER_PART = 0.25
"""Of the time that is left, what a wait must leave for the call itself and for what is asked because of its answer."""


TICK_SECONDS = 0.001
"""Timers are no finer: one may go off so much early."""


class _Alarm:
    """Of one loop: a single timer for all that wait, which goes off when the first of them should end. One for each deadline
    would cost a request 30,000 instructions, as nearly all end long before it."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.waits: set[in_time] = set()
        self.rings_at = inf
        """It is left as it is when those leave that it was set for: then it rings for nobody, once."""
        self._timer: TimerHandle | None = None

    def ring_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.rings_at = moment
        # In a context of its own: it outlives the request that it was set for.
        self._timer = self.loop.call_later(max(0.0, moment - monotonic()), self._ring, context=Context())

    def _ring(self) -> None:
        self._timer, self.rings_at = None, inf
        now = monotonic() + TICK_SECONDS
        for wait in [wait for wait in self.waits if wait.ends_at <= now]:
            self.waits.remove(wait)
            wait.stop()
        if self.waits:
            self.ring_at(min(wait.ends_at for wait in self.waits))


class _Here(threading.local):
    alarm: _Alarm | None = None


_here = _Here()


def _alarm() -> _Alarm:
    alarm = _here.alarm
    # Not by get_running_loop, which is a system call each time (CPython 3.11).
    if alarm is None or not alarm.loop.is_running():
        alarm = _here.alarm = _Alarm(get_running_loop())
    return alarm


class Deadline(msgspec.Struct, eq=False):
    """Binds what is done inside, said as ``with deadline(...)``. No generator, as each request and call has one."""

    ends_at: float
    unhurried: float
    over: bool = False
    """What it was for has ended, so that it binds nobody who still has it in a copied context: work that goes on, and a
    connection's next request, whose reading a server may resume in the context of the one before."""
    alarm: _Alarm | None = None
    """Known once somebody waits."""
    _outer: Token["Deadline | None"] | None = None

    def begin(self) -> None:
        """As the block does, which takes a request three times as long."""
        self._outer = _deadline.set(self)

    def end(self) -> None:
        """Of what was begun."""
        assert self._outer is not None
        self.over = True
        _deadline.reset(self._outer)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *error: object) -> None:
        self.end()


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class in_time:  # noqa: N801 - said as ``with in_time()``
    """What is awaited inside ends with TimeoutError when the deadline passes, as it would in ``asyncio.timeout``, which
    would cost a twelfth of a call."""

    __slots__ = ("_alarm", "_cancelling", "_stopped", "_task", "ends_at")

    def __enter__(self) -> None:
        current = _deadline.get()
        if current is None or current.over:
            ends_at = monotonic() + DEFAULT_SECONDS
            current = Deadline(ends_at, ends_at, over=True)  # nobody else's
        alarm = current.alarm
        if alarm is None:
            alarm = current.alarm = _alarm()
        ends_at = self.ends_at = current.ends_at
        task = current_task(alarm.loop)
        assert task is not None, "only a task can be stopped"
        self._alarm, self._task, self._stopped = alarm, task, False
        self._cancelling = task.cancelling()
        alarm.waits.add(self)
        if ends_at < alarm.rings_at:
            alarm.ring_at(ends_at)

    def stop(self) -> None:
        """The deadline has passed."""
        self._stopped = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._alarm.waits.discard(self)
        # Somebody else may have wanted the task to end at the same time: then it ends.
        if self._stopped and self._task.uncancel() <= self._cancelling and kind is CancelledError:
            raise TimeoutError from error


def deadline(seconds: float, since: float | None = None, unhurried: float | None = None) -> Deadline:
    """All calls made inside must be answered within ``seconds`` from now, or from ``since`` by ``time.monotonic``; an outer,
    earlier deadline stays. ``unhurried``: the seconds that it would be had the client not asked for less."""
    began = monotonic() if since is None else since
    ends_at, others = began + seconds, began + (seconds if unhurried is None else unhurried)
    outer = _deadline.get()
    if outer is not None and not outer.over:
        ends_at, others = min(ends_at, outer.ends_at), min(others, outer.unhurried)
    return Deadline(ends_at, others)


def shared_deadline() -> Deadline:
    """For a call that others may wait for as well: one client's hurry does not end it, but whoever asked first has no
    more than the gateway gives."""
    outer, now = _deadline.get(), monotonic()
    ends_at = now + DEFAULT_SECONDS if outer is None or outer.over else outer.unhurried
    return Deadline(ends_at, ends_at)


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
