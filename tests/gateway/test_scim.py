"""SCIM 2.0 through the door: by the RFCs' witness, as Entra ID and Okta send it, and what one customer must not reach."""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
import pytest_asyncio
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import ScimProvider
from scim2_tester import Status, check_server

from gateway.scim.settings import ScimSettings
from resolvers.vocabulary import node_id
from sources.ports.common import Ref
from sources.ports.errors import SourceUnavailable
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"

WHO = "{ viewer { roles scopes organisation { id } member { id roles state } } }"


class Directory:
    """One organisation's directory, with the key of its service account."""

    def __init__(self, door: Door, key: str) -> None:
        self.door, self.key = door, key

    async def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> Answer:
        """One request; a body is sent as SCIM unless a Content-Type is given."""
        sent = {"Authorization": f"Bearer {key or self.key}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if body is not None:
            sent.setdefault("Content-Type", "application/scim+json")
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        async with self.door.session.request(
            method, f"{self.door.url}/scim/v2{path}", data=data, headers=sent
        ) as response:
            text = await response.read()
            return Answer(response.status, response.headers.copy(), json.loads(text) if text else None)

    async def user(self, **given: Any) -> dict[str, Any]:
        """A new one."""
        body = {"schemas": [USER], "userName": f"{uuid4()}@directory.example", "active": True} | given
        answer = await self.send("POST", "/Users", body)
        assert answer.status == 201, answer.body
        return answer.body

    async def group(self, *members: str, **given: Any) -> dict[str, Any]:
        """A new one."""
        body = {
            "schemas": [GROUP],
            "displayName": f"group {uuid4()}",
            "members": [{"value": member} for member in members],
        } | given
        answer = await self.send("POST", "/Groups", body)
        assert answer.status == 201, answer.body
        return answer.body

    async def change(self, path: str, *operations: Mapping[str, Any], **headers: str) -> Answer:
        """PATCH."""
        return await self.send("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, **headers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(world, postgres):
    async with fresh_database(postgres) as url, open_door(world, url, membership="ledger") as opened:
        opened.office.settings = msgspec.structs.replace(
            opened.office.settings, scim=ScimSettings(group_roles={"Billing team": "finance", "Nobody": ()})
        )
        yield opened


async def key_of(door: Door, persona: str, *scopes: str) -> str:
    """A new key of a new service account."""
    account = await door.ask(
        persona,
        """mutation ($input: CreateServiceAccountInput!) {
          createServiceAccount(input: $input) { serviceAccount { id } userErrors { message } } }""",
        {"input": {"idempotencyKey": uuid4().hex, "name": "directory", "scopes": list(scopes)}},
    )
    key = await door.ask(
        persona,
        """mutation ($input: CreateApiKeyInput!) {
          createApiKey(input: $input) { secret userErrors { message } } }""",
        {
            "input": {
                "idempotencyKey": uuid4().hex,
                "serviceAccountId": account.data["createServiceAccount"]["serviceAccount"]["id"],
                "name": "directory",
            }
        },
    )
    return key.data["createApiKey"]["secret"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def harbour(door):
    return Directory(door, await key_of(door, "owner-harbour", "members:provision"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def moeller(door):
    return Directory(door, await key_of(door, "owner-moeller", "members:provision"))


def someone(door: Door, subject: str) -> str:
    """A token of somebody whom the issuer knows and nobody has invited."""
    return door.issuer.token("newcomer", sub=subject, email=f"{subject}@directory.example")


# -- by the RFCs -----------------------------------------------------------------------------------------------


async def test_the_rfcs_witness_finds_nothing_wrong_but_what_is_meant(harbour):
    def check() -> list[Any]:
        client = httpx2.Client(
            base_url=f"{harbour.door.url}/scim/v2", headers={"Authorization": f"Bearer {harbour.key}"}
        )
        with client:
            return check_server(SyncSCIMClient(client, provider=ScimProvider()))

    results = await asyncio.to_thread(check)
    wrong = [
        f"{one.title} {one.resource_type}: {one.reason}" for one in results if one.status is Status.ERROR
    ]
    # To take the word active away, neither true nor false, must let nobody in or out.
    assert wrong == ["check_remove_attribute User: PATCH modify() did not remove attribute 'active'"]
    assert sum(1 for one in results if one.status is Status.SUCCESS) > 50


async def test_what_the_service_can_do_is_said(harbour):
    config = (await harbour.send("GET", "/ServiceProviderConfig")).body
    can = {name: config[name]["supported"] for name in ("patch", "bulk", "filter", "sort", "etag")}
    assert can == {"patch": True, "bulk": False, "filter": True, "sort": True, "etag": True}
    for path, status in (("/Me", 501), ("/Bulk", 501), ("/.search", 501), ("/Nothing", 404), ("", 404)):
        assert (await harbour.send("GET", path)).status == status
    assert (await harbour.send("DELETE", "/Users")).status == 405
    assert (await harbour.send("GET", "/Schemas?filter=id%20pr")).status == 403


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, "invalidSyntax"),
        (b"[]", 400, "invalidSyntax"),
        (b"\xff", 400, "invalidSyntax"),
        (b"[" * 100_000, 400, "invalidSyntax"),
        (b'{"schemas": ["' + USER.encode() + b'"], "userName": "a\\u0000b"}', 400, "invalidValue"),
        (
            b'{"schemas": ["' + USER.encode() + b'"], "userName": "' + b"a" * 2_001 + b'"}',
            400,
            "invalidValue",
        ),
        ({"schemas": [USER]}, 400, "invalidValue"),
        ({"schemas": [USER], "userName": "  "}, 400, "invalidValue"),
        ({"schemas": [USER], "userName": "x", "active": "perhaps"}, 400, "invalidValue"),
        (b" " * ((1 << 20) + 1), 413, None),
    ],
)
async def test_a_body_that_cannot_be_used_is_refused_in_scims_words(harbour, body, status, kind):
    answer = await harbour.send("POST", "/Users", body)
    assert (answer.status, answer.body.get("scimType")) == (status, kind)
    assert (answer.body["schemas"], answer.body["status"]) == ([ERROR], str(status))
    assert answer.headers["Content-Type"] == "application/scim+json"


async def test_another_media_type_is_refused(harbour):
    answer = await harbour.send("POST", "/Users", b"userName=x", Content_Type="text/plain")
    assert answer.status == 415


async def test_an_etag_guards_against_overwriting_what_somebody_else_wrote(harbour):
    user = await harbour.user(displayName="First")
    path = f"/Users/{user['id']}"
    tag = (await harbour.send("GET", path)).headers["ETag"]
    assert user["meta"]["version"] == tag
    assert (await harbour.send("GET", path, If_None_Match=tag)).status == 304
    rename = {"op": "replace", "path": "displayName", "value": "Second"}
    changed = await harbour.change(path, rename, If_Match=tag)
    assert (changed.status, changed.body["displayName"]) == (200, "Second")
    stale = await harbour.change(path, rename | {"value": "Third"}, If_Match=tag)
    assert stale.status == 412
    assert (await harbour.send("DELETE", path, If_Match=tag)).status == 412
    assert (await harbour.send("GET", path)).body["displayName"] == "Second"


async def test_lists_are_filtered_sorted_and_paged(harbour):
    mark = uuid4().hex
    users = [
        await harbour.user(
            userName=f"{mark}-{number}",
            externalId=f"{mark}:{number}",
            displayName=f"{mark} {9 - number}",
            emails=[{"value": f"{mark}-{number}@work.example", "type": "work"}],
        )
        for number in range(5)
    ]

    async def found(query: str) -> list[str]:
        answer = await harbour.send("GET", f"/Users?{query}")
        assert answer.status == 200, answer.body
        return [one["userName"][-1] for one in answer.body["Resources"]]

    every = f'filter=userName sw "{mark}"'
    assert sorted(await found(every)) == list("01234")
    assert await found(f'filter=userName eq "{mark.upper()}-3"') == ["3"]
    assert await found(f'filter=externalId eq "{mark}:2"') == ["2"]
    assert await found(f'filter=externalId eq "{mark.upper()}:2"') in ([], ["2"])
    assert await found(f'filter=id eq "{users[1]["id"]}"') == ["1"]
    assert await found(f'filter=emails[type eq "work" and value eq "{mark}-4@work.example"]') == ["4"]
    assert await found(f'filter=userName eq "{mark}-1" and active eq false') == []
    assert await found(f"{every}&sortBy=displayName") == list("43210")
    assert await found(f"{every}&sortBy=userName&sortOrder=descending&startIndex=2&count=2") == list("32")
    page = (await harbour.send("GET", f"/Users?{every}&count=0")).body
    assert (page["totalResults"], page["Resources"]) == (5, [])
    whole = (await harbour.send("GET", "/Users?count=2&startIndex=2")).body
    assert (whole["itemsPerPage"], whole["startIndex"]) == (2, 2)
    assert whole["totalResults"] > 5
    search = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": every[7:],
        "count": 1,
    }
    assert (await harbour.send("POST", "/Users/.search", search)).body["totalResults"] == 5
    few = (await harbour.send("GET", f"/Users/{users[0]['id']}?attributes=userName")).body
    assert set(few) == {"schemas", "id", "userName"}
    for wrong in ("userName eq", 'nothere eq "x"', "(" * 3_000 + "userName pr"):
        answer = await harbour.send("GET", f"/Users?filter={wrong}")
        assert (answer.status, answer.body["scimType"]) == (400, "invalidFilter")


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("startIndex=99999999999999999999", {200}),
        ("startIndex=-5&count=99999999999999999999", {200}),
        ("count=many", {400}),
        ('filter=externalId eq "\\ud800"', {200, 400}),
        ('filter=userName eq "\\u0000"', {200, 400}),
        ("filter=userName eq 5", {400}),
        ("filter=active gt true", {400}),
        ("filter=", {400}),
        ("sortBy=name", {400}),
        ("attributes=userName&excludedAttributes=userName", {400}),
        ('filter=meta.lastModified gt "2020-01-01T00:00:00Z"', {200}),
    ],
)
async def test_no_query_makes_the_service_fail(harbour, query, statuses):
    assert (await harbour.send("GET", f"/Users?{query}")).status in statuses


