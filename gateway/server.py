"""The HTTP server: uvicorn with the gateway's limits, that ends open streams before it waits for them when it stops."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gateway.asgi import Gateway
from gateway.limits import MAX_BODY_BYTES

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than the balancers in front keep theirs (60 s is usual), or they send a
request into a connection that closes."""

PING_SECONDS = 20.0
"""How often a silent WebSocket is pinged; one that does not answer for as long again is closed."""

CLOSE_SECONDS = 5.0
"""For a client to take what was sent before its WebSocket was closed; then the connection is cut."""
STOP_SECONDS = 10.0
"""For requests under way when the server stops."""


class _WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's, which leaves a connection to a client that does not read as it is until the client reads."""

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """For one application made by ``create_app``. ``options`` are uvicorn's and come before what is set here."""

    def __init__(self, app: Gateway, host: str, port: int, **options: Any) -> None:
        self._app = app
        settings: dict[str, Any] = {
            "access_log": False,
            "log_config": None,  # as all logs go
            "log_level": "warning",
            # Which software answers is nobody's business, and each answer would carry it.
            "server_header": False,
            # Addresses of clients are worked out from gateway.trusted_proxies.
            "proxy_headers": False,
            "timeout_keep_alive": KEEP_ALIVE_SECONDS,
            "timeout_graceful_shutdown": STOP_SECONDS,
            "ws": _WebSockets,
            "ws_max_size": MAX_BODY_BYTES,
            # Every connection would keep its dictionary, and what is secret would be compressed beside what a client chose.
            "ws_per_message_deflate": False,
            "ws_ping_interval": PING_SECONDS,
            "ws_ping_timeout": PING_SECONDS,
        }
        super().__init__(uvicorn.Config(app.entrance, host, port, **{**settings, **options}))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn closes WebSockets itself, but waits for a response until it has ended."""
        self._app.state.office.closing.set()
        await super().shutdown(sockets)
