"""Witnesses from outside: AWS's own client against the sandbox, and AWS's own description of what is sent and answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore.awsrequest import HeadersDict
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from sources.ports.common import Criterion, Direction, Ref, Window
from sources.ports.documents import DocumentKind, DocumentOrder, DocumentQuery
from sources.ports.errors import SourceError
from sources.sandbox.server import Call, Running, Sandbox, ServerThread
from sources.sandbox.world import World
from sources.vendors.s3 import sandbox as s3
from sources.vendors.s3.documents import S3Documents

FOLDER = "accounts/C-10001/"

SIGNED = {"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"}
"""Of the signature, which the description leaves to the protocol."""

UNDESCRIBED_ANSWER_HEADERS = {
    "x-amz-request-id",  # S3 sends it with every answer; the description of operations leaves it out
    "x-amz-id-2",  # as above
    "x-amzn-requestid",  # moto's name for it, beside the real one
}

CONTENTS = {"Key", "LastModified", "ETag", "Size"}
"""What every object in a listing must have; the description requires nothing."""


@pytest.fixture(scope="module")
def small() -> World:
    return World.build(scale=0.05)


@pytest.fixture(scope="module")
def sandbox(small: World) -> Sandbox:
    return s3.sandbox(small, page_size=10, record_bodies=True)


@pytest.fixture(scope="module")
def running(sandbox: Sandbox) -> Iterator[Running]:
    with ServerThread(sandbox) as running:
        yield running


def client(running: Running, secret: str = s3.SECRET_ACCESS_KEY, region: str = s3.REGION) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=running.url,
        region_name=region,
        aws_access_key_id=s3.ACCESS_KEY_ID,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 1}),
    )


def test_boto3_lists_what_the_world_holds(running: Running, small: World) -> None:
    pages = client(running).get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET, Prefix=FOLDER)

    found = {entry["Key"]: entry for page in pages for entry in page["Contents"]}

    truth = {document.key: document for document in small.documents_by_account[0]}
    assert set(found) == set(truth)
    for key, entry in found.items():
        assert entry["Size"] == len(truth[key].versions[-1].content)
        assert entry["LastModified"] == s3.modified(small, truth[key])[-1]


def test_boto3_reads_every_version_of_the_world(running: Running, small: World) -> None:
    boto = client(running)
    pages = boto.get_paginator("list_object_versions").paginate(Bucket=s3.BUCKET, Prefix=FOLDER)

    found: dict[str, list[bytes]] = {}
    for page in pages:
        for version in page["Versions"]:
            got = boto.get_object(Bucket=s3.BUCKET, Key=version["Key"], VersionId=version["VersionId"])
            assert version["IsLatest"] == (version["Key"] not in found)
            found.setdefault(version["Key"], []).append(got["Body"].read())

    assert found == {
        document.key: [version.content for version in reversed(document.versions)]
        for document in small.documents_by_account[0]
    }


async def test_boto3_and_the_connector_read_the_same(running: Running) -> None:
    boto, store = client(running), S3Documents(s3.settings_for(running.url))
    [page] = await store.documents_of([Ref("s3", FOLDER)], DocumentQuery(Window(first=100)))
    assert not isinstance(page, SourceError)
    histories = await store.versions_of([row.ref for row in page.rows])
    await store.close()

    for row, history in zip(page.rows, histories, strict=True):
        head = boto.head_object(Bucket=s3.BUCKET, Key=row.ref.id)
        assert (row.size, row.updated_at) == (head["ContentLength"], head["LastModified"])
        assert (row.etag, row.media_type) == (head["ETag"], head["ContentType"])
        assert not isinstance(history, SourceError)
        assert history[0].id == head["VersionId"]


@pytest.mark.parametrize(
    ("secret", "bucket", "key", "code"),
    [
        ("wrong", s3.BUCKET, "x", "SignatureDoesNotMatch"),
        (s3.SECRET_ACCESS_KEY, "nothing-here", "x", "NoSuchBucket"),
        (s3.SECRET_ACCESS_KEY, s3.BUCKET, "no/such key", "NoSuchKey"),
    ],
)
def test_boto3_understands_the_sandboxs_refusals(
    running: Running, secret: str, bucket: str, key: str, code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        client(running, secret).get_object(Bucket=bucket, Key=key)

    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["RequestId"]


def test_boto3_learns_the_right_region_from_the_sandboxs_refusal(running: Running, sandbox: Sandbox) -> None:
    sandbox.log.clear()

    listing = client(running, region="us-east-1").list_objects_v2(Bucket=s3.BUCKET, Prefix=FOLDER)

    assert listing["KeyCount"] > 0
    assert [call.status for call in sandbox.log.calls()] == [400, 200]


@pytest.fixture(scope="module")
def described(specs: Path) -> ServiceModel:
    return ServiceModel(json.loads((specs / "amazon-s3.botocore.json").read_text()), "s3")


async def test_every_request_and_answer_is_as_aws_describes_it(
    running: Running, sandbox: Sandbox, described: ServiceModel
) -> None:
    sandbox.log.clear()
    await use_everything(S3Documents(s3.settings_for(running.url)))
    ours = sandbox.log.calls()
    use_everything_of(client(running))
    calls = sandbox.log.calls()

    for call in calls:
        operation = described.operation_model(operation_of(call))
        the_request_fits(operation, call, whole=call in ours)
        if call.status == 200:
            the_answer_fits(operation, call)
        else:
            the_error_fits(call)
    assert {operation_of(call) for call in ours} == {
        "ListObjectsV2",
        "ListObjectVersions",
        "HeadObject",
        "GetObject",
    }
    assert {200, 404} <= {call.status for call in ours}


async def use_everything(store: S3Documents) -> None:
    await store.probe()
    await store.customers_by(Criterion.NUMBER, ["C-10001"])
    query = DocumentQuery(
        Window(first=50),
        kinds=(DocumentKind.CONTRACT, DocumentKind.STATEMENT),
        order=DocumentOrder.TITLE,
        direction=Direction.ASC,
    )
    [page] = await store.documents_of([Ref("s3", FOLDER)], query)
    assert not isinstance(page, SourceError)
    refs = [row.ref for row in page.rows]
    await store.documents_of([Ref("s3", FOLDER)], DocumentQuery(Window(last=5), kinds=(DocumentKind.GUIDE,)))
    await store.documents([*refs, Ref("s3", FOLDER + "no such & thing+?.pdf")])
    await store.versions_of(refs)
    [history] = await store.versions_of(refs[:1])
    assert not isinstance(history, SourceError)
    await store.content(refs[0])
    await store.content(refs[0], history[-1].id)
    await store.content(refs[0], "0" * 32)
    await store.close()


def use_everything_of(boto: Any) -> None:
    [first, *_] = boto.list_objects_v2(Bucket=s3.BUCKET, Prefix=FOLDER, Delimiter="/")["CommonPrefixes"]
    [entry, *_] = boto.list_objects_v2(Bucket=s3.BUCKET, Prefix=first["Prefix"])["Contents"]
    boto.list_object_versions(Bucket=s3.BUCKET, Prefix=FOLDER, MaxKeys=3)
    boto.head_object(Bucket=s3.BUCKET, Key=entry["Key"])
    boto.get_object(Bucket=s3.BUCKET, Key=entry["Key"])["Body"].read()


def operation_of(call: Call) -> str:
    if urlsplit(call.path).path.strip("/") != s3.BUCKET:
        return {"HEAD": "HeadObject", "GET": "GetObject"}[call.method]
    return "ListObjectVersions" if "versions" in call.params else "ListObjectsV2"


def the_request_fits(operation: OperationModel, call: Call, whole: bool) -> None:
    """Only described parameters, of the described types; written as botocore itself would write them."""
    members = operation.input_shape.members
    fixed = dict(parse_qsl(urlsplit(operation.http["requestUri"]).query, keep_blank_values=True))
    by_query = {
        shape.serialization["name"]: name
        for name, shape in members.items()
        if shape.serialization.get("location") == "querystring"
    }
    asked = {name: value for name, value in call.query if name not in fixed}
    assert set(asked) <= set(by_query), call
    assert {name: value for name, value in call.query if name in fixed} == fixed
    params: dict[str, Any] = {"Bucket": s3.BUCKET}
    for name, value in asked.items():
        shape = members[by_query[name]]
        params[by_query[name]] = int(value) if shape.type_name == "integer" else value
        assert not shape.metadata.get("enum") or value in shape.metadata["enum"]
    if "Key" in members:
        params["Key"] = call.path.removeprefix(f"/{s3.BUCKET}/")
    assert not ParamValidator().validate(params, operation.input_shape).has_errors()

    written = create_serializer("rest-xml").serialize_to_request(params, operation)
    path, _, query = written["url_path"].partition("?")
    assert call.method == written["method"]
    assert call.path.rstrip("/") == unquote(path).rstrip("/")
    expected = {**dict(parse_qsl(query, keep_blank_values=True)), **written["query_string"]}
    assert call.params == {name: str(value) for name, value in expected.items()}
    if whole:
        headers = {
            shape.serialization["name"].lower()
            for shape in members.values()
            if shape.serialization.get("location") == "header"
        }
        sent = {name for name, _ in call.request_headers if name.startswith("x-amz-")}
        assert sent <= headers | SIGNED
        assert call.request_body == b""


def the_answer_fits(operation: OperationModel, call: Call) -> None:
    """Every element and header is described, and botocore's parser makes the described types of them."""
    shape = operation.output_shape
    headers = {
        member.serialization["name"].lower()
        for member in shape.members.values()
        if member.serialization.get("location") == "header"
    }
    sent = {name for name, _ in call.response_headers if name.startswith(("x-amz-", "x-amzn-"))}
    assert sent <= headers | UNDESCRIBED_ANSWER_HEADERS, sent - headers
    answer = {
        "status_code": call.status,
        "headers": HeadersDict(dict(call.response_headers)),
        "body": BytesIO(call.response_body) if operation.has_streaming_output else call.response_body,
    }
    parsed = create_parser("rest-xml").parse(answer, shape)
    if operation.name in ("HeadObject", "GetObject"):
        assert {"ETag", "LastModified", "ContentLength", "ContentType", "VersionId"} <= set(parsed)
        return
    root = ElementTree.fromstring(call.response_body)
    assert (
        root.tag
        == "{http://s3.amazonaws.com/doc/2006-03-01/}"
        + {
            "ListObjectsV2": "ListBucketResult",
            "ListObjectVersions": "ListVersionsResult",
        }[operation.name]
    )
    the_element_fits(root, shape)
    for entry in (*parsed.get("Contents", ()), *parsed.get("Versions", ())):
        assert set(entry) >= CONTENTS


def the_element_fits(element: ElementTree.Element, shape: Shape) -> None:
    if isinstance(shape, StructureShape):
        named = {wire_name(name, member): member for name, member in shape.members.items()}
        for child in element:
            name = child.tag.rpartition("}")[2]
            assert name in named, f"{name} is not described in {shape.name}"
            member = named[name]
            the_element_fits(child, member.member if isinstance(member, ListShape) else member)
    else:
        assert len(element) == 0
        if shape.metadata.get("enum"):
            assert element.text in shape.metadata["enum"], f"{element.text} is not one of {shape.name}"
        if shape.type_name in ("integer", "long"):
            int(element.text or "")
        if shape.type_name == "boolean":
            assert element.text in ("true", "false")


def wire_name(name: str, shape: Shape) -> str:
    if isinstance(shape, ListShape):
        assert shape.serialization.get("flattened"), f"{name}: S3's lists are flat"
    return str(shape.serialization.get("name", name))


def the_error_fits(call: Call) -> None:
    if call.method == "HEAD":
        assert call.response_body == b""
        return
    root = ElementTree.fromstring(call.response_body)
    assert root.tag == "Error"
    assert {"Code", "Message"} <= {child.tag for child in root}
