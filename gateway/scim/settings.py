"""``[scim]`` of gateway.toml: what directories' words are worth here."""

from collections.abc import Iterator

import msgspec

from gateway.signin.claims import name_of
from gateway.signin.settings import TENANT, Several, SignInSettings, is_address, several
from permissions.roles import Roles


class ScimSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[scim]``."""

    group_roles: dict[str, Several] = {}
    """The role, or roles, that a directory's group of this name gives. A group that is called like a customers' role gives
    that one unasked; an empty list here says that it gives none."""
    default_roles: tuple[str, ...] = ()
    """What everybody holds whom a directory provisions, whatever their groups."""
    issuers: dict[str, str] = {}
    """By organisation: who signs its directory's people in, where ``[signin]`` leaves that open."""

    def issuer_of(self, organisation: str, signin: SignInSettings) -> str | None:
        """Whose sign-ins are meant by what the organisation's directory says of people; None: nobody can tell. A directory
        must never set memberships aside for people of somebody else's issuer."""
        if organisation in self.issuers:
            return self.issuers[organisation]
        customers = [issuer for issuer in signin.issuers if "customers" in issuer.believed_for]
        own = {
            name_of(issuer, tenant)
            for issuer in customers
            for tenant, organisations in issuer.tenant_organisations.items()
            if organisation in several(organisations)
        }
        own |= {issuer.issuer for issuer in customers if organisation in issuer.organisations}
        if not own and len(customers) == 1:
            own = {issuer.issuer for issuer in customers if not issuer.tenant_organisations}
        named = [name for name in own if TENANT not in name]
        return named[0] if len(named) == 1 and len(own) == 1 else None


def faults(settings: ScimSettings, roles: Roles) -> Iterator[str]:
    """What cannot be used, each with its setting and what to write."""
    given = {"default_roles": settings.default_roles} | {
        f"group_roles.{group}": several(named) for group, named in settings.group_roles.items()
    }
    for place, names in given.items():
        for name in names:
            if name not in roles.of_customers:
                yield f"scim.{place}: {name!r} is no role of customers; there are {', '.join(roles.of_customers)}"
    for organisation, issuer in settings.issuers.items():
        if not is_address(issuer) or TENANT in issuer:
            yield f"scim.issuers.{organisation}: the issuer exactly as tokens name it, with the tenant in it"
