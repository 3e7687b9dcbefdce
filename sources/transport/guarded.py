"""Token requests go where calls may go: Authlib's HTTP, carried by connections that look at addresses."""

import httpx2

from sources.transport.addresses import Addresses, AddressNotAllowed
from sources.transport.connections import Connections
from sources.transport.unpacking import ACCEPTED, unpacked

MOST_BYTES = 1024 * 1024
"""More than any token endpoint has to say."""

_OURS = ("accept-encoding", "connection", "content-length")
_OF_THE_LINE = ("content-encoding", "content-length", "transfer-encoding")


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Raises NoAnswer and AddressNotAllowed. Never follows a redirect, and sends nothing twice."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        if not self._addresses.allow_url(url):
            raise AddressNotAllowed(f"{request.url.host} is a private address")
        connections = Connections(url, self._addresses, MOST_BYTES)
        try:
            status, headers, body = await connections.exchange(
                request.method,
                url,
                {name: value for name, value in request.headers.items() if name not in _OURS}
                | {"accept-encoding": ACCEPTED},
                await request.aread(),
                anew=True,
            )
        finally:
            await connections.close()
        body = unpacked(body, headers.get("content-encoding", ""), MOST_BYTES)
        told = {name: value for name, value in headers.items() if name not in _OF_THE_LINE}
        return httpx2.Response(status, headers=told, content=body)
