"""The emulator's reading of ``where`` and ``order``: Xero's filter language, tokenised, parsed and really evaluated.

Xero parses with Microsoft's Dynamic LINQ; the messages here are that parser's, as developers quote them in public
issues (waynerobinson/xeroizer 164 and 454, XeroAPI/Xero-NetStandard 512).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

Values = Mapping[str, Any]
Predicate = Callable[[Values], bool]

_MOST_NESTED = 40
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"]|"")*")
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<sign>==|!=|<>|>=|<=|&&|\|\||[=<>!().,-])
    )""",
    re.VERBOSE,
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a is not None and a > b,
    ">=": lambda a, b: a is not None and a >= b,
    "<": lambda a, b: a is not None and a < b,
    "<=": lambda a, b: a is not None and a <= b,
}
_SAME_SIGN = {"=": "==", "<>": "!="}
_ORDERED = ("DateTime", "Decimal")
_METHODS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}


class QueryParseError(Exception):
    """The text is not in the language; the message is Xero's."""


class _Token(NamedTuple):
    kind: str
    text: str


def predicate(where: str, elements: Mapping[str, str], type_name: str) -> Predicate:
    """``elements`` gives each element's type: String, Guid, Decimal, Boolean or DateTime."""
    return _Parser(where, elements, type_name).parse()


def ordered(
    rows: Sequence[Any],
    order: str,
    elements: Mapping[str, str],
    type_name: str,
    values: Callable[[Any], Values],
) -> list[Any]:
    """Stable, null before everything. ``order`` is ``Date DESC`` or several of it with commas between."""
    result = list(rows)
    for part in reversed(order.split(",")):
        words = part.split()
        if not words or len(words) > 2:
            raise QueryParseError("Syntax error")
        direction = words[1].upper() if len(words) == 2 else "ASC"
        if direction not in ("ASC", "ASCENDING", "DESC", "DESCENDING"):
            raise QueryParseError("Syntax error")
        name = _known(words[0], elements, type_name)

        def place(row: Any, name: str = name) -> tuple[bool, Any]:
            value = values(row)[name]
            return value is not None, _folded(value)

        result.sort(key=place, reverse=direction.startswith("DESC"))
    return result


