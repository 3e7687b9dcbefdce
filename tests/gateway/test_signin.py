"""Who is let in: only a token that the issuer signed, for this gateway, for now; and what everybody else reads."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from joserfc import jwe, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from gateway.demo_issuer import AUDIENCE
from gateway.signin import issuers, tokens
from sources.sandbox.server import serve
from sources.sandbox.world import World
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.issuer import Issuer, believe, hs256, rs256, segment
from tests.streams.client import connected, streaming

WHO = "{ viewer { id name email roles organisation { id } } }"


def claims(door: Door, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    standard = {"iss": door.issuer.url, "aud": AUDIENCE, "sub": "x", "exp": now + 600, "roles": ["admin"]}
    return standard | changes


def signed(door: Door, persona: str, payload: Any = None, **changes: Any) -> str:
    """By the issuer's own key, whatever is said: a persona's claims with changes, or any payload."""
    key = door.issuer._key
    _, body, _ = door.issuer.token(persona).split(".")
    standard = json.loads(base64.urlsafe_b64decode(body + "=="))
    raw = payload if isinstance(payload, bytes) else json.dumps(standard | changes).encode()
    return rs256(key, {}, raw)


async def published_key(door: Door) -> dict[str, Any]:
    async with door.session.get(f"{door.issuer.url}/jwks") as answer:
        key: dict[str, Any] = (await answer.json())["keys"][0]
        return key


async def refused_tokens(door: Door) -> dict[str, str]:
    """Every way in which a token can be wrong, by its name."""
    public = await published_key(door)
    pem = RSAKey.import_key(public).as_pem(private=False)
    stranger = RSAKey.generate_key(2048, {"kid": public["kid"]})
    now = int(time.time())

    def token(**changes: Any) -> str:
        return signed(door, "owner-harbour", **changes)

    good = token()
    head, body, signature = good.split(".")
    other_body = segment(claims(door))

    def signed_by(key: Any, **header: Any) -> str:
        return jwt.encode({"alg": "RS256", "kid": public["kid"], **header}, claims(door), key)

    def typed(kind: Any, **header: Any) -> str:
        said = json.dumps(claims(door)).encode()
        return rs256(door.issuer._key, {"typ": kind} | header, said)

    nested = rs256(door.issuer._key, {"cty": "JWT"}, good.encode())
    hidden = jwe.encrypt_compact(
        {"alg": "RSA-OAEP", "enc": "A256GCM", "kid": public["kid"], "cty": "JWT"},
        json.dumps(claims(door)),
        RSAKey.import_key({name: public[name] for name in ("kty", "n", "e")}),
    )
    sealed = jwe.encrypt_compact(
        {"alg": "RSA-OAEP", "enc": "A256GCM", "kid": public["kid"], "cty": "JWT"},
        good,
        RSAKey.import_key({name: public[name] for name in ("kty", "n", "e")}),
    )
    sealed_plainly = jwe.encrypt_compact(
        {"alg": "dir", "enc": "A256GCM", "cty": "JWT"}, good, OctKey.generate_key(256)
    )
    squeezed = jwe.encrypt_compact(
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}, json.dumps(claims(door)), OctKey.generate_key(256)
    )
    return {
        "another audience": token(aud="somebody-else"),
        "a list of other audiences": token(aud=["a", "b"]),
        "no audience": token(aud=None),
        "an audience that contains ours": token(aud=f"x{AUDIENCE}"),
        "another issuer": token(iss="https://login.evil.example"),
        "our issuer with a slash": token(iss=door.issuer.url + "/"),
        "expired": token(exp=now - 61),
        "expired long ago": token(exp=0),
        "no expiry": token(exp=None),
        "expiry as text": token(exp=str(now + 60)),
        "expiry that never comes": token(exp=float("inf")),
        "expiry that is no number": token(exp=float("nan")),
        "expiry true": token(exp=True),
        "expiry a list": token(exp=[now + 60]),
        "not valid yet": token(nbf=now + 120),
        "valid since text": token(nbf="yesterday"),
        "issued in the future": token(iat=now + 120),
        "issued at some text": token(iat="never"),
        "bound to a key of its client": token(cnf={"jkt": "x"}),
        "an ID token": token(nonce="n"),
        "an ID token of a code": token(at_hash="x"),
        "a refresh token": token(typ="Refresh"),
        "a logout token": typed("logout+jwt"),
        "a proof of possession": typed("dpop+jwt"),
        "a type that is no text": typed(["at+jwt"]),
        "anything critical": typed("JWT", crit=[]),
        "nobody": token(sub=""),
        "somebody in a list": token(sub=["owner-harbour"]),
        "somebody whom no text can hold": token(sub="\ud800"),
        "alg none": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "alg none with a signature": f"{segment({'alg': 'none', 'kid': public['kid']})}.{body}.{signature}",
        "alg None": f"{segment({'alg': 'None', 'kid': public['kid']})}.{body}.",
        "alg missing": f"{segment({'kid': public['kid']})}.{body}.{signature}",
        "alg a list": f"{segment({'alg': ['RS256'], 'kid': public['kid']})}.{body}.{signature}",
        "HS256 with the public key as secret": hs256(
            pem, {"kid": public["kid"]}, json.dumps(claims(door)).encode()
        ),
        "HS256 with the modulus as secret": hs256(
            public["n"].encode(), {"kid": public["kid"]}, json.dumps(claims(door)).encode()
        ),
        "a stranger's key under our kid": signed_by(stranger),
        "a stranger's key in the header": signed_by(stranger, jwk=stranger.as_dict(private=False)),
        "a stranger's certificate in the header": signed_by(stranger, x5c=["MIIB"]),
        "an address of keys in the header": signed_by(stranger, jku=f"{door.issuer.url}/jwks"),
        "an address of certificates in the header": signed_by(stranger, x5u=f"{door.issuer.url}/jwks"),
        "a payload that is not encoded": rs256(
            door.issuer._key, {"b64": False, "crit": ["b64"]}, json.dumps(claims(door)).encode()
        ),
        "a curve's key under our kid": jwt.encode(
            {"alg": "ES256", "kid": public["kid"]}, claims(door), ECKey.generate_key("P-256")
        ),
        "an unknown kid": jwt.encode({"alg": "RS256", "kid": "unknown"}, claims(door), stranger),
        "a kid that is a path": jwt.encode(
            {"alg": "RS256", "kid": "../../etc/passwd"}, claims(door), stranger
        ),
        "a kid that is a list": f"{segment({'alg': 'RS256', 'kid': [public['kid']]})}.{body}.{signature}",
        "unknown critical header": f"{segment({'alg': 'RS256', 'kid': public['kid'], 'crit': ['x'], 'x': 1})}.{body}.{signature}",
        "another body under the signature": f"{head}.{other_body}.{signature}",
        "a changed signature": f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.x",
        "encrypted": hidden,
        "a good token, encrypted to the issuer's key": sealed,
        "a good token, encrypted to nobody's key": sealed_plainly,
        "encrypted and compressed": squeezed,
        "a token in a token": nested,
        "not a JWT": "let-me-in",
        "dots": "..",
        "a header of nonsense": f"{segment(b'[' * 300)}.{body}.{signature}",
        "a header that is a list": f"{segment([])}.{body}.{signature}",
        "not base64": "!!!.???.###",
        "not even ASCII": "ü.ü.ü",
        "larger than 8 kB": token(padding="x" * 9000),
        "signed: a list": signed(door, "admin", b"[]"),
        "signed: no JSON": signed(door, "admin", b"admin"),
        "signed: nothing": signed(door, "admin", b" "),
        "signed: brackets without end": signed(door, "admin", b"[" * 4000),
    }


async def test_a_token_of_the_issuer_is_let_in(door: Door) -> None:
    answer = await door.ask("owner-harbour", WHO)

    assert answer.data["viewer"] == {
        "id": "owner-harbour",
        "name": f"Owner of {door.world.accounts[0].crm_name}",
        "email": f"owner@{door.world.accounts[0].domain}",
        "roles": ["owner"],
        "organisation": {"id": "harbour"},
    }


async def test_every_wrong_token_is_refused_with_a_clear_answer_and_no_call_to_a_vendor(door: Door) -> None:
    for why, token in (await refused_tokens(door)).items():
        answer = await door.ask(None, WHO, token=token)

        assert answer.status == 401, why
        assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token", error_desc'), why
        assert answer.headers["Content-Type"].startswith("application/json"), why
        only = answer.body
        assert set(only) == {"errors"}, why
        assert [error["extensions"]["code"] for error in only["errors"]] == ["UNAUTHENTICATED"], why
        assert only["errors"][0]["message"], why
        assert token[:40] not in json.dumps(only), why
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


@pytest.mark.parametrize(
    "path", ["/schema.graphql", "/files/a.b.c", "/audit.jsonl", "/scim/v2/Users", "/metrics"]
)
async def test_wrong_tokens_open_no_other_address_either(door: Door, path: str) -> None:
    for why, token in (await refused_tokens(door)).items():
        status, headers, body = await door.fetch(None, path, Authorization=f"Bearer {token}")

        assert status == 401, why
        assert headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"'), why
        assert token[:40].encode() not in body, why
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_wrong_tokens_open_no_socket_and_no_event_stream(door: Door) -> None:
    for why, token in (await refused_tokens(door)).items():
        async with connected(door) as socket:
            await socket.say("connection_init", payload={"authorization": f"Bearer {token}"})
            assert (await socket.closed())[0] in (4401, 4403), why
        async with streaming(door, None, WHO, token=token) as events:
            assert events.response.status == 401, why
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_what_a_tokens_header_points_at_is_asked_by_nobody(door: Door) -> None:
    tokens_ = await refused_tokens(door)
    door.boxes["issuer"].log.clear()
    for why in ("an address of keys in the header", "an address of certificates in the header"):
        assert (await door.ask(None, WHO, token=tokens_[why])).status == 401
    assert door.boxes["issuer"].log.calls() == []


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "token", "Bearer\ttab", "DPoP x", ", Bearer x"],
)
async def test_without_a_bearer_token_nobody_is_let_in(door: Door, header: str | None) -> None:
    answer = await door.ask(None, WHO, headers={} if header is None else {"Authorization": header})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.body["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


@pytest.mark.parametrize("query", ["{ __schema { types { name } } }", "{ __typename }", "{", ""])
async def test_introspection_and_nonsense_need_a_token_too(door: Door, query: str) -> None:
    answer = await door.ask(None, query)

    assert answer.status == 401
    assert "data" not in answer.body


@pytest.mark.parametrize("path", ["/schema.graphql", "/files/x", "/files/a.b.c"])
async def test_the_other_addresses_need_a_token_too(door: Door, path: str) -> None:
    status, headers, body = await door.fetch(None, path)

    assert status == 401
    assert headers["WWW-Authenticate"] == "Bearer"
    assert json.loads(body)["code"] == "UNAUTHENTICATED"


async def test_a_get_request_needs_a_token_and_takes_none_from_the_address(door: Door) -> None:
    token = door.issuer.token("owner-harbour")
    async with door.session.get(
        f"{door.url}/graphql", params={"query": "{ __typename }", "access_token": token, "token": token}
    ) as answer:
        assert answer.status == 401


async def test_the_clock_may_be_a_minute_off(door: Door) -> None:
    now = int(time.time())
    for changes in ({"exp": now - 30}, {"nbf": now + 30}, {"exp": now + 600.5}, {"exp": 10**12}):
        answer = await door.ask(None, WHO, token=door.issuer.token("owner-harbour", **changes))
        assert answer.status == 200, changes


async def test_spaces_around_a_token_and_the_schemes_case_do_not_matter(door: Door) -> None:
    token = door.issuer.token("owner-harbour")
    for header in (f"bearer {token}", f"BEARER   {token}  ", f"Bearer {token}"):
        answer = await door.ask(None, WHO, headers={"Authorization": header})
        assert answer.status == 200


async def test_an_audience_among_several_is_enough(door: Door) -> None:
    answer = await door.ask(None, WHO, token=door.issuer.token("owner-harbour", aud=["other", AUDIENCE]))

    assert answer.status == 200


async def test_several_authorization_headers_are_refused(door: Door) -> None:
    tokens = [door.issuer.token("owner-harbour"), door.issuer.token("admin")]
    async with door.session.post(
        f"{door.url}/graphql",
        json={"query": WHO},
        headers=[("Authorization", f"Bearer {token}") for token in tokens],
    ) as answer:
        assert answer.status == 401


async def test_a_remembered_token_expires_all_the_same(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    token = door.issuer.token("owner-harbour", exp=int(time.time()) + 100)
    assert (await door.ask(None, WHO, token=token)).status == 200

    later = time.time() + 161
    monkeypatch.setattr(tokens.time, "time", lambda: later)

    assert (await door.ask(None, WHO, token=token)).status == 401


async def test_a_remembered_signature_vouches_for_its_own_token_alone(door: Door) -> None:
    token = door.issuer.token("owner-harbour")
    known = await door.ask(None, WHO, token=token)
    head, _, signature = token.split(".")
    _, others, _ = door.issuer.token("admin").split(".")

    assert (await door.ask(None, WHO, token=f"{head}.{others}.{signature}")).status == 401
    assert (await door.ask(None, WHO, token=token)).data == known.data


async def test_who_is_remembered_is_let_in_by_no_less_than_before(door: Door) -> None:
    token = door.issuer.token("owner-harbour")
    assert (await door.ask(None, WHO, token=token)).status == 200

    async def status(*headers: tuple[str, str]) -> int:
        sent = [("Authorization", f"Bearer {token}"), *headers]
        async with door.session.post(f"{door.url}/graphql", json={"query": WHO}, headers=sent) as answer:
            return answer.status

    assert await status() == 200
    assert await status(("Authorization", f"Bearer {token}")) == 401
    assert await status(("X-Organisation", "harbour")) == 200
    assert await status(("X-Organisation", "moeller")) == 403
    assert await status(("X-Organisation", "harbour"), ("X-Organisation", "harbour")) == 400
    assert await status(("X-View-As", "somebody")) == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": None}, {"roles": 5}, {"roles": {"admin": True}}, {"roles": [["admin"], None, 5]}, {"roles": "nothing"},
        {"organisations": None}, {"organisations": {"a": 1}}, {"organisations": [5, None, ["harbour"], "\ud800"]},
        {"organisations": 7}, {"name": ["x"]}, {"email": {"a": 1}}, {"name": "\udc00"}, {"organisations": ["a\0b"]}, {"name": "a\0b"},
        {"organisations": "x" * 3000}, {"jti": {}}, {"groups": {"a": 1}}, {"auth_time": "never"}, {"acr": 5}, {"amr": {}},
    ],
)  # fmt: skip
async def test_claims_of_unexpected_types_are_no_failure_and_give_nothing(
    door: Door, changes: dict[str, Any]
) -> None:
    answer = await door.ask(
        None,
        "query Q($id: ID!) { viewer { id name email roles organisations { id } } account(id: $id) { id } }",
        {"id": door.account_id(1)},
        token=signed(door, "owner-harbour", **changes),
    )

    assert answer.status == 200
    assert answer.data["viewer"]["id"] == "owner-harbour"
    assert answer.data["account"] is None
    assert {code for _, code in answer.codes()} <= {"NOT_FOUND", "FORBIDDEN"}


# -- organisations -----------------------------------------------------------------------------------------------------


async def test_an_organisation_that_is_not_yours_is_refused(door: Door) -> None:
    for other in ("moeller", "nobody", "harbour moeller", "HARBOUR", "harbour\x00".strip("\x00") + ","):
        answer = await door.ask("owner-harbour", WHO, headers={"X-Organisation": other})
        assert answer.status == 403, other
        assert answer.body["errors"][0]["extensions"] == {"code": "FORBIDDEN"}


async def test_a_caller_of_several_organisations_names_one_and_sees_that_alone(door: Door) -> None:
    token = door.issuer.token("owner-harbour", organisations=["harbour", "moeller"])
    query = "{ viewer { organisation { id } organisations { id } } accounts { nodes { name } } }"

    unsaid = await door.ask(None, query, token=token)
    harbour = await door.ask(None, query, token=token, headers={"X-Organisation": "harbour"})
    moeller = await door.ask(None, query, token=token, headers={"X-Organisation": "moeller"})

    assert (unsaid.status, unsaid.body["errors"][0]["extensions"]["code"]) == (400, "BAD_USER_INPUT")
    for answer, index, id_ in ((harbour, 0, "harbour"), (moeller, 1, "moeller")):
        assert answer.data["viewer"]["organisation"] == {"id": id_}
        assert [one["id"] for one in answer.data["viewer"]["organisations"]] == ["harbour", "moeller"]
        assert answer.data["accounts"]["nodes"] == [{"name": door.world.accounts[index].crm_name}]


async def test_several_organisation_headers_are_refused(door: Door) -> None:
    token = door.issuer.token("owner-harbour", organisations=["harbour", "moeller"])
    headers = [
        ("Authorization", f"Bearer {token}"),
        ("X-Organisation", "harbour"),
        ("X-Organisation", "moeller"),
    ]
    async with door.session.post(f"{door.url}/graphql", json={"query": WHO}, headers=headers) as answer:
        assert answer.status == 400


# -- the issuer --------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module")
async def running(postgres: str) -> AsyncIterator[tuple[Door, Issuer]]:
    """A gateway of one's own that believes an Issuer."""
    issuer = Issuer()
    async with serve(issuer.box) as listening, fresh_database(postgres) as url:
        issuer.url = listening.url
        async with open_door(World.build(0.05), url, matched=False) as door:
            yield door, issuer


