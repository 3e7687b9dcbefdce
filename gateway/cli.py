"""The commands: ``gateway demo | serve | check | schema | permissions | links | organisations | members | keys | sessions
| cache | sync | audit | connect | tokens``."""

import asyncio
import difflib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.app import create_app
from gateway.audit import operator
from gateway.audit_commands import audit_app
from gateway.cache_commands import cache_app
from gateway.check import (
    Finding,
    check_issuers,
    check_ledger,
    check_mail,
    check_redis,
    check_running,
    check_sources,
    check_telemetry,
    check_tokens,
)
from gateway.consents import connect, tokens_app
from gateway.console import TOML, Config, in_office, ledger_at, read_settings, stop
from gateway.keys import keys_app
from gateway.matching import described_links, match_all
from gateway.members import members_app
from gateway.office import Office
from gateway.permissions_command import permissions
from gateway.server import Server
from gateway.session.commands import sessions_app
from gateway.settings import (
    Settings,
    SettingsError,
    TokenSettings,
    load,
    load_tables,
    read_database,
    read_door,
    read_mail,
    read_redis,
    read_signin,
    read_telemetry,
    read_tokens,
)
from gateway.sync import sync
from gateway.telemetry import configure
from permissions.policy import PolicyError
from resolvers.own_fields import OwnFieldError
from resolvers.schema import build_schema
from sources.ledger.book import Ledger
from sources.ports.audit import AuditKind
from sources.ports.common import CustomField, Ref
from sources.ports.errors import SourceError
from sources.ports.links import LinkState, LinkTaken
from sources.ports.members import AccountTaken, OrganisationRecord
from sources.registry import Kind

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
links_app = typer.Typer(
    no_args_is_help=True, help="How accounts were matched across systems, and deciding where rules cannot."
)
organisations_app = typer.Typer(
    no_args_is_help=True, help="The portal's customers and the accounts that each may see."
)
app.command()(permissions)
app.command()(connect)
app.command()(sync)
app.add_typer(links_app, name="links")
app.add_typer(organisations_app, name="organisations")
app.add_typer(members_app, name="members")
app.add_typer(keys_app, name="keys")
app.add_typer(sessions_app, name="sessions")
app.add_typer(cache_app, name="cache")
app.add_typer(audit_app, name="audit")
app.add_typer(tokens_app, name="tokens")

AccountArgument = Annotated[str, typer.Argument(help="The account in the CRM: hubspot:901")]

DEMO = Path(".demo")


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Where the gateway listens, on loopback.")] = 8000,
    scale: Annotated[
        float, typer.Option(help="Size of the invented company; 1 is 200 accounts.", min=0.05)
    ] = 1.0,
    folder: Annotated[Path, typer.Option(help="Where the embedded PostgreSQL keeps its data.")] = DEMO,
    quotas: Annotated[
        bool,
        typer.Option(
            "--quotas", help="The sandboxes allow no more calls per second, minute and day than the vendors."
        ),
    ] = False,
    collector: Annotated[
        str,
        typer.Option(help="An OpenTelemetry collector for every request's trace: http://127.0.0.1:4318"),
    ] = "",
) -> None:
    """The gateway over sandboxes of the vendors and an embedded PostgreSQL; needs no settings."""
    from gateway.demo import run

    _refuse_taken(port)
    try:
        telemetry = read_telemetry(
            {"telemetry": {"endpoint": collector, "sample_ratio": 1.0}}, "--collector", {}
        )
    except SettingsError as error:
        stop(str(error))
    run(port, scale, folder, quotas, telemetry)


@app.command()
def serve(
    config: Config = TOML,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
) -> None:
    """The gateway over the systems that gateway.toml names."""
    settings = read_settings(config)
    configure(settings.logging)
    # uvicorn gives a signal back when it has stopped: by default this one would end us before an embedded database is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ledger_at(settings.database) as url:
        try:
            asyncio.run(_open(settings, url))
            application = create_app(settings, url)
        except SourceError as error:
            stop(str(error))
        except (OwnFieldError, PolicyError, SettingsError) as error:
            stop(f"{config.name}: {error}")
        Server(application, host, port, log_level=settings.logging.level).run()


@app.command()
def check(config: Config = TOML) -> None:
    """Per source one line: configured, reachable, allowed; and the setting to mend. Exits 1 when anything is wrong."""
    configure()
    findings = asyncio.run(_check(config))
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = {True: "[green]ok  [/green]", False: "[red]FAIL[/red]", None: "--  "}[finding.ok]
        console.print(f"{mark} {finding.subject:10} ", end="")
        console.print(finding.detail, markup=False)
    raise typer.Exit(1 if any(finding.ok is False for finding in findings) else 0)


