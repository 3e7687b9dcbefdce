"""The CRM objects that the sandbox serves, and HubSpot's search over them, read from the request's own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any
from zlib import crc32

from sources.sandbox.world import Account, Contact, World

MOST_GROUPS, MOST_FILTERS, MOST_FILTERS_IN_ALL = 5, 6, 18
MOST_HITS = 10_000
LONGEST_QUERY = 3_000
LARGEST_PAGE = 200

Value = str | Decimal | None


class Refused(Exception):
    """HubSpot's 400: a validation error with its message."""


@dataclass(frozen=True, slots=True)
class Object:
    """One record with all of its properties."""

    id: str
    properties: dict[str, str | None]
    created_at: str
    updated_at: str
    archived: bool


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A kind of CRM object: what its properties hold and how it is spelled."""

    plural: str
    singular: str
    code: str
    properties: Mapping[str, str]
    """Name -> string, enumeration, number, date or datetime."""
    defaults: tuple[str, ...]
    """Given when the request names no properties."""
    always: tuple[str, ...]
    """Given whatever the request names."""
    searched: tuple[str, ...]
    """Where a search's ``query`` looks."""
    unique: tuple[str, ...]
    """What ``idProperty`` may name."""


COMPANY = ObjectType(
    plural="companies",
    singular="company",
    code="0-2",
    properties={
        **dict.fromkeys(
            ("name", "domain", "website", "phone", "address", "address2", "city", "zip", "state", "country"),
            "string",
        ),
        **dict.fromkeys(("hs_merged_object_ids", "account_number", "xero_contact_id"), "string"),
        **dict.fromkeys(("industry", "customer_tier", "lifecyclestage"), "enumeration"),
        **dict.fromkeys(("createdate", "hs_createdate", "hs_lastmodifieddate"), "datetime"),
        "hs_object_id": "number",
        "renewal_date": "date",
    },
    defaults=("name", "domain"),
    always=("createdate", "hs_lastmodifieddate", "hs_object_id"),
    searched=("name", "domain", "website", "phone"),
    unique=("hs_object_id", "account_number"),
)
CONTACT = ObjectType(
    plural="contacts",
    singular="contact",
    code="0-1",
    properties={
        **dict.fromkeys(
            ("firstname", "lastname", "email", "phone", "mobilephone", "jobtitle", "company"), "string"
        ),
        "hs_merged_object_ids": "string",
        "lifecyclestage": "enumeration",
        **dict.fromkeys(("createdate", "lastmodifieddate"), "datetime"),
        **dict.fromkeys(("hs_object_id", "associatedcompanyid"), "number"),
    },
    defaults=("firstname", "lastname", "email"),
    always=("createdate", "lastmodifieddate", "hs_object_id"),
    searched=("firstname", "lastname", "email", "phone", "company"),
    unique=("hs_object_id", "email"),
)
TYPES = {word: kind for kind in (COMPANY, CONTACT) for word in (kind.plural, kind.singular, kind.code)}


class Objects:
    """The invented company's customers and their people as HubSpot keeps them; made when first asked for.

    ``also`` associates contacts with further companies: contact id -> company ids.
    """

    def __init__(self, world: World, also: Mapping[str, Sequence[str]]) -> None:
        self._world = world
        self._also = also

    @cached_property
    def companies(self) -> dict[str, Object]:
        return {account.hubspot_id: _company(account) for account in self._world.accounts}

    @cached_property
    def contacts(self) -> dict[str, Object]:
        accounts = self._world.accounts
        return {
            person.hubspot_id: _contact(person, accounts[person.account]) for person in self._world.contacts
        }

    def of(self, kind: ObjectType) -> dict[str, Object]:
        return self.companies if kind is COMPANY else self.contacts

    def find(self, kind: ObjectType, value: str, by: str = "hs_object_id") -> Object | None:
        """Archived ones too. A merged-away id finds the survivor."""
        if by == "hs_object_id":
            found = self.of(kind).get(value)
            if found is None and kind is COMPANY:
                survivor = self._world.accounts_by_merged_hubspot_id.get(value)
                found = self.companies[survivor.hubspot_id] if survivor else None
            return found
        return self._unique[kind.plural, by].get(value.lower())

    def associated(self, source: ObjectType, target: ObjectType, id_: str) -> list[str]:
        """Ids in rising order. Contacts in the recycle bin stay associated."""
        if source is target:
            return []
        return self._contacts_of.get(id_, []) if source is COMPANY else self._companies_of.get(id_, [])

    def primary(self, contact: str) -> str:
        """The company that a contact belongs to first of all."""
        return self._world.accounts[self._world.contacts_by_id[contact].account].hubspot_id

    @cached_property
    def _companies_of(self) -> dict[str, list[str]]:
        accounts = self._world.accounts
        return {
            person.hubspot_id: sorted(
                {accounts[person.account].hubspot_id, *self._also.get(person.hubspot_id, ())}, key=int
            )
            for person in self._world.contacts
        }

    @cached_property
    def _contacts_of(self) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for contact in sorted(self._companies_of, key=int):
            for company in self._companies_of[contact]:
                grouped.setdefault(company, []).append(contact)
        return grouped

    @cached_property
    def _unique(self) -> dict[tuple[str, str], dict[str, Object]]:
        return {
            (kind.plural, name): {
                value.lower(): one for one in self.of(kind).values() if (value := one.properties[name])
            }
            for kind in (COMPANY, CONTACT)
            for name in kind.unique
        }

    def search(self, kind: ObjectType, request: Mapping[str, Any]) -> tuple[list[Object], int]:
        """The hits of the page that ``after`` and ``limit`` name, and the number of all hits. Raises Refused."""
        limit, offset = _page(request)
        groups = _groups(kind, request.get("filterGroups") or [])
        query = str(request.get("query") or "")
        if len(query) > LONGEST_QUERY:
            raise Refused(f"The query is limited to {LONGEST_QUERY} characters.")
        words = _words(query)
        hits = [
            one
            for one in self.of(kind).values()
            if not one.archived
            and (not groups or any(all(test(self, one) for test in tests) for tests in groups))
            and _mentions(kind, one, words)
        ]
        _sort(kind, hits, request.get("sorts") or [])
        return hits[offset : offset + limit], len(hits)


