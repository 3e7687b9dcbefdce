"""Short-lived links to files: signed for one caller, and every right is asked again when one is used."""

import re
import time
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from gateway.settings import Door
from permissions.policy import Policy
from permissions.principal import Principal
from resolvers.vocabulary import ref_of
from sources.layers.scope import ScopedSources
from sources.ports.common import Content

_KINDS = {"invoice-pdf": "Invoice", "document": "Document", "attachment": "Ticket"}
"""Kinds of link and the type whose right they need."""


FIELDS = {"invoice-pdf": "Invoice.pdf", "document": "Document.content", "attachment": "Attachment.content"}
"""The fields that give the links."""


class FileLink(msgspec.Struct, frozen=True):
    """What the graph shows."""

    url: str
    expires_at: datetime


class SignedLinks:
    """Makes and reads links. A link holds ids and an expiry, no secret: it is worth nothing without its caller's own
    token."""

    def __init__(self, door: Door) -> None:
        key = door.file_link_key
        self._key = OctKey.import_key(key) if key else OctKey.generate_key(256)
        self._seconds = door.file_link_seconds
        self._base = door.public_url.rstrip("/")

    def link(self, principal: Principal, *what: str) -> FileLink:
        """``what`` is a kind and its ids, as ``read`` gives them back."""
        expires = int(time.time()) + self._seconds
        claims = {**_whose(principal), "what": list(what), "exp": expires}
        token = jwt.encode({"alg": "HS256"}, claims, self._key)
        return FileLink(f"{self._base}/files/{quote(token)}", datetime.fromtimestamp(expires, UTC))

    def read(self, principal: Principal, token: str) -> list[str] | None:
        """None for a link that is forged, expired, or another caller's."""
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
        except (JoseError, ValueError, RecursionError):
            return None
        ours = all(claims.get(name) == value for name, value in _whose(principal).items())
        what: list[str] = claims["what"]
        return what if ours and claims["exp"] > time.time() else None


def _whose(principal: Principal) -> dict[str, str | None]:
    """Who may use a link: the same caller, acting for the same organisation, and as long as they view as somebody else only
    in that viewing."""
    return {"sub": principal.identity, "org": principal.organisation, "viewing": principal.viewing}


def disposition(file: Content) -> str:
    """To be stored under its own name, by RFC 6266: whoever named the file cannot write headers with it."""
    name = "".join(one for one in file.file_name if one.isprintable() and one not in "/\\") or "file"
    plain = re.sub(r'[^ -~]|["%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def media_type(file: Content) -> str:
    """As the source says where that is a media type, which a person with a mail program may have written."""
    known = re.fullmatch(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", file.media_type, re.ASCII)
    return file.media_type if known else "application/octet-stream"


async def content(
    what: list[str], principal: Principal, policy: Policy, sources: ScopedSources
) -> Content | None:
    """The file that a link names, read as the caller. None where it is not there, or not theirs any more."""
    kind, node, *rest = what
    type_name = _KINDS[kind]
    ref = ref_of(type_name, node)
    if ref is None or not policy.may_see(principal, type_name):
        return None
    if kind == "invoice-pdf":
        return await sources.invoice_pdf(ref)
    if kind == "attachment":
        return await sources.attachment(ref, rest[0])
    return await sources.document_content(ref, rest[0] if rest else None)
