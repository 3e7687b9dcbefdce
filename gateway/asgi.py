"""The ASGI application around all routes: the request's way from the socket, readable top to bottom."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.client import Clients, Entrance
from gateway.endpoint import GraphQLEndpoint
from gateway.office import Office
from gateway.session.routes import allow_portals
from gateway.tracing import Traced

GRAPHQL = "/graphql"


class Gateway(Starlette):
    """Everything passes the entrance; an operation over HTTP goes from there straight to its endpoint, for which
    Starlette's middleware, router and error answers would be a sixth of what a small operation costs. An exception that
    leaves the endpoint is answered by the server: 500, with nothing of it."""

    def __init__(
        self,
        office: Office,
        routes: Sequence[BaseRoute],
        lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
    ) -> None:
        self._endpoint = GraphQLEndpoint(office)
        # The router has it for the sake of what is nearly its path.
        super().__init__(routes=[Route(GRAPHQL, self._endpoint), *routes], lifespan=lifespan)
        self.state.office = office

    @property
    def entrance(self) -> ASGIApp:
        """What a server may call in the application's place, which would only pass everything on to it."""
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        return self.middleware_stack

    def build_middleware_stack(self) -> ASGIApp:
        """Outermost comes what lets a portal's page read the answer, also where it is that nobody is let in."""
        office: Office = self.state.office
        settings, endpoint, routes = office.settings, self._endpoint, super().build_middleware_stack()

        def others(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            scope["app"] = self
            return routes(scope, receive, send)

        def inside(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            to_graphql = scope["type"] == "http" and scope["path"] == GRAPHQL
            return (endpoint if to_graphql else others)(scope, receive, send)

        traced = bool(settings.telemetry.endpoint)
        entrance = Entrance(
            # A trace lasts until the answer has been sent.
            {} if traced else {GRAPHQL: endpoint.answer},
            Traced(inside, office) if traced else others,
            Clients(settings.door.trusted_proxies),
            office.requests,
            # Whoever is not let in is told of to the trail, which runs by the time that requests come.
            refused=lambda client, code: office.audit.refused(client, code),
        )
        return allow_portals(entrance, settings.signin.sessions) if settings.signin.sessions else entrance
