"""Xero on loopback: the Accounting API, the connections list and the identity service, over the invented company."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode
from uuid import UUID, uuid4

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from sources.sandbox.papers import paper
from sources.sandbox.server import Allowance, Limit, OverLimit, Sandbox
from sources.sandbox.world import World
from sources.vendors.xero.erp import Settings
from sources.vendors.xero.sandbox_query import QueryParseError, ordered, predicate
from sources.vendors.xero.sandbox_rows import ORGANISATION_ID, ORGANISATION_NAME, Books, Resource, Row

API = "/api.xro/2.0"
TENANT = ORGANISATION_ID

CUSTOM_CONNECTION = ("sandbox-custom-connection", "sandbox-custom-secret")
"""Id and secret of the client that may use client credentials."""

WEB_APP = ("sandbox-web-app", "sandbox-web-secret")
"""Id and secret of the client that people sign in to: authorization codes and refresh tokens."""

FIRST_REFRESH_TOKEN = "sandbox-refresh-token"  # noqa: S105
"""As if someone had consented before the start. Good for one refresh, as its successors are."""

ACCESS_TOKEN_LIFE = timedelta(minutes=30)

_SCOPES_OF = {
    "contacts": "accounting.contacts",
    "invoices": "accounting.transactions",
    "creditnotes": "accounting.transactions",
    "payments": "accounting.transactions",
    "organisation": "accounting.settings",
    "currencies": "accounting.settings",
}
_SCOPES = frozenset(
    {"offline_access", "openid", "profile", "email"}
    | set(_SCOPES_OF.values())
    | {f"{scope}.read" for scope in _SCOPES_OF.values()}
)
_ALL_READ = "offline_access accounting.transactions.read accounting.contacts.read accounting.settings.read"

_MOST_QUERY_BYTES = 2048
"""XeroAPI/Xero-Java issue 328: beyond it the answer is 404."""

_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000
_HEADERS_OF = {
    "day": "X-DayLimit-Remaining",
    "minute": "X-MinLimit-Remaining",
    "appminute": "X-AppMinLimit-Remaining",
}


@dataclass(frozen=True)
class _Grant:
    scopes: frozenset[str]
    custom: bool
    """Of a custom connection, whose organisation goes without saying."""


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response


def sandbox(
    world: World,
    *,
    concurrent: int | None = 5,
    per_minute: int | None = 60,
    per_day: int | None = 5_000,
    contact_numbers: Mapping[int, str] | None = None,
    record_bodies: bool = False,
) -> XeroSandbox:
    """None switches a limit off. ``contact_numbers``: account index -> ContactNumber, which the world knows nothing of."""
    return XeroSandbox(world, concurrent, per_minute, per_day, contact_numbers or {}, record_bodies)


def settings_for(url: str) -> Settings:
    """A custom connection: nothing is kept between starts."""
    client_id, client_secret = CUSTOM_CONNECTION
    return Settings(
        client_id=client_id,
        client_secret=client_secret,
        tenant_id=TENANT,
        base_url=url + API,
        connections_url=f"{url}/connections",
        authorize_url=f"{url}/identity/connect/authorize",
        token_url=f"{url}/connect/token",
        private_addresses=("127.0.0.1",),
    )


def consented_settings_for(url: str) -> Settings:
    """A web app with a refresh token, which needs a token store."""
    client_id, client_secret = WEB_APP
    return msgspec.structs.replace(
        settings_for(url), client_id=client_id, client_secret=client_secret, refresh_token=FIRST_REFRESH_TOKEN
    )


class XeroSandbox(Sandbox):
    """The emulator and the strings that tests pull."""

    def __init__(
        self,
        world: World,
        concurrent: int | None,
        per_minute: int | None,
        per_day: int | None,
        contact_numbers: Mapping[int, str],
        record_bodies: bool,
    ) -> None:
        self._books = Books(world, contact_numbers)
        self._access: dict[str, tuple[_Grant, datetime]] = {}
        web_app = _Grant(frozenset(_ALL_READ.split()), custom=False)
        self._refresh: dict[str, _Grant] = {FIRST_REFRESH_TOKEN: web_app}
        self._replaced: dict[str, tuple[_Grant, str]] = {}
        """Used ones, with the successor of each."""
        self.grace = False
        """As Xero does for half an hour: a used one works once more while nobody has used its successor."""
        self._codes: dict[str, tuple[_Grant, str, str | None]] = {}
        self.also_connected: list[tuple[str, str]] = []
        """Ids and names of further organisations that consents reach. They have no books here."""
        super().__init__(
            "xero",
            [
                Route("/connect/token", self._token, methods=["POST"]),
                Route("/identity/connect/authorize", self._authorize),
                # The specification writes it large, the guides small: paths have no case at Xero.
                Route("/connections", self._connections),
                Route("/Connections", self._connections),
                Route(API + "/{resource}", self._list),
                Route(API + "/{resource}/{key}", self._single),
                Route(API + "/{resource}/{key}/pdf", self._pdf),
            ],
            limits=[
                Limit("concurrent", concurrent=concurrent, bucket=_organisation),
                Limit("minute", per_minute, 60.0, bucket=_organisation),
                Limit("day", per_day, 86_400.0, bucket=_organisation),
                Limit("appminute", 10_000, 60.0, bucket=_app),
            ],
            over_limit=_over_limit,
            failure=_failure,
            allowance_headers=_allowance_headers,
            exception_handlers={404: _not_found},
            record_bodies=record_bodies,
        )

    def expire_access_tokens(self) -> None:
        """As if half an hour had passed."""
        self._access = {token: (grant, datetime.now(UTC)) for token, (grant, _) in self._access.items()}

    def disconnect(self) -> None:
        """As if someone had withdrawn the consent in Xero: refresh tokens are refused from now on."""
        self._refresh.clear()

    async def _token(self, request: Request) -> Response:
        form = {name: values[-1] for name, values in parse_qs((await request.body()).decode()).items()}
        client = _client(request, form)
        if client not in (CUSTOM_CONNECTION, WEB_APP):
            return _oauth_error("invalid_client")
        kind = form.get("grant_type")
        if kind not in ("client_credentials", "refresh_token", "authorization_code"):
            return _oauth_error("unsupported_grant_type")
        if (kind == "client_credentials") is not (client == CUSTOM_CONNECTION):
            return _oauth_error("unauthorized_client")
        if kind == "client_credentials":
            scopes = frozenset(form.get("scope", _ALL_READ).split()) - {"offline_access"}
            if not scopes <= _SCOPES:
                return _oauth_error("invalid_scope")
            return self._issue(_Grant(scopes, custom=True))
        if kind == "refresh_token":
            return self._refreshed(form.get("refresh_token", ""))
        known = self._codes.pop(form.get("code", ""), None)
        if known is None or known[1] != form.get("redirect_uri"):
            return _oauth_error("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if known[2] is not None and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != known[2]:
            return _oauth_error("invalid_grant")
        return self._issue(known[0])

    def _refreshed(self, used: str) -> Response:
        grant = self._refresh.pop(used, None)
        if grant is None and self.grace and used in self._replaced:
            former, successor = self._replaced[used]
            grant = former if self._refresh.pop(successor, None) else None
        if grant is None:
            return _oauth_error("invalid_grant")
        known = set(self._refresh)
        answer = self._issue(grant)
        for successor in self._refresh.keys() - known:
            self._replaced[used] = (grant, successor)
        return answer

    def _issue(self, grant: _Grant) -> Response:
        access = secrets.token_urlsafe(32)
        self._access[access] = (grant, datetime.now(UTC) + ACCESS_TOKEN_LIFE)
        answer = {
            "access_token": access,
            "expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
            "token_type": "Bearer",
            "scope": " ".join(sorted(grant.scopes)),
        }
        if "offline_access" in grant.scopes:
            answer["refresh_token"] = secrets.token_urlsafe(32)
            self._refresh[str(answer["refresh_token"])] = grant
        return _json(answer)

    async def _authorize(self, request: Request) -> Response:
        """Consents at once: nobody is there to click."""
        asked = request.query_params
        scopes = frozenset(asked.get("scope", "").split())
        target = asked.get("redirect_uri")
        if asked.get("client_id") != WEB_APP[0] or asked.get("response_type") != "code" or not target:
            return _oauth_error("invalid_request")
        if not scopes or not scopes <= _SCOPES:
            return _oauth_error("invalid_scope")
        code = secrets.token_urlsafe(16)
        self._codes[code] = (_Grant(scopes, custom=False), target, asked.get("code_challenge"))
        answer = {"code": code, "scope": " ".join(sorted(scopes)), "state": asked.get("state", "")}
        return RedirectResponse(f"{target}?{urlencode(answer)}", 302)

    async def _connections(self, request: Request) -> Response:
        try:
            self._grant(request)
        except _Refused as refused:
            return refused.response
        connected = {
            "id": str(UUID(int=UUID(TENANT).int ^ 1)),
            "tenantId": TENANT,
            "tenantType": "ORGANISATION",
            "tenantName": ORGANISATION_NAME,
            "createdDateUtc": "2026-01-07T19:46:19.5165400",
            "updatedDateUtc": "2026-01-07T19:46:19.5187840",
        }
        also = [{**connected, "tenantId": id, "tenantName": name} for id, name in self.also_connected]
        return _json([connected, *also])

    async def _list(self, request: Request) -> Response:
        try:
            resource = self._resource(request)
            if not _wants_json(request):
                return _xml()
            return self._page(resource, request)
        except _Refused as refused:
            return refused.response
        except QueryParseError as error:
            return _fault(16, "QueryParseException", str(error))

    async def _single(self, request: Request) -> Response:
        try:
            resource = self._resource(request)
            row = _found(resource, request.path_params["key"])
            if resource.name == "Invoices" and "application/pdf" in request.headers.get("accept", ""):
                return _printed(row)
            if not _wants_json(request):
                return _xml()
            return _envelope(resource, [row.json(True, _unit_places(request))])
        except _Refused as refused:
            return refused.response

    async def _pdf(self, request: Request) -> Response:
        try:
            resource = self._resource(request)
            if resource.name != "Invoices":
                return await _not_found(request)
            return _printed(_found(resource, request.path_params["key"]))
        except _Refused as refused:
            return refused.response

    def _grant(self, request: Request) -> _Grant:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = self._access.get(token) if scheme.lower() == "bearer" else None
        if known is None:
            raise _Refused(_door(401, "Unauthorized", "AuthenticationUnsuccessful"))
        grant, expires_at = known
        if expires_at <= datetime.now(UTC):
            raise _Refused(
                _door(401, "Unauthorized", f"TokenExpired: token expired at {expires_at:%m/%d/%Y %H:%M:%S}")
            )
        return grant

    def _resource(self, request: Request) -> Resource:
        grant = self._grant(request)
        tenant = request.headers.get("xero-tenant-id", "").lower()
        if tenant != TENANT and not (grant.custom and not tenant):
            raise _Refused(_door(403, "Forbidden", "AuthenticationUnsuccessful"))
        name = request.path_params["resource"]
        needed = _SCOPES_OF.get(name.lower())
        resource = self._books.resource(name)
        if resource is None or needed is None or len(request.url.query) > _MOST_QUERY_BYTES:
            raise _Refused(_missing())
        if not {needed, f"{needed}.read"} & grant.scopes:
            raise _Refused(_door(401, "Unauthorized", "AuthorizationUnsuccessful"))
        return resource

    def _page(self, resource: Resource, request: Request) -> Response:
        asked = request.query_params
        rows = _chosen(resource, asked)
        rows = _unarchived(resource, rows, asked)
        since = _since(request.headers.get("if-modified-since"))
        if since is not None:
            rows = [row for row in rows if row.values["UpdatedDateUTC"] >= since]
        if where := asked.get("where"):
            fits = predicate(where, resource.elements, resource.type_name)
            rows = [row for row in rows if fits(row.values)]
        if order := asked.get("order"):
            rows = ordered(rows, order, resource.elements, resource.type_name, lambda row: row.values)
        places = _unit_places(request)
        if "page" not in asked:
            return _envelope(resource, [row.json(False, places) for row in rows])
        page = _number(asked["page"], "page", 1, None)
        size = _number(asked.get("pageSize", str(_DEFAULT_PAGE)), "pageSize", 1, _LARGEST_PAGE)
        shown = rows[(page - 1) * size : page * size]
        full = asked.get("summaryOnly", "").lower() != "true"
        pagination = {
            "page": page,
            "pageSize": size,
            "pageCount": -(-len(rows) // size),
            "itemCount": len(rows),
        }
        return _envelope(resource, [row.json(full, places) for row in shown], pagination)


def _chosen(resource: Resource, asked: Mapping[str, str]) -> Sequence[Row]:
    """By the list parameters; everything where there are none. Never in the order of the parameter."""
    rows = resource.rows
    if resource.name == "Invoices" and (contacts := _ids(asked.get("ContactIDs"))):
        wanted = [row for contact in contacts for row in resource.by_contact.get(contact, [])]
        rows = (
            sorted(wanted, key=lambda row: (row.values["UpdatedDateUTC"], row.id))
            if len(contacts) > 1
            else wanted
        )
    if resource.name in ("Invoices", "Contacts") and (ids := _ids(asked.get("IDs"))):
        rows = [row for row in rows if row.id in ids]
    if resource.name == "Invoices":
        if numbers := asked.get("InvoiceNumbers"):
            rows = [row for row in rows if row.values["InvoiceNumber"] in numbers.split(",")]
        if statuses := asked.get("Statuses"):
            rows = [row for row in rows if row.values["Status"] in statuses.split(",")]
    return rows


def _unarchived(resource: Resource, rows: Sequence[Row], asked: Mapping[str, str]) -> Sequence[Row]:
    if resource.name != "Contacts" or asked.get("includeArchived", "").lower() == "true":
        return rows
    return [row for row in rows if row.values["ContactStatus"] == "ACTIVE"]


def _ids(text: str | None) -> set[str]:
    try:
        return {str(UUID(part)) for part in text.split(",")} if text else set()
    except ValueError:
        raise _Refused(
            _fault(10, "ValidationException", "A validation exception occurred", "Invalid id")
        ) from None


def _found(resource: Resource, key: str) -> Row:
    row = resource.by_id.get(key.lower()) or resource.by_number.get(key)
    if row is None:
        raise _Refused(_missing())
    return row


def _printed(row: Row) -> Response:
    values = row.values
    lines = (
        f"Issued {values['Date']:%Y-%m-%d}",
        f"Total {values['Total']} {values['CurrencyCode']}",
        f"Still to pay {values['AmountDue']} {values['CurrencyCode']}",
    )
    return Response(
        paper("application/pdf", f"Invoice {values['InvoiceNumber']}", lines), media_type="application/pdf"
    )


def _number(text: str, name: str, least: int, most: int | None) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= (most or int(text)):
        return int(text)
    raise _Refused(_fault(10, "ValidationException", "A validation exception occurred", f"Invalid {name}"))


def _unit_places(request: Request) -> int:
    return 4 if request.query_params.get("unitdp") == "4" else 2


def _since(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _client(request: Request, form: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return unquote(name), unquote(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def _organisation(scope: Scope) -> str | None:
    if not scope["path"].startswith(API):
        return None
    tenant = next((value for name, value in scope["headers"] if name == b"xero-tenant-id"), b"")
    return tenant.decode("latin-1").lower() or TENANT


def _app(scope: Scope) -> str | None:
    return "" if scope["path"].startswith(API) else None


def _allowance_headers(scope: Scope, standing: Sequence[Allowance]) -> Mapping[str, str]:
    headers = {"xero-correlation-id": str(uuid4())}
    for allowance in standing:
        if allowance.remaining is not None and allowance.limit.name in _HEADERS_OF:
            headers[_HEADERS_OF[allowance.limit.name]] = str(allowance.remaining)
    return headers


def _over_limit(over: OverLimit) -> Response:
    headers = {
        "X-Rate-Limit-Problem": over.limit.name if over.limit else "minute",
        "xero-correlation-id": str(uuid4()),
    }
    if over.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(over.retry_after)))
    return Response(b"", 429, headers)


def _failure(status: int) -> Response:
    forms: dict[int, Callable[[], Response]] = {
        401: lambda: _door(401, "Unauthorized", "AuthenticationUnsuccessful"),
        403: lambda: _door(403, "Forbidden", "AuthenticationUnsuccessful"),
        404: _missing,
        429: lambda: _over_limit(OverLimit(None, None)),
        503: lambda: PlainTextResponse("The Xero API is currently offline for maintenance", 503),
    }
    if status in forms:
        return forms[status]()
    message = "An error occurred in Xero. Check the API Status page for current service status."
    return _json({"ErrorNumber": status, "Type": "UnexpectedException", "Message": message}, status)


async def _not_found(request: Request, error: Exception | None = None) -> Response:
    return _missing(error.status_code if isinstance(error, HTTPException) else 404)


def _missing(status: int = 404) -> Response:
    return PlainTextResponse("The resource you're looking for cannot be found", status)


def _door(status: int, title: str, detail: str) -> Response:
    body: dict[str, Any] = {
        "Type": None,
        "Title": title,
        "Status": status,
        "Detail": detail,
        "Instance": str(uuid4()),
        "Extensions": {},
    }
    return _json(body, status)


def _fault(number: int, kind: str, message: str, *errors: str) -> Response:
    body: dict[str, Any] = {"ErrorNumber": number, "Type": kind, "Message": message}
    if errors:
        body["Elements"] = [{"ValidationErrors": [{"Message": text} for text in errors]}]
    return _json(body, 400)


def _oauth_error(code: str) -> Response:
    return _json({"error": code}, 400)


def _wants_json(request: Request) -> bool:
    return "json" in request.headers.get("accept", "")


def _xml() -> Response:
    """What comes to those who do not ask for JSON; this emulator leaves the records out of it."""
    return Response(b"<Response><Status>OK</Status></Response>", media_type="text/xml")


def _envelope(
    resource: Resource, rows: Sequence[msgspec.Raw], pagination: Mapping[str, int] | None = None
) -> Response:
    now = int(datetime.now(UTC).timestamp() * 1000)
    body: dict[str, Any] = {
        "Id": str(uuid4()),
        "Status": "OK",
        "ProviderName": "gateway",
        "DateTimeUTC": f"/Date({now})/",
    }
    if pagination is not None:
        body["pagination"] = pagination
    return _json({**body, resource.name: rows})


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
