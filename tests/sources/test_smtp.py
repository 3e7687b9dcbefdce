"""Handing a mail in, over real sockets: encrypted as demanded or not at all."""

import asyncio
import ssl
from email.message import EmailMessage

import aiohttp
import pytest
import trustme

from sources.sandbox.letters import letter_box, text_of
from sources.transport.smtp import Encryption, MailNotTaken, MailServer, Smtp


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("smtp") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def certificate(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*names).configure_cert(context)
    return context


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "portal@firm.example", "nina@new.example"
    message["Subject"] = "Grüße"
    message.set_content("Hello, Nina.\n")
    return message


async def test_a_mail_arrives_as_it_was_written():
    async with letter_box() as box:
        await Smtp(MailServer(box.host, box.port, Encryption.NONE)).send(mail(), 5)
    (arrived,) = box.mails
    assert (arrived["To"], arrived["Subject"], text_of(arrived)) == (
        "nina@new.example",
        "Grüße",
        "Hello, Nina.\n",
    )


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS"])
async def test_an_encrypted_server_with_a_login_takes_it(authority, implicit):
    ca, path = authority
    way = Encryption.TLS if implicit else Encryption.STARTTLS
    async with letter_box(
        tls=certificate(ca, "127.0.0.1"), implicit=implicit, logins={"portal": "right"}
    ) as box:
        server = MailServer(box.host, box.port, way, "portal", "right", path)
        await Smtp(server).send(mail(), 5)
        assert box.encrypted == [True]
        wrong = MailServer(box.host, box.port, way, "portal", "wrong", path)
        with pytest.raises(MailNotTaken) as refused:
            await Smtp(wrong).send(mail(), 5)
        assert "wrong" not in str(refused.value)
        with pytest.raises(MailNotTaken):
            await Smtp(MailServer(box.host, box.port, way, certificates=path)).send(mail(), 5)
    assert len(box.mails) == 1


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "TLS"])
async def test_a_server_that_cannot_prove_who_it_is_is_told_nothing(authority, implicit):
    ca, path = authority
    way = Encryption.TLS if implicit else Encryption.STARTTLS
    async with letter_box(tls=certificate(ca, "elsewhere.example"), implicit=implicit) as box:
        for server in (
            MailServer(box.host, box.port, way, certificates=path),
            MailServer(box.host, box.port, way),
        ):
            with pytest.raises(MailNotTaken):
                await Smtp(server).send(mail(), 5)
    assert box.mails == []


async def test_a_server_that_cannot_encrypt_is_not_spoken_to_in_the_clear():
    async with letter_box() as box:
        for way in (Encryption.STARTTLS, Encryption.TLS):
            with pytest.raises(MailNotTaken):
                await Smtp(MailServer(box.host, box.port, way)).send(mail(), 5)
    assert box.mails == []


@pytest.mark.parametrize("reply", ["451 try again later", "550 no such letter box", "554 refused"])
async def test_a_server_that_refuses_has_not_taken_it(reply):
    async with letter_box() as box:
        box.refusing = reply
        with pytest.raises(MailNotTaken) as refused:
            await Smtp(MailServer(box.host, box.port, Encryption.NONE)).send(mail(), 5)
    assert "nina" not in str(refused.value)


async def test_a_server_that_says_nothing_is_given_up():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(MailNotTaken):
        await Smtp(MailServer("127.0.0.1", port, Encryption.NONE)).send(mail(), 0.2)
    server.close()


async def test_the_page_of_a_letter_box_shows_mails_as_text_that_runs_nothing():
    async with letter_box() as box, aiohttp.ClientSession() as session:
        message = mail()
        message.replace_header("Subject", "<script>alert(1)</script>")
        await Smtp(MailServer(box.host, box.port, Encryption.NONE)).send(message, 5)
        async with session.get(box.url) as answer:
            page = await answer.text()
        async with session.get(f"{box.url}/mails.json") as answer:
            listed = await answer.json()
    assert "<script>" not in page
    assert "Hello, Nina." in page
    assert [one["to"] for one in listed] == ["nina@new.example"]
