"""Freshdesk's HTTP API over the invented company: companies, contacts, agents, tickets, conversations and solutions."""

from __future__ import annotations

import base64
import binascii
import html
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from sources.sandbox.server import Allowance, Limit, OverLimit, Sandbox
from sources.sandbox.world import World
from sources.vendors.freshdesk import sandbox_rows as rows
from sources.vendors.freshdesk.helpdesk import Settings
from sources.vendors.freshdesk.sandbox_rows import Row

API_KEY = "sandbox-api-key"
CALLS_PER_MINUTE, LISTS_PER_MINUTE = 700, 200
"""The Enterprise plan's."""
MOST_PAGES = 300
INCLUDED = 10
"""Conversations that come with a ticket."""

_Item = TypeVar("_Item")


class Desk:
    """One account of the vendor. A test changes it as an agent would; ``at`` is when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tickets: dict[int, Row] = {ticket.id: rows.ticket(ticket) for ticket in world.tickets}
        self.companies: dict[int, Row] = {
            account.zendesk_org_id: rows.company(account)
            for account in world.accounts
            if account.zendesk_org_id is not None
        }
        self.companies |= {
            one.zendesk_org_id: rows.duplicate_company(one) for one in world.duplicate_organisations
        }
        self._texts = {
            article.id: " ".join(html.unescape(re.sub(r"<[^>]+>", " ", article.body)).split())
            for article in world.articles
        }
        self.folders: dict[int, int] = {article.section_id: 1 for article in world.articles}
        """By id, to whom each is visible: 1 everybody, 2 who has signed in, 3 agents."""
        self._ordered: list[Row] | None = None

    def change(self, ticket: int, at: datetime, **fields: Any) -> None:
        """Sets fields of a ticket."""
        self.tickets[ticket] |= {**fields, "updated_at": rows.moment(at)}
        self._ordered = None

    def delete(self, ticket: int, at: datetime) -> None:
        """Into the trash."""
        self.change(ticket, at, deleted=True)

    def erase(self, ticket: int) -> None:
        """For ever, without a trace."""
        del self.tickets[ticket]
        self._ordered = None

    def add(self, like: int, id_: int, at: datetime, **fields: Any) -> None:
        """A ticket like another."""
        self.tickets[id_] = {**self.tickets[like], "id": id_}
        self.change(id_, at, **fields)

    def routes(self) -> list[BaseRoute]:
        api: list[tuple[str, Callable[[Request], Any]]] = [
            ("/api/v2/agents", self._agents),
            ("/api/v2/agents/me", self._me),
            ("/api/v2/contacts/{id:int}", self._contact),
            ("/api/v2/companies", lambda request: _listed(request, self._companies())),
            ("/api/v2/companies/{id:int}", lambda request: _one(request, self.companies)),
            ("/api/v2/tickets", self._tickets),
            ("/api/v2/tickets/{id:int}", self._ticket),
            ("/api/v2/tickets/{id:int}/conversations", self._conversations),
            ("/api/v2/search/solutions", self._articles),
            ("/api/v2/solutions/folders/{id:int}", self._folder),
        ]
        return [
            *(Route(path, _answering(answer)) for path, answer in api),
            Route("/attachments/{id:int}", self._file),
        ]

    def _companies(self) -> list[Row]:
        return sorted(self.companies.values(), key=lambda row: str(row["name"]))

    def _agents(self, request: Request) -> list[Row]:
        return _listed(request, [rows.agent(agent) for agent in self.world.agents])

    def _me(self, request: Request) -> Row:
        return rows.agent(self.world.agents[0])

    def _contact(self, request: Request) -> Row:
        person = self.world.contacts_by_zendesk_user.get(request.path_params["id"])
        if person is None:
            raise _Refusal(404, None)
        return rows.contact(person, self.world.accounts[person.account].zendesk_org_id)

    def _tickets(self, request: Request) -> list[Row]:
        params = request.query_params
        only = params.get("filter")
        if only not in (None, "deleted", "spam"):
            raise _invalid("filter", "It should be one of these values: 'deleted,spam'")
        order, way = params.get("order_by", "created_at"), params.get("order_type", "desc")
        if order not in ("created_at", "updated_at") or way not in ("asc", "desc"):
            raise _invalid("order_by", "It should be one of these values: 'created_at,updated_at'")
        since = params.get("updated_since")
        if self._ordered is None:
            self._ordered = sorted(self.tickets.values(), key=lambda row: (row["updated_at"], row["id"]))
        if since is None:
            month = rows.moment(
                datetime.combine(self.world.today, datetime.min.time(), UTC) - timedelta(days=30)
            )
            found = [row for row in self._ordered if row["created_at"] >= month]
        else:
            found = [row for row in self._ordered if row["updated_at"] >= since]
        found = [
            row for row in found if (row.get(only) if only else not (row.get("deleted") or row.get("spam")))
        ]
        if order == "created_at":
            found.sort(key=lambda row: (row["created_at"], row["id"]))
        if way == "desc":
            found.reverse()
        shown = _listed(request, found, MOST_PAGES)
        included = params.get("include", "").split(",")
        return [
            row if "description" in included else {k: v for k, v in row.items() if "description" not in k}
            for row in shown
        ]

    def _ticket(self, request: Request) -> Row:
        row, url = _one(request, self.tickets), _url(request)
        included = request.query_params.get("include", "").split(",")
        record = self.world.tickets_by_id.get(row["id"])
        if record is None:
            return {**row, "attachments": [], "conversations": [], "requester": None}
        first = record.comments[0]
        answer = {**row, "attachments": rows.attachments(url, first) if first.public else []}
        if "conversations" in included:
            answer["conversations"] = rows.conversations(url, record)[:INCLUDED]
        if "requester" in included:
            answer["requester"] = rows.requester(record.requester)
        return answer

    def _conversations(self, request: Request) -> list[Row]:
        row = _one(request, self.tickets)
        record = self.world.tickets_by_id.get(row["id"])
        return _listed(request, rows.conversations(_url(request), record) if record else [])

    async def _file(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        found = self.world.attachments_by_id.get(id_)
        if found is None or request.query_params.get("signature") != rows.signature(id_):
            return Response(status_code=404)
        return Response(found.content, media_type=found.content_type)

    def _articles(self, request: Request) -> list[Row]:
        """Drafts and what only agents may read, too: whoever asks is an agent."""
        words = re.findall(r"\w+", request.query_params.get("term", "").lower())
        found: list[tuple[int, int]] = []
        for article in self.world.articles:
            title, text = article.title.lower(), self._texts[article.id].lower()
            score = sum(
                3 * bool(re.search(rf"\b{re.escape(word)}", title))
                + bool(re.search(rf"\b{re.escape(word)}", text))
                for word in words
            )
            if score:
                found.append((-score, article.id))
        return _listed(
            request,
            [rows.article(self.world.articles_by_id[id_], self._texts[id_]) for _, id_ in sorted(found)],
        )

    def _folder(self, request: Request) -> Row:
        visibility = self.folders.get(request.path_params["id"])
        if visibility is None:
            raise _Refusal(404, None)
        return {"id": request.path_params["id"], "name": "Folder", "visibility": visibility}


class FreshdeskSandbox(Sandbox):
    """The emulator and the account behind it."""

    desk: Desk


def sandbox(
    world: World,
    *,
    calls_per_minute: int | None = CALLS_PER_MINUTE,
    lists_per_minute: int | None = LISTS_PER_MINUTE,
    record_bodies: bool = False,
) -> FreshdeskSandbox:
    """None switches a limit off."""
    desk = Desk(world)
    box = FreshdeskSandbox(
        "freshdesk",
        desk.routes(),
        limits=[
            Limit("account", calls_per_minute, 60.0, bucket=_account_bucket, fixed=True),
            Limit("tickets_list", lists_per_minute, 60.0, bucket=_lists_bucket, fixed=True),
        ],
        over_limit=_over_limit,
        failure=_failure,
        allowance_headers=_allowance_headers,
        exception_handlers={404: _no_such_address, 405: _no_such_address, _Refusal: _refused},
        record_bodies=record_bodies,
    )
    box.desk = desk
    return box


def settings_for(url: str) -> Settings:
    """With the key of an agent who sees everything."""
    return Settings(
        base_url=url,
        api_key=API_KEY,
        external_id_field="cf_customer_number",
        statuses={"7": "on_hold", "8": "new"},
        private_addresses=("127.0.0.1",),
    )


class _Refusal(Exception):
    def __init__(self, status: int, body: object) -> None:
        self.status, self.body = status, body


def _answering(answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if not _signed_in(request):
            raise _Refusal(
                401,
                {
                    "code": "invalid_credentials",
                    "message": "You have to be logged in to perform this action.",
                },
            )
        found = answer(request)
        return _json(found, 200, _link(request, found))

    return endpoint


def _signed_in(request: Request) -> bool:
    """The key is the user's name, with any password."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, _ = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return kind.lower() == "basic" and user == API_KEY


