"""[signin.sessions]: what cannot be used is said with the setting and what to write, before anybody signs in."""

from pathlib import Path

import pytest

from gateway.settings import SettingsError, load
from gateway.signin.session_settings import SessionSettings, is_loopback

FILE = """
[gateway]
public_url = "{public_url}"

[[signin.issuers]]
issuer = "https://login.example"
audience = "gateway"
{client}

[signin.sessions]
{lines}

[sources.crm]
vendor = "hubspot"
token = "x"
"""
CLIENT = 'client_id = "gateway"\nclient_secret = "hush"'


def read(folder: Path, lines: str = "", public_url: str = "https://api.example", client: str = CLIENT):  # type: ignore[no-untyped-def]
    path = folder / "gateway.toml"
    path.write_text(FILE.format(public_url=public_url, client=client, lines=lines))
    return load(path, {}).signin.sessions


@pytest.mark.parametrize(
    ("lines", "public_url", "client", "said"),
    [
        ("", "", CLIENT, "gateway.public_url: sessions need it"),
        ("", "http://api.example", CLIENT, "gateway.public_url: sessions need https://"),
        ("", "http://127.0.0.1.example", CLIENT, "gateway.public_url: sessions need https://"),
        ("", "https://api.example", "", "signin.sessions: give an issuer the client_id"),
        ('issuers = ["https://other.example"]', "https://api.example", CLIENT, "signin.sessions"),
        ('return_to = ["/app/"]', "https://api.example", CLIENT, "signin.sessions.return_to: /app/"),
        (
            'return_to = ["http://portal.example/"]',
            "https://api.example",
            CLIENT,
            "signin.sessions.return_to",
        ),
        ('return_to = ["https://portal.example/?a"]', "https://api.example", CLIENT, "return_to"),
        ('return_to = ["https://a@portal.example/"]', "https://api.example", CLIENT, "return_to"),
        ('portal_origins = ["*"]', "https://api.example", CLIENT, "signin.sessions.portal_origins: *"),
        ('portal_origins = ["https://portal.example/"]', "https://api.example", CLIENT, "portal_origins"),
        ('portal_origins = ["null"]', "https://api.example", CLIENT, "portal_origins: null"),
        ("idle_minutes = 1", "https://api.example", CLIENT, "signin.sessions.idle_minutes"),
        ("absolute_hours = 0", "https://api.example", CLIENT, "signin.sessions.absolute_hours"),
        ("most_per_person = 0", "https://api.example", CLIENT, "signin.sessions.most_per_person"),
        ('same_site = "none"', "https://api.example", CLIENT, "signin.sessions.same_site"),
        ('scopes = ["a b"]', "https://api.example", CLIENT, "signin.sessions.scopes"),
        ('cookie = "mine"', "https://api.example", CLIENT, "signin.sessions"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, lines: str, public_url: str, client: str, said: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(tmp_path, lines, public_url, client)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith("gateway.toml: ")
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize("public_url", ["https://api.example", "http://127.0.0.1:8000", "http://[::1]:8000"])
def test_sessions_need_nothing_but_an_address_and_a_client(tmp_path: Path, public_url: str) -> None:
    assert read(tmp_path, public_url=public_url) == SessionSettings()


def test_a_file_without_the_table_has_no_sessions(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE.replace("[signin.sessions]\n", "").format(public_url="", client="", lines=""))
    assert load(path, {}).signin.sessions is None


@pytest.mark.parametrize(
    "address",
    [
        "javascript://127.0.0.1/%0Aalert(1)",
        "http://127.0.0.1@evil.example/",
        "http://localhost.evil.example/",
        "http://evil.example/#127.0.0.1",
        "//127.0.0.1",
        "http://[::1",
        "",
    ],
)
def test_what_only_looks_like_this_machine_is_not(address: str) -> None:
    assert not is_loopback(address)
