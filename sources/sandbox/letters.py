"""A mail server that keeps what it is given and shows it on a page, in place of the firm's."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html import escape
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sources.sandbox.server import Sandbox, serve

MOST = 500
"""Mails that are kept."""


class LetterBox:
    """What has arrived, newest last. ``host`` and ``port`` take mails, ``url`` shows them."""

    def __init__(self, logins: Mapping[str, str] | None = None) -> None:
        self.host, self.port, self.url = "127.0.0.1", 0, ""
        self.mails: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        """Of each mail: did it come over TLS?"""
        self.refusing: str | None = None
        """The answer to every mail while it is set, such as ``451 try again``."""
        self._logins = logins

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        """aiosmtpd's name for a mail's arrival."""
        if self.refusing is not None:
            return self.refusing
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        socket = server.transport.get_extra_info("ssl_object") if server.transport else None
        self.encrypted.append(session.ssl is not None or socket is not None)
        del self.mails[:-MOST], self.encrypted[:-MOST]
        return "250 kept"

    def authenticated(
        self, server: Any, session: Any, envelope: Any, mechanism: str, login: Any
    ) -> AuthResult:
        """Is this one of the logins?"""
        right = (
            isinstance(login, LoginPassword)
            and self._logins is not None
            and self._logins.get(login.login.decode()) == login.password.decode()
        )
        return AuthResult(success=right, handled=False)

    def routes(self) -> list[Route]:
        """The page and the same as JSON."""
        return [Route("/", self._page), Route("/mails.json", self._json)]

    async def _page(self, request: Request) -> Response:
        items = "".join(
            f"<article><h2>{escape(str(mail['Subject']))}</h2><p>To {escape(str(mail['To']))}, {escape(str(mail['Date']))}</p>"
            f"<pre>{escape(text_of(mail))}</pre></article>"
            for mail in reversed(self.mails)
        )
        return HTMLResponse(
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Mails of the demo</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<style>:root { color-scheme: light dark } body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; "
            "margin: 2rem auto; padding: 0 1rem } pre { white-space: pre-wrap; overflow-wrap: anywhere }</style></head>"
            f"<body><main><h1>Mails of the demo</h1>{items or '<p>None yet.</p>'}</main></body></html>",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    async def _json(self, request: Request) -> Response:
        return JSONResponse(
            [
                {"to": str(mail["To"]), "subject": str(mail["Subject"]), "text": text_of(mail)}
                for mail in self.mails
            ]
        )


@asynccontextmanager
async def letter_box(
    *,
    tls: ssl.SSLContext | None = None,
    implicit: bool = False,
    logins: Mapping[str, str] | None = None,
) -> AsyncIterator[LetterBox]:
    """On free ports of loopback. With ``tls`` nothing is taken before STARTTLS, or with ``implicit`` the connection is
    encrypted from the start; with ``logins`` from nobody else."""
    box = LetterBox(logins)
    loop = asyncio.get_running_loop()

    def connection() -> SMTP:
        return SMTP(
            box,
            enable_SMTPUTF8=True,
            hostname="letters.example",
            tls_context=None if implicit else tls,
            require_starttls=tls is not None and not implicit,
            auth_required=logins is not None,
            auth_require_tls=not implicit,
            authenticator=box.authenticated if logins is not None else None,
            loop=loop,
        )

    server = await loop.create_server(connection, box.host, 0, ssl=tls if implicit else None)
    box.port = server.sockets[0].getsockname()[1]
    try:
        async with serve(Sandbox("letters", box.routes())) as page:
            box.url = page.url
            yield box
    finally:
        server.close()


def text_of(mail: EmailMessage) -> str:
    """As it reads without HTML."""
    body = mail.get_body(("plain",))
    return "" if body is None else str(body.get_content()).replace("\r\n", "\n")
