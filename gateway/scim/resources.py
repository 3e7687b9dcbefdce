"""The resources of SCIM as this gateway keeps them: what of a directory's user and group concerns a portal, and no more.

Attributes that are not here are accepted and dropped: directories send job titles, managers and telephone numbers unasked.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import scim2_models as scim
from pydantic import Field
from scim2_models import CaseExact, Mutability, Required, ScimPolicy, Uniqueness

from sources.ports.directory import DirectoryGroup, DirectoryUser, Named

POLICY = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    # Both as Entra ID sends them.
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
"""How far clients may stray from the RFCs."""


class Email(scim.ComplexAttribute):
    """An address. Directories of closed networks have some that no mail server would take."""

    value: Annotated[str | None, Field(description="The address.")] = None
    display: Annotated[str | None, Field(description="What to show for it.")] = None
    type: Annotated[str | None, Field(description="Such as work or home.")] = None
    primary: Annotated[bool | None, Field(description="Is it the one to use?")] = None


class User(scim.Resource[Any]):
    """A person who may act for the organisation."""

    __schema__ = scim.User.__schema__

    user_name: Annotated[
        str | None,
        Uniqueness.server,
        Required.true,
        Field(description="Unique in the organisation, whatever the case of its letters."),
    ] = None
    name: Annotated[scim.Name | None, Field(description="The parts of the name.")] = None
    display_name: Annotated[str | None, Field(description="The name that the portal shows.")] = None
    active: Annotated[
        bool | None,
        Field(
            description="False ends all access at once. When it is not given it stays as it is; a new user is active."
        ),
    ] = None
    emails: Annotated[
        list[Email] | None,
        Field(description="The portal uses the primary one, else the one for work, else the first."),
    ] = None
    roles: Annotated[
        list[scim.Role] | None, Field(description="Roles of the portal; a name that is none gives nothing.")
    ] = None
    groups: Annotated[
        list[scim.GroupMembership] | None,
        Mutability.read_only,
        Field(description="The groups that the person is in."),
    ] = None


class GroupMember(scim.ComplexAttribute):
    """A user in a group. Groups in groups are not taken: send those who are in them."""

    value: Annotated[
        str | None, Mutability.immutable, CaseExact.true, Field(description="The user's id.")
    ] = None
    ref: Annotated[
        scim.Reference["User"] | None,
        Mutability.immutable,
        Field(serialization_alias="$ref", validation_alias="$ref", description="The user's address."),
    ] = None


class Group(scim.Resource[Any]):
    """People who hold a role by the directory's word."""

    __schema__ = scim.Group.__schema__

    display_name: Annotated[
        str | None,
        Required.true,
        Uniqueness.server,
        Field(description="Unique in the organisation. It says which role the group gives."),
    ] = None
    members: Annotated[list[GroupMember] | None, Field(description="Who is in it.")] = None


_KEPT = {"name", "display_name", "emails", "roles"}


def user_record(resource: User, former: DirectoryUser | None, now: datetime) -> DirectoryUser:
    """What is to be kept of it."""
    kept = resource.model_dump(include=_KEPT, exclude_none=True, mode="json", by_alias=False, scim_ctx=None)
    return DirectoryUser(
        id=former.id if former else str(uuid4()),
        user_name=resource.user_name or "",
        active=resource.active if resource.active is not None else former is None or former.active,
        created_at=former.created_at if former else now,
        updated_at=now,
        external_id=resource.external_id or None,
        name=_shown_name(resource),
        email=_email(resource),
        roles=tuple(dict.fromkeys(role.value for role in resource.roles or () if role.value)),
        attributes=kept,
    )


def group_record(resource: Group, former: DirectoryGroup | None, now: datetime) -> DirectoryGroup:
    """What is to be kept of it."""
    ids = dict.fromkeys(member.value or "" for member in resource.members or ())
    return DirectoryGroup(
        id=former.id if former else str(uuid4()),
        display_name=resource.display_name or "",
        created_at=former.created_at if former else now,
        updated_at=now,
        external_id=resource.external_id or None,
        members=tuple(Named(id_, "") for id_ in ids),
    )


def user_resource(record: DirectoryUser, base: str) -> User:
    """As the directory reads it; ``base`` is the address of the SCIM service."""
    groups = [
        scim.GroupMembership(
            value=group.id, ref=scim.Reference(f"{base}/Groups/{group.id}"), display=group.name, type="direct"
        )
        for group in record.groups
    ]
    return User(
        id=record.id,
        external_id=record.external_id,
        user_name=record.user_name,
        active=record.active,
        groups=groups or None,
        meta=_meta("User", record, f"{base}/Users/{record.id}"),
        **record.attributes,
    )


def group_resource(record: DirectoryGroup, base: str) -> Group:
    """As the directory reads it."""
    members = [
        GroupMember(value=member.id, ref=scim.Reference(f"{base}/Users/{member.id}"))
        for member in record.members
    ]
    return Group(
        id=record.id,
        external_id=record.external_id,
        display_name=record.display_name,
        members=members or None,
        meta=_meta("Group", record, f"{base}/Groups/{record.id}"),
    )


def _meta(kind: str, record: DirectoryUser | DirectoryGroup, location: str) -> scim.Meta:
    return scim.Meta(
        resource_type=kind,
        created=record.created_at,
        last_modified=max(record.created_at, record.updated_at),
        location=location,
    )


def _shown_name(user: User) -> str | None:
    name = user.name
    parts = [name.given_name, name.family_name] if name else []
    return user.display_name or (name.formatted if name else None) or " ".join(filter(None, parts)) or None


def _email(user: User) -> str | None:
    emails = [email for email in user.emails or () if email.value]
    ranked = sorted(emails, key=lambda email: (not email.primary, (email.type or "").lower() != "work"))
    return ranked[0].value if ranked else None
