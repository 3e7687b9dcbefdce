"""Requests that take a stronger or a more recent sign-in, and how a client learns which."""

import time
from typing import Any

import pytest

from gateway.signin.settings import Demand
from tests.door import Answer, Door
from tests.issuer import Issuer, believe

WHO = "{ viewer { id } }"
MUTATION = 'mutation { leaveOrganisation(input: {idempotencyKey: "k"}) { leftOrganisationId } }'
CUSTOMER = {"roles": ["owner"], "organisations": ["harbour"]}


async def ask(door: Door, token: str, query: str = WHO) -> Answer:
    return await door.ask(None, query, token=token)


def wanted(answer: Answer) -> Any:
    assert answer.status == 401, answer.body
    only = answer.body["errors"]
    assert [error["extensions"]["code"] for error in only] == ["UNAUTHENTICATED"]
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_user_authentication", ')
    for name, value in only[0]["extensions"]["signIn"].items():
        assert f'{name}="{value}"' in answer.headers["WWW-Authenticate"]
    return only[0]["extensions"]["signIn"]


async def test_a_route_takes_one_of_the_stronger_sign_ins(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url}, demands=(Demand(acr=("phr", "mfa")),))

    assert wanted(await ask(door, issuer.of(CUSTOMER))) == {"acr_values": "phr mfa"}
    assert wanted(await ask(door, issuer.of(CUSTOMER | {"acr": "pwd"}))) == {"acr_values": "phr mfa"}
    assert (await ask(door, issuer.of(CUSTOMER | {"acr": "mfa"}))).status == 200
    assert (await ask(door, issuer.of(CUSTOMER | {"acr": ["c1", "phr"]}))).status == 200
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_a_means_of_signing_in_can_be_demanded(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url}, demands=(Demand(amr=("mfa", "hwk"), max_age=300),))
    now = int(time.time())

    assert (await ask(door, issuer.of(CUSTOMER | {"amr": ["pwd", "mfa"], "auth_time": now}))).status == 200
    assert wanted(await ask(door, issuer.of(CUSTOMER | {"amr": ["pwd"], "auth_time": now}))) == {
        "max_age": "300"
    }


@pytest.mark.parametrize(("ago", "status"), [(10, 200), (290, 200), (310, 401), (None, 401)])
async def test_a_sign_in_can_be_too_long_ago(
    door: Door, issuer: Issuer, ago: int | None, status: int
) -> None:
    believe(door, {"issuer": issuer.url}, demands=(Demand(max_age=300),))
    claims = CUSTOMER if ago is None else CUSTOMER | {"auth_time": int(time.time()) - ago}

    answer = await ask(door, issuer.of(claims))

    assert answer.status == status
    if status == 401:
        assert wanted(answer) == {"max_age": "300"}


async def test_a_sign_in_gets_too_old_while_its_token_is_remembered(
    door: Door, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    believe(door, {"issuer": issuer.url}, demands=(Demand(max_age=300),))
    token = issuer.of(CUSTOMER | {"auth_time": int(time.time())})
    assert (await ask(door, token)).status == 200

    later = time.time() + 301
    monkeypatch.setattr("gateway.signin.demands.time.time", lambda: later)

    assert wanted(await ask(door, token)) == {"max_age": "300"}


async def test_a_demand_is_of_its_route_and_callers_alone(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url}, demands=(Demand(route="/files", callers=("staff",), acr=("mfa",)),))
    staff, customer = issuer.token(), issuer.of(CUSTOMER)
    file = f"{door.url}/files/a.b.c"

    async def file_status(token: str) -> int:
        async with door.session.get(file, headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status

    assert (await ask(door, staff)).status == 200
    assert await file_status(staff) == 401
    assert await file_status(customer) == 404
    assert await file_status(issuer.of({"acr": "mfa"})) == 404


async def test_only_what_changes_something_can_take_more(door: Door, issuer: Issuer) -> None:
    believe(door, {"issuer": issuer.url}, demands=(Demand(operations=("mutation",), acr=("mfa",)),))
    token = issuer.of(CUSTOMER)

    assert (await ask(door, token)).status == 200
    assert wanted(await ask(door, token, MUTATION)) == {"acr_values": "mfa"}
    # What it comes to is the operation's own affair.
    assert (await ask(door, issuer.of(CUSTOMER | {"acr": "mfa"}), MUTATION)).status == 200


async def test_programs_are_not_asked_to_sign_in_again_unless_they_are_kept_out(
    door: Door, issuer: Issuer
) -> None:
    program = issuer.of(CUSTOMER | {"sub": "client-1", "client_id": "client-1"})
    believe(door, {"issuer": issuer.url}, demands=(Demand(acr=("mfa",)),))
    assert (await ask(door, program)).status == 200

    believe(door, {"issuer": issuer.url}, demands=(Demand(acr=("mfa",), callers=("services",)),))
    assert (await ask(door, program)).status == 401
    assert (await ask(door, issuer.of(CUSTOMER))).status == 200
