"""The limit over the same upstreams: the three answers written out by hand, with Starlette, aiohttp and orjson. No
schema, no parsing of queries, no token.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from yarl import URL

from gateway.collector import spare_the_collector
from tests.benchmarks.comparison.server import upstream_urls

Row = dict[str, Any]


class Handler:
    """POST /graphql; which of the three is told by operationName alone."""

    def __init__(self) -> None:
        self._urls = upstream_urls()

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        ) as self._session:
            spare_the_collector()
            yield

    async def __call__(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        name = asked["operationName"]
        if name == "PortalHome":
            found: Row = {"account": await self._home(asked["variables"]["id"])}
        elif name == "Dashboard":
            found = {"accounts": await self._dashboard(asked["variables"]["offset"])}
        else:
            (row,) = await self._get("crm", "/accounts?ids=1")
            found = {"viewer": {"account": {"name": row["name"]}}}
        return Response(orjson.dumps({"data": found}), media_type="application/json")

    async def _home(self, id_: str) -> Row:
        (row,), contacts, invoices, tickets, documents = await asyncio.gather(
            self._get("crm", f"/accounts?ids={id_}"),
            self._get("crm", f"/contacts?account_ids={id_}"),
            self._get("erp", f"/invoices?account_ids={id_}"),
            self._get("helpdesk", f"/tickets?account_ids={id_}"),
            self._get("docs", f"/documents?account_ids={id_}"),
        )
        return {
            **_head(row),
            "creditLimit": row["creditLimit"],
            "createdAt": row["createdAt"],
            "contacts": [_contact(row) for row in contacts],
            "invoices": [_invoice(row) for row in invoices],
            "tickets": [_ticket(row) for row in tickets],
            "documents": [_document(row) for row in documents],
        }

    async def _dashboard(self, offset: int) -> list[Row]:
        accounts = await self._get("crm", f"/accounts?limit=50&offset={offset}")
        ids = [row["id"] for row in accounts]
        named = ",".join(ids)
        invoices, tickets = await asyncio.gather(
            self._get("erp", f"/invoices?account_ids={named}"),
            self._get("helpdesk", f"/tickets?account_ids={named}"),
        )
        invoices_by: dict[str, list[Row]] = {one: [] for one in ids}
        for row in invoices:
            invoices_by[row["accountId"]].append(_invoice(row))
        tickets_by: dict[str, list[Row]] = {one: [] for one in ids}
        for row in tickets:
            tickets_by[row["accountId"]].append(_ticket(row))
        return [
            {**_head(row), "invoices": invoices_by[row["id"]], "tickets": tickets_by[row["id"]]}
            for row in accounts
        ]

    async def _get(self, upstream: str, target: str) -> Sequence[Row]:
        async with self._session.get(URL(self._urls[upstream] + target, encoded=True)) as answer:
            rows: list[Row] = orjson.loads(await answer.read())
            return rows


def _head(row: Row) -> Row:
    return {
        "id": row["id"],
        "number": row["number"],
        "name": row["name"],
        "segment": row["segment"],
        "city": row["city"],
        "country": row["country"],
    }


def _contact(row: Row) -> Row:
    return {
        "id": row["id"],
        "firstName": row["firstName"],
        "lastName": row["lastName"],
        "email": row["email"],
        "phone": row["phone"],
        "role": row["role"],
    }


def _invoice(row: Row) -> Row:
    return {
        "id": row["id"],
        "number": row["number"],
        "status": row["status"],
        "issueDate": row["issueDate"],
        "dueDate": row["dueDate"],
        "currency": row["currency"],
        "grossTotal": row["grossTotal"],
        "paid": row["paid"],
    }


def _ticket(row: Row) -> Row:
    return {
        "id": row["id"],
        "number": row["number"],
        "subject": row["subject"],
        "status": row["status"],
        "priority": row["priority"],
        "openedAt": row["openedAt"],
    }


def _document(row: Row) -> Row:
    return {
        "id": row["id"],
        "title": row["title"],
        "kind": row["kind"],
        "sizeBytes": row["sizeBytes"],
        "createdAt": row["createdAt"],
    }


def create() -> Starlette:
    """For uvicorn --factory."""
    handler = Handler()
    return Starlette(
        routes=[Route("/graphql", handler.__call__, methods=["POST"])], lifespan=handler.lifespan
    )
