"""The contenders and what they stand on, each in a process of its own: the stub, the gateway, the limit, plain Strawberry."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from gateway.demo import source_settings
from gateway.demo_issuer import AUDIENCE
from sources.ledger.book import Ledger
from sources.ports.common import Ref
from sources.ports.links import Link, LinkState
from sources.ports.members import OrganisationRecord
from sources.sandbox.world import World
from tests.benchmarks import load, vendors
from tests.benchmarks.company import company
from tests.benchmarks.comparison import workload as comparison
from tests.benchmarks.stub import STAFF, organisation
from tests.benchmarks.workload import SYSTEMS, Question, questions
from tests.ports import kept_port

TOP = Path(__file__).parents[2]
NAMES = ("limit", "gateway", "plain")
PLAIN_NAMES = ("limit", "gateway")
"""Over upstreams that have the graph's shape already."""
START_SECONDS = 120


class NoCores(Exception):
    """This machine cannot give the server under measurement a core of its own."""


def cores() -> tuple[set[int], set[int]]:
    """The server's core, and those of everything else. Raises NoCores."""
    if not hasattr(os, "sched_setaffinity"):
        raise NoCores("processes cannot be tied to a core on this system")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise NoCores("two cores are needed: one for the server, one for its upstreams and its clients")
    return {allowed[-1]}, set(allowed[:-1])


class Server:
    """A contender that answers on ``port``."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name, self.port, self.pid = name, port, process.pid
        self._process = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """User and system time of all its threads until now."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def peak_megabytes(self) -> float:
        """The most memory that was resident at once."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Bench:
    """Everything that runs."""

    def __init__(
        self,
        servers: Sequence[Server],
        urls: Mapping[str, str],
        questions: Sequence[Question],
        tokens: Mapping[str, str],
    ) -> None:
        self.servers = {server.name: server for server in servers}
        self.upstreams = tuple(name for name in urls if name != "issuer")
        self.questions = questions
        self._urls, self._tokens = urls, tokens

    def requests(self, question: Question, most: int | None = None) -> list[bytes]:
        """As many of the question's as asked for, each with the token of whoever asks it."""
        return [
            load.request(body, self._tokens[STAFF if question.staff else organisation(index)])
            for index, body in enumerate(question.bodies[:most])
        ]

    async def reset(self) -> None:
        """Upstream calls are counted from here."""
        await load.get(f"{self._urls['issuer']}/_reset")

    async def calls(self) -> dict[str, int]:
        """Upstream calls by upstream since the last reset."""
        counts: dict[str, int] = json.loads(await load.get(f"{self._urls['issuer']}/_stats"))["calls"]
        return counts

    async def different_calls(self) -> int:
        """How many different calls the upstreams were ever asked."""
        return int(json.loads(await load.get(f"{self._urls['issuer']}/_stats"))["different"])


@asynccontextmanager
async def running(
    folder: Path,
    database_url: str,
    own: set[int],
    say: Callable[[str], None] = lambda text: None,
    names: Sequence[str] = NAMES,
    cache: bool = False,
    under: Sequence[str] = (),
) -> AsyncIterator[Bench]:
    """All contenders on the core ``own`` over an empty database, with configuration and logs in the folder. The gateway
    remembers nothing, like the others, unless ``cache``. ``under``: the beginning of a command that watches each.
    Raises RuntimeError with the last words of a process that did not start."""
    world = company()
    async with AsyncExitStack() as stack:
        processes = _Processes(folder, own, stack, say, under)
        urls = await processes.stub("tests.benchmarks.stub")
        say("the ledger ...")
        await _fill_ledger(database_url, world)
        config = folder / "config.json"
        config.write_bytes(msgspec.json.encode(_config(world, urls)))
        toml = folder / "gateway.toml"
        toml.write_text(_gateway_toml(urls, cache))
        environment = {"DATABASE_URL": database_url, vendors.CONFIG: str(config)}
        serve = ["serve", "--config", str(toml)]
        gateways = {
            "gateway": ["-m", "gateway", *serve],
            "unaudited": ["-m", "tests.benchmarks.unaudited", *serve],
        }
        servers = [
            await processes.server(
                name, gateways.get(name) or _served(f"tests.benchmarks.{name}"), environment
            )
            for name in names
        ]
        people = [STAFF, *(organisation(account.index) for account in world.accounts)]
        tokens = {person: await load.token(urls["issuer"], person) for person in people}
        yield Bench(servers, urls, questions(world), tokens)