@app.command()
def schema(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with schema.graphql instead of printing.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write schema.graphql.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Print it with the own fields and the seconds of this settings file."
        ),
    ] = None,
) -> None:
    """The graph's SDL, printed from the code."""
    if config:
        settings = read_settings(config)
        text = build_schema(settings.own_fields).sdl(settings.cache.promises) + "\n"
    else:
        text = build_schema().as_str() + "\n"
    committed = Path("schema.graphql")
    if write:
        committed.write_text(text)
    elif check:
        difference = list(
            difflib.unified_diff(
                committed.read_text().splitlines(True) if committed.exists() else [],
                text.splitlines(True),
                "schema.graphql",
                "the code",
            )
        )
        sys.stdout.writelines(difference)
        if difference:
            stop("schema.graphql is not what the code gives; run `make schema`")
    else:
        sys.stdout.write(text)


@links_app.command("list")
def links_list(
    config: Config = TOML,
    state: Annotated[
        list[LinkState] | None, typer.Option(help="Only these; ambiguous ones unless said.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this system.")] = None,
) -> None:
    """The links in these states, with what each record is called: enough to decide by."""

    async def show(office: Office) -> None:
        async for link, names in described_links(office.backoffice, state or [LinkState.AMBIGUOUS], source):
            print(f"{link.account}  {names[link.account]}")
            print(f"  {link.source}: {link.state.value}" + (f", by {link.evidence}" if link.evidence else ""))
            for ref in [link.counterpart] if link.counterpart else link.candidates:
                print(f"    {ref}  {names[ref]}")

    in_office(config, show)


