"""What the graph itself may refuse. Codes are part of the contract with clients."""

from permissions.principal import Rule, missing


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


class Forbidden(GraphError):
    """The caller lacks a scope. ``coordinate`` is what it would take the scopes of ``rule`` to read."""

    code = "FORBIDDEN"

    def __init__(self, coordinate: str, rule: Rule) -> None:
        super().__init__(f"{coordinate} needs {missing(rule)}")
        self.coordinate = coordinate
        self.requires = [sorted(needed) for needed in rule]
