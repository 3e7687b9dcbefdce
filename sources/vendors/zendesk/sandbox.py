"""Zendesk's HTTP API over the invented company: tickets, comments, organisations, search, help centre and OAuth."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from sources.sandbox.consents import Consents
from sources.sandbox.server import Allowance, Limit, OverLimit, Sandbox
from sources.sandbox.world import Ticket, World
from sources.vendors.zendesk import sandbox_rows as rows
from sources.vendors.zendesk.helpdesk import Settings
from sources.vendors.zendesk.sandbox_rows import Row
from sources.vendors.zendesk.sandbox_search import Index, InvalidSearch

AGENT = "agent0@support.example"
"""The e-mail of the agent whose API token the sandbox takes: an administrator."""

API_TOKEN = "sandbox-api-token"  # noqa: S105 - an emulator keeps no secrets
ACCESS_TOKEN = "sandbox-access-token"  # noqa: S105 - an emulator keeps no secrets
"""An OAuth access token of the older kind, which does not expire."""

CLIENT_ID = "backoffice_gateway"
CLIENT_SECRET = "sandbox-client-secret"  # noqa: S105 - an emulator keeps no secrets
REFRESH_TOKEN = "sandbox-refresh-token"  # noqa: S105 - an emulator keeps no secrets
"""Can be used once, like those that follow it."""

MOST_HITS = 1000
"""Of a search; the page behind them is refused."""

_Item = TypeVar("_Item")
_LANGUAGE = "en-gb"


def sandbox(
    world: World,
    *,
    calls_per_minute: int | None = 700,
    exports_per_minute: int | None = 100,
    token_seconds: int | None = 7200,
    record_bodies: bool = False,
) -> Sandbox:
    """The limits are those of the Enterprise plan; None switches one off. ``token_seconds`` is how long an OAuth access
    token lives; None gives tokens that do not expire."""
    desk = _Desk(world, token_seconds)
    return Sandbox(
        "zendesk",
        desk.routes(),
        limits=[
            Limit("account", calls_per_minute, 60.0, bucket=_account_bucket, fixed=True),
            Limit("help_center", calls_per_minute, 60.0, bucket=_help_centre_bucket, fixed=True),
            Limit("search_export", exports_per_minute, 60.0, bucket=_export_bucket, fixed=True),
        ],
        over_limit=_over_limit,
        failure=_failure,
        allowance_headers=_allowance_headers,
        exception_handlers={404: _no_such_address, 405: _no_such_address, _Refusal: _refused},
        record_bodies=record_bodies,
    )


def settings_for(url: str) -> Settings:
    """With an API token."""
    return Settings(base_url=url, email=AGENT, api_token=API_TOKEN, private_addresses=("127.0.0.1",))


def oauth_settings_for(url: str) -> Settings:
    """With a refresh token, once per sandbox: it is spent by its first use."""
    return Settings(
        base_url=url,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        refresh_token=REFRESH_TOKEN,
        private_addresses=("127.0.0.1",),
    )


class _Refusal(Exception):
    def __init__(self, status: int, body: object) -> None:
        self.status, self.body = status, body


class _Desk:
    """One account of the vendor: the world behind it and the tokens that it gave out."""

    def __init__(self, world: World, token_seconds: int | None) -> None:
        self._world = world
        self._index: Index | None = None
        self._token_seconds = token_seconds
        self._refresh_token: str | None = REFRESH_TOKEN
        self._access_tokens: dict[str, float | None] = {ACCESS_TOKEN: None}
        self._rotated_access: str | None = None
        self._consents = Consents(CLIENT_ID, ("read", "write"))
        self._encoded: dict[tuple[str, int], msgspec.Raw] = {}

    def routes(self) -> list[BaseRoute]:
        api: list[tuple[str, Callable[[Request], Any]]] = [
            ("/api/v2/users/show_many", self._users),
            ("/api/v2/users/{id:int}", self._user),
            ("/api/v2/organizations", self._organisations),
            ("/api/v2/organizations/show_many", self._organisations_by_ids),
            ("/api/v2/organizations/search", self._organisations_by_name),
            ("/api/v2/organizations/{id:int}", self._organisation),
            ("/api/v2/organizations/{id:int}/tickets", self._tickets_of_organisation),
            ("/api/v2/tickets", self._tickets),
            ("/api/v2/tickets/show_many", self._tickets_by_ids),
            ("/api/v2/tickets/{id:int}", self._ticket),
            ("/api/v2/tickets/{id:int}/comments", self._comments),
            ("/api/v2/attachments/{id:int}", self._attachment),
            ("/api/v2/search", self._search),
            ("/api/v2/search/count", self._search_count),
            ("/api/v2/search/export", self._search_export),
        ]
        open_to_all: list[tuple[str, Callable[[Request], Any]]] = [
            ("/api/v2/users/me", self._me),
            ("/api/v2/help_center/articles/search", self._articles),
        ]
        routes: list[BaseRoute] = []
        for path, answer in open_to_all:
            routes += [Route(path, self._answering(answer)), Route(f"{path}.json", self._answering(answer))]
        for path, answer in api:
            guarded = self._answering(answer, agents_only=True)
            routes += [Route(f"{path}.json", guarded), Route(path, guarded)]
        return [
            *routes,
            Route("/oauth/authorizations/new", self._consents.page, methods=["GET"]),
            Route("/oauth/tokens", self._token, methods=["POST"]),
            Route("/attachments/token/{token}/", self._file),
        ]

    def _answering(
        self, answer: Callable[[Request], Any], agents_only: bool = False
    ) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            signed_in = self._signed_in(request)
            if agents_only and not signed_in:
                raise _unauthenticated()
            try:
                return _json(answer(request))
            except InvalidSearch as error:
                raise _Refusal(
                    422, {"error": "invalid", "description": f"Invalid search: {error}"}
                ) from error

        return endpoint

    def _signed_in(self, request: Request) -> bool:
        """False without credentials. Wrong ones are refused everywhere, even where none are needed."""
        header = request.headers.get("authorization")
        if header is None:
            return False
        kind, _, value = header.partition(" ")
        if kind.lower() == "basic":
            try:
                user = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise _unauthenticated() from None
            if user == f"{AGENT}/token:{API_TOKEN}":
                return True
        elif kind.lower() == "bearer" and value in self._access_tokens:
            ends_at = self._access_tokens[value]
            if ends_at is None or time.monotonic() < ends_at:
                return True
        raise _unauthenticated()

    # organisations

    def _organisation_rows(self, url: str) -> list[Row]:
        duplicates = [
            rows.duplicate_organisation(url, duplicate) for duplicate in self._world.duplicate_organisations
        ]
        known = [account for account in self._world.accounts if account.zendesk_org_id is not None]
        found = [*(rows.organisation(url, account) for account in known), *duplicates]
        return sorted(found, key=lambda row: int(row["id"]))

    def _organisation_row(self, url: str, id_: int) -> Row | None:
        if account := self._world.accounts_by_zendesk_org.get(id_):
            return rows.organisation(url, account)
        duplicate = self._world.duplicate_organisations_by_id.get(id_)
        return rows.duplicate_organisation(url, duplicate) if duplicate else None

    def _organisations(self, request: Request) -> Row:
        return _listed(request, "organizations", self._organisation_rows(_url(request)), lambda row: row)

    def _organisation(self, request: Request) -> Row:
        row = self._organisation_row(_url(request), request.path_params["id"])
        if row is None:
            raise _not_found()
        return {"organization": row}

    def _organisations_by_ids(self, request: Request) -> Row:
        url = _url(request)
        if "external_ids" in request.query_params:
            wanted = {value.strip().lower() for value in _many(request, "external_ids")}
            found = [
                row for row in self._organisation_rows(url) if (row["external_id"] or "").lower() in wanted
            ]
            found = [row for row in found if row["external_id"]]
        else:
            found = [row for id_ in _ids(request) if (row := self._organisation_row(url, id_)) is not None]
        return {"organizations": found, "count": len(found), "next_page": None, "previous_page": None}

    def _organisations_by_name(self, request: Request) -> Row:
        names = [name for name in ("external_id", "name") if request.query_params.get(name)]
        if len(names) != 1:
            raise _bad_request("Provide either external_id or name")
        wanted = request.query_params[names[0]].strip().lower()
        found = [
            row
            for row in self._organisation_rows(_url(request))
            if (row[names[0]] or "").strip().lower() == wanted
        ]
        return {"organizations": found, "count": len(found), "next_page": None, "previous_page": None}

    # tickets

    def _ticket_row(self, url: str, ticket: Ticket) -> msgspec.Raw:
        key = (url, ticket.id)
        row = self._encoded.get(key)
        if row is None:
            row = self._encoded[key] = msgspec.Raw(msgspec.json.encode(rows.ticket(url, ticket)))
        return row

    def _hit(self, url: str, ticket: Ticket) -> msgspec.Raw:
        # A hit is the ticket and what it is a hit of.
        return msgspec.Raw(b'{"result_type":"ticket",' + bytes(self._ticket_row(url, ticket))[1:])

    def _tickets(self, request: Request) -> Row:
        url = _url(request)
        if "external_id" in request.query_params:
            return {"tickets": [], "count": 0, "next_page": None, "previous_page": None}
        ordered = sorted(self._world.tickets, key=lambda ticket: ticket.id)
        return _listed(request, "tickets", ordered, lambda ticket: self._ticket_row(url, ticket))

    def _tickets_of_organisation(self, request: Request) -> Row:
        url, id_ = _url(request), request.path_params["id"]
        if self._organisation_row(url, id_) is None:
            raise _not_found()
        ordered = sorted(self._world.tickets_by_zendesk_org.get(id_, []), key=lambda ticket: ticket.id)
        return _listed(request, "tickets", ordered, lambda ticket: self._ticket_row(url, ticket))

    def _tickets_by_ids(self, request: Request) -> Row:
        url, by_id = _url(request), self._world.tickets_by_id
        found = [self._ticket_row(url, by_id[id_]) for id_ in _ids(request) if id_ in by_id]
        return {"tickets": found, "count": len(found), "next_page": None, "previous_page": None}

    def _one_ticket(self, request: Request) -> Ticket:
        ticket = self._world.tickets_by_id.get(request.path_params["id"])
        if ticket is None:
            raise _not_found()
        return ticket

    def _ticket(self, request: Request) -> Row:
        return {"ticket": self._ticket_row(_url(request), self._one_ticket(request))}

    def _comments(self, request: Request) -> Row:
        url = _url(request)
        comments = list(self._one_ticket(request).comments)
        params = request.query_params
        if params.get("sort") == "-created_at" or params.get("sort_order") == "desc":
            comments.reverse()
        page = _listed(request, "comments", comments, lambda comment: comment)
        authors = {comment.author_id for comment in page["comments"]}
        page["comments"] = [rows.comment(url, comment) for comment in page["comments"]]
        if "users" in params.get("include", "").split(","):
            page["users"] = [row for id_ in sorted(authors) if (row := self._user_row(url, id_))]
        return page

    def _attachment(self, request: Request) -> Row:
        attachment = self._world.attachments_by_id.get(request.path_params["id"])
        if attachment is None:
            raise _not_found()
        return {"attachment": rows.attachment(_url(request), attachment)}

    async def _file(self, request: Request) -> Response:
        self._signed_in(request)
        id_ = rows.attachment_of(request.path_params["token"])
        attachment = self._world.attachments_by_id.get(id_) if id_ is not None else None
        if attachment is None:
            raise _not_found()
        return Response(attachment.content, media_type=attachment.content_type)

    # users

    def _user_row(self, url: str, id_: int) -> Row | None:
        if agent := self._world.agents_by_id.get(id_):
            return rows.agent(url, agent)
        if contact := self._world.contacts_by_zendesk_user.get(id_):
            return rows.end_user(url, contact, self._world.accounts[contact.account].zendesk_org_id)
        return None

    def _me(self, request: Request) -> Row:
        url = _url(request)
        if "authorization" not in request.headers:
            return {"user": rows.anonymous_user(url)}
        return {"user": rows.agent(url, next(a for a in self._world.agents if a.email == AGENT))}

    def _user(self, request: Request) -> Row:
        row = self._user_row(_url(request), request.path_params["id"])
        if row is None:
            raise _not_found()
        return {"user": row}

    def _users(self, request: Request) -> Row:
        found = [row for id_ in _ids(request) if (row := self._user_row(_url(request), id_))]
        return {"users": found, "count": len(found), "next_page": None, "previous_page": None}

    # search

    def _find(self, request: Request, sort_by: str | None, descending: bool, typed: bool) -> list[Ticket]:
        query = request.query_params.get("query")
        if query is None:
            raise _bad_request("Parameter query is required")
        if self._index is None:
            self._index = Index(self._world)
        return self._index.find(query, sort_by, descending, typed)

    def _search(self, request: Request) -> Row:
        url, params = _url(request), request.query_params
        number, size = _offset_page(request, default_size=100)
        order = params.get("sort_order", "desc")
        if order not in ("asc", "desc"):
            raise _bad_request("sort_order must be asc or desc")
        hits = self._find(request, params.get("sort_by"), order == "desc", typed=False)
        if (number - 1) * size >= MOST_HITS:
            raise InvalidSearch("Requested response size was greater than Search Response Limits")
        shown = hits[(number - 1) * size : number * size]
        return {
            "results": [self._hit(url, ticket) for ticket in shown],
            "facets": None,
            # The vendor links to the page that it then refuses.
            "next_page": _with_params(request, page=str(number + 1)) if number * size < len(hits) else None,
            "previous_page": _with_params(request, page=str(number - 1)) if number > 1 else None,
            "count": len(hits),
        }

    def _search_count(self, request: Request) -> Row:
        return {"count": len(self._find(request, None, True, typed=False))}

    def _search_export(self, request: Request) -> Row:
        url, params = _url(request), request.query_params
        if params.get("filter[type]") not in ("ticket", "organization", "user", "group"):
            raise _bad_request("filter[type] must be one of ticket, organization, user, group")
        if params["filter[type]"] != "ticket":
            raise InvalidSearch("This sandbox exports tickets only")
        size = _whole(params.get("page[size]", "100"), "page[size]")
        if not 1 <= size <= 1000:
            raise _bad_request("page[size] must be from 1 to 1000")
        hits = self._find(request, "created_at", True, typed=True)
        if "page[after]" in params:
            created, id_ = _read_cursor(params["page[after]"])
            hits = [
                ticket
                for ticket in hits
                if (-int(ticket.created_at.timestamp()), ticket.id) > (-created, id_)
            ]
        shown = hits[:size]
        more = len(hits) > size
        after = _cursor(int(shown[-1].created_at.timestamp()), shown[-1].id) if shown else None
        return {
            "results": [self._hit(url, ticket) for ticket in shown],
            "facets": None,
            "meta": {"has_more": more, "after_cursor": after, "before_cursor": None},
            "links": {
                "prev": None,
                "next": _with_params(request, **{"page[after]": after}) if more and after else None,
            },
        }

    # help centre

    def _articles(self, request: Request) -> Row:
        url, params = _url(request), request.query_params
        query = params.get("query", "")
        if not (query.strip() or params.get("section") or params.get("label_names")):
            raise _bad_request("One of query, category, section or label_names is required")
        locale = params.get("locale", _LANGUAGE).lower()
        words = re.findall(r"\w+", query.lower())
        found: list[tuple[int, int]] = []
        for article in self._world.articles:
            if article.draft or locale not in ("*", article.locale):
                continue
            if params.get("section") not in (None, str(article.section_id)):
                continue
            title, text = article.title.lower(), re.sub(r"<[^>]+>", " ", article.body).lower()
            score = sum(
                3 * bool(re.search(rf"\b{re.escape(word)}", title))
                + bool(re.search(rf"\b{re.escape(word)}", text))
                for word in words
            )
            if score or not words:
                found.append((-score, article.id))
        found.sort()
        number, size = _offset_page(request, default_size=25)
        shown = found[:MOST_HITS][(number - 1) * size : number * size]
        pages = -(-min(len(found), MOST_HITS) // size)
        return {
            "count": len(found),
            "page": number,
            "page_count": pages,
            "per_page": size,
            "next_page": _with_params(request, page=str(number + 1)) if number < pages else None,
            "previous_page": _with_params(request, page=str(number - 1)) if number > 1 else None,
            "results": [rows.found_article(url, self._world.articles_by_id[id_], words) for _, id_ in shown],
        }

    # OAuth

    async def _token(self, request: Request) -> Response:
        try:
            form = msgspec.json.decode(await request.body(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _oauth_error(400, "invalid_request", "The request must be formatted as JSON.")
        if not secrets.compare_digest(
            f"{form.get('client_id')}:{form.get('client_secret')}".encode(),
            f"{CLIENT_ID}:{CLIENT_SECRET}".encode(),
        ):
            return _oauth_error(401, "invalid_client", "Client authentication failed.")
        if form.get("grant_type") == "client_credentials":
            return _json(self._grant())
        if form.get("grant_type") == "authorization_code":
            if not self._consents.redeem(form):
                return _oauth_error(400, "invalid_grant", "The code is invalid, expired or used.")
            return self._rotated()
        if form.get("grant_type") != "refresh_token":
            return _oauth_error(400, "unsupported_grant_type", "The grant type is not supported.")
        if self._refresh_token is None or form.get("refresh_token") != self._refresh_token:
            return _oauth_error(400, "invalid_grant", "The refresh token is invalid, expired or revoked.")
        return self._rotated()

    def _rotated(self) -> Response:
        # Both previous tokens end with it.
        if self._rotated_access is not None:
            self._access_tokens.pop(self._rotated_access, None)
        self._refresh_token = secrets.token_hex(16)
        answer = self._grant()
        self._rotated_access = answer["access_token"]
        return _json({**answer, "refresh_token": self._refresh_token, "refresh_token_expires_in": 2_592_000})

    def _grant(self) -> Row:
        token = secrets.token_hex(32)
        seconds = self._token_seconds
        self._access_tokens[token] = None if seconds is None else time.monotonic() + seconds
        return {"access_token": token, "token_type": "bearer", "scope": "read", "expires_in": seconds}


def _json(document: object, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(document),
        status,
        {"x-request-id": secrets.token_hex(8)},
        "application/json; charset=utf-8",
    )


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _with_params(request: Request, **changed: str) -> str:
    return str(request.url.include_query_params(**changed))


def _listed(request: Request, name: str, items: Sequence[_Item], shown: Callable[[_Item], Any]) -> Row:
    """A list in either of the vendor's paging forms: by cursor where page[size] is given, else by page number."""
    params = request.query_params
    if not any(key.startswith("page[") for key in params):
        number, size = _offset_page(request, default_size=100)
        return {
            name: [shown(item) for item in items[(number - 1) * size : number * size]],
            "count": len(items),
            "next_page": _with_params(request, page=str(number + 1)) if number * size < len(items) else None,
            "previous_page": _with_params(request, page=str(number - 1)) if number > 1 else None,
        }
    size = _whole(params.get("page[size]", "100"), "page[size]")
    if not 1 <= size <= 100:
        raise _Refusal(
            400,
            {
                "errors": [
                    {
                        "code": "InvalidPaginationParameter",
                        "title": "page[size] is not valid",
                        "detail": "page[size] must be a number between 1 and 100",
                    }
                ]
            },
        )
    start, end = 0, size
    if "page[after]" in params:
        start = _read_cursor(params["page[after]"])[0]
        end = start + size
    elif "page[before]" in params:
        end = _read_cursor(params["page[before]"])[0]
        start = max(0, end - size)
    end = min(end, len(items))
    after, before = (_cursor(end, 0), _cursor(start, 0)) if end > start else (None, None)
    return {
        name: [shown(item) for item in items[start:end]],
        "meta": {"has_more": end < len(items), "after_cursor": after, "before_cursor": before},
        "links": {
            "next": _with_params(request, **{"page[after]": after}) if after and end < len(items) else None,
            "prev": _with_params(request, **{"page[before]": before}) if before and start > 0 else None,
        },
    }


