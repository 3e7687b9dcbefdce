"""What one request has been given and has changed, for the audit trail: records by their names, never what they say."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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

    __slots__ = ("_answers", "_named", "refusals")

    def __init__(self) -> None:
        self._answers: list[Any] = []
        self._named: list[tuple[str | None, str]] = []
        self.refusals: list[str] = []
        """Codes of what the caller was refused in a payload's userErrors."""

    @property
    def anything(self) -> bool:
        """Was it given or has it changed anything at all?"""
        return bool(self._answers or self._named)

    def take(self, answer: Any) -> None:
        """What a read has given: records, pages of them, or anything else, which counts for nothing."""
        self._answers.append(answer)

    def name(self, type_name: str, id_: str | Ref, organisation: str | None) -> None:
        """A record of the gateway's own books, or another's, and whose it is (None: the firm's)."""
        ref = id_ if isinstance(id_, Ref) else Ref("ledger", id_)
        self._named.append((organisation, f"{type_name}:{ref}"))

    def ids(self) -> list[str]:
        """Type, source and id, each once, in the order in which they were met."""
        found = {_IDS[type(row)](row): None for row in self._records()}
        for _, id_ in self._named:
            found[id_] = None
        return list(found)

    def by_owner(self) -> Mapping[Owner, list[str]]:
        """The same apart by whose they are, for callers who see many customers. What is nobody's is left out."""
        tickets: dict[Owner, Owner | None] = {
            row.ref: row.customer for row in self._records() if type(row) is TicketRecord
        }
        found: dict[Owner, dict[str, None]] = {}
        for row in self._records():
            for owner in _OWNERS[type(row)](row):
                # Comments hang on tickets, which were read before.
                if owner is not None and (customer := tickets.get(owner, owner)):
                    found.setdefault(customer, {})[_IDS[type(row)](row)] = None
        for organisation, id_ in self._named:
            if organisation is not None:
                found.setdefault(organisation, {})[id_] = None
        return {owner: list(ids) for owner, ids in found.items()}

    def release(self) -> None:
        """Lets go of the records: what else is left of a request may wait for the garbage collector, and they with it."""
        self._answers.clear()

    def _records(self) -> Iterator[Any]:
        for answer in self._answers:
            kind = type(answer)
            for row in answer.rows if kind is Page else answer if kind in (list, tuple) else (answer,):
                if type(row) in _IDS:
                    yield row
                elif type(row) is Page:
                    for inner in row.rows:
                        if type(inner) in _IDS:
                            yield inner


def _of(type_name: str) -> Callable[[Any], str]:
    def id_(record: Any) -> str:
        ref = record.ref
        return f"{type_name}:{ref.source}:{ref.id}"

    return id_


def _own(type_name: str) -> Callable[[Any], str]:
    return lambda record: f"{type_name}:ledger:{record.id}"


_IDS: dict[type, Callable[[Any], str]] = {
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

_OWNERS: dict[type, Callable[[Any], Sequence[Owner | None]]] = {
    AccountRecord: lambda account: (account.ref,),
    CommentRecord: lambda comment: (comment.ticket,),
    ContactRecord: lambda contact: contact.accounts,
    DocumentRecord: lambda document: (document.customer,),
    InvitationRecord: lambda invitation: (invitation.organisation,),
    InvoiceRecord: lambda invoice: (invoice.customer,),
    MemberRecord: lambda member: (member.organisation,),
    ServiceAccountRecord: lambda account: (account.organisation,),
    TicketRecord: lambda ticket: (ticket.customer,),
}
