"""Zendesk as a helpdesk: a customer is an organisation, and search is how tickets are found."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from sources.ports.common import (
    Content,
    Criterion,
    CustomerRecord,
    CustomField,
    Direction,
    Key,
    Page,
    Probe,
    Ref,
)
from sources.ports.errors import InvalidRequest, SourceError, SourceRejected
from sources.ports.helpdesk import (
    ArticleQuery,
    ArticleRecord,
    CommentQuery,
    CommentRecord,
    Helpdesk,
    TicketQuery,
    TicketRecord,
)
from sources.ports.select import select
from sources.transport.consent import Consent
from sources.transport.downloads import Downloads
from sources.transport.http import HttpClient, NoAuth
from sources.transport.wiring import Wiring
from sources.vendors.zendesk import query as terms
from sources.vendors.zendesk import rows, tickets
from sources.vendors.zendesk.errors import explain
from sources.vendors.zendesk.limits import ATTACHMENTS, EXPORT, HELP_CENTRE, LIMITS, SEARCH, readings
from sources.vendors.zendesk.rows import NAME
from sources.vendors.zendesk.settings import Settings

__all__ = ["Settings", "connect", "consent"]

MANY = 100
"""Ids that one show_many takes, and rows of most lists on a page."""

MOST = 1000
"""Articles of one search that can be reached."""

_Record = TypeVar("_Record", TicketRecord, CustomerRecord)
_ID = re.compile(r"[1-9][0-9]{0,18}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,3}")

_count = msgspec.json.Decoder(rows.Count)
_me = msgspec.json.Decoder(rows.Me)


def connect(settings: Settings, wiring: Wiring) -> Helpdesk:
    """Makes no call. Raises InvalidRequest for a firm's own field whose property is no ticket field's number."""
    fields = tuple(field for field in wiring.custom if field.type == "Ticket")
    for field in fields:
        if not _ID.fullmatch(field.property):
            raise InvalidRequest(
                NAME, f"{field.type}.{field.name}: property must be a ticket field's number, such as 360001"
            )
    return Zendesk(settings, wiring, fields)


def consent(settings: Settings) -> Consent:
    """What an agent who sees all tickets is asked for."""
    return settings.consent()


class Zendesk:
    """The helpdesk port over one Zendesk account."""

    name = NAME

    def __init__(self, settings: Settings, wiring: Wiring, fields: tuple[CustomField, ...]) -> None:
        self._settings = settings
        self._fields = fields
        self._pages: rows.TicketPages[Any] = rows.OWN_TICKETS if fields else rows.TICKETS
        self._violations = wiring.violations
        traffic = wiring.network.traffic(
            NAME,
            settings,
            parallel=settings.parallel,
            limits=LIMITS,
            account=settings.base_url,
            read=readings,
        )
        self._http = HttpClient(
            NAME,
            settings.base_url,
            auth=settings.auth(wiring),
            traffic=traffic,
            explain=explain,
            headers={"Accept": "application/json"},
        )
        # The help centre answers by who asks: an agent would find drafts and articles for agents only.
        self._anonymous = HttpClient(
            NAME,
            settings.base_url,
            auth=NoAuth(),
            traffic=traffic,
            explain=explain,
            headers={"Accept": "application/json"},
        )

        self._downloads = Downloads(
            NAME,
            self._http,
            hosts=settings.attachment_hosts,
            # What other hosts count is not the account's.
            elsewhere=wiring.network.traffic(
                NAME, msgspec.structs.replace(settings, limits={}), parallel=settings.parallel
            ),
            endpoint=ATTACHMENTS,
        )

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]:
        found = await self._many([ref.id for ref in refs], self._organisations_by_id)
        return [found.get(ref.id) for ref in refs]

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]:
        """By external id 100 per call, letter case aside; otherwise all organisations are read once, 100 per call, as
        Zendesk cannot search them by domain. An external id with a comma cannot be asked for and finds nothing."""
        if criterion is Criterion.EXTERNAL_ID:
            distinct = list(dict.fromkeys(value for value in values if value and "," not in value))
            answers = await asyncio.gather(*map(self._organisations_by_external_id, _chunks(distinct, MANY)))
            return _matching(values, (record for answer in answers for record in answer), _external_ids)
        if not values or (criterion is Criterion.NUMBER and self._settings.number_field is None):
            return [[] for _ in values]
        keys = _numbers if criterion is Criterion.NUMBER else _domains
        return _matching(values, await self._all_organisations(), keys)

    async def tickets(self, refs: Sequence[Ref]) -> Sequence[TicketRecord | None]:
        found = await self._many([ref.id for ref in refs], self._tickets_by_id)
        return [found.get(ref.id) for ref in refs]

    async def tickets_of(
        self, customers: Sequence[Ref], query: TicketQuery
    ) -> Sequence[Page[TicketRecord] | SourceError]:
        """By priority means by priority, then creation. ``text`` is looked for in subjects, as a phrase."""
        ids = [ref.id for ref in customers if _known_form(ref.id)]
        self._check_conditions(query)
        owners = rows.Customers()
        found = await tickets.windows(
            self._http,
            self._settings,
            ids,
            query,
            self._astray,
            self._pages,
            lambda found: rows.tickets_from(found, self._fields, owners),
        )
        pages = dict(zip(ids, found, strict=True))
        return [pages.get(ref.id, Page([], [])) for ref in customers]

    async def open_counts_of(self, customers: Sequence[Ref]) -> Sequence[int | SourceError]:
        ids = list(dict.fromkeys(ref.id for ref in customers if _known_form(ref.id)))
        counts: dict[str, int | SourceError] = {}
        chunks = _chunks(ids, self._settings.organisations_per_search)
        answers = await asyncio.gather(*map(self._open_counts, chunks), return_exceptions=True)
        for chunk, answer in zip(chunks, answers, strict=True):
            if isinstance(answer, SourceError):
                counts.update(dict.fromkeys(chunk, answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                counts.update(answer)
        return [counts.get(ref.id, 0) for ref in customers]

    async def comments_of(
        self, tickets: Sequence[Ref], query: CommentQuery
    ) -> Sequence[Page[CommentRecord] | SourceError]:
        """At least one call per ticket; a ticket that does not exist has none."""
        ids = list(dict.fromkeys(ref.id for ref in tickets if _known_form(ref.id)))
        answers = await asyncio.gather(*map(self._comments, ids), return_exceptions=True)
        pages: dict[str, Page[CommentRecord] | SourceError] = {}
        for id_, answer in zip(ids, answers, strict=True):
            if isinstance(answer, SourceError):
                pages[id_] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                seen = [comment for comment, _ in answer if comment.public or query.internal]
                pages[id_] = select(seen, _said, Direction.ASC, query.window)
        return [pages.get(ref.id, Page([], [])) for ref in tickets]

    async def attachment(self, ticket: Ref, attachment_id: str, internal: bool) -> Content | None:
        if not (_known_form(ticket.id) and _known_form(attachment_id)):
            return None
        for comment, row in await self._comments(ticket.id):
            if not (comment.public or internal):
                continue
            for file in row.attachments or ():
                if str(file.id) == attachment_id and not file.deleted:
                    answer = await self._downloads.fetch(file.content_url)
                    if answer.status == 404:
                        return None
                    return Content(
                        answer.body, file.content_type or "application/octet-stream", file.file_name
                    )
        return None

    async def search_articles(self, query: ArticleQuery) -> Page[ArticleRecord]:
        """Of the first 1,000 hits."""
        window, text = query.window, query.text.strip()
        locale = query.locale or self._settings.help_centre_locale
        if locale is not None and not _LOCALE.fullmatch(locale.lower()):
            raise InvalidRequest(NAME, "the locale must look like en-gb")
        if not text:
            return Page([], [])
        search = _ArticleSearch(self._anonymous, text, locale)
        # Hits are counted from 0 here, from 1 in keys: after hit 5 comes the one with index 5.
        start = _hit(window.after) if window.after else 0
        end = _hit(window.before) - 1 if window.before else await search.total() if window.backwards else MOST
        low, high = start, end
        if window.backwards:
            low = max(start, end - window.size)
        else:
            high = min(end, start + window.size)
        read = await search.read(low, high)
        hits = [(number, row) for number, row in enumerate(read, start=low + 1) if row is not None]
        return Page(
            rows=[rows.article(row) for _, row in hits],
            keys=[Key(str(number), str(row.id)) for number, row in hits],
            has_next=window.before is not None if window.backwards else high < min(end, search.count),
            has_previous=low > start if window.backwards else window.after is not None,
        )

    async def probe(self) -> Probe:
        try:
            answer = await self._http.call("GET", "/api/v2/users/me", route="users/me")
        except SourceRejected as error:
            return Probe(False, str(error))
        user = self._http.decode(answer, _me).user
        # Zendesk answers a call without credentials too: as an anonymous user without an id.
        if user.id is None or user.role not in ("agent", "admin"):
            return Probe(
                False, f"{NAME}: the credentials are not an agent's; use an agent who sees all tickets"
            )
        host = urlsplit(self._settings.base_url).netloc
        return Probe(True, f"{host} as {user.name} ({user.role}, user {user.id})")

    async def close(self) -> None:
        await self._http.close()
        await self._anonymous.close()

    def _astray(self, rows: int) -> None:
        self._violations.record(NAME, "row", rows)

    def _check_conditions(self, query: TicketQuery) -> None:
        for condition in query.conditions:
            if not _ID.fullmatch(condition.field.property):
                raise InvalidRequest(
                    NAME, f"{condition.field.name} is not a ticket field and cannot be filtered"
                )

    async def _many(
        self, ids: Iterable[str], read: Callable[[Sequence[str]], Awaitable[Sequence[_Record]]]
    ) -> dict[str, _Record]:
        distinct = list(dict.fromkeys(id_ for id_ in ids if _known_form(id_)))
        answers = await asyncio.gather(*map(read, _chunks(distinct, MANY)))
        return {record.ref.id: record for answer in answers for record in answer}

    async def _tickets_by_id(self, ids: Sequence[str]) -> Sequence[TicketRecord]:
        answer = await self._http.call(
            "GET", "/api/v2/tickets/show_many", params=[("ids", ",".join(ids))], route="tickets/show_many"
        )
        page, _ = self._http.page(answer, self._pages.shown)
        return rows.tickets_from(page.tickets, self._fields, rows.Customers())

    async def _organisations_by_id(self, ids: Sequence[str]) -> Sequence[CustomerRecord]:
        return await self._organisations_page("/show_many", [("ids", ",".join(ids))])

    async def _organisations_by_external_id(self, ids: Sequence[str]) -> Sequence[CustomerRecord]:
        return await self._organisations_page("/show_many", [("external_ids", ",".join(ids))])

    async def _organisations_page(
        self, path: str, params: Sequence[tuple[str, str]]
    ) -> Sequence[CustomerRecord]:
        answer = await self._http.call(
            "GET", f"/api/v2/organizations{path}", params=params, route="organizations"
        )
        page, _ = self._http.page(answer, rows.ORGANISATIONS)
        return [rows.organisation(row, self._settings.number_field) for row in page.organizations]

    async def _all_organisations(self) -> Sequence[CustomerRecord]:
        records: list[CustomerRecord] = []
        params = [("page[size]", str(MANY))]
        while True:
            answer = await self._http.call(
                "GET", "/api/v2/organizations", params=params, route="organizations"
            )
            page, _ = self._http.page(answer, rows.ORGANISATIONS)
            records += [rows.organisation(row, self._settings.number_field) for row in page.organizations]
            if not page.meta.has_more or page.meta.after_cursor is None:
                return records
            params = [("page[size]", str(MANY)), ("page[after]", page.meta.after_cursor)]

    async def _open_counts(self, organisations: Sequence[str]) -> dict[str, int]:
        """One organisation is counted by Zendesk. Of several the open tickets are read, a page at a time; on each page
        that is not the last, the organisation that fills most of it is left to Zendesk's count instead."""
        seen: dict[str, set[int]] = {id_: set() for id_ in organisations}
        counted: list[str] = []
        waiting = list(organisations)
        bound: list[str] = []
        while len(waiting) > 1:
            answer = await self._http.call(
                "GET",
                "/api/v2/search/export",
                params=[
                    ("query", " ".join([*terms.organisations(waiting), "status<solved", *bound])),
                    ("filter[type]", "ticket"),
                    ("page[size]", str(self._settings.export_page_size)),
                ],
                endpoint=EXPORT,
                route="search/export",
            )
            page, _ = self._http.page(answer, rows.TICKETS.exported)
            strays = 0
            for row in page.results:
                if str(row.organization_id) in seen:
                    seen[str(row.organization_id)].add(row.id)
                else:
                    strays += 1
            if strays:
                self._astray(strays)
            if not page.meta.has_more or not page.results:
                break
            filled = Counter(str(row.organization_id) for row in page.results)
            largest = max(waiting, key=lambda id_: filled[id_])
            counted.append(largest)
            waiting.remove(largest)
            first, last = page.results[0].created_at, page.results[-1].created_at
            bound = [f"created{'<=' if last < first else '>='}{terms.instant(last)}"] if last != first else []
        else:
            counted += waiting
        exact = await asyncio.gather(*map(self._open_count, counted))
        return {id_: len(ids) for id_, ids in seen.items()} | dict(zip(counted, exact, strict=True))

    async def _open_count(self, organisation: str) -> int:
        query = " ".join(["type:ticket", *terms.organisations([organisation]), "status<solved"])
        answer = await self._http.call(
            "GET", "/api/v2/search/count", params=[("query", query)], endpoint=SEARCH, route="search/count"
        )
        return self._http.decode(answer, _count).count

    async def _comments(self, ticket: str) -> list[tuple[CommentRecord, rows.CommentRow]]:
        """All of them, oldest first, internal ones too."""
        found: list[tuple[CommentRecord, rows.CommentRow]] = []
        params = [("include", "users"), ("page[size]", str(MANY))]
        while True:
            answer = await self._http.call(
                "GET",
                f"/api/v2/tickets/{ticket}/comments",
                params=params,
                expect=(200, 404),
                route="tickets/{id}/comments",
            )
            if answer.status == 404:
                return []
            page, _ = self._http.page(answer, rows.COMMENTS)
            authors = {user.id: user.name for user in page.users if user.id is not None}
            found += [(rows.comment(ticket, row, authors), row) for row in page.comments]
            if not page.meta.has_more or page.meta.after_cursor is None:
                return found
            params = [*params[:2], ("page[after]", page.meta.after_cursor)]


