"""Whose word counts for what: several issuers, tenants, groups, and claims that are cut off."""

from typing import Any

import pytest

from gateway.signin.claims import proof_of
from gateway.signin.refused import SignInRefused
from gateway.signin.settings import IssuerSettings
from permissions.roles import RoleChange, Roles
from tests.door import Answer, Door
from tests.issuer import Issuer, believe

WHO = "{ viewer { id roles scopes organisation { id } organisations { id } } }"
ALL = "{ accounts(first: 3) { nodes { name } } }"
ENTRA = "https://login.example/{tenantid}/v2.0"
NOT_ALL_GROUPS = "your sign-in does not carry all your groups"


async def ask(door: Door, token: str, query: str = WHO, **headers: str) -> Answer:
    return await door.ask(
        None, query, token=token, headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


async def viewer(door: Door, token: str) -> Any:
    answer = await ask(door, token)
    assert answer.status == 200, answer.body
    return answer.data["viewer"]


def said(answer: Answer) -> tuple[int, str, str]:
    error = answer.body["errors"][0]
    return answer.status, error["extensions"]["code"], error["message"]


# -- several issuers ---------------------------------------------------------------------------------------------------


async def test_each_of_several_issuers_is_believed_by_its_own_keys_alone(
    door: Door, issuers: tuple[Issuer, Issuer]
) -> None:
    one, other = issuers
    believe(door, {"issuer": one.url}, {"issuer": other.url})

    assert (await viewer(door, one.of({"sub": "a"})))["id"] == "a"
    assert (await viewer(door, other.of({"sub": "b"})))["id"] == "b"
    crossed = [
        one.of({"iss": other.url}),
        other.of({"iss": one.url}),
        one.of({"iss": other.url}, other.keys[0], kid="x"),
    ]
    assert [(await ask(door, token)).status for token in crossed] == [401] * 3


async def test_an_issuer_that_is_down_keeps_nobody_of_another_out(
    door: Door, issuers: tuple[Issuer, Issuer]
) -> None:
    one, other = issuers
    believe(door, {"issuer": one.url}, {"issuer": other.url})
    one.box.faults.add("fail")

    assert (await ask(door, one.token())).status == 503
    assert (await ask(door, other.token())).status == 200


async def test_nobody_unknown_is_asked_for_anything(door: Door, issuers: tuple[Issuer, Issuer]) -> None:
    one, other = issuers
    believe(door, {"issuer": one.url})

    assert (await ask(door, other.token())).status == 401
    assert other.box.log.count() == one.box.log.count() == 0


async def test_a_customers_own_issuer_never_gives_a_role_of_staff(
    door: Door, issuers: tuple[Issuer, Issuer]
) -> None:
    one, other = issuers
    believe(
        door,
        {"issuer": one.url, "believed_for": ("customers",), "role_names": {"chief": "owner"}},
        {"issuer": other.url, "believed_for": ("staff",)},
    )
    claims = {"roles": ["admin", "support", "chief", "unheard-of"], "organisations": ["harbour"]}

    customer = await viewer(door, one.of(claims))
    staff = await viewer(door, other.of(claims))

    assert customer["roles"] == ["owner"]
    assert customer["organisation"] == {"id": "harbour"}
    assert "accounts:all" not in customer["scopes"]
    assert staff["roles"] == ["admin", "support"]
    assert staff["organisation"] is None
    # Without a role of the firm's, nobody is anything at the firm's own issuer.
    assert said(await ask(door, other.of({"roles": ["owner"], "organisations": ["harbour"]}))) == (
        403, "FORBIDDEN", "you have no role here; ask your administrator",
    )  # fmt: skip


async def test_roles_of_a_customer_add_nothing_to_staff(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url})

    both = await viewer(door, issuer.of({"roles": ["support", "owner"], "organisations": ["harbour"]}))
    only = await viewer(door, issuer.of({"roles": ["support"]}))

    assert both["roles"] == ["support"]
    assert both["scopes"] == only["scopes"]


async def test_an_issuer_may_call_itself_by_another_name(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url, "aliases": ("accounts.example",)})

    assert (await ask(door, issuer.of({"iss": "accounts.example"}))).status == 200
    assert (await ask(door, issuer.of({"iss": "accounts.example/"}))).status == 401


async def test_only_listed_clients_are_let_in(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url, "clients": ("portal",)})

    allowed = [
        {"azp": "portal"},
        {"client_id": "portal"},
        {"cid": "portal"},
        {"appid": "portal", "azp": "portal"},
    ]
    refused: list[dict[str, Any]] = [
        {},
        {"azp": "other"},
        {"azp": ["portal"]},
        {"azp": "portal", "client_id": "other"},
    ]

    assert [(await ask(door, issuer.of(claims))).status for claims in allowed] == [200] * 4
    assert [(await ask(door, issuer.of(claims))).status for claims in refused] == [401] * 4


