"""What an object's key says: whose document it is, of which kind, with which tags and name."""

import mimetypes
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

import msgspec

from sources.ports.common import Ref
from sources.ports.documents import DocumentKind, DocumentRecord

SOURCE = "s3"

NUMBER = "{number}"
"""Stands for the customer's number in the folder template."""

_NUMBER_FORM = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Lone surrogates too, which no encoding has."""
_KEY_BYTES = 1024
"""S3's own limit."""
_OTHER = DocumentKind.OTHER
"""Taken from the enum once: looking a member up by its name is Python (CPython 3.11), for each document."""


def _media_types() -> mimetypes.MimeTypes:
    """Python's own table and the office formats it lacks, never the machine's: the same answer everywhere."""
    known = mimetypes.MimeTypes()
    office = "application/vnd.openxmlformats-officedocument."
    for ending, media_type in (
        (".docx", office + "wordprocessingml.document"),
        (".xlsx", office + "spreadsheetml.sheet"),
        (".pptx", office + "presentationml.presentation"),
        (".odt", "application/vnd.oasis.opendocument.text"),
        (".ods", "application/vnd.oasis.opendocument.spreadsheet"),
        (".md", "text/markdown"),
    ):
        known.add_type(media_type, ending)
    return known


_MEDIA_TYPES = _media_types()


class _Place(msgspec.Struct, frozen=True):
    """What the folders under a customer's say of the documents in them."""

    source_kind: str | None
    kind: DocumentKind
    tags: tuple[str, ...]


class Layout:
    """How a bucket is laid out: ``{customer's folder}{kind}/{tag}/.../{file name}``.

    Every customer's folder is as many segments deep as the template, declared ones too. So a key belongs to exactly one
    folder, which the key alone tells, and no declared folder can hold another customer's.
    """

    def __init__(self, folder: str, kinds: Mapping[str, DocumentKind]) -> None:
        """Raises ValueError where ``folder`` cannot serve as a template, or ``kinds`` names what is no one folder."""
        before, _, after = folder.partition(NUMBER)
        if folder.count(NUMBER) != 1 or not after.endswith("/") or not _is_key(folder, folder.split("/")):
            raise ValueError(
                f"folder must hold {NUMBER} once and end with '/', without '..' or a leading '/'"
            )
        for name in kinds:
            if not _is_key(name, [name]) or "/" in name:
                raise ValueError(f"kinds: {name!r} is not the name of one folder")
        self.root = before
        """What every folder of the template begins with."""
        self._folder = folder
        self._depth = folder.count("/")
        self._form = re.compile(f"{re.escape(before)}({_NUMBER_FORM}){re.escape(after)}")
        self._kinds = dict(kinds)
        # Not by the customer: the same few folders lie under all of them.
        self._place = lru_cache(maxsize=1024)(self._place_of)

    def folder_for(self, number: str) -> str | None:
        """The folder of the customer with this number; None where it is not of a number's form."""
        return self._folder.replace(NUMBER, number) if re.fullmatch(_NUMBER_FORM, number) else None

    def number_of(self, folder: str) -> str | None:
        """The number in a folder's name; None for a declared folder that does not fit the template."""
        fits = self._form.fullmatch(folder)
        return fits[1] if fits else None

    def is_folder(self, text: str) -> bool:
        """May this be a customer's folder?"""
        segments = text.split("/")
        return len(segments) == self._depth + 1 and not segments[-1] and self._are_good(text, segments)

    def folder_of(self, key: str) -> str | None:
        """The customer's folder that a document's key lies in; None for a key that no document may have."""
        segments = key.split("/")
        return self._above(segments) if self._is_documents(key, segments) else None

    def folders_holding(self, kinds: tuple[DocumentKind, ...]) -> tuple[str, ...] | None:
        """The names of the only folders where documents of these kinds lie; None where they may lie anywhere."""
        if not kinds or DocumentKind.OTHER in kinds:
            return None
        return tuple(name for name, kind in self._kinds.items() if kind in kinds)

    def document(
        self,
        key: str,
        size: int | None,
        updated_at: datetime | None,
        etag: str | None,
        listed: Ref | None = None,
    ) -> DocumentRecord | None:
        """The record; None where the key is no document's, such as the empty object that stands for a folder. ``listed``:
        the customer whose folder was looked into, for all rows of one to share."""
        if listed is None or not key.startswith(listed.id):
            folder = self.folder_of(key)
            if folder is None:
                return None
            listed = Ref(SOURCE, folder)
        folders, _, file_name = key[len(listed.id) :].rpartition("/")
        place = self._place(folders)
        if place is None or not file_name or not _are_names(file_name, [file_name]) or not _fits(key):
            return None
        title, ending = _split(file_name)
        # In the record's order and without names: making it so takes a fraction of the time.
        return DocumentRecord(
            Ref(SOURCE, key),
            listed,
            title,
            file_name,
            place.kind,
            place.source_kind,
            place.tags,
            _media_type(ending),
            size,
            updated_at,
            etag,
        )

    def _place_of(self, folders: str) -> _Place | None:
        """None where no document may lie. ``folders``: from under the customer's on, "" for that itself."""
        segments = folders.split("/")
        if not _are_names(folders, segments):
            return None
        kind = self._kinds.get(segments[0], _OTHER)
        return _Place(segments[0] or None, kind, tuple(filter(None, segments[1:])))

    def _above(self, segments: list[str]) -> str:
        return "/".join(segments[: self._depth]) + "/"

    def _is_documents(self, key: str, segments: list[str]) -> bool:
        return len(segments) > self._depth and bool(segments[-1]) and self._are_good(key, segments)

    def _are_good(self, text: str, segments: list[str]) -> bool:
        return "" not in segments[: self._depth] and _is_key(text, segments)


def media_type(file_name: str) -> str | None:
    """By the file's ending; None where that says nothing."""
    return _media_type(_split(file_name)[1])


def _split(file_name: str) -> tuple[str, str]:
    """Title and ending, which begins with its dot; a name that begins with its only dot has none."""
    title, dot, ending = file_name.rpartition(".")
    return (title, dot + ending) if title.strip(".") else (file_name, "")


@lru_cache(maxsize=256)
def _media_type(ending: str) -> str | None:
    # Only the ending is looked at: a whole name such as "data:,x.pdf" would be taken for a URL.
    found, encoding = _MEDIA_TYPES.guess_type("file" + ending)
    return found if encoding is None else None


def folded(text: str) -> str:
    """For comparing titles: macOS uploads names with their accents taken apart."""
    return unicodedata.normalize("NFC", text).casefold()


def _is_key(text: str, segments: list[str]) -> bool:
    """Keys are any unicode; those that climb, start at a root or hide control characters are left alone."""
    return bool(segments[0]) and _are_names(text, segments) and _fits(text)


def _are_names(text: str, segments: list[str]) -> bool:
    """Does none of the text's segments climb or hide control characters?"""
    if "." in segments or ".." in segments:
        return False
    # What can be printed holds none of them, which is told faster.
    return text.isprintable() or not _CONTROL.search(text)


def _fits(key: str) -> bool:
    return len(key.encode()) <= _KEY_BYTES
