"""``gateway audit``: whether the trail holds, its head to keep elsewhere, its export, and its end by age."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.audit import AuditTrail, Done, operator
from gateway.audit_export import line
from gateway.console import TOML, Config, ledger_at, read_settings, stop
from gateway.telemetry import configure
from sources.ledger.audit_seal import Seal
from sources.ledger.book import Ledger
from sources.ports.audit import AuditHead, AuditKind, AuditOutcome
from sources.ports.errors import SourceError

audit_app = typer.Typer(
    no_args_is_help=True, help="The record of who read or changed what: see docs/audit.md."
)

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"]


@audit_app.command("verify")
def verify(
    config: Config = TOML,
    first: Annotated[
        int | None, typer.Option("--from", min=1, help="The first record to look at, by its number.")
    ] = None,
    last: Annotated[int | None, typer.Option("--to", min=1, help="The last one.")] = None,
    head: Annotated[
        str | None, typer.Option(help="What `gateway audit head` printed earlier, kept elsewhere.")
    ] = None,
) -> None:
    """Reads the chain and names the first record that was altered, removed, inserted or moved. Exits 1 when there is one."""
    kept = _head(head) if head else None

    async def look(ledger: Ledger, trail: AuditTrail) -> None:
        found = await ledger.audit.verify(first, last, kept)
        if found.fault is not None:
            stop(f"record {found.fault.sequence}: {found.fault.reason}")
        if not found.records:
            print("no records")
        else:
            print(f"{found.records} records, {found.first} to {found.last}: every one as it was written")

    _with_trail(config, look)


@audit_app.command("head")
def show_head(config: Config = TOML) -> None:
    """Where the chain ends: number and hash. Kept elsewhere, `verify --head` proves that nothing before it was touched."""

    async def show(ledger: Ledger, trail: AuditTrail) -> None:
        print(await ledger.audit.head())

    _with_trail(config, show)


@audit_app.command("export")
def export(
    config: Config = TOML,
    since: Annotated[
        datetime | None, typer.Option(formats=_FORMATS, help="Begun then or later; UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_FORMATS, help="Begun then or earlier; UTC.")
    ] = None,
    organisation: Annotated[str | None, typer.Option(help="Only what concerns this one.")] = None,
) -> None:
    """Prints the records as JSON lines, oldest first. The export is recorded itself."""

    async def write(ledger: Ledger, trail: AuditTrail) -> None:
        record = trail.record(AuditKind.EXPORT, operator(), name="audit export", organisation=organisation)
        async with trail.writing(record) as writing:
            writing.done = Done(AuditOutcome.PARTIAL, ("CANCELLED",))
            async for entry in ledger.audit.exported(
                since and _utc(since), until and _utc(until), organisation
            ):
                sys.stdout.buffer.write(line(entry))
            sys.stdout.flush()
            writing.done = Done()

    _with_trail(config, write)


@audit_app.command("prune")
def prune(
    before: Annotated[
        datetime, typer.Option(formats=_FORMATS, help="Records that began before this are deleted; UTC.")
    ],
    config: Config = TOML,
) -> None:
    """Deletes old records for good and leaves a sealed checkpoint, from which `verify` goes on."""

    async def delete(ledger: Ledger, trail: AuditTrail) -> None:
        record = trail.record(AuditKind.COMMAND, operator(), name="audit prune")
        async with trail.writing(record):
            print(f"{await ledger.audit.prune(_utc(before))} records deleted")

    _with_trail(config, delete)


def _with_trail(config: Path, work: Callable[[Ledger, AuditTrail], Awaitable[None]]) -> None:
    """Needs the ledger alone: no source has to be reachable."""
    configure()
    settings = read_settings(config)

    async def inside(url: str) -> None:
        ledger = await Ledger.open(url, seal=Seal(settings.audit.key, settings.audit.retired_keys))
        trail = AuditTrail(ledger.audit, settings.audit)
        try:
            await ledger.migrate()
            trail.start()
            await work(ledger, trail)
        finally:
            await trail.close()
            await ledger.close()

    with ledger_at(settings.database) as url:
        try:
            asyncio.run(inside(url))
        except SourceError as error:
            stop(str(error))


def _head(text: str) -> AuditHead:
    sequence, _, hash_ = text.partition(":")
    try:
        head = AuditHead(int(sequence), bytes.fromhex(hash_))
    except ValueError:
        head = AuditHead(0, b"")
    if len(head.hash) != 32:
        stop(f"{text}: write the head as `gateway audit head` printed it")
    return head


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=moment.tzinfo or UTC)
