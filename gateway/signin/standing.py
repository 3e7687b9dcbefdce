"""A Proof becomes a Principal: which roles count, and for which organisation the request acts.

Staff are those who hold a role of staff by the word of an issuer that is believed for staff; such roles alone count then.
One whose roles hold ``accounts:all`` acts for every organisation or for the one that is named, any other for those that the
claims assign. Everybody else is a customer's: with the roles and organisations of the claims, or with the memberships in the
ledger, as ``signin.membership`` says.
"""

from collections.abc import Awaitable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import msgspec

from gateway.signin.issuers import Issuers
from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from gateway.signin.settings import Caller, SignInSettings
from permissions.principal import Principal
from permissions.roles import HeldBy, Roles
from sources.ports.errors import SourceError
from sources.ports.members import Membership, MemberStore, OrganisationStore, Person

REMEMBERED_ORGANISATIONS = 32
"""Of one Proof: a member of staff may name one after the other."""

EVERYBODY = "accounts:all"

T = TypeVar("T")


class _Standing(msgspec.Struct):
    """What follows from a Proof, whatever is asked."""

    caller: Caller
    roles: tuple[str, ...]
    """Empty where memberships give them."""
    scopes: frozenset[str]
    member: Person | None = None
    """Whose memberships count; None: the Proof says it all."""
    principals: dict[str | None, tuple[tuple[Membership, ...], Principal]] = {}
    """By the organisation that was named: for which memberships, and the result."""


