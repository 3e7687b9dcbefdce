"""The provider's word that somebody has signed out there: by the browser, or straight to the gateway."""

from urllib.parse import parse_qsl

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.office import Office
from gateway.session.records import recorded
from gateway.session.signed_in import read_body
from gateway.signin.browser import BrowserSignIn
from gateway.signin.logout import logout_of
from gateway.signin.provider import TOKEN_BYTES
from gateway.signin.refused import SignInRefused
from gateway.signin.same_origin import origin_of
from gateway.signin.tokens import segment
from sources.ports.audit import AuditKind
from sources.ports.errors import SourceError
from sources.ports.sessions import Replayed
from sources.transport.deadline import deadline

_UNSTORED = {"Cache-Control": "no-store"}

log = structlog.get_logger()


class ProviderLogout:
    """Two routes."""

    def __init__(self, office: Office) -> None:
        self._office = office

    @property
    def _browsers(self) -> BrowserSignIn:
        return self._office.browsers

    async def back_channel(self, request: Request) -> Response:
        """POST logout_token=...: verified whole, taken once. 400 for any that is not believed."""
        try:
            with deadline(self._office.settings.door.deadline):
                sent = dict(parse_qsl((await read_body(request, TOKEN_BYTES)).decode("ascii", "replace")))
                token = sent.get("logout_token", "")
                iss = (segment(token.split(".")[1]) or {}).get("iss") if token.count(".") == 2 else None
                provider = self._browsers.provider(iss) if isinstance(iss, str) and iss else None
                if provider is None:
                    raise SignInRefused("this is no logout token of a known issuer", status=400)
                logout = await logout_of(provider, token, self._browsers.sessions.now)
                async with recorded(self._office, AuditKind.SIGN_OUT, logout, name="back-channel"):
                    ended = await self._office.ledger.sessions.sign_out(logout)
        except Replayed:
            return _refusal("invalid_request", "this logout token has been used", 400)
        except SignInRefused as refused:
            return _refusal("invalid_request", str(refused), 503 if refused.status == 503 else 400)
        except SourceError:
            # So that the provider tries again.
            return _refusal("server_error", "sessions cannot be ended now; try again", 503)
        log.info("session_ended_by_provider", ended=ended)
        return Response(status_code=200, headers=_UNSTORED)

    async def front_channel(self, request: Request) -> Response:
        """GET ?iss=&sid=, in a frame of the provider's page. The cookie does not come along there: ``sid`` says which."""
        iss, sid = request.query_params.get("iss"), request.query_params.get("sid")
        provider = self._browsers.provider(iss) if iss else None
        name = provider.known_as(iss) if provider and iss else None
        if not iss or not sid or name is None:
            return _framed("This address needs iss, of a known issuer, and sid.", None, 400)
        try:
            with deadline(self._office.settings.door.deadline):
                ended = await self._office.ledger.sessions.sign_out_of(name, sid)
        except SourceError:
            return _framed("Sessions cannot be ended now.", iss, 503)
        log.info("session_ended_by_provider", ended=ended)
        return _framed("You are signed out.", iss, 200)


def _framed(line: str, iss: str | None, status: int) -> Response:
    """Whatever ``sid`` was, the answer is the same. Only the provider may show it in a frame."""
    ancestors = origin_of(iss) if iss else "'none'"
    headers = {**_UNSTORED, "Content-Security-Policy": f"default-src 'none'; frame-ancestors {ancestors}"}
    return HTMLResponse(
        f'<!DOCTYPE html><html lang="en"><title>Sign out</title><p>{line}</p></html>', status, headers
    )


def _refusal(error: str, description: str, status: int) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status, _UNSTORED)
