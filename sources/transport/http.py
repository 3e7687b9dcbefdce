"""The one HTTP client that connectors use: authorised, bounded in time and size, within the source's traffic rules."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from sources.ports.errors import (
    UNREADABLE,
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.trace import here
from sources.transport.addresses import AddressNotAllowed
from sources.transport.connections import BrokenOff, Connections, NotReached, TooLarge
from sources.transport.deadline import in_time
from sources.transport.limits import LONGEST_SECONDS
from sources.transport.quoting import quoting
from sources.transport.rows import Pages
from sources.transport.seen import SeenCall
from sources.transport.traffic import Passage, Traffic, UnderWay
from sources.transport.unpacking import ACCEPTED, unpacked

T = TypeVar("T")

MAX_BODY_BYTES = 40 * 1024 * 1024
"""A larger answer is refused, counted as it is unpacked."""

TELLING_SECONDS = 1.0
"""Silence counts against a source when it had at least this long to answer: a caller in a hurry says nothing about it."""

_UNPACKED_AT_ONCE = 16 * 1024
"""Bytes whose unpacking everybody else may wait for."""

SAFE_METHODS = frozenset({"GET", "HEAD"})

Params = Sequence[tuple[str, str]]

_SECONDS = re.compile(r"\s*-?[0-9]{1,18}(\.[0-9]{1,18})?\s*").fullmatch

in_query = quoting(",:@/")
"""A value as it is written in a query. Commas stay as they are: lists of ids would double in length."""

_name = lru_cache(quoting("[]"))  # there are few


class Request(msgspec.Struct):
    """A request about to leave. ``Auth`` may add headers; the URL is final."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes = b""
    once: bool = False
    """Must never reach the vendor twice?"""