async def test_no_patch_makes_the_service_fail(harbour):
    """Paths, operations and values thrown together; the seed is fixed."""
    chance = random.Random(20)
    user = await harbour.user()
    group = await harbour.group(user["id"])
    one = [{"value": user["id"]}]
    values = [None, True, 5, 10**30, "x", "", [], {}, [[]], [None], [{"value": 5}], one, {"active": "False"}]
    paths = [
        None,
        "",
        "active",
        "emails",
        'emails[type eq "work"].value',
        "emails[primary eq true].value",
        "name",
    ]
    paths += [
        "members",
        'members[value eq "x"]',
        "meta.version",
        "id",
        "urn:x:y",
        "a.b.c",
        "[",
        5,
        ["x"],
        "$ref",
    ]
    operations = ["add", "replace", "remove", "Add", "REMOVE", None, 5]
    for _ in range(150):
        operation = {
            "op": chance.choice(operations),
            "path": chance.choice(paths),
            "value": chance.choice(values),
        }
        path = chance.choice([f"/Users/{user['id']}", f"/Groups/{group['id']}"])
        answer = await harbour.change(path, operation)
        assert answer.status in (200, 400), (path, operation)


# -- members ---------------------------------------------------------------------------------------------------


async def test_somebody_provisioned_is_a_member_from_their_first_sign_in(door, harbour):
    subject = uuid4().hex
    token = someone(door, subject)
    assert (await door.ask(None, WHO, token=token)).data["viewer"]["organisation"] is None
    user = await harbour.user(externalId=subject, roles=[{"value": "standard"}])
    viewer = (await door.ask(None, WHO, token=token)).data["viewer"]
    assert viewer["organisation"] == {"id": "harbour"}
    assert viewer["member"] == {"id": user["id"], "roles": ["standard"], "state": "ACTIVE"}


