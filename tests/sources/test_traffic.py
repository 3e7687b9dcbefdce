"""Retries, breakers and vendors' limits, against sandboxes on real sockets that count the calls they get."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count

import msgspec
import pytest
from starlette.requests import Request as Incoming
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sources.ports.errors import (
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceTimeout,
    SourceUnavailable,
)
from sources.sandbox.allowance import Limit as Counted
from sources.sandbox.server import RateLimits, Sandbox, serve
from sources.transport import breaker, budget
from sources.transport.breaker import FIRST_PAUSE
from sources.transport.caller import Urgency, calling_for
from sources.transport.deadline import deadline
from sources.transport.http import Answer, HttpClient, NoAuth
from sources.transport.limits import Limit, Reading, SourceSettings, number
from sources.transport.traffic import Traffic
from sources.transport.windows import Window

LOOPBACK = SourceSettings(private_addresses=("127.0.0.1",))


def read(endpoint: str, answer: Answer, error: SourceError | None) -> Iterable[Reading]:
    if "x-remaining" in answer.headers:
        yield Reading(
            "minute",
            calls=number(answer.headers.get("x-limit")),
            remaining=number(answer.headers["x-remaining"]),
        )


class Vendor:
    """A sandbox and clients of it."""

    def __init__(self, sandbox: Sandbox, url: str) -> None:
        self.sandbox, self.url = sandbox, url
        self.clients: list[HttpClient] = []

    def client(
        self, *limits: Limit, parallel: int = 64, settings: SourceSettings = LOOPBACK
    ) -> tuple[HttpClient, Traffic]:
        traffic = Traffic("vendor", parallel=parallel, limits=limits, settings=settings, read=read)
        client = HttpClient("vendor", self.url, auth=NoAuth(), traffic=traffic)
        self.clients.append(client)
        return client, traffic

    @property
    def calls(self) -> int:
        return self.sandbox.log.count()


async def _fine(request: Incoming) -> Response:
    return JSONResponse({})


FINE = Route("/{path:path}", _fine, methods=["GET", "POST"])


@asynccontextmanager
async def vendor(*routes: Route) -> AsyncIterator[Vendor]:
    sandbox = Sandbox("vendor", [*routes, FINE])
    async with serve(sandbox) as running:
        one = Vendor(sandbox, running.url)
        try:
            yield one
        finally:
            for client in one.clients:
                await client.close()


async def outcome(client: HttpClient, path: str = "/", **options: object) -> Answer | SourceError:
    try:
        return await client.call("GET", path, **options)  # type: ignore[arg-type]
    except SourceError as error:
        return error


PAGE = msgspec.json.Decoder(dict[str, list[dict[str, str]]])


@asynccontextmanager
async def answering(*bodies: bytes) -> AsyncIterator[tuple[HttpClient, Traffic, list[bytes]]]:
    """A client of a vendor that says these by turns, and what it says from now on."""
    said, turns = list(bodies), count()

    async def next_one(request: Incoming) -> Response:
        return Response(said[next(turns) % len(said)], media_type="application/json")

    async with vendor(Route("/", next_one)) as one:
        yield *one.client(), said


# -- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{"kind": "fail", "status": 500}, {"kind": "fail", "status": 503}, {"kind": "drop"}]
)
async def test_a_read_that_fails_once_is_made_again(fault: dict[str, object]) -> None:
    async with vendor() as one:
        client, _ = one.client()
        one.sandbox.faults.add(fault.pop("kind"), times=1, **fault)  # type: ignore[arg-type]

        assert (await client.call("GET", "/")).status == 200

    assert one.calls == 2


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    seen = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        await reader.readuntil(b"\r\n\r\n")
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue"
        writer.write(whole if seen == 2 else whole[:-2])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    one = Vendor(Sandbox("vendor", []), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    client, _ = one.client()
    try:
        assert (await client.call("GET", "/")).body == b"true"
    finally:
        await client.close()
        server.close()

    assert seen == 2


@pytest.mark.parametrize(("idempotent", "calls"), [(False, 1), (True, 2)])
async def test_a_post_is_made_again_only_where_the_connector_calls_it_idempotent(
    idempotent: bool, calls: int
) -> None:
    async with vendor() as one:
        client, _ = one.client()
        one.sandbox.faults.add("fail", times=1)
        try:
            await client.call("POST", "/", json={}, idempotent=idempotent)
        except SourceUnavailable:
            assert not idempotent

    assert one.calls == calls


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_what_would_fail_again_is_not_tried_again(status: int) -> None:
    async with vendor() as one:
        client, _ = one.client()
        one.sandbox.faults.add("fail", status=status)

        assert isinstance(await outcome(client), SourceError)

    assert one.calls == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_vendor_that_says_when_to_come_back_is_not_asked_before(form: str, status: int) -> None:
    moments: list[float] = []

    async def busy(request: Incoming) -> Response:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) > 1:
            return JSONResponse({})
        when = datetime.now(UTC) + timedelta(seconds=2)
        told = "1" if form == "seconds" else format_datetime(when, usegmt=True)
        return Response(status_code=status, headers={"Retry-After": told})

    async with vendor(Route("/busy", busy)) as one:
        client, _ = one.client()
        answer = await client.call("GET", "/busy")

    assert answer.status == 200
    assert moments[1] - moments[0] >= 0.9


async def test_nothing_is_tried_again_that_would_come_after_the_deadline() -> None:
    async with vendor() as one:
        client, _ = one.client()
        one.sandbox.faults.add("rate_limit", retry_after=30)
        error = await outcome(client)

    assert (type(error), one.calls) == (SourceRateLimited, 1)
    assert isinstance(error, SourceRateLimited)
    assert error.retry_after == 30.0


@pytest.mark.parametrize("together", [1, 10, 200])
async def test_an_outage_multiplies_calls_by_no_more_than_a_fifth(together: int) -> None:
    asked = 400
    async with vendor() as one:
        # Without its breaker, which would keep nearly all of them away.
        settings = SourceSettings(private_addresses=("127.0.0.1",), breaker_failures=10**9)
        client, _ = one.client(settings=settings)
        await asyncio.gather(*(client.call("GET", "/") for _ in range(50)))
        one.sandbox.log.clear()
        one.sandbox.faults.add("fail", status=503)
        with deadline(60):
            for _ in range(asked // together):
                await asyncio.gather(*(outcome(client) for _ in range(together)))

    assert asked < one.calls <= 1.2 * asked


# -- circuit breaker --------------------------------------------------------------------------------------------------


async def test_a_source_that_fails_is_left_alone_then_tried_by_one_call_and_used_again() -> None:
    async with vendor() as one:
        client, traffic = one.client()
        one.sandbox.faults.add("fail", status=503)
        while traffic.state().trouble is None:
            await outcome(client)
        before = one.calls

        refused = await asyncio.gather(*(outcome(client) for _ in range(20)))
        assert {type(error).__mro__[1] for error in refused} == {SourceUnavailable}
        assert all(isinstance(error, SourceError) and error.retry_after for error in refused)
        assert one.calls == before

        [endpoint] = traffic.state().endpoints
        assert endpoint.breaker == "open"
        await asyncio.sleep(endpoint.retry_after or 0)
        assert traffic.state().endpoints[0].breaker == "half-open"
        await asyncio.gather(*(outcome(client) for _ in range(20)))
        assert one.calls == before + 1  # the probe fails, nobody else is sent after it

        one.sandbox.faults.clear()
        await asyncio.sleep(traffic.state().endpoints[0].retry_after or 0)
        assert (await client.call("GET", "/")).status == 200
        assert traffic.state().trouble is None
        assert [type(one) for one in await asyncio.gather(*(outcome(client) for _ in range(20)))] == [
            Answer
        ] * 20


@pytest.mark.parametrize("body", [b"<html>Down for maintenance</html>", b'{"results":[{"id":"1","pr', b""])
async def test_a_source_whose_pages_cannot_be_read_is_left_alone_until_one_can(body: bytes) -> None:
    async with answering(body) as (client, traffic, said):
        for _ in range(5):
            assert traffic.state().trouble is None
            with pytest.raises(SourceBadResponse):
                client.decode(await client.call("GET", "/"), PAGE)
        [first] = traffic.state().endpoints
        assert (first.breaker, first.opened) == ("open", 1)

        await asyncio.sleep(first.retry_after or 0)
        with pytest.raises(SourceBadResponse):
            client.decode(await client.call("GET", "/"), PAGE)
        [second] = traffic.state().endpoints
        assert (second.breaker, second.opened) == ("open", 1)
        assert (second.retry_after or 0) > FIRST_PAUSE

        said[:] = [b"{}"]
        await asyncio.sleep(second.retry_after or 0)
        client.decode(await client.call("GET", "/"), PAGE)
        assert traffic.state().trouble is None


def test_a_slow_try_whose_page_cannot_be_read_does_not_leave_the_source_open_to_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(breaker, "monotonic", lambda: now)
    one = breaker.Breaker("vendor", fewest=1)
    one.ended(one.admit(), False)
    now += FIRST_PAUSE
    slow = one.admit()
    now += breaker.PROBE_SECONDS
    next_one = one.admit()

    one.ended(slow, True)
    one.ended_badly(slow)  # as its page is read
    assert (one.state, one.opened) == ("open", 1)
    with pytest.raises(breaker.CircuitOpen):
        one.admit()

    one.ended(next_one, True)
    assert one.state == "closed"


async def test_a_page_of_another_form_is_an_answer_and_opens_no_breaker() -> None:
    async with answering(b"[]") as (client, traffic, _):
        for _ in range(20):
            with pytest.raises(SourceBadResponse):
                client.decode(await client.call("GET", "/"), PAGE)

    assert traffic.state().trouble is None


async def test_pages_that_can_be_read_keep_a_few_that_cannot_from_opening_a_breaker() -> None:
    async with answering(b"{}", b"{}", b"no") as (client, traffic, _):
        for _ in range(40):
            with suppress(SourceBadResponse):
                client.decode(await client.call("GET", "/"), PAGE)

    assert traffic.state().trouble is None


async def test_one_endpoint_class_that_fails_leaves_the_others_open() -> None:
    async with vendor() as one:
        client, traffic = one.client()
        one.sandbox.faults.add("fail", "/search")
        while traffic.state().trouble is None:
            await outcome(client, "/search", endpoint="search")

        assert isinstance(await outcome(client, "/other"), Answer)

    assert traffic.state().trouble == "failing (search): circuit open"


async def test_callers_in_a_hurry_and_bad_requests_open_no_breaker() -> None:
    async with vendor() as one:
        client, _ = one.client()
        one.sandbox.faults.add("hang", "/slow")
        one.sandbox.faults.add("fail", "/bad", status=400)
        for _ in range(20):
            with deadline(0.01):
                assert type(await outcome(client, "/slow")) is SourceTimeout
            await outcome(client, "/bad")

        assert isinstance(await outcome(client), Answer)


async def test_all_that_went_well_before_does_not_keep_a_source_that_ended_from_being_left_alone() -> None:
    async with vendor() as one:
        client, traffic = one.client()
        one.sandbox.faults.add("fail", status=503, times=1)
        await asyncio.gather(*(outcome(client) for _ in range(150)))
        one.sandbox.log.clear()
        one.sandbox.faults.add("fail", status=503)
        while traffic.state().trouble is None:
            await outcome(client)

    assert one.calls <= 20


async def test_a_try_that_is_never_answered_does_not_keep_a_source_away_that_is_back() -> None:
    async with vendor() as one:
        client, traffic = one.client()
        one.sandbox.faults.add("fail", "/", status=503)
        while traffic.state().trouble is None:
            await outcome(client)
        one.sandbox.faults.clear()
        one.sandbox.faults.add("hang", "/lost")

        async def lost() -> object:
            with deadline(60):
                return await outcome(client, "/lost")

        loop, trying = asyncio.get_running_loop(), []
        async with asyncio.timeout(10):
            while not one.sandbox.log.calls(path_prefix="/lost"):
                trying.append(asyncio.create_task(lost()))
                await asyncio.sleep(0.05)
            began = loop.time()
            while not isinstance(await outcome(client), Answer):
                await asyncio.sleep(0.05)
        took = loop.time() - began
        waiting = [task for task in trying if not task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

        assert len(waiting) == 1
        assert took < 5
        assert isinstance(await outcome(client), Answer)  # that it was given up says nothing


async def test_a_probe_whose_caller_leaves_lets_the_next_one_try() -> None:
    async with vendor() as one:
        client, traffic = one.client()
        one.sandbox.faults.add("fail")
        while traffic.state().trouble is None:
            await outcome(client)
        one.sandbox.faults.clear()
        one.sandbox.faults.add("hang", times=1)
        await asyncio.sleep(traffic.state().endpoints[0].retry_after or 0)
        before = one.calls
        probe = asyncio.create_task(outcome(client))
        while one.calls == before:
            await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

        assert isinstance(await outcome(client), Answer)


# -- limits -----------------------------------------------------------------------------------------------------------

MINUTE = Limit("minute", calls=20)


async def test_calls_beyond_a_limit_that_cannot_wait_are_refused_at_once_with_the_time_to_wait() -> None:
    async with vendor() as one:
        client, _ = one.client(MINUTE)
        with calling_for(Urgency.INTERACTIVE):
            outcomes = await asyncio.gather(*(outcome(client) for _ in range(50)))

    refused = [error for error in outcomes if isinstance(error, SourceRateLimited)]
    assert (one.calls, len(refused)) == (20, 30)
    assert all(error.retry_after is not None and 50 < error.retry_after < 70 for error in refused)


async def test_a_wait_that_leaves_no_time_for_the_answer_is_refused_at_once() -> None:
    async with vendor() as one:
        one.sandbox.faults.add("rate_limit", retry_after=4, times=1)
        client, _ = one.client(MINUTE)
        for seconds in (2, 4.2):  # the vendor says four
            with deadline(seconds):
                assert type(await outcome(client)) is SourceRateLimited
        assert one.calls == 1

        with deadline(60):
            assert isinstance(await outcome(client), Answer)


async def test_whoever_comes_for_a_place_when_its_time_is_over_is_late_and_not_one_too_many() -> None:
    async with vendor() as one:
        one.sandbox.faults.add("hang")
        client, _ = one.client(MINUTE, parallel=1)
        first = asyncio.create_task(outcome(client))
        while not one.calls:
            await asyncio.sleep(0.01)
        with deadline(0):
            assert type(await outcome(client)) is SourceTimeout
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_calls_that_can_wait_do_and_none_is_one_too_many() -> None:
    async with vendor() as one:
        # The vendor counts calls when they arrive, and a busy machine brings them closer together than they left.
        one.sandbox.limits = RateLimits([Counted("second", calls=10, seconds=0.5)])
        client, _ = one.client(Limit("second", calls=10, seconds=0.8))
        with deadline(30), calling_for(Urgency.INTERACTIVE):
            outcomes = await asyncio.gather(*(outcome(client) for _ in range(45)))

    assert [type(one) for one in outcomes] == [Answer] * 45
    assert {call.status for call in one.sandbox.log.calls()} == {200}


async def test_less_urgent_calls_leave_a_reserve_to_the_more_urgent() -> None:
    async with vendor() as one:
        client, _ = one.client(MINUTE)
        done = {}
        for urgency in (Urgency.BACKGROUND, Urgency.DASHBOARD, Urgency.INTERACTIVE):
            with calling_for(urgency):
                outcomes = await asyncio.gather(*(outcome(client) for _ in range(30)))
            done[urgency] = sum(isinstance(one, Answer) for one in outcomes)

    assert done == {Urgency.BACKGROUND: 10, Urgency.DASHBOARD: 6, Urgency.INTERACTIVE: 4}


async def test_one_organisation_cannot_use_up_a_limit_alone() -> None:
    async with vendor() as one:
        client, _ = one.client(MINUTE)
        done = []
        for organisation in ("loop", "other", "third"):
            with calling_for(Urgency.INTERACTIVE, organisation):
                outcomes = await asyncio.gather(*(outcome(client) for _ in range(30)))
            done.append(sum(isinstance(one, Answer) for one in outcomes))

    assert done == [10, 6, 4]


async def test_an_organisation_that_goes_on_calling_is_not_forgotten_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "KEPT_ORGANISATIONS", 2)
    async with vendor() as one:
        client, _ = one.client(MINUTE)
        done = []
        for organisation in ("loop",) * 9 + ("one", "loop", "other", "loop"):
            with calling_for(Urgency.INTERACTIVE, organisation):
                done.append(isinstance(await outcome(client), Answer))

    assert done == [True] * 12 + [False]


async def test_the_urgent_go_first_and_organisations_take_turns() -> None:
    served: list[str] = []
    gate = asyncio.Event()

    async def held(request: Incoming) -> Response:
        served.append(request.query_params["who"])
        await gate.wait()
        return JSONResponse({})

    async with vendor(Route("/held", held)) as one:
        client, traffic = one.client(parallel=1)

        async def ask(who: str, urgency: Urgency) -> None:
            with deadline(30), calling_for(urgency, who):
                await client.call("GET", "/held", params=[("who", who)])

        asking = [asyncio.create_task(ask("first", Urgency.INTERACTIVE))]
        while not served:
            await asyncio.sleep(0)
        order = [("night", Urgency.BACKGROUND)] * 2 + [("staff", Urgency.DASHBOARD)] * 2
        order += [("loop", Urgency.INTERACTIVE)] * 4 + [("other", Urgency.INTERACTIVE)] * 2
        for who, urgency in order:
            asking.append(asyncio.create_task(ask(who, urgency)))
            await asyncio.sleep(0)
        while traffic.state().waiting < len(order):
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*asking)

    assert served == [
        "first",
        "loop",
        "other",
        "loop",
        "other",
        "loop",
        "loop",
        "staff",
        "staff",
        "night",
        "night",
    ]


async def test_whoever_stops_waiting_keeps_no_place() -> None:
    async with vendor() as one:
        client, traffic = one.client(parallel=2)
        one.sandbox.faults.add("hang", times=2)
        random.seed(7)
        hanging = [asyncio.create_task(outcome(client)) for _ in range(2)]
        while one.calls < 2:
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(outcome(client)) for _ in range(20)]
        while traffic.state().waiting < 20:
            await asyncio.sleep(0)
        one.sandbox.faults.clear()
        for task in random.sample(waiting, 10) + hanging[:1]:
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*waiting, *hanging, return_exceptions=True)

        state = traffic.state()
        assert (state.waiting, [(limit.limit, limit.used) for limit in state.limits]) == (
            0,
            [("parallel", 0)],
        )
        assert isinstance(await outcome(client), Answer)


async def test_a_vendor_that_refuses_is_not_asked_by_anybody_before_its_time() -> None:
    async with vendor() as one:
        client, traffic = one.client(MINUTE)
        one.sandbox.faults.add("rate_limit", retry_after=30, times=1)
        outcomes = [await outcome(client) for _ in range(5)]

    assert one.calls == 1
    assert all(
        isinstance(error, SourceRateLimited) and 25 < (error.retry_after or 0) <= 30 for error in outcomes
    )
    assert traffic.state().trouble == "over its limit (minute) for 30 s more"


@pytest.mark.parametrize(
    ("told", "most"),
    [
        ("9" * 18, 86_400),
        ("1e308", 1),
        ("9" * 5000, 1),
        ("-5", 1),
        ("nan", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Mon, 1 Jan 99999999999999999999 00:00:00 GMT", 1),
        ("Thu, 1 Jan 1970 00:00:00 +99999999999999999999", 1),
    ],
)
async def test_a_vendor_that_talks_nonsense_of_time_is_left_alone_for_a_day_at_most(
    told: str, most: float
) -> None:
    async def refuses(request: Incoming) -> Response:
        return JSONResponse(
            {}, 429, headers={"Retry-After": told, "X-Limit": "9" * 5000, "X-Remaining": "7" * 19}
        )

    async with vendor(Route("/refuses", refuses)) as one:
        client, _ = one.client(MINUTE)
        with deadline(0.5), calling_for(Urgency.INTERACTIVE):
            outcomes = [await outcome(client, "/refuses") for _ in range(2)]

    assert all(isinstance(error, SourceRateLimited) for error in outcomes)
    assert all((error.retry_after or 0) <= most for error in outcomes)  # type: ignore[union-attr]


async def test_a_day_that_others_have_used_up_is_looked_at_again_long_before_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def used_up(request: Incoming) -> Response:
        return JSONResponse({}, headers={"X-Remaining": "0"})

    monkeypatch.setattr(budget, "UNTOLD_SECONDS", 2.0)
    async with vendor(Route("/used-up", used_up)) as one:
        client, _ = one.client(Limit("minute", calls=5000, seconds=86_400))
        with calling_for(Urgency.INTERACTIVE):
            await client.call("GET", "/used-up")
            with deadline(0.2):
                refused = await outcome(client)
            waited = await outcome(client)

    assert isinstance(refused, SourceRateLimited)
    assert isinstance(waited, Answer)


async def test_what_the_vendor_says_remains_counts_more_than_what_was_counted() -> None:
    async def nearly(request: Incoming) -> Response:
        return JSONResponse({}, headers={"X-Remaining": "3"})

    async with vendor(Route("/nearly", nearly)) as one:
        client, _ = one.client(MINUTE)
        with calling_for(Urgency.INTERACTIVE):
            await client.call("GET", "/nearly")
            outcomes = [await outcome(client) for _ in range(10)]

    assert sum(isinstance(one, Answer) for one in outcomes) == 3


@pytest.mark.parametrize(("configured", "calls"), [(None, 40), (10, 10)])
async def test_a_larger_limit_that_the_vendor_tells_is_used_unless_the_settings_say_less(
    configured: int | None, calls: int
) -> None:
    async def larger(request: Incoming) -> Response:
        return JSONResponse({}, headers={"X-Limit": "40", "X-Remaining": "39"})

    async with vendor(Route("/larger", larger)) as one:
        limits = {} if configured is None else {"minute": configured}
        settings = SourceSettings(private_addresses=("127.0.0.1",), limits=limits)  # type: ignore[arg-type]
        client, _ = one.client(MINUTE, settings=settings)
        with calling_for(Urgency.INTERACTIVE):
            await client.call("GET", "/larger")
            await asyncio.gather(*(outcome(client) for _ in range(60)))

    assert one.calls == calls


async def test_an_endpoint_class_has_its_own_limit() -> None:
    async with vendor() as one:
        client, _ = one.client(
            Limit("search", calls=2, endpoints=("search",)), Limit("rest", calls=5, endpoints=("",))
        )
        with calling_for(Urgency.INTERACTIVE):
            await asyncio.gather(*(outcome(client, "/s", endpoint="search") for _ in range(10)))
            await asyncio.gather(*(outcome(client, "/r") for _ in range(10)))

    assert (one.sandbox.log.count(path_prefix="/s"), one.sandbox.log.count(path_prefix="/r")) == (2, 5)


def test_a_limit_that_the_connector_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"limits\.hour: unknown; there are minute"):
        Traffic("vendor", parallel=1, limits=[MINUTE], settings=SourceSettings(limits={"hour": 3}))


def test_a_window_never_allows_more_than_its_limit_in_any_stretch_of_its_length() -> None:
    rng = random.Random(3)
    window, now, made = Window(60), 0.0, list[float]()
    for _ in range(5000):
        now += rng.expovariate(3)
        if window.total(now) < 60:
            assert window.wait(now, 60) == 0
            window.count(now)
            made.append(now)
        else:
            wait = window.wait(now, 60)
            assert 0 < wait <= 64
            assert deepcopy(window).total(now + wait) < 60

    assert all(later - earlier > 60 for earlier, later in zip(made, made[60:], strict=False))
    assert len(made) > 60 * now / 65  # and not far fewer


def test_a_call_that_is_not_made_leaves_no_trace_whatever_was_counted_since() -> None:
    rng = random.Random(5)
    window, only_made, now = Window(60), Window(60), 0.0
    asking: list[tuple[float, bool]] = []
    for _ in range(5000):
        now += rng.expovariate(1)
        asking.append((now, rng.random() < 0.3))
        window.count(now)
        if asking[-1][1]:
            only_made.count(now)
        # Answers come after up to some seconds, in no order.
        while len(asking) > rng.randrange(8):
            counted_at, is_made = asking.pop(rng.randrange(len(asking)))
            if not is_made:
                window.take_back(counted_at)
        under_way = sum(not is_made for _, is_made in asking)
        assert window.total(now) == only_made.total(now) + under_way


async def test_a_broken_answer_is_still_a_bad_one_when_it_breaks_off_each_time() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    one = Vendor(Sandbox("vendor", []), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    client, _ = one.client()
    error = await outcome(client)
    await client.close()
    server.close()

    assert type(error) is SourceBadResponse
