"""The comparison server over the back office that other gateways are compared on, where its folder lies beside this one:
the JSON that it answers is the very text that a rendering of the stub's rows by hand gives.
"""

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from graphql import GraphQLEnumType, GraphQLObjectType, GraphQLSchema, build_schema

from tests.benchmarks.comparison.graph import Schema
from tests.benchmarks.contenders import TOP

FOLDER = TOP.parent / "shared" / "bench"
UPSTREAMS = ("CRM_URL", "ERP_URL", "HELPDESK_URL", "DOCS_URL")

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs the folder that gateways are compared by")


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _free_ports(count: int) -> int:
    """The first of so many in a row."""
    for first in range(24_100, 32_000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@pytest_asyncio.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    """Of the comparison server, over the stub of the other folder."""
    first = _free_ports(5)
    stub = subprocess.Popen(
        [sys.executable, str(FOLDER / "stub.py")],
        env={**os.environ, "STUB_BASE_PORT": str(first)},
        stdout=subprocess.PIPE,
    )
    urls = {name: f"http://127.0.0.1:{first + place}" for place, name in enumerate(UPSTREAMS)}
    served = ["-m", "uvicorn", "--factory", "tests.benchmarks.comparison:create", "--log-level", "warning"]
    server = subprocess.Popen(
        [sys.executable, *served, "--port", str(first + 4)],
        cwd=TOP,
        env={**os.environ, **urls, "BENCH_TOKEN": "some-token"},
    )
    try:
        assert stub.stdout is not None
        assert (await asyncio.to_thread(stub.stdout.readline)).startswith(b"stub ready")
        async with aiohttp.ClientSession() as session:
            for _ in range(600):
                try:
                    await session.get(f"http://127.0.0.1:{first + 4}/graphql")
                    break
                except aiohttp.ClientConnectionError:
                    assert server.poll() is None
                    await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{first + 4}/graphql"
    finally:
        for process in (server, stub):
            process.terminate()
            await asyncio.to_thread(process.wait)
        stub.stdout.close()  # type: ignore[union-attr]


def _expected(rows: dict[str, Any], name: str, variables: dict[str, Any]) -> Any:
    """By hand, the fields in the query's order."""

    def of(kind: str, account: str, *fields: str) -> list[dict[str, Any]]:
        return [{field: row[field] for field in fields} for row in rows[kind][account]]

    def invoices(account: str) -> list[dict[str, Any]]:
        return of(
            "invoices",
            account,
            *("id", "number", "status", "issueDate", "dueDate", "currency", "grossTotal", "paid"),
        )

    def tickets(account: str) -> list[dict[str, Any]]:
        return of("tickets", account, "id", "number", "subject", "status", "priority", "openedAt")

    head = ("id", "number", "name", "segment", "city", "country")
    if name == "Q1":
        id_ = variables["id"]
        if id_ not in rows["accounts"]:
            return {"account": None}
        account = {field: rows["accounts"][id_][field] for field in (*head, "creditLimit", "createdAt")}
        account["contacts"] = of("contacts", id_, "id", "firstName", "lastName", "email", "phone", "role")
        account["invoices"], account["tickets"] = invoices(id_), tickets(id_)
        account["documents"] = of("documents", id_, "id", "title", "kind", "sizeBytes", "createdAt")
        return {"account": account}
    if name == "Q2":
        start = variables["offset"]
        return {
            "accounts": [
                {field: row[field] for field in head} | {"invoices": invoices(id_), "tickets": tickets(id_)}
                for id_, row in list(rows["accounts"].items())[start : start + 50]
            ]
        }
    return {"viewer": {"account": {"name": rows["accounts"]["1"]["name"]}}}


async def test_every_answer_is_the_text_that_a_rendering_by_hand_gives(url: str) -> None:
    rows, asked = _module("stub").DATA, _module("queries").QUERIES
    headers = {"Authorization": "Bearer some-token"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name, bodies in asked.items():
            for _ in range(2):  # by graphql-core the first time, planned from then on
                for body in bodies[:: 1 if name == "Q3" else 7]:
                    async with session.post(url, json=body) as answer:
                        text = await answer.text()
                    variables = body.get("variables", {})
                    expected = {"data": _expected(rows, name, variables)}
                    assert text == json.dumps(expected, ensure_ascii=False, separators=(",", ":")), (
                        name,
                        variables,
                    )


async def test_an_account_that_is_not_there_is_null(url: str) -> None:
    body = {"query": _module("queries").Q1, "variables": {"id": "0"}}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert await answer.json() == {"data": {"account": None}}


def test_the_schema_is_the_one_that_all_contenders_serve() -> None:
    theirs = build_schema((FOLDER / "schema.graphql").read_text())
    ours = Schema().graphql

    def shape(schema: GraphQLSchema) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, kind in schema.type_map.items():
            if name in theirs.type_map and isinstance(kind, GraphQLObjectType):
                found[name] = {
                    field: (
                        str(its.type),
                        {key: str(a.type) for key, a in its.args.items()},
                    )
                    for field, its in kind.fields.items()
                    if not name.startswith("__")
                }
            elif name in theirs.type_map and isinstance(kind, GraphQLEnumType):
                found[name] = sorted(kind.values)
        return found

    assert shape(ours) == shape(theirs)
