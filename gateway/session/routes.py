"""All routes under /session/, and which other origins may call the gateway with a session."""

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.office import Office
from gateway.session.provider_logout import ProviderLogout
from gateway.session.signed_in import SignedIn
from gateway.session.signing_in import SigningIn
from gateway.signin.session_settings import SessionSettings


def routes(office: Office) -> list[BaseRoute]:
    """Of an office that has ``browsers`` once it is open."""
    coming, here, told = SigningIn(office), SignedIn(office), ProviderLogout(office)
    return [
        Route("/session", here.session, methods=["GET"]),
        Route("/session/sign-in", coming.sign_in, methods=["GET"]),
        Route("/session/callback", coming.callback, methods=["GET"]),
        Route("/session/organisation", here.organisation, methods=["POST"]),
        Route("/session/sign-out", here.sign_out, methods=["POST"]),
        Route("/session/front-channel-logout", told.front_channel, methods=["GET"]),
        Route("/session/back-channel-logout", told.back_channel, methods=["POST"]),
    ]


def allow_portals(app: ASGIApp, settings: SessionSettings) -> ASGIApp:
    """Lets the pages of the portal's origins read answers; nobody's where there are none."""
    if not settings.portal_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(settings.portal_origins),
        allow_credentials=True,
        allow_methods=["GET", "POST"],
        allow_headers=["Accept", "Authorization", "Content-Type", "X-Organisation", "X-View-As"],
        expose_headers=["X-Request-Id", "WWW-Authenticate", "Retry-After"],
        max_age=600,
    )
