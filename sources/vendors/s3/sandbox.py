"""S3 as moto emulates it, holding the invented company's documents, behind our log, limits, faults and a check of signatures."""

import asyncio
import hmac
import io
import itertools
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import FakeKey, s3_backends
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from sources.sandbox.facts import Document
from sources.sandbox.server import Limit, OverLimit, Sandbox
from sources.sandbox.world import World
from sources.vendors.s3.documents import Settings

BUCKET = "documents"
REGION = "eu-west-1"
ACCESS_KEY_ID = "AKIASANDBOX000000001"
SECRET_ACCESS_KEY = "sandbox/secret+access/key"  # noqa: S105 it opens nothing but this sandbox
MOST_KEYS = 1000
"""A listing gives no more per page, whatever is asked."""

_CLOCK_SKEW = timedelta(minutes=15)
_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<date>\d{8})/(?P<region>[^/,]+)/s3/aws4_request, *"
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), *Signature=(?P<signature>[0-9a-f]{64})"
)
# moto keeps one state per process. Each sandbox is an AWS account of its own, so that several do not meet.
_ACCOUNTS = itertools.count(700_000_000_001)


def sandbox(
    world: World,
    *,
    session_token: str | None = None,
    page_size: int = MOST_KEYS,
    reads_per_second: int | None = 5500,
    record_bodies: bool = False,
) -> Sandbox:
    """The bucket ``documents``, versioned. With ``session_token`` the keys are temporary ones that need it. S3 may put
    fewer keys on a page than were asked for: no more than ``page_size`` here."""
    account = str(next(_ACCOUNTS))
    _fill(world, account)
    _moto()  # its first start takes longer than some test's deadline
    emulator = _Emulator(account, session_token, page_size)
    return Sandbox(
        "s3",
        [Mount("", emulator)],
        limits=[Limit("reads", calls=reads_per_second)],
        over_limit=_slow_down,
        failure=_failure,
        record_bodies=record_bodies,
    )


def settings_for(url: str) -> Settings:
    """Settings with keys that the sandbox accepts."""
    return Settings(
        bucket=BUCKET,
        region=REGION,
        endpoint_url=url,
        path_style=True,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        private_addresses=("127.0.0.1",),
    )


def modified(world: World, document: Document) -> list[datetime]:
    """When each version was uploaded, oldest first, to the second. One document in five came with a nightly upload on
    the first of a month, so equal times are common."""
    rng = Random(f"{world.seed}/uploads/{document.key}")
    now = datetime.combine(world.today, time(9), UTC)
    last = now - timedelta(seconds=rng.randrange(500 * 86_400))
    if rng.random() < 0.2:
        last = datetime.combine(last.date().replace(day=1), time(2), UTC)
    times = [last]
    for _ in document.versions[1:]:
        times.append(times[-1] - timedelta(seconds=rng.randrange(3_600, 90 * 86_400)))
    return times[::-1]


class _Version(FakeKey):
    """moto copies every version of a bucket deeply for each listing of versions. These never change: no need."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Version":
        return self


def _fill(world: World, account: str) -> None:
    """Writes into moto's own model: over HTTP it would take ten times as long."""
    backend = s3_backends[account]["aws"]
    # A bucket's name is taken worldwide, in moto too; here every account has its own "documents".
    s3_backends.bucket_accounts.pop(BUCKET, None)
    bucket = backend.create_bucket(BUCKET, REGION)
    bucket.versioning_status = "Enabled"
    for document in world.documents:
        versions: list[_Version] = []
        for version, uploaded in zip(document.versions, modified(world, document), strict=True):
            kept = _Version(
                name=document.key,
                value=version.content,
                account_id=account,
                region_name=REGION,
                is_versioned=True,
                # Opaque text, as S3's are.
                version_id=sha256(f"{document.key}/{version.number}".encode()).hexdigest()[:32],
                bucket_name=BUCKET,
            )
            kept.last_modified = uploaded.replace(tzinfo=None)
            kept.set_metadata({"Content-Type": document.content_type})
            versions.append(kept)
        bucket.keys.setlist(document.key, versions)


