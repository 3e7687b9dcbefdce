"""Matching all accounts at once, for the operator and the demo."""

from collections import Counter
from collections.abc import Mapping

from sources.layers.scope import Backoffice
from sources.ports.common import PAGE_CAP, Window
from sources.ports.crm import AccountQuery
from sources.ports.errors import AmbiguousMatch, SourceError


async def match_all(office: Backoffice) -> Mapping[str, Mapping[str, int]]:
    """Applies the rules to every account without a decision yet; by system, how many are linked, ambiguous or
    unmatched. Raises SourceError when a system does not answer."""
    ports = [port for port in (office.erp, office.helpdesk, office.documents) if port]
    tally: dict[str, Counter[str]] = {port.name: Counter() for port in ports}
    window: Window | None = Window(first=PAGE_CAP)
    while window:
        page = await office.crm.find_accounts(AccountQuery(window))
        for port in ports:
            outcomes = await office.matcher.counterparts([row.ref for row in page.rows], port)
            tally[port.name].update(map(_word, outcomes))
        window = Window(first=PAGE_CAP, after=page.keys[-1]) if page.has_next and page.keys else None
    return tally


def _word(outcome: object) -> str:
    if isinstance(outcome, AmbiguousMatch):
        return "ambiguous"
    return "unmatched" if isinstance(outcome, SourceError) else "linked"
