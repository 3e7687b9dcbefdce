"""What one page may be while a source fails, and what it may not."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tests.chaos.faults import Fault
from tests.chaos.load import Asked
from tests.chaos.portal import DEADLINE, FIELDS

GRACE = 0.1
"""Seconds beyond its deadline in which a page must be there, besides what a page takes here when all is well."""

Place = tuple[str | int, ...]
"""Of a field in an answer."""


class Trouble(msgspec.Struct, frozen=True):
    """Who failed, how and when. Times are the loop's."""

    vendor: str
    fault: Fault
    began: float
    ended: float


def fit(one: Asked, right: Any, trouble: Trouble) -> list[str]:
    """What is wrong with a page that is read anew, in words; empty where it is that customer's own, whole but for the
    fields of the source that failed, each with its error."""
    if one.answer is None or one.answer.status != 200:
        return [f"no page: {one.failure or one.answer}"]
    complaints = []
    vendor, fault = trouble.vendor, trouble.fault
    own = {place for field in FIELDS[vendor] for place in places(right, field)}
    failed: set[Place] = set()
    for error in one.answer.errors:
        source, code = error["extensions"].get("source"), error["extensions"]["code"]
        place = tuple(error["path"])
        failed.add(place)
        if (
            _waited_for_all(one, vendor)
            and code == "SOURCE_TIMEOUT"
            and place[0] == "account"
            and len(place) > 1
        ):
            continue
        if place not in own or source != vendor:
            complaints.append(f"{source}'s {code} at {place}")
        elif code not in fault.may_say:
            complaints.append(f"{code} where {fault.codes()} is meant")
    if one.answer.data != without(right, failed):
        complaints.append("something else than this customer's page without the fields that failed")
    untold = [place for place in own if not any(place[: len(above)] == above for above in failed)]
    if untold and trouble.began <= one.began and one.ended <= trouble.ended:
        complaints.append(f"no error at {untold} during the fault")
    if failed and one.ended < trouble.began:
        complaints.append("errors before the fault")
    return complaints


def fit_from_memory(one: Asked, right: Any, trouble: Trouble) -> list[str]:
    """The same for a page for which what was read before stands in: whole at all times, and honest about it."""
    if one.answer is None or one.answer.status != 200:
        return [f"no page: {one.failure or one.answer}"]
    complaints = [f"{error['extensions']['code']} though it was read before" for error in one.answer.errors]
    if one.answer.data != right:
        complaints.append("something else than this customer's page")
    told = stale(one)
    if not _waited_for_all(one, trouble.vendor):
        complaints += [f"STALE of {source}" for source in told - {trouble.vendor}]
    if trouble.began <= one.began and one.ended <= trouble.ended and trouble.vendor not in told:
        complaints.append("nothing said to be STALE during the fault")
    if told and one.ended < trouble.began:
        complaints.append("something STALE before the fault")
    return complaints


def stale(one: Asked) -> set[str]:
    """The sources of which a page says that it shows what was read before, as they failed."""
    entries = one.answer.body.get("extensions", {}).get("freshness", []) if one.answer is not None else []
    return {entry["source"] for entry in entries if entry["verdict"] == "STALE"}


def places(page: Any, field: str) -> list[Place]:
    """Where a field is in a page; ``*`` stands for each place in a list."""
    found: list[tuple[Place, Any]] = [((), page)]
    for step in field.split("."):
        found = [
            ((*path, key), value[key])
            for path, value in found
            if value is not None
            for key in (range(len(value)) if step == "*" else [step])
        ]
    return [path for path, _ in found]


def without(page: Any, gone: "set[Place] | Sequence[Place]") -> Any:
    """A copy with null in these places."""
    if () in gone:
        return None
    if isinstance(page, Mapping):
        return {
            key: without(value, [path[1:] for path in gone if path[0] == key]) for key, value in page.items()
        }
    if isinstance(page, list):
        return [
            without(value, [path[1:] for path in gone if path[0] == key]) for key, value in enumerate(page)
        ]
    return page


def shown(page: Any, vendor: str) -> list[Any]:
    """What a page has of a source."""
    found = []
    for field in FIELDS[vendor]:
        for place in places(page, field):
            value = page
            for step in place:
                value = value[step]
            found.append(value)
    return found


def _waited_for_all(one: Asked, vendor: str) -> bool:
    """All that hangs on an account is asked for when the CRM has given it: where that took a page's time, there was none
    left for the others."""
    return vendor == "hubspot" and one.seconds >= DEADLINE
