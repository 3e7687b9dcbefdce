"""The limit: the three answers written out by hand. No schema, no parsing of queries, no token, no permissions.

A Starlette route on uvicorn[standard], aiohttp to the vendors (S3 signed by botocore, as the gateway does), orjson for
vendors' JSON and for the answer, only the fields of the three queries, the links in a dict.
"""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.collector import spare_the_collector
from tests.benchmarks.stub import organisation
from tests.benchmarks.vendors import ALL, ISSUED, Config, Link, Vendors, in_two

KINDS = {
    "contracts": "CONTRACT",
    "certificates": "CERTIFICATE",
    "guides": "GUIDE",
    "reports": "REPORT",
    "statements": "STATEMENT",
}
INVOICE_STATUS = {
    "DRAFT": "DRAFT",
    "SUBMITTED": "DRAFT",
    "AUTHORISED": "OPEN",
    "PAID": "PAID",
    "VOIDED": "VOID",
}
TICKET_STATUS = {
    "new": "NEW",
    "open": "OPEN",
    "pending": "PENDING",
    "hold": "ON_HOLD",
    "solved": "SOLVED",
    "closed": "CLOSED",
}
PRIORITY = {None: None, "low": "LOW", "normal": "NORMAL", "high": "HIGH", "urgent": "URGENT"}


class Handler:
    """POST /graphql; which of the three is told by operationName alone."""

    def __init__(self) -> None:
        self._config = Config.read()
        self._links: dict[str, Link] = self._config.links
        self._viewer = self._config.organisations[organisation(0)]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with Vendors(self._config.urls) as self._vendors:
            spare_the_collector()
            yield

    async def __call__(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        name, variables = asked["operationName"], asked["variables"]
        if name == "Home":
            found: dict[str, Any] = {"account": await self._home(variables["id"])}
        elif name == "Dashboard":
            found = {"accounts": await self._dashboard(variables["after"])}
        else:
            found = {"viewer": {"account": await self._account_name()}}
        return Response(orjson.dumps({"data": found}), media_type="application/json")

    async def _home(self, node: str) -> dict[str, Any]:
        id_ = _decoded(node).rpartition(":")[2]
        link, vendors = self._links[id_], self._vendors
        companies, contacts, invoices, tickets, objects = await asyncio.gather(
            vendors.companies([id_]),
            vendors.contacts_of([id_]),
            vendors.invoices_of([link.xero], ISSUED, 50),
            vendors.tickets_of(link.zendesk, 25),
            vendors.objects_in(link.s3),
        )
        today = _today()
        company = companies[0]["properties"]
        objects.sort(key=lambda found: (found[2], found[0]), reverse=True)
        return {
            **_head(companies[0]),
            "website": company["website"],
            "createdAt": _moment(company["createdate"]),
            "contacts": {"nodes": [_contact(row) for row in contacts[id_][:5]]},
            "invoices": {"nodes": [_invoice(row, today) for row in invoices[:20]]},
            "tickets": {"nodes": [_ticket(row) for row in tickets[:10]]},
            "documents": {"nodes": [_document(*found, len(link.s3)) for found in objects[:10]]},
        }

    async def _dashboard(self, after: str | None) -> dict[str, Any]:
        moment = last = None
        if after:
            _, (moment, last) = orjson.loads(_decoded(after))
            moment = moment.lstrip("0")
        companies = await self._vendors.companies_from(moment, 76)
        companies = [row for row in companies if row["id"] != last][:50]
        links = [self._links[row["id"]] for row in companies]
        invoices, tickets = await asyncio.gather(
            in_two(self._vendors.invoices_of, [link.xero for link in links], ALL, 787),
            in_two(self._vendors.tickets_of_many, [link.zendesk for link in links]),
        )
        today = _today()
        invoices_by: dict[str, list[dict[str, Any]]] = {link.xero: [] for link in links}
        for row in invoices:
            mine = invoices_by[row["Contact"]["ContactID"]]
            if len(mine) < 20:
                mine.append(_invoice(row, today))
        tickets_by: dict[str, list[dict[str, Any]]] = {link.zendesk: [] for link in links}
        for row in tickets:
            mine = tickets_by[str(row["organization_id"])]
            if len(mine) < 10:
                mine.append(_ticket(row))
        return {
            "nodes": [
                {
                    **_head(row),
                    "invoices": {"nodes": invoices_by[link.xero]},
                    "tickets": {"nodes": tickets_by[link.zendesk]},
                }
                for row, link in zip(companies, links, strict=True)
            ]
        }

    async def _account_name(self) -> dict[str, Any]:
        (row,) = await self._vendors.companies([self._viewer])
        return {"name": row["properties"]["name"]}


def _head(row: dict[str, Any]) -> dict[str, Any]:
    company = row["properties"]
    return {
        "id": _id("Account:hubspot:" + row["id"]),
        "number": company["account_number"],
        "name": company["name"],
        "industry": company["industry"],
        "address": {"city": company["city"], "country": company["country"]},
    }


def _contact(row: dict[str, Any]) -> dict[str, Any]:
    person = row["properties"]
    return {
        "id": _id("Contact:hubspot:" + row["id"]),
        "firstName": person["firstname"],
        "lastName": person["lastname"],
        "email": person["email"],
        "phone": person["phone"],
        "jobTitle": person["jobtitle"],
    }


def _invoice(row: dict[str, Any], today: str) -> dict[str, Any]:
    status, due = INVOICE_STATUS[row["Status"]], row["DueDateString"][:10]
    return {
        "id": _id("Invoice:xero:" + row["InvoiceID"]),
        "number": row["InvoiceNumber"],
        "status": status,
        "issueDate": row["DateString"][:10],
        "dueDate": due,
        "total": {"amount": f"{row['Total']:.2f}", "currency": row["CurrencyCode"]},
        "overdue": status == "OPEN" and due < today,
    }


def _ticket(row: dict[str, Any]) -> dict[str, Any]:
    number = str(row["id"])
    return {
        "id": _id("Ticket:zendesk:" + number),
        "number": number,
        "subject": row["subject"],
        "status": TICKET_STATUS[row["status"]],
        "priority": PRIORITY[row["priority"]],
        "createdAt": row["created_at"],
    }


def _document(key: str, size: int, moment: str, folder: int) -> dict[str, Any]:
    kind, _, name = key[folder:].partition("/")
    return {
        "id": _id("Document:s3:" + key),
        "title": name.rpartition(".")[0],
        "kind": KINDS[kind],
        "size": size,
        "updatedAt": _moment(moment),
    }


def _id(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def _moment(text: str) -> str:
    return text.replace(".000Z", "Z")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def create() -> Starlette:
    """For uvicorn --factory."""
    handler = Handler()
    return Starlette(
        routes=[Route("/graphql", handler.__call__, methods=["POST"])], lifespan=handler.lifespan
    )
