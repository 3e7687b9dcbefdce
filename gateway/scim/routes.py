"""/scim/v2 over HTTP: who asks, what they may, one resource or a list, and errors as RFC 7644 (3.12) writes them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import scim2_models as scim
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.audit import Done, Writing
from gateway.errors import log_sources
from gateway.office import Office
from gateway.scim.collections import Collection, Groups, Tenant, Users, etag, matches
from gateway.scim.discovery import DISCOVERY
from gateway.scim.resources import POLICY
from gateway.scim.rules import GroupRoles
from gateway.signin.refused import SignInRefused, challenge
from permissions.principal import Principal
from sources.layers.touched import Touched
from sources.ports.audit import AuditKind, AuditOutcome, AuditRecord
from sources.ports.errors import SourceError
from sources.transport.deadline import deadline

PREFIX = "/scim/v2"
MEDIA_TYPE = "application/scim+json"
ACCEPTED = (MEDIA_TYPE, "application/json")
"""Entra ID and others send the second one, too."""
MAX_BODY_BYTES = 1 << 20
LONGEST_TEXT = 2_000
LONGEST_QUERY = 4_000
SCOPE = "members:provision"

COLLECTIONS: Mapping[str, type[Users] | type[Groups]] = {"Users": Users, "Groups": Groups}


class TooLarge(scim.PayloadTooLargeException):
    """The body."""


class UnsupportedMediaType(scim.SCIMException):
    """RFC 7644, 3.1: SCIM's own media type, or plain JSON."""

    status = 415
    _default_detail = f"send the resource as {MEDIA_TYPE}"


class MethodNotAllowed(scim.SCIMException):
    """The endpoint is there, but not for this."""

    status = 405
    _default_detail = "the endpoint does not take this method"


