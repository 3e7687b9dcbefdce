"""What the operator's commands share: the settings file, the ledger while they run, and how they end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.audit import Writing, operator
from gateway.office import Office
from gateway.settings import Database, Settings, SettingsError, load
from gateway.telemetry import configure
from permissions.policy import PolicyError
from resolvers.own_fields import OwnFieldError
from sources.ledger.embedded import EmbeddedPostgres
from sources.ports.audit import AuditKind
from sources.ports.errors import SourceError
from sources.ports.writing import WriteRefused

Config = Annotated[Path, typer.Option("--config", "-c", envvar="GATEWAY_CONFIG", help="The settings file.")]
TOML = Path("gateway.toml")


def in_office(config: Path, work: Callable[[Office], Awaitable[None]]) -> None:
    """Runs it with everything open. What fails is said in one line."""
    configure()
    settings = read_settings(config)

    async def inside(url: str) -> None:
        async with Office(settings, url) as office:
            await work(office)

    with ledger_at(settings.database) as url:
        try:
            asyncio.run(inside(url))
        except (SourceError, OwnFieldError, PolicyError, SettingsError) as error:
            stop(str(error))


@asynccontextmanager
async def written(office: Office, command: str, organisation: str | None) -> AsyncIterator[Writing]:
    """A change of the ledger: in the audit trail, and in one line where it is refused. None: of the firm's own."""
    record = office.audit.record(AuditKind.COMMAND, operator(), name=command, organisation=organisation)
    refusal = None
    async with office.audit.writing(record) as writing:
        try:
            yield writing
        except WriteRefused as refused:
            writing.refused(refused.code.name)
            refusal = str(refused)
    if refusal is not None:
        stop(refusal)


class ledger_at:  # noqa: N801
    """The ledger's address: the one that is set, or an embedded PostgreSQL while inside."""

    def __init__(self, database: Database) -> None:
        self._url, self._folder = database.url, Path(database.folder)
        self._embedded: EmbeddedPostgres | None = None

    def __enter__(self) -> str:
        if self._url:
            return self._url
        self._embedded = EmbeddedPostgres()
        try:
            return self._embedded.start(self._folder)
        except RuntimeError as error:
            stop(f"{error}; or set DATABASE_URL to a PostgreSQL server")

    def __exit__(self, *error: object) -> None:
        if self._embedded:
            self._embedded.stop()


def read_settings(config: Path) -> Settings:
    """Says what is wrong and stops."""
    try:
        return load(config)
    except SettingsError as error:
        stop(str(error))


def stop(message: str) -> NoReturn:
    """Says it and exits with status 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)