async def test_id_tokens_come_as_bearer_tokens_only_where_that_is_said(door: Door, issuer: Issuer) -> None:
    id_token = issuer.of({"nonce": "n", "at_hash": "x"})
    believe(door, {"issuer": issuer.url})
    assert (await ask(door, id_token)).status == 401

    believe(door, {"issuer": issuer.url, "id_tokens": True})
    assert (await ask(door, id_token)).status == 200
    assert (await ask(door, issuer.of({}, typ="logout+jwt"))).status == 401


# -- tenants -----------------------------------------------------------------------------------------------------------


def entra(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    issuer.name = ENTRA
    discovery = f"{issuer.url}/.well-known/openid-configuration"
    standard = {"issuer": ENTRA, "discovery_url": discovery, "subject_claims": ("tid", "oid")}
    return standard | {"tenants": ("t1", "t2")} | changes


def of_tenant(tid: Any, **claims: Any) -> dict[str, Any]:
    return {
        "iss": ENTRA.replace("{tenantid}", str(tid)),
        "tid": tid,
        "oid": "o1",
        "roles": ["owner"],
    } | claims


async def test_an_issuer_of_many_tenants_lets_in_those_that_are_listed(door: Door, issuer: Issuer) -> None:
    believe(door, entra(issuer))

    first = await viewer(door, issuer.of(of_tenant("t1")))
    second = await viewer(door, issuer.of(of_tenant("t2")))

    assert (first["id"], second["id"]) == ("t1:o1", "t2:o1")
    stranger = await ask(door, issuer.of(of_tenant("t3")))
    assert said(stranger) == (403, "FORBIDDEN", "the sign-in is not of a firm that is let in here (tid)")


@pytest.mark.parametrize(
    "claims",
    [
        of_tenant("t1", iss=ENTRA.replace("{tenantid}", "t2")),
        of_tenant("t1", iss=ENTRA),
        of_tenant("t1") | {"tid": None},
        of_tenant("t1") | {"tid": ["t1"]},
        of_tenant("t1", iss="https://login.example/t1/v2.0/"),
        of_tenant("t1/x"),
        of_tenant("{tenantid}", iss=ENTRA),
        of_tenant("t1", oid=None),
        of_tenant("t1", oid=""),
    ],
)
async def test_a_tenant_that_is_not_the_issuers_is_refused(
    door: Door, issuer: Issuer, claims: dict[str, Any]
) -> None:
    believe(door, entra(issuer))

    assert (await ask(door, issuer.of(claims))).status in (401, 403)


async def test_a_tenants_own_key_signs_for_no_other_tenant(door: Door, issuer: Issuer) -> None:
    believe(door, entra(issuer))
    issuer.key_of = ENTRA.replace("{tenantid}", "t1")

    assert (await ask(door, issuer.of(of_tenant("t1")))).status == 200
    assert (await ask(door, issuer.of(of_tenant("t2")))).status == 401

    issuer.key_of = ENTRA
    believe(door, entra(issuer))
    assert (await ask(door, issuer.of(of_tenant("t2")))).status == 200


async def test_parts_of_a_subject_do_not_run_into_each_other(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url, "subject_claims": ("a", "b")})

    one = await viewer(door, issuer.of({"a": "x:y", "b": "z"}))
    other = await viewer(door, issuer.of({"a": "x", "b": "y:z"}))

    assert one["id"] != other["id"]


def test_a_person_is_the_same_by_access_token_and_by_id_token() -> None:
    okta = IssuerSettings(
        issuer="https://x.okta.com/oauth2/default", audience="api://default", subject_claims=("uid",),
        id_token_subject_claims=("sub",),
    )  # fmt: skip

    bearer = proof_of({"uid": "00u1", "sub": "ann@x.example", "exp": 1}, okta)
    session = proof_of({"sub": "00u1", "exp": 1}, okta, via="session")

    assert (
        (bearer.subject, bearer.external_ids)
        == (session.subject, session.external_ids)
        == ("00u1", ("00u1",))
    )
    with pytest.raises(SignInRefused, match="it has no uid"):
        proof_of({"sub": "ann@x.example", "exp": 1}, okta)


async def test_a_domain_of_google_workspace_is_a_customer(door: Door, issuer: Issuer) -> None:
    believe(
        door,
        {
            "issuer": issuer.url,
            "believed_for": ("customers",),
            "tenant_claim": "hd",
            "tenant_organisations": {"moeller.example": "moeller"},
            "role_names": {},
        },
    )
    claims = {"roles": ["standard"], "organisations": ["harbour"]}

    inside = await viewer(door, issuer.of(claims | {"hd": "moeller.example"}))

    assert inside["organisations"] == [{"id": "moeller"}]
    for outside in ({}, {"hd": "harbour.example"}, {"hd": None}, {"email": "x@moeller.example"}):
        assert (await ask(door, issuer.of(claims | outside))).status == 403