class Standing:
    """What the proved caller may be here. ``members`` are only asked where ``signin.membership`` is ``ledger``."""

    def __init__(
        self,
        settings: SignInSettings,
        issuers: Issuers,
        roles: Roles,
        organisations: OrganisationStore,
        members: MemberStore,
    ) -> None:
        self._by_ledger = settings.membership == "ledger"
        self._issuers, self._roles = issuers, roles
        self._organisations, self._members = organisations, members
        self._known: WeakKeyDictionary[Proof, _Standing] = WeakKeyDictionary()

    def known(self, proof: Proof, wanted: str | None) -> Principal | None:
        """What ``principal`` would give; None where somebody would have to be asked for it."""
        standing = self._known.get(proof)
        if standing is None or standing.member is not None:
            return None
        known = standing.principals.get(wanted)
        return None if known is None else known[1]

    async def principal(self, proof: Proof, wanted: str | None) -> Principal:
        """Acting for ``wanted``, or for what the person has chosen, or for the only organisation that there is; the same
        object again while nothing has changed. Raises SignInRefused."""
        standing = self._known.get(proof)
        if standing is None:
            standing = self._known[proof] = self._standing(proof)
        memberships: tuple[Membership, ...] = ()
        if standing.member is not None:
            memberships = await _asked(self._members.memberships(standing.member))
        known = standing.principals.get(wanted)
        if known is None or known[0] != memberships:
            made = await self._principal(proof, standing, memberships, wanted)
            if len(standing.principals) >= REMEMBERED_ORGANISATIONS:
                standing.principals.clear()
            known = standing.principals[wanted] = memberships, made
        return known[1]

    async def organisations(self, proof: Proof) -> tuple[str, ...]:
        """That the proved caller may act for by name; staff for all others, too. Raises SignInRefused."""
        standing = self._standing(proof)
        if standing.member is None:
            return proof.organisations
        return tuple(one.organisation for one in await _asked(self._members.memberships(standing.member)))

    def _standing(self, proof: Proof) -> _Standing:
        if proof.scopes is not None:
            return _Standing("services", (), proof.scopes)
        issuer = self._issuers.of(proof.issuer)
        if issuer is None:
            raise SignInRefused(
                "you were signed in by an issuer that is not believed any more; sign in again"
            )
        believed = issuer.settings.believed_for
        if proof.cut_off and ("staff" in believed or not self._by_ledger):
            raise SignInRefused(
                "your sign-in does not carry all your groups, as they are too many, so nobody can tell what you may"
                " do: ask your administrator to send this application roles, or only the groups that are assigned"
                " to it",
                status=403,
                code="FORBIDDEN",
            )
        staff = self._held(proof.roles, "staff") if "staff" in believed else ()
        if staff:
            return _Standing("staff", staff, self._roles.scopes_of(staff))
        if "customers" not in believed:
            raise SignInRefused("you have no role here; ask your administrator", status=403, code="FORBIDDEN")
        caller: Caller = "services" if proof.kind == "service" else "customers"
        if self._by_ledger:
            return _Standing(caller, (), frozenset(), person_of(proof))
        roles = self._held(proof.roles, "customers")
        return _Standing(caller, roles, self._roles.scopes_of(roles))

    def _held(self, roles: Sequence[str], by: HeldBy) -> tuple[str, ...]:
        return tuple(role for role in roles if role in self._roles and self._roles[role].held_by == by)

    async def _principal(
        self, proof: Proof, standing: _Standing, memberships: Sequence[Membership], wanted: str | None
    ) -> Principal:
        organisations = proof.organisations
        if EVERYBODY in standing.scopes:
            wanted = wanted or proof.organisation
            if wanted and (await _asked(self._organisations.organisations([wanted])))[0] is None:
                raise SignInRefused("X-Organisation names no organisation", status=400, code="BAD_USER_INPUT")
            return _made(proof, standing.roles, standing.scopes, wanted, organisations)
        if standing.member is not None:
            organisations = tuple(one.organisation for one in memberships)
        if not wanted and proof.organisation in organisations:
            wanted = proof.organisation
        if wanted and wanted not in organisations:
            raise SignInRefused("X-Organisation is not one of yours", status=403, code="FORBIDDEN")
        if standing.caller == "staff":
            if not organisations:
                raise SignInRefused(
                    "no organisation is assigned to you; ask your administrator", status=403, code="FORBIDDEN"
                )
            return _made(proof, standing.roles, standing.scopes, wanted, organisations)
        if not wanted and len(organisations) > 1:
            raise SignInRefused(
                "you may act for several organisations; name one in the X-Organisation header",
                status=400,
                code="BAD_USER_INPUT",
            )
        acting = wanted or (organisations[0] if organisations else None)
        membership = next((one for one in memberships if one.organisation == acting), None)
        roles, scopes = standing.roles, standing.scopes
        if membership is not None:
            roles = self._held(membership.roles, "customers")
            scopes = self._roles.scopes_of(roles)
        return _made(proof, roles, scopes, acting, organisations, membership)


def person_of(proof: Proof) -> Person:
    """As the ledger's book of members knows them."""
    return Person(
        issuer=proof.issuer,
        subject=proof.subject,
        name=proof.name,
        email=proof.email,
        email_verified=proof.email_verified,
        external_ids=proof.external_ids,
    )


def _made(
    proof: Proof,
    roles: tuple[str, ...],
    scopes: frozenset[str],
    organisation: str | None,
    organisations: tuple[str, ...],
    membership: Membership | None = None,
) -> Principal:
    ends = [proof.expires_at]
    if membership is not None and membership.ends_at is not None:
        ends.append(membership.ends_at.timestamp())
    return Principal(
        subject=proof.subject,
        name=proof.name,
        email=proof.email,
        email_verified=proof.email_verified,
        roles=roles,
        scopes=scopes,
        organisation=organisation,
        organisations=organisations,
        issuer=proof.issuer,
        kind=proof.kind,
        via=proof.via,
        credential=proof.credential,
        expires_at=min((end for end in ends if end is not None), default=None),
        member=membership.member if membership is not None else None,
        acr=proof.acr,
        amr=proof.amr,
        authenticated_at=proof.authenticated_at,
    )


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except SourceError as error:
        raise SignInRefused(
            "nobody can tell now what you may do; try again", status=503, code="SOURCE_UNAVAILABLE"
        ) from error
