"""AWS Signature Version 4 on our own requests, with the credentials that botocore finds and refreshes."""

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import botocore.session
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError

from sources.ports.errors import SourceRejected, SourceTimeout
from sources.transport.deadline import remaining
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
            async with asyncio.timeout(remaining()):
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


class Signer:
    """Signs requests to one host. The URL's query must be percent-encoded strictly: S3 encodes what it receives again
    by its own rules and compares.

    Own code, as botocore's takes as long as sending the call does; ``tests/sources/test_s3.py`` compares the two.
    """

    def __init__(self, base_url: str, region: str, credentials: Credentials) -> None:
        self._host = urlsplit(base_url).netloc
        self._region = region
        self._credentials = credentials
        self._made_for: tuple[ReadOnlyCredentials, str] | None = None
        self._key = b""
        """For one day."""

    async def authorise(self, request: Request) -> None:
        keys = await self._credentials.current()
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        day = now[:8]
        signed = {
            "host": self._host,
            "x-amz-content-sha256": sha256(request.body).hexdigest(),
            "x-amz-date": now,
        }
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = ";".join(signed)
        path, _, query = request.url.partition("://")[2].partition("/")[2].partition("?")
        pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else ()
        canonical = "\n".join(
            (
                request.method,
                f"/{path}",
                "&".join(f"{name}={value}" for name, value in pairs),
                *(f"{name}:{value}" for name, value in signed.items()),
                "",
                names,
                signed["x-amz-content-sha256"],
            )
        )
        scope = f"{day}/{self._region}/s3/aws4_request"
        if self._made_for != (keys, day):
            self._made_for, self._key = (keys, day), _key(keys.secret_key, day, self._region)
        said = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = _hmac(self._key, said).hex()
        request.headers.update(signed)
        request.headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )

    async def renew(self, request: Request) -> bool:
        return False


def _key(secret: str, *scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (*scope, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
