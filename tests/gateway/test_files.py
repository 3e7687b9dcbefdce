"""Links to files: they work for a short time, for the caller who asked, and only while the right lasts."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import gateway.files as files
from gateway.files import SignedLinks, disposition, media_type
from permissions.principal import Principal
from permissions.roles import Roles
from resolvers.vocabulary import node_id
from sources.ports.common import Content, Ref
from sources.registry import Kind
from sources.sandbox.world import World
from tests.conftest import fresh_database
from tests.door import Door, open_door

LINKS = """{ viewer { account {
  invoices(first: 1, filter: {status: [PAID]}) { nodes { id pdf { url expiresAt } } }
  documents(first: 30) { nodes { id fileName content { url } versions { id current content { url } } } }
  tickets(first: 30) { nodes { id comments(first: 20) { nodes { attachments { id fileName content { url } } } } } }
} } }"""

FIRST = {
    "pdf": "{ viewer { account { invoices(first: 1, filter: {status: [PAID]}) { nodes { file: pdf { url } } } } } }",
    "document": "{ viewer { account { documents(first: 1) { nodes { file: content { url } } } } } }",
}


async def link(door: Door, persona: str, kind: str = "document") -> str:
    """The address of a file that the persona may read."""
    answer = await door.ask(persona, FIRST[kind])
    (page,) = answer.data["viewer"]["account"].values()
    url: str = page["nodes"][0]["file"]["url"]
    return url


def principal(door: Door, persona: str) -> Principal:
    """As signing in makes it."""
    role, _, organisation = persona.rpartition("-")
    roles = (role or persona,)
    return Principal(
        persona,
        None,
        None,
        roles,
        Roles().scopes_of(roles),
        organisation if role else None,
        (organisation,) if role else (),
        issuer=door.issuer.url,
    )


async def test_an_invoice_comes_as_a_pdf_to_be_stored(door: Door) -> None:
    status, headers, body = await door.fetch("owner-harbour", await link(door, "owner-harbour", "pdf"))

    assert status == 200
    assert body.startswith(b"%PDF-")
    assert headers["Content-Type"] == "application/pdf"
    assert headers["Content-Disposition"].startswith("attachment; filename=")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["Content-Length"] == str(len(body))


async def test_every_version_of_a_document_has_its_own_bytes(door: Door) -> None:
    document = next(d for d in door.world.documents_by_account[0] if len(d.versions) > 2)
    answer = await door.ask("owner-harbour", LINKS)
    id_ = node_id("Document", Ref("s3", document.key))
    (shown,) = [one for one in answer.data["viewer"]["account"]["documents"]["nodes"] if one["id"] == id_]

    _, _, current = await door.fetch("owner-harbour", shown["content"]["url"])
    each = [await door.fetch("owner-harbour", version["content"]["url"]) for version in shown["versions"]]

    assert current == document.versions[-1].content
    assert [body for _, _, body in each] == [version.content for version in document.versions[::-1]]
    assert [version["current"] for version in shown["versions"]] == [True] + [False] * (len(each) - 1)


async def test_an_attachment_comes_under_its_own_unicode_name(door: Door) -> None:
    attachments = {
        str(a.id): a
        for t in door.world.tickets_by_account[0]
        for c in t.comments
        if c.public
        for a in c.attachments
    }
    answer = await door.ask("owner-harbour", LINKS)
    shown = [
        attachment
        for ticket in answer.data["viewer"]["account"]["tickets"]["nodes"]
        for comment in ticket["comments"]["nodes"]
        for attachment in comment["attachments"]
    ]
    assert {one["id"] for one in shown} == set(attachments)

    for one in shown:
        status, headers, body = await door.fetch("owner-harbour", one["content"]["url"])
        assert (status, body) == (200, attachments[one["id"]].content)
        if "März" in one["fileName"]:
            assert headers["Content-Disposition"] == (
                'attachment; filename="Lieferschein f_r M_rz.pdf"; '
                "filename*=UTF-8''Lieferschein%20f%C3%BCr%20M%C3%A4rz.pdf"
            )
    assert any("März" in one["fileName"] for one in shown)


@pytest.mark.parametrize("kind", FIRST)
@pytest.mark.parametrize(
    "other", ["finance-harbour", "read-only-harbour", "owner-moeller", "support", "admin"]
)
async def test_a_link_works_for_nobody_else(door: Door, kind: str, other: str) -> None:
    status, _, body = await door.fetch(other, await link(door, "owner-harbour", kind))

    assert status == 404
    assert set(json.loads(body)) == {"message"}


async def test_staff_acting_for_another_organisation_cannot_use_the_link_of_before(door: Door) -> None:
    url = await link(door, "owner-harbour")
    answer = await door.ask("admin", FIRST["document"], headers={"X-Organisation": "harbour"})
    own = answer.data["viewer"]["account"]["documents"]["nodes"][0]["file"]["url"]

    assert (await door.fetch("admin", own, **{"X-Organisation": "harbour"}))[0] == 200
    assert (await door.fetch("admin", own, **{"X-Organisation": "moeller"}))[0] == 404
    assert (await door.fetch("admin", own))[0] == 404
    assert (await door.fetch("admin", url, **{"X-Organisation": "harbour"}))[0] == 404


async def test_a_link_without_a_token_is_refused(door: Door) -> None:
    status, headers, body = await door.fetch(None, await link(door, "owner-harbour"))

    assert status == 401
    assert headers["WWW-Authenticate"] == "Bearer"
    assert json.loads(body)["code"] == "UNAUTHENTICATED"


async def test_a_link_that_was_tampered_with_opens_nothing(door: Door) -> None:
    url = await link(door, "owner-harbour")
    base, _, token = url.rpartition("/")
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    theirs = node_id("Document", Ref("s3", door.world.documents_by_account[1][0].key))
    door.forget_calls()
    for changed in (
        f"{head}.{part(claims | {'what': ['document', theirs]})}.{signature}",
        f"{head}.{part(claims | {'exp': 9_999_999_999})}.{signature}",
        f"{part({'alg': 'none'})}.{body}.",
        f"{part({'alg': 'none'})}.{body}.{signature}",
        f"{head}.{body}.{signature[:-6]}AAAAAA",
        f"{head}.{body}.",
        f"{head}.{body}",
        door.issuer.token("owner-harbour"),
        "x", "%00", "[" * 500, "a.b.c", "☃", "x" * 9000,
    ):  # fmt: skip
        assert (await door.fetch("owner-harbour", f"{base}/{changed}"))[0] in (404, 400), changed[:60]
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_a_link_of_another_gateway_opens_nothing(door: Door) -> None:
    other = SignedLinks(msgspec.structs.replace(door.office.settings.door, file_link_key="k" * 32))
    made = other.link(
        principal(door, "owner-harbour"),
        "document",
        node_id("Document", Ref("s3", door.world.documents_by_account[0][0].key)),
    )

    assert (await door.fetch("owner-harbour", made.url))[0] == 404


async def test_a_link_expires(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    url = await link(door, "owner-harbour")
    assert (await door.fetch("owner-harbour", url))[0] == 200

    monkeypatch.setattr(door.office.files, "_seconds", -1)
    late = await link(door, "owner-harbour")
    door.forget_calls()

    assert (await door.fetch("owner-harbour", late))[0] == 404
    assert door.calls()["s3"] == 0
    assert (await door.fetch("owner-harbour", url))[0] == 200


async def test_a_link_says_when_it_expires(door: Door) -> None:
    before = files.time.time()
    answer = await door.ask("owner-harbour", LINKS)
    pdf = answer.data["viewer"]["account"]["invoices"]["nodes"][0]["pdf"]
    expires = files.datetime.fromisoformat(pdf["expiresAt"]).timestamp()

    assert before + 299 <= expires <= files.time.time() + 301


async def test_a_right_that_was_lost_in_between_closes_the_link(door: Door) -> None:
    for kind, scopeless in (("pdf", "standard"), ("document", "partner"), ("document", "nothing")):
        url = await link(door, "owner-harbour", kind)
        lesser = door.issuer.token("owner-harbour", roles=[scopeless])
        door.forget_calls()

        status, _, body = await door.fetch(None, url, Authorization=f"Bearer {lesser}")

        assert status == 404
        assert b"%PDF" not in body
        assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


@pytest.mark.parametrize(
    "what",
    ["draft", "their invoice", "their document", "internal attachment", "a version of another", "nothing"],
)
async def test_even_a_well_signed_link_gives_only_what_the_caller_may_see(door: Door, what: str) -> None:
    world = door.world
    internal = next(
        (t, a) for t in world.tickets_by_account[0] for c in t.comments if not c.public for a in c.attachments
    )
    one, two = [d for d in world.documents_by_account[0] if len(d.versions) > 1][:2]
    versions = await door.ask("owner-harbour", LINKS)
    version = next(
        d["versions"][0]["id"]
        for d in versions.data["viewer"]["account"]["documents"]["nodes"]
        if d["id"] == node_id("Document", Ref("s3", two.key))
    )
    draft = next(i.id for i in world.invoices_by_account[0] if i.status in ("DRAFT", "SUBMITTED"))
    named = {
        "draft": ("invoice-pdf", node_id("Invoice", Ref("xero", draft))),
        "their invoice": ("invoice-pdf", node_id("Invoice", Ref("xero", world.invoices_by_account[1][0].id))),
        "their document": ("document", node_id("Document", Ref("s3", world.documents_by_account[1][0].key))),
        "internal attachment": (
            "attachment", node_id("Ticket", Ref("zendesk", str(internal[0].id))), str(internal[1].id),
        ),
        "a version of another": ("document", node_id("Document", Ref("s3", one.key)), version),
        "nothing": ("document", node_id("Document", Ref("s3", "accounts/C-10001/none.pdf"))),
    }[what]  # fmt: skip
    made = door.office.files.link(principal(door, "owner-harbour"), *named)

    assert (await door.fetch("owner-harbour", made.url))[0] == 404


async def test_staff_may_fetch_what_hangs_on_an_internal_note(door: Door) -> None:
    ticket, attachment = next(
        (t, a)
        for t in door.world.tickets_by_account[0]
        for c in t.comments
        if not c.public
        for a in c.attachments
    )
    made = door.office.files.link(
        principal(door, "support"),
        "attachment",
        node_id("Ticket", Ref("zendesk", str(ticket.id))),
        str(attachment.id),
    )

    status, _, body = await door.fetch("support", made.url)

    assert (status, body) == (200, attachment.content)


# -- sources that fail, and files that are named with ill will -----------------------------------------------------------


@pytest_asyncio.fixture(scope="module")
async def own(postgres: str) -> AsyncIterator[Door]:
    """A gateway of one's own, with a short deadline."""
    async with fresh_database(postgres) as url, open_door(World.build(0.05), url, deadline=1.5) as door:
        yield door


