"""``gateway permissions``: what every role may read, as a matrix; and whether a change has widened it unsaid."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from gateway.console import read_settings, stop
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

COMMITTED = Path("docs/permissions.md")
BEGIN, END = "<!-- begin: written by `gateway permissions --write` -->", "<!-- end -->"
_COLOURS = {NO: "dim", OWN: "green", ALL: "yellow", YES: "green"}


class Format(Enum):
    """How the matrix is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def permissions(
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = Format.TEXT,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="With the roles and own fields of this settings file."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the file instead of printing.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare with the file: exits 1 and says who may read more than it says."
        ),
    ] = False,
    file: Annotated[Path, typer.Option(help="The Markdown file to write or to compare with.")] = COMMITTED,
) -> None:
    """What every role may read and use: Type.field by role."""
    settings = read_settings(config) if config else None
    roles = settings.roles if settings else Roles()
    matrix = matrix_of(build_schema(settings.own_fields if settings else ()).policy, roles)
    if write:
        file.write_text(_within(file.read_text() if file.exists() else "", _as_markdown(matrix, roles)))
    elif check:
        _compare(matrix, roles, file, config)
    elif format_ is Format.TEXT:
        _print(matrix)
    elif format_ is Format.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(_as_json(matrix, roles))).decode())
    else:
        typer.echo(_as_markdown(matrix, roles))


def _as_markdown(matrix: Matrix, roles: Roles) -> str:
    return markdown(matrix, {role.name: role.label for role in roles})


def _as_json(matrix: Matrix, roles: Roles) -> dict[str, object]:
    return {
        "roles": [
            {"name": role.name, "label": role.label, "for": role.held_by, "scopes": sorted(role.scopes)}
            for role in roles
        ],
        "fields": [
            {"coordinate": coordinate, "personal": matrix.personal.get(coordinate), "may": marks}
            for coordinate, marks in matrix.rows.items()
        ],
        "parts": matrix.parts,
    }


def _print(matrix: Matrix) -> None:
    table = Table(Column("", no_wrap=True), *matrix.columns, pad_edge=False, box=None)
    for coordinate, marks in matrix.rows.items():
        table.add_row(coordinate, *(f"[{_COLOURS[mark]}]{mark}[/]" for mark in marks.values()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 400  # a pipe has none of its own: nothing is cut off for it
    console.print(table)


def _within(text: str, generated: str) -> str:
    """The text with what is between the marks written anew; with nothing but that where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        before, after = (f"{text.rstrip()}\n\n" if text else ""), "\n"
    return f"{before}{BEGIN}\n\n{generated}\n{END}{after}"


def _compare(matrix: Matrix, roles: Roles, file: Path, config: Path | None) -> None:
    text = file.read_text() if file.exists() else ""
    found = differences(from_markdown(text), matrix)
    for one in found:
        who = "anyone, without signing in," if one.column == ANYONE else one.column
        if one.wider:
            typer.echo(f"WIDER     {one.coordinate}: {who} may now read {one.now}; {file} says {one.before}")
        else:
            typer.echo(f"narrower  {one.coordinate}: {who} may now read {one.now}; {file} says {one.before}")
    command = f"gateway permissions{f' --config {config}' if config else ''} --write --file {file}"
    if any(one.wider for one in found):
        stop(f"{file} does not say so; if that is meant, run `{command}` and have it reviewed")
    if found or _within(text, _as_markdown(matrix, roles)) != text:
        stop(f"{file} is not what the schema gives; run `{command}`")
