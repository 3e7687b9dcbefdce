"""Whether a request with a cookie was made by a page that may: browsers say so, and other sites cannot make them lie.

A cookie comes along by itself, whoever made the request. So what may change something must come from an allowed origin and
carry JSON, which no form can send.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from gateway.signin.refused import SignInRefused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def require_own_page(headers: Headers, method: str, origins: Collection[str]) -> None:
    """Raises SignInRefused 403 for what a page of another origin may have sent."""
    # A socket begins with GET, and what comes through it afterwards is asked nothing any more.
    socket = "sec-websocket-version" in headers or headers.get("upgrade", "").lower() == "websocket"
    origin, site = headers.getlist("origin"), headers.get("sec-fetch-site")
    if method in SAFE and not socket:
        navigation = headers.get("sec-fetch-mode") == "navigate"
        if site in (None, "none", "same-origin") or navigation or _allowed(origin, origins):
            return
    elif _allowed(origin, origins) or (not origin and site == "same-origin"):
        if socket or headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            return
        raise SignInRefused("with a session cookie, send application/json", status=415, code="BAD_USER_INPUT")
    raise SignInRefused(
        "with a session cookie, requests must come from the gateway's own origin or a portal's"
        " (signin.sessions.portal_origins)",
        status=403,
        code="FORBIDDEN",
    )


def origin_of(address: str) -> str:
    """Scheme, host and port as browsers write them in ``Origin``."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host.encode("idna").decode()
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, default) else f":{parts.port}")


def _allowed(origin: list[str], origins: Collection[str]) -> bool:
    return len(origin) == 1 and origin[0] in origins
