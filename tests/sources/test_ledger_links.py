"""The book of links: what each method promises, and that a race never gives one counterpart to two accounts."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import Engine, event

from sources.ledger.book import Ledger
from sources.ports.common import Ref
from sources.ports.links import Link, LinkState, LinkTaken

ALMA, BRIO, CORA = (Ref("hubspot", id_) for id_ in ("101", "102", "103"))
X, Y, Z = (Ref("xero", id_) for id_ in ("x", "y", "z"))


def matched(account: Ref, counterpart: Ref) -> Link:
    return Link(account, counterpart.source, LinkState.MATCHED, counterpart, "email_domain")


def contested(account: Ref, counterpart: Ref) -> Link:
    return Link(account, counterpart.source, LinkState.AMBIGUOUS, None, "email_domain", (counterpart,))


def ambiguous(account: Ref, *candidates: Ref) -> Link:
    return Link(account, "xero", LinkState.AMBIGUOUS, None, "email_domain", candidates)


def unmatched(account: Ref, source: str = "xero") -> Link:
    return Link(account, source, LinkState.UNMATCHED)


def timeless(links):
    return [link and msgspec.structs.replace(link, updated_at=None) for link in links]


@contextmanager
def statements() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(connection, cursor, statement, *rest):
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest_asyncio.fixture
async def other(ledger, database_url):
    """A second process's ledger: an engine of its own."""
    opened = await Ledger.open(database_url)
    yield opened
    await opened.close()


async def test_links_come_in_the_order_asked_with_one_query(ledger):
    await ledger.links.record([matched(ALMA, X), unmatched(BRIO)])
    await ledger.links.record([matched(CORA, Ref("zendesk", "9"))])
    await ledger.ping()
    with statements() as seen:
        links = await ledger.links.links_of([CORA, BRIO, ALMA, BRIO], "xero")
    assert timeless(links) == [None, unmatched(BRIO), matched(ALMA, X), unmatched(BRIO)]
    assert len(seen) == 1


async def test_no_accounts_cost_no_query(ledger):
    with statements() as seen:
        assert await ledger.links.links_of([], "xero") == []
        assert await ledger.links.record([]) == []
    assert seen == []


async def test_ids_that_no_database_can_hold_are_simply_unknown(ledger):
    strange = Ref("hubspot", "10\x001")
    assert await ledger.links.links_of([strange], "xero") == [None]
    assert await ledger.links.accounts_of([strange]) == [None]


async def test_ids_are_values_and_never_sql(ledger):
    nasty = Ref("hubspot", "'; DROP TABLE links; --")
    await ledger.links.record([matched(nasty, Ref("xero", '{"a","b"}'))])
    assert timeless(await ledger.links.links_of([nasty], "xero")) == [
        matched(nasty, Ref("xero", '{"a","b"}'))
    ]


async def test_accounts_of_counterparts_count_only_links_that_hold(ledger):
    await ledger.links.record([matched(ALMA, X), ambiguous(BRIO, Y)])
    await ledger.links.confirm(CORA, Z, "sam")
    await ledger.ping()
    with statements() as seen:
        accounts = await ledger.links.accounts_of([Z, Y, X, Ref("zendesk", "x"), Z])
    assert accounts == [CORA, None, ALMA, None, CORA]
    assert len(seen) == 1


async def test_recording_gives_what_stands_and_when(ledger):
    before = datetime.now(UTC)
    [link] = await ledger.links.record([matched(ALMA, X)])
    assert timeless([link]) == [matched(ALMA, X)]
    assert before <= link.updated_at <= datetime.now(UTC)
    assert await ledger.links.links_of([ALMA], "xero") == [link]


async def test_a_new_finding_replaces_the_former_one(ledger):
    await ledger.links.record([matched(ALMA, X)])
    assert timeless(await ledger.links.record([ambiguous(ALMA, Y, Z)])) == [ambiguous(ALMA, Y, Z)]
    assert await ledger.links.accounts_of([X]) == [None]


async def test_what_staff_decided_stays(ledger):
    confirmed = await ledger.links.confirm(ALMA, X, "sam")
    absent = await ledger.links.declare_absent(BRIO, "xero", "sam")
    assert await ledger.links.record([matched(BRIO, Y), matched(ALMA, Z)]) == [absent, confirmed]
    assert await ledger.links.accounts_of([X, Y, Z]) == [ALMA, None, None]


async def test_a_second_match_to_a_counterpart_makes_both_ambiguous(ledger):
    await ledger.links.record([matched(ALMA, X)])
    assert timeless(await ledger.links.record([matched(BRIO, X)])) == [contested(BRIO, X)]
    assert timeless(await ledger.links.links_of([ALMA, BRIO], "xero")) == [
        contested(ALMA, X),
        contested(BRIO, X),
    ]


