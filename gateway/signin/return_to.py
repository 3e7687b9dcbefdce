"""Where a browser may be sent after signing in or out: to listed addresses and nowhere else."""

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urljoin, urlsplit

from gateway.signin.same_origin import origin_of

_PLAIN = re.compile(r"[!-~]+")
"""Visible ASCII. Browsers drop tabs and line breaks out of addresses, and so would turn one into another."""

_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)


class ReturnAddresses:
    """``allowed`` are addresses whose paths begin what is allowed; the gateway's own origin always is."""

    def __init__(self, own: str, allowed: Sequence[str]) -> None:
        self._own = origin_of(own) + "/"
        self._allowed = [self._own, *allowed]
        self.first = allowed[0] if allowed else self._own
        """Where one goes who did not say where."""

    def checked(self, address: str | None) -> str | None:
        """The whole address, or None for one that is not allowed. A path is one of the gateway's own origin."""
        if not address:
            return self.first
        if not _PLAIN.fullmatch(address) or "\\" in address or len(address) > 2000:
            return None
        if address.startswith("/") and not address.startswith("//"):
            address = urljoin(self._own, address)
        try:
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or "@" in parts.netloc or not parts.hostname:
                return None
            found = any(_within(parts, address, urlsplit(one)) for one in self._allowed)
        except ValueError:
            return None
        return address if found else None


def _within(parts: SplitResult, address: str, allowed: SplitResult) -> bool:
    if origin_of(address) != origin_of(allowed.geturl()) or _DOTS.search(parts.path):
        return False
    folder = allowed.path.rstrip("/")
    return parts.path == folder or parts.path.startswith(folder + "/") or not (folder or parts.path)
