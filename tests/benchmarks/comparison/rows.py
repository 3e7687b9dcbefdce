"""The upstreams' rows, and the calls that fetch them: decoded straight into records with the fields that the graph shows."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import msgspec

from sources.transport.http import HttpClient, NoAuth
from sources.transport.limits import SourceSettings
from sources.transport.traffic import Traffic

PARALLEL = 64
"""Calls to one upstream at a time."""


class Segment(Enum):
    """Read as members, not text: that makes no new object per row, and the executor shows a column of members at once."""

    ENTERPRISE = "ENTERPRISE"
    MIDMARKET = "MIDMARKET"
    SMALL = "SMALL"


class ContactRole(Enum):
    BUYER = "BUYER"
    ACCOUNTING = "ACCOUNTING"
    TECHNICAL = "TECHNICAL"


class InvoiceStatus(Enum):
    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PAID = "PAID"
    OVERDUE = "OVERDUE"


class TicketStatus(Enum):
    NEW = "NEW"
    WAITING = "WAITING"
    SOLVED = "SOLVED"


class Priority(Enum):
    LOW = "LOW"
    NORMAL = "NORMAL"
    HIGH = "HIGH"


class DocumentKind(Enum):
    CONTRACT = "CONTRACT"
    DATASHEET = "DATASHEET"
    DELIVERY_NOTE = "DELIVERY_NOTE"


class Row(msgspec.Struct, rename="camel", gc=False):
    """Texts, numbers and enum members only, which can be in no cycle. Amounts and dates stay the texts that came."""

    id: str


class AccountRow(Row):
    number: str
    name: str
    segment: Segment
    city: str
    country: str
    credit_limit: str
    created_at: str


class OwnedRow(Row):
    account_id: str


class ContactRow(OwnedRow):
    first_name: str
    last_name: str
    email: str
    phone: str
    role: ContactRole


class InvoiceRow(OwnedRow):
    number: str
    status: InvoiceStatus
    issue_date: str
    due_date: str
    currency: str
    net_total: str
    gross_total: str
    line_count: int
    paid: bool


class TicketRow(OwnedRow):
    number: str
    subject: str
    status: TicketStatus
    priority: Priority
    opened_at: str


class DocumentRow(OwnedRow):
    title: str
    kind: DocumentKind
    size_bytes: int
    created_at: str


R = TypeVar("R", bound=OwnedRow)


class Owned(Protocol):
    """Reads the rows of several accounts, in the order of the accounts."""

    async def __call__(self, accounts: Sequence[str], /) -> list[list[Any]]: ...


def _traffic(name: str) -> Traffic:
    return Traffic(name, parallel=PARALLEL, settings=SourceSettings(private_addresses=("127.0.0.1",)))


class Upstreams:
    """The four, by the names ``crm``, ``erp``, ``helpdesk`` and ``docs``."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._clients = {
            name: HttpClient(name, url, auth=NoAuth(), traffic=_traffic(name)) for name, url in urls.items()
        }
        self._accounts = msgspec.json.Decoder(list[AccountRow])
        self.contacts = self._owned("crm", "/contacts", msgspec.json.Decoder(list[ContactRow]))
        self.invoices = self._owned("erp", "/invoices", msgspec.json.Decoder(list[InvoiceRow]))
        self.tickets = self._owned("helpdesk", "/tickets", msgspec.json.Decoder(list[TicketRow]))
        self.documents = self._owned("docs", "/documents", msgspec.json.Decoder(list[DocumentRow]))

    async def close(self) -> None:
        """Ends kept-alive connections."""
        for client in self._clients.values():
            await client.close()

    async def accounts(self, ids: Sequence[str]) -> list[AccountRow | None]:
        """In the order asked; None where there is no such account."""
        found = {row.id: row for row in await self._listed([("ids", ",".join(ids))])}
        return list(map(found.get, ids))

    async def page(self, limit: int, offset: int) -> list[AccountRow]:
        """The accounts from this place on."""
        return await self._listed([("limit", str(limit)), ("offset", str(offset))])

    async def _listed(self, params: Sequence[tuple[str, str]]) -> list[AccountRow]:
        client = self._clients["crm"]
        return client.decode(await client.call("GET", "/accounts", params=params), self._accounts)

    def _owned(self, source: str, path: str, decoder: msgspec.json.Decoder[list[R]]) -> Owned:
        client = self._clients[source]

        async def read(accounts: Sequence[str]) -> list[list[Any]]:
            answer = await client.call("GET", path, params=[("account_ids", ",".join(accounts))])
            return by_owner(client.decode(answer, decoder), accounts)

        return read


def by_owner(found: Iterable[OwnedRow], accounts: Sequence[str]) -> list[list[Any]]:
    """The rows of each account."""
    rows: dict[str, list[Any]] = {account: [] for account in accounts}
    # Whose a row is, it says itself; rows of one account mostly come together.
    for account, some in groupby(found, _owner):
        rows[account].extend(some)
    return list(rows.values())


_owner = attrgetter("account_id")
