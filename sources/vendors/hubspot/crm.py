"""HubSpot as a CRM: settings, the port, and companies and contacts as its records."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from sources.ports.common import CustomField, Direction, Key, Page, Probe, Ref, Window
from sources.ports.crm import (
    AccountOrder,
    AccountQuery,
    AccountRecord,
    Address,
    ContactOrder,
    ContactQuery,
    ContactRecord,
    Crm,
)
from sources.ports.custom import custom_value
from sources.ports.errors import InvalidRequest, SourceError, SourceRejected
from sources.ports.select import select
from sources.transport.consent import Consent
from sources.transport.fanin import Slice, Span, windows_of
from sources.transport.http import Auth, HeaderAuth, HttpClient
from sources.transport.limits import SourceSettings
from sources.transport.oauth import StoredRefreshToken, TokenEndpoint
from sources.transport.wiring import Wiring
from sources.vendors.hubspot.api import SOURCE, Api, Found, Listing, Row, explain, named, refused_refresh
from sources.vendors.hubspot.byname import accounts_by_name
from sources.vendors.hubspot.filters import Filters, account_filters, checked, matches, milliseconds
from sources.vendors.hubspot.limits import LIMITS, readings
from sources.vendors.hubspot.rolls import added_key, pages_by_id, whole_lists

SHARING = 3
"""Accounts per value that ``accounts_sharing`` promises."""

SORTED_CONTACTS = 2_000
"""An account with more contacts is not read to its end to sort or search them."""

_COMPANY = (
    "name", "domain", "website", "phone", "industry", "address", "address2", "city", "zip", "state",
    "createdate", "hs_lastmodifieddate", "hs_merged_object_ids",
)  # fmt: skip
_CONTACT = (
    "firstname", "lastname", "email", "phone", "mobilephone", "jobtitle", "createdate", "lastmodifieddate",
    "hs_merged_object_ids",
)  # fmt: skip
_TIMES = {AccountOrder.CREATED_AT: "createdate", AccountOrder.UPDATED_AT: "hs_lastmodifieddate"}
_ID = re.compile(r"[1-9][0-9]{0,18}").fullmatch


class Settings(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source's table in gateway.toml: a private app's token, or an OAuth app with its refresh token."""

    base_url: str = "https://api.hubapi.com"
    """HubSpot's API, or a proxy in front of it."""
    api: Annotated[str, msgspec.Meta(pattern=r"^(v3|[0-9]{4}-[0-9]{2})$")] = "v3"
    """Which family of paths: ``v3`` (with associations v4), or a date-based one such as ``2026-03``."""
    token: str | None = None
    """Access token of a private app (``pat-...``), with the scopes crm.objects.companies.read and
    crm.objects.contacts.read."""
    client_id: str | None = None
    """Of an OAuth app, instead of ``token``."""
    client_secret: str | None = None
    refresh_token: str | None = None
    """What the account's consent to the OAuth app gave; kept up to date in the gateway's own book."""
    connected: bool = False
    """Instead of ``refresh_token``: the token store holds what ``gateway connect hubspot`` put there."""
    scope: str = "oauth crm.objects.companies.read crm.objects.contacts.read"
    """What ``gateway connect`` asks for."""
    authorize_url: str = "https://app.hubspot.com/oauth/authorize"
    token_url: str = "https://api.hubapi.com/oauth/v3/token"  # noqa: S105 - an address
    number_property: str = "account_number"
    """The company property that holds the firm's own customer number."""
    country_property: str = "country"
    """The company property that holds the country, as text or as a code."""
    declared: dict[str, str] = msgspec.field(default_factory=dict)
    """Company properties in which staff note a company's id in another system: ``{xero = "xero_contact_id"}``."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 100
    """Records per batch read; HubSpot takes at most 100."""
    associations_batch_size: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    """Records per read of associations; HubSpot takes at most 1,000."""
    search_page_size: Annotated[int, msgspec.Meta(ge=1, le=200)] = 200
    """Hits per page of a search; HubSpot gives at most 200."""
    parallel: Annotated[int, msgspec.Meta(ge=1, le=20)] = 5
    """Calls under way at once, of each process."""

    def __post_init__(self) -> None:
        if self.connected and self.refresh_token:
            raise ValueError("set connected or refresh_token, not both")
        oauth = (self.client_id, self.client_secret, self.refresh_token or self.connected)
        if self.token and any(oauth):
            raise ValueError("set token, or client_id, client_secret and refresh_token, not both")
        if not self.token and not all(oauth):
            raise ValueError("set token, or all of client_id, client_secret and refresh_token")


def connect(settings: Settings, wiring: Wiring) -> Crm:
    """No call is made until the port is used."""
    auth: Auth
    if settings.token:
        auth = HeaderAuth(f"Bearer {settings.token}")
    else:
        auth = StoredRefreshToken(
            SOURCE,
            settings.token_url,
            settings.client_id or "",
            settings.client_secret or "",
            store=wiring.tokens,
            first_refresh_token=settings.refresh_token,
            addresses=settings.addresses,
            client_auth="client_secret_post",
            refused=refused_refresh,
            renewals=wiring.network.renewals,
        )
    traffic = wiring.network.traffic(
        SOURCE,
        settings,
        parallel=settings.parallel,
        limits=LIMITS,
        account=f"{settings.base_url} {settings.client_id or settings.token}",
        read=readings,
    )
    http = HttpClient(SOURCE, settings.base_url, auth=auth, traffic=traffic, explain=explain)
    return HubSpot(settings, http, wiring.custom)


def consent(settings: Settings) -> Consent:
    """What an administrator of the account is asked for."""
    return Consent(
        source=SOURCE,
        authorize_url=settings.authorize_url,
        client_id=settings.client_id or "",
        scope=settings.scope,
        endpoint=TokenEndpoint(
            SOURCE,
            settings.token_url,
            settings.client_id or "",
            settings.client_secret or "",
            settings.addresses,
            "client_secret_post",
            refused_refresh,
        ),
        first_refresh_token=settings.refresh_token,
    )


class HubSpot:
    """The port. Portal page: one call for the account, one for its contacts' ids, one for the contacts."""

    name = SOURCE

    def __init__(self, settings: Settings, http: HttpClient, custom: Sequence[CustomField]) -> None:
        self._settings = settings
        self._api = Api(
            http,
            settings.api,
            batch=settings.batch_size,
            associations_batch=settings.associations_batch_size,
        )
        self._account_fields = tuple(field for field in custom if field.type == "Account")
        self._contact_fields = tuple(field for field in custom if field.type == "Contact")
        self._company_properties = named(
            *_COMPANY,
            settings.number_property,
            settings.country_property,
            *settings.declared.values(),
            *(field.property for field in self._account_fields),
        )
        self._contact_properties = named(*_CONTACT, *(field.property for field in self._contact_fields))

    async def accounts(self, refs: Sequence[Ref]) -> Sequence[AccountRecord | None]:
        """One call per 100 distinct ids. Archived accounts are None."""
        found = _whole(await self._api.read("companies", _ids(refs), self._company_properties))
        records = {asked: self._account(row) for asked, row in found.items()}
        return [records.get(ref.id) if ref.source == SOURCE else None for ref in refs]

    async def find_accounts(self, query: AccountQuery) -> Page[AccountRecord]:
        """``within`` is read by id and selected here. Otherwise HubSpot searches, seconds behind writes: by time it
        goes on from the last place; by name it runs in HubSpot's own order of names, see ``accounts_by_name``."""
        checked(query)
        if any(condition.equals == () for condition in query.conditions):
            return Page((), ())
        if query.within is not None:
            records = {record.ref: record for record in await self.accounts(query.within) if record}
            rows = [record for record in records.values() if matches(record, query)]
            return select(rows, _account_key(query.order), query.direction, query.window)
        if query.order is AccountOrder.NAME:
            return await self._find_by_name(query)
        return await self._find_by_time(query)

    async def accounts_sharing(
        self, attribute: str, values: Sequence[str]
    ) -> Sequence[Sequence[AccountRecord]]:
        """Case is ignored, as HubSpot does. One search per 100 values, more only where many accounts share them."""
        name = self._property_of(attribute)
        wanted = list(dict.fromkeys(value.strip().lower() for value in values if value.strip()))

        def with_values(some: Sequence[str]) -> Filters:
            filters = Filters()
            filters.any_of(name, some)
            return filters

        pages = await windows_of(
            wanted,
            Window(first=SHARING),
            Direction.ASC,
            fetch=self._search_fetch("createdate", with_values),
            parents_of=lambda rows: [(row.text(name) or "").strip().lower() for row in rows],
            keys_of=lambda rows: [_time_key(row, "createdate") for row in rows],
            chunk=100,
            page_sizes=(1, self._settings.search_page_size),
        )
        found: dict[str, list[AccountRecord]] = {}
        for value, page in zip(wanted, pages, strict=True):
            if isinstance(page, SourceError):
                raise page
            found[value] = [self._account(row) for row in page.rows]
        return [found.get(value.strip().lower(), []) for value in values]

    async def contacts(self, refs: Sequence[Ref]) -> Sequence[ContactRecord | None]:
        """One call per 100 distinct ids for the contacts, one per 1,000 for their accounts, whether or not they exist.
        Archived ones are None."""
        found = _whole(await self._api.read("contacts", _ids(refs), self._contact_properties))
        # The survivor of a merge holds the associations, whatever id was asked for. Who watches the calls must not see
        # whether a contact exists: accounts are asked for in any case.
        listings = {found[id_].id if id_ in found else id_: Listing() for id_ in _ids(refs)}
        await whole_lists(self._api, "contacts", "companies", listings)
        for listing in listings.values():
            if listing.error:
                raise listing.error
        records = {
            asked: self._contact(
                row, tuple(Ref(SOURCE, company) for company in dict.fromkeys(listings[row.id].ids))
            )
            for asked, row in found.items()
        }
        return [records.get(ref.id) if ref.source == SOURCE else None for ref in refs]

    async def contacts_of(
        self, accounts: Sequence[Ref], query: ContactQuery
    ) -> Sequence[Page[ContactRecord] | SourceError]:
        """One call per 1,000 accounts for the contacts' ids, then one per 100 contacts that the pages need: a second
        round only for pages that archived contacts left short. NAME and ``text`` read all contacts of each account
        (InvalidRequest beyond SORTED_CONTACTS). A merged-away account id has no contacts: ask by the survivor's."""
        pages: dict[str, Page[Row] | SourceError]
        listings = {owner: Listing() for owner in dict.fromkeys(_ids(accounts))}
        if query.order is ContactOrder.ADDED and not query.text:
            pages = await pages_by_id(
                self._api, listings, query.window, query.direction, self._contact_properties
            )
        else:
            pages = await self._selected(listings, query)
        if pages and all(isinstance(page, SourceError) for page in pages.values()):
            raise next(page for page in pages.values() if isinstance(page, SourceError))
        members: dict[str, tuple[Ref, ...]] = {}
        for owner, listing in listings.items():
            account: tuple[Ref, ...] = (Ref(SOURCE, owner),)
            own = dict.fromkeys(listing.ids, account)
            for shared in members.keys() & own.keys():
                own[shared] = members[shared] + own[shared]
            members.update(own)
        answers: dict[str, Page[ContactRecord] | SourceError] = {}
        for owner, page in pages.items():
            if isinstance(page, SourceError):
                answers[owner] = page
            else:
                records = [self._contact(row, _members(members, row)) for row in page.rows]
                answers[owner] = Page(records, page.keys, page.has_next, page.has_previous)
        empty: Page[ContactRecord] = Page((), ())
        return [answers.get(ref.id, empty) if ref.source == SOURCE else empty for ref in accounts]

    async def probe(self) -> Probe:
        """One call, which every token may make."""
        try:
            portal = await self._api.portal()
        except SourceRejected as error:
            return Probe(False, str(error))
        kind = f" ({portal.account_type.lower()})" if portal.account_type else ""
        return Probe(True, f"HubSpot account {portal.portal_id}{kind}")

    async def close(self) -> None:
        await self._api.close()

    # -- finding accounts ---------------------------------------------------------------------------------------

    async def _find_by_time(self, query: AccountQuery) -> Page[AccountRecord]:
        name = _TIMES[query.order]
        for key in (query.window.after, query.window.before):
            if key is not None and not re.fullmatch(r"[0-9]{1,19}", key.value):
                raise InvalidRequest(SOURCE, "the cursor does not belong to this ordering")
        (page,) = await windows_of(
            [""],
            query.window,
            query.direction,
            fetch=self._search_fetch(name, lambda _: self._filters(query), query.text),
            parents_of=lambda rows: [""] * len(rows),
            keys_of=lambda rows: [_time_key(row, name) for row in rows],
            chunk=1,
            page_sizes=(1, self._settings.search_page_size),
        )
        if isinstance(page, SourceError):
            raise page
        return Page([self._account(row) for row in page.rows], page.keys, page.has_next, page.has_previous)

    async def _find_by_name(self, query: AccountQuery) -> Page[AccountRecord]:
        filters = self._filters(query).as_json()

        async def read(offset: int, limit: int) -> Found:
            return await self._api.search(
                "companies",
                filters=filters,
                text=query.text,
                sort="name",
                descending=query.direction is Direction.DESC,
                properties=self._company_properties,
                limit=limit,
                after=str(offset),
            )

        page = await accounts_by_name(read, query.window, query.direction, self._settings.search_page_size)
        return Page([self._account(row) for row in page.rows], page.keys, page.has_next, page.has_previous)

    def _filters(self, query: AccountQuery) -> Filters:
        return account_filters(query, self._settings.country_property, _TIMES[AccountOrder.UPDATED_AT])

    def _search_fetch(
        self, sort: str, filters_of: Callable[[Sequence[str]], Filters], text: str | None = None
    ) -> Callable[[Sequence[str], Span, int, int], Any]:
        """Searches companies in the order of a time, from a place in it; a further page of the same search by the
        token that came with the one before."""
        tokens: dict[tuple[tuple[str, ...], Span, int], str] = {}

        async def fetch(parents: Sequence[str], span: Span, page: int, size: int) -> Slice[Row]:
            descending = span.direction is Direction.DESC
            low, high = (span.end, span.start) if descending else (span.start, span.end)
            filters = filters_of(parents)
            filters.between(sort, int(low) if low else None, int(high) if high else None)
            place = tuple(parents), span
            found = await self._api.search(
                "companies",
                filters=filters.as_json(),
                text=text,
                sort=sort,
                descending=descending,
                properties=self._company_properties,
                limit=size,
                after=tokens.get((*place, page), "0"),
            )
            if found.next:
                tokens[(*place, page + 1)] = found.next
            return Slice([row for row in found.results if row is not None], more=found.next is not None)

        return fetch

    def _property_of(self, attribute: str) -> str:
        if attribute == "number":
            return self._settings.number_property
        if attribute == "domain":
            return "domain"
        name = self._settings.declared.get(attribute.removeprefix("declared:"))
        if name is None or not attribute.startswith("declared:"):
            raise InvalidRequest(SOURCE, f"accounts hold no {attribute}; see the source's setting declared")
        return name

    # -- reading --------------------------------------------------------------------------------------------------

    async def _selected(
        self, listings: dict[str, Listing], query: ContactQuery
    ) -> dict[str, Page[Row] | SourceError]:
        await whole_lists(self._api, "companies", "contacts", listings, SORTED_CONTACTS)
        for listing in listings.values():
            if listing.error is None and (listing.after or len(listing.ids) > SORTED_CONTACTS):
                listing.error = InvalidRequest(
                    SOURCE,
                    f"more than {SORTED_CONTACTS:,} contacts: order them by ADDED, without a search text",
                )
        wanted = [one for listing in listings.values() if not listing.error for one in listing.ids]
        found, failed = await self._api.read("contacts", wanted, self._contact_properties)
        pages: dict[str, Page[Row] | SourceError] = {}
        for owner, listing in listings.items():
            own = dict.fromkeys(listing.ids)
            error = listing.error or next((failed[one] for one in own if one in failed), None)
            if error:
                pages[owner] = error
                continue
            rows = [found[one] for one in own if one in found]
            kept = {row.id: row for row in rows if _mentions(row, query.text)}
            pages[owner] = select(kept.values(), _CONTACT_KEYS[query.order], query.direction, query.window)
        return pages

    # -- mapping --------------------------------------------------------------------------------------------------

    def _account(self, row: Row) -> AccountRecord:
        settings, said = self._settings, row.properties.get
        domain = said("domain")
        # In the record's order and without names, here and below: making it so takes a fraction of the time.
        return AccountRecord(
            Ref(SOURCE, row.id),
            said("name") or None,
            said(settings.number_property) or None,
            domain.lower() if domain else None,
            said("website") or None,
            said("phone") or None,
            said("industry") or None,
            _address(row, settings.country_property),
            row.time("createdate") or row.created_at,
            row.time("hs_lastmodifieddate") or row.updated_at,
            row.archived,
            row.merged_ids,
            {source: value for source, name in settings.declared.items() if (value := said(name))},
            _custom(row, self._account_fields),
        )

    def _contact(self, row: Row, accounts: tuple[Ref, ...]) -> ContactRecord:
        said = row.properties.get
        return ContactRecord(
            Ref(SOURCE, row.id),
            accounts,
            said("firstname") or None,
            said("lastname") or None,
            said("email") or None,
            said("phone") or None,
            said("mobilephone") or None,
            said("jobtitle") or None,
            row.time("createdate") or row.created_at,
            row.time("lastmodifieddate") or row.updated_at,
            row.archived,
            _custom(row, self._contact_fields),
        )