async def test_deactivating_ends_access_at_once_though_the_token_is_still_valid(door, harbour):
    subject = uuid4().hex
    token = someone(door, subject)
    user = await harbour.user(externalId=subject, roles=[{"value": "standard"}])
    asked = "{ viewer { account { name } } }"
    assert (await door.ask(None, asked, token=token)).data["viewer"]["account"]["name"]
    off = {"op": "Replace", "path": "active", "value": "False"}
    assert (await harbour.change(f"/Users/{user['id']}", off)).body["active"] is False
    viewer = (await door.ask(None, WHO, token=token)).data["viewer"]
    assert (viewer["organisation"], viewer["scopes"]) == (None, [])
    on = {"op": "replace", "value": {"active": True}}
    await harbour.change(f"/Users/{user['id']}", on)
    assert (await door.ask(None, WHO, token=token)).data["viewer"]["organisation"] == {"id": "harbour"}
    assert (await harbour.send("DELETE", f"/Users/{user['id']}")).status == 204
    assert (await door.ask(None, WHO, token=token)).data["viewer"]["organisation"] is None
    assert (await harbour.send("GET", f"/Users/{user['id']}")).status == 404


async def test_a_replacement_that_says_nothing_of_active_lets_nobody_back_in(harbour):
    user = await harbour.user(active=False)
    body = {"schemas": [USER], "userName": user["userName"], "displayName": "New"}
    replaced = await harbour.send("PUT", f"/Users/{user['id']}", body)
    assert (replaced.body["active"], replaced.body["displayName"]) == (False, "New")