def _listed(request: Request, items: Sequence[_Item], most_pages: int | None = None) -> list[_Item]:
    number, size = _whole(request, "page", 1), _whole(request, "per_page", 30)
    if not 1 <= size <= 100:
        raise _invalid("per_page", "It should be a Positive Integer less than or equal to 100")
    if number < 1 or (most_pages is not None and number > most_pages):
        raise _invalid(
            "page", "You cannot access tickets beyond the 300th page. Please provide a smaller page number."
        )
    request.state.more = number * size < len(items)
    return list(items[(number - 1) * size : number * size])


def _link(request: Request, found: object) -> dict[str, str]:
    if not (isinstance(found, list) and request.state.more):
        return {}
    following = request.url.include_query_params(page=_whole(request, "page", 1) + 1)
    return {"Link": f'<{following}>; rel="next"'}


def _one(request: Request, known: Mapping[int, Row]) -> Row:
    row = known.get(request.path_params["id"])
    if row is None:
        raise _Refusal(404, None)
    return row


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise _invalid(name, "It should be a Positive Integer")
    return int(text)


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _json(document: object, status: int, headers: Mapping[str, str] | None = None) -> Response:
    body = b"" if document is None else msgspec.json.encode(document)
    return Response(
        body,
        status,
        {"x-request-id": secrets.token_hex(8), **(headers or {})},
        "application/json; charset=utf-8",
    )