async def test_a_customers_own_issuer_speaks_for_that_customer_alone(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url, "believed_for": ("customers",), "organisations": ("harbour",)})
    token = issuer.of({"roles": ["owner"], "organisations": ["moeller", "harbour"]})

    assert (await viewer(door, token))["organisations"] == [{"id": "harbour"}]
    assert (await ask(door, token, X_Organisation="moeller")).status == 403


# -- groups and nested claims ------------------------------------------------------------------------------------------


async def test_groups_give_roles_and_organisations(door: Door, issuer: Issuer) -> None:
    believe(
        door,
        {
            "issuer": issuer.url,
            "groups_claim": "realm.groups",
            "group_roles": {"Portal owners": ("owner", "finance"), "agents": "support"},
            "group_organisations": {"Harbour staff": "harbour"},
        },
    )

    of = {"roles": [], "realm": {"groups": ["Portal owners", "Harbour staff", "others"]}}
    customer = await viewer(door, issuer.of(of))
    staff = await viewer(door, issuer.of({"roles": [], "realm": {"groups": ["agents"]}}))
    nobody = await viewer(door, issuer.of({"roles": [], "groups": ["Portal owners"]}))

    assert (customer["roles"], customer["organisation"]) == (["owner", "finance"], {"id": "harbour"})
    assert staff["roles"] == ["support"]
    assert (nobody["roles"], nobody["scopes"], nobody["organisations"]) == ([], [], [])


async def test_a_claim_whose_name_has_dots_is_not_taken_for_a_way(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url, "roles_claim": "https://example.com/roles"})

    named = await viewer(door, issuer.of({"https://example.com/roles": ["support"]}))
    nested = await viewer(
        door, issuer.of({"https://example": {"com/roles": ["support"]}, "roles": ["admin"]})
    )

    assert named["roles"] == ["support"]
    assert nested["roles"] == ["support"]


@pytest.mark.parametrize(
    "cut",
    [
        {
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://graph.example"}},
        },
        {"_claim_names": {"groups": "src1"}, "groups": ["agents"]},
        {"hasgroups": True},
        {"hasgroups": "true"},
        {"groups": [f"g{n}" for n in range(99)] + ["agents"]},
        {"_claim_names": {"roles": "src1"}},
        {"roles": ["support"] * 100},
    ],
)
async def test_whose_groups_are_cut_off_is_nobody_rather_than_somebody_without_groups(
    door: Door, issuer: Issuer, cut: dict[str, Any]
) -> None:
    believe(door, {"issuer": issuer.url, "group_roles": {"agents": "support"}})

    for query in (WHO, ALL):
        status, code, message = said(await ask(door, issuer.of({"organisations": ["harbour"]} | cut), query))

        assert (status, code) == (403, "FORBIDDEN")
        assert message.startswith(NOT_ALL_GROUPS)
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_a_list_of_groups_is_whole_where_the_issuer_says_when_it_is_not(
    door: Door, issuer: Issuer
) -> None:
    believe(door, {"issuer": issuer.url, "group_roles": {"agents": "support"}, "groups_limit": 0})
    groups = [f"g{n}" for n in range(199)] + ["agents"]

    assert "support" in (await viewer(door, issuer.of({"groups": groups})))["roles"]
    assert (await ask(door, issuer.of({"hasgroups": True}))).status == 403


async def test_groups_that_say_nothing_here_may_be_cut_off(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url})

    assert (await ask(door, issuer.of({"hasgroups": True, "groups": ["g"] * 150}))).status == 200


# -- staff -------------------------------------------------------------------------------------------------------------


async def test_staff_are_told_of_an_organisation_that_is_not_there(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url})
    token = issuer.token()

    assert said(await ask(door, token, ALL, X_Organisation="harbor")) == (
        400, "BAD_USER_INPUT", "X-Organisation names no organisation",
    )  # fmt: skip
    assert (await ask(door, token, ALL, X_Organisation="harbour")).status == 200


async def test_staff_without_accounts_all_see_the_organisations_that_are_assigned_to_them(
    door: Door, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        door.office, "roles", Roles().changed({"support": RoleChange(without=("accounts:all",))})
    )
    believe(door, {"issuer": issuer.url})
    names = [account.crm_name for account in door.world.accounts[:2]]

    async def seen(organisations: list[str], **headers: str) -> Any:
        token = issuer.of({"roles": ["support"], "organisations": organisations})
        answer = await ask(
            door, token, "{ accounts { nodes { name } } viewer { organisation { id } } }", **headers
        )
        if answer.status != 200:
            return answer.status
        return sorted(node["name"] for node in answer.data["accounts"]["nodes"])

    assert await seen(["harbour"]) == names[:1]
    assert await seen(["harbour", "moeller"]) == sorted(names)
    assert await seen(["harbour", "moeller"], X_Organisation="moeller") == names[1:]
    assert await seen(["harbour"], X_Organisation="moeller") == 403
    assert await seen([]) == 403
