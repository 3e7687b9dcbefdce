"""Matching all accounts at once, for the operator and the demo."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sources.layers.scope import Backoffice
from sources.ports.common import PAGE_CAP, Ref, Window
from sources.ports.crm import AccountQuery
from sources.ports.errors import AmbiguousMatch, SourceError, SourceRateLimited
from sources.ports.links import Link, LinkState

T = TypeVar("T")

TRIES = 10
LONGEST_WAIT_SECONDS = 70
"""A limit per minute is waited for: a call counts for up to 64 s of it."""


async def match_all(office: Backoffice) -> Mapping[str, Mapping[str, int]]:
    """Applies the rules to every account without a decision yet; by system, how many are linked, ambiguous or
    unmatched. Waits where a vendor says that it is asked too often; raises SourceError when one does not answer."""
    ports = [port for port in (office.erp, office.helpdesk, office.documents) if port]
    tally: dict[str, Counter[str]] = {port.name: Counter() for port in ports}
    window: Window | None = Window(first=PAGE_CAP)
    while window:
        page = await _patiently(partial(office.crm.find_accounts, AccountQuery(window)))
        accounts = [row.ref for row in page.rows]
        for port in ports:
            outcomes = await _patiently(partial(office.matcher.counterparts, accounts, port))
            tally[port.name].update(map(_word, outcomes))
        window = Window(first=PAGE_CAP, after=page.keys[-1]) if page.has_next and page.keys else None
    return tally


async def described_links(
    office: Backoffice, states: Sequence[LinkState], source: str | None
) -> AsyncIterator[tuple[Link, Mapping[Ref, str]]]:
    """The links in these states, each with the names that its records have in their systems, "" where they have none.
    Raises SourceError when a system does not answer."""
    ports = {port.name: port for port in (office.erp, office.helpdesk, office.documents) if port}
    after = None
    while page := await office.links.listed(states, source, after):
        accounts = list(dict.fromkeys(link.account for link in page))
        found = await _patiently(partial(office.crm.accounts, accounts))
        names = {
            ref: (record.name or "") if record else "" for ref, record in zip(accounts, found, strict=True)
        }
        for name, port in ports.items():
            refs = [
                ref
                for link in page
                for ref in (*link.candidates, *filter(None, [link.counterpart]))
                if ref.source == name
            ]
            for ref, customer in zip(refs, await _patiently(partial(port.customers, refs)), strict=True):
                names[ref] = (customer.name or "") if customer else ""
        for link in page:
            yield link, defaultdict(str, names)
        after = page[-1]


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    for _ in range(TRIES):
        try:
            return await call()
        except SourceRateLimited as limited:
            if limited.retry_after is not None and limited.retry_after > LONGEST_WAIT_SECONDS:
                raise
            await asyncio.sleep(limited.retry_after or 1)
    return await call()


def _word(outcome: object) -> str:
    if isinstance(outcome, AmbiguousMatch):
        return "ambiguous"
    return "unmatched" if isinstance(outcome, SourceError) else "linked"