def _invalid(field: str, message: str) -> _Refusal:
    error = {"field": field, "message": message, "code": "invalid_value"}
    return _Refusal(400, {"description": "Validation failed", "errors": [error]})


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refusal)
    return _json(error.body, error.status)


def _no_such_address(request: Request, error: Exception) -> Response:
    return _json(None, 404)


def _over_limit(over: OverLimit) -> Response:
    answer = _json({"message": "You have exceeded the limit of requests per minute"}, 429)
    if over.retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, round(over.retry_after)))
    if over.limit is not None and over.limit.name == "account" and over.limit.calls is not None:
        answer.headers["X-RateLimit-Total"] = str(over.limit.calls)
        answer.headers["X-RateLimit-Remaining"] = "0"
    return answer


def _failure(status: int) -> Response:
    bodies: Mapping[int, object] = {
        401: {"code": "invalid_credentials", "message": "You have to be logged in to perform this action."},
        403: {"code": "access_denied", "message": "You are not authorized to perform this action."},
    }
    return _json(bodies.get(status), status)


def _allowance_headers(scope: Scope, standing: Sequence[Allowance]) -> dict[str, str]:
    for allowance in standing:
        if allowance.limit.name == "account" and allowance.limit.calls is not None:
            return {
                "X-RateLimit-Total": str(allowance.limit.calls),
                "X-RateLimit-Remaining": str(allowance.remaining),
                "X-RateLimit-Used-CurrentRequest": "1",
            }
    return {}


def _account_bucket(scope: Scope) -> str | None:
    return "" if scope["path"].startswith("/api/v2/") else None


def _lists_bucket(scope: Scope) -> str | None:
    return "" if scope["path"] == "/api/v2/tickets" else None
