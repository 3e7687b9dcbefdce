"""The benchmark's contenders do the same work: equal answers from equal calls. Nothing is timed here."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from tests.benchmarks import load
from tests.benchmarks.__main__ import canonical
from tests.benchmarks.bytecodes import Bytecodes
from tests.benchmarks.contenders import TOP, Bench, NoCores, Server, cores, running, running_plain
from tests.benchmarks.instructions import Instructions, NoValgrind
from tests.benchmarks.workload import leaves
from tests.conftest import fresh_database


@pytest_asyncio.fixture(scope="module")
async def bench(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """All contenders over the vendors, running."""
    folder: Path = tmp_path_factory.mktemp("bench")
    async with fresh_database(postgres) as url, running(folder, url, _own_core()) as contenders:
        yield contenders


@pytest_asyncio.fixture(scope="module")
async def plain_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """The contenders over plain upstreams, running."""
    async with running_plain(tmp_path_factory.mktemp("bench"), _own_core()) as contenders:
        yield contenders


def _own_core() -> set[int]:
    try:
        own, _ = cores()
    except NoCores as reason:
        pytest.skip(str(reason))
    return own


@pytest.mark.parametrize("number", range(3), ids=["portal home", "dashboard", "tiny"])
async def test_all_contenders_give_the_same_data_from_the_same_calls(bench: Bench, number: int) -> None:
    await _require_the_same(bench, number, counted=("hubspot", "zendesk", "s3"))


@pytest.mark.parametrize("number", range(3), ids=["portal home", "dashboard", "tiny"])
async def test_over_plain_upstreams_too(plain_bench: Bench, number: int) -> None:
    calls = await _require_the_same(plain_bench, number, counted=plain_bench.upstreams)

    home, dashboard, tiny = (2, 1, 1, 1), (1, 1, 1, 0), (1, 0, 0, 0)
    assert tuple(calls.values()) == (home, dashboard, tiny)[number]


async def _require_the_same(bench: Bench, number: int, counted: Sequence[str]) -> dict[str, int]:
    """Of all contenders; the calls that each has made."""
    question = bench.questions[number]
    requests = bench.requests(question, 1)
    answers, calls, different = [], [], []

    for server in bench.servers.values():
        await bench.reset()
        (body,) = await load.ask(server.port, requests)
        count = await bench.calls()
        answers.append(canonical(body))
        calls.append({upstream: count[upstream] for upstream in counted})
        different.append(await bench.different_calls())

    assert leaves(json.loads(answers[0])) == question.leaves
    assert answers == answers[:1] * len(bench.servers)
    assert calls == calls[:1] * len(bench.servers)
    assert different == different[:1] * len(bench.servers)
    return calls[0]


def test_who_wants_instructions_counted_without_valgrind_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoValgrind, match="install valgrind"):
        Instructions(tmp_path)


TURNS = """
import sys

def turn():
    return sum(range(10))

for _ in sys.stdin:
    turn()
    print(flush=True)
"""


async def test_bytecodes_are_counted_between_two_signals_and_by_function(tmp_path: Path) -> None:
    counter = Bytecodes(tmp_path)
    (tmp_path / "turns.py").write_text(TURNS)
    process = subprocess.Popen(
        [*counter.under, sys.executable, "-m", "turns"],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def turns(times: int) -> None:
        assert process.stdin
        assert process.stdout
        for _ in range(times):
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()

    try:
        turns(3)
        server = Server("turns", process, 0)
        found = []
        for times in (1, 5):
            await counter.begin(server)
            turns(times)
            functions = {one.name: one for one in await counter.end(server, times)}
            found.append((functions["turn"].calls, functions["turn"].bytecodes))
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait()

    assert found[0] == found[1]
    assert found[0][0] == 1
    assert 1 < found[0][1] < 20
