"""A mirror: a copy of a vendor's records in the ledger, for vendors that cannot be asked about many customers at once.

A connector declares its streams; the rest is here. Runs read what has changed since the last one and store each page
together with where it ended, so that any process can go on after any other. One process at a time writes a source's copies.
Questions are answered from the copy alone, whatever the vendor does, and say how old it is.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, TypeVar

import msgspec
import structlog

from sources.layers.mirror_readers import Read, Slice
from sources.ports.common import Page
from sources.ports.errors import (
    InvalidRequest,
    SourceError,
    SourceRateLimited,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.mirror import (
    Bookmark,
    Copied,
    CopiedCounts,
    CopiedPages,
    Copy,
    Lag,
    MirrorQuery,
    MirrorStore,
    MirrorTurn,
    Standing,
    TurnLost,
)

LONGEST_WAIT_SECONDS = 120.0
"""A limit that gives calls back within it is waited for in the middle of a run; otherwise the run rests until the next turn."""
SHORTEST_WAIT_SECONDS = 1.0
TRIES = 3
"""Pages that fail in a row before a run rests."""
TURN_SECONDS = 0.2
"""How often somebody who waits for another process's run looks whether it is over."""

Found = TypeVar("Found", Copied, CopiedPages, CopiedCounts)

log = structlog.get_logger()


class MirrorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[sources.<kind>.mirror]``: how closely the copy follows its vendor. All in seconds."""

    every: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    """Between runs that read what has changed."""
    lists_every: Annotated[float, msgspec.Meta(ge=1, le=604_800)] = 900.0
    """The same for lists that the vendor only gives whole."""
    sweep_every: Annotated[float, msgspec.Meta(ge=60, le=2_592_000)] = 86_400.0
    """Between runs that read everything again: what was deleted without a trace is noticed by the second."""
    overlap: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 120.0
    """How far each run goes back behind the latest change that it knows: a vendor's clocks differ from each other, and
    changes show late."""
    freshest: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0
    """A client that wants it newer than the copy is has a run made now; none can ask for anything newer than this."""
    max_age: Annotated[float, msgspec.Meta(ge=60)] = 86_400.0
    """A copy that is older is not shown any more: its source counts as unavailable."""


class Reader(msgspec.Struct, frozen=True):
    """One list of the vendor."""

    name: str
    read: Read


class Stream(msgspec.Struct, frozen=True):
    """One kind of record. The first reader lists the records; those after it list what is gone."""

    name: str
    readers: tuple[Reader, ...]
    changes: bool = True
    """Can the vendor list what has changed? Else every run reads the whole list."""
    form: str = "1"
    """Changes when rows are kept in another form; they are all read again then."""
    shows: tuple[str, ...] = ()
    """What the graph shows of it, by type."""


Told = Callable[[str, int], None]
"""Told of progress: a stream's name and how many rows it read just now."""


_ages: ContextVar[list[float] | None] = ContextVar("ages", default=None)


@contextmanager
def ages_noted() -> Iterator[list[float]]:
    """How old the copies were, in seconds, that questions inside were answered from."""
    ages: list[float] = []
    token = _ages.set(ages)
    try:
        yield ages
    finally:
        _ages.reset(token)


