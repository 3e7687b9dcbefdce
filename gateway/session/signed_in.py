"""What somebody with a session sees and decides of it, over JSON: who they are, for whom they act, and that they go."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.office import Office
from gateway.session.records import organisation_of, recorded
from gateway.signin.browser import BrowserSignIn
from gateway.signin.refused import SignInRefused, challenge
from gateway.signin.same_origin import require_own_page
from sources.ports.audit import AuditKind
from sources.ports.errors import SourceError
from sources.ports.sessions import SessionRecord
from sources.transport.deadline import deadline

MAX_BODY_BYTES = 16_384
OWN = {"Cache-Control": "no-store", "Vary": "Cookie, Origin", "X-Content-Type-Options": "nosniff"}


class _Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    organisation: str | None


class _Leaving(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    return_to: str | None = None


class SignedIn:
    """Three routes."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def session(self, request: Request) -> Response:
        """GET: who is signed in. Asking does not keep the session alive."""
        try:
            with deadline(self._office.settings.door.deadline):
                _, session = await self._required(request, use=False)
                return JSONResponse(await self._described(session), headers=OWN)
        except (SignInRefused, SourceError) as error:
            return refusal(error)

    async def organisation(self, request: Request) -> Response:
        """POST {"organisation": id}: for whom the session acts from now on; null takes the choice back."""
        try:
            with deadline(self._office.settings.door.deadline):
                secret, session = await self._required(request)
                choice = msgspec.json.decode(await read_body(request), type=_Choice)
                if choice.organisation is not None:
                    # Raises unless it is one of theirs.
                    await self._office.signin.standing.principal(
                        self._browsers.sessions.proof_of(session), choice.organisation
                    )
                await self._browsers.sessions.choose(session, choice.organisation)
                chosen = await self._browsers.sessions.find(secret)
                if chosen is None:
                    raise SignInRefused("the session is over; sign in again")
                return JSONResponse(await self._described(chosen), headers=OWN)
        except msgspec.DecodeError as error:
            return refusal(
                SignInRefused(f"the request does not fit: {error}", status=400, code="BAD_USER_INPUT")
            )
        except (SignInRefused, SourceError) as error:
            return refusal(error)

    async def sign_out(self, request: Request) -> Response:
        """POST {"returnTo": address}: ends the session here and says where to go to end the provider's, too."""
        browsers = self._browsers
        try:
            with deadline(self._office.settings.door.deadline):
                require_own_page(request.headers, request.method, browsers.sessions.origins)
                leaving = msgspec.json.decode(await read_body(request) or b"{}", type=_Leaving)
                return_to = browsers.addresses.checked(leaving.return_to)
                if return_to is None:
                    raise SignInRefused(
                        "returnTo is no address of the portal (signin.sessions.return_to)",
                        status=400,
                        code="BAD_USER_INPUT",
                    )
                response = JSONResponse(
                    {"endSessionUrl": await self._end(request, return_to), "returnTo": return_to}, headers=OWN
                )
        except msgspec.DecodeError as error:
            return refusal(
                SignInRefused(f"the request does not fit: {error}", status=400, code="BAD_USER_INPUT")
            )
        except (SignInRefused, SourceError) as error:
            return refusal(error)
        browsers.sessions.cookie.clear(response)
        return response

    @property
    def _browsers(self) -> BrowserSignIn:
        return self._office.browsers

    async def _end(self, request: Request, return_to: str) -> str | None:
        browsers = self._browsers
        secret = browsers.sessions.cookie.read(request.headers)
        session = await browsers.sessions.find(secret, use=False) if secret else None
        if not secret or session is None:
            return None
        try:
            organisation = await organisation_of(self._office, browsers.sessions.proof_of(session))
        except SignInRefused:
            # Whoever may not come in any more may go.
            organisation = session.organisation
        async with recorded(self._office, AuditKind.SIGN_OUT, session, organisation=organisation):
            ended = await browsers.sessions.end(secret)
        provider = browsers.provider(session.issuer)
        if ended is None or provider is None:
            return None
        return await provider.end_session(ended.id_token, return_to)

    async def _required(self, request: Request, use: bool = True) -> tuple[str, SessionRecord]:
        """The cookie's secret and its session. Raises SignInRefused."""
        sessions = self._browsers.sessions
        secret = sessions.cookie.read(request.headers)
        if secret is None:
            raise SignInRefused("nobody is signed in with this browser")
        require_own_page(request.headers, request.method, sessions.origins)
        session = await sessions.find(secret, use=use)
        if session is None:
            raise SignInRefused("the session is over; sign in again")
        return secret, session

    async def _described(self, session: SessionRecord) -> dict[str, Any]:
        """For the portal's own page. Names nobody's but the caller's organisations."""
        proof = self._browsers.sessions.proof_of(session)
        standing = await self._office.signin.standing.organisations(proof)
        known = await self._office.ledger.organisations.organisations(standing)
        names = {one.id: one.name for one in known if one}
        return {
            "id": session.id,
            "issuer": session.issuer,
            "subject": session.subject,
            "name": proof.name,
            "email": proof.email,
            "organisation": session.organisation,
            "organisations": [{"id": id, "name": names.get(id)} for id in standing],
            "acr": proof.acr,
            "amr": proof.amr,
            "authenticatedAt": _moment(proof.authenticated_at),
            "createdAt": session.created_at.isoformat(),
            "idleExpiresAt": self._browsers.sessions.idle_end(session).isoformat(),
            "expiresAt": session.ends_at.isoformat(),
        }


def refusal(error: SignInRefused | SourceError) -> Response:
    """As JSON, like the door's own."""
    if isinstance(error, SourceError):
        error = SignInRefused(
            "sessions cannot be changed now; try again", status=503, code="SOURCE_UNAVAILABLE"
        )
    return JSONResponse(
        {"message": str(error), "code": error.code}, error.status, {**OWN, **challenge(error)}
    )


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Raises SignInRefused 413 for more bytes than that."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise SignInRefused("the request is too large", status=413, code="LIMIT_EXCEEDED")
    return body
