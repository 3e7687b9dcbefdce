"""The HTTP server: uvicorn with the gateway's limits, that ends open streams before it waits for them when it stops."""

import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette

from gateway.limits import MAX_BODY_BYTES

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than the balancers in front keep theirs (60 s is usual), or they send a
request into a connection that closes."""

PING_SECONDS = 20.0
"""How often a silent WebSocket is pinged; one that does not answer for as long again is closed."""


class Server(uvicorn.Server):
    """For one application made by ``create_app``. ``options`` are uvicorn's and come before what is set here."""

    def __init__(self, app: Starlette, host: str, port: int, **options: Any) -> None:
        self._app = app
        settings: dict[str, Any] = {
            "access_log": False,
            "log_level": "warning",
            # Addresses of clients are worked out from gateway.trusted_proxies.
            "proxy_headers": False,
            "timeout_keep_alive": KEEP_ALIVE_SECONDS,
            "ws_max_size": MAX_BODY_BYTES,
            # Every connection would keep its dictionary, and what is secret would be compressed beside what a client chose.
            "ws_per_message_deflate": False,
            "ws_ping_interval": PING_SECONDS,
            "ws_ping_timeout": PING_SECONDS,
        }
        super().__init__(uvicorn.Config(app, host, port, **{**settings, **options}))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn closes WebSockets itself, but waits for a response until it has ended."""
        self._app.state.office.closing.set()
        await super().shutdown(sockets)
