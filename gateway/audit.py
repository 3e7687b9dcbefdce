"""The audit trail: one record per operation, handed over when it ends and written in the background.

A write is recorded before it runs, durably, or it does not run: ``async with trail.writing(...)``. A read's record is
durable within a second.
"""

import asyncio
import getpass
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from gateway.arrival import arrival
from gateway.coordinates import Asked
from gateway.request_ids import new_id
from gateway.settings import Audit
from permissions.principal import Principal
from sources.layers.touched import Named, Owner, Touched
from sources.ports.audit import AuditKind, AuditOutcome, AuditRecord, AuditStore, Stage, storable
from sources.ports.common import Ref
from sources.ports.errors import SourceError, SourceUnavailable
from sources.ports.trace import span
from sources.transport.deadline import deadline, in_time

FLUSH_SECONDS = 0.4
"""How long a read's record waits for others."""
RETRY_SECONDS = 0.5
WRITE_SECONDS = 8.0
"""For one batch."""
BATCH = 1_000
BATCH_IDS = 100_000
"""Of one batch, but for its last record: some ten megabytes."""
CLOSE_SECONDS = 10.0
"""For what is left at the end."""

RECORD_IDS = 20_000
"""Of one audit record: as many rows as an operation may read."""
RECORD_BYTES = 1 << 20
"""Of the ids in one audit record."""
QUEUED_IDS = 1_000_000
"""Of all records that wait, about 100 MB."""
NAME_LENGTH = 200
REMEMBERED_CALLERS = 1_000
REMEMBERED_ASKED = 4_000
"""What callers have asked: a few hundred bytes each."""

REFUSAL_SECONDS = 60.0
"""Refused sign-ins of one address: the first one is recorded at once, those of the rest of this time as one record."""
REFUSING_ADDRESSES = 100
"""At a time; all others are counted together. Bounds what a flood can write to a few records per second."""

_REFUSAL = AuditKind.REFUSAL
"""Once: an enum looks its members up in Python (CPython 3.11)."""

log = structlog.get_logger()


def operator() -> Principal:
    """Who runs a command: the operating system's word."""
    return Principal(
        subject=getpass.getuser(),
        name=None,
        email=None,
        roles=(),
        scopes=frozenset({"accounts:all"}),
        organisation=None,
        issuer="command",
        via="none",
    )


def nobody() -> Principal:
    """Who has not signed in."""
    return Principal(
        subject="",
        name=None,
        email=None,
        roles=(),
        scopes=frozenset(),
        organisation=None,
        kind="anonymous",
        via="none",
    )


class Done(msgspec.Struct, frozen=True):
    """How an operation ended."""

    outcome: AuditOutcome = AuditOutcome.OK
    codes: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


_OK = Done()


class Reading(msgspec.Struct, eq=False):
    """A read that is recorded when the block ends; ``done`` is how."""

    _trail: "AuditTrail"
    _record: AuditRecord
    _touched: Touched
    done: Done = _OK

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            if isinstance(error, asyncio.CancelledError):
                self.done = LEFT
            elif isinstance(error, Exception):
                self.done = _failed(error)
        self._trail.read(self._record, self._touched, self.done)


class Writing:
    """A write that has been recorded and may now run. What it touched and how it ended are said here."""

    def __init__(self, touched: Touched) -> None:
        self.touched = touched
        self.done = Done()

    def wrote(self, type_name: str, *ids: str | Ref, organisation: str | None) -> None:
        """Records of the gateway's own books, or others', that were written, and whose they are (None: the firm's)."""
        for id_ in ids:
            self.touched.name(type_name, id_, organisation)

    def refused(self, *codes: str) -> None:
        """Nothing was changed, for these reasons."""
        self.done = Done(AuditOutcome.REFUSED, codes)


