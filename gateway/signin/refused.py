"""What somebody reads who is not let in."""

from collections.abc import Mapping
from typing import Any


class SignInRefused(Exception):
    """The request is not let in. ``status`` 401: who are you; 403: not for this organisation; 503: cannot tell.

    ``error`` is RFC 6750's word for what is wrong with what was sent, None where nothing was; ``wanted`` are parameters that
    tell a client how to sign in so that it is let in.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 401,
        code: str = "UNAUTHENTICATED",
        error: str | None = "invalid_token",
        wanted: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.error, self.wanted = status, code, error, wanted or {}

    @property
    def extensions(self) -> dict[str, Any]:
        """Of an error in an answer; ``signIn`` holds what to ask the issuer for."""
        return {"code": self.code, "signIn": dict(self.wanted)} if self.wanted else {"code": self.code}


class NothingShown(SignInRefused):
    """No credentials at all came with the request, not even wrong ones."""


def challenge(refused: SignInRefused) -> dict[str, str]:
    """The header that an answer with status 401 owes its client (RFC 6750, 3; RFC 9470, 3)."""
    if refused.status != 401:
        return {}
    if refused.error is None:
        return {"WWW-Authenticate": "Bearer"}
    said = {"error": refused.error, "error_description": str(refused), **refused.wanted}
    return {"WWW-Authenticate": "Bearer " + ", ".join(f'{name}="{_plain(said[name])}"' for name in said)}


def _plain(text: str) -> str:
    """What a quoted string may hold."""
    return "".join(one for one in text if " " <= one <= "~" and one not in '"\\')
