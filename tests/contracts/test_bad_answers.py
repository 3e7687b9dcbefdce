"""What any connector makes of answers that are not as its vendor describes them: every one of the registry passes this."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import structlog

from sources.ledger.book import Ledger
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
from tests.conftest import fresh_database

PAGE = Window(first=100)


class Vendor(msgspec.Struct):
    """A connector over its running sandbox."""

    row: Row
    sandbox: Sandbox
    port: Any
    network: Network
    world: World

    async def answer(self, question: "Question") -> list[Ref]:
        """Of all records by their ids, errors raised. What is answered from a copy is read from the vendor before, whole."""
        mirror = getattr(self.port, "mirror", None)
        if mirror is not None and question.copied:
            assert await mirror.catch_up(patient=False, whole=True)
        return keyed(await question.ask(self))


class Question(msgspec.Struct, frozen=True):
    """Something to ask of a kind of source, and what it is of. ``copied``: where a vendor is mirrored, by the copy."""

    kind: Kind
    name: str
    record: str
    paths: Mapping[str, str]
    """The calls that its answer comes by, by vendor."""
    ask: Callable[[Vendor], Awaitable[Any]]
    copied: bool = False

    def path(self, vendor: Vendor) -> str:
        return self.paths[vendor.row.vendor]


def refs(vendor: Vendor, count: int | None = None) -> list[Ref]:
    attribute = {
        "hubspot": "hubspot_id",
        "xero": "xero_contact_id",
        "zendesk": "zendesk_org_id",
        "freshdesk": "zendesk_org_id",
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
        {"hubspot": "/crm/v3/objects/companies/batch"},
        lambda v: v.port.accounts(refs(v)),
    ),
    Question(
        Kind.CRM,
        "accounts by name",
        "account",
        {"hubspot": "/crm/v3/objects/companies/search"},
        lambda v: v.port.find_accounts(AccountQuery(PAGE)),
    ),
    Question(
        Kind.CRM,
        "contacts of accounts",
        "contact",
        {"hubspot": "/crm/v3/objects/contacts/batch"},
        lambda v: v.port.contacts_of(refs(v), ContactQuery(PAGE)),
    ),
    Question(
        Kind.ERP,
        "customers by id",
        "customer",
        {"xero": "/api.xro/2.0/Contacts"},
        lambda v: v.port.customers(refs(v)),
    ),
    Question(
        Kind.ERP,
        "invoices of customers",
        "invoice",
        {"xero": "/api.xro/2.0/Invoices"},
        lambda v: v.port.invoices_of(refs(v), InvoiceQuery(PAGE, EVERY_STATUS)),
    ),
    Question(
        Kind.HELPDESK,
        "customers by id",
        "customer",
        {"zendesk": "/api/v2/organizations", "freshdesk": "/api/v2/companies"},
        lambda v: v.port.customers(refs(v)),
        copied=True,
    ),
    Question(
        Kind.HELPDESK,
        "tickets of customers",
        "ticket",
        {"zendesk": "/api/v2/search", "freshdesk": "/api/v2/tickets"},
        lambda v: v.port.tickets_of(refs(v), TicketQuery(PAGE)),
        copied=True,
    ),
    Question(
        Kind.HELPDESK,
        "comments of a ticket",
        "comment",
        {"zendesk": "/api/v2/tickets/", "freshdesk": "/api/v2/tickets/"},
        a_tickets_comments,
    ),
    Question(
        Kind.HELPDESK,
        "articles",
        "article",
        {"zendesk": "/api/v2/help_center", "freshdesk": "/api/v2/search/solutions"},
        lambda v: v.port.search_articles(ArticleQuery("invoice", Window(first=5))),
    ),
    Question(Kind.DOCUMENTS, "documents of a customer", "document", {"s3": "/"}, folder_documents),
]


@asynccontextmanager
async def connected(row: Row, postgres: str) -> AsyncIterator[Vendor]:
    # Small, as copies are read whole again and again; each page has all that is asked for.
    world = World.build(scale=0.05)
    sandbox, network = row.sandbox.sandbox(world), Network(guarded=False)
    for limit in sandbox.limits.limits():
        sandbox.limits.set(limit.name, concurrent=limit.concurrent)
    async with fresh_database(postgres) as url, serve(sandbox) as running:
        ledger = await Ledger.open(url)
        await ledger.migrate()
        wiring = Wiring(ledger.tokens, network=network, mirrors=ledger.mirrors)
        port = row.connect(row.sandbox.settings_for(running.url), wiring)
        await port.probe()
        vendor = Vendor(row, sandbox, port, network, world)
        if hasattr(port, "mirror"):
            assert await port.mirror.catch_up(patient=False)
        yield vendor
        await port.close()
        await ledger.close()


@pytest_asyncio.fixture(scope="session")
async def vendors(postgres: str) -> AsyncIterator[Callable[[Row], Awaitable[Vendor]]]:
    """Each is connected once, when it is first asked for."""
    async with AsyncExitStack() as stack:
        known: dict[str, Vendor] = {}

        async def connect(row: Row) -> Vendor:
            if row.vendor not in known:
                known[row.vendor] = await stack.enter_async_context(connected(row, postgres))
            return known[row.vendor]

        yield connect


each_question = pytest.mark.parametrize(
    ("vendor", "question"),
    [
        pytest.param(row, one, id=f"{row.vendor}: {one.name}")
        for row in REGISTRY
        for one in QUESTIONS
        if one.kind is row.kind
    ],
    indirect=["vendor"],
)


@pytest_asyncio.fixture
async def vendor(
    request: pytest.FixtureRequest, vendors: Callable[[Row], Awaitable[Vendor]]
) -> AsyncIterator[Vendor]:
    found = await vendors(request.param)
    yield found
    found.sandbox.faults.clear()
    found.network.drops.counts.clear()


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
    healthy = await vendor.answer(question)
    assert len(healthy) > 2

    vendor.sandbox.faults.add(fault, question.path(vendor), times=1)
    with structlog.testing.capture_logs() as logs:
        answer = await vendor.answer(question)

    missing = Counter(healthy) - Counter(answer)
    # A copy has the record still, as it was: nothing says which one the row without an id was.
    kept = hasattr(vendor.port, "mirror") and question.copied and fault == "missing_id"
    assert missing.total() == (0 if kept else 1)
    # A list may go on where the one that is left out would have been the last of the page.
    assert [ref for ref in healthy if ref not in missing] == answer[: len(healthy) - missing.total()]
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
    healthy = await vendor.answer(question)

    vendor.sandbox.faults.add("duplicate_row", question.path(vendor))

    answer = await vendor.answer(question)
    assert len(set(answer)) == len(answer)
    assert answer == healthy[: len(answer)]
    assert len(answer) >= len(healthy) - 1
    assert not vendor.network.drops.counts


@each_question
@pytest.mark.parametrize("fault", ["html", "truncated", "nested", "malformed_rows", "garbage"])
async def test_an_answer_of_which_nothing_fits_is_a_bad_response(vendor, question, fault):
    await vendor.answer(question)
    vendor.sandbox.faults.add(fault, question.path(vendor))

    with pytest.raises(SourceBadResponse) as failure:
        await vendor.answer(question)

    assert failure.value.source == vendor.row.vendor
    assert "maintenance" not in str(failure.value)