def shown(
    kind: ObjectType, one: Object, names: Sequence[str], with_history: Sequence[str] = ()
) -> dict[str, Any]:
    """A SimplePublicObject. Unknown property names are left out, unset ones are null."""
    wanted = dict.fromkeys((*(names or kind.defaults), *kind.always))
    row: dict[str, Any] = {
        "id": one.id,
        "properties": {name: one.properties[name] for name in wanted if name in one.properties},
        "createdAt": one.created_at,
        "updatedAt": one.updated_at,
        "archived": one.archived,
    }
    if one.archived:
        row["archivedAt"] = one.updated_at
    if with_history:
        row["propertiesWithHistory"] = {
            name: [{"value": value, "timestamp": one.updated_at, "sourceType": "CRM_UI"}]
            for name in with_history
            if (value := one.properties.get(name))
        }
    return row


def _company(account: Account) -> Object:
    created, updated = _iso(account.created_at), _iso(account.updated_at)
    return Object(
        id=account.hubspot_id,
        properties={
            "hs_object_id": account.hubspot_id,
            "name": account.crm_name,
            "domain": account.domain,
            "website": f"https://www.{account.domain}",
            "phone": account.phone,
            "industry": account.industry,
            "address": account.street,
            "address2": None,
            "city": account.city,
            "zip": account.postcode,
            "state": None,
            "country": account.country,
            "lifecyclestage": "customer",
            "account_number": account.account_number,
            "customer_tier": account.tier,
            "renewal_date": account.renewal_date.isoformat() if account.renewal_date else None,
            "xero_contact_id": account.declared_xero_id,
            "createdate": created,
            "hs_createdate": created,
            "hs_lastmodifieddate": updated,
            "hs_merged_object_ids": ";".join(account.merged_hubspot_ids) or None,
        },
        created_at=created,
        updated_at=updated,
        archived=False,
    )


