"""/graphql as the GraphQL over HTTP specification has it: methods, bodies, answers, and errors with their codes."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.endpoint import GRAPHQL_RESPONSE
from gateway.limits import MAX_BODY_BYTES
from tests.door import Answer, Door

JSON = "application/json"


async def send(
    door: Door,
    body: bytes | str | Mapping[str, Any] | list[Any] | None = None,
    *,
    method: str = "POST",
    params: Mapping[str, str] | None = None,
    **headers: str,
) -> Answer:
    """One request as it is, signed in as the owner at the first customer."""
    if body is not None and not isinstance(body, bytes | str):
        body = json.dumps(body)
    sent = {"Authorization": f"Bearer {door.issuer.token('owner-harbour')}"}
    if body is not None:
        sent["Content-Type"] = JSON
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with door.session.request(
        method, f"{door.url}/graphql", data=body, params=params, headers=sent
    ) as response:
        text = await response.text()
        is_json = "json" in response.headers.get("Content-Type", "")
        return Answer(response.status, response.headers, json.loads(text) if is_json else text)


def refused(answer: Answer) -> tuple[int, str, str]:
    """Status, code and message of an answer that is one refusal."""
    (error,) = answer.errors
    assert "data" not in answer.body
    return answer.status, error["extensions"]["code"], error["message"]


# -- methods --------------------------------------------------------------------------------------------------------


async def test_get_reads(door: Door) -> None:
    answer = await send(
        door,
        method="GET",
        params={
            "query": "query A { viewer { id } } query B($id: ID!) { node(id: $id) { id } }",
            "operationName": "B",
            "variables": json.dumps({"id": door.account_id(0)}),
        },
    )

    assert (answer.status, answer.body) == (200, {"data": {"node": {"id": door.account_id(0)}}})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "give the operation as the parameter query"),
        ({"query": "{ viewer { id } }", "variables": "{"}, "variables is not a JSON object"),
        ({"query": "{ viewer { id } }", "variables": "[1]"}, "variables is not a JSON object"),
    ],
)
async def test_get_without_a_usable_operation_is_refused(
    door: Door, params: dict[str, str], message: str
) -> None:
    assert refused(await send(door, method="GET", params=params)) == (400, "BAD_USER_INPUT", message)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(door: Door, method: str) -> None:
    answer = await send(door, method=method)

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")


# -- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/graphql", ""]
)
async def test_a_body_of_another_type_is_refused(door: Door, content_type: str) -> None:
    answer = await send(door, '{"query": "{ viewer { id } }"}', Content_Type=content_type)

    assert refused(answer) == (415, "BAD_USER_INPUT", "send the operation as application/json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_be_written_as_headers_may(door: Door, content_type: str) -> None:
    answer = await send(door, '{"query": "{ viewer { id } }"}', Content_Type=content_type)

    assert (answer.status, answer.errors) == (200, [])


@pytest.mark.parametrize("body", [b"", b"{", b"query", b'{"query": "\xff"}', b'{"query": NaN}'])
async def test_a_body_that_is_not_json_is_refused(door: Door, body: bytes) -> None:
    assert refused(await send(door, body)) == (400, "BAD_USER_INPUT", "the request is not valid JSON")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "query"),
        ({"query": 1}, "$.query"),
        ({"query": None}, "$.query"),
        ({"query": "{ viewer { id } }", "variables": [1]}, "$.variables"),
        ({"query": "{ viewer { id } }", "variables": "{}"}, "$.variables"),
        ({"query": "{ viewer { id } }", "operationName": 7}, "$.operationName"),
        ({"query": "{ viewer { id } }", "extensions": 7}, "$.extensions"),
        ("7", "object"),
        ("null", "object"),
    ],
)
async def test_a_body_of_another_form_is_refused_and_the_part_named(door: Door, body: Any, part: str) -> None:
    status, code, message = refused(await send(door, body))

    assert (status, code) == (400, "BAD_USER_INPUT")
    assert part in message


async def test_null_is_as_good_as_left_out_and_what_is_unknown_is_passed_over(door: Door) -> None:
    answer = await send(
        door,
        {
            "query": "{ viewer { id } }",
            "variables": None,
            "operationName": None,
            "extensions": {"persistedQuery": {"version": 1}},
            "id": "x",
        },
    )

    assert (answer.status, answer.errors) == (200, [])


@pytest.mark.parametrize("body", [[], [{"query": "{ viewer { id } }"}]])
async def test_a_list_of_operations_is_refused(door: Door, body: list[Any]) -> None:
    assert refused(await send(door, body)) == (
        400,
        "BAD_USER_INPUT",
        "send one operation per request; a list of them is not taken",
    )


async def test_a_body_that_is_too_large_is_refused(door: Door) -> None:
    body = json.dumps({"query": "{ viewer { id } }" + " " * MAX_BODY_BYTES})

    assert refused(await send(door, body)) == (413, "LIMIT_EXCEEDED", "the request is larger than 256 kB")


async def test_a_body_of_just_the_allowed_size_is_read(door: Door) -> None:
    body = '{"query": "{ viewer { id } }"}'

    assert (await send(door, body + " " * (MAX_BODY_BYTES - len(body)))).status == 200


# -- answers --------------------------------------------------------------------------------------------------------

NOT_VALID = {"query": "{ nothing }"}
FIELD_FAILS = {"query": '{ viewer { id } account(id: "none") { name } }'}


@pytest.mark.parametrize("accept", [JSON, "*/*", f"{JSON}, text/html;q=0.5"])
async def test_by_the_older_media_type_what_does_not_validate_is_200(door: Door, accept: str) -> None:
    answer = await send(door, NOT_VALID, Accept=accept)

    assert (answer.status, answer.headers["Content-Type"]) == (200, f"{JSON}; charset=utf-8")
    assert "data" not in answer.body


@pytest.mark.parametrize("accept", [GRAPHQL_RESPONSE, f"{GRAPHQL_RESPONSE}; charset=utf-8, {JSON};q=0.9"])
async def test_by_the_newer_media_type_what_does_not_validate_is_400(door: Door, accept: str) -> None:
    answer = await send(door, NOT_VALID, Accept=accept)

    assert (answer.status, answer.headers["Content-Type"]) == (400, f"{GRAPHQL_RESPONSE}; charset=utf-8")
    assert "data" not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        {"query": "{"},
        {"query": ""},
        {"query": "query($n: Int!) { accounts(first: $n) { nodes { id } } }"},
        {"query": "query A { viewer { id } }", "operationName": "B"},
        {"query": "{ viewer { id } }" * 2},
    ],
)
async def test_whatever_never_ran_is_400_by_the_newer_media_type(door: Door, body: dict[str, str]) -> None:
    answer = await send(door, body, Accept=GRAPHQL_RESPONSE)

    assert answer.status == 400
    assert "data" not in answer.body
    assert {error["extensions"]["code"] for error in answer.errors} == {"BAD_USER_INPUT"}


@pytest.mark.parametrize("accept", [JSON, GRAPHQL_RESPONSE])
async def test_a_field_that_fails_is_an_answer_with_data(door: Door, accept: str) -> None:
    answer = await send(door, FIELD_FAILS, Accept=accept)

    assert answer.status == 200
    assert answer.data["account"] is None
    assert answer.data["viewer"]["id"]
    assert answer.codes() == [("account", "NOT_FOUND")]


async def test_each_answer_has_an_id_of_its_own_to_quote(door: Door) -> None:
    ids = {(await send(door, {"query": "{ viewer { id } }"})).headers["X-Request-Id"] for _ in range(3)}

    assert len(ids) == 3


async def test_answers_are_utf8_and_keep_every_script(door: Door) -> None:
    index, name = next(
        (account.index, account.crm_name) for account in door.world.accounts if not account.crm_name.isascii()
    )
    answer = await door.ask(
        "admin", "query($id: ID!) { account(id: $id) { name } }", {"id": door.account_id(index)}
    )

    assert answer.data == {"account": {"name": name}}


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "variables", "message"),
    [
        ("{ viewer { nothing } }", {}, "Cannot query field 'nothing' on type 'Viewer'."),
        ("{ viewer }", {}, "must have a selection of subfields"),
        ("{ account { id } }", {}, "of type 'ID!' is required"),
        ("{ accounts(many: 3) { nodes { id } } }", {}, "Unknown argument 'many'"),
        ('{ accounts(first: "3") { nodes { id } } }', {}, "Int cannot represent"),
        ("{ accounts(first: 3.0) { nodes { id } } }", {}, "Int cannot represent"),
        ("{ accounts(first: 3000000000) { nodes { id } } }", {}, "Int cannot represent"),
        (
            "{ accounts(orderBy: {field: SIZE}) { nodes { id } } }",
            {},
            "does not exist in 'AccountOrderField'",
        ),
        ("{ accounts(filter: {colour: 1}) { nodes { id } } }", {}, "colour"),
        ("query($n: Int) { accounts(first: $m) { nodes { id } } }", {}, "Variable '$m' is not defined"),
        ("query($n: Int) { viewer { id } }", {}, "Variable '$n' is never used"),
        ("query($n: String) { accounts(first: $n) { nodes { id } } }", {}, "used in position"),
        ("query($id: ID!) { account(id: $id) { id } }", {}, "Variable '$id' has invalid value"),
        ("query($id: ID!) { account(id: $id) { id } }", {"id": None}, "Variable '$id' has invalid value"),
        ("query($id: ID!) { account(id: $id) { id } }", {"id": ["a"]}, "ID cannot represent"),
        ("query($n: Int) { accounts(first: $n) { nodes { id } } }", {"n": "3"}, "Int cannot represent"),
        ("subscription { viewer { id } }", {}, "a subscription has many answers"),
        ("mutation { viewer { id } }", {}, "Cannot query field 'viewer' on type 'Mutation'"),
        ("fragment A on Query { viewer { id } }", {}, ""),
        ("", {}, ""),
        ("  # nothing but words", {}, "Unexpected <EOF>"),
        ("{ viewer { id }", {}, "Expected Name, found <EOF>"),
        ('{ viewer { id } } "', {}, "Unterminated string"),
    ],
)
async def test_a_request_that_cannot_run_says_what_to_mend(
    door: Door, query: str, variables: dict[str, Any], message: str
) -> None:
    answer = await send(door, {"query": query, "variables": variables})

    assert "data" not in answer.body
    assert {error["extensions"]["code"] for error in answer.errors} == {"BAD_USER_INPUT"}
    assert message in " ".join(error["message"] for error in answer.errors)
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_of_several_operations_one_must_be_named(door: Door) -> None:
    both = "query A { viewer { id } } query B { viewer { name } }"

    unnamed = await send(door, {"query": both})
    unknown = await send(door, {"query": both, "operationName": "C"})
    empty = await send(door, {"query": both, "operationName": ""})
    named = await send(door, {"query": both, "operationName": "B"})

    assert refused(unnamed)[1:] == (
        "BAD_USER_INPUT",
        "the document has several operations: say which one as operationName",
    )
    assert refused(unknown)[1:] == (
        "BAD_USER_INPUT",
        "the document has no such operation: check operationName",
    )
    assert refused(empty)[1] == "BAD_USER_INPUT"
    assert list(named.data["viewer"]) == ["name"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ('invoices(filter: {total: {from: "1e"}}) { nodes { id } }', "Decimal"),
        ("invoices(filter: {total: {from: 12.5}}) { nodes { id } }", "Decimal"),
        ('invoices(filter: {total: {from: "NaN"}}) { nodes { id } }', "Decimal"),
        ('invoices(filter: {due: {from: "2026-02-30"}}) { nodes { id } }', "Date"),
        ('invoices(filter: {due: {from: "02/03/2026"}}) { nodes { id } }', "Date"),
        ('tickets(filter: {updatedSince: "2026-05-01"}) { nodes { id } }', "DateTime"),
        ('tickets(filter: {updatedSince: "2026-05-01T10:00:00"}) { nodes { id } }', "with its zone"),
        ("tickets(filter: {updatedSince: 1777593600}) { nodes { id } }", "DateTime"),
    ],
)
async def test_scalars_that_do_not_fit_are_refused_in_the_document_and_in_variables(
    door: Door, field: str, message: str
) -> None:
    in_document = await send(door, {"query": f"{{ viewer {{ account {{ {field} }} }} }}"})

    assert {code for _, code in in_document.codes()} == {"BAD_USER_INPUT"}
    assert message in in_document.errors[0]["message"]
    assert "data" not in in_document.body


async def test_a_scalar_in_a_variable_is_checked_as_well(door: Door) -> None:
    query = "query($f: InvoiceFilter) { viewer { account { invoices(filter: $f) { nodes { id } } } } }"

    answer = await send(door, {"query": query, "variables": {"f": {"total": {"from": 12.5}}}})

    assert {code for _, code in answer.codes()} == {"BAD_USER_INPUT"}
    assert 'A Decimal is written as text, such as "1250.00".' in answer.errors[0]["message"]


async def test_no_error_tells_what_it_was_made_of(door: Door) -> None:
    queries = [
        "{ nothing }",
        "{",
        "{ accounts(first: 101) { nodes { id } } }",
        '{ accounts(after: "x") { nodes { id } } }',
        '{ account(id: "x") { id } }',
        '{ viewer { account { tickets(filter: {text: "\\""}) { nodes { id } } } } }',
    ]

    shown = json.dumps([(await send(door, {"query": query})).body for query in queries])

    for word in (
        "Traceback",
        "gateway/",
        "resolvers",
        "strawberry",
        "msgspec",
        "site-packages",
        "127.0.0.1",
        "Error(",
    ):
        assert word not in shown


# -- the way in -----------------------------------------------------------------------------------------------------


async def test_what_nobody_expects_is_a_500_that_says_nothing(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("words that are for nobody")

    with monkeypatch.context() as fault:
        fault.setattr(door.office.signin, "known", fails)
        answer = await send(door, {"query": "{ viewer { id } }"})

    assert (answer.status, answer.body) == (500, "Internal Server Error")
    assert (await send(door, {"query": "{ viewer { id } }"})).status == 200


async def test_a_path_with_a_slash_too_many_leads_to_the_right_one(door: Door) -> None:
    async with door.session.post(f"{door.url}/graphql/", json={}, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, f"{door.url}/graphql")


async def test_a_client_that_leaves_before_its_request_is_whole_is_no_error(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(door.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        b"POST /graphql HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        b"Authorization: Bearer %b\r\n\r\n{" % door.issuer.token("owner-harbour").encode()
    )
    await writer.drain()
    async with asyncio.timeout(10):
        while not door.office.requests.under_way:
            await asyncio.sleep(0.01)
        writer.close()
        while door.office.requests.under_way:
            await asyncio.sleep(0.01)

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
