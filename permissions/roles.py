"""Roles are named bundles of scopes, in this one table; gateway.toml may rename, narrow and add some."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from permissions.scopes import SCOPES, SERVICE_SCOPES, STAFF_SCOPES

HeldBy = Literal["customers", "staff"]


@dataclass(frozen=True, slots=True)
class Role:
    """One bundle of scopes."""

    name: str
    """The word in claims, in the ledger and in the graph."""
    label: str
    """What people read."""
    scopes: frozenset[str]
    held_by: HeldBy = "customers"
    built_in: str | None = None
    """Its name in this table, whatever gateway.toml calls it; None for a role that gateway.toml added."""


@dataclass(frozen=True, slots=True)
class RoleChange:
    """``[roles.<name>]`` of gateway.toml; what is None stays as it is."""

    name: str | None = None
    label: str | None = None
    scopes: tuple[str, ...] | None = None
    """All that the role holds from now on."""
    without: tuple[str, ...] | None = None
    """What it no longer holds."""
    held_by: HeldBy | None = None
    """Of a new role only."""


class RoleError(Exception):
    """A change that cannot be made; the message begins with the setting below ``roles.``."""


_READS = frozenset(
    {"accounts:read", "articles:read", "contacts:read", "documents:read", "invoices:read", "tickets:read"}
)
_EVERYTHING = frozenset(SCOPES) - SERVICE_SCOPES

BUILT_IN = tuple(
    replace(role, built_in=role.name)
    for role in (
        Role("owner", "Owner", _EVERYTHING - STAFF_SCOPES),
        Role("finance", "Finance", _READS - {"tickets:read"}),
        Role("standard", "Standard", _READS - {"invoices:read"}),
        Role("read-only", "Read-only", _READS | {"members:read"}),
        Role("partner", "Partner", frozenset({"accounts:read", "articles:read", "contacts:read"})),
        Role(
            "support",
            "Support",
            _READS | STAFF_SCOPES - {"invoices:drafts"} | {"members:read"},
            held_by="staff",
        ),
        Role(
            "finance-staff",
            "Finance staff",
            _READS | {"accounts:all", "invoices:drafts", "links:read", "sources:read"},
            held_by="staff",
        ),
        Role("admin", "Admin", _EVERYTHING, held_by="staff"),
    )
)
"""Customers' roles hold within their own organisation, staff's over all customers. Service accounts have no role."""


class Roles:
    """The roles of one gateway. Iterates in the table's order."""

    def __init__(self, roles: Iterable[Role] = BUILT_IN) -> None:
        self._roles = {role.name: role for role in roles}

    def __iter__(self) -> Iterator[Role]:
        return iter(self._roles.values())

    def __contains__(self, name: object) -> bool:
        return name in self._roles

    def __getitem__(self, name: str) -> Role:
        return self._roles[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all roles."""
        return tuple(self._roles)

    @property
    def of_customers(self) -> tuple[str, ...]:
        """The names that a customer's member may be given."""
        return tuple(role.name for role in self if role.held_by == "customers")

    @property
    def of_staff(self) -> tuple[str, ...]:
        """The names that only the firm's own people may be given."""
        return tuple(role.name for role in self if role.held_by == "staff")

    @property
    def owner(self) -> str:
        """What the built-in role ``owner`` is called here: an organisation always has a member who holds it."""
        return next(role.name for role in self if role.built_in == "owner")

    def grantable(self, scopes: frozenset[str]) -> frozenset[str]:
        """The names of customers' roles that a holder of these scopes may give: nobody gives what they do not have."""
        return frozenset(role.name for role in self if role.held_by == "customers" and role.scopes <= scopes)

    def scopes_of(self, names: Iterable[str]) -> frozenset[str]:
        """All scopes of these roles. A name that is no role gives nothing."""
        return frozenset().union(*(self._roles[name].scopes for name in names if name in self._roles))

    def any_staff(self, names: Iterable[str]) -> bool:
        """Is one of these a role of the firm's own people?"""
        return any(name in self._roles and self._roles[name].held_by == "staff" for name in names)

    def changed(self, changes: Mapping[str, RoleChange]) -> "Roles":
        """With these changes by role name. Raises RoleError: a built-in role can be made narrower, never wider."""
        roles = dict(self._roles)
        for name, change in changes.items():
            roles[name] = _narrowed(roles[name], change) if name in self._roles else _added(name, change)
        called: dict[str, str] = {}
        for name, role in roles.items():
            other = called.setdefault(role.name, name)
            if other != name:
                raise RoleError(f"{name}.name: {role.name!r} is taken by roles.{other}; choose another name")
        return Roles(roles.values())


def _narrowed(role: Role, change: RoleChange) -> Role:
    if change.held_by is not None and change.held_by != role.held_by:
        raise RoleError(f"{role.name}.for: it is a role of {role.held_by}; add a role of another name")
    scopes = _without(role.name, role.scopes if change.scopes is None else frozenset(change.scopes), change)
    _refuse_unknown(role.name, scopes)
    if wider := scopes - role.scopes:
        raise RoleError(
            f"{role.name}.scopes: {', '.join(sorted(wider))} would widen a built-in role; "
            "add a role of another name and say whom it is for"
        )
    _refuse_name(role.name, change.name)
    return replace(role, name=change.name or role.name, label=change.label or role.label, scopes=scopes)


def _added(name: str, change: RoleChange) -> Role:
    if change.held_by is None:
        raise RoleError(
            f'{name}.for: there is no built-in role {name!r}; a new one says for = "customers" or "staff"'
        )
    if change.scopes is None:
        raise RoleError(f"{name}.scopes: list what the new role holds")
    if change.name is not None:
        raise RoleError(f"{name}.name: a new role is called by its table, [roles.{name}]; leave name out")
    _refuse_name(name, name)
    scopes = _without(name, frozenset(change.scopes), change)
    _refuse_unknown(name, scopes)
    if change.held_by == "customers" and (staffs := scopes & STAFF_SCOPES):
        raise RoleError(f"{name}.scopes: {', '.join(sorted(staffs))} is for staff; no customer may hold it")
    return Role(name, change.label or name.replace("-", " ").capitalize(), scopes, change.held_by)


def _without(name: str, scopes: frozenset[str], change: RoleChange) -> frozenset[str]:
    taken = frozenset(change.without or ())
    if missing := taken - scopes:
        raise RoleError(f"{name}.without: {', '.join(sorted(missing))} is not among its scopes; leave it out")
    return scopes - taken


def _refuse_unknown(name: str, scopes: frozenset[str]) -> None:
    if unknown := scopes - SCOPES.keys():
        raise RoleError(
            f"{name}.scopes: {', '.join(sorted(unknown))} is unknown; there are {', '.join(sorted(SCOPES))}"
        )
    if services := scopes & SERVICE_SCOPES:
        raise RoleError(f"{name}.scopes: {', '.join(sorted(services))} is for service accounts alone")


def _refuse_name(role: str, name: str | None) -> None:
    if name is not None and (
        not name or not all(part.isalnum() and part.islower() for part in name.split("-"))
    ):
        raise RoleError(f"{role}.name: small letters with hyphens between, such as site-manager")
