"""What one request has been given: the records that passed the check, for the audit trail."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sources.ports.common import Ref
from sources.ports.crm import AccountRecord, ContactRecord
from sources.ports.documents import DocumentRecord
from sources.ports.erp import InvoiceRecord
from sources.ports.helpdesk import CommentRecord, TicketRecord

Owner = Ref | str
"""An account, another system's customer, or an organisation by its id."""


class Touched:
    """Collects by reference while the request runs; what it amounts to is worked out when the answer has left."""

    __slots__ = ("_named", "rows")

    def __init__(self) -> None:
        self.rows: list[Sequence[Any]] = []
        """Lists of records as they were given; None in them stands for nothing."""
        self._named: list[tuple[str | None, str]] = []

    def name(self, type_name: str, id_: str, organisation: str | None) -> None:
        """A record of the gateway's own books, and whose it is."""
        self._named.append((organisation, f"{type_name}:ledger:{id_}"))

    def ids(self) -> list[str]:
        """Type, source and id, each once, in the order in which they were met."""
        found: dict[str, None] = {}
        for rows in self.rows:
            for row in rows:
                if kind := _TYPES.get(type(row)):
                    ref = row.ref
                    found[f"{kind}:{ref.source}:{ref.id}"] = None
        for _, id_ in self._named:
            found[id_] = None
        return list(found)

    def by_owner(self) -> Mapping[Owner, list[str]]:
        """The same apart by whose they are, for callers who see many customers. What is nobody's is left out."""
        tickets = {row.ref: row.customer for row in self._records() if type(row) is TicketRecord}
        found: dict[Owner, dict[str, None]] = {}
        for row in self._records():
            ref = row.ref
            for owner in _OWNERS[type(row)](row):
                # Comments hang on tickets, which were read before.
                if owner := tickets.get(owner, owner):
                    found.setdefault(owner, {})[f"{_TYPES[type(row)]}:{ref.source}:{ref.id}"] = None
        for organisation, id_ in self._named:
            if organisation is not None:
                found.setdefault(organisation, {})[id_] = None
        return {owner: list(ids) for owner, ids in found.items()}

    def _records(self) -> Iterator[Any]:
        return (row for rows in self.rows for row in rows if type(row) in _TYPES)


_TYPES: dict[type, str] = {
    AccountRecord: "Account",
    CommentRecord: "Comment",
    ContactRecord: "Contact",
    DocumentRecord: "Document",
    InvoiceRecord: "Invoice",
    TicketRecord: "Ticket",
}
"""The graph's types of what belongs to customers."""

_OWNERS: dict[type, Callable[[Any], Sequence[Ref | None]]] = {
    AccountRecord: lambda account: (account.ref,),
    CommentRecord: lambda comment: (comment.ticket,),
    ContactRecord: lambda contact: contact.accounts,
    DocumentRecord: lambda document: (document.customer,),
    InvoiceRecord: lambda invoice: (invoice.customer,),
    TicketRecord: lambda ticket: (ticket.customer,),
}
