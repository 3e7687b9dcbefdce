"""Members through the door: who may change whom, in which organisation, and that it holds from the next request on."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from gateway.demo import save_members
from gateway.invitations import Post
from gateway.settings import Invitations, Mail
from gateway.signin.settings import SessionSettings
from sources.sandbox.letters import text_of
from sources.sandbox.world import World
from sources.transport.smtp import Encryption
from tests.browser import PUBLIC, Browser
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.ports import kept_port

ERRORS = "userErrors { code message field }"
OPERATION = "operation { id repeated }"
PAYLOADS = {
    "inviteMember": "invitation { id email roles state deliveredAt memberEndsAt invitedBy } delivered link secret",
    "resendInvitation": "invitation { id state } delivered link secret",
    "revokeInvitation": "invitation { id state }",
    "acceptInvitation": "member { id name email roles state isViewer } organisation { id name }",
    "changeMemberRoles": "member { id roles }",
    "setMemberEnd": "member { id endsAt state }",
    "removeMember": "removedMemberId",
    "leaveOrganisation": "leftOrganisationId",
}
WHO = "{ viewer { id roles scopes organisation { id } organisations { id } member { id roles state isViewer } } }"
MEMBERS = """{ viewer { organisation {
  members(first: 100) { nodes { id name email roles state } }
  invitations(first: 100) { nodes { id email state } }
} } }"""

_keys = count()


@pytest_asyncio.fixture(scope="module")
async def opened(world: World, postgres: str) -> AsyncIterator[tuple[Door, str]]:
    """A gateway whose ledger says who is a member; membership of the demo's personas."""
    async with (
        fresh_database(postgres) as url,
        open_door(
            world,
            url,
            matched=False,
            membership="ledger",
            public_url=PUBLIC,
            sessions=SessionSettings(),
        ) as door,
    ):
        yield door, url


@pytest_asyncio.fixture
async def door(opened: tuple[Door, str]) -> AsyncIterator[Door]:
    """With nobody but the personas, and no mails."""
    door, url = opened
    connection = await asyncpg.connect(url)
    await connection.execute("DELETE FROM members; DELETE FROM invitations; DELETE FROM writes")
    await connection.close()
    await save_members(door.office.ledger, door.issuer.url, door.issuer.personas)
    door.letters.mails.clear()
    door.letters.refusing = None
    yield door


@pytest_asyncio.fixture
async def database(opened: tuple[Door, str], door: Door) -> AsyncIterator[asyncpg.Connection]:
    """The ledger behind the gateway's back."""
    connection = await asyncpg.connect(opened[1])
    yield connection
    await connection.close()


async def change(
    door: Door,
    persona: str,
    mutation: str,
    *,
    token: str | None = None,
    organisation: str | None = None,
    key: str | None = None,
    **fields: Any,
) -> Answer:
    """One mutation with a key of its own unless one is given."""
    type_name = mutation[0].upper() + mutation[1:] + "Input!"
    query = (
        f"mutation M($input: {type_name}) {{ "
        f"{mutation}(input: $input) {{ {PAYLOADS[mutation]} {ERRORS} {OPERATION} }} }}"
    )
    headers = {"X-Organisation": organisation} if organisation else {}
    given = {"idempotencyKey": key or f"key-{next(_keys)}", **fields}
    return await door.ask(None if token else persona, query, {"input": given}, token=token, headers=headers)


def payload(answer: Answer) -> Mapping[str, Any]:
    """Of the only mutation; fails where the answer has errors."""
    assert answer.errors == []
    (only,) = answer.data.values()
    return only  # type: ignore[no-any-return]


def codes(answer: Answer) -> list[str]:
    return [error["code"] for error in payload(answer)["userErrors"]]


async def member_id(door: Door, persona: str) -> str:
    return (await door.ask(persona, WHO)).data["viewer"]["member"]["id"]  # type: ignore[no-any-return]


async def people(door: Door, persona: str = "owner-harbour") -> dict[str, tuple[str, ...]]:
    nodes = (await door.ask(persona, MEMBERS)).data["viewer"]["organisation"]["members"]["nodes"]
    return {node["name"]: tuple(node["roles"]) for node in nodes}


def secret_in_mail(door: Door) -> str:
    found = re.search(r"#(\S+)", text_of(door.letters.mails[-1]))
    assert found
    return found[1]


async def invited(door: Door, email: str = "nina@new.example", roles: tuple[str, ...] = ("standard",)) -> str:
    """The secret of a new invitation by the first customer's owner."""
    answer = await change(door, "owner-harbour", "inviteMember", email=email, roles=list(roles))
    assert codes(answer) == []
    return secret_in_mail(door)


