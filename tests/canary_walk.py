"""A gateway with two organisations of canaries, everyone who may ask it, and a walk that looks at all that they are told."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

from graphql import OperationDefinitionNode, SelectionSetNode, parse, print_ast, strip_ignored_characters

from gateway.demo import ORGANISATIONS
from gateway.execution.engine import KEPT_LENGTH
from resolvers.vocabulary import node_id
from sources.ports.common import Ref
from sources.ports.members import Granting, MemberRecord, OrganisationRecord
from sources.sandbox.world import World
from tests import walk
from tests.browser import PUBLIC, Browser
from tests.canaries import OPENS, OWN, Ids, Mark, Seen, canary, marked_world, personas, seen
from tests.door import Answer, Door, open_door

AT_ONCE = 12
"""Requests that are under way together."""

PART_LENGTH = KEPT_LENGTH * 3 // 4
"""Of the fields of one document."""

SERVICE_SCOPES = (
    "accounts:read", "articles:read", "contacts:read", "documents:read", "invoices:read", "members:read", "tickets:read",
)  # fmt: skip

CREATE_ACCOUNT = """mutation($input: CreateServiceAccountInput!) { createServiceAccount(input: $input) {
  serviceAccount { id } userErrors { message } } }"""
CREATE_KEY = """mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) {
  apiKey { id } secret userErrors { message } } }"""
INVITE = """mutation($input: InviteMemberInput!) { inviteMember(input: $input) {
  invitation { id } userErrors { message } } }"""
START = """mutation($input: StartViewingInput!) { startViewing(input: $input) {
  viewing { id } userErrors { message } } }"""
MEMBERS = "{ viewer { member { id } organisation { members(first: 50) { nodes { id } } } } }"


@dataclass(frozen=True)
class Caller:
    """Somebody who asks: whose records may be in an answer to them, and of which kinds."""

    name: str
    owner: str
    """The organisation acted for; ``firm``: of the firm, for all; ``nobody``."""
    scopes: frozenset[str]
    headers: Mapping[str, str] = field(repr=False)
    also: frozenset[Mark] = frozenset()
    """What else they may be told of."""

    @property
    def opened(self) -> frozenset[str]:
        """The kinds that their scopes open."""
        return frozenset().union(*(OPENS.get(scope, frozenset()) for scope in self.scopes))

    def foreign(self, told: Seen) -> Iterable[str]:
        """What they must not be told."""
        for mark in told.marks:
            whose = mark.owner == self.owner or self.owner == "firm"
            if mark not in self.also and not (whose and mark.kind in self.opened | OWN):
                yield f"canary-{mark.kind}-{mark.owner}"
        # What the firm's people and programs did of an organisation, its owners read.
        known = {self.owner, *self._others(), *(["firm"] if "audit:read" in self.scopes else [])}
        if self.owner != "firm":
            yield from (f"the id {one} of {owner}" for owner, one in told.ids if owner not in known)

    def _others(self) -> Set[str]:
        return {mark.owner for mark in self.also if mark.kind == "organisation"}


class Asked(NamedTuple):
    """One request that the walk makes."""

    caller: Caller
    query: str
    variables: Mapping[str, Any]


class Company:
    """A running gateway with all that is in its books, and who asks."""

    def __init__(self, door: Door) -> None:
        self.door, self.ids = door, Ids(door.world)
        self.callers: dict[str, Caller] = {}
        self.members: dict[str, str] = {}
        """By persona."""
        self.books: dict[str, dict[str, str]] = defaultdict(dict)
        """Ids of records of the ledger by organisation and type."""
        self.provisioning: dict[str, str] = {}
        """The keys of the organisations' directories."""

    def of(self, *names: str) -> list[Caller]:
        """These callers."""
        return [self.callers[name] for name in names]

    def caller(
        self, name: str, owner: str, scopes: Iterable[str], headers: Mapping[str, str], *also: Mark
    ) -> Caller:
        """Made known."""
        made = self.callers[name] = Caller(name, owner, frozenset(scopes), headers, frozenset(also))
        return made

    def bearing(self, persona: str, **more: str) -> dict[str, str]:
        """The headers of a persona's request."""
        return {"Authorization": f"Bearer {self.door.issuer.token(persona)}", **more}

    async def ask(
        self, headers: Mapping[str, str], query: str, variables: Mapping[str, Any] | None = None
    ) -> Answer:
        """POST /graphql."""
        return await self.door.ask(None, query, variables, headers=headers)

    async def change(self, headers: Mapping[str, str], mutation: str, **given: Any) -> dict[str, Any]:
        """The payload of a mutation that takes place."""
        answer = await self.ask(headers, mutation, {"input": {"idempotencyKey": uuid4().hex, **given}})
        assert not answer.errors, answer.errors
        (payload,) = answer.data.values()
        assert payload["userErrors"] == []
        return payload  # type: ignore[no-any-return]

    def note(self, owner: str, kind: str, id_: str) -> str:
        """That a record of the ledger is this organisation's."""
        self.ids.add(owner, id_)
        self.books[owner][kind] = id_
        return id_