@links_app.command("match")
def links_match(config: Config = TOML) -> None:
    """Applies the rules to every account that has no link yet."""

    async def match(office: Office) -> None:
        async with _recorded(office, "links match"):
            matched = await match_all(office.backoffice)
        for system, states in matched.items():
            print(f"{system}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))

    in_office(config, match)


@links_app.command("confirm")
def links_confirm(
    account: AccountArgument,
    counterpart: Annotated[str, typer.Argument(help="Its record in the other system: xero:3f2a...")],
    by: Annotated[str, typer.Option(help="Who decides; kept with the link.")],
    config: Config = TOML,
) -> None:
    """Staff's word that these two are the same customer."""

    async def confirm(office: Office) -> None:
        await _require_account(office, account)
        (found,) = await _port(office, _ref(counterpart).source).customers([_ref(counterpart)])
        if found is None:
            stop(f"{counterpart}: there is no such customer")
        async with _recorded(office, "links confirm", _ref(account)):
            try:
                await office.ledger.links.confirm(_ref(account), _ref(counterpart), by)
            except LinkTaken:
                stop(f"{counterpart} is another account's; `gateway links forget` that link first")
        print(f"{account} is {counterpart}")

    in_office(config, confirm)


@links_app.command("none")
def links_none(
    account: AccountArgument,
    source: Annotated[str, typer.Argument(help="The other system.")],
    by: Annotated[str, typer.Option(help="Who decides; kept with the link.")],
    config: Config = TOML,
) -> None:
    """Staff's word that the account has no counterpart there: its lists are empty, not unknown."""

    async def declare(office: Office) -> None:
        await _require_account(office, account)
        _port(office, source)
        async with _recorded(office, "links none", _ref(account)):
            await office.ledger.links.declare_absent(_ref(account), source, by)
        print(f"{account} has no counterpart in {source}")

    in_office(config, declare)


@links_app.command("forget")
def links_forget(
    account: AccountArgument,
    source: Annotated[str, typer.Argument(help="The other system.")],
    config: Config = TOML,
) -> None:
    """Drops a decision, so that the rules are applied afresh."""

    async def forget(office: Office) -> None:
        async with _recorded(office, "links forget", _ref(account)):
            await office.ledger.links.forget(_ref(account), source)
        print(f"{account}: forgotten in {source}")

    in_office(config, forget)


@organisations_app.command("set")
def organisations_set(
    organisation: Annotated[str, typer.Argument(help="Its id, as the issuer's tokens name it.")],
    name: Annotated[str, typer.Argument(help="What it is called in the portal.")],
    accounts: Annotated[list[str], typer.Argument(help="Its accounts in the CRM: hubspot:901")],
    config: Config = TOML,
) -> None:
    """Creates an organisation or replaces its name and accounts."""

    async def save(office: Office) -> None:
        for account in accounts:
            await _require_account(office, account)
        refs = tuple(_ref(account) for account in accounts)
        async with _recorded(office, "organisations set", *refs, organisation=organisation):
            try:
                await office.ledger.organisations.save(OrganisationRecord(organisation, name, refs))
            except AccountTaken:
                stop(
                    "one of these accounts belongs to another organisation; see `gateway organisations list`"
                )
        print(f"{organisation}: {', '.join(accounts)}")

    in_office(config, save)


@organisations_app.command("list")
def organisations_list(config: Config = TOML) -> None:
    """All organisations and their accounts."""

    async def show(office: Office) -> None:
        table = Table("organisation", "name", "accounts")
        after = None
        while page := await office.ledger.organisations.listed(after):
            for organisation in page:
                table.add_row(organisation.id, organisation.name, " ".join(map(str, organisation.accounts)))
            after = page[-1].id
        Console().print(table if table.row_count else "none")

    in_office(config, show)


@asynccontextmanager
async def _recorded(
    office: Office, command: str, *accounts: Ref, organisation: str | None = None
) -> AsyncIterator[None]:
    """In the audit trail, of the organisation that is named or that holds the account. What cannot be recorded is not
    done."""
    if accounts and organisation is None:
        (organisation,) = await office.ledger.organisations.holders_of(accounts)
    record = office.audit.record(AuditKind.COMMAND, operator(), name=command, organisation=organisation)
    stopped: typer.Exit | None = None
    async with office.audit.writing(record) as writing:
        writing.wrote("Account", *accounts, organisation=organisation)
        try:
            yield
        except typer.Exit as refused:
            writing.refused("CONFLICT")
            stopped = refused
    if stopped:
        raise stopped


async def _open(settings: Settings, database_url: str) -> None:
    """Once before serving: what cannot work is said in one line, not by a server that fails to start."""
    async with Office(settings, database_url):
        pass


async def _check(config: Path) -> list[Finding]:
    """Each part on its own, so that all that is wrong is seen at once."""
    try:
        tables = load_tables(config)
    except SettingsError as error:
        return [Finding("settings", False, str(error))]
    own_fields: tuple[CustomField, ...] = ()
    wrong = ""
    try:
        own_fields = load(config).own_fields
    except SettingsError as error:
        wrong = str(error)
    findings = await _check_parts(config, tables, own_fields)
    if wrong and not any(wrong in finding.detail for finding in findings):
        findings.insert(0, Finding("settings", False, wrong))
    return findings


async def _check_parts(
    config: Path, tables: Mapping[str, Any], own_fields: Sequence[CustomField]
) -> list[Finding]:
    try:
        database = read_database(tables, config.name, os.environ)
    except SettingsError as error:
        return [Finding("database", False, f"not configured: {error}")]
    with ledger_at(database) as url:
        unusable = ""
        try:
            tokens = read_tokens(tables, config.name, os.environ)
        except SettingsError as error:
            tokens, unusable = TokenSettings(), str(error)
        ledger = await Ledger.open(url, token_keys=tokens.usable)
        try:
            findings = [await check_ledger(ledger)]
            if unusable:
                findings.append(Finding("tokens", False, f"not configured: {unusable}"))
            if findings[0].ok:
                await ledger.migrate()
            try:
                findings += await check_issuers(read_signin(tables, config.name, os.environ))
            except SettingsError as error:
                findings.append(Finding("signin", False, f"not configured: {error}"))
            try:
                mail, _ = read_mail(tables, config.name, os.environ)
                findings.append(await check_mail(mail))
            except SettingsError as error:
                findings.append(Finding("mail", False, f"not configured: {error}"))
            try:
                findings.append(await check_redis(read_redis(tables, config.name, os.environ)))
            except SettingsError as error:
                findings.append(Finding("redis", False, f"not configured: {error}"))
            try:
                findings.append(await check_telemetry(read_telemetry(tables, config.name, os.environ)))
            except SettingsError as error:
                findings.append(Finding("telemetry", False, f"not configured: {error}"))
            findings += await check_sources(config, ledger.tokens, os.environ, own_fields, ledger.mirrors)
            if findings[0].ok and not unusable:
                # After the sources: calling one may have shown that its refresh token is spent.
                findings.append(await check_tokens(ledger.tokens, tokens))
            with suppress(SettingsError):  # told as one of the settings
                if public_url := read_door(tables, config.name, os.environ).public_url:
                    findings.append(await check_running(public_url))
        finally:
            await ledger.close()
    return findings


def _ref(text: str) -> Ref:
    source, _, id = text.partition(":")
    if not source or not id:
        stop(f"{text}: write it as system:id, such as hubspot:901")
    return Ref(source, id)


def _port(office: Office, source: str) -> Any:
    """The connected system of this name, other than the CRM."""
    ports = {port.name: port for kind, port in office.ports.items() if kind is not Kind.CRM}
    if source not in ports:
        stop(f"{source}: not a connected system; there are {', '.join(sorted(ports))}")
    return ports[source]


async def _require_account(office: Office, account: str) -> None:
    ref = _ref(account)
    (found,) = (
        await office.backoffice.crm.accounts([ref]) if ref.source == office.backoffice.crm.name else (None,)
    )
    if found is None:
        stop(f"{account}: there is no such account in the CRM")
    if found.ref != ref:
        stop(f"{account} was merged into {found.ref}; use that one")


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            stop(f"port {port} is in use; choose another: make demo ARGS='--port {port + 1}'")