@contextmanager
def posting(door: Door, mail: Mail | None, **invitations: Any) -> Iterator[None]:
    """Other settings of mail and invitations for a while."""
    former = door.office.invitations
    settings = Invitations(**({"accept_url": "https://portal.example/join#{secret}"} | invitations))
    door.office.invitations = Post(settings, mail, door.office.roles)
    try:
        yield
    finally:
        door.office.invitations = former


def mail_to(port: int, **changes: Any) -> Mail:
    return Mail(
        **(
            {
                "host": "127.0.0.1",
                "port": port,
                "sender": "portal@firm.example",
                "sender_name": "The Firm",
                "encryption": Encryption.NONE,
            }
            | changes
        )
    )


# -- the whole way ------------------------------------------------------------------------------------------------


async def test_an_owner_invites_somebody_who_accepts_and_acts_for_the_organisation(door):
    before = (await door.ask("newcomer", WHO)).data["viewer"]
    assert (before["roles"], before["scopes"], before["organisation"], before["member"]) == (
        [],
        [],
        None,
        None,
    )

    made = payload(
        await change(door, "owner-harbour", "inviteMember", email="nina@new.example", roles=["finance"])
    )
    assert (made["delivered"], made["link"], made["secret"]) == (True, None, None)
    assert (made["invitation"]["state"], made["invitation"]["roles"]) == ("OPEN", ["finance"])
    assert made["invitation"]["deliveredAt"] is not None

    accepted = payload(await change(door, "newcomer", "acceptInvitation", secret=secret_in_mail(door)))
    assert accepted["organisation"]["id"] == "harbour"
    assert (accepted["member"]["roles"], accepted["member"]["email"]) == (["finance"], "nina@new.example")

    after = (await door.ask("newcomer", WHO)).data["viewer"]
    assert (after["roles"], after["organisation"]) == (["finance"], {"id": "harbour"})
    assert after["member"] == {
        "id": accepted["member"]["id"],
        "roles": ["finance"],
        "state": "ACTIVE",
        "isViewer": True,
    }
    assert (await people(door))["Nina Newcomer"] == ("finance",)


async def test_the_mail_is_readable_without_html_and_names_who_invites_to_what(door):
    await invited(door)
    (mail,) = door.letters.mails
    organisation = (await door.office.ledger.organisations.organisations(["harbour"]))[0]
    assert organisation is not None
    assert mail["To"] == "nina@new.example"
    assert mail["From"] == "The Firm <portal@firm.example>"
    assert mail["Subject"] == f"Invitation to join {organisation.name} at The Firm"
    text = text_of(mail)
    assert f"Owner of {organisation.name} invites you to join {organisation.name} at The Firm." in text
    assert "You will be: Standard" in text
    html = mail.get_body(("html",))
    assert html is not None
    page = html.get_content()
    assert '<html lang="en">' in page
    assert page.count(f"#{secret_in_mail(door)}") == 2


async def test_a_removed_member_is_refused_at_the_next_request_with_the_same_token(door):
    token = door.issuer.token("finance-harbour")
    ask = "{ viewer { roles scopes organisation { id } account { name } } }"
    let_in = await door.ask(None, ask, token=token)
    assert let_in.data["viewer"]["organisation"] == {"id": "harbour"}
    removed = await change(
        door, "owner-harbour", "removeMember", memberId=await member_id(door, "finance-harbour")
    )
    assert codes(removed) == []
    refused = await door.ask(None, ask, token=token)
    assert refused.data["viewer"] == {"roles": [], "scopes": [], "organisation": None, "account": None}
    assert refused.codes() == [("viewer.account", "FORBIDDEN")]
    named = await door.ask(None, ask, token=token, headers={"X-Organisation": "harbour"})
    assert named.status == 403
    assert "harbour" not in str(named.body)


async def test_a_removed_members_browser_session_opens_nothing_of_the_organisation(door):
    browser = Browser(door.url, door.session)
    await browser.sign_in("finance-harbour")
    ask = "{ viewer { roles organisation { id } organisations { id } account { name } } }"
    assert (await browser.ask(ask)).data["viewer"]["organisation"] == {"id": "harbour"}
    id_ = await member_id(door, "finance-harbour")
    assert codes(await change(door, "owner-harbour", "removeMember", memberId=id_)) == []
    after = await browser.ask(ask)
    assert after.data["viewer"] == {"roles": [], "organisation": None, "organisations": [], "account": None}


