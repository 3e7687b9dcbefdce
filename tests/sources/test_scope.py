"""The view that one caller has of the back offices: how far it reaches, and what it does with what should not be there."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import msgspec
import pytest

from sources.layers.scope import Reach, ScopedSources
from sources.ports.common import Key, Page, Ref, Window
from sources.ports.crm import AccountQuery, ContactQuery
from sources.ports.documents import DocumentQuery
from sources.ports.erp import InvoiceQuery, InvoiceStatus
from sources.ports.errors import SourceUnavailable
from sources.ports.helpdesk import CommentQuery, TicketQuery
from sources.ports.violations import Violations
from tests.door import Door

FEW = Window(first=5)


def account(door: Door, index: int) -> Ref:
    return Ref("hubspot", door.world.accounts[index].hubspot_id)


def view(door: Door, *indices: int, **rights: bool) -> ScopedSources:
    """What somebody of these accounts sees; of none given, everything."""
    accounts = frozenset(account(door, index) for index in indices) if indices else None
    return ScopedSources(door.office.backoffice, Reach(accounts, **rights), Violations())


Ask = Callable[[ScopedSources, Ref], Awaitable[Any]]

BY_ACCOUNT: dict[str, Ask] = {
    "contacts": lambda sources, ref: sources.contacts_of([ref], ContactQuery(FEW)),
    "invoices": lambda sources, ref: sources.invoices_of([ref], InvoiceQuery(FEW, tuple(InvoiceStatus))),
    "drafts": lambda sources, ref: sources.invoices_of([ref], InvoiceQuery(FEW, (InvoiceStatus.DRAFT,))),
    "balances": lambda sources, ref: sources.balances_of([ref], date(2026, 1, 1)),
    "tickets": lambda sources, ref: sources.tickets_of([ref], TicketQuery(FEW)),
    "open tickets": lambda sources, ref: sources.open_ticket_counts_of([ref]),
    "documents": lambda sources, ref: sources.documents_of([ref], DocumentQuery(FEW)),
    "links": lambda sources, ref: sources.links_of([ref]),
}


@pytest.mark.parametrize("what", BY_ACCOUNT)
async def test_lists_of_an_account_out_of_reach_are_a_fault_of_ours_and_cost_no_call(
    door: Door, what: str
) -> None:
    with pytest.raises(PermissionError):
        await BY_ACCOUNT[what](view(door, 0), account(door, 1))

    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


@pytest.mark.parametrize("what", BY_ACCOUNT)
async def test_a_view_that_reaches_nothing_gives_nothing(door: Door, what: str) -> None:
    nobody = ScopedSources(door.office.backoffice, Reach(frozenset()), Violations())

    with pytest.raises(PermissionError):
        await BY_ACCOUNT[what](nobody, account(door, 0))
    assert (await nobody.find_accounts(AccountQuery(FEW))).rows == []
    assert await nobody.accounts([account(door, 0)]) == [None]
    assert await nobody.invoices([Ref("xero", door.world.invoices_by_account[0][0].id)]) == [None]


async def test_what_hangs_on_a_record_is_not_given_without_the_record(door: Door) -> None:
    theirs = Ref("zendesk", str(door.world.tickets_by_account[1][0].id))
    document = Ref("s3", door.world.documents_by_account[1][0].key)

    with pytest.raises(PermissionError):
        await view(door, 0).comments_of([theirs], CommentQuery(FEW))
    with pytest.raises(PermissionError):
        await view(door, 0).versions_of([document])
    assert await view(door, 0).document_content(document, None) is None
    assert await view(door, 0).invoice_pdf(Ref("xero", door.world.invoices_by_account[1][0].id)) is None
    attachment = next(a for t in door.world.tickets_by_account[1] for c in t.comments for a in c.attachments)
    assert await view(door, 0).attachment(theirs, str(attachment.id)) is None


async def test_asking_for_internal_comments_does_not_give_the_right_to_them(door: Door) -> None:
    ticket = next(t for t in door.world.tickets_by_account[0] if any(not c.public for c in t.comments))
    ref = Ref("zendesk", str(ticket.id))
    asked = CommentQuery(Window(first=100), internal=True)

    (customers,) = await view(door, 0).comments_of([ref], asked)
    (agents,) = await view(door, internal_notes=True).comments_of([ref], CommentQuery(Window(first=100)))

    assert isinstance(customers, Page)
    assert isinstance(agents, Page)
    assert len(customers.rows) == sum(c.public for c in ticket.comments)
    assert len(agents.rows) == len(ticket.comments)


async def test_refs_of_another_system_are_not_asked_for(door: Door) -> None:
    sources = view(door, 0)

    for read in (sources.accounts, sources.contacts, sources.invoices, sources.tickets, sources.documents):
        assert await read([Ref("elsewhere", "1"), Ref("", "")]) == [None, None]
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_answers_keep_the_order_asked_with_gaps_for_what_is_not_yours(door: Door) -> None:
    world = door.world
    own = [Ref("zendesk", str(t.id)) for t in world.tickets_by_account[0][:3]]
    theirs = [Ref("zendesk", str(t.id)) for t in world.tickets_by_account[1][:2]]

    found = await view(door, 0).tickets([own[2], theirs[0], own[0], Ref("zendesk", "1"), own[2], theirs[1]])

    assert [record and record.ref for record in found] == [own[2], None, own[0], None, own[2], None]


async def test_the_owner_of_a_record_is_given_only_within_reach(door: Door) -> None:
    customers = [Ref("xero", door.world.accounts[index].xero_contact_id or "") for index in (0, 1)]

    mine = await view(door, 0).accounts_owning([*customers, Ref("xero", "nobody")])
    all_of_them = await view(door).accounts_owning(customers)

    assert [record and record.ref for record in mine] == [account(door, 0), None, None]
    assert [record and record.ref for record in all_of_them] == [account(door, 0), account(door, 1)]


@pytest.mark.parametrize("kind", ["erp", "helpdesk", "documents"])
async def test_a_system_that_is_not_connected_is_unavailable_by_its_kind(door: Door, kind: str) -> None:
    office = msgspec.structs.replace(door.office.backoffice, **{kind: None})
    sources = ScopedSources(office, Reach(None), Violations())
    ask = {"erp": "invoices", "helpdesk": "tickets", "documents": "documents"}[kind]

    with pytest.raises(SourceUnavailable) as caught:
        await BY_ACCOUNT[ask](sources, account(door, 0))

    assert caught.value.source == kind
    assert len((await sources.links_of([account(door, 0)]))[0]) == 2


async def test_of_a_page_all_of_somebody_else_nothing_is_left_but_where_it_lies(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    crm, violations = door.office.backoffice.crm, Violations()
    (foreign,) = await crm.contacts([Ref("hubspot", door.world.contacts_by_account[1][0].hubspot_id)])

    class Wrong:
        name = crm.name

        async def contacts_of(self, accounts: Any, query: Any) -> list[Page[Any]]:
            return [Page([foreign] * 3, [Key("", "1")] * 3, has_next=True) for _ in accounts]

    office = msgspec.structs.replace(door.office.backoffice, crm=Wrong())
    sources = ScopedSources(office, Reach(frozenset({account(door, 0)})), violations)

    (page,) = await sources.contacts_of([account(door, 0)], ContactQuery(FEW))

    assert isinstance(page, Page)
    assert (list(page.rows), list(page.keys), page.has_next) == ([], [], True)
    assert violations.total == 3
    printed = capsys.readouterr()
    assert foreign
    assert (foreign.email or "") not in printed.out + printed.err
