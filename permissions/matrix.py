"""What every role may read and use, as a table: every ``Type.field`` by role, worked out from the rules that run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from graphql import get_named_type, is_abstract_type, is_object_type

from permissions.faults.ownership import CALLER
from permissions.policy import Policy
from permissions.roles import Role, Roles
from permissions.rules import PUBLIC, SIGNED_IN, Rule, satisfied

ANYONE = "anyone"
"""The column of who has not signed in."""

NO, OWN, ALL, YES = "-", "own", "all", "yes"
MEANING = {
    YES: "whoever's it is: these are no customer's records, or it is the caller's own",
    ALL: "of every customer",
    OWN: "of the organisation that the request acts for",
    NO: "reads null, with FORBIDDEN",
}
_WIDTH = {NO: 0, OWN: 1, ALL: 2, YES: 2}


class Matrix(NamedTuple):
    """``rows`` by coordinate, each a mark by column. ``parts``: types that are read wherever a field gives them."""

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    personal: Mapping[str, str]
    """Category by coordinate."""
    parts: tuple[str, ...]


class Difference(NamedTuple):
    """One cell that is not as it was."""

    coordinate: str
    column: str
    before: str
    now: str

    @property
    def wider(self) -> bool:
        """May the role now read more?"""
        return _WIDTH[self.now] > _WIDTH[self.before]


def matrix_of(policy: Policy, roles: Roles) -> Matrix:
    """For these roles. A restricted argument, input field or ordering has a row of its own."""
    rules = policy.rules
    reach = {name: _reached(policy, held) for name, held in _callers(roles)}
    rows: dict[str, Mapping[str, str]] = {}
    personal: dict[str, str] = {}

    def owner_of(type_name: str) -> str | None:
        return rules.of_type[type_name].scoped_by if type_name in rules.of_type else None

    for type_, name, field, said in rules.each_field():
        named = get_named_type(field.type)
        rule = policy.fields.get((type_.name, name))
        if rule is None or type_.name in rules.pages:
            continue
        coordinate = f"{type_.name}.{name}"
        owners = {owner_of(type_.name), owner_of(rules.pages.get(named.name, named).name)}
        marks = _marks(rule, roles, bool(owners - {None, CALLER}))
        rows[coordinate] = {
            column: mark if type_.name in reach[column] else NO for column, mark in marks.items()
        }
        if category := said.personal or rules.of_type[type_.name].personal:
            personal[coordinate] = category
    for coordinate, rule in policy.arguments.rules.items():
        rows[coordinate] = _marks(rule, roles, False)
    return Matrix(
        (ANYONE, *roles.names),
        dict(sorted(rows.items())),
        personal,
        tuple(sorted(type_.name for type_ in rules.objects if rules.is_part(type_))),
    )


def differences(before: Matrix, now: Matrix) -> list[Difference]:
    """Cell by cell; what is in one of them alone counts as ``-`` in the other."""
    nothing: Mapping[str, str] = {}
    return [
        Difference(coordinate, column, was, is_)
        for coordinate in sorted(before.rows.keys() | now.rows.keys())
        for column in dict.fromkeys([*now.columns, *before.columns])
        if (was := before.rows.get(coordinate, nothing).get(column, NO))
        != (is_ := now.rows.get(coordinate, nothing).get(column, NO))
    ]


def _callers(roles: Roles) -> Iterator[tuple[str, frozenset[str]]]:
    """Each column and what rules are compared with for it."""
    yield ANYONE, frozenset()
    for role in roles:
        yield role.name, role.scopes | {SIGNED_IN}


def _reached(policy: Policy, held: frozenset[str]) -> set[str]:
    """The types that a holder of these comes to from the roots, field by field that is not denied."""
    rules, denied = policy.rules, policy.denied(held)
    reached: set[str] = set()
    todo: list[Any] = [rules.schema.type_map[name] for name in rules.roots]
    while todo:
        type_ = todo.pop()
        if type_.name in reached:
            continue
        if is_abstract_type(type_):
            todo += [
                possible
                for possible in rules.schema.get_possible_types(type_)
                if satisfied(policy.types.get(possible.name, PUBLIC), held)
            ]
        elif is_object_type(type_):
            reached.add(type_.name)
            todo += [
                get_named_type(field.type)
                for name, field in type_.fields.items()
                if (type_.name, name) not in denied
            ]
    return reached


def _marks(rule: Rule, roles: Roles, customers: bool) -> Mapping[str, str]:
    return {
        ANYONE: YES if satisfied(rule, frozenset()) else NO,
        **{role.name: _mark(rule, role, customers) for role in roles},
    }


def _mark(rule: Rule, role: Role, customers: bool) -> str:
    if not satisfied(rule, role.scopes | {SIGNED_IN}):
        return NO
    if not customers:
        return YES
    return ALL if "accounts:all" in role.scopes else OWN


# -- Markdown -----------------------------------------------------------------------------------------------------


def markdown(matrix: Matrix, labels: Mapping[str, str]) -> str:
    """A table per type, headed by the columns' names, that ``from_markdown`` reads back."""
    lines = [
        "| mark | means |",
        "|---|---|",
        *(f"| {mark} | {words} |" for mark, words in MEANING.items()),
        "",
    ]
    for type_, rows in _by_type(matrix.rows).items():
        lines += [
            f"### {type_}",
            "",
            _row([type_, *matrix.columns]),
            "|---" * (len(matrix.columns) + 1) + "|",
        ]
        for coordinate in rows:
            told = f" ({matrix.personal[coordinate]})" if coordinate in matrix.personal else ""
            lines.append(
                _row([f"{coordinate}{told}", *(matrix.rows[coordinate].get(c, NO) for c in matrix.columns)])
            )
        lines.append("")
    called = ", ".join(f"{name} ({labels[name]})" if name in labels else name for name in matrix.columns)
    return "\n".join(
        [
            f"Columns: {called}. In brackets: the category of personal data.",
            "",
            *lines,
            f"Read wherever a field gives them: {', '.join(matrix.parts)}.",
            "",
        ]
    )


def from_markdown(text: str) -> Matrix:
    """What ``markdown`` wrote; other lines and tables are passed over."""
    columns: tuple[str, ...] = ()
    all_columns: dict[str, None] = {}
    rows: dict[str, Mapping[str, str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if len(cells) > 2 and cells[1] == ANYONE:
            columns = tuple(cells[1:])
            all_columns.update(dict.fromkeys(columns))
        elif columns and len(cells) == len(columns) + 1 and all(cell in _WIDTH for cell in cells[1:]):
            rows[cells[0].partition(" ")[0]] = dict(zip(columns, cells[1:], strict=True))
        elif not line.strip():
            columns = ()
    return Matrix(tuple(all_columns), rows, {}, ())


def _by_type(rows: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for coordinate in rows:
        found.setdefault(coordinate.partition(".")[0], []).append(coordinate)
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
