"""The words that every type family shares: scalars, money, node ids, cursors, pages, described enums."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Generic, NewType, TypeVar

import msgspec
import strawberry
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.scalars import JSON
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.scalar import ScalarDefinition

from permissions.directives import PART, reveals
from resolvers.by_column import by_column
from resolvers.errors import BadUserInput
from sources.ports.common import PAGE_CAP, Direction, Key, Page, Ref, Window

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

DEFAULT_PAGE = 20

# -- scalars ----------------------------------------------------------------------------------------------------

ByteCount = NewType("ByteCount", int)
CurrencyCode = NewType("CurrencyCode", str)
URL = NewType("URL", str)


def _decimal(value: Any) -> Decimal:
    # A JSON number may already have lost digits on its way: only text is exact.
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise StrawberryInputCoercionError('A Decimal is written as text, such as "1250.00".')
    return number


def _date(value: Any) -> date:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise StrawberryInputCoercionError('A Date is written as "2026-05-01".')


def _instant(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            instant = None
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    raise StrawberryInputCoercionError('A DateTime is written with its zone, as "2026-05-01T10:00:00Z".')


def _show_decimals(values: Sequence[Decimal]) -> list[str]:
    texts = list(map(str, values))
    # As text some numbers are in exponent form.
    return list(map(_show_decimal, values)) if "E" in "".join(texts) else texts


@by_column(_show_decimals, of=Decimal)
def _show_decimal(value: Decimal) -> str:
    return format(value, "f")


def _show_instants(values: Sequence[datetime]) -> list[Any]:
    # The encoder writes an instant in UTC as we do.
    in_utc = [value.tzinfo for value in values].count(UTC)
    return list(values) if in_utc == len(values) else list(map(_show_instant, values))


@by_column(_show_instants, of=datetime)
def _show_instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _scalar(
    origin: Any, name: str, description: str, url: str, serialize: Any, parse: Any
) -> ScalarDefinition:
    return ScalarDefinition(
        name=name,
        description=description,
        specified_by_url=url,
        serialize=serialize,
        parse_value=parse,
        parse_literal=None,
        origin=origin,
    )


def _no_input(value: Any) -> Any:
    raise StrawberryInputCoercionError("This scalar is only given, never taken.")


SCALARS: Mapping[object, ScalarDefinition] = {
    Decimal: _scalar(
        Decimal,
        "Decimal",
        "An exact decimal number as text, never in exponent form.",
        "https://speleotrove.com/decimal/daconvs.html",
        _show_decimal,
        _decimal,
    ),
    date: _scalar(
        date,
        "Date",
        "A calendar date without a zone, by ISO 8601: 2026-05-01.",
        "https://scalars.graphql.org/andimarek/local-date",
        date.isoformat,
        _date,
    ),
    datetime: _scalar(
        datetime,
        "DateTime",
        "An instant by RFC 3339, given in UTC.",
        "https://scalars.graphql.org/andimarek/date-time",
        _show_instant,
        _instant,
    ),
    ByteCount: _scalar(
        ByteCount,
        "ByteCount",
        "A number of bytes; larger than Int can hold, still exact in JavaScript.",
        "https://www.rfc-editor.org/rfc/rfc7493#section-2.2",
        int,
        _no_input,
    ),
    CurrencyCode: _scalar(
        CurrencyCode,
        "CurrencyCode",
        "A currency by ISO 4217, such as GBP.",
        "https://www.iso.org/iso-4217-currency-codes.html",
        str,
        _no_input,
    ),
    URL: _scalar(
        URL, "URL", "An address by RFC 3986.", "https://www.rfc-editor.org/rfc/rfc3986", str, _no_input
    ),
}
"""For StrawberryConfig.scalar_map."""

# -- money ------------------------------------------------------------------------------------------------------


@strawberry.type(
    description="An exact amount in one currency. Amounts are never converted or rounded here.",
    directives=[PART],
)
class Money:
    amount: Decimal = strawberry.field(
        description="In major units, with at least the currency's minor units: 48.00 GBP, 48 JPY, 48.000 KWD."
    )
    currency: CurrencyCode = strawberry.field(description="The currency of the amount.")


# -- node ids ---------------------------------------------------------------------------------------------------


def node_id(type_name: str, ref: Ref) -> strawberry.ID:
    """The opaque form of (type, Ref)."""
    return strawberry.ID(_opaque(f"{type_name}:{ref.source}:{ref.id}"))


def _node_ids(type_name: str, records: Sequence[Any]) -> list[str]:
    """Raises ValueError where they are of several sources, or an id has a NUL."""
    refs = [record.ref for record in records]
    (source,) = {ref.source for ref in refs}
    # Put together and encoded as one text, and then parted, which takes less than making each of them.
    start = f"\0{type_name}:{source}:"
    _, *texts = (start + start.join([ref.id for ref in refs])).encode().split(b"\0")
    if len(texts) != len(refs):
        raise ValueError("an id has a NUL")
    # JSON's encoder writes bytes in base64: all of them in one call, with nothing around them that the other letters are in.
    written = msgspec.json.encode(texts).replace(b"=", b"").replace(b"+", b"-").replace(b"/", b"_")
    return _TEXTS.decode(written)


_TEXTS = msgspec.json.Decoder(list[str])


def parse_node_id(value: str) -> tuple[str, Ref] | None:
    """None for what was never a node id of ours."""
    parts = _clear(value).split(":", 2)
    return (parts[0], Ref(parts[1], parts[2])) if len(parts) == 3 and all(parts) else None


def ref_of(type_name: str, value: str) -> Ref | None:
    """The Ref in a node id of this type; None for any other text."""
    parsed = parse_node_id(value)
    return parsed[1] if parsed and parsed[0] == type_name else None


@strawberry.interface(description="Anything that can be asked for again by its id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Opaque, unique in the whole graph, stable.")


def shown_from(record: type) -> Any:
    """A type's ``is_type_of``: it shows instances of exactly this record. The attribute lets an executor look at the class
    of many rows at once."""

    def is_type_of(value: Any, info: Any) -> bool:
        return type(value) is record

    is_type_of.record = record  # type: ignore[attr-defined]
    return staticmethod(is_type_of)


def identified(type_name: str) -> Any:
    """The ``id`` field of a type whose records have a ``ref``."""

    @by_column(lambda records: _node_ids(type_name, records))
    def id_(root: strawberry.Parent[Any]) -> strawberry.ID:
        return node_id(type_name, root.ref)

    return strawberry.field(resolver=id_, name="id", description="Opaque, unique in the whole graph, stable.")


def sources_id() -> Any:
    """The ``id`` field of a type whose records have a ``ref`` but can only be read through another record."""

    def id_(root: strawberry.Parent[Any]) -> strawberry.ID:
        return strawberry.ID(root.ref.id)

    return strawberry.field(resolver=id_, name="id", description="Names it among its kind; not a node.")


# -- pages ------------------------------------------------------------------------------------------------------

First = Annotated[
    int | None,
    strawberry.argument(
        description=f"How many from the start, at most {PAGE_CAP}; {DEFAULT_PAGE} when neither is given."
    ),
]
Last = Annotated[
    int | None,
    strawberry.argument(description=f"How many from the end, at most {PAGE_CAP}. Not together with first."),
]
After = Annotated[
    str | None,
    strawberry.argument(description="Only what comes after this cursor, which must be of the same ordering."),
]
Before = Annotated[
    str | None,
    strawberry.argument(
        description="Only what comes before this cursor, which must be of the same ordering."
    ),
]


@strawberry.type(description="Where a page lies in its list.", directives=[PART])
class PageInfo:
    has_next_page: bool = strawberry.field(description="Is there more behind this page?")
    has_previous_page: bool = strawberry.field(description="Is there more before this page?")
    start_cursor: str | None = strawberry.field(description="The first edge's cursor.")
    end_cursor: str | None = strawberry.field(description="The last edge's cursor.")


@strawberry.type(description="One item of a page and its place in the list.")
class Edge(Generic[T]):
    node: T | None = strawberry.field(description="The item.")
    cursor: str = strawberry.field(description="Opaque; for `after` or `before` with the same ordering.")


@strawberry.type(description="A page of a list, by the Relay connection specification.")
class Connection(Generic[T]):
    edges: list[Edge[T]] | None = strawberry.field(description="The items with their cursors.")
    nodes: list[T | None] | None = strawberry.field(description="The items alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


class EdgeOf:
    """What an Edge is read from. Its cursor is only made when asked for."""

    __slots__ = ("_key", "_order", "node")

    def __init__(self, node: Any, key: Key, order: str) -> None:
        self.node, self._key, self._order = node, key, order

    @property
    def cursor(self) -> str:
        """Opaque."""
        return cursor(self._order, self._key)


class ConnectionOf:
    """What a Connection is read from: a page of records and the name of its ordering."""

    __slots__ = ("_order", "page")

    def __init__(self, page: Page[Any], order: str) -> None:
        self.page, self._order = page, order

    @property
    def edges(self) -> list[EdgeOf]:
        """In order."""
        order = self._order
        return [EdgeOf(row, key, order) for row, key in zip(self.page.rows, self.page.keys, strict=True)]

    @property
    def nodes(self) -> Sequence[Any]:
        """The records."""
        return self.page.rows

    @property
    def page_info(self) -> "ConnectionOf":
        """The connection itself knows."""
        return self

    @property
    def has_next_page(self) -> bool:
        """As Relay defines it."""
        return self.page.has_next

    @property
    def has_previous_page(self) -> bool:
        """As Relay defines it."""
        return self.page.has_previous

    @property
    def start_cursor(self) -> str | None:
        """None on an empty page."""
        return cursor(self._order, self.page.keys[0]) if self.page.keys else None

    @property
    def end_cursor(self) -> str | None:
        """None on an empty page."""
        return cursor(self._order, self.page.keys[-1]) if self.page.keys else None


def cursor(order: str, key: Key) -> str:
    """Names a place in one ordering; nothing about who may go there is in it."""
    return _opaque(msgspec.json.encode((order, key)).decode())


def window(first: int | None, after: str | None, last: int | None, before: str | None, order: str) -> Window:
    """The arguments of a connection as a Window. Raises BadUserInput."""
    if after is None and before is None:
        return _at_an_end(first, last)
    return msgspec.structs.replace(
        _at_an_end(first, last), after=_key(after, order, "after"), before=_key(before, order, "before")
    )


@lru_cache(maxsize=256)
def _at_an_end(first: int | None, last: int | None) -> Window:
    if first is not None and last is not None:
        raise BadUserInput("give first or last, not both")
    for name, count in (("first", first), ("last", last)):
        if count is not None and not 0 <= count <= PAGE_CAP:
            raise BadUserInput("{argument} must be from 0 to {limit}", argument=name, limit=PAGE_CAP)
    return Window(first=DEFAULT_PAGE if first is None and last is None else first, last=last)


_CURSOR = msgspec.json.Decoder(tuple[str, Key])
_LONGEST_CURSOR = 8_192


def _key(text: str | None, order: str, argument: str) -> Key | None:
    if text is None:
        return None
    try:
        made_for, key = _CURSOR.decode(_clear(text).encode() if len(text) <= _LONGEST_CURSOR else b"")
    except msgspec.DecodeError:
        raise BadUserInput("{argument} is not a cursor of this graph", argument=argument) from None
    if made_for != order:
        raise BadUserInput(
            "{argument} is a cursor of another ordering; start again without it", argument=argument
        )
    return key


def _opaque(text: str) -> str:
    return binascii.b2a_base64(text.encode()).translate(_URL_SAFE, b"=\n").decode()


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _clear(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


# -- enums ------------------------------------------------------------------------------------------------------


def described(enum: type[E], description: str, **values: str) -> type[E]:
    """Puts a port's enum into the graph, every value described. Raises KeyError when one is forgotten."""
    graph = strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = graph.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values.pop(value.name)
    if values:
        raise KeyError(f"{enum.__name__} has no {', '.join(values)}")
    return graph


