"""Freshdesk as a helpdesk: a customer is a company. Tickets are read from a mirror, what was said on one is read live."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from sources.layers.mirror import Mirror, Reader, Stream
from sources.layers.mirror_readers import Batch, by_change, by_number, each
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
from sources.ports.errors import UNREADABLE, InvalidRequest, SourceError, SourceRejected
from sources.ports.helpdesk import (
    OPEN_STATUSES,
    ArticleQuery,
    ArticleRecord,
    CommentQuery,
    CommentRecord,
    Helpdesk,
    TicketQuery,
    TicketRecord,
)
from sources.ports.mirror import MirrorRow
from sources.ports.select import select
from sources.transport.background import in_background
from sources.transport.downloads import Downloads
from sources.transport.http import HttpClient
from sources.transport.wiring import Wiring
from sources.vendors.freshdesk import rows
from sources.vendors.freshdesk.errors import explain
from sources.vendors.freshdesk.limits import ATTACHMENTS, LIMITS, TICKETS, readings
from sources.vendors.freshdesk.query import question, status_marks
from sources.vendors.freshdesk.rows import FOR_ALL, NAME, PUBLISHED
from sources.vendors.freshdesk.settings import Settings

__all__ = ["Settings", "connect"]

PAGE = 100
"""Rows on a page at most."""
MOST_PAGES = 300
"""Of one list of tickets."""
INCLUDED = 10
"""Conversations that come with a ticket at most."""
MOST_HITS = 300
"""Articles of one search that are looked at."""

T = TypeVar("T")

_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LOCALE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,3}")
_KEY = re.compile(r"[0-9]{1,4}", re.ASCII)

_list = msgspec.json.Decoder(list[msgspec.Raw])
_ticket = msgspec.json.Decoder(rows.TicketRow)
_company = msgspec.json.Decoder(rows.CompanyRow)
_agent = msgspec.json.Decoder(rows.AgentRow)
_person = msgspec.json.Decoder(rows.PersonRow)
_folder = msgspec.json.Decoder(rows.FolderRow)
_me = msgspec.json.Decoder(rows.Me)


def connect(settings: Settings, wiring: Wiring) -> Helpdesk:
    """Makes no call. Raises InvalidRequest for a firm's own field whose property is no ticket field's key."""
    fields = tuple(field for field in wiring.custom if field.type == "Ticket")
    for field in fields:
        if not field.property.startswith("cf_"):
            raise InvalidRequest(
                NAME, f"{field.type}.{field.name}: property must be a ticket field's key, such as cf_region"
            )
    return Freshdesk(settings, wiring, fields)


class Freshdesk:
    """The helpdesk port over one Freshdesk account."""

    name = NAME

    def __init__(self, settings: Settings, wiring: Wiring, fields: tuple[CustomField, ...]) -> None:
        self._settings = settings
        self._fields = fields
        self._words = settings.status_words()
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
            auth=settings.auth(),
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
        self.mirror = Mirror(
            NAME, settings.base_url, self._streams(), wiring.mirrors, settings.mirror, in_background
        )

    # -- the mirror ---------------------------------------------------------------------------------------------

    def _streams(self) -> tuple[Stream, ...]:
        return (
            Stream("companies", (Reader("listed", by_number(self._companies_page)),), changes=False,
                   form=f"1 {self._settings.external_id_field} {self._settings.number_field}"),
            Stream("agents", (Reader("listed", by_number(self._agents_page)),), changes=False),
            Stream(
                "tickets",
                (
                    Reader("changed", by_change(NAME, self._tickets_page, most_pages=MOST_PAGES)),
                    Reader("deleted", by_change(NAME, self._deleted_page, most_pages=MOST_PAGES)),
                    Reader("spam", by_change(NAME, self._spam_page, most_pages=MOST_PAGES)),
                ),
                shows=("Ticket",),
            ),
        )  # fmt: skip

    async def _tickets_page(self, since: datetime, number: int) -> Batch:
        return await self._changed_page(since, number)

    async def _deleted_page(self, since: datetime, number: int) -> Batch:
        return await self._changed_page(since, number, "deleted")

    async def _spam_page(self, since: datetime, number: int) -> Batch:
        return await self._changed_page(since, number, "spam")

    async def _changed_page(self, since: datetime, number: int, only: str | None = None) -> Batch:
        params = [
            *([("filter", only)] if only else []),
            ("updated_since", rows.instant(since)),
            ("order_by", "updated_at"),
            ("order_type", "asc"),
        ]
        page, more = await self._page("/api/v2/tickets", params, number, TICKETS)
        found, unfit, dropped = self._each("ticket", page, rows.TicketRow, rows.ticket_copy)
        living = [copy for row, copy in found if not (only or row.deleted or row.spam)]
        gone = [str(row.id) for row, _ in found if only or row.deleted or row.spam]
        return Batch(living, [row.updated_at for row, _ in found], [*gone, *unfit], dropped, more)

    async def _companies_page(self, number: int) -> Batch:
        page, more = await self._page("/api/v2/companies", (), number)
        external, numbered = self._settings.external_id_field, self._settings.number_field
        found, unfit, dropped = self._each(
            "customer", page, rows.CompanyRow, lambda row: rows.company_copy(row, external, numbered)
        )
        return Batch([copy for _, copy in found], (), unfit, dropped, more)

    async def _agents_page(self, number: int) -> Batch:
        page, more = await self._page("/api/v2/agents", (), number)
        found, unfit, dropped = self._each("agent", page, rows.AgentRow, rows.agent_copy)
        return Batch([copy for _, copy in found], (), unfit, dropped, more)

    def _each(
        self, kind: str, page: Sequence[msgspec.Raw], type_: type[T], copy: Callable[[T], MirrorRow]
    ) -> tuple[list[tuple[T, MirrorRow]], list[str], int]:
        try:
            return each(page, type_, copy, partial(self._http.drop, kind))
        except UNREADABLE as error:
            raise self._http.unexpected(error) from error

    async def _page(
        self, path: str, params: Iterable[tuple[str, str]], number: int, endpoint: str = ""
    ) -> tuple[list[msgspec.Raw], bool]:
        """A page of a list, and whether there is another."""
        answer = await self._http.call(
            "GET",
            path,
            params=[*params, ("per_page", str(PAGE)), ("page", str(number))],
            endpoint=endpoint,
        )
        page = self._http.decode(answer, _list)
        return page, len(page) >= PAGE or 'rel="next"' in answer.headers.get("link", "")

    # -- customers ----------------------------------------------------------------------------------------------

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]:
        found = await self.mirror.rows("companies", _known(refs))
        records = {id_: self._customer(body) for id_, body in found.items()}
        return [records.get(ref.id) for ref in refs]

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]:
        """Letter case aside. One query."""
        kind = {
            Criterion.EXTERNAL_ID: "external",
            Criterion.NUMBER: "number",
            Criterion.EMAIL_DOMAIN: "domain",
        }[criterion]
        found = await self.mirror.rows_by_key(
            "companies", [f"{kind}:{value.casefold()}" for value in values if value]
        )
        return [
            [self._customer(body) for body in found.get(f"{kind}:{value.casefold()}", ())] for value in values
        ]

    def _customer(self, body: bytes) -> CustomerRecord:
        row = _company.decode(body)
        return rows.company(row, self._settings.external_id_field, self._settings.number_field)

    # -- tickets ------------------------------------------------------------------------------------------------

    async def tickets(self, refs: Sequence[Ref]) -> Sequence[TicketRecord | None]:
        found = await self.mirror.rows("tickets", _known(refs))
        records = {id_: self._record(body) for id_, body in found.items()}
        return [records.get(ref.id) for ref in refs]

    async def tickets_of(
        self, customers: Sequence[Ref], query: TicketQuery
    ) -> Sequence[Page[TicketRecord] | SourceError]:
        """By priority means by priority, then creation. ``text`` is looked for in subjects, as a phrase."""
        asked = question(query, self._words)
        if asked is None:
            return [Page([], []) for _ in customers]
        try:
            found = await self.mirror.pages("tickets", _known(customers), asked)
        except SourceError as error:
            return [error for _ in customers]
        pages = {
            id_: Page([self._record(body) for body in page.rows], page.keys, page.has_next, page.has_previous)
            for id_, page in found.items()
        }
        return [pages.get(ref.id, Page([], [])) for ref in customers]

    async def open_counts_of(self, customers: Sequence[Ref]) -> Sequence[int | SourceError]:
        try:
            counts = await self.mirror.counts(
                "tickets", _known(customers), status_marks(OPEN_STATUSES, self._words)
            )
        except SourceError as error:
            return [error for _ in customers]
        return [counts.get(ref.id, 0) for ref in customers]

    def _record(self, body: bytes) -> TicketRecord:
        return rows.ticket(_ticket.decode(body), self._fields, self._words)

    # -- what was said ------------------------------------------------------------------------------------------

    async def comments_of(
        self, tickets: Sequence[Ref], query: CommentQuery
    ) -> Sequence[Page[CommentRecord] | SourceError]:
        """One call per ticket, and one per hundred conversations where there are ten or more; a ticket that does not
        exist has none."""
        try:
            companies = await self._companies_of(tickets)
        except SourceError as error:
            return [error for _ in tickets]
        answers = await asyncio.gather(
            *(self._said(id_, company) for id_, company in companies.items()), return_exceptions=True
        )
        pages: dict[str, Page[CommentRecord] | SourceError] = {}
        for id_, answer in zip(companies, answers, strict=True):
            if isinstance(answer, SourceError):
                pages[id_] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                seen = [comment for comment, _ in answer if comment.public or query.internal]
                pages[id_] = select(seen, _place, Direction.ASC, query.window)
        return [pages.get(ref.id, Page([], [])) for ref in tickets]

    async def attachment(self, ticket: Ref, attachment_id: str, internal: bool) -> Content | None:
        if not _ID.fullmatch(attachment_id):
            return None
        for id_, company in (await self._companies_of([ticket])).items():
            for comment, files in await self._said(id_, company):
                if not (comment.public or internal):
                    continue
                for file in files:
                    if str(file.id) == attachment_id:
                        answer = await self._downloads.fetch(file.attachment_url)
                        if answer.status == 404:
                            return None
                        return Content(
                            answer.body, file.content_type or "application/octet-stream", file.name
                        )
        return None

    async def _companies_of(self, tickets: Sequence[Ref]) -> dict[str, int | None]:
        """Whose the tickets are, as far as the mirror has them."""
        found = await self.mirror.rows("tickets", _known(tickets))
        return {id_: _ticket.decode(body).company_id for id_, body in found.items()}

    async def _said(
        self, ticket: str, company: int | None
    ) -> list[tuple[CommentRecord, Sequence[rows.AttachmentRow]]]:
        """All of it, oldest first, internal notes too. Nothing where the ticket is another company's meanwhile: whoever was
        shown it by the mirror is not shown what is said on it now."""
        answer = await self._http.call(
            "GET",
            f"/api/v2/tickets/{ticket}",
            params=[("include", "conversations,requester")],
            expect=(200, 404),
            route="tickets/{id}",
        )
        if answer.status == 404:
            return []
        whole, _ = self._http.page(answer, rows.WHOLE)
        if whole.company_id != company or whole.deleted or whole.spam:
            return []
        conversations = whole.conversations
        if len(conversations) >= INCLUDED:
            conversations = await self._conversations(ticket)
        names = await self._names({row.user_id for row in conversations if row.user_id is not None}, whole)
        first = rows.opening(whole)
        said: list[tuple[CommentRecord, Sequence[rows.AttachmentRow]]] = []
        if first is not None:
            said.append((first, whole.attachments or ()))
        said += [(rows.comment(ticket, row, names), row.attachments or ()) for row in conversations]
        return said

    async def _conversations(self, ticket: str) -> list[rows.ConversationRow]:
        found: list[rows.ConversationRow] = []
        for number in range(1, MOST_PAGES + 1):
            answer = await self._http.call(
                "GET",
                f"/api/v2/tickets/{ticket}/conversations",
                params=[("per_page", str(PAGE)), ("page", str(number))],
                expect=(200, 404),
                route="tickets/{id}/conversations",
            )
            if answer.status == 404:
                break
            page, dropped = self._http.page(answer, rows.CONVERSATIONS)
            found += page.conversations
            if len(page.conversations) + dropped < PAGE:
                break
        return found

    async def _names(self, people: set[int], whole: rows.WholeTicket) -> dict[int, str | None]:
        """Who said it: the requester comes with the ticket and agents are mirrored; others are read, one call each."""
        names: dict[int, str | None] = {}
        if whole.requester_id is not None and whole.requester is not None:
            names[whole.requester_id] = whole.requester.name
        try:
            agents = await self.mirror.rows(
                "agents", [str(person) for person in sorted(people - names.keys())]
            )
        except SourceError:
            agents = {}  # an agent without the right to list the others: what was said is worth more than by whom
        for id_, body in agents.items():
            contact = _agent.decode(body).contact
            names[int(id_)] = contact.name if contact else None
        others = sorted(people - names.keys())
        found = await asyncio.gather(*map(self._contact_name, others))
        return names | dict(zip(others, found, strict=True))

    async def _contact_name(self, person: int) -> str | None:
        answer = await self._http.call(
            "GET", f"/api/v2/contacts/{person}", expect=(200, 404), route="contacts/{id}"
        )
        return None if answer.status == 404 else self._http.decode(answer, _person).name

    # -- articles -----------------------------------------------------------------------------------------------

    async def search_articles(self, query: ArticleQuery) -> Page[ArticleRecord]:
        """Of the first 300 hits. The API answers as the agent would be: what not everybody may read is left out here, by the
        article's status and its folder's visibility, one call per folder."""
        locale, text = query.locale or self._settings.help_centre_locale, query.text.strip()
        if locale is not None and not _LOCALE.fullmatch(locale.lower()):
            raise InvalidRequest(NAME, "the locale must look like en-gb")
        for key in (query.window.after, query.window.before):
            if key is not None and not _KEY.fullmatch(key.value):
                raise InvalidRequest(NAME, "the cursor does not belong to this list")
        if not text:
            return Page([], [])
        hits: list[rows.ArticleRow] = []
        for number in range(1, MOST_HITS // PAGE + 1):
            answer = await self._http.call(
                "GET",
                "/api/v2/search/solutions",
                params=[("term", text), ("per_page", str(PAGE)), ("page", str(number))],
                route="search/solutions",
            )
            page, dropped = self._http.page(answer, rows.ARTICLES)
            hits += page.articles
            if len(page.articles) + dropped < PAGE:
                break
        hits = [
            row
            for row in dict(zip((row.id for row in hits), hits, strict=True)).values()
            if row.status == PUBLISHED
            and row.folder_id is not None
            and (locale is None or (row.language or "").lower() == locale.lower())
        ]
        folders = sorted({row.folder_id for row in hits if row.folder_id is not None})
        open_to_all = await asyncio.gather(*map(self._is_open, folders))
        shown = {folder for folder, is_open in zip(folders, open_to_all, strict=True) if is_open}
        found = [row for row in hits if row.folder_id in shown]
        # A key is a hit's number, written so that it sorts.
        numbered = {row.id: f"{number:04}" for number, row in enumerate(found, start=1)}
        page_ = select(found, lambda row: Key(numbered[row.id], str(row.id)), Direction.ASC, query.window)
        return Page(
            [rows.article(row, self._settings.base_url) for row in page_.rows],
            page_.keys,
            page_.has_next,
            page_.has_previous,
        )

    async def _is_open(self, folder: int) -> bool:
        answer = await self._http.call(
            "GET", f"/api/v2/solutions/folders/{folder}", expect=(200, 404), route="solutions/folders/{id}"
        )
        return answer.status == 200 and self._http.decode(answer, _folder).visibility == FOR_ALL

    async def probe(self) -> Probe:
        try:
            answer = await self._http.call("GET", "/api/v2/agents/me", route="agents/me")
        except SourceRejected as error:
            return Probe(False, str(error))
        me = self._http.decode(answer, _me)
        name = me.contact.name if me.contact else None
        host = urlsplit(self._settings.base_url).netloc
        return Probe(True, f"{host} as {name or 'an agent'} (agent {me.id})")

    async def close(self) -> None:
        await self._http.close()


def _known(refs: Iterable[Ref]) -> list[str]:
    return list(dict.fromkeys(ref.id for ref in refs if _ID.fullmatch(ref.id)))


def _place(comment: CommentRecord) -> Key:
    assert comment.created_at is not None
    return Key(rows.instant(comment.created_at), comment.ref.id)
