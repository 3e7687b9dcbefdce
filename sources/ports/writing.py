"""Changes of the ledger that a caller asks for: why one is refused, and how repeating one is harmless."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Protocol

import msgspec


class Refusal(Enum):
    """Why a change did not take place. The caller can do something about each."""

    ALREADY_INVITED = "already_invited"
    ALREADY_MEMBER = "already_member"
    EMAIL_MISMATCH = "email_mismatch"
    EMAIL_NOT_VERIFIED = "email_not_verified"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    INVALID = "invalid"
    INVITATION_EXPIRED = "invitation_expired"
    INVITATION_USED = "invitation_used"
    KEPT_ELSEWHERE = "kept_elsewhere"
    LAST_OWNER = "last_owner"
    NOT_FOUND = "not_found"
    ORGANISATION_NEEDED = "organisation_needed"
    ROLE_NOT_YOURS = "role_not_yours"
    SCOPE_NOT_YOURS = "scope_not_yours"
    STAFF_NOT_MEMBER = "staff_not_member"
    TOO_MANY = "too_many"
    UNKNOWN_ROLE = "unknown_role"


class WriteRefused(Exception):
    """Nothing was changed. The message is for the caller and carries no data that they did not send."""

    def __init__(self, code: Refusal, message: str, *field: str) -> None:
        super().__init__(message)
        self.code, self.field = code, field
        """``field``: the path in the input that is to be mended; empty where none is."""


class Written(msgspec.Struct, frozen=True):
    """A change that took place."""

    id: str
    at: datetime
    records: Mapping[str, str]
    """The ids of what it made or changed, each under a word of the change's own; never data and never a secret."""
    repeated: bool = False
    """Is this the answer to an earlier request with the same key?"""


Work = Callable[[], Awaitable[Mapping[str, str]]]


class WriteStore(Protocol):
    """The ledger's book of changes that took place."""

    async def once(self, caller: str, key: str, change: str, given: bytes, work: Work) -> Written:
        """Does the work, unless the same caller had it done under this key: then answers what it did.

        All that the work writes to the ledger and the memory of it are one transaction: a process that is killed half-way
        leaves neither. Of requests at the same time one works and the others wait for its answer. ``given`` is all that
        the caller asked for; raises WriteRefused when the key came with something else. What raises leaves no memory.
        """
