"""What the graph itself may refuse. Codes are part of the contract with clients."""

from permissions.rules import Rule, lacking, lists, missing


class GraphError(Exception):
    """Shown to the client as it is: the message must say what to do and carry no data."""

    code = "INTERNAL"


class BadUserInput(GraphError):
    """An argument that cannot be used."""

    code = "BAD_USER_INPUT"


class NotFound(GraphError):
    """No such record, or not the caller's: both read the same."""

    code = "NOT_FOUND"

    def __init__(self, what: str) -> None:
        super().__init__(f"no such {what}")


class OtherOrganisation(GraphError):
    """Something of an organisation that the caller belongs to but does not act for in this request."""

    code = "FORBIDDEN"

    def __init__(self) -> None:
        super().__init__("only of the organisation that the request acts for; name it in X-Organisation")


class ViewingOnly(GraphError):
    """Whoever looks as somebody else sees must not act in their name."""

    code = "FORBIDDEN"

    def __init__(self) -> None:
        super().__init__("you are viewing as somebody else, who would be the one to change this")


class Forbidden(GraphError):
    """The caller lacks a scope. ``coordinate`` is what it would take the scopes of ``rule`` to read or to use."""

    code = "FORBIDDEN"

    def __init__(self, coordinate: str, rule: Rule, held: frozenset[str] = frozenset()) -> None:
        super().__init__(f"{coordinate} needs {missing(rule)}")
        self.coordinate = coordinate
        self.requires = lists(rule)
        self.missing = lacking(rule, held)
        """What a holder of ``held`` lacks of each list."""
