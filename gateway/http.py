"""A request's headers and an answer, as /graphql reads and writes them: without what most requests do not need."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

Header = tuple[bytes, bytes]


@lru_cache(maxsize=256)
def _raw(name: str) -> bytes:
    return name.lower().encode("latin-1")


@lru_cache(maxsize=16)
def _content_type(media_type: str) -> Header:
    return b"content-type", f"{media_type}; charset=utf-8".encode("latin-1")


class RequestHeaders(Headers):
    """Starlette's, which looks through all of them for each name. A request is asked for a dozen, most of which it does
    not have."""

    def __init__(self, scope: Scope) -> None:
        # As Starlette's own would, which a request would pay a call for.
        self._list = scope["headers"]
        self.first: dict[bytes, bytes] = dict(reversed(self._list))
        """By name, in lower case."""
        self.once = len(self.first) == len(self._list)
        """Does no name come twice?"""

    def __getitem__(self, key: str) -> str:
        return self.first[_raw(key)].decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _raw(key) in self.first

    def get(self, key: str, default: Any = None) -> Any:
        """The first of this name."""
        first = self.first.get(_raw(key))
        return default if first is None else first.decode("latin-1")

    def getlist(self, key: str) -> list[str]:
        """All of this name, in their order."""
        name = _raw(key)
        if name not in self.first:
            return []
        if self.once:
            return [self.first[name].decode("latin-1")]
        return super().getlist(key)


class Reply(msgspec.Struct, frozen=True):
    """One answer, whose body is there; an ASGI application that gives it."""

    status: int
    headers: list[Header]
    body: bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def reply(status: int, body: bytes, media_type: str, *headers: Header) -> Reply:
    """``media_type`` is a text's, whose encoding is UTF-8."""
    length = b"content-length", b"%d" % len(body)
    return Reply(status, [_content_type(media_type), length, *headers], body)


def raw(headers: Mapping[str, str]) -> list[Header]:
    """As they are sent."""
    return [(_raw(name), value.encode("latin-1")) for name, value in headers.items()]
