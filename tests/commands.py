"""The gateway as its operator meets it: a settings file and commands."""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp

from sources.registry import Kind
from tests.door import Door
from tests.ports import kept_port

_PREPARED = multiprocessing.get_context("forkserver")
# Reading the modules takes longer than most commands: one process reads them, and each command is a copy of it.
_PREPARED.set_forkserver_preload(["pytest", "tests.commands", "gateway.cli"])


def settings_file(folder: Path, door: Door) -> Path:
    """A gateway.toml over the running sandboxes."""
    sources = {kind.value: source.settings for kind, source in door.office.settings.sources.items()}
    crm, erp, helpdesk, documents = (
        sources[kind.value] for kind in (Kind.CRM, Kind.ERP, Kind.HELPDESK, Kind.DOCUMENTS)
    )
    path = folder / "gateway.toml"
    path.write_text(f"""
        [[signin.issuers]]
        issuer = "{door.issuer.url}"
        audience = "backoffice-gateway"
        believed_for = ["customers", "staff"]
        [sources.crm]
        vendor = "hubspot"
        private_addresses = ["127.0.0.1"]
        base_url = "{crm.base_url}"
        token = "{crm.token}"
        declared = {{ xero = "xero_contact_id" }}
        [sources.erp]
        vendor = "xero"
        private_addresses = ["127.0.0.1"]
        base_url = "{erp.base_url}"
        connections_url = "{erp.connections_url}"
        token_url = "{erp.token_url}"
        client_id = "{erp.client_id}"
        client_secret = "{erp.client_secret}"
        tenant_id = "{erp.tenant_id}"
        [sources.helpdesk]
        vendor = "zendesk"
        private_addresses = ["127.0.0.1"]
        base_url = "{helpdesk.base_url}"
        email = "{helpdesk.email}"
        api_token = "{helpdesk.api_token}"
        [sources.documents]
        vendor = "s3"
        private_addresses = ["127.0.0.1"]
        bucket = "{documents.bucket}"
        region = "{documents.region}"
        endpoint_url = "{documents.endpoint_url}"
        path_style = true
        access_key_id = "{documents.access_key_id}"
        secret_access_key = "{documents.secret_access_key}"
    """)
    return path


class Running:
    """``gateway ...`` in a process of its own."""

    def __init__(self, process: BaseProcess, said: asyncio.StreamReader) -> None:
        self._process, self._said = process, said

    async def line(self) -> str:
        """The next one that it prints; empty when it prints no more."""
        return (await self._said.readline()).decode()

    async def ended(self) -> tuple[int, str]:
        """Its exit code, negative for a signal, and all that it has printed since the last line that was read."""
        said = (await self._said.read()).decode()
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode is not None
        return self._process.exitcode, said

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """At once, whatever it is about."""
        self._process.kill()

    def interrupt(self) -> None:
        """As a container's runtime does."""
        self._process.terminate()


async def started(url: str, config: Path, *arguments: str, **environment: str) -> Running:
    """Runs ``gateway ...``, which ends at the latest with the tests."""
    heard, says = _PREPARED.Pipe(duplex=False)
    given = {**os.environ, "DATABASE_URL": url, "COLUMNS": "250", **environment}
    process = _PREPARED.Process(
        target=_command, args=(says, [*arguments, "--config", str(config)], given), daemon=True
    )
    # The first one waits for the modules, and the sandboxes are served meanwhile.
    await asyncio.to_thread(process.start)
    says.close()
    # A server writes for as long as the test lasts: it must not wait until somebody reads.
    said = asyncio.StreamReader(limit=1 << 30)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(said), os.fdopen(os.dup(heard.fileno()), "rb")
    )
    heard.close()
    return Running(process, said)


@asynccontextmanager
async def serving(url: str, config: Path, **environment: str) -> AsyncIterator[tuple[Running, str]]:
    """``gateway serve`` and its address, from when it is ready; killed afterwards."""
    with kept_port() as port:
        running = await started(url, config, "serve", "--port", str(port), **environment)
        address = f"http://127.0.0.1:{port}"
        try:
            await _ready(running, address)
            yield running, address
        finally:
            running.kill()
            await running.ended()


async def gateway(url: str, config: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Runs ``gateway ...``; its exit code and all that it printed."""
    return await (await started(url, config, *arguments, **environment)).ended()


async def _ready(running: Running, address: str) -> None:
    async with asyncio.timeout(120), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{address}/health/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if not running.alive:
                raise RuntimeError((await running.ended())[1])
            await asyncio.sleep(0.05)


def _command(says: Connection, arguments: list[str], environment: dict[str, str]) -> None:
    for stream in (1, 2):
        os.dup2(says.fileno(), stream)
    says.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["gateway", *arguments]
    from gateway.cli import app

    app()
