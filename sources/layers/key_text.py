"""The text of an API key: ``bogk_<id>_<secret><checksum>``, how it is made and read.

The prefix and the fixed length let secret scanners find a key that leaked; docs/service-accounts.md has the expression. The
checksum tells a mistyped or invented key from a real one without asking anybody.
"""

import hashlib
import re
import secrets
import zlib

import msgspec

PREFIX = "bogk_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID, _SECRET, _CHECKSUM = 12, 43, 6
"""Characters of base 62: 71, 256 and 32 bits."""
_FORM = re.compile(
    rf"({PREFIX}([0-9A-Za-z]{{{_ID}}})_([0-9A-Za-z]{{{_SECRET}}}))([0-9A-Za-z]{{{_CHECKSUM}}})", re.ASCII
)


class Minted(msgspec.Struct, frozen=True):
    """A new key. ``text`` is what its holder is shown once."""

    id: str
    text: str
    digest: bytes


class Presented(msgspec.Struct, frozen=True):
    """What somebody sent: which key it claims to be, and what must be stored with it if it is."""

    id: str
    digest: bytes


def mint() -> Minted:
    """From the operating system's randomness."""
    id_ = "".join(secrets.choice(_ALPHABET) for _ in range(_ID))
    secret = _base62(int.from_bytes(secrets.token_bytes(32)), _SECRET)
    body = f"{PREFIX}{id_}_{secret}"
    return Minted(id_, body + _checksum(body), _digest(secret))


def read(text: str) -> Presented | None:
    """None where the form or the checksum is wrong."""
    parts = _FORM.fullmatch(text)
    if parts is None or parts[4] != _checksum(parts[1]):
        return None
    return Presented(parts[2], _digest(parts[3]))


def _digest(secret: str) -> bytes:
    # A slow hash protects passwords, which people choose. 256 random bits cannot be guessed however fast the hash is,
    # and this one is computed on every request.
    return hashlib.sha256(secret.encode()).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