async def test_two_matches_to_a_counterpart_in_one_batch_are_both_ambiguous(ledger):
    recorded = await ledger.links.record([matched(ALMA, X), matched(CORA, Z), matched(BRIO, X)])
    assert timeless(recorded) == [contested(ALMA, X), matched(CORA, Z), contested(BRIO, X)]


async def test_a_match_to_a_confirmed_counterpart_is_ambiguous_and_leaves_the_confirmed_link(ledger):
    confirmed = await ledger.links.confirm(ALMA, X, "sam")
    assert timeless(await ledger.links.record([matched(BRIO, X)])) == [contested(BRIO, X)]
    assert await ledger.links.links_of([ALMA], "xero") == [confirmed]


async def test_a_contested_match_stays_contested_when_it_is_found_again(ledger):
    await ledger.links.record([matched(ALMA, X)])
    await ledger.links.record([matched(BRIO, X)])
    assert timeless(await ledger.links.record([matched(ALMA, X)])) == [contested(ALMA, X)]
    assert timeless(await ledger.links.record([matched(CORA, X)])) == [contested(CORA, X)]


async def test_a_contested_match_is_free_once_the_other_account_gives_up_its_claim(ledger):
    await ledger.links.record([matched(ALMA, X), matched(BRIO, X)])
    await ledger.links.record([matched(BRIO, Y)])
    assert timeless(await ledger.links.record([matched(ALMA, X)])) == [matched(ALMA, X)]


async def test_a_candidate_that_matching_itself_called_ambiguous_does_not_stop_a_sure_match(ledger):
    await ledger.links.record([ambiguous(ALMA, X), ambiguous(CORA, X, Y)])
    assert timeless(await ledger.links.record([matched(BRIO, X)])) == [matched(BRIO, X)]


async def test_accounts_may_swap_their_counterparts_in_one_batch(ledger):
    await ledger.links.record([matched(ALMA, X), matched(BRIO, Y)])
    swapped = [matched(ALMA, Y), matched(BRIO, X)]
    assert timeless(await ledger.links.record(swapped)) == swapped


async def test_of_two_findings_for_one_account_the_last_counts(ledger):
    recorded = await ledger.links.record([matched(ALMA, X), matched(ALMA, Y)])
    assert timeless(recorded) == [matched(ALMA, Y)] * 2
    assert await ledger.links.accounts_of([X, Y]) == [None, ALMA]


async def test_the_same_id_in_two_systems_is_two_counterparts(ledger):
    links = [matched(ALMA, Ref("xero", "7")), matched(BRIO, Ref("zendesk", "7"))]
    assert timeless(await ledger.links.record(links)) == links


@pytest.mark.parametrize(
    "link",
    [
        Link(ALMA, "xero", LinkState.CONFIRMED, X),
        Link(ALMA, "xero", LinkState.ABSENT),
        Link(ALMA, "xero", LinkState.MATCHED),
        Link(ALMA, "xero", LinkState.UNMATCHED, X),
        Link(ALMA, "zendesk", LinkState.MATCHED, X),
        Link(ALMA, "zendesk", LinkState.AMBIGUOUS, candidates=(X,)),
    ],
)
async def test_what_no_rule_can_find_is_not_recorded(ledger, link):
    with pytest.raises(ValueError, match=r"link|rule"):
        await ledger.links.record([link])
    assert await ledger.links.listed(list(LinkState)) == []


async def test_a_large_batch_is_recorded_whole(ledger):
    links = [matched(Ref("hubspot", str(n)), Ref("xero", f"c{n}")) for n in range(5_000)]
    assert timeless(await ledger.links.record(links)) == links
    assert timeless(await ledger.links.links_of([link.account for link in links], "xero")) == links


async def test_listed_gives_the_asked_states_by_account_and_source_page_by_page(ledger):
    await ledger.links.record([ambiguous(Ref("hubspot", str(n)), X, Y) for n in range(7)])
    await ledger.links.record(
        [unmatched(Ref("hubspot", "3"), "zendesk"), unmatched(Ref("crm", "9"), "xero"), matched(ALMA, Z)]
    )
    asked = [LinkState.AMBIGUOUS, LinkState.UNMATCHED]
    pages, after = [], None
    while page := await ledger.links.listed(asked, after=after, limit=2):
        pages += page
        after = page[-1]
    assert [(str(link.account), link.source) for link in pages] == [
        ("crm:9", "xero"),
        *((f"hubspot:{n}", "xero") for n in range(4)),
        ("hubspot:3", "zendesk"),
        *((f"hubspot:{n}", "xero") for n in range(4, 7)),
    ]


async def test_listed_of_one_source_leaves_the_others_out(ledger):
    await ledger.links.record([unmatched(ALMA, "zendesk"), unmatched(ALMA, "xero")])
    assert timeless(await ledger.links.listed([LinkState.UNMATCHED], "zendesk")) == [
        unmatched(ALMA, "zendesk")
    ]
    assert await ledger.links.listed([], "zendesk") == []


