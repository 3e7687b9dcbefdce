"""Parts of records that are read from the vendor's answer when somebody asks for them: many are listed, few are opened.

A record with such a part has it as a field, gives its values as properties, and has a method ``alone`` for whoever keeps
it longer than the request.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from sources.ports.common import Page

T = TypeVar("T")


class Later(ABC, Generic[T]):
    """What one answer says of its records beside what each of them holds."""

    __slots__ = ()

    @abstractmethod
    def of(self, id_: str) -> T:
        """Of the record with this id. Raises SourceBadResponse where what the vendor sent does not fit."""

    @abstractmethod
    def alone(self, id_: str) -> "Alone[T]":
        """For that record only, holding on to nothing of the answer's others."""


class Alone(Later[T]):
    """Of one record. Without ``read`` it has been read."""

    __slots__ = ("_read", "given")

    def __init__(self, given: Any, read: Callable[[Any], T] | None = None) -> None:
        self.given, self._read = given, read
        """What is held: what is to be read, later what was."""

    @property
    def value(self) -> T:
        """Raises SourceBadResponse as ``of``, each time."""
        if self._read is not None:
            self.given, self._read = self._read(self.given), None
        value: T = self.given
        return value

    def of(self, id_: str) -> T:
        return self.value

    def alone(self, id_: str) -> "Alone[T]":
        return self


def alone(answer: Any) -> Any:
    """A record, or a page of them, so that it can be kept; anything else as it is."""
    if isinstance(answer, Page):
        if answer.rows and hasattr(answer.rows[0], "alone"):
            return msgspec.structs.replace(answer, rows=[row.alone() for row in answer.rows])
        return answer
    return answer.alone() if hasattr(answer, "alone") else answer
