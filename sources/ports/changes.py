"""Being told that a book has changed, whoever changed it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from sources.ports.common import Ref


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


class Forgetting(msgspec.Struct, frozen=True):
    """What of the sources is to be read again: all of one source; or these records and what hangs on them; with neither,
    everything."""

    source: str | None = None
    refs: tuple[Ref, ...] = ()


Forget = Callable[[Forgetting], None]


class ForgettingFeed(Protocol):
    """Tells every process what to forget of the sources, and hears it."""

    async def tell(self, forgettings: Sequence[Forgetting]) -> None:
        """All processes that listen hear it, this one too. Raises SourceError."""

    def listen(self, forget: Forget) -> None:
        """For as long as the ledger is open. Whatever may have gone unheard is told as everything."""
