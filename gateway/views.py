"""How far each caller sees: what follows from who they are and from the organisations that they act for."""

from collections.abc import Mapping, Sequence

import msgspec

from permissions.principal import Principal
from sources.layers.books import BookReach
from sources.layers.scope import Reach
from sources.ports.members import OrganisationRecord, OrganisationStore

REMEMBERED = 1000
"""Callers; more are forgotten all at once."""


class View(msgspec.Struct, frozen=True, eq=False):
    """Of one caller, as long as their organisations stay as they are."""

    principal: Principal
    ids: Sequence[str]
    """Of the organisations that they may act for."""
    found: Sequence[OrganisationRecord | None]
    """These, as the ledger has them."""
    organisations: Mapping[str, OrganisationRecord]
    """By id, those that there are."""
    sources: Reach
    books: BookReach


class Views:
    """Works a view out once for a Principal, who mostly comes again as the same object. The ledger is asked each time: what
    has changed there shows at once."""

    def __init__(self, organisations: OrganisationStore, *, keeps_members: bool) -> None:
        self._organisations = organisations
        self._keeps_members = keeps_members
        self._known: dict[int, View] = {}

    async def of(self, principal: Principal) -> View:
        """This caller's. Raises SourceError where the ledger does not answer."""
        known = self._known.get(id(principal))
        if known is not None and known.principal is not principal:
            known = None
        ids = _ids(principal) if known is None else known.ids
        found = await self._organisations.organisations(ids) if ids else ()
        if known is not None and known.found == found:
            return known
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        view = self._known[id(principal)] = self._view(principal, ids, found)
        return view

    def _view(
        self, principal: Principal, ids: Sequence[str], found: Sequence[OrganisationRecord | None]
    ) -> View:
        there = {one.id: one for one in found if one}
        # Only staff to whom some organisations are assigned have several and act for none of them in particular.
        acting = principal.organisations if principal.organisation is None else (principal.organisation,)
        own = [account for one in there.values() if one.id in acting for account in one.accounts]
        return View(
            principal,
            ids,
            found,
            there,
            Reach(
                accounts=None if principal.sees_all else frozenset(own),
                unissued_invoices="invoices:drafts" in principal.scopes,
                internal_notes="tickets:internal" in principal.scopes,
            ),
            BookReach(
                principal.organisation,
                all_organisations=principal.sees_all,
                keeps_members=self._keeps_members,
            ),
        )


def _ids(principal: Principal) -> Sequence[str]:
    return list(dict.fromkeys([*principal.organisations, *filter(None, [principal.organisation])]))
