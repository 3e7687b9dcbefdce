"""Subscriptions as the clients that portals use meet them: Python's gql, npm's graphql-ws and graphql-sse."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from tests.door import Door
from tests.streams.client import nothing_left_open, streaming
from tests.streams.portal import missing, portal

WATCH = "subscription { viewer { id roles } }"
SOON = 6
"""Seconds until a token expires: a busy machine may need some of them to start Node."""
OWNER = {"viewer": {"id": "owner-harbour", "roles": ["owner"]}}


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left(door: Door) -> AsyncIterator[None]:
    """After every test of this file."""
    yield
    await nothing_left_open(door)


@pytest.fixture(scope="session")
def node() -> None:
    """npm's clients, installed; skips where Node is not."""
    if reason := missing():
        pytest.skip(reason)


def gql(door: Door, **payload: Any) -> Client:
    transport = WebsocketsTransport(
        url=door.url.replace("http", "ws") + "/graphql",
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        init_payload=payload,
        ping_interval=0.2,
        pong_timeout=5,
    )
    return Client(transport=transport)


async def test_gql_asks_and_subscribes_on_one_socket(door: Door) -> None:
    token = door.issuer.token("owner-harbour")
    async with gql(door, authorization=f"Bearer {token}") as session:
        assert await session.execute(GraphQLRequest("{ viewer { id roles } }")) == OWNER
        async for told in session.subscribe(GraphQLRequest(WATCH)):
            assert told == OWNER
            break
        with pytest.raises(TransportQueryError, match="Cannot query field"):
            await session.execute(GraphQLRequest("{ nothing }"))
        assert await session.execute(GraphQLRequest("{ viewer { id roles } }")) == OWNER


async def test_gql_reads_why_its_socket_was_closed(door: Door) -> None:
    token = door.issuer.token("owner-harbour", exp=int(time.time()) + SOON)

    async def watch() -> None:
        async with gql(door, authorization=f"Bearer {token}") as session:
            async for told in session.subscribe(GraphQLRequest(WATCH)):
                assert told == OWNER

    with pytest.raises(TransportConnectionFailed) as failed:
        await watch()
    assert "4401" in str(failed.value.__cause__)


@pytest.mark.usefixtures("node")
async def test_graphql_ws_subscribes_and_pings(door: Door) -> None:
    async with portal("ws", door.url, door.issuer.token("owner-harbour"), WATCH) as client:
        assert await client.until("connected") is True
        assert await client.until("next") == {"data": OWNER}
        assert await client.until("pong") is True


@pytest.mark.usefixtures("node")
async def test_graphql_ws_asks_once(door: Door) -> None:
    async with portal(
        "ws", door.url, door.issuer.token("owner-harbour"), "{ viewer { id roles } }"
    ) as client:
        assert await client.until("next") == {"data": OWNER}
        assert await client.until("complete") is True
        assert await client.until("closed") == 1000


@pytest.mark.usefixtures("node")
async def test_graphql_ws_is_told_when_its_token_expires(door: Door) -> None:
    token = door.issuer.token("owner-harbour", exp=int(time.time()) + SOON)
    async with portal("ws", door.url, token, WATCH) as client:
        assert await client.until("next") == {"data": OWNER}
        assert await client.until("closed") == 4401


@pytest.mark.usefixtures("node")
async def test_graphql_sse_subscribes(door: Door) -> None:
    async with portal("sse", door.url, door.issuer.token("owner-harbour"), WATCH) as client:
        assert await client.until("next") == {"data": OWNER}


@pytest.mark.usefixtures("node")
async def test_graphql_sse_asks_once_and_reads_errors(door: Door) -> None:
    token = door.issuer.token("owner-harbour")
    async with portal("sse", door.url, token, "{ viewer { id roles } }") as client:
        assert await client.until("next") == {"data": OWNER}
        assert await client.until("complete") is True
    async with portal("sse", door.url, token, "subscription { nothing }") as client:
        assert (await client.until("next"))["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert await client.until("complete") is True


@pytest.mark.usefixtures("node")
async def test_graphql_sse_is_told_when_its_token_expires(door: Door) -> None:
    token = door.issuer.token("owner-harbour", exp=int(time.time()) + SOON)
    async with portal("sse", door.url, token, WATCH) as client:
        assert await client.until("next") == {"data": OWNER}
        told = await client.until("next")
        assert told["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert await client.until("complete") is True


# -- event streams by hand ----------------------------------------------------------------------------------------------


async def test_an_event_stream_is_neither_kept_nor_buffered_on_its_way(door: Door) -> None:
    async with streaming(door, "owner-harbour", WATCH) as events:
        headers = events.response.headers
        assert await events.hear() == ("next", {"data": OWNER})

    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"
    assert len(headers["X-Request-Id"]) == 32


async def test_a_query_is_one_event_and_its_end(door: Door) -> None:
    async with streaming(door, "owner-harbour", "{ viewer { id roles } }") as events:
        assert await events.hear() == ("next", {"data": OWNER})
        assert await events.hear() == ("complete", None)
        assert await events.hear() == ("end", None)


async def test_clients_that_take_json_too_get_events_for_subscriptions_alone(door: Door) -> None:
    accept = "application/graphql-response+json, application/json, text/event-stream"
    async with streaming(door, "owner-harbour", WATCH, accept=accept) as events:
        assert await events.hear() == ("next", {"data": OWNER})
    async with streaming(door, "owner-harbour", "{ viewer { id roles } }", accept=accept) as events:
        assert await events.response.json() == {"data": OWNER}


async def test_a_browsers_event_source_asks_by_get_and_changes_nothing(door: Door) -> None:
    headers = {
        "Accept": "text/event-stream",
        "Authorization": f"Bearer {door.issuer.token('owner-harbour')}",
    }
    leave = 'mutation { leaveOrganisation(input: {idempotencyKey: "a"}) { userErrors { code } } }'
    address = f"{door.url}/graphql"
    async with door.session.get(address, params={"query": WATCH}, headers=headers) as response:
        assert await response.content.readline() == b"event: next\n"
    async with door.session.get(address, params={"query": leave}, headers=headers) as response:
        told = (await response.content.read()).decode()
    assert "GET only reads" in told
    assert told.endswith("event: complete\ndata: \n\n")


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("nonsense", 401), ("other organisation", 403), ("expired", 401)]
)
async def test_who_is_not_let_in_gets_no_stream(door: Door, token: str | None, status: int) -> None:
    headers = {"X-Organisation": "moeller"} if token == "other organisation" else {}
    if token == "other organisation":
        token = door.issuer.token("owner-harbour")
    if token == "expired":
        token = door.issuer.token("owner-harbour", exp=int(time.time()) - 10)
    async with streaming(door, None, WATCH, token=token, **headers) as events:
        assert events.response.status == status
        assert "application/json" in events.response.headers["Content-Type"]