class AuditTrail:
    """Of one process. Opened with ``start``; ``close`` writes what is left."""

    def __init__(self, store: AuditStore, settings: Audit) -> None:
        self._store, self._required, self._most = store, settings.reads == "required", settings.queue
        self._queue: deque[_Queued] = deque()
        self._queued_ids = 0
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """To ask for it is a system call each time (CPython 3.11)."""
        self._closing = False
        self._lost = 0
        self._lost_since: datetime | None = None
        self._refusals = _Refusals()
        self._callers: dict[int, tuple[Principal, AuditRecord]] = {}
        """By ``id``, which is a caller's as long as it is kept here: what of their records is always the same."""
        self._asked: dict[tuple[int, int], tuple[Principal, Asked, AuditRecord]] = {}
        """Likewise by caller and what was asked: all of the record but which time it is."""
        # No Counter, to which an addition takes ten times as long.
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        """How many operations of each kind ended in which way; of refusals each one, although few are recorded."""
        self.lost = 0
        """Records of reads that were dropped; stays 0 where reads are ``required``."""

    # -- what others call ---------------------------------------------------------------------------------------

    def record(
        self,
        kind: AuditKind,
        principal: Principal,
        *,
        name: str | None = None,
        organisation: str | None = None,
        coordinates: tuple[str, ...] = (),
        personal: tuple[str, ...] = (),
    ) -> AuditRecord:
        """What is known when an operation begins; request and client are those that are being answered.
        ``organisation``: whom it is done for, where that is not the one the caller acts for."""
        known = self._callers.get(id(principal))
        if known is None or known[0] is not principal:
            if len(self._callers) >= REMEMBERED_CALLERS:
                self._callers.clear()
            known = self._callers[id(principal)] = principal, _of(principal)
        return _now(
            msgspec.structs.replace(
                known[1],
                kind=kind,
                name=storable(name[:NAME_LENGTH]) if name else None,
                organisation=storable(organisation) if organisation else known[1].organisation,
                coordinates=coordinates,
                personal=personal,
            )
        )

    def record_of(self, asked: Asked, principal: Principal) -> AuditRecord:
        """``record`` of an operation of the graph. Callers ask the same again and again, and nearly all of the record is the
        same each time then."""
        known = self._asked.get((id(principal), id(asked)))
        if known is not None and known[0] is principal and known[1] is asked:
            return _now(known[2])
        if len(self._asked) >= REMEMBERED_ASKED:
            self._asked.clear()
        record = self.record(
            AuditKind(asked.type.value),
            principal,
            name=asked.name,
            coordinates=asked.coordinates,
            personal=asked.personal,
        )
        self._asked[id(principal), id(asked)] = principal, asked, record
        return record

    def reading(self, record: AuditRecord, touched: Touched) -> Reading:
        """A block whose end is recorded. Raises SourceUnavailable when reads must be recorded and cannot be."""
        if self._required and self._full():
            raise SourceUnavailable("audit", "reads cannot be recorded; is the ledger's database away?")
        return Reading(self, record, touched)

    def read(self, record: AuditRecord, touched: Touched | None = None, done: Done | None = None) -> None:
        """Hands over an operation that has ended. Costs its caller next to nothing: what it touched is named afterwards."""
        assert self._loop is not None, "the trail runs before it is told of anything"
        if touched is not None and touched.anything:
            self._loop.call_soon(self._add, record, touched, done or _OK)
        else:
            self._add(record, None, done or _OK)

    @asynccontextmanager
    async def writing(self, record: AuditRecord, touched: Touched | None = None) -> AsyncIterator[Writing]:
        """Runs its body only when the record that it begins is durable; records afterwards how it ended. Raises
        SourceUnavailable when it cannot be recorded: then nothing has happened."""
        writing = Writing(touched or Touched())
        begun = msgspec.structs.replace(record, stage=Stage.BEGUN, outcome=AuditOutcome.UNKNOWN)
        ended = msgspec.structs.replace(record, stage=Stage.DONE)
        try:
            await self._durable(begun)
        except Exception as error:
            self._add(ended, None, Done(AuditOutcome.FAILED, ("SOURCE_UNAVAILABLE",)))
            log.error("audit_refused_a_write", kind=record.kind.value, reason=type(error).__name__)
            raise SourceUnavailable(
                "audit", "the operation cannot be recorded, so it was not done"
            ) from error
        try:
            yield writing
        except asyncio.CancelledError:
            writing.done = Done(AuditOutcome.UNKNOWN, ("CANCELLED",))
            raise
        except Exception as error:
            writing.done = _failed(error)
            raise
        finally:
            self._add(ended, writing.touched, writing.done)

    def refused(self, client: str, code: str) -> None:
        """A request whose sign-in was refused. Many of one address become one record per minute."""
        self.outcomes[AuditKind.REFUSAL.value, AuditOutcome.REFUSED.value] += 1
        if self._refusals.first(client, code):
            self._add(self._refusal(client), None, Done(AuditOutcome.REFUSED, (code,)))
        self._news.set()

    @property
    def waiting(self) -> int:
        """Records that are not in the database yet."""
        return len(self._queue)

    def start(self) -> None:
        """Begins to write. Inside the loop that the trail is used in."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="audit-trail")

    async def close(self) -> None:
        """Writes what is left, for up to ten seconds."""
        await asyncio.sleep(0)  # what was handed over last is still on its way
        self._closing = True
        self._news.set()
        self._urgent.set()
        if self._task is not None:
            task, self._task = self._task, None
            await asyncio.wait([task], timeout=CLOSE_SECONDS)
            task.cancel()
            await asyncio.wait([task])
        if self._queue:
            log.error("audit_records_lost_at_the_end", records=len(self._queue))

    # -- handing over -------------------------------------------------------------------------------------------

    def _add(self, record: AuditRecord, touched: Touched | None, done: Done) -> None:
        kind = record.kind
        if kind is not _REFUSAL:
            self.outcomes[kind._value_, done.outcome._value_] += 1
        ids, owners = 0, _NOBODYS
        # A record begins as that of an operation that touches nothing and ends well.
        if done is not _OK:
            record = msgspec.structs.replace(
                record, outcome=done.outcome, codes=done.codes, denied=done.denied
            )
        if touched is not None and touched.anything:
            # Whoever sees all customers may have read of many: each of them is to know of its share.
            named, owners = touched.named(by_owner=record.staff and record.organisation is None)
            touched.release()
            kept = named.cut(RECORD_IDS, RECORD_BYTES)
            ids = kept.count
            record = msgspec.structs.replace(
                record, records=msgspec.Raw(kept.array), record_count=named.count
            )
        if not self._spares(kind) and self._full() and record.stage is Stage.WHOLE:
            self._lose(record)
            return
        self._put(_Queued(record, ids, owners))

    def _spares(self, kind: AuditKind) -> bool:
        """Is it kept although the queue is full? Reads that were let in before it was."""
        return self._required and kind is not _REFUSAL

    def _full(self) -> bool:
        return len(self._queue) >= self._most or self._queued_ids >= QUEUED_IDS

    def _put(self, queued: "_Queued") -> None:
        self._queue.append(queued)
        self._queued_ids += queued.ids
        self._news.set()

    def _lose(self, record: AuditRecord) -> None:
        self.lost += 1
        self._lost += 1
        self._lost_since = self._lost_since or record.at

    async def _durable(self, record: AuditRecord) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Queued(record, 0, _NOBODYS, written))
        self._urgent.set()
        with span("audit", "recorded before it is done"), in_time():
            await written

    # -- writing ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failing = False
        while True:
            await self._pause(RETRY_SECONDS if failing else FLUSH_SECONDS)
            closing = self._closing
            self._news.clear()
            self._urgent.clear()
            self._gather(closing)
            failing = not await self._flush(again=failing)
            if closing and not self._queue:
                return
            if failing and not closing:
                self._news.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(self._refusals.until_due()):
                await self._news.wait()
        except TimeoutError:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._urgent.wait()
        except TimeoutError:
            return

    def _gather(self, all_of_it: bool) -> None:
        """Refusals that have been counted become records."""
        for client, code, count in self._refusals.due(all_of_it):
            record = msgspec.structs.replace(self._refusal(client), count=count)
            self._add(record, None, Done(AuditOutcome.REFUSED, (code,)))

    def _own_up(self) -> None:
        """Says how many records were lost while the database was away."""
        if self._lost and not self._full():
            lost, since = self._lost, self._lost_since
            self._lost, self._lost_since = 0, None
            record = self.record(AuditKind.LOSS, nobody())
            record = msgspec.structs.replace(record, count=lost, at=since or record.at)
            self._add(record, None, Done(AuditOutcome.FAILED))

    def _refusal(self, client: str) -> AuditRecord:
        return msgspec.structs.replace(self.record(AuditKind.REFUSAL, nobody()), client=client)

    async def _flush(self, again: bool) -> bool:
        """Writes all that is queued now; False when it could not. What comes meanwhile waits for others again."""
        waiting = len(self._queue)
        while waiting:
            batch, ids = self._taken(waiting)
            waiting -= len(batch)
            writes = [queued for queued in batch if queued.written is not None]
            if writes:
                batch = [
                    queued for queued in batch if queued.written is None or not queued.written.cancelled()
                ]
            try:
                with deadline(WRITE_SECONDS):
                    await self._store.append(await self._records(batch), again=again)
            except Exception as error:
                self._failed(batch, error, first=not again)
                return False
            except BaseException:
                self._queue.extendleft(reversed(batch))
                raise
            self._queued_ids -= ids
            self._own_up()
            for queued in writes:
                if queued.written is not None and not queued.written.done():
                    queued.written.set_result(None)
        if again:
            log.info("audit_writes_again")
        return True

    def _taken(self, most: int) -> tuple[list["_Queued"], int]:
        """With how many ids they have."""
        batch: list[_Queued] = []
        ids = 0
        for _ in range(min(BATCH, most)):
            queued = self._queue.popleft()
            batch.append(queued)
            ids += queued.ids
            if ids >= BATCH_IDS:
                break
        return batch, ids

    def _failed(self, batch: Sequence["_Queued"], error: Exception, first: bool) -> None:
        """Writes that wait for their record are refused; everything else stays for another time."""
        if first:
            log.error(
                "audit_not_written",
                reason=type(error).__name__,
                said=str(error) if isinstance(error, SourceError) else None,
                records=len(batch),
            )
        for queued in batch:
            if queued.written is not None and not queued.written.done():
                queued.written.set_exception(SourceUnavailable("audit", "the record could not be written"))
        self._queue.extendleft(queued for queued in reversed(batch) if queued.written is None)

    async def _records(self, batch: Sequence["_Queued"]) -> list[AuditRecord]:
        """With a share for each customer that staff over all customers have read of."""
        many = [queued.owners for queued in batch if queued.owners]
        if not many:
            return [queued.record for queued in batch]
        owners = {owner: None for one in many for owner in one}
        refs = [owner for owner in owners if isinstance(owner, Ref)]
        holders = dict(zip(refs, await self._store.shares(refs), strict=True)) if refs else {}
        records: list[AuditRecord] = []
        for queued in batch:
            records.append(queued.record)
            if not queued.owners:
                continue
            shares: dict[str, list[Named]] = {}
            for owner, named in queued.owners.items():
                if organisation := holders.get(owner) if isinstance(owner, Ref) else owner:
                    shares.setdefault(organisation, []).append(named)
            for organisation, parts in shares.items():
                share = Named.together(parts)
                records.append(
                    msgspec.structs.replace(
                        queued.record,
                        stage=Stage.SHARE,
                        organisation=organisation,
                        records=msgspec.Raw(share.cut(RECORD_IDS, RECORD_BYTES).array),
                        record_count=share.count,
                    )
                )
        return records


class _Queued(msgspec.Struct, eq=False):
    """A record on its way. ``written`` is set for a write that waits for it."""

    record: AuditRecord
    ids: int
    owners: Mapping[Owner, Named]
    written: "asyncio.Future[None] | None" = None


class _Refusals:
    """Counts refused sign-ins by address and code, so that a flood of them leaves few records."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._ends: dict[tuple[str, str], float] = {}

    def first(self, client: str, code: str) -> bool:
        """Counts one; True where it is to be recorded itself."""
        key = (client, code)
        if key not in self._ends:
            if len(self._ends) < REFUSING_ADDRESSES:
                self._ends[key] = time.monotonic() + REFUSAL_SECONDS
                return True
            key = ("", code)
            self._ends.setdefault(key, time.monotonic() + REFUSAL_SECONDS)
        self._counts[key] += 1
        return False

    def until_due(self) -> float | None:
        """Seconds; None while there is nothing to wait for."""
        return max(0.0, min(self._ends.values()) - time.monotonic()) if self._ends else None

    def due(self, all_of_it: bool) -> list[tuple[str, str, int]]:
        """Address, code and how many more there were."""
        now = time.monotonic()
        ended = [key for key, ends in self._ends.items() if all_of_it or ends <= now]
        for key in ended:
            del self._ends[key]
        return [(*key, count) for key in ended if (count := self._counts.pop(key, 0))]