async def test_an_unverified_address_makes_nobody_a_member(door, harbour):
    subject = uuid4().hex
    token = someone(door, subject)
    await harbour.user(emails=[{"value": f"{subject}@directory.example"}], roles=[{"value": "owner"}])
    viewer = (await door.ask(None, WHO, token=token)).data["viewer"]
    assert (viewer["organisation"], viewer["member"]) == (None, None)


async def test_the_last_owner_cannot_be_deprovisioned(door, moeller):
    owner = await moeller.user(externalId="owner-moeller", userName="owner@moeller.example")
    path = f"/Users/{owner['id']}"
    off = {"op": "replace", "path": "active", "value": False}
    for answer in (
        await moeller.change(path, off),
        await moeller.send("DELETE", path),
        await moeller.send(
            "PUT", path, {"schemas": [USER], "userName": "owner@moeller.example", "active": False}
        ),
    ):
        assert (answer.status, answer.body["scimType"]) == (400, "mutability")
        assert "owner" in answer.body["detail"]
    assert (await door.ask("owner-moeller", WHO)).data["viewer"]["member"]["id"] == owner["id"]


async def test_groups_give_roles_and_take_those_alone_that_they_gave(door, harbour):
    subject = uuid4().hex
    token = someone(door, subject)
    user = await harbour.user(externalId=subject, roles=[{"value": "read-only"}, {"value": "admin"}])

    async def roles() -> list[str]:
        return sorted((await door.ask(None, WHO, token=token)).data["viewer"]["roles"])

    assert await roles() == ["read-only"]
    billing = await harbour.group(user["id"], displayName="Billing team")
    assert await roles() == ["finance", "read-only"]
    by_label = await harbour.group(user["id"], displayName="STANDARD")
    assert await roles() == ["finance", "read-only", "standard"]
    staff = await harbour.group(user["id"], displayName="admin")
    assert await roles() == ["finance", "read-only", "standard"]
    await harbour.change(
        f"/Groups/{billing['id']}", {"op": "Remove", "path": "members", "value": [{"value": user["id"]}]}
    )
    assert await roles() == ["read-only", "standard"]
    await harbour.change(
        f"/Groups/{by_label['id']}", {"op": "replace", "path": "displayName", "value": "Nobody"}
    )
    assert await roles() == ["read-only"]
    read = (await harbour.send("GET", f"/Users/{user['id']}")).body
    assert {group["display"] for group in read["groups"]} == {"Nobody", "admin"}
    for group in (billing, by_label, staff):
        assert (await harbour.send("DELETE", f"/Groups/{group['id']}")).status == 204


async def test_a_role_that_an_owner_gave_stays_when_the_directory_takes_its_own(door, harbour):
    subject = uuid4().hex
    token = someone(door, subject)
    user = await harbour.user(externalId=subject)
    await door.ask(None, WHO, token=token)
    given = {"idempotencyKey": uuid4().hex, "memberId": user["id"], "roles": ["standard"]}
    change = """mutation ($input: ChangeMemberRolesInput!) {
      changeMemberRoles(input: $input) { member { roles } userErrors { code } } }"""
    await door.ask("owner-harbour", change, {"input": given})
    group = await harbour.group(user["id"], displayName="Finance")
    assert sorted((await door.ask(None, WHO, token=token)).data["viewer"]["roles"]) == ["finance", "standard"]
    await harbour.send("DELETE", f"/Groups/{group['id']}")
    assert (await door.ask(None, WHO, token=token)).data["viewer"]["roles"] == ["standard"]


