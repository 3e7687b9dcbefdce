"""``gateway check``: per source one line, whether it is configured, reachable and allowed, and the setting to mend."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway.consents import told
from gateway.invitations import server_of
from gateway.settings import (
    FIELD_KINDS,
    Mail,
    RedisSettings,
    SettingsError,
    Telemetry,
    TokenSettings,
    load_tables,
    read_source,
)
from gateway.signin.introspection import Introspection
from gateway.signin.issuers import Issuer, Issuers
from gateway.signin.refused import SignInRefused
from gateway.signin.session_settings import SessionSettings
from gateway.signin.settings import SignInSettings
from sources.ledger.book import Ledger
from sources.ports.common import CustomField
from sources.ports.errors import SourceError, SourceRejected, SourceUnavailable
from sources.ports.mirror import MirrorStore
from sources.ports.tokens import TokenStore
from sources.registry import Kind
from sources.transport.deadline import deadline
from sources.transport.smtp import MailNotTaken, Smtp
from sources.transport.wiring import Wiring

PROBE_SECONDS = 10


class Finding(msgspec.Struct, frozen=True):
    """One line."""

    subject: str
    ok: bool | None
    """None: not configured, which is allowed."""
    detail: str


class _Ready(msgspec.Struct, frozen=True):
    status: str
    degraded: dict[str, str] = {}


async def check_sources(
    path: Path,
    tokens: TokenStore,
    environment: Mapping[str, str],
    own_fields: Sequence[CustomField] = (),
    mirrors: MirrorStore | None = None,
) -> list[Finding]:
    """Every kind of source on its own: one that is wrong does not hide the others. Raises SettingsError when the file
    cannot be read at all."""
    tables = load_tables(path).get("sources", {})
    if not isinstance(tables, dict):
        return []
    findings = []
    for kind in Kind:
        custom = tuple(field for field in own_fields if FIELD_KINDS[field.type] is kind)
        wiring = Wiring(tokens, custom, mirrors=mirrors)
        findings.append(await _check(kind, tables.get(kind.value), path.name, wiring, environment))
    return findings


async def check_ledger(ledger: Ledger) -> Finding:
    """The gateway's own database."""
    try:
        await ledger.ping()
    except SourceError as error:
        return Finding("database", False, f"{error}; see database.url or DATABASE_URL")
    return Finding("database", True, "reachable")


async def check_tokens(tokens: TokenStore, settings: TokenSettings) -> Finding:
    """The stored tokens of vendors: are they readable, under the newest key, and good?"""
    states = await tokens.states()
    bad = [state for state in states if not state.readable or state.consent_needed]
    if bad:
        return Finding("tokens", False, ", ".join(f"{state.connection}: {told(state)}" for state in bad))
    if not settings.keys:
        detail = "no keys in [tokens]; needed where a source signs in by refresh tokens"
        return Finding("tokens", False if states else None, detail)
    older = [state.connection for state in states if not state.current]
    detail = f"{len(states)} connection(s), encrypted with the key {settings.keys[0].id}"
    if older:
        detail += f", but not yet {', '.join(older)}: run `gateway tokens rotate`"
    return Finding("tokens", True, detail)


async def check_redis(settings: RedisSettings | None) -> Finding:
    """Where the processes share the vendors' limits."""
    if settings is None:
        return Finding("redis", None, "not configured; each process keeps to the vendors' limits by itself")
    from sources.transport.shared import RedisAway, ping

    try:
        await ping(settings.url, min(settings.patience, PROBE_SECONDS))
    except RedisAway as error:
        return Finding("redis", False, f"{error}; see [redis] url")
    return Finding("redis", True, f"reachable; shared by at most {settings.replicas} process(es)")


async def check_telemetry(settings: Telemetry) -> Finding:
    """The collector of traces: it is sent an empty batch."""
    if not settings.endpoint:
        return Finding("telemetry", None, "not configured; no trace leaves the process")
    # It takes a quarter of a second to load.
    from gateway.otlp import address, refusal

    place = address(settings.endpoint)
    hurried = msgspec.structs.replace(settings, timeout=min(settings.timeout, PROBE_SECONDS))
    if (why := await refusal(hurried)) is not None:
        return Finding("telemetry", False, f"{place} takes no traces ({why}); see [telemetry]")
    return Finding("telemetry", True, f"{place} takes traces, of {settings.sample_ratio:.0%} of requests")


