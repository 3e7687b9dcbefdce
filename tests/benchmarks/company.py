"""The workload's company: 100 accounts, each with 5 contacts, 20 invoices of one line, 10 tickets and 10 documents."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from sources.sandbox.facts import (
    Account,
    Agent,
    Comment,
    Contact,
    Document,
    DocumentVersion,
    Invoice,
    InvoiceLine,
    Payment,
    Ticket,
)
from sources.sandbox.world import World

ACCOUNTS, CONTACTS, INVOICES, TICKETS, DOCUMENTS = 100, 5, 20, 10, 10

_SEED = 20260401
_TODAY = date(2026, 1, 5)
_FIRST_DAY = datetime(2024, 1, 1, 9, tzinfo=UTC)
_FAR_OFF = date(2099, 12, 31)
_STEMS = ("Möller", "Ørsted", "Harbour", "Kovács", "Tanaka", "Novák", "García", "Weber")
_TRADES = ("Pumps", "Sensors", "Cables", "Motors", "Filters")
_NAMES = ("Anna", "Béla", "Chloé", "Dmitri", "Eva", "Jürgen", "Noor", "Zoë")
_JOBS = ("Buyer", "Accountant", "Plant engineer")
_TOWNS = (("Hamburg", "DE"), ("Kraków", "PL"), ("Leeds", "GB"), ("Lyon", "FR"))
_KINDS = ("contracts", "certificates", "guides", "reports", "statements")
_AGENT = Agent(7_000_000_000, "Sam Support", "agent0@support.example", "admin")


def company() -> World:
    """The same every time. All accounts are known to every system, by ids that only the ledger's links tell."""
    accounts = tuple(_account(index) for index in range(ACCOUNTS))
    contacts = tuple(_contact(account, n) for account in accounts for n in range(CONTACTS))
    return World(
        scale=ACCOUNTS / 200,
        seed=_SEED,
        today=_TODAY,
        accounts=accounts,
        duplicate_organisations=(),
        contacts=contacts,
        invoices=tuple(_invoice(account, n) for account in accounts for n in range(INVOICES)),
        bills=(),
        credit_notes=(),
        agents=(_AGENT,),
        tickets=tuple(
            _ticket(account, contacts[account.index * CONTACTS], n)
            for account in accounts
            for n in range(TICKETS)
        ),
        articles=(),
        documents=tuple(_document(account, n) for account in accounts for n in range(DOCUMENTS)),
    )


def _account(index: int) -> Account:
    rng = Random(f"{_SEED}/account/{index}")
    number = f"C-{10001 + index}"
    name = f"{rng.choice(_STEMS)} {rng.choice(_TRADES)} {index + 1}"
    domain = f"customer{index + 1}.example"
    town, country = rng.choice(_TOWNS)
    created = _FIRST_DAY + timedelta(days=index)
    return Account(
        index=index,
        account_number=number,
        crm_name=name,
        erp_name=name,
        helpdesk_name=name,
        domain=domain,
        phone=f"+49 40 {rng.randint(10**6, 10**7 - 1)}",
        city=town,
        country=country,
        street=f"Hafenstraße {index + 1}",
        postcode=f"{20000 + index}",
        industry=rng.choice(("MACHINERY", "CHEMICALS", "UTILITIES")),
        currency="EUR",
        tier="gold",
        renewal_date=None,
        created_at=created,
        updated_at=created + timedelta(days=100),
        hubspot_id=str(9_000_000_001 + 37 * index),
        xero_contact_id=_uuid(rng),
        zendesk_org_id=360_000_000_001 + index,
        s3_prefix=f"accounts/{number}/",
        declared_xero_id=None,
        xero_account_number=number,
        xero_email=f"billing@{domain}",
        zendesk_external_id=number,
        zendesk_domains=(domain,),
        merged_hubspot_ids=(),
        merged_xero_contacts=(),
    )


