"""What every port speaks: references, money, windows over ordered lists, and pages.

Records, here and in the ports, are ``gc=False``: frozen, and made of values alone, they can be in no circle, and the collector
need not look at the thousands of a large answer.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
from babel.core import get_global

R = TypeVar("R")

PAGE_CAP = 100
"""The largest page that the graph gives."""


class Ref(msgspec.Struct, frozen=True, order=True, gc=False):
    """Names one record in one system: ``Ref("xero", "3f2a...")``. Ids are always text."""

    source: str
    id: str

    def __str__(self) -> str:
        return f"{self.source}:{self.id}"


@lru_cache(maxsize=256)
def minor_units(currency: str) -> int:
    """Decimal places of a currency (ISO 4217 by CLDR): GBP 2, JPY 0, KWD 3."""
    fractions = get_global("currency_fractions")
    return int(fractions.get(currency, fractions["DEFAULT"])[0])


class Money(msgspec.Struct, frozen=True, gc=False):
    """An exact amount and its ISO 4217 currency. Amounts are never rounded here."""

    amount: Decimal
    currency: str

    @classmethod
    def of(cls, amount: Decimal | None, currency: str | None) -> "Money | None":
        """Pads to the currency's minor units (``48`` GBP is ``48.00``), keeps finer amounts as they are.

        None where the vendor gives no amount or no currency.
        """
        if amount is None or not currency:
            return None
        try:
            padded = amount.quantize(_UNIT_OF[currency])
            if padded == amount:
                return cls(padded, currency)
            exact = amount.normalize()
        except InvalidOperation:  # more digits than the context keeps, or no number
            exact = amount
        return cls(exact, currency) if amount.is_finite() else None

    @classmethod
    def of_many(cls, amounts: list[Decimal | None], currencies: list[str | None]) -> "list[Money | None]":
        """``of`` each amount and the currency in its place."""
        try:
            padded = list(map(Decimal.quantize, amounts, map(_UNIT_OF.__getitem__, currencies)))  # type: ignore[arg-type]
        except (InvalidOperation, KeyError, TypeError):  # one of them is not as usual, or there is none
            return list(map(cls.of, amounts, currencies))
        if padded != amounts:  # one of them is finer than its currency's unit
            return list(map(cls.of, amounts, currencies))
        return list(map(cls, padded, currencies))


class _UnitOf(dict[str, Decimal]):
    """The smallest amount of each currency."""

    def __missing__(self, currency: str | None) -> Decimal:
        if not currency:
            raise KeyError(currency)
        if len(self) >= _MOST_CURRENCIES:
            self.clear()
        unit = self[currency] = _UNITS[minor_units(currency)]
        return unit


_MOST_CURRENCIES = 256
_UNIT_OF = _UnitOf()
_UNITS = [Decimal(1).scaleb(-places) for places in range(5)]


class Word(Enum):
    """One of a few words. A member is the only one of its kind, and as that it hashes: by its name, as Enum has it, would be
    Python, several times for each question."""

    __hash__ = object.__hash__


class Direction(Word):
    """Which way an ordered list runs."""

    ASC = "asc"
    DESC = "desc"


class Key(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A place in an ordered list: the sort value as text ("" for none) and the record's id, which breaks ties."""

    value: str
    id: str


class Window(msgspec.Struct, frozen=True):
    """Which slice of an ordered list is asked for: ``first`` after a key, or ``last`` before one.

    Exactly one of ``first`` and ``last`` is set, from 0 to PAGE_CAP. Both keys may be given with either.
    """

    first: int | None = None
    last: int | None = None
    after: Key | None = None
    before: Key | None = None

    @property
    def size(self) -> int:
        """How many rows at most."""
        return self.first if self.first is not None else self.last or 0

    @property
    def backwards(self) -> bool:
        """Is the slice taken from the list's end?"""
        return self.first is None


class Page(msgspec.Struct, Generic[R], frozen=True):
    """A slice of a list in the order asked, with each row's key. ``has_next``/``has_previous`` as Relay defines them."""

    rows: Sequence[R]
    keys: Sequence[Key]
    has_next: bool = False
    has_previous: bool = False


class Scalar(Enum):
    """What a firm's own field may hold."""

    STRING = "String"
    INT = "Int"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    DECIMAL = "Decimal"
    DATE = "Date"
    DATETIME = "DateTime"
    ENUM = "Enum"


class CustomField(msgspec.Struct, frozen=True):
    """A firm's own field: a vendor's property that gateway.toml puts on a type of the graph."""

    type: str
    """The graph's type, such as ``Account``."""
    name: str
    """The field's name in the graph, such as ``renewalDate``."""
    property: str
    """The vendor's name for it: a HubSpot property, a Zendesk custom field's number, a Xero element."""
    scalar: Scalar
    description: str
    scope: str | None = None
    values: tuple[tuple[str, str], ...] = ()
    """For an enum: (vendor's value, graph's value) in order. A value that is not listed reads UNKNOWN."""


class Condition(msgspec.Struct, frozen=True):
    """A filter on a firm's own field, ready for the vendor: the property and bounds or an exact value as Python values.

    ``equals`` is a tuple of accepted values (any of them); ``minimum`` and ``maximum`` are inclusive.
    """

    field: CustomField
    equals: tuple[Any, ...] | None = None
    minimum: Any = None
    maximum: Any = None


class CustomerRecord(msgspec.Struct, frozen=True, gc=False):
    """A customer as a system other than the CRM knows it: what matching compares."""

    ref: Ref
    name: str | None = None
    external_id: str | None = None
    """The id that the firm wrote into this system to name the customer."""
    number: str | None = None
    domains: tuple[str, ...] = ()
    """E-mail domains, lower case."""
    merged_into: Ref | None = None
    archived: bool = False


class Criterion(Word):
    """How a customer may be looked for in a system other than the CRM."""

    EXTERNAL_ID = "external_id"
    NUMBER = "number"
    EMAIL_DOMAIN = "email_domain"


class Probe(msgspec.Struct, frozen=True):
    """What ``gateway check`` learns from one harmless call: who the credentials are, or the error."""

    allowed: bool
    detail: str
    """One line: the account's or organisation's name and id, or what is missing."""


class Content(msgspec.Struct, frozen=True):
    """A file's bytes and how to serve them."""

    body: bytes
    media_type: str
    file_name: str
