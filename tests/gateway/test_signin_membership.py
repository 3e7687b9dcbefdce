"""Identity from the issuer, membership from the ledger: what a token is worth follows the book at once."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest_asyncio

from permissions.roles import Roles
from sources.ledger.book import Ledger
from sources.ports.members import Granting, MemberRecord
from tests.door import Answer, Door
from tests.issuer import Issuer, believe

WHO = "{ viewer { id roles scopes organisation { id } organisations { id } } }"
OPERATOR = Granting(by="test", owner="owner", roles=frozenset(Roles().names))


class Book:
    """Puts people into the ledger and takes them out again."""

    def __init__(self, door: Door) -> None:
        self._members = door.office.ledger.members
        self._added: list[MemberRecord] = []

    async def add(self, issuer: Issuer, organisation: str, *roles: str, **more: Any) -> MemberRecord:
        now = datetime.now(UTC)
        known = {"issuer": issuer.url, "subject": "ann", "name": "Ann", "joined_at": now}
        record = MemberRecord(
            id=str(uuid4()), organisation=organisation, roles=roles, created_at=now, **known | more
        )
        self._added.append(await self._members.add(record, OPERATOR))
        return record

    async def change(self, member: MemberRecord, *roles: str) -> None:
        await self._members.change_roles(member.organisation, member.id, roles, OPERATOR)

    async def remove(self, member: MemberRecord) -> None:
        self._added.remove(member)
        await self._members.remove(member.organisation, member.id, OPERATOR)

    async def clear(self) -> None:
        for member in list(self._added):
            await self.remove(member)


@pytest_asyncio.fixture
async def book(door: Door, issuer: Issuer) -> AsyncIterator[Book]:
    """The issuer is believed, the ledger says who is a member."""
    believe(door, {"issuer": issuer.url}, membership="ledger")
    book = Book(door)
    yield book
    await book.clear()


async def ask(door: Door, token: str, organisation: str | None = None) -> Answer:
    return await door.ask(
        None, WHO, token=token, headers={"X-Organisation": organisation} if organisation else {}
    )


def of(answer: Answer) -> tuple[Any, list[str]]:
    viewer = answer.data["viewer"]
    return viewer["organisation"] and viewer["organisation"]["id"], viewer["roles"]


async def test_what_the_claims_say_of_organisations_and_roles_of_customers_counts_for_nothing(
    door: Door, issuer: Issuer, book: Book
) -> None:
    claims = {"sub": "ann", "roles": ["owner"], "organisations": ["moeller"]}

    nobody = await ask(door, issuer.of(claims))
    await book.add(issuer, "harbour", "finance")
    member = await ask(door, issuer.of(claims))

    assert of(nobody) == (None, [])
    assert nobody.data["viewer"]["scopes"] == []
    assert of(member) == ("harbour", ["finance"])
    assert (await ask(door, issuer.of(claims), "moeller")).status == 403


async def test_a_remembered_token_follows_the_book_from_one_request_to_the_next(
    door: Door, issuer: Issuer, book: Book
) -> None:
    token = issuer.of({"sub": "ann", "roles": []})
    member = await book.add(issuer, "harbour", "finance")
    assert of(await ask(door, token)) == ("harbour", ["finance"])

    await book.change(member, "standard")
    assert of(await ask(door, token)) == ("harbour", ["standard"])

    await book.remove(member)
    assert of(await ask(door, token)) == (None, [])


async def test_a_person_holds_other_roles_in_another_organisation(
    door: Door, issuer: Issuer, book: Book
) -> None:
    token = issuer.of({"sub": "ann", "roles": []})
    await book.add(issuer, "harbour", "owner")
    await book.add(issuer, "moeller", "read-only")

    assert (await ask(door, token)).status == 400
    assert of(await ask(door, token, "harbour")) == ("harbour", ["owner"])
    assert of(await ask(door, token, "moeller")) == ("moeller", ["read-only"])
    assert "members:write" not in (await ask(door, token, "moeller")).data["viewer"]["scopes"]


async def test_a_role_of_staff_in_the_book_gives_nothing_and_one_in_the_claims_does(
    door: Door, issuer: Issuer, book: Book
) -> None:
    await book.add(issuer, "harbour", "admin", "finance")

    assert of(await ask(door, issuer.of({"sub": "ann", "roles": []}))) == ("harbour", ["finance"])
    assert of(await ask(door, issuer.of({"sub": "ann", "roles": ["support"]}))) == (None, ["support"])


async def test_a_subject_of_another_issuer_is_somebody_else(
    door: Door, issuers: tuple[Issuer, Issuer], book: Book
) -> None:
    one, other = issuers
    believe(door, {"issuer": one.url}, {"issuer": other.url}, membership="ledger")
    await book.add(one, "harbour", "owner")

    assert of(await ask(door, one.of({"sub": "ann", "roles": []}))) == ("harbour", ["owner"])
    assert of(await ask(door, other.of({"sub": "ann", "roles": []}))) == (None, [])


async def test_a_membership_that_has_ended_is_none(door: Door, issuer: Issuer, book: Book) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await book.add(issuer, "harbour", "owner", ends_at=yesterday)
    await book.add(issuer, "moeller", "standard", ends_at=yesterday + timedelta(days=9))

    assert of(await ask(door, issuer.of({"sub": "ann", "roles": []}))) == ("moeller", ["standard"])


async def test_groups_that_are_cut_off_do_not_matter_where_the_book_says_it_all(
    door: Door, issuer: Issuer, book: Book
) -> None:
    await book.add(issuer, "harbour", "finance")
    token = issuer.of({"sub": "ann", "roles": [], "hasgroups": True})

    believe(
        door,
        {"issuer": issuer.url, "believed_for": ("customers",), "group_roles": {"g": "owner"}},
        membership="ledger",
    )
    assert of(await ask(door, token)) == ("harbour", ["finance"])

    # Somebody who may be staff is not taken for a customer.
    believe(door, {"issuer": issuer.url, "group_roles": {"g": "support"}}, membership="ledger")
    assert (await ask(door, token)).status == 403


async def test_a_ledger_that_is_down_lets_in_nobody_whose_membership_it_knows(
    door: Door, issuer: Issuer, book: Book, tmp_path: Path
) -> None:
    await book.add(issuer, "harbour", "owner")
    away = await Ledger.open(f"postgresql://postgres@/postgres?host={tmp_path}")
    believe(door, {"issuer": issuer.url}, ledger=away, membership="ledger")
    try:
        member = await ask(door, issuer.of({"sub": "ann", "roles": []}))
        staff = await ask(door, issuer.of({"sub": "ann", "roles": ["support"]}))
    finally:
        await away.close()

    assert (member.status, member.body["errors"][0]["extensions"]) == (503, {"code": "SOURCE_UNAVAILABLE"})
    assert of(staff) == (None, ["support"])
