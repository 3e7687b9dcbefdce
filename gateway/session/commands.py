"""``gateway sessions``: the operator sees who is signed in with a browser, and ends that."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.audit import operator
from gateway.console import TOML, Config, in_office, stop
from gateway.office import Office
from sources.ports.audit import AuditKind

sessions_app = typer.Typer(
    no_args_is_help=True, help="Who is signed in with a browser, where signin.sessions is set."
)


@sessions_app.command("list")
def sessions_list(config: Config = TOML) -> None:
    """All sessions that are alive."""

    async def show(office: Office) -> None:
        _require_sessions(office)
        table = Table("session", "issuer", "subject", "acts for", "since", "last seen", "ends")
        async for session in office.browsers.sessions.alive():
            moments = (session.created_at, session.last_seen_at, session.ends_at)
            table.add_row(
                session.id,
                session.issuer,
                session.subject,
                session.organisation or "",
                *(f"{moment:%Y-%m-%d %H:%M}" for moment in moments),
            )
        Console().print(table if table.row_count else "none")

    in_office(config, show)


@sessions_app.command("end")
def sessions_end(
    issuer: Annotated[str, typer.Argument(help="Who signed them in; see `gateway sessions list`.")],
    subject: Annotated[str, typer.Argument(help="What the issuer calls them.")],
    config: Config = TOML,
) -> None:
    """Signs somebody out of every browser at once. Bearer tokens that they hold stay valid."""

    async def end(office: Office) -> None:
        _require_sessions(office)
        record = office.audit.record(AuditKind.COMMAND, operator(), name="sessions end")
        async with office.audit.writing(record):
            ended = await office.ledger.sessions.end_of(issuer, subject)
        print(f"{subject}: {ended} ended")

    in_office(config, end)


def _require_sessions(office: Office) -> None:
    if office.settings.signin.sessions is None:
        stop("signin.sessions is not set: nobody signs in with a browser here")
