"""What the SCIM service says of itself: /ServiceProviderConfig, /ResourceTypes, /Schemas."""

from collections.abc import Callable, Mapping
from typing import Any

import scim2_models as scim

from gateway.scim.collections import LARGEST_PAGE, PAGE, SCANNED
from gateway.scim.resources import Group, User

Answer = Callable[[str, str | None], dict[str, Any]]
"""Of the service's address and, for one of a list, its id."""


def _config(base: str, id_: str | None) -> dict[str, Any]:
    if id_ is not None:
        raise scim.NotFoundException
    config = scim.ServiceProviderConfig(
        patch=scim.Patch(supported=True),
        bulk=scim.Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=scim.Filter(supported=True, max_results=SCANNED),
        change_password=scim.ChangePassword(supported=False),
        sort=scim.Sort(supported=True),
        etag=scim.ETag(supported=True),
        pagination=scim.Pagination(
            cursor=False, index=True, default_page_size=PAGE, max_page_size=LARGEST_PAGE
        ),
        authentication_schemes=[
            scim.AuthenticationScheme(
                type=scim.AuthenticationScheme.Type.oauthbearertoken,
                name="API key",
                description="An API key of the organisation's service account, with the scope members:provision.",
                primary=True,
            )
        ],
        meta=scim.Meta(resource_type="ServiceProviderConfig", location=f"{base}/ServiceProviderConfig"),
    )
    return _dumped(config)


def _resource_types(base: str, id_: str | None) -> dict[str, Any]:
    types = [scim.ResourceType.from_resource(model) for model in (User, Group)]
    for type_ in types:
        type_.meta = scim.Meta(resource_type="ResourceType", location=f"{base}/ResourceTypes/{type_.id}")
    return _listed(types, id_)


def _schemas(base: str, id_: str | None) -> dict[str, Any]:
    schemas = [model.to_schema() for model in (User, Group)]
    for schema in schemas:
        schema.meta = scim.Meta(resource_type="Schema", location=f"{base}/Schemas/{schema.id}")
    return _listed(schemas, id_)


def _listed(resources: list[Any], id_: str | None) -> dict[str, Any]:
    if id_ is not None:
        for resource in resources:
            if str(resource.id) == id_:
                return _dumped(resource)
        raise scim.NotFoundException
    return {
        "schemas": [str(scim.ListResponse.__schema__)],
        "totalResults": len(resources),
        "startIndex": 1,
        "itemsPerPage": len(resources),
        "Resources": [_dumped(resource) for resource in resources],
    }


def _dumped(resource: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = resource.model_dump(scim_ctx=scim.Context.RESOURCE_QUERY_RESPONSE)
    return dumped


DISCOVERY: Mapping[str, Answer] = {
    "ResourceTypes": _resource_types,
    "Schemas": _schemas,
    "ServiceProviderConfig": _config,
}
