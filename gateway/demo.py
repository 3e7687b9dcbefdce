"""The same gateway over sandboxes of the vendors, an embedded PostgreSQL and an issuer with personas."""

import asyncio
import base64
import multiprocessing
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import aiohttp
import msgspec
from rich.console import Console
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.app import create_app
from gateway.demo_issuer import AUDIENCE, CLIENT_ID, DemoIssuer, DemoPersona
from gateway.graphiql import GraphiQLConfig, Persona, SampleQuery
from gateway.matching import match_all
from gateway.server import Server
from gateway.settings import (
    Database,
    Door,
    Invitations,
    Mail,
    Settings,
    Source,
    Telemetry,
    TokenKeySettings,
    TokenSettings,
)
from gateway.signin.session_settings import SessionSettings
from gateway.signin.settings import IssuerSettings, SignInSettings
from gateway.telemetry import configure
from permissions.roles import Roles
from resolvers.vocabulary import node_id
from sources.layers.matching import MatchingRules
from sources.ledger.book import Ledger
from sources.ledger.embedded import EmbeddedPostgres
from sources.ledger.token_cipher import KEY_BYTES
from sources.ports.common import PAGE_CAP, Criterion, CustomField, Ref, Scalar, Window
from sources.ports.members import BookQuery, Granting, MemberRecord, OrganisationRecord
from sources.registry import REGISTRY, Kind, Row
from sources.sandbox.letters import LetterBox, letter_box
from sources.sandbox.server import Sandbox, serve
from sources.sandbox.world import World
from sources.transport.limits import SourceSettings
from sources.transport.smtp import Encryption

OWN_FIELDS = (
    CustomField(
        type="Account",
        name="renewalDate",
        property="renewal_date",
        scalar=Scalar.DATE,
        description="When the customer's contract is up for renewal.",
        scope="accounts:read",
    ),
    CustomField(
        type="Account",
        name="tier",
        property="customer_tier",
        scalar=Scalar.ENUM,
        description="The service level that the customer has bought.",
        values=(("gold", "GOLD"), ("silver", "SILVER"), ("bronze", "BRONZE")),
    ),
)
"""The two fields that the demo's firm declares of its own."""


class Backoffices(msgspec.Struct, frozen=True):
    """Where the sandboxes and the issuer listen, by vendor and as ``issuer``."""

    urls: Mapping[str, str]
    accounts: tuple[tuple[str, str], ...]
    """HubSpot id and name of the two customers."""
    personas: tuple[DemoPersona, ...]


def personas_of(world: World) -> list[DemoPersona]:
    """Four roles at two customers, somebody without any, and two of the firm's own people."""
    people = []
    for account, organisation in zip(world.accounts[:2], ORGANISATIONS, strict=True):
        for role in ("owner", "finance", "standard", "read-only"):
            people.append(
                DemoPersona(
                    id=f"{role}-{organisation}",
                    name=f"{role.capitalize()} of {account.crm_name}",
                    email=f"{role}@{account.domain}",
                    role=role,
                    organisation=organisation,
                    label=f"{role.capitalize()} at {account.crm_name}",
                )
            )
    people.append(
        DemoPersona(
            id="newcomer",
            name="Nina Newcomer",
            email=f"nina@{world.accounts[0].domain}",
            role=NEWCOMER,
            organisation=None,
            label="Nina Newcomer (a member of nothing)",
        )
    )
    people.append(
        DemoPersona(
            "support", "Sam Support", "support@firm.example", "support", None, "Support agent (staff)"
        )
    )
    people.append(
        DemoPersona("admin", "Ada Admin", "admin@firm.example", "admin", None, "Administrator (staff)")
    )
    return people


ORGANISATIONS = ("harbour", "moeller")
"""The ids of the two customers' organisations."""

NEWCOMER = "newcomer"
"""No role: somebody whom the issuer knows and nobody has invited yet."""

DESCRIPTIONS = {
    "owner": "Sees everything of this customer.",
    "finance": "Sees invoices and documents, no tickets.",
    "standard": "Sees tickets and documents, no invoices.",
    "read-only": "Sees everything of this customer and changes nothing.",
    NEWCOMER: "Sees nothing until an owner's invitation is accepted.",
    "support": "Sees all customers, and internal notes on tickets.",
    "admin": "Sees everything.",
}
"""By role, for the page."""


