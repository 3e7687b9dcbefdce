"""Token requests go where calls may go: Authlib's HTTP, carried by connections that look at addresses."""

import aiohttp
import httpx2
from yarl import URL

from sources.transport.addresses import Addresses, AddressNotAllowed

MOST_BYTES = 1024 * 1024
"""More than any token endpoint has to say."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Raises aiohttp's errors and OSError, AddressNotAllowed among them. Never follows a redirect."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        if not self._addresses.allow_url(url):
            raise AddressNotAllowed(f"{request.url.host} is a private address")
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),
                connector=self._addresses.connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.request(
                request.method,
                URL(url, encoded=True),
                headers={
                    name: value
                    for name, value in request.headers.items()
                    if name not in ("content-length", "accept-encoding")
                },
                data=await request.aread() or None,
                allow_redirects=False,
            ) as answer,
        ):
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > MOST_BYTES:
                    raise aiohttp.ClientPayloadError("the token endpoint's answer is too long")
            # The body is unpacked by now.
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
            }
            return httpx2.Response(answer.status, headers=headers, content=bytes(body))
