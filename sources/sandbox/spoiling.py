"""Answers that are not as the vendor describes them: its own, with something wrong in them."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sources.sandbox.faults import Spoiled

HTML = b"<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>"

_XML_ROW = re.compile(rb"<(Contents|Version)>.*?</\1>", re.DOTALL)


async def answer_spoiled(vendor: ASGIApp, fault: Spoiled, scope: Scope, receive: Receive, send: Send) -> None:
    """The vendor's answer with this fault in its body; its status stays."""
    start: Message = {}
    body = b""

    async def gather(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
        else:
            body += message.get("body", b"")

    await vendor(scope, receive, gather)
    html = fault == "html"
    body = HTML if html else spoiled(body, fault)
    headers = [
        (name, b"text/html" if html and name.lower() == b"content-type" else value)
        for name, value in start["headers"]
        if name.lower() != b"content-length"
    ]
    await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


def spoiled(body: bytes, fault: Spoiled) -> bytes:
    """Bodies without rows come back as they are."""
    if fault == "truncated":
        return body[: len(body) // 2]
    if fault == "nested":
        return 100_000 * (b"<a>" if body.lstrip().startswith(b"<") else b'{"results":')
    if body.lstrip().startswith(b"<"):
        return _spoiled_xml(body, fault)
    try:
        page = json.loads(body)
    except ValueError:
        return body
    lists = [page] if isinstance(page, list) else list(page.values()) if isinstance(page, dict) else []
    rows = next((one for one in lists if isinstance(one, list) and one and isinstance(one[0], dict)), None)
    if rows is None:
        return body
    if fault == "duplicate_row":
        rows.insert(1, rows[0])
    for row in rows if fault == "malformed_rows" else rows[:1]:
        if fault in ("malformed_row", "malformed_rows"):
            # What its ids are stays: a row without them is another fault.
            row.update({name: [[]] for name in row if not _is_id(name)})
        elif fault == "missing_id":
            for name in [name for name in row if _is_id(name)]:
                del row[name]
    return json.dumps(page).encode()


def _is_id(name: Any) -> bool:
    return str(name) == "id" or str(name).endswith("ID")


def _spoiled_xml(body: bytes, fault: Spoiled) -> bytes:
    count = 0 if fault == "malformed_rows" else 1
    if fault == "duplicate_row":
        return _XML_ROW.sub(lambda row: row[0] * 2, body, count=1)
    if fault == "missing_id":
        return _XML_ROW.sub(lambda row: re.sub(rb"<Key>.*?</Key>", b"", row[0]), body, count=1)
    return _XML_ROW.sub(
        lambda row: re.sub(rb"<Size>.*?</Size>", b"<Size>many</Size>", row[0]), body, count=count
    )
