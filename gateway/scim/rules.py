"""Which roles a directory's groups give."""

from collections.abc import Mapping, Sequence

from gateway.signin.settings import Several, several
from permissions.roles import Roles


class GroupRoles:
    """Fills Rules: by gateway.toml, else by the name of a customers' role or by what people call it."""

    def __init__(self, roles: Roles, group_roles: Mapping[str, Several], default: Sequence[str]) -> None:
        self.owner = roles.owner
        self._default = frozenset(default)
        self._by_name = {
            called.lower(): frozenset({name})
            for name in roles.of_customers
            for called in (name, roles[name].label)
        }
        self._by_name |= {group.lower(): frozenset(several(given)) for group, given in group_roles.items()}

    def roles_of(self, named: Sequence[str], groups: Sequence[str]) -> frozenset[str]:
        """Never a role of staff, whatever a directory calls its groups."""
        given = [self._by_name.get(name.lower(), frozenset()) for name in (*named, *groups)]
        return self._default.union(*given)
