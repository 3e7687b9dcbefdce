"""The walk over the canaries finds what it is there to find: faults that are put in on purpose, one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import wraps
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

import permissions.policy
import sources.vendors.xero.erp as xero_erp
import sources.vendors.xero.sandbox as xero
import sources.vendors.zendesk.tickets as zendesk_tickets
from gateway.office import Office
from permissions.directives import RequiresScopes
from permissions.policy import PolicyError
from resolvers.context import Context
from resolvers.schema import build_schema
from resolvers.ticket import Ticket
from sources.layers.books import ScopedBooks
from sources.layers.reads import scoped_by
from sources.layers.scope import ScopedSources
from sources.ports.common import Page, Ref
from sources.vendors.zendesk.sandbox_search import Index
from tests.canary_walk import Company, Walk, open_company
from tests.conftest import fresh_database

OWNERS = ("owner-harbour", "owner-moeller")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def company(postgres: str) -> AsyncIterator[Company]:
    """A gateway of one's own: what a fault leaves behind is nobody else's."""
    async with fresh_database(postgres) as url, open_company(url) as opened:
        yield opened


async def walked(company: Company, *names: str) -> Walk:
    """The walk as these callers."""
    walk = Walk(company)
    callers = company.of(*(names or OWNERS))
    await walk.ask(walk.queries(callers))
    await walk.ask(walk.lists(callers))
    return walk


async def test_without_a_fault_it_finds_nothing(company: Company) -> None:
    walk = await walked(company, *OWNERS, "finance-harbour", "standard-moeller")

    assert walk.findings == []
    assert company.door.office.violations.total == 0


# -- what a vendor gives by mistake: first, as what the faults below have had read stands in the audit trail ----------


@pytest.fixture
def mixed_up(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vendors that do not keep to the customers asked for: every list of tickets or invoices is everybody's."""
    found, chosen = Index.find, xero._chosen

    def find(self: Index, query: str, *args: Any) -> Any:
        words = [word for word in query.split() if not word.startswith("organization:")]
        return found(self, " ".join(words), *args)

    def everything(resource: Any, asked: Any) -> Any:
        return chosen(resource, {name: value for name, value in asked.items() if name != "ContactIDs"})

    monkeypatch.setattr(Index, "find", find)
    monkeypatch.setattr(xero, "_chosen", everything)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connectors that believe that whatever a vendor gives is of the customers asked for."""
    windows_of = zendesk_tickets.windows_of

    async def believing(parents: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        return await windows_of(
            parents, *args, **{**kwargs, "parents_of": lambda rows: [parents[0]] * len(rows)}
        )

    for module in (zendesk_tickets, xero_erp):
        monkeypatch.setattr(module, "windows_of", believing)


async def _dropped(company: Company) -> None:
    """Nobody is told, everybody has their own, and the operator knows."""
    counts = company.door.office.violations.counts
    before = counts.copy()
    with capture_logs() as log:
        walk = await walked(company)

    assert walk.findings == []
    assert {"ticket", "invoice"} <= {mark.kind for mark in walk.told["owner-harbour"]}
    told = [line for line in log if line["event"] == "scope_violation"]
    for source in ("xero", "zendesk"):
        rows = sum(line["rows"] for line in told if line["source"] == source)
        assert counts[source, "row"] - before[source, "row"] == rows > 0
    assert {name for line in told for name in line} == {"event", "log_level", "source", "kind", "rows"}
    (support,) = company.of("support")
    status, _, metrics = await company.door.fetch(None, "/metrics", **support.headers)
    assert status == 200
    total = float(counts["xero", "row"])
    assert f'gateway_scope_violations_total{{kind="row",source="xero"}} {total}' in metrics.decode()


@pytest.mark.usefixtures("mixed_up")
async def test_a_vendors_rows_of_others_are_dropped_by_the_connector_and_counted(company: Company) -> None:
    await _dropped(company)


@pytest.mark.usefixtures("mixed_up", "trusting")
async def test_rows_of_others_that_a_connector_lets_through_are_dropped_by_the_scope_layer_and_counted(
    company: Company,
) -> None:
    await _dropped(company)


@pytest.mark.usefixtures("mixed_up", "trusting")
async def test_rows_of_others_without_the_scope_layers_check(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScopedSources, "_kept", lambda self, page, *_: page)
    walk = await walked(company)

    for leak in ("owner-harbour: canary-ticket-moeller", "owner-moeller: canary-invoice-harbour"):
        assert leak in walk.leaks


# -- what is shared between requests -----------------------------------------------------------------------------


class _NeverEmpty(dict[Any, Any]):
    def clear(self) -> None:
        """Lives on."""


async def test_a_loader_that_is_shared_between_requests(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, made = _NeverEmpty(), Office.context

    async def sharing(office: Office, *args: Any) -> Context:
        context = await made(office, *args)
        context._loaders = shared
        return context

    monkeypatch.setattr(Office, "context", sharing)
    monkeypatch.setattr(Context, "release", lambda context: None)
    with capture_logs():  # the scope layer refuses much of it, loudly
        walk = await walked(company)

    assert {leak.partition(":")[2].strip() for leak in walk.leaks} >= {
        "canary-account-harbour",
        "canary-account-moeller",
        "canary-invoice-harbour",
    }


def _remembering(read: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """The same with a memory that all requests share, by what was asked alone."""
    memory: dict[Any, Any] = {}

    @wraps(read)
    async def remembering(self: Any, asked: Any, *more: Any) -> Any:
        one_by_one = isinstance(asked, list | tuple)
        keys = [(one, more) for one in asked] if one_by_one else [(asked, more)]
        unknown = [key for key in keys if memory.get(key) is None]
        if unknown:
            answer = await read(self, [one for one, _ in unknown] if one_by_one else asked, *more)
            memory.update(zip(unknown, answer if one_by_one else [answer], strict=True))
        return [memory[key] for key in keys] if one_by_one else memory[keys[0]]

    return remembering


@pytest.mark.parametrize("method", ["accounts", "invoices", "find_accounts"])
async def test_a_memory_before_the_scope_layer_that_is_keyed_by_the_question_alone(
    company: Company, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(ScopedSources, method, _remembering(getattr(ScopedSources, method)))
    walk = await walked(company)

    kind = "account" if method == "find_accounts" else method.removesuffix("s")
    assert any(f"canary-{kind}-" in leak for leak in walk.leaks)


class _Forgetful:
    """A book that remembers pages without whose they are."""

    def __init__(self, book: Any, *methods: str) -> None:
        self._book, self._methods, self._memory = book, methods, dict[Any, Any]()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._book, name)
        if name not in self._methods:
            return real

        async def remembered(asked: Any) -> Any:
            key = (name, getattr(asked, "window", None))
            if key not in self._memory:
                self._memory[key] = await real(asked)
            return self._memory[key]

        return remembered


@pytest.mark.parametrize(
    ("book", "method", "leak"),
    [
        ("members", "members_of", "canary-member-"),
        ("members", "invitations_of", "canary-invitation-"),
        ("service_accounts", "accounts_of", "canary-service-"),
        ("audit", "entries", "the id "),
    ],
)
async def test_a_memory_of_the_ledger_without_the_organisation(
    company: Company, book: str, method: str, leak: str
) -> None:
    office, books = company.door.office, company.door.office.books
    office.books = msgspec.structs.replace(books, **{book: _Forgetful(getattr(books, book), method)})
    try:
        walk = await walked(company)
    finally:
        office.books = books

    assert any(leak in one for one in walk.leaks), walk.leaks


# -- what is not there -------------------------------------------------------------------------------------------


@pytest.fixture
def without_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tickets, without what reading them takes."""
    definition = Ticket.__strawberry_definition__  # type: ignore[attr-defined]
    left = [one for one in definition.directives if not isinstance(one, RequiresScopes)]
    assert len(left) == len(definition.directives) - 1
    monkeypatch.setattr(definition, "directives", left)