async def test_changed_roles_hold_from_the_next_request_on(door):
    token = door.issuer.token("standard-harbour")
    id_ = await member_id(door, "standard-harbour")
    changed = await change(
        door, "owner-harbour", "changeMemberRoles", memberId=id_, roles=["finance", "partner"]
    )
    assert payload(changed)["member"] == {"id": id_, "roles": ["finance", "partner"]}
    viewer = (await door.ask(None, WHO, token=token)).data["viewer"]
    assert viewer["roles"] == ["finance", "partner"]
    assert "tickets:read" not in viewer["scopes"]


async def test_a_membership_ends_by_itself(door, database):
    id_ = await member_id(door, "standard-harbour")
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    set_ = payload(await change(door, "owner-harbour", "setMemberEnd", memberId=id_, endsAt=until))
    assert set_["member"]["state"] == "ACTIVE"
    assert datetime.fromisoformat(set_["member"]["endsAt"]) == datetime.fromisoformat(until)
    await database.execute("UPDATE members SET ends_at = now() - interval '1 second' WHERE id = $1", id_)
    async with asyncio.timeout(30):
        while (await door.ask("standard-harbour", WHO)).data["viewer"]["organisation"] is not None:
            await asyncio.sleep(0.02)
    back = await change(door, "owner-harbour", "setMemberEnd", memberId=id_, endsAt=None)
    assert payload(back)["member"] == {"id": id_, "endsAt": None, "state": "ACTIVE"}
    assert (await door.ask("standard-harbour", WHO)).data["viewer"]["roles"] == ["standard"]


async def test_a_consultant_is_invited_for_a_while(door):
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    made = payload(
        await change(
            door,
            "owner-harbour",
            "inviteMember",
            email="nina@new.example",
            roles=["partner"],
            endsAt=until,
        )
    )
    assert datetime.fromisoformat(made["invitation"]["memberEndsAt"]) == datetime.fromisoformat(until)
    await change(door, "newcomer", "acceptInvitation", secret=secret_in_mail(door))
    query = "{ viewer { member { endsAt } } }"
    ends = (await door.ask("newcomer", query)).data["viewer"]["member"]["endsAt"]
    assert datetime.fromisoformat(ends) == datetime.fromisoformat(until)


async def test_a_person_of_several_organisations_says_for_which_one_a_request_acts(door):
    await change(door, "newcomer", "acceptInvitation", secret=await invited(door, roles=("read-only",)))
    await change(door, "owner-moeller", "inviteMember", email="nina@new.example", roles=["owner"])
    joined = await change(door, "newcomer", "acceptInvitation", secret=secret_in_mail(door))
    assert payload(joined)["organisation"]["id"] == "moeller"
    unsaid = await door.ask("newcomer", WHO)
    assert (unsaid.status, unsaid.errors[0]["extensions"]["code"]) == (400, "BAD_USER_INPUT")
    for organisation, role in (("harbour", "read-only"), ("moeller", "owner")):
        answer = await door.ask("newcomer", WHO, headers={"X-Organisation": organisation})
        viewer = answer.data["viewer"]
        assert (viewer["organisation"], viewer["roles"]) == ({"id": organisation}, [role])
        assert [one["id"] for one in viewer["organisations"]] == ["harbour", "moeller"]
    # An owner of the one is no owner of the other.
    attempt = await change(
        door, "newcomer", "inviteMember", organisation="harbour", email="x@y.example", roles=["standard"]
    )
    assert attempt.data == {"inviteMember": None}
    assert attempt.codes() == [("inviteMember", "FORBIDDEN")]
    listed = await door.ask(
        "newcomer",
        "{ viewer { organisations { id members { nodes { id } } } } }",
        headers={"X-Organisation": "moeller"},
    )
    by_id = {one["id"]: one["members"] for one in listed.data["viewer"]["organisations"]}
    assert by_id["harbour"] is None
    assert len(by_id["moeller"]["nodes"]) == 5
    assert [code for _, code in listed.codes()] == ["FORBIDDEN"]


async def test_a_standing_member_may_leave_and_the_last_owner_may_not(door):
    left = payload(await change(door, "standard-harbour", "leaveOrganisation"))
    assert left["leftOrganisationId"] == "harbour"
    assert (await door.ask("standard-harbour", WHO)).data["viewer"]["organisation"] is None
    assert codes(await change(door, "owner-harbour", "leaveOrganisation")) == ["LAST_OWNER"]
    assert codes(await change(door, "newcomer", "leaveOrganisation")) == ["ORGANISATION_NEEDED"]


