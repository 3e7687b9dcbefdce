"""``gateway keys``: the operator makes, lists and revokes API keys; a customer's first one, and the firm's own."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from gateway.audit import operator
from gateway.console import TOML, Config, in_office, stop, written
from gateway.office import Office
from permissions.services import effective
from sources.layers import key_text
from sources.ports.service_accounts import ApiKeyRecord, ServiceAccountRecord

keys_app = typer.Typer(no_args_is_help=True, help="API keys of service accounts.")

OrganisationOption = Annotated[
    str | None, typer.Option("--organisation", "-o", help="Whose; without it, the firm's own.")
]


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What it is used for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="What it opens; see `gateway permissions`.")],
    organisation: OrganisationOption = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="The service account's id, see `gateway keys list`; without it, a new one of this name."
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(help="How long it lasts.", min=1)] = None,
    config: Config = TOML,
) -> None:
    """Makes a key and prints it, this once."""

    async def create(office: Office) -> None:
        scopes = frozenset(scope)
        if beyond := scopes - effective(scopes, organisation, office.roles):
            whose = "the firm" if organisation is None else "an organisation"
            stop(f"{', '.join(sorted(beyond))}: no service account of {whose} may hold it")
        now, lifetime = datetime.now(UTC), office.settings.api_keys.lifetime
        lasting = lifetime.usual if days is None else timedelta(days=days)
        if lasting > lifetime.longest:
            stop(f"--days: {lifetime.longest.days} at most; see api_keys.maximum_days")
        book, by = office.ledger.service_accounts, operator().identity
        async with written(office, "keys create", organisation) as writing:
            whom = account
            if whom is None:
                made = ServiceAccountRecord(str(uuid4()), organisation, name, tuple(sorted(scopes)), now, by)
                await book.create(made)
                writing.wrote("ServiceAccount", made.id, organisation=organisation)
                whom = made.id
            elif (found := await book.account(organisation, whom)) and not scopes <= set(found.scopes):
                stop(f"{whom} holds {', '.join(found.scopes)}; a key holds no more")
            minted = key_text.mint()
            key = ApiKeyRecord(minted.id, whom, name, tuple(sorted(scopes)), now, by, now + lasting)
            await book.create_key(organisation, key, minted.digest)
            writing.wrote("ApiKey", key.id, organisation=organisation)
        print(minted.text)
        typer.echo(f"{key.id}: until {key.expires_at:%Y-%m-%d}; it is not shown again", err=True)

    in_office(config, create)


@keys_app.command("list")
def keys_list(organisation: OrganisationOption = None, config: Config = TOML) -> None:
    """Service accounts and their keys, without the keys themselves."""

    async def show(office: Office) -> None:
        book = office.ledger.service_accounts
        accounts = await book.accounts_of(organisation)
        table = Table("service account", "name", "key", "used for", "scopes", "state", "expires", "last used")
        for account, keys in zip(accounts, await book.keys_of([one.id for one in accounts]), strict=True):
            if not keys:
                table.add_row(account.id, account.name, "", "", " ".join(account.scopes), "", "", "")
            for key in keys:
                table.add_row(
                    account.id,
                    account.name,
                    key.id,
                    key.name,
                    " ".join(key.scopes),
                    key.state.value,
                    f"{key.expires_at:%Y-%m-%d}",
                    f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
                )
        Console().print(table if table.row_count else "none")

    in_office(config, show)


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="The key's id: what stands behind bogk_ in its text.")],
    config: Config = TOML,
) -> None:
    """Ends a key at once, whosever it is."""

    async def revoke(office: Office) -> None:
        book = office.ledger.service_accounts
        (known,) = await book.known([key])
        if known is None:
            stop(f"{key}: there is no such key")
        organisation = known.account.organisation
        async with written(office, "keys revoke", organisation) as writing:
            await book.revoke(organisation, key, datetime.now(UTC))
            writing.wrote("ApiKey", key, organisation=organisation)
        print(f"{key}: revoked")

    in_office(config, revoke)