@pytest.mark.usefixtures("without_rule")
async def test_a_rule_that_is_missing(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError, match=r"Ticket\.subject: no rule"):
        build_schema()

    for guard in ("faults_of_rules", "faults_of_ownership", "faults_of_revelations"):
        monkeypatch.setattr(permissions.policy, guard, lambda *_: ())
    async with fresh_database(postgres) as url, open_company(url) as company:
        walk = await walked(company, "finance-harbour")

    assert "finance-harbour: canary-ticket-harbour" in walk.leaks


async def _unscoped(self: ScopedSources, refs: Sequence[Ref]) -> Sequence[Any]:
    return await self._office.documents.documents(refs)  # type: ignore[union-attr]


async def test_a_read_of_the_scope_layer_that_forgets_the_reach(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScopedSources, "documents", _unscoped)
    with pytest.raises(PolicyError, match=r"ScopedSources\.documents: could run without a scope"):
        build_schema()

    monkeypatch.setattr(ScopedSources, "documents", scoped_by("account", gives="Document")(_unscoped))
    walk = await walked(company)

    assert {"owner-harbour: canary-document-moeller", "owner-moeller: canary-document-harbour"} <= walk.leaks


async def test_a_book_that_forgets_the_reach(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    async def audit_entries(self: ScopedBooks, query: Any) -> Any:
        page = await self._books.audit.entries(msgspec.structs.replace(query, organisation=None))
        return Page([entry.record for entry in page.rows], page.keys, page.has_next, page.has_previous)

    monkeypatch.setattr(
        ScopedBooks, "audit_entries", scoped_by("organisation", gives="AuditEntry")(audit_entries)
    )
    walk = await walked(company)

    assert any(
        leak.startswith("owner-harbour: the id ") and leak.endswith("of moeller") for leak in walk.leaks
    )
