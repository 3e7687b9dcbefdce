"""gateway.toml and the environment become frozen settings; nothing else reads the environment.

Any value may be ``{ env = "NAME" }`` to come from the environment, which is where secrets belong.
"""

import base64
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway.scim.settings import ScimSettings
from gateway.scim.settings import faults as scim_faults
from gateway.signin.session_settings import session_faults
from gateway.signin.settings import SignInSettings, faults, is_address
from permissions.roles import RoleChange, RoleError, Roles
from permissions.scopes import SCOPES
from resolvers.own_fields import TYPES
from sources.layers.cache.lifetimes import Lifetimes
from sources.layers.matching import MatchingRules
from sources.ledger.token_cipher import KEY_BYTES, TokenKey
from sources.ports.common import Criterion, CustomField, Scalar
from sources.ports.service_accounts import KeyLifetime
from sources.registry import REGISTRY, Kind, Row, row
from sources.transport.smtp import Encryption

FIELD_KINDS = {"Account": Kind.CRM, "Contact": Kind.CRM, "Invoice": Kind.ERP, "Ticket": Kind.HELPDESK}
"""Which source an own field's property is read from."""


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and says what to write."""


class Door(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[gateway]``: the server itself."""

    deadline: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """Seconds in which a request is answered with what has arrived."""
    deadlines: dict[str, Annotated[float, msgspec.Meta(gt=0, le=60)]] = {}
    """The same for single operations, by their names."""
    priorities: dict[str, Literal["dashboard", "background"]] = {}
    """Operations whose calls to vendors come after the portals' pages, by their names."""
    public_url: str = ""
    """Where clients reach the gateway, for the links in answers; empty gives links without a host."""
    file_link_key: str | None = None
    """At least 32 characters, the same in all processes; None: made at start, for a single process."""
    file_link_seconds: Annotated[int, msgspec.Meta(ge=10, le=3600)] = 300
    graphiql: bool = True
    metrics: Literal["open", "staff", "off"] = "staff"
    """Who may GET /metrics: anybody who reaches it, the firm's staff, or nobody."""
    timezone: str = "UTC"
    """The firm's calendar, by its IANA name: what is overdue changes at its midnight."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks in front of the gateway whose X-Forwarded-For and X-Request-Id are believed; empty: none is."""


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[database]``: the gateway's own PostgreSQL."""

    url: str | None = None
    """None: the environment's DATABASE_URL; without that an embedded PostgreSQL in ``folder``."""
    folder: str = ".gateway/postgres"


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[audit]``: how the record of who read or changed what is kept."""

    key: str | None = None
    """At least 32 characters, the same in all processes: seals the records, so that who can write to the database cannot
    make up a chain that verifies. None: only changes by who does not know how the chain is made are found."""
    retired_keys: tuple[str, ...] = ()
    """Earlier ones, for verifying what they have sealed."""
    reads: Literal["required", "best-effort"] = "required"
    """When the database is away and the queue is full: are reads refused, or answered without a record?"""
    queue: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Records that wait for the database, at most."""


class Mail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[mail]``: the firm's mail server, for invitations."""

    host: str
    sender: str
    """The address that mails come from."""
    sender_name: str
    """The firm, as customers know it."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    encryption: Encryption = Encryption.STARTTLS
    username: str | None = None
    password: str | None = None
    certificates: str | None = None
    """A file of certificates to believe instead of the system's, for a server with one of the firm's own."""
    timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    """Seconds; never longer than the request may take."""


class Invitations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[invitations]``: how people join an organisation."""

    accept_url: str = ""
    """The portal's page that accepts an invitation, with ``{secret}`` where its secret goes."""
    days: Annotated[int, msgspec.Meta(ge=1, le=90)] = 7
    """How long one can be accepted."""
    require_verified_email: bool = False
    """Only people whose issuer says that their e-mail address is verified, and only the one that was invited."""


class ApiKeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[api_keys]``: how long the keys of service accounts last."""

    default_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 90
    """Where whoever makes one says nothing."""
    maximum_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 365

    @property
    def lifetime(self) -> KeyLifetime:
        """The same in time."""
        return KeyLifetime(timedelta(days=self.default_days), timedelta(days=self.maximum_days))


class Subscriptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[subscriptions]``: connections that stay open, WebSockets and event streams."""

    operations: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """At a time on one WebSocket."""
    connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    """Of one caller, in each process."""


class Logging(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[logging]``: what is written to standard error, one JSON object per line."""

    level: Literal["info", "warning", "error"] = "info"
    """The least that is written."""
    requests: Literal["off", "errors", "all"] = "errors"
    """Which requests have a line: none; those that a source or the gateway itself failed, and slow ones; or all."""
    slow_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 2.0
    """What takes longer is slow."""


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[telemetry]``: traces of requests, sent by OpenTelemetry's protocol."""

    endpoint: str = ""
    """The collector, by OTLP over HTTP; empty: no trace leaves the process."""
    sample_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    """Of requests whose caller does not say whether they are traced."""
    service_name: Annotated[str, msgspec.Meta(min_length=1)] = "backoffice-gateway"
    attributes: dict[str, str] = {}
    """Of the service, such as ``deployment.environment.name``."""
    headers: dict[str, str] = {}
    """Sent to the collector."""
    certificates: str | None = None
    """A file of certificates to believe instead of the system's."""
    timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """Seconds for one batch, retries included."""
    trusted_callers: tuple[str, ...] | None = None
    """Addresses or networks whose ``traceparent`` is continued; None: ``gateway.trusted_proxies``."""
    traceparent_to: tuple[str, ...] = ()
    """Vendors whose calls name the trace; nobody else is told of it."""


class Viewing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[viewing]``: staff who look at the graph as a customer's person sees it."""

    default_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 15
    max_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 60


class TokenKeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[tokens] keys``."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """What stored tokens remember it by."""
    key: str
    """32 bytes in base64, as ``gateway tokens key`` prints."""

    def __repr__(self) -> str:
        return f"TokenKeySettings({self.id!r})"


class TokenSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[tokens]``: what the stored tokens of vendors are encrypted with."""

    keys: tuple[TokenKeySettings, ...] = ()
    """The first encrypts, all decrypt. Needed where a source signs in by refresh tokens."""

    @property
    def usable(self) -> tuple[TokenKey, ...]:
        """As they are used. Raises ValueError for one that is none."""
        return tuple(TokenKey(one.id, base64.b64decode(one.key, validate=True)) for one in self.keys)


class Source(msgspec.Struct, frozen=True):
    """``[sources.<kind>]``: one connected system."""

    row: Row
    settings: msgspec.Struct
    matching: MatchingRules


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[redis]``: a Redis or Valkey, where several processes of the gateway share what vendors allow."""

    url: str
    cache: bool = True
    """Do the processes also share what they have read (``[cache]``)?"""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 4
    """How many processes there are at most: while Redis is away, each takes no more than its part."""
    patience: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.5
    """Seconds: a Redis that takes longer to answer counts as away."""


class Settings(msgspec.Struct, frozen=True):
    """All of it."""

    door: Door
    database: Database
    signin: SignInSettings
    sources: Mapping[Kind, Source]
    own_fields: tuple[CustomField, ...] = ()
    roles: Roles = Roles()
    audit: Audit = Audit()
    mail: Mail | None = None
    """None: no mails are sent; the inviting person passes the link on."""
    invitations: Invitations = Invitations()
    subscriptions: Subscriptions = Subscriptions()
    api_keys: ApiKeySettings = ApiKeySettings()
    scim: ScimSettings = ScimSettings()
    tokens: TokenSettings = TokenSettings()
    viewing: Viewing = Viewing()
    logging: Logging = Logging()
    cache: Lifetimes = Lifetimes()
    telemetry: Telemetry = Telemetry()
    redis: RedisSettings | None = None
    """None: this process is the only one, or the vendors' limits are divided among several by hand."""


class _Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[roles.<name>]``."""

    name: str | None = None
    label: str | None = None
    scopes: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None
    held_by: Literal["customers", "staff"] | None = msgspec.field(default=None, name="for")


class _OwnField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    name: str
    property: str
    scalar: str
    description: str
    scope: str | None = None
    values: dict[str, str] = {}


class _Matching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    criteria: tuple[Criterion, ...] | None = None
    shared_domains: tuple[str, ...] | None = None
    retry_unmatched_minutes: Annotated[float, msgspec.Meta(ge=0, le=525_600)] | None = None


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads a gateway.toml. Raises SettingsError with what to mend."""
    return read(load_tables(path), path.name, environment)


def load_tables(path: Path) -> dict[str, Any]:
    """The file as it stands, nothing checked but its syntax. Raises SettingsError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); give --config or GATEWAY_CONFIG"
        ) from error
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: {error}") from error


def read(tables: Mapping[str, Any], name: str, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in these tables. Raises SettingsError with what to mend."""
    known = {
        "gateway",
        "database",
        "signin",
        "audit",
        "mail",
        "invitations",
        "subscriptions",
        "api_keys",
        "scim",
        "tokens",
        "viewing",
        "logging",
        "redis",
        "cache",
        "telemetry",
        "roles",
        "sources",
        "fields",
    }
    for table in tables.keys() - known:
        raise SettingsError(f"{name}: [{table}] is unknown; there are {', '.join(sorted(known))}")
    database = read_database(tables, name, environment)
    door = read_door(tables, name, environment)
    roles = read_roles(tables, name, environment)
    signin = read_signin(tables, name, environment, roles)
    _require_sessions(signin, door.public_url, name)
    sources = {
        Kind(kind): read_source(kind, table, name, environment)
        for kind, table in _kinds(tables.get("sources", {}), name)
    }
    if Kind.CRM not in sources:
        raise SettingsError(f"{name}: [sources.crm] is missing; accounts come from the CRM")
    mail, invitations = read_mail(tables, name, environment)
    return Settings(
        door=door,
        database=database,
        signin=signin,
        sources=sources,
        own_fields=_own_fields(tables.get("fields", []), name, environment),
        audit=read_audit(tables, name, environment),
        mail=mail,
        invitations=invitations,
        subscriptions=_table(
            Subscriptions, tables.get("subscriptions", {}), "subscriptions", name, environment
        ),
        viewing=_viewing(tables, name, environment),
        logging=_table(Logging, tables.get("logging", {}), "logging", name, environment),
        telemetry=read_telemetry(tables, name, environment),
        redis=read_redis(tables, name, environment),
        cache=_table(Lifetimes, tables.get("cache", {}), "cache", name, environment),
        api_keys=_api_keys(tables, name, environment),
        scim=_scim(tables, name, environment, roles),
        tokens=read_tokens(tables, name, environment),
        roles=roles,
    )


def read_roles(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> Roles:
    """The built-in roles with the changes of ``[roles]``. Raises SettingsError with what to mend."""
    given = tables.get("roles", {})
    if not isinstance(given, dict) or not all(isinstance(table, dict) for table in given.values()):
        raise SettingsError(f"{name}: roles: write each role as a table, [roles.standard]")
    changes: dict[str, RoleChange] = {}
    for role, table in given.items():
        stated: _Role = _table(_Role, table, f"roles.{role}", name, environment)
        changes[role] = RoleChange(stated.name, stated.label, stated.scopes, stated.without, stated.held_by)
    try:
        return Roles().changed(changes)
    except RoleError as error:
        raise SettingsError(f"{name}: roles.{error}") from None


def _api_keys(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> ApiKeySettings:
    keys: ApiKeySettings = _table(ApiKeySettings, tables.get("api_keys", {}), "api_keys", name, environment)
    if keys.default_days > keys.maximum_days:
        raise SettingsError(f"{name}: api_keys.default_days: at most maximum_days, {keys.maximum_days}")
    return keys


def _scim(tables: Mapping[str, Any], name: str, environment: Mapping[str, str], roles: Roles) -> ScimSettings:
    scim: ScimSettings = _table(ScimSettings, tables.get("scim", {}), "scim", name, environment)
    for fault in scim_faults(scim, roles):
        raise SettingsError(f"{name}: {fault}")
    return scim


def _viewing(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> Viewing:
    viewing: Viewing = _table(Viewing, tables.get("viewing", {}), "viewing", name, environment)
    if viewing.default_minutes > viewing.max_minutes:
        raise SettingsError(f"{name}: viewing.default_minutes: no more than max_minutes")
    return viewing


def read_mail(
    tables: Mapping[str, Any], name: str, environment: Mapping[str, str]
) -> tuple[Mail | None, Invitations]:
    """How mails are sent, None where they are not, and what is in them; also when other tables are wrong. Raises
    SettingsError with what to mend."""
    invitations: Invitations = _table(
        Invitations, tables.get("invitations", {}), "invitations", name, environment
    )
    url = invitations.accept_url
    if url:
        _require_address(url, "invitations.accept_url", name)
        if "{secret}" not in url:
            raise SettingsError(
                f"{name}: invitations.accept_url: write {{secret}} where the secret goes, best behind a # "
                "so that no log holds it: https://portal.example/join#{secret}"
            )
    if "mail" not in tables:
        return None, invitations
    mail: Mail = _table(Mail, tables["mail"], "mail", name, environment)
    if not url:
        raise SettingsError(
            f"{name}: invitations.accept_url: [mail] sends invitations; name the portal's page that accepts them, "
            "such as https://portal.example/join#{secret}"
        )
    if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", mail.sender):
        raise SettingsError(
            f"{name}: mail.sender: an e-mail address alone, such as portal@firm.example; "
            "the name goes to sender_name"
        )
    if (mail.username is None) != (mail.password is None):
        raise SettingsError(f"{name}: mail: write both username and password, or neither")
    if mail.username is not None and mail.encryption is Encryption.NONE:
        raise SettingsError(f'{name}: mail.encryption: a password is sent only over "starttls" or "tls"')
    if mail.certificates is not None and not Path(mail.certificates).is_file():
        raise SettingsError(f"{name}: mail.certificates: there is no file {mail.certificates}")
    return mail, invitations


def read_database(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> Database:
    """Where the ledger is, also when other tables are wrong. Raises SettingsError with what to mend."""
    database: Database = _table(Database, tables.get("database", {}), "database", name, environment)
    place = "database.url"
    if database.url is None and environment.get("DATABASE_URL"):
        database = msgspec.structs.replace(database, url=environment["DATABASE_URL"])
        place = "environment variable DATABASE_URL"
    if database.url is not None and not re.match(r"postgres(ql)?(\+asyncpg)?://", database.url):
        raise SettingsError(f"{name}: {place}: begin with postgresql://")
    return database


def read_tokens(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> TokenSettings:
    """What vendors' tokens are encrypted with. Raises SettingsError with what to mend."""
    tokens: TokenSettings = _table(TokenSettings, tables.get("tokens", {}), "tokens", name, environment)
    ids = [one.id for one in tokens.keys]
    for place, key in enumerate(tokens.keys):
        if ids.index(key.id) != place:
            raise SettingsError(f"{name}: tokens.keys[{place}].id: {key.id!r} is there twice")
        try:
            fits = len(base64.b64decode(key.key, validate=True)) == KEY_BYTES
        except ValueError:
            fits = False
        if not fits:
            raise SettingsError(
                f"{name}: tokens.keys[{place}].key: {KEY_BYTES} bytes in base64; `gateway tokens key` makes one"
            )
    return tokens


def read_audit(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> Audit:
    """How the audit trail is sealed and kept. Raises SettingsError with what to mend."""
    audit: Audit = _table(Audit, tables.get("audit", {}), "audit", name, environment)
    if audit.key is not None and len(audit.key) < 32:
        raise SettingsError(f"{name}: audit.key: at least 32 characters")
    return audit


def read_signin(
    tables: Mapping[str, Any], name: str, environment: Mapping[str, str], roles: Roles | None = None
) -> SignInSettings:
    """Whom the gateway believes. Raises SettingsError with what to mend."""
    table = tables.get("signin")
    if not isinstance(table, dict) or not isinstance(table.get("issuers"), list):
        raise SettingsError(
            f"{name}: [signin] names nobody to believe; write [[signin.issuers]] with issuer and audience"
        )
    signin: SignInSettings = _table(SignInSettings, table, "signin", name, environment)
    for fault in faults(signin, roles or read_roles(tables, name, environment)):
        raise SettingsError(f"{name}: {fault}")
    return signin


def _require_sessions(signin: SignInSettings, public_url: str, name: str) -> None:
    for fault in session_faults(signin.sessions, signin.issuers, public_url) if signin.sessions else ():
        raise SettingsError(f"{name}: {fault}")


def read_door(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> Door:
    """The server itself. Raises SettingsError with what to mend."""
    door: Door = _table(Door, tables.get("gateway", {}), "gateway", name, environment)
    if door.public_url:
        _require_address(door.public_url, "gateway.public_url", name)
    if door.file_link_key is not None and len(door.file_link_key) < 32:
        raise SettingsError(f"{name}: gateway.file_link_key: at least 32 characters")
    try:
        ZoneInfo(door.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SettingsError(
            f"{name}: gateway.timezone: {door.timezone!r} is unknown; write it as Europe/London"
        ) from None
    for network in door.trusted_proxies:
        _require_network(network, "gateway.trusted_proxies", name)
    return door


def read_redis(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> RedisSettings | None:
    """Where processes meet. Raises SettingsError with what to mend."""
    if "redis" not in tables:
        return None
    settings: RedisSettings = _table(RedisSettings, tables["redis"], "redis", name, environment)
    if not settings.url.startswith(("redis://", "rediss://", "unix://")):
        raise SettingsError(f"{name}: redis.url: begin with redis://, rediss:// or unix://")
    return settings


def read_telemetry(tables: Mapping[str, Any], name: str, environment: Mapping[str, str]) -> Telemetry:
    """Where traces go. Raises SettingsError with what to mend."""
    settings: Telemetry = _table(Telemetry, tables.get("telemetry", {}), "telemetry", name, environment)
    if settings.endpoint and not re.match(r"https?://[^/]", settings.endpoint):
        raise SettingsError(f"{name}: telemetry.endpoint: an address such as http://collector:4318")
    if settings.certificates is not None and not Path(settings.certificates).is_file():
        raise SettingsError(f"{name}: telemetry.certificates: there is no file {settings.certificates}")
    for network in settings.trusted_callers or ():
        _require_network(network, "telemetry.trusted_callers", name)
    vendors = {row.vendor for row in REGISTRY}
    for vendor in settings.traceparent_to:
        if vendor not in vendors:
            known = ", ".join(sorted(vendors))
            raise SettingsError(f"{name}: telemetry.traceparent_to: {vendor!r} is unknown; there are {known}")
    return settings


def _require_network(network: str, place: str, name: str) -> None:
    try:
        ip_network(network)
    except ValueError:
        raise SettingsError(
            f"{name}: {place}: {network!r}: an address or network, such as 10.0.0.0/8"
        ) from None


def _require_address(address: str, place: str, name: str) -> None:
    if not is_address(address):
        raise SettingsError(f"{name}: {place}: an address that begins with https://")


def _own_fields(tables: Any, name: str, environment: Mapping[str, str]) -> tuple[CustomField, ...]:
    if not isinstance(tables, list):
        raise SettingsError(f"{name}: fields: write each field under [[fields]], in double brackets")
    fields: dict[tuple[str, str], CustomField] = {}
    for number, table in enumerate(tables):
        field = _own_field(table, f"fields[{number}]", name, environment)
        if (field.type, field.name) in fields:
            raise SettingsError(f"{name}: fields[{number}].name: {field.type}.{field.name} is declared twice")
        fields[field.type, field.name] = field
    return tuple(fields.values())


def _kinds(tables: Any, name: str) -> list[tuple[str, Any]]:
    if not isinstance(tables, dict):
        raise SettingsError(f"{name}: sources: write [sources.crm] and the like")
    kinds = {kind.value for kind in Kind}
    for kind in tables.keys() - kinds:
        raise SettingsError(f"{name}: sources.{kind}: unknown; there are {', '.join(sorted(kinds))}")
    return list(tables.items())


def read_source(kind: str, table: Any, name: str, environment: Mapping[str, str]) -> Source:
    """One ``[sources.<kind>]``. Raises SettingsError with what to mend."""
    place = f"sources.{kind}"
    if not isinstance(table, dict) or "vendor" not in table:
        raise SettingsError(f"{name}: {place}.vendor: name the vendor: {_vendors(Kind(kind))}")
    rest = dict(table)
    vendor = rest.pop("vendor")
    matching = _table(_Matching, rest.pop("matching", {}), f"{place}.matching", name, environment)
    try:
        found = row(Kind(kind), vendor)
    except KeyError:
        raise SettingsError(
            f"{name}: {place}.vendor: {vendor!r} is unknown; there are {_vendors(Kind(kind))}"
        ) from None
    default = MatchingRules(criteria=(Criterion.NUMBER,)) if Kind(kind) is Kind.DOCUMENTS else MatchingRules()
    minutes = matching.retry_unmatched_minutes
    return Source(
        found,
        _table(found.settings, rest, place, name, environment),
        MatchingRules(
            criteria=default.criteria if matching.criteria is None else matching.criteria,
            shared_domains=default.shared_domains
            | frozenset(d.lower() for d in matching.shared_domains or ()),
            retry_unmatched=default.retry_unmatched if minutes is None else timedelta(minutes=minutes),
        ),
    )


def _vendors(kind: Kind) -> str:
    return ", ".join(candidate.vendor for candidate in REGISTRY if candidate.kind is kind)


def _own_field(table: Any, place: str, name: str, environment: Mapping[str, str]) -> CustomField:
    field = _table(_OwnField, table, place, name, environment)
    if field.type not in TYPES:
        raise SettingsError(f"{name}: {place}.type: one of {', '.join(sorted(TYPES))}")
    if not re.fullmatch(r"[a-z][A-Za-z0-9]*", field.name):
        raise SettingsError(f"{name}: {place}.name: a GraphQL name in camelCase, such as renewalDate")
    try:
        scalar = Scalar(field.scalar)
    except ValueError:
        known = ", ".join(scalar.value for scalar in Scalar)
        raise SettingsError(f"{name}: {place}.scalar: one of {known}") from None
    if (scalar is Scalar.ENUM) != bool(field.values):
        raise SettingsError(
            f'{name}: {place}.values: an Enum, and only an Enum, lists its values: {{ gold = "GOLD" }}'
        )
    for value in field.values.values():
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", value) or value == "UNKNOWN":
            raise SettingsError(f"{name}: {place}.values: {value!r}: capital letters, and not UNKNOWN")
    if field.scope is not None and field.scope not in SCOPES:
        raise SettingsError(
            f"{name}: {place}.scope: {field.scope!r} is unknown; there are {', '.join(sorted(SCOPES))}"
        )
    return CustomField(
        field.type,
        field.name,
        field.property,
        scalar,
        field.description,
        field.scope,
        tuple(field.values.items()),
    )


def _table(type_: Any, table: Any, place: str, name: str, environment: Mapping[str, str]) -> Any:
    try:
        return msgspec.convert(_resolved(table, place, name, environment), type_)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise SettingsError(f"{name}: {place}{where.rstrip('`')}: {reason}") from error


def _resolved(value: Any, place: str, name: str, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"env"}:
            variable = value["env"]
            if not environment.get(variable):
                raise SettingsError(f"{name}: {place}: environment variable {variable} is not set")
            return environment[variable]
        return {key: _resolved(inner, f"{place}.{key}", name, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, f"{place}[{i}]", name, environment) for i, inner in enumerate(value)]
    return value