@pytest.mark.parametrize(
    ("kind", "vendor", "fault", "code"),
    [
        ("document", "s3", "fail", "SOURCE_UNAVAILABLE"),
        ("document", "s3", "drop", "SOURCE_UNAVAILABLE"),
        ("document", "s3", "hang", "SOURCE_TIMEOUT"),
        ("pdf", "xero", "fail", "SOURCE_UNAVAILABLE"),
        ("pdf", "xero", "rate_limit", "SOURCE_RATE_LIMITED"),
        ("pdf", "xero", "garbage", "SOURCE_BAD_RESPONSE"),
    ],
)
async def test_a_source_that_is_down_is_said_clearly(
    own: Door, kind: str, vendor: str, fault: Any, code: str
) -> None:
    url = await link(own, "owner-harbour", kind)
    own.boxes[vendor].faults.add(fault)
    try:
        status, headers, body = await own.fetch("owner-harbour", url)
    finally:
        own.heal()

    said = json.loads(body)
    assert (status, said["code"], said["source"]) == (503, code, vendor)
    assert headers["Content-Type"].startswith("application/json")
    assert said["message"].startswith(f"{vendor}: ")
    assert "127.0.0.1" not in body.decode()


class Renamed:
    """A store whose files have names of somebody's choosing."""

    def __init__(self, port: Any, content: Content) -> None:
        self._port, self._content = port, content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def content(self, *_: Any) -> Content:
        return self._content