def done_of(body: Mapping[str, Any], ran: bool, touched: Touched | None = None) -> Done:
    """How an operation ended, by its answer."""
    errors: Sequence[Mapping[str, Any]] = body.get("errors", ())
    if not errors:
        refusals = sorted(set(touched.refusals)) if touched else ()
        return Done(AuditOutcome.REFUSED, tuple(refusals)) if refusals else _OK
    extensions = [error["extensions"] for error in errors]
    codes = {str(one["code"]) for one in extensions}
    if ran and any(value is not None for value in _values(body.get("data"))):
        outcome = AuditOutcome.PARTIAL
    else:
        outcome = AuditOutcome.REFUSED if codes <= _REFUSALS else AuditOutcome.FAILED
    denied = {
        f"{one['coordinate']} {_rule(one.get('requires', ()))}" for one in extensions if "coordinate" in one
    }
    return Done(outcome, tuple(sorted(codes)), tuple(sorted(denied)))


FAILED = Done(AuditOutcome.FAILED, ("SOURCE_UNAVAILABLE",))
"""It could not be told what the caller may see, or not be recorded."""
LEFT = Done(AuditOutcome.UNKNOWN, ("CANCELLED",))
"""Whoever asked did not wait for it."""
NOT_THERE = Done(AuditOutcome.REFUSED, ("NOT_FOUND",))
"""What was asked for is not there, or not the caller's."""