class _Emulator:
    """Checks the signature, which moto does not, then runs moto's WSGI application in a thread."""

    def __init__(self, account: str, session_token: str | None, page_size: int) -> None:
        self._account = account
        self._page_size = min(page_size, MOST_KEYS)
        self._keys = ReadOnlyCredentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, session_token)
        self._requests = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        response = self._refusal(request, body)
        if response is None:
            response = await asyncio.to_thread(_answer, self._environ(request, body))
        response.headers.setdefault("x-amz-request-id", f"SANDBOX{next(self._requests):09d}")
        await response(scope, receive, send)

    def _refusal(self, request: Request, body: bytes) -> Response | None:
        authorization = request.headers.get("authorization")
        if authorization is None:
            return _error(403, "AccessDenied", "Access Denied")
        claim = _CREDENTIAL.fullmatch(authorization)
        if claim is None:
            return _error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
        if claim["key"] != self._keys.access_key:
            message = "The AWS Access Key Id you provided does not exist in our records."
            return _error(403, "InvalidAccessKeyId", message, AWSAccessKeyId=claim["key"])
        if request.headers.get("x-amz-security-token") != self._keys.token:
            return _error(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
        if claim["region"] != REGION:
            message = f"The authorization header is malformed; the region '{claim['region']}' is wrong; expecting '{REGION}'"
            return _error(400, "AuthorizationHeaderMalformed", message, Region=REGION)
        try:
            signed_at = datetime.strptime(request.headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ")
        except ValueError:
            return _error(
                403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
            )
        if abs(datetime.now(UTC) - signed_at.replace(tzinfo=UTC)) > _CLOCK_SKEW:
            message = "The difference between the request time and the current time is too large."
            return _error(403, "RequestTimeTooSkewed", message)
        if not hmac.compare_digest(self._signature(request, body, claim), claim["signature"]):
            message = "The request signature we calculated does not match the signature you provided."
            return _error(403, "SignatureDoesNotMatch", message, AWSAccessKeyId=claim["key"])
        promised = request.headers.get("x-amz-content-sha256", "")
        if re.fullmatch("[0-9a-f]{64}", promised) and promised != sha256(body).hexdigest():
            message = "The provided 'x-amz-content-sha256' header does not match what was computed."
            return _error(400, "XAmzContentSHA256Mismatch", message)
        return None

    def _signature(self, request: Request, body: bytes, claim: re.Match[str]) -> str:
        """What the signature must be. As AWS does, path and query are encoded afresh, not taken as they were sent."""
        path, query = _sent(request)
        strict = "&".join(
            f"{quote(unquote(k), safe='')}={quote(unquote(v), safe='')}"
            for k, _, v in (pair.partition("=") for pair in query.split("&") if pair)
        )
        headers = {name: request.headers.get(name, "") for name in claim["headers"].split(";")}
        again = AWSRequest(
            request.method,
            f"http://{headers.get('host', '')}{quote(unquote(path), safe='/')}?{strict}",
            headers,
            body,
        )
        again.context["timestamp"] = request.headers["x-amz-date"]
        signing = S3SigV4Auth(self._keys, "s3", claim["region"])
        return str(signing.signature(signing.string_to_sign(again, signing.canonical_request(again)), again))

    def _environ(self, request: Request, body: bytes) -> dict[str, Any]:
        path, query = _sent(request)
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if "list-type" in asked or "versions" in asked:
            most = asked.get("max-keys", "")
            if not most.isdecimal() or int(most) > self._page_size:
                query = re.sub(r"(^|&)max-keys=[^&]*", "", query) + f"&max-keys={self._page_size}"
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "RAW_URI": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            if name not in ("content-length", "transfer-encoding"):
                variable = name.upper().replace("-", "_")
                environ[variable if name == "content-type" else f"HTTP_{variable}"] = value
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        return environ


@cache
def _moto() -> Any:
    """moto's S3 and nothing else of AWS."""
    return create_backend_app("s3")


def _answer(environ: dict[str, Any]) -> Response:
    started: list[tuple[str, Iterable[tuple[str, str]]]] = []

    def start_response(status: str, headers: Iterable[tuple[str, str]], *_: object) -> None:
        started.append((status, headers))

    parts = _moto()(environ, start_response)
    try:
        body = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    status, headers = started[-1]
    response = Response(body, int(status.split(" ", 1)[0]))
    # moto's own length stays: for a HEAD it is the object's.
    response.raw_headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers]
    return response


def _sent(request: Request) -> tuple[str, str]:
    """Path and query as they came."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return path.decode("latin-1").split("?")[0], query.decode("latin-1")


def _error(status: int, code: str, message: str, **more: str) -> Response:
    fields: Mapping[str, str] = {
        "Code": code,
        "Message": message,
        **more,
        "RequestId": "SANDBOX",
        "HostId": "sandbox",
    }
    body = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return Response(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>', status, media_type="application/xml"
    )


def _slow_down(over: OverLimit) -> Response:
    response = _error(503, "SlowDown", "Please reduce your request rate.")
    response.headers["x-amz-request-id"] = "SANDBOX"
    if over.retry_after is not None and over.limit is None:
        # S3 itself does not say; a fault may ask for it, as a store that speaks S3's API might.
        response.headers["Retry-After"] = f"{over.retry_after:g}"
    return response


_FAILURES = {
    400: ("InvalidRequest", "Invalid Request"),
    401: ("AccessDenied", "Access Denied"),
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    503: ("ServiceUnavailable", "Service is unable to handle request."),
}


def _failure(status: int) -> Response:
    code, message = _FAILURES.get(
        status, ("InternalError", "We encountered an internal error. Please try again.")
    )
    response = _error(status, code, message)
    response.headers["x-amz-request-id"] = "SANDBOX"
    return response
