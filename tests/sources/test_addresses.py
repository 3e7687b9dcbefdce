"""Where a connector may not go, whatever a name stands for, and what it will not unpack."""

import gzip
import resource
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sources.ports.errors import SourceBadResponse, SourceRejected, SourceUnavailable
from sources.sandbox.server import Certificate, Sandbox, serve
from sources.transport import addresses
from sources.transport.addresses import Addresses
from sources.transport.http import HttpClient, NoAuth
from sources.transport.limits import SourceSettings
from sources.transport.traffic import Traffic

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1", "5f00::1", "3fff::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_not_allowed(address: str) -> None:
    assert not Addresses().allow(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert Addresses().allow(address)


def test_a_listed_address_or_network_is_allowed_and_its_neighbour_is_not() -> None:
    listed = Addresses(["10.1.2.0/24", "192.168.0.9"])

    allowed = [listed.allow(one) for one in ("10.1.2.3", "10.1.3.3", "192.168.0.9", "192.168.0.10")]

    assert allowed == [True, False, True, False]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://[::1]/x", "http://169.254.169.254/latest", "http://①②⑦.0.0.1"]
)
def test_a_base_url_at_a_private_address_is_refused_before_any_call(url: str) -> None:
    with pytest.raises(SourceRejected, match="private_addresses"):
        HttpClient("vendor", url, auth=NoAuth(), traffic=Traffic("vendor", parallel=1))


class Turning:
    """A name that stands for these addresses in turn."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def look_up(self, host: str, port: int) -> list[Any]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answer]


@asynccontextmanager
async def named(
    monkeypatch: pytest.MonkeyPatch, resolver: Turning, settings: SourceSettings
) -> AsyncIterator[tuple[HttpClient, Sandbox]]:
    """A client that knows its vendor by name; the vendor listens on loopback."""
    monkeypatch.setattr(addresses, "look_up", resolver.look_up)

    async def fine(request: Request) -> Response:
        return JSONResponse({})

    sandbox = Sandbox("vendor", [Route("/", fine)])
    async with serve(sandbox) as running:
        traffic = Traffic("vendor", parallel=4, settings=settings)
        client = HttpClient("vendor", f"http://vendor.example:{running.port}", auth=NoAuth(), traffic=traffic)
        try:
            yield client, sandbox
        finally:
            await client.close()


async def test_a_name_that_stands_for_a_private_address_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with named(monkeypatch, Turning(["127.0.0.1"]), SourceSettings()) as (client, sandbox):
        with pytest.raises(SourceRejected, match=r"vendor\.example stands for a private address"):
            await client.call("GET", "/")

    assert sandbox.log.count() == 0


async def test_a_name_that_also_stands_for_a_private_address_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = Turning(["8.8.8.8", "127.0.0.1"])
    async with named(monkeypatch, resolver, SourceSettings()) as (client, sandbox):
        with pytest.raises(SourceRejected):
            await client.call("GET", "/")

    assert sandbox.log.count() == 0


async def test_a_name_is_looked_up_once_and_what_was_checked_is_what_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = SourceSettings(private_addresses=("127.0.0.1",))
    resolver = Turning(["127.0.0.1"], ["169.254.169.254"])
    async with named(monkeypatch, resolver, settings) as (client, sandbox):
        assert (await client.call("GET", "/")).status == 200

    assert (resolver.asked, sandbox.log.count()) == (1, 1)


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
async def test_a_bomb_is_refused_without_being_unpacked(packed: str) -> None:
    block = b"\0" * (1 << 20)
    pack = zlib.compressobj(9, zlib.DEFLATED, 31 if packed == "gzip" else 15)
    bomb = b"".join(pack.compress(block) for _ in range(1024)) + pack.flush()
    assert len(bomb) < 2 << 20  # of a gigabyte

    async def explode(request: Request) -> Response:
        return Response(bomb, headers={"Content-Encoding": packed})

    async with serve(Sandbox("vendor", [Route("/", explode)])) as running:
        settings = SourceSettings(private_addresses=("127.0.0.1",))
        client = HttpClient(
            "vendor", running.url, auth=NoAuth(), traffic=Traffic("vendor", parallel=1, settings=settings)
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(SourceBadResponse, match="larger than 40 MB"):
            await client.call("GET", "/")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        await client.close()

    assert grown < 200 << 10  # kB


async def test_a_bomb_in_a_bomb_is_unpacked_once() -> None:
    inner = gzip.compress(b"\0" * (1 << 20))

    async def explode(request: Request) -> Response:
        return Response(gzip.compress(inner), headers={"Content-Encoding": "gzip"})

    async with serve(Sandbox("vendor", [Route("/", explode)])) as running:
        settings = SourceSettings(private_addresses=("127.0.0.1",))
        client = HttpClient(
            "vendor", running.url, auth=NoAuth(), traffic=Traffic("vendor", parallel=1, settings=settings)
        )
        assert (await client.call("GET", "/")).body == inner
        await client.close()


# -- whose certificates are believed ------------------------------------------------------------------------------


async def test_a_certificate_of_the_firms_own_authority_is_believed_where_that_is_listed_and_no_other(
    tmp_path: Path,
) -> None:
    own, others = trustme.CA(), trustme.CA()
    own.cert_pem.write_to_path(tmp_path / "own.pem")
    found = []
    for authority in (own, others):
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "issued.pem")
        certificate = Certificate(tmp_path / "issued.pem", tmp_path / "issued.pem")
        async with serve(
            Sandbox("vendor", [Route("/", lambda request: JSONResponse({}))]), ssl=certificate
        ) as running:
            for ca_file in (None, str(tmp_path / "own.pem")):
                settings = SourceSettings(private_addresses=("127.0.0.1",), ca_file=ca_file)
                traffic = Traffic("vendor", parallel=1, settings=settings)
                client = HttpClient("vendor", running.url, auth=NoAuth(), traffic=traffic)
                try:
                    found.append((await client.call("GET", "/")).status)
                except SourceUnavailable:
                    found.append(None)
                finally:
                    await client.close()

    assert found == [None, 200, None, None]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_said_at_the_start(tmp_path: Path, content: str | None) -> None:
    listed = tmp_path / "ca.pem"
    if content is not None:
        listed.write_text(content)

    with pytest.raises(ValueError, match=r"ca_file: .*ca\.pem cannot be read"):
        Traffic("vendor", parallel=1, settings=SourceSettings(ca_file=str(listed)))
