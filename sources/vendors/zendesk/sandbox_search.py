"""The emulator's search: the query text is parsed and evaluated over every ticket of the world."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from sources.sandbox.world import Ticket, World

STATUSES = ("new", "open", "pending", "hold", "solved", "closed")
PRIORITIES = ("low", "normal", "high", "urgent")
SORTS = ("created_at", "updated_at", "priority", "status", "ticket_type")

_TERM = re.compile(
    r"""(?P<minus>-)?(?:(?P<keyword>[a-z_]+(?:_[0-9]+)?)(?P<sign>:|<=|>=|<|>))?"""
    r"""(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))""",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\w+")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


class InvalidSearch(Exception):
    """The vendor refuses the query."""


@dataclass(frozen=True, slots=True)
class Term:
    keyword: str | None
    sign: str
    value: str
    quoted: bool
    negated: bool


@dataclass(frozen=True)
class Indexed:
    """A ticket as the search index has it."""

    ticket: Ticket

    @cached_property
    def subject(self) -> list[str]:
        return _words(self.ticket.subject)

    @cached_property
    def said(self) -> list[list[str]]:
        """Every comment, internal ones too: a search by an agent finds them."""
        return [_words(comment.body) for comment in self.ticket.comments]


Predicate = Callable[[Indexed], bool]


class Index:
    """All tickets, by organisation."""

    def __init__(self, world: World) -> None:
        self._by_organisation = {
            organisation: [Indexed(ticket) for ticket in tickets]
            for organisation, tickets in world.tickets_by_zendesk_org.items()
        }
        self._names: dict[str, list[int]] = {}
        for account in world.accounts:
            if account.zendesk_org_id is not None:
                self._names.setdefault(account.helpdesk_name.strip().lower(), []).append(
                    account.zendesk_org_id
                )

    def find(self, query: str, sort_by: str | None, descending: bool, typed: bool) -> list[Ticket]:
        """All hits in order. ``typed`` says that the type comes from elsewhere and must not be in the query."""
        terms = parse(query)
        if typed and any(term.keyword == "type" for term in terms):
            raise InvalidSearch("Search type must be specified with the filter[type] parameter")
        types = {term.value.lower() for term in terms if term.keyword == "type"}
        if not typed and types != {"ticket"}:
            raise InvalidSearch("This sandbox searches tickets only: add type:ticket")
        named = [
            term
            for term in terms
            if term.keyword in ("organization", "organization_id") and term.sign == ":" and not term.negated
        ]
        if named:
            chosen = {organisation for term in named for organisation in self._organisations(term)}
            candidates = (found for one in chosen for found in self._by_organisation.get(one, ()))
        else:
            candidates = (found for tickets in self._by_organisation.values() for found in tickets)
        predicates = list(self._predicates([term for term in terms if term not in named]))
        hits = [found.ticket for found in candidates if all(fits(found) for fits in predicates)]
        hits.sort(key=lambda ticket: ticket.id)
        key = _sort_key(sort_by)
        hits.sort(key=key, reverse=descending)
        return hits

    def _organisations(self, term: Term) -> list[int]:
        return (
            [int(term.value)] if term.value.isdecimal() else self._names.get(term.value.strip().lower(), [])
        )

    def _predicates(self, terms: Sequence[Term]) -> Iterable[Predicate]:
        """One that fits any of the repeated keywords, one per comparison, and one per free word."""
        repeated: dict[tuple[str, bool], list[Predicate]] = {}
        for term in terms:
            if term.keyword == "type":
                continue
            predicate = self._predicate(term)
            if term.keyword is None or term.sign != ":" or term.negated:
                yield _not(predicate) if term.negated else predicate
            else:
                repeated.setdefault((term.keyword, True), []).append(predicate)
        for alternatives in repeated.values():
            yield _any(alternatives)

    def _predicate(self, term: Term) -> Predicate:
        keyword, value = term.keyword, term.value.lower()
        match keyword:
            case "status":
                return _ranked(term, STATUSES, lambda ticket: ticket.status)
            case "priority":
                return _ranked(term, PRIORITIES, lambda ticket: ticket.priority)
            case "created":
                return _moment(term, lambda ticket: ticket.created_at)
            case "updated":
                return _moment(term, lambda ticket: ticket.updated_at)
            case "organization" | "organization_id":
                organisations = self._organisations(term)
                return lambda found: found.ticket.zendesk_org_id in organisations
            case "ticket_type":
                return lambda found: (found.ticket.type or "none") == value
            case "tags":
                wanted = value.split()
                return lambda found: any(tag in found.ticket.tags for tag in wanted)
            case "subject":
                return _text(term, lambda found: [found.subject])
            case "description":
                return _text(term, lambda found: found.said)
            case None:
                return _text(term, lambda found: [found.subject, *found.said])
        if keyword.startswith("custom_field_"):
            return _custom(term, int(keyword.removeprefix("custom_field_")))
        return lambda found: False


def parse(query: str) -> list[Term]:
    terms: list[Term] = []
    for found in _TERM.finditer(query):
        phrase = found["phrase"]
        terms.append(
            Term(
                keyword=found["keyword"].lower() if found["keyword"] else None,
                sign=found["sign"] or ":",
                value=phrase if phrase is not None else found["word"],
                quoted=phrase is not None,
                negated=found["minus"] is not None,
            )
        )
    return terms


def _sort_key(sort_by: str | None) -> Callable[[Ticket], Any]:
    """Without a sort the vendor goes by relevance; here that is the newest first."""
    match sort_by:
        case None | "created_at":
            return lambda ticket: ticket.created_at
        case "updated_at":
            return lambda ticket: ticket.updated_at
        case "priority":
            return lambda ticket: PRIORITIES.index(ticket.priority) if ticket.priority else -1
        case "status":
            return lambda ticket: STATUSES.index(ticket.status)
        case "ticket_type":
            return lambda ticket: ticket.type or ""
    raise InvalidSearch("sort_by must be one of " + ", ".join(SORTS))


def _ranked(term: Term, words: tuple[str, ...], word_of: Callable[[Ticket], str | None]) -> Predicate:
    value = term.value.lower()
    if term.sign == ":":
        return lambda found: (word_of(found.ticket) or "none") == value
    if value not in words:
        raise InvalidSearch(f"{term.keyword} cannot be compared with that value")
    compare, rank = _COMPARE[term.sign], words.index(value)

    def fits(found: Indexed) -> bool:
        word = word_of(found.ticket)
        return word is not None and compare(words.index(word), rank)

    return fits


def _moment(term: Term, moment_of: Callable[[Ticket], datetime]) -> Predicate:
    try:
        value = datetime.fromisoformat(term.value)
    except ValueError as error:
        raise InvalidSearch(f"{term.keyword} is not a date") from error
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    if term.sign == ":":
        end = value + (timedelta(days=1) if len(term.value) == 10 else timedelta(seconds=1))
        return lambda found: value <= moment_of(found.ticket) < end
    compare = _COMPARE[term.sign]
    return lambda found: compare(moment_of(found.ticket), value)


def _custom(term: Term, field: int) -> Predicate:
    value = term.value.lower()
    if term.sign == ":":
        return lambda found: (found.ticket.custom_fields.get(field) or "none").lower() == value
    compare = _COMPARE[term.sign]

    def fits(found: Indexed) -> bool:
        held = found.ticket.custom_fields.get(field)
        if held is None:
            return False
        try:
            return compare(float(held), float(value))
        except ValueError:
            return compare(held, value)

    return fits


def _text(term: Term, texts_of: Callable[[Indexed], list[list[str]]]) -> Predicate:
    """A phrase stands in one text word by word; a bare word is the beginning of a word."""
    wanted = _words(term.value)
    if not wanted:
        return lambda found: False
    size = len(wanted)

    def stands_in(words: list[str]) -> bool:
        for start in range(len(words) - size + 1):
            if words[start : start + size - 1] == wanted[:-1]:
                last = words[start + size - 1]
                if last == wanted[-1] or (not term.quoted and last.startswith(wanted[-1])):
                    return True
        return False

    return lambda found: any(stands_in(words) for words in texts_of(found))


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _any(predicates: list[Predicate]) -> Predicate:
    return lambda found: any(fits(found) for fits in predicates)


def _not(predicate: Predicate) -> Predicate:
    return lambda found: not predicate(found)
