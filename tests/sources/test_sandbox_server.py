"""The ground every emulator stands on, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sources.sandbox.server import (
    Allowance,
    Certificate,
    Limit,
    OverLimit,
    RateLimits,
    Running,
    Sandbox,
    ServerThread,
    by_header,
    serve,
)


class Shop:
    """A vendor of one route that can be held open, with error forms of its own."""

    def __init__(self, *limits: Limit, record_bodies: bool = False) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()
        self.sandbox = Sandbox(
            "shop",
            [
                Route("/things", self._things, methods=["GET", "POST"]),
                Route("/slow", self._slow),
            ],
            limits=limits,
            over_limit=_over_limit,
            failure=lambda status: JSONResponse({"vendor": "broken", "status": status}, status),
            allowance_headers=lambda _, standing: _remaining(*standing),
            record_bodies=record_bodies,
        )

    async def _things(self, request: Request) -> Response:
        body = await request.body()
        return JSONResponse({"things": [1, 2], "got": body.decode()})

    async def _slow(self, _: Request) -> Response:
        self.entered.set()
        await self.let_go.wait()
        return JSONResponse({})


def _over_limit(over: OverLimit) -> Response:
    headers = {} if over.retry_after is None else {"Retry-After": f"{over.retry_after:g}"}
    return JSONResponse(
        {"vendor": "too many", "limit": over.limit.name if over.limit else None}, 429, headers
    )


def _remaining(*standing: Allowance) -> dict[str, str]:
    return {f"x-remaining-{each.limit.name}": str(each.remaining) for each in standing}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def shop() -> Shop:
    return Shop(Limit("burst", calls=None, seconds=60), record_bodies=True)


@pytest.fixture
async def running(shop: Shop) -> AsyncIterator[Running]:
    async with serve(shop.sandbox) as running:
        yield running


async def _control(http: aiohttp.ClientSession, running: Running, name: str, document: object) -> None:
    async with http.post(f"{running.url}/_sandbox/{name}", json=document) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_call_is_logged_with_what_was_sent_and_what_was_answered(shop, running, http):
    async with http.post(
        f"{running.url}/things?id=1&id=2&empty=", data=b"hello", headers={"Authorization": "Bearer abc"}
    ) as answer:
        answered = await answer.read()
    (call,) = shop.sandbox.log.calls()
    assert (call.method, call.path, call.status) == ("POST", "/things", 200)
    assert call.query == (("id", "1"), ("id", "2"), ("empty", ""))
    assert (call.request_body, call.response_body) == (b"hello", answered)
    assert dict(call.request_headers)["authorization"] == "[hidden]"
    assert dict(call.response_headers)["content-type"] == "application/json"
    assert call.seconds is not None


async def test_bodies_and_headers_are_not_kept_unless_asked_for(http):
    shop = Shop()
    async with serve(shop.sandbox) as running, http.post(f"{running.url}/things", data=b"hello") as answer:
        await answer.read()
    (call,) = shop.sandbox.log.calls()
    assert (call.request_body, call.response_body, call.request_headers) == (b"", b"", ())


async def test_calls_are_counted_by_method_and_path_and_control_calls_are_not(shop, running, http):
    await http.get(f"{running.url}/things")
    await http.post(f"{running.url}/things")
    await http.get(f"{running.url}/nowhere")
    await http.get(f"{running.url}/_sandbox/health")
    log = shop.sandbox.log
    assert (log.count(), log.count("get"), log.count(path_prefix="/things"), log.count("POST", "/no")) == (
        3,
        2,
        2,
        0,
    )
    async with http.delete(f"{running.url}/_sandbox/requests") as answer:
        assert await answer.json() == {"count": 0, "requests": []}
    assert log.calls() == []


async def test_the_log_can_be_read_over_http(running, http):
    await http.get(f"{running.url}/things?page=2")
    async with http.get(f"{running.url}/_sandbox/requests?path_prefix=/things") as answer:
        seen = await answer.json()
    assert seen["count"] == 1
    assert {name: seen["requests"][0][name] for name in ("method", "path", "query", "status")} == {
        "method": "GET",
        "path": "/things",
        "query": [["page", "2"]],
        "status": 200,
    }


async def test_a_failure_is_in_the_vendors_form_and_happens_as_often_as_was_asked(running, http):
    await _control(
        http, running, "fault", {"kind": "fail", "status": 503, "times": 2, "path_prefix": "/things"}
    )
    statuses = []
    for _ in range(3):
        async with http.get(f"{running.url}/things") as answer:
            statuses.append((answer.status, (await answer.json()).get("vendor")))
    assert statuses == [(503, "broken"), (503, "broken"), (200, None)]


async def test_a_fault_leaves_other_paths_alone(shop, running, http):
    shop.sandbox.faults.add("fail", "/elsewhere")
    async with http.get(f"{running.url}/things") as answer:
        assert answer.status == 200


async def test_a_demanded_rate_limit_says_when_to_come_back(running, http):
    await _control(http, running, "fault", {"kind": "rate_limit", "retry_after": 7})
    async with http.get(f"{running.url}/things") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert await answer.json() == {"vendor": "too many", "limit": None}


async def test_garbage_is_announced_as_json_and_is_none(shop, running, http):
    shop.sandbox.faults.add("garbage")
    async with http.get(f"{running.url}/things") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        with pytest.raises(json.JSONDecodeError):
            await answer.json()


async def test_a_dropped_connection_gives_no_answer_at_all(shop, running, http):
    shop.sandbox.faults.add("drop", times=1)
    # POST, since aiohttp quietly repeats a GET whose kept connection was cut.
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.post(f"{running.url}/things")
    async with http.post(f"{running.url}/things") as answer:
        assert answer.status == 200
    assert [call.status for call in shop.sandbox.log.calls()] == [None, 200]


async def test_a_slow_answer_is_the_usual_one_with_the_body_intact(shop, running, http):
    shop.sandbox.faults.add("slow", seconds=0.01, times=1)
    async with http.post(f"{running.url}/things", data=b"kept") as answer:
        assert (await answer.json())["got"] == "kept"
    assert shop.sandbox.faults.active() == []


async def test_a_hanging_request_is_answered_once_the_faults_are_cleared(shop, running, http):
    shop.sandbox.faults.add("hang", times=1)
    hanging = asyncio.create_task(http.post(f"{running.url}/things", data=b"kept"))
    await _until_logged(shop, 1)
    async with http.delete(f"{running.url}/_sandbox/fault") as answer:
        assert await answer.json() == {"faults": []}
    async with await hanging as answer:
        assert (await answer.json())["got"] == "kept"


async def test_a_hanging_request_ends_when_its_client_leaves(shop, running, http):
    shop.sandbox.faults.add("hang")
    hanging = asyncio.create_task(http.get(f"{running.url}/things"))
    await _until_logged(shop, 1)
    hanging.cancel()
    async with asyncio.timeout(30):
        while shop.sandbox.log.calls()[0].seconds is None:
            await asyncio.sleep(0)
    assert shop.sandbox.log.calls()[0].status is None


async def test_the_server_stops_while_requests_hang(http):
    shop = Shop()
    shop.sandbox.faults.add("hang", "/things")
    async with asyncio.timeout(20):
        async with serve(shop.sandbox) as running:
            waiting = [asyncio.create_task(http.get(f"{running.url}/{path}")) for path in ("things", "slow")]
            await _until_logged(shop, 2)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(outcome, aiohttp.ClientConnectionError) for outcome in outcomes] == [True, True]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (
            {"kind": "explode"},
            "fault kind 'explode' is none of slow, hang, fail, rate_limit, garbage, drop, "
            "html, truncated, nested, malformed_row, malformed_rows, missing_id, duplicate_row",
        ),
        ({"kind": "slow", "second": 1}, "a fault has no 'second'"),
        ({"kind": "slow", "seconds": "1"}, "fault seconds: '1' is not usable"),
        ([], "a fault is a JSON object with at least a kind"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_with_the_reason(running, http, document, complaint):
    async with http.post(f"{running.url}/_sandbox/fault", json=document) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": complaint})


async def test_a_limit_refuses_in_the_vendors_form_and_tells_what_remains(running, http):
    await _control(http, running, "rate_limits", {"name": "burst", "calls": 2, "seconds": 60})
    answers = []
    for _ in range(3):
        async with http.get(f"{running.url}/things") as answer:
            answers.append((answer.status, answer.headers.get("x-remaining-burst")))
    assert answers == [(200, "1"), (200, "0"), (429, None)]


async def test_a_limit_that_is_not_there_is_refused_with_the_names_that_are(running, http):
    async with http.post(f"{running.url}/_sandbox/rate_limits", json={"name": "daily", "calls": 1}) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "name one of the limits: burst"})


async def test_each_caller_has_a_bucket_of_its_own(http):
    shop = Shop(Limit("app", calls=1, seconds=60, bucket=by_header("X-App")))
    async with serve(shop.sandbox) as running:
        statuses = [
            (await http.get(f"{running.url}/things", headers={"X-App": app})).status
            for app in ("a", "b", "a")
        ]
    assert statuses == [200, 200, 429]


async def test_only_so_many_requests_run_at_a_time(http):
    shop = Shop(Limit("parallel", concurrent=1))
    async with serve(shop.sandbox) as running:
        first = asyncio.create_task(http.get(f"{running.url}/slow"))
        await shop.entered.wait()
        async with http.get(f"{running.url}/things") as answer:
            refused = answer.status
        shop.let_go.set()
        assert (await first).status == 200
        async with http.get(f"{running.url}/things") as answer:
            assert (refused, answer.status) == (429, 200)


@pytest.mark.parametrize(
    ("fixed", "told_to_wait"),
    [(False, [None, None, 1.0, None, 5.0, None]), (True, [None, None, 1.0, None, None, 4.0])],
)
def test_a_sliding_window_gives_calls_back_one_by_one_and_a_fixed_one_all_at_once(fixed, told_to_wait):
    arrivals = [0.0, 6.0, 9.0, 10.0, 11.0, 16.0]
    clock = iter(arrivals)
    limits = RateLimits([Limit("window", calls=2, seconds=10, fixed=fixed)], clock=lambda: next(clock))
    refusals = [limits.enter({"type": "http", "headers": []})[0] for _ in arrivals]
    assert [over.retry_after if over else None for over in refusals] == told_to_wait


async def test_tls_is_spoken_where_a_certificate_is_given(tmp_path: Path, http):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    certificate = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with (
        serve(Shop().sandbox, ssl=certificate) as running,
        http.get(f"{running.url}/things", ssl=trusting) as answer,
    ):
        assert (running.url, answer.status) == (f"https://127.0.0.1:{running.port}", 200)


async def test_two_servers_run_in_one_loop_on_ports_of_their_own(http):
    first, second = Shop(), Shop()
    async with serve(first.sandbox) as one, serve(second.sandbox) as other:
        await http.get(f"{one.url}/things")
        assert one.port != other.port
        assert (first.sandbox.log.count(), second.sandbox.log.count()) == (1, 0)


def test_a_blocking_client_is_served_from_a_thread_and_the_port_is_free_afterwards():
    shop = Shop()
    thread = ServerThread(shop.sandbox)
    with thread as running, urllib.request.urlopen(f"{running.url}/things", timeout=10) as answer:
        assert json.load(answer)["things"] == [1, 2]
    with ServerThread(shop.sandbox, port=running.port) as again:
        assert again.port == running.port
    assert shop.sandbox.log.count() == 1


def test_faults_set_and_cleared_from_another_thread_reach_the_server():
    shop = Shop()
    shop.sandbox.faults.add("fail", status=502, times=None)
    with ServerThread(shop.sandbox) as running:
        with pytest.raises(urllib.request.HTTPError, match="502"):
            urllib.request.urlopen(f"{running.url}/things", timeout=10)
        shop.sandbox.faults.clear()
        with urllib.request.urlopen(f"{running.url}/things", timeout=10) as answer:
            assert answer.status == 200


def test_a_port_that_is_taken_is_an_error_at_the_start():
    with ServerThread(Shop().sandbox) as running, pytest.raises(OSError, match="in use"):
        ServerThread(Shop().sandbox, port=running.port).start()


async def _until_logged(shop: Shop, calls: int) -> None:
    async with asyncio.timeout(30):
        while shop.sandbox.log.count() < calls:
            await asyncio.sleep(0)
