"""Tickets of many organisations: which of Zendesk's two searches answers, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from sources.ports.common import Direction, Key, Page, Window
from sources.ports.errors import SourceBadResponse, SourceError
from sources.ports.helpdesk import TicketOrder, TicketQuery, TicketRecord
from sources.transport.fanin import Fetch, Slice, Span, windows_of
from sources.transport.http import HttpClient
from sources.vendors.zendesk import query as terms
from sources.vendors.zendesk.limits import EXPORT, SEARCH
from sources.vendors.zendesk.rows import NAME, PRIORITY_WORDS, ExportPage, TicketPages, TicketRow
from sources.vendors.zendesk.settings import Settings

SEARCH_PAGE = 100
"""Rows on a page of a search at most."""

SEARCH_HITS = 1000
"""Hits of a search that can be reached; the page behind them is refused (422)."""

_SMALLEST_SEARCH_PAGE = 25


async def windows(
    http: HttpClient,
    settings: Settings,
    organisations: Sequence[str],
    query: TicketQuery,
    astray: Callable[[int], None],
    pages: TicketPages[TicketRow],
    mapped: Callable[[Sequence[TicketRow]], Sequence[TicketRecord]],
) -> list[Page[TicketRecord] | SourceError]:
    """A page per organisation, in the order asked. ``astray`` is told how many tickets were none's of them."""
    found = terms.filters(query)
    wanted_ranks = terms.ranks(query)
    if found is None or wanted_ranks is None:
        return [Page([], []) for _ in organisations]
    many = len(set(organisations)) * (query.window.size + 1) > SEARCH_PAGE
    reading = _Reading(http, pages, found, wanted_ranks, query, settings.export_page_size if many else None)
    read = reading.fetch

    async def fetch(parents: Sequence[str], span: Span, page: int, size: int) -> Slice[TicketRecord]:
        found = await read(parents, span, page, size)
        # At once, and not when all is read: the rows make room for the next, and are still at hand.
        return Slice(mapped(found.rows), found.more)

    return await windows_of(
        organisations,
        query.window,
        query.direction,
        fetch=fetch,
        parents_of=_organisations,
        keys_of=_KEYS[query.order],
        chunk=settings.organisations_per_search,
        page_sizes=(_SMALLEST_SEARCH_PAGE, SEARCH_PAGE),
        astray=astray,
    )


