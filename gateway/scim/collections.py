"""/Users and /Groups of one organisation: read, searched, made, replaced, patched, removed."""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
import scim2_models as scim
from scim2_models.path import CompareOperator, Comparison, FilterNode

from gateway.scim.resources import (
    POLICY,
    Group,
    User,
    group_record,
    group_resource,
    user_record,
    user_resource,
)
from sources.ports.directory import (
    DirectoryBook,
    DirectoryGroup,
    DirectoryStore,
    DirectoryUser,
    GroupTaken,
    NoSuchUser,
    Place,
    Rules,
    UserTaken,
)
from sources.ports.writing import Refusal, WriteRefused

R = TypeVar("R", User, Group)
D = TypeVar("D", DirectoryUser, DirectoryGroup)

PAGE = 100
LARGEST_PAGE = 500
SCANNED = 5_000
"""Resources that a filter without an index, or an order, may have to look at."""
MOST = 1 << 31
"""No directory has so many; a start beyond it is one beyond the end."""
PER_TURN = 100
"""Of those are looked at before other requests have their turn."""


class Tenant(msgspec.Struct, frozen=True):
    """Whose directory it is, and what its words are worth."""

    store: DirectoryStore
    organisation: str
    issuer: str
    """Whose sign-ins the directory's people have."""
    rules: Rules
    base: str
    """The address of the SCIM service."""


class Found(msgspec.Struct, frozen=True):
    """One page of a search."""

    resources: Sequence[Any]
    total: int
    start: int


class Collection(ABC, Generic[R, D]):
    """Of one kind of resource. Raises SCIMException and pydantic's ValidationError; both have a form in SCIM."""

    model: type[R]
    kind: str
    names: str
    """The attribute by which the ledger finds one."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant

    # -- reading ------------------------------------------------------------------------------------------------

    async def read(self, id_: str) -> R:
        """Raises NotFoundException."""
        records, _ = await self._stored(Place(id=id_))
        if not records:
            raise _not_there()
        return self._resource(records[0])

    async def search(self, request: scim.SearchRequest[Any]) -> Found:
        """What the ledger can find by itself is one indexed query; the rest is looked through."""
        count = min(PAGE if request.count is None else request.count, LARGEST_PAGE)
        start = min(request.start_index_0 or 0, MOST)
        if request.filter is None and request.sort_by is None:
            records, total = await self._stored(Place(offset=start, limit=count))
            return Found([self._resource(record) for record in records], total, start + 1)
        place = self._indexed(request.filter.ast) if request.filter is not None else None
        records, total = await self._stored(
            msgspec.structs.replace(place, limit=SCANNED) if place else Place(limit=SCANNED)
        )
        if total > SCANNED:
            raise scim.TooManyException(
                detail=f"the filter would look through more than {SCANNED} resources; ask by {self.names} or externalId"
            )
        matching = []
        for number, record in enumerate(records):
            if number % PER_TURN == PER_TURN - 1:
                await asyncio.sleep(0)
            resource = self._resource(record)
            if request.filter is None or request.filter.match(resource):
                matching.append(resource)
        chosen = request.sort(matching)[start : start + count]
        return Found(chosen, len(matching), start + 1)

    def _indexed(self, node: FilterNode) -> Place | None:
        """The rows among which all that fit must be; None: any."""
        for term in getattr(node, "terms", ()) if getattr(node, "op", None) == "and" else (node,):
            if not isinstance(term, Comparison) or term.op is not CompareOperator.eq:
                continue
            attribute = term.attr_path
            if attribute.sub_attr is not None or not isinstance(term.value, str):
                continue
            match attribute.attr.lower():
                case "id":
                    return Place(id=term.value)
                case "externalid":
                    return Place(external_id=term.value)
                case name if name == self.names.lower():
                    return Place(name=term.value)
        return None

    # -- writing ------------------------------------------------------------------------------------------------

    async def create(self, payload: Mapping[str, Any]) -> R:
        """Raises UniquenessException."""
        resource: R = self.model.model_validate(
            payload, scim_ctx=scim.Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY
        )
        async with self._changing() as book:
            record = await self._added(book, self._record(resource, None))
        return self._resource(record)

    async def replace(self, id_: str, payload: Mapping[str, Any], if_match: str | None) -> R:
        """Raises NotFoundException, PreconditionFailedException, MutabilityException, UniquenessException."""
        resource: R = self.model.model_validate(
            payload, scim_ctx=scim.Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY
        )
        async with self._changing() as book:
            former = await self._former(book, id_, if_match)
            resource.replace(self._resource(former))
            record = await self._saved(book, self._record(resource, former))
        return self._resource(record)

    async def patch(self, id_: str, payload: Mapping[str, Any], if_match: str | None) -> R:
        """All operations or none. Raises what ``replace`` raises, and NoTargetException."""
        change = scim.PatchOp[self.model].model_validate(  # type: ignore[name-defined]
            payload, scim_ctx=scim.Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY
        )
        async with self._changing() as book:
            former = await self._former(book, id_, if_match)
            resource = self._resource(former)
            change.patch(resource, scim_policy=POLICY)
            record = await self._saved(book, self._record(resource, former))
        return self._resource(record)

    async def delete(self, id_: str, if_match: str | None) -> None:
        """Raises NotFoundException, PreconditionFailedException."""
        async with self._changing() as book:
            await self._former(book, id_, if_match)
            await self._removed(book, id_)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[DirectoryBook]:
        """What the ledger refuses is said in SCIM's words."""
        tenant = self.tenant
        try:
            async with tenant.store.changing(tenant.organisation, tenant.issuer, tenant.rules) as book:
                yield book
        except UserTaken as taken:
            raise scim.UniquenessException(detail="another user has this userName or externalId") from taken
        except GroupTaken as taken:
            raise scim.UniquenessException(detail="another group has this displayName") from taken
        except NoSuchUser as unknown:
            raise scim.InvalidValueException(
                detail="members: each value must be the id of a user; groups in groups are not taken"
            ) from unknown
        except WriteRefused as refused:
            if refused.code is not Refusal.LAST_OWNER:
                raise
            raise scim.MutabilityException(
                detail="the organisation would have no owner left; make another member an owner first"
            ) from refused

    async def _former(self, book: DirectoryBook, id_: str, if_match: str | None) -> D:
        found = await self._one(book, id_)
        if found is None:
            raise _not_there()
        if if_match is not None and not matches(if_match, etag(self._resource(found))):
            raise scim.PreconditionFailedException
        return found

    # -- of each kind -------------------------------------------------------------------------------------------

    @abstractmethod
    async def _stored(self, place: Place) -> tuple[Sequence[D], int]: ...

    @abstractmethod
    async def _one(self, book: DirectoryBook, id_: str) -> D | None: ...

    @abstractmethod
    async def _added(self, book: DirectoryBook, record: D) -> D: ...

    @abstractmethod
    async def _saved(self, book: DirectoryBook, record: D) -> D: ...

    @abstractmethod
    async def _removed(self, book: DirectoryBook, id_: str) -> None: ...

    @abstractmethod
    def _resource(self, record: D) -> R: ...

    @abstractmethod
    def _record(self, resource: R, former: D | None) -> D: ...


