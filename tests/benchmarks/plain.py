"""The same graph as one usually writes it in Strawberry: its ASGI application, its DataLoader, a permission class per
protected field, the token verified per request. No limits, no links in a database, no check of rows.
"""

import asyncio
import posixpath
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import aiohttp
import orjson
import strawberry
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig

from gateway.collector import spare_the_collector
from permissions.roles import Roles
from tests.benchmarks import limit
from tests.benchmarks.vendors import ALL, ISSUED, Config, Vendors, in_two

Row = dict[str, Any]


class Context:
    """One per request."""

    def __init__(self, config: Config, vendors: Vendors, claims: dict[str, Any]) -> None:
        self.config, self.vendors, self.claims = config, vendors, claims
        self.scopes = Roles().scopes_of(claims["roles"])
        self.today = datetime.now(UTC).date()
        self.account = DataLoader(load_fn=self._accounts)
        self.contacts = DataLoader(load_fn=self._contacts)
        self.invoices = DataLoader(load_fn=self._invoices)
        self.tickets = DataLoader(load_fn=self._tickets)
        self.documents = DataLoader(load_fn=self._documents)

    async def _accounts(self, ids: list[str]) -> list[Row | None]:
        rows = {row["id"]: row for row in await self.vendors.companies(ids)}
        return [rows.get(one) for one in ids]

    async def _contacts(self, ids: list[str]) -> list[list[Row]]:
        rows = await self.vendors.contacts_of(ids)
        return [rows.get(one, []) for one in ids]

    async def _invoices(self, ids: list[str]) -> list[list[Row]]:
        customers = [self.config.links[one].xero for one in ids]
        statuses = ALL if "invoices:drafts" in self.scopes else ISSUED
        if len(customers) == 1:
            rows = await self.vendors.invoices_of(customers, statuses, 50)
        else:
            rows = await in_two(self.vendors.invoices_of, customers, statuses, 787)
        grouped: dict[str, list[Row]] = {one: [] for one in customers}
        for row in rows:
            grouped[row["Contact"]["ContactID"]].append(row)
        return list(grouped.values())

    async def _tickets(self, ids: list[str]) -> list[list[Row]]:
        customers = [self.config.links[one].zendesk for one in ids]
        if len(customers) == 1:
            rows = await self.vendors.tickets_of(customers[0], 25)
        else:
            rows = await in_two(self.vendors.tickets_of_many, customers)
        grouped: dict[str, list[Row]] = {one: [] for one in customers}
        for row in rows:
            grouped[str(row["organization_id"])].append(row)
        return list(grouped.values())

    async def _documents(self, ids: list[str]) -> list[list[tuple[str, int, str]]]:
        folders = (self.config.links[one].s3 for one in ids)
        found = await asyncio.gather(*map(self.vendors.objects_in, folders))
        return [sorted(objects, key=lambda row: (row[2], row[0]), reverse=True) for objects in found]


Info = strawberry.Info[Context, None]


def _needs(scope: str) -> type[BasePermission]:
    class Needs(BasePermission):
        message = f"needs {scope}"

        def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
            return scope in info.context.scopes

    return Needs


InvoiceStatus = strawberry.enum(
    Enum("InvoiceStatus", [(v, v) for v in dict.fromkeys(limit.INVOICE_STATUS.values())])  # type: ignore[misc]
)
TicketStatus = strawberry.enum(Enum("TicketStatus", [(v, v) for v in limit.TICKET_STATUS.values()]))  # type: ignore[misc]
TicketPriority = strawberry.enum(Enum("TicketPriority", [(v, v) for v in limit.PRIORITY.values() if v]))  # type: ignore[misc]
DocumentKind = strawberry.enum(Enum("DocumentKind", [(v, v) for v in limit.KINDS.values()]))  # type: ignore[misc]


@strawberry.type
class Address:
    city: str | None
    country: str | None


@strawberry.type
class Money:
    amount: Decimal
    currency: str


@strawberry.type
class Contact:
    id: strawberry.ID
    first_name: str | None
    last_name: str | None
    email: str | None
    phone: str | None
    job_title: str | None


@strawberry.type
class Invoice:
    id: strawberry.ID
    number: str | None
    status: InvoiceStatus  # type: ignore[valid-type]
    issue_date: date | None
    due_date: date | None
    total: Money | None

    @strawberry.field
    def overdue(self, info: Info) -> bool | None:
        if self.due_date is None:
            return None
        return self.status is InvoiceStatus.OPEN and self.due_date < info.context.today  # type: ignore[attr-defined]


@strawberry.type
class Ticket:
    id: strawberry.ID
    number: str
    subject: str | None
    status: TicketStatus  # type: ignore[valid-type]
    priority: TicketPriority | None  # type: ignore[valid-type]
    created_at: datetime | None


@strawberry.type
class Document:
    id: strawberry.ID
    title: str
    kind: DocumentKind  # type: ignore[valid-type]
    size: int | None
    updated_at: datetime | None


@strawberry.type
class ContactConnection:
    nodes: list[Contact]


@strawberry.type
class InvoiceConnection:
    nodes: list[Invoice]


@strawberry.type
class TicketConnection:
    nodes: list[Ticket]


@strawberry.type
class DocumentConnection:
    nodes: list[Document]


