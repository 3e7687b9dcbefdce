"""HubSpot's HTTP API as far as the CRM port needs it: batch reads, associations, search, and its error bodies."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from sources.ports.custom import moment
from sources.ports.errors import (
    UNREADABLE,
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceUnavailable,
    word,
)
from sources.transport.abreast import abreast
from sources.transport.http import Answer, HttpClient, retry_after
from sources.transport.rows import Pages, Rows
from sources.vendors.hubspot.limits import SEARCH

SOURCE = "hubspot"

SEARCH_CAP = 10_000
"""Search pages no further than this many hits of one query."""

_ALL_OR_PART = (200, 207)
_NOT_THERE = "OBJECT_NOT_FOUND"
_DAILY_PAUSE = 3600.0
"""HubSpot does not say when the day's allowance is renewed (midnight of the account's time zone): ask hourly."""
_ROLLING_PAUSE = 4.0
"""HubSpot tells how long its window is, not when it has room again: it rolls, so that calls come back all along."""

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A CRM object. Property values are text or null, whatever their type; unknown property names are left out."""

    id: str
    properties: dict[str, str | None]
    created_at: datetime | None = None
    updated_at: datetime | None = None
    archived: bool = False

    def text(self, name: str) -> str | None:
        """The property, None where it is unset; HubSpot writes a cleared property as "" or as null."""
        return self.properties.get(name) or None

    def time(self, name: str) -> datetime | None:
        """The property as a moment; HubSpot writes moments as ISO 8601 or as milliseconds since 1970."""
        said = self.properties.get(name)
        return _moment(said) if said else None

    @property
    def merged_ids(self) -> tuple[str, ...]:
        said = self.properties.get("hs_merged_object_ids")
        return tuple(filter(None, said.split(";"))) if said else ()


@lru_cache(maxsize=4096)
def _moment(text: str) -> datetime | None:
    # The same few accounts and people are read again and again, by every page of their portal.
    try:
        return moment(text)
    except (ValueError, OverflowError):
        return None


class _Next(msgspec.Struct, frozen=True):
    after: str


class _Paging(msgspec.Struct, frozen=True):
    next: _Next | None = None


class _PartialError(msgspec.Struct, frozen=True):
    category: str = ""


class _Batch(msgspec.Struct, frozen=True):
    results: list[Row]
    errors: list[_PartialError] = []


class _From(msgspec.Struct, frozen=True):
    id: str


class _To(msgspec.Struct, frozen=True, rename="camel"):
    # Text in the description, a number in live answers.
    to_object_id: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}$")] | int


class _Association(msgspec.Struct, frozen=True):
    source: _From = msgspec.field(name="from")
    to: list[_To]
    paging: _Paging | None = None


class _Associations(msgspec.Struct, frozen=True):
    results: list[_Association]
    errors: list[_PartialError] = []


class Found(msgspec.Struct, frozen=True):
    """A page of search hits; ``total`` counts all matches, even those beyond SEARCH_CAP."""

    total: int
    results: list[Row | None]
    """Null in the place of one that was dropped: hits are counted."""
    paging: _Paging | None = None

    @property
    def next(self) -> str | None:
        """The token of the next page."""
        return self.paging.next.after if self.paging and self.paging.next else None


class Portal(msgspec.Struct, frozen=True, rename="camel"):
    """The account that a token belongs to."""

    portal_id: int
    account_type: str | None = None


def named(*properties: str) -> msgspec.Raw:
    """What every call for these properties says of them, each once."""
    return msgspec.Raw(msgspec.json.encode(tuple(dict.fromkeys(properties))))


class Listing(msgspec.Struct):
    """The ids that one record is associated with, as far as they were read; ``after`` leads to the rest."""

    ids: list[str] = []
    after: str | None = None
    error: SourceError | None = None


_ACCOUNTS = Pages(_Batch, Rows("results", "account", "id"))
_CONTACTS = Pages(_Batch, Rows("results", "contact", "id"))
_LINKS = Pages(
    _Associations,
    Rows("results", "association", "source.id", within=Rows("to", "association", "to_object_id")),
)
_FOUND = Pages(Found, Rows("results", "account", "id"))


