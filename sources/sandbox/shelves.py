"""The company's documents: one prefix per customer, kinds and tags as folders, older versions kept."""

from __future__ import annotations

from random import Random

from sources.sandbox.facts import Account, Document, DocumentVersion
from sources.sandbox.papers import paper
from sources.sandbox.words import DOCUMENT_KINDS, DOCUMENT_TAGS, EXTENSIONS


def documents(account: Account, count: int, seed: int) -> tuple[Document, ...]:
    """In no order of key; three in five have one version, the others two to four."""
    rng = Random(f"{seed}/documents/{account.index}")
    return tuple(_document(account, sequence, rng) for sequence in range(1, count + 1))


def _document(account: Account, sequence: int, rng: Random) -> Document:
    kind, stems, content_types = DOCUMENT_KINDS[sequence % len(DOCUMENT_KINDS)]
    stem, content_type = rng.choice(stems), rng.choice(content_types)
    tags = tuple(rng.sample(DOCUMENT_TAGS, rng.choice((0, 1, 1, 2))))
    file_name = f"{stem} {sequence:03d}.{EXTENSIONS[content_type]}"
    versions = tuple(
        DocumentVersion(number, paper(content_type, stem, _paragraphs(account, kind, sequence, number)))
        for number in range(1, rng.choice((1, 1, 1, 2, 4 if sequence % 2 else 3)) + 1)
    )
    return Document(
        key=account.s3_prefix + "/".join((kind, *tags, file_name)),
        account=account.index,
        kind=kind,
        tags=tags,
        file_name=file_name,
        content_type=content_type,
        versions=versions,
    )


def _paragraphs(account: Account, kind: str, sequence: int, version: int) -> tuple[str, ...]:
    return (
        f"For {account.crm_name}, customer {account.account_number}.",
        f"Filed under {kind} as number {sequence}, version {version}.",
        "This paper belongs to an invented company and is worth nothing to anybody. It is here so that "
        "a reader can see that the right bytes arrived.",
    )