_REFUSALS = {"BAD_USER_INPUT", "CONFLICT", "FORBIDDEN", "LIMIT_EXCEEDED", "NOT_FOUND", "UNAUTHENTICATED"}
"""Codes that say that the caller may not, or asked for what cannot be."""


def _values(data: Any) -> Iterable[Any]:
    """Of the root's fields; an executor may give them as a struct."""
    if isinstance(data, msgspec.Struct):
        return msgspec.structs.astuple(data)
    return data.values() if data else ()


def _failed(error: Exception) -> Done:
    code = str(getattr(error, "code", "INTERNAL"))
    return Done(AuditOutcome.REFUSED if code in _REFUSALS else AuditOutcome.FAILED, (code,))


def _rule(requires: Sequence[Sequence[str]]) -> str:
    return ", or ".join(" and ".join(needed) for needed in requires)


def _now(record: AuditRecord) -> AuditRecord:
    """The same of an operation that begins, for what is being answered."""
    arrived = arrival.get()
    return msgspec.structs.replace(
        record,
        operation=new_id(),
        at=datetime.now(UTC),
        request=arrived.request_id,
        client=arrived.client,
    )


def _of(principal: Principal) -> AuditRecord:
    """What a record says of its caller, and nothing else yet."""
    return AuditRecord(
        operation="",
        stage=Stage.WHOLE,
        at=datetime.min,
        request="",
        kind=AuditKind.QUERY,
        name=None,
        outcome=AuditOutcome.OK,
        codes=(),
        principal=storable(principal.identity) if principal.kind != "anonymous" else "",
        principal_kind=principal.kind,
        via=principal.via,
        credential=storable(principal.credential) if principal.credential else None,
        roles=tuple(map(storable, principal.roles)),
        staff="accounts:all" in principal.scopes,
        viewed_by=storable(principal.viewed_by) if principal.viewed_by else None,
        organisation=storable(principal.organisation) if principal.organisation else None,
        client="",
        records=_NO_IDS,
    )


_NO_IDS = msgspec.Raw(b"[]")
_NOBODYS: Mapping[Owner, Named] = {}
