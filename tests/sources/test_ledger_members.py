"""The book of members: whatever happens at once, an organisation keeps its owner and an invitation makes one member."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.common import Window
from sources.ports.members import (
    BookQuery,
    Granting,
    InvitationState,
    Invite,
    MemberRecord,
    Membership,
    MemberState,
    OrganisationRecord,
    Person,
)
from sources.ports.writing import Refusal, WriteRefused

ISSUER = "https://id.example"
ALL = frozenset({"owner", "finance", "standard"})
BOSS = Granting(by="boss", owner="owner", roles=ALL, by_name="The Boss")
TOMORROW = datetime.now(UTC) + timedelta(days=1)


def member(subject: str | None, *roles: str, organisation: str = "acme", **changes: object) -> MemberRecord:
    now = datetime.now(UTC)
    values: dict[str, object] = {
        "id": f"{organisation}-{subject}",
        "organisation": organisation,
        "roles": roles,
        "created_at": now,
        "issuer": ISSUER,
        "subject": subject,
        "joined_at": now if subject else None,
    }
    return MemberRecord(**(values | changes))  # type: ignore[arg-type]


def person(subject: str, **changes: object) -> Person:
    return Person(ISSUER, subject, **changes)  # type: ignore[arg-type]


def invite(email: str = "new@acme.example", *roles: str, **changes: object) -> Invite:
    return Invite(email, roles or ("standard",), **({"expires_at": TOMORROW} | changes))  # type: ignore[arg-type]


async def refusal(awaitable) -> Refusal:
    with pytest.raises(WriteRefused) as refused:
        await awaitable
    return refused.value.code


@pytest_asyncio.fixture
async def book(ledger: Ledger) -> AsyncIterator[Ledger]:
    """Two organisations; the first has one owner."""
    for id_ in ("acme", "other"):
        await ledger.organisations.save(OrganisationRecord(id_, id_.upper(), ()))
    await ledger.members.add(member("anna", "owner"), BOSS)
    yield ledger


@pytest_asyncio.fixture
async def elsewhere(book: Ledger, database_url: str) -> AsyncIterator[Ledger]:
    """Another process of the gateway."""
    opened = await Ledger.open(database_url)
    yield opened
    await opened.close()


async def roles_of(ledger: Ledger, subject: str, **changes: object) -> dict[str, tuple[str, ...]]:
    return {
        one.organisation: one.roles for one in await ledger.members.memberships(person(subject, **changes))
    }


async def test_a_person_may_belong_to_several_organisations_with_roles_of_their_own_in_each(book):
    await book.members.add(member("anna", "finance", organisation="other"), BOSS)
    assert await book.members.memberships(person("anna")) == (
        Membership("acme", "acme-anna", ("owner",)),
        Membership("other", "other-anna", ("finance",)),
    )
    assert await book.members.memberships(person("nobody")) == ()
    assert await book.members.memberships(person("an\0na")) == ()


async def test_the_same_subject_of_another_issuer_is_somebody_else(book):
    assert await book.members.memberships(Person("https://other.example", "anna")) == ()


async def test_suspended_and_ended_members_have_no_membership(book):
    await book.members.add(member("sus", "standard", active=False), BOSS)
    await book.members.add(member("end", "standard", ends_at=datetime.now(UTC) - timedelta(seconds=1)), BOSS)
    assert (await roles_of(book, "sus"), await roles_of(book, "end")) == ({}, {})
    found = await book.members.members(["acme-sus", "acme-end", "acme-anna", "nobody"])
    assert [one and one.state for one in found] == [
        MemberState.SUSPENDED,
        MemberState.ENDED,
        MemberState.ACTIVE,
        None,
    ]


async def test_a_membership_that_is_remembered_still_ends_by_itself(book):
    book.watch()
    async with asyncio.timeout(30):
        while not book.changes.heard:
            await asyncio.sleep(0.01)
    soon = datetime.now(UTC) + timedelta(seconds=3)
    await book.members.add(member("cora", "standard", ends_at=soon), BOSS)
    assert await roles_of(book, "cora") == {"acme": ("standard",)}
    async with asyncio.timeout(30):
        while datetime.now(UTC) < soon:
            assert await roles_of(book, "cora") in ({"acme": ("standard",)}, {})
    assert await roles_of(book, "cora") == {}


async def test_a_removal_is_seen_at_once_by_another_process_that_remembered(book, elsewhere):
    await book.members.add(member("ben", "standard"), BOSS)
    elsewhere.watch()
    async with asyncio.timeout(30):
        while not elsewhere.changes.heard:
            await asyncio.sleep(0.01)
    with elsewhere.changes.listen("members") as listener:
        assert await roles_of(elsewhere, "ben") == {"acme": ("standard",)}
        await book.members.remove("acme", "acme-ben", BOSS)
        async with asyncio.timeout(30):
            assert (await listener.change()).books == {"members"}
    assert await roles_of(elsewhere, "ben") == {}


# -- the last owner -----------------------------------------------------------------------------------------------


async def test_the_last_owner_cannot_be_removed_demoted_or_given_an_end(book):
    await book.members.add(member("ben", "standard"), BOSS)
    last = book.members
    assert await refusal(last.remove("acme", "acme-anna", BOSS)) is Refusal.LAST_OWNER
    assert await refusal(last.change_roles("acme", "acme-anna", ["finance"], BOSS)) is Refusal.LAST_OWNER
    assert await refusal(last.set_end("acme", "acme-anna", TOMORROW, BOSS)) is Refusal.LAST_OWNER
    assert await roles_of(book, "anna") == {"acme": ("owner",)}


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"ends_at": TOMORROW},
        {"subject": None, "joined_at": None, "external_id": "x"},
    ],
    ids=["suspended", "for a while", "never signed in"],
)
async def test_an_owner_who_may_not_stay_does_not_count_as_one(book, changes):
    await book.members.add(msgspec.structs.replace(member("olga", "owner"), **changes), BOSS)
    assert await refusal(book.members.remove("acme", "acme-anna", BOSS)) is Refusal.LAST_OWNER


async def test_one_of_two_owners_may_go_and_then_the_other_is_the_last(book):
    await book.members.add(member("olga", "owner", "finance"), BOSS)
    await book.members.remove("acme", "acme-anna", BOSS)
    assert await refusal(book.members.remove("acme", "acme-olga", BOSS)) is Refusal.LAST_OWNER


async def test_owners_who_remove_demote_and_time_limit_each_other_at_once_leave_one(book, elsewhere):
    names = ["anna"] + [f"owner-{number}" for number in range(8)]
    for name in names[1:]:
        await book.members.add(member(name, "owner"), BOSS)

    def ending(ledger: Ledger, name: str, way: int):
        id_ = f"acme-{name}"
        if way == 0:
            return ledger.members.remove("acme", id_, BOSS)
        if way == 1:
            return ledger.members.change_roles("acme", id_, ["standard"], BOSS)
        return ledger.members.set_end("acme", id_, TOMORROW, BOSS)

    outcomes = await asyncio.gather(
        *(ending((book, elsewhere)[number % 2], name, number % 3) for number, name in enumerate(names)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in refused] == [WriteRefused]
    assert refused[0].code is Refusal.LAST_OWNER
    page = await book.members.members_of(BookQuery("acme", Window(first=100)))
    lasting = [one for one in page.rows if "owner" in one.roles and one.ends_at is None]
    assert len(lasting) == 1


async def test_an_organisation_without_an_owner_can_be_changed_until_it_has_one(book):
    await book.members.add(member("carl", "standard", organisation="other"), BOSS)
    assert (await book.members.change_roles("other", "other-carl", ["finance"], BOSS)).roles == ("finance",)
    await book.members.remove("other", "other-carl", BOSS)


# -- how far one may go -------------------------------------------------------------------------------------------


async def test_members_of_another_organisation_read_as_not_there(book):
    await book.members.add(member("carl", "standard", organisation="other"), BOSS)
    store = book.members
    assert await refusal(store.remove("acme", "other-carl", BOSS)) is Refusal.NOT_FOUND
    assert await refusal(store.change_roles("acme", "other-carl", ["finance"], BOSS)) is Refusal.NOT_FOUND
    assert await refusal(store.set_end("acme", "other-carl", None, BOSS)) is Refusal.NOT_FOUND
    assert await refusal(store.remove("acme", "no\0body", BOSS)) is Refusal.NOT_FOUND
    assert await roles_of(book, "carl") == {"other": ("standard",)}


async def test_a_member_who_holds_more_than_the_caller_may_give_is_beyond_them(book):
    few = Granting(by="clerk", owner="owner", roles=frozenset({"standard"}))
    await book.members.add(member("olga", "owner"), BOSS)
    assert await refusal(book.members.remove("acme", "acme-olga", few)) is Refusal.ROLE_NOT_YOURS
    assert (
        await refusal(book.members.change_roles("acme", "acme-olga", ["standard"], few))
        is Refusal.ROLE_NOT_YOURS
    )
    assert await refusal(book.members.set_end("acme", "acme-olga", TOMORROW, few)) is Refusal.ROLE_NOT_YOURS


async def test_anybody_may_remove_themselves_but_the_last_owner(book):
    await book.members.add(member("fin", "finance"), BOSS)
    own = Granting(by=f"{ISSUER}|fin", owner="owner", roles=frozenset())
    await book.members.remove("acme", "acme-fin", own)
    assert await roles_of(book, "fin") == {}
    last = Granting(by=f"{ISSUER}|anna", owner="owner", roles=frozenset())
    assert await refusal(book.members.remove("acme", "acme-anna", last)) is Refusal.LAST_OWNER


async def test_nobody_is_a_member_twice(book):
    again = member("anna", "standard", id="again")
    assert await refusal(book.members.add(again, BOSS)) is Refusal.ALREADY_MEMBER
    nowhere = member("anna", "standard", organisation="nowhere")
    assert await refusal(book.members.add(nowhere, BOSS)) is Refusal.NOT_FOUND


# -- invitations --------------------------------------------------------------------------------------------------


async def test_an_invitation_makes_its_holder_a_member_once(book):
    made, secret = await book.members.invite("acme", invite(member_ends_at=TOMORROW), BOSS)
    assert (made.state, made.invited_by, made.invited_by_name) == (InvitationState.OPEN, "boss", "The Boss")
    joined = await book.members.accept(secret, person("nina", name="Nina"), verified_email=False)
    assert (
        joined.organisation,
        joined.roles,
        joined.name,
        joined.email,
        joined.ends_at,
        joined.invited_by,
    ) == (
        "acme",
        ("standard",),
        "Nina",
        "new@acme.example",
        TOMORROW,
        "boss",
    )
    assert await roles_of(book, "nina") == {"acme": ("standard",)}
    for subject in ("nina", "thief"):
        replay = book.members.accept(secret, person(subject), verified_email=False)
        assert await refusal(replay) is Refusal.INVITATION_USED
    assert await roles_of(book, "thief") == {}
    (kept,) = await book.members.invitations([made.id])
    assert kept is not None
    assert kept.state is InvitationState.ACCEPTED


async def test_an_invitation_that_many_accept_at_once_makes_one_member(book, elsewhere):
    _, secret = await book.members.invite("acme", invite(), BOSS)
    outcomes = await asyncio.gather(
        *(
            (book, elsewhere)[number % 2].members.accept(secret, person(f"p{number}"), verified_email=False)
            for number in range(10)
        ),
        return_exceptions=True,
    )
    joined = [outcome for outcome in outcomes if isinstance(outcome, MemberRecord)]
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, WriteRefused)]
    assert (len(joined), codes) == (1, [Refusal.INVITATION_USED] * 9)
    page = await book.members.members_of(BookQuery("acme", Window(first=100)))
    assert len(page.rows) == 2


async def test_one_person_who_accepts_two_invitations_at_once_is_one_member(book, elsewhere):
    secrets = [
        (await book.members.invite("acme", invite(f"n{number}@acme.example"), BOSS))[1] for number in range(2)
    ]
    outcomes = await asyncio.gather(
        *(
            ledger.members.accept(secret, person("nina"), verified_email=False)
            for ledger, secret in zip((book, elsewhere), secrets, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["MemberRecord", "WriteRefused"]


async def test_accepting_and_revoking_at_once_leaves_either_a_member_or_a_dead_link(book, elsewhere):
    for number in range(6):
        made, secret = await book.members.invite("acme", invite(f"n{number}@acme.example"), BOSS)
        await asyncio.gather(
            book.members.accept(secret, person(f"n{number}"), verified_email=False),
            elsewhere.members.revoke_invitation("acme", made.id),
            return_exceptions=True,
        )
        (kept,) = await book.members.invitations([made.id])
        assert kept is not None
        joined = await roles_of(book, f"n{number}") == {"acme": ("standard",)}
        assert (kept.state is InvitationState.ACCEPTED) is joined
        assert (kept.state is InvitationState.REVOKED) is not joined


async def test_only_the_open_and_known_secret_opens(book):
    made, secret = await book.members.invite("acme", invite(), BOSS)
    for wrong in ("", secret[:-1], secret + "x", made.id, "\udc00", "a\0b"):
        attempt = book.members.accept(wrong, person("nina"), verified_email=False)
        assert await refusal(attempt) is Refusal.NOT_FOUND
    await book.members.revoke_invitation("acme", made.id)
    revoked = book.members.accept(secret, person("nina"), verified_email=False)
    assert await refusal(revoked) is Refusal.NOT_FOUND
    past = datetime.now(UTC) - timedelta(seconds=1)
    _, secret = await book.members.invite("acme", invite(expires_at=past), BOSS)
    expired = book.members.accept(secret, person("nina"), verified_email=False)
    assert await refusal(expired) is Refusal.INVITATION_EXPIRED
    assert await roles_of(book, "nina") == {}


async def test_the_secret_is_long_and_nowhere_in_the_database(book, database_url):
    _, secret = await book.members.invite("acme", invite(), BOSS)
    assert len(secret) >= 43  # 256 bits in base64
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT invitations::text AS row FROM invitations")
    await connection.close()
    assert len(rows) == 1
    assert secret not in rows[0]["row"]
    assert secret.encode().hex() not in rows[0]["row"]


async def test_a_renewed_invitation_has_a_new_link_and_the_former_is_dead(book):
    past = datetime.now(UTC) - timedelta(seconds=1)
    made, old = await book.members.invite("acme", invite(expires_at=past), BOSS)
    await book.members.note_delivery(made.id, old)
    renewed, new = await book.members.renew_invitation("acme", made.id, TOMORROW, BOSS)
    assert (renewed.id, renewed.state, renewed.delivered_at) == (made.id, InvitationState.OPEN, None)
    await book.members.note_delivery(made.id, old)
    (kept,) = await book.members.invitations([made.id])
    assert kept is not None
    assert kept.delivered_at is None
    dead = book.members.accept(old, person("nina"), verified_email=False)
    assert await refusal(dead) is Refusal.NOT_FOUND
    await book.members.accept(new, person("nina"), verified_email=False)


async def test_invitations_of_another_organisation_read_as_not_there(book):
    made, _ = await book.members.invite("other", invite(), BOSS)
    assert await refusal(book.members.revoke_invitation("acme", made.id)) is Refusal.NOT_FOUND
    renewal = book.members.renew_invitation("acme", made.id, TOMORROW, BOSS)
    assert await refusal(renewal) is Refusal.NOT_FOUND
    assert (await book.members.invitations_of(BookQuery("acme", Window(first=10)))).rows == []


async def test_a_verified_address_must_be_the_invited_one_and_may_be_demanded(book):
    _, secret = await book.members.invite("acme", invite("Nina@Acme.example"), BOSS)
    other = person("nina", email="nina@elsewhere.example", email_verified=True)
    assert await refusal(book.members.accept(secret, other, verified_email=False)) is Refusal.EMAIL_MISMATCH
    unsure = person("nina", email="nina@acme.example")
    assert (
        await refusal(book.members.accept(secret, unsure, verified_email=True)) is Refusal.EMAIL_NOT_VERIFIED
    )
    own = person("nina", email="nina@ACME.example", email_verified=True)
    assert (await book.members.accept(secret, own, verified_email=True)).subject == "nina"


async def test_an_address_is_invited_once_and_a_member_not_at_all(book):
    made, secret = await book.members.invite("acme", invite("nina@acme.example"), BOSS)
    again = book.members.invite("acme", invite("NINA@acme.example"), BOSS)
    assert await refusal(again) is Refusal.ALREADY_INVITED
    await book.members.invite("other", invite("nina@acme.example"), BOSS)
    await book.members.accept(secret, person("nina"), verified_email=False)
    assert (
        await refusal(book.members.invite("acme", invite("Nina@acme.example"), BOSS))
        is Refusal.ALREADY_MEMBER
    )
    assert await refusal(book.members.revoke_invitation("acme", made.id)) is Refusal.INVITATION_USED


async def test_no_organisation_floods_letter_boxes(book):
    made, _ = await book.members.invite("acme", invite(), BOSS)
    for _ in range(99):
        await book.members.renew_invitation("acme", made.id, TOMORROW, BOSS)
    assert await refusal(book.members.renew_invitation("acme", made.id, TOMORROW, BOSS)) is Refusal.TOO_MANY
    await book.members.revoke_invitation("acme", made.id)
    assert await refusal(book.members.invite("acme", invite("next@acme.example"), BOSS)) is Refusal.TOO_MANY
    await book.members.invite("other", invite(), BOSS)


async def test_whoever_is_removed_or_demoted_does_not_come_back_by_their_own_invitation(book):
    for name, end in (
        ("olga", lambda: book.members.remove("acme", "acme-olga", BOSS)),
        ("oleg", lambda: book.members.change_roles("acme", "acme-oleg", ["standard"], BOSS)),
    ):
        await book.members.add(member(name, "owner"), BOSS)
        theirs = Granting(by=f"{ISSUER}|{name}", owner="owner", roles=ALL)
        _, secret = await book.members.invite("acme", invite(f"{name}2@acme.example", "owner"), theirs)
        await end()
        assert (
            await refusal(book.members.accept(secret, person("second"), verified_email=False))
            is Refusal.NOT_FOUND
        )


async def test_a_removed_member_leaves_no_trace_of_the_invitation(book):
    made, secret = await book.members.invite("acme", invite(), BOSS)
    joined = await book.members.accept(secret, person("nina"), verified_email=False)
    await book.members.remove("acme", joined.id, BOSS)
    assert await book.members.invitations([made.id]) == [None]
    replay = book.members.accept(secret, person("nina"), verified_email=False)
    assert await refusal(replay) is Refusal.NOT_FOUND


# -- provisioned members ------------------------------------------------------------------------------------------


async def test_a_provisioned_member_is_claimed_at_the_first_sign_in_with_that_issuer_alone(book):
    await book.members.add(member(None, "finance", id="m1", external_id="oid-1", name="Petra"), BOSS)
    elsewhere = Person("https://other.example", "oid-1", external_ids=("oid-1",))
    assert await book.members.memberships(elsewhere) == ()
    assert await roles_of(book, "pet", external_ids=("oid-2",)) == {}
    assert await roles_of(book, "pet", external_ids=("oid-1",), email="x@y.example") == {"acme": ("finance",)}
    (claimed,) = await book.members.members(["m1"])
    assert claimed is not None
    assert (claimed.subject, claimed.state, claimed.name) == ("pet", MemberState.ACTIVE, "Petra")
    assert await roles_of(book, "second", external_ids=("oid-1",)) == {}


async def test_a_first_sign_in_in_two_processes_at_once_claims_once(book, elsewhere):
    await book.members.add(member(None, "finance", id="m1", external_id="oid-1"), BOSS)
    found = await asyncio.gather(
        *(roles_of(ledger, "pet", external_ids=("oid-1",)) for ledger in (book, elsewhere) * 3)
    )
    assert found == [{"acme": ("finance",)}] * 6


async def test_who_is_a_member_already_claims_nothing_however_often_they_ask(book, database_url):
    await book.members.add(member("pet", "standard"), BOSS)
    await book.members.add(member(None, "owner", id="m1", external_id="oid-1"), BOSS)
    book.watch()
    async with asyncio.timeout(30):
        while not book.changes.heard:
            await asyncio.sleep(0.01)
    connection = await asyncpg.connect(database_url)
    with book.changes.listen("members", "the end") as listener:
        for _ in range(3):
            assert await roles_of(book, "pet", external_ids=("oid-1",)) == {"acme": ("standard",)}
        await connection.execute("NOTIFY gateway_ledger, 'the end'")
        async with asyncio.timeout(30):
            assert (await listener.change()).books == {"the end"}
    await connection.close()
    (unclaimed,) = await book.members.members(["m1"])
    assert unclaimed is not None
    assert unclaimed.state is MemberState.PROVISIONED


# -- pages --------------------------------------------------------------------------------------------------------


async def test_pages_cover_all_members_once_in_both_directions(book):
    for number in range(6):
        await book.members.add(member(f"m{number}", "standard"), BOSS)
    whole = await book.members.members_of(BookQuery("acme", Window(first=100)))
    ids = [row.id for row in whole.rows]
    assert (len(ids), whole.has_next, whole.has_previous) == (7, False, False)
    forwards: list[str] = []
    after = None
    while True:
        page = await book.members.members_of(BookQuery("acme", Window(first=3, after=after)))
        forwards += [row.id for row in page.rows]
        if not page.has_next:
            break
        after = page.keys[-1]
    backwards: list[str] = []
    before = None
    while True:
        page = await book.members.members_of(BookQuery("acme", Window(last=3, before=before)))
        backwards = [row.id for row in page.rows] + backwards
        if not page.has_previous:
            break
        before = page.keys[0]
    assert (forwards, backwards) == (ids, ids)
    assert (await book.members.members_of(BookQuery("nowhere", Window(first=3)))).rows == []