async def test_of_two_who_make_the_same_user_at_once_one_succeeds(harbour):
    body = {"schemas": [USER], "userName": f"Twin-{uuid4()}"}
    bodies = [body, body | {"userName": body["userName"].upper()}] * 3
    answers = await asyncio.gather(*(harbour.send("POST", "/Users", one) for one in bodies))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409, 409]
    conflict = next(answer for answer in answers if answer.status == 409)
    assert conflict.body["scimType"] == "uniqueness"


async def test_a_member_who_came_by_invitation_is_adopted_with_what_they_hold(door, harbour):
    before = (await door.ask("finance-harbour", WHO)).data["viewer"]["member"]
    user = await harbour.user(externalId="finance-harbour")
    assert user["id"] == before["id"]
    assert (await door.ask("finance-harbour", WHO)).data["viewer"]["member"] == before
    by_address = await harbour.user(emails=[{"value": door.issuer.personas[2].email.upper()}])
    assert by_address["id"] == (await door.ask("standard-harbour", WHO)).data["viewer"]["member"]["id"]
    others = (await harbour.send("GET", "/Users?count=500")).body["Resources"]
    invited = (await door.ask("read-only-harbour", WHO)).data["viewer"]["member"]["id"]
    assert invited not in {one["id"] for one in others}
    assert (await harbour.send("DELETE", f"/Users/{invited}")).status == 404


async def test_what_a_directory_writes_and_reads_is_in_the_audit_trail_of_its_organisation(door, harbour):
    user = await harbour.user()
    await harbour.send("GET", f"/Users/{user['id']}")
    await harbour.send("DELETE", f"/Users/{uuid4()}")
    member = node_id("Member", Ref("ledger", user["id"]))
    query = """{ auditLog(filter: {kind: [PROVISIONING]}, first: 50) {
      nodes { name outcome records } } }"""
    async with asyncio.timeout(10):
        while True:
            nodes = (await door.ask("owner-harbour", query)).data["auditLog"]["nodes"]
            shown = {(node["name"], node["outcome"]) for node in nodes if node["records"] == [member]}
            if shown >= {("POST User", "OK"), ("GET User", "OK")}:
                break
    assert ("DELETE User", "REFUSED") in {(node["name"], node["outcome"]) for node in nodes}
    theirs = (await door.ask("owner-moeller", query)).data["auditLog"]["nodes"]
    assert member not in json.dumps(theirs)


async def test_what_cannot_be_recorded_is_not_done(door, harbour, monkeypatch):
    async def away(*_: Any) -> None:
        raise SourceUnavailable("audit", "away")

    name = f"{uuid4()}@directory.example"
    monkeypatch.setattr(door.office.audit, "_durable", away)
    answer = await harbour.send("POST", "/Users", {"schemas": [USER], "userName": name})
    assert (answer.status, answer.body["schemas"]) == (503, [ERROR])
    monkeypatch.undo()
    assert (await harbour.send("GET", f'/Users?filter=userName eq "{name}"')).body["totalResults"] == 0


# -- as directories really send it -----------------------------------------------------------------------------


