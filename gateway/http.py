"""A request's headers and an answer, as /graphql reads and writes them: once, without what most requests do not need."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send


class RequestHeaders(Headers):
    """Starlette's, read in one pass: a request is asked for a dozen names, most of which it does not have, and each would
    be another pass."""

    def __init__(self, scope: Scope) -> None:
        # As Starlette's own would, which a request would pay a call for.
        self._list = scope["headers"]
        self._first: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        first = self._first
        for raw_name, raw_value in self._list:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if name in first:
                self._repeated.setdefault(name, [first[name]]).append(value)
            else:
                first[name] = value

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._first

    def get(self, key: str, default: Any = None) -> Any:
        """The first of this name."""
        return self._first.get(key.lower(), default)

    def getlist(self, key: str) -> list[str]:
        """All of this name, in their order."""
        name = key.lower()
        first = self._first.get(name)
        if first is None:
            return []
        return list(self._repeated[name]) if name in self._repeated else [first]


class Reply:
    """An ASGI application that gives one answer, whose body is there."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(
        self, status: int, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """``media_type`` is a text's, whose encoding is UTF-8."""
        self._status, self._body = status, body
        self._headers = [
            (b"content-type", f"{media_type}; charset=utf-8".encode("latin-1")),
            (b"content-length", b"%d" % len(body)),
        ]
        for name, value in (headers or {}).items():
            self._headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})
