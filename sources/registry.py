"""One row per vendor and port, alphabetical. A row enrols its connector in the port's contract suite."""

from collections.abc import Callable
from enum import Enum
from importlib import import_module
from typing import Any

import msgspec

from sources.transport.consent import Consent
from sources.transport.limits import Limit


class Kind(Enum):
    """The kinds of back office, by the port that they fill."""

    CRM = "crm"
    ERP = "erp"
    HELPDESK = "helpdesk"
    DOCUMENTS = "documents"


class Row(msgspec.Struct, frozen=True):
    """A connector. Its module has ``Settings`` (a msgspec.Struct read from gateway.toml) and ``connect(settings,
    wiring)``; the vendor's ``sandbox`` module has ``sandbox(world)`` and ``settings_for(url)``. Loaded when used."""

    vendor: str
    kind: Kind

    @property
    def settings(self) -> type[msgspec.Struct]:
        """The type that the source's table in gateway.toml must fit."""
        member: type[msgspec.Struct] = self._member("Settings")
        return member

    @property
    def connect(self) -> Callable[..., Any]:
        """``connect(settings, wiring) -> port``."""
        member: Callable[..., Any] = self._member("connect")
        return member

    @property
    def consent(self) -> Callable[..., Consent] | None:
        """``consent(settings)``, for ``gateway connect``; None where nobody consents by a browser."""
        member: Callable[..., Consent] | None = getattr(self._module, "consent", None)
        return member

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What the vendor allows."""
        declared: tuple[Limit, ...] = import_module(f"sources.vendors.{self.vendor}.limits").LIMITS
        return declared

    @property
    def sandbox(self) -> Any:
        """The vendor's emulator, a module."""
        return import_module(f"sources.vendors.{self.vendor}.sandbox")

    def _member(self, name: str) -> Any:
        return getattr(self._module, name)

    @property
    def _module(self) -> Any:
        return import_module(f"sources.vendors.{self.vendor}.{self.kind.value}")


REGISTRY = (
    Row("freshdesk", Kind.HELPDESK),
    Row("hubspot", Kind.CRM),
    Row("s3", Kind.DOCUMENTS),
    Row("xero", Kind.ERP),
    Row("zendesk", Kind.HELPDESK),
)


def row(kind: Kind, vendor: str) -> Row:
    """Raises KeyError when no such connector exists."""
    for candidate in REGISTRY:
        if candidate.kind is kind and candidate.vendor == vendor:
            return candidate
    raise KeyError(vendor)
