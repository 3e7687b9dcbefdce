"""``gateway members``: the operator lists, lets in and removes an organisation's people, its first owner above all."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import uuid4

import typer
from email_validator import EmailNotValidError, validate_email
from rich.console import Console
from rich.table import Column, Table

from gateway.audit import operator
from gateway.console import TOML, Config, in_office, stop, written
from gateway.office import Office
from permissions.roles import Roles
from sources.ports.common import PAGE_CAP, Page, Window
from sources.ports.members import BookQuery, Granting, Invite, MemberRecord

T = TypeVar("T")

members_app = typer.Typer(
    no_args_is_help=True, help="The people of an organisation, where signin.membership is ledger."
)

OrganisationArgument = Annotated[str, typer.Argument(help="Its id; see `gateway organisations list`.")]
MemberArgument = Annotated[str, typer.Argument(help="The member's id; see `gateway members list`.")]
RoleOption = Annotated[list[str] | None, typer.Option("--role", help="What they are; owner unless said.")]


@members_app.command("list")
def members_list(organisation: OrganisationArgument, config: Config = TOML) -> None:
    """All members, and the invitations of the last 90 days."""

    async def show(office: Office) -> None:
        people = Table(_whole("member"), "name", "e-mail", "roles", "state", "ends")
        async for member in _all(office.ledger.members.members_of, organisation):
            people.add_row(
                member.id,
                member.name or "",
                member.email or "",
                " ".join(member.roles),
                member.state.value,
                f"{member.ends_at:%Y-%m-%d}" if member.ends_at else "",
            )
        invited = Table(_whole("invitation"), "e-mail", "roles", "state", "expires")
        async for one in _all(office.ledger.members.invitations_of, organisation):
            invited.add_row(
                one.id, one.email, " ".join(one.roles), one.state.value, f"{one.expires_at:%Y-%m-%d}"
            )
        console = Console()
        console.print(people if people.row_count else "no members")
        if invited.row_count:
            console.print(invited)

    in_office(config, show)


@members_app.command("invite")
def members_invite(
    organisation: OrganisationArgument,
    email: Annotated[str, typer.Argument(help="Where the invitation goes.")],
    role: RoleOption = None,
    config: Config = TOML,
) -> None:
    """Invites somebody, as an owner does in the portal. Where no mail is sent, the link is printed once."""

    async def invite(office: Office) -> None:
        roles = _roles(office.roles, role)
        try:
            address = validate_email(email, check_deliverability=False).normalized
        except EmailNotValidError:
            stop(f"{email}: this is no e-mail address")
        async with written(office, "members invite", organisation) as writing:
            made, secret = await office.ledger.members.invite(
                organisation, Invite(address, roles, office.invitations.expiry()), _granting(office.roles)
            )
            writing.wrote("Invitation", made.id, organisation=organisation)
        (found,) = await office.ledger.organisations.organisations([organisation])
        name = found.name if found else organisation
        if office.invitations.by_mail:
            if await office.invitations.send(made, secret, name):
                await office.ledger.members.note_delivery(made.id, secret)
                print(f"{made.id}: mailed to {address}")
                return
            print("the mail server did not take the mail; pass this on yourself", flush=True)
        print(f"{made.id}: {office.invitations.link(secret) or f'acceptInvitation with the secret {secret}'}")

    _changing(config, invite)


@members_app.command("add")
def members_add(
    organisation: OrganisationArgument,
    issuer: Annotated[str, typer.Argument(help="Who signs them in, as signin.issuers names it.")],
    subject: Annotated[str, typer.Argument(help="What the issuer calls them: the claim sub.")],
    role: RoleOption = None,
    name: Annotated[str | None, typer.Option(help="Who they are.")] = None,
    email: Annotated[str | None, typer.Option(help="Their e-mail address.")] = None,
    config: Config = TOML,
) -> None:
    """Makes somebody a member without an invitation."""

    async def add(office: Office) -> None:
        roles = _roles(office.roles, role)
        if issuer not in (known := [one.issuer for one in office.settings.signin.issuers]):
            stop(f"{issuer}: no issuer of signin.issuers; there are {', '.join(known)}")
        now = datetime.now(UTC)
        member = MemberRecord(
            id=str(uuid4()),
            organisation=organisation,
            roles=roles,
            created_at=now,
            issuer=issuer,
            subject=subject,
            name=name,
            email=email,
            joined_at=now,
            invited_by=operator().identity,
        )
        async with written(office, "members add", organisation) as writing:
            await office.ledger.members.add(member, _granting(office.roles))
            writing.wrote("Member", member.id, organisation=organisation)
        print(f"{member.id}: {', '.join(roles)} of {organisation}")

    _changing(config, add)


@members_app.command("roles")
def members_roles(
    organisation: OrganisationArgument,
    member: MemberArgument,
    roles: Annotated[list[str], typer.Argument(help="All roles from now on.")],
    config: Config = TOML,
) -> None:
    """Gives a member other roles. The last owner stays one."""

    async def change(office: Office) -> None:
        given = _roles(office.roles, roles)
        async with written(office, "members roles", organisation) as writing:
            await office.ledger.members.change_roles(organisation, member, given, _granting(office.roles))
            writing.wrote("Member", member, organisation=organisation)
        print(f"{member}: {', '.join(given)} of {organisation}")

    _changing(config, change)


@members_app.command("remove")
def members_remove(organisation: OrganisationArgument, member: MemberArgument, config: Config = TOML) -> None:
    """Ends a membership at once. The last owner cannot be removed."""

    async def remove(office: Office) -> None:
        async with written(office, "members remove", organisation) as writing:
            await office.ledger.members.remove(organisation, member, _granting(office.roles))
            writing.wrote("Member", member, organisation=organisation)
        print(f"{member}: removed from {organisation}")

    _changing(config, remove)


def _changing(config: Path, work: Callable[[Office], Awaitable[None]]) -> None:
    """Not where claims say who is a member: what is written would open nothing and end nothing."""

    async def change(office: Office) -> None:
        if office.settings.signin.membership != "ledger":
            stop("the claims of sign-ins say who is a member here; see signin.membership")
        await work(office)

    in_office(config, change)


async def _all(read: Callable[[BookQuery], Awaitable[Page[T]]], organisation: str) -> AsyncIterator[T]:
    after = None
    while True:
        page = await read(BookQuery(organisation, Window(first=PAGE_CAP, after=after)))
        for row in page.rows:
            yield row
        if not page.has_next:
            return
        after = page.keys[-1]


def _whole(header: str) -> Column:
    """An id is there to be copied."""
    return Column(header, no_wrap=True, min_width=36)


def _granting(roles: Roles) -> Granting:
    return Granting(by=operator().identity, owner=roles.owner, roles=frozenset(roles.of_customers))


def _roles(known: Roles, asked: list[str] | None) -> tuple[str, ...]:
    roles = tuple(dict.fromkeys(asked or [known.owner]))
    for role in roles:
        if role not in known.of_customers:
            stop(f"{role}: members may be {', '.join(known.of_customers)}")
    return roles
