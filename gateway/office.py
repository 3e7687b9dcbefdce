"""Everything that is open while the gateway runs: the ledger, the connected sources, the schema, the sign-in."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

from gateway.execution.engine import Engine
from gateway.files import SignedLinks
from gateway.settings import FIELD_KINDS, Settings, SettingsError
from gateway.signin.door import SignIn
from permissions.principal import Principal
from permissions.roles import Roles
from resolvers.context import Context
from resolvers.schema import build_schema
from sources.layers.matching import Matcher
from sources.layers.scope import Backoffice, Reach, ScopedSources, Violations
from sources.ledger.book import Ledger
from sources.ports.errors import SourceError
from sources.registry import Kind
from sources.transport.deadline import remaining
from sources.transport.wiring import Wiring


class Office:
    """An async context manager: open inside, closed after. Raises what a setting makes impossible."""

    def __init__(
        self, settings: Settings, database_url: str, today: Callable[[], date] | None = None
    ) -> None:
        zone = ZoneInfo(settings.door.timezone)
        self.settings = settings
        self._today = today or (lambda: datetime.now(zone).date())
        self.roles = Roles()
        self.files = SignedLinks(settings.door)
        self.schema = build_schema(settings.own_fields)
        self.engine = Engine(self.schema)
        self.violations = Violations()
        self.ports: dict[Kind, Any] = {}
        self._database_url = database_url
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.ledger = await Ledger.open(self._database_url, patience=remaining)
            stack.push_async_callback(self.ledger.close)
            await self.ledger.migrate()
            self.ledger.watch()
            self.signin = SignIn(
                self.settings.signin,
                self.roles,
                organisations=self.ledger.organisations,
                members=self.ledger.members,
            )
            stack.push_async_callback(self.signin.close)
            for kind, source in self.settings.sources.items():
                custom = tuple(field for field in self.settings.own_fields if FIELD_KINDS[field.type] is kind)
                try:
                    port = source.row.connect(source.settings, Wiring(self.ledger.tokens, custom))
                except (ValueError, SourceError) as error:
                    raise SettingsError(f"sources.{kind.value}: {error}") from error
                self.ports[kind] = port
                stack.push_async_callback(port.close)
            crm = self.ports[Kind.CRM]
            rules = {source.row.vendor: source.matching for source in self.settings.sources.values()}
            self.matcher = Matcher(crm, self.ledger.links, rules)
            self.backoffice = Backoffice(
                crm=crm,
                matcher=self.matcher,
                links=self.ledger.links,
                organisations=self.ledger.organisations,
                erp=self.ports.get(Kind.ERP),
                helpdesk=self.ports.get(Kind.HELPDESK),
                documents=self.ports.get(Kind.DOCUMENTS),
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def context(self, principal: Principal) -> Context:
        """What one request of this caller holds."""
        sources, organisations = await self._view(principal)
        return Context(principal, sources, self.schema.policy, organisations, self.files, self._today())

    async def sources_for(self, principal: Principal) -> ScopedSources:
        """The sources as this caller may see them."""
        sources, _ = await self._view(principal)
        return sources

    async def _view(self, principal: Principal) -> tuple[ScopedSources, list[Any]]:
        ids = list(dict.fromkeys([*principal.organisations, *filter(None, [principal.organisation])]))
        known = [o for o in await self.ledger.organisations.organisations(ids) if o] if ids else []
        # Only staff to whom some organisations are assigned have several and act for none of them in particular.
        acting = principal.organisations if principal.organisation is None else (principal.organisation,)
        own = [account for one in known if one.id in acting for account in one.accounts]
        reach = Reach(
            accounts=None if principal.sees_all else frozenset(own),
            unissued_invoices="invoices:drafts" in principal.scopes,
            internal_notes="tickets:internal" in principal.scopes,
        )
        return ScopedSources(self.backoffice, reach, self.violations), known
