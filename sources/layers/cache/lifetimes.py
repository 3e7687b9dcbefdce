"""How long what was read stands for what the source would say, by kind. ``[cache]`` of gateway.toml."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class KindSeconds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[cache.seconds]``: until it is read again; 0: each request reads it live."""

    accounts: Seconds = 60.0
    contacts: Seconds = 60.0
    invoices: Seconds = 15.0
    balances: Seconds = 15.0
    tickets: Seconds = 10.0
    comments: Seconds = 5.0
    documents: Seconds = 30.0
    articles: Seconds = 300.0


class Lifetimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[cache]``: what the gateway remembers of what the back offices said."""

    enabled: bool = True
    megabytes: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 64
    """Of memory in each process, as estimated; what was not asked for the longest goes first."""
    stale_while_revalidate: Seconds = 5.0
    """For so much longer it is given once more, while it is read again in the background."""
    stale_if_error: Seconds = 300.0
    """The oldest that is given while its source fails; 0: nothing is."""
    missing: Seconds = 5.0
    """How long it stands that there is no such record; never longer than its kind."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=0.9)] = 0.1
    """By up to this part of its time things are read again earlier, so that not all are due at once."""
    coalesce: Annotated[float, msgspec.Meta(ge=0, le=0.1)] = 0.003
    """Seconds that a batch waits for others' keys while one of its kind is under way; an idle source is asked at once."""
    freshest: Seconds = 0.0
    """A client cannot ask for anything fresher than this."""
    seconds: KindSeconds = KindSeconds()

    def of(self, kind: str) -> float:
        """Seconds of this kind."""
        found: float = getattr(self.seconds, kind)
        return found

    @property
    def without_memory(self) -> "Lifetimes":
        """The same, and nothing is remembered."""
        at_once = KindSeconds(**dict.fromkeys(KindSeconds.__struct_fields__, 0.0))
        return msgspec.structs.replace(
            self, seconds=at_once, stale_while_revalidate=0.0, stale_if_error=0.0, coalesce=0.0
        )

    @property
    def promises(self) -> Mapping[str, int]:
        """By the graph's type."""
        return {type_name: self.promise(kind) for type_name, kind in KIND_OF.items()}

    def promise(self, kind: str) -> int:
        """The oldest, in whole seconds, that is given of this kind while its source answers."""
        seconds = self.of(kind) if self.enabled else 0.0
        return round(seconds + self.stale_while_revalidate) if seconds else 0


KIND_OF = {
    "Account": "accounts",
    "Article": "articles",
    "Balance": "balances",
    "Comment": "comments",
    "Contact": "contacts",
    "Document": "documents",
    "DocumentVersion": "documents",
    "Invoice": "invoices",
    "Ticket": "tickets",
}
"""The setting by the graph's type."""
