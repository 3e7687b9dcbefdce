"""What a request may be at most: refused with LIMIT_EXCEEDED before anything is fetched."""

import gc
import json
import tracemalloc

import pytest
from graphql import DocumentNode, get_introspection_query

from gateway import limits
from gateway.limits import MAX_ALIASES, MAX_CALLS_PER_ROW, MAX_DEPTH, MAX_ROWS, Prepared, prepare
from resolvers.schema import build_schema
from tests.door import Answer, Door

SCHEMA = build_schema().graphql


def refusals(
    query: str, variables: dict[str, object] | None = None, operation: str | None = None
) -> list[str]:
    """The messages, each of them checked to be about a limit."""
    found = prepare(SCHEMA, query).refusals(operation, variables or {}, only_query=False)
    assert all(error.extensions == {"code": "LIMIT_EXCEEDED"} for error in found), found
    return [error.message for error in found]


def too_much(answer: Answer) -> str:
    """The message of an answer that is one refusal, with nothing fetched."""
    (error,) = answer.errors
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED"}
    assert "data" not in answer.body
    message: str = error["message"]
    return message


# -- size and shape -------------------------------------------------------------------------------------------------


async def test_a_document_of_too_many_tokens_is_refused(door: Door) -> None:
    answer = await door.ask("admin", "{ viewer { " + "id " * 4000 + "} }")

    assert "more than 4000 tokens" in too_much(answer)


async def test_a_document_nested_beyond_the_parsers_stack_is_refused(door: Door) -> None:
    answer = await door.ask("admin", "{ a " * 800 + "}" * 800)

    assert "nested too deeply" in too_much(answer)


async def test_depth_is_counted_in_fields_whatever_they_are_written_in(door: Door) -> None:
    loop = "invoices(first: 1) { nodes { account { %s } } }"
    inner = loop % (loop % (loop % (loop % "name")))  # 4 times 3 fields and the name
    allowed = f'{{ account(id: "") {{ {inner} }} }}'
    spread = f'{{ account(id: "") {{ ... on Account {{ ...A }} }} }} fragment A on Account {{ {inner.replace("name", "address { city }")} }}'
    assert refusals(allowed) == []
    assert refusals(spread) == []  # 1 + 12 + 2

    answer = await door.ask("admin", f'{{ account(id: "") {{ {loop % inner} }} }}')

    assert too_much(answer) == f"the document is 17 fields deep; at most {MAX_DEPTH}"
    assert refusals(f'{{ account(id: "") {{ ...A }} }} fragment A on Account {{ {loop % inner} }}') == [
        f"the document is 17 fields deep; at most {MAX_DEPTH}"
    ]


async def test_too_many_aliases_are_refused(door: Door) -> None:
    def aliases(count: int) -> str:
        return "{ viewer { " + " ".join(f"a{number}: id" for number in range(count)) + " } }"

    assert refusals(aliases(MAX_ALIASES)) == []
    answer = await door.ask("admin", aliases(MAX_ALIASES + 1))

    assert too_much(answer) == f"the document has {MAX_ALIASES + 1} aliases; at most {MAX_ALIASES}"


def test_aliases_in_a_fragment_count_wherever_it_is_spread() -> None:
    spreads = " ".join(f"b{number}: viewer {{ ...F }}" for number in range(10))

    assert refusals(
        f"{{ {spreads} }} fragment F on Viewer {{ {' '.join(f'a{n}: id' for n in range(9))} }}"
    ) == [f"the document has 100 aliases; at most {MAX_ALIASES}"]