@asynccontextmanager
async def open_company(database_url: str, scale: float = 0.05, **door: Any) -> AsyncIterator[Company]:
    """With canaries in every system and in every book of the ledger."""
    settings = {"membership": "ledger", "public_url": PUBLIC, "deadline": 30.0, **door}
    async with open_door(marked_world(scale), database_url, personas=personas(), **settings) as opened:
        company = Company(opened)
        await _fill(company)
        yield company


async def _fill(company: Company) -> None:
    door, roles = company.door, company.door.office.roles
    ledger, issuer = door.office.ledger, door.issuer
    for index, organisation in enumerate(ORGANISATIONS):
        account = Ref("hubspot", door.world.accounts[index].hubspot_id)
        await ledger.organisations.save(
            OrganisationRecord(organisation, canary("organisation", organisation), (account,))
        )
        mark, now = canary("member", organisation), datetime.now(UTC)
        both = MemberRecord(
            str(uuid4()), organisation, ("partner",), now, issuer.url, "partner", mark, f"partner@{mark}.example", joined_at=now
        )  # fmt: skip
        await ledger.members.add(
            both, Granting(by="test", owner="owner", roles=frozenset(roles.of_customers))
        )
    for persona in issuer.personas:
        if persona.organisation is not None:
            company.ids.add(persona.organisation, persona.id, f"{issuer.url}|{persona.id}")
            # Leavers are given another role before they go.
            held = ["standard", "read-only"] if persona.id.startswith("leaver") else [persona.role]
            company.caller(
                persona.id, persona.organisation, roles.scopes_of(held), company.bearing(persona.id)
            )
    others = [Mark("organisation", one) for one in ORGANISATIONS]
    for organisation in ORGANISATIONS:
        headers = company.bearing("partner", **{"X-Organisation": organisation})
        partners = roles.scopes_of(["partner"])
        company.caller(
            f"partner for {organisation}", organisation, partners, headers, Mark("member", "both"), *others
        )
        await _books(company, organisation)
    await _staff(company)
    company.caller("newcomer", "nobody", (), company.bearing("newcomer"))
    company.caller("nobody", "nobody", (), {})