def _offset_page(request: Request, default_size: int) -> tuple[int, int]:
    """More than 100 per page are not refused but cut."""
    params = request.query_params
    if any(key.startswith("page[") for key in params):
        raise _Refusal(
            400,
            {
                "error": {
                    "title": "Invalid attribute",
                    "message": "You passed an invalid value for the page attribute. "
                    f"Invalid parameter: page must be an integer from {request.url.path.lstrip('/')}",
                }
            },
        )
    number = _whole(params.get("page", "1"), "page")
    size = _whole(params.get("per_page", str(default_size)), "per_page")
    return max(1, number), max(1, min(100, size))


def _whole(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _bad_request(f"{name} must be an integer")
    return int(text)


def _cursor(*values: int) -> str:
    return base64.b64encode(msgspec.json.encode(values)).decode()


def _read_cursor(text: str) -> tuple[int, int]:
    try:
        first, second = msgspec.json.decode(base64.b64decode(text, validate=True), type=tuple[int, int])
    except (ValueError, msgspec.DecodeError) as error:
        raise _bad_request("the cursor is not valid") from error
    return first, second


def _ids(request: Request) -> list[int]:
    """Distinct, in the order asked; what is not a number is none of anything."""
    return list(dict.fromkeys(int(text) for text in _many(request, "ids") if text.isdecimal()))


def _many(request: Request, name: str) -> list[str]:
    values = [value for value in request.query_params.get(name, "").split(",") if value]
    if not values:
        raise _bad_request(f"{name} is required")
    if len(values) > 100:
        raise _bad_request(f"{name}: at most 100 may be given")
    return values


def _bad_request(description: str) -> _Refusal:
    return _Refusal(400, {"error": {"title": "Invalid attribute", "message": description}})


def _unauthenticated() -> _Refusal:
    return _Refusal(401, {"error": "Couldn't authenticate you"})


def _not_found() -> _Refusal:
    return _Refusal(404, {"error": "RecordNotFound", "description": "Not found"})


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refusal)
    return _json(error.body, error.status)