class Users(Collection[User, DirectoryUser]):
    """People."""

    model, kind, names = User, "User", "userName"

    async def _stored(self, place: Place) -> tuple[Sequence[DirectoryUser], int]:
        return await self.tenant.store.users(self.tenant.organisation, place)

    async def _one(self, book: DirectoryBook, id_: str) -> DirectoryUser | None:
        return await book.user(id_)

    async def _added(self, book: DirectoryBook, record: DirectoryUser) -> DirectoryUser:
        return await book.add_user(record)

    async def _saved(self, book: DirectoryBook, record: DirectoryUser) -> DirectoryUser:
        return await book.save_user(record)

    async def _removed(self, book: DirectoryBook, id_: str) -> None:
        await book.remove_user(id_)

    def _resource(self, record: DirectoryUser) -> User:
        return user_resource(record, self.tenant.base)

    def _record(self, resource: User, former: DirectoryUser | None) -> DirectoryUser:
        _require(resource.user_name, "userName")
        return user_record(resource, former, datetime.now(UTC))


class Groups(Collection[Group, DirectoryGroup]):
    """Groups."""

    model, kind, names = Group, "Group", "displayName"

    async def _stored(self, place: Place) -> tuple[Sequence[DirectoryGroup], int]:
        return await self.tenant.store.groups(self.tenant.organisation, place)

    async def _one(self, book: DirectoryBook, id_: str) -> DirectoryGroup | None:
        return await book.group(id_)

    async def _added(self, book: DirectoryBook, record: DirectoryGroup) -> DirectoryGroup:
        return await book.save_group(record)

    async def _saved(self, book: DirectoryBook, record: DirectoryGroup) -> DirectoryGroup:
        return await book.save_group(record)

    async def _removed(self, book: DirectoryBook, id_: str) -> None:
        await book.remove_group(id_)

    def _resource(self, record: DirectoryGroup) -> Group:
        return group_resource(record, self.tenant.base)

    def _record(self, resource: Group, former: DirectoryGroup | None) -> DirectoryGroup:
        _require(resource.display_name, "displayName")
        return group_record(resource, former, datetime.now(UTC))


def etag(resource: User | Group) -> str:
    """Weak: of what the resource says, whenever it was said."""
    shown = resource.model_dump_json(exclude={"meta"}, scim_ctx=scim.Context.RESOURCE_QUERY_RESPONSE)
    return f'W/"{hashlib.sha256(shown.encode()).hexdigest()[:24]}"'


def matches(header: str, tag: str) -> bool:
    """If-Match and If-None-Match, compared weakly (RFC 9110, 8.8.3.2)."""
    given = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in given or tag.removeprefix("W/") in given


def _require(name: str | None, attribute: str) -> None:
    if not name or not name.strip():
        raise scim.InvalidValueException(detail=f"{attribute} must not be empty")


def _not_there() -> scim.NotFoundException:
    return scim.NotFoundException(detail="there is no such resource")