def _contact(account: Account, n: int) -> Contact:
    rng = Random(f"{_SEED}/contact/{account.index}/{n}")
    first = rng.choice(_NAMES)
    return Contact(
        hubspot_id=str(100_000 + account.index * CONTACTS + n),
        account=account.index,
        first_name=first,
        last_name=rng.choice(_STEMS),
        email=f"person{n}@{account.domain}",
        phone=f"+49 40 {rng.randint(10**6, 10**7 - 1)}",
        mobile=None,
        job_title=rng.choice(_JOBS),
        archived=False,
        created_at=account.created_at,
        updated_at=account.updated_at,
        zendesk_user_id=400_000_000 + account.index * CONTACTS + n,
    )


def _invoice(account: Account, n: int) -> Invoice:
    rng = Random(f"{_SEED}/invoice/{account.index}/{n}")
    issued = date(2024, 3, 1) + timedelta(days=30 * n + rng.randrange(30))
    quantity, price = Decimal(rng.randint(1, 40)), Decimal(rng.randint(500, 25_000)) / 100
    net = quantity * price
    tax = (net * Decimal("0.19")).quantize(Decimal("0.01"))
    total, paid = net + tax, n % 3 == 0
    number = f"INV-{account.index + 1:04d}-{n + 1:03d}"
    return Invoice(
        id=_uuid(rng),
        type="ACCREC",
        number=number,
        account=account.index,
        reference=f"PO-{rng.randint(10**5, 10**6 - 1)}",
        issue_date=issued,
        due_date=_FAR_OFF if n % 7 == 6 else issued + timedelta(days=30),
        status="PAID" if paid else "AUTHORISED",
        currency="EUR",
        lines=(
            InvoiceLine(
                id=_uuid(rng),
                description=f"{rng.choice(_TRADES)}, delivered",
                quantity=quantity,
                unit_amount=price,
                tax_amount=tax,
                line_amount=net,
                account_code="200",
                tax_type="OUTPUT2",
                item_code=f"P-{rng.randint(100, 999)}",
            ),
        ),
        sub_total=net,
        total_tax=tax,
        total=total,
        amount_due=Decimal(0) if paid else total,
        amount_paid=total if paid else Decimal(0),
        amount_credited=Decimal(0),
        payments=(Payment(_uuid(rng), issued + timedelta(days=20), total, number),) if paid else (),
        credit_notes=(),
        updated_at=datetime(issued.year, issued.month, issued.day, 9, tzinfo=UTC),
    )


def _ticket(account: Account, requester: Contact, n: int) -> Ticket:
    rng = Random(f"{_SEED}/ticket/{account.index}/{n}")
    created = _FIRST_DAY + timedelta(days=60 * n + rng.randrange(60), seconds=rng.randrange(30_000))
    subject = f'The {rng.choice(_TRADES).lower()} of order {rng.randint(1000, 9999)} are "late"'
    said = "Could you tell us when we may expect the rest of the order? Our line stands still."
    id_ = (account.index + 1) * 1000 + n
    comment = Comment(id_ * 100, 0, requester.name, False, said, True, created, ())
    return Ticket(
        id=id_,
        account=account.index,
        zendesk_org_id=account.zendesk_org_id or 0,
        requester=requester,
        assignee=_AGENT,
        subject=subject,
        description=said,
        status=rng.choice(("new", "open", "pending", "solved")),
        priority=rng.choice(("low", "normal", "high", None)),
        type="question",
        tags=("delivery", "portal"),
        created_at=created,
        updated_at=created + timedelta(hours=5),
        due_at=None,
        custom_fields={},
        comments=(comment,),
    )


def _document(account: Account, n: int) -> Document:
    kind = _KINDS[n % len(_KINDS)]
    file_name = f"{kind.title()} für {account.account_number} {n + 1}.pdf"
    return Document(
        key=f"{account.s3_prefix}{kind}/{file_name}",
        account=account.index,
        kind=kind,
        tags=(),
        file_name=file_name,
        content_type="application/pdf",
        versions=(DocumentVersion(1, b"%PDF-1.4 " + b"x" * (500 + 37 * n)),),
    )


def _uuid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))
