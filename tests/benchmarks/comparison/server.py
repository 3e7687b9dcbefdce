"""The server: the gateway's entrance, endpoint, engine, sign-in and limits around the comparison's graph and upstreams.

``CRM_URL``, ``ERP_URL``, ``HELPDESK_URL`` and ``DOCS_URL`` say where the upstreams are. With ``BENCH_ISSUER`` each request needs
a token of that issuer (for ``BENCH_AUDIENCE``), without it everybody is the same customer and a token that is sent
(``BENCH_TOKEN``) is not looked at.
"""

import asyncio
import os
from asyncio import Future
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers

from gateway.asgi import Gateway
from gateway.audit import AuditTrail
from gateway.collector import spare_the_collector
from gateway.demo_issuer import AUDIENCE
from gateway.execution.engine import Engine
from gateway.office import Office
from gateway.requests import Requests
from gateway.settings import Audit, Database, Door, Settings
from gateway.signin.demands import Demands
from gateway.signin.door import SignIn
from gateway.signin.settings import IssuerSettings, SignInSettings
from permissions.policy import Policy
from permissions.principal import Principal
from permissions.roles import Roles
from resolvers.loading import Batches, Loader
from sources.layers.touched import Touched
from sources.ports.audit import AuditRecord, AuditStore
from sources.ports.common import Ref
from tests.benchmarks.comparison.graph import Schema
from tests.benchmarks.comparison.rows import Upstreams

UPSTREAMS = {"crm": 4101, "erp": 4102, "helpdesk": 4103, "docs": 4104}
"""With the ports at which they are unless the environment says otherwise."""


def upstream_urls() -> dict[str, str]:
    """As the environment says."""
    return {
        name: os.environ.get(f"{name.upper()}_URL", f"http://127.0.0.1:{port}")
        for name, port in UPSTREAMS.items()
    }


class Context(msgspec.Struct, eq=False):
    """What one request holds: who asks, and a loader for each kind of row that it reads."""

    principal: Principal
    policy: Policy
    upstreams: Upstreams
    _batches: Batches = msgspec.field(default_factory=Batches)
    _loaders: dict[str, Loader] = {}

    def load(self, kind: str, id_: str) -> Future[Any]:
        """What the upstreams have of this kind, ``accounts`` by their own id and everything else by its account's."""
        loader = self._loaders.get(kind)
        if loader is None:
            loader = self._loaders[kind] = Loader(getattr(self.upstreams, kind), self._batches)
        return loader.load(id_)

    def release(self) -> None:
        """Loaders and what they gave know each other."""
        self._batches.end()
        self._loaders.clear()


class Anyone:
    """In the sign-in's place where no issuer is named."""

    def __init__(self) -> None:
        self.demands = Demands((), Roles())
        self._principal = Principal("u1", None, None, ("owner",), Roles().scopes_of(["owner"]), "1", ("1",))

    def known(self, headers: Headers, method: str) -> Principal:
        """The same for all."""
        return self._principal

    async def principal(
        self, headers: Headers, *, route: str = "/graphql", method: str = "POST"
    ) -> Principal:
        """The same for all."""
        return self._principal


class Nowhere:
    """In the place of the ledger's audit trail, which this server has no database for: records are made, and let go."""

    async def append(self, records: Sequence[AuditRecord], *, again: bool = False) -> None:
        """Forgets them."""

    async def shares(self, owners: Sequence[Ref]) -> Sequence[str | None]:
        """Nobody's."""
        return [None] * len(owners)


class Comparison:
    """What the endpoint needs of an Office."""

    def __init__(self) -> None:
        issuer = os.environ.get("BENCH_ISSUER")
        audience = os.environ.get("BENCH_AUDIENCE", AUDIENCE)
        believed = IssuerSettings(issuer=issuer or "", audience=audience, believed_for=("customers", "staff"))
        signin = SignInSettings(issuers=(believed,))
        self.settings = Settings(Door(), Database(), signin, {})
        # Its callers are customers' by their claims: no ledger is asked.
        nobody = cast(Any, None)
        self.signin = (
            SignIn(signin, Roles(), organisations=nobody, members=nobody, viewings=nobody)
            if issuer
            else Anyone()
        )
        self.schema = Schema()
        self.engine = Engine(self.schema)
        self.requests = Requests(self.settings.logging)
        self.audit = AuditTrail(cast(AuditStore, Nowhere()), Audit())
        self.cache = None  # nothing is remembered, as by the other contenders
        self.closing = asyncio.Event()
        self._upstreams = Upstreams(upstream_urls())

    async def context(self, principal: Principal, touched: Touched) -> Context:
        """For one request of this caller."""
        return Context(principal, self.schema.policy, self._upstreams)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """As the gateway's: the collector is told when everything is there."""
        self.audit.start()
        spare_the_collector()
        yield
        await self.audit.close()
        await self._upstreams.close()


def create() -> Gateway:
    """The application, for the server of your choice."""
    comparison = Comparison()
    return Gateway(cast(Office, comparison), [], comparison.lifespan)