def _no_such_address(request: Request, error: Exception) -> Response:
    return _json({"error": "InvalidEndpoint", "description": "Not found"}, 404)


def _oauth_error(status: int, error: str, description: str) -> Response:
    return _json({"error": error, "error_description": description}, status)


def _over_limit(over: OverLimit) -> Response:
    answer = _json(
        {
            "error": "APIRateLimitExceeded",
            "description": "Number of allowed API requests per minute exceeded",
        },
        429,
    )
    if over.retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, round(over.retry_after)))
    if over.limit is not None and over.limit.calls is not None:
        answer.headers["X-Rate-Limit"] = str(over.limit.calls)
        answer.headers["X-Rate-Limit-Remaining"] = "0"
    return answer


def _failure(status: int) -> Response:
    bodies: Mapping[int, object] = {
        401: {"error": "Couldn't authenticate you"},
        403: {"error": {"title": "Forbidden", "message": "You do not have access to this page."}},
        404: {"error": "RecordNotFound", "description": "Not found"},
        409: {"error": "Conflict", "description": "Conflict"},
        422: {"error": "RecordInvalid", "description": "Record validation errors", "details": {}},
        503: {
            "error": "unavailable",
            "description": "Sorry, we could not complete your search query. Please try again in a moment.",
        },
    }
    return _json(
        bodies.get(status, {"errors": [{"code": "InternalError", "title": "Internal error"}]}), status
    )


def _allowance_headers(scope: Scope, standing: Sequence[Allowance]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for allowance in standing:
        if allowance.limit.calls is None:
            continue
        limit, remaining = str(allowance.limit.calls), str(allowance.remaining)
        if allowance.limit.name in ("account", "help_center"):
            headers |= {
                "X-Rate-Limit": limit,
                "X-Rate-Limit-Remaining": remaining,
                "ratelimit-limit": limit,
                "ratelimit-remaining": remaining,
                "ratelimit-reset": str(max(1, round(allowance.resets_in))),
            }
    return headers


def _account_bucket(scope: Scope) -> str | None:
    path = scope["path"]
    return "" if path.startswith("/api/v2/") and not path.startswith("/api/v2/help_center/") else None


def _help_centre_bucket(scope: Scope) -> str | None:
    return "" if scope["path"].startswith("/api/v2/help_center/") else None


def _export_bucket(scope: Scope) -> str | None:
    return "" if scope["path"].startswith("/api/v2/search/export") else None
