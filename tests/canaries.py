"""An invented company in which every text of every record says whose it is and what: ``canary-invoice-harbour``.

Ids cannot say so and are known by heart instead. Whoever looks at an answer tells from these what is in it of whom.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

from gateway.demo import ORGANISATIONS
from gateway.demo_issuer import DemoPersona
from sources.sandbox.papers import attachment_content
from sources.sandbox.world import Account, Comment, Contact, CreditNote, Document, Invoice, Ticket, World
from tests import walk

Row = TypeVar("Row")

CANARY = re.compile(r"canary[-_]([a-z]+)[-_]([a-z0-9]+)", re.IGNORECASE)

OPENS: Mapping[str, Set[str]] = {
    "accounts:read": {"account"},
    "audit:read": {"audit"},
    "contacts:read": {"contact"},
    "documents:read": {"document"},
    "invoices:drafts": {"draft"},
    "invoices:read": {"invoice"},
    "keys:read": {"service", "key"},
    "members:provision": {"member", "directory"},
    "members:read": {"member", "directory", "invitation"},
    "tickets:internal": {"note"},
    # Who wrote a comment is part of it.
    "tickets:read": {"ticket", "contact"},
}
"""The kinds of canaries that each scope opens, by the meaning of its word: this knows nothing of the schema's rules. No
scope opens ``archived``, ``bill`` and ``deleted``."""

OWN = frozenset({"organisation", "member", "service", "viewing"})
"""Of the caller's own: the organisation's name, their own, and why somebody views as they see."""


class Mark(NamedTuple):
    """What a canary says."""

    kind: str
    owner: str


def canary(kind: str, owner: str) -> str:
    """The text of one."""
    return f"canary-{kind}-{owner}"


def owner_of(account: int) -> str:
    """The organisation whose account it is; accounts of no organisation own themselves."""
    return ORGANISATIONS[account] if account < len(ORGANISATIONS) else f"account{account}"


# -- the world ---------------------------------------------------------------------------------------------------


def marked_world(scale: float) -> World:
    """Every text of every record has a canary, save words that a system takes from a list of its own, such as a status."""
    world = World.build(scale)
    return replace(
        world,
        accounts=tuple(map(_account, world.accounts)),
        contacts=tuple(map(_contact, world.contacts)),
        invoices=tuple(map(_invoice, world.invoices)),
        bills=tuple(map(_invoice, world.bills)),
        credit_notes=tuple(map(_credit_note, world.credit_notes)),
        tickets=tuple(map(_ticket, world.tickets)),
        documents=tuple(map(_document, world.documents)),
        duplicate_organisations=tuple(
            replace(one, name=_after(one.name, "account", one.account))
            for one in world.duplicate_organisations
        ),
    )


def _account(account: Account) -> Account:
    def mark(text: str) -> str:
        return _after(text, "account", account.index)

    return replace(
        _with(
            account, mark, "crm_name", "erp_name", "helpdesk_name", "city", "country", "street", "postcode"
        ),
        phone=account.phone and mark(account.phone),
        industry=mark(account.industry),
        account_number=mark(account.account_number),
        xero_account_number=account.xero_account_number and mark(account.xero_account_number),
        zendesk_external_id=account.zendesk_external_id and mark(account.zendesk_external_id),
        s3_prefix=f"accounts/{mark(account.account_number)}/",
        domain=_before(account.domain, "account", account.index),
        zendesk_domains=tuple(_before(one, "account", account.index) for one in account.zendesk_domains),
        xero_email=account.xero_email
        and account.xero_email.replace("@", f"@{canary('account', owner_of(account.index))}."),
    )


def _contact(person: Contact) -> Contact:
    # An archived person's name is still that of who wrote a ticket's comments; the rest of them nobody sees.
    kind = "archived" if person.archived else "contact"

    def mark(text: str) -> str:
        return _after(text, kind, person.account)

    def name(text: str) -> str:
        return _after(text, "contact", person.account)

    return replace(
        _with(_with(person, name, "first_name", "last_name"), mark, "phone", "mobile", "job_title"),
        email=person.email.replace("@", f"@{canary(kind, owner_of(person.account))}."),
    )


def _invoice(invoice: Invoice) -> Invoice:
    kind = {"DRAFT": "draft", "SUBMITTED": "draft", "DELETED": "deleted"}.get(invoice.status, "invoice")
    kind = "bill" if invoice.type == "ACCPAY" else kind

    def mark(text: str) -> str:
        return _after(text, kind, invoice.account)

    return replace(
        _with(invoice, mark, "number", "reference"),
        lines=tuple(_with(line, mark, "description", "item_code") for line in invoice.lines),
        payments=tuple(_with(one, mark, "reference") for one in invoice.payments),
        credit_notes=tuple(_with(one, mark, "number") for one in invoice.credit_notes),
    )


def _credit_note(note: CreditNote) -> CreditNote:
    def mark(text: str) -> str:
        return _after(text, "invoice", note.account)

    return replace(
        _with(note, mark, "number", "reference"),
        lines=tuple(_with(line, mark, "description", "item_code") for line in note.lines),
        allocations=tuple(_with(one, mark, "invoice_number") for one in note.allocations),
    )


def _ticket(ticket: Ticket) -> Ticket:
    def mark(text: str) -> str:
        return _after(text, "ticket", ticket.account)

    comments = tuple(_comment(comment, ticket.account) for comment in ticket.comments)
    return replace(
        _with(ticket, mark, "subject"),
        requester=_contact(ticket.requester),
        tags=tuple(f"{tag}_canary_ticket_{owner_of(ticket.account)}" for tag in ticket.tags),
        comments=comments,
        description=comments[0].body,
    )


def _comment(comment: Comment, account: int) -> Comment:
    kind = "ticket" if comment.public else "note"
    attachments = []
    for one in comment.attachments:
        name = _before(one.file_name, kind, account)
        size = len(attachment_content(one.id, name, one.content_type))
        attachments.append(replace(one, file_name=name, size=size))
    author = comment.author_name if comment.by_agent else _after(comment.author_name, "contact", account)
    return replace(
        comment, body=_after(comment.body, kind, account), author_name=author, attachments=tuple(attachments)
    )


def _document(document: Document) -> Document:
    owner = owner_of(document.account)
    mark = canary("document", owner)
    root, number, kind, *folders, file_name = document.key.split("/")
    tags = [f"{folder}-{mark}" for folder in folders]
    name = f"{mark} {file_name}"
    return replace(
        document,
        key="/".join((root, _after(number, "account", document.account), kind, *tags, name)),
        tags=tuple(tags),
        file_name=name,
        versions=tuple(
            replace(version, content=version.content + f"\n{mark}\n".encode())
            for version in document.versions
        ),
    )


def _after(text: str, kind: str, account: int) -> str:
    return (
        f"{text} {canary(kind, owner_of(account))}"
        if " " in text
        else f"{text}-{canary(kind, owner_of(account))}"
    )


def _before(text: str, kind: str, account: int) -> str:
    return f"{canary(kind, owner_of(account))}.{text}"


def _with(row: Row, mark: Callable[[str], str], *names: str) -> Row:
    given = {name: getattr(row, name) for name in names}
    return replace(row, **{name: text and mark(text) for name, text in given.items()})  # type: ignore[type-var]


def unmarked(row: Any) -> Iterator[str]:
    """The names of a record's fields that hold free text without a canary."""
    assert is_dataclass(row)
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, str) and " " in value and not CANARY.search(value):
            yield f"{type(row).__name__}.{field.name}"


