"""The gateway without its audit trail, which no setting can switch off: what recording costs is measured beside it.

Run like ``python -m gateway``.
"""

from datetime import UTC, datetime
from typing import Self

from gateway import operations
from gateway.audit import AuditTrail, Done
from sources.layers.touched import Touched
from sources.ports.audit import AuditKind, AuditOutcome, AuditRecord, Stage

_NOTHING = AuditRecord(
    operation="",
    stage=Stage.WHOLE,
    at=datetime.now(UTC),
    request="",
    kind=AuditKind.QUERY,
    name=None,
    outcome=AuditOutcome.OK,
    codes=(),
    principal="",
    principal_kind="",
    via="",
    credential=None,
    roles=(),
    staff=False,
    viewed_by=None,
    organisation=None,
    client="",
)
_DONE = Done()


class _Unread:
    """In the place of the block of a read."""

    done = _DONE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def silence() -> None:
    """Everything that the trail takes part in costs next to nothing from now on."""
    unread = _Unread()
    for owner, name, replacement in (
        (operations.Operations, "record", lambda *_: _NOTHING),
        (operations, "done_of", lambda *_: _DONE),
        (AuditTrail, "reading", lambda *_: unread),
        (AuditTrail, "read", lambda *_: None),
        (Touched, "take", lambda *_: None),
    ):
        setattr(owner, name, replacement)


if __name__ == "__main__":
    from gateway.cli import app

    silence()
    app()
