"""Everything that is open while the gateway runs: the ledger, the connected sources, the schema, the sign-in."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

from gateway.audit import AuditTrail
from gateway.connections import Connections
from gateway.execution.engine import Engine
from gateway.files import SignedLinks
from gateway.health import health_of
from gateway.invitations import Post
from gateway.requests import Requests
from gateway.settings import FIELD_KINDS, Settings, SettingsError
from gateway.signin.api_keys import ApiKeys
from gateway.signin.browser import BrowserSignIn
from gateway.signin.directions import directions
from gateway.signin.door import SignIn
from gateway.signin.sessions import Sessions
from gateway.tracing import Tracing
from gateway.turns import Turns
from gateway.views import Views
from permissions.principal import Principal
from resolvers.context import Context
from resolvers.schema import build_schema
from sources.layers.books import Books, ScopedBooks
from sources.layers.cache.core import Cache, Surroundings
from sources.layers.cache.ports import CachedCrm, CachedDocuments, CachedErp, CachedHelpdesk
from sources.layers.cache.second import Codec
from sources.layers.matching import Matcher
from sources.layers.mirror import Mirror
from sources.layers.scope import Backoffice, ScopedSources
from sources.layers.touched import Touched
from sources.ledger.audit_seal import Seal
from sources.ledger.book import Ledger
from sources.ports.errors import SourceError
from sources.ports.health import SourceHealth
from sources.ports.viewings import ViewingTerms
from sources.ports.violations import Violations
from sources.registry import Kind
from sources.transport.caller import Urgency, caller, calling_for
from sources.transport.deadline import no_deadline, remaining, shared_deadline
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring


class Office:
    """An async context manager: open inside, closed after. Raises what a setting makes impossible."""

    def __init__(
        self, settings: Settings, database_url: str, today: Callable[[], date] | None = None
    ) -> None:
        zone = ZoneInfo(settings.door.timezone)
        self.settings = settings
        self._today = today or (lambda: datetime.now(zone).date())
        self.roles = settings.roles
        self._directions = directions(settings.signin, settings.door.public_url)
        self.files = SignedLinks(settings.door)
        self.invitations = Post(settings.invitations, settings.mail, self.roles)
        self.schema = build_schema(settings.own_fields)
        self.engine = Engine(self.schema)
        self.violations = Violations()
        self.requests = Requests(settings.logging)
        self.ports: dict[Kind, Any] = {}
        self._database_url = database_url
        self._stack = AsyncExitStack()
        self.viewing_terms = ViewingTerms(
            by_member=settings.signin.membership == "ledger",
            default_minutes=settings.viewing.default_minutes,
            max_minutes=settings.viewing.max_minutes,
        )
        self.connections = Connections(settings.subscriptions.connections)
        self.turns = Turns()
        self._key_lifetime = settings.api_keys.lifetime
        self.browsers: BrowserSignIn
        """Only where ``signin.sessions`` is set, and once it is open."""
        self.closing = asyncio.Event()
        """Set when the server begins to stop: what stays open must end."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            sealing = self.settings.audit
            self.ledger = await Ledger.open(
                self._database_url,
                patience=remaining,
                seal=Seal(sealing.key, sealing.retired_keys),
                token_keys=self.settings.tokens.usable,
            )
            stack.push_async_callback(self.ledger.close)
            await self.ledger.migrate()
            self.ledger.watch()
            self.audit = AuditTrail(self.ledger.audit, sealing)
            self.audit.start()
            stack.push_async_callback(self.audit.close)
            api_keys = ApiKeys(self.ledger.service_accounts, self.roles)
            stack.push_async_callback(api_keys.close)
            sessions = self._sessions()
            self.signin = SignIn(
                self.settings.signin,
                self.roles,
                organisations=self.ledger.organisations,
                members=self.ledger.members,
                sessions=sessions,
                api_keys=api_keys,
                viewings=self.ledger.viewings,
            )
            stack.push_async_callback(self.signin.close)
            if sessions is not None and self.settings.signin.sessions is not None:
                self.browsers = BrowserSignIn(
                    self.settings.signin.sessions,
                    self.settings.door.public_url,
                    sessions,
                    self.signin.issuers,
                )
                sweeping = asyncio.create_task(sessions.keep_swept(), name="sessions")
                stack.callback(sweeping.cancel)
            telemetry, export = self.settings.telemetry, None
            if telemetry.endpoint:
                # It takes a quarter of a second to load, which no gateway without traces should wait for.
                from gateway.otlp import OtlpExport

                export = OtlpExport(telemetry)
            self.tracing = Tracing(telemetry, self.settings.door.trusted_proxies, export)
            stack.push_async_callback(self.tracing.close)
            redis, shared = self.settings.redis, None
            if redis is not None:
                # Not before: Redis' client takes ten megabytes.
                from sources.transport.shared import SharedBudgets

                shared = SharedBudgets(redis.url, redis.replicas, redis.patience)
            self.network = Network(shared)
            stack.push_async_callback(self.network.close)
            for kind, source in self.settings.sources.items():
                custom = tuple(field for field in self.settings.own_fields if FIELD_KINDS[field.type] is kind)
                try:
                    port = source.row.connect(
                        source.settings,
                        Wiring(
                            self.ledger.tokens, custom, self.network, self.ledger.mirrors, self.violations
                        ),
                    )
                except (ValueError, SourceError) as error:
                    raise SettingsError(f"sources.{kind.value}: {error}") from error
                self.ports[kind] = port
                stack.push_async_callback(port.close)
                if hasattr(port, "mirror"):
                    stack.push_async_callback(port.mirror.close)
            crm = self.ports[Kind.CRM]
            rules = {source.row.vendor: source.matching for source in self.settings.sources.values()}
            self.matcher = Matcher(crm, self.ledger.links, rules)
            self.cache = await self._cache(stack)
            readers = {
                kind: port if self.cache is None else _CACHED[kind](port, self.cache)
                for kind, port in self.ports.items()
            }
            self.backoffice = Backoffice(
                crm=readers[Kind.CRM],
                # Who is who is decided by what the systems say now.
                matcher=self.matcher,
                links=self.ledger.links,
                organisations=self.ledger.organisations,
                erp=readers.get(Kind.ERP),
                helpdesk=readers.get(Kind.HELPDESK),
                documents=readers.get(Kind.DOCUMENTS),
                health=self.health,
            )
            self._views = Views(
                self.ledger.organisations, keeps_members=self.settings.signin.membership == "ledger"
            )
            self.books = Books(
                audit=self.ledger.audit,
                members=self.ledger.members,
                organisations=self.ledger.organisations,
                service_accounts=self.ledger.service_accounts,
                viewings=self.ledger.viewings,
                writes=self.ledger.writes,
            )
            self._stack = stack.pop_all()
        return self

    async def consents(self) -> dict[str, bool]:
        """By source whose tokens somebody has consented to: is a new consent needed? Raises SourceError."""
        connected = {port.name for port in self.ports.values()}
        return {
            state.connection: state.consent_needed
            for state in await self.ledger.tokens.states()
            if state.connection in connected
        }

    async def _cache(self, stack: AsyncExitStack) -> Cache | None:
        """None where it is off, and no source is copied: how old a copy is has to be told in any case."""
        settings, redis, lifetimes = self.settings, self.settings.redis, self.settings.cache
        if not lifetimes.enabled:
            if not self.mirrors:
                return None
            lifetimes = lifetimes.without_memory
        second = None
        if lifetimes.enabled and redis is not None and redis.cache:
            from sources.transport.redis_cache import RedisCache

            second = RedisCache(redis.url, redis.patience)
            stack.push_async_callback(second.close)
        # Whose account is read there: who changes the settings of a source reads it anew.
        accounts = {self.ports[kind].name: repr(source.settings) for kind, source in settings.sources.items()}
        cache = Cache(
            lifetimes,
            Surroundings(patience=remaining, lane=caller, apart=shared_deadline, behind=_behind),
            second=second,
            codec=Codec(accounts, settings.own_fields),
            mirrors=self.mirrors,
        )
        stack.push_async_callback(cache.close)
        self.ledger.forgettings.listen(lambda told: cache.hear(source=told.source, refs=told.refs))
        return cache

    def _sessions(self) -> Sessions | None:
        settings, public_url = self.settings.signin.sessions, self.settings.door.public_url
        return None if settings is None else Sessions(settings, public_url, self.ledger.sessions)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def mirrors(self) -> Sequence[Mirror]:
        """The copies that connected sources keep."""
        return [port.mirror for port in self.ports.values() if hasattr(port, "mirror")]

    @property
    def promises(self) -> Mapping[str, int]:
        """By type: the oldest, in seconds, that is given of it while its source answers."""
        copied = {name: round(mirror.promise(name)) for mirror in self.mirrors for name in mirror.shown}
        return {**self.settings.cache.promises, **copied}

    def follow(self) -> None:
        """From now on mirrors follow their vendors, until this closes. For what serves requests."""
        for mirror in self.mirrors:
            self.alongside(mirror.keep(), f"mirror-{mirror.source}")

    def alongside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs until this closes, and belongs to no request."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
        self._stack.push_async_callback(_ended, task)

    def troubles(self) -> dict[str, str]:
        """What is amiss with what this process calls or copies, by source; empty where all is well."""
        found = {mirror.source: mirror.trouble for mirror in self.mirrors if mirror.trouble}
        return found | self.network.troubles()

    async def context(self, principal: Principal, touched: Touched | None = None) -> Context:
        """What one request of this caller holds. ``touched`` takes note of the records that it is given."""
        touched = touched or Touched()
        view = self._views.known(principal) or await self._views.of(principal)
        return Context(
            principal,
            ScopedSources(self.backoffice, view.sources, self.violations, touched),
            self.schema.policy,
            view.organisations,
            self.files,
            self._today(),
            books=ScopedBooks(self.books, view.books, touched),
            roles=self.roles,
            invitations=self.invitations,
            key_lifetime=self._key_lifetime,
            viewing_terms=self.viewing_terms,
            directions=self._directions,
        )

    def health(self) -> Sequence[SourceHealth]:
        """How the connected systems are doing, in the order of their kinds."""
        states = self.network.states()
        return [
            health_of(
                port.name, kind.value, states.get(port.name, ()), self.cache, getattr(port, "mirror", None)
            )
            for kind in Kind
            if (port := self.ports.get(kind)) is not None
        ]

    async def sources_for(self, principal: Principal, touched: Touched) -> ScopedSources:
        """The sources as this caller may see them."""
        view = self._views.known(principal) or await self._views.of(principal)
        return ScopedSources(self.backoffice, view.sources, self.violations, touched)


_CACHED: dict[Kind, Callable[[Any, Cache], Any]] = {
    Kind.CRM: CachedCrm,
    Kind.ERP: CachedErp,
    Kind.HELPDESK: CachedHelpdesk,
    Kind.DOCUMENTS: CachedDocuments,
}


@contextmanager
def _behind() -> Iterator[None]:
    with no_deadline(), calling_for(Urgency.BACKGROUND):
        yield


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
