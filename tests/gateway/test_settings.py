"""gateway.toml: what is wrong is said with the file, the setting and what to write; nothing secret is repeated."""

import base64
import re
from pathlib import Path

import pytest

from gateway.settings import SettingsError, load
from permissions.scopes import SCOPES
from resolvers.schema import build_schema
from sources.ledger.book import Ledger
from sources.ports.common import Criterion, CustomField
from sources.registry import Kind
from sources.transport.smtp import Encryption
from sources.transport.wiring import Wiring

EXAMPLE = Path(__file__).parents[2] / "gateway.example.toml"
ADDRESSES = {
    "GATEWAY_DATABASE_URL": "postgresql://gateway@db/ledger",
    "COLLECTOR_TOKEN": "Bearer collector",
    "REDIS_URL": "redis://redis/0",
    "TOKEN_KEY": base64.b64encode(b"k" * 32).decode(),
}

BASE = """
[[signin.issuers]]
issuer = "https://login.example"
audience = "gateway"

[sources.crm]
vendor = "hubspot"
token = { env = "HUBSPOT_TOKEN" }
"""

ENVIRONMENT = {"HUBSPOT_TOKEN": "pat-very-secret"}


def read(folder: Path, text: str, environment: dict[str, str] | None = None):  # type: ignore[no-untyped-def]
    path = folder / "gateway.toml"
    path.write_text(text)
    return load(path, ENVIRONMENT if environment is None else environment)


ISSUER = '\n[[signin.issuers]]\nissuer = "https://login.example"\naudience = "gateway"\n'
INTROSPECT = 'introspect = true\nclient_id = "x"\nclient_secret = "x"\n'


MAIL = """
[mail]
host = "smtp.example"
sender = "portal@firm.example"
sender_name = "The Firm"
[invitations]
accept_url = "https://portal.example/join#{secret}"
"""


def issuer(lines: str) -> str:
    return BASE.replace("[[signin.issuers]]", f"[[signin.issuers]]\n{lines}")


def own_field(**changes: str) -> str:
    lines = {
        "type": '"Account"', "name": '"renewalDate"', "property": '"renewal_date"', "scalar": '"Date"',
        "description": '"x"',
    } | changes  # fmt: skip
    return BASE + "[[fields]]\n" + "\n".join(f"{name} = {value}" for name, value in lines.items() if value)


