"""Tokens at rest: AES-256-GCM under one of several keys, bound to the connection and the column that they belong to."""

import base64
import os
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sources.ports.errors import SourceRejected

KEY_BYTES = 32
_NONCE_BYTES = 12
_MEND = "list it in [tokens] keys, or authorise the connection again with `gateway connect`"


class TokenKey(msgspec.Struct, frozen=True):
    """A key and the name under which rows remember it."""

    id: str
    key: bytes

    def __repr__(self) -> str:
        return f"TokenKey({self.id!r})"


class TokenCipher:
    """The first key encrypts, all of them decrypt. Raises ValueError for a key of another length."""

    def __init__(self, keys: Sequence[TokenKey]) -> None:
        self._keys = {one.id: AESGCM(one.key) for one in keys if _fits(one)}
        self.newest = keys[0].id if keys else None

    def require_key(self, connection: str) -> None:
        """Raises SourceRejected where there is none: a refresh token is not stored for whoever reads the database."""
        if self.newest is None:
            raise SourceRejected(
                connection,
                "its refresh token is stored encrypted and there is no key: set [tokens] keys; "
                "`gateway tokens key` makes one",
            )

    def seal(self, connection: str, column: str, text: str) -> str:
        """Under the newest key."""
        self.require_key(connection)
        assert self.newest is not None
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self.newest].encrypt(nonce, text.encode(), _bound(connection, column))
        return base64.b64encode(nonce + sealed).decode()

    def open(self, connection: str, column: str, key_id: str, sealed: str) -> str:
        """Raises SourceRejected when the key is not there or is not the one."""
        key = self._keys.get(key_id)
        if key is None:
            raise SourceRejected(
                connection, f"its stored tokens need the key {key_id!r}, which is not there: {_MEND}"
            )
        try:
            raw = base64.b64decode(sealed, validate=True)
            return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(connection, column)).decode()
        except (InvalidTag, ValueError) as error:
            raise SourceRejected(
                connection,
                f"its stored tokens do not open with the key {key_id!r}: it is not the key that they were stored "
                f"with, or the row was changed; {_MEND}",
            ) from error


def _fits(key: TokenKey) -> bool:
    if len(key.key) != KEY_BYTES:
        raise ValueError(f"token key {key.id!r}: {KEY_BYTES} bytes")
    return True


def _bound(connection: str, column: str) -> bytes:
    """What the text is encrypted for: a row that is copied to another connection's does not open there."""
    return f"backoffice-gateway tokens\0{connection}\0{column}".encode()
