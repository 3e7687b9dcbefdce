"""[scim] and [api_keys]: whose sign-ins a directory may speak of, which roles its groups give, and what cannot be meant."""

import pytest

from gateway.scim.rules import GroupRoles
from gateway.scim.settings import ScimSettings
from gateway.settings import SettingsError, read
from gateway.signin.settings import IssuerSettings, SignInSettings
from permissions.roles import RoleChange, Roles

BASE = {
    "signin": {"issuers": [{"issuer": "https://login.example", "audience": "gateway"}]},
    "sources": {"crm": {"vendor": "hubspot", "token": "x"}},
}


def issuer(name: str, **given: object) -> IssuerSettings:
    return IssuerSettings(issuer=name, audience="gateway", **given)


ENTRA = "https://login.microsoftonline.com/{tenantid}/v2.0"
ONE = issuer("https://one.example")
TWO = issuer("https://two.example")
STAFF = issuer("https://staff.example", believed_for=("staff",))
TENANTS = issuer(ENTRA, tenant_organisations={"t1": "harbour", "t2": ("moeller", "third")})
OWN = issuer("https://own.example", organisations=("harbour",))


@pytest.mark.parametrize(
    ("issuers", "explicit", "expected"),
    [
        ((ONE,), {}, "https://one.example"),
        ((ONE, STAFF), {}, "https://one.example"),
        ((STAFF,), {}, None),
        ((ONE, TWO), {}, None),
        ((ONE, TWO), {"harbour": "https://two.example"}, "https://two.example"),
        ((ONE, OWN), {}, "https://own.example"),
        ((ONE, TENANTS), {}, "https://login.microsoftonline.com/t1/v2.0"),
        ((OWN, TENANTS), {}, None),
        ((issuer(ENTRA, tenants=("t1",)),), {}, None),
        ((issuer(ENTRA, tenant_organisations={"t2": "moeller"}),), {}, None),
        (
            (issuer(ENTRA, tenant_organisations={"t1": "harbour", "t2": "harbour"}),),
            {},
            None,
        ),
    ],
)
def test_a_directory_speaks_of_the_people_of_one_issuer_or_of_nobody(issuers, explicit, expected):
    settings = ScimSettings(issuers=explicit)
    assert settings.issuer_of("harbour", SignInSettings(issuers=issuers)) == expected


@pytest.mark.parametrize(
    ("named", "groups", "expected"),
    [
        ([], [], set()),
        (["finance"], [], {"finance"}),
        ([], ["Finance", "READ-ONLY"], {"finance", "read-only"}),
        ([], ["Buyers"], {"standard", "partner"}),
        ([], ["Partner"], set()),
        (["admin", "support"], ["Admin", "Finance staff"], set()),
    ],
)
def test_a_group_gives_what_the_settings_say_or_its_own_name_and_never_a_role_of_staff(
    named, groups, expected
):
    rules = GroupRoles(Roles(), {"buyers": ("standard", "partner"), "partner": ()}, ())
    assert rules.roles_of(named, groups) == expected
    everybody = GroupRoles(Roles(), {}, ("read-only",))
    assert everybody.roles_of([], []) == {"read-only"}


def test_a_renamed_role_is_given_by_its_new_name():
    rules = GroupRoles(Roles().changed({"finance": RoleChange(name="bookkeeper")}), {}, ())
    assert rules.roles_of([], ["bookkeeper", "finance"]) == {"bookkeeper"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"scim": {"group_roles": {"IT": "admin"}}}, "scim.group_roles.IT: 'admin' is no role of customers"),
        ({"scim": {"default_roles": ["nobody"]}}, "scim.default_roles: 'nobody' is no role of customers"),
        ({"scim": {"issuers": {"harbour": ENTRA}}}, "scim.issuers.harbour: the issuer exactly"),
        ({"scim": {"issuers": {"harbour": "login"}}}, "scim.issuers.harbour: the issuer exactly"),
        ({"scim": {"roles": {}}}, "scim: "),
        ({"api_keys": {"default_days": 400}}, "api_keys.default_days: at most maximum_days, 365"),
        ({"api_keys": {"default_days": 0}}, "api_keys.default_days: "),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_setting(tables, message):
    with pytest.raises(SettingsError) as caught:
        read(BASE | tables, "gateway.toml", {})
    assert str(caught.value).startswith(f"gateway.toml: {message}")
