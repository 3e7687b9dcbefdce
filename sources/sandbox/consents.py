"""The consent page that emulators share: OAuth's code flow with PKCE, at which somebody consents at once."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response


class Consents:
    """Of one client. A code works once, for who began."""

    def __init__(self, client_id: str, scopes: Sequence[str]) -> None:
        self._client_id, self._scopes = client_id, frozenset(scopes)
        self._given: dict[str, tuple[str, str | None]] = {}

    async def page(self, request: Request) -> Response:
        """Nobody is there to click."""
        asked = request.query_params
        target, wanted = asked.get("redirect_uri"), frozenset(asked.get("scope", "").split())
        known = asked.get("client_id") == self._client_id and asked.get("response_type") == "code"
        if not known or not target or not wanted or not wanted <= self._scopes:
            return PlainTextResponse("this app, its redirect address or its scopes are not known here", 400)
        code = secrets.token_urlsafe(16)
        self._given[code] = target, asked.get("code_challenge")
        return RedirectResponse(f"{target}?{urlencode({'code': code, 'state': asked.get('state', '')})}", 302)

    def redeem(self, form: Mapping[str, Any]) -> bool:
        """Does the token request show a code that was given, to where it was sent and by who asked for it?"""
        target, challenge = self._given.pop(form.get("code", ""), (None, None))
        if target is None or form.get("redirect_uri") != target:
            return False
        digest = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        return challenge is None or challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")
