"""How strong or how recent a sign-in must be for some requests, and how a client learns what is missing (RFC 9470)."""

import time
from collections.abc import Sequence

from gateway.signin.refused import SignInRefused
from gateway.signin.settings import Caller, Demand
from permissions.principal import Principal
from permissions.roles import Roles


class Demands:
    """``[[signin.demands]]``."""

    def __init__(self, demands: Sequence[Demand], roles: Roles) -> None:
        self._roles = roles
        self.of_requests = [demand for demand in demands if not demand.operations]
        self.of_operations = [demand for demand in demands if demand.operations]

    def check(self, principal: Principal, route: str, method: str) -> None:
        """Of any request. Raises SignInRefused with what would do."""
        for demand in self.of_requests:
            folder = demand.route.rstrip("/")
            if (
                (route == demand.route or route.startswith(folder + "/"))
                and (not demand.methods or method in demand.methods)
                and self._caller(principal) in demand.callers
            ):
                _meet(demand, principal)

    def check_operation(self, principal: Principal, kind: str) -> None:
        """Of a GraphQL operation, once its kind is known. Raises SignInRefused with what would do."""
        for demand in self.of_operations:
            if kind in demand.operations and self._caller(principal) in demand.callers:
                _meet(demand, principal)

    def _caller(self, principal: Principal) -> Caller:
        if principal.kind == "service":
            return "services"
        return "staff" if self._roles.any_staff(principal.roles) else "customers"


def _meet(demand: Demand, principal: Principal) -> None:
    wanted = {}
    strong = (not demand.acr or not set(demand.acr).isdisjoint((principal.acr or "").split())) and (
        not demand.amr or not set(demand.amr).isdisjoint(principal.amr)
    )
    at = principal.authenticated_at
    recent = demand.max_age is None or (at is not None and at + demand.max_age >= time.time())
    if strong and recent:
        return
    if demand.acr:
        wanted["acr_values"] = " ".join(demand.acr)
    if demand.max_age is not None:
        wanted["max_age"] = str(demand.max_age)
    missing = "a stronger sign-in is needed" if not strong else "a more recent sign-in is needed"
    raise SignInRefused(
        f"{missing} for this; sign in again", error="insufficient_user_authentication", wanted=wanted
    )
