"""A Proof becomes a Principal: which roles count, and for which organisation the request acts."""

from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from permissions.principal import Principal
from permissions.roles import Roles


class Standing:
    """What the proved caller may be here."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def principal(self, proof: Proof, wanted: str | None) -> Principal:
        """Acting for ``wanted``, or for the only organisation that there is. Raises SignInRefused."""
        organisations = proof.organisations
        staff = self._roles.any_staff(proof.roles)
        if wanted and not staff and wanted not in organisations:
            raise SignInRefused("X-Organisation is not one of yours", status=403, code="FORBIDDEN")
        if not wanted and not staff and len(organisations) > 1:
            raise SignInRefused(
                "you may act for several organisations; name one in the X-Organisation header",
                status=400,
                code="BAD_USER_INPUT",
            )
        return Principal(
            subject=proof.subject,
            name=proof.name,
            email=proof.email,
            roles=proof.roles,
            scopes=self._roles.scopes_of(proof.roles) if proof.scopes is None else proof.scopes,
            organisation=wanted or (None if staff or not organisations else organisations[0]),
            organisations=organisations,
            issuer=proof.issuer,
            kind=proof.kind,
            via=proof.via,
            credential=proof.credential,
            expires_at=proof.expires_at,
            acr=proof.acr,
            amr=proof.amr,
            authenticated_at=proof.authenticated_at,
        )
