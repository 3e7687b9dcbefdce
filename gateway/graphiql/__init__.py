"""The developer's page: GraphiQL as built into dist/, and the configuration it fetches."""

import os
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

DIST: Final = Path(__file__).parent / "dist"

SECURITY: Final = {
    # The editor writes its styles inline and has pictures as data:. Everything else comes from this origin.
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
CHECKED: Final = SECURITY | {"Cache-Control": "no-cache"}
HASHED: Final = SECURITY | {"Cache-Control": "public, max-age=31536000, immutable"}

# Written down because the machine's own table may lack some (a slim container has no font/ttf).
CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
}


class Persona(msgspec.Struct, frozen=True):
    """Somebody of the demo as whom the page can sign in."""

    id: str
    label: str
    description: str = ""


class SampleQuery(msgspec.Struct, frozen=True):
    """A query that opens as a tab; `variables` is JSON text."""

    name: str
    query: str
    variables: str = ""


class GraphiQLConfig(msgspec.Struct, frozen=True, rename="camel"):
    """What the page fetches as config.json. Everybody who can open the page reads it: no secrets."""

    endpoint: str = "/graphql"
    title: str = "Back-office gateway"
    personas: tuple[Persona, ...] = ()
    """Empty outside the demo: then the page asks for a bearer token."""
    token_url: str = "/graphiql/token"  # noqa: S105 (an address, not a token)
    """Takes {"persona": id}, gives {"accessToken", "expiresIn"}; only called when there are personas."""
    queries: tuple[SampleQuery, ...] = ()


def routes(config: GraphiQLConfig) -> list[BaseRoute]:
    """To be mounted at a path that ends without a slash: Mount("/graphiql", routes=routes(config))."""
    encoded = msgspec.json.encode(config)

    async def page(request: Request) -> Response:
        return _file(DIST / "index.html")

    async def icon(request: Request) -> Response:
        return _file(DIST / "icon.svg")

    async def configuration(request: Request) -> Response:
        return Response(encoded, media_type="application/json", headers=CHECKED)

    return [
        Route("/", page),
        Route("/icon.svg", icon),
        Route("/config.json", configuration),
        Mount("/assets", _Assets(directory=DIST / "assets")),
    ]


class _Assets(StaticFiles):
    """Files whose names carry a hash of their content: kept by browsers for good."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HASHED)
        response.headers["Content-Type"] = CONTENT_TYPES[Path(full_path).suffix]
        return response


def _file(path: Path) -> Response:
    return FileResponse(path, headers=CHECKED, media_type=CONTENT_TYPES[path.suffix])
