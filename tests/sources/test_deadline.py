"""What waits for a deadline, however many wait: all end in time, and nothing else is ended."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sources.transport.deadline import deadline, in_time, shared_deadline

Ended = list[str]


async def waiting(ended: Ended, name: str, began: asyncio.Event | None = None) -> None:
    try:
        with in_time():
            if began is not None:
                began.set()
            await asyncio.Event().wait()
    except TimeoutError:
        ended.append(name)


async def test_all_that_wait_for_a_deadline_end_when_it_passes() -> None:
    ended: Ended = []
    with deadline(0.05):
        await asyncio.gather(*(waiting(ended, name) for name in "abc"))

    assert sorted(ended) == ["a", "b", "c"]


async def test_who_comes_when_the_deadline_has_passed_ends_at_once() -> None:
    ended: Ended = []
    with deadline(0.05):
        await waiting(ended, "first")
        with deadline(60):  # the outer one stays
            await waiting(ended, "second")
        await waiting(ended, "third")

    assert ended == ["first", "second", "third"]


async def test_an_inner_deadline_ends_what_waits_for_it_alone() -> None:
    ended: Ended = []
    began = asyncio.Event()
    with deadline(60):
        outer = asyncio.create_task(waiting(ended, "outer", began))
        await began.wait()
        with deadline(0.05):
            await waiting(ended, "inner")

    assert ended == ["inner"]
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


@pytest.mark.parametrize("seconds", [(0.05, 0.1, 0.15), (0.15, 0.1, 0.05)])
async def test_each_deadline_ends_its_own_whichever_was_set_first(seconds: tuple[float, ...]) -> None:
    ended: Ended = []

    async def under(own: float) -> None:
        with deadline(own):
            await waiting(ended, str(own))

    await asyncio.gather(*map(under, seconds))

    assert ended == ["0.05", "0.1", "0.15"]


async def test_a_deadline_passes_though_all_that_waited_for_an_earlier_one_have_left() -> None:
    ended: Ended = []
    with deadline(0.1):
        with deadline(0.05), in_time():
            await asyncio.sleep(0)
        await waiting(ended, "later")

    assert ended == ["later"]


def test_each_loop_of_a_thread_has_its_deadlines_pass() -> None:
    ended: Ended = []

    async def one(name: str) -> None:
        with deadline(0.05):
            await waiting(ended, name)

    asyncio.run(one("first"))
    asyncio.run(one("second"))

    assert ended == ["first", "second"]


async def test_what_goes_on_after_the_block_still_ends_by_the_deadline_it_began_under() -> None:
    ended: Ended = []
    began = asyncio.Event()
    with deadline(0.1):
        task = asyncio.create_task(waiting(ended, "left behind", began))
        await began.wait()
    await task

    assert ended == ["left behind"]


async def test_a_caller_in_a_hurry_does_not_end_what_others_wait_for() -> None:
    ended: Ended = []
    with deadline(0.05, unhurried=60):
        with shared_deadline():
            shared = asyncio.create_task(waiting(ended, "shared"))
        await waiting(ended, "hurried")

    assert ended == ["hurried"]
    shared.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shared


async def cancelled_by_another(task: asyncio.Task[None]) -> None:
    task.cancel()


async def cancelled_as_the_deadline_passes(task: asyncio.Task[None]) -> None:
    # Both in one turn of the loop: it has been busy beyond the deadline.
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.1
    while loop.time() < until:
        pass
    loop.call_later(0, task.cancel)


@pytest.mark.parametrize("cancel", [cancelled_by_another, cancelled_as_the_deadline_passes])
async def test_whoever_is_cancelled_is_cancelled_and_not_late(
    cancel: Callable[["asyncio.Task[None]"], Awaitable[None]],
) -> None:
    ended: Ended = []
    began = asyncio.Event()
    with deadline(0.05):
        task = asyncio.create_task(waiting(ended, "late", began))
        await began.wait()
    await cancel(task)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == []


async def test_what_ends_in_time_is_left_alone_when_the_deadline_passes() -> None:
    with deadline(0.05):
        with in_time():
            await asyncio.sleep(0)
        ended: Ended = []
        await waiting(ended, "the other")
        await asyncio.sleep(0)

    assert ended == ["the other"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_task_that_was_late_can_still_be_cancelled() -> None:
    ended: Ended = []
    went_on = asyncio.Event()

    async def late_then_on() -> None:
        await waiting(ended, "late")
        went_on.set()
        await asyncio.Event().wait()

    with deadline(0.05):
        task = asyncio.create_task(late_then_on())
        await went_on.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["late"]
