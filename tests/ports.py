"""Ports of loopback for servers that a test starts in processes of their own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """Nobody else is given it meanwhile, whether a server listens on it or not. A server that reuses addresses may, as
    asyncio's and Redis' do; one that is freed and named to a server is given to any connection in between."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