WRONG = {
    "no TOML": ("[signin", "gateway.toml: "),
    "a short key of the audit trail": (BASE + "[audit]\nkey = 'short'", "audit.key: at least 32 characters"),
    "a choice about reads that there is not": (BASE + "[audit]\nreads = 'never'", "audit.reads: "),
    "a proxy that is no network": (
        BASE + "[gateway]\ntrusted_proxies = ['proxy.example']",
        "gateway.trusted_proxies: 'proxy.example': an address or network, such as 10.0.0.0/8",
    ),
    "unknown table": (BASE + "[sorces]", "[sorces] is unknown; there are "),
    "no signin": (
        "[sources.crm]\nvendor='hubspot'\ntoken='x'",
        "[signin] names nobody to believe; write [[signin.issuers]] with issuer and audience",
    ),
    "an issuer in [signin] itself": (
        BASE.replace("[[signin.issuers]]", "[signin]"),
        "[signin] names nobody to believe; write [[signin.issuers]] with issuer and audience",
    ),
    "an invitation's page without a place for the secret": (
        BASE + "[invitations]\naccept_url='https://portal.example/join'", "invitations.accept_url: write {secret} where",
    ),
    "an invitation's page that is no address": (
        BASE + "[invitations]\naccept_url='/join#{secret}'", "invitations.accept_url: an address that begins with https://",
    ),
    "invitations for ever": (BASE + "[invitations]\ndays=365", "invitations.days: Expected `int` <= 90"),
    "mails that lead nowhere": (
        BASE + MAIL.partition("[invitations]")[0], "invitations.accept_url: [mail] sends invitations; name the portal's page",
    ),
    "a sender with a name": (
        BASE + MAIL.replace("portal@firm.example", "The Firm <portal@firm.example>"), "mail.sender: an e-mail address alone",
    ),
    "a mail server's password in the clear": (
        BASE + MAIL.replace("[mail]", "[mail]\nusername='u'\npassword='p'\nencryption='none'"),
        'mail.encryption: a password is sent only over "starttls" or "tls"',
    ),
    "half a login at the mail server": (
        BASE + MAIL.replace("[mail]", "[mail]\nusername='u'"), "mail: write both username and password, or neither",
    ),
    "an encryption that is none": (
        BASE + MAIL.replace("[mail]", "[mail]\nencryption='ssl'"), "mail.encryption: Invalid enum value 'ssl'",
    ),
    "certificates that are not there": (
        BASE + MAIL.replace("[mail]", "[mail]\ncertificates='/nowhere.pem'"), "mail.certificates: there is no file /nowhere.pem",
    ),
    "no issuer at all": (
        "signin.issuers = []\n[sources.crm]\nvendor='hubspot'\ntoken='x'", "signin.issuers: name at least one issuer",
    ),
    "no audience": (
        BASE.replace('audience = "gateway"', ""), "signin.issuers[0]: Object missing required field `audience`",
    ),
    "empty audience": (BASE.replace('"gateway"', '""'), "signin.issuers[0].audience: "),
    "an empty audience among others": (BASE.replace('"gateway"', '["gateway", ""]'), "signin.issuers[0].audience: "),
    "issuer without scheme": (
        BASE.replace("https://", ""), "signin.issuers[0].issuer: an address that begins with https://",
    ),
    "a secret shared with the issuer": (
        issuer('algorithms = ["HS256"]'), "signin.issuers[0].algorithms: 'HS256' cannot be used; there are RS256",
    ),
    "alg none": (issuer('algorithms = ["RS256", "none"]'), "signin.issuers[0].algorithms: 'none'"),
    "no algorithm": (issuer("algorithms = []"), "signin.issuers[0].algorithms: "),
    "a role that is none": (
        issuer('role_names = { boss = "ownr" }'),
        "signin.issuers[0].role_names.boss: 'ownr' is unknown; there are admin, finance",
    ),
    "a group's role that is none": (
        issuer('group_roles = { bosses = ["owner", "ownr"] }'), "signin.issuers[0].group_roles.bosses: 'ownr' is unknown",
    ),
    "a role of staff by a customers' issuer": (
        issuer('group_roles = { agents = "support" }'),
        "signin.issuers[0].group_roles.agents: 'support' is a role of staff, for whom this issuer is not believed;"
        " see signin.issuers[0].believed_for",
    ),
    "believed for nobody": (issuer("believed_for = []"), 'signin.issuers[0].believed_for: "customers", "staff" or both'),
    "believed for anybody": (issuer('believed_for = ["all"]'), "signin.issuers[0].believed_for[0]: Invalid enum value 'all'"),
    "nobody's subject": (issuer("subject_claims = []"), "signin.issuers[0].subject_claims: such as"),
    "every tenant there is": (
        BASE.replace("https://login.example", "https://login.example/{tenantid}/v2.0"),
        "signin.issuers[0].tenants: list those who are customers; anybody can have a tenant",
    ),
    "organisations twice": (
        issuer('organisations = ["a"]\ntenant_organisations = { t = "a" }'),
        "signin.issuers[0].organisations: leave it out, or tenant_organisations",
    ),
    "introspection as nobody": (issuer("introspect = true"), "signin.issuers[0].introspect: takes client_id and client_secret"),
    "introspection nowhere": (issuer('introspection_url = "login.example"'), "signin.issuers[0].introspection_url: an address"),
    "the same issuer twice": (BASE + ISSUER, "signin.issuers[1]: https://login.example is signin.issuers[0], too"),
    "an alias that is another": (
        BASE + ISSUER.replace("login.example", "b.example") + 'aliases = ["https://login.example"]',
        "signin.issuers[1]: https://login.example is signin.issuers[0], too; each issuer stands once",
    ),
    "a token shown to two issuers": (
        issuer(INTROSPECT) + ISSUER.replace("login.example", "b.example") + INTROSPECT,
        "signin.issuers[1].opaque_prefix: is signin.issuers[0]'s, too; a token must not be shown to two issuers",
    ),
    "a demand for nothing": (BASE + "[[signin.demands]]", "signin.demands[0]: say what it demands: acr, amr or max_age"),
    "a demand nowhere": (BASE + "[[signin.demands]]\nroute='graphql'\nacr=['a']", "signin.demands[0].route: "),
    "a demand of nobody": (BASE + "[[signin.demands]]\ncallers=[]\nacr=['a']", "signin.demands[0].callers: "),
    "a demand with quotes": (BASE + "[[signin.demands]]\nacr=['a\"b']", "signin.demands[0].acr: "),
    "a demand in small letters": (BASE + "[[signin.demands]]\nmethods=['post']\nacr=['a']", "signin.demands[0].methods: "),
    "a demand of files' mutations": (
        BASE + "[[signin.demands]]\nroute='/files'\noperations=['mutation']\nmax_age=60", "signin.demands[0].operations: ",
    ),
    "a demand of no age": (BASE + "[[signin.demands]]\nmax_age=0", "signin.demands[0].max_age: Expected `int` >= 1"),
    "unknown key": (issuer("isuer = 'x'"), "signin.issuers[0]: Object contains unknown field `isuer`"),
    "unknown key of signin": (BASE + "[signin.demandz]\nx = 1", "signin: Object contains unknown field `demandz`"),
    "no CRM": (BASE.partition("[sources")[0], "[sources.crm] is missing"),
    "sources no table": ("sources = 5\n" + BASE.partition("[sources")[0], "sources: write [sources.crm] and the like"),
    "unknown kind": (BASE + "[sources.erb]\nvendor='xero'", "sources.erb: unknown; there are crm, documents, erp, helpdesk"),
    "no vendor": (BASE + "[sources.erp]\nclient_id='x'", "sources.erp.vendor: name the vendor: xero"),
    "unknown vendor": (BASE + "[sources.erp]\nvendor='sage'", "sources.erp.vendor: 'sage' is unknown; there are xero"),
    "a vendor of another kind": (BASE + "[sources.erp]\nvendor='hubspot'", "sources.erp.vendor: 'hubspot' is unknown"),
    "missing credential": (BASE + "[sources.erp]\nvendor='xero'\nclient_id='x'", "sources.erp: Object missing required field `client_secret`"),
    "unknown option": (BASE + "tokn='pat-very-secret'", "sources.crm: Object contains unknown field `tokn`"),
    "no credential": (BASE.replace('token = { env = "HUBSPOT_TOKEN" }', ""), "sources.crm: set token, or all of client_id, client_secret and refresh_token"),
    "two credentials": (BASE + "client_id='x'", "sources.crm: set token, or client_id, client_secret and refresh_token, not both"),
    "half a credential": (
        BASE + "[sources.helpdesk]\nvendor='zendesk'\nbase_url='https://x.zendesk.com'\nemail='a@b.c'",
        "sources.helpdesk: email and api_token belong together",
    ),
    "wrong type": (BASE + "parallel='many'", "sources.crm.parallel: Expected `int`, got `str`"),
    "out of range": (BASE + "batch_size=500", "sources.crm.batch_size: Expected `int` <= 100"),
    "wrong folder": (
        BASE + "[sources.documents]\nvendor='s3'\nbucket='abc'\nregion='eu-west-2'\nfolder='accounts/'",
        "sources.documents: folder must hold {number} once",
    ),
    "unknown criterion": (BASE + "[sources.crm.matching]\ncriteria=['name']", "sources.crm.matching.criteria[0]: Invalid enum value 'name'"),
    "endless retry": (BASE + "[sources.crm.matching]\nretry_unmatched_minutes=inf", "sources.crm.matching.retry_unmatched_minutes: "),
    "retry of nothing": (BASE + "[sources.crm.matching]\nretry_unmatched_minutes=nan", "sources.crm.matching.retry_unmatched_minutes: "),
    "retry before now": (BASE + "[sources.crm.matching]\nretry_unmatched_minutes=-1", "sources.crm.matching.retry_unmatched_minutes: "),
    "no deadline": (BASE + "[gateway]\ndeadline=0", "gateway.deadline: Expected `float` > 0"),
    "deadline of nothing": (BASE + "[gateway]\ndeadline=nan", "gateway.deadline: "),
    "long links": (BASE + "[gateway]\nfile_link_seconds=86400", "gateway.file_link_seconds: Expected `int` <= 3600"),
    "short links": (BASE + "[gateway]\nfile_link_seconds=1", "gateway.file_link_seconds: Expected `int` >= 10"),
    "short key": (BASE + "[gateway]\nfile_link_key='hush'", "gateway.file_link_key: at least 32 characters"),
    "unknown zone": (BASE + "[gateway]\ntimezone='London'", "gateway.timezone: 'London' is unknown; write it as Europe/London"),
    "climbing zone": (BASE + "[gateway]\ntimezone='../../etc/passwd'", "gateway.timezone: "),
    "public url without scheme": (BASE + "[gateway]\npublic_url='portal.example'", "gateway.public_url: an address that begins with https://"),
    "another cache": (BASE + "[redis]\nurl='http://redis:6379'", "redis.url: begin with redis://"),
    "no collector": (BASE + "[telemetry]\nendpoint='collector:4318'", "telemetry.endpoint: an address such as"),
    "a ratio above one": (BASE + "[telemetry]\nsample_ratio=1.5", "telemetry.sample_ratio: "),
    "no caller": (BASE + "[telemetry]\ntrusted_callers=['proxy']", "telemetry.trusted_callers: 'proxy': an address or"),
    "a vendor that is told": (BASE + "[telemetry]\ntraceparent_to=['sap']", "telemetry.traceparent_to: 'sap' is unknown; there are"),
    "no authorities": (BASE + "[telemetry]\ncertificates='none.pem'", "telemetry.certificates: there is no file none.pem"),
    "too many replicas": (BASE + "[redis]\nurl='redis://redis'\nreplicas=0", "redis.replicas: "),
    "a deadline of no time": (BASE + "[gateway.deadlines]\nHome=0", "gateway.deadlines"),
    "an unknown priority": (BASE + "[gateway.priorities]\nHome='urgent'", "gateway.priorities"),
    "a share of nothing": (BASE + "background_share=0", "sources.crm.background_share: "),
    "another database": (BASE + "[database]\nurl='mysql://root:hush@db/x'", "database.url: begin with postgresql://"),
    "fields in single brackets": (BASE + "[fields]\ntype='Account'", "fields: write each field under [[fields]], in double brackets"),
    "fields a number": ("fields = 5\n" + BASE, "fields: write each field under [[fields]], in double brackets"),
    "a field of nothing": (own_field(type='"Money"'), "fields[0].type: one of Account, Contact, Invoice, Ticket"),
    "a field with a bad name": (own_field(name='"renewal-date"'), "fields[0].name: a GraphQL name in camelCase"),
    "a field of no scalar": (own_field(scalar='"Money"'), "fields[0].scalar: one of String, Int, Float"),
    "an enum without values": (own_field(scalar='"Enum"'), "fields[0].values: an Enum, and only an Enum"),
    "values without an enum": (own_field(values='{ a = "A" }'), "fields[0].values: an Enum, and only an Enum"),
    "small letters": (own_field(scalar='"Enum"', values='{ a = "gold" }'), "fields[0].values: 'gold': capital letters"),
    "unknown scope": (own_field(scope='"contracts:read"'), f"fields[0].scope: 'contracts:read' is unknown; there are {sorted(SCOPES)[0]}"),
    "a field without description": (own_field(description=""), "fields[0]: Object missing required field `description`"),
    "a field twice": (own_field() + "\n[[fields]]" + own_field().partition("[[fields]]")[2], "fields[1].name: Account.renewalDate is declared twice"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_setting_is_named_with_its_file_and_what_to_write(tmp_path: Path, what: str) -> None:
    text, message = WRONG[what]

    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)

    said = str(caught.value)
    assert said.startswith("gateway.toml: ")
    assert message in said
    assert not re.search("secret|hush|pat-", re.sub(r"client_secret|\{secret\}|the secret", "", said))
    assert "\n" not in said


@pytest.mark.parametrize("environment", [{}, {"HUBSPOT_TOKEN": ""}])
def test_a_missing_environment_variable_is_named_with_the_setting_that_wants_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, BASE, environment)

    assert str(caught.value) == (
        "gateway.toml: sources.crm.token: environment variable HUBSPOT_TOKEN is not set"
    )