def _contact(person: Contact, account: Account) -> Object:
    created, updated = _iso(person.created_at), _iso(person.updated_at)
    return Object(
        id=person.hubspot_id,
        properties={
            "hs_object_id": person.hubspot_id,
            "firstname": person.first_name,
            "lastname": person.last_name,
            "email": person.email,
            "phone": person.phone,
            "mobilephone": person.mobile,
            "jobtitle": person.job_title,
            "company": account.crm_name,
            "associatedcompanyid": account.hubspot_id,
            "lifecyclestage": "customer",
            "createdate": created,
            "lastmodifieddate": updated,
            "hs_merged_object_ids": None,
        },
        created_at=created,
        updated_at=updated,
        archived=person.archived,
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- the search language --------------------------------------------------------------------------------------------

Test = Callable[[Objects, Object], bool]


def _page(request: Mapping[str, Any]) -> tuple[int, int]:
    limit, after = request.get("limit") or 10, str(request.get("after") or 0)
    if not isinstance(limit, int) or not 0 < limit <= LARGEST_PAGE:
        raise Refused(f"Limit exceeds the maximum of {LARGEST_PAGE}.")
    if not (after.isascii() and after.isdigit()):
        raise Refused("After must be formatted as an integer.")
    if int(after) + limit > MOST_HITS:
        raise Refused(f"Paging is limited to {MOST_HITS} results.")
    return limit, int(after)


def _groups(kind: ObjectType, groups: Any) -> list[list[Test]]:
    if len(groups) > MOST_GROUPS:
        raise Refused(f"At most {MOST_GROUPS} filterGroups are allowed.")
    if sum(len(group.get("filters", ())) for group in groups) > MOST_FILTERS_IN_ALL:
        raise Refused(f"At most {MOST_FILTERS_IN_ALL} filters are allowed in total.")
    built = []
    for group in groups:
        filters = group.get("filters") or []
        if not 0 < len(filters) <= MOST_FILTERS:
            raise Refused(f"A group needs 1 to {MOST_FILTERS} filters.")
        built.append([_test(kind, one) for one in filters])
    return built


def _test(kind: ObjectType, condition: Mapping[str, Any]) -> Test:
    name, operator = str(condition.get("propertyName")), condition.get("operator")
    values = condition.get("values") or []
    if name.startswith("associations."):
        return _associated_test(kind, name, operator, condition)
    held = kind.properties.get(name)
    if held is None:
        raise Refused(f"Property '{name}' does not exist.")

    def value_of(one: Object) -> Value:
        return _comparable(held, one.properties[name])

    if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
        return lambda _, one: (value_of(one) is not None) == (operator == "HAS_PROPERTY")
    if operator in ("IN", "NOT_IN"):
        if not values or len(values) > 100:
            raise Refused(f"Operator {operator} needs 1 to 100 values.")
        # Texts are compared in lower case, but the values of a list are taken as they are written.
        accepted = {str(one) if held == "string" else _comparable(held, one) for one in values}
        return lambda _, one: value_of(one) is not None and (value_of(one) in accepted) == (operator == "IN")
    if "value" not in condition:
        raise Refused(f"Operator {operator} needs a value.")
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        token = re.compile(".*".join(map(re.escape, str(condition["value"]).lower().split("*"))))
        return lambda _, one: (
            any(token.fullmatch(word) for word in _words(one.properties[name] or ""))
            == (operator == "CONTAINS_TOKEN")
        )
    low = _comparable(held, condition["value"])
    if low is None:
        raise Refused(f"Operator {operator} needs a value.")
    if operator == "BETWEEN":
        high = _comparable(held, condition.get("highValue"))
        if high is None:
            raise Refused("Operator BETWEEN needs a highValue.")
        return lambda _, one: (v := value_of(one)) is not None and low <= v <= high  # type: ignore[operator]
    compare = _COMPARISONS.get(str(operator))
    if compare is None:
        raise Refused(f"Unknown operator {operator}.")
    return lambda _, one: (v := value_of(one)) is not None and compare(v, low)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": lambda a, b: bool(a == b),
    "NEQ": lambda a, b: bool(a != b),
    "LT": lambda a, b: bool(a < b),
    "LTE": lambda a, b: bool(a <= b),
    "GT": lambda a, b: bool(a > b),
    "GTE": lambda a, b: bool(a >= b),
}


def _associated_test(kind: ObjectType, name: str, operator: Any, condition: Mapping[str, Any]) -> Test:
    target = TYPES.get(name.removeprefix("associations."))
    if target is None or operator not in ("EQ", "IN"):
        raise Refused(f"Unsupported association filter '{name}'.")
    wanted = {str(one) for one in condition.get("values") or [condition.get("value")]}
    return lambda objects, one: not wanted.isdisjoint(objects.associated(kind, target, one.id))


def _comparable(held: str, value: Any) -> Value:
    if value is None or value == "":
        return None
    if held in ("string", "enumeration"):
        return str(value).lower() if held == "string" else str(value)
    text = str(value)
    try:
        if held == "number" or text.lstrip("-").isdigit():
            return Decimal(text)
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return Decimal(round(moment.timestamp() * 1000))
    except (InvalidOperation, ValueError):
        raise Refused("There was a problem with the request.") from None


def _sort(kind: ObjectType, hits: list[Object], sorts: Any) -> None:
    """One property at most, unset values last. What ties comes in no order that a client could guess."""
    if len(sorts) > 1:
        raise Refused("Only one sort is allowed.")
    hits.sort(key=lambda one: crc32(one.id.encode()))
    wanted = sorts[0] if sorts else {"propertyName": kind.always[0]}
    if isinstance(wanted, str):
        wanted = {"propertyName": wanted}
    name = str(wanted.get("propertyName"))
    held = kind.properties.get(name)
    if held is None:
        raise Refused(f"Property '{name}' does not exist.")
    direction = wanted.get("direction", "ASCENDING")
    if direction not in ("ASCENDING", "DESCENDING"):
        raise Refused(f"Unknown direction {direction}.")
    there = [one for one in hits if _comparable(held, one.properties[name]) is not None]
    missing = [one for one in hits if _comparable(held, one.properties[name]) is None]
    there.sort(key=lambda one: _comparable(held, one.properties[name]), reverse=direction == "DESCENDING")  # type: ignore[arg-type, return-value]
    hits[:] = there + missing


def _mentions(kind: ObjectType, one: Object, words: Sequence[str]) -> bool:
    """Every word of the query begins a word of a searched property."""
    if not words:
        return True
    there = _words(" ".join(one.properties[name] or "" for name in kind.searched))
    return all(any(word.startswith(part) for word in there) for part in words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