async def check_running(public_url: str) -> Finding:
    """What the gateway that serves at this address says of its sources."""
    try:
        async with (
            asyncio.timeout(PROBE_SECONDS),
            aiohttp.ClientSession() as session,
            session.get(f"{public_url.rstrip('/')}/health/ready", allow_redirects=False) as response,
        ):
            ready = msgspec.json.decode(await response.read(), type=_Ready)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError):
        return Finding("serving", None, f"no gateway answers at {public_url}")
    if ready.degraded or ready.status != "ready":
        troubles = [f"{source}: {trouble}" for source, trouble in sorted(ready.degraded.items())]
        return Finding("serving", False, f"{public_url}: {', '.join([ready.status, *troubles])}")
    return Finding("serving", True, f"{public_url}: ready, all sources well")


async def check_mail(mail: Mail | None) -> Finding:
    """The mail server: connects and signs in; no mail is sent."""
    if mail is None:
        return Finding("mail", None, "not configured; invitations are links to pass on")
    place = f"{mail.host}:{mail.port}"
    try:
        await Smtp(server_of(mail)).probe(min(mail.timeout, PROBE_SECONDS))
    except MailNotTaken as error:
        return Finding(
            "mail", False, f"{place} does not let us in ({error}); see [mail] host, encryption, username"
        )
    return Finding("mail", True, f"{place}, {mail.encryption.value}")


async def check_issuers(settings: SignInSettings) -> list[Finding]:
    """Each issuer: what it says of itself, its keys, and whether it tells us of tokens that only it can read."""
    issuers = Issuers(settings.issuers)
    introspection = Introspection(issuers)
    try:
        return [
            await _check_issuer(issuer, introspection, f"signin.issuers[{number}]", settings.sessions)
            for number, issuer in enumerate(issuers)
        ]
    finally:
        await introspection.close()


async def _check_issuer(
    issuer: Issuer, introspection: Introspection, place: str, sessions: SessionSettings | None
) -> Finding:
    name, settings = issuer.settings.issuer, issuer.settings
    try:
        keys = await issuer.keys.for_key(None)
        document = await issuer.document()
    except SignInRefused:
        why = issuer.keys.refusal
        return Finding(
            "signin", False, f"{name}: no keys: {why}; see {place}.issuer and {place}.discovery_url"
        )
    offered = document.id_token_signing_alg_values_supported
    if offered and set(offered).isdisjoint(settings.algorithms):
        return Finding("signin", False, f"{name}: it signs with {', '.join(offered)}; see {place}.algorithms")
    parts = [f"{len(keys.keys)} key(s)", f"believed for {' and '.join(settings.believed_for)}"]
    if settings.introspect:
        if why := await introspection.probe(issuer):
            return Finding(
                "signin", False, f"{name}: introspection: {why}; see {place}.client_id and .introspection_url"
            )
        parts.append("answers about tokens")
    if sessions and sessions.signs_in_with(settings):
        if not (document.authorization_endpoint and document.token_endpoint):
            return Finding(
                "signin", False, f"{name}: it signs nobody in with a browser; see signin.sessions.issuers"
            )
        parts.append("signs people in with a browser")
    return Finding("signin", True, f"{name}: {', '.join(parts)}")


async def _check(
    kind: Kind, table: Any, name: str, wiring: Wiring, environment: Mapping[str, str]
) -> Finding:
    place = f"sources.{kind.value}"
    if table is None:
        missing = f"not configured; add [{place}] to {name}"
        return Finding(kind.value, False if kind is Kind.CRM else None, missing)
    try:
        source = read_source(kind.value, table, name, environment)
    except SettingsError as error:
        return Finding(kind.value, False, f"not configured: {error}")
    try:
        port = source.row.connect(source.settings, wiring)
    except (ValueError, SourceError) as error:
        return Finding(kind.value, False, f"not configured: {error}; see {place} and [[fields]] in {name}")
    try:
        with deadline(PROBE_SECONDS):
            probe = await port.probe()
            lags = await port.mirror.lag() if wiring.mirrors and hasattr(port, "mirror") else ()
    except SourceRejected as error:
        return Finding(kind.value, False, f"reachable, not allowed: {error}; see {place} in {name}")
    except SourceUnavailable as error:
        return Finding(kind.value, False, f"not reachable: {error}; see the addresses in {place} in {name}")
    except SourceError as error:
        return Finding(kind.value, False, f"reachable, but {error}; see {place} in {name}")
    finally:
        await port.close()
    if not probe.allowed:
        return Finding(kind.value, False, f"reachable, not allowed: {probe.detail}; see {place} in {name}")
    said = f"{source.row.vendor}: configured, reachable, allowed: {probe.detail}"
    if incomplete := [lag.stream for lag in lags if lag.age is None]:
        said += f"; no complete copy of its {', '.join(incomplete)} yet: `gateway serve` makes one, or `gateway sync`"
    elif lags:
        said += "; copied " + ", ".join(f"{lag.rows} {lag.stream} {lag.age:.0f} s ago" for lag in lags)
    return Finding(kind.value, True, said)
