"""The book of organisations: an account belongs to one organisation only, whatever races happen."""

import asyncio

import pytest

from sources.ledger.book import Ledger
from sources.ports.common import Ref
from sources.ports.members import AccountTaken, OrganisationRecord

ALMA, BRIO = Ref("hubspot", "101"), Ref("hubspot", "102")


async def test_organisations_come_in_the_order_asked_with_their_accounts_in_order(ledger):
    one = OrganisationRecord("one", "Één", (BRIO, ALMA))
    none = OrganisationRecord("none", "No accounts yet", ())
    await ledger.organisations.save(one)
    await ledger.organisations.save(none)
    found = await ledger.organisations.organisations(["none", "unknown", "one", "none", "o\x00ne"])
    assert found == [none, None, one, none, None]
    assert await ledger.organisations.organisations([]) == []


async def test_saving_again_replaces_name_and_accounts(ledger):
    await ledger.organisations.save(OrganisationRecord("one", "Old", (ALMA,)))
    new = OrganisationRecord("one", "New", (BRIO,))
    await ledger.organisations.save(new)
    assert await ledger.organisations.organisations(["one"]) == [new]
    await ledger.organisations.save(OrganisationRecord("two", "Two", (ALMA,)))


async def test_an_account_named_twice_is_kept_once(ledger):
    await ledger.organisations.save(OrganisationRecord("one", "One", (BRIO, ALMA, BRIO)))
    assert await ledger.organisations.organisations(["one"]) == [
        OrganisationRecord("one", "One", (BRIO, ALMA))
    ]


async def test_an_account_of_another_organisation_is_taken_and_nothing_is_saved(ledger):
    await ledger.organisations.save(OrganisationRecord("one", "One", (ALMA,)))
    await ledger.organisations.save(OrganisationRecord("two", "Two", ()))
    with pytest.raises(AccountTaken, match="hubspot:101 belongs to another organisation"):
        await ledger.organisations.save(OrganisationRecord("two", "Renamed", (BRIO, ALMA)))
    assert await ledger.organisations.organisations(["two"]) == [OrganisationRecord("two", "Two", ())]


async def test_of_two_processes_that_claim_an_account_one_is_refused(ledger, database_url):
    other = await Ledger.open(database_url)
    outcomes = await asyncio.gather(
        ledger.organisations.save(OrganisationRecord("one", "One", (ALMA, BRIO))),
        other.organisations.save(OrganisationRecord("two", "Two", (BRIO, ALMA))),
        return_exceptions=True,
    )
    await other.close()
    assert sorted(type(outcome) for outcome in outcomes if outcome is not None) == [AccountTaken]


async def test_listed_pages_through_all_by_id(ledger):
    saved = [OrganisationRecord(id_, id_.upper(), (Ref("hubspot", id_),)) for id_ in ("B", "a", "c", "é")]
    for organisation in reversed(saved):
        await ledger.organisations.save(organisation)
    pages, after = [], None
    while page := await ledger.organisations.listed(after, limit=3):
        pages += page
        after = page[-1].id
    assert pages == saved
