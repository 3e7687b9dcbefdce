"""The benchmark's contenders do the same work: equal answers from equal calls. Nothing is timed here."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.benchmarks import load
from tests.benchmarks.__main__ import canonical
from tests.benchmarks.contenders import NAMES, Bench, NoCores, cores, running
from tests.benchmarks.workload import leaves
from tests.conftest import fresh_database


@pytest_asyncio.fixture(scope="module")
async def bench(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """All contenders, running."""
    try:
        own, _ = cores()
    except NoCores as reason:
        pytest.skip(str(reason))
    folder: Path = tmp_path_factory.mktemp("bench")
    async with fresh_database(postgres) as url, running(folder, url, own) as contenders:
        yield contenders


@pytest.mark.parametrize("number", range(3), ids=["portal home", "dashboard", "tiny"])
async def test_all_contenders_give_the_same_data_from_the_same_calls(bench: Bench, number: int) -> None:
    question = bench.questions[number]
    requests = bench.requests(question, 1)
    answers, calls, different = [], [], []

    for name in NAMES:
        await bench.reset()
        (body,) = await load.ask(bench.servers[name].port, requests)
        counted = await bench.calls()
        answers.append(canonical(body))
        calls.append({vendor: counted[vendor] for vendor in ("hubspot", "zendesk", "s3")})
        different.append(await bench.different_calls())

    assert leaves(json.loads(answers[0])) == question.leaves
    assert answers == answers[:1] * len(NAMES)
    assert calls == calls[:1] * len(NAMES)
    assert different == different[:1] * len(NAMES)