@strawberry.type
class Account:
    crm_id: strawberry.Private[str]
    id: strawberry.ID
    number: str | None
    name: str | None
    industry: str | None
    address: Address | None
    website: str | None
    created_at: datetime | None

    @strawberry.field(permission_classes=[_needs("contacts:read")])
    async def contacts(self, info: Info, first: int = 20) -> ContactConnection | None:
        rows = await info.context.contacts.load(self.crm_id)
        return ContactConnection(nodes=[_contact(row) for row in rows[:first]])

    @strawberry.field(permission_classes=[_needs("invoices:read")])
    async def invoices(self, info: Info, first: int = 20) -> InvoiceConnection | None:
        rows = await info.context.invoices.load(self.crm_id)
        return InvoiceConnection(nodes=[_invoice(row) for row in rows[:first]])

    @strawberry.field(permission_classes=[_needs("tickets:read")])
    async def tickets(self, info: Info, first: int = 20) -> TicketConnection | None:
        rows = await info.context.tickets.load(self.crm_id)
        return TicketConnection(nodes=[_ticket(row) for row in rows[:first]])

    @strawberry.field(permission_classes=[_needs("documents:read")])
    async def documents(self, info: Info, first: int = 20) -> DocumentConnection | None:
        rows = await info.context.documents.load(self.crm_id)
        folder = info.context.config.links[self.crm_id].s3
        return DocumentConnection(nodes=[_document(*row, folder) for row in rows[:first]])


@strawberry.type
class AccountConnection:
    nodes: list[Account]


@strawberry.type
class Viewer:
    name: str | None

    @strawberry.field(permission_classes=[_needs("accounts:read")])
    async def account(self, info: Info) -> Account | None:
        mine = info.context.claims["organisations"]
        row = await info.context.account.load(info.context.config.organisations[mine[0]]) if mine else None
        return _account(row) if row else None


@strawberry.type
class Query:
    @strawberry.field
    def viewer(self, info: Info) -> Viewer | None:
        return Viewer(name=info.context.claims["name"])

    @strawberry.field(permission_classes=[_needs("accounts:read")])
    async def account(self, info: Info, id: strawberry.ID) -> Account | None:
        row = await info.context.account.load(_decoded(id).rpartition(":")[2])
        return _account(row) if row else None

    @strawberry.field(permission_classes=[_needs("accounts:read")])
    async def accounts(
        self, info: Info, first: int = 20, after: str | None = None
    ) -> AccountConnection | None:
        moment = last = None
        if after is not None:
            _, (moment, last) = orjson.loads(_decoded(after))
            moment = moment.lstrip("0")
        rows = await info.context.vendors.companies_from(moment, (first + 1) * 3 // 2)
        shown = [row for row in rows if row["id"] != last][:first]
        return AccountConnection(nodes=[_account(row) for row in shown])


def _account(row: Row) -> Account:
    company = row["properties"]
    return Account(
        crm_id=row["id"],
        id=_id("Account:hubspot:" + row["id"]),
        number=company["account_number"],
        name=company["name"],
        industry=company["industry"],
        address=Address(city=company["city"], country=company["country"]),
        website=company["website"],
        created_at=datetime.fromisoformat(company["createdate"]),
    )


def _contact(row: Row) -> Contact:
    person = row["properties"]
    return Contact(
        id=_id("Contact:hubspot:" + row["id"]),
        first_name=person["firstname"],
        last_name=person["lastname"],
        email=person["email"],
        phone=person["phone"],
        job_title=person["jobtitle"],
    )


def _invoice(row: Row) -> Invoice:
    return Invoice(
        id=_id("Invoice:xero:" + row["InvoiceID"]),
        number=row["InvoiceNumber"],
        status=InvoiceStatus[limit.INVOICE_STATUS[row["Status"]]],
        issue_date=date.fromisoformat(row["DateString"][:10]),
        due_date=date.fromisoformat(row["DueDateString"][:10]),
        total=Money(amount=Decimal(f"{row['Total']:.2f}"), currency=row["CurrencyCode"]),
    )


def _ticket(row: Row) -> Ticket:
    number, priority = str(row["id"]), limit.PRIORITY[row["priority"]]
    return Ticket(
        id=_id("Ticket:zendesk:" + number),
        number=number,
        subject=row["subject"],
        status=TicketStatus[limit.TICKET_STATUS[row["status"]]],
        priority=TicketPriority[priority] if priority else None,
        created_at=datetime.fromisoformat(row["created_at"]),
    )


def _document(key: str, size: int, moment: str, folder: str) -> Document:
    kind, _, name = key.removeprefix(folder).partition("/")
    return Document(
        id=_id("Document:s3:" + key),
        title=posixpath.splitext(name)[0],
        kind=DocumentKind[limit.KINDS[kind]],
        size=size,
        updated_at=datetime.fromisoformat(moment),
    )


def _id(text: str) -> strawberry.ID:
    return strawberry.ID(urlsafe_b64encode(text.encode()).decode().rstrip("="))


def _decoded(text: str) -> str:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


class Endpoint(GraphQL[Context, None]):
    """Strawberry's own endpoint, with a context that has verified the token."""

    def __init__(self) -> None:
        moments = strawberry.scalar(
            name="DateTime", serialize=lambda value: value.isoformat().replace("+00:00", "Z")
        )
        super().__init__(strawberry.Schema(Query, config=StrawberryConfig(scalar_map={datetime: moments})))
        self._config = Config.read()

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        issuer = self._config.urls["issuer"]
        async with (
            Vendors(self._config.urls) as self._vendors,
            aiohttp.ClientSession() as session,
            session.get(f"{issuer}/jwks") as answer,
        ):
            self._keys = KeySet.import_key_set(await answer.json())
            spare_the_collector()
            yield

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        token = request.headers["authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, self._keys, algorithms=["RS256"]).claims
        jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self._config.urls["issuer"]}, exp={"essential": True}
        ).validate(claims)
        return Context(self._config, self._vendors, claims)


def create() -> Starlette:
    """For uvicorn --factory."""
    endpoint = Endpoint()
    return Starlette(routes=[Route("/graphql", endpoint)], lifespan=endpoint.lifespan)
