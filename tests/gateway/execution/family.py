"""A family of Strawberry schemas over invented data that is faulty as often as asked, the same at every reading."""

import asyncio
import enum
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from random import Random
from types import SimpleNamespace
from typing import Annotated, Any, NewType, Union
from zlib import crc32

import msgspec
import strawberry
from aiodataloader import DataLoader
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig

from permissions.rules import Rule
from tests.gateway.execution.asking import caller


class Boom(Exception):
    """What resolvers raise here."""


@strawberry.enum
class Colour(enum.Enum):
    """An enum whose names and values differ."""

    RED = "r"
    BLUE = "b"


@strawberry.enum
class Size(str, enum.Enum):  # noqa: UP042  (as schemas have it that are older than StrEnum)
    """An enum whose members are strings, too."""

    SMALL = "small"
    LARGE = "large"


@strawberry.enum
class Plain(enum.Enum):
    """An enum whose values are its names."""

    ROUND = "ROUND"
    FLAT = "FLAT"


class Weight(enum.IntEnum):
    """No type of the schema: numbers that are members of something."""

    LIGHT = 1


Even = NewType("Even", int)


def _even(value: Any) -> Any:
    if value == "odd":
        raise ValueError("odd")
    return None if value == "nothing" else value


@strawberry.input
class Where:
    """An input object with defaults and a nested one."""

    least: int = 2
    tags: list[str] | None = None
    inner: "Where | None" = None


# -- what a field gives -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A field's type: a leaf's name, a list of a shape, or the names of the types that its objects may have."""

    nullable: bool
    leaf: str | None = None
    item: "Shape | None" = None
    objects: tuple[str, ...] = ()


