"""How Redis or Valkey is called: within a patience, each command at most twice."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def redis_client(url: str, patience: float, connections: int) -> Any:
    """Connects when it is first asked. A Redis that takes longer than ``patience`` seconds to answer counts as away."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=patience,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile is opened anew
    )
    return Redis(connection_pool=pool)
