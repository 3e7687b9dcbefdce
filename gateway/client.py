"""Where a request comes from and what it is called: by the connection's other end, or by the word of a trusted proxy."""

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.arrival import Arrival, arrival
from gateway.http import Reply
from gateway.request_ids import new_id

if TYPE_CHECKING:
    from gateway.requests import Requests

Address = IPv4Address | IPv6Address

Answering = Callable[[Scope, Receive, str], Awaitable[ASGIApp | None]]
"""Gives its answer to the request of this id instead of sending it; None: the client has left."""

_REFUSED = {401: "UNAUTHENTICATED", 403: "FORBIDDEN", 4401: "UNAUTHENTICATED", 4403: "FORBIDDEN"}
"""Statuses of HTTP and of WebSockets that say that a caller was not let in."""

_ID_NAME = b"x-request-id"

_ID = re.compile(r"[A-Za-z0-9._+/=-]{8,128}")
"""What a request may be called by a proxy."""


class Entrance:
    """The ASGI application around everything: whatever a request does knows its client and its id, each is counted, and
    none that is not let in goes unnoticed, whichever route it took."""

    def __init__(
        self,
        direct: Mapping[str, Answering],
        others: ASGIApp,
        clients: "Clients",
        requests: "Requests",
        refused: Callable[[str, str], None],
    ) -> None:
        """``direct``: by its path over HTTP, what needs none of what is around ``others``. ``refused`` is told the client and
        an error code."""
        self._direct, self._others = direct, others
        self._clients, self._requests, self._refused = clients, requests, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        over_http = scope["type"] == "http"
        if not over_http and scope["type"] != "websocket":
            await self._others(scope, receive, send)
            return
        arrived, requests = self._clients.arrived(scope), self._requests
        requests.under_way += over_http
        token = arrival.set(arrived)
        try:
            direct = self._direct.get(scope["path"]) if over_http else None
            if direct is None:
                await self._others(scope, receive, self._noting(arrived, send))
            else:
                answer = await direct(scope, receive, arrived.request_id)
                if type(answer) is Reply:
                    # What ``_noting`` does, without a call per message.
                    status = arrived.status = answer.status
                    if status in _REFUSED:
                        self._not_let_in(arrived, status)
                    headers = [*answer.headers, (_ID_NAME, arrived.request_id.encode())]
                    await send({"type": "http.response.start", "status": status, "headers": headers})
                    await send({"type": "http.response.body", "body": answer.body})
                elif answer is not None:
                    await answer(scope, receive, self._noting(arrived, send))
        except Exception:
            arrived.status = arrived.status or 500  # by the server
            raise
        finally:
            requests.under_way -= over_http
            if over_http:
                requests.responded(arrived, scope["path"])
            arrival.reset(token)

    def _noting(self, arrived: Arrival, send: Send) -> Send:
        """``send``, which notes what is sent on this request."""

        def noting(message: MutableMapping[str, Any]) -> Awaitable[None]:
            kind = message["type"]
            if kind == "http.response.body":
                return send(message)
            if kind == "http.response.start":
                arrived.status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (_ID_NAME, arrived.request_id.encode()),
                ]
            said = message.get("status") or message.get("code")
            if said in _REFUSED:
                self._not_let_in(arrived, said)
            return send(message)

        return noting

    def _not_let_in(self, arrived: Arrival, said: int) -> None:
        self._refused(network(arrived.client), _REFUSED[said])


class Clients:
    """Knows the proxies in front of the gateway."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(one) for one in trusted_proxies]

    def arrived(self, scope: Scope) -> Arrival:
        """A request: whose, and by which id."""
        if self._networks:
            return Arrival(self.address(scope), self.id(scope) or new_id())
        peer = scope.get("client")
        return Arrival(peer[0] if peer else "", new_id())

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

    def id(self, scope: Scope) -> str | None:
        """What a trusted proxy calls the request (``X-Request-Id``); None where it is ours to name."""
        if not self._networks or not scope.get("client") or not self._trusts(scope["client"][0]):
            return None
        told = Headers(scope=scope).get("x-request-id", "")
        return told if _ID.fullmatch(told) else None

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