async def test_entra_ids_way_from_creating_to_soft_deleting(door, harbour):
    subject = uuid4().hex
    name = f"{subject}@entra.example"
    looked = await harbour.send("GET", f'/Users?filter=userName eq "{name}"')
    assert (looked.body["totalResults"], looked.body["Resources"]) == (0, [])
    created = await harbour.send(
        "POST",
        "/Users",
        {
            "schemas": [USER, ENTERPRISE],
            "externalId": subject,
            "userName": name,
            "active": True,
            "displayName": "Lennart Example",
            "emails": [{"primary": True, "type": "work", "value": name}],
            "meta": {"resourceType": "User"},
            "name": {"formatted": "Lennart Example", "familyName": "Example", "givenName": "Lennart"},
            "title": "Clerk",
            ENTERPRISE: {"department": "Sales", "manager": {"value": "x"}},
        },
        Content_Type="application/scim+json; charset=utf-8",
    )
    assert created.status == 201
    path = f"/Users/{created.body['id']}"
    assert created.headers["Location"] == f"{door.url}/scim/v2{path}"
    assert "title" not in created.body
    updated = await harbour.change(
        path,
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": f"new-{name}"},
        {"op": "Add", "path": 'emails[type eq "home"].value', "value": f"home-{name}"},
        {"op": "Replace", "path": "name.familyName", "value": "Sample"},
        {"op": "Add", "path": f"{ENTERPRISE}:department", "value": "Finance"},
        {"op": "Replace", "path": "displayName", "value": "Lennart Sample"},
    )
    assert updated.status == 200
    assert {email["type"]: email["value"] for email in updated.body["emails"]} == {
        "work": f"new-{name}",
        "home": f"home-{name}",
    }
    assert updated.body["name"]["familyName"] == "Sample"
    listed = await door.ask(
        "owner-harbour", "{ viewer { organisation { members(last: 1) { nodes { name email state } } } } }"
    )
    assert listed.data["viewer"]["organisation"]["members"]["nodes"] == [
        {"name": "Lennart Sample", "email": f"new-{name}", "state": "PROVISIONED"}
    ]
    together = await harbour.change(
        path,
        {
            "op": "replace",
            "value": {"name.givenName": "Leo", 'emails[type eq "home"].value': "leo@home.example"},
        },
    )
    assert together.body["name"]["givenName"] == "Leo"
    role = await harbour.change(
        path, {"op": "Add", "path": 'roles[primary eq "True"].value', "value": "standard"}
    )
    assert role.body["roles"] == [{"value": "standard", "primary": True}]
    group = await harbour.send(
        "POST",
        "/Groups",
        {"schemas": [GROUP], "externalId": uuid4().hex, "displayName": f"G {subject}", "members": []},
    )
    group_path = f"/Groups/{group.body['id']}"
    added = await harbour.change(
        group_path, {"op": "Add", "path": "members", "value": [{"value": created.body["id"]}]}
    )
    assert [member["value"] for member in added.body["members"]] == [created.body["id"]]
    named = await harbour.send(
        "GET", f'/Groups?excludedAttributes=members&filter=displayName eq "G {subject}"'
    )
    assert [set(one) & {"displayName", "members"} for one in named.body["Resources"]] == [{"displayName"}]
    removed = await harbour.change(
        group_path, {"op": "Remove", "path": f'members[value eq "{created.body["id"]}"]'}
    )
    assert "members" not in removed.body
    off = await harbour.change(path, {"op": "Replace", "path": "active", "value": "False"})
    assert off.body["active"] is False


async def test_oktas_way_from_testing_the_connection_to_deactivating(harbour):
    subject = uuid4().hex
    name = f"{subject}@okta.example"
    assert (await harbour.send("GET", "/Users?startIndex=1&count=1")).status == 200
    assert (await harbour.send("GET", f'/Users?filter=userName eq "{name}"&startIndex=1&count=100')).body[
        "Resources"
    ] == []
    created = await harbour.send(
        "POST",
        "/Users",
        {
            "schemas": [USER],
            "userName": name,
            "name": {"givenName": "Olga", "familyName": "Okta"},
            "emails": [{"primary": True, "value": name, "type": "work"}],
            "displayName": "Olga Okta",
            "locale": "en-US",
            "externalId": subject,
            "groups": [],
            "password": "1mz050nq",
            "active": True,
        },
    )
    assert created.status == 201
    assert "password" not in created.body
    path = f"/Users/{created.body['id']}"
    whole = created.body | {"displayName": "Olga O.", "groups": [], "password": "x"}
    replaced = await harbour.send("PUT", path, whole)
    assert (replaced.status, replaced.body["displayName"]) == (200, "Olga O.")
    group = await harbour.send(
        "POST",
        "/Groups",
        {
            "schemas": [GROUP],
            "displayName": f"Okta {subject}",
            "members": [{"value": created.body["id"], "display": name}],
        },
    )
    group_path = f"/Groups/{group.body['id']}"
    renamed = await harbour.change(
        group_path,
        {"op": "replace", "value": {"id": group.body["id"], "displayName": f"Okta new {subject}"}},
        {"op": "add", "path": "members", "value": [{"value": created.body["id"], "display": name}]},
    )
    assert renamed.body["displayName"] == f"Okta new {subject}"
    assert len(renamed.body["members"]) == 1
    off = await harbour.change(path, {"op": "replace", "value": {"active": False}})
    assert (off.status, off.body["active"]) == (200, False)
    gone = await harbour.send("DELETE", group_path)
    assert gone.status == 204


# -- one customer's directory and another's --------------------------------------------------------------------


