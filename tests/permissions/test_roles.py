"""Roles are bundles of scopes that gateway.toml may rename, narrow and add, never widen."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.settings import Settings, SettingsError, read
from permissions.principal import Principal
from permissions.roles import Roles
from permissions.scopes import SCOPES, SERVICE_SCOPES, STAFF_SCOPES

ROLES = Roles()
MINIMUM: Mapping[str, Any] = {
    "signin": {"issuers": [{"issuer": "https://login.example", "audience": "gateway"}]},
    "sources": {"crm": {"vendor": "hubspot", "token": "t"}},
}


def settings(**roles: Any) -> Settings:
    return read({**MINIMUM, "roles": roles}, "gateway.toml", {})


def refusal(**roles: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**roles)
    return str(caught.value)


def test_the_roles_that_buyers_expect_are_there() -> None:
    assert ROLES.of_customers == ("owner", "finance", "standard", "read-only", "partner")
    assert ROLES.of_staff == ("support", "finance-staff", "admin")
    assert ROLES.owner == "owner"


def test_no_customers_role_holds_a_scope_of_staff_and_no_role_one_of_services() -> None:
    for role in ROLES:
        assert role.scopes <= SCOPES.keys() - SERVICE_SCOPES, role.name
        assert role.held_by == "staff" or not role.scopes & STAFF_SCOPES, role.name


def test_read_only_changes_nothing() -> None:
    assert {scope.partition(":")[2] for scope in ROLES["read-only"].scopes} == {"read"}


def test_only_staff_see_all_customers_and_only_while_they_act_for_none() -> None:
    for role in ROLES:
        staff = Principal("x", None, None, (), role.scopes, None)
        assert staff.sees_all is (role.held_by == "staff")
        assert not Principal("x", None, None, (), role.scopes, "harbour").sees_all


def test_roles_add_up_and_unknown_ones_give_nothing() -> None:
    assert ROLES.scopes_of([]) == ROLES.scopes_of(["OWNER", "owners", "", "admin "]) == frozenset()
    for one, two in itertools.combinations(ROLES, 2):
        assert ROLES.scopes_of([one.name, two.name, "unknown"]) == one.scopes | two.scopes


def test_nobody_gives_a_role_that_holds_more_than_they_do() -> None:
    assert ROLES.grantable(ROLES["owner"].scopes) == set(ROLES.of_customers)
    assert ROLES.grantable(ROLES["standard"].scopes) == {"standard", "partner"}
    assert ROLES.grantable(frozenset()) == frozenset()


# -- [roles] ----------------------------------------------------------------------------------------------------------


def test_without_the_table_the_built_in_ones_are_there() -> None:
    plain = read(MINIMUM, "gateway.toml", {}).roles
    assert list(plain) == list(ROLES)


def test_a_role_is_renamed_narrowed_and_added() -> None:
    roles = settings(
        **{
            "owner": {"name": "principal", "label": "Principal"},
            "standard": {"without": ["contacts:read"]},
            "partner": {"scopes": ["accounts:read"]},
            "auditor": {"for": "customers", "scopes": ["invoices:read", "audit:read"]},
            "night-shift": {
                "for": "staff",
                "label": "Night shift",
                "scopes": ["accounts:all", "tickets:internal"],
            },
        }
    ).roles

    assert roles.names == ("principal", *ROLES.names[1:], "auditor", "night-shift")
    assert (roles.owner, roles["principal"].label) == ("principal", "Principal")
    assert roles.scopes_of(["owner"]) == frozenset()
    assert roles["standard"].scopes == ROLES["standard"].scopes - {"contacts:read"}
    assert roles["partner"].scopes == {"accounts:read"}
    assert (roles["auditor"].label, roles["auditor"].held_by) == ("Auditor", "customers")
    assert "auditor" in roles.of_customers
    assert roles.any_staff(["night-shift"])


def test_the_roles_that_an_issuer_gives_are_those_of_the_file() -> None:
    tables = {**MINIMUM, "roles": {"standard": {"name": "colleague"}}}
    issuer = {**MINIMUM["signin"]["issuers"][0]}
    given = read(
        {**tables, "signin": {"issuers": [{**issuer, "role_names": {"Portal.User": "colleague"}}]}},
        "x.toml",
        {},
    )
    assert given.roles["colleague"].built_in == "standard"
    with pytest.raises(SettingsError, match="'standard' is unknown"):
        read(
            {**tables, "signin": {"issuers": [{**issuer, "role_names": {"Portal.User": "standard"}}]}},
            "x.toml",
            {},
        )


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (
            {"standard": {"scopes": ["accounts:read", "invoices:read"]}},
            "roles.standard.scopes: invoices:read would widen a built-in role; add a role of another name and say whom it "
            "is for",
        ),
        (
            {"partner": {"without": ["invoices:read"]}},
            "roles.partner.without: invoices:read is not among its scopes; leave it out",
        ),
        (
            {"auditor": {"for": "customers", "scopes": ["tickets:internal"]}},
            "roles.auditor.scopes: tickets:internal is for staff; no customer may hold it",
        ),
        (
            {"auditor": {"scopes": ["invoices:read"]}},
            'roles.auditor.for: there is no built-in role \'auditor\'; a new one says for = "customers" or "staff"',
        ),
        ({"auditor": {"for": "customers"}}, "roles.auditor.scopes: list what the new role holds"),
        (
            {"auditor": {"for": "staff", "scopes": ["members:provision"]}},
            "roles.auditor.scopes: members:provision is for service accounts alone",
        ),
        (
            {"owner": {"for": "staff"}},
            "roles.owner.for: it is a role of customers; add a role of another name",
        ),
        (
            {"owner": {"name": "Chef d'œuvre"}},
            "roles.owner.name: small letters with hyphens between, such as site-manager",
        ),
        (
            {"owner": {"name": "finance"}},
            "roles.finance.name: 'finance' is taken by roles.owner; choose another name",
        ),
        (
            {"auditor": {"for": "customers", "scopes": [], "name": "x"}},
            "roles.auditor.name: a new role is called by its table, [roles.auditor]; leave name out",
        ),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_with_what_to_write(roles: Any, said: str) -> None:
    assert refusal(**roles) == f"gateway.toml: {said}"


def test_unknown_scopes_settings_and_shapes_are_refused() -> None:
    assert "invoices:red is unknown; there are accounts:all, " in refusal(
        auditor={"for": "customers", "scopes": ["invoices:red"]}
    )
    assert "roles.owner: Object contains unknown field `wider`" in refusal(owner={"wider": True})
    assert refusal(owner="everything") == "gateway.toml: roles: write each role as a table, [roles.standard]"
