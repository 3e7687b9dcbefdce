"""Turning a vendor's value of a firm's own field into its scalar's Python type."""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from sources.ports.common import CustomField, Scalar

UNKNOWN = "UNKNOWN"
"""What an enum field reads when the vendor's value is not one that gateway.toml lists."""


def custom_value(field: CustomField, raw: Any) -> Any:
    """None for nothing (null, "" or a value that does not fit the scalar); else str, int, float, bool, Decimal, date or
    an aware UTC datetime. Dates and times may come as ISO 8601 text or as epoch milliseconds (HubSpot sends both)."""
    if raw is None or raw == "":
        return None
    try:
        return _READERS[field.scalar](field, raw)
    except (ValueError, InvalidOperation, TypeError, OverflowError):
        return None


def _enum(field: CustomField, raw: Any) -> str:
    return dict(field.values).get(str(raw), UNKNOWN)


def _boolean(field: CustomField, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(raw).lower()]


def moment(text: str) -> datetime:
    """ISO 8601 text, in UTC where it names no zone, or epoch milliseconds. Raises ValueError or OverflowError."""
    if len(text) > 8 and text.lstrip("-").isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _date(field: CustomField, raw: Any) -> date:
    return moment(str(raw)).date() if len(str(raw)) > 10 else date.fromisoformat(str(raw))


def _int(field: CustomField, raw: Any) -> int:
    number = Decimal(str(raw))
    if number != int(number):
        raise ValueError
    return int(number)


_READERS = {
    Scalar.STRING: lambda field, raw: str(raw),
    Scalar.INT: _int,
    Scalar.FLOAT: lambda field, raw: float(raw),
    Scalar.BOOLEAN: _boolean,
    Scalar.DECIMAL: lambda field, raw: Decimal(str(raw)),
    Scalar.DATE: _date,
    Scalar.DATETIME: lambda field, raw: moment(str(raw)),
    Scalar.ENUM: _enum,
}
