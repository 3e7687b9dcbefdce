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
    organisations: Mapping[str, OrganisationRecord]
    """Those that they may act for, by id."""
    sources: Reach
    books: BookReach
    state: int | None
    """The organisations', from before they were read."""


class Views:
    """Works a view out once for a Principal, who mostly comes again as the same object. What has changed in the ledger shows
    at once: it is asked whether anything has, or else for the organisations again."""

    def __init__(self, organisations: OrganisationStore, *, keeps_members: bool) -> None:
        self._organisations = organisations
        self._keeps_members = keeps_members
        self._known: dict[int, View] = {}

    def known(self, principal: Principal) -> View | None:
        """What ``of`` would give; None where the organisations have to be read for it."""
        known = self._known.get(id(principal))
        if known is None or known.principal is not principal or known.state is None:
            return None
        return known if known.state == self._organisations.state() else None

    async def of(self, principal: Principal) -> View:
        """This caller's. Raises SourceError where the ledger does not answer."""
        ids = list(dict.fromkeys([*principal.organisations, *filter(None, [principal.organisation])]))
        state = self._organisations.state()
        found = await self._organisations.organisations(ids) if ids else ()
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        view = self._known[id(principal)] = self._view(principal, found, state)
        return view

    def _view(
        self, principal: Principal, found: Sequence[OrganisationRecord | None], state: int | None
    ) -> View:
        there = {one.id: one for one in found if one}
        # Only staff to whom some organisations are assigned have several and act for none of them in particular.
        acting = principal.organisations if principal.organisation is None else (principal.organisation,)
        own = [account for one in there.values() if one.id in acting for account in one.accounts]
        return View(
            principal,
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
            state,
        )
