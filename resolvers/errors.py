"""What the graph itself may refuse. Codes are part of the contract with clients."""

import re
from typing import ClassVar

from permissions.rules import Rule, lacking, lists, missing

WORDS = {
    "argument": "the name of an argument or an input's field",
    "coordinate": "a place in the schema",
    "limit": "a number that this code sets",
    "scopes": "scopes",
    "what": "what kind of record",
}
"""All that a message may name. Nothing else can be put into one, so that none can carry what a record holds."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.():, -]{0,300}")


class GraphError(Exception):
    """Shown to the client as it is: the message says what to do and carries no data. ``template`` is a literal, in which
    {placeholders} of WORDS are filled in; start-up refuses anything else."""

    code = "INTERNAL"
    template: ClassVar[str | None] = None

    def __init__(self, template: str = "", /, **words: str | int) -> None:
        for word, value in words.items():
            if word not in WORDS or not (isinstance(value, int) or _NAME.fullmatch(value)):
                raise TypeError(f"{type(self).__name__}: {word} is no name that an error may tell")
        super().__init__((self.template or template).format(**words))


class BadUserInput(GraphError):
    """An argument that cannot be used. Takes its template as the first argument."""

    code = "BAD_USER_INPUT"


class NotFound(GraphError):
    """No such record, or not the caller's: both read the same."""

    code = "NOT_FOUND"
    template = "no such {what}"

    def __init__(self, what: str) -> None:
        super().__init__(what=what)


class OtherOrganisation(GraphError):
    """Something of an organisation that the caller belongs to but does not act for in this request."""

    code = "FORBIDDEN"
    template = "only of the organisation that the request acts for; name it in X-Organisation"


class ViewingOnly(GraphError):
    """Whoever looks as somebody else sees must not act in their name."""

    code = "FORBIDDEN"
    template = "you are viewing as somebody else, who would be the one to change this"


class Forbidden(GraphError):
    """The caller lacks a scope. ``coordinate`` is what it would take the scopes of ``rule`` to read or to use."""

    code = "FORBIDDEN"
    template = "{coordinate} needs {scopes}"

    def __init__(self, coordinate: str, rule: Rule, held: frozenset[str] = frozenset()) -> None:
        super().__init__(coordinate=coordinate, scopes=missing(rule))
        self.coordinate = coordinate
        self.requires = lists(rule)
        self.missing = lacking(rule, held)
        """What a holder of ``held`` lacks of each list."""
