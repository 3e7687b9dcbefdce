"""What somebody reads who is not let in."""


class SignInRefused(Exception):
    """The request is not let in. ``status`` 401: who are you; 403: not for this organisation; 503: cannot tell."""

    def __init__(self, message: str, *, status: int = 401, code: str = "UNAUTHENTICATED") -> None:
        super().__init__(message)
        self.status, self.code = status, code


def challenge(refused: SignInRefused) -> dict[str, str]:
    """The header that an answer with status 401 owes its client."""
    return {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
