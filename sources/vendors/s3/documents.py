"""Amazon S3 as a document store: a customer is a folder, a document is an object in it."""

import asyncio
import os.path
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Annotated
from urllib.parse import urlsplit

import botocore.session
import msgspec

from sources.ports.common import Content, Criterion, CustomerRecord, Key, Page, Probe, Ref
from sources.ports.documents import (
    DocumentKind,
    DocumentOrder,
    DocumentQuery,
    DocumentRecord,
    DocumentVersion,
)
from sources.ports.errors import SourceBadResponse, SourceError, SourceRejected
from sources.ports.select import select
from sources.transport.abreast import abreast
from sources.transport.http import Answer, HttpClient, Params
from sources.transport.limits import SourceSettings
from sources.transport.quoting import quoting
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.s3.answers import Drop, Entry, Listing, NoListing, error_code, explain, objects, versions
from sources.vendors.s3.keys import SOURCE, Layout, folded, media_type
from sources.vendors.s3.limits import LIMITS
from sources.vendors.s3.signing import FixedCredentials, FoundCredentials, Signer

TOGETHER = 4
"""From so many documents of one customer on, their versions are read in one listing rather than one each."""

KINDS = {
    "contracts": DocumentKind.CONTRACT,
    "certificates": DocumentKind.CERTIFICATE,
    "guides": DocumentKind.GUIDE,
    "reports": DocumentKind.REPORT,
    "invoices": DocumentKind.INVOICE,
    "statements": DocumentKind.STATEMENT,
}


