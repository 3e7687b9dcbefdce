"""HubSpot's HTTP API, emulated: companies, contacts, their associations and search, OAuth, and rate limits."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from sources.sandbox.consents import Consents
from sources.sandbox.server import Allowance, Limit, OverLimit, Sandbox, by_header
from sources.sandbox.world import World
from sources.vendors.hubspot.crm import Settings
from sources.vendors.hubspot.emulated import (
    COMPANY,
    TYPES,
    Object,
    Objects,
    ObjectType,
    Refused,
    shown,
)

PORTAL = 62_515_000
TOKEN = "sandbox-private-app-token"  # noqa: S105 - opens nothing but this sandbox
"""Does not expire. Grants SCOPES, like everything else here that is not told otherwise."""
CLIENT_ID, CLIENT_SECRET = "sandbox-client-id", "sandbox-client-secret"
REFRESH_TOKEN = "sandbox-refresh-token"  # noqa: S105 - the same
"""Does not rotate; good until it is revoked at /oauth/v3/token/revoke."""
CODE = "sandbox-authorization-code"
"""Good for one exchange."""
SCOPES = ("oauth", "crm.objects.companies.read", "crm.objects.contacts.read")

BATCH, ASSOCIATIONS_BATCH, LIST_PAGE = 100, 1_000, 100

_GUIDE = "https://developers.hubspot.com/scopes"
_FAMILIES = (
    ("/crm/v3/objects", "/crm/v4/associations"),
    ("/crm/objects/2026-03", "/crm/associations/2026-03"),
)
_LABELS: dict[str, tuple[tuple[int, str | None], tuple[int, str | None]]] = {
    "company": ((2, "Contact with Primary Company"), (280, None)),
    "contact": ((1, "Primary"), (279, None)),
}
"""Association types from this side: of a contact's primary company, of any."""

Handler = Callable[[Request], Awaitable[Response]]


def settings_for(url: str) -> Settings:
    """A private app's token, which this sandbox accepts."""
    return Settings(
        base_url=url, token=TOKEN, declared={"xero": "xero_contact_id"}, private_addresses=("127.0.0.1",)
    )


def oauth_settings_for(url: str) -> Settings:
    """The same account by OAuth."""
    return Settings(
        base_url=url,
        token_url=f"{url}/oauth/v3/token",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        refresh_token=REFRESH_TOKEN,
        declared={"xero": "xero_contact_id"},
        private_addresses=("127.0.0.1",),
    )


def sandbox(
    world: World,
    *,
    scopes: Sequence[str] = SCOPES,
    burst: int | None = 190,
    daily: int | None = 650_000,
    searches: int | None = 4,
    association_page: int = 500,
    numeric_object_ids: bool = False,
    access_token_seconds: int = 1_800,
    also: Mapping[str, Sequence[str]] | None = None,
    record_bodies: bool = False,
) -> Sandbox:
    """``burst`` calls in 10 s, ``searches`` a second, ``daily`` a day; None is no limit. ``association_page``: ids per
    page of one record's associations. ``numeric_object_ids`` writes toObjectId as live accounts do rather than as the
    description says. ``also``: contact id -> further company ids."""
    portal = _Portal(world, scopes, association_page, numeric_object_ids, access_token_seconds, also or {})
    token = by_header("authorization")

    def crm_call(scope: Scope) -> str | None:
        exempt = scope["path"].endswith("/search") or scope["path"].startswith("/oauth/")
        return None if exempt else token(scope)

    return Sandbox(
        "hubspot",
        portal.routes(),
        limits=(
            Limit("daily", daily, 86_400, bucket=crm_call),
            Limit("burst", burst, 10, bucket=crm_call),
            Limit(
                "search",
                searches,
                1,
                bucket=lambda scope: token(scope) if scope["path"].endswith("/search") else None,
            ),
        ),
        over_limit=_over_limit,
        failure=_failure,
        allowance_headers=_allowance,
        exception_handlers={404: _unknown_path, 405: _unknown_path},
        record_bodies=record_bodies,
    )


class _Answered(Exception):
    """Ends a request with an error answer."""

    def __init__(self, response: Response) -> None:
        self.response = response


