"""A vendor's limits as its connector declares them, what its answers say about them, and what gateway.toml may change."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from sources.transport.addresses import Addresses
from sources.transport.caller import Urgency

LONGEST_SECONDS = 86_400.0
"""A vendor that names a longer time for its limits is not believed."""


class Limit(msgspec.Struct, frozen=True):
    """So many ``calls`` in any stretch of ``seconds``, or so many ``concurrent`` at a time, per account of the vendor."""

    name: str
    calls: int | None = None
    seconds: float = 60.0
    concurrent: int | None = None
    endpoints: tuple[str, ...] | None = None
    """The endpoint classes whose calls it counts; None: all."""
    shared: bool = True
    """Do all replicas draw on it together? False for what one process allows itself."""

    def counts(self, endpoint: str) -> bool:
        return self.endpoints is None or endpoint in self.endpoints


class Reading(msgspec.Struct, frozen=True):
    """What an answer says about one limit. What it does not say is None."""

    limit: str
    calls: int | None = None
    """How many the vendor allows in the limit's time."""
    remaining: int | None = None
    resets_in: float | None = None
    """Seconds until the vendor gives calls back. With nothing remaining, no call is made before."""


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every source's table in gateway.toml may say, whatever its vendor."""

    limits: dict[str, Annotated[int, msgspec.Meta(ge=1)] | Literal["unlimited"]] = {}
    """By the connector's names, where the vendor allows this account other numbers than the connector assumes, or where
    less is to be used because others call it as well."""
    dashboard_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """Of each limit, how much the firm's own people may use up; the rest is kept for customers."""
    background_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """The same for work that nobody waits for."""
    organisation_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """How much of each limit one customer may use up."""
    breaker_failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    """So many calls that fail within 10 s, when they are at least half of all, and the source is left alone for a while."""
    private_addresses: tuple[str, ...] = ()
    """Addresses or networks inside the firm that this source may be reached at, such as 10.1.2.0/24. Without it, a host
    that stands for one is not called."""
    ca_file: str | None = None
    """A PEM file of authorities whose certificates are believed besides the system's, such as the firm's own."""

    @property
    def addresses(self) -> Addresses:
        """Where this source's calls may go. Raises ValueError for settings that cannot hold."""
        return Addresses(self.private_addresses, self.ca_file)

    @property
    def shares(self) -> Mapping[Urgency, float]:
        return {
            Urgency.INTERACTIVE: 1.0,
            Urgency.DASHBOARD: self.dashboard_share,
            Urgency.BACKGROUND: self.background_share,
        }


def number(header: str | None) -> int | None:
    """A header's whole number, None where it is none, or none that counts anything."""
    if header is None or len(header) > 18 or not (header.isascii() and header.isdigit()):
        return None
    return int(header)


def configured(declared: Sequence[Limit], settings: SourceSettings) -> list[Limit]:
    """The limits that hold. Raises ValueError for a name that the connector does not have."""
    names = {limit.name for limit in declared}
    for name in settings.limits.keys() - names:
        raise ValueError(f"limits.{name}: unknown; there are {', '.join(sorted(names)) or 'none'}")
    holding = []
    for limit in declared:
        number = settings.limits.get(limit.name)
        if number == "unlimited":
            continue
        if number is not None:
            field = "calls" if limit.concurrent is None else "concurrent"
            limit = msgspec.structs.replace(limit, **{field: number})
        holding.append(limit)
    return holding
