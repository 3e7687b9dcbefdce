"""The second level, which processes share: what it has to be, and how records are written there and read again."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol, get_args, get_origin

import msgspec

from sources.layers.cache.memory import Place
from sources.ports.common import CustomField, Page, Ref, Scalar
from sources.ports.crm import AccountRecord, ContactRecord
from sources.ports.documents import DocumentRecord, DocumentVersion
from sources.ports.erp import Balance, InvoiceRecord
from sources.ports.errors import SourceBadResponse
from sources.ports.helpdesk import ArticleRecord, CommentRecord, TicketRecord
from sources.ports.later import Alone, Later

RECORDS: Mapping[str, Any] = {
    "Account": AccountRecord,
    "Article": ArticleRecord,
    "Balance": Balance,
    "Comment": CommentRecord,
    "Contact": ContactRecord,
    "Document": DocumentRecord,
    "DocumentVersion": DocumentVersion,
    "Invoice": InvoiceRecord,
    "Ticket": TicketRecord,
}

_REVIVED: Mapping[Scalar, Callable[[str], Any]] = {
    Scalar.DATE: date.fromisoformat,
    Scalar.DATETIME: datetime.fromisoformat,
    Scalar.DECIMAL: Decimal,
}


class SecondLevel(Protocol):
    """Answers fast or not at all: it raises nothing, and being away is like being empty."""

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]: ...

    async def claim(
        self, wanted: Sequence[tuple[str, bytes | None]], claims: Sequence[str], seconds: float
    ) -> Sequence[bool | None]:
        """``wanted``: keys with what was found there. True: this process is to read it from its source; False: another
        one does, and has claimed it within the last ``seconds``; None: something else is there by now. Away: all True."""

    def put(self, entries: Mapping[str, bytes], seconds: float, claims: Sequence[str] = ()) -> None:
        """Without waiting for it. ``claims`` are given up in the same moment."""

    async def forget(self, keys: Sequence[str], prefixes: Sequence[str]) -> None:
        """These, and all that begin so."""


class Codec:
    """Keys and values of one gateway's sources. What is written under another description of a record, of another account
    of the vendor's, or with other fields of the firm's own, is not found."""

    def __init__(self, accounts: Mapping[str, str], own_fields: Sequence[CustomField]) -> None:
        """``accounts``: by source, what tells whose account there is read."""
        fields = repr(sorted(map(repr, own_fields)))
        self._prefixes = {
            source: f"gateway:cache:{_digest(_SHAPE, account, fields)}:{source}:"
            for source, account in accounts.items()
        }
        self._revived = [
            {
                field.property: _REVIVED[field.scalar]
                for field in own_fields
                if field.type == type_name and field.scalar in _REVIVED
            }
            for type_name in RECORDS
        ]
        self._decoders: dict[tuple[str, str], msgspec.msgpack.Decoder[Any]] = {}
        self._encode = msgspec.msgpack.Encoder(decimal_format="string", enc_hook=_read).encode

    def key(self, place: Place) -> str:
        shelf, item = place
        prefix = self._prefixes[shelf.source]
        if shelf.query is None:
            return f"{prefix}{_word(item)}:{shelf.type_name}"
        return f"{prefix}:list:{shelf.type_name}:{_digest(repr(shelf.query), repr(item))}"

    def claim(self, place: Place, urgency: int) -> str:
        """Under which a process says that it reads this. Nobody urgent waits for who is not."""
        return f"{self.key(place)}:claim:{urgency}"

    def of_record(self, ref: Ref) -> Sequence[str]:
        """What begins with one of these may hold the record: it alone, and any list."""
        prefix = self._prefixes.get(ref.source)
        return [] if prefix is None else [f"{prefix}{_word(ref)}:", f"{prefix}:list:"]

    def of_source(self, source: str) -> Sequence[str]:
        return [self._prefixes[source]] if source in self._prefixes else []

    def encoded(self, value: Any, read_at: float) -> bytes | None:
        """``value`` may be None: there is no such record. None where a part of it cannot be read."""
        try:
            return self._encode((read_at, value))
        except SourceBadResponse:
            return None

    def decoded(self, place: Place, text: bytes) -> tuple[float, Any] | None:
        """The time and the value; None where it cannot be read."""
        shelf = place[0]
        shape = _shape_of(shelf.query)
        decoder = self._decoders.get((shelf.type_name, shape))
        if decoder is None:
            type_: Any = _typed(RECORDS[shelf.type_name], shape)
            decoder = msgspec.msgpack.Decoder(tuple[float, type_], dec_hook=_made)
            self._decoders[shelf.type_name, shape] = decoder
        try:
            read_at, value = decoder.decode(text)
            self._revive(shelf.type_name, value)
        except (msgspec.DecodeError, ValueError, ArithmeticError):
            return None
        return read_at, value

    def _revive(self, type_name: str, value: Any) -> None:
        """The firm's own fields come back as text where MessagePack has no word for what they were."""
        revived = self._revived[list(RECORDS).index(type_name)]
        if not revived or value is None:
            return
        for row in value.rows if isinstance(value, Page) else [value]:
            for name, revive in revived.items():
                if isinstance(found := row.custom.get(name), str):
                    row.custom[name] = revive(found)


class Several(msgspec.Struct, frozen=True):
    """Asks for a plain sequence of records per parent."""

    name: str
    of: Hashable = None


class Number(msgspec.Struct, frozen=True):
    """Asks for a number per parent."""

    name: str


def _shape_of(query: Hashable) -> str:
    if query is None:
        return "record"
    if isinstance(query, Several):
        return "several"
    return "number" if isinstance(query, Number) else "page"


def _typed(record: Any, shape: str) -> Any:
    if shape == "number":
        return int
    if shape == "several":
        return tuple[record, ...]
    return Page[record] if shape == "page" else record | None


def _word(item: Hashable) -> str:
    return _digest(item.id if isinstance(item, Ref) else repr(item))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _read(later: Any) -> Any:
    """Records that are kept have their parts alone."""
    return later.value


def _made(type_: Any, value: Any) -> Any:
    (part,) = get_args(type_)
    return Alone(msgspec.convert(value, part))


def _described(record: Any) -> str:
    parts = [
        get_args(field.type)[0] for field in msgspec.structs.fields(record) if get_origin(field.type) is Later
    ]
    return str(
        [
            msgspec.json.schema(one, schema_hook=lambda later: {"title": later.__name__})
            for one in (record, *parts)
        ]
    )


_SHAPE = repr(sorted((name, _described(record)) for name, record in RECORDS.items()))
"""Every name and type of every record."""
