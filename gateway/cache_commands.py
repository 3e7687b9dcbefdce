"""``gateway cache``: the operator has all processes read again what somebody has just mended in a back office."""

from typing import Annotated

import typer

from gateway.audit import operator
from gateway.console import TOML, Config, in_office, stop
from gateway.office import Office
from sources.ports.audit import AuditKind
from sources.ports.changes import Forgetting
from sources.ports.common import Ref

cache_app = typer.Typer(no_args_is_help=True, help="What the gateway remembers of the back offices.")


@cache_app.command("forget")
def cache_forget(
    record: Annotated[
        str | None, typer.Argument(help="A record, such as xero:3f2a..., and every list it may be in.")
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(help="An account of the CRM, such as hubspot:901, and its counterparts everywhere."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="All of one system, such as xero.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of every system.")] = False,
    config: Config = TOML,
) -> None:
    """All processes forget it at once, and the Redis that they share: the next request reads it anew."""
    if sum(choice is not None for choice in (record, account, source)) + everything != 1:
        stop("say what to forget: a record, --account, --source or --all")

    async def forget(office: Office) -> None:
        known = [port.name for port in office.ports.values()]
        refs: tuple[Ref, ...] = ()
        if record is not None:
            refs = (_ref(record, known),)
        elif account is not None:
            refs = await _counterparts(office, _ref(account, known))
        elif source is not None and source not in known:
            stop(f"{source}: not a connected system; there are {', '.join(sorted(known))}")
        sources = known if everything else [source]
        said = office.audit.record(AuditKind.COMMAND, operator(), name="cache forget")
        async with office.audit.writing(said):
            if office.cache is not None:
                for name in sources:
                    await office.cache.forget_shared(source=name, refs=refs)
            await office.ledger.forgettings.tell([Forgetting(name, refs) for name in sources])
        print("forgotten: " + (", ".join(map(str, refs)) or source or "everything"))

    in_office(config, forget)


async def _counterparts(office: Office, account: Ref) -> tuple[Ref, ...]:
    """The account and what it is in the other systems, as far as links are known."""
    refs = [account]
    for port in office.ports.values():
        if port.name != account.source:
            (link,) = await office.ledger.links.links_of([account], port.name)
            if link is not None and link.counterpart is not None:
                refs.append(link.counterpart)
    return tuple(refs)


def _ref(text: str, known: list[str]) -> Ref:
    source, _, id = text.partition(":")
    if source not in known or not id:
        stop(f"{text}: write it as system:id, such as hubspot:901; there are {', '.join(sorted(known))}")
    return Ref(source, id)
