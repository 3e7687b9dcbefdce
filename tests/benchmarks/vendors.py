"""The vendors' calls by hand, for the two contenders that are not the gateway: the very requests that it makes."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

import aiohttp
import msgspec
import orjson
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from yarl import URL

from sources.vendors.hubspot import sandbox as hubspot
from sources.vendors.s3 import sandbox as s3
from sources.vendors.xero import sandbox as xero
from sources.vendors.zendesk import sandbox as zendesk

CONFIG = "BENCHMARK_CONFIG"

ISSUED = "AUTHORISED,PAID,VOIDED"
ALL = f"DRAFT,SUBMITTED,{ISSUED}"

_COMPANY = [
    "name", "domain", "website", "phone", "industry", "address", "address2", "city", "zip", "state",
    "createdate", "hs_lastmodifieddate", "hs_merged_object_ids", "account_number", "country", "xero_contact_id",
]  # fmt: skip
_CONTACT = [
    "firstname", "lastname", "email", "phone", "mobilephone", "jobtitle", "createdate", "lastmodifieddate",
    "hs_merged_object_ids",
]  # fmt: skip


class Link(msgspec.Struct, frozen=True):
    """What an account is called in the other systems."""

    xero: str
    zendesk: str
    s3: str


class Config(msgspec.Struct, frozen=True):
    """Where everything is, and the links that the gateway has in its ledger."""

    urls: dict[str, str]
    links: dict[str, Link]
    """By the account's id in the CRM."""
    organisations: dict[str, str]
    """Organisation -> the id of its account in the CRM."""

    @classmethod
    def read(cls) -> "Config":
        """From the file that the environment names."""
        return msgspec.json.decode(Path(os.environ[CONFIG]).read_bytes(), type=cls)


class Vendors:
    """An async context manager; answers are the vendors' JSON (S3: keys, sizes and moments) without any mapping."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = urls
        self._sign = S3SigV4Auth(
            ReadOnlyCredentials(s3.ACCESS_KEY_ID, s3.SECRET_ACCESS_KEY, None), "s3", s3.REGION
        )
        self._hubspot = {"Authorization": f"Bearer {hubspot.TOKEN}", "Content-Type": "application/json"}
        basic = aiohttp.BasicAuth(f"{zendesk.AGENT}/token", zendesk.API_TOKEN).encode()
        self._zendesk = {"Accept": "application/json", "Authorization": basic}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        async with self._session.post(
            f"{self._urls['xero']}/connect/token",
            auth=aiohttp.BasicAuth(*xero.CUSTOM_CONNECTION),
            data={
                "grant_type": "client_credentials",
                "scope": "accounting.transactions.read accounting.contacts.read",
            },
        ) as answer:
            token = (await answer.json())["access_token"]
        self._xero = {
            "Accept": "application/json",
            "xero-tenant-id": xero.TENANT,
            "Authorization": f"Bearer {token}",
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def companies(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        return await self._batch("companies", ids, _COMPANY)

    async def companies_from(self, moment: str | None, limit: int) -> list[dict[str, Any]]:
        """Oldest first, from this moment (milliseconds) on."""
        filters = [{"propertyName": "createdate", "operator": "GTE", "value": moment}]
        asked = {
            "filterGroups": [{"filters": filters}] if moment else [],
            "sorts": [{"propertyName": "createdate", "direction": "ASCENDING"}],
            "properties": _COMPANY,
            "limit": limit,
            "after": "0",
        }
        return await self._hubspot_results("/crm/v3/objects/companies/search", asked)

    async def contacts_of(self, companies: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """By company, in the order of their ids; two calls."""
        linked = await self._hubspot_results(
            "/crm/v4/associations/companies/contacts/batch/read",
            {"inputs": [{"id": one} for one in companies]},
        )
        ids = {row["from"]["id"]: [str(to["toObjectId"]) for to in row["to"]] for row in linked}
        rows = await self._batch("contacts", [one for some in ids.values() for one in some], _CONTACT)
        by_id = {row["id"]: row for row in rows}
        return {company: [by_id[one] for one in some] for company, some in ids.items()}

    async def invoices_of(self, contacts: Sequence[str], statuses: str, size: int) -> list[dict[str, Any]]:
        """Newest first, those of all contacts mixed."""
        url = (
            f"{self._urls['xero']}/api.xro/2.0/Invoices?ContactIDs={','.join(contacts)}&Statuses={statuses}"
            f"&where=Type%3D%3D%22ACCREC%22&order=Date%20DESC&page=1&pageSize={size}&unitdp=4"
        )
        rows: list[dict[str, Any]] = orjson.loads(await self._get(url, self._xero))["Invoices"]
        return rows

    async def tickets_of(self, organisation: str, size: int) -> list[dict[str, Any]]:
        """Newest first."""
        url = (
            f"{self._urls['zendesk']}/api/v2/search?query=type:ticket%20organization:{organisation}"
            f"&sort_by=created_at&sort_order=desc&per_page={size}&page=1"
        )
        rows: list[dict[str, Any]] = orjson.loads(await self._get(url, self._zendesk))["results"]
        return rows

    async def tickets_of_many(self, organisations: Sequence[str]) -> list[dict[str, Any]]:
        """Newest first, those of all organisations mixed."""
        named = "%20".join(f"organization:{one}" for one in organisations)
        url = (
            f"{self._urls['zendesk']}/api/v2/search/export?query={named}&filter[type]=ticket&page[size]=1000"
        )
        rows: list[dict[str, Any]] = orjson.loads(await self._get(url, self._zendesk))["results"]
        return rows

    async def objects_in(self, folder: str) -> list[tuple[str, int, str]]:
        """Key, size and moment of each object."""
        url = (
            f"{self._urls['s3']}/{s3.BUCKET}/?list-type=2&prefix={quote(folder, safe='')}"
            "&max-keys=1000&encoding-type=url"
        )
        signed = AWSRequest("GET", url, {"Host": URL(url).authority}, b"")
        self._sign.add_auth(signed)
        root = ElementTree.fromstring(await self._get(url, dict(signed.headers.items())))
        found = []
        for element in root:
            if element.tag.endswith("Contents"):
                fields = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
                found.append((unquote_plus(fields["Key"]), int(fields["Size"]), fields["LastModified"]))
        return found

    async def _batch(self, kind: str, ids: Sequence[str], properties: list[str]) -> list[dict[str, Any]]:
        inputs = [{"id": one} for one in ids]
        asked = {"inputs": inputs, "properties": properties, "propertiesWithHistory": []}
        return await self._hubspot_results(f"/crm/v3/objects/{kind}/batch/read", asked)

    async def _hubspot_results(self, path: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        async with self._session.post(
            self._urls["hubspot"] + path, data=orjson.dumps(asked), headers=self._hubspot
        ) as answer:
            rows: list[dict[str, Any]] = orjson.loads(await answer.read())["results"]
            return rows

    async def _get(self, url: str, headers: dict[str, str]) -> bytes:
        async with self._session.get(URL(url, encoded=True), headers=headers) as answer:
            return await answer.read()


async def in_two(call: Any, ids: Sequence[str], *more: Any) -> list[dict[str, Any]]:
    """A call for each half: fifty ids are more than Xero and Zendesk take at once."""
    half = (len(ids) + 1) // 2
    first, second = await asyncio.gather(call(ids[:half], *more), call(ids[half:], *more))
    return [*first, *second]
