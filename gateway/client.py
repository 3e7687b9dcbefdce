"""Where a request comes from: the connection's other end, or what a trusted proxy says that it was."""

from collections.abc import Callable, MutableMapping, Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address

client_address: ContextVar[str] = ContextVar("client_address", default="")
"""Of the request that is being answered; empty outside of one."""

_REFUSED = {401: "UNAUTHENTICATED", 403: "FORBIDDEN", 4401: "UNAUTHENTICATED", 4403: "FORBIDDEN"}
"""Statuses of HTTP and of WebSockets that say that a caller was not let in."""


class Entrance:
    """ASGI middleware around everything: whatever a request does knows its client, and none that is not let in goes
    unnoticed, whichever route it took."""

    def __init__(self, app: ASGIApp, clients: "Clients", refused: Callable[[str, str], None]) -> None:
        """``refused`` is told the client and an error code."""
        self._app, self._clients, self._refused = app, clients, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = self._clients.address(scope)

        async def noting(message: MutableMapping[str, Any]) -> None:
            if code := _REFUSED.get(message.get("status") or message.get("code") or 0):
                self._refused(network(client), code)
            await send(message)

        token = client_address.set(client)
        try:
            await self._app(scope, receive, noting)
        finally:
            client_address.reset(token)


class Clients:
    """Knows the proxies in front of the gateway."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(one) for one in trusted_proxies]

    def address(self, scope: Scope) -> str:
        """Without its port; empty for a socket that has none. Of X-Forwarded-For only what trusted proxies have added is
        believed: what stands before that any client can write."""
        peer: str = scope["client"][0] if scope.get("client") else ""
        if not self._networks:
            return peer
        hops = [peer]
        for header in reversed(Headers(scope=scope).getlist("x-forwarded-for")):
            hops += [hop.strip() for hop in reversed(header.split(","))]
        for hop, before in pairwise(hops):
            if not self._trusts(hop) or _address(before) is None:
                return hop
        return hops[-1]

    def _trusts(self, hop: str) -> bool:
        address = _address(hop)
        return address is not None and any(address in network for network in self._networks)


def network(address: str) -> str:
    """What one sender can be told by: of IPv6 the first half, since the rest is the sender's to choose."""
    parsed = _address(address)
    if not isinstance(parsed, IPv6Address) or parsed.ipv4_mapped:
        return address
    return str(IPv6Network((parsed, 64), strict=False))


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