async def _books(company: Company, organisation: str) -> None:
    """What an owner, a directory and a browser leave in the ledger."""
    door = company.door
    owner = company.bearing(f"owner-{organisation}")
    for persona in ("owner", "finance", "standard", "read-only", "partner", "leaver"):
        asked = await company.ask(
            company.bearing(f"{persona}-{organisation}"), "{ viewer { member { id } } }"
        )
        id_ = asked.data["viewer"]["member"]["id"]
        company.members[f"{persona}-{organisation}"] = company.note(organisation, "member", id_)
    mark = canary("invitation", organisation)
    made = await company.change(owner, INVITE, email=f"guest@{mark}.example", roles=["standard"])
    company.note(organisation, "invitation", made["invitation"]["id"])
    keys = {}
    for use, scopes in (("graph", SERVICE_SCOPES), ("directory", ("members:provision",))):
        name = f"{canary('service', organisation)} {use}"
        made = await company.change(owner, CREATE_ACCOUNT, name=name, scopes=list(scopes))
        account = company.note(organisation, "service account", made["serviceAccount"]["id"])
        name = f"{canary('key', organisation)} {use}"
        made = await company.change(owner, CREATE_KEY, serviceAccountId=account, name=name)
        company.note(organisation, "key", made["apiKey"]["id"])
        keys[use] = {"Authorization": f"Bearer {made['secret']}"}
    company.caller(f"service of {organisation}", organisation, SERVICE_SCOPES, keys["graph"])
    directory = company.caller(
        f"directory of {organisation}", organisation, ("members:provision",), keys["directory"]
    )
    mark = canary("directory", organisation)
    user = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": f"{mark}@{mark}.example",
        "displayName": f"{mark} person",
        "name": {"givenName": mark, "familyName": mark},
        "emails": [{"value": f"{mark}@{mark}.example", "primary": True}],
        "externalId": f"{mark}-external",
    }
    id_ = company.note(organisation, "directory user", await _provisioned(company, directory, "Users", user))
    group = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
        "displayName": mark,
        "members": [{"value": id_}],
    }
    company.note(organisation, "directory group", await _provisioned(company, directory, "Groups", group))
    browser = Browser(door.url, door.session)
    role = {"harbour": "owner", "moeller": "finance"}[organisation]
    await browser.sign_in(f"{role}-{organisation}")
    cookie = "; ".join(f"{name}={value}" for name, value in browser.own.items())
    headers = {"Cookie": cookie, "Origin": PUBLIC, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    company.caller(f"browser of {organisation}", organisation, door.office.roles.scopes_of([role]), headers)


async def _provisioned(company: Company, directory: Caller, kind: str, body: Mapping[str, Any]) -> str:
    async with company.door.session.post(
        f"{company.door.url}/scim/v2/{kind}", json=body, headers=directory.headers
    ) as answer:
        made = await answer.json(content_type=None)
        assert answer.status == 201, made
        return made["id"]  # type: ignore[no-any-return]


async def _staff(company: Company) -> None:
    roles, firm = company.door.office.roles, Mark("member", "firm")
    for role in ("support", "finance-staff", "admin"):
        scopes = roles.scopes_of([role])
        company.caller(role, "firm", scopes, company.bearing(role))
        for organisation in ORGANISATIONS:
            headers = company.bearing(role, **{"X-Organisation": organisation})
            company.caller(f"{role} for {organisation}", organisation, scopes, headers, firm)
    made = await company.change(
        company.bearing("admin"),
        CREATE_ACCOUNT,
        name=canary("service", "firm"),
        scopes=["accounts:all", "accounts:read"],
    )
    account = company.note("firm", "service account", made["serviceAccount"]["id"])
    made = await company.change(
        company.bearing("admin"), CREATE_KEY, serviceAccountId=account, name=canary("key", "firm")
    )
    company.note("firm", "key", made["apiKey"]["id"])
    headers = {"Authorization": f"Bearer {made['secret']}"}
    company.caller("service of the firm", "firm", {"accounts:all", "accounts:read"}, headers)
    for organisation, role in zip(ORGANISATIONS, ("owner", "standard"), strict=True):
        made = await company.change(
            company.bearing("support"),
            START,
            memberId=company.members[f"{role}-{organisation}"],
            reason=canary("viewing", organisation),
        )
        id_ = company.note(organisation, "viewing", made["viewing"]["id"])
        headers = company.bearing("support", **{"X-View-As": id_})
        # While viewing nothing is held that a member of staff does not hold, and nothing of keys and the audit trail.
        held = roles.scopes_of([role]) & roles.scopes_of(["support"]) - {"audit:read", "keys:read"}
        company.caller(f"support as {role}-{organisation}", organisation, held, headers, firm)


# -- the walk ----------------------------------------------------------------------------------------------------


class Walk:
    """Asks, and looks at what is answered. ``findings``: what somebody was told that they must not be."""

    def __init__(self, company: Company, seed: int = 20260401) -> None:
        self.company, self.random = company, Random(seed)
        self.findings: list[str] = []
        self.told: dict[str, set[Mark]] = defaultdict(set)
        """By caller."""
        self.reached: set[str] = set()
        """Coordinates of which somebody was told a value."""
        self.codes: set[str] = set()
        self.links: dict[str, set[str]] = defaultdict(set)
        """Files, by caller."""

    @property
    def leaks(self) -> set[str]:
        """The findings without the queries that led to them."""
        return {finding.partition(" in ")[0] for finding in self.findings}

    def queries(self, callers: Sequence[Caller], first: int = 2) -> list[Asked]:
        """Every root field with all below it for each caller: by ids of their own, and of the other organisation's."""
        schema = self.company.door.office.schema.graphql
        queries = [
            (type_, part) for type_, query in walk.walks(schema, "invoice", first) for part in parts(query)
        ]
        asked = []
        for caller in callers:
            own = (
                ORGANISATIONS.index(caller.owner)
                if caller.owner in ORGANISATIONS
                else self.random.randrange(2)
            )
            mine, theirs = (rich_ids(self.company.door.world, index) for index in (own, 1 - own))
            for type_, query in queries:
                if "$ids" in query:
                    both = {"ids": [mine.get(type_), theirs.get(type_)]}
                    asked.append(self.asked(caller, query, both))
                    continue
                for ids in (mine, theirs) if "$id" in query else (mine,):
                    asked.append(self.asked(caller, query, {"id": ids.get(type_)}))
        return asked

    def lists(self, callers: Sequence[Caller]) -> list[Asked]:
        """What the first few of a list do not show: all of the ledger's books, drafts, and who said what on tickets."""
        schema = self.company.door.office.schema.graphql
        pages = walk.connections(schema, "Organisation")
        books = " ".join(f"{name}(first: 50) {{ nodes {nodes} }}" for name, nodes in pages.items())
        queries = (
            f"query Walk {{ viewer {{ organisation {{ {books} }} }} }}",
            f"query Walk {{ auditLog(first: 100) {{ nodes {selection(schema, 'AuditEntry')} }} }}",
            "query Walk($support: String!) { auditLog(first: 20, filter: {principal: $support}) { nodes "
            f"{selection(schema, 'AuditEntry')} }} }}",
            "query Walk { accounts(first: 2) { nodes { invoices(first: 50) { nodes { number } } } } }",
            "query Walk { accounts(first: 2) { nodes { tickets(first: 8) { nodes { comments { nodes { body authorName } } } } } } }",
        )
        support = {"support": f"{self.company.door.issuer.url}|support"}
        return [
            self.asked(caller, query, support if "$support" in query else {})
            for caller in callers
            for query in queries
        ]

    def asked(self, caller: Caller, query: str, variables: Mapping[str, Any]) -> Asked:
        """Some documents come once and run on graphql-core; the others are the same for all, and planned when they come again. What a
        document is called stands in the organisation's audit trail."""
        if self.random.random() < 0.1:
            name = (
                canary("audit", caller.owner).replace("-", "_") if caller.owner in ORGANISATIONS else "staff"
            )
            query = query.replace("query Walk", f"query {name}_{self.random.getrandbits(64)}", 1)
        return Asked(caller, query, variables)

    async def ask(self, asked: Sequence[Asked]) -> None:
        """All of them, in an order of chance, several at a time."""
        order = list(asked)
        self.random.shuffle(order)
        waiting = iter(order)

        async def some() -> None:
            for one in waiting:
                answer = await self.company.ask(one.caller.headers, one.query, one.variables)
                self.look(one.caller, f"{one.query[:60]} {dict(one.variables)}", answer)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    def look(self, caller: Caller, what: str, *answers: Answer) -> None:
        """At everything: data, errors and headers."""
        root = {"mutation": "Mutation", "subscription": "Subscription"}.get(
            what.split("(")[0].split()[0], "Query"
        )
        for answer in answers:
            self.look_at(
                caller,
                what,
                answer.body,
                {k: v for k, v in answer.headers.items() if k.lower() != "content-length"},
            )
            if isinstance(answer.body, Mapping):
                data = answer.body.get("data")
                self._reach(caller, {"__typename": root, **data} if data else None)
                for error in answer.body.get("errors") or ():
                    self.codes.add(error["extensions"]["code"])

    def look_at(self, caller: Caller, what: str, *things: Any) -> None:
        """At what is no answer of the graph, too."""
        told = seen(things, self.company.ids)
        self.told[caller.name] |= told.marks
        self.findings += [f"{caller.name}: {leak} in {what}" for leak in caller.foreign(told)]

    def _reach(self, caller: Caller, value: Any) -> None:
        if isinstance(value, Mapping):
            type_ = value.get("__typename")
            if type_ == "FileLink":
                self.links[caller.name].add(value["url"])
            for name, below in value.items():
                told = below is not None and (below != [] or name == "userErrors")
                if told and type_ is not None:
                    self.reached.add(f"{type_}.{name}")
                self._reach(caller, below)
        elif isinstance(value, list):
            for one in value:
                self._reach(caller, one)


def parts(query: str) -> list[str]:
    """The same as several documents, none of them too long to be planned."""
    if len(query) <= KEPT_LENGTH:
        return [query]
    (operation,) = parse(query, no_location=True).definitions
    assert isinstance(operation, OperationDefinitionNode)
    split = [_with_selections(operation, one) for one in _split(operation.selection_set.selections)]
    return [strip_ignored_characters(print_ast(one)) for one in split]


def _split(selections: Sequence[Any]) -> list[list[Any]]:
    """Long fields apart from each other, and from within where they are too long alone."""
    named = [one for one in selections if one.name.value == "__typename"]
    fitting: list[list[Any]] = [[]]
    for one in selections:
        if _length(one) > PART_LENGTH:
            fitting = [
                [*named, _with_selections(one, below)] for below in _split(one.selection_set.selections)
            ] + fitting
        elif sum(map(_length, fitting[-1])) + _length(one) > PART_LENGTH:
            fitting.append([*named, one])
        else:
            fitting[-1].append(one)
    return [group for group in fitting if group and group != named]


def _length(node: Any) -> int:
    return len(strip_ignored_characters(print_ast(node)))


def _with_selections(node: Any, selections: Sequence[Any]) -> Any:
    return replace(node, selection_set=SelectionSetNode(selections=tuple(selections)))


def selection(schema: Any, type_name: str) -> str:
    """All fields of a type."""
    return walk.selection(schema, schema.type_map[type_name], 2)


def rich_ids(world: World, account: int) -> dict[str, str]:
    """One node id of each type, of the record that has the most to show."""
    invoices = [one for one in world.invoices_by_account[account] if one.status in ("AUTHORISED", "PAID")]
    invoice = max(invoices, key=lambda one: (bool(one.payments) + bool(one.credit_notes), len(one.lines)))
    ticket = max(
        world.tickets_by_account[account],
        key=lambda one: (any(c.public and c.attachments for c in one.comments[:3]), bool(one.priority) + bool(one.type), len(one.tags)),
    )  # fmt: skip
    document = max(world.documents_by_account[account], key=lambda one: (len(one.versions), len(one.tags)))
    person = max(
        (one for one in world.contacts_by_account[account] if not one.archived),
        key=lambda one: sum(map(bool, (one.phone, one.mobile, one.job_title))),
    )
    return {
        "Account": node_id("Account", Ref("hubspot", world.accounts[account].hubspot_id)),
        "Contact": node_id("Contact", Ref("hubspot", person.hubspot_id)),
        "Document": node_id("Document", Ref("s3", document.key)),
        "Invoice": node_id("Invoice", Ref("xero", invoice.id)),
        "Ticket": node_id("Ticket", Ref("zendesk", str(ticket.id))),
    }
