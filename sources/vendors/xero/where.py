"""Xero's filter language, written safely: nothing that a caller sent reaches it unchecked."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from uuid import UUID

from sources.ports.common import Condition, Direction, Scalar
from sources.ports.erp import InvoiceOrder, InvoiceQuery, InvoiceStatus
from sources.ports.errors import InvalidRequest
from sources.transport.fanin import Span
from sources.vendors.xero.rows import NAME, SALE, STATUSES

ELEMENTS = {
    InvoiceOrder.ISSUE_DATE: "Date",
    InvoiceOrder.DUE_DATE: "DueDate",
    InvoiceOrder.TOTAL: "Total",
}

_LARGEST_EXPONENT = 15
_SMALLEST_EXPONENT = -8
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029]')
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,8})?")


@lru_cache(maxsize=4096)
def uuid(text: str) -> str | None:
    """The id in Xero's own spelling, None where it cannot be one of Xero's ids."""
    if len(text) != 36:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        return None


def quotable(text: str) -> bool:
    """Can this stand between quotation marks?

    Xero documents no escape for a quotation mark. Its parser takes a doubled one, others of its family a backslash,
    and text escaped for one of them breaks out of the other; so neither character is ever sent.
    """
    return not _UNQUOTABLE.search(text)


def text(value: str) -> str:
    """A text literal. Raises InvalidRequest where it could not be written safely."""
    if not quotable(value):
        raise InvalidRequest(
            NAME, "cannot filter by text with quotation marks, backslashes or control characters"
        )
    return f'"{value}"'


def day(value: date) -> str:
    return f"DateTime({value.year:04},{value.month:02},{value.day:02})"


def number(value: Decimal | int | float) -> str:
    """Plain notation. Raises InvalidRequest for what no amount can be."""
    try:
        exact = Decimal(str(value))
        exponent = exact.as_tuple().exponent
        if (
            not isinstance(exponent, int)
            or exact.adjusted() > _LARGEST_EXPONENT
            or exponent < _SMALLEST_EXPONENT
        ):
            raise InvalidRequest(NAME, "cannot filter by a number of this size")
    except InvalidOperation as error:
        raise InvalidRequest(NAME, "cannot filter by what is not a number") from error
    return format(exact, "f")


def either(terms: Iterable[str]) -> str:
    return "(" + " OR ".join(terms) + ")"


def statuses(query: InvoiceQuery) -> list[str]:
    """Xero's words for what is asked for; none where nothing can fit."""
    wanted = set(query.statuses) & {InvoiceStatus.OPEN} if query.overdue_on else set(query.statuses)
    return [word for word, status in STATUSES.items() if status in wanted]


def invoices(query: InvoiceQuery, span: Span) -> str:
    """The filter for one call of a list of invoices, without customers and statuses, which have parameters."""
    terms = [f'Type=="{SALE}"']
    if query.overdue_on:
        terms += [f"DueDate<{day(query.overdue_on)}", "AmountDue>0"]
    bounds: tuple[tuple[str, date | None], ...] = (
        ("DueDate>=", query.due_from),
        ("DueDate<=", query.due_to),
        ("Date>=", query.issued_from),
        ("Date<=", query.issued_to),
    )
    terms += [left + day(bound) for left, bound in bounds if bound is not None]
    if query.total_min is not None:
        terms.append(f"Total>={number(query.total_min)}")
    if query.total_max is not None:
        terms.append(f"Total<={number(query.total_max)}")
    for condition in query.conditions:
        terms += own_field(condition)
    descending = span.direction is Direction.DESC
    lower, upper = (span.end, span.start) if descending else (span.start, span.end)
    element = ELEMENTS[query.order]
    if lower:
        terms.append(f"{element}>={_place(query.order, lower)}")
    if upper == "":
        terms.append(f"{element}==null")
    elif upper is not None:
        bound = f"{element}<={_place(query.order, upper)}"
        # Only a draft may lack its due date, and what lacks it comes before every date.
        undated = query.order is InvoiceOrder.DUE_DATE and InvoiceStatus.DRAFT in query.statuses
        terms.append(either((bound, f"{element}==null")) if undated else bound)
    return " AND ".join(terms)


def own_field(condition: Condition) -> list[str]:
    """The terms for a filter on a field of the firm's own. Raises InvalidRequest where Xero cannot filter so."""
    field, element = condition.field, condition.field.property
    terms: list[str] = []
    if condition.equals is not None:
        terms.append(either(f"{element}=={_literal(condition, value)}" for value in condition.equals))
    for sign, bound in ((">=", condition.minimum), ("<=", condition.maximum)):
        if bound is None:
            continue
        if field.scalar in (Scalar.STRING, Scalar.ENUM, Scalar.BOOLEAN):
            raise InvalidRequest(NAME, f"{field.name} can be filtered by exact values only")
        terms.append(f"{element}{sign}{_literal(condition, bound)}")
    return terms


def place_is_valid(order: InvoiceOrder, value: str) -> bool:
    """Is this text one that a key of this ordering can hold?"""
    try:
        return value == "" or bool(_place(order, value))
    except InvalidRequest:
        return False


def _place(order: InvoiceOrder, value: str) -> str:
    if order is InvoiceOrder.TOTAL and _DECIMAL.fullmatch(value):
        return value
    if order is not InvoiceOrder.TOTAL and _ISO_DATE.fullmatch(value):
        try:
            return day(date.fromisoformat(value))
        except ValueError:
            pass
    raise InvalidRequest(NAME, "the cursor does not belong to this list")


def _literal(condition: Condition, value: Any) -> str:
    scalar, element = condition.field.scalar, condition.field.property
    match value:
        case bool() if scalar is Scalar.BOOLEAN:
            return "true" if value else "false"
        case str() if scalar in (Scalar.STRING, Scalar.ENUM) and element.endswith("ID"):
            if uuid(value) is None:
                raise InvalidRequest(NAME, f"{condition.field.name} can be filtered by ids (UUIDs) only")
            return f'guid("{uuid(value)}")'
        case str() if scalar in (Scalar.STRING, Scalar.ENUM):
            return text(value)
        case datetime() if scalar is Scalar.DATETIME:
            moment = value.astimezone(UTC) if value.tzinfo else value
            return f"DateTime({moment:%Y,%m,%d,%H,%M,%S})"
        case date() if scalar is Scalar.DATE:
            return day(value)
        case bool():
            pass
        case Decimal() | int() | float() if scalar in (Scalar.INT, Scalar.FLOAT, Scalar.DECIMAL):
            return number(value)
    raise InvalidRequest(NAME, f"{condition.field.name} cannot be filtered by a value of this type")