class Api:
    """HubSpot's calls, batched to its limits. ``version`` is "v3" or a date such as "2026-03"."""

    def __init__(self, http: HttpClient, version: str, *, batch: int, associations_batch: int) -> None:
        self._http = http
        dated = version != "v3"
        self._objects = f"/crm/objects/{version}" if dated else "/crm/v3/objects"
        self._associations = f"/crm/associations/{version}" if dated else "/crm/v4/associations"
        self._batch, self._associations_batch = batch, associations_batch
        self._portal = msgspec.json.Decoder(Portal)

    async def read(
        self, kind: str, ids: Sequence[str], properties: msgspec.Raw
    ) -> tuple[dict[str, Row], dict[str, SourceError]]:
        """By the id that was asked for, also where a merged-away id answers with its survivor; what does not exist
        or is archived is left out. A failed chunk gives its error to each of its ids, apart from what was found."""
        asked = dict.fromkeys(ids)
        if len(asked) <= self._batch:  # as nearly always
            try:
                return await self._read_chunk(kind, asked, properties), {}
            except SourceError as error:
                return {}, dict.fromkeys(asked, error)
        chunks = [dict.fromkeys(chunk) for chunk in _chunks(list(asked), self._batch)]
        answers = await abreast([self._read_chunk(kind, chunk, properties) for chunk in chunks])
        found: dict[str, Row] = {}
        failed: dict[str, SourceError] = {}
        for chunk, answer in zip(chunks, answers, strict=True):
            if isinstance(answer, SourceError):
                failed.update(dict.fromkeys(chunk, answer))
            else:
                found.update(answer)
        return found, failed

    async def turn(self, source: str, target: str, listings: dict[str, Listing]) -> None:
        """Reads the next page of each listing, the first where nothing was read yet. Errors end up in the listing."""
        inputs = [
            {"id": owner, "after": listing.after} if listing.after else {"id": owner}
            for owner, listing in listings.items()
        ]
        chunks = _chunks(inputs, self._associations_batch)
        path = f"{self._associations}/{source}/{target}/batch/read"
        answers = await abreast([self._associated(path, chunk) for chunk in chunks])
        for chunk, answer in zip(chunks, answers, strict=True):
            asked = [listings[item["id"]] for item in chunk]
            for listing in asked:
                listing.after = None
            if isinstance(answer, SourceError):
                for listing in asked:
                    listing.error = answer
                continue
            read, dropped = answer
            if dropped:
                told = {row.source.id for row in read}
                for item in chunk:
                    if item["id"] not in told:
                        # Whose list was dropped cannot be said: none of those without one is called empty.
                        listings[item["id"]].error = SourceBadResponse(
                            SOURCE, "unexpected answer: an account's associations"
                        )
            for row in read:
                found = listings.get(row.source.id)
                if found is not None:
                    found.ids += [str(other.to_object_id) for other in row.to]
                    found.after = row.paging.next.after if row.paging and row.paging.next else None

    async def search(
        self,
        kind: str,
        *,
        filters: Sequence[dict[str, Any]],
        text: str | None,
        sort: str,
        descending: bool,
        properties: msgspec.Raw,
        limit: int,
        after: str,
    ) -> Found:
        """One page. ``after`` is an offset in digits; only one sort is allowed, and what ties has no order."""
        body: dict[str, Any] = {
            "filterGroups": [{"filters": list(filters)}] if filters else [],
            # The description types a sort as text, HubSpot's own guide and live accounts take this object.
            "sorts": [{"propertyName": sort, "direction": "DESCENDING" if descending else "ASCENDING"}],
            "properties": properties,
            "limit": limit,
            "after": after,
        }
        if text:
            body["query"] = text
        answer = await self._http.call(
            "POST",
            f"{self._objects}/{kind}/search",
            json=body,
            endpoint=SEARCH,
            idempotent=True,
            route=f"{kind}/search",
        )
        found, _ = self._http.page(answer, _FOUND)
        return found

    async def portal(self) -> Portal:
        """Who the credentials are."""
        answer = await self._http.call("GET", "/account-info/v3/details", route="account-info/details")
        return self._http.decode(answer, self._portal)

    async def close(self) -> None:
        await self._http.close()

    async def _read_chunk(
        self, kind: str, asked: Mapping[str, None], properties: msgspec.Raw
    ) -> dict[str, Row]:
        """One call, none where nothing is asked for."""
        found: dict[str, Row] = {}
        if not asked:
            return found
        answer = await self._http.call(
            "POST",
            f"{self._objects}/{kind}/batch/read",
            json={
                "inputs": [{"id": one} for one in asked],
                "properties": properties,
                "propertiesWithHistory": [],
            },
            expect=_ALL_OR_PART,
            idempotent=True,
            route=f"{kind}/batch/read",
        )
        batch, _ = self._http.page(answer, _ACCOUNTS if kind == "companies" else _CONTACTS)
        if batch.errors:
            _require_only_missing(batch.errors)
        for row in batch.results:
            if row.archived:
                continue
            if row.id in asked:
                found[row.id] = row
            if merged := row.merged_ids:
                found.update((name, row) for name in merged if name in asked)
        return found

    async def _associated(
        self, path: str, inputs: Sequence[dict[str, str]]
    ) -> tuple[list[_Association], int]:
        answer = await self._http.call(
            "POST",
            path,
            json={"inputs": list(inputs)},
            expect=_ALL_OR_PART,
            idempotent=True,
            route="associations/batch/read",
        )
        links, dropped = self._http.page(answer, _LINKS)
        _require_only_missing(links.errors)
        return links.results, dropped