def test_a_file_that_is_not_there_is_named_with_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read .*--config or GATEWAY_CONFIG"):
        load(tmp_path / "nowhere.toml", {})


def test_a_database_address_may_come_from_the_environment_alone(tmp_path: Path) -> None:
    url = "postgresql://gateway@db/ledger"
    assert read(tmp_path, BASE, ENVIRONMENT | {"DATABASE_URL": url}).database.url == url
    assert (
        read(tmp_path, BASE + f"[database]\nurl='{url}'", ENVIRONMENT | {"DATABASE_URL": "x"}).database.url
        == url
    )
    with pytest.raises(SettingsError, match="environment variable DATABASE_URL: begin with postgresql://"):
        read(tmp_path, BASE, ENVIRONMENT | {"DATABASE_URL": "sqlite:///hush"})


def test_the_smallest_file_that_works_has_a_crm_and_an_issuer(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE)

    assert set(settings.sources) == {Kind.CRM}
    assert settings.door.deadline == 5.0
    assert settings.sources[Kind.CRM].settings.base_url == "https://api.hubapi.com"  # type: ignore[attr-defined]


def test_mails_are_encrypted_unless_said_otherwise_and_none_are_sent_without_the_table(
    tmp_path: Path,
) -> None:
    given = read(tmp_path, BASE + MAIL)
    assert given.mail is not None
    assert (given.mail.encryption, given.mail.port, given.invitations.days) == (Encryption.STARTTLS, 587, 7)
    assert read(tmp_path, BASE).mail is None


