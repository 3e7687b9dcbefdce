"""The container's steps, taken without a container engine. Slow: it installs the gateway anew."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TOP = Path(__file__).parents[2]


async def test_slow_the_image_installs_serves_and_stops_as_an_unprivileged_user(database_url: str) -> None:
    async with _on_loopback(database_url) as address:
        assert await _container_steps(DATABASE_URL=address) == (0, "ok")


async def _container_steps(**settings: str) -> tuple[int | None, str]:
    """The script's exit code and its last line; all that it said where it failed."""
    script = await asyncio.create_subprocess_exec(
        TOP / "deploy" / "container_steps.sh",
        env={**os.environ, **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await script.communicate()
    said = output.decode().strip()
    return script.returncode, said if script.returncode else said.rpartition("\n")[2]


@asynccontextmanager
async def _on_loopback(database_url: str) -> AsyncIterator[str]:
    """The database's address over TCP: an embedded server's socket file is in a folder that only its user may enter."""
    parts = urlsplit(database_url)
    folder = parse_qs(parts.query).get("host")
    if folder is None:
        yield database_url
        return

    async def connected(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.5432")
        await asyncio.gather(_pass_on(client_in, server_out), _pass_on(server_in, client_out))

    bridge = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with bridge:
        port = bridge.sockets[0].getsockname()[1]
        yield f"postgresql://postgres:@127.0.0.1:{port}{parts.path}"


async def _pass_on(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
    while piece := await incoming.read(65536):
        outgoing.write(piece)
        await outgoing.drain()
    outgoing.close()
