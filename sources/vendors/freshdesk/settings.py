"""What gateway.toml may say about a Freshdesk account."""

import base64
import re
from typing import Literal

import msgspec

from sources.layers.mirror import MirrorSettings
from sources.ports.helpdesk import TicketStatus
from sources.transport.http import Auth, HeaderAuth
from sources.transport.limits import SourceSettings


class Settings(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent's API key; the agent must see all tickets."""

    base_url: str
    """``https://{domain}.freshdesk.com``, without a path; the API does not answer at an address of one's own."""
    api_key: str
    """From the agent's profile settings. It has all rights of the agent: use one made for the gateway."""
    external_id_field: str | None = None
    """The company field that holds the firm's own id of the customer, such as ``cf_erp_id``. Without it nothing matches by
    external id."""
    number_field: str | None = None
    """The company field that holds the firm's customer number."""
    statuses: dict[str, Literal["new", "open", "pending", "on_hold", "solved", "closed"]] = msgspec.field(
        default_factory=dict
    )
    """What the account's own statuses mean, by their numbers: ``{ 6 = "pending" }``. One that is not listed reads UNKNOWN."""
    help_centre_locale: str | None = None
    """The language in which articles are looked for when a query names none; all of them where this is not set either."""
    attachment_hosts: tuple[str, ...] = ()
    """Hosts besides the base URL's that attachments may be fetched from, without credentials. ``.example.com`` stands for
    every host below it."""
    mirror: MirrorSettings = MirrorSettings()
    parallel: int = 3
    """Calls at a time."""

    def __post_init__(self) -> None:
        for number in self.statuses:
            if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
                raise ValueError("statuses: name each by its number, such as 6")

    def auth(self) -> Auth:
        """The key is the user's name; Freshdesk wants a password and does not look at it."""
        return HeaderAuth(f"Basic {base64.b64encode(f'{self.api_key}:X'.encode()).decode()}")

    def status_words(self) -> dict[int, TicketStatus]:
        """What each status means, Freshdesk's and the account's own."""
        return {
            2: TicketStatus.OPEN,
            3: TicketStatus.PENDING,
            4: TicketStatus.SOLVED,
            5: TicketStatus.CLOSED,
            **{int(number): TicketStatus(word) for number, word in self.statuses.items()},
        }
