"""Signing in with the tokens of a real OpenID Connect provider, fetched over HTTP as a portal's page fetches them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from joserfc.jwk import RSAKey

from gateway.demo_issuer import AUDIENCE
from gateway.signin import issuers as keys
from gateway.signin.settings import Demand
from tests.door import Answer, Door
from tests.identity.provider import GATEWAY, GATEWAY_SECRET, JWT, OPAQUE, OidcProvider
from tests.issuer import believe, hs256, rs256

WHO = "{ viewer { id name email roles organisation { id } } }"


@pytest_asyncio.fixture
async def provider(door: Door, oidc_provider: OidcProvider) -> AsyncIterator[OidcProvider]:
    """The shared gateway believes the provider until the test is over."""
    signin = door.office.signin
    trust(door, oidc_provider)
    yield oidc_provider
    await door.office.signin.close()
    door.office.signin = signin


def trust(door: Door, provider: OidcProvider, **signin: Any) -> None:
    client = {"introspect": True, "client_id": GATEWAY, "client_secret": GATEWAY_SECRET}
    believe(door, {"issuer": provider.issuer, **client}, **signin)


async def ask(door: Door, token: str) -> Answer:
    return await door.ask(None, WHO, token=token)


@pytest.mark.parametrize("resource", [JWT, OPAQUE])
async def test_a_person_signs_in_and_is_who_the_provider_says(
    door: Door, provider: OidcProvider, resource: str
) -> None:
    given = await provider.sign_in("ann", resource)
    assert (given["access_token"].count(".") == 2) == (resource == JWT)

    answer = await ask(door, given["access_token"])

    assert answer.data["viewer"] == {
        "id": "ann", "name": "Ann Owner", "email": "ann@harbour.example", "roles": ["owner"],
        "organisation": {"id": "harbour"},
    }  # fmt: skip


async def test_what_is_given_besides_an_access_token_lets_nobody_in(
    door: Door, provider: OidcProvider
) -> None:
    given = await provider.sign_in("ada", OPAQUE)

    for other in ("id_token", "refresh_token"):
        assert (await ask(door, given[other])).status == 401, other
    assert (await ask(door, given["access_token"])).data["viewer"]["roles"] == ["admin"]


async def test_a_token_for_no_resource_of_ours_lets_nobody_in(door: Door, provider: OidcProvider) -> None:
    believe(door, {"issuer": provider.issuer, "audience": "another-api"})
    given = await provider.sign_in("ada")

    assert (await ask(door, given["access_token"])).status == 401


async def test_a_program_signs_in_and_has_the_roles_that_it_is_given(
    door: Door, provider: OidcProvider
) -> None:
    for resource in (JWT, OPAQUE):
        answer = await ask(door, await provider.machine_token(resource))

        assert answer.status == (200 if resource == JWT else 401)
        if resource == JWT:
            assert (answer.data["viewer"]["id"], answer.data["viewer"]["roles"]) == ("machine", [])


async def test_a_rotated_key_is_accepted_within_ten_seconds(
    door: Door, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (await provider.sign_in("ann"))["access_token"]
    assert (await ask(door, old)).status == 200
    await provider.rotate()
    new = (await provider.sign_in("fin"))["access_token"]

    assert keys.REFETCH_SECONDS <= 10
    later = time.monotonic() + keys.REFETCH_SECONDS
    monkeypatch.setattr("gateway.signin.issuers._since", lambda moment: later - moment)

    assert (await ask(door, new)).status == 200
    assert (await ask(door, old)).status == 200


async def test_keys_ride_out_an_outage_of_the_provider(
    door: Door, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (await provider.sign_in("ann"))["access_token"]
    other = (await provider.sign_in("fin"))["access_token"]
    assert (await ask(door, known)).status == 200
    await provider.down()
    monkeypatch.setattr(keys, "BELIEVED_SECONDS", 0)
    monkeypatch.setattr(keys, "REFETCH_SECONDS", 0)

    for _ in range(3):
        assert (await ask(door, known)).status == 200
    # Never seen before, and verified by the key that was.
    assert (await ask(door, other)).status == 200


async def test_a_hundred_tokens_with_unknown_keys_cause_at_most_three_looks_at_the_keys(
    door: Door, provider: OidcProvider
) -> None:
    assert (await ask(door, (await provider.sign_in("ann"))["access_token"])).status == 200
    await provider.requests()
    stranger = RSAKey.generate_key(2048)
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "ann", "roles": ["admin"], "exp": 9_999_999_999}
    payload = json.dumps(claims).encode()

    answers = await asyncio.gather(
        *(ask(door, rs256(stranger, {"kid": f"unknown-{n}"}, payload)) for n in range(100))
    )

    assert {answer.status for answer in answers} == {401}
    assert (await provider.requests()).count("GET /jwks") <= 3


async def test_the_providers_public_key_is_no_secret_to_sign_with(door: Door, provider: OidcProvider) -> None:
    assert (await ask(door, (await provider.sign_in("ann"))["access_token"])).status == 200
    async with door.session.get(f"{provider.issuer}/jwks") as response:
        published = (await response.json())["keys"][0]
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "ann", "roles": ["admin"], "exp": 9_999_999_999}
    pem = RSAKey.import_key({name: published[name] for name in ("kty", "n", "e")}).as_pem(private=False)

    for secret in (pem, published["n"].encode(), json.dumps(published).encode()):
        token = hs256(secret, {"kid": published["kid"]}, json.dumps(claims).encode())
        assert (await ask(door, token)).status == 401


async def test_a_stronger_and_a_recent_sign_in_can_be_had_where_they_are_demanded(
    door: Door, provider: OidcProvider
) -> None:
    trust(door, provider, demands=(Demand(acr=("mfa",), max_age=600),))
    weak = await ask(door, (await provider.sign_in("ann"))["access_token"])
    assert weak.status == 401
    wanted = weak.body["errors"][0]["extensions"]["signIn"]
    assert wanted == {"acr_values": "mfa", "max_age": "600"}

    for resource in (JWT, OPAQUE):
        strong = await provider.sign_in("ann", resource, **wanted)
        assert (await ask(door, strong["access_token"])).status == 200
