"""S3's XML: listings, and what its errors mean."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from xml.etree import ElementTree

import msgspec

from sources.ports.errors import (
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceUnavailable,
    word,
)
from sources.transport.http import Answer, Params, retry_after
from sources.transport.quoting import unquoted
from sources.transport.rows import sifted
from sources.vendors.s3.keys import SOURCE


class NoListing(SourceBadResponse):
    """Something else was answered, a page for people, say."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An object in a listing, or one version of it."""

    key: str
    size: int
    updated_at: datetime
    etag: str | None
    version_id: str | None
    current: bool


class Listing(msgspec.Struct, frozen=True):
    """One page. ``following`` asks for the next one; empty at the end."""

    entries: list[Entry]
    following: Params
    reached: str
    """The last key on the page of versions, of which the next page may hold more."""


Drop = Callable[[str | None], None]
"""Told the key of an entry that does not fit and was left out, None where it has none."""


def objects(body: bytes, drop: Drop) -> Listing:
    """A ListObjectsV2 answer. Raises NoListing, and SourceBadResponse where it does not fit."""
    following = {"continuation-token": "NextContinuationToken"}
    return _listing(body, "ListBucketResult", "Contents", following, drop)


def versions(body: bytes, drop: Drop) -> Listing:
    """A ListObjectVersions answer without its delete markers. Raises NoListing, and SourceBadResponse where it does not fit."""
    following = {"key-marker": "NextKeyMarker", "version-id-marker": "NextVersionIdMarker"}
    return _listing(body, "ListVersionsResult", "Version", following, drop)


def error_code(answer: Answer) -> str | None:
    """S3's own word for what went wrong. None where there is no body, as for HEAD, or another's."""
    return word(_error(answer).get("Code"))


def explain(answer: Answer) -> SourceError | None:
    """None where the answer bears no sign of S3, such as a proxy's."""
    fields = _error(answer)
    code = word(fields.get("Code"))
    request_id = answer.headers.get("x-amz-request-id") or fields.get("RequestId")
    if code is None and request_id is None:
        return None

    def error(kind: type[SourceError], message: str) -> SourceError:
        wait = retry_after(answer)
        return kind(SOURCE, message, retry_after=wait, vendor_code=code, request_id=request_id)

    if code in _OTHER_REGION or answer.status in (301, 307):
        region = answer.headers.get("x-amz-bucket-region") or fields.get("Region") or ""
        known = f"set region to {region}" if re.fullmatch(r"[a-z0-9-]{1,40}", region) else "check region"
        return error(SourceRejected, f"the bucket is in another region: {known}")
    if code in _MEANINGS:
        kind, message = _MEANINGS[code]
        return error(kind, message)
    if answer.status == 503:  # S3 refuses so when asked too often; a HEAD has no body that would say SlowDown
        return error(SourceRateLimited, "asked too often; slow down")
    said = code or f"HTTP {answer.status}"
    if answer.status >= 500:
        return error(SourceUnavailable, f"failing ({said})")
    if answer.status in (401, 403):
        return error(SourceRejected, f"refused ({said}): {_RIGHTS}")
    return error(InvalidRequest, f"the request was refused ({said})")


_RIGHTS = (
    "the key's policy must allow s3:ListBucket, s3:ListBucketVersions, s3:GetObject and s3:GetObjectVersion "
    "on the setting bucket"
)
_STALE = "session_token is no longer good: set new temporary credentials"

_MEANINGS: dict[str, tuple[type[SourceError], str]] = {
    "NoSuchBucket": (SourceRejected, "there is no such bucket: check bucket and endpoint_url"),
    "InvalidBucketName": (SourceRejected, "not a bucket's name: check bucket"),
    "AccessDenied": (SourceRejected, f"access denied: {_RIGHTS}"),
    "AllAccessDisabled": (SourceRejected, "all access to the bucket is disabled by AWS: check bucket"),
    "SignatureDoesNotMatch": (SourceRejected, "the signature does not match: check secret_access_key"),
    "InvalidAccessKeyId": (SourceRejected, "the access key is unknown: check access_key_id"),
    "RequestTimeTooSkewed": (SourceRejected, "this machine's clock is over 15 minutes wrong: set it"),
    "ExpiredToken": (SourceRejected, _STALE),
    "InvalidToken": (SourceRejected, _STALE),
    "TokenRefreshRequired": (SourceRejected, _STALE),
    "InvalidObjectState": (SourceUnavailable, "the file is archived and must be restored in S3 first"),
    "SlowDown": (SourceRateLimited, "asked too often; slow down"),
    "RequestTimeout": (SourceUnavailable, "S3 waited for the request in vain"),
}
_OTHER_REGION = (
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)