def ordering(
    enum: type[E], name: str, of: str, description: str, **values: tuple[str, Sequence[str]]
) -> type[E]:
    """Puts a port's orderings of a type into the graph under a name: each is described, and named with the fields of the
    type that it tells of, as an order does."""
    graph = described(enum, description, **{value: words for value, (words, _) in values.items()})
    definition: StrawberryEnumDefinition = graph.__strawberry_definition__  # type: ignore[attr-defined]
    definition.name = name
    for value in definition.values:
        value.directives = (reveals(*(f"{of}.{field}" for field in values[value.name][1])),)
    return graph


OrderDirection = described(
    Direction,
    "Which way a list runs.",
    ASC="Smallest, earliest or A first.",
    DESC="Largest, latest or Z first.",
)
OrderDirection.__strawberry_definition__.name = "OrderDirection"  # type: ignore[attr-defined]


@strawberry.input(description="A range of dates, both ends included; either may be left out.")
class DateRange:
    from_: date | None = strawberry.field(default=None, name="from", description="The first day.")
    to: date | None = strawberry.field(default=None, description="The last day.")


@strawberry.input(description="A range of instants, both ends included; either may be left out.")
class DateTimeRange:
    from_: datetime | None = strawberry.field(default=None, name="from", description="The first instant.")
    to: datetime | None = strawberry.field(default=None, description="The last instant.")


