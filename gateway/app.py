"""The gateway over its settings: every route, put together."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from gateway.asgi import GRAPHQL, Gateway
from gateway.audit import NOT_THERE
from gateway.audit_export import export
from gateway.collector import spare_the_collector
from gateway.errors import log_sources, of_source
from gateway.files import FIELDS, content, disposition, media_type
from gateway.graphiql import GraphiQLConfig
from gateway.graphiql import routes as graphiql_routes
from gateway.metrics import Metrics
from gateway.office import Office
from gateway.scim.routes import ScimRoutes
from gateway.session.routes import routes as session_routes
from gateway.settings import Settings
from gateway.signin.refused import SignInRefused, challenge
from gateway.sockets import GraphQLSocket
from gateway.terms import terms
from sources.layers.touched import Touched
from sources.ports.audit import AuditKind
from sources.ports.errors import SourceError
from sources.transport.caller import calling_for
from sources.transport.deadline import deadline

READY_SECONDS = 2.0
"""For the database to answer whoever asks whether to send requests here."""


def create_app(
    settings: Settings,
    database_url: str,
    *,
    graphiql: GraphiQLConfig | None = None,
    graphiql_routes_before: Sequence[BaseRoute] = (),
    today: Callable[[], date] | None = None,
) -> Gateway:
    """The gateway over these settings; ``today`` takes the clock's place. Raises OwnFieldError or PolicyError when the
    settings cannot work."""
    office = Office(settings, database_url, today)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with office:
            office.follow()
            spare_the_collector()
            yield

    async def file(request: Request) -> Response:
        return await _file(office, request)

    async def audit_export(request: Request) -> Response:
        return await export(office, request)

    async def ready(request: Request) -> Response:
        try:
            with deadline(READY_SECONDS):
                consents = await office.consents()
        except SourceError as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        spent = {
            source: f"consent needed: run `gateway connect {source}`"
            for source, needed in consents.items()
            if needed
        }
        # Pages are served whatever their sources do: a source in trouble is told, and is no reason to send nobody here.
        return JSONResponse({"status": "ready", "degraded": office.troubles() | spent})

    async def sdl(request: Request) -> Response:
        try:
            await office.signin.principal(request.headers, route="/schema.graphql", method=request.method)
        except SignInRefused as refused:
            return _refused(refused)
        return PlainTextResponse(office.schema.sdl(office.promises) + "\n")

    routes: list[BaseRoute] = [
        WebSocketRoute(GRAPHQL, GraphQLSocket(office)),
        Route("/schema.graphql", sdl),
        Route("/files/{token}", file),
        Route("/audit.jsonl", audit_export),
        *ScimRoutes(office).routes(),
        Route("/health/live", _live),
        Route("/health/ready", ready),
    ]
    if settings.door.metrics != "off":
        routes.append(Route("/metrics", Metrics(office).answer))
    if settings.signin.sessions:
        routes += session_routes(office)
    if settings.door.graphiql:
        page = [*graphiql_routes_before, *graphiql_routes(graphiql or GraphiQLConfig())]
        routes += [Mount("/graphiql", routes=page), Route("/", _to_graphiql)]
    return Gateway(office, routes, lifespan)


def _refused(refused: SignInRefused) -> Response:
    return JSONResponse({"message": str(refused), **refused.extensions}, refused.status, challenge(refused))


async def _live(request: Request) -> Response:
    return JSONResponse({"status": "live"})


async def _to_graphiql(request: Request) -> Response:
    return RedirectResponse("/graphiql/")


async def _file(office: Office, request: Request) -> Response:
    try:
        principal = await office.signin.principal(request.headers, route="/files", method=request.method)
    except SignInRefused as refused:
        return _refused(refused)
    what, touched = office.files.read(principal, request.path_params["token"]), Touched()
    coordinates = (FIELDS[what[0]],) if what else ()
    record = office.audit.record(AuditKind.FILE, principal, coordinates=coordinates)
    if what is None:
        office.audit.read(record, touched, NOT_THERE)
        return JSONResponse(
            {"message": "this link has expired or is not yours; ask the graph for a new one"}, 404
        )
    in_time, for_whom = terms(office.settings.door, principal, None, None)
    try:
        with (
            in_time,
            calling_for(*for_whom),
            office.audit.reading(record, touched) as reading,
        ):
            sources = await office.sources_for(principal, touched)
            found = await content(what, principal, office.schema.policy, sources)
            if found is None:
                reading.done = NOT_THERE
    except SourceError as error:
        log_sources([error])
        said = of_source(error)
        return JSONResponse({"message": said["message"], **said["extensions"]}, 503)
    if found is None:
        return JSONResponse({"message": "the file is not there any more"}, 404)
    return Response(
        found.body,
        headers={
            "Content-Type": media_type(found),
            # Whatever the file is, a browser must store it and never run it in the portal's origin.
            "Content-Disposition": disposition(found),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
            "Cache-Control": "private, no-store",
        },
    )
