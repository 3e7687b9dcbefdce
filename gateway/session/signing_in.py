"""A browser's way to the identity provider and back, at the end of which it has a session."""

import re
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlencode

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.office import Office
from gateway.session.page import page
from gateway.session.records import organisation_of, recorded
from gateway.signin.browser import BrowserSignIn
from gateway.signin.provider import PENDING_SECONDS
from gateway.signin.refused import SignInRefused
from gateway.signin.sessions import digest, new_secret
from sources.ports.audit import AuditKind
from sources.ports.errors import SourceError
from sources.ports.sessions import PendingSignIn
from sources.transport.deadline import deadline

CALLBACK_SECONDS = 20.0
"""For all calls to the provider and the ledger."""

_PROMPTS = frozenset({"none", "login", "consent", "select_account"})
_ACR_VALUES = re.compile(r"[!-~]+( [!-~]+)*")
_SAID = {
    "access_denied": "The sign-in was cancelled, or the identity provider does not let you in here.",
    "login_required": "You are not signed in at the identity provider.",
    "interaction_required": "The identity provider has a question for you.",
    "consent_required": "The identity provider needs your consent.",
    "account_selection_required": "The identity provider needs to know which of your accounts is meant.",
    "temporarily_unavailable": "The identity provider is not available now; try again later.",
    "unmet_authentication_requirements": "The identity provider cannot sign you in in the way that is demanded.",
}
"""The errors that a provider may send a person back with; of others nobody learns more than that."""

log = structlog.get_logger()