class ScimRoutes:
    """One ASGI endpoint for all of /scim/v2."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def routes(self) -> list[Route]:
        """For the application."""
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [
            Route(PREFIX, self.answer, methods=methods),
            Route(PREFIX + "/{path:path}", self.answer, methods=methods),
        ]

    async def answer(self, request: Request) -> Response:
        """What goes wrong is an answer, too."""
        path = request.path_params.get("path", "").strip("/")
        try:
            principal = await self._principal(request)
            # Before the deadline begins: a server that waits for more of a large body takes up reading again in the
            # context of whoever asks for it, and later requests of the connection would inherit the deadline from there.
            request.state.body = await _body(request)
            with deadline(self._office.settings.door.deadline):
                return await self._answer(request, path.split("/"), principal)
        except SignInRefused as refused:
            return _failed(scim.Error(status=refused.status, detail=str(refused)), challenge(refused))
        except scim.SCIMException as refused:
            return _failed(refused.to_error())
        except ValidationError as invalid:
            return _failed(scim.Error.from_validation_errors(invalid)[0])
        except SourceError as error:
            log_sources([error])
            detail = "the gateway cannot reach its database; try again"
            return _failed(scim.Error(status=503, detail=detail), {"Retry-After": "5"})

    async def _principal(self, request: Request) -> Principal:
        principal = await self._office.signin.principal(request.headers, route=PREFIX, method=request.method)
        if principal.kind != "service" or SCOPE not in principal.scopes or principal.organisation is None:
            raise scim.ForbiddenException(
                detail=f"provisioning takes the API key of an organisation's service account that holds {SCOPE}"
            )
        return principal

    async def _answer(self, request: Request, path: list[str], principal: Principal) -> Response:
        match path:
            case [name, *rest] if name in DISCOVERY and len(rest) <= 1:
                if request.method != "GET":
                    raise MethodNotAllowed
                if "filter" in request.query_params:
                    # RFC 7644, 4: so that nobody takes an unfiltered list for a filtered one.
                    raise scim.ForbiddenException(detail="this endpoint takes no filter")
                return _shown(DISCOVERY[name](self._base(request), rest[0] if rest else None))
            case [name, *rest] if name in COLLECTIONS and len(rest) <= 1:
                collection: Collection[Any, Any] = COLLECTIONS[name](self._tenant(request, principal))
                if rest == [".search"]:
                    return await self._found(request, collection, principal)
                if rest:
                    return await self._one(request, collection, principal, rest[0])
                return await self._all(request, collection, principal)
            case ["Me", *_] | ["Bulk"] | [".search"]:
                raise scim.NotImplementedException
        raise scim.NotFoundException

    # -- resources ----------------------------------------------------------------------------------------------

    async def _all(
        self, request: Request, collection: Collection[Any, Any], principal: Principal
    ) -> Response:
        if request.method == "GET":
            return await self._found(request, collection, principal)
        if request.method != "POST":
            raise MethodNotAllowed
        shape = _shape(request, collection)
        payload = _payload(request)
        async with self._writing(request, collection, principal) as writing:
            resource = await collection.create(payload)
            writing.wrote(_recorded(collection), resource.id, organisation=principal.organisation)
        return _resource(resource, scim.Context.RESOURCE_CREATION_RESPONSE, shape, 201)

    async def _one(
        self, request: Request, collection: Collection[Any, Any], principal: Principal, id_: str
    ) -> Response:
        shape, if_match = _shape(request, collection), request.headers.get("if-match")
        if request.method == "GET":
            async with self._reading(request, collection, principal) as touched:
                resource = await collection.read(id_)
                touched.name(_recorded(collection), id_, principal.organisation)
            unless = request.headers.get("if-none-match")
            if unless is not None and matches(unless, etag(resource)):
                return Response(status_code=304, headers={"ETag": etag(resource)})
            return _resource(resource, scim.Context.RESOURCE_QUERY_RESPONSE, shape)
        if request.method not in ("PUT", "PATCH", "DELETE"):
            raise MethodNotAllowed
        payload = {} if request.method == "DELETE" else _payload(request)
        async with self._writing(request, collection, principal) as writing:
            if request.method == "DELETE":
                await collection.delete(id_, if_match)
            elif request.method == "PUT":
                resource = await collection.replace(id_, payload, if_match)
            else:
                resource = await collection.patch(id_, payload, if_match)
            writing.wrote(_recorded(collection), id_, organisation=principal.organisation)
        if request.method == "DELETE":
            return Response(status_code=204)
        return _resource(resource, scim.Context.RESOURCE_REPLACEMENT_RESPONSE, shape)

    async def _found(
        self, request: Request, collection: Collection[Any, Any], principal: Principal
    ) -> Response:
        if request.method == "GET":
            asked: Mapping[str, Any] = dict(request.query_params)
        elif request.method == "POST":
            asked = _payload(request)
        else:
            raise MethodNotAllowed
        if len(str(asked.get("filter", ""))) > LONGEST_QUERY:
            raise scim.InvalidFilterException(detail=f"at most {LONGEST_QUERY} characters")
        search = scim.SearchRequest[collection.model].model_validate(asked, scim_policy=POLICY)  # type: ignore[name-defined]
        async with self._reading(request, collection, principal) as touched:
            found = await collection.search(search)
            for resource in found.resources:
                touched.name(_recorded(collection), resource.id, principal.organisation)
        return _shown(
            {
                "schemas": [str(scim.ListResponse.__schema__)],
                "totalResults": found.total,
                "startIndex": found.start,
                "itemsPerPage": len(found.resources),
                "Resources": [
                    _dumped(resource, scim.Context.RESOURCE_QUERY_RESPONSE, search)
                    for resource in found.resources
                ],
            }
        )

    # -- who it is for, and what is kept of it ------------------------------------------------------------------

    def _base(self, request: Request) -> str:
        public = self._office.settings.door.public_url or str(request.base_url)
        return public.rstrip("/") + PREFIX

    def _tenant(self, request: Request, principal: Principal) -> Tenant:
        settings = self._office.settings
        assert principal.organisation is not None
        if settings.signin.membership != "ledger":
            raise scim.ForbiddenException(
                detail="this gateway takes memberships from sign-in alone: what is provisioned would change nothing"
            )
        issuer = settings.scim.issuer_of(principal.organisation, settings.signin)
        if issuer is None:
            raise scim.ForbiddenException(
                detail="it is not set up who signs your directory's people in; ask the operator for scim.issuers"
            )
        rules = GroupRoles(self._office.roles, settings.scim.group_roles, settings.scim.default_roles)
        return Tenant(
            self._office.ledger.directory, principal.organisation, issuer, rules, self._base(request)
        )

    @asynccontextmanager
    async def _writing(
        self, request: Request, collection: Collection[Any, Any], principal: Principal
    ) -> AsyncIterator[Writing]:
        """What is refused has changed nothing; the trail says so."""
        refusal: scim.SCIMException | ValidationError | None = None
        async with self._office.audit.writing(self._record(request, collection, principal)) as writing:
            try:
                yield writing
            except (scim.SCIMException, ValidationError) as error:
                refusal = error
                writing.refused(_code(error))
        if refusal is not None:
            raise refusal

    @asynccontextmanager
    async def _reading(
        self, request: Request, collection: Collection[Any, Any], principal: Principal
    ) -> AsyncIterator[Touched]:
        touched = Touched()
        refusal: scim.SCIMException | ValidationError | None = None
        record = self._record(request, collection, principal)
        with self._office.audit.reading(record, touched) as reading:
            try:
                yield touched
            except (scim.SCIMException, ValidationError) as error:
                refusal = error
                reading.done = Done(AuditOutcome.REFUSED, (_code(error),))
        if refusal is not None:
            raise refusal

    def _record(
        self, request: Request, collection: Collection[Any, Any], principal: Principal
    ) -> AuditRecord:
        name = f"{request.method} {collection.kind}"
        return self._office.audit.record(AuditKind.PROVISIONING, principal, name=name)


def _code(error: scim.SCIMException | ValidationError) -> str:
    """The graph's word for it."""
    status = error.status if isinstance(error, scim.SCIMException) else 400
    return _CODES.get(status, "BAD_USER_INPUT")


