"""API keys of service accounts -> Proof: from memory while the ledger is heard, in constant time, never sent anywhere."""

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from permissions.roles import Roles
from permissions.services import effective
from sources.layers import key_text
from sources.ports.errors import SourceError
from sources.ports.service_accounts import KnownKey, ServiceAccountStore

ISSUER = "urn:backoffice-gateway:service-accounts"
"""Who says who a service account is: this gateway."""
REMEMBERED_PROOFS = 4096
USE_SECONDS = 60
"""The last use of a key is written at most this often."""

log = structlog.get_logger()


class ApiKeys:
    """Believes keys; notes when they were used."""

    def __init__(self, store: ServiceAccountStore, roles: Roles) -> None:
        self._roles = roles
        self._lookups = _Lookups(store)
        self._uses = _Uses(store)
        self._proofs: OrderedDict[str, tuple[KnownKey, Proof]] = OrderedDict()

    async def proof(self, secret: str) -> Proof | None:
        """None for what is no key of ours. Raises SignInRefused for one that is not believed; what has our prefix goes to
        no other way of signing in, and so to no issuer."""
        if not secret.startswith(key_text.PREFIX):
            return None
        presented = key_text.read(secret)
        if presented is None:
            raise SignInRefused("the API key is not whole or was mistyped: its checksum is wrong")
        known = await self._lookups.find(presented.id)
        if known is None or not hmac.compare_digest(known.digest, presented.digest):
            raise SignInRefused("the API key is not known")
        # From here on the sender holds the key and may be told of it.
        if known.key.revoked_at is not None:
            raise SignInRefused("the API key has been revoked")
        if known.key.expires_at.timestamp() <= time.time():
            raise SignInRefused("the API key has expired; ask for a new one")
        self._uses.note(presented.id)
        return self._proof(known)

    async def close(self) -> None:
        """Writes the uses that are not written yet."""
        await self._uses.close()

    def _proof(self, known: KnownKey) -> Proof:
        kept = self._proofs.get(known.key.id)
        if kept is not None and kept[0] is known:
            return kept[1]
        account, key = known.account, known.key
        granted = frozenset(key.scopes) & frozenset(account.scopes)
        proof = Proof(
            issuer=ISSUER,
            subject=account.id,
            kind="service",
            via="api-key",
            credential=key.id,
            expires_at=key.expires_at.timestamp(),
            name=account.name,
            organisations=() if account.organisation is None else (account.organisation,),
            scopes=effective(granted, account.organisation, self._roles),
        )
        self._proofs[key.id] = known, proof
        if len(self._proofs) > REMEMBERED_PROOFS:
            self._proofs.popitem(last=False)
        return proof


class _Lookups:
    """Finds keys by id. All that are not remembered and come while a query is under way share the next one: a flood of
    invented keys costs one query at a time, however many requests bring them."""

    def __init__(self, store: ServiceAccountStore) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Future[KnownKey | Exception | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, key: str) -> KnownKey | None:
        """Raises SignInRefused 503 when the ledger does not answer."""
        if known := self._store.remembered(key):
            return known
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        answer = self._waiting[key]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_up(), name="api-key-lookups")
        # One of several who wait for it may go away.
        found = await asyncio.shield(answer)
        if isinstance(found, SourceError):
            raise SignInRefused(
                "API keys cannot be checked now; try again", status=503, code="SOURCE_UNAVAILABLE"
            ) from found
        if isinstance(found, Exception):
            raise found
        return found

    async def _look_up(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            found: Mapping[str, KnownKey | Exception | None]
            try:
                found = dict(zip(asked, await self._store.known(list(asked)), strict=True))
            except Exception as error:
                # It is those who wait that must hear of it, whatever it is.
                found = dict.fromkeys(asked, error)
            for key, answer in asked.items():
                answer.set_result(found[key])


class _Uses:
    """Notes when keys were used and writes it behind the requests' backs: each key at most once a minute."""

    def __init__(self, store: ServiceAccountStore) -> None:
        self._store = store
        self._written: dict[str, float] = {}
        """By key; only keys that were believed are in it."""
        self._pending: dict[str, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, key: str) -> None:
        """Costs a look into a dictionary, but for once a minute."""
        now = time.monotonic()
        if now - self._written.get(key, float("-inf")) < USE_SECONDS:
            return
        self._written[key] = now
        self._pending[key] = datetime.now(UTC)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="api-key-uses")

    async def close(self) -> None:
        if self._task is not None:
            await self._task

    async def _write(self) -> None:
        while self._pending:
            uses, self._pending = self._pending, {}
            try:
                await self._store.used(uses)
            except SourceError as error:
                log.warning("api_key_uses_not_written", reason=type(error).__name__)