# -- who may --------------------------------------------------------------------------------------------------------

NOT_OWNERS = ("finance-harbour", "standard-harbour", "read-only-harbour", "newcomer", "support")


@pytest.mark.parametrize("persona", NOT_OWNERS)
async def test_nobody_but_owners_and_admins_changes_members(door, persona):
    before = await people(door)
    id_ = await member_id(door, "standard-harbour")
    made = payload(
        await change(door, "owner-harbour", "inviteMember", email="nina@new.example", roles=["standard"])
    )["invitation"]["id"]
    asked: dict[str, dict[str, Any]] = {
        "inviteMember": {"email": "x@y.example", "roles": ["standard"]},
        "resendInvitation": {"invitationId": made},
        "revokeInvitation": {"invitationId": made},
        "changeMemberRoles": {"memberId": id_, "roles": ["owner"]},
        "setMemberEnd": {"memberId": id_},
        "removeMember": {"memberId": id_},
    }
    organisation = "harbour" if persona == "support" else None
    for mutation, fields in asked.items():
        answer = await change(door, persona, mutation, organisation=organisation, **fields)
        assert answer.data == {mutation: None}
        assert answer.codes() == [(mutation, "FORBIDDEN")]
    assert await people(door) == before
    assert len(door.letters.mails) == 1


@pytest.mark.parametrize(
    ("persona", "sees"),
    [
        ("owner-harbour", True),
        ("read-only-harbour", True),
        ("finance-harbour", False),
        ("standard-harbour", False),
    ],
)
async def test_owners_and_read_only_members_see_who_the_members_are(door, persona, sees):
    answer = await door.ask(persona, MEMBERS)
    organisation = answer.data["viewer"]["organisation"]
    if sees:
        assert len(organisation["members"]["nodes"]) == 4
    else:
        assert organisation == {"members": None, "invitations": None}
        assert {code for _, code in answer.codes()} == {"FORBIDDEN"}


async def test_an_admin_acts_for_the_organisation_that_is_named_and_for_no_other(door):
    unnamed = await change(door, "admin", "inviteMember", email="x@y.example", roles=["standard"])
    assert codes(unnamed) == ["ORGANISATION_NEEDED"]
    named = await change(
        door, "admin", "inviteMember", organisation="moeller", email="x@y.example", roles=["owner"]
    )
    assert codes(named) == []
    query = "{ viewer { organisation { id invitations { nodes { email } } } } }"
    for organisation, emails in (("moeller", ["x@y.example"]), ("harbour", [])):
        seen = await door.ask("admin", query, headers={"X-Organisation": organisation})
        nodes = seen.data["viewer"]["organisation"]["invitations"]["nodes"]
        assert [node["email"] for node in nodes] == emails
    elsewhere = await member_id(door, "standard-harbour")
    removal = await change(door, "admin", "removeMember", organisation="moeller", memberId=elsewhere)
    assert codes(removal) == ["NOT_FOUND"]


@pytest.mark.parametrize("role", ["support", "admin", "finance-staff", "nonsense", "Owner", ""])
async def test_only_roles_of_customers_can_be_given(door, role):
    for persona, organisation in (("owner-harbour", None), ("admin", "harbour")):
        invited = await change(
            door, persona, "inviteMember", organisation=organisation, email="x@y.example", roles=[role]
        )
        assert codes(invited) == ["UNKNOWN_ROLE"]
        changed = await change(
            door,
            persona,
            "changeMemberRoles",
            organisation=organisation,
            memberId=await member_id(door, "standard-harbour"),
            roles=["standard", role],
        )
        assert codes(changed) == ["UNKNOWN_ROLE"]
    assert (await door.ask("standard-harbour", WHO)).data["viewer"]["roles"] == ["standard"]


async def test_staff_do_not_become_members_by_an_invitation(door):
    secret = await invited(door)
    assert codes(await change(door, "support", "acceptInvitation", secret=secret)) == ["STAFF_NOT_MEMBER"]
    assert codes(await change(door, "newcomer", "acceptInvitation", secret=secret)) == []


async def test_a_token_that_claims_roles_and_organisations_gives_nobody_a_membership(door):
    token = door.issuer.token("newcomer", roles=["owner"], organisations=["harbour"])
    viewer = (await door.ask(None, WHO, token=token)).data["viewer"]
    assert (viewer["roles"], viewer["organisation"], viewer["organisations"]) == ([], None, [])
    named = await door.ask(None, WHO, token=token, headers={"X-Organisation": "harbour"})
    assert named.status == 403


