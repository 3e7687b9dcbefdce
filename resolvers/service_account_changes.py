"""Making service accounts and their API keys, and ending both."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import strawberry

from permissions.directives import PART, requires
from permissions.scopes import SCOPES
from permissions.services import grantable
from resolvers.context import Context, Info
from resolvers.service_account import ApiKey, ServiceAccount
from resolvers.writing import GIVEN, Payload, idempotency_key, written
from sources.layers import key_text
from sources.ports.service_accounts import ApiKeyRecord, ServiceAccountRecord
from sources.ports.writing import Refusal, WriteRefused, Written

LONGEST_NAME = 100


@strawberry.input(description="A service account to make.")
class CreateServiceAccountInput:
    idempotency_key: str = idempotency_key()
    name: str = strawberry.field(description=f"What people call it; at most {LONGEST_NAME} characters.")
    scopes: list[str] = strawberry.field(
        description=(
            "All that its keys may open: scopes that the caller holds. Besides, members:provision for a directory, by "
            "whoever holds members:write."
        )
    )


@strawberry.input(description="An API key to make.")
class CreateApiKeyInput:
    idempotency_key: str = idempotency_key()
    service_account_id: strawberry.ID = strawberry.field(description="Whom it signs in.")
    name: str = strawberry.field(description=f"What it is used for; at most {LONGEST_NAME} characters.")
    scopes: list[str] | None = strawberry.field(
        default=None, description="What it opens, of the service account's scopes; null: all of them."
    )
    expires_at: datetime | None = strawberry.field(
        default=None,
        description="From when on it signs nobody in. Null: after the gateway's usual time; there is a longest, too.",
    )


@strawberry.input(description="Which API key to revoke.")
class RevokeApiKeyInput:
    idempotency_key: str = idempotency_key()
    api_key_id: strawberry.ID = strawberry.field(description="The key's id; it stands in its text.")


@strawberry.input(description="Which service account to remove.")
class RemoveServiceAccountInput:
    idempotency_key: str = idempotency_key()
    service_account_id: strawberry.ID = strawberry.field(description="The service account.")


@strawberry.type(description="What came of making a service account.", directives=[PART])
class CreateServiceAccountPayload(Payload):
    service_account: ServiceAccount | None = strawberry.field(
        default=None, description="The service account. It has no key yet."
    )


@strawberry.type(description="What came of making an API key.", directives=[PART])
class CreateApiKeyPayload(Payload):
    api_key: ApiKey | None = strawberry.field(default=None, description="The key as it is listed.")
    secret: str | None = strawberry.field(
        default=None,
        description=(
            "The key itself, for the Authorization header: Bearer <secret>. Shown this once and kept nowhere; null when "
            "operation.repeated: where it was lost, revoke the key and make another."
        ),
    )


@strawberry.type(description="What came of revoking an API key.", directives=[PART])
class RevokeApiKeyPayload(Payload):
    api_key: ApiKey | None = strawberry.field(default=None, description="The key as it is now.")


@strawberry.type(description="What came of removing a service account.", directives=[PART])
class RemoveServiceAccountPayload(Payload):
    removed_service_account_id: strawberry.ID | None = strawberry.field(
        default=None, description="Which service account is no more."
    )


@strawberry.type
class ServiceAccountMutations:
    """Part of the graph's Mutation."""

    @strawberry.mutation(
        description=(
            "Makes a service account of the organisation that the request acts for, or of the firm where staff act for all."
        ),
        directives=[requires("keys:write")],
    )
    async def create_service_account(
        self, info: Info, input: Annotated[CreateServiceAccountInput, GIVEN]
    ) -> CreateServiceAccountPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            organisation = context.books.served()
            account = ServiceAccountRecord(
                id=str(uuid4()),
                organisation=organisation,
                name=_name(input.name),
                scopes=_scopes(input.scopes, grantable(context.principal, organisation), "you hold"),
                created_at=datetime.now(UTC),
                created_by=context.principal.identity,
            )
            await context.books.create_service_account(account)
            return {"account": account.id}

        async def show(done: Written) -> Mapping[str, Any]:
            return {"service_account": await context.books.service_account(done.records["account"])}

        return await written(info, CreateServiceAccountPayload, input, work, show)

    @strawberry.mutation(
        description="Makes an API key. The answer holds the key itself, this once.",
        directives=[requires("keys:write")],
    )
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, GIVEN]
    ) -> CreateApiKeyPayload | None:
        context = info.context
        made: list[str] = []

        async def work() -> Mapping[str, str]:
            account = await context.books.service_account(input.service_account_id)
            if account is None:
                raise WriteRefused(Refusal.NOT_FOUND, "there is no such service account", "serviceAccountId")
            # Whoever made the account may have held more than this caller.
            within = frozenset(account.scopes) & grantable(context.principal, account.organisation)
            asked = account.scopes if input.scopes is None else input.scopes
            now = datetime.now(UTC)
            minted = key_text.mint()
            key = ApiKeyRecord(
                id=minted.id,
                account=account.id,
                name=_name(input.name),
                scopes=_scopes(asked, within, "you and the service account hold"),
                created_at=now,
                created_by=context.principal.identity,
                expires_at=_expiry(context, input.expires_at, now),
            )
            await context.books.create_api_key(key, minted.digest)
            made.append(minted.text)
            return {"key": key.id}

        async def show(done: Written) -> Mapping[str, Any]:
            return {
                "api_key": await context.books.api_key(done.records["key"]),
                "secret": made[0] if made else None,
            }

        return await written(info, CreateApiKeyPayload, input, work, show)

    @strawberry.mutation(
        description="Revokes an API key: the next request with it is refused, in every process. Cannot be undone.",
        directives=[requires("keys:write")],
    )
    async def revoke_api_key(
        self, info: Info, input: Annotated[RevokeApiKeyInput, GIVEN]
    ) -> RevokeApiKeyPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            await context.books.revoke_api_key(input.api_key_id, datetime.now(UTC))
            return {"key": input.api_key_id}

        async def show(done: Written) -> Mapping[str, Any]:
            return {"api_key": await context.books.api_key(done.records["key"])}

        return await written(info, RevokeApiKeyPayload, input, work, show)

    @strawberry.mutation(
        description="Removes a service account with all its keys: the next request with one of them is refused.",
        directives=[requires("keys:write")],
    )
    async def remove_service_account(
        self, info: Info, input: Annotated[RemoveServiceAccountInput, GIVEN]
    ) -> RemoveServiceAccountPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            await context.books.remove_service_account(input.service_account_id)
            return {"account": input.service_account_id}

        async def show(done: Written) -> Mapping[str, Any]:
            return {"removed_service_account_id": strawberry.ID(done.records["account"])}

        return await written(info, RemoveServiceAccountPayload, input, work, show)


def _name(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise WriteRefused(
            Refusal.INVALID, f"a name has from 1 to {LONGEST_NAME} characters that can be seen", "name"
        )
    return name


def _scopes(asked: Iterable[str], within: frozenset[str], whose: str) -> tuple[str, ...]:
    scopes = tuple(sorted(set(asked)))
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise WriteRefused(Refusal.INVALID, f"there is no scope {unknown[0]}", "scopes")
    if beyond := [scope for scope in scopes if scope not in within]:
        raise WriteRefused(
            Refusal.SCOPE_NOT_YOURS, f"{beyond[0]} is not among what {whose} and may pass on", "scopes"
        )
    if not scopes:
        raise WriteRefused(Refusal.INVALID, "name at least one scope", "scopes")
    return scopes


def _expiry(context: Context, asked: datetime | None, now: datetime) -> datetime:
    usual, longest = now + context.key_lifetime.usual, now + context.key_lifetime.longest
    if asked is None:
        return usual
    if not now < asked <= longest:
        raise WriteRefused(
            Refusal.INVALID,
            f"expiresAt must be in the future, and in {context.key_lifetime.longest.days} days at most",
            "expiresAt",
        )
    return asked
