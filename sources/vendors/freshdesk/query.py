"""Ticket filters as questions to the mirror."""

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sources.ports.common import Condition, Key, Scalar
from sources.ports.errors import InvalidRequest
from sources.ports.helpdesk import TicketOrder, TicketQuery, TicketStatus
from sources.ports.mirror import Between, MirrorQuery, OneOf, Phrase
from sources.vendors.freshdesk.rows import CREATED, NAME, PRIORITIES, PRIORITY, UPDATED, instant

_PLACES = {
    TicketOrder.CREATED_AT: (CREATED, re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)),
    TicketOrder.UPDATED_AT: (UPDATED, re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)),
    TicketOrder.PRIORITY: (PRIORITY, re.compile(r"[0-4] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)),
}
_NUMBERS = (Scalar.INT, Scalar.FLOAT, Scalar.DECIMAL)
_DATES = (Scalar.DATE, Scalar.DATETIME)


def question(query: TicketQuery, words: dict[int, TicketStatus]) -> MirrorQuery | None:
    """None where no ticket can fit. Raises InvalidRequest."""
    place, form = _PLACES[query.order]
    for key in (query.window.after, query.window.before):
        _require(key, form)
    marks: list[tuple[str, ...]] = []
    if query.statuses:
        marks.append(status_marks(query.statuses, words))
    if query.priorities:
        marks.append(tuple(f"priority:{PRIORITIES[each]}" for each in query.priorities if each in PRIORITIES))
    conditions: list[Phrase | OneOf | Between] = []
    if query.text is not None and (found := query.text.split()):
        if "\0" in query.text or not any(character.isalnum() for character in query.text):
            raise InvalidRequest(NAME, "the text to search for has no letters or digits")
        conditions.append(Phrase(("subject",), tuple(found)))
    for condition in query.conditions:
        if condition.equals == ():
            return None
        conditions.append(_own_field(condition))
    if not all(marks):
        return None
    since = ((UPDATED, query.updated_since), (CREATED, query.created_since))
    return MirrorQuery(
        window=query.window,
        place=place,
        direction=query.direction,
        marks=tuple(marks),
        since=tuple((number, _from(value)) for number, value in since if value is not None),
        conditions=tuple(conditions),
    )


def status_marks(statuses: tuple[TicketStatus, ...], words: dict[int, TicketStatus]) -> tuple[str, ...]:
    """The numbers that mean one of these."""
    return tuple(f"status:{number}" for number, word in words.items() if word in statuses)


def _require(key: Key | None, form: re.Pattern[str]) -> None:
    if key is not None and not (form.fullmatch(key.value) and key.id.isascii() and key.id.isdigit()):
        raise InvalidRequest(NAME, "the cursor does not belong to this list")


def _from(value: datetime) -> str:
    return instant(value + timedelta(seconds=1) if value.microsecond else value)


def _own_field(condition: Condition) -> OneOf | Between:
    field = condition.field
    path = ("custom_fields", field.property)
    if condition.equals is not None:
        values = tuple(_value(condition, value) for value in condition.equals)
        return OneOf(path, values, numeric=field.scalar in _NUMBERS)
    if field.scalar not in (*_NUMBERS, *_DATES):
        raise InvalidRequest(NAME, f"{field.name} cannot be filtered by a range: only numbers and dates can")
    low, high = _value(condition, condition.minimum), _value(condition, condition.maximum)
    return Between(path, low, high, numeric=field.scalar in _NUMBERS)


def _value(condition: Condition, value: Any) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return format(Decimal(str(value)), "f")
        case datetime():
            return _from(value)
        case date():
            return value.isoformat()
    if condition.field.scalar is Scalar.ENUM:
        value = {shown: raw for raw, shown in condition.field.values}.get(value, value)
    return str(value)
