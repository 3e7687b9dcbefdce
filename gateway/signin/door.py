"""The one place where a request is let in: picks the way in which its caller signs in, and asks for what they are here."""

from typing import Protocol

from starlette.datastructures import Headers

from gateway.http import RequestHeaders
from gateway.signin.demands import Demands
from gateway.signin.introspection import Introspection
from gateway.signin.issuers import Issuers
from gateway.signin.proof import Proof
from gateway.signin.refused import NothingShown, SignInRefused
from gateway.signin.settings import SignInSettings
from gateway.signin.standing import Standing
from gateway.signin.tokens import MAX_TOKEN_BYTES, Tokens, segment
from gateway.signin.viewing import HEADER as VIEW_AS
from gateway.signin.viewing import Viewing
from permissions.principal import Principal
from permissions.roles import Roles
from sources.ports.members import MemberStore, OrganisationStore
from sources.ports.viewings import ViewingStore

_VIEW_AS = VIEW_AS.encode()


class Keys(Protocol):
    """API keys of service accounts."""

    async def proof(self, secret: str) -> Proof | None:
        """None when it does not look like a key of ours. Raises SignInRefused for one that is not believed."""


class Sessions(Protocol):
    """Browser sessions."""

    async def proof(self, headers: Headers, *, method: str, use: bool) -> Proof | None:
        """None when the request carries no session cookie. Raises SignInRefused for one that is not believed, and for a
        request that another site may have made. ``use``: keeps the session alive."""


class SignIn:
    """Signs requests in. ``sessions`` and ``api_keys`` are None where there are none."""

    def __init__(
        self,
        settings: SignInSettings,
        roles: Roles,
        *,
        organisations: OrganisationStore,
        members: MemberStore,
        viewings: ViewingStore,
        sessions: Sessions | None = None,
        api_keys: Keys | None = None,
    ) -> None:
        self.issuers = Issuers(settings.issuers)
        self.demands = Demands(settings.demands, roles)
        self._tokens = Tokens(self.issuers)
        self._introspection = Introspection(self.issuers)
        self.standing = Standing(settings, self.issuers, roles, organisations, members)
        self._viewing = Viewing(viewings, members, roles)
        self._sessions, self._api_keys = sessions, api_keys

    def known(self, headers: RequestHeaders, method: str) -> Principal | None:
        """What ``principal`` would give for a request to /graphql, where its token and all that follows from it are
        remembered: of most requests, which then wait for nothing. None says nothing of the caller. Raises SignInRefused."""
        first = headers.first
        sent = first.get(b"authorization")
        if sent is None or not sent.startswith(b"Bearer ") or not headers.once or _VIEW_AS in first:
            return None
        proof = self._tokens.known(sent[7:])
        if proof is None:
            return None
        wanted = first.get(b"x-organisation")
        principal = self.standing.known(proof, None if wanted is None else wanted.decode("latin-1").strip())
        if principal is not None and self.demands.of_requests:
            self.demands.check(principal, "/graphql", method)
        return principal

    async def principal(
        self, headers: Headers, *, route: str = "/graphql", method: str = "POST", use: bool = True
    ) -> Principal:
        """The caller; ``route`` is the beginning of the path as the application knows it. ``use``: does the caller do
        something, or are they only looked up again? Raises SignInRefused with what is wrong; never says more about a
        credential than its holder knows."""
        wanted = headers.getlist("x-organisation")
        if len(wanted) > 1:
            raise SignInRefused("several X-Organisation headers; send one", status=400, code="BAD_USER_INPUT")
        proof = await self._proof(headers, method, use)
        principal = await self.standing.principal(proof, wanted[0].strip() if wanted else None)
        self.demands.check(principal, route, method)
        viewings = headers.getlist(VIEW_AS)
        if len(viewings) > 1:
            raise SignInRefused("several X-View-As headers; send one", status=400, code="BAD_USER_INPUT")
        return await self._viewing.principal(principal, viewings[0].strip()) if viewings else principal

    async def close(self) -> None:
        """Ends what is under way."""
        await self._introspection.close()

    async def _proof(self, headers: Headers, method: str, use: bool) -> Proof:
        sent = headers.getlist("authorization")
        if len(sent) > 1:
            # A proxy in front may have believed the other one.
            raise SignInRefused("several Authorization headers; send one", error="invalid_request")
        if not sent and self._sessions is not None:
            proof = await self._sessions.proof(headers, method=method, use=use)
            if proof is not None:
                return proof
        scheme, _, token = (sent[0] if sent else "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            refused = SignInRefused if sent else NothingShown
            raise refused("a bearer token is needed: Authorization: Bearer <token>", error=None)
        if len(token) > MAX_TOKEN_BYTES:
            raise SignInRefused("the token is too large")
        if self._api_keys is not None:
            proof = await self._api_keys.proof(token)
            if proof is not None:
                return proof
        return await self._bearer(token)

    async def _bearer(self, token: str) -> Proof:
        # Whatever begins as a JWT does goes to no issuer: it may be another's.
        if not token.startswith("ey") and segment(token.partition(".")[0]) is None:
            proof = await self._introspection.proof(token)
            if proof is not None:
                return proof
        return await self._tokens.proof(token)