# -- another organisation --------------------------------------------------------------------------------------------


async def test_another_organisations_members_and_invitations_read_as_not_there(door):
    theirs = await member_id(door, "standard-moeller")
    made = payload(
        await change(door, "owner-moeller", "inviteMember", email="x@y.example", roles=["standard"])
    )["invitation"]["id"]
    nothing = "00000000-0000-4000-8000-000000000000"
    for mutation, field, real, rest in (
        ("changeMemberRoles", "memberId", theirs, {"roles": ["finance"]}),
        ("setMemberEnd", "memberId", theirs, {}),
        ("removeMember", "memberId", theirs, {}),
        ("resendInvitation", "invitationId", made, {}),
        ("revokeInvitation", "invitationId", made, {}),
    ):
        answers = [
            payload(await change(door, "owner-harbour", mutation, **{field: id_}, **rest))
            for id_ in (real, nothing)
        ]
        assert answers[0] == answers[1]
        assert [error["code"] for error in answers[0]["userErrors"]] == ["NOT_FOUND"]
    assert len(door.letters.mails) == 1
    assert (await door.ask("standard-moeller", WHO)).data["viewer"]["roles"] == ["standard"]


# -- refusals --------------------------------------------------------------------------------------------------------


async def test_the_last_owner_cannot_be_removed_demoted_or_given_an_end(door):
    id_ = await member_id(door, "owner-harbour")
    for mutation, rest in (
        ("removeMember", {}),
        ("changeMemberRoles", {"roles": ["finance"]}),
        ("setMemberEnd", {"endsAt": (datetime.now(UTC) + timedelta(days=1)).isoformat()}),
    ):
        for persona, organisation in (("owner-harbour", None), ("admin", "harbour")):
            answer = await change(door, persona, mutation, organisation=organisation, memberId=id_, **rest)
            assert codes(answer) == ["LAST_OWNER"]
            assert payload(answer)["operation"] is None
    assert (await door.ask("owner-harbour", WHO)).data["viewer"]["roles"] == ["owner"]


async def test_two_owners_who_remove_each_other_at_once_leave_one(door):
    ids = {}
    for persona in ("finance-harbour", "standard-harbour"):
        ids[persona] = await member_id(door, persona)
        await change(door, "owner-harbour", "changeMemberRoles", memberId=ids[persona], roles=["owner"])
    await change(door, "owner-harbour", "leaveOrganisation")
    answers = await asyncio.gather(
        change(door, "finance-harbour", "removeMember", memberId=ids["standard-harbour"]),
        change(door, "standard-harbour", "removeMember", memberId=ids["finance-harbour"]),
    )
    # The second may be refused at the door already, when it comes after it was removed.
    done = [answer for answer in answers if answer.data["removeMember"] and not codes(answer)]
    assert len(done) == 1
    left = [persona for persona in ids if (await door.ask(persona, WHO)).data["viewer"]["roles"] == ["owner"]]
    assert len(left) == 1


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"email": "no address"}, "INVALID", ["email"]),
        ({"email": "two@x.example, three@x.example"}, "INVALID", ["email"]),
        ({"email": "x@y.example\r\nBcc: z@y.example"}, "INVALID", ["email"]),
        ({"roles": []}, "INVALID", ["roles"]),
        ({"endsAt": "2020-01-01T00:00:00Z"}, "INVALID", ["endsAt"]),
        ({"key": ""}, "INVALID", ["idempotencyKey"]),
        ({"key": "k" * 201}, "INVALID", ["idempotencyKey"]),
        ({"key": "k\0"}, "INVALID", ["idempotencyKey"]),
    ],
)
async def test_what_cannot_be_used_is_said_with_its_place(door, fields, code, field):
    given = {"email": "x@y.example", "roles": ["standard"]} | fields
    if given.get("key") == "":
        del given["key"]
        query = "mutation M($input: InviteMemberInput!) { inviteMember(input: $input) { userErrors { code field } } }"
        answer = await door.ask("owner-harbour", query, {"input": given | {"idempotencyKey": ""}})
    else:
        answer = await change(door, "owner-harbour", "inviteMember", **given)
    (error,) = payload(answer)["userErrors"]
    assert (error["code"], error["field"]) == (code, field)
    assert door.letters.mails == []