async def test_confirming_settles_an_ambiguous_link_and_says_who(ledger):
    await ledger.links.record([ambiguous(ALMA, X, Y)])
    link = await ledger.links.confirm(ALMA, Y, "sam")
    assert timeless([link]) == [
        Link(ALMA, "xero", LinkState.CONFIRMED, Y, "confirmed by staff", decided_by="sam")
    ]
    assert await ledger.links.confirm(ALMA, X, "kim") != link
    assert await ledger.links.accounts_of([X, Y]) == [ALMA, None]


@pytest.mark.parametrize("state", [LinkState.MATCHED, LinkState.CONFIRMED])
async def test_a_counterpart_that_another_account_holds_cannot_be_confirmed(ledger, state):
    if state is LinkState.MATCHED:
        await ledger.links.record([matched(ALMA, X)])
    else:
        await ledger.links.confirm(ALMA, X, "sam")
    with pytest.raises(LinkTaken, match="xero:x belongs to hubspot:101"):
        await ledger.links.confirm(BRIO, X, "kim")
    assert await ledger.links.accounts_of([X]) == [ALMA]
    assert await ledger.links.links_of([BRIO], "xero") == [None]


async def test_a_contested_counterpart_can_be_confirmed_for_either_account(ledger):
    await ledger.links.record([matched(ALMA, X), matched(BRIO, X)])
    await ledger.links.confirm(BRIO, X, "sam")
    assert await ledger.links.accounts_of([X]) == [BRIO]


async def test_an_account_declared_absent_gives_its_counterpart_back(ledger):
    await ledger.links.record([matched(ALMA, X)])
    absent = await ledger.links.declare_absent(ALMA, "xero", "sam")
    assert timeless([absent]) == [
        Link(ALMA, "xero", LinkState.ABSENT, None, "declared by staff", decided_by="sam")
    ]
    assert timeless(await ledger.links.record([matched(BRIO, X)])) == [matched(BRIO, X)]


async def test_forgetting_lets_matching_start_afresh(ledger):
    await ledger.links.confirm(ALMA, X, "sam")
    await ledger.links.forget(ALMA, "xero")
    await ledger.links.forget(ALMA, "xero")
    assert await ledger.links.links_of([ALMA], "xero") == [None]
    assert timeless(await ledger.links.record([matched(BRIO, X)])) == [matched(BRIO, X)]


async def test_two_processes_that_match_one_counterpart_at_once_both_end_ambiguous(ledger, other):
    counterparts = [Ref("xero", f"c{n}") for n in range(20)]
    left = [matched(Ref("hubspot", f"l{n}"), ref) for n, ref in enumerate(counterparts)]
    right = [matched(Ref("hubspot", f"r{n}"), ref) for n, ref in enumerate(counterparts)]
    await asyncio.gather(
        *(
            book.links.record([link])
            for pair in zip(left, right, strict=True)
            for book, link in zip((ledger, other), pair, strict=True)
        )
    )
    stands = await ledger.links.links_of([link.account for link in left + right], "xero")
    assert timeless(stands) == [contested(link.account, link.counterpart) for link in left + right]


async def test_a_late_repeat_of_the_same_match_does_not_win_the_race(ledger, other):
    await asyncio.gather(
        *(
            book.links.record([matched(account, X)])
            for book in (ledger, other)
            for account in (ALMA, BRIO, ALMA, BRIO)
        )
    )
    assert timeless(await ledger.links.links_of([ALMA, BRIO], "xero")) == [
        contested(ALMA, X),
        contested(BRIO, X),
    ]


async def test_batches_over_several_systems_in_any_order_do_not_lock_each_other_out(ledger, other):
    links = [
        unmatched(Ref("hubspot", str(n)), source) for n in range(5) for source in ("xero", "zendesk", "s3")
    ]
    recorded = await asyncio.gather(
        *(
            book.links.record(batch)
            for _ in range(10)
            for book, batch in ((ledger, links), (other, links[::-1]))
        )
    )
    assert timeless(recorded[-1]) == links[::-1]


async def test_of_two_staff_who_confirm_one_counterpart_at_once_one_is_told_that_it_is_taken(ledger, other):
    outcomes = await asyncio.gather(
        ledger.links.confirm(ALMA, X, "sam"), other.links.confirm(BRIO, X, "kim"), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Link", "LinkTaken"]


async def test_matching_that_races_a_confirmation_never_takes_its_counterpart(ledger, other):
    for n in range(10):
        counterpart = Ref("xero", f"c{n}")
        staff, rule = Ref("hubspot", f"s{n}"), Ref("hubspot", f"m{n}")
        confirmed, _ = await asyncio.gather(
            ledger.links.confirm(staff, counterpart, "sam"),
            other.links.record([matched(rule, counterpart)]),
            return_exceptions=True,
        )
        # Whoever came first holds it; nobody shares it.
        expected = rule if isinstance(confirmed, LinkTaken) else staff
        assert await ledger.links.accounts_of([counterpart]) == [expected]
