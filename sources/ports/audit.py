"""The audit trail: who read or changed what, in records that can be added but not altered unnoticed.

A record never holds a field's value, an argument or an e-mail address: it names fields, rules and records.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Protocol

import msgspec

from sources.ports.common import Page, Ref, Window

Hash = bytes
"""32 bytes, by which a record holds on to the one before."""


def storable(text: str) -> str:
    """As PostgreSQL and JSON can hold it."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


class AuditKind(Enum):
    """What was done."""

    QUERY = "query"
    MUTATION = "mutation"
    SUBSCRIPTION = "subscription"
    FILE = "file"
    """A file was downloaded."""
    EXPORT = "export"
    """The audit trail itself was exported."""
    SIGN_IN = "sign-in"
    SIGN_OUT = "sign-out"
    PROVISIONING = "provisioning"
    """A customer's identity provider wrote members, by SCIM."""
    COMMAND = "command"
    """The operator's ``gateway`` command."""
    REFUSAL = "refusal"
    """Requests whose sign-in was refused; ``count`` of them."""
    LOSS = "loss"
    """Records that were never written, ``count`` of them: the ledger was away for too long."""


class AuditOutcome(Enum):
    """How it ended."""

    OK = "ok"
    PARTIAL = "partial"
    """Answered, with errors in places."""
    REFUSED = "refused"
    """The caller may not, or asked for what cannot be."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """A write had begun, and nothing was heard of its end: whoever did it has died, or does it still."""


class Stage(Enum):
    """Which part of an operation's story a record tells."""

    WHOLE = "whole"
    """All of it."""
    BEGUN = "begun"
    """A write that is about to run."""
    DONE = "done"
    """The same write's end; stands for the whole where there is one."""
    SHARE = "share"
    """What an operation over many customers touched of one of them: what that customer's own people may see of it."""


class AuditRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry. The attributes in their order are what is sealed: a change needs a second form beside the one by which
    older records were sealed."""

    operation: str
    """The gateway's own id; with the stage and the organisation it names a record."""
    stage: Stage
    at: datetime
    """When the operation began."""
    request: str
    kind: AuditKind
    name: str | None
    """The operation's name as the client chose it, or the command's."""
    outcome: AuditOutcome
    codes: tuple[str, ...]
    """Error codes of the answer, each once, sorted."""
    principal: str
    """The caller's identity, ``issuer|subject``; empty where nobody had signed in."""
    principal_kind: str
    via: str
    credential: str | None
    roles: tuple[str, ...]
    staff: bool
    viewed_by: str | None
    """The identity of the member of staff who looked as the principal sees."""
    organisation: str | None
    """Whom it was done for; None for staff over all customers."""
    client: str
    """The network address."""
    coordinates: tuple[str, ...] = ()
    """The fields asked for and not denied: ``Account.name``."""
    denied: tuple[str, ...] = ()
    """Coordinate, a space, and the scopes that it takes: ``Account.invoices invoices:read``."""
    personal: tuple[str, ...] = ()
    """Categories of personal data among the coordinates."""
    records: tuple[str, ...] | msgspec.Raw = ()
    """Type, source and id of records that were read or written, at most as many as one record may hold:
    ``Invoice:xero:3f2a``. ``Raw``, as a JSON array, on the way to the store; texts on the way back."""
    record_count: int = 0
    """How many there were."""
    count: int = 1
    """How many operations the record stands for."""

    def ids(self) -> Sequence[str]:
        """``records`` as texts."""
        if isinstance(self.records, msgspec.Raw):
            return msgspec.json.decode(self.records, type=list[str])
        return self.records


class AuditEntry(msgspec.Struct, frozen=True):
    """A record in its place."""

    sequence: int
    record: AuditRecord
    hash: Hash
    key_id: str | None = None
    """By which key it is sealed; None: by none."""


class AuditQuery(msgspec.Struct, frozen=True):
    """Which entries, newest first. ``organisation`` None: all, each operation once. All conditions together."""

    window: Window
    organisation: str | None = None
    principal: str | None = None
    """Also who looked as somebody else sees."""
    coordinate: str | None = None
    record: str | None = None
    outcomes: tuple[AuditOutcome, ...] | None = None
    kinds: tuple[AuditKind, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditHead(msgspec.Struct, frozen=True):
    """The chain's end. Kept somewhere else it proves later that nothing before it was touched."""

    sequence: int
    hash: Hash

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash.hex()}"


class Fault(msgspec.Struct, frozen=True):
    """Where the chain does not hold, and why."""

    sequence: int
    reason: str


class Verified(msgspec.Struct, frozen=True):
    """What a look over the chain found. It stops at the first fault."""

    first: int
    """The first record looked at."""
    last: int
    records: int
    fault: Fault | None = None


class AuditStore(Protocol):
    """The ledger's audit trail: one chain, however many processes write."""

    async def append(self, records: Sequence[AuditRecord], *, again: bool = False) -> None:
        """Durable when it returns; all of them or none. ``again``: some may have been written by an earlier call whose
        answer was lost, and are left out. Raises SourceError."""

    async def shares(self, owners: Sequence[Ref]) -> Sequence[str | None]:
        """The organisation that each account, or other system's customer, belongs to; in the order asked."""

    async def entries(self, query: AuditQuery) -> Page[AuditEntry]:
        """One page, an entry per operation; each with the first 100 of its records."""

    def exported(
        self, since: datetime | None = None, until: datetime | None = None, organisation: str | None = None
    ) -> AsyncIterator[AuditEntry]:
        """Oldest first, every record as it is sealed; of one organisation only its own."""

    async def head(self) -> AuditHead: ...

    async def verify(
        self, first: int | None = None, last: int | None = None, kept: AuditHead | None = None
    ) -> Verified:
        """Reads the chain, or the part from ``first`` to ``last``, in little memory. ``kept``: a head noted earlier."""

    async def prune(self, before: datetime) -> int:
        """Deletes what is older, as far as nothing younger stands before it, and leaves a sealed checkpoint. How many."""
