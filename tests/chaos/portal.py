"""A gateway whose way to every back office can be troubled, and the people of several customers who look at their pages."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import trustme

from gateway.demo import personas_of, settings_for
from gateway.demo_issuer import DemoPersona
from gateway.matching import match_all
from gateway.settings import Settings, Source
from resolvers.vocabulary import node_id
from sources.layers.cache.lifetimes import Lifetimes
from sources.layers.mirror import MirrorSettings
from sources.ports.common import Ref
from sources.ports.members import OrganisationRecord
from sources.registry import REGISTRY, Kind, Row
from sources.sandbox.world import World
from tests.chaos.road import Road
from tests.conftest import fresh_database
from tests.door import Door, open_door

DEADLINE = 1.2
"""Seconds that a request has. A second of silence is the least that counts against a source."""

CUSTOMERS = 6

HOME = """query Home($id: ID!) {
  account(id: $id) {
    name number tier
    contacts(first: 5) { nodes { email } }
    invoices(first: 5) { nodes { number total { amount currency } } pageInfo { hasNextPage } }
    balances { outstanding { amount currency } }
    tickets(first: 2) { nodes { number subject%s } }
    openTicketCount
    documents(first: 5) { nodes { title } }
  }
  searchArticles(text: "invoice", first: 3) { nodes { title } }
  viewer { name organisation { id } }
}"""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "hubspot": ("account", "account.contacts"),
    "xero": ("account.balances", "account.invoices"),
    "zendesk": ("account.openTicketCount", "account.tickets", "searchArticles"),
    "s3": ("account.documents",),
    "freshdesk": ("account.tickets.nodes.*.comments", "searchArticles"),
}
"""What of the home page each source feeds as it is asked; all else of Freshdesk's is its mirror's."""


class Customer(msgspec.Struct, frozen=True):
    """Somebody who looks at the home page of their own organisation."""

    persona: str
    account: str
    """Its node's id."""


class Portal(msgspec.Struct, frozen=True):
    """A running gateway, and what leads from it."""

    door: Door
    roads: Mapping[str, Road]
    """By vendor."""
    customers: tuple[Customer, ...]
    home: str

    @property
    def mirrored(self) -> list[str]:
        """The vendors that are shown from copies."""
        return [mirror.source for mirror in self.door.office.mirrors]

    def calls_made(self, vendor: str) -> int:
        """As the gateway counts them: a connection that is refused leaves no trace on the road."""
        return sum(
            sum(endpoint.calls.seconds.counts)
            for state in self.door.office.network.states().get(vendor, ())
            for endpoint in state.endpoints
        )


@asynccontextmanager
async def open_portal(
    postgres: str, helpdesk: str = "zendesk", cache: Lifetimes | None = None
) -> AsyncIterator[Portal]:
    """With this helpdesk. Without ``cache`` everything is read anew."""
    world = World.build(0.1)
    vendors = {row.vendor: row for row in REGISTRY if row.kind is not Kind.HELPDESK or row.vendor == helpdesk}
    chosen = _customers(world)
    personas = [
        DemoPersona(
            f"owner-{index}", f"Owner {index}", f"owner@{index}.example", "owner", f"organisation-{index}", ""
        )
        for index in chosen
    ]
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="chaos-"))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{folder}/authority.pem")
        roads = {vendor: Road(*_certificates(authority)) for vendor in vendors}

        def settings(urls: Mapping[str, str]) -> Settings:
            for vendor, road in roads.items():
                road.leads_to = urls[vendor]
            made = settings_for(
                {**urls, **{vendor: road.url for vendor, road in roads.items()}}, deadline=DEADLINE
            )
            return msgspec.structs.replace(
                made,
                sources={
                    row.kind: _source(row, roads[row.vendor].url, folder, made) for row in vendors.values()
                },
            )

        for road in roads.values():
            await road.open()
            stack.push_async_callback(road.close)
        database = await stack.enter_async_context(fresh_database(postgres))
        door = await stack.enter_async_context(
            open_door(
                world,
                database,
                settings=settings,
                personas=[*personas_of(world), *personas],
                matched=False,
                breakers=True,
                cache=cache,
            )
        )
        for mirror in door.office.mirrors:
            while any(lag.age is None for lag in await mirror.lag()):
                await asyncio.sleep(0.05)
        await match_all(door.office.backoffice)
        for persona, index in zip(personas, chosen, strict=True):
            account = world.accounts[index]
            assert persona.organisation is not None
            await door.office.ledger.organisations.save(
                OrganisationRecord(
                    persona.organisation, account.crm_name, (Ref("hubspot", account.hubspot_id),)
                )
            )
        yield Portal(
            door,
            roads,
            tuple(
                Customer(persona.id, node_id("Account", Ref("hubspot", world.accounts[index].hubspot_id)))
                for persona, index in zip(personas, chosen, strict=True)
            ),
            HOME % (" comments(first: 5) { nodes { body } }" if helpdesk == "freshdesk" else ""),
        )


def _customers(world: World) -> list[int]:
    """Those with something of every source, whose links are plain and who are nobody's in the demo."""
    found = [
        account.index
        for account in world.accounts
        if account.index >= 8
        and account.xero_contact_id is not None
        and account.zendesk_org_id is not None
        and all(
            len(of_account.get(account.index, ())) > 1
            for of_account in (
                world.contacts_by_account,
                world.invoices_by_account,
                world.tickets_by_account,
                world.documents_by_account,
            )
        )
    ]
    return found[:CUSTOMERS]


def _source(row: Row, url: str, folder: str, made: Settings) -> Source:
    settings = row.sandbox.settings_for(url)
    changes: dict[str, Any] = {
        "ca_file": f"{folder}/authority.pem",
        # Limits that are there, so that a refusal rests them, and far away.
        "limits": {limit.name: 1_000_000 for limit in row.limits if limit.calls is not None},
    }
    if hasattr(settings, "mirror"):
        changes |= {"mirror": MirrorSettings(every=1.0, lists_every=1.0), "parallel": 16}
    return Source(row, msgspec.structs.replace(settings, **changes), made.sources[row.kind].matching)


def _certificates(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A good one and one that has expired."""
    now = datetime.now(UTC)
    contexts = []
    for until in (now + timedelta(days=30), now - timedelta(days=1)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued = authority.issue_cert("127.0.0.1", not_before=now - timedelta(days=90), not_after=until)
        issued.configure_cert(context)
        contexts.append(context)
    good, expired = contexts
    return good, expired