class Settings(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bucket, how it is reached and how it is laid out. The policy must allow s3:ListBucket, s3:ListBucketVersions,
    s3:GetObject and s3:GetObjectVersion."""

    bucket: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$")]
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,40}$")]
    """The bucket's own, such as eu-west-1."""
    endpoint_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#]+/?$")] | None = None
    """None for AWS's own in the region. Otherwise the store's address without the bucket, such as
    https://minio.example:9000."""
    path_style: bool = False
    """The bucket in the path rather than in the host's name. Stores other than AWS mostly want it, and so does a
    bucket with a dot in its name, which no certificate covers."""
    access_key_id: str | None = None
    """None to use what botocore finds: environment, profile, container or instance role."""
    secret_access_key: str | None = None
    session_token: str | None = None
    """Only with temporary keys, which this connector then cannot renew: prefer a role."""
    folder: str = "accounts/{number}/"
    """A customer's folder by number. Folders that staff declare in the CRM may be called anything but lie as deep."""
    kinds: dict[str, DocumentKind] = msgspec.field(default_factory=lambda: dict(KINDS))
    """What the documents in each folder under a customer's are; in any other they are ``other``."""
    parallel: Annotated[int, msgspec.Meta(ge=1)] = 16
    """Calls at a time."""

    def __post_init__(self) -> None:
        Layout(self.folder, self.kinds)
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("set both access_key_id and secret_access_key, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token needs access_key_id and secret_access_key")


def connect(settings: Settings, wiring: Wiring) -> "S3Documents":
    """No call is made. Raises ValueError for fields of the firm's own: a listing holds none."""
    for field in wiring.custom:
        raise ValueError(f"{field.type}.{field.name}: S3 has no properties that a listing would tell")
    return S3Documents(settings, wiring.network)


def address(settings: Settings) -> str:
    """Where the bucket answers."""
    endpoint = settings.endpoint_url
    if endpoint is None:
        endpoint = f"https://s3.{settings.region}.{_dns_suffix(settings.region)}"
    endpoint = endpoint.rstrip("/")
    if settings.path_style:
        return f"{endpoint}/{settings.bucket}"
    scheme, host = urlsplit(endpoint)[:2]
    return f"{scheme}://{settings.bucket}.{host}"


class S3Documents:
    """The port. S3 lists by key and by nothing else, so filters, orderings and windows are worked out here over whole
    folders: 1 call per folder and 1,000 objects in it."""

    name = SOURCE

    def __init__(self, settings: Settings, network: Network | None = None) -> None:
        self._settings = settings
        self._layout = Layout(settings.folder, settings.kinds)
        base_url = address(settings)
        credentials = (
            FoundCredentials(SOURCE)
            if settings.access_key_id is None or settings.secret_access_key is None
            else FixedCredentials(settings.access_key_id, settings.secret_access_key, settings.session_token)
        )
        self._http = HttpClient(
            SOURCE,
            base_url,
            auth=Signer(base_url, settings.region, credentials),
            traffic=(network or Network()).traffic(
                SOURCE, settings, parallel=settings.parallel, limits=LIMITS, account=base_url
            ),
            explain=explain,
        )

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]:
        """By the folder's form alone, without a call: S3 has no folders, only keys that begin alike."""
        return [self._customer(ref.id) if ref.source == SOURCE else None for ref in refs]

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]:
        """Without a call. A number gives the template's folder, an external id is a folder that staff declared; by
        e-mail domain nobody is found."""
        found: list[Sequence[CustomerRecord]] = []
        for value in values:
            folder = {
                Criterion.NUMBER: self._layout.folder_for(value),
                Criterion.EXTERNAL_ID: value,
            }.get(criterion)
            customer = self._customer(folder) if folder is not None else None
            found.append([customer] if customer else [])
        return found

    async def documents(self, refs: Sequence[Ref]) -> Sequence[DocumentRecord | None]:
        """One call per key. None without a call for a key that no document may have."""
        keys = dict.fromkeys(key for ref in refs if (key := self._key(ref)) is not None)
        found = dict(zip(keys, await asyncio.gather(*map(self._head, keys)), strict=True))
        return [found.get(ref.id) if ref.source == SOURCE else None for ref in refs]

    async def documents_of(
        self, customers: Sequence[Ref], query: DocumentQuery
    ) -> Sequence[Page[DocumentRecord] | SourceError]:
        """One call per folder and 1,000 objects. Where all kinds asked for lie in one folder, only that is listed;
        else filters, and always the order and the window, are applied here. No rows for a ref that is no folder."""
        distinct = list(dict.fromkeys(customers))
        pages = await abreast(self._page(customer, query) for customer in distinct)
        found = dict(zip(distinct, pages, strict=True))
        return [found[customer] for customer in customers]

    async def versions_of(
        self, documents: Sequence[Ref]
    ) -> Sequence[Sequence[DocumentVersion] | SourceError]:
        """One call per document, or one listing of what a customer's documents have in common when that is at least
        TOGETHER of them. None for a deleted document: what was taken back is not shown."""
        by_customer: dict[str, list[str]] = {}
        for ref in dict.fromkeys(documents):
            customer = self._layout.folder_of(ref.id) if ref.source == SOURCE else None
            if customer is not None:
                by_customer.setdefault(customer, []).append(ref.id)
        answers = await asyncio.gather(*map(self._versions, by_customer.values()))
        found = {key: rows for answer in answers for key, rows in answer.items()}
        return [found.get(ref.id, []) if ref.source == SOURCE else [] for ref in documents]

    async def content(self, document: Ref, version_id: str | None = None) -> Content | None:
        """One call. Raises SourceBadResponse beyond the client's limit of size."""
        key = self._key(document)
        if key is None or (version_id is not None and not re.fullmatch(r"[!-~]{1,1024}", version_id)):
            return None
        answer = await self._object("GET", key, [] if version_id is None else [("versionId", version_id)])
        if answer is None:
            return None
        _stamped(answer)
        file_name = key.rpartition("/")[2]
        return Content(answer.body, media_type(file_name) or "application/octet-stream", file_name)

    async def probe(self) -> Probe:
        """Lists one key, where customers' folders begin: a policy may allow no more than that."""
        try:
            await self._objects(self._layout.root, max_keys=1)
        except SourceRejected as error:
            return Probe(False, str(error))
        bucket, region = self._settings.bucket, self._settings.region
        return Probe(True, f"bucket {bucket} in {region}, customers in {self._settings.folder}")

    async def close(self) -> None:
        await self._http.close()

    def _customer(self, folder: str) -> CustomerRecord | None:
        if not self._layout.is_folder(folder):
            return None
        return CustomerRecord(ref=Ref(SOURCE, folder), number=self._layout.number_of(folder))

    def _key(self, ref: Ref) -> str | None:
        """The key that a ref names, None where it can be no document's."""
        return ref.id if ref.source == SOURCE and self._layout.folder_of(ref.id) is not None else None

    async def _page(self, customer: Ref, query: DocumentQuery) -> Page[DocumentRecord]:
        holding = self._layout.folders_holding(query.kinds)
        if customer.source != SOURCE or not self._layout.is_folder(customer.id) or holding == ():
            return Page([], [])
        prefix = f"{customer.id}{holding[0]}/" if holding is not None and len(holding) == 1 else customer.id
        rows: list[DocumentRecord] = []
        following: Params = ()
        made = self._layout.document
        while True:
            listing = await self._objects(prefix, following)
            rows += [
                record
                for one in listing.entries
                if (record := made(one.key, one.size, one.updated_at, one.etag, customer)) is not None
            ]
            if not listing.following:
                break
            if listing.following == following:
                raise SourceBadResponse(SOURCE, "a listing that does not get on")
            following = listing.following
        if query.kinds or query.tags or query.text is not None:
            rows = [row for row in rows if _fits(row, query)]
        return select(rows, _ORDERS[query.order], query.direction, query.window)

    async def _head(self, key: str) -> DocumentRecord | None:
        answer = await self._object("HEAD", key)
        if answer is None:
            return None
        etag, updated_at = _stamped(answer)
        size = answer.headers.get("content-length", "")
        return self._layout.document(key, int(size) if size.isdecimal() else None, updated_at, etag)

    async def _object(self, method: str, key: str, params: Params = ()) -> Answer | None:
        """None where there is no such object or version."""
        path = f"/{_key_in_path(key)}{_query(params)}"
        answer = await self._http.call(method, path, expect=(200, 400, 403, 404, 405), route="object")
        if answer.status == 200:
            return answer
        code = error_code(answer)
        if code in _NOT_THERE or (answer.status == 404 and code is None):
            return None
        # A HEAD does not say why it was refused, and a missing key is AccessDenied where the policy does not let us
        # list: then the listing is refused as well, or does not hold the key.
        if code in (None, "AccessDenied"):
            try:
                listing = await self._objects(key, max_keys=1)
            except SourceRejected as error:
                if error.vendor_code == "AccessDenied":
                    return None
                raise
            if all(entry.key != key for entry in listing.entries):
                return None
        raise explain(answer) or SourceBadResponse(SOURCE, "an error that is not S3's: check endpoint_url")

    async def _versions(self, keys: Sequence[str]) -> dict[str, Sequence[DocumentVersion] | SourceError]:
        """Of documents of one customer. Never more than one call more than there are documents, however many others
        lie between them."""
        rows: dict[str, list[Entry]] = {key: [] for key in keys}
        waiting = sorted(keys)
        prefix = os.path.commonprefix(waiting)  # noqa: RUF071 a prefix of S3 is any text, not only folders
        following: Params = ()
        found: dict[str, Sequence[DocumentVersion] | SourceError] = {}
        try:
            while len(waiting) >= TOGETHER:
                listing = await self._listing_of_versions(prefix, following)
                for entry in listing.entries:
                    if entry.key in rows:
                        rows[entry.key].append(entry)
                following = listing.following
                ahead = [key for key in waiting if following and key >= listing.reached]
                stuck = len(ahead) == len(waiting)
                found |= {key: _versions_of(key, rows[key]) for key in waiting if key not in ahead}
                waiting = ahead
                if stuck:
                    break
        except SourceError as error:
            return found | dict.fromkeys(waiting, error)
        alone = await abreast(map(self._versions_alone, waiting))
        return found | dict(zip(waiting, alone, strict=True))

    async def _versions_alone(self, key: str) -> Sequence[DocumentVersion]:
        rows: list[Entry] = []
        following: Params = ()
        while True:
            listing = await self._listing_of_versions(key, following)
            rows += [entry for entry in listing.entries if entry.key == key]
            # Keys that go on where this one ends come behind it.
            if not listing.following or listing.reached != key or listing.following == following:
                return _versions_of(key, rows)
            following = listing.following

    async def _objects(self, prefix: str, following: Params = (), max_keys: int = 1000) -> Listing:
        asked = [("list-type", "2"), ("prefix", prefix), ("max-keys", str(max_keys)), *following]
        return self._read(await self._list(asked), objects)

    async def _listing_of_versions(self, prefix: str, following: Params) -> Listing:
        asked = [("versions", ""), ("prefix", prefix), *following]
        return self._read(await self._list(asked), versions)

    def _read(self, answer: Answer, reader: Callable[[bytes, Drop], Listing]) -> Listing:
        try:
            return reader(answer.body, self._drop)
        except NoListing:
            answer.unreadable()
            raise

    def _drop(self, key: str | None) -> None:
        # A document's key tells its customer and its name: what is logged is that there was one.
        self._http.drop("document", None)

    async def _list(self, params: Params) -> Answer:
        # A key may hold characters that XML cannot: encoded, it can be told.
        return await self._http.call("GET", "/" + _query([*params, ("encoding-type", "url")]), route="list")