async def test_an_address_is_invited_once_and_a_member_not_at_all(door):
    secret = await invited(door)
    again = await change(door, "owner-harbour", "inviteMember", email="NINA@new.example", roles=["owner"])
    assert codes(again) == ["ALREADY_INVITED"]
    await change(door, "newcomer", "acceptInvitation", secret=secret)
    member = await change(door, "owner-harbour", "inviteMember", email="nina@new.example", roles=["owner"])
    assert codes(member) == ["ALREADY_MEMBER"]
    own = await invited(door, "second@new.example")
    assert codes(await change(door, "newcomer", "acceptInvitation", secret=own)) == ["ALREADY_MEMBER"]


# -- accepting -------------------------------------------------------------------------------------------------------


async def test_a_spent_revoked_renewed_or_expired_link_opens_nothing(door, database):
    spent = await invited(door, "a@new.example")
    await change(door, "newcomer", "acceptInvitation", secret=spent)
    thief = door.issuer.token("newcomer", sub="thief")
    for secret, code in (
        (spent, "INVITATION_USED"),
        (await _revoked(door), "NOT_FOUND"),
        (await _renewed(door), "NOT_FOUND"),
        (await _expired(door, database), "INVITATION_EXPIRED"),
        ("", "NOT_FOUND"),
        ("A" * 43, "NOT_FOUND"),
        ("\0", "NOT_FOUND"),
    ):
        assert codes(await change(door, "", "acceptInvitation", token=thief, secret=secret)) == [code]
    assert (await door.ask(None, WHO, token=thief)).data["viewer"]["organisations"] == []


async def _revoked(door: Door) -> str:
    made = payload(
        await change(door, "owner-harbour", "inviteMember", email="b@new.example", roles=["owner"])
    )["invitation"]["id"]
    revoked = payload(await change(door, "owner-harbour", "revokeInvitation", invitationId=made))
    assert revoked["invitation"]["state"] == "REVOKED"
    return secret_in_mail(door)


async def _renewed(door: Door) -> str:
    """The former secret."""
    made = payload(
        await change(door, "owner-harbour", "inviteMember", email="c@new.example", roles=["owner"])
    )["invitation"]["id"]
    former = secret_in_mail(door)
    resent = payload(await change(door, "owner-harbour", "resendInvitation", invitationId=made))
    assert (resent["delivered"], resent["invitation"]["state"]) == (True, "OPEN")
    assert secret_in_mail(door) != former
    return former


async def _expired(door: Door, database: asyncpg.Connection) -> str:
    secret = await invited(door, "d@new.example")
    await database.execute(
        "UPDATE invitations SET expires_at = now() - interval '1 second' WHERE email = 'd@new.example'"
    )
    return secret


async def test_many_who_accept_one_invitation_at_once_make_one_member(door):
    secret = await invited(door)
    tokens = [door.issuer.token("newcomer", sub=f"p{number}", name=f"P{number}") for number in range(8)]
    answers = await asyncio.gather(
        *(change(door, "", "acceptInvitation", token=token, secret=secret) for token in tokens)
    )
    assert sorted(codes(answer) for answer in answers) == [[], *[["INVITATION_USED"]] * 7]
    assert len(await people(door)) == 5


async def test_a_verified_address_must_be_the_invited_one(door):
    secret = await invited(door, "nina@new.example")
    other = door.issuer.token("newcomer", email="mallory@new.example", email_verified=True)
    refused = await change(door, "", "acceptInvitation", token=other, secret=secret)
    assert codes(refused) == ["EMAIL_MISMATCH"]
    own = door.issuer.token("newcomer", email="Nina@New.example", email_verified=True)
    assert codes(await change(door, "", "acceptInvitation", token=own, secret=secret)) == []


async def test_a_verified_address_may_be_demanded(door):
    with posting(door, mail_to(door.letters.port), require_verified_email=True):
        secret = await invited(door, "nina@new.example")
        for claims in ({}, {"email_verified": False}, {"email_verified": "true"}):
            token = door.issuer.token("newcomer", email="nina@new.example", **claims)
            refused = await change(door, "", "acceptInvitation", token=token, secret=secret)
            assert codes(refused) == ["EMAIL_NOT_VERIFIED"]
        own = door.issuer.token("newcomer", email="nina@new.example", email_verified=True)
        assert codes(await change(door, "", "acceptInvitation", token=own, secret=secret)) == []


