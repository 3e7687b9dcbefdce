"""A Redis or Valkey of the test's own, where the machine has one."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.ports import kept_port

PROGRAMS = ("redis-server", "valkey-server")


class RedisServer:
    """On a port of loopback, keeping nothing."""

    def __init__(self, program: str, port: int) -> None:
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Returns once it answers."""
        self._process = await asyncio.create_subprocess_exec(
            self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(20):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(b"PING\r\n")
                    ready = await reader.readline() == b"+PONG\r\n"
                    writer.close()
                    if ready:
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """At once; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def redis_server() -> AsyncIterator[RedisServer]:
    """Running; skips the test where neither program is installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is installed")
    with kept_port() as port:
        server = RedisServer(program, port)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
