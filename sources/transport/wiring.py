"""What a connector is given besides its own settings."""

import msgspec

from sources.ports.common import CustomField
from sources.ports.mirror import MirrorStore
from sources.ports.tokens import TokenStore
from sources.ports.violations import Violations
from sources.transport.traffic import Network


class Wiring(msgspec.Struct, frozen=True):
    """Handed to each vendor's ``connect``. ``custom`` holds the firm's own fields on this port's types only."""

    tokens: TokenStore
    custom: tuple[CustomField, ...] = ()
    network: Network = msgspec.field(default_factory=Network)
    """By which it calls its vendor."""
    mirrors: MirrorStore | None = None
    """Where copies of its records are kept; None for who only probes."""
    violations: Violations = msgspec.field(default_factory=Violations)
    """Where it says that its vendor gave a row of somebody whom it was not asked for."""
