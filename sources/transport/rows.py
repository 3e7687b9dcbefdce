"""Pages of a vendor's rows: one that does not fit is dropped alone, and one that comes twice appears once.

The fast way is the typed decoder over the whole page. Only when that fails are the rows looked at one by one.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, Generic, TypeVar, get_args

import msgspec
import structlog

from sources.ports.errors import UNREADABLE, SourceBadResponse

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger()

_SHOWN = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
"""What an id may look like to be logged: a mangled row may hold anything in its place."""

_UNFIT = (*UNREADABLE, KeyError, SourceBadResponse)


class Drops:
    """Rows dropped so far, by source and by what they would have been."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def record(self, source: str, kind: str, record_id: str | None) -> None:
        """Logs the id alone, and only where it looks like one."""
        self.counts[source, kind] += 1
        shown = record_id if record_id and _SHOWN.fullmatch(record_id) else None
        log.warning("record_dropped", source=source, kind=kind, id=shown)


class Rows(msgspec.Struct, frozen=True):
    """A list of rows in a page. ``id``: the attribute, or the way to it, that tells one row from another."""

    name: str
    kind: str
    id: str
    within: "Rows | None" = None
    """A list inside each row, whose members are dropped alone as well."""


class Pages(Generic[T]):
    """How a page is read. Where a list's type allows null for a row, a row that is dropped leaves null in its place, for
    lists in which places count. ``bare``: what the vendor sends is the list itself, the page's only member."""

    def __init__(
        self,
        page: type[T],
        *lists: Rows,
        float_hook: Callable[[str], Any] | None = None,
        bare: bool = False,
    ) -> None:
        self._around = b'{"%s":' % lists[0].name.encode() if bare else None
        self._decoder = msgspec.json.Decoder(page, float_hook=float_hook)
        self._lists = [_List(page, rows, float_hook) for rows in lists]
        known = {one.name: one for one in self._lists}
        loose = msgspec.defstruct(
            page.__name__,
            [
                (
                    field.name,
                    list[msgspec.Raw] if field.name in known else field.type,
                    _default_of(field),
                )
                for field in msgspec.structs.fields(page)  # type: ignore[arg-type]
            ],
            kw_only=True,
        )
        self._page = page
        self._loose = msgspec.json.Decoder(loose, float_hook=float_hook)

    def read(self, body: bytes, drop: Callable[[str, str | None], None]) -> tuple[T, int]:
        """The page, and how many rows were dropped from it, each told to ``drop`` with its kind and id. Raises
        msgspec.DecodeError or SourceBadResponse where the page itself, or every row of it, does not fit."""
        if self._around is not None:
            body = self._around + body + b"}"
        try:
            page = self._decoder.decode(body)
        except (msgspec.ValidationError, RecursionError):
            return self._slowly(body, drop)
        for one in self._lists:
            one.settle(getattr(page, one.name))
        return page, 0

    def _slowly(self, body: bytes, drop: Callable[[str, str | None], None]) -> tuple[T, int]:
        loose = self._loose.decode(body)
        dropped = 0
        given = {name: getattr(loose, name) for name in loose.__struct_fields__}
        for one in self._lists:
            rows, missing = one.fitting(given[one.name], drop)
            given[one.name] = rows
            one.settle(rows)
            dropped += missing
        return self._page(**given), dropped


class _List:
    def __init__(self, page: Any, rows: Rows, float_hook: Callable[[str], Any] | None) -> None:
        self.name, self._kind = rows.name, rows.kind
        (element,) = get_args(_field(page, rows.name).type)
        allowed = [one for one in get_args(element) or (element,) if one is not NoneType]
        self._holes = NoneType in get_args(element)
        (row,) = allowed
        self._decoder = msgspec.json.Decoder(row, float_hook=float_hook)
        self._id = attrgetter(rows.id)
        self._path: list[str] = []
        holder = row
        for part in rows.id.split("."):
            field = _field(holder, part)
            self._path.append(field.encode_name)
            holder = field.type
        self._inner = Pages(row, rows.within, float_hook=float_hook) if rows.within else None

    def settle(self, rows: list[Any]) -> None:
        """Takes out, in place, what comes twice."""
        there = list(filter(None, rows)) if self._holes else rows
        if len(set(map(self._id, there))) == len(there):
            return
        if self._holes:
            seen: set[Any] = set()
            for place, row in enumerate(rows):
                if row is not None:
                    name = self._id(row)
                    rows[place] = None if name in seen else row
                    seen.add(name)
        else:
            once: dict[Any, Any] = {}
            for row in rows:
                once.setdefault(self._id(row), row)
            rows[:] = once.values()

    def fitting(
        self, raws: Sequence[msgspec.Raw], drop: Callable[[str, str | None], None]
    ) -> tuple[list[Any], int]:
        rows: list[Any] = []
        dropped = 0

        def refused(raw: msgspec.Raw) -> None:
            nonlocal dropped
            dropped += 1
            drop(self._kind, self._id_in(raw))

        for row in sifted(raws, self._row(drop), refused):
            if row is not None or self._holes:
                rows.append(row)
        return rows, dropped

    def _row(self, drop: Callable[[str, str | None], None]) -> Callable[[msgspec.Raw], Any]:
        inner = self._inner
        if inner is None:
            return self._decoder.decode
        return lambda raw: inner.read(bytes(raw), drop)[0]

    def _id_in(self, raw: msgspec.Raw) -> str | None:
        """As far as one can be made out."""
        try:
            found: Any = msgspec.json.decode(raw)
        except UNREADABLE:
            return None
        for part in self._path:
            found = found.get(part) if isinstance(found, dict) else None
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def sifted(given: Iterable[T], make: Callable[[T], R], refused: Callable[[T], None]) -> list[R | None]:
    """What is made of each, None in the place of one of which nothing can be made. Raises what the last one failed with
    where that is so of all."""
    made: list[R | None] = []
    failure: Exception | None = None
    unfit: list[T] = []
    for one in given:
        try:
            made.append(make(one))
        except _UNFIT as error:
            failure = error
            unfit.append(one)
            made.append(None)
    if failure is not None and len(unfit) == len(made):
        raise failure
    for one in unfit:
        refused(one)
    return made


def _field(struct: Any, name: str) -> msgspec.structs.FieldInfo:
    return next(field for field in msgspec.structs.fields(struct) if field.name == name)


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(name=field.encode_name, default_factory=field.default_factory)
    if field.default is not msgspec.NODEFAULT:
        return msgspec.field(name=field.encode_name, default=field.default)
    return msgspec.field(name=field.encode_name)