class Sandboxes(msgspec.Struct, frozen=True):
    """The running sandboxes by vendor, where they and the issuer listen, and the mail server: ``letters`` is its page and
    ``smtp`` its host and port."""

    running: dict[str, Sandbox]
    urls: dict[str, str]
    letters: LetterBox


@asynccontextmanager
async def sandboxes(world: World, issuer: DemoIssuer, quotas: bool) -> AsyncIterator[Sandboxes]:
    """All of them on free ports of loopback. Without ``quotas`` the vendors' calls per minute and day are lifted; what
    they allow at once stays."""
    async with AsyncExitStack() as stack:
        made = {row.vendor: row.sandbox.sandbox(world) for row in REGISTRY}
        made["issuer"] = Sandbox("issuer", [*issuer.app.routes])
        urls = {}
        for name, sandbox in made.items():
            if not quotas:
                for limit in sandbox.limits.limits():
                    sandbox.limits.set(limit.name, concurrent=limit.concurrent)
            urls[name] = (await stack.enter_async_context(serve(sandbox))).url
        issuer.url = urls["issuer"]
        letters = await stack.enter_async_context(letter_box())
        urls |= {"letters": letters.url, "smtp": f"{letters.host}:{letters.port}"}
        yield Sandboxes(made, urls, letters)


def settings_for(
    urls: Mapping[str, str],
    *,
    quotas: bool = False,
    membership: Literal["claims", "ledger"] = "claims",
    sessions: SessionSettings | None = None,
    signin: SignInSettings | None = None,
    tokens: TokenSettings | None = None,
    **door: Any,
) -> Settings:
    """The gateway's settings over running sandboxes, which limit calls per time where they have ``quotas``. Where it has a
    public_url, people may sign in with a browser."""
    host, _, port = urls["smtp"].partition(":")
    by_number = MatchingRules(criteria=(Criterion.NUMBER,))
    return Settings(
        door=Door(**door),
        database=Database(),
        signin=signin
        or SignInSettings(
            membership=membership,
            issuers=(
                IssuerSettings(
                    issuer=urls["issuer"],
                    audience=AUDIENCE,
                    believed_for=("customers", "staff"),
                    client_id=CLIENT_ID,
                ),
            ),
            sessions=sessions or (SessionSettings() if door.get("public_url") else None),
        ),
        sources={
            row.kind: Source(
                row,
                source_settings(row, urls[row.vendor], quotas),
                by_number if row.kind is Kind.DOCUMENTS else MatchingRules(),
            )
            for row in REGISTRY
        },
        own_fields=OWN_FIELDS,
        tokens=tokens or TokenSettings(),
        mail=Mail(
            host=host,
            port=int(port),
            sender="portal@firm.example",
            sender_name="The Firm",
            encryption=Encryption.NONE,
        ),
        invitations=Invitations(
            accept_url=f"{door.get('public_url', 'http://portal.example')}/graphiql/#{{secret}}"
        ),
    )