def _ids(refs: Sequence[Ref]) -> list[str]:
    """The well-formed ids; anything else names no record."""
    return [ref.id for ref in refs if ref.source == SOURCE and _ID(ref.id)]


def _whole(answer: tuple[dict[str, Row], dict[str, SourceError]]) -> dict[str, Row]:
    """What was found. Raises the first SourceError."""
    found, failed = answer
    if failed:
        raise next(iter(failed.values()))
    return found


def _address(row: Row, country_property: str) -> Address | None:
    said = row.properties.get
    street, second = said("address") or None, said("address2")
    if second:
        street = f"{street}, {second}" if street else second
    city, postcode, region = said("city") or None, said("zip") or None, said("state") or None
    country = said(country_property) or None
    if street or city or postcode or region or country:
        return Address(street, city, postcode, region, country)
    return None


_NO_VALUES: dict[str, Any] = {}


def _custom(row: Row, fields: Sequence[CustomField]) -> dict[str, Any]:
    if not fields:
        return _NO_VALUES
    return {field.property: custom_value(field, row.properties.get(field.property)) for field in fields}


def _members(members: dict[str, tuple[Ref, ...]], row: Row) -> tuple[Ref, ...]:
    """The accounts whose lists name the contact, under its own id or one that was merged into it."""
    found = members.get(row.id, ())
    if merged := row.merged_ids:
        return tuple(dict.fromkeys([*found, *(ref for one in merged for ref in members.get(one, ()))]))
    return found


def _time_key(row: Row, name: str) -> Key:
    """Milliseconds in 19 digits, so that they sort as text as they do as numbers."""
    moment = row.time(name) or row.created_at
    return Key(f"{milliseconds(moment) if moment else 0:019d}", row.id)


def _account_key(order: AccountOrder) -> Callable[[AccountRecord], Key]:
    def key(record: AccountRecord) -> Key:
        if order is AccountOrder.NAME:
            return Key((record.name or "").casefold(), record.ref.id)
        moment = record.created_at if order is AccountOrder.CREATED_AT else record.updated_at
        return Key(f"{milliseconds(moment) if moment else 0:019d}", record.ref.id)

    return key


def _name_key(row: Row) -> Key:
    return Key(f"{row.text('lastname') or ''}\x1f{row.text('firstname') or ''}".casefold(), row.id)


_CONTACT_KEYS = {ContactOrder.ADDED: added_key, ContactOrder.NAME: _name_key}


def _mentions(row: Row, text: str | None) -> bool:
    if not text:
        return True
    name = f"{row.text('firstname') or ''} {row.text('lastname') or ''}"
    return any(text.casefold() in where.casefold() for where in (name, row.text("email") or ""))
