"""What is had of a whole column at once is what is had of each value by itself."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import strawberry
from hypothesis import given
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig

from gateway.operations import encoded
from resolvers.by_column import by_column
from resolvers.vocabulary import SCALARS, identified, node_id, parse_node_id
from sources.ports.common import Ref
from tests.gateway.execution.asking import Schema, context, planned, said

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@strawberry.type
class Row:
    """A record as the graph shows it."""

    id: strawberry.ID | None = identified("Row")
    amount: Decimal | None
    at: datetime | None

    @strawberry.field
    @by_column(lambda rows: [row.number.upper() for row in rows])
    def word(root: strawberry.Parent[Any]) -> str | None:  # noqa: N805
        """Had at once where all of them have one."""
        if root.number is None:
            raise ValueError("has no number")
        root.asked.append(root.number)
        return str(root.number.upper())

    @strawberry.field
    @by_column(lambda rows, info: [row.limit < info.context.most for row in rows])
    def within(root: strawberry.Parent[Any], info: strawberry.Info) -> bool | None:  # noqa: N805
        """Compared with something of the request's."""
        root.asked.append(root.limit)
        below: bool = root.limit < info.context.most
        return below


@strawberry.type
class Query:
    """The root."""

    @strawberry.field
    def rows(self, info: strawberry.Info) -> list[Row]:
        """Of the context."""
        return list(info.context.rows)


schema = Schema(query=Query, config=StrawberryConfig(scalar_map=SCALARS))

decimals = st.decimals(allow_nan=False, allow_infinity=False)
zones = st.sampled_from([UTC, timezone(timedelta(0), "Z"), timezone(timedelta(hours=2)), None])
instants = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC)) | st.datetimes(
    datetime(1970, 1, 3), datetime(2037, 12, 29), timezones=zones
)


async def answered(field: str, rows: list[Any]) -> tuple[list[Any], list[Any]]:
    answer = await planned(schema, f"{{ rows {{ {field} }} }}", context=context(rows=rows, most=5))
    return [row[field] for row in msgspec.json.decode(encoded(answer.data))["rows"]], said(answer)


async def test_what_also_takes_info_is_had_at_once_and_by_itself_only_where_one_does_not_fit() -> None:
    asked: list[Any] = []
    rows = [SimpleNamespace(limit=limit, asked=asked) for limit in (1, 9)]
    assert await answered("within", rows) == ([True, False], [])
    assert asked == [1, 9]  # by graphql-core, which has every document the first time
    asked.clear()
    values, errors = await answered("within", [*rows, SimpleNamespace(limit=None, asked=asked)])
    assert (values, asked) == ([True, False, None], [1, 9, None] * 2)
    assert len(errors) == 1


@given(st.lists(st.none() | decimals, min_size=1, max_size=5))
async def test_decimals_are_written_as_each_by_itself(values: list[Decimal | None]) -> None:
    texts, errors = await answered("amount", [SimpleNamespace(amount=value) for value in values])
    assert texts == [None if value is None else format(value, "f") for value in values]
    assert not errors


@given(st.lists(st.none() | instants, min_size=1, max_size=5))
async def test_instants_are_written_as_each_by_itself(values: list[datetime | None]) -> None:
    texts, errors = await answered("at", [SimpleNamespace(at=value) for value in values])
    show = SCALARS[datetime].serialize
    assert show is not None
    assert texts == [None if value is None else show(value) for value in values]
    assert not errors


@given(
    st.lists(st.builds(Ref, st.sampled_from("aö"), st.text(min_size=1)), min_size=1, max_size=5)
    | st.lists(st.builds(Ref, st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5)
)
async def test_node_ids_are_made_as_each_by_itself(refs: list[Ref]) -> None:
    ids, errors = await answered("id", [SimpleNamespace(ref=ref) for ref in refs])
    assert ids == [node_id("Row", ref) for ref in refs]
    assert not errors


@given(st.builds(Ref, st.text("abc-_", min_size=1), st.text(min_size=1)))
def test_a_node_id_is_safe_in_an_address_and_names_its_record_again(ref: Ref) -> None:
    made = node_id("Row", ref)
    assert not set(made) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert parse_node_id(made) == ("Row", ref)


@pytest.mark.parametrize(
    ("field", "good", "bad", "shown"),
    [
        ("id", {"ref": Ref("a", "1")}, {"ref": Ref("a", "\ud800")}, node_id("Row", Ref("a", "1"))),
        ("id", {"ref": Ref("a", "1")}, {}, node_id("Row", Ref("a", "1"))),
        ("amount", {"amount": Decimal("1.50")}, {"amount": "a word"}, "1.50"),
        ("at", {"at": EPOCH}, {"at": "a word"}, "1970-01-01T00:00:00Z"),
        ("word", {"number": "one", "asked": []}, {"number": None}, "ONE"),
    ],
)
async def test_one_value_that_is_not_as_it_should_be_leaves_the_others_alone(
    field: str, good: dict[str, Any], bad: dict[str, Any], shown: str
) -> None:
    values, errors = await answered(field, [SimpleNamespace(**one) for one in (good, bad, good)])
    assert values == [shown, None, shown]
    assert [path for _, path in errors] == [["rows", 1, field]]


async def test_where_all_fits_no_row_is_asked_by_itself() -> None:
    asked: list[str] = []
    words, errors = await answered("word", [SimpleNamespace(number=one, asked=asked) for one in "abc"])
    assert (words, errors) == (["A", "B", "C"], [])
    assert len(asked) == 3  # when graphql-core ran it for the first time
