"""The demo as a newcomer meets it: one command, a page in a browser, a query with curl, and a clean end."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.collector import Collector, open_collector
from tests.e2e.test_graphiql import CHROMIUM, browser_page, choose_persona, run_query
from tests.ports import kept_port


class Demo:
    """A running `gateway demo`, what it printed, and who takes its traces."""

    def __init__(
        self, process: asyncio.subprocess.Process, url: str, printed: str, collector: Collector
    ) -> None:
        self.process, self.url, self.printed, self.collector = process, url, printed, collector


@pytest_asyncio.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """One for all tests that leave it running."""
    async with running_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@asynccontextmanager
async def running_demo(folder: Path) -> AsyncIterator[Demo]:
    """Small and on a free port."""
    async with open_collector() as collector:
        with kept_port() as port:
            async with _running(folder, collector, port) as demo:
                yield demo


@asynccontextmanager
async def _running(folder: Path, collector: Collector, port: int) -> AsyncIterator[Demo]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "demo", "--port", str(port), "--scale", "0.1"),
        *("--folder", str(folder), "--collector", collector.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
    )
    printed = ""
    assert process.stdout
    async with asyncio.timeout(
        240
    ):  # a database is made and started, the company invented, and all of it matched
        while "Stop with" not in printed:
            line = await process.stdout.readline()
            assert line, f"the demo ended: {printed}"
            printed += line.decode()
    yield Demo(process, f"http://127.0.0.1:{port}", printed, collector)
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            await process.wait()


async def test_it_prints_where_the_page_is_who_one_can_be_and_a_query(demo: Demo) -> None:
    assert f"{demo.url}/graphiql/" in demo.printed
    for persona in (
        "owner-harbour",
        "finance-moeller",
        "standard-harbour",
        "read-only-moeller",
        "support",
        "admin",
    ):
        assert persona in demo.printed


async def test_the_printed_query_answers_in_a_shell(demo: Demo) -> None:
    commands = re.search(r"^  TOKEN=.*?(?=\n\n)", demo.printed, re.DOTALL | re.MULTILINE)
    assert commands

    shell = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", commands.group()], capture_output=True, text=True, timeout=30
    )

    assert '"name":"Harbour & Vale Provisions Ltd"' in shell.stdout
    assert '"outstanding"' in shell.stdout


async def test_every_request_is_traced_for_the_collector_that_is_named(demo: Demo) -> None:
    demo.collector.forget()
    asked = [
        *(
            "curl",
            "-s",
            "-H",
            "Content-Type: application/json",
            "-d",
            '{"query": "{ signIn { __typename } }"}',
        )
    ]
    await asyncio.to_thread(subprocess.run, [*asked, f"{demo.url}/graphql"], check=True, timeout=30)
    spans = await demo.collector.trace()
    assert {"POST /graphql", "query"} <= {span.name for span in spans}


async def test_the_operators_commands_work_beside_it(demo: Demo) -> None:
    config = re.search(r"check -c (\S+)", demo.printed)
    assert config

    async def run(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "gateway", *words, "-c", config[1]],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    status, lines = await run("check")
    _, links = await run("links", "list")

    assert status == 0
    assert [line.split()[1] for line in lines.splitlines() if line.startswith("ok")] == [
        *("database", "signin", "mail", "crm", "erp", "helpdesk", "documents", "tokens", "serving")
    ]
    # Two subsidiaries with one domain: what each could be, by id and by name.
    assert "Søndergård Foods plc" in links
    assert len(set(re.findall(r"xero:[0-9a-f-]{36}  \S", links))) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_the_page_shows_a_customers_home_after_a_persona_is_picked(demo: Demo) -> None:
    async with browser_page(demo.url) as (page, seen):
        await choose_persona(page, "owner-harbour")
        answer = await run_query(page)

        assert answer["data"]["account"]["name"] == "Harbour & Vale Provisions Ltd"
        assert answer["data"]["account"]["invoices"]["nodes"]
        assert seen.hosts() == {demo.url.removeprefix("http://")}


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_ending_it_leaves_nothing_running(
    tmp_path_factory: pytest.TempPathFactory, ending: signal.Signals
) -> None:
    folder = tmp_path_factory.mktemp("ended")
    async with running_demo(folder) as demo:
        children = psutil.Process(demo.process.pid).children(recursive=True)
        database = [
            p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())
        ]
        database = [p for p in database if p.pid != demo.process.pid]
        assert children
        assert database

        demo.process.send_signal(ending)
        async with asyncio.timeout(30):
            await demo.process.wait()

        _, alive = await asyncio.to_thread(psutil.wait_procs, [*children, *database], 10)
        assert alive == []
