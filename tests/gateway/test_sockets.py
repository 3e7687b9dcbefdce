"""/graphql over WebSockets: the protocol, who is let in, what one socket may do, and that nothing of it is left."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from gateway import sockets
from gateway.limits import MAX_BODY_BYTES
from gateway.settings import Subscriptions
from tests.door import Door
from tests.streams.client import PATIENCE, connected, nothing_left_open, signed_in, streaming

VIEWER = "{ viewer { id roles organisation { id } } }"
WATCH = "subscription { viewer { id } }"


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left(door: Door) -> AsyncIterator[None]:
    """After every test of this file, whatever it did: no task, no listener, no counted connection."""
    yield
    await nothing_left_open(door)


# -- what works ---------------------------------------------------------------------------------------------------------


async def test_a_query_answers_what_it_answers_over_http(door: Door) -> None:
    by_http = await door.ask("finance-harbour", VIEWER)
    async with signed_in(door, "finance-harbour") as socket:
        await socket.subscribe(VIEWER)

        assert await socket.hear() == {"id": "1", "type": "next", "payload": by_http.body}
        assert await socket.hear() == {"id": "1", "type": "complete"}


async def test_an_id_is_free_again_after_its_operation(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        for _ in range(3):
            await socket.subscribe(VIEWER)
            await socket.told()
            assert (await socket.hear())["type"] == "complete"


async def test_operations_of_one_socket_do_not_wait_for_each_other(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(WATCH, "watch")
        assert (await socket.told("watch"))["data"] == {"viewer": {"id": "owner-harbour"}}
        await socket.subscribe(VIEWER, "ask")

        assert (await socket.told("ask"))["data"]["viewer"]["id"] == "owner-harbour"


async def test_variables_and_operation_names_are_taken(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(
            "query A { viewer { id } } query B($id: ID!) { account(id: $id) { name } }",
            operationName="B",
            variables={"id": door.account_id(0)},
        )

        assert (await socket.told())["data"]["account"]["name"] == door.world.accounts[0].crm_name


async def test_a_ping_is_answered_with_what_it_carried(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.say("ping", payload={"n": 1})
        assert await socket.hear() == {"type": "pong", "payload": {"n": 1}}
        await socket.say("ping")
        assert await socket.hear() == {"type": "pong"}
        await socket.say("pong")


async def test_a_completed_subscription_is_over_and_says_nothing_more(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(WATCH)
        await socket.told()
        await socket.say("complete", id="1")
        await socket.say("complete", id="unknown")
        await socket.subscribe(VIEWER)

        assert (await socket.told())["data"]["viewer"]["roles"] == ["owner"]
        assert await socket.hear() == {"id": "1", "type": "complete"}
        await socket.say("ping")
        assert await socket.hear() == {"type": "pong"}


# -- as strict as HTTP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "BAD_USER_INPUT"),
        ("{ nothing }", "BAD_USER_INPUT"),
        ("subscription { nothing }", "BAD_USER_INPUT"),
        ("subscription { viewer { id } members { kind } }", "BAD_USER_INPUT"),
        ("query A { viewer { id } } query B { viewer { id } }", "BAD_USER_INPUT"),
        ("{ viewer " * 20 + "{ id }" + " }" * 20, "LIMIT_EXCEEDED"),
        ("subscription { " + " ".join(f"a{n}: viewer {{ id }}" for n in range(60)) + " }", "LIMIT_EXCEEDED"),
    ],
)
async def test_what_must_not_run_is_refused_as_over_http(door: Door, query: str, code: str) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(query)
        refused = await socket.hear()

        assert (refused["type"], refused["id"]) == ("error", "1")
        assert refused["payload"][0]["extensions"]["code"] == code
        await socket.subscribe(VIEWER)
        assert (await socket.told())["data"]["viewer"]["id"] == "owner-harbour"


async def test_denied_fields_are_denied_as_over_http(door: Door) -> None:
    query = "{ viewer { account { name invoices { nodes { number } } } } }"
    by_http = await door.ask("standard-harbour", query)
    async with signed_in(door, "standard-harbour") as socket:
        await socket.subscribe(query)

        assert await socket.told() == by_http.body
    assert ("viewer.account.invoices", "FORBIDDEN") in by_http.codes()


async def test_a_denied_subscription_is_one_error_and_nothing_is_subscribed(door: Door) -> None:
    async with signed_in(door, "finance-harbour") as socket:
        await socket.subscribe("subscription { members { kind } }")
        told = await socket.told()

        assert told["data"] is None
        assert [error["extensions"]["code"] for error in told["errors"]] == ["FORBIDDEN"]
        assert told["errors"][0]["extensions"]["coordinate"] == "Subscription.members"
        assert await socket.hear() == {"id": "1", "type": "complete"}
        running = [task.get_name() for task in asyncio.all_tasks()]
        assert "subscription" not in running


async def test_a_subscription_whose_source_refuses_ends_alone(door: Door) -> None:
    async with signed_in(door, "support") as socket:
        await socket.subscribe(WATCH, "watch")
        assert (await socket.told("watch"))["data"] == {"viewer": {"id": "support"}}
        await socket.subscribe("subscription { members { kind } }", "members")
        refused = await socket.hear()

        assert (refused["type"], refused["id"]) == ("error", "members")
        (error,) = refused["payload"]
        assert error["message"] == "name the organisation that you act for"
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        await socket.subscribe(VIEWER, "ask")
        assert (await socket.told("ask"))["data"]["viewer"]["id"] == "support"


async def test_an_event_stream_whose_source_refuses_says_so(door: Door) -> None:
    async with streaming(door, "support", "subscription { members { kind } }") as events:
        event, told = await events.hear()

        assert (event, told["errors"][0]["extensions"]["code"]) == ("next", "BAD_USER_INPUT")
        assert (await events.hear())[0] == "complete"


async def test_over_plain_http_a_subscription_says_how_to_ask(door: Door) -> None:
    answer = await door.ask("owner-harbour", WATCH)

    assert "text/event-stream" in answer.errors[0]["message"]


# -- who is let in ------------------------------------------------------------------------------------------------------


async def test_nobody_runs_anything_before_signing_in(door: Door) -> None:
    async with connected(door) as socket:
        await socket.subscribe(VIEWER)

        assert await socket.closed() == (4401, "Unauthorized")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"exp": 1}, 4401, "expired"),
        ({"exp": int(time.time()) - 20}, 4401, "expired"),
        ({"aud": "another"}, 4401, "audience"),
        ({"organisations": ["harbour", "moeller"]}, 4403, "several organisations"),
    ],
)
async def test_who_is_not_let_in_over_http_is_not_let_in_here(
    door: Door, changes: dict[str, object], code: int, words: str
) -> None:
    token = door.issuer.token("owner-harbour", **changes)
    async with connected(door) as socket:
        await socket.say("connection_init", payload={"authorization": f"Bearer {token}"})
        closed, reason = await socket.closed()

    assert closed == code
    assert words in reason


@pytest.mark.parametrize("payload", [{}, None, {"authorization": None}, {"token": "x"}])
async def test_without_credentials_the_socket_closes(door: Door, payload: object) -> None:
    async with connected(door) as socket:
        await socket.say("connection_init", payload=payload)

        assert (await socket.closed())[0] == 4401


async def test_the_organisation_is_named_in_the_first_message(door: Door) -> None:
    both = door.issuer.token("owner-harbour", organisations=["harbour", "moeller"])
    async with signed_in(door, token=both, organisation="moeller") as socket:
        await socket.subscribe(VIEWER)
        assert (await socket.told())["data"]["viewer"]["organisation"] == {"id": "moeller"}
    async with connected(door) as socket:
        payload = {"authorization": f"Bearer {door.issuer.token('owner-harbour')}", "organisation": "moeller"}
        await socket.say("connection_init", payload=payload)
        assert (await socket.closed())[0] == 4403


async def test_a_program_may_sign_in_by_the_handshakes_own_header(door: Door) -> None:
    headers = {"Authorization": f"Bearer {door.issuer.token('owner-harbour')}"}
    async with connected(door, headers) as socket:
        await socket.say("connection_init")

        assert await socket.hear() == {"type": "connection_ack"}


@pytest.mark.parametrize(
    "value", ["Bearer x\r\nX-Organisation: moeller", "Bearer \u00e9", 7, ["Bearer x"], {"a": 1}]
)
async def test_what_is_no_header_is_no_credential(door: Door, value: object) -> None:
    async with connected(door) as socket:
        await socket.say("connection_init", payload={"authorization": value})

        assert (await socket.closed())[0] == 4403


# -- the protocol's own strictness --------------------------------------------------------------------------------------


async def test_another_protocol_is_not_spoken(door: Door) -> None:
    async with connected(door, protocols=("graphql-ws",)) as socket:
        assert await socket.closed() == (4406, "Subprotocol not acceptable")


async def test_who_says_nothing_is_let_go(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "INIT_SECONDS", 0.1)
    async with connected(door) as socket:
        assert await socket.closed() == (4408, "Connection initialisation timeout")


async def test_signing_in_twice_closes_the_socket(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.say("connection_init", payload={})

        assert await socket.closed() == (4429, "Too many initialisation requests")


async def test_an_id_in_use_closes_the_socket(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(WATCH, "twice")
        await socket.told("twice")
        await socket.subscribe(VIEWER, "twice")

        assert await socket.closed() == (4409, "Subscriber for twice already exists")


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        '"ping"',
        "{}",
        '{"type": "nonsense"}',
        '{"type": "next", "id": "1", "payload": {}}',
        '{"type": "ping", "payload": []}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{ viewer { id } }"}}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ viewer { id } }"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 1}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ viewer { id } }", "variables": []}}',
        "[" * 100_000,
    ],
)
async def test_a_message_that_is_none_closes_the_socket(door: Door, message: str) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.socket.send_str(message)

        assert (await socket.closed())[0] == 4400


async def test_bytes_are_no_messages(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.socket.send_bytes(b"{}")

        assert (await socket.closed())[0] == 4400


async def test_a_message_larger_than_a_request_closes_the_socket(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe("{ viewer { id } }" + " " * MAX_BODY_BYTES)

        assert (await socket.closed())[0] == 1009


# -- how much -----------------------------------------------------------------------------------------------------------


async def test_one_socket_runs_so_many_operations_at_a_time(door: Door) -> None:
    most = Subscriptions().operations
    async with signed_in(door, "owner-harbour") as socket:
        for number in range(most):
            await socket.subscribe(WATCH, str(number))
            await socket.told(str(number))
        await socket.subscribe(VIEWER, "more")
        refused = await socket.hear()
        assert (refused["id"], refused["type"]) == ("more", "error")
        assert refused["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"

        await socket.say("complete", id="0")
        while True:
            await socket.subscribe(VIEWER, "again")
            if (await socket.hear())["type"] == "next":
                break
        assert await socket.hear() == {"id": "again", "type": "complete"}


async def test_one_caller_has_so_many_connections_and_another_their_own(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.office.connections, "_most", 2)
    token = door.issuer.token("owner-harbour")
    async with signed_in(door, token=token), signed_in(door, token=token):
        async with connected(door) as socket:
            await socket.say("connection_init", payload={"authorization": f"Bearer {token}"})
            assert (await socket.closed())[0] == 4429
        async with signed_in(door, "owner-moeller") as other:
            await other.subscribe(VIEWER)
            await other.told()


async def test_a_client_that_does_not_read_is_let_go(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SEND_SECONDS", 0.3)
    async with signed_in(door, "owner-harbour") as socket:
        socket.socket._conn.transport.pause_reading()  # type: ignore[attr-defined,union-attr]
        # Each is answered with as much. When no buffer holds more, the gateway stops reading, too.
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(PATIENCE):
                for _ in range(100):
                    await socket.say("ping", payload={"padding": "x" * (MAX_BODY_BYTES // 2)})
                    await asyncio.sleep(0)

        await nothing_left_open(door)


# -- the end ------------------------------------------------------------------------------------------------------------


async def test_a_socket_closes_when_its_token_expires(door: Door) -> None:
    expires_at = int(time.time()) + 4
    token = door.issuer.token("owner-harbour", exp=expires_at)
    async with signed_in(door, token=token) as socket:
        await socket.subscribe(WATCH)
        await socket.told()
        code, reason = await socket.closed()

    assert (code, reason) == (4401, "what you signed in with has expired; sign in again")
    assert time.time() >= expires_at


async def test_a_client_that_vanishes_leaves_nothing(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(WATCH)
        await socket.told()
        socket.socket._conn.transport.abort()  # type: ignore[attr-defined,union-attr]

        await nothing_left_open(door)
