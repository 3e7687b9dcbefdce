"""``gateway connect`` and ``gateway tokens``: a person's consent at a vendor, and the tokens that are kept of it."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Annotated, Any

import typer
from aiohttp import web

from gateway.console import TOML, Config, in_office, stop, written
from gateway.office import Office
from sources.ledger.token_cipher import KEY_BYTES
from sources.ports.errors import SourceError
from sources.ports.tokens import TokenState
from sources.transport.consent import Asking, Consent, Tenant, ask, redeem

CALLBACK = "/callback"

tokens_app = typer.Typer(
    no_args_is_help=True,
    help="The tokens of vendors that people have consented to, and the keys they are under.",
)


def connect(
    source: Annotated[str, typer.Argument(help="The system, as gateway.toml names its vendor: xero")],
    config: Config = TOML,
    tenant: Annotated[
        str | None,
        typer.Option(
            help="Which of the vendor's accounts, by id or name, where the consent reaches several."
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            help="Where the browser comes back to, on loopback; the vendor's app must list the address."
        ),
    ] = 8765,
    minutes: Annotated[int, typer.Option(help="How long to wait for the consent.", min=1)] = 10,
) -> None:
    """Asks somebody for consent at the vendor, in a browser on this machine, and keeps the tokens that it gives."""

    async def consenting(office: Office) -> None:
        kind, consent = _consent(office, source)
        office.ledger.tokens.require_key(source)
        async with _listening(port) as (redirect_uri, came_back):
            asking = ask(consent, redirect_uri)
            typer.echo(f"Open this address in a browser on this machine and consent:\n\n  {asking.url}\n")
            typer.echo(f"The app at {source} must list {redirect_uri} as a redirect address. Waiting ...")
            try:
                async with asyncio.timeout(minutes * 60):
                    code = await came_back(asking)
            except TimeoutError:
                stop(f"nobody has consented within {minutes} minutes; nothing was stored")
        tokens = await redeem(consent, asking, code)
        reached = await consent.tenants(tokens.access_token or "")
        chosen = _chosen(consent, reached, tenant)
        async with written(office, f"connect {source}", None):
            await office.ledger.tokens.replace(source, tokens)
        typer.echo(f"{source}: connected; the tokens are stored encrypted")
        for line in _to_set(kind, consent, reached, chosen):
            typer.echo(line)

    in_office(config, consenting)


@tokens_app.command("key")
def tokens_key() -> None:
    """A new key for [tokens] keys, to be kept where secrets are."""
    typer.echo(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


@tokens_app.command("list")
def tokens_list(config: Config = TOML) -> None:
    """The connections, the key that each one's tokens are under, and whether they work."""

    async def show(office: Office) -> None:
        for state in await office.ledger.tokens.states():
            typer.echo(f"{state.connection}: key {state.key_id or 'none'}, {told(state)}")

    in_office(config, show)


@tokens_app.command("rotate")
def tokens_rotate(config: Config = TOML) -> None:
    """Stores all tokens anew under the first key of [tokens] keys. Then the others can be taken out."""

    async def rotate(office: Office) -> None:
        failed = False
        for state in await office.ledger.tokens.states():
            if state.current and state.readable:
                continue
            try:
                async with written(office, f"tokens rotate {state.connection}", None):
                    await office.ledger.tokens.rotate(state.connection)
                typer.echo(f"{state.connection}: stored under the newest key")
            except SourceError as error:
                failed = True
                typer.echo(str(error), err=True)
        if failed:
            stop("not all tokens are under the newest key: keep the older keys")

    in_office(config, rotate)


def told(state: TokenState) -> str:
    """In words."""
    if not state.readable:
        return f"not readable with the keys that are there; see [tokens] keys, or `gateway connect {state.connection}`"
    if state.consent_needed:
        return f"consent needed; run `gateway connect {state.connection}`"
    return "well" if state.current else "well, but not under the newest key; run `gateway tokens rotate`"


def _consent(office: Office, vendor: str) -> tuple[str, Consent]:
    for kind, source in office.settings.sources.items():
        if source.row.vendor == vendor:
            declared = source.row.consent
            if declared is None:
                stop(f"{vendor} asks for nobody's consent: its credentials stand in [sources.{kind.value}]")
            consent = declared(source.settings)
            if not consent.client_id:
                stop(
                    f"sources.{kind.value}: write client_id and client_secret of an OAuth app, and connected = true"
                )
            return kind.value, consent
    known = ", ".join(source.row.vendor for source in office.settings.sources.values())
    stop(f"{vendor}: no such source is configured; there are {known}")


def _chosen(consent: Consent, reached: Sequence[Tenant], wanted: str | None) -> Tenant | None:
    """The one that is asked for or set; None where nothing says which of several. Stops where it is not reached."""
    wanted = wanted or consent.tenant
    if consent.tenant_setting is None:
        return None
    if wanted:
        for one in reached:
            if wanted.casefold() in (one.id.casefold(), (one.name or "").casefold()):
                return one
        stop(f"the consent does not reach {wanted}; nothing was stored. It reaches:\n{_listed(reached)}")
    return reached[0] if len(reached) == 1 else None


def _to_set(kind: str, consent: Consent, reached: Sequence[Tenant], chosen: Tenant | None) -> list[str]:
    lines = []
    if consent.tenant_setting is not None:
        if chosen is None:
            lines += ["It reaches several accounts; choose one:", _listed(reached)]
            lines += ["", f"In gateway.toml, [sources.{kind}]:", f'  {consent.tenant_setting} = "..."']
        elif chosen.id.casefold() != consent.tenant.casefold():
            lines += ["", f"In gateway.toml, [sources.{kind}]:"]
            lines += [f'  {consent.tenant_setting} = "{chosen.id}" # {chosen.name or "no name"}']
    if consent.first_refresh_token is None:
        lines += [] if lines else ["", f"In gateway.toml, [sources.{kind}]:"]
        lines.append("  connected = true # and no refresh_token")
    return lines


def _listed(tenants: Sequence[Tenant]) -> str:
    return "\n".join(f"  {one.id}  {one.name or ''}" for one in tenants) or "  none"


@asynccontextmanager
async def _listening(port: int) -> AsyncIterator[tuple[str, Any]]:
    """The address to come back to, and what waits for the code that comes with it."""
    arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    expected: list[Asking] = []

    async def callback(request: web.Request) -> web.Response:
        given = request.query
        if not expected or not compare_digest(given.get("state", "").encode(), expected[0].state.encode()):
            return _page(400, "This is not the answer to what was asked. Nothing was done.")
        if arrived.done():
            return _page(400, "The answer has been here before.")
        if code := given.get("code"):
            arrived.set_result(code)
            return _page(200, "Thank you. The gateway goes on in its terminal; this page can be closed.")
        arrived.set_exception(_NotGiven())
        return _page(200, "The consent was not given. This page can be closed.")

    async def came_back(asking: Asking) -> str:
        expected.append(asking)
        try:
            return await arrived
        except _NotGiven:
            stop("the consent was not given; nothing was stored")

    application = web.Application()
    application.router.add_get(CALLBACK, callback)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError:
            stop(f"port {port} is taken; choose another with --port, and list it at the vendor")
        yield f"http://localhost:{runner.addresses[0][1]}{CALLBACK}", came_back
    finally:
        await runner.cleanup()


class _NotGiven(Exception):
    """Somebody has refused, or the vendor has."""


def _page(status: int, text: str) -> web.Response:
    return web.Response(
        status=status,
        text=text + "\n",
        headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Connection": "close"},
    )
