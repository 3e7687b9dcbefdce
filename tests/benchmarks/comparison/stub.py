"""The plain upstreams: a CRM, an ERP, a helpdesk and a document store whose rows have the graph's names, and more fields
than it shows. Run as ``python -m tests.benchmarks.comparison.stub``: prints the addresses and ends as the vendors' stub does.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import islice
from random import Random
from typing import Any

import orjson
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.demo_issuer import DemoIssuer
from tests.benchmarks.company import ACCOUNTS, CONTACTS, DOCUMENTS, INVOICES, TICKETS
from tests.benchmarks.stub import serve, staff

Row = dict[str, Any]
Rows = dict[str, Row]
RowsOf = dict[str, Sequence[Row]]

_NAMES = ("Anna", "Béla", "Chloé", "Dmitri", "Eva", "Jürgen", "Noor", "Zoë")
_STEMS = ("Möller", "Ørsted", "Harbour", "Kovács", "Tanaka", "Novák", "García", "Weber")
_GOODS = ("pumps", "sensors", "cables", "motors", "filters")


def _account(id_: str, rng: Random) -> Row:
    return {
        "id": id_,
        "number": f"C-{int(id_):05d}",
        "name": f"{rng.choice(_STEMS)} {rng.choice(_GOODS).title()} {id_}",
        "segment": rng.choice(("ENTERPRISE", "MIDMARKET", "SMALL")),
        "city": rng.choice(("Hamburg", "Kraków", "Leeds", "Lyon")),
        "country": rng.choice(("DE", "PL", "GB", "FR")),
        "creditLimit": _amount(rng),
        "createdAt": _day(rng),
        "vatNumber": f"DE{rng.randint(10**8, 10**9 - 1)}",
        "salesRegion": "north",
        "dormant": False,
    }


def _contact(id_: str, account: str, rng: Random) -> Row:
    first, last = rng.choice(_NAMES), rng.choice(_STEMS)
    return {
        "id": id_,
        "accountId": account,
        "firstName": first,
        "lastName": last,
        "email": f"{id_}@customer{account}.example",
        "phone": f"+49 40 {rng.randint(10**6, 10**7 - 1)}",
        "role": rng.choice(("BUYER", "ACCOUNTING", "TECHNICAL")),
        "locale": "en",
    }


def _invoice(id_: str, account: str, rng: Random) -> Row:
    return {
        "id": id_,
        "accountId": account,
        "number": f"INV-{rng.randint(10**6, 10**7 - 1)}",
        "status": rng.choice(("DRAFT", "OPEN", "PAID", "OVERDUE")),
        "issueDate": _day(rng),
        "dueDate": _day(rng),
        "currency": "EUR",
        "netTotal": _amount(rng),
        "taxTotal": _amount(rng),
        "grossTotal": _amount(rng),
        "lineCount": rng.randint(1, 40),
        "paid": rng.random() < 0.5,
        "reference": f"PO-{rng.randint(10**5, 10**6 - 1)}",
    }


def _ticket(id_: str, account: str, rng: Random) -> Row:
    return {
        "id": id_,
        "accountId": account,
        "number": f"T-{rng.randint(10**4, 10**5 - 1)}",
        "subject": f'The {rng.choice(_GOODS)} of order {rng.randint(1000, 9999)} are "late"',
        "status": rng.choice(("NEW", "WAITING", "SOLVED")),
        "priority": rng.choice(("LOW", "NORMAL", "HIGH")),
        "openedAt": _day(rng),
        "assignedTo": "Sam Support",
        "via": "portal",
    }


def _document(id_: str, account: str, rng: Random) -> Row:
    return {
        "id": id_,
        "accountId": account,
        "title": f"Guide to {rng.choice(_GOODS)}, {id_}",
        "kind": rng.choice(("CONTRACT", "DATASHEET", "DELIVERY_NOTE")),
        "sizeBytes": rng.randint(10_000, 9_000_000),
        "createdAt": _day(rng),
        "contentType": "application/pdf",
        "digest": f"{rng.getrandbits(128):032x}",
    }


def _amount(rng: Random) -> str:
    return f"{rng.randint(5_000, 1_000_000) / 100:.2f}"


def _day(rng: Random) -> str:
    return (date(2024, 1, 1) + timedelta(days=rng.randrange(700))).isoformat()


def accounts() -> Rows:
    """All of them, the same every time."""
    return {id_: _account(id_, Random(f"account/{id_}")) for id_ in map(str, range(1, ACCOUNTS + 1))}


def _of_each(make: Callable[[str, str, Random], Row], each: int) -> RowsOf:
    """Some rows for each account, the same every time."""
    return {
        account: [
            make(f"{account}-{number}", account, Random(f"{make.__name__}/{account}/{number}"))
            for number in range(1, each + 1)
        ]
        for account in map(str, range(1, ACCOUNTS + 1))
    }


def owned() -> dict[str, RowsOf]:
    """What they have, by its kind, the same every time."""
    return {
        "contacts": _of_each(_contact, CONTACTS),
        "invoices": _of_each(_invoice, INVOICES),
        "tickets": _of_each(_ticket, TICKETS),
        "documents": _of_each(_document, DOCUMENTS),
    }


def _listed(rows: Rows) -> Route:
    async def listed(request: Request) -> Response:
        params = request.query_params
        if "ids" in params:
            return _json([rows[id_] for id_ in params["ids"].split(",") if id_ in rows])
        offset = int(params["offset"])
        return _json(list(islice(rows.values(), offset, offset + int(params["limit"]))))

    return Route("/accounts", listed)


def _owned(path: str, rows: RowsOf) -> Route:
    async def of_accounts(request: Request) -> Response:
        accounts = request.query_params["account_ids"].split(",")
        return _json([row for account in accounts for row in rows.get(account, ())])

    return Route(path, of_accounts)


def _json(rows: list[Row]) -> Response:
    return Response(orjson.dumps(rows), media_type="application/json")


if __name__ == "__main__":
    kinds = owned()
    crm = Starlette(routes=[_listed(accounts()), _owned("/contacts", kinds["contacts"])])
    erp = Starlette(routes=[_owned("/invoices", kinds["invoices"])])
    helpdesk = Starlette(routes=[_owned("/tickets", kinds["tickets"])])
    docs = Starlette(routes=[_owned("/documents", kinds["documents"])])
    uvloop.run(serve(DemoIssuer([staff()]), {"crm": crm, "erp": erp, "helpdesk": helpdesk, "docs": docs}))
