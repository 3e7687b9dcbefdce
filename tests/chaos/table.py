"""The matrix as docs/chaos.md has it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.chaos.cell import Found
from tests.chaos.faults import Fault
from tests.chaos.portal import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "chaos.md"
BEGIN, END = "<!-- python -m tests.chaos -->", "<!-- -->"

HEAD = ("source", "fault", "its fields say", "pages", "latest", "calls", "back after", "holds")


def lines(found: Iterable[Found]) -> list[str]:
    """As Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(_row, found)]
    return [f"| {' | '.join(row)} |" for row in rows]


def write(found: Iterable[Found]) -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, *lines(found), END]) + after)


def written() -> Mapping[tuple[str, str], tuple[str, str]]:
    """By source and fault: what the fields say, and whether all holds."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [re.split(r" \| ", line.strip("| \n")) for line in table.splitlines() if line.startswith("| ")][2:]
    return {(row[0], row[1]): (row[2], row[-1]) for row in rows}


def behaviour(source: str, fault: Fault) -> tuple[str, str]:
    """What ``written`` must have of it."""
    return f"{', '.join(f'`{field}`' for field in FIELDS[source])}: {fault.codes()}", "yes"


def _row(found: Found) -> tuple[str, ...]:
    says, _ = behaviour(found.source, found.fault)
    return (
        found.source,
        found.fault.name,
        says,
        str(found.pages),
        f"{found.late:+.2f} s",
        f"{found.amplification:.2f}",
        f"{found.recovery:.1f} s",
        "no: " + "; ".join(found.complaints) if found.complaints else "yes",
    )