async def test_another_organisations_users_and_groups_are_not_there(harbour, moeller):
    canary = f"canary-{uuid4().hex}"
    user = await moeller.user(userName=canary, externalId=canary, displayName=canary)
    group = await moeller.group(user["id"], displayName=canary)
    paths = [f"/Users/{user['id']}", f"/Groups/{group['id']}"]
    change = {"op": "replace", "path": "displayName", "value": "taken"}
    for path, other in zip(paths, (f"/Users/{uuid4()}", f"/Groups/{uuid4()}"), strict=True):
        for method, body in (
            ("GET", None),
            ("DELETE", None),
            ("PUT", {"userName": "taken", "displayName": "taken"} | _schema(path)),
            ("PATCH", {"schemas": [PATCH], "Operations": [change]}),
        ):
            theirs, nobodys = await harbour.send(method, path, body), await harbour.send(method, other, body)
            assert (theirs.status, theirs.body) == (404, nobodys.body)
    queries = [
        f'/Users?filter=userName eq "{canary}"',
        f'/Users?filter=externalId eq "{canary}"',
        f'/Users?filter=id eq "{user["id"]}"',
        f'/Users?filter=displayName co "{canary}" or userName pr&count=500',
        f'/Groups?filter=displayName eq "{canary}"',
        f'/Groups?filter=members.value eq "{user["id"]}"',
        "/Users?count=500",
        "/Groups?count=500",
        "/Users?sortBy=userName&count=500",
    ]
    for query in queries:
        answer = await harbour.send("GET", query)
        assert answer.status == 200
        assert canary not in json.dumps([answer.body, dict(answer.headers)])
    refused = await harbour.send(
        "POST", "/Groups", {"schemas": [GROUP], "displayName": "mixed", "members": [{"value": user["id"]}]}
    )
    unknown = await harbour.send(
        "POST", "/Groups", {"schemas": [GROUP], "displayName": "mixed", "members": [{"value": str(uuid4())}]}
    )
    assert (refused.status, refused.body) == (400, unknown.body)
    own = await harbour.user(userName=canary, externalId=canary)
    assert own["id"] != user["id"]
    assert (await harbour.group(displayName=canary))["id"] != group["id"]
    assert (await moeller.send("GET", paths[0])).body["displayName"] == canary


def _schema(path: str) -> dict[str, list[str]]:
    return {"schemas": [USER if path.startswith("/Users") else GROUP]}


async def test_a_directory_adopts_nobody_of_another_organisation(door, harbour, moeller):
    member = (await door.ask("finance-moeller", WHO)).data["viewer"]["member"]["id"]
    user = await harbour.user(externalId="finance-moeller", active=False)
    assert user["id"] != member
    assert (await door.ask("finance-moeller", WHO)).data["viewer"]["member"]["id"] == member


async def test_only_an_organisations_own_key_with_the_scope_provisions(door, harbour):
    other_scope = await key_of(door, "owner-harbour", "members:read", "accounts:read")
    for key, status in (
        (other_scope, 403),
        (door.issuer.token("owner-harbour"), 403),
        (door.issuer.token("admin"), 403),
        (harbour.key[:-1], 401),
    ):
        for method, path in (("GET", "/Users"), ("POST", "/Users"), ("GET", "/ServiceProviderConfig")):
            answer = await harbour.send(method, path, {} if method == "POST" else None, key=key)
            assert (answer.status, answer.body["schemas"]) == (status, [ERROR])
    denied = await harbour.send("GET", "/Users", X_Organisation="moeller")
    assert denied.status == 403
    assert "WWW-Authenticate" in (await harbour.send("GET", "/Users", key="bogk_x")).headers


async def test_the_provisioning_scope_opens_nothing_in_the_graph(door, harbour):
    answer = await door.ask(None, "{ viewer { account { name } } }", token=harbour.key)
    assert answer.codes() == [("viewer.account", "FORBIDDEN")]
    members = "{ viewer { organisation { members { nodes { name } } } } }"
    assert (await door.ask(None, members, token=harbour.key)).codes() == [
        ("viewer.organisation.members", "FORBIDDEN")
    ]


async def test_where_memberships_come_from_claims_nothing_is_provisioned(running_door):
    office = running_door.office
    assert office.settings.signin.membership == "claims"
    directory = Directory(running_door, await key_of(running_door, "owner-harbour", "members:provision"))
    answer = await directory.send("POST", "/Users", {"schemas": [USER], "userName": "x"})
    assert (answer.status, answer.body["schemas"]) == (403, [ERROR])