class Answer(msgspec.Struct, frozen=True):
    """What the vendor said. Headers are asked for in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    under_way: UnderWay | None = None
    """The call that it came by."""

    def unreadable(self) -> None:
        """The body turned out not to be of the vendor's form at all, as a page about maintenance is not: that counts against the
        vendor."""
        if self.under_way is not None:
            self.under_way.answered_nothing()


class Auth(Protocol):
    """How a connection proves who it is."""

    def authorise(self, request: Request) -> Awaitable[None] | None:
        """Adds what the vendor asks for: at once, or by what it gives. Raises SourceRejected when there is nothing valid to
        add."""

    async def renew(self, request: Request) -> bool:
        """After a 401 to ``request``: was a fresh credential obtained, so that one more try makes sense?"""


class NoAuth:
    """For hosts that ask for nothing."""

    def authorise(self, request: Request) -> None:
        return None

    async def renew(self, request: Request) -> bool:
        return False


class HeaderAuth:
    """A fixed ``Authorization`` value: a static bearer token or a basic credential."""

    def __init__(self, value: str) -> None:
        self._value = value

    def authorise(self, request: Request) -> None:
        request.headers["Authorization"] = self._value

    async def renew(self, request: Request) -> bool:
        return False


class HttpClient:
    """Calls one source. Raises SourceError; never follows a redirect; never leaves ``base_url``'s host.

    ``explain`` turns a vendor's error answer into a SourceError, or gives None to leave it to the status alone.
    """

    def __init__(
        self,
        source: str,
        base_url: str,
        *,
        auth: Auth,
        traffic: Traffic,
        explain: Callable[[Answer], SourceError | None] = lambda answer: None,
        headers: Mapping[str, str] | None = None,
        traced: bool = True,
    ) -> None:
        """Makes no call. Raises SourceRejected for a base URL whose host is an address that may not be called. Not
        ``traced``: a host that is not the vendor's own, and is told of no trace."""
        self.source = source
        self.base_url = base_url.rstrip("/")
        self._auth = auth
        self._traffic = traffic
        self._explain = explain
        self._headers = {"Accept-Encoding": ACCEPTED, **(headers or {})}
        self._headers_of_json = {**self._headers, "Content-Type": "application/json"}
        self._traced = traced
        self._connections: Connections | None = None
        self._scheme, self._host, root, *_ = urlsplit(self.base_url)
        self._origin = f"{self._scheme}://{self._host}"
        self._start = self._origin + root
        if not traffic.addresses.allow_url(self.base_url):
            raise self._private()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        expect: Sequence[int] = (200,),
        endpoint: str = "",
        idempotent: bool = False,
        route: str = "",
    ) -> Answer:
        """One call to ``base_url + path``. Statuses in ``expect`` are returned, all others raised as SourceError.

        ``path`` may also be an absolute URL on the base URL's own host (a vendor's "next" link). ``endpoint``: the class
        that has its own limits and its own breaker. ``idempotent``: may be repeated although the method does not say so, as
        reading by POST may; GET and HEAD always may. ``route``: what a trace may say of the path, with ``{id}`` in an
        id's place.
        """
        repeatable = idempotent or method in SAFE_METHODS
        given, body = self._headers, b""
        if json is not None:
            given, body = self._headers_of_json, msgspec.json.encode(json)
        if headers:
            given = {**given, **headers}
        request = Request(method, self._url(path, params), given, body, not repeatable)
        passage = self._traffic.passage(endpoint)
        seen = None if here() is None else SeenCall(self.source, self.base_url, route, endpoint, self._traced)
        try:
            return await self._attempt(request, passage, expect, seen)
        except SourceError as error:
            if not repeatable:
                raise
            return await self._traffic.again(error, partial(self._attempt, request, passage, expect, seen))

    async def close(self) -> None:
        """Closes kept-alive connections."""
        if self._connections is not None:
            await self._connections.close()
            self._connections = None

    def decode(self, answer: Answer, decoder: "msgspec.json.Decoder[T]") -> T:
        """The body as the decoder's type. Raises SourceBadResponse when it does not fit."""
        try:
            return decoder.decode(answer.body)
        except UNREADABLE as error:
            raise self._unfit(answer, error) from error

    def page(self, answer: Answer, pages: Pages[T]) -> tuple[T, int]:
        """A page of rows without those that do not fit, each once, and how many were dropped. Raises SourceBadResponse
        when the page does not fit, or none of its rows."""
        try:
            return pages.read(answer.body, self.drop)
        except UNREADABLE as error:
            raise self._unfit(answer, error) from error

    def drop(self, kind: str, record_id: str | None) -> None:
        """Counts and logs a row that does not fit, for answers that are not read by ``page``."""
        self._traffic.drops.record(self.source, kind, record_id)

    def unexpected(self, error: Exception) -> SourceBadResponse:
        """What an answer that could not be decoded means."""
        # msgspec's message names the place and the type, never a value.
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "not valid JSON"
        return SourceBadResponse(self.source, f"unexpected answer: {reason}")

    def _unfit(self, answer: Answer, error: Exception) -> SourceBadResponse:
        # One whose JSON has another form than the vendor's description is an answer: it is there, and works.
        if not isinstance(error, msgspec.ValidationError):
            answer.unreadable()
        return self.unexpected(error)

    async def _attempt(
        self, unsigned: Request, passage: Passage, expect: Sequence[int], seen: SeenCall | None
    ) -> Answer:
        renewed = False
        while True:
            request = Request(
                unsigned.method, unsigned.url, unsigned.headers.copy(), unsigned.body, unsigned.once
            )
            if (waiting := self._auth.authorise(request)) is not None:
                await waiting
            with passage.at_once() or await passage.enter() as under_way:
                if seen is None:
                    answer = await self._send(request, under_way)
                else:
                    answer = await seen.watched(request, partial(self._send, request, under_way))
                error = None
                if answer.status not in expect:
                    error = self._explain(answer) or self._by_status(answer)
                under_way.answered(answer, error)
            if error is None:
                return answer
            if seen is not None:
                seen.failed(error)
            if answer.status != 401 or renewed or not await self._auth.renew(request):
                raise error
            renewed = True

    async def _send(self, request: Request, under_way: UnderWay) -> Answer:
        try:
            with in_time():
                if self._connections is None:
                    self._connections = Connections(self._origin, self._traffic.addresses, MAX_BODY_BYTES)
                status, headers, body = await self._connections.exchange(
                    request.method,
                    request.url,
                    request.headers,
                    request.body,
                    anew=request.once,
                )
                if "content-encoding" in headers:
                    body = await self._unpacked(body, headers["content-encoding"])
                return Answer(status, headers, body, under_way)
        except TimeoutError as error:
            if under_way.seconds >= TELLING_SECONDS:
                under_way.let_down()
            raise SourceTimeout(self.source, "no answer before the deadline") from error
        except BrokenOff as error:
            under_way.let_down()
            raise SourceBadResponse(self.source, "the answer broke off or could not be decoded") from error
        except TooLarge:
            raise self._too_large() from None
        except AddressNotAllowed as error:
            raise self._private() from error
        except ValueError as error:  # a secret that was pasted with its line break, say
            raise SourceRejected(
                self.source, "a header or an address cannot be sent; check the source's settings"
            ) from error
        except NotReached as error:
            under_way.let_down()
            raise SourceUnavailable(self.source, f"could not be reached ({error})") from error

    async def _unpacked(self, body: bytes, packing: str) -> bytes:
        if len(body) < _UNPACKED_AT_ONCE:
            return unpacked(body, packing, MAX_BODY_BYTES)
        return await asyncio.to_thread(unpacked, body, packing, MAX_BODY_BYTES)

    def _too_large(self) -> SourceBadResponse:
        return SourceBadResponse(self.source, f"answer larger than {MAX_BODY_BYTES >> 20} MB")

    def _url(self, path: str, params: Params) -> str:
        url = self._following(path) if path.startswith(("http://", "https://")) else self._start + path
        if not params:
            return url
        query = "&".join([f"{_name(name)}={in_query(value)}" for name, value in params])
        return f"{url}{'&' if '?' in url else '?'}{query}"

    def _following(self, link: str) -> str:
        scheme, host, path, query, _ = urlsplit(link)
        if (scheme, host) != (self._scheme, self._host):
            raise SourceBadResponse(self.source, "a next link points to another host; it was not followed")
        return f"{self._origin}{path}?{query}" if query else self._origin + path

    def _private(self) -> SourceRejected:
        host = urlsplit(self.base_url).hostname
        return SourceRejected(
            self.source,
            f"{host} stands for a private address; list it in private_addresses if it may be called",
        )

    def _by_status(self, answer: Answer) -> SourceError:
        status = answer.status
        if status in (401, 403):
            return SourceRejected(
                self.source, f"the credentials were refused (HTTP {status}); check the source's settings"
            )
        if status == 429:
            return SourceRateLimited(self.source, "rate limited", retry_after=retry_after(answer))
        if status >= 500 or status == 408:
            return SourceUnavailable(self.source, f"failing (HTTP {status})", retry_after=retry_after(answer))
        if 300 <= status < 400:
            return SourceBadResponse(
                self.source, f"an unexpected redirect (HTTP {status}); it was not followed"
            )
        return InvalidRequest(self.source, f"the request was refused (HTTP {status})")


def retry_after(answer: Answer) -> float | None:
    """Seconds from a Retry-After header in either form, None where there is none. At most a day: no vendor's limit lasts
    longer, and nobody should be able to end all calls for good."""
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    if _SECONDS(value):
        return min(max(0.0, float(value)), LONGEST_SECONDS)
    try:
        when = parsedate_to_datetime(value)
        # RFC 5322 writes a zone that nobody knows as -0000; HTTP's dates are UTC.
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_SECONDS)
