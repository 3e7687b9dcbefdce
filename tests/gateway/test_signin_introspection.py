"""Tokens that only their issuer can read: whom they are shown to, what is believed of the answer, and for how long."""

import asyncio
import base64
import time
from typing import Any

import pytest

from gateway.demo_issuer import AUDIENCE
from gateway.signin import introspection
from tests.door import Answer, Door
from tests.issuer import Issuer, believe, segment

WHO = "{ viewer { id roles organisation { id } } }"
SECRET = "s3cret & spaces"


def introspecting(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    standard = {"issuer": issuer.url, "introspect": True, "client_id": "gate:way", "client_secret": SECRET}
    return standard | changes


def active(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    standard = {
        "active": True, "iss": issuer.url, "aud": AUDIENCE, "sub": "ann", "client_id": "portal", "token_type": "Bearer",
        "exp": int(time.time()) + 600, "roles": ["owner"], "organisations": ["harbour"],
    }  # fmt: skip
    return {name: value for name, value in (standard | changes).items() if value is not None}


async def ask(door: Door, token: str) -> Answer:
    return await door.ask(None, WHO, token=token)


async def test_the_issuer_says_whose_an_opaque_token_is_and_is_asked_once(door: Door, issuer: Issuer) -> None:
    believe(door, introspecting(issuer))
    issuer.opaque["opaque-1"] = active(issuer)

    answers = await asyncio.gather(*(ask(door, "opaque-1") for _ in range(20)))

    assert {answer.status for answer in answers} == {200}
    assert answers[0].data["viewer"] == {"id": "ann", "roles": ["owner"], "organisation": {"id": "harbour"}}
    expected = base64.b64encode(b"gate%3Away:s3cret+%26+spaces").decode()
    assert issuer.asked == [
        ("opaque-1", {"client_secret_basic": f"Basic {expected}", "client_secret_post": None})
    ]


async def test_a_secret_goes_into_the_form_where_the_issuer_wants_it_there(
    door: Door, issuer: Issuer
) -> None:
    issuer.client_ways = ["client_secret_post", "private_key_jwt"]
    believe(door, introspecting(issuer))
    issuer.opaque["opaque-1"] = active(issuer)

    assert (await ask(door, "opaque-1")).status == 200
    ((_, ways),) = issuer.asked
    assert ways == {"client_secret_basic": None, "client_secret_post": f"gate:way:{SECRET}"}


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False}, {"active": None}, {"active": "true"}, {"active": 1},
        {"aud": "somebody-else"}, {"aud": None}, {"aud": []}, {"iss": "https://login.evil.example"},
        {"exp": None}, {"exp": 0}, {"nbf": 9e9}, {"iat": 9e9}, {"sub": None}, {"sub": ""},
        {"token_type": "DPoP"}, {"token_type": 5}, {"token_use": "refresh_token"}, {"cnf": {"jkt": "x"}},
    ],
)  # fmt: skip
async def test_an_answer_that_falls_short_lets_nobody_in(
    door: Door, issuer: Issuer, changes: dict[str, Any]
) -> None:
    believe(door, introspecting(issuer))
    issuer.opaque["opaque-1"] = active(issuer, **changes)

    answer = await ask(door, "opaque-1")

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


async def test_a_token_that_was_refused_is_not_asked_about_again_at_once(door: Door, issuer: Issuer) -> None:
    believe(door, introspecting(issuer))

    answers = [(await ask(door, "opaque-1")).status for _ in range(5)]

    assert answers == [401] * 5
    assert len(issuer.asked) == 1


async def test_somebody_of_a_firm_that_is_not_let_in_is_asked_about_once(door: Door, issuer: Issuer) -> None:
    believe(door, introspecting(issuer, tenants=("t1",)))
    issuer.opaque["opaque-1"] = active(issuer, tid="t2")

    assert [(await ask(door, "opaque-1")).status for _ in range(3)] == [403] * 3
    assert len(issuer.asked) == 1


async def test_a_flood_of_invented_tokens_has_no_good_one_forgotten(
    door: Door, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "REMEMBERED_TOKENS", 3)
    believe(door, introspecting(issuer))
    issuer.opaque["opaque-1"] = active(issuer)
    assert (await ask(door, "opaque-1")).status == 200

    for n in range(10):
        assert (await ask(door, f"invented-{n}")).status == 401

    assert (await ask(door, "opaque-1")).status == 200
    assert [token for token, _ in issuer.asked].count("opaque-1") == 1