class _Parser:
    def __init__(self, where: str, elements: Mapping[str, str], type_name: str) -> None:
        self._tokens = _tokens(where)
        self._position = 0
        self._nested = 0
        self._elements, self._type_name = elements, type_name

    def parse(self) -> Predicate:
        whole = self._either()
        if self._next is not None:
            raise QueryParseError("Syntax error")
        return whole

    @property
    def _next(self) -> _Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _take(self) -> _Token:
        token = self._next
        if token is None:
            raise QueryParseError("Expression expected")
        self._position += 1
        return token

    def _accept(self, *texts: str) -> bool:
        token = self._next
        if token is None or token.kind == "string" or token.text.lower() not in texts:
            return False
        self._position += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise QueryParseError(f"'{text}' expected")

    def _either(self) -> Predicate:
        terms = [self._all()]
        while self._accept("or", "||"):
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else lambda values: any(term(values) for term in terms)

    def _all(self) -> Predicate:
        terms = [self._term()]
        while self._accept("and", "&&"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda values: all(term(values) for term in terms)

    def _term(self) -> Predicate:
        if self._accept("not", "!"):
            negated = self._term()
            return lambda values: not negated(values)
        if self._accept("("):
            self._nested += 1
            if self._nested > _MOST_NESTED:
                raise QueryParseError("Expression is nested too deeply")
            inner = self._either()
            if not self._accept(")"):
                raise QueryParseError("')' or operator expected")
            self._nested -= 1
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        token = self._take()
        if token.kind != "word":
            raise QueryParseError("Expression expected")
        path, method = token.text, None
        while self._accept("."):
            part = self._take()
            if part.kind != "word":
                raise QueryParseError("Identifier expected")
            if part.text.lower() in _METHODS:
                method = part.text.lower()
                break
            path += f".{part.text}"
        name = _known(path, self._elements, self._type_name)
        kind = self._elements[name]
        if method is not None:
            return self._call(name, kind, method)
        sign = self._next
        if sign is None or _SAME_SIGN.get(sign.text, sign.text) not in _COMPARISONS:
            if kind != "Boolean":
                raise QueryParseError("Expression of type 'Boolean' expected")
            return lambda values: bool(values[name])
        self._position += 1
        operator = _SAME_SIGN.get(sign.text, sign.text)
        literal_kind, literal = self._literal()
        if literal_kind not in (kind, "null") or (operator not in ("==", "!=") and kind not in _ORDERED):
            raise QueryParseError(
                f"Operator '{sign.text}' incompatible with operand types '{kind}' and '{literal_kind}'"
            )
        if literal is None and operator not in ("==", "!="):
            return lambda values: False
        compare, folded = _COMPARISONS[operator], _folded(literal)
        if kind == "String":
            return lambda values: compare(_folded(values[name]), folded)
        return lambda values: compare(values[name], folded)

    def _call(self, name: str, kind: str, method: str) -> Predicate:
        if kind != "String":
            raise QueryParseError(f"No applicable method exists in type '{kind}'")
        self._expect("(")
        literal_kind, literal = self._literal()
        if literal_kind != "String":
            raise QueryParseError("No applicable method exists in type 'String'")
        self._expect(")")
        test, wanted = _METHODS[method], _folded(literal)

        def called(values: Values) -> bool:
            value = values[name]
            if value is None:
                # Xero really fails on the first record that lacks the element.
                raise QueryParseError("Object reference not set to an instance of an object.")
            return test(_folded(value), wanted)

        return called

    def _literal(self) -> tuple[str, Any]:
        token = self._take()
        if token.kind == "string":
            return "String", token.text[1:-1].replace('""', '"')
        if token.text == "-":
            kind, value = self._literal()
            if kind != "Decimal":
                raise QueryParseError("Expression expected")
            return kind, -value
        if token.kind == "number":
            return "Decimal", Decimal(token.text)
        match token.text.lower():
            case "true" | "false" as word:
                return "Boolean", word == "true"
            case "null":
                return "null", None
            case "guid":
                return "Guid", self._guid()
            case "datetime":
                return "DateTime", self._datetime()
        if token.kind == "word":
            raise QueryParseError(f"No property or field '{token.text}' exists in type '{self._type_name}'")
        raise QueryParseError("Expression expected")

    def _guid(self) -> str:
        self._expect("(")
        token = self._take()
        self._expect(")")
        try:
            return str(UUID(token.text.strip('"')))
        except ValueError:
            raise QueryParseError("Guid should contain 32 digits with 4 dashes") from None

    def _datetime(self) -> datetime:
        self._expect("(")
        numbers: list[int] = []
        while True:
            token = self._take()
            if not token.text.isdigit():
                raise QueryParseError("Expression expected")
            numbers.append(int(token.text))
            if not self._accept(","):
                break
        self._expect(")")
        if len(numbers) not in (3, 6):
            raise QueryParseError("No applicable constructor exists in type 'DateTime'")
        try:
            return datetime(*numbers)  # type: ignore[arg-type]
        except ValueError:
            raise QueryParseError(
                "Year, Month, and Day parameters describe an un-representable DateTime"
            ) from None


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip()
            if rest.startswith('"'):
                raise QueryParseError("Unterminated string literal")
            if rest.startswith("'"):
                raise QueryParseError("Character literal must contain exactly one character")
            raise QueryParseError(f"Syntax error '{rest[0]}'")
        tokens.append(_Token(str(match.lastgroup), str(match[str(match.lastgroup)])))
        position = match.end()
    return tokens


def _known(path: str, elements: Mapping[str, str], type_name: str) -> str:
    """Names are matched without case."""
    for name in elements:
        if name.lower() == path.lower():
            return name
    raise QueryParseError(f"No property or field '{path.rpartition('.')[2]}' exists in type '{type_name}'")


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value