@pytest_asyncio.fixture
async def own(running: tuple[Door, Issuer]) -> AsyncIterator[tuple[Door, Issuer]]:
    """The same with nothing remembered of the issuer, as at start."""
    door, issuer = running
    issuer.renew()
    believe(door, {"issuer": issuer.url})
    yield door, issuer
    issuer.box.faults.clear()


async def status(door: Door, token: str) -> int:
    return (await door.ask(None, "{ viewer { id } }", token=token)).status


async def test_an_issuer_that_is_down_at_start_is_said_and_recovers(
    own: tuple[Door, Issuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, issuer = own
    monkeypatch.setattr(issuers, "REFETCH_SECONDS", 0)
    for kind in ("fail", "garbage", "drop"):
        issuer.box.faults.add(kind)
        answer = await door.ask(None, "{ viewer { id } }", token=issuer.token())
        assert answer.status == 503
        assert answer.body["errors"][0]["extensions"]["code"] == "SOURCE_UNAVAILABLE"
        assert issuer.url not in json.dumps(answer.body)
        issuer.box.faults.clear()

    assert await status(door, issuer.token()) == 200


async def test_an_issuer_that_hangs_at_start_keeps_nobody_waiting_for_long(
    own: tuple[Door, Issuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, issuer = own
    monkeypatch.setattr(issuers, "FETCH_SECONDS", 0.2)
    issuer.box.faults.add("hang")

    answers = await asyncio.gather(*(status(door, issuer.token()) for _ in range(10)))

    assert answers == [503] * 10
    assert issuer.box.log.count() == 1


async def test_known_keys_serve_while_the_issuer_is_down(
    own: tuple[Door, Issuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, issuer = own
    assert await status(door, issuer.token()) == 200
    monkeypatch.setattr(issuers, "BELIEVED_SECONDS", 0)
    monkeypatch.setattr(issuers, "REFETCH_SECONDS", 0)
    issuer.box.faults.add("fail")

    assert [await status(door, issuer.token()) for _ in range(5)] == [200] * 5


async def test_a_new_key_is_accepted_at_once(
    own: tuple[Door, Issuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, issuer = own
    assert await status(door, issuer.token()) == 200
    monkeypatch.setattr(issuers, "REFETCH_SECONDS", 0)
    issuer.keys.insert(0, issuer.key())

    assert await status(door, issuer.token()) == 200
    assert await status(door, issuer.token(issuer.keys[1])) == 200


async def test_a_withdrawn_key_is_not_believed_any_more_not_even_for_a_remembered_token(
    own: tuple[Door, Issuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, issuer = own
    withdrawn = issuer.keys[0]
    token = issuer.token()
    assert await status(door, token) == 200
    issuer.keys = [issuer.key()]
    monkeypatch.setattr(issuers, "REFETCH_SECONDS", 0)

    # The new key's first token has the keys read again.
    assert await status(door, issuer.token()) == 200

    assert await status(door, token) == 401
    assert await status(door, issuer.token(withdrawn)) == 401


async def test_keys_are_looked_at_now_and_then_without_anybody_waiting(
    own: tuple[Door, Issuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, issuer = own
    token = issuer.token()
    assert await status(door, token) == 200
    issuer.keys = [issuer.key()]
    monkeypatch.setattr(issuers, "BELIEVED_SECONDS", 0)
    monkeypatch.setattr(issuers, "REFETCH_SECONDS", 0)

    assert await status(door, token) == 200
    refreshing = next(iter(door.office.signin.issuers)).keys._fetching
    assert refreshing is not None
    await refreshing

    assert await status(door, token) == 401


async def test_many_unknown_keys_cause_one_look_at_the_issuer(own: tuple[Door, Issuer]) -> None:
    door, issuer = own
    assert await status(door, issuer.token()) == 200
    issuer.box.log.clear()
    stranger = issuer.key()

    answers = await asyncio.gather(
        *(status(door, issuer.token(stranger, kid=f"unknown-{n}")) for n in range(100))
    )

    assert answers == [401] * 100
    assert issuer.box.log.count(path_prefix="/jwks") <= 3


@pytest.mark.parametrize("header", ["jku", "x5u"])
async def test_an_address_in_a_tokens_header_is_never_asked(own: tuple[Door, Issuer], header: str) -> None:
    door, issuer = own
    stranger = issuer.key()
    assert await status(door, issuer.token()) == 200
    issuer.box.log.clear()

    assert (
        await status(door, issuer.token(stranger, kid=issuer.keys[0].kid, **{header: f"{issuer.url}/evil"}))
        == 401
    )
    assert await status(door, issuer.token(stranger, **{header: f"{issuer.url}/evil"})) == 401

    assert issuer.box.log.count(path_prefix="/evil") == 0


async def test_what_an_issuer_adds_to_the_header_does_not_matter(own: tuple[Door, Issuer]) -> None:
    door, issuer = own

    for header in (
        {"nonce": "n"},
        {"x5t#S256": "AA"},
        {"typ": "at+jwt"},
        {"x5c": ["A" * 2000]},
        {"rh": "x", "v": 2},
    ):
        assert await status(door, issuer.token(**header)) == 200, header


async def test_keys_that_cannot_be_used_do_not_hide_those_that_can(own: tuple[Door, Issuer]) -> None:
    door, issuer = own
    secret = b"published for all to see, 32 bytes"
    issuer.also = [
        {"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA"},
        {"kty": "EC", "crv": "P-999", "kid": "curve", "x": "AA", "y": "AA"},
        {"kty": "RSA", "kid": "broken"},
        {"kid": "nothing"},
        {**issuer.key().as_dict(private=False), "use": "enc", "kid": "for-secrets"},
        {"kty": "oct", "kid": "secret", "k": segment(secret)},
    ]

    assert await status(door, issuer.token()) == 200
    said = {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "exp": 9e9, "roles": ["admin"]}
    assert await status(door, hs256(secret, {"kid": "secret"}, json.dumps(said).encode())) == 401


async def test_a_discovery_document_of_another_issuer_is_not_believed(own: tuple[Door, Issuer]) -> None:
    door, issuer = own
    discovery = f"{issuer.url}/.well-known/openid-configuration"
    believe(
        door,
        {"issuer": "https://login.example", "aliases": (issuer.url,), "discovery_url": discovery},
    )

    assert await status(door, issuer.token()) == 503


async def test_roles_and_organisations_are_read_from_the_configured_claims(own: tuple[Door, Issuer]) -> None:
    door, issuer = own
    believe(
        door,
        {
            "issuer": issuer.url,
            "roles_claim": "groups",
            "organisations_claim": "https://example.com/org",
            "role_names": {"Portal Owners": "owner", "buyers": "standard"},
        },
    )
    key = issuer.keys[0]
    said = {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "x",
        "exp": int(time.time()) + 60,
        "roles": ["admin"],
        "groups": ["Portal Owners", "unknown"],
        "https://example.com/org": "harbour",
    }

    answer = await door.ask(
        None,
        "{ viewer { roles organisation { id } scopes } }",
        token=jwt.encode({"alg": "RS256", "kid": key.kid}, said, key),
    )

    assert answer.data["viewer"]["roles"] == ["owner"]
    assert answer.data["viewer"]["organisation"] == {"id": "harbour"}
    assert "accounts:all" not in answer.data["viewer"]["scopes"]