class SigningIn:
    """Two routes."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._sign_in = office.settings.door.public_url.rstrip("/") + "/session/sign-in"

    async def sign_in(self, request: Request) -> Response:
        """GET: off to the provider, with what the caller demands of the sign-in."""
        browsers, sent = self._browsers, request.query_params
        try:
            wishes = _wishes(sent)
        except ValueError as error:
            return _refused(str(error))
        return_to = browsers.addresses.checked(sent.get("return_to"))
        if return_to is None:
            return _refused("return_to is no address of the portal (signin.sessions.return_to).")
        provider = browsers.provider(sent.get("issuer"))
        if provider is None:
            if sent.get("issuer"):
                return _refused("issuer is none that people sign in with here.")
            return self._choice(sent)
        browser = browsers.browser.read(request.headers) or new_secret()
        held = browsers.sessions.cookie.read(request.headers)
        state, now = new_secret(), browsers.sessions.now
        pending = PendingSignIn(
            issuer=provider.name,
            nonce=new_secret(),
            code_verifier=new_secret(),
            return_to=return_to,
            expires_at=now + timedelta(seconds=PENDING_SECONDS),
            max_age=wishes.max_age,
            acr_values=wishes.acr_values,
            replaces=digest(held) if held else None,
        )
        try:
            with deadline(CALLBACK_SECONDS):
                address = await provider.address(state, pending, wishes.prompt)
                await self._office.ledger.sessions.begin(digest(state), digest(browser), pending)
        except (SignInRefused, SourceError) as error:
            return self._failed(error, return_to)
        response = RedirectResponse(
            address, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )
        # Kept when there was one: a sign-in in another tab stands beside this one.
        browsers.browser.set(response, browser, PENDING_SECONDS)
        return response

    async def callback(self, request: Request) -> Response:
        """GET: back from the provider. Whatever goes wrong is one line, and nothing of what the provider said."""
        browsers, sent = self._browsers, request.query_params
        if any(len(sent.getlist(name)) > 1 for name in ("state", "code", "iss", "error")):
            return _refused("The answer of the identity provider is not clear.")
        browser, state = browsers.browser.read(request.headers), sent.get("state")
        pending: PendingSignIn | None = None
        try:
            with deadline(CALLBACK_SECONDS):
                if browser and state:
                    pending = await self._office.ledger.sessions.take(
                        digest(state), digest(browser), browsers.sessions.now
                    )
                if pending is None:
                    return self._again(
                        "This sign-in has taken too long, is done already, or was begun in another browser."
                    )
                return await self._finish(request, pending, sent)
        except (SignInRefused, SourceError) as error:
            return self._failed(error, pending.return_to if pending else None)

    @property
    def _browsers(self) -> BrowserSignIn:
        return self._office.browsers

    async def _finish(self, request: Request, pending: PendingSignIn, sent: Mapping[str, str]) -> Response:
        browsers = self._browsers
        provider = browsers.provider(pending.issuer)
        if provider is None:
            return self._again("People do not sign in with this identity provider any more.")
        await provider.require_own_answer(sent.get("iss"))
        if "error" in sent:
            log.info("signin_provider_said_no", issuer=provider.name, known=sent["error"] in _SAID)
            return self._again(
                _SAID.get(sent["error"], "The identity provider could not sign you in."), pending.return_to
            )
        if not sent.get("code"):
            return self._again("The identity provider gave no answer.", pending.return_to)
        person = await provider.signed_in(sent["code"], pending)
        held = browsers.sessions.cookie.read(request.headers)
        replaces = list(filter(None, {pending.replaces, digest(held) if held else None}))
        session = browsers.sessions.new(person)
        # Who may not come in at all learns it here, and gets no session.
        organisation = await organisation_of(self._office, person.proof)
        async with recorded(self._office, AuditKind.SIGN_IN, session, organisation=organisation):
            secret = await browsers.sessions.begin(session, person, replaces)
        response = RedirectResponse(
            pending.return_to, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )
        seconds = (session.ends_at - session.created_at).total_seconds()
        browsers.sessions.cookie.set(response, secret, int(seconds))
        return response

    def _choice(self, sent: Mapping[str, str]) -> Response:
        """Several providers: a person picks."""
        providers = self._browsers.providers
        links = [
            (f"{self._sign_in}?{urlencode({**sent, 'issuer': one.name})}", one.name) for one in providers
        ]
        return page("Sign in", "Where do you sign in?", links)

    def _again(self, line: str, return_to: str | None = None, status: int = 403) -> Response:
        query = f"?{urlencode({'return_to': return_to})}" if return_to else ""
        return page("You are not signed in", line, [(self._sign_in + query, "Sign in again")], status)

    def _failed(self, error: SignInRefused | SourceError, return_to: str | None) -> Response:
        if isinstance(error, SourceError):
            log.warning("signin_ledger_failed", reason=type(error).__name__)
            return self._again("Signing in is not possible now; try again in a moment.", return_to, 503)
        line = str(error)
        status = error.status if error.status >= 500 else 403
        return self._again(line[:1].upper() + line[1:] + ".", return_to, status)


class _Wishes(msgspec.Struct, frozen=True):
    """What is demanded of the sign-in."""

    max_age: int | None
    acr_values: str | None
    prompt: str | None


def _wishes(sent: Mapping[str, str]) -> _Wishes:
    """Raises ValueError with what is wrong."""
    max_age, acr_values, prompt = sent.get("max_age"), sent.get("acr_values"), sent.get("prompt")
    if max_age and not re.fullmatch(r"[0-9]{1,9}", max_age, re.ASCII):
        raise ValueError("max_age is no number of seconds.")
    if acr_values and not (len(acr_values) <= 500 and _ACR_VALUES.fullmatch(acr_values)):
        raise ValueError("acr_values are names with one space between.")
    words = set(prompt.split(" ")) if prompt else set()
    if not words <= _PROMPTS or ("none" in words and len(words) > 1):
        raise ValueError(f"prompt is none, or some of {', '.join(sorted(_PROMPTS - {'none'}))}.")
    return _Wishes(int(max_age) if max_age else None, acr_values or None, prompt or None)


def _refused(line: str) -> Response:
    return page("This address does not work", line[:1].upper() + line[1:], status=400)
