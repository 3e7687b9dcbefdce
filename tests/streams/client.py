"""A client of graphql-transport-ws and of event streams that says exactly what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.door import Door

PATIENCE = 30.0
"""Until a test gives up waiting for what must come."""


class Socket:
    """One WebSocket to a running gateway."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, type_: str, **message: Any) -> None:
        """One message."""
        await self.socket.send_str(json.dumps({"type": type_, **message}))

    async def subscribe(self, query: str, id_: str = "1", **payload: Any) -> None:
        """Any operation."""
        await self.say("subscribe", id=id_, payload={"query": query, **payload})

    async def hear(self) -> dict[str, Any]:
        """The next message; fails when the socket closes instead."""
        message = await self.socket.receive(PATIENCE)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        heard: dict[str, Any] = json.loads(message.data)
        return heard

    async def told(self, id_: str = "1") -> dict[str, Any]:
        """What the next message says, which must be a ``next`` of this operation."""
        heard = await self.hear()
        assert heard["type"] == "next", heard
        assert heard["id"] == id_, heard
        payload: dict[str, Any] = heard["payload"]
        return payload

    async def closed(self, within: float = PATIENCE) -> tuple[int, str]:
        """Code and reason of the close, whatever is heard before it; fails when it does not come."""
        async with asyncio.timeout(within):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.CLOSE:
                    return message.data, message.extra or ""
                if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                    return self.socket.close_code or 0, ""


@asynccontextmanager
async def connected(
    door: Door,
    headers: Mapping[str, str] | None = None,
    protocols: tuple[str, ...] = ("graphql-transport-ws",),
) -> AsyncIterator[Socket]:
    """A socket on which nothing was said yet."""
    address = door.url.replace("http", "ws", 1) + "/graphql"
    async with door.session.ws_connect(
        address, protocols=protocols, headers=headers, autoclose=False, max_msg_size=0
    ) as socket:
        yield Socket(socket)


@asynccontextmanager
async def signed_in(
    door: Door, persona: str | None = None, *, token: str | None = None, **said: Any
) -> AsyncIterator[Socket]:
    """A socket whose first message was accepted."""
    token = token or (door.issuer.token(persona) if persona else None)
    payload = {**({"authorization": f"Bearer {token}"} if token else {}), **said}
    async with connected(door) as socket:
        await socket.say("connection_init", payload=payload)
        assert await socket.hear() == {"type": "connection_ack"}
        yield socket


class Events:
    """One event stream of a running gateway."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def hear(self) -> tuple[str, Any]:
        """The next event and its content; ("end", None) when the stream is over."""
        event, content = "", ""
        async with asyncio.timeout(PATIENCE):
            while line := (await self.response.content.readline()).decode():
                line = line.rstrip("\n")
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data:"):
                    content = line.removeprefix("data:").strip()
                elif not line and event:
                    return event, json.loads(content) if content else None
        return "end", None


@asynccontextmanager
async def streaming(
    door: Door,
    persona: str | None,
    query: str,
    *,
    token: str | None = None,
    accept: str = "text/event-stream",
    **headers: str,
) -> AsyncIterator[Events]:
    """POST /graphql for events."""
    token = token or (door.issuer.token(persona) if persona else None)
    sent = {"Accept": accept, **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    async with door.session.post(f"{door.url}/graphql", json={"query": query}, headers=sent) as response:
        yield Events(response)


def tasks_of_connections() -> list[asyncio.Task[Any]]:
    """Those of all gateways of this process."""
    names = ("socket-", "event-stream", "subscription", "caller")
    return [task for task in asyncio.all_tasks() if task.get_name().startswith(names)]


def left_open(door: Door) -> list[str]:
    """What is still running or listening for connections of this gateway's process."""
    tasks = [task.get_name() for task in tasks_of_connections()]
    listeners = ["listener"] * len(door.office.ledger._database.memory.feed._listeners)  # type: ignore[attr-defined]
    return sorted([*tasks, *listeners, *["connection"] * len(door.office.connections)])


async def nothing_left_open(door: Door) -> None:
    """Waits for it; fails with what stays."""
    try:
        async with asyncio.timeout(PATIENCE):
            while left_open(door):
                await asyncio.sleep(0.01)
    except TimeoutError:
        left = left_open(door)
        for task in tasks_of_connections():  # the next test is not to fail for what this one left
            task.cancel()
        raise AssertionError(left) from None