async def test_without_a_token_nothing_is_accepted(door):
    secret = await invited(door)
    query = "mutation M($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { member { id } } }"
    given = {"idempotencyKey": "k", "secret": secret}
    answer = await door.ask(None, query, {"input": given})
    assert answer.status == 401


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Nobody listens there."""
    with kept_port() as port:
        yield port


# -- mail ------------------------------------------------------------------------------------------------------------


async def test_where_no_mail_is_sent_the_link_is_shown_once_to_pass_on(door):
    with posting(door, None):
        first = payload(
            await change(
                door, "owner-harbour", "inviteMember", key="once", email="a@new.example", roles=["standard"]
            )
        )
        assert first["delivered"] is False
        assert first["link"] == f"https://portal.example/join#{first['secret']}"
        again = payload(
            await change(
                door, "owner-harbour", "inviteMember", key="once", email="a@new.example", roles=["standard"]
            )
        )
        assert (again["link"], again["secret"], again["operation"]["repeated"]) == (None, None, True)
        assert again["invitation"]["id"] == first["invitation"]["id"]
        assert codes(await change(door, "newcomer", "acceptInvitation", secret=first["secret"])) == []
    assert door.letters.mails == []


async def test_an_invitation_stands_while_the_mail_server_is_away_and_is_sent_again_later(door, unused_port):
    for mail in (mail_to(unused_port), mail_to(door.letters.port)):
        door.letters.refusing = "451 try again later"
        with posting(door, mail):
            made = payload(
                await change(
                    door,
                    "owner-harbour",
                    "inviteMember",
                    email=f"a{mail.port}@new.example",
                    roles=["standard"],
                )
            )
        assert (made["delivered"], made["link"], made["secret"]) == (False, None, None)
        assert (made["invitation"]["state"], made["invitation"]["deliveredAt"]) == ("OPEN", None)
        door.letters.refusing = None
        resent = payload(
            await change(door, "owner-harbour", "resendInvitation", invitationId=made["invitation"]["id"])
        )
        assert resent["delivered"] is True
        assert (
            codes(
                await change(
                    door,
                    "",
                    "acceptInvitation",
                    token=door.issuer.token("newcomer", sub=f"n{mail.port}"),
                    secret=secret_in_mail(door),
                )
            )
            == []
        )


async def test_a_mail_server_that_says_nothing_does_not_hold_up_the_answer(door):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    with posting(door, mail_to(server.sockets[0].getsockname()[1], timeout=0.2)):
        made = payload(
            await change(door, "owner-harbour", "inviteMember", email="a@new.example", roles=["standard"])
        )
    server.close()
    assert (made["delivered"], made["invitation"]["state"]) == (False, "OPEN")


async def test_an_invitation_is_kept_before_its_mail_is_sent(door):
    """So a process that is killed in between has lost a mail and nothing else."""
    reached, enough = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await enough.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    with posting(door, mail_to(server.sockets[0].getsockname()[1], timeout=60)):
        inviting = asyncio.create_task(
            change(door, "owner-harbour", "inviteMember", email="a@new.example", roles=["standard"])
        )
        await reached.wait()
    organisation = (await door.ask("owner-harbour", MEMBERS)).data["viewer"]["organisation"]
    (kept,) = organisation["invitations"]["nodes"]
    assert (kept["email"], kept["state"]) == ("a@new.example", "OPEN")
    resent = payload(await change(door, "owner-harbour", "resendInvitation", invitationId=kept["id"]))
    assert resent["delivered"] is True
    enough.set()
    await inviting
    server.close()
    assert codes(await change(door, "newcomer", "acceptInvitation", secret=secret_in_mail(door))) == []


# -- once ------------------------------------------------------------------------------------------------------------


async def test_a_repeated_request_changes_nothing_and_answers_the_same(door):
    given = {"key": "twice", "email": "nina@new.example", "roles": ["standard"]}
    first = payload(await change(door, "owner-harbour", "inviteMember", **given))
    again = payload(await change(door, "owner-harbour", "inviteMember", **given))
    assert (first["operation"]["repeated"], again["operation"]["repeated"]) == (False, True)
    assert again["operation"]["id"] == first["operation"]["id"]
    assert {**again, "operation": None} == {**first, "operation": None}
    assert len(door.letters.mails) == 1
    other = await change(door, "owner-harbour", "inviteMember", **(given | {"roles": ["owner"]}))
    assert codes(other) == ["IDEMPOTENCY_KEY_REUSED"]
    reused = await change(door, "owner-harbour", "leaveOrganisation", key="twice")
    assert codes(reused) == ["IDEMPOTENCY_KEY_REUSED"]


async def test_many_requests_with_one_key_at_once_are_one_change(door):
    given = {"key": "racing", "email": "nina@new.example", "roles": ["standard"]}
    answers = await asyncio.gather(
        *(change(door, "owner-harbour", "inviteMember", **given) for _ in range(8))
    )
    shown = [payload(answer) for answer in answers]
    assert len({one["operation"]["id"] for one in shown}) == 1
    assert [one["operation"]["repeated"] for one in shown].count(False) == 1
    assert len(door.letters.mails) == 1


async def test_a_refused_change_may_be_tried_again_under_its_key(door):
    id_ = await member_id(door, "owner-harbour")
    assert codes(await change(door, "owner-harbour", "removeMember", key="k", memberId=id_)) == ["LAST_OWNER"]
    second = await member_id(door, "finance-harbour")
    await change(door, "owner-harbour", "changeMemberRoles", memberId=second, roles=["owner"])
    assert codes(await change(door, "owner-harbour", "removeMember", key="k", memberId=id_)) == []


async def test_a_key_of_one_organisation_is_no_key_of_another(door):
    given = {"key": "same", "email": "x@y.example", "roles": ["standard"]}
    assert codes(await change(door, "admin", "inviteMember", organisation="harbour", **given)) == []
    elsewhere = await change(door, "admin", "inviteMember", organisation="moeller", **given)
    assert codes(elsewhere) == ["IDEMPOTENCY_KEY_REUSED"]


async def test_accepting_twice_under_one_key_answers_the_same_member(door):
    secret = await invited(door)
    first = payload(await change(door, "newcomer", "acceptInvitation", key="k", secret=secret))
    again = payload(await change(door, "newcomer", "acceptInvitation", key="k", secret=secret))
    assert again["member"]["id"] == first["member"]["id"]
    assert again["operation"]["repeated"] is True


async def test_leaving_twice_under_one_key_answers_the_same(door):
    first = payload(await change(door, "standard-harbour", "leaveOrganisation", key="k"))
    again = payload(await change(door, "standard-harbour", "leaveOrganisation", key="k"))
    assert again == {**first, "operation": {**first["operation"], "repeated": True}}


async def test_where_claims_say_who_is_a_member_nothing_is_changed(running_door):
    for mutation, fields in (
        ("inviteMember", {"email": "x@y.example", "roles": ["standard"]}),
        ("resendInvitation", {"invitationId": "x"}),
        ("revokeInvitation", {"invitationId": "x"}),
        ("changeMemberRoles", {"memberId": "x", "roles": ["standard"]}),
        ("setMemberEnd", {"memberId": "x"}),
        ("removeMember", {"memberId": "x"}),
        ("acceptInvitation", {"secret": "x"}),
    ):
        answer = await change(running_door, "owner-harbour", mutation, **fields)
        assert codes(answer) == ["KEPT_ELSEWHERE"]
    assert (await running_door.ask("owner-harbour", WHO)).data["viewer"]["member"] is None


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_members_are_paged_and_a_cursor_of_another_list_is_refused(door):
    query = """query P($after: String) { viewer { organisation {
      members(first: 3, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } } } }"""
    seen: list[str] = []
    after = None
    for _ in range(2):
        page = (await door.ask("owner-harbour", query, {"after": after})).data["viewer"]["organisation"][
            "members"
        ]
        seen += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
    assert (len(seen), len(set(seen)), page["pageInfo"]["hasNextPage"]) == (4, 4, False)
    foreign = query.replace("members(", "invitations(")
    refused = await door.ask("owner-harbour", foreign, {"after": after})
    assert [code for _, code in refused.codes()] == ["BAD_USER_INPUT"]


async def test_an_owner_is_told_which_roles_they_may_give(door):
    query = "{ viewer { organisation { assignableRoles { name label scopes } } } }"
    roles = (await door.ask("owner-harbour", query)).data["viewer"]["organisation"]["assignableRoles"]
    assert [role["name"] for role in roles] == ["owner", "finance", "standard", "read-only", "partner"]
    denied = await door.ask("finance-harbour", query)
    assert denied.data["viewer"]["organisation"]["assignableRoles"] is None


async def test_no_secret_is_in_the_database_after_all_this(door, database):
    secret = await invited(door)
    await change(door, "newcomer", "acceptInvitation", secret=secret)
    for table in ("invitations", "writes", "members"):
        rows = await database.fetch(f"SELECT {table}::text AS row FROM {table}")
        assert rows
        assert not any(secret in row["row"] or secret.encode().hex() in row["row"] for row in rows)
