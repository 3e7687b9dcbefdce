"""The cache's second level in Redis or Valkey. Away, slow or empty are the same to whoever asks."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog
from redis.exceptions import RedisError

from sources.transport.redis_client import redis_client

LOOK_SECONDS = 1.0
"""How long a Redis that did not answer is left alone."""
AT_A_TIME = 500
"""Keys of one command."""

_HEAD = 10
"""Bytes by which an entry differs from another under the same key: its time stands first."""

_CLAIM = f"""
-- KEYS: per entry its own and its claim's. ARGV: milliseconds, then per entry the head of what was found.
local answers = {{}}
for i = 1, #KEYS / 2 do
  if redis.call('GETRANGE', KEYS[2 * i - 1], 0, {_HEAD - 1}) ~= ARGV[i + 1] then
    answers[i] = 2
  else
    answers[i] = redis.call('SET', KEYS[2 * i], 1, 'NX', 'PX', ARGV[1]) and 1 or 0
  end
end
return answers
"""
_ANSWERS = (False, True, None)

log = structlog.get_logger()


class RedisCache:
    """Fills the layers' SecondLevel."""

    def __init__(self, url: str, patience: float = 0.5) -> None:
        """A Redis that takes longer than ``patience`` seconds to answer counts as away."""
        self._patience = patience
        self._redis = redis_client(url, patience, 8)
        self._claim = self._redis.register_script(_CLAIM)
        self._away_until = 0.0
        self._puts: set[asyncio.Task[None]] = set()

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        if not self._away:
            try:
                async with asyncio.timeout(self._patience):
                    found: list[bytes | None] = []
                    for start in range(0, len(keys), AT_A_TIME):
                        found += await self._redis.mget(keys[start : start + AT_A_TIME])
                    return found
            except (RedisError, OSError, TimeoutError) as error:
                self._lose(error)
        return [None] * len(keys)

    async def claim(
        self, wanted: Sequence[tuple[str, bytes | None]], claims: Sequence[str], seconds: float
    ) -> Sequence[bool | None]:
        if not self._away:
            keys = [key for (entry, _), claim in zip(wanted, claims, strict=True) for key in (entry, claim)]
            heads = [(found or b"")[:_HEAD] for _, found in wanted]
            try:
                async with asyncio.timeout(self._patience):
                    answers = await self._claim(keys=keys, args=[round(seconds * 1000), *heads])
                    return [_ANSWERS[answer] for answer in answers]
            except (RedisError, OSError, TimeoutError) as error:
                self._lose(error)
        return [True] * len(wanted)

    def put(self, entries: Mapping[str, bytes], seconds: float, claims: Sequence[str] = ()) -> None:
        if self._away:
            return
        task = asyncio.create_task(self._put(entries, max(1, round(seconds * 1000)), claims))
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)

    async def forget(self, keys: Sequence[str], prefixes: Sequence[str]) -> None:
        try:
            if keys:
                await self._redis.unlink(*keys)
            for prefix in prefixes:
                found: list[bytes] = []
                async for key in self._redis.scan_iter(match=f"{prefix}*", count=AT_A_TIME):
                    found.append(key)
                for start in range(0, len(found), AT_A_TIME):
                    await self._redis.unlink(*found[start : start + AT_A_TIME])
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)

    async def close(self) -> None:
        if self._puts:
            await asyncio.wait(self._puts, timeout=self._patience)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    @property
    def _away(self) -> bool:
        return self._away_until > time.monotonic()

    async def _put(self, entries: Mapping[str, bytes], milliseconds: int, claims: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(self._patience), self._redis.pipeline(transaction=False) as pipeline:
                for key, value in entries.items():
                    pipeline.set(key, value, px=milliseconds)
                if claims:
                    pipeline.unlink(*claims)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._away_until = time.monotonic() + LOOK_SECONDS
        log.warning("redis_cache_is_away", reason=type(error).__name__)