class _Portal:
    def __init__(
        self,
        world: World,
        scopes: Sequence[str],
        association_page: int,
        numeric_object_ids: bool,
        access_token_seconds: int,
        also: Mapping[str, Sequence[str]],
    ) -> None:
        self._objects = Objects(world, also)
        self._scopes = tuple(scopes)
        self._association_page = association_page
        self._numeric = numeric_object_ids
        self._seconds = access_token_seconds
        self._expiry: dict[str, float] = {}
        self._codes = {CODE}
        self._consents = Consents(CLIENT_ID, SCOPES)
        self._refresh_tokens = {REFRESH_TOKEN}
        self._issued = itertools.count(1)

    def routes(self) -> list[Route]:
        routes = [
            Route("/account-info/v3/details", self._answering(self._details), methods=["GET"]),
            *(
                Route(f"/oauth/{version}/token", self._answering(self._token), methods=["POST"])
                for version in ("v1", "v3", "2026-03")
            ),
            Route("/oauth/authorize", self._consents.page, methods=["GET"]),
            Route("/oauth/v3/token/revoke", self._answering(self._revoke), methods=["POST"]),
        ]
        for objects, associations in _FAMILIES:
            one = objects.replace("/crm/v3/", "/crm/v4/") + "/{source}/{id}/associations/{target}"
            routes += [
                Route(one, self._answering(self._associations_of_one), methods=["GET"]),
                Route(
                    associations + "/{source}/{target}/batch/read",
                    self._answering(self._associations),
                    methods=["POST"],
                ),
                Route(objects + "/{kind}/batch/read", self._answering(self._batch_read), methods=["POST"]),
                Route(objects + "/{kind}/search", self._answering(self._search), methods=["POST"]),
                Route(objects + "/{kind}/{id}", self._answering(self._one), methods=["GET"]),
                Route(objects + "/{kind}", self._answering(self._list), methods=["GET"]),
            ]
        return routes

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except _Answered as ended:
                return ended.response
            except Refused as refusal:
                return _error(400, "VALIDATION_ERROR", str(refusal))

        return answer

    # -- objects --------------------------------------------------------------------------------------------------

    async def _batch_read(self, request: Request) -> Response:
        kind = self._authorised(request, "kind")
        body = await _json(request)
        inputs = _inputs(body, BATCH)
        by = body.get("idProperty") or "hs_object_id"
        if by not in kind.unique:
            raise Refused(f"Property '{by}' is not a unique identifier property.")
        if len(set(inputs)) < len(inputs):
            raise Refused("Duplicate IDs found in batch input. IDs must be unique.")
        archived = request.query_params.get("archived") == "true"
        rows: dict[str, Object] = {}
        missing = []
        for asked in inputs:
            found = self._objects.find(kind, asked, by)
            if found is None or found.archived != archived:
                missing.append(asked)
            else:
                rows[found.id] = found
        names, history = body.get("properties") or [], body.get("propertiesWithHistory") or []
        # Nothing promises the order of the inputs, so it is never kept.
        results = [shown(kind, one, names, history) for _, one in sorted(rows.items())]
        errors = [
            {
                "status": "error",
                "category": "OBJECT_NOT_FOUND",
                "message": f"Could not get some {kind.singular.upper()} objects, they may be deleted or not exist. "
                "Check that ids are valid.",
                "context": {"ids": missing},
                "errors": [],
                "links": {},
            }
        ]
        return _batch(results, errors if missing else [])

    async def _search(self, request: Request) -> Response:
        kind = self._authorised(request, "kind")
        body = await _json(request)
        try:
            hits, total = self._objects.search(kind, body)
        except (TypeError, AttributeError, KeyError):
            raise Refused("Invalid input JSON: unexpected types.") from None
        answer: dict[str, Any] = {
            "total": total,
            "results": [shown(kind, one, body.get("properties") or []) for one in hits],
        }
        end = int(body.get("after") or 0) + len(hits)
        if end < total and hits:
            answer["paging"] = {"next": {"after": str(end)}}
        return _answer(answer)

    async def _list(self, request: Request) -> Response:
        kind = self._authorised(request, "kind")
        query = request.query_params
        limit = _limit(query.get("limit"), 10, LIST_PAGE)
        after = query.get("after")
        archived = query.get("archived") == "true"
        rows = sorted(
            (one for one in self._objects.of(kind).values() if one.archived == archived),
            key=lambda one: int(one.id),
        )
        if after:
            rows = [one for one in rows if int(one.id) >= int(_digits(after))]
        answer: dict[str, Any] = {"results": [self._full(request, kind, one) for one in rows[:limit]]}
        if len(rows) > limit:
            following = rows[limit].id
            answer["paging"] = {"next": {"after": following, "link": f"{request.url.path}?after={following}"}}
        return _answer(answer)

    async def _one(self, request: Request) -> Response:
        kind = self._authorised(request, "kind")
        by = request.query_params.get("idProperty") or "hs_object_id"
        if by not in kind.unique:
            raise Refused(f"Property '{by}' is not a unique identifier property.")
        found = self._objects.find(kind, request.path_params["id"], by)
        if found is None or found.archived != (request.query_params.get("archived") == "true"):
            return _error(404, "OBJECT_NOT_FOUND", "resource not found")
        return _answer(self._full(request, kind, found))

    def _full(self, request: Request, kind: ObjectType, one: Object) -> dict[str, Any]:
        row = shown(kind, one, _names(request, "properties"), _names(request, "propertiesWithHistory"))
        associations: dict[str, Any] = {}
        for word in _names(request, "associations"):
            target = _type(word)
            if ids := self._objects.associated(kind, target, one.id):
                associations[target.plural] = {
                    "results": [{"id": id_, "type": f"{kind.singular}_to_{target.singular}"} for id_ in ids]
                }
        if associations:
            row["associations"] = associations
        return row

    # -- associations ---------------------------------------------------------------------------------------------

    async def _associations(self, request: Request) -> Response:
        source, target = self._pair(request)
        body = await _json(request)
        _inputs(body, ASSOCIATIONS_BATCH)
        results, errors = [], []
        for item in body["inputs"]:
            page, after = self._association_slice(
                source, target, item["id"], item.get("after"), self._association_page
            )
            if not page:
                errors.append(
                    {
                        "status": "error",
                        "category": "OBJECT_NOT_FOUND",
                        "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                        "message": f"No {target.singular} is associated with {source.singular} {item['id']}.",
                        "context": {
                            "fromObjectId": [item["id"]],
                            "fromObjectType": [source.singular],
                            "toObjectType": [target.singular],
                        },
                        "errors": [],
                        "links": {},
                    }
                )
                continue
            row: dict[str, Any] = {"from": {"id": item["id"]}, "to": page}
            if after:
                row["paging"] = {"next": {"after": after}}
            results.append(row)
        return _batch(results, errors)

    async def _associations_of_one(self, request: Request) -> Response:
        source, target = self._pair(request)
        id_ = request.path_params["id"]
        if self._objects.find(source, id_) is None:
            return _error(404, "OBJECT_NOT_FOUND", "resource not found")
        query = request.query_params
        limit = _limit(query.get("limit"), 500, 500)
        page, after = self._association_slice(source, target, id_, query.get("after"), limit)
        answer: dict[str, Any] = {"results": page}
        if after:
            answer["paging"] = {"next": {"after": after, "link": f"{request.url.path}?after={quote(after)}"}}
        return _answer(answer)

    def _association_slice(
        self, source: ObjectType, target: ObjectType, id_: str, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        ids = self._objects.associated(source, target, id_)
        if after:
            last = _last_of(after)
            ids = [one for one in ids if int(one) > last]
        page = ids[:limit]
        return [self._association(source, id_, one) for one in page], (
            _after(page[-1]) if len(ids) > limit else None
        )

    def _association(self, source: ObjectType, from_id: str, to_id: str) -> dict[str, Any]:
        primary, other = _LABELS[source.singular]
        contact, company = (to_id, from_id) if source is COMPANY else (from_id, to_id)
        first = (primary,) if self._objects.primary(contact) == company else ()
        return {
            "toObjectId": int(to_id) if self._numeric else to_id,
            "associationTypes": [
                {"category": "HUBSPOT_DEFINED", "typeId": number}
                | ({} if label is None and not self._numeric else {"label": label})
                for number, label in (*first, other)
            ],
        }

    # -- who may --------------------------------------------------------------------------------------------------

    def _authorised(self, request: Request, *params: str) -> ObjectType:
        """The object type in the path, when the token may read it. The token is looked at first."""
        self._token_of(request)
        kinds = [_type(request.path_params[name]) for name in params]
        for kind in kinds:
            needed = f"crm.objects.{kind.plural}.read"
            if needed not in self._scopes:
                raise _Answered(_missing_scope(needed))
        return kinds[0]

    def _pair(self, request: Request) -> tuple[ObjectType, ObjectType]:
        self._authorised(request, "source", "target")
        return _type(request.path_params["source"]), _type(request.path_params["target"])

    def _token_of(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _Answered(
                _error(
                    401,
                    "INVALID_AUTHENTICATION",
                    "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
                )
            )
        if token == TOKEN:
            return token
        expires = self._expiry.get(token)
        if expires is None:
            raise _Answered(
                _error(401, "INVALID_AUTHENTICATION", "The access token is not valid or was revoked.")
            )
        if expires <= time.monotonic():
            raise _Answered(
                _error(401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired.")
            )
        return token

    async def _details(self, request: Request) -> Response:
        self._token_of(request)
        return _answer(
            {
                "portalId": PORTAL,
                "accountType": "SANDBOX",
                "timeZone": "Europe/London",
                "companyCurrency": "GBP",
                "additionalCurrencies": ["EUR", "JPY", "KWD", "USD"],
                "utcOffset": "+00:00",
                "utcOffsetMilliseconds": 0,
                "uiDomain": "app.hubspot.com",
                "dataHostingLocation": "eu1",
            }
        )

    async def _token(self, request: Request) -> Response:
        form = await _form(request)
        self._client(form)
        grant = form.get("grant_type")
        if grant == "refresh_token":
            if form.get("refresh_token") not in self._refresh_tokens:
                return _token_error("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        elif grant == "authorization_code":
            if form.get("code") not in self._codes and not self._consents.redeem(form):
                return _token_error("BAD_AUTH_CODE", "missing or unknown auth code")
            self._codes.discard(form["code"])
            self._refresh_tokens.add(REFRESH_TOKEN)
        elif grant != "client_credentials":
            return _token_error("BAD_GRANT_TYPE", "missing or unknown grant type")
        token = f"sandbox-access-token-{next(self._issued)}"
        self._expiry[token] = time.monotonic() + self._seconds
        answer: dict[str, Any] = {
            "access_token": token,
            "expires_in": self._seconds,
            "token_type": "bearer",
            "token_use": "client_credentials" if grant == "client_credentials" else "access_token",
            "hub_id": PORTAL,
            "scopes": list(self._scopes),
            "user_id": 1,
        }
        if grant != "client_credentials":
            answer["refresh_token"] = REFRESH_TOKEN
        return _answer(answer)

    async def _revoke(self, request: Request) -> Response:
        form = await _form(request)
        self._client(form)
        token = form.get("token", "")
        self._refresh_tokens.discard(token)
        self._expiry.pop(token, None)
        return Response(status_code=204)

    def _client(self, form: Mapping[str, str]) -> None:
        """The client stands in the form; HubSpot does not read it from an Authorization header."""
        if form.get("client_id") != CLIENT_ID:
            raise _Answered(_token_error("BAD_CLIENT_ID", "missing or unknown client id"))
        if form.get("client_secret") != CLIENT_SECRET:
            raise _Answered(_token_error("BAD_CLIENT_SECRET", "missing or invalid client secret"))


# -- reading requests -----------------------------------------------------------------------------------------------


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise Refused("Invalid input JSON.") from None
    if not isinstance(body, dict):
        raise Refused("Invalid input JSON: an object is expected.")
    return body


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _inputs(body: Mapping[str, Any], most: int) -> list[str]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(
        isinstance(item, dict) and isinstance(item.get("id"), str) for item in inputs
    ):
        raise Refused("Invalid input JSON: inputs must be a list of objects with an id.")
    if not inputs:
        raise Refused("Inputs may not be empty.")
    if len(inputs) > most:
        raise Refused(f"The maximum number of inputs is {most}. Received {len(inputs)}.")
    return [item["id"] for item in inputs]


def _names(request: Request, name: str) -> list[str]:
    """Repeated or separated by commas."""
    return [word for text in request.query_params.getlist(name) for word in text.split(",") if word]


def _limit(text: str | None, usual: int, most: int) -> int:
    if text is None:
        return usual
    limit = int(_digits(text))
    if not 0 < limit <= most:
        raise Refused(f"Limit must be between 1 and {most}.")
    return limit


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise Refused("A whole number is expected.")
    return text


def _type(word: str) -> ObjectType:
    kind = TYPES.get(word)
    if kind is None:
        raise Refused(f"Unable to infer object type from: {word}")
    return kind


def _after(last: str) -> str:
    return quote(base64.b64encode(last.encode()).decode())


def _last_of(after: str) -> int:
    try:
        return int(base64.b64decode(unquote(after), validate=True))
    except (binascii.Error, ValueError):
        raise Refused("Invalid paging token.") from None


# -- answering ------------------------------------------------------------------------------------------------------


def _answer(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(
        msgspec.json.encode(document), status, headers, media_type="application/json;charset=utf-8"
    )


def _batch(results: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> Response:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    answer: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if not errors:
        return _answer(answer)
    return _answer({**answer, "numErrors": len(errors), "errors": errors}, 207)


def _error(
    status: int, category: str, message: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    document = {
        "status": "error",
        "message": message,
        "correlationId": str(uuid4()),
        "category": category,
        **more,
    }
    return _answer(document, status, headers)


def _token_error(status: str, message: str) -> Response:
    """The token endpoint's own form: the word stands in ``status``, there is no OAuth ``error``."""
    document = {
        "status": status,
        "message": message,
        "correlationId": str(uuid4()),
        "category": "VALIDATION_ERROR",
    }
    return _answer(document, 400)


def _missing_scope(scope: str) -> Response:
    return _error(
        403,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call.",
        errors=[
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": [scope]},
            }
        ],
        links={"scopes": _GUIDE},
    )


_POLICIES = {"daily": "DAILY", "burst": "TEN_SECONDLY_ROLLING", "search": "SECONDLY"}


def _over_limit(over: OverLimit) -> Response:
    policy = _POLICIES[over.limit.name if over.limit else "burst"]
    headers = {} if policy == "SECONDLY" else {"X-HubSpot-RateLimit-Interval-Milliseconds": "10000"}
    if over.limit is None and over.retry_after is not None:
        headers["Retry-After"] = str(round(over.retry_after))
    return _error(
        429,
        "RATE_LIMITS",
        f"You have reached your {policy.lower()} limit.",
        headers,
        errorType="RATE_LIMIT",
        policyName=policy,
    )


def _failure(status: int) -> Response:
    category, message = _FAILURES.get(status, ("INTERNAL_ERROR", "internal error"))
    if status == 403:
        return _missing_scope("crm.objects.companies.read")
    return _error(status, category, message)


_FAILURES = {
    400: ("VALIDATION_ERROR", "Invalid input JSON"),
    401: ("EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired."),
    404: ("OBJECT_NOT_FOUND", "resource not found"),
    409: ("CONFLICT", "Conflict"),
    423: ("LOCKED", "The record is locked. Try again in 2 seconds."),
    477: ("MIGRATION_IN_PROGRESS", "This account is being migrated."),
}


async def _unknown_path(request: Request, _: Exception) -> Response:
    return _error(404, "OBJECT_NOT_FOUND", "Resource not found")


def _allowance(scope: Scope, standing: Sequence[Allowance]) -> dict[str, str]:
    """Search answers carry none of these, because search is counted apart."""
    headers: dict[str, str] = {}
    for one in standing:
        if one.remaining is None:
            continue
        if one.limit.name == "daily":
            headers["X-HubSpot-RateLimit-Daily"] = str(one.limit.calls)
            headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(one.remaining)
        elif one.limit.name == "burst":
            headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = "10000"
            headers["X-HubSpot-RateLimit-Max"] = str(one.limit.calls)
            headers["X-HubSpot-RateLimit-Remaining"] = str(one.remaining)
    return headers
