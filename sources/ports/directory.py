"""What a customer's directory has provisioned: its users, who are members, and its groups, which give them roles."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

import msgspec


class DirectoryUser(msgspec.Struct, frozen=True):
    """A member as the directory sees them."""

    id: str
    """The member's."""
    user_name: str
    active: bool
    created_at: datetime
    updated_at: datetime
    external_id: str | None = None
    """What the issuer of the directory's people calls them."""
    name: str | None = None
    email: str | None = None
    roles: tuple[str, ...] = ()
    """That the directory names for this person alone; a name that is no role gives nothing."""
    attributes: dict[str, Any] = {}
    """What else it said and wants to read again, as it wrote it."""
    groups: tuple["Named", ...] = ()
    """Read only."""


class DirectoryGroup(msgspec.Struct, frozen=True):
    """A group and those of the directory's users who are in it."""

    id: str
    display_name: str
    created_at: datetime
    updated_at: datetime
    external_id: str | None = None
    members: tuple["Named", ...] = ()


class Named(msgspec.Struct, frozen=True):
    """A group or a user, with what it is called."""

    id: str
    name: str


class Rules(Protocol):
    """What the directory's words are worth here."""

    @property
    def owner(self) -> str:
        """The role that an organisation always has somebody for."""

    def roles_of(self, named: Sequence[str], groups: Sequence[str]) -> frozenset[str]:
        """The customers' roles that somebody holds for whom the directory names these and who is in these groups."""


class UserTaken(Exception):
    """The organisation's directory has another user of this name or external id."""


class GroupTaken(Exception):
    """The organisation's directory has another group of this name."""


class NoSuchUser(Exception):
    """A group names somebody whom the organisation's directory has not provisioned."""


class Place(msgspec.Struct, frozen=True):
    """Which rows: at most one of the first three, exactly; with none of them all."""

    id: str | None = None
    name: str | None = None
    """A user's name or a group's, whatever the case of its letters."""
    external_id: str | None = None
    offset: int = 0
    limit: int | None = None


class DirectoryBook(Protocol):
    """One organisation's directory while nobody else changes its members."""

    async def user(self, member: str) -> DirectoryUser | None: ...

    async def group(self, group: str) -> DirectoryGroup | None: ...

    async def add_user(self, user: DirectoryUser) -> DirectoryUser:
        """Where the organisation has a member of this issuer with the same external id as subject, or with the same
        e-mail address, it is that member from now on. Raises UserTaken."""

    async def save_user(self, user: DirectoryUser) -> DirectoryUser:
        """Of one that is there. Raises UserTaken."""

    async def remove_user(self, member: str) -> None:
        """The member is gone, too."""

    async def save_group(self, group: DirectoryGroup) -> DirectoryGroup:
        """Makes it or replaces it with its members. Raises GroupTaken, NoSuchUser."""

    async def remove_group(self, group: str) -> None:
        """Its members lose the roles that only it gave them."""


class DirectoryStore(Protocol):
    """The ledger's book of what directories have provisioned. Another organisation's reads as not there."""

    async def users(self, organisation: str, place: Place) -> tuple[Sequence[DirectoryUser], int]:
        """By id; and how many there are without offset and limit."""

    async def groups(self, organisation: str, place: Place) -> tuple[Sequence[DirectoryGroup], int]:
        """By id; and how many there are without offset and limit."""

    def changing(
        self, organisation: str, issuer: str, rules: Rules
    ) -> AbstractAsyncContextManager[DirectoryBook]:
        """All that is done inside is stored, or nothing. ``issuer`` is whose sign-ins the directory's people have. Raises
        WriteRefused LAST_OWNER at the end when an organisation that had an owner has none."""
