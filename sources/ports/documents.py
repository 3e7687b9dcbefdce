"""A document store: files that belong to a customer, and their versions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from sources.ports.common import Content, Criterion, CustomerRecord, Direction, Page, Probe, Ref, Window, Word
from sources.ports.errors import SourceError


class DocumentKind(Word):
    """What a document is, from the folder that it lies in."""

    CONTRACT = "contract"
    CERTIFICATE = "certificate"
    GUIDE = "guide"
    REPORT = "report"
    INVOICE = "invoice"
    STATEMENT = "statement"
    OTHER = "other"


class DocumentRecord(msgspec.Struct, frozen=True, gc=False):
    """The current version of a file. ``customer`` is the folder of the customer that it belongs to."""

    ref: Ref
    customer: Ref
    title: str
    """The file's name without its ending."""
    file_name: str
    kind: DocumentKind
    source_kind: str | None
    """The folder's own name."""
    tags: tuple[str, ...] = ()
    media_type: str | None = None
    """From the file's ending: a listing does not say."""
    size: int | None = None
    """Bytes."""
    updated_at: datetime | None = None
    etag: str | None = None


class DocumentVersion(msgspec.Struct, frozen=True, gc=False):
    """One version of a file. ``id`` names it within its document."""

    id: str
    document: Ref
    current: bool
    size: int | None
    updated_at: datetime | None


class DocumentOrder(Word):
    """What documents may be sorted by."""

    UPDATED_AT = "updated_at"
    TITLE = "title"


class DocumentQuery(msgspec.Struct, frozen=True):
    """Which documents of each customer. ``tags``: all of them; ``text``: in the title, case folded."""

    window: Window
    kinds: tuple[DocumentKind, ...] = ()
    tags: tuple[str, ...] = ()
    text: str | None = None
    order: DocumentOrder = DocumentOrder.UPDATED_AT
    direction: Direction = Direction.DESC


class Documents(Protocol):
    """The port. Batches answer in the order asked."""

    name: str

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]: ...

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]: ...

    async def documents(self, refs: Sequence[Ref]) -> Sequence[DocumentRecord | None]: ...

    async def documents_of(
        self, customers: Sequence[Ref], query: DocumentQuery
    ) -> Sequence[Page[DocumentRecord] | SourceError]: ...

    async def versions_of(
        self, documents: Sequence[Ref]
    ) -> Sequence[Sequence[DocumentVersion] | SourceError]:
        """Newest first, the current one at the head; deleted states are left out."""

    async def content(self, document: Ref, version_id: str | None = None) -> Content | None:
        """The current version's bytes, or those of the version named."""

    async def probe(self) -> Probe: ...

    async def close(self) -> None: ...