def token_keys(folder: Path) -> TokenSettings:
    """Made at the first start and kept beside the database, whose tokens would be lost with it."""
    kept = folder / "token.key"
    if not kept.exists():
        kept.touch(mode=0o600)
        kept.write_text(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    return TokenSettings(keys=(TokenKeySettings("demo", kept.read_text()),))


def source_settings(row: Row, url: str, quotas: bool) -> SourceSettings:
    """Over a running sandbox."""
    settings: SourceSettings = row.sandbox.settings_for(url)
    lifted = () if quotas else [limit.name for limit in row.limits if limit.calls is not None]
    return msgspec.structs.replace(settings, limits=dict.fromkeys(lifted, "unlimited"))


async def save_organisations(ledger: Ledger, accounts: tuple[tuple[str, str], ...]) -> None:
    """The two customers of the demo as organisations."""
    for id, (hubspot_id, name) in zip(ORGANISATIONS, accounts, strict=True):
        await ledger.organisations.save(OrganisationRecord(id, name, (Ref("hubspot", hubspot_id),)))


async def save_members(ledger: Ledger, issuer: str, personas: Sequence[DemoPersona]) -> None:
    """The customers' people among the personas. Whoever an earlier start of the demo knew is removed: its issuer is gone."""
    roles = Roles()
    granting = Granting(by="demo", owner=roles.owner, roles=frozenset(roles.of_customers))
    for organisation in ORGANISATIONS:
        page = await ledger.members.members_of(BookQuery(organisation, Window(first=PAGE_CAP)))
        known = {member.subject for member in page.rows if member.issuer == issuer}
        for persona in personas:
            if persona.organisation == organisation and persona.id not in known:
                await ledger.members.add(_member(persona, organisation, issuer), granting)
        for member in page.rows:
            if member.issuer != issuer:
                await ledger.members.remove(organisation, member.id, granting)


def _member(persona: DemoPersona, organisation: str, issuer: str) -> MemberRecord:
    now = datetime.now(UTC)
    return MemberRecord(
        id=str(uuid4()),
        organisation=organisation,
        roles=(persona.role,),
        created_at=now,
        issuer=issuer,
        subject=persona.id,
        name=persona.name,
        email=persona.email,
        joined_at=now,
    )


def run(port: int, scale: float, folder: Path, quotas: bool, telemetry: Telemetry) -> None:
    """Starts everything and serves until interrupted."""
    console = Console(stderr=True, highlight=False)
    configure()
    # uvicorn gives a signal back when it has stopped: by default this one would end us before the database is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run_sandboxes, args=(theirs, scale, quotas), daemon=True)
    child.start()
    postgres = EmbeddedPostgres()
    try:
        with console.status("Starting the embedded PostgreSQL ..."):
            database_url = postgres.start(folder / "postgres")
        with console.status(f"Seeding the sandboxes of HubSpot, Xero, Zendesk and S3 (scale {scale:g}) ..."):
            backoffices = _received(ours, child)
        asyncio.run(_serve(port, backoffices, database_url, folder, console, quotas, telemetry))
    except KeyboardInterrupt:
        pass
    finally:
        child.terminate()
        child.join(5)
        postgres.stop()


async def _serve(
    port: int,
    backoffices: Backoffices,
    database_url: str,
    folder: Path,
    console: Console,
    quotas: bool,
    telemetry: Telemetry,
) -> None:
    url = f"http://127.0.0.1:{port}"
    settings = settings_for(
        backoffices.urls, quotas=quotas, membership="ledger", tokens=token_keys(folder), public_url=url
    )
    settings = msgspec.structs.replace(settings, telemetry=telemetry)
    issuer = backoffices.urls["issuer"]

    async def token(request: Request) -> Response:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{issuer}/token", data=await request.body()) as answer,
        ):
            return Response(await answer.read(), answer.status, media_type="application/json")

    account = node_id("Account", Ref("hubspot", backoffices.accounts[0][0]))
    personas = tuple(Persona(one.id, one.label, DESCRIPTIONS[one.role]) for one in backoffices.personas)
    page = GraphiQLConfig(
        title="Back-office gateway, demo", personas=personas, queries=sample_queries(account)
    )
    app = create_app(
        settings,
        database_url,
        graphiql=page,
        graphiql_routes_before=[Route("/token", token, methods=["POST"])],
    )
    server = Server(app, "127.0.0.1", port)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.05)
    if serving.done():
        await serving
        return
    office = app.state.office
    config = folder / "gateway.toml"
    config.write_bytes(settings_file(settings, database_url))
    await save_organisations(office.ledger, backoffices.accounts)
    await save_members(office.ledger, issuer, backoffices.personas)
    with console.status("Matching accounts across the systems ..."):
        tally = await match_all(office.backoffice)
    _welcome(url, personas, config, tally, backoffices.urls)
    await serving


