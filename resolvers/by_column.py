"""Functions of one value that also say how they are had of many at once."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class ByColumn:
    """What a whole column of values gives. ``of``: the one class that they must be of; None: any."""

    __slots__ = ("give", "of")

    def __init__(self, give: Callable[..., list[Any]], of: type | None) -> None:
        self.give, self.of = give, of


def by_column(give: Callable[..., list[Any]], of: type | None = None) -> Callable[[F], F]:
    """Marks a resolver that takes its parent, or its parent and Info, and nothing else; or what serialises a scalar. Whoever
    has many values may call ``give`` in its stead, with all of them and with Info where the function takes it: it gives what
    the function would, in their order and with no effects, or raises, and then the function is called for each. A scalar's
    may give what JSON's encoder writes as the scalar."""

    def marked(function: F) -> F:
        function.by_column = ByColumn(give, of)  # type: ignore[attr-defined]
        return function

    return marked
