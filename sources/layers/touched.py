"""What one request has been given and has changed, for the audit trail: records by their names, never what they say."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from sources.ports.audit import storable
from sources.ports.common import Page, Ref
from sources.ports.crm import AccountRecord, ContactRecord
from sources.ports.documents import DocumentRecord
from sources.ports.erp import InvoiceRecord
from sources.ports.helpdesk import CommentRecord, TicketRecord
from sources.ports.members import InvitationRecord, MemberRecord
from sources.ports.service_accounts import ServiceAccountRecord

Owner = Ref | str
"""An account, another system's customer, or an organisation by its id."""

T = TypeVar("T")


class Named(msgspec.Struct, frozen=True, gc=False):
    """Ids of records as a JSON array: as they are sealed and stored, and one text instead of thousands."""

    array: bytes
    count: int

    @classmethod
    def together(cls, some: "Sequence[Named]") -> "Named":
        """One behind the other; none of them is empty."""
        members = b",".join([named.array[1:-1] for named in some])
        return cls(b"[%b]" % members, sum([named.count for named in some]))

    def cut(self, most: int, most_bytes: int) -> "Named":
        """The first of them: as many as this, and no more than so much text."""
        if self.count <= most and len(self.array) <= most_bytes:
            return self
        ids = _decode(self.array)[:most]
        while sum(map(len, ids)) > most_bytes:
            ids = ids[: len(ids) // 2]
        return _encoded(ids)


class Touched(msgspec.Struct, eq=False):
    """Collects by reference while the request runs; what it amounts to is worked out when the answer has left."""

    anything: bool = False
    """Was it given or has it changed anything at all?"""
    refusals: list[str] = []
    """Codes of what the caller was refused in a payload's userErrors."""
    _answers: list[Any] = []
    _named: list[tuple[str | None, str]] = []

    def take(self, answer: Any) -> None:
        """What a read has given: records, pages of them, or anything else, which counts for nothing."""
        self.anything = True
        self._answers.append(answer)

    def name(self, type_name: str, id_: str | Ref, organisation: str | None) -> None:
        """A record of the gateway's own books, or another's, and whose it is (None: the firm's)."""
        self.anything = True
        ref = id_ if isinstance(id_, Ref) else Ref("ledger", id_)
        self._named.append((organisation, f"{type_name}:{ref}"))

    def named(self, *, by_owner: bool) -> tuple[Named, Mapping[Owner, Named]]:
        """Type, source and id, each once, in the order in which they were met; and for callers who see many customers the
        same apart by whose they are. What is nobody's is left out there."""
        runs: list[Run] = []
        for answer in self._answers:
            runs += _runs(answer)
        names: list[str] = []
        for _, _, some in runs:
            names += some
        names += [name for _, name in self._named]
        owners = self._owners(runs) if by_owner else {}
        if len(set(names)) == len(names):
            return _encoded(names), {owner: _encoded(some) for owner, some in owners.items()}
        return _encoded(_once(names)), {owner: _encoded(_once(some)) for owner, some in owners.items()}

    def _owners(self, runs: "list[Run]") -> Mapping[Owner, list[str]]:
        tickets: dict[Owner, Owner | None] = {}
        if any(kind is CommentRecord for kind, _, _ in runs):
            # Comments hang on tickets, which were read before.
            tickets = {
                row.ref: row.customer for kind, rows, _ in runs if kind is TicketRecord for row in rows
            }
        found: defaultdict[Owner, list[str]] = defaultdict(list)
        for kind, rows, names in runs:
            # Rows of one owner mostly come together.
            for owners, some in _stretches(list(map(_OWNERS[kind], rows))):
                for owner in dict.fromkeys(owners) if kind is ContactRecord else (owners,):
                    if owner is not None and (customer := tickets.get(owner, owner) if tickets else owner):
                        found[customer] += names[some]
        for organisation, name in self._named:
            if organisation is not None:
                found[organisation].append(name)
        return found

    def release(self) -> None:
        """Lets go of the records: what else is left of a request may wait for the garbage collector, and they with it."""
        self._answers.clear()


Run = tuple[type, Sequence[Any], list[str]]
"""Type, records that came together and their ids."""


def _runs(answer: Any) -> list[Run]:
    rows = answer if type(answer) in (list, tuple) else (answer,)
    kinds = set(map(type, rows))
    if Page in kinds:
        rows = list(chain.from_iterable([part.rows if type(part) is Page else (part,) for part in rows]))
        kinds = set(map(type, rows))
    if len(kinds) == 1:
        together: list[tuple[type, Sequence[Any]]] = [(kinds.pop(), rows)]
    else:
        together = [(kind, rows[some]) for kind, some in _stretches(list(map(type, rows)))]
    return [(kind, some, _IDS[kind](some)) for kind, some in together if kind in _IDS]


def _stretches(keys: list[T]) -> list[tuple[T, slice]]:
    """Where which key stands, alone or again and again. Mostly there is but one."""
    if keys and keys[0] == keys[-1] and keys.count(keys[0]) == len(keys):
        return [(keys[0], slice(None))]
    found = []
    begins = 0
    for key, alike in groupby(keys):
        ends = begins + len(list(alike))
        found.append((key, slice(begins, ends)))
        begins = ends
    return found


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _encoded(names: list[str]) -> Named:
    try:
        array = _encode(names)
    except UnicodeEncodeError:  # half a character
        array = _ESCAPE
    if _ESCAPE in array:  # it may be a zero byte's
        array = _encode(list(map(storable, names)))
    return Named(array, len(names))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode
_ESCAPE = b"\\"

_REF, _CUSTOMER, _ORGANISATION = attrgetter("ref"), attrgetter("customer"), attrgetter("organisation")


def _of(type_name: str) -> Callable[[Sequence[Any]], list[str]]:
    def names(records: Sequence[Any]) -> list[str]:
        # Mostly all of one system, and a text put together of two takes half as long as one of three.
        source = records[0].ref.source
        beginning = f"{type_name}:{source}:"
        return [
            beginning + ref.id if (ref := record.ref).source == source else f"{type_name}:{ref}"
            for record in records
        ]

    return names


def _own(type_name: str) -> Callable[[Sequence[Any]], list[str]]:
    return lambda records: [f"{type_name}:ledger:{record.id}" for record in records]


_IDS: dict[type, Callable[[Sequence[Any]], list[str]]] = {
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
    DocumentRecord: _CUSTOMER,
    InvitationRecord: _ORGANISATION,
    InvoiceRecord: _CUSTOMER,
    MemberRecord: _ORGANISATION,
    ServiceAccountRecord: _ORGANISATION,
    TicketRecord: _CUSTOMER,
}
"""Whose each is; a contact may have several."""