class Mirror:
    """The copies of one account of one source."""

    def __init__(
        self,
        source: str,
        account: str,
        streams: Sequence[Stream],
        store: MirrorStore | None,
        settings: MirrorSettings,
        terms: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """``account`` tells accounts of the vendor apart; it is not shown to anyone. ``store`` None: nothing is kept, for
        who only probes. ``terms``: on which each page is asked for."""
        self.source = source
        self._streams = {stream.name: stream for stream in streams}
        self.shown = {type_name: stream for stream in streams for type_name in stream.shows}
        """The streams by what the graph shows of them."""
        self._hurrying: dict[str, asyncio.Task[bool]] = {}
        self._copies = {
            stream.name: Copy(
                source, stream.name, sha256(f"{account}|{stream.form}".encode()).hexdigest()[:16]
            )
            for stream in streams
        }
        self._store = store
        self._settings = settings
        self._terms = terms
        self.lags: Sequence[Lag] = ()
        """As this process last heard; see ``lag``."""
        self._heard = 0.0

    # -- reading ------------------------------------------------------------------------------------------------

    async def rows(self, stream: str, ids: Sequence[str]) -> Mapping[str, bytes]:
        """Those that are there, by id. One query; raises SourceUnavailable where there is no copy to show."""
        asked = list(dict.fromkeys(ids))
        if not asked:
            return {}
        found = self._shown(await self._kept().rows(self._copies[stream], asked))
        return {id_: bodies[0] for id_, bodies in found.rows.items()}

    async def rows_by_key(self, stream: str, keys: Sequence[str]) -> Mapping[str, Sequence[bytes]]:
        """By key. One query."""
        asked = list(dict.fromkeys(keys))
        if not asked:
            return {}
        return self._shown(await self._kept().rows_by_key(self._copies[stream], asked)).rows

    async def pages(
        self, stream: str, parents: Sequence[str], query: MirrorQuery
    ) -> Mapping[str, Page[bytes]]:
        """By customer. One query, however many customers."""
        if not parents:
            return {}
        return self._shown(await self._kept().pages(self._copies[stream], parents, query)).pages

    async def counts(self, stream: str, parents: Sequence[str], marks: Sequence[str]) -> Mapping[str, int]:
        """By customer. One query."""
        if not parents:
            return {}
        return self._shown(await self._kept().counts(self._copies[stream], parents, marks)).counts

    async def lag(self) -> Sequence[Lag]:
        """How far each stream is behind, in the order declared."""
        self.lags = await self._kept().lags(list(self._copies.values()))
        self._heard = time.monotonic()
        return self.lags

    @property
    def age(self) -> float | None:
        """Seconds by which the copies are behind, now, the one that is most; None where one is not complete, or nothing was
        heard yet."""
        ages = [lag.age for lag in self.lags]
        if not ages or None in ages:
            return None
        return max(age for age in ages if age is not None) + time.monotonic() - self._heard

    @property
    def trouble(self) -> str | None:
        """In words, None where there is none; as of the last ``lag``."""
        for lag in self.lags:
            if lag.age is None:
                return f"the first copy of {lag.stream} is not complete"
            if lag.age > self._late(self._streams[lag.stream]):
                why = f": {lag.failure}" if lag.failure else ""
                return f"the copy of {lag.stream} is {lag.age:.0f} s old{why}"
        return None

    def pace(self, type_name: str) -> float:
        """Seconds between the runs that read what is shown as this type."""
        return self._pace(self.shown[type_name])

    def promise(self, type_name: str) -> float:
        """The oldest, in seconds, that is shown as this type while its source answers."""
        return self._late(self.shown[type_name])

    async def reach(self, type_name: str, age: float, patience: float) -> None:
        """Returns when what is shown as this type is no older than ``age`` seconds from now, or than the settings'
        ``freshest``. What has changed is read for it, by one run for all who wait. Raises SourceError where that fails or
        takes longer than ``patience`` seconds."""
        stream, loop = self.shown[type_name], asyncio.get_running_loop()
        began, age = loop.time(), max(age, self._settings.freshest)
        while True:
            found = await self._kept().rows(self._copies[stream.name], ())
            waited = loop.time() - began
            if found.age is None or found.age <= age + waited:
                return  # where there is no copy yet, the question itself says so
            run = self._hurrying.get(stream.name)
            if run is None or run.done():
                run = asyncio.create_task(self._hurry(stream), name=f"hurry {self.source}", context=Context())
                self._hurrying[stream.name] = run
            done, _ = await asyncio.wait([run], timeout=max(0.0, patience - waited))
            if not done:
                raise SourceTimeout(
                    self.source, "its copy could not be brought up to date before the deadline"
                )
            if not run.cancelled() and (error := run.exception()) is not None:
                raise error

    async def _hurry(self, stream: Stream) -> bool:
        done = await self.catch_up(patient=False, everything=True, only=stream)
        if not done:
            await asyncio.sleep(TURN_SECONDS)
        return done

    async def close(self) -> None:
        """Ends the runs that clients have asked for."""
        for run in self._hurrying.values():
            run.cancel()
        await asyncio.gather(*self._hurrying.values(), return_exceptions=True)

    def _kept(self) -> MirrorStore:
        if self._store is None:
            raise SourceUnavailable(self.source, "there is no ledger to keep copies in")
        return self._store

    def _shown(self, found: Found) -> Found:
        if found.age is None:
            raise SourceUnavailable(
                self.source, "the first copy of its records is not complete yet; see `gateway sync`"
            )
        if found.age > self._settings.max_age:
            raise SourceUnavailable(
                self.source, "the copy of its records is too old to be shown; see `gateway sync`"
            )
        if (ages := _ages.get()) is not None:
            ages.append(found.age)
        return found

    # -- following ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Follows the vendor until cancelled. Any number of processes may: the others find nothing to do."""
        while True:
            for step in (lambda: self.catch_up(patient=True), self.lag):
                try:
                    await step()
                except SourceError as error:
                    log.warning("mirror_rests", source=self.source, reason=str(error))
                except Exception as error:
                    # Nobody else would start it again.
                    log.error("mirror_rests", source=self.source, reason=type(error).__name__)
            await asyncio.sleep(min(self._settings.every, self._settings.lists_every))

    async def catch_up(
        self,
        *,
        patient: bool,
        everything: bool = False,
        whole: bool = False,
        told: Told | None = None,
        only: Stream | None = None,
    ) -> bool:
        """Runs the streams whose time has come, or ``everything``; ``whole``: reads all there is. False: another process
        has the turn. A stream that fails does not keep the others; raises the first one's SourceError in the end."""
        failed: SourceError | None = None
        async with self._kept().turn(self.source) as turn:
            if turn is None:
                return False
            for stream in self._streams.values() if only is None else (only,):
                try:
                    standing = await turn.standing(self._copies[stream.name])
                    if everything or whole or standing.running or self._due(stream, standing):
                        await self._run(turn, stream, standing, whole, patient, told)
                except TurnLost:
                    return False
                except SourceError as error:
                    failed = failed or error
        if failed is not None:
            raise failed
        return True

    def _pace(self, stream: Stream) -> float:
        return self._settings.every if stream.changes else self._settings.lists_every

    def _late(self, stream: Stream) -> float:
        """The age from which on something is amiss."""
        return 3 * self._pace(stream) + 60

    def _due(self, stream: Stream, standing: Standing) -> bool:
        # A run that is due within a moment is due: otherwise every second turn would come too early.
        pace = timedelta(seconds=self._pace(stream) * 0.9)
        return standing.as_of is None or standing.as_of + pace <= standing.now

    async def _run(
        self,
        turn: MirrorTurn,
        stream: Stream,
        standing: Standing,
        whole: bool,
        patient: bool,
        told: Told | None,
    ) -> None:
        copy = self._copies[stream.name]
        bookmark = standing.bookmark
        if bookmark is None or not standing.running:
            sweep = timedelta(seconds=self._settings.sweep_every)
            whole = (
                whole
                or not stream.changes
                or standing.swept_at is None
                or standing.swept_at + sweep <= standing.now
            )
            bookmark = Bookmark(whole, reached=bookmark.reached if bookmark else {})
            await turn.begin(copy, bookmark)
        try:
            while bookmark.reader < len(stream.readers):
                bookmark = await self._page(turn, stream, bookmark, standing.now, patient, told)
        except SourceError as error:
            await turn.fail(copy, str(error))
            raise
        reached = bookmark.reached | bookmark.newest
        await turn.complete(copy, msgspec.structs.replace(bookmark, newest={}, reached=reached))

    async def _page(
        self,
        turn: MirrorTurn,
        stream: Stream,
        bookmark: Bookmark,
        now: datetime,
        patient: bool,
        told: Told | None,
    ) -> Bookmark:
        """Reads and stores one page; where the next one is."""
        reader = stream.readers[bookmark.reader]
        try:
            found = await self._patiently(reader, self._since(bookmark, reader), bookmark.cursor, patient)
        except InvalidRequest:
            if bookmark.cursor is None:
                raise
            # Cursors of some vendors expire: the reader begins again.
            bookmark = msgspec.structs.replace(bookmark, cursor=None)
            await turn.save(self._copies[stream.name], (), (), 0, bookmark)
            return bookmark
        newest = dict(bookmark.newest)
        if found.newest is not None:
            # A record from the future must not hide what changes until then. Where our own clock is behind, runs go back
            # farther than they need.
            known = min(found.newest, now).isoformat()
            newest[reader.name] = max(newest.get(reader.name, ""), known)
        bookmark = msgspec.structs.replace(
            bookmark,
            reader=bookmark.reader + (found.cursor is None),
            cursor=found.cursor,
            newest=newest,
        )
        await turn.save(self._copies[stream.name], found.rows, found.gone, found.dropped, bookmark)
        if told is not None:
            told(stream.name, len(found.rows))
        return bookmark

    def _since(self, bookmark: Bookmark, reader: Reader) -> datetime | None:
        reached = bookmark.reached.get(reader.name)
        if reached is None or (bookmark.whole and bookmark.reader == 0):
            return None
        return datetime.fromisoformat(reached) - timedelta(seconds=self._settings.overlap)

    async def _patiently(
        self, reader: Reader, since: datetime | None, cursor: object, patient: bool
    ) -> Slice:
        """Waits where the vendor says that it is asked too often."""
        failures = 0
        while True:
            try:
                with self._terms():
                    return await reader.read(since, cursor)
            except SourceRateLimited as limited:
                wait = limited.retry_after or SHORTEST_WAIT_SECONDS
                if wait > LONGEST_WAIT_SECONDS:
                    raise
            except SourceUnavailable as away:
                failures += 1
                wait = away.retry_after or SHORTEST_WAIT_SECONDS
                if not patient or failures == TRIES or wait > LONGEST_WAIT_SECONDS:
                    raise
            await asyncio.sleep(max(wait, SHORTEST_WAIT_SECONDS))