class _Error(msgspec.Struct, frozen=True, rename="camel"):
    """Loosely typed: gateways in front of HubSpot, old endpoints and new ones spell errors differently."""

    correlation_id: Any = None
    category: Any = None
    sub_category: Any = None
    error_type: Any = None
    policy_name: Any = None
    context: Any = None
    errors: Any = None


def explain(answer: Answer) -> SourceError | None:
    """HubSpot's error bodies as ours; None where the body is not HubSpot's. Its messages may quote values and are
    never passed on."""
    try:
        body = msgspec.json.decode(answer.body, type=_Error)
    except UNREADABLE:
        return None
    details = [detail for detail in body.errors or [] if isinstance(detail, dict)]
    code = next(
        (
            found
            for said in (
                body.policy_name,
                body.sub_category,
                *(d.get("code") for d in details),
                body.category,
            )
            if (found := word(said))
        ),
        None,
    )
    said: dict[str, Any] = {"vendor_code": code}
    if isinstance(body.correlation_id, str):
        said["request_id"] = body.correlation_id
    named = f" ({code})" if code else ""
    status = answer.status
    if status == 429 or body.category in ("RATE_LIMIT", "RATE_LIMITS") or body.error_type == "RATE_LIMIT":
        return SourceRateLimited(SOURCE, f"rate limited{named}", retry_after=_pause(answer, body), **said)
    if status == 403:
        scopes = _scopes(body.context, *(detail.get("context") for detail in details))
        mend = f"grant the app {', '.join(scopes)}" if scopes else "check the scopes of the app"
        return SourceRejected(SOURCE, f"not permitted{named}; {mend}", **said)
    if status == 401:
        return SourceRejected(
            SOURCE, f"the access token was refused{named}; check the source's token", **said
        )
    if status == 404:
        return SourceRejected(SOURCE, "no such path; check the source's base_url and api", **said)
    if status >= 500 or status in (408, 423, 477):
        # 423: the record is locked for a moment; 477: the account is being moved to another data centre.
        return SourceUnavailable(
            SOURCE, f"failing (HTTP {status}){named}", retry_after=retry_after(answer), **said
        )
    if 400 <= status < 500:
        return InvalidRequest(SOURCE, f"the request was refused (HTTP {status}){named}", **said)
    return None


def refused_refresh(answer: Mapping[str, Any]) -> bool:
    """HubSpot's token endpoint has a form of its own beside OAuth's ``error``: the word stands in ``status``."""
    return answer.get("status") == "BAD_REFRESH_TOKEN"


def _pause(answer: Answer, body: _Error) -> float | None:
    told = retry_after(answer)
    if told is not None:
        return told
    if body.policy_name == "DAILY":
        return _DAILY_PAUSE
    if body.policy_name == "SECONDLY":
        return 1.0
    window = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
    return min(int(window) / 1000, _ROLLING_PAUSE) if window.isascii() and window.isdigit() else None


def _scopes(*contexts: Any) -> list[str]:
    """Names of scopes are settings, not data: they may be shown."""
    found: list[str] = []
    for context in contexts:
        if isinstance(context, dict):
            for key in ("missingScopes", "requiredGranularScopes", "requiredScopes"):
                listed = context.get(key)
                if isinstance(listed, list):
                    found += [scope for scope in listed if isinstance(scope, str)]
    return list(dict.fromkeys(found))


def _require_only_missing(errors: Sequence[_PartialError]) -> None:
    """A partial answer may lack records that do not exist (or have no associations); any other gap is a fault."""
    for error in errors:
        if error.category != _NOT_THERE:
            raise SourceBadResponse(
                SOURCE, "part of a batch could not be read", vendor_code=error.category or None
            )


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """As few as the size allows, of about equal length."""
    count = -(-len(items) // size)
    return [items[len(items) * i // count : len(items) * (i + 1) // count] for i in range(count)]
