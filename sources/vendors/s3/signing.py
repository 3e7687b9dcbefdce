"""AWS Signature Version 4 on our own requests: botocore finds the credentials, refreshes them and signs."""

import asyncio
import hmac
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import botocore.session
import msgspec
from botocore.auth import S3SigV4Auth
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError

from sources.ports.errors import SourceRejected, SourceTimeout
from sources.transport.deadline import in_time
from sources.transport.http import Request

T = TypeVar("T")


class Credentials(Protocol):
    """Where the keys come from."""

    async def current(self) -> ReadOnlyCredentials:
        """Raises SourceRejected where there are none."""


class FixedCredentials:
    """The keys of the settings."""

    def __init__(self, access_key_id: str, secret_access_key: str, session_token: str | None) -> None:
        self._keys = ReadOnlyCredentials(access_key_id, secret_access_key, session_token)

    async def current(self) -> ReadOnlyCredentials:
        return self._keys


class FoundCredentials:
    """Whatever botocore's chain finds: environment, profile, container or instance role. It may ask the network, so it
    is walked in a thread, once; temporary keys are renewed by botocore ahead of their expiry."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: Any = None
        self._lock = asyncio.Lock()

    async def current(self) -> ReadOnlyCredentials:
        try:
            with in_time():
                async with self._lock:
                    if self._found is None:
                        self._found = await self._aside(lambda: botocore.session.Session().get_credentials())
                if self._found is None:
                    raise SourceRejected(
                        self._source,
                        "no credentials: set access_key_id and secret_access_key, or give the process a role",
                    )
                if isinstance(self._found, RefreshableCredentials) and self._found.refresh_needed():
                    return await self._aside(self._found.get_frozen_credentials)
        except TimeoutError as error:
            raise SourceTimeout(self._source, "no credentials before the deadline") from error
        return self._found.get_frozen_credentials()

    async def _aside(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except (BotoCoreError, RuntimeError) as error:  # RuntimeError: renewed, and expired all the same
            raise SourceRejected(
                self._source, f"the credentials could not be obtained ({type(error).__name__})"
            ) from error


class _Headers(dict[str, str]):
    """One value each, and asked for as botocore does."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]]


class _Unsigned(msgspec.Struct):
    """What botocore's signer looks at in a request. Its own class keeps headers as e-mail does: that takes a third of the
    cost of signing."""

    method: str
    url: str
    headers: _Headers
    body: bytes
    params: None = None
    context: dict[str, Any] = {}


class _Signature(S3SigV4Auth):  # type: ignore[misc]
    """Signs all headers there are: only those that it needs are given to it. Keeps the day's key, which botocore derives
    anew for each request."""

    def __init__(self, keys: ReadOnlyCredentials, region: str) -> None:
        super().__init__(keys, "s3", region)
        self._region = region
        self._day = ""
        self._days_key = b""

    def headers_to_sign(self, request: _Unsigned) -> _Headers:
        return _Headers((name.lower(), value) for name, value in request.headers.items())

    def signature(self, string_to_sign: str, request: _Unsigned) -> str:
        day = request.context["timestamp"][:8]
        if day != self._day:
            key = f"AWS4{self.credentials.secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._days_key = day, key
        return hmac.digest(self._days_key, string_to_sign.encode(), "sha256").hex()


class Signer:
    """Signs requests to one host. The URL's query must be percent-encoded strictly: S3 encodes what it receives again
    by its own rules and compares."""

    def __init__(self, base_url: str, region: str, credentials: Credentials) -> None:
        self._host = urlsplit(base_url).netloc
        self._region = region
        self._credentials = credentials
        self._signature: _Signature | None = None

    async def authorise(self, request: Request) -> None:
        keys = await self._credentials.current()
        if self._signature is None or self._signature.credentials != keys:
            self._signature = _Signature(keys, self._region)
        signed = _Unsigned(request.method, request.url, _Headers(Host=self._host), request.body)
        self._signature.add_auth(signed)
        request.headers.update(signed.headers)

    async def renew(self, request: Request) -> bool:
        return False
