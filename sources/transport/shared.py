"""Vendor budgets that all replicas draw on together, in Redis or Valkey.

Own scripts, as the library ``limits`` counts one window per round trip: here one call takes from all of an account's
windows, from its organisation's part of them and from the number at a time, or from none, and is told how long to wait.
Times are Redis's own, so that the replicas' clocks need not agree.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sources.transport.redis_client import redis_client
from sources.transport.windows import SLOTS, Share

LOOK_SECONDS = 1.0
"""How often a Redis that is away is looked for."""

log = structlog.get_logger()

_COMMON = f"""
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local slots = {SLOTS}

-- The hash of a window: a number of calls per part, 't' their total, 'f' the oldest part, 'u' paused until, 'x' calls that
-- others have made, which count until 'y'.
local function rolled(key, width)
  local current = math.floor(now / width)
  local first = current - slots - 1
  local oldest = tonumber(redis.call('HGET', key, 'f'))
  if not oldest then
    redis.call('HSET', key, 'f', first, 't', 0)
    return current, first, 0
  end
  local total = tonumber(redis.call('HGET', key, 't'))
  if oldest < first then
    for part = oldest, math.min(first - 1, oldest + slots + 1) do
      local calls = redis.call('HGET', key, part)
      if calls then
        total = total - tonumber(calls)
        redis.call('HDEL', key, part)
      end
    end
    redis.call('HSET', key, 'f', first, 't', total)
  end
  return current, first, total
end

local function add(key, width, current, calls)
  redis.call('HINCRBY', key, current, calls)
  redis.call('HINCRBY', key, 't', calls)
  redis.call('PEXPIRE', key, math.ceil(width * (slots + 4)))
end
"""

_TAKE = (
    _COMMON
    + """