@asynccontextmanager
async def running_plain(
    folder: Path,
    own: set[int],
    say: Callable[[str], None] = lambda text: None,
    under: Sequence[str] = (),
) -> AsyncIterator[Bench]:
    """The same for upstreams that have the graph's shape already: the gateway's parts beside their limit."""
    async with AsyncExitStack() as stack:
        processes = _Processes(folder, own, stack, say, under)
        urls = await processes.stub("tests.benchmarks.comparison.stub")
        environment = {f"{name.upper()}_URL": url for name, url in urls.items()}
        environment["BENCH_ISSUER"] = environment.pop("ISSUER_URL")
        commands = {
            "limit": _served("tests.benchmarks.comparison.limit"),
            "gateway": ["-m", "tests.benchmarks.comparison"],
        }
        servers = [await processes.server(name, commands[name], environment) for name in PLAIN_NAMES]
        tokens = {STAFF: await load.token(urls["issuer"], STAFF)}
        yield Bench(servers, urls, comparison.questions(), tokens)


class _Processes:
    """Starts the stub beside the core under measurement and the servers on it; the stack ends them."""

    def __init__(
        self,
        folder: Path,
        own: set[int],
        stack: AsyncExitStack,
        say: Callable[[str], None],
        under: Sequence[str],
    ) -> None:
        self._folder, self._own, self._stack, self._say = folder, own, stack, say
        self._under = under

    async def stub(self, module: str) -> dict[str, str]:
        """Where it has what, by name."""
        self._say("the upstreams' stub ...")
        others = os.sched_getaffinity(0) - self._own
        stub = self._start("stub", ["-m", module], others, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert stub.stdout
        line = await asyncio.to_thread(stub.stdout.readline)
        if not line:
            raise RuntimeError(_last_words(self._folder, "stub"))
        urls: dict[str, str] = json.loads(line)
        return urls

    async def server(self, name: str, command: list[str], environment: Mapping[str, str]) -> Server:
        """A contender, ready to be asked."""
        self._say(f"{name} ...")
        port = self._stack.enter_context(kept_port())
        process = self._start(
            name,
            [*command, "--port", str(port)],
            self._own,
            self._under,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
        )
        await _answers(name, process, port, self._folder)
        return Server(name, process, port)

    def _start(
        self, name: str, command: list[str], core: set[int], under: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        before = os.sched_getaffinity(0)
        # A child inherits the affinity, all of its threads included.
        os.sched_setaffinity(0, core)
        try:
            # In a session of its own: Ctrl-C is for us, who then end each child by its id.
            process = subprocess.Popen(
                [*under, sys.executable, *command], cwd=TOP, stderr=log, start_new_session=True, **options
            )
        finally:
            os.sched_setaffinity(0, before)
        self._stack.callback(_end, process)
        return process


def _served(module: str) -> list[str]:
    return ["-m", "uvicorn", "--factory", f"{module}:create", "--no-access-log", "--log-level", "warning"]


def _config(world: World, urls: dict[str, str]) -> vendors.Config:
    links = {
        account.hubspot_id: vendors.Link(
            account.xero_contact_id or "", str(account.zendesk_org_id), account.s3_prefix
        )
        for account in world.accounts
    }
    organisations = {organisation(account.index): account.hubspot_id for account in world.accounts}
    return vendors.Config(urls, links, organisations)


async def _fill_ledger(database_url: str, world: World) -> None:
    ledger = await Ledger.open(database_url)
    try:
        await ledger.migrate()
        links = []
        for account in world.accounts:
            ref = Ref("hubspot", account.hubspot_id)
            own = OrganisationRecord(organisation(account.index), account.crm_name, (ref,))
            await ledger.organisations.save(own)
            for source, id_ in (
                ("xero", account.xero_contact_id or ""),
                ("zendesk", str(account.zendesk_org_id)),
                ("s3", account.s3_prefix),
            ):
                links.append(Link(ref, source, LinkState.MATCHED, Ref(source, id_), "number"))
        await ledger.links.record(links)
    finally:
        await ledger.close()


def _gateway_toml(urls: Mapping[str, str], cache: bool) -> str:
    lines = ["[[signin.issuers]]", f"issuer = {_toml(urls['issuer'])}", f"audience = {_toml(AUDIENCE)}"]
    lines.append('believed_for = ["customers", "staff"]')
    lines += ["[cache]", f"enabled = {_toml(cache)}"]
    for row in SYSTEMS:
        settings = msgspec.to_builtins(source_settings(row, urls[row.vendor], quotas=False))
        lines += [f"[sources.{row.kind.value}]", f"vendor = {_toml(row.vendor)}"]
        lines += [f"{name} = {_toml(value)}" for name, value in settings.items() if value is not None]
    return "\n".join([*lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)  # texts, numbers, booleans and lists of them are written alike


async def _answers(name: str, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    for _ in range(START_SECONDS * 20):
        if process.poll() is not None:
            raise RuntimeError(_last_words(folder, name))
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError(f"{name} does not answer after {START_SECONDS} s\n{_last_words(folder, name)}")


def _last_words(folder: Path, name: str) -> str:
    return f"{name}: " + (folder / f"{name}.log").read_text(errors="replace")[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