def test_domains_that_are_shared_are_added_to_the_known_ones(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE + "[sources.crm.matching]\nshared_domains=['Accountants.Example']")

    shared = settings.sources[Kind.CRM].matching.shared_domains
    assert {"accountants.example", "gmail.com", "t-online.de"} <= shared


# -- the annotated example -----------------------------------------------------------------------------------------------


def example(*alternatives: str) -> str:
    """The example with alternative (b) of these sources in place of (a)."""
    text = EXAMPLE.read_text()
    for source in alternatives:
        before, head, rest = text.partition(f"[sources.{source}]\n")
        table, mark, after = re.match(r"(.*?)(\n\[|\n# --)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
        lines, part = [], ""
        for line in table.splitlines():
            if found := re.match(r"# \(([ab])\)", line):
                part = found[1]
            elif not line:
                part = ""
            elif part == "a":
                line = f"# {line}"
            elif part == "b":
                line = line.removeprefix("# ")
            lines.append(line)
        text = before + head + "\n".join(lines) + mark + after
    return text


def load_example(folder: Path, text: str):  # type: ignore[no-untyped-def]
    environment = dict.fromkeys(re.findall(r'env = "(\w+)"', text), "x" * 40)
    return read(folder, text, environment | ADDRESSES)


def test_the_example_works_as_it_stands(tmp_path: Path) -> None:
    settings = load_example(tmp_path, example())

    assert set(settings.sources) == set(Kind)
    assert settings.sources[Kind.ERP].matching.criteria == tuple(Criterion)
    assert "accountants.example" in settings.sources[Kind.ERP].matching.shared_domains
    printed = build_schema(settings.own_fields).as_str()
    for field in ("renewalDate: Date", "tier: AccountTier", "region: String"):
        assert field in printed


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("crm", {"token": None, "client_id": "x" * 40}),
        ("erp", {"connected": True}),
        ("helpdesk", {"email": None, "connected": True}),
        ("documents", {"access_key_id": None, "path_style": True}),
    ],
)
def test_each_other_way_to_sign_in_works_too(tmp_path: Path, source: str, given: dict[str, object]) -> None:
    settings = load_example(tmp_path, example(source)).sources[Kind(source)].settings

    assert {name: getattr(settings, name) for name in given} == given


