"""Pages of contacts in the order of their ids, read through the lists of ids that HubSpot's associations give."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sources.ports.common import Direction, Key, Page, Window
from sources.ports.errors import InvalidRequest, SourceBadResponse, SourceError
from sources.vendors.hubspot.api import SOURCE, Api, Listing, Row


async def whole_lists(
    api: Api, source: str, target: str, listings: dict[str, Listing], cap: int | None = None
) -> None:
    """Reads every listing to its end, or past ``cap`` ids; all listings share the calls."""
    turning = dict(listings)
    while turning:
        await api.turn(source, target, turning)
        turning = {
            owner: listing
            for owner, listing in turning.items()
            if listing.after and (cap is None or len(listing.ids) <= cap)
        }


async def pages_by_id(
    api: Api,
    listings: dict[str, Listing],
    window: Window,
    direction: Direction,
    properties: msgspec.Raw,
) -> dict[str, Page[Row] | SourceError]:
    """The window of each account's contacts by number of id. Only contacts that a page needs are read, and one more
    to know whether others follow. Oldest first, a long list of ids is read only as far as needed."""
    for key in (window.after, window.before):
        if key is not None and not (key.id.isascii() and key.id.isdigit() and len(key.id) < 20):
            raise InvalidRequest(SOURCE, "the cursor does not belong to this ordering")
    rolls = {owner: _Roll(listing, window, direction) for owner, listing in listings.items()}
    unread, growth = dict(listings), 1
    while True:
        if unread:
            await api.turn("companies", "contacts", unread)
            for owner in unread:
                rolls[owner].fill()
        short = {owner: roll for owner, roll in rolls.items() if roll.short}
        unread = {owner: roll.listing for owner, roll in short.items() if roll.dry and roll.listing.after}
        if unread:
            continue
        taken = {owner: some for owner, roll in short.items() if (some := roll.take(growth))}
        if not taken:
            return {owner: roll.page() for owner, roll in rolls.items()}
        ids = [one for some in taken.values() for one in some]
        found, failed = await api.read("contacts", ids, properties)
        for owner, some in taken.items():
            rolls[owner].give(some, found, failed)
        # Archived contacts stay in the lists of ids: a page that they left short asks for more and more at once.
        growth *= 4


class _Roll:
    """One account's list of ids while its page fills up."""

    def __init__(self, listing: Listing, window: Window, direction: Direction) -> None:
        self.listing = listing
        self._window = window
        # The last few of a list are the first few of the list turned round.
        self._descending = (direction is Direction.DESC) != window.backwards
        self._marks = [_number(key) for key in (window.after, window.before)]
        if direction is Direction.DESC:
            self._marks.reverse()
        self._queue: deque[int] = deque()
        self._rows: dict[str, Row] = {}
        self._failed: SourceError | None = None
        self._filled = 0

    @property
    def short(self) -> bool:
        """Does the page want more, and may there be more?"""
        return self._failed is None and len(self._rows) <= self._window.size

    @property
    def dry(self) -> bool:
        return not self._queue

    def fill(self) -> None:
        """Takes over the ids that the listing has by now, as soon as their order is certain."""
        if self.listing.error:
            self._failed = self.listing.error
            return
        ids = list(map(int, self.listing.ids))
        ordered = sorted(set(ids))
        if self._descending or ids != ordered:
            if self._filled:
                self._failed = SourceBadResponse(SOURCE, "the associations of an account came out of order")
            elif self.listing.after is None:
                self._queue.extend(self._inside(reversed(ordered) if self._descending else ordered))
            return
        self._queue.extend(self._inside(ids[self._filled :]))
        self._filled = len(ids)

    def take(self, growth: int) -> list[str]:
        """The next ids to read: what the page lacks, times ``growth``."""
        count = (self._window.size + 1 - len(self._rows)) * growth
        return [str(self._queue.popleft()) for _ in range(min(count, len(self._queue)))]

    def give(self, ids: Sequence[str], found: Mapping[str, Row], failed: Mapping[str, SourceError]) -> None:
        """What was read of the ids that were taken."""
        for one in ids:
            if (row := found.get(one)) is not None:
                self._rows.setdefault(row.id, row)
            elif one in failed:
                self._failed = failed[one]

    def page(self) -> Page[Row] | SourceError:
        if self._failed:
            return self._failed
        window = self._window
        rows = list(self._rows.values())[: window.size]
        more = len(self._rows) > window.size
        if window.backwards:
            rows.reverse()
        keys = [added_key(row) for row in rows]
        if window.backwards:
            return Page(rows, keys, has_next=window.before is not None, has_previous=more)
        return Page(rows, keys, has_next=more, has_previous=window.after is not None)

    def _inside(self, numbers: Iterable[int]) -> Iterable[int]:
        low, high = self._marks
        if low is not None:
            numbers = [number for number in numbers if number > low]
        if high is not None:
            numbers = [number for number in numbers if number < high]
        return numbers


def added_key(row: Row) -> Key:
    """Ids in 19 digits, so that they sort as text as they do as numbers."""
    return Key(row.id.zfill(19), row.id)


def _number(key: Key | None) -> int | None:
    return None if key is None else int(key.id)
