"""The invented company: big enough, the same every time, adding up, and awkward where it should be."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from sources.sandbox.world import INTERNAL_MARK, REGION_FIELD_ID, World


@pytest.fixture(scope="module")
def world() -> World:
    return World.build()


def test_the_default_world_has_the_promised_size(world):
    sizes = {
        name: len(getattr(world, name))
        for name in ("accounts", "contacts", "invoices", "tickets", "documents", "articles", "agents")
    }
    assert sizes == {
        "accounts": 200,
        "contacts": 600,
        "invoices": 5_000,
        "tickets": 2_000,
        "documents": 1_500,
        "articles": 36,
        "agents": 8,
    }


def test_scale_multiplies():
    doubled = World.build(scale=2)
    assert (len(doubled.accounts), len(doubled.invoices), len(doubled.documents)) == (400, 10_000, 3_000)


def test_the_same_seed_gives_an_equal_world_and_another_seed_another_one():
    assert World.build(scale=0.1) == World.build(scale=0.1)
    assert World.build(scale=0.1).invoices != World.build(scale=0.1, seed=1).invoices


def test_a_record_is_known_by_the_same_id_in_every_process(world):
    first = world.accounts[0]
    assert (first.hubspot_id, first.xero_contact_id) == ("9999900000", "0a811d16-f2d1-4ea3-b7c5-4b0d9d740d6f")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_the_two_demo_customers_are_matched_everywhere_and_have_plenty(index, scale):
    world = World.build(scale=scale)
    account = world.accounts[index]
    assert account.declared_xero_id == account.xero_contact_id is not None
    assert account.xero_account_number == account.zendesk_external_id == account.account_number
    assert len(world.invoices_by_account[index]) >= 40
    assert len(world.tickets_by_account[index]) >= 15
    assert len(world.documents_by_account[index]) >= 12
    assert len([person for person in world.contacts_by_account[index] if not person.archived]) >= 4


def test_the_same_customer_is_not_spelt_alike_everywhere(world):
    names = world.accounts[1]
    assert (names.crm_name, names.erp_name) == (
        "Møller & Großmann Präzision GmbH",
        "Moller & Grossmann Prazision GmbH",
    )
    assert any(account.helpdesk_name.endswith(" ") for account in world.accounts)


def test_two_subsidiaries_share_a_domain_and_nothing_in_the_ledger_tells_them_apart(world):
    one, other = world.accounts[2], world.accounts[4]
    assert one.domain == other.domain
    assert one.xero_email == other.xero_email
    assert one.xero_contact_id != other.xero_contact_id
    explicit = {
        one.declared_xero_id,
        other.declared_xero_id,
        one.xero_account_number,
        other.xero_account_number,
    }
    assert explicit == {None}


def test_an_account_unknown_to_the_helpdesk_has_no_tickets_and_no_users_there(world):
    assert world.accounts[3].zendesk_org_id is None
    assert world.tickets_by_account[3] == []
    assert {person.zendesk_user_id for person in world.contacts_by_account[3]} == {None}


def test_one_account_has_two_helpdesk_organisations_that_both_hold_tickets(world):
    account, duplicate = world.accounts[5], world.duplicate_organisations[0]
    assert (duplicate.account, duplicate.domains) == (5, account.zendesk_domains)
    assert account.zendesk_external_id is None
    filed_under = {ticket.zendesk_org_id for ticket in world.tickets_by_account[5]}
    assert filed_under == {account.zendesk_org_id, duplicate.zendesk_org_id}


def test_merged_records_lead_to_their_survivors(world):
    (old_company,) = world.accounts[6].merged_hubspot_ids
    assert world.accounts_by_merged_hubspot_id[old_company] is world.accounts[6]
    assert old_company not in world.accounts_by_hubspot_id
    (old_contact,) = world.accounts[7].merged_xero_contacts
    assert world.accounts_by_merged_xero_id[old_contact.xero_contact_id] is world.accounts[7]
    assert world.accounts[7].declared_xero_id == old_contact.xero_contact_id


def test_explicit_ids_are_as_frequent_as_in_a_real_company(world):
    def share(name: str) -> float:
        return sum(getattr(account, name) is not None for account in world.accounts) / len(world.accounts)

    assert 0.5 < share("declared_xero_id") < 0.7
    assert 0.2 < share("xero_account_number") < 0.4
    assert 0.55 < share("zendesk_external_id") < 0.8
    assert share("phone") < 1


def test_every_amount_adds_up_in_the_minor_units_of_its_currency(world):
    places = {"JPY": 0, "KWD": 3}
    wrong = [
        invoice.number
        for invoice in (*world.invoices, *world.bills)
        if invoice.sub_total != sum(line.line_amount for line in invoice.lines)
        or invoice.total_tax != sum(line.tax_amount for line in invoice.lines)
        or invoice.total != invoice.sub_total + invoice.total_tax
        or invoice.amount_paid != sum(payment.amount for payment in invoice.payments)
        or invoice.amount_credited != sum(credit.amount for credit in invoice.credit_notes)
        or invoice.amount_due != invoice.total - invoice.amount_paid - invoice.amount_credited
        or invoice.amount_due < 0
        or (invoice.status == "PAID") != (invoice.amount_due == 0)
        or {-amount.as_tuple().exponent for amount in _amounts(invoice)} != {places.get(invoice.currency, 2)}
    ]
    assert wrong == []


def _amounts(record: object) -> list[Decimal]:
    return [value for each in fields(record) if isinstance(value := getattr(record, each.name), Decimal)]


def test_credit_notes_and_invoices_tell_the_same_story(world):
    said_by_invoices = {
        (credit.credit_note_id, invoice.id, credit.date, credit.amount)
        for invoice in world.invoices
        for credit in invoice.credit_notes
    }
    said_by_notes = {
        (note.id, allocation.invoice_id, allocation.date, allocation.amount)
        for note in world.credit_notes
        for allocation in note.allocations
    }
    assert said_by_invoices == said_by_notes != set()
    assert all(
        note.remaining == note.total - sum(allocation.amount for allocation in note.allocations)
        for note in world.credit_notes
    )


def test_invoices_come_in_every_state_and_several_currencies(world):
    assert set(Counter(invoice.status for invoice in world.invoices)) == {
        "DRAFT",
        "SUBMITTED",
        "AUTHORISED",
        "PAID",
        "VOIDED",
        "DELETED",
    }
    assert {"GBP", "EUR", "USD", "JPY", "KWD"} <= {invoice.currency for invoice in world.invoices}
    open_ones = [invoice for invoice in world.invoices_by_account[0] if invoice.status == "AUTHORISED"]
    assert any(invoice.due_date < world.today for invoice in open_ones)
    assert any(invoice.due_date >= world.today for invoice in open_ones)
    assert any(invoice.amount_paid for invoice in open_ones)
    assert len({invoice.currency for invoice in open_ones}) == 2


def test_suppliers_bills_are_kept_apart_even_for_the_demo_customers(world):
    assert {invoice.type for invoice in world.invoices} == {"ACCREC"}
    assert {bill.type for bill in world.bills} == {"ACCPAY"}
    assert {0, 1} <= {bill.account for bill in world.bills}
    assert not world.bills_by_id.keys() & world.invoices_by_id.keys()


def test_internal_notes_and_only_they_carry_the_mark(world):
    comments = [comment for ticket in world.tickets for comment in ticket.comments]
    assert {comment.public for comment in comments} == {True, False}
    assert [comment.id for comment in comments if (INTERNAL_MARK in comment.body) == comment.public] == []


def test_a_ticket_of_the_first_account_opens_with_an_internal_note(world):
    opening = [ticket for ticket in world.tickets_by_account[0] if not ticket.comments[0].public]
    assert opening
    assert all(INTERNAL_MARK in ticket.description for ticket in opening)


def test_tickets_are_requested_by_people_of_their_account_and_answered_by_known_ones(world):
    for ticket in world.tickets:
        assert ticket.requester.account == ticket.account
        for comment in ticket.comments:
            authors = world.agents_by_id if comment.by_agent else world.contacts_by_zendesk_user
            assert comment.author_id in authors


def test_tickets_come_in_every_state_and_a_few_ids_exceed_what_a_double_holds(world):
    assert {ticket.status for ticket in world.tickets} == {
        "new",
        "open",
        "pending",
        "hold",
        "solved",
        "closed",
    }
    assert {ticket.priority for ticket in world.tickets} == {"low", "normal", "high", "urgent", None}
    beyond = [ticket for ticket in world.tickets if ticket.id > 2**53]
    assert any(ticket.account == 0 for ticket in beyond)
    assert len(beyond) < 30
    assert max(attachment_id for attachment_id in world.attachments_by_id) < 2**63
    regions = {ticket.custom_fields[REGION_FIELD_ID] for ticket in world.tickets}
    assert regions == {"emea", "amer", "apac", None}


def test_attachments_have_the_size_they_announce(world):
    attachments = list(world.attachments_by_id.values())
    assert attachments
    assert all(len(attachment.content) == attachment.size for attachment in attachments)


def test_documents_lie_under_their_accounts_prefix_by_kind_and_tags(world):
    for document in world.documents:
        prefix = world.accounts[document.account].s3_prefix
        assert document.key == prefix + "/".join((document.kind, *document.tags, document.file_name))
    assert {len(document.versions) for document in world.documents} == {1, 2, 3, 4}
    assert {len(document.tags) for document in world.documents} == {0, 1, 2}


def test_versions_are_small_distinct_files_of_the_type_they_claim(world):
    for document in world.documents:
        contents = [version.content for version in document.versions]
        assert len(set(contents)) == len(contents)
        assert all(200 <= len(content) <= 2_000 for content in contents)
        assert (document.content_type == "application/pdf") == contents[0].startswith(b"%PDF-1.4")


def test_a_pdf_has_a_cross_reference_table_that_finds_its_objects(world):
    content = next(d for d in world.documents if d.content_type == "application/pdf").versions[0].content
    table = int(re.search(rb"startxref\n(\d+)\n", content)[1])
    assert content[table:].startswith(b"xref\n0 6\n")
    offsets = [int(entry) for entry in re.findall(rb"(\d{10}) 00000 n ", content)]
    assert [content[offset : offset + 7] for offset in offsets] == [b"%d 0 obj" % n for n in range(1, 6)]


@pytest.mark.parametrize(
    ("records", "key"),
    [
        ("accounts", "hubspot_id"),
        ("accounts", "account_number"),
        ("contacts", "hubspot_id"),
        ("contacts", "email"),
        ("invoices", "id"),
        ("invoices", "number"),
        ("credit_notes", "id"),
        ("tickets", "id"),
        ("documents", "key"),
        ("articles", "id"),
    ],
)
def test_ids_are_unique(world, records, key):
    seen = Counter(getattr(record, key) for record in getattr(world, records))
    assert [value for value, times in seen.items() if times > 1] == []


def test_nothing_happened_after_the_morning_of_today(world):
    now = datetime(world.today.year, world.today.month, world.today.day, 9, tzinfo=UTC)
    moments = [
        moment
        for records in (
            world.accounts,
            world.contacts,
            world.invoices,
            world.credit_notes,
            world.tickets,
            world.articles,
        )
        for record in records
        for name in ("created_at", "updated_at")
        if (moment := getattr(record, name, None)) is not None
    ]
    assert max(moments) <= now
    assert max(payment.date for invoice in world.invoices for payment in invoice.payments) <= world.today


def test_today_moves_what_is_overdue(world):
    later = World.build(today=date(2027, 11, 2))
    assert later.today > max(invoice.issue_date for invoice in world.invoices)
    assert max(invoice.issue_date for invoice in later.invoices) > world.today


def test_a_large_account_has_what_was_asked_for_and_the_others_are_as_before(world):
    large = world.with_large_account(8, invoices=3_000, tickets=500)
    assert (len(large.invoices_by_account[8]), len(large.tickets_by_account[8])) == (3_000, 500)
    assert large.accounts == world.accounts
    assert large.invoices_by_account[0] == world.invoices_by_account[0]
    assert large.tickets_by_account[5] == world.tickets_by_account[5]


def test_an_account_the_ledger_does_not_know_cannot_become_a_large_one(world):
    with pytest.raises(ValueError, match="account 9 is unknown to the ledger"):
        world.with_large_account(9)