-- KEYS: per limit its own and its organisation's. ARGV: lease, token, then per limit kind, allowed, width, allowed to the
-- organisation (0: not counted by it), allowed once the organisation has used half of its.
local waits, totals, takes = 0, {}, {}
for i = 1, #KEYS / 2 do
  local key, part_key, at = KEYS[2 * i - 1], KEYS[2 * i], 2 + (i - 1) * 5
  local kind, allowed, width = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local allowed_part = tonumber(ARGV[at + 4])
  if kind == 'c' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    if redis.call('ZCARD', key) >= allowed then waits = math.max(waits, 20) end
    takes[#takes + 1] = {key}
  else
    local current, first, total = rolled(key, width)
    local foreign, ends = tonumber(redis.call('HGET', key, 'x') or '0'), 0
    if foreign > 0 then
      ends = tonumber(redis.call('HGET', key, 'y'))
      if ends <= now then foreign = 0 end
    end
    totals[#totals + 1] = total + foreign + 1
    takes[#takes + 1] = {key, width, current}
    local paused = tonumber(redis.call('HGET', key, 'u') or '0') - now
    if paused > 0 then waits = math.max(waits, paused) end
    local counts = {{key, first, total + foreign, allowed}}
    if allowed_part > 0 then
      local _, first_part, total_part = rolled(part_key, width)
      counts[2] = {part_key, first_part, total_part, allowed_part}
      if 2 * total_part >= allowed_part then counts[1][4] = math.min(allowed, tonumber(ARGV[at + 5])) end
      takes[#takes + 1] = {part_key, width, current}
    end
    for _, count in ipairs(counts) do
      local excess = count[3] + 1 - count[4]
      for part = count[2], current do
        if excess <= 0 then break end
        excess = excess - tonumber(redis.call('HGET', count[1], part) or '0')
        if excess <= 0 then waits = math.max(waits, (part + slots + 2) * width - now) end
      end
      if excess > 0 then waits = math.max(waits, ends - now, 1) end
    end
  end
end
if waits > 0 then return {0, math.ceil(waits)} end
for _, take in ipairs(takes) do
  if take[2] then
    add(take[1], take[2], take[3], 1)
  else
    redis.call('ZADD', take[1], now + tonumber(ARGV[1]), ARGV[2])
    redis.call('PEXPIRE', take[1], tonumber(ARGV[1]) * 2)
  end
end
return {1, 0, unpack(totals)}
"""
)

_OWE = (
    _COMMON
    + """
-- KEYS: a window. ARGV: width, calls that were made while Redis was away.
local current = rolled(KEYS[1], tonumber(ARGV[1]))
add(KEYS[1], tonumber(ARGV[1]), current, tonumber(ARGV[2]))
return 1
"""
)

_CORRECT = (
    _COMMON
    + """
-- KEYS: a window. ARGV: width, calls that the vendor counts, milliseconds until it forgets them, and until it takes any.
local width, used, ends, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local _, _, total = rolled(KEYS[1], width)
if used > total then redis.call('HSET', KEYS[1], 'x', used - total, 'y', now + ends) end
if pause > 0 then redis.call('HSET', KEYS[1], 'u', now + pause) end
redis.call('PEXPIRE', KEYS[1], math.max(math.ceil(width * (slots + 4)), ends, pause))
return 1
"""
)


class RedisAway(Exception):
    """It does not answer as a Redis does; the message says how."""


async def ping(url: str, patience: float) -> None:
    """Raises RedisAway."""
    redis: Any = Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience)
    try:
        await redis.ping()
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        raise RedisAway(f"not reachable ({type(error).__name__})") from error
    finally:
        await redis.aclose()


Report = Callable[[], Awaitable[None]]
"""Tells Redis what it missed."""


class SharedBudgets:
    """One per process. While Redis is away, ``take`` gives None at once; it is looked for in the meantime."""

    def __init__(self, url: str, replicas: int, patience: float = 0.5) -> None:
        """A Redis that takes longer than ``patience`` seconds to answer counts as away."""
        self.replicas = replicas
        """How many processes share it at most: while it is away, each takes no more than its part."""
        self.reports: list[Report] = []
        self._patience = patience
        self._redis = redis_client(url, patience, 16)
        self._take = self._redis.register_script(_TAKE)
        self._correct = self._redis.register_script(_CORRECT)
        self._owe = self._redis.register_script(_OWE)
        self._looking: asyncio.Task[None] | None = None
        self._settled_at = 0.0
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def lost(self) -> bool:
        """Is Redis away?"""
        return self._looking is not None

    @property
    def unsettled(self) -> bool:
        """Is Redis away, or back for so short a time that other processes may not have told yet what it missed?"""
        return self._looking is not None or self._settled_at > time.monotonic()

    async def take(
        self, token: str, lease: float, shares: Sequence[Share]
    ) -> tuple[float, Sequence[int]] | None:
        """(0, calls now counted in each window), or (seconds to wait, ()). A place that is not given back is free again
        after ``lease`` seconds. None: Redis is away."""
        if self._looking is not None:
            return None
        keys = [key for share in shares for key in (share.key, share.part_key)]
        arguments: list[Any] = [round(lease * 1000), token]
        for share in shares:
            arguments += [share.kind, share.allowed, _width(share.seconds)]
            arguments += [share.allowed_part, share.allowed_half]
        try:
            async with asyncio.timeout(self._patience):
                taken, waits, *totals = await self._take(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            return None
        return (0.0, totals) if taken else (waits / 1000, ())

    async def owe(self, key: str, seconds: float, calls: int) -> None:
        """Calls that were made while Redis was away. Raises RedisError, OSError or TimeoutError."""
        async with asyncio.timeout(self._patience):
            await self._owe(keys=[key], args=[_width(seconds), calls])

    def give_back(self, token: str, keys: Sequence[str]) -> None:
        """Without waiting for it."""
        self._errand(self._given_back(token, keys))

    def correct(self, key: str, seconds: float, used: int, ends: float, pause: float) -> None:
        """How many calls the vendor counts and for how long, and for how long it takes none. Without waiting for it."""
        arguments = [_width(seconds), used, round(ends * 1000), round(pause * 1000)]
        self._errand(self._corrected(key, arguments))

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._errands:
            await asyncio.wait(self._errands, timeout=self._patience)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _given_back(self, token: str, keys: Sequence[str]) -> None:
        for key in keys:
            await self._redis.zrem(key, token)

    async def _corrected(self, key: str, arguments: list[int]) -> None:
        await self._correct(keys=[key], args=arguments)

    def _errand(self, work: Any) -> None:
        task = asyncio.create_task(self._run(work))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _run(self, work: Any) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await work
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if self._looking is None:
            log.warning("redis_is_away", reason=type(error).__name__)
            self._looking = asyncio.create_task(self._look(), context=Context())

    async def _look(self) -> None:
        """Until it is back and knows what it missed."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(self._patience):
                    await self._redis.ping()
                for report in self.reports:
                    await report()
            except (RedisError, OSError, TimeoutError):
                continue
            break
        log.info("redis_is_back")
        self._settled_at = time.monotonic() + 2 * (LOOK_SECONDS + self._patience)
        self._looking = None


def _width(seconds: float) -> int:
    """Milliseconds of a window's part."""
    return max(1, round(seconds * 1000 / SLOTS))