LEAVES: dict[str, tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = {
    "Int": (
        int,
        (0, -7, 2**31 - 1, -(2**31), True, 4.0, "12", Weight.LIGHT),
        (2**31, -(10**30), "seven", 1.5, [1], {}),
    ),
    "String": (str, ("", "words", "ü☃", 5, True, 1e300, Size.SMALL, 10**30), ([], {}, object, b"bytes")),
    "Float": (
        float,
        (0.5, 3, -1e300, True, -0.0, "1e3", 2**60, Weight.LIGHT),
        (float("nan"), float("inf"), "often", None.__class__, 10**400),
    ),
    "Boolean": (bool, (True, False, 1, 0.0, 10**400), ("yes", float("nan"), [])),
    "ID": (strawberry.ID, ("a1", 7, "", 10**30, Size.LARGE), (1.5, [], True)),
    "Colour": (Colour, (Colour.RED, Colour.BLUE, "r"), ("green", 3, [], Size.SMALL)),
    "Size": (Size, (Size.SMALL, Size.LARGE, "large"), ("huge", Colour.RED, {})),
    "Plain": (Plain, (Plain.ROUND, Plain.FLAT, "ROUND"), ("SQUARE", 3, [], Size.SMALL)),
    "Date": (date, (date(2026, 1, 31), date(1, 1, 1), datetime(2026, 1, 31, 23, 59)), ("2026-01-31", 5, [])),
    "Even": (Even, (2, "four", [6]), ("odd", "nothing")),
}
"""By name: the annotation, values that fit, values that don't."""


class Thing(msgspec.Struct, eq=False, weakref=True):
    """An object of the data. Reading the same attribute twice gives two objects, so that a second reading shows."""

    world: "World"
    kind: str
    key: str
    uid: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.world.shapes:
            raise AttributeError(name)
        return self.world.read(self, name)

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class World:
    """The data of one execution, and what was read of it. ``faults`` is how many of 400 places have each fault;
    ``order`` changes which awaited values come first, 0: each at once."""

    def __init__(self, shapes: dict[str, Shape], seed: int, faults: int, order: int = 1) -> None:
        self.shapes, self.seed, self.faults, self.order = shapes, seed, faults, order
        self.reads: Counter[str] = Counter()
        self.awaits = 0
        """How often something was awaited."""
        self._loaders: dict[str, DataLoader[Any, Any]] = {}
        leaves = [name for name, shape in shapes.items() if shape.leaf]
        self._record = msgspec.defstruct(
            "Record", [(name, Any, None) for name in leaves], bases=(Thing,), eq=False
        )
        self._leaves = leaves if seed % 2 else []
        """Every other world has records, which hold their leaves."""

    def root(self) -> Thing:
        """Where the fields of the root types are read from."""
        return Thing(self, "Query", "", "")

    def chance(self, key: str, of: int) -> int:
        """A number below ``of`` that is always the same for the same key."""
        return crc32(f"{self.seed}|{key}".encode()) * 2654435761 % 2**32 // 7 % of

    def read(self, parent: Thing, name: str, asked: str = "") -> Any:
        """A field's value, or its exception."""
        place = f"{parent.uid}/{name}{asked}"
        self.reads[place] += 1
        key = f"{parent.key}/{name}{asked}"
        if self.faulty(key, "raises"):
            raise Boom(key) if self.chance(key, 2) else GraphQLError(key, extensions={"code": "MINE"})
        return self.value(self.shapes[name], key, f"{place}#{self.reads[place]}")

    def faulty(self, key: str, what: str) -> bool:
        """Has this place this fault?"""
        return self.chance(key + what, 400) < self.faults

    def value(self, shape: Shape, key: str, uid: str) -> Any:
        """What stands at a place."""
        if self.faulty(key, "is an exception"):
            return Boom(key + " as a value")
        if (self.chance(key + "null", 6) == 0) if shape.nullable else self.faulty(key, "is null"):
            return None
        if shape.leaf:
            _, good, bad = LEAVES[shape.leaf]
            values = bad if self.faulty(key, "is a wrong leaf") else good
            return values[self.chance(key + "leaf", len(values))]
        if shape.item:
            return self.list(shape.item, key, uid)
        kinds = (*shape.objects, "Nobody") if self.faulty(key, "is of a wrong type") else shape.objects
        return self.object(kinds[-1 - self.chance(key + "kind", len(kinds))], key, uid)

    def object(self, kind: str, key: str, uid: str) -> Thing:
        """A thing; a record has the exception where reading would raise it."""
        if not self._leaves:
            return Thing(self, kind, key, uid)
        record: Thing = self._record(self, kind, key, uid)
        for name in self._leaves:
            try:
                setattr(record, name, self.read(record, name))
            except Exception as error:
                setattr(record, name, error)
            self.reads[f"{uid}/{name}"] -= 1  # nobody asked for it yet
        return record

    def list(self, item: Shape, key: str, uid: str) -> Any:
        """A list in one of its forms."""
        if self.faulty(key, "is no list"):
            return (7, "letters", {"a": 1}, object())[self.chance(key + "no list", 4)]
        length = self.chance(key + "length", 4)
        form = self.chance(key + "form", 10)
        values = [self.item(item, f"{key}.{index}", f"{uid}.{index}") for index in range(length)]
        if self.faulty(key, "breaks off"):
            return _broken(values, key)
        if form == 0:
            return (value for value in values)
        if form == 1:
            return tuple(values)
        return values

    def item(self, shape: Shape, key: str, uid: str) -> Any:
        """A list's item; some are awaited."""
        value = self.value(shape, key, uid)
        if self.chance(key + "awaited", 25):
            return value
        return self.later(key, value)

    async def later(self, key: str, value: Any) -> Any:
        """The value, some turns of the loop later; an exception may be raised instead of given."""
        self.awaits += 1
        for _ in range(self.chance(f"{key}turns{self.order}", 4) if self.order else 0):
            await asyncio.sleep(0)
        if isinstance(value, Exception):
            raise value
        return value

    def load(self, parent: Thing, name: str, asked: str) -> Any:
        """The field's value from a loader."""
        if self.order == 0:
            return self.later(name, self._outcome(parent, name, asked))
        loader = self._loaders.get(name)
        if loader is None:

            async def batch(keys: list[tuple[Thing, str]]) -> list[Any]:
                self.awaits += 1
                await asyncio.sleep(0)
                return [self._outcome(parent, name, asked) for parent, asked in keys]

            loader = self._loaders[name] = DataLoader(batch, cache=False)
        return loader.load((parent, asked))

    def _outcome(self, parent: Thing, name: str, asked: str) -> Any:
        try:
            return self.read(parent, name, asked)
        except Exception as error:
            return error


def _broken(values: list[Any], key: str) -> Iterator[Any]:
    yield from values
    raise Boom(key + " breaks off")


# -- schemas ----------------------------------------------------------------------------------------------------


class Schema(strawberry.Schema):
    """As the gateway's."""

    @property
    def graphql(self) -> Any:
        """The graphql-core schema."""
        return self._schema


@dataclass(frozen=True)
class Member:
    """One schema of the family."""

    schema: Schema
    shapes: dict[str, Shape]
    nullable: tuple[tuple[str, str], ...]
    """The fields that may be denied."""

    def context(self, world: World, denied: dict[tuple[str, str], Rule] | None = None) -> Any:
        """As the executor's."""
        return SimpleNamespace(
            **caller(denied),
            world=world,
        )


def member(number: int) -> Member:
    """The family's schema of this number."""
    return _Maker(Random(number)).make()


class _Maker:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._shapes: dict[str, Shape] = {}
        self._annotations: dict[tuple[str, ...], Any] = {}
        self._by_attribute_only = random.random() < 0.15

    def make(self) -> Member:
        random = self._random
        shared = self._fields("Shared", 3, root=False)
        by_name = random.random() < 0.5
        shared_type = strawberry.interface(_with_resolve_type(_class("Shared", shared), by_name))
        concrete: list[Any] = []
        for number in range(5):
            name = f"T{number}"
            common = number < 3
            fields = self._fields(name, 4, root=False)
            base = (shared_type,) if common else ()
            concrete.append(strawberry.type(_with_is_type_of(_class(name, fields, base), name, common)))
            self._annotations[name,] = concrete[-1]
            if number == 2:
                self._annotations["T0", "T1", "T2"] = shared_type
            if number == 3:
                self._annotations["T0", "T3"] = Annotated[
                    Union[concrete[0], concrete[3]],  # noqa: UP007
                    strawberry.union("Either"),
                ]
        query = strawberry.type(_class("Query", self._fields("Query", 10, root=True)))
        mutation = strawberry.type(_class("Mutation", self._fields("Mutation", 5, root=True)))
        scalars: Any = {Even: strawberry.scalar(name="Even", serialize=_even)}
        config = StrawberryConfig(scalar_map=scalars)
        if self._by_attribute_only:
            config = StrawberryConfig(scalar_map=scalars, default_resolver=_by_name)
        schema = Schema(query=query, mutation=mutation, types=concrete, config=config)
        nullable = tuple(
            (type_, name)
            for type_ in ("Query", "Mutation", *(f"T{number}" for number in range(5)))
            for name, field in schema.graphql.type_map[type_].fields.items()
            if not hasattr(field.type, "of_type") or not str(field.type).endswith("!")
        )
        return Member(schema, self._shapes, nullable)

    def _fields(self, owner: str, count: int, root: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for number in range(count):
            name = f"{owner.lower()}{'abcdefghij'[number]}"
            shape, annotation = self._shape(leaf=not root and self._random.random() < 0.6)
            self._shapes[name] = shape
            kinds = (
                ("attribute",)
                if self._by_attribute_only and not root
                else _ROOT_KINDS
                if root
                else tuple(_KINDS)
            )
            fields[name] = _field(self._random.choice(kinds), name, annotation)
        return fields

    def _shape(self, leaf: bool, lists: int = 2) -> tuple[Shape, Any]:
        random = self._random
        nullable = random.random() < 0.5
        if lists and random.random() < 0.35:
            shape, annotation = self._shape(leaf, lists - 1)
            found, shown = Shape(nullable, item=shape), list[annotation]  # type: ignore[valid-type]
        elif leaf or not self._annotations:
            name = random.choice(list(LEAVES))
            found, shown = Shape(nullable, leaf=name), LEAVES[name][0]
        else:
            kinds = random.choice(list(self._annotations))
            found, shown = Shape(nullable, objects=kinds), self._annotations[kinds]
        return found, (shown | None if not isinstance(shown, str) else shown) if nullable else shown


def _by_name(source: Any, name: str) -> Any:
    return getattr(source, name)


def _class(name: str, fields: dict[str, Any], bases: tuple[type, ...] = ()) -> type:
    annotations = {key: field.annotation for key, field in fields.items() if isinstance(field, _Attribute)}
    namespace = {key: field for key, field in fields.items() if not isinstance(field, _Attribute)}
    return type(name, bases, {"__annotations__": annotations, "__module__": __name__, **namespace})


def _with_is_type_of(type_: Any, name: str, common: bool) -> Any:
    def is_type_of(value: Any, info: Any) -> Any:
        if value.world.faulty(value.key, "cannot say what it is"):
            raise Boom(f"{value.key} is {name}?")
        return value.kind == name

    type_.is_type_of = is_type_of
    return type_


def _with_resolve_type(type_: Any, by_name: bool) -> Any:
    def resolve_type(value: Any, info: Any, abstract: Any) -> Any:
        if value.world.faulty(value.key, "has no type"):
            return (None, 7, "Nobody", "T4", "Colour")[value.world.chance(value.key + "type", 5)]
        return value.kind

    if by_name:
        type_.resolve_type = resolve_type
    return type_


@dataclass(frozen=True)
class _Attribute:
    annotation: Any


def _attribute(name: str) -> Callable[..., Any]:
    raise NotImplementedError


def _alone(name: str) -> Callable[..., Any]:
    def resolver(root: strawberry.Parent[Any]):  # type: ignore[no-untyped-def]
        return root.world.read(root, name)

    return resolver


def _own(name: str) -> Callable[..., Any]:
    def resolver(self):  # type: ignore[no-untyped-def]
        return self.world.read(self, name)

    return resolver


def _asked(name: str) -> Callable[..., Any]:
    def resolver(  # type: ignore[no-untyped-def]
        self, info: strawberry.Info, n: int = 3, tag: str | None = None, where: Where | None = None
    ):
        return _parent(self, info).world.read(_parent(self, info), name, _shown(n, tag, where))

    return resolver


def _asked_alone(name: str) -> Callable[..., Any]:
    def resolver(root: strawberry.Parent[Any], where: Where, n: int | None = None):  # type: ignore[no-untyped-def]
        return root.world.read(root, name, _shown(n, None, where))

    return resolver


def _late(name: str) -> Callable[..., Any]:
    async def resolver(self, info: strawberry.Info, n: int = 3):  # type: ignore[no-untyped-def]
        parent = _parent(self, info)
        await parent.world.later(f"{parent.key}/{name}", None)
        return parent.world.read(parent, name, _shown(n))

    return resolver


def _loaded(name: str) -> Callable[..., Any]:
    def resolver(self, info: strawberry.Info, tag: str | None = None):  # type: ignore[no-untyped-def]
        parent = _parent(self, info)
        return parent.world.load(parent, name, _shown(tag))

    return resolver


def _sometimes(name: str) -> Callable[..., Any]:
    def resolver(self, info: strawberry.Info):  # type: ignore[no-untyped-def]
        parent = _parent(self, info)
        value = parent.world.read(parent, name)
        return parent.world.later(parent.key, value) if parent.world.chance(parent.key, 2) else value

    return resolver


def _placed(name: str) -> Callable[..., Any]:
    def resolver(self, info: strawberry.Info):  # type: ignore[no-untyped-def]
        parent = _parent(self, info)
        assert info.path.key  # so it is given its own place
        return parent.world.read(parent, name)

    return resolver


def _parent(source: Any, info: Any) -> Any:
    return info.context.world.root() if source is None else source


def _shown(*arguments: Any) -> str:
    return f"({', '.join(map(repr, arguments))})" if any(a is not None for a in arguments) else ""


_KINDS: dict[str, Callable[[str], Callable[..., Any]]] = {
    "attribute": _attribute,
    "alone": _alone,
    "own": _own,
    "asked": _asked,
    "asked alone": _asked_alone,
    "late": _late,
    "loaded": _loaded,
    "sometimes": _sometimes,
    "placed": _placed,
}
_ROOT_KINDS = ("asked", "late", "loaded", "sometimes", "placed")


def _field(kind: str, name: str, annotation: Any) -> Any:
    if kind == "attribute":
        return _Attribute(annotation)
    return strawberry.field(resolver=_KINDS[kind](name), graphql_type=annotation)
