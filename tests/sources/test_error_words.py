"""What a vendor says of an error reaches logs as a word of its own, or not at all: its sentences may quote a customer."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sources.ports.errors import SourceError, SourceUnavailable
from sources.transport.http import Answer
from sources.vendors.freshdesk import errors as freshdesk
from sources.vendors.hubspot import api as hubspot
from sources.vendors.s3 import answers as s3
from sources.vendors.xero import refusals as xero
from sources.vendors.zendesk import errors as zendesk

SAYING = "Ann Canary <ann@canary.example> owes 1,200.50: is not valid"
VENDORS: dict[str, Callable[[Answer], SourceError | None]] = {
    "freshdesk": freshdesk.explain,
    "hubspot": hubspot.explain,
    "s3": s3.explain,
    "xero": xero.explain,
    "zendesk": zendesk.explain,
}
FIELDS = (
    "Code", "Detail", "ErrorNumber", "Message", "RequestId", "Title", "Type", "category", "code", "context", "correlationId",
    "description", "detail", "error", "errorType", "message", "policyName", "status", "subCategory", "title",
)  # fmt: skip
HEADERS = (
    "x-rate-limit-problem",
    "xero-correlation-id",
    "x-request-id",
    "x-amz-request-id",
    "x-amz-bucket-region",
)


def bodies() -> list[bytes]:
    flat: dict[str, Any] = dict.fromkeys(FIELDS, SAYING)
    nested = {"error": {"title": SAYING, "message": SAYING}, "errors": [flat], "category": SAYING}
    xml = "".join(
        f"<{name}>{SAYING.replace('<', '&lt;')}</{name}>"
        for name in ("Code", "Message", "Region", "RequestId")
    )
    return [
        json.dumps(flat).encode(),
        json.dumps(nested).encode(),
        json.dumps({"errors": {"name": [SAYING]}, "error": SAYING}).encode(),
        f"<Error>{xml}</Error>".encode(),
        f"oauth_problem={SAYING}".encode(),
        SAYING.encode(),
    ]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422, 429, 500, 503])
def test_no_sentence_of_a_vendors_gets_into_an_error(vendor: str, status: int) -> None:
    explained = 0
    for body in bodies():
        for headers in ({}, dict.fromkeys(HEADERS, SAYING)):
            error = VENDORS[vendor](Answer(status, headers, body))
            if error is None:
                continue
            explained += 1
            told = f"{error} {error.vendor_code} {error.request_id}".lower()
            assert "canary" not in told
            assert "1,200" not in told
    assert explained or status in (301, 404, 409, 422, 500, 503), (
        "some of these are for the status alone to tell"
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("OBJECT_NOT_FOUND", True),
        ("crm.associations/limit-1", True),
        ("4a2f9c1e-8d7b-4c55-9d0e-0f1e2d3c4b5a", True),
        ("Couldn't authenticate you", True),
        ("", False),
        ("ann@example.com", False),
        ("Invoice 4711 of Ann", False),
        ("x" * 129, False),
        (None, False),
    ],
)
def test_a_vendors_word_is_kept_where_it_looks_like_one(said: Any, kept: bool) -> None:
    error = SourceUnavailable("vendor", "failing", vendor_code=said, request_id=said)

    assert (error.vendor_code, error.request_id) == ((said, said) if kept else (None, None))
