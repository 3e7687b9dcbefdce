"""Bodies that come packed: unpacked in one go, never beyond what may be, and only if all of it is there.

Not left to the client, which gives what there is of a gzip stream that ends in the middle: half a file as a whole one.
"""

import zlib

from sources.transport.connections import BrokenOff, TooLarge

ACCEPTED = "gzip, deflate"

_GZIP = b"\x1f\x8b"


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """Raises BrokenOff where it is cut off, or packed in another way than ``ACCEPTED``; TooLarge beyond ``most`` bytes."""
    name = encoding.strip().lower()
    if not body or name in ("", "identity"):
        return body
    if name in ("gzip", "x-gzip"):
        form = 16 + zlib.MAX_WBITS
    elif name == "deflate":
        # Some leave zlib's two bytes out, which RFC 9110 asks for.
        wrapped = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
        form = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
    else:
        raise BrokenOff("packed in a way that was not asked for")
    parts, size = [], 0
    while body:  # gzip streams may follow each other
        stream = zlib.decompressobj(form)
        try:
            parts.append(stream.decompress(body, most - size + 1))
        except zlib.error as error:
            raise BrokenOff("not what it is said to be packed as") from error
        size += len(parts[-1])
        if size > most:
            raise TooLarge
        if not stream.eof:
            raise BrokenOff("cut off")
        # Behind that there may be what fills the block up.
        body = stream.unused_data if stream.unused_data.startswith(_GZIP) else b""
    return b"".join(parts)