_CODES = {404: "NOT_FOUND", 409: "CONFLICT", 412: "CONFLICT"}


def _recorded(collection: Collection[Any, Any]) -> str:
    """What the audit trail calls a resource of this kind: a user is a member."""
    return "Member" if collection.kind == "User" else "DirectoryGroup"


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(detail=f"the request is larger than {MAX_BODY_BYTES >> 10} kB")
    return body


def _payload(request: Request) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ACCEPTED:
        raise UnsupportedMediaType
    try:
        payload = msgspec.json.decode(request.state.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise scim.InvalidSyntaxException(detail="the request is not valid JSON") from error
    if not isinstance(payload, dict):
        raise scim.InvalidSyntaxException(detail="the request is not a JSON object")
    _require_storable(payload)
    return payload


def _require_storable(value: Any) -> None:
    """The decoder refuses what nests deeper than this could follow."""
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT or "\0" in value:
            raise scim.InvalidValueException(
                detail=f"a text may have {LONGEST_TEXT} characters and no zero byte"
            )
    elif isinstance(value, list):
        for inner in value:
            _require_storable(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _require_storable(name)
            _require_storable(inner)


def _shape(request: Request, collection: Collection[Any, Any]) -> scim.ResponseParameters[Any]:
    """Which attributes the client wants to see (RFC 7644, 3.9)."""
    asked = {name: request.query_params[name] for name in _SHAPES if name in request.query_params}
    shape: scim.ResponseParameters[Any] = scim.ResponseParameters[collection.model].model_validate(  # type: ignore[name-defined]
        asked, scim_policy=POLICY
    )
    return shape


_SHAPES = ("attributes", "excludedAttributes")


def _dumped(resource: Any, context: scim.Context, shape: scim.ResponseParameters[Any]) -> dict[str, Any]:
    resource.meta.version = etag(resource)
    dumped: dict[str, Any] = resource.model_dump(scim_ctx=context, response_parameters=shape)
    return dumped


def _resource(
    resource: Any, context: scim.Context, shape: scim.ResponseParameters[Any], status: int = 200
) -> Response:
    headers = {"ETag": etag(resource), "Location": resource.meta.location}
    return _shown(_dumped(resource, context, shape), status, headers)


def _shown(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    sent = {"Cache-Control": "private, no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status, sent, MEDIA_TYPE)


def _failed(error: scim.Error, headers: Mapping[str, str] | None = None) -> Response:
    return _shown(error.model_dump(), error.status or 400, headers)
