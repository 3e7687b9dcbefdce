"""The matrix says what every role may read, and no change widens it unsaid."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from permissions.matrix import (
    ALL,
    ANYONE,
    NO,
    OWN,
    YES,
    Matrix,
    differences,
    from_markdown,
    markdown,
    matrix_of,
)
from permissions.roles import Roles
from resolvers.schema import build_schema

COMMITTED = Path(__file__).parents[2] / "docs" / "permissions.md"


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return matrix_of(build_schema().policy, Roles())


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["permissions", *arguments])


@pytest.mark.parametrize(
    ("coordinate", "marks"),
    [
        (
            "Invoice.total",
            {"owner": OWN, "finance": OWN, "standard": NO, "partner": NO, "support": ALL, ANYONE: NO},
        ),
        ("Ticket.subject", {"owner": OWN, "finance": NO, "standard": OWN, "admin": ALL}),
        ("Account.links", {"owner": NO, "read-only": NO, "support": ALL}),
        ("AuditEntry.at", {"owner": OWN, "read-only": NO, "support": NO, "admin": ALL}),
        ("Mutation.inviteMember", {"owner": YES, "read-only": NO, "finance-staff": NO}),
        ("Query.signIn", {ANYONE: YES, "partner": YES}),
        ("Viewer.scopes", {ANYONE: NO, "partner": YES}),
    ],
)
def test_marks_are_what_the_roles_may_read(matrix: Matrix, coordinate: str, marks: dict[str, str]) -> None:
    assert {column: matrix.rows[coordinate][column] for column in marks} == marks


def test_every_field_has_a_row_but_those_of_pages_and_open_parts(matrix: Matrix) -> None:
    policy = build_schema().policy
    fields = {
        f"{type_.name}.{name}"
        for type_, name, _, _ in policy.rules.each_field()
        if type_.name not in policy.rules.pages and (type_.name, name) in policy.fields
    }
    assert fields | policy.arguments.rules.keys() == matrix.rows.keys()


def test_read_only_reads_nothing_that_an_owner_does_not(matrix: Matrix) -> None:
    for coordinate, marks in matrix.rows.items():
        assert not (marks["owner"] == NO and marks["read-only"] != NO), coordinate
        assert not (
            marks["read-only"] != NO and coordinate.startswith("Mutation.") and marks["partner"] == NO
        )


def test_a_type_that_no_path_leads_to_is_closed(matrix: Matrix) -> None:
    # Members say nothing of scopes themselves: where the way to them is closed, so are they.
    assert matrix.rows["Invitation.email"]["standard"] == NO
    assert matrix.rows["Invitation.email"]["owner"] == OWN


def test_markdown_reads_back_as_it_was(matrix: Matrix) -> None:
    again = from_markdown(markdown(matrix, {}))
    assert (again.columns, again.rows) == (matrix.columns, matrix.rows)


def test_the_committed_matrix_is_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(COMMITTED.parents[1])
    checked = run("--check")
    assert checked.exit_code == 0, checked.output


def test_what_a_change_widens_is_named_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "permissions.md"
    text = COMMITTED.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| Invoice.total |"))
    before = row.replace("| - | own | own | - |", "| - | own | - | - |")
    assert before != row
    file.write_text(text.replace(row, before))

    checked = run("--check", "--file", str(file))

    assert checked.exit_code == 1
    assert f"WIDER     Invoice.total: finance may now read own; {file} says -" in checked.output
    assert checked.output.count("WIDER") == 1
    assert run("--write", "--file", str(file)).exit_code == 0
    assert file.read_text() == text
    assert run("--check", "--file", str(file)).exit_code == 0


def test_what_a_change_narrows_fails_too_but_is_not_called_wider(tmp_path: Path) -> None:
    file = tmp_path / "permissions.md"
    text = COMMITTED.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| Invoice.total |"))
    file.write_text(text.replace(row, row.replace("| - | own | own | - |", "| yes | own | own | - |")))

    checked = run("--check", "--file", str(file))

    assert checked.exit_code == 1
    assert "narrower  Invoice.total: anyone, without signing in, may now read -" in checked.output
    assert "WIDER" not in checked.output


def test_a_field_that_the_file_does_not_have_is_wider(matrix: Matrix) -> None:
    before = Matrix(
        matrix.columns, {name: row for name, row in matrix.rows.items() if name != "Invoice.pdf"}, {}, ()
    )
    found = differences(before, matrix)
    assert {one.coordinate for one in found} == {"Invoice.pdf"}
    assert all(one.wider for one in found)
    assert not any(one.wider for one in differences(matrix, before))


def test_without_a_file_everything_is_wider(tmp_path: Path) -> None:
    checked = run("--check", "--file", str(tmp_path / "none.md"))
    assert checked.exit_code == 1
    assert "WIDER     Account.name: owner may now read own" in checked.output


def test_a_firms_roles_and_fields_are_in_its_matrix(tmp_path: Path) -> None:
    toml = tmp_path / "gateway.toml"
    toml.write_text(
        """
        [[signin.issuers]]
        issuer = "https://login.example"
        audience = "gateway"
        [sources.crm]
        vendor = "hubspot"
        token = "t"
        [roles.standard]
        name = "colleague"
        without = ["contacts:read"]
        [roles.auditor]
        for = "customers"
        scopes = ["invoices:read", "accounts:read"]
        [[fields]]
        type = "Account"
        name = "margin"
        property = "margin"
        scalar = "Decimal"
        description = "What we earn on them."
        scope = "links:read"
        """
    )
    printed = json.loads(run("--config", str(toml), "--format", "json").output)
    may = {row["coordinate"]: row["may"] for row in printed["fields"]}

    assert [role["name"] for role in printed["roles"]][2:] == [
        "colleague", "read-only", "partner", "support", "finance-staff", "admin", "auditor",
    ]  # fmt: skip
    assert (may["Contact.email"]["colleague"], may["Invoice.total"]["auditor"]) == (NO, OWN)
    assert (may["Account.margin"]["owner"], may["Account.margin"]["support"]) == (NO, ALL)
    assert (may["AccountFilter.margin"]["owner"], may["AccountFilter.margin"]["support"]) == (NO, YES)


def test_the_matrix_is_printed_as_text_and_as_markdown() -> None:
    text, markdown_ = run().output, run("--format", "markdown").output
    row = next(line.split() for line in text.splitlines() if line.startswith("Invoice.total "))
    assert row == ["Invoice.total", NO, OWN, OWN, NO, OWN, NO, ALL, ALL, ALL]
    assert f"| {' | '.join(row)} |" in markdown_