def _listing(body: bytes, root_name: str, row_name: str, following: dict[str, str], drop: Drop) -> Listing:
    try:
        root = _parsed(body)
        # S3's look-alikes leave the namespace out.
        space, name = _taken_apart(root.tag)
        if name != root_name:
            raise ValueError
    except (ElementTree.ParseError, ValueError) as error:
        raise NoListing(SOURCE, "unexpected answer: not the listing that was asked for") from error
    try:
        truncated = root.findtext(f"{space}IsTruncated")
        encoded = root.findtext(f"{space}EncodingType") == "url"
        tags = _tags(space)
        make = _entry if row_name == "Contents" else _version
        made = sifted(
            root.findall(space + row_name),
            lambda row: make(row, tags, encoded),
            lambda row: drop(row.findtext(tags.key)),
        )
        entries = {(entry.key, entry.version_id): entry for entry in made if entry is not None}
        markers = [
            (param, _text(marker, encoded and param == "key-marker"))
            for param, element in following.items()
            if truncated == "true" and (marker := root.findtext(space + element)) is not None
        ]
        if truncated is None or (truncated == "true" and not markers):
            raise ValueError
    except ValueError as error:
        raise SourceBadResponse(SOURCE, "unexpected answer: a listing that does not fit") from error
    return Listing(list(entries.values()), markers, dict(markers).get("key-marker", ""))


class _Tags(msgspec.Struct, frozen=True):
    """What the parts of an entry are called in one namespace."""

    key: str
    size: str
    updated_at: str
    etag: str
    version_id: str
    latest: str


@lru_cache(maxsize=16)
def _tags(space: str) -> _Tags:
    return _Tags(*(space + name for name in ("Key", "Size", "LastModified", "ETag", "VersionId", "IsLatest")))


def _entry(row: ElementTree.Element, tags: _Tags, encoded: bool) -> Entry:
    said = row.findtext
    key, size, moment = said(tags.key), said(tags.size), said(tags.updated_at)
    if key is None or size is None or moment is None:
        raise ValueError("an entry without its key, size or time")
    updated_at = datetime.fromisoformat(moment)
    if updated_at.tzinfo is not UTC:
        if updated_at.tzinfo is None:
            raise ValueError("a time without a zone")
        updated_at = updated_at.astimezone(UTC)
    return Entry(_text(key, encoded), int(size), updated_at, said(tags.etag), None, True)


def _version(row: ElementTree.Element, tags: _Tags, encoded: bool) -> Entry:
    return msgspec.structs.replace(
        _entry(row, tags, encoded),
        version_id=row.findtext(tags.version_id),
        current=row.findtext(tags.latest, "true") == "true",
    )


def _text(value: str, encoded: bool) -> str:
    """S3 encodes as forms do: a space is a plus."""
    return unquoted(value.replace("+", " ")) if encoded else value


def _error(answer: Answer) -> dict[str, str]:
    """An error document's fields; empty for any other body."""
    try:
        root = _parsed(answer.body)
    except (ElementTree.ParseError, ValueError):
        return {}
    space, name = _taken_apart(root.tag)
    fields = {child.tag.removeprefix(space): child.text or "" for child in root} if name == "Error" else {}
    # Whatever else might stand there is not for our messages.
    return fields if re.fullmatch(r"[A-Za-z]{1,64}", fields.get("Code", "")) else {}


def _parsed(body: bytes) -> ElementTree.Element:
    """Raises ParseError or ValueError. S3 never declares a document type; one could hide entity bombs."""
    text = body.decode()  # UTF-8 only: another encoding would hide the declaration
    if "<!DOCTYPE" in text:
        raise ValueError("a document type declaration")
    return ElementTree.fromstring(text)  # noqa: S314


def _taken_apart(tag: str) -> tuple[str, str]:
    """The namespace in its braces, "" where there is none, and the name."""
    space, brace, name = tag.rpartition("}")
    return space + brace, name