def settings_file(settings: Settings, database_url: str) -> bytes:
    """The demo's settings as a gateway.toml, for ``gateway check``, ``links`` and ``organisations`` beside it."""
    sources = {}
    for kind, source in settings.sources.items():
        values: dict[str, Any] = msgspec.to_builtins(source.settings)
        sources[kind.value] = {"vendor": source.row.vendor} | _written(values)
    tables = {
        "gateway": {"public_url": settings.door.public_url},
        "database": {"url": database_url},
        "signin": {
            "membership": settings.signin.membership,
            "issuers": [
                _written(
                    {
                        "issuer": one.issuer,
                        "audience": one.audience,
                        "believed_for": list(one.believed_for),
                        "client_id": one.client_id,
                    }
                )
                for one in settings.signin.issuers
            ],
            **({"sessions": {}} if settings.signin.sessions else {}),
        },
        "tokens": msgspec.to_builtins(settings.tokens),
        "mail": _written(msgspec.to_builtins(settings.mail or {})),
        "invitations": msgspec.to_builtins(settings.invitations),
        "sources": sources,
        "fields": [
            _written(msgspec.to_builtins(field)) | {"values": dict(field.values)}
            for field in settings.own_fields
        ],
    }
    return msgspec.toml.encode(tables)


def _written(values: dict[str, Any]) -> dict[str, Any]:
    """TOML has no word for nothing."""
    return {name: value for name, value in values.items() if value is not None}


PORTAL_HOME = """query PortalHome($id: ID!) {
  account(id: $id) {
    name number tier renewalDate
    address { city country }
    balances { outstanding { amount currency } overdue { amount currency } overdueInvoices }
    openTicketCount
    contacts(first: 5) { nodes { firstName lastName email phone jobTitle } }
    invoices(first: 20) {
      nodes { number status overdue issueDate dueDate total { amount currency } amountDue { amount currency } }
      pageInfo { hasNextPage endCursor }
    }
    tickets(first: 10) { nodes { number subject status priority createdAt } }
    documents(first: 10) { nodes { title kind tags updatedAt content { url expiresAt } } }
  }
}
"""