def test_how_long_viewings_last_and_how_much_stays_open_are_read(tmp_path: Path) -> None:
    settings = load_example(tmp_path, example())

    assert (settings.viewing.default_minutes, settings.viewing.max_minutes) == (15, 60)
    assert (settings.subscriptions.operations, settings.subscriptions.connections) == (20, 50)


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("max_minutes = 60", "max_minutes = 61", "viewing.max_minutes"),
        ("max_minutes = 60", "max_minutes = 10", "viewing.default_minutes: no more than max_minutes"),
        ("operations = 20", "operations = 0", "subscriptions.operations"),
        ("connections = 50", "connection = 50", "subscriptions"),
    ],
)
def test_viewings_and_subscriptions_that_make_no_sense_are_said_so(
    tmp_path: Path, line: str, instead: str, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        load_example(tmp_path, example().replace(line, instead))


async def test_the_examples_connectors_can_be_made(tmp_path: Path, ledger: Ledger) -> None:
    for text in (example(), example("crm", "erp", "helpdesk", "documents")):
        settings = load_example(tmp_path, text)
        for kind, source in settings.sources.items():
            own: tuple[CustomField, ...] = tuple(
                field for field in settings.own_fields
                if {"Account": Kind.CRM, "Ticket": Kind.HELPDESK}[field.type] is kind
            )  # fmt: skip
            port = source.row.connect(source.settings, Wiring(ledger.tokens, own))
            await port.close()


def test_the_example_shows_every_option_that_a_customers_data_depends_on() -> None:
    text = EXAMPLE.read_text()

    for word in (
        "hubspot",
        "xero",
        "zendesk",
        "s3",
        "organisations_claim",
        "roles_claim",
        "role_names",
        "shared_domains",
        "retry_unmatched_minutes",
        "declared",
        "[[fields]]",
        "file_link_key",
    ):
        assert word in text
