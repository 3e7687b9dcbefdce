"""The start-up check that no error message can carry what a record holds."""

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from string import Formatter

from resolvers.errors import WORDS, GraphError


class TellingError(Exception):
    """An error's message could carry what a record holds; one line per fault."""


@cache
def refuse_telling_errors(package: str) -> None:
    """Every error of the graph has a literal template, and every place in this package that makes one fills in words
    alone. Raises TellingError; looked at once, as code does not change."""
    faults = [*_telling_classes(GraphError)]
    module = import_module(package)
    for found in pkgutil.iter_modules(module.__path__, f"{package}."):
        faults += telling_calls(inspect.getsource(import_module(found.name)), found.name)
    if faults:
        raise TellingError("\n".join(faults))


def _telling_classes(base: type[GraphError]) -> Iterator[str]:
    for error in base.__subclasses__():
        for word in _placeholders(error.template or ""):
            if word not in WORDS:
                yield f"{error.__name__}.template: {{{word}}} could be anything; there are {', '.join(sorted(WORDS))}"
        yield from _telling_classes(error)


def telling_calls(source: str, module: str) -> list[str]:
    """The faults of one module's text."""
    untemplated = {error.__name__ for error in _all(GraphError) if error.template is None}
    faults = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or _name(node.func) not in untemplated:
            continue
        place = f"{module}:{node.lineno}: {_name(node.func)}"
        template = (
            node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
        )
        if not isinstance(template, str):
            faults.append(f"{place}: write its message as a literal with {{placeholders}} for what is named")
            continue
        given = [keyword.arg or "**" for keyword in node.keywords]
        faults += [
            f"{place}: {{{word}}} could be anything; there are {', '.join(sorted(WORDS))}"
            for word in sorted({*given, *_placeholders(template)} - WORDS.keys())
        ]
    return faults


def _all(base: type[GraphError]) -> Iterator[type[GraphError]]:
    yield base
    for error in base.__subclasses__():
        yield from _all(error)


def _placeholders(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