DASHBOARD = """# For staff: sign in as the support agent or the administrator.
query Dashboard($after: String) {
  accounts(first: 50, after: $after, orderBy: {field: NAME}) {
    nodes {
      name number tier
      invoices(first: 20) { nodes { number status dueDate total { amount currency } } }
      tickets(first: 10) { nodes { number subject status priority } }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

VIEWER = """query Viewer {
  viewer { name roles scopes organisation { id name } account { id name } }
}
"""

ARTICLES = """query Help($text: String!) {
  searchArticles(text: $text, first: 5) { nodes { title snippet url } }
}
"""


MEMBERS = """query Members {
  viewer {
    organisation {
      name
      members(first: 20) { nodes { id name email roles state endsAt isViewer } }
      invitations(first: 20) { nodes { id email roles state expiresAt deliveredAt } }
      assignableRoles { name label }
    }
  }
}
"""

INVITE = """# For an owner. The mail appears on the page of mails that the demo has printed where it was started.
mutation Invite($input: InviteMemberInput!) {
  inviteMember(input: $input) {
    invitation { id email state expiresAt }
    delivered
    userErrors { code message field }
  }
}
"""

INVITE_VARIABLES = (
    '{"input": {"idempotencyKey": "invite-nina-1", "email": "nina@new.example", "roles": ["standard"]}}'
)

ACCEPT = """# Sign in as Nina Newcomer; the secret stands behind the # of the link in the mail.
mutation Accept($input: AcceptInvitationInput!) {
  acceptInvitation(input: $input) {
    member { id roles }
    organisation { id name }
    userErrors { code message field }
  }
}
"""

ACCEPT_VARIABLES = '{"input": {"idempotencyKey": "accept-1", "secret": ""}}'


WATCH = """subscription MembersChange {
  members { kind member { name roles } invitation { email } }
}
"""

VIEW_AS = """# As the support agent. Then send X-View-As with the viewing's id, in the Headers tab: any query shows what the member sees.
mutation StartViewing($input: StartViewingInput!) {
  startViewing(input: $input) {
    viewing { id expiresAt }
    userErrors { message code field }
  }
}
"""
VIEW_AS_VARIABLES = """{
  "input": { "idempotencyKey": "view-1", "memberId": "of the sample Members", "reason": "ticket 4711", "minutes": 15 }
}"""


def sample_queries(account: str) -> tuple[SampleQuery, ...]:
    """What opens in GraphiQL."""
    return (
        SampleQuery("Portal home", PORTAL_HOME, msgspec.json.encode({"id": account}).decode()),
        SampleQuery("Dashboard", DASHBOARD, "{}"),
        SampleQuery("Viewer", VIEWER, "{}"),
        SampleQuery("Members", MEMBERS, "{}"),
        SampleQuery("Invite a member", INVITE, INVITE_VARIABLES),
        SampleQuery("Accept an invitation", ACCEPT, ACCEPT_VARIABLES),
        SampleQuery("Watch the members", WATCH, "{}"),
        SampleQuery("View as a member (staff)", VIEW_AS, VIEW_AS_VARIABLES),
        SampleQuery("Help articles", ARTICLES, '{"text": "invoice"}'),
    )


def _welcome(
    url: str,
    personas: tuple[Persona, ...],
    config: Path,
    tally: Mapping[str, Mapping[str, int]],
    urls: Mapping[str, str],
) -> None:
    say = Console(highlight=False, soft_wrap=True).print
    say(
        f"\n[bold]The back-office gateway is running.[/bold]\n\n  GraphiQL   {url}/graphiql/\n  GraphQL    {url}/graphql"
    )
    say(f"  Schema     {url}/schema.graphql")
    say(
        f"  Browser    {url}/session/sign-in?return_to=/session   signs in with a cookie, as a portal's users do"
    )
    say("\n[bold]Personas[/bold] (pick one in GraphiQL)")
    for persona in personas:
        say(f"  {persona.id:20} {persona.label}", markup=False)
    say("\n[bold]Accounts matched across systems[/bold]")
    for source, states in tally.items():
        say(
            f"  {source:10} " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())),
            markup=False,
        )
    say("\n[bold]Mails[/bold] that the gateway sends (invitations) are kept here")
    say(f"  {urls['letters']}/", markup=False)
    command = os.path.relpath(Path(sys.executable).parent / "gateway")
    say("\n[bold]For the operator[/bold], beside this")
    for words, about in (
        ("check", "is each source configured, reachable, allowed?"),
        (f"members list {ORGANISATIONS[0]}", "who may act for a customer, and who is invited"),
        ("links list", "which accounts are ambiguous, and what they could be"),
    ):
        say(f"  {command} {words} -c {config}   {about}", markup=False)
    say("\n[bold]Sandboxes[/bold] (their requests: GET /_sandbox/requests)")
    for row in REGISTRY:
        say(f"  {row.vendor:10} {urls[row.vendor]}", markup=False)
    fault = f"curl -X POST {urls['xero']}/_sandbox/fault -d"
    say(f"""  Make one fail:  {fault} '{{"kind": "fail", "status": 503}}'""", markup=False)
    say(f"  and recover:    curl -X DELETE {urls['xero']}/_sandbox/fault", markup=False)
    say("\n[bold]A query with curl[/bold]")
    first = personas[0].id
    print(
        f"""  TOKEN=$(curl -s {url}/graphiql/token -d '{{"persona": "{first}"}}' | sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')
  curl -s {url}/graphql -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
    -d '{{"query": "{{ viewer {{ account {{ name balances {{ outstanding {{ amount currency }} }} }} }} }}"}}'

Stop with Ctrl-C.""",
        flush=True,
    )


def _received(ours: Connection, child: Any) -> Backoffices:
    while not ours.poll(0.2):
        if not child.is_alive():
            sys.exit("the sandboxes could not be started; the reason stands above")
    return msgspec.json.decode(ours.recv_bytes(), type=Backoffices)


def _run_sandboxes(theirs: Connection, scale: float, quotas: bool) -> None:
    """The child process: its own interpreter, so that the sandboxes' work is not the gateway's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve_sandboxes(theirs, scale, quotas))


async def _serve_sandboxes(theirs: Connection, scale: float, quotas: bool) -> None:
    world = World.build(scale, today=date.today())
    issuer = DemoIssuer(personas_of(world))
    parent = os.getppid()
    async with sandboxes(world, issuer, quotas) as running:
        accounts = tuple((account.hubspot_id, account.crm_name) for account in world.accounts[:2])
        theirs.send_bytes(msgspec.json.encode(Backoffices(running.urls, accounts, tuple(issuer.personas))))
        # A parent that was killed cannot end us: notice that it has gone.
        while os.getppid() == parent:
            await asyncio.sleep(1)
