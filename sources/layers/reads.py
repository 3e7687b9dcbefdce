"""Marks on the scope layer's coroutines: which type each gives, and what keeps it within the caller's organisation.

The schema says the same of its types (``@organisationScoped(by:)``, ``@public``). Start-up compares the two, and a loader
takes no coroutine without a mark.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Read(NamedTuple):
    """One way to records."""

    gives: str | None
    """The graph's name of their type, or of the type that what it gives is worked out from or belongs to; None: it changes
    something and gives no records."""
    by: str | None
    """What was checked, in the words of ``@organisationScoped``; None: the records are nobody's."""


def scoped_by(owner: str, *, gives: str) -> Callable[[F], F]:
    """Gives only what belongs to the caller's organisation, which it tells by the record's owner. What it gives is noted
    for the audit trail."""

    def mark(read: F) -> F:
        @wraps(read)
        async def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            answer = await read(self, *args, **kwargs)
            self.touched.take(answer)
            return answer

        noted.read = Read(gives, owner)  # type: ignore[attr-defined]
        return noted  # type: ignore[return-value]

    return mark


def changes(by: str) -> Callable[[F], F]:
    """Changes only what belongs to the caller's organisation, and gives no records."""

    def mark(change: F) -> F:
        change.read = Read(None, by)  # type: ignore[attr-defined]
        return change

    return mark


def nobodys(*, gives: str) -> Callable[[F], F]:
    """Gives what is the same for every caller."""

    def mark(read: F) -> F:
        read.read = Read(gives, None)  # type: ignore[attr-defined]
        return read

    return mark


def read_of(method: Any) -> Read | None:
    """The mark; None where there is none."""
    found: Read | None = getattr(method, "read", None)
    return found


def reads_of(*layers: type) -> Mapping[str, Read | None]:
    """Every public coroutine of these classes by its name, with its mark."""
    return {
        f"{layer.__name__}.{name}": read_of(method)
        for layer in layers
        for name, method in vars(layer).items()
        if iscoroutinefunction(method) and not name.startswith("_")
    }
