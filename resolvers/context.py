"""What one request holds: who asks, the sources as they may see them, and the loaders."""

from asyncio import Future
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

import msgspec
import strawberry

from permissions.policy import Policy
from permissions.principal import Principal
from permissions.roles import Roles
from resolvers.errors import Forbidden, NotFound
from resolvers.loading import Batch, Batches, Loader
from resolvers.signing_in import Directions
from resolvers.vocabulary import ConnectionOf
from sources.layers.books import ScopedBooks
from sources.layers.reads import read_of
from sources.layers.scope import ScopedSources
from sources.ports.common import Page, Ref
from sources.ports.members import InvitationRecord, OrganisationRecord
from sources.ports.service_accounts import KeyLifetime
from sources.ports.trace import here, span
from sources.ports.viewings import ViewingTerms

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


class InvitationPost(Protocol):
    """How invitations reach people, as the firm has set it."""

    @property
    def by_mail(self) -> bool:
        """Does the gateway send mails? Where not, links are for the inviting person to pass on."""

    @property
    def require_verified_email(self) -> bool:
        """Must the issuer say that an address is verified before its owner may accept?"""

    def expiry(self) -> datetime:
        """Of an invitation that is made now."""

    def link(self, secret: str) -> str | None:
        """Where the person accepts; None where no page of the portal is known."""

    async def send(self, invitation: InvitationRecord, secret: str, organisation: str) -> bool:
        """Did the mail server take the mail? ``organisation`` by its name. Raises nothing."""


class Live(Protocol):
    """What subscriptions are told by, of one caller alone."""

    def standings(self) -> AsyncGenerator[Principal, None]:
        """The caller as they are now, and again whenever that has changed."""

    def news(self, *books: str) -> AsyncGenerator[None, None]:
        """At once, and again whenever one of these books of the ledger has changed or may have."""


class UnscopedRead(Exception):
    """A loader was asked to read without the caller's scope, or for another request: a fault of ours."""


class Context(msgspec.Struct, eq=False):
    """One per request; nothing in it outlives the answer."""

    principal: Principal
    sources: ScopedSources
    policy: Policy
    organisations: Mapping[str, OrganisationRecord]
    """Those that the caller may act for, by id."""
    _files: FileLinks
    today: date
    books: ScopedBooks
    roles: Roles
    invitations: InvitationPost
    key_lifetime: KeyLifetime
    viewing_terms: ViewingTerms
    directions: Directions
    live: Live | None = None
    """Only while a subscription begins."""
    _batches: Batches = msgspec.field(default_factory=Batches)
    _loaders: dict[Hashable, Loader] = {}
    _released: bool = False

    __repr__ = object.__repr__  # what a request holds is for no log

    def release(self) -> None:
        """Lets go of all records, when the answer is complete: loaders and their batches know each other, so without this
        they would wait for the garbage collector. What is still being read, as the caller left, is not read any more."""
        self._loaders.clear()
        self._batches.end()
        self.sources.release()
        self._released = True

    def file_link(self, *what: str) -> Link:
        """A link that only this caller can use."""
        return self._files.link(self.principal, *what)

    def record(
        self, what: str, read: Callable[[Sequence[Ref]], Awaitable[Sequence[V | None]]], ref: Ref | None
    ) -> Future[V]:
        """One record by id, batched with all others of its kind. NotFound where there is none."""

        loader = self._loaders.get(what)
        if loader is None:

            async def batch(refs: list[Ref]) -> list[Any]:
                return [record or NotFound(what) for record in await read(refs)]

            loader = self._begin(what, read, batch)
        return loader.load(ref or _NOWHERE)

    def owner(self, customer: Ref) -> Future[Any]:
        """The account that a customer of another system is; None where no link is known."""

        return self.value(self.sources.accounts_owning, customer)

    def page(
        self,
        read: Callable[[Sequence[Ref], Any], Awaitable[Sequence[Page[V] | Exception]]],
        query: Hashable,
        order: str,
        parent: Ref,
    ) -> Future[ConnectionOf]:
        """One parent's page of a list, batched with all parents whose page has the same arguments."""
        name = (read.__name__, query)
        loader = self._loaders.get(name)
        if loader is None:

            async def batch(parents: list[Ref]) -> list[Any]:
                return [
                    ConnectionOf(page, order) if isinstance(page, Page) else page
                    for page in await read(parents, query)
                ]

            loader = self._begin(name, read, batch)
        return loader.load(parent)

    def nothing(self, order: str) -> ConnectionOf:
        """An empty page, for a filter that nothing can fit; no source is asked."""
        return ConnectionOf(Page((), ()), order)

    def value(
        self, read: Callable[[Sequence[Ref]], Awaitable[Sequence[V | Exception]]], parent: Ref
    ) -> Future[V]:
        """Something that belongs to a parent, batched with all parents."""
        loader = self._loaders.get(read.__name__)
        if loader is None:

            async def batch(parents: list[Ref]) -> list[Any]:
                return list(await read(parents))

            loader = self._begin(read.__name__, read, batch)
        return loader.load(parent)

    def listing(
        self, read: Callable[[Any], Awaitable[Page[Any]]], query: Hashable, order: str
    ) -> Future[ConnectionOf]:
        """A page of a list that has no parent; the same question in one request is asked once."""
        name = (read.__name__, query)
        loader = self._loaders.get(name)
        if loader is None:

            async def batch(queries: list[Any]) -> list[Any]:
                return [ConnectionOf(await read(query), order) for query in queries]

            loader = self._begin(name, read, batch)
        return loader.load(query)

    def balances(self, account: Ref) -> Future[Any]:
        """What an account owes today, batched with all other accounts."""
        loader = self._loaders.get("balances")
        if loader is None:

            async def batch(accounts: list[Ref]) -> list[Any]:
                return list(await self.sources.balances_of(accounts, self.today))

            loader = self._begin("balances", self.sources.balances_of, batch)
        return loader.load(account)

    def _begin(self, name: Hashable, read: Callable[..., Any], batch: Batch) -> Loader:
        """The first that asks for what this loader gives; those after it find it. ``batch`` asks by ``read`` alone."""
        self._require_scope(read)
        traced = batch if here() is None else _traced(read, batch)
        loader = self._loaders[name] = Loader(traced, self._batches)
        return loader

    def _require_scope(self, read: Callable[..., Any]) -> None:
        """A loader reads as this caller or not at all. Raises UnscopedRead, and Forbidden where the caller may see no
        record of the type that is read."""
        mark, owner = read_of(read), getattr(read, "__self__", None)
        if mark is None or mark.gives is None or not (owner is self.sources or owner is self.books):
            raise UnscopedRead(
                f"{getattr(read, '__qualname__', read)}: not a marked read of this request's scope layer"
            )
        if self._released:
            raise UnscopedRead(f"{read.__qualname__}: the request is answered; its loaders serve no other")
        if not self.policy.may_see(self.principal, mark.gives):
            raise Forbidden(mark.gives, self.policy.types[mark.gives], self.principal.held)


def _traced(read: Callable[..., Any], batch: Batch) -> Batch:
    """The same, told of where somebody looks."""
    mark = read_of(read)

    async def reading(keys: list[Any]) -> list[Any]:
        with span("batch", read.__name__, type=mark.gives if mark else None, keys=len(keys)):
            return await batch(keys)

    return reading


_NOWHERE = Ref("", "")
"""An id that was never one of ours goes the same way as one that does not exist."""

Info = strawberry.Info[Context, None]