def doubling(levels: int, innermost: str) -> str:
    """Written out, the last fragment stands there two to the power of ``levels`` times."""
    fragments = "".join(f" fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    return f"{{ ...F0 }}{fragments} fragment F{levels} on Query {{ {innermost} }}"


async def test_fragments_that_double_each_other_cost_no_more_to_check_than_they_are_long(door: Door) -> None:
    harmless = await door.ask("admin", doubling(90, "viewer { id }"))
    harmful = await door.ask("admin", doubling(90, "one: viewer { id }"))

    assert harmless.errors == []
    assert "more than a million aliases" in too_much(harmful)


@pytest.mark.parametrize(
    "query",
    [
        "{ ...Unknown }",
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "{ viewer { ...A } } fragment A on Nothing { id }",
        "{ viewer { nothing } }",
    ],
)
async def test_a_document_that_is_not_valid_is_told_so(door: Door, query: str) -> None:
    answer = await door.ask("admin", query)

    assert {code for _, code in answer.codes()} == {"BAD_USER_INPUT"}


async def test_a_chain_of_very_many_fragments_is_refused_and_breaks_nothing(door: Door) -> None:
    chain = "".join(f" fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(400))

    answer = await door.ask("admin", f"{{ ...F0 }}{chain} fragment F400 on Query {{ viewer {{ id }} }}")

    assert {code for _, code in answer.codes()} <= {"LIMIT_EXCEEDED"}


async def test_introspection_that_feeds_on_itself_is_refused(door: Door) -> None:
    answer = await door.ask(
        "admin", "{ __schema { types { fields { type { fields { type { fields { type { name } } } } } } } } }"
    )

    too_much(answer)


@pytest.mark.parametrize("described", [True, False])
async def test_the_introspection_query_of_tools_runs_under_the_limits(door: Door, described: bool) -> None:
    query = get_introspection_query(
        descriptions=described,
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )

    answer = await door.ask("owner-harbour", query)

    assert answer.errors == []
    assert answer.data["__schema"]["queryType"]["name"] == "Query"


def test_every_query_that_the_page_offers_is_within_the_limits() -> None:
    from gateway.demo import OWN_FIELDS, sample_queries

    schema = build_schema(OWN_FIELDS).graphql
    samples = sample_queries("an account")
    found = {
        sample.name: prepare(schema, sample.query).refusals(None, json.loads(sample.variables), False, True)
        for sample in samples
    }

    assert found == {sample.name: [] for sample in samples}


# -- the estimate ---------------------------------------------------------------------------------------------------


def rows(pages: str) -> list[str]:
    return refusals(f"{{ {pages} }}")


async def test_ten_thousand_rows_are_allowed_and_too_many_are_refused(door: Door) -> None:
    inner = "nodes { invoices(first: 100) { nodes { id } } %s }"
    assert rows(f"accounts(first: 100) {{ {inner % ''} }}") == []

    answer = await door.ask(
        "admin", f"{{ accounts(first: 100) {{ {inner % 'tickets(first: 100) { nodes { id } }'} }} }}"
    )

    assert too_much(answer) == f"this could read 20,100 rows; at most {MAX_ROWS:,}: ask for smaller pages"
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


@pytest.mark.parametrize(
    ("pages", "estimate"),
    [
        # 100 + 100 * 200
        ("accounts(last: 100) { edges { node { i: invoices(last: 100) { edges { cursor } } tickets(first: 100) { pageInfo { hasNextPage } } } } }", 20_100),
        # without a size it is 20: 100 + 100 * 20 + 100 * 20 * 20
        ("accounts(first: 100) { nodes { invoices { nodes { account { contacts { nodes { id } } } } } } }", 42_100),
        # what one field asks for twice counts once: 100 + 100 * 100, and a bit
        ("accounts(first: 100) { nodes { invoices(first: 100) { nodes { id } } } nodes { invoices(first: 100) { nodes { number } } } }", None),
        ("...A ...A } fragment A on Query { accounts(first: 100) { nodes { invoices(first: 100) { nodes { id } } } }", None),
        # the dearest of what a node can be: 100 + 100 * 200
        ("nodes(ids: [%s]) { ... on Account { invoices(first: 100) { nodes { id } } tickets(first: 100) { nodes { id } } } ... on Contact { id } }" % ('"x",' * 100), 20_100),
        ("nodes(ids: [%s]) { ... on Account { invoices(first: 100) { nodes { id } } } ... on Node { ... on Account { invoices(first: 100) { nodes { number } } } } }" % ('"x",' * 100), None),
    ],
)  # fmt: skip
def test_the_estimate_counts_full_pages(pages: str, estimate: int | None) -> None:
    wanted = (
        []
        if estimate is None
        else [f"this could read {estimate:,} rows; at most {MAX_ROWS:,}: ask for smaller pages"]
    )
    assert rows(pages) == wanted


NESTED = """query Nested($outer: Int = 100, $inner: Int) {
  accounts(first: $outer) { nodes { invoices(first: $inner) { nodes { id } } tickets(first: $inner) { nodes { id } } } }
}"""


@pytest.mark.parametrize(
    ("variables", "fits"),
    [
        ({}, True),  # 100 times 20 and 20
        ({"inner": 100}, False),
        ({"inner": 99}, True),
        ({"outer": 99, "inner": 100}, True),
        ({"outer": None, "inner": 100}, True),  # null asks for the usual 20
        ({"outer": 5_000_000, "inner": 99}, True),  # refused later, for no page is longer than 100
        ({"outer": -5, "inner": 100}, True),
        ({"outer": "100", "inner": True}, True),
    ],
)
def test_the_estimate_reads_the_variables(variables: dict[str, object], fits: bool) -> None:
    assert (refusals(NESTED, variables) == []) == fits


def test_the_operation_that_runs_is_the_one_that_is_estimated() -> None:
    both = "query Small { accounts(first: 1) { nodes { id } } } " + NESTED

    assert refusals(both, {"inner": 100}, "Small") == []
    assert len(refusals(both, {"inner": 100}, "Nested")) == 1


async def test_what_costs_a_call_per_row_is_limited_more_closely(door: Door) -> None:
    query = """query Talk($accounts: Int!) {
      accounts(first: $accounts) { nodes { tickets(first: 10) { nodes { comments(first: 1) { nodes { body } } } } } }
    }"""
    assert refusals(query, {"accounts": 20}) == []

    answer = await door.ask("admin", query, {"accounts": 21})

    assert too_much(answer) == (
        f"Ticket.comments could cost 210 calls, one per row; at most {MAX_CALLS_PER_ROW}: ask for it on fewer rows"
    )
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


def test_all_that_costs_a_call_per_row_counts_together() -> None:
    query = """{
      accounts(first: 11) {
        nodes { documents(first: 9) { nodes { versions { id } } } tickets(first: 9) { nodes { comments { nodes { body } } } } }
      }
    }"""

    assert refusals(query) == [
        "Account.documents and Document.versions and Ticket.comments could cost 209 calls, one per row; "
        f"at most {MAX_CALLS_PER_ROW}: ask for it on fewer rows"
    ]


def test_a_document_is_prepared_once() -> None:
    assert prepare(SCHEMA, "{ viewer { id } }") is prepare(SCHEMA, "{ viewer { id } }")


def kept_documents(text: str) -> int:
    """How many parsed documents of this text are in memory."""
    return sum(
        1
        for found in gc.get_objects()
        if type(found) is DocumentNode and found.loc is not None and found.loc.source.body == text
    )


def test_a_forgotten_document_is_let_go_of_at_once_and_not_by_the_garbage_collector() -> None:
    schema = build_schema()
    text = "query Own { viewer { name } accounts(first: 2) { nodes { id } } }"
    prepared = Prepared(schema.graphql, text)
    assert prepared.refusals("Own", {}, only_query=False) == []
    assert prepared.asked("Own", schema.policy, frozenset(), {})
    assert prepared.paths("Own", schema.policy)
    gc.collect()  # what validating leaves behind
    assert kept_documents(text) == 1
    gc.disable()
    try:
        del prepared
        assert kept_documents(text) == 0
    finally:
        gc.enable()


def test_documents_are_kept_up_to_a_size_and_the_last_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def text(number: int) -> str:
        return f"query Number{number} {{ viewer {{ {'name ' * 200}}} }}"

    size = Prepared(SCHEMA, text(0)).bytes
    monkeypatch.setattr(limits, "CACHED_BYTES", 4 * size)
    monkeypatch.setattr(limits, "_documents", limits._Documents())

    first = prepare(SCHEMA, text(1))
    for number in range(2, 9):
        prepare(SCHEMA, text(number))
        assert prepare(SCHEMA, text(1)) is first  # asked for again and again
    gc.collect()

    assert [kept_documents(text(number)) for number in range(1, 9)] == [1, 0, 0, 0, 0, 1, 1, 1]


def test_documents_take_no_more_memory_than_is_counted() -> None:
    schema = build_schema()
    for dense in ("id " * 300, "... on Viewer { name } " * 50, "organisations { id } " * 60):
        texts = [f"query Number{number} {{ viewer {{ {dense} }} }}" for number in range(5)]
        prepare(SCHEMA, texts[0]).asked(None, schema.policy, frozenset(), {})
        gc.collect()
        tracemalloc.start()
        kept = [Prepared(schema.graphql, text) for text in texts]
        for prepared in kept:
            prepared.refusals(None, {}, only_query=False)
            prepared.asked(None, schema.policy, frozenset(), {})
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken < sum(prepared.bytes for prepared in kept) < 4 * taken