def personas() -> list[DemoPersona]:
    """Every role of a customer's at both, somebody who is a partner of both, somebody of none, and the firm's own people."""
    people = []
    for organisation in ORGANISATIONS:
        for role in ("owner", "finance", "standard", "read-only", "partner"):
            people.append(_persona(f"{role}-{organisation}", role, organisation, organisation))
        # Whom mutations may change and remove.
        people.append(_persona(f"leaver-{organisation}", "standard", organisation, organisation))
    # Made a member of both by whoever opens the gateway.
    people.append(_persona("partner", "partner", None, "both"))
    people.append(_persona("newcomer", "newcomer", None, "nobody"))
    for role in ("support", "finance-staff", "admin"):
        people.append(_persona(role, role, None, "firm"))
    return people


def _persona(id_: str, role: str, organisation: str | None, owner: str) -> DemoPersona:
    mark = canary("member", owner)
    return DemoPersona(id_, f"{mark} {role}", f"{role}@{mark}.example", role, organisation, id_)


# -- what an answer holds ----------------------------------------------------------------------------------------


class Ids:
    """Ids of records by whose they are. Those that the gateway makes are added as they are made."""

    def __init__(self, world: World) -> None:
        self.owners: dict[str, str] = {}
        shared = walk.public(world)
        for account in world.accounts:
            for text in walk.facts(world, account.index) - shared:
                if _ID.fullmatch(text):
                    self.add(owner_of(account.index), text)

    def add(self, owner: str, *ids: str) -> None:
        for one in ids:
            assert self.owners.setdefault(one, owner) == owner, f"{one} is two owners'"


_ID = re.compile(r"[0-9]{5,}|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}")
_LONG_ID = re.compile(
    r"(?<![0-9a-f])(?:[0-9]{9,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![0-9a-f])"
)
"""Long enough to be nothing else by chance, wherever they stand."""


class Seen(NamedTuple):
    """All that an answer tells by a canary or an id."""

    marks: frozenset[Mark]
    ids: frozenset[tuple[str, str]]
    """Owner and id."""


def seen(answers: Iterable[Any], ids: Ids) -> Seen:
    """In any structure of texts and what ids, cursors and links in it hold when they are taken apart."""
    texts = {text for answer in answers for text in walk.texts(answer)}
    raw = "\n".join(texts)
    marks = {Mark(kind.lower(), owner.lower()) for kind, owner in CANARY.findall(raw)}
    named = (texts & ids.owners.keys()) | (set(_LONG_ID.findall(raw)) & ids.owners.keys())
    return Seen(frozenset(marks), frozenset((ids.owners[one], one) for one in named))
