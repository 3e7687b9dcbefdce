"""What operators are told of the metrics: the page, the rules and the dashboard name what there is, and all that there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.door import Door

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "metrics.md"
RULES = ROOT / "deploy" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"

ROW = re.compile(r"^\| `(gateway_\w+)` \|([^|]*)\|(.+)\|(.*)\|$", re.MULTILINE)
NAME = re.compile(r"\b(?:gateway|process|python)_[a-z0-9_]+")
MATCHER = re.compile(r"\b(\w+)\{([^}]*)\}")


@pytest_asyncio.fixture
async def families(door: Door) -> dict[str, tuple[str, set[str]]]:
    """Kind and labels of each family, as far as it has samples, by the name that it is asked for by."""
    _, _, body = await door.fetch("admin", "/metrics")
    return {
        family.name + ("_total" if family.type == "counter" and not family.name.endswith("_total") else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(body.decode())
    }


def exprs() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def asked(expr: str, families: dict[str, tuple[str, set[str]]]) -> Iterator[str]:
    """The families that an expression is about."""
    for name in NAME.findall(expr):
        histogram = re.sub(r"_(bucket|count|sum)$", "", name)
        yield histogram if families.get(histogram, ("",))[0] == "histogram" else name


async def test_the_page_has_a_row_for_every_metric_with_its_labels(
    families: dict[str, tuple[str, set[str]]],
) -> None:
    rows = {
        name: set(filter(None, re.split(r"[,\s]+", labels)))
        for name, labels, _, _ in ROW.findall(DOCS.read_text())
    }
    ours = {name: labels for name, (_, labels) in families.items() if name.startswith("gateway_")}
    assert rows.keys() == ours.keys()
    for name, labels in ours.items():
        assert not labels or labels == rows[name], name


async def test_the_page_says_of_which_metrics_it_is_a_histogram(
    families: dict[str, tuple[str, set[str]]],
) -> None:
    said = {
        name for name, _, means, _ in ROW.findall(DOCS.read_text()) if means.strip().startswith("histogram")
    }
    assert said == {name for name, (kind, _) in families.items() if kind == "histogram"}


async def test_rules_and_dashboard_ask_for_metrics_and_labels_that_there_are(
    families: dict[str, tuple[str, set[str]]],
) -> None:
    rows = {
        name: set(re.split(r"[,\s]+", labels.strip())) for name, labels, _, _ in ROW.findall(DOCS.read_text())
    }
    every = list(exprs())
    assert len(every) > 40
    for expr in every:
        names = set(asked(expr, families))
        assert names, expr
        assert names <= families.keys(), expr
        for name, matchers in MATCHER.findall(expr):
            (family,) = asked(name, families)
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= rows[family], expr
        grouped = {label for by in re.findall(r"by \(([^)]*)\)", expr) for label in re.split(r"[,\s]+", by)}
        known = set[str]().union(*(rows.get(name, set()) for name in names))
        assert grouped - {"le", "instance"} <= known, expr


def test_what_must_be_zero_is_alerted_on() -> None:
    must = {name for name, _, _, watch in ROW.findall(DOCS.read_text()) if "must be 0" in watch}
    assert len(must) == 3
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    for name in must:
        assert [rule for rule in rules if name in rule["expr"] and rule["expr"].rstrip().endswith("> 0")], (
            name
        )


@pytest.mark.parametrize("group", [group["name"] for group in yaml.safe_load(RULES.read_text())["groups"]])
def test_every_rule_says_whom_to_tell_and_what(group: str) -> None:
    (rules,) = [one["rules"] for one in yaml.safe_load(RULES.read_text())["groups"] if one["name"] == group]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        for used in re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])):
            assert used == "instance" or re.search(rf"by \([^)]*\b{used}\b", rule["expr"]), (
                rule["alert"],
                used,
            )