def _dns_suffix(region: str) -> str:
    """As botocore's table has it: amazonaws.com, but amazonaws.com.cn in China."""
    for partition in botocore.session.Session().get_data("partitions")["partitions"]:
        if region in partition["regions"] or re.match(partition["regionRegex"], region):
            return str(partition["outputs"]["dnsSuffix"])
    return "amazonaws.com"


_NOT_THERE = ("NoSuchKey", "NoSuchVersion", "InvalidArgument", "MethodNotAllowed")
"""The last two answer a version id that S3 never gave out, and one that is a delete marker."""


_key_in_path = quoting("/")
_quoted = quoting()


def _query(params: Params) -> str:
    """Encoded as strictly as the signature demands, which the client's own lenient form is not. Names are S3's own words,
    which stay as they are."""
    return "?" + "&".join([f"{k}={_quoted(v)}" for k, v in params]) if params else ""


def _stamped(answer: Answer) -> tuple[str, datetime]:
    """ETag and Last-Modified, which every object of S3 carries and no page of a proxy does."""
    etag, updated_at = answer.headers.get("etag"), answer.headers.get("last-modified")
    try:
        if etag is not None and updated_at is not None:
            return etag, parsedate_to_datetime(updated_at)
    except ValueError:
        pass
    raise SourceBadResponse(SOURCE, "unexpected answer: not an object of S3")


