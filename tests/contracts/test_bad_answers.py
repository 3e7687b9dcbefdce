"""What any connector makes of answers that are not as its vendor describes them: every one of the registry passes this."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import structlog

from sources.ports.common import Criterion, Ref, Window
from sources.ports.crm import AccountQuery, ContactQuery
from sources.ports.documents import DocumentQuery
from sources.ports.erp import InvoiceQuery, InvoiceStatus
from sources.ports.errors import SourceBadResponse, SourceError
from sources.ports.helpdesk import ArticleQuery, CommentQuery, TicketQuery
from sources.registry import REGISTRY, Kind, Row
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring

PAGE = Window(first=100)


class Vendor(msgspec.Struct):
    """A connector over its running sandbox."""

    row: Row
    sandbox: Sandbox
    port: Any
    network: Network
    world: World


class Question(msgspec.Struct, frozen=True):
    """Something to ask of a kind of source, the calls that its answer comes by, and what it is of."""

    kind: Kind
    name: str
    record: str
    path: str
    ask: Callable[[Vendor], Awaitable[Any]]


def refs(vendor: Vendor, count: int = 3) -> list[Ref]:
    attribute = {
        "hubspot": "hubspot_id",
        "xero": "xero_contact_id",
        "zendesk": "zendesk_org_id",
    }[vendor.row.vendor]
    ids = [getattr(account, attribute) for account in vendor.world.accounts]
    return [Ref(vendor.row.vendor, str(one)) for one in ids if one][:count]


async def folder_documents(vendor: Vendor) -> Any:
    [[customer]] = await vendor.port.customers_by(Criterion.NUMBER, [vendor.world.accounts[0].account_number])
    return await vendor.port.documents_of([customer.ref], DocumentQuery(PAGE))


async def a_tickets_comments(vendor: Vendor) -> Any:
    (page,) = await vendor.port.tickets_of(refs(vendor, 1), TicketQuery(PAGE))
    vendor.sandbox.log.clear()
    return await vendor.port.comments_of([page.rows[0].ref], CommentQuery(PAGE, internal=True))


EVERY_STATUS = (InvoiceStatus.DRAFT, InvoiceStatus.OPEN, InvoiceStatus.PAID, InvoiceStatus.VOID)

QUESTIONS = [
    Question(
        Kind.CRM,
        "accounts by id",
        "account",
        "/crm/v3/objects/companies/batch",
        lambda v: v.port.accounts(refs(v)),
    ),
    Question(
        Kind.CRM,
        "accounts by name",
        "account",
        "/crm/v3/objects/companies/search",
        lambda v: v.port.find_accounts(AccountQuery(PAGE)),
    ),
    Question(
        Kind.CRM,
        "contacts of accounts",
        "contact",
        "/crm/v3/objects/contacts/batch",
        lambda v: v.port.contacts_of(refs(v), ContactQuery(PAGE)),
    ),
    Question(
        Kind.ERP, "customers by id", "customer", "/api.xro/2.0/Contacts", lambda v: v.port.customers(refs(v))
    ),
    Question(
        Kind.ERP,
        "invoices of customers",
        "invoice",
        "/api.xro/2.0/Invoices",
        lambda v: v.port.invoices_of(refs(v), InvoiceQuery(PAGE, EVERY_STATUS)),
    ),
    Question(
        Kind.HELPDESK,
        "customers by id",
        "customer",
        "/api/v2/organizations",
        lambda v: v.port.customers(refs(v)),
    ),
    Question(
        Kind.HELPDESK,
        "tickets of customers",
        "ticket",
        "/api/v2/search",
        lambda v: v.port.tickets_of(refs(v), TicketQuery(PAGE)),
    ),
    Question(Kind.HELPDESK, "comments of a ticket", "comment", "/api/v2/tickets/", a_tickets_comments),
    Question(
        Kind.HELPDESK,
        "articles",
        "article",
        "/api/v2/help_center",
        lambda v: v.port.search_articles(ArticleQuery("invoice", Window(first=5))),
    ),
    Question(Kind.DOCUMENTS, "documents of a customer", "document", "/", folder_documents),
]


@pytest_asyncio.fixture(scope="session")
async def connected(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Vendor]:
    row: Row = request.param
    sandbox, network = row.sandbox.sandbox(world), Network(guarded=False)
    for limit in sandbox.limits.limits():
        sandbox.limits.set(limit.name, concurrent=limit.concurrent)
    async with serve(sandbox) as running:
        port = row.connect(row.sandbox.settings_for(running.url), Wiring(tokens=None, network=network))  # type: ignore[arg-type]
        await port.probe()
        yield Vendor(row, sandbox, port, network, world)
        await port.close()


@pytest.fixture
def question(request: pytest.FixtureRequest) -> Question:
    return request.param


each_question = pytest.mark.parametrize(
    ("connected", "question"),
    [
        pytest.param(row, one, id=f"{row.vendor}: {one.name}")
        for row in REGISTRY
        for one in QUESTIONS
        if one.kind is row.kind
    ],
    indirect=True,
)


@pytest.fixture
def vendor(connected: Vendor) -> Any:
    yield connected
    connected.sandbox.faults.clear()
    connected.network.drops.counts.clear()


def keyed(answer: Any) -> list[Any]:
    """All records of an answer by their ids, errors raised."""
    found: list[Any] = []
    for one in answer if isinstance(answer, list | tuple) else [answer]:
        if isinstance(one, SourceError):
            raise one
        found += [record.ref for record in one.rows] if hasattr(one, "rows") else [one.ref] if one else []
    return found


@each_question
@pytest.mark.parametrize("fault", ["malformed_row", "missing_id"])
async def test_a_record_that_does_not_fit_is_left_out_alone(vendor, question, fault):
    healthy = keyed(await question.ask(vendor))
    assert len(healthy) > 2

    vendor.sandbox.faults.add(fault, question.path, times=1)
    with structlog.testing.capture_logs() as logs:
        answer = keyed(await question.ask(vendor))

    missing = Counter(healthy) - Counter(answer)
    assert missing.total() == 1
    # A list may go on where the one that is left out would have been the last of the page.
    assert [ref for ref in healthy if ref not in missing] == answer[: len(healthy) - 1]
    assert vendor.network.drops.counts == {(vendor.row.vendor, question.record): 1}
    told = None
    if fault == "malformed_row" and question.record != "document":  # a document's key is its name
        (ref,) = missing
        told = ref.id.rpartition("/")[2]
    assert logs == [
        {
            "event": "record_dropped",
            "log_level": "warning",
            "source": vendor.row.vendor,
            "kind": question.record,
            "id": told,
        }
    ]


@each_question
async def test_a_record_that_comes_twice_appears_once(vendor, question):
    healthy = keyed(await question.ask(vendor))

    vendor.sandbox.faults.add("duplicate_row", question.path)

    answer = keyed(await question.ask(vendor))
    assert len(set(answer)) == len(answer)
    assert answer == healthy[: len(answer)]
    assert len(answer) >= len(healthy) - 1
    assert not vendor.network.drops.counts


@each_question
@pytest.mark.parametrize("fault", ["html", "truncated", "malformed_rows", "garbage"])
async def test_an_answer_of_which_nothing_fits_is_a_bad_response(vendor, question, fault):
    await question.ask(vendor)
    vendor.sandbox.faults.add(fault, question.path)

    with pytest.raises(SourceBadResponse) as failure:
        keyed(await question.ask(vendor))

    assert failure.value.source == vendor.row.vendor
    assert "maintenance" not in str(failure.value)