class _ArticleSearch:
    """One search of the help centre, read by hit numbers counted from 0."""

    def __init__(self, http: HttpClient, text: str, locale: str | None) -> None:
        self._http = http
        self._params = [("query", text), *([("locale", locale.lower())] if locale else [])]
        self.count = 0
        """Hits that can be reached; known once something was read."""

    async def total(self) -> int:
        await self._page(1, 1)
        return self.count

    async def read(self, start: int, end: int) -> list[rows.ArticleRow | None]:
        """Hits from ``start`` up to and without ``end``, in one call where a page can be cut to hold them. None in the
        place of one that was dropped."""
        end = min(end, MOST)
        if start >= end:
            await self.total()
            return []
        for size in range(end - start, MANY + 1):
            if start // size == (end - 1) // size:
                return (await self._page(start // size + 1, size))[start % size :][: end - start]
        first = start // MANY
        both = [*await self._page(first + 1, MANY), *await self._page(first + 2, MANY)]
        return both[start - first * MANY :][: end - start]

    async def _page(self, number: int, size: int) -> list[rows.ArticleRow | None]:
        params = [*self._params, ("per_page", str(size)), ("page", str(number))]
        answer = await self._http.call(
            "GET",
            "/api/v2/help_center/articles/search",
            params=params,
            endpoint=HELP_CENTRE,
            route="articles/search",
        )
        page, _ = self._http.page(answer, rows.ARTICLES)
        self.count = min(page.count, MOST)
        return page.results


def _known_form(id_: str) -> bool:
    return _ID.fullmatch(id_) is not None


def _hit(key: Key) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", key.value):
        raise InvalidRequest(NAME, "the cursor does not belong to this list")
    return int(key.value)


def _said(comment: CommentRecord) -> Key:
    assert comment.created_at is not None
    return Key(terms.instant(comment.created_at), comment.ref.id)


def _chunks(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _external_ids(record: CustomerRecord) -> Iterable[str]:
    return [record.external_id] if record.external_id else []


def _numbers(record: CustomerRecord) -> Iterable[str]:
    return [record.number] if record.number else []


def _domains(record: CustomerRecord) -> Iterable[str]:
    return record.domains


def _matching(
    values: Sequence[str],
    records: Iterable[CustomerRecord],
    keys: Callable[[CustomerRecord], Iterable[str]],
) -> list[list[CustomerRecord]]:
    """Letter case aside, as Zendesk compares external ids and as domains are."""
    found: dict[str, dict[Ref, CustomerRecord]] = {}
    for record in records:
        for key in keys(record):
            found.setdefault(key.casefold(), {})[record.ref] = record
    return [list(found.get(value.casefold(), {}).values()) for value in values]
