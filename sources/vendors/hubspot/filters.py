"""Queries in HubSpot's filter language, and the same questions answered here for accounts that are already read."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sources.ports.common import Condition, CustomField, Scalar
from sources.ports.crm import AccountQuery, AccountRecord
from sources.ports.errors import InvalidRequest
from sources.vendors.hubspot.api import SOURCE

FILTERS_CAP = 6
"""Filters in one group; one is left for the place in the list."""

TEXT_CAP = 3_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_ORDERED = frozenset({Scalar.INT, Scalar.FLOAT, Scalar.DECIMAL, Scalar.DATE, Scalar.DATETIME})


def milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down: what HubSpot filters and sorts times by."""
    return (moment - _EPOCH) // _MILLISECOND


class Filters:
    """One group, all of which must hold. Bounds on the same property become one filter."""

    def __init__(self) -> None:
        self._exact: list[dict[str, Any]] = []
        self._bounds: dict[str, tuple[Decimal | None, Decimal | None]] = {}

    def any_of(self, name: str, values: Sequence[str]) -> None:
        """At least one value; HubSpot matches them in full."""
        distinct = list(dict.fromkeys(values))
        if len(distinct) == 1:
            self._exact.append({"propertyName": name, "operator": "EQ", "value": distinct[0]})
        else:
            self._exact.append({"propertyName": name, "operator": "IN", "values": distinct})

    def between(self, name: str, low: Decimal | int | None, high: Decimal | int | None) -> None:
        """Inclusive; None is open."""
        lows = [Decimal(v) for v in (low, self._bounds.get(name, (None, None))[0]) if v is not None]
        highs = [Decimal(v) for v in (high, self._bounds.get(name, (None, None))[1]) if v is not None]
        if lows or highs:
            self._bounds[name] = (max(lows, default=None), min(highs, default=None))

    def as_json(self) -> list[dict[str, Any]]:
        built = list(self._exact)
        for name, (low, high) in self._bounds.items():
            if low is not None and high is not None:
                built.append(
                    {
                        "propertyName": name,
                        "operator": "BETWEEN",
                        "value": f"{low:f}",
                        "highValue": f"{high:f}",
                    }
                )
            elif low is not None:
                built.append({"propertyName": name, "operator": "GTE", "value": f"{low:f}"})
            else:
                built.append({"propertyName": name, "operator": "LTE", "value": f"{high:f}"})
        if len(built) > FILTERS_CAP:
            raise InvalidRequest(SOURCE, f"at most {FILTERS_CAP} filters can be combined")
        return built


def account_filters(query: AccountQuery, country_property: str, updated_property: str) -> Filters:
    """Everything of the query but its text and its window."""
    filters = Filters()
    if query.country:
        # Lists of text values must be in lower case (HubSpot's guide to CRM search); matching ignores case anyway.
        filters.any_of(country_property, [query.country.lower()])
    if query.updated_since:
        filters.between(updated_property, milliseconds(query.updated_since), None)
    for condition in query.conditions:
        name, field = condition.field.property, condition.field
        if condition.equals is not None:
            filters.any_of(name, [_word(field, value) for value in condition.equals])
        filters.between(name, _number(field, condition.minimum), _number(field, condition.maximum))
    return filters


def checked(query: AccountQuery) -> None:
    """Raises InvalidRequest for what cannot be asked, whether HubSpot or we would filter."""
    if query.text and len(query.text) > TEXT_CAP:
        raise InvalidRequest(SOURCE, f"search text is limited to {TEXT_CAP} characters")
    for condition in query.conditions:
        name = condition.field.name
        bounded = condition.minimum is not None or condition.maximum is not None
        if bounded and condition.field.scalar not in _ORDERED:
            raise InvalidRequest(SOURCE, f"{name} can be compared for equality only")
        if condition.equals is not None and None in condition.equals:
            raise InvalidRequest(SOURCE, f"{name} cannot be filtered by having no value")


def matches(record: AccountRecord, query: AccountQuery) -> bool:
    """As HubSpot would filter: words of the text begin words of name, domain, website or phone; case is ignored."""
    if query.country and (
        record.address is None or (record.address.country or "").lower() != query.country.lower()
    ):
        return False
    if query.updated_since and (record.updated_at is None or record.updated_at < query.updated_since):
        return False
    if query.text:
        there = _words(" ".join(filter(None, (record.name, record.domain, record.website, record.phone))))
        if not all(any(word.startswith(part) for word in there) for part in _words(query.text)):
            return False
    return all(_holds(record.custom.get(one.field.property), one) for one in query.conditions)


def _holds(value: Any, condition: Condition) -> bool:
    if condition.equals is None and condition.minimum is None and condition.maximum is None:
        return True
    if value is None:
        return False
    if condition.equals is not None:
        # Conditions speak the vendor's words of an enum, records the graph's.
        graph = dict(condition.field.values) if condition.field.scalar is Scalar.ENUM else {}
        if _plain(value) not in [_plain(graph.get(one, one)) for one in condition.equals]:
            return False
    if condition.minimum is not None and value < condition.minimum:
        return False
    return condition.maximum is None or bool(value <= condition.maximum)


def _plain(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _word(field: CustomField, value: Any) -> str:
    """An accepted value as HubSpot holds it."""
    if field.scalar is Scalar.BOOLEAN:
        return "true" if value else "false"
    if field.scalar is Scalar.ENUM:
        return str(value)
    if field.scalar is Scalar.STRING:
        return str(value).lower()
    return f"{_number(field, value):f}"


def _number(field: CustomField, value: Any) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return Decimal(milliseconds(value))
    if isinstance(value, date):
        # HubSpot keeps a day as its midnight in UTC.
        return Decimal(milliseconds(datetime.combine(value, time(), UTC)))
    return Decimal(str(value))
