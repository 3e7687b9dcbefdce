"""The clients that portals use, run by Node: npm's graphql-ws and graphql-sse."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.streams.client import PATIENCE

FOLDER = Path(__file__).parent
INSTALLED = "tests/streams/node_modules/.package-lock.json"


def missing() -> str | None:
    """Why they cannot run here; None when they can. Installs what is locked."""
    if not (shutil.which("node") and shutil.which("npm") and shutil.which("make")):
        return "node, npm and make run the clients of portals"
    with (FOLDER / "package.json").open() as lock:
        # Several processes of tests may begin at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            ["make", "--no-print-directory", INSTALLED], cwd=FOLDER.parents[1], capture_output=True, text=True
        )
    if made.returncode:
        raise RuntimeError(f"the clients of portals cannot be installed:\n{made.stderr}")
    return None


class Portal:
    """One running client."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def happens(self) -> dict[str, Any]:
        """The next thing that happens."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the client has ended"
        happened: dict[str, Any] = json.loads(line)
        return happened

    async def until(self, what: str) -> Any:
        """Waits for this to happen, whatever else does."""
        while True:
            happened = await self.happens()
            if what in happened:
                return happened[what]


@asynccontextmanager
async def portal(way: str, url: str, token: str, query: str) -> AsyncIterator[Portal]:
    """A client that asks this by ``ws`` or ``sse``."""
    process = await asyncio.create_subprocess_exec(
        "node", str(FOLDER / "portal.mjs"), way, f"{url}/graphql", token, query,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    try:
        yield Portal(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
