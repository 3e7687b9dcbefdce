"""One invented company's customers, the truth that every sandbox answers from: seeded, the same every time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from operator import attrgetter
from random import Random
from typing import Self, TypeVar

from sources.sandbox import billing, customers, shelves, support
from sources.sandbox.facts import (
    INTERNAL_MARK,
    REGION_FIELD_ID,
    Account,
    Agent,
    Allocation,
    AppliedCredit,
    Article,
    Attachment,
    Comment,
    Contact,
    CreditNote,
    Document,
    DocumentVersion,
    DuplicateOrganisation,
    Invoice,
    InvoiceLine,
    MergedXeroContact,
    Payment,
    Ticket,
)

__all__ = [
    "INTERNAL_MARK",
    "REGION_FIELD_ID",
    "Account",
    "Agent",
    "Allocation",
    "AppliedCredit",
    "Article",
    "Attachment",
    "Comment",
    "Contact",
    "CreditNote",
    "Document",
    "DocumentVersion",
    "DuplicateOrganisation",
    "Invoice",
    "InvoiceLine",
    "MergedXeroContact",
    "Payment",
    "Ticket",
    "Volume",
    "World",
]

_TODAY = date(2026, 11, 2)
_FEWEST_ACCOUNTS = 10

_Record = TypeVar("_Record")
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Volume:
    """How much one account has, instead of its share."""

    invoices: int | None = None
    tickets: int | None = None
    documents: int | None = None


@dataclass(frozen=True, repr=False)
class World:
    """Accounts are addressed by `index`. Frozen; the lookups are made when first asked for and kept."""

    scale: float
    seed: int
    today: date
    accounts: tuple[Account, ...]
    duplicate_organisations: tuple[DuplicateOrganisation, ...]
    contacts: tuple[Contact, ...]
    invoices: tuple[Invoice, ...]
    """Customers' invoices (ACCREC) only, by account and then oldest first."""
    bills: tuple[Invoice, ...]
    """Suppliers' bills (ACCPAY), some of them from the demo's two customers."""
    credit_notes: tuple[CreditNote, ...]
    agents: tuple[Agent, ...]
    tickets: tuple[Ticket, ...]
    articles: tuple[Article, ...]
    documents: tuple[Document, ...]
    volumes: Mapping[int, Volume] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        scale: float = 1.0,
        seed: int = 20260401,
        today: date = _TODAY,
        volumes: Mapping[int, Volume] | None = None,
    ) -> Self:
        """Half a second at scale 1. Nothing is dated after 09:00 UTC on `today`, except dues and renewals.

        `today` is fixed, not the clock's, so that what is overdue is the same on every run; a demo passes
        date.today(). An account's records depend on the seed, its index and how many it has, not on others.
        Never fewer than ten accounts, so that the special ones are always there:

        0, 1  matched by explicit ids in every system, with plenty of everything: the demo's two customers
        2, 4  one group, one e-mail domain, no explicit id in the ledger: ambiguous there
        3     unknown to the helpdesk
        5     two helpdesk organisations with one domain and no external id
        6     a merged-away CRM id still answers
        7     the ledger id in the CRM names a contact that was merged away
        """
        volumes = dict(volumes or {})
        accounts = customers.accounts(max(_FEWEST_ACCOUNTS, round(200 * scale)), seed, today)
        duplicates = customers.duplicate_organisations(accounts)
        duplicate_org = {duplicate.account: duplicate.zendesk_org_id for duplicate in duplicates}
        for index, volume in volumes.items():
            if volume.invoices and accounts[index].xero_contact_id is None:
                raise ValueError(f"account {index} is unknown to the ledger: it cannot have invoices")
            if volume.tickets and accounts[index].zendesk_org_id is None:
                raise ValueError(f"account {index} is unknown to the helpdesk: it cannot have tickets")
        everyone = [account.index for account in accounts]
        in_ledger = [account.index for account in accounts if account.xero_contact_id]
        in_helpdesk = [account.index for account in accounts if account.zendesk_org_id]

        def share(
            what: str, total: int, among: list[int], fixed: tuple[int, int], least: int
        ) -> dict[int, int]:
            return _share(
                round(total * scale), among, dict(enumerate(fixed)), least, Random(f"{seed}/share/{what}")
            )

        people_of = {
            index: customers.contacts(accounts[index], count, seed, today)
            for index, count in share("contacts", 600, everyone, (6, 5), 1).items()
        }
        staff = support.agents()
        invoices: list[Invoice] = []
        credit_notes: list[CreditNote] = []
        for index, count in share("invoices", 5_000, in_ledger, (64, 52), 2).items():
            wanted = volumes[index].invoices if index in volumes else None
            issued, notes = billing.ledger(accounts[index], count if wanted is None else wanted, seed, today)
            invoices += issued
            credit_notes += notes
        tickets: list[Ticket] = []
        for index, count in share("tickets", 2_000, in_helpdesk, (28, 22), 1).items():
            wanted = volumes[index].tickets if index in volumes else None
            tickets += support.tickets(
                accounts[index],
                people_of[index],
                staff,
                duplicate_org.get(index),
                count if wanted is None else wanted,
                seed,
                today,
            )
        documents: list[Document] = []
        for index, count in share("documents", 1_500, everyone, (26, 20), 0).items():
            wanted = volumes[index].documents if index in volumes else None
            documents += shelves.documents(accounts[index], count if wanted is None else wanted, seed)
        return cls(
            scale=scale,
            seed=seed,
            today=today,
            accounts=accounts,
            duplicate_organisations=duplicates,
            contacts=tuple(person for people in people_of.values() for person in people),
            invoices=tuple(invoices),
            bills=tuple(
                bill
                for index in in_ledger
                if index in customers.FULLY_MATCHED or index % 12 == 8
                for bill in billing.bills(accounts[index], 3, seed, today)
            ),
            credit_notes=tuple(credit_notes),
            agents=staff,
            tickets=tuple(tickets),
            articles=support.articles(max(12, round(36 * scale)), seed, today),
            documents=tuple(documents),
            volumes=volumes,
        )

    def with_large_account(
        self, index: int, invoices: int = 10_000, tickets: int | None = None, documents: int | None = None
    ) -> Self:
        """The same world, except that this account has that many; the others' records are equal to before."""
        large = {**self.volumes, index: Volume(invoices, tickets, documents)}
        return self.build(self.scale, self.seed, self.today, large)

    def __repr__(self) -> str:
        return f"World(scale={self.scale}, seed={self.seed}, today={self.today.isoformat()})"

    @cached_property
    def accounts_by_hubspot_id(self) -> dict[str, Account]:
        """Survivors only; see accounts_by_merged_hubspot_id."""
        return _by(self.accounts, "hubspot_id")

    @cached_property
    def accounts_by_merged_hubspot_id(self) -> dict[str, Account]:
        """Merged-away CRM id -> the account that survived."""
        return {old: account for account in self.accounts for old in account.merged_hubspot_ids}

    @cached_property
    def accounts_by_xero_id(self) -> dict[str, Account]:
        return {account.xero_contact_id: account for account in self.accounts if account.xero_contact_id}

    @cached_property
    def accounts_by_merged_xero_id(self) -> dict[str, Account]:
        """Archived ledger contact id -> the account that survived."""
        return {
            old.xero_contact_id: account for account in self.accounts for old in account.merged_xero_contacts
        }

    @cached_property
    def accounts_by_zendesk_org(self) -> dict[int, Account]:
        """Without the duplicates; see duplicate_organisations_by_id."""
        return {
            account.zendesk_org_id: account for account in self.accounts if account.zendesk_org_id is not None
        }

    @cached_property
    def duplicate_organisations_by_id(self) -> dict[int, DuplicateOrganisation]:
        return {duplicate.zendesk_org_id: duplicate for duplicate in self.duplicate_organisations}

    @cached_property
    def contacts_by_id(self) -> dict[str, Contact]:
        """By hubspot_id, archived ones too."""
        return _by(self.contacts, "hubspot_id")

    @cached_property
    def contacts_by_zendesk_user(self) -> dict[int, Contact]:
        return {
            person.zendesk_user_id: person for person in self.contacts if person.zendesk_user_id is not None
        }

    @cached_property
    def contacts_by_account(self) -> dict[int, list[Contact]]:
        return self._grouped(self.contacts)

    @cached_property
    def agents_by_id(self) -> dict[int, Agent]:
        return _by(self.agents, "zendesk_user_id")

    @cached_property
    def invoices_by_id(self) -> dict[str, Invoice]:
        """Customers' invoices; bills are in bills_by_id."""
        return _by(self.invoices, "id")

    @cached_property
    def invoices_by_account(self) -> dict[int, list[Invoice]]:
        return self._grouped(self.invoices)

    @cached_property
    def bills_by_id(self) -> dict[str, Invoice]:
        return _by(self.bills, "id")

    @cached_property
    def bills_by_account(self) -> dict[int, list[Invoice]]:
        return self._grouped(self.bills)

    @cached_property
    def credit_notes_by_account(self) -> dict[int, list[CreditNote]]:
        return self._grouped(self.credit_notes)

    @cached_property
    def tickets_by_id(self) -> dict[int, Ticket]:
        return _by(self.tickets, "id")

    @cached_property
    def tickets_by_account(self) -> dict[int, list[Ticket]]:
        return self._grouped(self.tickets)

    @cached_property
    def tickets_by_zendesk_org(self) -> dict[int, list[Ticket]]:
        """By the organisation they are filed under, which may be a duplicate."""
        grouped: dict[int, list[Ticket]] = {}
        for ticket in self.tickets:
            grouped.setdefault(ticket.zendesk_org_id, []).append(ticket)
        return grouped

    @cached_property
    def attachments_by_id(self) -> dict[int, Attachment]:
        found = (comment.attachments for ticket in self.tickets for comment in ticket.comments)
        return {attachment.id: attachment for attachments in found for attachment in attachments}

    @cached_property
    def articles_by_id(self) -> dict[int, Article]:
        return _by(self.articles, "id")

    @cached_property
    def documents_by_account(self) -> dict[int, list[Document]]:
        return self._grouped(self.documents)

    def _grouped(self, records: Iterable[_Record]) -> dict[int, list[_Record]]:
        """A list for every account, empty where it has none."""
        grouped: dict[int, list[_Record]] = {account.index: [] for account in self.accounts}
        account_of = attrgetter("account")
        for record in records:
            grouped[account_of(record)].append(record)
        return grouped


def _by(records: Iterable[_Record], name: str) -> dict[_Key, _Record]:
    key_of = attrgetter(name)
    return {key_of(record): record for record in records}


def _share(total: int, among: list[int], fixed: dict[int, int], least: int, rng: Random) -> dict[int, int]:
    """`total` dealt out at random after everyone's least; fixed counts stand even where they exceed it."""
    counts = {index: fixed.get(index, least) for index in among}
    others = [index for index in among if index not in fixed]
    weights = [rng.uniform(0.3, 2.0) for _ in others]
    for index in rng.choices(others, weights, k=max(0, total - sum(counts.values()))):
        counts[index] += 1
    return counts
