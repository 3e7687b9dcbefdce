"""The ledger: what the gateway itself remembers, in one PostgreSQL database."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection, select, text

from sources.ledger.audit import AuditBook
from sources.ledger.audit_seal import Seal
from sources.ledger.database import COMMAND_SECONDS, Connections, Database
from sources.ledger.directory import Directory
from sources.ledger.forgettings import Forgettings
from sources.ledger.links import Links
from sources.ledger.members import Members
from sources.ledger.mirror import Mirrors
from sources.ledger.organisations import Organisations
from sources.ledger.service_accounts import ServiceAccounts
from sources.ledger.sessions import Sessions
from sources.ledger.token_cipher import TokenCipher, TokenKey
from sources.ledger.tokens import TokenBook
from sources.ledger.viewings import Viewings
from sources.ledger.writes import Writes
from sources.ports.audit import AuditStore
from sources.ports.changes import ChangeFeed, ForgettingFeed
from sources.ports.directory import DirectoryStore
from sources.ports.links import LinkStore
from sources.ports.members import MemberStore, OrganisationStore
from sources.ports.mirror import MirrorStore
from sources.ports.service_accounts import ServiceAccountStore
from sources.ports.sessions import SessionStore
from sources.ports.tokens import TokenStore
from sources.ports.viewings import ViewingStore
from sources.ports.writing import WriteStore


class Ledger:
    """The books by port. A database that is down raises SourceUnavailable or SourceTimeout of the source ``ledger``,
    one that refuses us SourceRejected."""

    audit: AuditStore
    directory: DirectoryStore
    forgettings: ForgettingFeed
    links: LinkStore
    members: MemberStore
    mirrors: MirrorStore
    organisations: OrganisationStore
    service_accounts: ServiceAccountStore
    tokens: TokenStore
    sessions: SessionStore
    viewings: ViewingStore
    writes: WriteStore

    def __init__(self, database: Database, seal: Seal, cipher: TokenCipher) -> None:
        self._database = database
        self._audit = AuditBook(database, seal)
        self.audit = self._audit
        self.forgettings = Forgettings(database)
        self.links = Links(database)
        members = Members(database)
        self.members = members
        self.mirrors = Mirrors(database)
        self.directory = Directory(database, members)
        self.organisations = Organisations(database)
        self.service_accounts = ServiceAccounts(database)
        self.tokens = TokenBook(database, cipher)
        self.sessions = Sessions(database)
        self.viewings = Viewings(database)
        self.writes = Writes(database)

    @classmethod
    async def open(
        cls,
        database_url: str,
        patience: Callable[[], float] = lambda: COMMAND_SECONDS,
        seal: Seal | None = None,
        token_keys: Sequence[TokenKey] = (),
    ) -> "Ledger":
        """Connects when first asked. ``postgresql://``, ``postgres://`` and ``postgresql+asyncpg://`` are the same;
        ``?host=/folder`` is a socket. ``patience`` gives the seconds left to whoever asks, ``seal`` holds the audit trail
        together, ``token_keys`` encrypt OAuth tokens, the first of them new ones. Raises ValueError for another kind of
        address."""
        return cls(Database(database_url, patience), seal or Seal(), TokenCipher(token_keys))

    async def migrate(self) -> None:
        """Brings the tables to this version, all or nothing; costs little when they are. Processes that start together
        wait for the first."""
        async with self._database.writing("migrations", patient=True) as connection:
            await connection.run_sync(_upgrade)

    def watch(self) -> None:
        """Lets this process answer from memory while PostgreSQL tells it of every change. For what serves requests."""
        self._database.watch()

    @property
    def changes(self) -> ChangeFeed:
        """What ``watch`` hears."""
        return self._database.memory.feed

    @property
    def connections(self) -> Connections:
        """Of this process to the database."""
        return self._database.connections

    async def ping(self) -> None:
        """Raises SourceError when the database does not answer."""
        async with self._database.reading() as connection:
            await connection.execute(select(1))

    async def close(self) -> None:
        await self._audit.close()
        await self._database.close()


_MIGRATIONS = Path(__file__).parent / "migrations"


def newest_revision() -> str:
    """As the files of the revisions are called: r0009_mirrors."""
    return max(path.stem for path in (_MIGRATIONS / "versions").glob("r*.py"))[1:5]


def _upgrade(connection: Connection) -> None:
    if connection.scalar(text("SELECT to_regclass('ledger_version')")) is not None:
        versions = connection.scalars(text("SELECT version_num FROM ledger_version")).all()
        if list(versions) == [newest_revision()]:
            return
    # Not before: Alembic takes ten megabytes, and most processes find everything in place.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
