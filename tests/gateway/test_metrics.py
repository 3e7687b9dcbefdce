"""GET /metrics through the door: what it counts, in whose words, and who may read it."""

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import Door as DoorSettings
from tests.conftest import fresh_database
from tests.door import Door, open_door


async def counted(
    door: Door, persona: str | None = "support"
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    status, headers, body = await door.fetch(persona, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_violations_are_there_before_the_first_one_and_counted_by_source_and_kind(door: Door) -> None:
    before = await counted(door)
    rows = [labels for name, labels in before if name == "scope_violations_total"]
    assert {dict(labels)["source"] for labels in rows} == {"hubspot", "xero", "zendesk", "s3"}
    mine = sample("scope_violations_total", source="zendesk", kind="comment")
    kept = door.office.violations.counts.copy()
    try:
        door.office.violations.record("zendesk", "comment")
        after = await counted(door)
    finally:
        door.office.violations.counts = kept

    assert after[mine] - before[mine] == 1
    assert {key for key in before if key[0] == "scope_violations_total" and after[key] != before[key]} == {
        mine
    }


async def test_operations_are_counted_by_outcome_and_by_the_way_they_ran(door: Door) -> None:
    before = await counted(door)
    query = "query Metrics { viewer { id account { name } } }"
    for _ in range(3):
        assert (await door.ask("owner-harbour", query)).errors == []
    assert (await door.ask("owner-harbour", '{ account(id: "x") { id } }')).errors
    assert (await door.ask(None, query)).status == 401
    after = await counted(door)

    def more(name: str, **labels: str) -> float:
        return after.get(sample(name, **labels), 0) - before.get(sample(name, **labels), 0)

    assert more("gateway_operations_total", kind="query", outcome="ok") == 3
    assert more("gateway_operations_total", kind="refusal", outcome="refused") == 1
    assert more("gateway_executions_total", way="columns") == 2
    assert more("gateway_executions_total", way="first seen") == 2
    assert after[sample("gateway_audit_records_lost_total")] == 0


@pytest.mark.parametrize(
    ("persona", "expected"),
    [("support", 200), ("admin", 200), ("owner-harbour", 403), ("newcomer", 403), (None, 401)],
)
async def test_only_the_firms_own_people_read_it(door: Door, persona: str | None, expected: int) -> None:
    status, _, body = await door.fetch(persona, "/metrics")

    assert status == expected
    assert (b"scope_violations_total" in body) == (expected == 200)


async def test_openmetrics_is_spoken_where_it_is_asked_for(door: Door) -> None:
    status, headers, body = await door.fetch(
        "admin", "/metrics", Accept="application/openmetrics-text;version=1.0.0"
    )

    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(("setting", "expected"), [("open", 200), ("off", 404)])
async def test_it_can_be_open_or_not_there(world, postgres, setting: str, expected: int) -> None:
    async with fresh_database(postgres) as url, open_door(world, url, matched=False, metrics=setting) as door:
        for persona in (None, "support"):
            assert (await door.fetch(persona, "/metrics"))[0] == expected


def test_another_word_is_no_setting() -> None:
    with pytest.raises(msgspec.ValidationError, match="metrics"):
        msgspec.convert({"metrics": "everyone"}, DoorSettings)