def _fits(row: DocumentRecord, query: DocumentQuery) -> bool:
    return (
        (not query.kinds or row.kind in query.kinds)
        and set(query.tags) <= set(row.tags)
        and (query.text is None or folded(query.text) in folded(row.title))
    )


def _by_time(row: DocumentRecord) -> Key:
    return Key(_instant(row.updated_at) if row.updated_at else "", row.ref.id)


def _instant(moment: datetime) -> str:
    """In UTC and with microseconds, so that moments sort as text as they do as such."""
    # msgspec writes ISO 8601 in a sixth of the time that isoformat takes, and leaves out microseconds where there are none.
    text: str = msgspec.to_builtins(moment)
    return f"{text[:19]}{text[19:-1] or '.000000'}+00:00"


def _by_title(row: DocumentRecord) -> Key:
    return Key(folded(row.title), row.ref.id)


_ORDERS = {DocumentOrder.UPDATED_AT: _by_time, DocumentOrder.TITLE: _by_title}


def _versions_of(key: str, rows: Sequence[Entry]) -> Sequence[DocumentVersion]:
    """S3 lists newest first. Where the newest is a delete marker no version is current."""
    if not any(row.current for row in rows):
        return []
    return [
        DocumentVersion(
            id=row.version_id or "null",
            document=Ref(SOURCE, key),
            current=row.current,
            size=row.size,
            updated_at=row.updated_at,
        )
        for row in rows
    ]
