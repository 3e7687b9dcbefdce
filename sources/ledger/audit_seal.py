"""What holds the audit trail's records together: each is sealed with the one before it."""

import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from sources.ports.audit import AuditRecord, Hash

NO_HASH: Hash = bytes(32)
"""Before the first record."""

_encode = msgspec.json.Encoder().encode


class Seal:
    """Keys by their ids. Without a key seals are plain SHA-256: anyone who knows how can make them."""

    def __init__(self, key: str | None = None, known: Sequence[str] = ()) -> None:
        """``known``: keys that are only verified by."""
        self._keys: dict[str | None, bytes | None] = {None: None}
        for one in (*known, *filter(None, [key])):
            self._keys[key_id(one)] = one.encode()
        self.key_id = key_id(key) if key else None

    def knows(self, key: str | None) -> bool:
        """Can what is sealed by this key be verified here?"""
        return key in self._keys

    def record(self, key: str | None, before: Hash, sequence: int, record: AuditRecord) -> Hash:
        """Of a record in its place."""
        return self._of(key, b"record\0" + before + sequence.to_bytes(8) + _encode(record))

    def head(self, key: str | None, sequence: int, hash_: Hash) -> bytes:
        """Of the chain's end."""
        return self._of(key, b"head\0" + hash_ + sequence.to_bytes(8))

    def checkpoint(self, key: str | None, sequence: int, hash_: Hash) -> bytes:
        """Of the end of what was deleted by age."""
        return self._of(key, b"checkpoint\0" + hash_ + sequence.to_bytes(8))

    def _of(self, key: str | None, message: bytes) -> bytes:
        secret = self._keys[key]
        if secret is None:
            return hashlib.sha256(message).digest()
        return hmac.digest(secret, message, "sha256")


def key_id(key: str) -> str:
    """Names a key without telling it."""
    return hashlib.sha256(b"backoffice-gateway audit key\0" + key.encode()).hexdigest()[:16]
