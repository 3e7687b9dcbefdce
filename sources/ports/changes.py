"""Being told that a book has changed, whoever changed it."""

from contextlib import AbstractContextManager
from typing import Protocol

import msgspec


class Change(msgspec.Struct, frozen=True):
    """What happened since the last one was taken: any number of changes is one."""

    books: frozenset[str]
    """The tables that changed, of those listened for. With ``unsure`` all of them."""
    unsure: bool = False
    """Changes may have gone unheard: what was read before is to be read again."""


class Listener(Protocol):
    """One who listens. Takes the same memory however much happens and however slowly it is asked."""

    async def change(self) -> Change:
        """Waits for the next one; at once where something has happened meanwhile."""


class ChangeFeed(Protocol):
    """The ledger's changes as this process hears them."""

    @property
    def heard(self) -> bool:
        """Would a change be heard now? Where not, only asking again tells."""

    def listen(self, *books: str) -> AbstractContextManager[Listener]:
        """Listens for these books until the block is left. Nothing that is committed after this is missed."""