@strawberry.input(description="A range of numbers, both ends included; either may be left out.")
class DecimalRange:
    from_: Decimal | None = strawberry.field(default=None, name="from", description="The smallest.")
    to: Decimal | None = strawberry.field(default=None, description="The largest.")


@strawberry.type(
    description=(
        "A way to a file that works for a short time and only for the caller who asked: send the same bearer token "
        "with the request."
    ),
    directives=[PART],
)
class FileLink:
    url: URL = strawberry.field(description="Where to GET it.")
    expires_at: datetime = strawberry.field(description="From then on the address answers 404.")


def accepts_nothing(*accepted: Sequence[Any] | None) -> bool:
    """Is one of these filters an empty list? "Any of these" of none fits nothing, where leaving it out fits all."""
    return any(values is not None and not values for values in accepted)


OwnFields = JSON | None
"""The place where filters on a firm's own fields arrive; the schema shows the declared fields in its stead."""


def batched(resolver: Any = None, *, call_per_row: bool = False, **options: Any) -> Any:
    """A field that is answered through a loader of the request, so that any number of parents cost one call.

    The resolver returns what ``load`` gives and awaits nothing itself; start-up refuses it otherwise. ``call_per_row``:
    the source has no batch for it, so that a request may ask for it on a limited number of rows.
    """
    return strawberry.field(resolver, metadata={"batched": True, "call_per_row": call_per_row}, **options)