async def test_a_revoked_token_works_no_longer_than_an_answer_is_believed(
    door: Door, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    believe(door, introspecting(issuer, introspection_seconds=30))
    issuer.opaque["opaque-1"] = active(issuer)
    assert (await ask(door, "opaque-1")).status == 200
    issuer.opaque["opaque-1"] = {"active": False}

    assert (await ask(door, "opaque-1")).status == 200
    later = time.monotonic() + 31
    monkeypatch.setattr(introspection, "time", _Clock(later))
    assert (await ask(door, "opaque-1")).status == 401


class _Clock:
    def __init__(self, monotonic: float) -> None:
        self.monotonic, self.time = lambda: monotonic, time.time


async def test_a_known_token_rides_out_an_outage_and_an_unknown_one_is_asked_to_try_again(
    door: Door, issuer: Issuer
) -> None:
    believe(door, introspecting(issuer))
    issuer.opaque["opaque-1"] = active(issuer)
    issuer.opaque["opaque-2"] = active(issuer)
    assert (await ask(door, "opaque-1")).status == 200

    for fault in ("fail", "garbage", "drop"):
        issuer.box.faults.add(fault)
        assert (await ask(door, "opaque-1")).status == 200
        unknown = await ask(door, "opaque-2")
        assert unknown.status == 503
        assert unknown.body["errors"][0]["extensions"]["code"] == "SOURCE_UNAVAILABLE"
        issuer.box.faults.clear()

    assert (await ask(door, "opaque-2")).status == 200


async def test_an_issuer_that_hangs_keeps_nobody_waiting_for_long(
    door: Door, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    believe(door, introspecting(issuer))
    issuer.opaque["opaque-1"] = active(issuer)
    assert (await ask(door, "opaque-1")).status == 200
    monkeypatch.setattr(introspection, "ANSWER_SECONDS", 0.2)
    issuer.box.faults.add("hang")

    assert [(await ask(door, f"unknown-{n}")).status for n in range(3)] == [503] * 3
    assert (await ask(door, "opaque-1")).status == 200


async def test_only_opaque_tokens_are_shown_and_each_to_one_issuer(
    door: Door, issuers: tuple[Issuer, Issuer]
) -> None:
    one, other = issuers
    believe(door, introspecting(one), introspecting(other, opaque_prefix="b_"))
    one.opaque["a_1"], other.opaque["b_1"] = active(one), active(other)

    assert (await ask(door, "a_1")).status == 200
    assert (await ask(door, "b_1")).status == 200
    assert (await ask(door, "b_unknown")).status == 401
    shown = [token for token, _ in one.asked], [token for token, _ in other.asked]
    assert shown == (["a_1"], ["b_1", "b_unknown"])


async def test_what_is_a_jwt_or_an_api_key_or_no_token_at_all_is_shown_to_no_issuer(
    door: Door, issuers: tuple[Issuer, Issuer]
) -> None:
    one, other = issuers
    believe(door, introspecting(one))
    header = segment({"alg": "RS256", "kid": "x"})
    five = ".".join([segment({"alg": "dir", "enc": "A256GCM"}), "", "AAAA", "AAAA", "AAAA"])
    for token in (
        other.token(), one.token(kid="unknown"), f"{header}.e30.AAAA", f"{header}.e30", header, five,
        f"{segment(b' {' + bytes(2))}.e30.AAAA"[:0] + "eyJ.x.y", "with space", "ünïcode", "a" * 9000, "semi;colon",
    ):  # fmt: skip
        assert (await ask(door, token)).status == 401, token[:40]

    assert one.asked == other.asked == []


async def test_a_client_that_is_refused_is_no_word_about_the_token(door: Door, issuer: Issuer) -> None:
    believe(door, introspecting(issuer, introspection_url=f"{issuer.url}/nowhere"))

    assert (await ask(door, "opaque-1")).status == 503


async def test_a_token_and_our_secret_are_not_sent_on_to_where_an_answer_points(
    door: Door, issuers: tuple[Issuer, Issuer]
) -> None:
    one, other = issuers
    believe(door, introspecting(one, introspection_url=f"{one.url}/moved?to={other.url}/introspect"))
    other.opaque["opaque-1"] = active(one)

    assert (await ask(door, "opaque-1")).status == 503
    assert other.box.log.count() == 0
