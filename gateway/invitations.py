"""How invitations reach people: the link, and the mail that carries it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from html import escape

import structlog

from gateway.settings import Invitations, Mail
from permissions.roles import Roles
from sources.ports.members import InvitationRecord
from sources.transport.deadline import remaining
from sources.transport.smtp import MailNotTaken, MailServer, Smtp

log = structlog.get_logger()


class Post:
    """Fills the graph's InvitationPost."""

    def __init__(self, settings: Invitations, mail: Mail | None, roles: Roles) -> None:
        self._settings, self._mail, self._roles = settings, mail, roles
        self._smtp = Smtp(server_of(mail)) if mail else None

    @property
    def by_mail(self) -> bool:
        return self._smtp is not None

    @property
    def require_verified_email(self) -> bool:
        return self._settings.require_verified_email

    def expiry(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self._settings.days)

    def link(self, secret: str) -> str | None:
        """Of the portal's page; None where the settings name none. The setting has the secret behind ``#`` so that no
        server's log and no Referer header ever holds it."""
        url = self._settings.accept_url
        return url.replace("{secret}", secret) if url else None

    async def send(self, invitation: InvitationRecord, secret: str, organisation: str) -> bool:
        mail, smtp, link = self._mail, self._smtp, self.link(secret)
        if mail is None or smtp is None or link is None:
            return False
        message = composed(mail, invitation, link, organisation, self._labels(invitation.roles))
        # What is left of the request's time must do for the answer, too.
        seconds = min(mail.timeout, remaining() * 0.8)
        try:
            async with asyncio.timeout(seconds):
                await smtp.send(message, seconds)
        except (MailNotTaken, TimeoutError) as error:
            log.warning(
                "invitation_not_mailed", invitation=invitation.id, reason=str(error) or "TimeoutError"
            )
            return False
        return True

    def _labels(self, roles: Sequence[str]) -> list[str]:
        return [self._roles[role].label if role in self._roles else role for role in roles]


def composed(
    mail: Mail, invitation: InvitationRecord, link: str, organisation: str, roles: Sequence[str]
) -> EmailMessage:
    """The mail, readable as text and as HTML."""
    organisation = _line(organisation)
    firm = _line(mail.sender_name)
    by = _line(invitation.invited_by_name or "") or "An owner"
    until = invitation.expires_at.astimezone(UTC)
    day = f"{until.day} {until:%B %Y}, {until:%H:%M} UTC"
    roles_words = ", ".join(roles)
    message = EmailMessage()
    message["Subject"] = f"Invitation to join {organisation} at {firm}"
    user, _, domain = mail.sender.rpartition("@")
    message["From"] = Address(firm, user, domain)
    message["To"] = invitation.email
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=domain)
    # RFC 3834: no holiday notices in answer to it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        f"""{by} invites you to join {organisation} at {firm}.

You will be: {roles_words}

Accept the invitation:
{link}

The link works once, until {day}. Sign in with this e-mail address.
If you did not expect this invitation, ignore it: nothing happens without you.
"""
    )
    href = escape(link, quote=True)
    message.add_alternative(
        f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Invitation to join {escape(organisation)}</title></head>
<body style="font-family: sans-serif; font-size: 16px; line-height: 1.5; color: #1a1a1a; background: #ffffff;">
<main>
<h1 style="font-size: 20px;">Join {escape(organisation)} at {escape(firm)}</h1>
<p>{escape(by)} invites you. You will be: <strong>{escape(roles_words)}</strong></p>
<p><a href="{href}" style="color: #0b57d0;">Accept the invitation to {escape(organisation)}</a></p>
<p>Or copy this address into your browser:<br>{href}</p>
<p>The link works once, until {day}. Sign in with this e-mail address.
If you did not expect this invitation, ignore it: nothing happens without you.</p>
</main>
</body>
</html>
""",
        subtype="html",
    )
    return message


def _line(text: str) -> str:
    """Names come from outside: one line, and not as long as they like."""
    return " ".join(text.split())[:200]


def server_of(mail: Mail) -> MailServer:
    """As the transport knows it."""
    return MailServer(mail.host, mail.port, mail.encryption, mail.username, mail.password, mail.certificates)