@pytest.mark.parametrize(
    ("name", "disposition_"),
    [
        ("plain.pdf", "attachment; filename=\"plain.pdf\"; filename*=UTF-8''plain.pdf"),
        ('a"; x=y.pdf', "attachment; filename=\"a_; x=y.pdf\"; filename*=UTF-8''a%22%3B%20x%3Dy.pdf"),
        (
            "a\r\nSet-Cookie: x=1\r\n\r\n<b>",
            "attachment; filename=\"aSet-Cookie: x=1<b>\"; filename*=UTF-8''aSet-Cookie%3A%20x%3D1%3Cb%3E",
        ),
        ("../../etc/passwd", "attachment; filename=\"....etcpasswd\"; filename*=UTF-8''....etcpasswd"),
        ("请求.pdf", "attachment; filename=\"__.pdf\"; filename*=UTF-8''%E8%AF%B7%E6%B1%82.pdf"),
        ("\u202egpj.exe", "attachment; filename=\"gpj.exe\"; filename*=UTF-8''gpj.exe"),
        ("50%20off.pdf", "attachment; filename=\"50_20off.pdf\"; filename*=UTF-8''50%2520off.pdf"),
        ("\n", "attachment; filename=\"file\"; filename*=UTF-8''file"),
        ("\ud800.pdf", "attachment; filename=\".pdf\"; filename*=UTF-8''.pdf"),
    ],
)
async def test_a_files_name_cannot_write_headers(own: Door, name: str, disposition_: str) -> None:
    content = Content(b"x", "text/html\r\nX-Evil: 1", name)
    assert disposition(content) == disposition_
    assert media_type(content) == "application/octet-stream"
    url = await link(own, "owner-harbour")
    careful = own.office.backoffice
    own.office.backoffice = msgspec.structs.replace(
        careful, documents=Renamed(own.office.ports[Kind.DOCUMENTS], content)
    )
    try:
        status, headers, body = await own.fetch("owner-harbour", url)
    finally:
        own.office.backoffice = careful

    assert (status, body) == (200, b"x")
    assert headers["Content-Disposition"] == disposition_
    assert headers["Content-Type"] == "application/octet-stream"
    assert not {"Set-Cookie", "X-Evil"} & set(headers)


@pytest.mark.parametrize(
    ("said", "served"),
    [
        ("text/plain", "text/plain"),
        ("text/csv; charset=utf-8", "text/csv; charset=utf-8"),
        ("application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("", "application/octet-stream"),
        ('text/html; x="y"', "application/octet-stream"),
        ("tëxt/plain", "application/octet-stream"),
    ],
)
def test_only_a_media_type_is_served_as_one(said: str, served: str) -> None:
    assert media_type(Content(b"", said, "x")) == served
