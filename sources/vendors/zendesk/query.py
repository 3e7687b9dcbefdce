"""Zendesk's search language: ticket filters as terms, with nothing in a value that could act as one."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from sources.ports.common import Condition, Direction, Scalar
from sources.ports.errors import InvalidRequest
from sources.ports.helpdesk import TicketQuery
from sources.transport.fanin import Span
from sources.vendors.zendesk.rows import NAME, PRIORITY_WORDS, STATUS_WORDS

_ACTS_IN_A_PHRASE = re.compile(r"[\"\\*\u201c-\u201f\uff02\x00-\x1f\x7f]")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_RANGES = (Scalar.INT, Scalar.FLOAT, Scalar.DECIMAL, Scalar.DATE, Scalar.DATETIME)


def filters(query: TicketQuery) -> list[str] | None:
    """What to add to a search for tickets, priorities left out; None where no ticket can fit.

    Zendesk takes repeated keywords as "any of", different ones as "all of".
    """
    terms: list[str] = []
    if query.statuses:
        words = [STATUS_WORDS[status] for status in query.statuses if status in STATUS_WORDS]
        if not words:
            return None
        terms += [f"status:{word}" for word in words]
    if query.updated_since is not None:
        terms.append(f"updated>={_from(query.updated_since)}")
    if query.created_since is not None:
        terms.append(f"created>={_from(query.created_since)}")
    if query.text is not None and query.text.strip():
        # The subject only: a search without a keyword also looks into internal notes, and its hits would tell.
        terms.append(f"subject:{quoted(query.text)}")
    for condition in query.conditions:
        if condition.equals == ():
            return None
        terms += _custom(condition)
    return terms


def ranks(query: TicketQuery) -> list[int] | None:
    """The priorities asked for as ranks, 0 for none set and 4 for urgent; None where no ticket can fit."""
    if not query.priorities:
        return [0, 1, 2, 3, 4]
    asked = [rank for rank, priority in enumerate(PRIORITY_WORDS, start=1) if priority in query.priorities]
    return asked or None


def priorities(wanted: Iterable[int]) -> list[str]:
    """Terms for these ranks; none for all of them."""
    chosen = sorted(set(wanted))
    words = ("none", *PRIORITY_WORDS.values())
    return [] if len(chosen) == len(words) else [f"priority:{words[rank]}" for rank in chosen]


def organisations(ids: Sequence[str]) -> list[str]:
    return [f"organization:{id_}" for id_ in ids]


def between(keyword: str, span: Span) -> list[str]:
    """Bounds on ``created`` or ``updated``, both inclusive. The span's values come from cursors, so they are checked."""
    first, last = ("<=", ">=") if span.direction is Direction.DESC else (">=", "<=")
    bounds = ((first, span.start), (last, span.end))
    return [f"{keyword}{sign}{moment(value)}" for sign, value in bounds if value is not None]


def moment(value: str) -> str:
    """The value itself when it has the form of a point in time. Raises InvalidRequest."""
    if not _MOMENT.fullmatch(value):
        raise InvalidRequest(NAME, "the cursor does not belong to this list")
    return value


def ranked(value: str | None) -> tuple[int, str] | None:
    """A priority's rank and a point in time, as orders by priority use them. Raises InvalidRequest."""
    if value is None:
        return None
    rank, _, rest = value.partition(" ")
    if rank not in ("0", "1", "2", "3", "4"):
        raise InvalidRequest(NAME, "the cursor does not belong to this list")
    return int(rank), moment(rest)


def instant(value: datetime) -> str:
    """Zendesk's own form, which has whole seconds."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    # msgspec writes ISO 8601 in a sixth of the time that isoformat takes.
    text: str = msgspec.to_builtins(value)
    return text[:19] + "Z"


def instants(values: Sequence[datetime]) -> list[str]:
    """The same of each, all at once where they are in UTC and of whole seconds, as Zendesk's are."""
    texts: list[str] = msgspec.to_builtins(values)
    return texts if set(map(len, texts)) <= {_INSTANT} else list(map(instant, values))


_INSTANT = len("2026-01-02T03:04:05Z")


def quoted(text: str) -> str:
    """The words as one phrase in which nothing acts as an operator. Raises InvalidRequest when none are left."""
    words = _ACTS_IN_A_PHRASE.sub(" ", text).split()
    if not any(character.isalnum() for word in words for character in word):
        raise InvalidRequest(NAME, "the text to search for has no letters or digits")
    return f'"{" ".join(words)}"'


def _from(value: datetime) -> str:
    return instant(value + timedelta(seconds=1) if value.microsecond else value)


def _custom(condition: Condition) -> list[str]:
    field = condition.field
    keyword = f"custom_field_{field.property}"
    if condition.equals is not None:
        return [f"{keyword}:{_value(condition, value)}" for value in condition.equals]
    if field.scalar not in _RANGES:
        raise InvalidRequest(NAME, f"{field.name} cannot be filtered by a range: only numbers and dates can")
    bounds = ((">=", condition.minimum), ("<=", condition.maximum))
    return [f"{keyword}{sign}{_value(condition, value)}" for sign, value in bounds if value is not None]


def _value(condition: Condition, value: Any) -> str:
    match value:
        case None:
            return "none"
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
    return quoted(str(value))
