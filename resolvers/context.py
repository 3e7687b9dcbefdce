"""What one request holds: who asks, the sources as they may see them, and the loaders."""

from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

import strawberry
from aiodataloader import DataLoader

from permissions.policy import Policy
from permissions.principal import Principal, rule_of
from resolvers.errors import Forbidden, NotFound
from resolvers.vocabulary import ConnectionOf
from sources.layers.scope import ScopedSources
from sources.ports.common import Page, Ref
from sources.ports.members import OrganisationRecord

K = TypeVar("K")
V = TypeVar("V")


class FileLinks(Protocol):
    """Makes the short-lived addresses of files."""

    def link(self, principal: Principal, *what: str) -> "Link": ...


class Link(Protocol):
    """What FileLink is read from."""

    @property
    def url(self) -> str: ...

    @property
    def expires_at(self) -> datetime: ...


class Context:
    """One per request; nothing in it outlives the answer."""

    def __init__(
        self,
        principal: Principal,
        sources: ScopedSources,
        policy: Policy,
        organisations: Sequence[OrganisationRecord],
        files: FileLinks,
        today: date,
    ) -> None:
        self.principal = principal
        self.sources = sources
        self.policy = policy
        self.organisations = {organisation.id: organisation for organisation in organisations}
        """Those that the caller may act for."""
        self.today = today
        self._files = files
        self._loaders: dict[Hashable, DataLoader[Any, Any]] = {}

    def release(self) -> None:
        """Lets go of all records, when the answer is complete: loaders and their batches know each other, so without this
        they would wait for the garbage collector."""
        self._loaders.clear()

    def file_link(self, *what: str) -> Link:
        """A link that only this caller can use."""
        return self._files.link(self.principal, *what)

    def record(
        self, what: str, read: Callable[[Sequence[Ref]], Awaitable[Sequence[V | None]]], ref: Ref | None
    ) -> Future[V]:
        """One record by id, batched with all others of its kind. NotFound where there is none."""

        async def batch(refs: list[Ref]) -> list[Any]:
            return [record or NotFound(what) for record in await read(refs)]

        return self._load(what, batch, ref or _NOWHERE)

    def owner(self, customer: Ref) -> Future[Any]:
        """The account that a customer of another system is; None where no link is known."""

        async def batch(customers: list[Ref]) -> list[Any]:
            return list(await self.sources.accounts_owning(customers))

        return self._load("owner", batch, customer)

    def page(
        self,
        read: Callable[[Sequence[Ref], Any], Awaitable[Sequence[Page[V] | Exception]]],
        query: Hashable,
        order: str,
        parent: Ref,
    ) -> Future[ConnectionOf]:
        """One parent's page of a list, batched with all parents whose page has the same arguments."""
        self._check(query)

        async def batch(parents: list[Ref]) -> list[Any]:
            return [
                ConnectionOf(page, order) if isinstance(page, Page) else page
                for page in await read(parents, query)
            ]

        return self._load((read.__name__, query), batch, parent)

    def nothing(self, order: str) -> ConnectionOf:
        """An empty page, for a filter that nothing can fit; no source is asked."""
        return ConnectionOf(Page((), ()), order)

    def value(
        self, read: Callable[[Sequence[Ref]], Awaitable[Sequence[V | Exception]]], parent: Ref
    ) -> Future[V]:
        """Something that belongs to a parent, batched with all parents."""

        async def batch(parents: list[Ref]) -> list[Any]:
            return list(await read(parents))

        return self._load(read.__name__, batch, parent)

    def listing(
        self, read: Callable[[Any], Awaitable[Page[Any]]], query: Hashable, order: str
    ) -> Future[ConnectionOf]:
        """A page of a list that has no parent; the same question in one request is asked once."""
        self._check(query)

        async def batch(queries: list[Any]) -> list[Any]:
            return [ConnectionOf(await read(query), order) for query in queries]

        return self._load((read.__name__, query), batch, query)

    def balances(self, account: Ref) -> Future[Any]:
        """What an account owes today, batched with all other accounts."""

        async def batch(accounts: list[Ref]) -> list[Any]:
            return list(await self.sources.balances_of(accounts, self.today))

        return self._load("balances", batch, account)

    def _check(self, query: Any) -> None:
        """Filtering by a field of the firm's own tells what it holds, so it takes the scope that reading it takes."""
        for condition in getattr(query, "conditions", ()):
            field = condition.field
            if field.scope is not None and field.scope not in self.principal.scopes:
                raise Forbidden(f"{field.type}.{field.name}", rule_of([[field.scope]]))

    def _load(
        self, name: Hashable, batch: Callable[[list[Any]], Coroutine[Any, Any, list[Any]]], key: Hashable
    ) -> Future[Any]:
        loader = self._loaders.get(name)
        if loader is None:
            loader = self._loaders[name] = DataLoader(batch)
        answer: Future[Any] = loader.load(key)
        return answer


_NOWHERE = Ref("", "")
"""An id that was never one of ours goes the same way as one that does not exist."""

Info = strawberry.Info[Context, None]
