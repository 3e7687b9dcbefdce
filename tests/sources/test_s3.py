"""What is particular to S3: signatures, folders and keys, its XML, and the errors that it spells its own way."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import boto3
import msgspec
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from sources.ports.common import Criterion, CustomerRecord, CustomField, Ref, Scalar, Window
from sources.ports.documents import DocumentKind, DocumentQuery, DocumentRecord
from sources.ports.errors import (
    InvalidRequest,
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.tokens import TokenStore
from sources.sandbox.server import Running, Sandbox, ServerThread, serve
from sources.sandbox.world import World
from sources.transport.deadline import deadline
from sources.transport.http import Answer, Request
from sources.transport.wiring import Wiring
from sources.vendors.s3 import sandbox as s3
from sources.vendors.s3.answers import NoListing, explain, objects, versions
from sources.vendors.s3.documents import S3Documents, Settings, address, connect
from sources.vendors.s3.keys import Layout
from sources.vendors.s3.signing import Signer

EVERYTHING = DocumentQuery(Window(first=100))


@pytest.fixture(scope="module")
def small() -> World:
    return World.build(scale=0.05)


@pytest.fixture
async def sandbox(small: World) -> Sandbox:
    return s3.sandbox(small)


@pytest.fixture
async def running(sandbox: Sandbox) -> AsyncIterator[Running]:
    # In a thread of its own, so that boto3 may block this one.
    with ServerThread(sandbox) as running:
        yield running


@pytest.fixture
async def store(running: Running) -> AsyncIterator[S3Documents]:
    store = S3Documents(s3.settings_for(running.url))
    yield store
    await store.close()


@pytest.fixture
def boto(running: Running) -> Any:
    return client(running.url)


def client(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=s3.REGION,
        aws_access_key_id=s3.ACCESS_KEY_ID,
        aws_secret_access_key=s3.SECRET_ACCESS_KEY,
    )


def changed(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **changes)


async def listed(store: S3Documents, folder: str, query: DocumentQuery = EVERYTHING) -> list[DocumentRecord]:
    [page] = await store.documents_of([Ref("s3", folder)], query)
    if isinstance(page, SourceError):
        raise page
    return list(page.rows)


# Signing


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"secret_access_key": "wrong"}, "secret_access_key"),
        ({"access_key_id": "AKIAUNKNOWN000000000"}, "access_key_id"),
        ({"session_token": "stale"}, "session_token"),
        ({"region": "us-east-1"}, "set region to eu-west-1"),
        ({"bucket": "nothing-here"}, "bucket"),
    ],
    ids=str,
)
async def test_a_refusal_names_the_setting_to_mend(
    running: Running, changes: dict[str, str], named: str
) -> None:
    store = S3Documents(changed(s3.settings_for(running.url), **changes))
    key = Ref("s3", "accounts/C-10001/contracts/x.pdf")

    probe = await store.probe()
    [page] = await store.documents_of([Ref("s3", "accounts/C-10001/")], EVERYTHING)
    await store.close()

    assert not probe.allowed
    assert named in probe.detail
    assert isinstance(page, SourceRejected)
    assert page.request_id is not None
    assert "wrong" not in f"{probe} {page} {key}"


async def test_bad_credentials_never_read_as_a_missing_document(running: Running) -> None:
    store = S3Documents(changed(s3.settings_for(running.url), secret_access_key="wrong"))
    ref = Ref("s3", "accounts/C-10001/contracts/x.pdf")

    with pytest.raises(SourceRejected, match="secret_access_key"):
        await store.documents([ref])
    with pytest.raises(SourceRejected, match="secret_access_key"):
        await store.content(ref)
    await store.close()


async def test_temporary_keys_are_sent_with_their_token(small: World) -> None:
    async with serve(s3.sandbox(small, session_token="a-token/+==")) as running:
        store = S3Documents(changed(s3.settings_for(running.url), session_token="a-token/+=="))

        probe = await store.probe()
        await store.close()

    assert probe.allowed


async def test_the_sandbox_refuses_a_query_that_was_signed_as_loosely_as_it_was_encoded(
    running: Running,
) -> None:
    statuses = []
    for prefix in ("accounts/C-10001/", "accounts%2FC-10001%2F"):
        url = f"{running.url}/{s3.BUCKET}/?list-type=2&prefix={prefix}"
        signed = AWSRequest("GET", url)
        keys = ReadOnlyCredentials(s3.ACCESS_KEY_ID, s3.SECRET_ACCESS_KEY, None)
        S3SigV4Auth(keys, "s3", s3.REGION).add_auth(signed)
        async with (
            aiohttp.ClientSession() as session,
            session.get(URL(url, encoded=True), headers=dict(signed.headers.items())) as response,
        ):
            statuses.append(response.status)

    assert statuses == [403, 200]


async def test_each_day_and_each_key_has_its_own_signature_which_is_botocores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [ReadOnlyCredentials("AKIA1", "one", None), ReadOnlyCredentials("AKIA1", "two", "token")]
    days = [datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]
    url = "https://docs.s3.eu-west-1.amazonaws.com/a%20b?list-type=2&prefix=a%2F"
    found = FoundNow()
    signer = Signer("https://docs.s3.eu-west-1.amazonaws.com", "eu-west-1", found)
    signatures = set()
    for found.keys, now in [(key, day) for key in keys for day in days for _ in range(2)]:
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda now=now: now)
        ours = Request("GET", url, {})
        await signer.authorise(ours)
        theirs = AWSRequest("GET", url, {"Host": "docs.s3.eu-west-1.amazonaws.com"})
        S3SigV4Auth(found.keys, "s3", "eu-west-1").add_auth(theirs)
        assert ours.headers == dict(theirs.headers.items())
        signatures.add(ours.headers["Authorization"])

    assert len(signatures) == 4


class FoundNow:
    """Credentials that change."""

    keys: ReadOnlyCredentials

    async def current(self) -> ReadOnlyCredentials:
        return self.keys


async def test_an_unsigned_request_and_one_of_yesterday_are_refused(running: Running) -> None:
    url = f"{running.url}/{s3.BUCKET}/?list-type=2"
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%dT%H%M%SZ}"
    stale = {
        "x-amz-date": yesterday,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={s3.ACCESS_KEY_ID}/{yesterday[:8]}/{s3.REGION}/s3/aws4_request,"
        f" SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
    }
    async with aiohttp.ClientSession() as session:
        bodies = [await (await session.get(url, headers=headers)).text() for headers in ({}, stale)]

    assert "<Code>AccessDenied</Code>" in bodies[0]
    assert "<Code>RequestTimeTooSkewed</Code>" in bodies[1]


@pytest.fixture
def no_machine_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Cuts botocore's chain off from this machine; gives the path of an empty config file."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.touch()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return config


def without_keys(url: str) -> Settings:
    return changed(s3.settings_for(url), access_key_id=None, secret_access_key=None)


async def test_without_keys_in_the_settings_botocores_chain_is_asked(
    running: Running, no_machine_credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_ACCESS_KEY)
    store = S3Documents(without_keys(running.url))

    probe = await store.probe()
    await store.close()

    assert probe.allowed


async def test_without_any_credentials_the_settings_to_mend_are_named(
    running: Running, sandbox: Sandbox, no_machine_credentials: Path
) -> None:
    store = S3Documents(without_keys(running.url))

    probe = await store.probe()
    await store.close()

    assert not probe.allowed
    assert "access_key_id" in probe.detail
    assert sandbox.log.count() == 0


def a_credential_process(config: Path, source: str) -> None:
    script = config.with_name("credentials.py")
    script.write_text(source)
    config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")


async def test_temporary_keys_that_are_about_to_expire_are_renewed_by_botocore(
    small: World, no_machine_credentials: Path
) -> None:
    runs = no_machine_credentials.with_name("runs")
    answer = {
        "Version": 1,
        "AccessKeyId": s3.ACCESS_KEY_ID,
        "SecretAccessKey": s3.SECRET_ACCESS_KEY,
        "SessionToken": "temporary",
        # Within botocore's mandatory refresh: fetched anew for every request.
        "Expiration": f"{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
    }
    a_credential_process(
        no_machine_credentials, f"open({str(runs)!r}, 'a').write('x')\nprint({json.dumps(answer)!r})"
    )
    async with serve(s3.sandbox(small, session_token="temporary")) as running:
        store = S3Documents(without_keys(running.url))

        probes = [await store.probe(), await store.probe()]
        await store.close()

    assert [probe.allowed for probe in probes] == [True, True]
    assert len(runs.read_text()) >= 2


async def test_a_credential_process_that_fails_is_a_rejection(
    running: Running, no_machine_credentials: Path
) -> None:
    a_credential_process(no_machine_credentials, "raise SystemExit('no secret shall leak')")
    store = S3Documents(without_keys(running.url))

    with pytest.raises(SourceRejected, match="CredentialRetrievalError") as caught:
        await store.documents([Ref("s3", "accounts/C-10001/contracts/x.pdf")])
    await store.close()

    assert "leak" not in str(caught.value)


async def test_credentials_that_do_not_come_are_a_timeout(
    running: Running, no_machine_credentials: Path
) -> None:
    gate = no_machine_credentials.with_name("gate")
    a_credential_process(
        no_machine_credentials,
        f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nraise SystemExit(1)",
    )
    store = S3Documents(without_keys(running.url))

    with deadline(0.2), pytest.raises(SourceTimeout):
        await store.probe()
    gate.touch()
    await store.close()


# Settings and addresses


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "https://docs.s3.eu-west-1.amazonaws.com"),
        ({"path_style": True}, "https://s3.eu-west-1.amazonaws.com/docs"),
        ({"region": "cn-north-1"}, "https://docs.s3.cn-north-1.amazonaws.com.cn"),
        ({"region": "auto"}, "https://docs.s3.auto.amazonaws.com"),
        ({"endpoint_url": "https://minio.example:9000/"}, "https://docs.minio.example:9000"),
        (
            {"endpoint_url": "http://minio.example:9000", "path_style": True},
            "http://minio.example:9000/docs",
        ),
    ],
    ids=str,
)
def test_the_buckets_address_follows_from_region_style_and_endpoint(
    changes: dict[str, Any], expected: str
) -> None:
    assert address(Settings(**{"bucket": "docs", "region": "eu-west-1", **changes})) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"folder": "accounts/"},
        {"folder": "accounts/{number}"},
        {"folder": "/{number}/"},
        {"folder": "../{number}/"},
        {"folder": "{number}/{number}/"},
        {"access_key_id": "AKIA"},
        {"session_token": "token"},
        {"bucket": "a/b"},
        {"region": "eu west"},
        {"endpoint_url": "minio.example"},
        {"endpoint_url": "https://minio.example/path"},
        {"kinds": {"x": "novel"}},
        {"kinds": {"a/b": "guide"}},
        {"kinds": {"": "guide"}},
        {"parallel": 0},
        {"colour": "red"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"bucket": "docs", "region": "eu-west-1", **wrong}, Settings)


def test_settings_come_from_plain_tables() -> None:
    table = {"bucket": "docs", "region": "eu-west-1", "kinds": {"verträge": "contract"}}

    assert msgspec.convert(table, Settings).kinds == {"verträge": DocumentKind.CONTRACT}


def test_fields_of_the_firms_own_are_refused_at_the_start() -> None:
    field = CustomField("Document", "owner", "x-amz-meta-owner", Scalar.STRING, "Who filed it.")
    settings = s3.settings_for("http://127.0.0.1:1")

    with pytest.raises(ValueError, match=r"Document\.owner"):
        connect(settings, Wiring(tokens=cast(TokenStore, None), custom=(field,)))


# Folders and keys

LAYOUT = Layout("accounts/{number}/", {"contracts": DocumentKind.CONTRACT})


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("accounts/C-10001/", Ref("s3", "accounts/C-10001/")),
        ("legacy/Åse & Søn/", Ref("s3", "legacy/Åse & Søn/")),
        ("accounts/", None),
        ("legacy/uk/acme/", None),
        ("accounts/C-10001", None),
        ("/accounts/C-10001/", None),
        ("accounts/../", None),
        ("accounts//", None),
        ("", None),
    ],
)
async def test_a_declared_folder_must_lie_as_deep_as_the_template(
    store: S3Documents, sandbox: Sandbox, folder: str, expected: Ref | None
) -> None:
    [found] = await store.customers_by(Criterion.EXTERNAL_ID, [folder])

    assert [customer.ref for customer in found] == ([expected] if expected else [])
    assert sandbox.log.count() == 0


@pytest.mark.parametrize("number", ["C-1/../2", "", "-1", "C 1", "C-1\n", "ü", "x" * 64, "..", "{number}"])
async def test_a_number_of_another_form_is_nobodys(store: S3Documents, number: str) -> None:
    assert await store.customers_by(Criterion.NUMBER, [number]) == [[]]


async def test_only_a_folder_that_fits_the_template_tells_a_number(store: S3Documents) -> None:
    own, declared = Ref("s3", "accounts/C-10001/"), Ref("s3", "legacy/acme/")

    assert await store.customers([own, declared]) == [
        CustomerRecord(ref=own, number="C-10001"),
        CustomerRecord(ref=declared),
    ]


@pytest.mark.parametrize("key", ["contracts/x.pdf", "a/b/c/d.pdf", "accounts/C-1/é/ü/x", "accounts/C-1/x"])
def test_every_key_belongs_to_one_folder_at_most(key: str) -> None:
    folder = LAYOUT.folder_of(key)

    assert folder is None or (key.startswith(folder) and LAYOUT.is_folder(folder))
    assert (folder is None) == (key == "contracts/x.pdf")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("contracts/2025/signed/MSA v1.2.pdf", ("MSA v1.2", "contract", "contracts", ("2025", "signed"), "application/pdf")),
        ("memos/Note", ("Note", "other", "memos", (), None)),
        ("readme.md", ("readme", "other", None, (), "text/markdown")),
        ("contracts//x.DOCX", ("x", "contract", "contracts", (), "application/vnd.openxmlformats-officedocument.wordprocessingml.document")),
        ("/contracts/x.pdf", ("x", "other", None, ("contracts",), "application/pdf")),
        ("Contracts/logs.tar.gz", ("logs.tar", "other", "Contracts", (), None)),
        ("contracts/data:,x.pdf", ("data:,x", "contract", "contracts", (), "application/pdf")),
        ("contracts/.hidden", (".hidden", "contract", "contracts", (), None)),
    ],
)  # fmt: skip
def test_a_key_tells_title_kind_tags_and_media_type(path: str, expected: tuple[Any, ...]) -> None:
    record = LAYOUT.document(f"accounts/C-1/{path}", size=1, updated_at=None, etag=None)

    assert record is not None
    assert (record.customer, record.file_name) == (Ref("s3", "accounts/C-1/"), path.rpartition("/")[2])
    assert (record.title, record.kind.value, record.source_kind, record.tags, record.media_type) == expected


@given(
    st.lists(
        st.sampled_from(["contracts", "a", "", ".", "..", "...", "\n", "\x85", "\ud800", "é"]), max_size=5
    ),
    st.text(max_size=5) | st.sampled_from(["", ".", "..", "x.pdf", "é" * 500]),
)
@example([], "")
def test_a_row_is_a_document_wherever_it_was_listed_if_its_key_is_one_alone(
    folders: list[str], file_name: str
) -> None:
    key = "/".join(["accounts", "C-1", *folders, file_name])
    own, other = Ref("s3", "accounts/C-1/"), Ref("s3", "accounts/C-2/")

    records = [LAYOUT.document(key, 1, None, None, listed) for listed in (own, other, None)]

    assert records[0] == records[1] == records[2]
    assert (records[0] is None) == (LAYOUT.folder_of(key) is None)
    if records[0] is not None:
        assert records[0].customer.id == LAYOUT.folder_of(key)
        assert records[0].file_name == key.rpartition("/")[2]


ODD_KEYS = [
    "accounts/C-9/contracts/100% + a & b = c?.pdf",
    "accounts/C-9/contracts/#1 'quoted' \"twice\" <tag>.pdf",
    "accounts/C-9/guides/日本語/Ünïcode – ﬁle 🗎.txt",
    "accounts/C-9/guides/cafe\u0301.txt",
    "accounts/C-9/reports/a+b%20c;d=e,f@g:h$i!j*(k).csv",
    "accounts/C-9/reports//two slashes.csv",
]


async def test_keys_of_any_characters_are_listed_read_versioned_and_fetched(
    store: S3Documents, boto: Any
) -> None:
    for number, key in enumerate(ODD_KEYS):
        boto.put_object(Bucket=s3.BUCKET, Key=key, Body=b"%d" % number)
    refs = [Ref("s3", key) for key in ODD_KEYS]

    rows = await listed(store, "accounts/C-9/")
    contents = [await store.content(ref) for ref in refs]
    together = await store.versions_of(refs)
    alone = [(await store.versions_of([ref]))[0] for ref in refs]

    assert sorted(row.ref.id for row in rows) == sorted(ODD_KEYS)
    assert sorted(await store.documents(refs), key=str) == sorted(rows, key=str)
    assert [content.body for content in contents if content] == [b"%d" % n for n in range(len(refs))]
    assert [len(cast(Any, history)) for history in together] == [1] * len(refs)
    assert list(together) == alone


async def test_text_finds_accents_however_they_were_written(store: S3Documents, boto: Any) -> None:
    boto.put_object(Bucket=s3.BUCKET, Key="accounts/C-9/guides/cafe\u0301.txt", Body=b"1")

    found = await listed(store, "accounts/C-9/", DocumentQuery(Window(first=9), text="CAF\u00c9"))

    assert [row.title for row in found] == ["cafe\u0301"]


async def test_folder_objects_and_keys_that_climb_are_no_documents(store: S3Documents, boto: Any) -> None:
    for key in ("accounts/C-9/", "accounts/C-9/contracts/", "accounts/C-9/contracts/x.pdf"):
        boto.put_object(Bucket=s3.BUCKET, Key=key, Body=b"")

    rows = await listed(store, "accounts/C-9/")

    assert [row.ref.id for row in rows] == ["accounts/C-9/contracts/x.pdf"]
    assert await store.documents([Ref("s3", "accounts/C-9/contracts/")]) == [None]


async def test_a_deleted_document_is_gone_with_its_versions(store: S3Documents, boto: Any) -> None:
    ref = Ref("s3", "accounts/C-9/contracts/x.pdf")
    old = boto.put_object(Bucket=s3.BUCKET, Key=ref.id, Body=b"1")["VersionId"]
    marker = boto.delete_object(Bucket=s3.BUCKET, Key=ref.id)["VersionId"]

    assert await listed(store, "accounts/C-9/") == []
    assert await store.documents([ref]) == [None]
    assert await store.versions_of([ref]) == [[]]
    assert await store.content(ref) is None
    assert await store.content(ref, marker) is None
    assert cast(Any, await store.content(ref, old)).body == b"1"


async def test_a_bucket_without_versions_has_one_of_each(store: S3Documents, boto: Any) -> None:
    boto.put_bucket_versioning(Bucket=s3.BUCKET, VersioningConfiguration={"Status": "Suspended"})
    ref = Ref("s3", "accounts/C-9/contracts/x.pdf")
    boto.put_object(Bucket=s3.BUCKET, Key=ref.id, Body=b"1")

    [history] = await store.versions_of([ref])

    assert [(version.id, version.current) for version in cast(Any, history)] == [("null", True)]
    assert cast(Any, await store.content(ref, "null")).body == b"1"


# Calls


async def test_one_kind_is_asked_of_s3_as_a_longer_prefix(store: S3Documents, sandbox: Sandbox) -> None:
    rows = await listed(
        store, "accounts/C-10001/", DocumentQuery(Window(first=99), kinds=(DocumentKind.CONTRACT,))
    )

    assert {row.kind for row in rows} == {DocumentKind.CONTRACT}
    [call] = sandbox.log.calls()
    assert call.params["prefix"] == "accounts/C-10001/contracts/"


async def test_the_probe_lists_where_a_narrow_policy_lets_it(store: S3Documents, sandbox: Sandbox) -> None:
    await store.probe()

    [call] = sandbox.log.calls()
    assert (call.params["prefix"], call.params["max-keys"]) == ("accounts/", "1")


async def test_a_kind_without_a_folder_costs_no_call(running: Running, sandbox: Sandbox) -> None:
    store = S3Documents(changed(s3.settings_for(running.url), kinds={"guides": DocumentKind.GUIDE}))

    rows = await listed(
        store, "accounts/C-10001/", DocumentQuery(Window(first=9), kinds=(DocumentKind.INVOICE,))
    )
    await store.close()

    assert rows == []
    assert sandbox.log.count() == 0


@pytest.mark.parametrize(("documents", "calls"), [(1, 1), (3, 3), (4, 1), (20, 1)])
async def test_versions_of_many_documents_of_a_customer_cost_one_call(
    store: S3Documents, sandbox: Sandbox, small: World, documents: int, calls: int
) -> None:
    refs = [Ref("s3", document.key) for document in small.documents_by_account[0][:documents]]

    histories = await store.versions_of([*refs, *refs])

    assert sandbox.log.count() == calls
    assert all(histories)


@pytest.mark.parametrize("page_size", [1, 2, 3, 7])
async def test_short_pages_change_nothing_but_the_number_of_calls(small: World, page_size: int) -> None:
    folder = "accounts/C-10001/"
    answers = []
    for sandbox in (s3.sandbox(small), s3.sandbox(small, page_size=page_size)):
        async with serve(sandbox) as running:
            store = S3Documents(s3.settings_for(running.url))
            rows = await listed(store, folder)
            pages = sandbox.log.count()
            histories = await store.versions_of([row.ref for row in rows])
            await store.close()
        answers.append((rows, list(histories)))

    assert answers[0] == answers[1]
    assert pages == -(-len(answers[0][0]) // page_size)


async def test_a_few_documents_of_a_huge_folder_are_not_looked_for_page_by_page(small: World) -> None:
    sandbox = s3.sandbox(small, page_size=3)
    documents = sorted(small.documents_by_account[0], key=lambda document: document.key)
    refs = [Ref("s3", document.key) for document in (*documents[-3:], documents[-5])]
    refs = [Ref("s3", documents[0].key), *refs]

    async with serve(sandbox) as running:
        store = S3Documents(s3.settings_for(running.url))
        histories = await store.versions_of(refs)
        await store.close()

    alone = sum(-(-len(d.versions) // 3) for d in documents if Ref("s3", d.key) in refs)
    assert all(histories)
    assert sandbox.log.count() <= len(refs) + 1 + alone


# Refusals of single keys


async def test_a_refused_key_that_is_not_listed_is_missing(store: S3Documents, sandbox: Sandbox) -> None:
    missing = Ref("s3", "accounts/C-10001/contracts/none.pdf")
    for method in ("HEAD", "GET"):
        sandbox.faults.add("fail", status=403, times=1, method=method, path_prefix="/documents/accounts")

    assert await store.documents([missing]) == [None]
    assert await store.content(missing) is None


async def test_a_refused_key_that_is_listed_needs_a_right(
    store: S3Documents, sandbox: Sandbox, small: World
) -> None:
    ref = Ref("s3", small.documents[0].key)
    for method in ("HEAD", "GET"):
        sandbox.faults.add("fail", status=403, times=1, method=method, path_prefix="/documents/accounts")

    with pytest.raises(SourceRejected, match="s3:GetObject"):
        await store.documents([ref])
    with pytest.raises(SourceRejected, match="s3:GetObject"):
        await store.content(ref)


async def test_a_policy_without_the_right_to_list_leaves_missing_keys_missing(
    store: S3Documents, sandbox: Sandbox
) -> None:
    sandbox.faults.add("fail", status=403)

    assert await store.documents([Ref("s3", "accounts/C-10001/contracts/none.pdf")]) == [None]


# Answers


def refusal(code: str, status: int, **headers: str) -> Answer:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>secret arn:aws:iam::1:user/x</Message><Region>eu-north-1</Region>"
        "<Key>accounts/C-10001/private.pdf</Key><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    )
    return Answer(status, headers, body.encode())


@pytest.mark.parametrize(
    ("code", "status", "kind", "says"),
    [
        ("NoSuchBucket", 404, SourceRejected, "check bucket"),
        ("InvalidBucketName", 400, SourceRejected, "check bucket"),
        ("AccessDenied", 403, SourceRejected, "s3:ListBucket"),
        ("SignatureDoesNotMatch", 403, SourceRejected, "secret_access_key"),
        ("InvalidAccessKeyId", 403, SourceRejected, "access_key_id"),
        ("RequestTimeTooSkewed", 403, SourceRejected, "clock"),
        ("ExpiredToken", 400, SourceRejected, "session_token"),
        ("InvalidToken", 400, SourceRejected, "session_token"),
        ("PermanentRedirect", 301, SourceRejected, "set region to eu-north-1"),
        ("AuthorizationHeaderMalformed", 400, SourceRejected, "set region to eu-north-1"),
        ("SlowDown", 503, SourceRateLimited, "slow down"),
        ("ServiceUnavailable", 503, SourceRateLimited, "slow down"),
        ("InternalError", 500, SourceUnavailable, "InternalError"),
        ("RequestTimeout", 400, SourceUnavailable, "in vain"),
        ("InvalidObjectState", 403, SourceUnavailable, "archived"),
        ("AccountProblem", 403, SourceRejected, "AccountProblem"),
        ("KeyTooLongError", 400, InvalidRequest, "KeyTooLongError"),
    ],
)
def test_s3s_errors_become_ours_without_a_word_of_its_own(
    code: str, status: int, kind: type[SourceError], says: str
) -> None:
    error = explain(refusal(code, status))

    assert type(error) is kind
    assert says in str(error)
    assert (error.vendor_code, error.request_id) == (code, "4442587FB7D0A2F9")
    assert not any(word in str(error) for word in ("arn:", "private", "C-10001"))


def test_a_head_refused_elsewhere_or_too_often_is_told_by_its_headers() -> None:
    here = {"x-amz-request-id": "1"}

    region = explain(Answer(301, {**here, "x-amz-bucket-region": "eu-north-1"}, b""))
    odd = explain(Answer(301, {**here, "x-amz-bucket-region": "<script>"}, b""))
    slow = explain(Answer(503, {**here, "retry-after": "3"}, b""))

    assert "set region to eu-north-1" in str(region)
    assert "check region" in str(odd)
    assert isinstance(slow, SourceRateLimited)
    assert slow.retry_after == 3


def test_an_answer_that_is_not_s3s_is_left_to_its_status() -> None:
    assert explain(Answer(503, {}, b"<html><body>Bad gateway</body></html>")) is None


LISTING = """<?xml version="1.0" encoding="UTF-8"?>{0}
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>docs</Name><IsTruncated>{1}</IsTruncated>
<EncodingType>url</EncodingType><Contents><Key>a/b%2Bc+d%C3%A9%0A.pdf</Key>
<LastModified>2026-05-01T12:00:00.000+02:00</LastModified><ETag>"9b2c"</ETag><Size>2532</Size></Contents>
</ListBucketResult>"""


def test_encoded_keys_are_decoded_as_forms_are_and_times_are_utc() -> None:
    [entry] = objects(LISTING.format("", "false").encode(), no_drop).entries

    assert entry.key == "a/b+c dé\n.pdf"
    assert entry.updated_at == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert entry.updated_at.tzinfo is UTC


def test_markers_of_versions_are_decoded_before_they_are_sent_again() -> None:
    listing = versions(
        b"<ListVersionsResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
        b"<NextKeyMarker>a+b%25</NextKeyMarker><NextVersionIdMarker>v+1%25</NextVersionIdMarker>"
        b"<DeleteMarker><Key>a</Key></DeleteMarker></ListVersionsResult>",
        no_drop,
    )

    assert listing.following == [("key-marker", "a b%"), ("version-id-marker", "v+1%25")]
    assert (listing.reached, listing.entries) == ("a b%", [])


@pytest.mark.parametrize(
    "body",
    [
        LISTING.format('<!DOCTYPE x [<!ENTITY e "e">]>', "false").encode(),
        LISTING.format('<!DOCTYPE x [<!ENTITY e "e">]>', "false").encode("utf-16"),
        LISTING.format("", "false").encode()[:-9],
        b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>",
        b"<html></html>",
        b"",
    ],
    ids=["doctype", "hidden doctype", "cut off", "other", "html", "nothing"],
)
def test_what_is_no_listing_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(NoListing):
        objects(body, no_drop)


@pytest.mark.parametrize(
    "body",
    [
        LISTING.format("", "true").encode(),
        LISTING.format("", "false").replace("2532", "many").encode(),
        LISTING.format("", "false").replace("+02:00", "").encode(),
        LISTING.format("", "false").replace("%C3%A9", "%C3").encode(),
        b"<ListBucketResult></ListBucketResult>",
    ],
    ids=["no token", "size", "zone", "key", "empty"],
)
def test_a_listing_that_does_not_fit_is_a_bad_response_but_counts_as_an_answer(body: bytes) -> None:
    with pytest.raises(SourceBadResponse) as failure:
        objects(body, no_drop)

    assert not isinstance(failure.value, NoListing)


def no_drop(key: str | None) -> None:
    raise AssertionError("an entry was dropped")


async def test_two_sandboxes_do_not_meet(small: World) -> None:
    one, other = s3.sandbox(small), s3.sandbox(small)
    with ServerThread(one) as first, ServerThread(other) as second:
        client(first.url).put_object(Bucket=s3.BUCKET, Key="accounts/C-9/x.pdf", Body=b"1")
        rows = []
        for running in (first, second):
            store = S3Documents(s3.settings_for(running.url))
            rows.append(len(await listed(store, "accounts/C-9/")))
            await store.close()

    assert rows == [1, 0]
    assert other.log.count() == 1


async def test_over_its_limit_the_sandbox_says_slow_down(small: World) -> None:
    async with serve(s3.sandbox(small, reads_per_second=1)) as running:
        store = S3Documents(s3.settings_for(running.url))
        folders = [Ref("s3", f"accounts/C-1000{n}/") for n in (1, 2)]

        with deadline(0.5):  # too short for another attempt
            answers = await store.documents_of(folders, EVERYTHING)
        await store.close()

    assert sorted(isinstance(answer, SourceRateLimited) for answer in answers) == [False, True]
