"""Documents and their versions."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from permissions.directives import requires, reveals, scoped
from resolvers.context import Info
from resolvers.freshness import fresh
from resolvers.vocabulary import (
    ByteCount,
    FileLink,
    Node,
    OrderDirection,
    batched,
    described,
    identified,
    node_id,
    ordering,
    shown_from,
)
from sources.ports.common import Direction, Window
from sources.ports.documents import DocumentKind as Kind
from sources.ports.documents import DocumentOrder, DocumentQuery, DocumentRecord
from sources.ports.documents import DocumentVersion as VersionRecord

if TYPE_CHECKING:
    from resolvers.account import Account

DocumentKind = described(
    Kind,
    "What a document is, by the folder that it lies in.",
    CONTRACT="An agreement.",
    CERTIFICATE="A certificate.",
    GUIDE="A guide or manual.",
    REPORT="A report.",
    INVOICE="An invoice that was filed.",
    STATEMENT="A statement of account.",
    OTHER="Anything else; see sourceKind.",
)
DocumentOrderField = ordering(
    DocumentOrder,
    "DocumentOrderField",
    "Document",
    "What documents may be ordered by.",
    UPDATED_AT=("When the current version was stored.", ["updatedAt"]),
    TITLE=("The title, whatever the case.", ["title"]),
)


@strawberry.type(
    description="One version of a document.",
    directives=[requires("documents:read"), scoped(by="document"), fresh("DocumentVersion")],
)
class DocumentVersion:
    id: strawberry.ID = strawberry.field(description="Names the version within its document; not a node.")
    current: bool = strawberry.field(description="Is it the one that is valid now?")
    size: ByteCount | None = strawberry.field(description="In bytes.")
    updated_at: datetime | None = strawberry.field(description="When it was stored.")

    @strawberry.field(description="The file itself.")
    def content(root: strawberry.Parent[Any], info: Info) -> FileLink | None:
        record: VersionRecord = root
        document = node_id("Document", record.document)
        return info.context.file_link("document", document, record.id)  # type: ignore[return-value]


@strawberry.type(
    description="A file that belongs to an account, from the document store.",
    directives=[requires("documents:read"), scoped(by="account"), fresh("Document")],
)
class Document(Node):
    id: strawberry.ID = identified("Document")
    title: str = strawberry.field(description="The file's name without its ending.")
    file_name: str = strawberry.field(description="The file's name.")
    kind: DocumentKind = strawberry.field(description="What it is.")  # type: ignore[valid-type]
    source_kind: str | None = strawberry.field(description="The folder's own name.")
    tags: list[str] | None = strawberry.field(description="The folders below, outermost first.")
    media_type: str | None = strawberry.field(description="By RFC 6838, from the file's ending.")
    size: ByteCount | None = strawberry.field(description="In bytes.")
    updated_at: datetime | None = strawberry.field(description="When the current version was stored.")

    @strawberry.field(description="The current version's file.")
    def content(root: strawberry.Parent[Any], info: Info) -> FileLink | None:
        record: DocumentRecord = root
        return info.context.file_link("document", node_id("Document", record.ref))  # type: ignore[return-value]

    @batched(call_per_row=True, description="All versions, newest first. Up to one call per document.")
    def versions(root: strawberry.Parent[Any], info: Info) -> list[DocumentVersion] | None:
        record: DocumentRecord = root
        return info.context.value(info.context.sources.versions_of, record.ref)  # type: ignore[return-value]

    @batched(
        description="The account that it belongs to; null where the link between the systems is not known."
    )
    def account(
        root: strawberry.Parent[Any], info: Info
    ) -> Annotated["Account", strawberry.lazy("resolvers.account")] | None:
        record: DocumentRecord = root
        return info.context.owner(record.customer)  # type: ignore[return-value]

    is_type_of = shown_from(DocumentRecord)


@strawberry.input(description="An ordering of documents.")
class DocumentOrdering:
    field: DocumentOrderField = strawberry.field(description="By what.")  # type: ignore[valid-type]
    direction: OrderDirection = strawberry.field(  # type: ignore[valid-type]
        default=Direction.DESC, description="Which way.", directives=[reveals()]
    )


@strawberry.input(
    description="Which documents; all that is given must hold. Filtered here: a listing has no filter but its folder."
)
class DocumentFilter:
    kind: list[DocumentKind] | None = strawberry.field(  # type: ignore[valid-type]
        default=None,
        description="Any of these; an empty list fits nothing.",
        directives=[reveals("Document.kind")],
    )
    tags: list[str] | None = strawberry.field(
        default=None, description="All of these.", directives=[reveals("Document.tags")]
    )
    text: str | None = strawberry.field(
        default=None, description="In the title, whatever the case.", directives=[reveals("Document.title")]
    )


def document_query(
    window: Window, filter: DocumentFilter | None, order: DocumentOrder, direction: Direction
) -> DocumentQuery:
    """The port's question."""
    if filter is None:
        return DocumentQuery(window, order=order, direction=direction)
    return DocumentQuery(
        window,
        kinds=tuple(dict.fromkeys(filter.kind or ())),
        tags=tuple(dict.fromkeys(filter.tags or ())),
        text=filter.text or None,
        order=order,
        direction=direction,
    )
