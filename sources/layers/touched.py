"""What one request has been given and has changed, for the audit trail: records by their names, never what they say."""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from sources.ports.common import Page, Ref
from sources.ports.crm import AccountRecord, ContactRecord
from sources.ports.documents import DocumentRecord
from sources.ports.erp import InvoiceRecord
from sources.ports.helpdesk import CommentRecord, TicketRecord
from sources.ports.members import InvitationRecord, MemberRecord
from sources.ports.service_accounts import ServiceAccountRecord

Owner = Ref | str
"""An account, another system's customer, or an organisation by its id."""


class Touched:
    """Collects by reference while the request runs; what it amounts to is worked out when the answer has left."""

    __slots__ = ("_answers", "_met", "_named", "refusals")

    def __init__(self) -> None:
        self._answers: list[Any] = []
        self._named: list[tuple[str | None, str]] = []
        self._met: list[Run] | None = None
        self.refusals: list[str] = []
        """Codes of what the caller was refused in a payload's userErrors."""

    @property
    def anything(self) -> bool:
        """Was it given or has it changed anything at all?"""
        return bool(self._answers or self._named)

    def take(self, answer: Any) -> None:
        """What a read has given: records, pages of them, or anything else, which counts for nothing."""
        self._answers.append(answer)
        self._met = None

    def name(self, type_name: str, id_: str | Ref, organisation: str | None) -> None:
        """A record of the gateway's own books, or another's, and whose it is (None: the firm's)."""
        ref = id_ if isinstance(id_, Ref) else Ref("ledger", id_)
        self._named.append((organisation, f"{type_name}:{ref}"))

    def ids(self) -> list[str]:
        """Type, source and id, each once, in the order in which they were met."""
        found: dict[str, None] = {}
        for _, _, ids in self._runs():
            found.update(dict.fromkeys(ids))
        for _, id_ in self._named:
            found[id_] = None
        return list(found)

    def by_owner(self) -> Mapping[Owner, list[str]]:
        """The same apart by whose they are, for callers who see many customers. What is nobody's is left out."""
        runs = self._runs()
        tickets: dict[Owner, Owner | None] = {}
        if any(kind is CommentRecord for kind, _, _ in runs):
            # Comments hang on tickets, which were read before.
            tickets = {
                row.ref: row.customer for kind, rows, _ in runs if kind is TicketRecord for row in rows
            }
        found: dict[Owner, dict[str, None]] = {}
        for kind, rows, ids in runs:
            # Rows of one owner mostly come together.
            for owners, some in groupby(zip(map(_OWNERS[kind], rows), ids, strict=True), _FIRST):
                together = dict.fromkeys(map(_SECOND, some))
                for owner in owners if kind is ContactRecord else (owners,):
                    if owner is not None and (customer := tickets.get(owner, owner) if tickets else owner):
                        found.setdefault(customer, {}).update(together)
        for organisation, id_ in self._named:
            if organisation is not None:
                found.setdefault(organisation, {})[id_] = None
        return {owner: list(ids) for owner, ids in found.items()}

    def release(self) -> None:
        """Lets go of the records: what else is left of a request may wait for the garbage collector, and they with it."""
        self._answers.clear()
        self._met = None

    def _runs(self) -> "list[Run]":
        """The records of one type that came together, in the order in which they were met."""
        if self._met is None:
            self._met = [
                (kind, rows, _IDS[kind](rows)) for answer in self._answers for kind, rows in _records(answer)
            ]
        return self._met


Run = tuple[type, list[Any], list[str]]
"""Type, records and their ids."""

_FIRST, _SECOND = itemgetter(0), itemgetter(1)
_REF = attrgetter("ref")


def _records(answer: Any) -> Iterator[tuple[type, list[Any]]]:
    rows = answer.rows if type(answer) is Page else answer if type(answer) in (list, tuple) else (answer,)
    for kind, some in groupby(rows, type):
        if kind in _IDS:
            yield kind, list(some)
        elif kind is Page:
            for page in some:
                for inner, own in groupby(page.rows, type):
                    if inner in _IDS:
                        yield inner, list(own)


def _of(type_name: str) -> Callable[[list[Any]], list[str]]:
    return lambda records: [f"{type_name}:{ref.source}:{ref.id}" for ref in map(_REF, records)]


def _own(type_name: str) -> Callable[[list[Any]], list[str]]:
    return lambda records: [f"{type_name}:ledger:{record.id}" for record in records]


_IDS: dict[type, Callable[[list[Any]], list[str]]] = {
    AccountRecord: _of("Account"),
    CommentRecord: _of("Comment"),
    ContactRecord: _of("Contact"),
    DocumentRecord: _of("Document"),
    InvitationRecord: _own("Invitation"),
    InvoiceRecord: _of("Invoice"),
    MemberRecord: _own("Member"),
    ServiceAccountRecord: _own("ServiceAccount"),
    TicketRecord: _of("Ticket"),
}
"""What belongs to customers, by the graph's types; the texts are what node ids are made of."""

_OWNERS: dict[type, Callable[[Any], Any]] = {
    AccountRecord: _REF,
    CommentRecord: attrgetter("ticket"),
    ContactRecord: attrgetter("accounts"),
    DocumentRecord: attrgetter("customer"),
    InvitationRecord: attrgetter("organisation"),
    InvoiceRecord: attrgetter("customer"),
    MemberRecord: attrgetter("organisation"),
    ServiceAccountRecord: attrgetter("organisation"),
    TicketRecord: attrgetter("customer"),
}
"""Whose each is; a contact may have several."""
