"""Matching against running systems: explicit ids first, then rules, and what is not certain waits for staff."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from resolvers.vocabulary import node_id
from sources.layers.matching import Matcher, MatchingRules
from sources.ports.common import Criterion, Ref
from sources.ports.errors import AmbiguousMatch, SourceError, Unmatched
from sources.ports.links import Link, LinkState
from sources.ports.members import OrganisationRecord
from sources.sandbox.facts import Account
from sources.sandbox.world import World
from tests.commands import gateway, settings_file
from tests.conftest import fresh_database
from tests.door import Door, open_door

NO_ID = {"declared_xero_id": None, "xero_account_number": None}
"""Known to the accounting system by its e-mail domain at most."""


def muddled() -> World:
    """The invented company with what happens in real ones: slips of the pen, free mail, people at two customers."""
    world = World.build(0.2)
    accounts = list(world.accounts)

    def change(index: int, **changes: Any) -> None:
        accounts[index] = replace(accounts[index], **changes)

    change(20, declared_xero_id=accounts[20].xero_contact_id)
    change(21, declared_xero_id=accounts[20].xero_contact_id)
    change(
        24,
        **NO_ID,
        domain="gmail.com",
        xero_email="company24@gmail.com",
        zendesk_domains=("gmail.com",),
        zendesk_external_id=None,
    )
    change(25, declared_xero_id=None, xero_account_number=accounts[25].account_number)
    change(26, zendesk_external_id=accounts[26].account_number)
    change(27, **NO_ID)
    change(28, declared_xero_id=None, xero_account_number="C-99999")
    change(29, declared_xero_id=None, xero_account_number=accounts[29].account_number)
    change(30, declared_xero_id=accounts[29].xero_contact_id)
    change(
        31,
        declared_xero_id="11111111-2222-4333-8444-555555555555",
        xero_account_number=accounts[31].account_number,
    )
    change(34, zendesk_external_id=None, zendesk_domains=(accounts[34].domain, accounts[36].domain))
    change(36, zendesk_external_id=None, zendesk_domains=())
    change(37, declared_xero_id=accounts[37].xero_contact_id, xero_account_number="OLD-37")
    change(38, zendesk_external_id=accounts[39].account_number, zendesk_domains=(accounts[38].domain,))
    change(39, zendesk_external_id=None, zendesk_domains=())
    return replace(world, accounts=tuple(accounts))


@pytest_asyncio.fixture(scope="module")
async def running(postgres: str) -> AsyncIterator[tuple[Door, str]]:
    async with fresh_database(postgres) as url, open_door(muddled(), url, matched=False) as door:
        yield door, url


@pytest_asyncio.fixture
async def own(running: tuple[Door, str]) -> AsyncIterator[Door]:
    """A gateway that has matched nothing yet."""
    door, _ = running
    links = door.office.ledger.links
    while some := await links.listed(list(LinkState)):
        for link in some:
            await links.forget(link.account, link.source)
    door.forget_calls()
    yield door
    door.heal()


def refs(door: Door, *indices: int) -> list[Ref]:
    return [Ref("hubspot", door.world.accounts[index].hubspot_id) for index in indices]


async def matched(door: Door, source: str, *indices: int) -> Sequence[Link]:
    """The rules applied to these accounts."""
    return await door.office.matcher.match(refs(door, *indices), port(door, source))


def port(door: Door, source: str) -> Any:
    return next(port for port in door.office.ports.values() if port.name == source)


def xero(account: Account) -> Ref:
    return Ref("xero", account.xero_contact_id or "")


def zendesk(account: Account) -> Ref:
    return Ref("zendesk", str(account.zendesk_org_id))


# -- which rule decides ------------------------------------------------------------------------------------------------


async def test_an_id_that_staff_declared_in_the_crm_decides_before_any_rule(own: Door) -> None:
    (link,) = await matched(own, "xero", 0)

    assert (link.state, link.counterpart, link.evidence) == (
        LinkState.MATCHED, xero(own.world.accounts[0]), "declared in the CRM",
    )  # fmt: skip
    assert own.boxes["xero"].log.count(path_prefix="/api.xro/2.0/Contacts") == 1


@pytest.mark.parametrize(
    ("source", "index", "evidence"),
    [
        ("xero", 25, "number"),
        ("xero", 27, "email_domain"),
        ("zendesk", 26, "external_id"),
        ("s3", 8, "number"),
    ],
)
async def test_without_one_the_first_rule_that_finds_something_decides(
    own: Door, source: str, index: int, evidence: str
) -> None:
    account = own.world.accounts[index]
    (link,) = await matched(own, source, index)

    truth = {"xero": xero(account), "zendesk": zendesk(account), "s3": Ref("s3", account.s3_prefix)}[source]
    assert (link.state, link.counterpart, link.evidence) == (LinkState.MATCHED, truth, evidence)


async def test_a_declared_id_of_nothing_leaves_it_to_the_rules(own: Door) -> None:
    (link,) = await matched(own, "xero", 31)

    assert (link.state, link.counterpart, link.evidence) == (
        LinkState.MATCHED, xero(own.world.accounts[31]), "number",
    )  # fmt: skip


async def test_a_declared_id_that_was_merged_away_leads_to_the_survivor(own: Door) -> None:
    account = own.world.accounts[7]
    assert account.declared_xero_id != account.xero_contact_id

    (link,) = await matched(own, "xero", 7)

    assert (link.state, link.counterpart) == (LinkState.MATCHED, xero(account))


async def test_only_the_configured_rules_are_applied_in_their_order(own: Door) -> None:
    office = own.office
    only_numbers = Matcher(
        office.backoffice.crm, office.ledger.links, {"xero": MatchingRules(criteria=(Criterion.NUMBER,))}
    )

    links = await only_numbers.match(refs(own, 25, 27), port(own, "xero"))

    assert [link.state for link in links] == [LinkState.MATCHED, LinkState.UNMATCHED]


# -- what is not certain is not guessed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "index", "candidates"),
    [
        ("xero", 2, lambda world: {xero(world.accounts[2]), xero(world.accounts[4])}),
        ("xero", 4, lambda world: {xero(world.accounts[2]), xero(world.accounts[4])}),
        (
            "zendesk",
            5,
            lambda world: {zendesk(world.accounts[5])}
            | {Ref("zendesk", str(d.zendesk_org_id)) for d in world.duplicate_organisations if d.account == 5},
        ),
        ("xero", 20, lambda world: {xero(world.accounts[20])}),
        ("xero", 21, lambda world: {xero(world.accounts[20])}),
        ("xero", 28, lambda world: {xero(world.accounts[28])}),
        ("xero", 30, lambda world: {xero(world.accounts[29])}),
        ("zendesk", 34, lambda world: {zendesk(world.accounts[34])}),
        ("zendesk", 36, lambda world: {zendesk(world.accounts[34])}),
        ("zendesk", 38, lambda world: {zendesk(world.accounts[38])}),
    ],
    ids=[
        "one domain, two accounts", "the other of the two", "two organisations of one domain", "an id declared twice",
        "by the other, too", "the counterpart has a number that is nobody's", "the declared one bears another's number",
        "people at two customers", "the other customer", "the counterpart names another account",
    ],
)  # fmt: skip
async def test_what_is_not_certain_waits_with_its_candidates(
    own: Door, source: str, index: int, candidates: Any
) -> None:
    (link,) = await matched(own, source, index)

    assert (link.state, link.counterpart) == (LinkState.AMBIGUOUS, None)
    assert set(link.candidates) == candidates(own.world)
    (outcome,) = await own.office.matcher.counterparts(refs(own, index), port(own, source))
    assert isinstance(outcome, AmbiguousMatch)


@pytest.mark.parametrize("order", [(20, 21), (21, 20)])
async def test_two_accounts_that_declare_one_id_are_both_ambiguous_whoever_is_asked_first(
    own: Door, order: tuple[int, int]
) -> None:
    for index in order:
        await matched(own, "xero", index)

    links = await own.office.ledger.links.links_of(refs(own, *order), "xero")

    assert [link and link.state for link in links] == [LinkState.AMBIGUOUS] * 2


async def test_a_free_mail_domain_matches_nobody(own: Door) -> None:
    for source in ("xero", "zendesk"):
        (link,) = await matched(own, source, 24)
        assert (link.state, link.candidates) == (LinkState.UNMATCHED, ())


async def test_a_configured_shared_domain_matches_nobody_either(own: Door) -> None:
    office, domain = own.office, own.world.accounts[27].domain
    rules = {"xero": MatchingRules(shared_domains=frozenset({domain}))}

    (link,) = await Matcher(office.backoffice.crm, office.ledger.links, rules).match(
        refs(own, 27), port(own, "xero")
    )

    assert link.state is LinkState.UNMATCHED


async def test_an_id_that_the_firm_wrote_into_the_other_system_outweighs_a_domain(own: Door) -> None:
    (link,) = await matched(own, "zendesk", 39)

    assert (link.state, link.counterpart, link.evidence) == (
        LinkState.MATCHED, zendesk(own.world.accounts[38]), "external_id",
    )  # fmt: skip


async def test_a_declared_counterpart_with_a_number_that_no_account_has_is_believed(own: Door) -> None:
    (link,) = await matched(own, "xero", 37)

    assert (link.state, link.counterpart) == (LinkState.MATCHED, xero(own.world.accounts[37]))


async def test_whatever_is_matched_is_the_truth(own: Door) -> None:
    world = own.world
    everyone = range(len(world.accounts))
    for source in ("xero", "zendesk", "s3"):
        for link, index in zip(await matched(own, source, *everyone), everyone, strict=True):
            account = world.accounts[index]
            if link.state is LinkState.MATCHED:
                truth = {
                    "xero": xero(account),
                    "zendesk": zendesk(account),
                    "s3": Ref("s3", account.s3_prefix),
                }
                assert link.counterpart == truth[source] or (source, index) == ("zendesk", 39), (
                    source,
                    index,
                )
                assert link.evidence
        counted = await own.office.ledger.links.listed([LinkState.MATCHED], source)
        assert len(counted) >= 20


# -- sources that are down -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", ["xero", "hubspot"])
@pytest.mark.parametrize("fault", ["fail", "garbage", "rate_limit"])
async def test_nothing_is_stored_while_a_source_is_down(own: Door, down: str, fault: Any) -> None:
    own.boxes[down].faults.add(fault)

    with pytest.raises(SourceError) as caught:
        await matched(own, "xero", 0, 2, 9)
    own.heal()

    assert caught.value.source == down
    assert await own.office.ledger.links.links_of(refs(own, 0, 2, 9), "xero") == [None] * 3
    (link,) = await matched(own, "xero", 0)
    assert link.state is LinkState.MATCHED


async def test_a_match_that_needs_two_rules_is_not_stored_by_halves(own: Door) -> None:
    # The look by id succeeds, the look by number and domain does not.
    own.boxes["hubspot"].faults.add("fail", "/crm/v3/objects/companies/search")

    with pytest.raises(SourceError):
        await matched(own, "xero", 0, 27)

    assert await own.office.ledger.links.links_of(refs(own, 0, 27), "xero") == [None, None]


# -- later -------------------------------------------------------------------------------------------------------------


async def test_what_is_known_costs_no_call(own: Door) -> None:
    accounts = refs(own, 0, 2, 9)
    first = await own.office.matcher.counterparts(accounts, port(own, "xero"))
    own.forget_calls()

    again = await own.office.matcher.counterparts(accounts, port(own, "xero"))

    assert list(map(str, again)) == list(map(str, first))
    assert isinstance(again[2], Unmatched)
    assert own.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_what_was_not_found_is_looked_for_again_later(own: Door) -> None:
    office = own.office
    await matched(own, "xero", 9)
    rules = {"xero": MatchingRules(retry_unmatched=timedelta(0))}
    own.forget_calls()

    await Matcher(office.backoffice.crm, office.ledger.links, rules).counterparts(
        refs(own, 9), port(own, "xero")
    )

    assert own.calls()["hubspot"] >= 1


async def test_a_merged_away_account_gives_its_counterpart_to_the_survivor(own: Door) -> None:
    account = own.world.accounts[6]
    (old,) = (Ref("hubspot", id_) for id_ in account.merged_hubspot_ids)
    links = own.office.ledger.links
    await links.record([Link(old, "xero", LinkState.MATCHED, xero(account), "number")])

    (survivor,) = await matched(own, "xero", 6)
    (merged,) = await own.office.matcher.match([old], port(own, "xero"))
    (survivor_again,) = await links.links_of(refs(own, 6), "xero")

    assert (survivor.state, survivor.counterpart) == (LinkState.MATCHED, xero(account))
    assert merged.state is LinkState.UNMATCHED
    assert survivor_again
    assert survivor_again.counterpart == xero(account)


async def test_the_word_of_staff_for_a_merged_away_account_is_not_overruled(own: Door) -> None:
    account = own.world.accounts[6]
    (old,) = (Ref("hubspot", id_) for id_ in account.merged_hubspot_ids)
    await own.office.ledger.links.confirm(old, xero(account), "anna")

    (survivor,) = await matched(own, "xero", 6)

    assert survivor.state is LinkState.AMBIGUOUS


async def test_two_processes_that_match_at_once_agree(own: Door) -> None:
    everyone = tuple(range(40))

    one, two = await asyncio.gather(matched(own, "xero", *everyone), matched(own, "xero", *everyone))

    assert [(link.state, link.counterpart) for link in one] == [
        (link.state, link.counterpart) for link in two
    ]


# -- through the door ----------------------------------------------------------------------------------------------------

ALL = """query Q($id: ID!) { account(id: $id) {
  name
  invoices(first: 3) { nodes { number account { id } } }
  balances { outstanding { amount } }
  tickets(first: 3) { nodes { number account { id } } }
  openTicketCount
  documents(first: 3) { nodes { title } }
  links { source state evidence counterpartId }
} }"""


async def test_the_graph_says_why_there_is_nothing_to_show(own: Door) -> None:
    ambiguous = await own.ask("admin", ALL, {"id": own.account_id(2)})
    unknown = await own.ask("admin", ALL, {"id": own.account_id(3)})

    assert sorted(ambiguous.codes()) == [
        ("account.balances", "ACCOUNT_LINK_AMBIGUOUS"),
        ("account.invoices", "ACCOUNT_LINK_AMBIGUOUS"),
    ]
    assert {error["extensions"]["source"] for error in ambiguous.errors} == {"xero"}
    assert (ambiguous.data["account"]["invoices"], ambiguous.data["account"]["balances"]) == (None, None)
    assert sorted(unknown.codes()) == [
        ("account.openTicketCount", "ACCOUNT_NOT_LINKED"),
        ("account.tickets", "ACCOUNT_NOT_LINKED"),
    ]
    assert (
        own.boxes["xero"].log.count(path_prefix="/api.xro/2.0/Invoices") <= 2
    )  # of the account that is certain


async def test_staff_see_the_evidence(own: Door) -> None:
    await own.ask("admin", ALL, {"id": own.account_id(2)})

    answer = await own.ask("admin", ALL, {"id": own.account_id(2)})

    links = {link["source"]: link for link in answer.data["account"]["links"]}
    account = own.world.accounts[2]
    assert links == {
        "xero": {"source": "xero", "state": "AMBIGUOUS", "evidence": "email_domain", "counterpartId": None},
        "zendesk": {"source": "zendesk", "state": "MATCHED", "evidence": "external_id", "counterpartId": str(account.zendesk_org_id)},
        "s3": {"source": "s3", "state": "MATCHED", "evidence": "number", "counterpartId": account.s3_prefix},
    }  # fmt: skip


async def test_once_staff_confirm_one_its_data_shows(own: Door) -> None:
    account = own.world.accounts[2]
    before = await own.ask("admin", ALL, {"id": own.account_id(2)})
    assert before.data["account"]["invoices"] is None

    await own.office.ledger.links.confirm(refs(own, 2)[0], xero(account), "anna")
    after = await own.ask("admin", ALL, {"id": own.account_id(2)})

    assert after.errors == []
    numbers = {invoice.number for invoice in own.world.invoices_by_account[2]}
    shown = after.data["account"]["invoices"]["nodes"]
    assert shown
    assert {node["number"] for node in shown} <= numbers
    assert {node["account"]["id"] for node in shown} == {own.account_id(2)}


async def test_no_counterpart_by_the_word_of_staff_means_empty_lists_and_no_call(own: Door) -> None:
    links = own.office.ledger.links
    for source in ("xero", "zendesk", "s3"):
        await links.declare_absent(refs(own, 2)[0], source, "anna")
    own.forget_calls()

    answer = await own.ask("admin", ALL, {"id": own.account_id(2)})

    assert answer.errors == []
    assert answer.data["account"] == {
        "name": own.world.accounts[2].crm_name,
        "invoices": {"nodes": []},
        "balances": [],
        "tickets": {"nodes": []},
        "openTicketCount": 0,
        "documents": {"nodes": []},
        "links": [
            {"source": source, "state": "ABSENT", "evidence": "declared by staff", "counterpartId": None}
            for source in ("xero", "zendesk", "s3")
        ],
    }
    assert own.calls() == {"hubspot": 1, "xero": 0, "zendesk": 0, "s3": 0}


async def test_customers_of_two_accounts_with_one_domain_see_neither_ones_invoices(own: Door) -> None:
    for index in (2, 4):
        (account,) = refs(own, index)
        await own.office.ledger.organisations.save(OrganisationRecord(f"group-{index}", "x", (account,)))
        token = own.issuer.token("owner-harbour", organisations=[f"group-{index}"])
        answer = await own.ask(
            None,
            ALL.replace("links { source state evidence counterpartId }", ""),
            {"id": own.account_id(index)},
            token=token,
        )
        assert ("account.invoices", "ACCOUNT_LINK_AMBIGUOUS") in answer.codes()
        assert answer.data["account"]["invoices"] is None
        for other in (2, 4):
            invoice = own.world.invoices_by_account[other][0]
            by_id = await own.ask(
                None,
                "query Q($id: ID!) { invoice(id: $id) { id } }",
                {"id": node_id("Invoice", Ref("xero", invoice.id))},
                token=token,
            )
            assert by_id.codes() == [("invoice", "NOT_FOUND")]


# -- the operator's commands -----------------------------------------------------------------------------------------------


async def test_the_operator_lists_what_is_ambiguous_and_confirms_one(
    running: tuple[Door, str], own: Door, tmp_path: Path
) -> None:
    _, url = running
    config = settings_file(tmp_path, own)
    account, (ref,) = own.world.accounts[2], refs(own, 2)
    await matched(own, "xero", 2, 4)

    listed = await gateway(url, config, "links", "list", "--source", "xero")
    confirmed = await gateway(url, config, "links", "confirm", str(ref), str(xero(account)), "--by", "anna")
    taken, nothing, nobody, unknown = await asyncio.gather(
        gateway(url, config, "links", "confirm", str(refs(own, 4)[0]), str(xero(account)), "--by", "anna"),
        gateway(
            url,
            config,
            "links",
            "confirm",
            str(ref),
            "xero:11111111-2222-4333-8444-555555555555",
            "--by",
            "anna",
        ),
        gateway(url, config, "links", "confirm", "hubspot:1", str(xero(account)), "--by", "anna"),
        gateway(url, config, "links", "none", str(ref), "zero", "--by", "anna"),
    )

    assert listed[0] == 0
    for shown in (str(ref), str(refs(own, 4)[0]), str(xero(account)), "ambiguous", "email_domain"):
        assert shown in listed[1]
    assert confirmed[0] == 0, confirmed[1]
    assert (taken[0], "another account's" in taken[1]) == (1, True)
    assert (nothing[0], "no such customer" in nothing[1]) == (1, True)
    assert (nobody[0], "no such account" in nobody[1]) == (1, True)
    assert (unknown[0], "s3, xero, zendesk" in unknown[1]) == (1, True)
    assert "Traceback" not in "".join(
        said for _, said in (listed, confirmed, taken, nothing, nobody, unknown)
    )
    (link,) = await own.office.ledger.links.links_of([ref], "xero")
    assert link
    assert (link.state, link.counterpart, link.decided_by) == (LinkState.CONFIRMED, xero(account), "anna")
    answer = await own.ask("admin", ALL, {"id": own.account_id(2)})
    assert answer.data["account"]["invoices"]["nodes"]


async def test_the_operator_takes_a_decision_back(
    running: tuple[Door, str], own: Door, tmp_path: Path
) -> None:
    _, url = running
    config = settings_file(tmp_path, own)
    (ref,) = refs(own, 0)

    assert (await gateway(url, config, "links", "none", str(ref), "xero", "--by", "anna"))[0] == 0
    (absent,) = await own.office.ledger.links.links_of([ref], "xero")
    assert (await gateway(url, config, "links", "forget", str(ref), "xero"))[0] == 0
    answer = await own.ask(
        "owner-harbour",
        ALL.replace("links { source state evidence counterpartId }", ""),
        {"id": own.account_id(0)},
    )

    assert absent
    assert (absent.state, absent.decided_by) == (LinkState.ABSENT, "anna")
    assert answer.data["account"]["invoices"]["nodes"]


async def test_an_organisation_can_only_have_accounts_that_exist(
    running: tuple[Door, str], own: Door, tmp_path: Path
) -> None:
    _, url = running
    config = settings_file(tmp_path, own)
    (old,) = own.world.accounts[6].merged_hubspot_ids

    code, said = await gateway(url, config, "organisations", "set", "new", "New", "hubspot:123456789")
    merged_code, merged_said = await gateway(
        url, config, "organisations", "set", "new", "New", f"hubspot:{old}"
    )

    assert (code, "no such account" in said) == (1, True)
    assert (merged_code, own.world.accounts[6].hubspot_id in merged_said) == (1, True)
    assert await own.office.ledger.organisations.organisations(["new"]) == [None]
