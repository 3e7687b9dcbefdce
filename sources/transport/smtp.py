"""Handing a mail to the firm's mail server."""

import ssl
from email.message import EmailMessage
from enum import Enum

import aiosmtplib
import msgspec


class Encryption(Enum):
    """How the connection to the mail server is protected."""

    STARTTLS = "starttls"
    """Plain at first, encrypted before anything is said; refused where the server cannot (RFC 3207)."""
    TLS = "tls"
    """From the first byte (RFC 8314)."""
    NONE = "none"
    """Not at all: for a relay on the same machine or network."""


class MailServer(msgspec.Struct, frozen=True):
    """Where mails are handed in."""

    host: str
    port: int
    encryption: Encryption
    username: str | None = None
    password: str | None = None
    certificates: str | None = None
    """A file of certificates to believe instead of the system's."""


class MailNotTaken(Exception):
    """The server did not take the mail, or nobody knows whether it did. The message names no address."""


_FAILURES = (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError)


class Smtp:
    """One connection per mail: mails are rare, and servers close idle connections."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._context = (
            None
            if server.encryption is Encryption.NONE
            else ssl.create_default_context(cafile=server.certificates)
        )

    async def probe(self, seconds: float) -> None:
        """Signs in and goes away. Raises MailNotTaken."""
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.encryption is Encryption.TLS,
            start_tls=server.encryption is Encryption.STARTTLS,
            tls_context=self._context,
            timeout=seconds,
        )
        try:
            async with client:
                await client.noop()
        except _FAILURES as error:
            raise MailNotTaken(type(error).__name__) from error

    async def send(self, message: EmailMessage, seconds: float) -> None:
        """Within this time. Raises MailNotTaken."""
        server = self._server
        try:
            await aiosmtplib.send(
                message,
                hostname=server.host,
                port=server.port,
                username=server.username,
                password=server.password,
                use_tls=server.encryption is Encryption.TLS,
                start_tls=server.encryption is Encryption.STARTTLS,
                tls_context=self._context,
                timeout=seconds,
            )
        except _FAILURES as error:
            raise MailNotTaken(type(error).__name__) from error