class _Reading:
    """The calls behind one question.

    A search sorts as asked, but 100 rows to a page and 1,000 in all. An export (``export_size`` rows to a page, for
    questions that one search page cannot answer) knows one order, the newest first: it serves when that is the order
    asked for, and in any order when its first page holds all that there is.
    """

    def __init__(
        self,
        http: HttpClient,
        pages: TicketPages[TicketRow],
        filters: Sequence[str],
        ranks: Sequence[int],
        query: TicketQuery,
        export_size: int | None,
    ) -> None:
        self._http, self._pages = http, pages
        self._filters, self._ranks = filters, ranks
        self._order = query.order
        self._running = running(query.direction, query.window)
        self._export_size = export_size
        self._cursors: dict[tuple[tuple[str, ...], Span, int], str] = {}
        self._long: set[tuple[str, ...]] = set()
        """Organisations whose tickets are known not to fit one page."""

    @property
    def fetch(self) -> Fetch[TicketRow]:
        if self._order is TicketOrder.PRIORITY:
            return self._by_priority
        newest_first = self._order is TicketOrder.CREATED_AT and self._running is Direction.DESC
        return self._exported if newest_first and self._export_size else self._searched

    async def _searched(
        self, organisations: Sequence[str], span: Span, page: int, size: int
    ) -> Slice[TicketRow]:
        keyword, sort_by = _SORTS[self._order]
        bounds = [*terms.priorities(self._ranks), *terms.between(keyword, span)]
        if page == 1 and self._export_size:
            whole = await self._whole(organisations, bounds)
            if whole is not None:
                return whole
        if page > 1 and size < SEARCH_PAGE:
            # A page is only turned within ties: the rest of them is read by full pages, from their start again.
            page, size = page - 1, SEARCH_PAGE
        return await self._search(organisations, bounds, sort_by, page, size)

    async def _exported(
        self, organisations: Sequence[str], span: Span, page: int, size: int
    ) -> Slice[TicketRow]:
        here = ((*organisations,), span, page)
        if page > 1 and here not in self._cursors:
            return await self._searched(organisations, span, page, size)
        bounds = [*terms.priorities(self._ranks), *terms.between("created", span)]
        answer = await self._export(organisations, bounds, self._cursors.get(here))
        rows, more, cursor = answer.results, answer.meta.has_more, answer.meta.after_cursor
        if more and (cursor is None or any(a.created_at < b.created_at for a, b in pairwise(rows))):
            # That the newest come first is read off the cursor in the vendor's own example (Support API 2.0.0), not
            # stated: where they do not, only the search serves.
            self._long.add((*organisations,))
            return await self._searched(organisations, span, page, size)
        if more and cursor is not None:
            self._cursors[(*organisations,), span, page + 1] = cursor
        return Slice(rows, more)

    async def _by_priority(
        self, organisations: Sequence[str], span: Span, page: int, size: int
    ) -> Slice[TicketRow]:
        """By priority and then creation, as the ties of a priority alone may be more than a search can reach: one call
        when what is left fits a page; else a search per priority, from the span's on, until there is enough."""
        first, last, step = (4, 0, -1) if self._running is Direction.DESC else (0, 4, 1)
        start, end = terms.ranked(span.start), terms.ranked(span.end)
        left = [
            rank
            for rank in range(start[0] if start else first, (end[0] if end else last) + step, step)
            if rank in self._ranks
        ]
        if not left:
            return Slice([], False)
        whole = await self._whole(organisations, terms.priorities(left)) if page == 1 else None
        if whole is not None:
            return whole
        rows: list[TicketRow] = []
        for place, rank in enumerate(left):
            within = Span(
                self._running,
                start=start[1] if start and start[0] == rank else None,
                end=end[1] if end and end[0] == rank else None,
            )
            answer = await self._search(
                organisations,
                [*terms.priorities([rank]), *terms.between("created", within)],
                "created_at",
                page if place == 0 else 1,
                SEARCH_PAGE,
            )
            rows += answer.rows
            if answer.more or len(rows) >= size:
                return Slice(rows, answer.more or place < len(left) - 1)
        return Slice(rows, False)

    async def _whole(self, organisations: Sequence[str], bounds: Sequence[str]) -> Slice[TicketRow] | None:
        """All there is, in no promised order; None where one page does not hold it."""
        if (*organisations,) in self._long:
            return None
        if self._export_size:
            page = await self._export(organisations, bounds, None)
            answer = Slice(page.results, page.meta.has_more)
        else:
            answer = await self._search(organisations, bounds, "created_at", 1, SEARCH_PAGE)
        if answer.more:
            self._long.add((*organisations,))
            return None
        return answer

    async def _export(
        self, organisations: Sequence[str], bounds: Sequence[str], cursor: str | None
    ) -> ExportPage[TicketRow]:
        params = [
            ("query", " ".join([*terms.organisations(organisations), *self._filters, *bounds])),
            ("filter[type]", "ticket"),
            ("page[size]", str(self._export_size)),
            *([("page[after]", cursor)] if cursor else []),
        ]
        answer = await self._http.call(
            "GET", "/api/v2/search/export", params=params, endpoint=EXPORT, route="search/export"
        )
        page, _ = self._http.page(answer, self._pages.exported)
        return page

    async def _search(
        self, organisations: Sequence[str], bounds: Sequence[str], sort_by: str, page: int, size: int
    ) -> Slice[TicketRow]:
        if page * size > SEARCH_HITS:
            raise SourceBadResponse(
                NAME, f"more than {SEARCH_HITS} tickets share one value of the order; choose another order"
            )
        params = [
            (
                "query",
                " ".join(["type:ticket", *terms.organisations(organisations), *self._filters, *bounds]),
            ),
            ("sort_by", sort_by),
            ("sort_order", self._running.value),
            ("per_page", str(size)),
            ("page", str(page)),
        ]
        answer = await self._http.call(
            "GET", "/api/v2/search", params=params, endpoint=SEARCH, route="search"
        )
        found, _ = self._http.page(answer, self._pages.searched)
        return Slice(found.results, found.next_page is not None)


def running(direction: Direction, window: Window) -> Direction:
    """The last few of a list are read as the first few of the list turned round."""
    if not window.backwards:
        return direction
    return Direction.ASC if direction is Direction.DESC else Direction.DESC


_SORTS = {
    TicketOrder.CREATED_AT: ("created", "created_at"),
    TicketOrder.UPDATED_AT: ("updated", "updated_at"),
}
"""The keyword that bounds an order, and the order's name."""

_RANKS = {word: rank for rank, word in enumerate(PRIORITY_WORDS.values(), start=1)}


def _organisations(records: Sequence[TicketRecord]) -> list[str]:
    return [record.customer.id if record.customer else "" for record in records]


def _by_creation(records: Sequence[TicketRecord]) -> list[Key]:
    # Zendesk's rows have both moments.
    instants = terms.instants([record.created_at for record in records if record.created_at])
    return [Key(instant, record.number) for instant, record in zip(instants, records, strict=True)]


def _by_change(records: Sequence[TicketRecord]) -> list[Key]:
    instants = terms.instants([record.updated_at for record in records if record.updated_at])
    return [Key(instant, record.number) for instant, record in zip(instants, records, strict=True)]


def _by_priority(records: Sequence[TicketRecord]) -> list[Key]:
    ranks = [_RANKS.get(record.source_priority or "", 0) for record in records]
    return [
        Key(f"{rank} {key.value}", key.id) for rank, key in zip(ranks, _by_creation(records), strict=True)
    ]


_KEYS: Mapping[TicketOrder, Callable[[Sequence[TicketRecord]], list[Key]]] = {
    TicketOrder.CREATED_AT: _by_creation,
    TicketOrder.UPDATED_AT: _by_change,
    TicketOrder.PRIORITY: _by_priority,
}
